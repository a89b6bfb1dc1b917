//! Counting by names that people give, so that no set of labels grows without end; and counting what ended, once that
//! is stored.
//!
//! Labels with closed lists (states, reasons, outcomes) need nothing of this. A label that follows what settings and
//! declarations name goes through a [`Bounded`]: the first hundred names of a process, and `other`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{SharedString, counter};

/// Names of schedules; those of all organisations share it.
pub static SCHEDULES: Bounded = Bounded::new();
/// Types of workers.
pub static WORKER_TYPES: Bounded = Bounded::new();
/// Queues of tasks.
pub static QUEUES: Bounded = Bounded::new();
/// Queues that are read.
pub static CONSUMERS: Bounded = Bounded::new();

/// Lets the first hundred values of a label through; those that come later are `other`. Labels that follow what people
/// and events name would else grow without end.
#[derive(Debug)]
pub struct Bounded {
    limit: usize,
    seen: RwLock<BTreeSet<Arc<str>>>,
}

impl Bounded {
    pub const LIMIT: usize = 100;
    pub const OTHER: &'static str = "other";

    pub const fn new() -> Bounded {
        Bounded {
            limit: Self::LIMIT,
            seen: RwLock::new(BTreeSet::new()),
        }
    }

    /// The value itself, or `other`.
    pub fn label(&self, value: &str) -> SharedString {
        let known = {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            match seen.get(value) {
                Some(known) => Some(Arc::clone(known)),
                None if seen.len() >= self.limit => return SharedString::const_str(Self::OTHER),
                None => None,
            }
        };
        if let Some(known) = known {
            return known.into();
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        // Others may have taken the last places meanwhile.
        if let Some(known) = seen.get(value) {
            return Arc::clone(known).into();
        }
        if seen.len() >= self.limit {
            return SharedString::const_str(Self::OTHER);
        }
        let new: Arc<str> = value.into();
        seen.insert(Arc::clone(&new));
        new.into()
    }
}

impl Default for Bounded {
    fn default() -> Bounded {
        Bounded::new()
    }
}

/// What a transaction ended.
#[derive(Debug, Default)]
struct Ends {
    /// By schedule and state.
    runs: BTreeMap<(String, &'static str), u64>,
    /// By worker type and outcome.
    attempts: BTreeMap<(String, &'static str), u64>,
}

impl Ends {
    fn count(self) {
        for ((schedule, state), many) in self.runs {
            counter!(
                "muster_runs_ended_total",
                "schedule" => SCHEDULES.label(&schedule), "state" => state
            )
            .increment(many);
        }
        for ((worker_type, outcome), many) in self.attempts {
            counter!(
                "muster_attempts_ended_total",
                "worker_type" => WORKER_TYPES.label(&worker_type), "outcome" => outcome
            )
            .increment(many);
        }
    }
}

tokio::task_local! {
    /// Of the transaction that this task is in.
    static ENDS: RefCell<Ends>;
}

/// Does the work of a transaction, and counts what it noted once it is done. What fails has ended nothing.
pub async fn counted<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let (done, ends) = ENDS
        .scope(RefCell::default(), async {
            let done = work.await;
            (done, ENDS.with(RefCell::take))
        })
        .await;
    if done.is_ok() {
        ends.count();
    }
    done
}

/// The transaction is rolled back, and that is no failure.
pub fn undone() {
    // Without a transaction around it nothing was noted.
    let _ = ENDS.try_with(RefCell::take);
}

fn note(add: impl Fn(&mut Ends)) {
    let noted = ENDS.try_with(|ends| add(&mut ends.borrow_mut()));
    if noted.is_err() {
        let mut ends = Ends::default();
        add(&mut ends);
        ends.count();
    }
}

/// A run of a schedule ended so.
pub fn run_ended(schedule: &str, state: &'static str) {
    note(|ends| *ends.runs.entry((schedule.to_owned(), state)).or_default() += 1);
}

/// An attempt of a task for such workers ended.
pub fn attempt_ended(worker_type: &str, outcome: &'static str) {
    note(|ends| {
        *ends
            .attempts
            .entry((worker_type.to_owned(), outcome))
            .or_default() += 1;
    });
}
