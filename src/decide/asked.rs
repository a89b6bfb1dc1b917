//! What a person asks for, and what waited: their tasks are made by the same gates.

use std::sync::Arc;

use super::joined::joined;
use super::turn::{push, take_turn};
use super::{
    Desk, FindingOutcome, Refusal, World, consider, consider_one, count_refusal, note, open_run,
};
use crate::object::{Object, ObjectKey, Operation};
use crate::plugin::Plugin;
use crate::run::{Asked, Cause, EndReason, Reason, RunDraft, RunState, Turn};
use crate::schedule::{Input, Organization};
use crate::trigger::Scheduled;

/// A manual request becomes a run; answers with its id.
pub fn request(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    asked: &Asked,
) -> String {
    let mut run = open_run(desk, scheduled, &organization.id, Cause::Manual, desk.now);
    run.asked = asked.clone();
    match asked.objects.as_slice() {
        [] if matches!(scheduled.schedule.input, Input::Selected(_)) => run.expands = true,
        [] => run.target.clone_from(&scheduled.schedule.target),
        [one] => run.target = Some(one.clone()),
        _ => {}
    }
    let id = run.id.clone();
    let aside = take_turn(desk, world, scheduled, &mut run);
    if matches!(run.turn, Turn::Now { .. }) {
        make(desk, world, scheduled, organization, &mut run);
    }
    push(desk, world, run, aside);
    id
}

/// A task that ended without success is made anew: the same plugin on the same inputs through the gates as they are now,
/// in a run of its own. Answers with what each input came to; `together`: they were joined, and are one input.
#[allow(clippy::too_many_arguments)] // the parties to one decision
pub fn again(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    plugin: &Arc<Plugin>,
    asked: &Asked,
    together: bool,
) -> (String, Vec<Result<String, Refusal>>) {
    let mut run = open_run(desk, scheduled, &organization.id, Cause::Retry, desk.now);
    run.asked = asked.clone();
    run.occasion.joined = together;
    let id = run.id.clone();
    let mut outcomes = Vec::new();
    let mut found: Vec<Object> = Vec::new();
    for primary_key in &asked.objects {
        let key = ObjectKey {
            organization: organization.id.clone(),
            primary_key: primary_key.clone(),
        };
        match world.objects.get(&key).cloned() {
            Some(object) => found.push(object),
            None => {
                count_refusal(desk, &mut run, Reason::NotFound);
                outcomes.push(Err(Refusal {
                    reason: Reason::NotFound,
                    detail: primary_key.clone(),
                }));
            }
        }
    }
    let found: Vec<&Object> = found.iter().collect();
    let inputs: Vec<&[&Object]> = match (asked.objects.len(), together) {
        (0, _) => vec![&[]],
        // What belongs together is not made anew in part.
        (many, true) if many > found.len() => Vec::new(),
        (_, true) => vec![&found],
        (_, false) => found.chunks(1).collect(),
    };
    for input in inputs {
        outcomes.push(consider_one(
            desk,
            world,
            scheduled,
            organization,
            &mut run,
            plugin,
            input,
            &[],
        ));
    }
    if run.total > 0 {
        desk.plan.runs.push(run);
    }
    (id, outcomes)
}

/// The turn of a run that waited has come: its tasks are made. False where it has to wait on, because tasks of its
/// line still run; then the plan is not to be stored.
pub fn begin(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    mut run: RunDraft,
) -> bool {
    make(desk, world, scheduled, organization, &mut run);
    let blocked = run
        .refused
        .iter()
        .any(|(reason, _)| *reason == Reason::Duplicate);
    if run.line.is_some() && blocked {
        return false;
    }
    desk.plan.started.push(run);
    true
}

/// Makes the tasks of a run whose turn it is, on what it is to run on; what expands finds its inputs later.
pub(super) fn make(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    run: &mut RunDraft,
) {
    if run.expands {
        return;
    }
    if run.occasion.joined {
        make_joined(desk, world, scheduled, organization, run);
        suppressed_whole(run);
        return;
    }
    let mut missing = 0;
    let inputs: Vec<Option<Object>> = match (run.asked.objects.as_slice(), &run.target) {
        ([], None) => vec![None],
        ([], Some(target)) => vec![Some(target.clone())],
        (picked, _) => picked.iter().cloned().map(Some).collect(),
    }
    .into_iter()
    .filter_map(|key| {
        let Some(primary_key) = key else {
            return Some(None);
        };
        let key = ObjectKey {
            organization: organization.id.clone(),
            primary_key,
        };
        let known = world
            .objects
            .get(&key)
            .filter(|object| object.live() || run.occasion.deleted);
        missing += i64::from(known.is_none());
        known.cloned().map(Some)
    })
    .collect();
    for _ in 0..missing {
        count_refusal(desk, run, Reason::NotFound);
    }
    if inputs.is_empty() {
        run.turn = Turn::Ended(RunState::Failed, EndReason::TargetNotFound);
        return;
    }
    let operations: Vec<Operation> = run.occasion.operations.clone();
    for input in &inputs {
        let mut considered = Vec::new();
        consider(
            desk,
            world,
            scheduled,
            organization,
            run,
            input.as_ref().as_slice(),
            &operations,
            &mut considered,
        );
        note(desk, scheduled, FindingOutcome::Considered(considered));
    }
    suppressed_whole(run);
}

/// The same where files are joined: of each object that was picked, or of the target, those that are the newest now.
fn make_joined(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    run: &mut RunDraft,
) {
    let operations = run.occasion.operations.clone();
    let picked = run.asked.objects.iter();
    let own = run.target.iter().filter(|_| run.asked.objects.is_empty());
    let targets: Vec<String> = picked.chain(own).cloned().collect();
    for target in targets {
        match joined(world, &scheduled.schedule, &organization.id, &target) {
            Ok(files) => consider(
                desk,
                world,
                scheduled,
                organization,
                run,
                &files.iter().collect::<Vec<_>>(),
                &operations,
                &mut Vec::new(),
            ),
            Err(refusal) => {
                for _ in scheduled.selected.iter() {
                    count_refusal(desk, run, refusal.reason);
                }
            }
        }
    }
}

/// A run all of whose candidates still run elsewhere does not begin.
fn suppressed_whole(run: &mut RunDraft) {
    let duplicates = run
        .refused
        .iter()
        .any(|(reason, _)| *reason == Reason::Duplicate);
    if run.total == 0 && duplicates && run.line.is_none() {
        run.turn = Turn::Ended(RunState::Skipped, EndReason::Overlap);
    }
}
