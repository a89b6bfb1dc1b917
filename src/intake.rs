//! Loop: a batch of deliveries becomes one transaction, then one settlement.
//!
//! Read, decide, commit, settle: in that order, always. What cannot be read becomes a dead letter in the same
//! transaction; what the store refuses is found by halving the batch, so that one message never fails the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use tokio::time::Instant;

use crate::bus::{Address, Bus, Delivery, Letter, Source, Verdict};
use crate::decide::{Desk, Finding, Impossible, Plan, World, change};
use crate::ground::{Ground, persist};
use crate::moment::Moment;
use crate::object::{FILE, ObjectKey, Word};
use crate::policy::Acknowledge;
use crate::progress::{Step, progress};
use crate::schedule::retry;
use crate::store::{Commit, Committed, DeadLetter, Gathered, Reported, StoreError, Wanted};
use crate::task::{Ending, Status, StatusWord};
use crate::wire::{self, Event, Line, Message, Reading, Unreadable};

/// How much is taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    pub count: usize,
    pub linger: Duration,
}

/// A message, apart from the bus that brought it; a dead letter that is tried again is one too.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// Which intake, for events.
    pub intake: usize,
    pub queue: String,
    pub routing_key: String,
    pub content_type: Option<String>,
    pub message_id: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub status: bool,
}

/// What became of the messages of one batch.
#[derive(Clone, Debug, Default)]
pub struct Handled {
    pub events: u64,
    pub statuses: u64,
    pub duplicates: u64,
    pub tasks: u64,
    pub dead: Vec<DeadLetter>,
    /// Workers to be told that they work in vain.
    pub cancels: Vec<Status>,
}

/// An event that was read, with its place in the batch.
struct Read {
    at: usize,
    event: Event,
}

/// Reads, decides and commits a batch, in its order. An error means that nothing of it is known to be stored.
pub async fn handle(ground: &Ground, batch: &[Incoming]) -> Result<Handled, StoreError> {
    let started = Instant::now();
    let now = ground.clock.now();
    let mut handled = Handled::default();
    let mut events = Vec::with_capacity(batch.len());
    let mut statuses = Vec::new();
    for (at, message) in batch.iter().enumerate() {
        if message.status {
            match wire::read_status(&message.body, now) {
                Ok(status) => statuses.push((at, status)),
                Err(unreadable) => {
                    handled
                        .dead
                        .push(dead_letter(ground, message, &unreadable, now))
                }
            }
            continue;
        }
        let Some(rule) = ground.intakes.get(message.intake) else {
            continue;
        };
        let reading = Reading {
            format: rule.format,
            order: rule.order,
            names: &ground.rules.names,
            arrived: now,
            arrival: ground.clock.next_arrival(now),
        };
        match wire::read_event(&as_message(message), &reading) {
            Ok(event) => match conforms(ground, &event) {
                Ok(()) => events.push(Read { at, event }),
                Err(text) => handled
                    .dead
                    .push(letter(ground, message, "wrong_type", &text, now)),
            },
            Err(unreadable) => handled
                .dead
                .push(dead_letter(ground, message, &unreadable, now)),
        }
    }
    if !events.is_empty() || !handled.dead.is_empty() {
        take_events(ground, batch, &events, &mut handled).await?;
    }
    for read in &events {
        if let Some(status) = ends_task(read) {
            statuses.push((read.at, status));
        }
    }
    if !statuses.is_empty() {
        take_statuses(ground, batch, statuses, &mut handled).await?;
    }
    for letter in &handled.dead {
        counter!("muster_events_total", "type" => "unknown", "outcome" => "dead_letter")
            .increment(1);
        tracing::warn!(
            intake = letter.intake,
            reason = letter.reason,
            "dead letter: {}",
            letter.message
        );
    }
    histogram!("muster_batch_seconds").record(started.elapsed().as_secs_f64());
    Ok(handled)
}

/// Whether the attributes of an event are what their type declares.
fn conforms(ground: &Ground, event: &Event) -> Result<(), String> {
    let change = &event.told.change;
    match (&change.object_type, &change.word) {
        (
            Some(object_type),
            Word::Object {
                attributes: Some(attributes),
                ..
            },
        ) => ground.rules.conforms(object_type, attributes),
        _ => Ok(()),
    }
}

fn as_message(message: &Incoming) -> Message<'_> {
    Message {
        body: &message.body,
        content_type: message.content_type.as_deref(),
        routing_key: &message.routing_key,
        message_id: message.message_id.as_deref(),
        headers: &message.headers,
    }
}

