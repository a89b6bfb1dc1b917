//! Loop: a batch of deliveries becomes one transaction, then one settlement.
//!
//! Read, decide, commit, settle: in that order, always. What cannot be read becomes a dead letter; what the store
//! refuses is found by halving the batch, so that one message never fails the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde_json::{Map, Value};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::bus::{Address, Bus, Delivery, Letter, Source, Verdict, names};
use crate::command::Command;
use crate::ground::{Ground, Taken, persist};
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::store::StoreError;
use crate::task::Status;
use crate::wire::{self, Line, Refused, Requested};

mod batch;
mod beyond;
mod explain;
mod import;

use batch::Opened;
pub use batch::{Handled, Incoming, handle};
pub use explain::{Explained, explain};
pub use import::{Imported, import};

/// How much is taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    pub count: usize,
    pub linger: Duration,
}

/// What a delivery is to this loop.
enum Sorted {
    Message,
    Command,
    Clock(Moment),
}

/// What is answered to somebody who asks.
type Answer = Result<Value, Refused>;

/// The loop. `tick` is called when a line of input has set the clock, and returns when all that is due is decided;
/// `answer` does what people ask, and is told who they are.
pub async fn run<B: Bus>(
    ground: Arc<Ground>,
    bus: Arc<B>,
    size: BatchSize,
    lines: bool,
    tick: impl AsyncFn(),
    answer: impl AsyncFn(&Requested, &str) -> Result<Answer, StoreError>,
) -> Result<(), StoreError> {
    let mut hands = Hands::new(&ground, &bus, lines);
    let mut open = true;
    while open {
        ground.beat("intake");
        let mut batch: Vec<Incoming> = Vec::new();
        let mut receipts: Vec<B::Receipt> = Vec::new();
        let mut clock = None;
        let mut command = None;
        let mut deadline = Instant::now() + Duration::from_secs(1);
        while batch.len() < size.count && clock.is_none() && command.is_none() {
            let delivery = tokio::select! {
                biased;
                () = ground.stop.cancelled() => { open = false; break }
                next = tokio::time::timeout_at(deadline, bus.next()) => next,
            };
            match delivery {
                Err(_) => break,
                Ok(None) => {
                    open = false;
                    break;
                }
                Ok(Some(delivery)) => {
                    if batch.is_empty() {
                        deadline = Instant::now() + size.linger;
                    }
                    match sort(&delivery, lines) {
                        Sorted::Clock(now) => {
                            clock = Some(now);
                            receipts.push(delivery.receipt);
                        }
                        Sorted::Command => {
                            // With lines there is one place for answers.
                            let reply_to = delivery.reply_to.or_else(|| lines.then(String::new));
                            let asking = Asking {
                                reply_to,
                                message_id: delivery.message_id,
                                correlation_id: delivery.correlation_id,
                                headers: delivery.headers,
                                body: delivery.body,
                            };
                            command = Some((asking, delivery.receipt));
                        }
                        Sorted::Message => {
                            let (incoming, receipt) = incoming(&ground, delivery, lines);
                            batch.push(incoming);
                            receipts.push(receipt);
                        }
                    }
                }
            }
        }
        let taken = async {
            hands.take(batch, receipts).await?;
            if clock.is_some() || command.is_some() || !open {
                hands.rest().await?;
            }
            if let Some((asking, receipt)) = command {
                // What came before it is stored, so that it can ask about that.
                let taken = [ground.lags.begin(names::COMMANDS, ground.clock.now())];
                let done = obey(&ground, bus.as_ref(), &asking, &answer).await;
                over(&ground, &taken);
                let verdict = if done.is_ok() {
                    Verdict::Done
                } else {
                    Verdict::Again
                };
                settle(bus.as_ref(), vec![receipt], verdict).await;
                done?;
            }
            Ok::<(), StoreError>(())
        };
        match taken.await {
            Err(error) if ground.stop.is_cancelled() && error.passing() => return Ok(()),
            taken => taken?,
        }
        if let Some(now) = clock {
            // What came before belongs to the clock as it was, its expansions too; then the clock moves.
            tick().await;
            ground.clock.fix(now);
            tick().await;
        }
    }
    Ok(())
}

