//! The decision: a change, an instant or a page of inputs goes in, a [`Plan`] comes out.
//!
//! Nothing here reads a clock, a database or chance: what is known comes in as [`World`], time as a [`Moment`],
//! ids from a seed. `explain` walks the same functions and throws the plan away, so it cannot disagree.

mod asked;
mod beyond;
mod chained;
mod clock;
mod joined;
mod page;
mod seen;
mod shared;
mod touched;
mod turn;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalogue::{Catalogue, Keys, Known, Missing};
use crate::moment::{Moment, Span};
use crate::object::{FILE, Object, ObjectKey, Operation, Told, merge};
use crate::plugin::Plugin;
use crate::policy::{Envelope, LevelGate};
use crate::query::{Facts, Fields, Query};
use crate::rank::{Ranked, rank};
use crate::run::{Cause, Gap, Occasion, Reason, RunDraft, Turn};
use crate::schedule::{CompleteWhen, Input, Missed, Organization, timeouts};
use crate::task::{
    Ids, InputDraft, TaskDraft, TaskState, digest, digest_of_all, key_of_all, stable_number,
    unique_key,
};
use crate::trigger::Scheduled;
use crate::trigger::{Room, Tally, Untouched};

pub use asked::{again, begin, request};
pub use chained::{End, EndOf, chained};
pub use clock::{AHEAD, Due, Passed, due};
pub use page::{Carried, Inputs, asks_for_ends, page};
pub use shared::{Sharing, sharing};
pub use turn::{InTheWay, Scope, scope_of};

use touched::trigger;

/// What is known before a decision, of the objects that it may touch. The decision keeps it up to date, so that
/// the changes of one batch see each other.
#[derive(Debug, Default)]
pub struct World {
    pub objects: HashMap<ObjectKey, Object>,
    /// Tasks that have not ended, by input; by an empty primary key where they take none.
    pub open: HashMap<ObjectKey, Vec<OpenInput>>,
    /// When the last executed task with a unique key ended.
    pub ended: HashMap<String, Ended>,
    /// Unique keys that a worker asked never to be given again, until when.
    pub suppressed: HashMap<String, Option<Moment>>,
    /// By primary key: the organisations that have such an object, where tasks are shared.
    pub fellows: HashMap<String, BTreeSet<String>>,
    /// Who holds which scope.
    pub scopes: HashMap<String, Scope>,
    /// Scopes that were asked for and not known: gather them and decide again.
    pub unseen: BTreeSet<String>,
    /// By organisation: what `when` asks beyond the objects above. What is missing there is noted there.
    pub beyond: HashMap<String, Known>,
}

impl World {
    /// The keys of one organisation's objects that are known here, and so as they are by now.
    pub fn keys_of(&self, organization: &str) -> Keys {
        let here = self.objects.keys();
        let here = here.filter(|key| key.organization == organization);
        here.map(|key| key.primary_key.clone()).collect()
    }

    /// What a decision asked and did not know; it is to be fetched and decided again.
    pub fn missing(&self) -> Vec<(String, Missing)> {
        let mut missing: Vec<(String, Missing)> = self
            .beyond
            .iter()
            .map(|(organization, known)| (organization.clone(), known.missing()))
            .filter(|(_, missing)| !missing.is_empty())
            .collect();
        missing.sort_by(|a, b| a.0.cmp(&b.0));
        missing
    }
}

/// One input of a task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenInput {
    pub unique_key: String,
    pub task_id: String,
    pub plugin_id: String,
    pub run_id: String,
    pub running: bool,
    /// Nobody has been offered it.
    pub queued: bool,
    /// It shares the outcome of another one.
    pub waiting: bool,
    /// Nobody in its own organisation has asked for it yet.
    pub on_behalf: bool,
    pub priority: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: Moment,
    pub digest: String,
}