fn dead_letter(
    ground: &Ground,
    message: &Incoming,
    unreadable: &Unreadable,
    now: Moment,
) -> DeadLetter {
    letter(
        ground,
        message,
        unreadable.reason.word(),
        &unreadable.message,
        now,
    )
}

fn letter(
    ground: &Ground,
    message: &Incoming,
    reason: &str,
    text: &str,
    now: Moment,
) -> DeadLetter {
    DeadLetter {
        id: ground.ids().next(now),
        intake: message.queue.clone(),
        routing_key: message.routing_key.clone(),
        content_type: message.content_type.clone(),
        message_id: message.message_id.clone(),
        headers: message.headers.clone(),
        body: message.body.clone(),
        reason: reason.to_owned(),
        message: text.to_owned(),
        seen: now,
    }
}

/// What the decision about these events needs to know.
fn wanted(events: &[Read]) -> Wanted {
    Wanted {
        keys: events
            .iter()
            .map(|read| read.event.told.change.key.clone())
            .collect(),
        inbox: events
            .iter()
            .filter_map(|read| read.event.inbox.clone())
            .collect(),
    }
}

async fn take_events(
    ground: &Ground,
    batch: &[Incoming],
    events: &[Read],
    handled: &mut Handled,
) -> Result<(), StoreError> {
    let unreadable = handled.dead.clone();
    let wanted = wanted(events);
    loop {
        let mut gathered = ground.store.gather(&wanted).await?;
        let catalogue = ground.catalogue_at(gathered.revision).await?;
        if catalogue.revision != gathered.revision {
            continue;
        }
        let now = ground.clock.now();
        let deciding = Instant::now();
        let mut plan = Plan::default();
        let mut ids = ground.ids();
        let mut inbox = Vec::with_capacity(wanted.inbox.len());
        let mut seen: HashSet<&(String, String)> = HashSet::new();
        let mut duplicates = 0;
        let mut dead = unreadable.clone();
        for read in events {
            if let Some(id) = &read.event.inbox
                && (gathered.handled.contains(id) || !seen.insert(id))
            {
                duplicates += 1;
                continue;
            }
            let mut desk = Desk {
                catalogue: &catalogue,
                now,
                ids: &mut ids,
                plan: &mut plan,
                findings: None,
            };
            match change(&mut desk, &mut gathered.world, &read.event.told) {
                Ok(()) => inbox.extend(read.event.inbox.clone()),
                // Not in the inbox: once it is possible, the same message is to be taken.
                Err(Impossible { reason, message }) => {
                    if let Some(incoming) = batch.get(read.at) {
                        dead.push(letter(ground, incoming, reason, &message, now));
                    }
                }
            }
        }
        histogram!("muster_decide_seconds").record(deciding.elapsed().as_secs_f64());
        let commit = Commit {
            now,
            revision: gathered.revision,
            inbox: &inbox,
            dead: &dead,
            world: &gathered.world,
            versions: &gathered.versions,
            plan: &plan,
            cursors: &[],
            expansion: None,
        };
        match ground.store.commit(&commit).await? {
            Committed::Stale(what) => {
                tracing::debug!("a batch is decided again: {what} changed meanwhile");
                counter!("muster_store_retries_total").increment(1);
            }
            Committed::Done => {
                handled.events += events.len() as u64;
                handled.duplicates += duplicates;
                handled.tasks += plan.tasks.len() as u64;
                handled.dead = dead;
                count(events, &plan, duplicates, &catalogue);
                wake(ground, &plan);
                return Ok(());
            }
        }
    }
}

/// Who has something to do now.
fn wake(ground: &Ground, plan: &Plan) {
    if !plan.tasks.is_empty() {
        ground.dispatch.notify_one();
    }
    if plan.runs.iter().any(|run| run.expands) {
        ground.tick.notify_one();
    }
}

fn count(events: &[Read], plan: &Plan, duplicates: u64, catalogue: &crate::catalogue::Catalogue) {
    let mut by_type: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for read in events {
        *by_type
            .entry(read.event.told.event_type.as_str())
            .or_default() += 1;
    }
    for (event_type, many) in by_type {
        counter!("muster_events_total", "type" => event_type.to_owned(), "outcome" => "taken")
            .increment(many);
    }
    for (outcome, many) in [
        ("duplicate", duplicates),
        ("late", plan.late),
        ("unchanged", plan.unchanged),
    ] {
        if many > 0 {
            counter!("muster_event_effects_total", "effect" => outcome).increment(many);
        }
    }
    for (reason, many) in &plan.refused {
        counter!("muster_refusals_total", "reason" => reason.word()).increment(*many);
    }
    for task in &plan.tasks {
        // Worker types are what settings and plugins name; those that no settings name share a label.
        let worker_type = if catalogue.rules.workers.contains_key(&task.worker_type) {
            task.worker_type.clone()
        } else {
            "other".to_owned()
        };
        counter!("muster_tasks_created_total", "worker_type" => worker_type, "cause" => task.cause.word()).increment(1);
    }
}

