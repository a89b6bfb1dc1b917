//! The reference worker: takes tasks from the bus, runs a script or a command for each, and reports.
//!
//! A task is accepted before it is run, and its message is acknowledged when the acceptance is confirmed; from then on
//! the clocks of the service watch over it. A worker whose hands are full takes nothing, because a decline costs the
//! task a pause, and a message that stays in the queue costs nothing. What must not run twice here is known by task and
//! attempt.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::bus::{Bus, Delivery, Source, Verdict};
use crate::moment::Moment;
use crate::signature::Keys;
use crate::task::{Ending, StatusWord};
use crate::trace;
use crate::wire::{self, Assignment};
pub use craft::{Craft, PATH, Template, words};
use errand::Errand;
use execution::Order;
use report::{Reporter, Untold};
pub use shelf::Shelf;

mod craft;
mod errand;
mod execution;
mod log;
mod report;
mod shelf;

/// How many ended attempts are remembered, in case the broker brings them again.
const REMEMBERED: usize = 10_000;
/// After the processes have ended, so long may the last words take when the worker ends.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What a worker has to work with.
pub struct Tools {
    /// What it is called; `avoid_workers` knows it by this.
    pub name: String,
    /// Tasks that run side by side, at most.
    pub hands: usize,
    /// With lines: the only worker types that are taken; empty for all.
    pub types: Vec<String>,
    pub craft: Craft,
    /// Without one logs stay here.
    pub shelf: Option<Shelf>,
    /// Where the private folders of tasks are made.
    pub scratch: PathBuf,
    /// What every process finds in its environment, besides what a task brings.
    pub environment: BTreeMap<String, String>,
    /// What a process finds in its environment where its task asks for it.
    pub secrets: BTreeMap<String, String>,
    /// From the request to end until the end.
    pub grace: Duration,
    /// How many bytes of a log are kept.
    pub log_bound: usize,
    /// What signs its statuses, and with which key.
    pub signs: Option<(Keys, String)>,
}

/// An attempt of a task.
type Key = (String, i64);

/// A task in our hands.
struct Held<R> {
    orders: watch::Sender<Option<Order>>,
    receipts: Receipts<R>,
}

/// The messages of one attempt, until its acceptance is confirmed; then there is nothing to keep.
type Receipts<R> = Arc<Mutex<Option<Vec<R>>>>;

/// Everything that the tasks share.
struct Ground<B> {
    tools: Tools,
    reporter: Reporter<B>,
}

/// How a worker ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// What could not be told; with lines, that the output is closed.
    pub trouble: Option<String>,
    /// Attempts of which the end could not be told.
    pub untold: usize,
}

/// Takes tasks until it is told to stop, or the input has ended; then ends what runs, in order.
///
/// `stop`: ask what runs to end, and hand it back. `halt`: kill it, at once. `once`: the bus is a pipe.
pub async fn run<B: Bus>(
    tools: Tools,
    bus: Arc<B>,
    once: bool,
    stop: CancellationToken,
    halt: CancellationToken,
) -> Ended {
    let grace = tools.grace;
    let ground = Arc::new(Ground {
        reporter: Reporter::of(
            Arc::clone(&bus),
            tools.name.clone(),
            once,
            tools.signs.clone(),
        ),
        tools,
    });
    let mut hands = Hands {
        ground,
        bus: Arc::clone(&bus),
        held: HashMap::new(),
        running: JoinSet::new(),
        ended: VecDeque::new(),
        outcome: Ended::default(),
    };
    let input_ended = loop {
        bus.take_tasks(hands.free());
        tokio::select! {
            biased;
            () = halt.cancelled() => return hands.drop_all().await,
            () = stop.cancelled() => break false,
            Some(done) = hands.running.join_next() => {
                if let Err(Untold(why)) = hands.put_down(done) {
                    // Nobody hears us any more.
                    hands.outcome.trouble = Some(why);
                    break false;
                }
            }
            delivery = bus.next() => match delivery {
                None => break true,
                Some(delivery) => hands.take(delivery).await,
            },
        }
    };
    bus.stop().await;
    let rest = async {
        if input_ended {
            tokio::select! {
                () = hands.finish() => return,
                () = stop.cancelled() => {}
            }
        }
        hands.hand_back();
        if tokio::time::timeout(grace + LAST_WORDS, hands.finish())
            .await
            .is_err()
        {
            hands.outcome.untold = hands.held.len();
            for (task, attempt) in hands.held.keys() {
                tracing::error!(
                    task,
                    attempt,
                    "the end of this attempt could not be told; the clocks of the service find it"
                );
            }
        }
    };
    let halted = tokio::select! {
        biased;
        () = halt.cancelled() => true,
        () = rest => false,
    };
    let outcome = hands.drop_all().await;
    if !halted {
        bus.close().await;
    }
    outcome
}

/// The tasks of a worker.
struct Hands<B: Bus> {
    ground: Arc<Ground<B>>,
    bus: Arc<B>,
    held: HashMap<Key, Held<B::Receipt>>,
    running: JoinSet<(Key, Result<(), Untold>)>,
    /// The last that ended, oldest first.
    ended: VecDeque<Key>,
    outcome: Ended,
}

impl<B: Bus> Hands<B> {
    fn free(&self) -> bool {
        self.running.len() < self.ground.tools.hands
    }