/// What is to be stored, all of it or nothing.
#[derive(Debug, Default)]
pub struct Plan {
    /// Entries of the world that differ from what was stored.
    pub changed: Vec<ObjectKey>,
    /// What became of objects whose history is kept, in the order in which it did.
    pub versions: Vec<Lived>,
    pub organizations: Vec<Organization>,
    pub runs: Vec<RunDraft>,
    /// Stored runs that waited and whose turn has come.
    pub started: Vec<RunDraft>,
    /// Instants that did not run.
    pub gaps: Vec<Gap>,
    /// Runs that waited and lost their place, with the ones that took it.
    pub superseded: Vec<(String, String)>,
    /// Runs that are to end because a newer one replaces them, with that.
    pub replaced: Vec<(String, String)>,
    pub tasks: Vec<TaskDraft>,
    /// The runs above that were made because another organisation has one, by organisation and plugin.
    pub on_behalf: BTreeMap<(String, String), usize>,
    /// Waiting tasks that become part of another run, because a person or their own organisation asked for them.
    pub adopted: Vec<Adoption>,
    /// What a worker never wanted again and a person does.
    pub wanted_again: Vec<String>,
    /// Stored tasks that lost their reason.
    pub withdrawn: Vec<Withdrawal>,
    /// Open tasks that a duplicate made more urgent.
    pub urgent: Vec<(String, i64)>,
    /// Candidates that got nothing, by reason.
    pub refused: HashMap<Reason, u64>,
    pub late: u64,
    pub unchanged: u64,
    /// What finding the schedules of changes took, and of how many changes.
    pub looked: Tally,
    pub triggers: u64,
    /// Some of these changes, for the index to learn from.
    pub samples: Vec<(Object, Vec<Operation>)>,
    /// For looking schedules up, used again for each change.
    pub room: Room,
    /// Where it is there: what was found of those schedules that a change touches.
    pub traced: Option<Vec<Finding>>,
}

/// An object is different from now on, or gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Lived {
    pub key: ObjectKey,
    pub as_it_was: Option<Object>,
    pub as_it_is: Option<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    pub task_id: String,
    pub from: String,
    pub run_id: String,
    pub cause: Cause,
    pub priority: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    pub task_id: String,
    pub unique_key: String,
    pub key: ObjectKey,
    pub reason: &'static str,
}

/// What was found for one schedule; only who explains or replays asks for it.
#[derive(Debug)]
pub struct Finding {
    /// Its id: organisations may have schedules of one name.
    pub schedule_id: String,
    pub schedule: String,
    pub outcome: FindingOutcome,
}

#[derive(Debug)]
pub enum FindingOutcome {
    Untouched(Untouched),
    /// Inputs will be looked for in the inventory.
    Expands,
    /// Another run of its scope has not ended: it waits, or does not run.
    Overlaps(Turn),
    Considered(Vec<(String, Result<String, Refusal>)>),
}

/// A candidate that got no task: the gate, and in words what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: String,
}

/// A message that cannot be made part of the state; it becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    pub reason: &'static str,
    pub message: String,
}

/// Everything that one decision needs beside the world.
pub struct Desk<'a> {
    pub catalogue: &'a Catalogue,
    pub now: Moment,
    pub ids: &'a mut Ids,
    pub plan: &'a mut Plan,
    /// Filled where somebody wants to know why.
    pub findings: Option<&'a mut Vec<Finding>>,
}

