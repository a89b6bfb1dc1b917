//! Overlap: whether the turn of a run is now, later or never, and whom it puts aside.
//!
//! A scope is held by one run at a time, and one may wait behind it. Both are unique keys of the store, so what is
//! decided here on old knowledge is not stored.

use super::{Desk, World};
use crate::run::{Cause, EndReason, RunDraft, RunState, Turn, scope};
use crate::schedule::{Overlap, Schedule};
use crate::trigger::Scheduled;

/// Who holds a scope, and who waits behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub holder: Option<InTheWay>,
    pub waiting: Option<InTheWay>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTheWay {
    pub run_id: String,
    pub cause: Cause,
}

/// The scope that such a run holds while it is under way; nothing where its tasks' unique keys are all there is.
pub fn scope_of(
    schedule: &Schedule,
    organization: &str,
    target: Option<&str>,
    expands: bool,
    cause: Cause,
) -> Option<String> {
    let held = match schedule.overlap {
        Overlap::Allow => false,
        // The runs of changes are many, and each of their candidates is judged by its own key.
        Overlap::Skip => {
            !matches!(cause, Cause::Event | Cause::Chained) && (target.is_some() || expands)
        }
        Overlap::BufferOne | Overlap::Replace => true,
    };
    held.then(|| scope(&schedule.id, organization, target))
}

/// Decides the turn of a run that is about to be made.
pub(super) fn take_turn(
    desk: &Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    run: &mut RunDraft,
) -> Aside {
    let schedule = &scheduled.schedule;
    let expires_at = desk.now.plus(
        schedule
            .timeouts
            .task
            .unwrap_or(desk.catalogue.rules.defaults.timeouts.task),
    );
    if let Some(line) = run.line.clone() {
        run.turn = Turn::Later {
            awaits: None,
            line: Some(line),
            expires_at,
        };
        return Aside::default();
    }
    let wanted = scope_of(
        schedule,
        &run.organization,
        run.target.as_deref(),
        run.expands,
        run.cause,
    );
    let Some(wanted) = wanted else {
        return Aside::default();
    };
    let Some(known) = world.scopes.get(&wanted) else {
        world.unseen.insert(wanted);
        return Aside::default();
    };
    let queues = matches!(schedule.overlap, Overlap::BufferOne | Overlap::Replace);
    let Some(first) = known
        .holder
        .as_ref()
        .or(known.waiting.as_ref().filter(|_| queues))
    else {
        run.turn = Turn::Now {
            holds: Some(wanted),
        };
        return Aside::default();
    };
    let mut aside = Aside::default();
    if queues {
        let replaced = (schedule.overlap == Overlap::Replace)
            .then(|| known.holder.as_ref().map(|holder| holder.run_id.clone()))
            .flatten();
        match &known.waiting {
            Some(waiting) if !takes_the_place(schedule, run.cause, waiting.cause) => {
                run.blocked_by = Some(waiting.run_id.clone());
                run.turn = Turn::Ended(RunState::Skipped, EndReason::Overlap);
                return aside;
            }
            waiting => aside.superseded = waiting.as_ref().map(|loser| loser.run_id.clone()),
        }
        aside.replaced = replaced;
        run.blocked_by = Some(first.run_id.clone());
        run.turn = Turn::Later {
            awaits: Some(wanted),
            line: None,
            expires_at,
        };
    } else {
        run.blocked_by = Some(first.run_id.clone());
        run.turn = Turn::Ended(RunState::Skipped, EndReason::Overlap);
    }
    aside
}

/// Who has to go so that a run has its turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Aside {
    superseded: Option<String>,
    replaced: Option<String>,
}

/// The one place behind a running run: a person takes it from the clock and from events, never the other way.
fn takes_the_place(schedule: &Schedule, newcomer: Cause, waiting: Cause) -> bool {
    match (newcomer, waiting) {
        (Cause::Manual, Cause::Manual) => schedule.manual_supersedes,
        (Cause::Manual, _) => true,
        (_, Cause::Manual) => false,
        // What waits goes on waiting; where the newest replaces, it does so here too.
        _ => schedule.overlap == Overlap::Replace,
    }
}

/// The run is part of the plan: those that it puts aside are too, and whoever is next sees it.
pub(super) fn push(desk: &mut Desk<'_>, world: &mut World, run: RunDraft, aside: Aside) {
    let oneself = InTheWay {
        run_id: run.id.clone(),
        cause: run.cause,
    };
    match &run.turn {
        Turn::Now { holds: Some(holds) } => {
            world.scopes.entry(holds.clone()).or_default().holder = Some(oneself);
        }
        Turn::Later {
            awaits: Some(awaits),
            ..
        } => {
            world.scopes.entry(awaits.clone()).or_default().waiting = Some(oneself);
        }
        _ => {}
    }
    if let Some(loser) = aside.superseded {
        // Planned a moment ago, or stored before.
        match desk.plan.runs.iter_mut().find(|draft| draft.id == loser) {
            Some(draft) => {
                draft.turn = Turn::Ended(RunState::Skipped, EndReason::Superseded);
                draft.blocked_by = Some(run.id.clone());
            }
            None => desk.plan.superseded.push((loser, run.id.clone())),
        }
    }
    if let Some(running) = aside.replaced
        && !desk.plan.replaced.iter().any(|(id, _)| *id == running)
    {
        desk.plan.replaced.push((running, run.id.clone()));
    }
    desk.plan.runs.push(run);
}
