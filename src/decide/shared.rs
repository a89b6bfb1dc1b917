//! One scan for several organisations: who else gets a task of his own when one organisation gets one.
//!
//! Here it is decided who has the same object, the same plugin with equal settings, and gates that permit it. Which task of
//! a key runs and which wait for it is a unique key of the store, as no two replicas may both let theirs run.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::page::batch_size;
use super::{Adoption, Desk, OpenInput, Plan, World, digest_of, gates, grace};
use crate::catalogue::Catalogue;
use crate::object::{Object, ObjectKey};
use crate::plugin::Plugin;
use crate::rank::{Ranked, rank};
use crate::run::{Cause, EndReason, RunDraft, RunState, Turn};
use crate::schedule::{OF_PLUGIN, Organization, Overlap, timeouts};
use crate::task::{InputDraft, TaskDraft, TaskState, deduplication_key, unique_key};
use crate::trigger::Scheduled;

/// Under which key a task shares its outcome; nothing where it shares with nobody: not on one live object, in batches,
/// with a key that is its run's alone, or with parameters that its organisation alone has said.
pub(super) fn key(
    catalogue: &Catalogue,
    scheduled: &Scheduled,
    run: &RunDraft,
    plugin: &Plugin,
    input: Option<&Object>,
    digest: &str,
) -> Option<String> {
    let schedule = &scheduled.schedule;
    let object = input.filter(|object| object.live())?;
    let own_words = !run.asked.parameters.is_empty()
        || (schedule.organization.is_some() && !schedule.parameters.is_empty());
    let shares = catalogue.rules.worker(&plugin.worker_type).share
        && batch_size(catalogue, plugin) == 1
        && schedule.overlap != Overlap::Allow
        && !own_words;
    shares.then(|| key_for(plugin, object, digest, &schedule.parameters))
}

fn key_for(
    plugin: &Plugin,
    object: &Object,
    digest: &str,
    parameters: &Map<String, Value>,
) -> String {
    deduplication_key(
        plugin,
        &object.object_type,
        &object.key.primary_key,
        digest,
        &plugin.settings_for(&object.key.organization),
        parameters,
    )
}

/// Every other organisation that has the same object gets a task of its own, where its own gates permit it.
pub(super) fn on_behalf(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    run: &RunDraft,
    plugin: &Arc<Plugin>,
    object: &ObjectKey,
    key: &str,
) {
    // What people ask for passes over what the plugin says of operations, in their own organisation alone.
    let by_hand = matches!(run.cause, Cause::Manual | Cause::Retry);
    if by_hand && !plugin.recurs() {
        return;
    }
    let Some(fellows) = world.fellows.get(&object.primary_key) else {
        return;
    };
    let others: Vec<String> = fellows
        .iter()
        .filter(|fellow| **fellow != run.organization)
        .cloned()
        .collect();
    let catalogue = desk.catalogue;
    for other in others {
        let known = catalogue.organizations.get(&other).cloned();
        let new = || desk.plan.organizations.iter().find(|new| new.id == other);
        if let Some(organization) = known.or_else(|| new().cloned()) {
            make(
                desk,
                world,
                scheduled,
                run,
                plugin,
                &organization,
                &object.primary_key,
                key,
            );
        }
    }
}

#[allow(clippy::too_many_arguments)] // the parties to one decision
fn make(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    run: &RunDraft,
    plugin: &Arc<Plugin>,
    organization: &Organization,
    primary_key: &str,
    key: &str,
) {
    let (catalogue, schedule) = (desk.catalogue, &scheduled.schedule);
    let slot = ObjectKey {
        organization: organization.id.clone(),
        primary_key: primary_key.to_owned(),
    };
    let Some(object) = world.objects.get(&slot).filter(|object| object.live()) else {
        return;
    };
    let digest = digest_of(catalogue, object);
    let same = key_for(plugin, object, &digest, &schedule.parameters) == key;
    if !same || gates(catalogue, plugin, organization, Some(object), &[]).is_err() {
        return;
    }
    let unique = unique_key(
        &organization.id,
        &plugin.plugin_id,
        Some(primary_key),
        &Map::new(),
        None,
    );
    let suppressed = world
        .suppressed
        .get(&unique)
        .is_some_and(|until| until.is_none_or(|until| until > desk.now));
    let open = world.open.entry(slot).or_default();
    if suppressed || open.iter().any(|open| open.unique_key == unique) {
        return;
    }
    // A schedule of the other organisation alone is nothing to this one: for it, the object brings the task about.
    let for_all = schedule.organization.is_none();
    let graced = match for_all {
        true => grace(catalogue, scheduled, plugin, run.cause),
        false => plugin.grace.unwrap_or(catalogue.rules.defaults.grace),
    };
    let ended = world.ended.get(&unique);
    if ended.is_some_and(|ended| ended.at.plus(graced) > desk.now && ended.digest == digest) {
        return;
    }
    let said = match for_all {
        true => schedule.timeouts,
        false => Default::default(),
    };
    let clocks = timeouts(&plugin.timeouts, &said, &catalogue.rules.defaults);
    let expires_at = desk.now.plus(clocks.task);
    let ranked = Ranked {
        created_at: desk.now,
        grace_ended: ended.map(|ended| ended.at.plus(graced)),
        expires_at,
        scan_level: object.level,
    };
    let priority = schedule.priority.filter(|_| for_all);
    let priority = priority.unwrap_or(if run.cause.class() == 2 { 3 } else { 2 });
    let id = desk.ids.next(desk.now);
    let input = InputDraft {
        object_type: object.object_type.clone(),
        primary_key: primary_key.to_owned(),
        unique_key: unique.clone(),
        digest,
    };
    let run_id = run_for(desk, plugin, &organization.id, primary_key);
    open.push(OpenInput {
        unique_key: unique.clone(),
        task_id: id.clone(),
        plugin_id: plugin.plugin_id.clone(),
        run_id: run_id.clone(),
        running: false,
        queued: false,
        waiting: true,
        on_behalf: true,
        priority,
    });
    desk.plan.tasks.push(TaskDraft {
        id,
        run_id,
        organization: organization.id.clone(),
        plugin_id: plugin.plugin_id.clone(),
        worker_type: plugin.worker_type.clone(),
        queue: catalogue.queue_for(plugin),
        cause: Cause::Event,
        priority,
        created_at: desk.now,
        not_before: None,
        expires_at,
        rank: rank(catalogue.rules.worker(&plugin.worker_type).rank, &ranked),
        scheduled_for: desk.now,
        inputs: vec![input],
        unique_key: unique,
        graced: true,
        parameters: schedule.parameters.clone(),
        state: TaskState::Queued,
        deduplication_key: Some(key.to_owned()),
        waits: true,
        on_behalf: true,
    });
}