/// A change becomes part of the world, and what it triggers part of the plan; answers with what it did to its object.
pub fn change(
    desk: &mut Desk<'_>,
    world: &mut World,
    told: &Told,
) -> Result<Vec<Operation>, Impossible> {
    let key = &told.change.key;
    let catalogue = desk.catalogue;
    let organization = match catalogue.organizations.get(&key.organization) {
        Some(known) => Cow::Borrowed(known),
        None => match desk
            .plan
            .organizations
            .iter()
            .find(|new| new.id == key.organization)
        {
            Some(new) => Cow::Owned(new.clone()),
            None if catalogue.rules.open_organizations => {
                let new = Organization::unknown(&key.organization);
                desk.plan.organizations.push(new.clone());
                Cow::Owned(new)
            }
            None => {
                return Err(Impossible {
                    reason: "unknown_organization",
                    message: format!(
                        "organization `{}` is not declared, and open_organizations is false",
                        key.organization
                    ),
                });
            }
        },
    };
    let object = world.objects.entry(key.clone()).or_insert_with(|| Object {
        key: key.clone(),
        ..Object::default()
    });
    // The state before is needed by `previous.`, and as the last known state of what is deleted.
    let before = object.live().then(|| object.clone());
    let merged = merge(object, &told.change).map_err(|other| Impossible {
        reason: "other_type",
        message: format!("data.object_type: {other}"),
    })?;
    if merged.changed {
        desk.plan.changed.push(key.clone());
        if catalogue.historied.contains(&object.object_type) {
            let as_it_is = object.live().then(|| object.clone());
            let differs = match (&before, &as_it_is) {
                (Some(before), Some(after)) => !before.looks_like(after),
                (before, after) => before.is_some() != after.is_some(),
            };
            if differs {
                desk.plan.versions.push(Lived {
                    key: key.clone(),
                    as_it_was: before.clone(),
                    as_it_is,
                });
            }
        }
    }
    if merged.late {
        desk.plan.late += 1;
    }
    if catalogue.rules.shares() {
        let fellows = world.fellows.entry(key.primary_key.clone()).or_default();
        fellows.insert(key.organization.clone());
    }
    let subject = match (&before, merged.operations.contains(&Operation::Deleted)) {
        (Some(before), true) => before.clone(),
        _ => object.clone(),
    };
    if merged.withdraws {
        withdraw(
            desk,
            world,
            &subject,
            merged.operations.contains(&Operation::Deleted),
        );
    }
    if merged.operations.is_empty() || subject.failed() {
        desk.plan.unchanged += u64::from(merged.operations.is_empty());
        return Ok(merged.operations);
    }
    trigger(
        desk,
        world,
        told,
        &organization,
        &subject,
        before.as_ref(),
        &merged.operations,
    );
    Ok(merged.operations)
}

fn note(desk: &mut Desk<'_>, scheduled: &Scheduled, outcome: FindingOutcome) {
    let traced = desk.plan.traced.as_mut();
    if let Some(findings) = desk.findings.as_deref_mut().or(traced) {
        findings.push(Finding {
            schedule_id: scheduled.schedule.id.clone(),
            schedule: scheduled.schedule.name.clone(),
            outcome,
        });
    }
}

/// An occurrence of the clock for one organisation: a run that expands, or tasks without input.
pub fn occurrence(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    cause: Cause,
    nominal: Moment,
) {
    let schedule = &scheduled.schedule;
    let mut run = open_run(desk, scheduled, &organization.id, cause, nominal);
    let in_line =
        cause == Cause::Backfill || (cause == Cause::CatchUp && schedule.missed == Missed::All);
    run.line = in_line.then(|| crate::run::scope(&schedule.id, &organization.id, None));
    run.expands = matches!(schedule.input, Input::Selected(_));
    if !run.expands {
        run.target.clone_from(&schedule.target);
    }
    let aside = turn::take_turn(desk, world, scheduled, &mut run);
    if matches!(run.turn, Turn::Now { .. }) {
        asked::make(desk, world, scheduled, organization, &mut run);
    }
    turn::push(desk, world, run, aside);
}

fn open_run(
    desk: &mut Desk<'_>,
    scheduled: &Scheduled,
    organization: &str,
    cause: Cause,
    nominal: Moment,
) -> RunDraft {
    RunDraft {
        id: desk.ids.next(desk.now),
        schedule_id: scheduled.schedule.id.clone(),
        schedule: scheduled.schedule.name.clone(),
        schedule_revision: scheduled.schedule.revision,
        organization: organization.to_owned(),
        cause,
        scheduled_for: nominal,
        created_at: desk.now,
        with_descendants: scheduled.schedule.complete_when == CompleteWhen::Descendants,
        occasion: Occasion {
            joined: !scheduled.schedule.join.is_empty(),
            ..Occasion::default()
        },
        ..RunDraft::default()
    }
}

/// A candidate of a run got nothing.
fn count_refusal(desk: &mut Desk<'_>, run: &mut RunDraft, reason: Reason) {
    *desk.plan.refused.entry(reason).or_default() += 1;
    match run.refused.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += 1,
        None => run.refused.push((reason, 1)),
    }
}

