//! How far behind those are who read: the age of the oldest of what was taken and is not yet stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::gauge;

use crate::moment::{Moment, Span};
use crate::tally::CONSUMERS;

/// By consumer, as its queue is called.
#[derive(Debug, Default)]
pub struct Lags(Mutex<BTreeMap<String, Behind>>);

#[derive(Debug, Default)]
struct Behind {
    begun: u64,
    /// Since when what is under way waits.
    under_way: BTreeMap<u64, Moment>,
    /// The longest that anything had waited when it was done, since it was last shown.
    longest: Span,
}

/// Something that was taken.
#[derive(Debug)]
pub struct Taken {
    consumer: String,
    number: u64,
}

impl Lags {
    pub fn of<'a>(consumers: impl Iterator<Item = &'a str>) -> Lags {
        let behind = consumers.map(|name| (name.to_owned(), Behind::default()));
        Lags(Mutex::new(behind.collect()))
    }

    /// A consumer has taken something that waits since then.
    pub fn begin(&self, consumer: &str, since: Moment) -> Taken {
        let mut lags = self.lock();
        let behind = lags.entry(consumer.to_owned()).or_default();
        behind.begun += 1;
        behind.under_way.insert(behind.begun, since);
        Taken {
            consumer: consumer.to_owned(),
            number: behind.begun,
        }
    }

    /// It is stored, or was given back.
    pub fn end(&self, taken: &Taken, now: Moment) {
        let mut lags = self.lock();
        if let Some(behind) = lags.get_mut(&taken.consumer)
            && let Some(since) = behind.under_way.remove(&taken.number)
        {
            behind.longest = behind.longest.max(now.since(since));
        }
    }

    /// Sets the gauges: the longest since the last time. Who has nothing to do is not behind.
    #[allow(clippy::cast_precision_loss)] // a gauge is a float
    pub fn show(&self, now: Moment) {
        for (consumer, behind) in self.lock().iter_mut() {
            let done = std::mem::take(&mut behind.longest);
            let oldest = behind.under_way.values().min();
            let lag = oldest.map_or(done, |since| done.max(now.since(*since)));
            gauge!("muster_consumer_lag_seconds", "consumer" => CONSUMERS.label(consumer))
                .set(lag.micros().max(0) as f64 / 1e6);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Behind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
