//! How urgent a task is among those of its class and its priority: the lower the number, the sooner.
//!
//! A strategy is a file with one function over [`Ranked`], and a word in [`Rank`]. The number is stored with the task
//! when it is made, and never overwritten.

mod age;
mod deadline;
mod fifo;

use crate::moment::Moment;
use crate::policy::Rank;

/// What a strategy may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    pub created_at: Moment,
    /// When the grace after the last executed task of the same key ended; `None`: there was none.
    pub grace_ended: Option<Moment>,
    /// When nobody wants the task any more.
    pub expires_at: Moment,
    /// The level of its input.
    pub scan_level: Option<u8>,
}

pub fn rank(strategy: Rank, task: &Ranked) -> i64 {
    match strategy {
        Rank::Fifo => fifo::rank(task),
        Rank::Age => age::rank(task),
        Rank::Deadline => deadline::rank(task),
    }
}
