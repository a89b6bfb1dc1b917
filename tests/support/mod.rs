//! What the tests share.

pub mod broker;
pub mod load;
pub mod model;
pub mod process;
pub mod servers;
