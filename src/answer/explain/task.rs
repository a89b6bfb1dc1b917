//! Why a task exists, and why it is not running yet: what stands in its way now, and the clocks that will end it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Answer, Clerk, not_found, queues::CLASSES};
use crate::backlog::Key;
use crate::catalogue::Catalogue;
use crate::command::{Filter, Rows};
use crate::decide::gates;
use crate::ground::terms_of;
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::policy::{Acknowledge, Rank, WorkerSettings};
use crate::progress::{Clock, HEARD, clock};
use crate::run::{Cause, run_name};
use crate::schedule::Limit;
use crate::store::{AttemptRecord, LimitNow, Place, StoreError, TaskRecord, Wanted};
use crate::task::TaskState;

/// A replica that has said nothing for so long is not at work.
const AT_WORK: crate::moment::Span = crate::moment::Span::seconds(30);

/// What stands in the way, or how it stands: a word to count by, and a sentence.
struct Stand {
    kind: &'static str,
    says: String,
    /// When it will be otherwise, where that is known.
    until: Option<Moment>,
}

/// What is told of a task, as it is found.
#[derive(Default)]
pub(super) struct Told {
    pub exists: Vec<String>,
    stands: Vec<Stand>,
    /// The word of a clock, when it runs out, and what then.
    clocks: Vec<(&'static str, Moment, String)>,
}

impl Told {
    pub(super) fn stand(&mut self, kind: &'static str, says: impl Into<String>) {
        self.until(kind, None, says);
    }

    fn until(&mut self, kind: &'static str, until: Option<Moment>, says: impl Into<String>) {
        self.stands.push(Stand {
            kind,
            says: says.into(),
            until,
        });
    }
}

impl Clerk<'_> {
    pub(super) async fn task_explained(&self, task_id: &str) -> Result<Answer, StoreError> {
        let store = &self.ground.store;
        let bound = self.bound.unwrap_or_default();
        let Some(mut task) = store.task_record(task_id, bound).await? else {
            return Ok(Err(not_found("task", task_id, &[])));
        };
        // One organisation is not told that another has the same object.
        if self.bound.is_some() && task.state == TaskState::Waiting.word() {
            task.state = TaskState::Queued.word().to_owned();
        }
        let catalogue = self.catalogue().await?;
        let now = self.ground.clock.now();
        let attempt = store.newest_attempt(task_id).await?;
        let mut told = Told::default();
        let (deeds, redriven_from, redriven_as) = store.deeds(task_id, &task.run_id).await?;
        why_it_exists(&task, redriven_from.as_deref(), &mut told);
        let mut more = serde_json::Map::new();
        if self.bound.is_none() {
            self.of_sharing(&task, &mut told, &mut more).await?;
        }
        match task.state.as_str() {
            "queued" => {
                self.of_queued(
                    &catalogue,
                    &task,
                    attempt.as_ref(),
                    now,
                    &mut told,
                    &mut more,
                )
                .await?;
            }
            "dispatched" => {
                of_offered(&task, attempt.as_ref(), now, &mut told);
                self.of_workers(&task, now, &mut told, &mut more).await?;
            }
            "running" => of_running(attempt.as_ref(), &mut told),
            // Whoever may see it is told by then.
            "waiting" => {}
            _ => {
                of_ended(&task, attempt.as_ref(), redriven_as.as_deref(), &mut told);
                self.of_dead(&task, &mut told).await?;
            }
        }
        for deed in &deeds {
            let text = |name: &str| deed[name].as_str().unwrap_or_default();
            let why = match text("reason") {
                "" => String::new(),
                why => format!(": {why}"),
            };
            told.stand(
                "by_hand",
                format!("{} by {} at {}{why}", text("verb"), text("who"), text("at")),
            );
        }
        if task.finished_at.is_none() {
            self.clocks(&catalogue, &task, &mut told).await?;
        }
        let mut answer = as_json(&task, &told);
        if let Value::Object(answer) = &mut answer {
            answer.append(&mut more);
        }
        Ok(Ok(answer))
    }

    /// A dead task lies in the dead letters, until it is made anew or dropped.
    async fn of_dead(&self, task: &TaskRecord, told: &mut Told) -> Result<(), StoreError> {
        let alike = Filter::default().with("id", &task.id);
        let letters = match task.state == TaskState::Dead.word() {
            true => self.all_like(Rows::DeadLetter, &alike).await?,
            false => Vec::new(),
        };
        if !letters.is_empty() {
            let says = format!(
                "it lies in the dead letters: muster dead-letter redrive {} makes it anew",
                task.id
            );
            told.stand("dead_letter", says);
        }
        Ok(())
    }