/// A raw file that names its task ends it, where workers say nothing themselves. Whether they do is asked later.
fn ends_task(read: &Read) -> Option<Status> {
    let ends = read.event.ends.as_ref()?;
    let ending = Ending {
        outputs: Some(serde_json::json!([read.event.told.change.key.primary_key])),
        ..Ending::default()
    };
    Some(Status {
        task_id: ends.task_id.clone(),
        attempt: None,
        worker: FILE.to_owned(),
        at: None,
        word: if ends.failed {
            StatusWord::Failed {
                retryable: false,
                ending,
            }
        } else {
            StatusWord::Succeeded(ending)
        },
    })
}

/// Statuses in their order. Several of one task are taken one after another.
async fn take_statuses(
    ground: &Ground,
    batch: &[Incoming],
    statuses: Vec<(usize, Status)>,
    handled: &mut Handled,
) -> Result<(), StoreError> {
    handled.statuses += statuses.len() as u64;
    let mut waiting = statuses;
    while !waiting.is_empty() {
        let ids: HashSet<&str> = waiting
            .iter()
            .map(|(_, status)| status.task_id.as_str())
            .collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let standings = ground.store.standings(&ids).await?;
        let catalogue = ground.catalogue();
        let now = ground.clock.now();
        let mut steps = Vec::new();
        let mut late = Vec::new();
        let mut moved: HashSet<String> = HashSet::new();
        let mut later = Vec::new();
        let mut outcomes: Vec<(&'static str, &'static str)> = Vec::new();
        let mut cancels = Vec::new();
        for (at, status) in waiting {
            if moved.contains(&status.task_id) {
                later.push((at, status));
                continue;
            }
            let known = standings.get(&status.task_id);
            let plugin = known.and_then(|(_, plugin, _)| catalogue.plugins.get(plugin));
            let from_file = status.worker == FILE;
            if from_file && !ends_by_file(&catalogue, plugin.map(AsRef::as_ref)) {
                continue;
            }
            let schedule = known.and_then(|(.., id)| {
                catalogue
                    .schedules
                    .iter()
                    .find(|scheduled| scheduled.schedule.id == *id)
            });
            let rule = retry(
                &plugin.map(|plugin| plugin.retry).unwrap_or_default(),
                &schedule
                    .map(|scheduled| scheduled.schedule.retry)
                    .unwrap_or_default(),
                &catalogue.rules.defaults,
            );
            let mut status = status;
            if let (true, Some((standing, ..))) = (from_file, known) {
                // The file speaks for whoever had the task.
                status.worker = standing.worker.clone().unwrap_or(status.worker);
            }
            let step = progress(
                known.map(|(standing, ..)| standing),
                &status,
                &rule,
                now,
                ground.chance(),
            );
            let word = status.word.name();
            match (step, known) {
                (Step::Take(step), Some((standing, ..))) => {
                    outcomes.push((word, "taken"));
                    moved.insert(status.task_id.clone());
                    steps.push((
                        at,
                        Reported {
                            status,
                            standing: standing.clone(),
                            step: *step,
                        },
                    ));
                }
                (Step::Late { cancel }, _) => {
                    outcomes.push((word, "late"));
                    if cancel {
                        cancels.push(status.clone());
                    }
                    let body = batch
                        .get(at)
                        .map(|message| String::from_utf8_lossy(&message.body).into_owned());
                    late.push((ground.ids().next(now), status, body.unwrap_or_default()));
                }
                (Step::Duplicate, _) => outcomes.push((word, "duplicate")),
                (Step::Unknown | Step::Take(_), _) => {
                    outcomes.push((word, "unknown"));
                    if !from_file {
                        tracing::warn!(
                            task = status.task_id,
                            attempt = status.attempt,
                            status = word,
                            "a status names no task or no offer that is known"
                        );
                    }
                }
            }
        }
        let reported: Vec<Reported> = steps.iter().map(|(_, reported)| reported.clone()).collect();
        let written = ground.store.apply_steps(&reported, &late, now).await?;
        for (status, outcome) in outcomes {
            counter!("muster_statuses_total", "status" => status, "outcome" => outcome)
                .increment(1);
        }
        handled.cancels.extend(cancels);
        // What moved meanwhile is judged again, before what came after it.
        waiting = steps
            .into_iter()
            .filter(|(_, reported)| written.stale.contains(&reported.status.task_id))
            .map(|(at, reported)| (at, reported.status))
            .chain(later)
            .collect();
        waiting.sort_by_key(|(at, _)| *at);
        ground.dispatch.notify_one();
    }
    Ok(())
}