/// The run that such tasks of one organisation and plugin belong to. It tells nothing of what set the other's off.
fn run_for(desk: &mut Desk<'_>, plugin: &Plugin, organization: &str, primary_key: &str) -> String {
    let place = (organization.to_owned(), plugin.plugin_id.clone());
    let known = desk.plan.on_behalf.get(&place).copied();
    if let Some(run) = known.and_then(|at| desk.plan.runs.get_mut(at)) {
        run.total += 1;
        run.target = run.target.take().filter(|target| target == primary_key);
        return run.id.clone();
    }
    let schedule = format!("{OF_PLUGIN}{}", plugin.plugin_id);
    let known = desk.catalogue.schedules.get(&schedule);
    let run = RunDraft {
        id: desk.ids.next(desk.now),
        schedule_revision: known.map_or(0, |known| known.schedule.revision),
        schedule_id: schedule.clone(),
        schedule,
        organization: organization.to_owned(),
        cause: Cause::Event,
        scheduled_for: desk.now,
        created_at: desk.now,
        target: Some(primary_key.to_owned()),
        total: 1,
        ..RunDraft::default()
    };
    let id = run.id.clone();
    desk.plan.on_behalf.insert(place, desk.plan.runs.len());
    desk.plan.runs.push(run);
    id
}

/// A task that waits becomes part of a run of its own organisation. Where a person asks for it, it waits no longer for
/// anybody else's.
pub(super) fn adopt(plan: &mut Plan, winner: &mut OpenInput, run: &mut RunDraft, priority: i64) {
    let by_hand = matches!(run.cause, Cause::Manual | Cause::Retry);
    let priority = priority.min(winner.priority);
    let from = std::mem::replace(&mut winner.run_id, run.id.clone());
    winner.priority = priority;
    winner.on_behalf = false;
    winner.waiting &= !by_hand;
    run.total += 1;
    let planned = plan
        .tasks
        .iter_mut()
        .rev()
        .find(|draft| draft.id == winner.task_id);
    let Some(draft) = planned else {
        winner.queued |= by_hand;
        plan.adopted.push(Adoption {
            task_id: winner.task_id.clone(),
            from,
            run_id: run.id.clone(),
            cause: run.cause,
            priority,
        });
        return;
    };
    draft.run_id.clone_from(&run.id);
    draft.cause = run.cause;
    draft.priority = priority;
    draft.scheduled_for = run.scheduled_for;
    draft.waits = !by_hand;
    draft.on_behalf = false;
    if let Some(left) = plan.runs.iter_mut().find(|left| left.id == from) {
        left.total -= 1;
        if left.total == 0 {
            left.blocked_by = Some(run.id.clone());
            left.turn = Turn::Ended(RunState::Skipped, EndReason::Superseded);
        }
    }
}

/// What becomes of a task that waits for another one's outcome, as things are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// It is still the same work.
    Goes,
    /// It is other work by now, and has to be done.
    Ends,
    /// It is not to be done at all.
    Withdrawn,
}

/// Asked from time to time of each task that waits: nobody claims it, so nobody else would see that its gates are shut.
pub fn sharing(
    catalogue: &Catalogue,
    plugin_id: &str,
    organization: &str,
    object: Option<&Object>,
    parameters: &Map<String, Value>,
    key: &str,
) -> Sharing {
    let (Some(plugin), Some(organization), Some(object)) = (
        catalogue.plugins.get(plugin_id),
        catalogue.organizations.get(organization),
        object,
    ) else {
        return Sharing::Withdrawn;
    };
    if gates(catalogue, plugin, organization, Some(object), &[]).is_err() {
        return Sharing::Withdrawn;
    }
    let shares = catalogue.rules.worker(&plugin.worker_type).share;
    let now = key_for(plugin, object, &digest_of(catalogue, object), parameters);
    match shares && now == key {
        true => Sharing::Goes,
        false => Sharing::Ends,
    }
}