/// Takes every plugin that the schedule selects through the gates, and makes its task on all of the inputs.
#[allow(clippy::too_many_arguments)] // the parties to one decision
fn consider(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    run: &mut RunDraft,
    inputs: &[&Object],
    operations: &[Operation],
    considered: &mut Vec<(String, Result<String, Refusal>)>,
) {
    let explaining = desk.findings.is_some() || desk.plan.traced.is_some();
    for plugin in scheduled.selected.iter() {
        let outcome = consider_one(
            desk,
            world,
            scheduled,
            organization,
            run,
            plugin,
            inputs,
            operations,
        );
        if explaining {
            considered.push((plugin.plugin_id.clone(), outcome));
        }
    }
}

/// Takes one plugin through the gates and makes its task, or counts why not.
#[allow(clippy::too_many_arguments)] // the parties to one decision
fn consider_one(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    run: &mut RunDraft,
    plugin: &Arc<Plugin>,
    inputs: &[&Object],
    operations: &[Operation],
) -> Result<String, Refusal> {
    let catalogue = desk.catalogue;
    let each = |gate: &dyn Fn(Option<&Object>) -> Result<(), Refusal>| match inputs {
        [] => gate(None),
        inputs => inputs.iter().try_for_each(|input| gate(Some(input))),
    };
    let outcome = each(&|input| takes(catalogue, plugin, organization, input))
        .and_then(|()| takes_together(catalogue, plugin, inputs))
        .and_then(|()| recurs(plugin, scheduled, run.cause))
        .and_then(|()| each(&|input| permits(catalogue, plugin, organization, input, operations)))
        .and_then(|()| claim(desk, world, scheduled, run, plugin, inputs));
    if let Err(refusal) = &outcome {
        count_refusal(desk, run, refusal.reason);
    }
    outcome
}

fn refuse<T>(reason: Reason, detail: impl FnOnce() -> String) -> Result<T, Refusal> {
    Err(Refusal {
        reason,
        detail: detail(),
    })
}

/// OpenKAT's envelope has a place for one input.
fn takes_together(
    catalogue: &Catalogue,
    plugin: &Plugin,
    inputs: &[&Object],
) -> Result<(), Refusal> {
    let one = catalogue.rules.worker(&plugin.worker_type).format == Envelope::Openkat;
    if inputs.len() < 2 || !one {
        return Ok(());
    }
    refuse(Reason::TypeNotTaken, || {
        format!(
            "workers.{} has format openkat, whose tasks have one input each",
            plugin.worker_type
        )
    })
}

/// A plugin that says on which operations it runs is not for the clock, unless it brought the clock along itself.
fn recurs(plugin: &Plugin, scheduled: &Scheduled, cause: Cause) -> Result<(), Refusal> {
    let clocked = matches!(cause, Cause::OnTime | Cause::CatchUp | Cause::Backfill);
    if !clocked || plugin.recurs() || scheduled.schedule.of_plugin() {
        return Ok(());
    }
    refuse(Reason::NotRunOn, || {
        let allowed: Vec<&str> = plugin.run_on.iter().flatten().map(|op| op.word()).collect();
        format!(
            "its run_on is [{}], so it does not recur",
            allowed.join(", ")
        )
    })
}

/// What a plugin takes, for people.
fn taken(plugin: &Plugin) -> String {
    match (plugin.consumes.as_slice(), plugin.input_types.as_slice()) {
        ([], []) => "no input".to_owned(),
        ([], types) => types.join(", "),
        (consumes, _) => consumes.join(", "),
    }
}

/// The gates, in their order. Also asked again when a task is offered.
pub fn gates(
    catalogue: &Catalogue,
    plugin: &Plugin,
    organization: &Organization,
    input: Option<&Object>,
    operations: &[Operation],
) -> Result<(), Refusal> {
    takes(catalogue, plugin, organization, input)?;
    permits(catalogue, plugin, organization, input, operations)
}

/// The first gates: enabled, and the type of the input.
fn takes(
    catalogue: &Catalogue,
    plugin: &Plugin,
    organization: &Organization,
    input: Option<&Object>,
) -> Result<(), Refusal> {
    if !organization.enabled {
        return refuse(Reason::Disabled, || {
            format!("organization.enabled = False for {}", organization.id)
        });
    }
    if !plugin.enabled_for(&organization.id) {
        return refuse(Reason::Disabled, || {
            format!("enabled = False for {}", organization.id)
        });
    }
    match input {
        None if !plugin.runs_without_input() => {
            return refuse(Reason::NoInput, || format!("it takes {}", taken(plugin)));
        }
        Some(object) if !catalogue.takes(plugin, object, &object.mime_types()) => {
            return refuse(Reason::TypeNotTaken, || {
                format!(
                    "it takes {}; this is {}",
                    taken(plugin),
                    match object.object_type.as_str() {
                        FILE => format!("a file of {}", object.mime_types().join(", ")),
                        other => format!("a {other}"),
                    }
                )
            });
        }
        _ => {}
    }
    Ok(())
}