/// So many batches are on their way at once: while one is stored, the next is collected, read and decided.
const AT_ONCE: usize = 2;

/// The batches that are on their way. No two of them tell of the same object, so none overtakes another where their
/// order counts; a batch that speaks of tasks is alone.
struct Hands<B: Bus> {
    ground: Arc<Ground>,
    bus: Arc<B>,
    most: usize,
    begun: u64,
    working: JoinSet<(u64, Result<(), StoreError>)>,
    /// What each of them tells of; `None`: it is to be alone.
    objects: HashMap<u64, Option<HashSet<ObjectKey>>>,
}

impl<B: Bus> Hands<B> {
    fn new(ground: &Arc<Ground>, bus: &Arc<B>, lines: bool) -> Hands<B> {
        // Lines come out in the same order each time.
        let alone = lines || ground.store.one_writer();
        Hands {
            ground: ground.clone(),
            bus: bus.clone(),
            most: if alone { 1 } else { AT_ONCE },
            begun: 0,
            working: JoinSet::new(),
            objects: HashMap::new(),
        }
    }

    /// Begins with a batch as soon as nothing is in its way. An error is that of any batch, and then none is under way.
    async fn take(
        &mut self,
        batch: Vec<Incoming>,
        receipts: Vec<B::Receipt>,
    ) -> Result<(), StoreError> {
        while let Some(ended) = self.working.try_join_next() {
            self.ended(ended).await?;
        }
        if batch.is_empty() {
            settle(self.bus.as_ref(), receipts, Verdict::Done).await;
            return Ok(());
        }
        let opened = batch::open(&self.ground, &batch);
        let waits = opened.waits(&batch, self.ground.clock.now());
        let lags = &self.ground.lags;
        let taken = waits
            .into_iter()
            .map(|(queue, since)| lags.begin(queue, since));
        let taken: Vec<Taken> = taken.collect();
        let objects = opened.objects();
        while self.working.len() >= self.most || self.in_the_way(objects.as_ref()) {
            if let Err(error) = self.one().await {
                settle(self.bus.as_ref(), receipts, Verdict::Again).await;
                over(&self.ground, &taken);
                return Err(error);
            }
        }
        let (ground, bus) = (self.ground.clone(), self.bus.clone());
        if self.most == 1 {
            let stored = store(&ground, bus.as_ref(), batch, opened, receipts).await;
            over(&ground, &taken);
            return stored;
        }
        self.begun += 1;
        let number = self.begun;
        self.objects.insert(number, objects);
        self.working.spawn(async move {
            let stored = store(&ground, bus.as_ref(), batch, opened, receipts).await;
            over(&ground, &taken);
            (number, stored)
        });
        Ok(())
    }

    fn in_the_way(&self, objects: Option<&HashSet<ObjectKey>>) -> bool {
        self.objects.values().any(|busy| match (busy, objects) {
            (Some(busy), Some(objects)) => !busy.is_disjoint(objects),
            _ => true,
        })
    }

    /// Waits until all that was begun is done.
    async fn rest(&mut self) -> Result<(), StoreError> {
        while !self.working.is_empty() {
            self.one().await?;
        }
        Ok(())
    }

    /// Waits until one batch is done.
    async fn one(&mut self) -> Result<(), StoreError> {
        match self.working.join_next().await {
            Some(ended) => self.ended(ended).await,
            None => Ok(()),
        }
    }

    /// Where one has failed, the others are finished first.
    async fn ended(&mut self, ended: Ended) -> Result<(), StoreError> {
        let mut ended = Some(ended);
        let mut failed = None;
        while let Some(next) = ended {
            let handled = match next {
                Ok((number, handled)) => {
                    self.objects.remove(&number);
                    handled
                }
                Err(error) => Err(StoreError::Unusable(format!(
                    "a batch ended unexpectedly: {error}"
                ))),
            };
            failed = failed.or(handled.err());
            ended = match failed {
                None => None,
                Some(_) => self.working.join_next().await,
            };
        }
        failed.map_or(Ok(()), Err)
    }
}