    /// Everything that keeps a task from being offered now.
    async fn of_queued(
        &self,
        catalogue: &Catalogue,
        task: &TaskRecord,
        attempt: Option<&AttemptRecord>,
        now: Moment,
        told: &mut Told,
        more: &mut serde_json::Map<String, Value>,
    ) -> Result<(), StoreError> {
        let store = &self.ground.store;
        if let Some(not_before) = task.not_before.filter(|at| *at > now) {
            told.until(
                "not_before",
                Some(not_before),
                why_later(catalogue, task, attempt),
            );
        } else if let Some(before) = attempt.filter(|attempt| attempt.outcome.is_some()) {
            told.stand("again", last_attempt(before));
        }
        let pause = store.pause_of_queue(&task.queue).await?;
        if let Some(pause) = &pause {
            told.stand(
                "queue_paused",
                format!(
                    "the queue {} is paused since {} by {}: {}",
                    task.queue, pause.at, pause.who, pause.reason
                ),
            );
        }
        let lanes = catalogue.lanes();
        let worker = lanes.get(&task.queue);
        if worker.is_none() {
            told.stand(
                "no_queue",
                format!(
                    "no worker type has the queue {} now: neither the settings nor a plugin name it",
                    task.queue
                ),
            );
        }
        self.gates_now(catalogue, task, told).await?;
        self.of_limits(catalogue, task, now, told, more).await?;
        if let Some(worker) = worker {
            self.of_credit(task, worker, told, more).await?;
        }
        if task.not_before.is_none_or(|at| at <= now) {
            self.of_place(catalogue, task, worker, told, more).await?;
        }
        let avoided: Vec<String> = task
            .avoid
            .iter()
            .filter(|avoided| avoided.until > now)
            .map(|avoided| format!("{} until {}", avoided.worker, avoided.until))
            .collect();
        if !avoided.is_empty() {
            told.stand(
                "avoided",
                format!(
                    "it is not for {}, while another worker of the type is heard",
                    avoided.join(", ")
                ),
            );
        }
        if task.declines > 0 {
            told.stand(
                "declined",
                format!("it was declined {} times in a row", task.declines),
            );
        }
        self.of_workers(task, now, told, more).await?;
        let at_work = store.replicas().await?;
        let at_work = at_work
            .iter()
            .any(|(_, _, beat_at, _)| now.since(*beat_at) <= AT_WORK);
        if !at_work {
            told.stand(
                "nobody_offers",
                "no replica of the service is at work, so nothing is offered: muster run",
            );
        }
        Ok(())
    }

    /// The gates are asked again at the claim: what does not pass them is withdrawn then.
    async fn gates_now(
        &self,
        catalogue: &Catalogue,
        task: &TaskRecord,
        told: &mut Told,
    ) -> Result<(), StoreError> {
        let plugin = catalogue.plugins.get(&task.plugin_id);
        let organization = catalogue.organizations.get(&task.organization);
        let (Some(plugin), Some(organization)) = (plugin, organization) else {
            told.stand(
                "gone",
                format!(
                    "the plugin {} is declared no more, so the task is withdrawn when its turn comes",
                    task.plugin_id
                ),
            );
            return Ok(());
        };
        let key = |input: &String| ObjectKey {
            organization: task.organization.clone(),
            primary_key: input.clone(),
        };
        let wanted = Wanted {
            keys: task.inputs.iter().map(key).collect(),
            ..Wanted::default()
        };
        let known = self.ground.store.gather(&wanted).await?.world.objects;
        let mut refused = Vec::new();
        if task.inputs.is_empty() {
            refused.extend(
                gates(catalogue, plugin, organization, None, &[])
                    .err()
                    .map(|refusal| (String::new(), refusal)),
            );
        }
        for input in &task.inputs {
            let Some(object) = known.get(&key(input)) else {
                continue;
            };
            let outcome = if task.occasion.deleted {
                Ok(())
            } else {
                gates(catalogue, plugin, organization, Some(object), &[])
            };
            refused.extend(outcome.err().map(|refusal| (input.clone(), refusal)));
        }
        for (input, refusal) in refused {
            let of = match input.as_str() {
                "" => String::new(),
                input => format!(" on {input}"),
            };
            told.stand(
                "gate",
                format!(
                    "it does not pass its gates now{of}: {}: {}; it is withdrawn when its turn comes",
                    refusal.reason.meaning(),
                    refusal.detail
                ),
            );
        }
        Ok(())
    }