    async fn take(&mut self, delivery: Delivery<B::Receipt>) {
        match delivery.source {
            Source::Tasks => {
                if let Some((receipt, verdict)) = self.take_task(delivery) {
                    self.bus.settle(vec![(receipt, verdict)]).await;
                }
            }
            Source::Control => {
                self.hear(&delivery.body);
                self.bus
                    .settle(vec![(delivery.receipt, Verdict::Done)])
                    .await;
            }
            // A worker reads nothing else.
            _ => {}
        }
    }

    /// Begins a task, or says what becomes of its message.
    fn take_task(&mut self, delivery: Delivery<B::Receipt>) -> Option<(B::Receipt, Verdict)> {
        let Delivery { body, receipt, .. } = delivery;
        let task = match wire::read_task(&body) {
            Ok(task) => task,
            Err(why) => {
                tracing::error!(%why, "this message is refused: no task can be read from it");
                let Some(key) = wire::task_of(&body) else {
                    return Some((receipt, Verdict::Done));
                };
                let (reporter, (id, attempt)) = (Arc::clone(&self.ground), key.clone());
                let word = StatusWord::Failed {
                    retryable: false,
                    ending: Ending {
                        message: Some(format!("the task message cannot be read: {why}")),
                        ..Ending::default()
                    },
                };
                self.running.spawn(async move {
                    (
                        key,
                        reporter.reporter.tell((&id, attempt), None, word).await,
                    )
                });
                return Some((receipt, Verdict::Done));
            }
        };
        let key = (task.id.clone(), task.attempt);
        let tools = &self.ground.tools;
        if let Some(held) = self.held.get(&key) {
            tracing::info!(
                task = key.0,
                attempt = key.1,
                "brought again, and in our hands already"
            );
            return match &mut *lock(&held.receipts) {
                Some(receipts) => {
                    receipts.push(receipt);
                    None
                }
                None => Some((receipt, Verdict::Done)),
            };
        }
        if self.ended.contains(&key) {
            tracing::info!(task = key.0, attempt = key.1, "brought again after its end");
            return Some((receipt, Verdict::Done));
        }
        if !tools.types.is_empty() && !tools.types.contains(&task.worker_type) {
            tracing::debug!(task = key.0, worker_type = task.worker_type, "for others");
            return Some((receipt, Verdict::Done));
        }
        if task.expires_at.is_some_and(|until| until <= Moment::now()) {
            tracing::info!(
                task = key.0,
                attempt = key.1,
                "dropped: this offer has expired"
            );
            return Some((receipt, Verdict::Done));
        }
        if !self.free() {
            return Some((receipt, Verdict::Again));
        }
        self.drop_older(&task);
        let (orders, ours) = watch::channel(None);
        let receipts = Arc::new(Mutex::new(Some(vec![receipt])));
        self.held.insert(
            key.clone(),
            Held {
                orders,
                receipts: Arc::clone(&receipts),
            },
        );
        let errand = Errand {
            ground: Arc::clone(&self.ground),
            task,
            body,
            receipts,
        };
        let trace = errand.task.traceparent.as_deref().map(trace::trace_id);
        let attempt = tracing::info_span!("attempt", trace);
        self.running
            .spawn(async move { (key, errand.run(ours).await) }.instrument(attempt));
        None
    }

    /// Who offers a task again has given the older attempt up.
    fn drop_older(&self, task: &Assignment) {
        for ((id, attempt), held) in &self.held {
            if *id == task.id && *attempt < task.attempt {
                give(
                    &held.orders,
                    Order::Cancel("a newer attempt was offered".to_owned()),
                );
            }
        }
    }

    /// What all workers are told.
    fn hear(&self, body: &[u8]) {
        let cancel = match wire::read_cancel(body) {
            Ok(cancel) => cancel,
            Err(why) => return tracing::warn!(%why, "what all workers are told cannot be read"),
        };
        let us = cancel
            .worker
            .as_ref()
            .is_none_or(|worker| *worker == self.ground.tools.name);
        for ((id, attempt), held) in &self.held {
            let meant = *id == cancel.task_id && cancel.attempt.is_none_or(|said| said == *attempt);
            if us && meant {
                tracing::info!(task = id, attempt, "cancelled");
                give(
                    &held.orders,
                    Order::Cancel("cancelled on request".to_owned()),
                );
            }
        }
    }

    fn hand_back(&self) {
        for held in self.held.values() {
            give(&held.orders, Order::HandBack);
        }
    }

    /// A task has ended, and that was told.
    fn put_down(
        &mut self,
        done: Result<(Key, Result<(), Untold>), tokio::task::JoinError>,
    ) -> Result<(), Untold> {
        let (key, told) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "a task ended unexpectedly");
                return Ok(());
            }
        };
        self.held.remove(&key);
        if let Err(Untold(why)) = &told {
            tracing::error!(
                task = key.0,
                attempt = key.1,
                why,
                "the end of this attempt was not told"
            );
            if self.ground.reporter.once {
                return told;
            }
        }
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(key);
        Ok(())
    }

    /// Whatever still runs is killed; nothing is told.
    async fn drop_all(mut self) -> Ended {
        self.running.shutdown().await;
        self.outcome
    }

    /// Waits for all that runs.
    async fn finish(&mut self) {
        while let Some(done) = self.running.join_next().await {
            if let Err(Untold(why)) = self.put_down(done) {
                self.outcome.trouble.get_or_insert(why);
            }
        }
    }
}

/// The first order counts.
fn give(orders: &watch::Sender<Option<Order>>, order: Order) {
    orders.send_if_modified(|given| {
        let first = given.is_none();
        if first {
            *given = Some(order);
        }
        first
    });
}

/// A panic of another thread does not spoil what a mutex guards here: single assignments.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