type Ended = Result<(u64, Result<(), StoreError>), JoinError>;

/// What was taken waits no more.
fn over(ground: &Ground, taken: &[Taken]) {
    let now = ground.clock.now();
    for one in taken {
        ground.lags.end(one, now);
    }
}

/// Loop: shows each second how far behind those are who read, also while the store is away and all else waits for it.
pub async fn watch(ground: Arc<Ground>) -> Result<(), StoreError> {
    loop {
        ground.lags.show(ground.clock.now());
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = ground.stop.cancelled() => {
                ground.lags.show(ground.clock.now());
                return Ok(());
            }
        }
    }
}

/// Stores a batch, and then settles it.
async fn store<B: Bus>(
    ground: &Ground,
    bus: &B,
    batch: Vec<Incoming>,
    opened: Opened,
    receipts: Vec<B::Receipt>,
) -> Result<(), StoreError> {
    match batch::store(ground, &batch, opened).await {
        Ok(handled) => {
            tell_workers(bus, &handled.cancels).await;
            settle(bus, receipts, Verdict::Done).await;
            Ok(())
        }
        Err(error) => {
            // What is not known to be stored the broker delivers again, to us or to another replica.
            settle(bus, receipts, Verdict::Again).await;
            Err(error)
        }
    }
}

async fn settle<B: Bus>(bus: &B, receipts: Vec<B::Receipt>, verdict: Verdict) {
    if !receipts.is_empty() {
        let settled = receipts.into_iter().map(|receipt| (receipt, verdict));
        bus.settle(settled.collect()).await;
    }
}

fn sort<R>(delivery: &Delivery<R>, lines: bool) -> Sorted {
    if delivery.source == Source::Commands {
        return Sorted::Command;
    }
    if lines
        && matches!(delivery.source, Source::Events(_))
        && let Ok(Line::Clock(now)) = wire::read_line(&delivery.body)
    {
        return Sorted::Clock(now);
    }
    Sorted::Message
}

fn incoming<R>(ground: &Ground, delivery: Delivery<R>, line: bool) -> (Incoming, R) {
    let (intake, status) = match delivery.source {
        Source::Events(intake) => (intake, false),
        _ => (0, true),
    };
    let queue = match (status, ground.intakes.get(intake)) {
        (false, Some(rule)) => rule.queue.clone(),
        _ => names::STATUS.to_owned(),
    };
    let incoming = Incoming {
        intake,
        queue,
        routing_key: delivery.routing_key,
        content_type: delivery.content_type,
        message_id: delivery.message_id,
        headers: delivery.headers,
        body: delivery.body,
        status,
        line,
    };
    (incoming, delivery.receipt)
}