/// Only where the confirm counts as acceptance does a raw file end its task.
fn ends_by_file(
    catalogue: &crate::catalogue::Catalogue,
    plugin: Option<&crate::plugin::Plugin>,
) -> bool {
    plugin.is_some_and(|plugin| {
        catalogue.rules.worker(&plugin.worker_type).acknowledge == Acknowledge::Publish
    })
}

/// What would be decided about an event now, and why. Nothing is stored.
pub async fn explain(
    ground: &Ground,
    message: &Incoming,
) -> Result<Result<Explained, Unreadable>, StoreError> {
    let now = ground.clock.now();
    let rule = ground.intakes.get(message.intake);
    let reading = Reading {
        format: rule.map(|rule| rule.format).unwrap_or_default(),
        order: rule.map(|rule| rule.order).unwrap_or_default(),
        names: &ground.rules.names,
        arrived: now,
        arrival: ground.clock.next_arrival(now),
    };
    let event = match wire::read_event(&as_message(message), &reading) {
        Ok(event) => event,
        Err(unreadable) => return Ok(Err(unreadable)),
    };
    let nonconforming = conforms(ground, &event).err();
    let read = Read { at: 0, event };
    let mut gathered: Gathered = ground
        .store
        .gather(&wanted(std::slice::from_ref(&read)))
        .await?;
    let catalogue = ground.catalogue_at(gathered.revision).await?;
    let mut findings: Vec<Finding> = Vec::new();
    let decide = |world: &mut World, findings: &mut Vec<Finding>| {
        let mut plan = Plan::default();
        let mut desk = Desk {
            catalogue: &catalogue,
            now,
            ids: &mut ground.ids(),
            plan: &mut plan,
            findings: Some(findings),
        };
        let impossible = change(&mut desk, world, &read.event.told).err();
        (plan, impossible)
    };
    let (mut plan, mut impossible) = decide(&mut gathered.world, &mut findings);
    // What leaves the object as it is triggers nothing. That answers no question, so it is asked again as if the
    // object were new; what is open or was done with it stays known.
    let as_new = impossible.is_none() && plan.unchanged > 0;
    if as_new {
        gathered.world.objects.clear();
        (plan, impossible) = decide(&mut gathered.world, &mut findings);
    }
    let impossible = nonconforming
        .map(|message| Impossible {
            reason: "wrong_type",
            message,
        })
        .or(impossible);
    Ok(Ok(Explained {
        key: read.event.told.change.key.clone(),
        handled_before: read
            .event
            .inbox
            .as_ref()
            .is_some_and(|id| gathered.handled.contains(id)),
        event: read.event,
        world: gathered.world,
        catalogue,
        plan,
        findings,
        impossible,
        as_new,
        now,
    }))
}

/// The answer of [`explain`].
#[derive(Debug)]
pub struct Explained {
    pub event: Event,
    pub key: ObjectKey,
    pub handled_before: bool,
    pub world: World,
    pub catalogue: Arc<crate::catalogue::Catalogue>,
    pub plan: Plan,
    pub findings: Vec<Finding>,
    pub impossible: Option<Impossible>,
    /// The event leaves the object as it is; what is told is what it would do if the object were new.
    pub as_new: bool,
    pub now: Moment,
}

/// A batch, or its halves where the store refuses it for good; a single message that it refuses is a dead letter.
async fn handle_or_halve(ground: &Ground, batch: &[Incoming]) -> Result<Handled, StoreError> {
    let mut done = Handled::default();
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match persist!(ground, "intake", handle(ground, part)) {
            Ok(handled) => {
                done.events += handled.events;
                done.statuses += handled.statuses;
                done.duplicates += handled.duplicates;
                done.tasks += handled.tasks;
                done.dead.extend(handled.dead);
                done.cancels.extend(handled.cancels);
            }
            Err(
                error @ (StoreError::OutOfReach(_)
                | StoreError::Refused(_)
                | StoreError::Unusable(_)),
            ) => {
                return Err(error);
            }
            Err(error) => match part {
                [] => {}
                [message] => {
                    let now = ground.clock.now();
                    let dead = letter(ground, message, "store_refused", &error.to_string(), now);
                    tracing::error!("the store refuses a message: {error}");
                    bury(ground, dead.clone()).await?;
                    done.dead.push(dead);
                }
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
            },
        }
    }
    Ok(done)
}

