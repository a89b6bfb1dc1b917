//! What lies at the broker and was given to nobody: how much is still to come, beside how old it is.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{SharedString, gauge};
use tokio::time::timeout;

use crate::bus::Bus;
use crate::ground::Ground;
use crate::tally::CONSUMERS;

/// How often it asks.
const EVERY: Duration = Duration::from_secs(5);
/// A broker that needs longer tells it the next time.
const ANSWER: Duration = Duration::from_secs(5);

/// Ends when it is told to stop. A broker that does not answer holds up nothing else.
pub(super) async fn run<B: Bus>(ground: &Ground, bus: &B) {
    let mut told = String::new();
    loop {
        if bus.condition().connected {
            let asked = timeout(ANSWER, bus.waiting()).await;
            match asked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                Ok(waiting) => {
                    show(&waiting);
                    told.clear();
                }
                Err(why) if told == why => {}
                Err(why) => {
                    tracing::warn!("the broker does not tell what waits there: {why}");
                    told = why;
                }
            }
        }
        tokio::select! {
            biased;
            () = ground.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[allow(clippy::cast_precision_loss)] // a gauge is a float
fn show(waiting: &[(String, u64)]) {
    let mut labelled: BTreeMap<SharedString, u64> = BTreeMap::new();
    for (queue, many) in waiting {
        *labelled.entry(CONSUMERS.label(queue)).or_default() += many;
    }
    for (consumer, many) in labelled {
        gauge!("muster_consumer_waiting_messages", "consumer" => consumer).set(many as f64);
    }
}
