//! What is counted in the database for gauges. Every figure stops at a million, and counting takes no more than a
//! hundredth of the time: what took long is counted less often.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{SharedString, gauge};
use tokio::time::Instant;

use crate::ground::{Ground, queue_label};
use crate::moment::Moment;
use crate::policy::Acknowledge;
use crate::schedule::Input;
use crate::store::{QueueRecord, StoreError};

/// The shortest pause between two counts.
const EVERY: Duration = Duration::from_secs(10);
/// The pause is so many times as long as the count before it.
const PAUSES: u32 = 100;
/// No figure is higher.
const MOST: i64 = 1_000_000;
/// The classes of a queue, in their order.
const CLASSES: [&str; 3] = ["manual", "event", "recurring"];
const STATES: [&str; 4] = ["queued", "waiting", "dispatched", "running"];

/// When to count again.
#[derive(Debug)]
pub(super) struct Gauges {
    next: Instant,
}

impl Gauges {
    pub(super) fn new() -> Gauges {
        Gauges {
            next: Instant::now(),
        }
    }

    /// Counts, where it is time to. `keeps`: the bus keeps what nobody has taken, so there is credit to spend.
    pub(super) async fn count(&mut self, ground: &Ground, keeps: bool) -> Result<(), StoreError> {
        let begun = Instant::now();
        if begun < self.next {
            return Ok(());
        }
        let counted = count(ground, keeps).await;
        let took = begun.elapsed();
        self.next = Instant::now() + (took * PAUSES).max(EVERY);
        counted
    }
}

#[allow(clippy::cast_precision_loss)] // gauges are floats
async fn count(ground: &Ground, keeps: bool) -> Result<(), StoreError> {
    let now = ground.clock.now();
    let behind = ground.store.left_behind(MOST).await?;
    gauge!("muster_dead_letters").set(behind.letters as f64);
    let age = behind.oldest.map_or(0, |oldest| now.since(oldest).micros());
    gauge!("muster_dead_letters_oldest_age_seconds").set(age as f64 / 1e6);
    gauge!("muster_dead_tasks").set(behind.tasks as f64);
    gauge!("muster_runs_expanding").set(ground.store.count_expanding(MOST).await? as f64);
    let catalogue = ground.catalogue();
    let types_of = |id: &str| match catalogue
        .scheduled(id)
        .map(|known| known.schedule.input.clone())
    {
        Some(Input::Selected(selections)) => selections.into_keys().collect(),
        _ => Vec::new(),
    };
    let left = ground.store.inputs_left(types_of, MOST).await?;
    gauge!("muster_expansion_inputs_left").set(left as f64);

    let lanes = catalogue.lanes();
    let names: Vec<&str> = lanes.keys().map(String::as_str).collect();
    let records = ground
        .store
        .depths(&names, CLASSES.len() as i64, MOST)
        .await?;
    let mut labelled: BTreeMap<SharedString, Lane> = BTreeMap::new();
    for record in &records {
        let worker = lanes.get(&record.name);
        let until_end = worker.is_some_and(|worker| worker.acknowledge == Acknowledge::Publish);
        let credit = worker.map_or(0, |worker| i64::from(worker.credit));
        labelled
            .entry(queue_label(&catalogue, &record.name))
            .or_default()
            .add(record, until_end, if keeps { credit } else { 0 }, now);
    }
    for (queue, lane) in labelled {
        for (state, many) in STATES.into_iter().zip(lane.states) {
            gauge!("muster_queue_tasks", "queue" => queue.clone(), "state" => state)
                .set(many as f64);
        }
        for (class, (many, age)) in CLASSES.into_iter().zip(lane.classes) {
            gauge!("muster_queue_waiting_tasks", "queue" => queue.clone(), "class" => class)
                .set(many as f64);
            gauge!("muster_queue_oldest_age_seconds", "queue" => queue.clone(), "class" => class)
                .set(age as f64 / 1e6);
        }
        gauge!("muster_queue_credit", "queue" => queue.clone()).set(lane.credit as f64);
        gauge!("muster_queue_credit_used", "queue" => queue).set(lane.spent as f64);
    }
    Ok(())
}

/// What one label of a queue shows; `other` shows the sum of many.
#[derive(Default)]
struct Lane {
    states: [i64; 4],
    /// How many wait, and the age of the oldest in microseconds.
    classes: [(i64, i64); 3],
    credit: i64,
    spent: i64,
}

impl Lane {
    fn add(&mut self, record: &QueueRecord, until_end: bool, credit: i64, now: Moment) {
        let waiting: i64 = record.waiting.values().map(|depth| depth.many).sum();
        let states = [
            waiting + record.delayed,
            record.sharing,
            record.dispatched,
            record.running,
        ];
        for (sum, many) in self.states.iter_mut().zip(states) {
            *sum += many;
        }
        for (class, (many, age)) in (0..).zip(&mut self.classes) {
            if let Some(depth) = record.waiting.get(&class) {
                *many += depth.many;
                *age = now.since(depth.oldest).micros().max(*age);
            }
        }
        self.credit += credit;
        if credit > 0 {
            self.spent += record.dispatched + if until_end { record.running } else { 0 };
        }
    }
}
