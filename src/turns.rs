//! Loop: runs that wait begin when their turn has come.
//!
//! Whoever sees it first makes their tasks; the run begins in the same transaction, if it still waits and nobody holds
//! its scope.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, Plan, World, begin, scope_of};
use crate::ground::{Ground, count_plan, trail};
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::run::{Cause, EndReason, RunDraft, RunState, Turn};
use crate::schedule::Input;
use crate::store::{Commit, Committed, StoreError, Wanted};

/// Runs that one look takes up.
const AT_ONCE: i64 = 200;

/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    ground
        .by_turns("turns", &ground.turns, || step(&ground))
        .await
}

/// Begins all that may; there is no next instant.
pub async fn step(ground: &Ground) -> Result<Option<Moment>, StoreError> {
    while ground.store.some_wait().await? {
        // Of a line one that cannot begin leaves nothing behind, so each is taken up alone.
        let (lined, waiting): (Vec<RunDraft>, Vec<RunDraft>) = ground
            .store
            .ready(AT_ONCE)
            .await?
            .into_iter()
            .partition(|run| run.line.is_some());
        let mut begun = take_up(ground, &waiting).await?;
        let alone = match begun {
            // Where somebody was faster with one of them, the others go on without it.
            0 => [waiting, lined].concat(),
            _ => lined,
        };
        for run in alone {
            begun += take_up(ground, std::slice::from_ref(&run)).await?;
        }
        // What ended at once makes room for the next.
        if begun == 0 || ground.stop.is_cancelled() {
            break;
        }
    }
    Ok(None)
}

/// Runs begin together, or end because they no longer can; answers how many did.
async fn take_up(ground: &Ground, waiting: &[RunDraft]) -> Result<usize, StoreError> {
    if waiting.is_empty() {
        return Ok(0);
    }
    let revision = ground.store.catalogue_revision().await?;
    let catalogue = ground.catalogue_at(revision).await?;
    let mut wanted = Wanted {
        among: catalogue.fellows(),
        ..Wanted::default()
    };
    let mut rests = BTreeMap::new();
    for run in waiting {
        if run.occasion.joined
            && let Some(scheduled) = catalogue.scheduled(&run.schedule_id)
        {
            // Whoever completes a join at the same time sees this run begin, or this run sees that file.
            let mark = ground.store.resting(&run.organization).await?;
            rests.entry(run.organization.clone()).or_insert(mark);
            let targets = run.asked.objects.iter().chain(&run.target);
            let makers = targets.flat_map(|target| scheduled.schedule.makers(target));
            let asked = wanted.files.entry(run.organization.clone());
            asked.or_default().extend(makers);
        }
        let picked = run.asked.objects.iter().chain(&run.target).cloned();
        let keys = picked.chain([String::new()]).map(|primary_key| ObjectKey {
            organization: run.organization.clone(),
            primary_key,
        });
        wanted.keys.extend(keys);
    }
    let mut gathered = ground.store.gather(&wanted).await?;
    let now = ground.clock.now();
    let mut plan = Plan::default();
    let mut ids = ground.ids();
    for run in waiting {
        let mut desk = Desk {
            catalogue: &catalogue,
            now,
            ids: &mut ids,
            plan: &mut plan,
            findings: None,
        };
        if !take_up_one(&mut desk, &mut gathered.world, run.clone()) {
            return Ok(0);
        }
    }
    trail::decided(&plan);
    let commit = Commit {
        plan: &plan,
        rests: &rests,
        ..Commit::empty(now, catalogue.revision)
    };
    if ground.store.commit(&commit).await? != Committed::Done {
        return Ok(0);
    }
    count_plan(&plan);
    ground.wake(&plan);
    Ok(waiting.len())
}

/// Makes a run that waited part of the plan; false where it waits on.
fn take_up_one(desk: &mut Desk<'_>, world: &mut World, mut run: RunDraft) -> bool {
    let catalogue = desk.catalogue;
    if let Some((state, reason)) = gone(catalogue, &run) {
        run.turn = Turn::Ended(state, reason);
        run.line = None;
        desk.plan.started.push(run);
        return true;
    }
    let (Some(scheduled), Some(organization)) = (
        catalogue.scheduled(&run.schedule_id),
        catalogue.organizations.get(&run.organization),
    ) else {
        return false;
    };
    run.expands = run.asked.objects.is_empty()
        && run.target.is_none()
        && matches!(scheduled.schedule.input, Input::Selected(_));
    let holds = match &run.turn {
        Turn::Later {
            awaits: Some(awaits),
            ..
        } => Some(awaits.clone()),
        _ => scope_of(
            &scheduled.schedule,
            &run.organization,
            run.target.as_deref(),
            run.expands,
            run.cause,
        ),
    };
    run.turn = Turn::Now { holds };
    run.blocked_by = None;
    begin(desk, world, &scheduled, organization, run)
}

/// Why a run that waits can no longer begin.
fn gone(catalogue: &Catalogue, run: &RunDraft) -> Option<(RunState, EndReason)> {
    let Some(scheduled) = catalogue.scheduled(&run.schedule_id) else {
        return Some((RunState::Cancelled, EndReason::ScheduleGone));
    };
    let schedule = &scheduled.schedule;
    let organization = catalogue.organizations.get(&run.organization);
    // What a person asks for is not the clock's, and a pause stops the clock.
    let asked = matches!(run.cause, Cause::Manual | Cause::Backfill);
    match organization {
        Some(organization) if organization.enabled => {}
        _ => return Some((RunState::Skipped, EndReason::Disabled)),
    }
    if !asked && schedule.paused {
        return Some((RunState::Skipped, EndReason::Paused));
    }
    (!asked && !schedule.enabled).then_some((RunState::Skipped, EndReason::Disabled))
}