    async fn of_limits(
        &self,
        catalogue: &Catalogue,
        task: &TaskRecord,
        now: Moment,
        told: &mut Told,
        more: &mut serde_json::Map<String, Value>,
    ) -> Result<(), StoreError> {
        let limits = self
            .ground
            .store
            .limits_now(catalogue, &task.organization, &task.plugin_id, now)
            .await?;
        let mut listed = Vec::new();
        for standing in &limits {
            // What all organisations use together is not one organisation's to see.
            let theirs = matches!(standing.key, Key::Plugin(_)) && self.bound.is_some();
            let used = (!theirs).then_some(standing.used);
            listed.push(json!({
                "of": of_key(&standing.key), "concurrency": standing.limit.concurrency,
                "rate": standing.limit.rate.map(rate_words),
                "under_way": used.map(|used| used.under_way), "offered": used.map(|used| used.offered),
                "reached": standing.left == 0, "next": standing.next.map(|at| at.to_string()),
            }));
            if standing.left == 0 {
                told.until("limit", standing.next, limit_words(standing, theirs));
            }
        }
        more.insert("limits".to_owned(), Value::Array(listed));
        Ok(())
    }

    async fn of_credit(
        &self,
        task: &TaskRecord,
        worker: &WorkerSettings,
        told: &mut Told,
        more: &mut serde_json::Map<String, Value>,
    ) -> Result<(), StoreError> {
        if worker.credit == 0 {
            return Ok(());
        }
        let until_end = worker.acknowledge == Acknowledge::Publish;
        let under_way = self.ground.store.under_way(&task.queue).await?;
        let taken_by =
            |(offered, running): &(i64, i64)| offered + if until_end { *running } else { 0 };
        let taken: i64 = under_way.values().map(taken_by).sum();
        let credit = i64::from(worker.credit);
        // Who else takes it is not one organisation's to see.
        let by: BTreeMap<&str, i64> = under_way
            .iter()
            .filter(|(organization, _)| {
                self.bound
                    .is_none_or(|bound| bound == organization.as_str())
            })
            .map(|(organization, counts)| (organization.as_str(), taken_by(counts)))
            .collect();
        more.insert(
            "credit".to_owned(),
            json!({
                "credit": credit, "taken": self.bound.is_none().then_some(taken), "by": by,
                "full": taken >= credit,
            }),
        );
        if taken >= credit {
            let what = if until_end {
                "offered or running"
            } else {
                "offered, and nobody has accepted them"
            };
            let whose: Vec<String> = by
                .iter()
                .filter(|(_, many)| **many > 0)
                .map(|(organization, many)| format!("{many} of {organization}"))
                .collect();
            let whose = match whose.as_slice() {
                [] => String::new(),
                whose => format!(" ({})", whose.join(", ")),
            };
            told.stand(
                "credit",
                format!(
                    "the credit of {} is taken: {credit} tasks are {what}{whose}",
                    task.queue
                ),
            );
        }
        Ok(())
    }

    async fn of_place(
        &self,
        catalogue: &Catalogue,
        task: &TaskRecord,
        worker: Option<&WorkerSettings>,
        told: &mut Told,
        more: &mut serde_json::Map<String, Value>,
    ) -> Result<(), StoreError> {
        let alone = self.bound.is_some();
        let place = self.ground.store.place_of(task, alone).await?;
        let organization = catalogue.organizations.get(&task.organization);
        let weight = organization.map_or(1, |organization| organization.weight);
        let class = class_word(task.class);
        let rank = worker.map_or("fifo", |worker| rank_word(worker.rank));
        let mut words = format!(
            "it is of the class {class}, priority {}, rank {} ({rank}): {} of {} go before it, {} of these of {}",
            task.priority,
            task.rank,
            many(place.in_organization),
            task.organization,
            many(place.in_group),
            task.plugin_id,
        );
        if place.others > 0 {
            words.push_str(&format!(
                "; {} organisations more have {} of that class, and turns go round between them, {weight} at a time for {}",
                many(place.others),
                many(place.of_others),
                task.organization
            ));
        }
        if place.above > 0 {
            words.push_str(&format!(
                "; {} of higher classes go first",
                many(place.above)
            ));
            if let Some(every) = worker
                .map(|worker| worker.lower_class_every)
                .filter(|every| *every > 0)
            {
                words.push_str(&format!(
                    ", except that one of every {every} goes to the oldest of a lower class"
                ));
            }
        }
        told.stand("place", words);
        let others = (!alone).then_some(place);
        more.insert(
            "place".to_owned(),
            json!({
                "class": class, "priority": task.priority, "rank": task.rank, "strategy": rank, "weight": weight,
                "before_of_plugin": place.in_group, "before_of_organization": place.in_organization,
                "other_organizations": others.map(|place| place.others),
                "of_others": others.map(|place| place.of_others),
                "of_higher_classes": others.map(|place| place.above), "counted_up_to": Place::MOST,
            }),
        );
        Ok(())
    }

