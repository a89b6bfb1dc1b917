//! How much a limit leaves: what is under way counts against its concurrency, and a bucket of tokens against its rate.

use crate::moment::{Moment, Span};
use crate::schedule::Limit;

/// What counts towards a key now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Offered, accepted or not.
    pub under_way: i64,
    /// And of these, what nobody has accepted.
    pub offered: i64,
}

/// The bucket of a rate: it gains a token in each interval, and holds what half a second brings, or one.
///
/// All that has to be kept of it is the instant at which it is full again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    interval: i64,
    holds: i64,
    /// What one second brings, or one: so many offers may wait for somebody to accept them.
    second: i64,
}

const SECOND: i64 = 1_000_000;

pub fn bucket((many, within): (i64, Span)) -> Bucket {
    let interval = (within.micros() / many.max(1)).max(1);
    Bucket {
        interval,
        holds: (SECOND / 2 / interval).max(1),
        second: (SECOND / interval).max(1),
    }
}

impl Bucket {
    /// Tokens in a bucket that is full at `full_at`.
    pub fn tokens(&self, full_at: Moment, now: Moment) -> i64 {
        let missing = full_at.since(now).micros();
        let missing = missing / self.interval + i64::from(missing % self.interval > 0);
        (self.holds - missing).max(0)
    }

    /// When it is full again after `many` were taken from it.
    pub fn taken(&self, full_at: Moment, many: i64, now: Moment) -> Moment {
        full_at
            .max(now)
            .plus(Span::from_micros(self.interval.saturating_mul(many)))
    }

    /// When it has a token, if it has none now.
    pub fn next(&self, full_at: Moment, now: Moment) -> Option<Moment> {
        let spare = Span::from_micros(self.interval.saturating_mul(self.holds - 1));
        (self.tokens(full_at, now) == 0).then(|| full_at.minus(spare))
    }
}

/// How many more may go under a limit; `full_at` is that of its rate.
pub fn left(limit: &Limit, used: Used, full_at: Moment, now: Moment) -> i64 {
    let concurrent = limit.concurrency.map(|most| most - used.under_way);
    let paced = limit.rate.map(|rate| {
        let bucket = bucket(rate);
        (bucket.second - used.offered).min(bucket.tokens(full_at, now))
    });
    let least = concurrent.into_iter().chain(paced).min();
    least.unwrap_or(i64::MAX).max(0)
}