/// Does what a delivery asks, and publishes the answer.
async fn obey<B: Bus>(
    ground: &Ground,
    bus: &B,
    delivery: &Asking,
    answer: &impl AsyncFn(&Requested, &str) -> Result<Answer, StoreError>,
) -> Result<(), StoreError> {
    let keys = &ground.rules.keys;
    // Who speaks is asked before what is said.
    let speaker = keys.speaker(&delivery.headers, &delivery.body);
    let (requested, read) = match wire::read_request(&delivery.body) {
        Ok(requested) => (requested, Ok(())),
        Err((id, refused)) => {
            let unread = Requested {
                id,
                ..Requested::default()
            };
            (unread, Err(refused))
        }
    };
    // An empty one is that of lines.
    let reply_to = delivery.reply_to.as_deref();
    let reply_to = reply_to.filter(|to| to.is_empty() || may_be_told(ground, to));
    let may = match (&speaker, read) {
        _ if reply_to.is_none() && delivery.reply_to.is_some() => Err(Refused::new(
            "wrong_reply_to",
            "a reply cannot go to what muster or the broker read themselves",
            "",
        )),
        (Err(message), _) => Err(Refused::new("unsigned", message, "")),
        (Ok(_), Err(refused)) => Err(refused),
        (Ok(speaker), Ok(())) => speaker
            .speaks_for(requested.organization.as_deref())
            .map_err(|message| Refused::new("not_permitted", message, "")),
    };
    let key = speaker
        .ok()
        .and_then(|speaker| speaker.key().map(str::to_owned));
    let who = key.map_or_else(|| "bus".to_owned(), |key| format!("key {key}"));
    let answer = match may {
        Err(refused) => Err(refused),
        Ok(()) => match persist!(ground, "answer", answer(&requested, &who)) {
            Ok(answer) => answer,
            Err(StoreError::Statement(error)) => {
                tracing::error!("the store refuses a command: {error}");
                let said = "the store refused it; the log says more";
                Err(Refused::new("store_refused", said, ""))
            }
            Err(error) => return Err(error),
        },
    };
    let code = answer.as_ref().err().map_or("ok", |_| "refused");
    counter!("muster_commands_total", "outcome" => code).increment(1);
    record(&who, &requested, &answer);
    if let Some(reply_to) = reply_to {
        let letter = Letter {
            address: Address::Reply(reply_to.to_owned()),
            message_id: delivery.message_id.clone().unwrap_or_default(),
            correlation_id: delivery.correlation_id.clone(),
            content_type: "application/json",
            headers: Vec::new(),
            priority: 0,
            expires_in_ms: None,
            body: wire::reply(requested.id.as_deref(), &answer).into_bytes(),
        };
        bus.publish(vec![letter]).await;
    }
    Ok(())
}

/// A command, apart from its receipt.
struct Asking {
    reply_to: Option<String>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Whether a reply may go there.
fn may_be_told(ground: &Ground, to: &str) -> bool {
    let rules = &ground.rules;
    let intake = ground.intakes.iter().any(|intake| intake.queue == to);
    let of_workers = || {
        let mut queues = rules.workers.values().flat_map(|worker| worker.queues());
        queues.any(|queue| queue == to)
    };
    names::takes_replies(to) && !intake && !of_workers()
}

/// Whatever is refused is counted and told of, with who asked for what. So is a command of one organisation that found
/// nothing where it looked for something in particular: what belongs to others is answered as if there were none.
fn record(who: &str, requested: &Requested, answer: &Answer) {
    let organization = requested.organization.as_deref().unwrap_or_default();
    let (reason, said) = match answer {
        Err(refused) => (refused.code.as_str(), refused.message.as_str()),
        Ok(found) if !organization.is_empty() && empty(found) && seeks(requested) => {
            ("found_nothing", "it found nothing of what it looked for")
        }
        Ok(_) => return,
    };
    counter!("muster_refused_requests_total", "kind" => "command", "reason" => reason.to_owned())
        .increment(1);
    // What was sent is told as values: those cannot look like another line of the log.
    tracing::warn!(
        who,
        organization,
        command = requested.command,
        id = requested.id,
        reason,
        said,
        "a command is refused"
    );
}

fn seeks(requested: &Requested) -> bool {
    Command::read(&requested.command, &requested.args).is_ok_and(|command| command.seeks())
}

/// Whether an answer tells of nothing: no row, no number but zero.
fn empty(answer: &Value) -> bool {
    let mut parts = answer.as_object().into_iter().flat_map(Map::values);
    parts.all(|part| match part {
        Value::Array(rows) => rows.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    })
}

async fn tell_workers<B: Bus>(bus: &B, cancels: &[Status]) {
    if cancels.is_empty() {
        return;
    }
    let letters = cancels
        .iter()
        .map(|status| {
            let body = wire::cancel(&status.task_id, status.attempt, Some(&status.worker));
            Letter::cancel(&status.task_id, body)
        })
        .collect();
    bus.publish(letters).await;
}