/// The other gates: operation, indemnification, the input itself, its level.
fn permits(
    catalogue: &Catalogue,
    plugin: &Plugin,
    organization: &Organization,
    input: Option<&Object>,
    operations: &[Operation],
) -> Result<(), Refusal> {
    let worker = catalogue.rules.worker(&plugin.worker_type);
    if !operations.is_empty()
        && !operations
            .iter()
            .any(|operation| plugin.runs_on(*operation))
    {
        return refuse(Reason::NotRunOn, || {
            let allowed: Vec<&str> = plugin.run_on.iter().flatten().map(|op| op.word()).collect();
            format!("its run_on is [{}]", allowed.join(", "))
        });
    }
    if worker.requires_indemnification && !organization.indemnified {
        return refuse(Reason::NotIndemnified, || {
            format!("{} has not signed", organization.id)
        });
    }
    if let Some(object) = input {
        if object.key.organization != organization.id {
            return refuse(Reason::OtherOrganization, || {
                format!("it belongs to {}", object.key.organization)
            });
        }
        if !object.live() && !operations.contains(&Operation::Deleted) {
            return refuse(Reason::Deleted, || object.key.primary_key.clone());
        }
    }
    level_gate(plugin, &worker, input)
}

fn level_gate(
    plugin: &Plugin,
    worker: &crate::policy::WorkerSettings,
    input: Option<&Object>,
) -> Result<(), Refusal> {
    if input.is_some_and(|object| object.object_type == FILE) {
        return Ok(());
    }
    if plugin.scan_level.is_none() && worker.level_gate == LevelGate::Required {
        return refuse(Reason::NoPluginLevel, || {
            format!("worker type {} requires a scan_level", plugin.worker_type)
        });
    }
    let Some(object) = input else { return Ok(()) };
    let minimum = worker.minimum_scan_level;
    let needed = match plugin.scan_level {
        None if minimum == 0 => return Ok(()),
        level => level.unwrap_or(0).max(minimum),
    };
    match object.level {
        None => refuse(Reason::NoObjectLevel, || "scan_level = None".to_owned()),
        Some(level) if level < needed => refuse(Reason::LevelTooLow, || {
            if plugin.scan_level.unwrap_or(0) < minimum {
                format!("scan_level = {level}, minimum_scan_level = {minimum}")
            } else {
                format!("scan_level = {level}, the plugin's is {needed}")
            }
        }),
        Some(_) => Ok(()),
    }
}

