//! How far something has come that takes many steps, for whoever waits for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Errand {
    done: AtomicU64,
    all: AtomicU64,
}

impl Errand {
    /// It begins, with so many steps.
    pub fn of(&self, steps: usize) {
        self.done.store(0, Relaxed);
        self.all.store(u64::try_from(steps).unwrap_or(0), Relaxed);
    }

    /// One more is done.
    pub fn step(&self) {
        self.done.fetch_add(1, Relaxed);
    }

    /// How many are done, of how many; of none where nobody knows.
    pub fn far(&self) -> (u64, u64) {
        let all = self.all.load(Relaxed);
        (self.done.load(Relaxed).min(all), all)
    }
}
