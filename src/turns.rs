//! Loop: runs that wait begin when their turn has come.
//!
//! Whoever sees it first makes their tasks; the run begins in the same transaction, if it still waits and nobody holds
//! its scope.

use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, Plan, begin, scope_of};
use crate::ground::{Ground, count_plan};
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::run::{Cause, EndReason, RunDraft, RunState, Turn};
use crate::schedule::Input;
use crate::store::{Commit, StoreError, Wanted};

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
        let mut begun = 0;
        for waiting in ground.store.ready(AT_ONCE).await? {
            begun += usize::from(take_up(ground, waiting).await?);
        }
        // What ended at once makes room for the next.
        if begun == 0 || ground.stop.is_cancelled() {
            break;
        }
    }
    Ok(None)
}

/// The run begins, or ends because it no longer can; false where it waits on.
async fn take_up(ground: &Ground, mut run: RunDraft) -> Result<bool, StoreError> {
    let revision = ground.store.catalogue_revision().await?;
    let catalogue = ground.catalogue_at(revision).await?;
    let now = ground.clock.now();
    let mut plan = Plan::default();
    match gone(&catalogue, &run) {
        Some((state, reason)) => {
            run.turn = Turn::Ended(state, reason);
            run.line = None;
            plan.started.push(run);
        }
        None => {
            let (Some(scheduled), Some(organization)) = (
                catalogue.scheduled(&run.schedule_id),
                catalogue.organizations.get(&run.organization),
            ) else {
                return Ok(false);
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
            let picked = run.asked.objects.iter().chain(&run.target).cloned();
            let wanted = Wanted {
                keys: picked
                    .chain([String::new()])
                    .map(|primary_key| ObjectKey {
                        organization: run.organization.clone(),
                        primary_key,
                    })
                    .collect(),
                ..Wanted::default()
            };
            let mut gathered = ground.store.gather(&wanted).await?;
            let mut ids = ground.ids();
            let mut desk = Desk {
                catalogue: &catalogue,
                now,
                ids: &mut ids,
                plan: &mut plan,
                findings: None,
            };
            if !begin(
                &mut desk,
                &mut gathered.world,
                &scheduled,
                organization,
                run,
            ) {
                return Ok(false);
            }
        }
    }
    let commit = Commit {
        plan: &plan,
        ..Commit::empty(now, catalogue.revision)
    };
    let committed = ground.store.commit(&commit).await?;
    let done = committed == crate::store::Committed::Done;
    if done {
        count_plan(&plan, &catalogue.rules);
        ground.wake(&plan);
    }
    Ok(done)
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