/// Unique keys, what was suppressed, grace; then the task. Several inputs belong together, under one key.
fn claim(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    run: &mut RunDraft,
    plugin: &Arc<Plugin>,
    inputs: &[&Object],
) -> Result<String, Refusal> {
    let catalogue = desk.catalogue;
    let schedule = &scheduled.schedule;
    let organization = run.organization.clone();
    let allow = matches!(schedule.overlap, crate::schedule::Overlap::Allow);
    let unique = unique_key(
        &organization,
        &plugin.plugin_id,
        key_of_all(inputs.iter().map(|input| input.key.primary_key.as_str())).as_deref(),
        // What makes two tasks the same are the parameters of the request; a schedule's own are not that.
        &run.asked.parameters,
        allow.then_some(run.id.as_str()),
    );
    let priority = schedule.priority.unwrap_or(match run.cause.class() {
        0 => 1,
        1 => 2,
        _ => 3,
    });
    let slots: Vec<ObjectKey> = match inputs {
        [] => vec![ObjectKey {
            organization: organization.clone(),
            primary_key: String::new(),
        }],
        inputs => inputs.iter().map(|input| input.key.clone()).collect(),
    };
    // A person passes what a worker said and the grace; what goes in a line passes the grace.
    let manual = run.cause == Cause::Manual;
    let by_hand = manual || run.cause == Cause::Retry;
    if by_hand && world.suppressed.contains_key(&unique) {
        desk.plan.wanted_again.push(unique.clone());
    } else if let Some(until) = world.suppressed.get(&unique)
        && until.is_none_or(|until| until > desk.now)
    {
        return refuse(Reason::Suppressed, || match until {
            None => "for ever".to_owned(),
            Some(until) => format!("until {until}"),
        });
    }
    let held = slots.iter().find(|slot| {
        let open = world.open.get(*slot);
        open.is_some_and(|open| open.iter().any(|open| open.unique_key == unique))
    });
    let open = held.and_then(|slot| world.open.get_mut(slot));
    let mut open = open.into_iter().flatten();
    if let Some(winner) = open.find(|open| open.unique_key == unique) {
        let free = winner.queued || winner.waiting;
        if free && (manual || winner.on_behalf) && winner.run_id != run.id {
            shared::adopt(desk.plan, winner, run, priority);
            return Ok(winner.task_id.clone());
        }
        if run.blocked_by.is_none() {
            run.blocked_by = Some(winner.run_id.clone());
        }
        if priority < winner.priority && !winner.running {
            winner.priority = priority;
            desk.plan.urgent.push((winner.task_id.clone(), priority));
        }
        return refuse(Reason::Duplicate, || {
            format!("task {} is open", winner.task_id)
        });
    }
    let seen = digest_of_all(inputs.iter().map(|input| {
        let ignored = catalogue.rules.ignored(&input.object_type);
        (
            input.key.primary_key.as_str(),
            digest(&input.attributes, ignored),
        )
    }));
    let grace = grace(catalogue, scheduled, plugin, run.cause);
    if let Some(ended) = world.ended.get(&unique)
        && !by_hand
        && run.line.is_none()
        && ended.at.plus(grace) > desk.now
        && ended.digest == seen
    {
        return refuse(Reason::InGrace, || {
            format!("the last ended at {}, grace is {grace}", ended.at)
        });
    }
    let id = desk.ids.next(desk.now);
    for slot in slots {
        world.open.entry(slot).or_default().push(OpenInput {
            unique_key: unique.clone(),
            task_id: id.clone(),
            plugin_id: plugin.plugin_id.clone(),
            run_id: run.id.clone(),
            running: false,
            // What this plan makes cannot be adopted before it is stored.
            queued: false,
            waiting: false,
            on_behalf: false,
            priority,
        });
    }
    run.total += 1;
    let mut parameters = schedule.parameters.clone();
    parameters.extend(run.asked.parameters.clone());
    let clocks = timeouts(
        &plugin.timeouts,
        &schedule.timeouts,
        &catalogue.rules.defaults,
    );
    let expires_at = desk.now.plus(clocks.task);
    let ended = world.ended.get(&unique);
    let ranked = Ranked {
        created_at: desk.now,
        grace_ended: ended.map(|ended| ended.at.plus(grace)),
        expires_at,
        scan_level: inputs.first().and_then(|object| object.level),
    };
    let rank = rank(catalogue.rules.worker(&plugin.worker_type).rank, &ranked);
    // What is made of several objects together is nobody else's.
    let alone = match inputs {
        [one] => Some(*one),
        _ => None,
    };
    let share = shared::key(catalogue, scheduled, run, plugin, alone, &seen);
    desk.plan.tasks.push(TaskDraft {
        id: id.clone(),
        run_id: run.id.clone(),
        organization,
        plugin_id: plugin.plugin_id.clone(),
        worker_type: plugin.worker_type.clone(),
        queue: catalogue.queue_for(plugin),
        cause: run.cause,
        priority,
        created_at: desk.now,
        not_before: spread(scheduled, run, &unique),
        scheduled_for: run.scheduled_for,
        inputs: inputs
            .iter()
            .map(|object| InputDraft {
                object_type: object.object_type.clone(),
                primary_key: object.key.primary_key.clone(),
                unique_key: unique.clone(),
                digest: seen.clone(),
            })
            .collect(),
        unique_key: unique,
        graced: !allow,
        parameters,
        expires_at,
        rank,
        state: TaskState::Queued,
        deduplication_key: share.clone(),
        waits: !by_hand,
        on_behalf: false,
    });
    if let (Some(key), Some(object)) = (share, alone) {
        shared::on_behalf(desk, world, scheduled, run, plugin, &object.key, &key);
    }
    Ok(id)
}

