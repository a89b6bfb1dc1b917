//! What the clock makes due: of the instants in (cursor, now] those that run, and those that are a gap.

use std::collections::VecDeque;

use crate::moment::{Moment, Span};
use crate::recurrence::Last;
use crate::run::{Cause, EndReason, RunState};
use crate::schedule::Missed;
use crate::trigger::Scheduled;

/// An instant older than this was missed.
const ON_TIME: Span = Span::seconds(10);
/// The clock was set back where a cursor is further ahead than this.
pub const AHEAD: Span = Span::seconds(60);
/// Instants that one look passes over, at most, before it looks at those that may still run; the rest comes with the
/// next look.
const AT_ONCE: i64 = 10_000;
/// And among those that may still run.
const WITHIN: i64 = 1_000_000;

/// What is to be decided of one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub chosen: Vec<(Moment, Cause)>,
    pub passed: Vec<Passed>,
    /// Where the cursor goes.
    pub until: Moment,
}

/// Instants that do not run, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub state: RunState,
    pub reason: EndReason,
    pub from: Moment,
    pub until: Moment,
    pub count: i64,
}

impl Passed {
    fn add(passed: &mut Option<Passed>, reason: EndReason, at: Moment) {
        let state = match reason {
            EndReason::Paused | EndReason::Disabled => RunState::Skipped,
            _ => RunState::Missed,
        };
        let passed = passed.get_or_insert(Passed {
            state,
            reason,
            from: at,
            until: at,
            count: 0,
        });
        passed.until = at;
        passed.count += 1;
    }
}

/// What is due in (cursor, now]; nothing where nothing is.
pub fn due(scheduled: &Scheduled, cursor: Moment, last: Last, now: Moment) -> Option<Due> {
    let schedule = &scheduled.schedule;
    if cursor > now.plus(AHEAD) {
        return Some(Due {
            chosen: Vec::new(),
            passed: vec![Passed {
                state: RunState::Skipped,
                reason: EndReason::ClockSetBack,
                from: now,
                until: cursor,
                count: 0,
            }],
            until: now,
        });
    }
    let window = now.minus(schedule.catchup_window);
    let on_time = now.minus(ON_TIME);
    let (keep, dropped) = match schedule.missed {
        Missed::Skip => (0, EndReason::MissedSkip),
        Missed::Latest => (1, EndReason::MissedLatest),
        Missed::All => (
            usize::try_from(schedule.catchup_max).unwrap_or(usize::MAX),
            EndReason::BeyondMax,
        ),
    };
    let asleep = match (schedule.paused, schedule.enabled) {
        (true, _) => Some(EndReason::Paused),
        (false, false) => Some(EndReason::Disabled),
        (false, true) => None,
    };
    let (mut old, mut lost) = (None, None);
    let mut caught: VecDeque<Moment> = VecDeque::new();
    let mut fresh = Vec::new();
    let mut until = None;
    let (mut passed_over, mut within) = (0, 0);
    let instants = scheduled.timetable.instants(cursor, last);
    for at in instants.take_while(|at| *at <= now) {
        until = Some(at);
        if let Some(reason) = asleep {
            Passed::add(&mut old, reason, at);
            passed_over += 1;
        } else if at < window.min(on_time) {
            Passed::add(&mut old, EndReason::OutsideWindow, at);
            passed_over += 1;
        } else if at < on_time {
            caught.push_back(at);
            within += 1;
            if caught.len() > keep
                && let Some(first) = caught.pop_front()
            {
                Passed::add(&mut lost, dropped, first);
            }
        } else {
            fresh.push(at);
        }
        if passed_over >= AT_ONCE || within >= WITHIN {
            break;
        }
    }
    // The newest of all runs; a fresh one is that.
    if schedule.missed == Missed::Latest && !fresh.is_empty() {
        for at in caught.drain(..) {
            Passed::add(&mut lost, dropped, at);
        }
    }
    let caught = caught.into_iter().map(|at| (at, Cause::CatchUp));
    let fresh = fresh.into_iter().map(|at| (at, Cause::OnTime));
    Some(Due {
        chosen: caught.chain(fresh).collect(),
        passed: old.into_iter().chain(lost).collect(),
        until: until?,
    })
}