    async fn of_workers(
        &self,
        task: &TaskRecord,
        now: Moment,
        told: &mut Told,
        more: &mut serde_json::Map<String, Value>,
    ) -> Result<(), StoreError> {
        let heard = self.ground.store.heard_of(&task.worker_type).await?;
        let lately = heard
            .iter()
            .filter(|(_, at)| now.since(*at) <= HEARD)
            .count();
        let last = heard.first().map(|(_, at)| *at);
        if lately == 0 {
            told.stand(
                "no_worker",
                match last {
                    None => format!(
                        "no worker of the type {} has ever accepted a task",
                        task.worker_type
                    ),
                    Some(last) => format!(
                        "no worker of the type {} has accepted a task since {last}",
                        task.worker_type
                    ),
                },
            );
        }
        more.insert(
            "workers".to_owned(),
            json!({
                "worker_type": task.worker_type, "heard_lately": lately,
                "last_heard": last.map(|at| at.to_string()),
            }),
        );
        Ok(())
    }

    async fn clocks(
        &self,
        catalogue: &Catalogue,
        task: &TaskRecord,
        told: &mut Told,
    ) -> Result<(), StoreError> {
        let known = self
            .ground
            .store
            .standings(&[&task.id])
            .await?
            .remove(&task.id);
        let terms = terms_of(catalogue, known.as_ref());
        let next = known.as_ref().and_then(|known| {
            clock(
                &known.standing,
                known.offered_until,
                terms.timeouts.heartbeat,
            )
        });
        let left = i64::from(terms.retry.max) - task.spent - 1;
        let retried = if left > 0 {
            format!(
                "it is tried again ({left} of {} attempts left after this)",
                terms.retry.max
            )
        } else {
            "it is dead: this is its last attempt".to_owned()
        };
        if let Some(by) = task.cancel_by {
            told.clocks.push((
                "cancel",
                by,
                "somebody cancelled it: it ends then, whatever its worker says".to_owned(),
            ));
        }
        if let Some((at, which)) = next {
            let then = match which {
                Clock::Offer => "the offer is void, and it is offered again".to_owned(),
                Clock::Silence => format!("its worker counts as silent, and {retried}"),
                Clock::Overrun => format!("its time to run is over, and {retried}"),
            };
            told.clocks.push((which.word(), at, then));
        }
        if let Some(at) = task.expires_at {
            told.clocks.push((
                "task",
                at,
                format!(
                    "it is dead, expired: timeouts.task is {}",
                    terms.timeouts.task
                ),
            ));
        }
        told.clocks.sort_by_key(|(_, at, _)| *at);
        Ok(())
    }
}

