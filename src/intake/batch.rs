//! One batch: read, decided and committed.

use std::collections::{BTreeMap, HashSet};

use metrics::{counter, histogram};
use tokio::time::Instant;

use super::beyond::Beyond;
use crate::decide::{Desk, Impossible, Plan, change};
use crate::ground::trail::{self, step};
use crate::ground::{Ground, count_plan, persist, terms_of};
use crate::moment::Moment;
use crate::object::{FILE, ObjectKey, Operation};
use crate::policy::Acknowledge;
use crate::progress::{Step, progress};
use crate::signature::Speaker;
use crate::store::{Commit, Committed, DeadLetter, KeptEvent, Known, Reported, StoreError, Wanted};
use crate::task::{Ending, Status, StatusWord, TaskState};
use crate::trace;
use crate::wire::{self, Event, Message, Reading};

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
    /// It says itself what it is.
    pub line: bool,
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
pub(super) struct Read {
    pub at: usize,
    pub event: Event,
}

/// What is said of a task, with its place in the batch and who says it.
#[derive(Clone)]
struct Said {
    at: usize,
    status: Status,
    speaker: Speaker,
}

/// A batch that was read: what it says, in its order.
pub(super) struct Opened {
    started: Instant,
    events: Vec<Read>,
    statuses: Vec<Said>,
    unreadable: Vec<DeadLetter>,
}

impl Opened {
    /// Since when the oldest of it waits, by the queue that it came from: since the instant that it tells of itself, or
    /// since now, when it was taken.
    pub fn waits<'b>(&self, batch: &'b [Incoming], now: Moment) -> BTreeMap<&'b str, Moment> {
        let mut waits: BTreeMap<&str, Moment> = BTreeMap::new();
        for message in batch {
            waits.entry(&message.queue).or_insert(now);
        }
        let events = self.events.iter().map(|read| (read.at, read.event.told.at));
        let statuses = self
            .statuses
            .iter()
            .filter_map(|said| Some((said.at, said.status.at?)));
        for (at, since) in events.chain(statuses) {
            if let Some(message) = batch.get(at)
                && let Some(oldest) = waits.get_mut(message.queue.as_str())
            {
                *oldest = since.min(*oldest);
            }
        }
        waits
    }

    /// Which objects it tells of; `None` where it speaks of tasks too, which other batches may make.
    pub fn objects(&self) -> Option<HashSet<ObjectKey>> {
        let key = |read: &Read| read.event.told.change.key.clone();
        self.statuses
            .is_empty()
            .then(|| self.events.iter().map(key).collect())
    }
}

/// Reads, decides and commits a batch, in its order; waits for a store that is away. An error means that what is not
/// known to be stored must come again.
pub async fn handle(ground: &Ground, batch: &[Incoming]) -> Result<Handled, StoreError> {
    store(ground, batch, open(ground, batch)).await
}

/// Reads a batch.
pub(super) fn open(ground: &Ground, batch: &[Incoming]) -> Opened {
    let started = Instant::now();
    let now = ground.clock.now();
    let mut ids = ground.ids();
    let told = trail::on();
    let mut events = Vec::with_capacity(batch.len());
    let mut statuses = Vec::new();
    let mut unreadable = Vec::new();
    for (at, message) in batch.iter().enumerate() {
        match read(ground, message, now) {
            Ok(Told::Event(mut event)) => {
                statuses.extend(ends_task(&event).map(|status| Said {
                    at,
                    status,
                    speaker: Speaker::Anybody,
                }));
                // What brings no trace begins one.
                let traceparent = &mut event.told.traceparent;
                traceparent.get_or_insert_with(|| trace::begun(&ids.next(now)));
                if told {
                    trail::taken(&event, &message.queue);
                }
                events.push(Read { at, event: *event });
            }
            Ok(Told::Status(status, speaker)) => statuses.push(Said {
                at,
                status: *status,
                speaker,
            }),
            Err(Unreadable {
                reason,
                message: text,
            }) => {
                unreadable.push(letter(ground, message, reason, &text, now));
            }
        }
    }
    Opened {
        started,
        events,
        statuses,
        unreadable,
    }
}

