//! What the tests share.

pub mod broker;
pub mod compare;
pub mod load;
pub mod model;
pub mod peers;
pub mod process;
pub mod proxy;
pub mod servers;
pub mod work;