/// What set it off.
fn why_it_exists(task: &TaskRecord, redriven_from: Option<&str>, told: &mut Told) {
    let schedule = match task.schedule_revision {
        0 => format!("the schedule {}", task.schedule),
        revision => format!("the schedule {} (revision {revision})", task.schedule),
    };
    let cause = match Cause::parse(&task.cause).unwrap_or_default() {
        Cause::Event => match (&task.occasion.event_id, &task.occasion.event_type) {
            (Some(id), Some(kind)) => format!("the event {id} ({kind}) triggered {schedule}"),
            (None, Some(kind)) => format!("an event ({kind}) triggered {schedule}"),
            _ => format!("an event triggered {schedule}"),
        },
        Cause::OnTime => format!("the clock started {schedule} at {}", task.scheduled_for),
        Cause::CatchUp => format!(
            "the clock started {schedule} for {}, which had gone by",
            task.scheduled_for
        ),
        Cause::Backfill => format!(
            "somebody asked for a backfill of {schedule}, for {}",
            task.scheduled_for
        ),
        Cause::Manual => match &task.request_id {
            Some(id) => format!("somebody asked for {schedule} with the request {id}"),
            None => format!("somebody asked for {schedule}"),
        },
        Cause::Chained => match &task.parent_id {
            Some(parent) => format!("the end of the run {parent} set off {schedule}"),
            None => format!("an end set off {schedule}"),
        },
        Cause::Retry => match redriven_from {
            Some(from) => format!("somebody had the task {from} made anew"),
            None => format!("somebody had a task of {schedule} made anew"),
        },
    };
    told.exists.push(format!("{cause}, at {}", task.created_at));
    let inputs = match task.inputs.as_slice() {
        [] => "without an input".to_owned(),
        [one] => format!("on {one}"),
        [first, rest @ ..] => format!("on {first} and {} more", rest.len()),
    };
    told.exists.push(format!(
        "the schedule selects the plugin {}, and all gates were passed then {inputs}: it is of the run {}",
        task.plugin_id,
        run_name(&task.schedule, &task.run_id)
    ));
}

/// Why it is to wait for an instant.
fn why_later(catalogue: &Catalogue, task: &TaskRecord, attempt: Option<&AttemptRecord>) -> String {
    let Some(attempt) = attempt else {
        let spread = catalogue
            .scheduled(&task.schedule_id)
            .map(|scheduled| scheduled.schedule.spread)
            .filter(|spread| spread.micros() > 0);
        return match spread {
            Some(spread) => format!("it waits for its place in the spread of {spread}"),
            None => "it is to wait for an instant".to_owned(),
        };
    };
    format!(
        "{}; it waits before it is offered again",
        last_attempt(attempt)
    )
}

/// How the last attempt ended.
fn last_attempt(attempt: &AttemptRecord) -> String {
    let by = attempt
        .worker
        .as_ref()
        .map_or(String::new(), |worker| format!(" by {worker}"));
    let why = match &attempt.message {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    };
    format!(
        "attempt {} ended{by}: {}{why}",
        attempt.number,
        attempt.outcome.as_deref().unwrap_or("open")
    )
}

fn of_offered(task: &TaskRecord, attempt: Option<&AttemptRecord>, now: Moment, told: &mut Told) {
    let Some(attempt) = attempt else {
        return told.stand("offered", "a replica has claimed it");
    };
    match (attempt.published_at, attempt.claimed_until) {
        (Some(at), _) => told.stand(
            "offered",
            format!(
                "attempt {} is in {} since {at}, and no worker has accepted it",
                attempt.number, task.queue
            ),
        ),
        (None, until) => {
            let why = match &attempt.message {
                Some(why) => format!("it could not be published: {why}"),
                None => format!(
                    "attempt {} was claimed at {} and the broker has not confirmed it",
                    attempt.number, attempt.offered_at
                ),
            };
            let kind = if attempt.message.is_some() {
                "unpublished"
            } else {
                "claimed"
            };
            told.until(
                kind,
                until.filter(|until| *until > now),
                format!("{why}; after that it is published again"),
            );
        }
    }
}

