//! The terminal screen: what the queues, runs, tasks, schedules, dead letters and replicas of a store are at, looked at
//! again and again.
//!
//! [`Screen`] is what is on it: keys change it and say what is to be done ([`Screen::press`]), [`draw()`] draws it, and
//! neither reads anything. What it wants to know ([`Screen::wanted`]) is fetched by a [`Looker`], a page at a time, by the
//! code that answers commands. The command that brings these together with a terminal is in [`cli`](crate::cli).

mod bars;
mod details;
mod draw;
mod keys;
mod look;
mod outcome;
mod screen;
mod tables;
pub mod words;

pub use draw::{SMALLEST, draw, page_of};
pub use look::Looker;
pub use outcome::outcome;
pub use screen::{Change, Effect, Look, Screen, Tab, Terms, Wanted};