fn digest_of(catalogue: &Catalogue, object: &Object) -> String {
    let ignored = catalogue.rules.ignored(&object.object_type);
    digest(&object.attributes, ignored)
}

/// How long the last end of a task keeps the next one away: the plugin's own word, else the schedule's, and the configured
/// one for events alone.
fn grace(catalogue: &Catalogue, scheduled: &Scheduled, plugin: &Plugin, cause: Cause) -> Span {
    let from_event = cause == Cause::Event;
    plugin
        .grace
        .or(scheduled.schedule.grace)
        .or(from_event.then_some(catalogue.rules.defaults.grace))
        .unwrap_or(Span::ZERO)
}

/// When a task may begin at the earliest, where its schedule spreads those of the clock and of the inventory: by a stable
/// hash of schedule and input, so the same input comes at the same offset each time.
fn spread(scheduled: &Scheduled, run: &RunDraft, unique_key: &str) -> Option<Moment> {
    let window = scheduled.schedule.spread.micros();
    let clocked = match run.cause {
        Cause::OnTime | Cause::CatchUp => true,
        Cause::Event | Cause::Chained => run.expands,
        Cause::Manual | Cause::Backfill | Cause::Retry => false,
    };
    if window <= 0 || !clocked {
        return None;
    }
    let offset = stable_number(&scheduled.schedule.id, unique_key) % window;
    Some(run.scheduled_for.plus(Span::from_micros(offset)))
}

/// What waits for an object that went, or whose level no longer permits it, is not to run.
fn withdraw(desk: &mut Desk<'_>, world: &mut World, object: &Object, gone: bool) {
    let Some(open) = world.open.get_mut(&object.key) else {
        return;
    };
    let catalogue = desk.catalogue;
    let plan = &mut *desk.plan;
    let mut lost: Vec<String> = Vec::new();
    open.retain(|entry| {
        let keeps = entry.running
            || (!gone
                && catalogue
                    .plugins
                    .get(&entry.plugin_id)
                    .is_some_and(|plugin| {
                        level_gate(
                            plugin,
                            &catalogue.rules.worker(&plugin.worker_type),
                            Some(object),
                        )
                        .is_ok()
                    }));
        if !keeps {
            let reason = if gone {
                "object_deleted"
            } else {
                "level_lowered"
            };
            lost.push(entry.unique_key.clone());
            match plan
                .tasks
                .iter_mut()
                .find(|draft| draft.id == entry.task_id)
            {
                Some(draft) => draft.state = TaskState::Withdrawn,
                None => plan.withdrawn.push(Withdrawal {
                    task_id: entry.task_id.clone(),
                    unique_key: entry.unique_key.clone(),
                    key: object.key.clone(),
                    reason,
                }),
            }
        }
        keeps
    });
    // Files that were joined go together: the others wait for nothing now.
    if object.object_type == FILE && !lost.is_empty() {
        for open in world.open.values_mut() {
            open.retain(|entry| !lost.contains(&entry.unique_key));
        }
    }
}

/// What a query over the inventory may know of an object, for a run and what set it off.
pub fn facts<'a>(
    object: &'a Object,
    run: &'a Occasion,
    parameters: &'a Map<String, Value>,
    now: Moment,
    world: &'a dyn crate::query::World,
) -> Facts<'a> {
    Facts {
        subject: object,
        trigger: run.trigger.as_ref().map(|trigger| trigger as &dyn Fields),
        previous: run
            .previous
            .as_ref()
            .map(|previous| previous as &dyn Fields),
        parameters,
        now,
        world,
    }
}

/// Whether an object of the inventory is selected as an input; `Err` where its query ran out of steps.
pub fn selects(
    query: &Query,
    object: &Object,
    run: &Occasion,
    parameters: &Map<String, Value>,
    now: Moment,
    world: &dyn crate::query::World,
) -> Result<bool, Refusal> {
    let facts = facts(object, run, parameters, now, world);
    query.answers(&facts).map_err(|_| Refusal {
        reason: Reason::QueryTooCostly,
        detail: query.text().to_owned(),
    })
}