fn of_running(attempt: Option<&AttemptRecord>, told: &mut Told) {
    let Some(attempt) = attempt else { return };
    let since = attempt
        .accepted_at
        .or(attempt.published_at)
        .unwrap_or(attempt.offered_at);
    let who = attempt.worker.as_deref().unwrap_or("a worker");
    told.stand(
        "running",
        format!("{who} has it since {since}, as attempt {}", attempt.number),
    );
    let far = match (attempt.done, attempt.total) {
        (Some(done), Some(total)) => format!("{done} of {total} done"),
        (Some(done), None) => format!("{done} done"),
        _ => String::new(),
    };
    let parts: Vec<String> = [
        attempt.stage.clone().unwrap_or_default(),
        far,
        attempt
            .beat_at
            .map_or(String::new(), |at| format!("last heard at {at}")),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect();
    if !parts.is_empty() {
        told.stand("progress", parts.join(", "));
    }
}

fn of_ended(
    task: &TaskRecord,
    attempt: Option<&AttemptRecord>,
    redriven_as: Option<&str>,
    told: &mut Told,
) {
    let at = task
        .finished_at
        .map_or(String::new(), |at| format!(" at {at}"));
    let why = match &task.reason {
        Some(reason) => format!(": {}", reason_words(reason)),
        None => String::new(),
    };
    told.stand("ended", format!("it ended{at}, {}{why}", task.state));
    if let Some(attempt) = attempt.filter(|attempt| attempt.outcome.is_some()) {
        told.stand("attempt", last_attempt(attempt));
    }
    if let Some(run) = redriven_as {
        told.stand("made_anew", format!("it was made anew in the run {run}"));
    }
}

/// What the reason of a task means; a worker's own words stay as they are.
fn reason_words(reason: &str) -> &str {
    match reason {
        "object_deleted" => "its object was deleted",
        "level_lowered" => "the scan level of its object was lowered below what the plugin needs",
        "reason_gone" => "when its turn came it no longer passed its gates",
        "never_again" => "a worker asked never to be given this input again",
        "out_of_attempts" => "all its attempts failed",
        "timed_out" => "its last attempt took too long",
        "silent" => "its last worker fell silent",
        "expired" => "its time was over",
        "too_large" => "its message is larger than the bus carries",
        "cancelled" => "somebody cancelled it",
        other => other,
    }
}

fn of_key(key: &Key) -> Value {
    match key {
        Key::Plugin(plugin) => json!({"plugin": plugin}),
        Key::Organization(organization) => json!({"organization": organization}),
        Key::Both(plugin, organization) => json!({"plugin": plugin, "organization": organization}),
    }
}

fn rate_words((many, within): (i64, crate::moment::Span)) -> String {
    format!("{many}/{within}")
}

fn limit_words(standing: &LimitNow, theirs: bool) -> String {
    let of = match &standing.key {
        Key::Plugin(plugin) => plugin.clone(),
        Key::Organization(organization) => organization.clone(),
        Key::Both(plugin, organization) => format!("{plugin} for {organization}"),
    };
    let Limit {
        concurrency, rate, ..
    } = &standing.limit;
    let mut words = Vec::new();
    if let Some(most) = concurrency {
        words.push(if theirs {
            format!("no more than {most} at once")
        } else {
            format!(
                "{} of {most} at once are under way",
                standing.used.under_way
            )
        });
    }
    if let Some(rate) = rate {
        let rate = rate_words(*rate);
        words.push(if theirs {
            format!("no more than {rate}")
        } else {
            format!("{rate}, and {} are offered", standing.used.offered)
        });
    }
    let when = match standing.next {
        Some(_) => "",
        None => "; it frees when one of these ends or is accepted",
    };
    format!("the limit of {of} is reached: {}{when}", words.join("; "))
}

fn many(count: i64) -> String {
    if count >= Place::MOST {
        format!("{count} or more")
    } else {
        count.to_string()
    }
}

fn class_word(class: i64) -> &'static str {
    let at = usize::try_from(class).unwrap_or(usize::MAX);
    CLASSES.get(at).copied().unwrap_or("recurring")
}

fn rank_word(rank: Rank) -> &'static str {
    match rank {
        Rank::Fifo => "the first made goes first",
        Rank::Age => "what ran longest ago goes first",
        Rank::Deadline => "what expires first goes first",
    }
}

fn as_json(task: &TaskRecord, told: &Told) -> Value {
    let stands: Vec<Value> = told
        .stands
        .iter()
        .map(|stand| {
            json!({
                "kind": stand.kind, "says": stand.says,
                "until": stand.until.map(|at| at.to_string()),
            })
        })
        .collect();
    let clocks: Vec<Value> = told
        .clocks
        .iter()
        .map(|(clock, at, then)| json!({"clock": clock, "at": at.to_string(), "then": then}))
        .collect();
    json!({
        "task": {
            "id": task.id, "organization": task.organization, "plugin_id": task.plugin_id, "state": task.state,
            "reason": task.reason, "queue": task.queue, "worker_type": task.worker_type, "attempt": task.attempt,
            "spent": task.spent, "declines": task.declines, "inputs": task.inputs, "run_id": task.run_id,
            "schedule": task.schedule, "schedule_revision": task.schedule_revision, "cause": task.cause,
            "event_id": task.occasion.event_id, "created_at": task.created_at.to_string(),
            "scheduled_for": task.scheduled_for.to_string(),
            "not_before": task.not_before.map(|at| at.to_string()),
            "finished_at": task.finished_at.map(|at| at.to_string()),
        },
        "exists_because": told.exists, "stands": stands, "clocks": clocks,
    })
}