/// Stores one dead letter and nothing else.
async fn bury(ground: &Ground, letter: DeadLetter) -> Result<(), StoreError> {
    let letters = [letter];
    loop {
        let revision = persist!(ground, "dead letters", ground.store.catalogue_revision())?;
        let commit = Commit {
            now: ground.clock.now(),
            revision,
            inbox: &[],
            dead: &letters,
            world: &World::default(),
            versions: &std::collections::HashMap::new(),
            plan: &Plan::default(),
            cursors: &[],
            expansion: None,
        };
        let committed = persist!(ground, "dead letters", ground.store.commit(&commit))?;
        if committed == Committed::Done {
            return Ok(());
        }
    }
}

/// What a delivery is to this loop.
enum Sorted {
    Message,
    Command,
    Clock(Moment),
}

/// The loop. `tick` is called when a line of input has set the clock, and returns when all that is due is decided.
pub async fn run<B: Bus>(
    ground: Arc<Ground>,
    bus: Arc<B>,
    size: BatchSize,
    lines: bool,
    tick: impl AsyncFn(),
) -> Result<(), StoreError> {
    let mut batch: Vec<Incoming> = Vec::with_capacity(size.count);
    let mut receipts: Vec<(B::Receipt, Verdict)> = Vec::with_capacity(size.count);
    let mut open = true;
    while open {
        ground.beat("intake");
        let mut clock = None;
        let mut commands = Vec::new();
        let mut deadline = Instant::now() + Duration::from_secs(1);
        while batch.len() < size.count && clock.is_none() {
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
                            receipts.push((delivery.receipt, Verdict::Done));
                        }
                        Sorted::Command => {
                            commands.push(refusal(&delivery));
                            receipts.push((delivery.receipt, Verdict::Done));
                        }
                        Sorted::Message => {
                            let (incoming, receipt) = incoming(&ground, delivery);
                            batch.push(incoming);
                            receipts.push((receipt, Verdict::Done));
                        }
                    }
                }
            }
        }
        if !batch.is_empty() {
            match handle_or_halve(&ground, &batch).await {
                Ok(handled) => tell_workers(bus.as_ref(), &handled.cancels).await,
                Err(error) => {
                    // Nothing of it is acknowledged: the broker delivers it again, to us or to another replica.
                    let again = receipts
                        .drain(..)
                        .map(|(receipt, _)| (receipt, Verdict::Again))
                        .collect();
                    bus.settle(again).await;
                    if ground.stop.is_cancelled() && error.passing() {
                        return Ok(());
                    }
                    return Err(error);
                }
            }
            batch.clear();
        }
        let replies: Vec<Letter> = commands.into_iter().flatten().collect();
        if !replies.is_empty() {
            bus.publish(replies).await;
        }
        if !receipts.is_empty() {
            bus.settle(std::mem::take(&mut receipts)).await;
        }
        if let Some(now) = clock {
            ground.clock.fix(now);
            tick().await;
        }
    }
    Ok(())
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

fn incoming<R>(ground: &Ground, delivery: Delivery<R>) -> (Incoming, R) {
    let (intake, status) = match delivery.source {
        Source::Events(intake) => (intake, false),
        _ => (0, true),
    };
    let queue = match (status, ground.intakes.get(intake)) {
        (false, Some(rule)) => rule.queue.clone(),
        _ => crate::bus::names::STATUS.to_owned(),
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
    };
    (incoming, delivery.receipt)
}

/// Commands are not taken yet; whoever asks one is told so.
fn refusal<R>(delivery: &Delivery<R>) -> Option<Letter> {
    Some(Letter {
        address: Address::Reply(delivery.reply_to.clone()?),
        message_id: delivery.message_id.clone().unwrap_or_default(),
        correlation_id: delivery.correlation_id.clone(),
        content_type: "application/json",
        headers: Vec::new(),
        priority: 0,
        expires_in_ms: None,
        body: wire::command_refusal(&delivery.body),
    })
}

async fn tell_workers<B: Bus>(bus: &B, cancels: &[Status]) {
    if cancels.is_empty() {
        return;
    }
    let letters = cancels
        .iter()
        .map(|status| Letter {
            address: Address::Control,
            message_id: format!("{}:cancel", status.task_id),
            correlation_id: Some(status.task_id.clone()),
            content_type: "application/json",
            headers: Vec::new(),
            priority: 0,
            expires_in_ms: None,
            body: wire::cancel(&status.task_id, status.attempt, Some(&status.worker)),
        })
        .collect();
    // It may be lost; the clocks of the task are what counts.
    bus.publish(letters).await;
}