/// Decides and commits a batch that was read.
pub(super) async fn store(
    ground: &Ground,
    batch: &[Incoming],
    opened: Opened,
) -> Result<Handled, StoreError> {
    let Opened {
        started,
        events,
        statuses,
        unreadable,
    } = opened;
    let mut handled = Handled::default();
    // From the end: what was taken in, then what is said of tasks, in halves where the store refuses a part.
    let mut parts = vec![
        Part::Statuses(&statuses),
        Part::Events(&events),
        Part::Unreadable(&unreadable),
    ];
    while let Some(part) = parts.pop() {
        if part.len() == 0 {
            continue;
        }
        let done = persist!(ground, "intake", part.take(ground, batch, &mut handled));
        match (done, part.halves()) {
            (Ok(()), _) => {}
            (Err(StoreError::Statement(error)), Some((first, second))) => {
                tracing::warn!("the store refuses a part of a batch, which is halved: {error}");
                parts.extend([second, first]);
            }
            (Err(StoreError::Statement(error)), None) => {
                tracing::error!("the store refuses a message: {error}");
                if let Some(message) = part.place().and_then(|at| batch.get(at)) {
                    let dead = [letter(
                        ground,
                        message,
                        "store_refused",
                        &error.to_string(),
                        ground.clock.now(),
                    )];
                    persist!(ground, "intake", bury(ground, &dead))?;
                    handled.dead.extend(dead);
                }
            }
            (Err(error), _) => return Err(error),
        }
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

/// What a message turned out to be.
enum Told {
    Event(Box<Event>),
    Status(Box<Status>, Speaker),
}

/// Why a message is a dead letter: a word to count by, and a text that names the field.
struct Unreadable {
    reason: &'static str,
    message: String,
}

impl From<wire::Unreadable> for Unreadable {
    fn from(unreadable: wire::Unreadable) -> Unreadable {
        Unreadable {
            reason: unreadable.reason.word(),
            message: unreadable.message,
        }
    }
}

fn read(ground: &Ground, message: &Incoming, now: Moment) -> Result<Told, Unreadable> {
    if message.status {
        let keys = &ground.rules.keys;
        let speaker = keys
            .speaker(&message.headers, &message.body)
            .map_err(|text| {
                count_refused("unsigned");
                Unreadable {
                    reason: "unsigned",
                    message: text,
                }
            })?;
        let status = wire::read_status(&message.body, now)?;
        return Ok(Told::Status(Box::new(status), speaker));
    }
    let event = wire::read_event(&as_message(message), &reading(ground, message.intake, now));
    let event = event.map_err(|wrong| match wire::read_line(&message.body) {
        // It was to set the clock, and is no event at all.
        Err(wrong) if message.line => wrong,
        _ => wrong,
    })?;
    match ground.rules.takes(&event.told.change) {
        Ok(()) => Ok(Told::Event(Box::new(event))),
        Err(text) => Err(Unreadable {
            reason: "wrong_type",
            message: text,
        }),
    }
}

fn count_refused(reason: &'static str) {
    counter!("muster_refused_requests_total", "kind" => "status", "reason" => reason).increment(1);
}

/// How the messages of an intake are read.
pub(super) fn reading(ground: &Ground, intake: usize, now: Moment) -> Reading<'_> {
    let rule = ground.intakes.get(intake);
    Reading {
        format: rule.map(|rule| rule.format).unwrap_or_default(),
        order: rule.map(|rule| rule.order).unwrap_or_default(),
        names: &ground.rules.names,
        arrived: now,
        arrival: ground.clock.next_arrival(now),
    }
}

/// A part of a batch that is stored in one transaction.
#[derive(Clone, Copy)]
enum Part<'a> {
    Unreadable(&'a [DeadLetter]),
    Events(&'a [Read]),
    Statuses(&'a [Said]),
}

impl<'a> Part<'a> {
    fn len(&self) -> usize {
        match self {
            Part::Unreadable(letters) => letters.len(),
            Part::Events(events) => events.len(),
            Part::Statuses(statuses) => statuses.len(),
        }
    }

    /// The place in the batch of its first message.
    fn place(&self) -> Option<usize> {
        match self {
            Part::Unreadable(_) => None,
            Part::Events(events) => events.first().map(|read| read.at),
            Part::Statuses(statuses) => statuses.first().map(|said| said.at),
        }
    }

    fn halves(self) -> Option<(Part<'a>, Part<'a>)> {
        let middle = self.len() / 2;
        if middle == 0 {
            return None;
        }
        Some(match self {
            Part::Unreadable(letters) => {
                let (first, second) = letters.split_at(middle);
                (Part::Unreadable(first), Part::Unreadable(second))
            }
            Part::Events(events) => {
                let (first, second) = events.split_at(middle);
                (Part::Events(first), Part::Events(second))
            }
            Part::Statuses(statuses) => {
                let (first, second) = statuses.split_at(middle);
                (Part::Statuses(first), Part::Statuses(second))
            }
        })
    }

    async fn take(
        self,
        ground: &Ground,
        batch: &[Incoming],
        handled: &mut Handled,
    ) -> Result<(), StoreError> {
        match self {
            Part::Unreadable(letters) => {
                bury(ground, letters).await?;
                handled.dead.extend_from_slice(letters);
                Ok(())
            }
            Part::Events(events) => take_events(ground, batch, events, handled).await,
            Part::Statuses(statuses) => take_statuses(ground, batch, statuses, handled).await,
        }
    }
}

/// Stores dead letters and nothing else.
async fn bury(ground: &Ground, letters: &[DeadLetter]) -> Result<(), StoreError> {
    loop {
        let revision = ground.store.catalogue_revision().await?;
        let commit = Commit {
            dead: letters,
            ..Commit::empty(ground.clock.now(), revision)
        };
        if ground.store.commit(&commit).await? == Committed::Done {
            return Ok(());
        }
    }
}

/// Whether the attributes of an event are what their type declares.
pub(super) fn as_message(message: &Incoming) -> Message<'_> {
    Message {
        body: &message.body,
        content_type: message.content_type.as_deref(),
        routing_key: &message.routing_key,
        message_id: message.message_id.as_deref(),
        headers: &message.headers,
    }
}

/// An event as it is kept, for whoever asks later why it did what it did.
fn keep(
    id: String,
    incoming: &Incoming,
    event: &Event,
    operations: Vec<Operation>,
    now: Moment,
) -> KeptEvent {
    let (source, event_id) = match &event.inbox {
        Some((source, id)) => (source.clone(), Some(id.clone())),
        None => (String::new(), event.told.event_id.clone()),
    };
    KeptEvent {
        id,
        event_id,
        source,
        organization: event.told.change.key.organization.clone(),
        handled_at: now,
        queue: incoming.queue.clone(),
        routing_key: incoming.routing_key.clone(),
        content_type: incoming.content_type.clone(),
        message_id: incoming.message_id.clone(),
        headers: incoming.headers.clone(),
        // What was read is UTF-8.
        body: String::from_utf8_lossy(&incoming.body).into_owned(),
        operations,
    }
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
pub(super) fn wanted(events: &[Read]) -> Wanted {
    Wanted {
        keys: events
            .iter()
            .map(|read| read.event.told.change.key.clone())
            .collect(),
        inbox: events
            .iter()
            .filter_map(|read| read.event.inbox.clone())
            .collect(),
        ..Wanted::default()
    }
}

async fn take_events(
    ground: &Ground,
    batch: &[Incoming],
    events: &[Read],
    handled: &mut Handled,
) -> Result<(), StoreError> {
    let mut wanted = wanted(events);
    let mut beyond = Beyond::default();
    loop {
        wanted.among = ground.catalogue().fellows();
        let mut gathered = ground.store.gather(&wanted).await?;
        let catalogue = ground.catalogue_at(gathered.revision).await?;
        if catalogue.revision != gathered.revision {
            continue;
        }
        beyond.lend(&mut gathered.world);
        let now = ground.clock.now();
        let deciding = Instant::now();
        let mut plan = Plan::default();
        let mut ids = ground.ids();
        let mut inbox = Vec::with_capacity(wanted.inbox.len());
        let mut kept = Vec::with_capacity(events.len());
        let mut seen: HashSet<&(String, String)> = HashSet::new();
        let mut duplicates = 0;
        let mut dead = Vec::new();
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
                Ok(operations) => {
                    inbox.extend(read.event.inbox.clone());
                    if let Some(incoming) = batch.get(read.at) {
                        let id = ids.next(now);
                        kept.push(keep(id, incoming, &read.event, operations, now));
                    }
                }
                // Not in the inbox: once it is possible, the same message is to be taken.
                Err(Impossible { reason, message }) => {
                    if let Some(incoming) = batch.get(read.at) {
                        dead.push(letter(ground, incoming, reason, &message, now));
                    }
                }
            }
        }
        histogram!("muster_decide_seconds").record(deciding.elapsed().as_secs_f64());
        let unseen = !gathered.world.unseen.is_empty();
        wanted.scopes.append(&mut gathered.world.unseen);
        let asked = beyond
            .fetch(&ground.store, &mut gathered.world, now)
            .await?;
        if asked || unseen {
            continue;
        }
        if trail::on() {
            trail::decided(&plan);
            trail::idle(&plan, events.iter().map(|read| &read.event));
        }
        let commit = Commit {
            inbox: &inbox,
            events: &kept,
            rests: beyond.rests(),
            dead: &dead,
            world: &gathered.world,
            versions: &gathered.versions,
            plan: &plan,
            ..Commit::empty(now, gathered.revision)
        };
        match ground.store.commit(&commit).await? {
            Committed::Stale(what) => {
                tracing::debug!("a batch is decided again: {what} changed meanwhile");
                counter!("muster_store_retries_total").increment(1);
                beyond = Beyond::default();
            }
            Committed::Done => {
                ground.gain(gathered.revision, &plan.organizations);
                ground.learn(&plan.samples);
                handled.events += events.len() as u64;
                handled.duplicates += duplicates;
                handled.tasks += plan.tasks.len() as u64;
                handled.dead.extend(dead);
                count(events, &plan, duplicates);
                ground.wake(&plan);
                return Ok(());
            }
        }
    }
}

fn count(events: &[Read], plan: &Plan, duplicates: u64) {
    let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
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
    count_plan(plan);
}

/// A raw file that names its task ends it, where workers say nothing themselves. Whether they do is asked later.
fn ends_task(event: &Event) -> Option<Status> {
    let ends = event.ends.as_ref()?;
    let ending = Ending {
        outputs: Some(serde_json::json!([event.told.change.key.primary_key])),
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
    statuses: &[Said],
    handled: &mut Handled,
) -> Result<(), StoreError> {
    let mut waiting = statuses.to_vec();
    while !waiting.is_empty() {
        let ids: HashSet<&str> = waiting
            .iter()
            .map(|said| said.status.task_id.as_str())
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
        // What is told of each, where anybody wants to see it.
        let traces = match trail::on() {
            true => Some(ground.store.traceparents(&ids).await?),
            false => None,
        };
        let mut judged: Vec<Judged> = Vec::new();
        let mut cancels = Vec::new();
        for said in waiting {
            if moved.contains(&said.status.task_id) {
                later.push(said);
                continue;
            }
            let Said {
                at,
                mut status,
                speaker,
            } = said;
            let known = standings.get(&status.task_id);
            let plugin = known.and_then(|known| catalogue.plugins.get(&known.plugin_id));
            let from_file = status.worker == FILE;
            if from_file && !ends_by_file(&catalogue, plugin.map(AsRef::as_ref)) {
                continue;
            }
            if let Some(known) = known
                && let Err(text) = speaker.speaks_for(Some(&known.organization))
            {
                outcomes.push((status.word.name(), "not_permitted"));
                count_refused("not_permitted");
                tracing::warn!(task = status.task_id, "a status is refused: {text}");
                continue;
            }
            let mut seen = traces.as_ref().map(|traces| {
                let own = batch.get(at).and_then(traceparent_of);
                Judged::of(
                    &status,
                    own.or_else(|| traces.get(&status.task_id).cloned()),
                )
            });
            let terms = terms_of(&catalogue, known);
            if let (true, Some(known)) = (from_file, known) {
                // The file speaks for whoever had the task.
                status.worker = known.standing.worker.clone().unwrap_or(status.worker);
            }
            let step = progress(
                known.map(|known| &known.standing),
                &status,
                &terms,
                now,
                ground.chance(),
            );
            let word = status.word.name();
            if let Some(seen) = &mut seen {
                seen.judge(&step);
            }
            judged.extend(seen);
            match (step, known) {
                (Step::Take(step), Some(Known { standing, .. })) => {
                    outcomes.push((word, "taken"));
                    moved.insert(status.task_id.clone());
                    // It decides, and its attempt had been closed: that stays as it was, and this is kept beside it.
                    if standing.outcome.is_some() || step.of_older {
                        late.push((ground.ids().next(now), status.clone(), body_of(batch, at)));
                    }
                    let reported = Reported {
                        task_id: status.task_id.clone(),
                        worker: Some(status.worker.clone()),
                        at: status.at,
                        standing: standing.clone(),
                        step: *step,
                    };
                    let said = Said {
                        at,
                        status,
                        speaker,
                    };
                    steps.push((said, reported));
                }
                (Step::Late { cancel }, _) => {
                    outcomes.push((word, "late"));
                    if cancel {
                        cancels.push(status.clone());
                    }
                    late.push((ground.ids().next(now), status, body_of(batch, at)));
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
        for judged in judged {
            if !written.stale.contains(&judged.task_id) {
                judged.tell();
            }
        }
        for (status, outcome) in outcomes {
            counter!("muster_statuses_total", "status" => status, "outcome" => outcome)
                .increment(1);
        }
        handled.cancels.extend(cancels);
        // What moved meanwhile is judged again, before what came after it.
        waiting = steps
            .into_iter()
            .map(|(said, _)| said)
            .filter(|said| written.stale.contains(&said.status.task_id))
            .chain(later)
            .collect();
        waiting.sort_by_key(|said| said.at);
        ground.dispatch.notify_one();
        ground.ended();
    }
    handled.statuses += statuses.len() as u64;
    Ok(())
}

/// A status and what became of it, for the trail of its trace.
struct Judged {
    traceparent: String,
    task_id: String,
    attempt: Option<i64>,
    worker: String,
    word: &'static str,
    outcome: &'static str,
    state: Option<&'static str>,
}

impl Judged {
    fn of(status: &Status, traceparent: Option<String>) -> Judged {
        Judged {
            traceparent: traceparent.unwrap_or_default(),
            task_id: status.task_id.clone(),
            attempt: status.attempt,
            worker: status.worker.clone(),
            word: status.word.name(),
            outcome: "unknown",
            state: None,
        }
    }

    fn judge(&mut self, step: &Step) {
        self.outcome = match step {
            Step::Take(_) => "taken",
            Step::Late { .. } => "late",
            Step::Duplicate => "duplicate",
            Step::Unknown => "unknown",
        };
        if let Step::Take(taken) = step {
            self.state = taken.state.map(TaskState::word);
        }
    }

    fn tell(self) {
        step!(
            "status",
            &self.traceparent,
            task = self.task_id,
            attempt = self.attempt,
            worker = self.worker,
            status = self.word,
            outcome = self.outcome,
            state = self.state,
            "a worker reported"
        );
    }
}

/// The trace context that a status brings, as a header or in its body.
fn traceparent_of(message: &Incoming) -> Option<String> {
    let header = message
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
    match header.and_then(|(_, text)| trace::carried(text)) {
        Some(own) => Some(own.to_owned()),
        None => wire::traceparent_in(&message.body),
    }
}

fn body_of(batch: &[Incoming], at: usize) -> String {
    let body = batch.get(at).map(|message| message.body.as_slice());
    String::from_utf8_lossy(body.unwrap_or_default()).into_owned()
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
