//! A worker's word or a clock that ran out goes in, the next step of the task comes out.
//!
//! What is late, said twice or unknown is an answer here and no error: brokers repeat and reorder. Of every offer one word
//! decides; while an offer is open one of its three clocks runs: nobody accepted it, who accepted it fell silent, or it took
//! too long.

use crate::moment::{Moment, Span};
use crate::plugin::Plugin;
use crate::policy::{Defaults, Retry, Timeouts};
use crate::schedule::{Schedule, retry, timeouts};
use crate::task::{Ending, Status, StatusWord, TaskState};

/// A task as the store knows it, with its newest attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub state: TaskState,
    /// How many steps it has taken.
    pub step: i64,
    /// The number of the newest offer; 0 before the first.
    pub attempt: i64,
    /// Attempts that failed, fell silent or overran.
    pub spent: i64,
    /// Offers in a row that were declined.
    pub declines: i64,
    /// Who accepted the newest offer.
    pub worker: Option<String>,
    /// How the newest attempt ended.
    pub outcome: Option<String>,
    /// When the newest attempt has to have ended; `None` before it is accepted.
    pub run_until: Option<Moment>,
    /// The last heartbeat of the newest attempt.
    pub beat_at: Option<Moment>,
    /// Somebody asked for its end.
    pub cancelling: bool,
    /// Who is not to have it, until when.
    pub avoid: Vec<Avoided>,
}

impl Standing {
    /// Before the first offer.
    pub fn new() -> Standing {
        Standing {
            state: TaskState::Queued,
            step: 0,
            attempt: 0,
            spent: 0,
            declines: 0,
            worker: None,
            outcome: None,
            run_until: None,
            beat_at: None,
            cancelling: false,
            avoid: Vec::new(),
        }
    }
}

impl Default for Standing {
    fn default() -> Standing {
        Standing::new()
    }
}

/// A worker that is not to have a task for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoided {
    pub worker: String,
    pub until: Moment,
}

/// What holds for the attempts of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub retry: Retry,
    pub timeouts: Timeouts,
    /// The work may be done twice without harm.
    pub idempotent: bool,
}

/// What holds for the tasks of a plugin that a schedule made. Either may be gone by now.
pub fn terms(plugin: Option<&Plugin>, schedule: Option<&Schedule>, defaults: &Defaults) -> Terms {
    let of_plugin = plugin.map(|plugin| (plugin.retry, plugin.timeouts));
    let of_schedule = schedule.map(|schedule| (schedule.retry, schedule.timeouts));
    let ((own, clocks), (said, times)) = (
        of_plugin.unwrap_or_default(),
        of_schedule.unwrap_or_default(),
    );
    Terms {
        retry: retry(&own, &said, defaults),
        timeouts: timeouts(&clocks, &times, defaults),
        idempotent: plugin.is_some_and(|plugin| plugin.idempotent),
    }
}

/// What a status does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Take(Box<Taken>),
    /// Kept beside the task; decides nothing. Somebody who works in vain is told so.
    Late {
        cancel: bool,
    },
    /// Said before, or too soon after the last of its kind to be worth keeping.
    Duplicate,
    /// No such task, or an offer that was never made.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub state: Option<TaskState>,
    /// The attempt is accepted from now on.
    pub accepted: bool,
    /// The attempt ends with this outcome.
    pub outcome: Option<&'static str>,
    pub ending: Ending,
    /// How far the worker says that it is.
    pub beat: Option<Beat>,
    /// The next instant at which a clock of the attempt runs out, where it goes on.
    pub clock: Option<Moment>,
    pub run_until: Option<Moment>,
    pub spent: i64,
    pub declines: i64,
    pub avoid: Vec<Avoided>,
    pub not_before: Option<Moment>,
    pub reason: Option<String>,
    /// Never again for these inputs, until then or for ever.
    pub suppress: Option<(Option<Moment>, String)>,
    /// The result is of an older offer than the newest, and decides all the same.
    pub of_older: bool,
}

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    pub done: Option<i64>,
    pub total: Option<i64>,
    pub stage: Option<String>,
    pub note: Option<String>,
}

/// The three clocks of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Nobody accepted the offer.
    Offer,
    /// Who accepted it has been beating, and fell silent.
    Silence,
    /// It took too long.
    Overrun,
}

impl Clock {
    pub fn word(self) -> &'static str {
        match self {
            Clock::Offer => "offer",
            Clock::Silence => "silence",
            Clock::Overrun => "overrun",
        }
    }
}

/// Who has accepted nothing for so long is not counted on.
pub const HEARD: Span = Span::seconds(300);
/// So long a worker is avoided that declined, failed or fell silent.
const AVOID: Span = Span::seconds(300);
/// A worker ends by itself what overruns, and tells it with its log: so long it has for that before the clock ends it.
const REPORT: Span = Span::seconds(5);
/// Heartbeats are kept no oftener.
const BEAT: Span = Span::seconds(1);

/// The pause before the next offer: exponential with full jitter and a cap. `chance` is any number.
pub fn pause(retry: &Retry, spent: i64, chance: u64) -> Span {
    let doublings = u32::try_from(spent.clamp(0, 40)).unwrap_or(0);
    let longest = retry
        .first
        .micros()
        .saturating_mul(1_i64.checked_shl(doublings).unwrap_or(i64::MAX))
        .clamp(1, retry.cap.micros().max(1));
    let part = chance % u64::try_from(longest).unwrap_or(1).max(1);
    Span::from_micros(i64::try_from(part).unwrap_or(0))
}

/// When an attempt that begins now is over in any case.
fn ends_at(terms: &Terms, now: Moment) -> Moment {
    now.plus(terms.timeouts.run).plus(REPORT)
}

/// What `status` does to a task that stands so.
pub fn progress(
    standing: Option<&Standing>,
    status: &Status,
    terms: &Terms,
    now: Moment,
    chance: u64,
) -> Step {
    let Some(standing) = standing else {
        return Step::Unknown;
    };
    let number = status.attempt.unwrap_or(standing.attempt);
    if number < 1 || number > standing.attempt {
        return Step::Unknown;
    }
    let works_in_vain = matches!(
        status.word,
        StatusWord::Accepted | StatusWord::Heartbeat { .. }
    );
    let late = Step::Late {
        cancel: works_in_vain,
    };
    let of_older = number < standing.attempt;
    if of_older {
        // The work is done, and nobody has begun to do it again.
        let wins = terms.idempotent
            && matches!(status.word, StatusWord::Succeeded(_))
            && standing.worker.is_none()
            && !standing.state.terminal();
        if !wins {
            return late;
        }
    } else if let Some(outcome) = &standing.outcome {
        if end_of(status).is_some_and(|word| word == outcome) {
            return Step::Duplicate;
        }
        // No newer offer was made: a result still decides.
        let decides = match &status.word {
            StatusWord::Succeeded(_) | StatusWord::NeverAgain { .. } => true,
            StatusWord::Failed { retryable, .. } => !retryable,
            _ => false,
        };
        if standing.state != TaskState::Queued || !decides {
            return late;
        }
    } else if standing.state.terminal() {
        return late;
    } else if standing.state == TaskState::Running {
        let other = standing
            .worker
            .as_ref()
            .is_some_and(|worker| *worker != status.worker);
        if other {
            return late;
        }
        if matches!(status.word, StatusWord::Accepted) {
            return Step::Duplicate;
        }
        let fresh = |beat_at: Moment| now.since(beat_at) < BEAT;
        if works_in_vain && standing.beat_at.is_some_and(fresh) {
            return Step::Duplicate;
        }
    }
    let mut taken = take(standing, status, terms, now, chance);
    taken.of_older = of_older;
    match taken.state {
        Some(next) if !standing.state.legal().contains(&next) => late,
        _ => Step::Take(Box::new(taken)),
    }
}

/// Which clock of the newest attempt is the next to run out, and when; `None`: no attempt is open, or it is not published.
pub fn clock(
    standing: &Standing,
    offered_until: Option<Moment>,
    heartbeat: Span,
) -> Option<(Moment, Clock)> {
    if standing.outcome.is_some() || standing.state.terminal() {
        return None;
    }
    match standing.run_until {
        None => offered_until.map(|until| (until, Clock::Offer)),
        Some(run_until) => {
            let silent_at = standing.beat_at.map(|beat| beat.plus(heartbeat));
            match silent_at.filter(|silent_at| *silent_at < run_until) {
                Some(silent_at) => Some((silent_at, Clock::Silence)),
                None => Some((run_until, Clock::Overrun)),
            }
        }
    }
}

/// What becomes of a task when a clock of its newest attempt has run out.
pub fn run_out(
    standing: &Standing,
    clock: Clock,
    terms: &Terms,
    now: Moment,
    chance: u64,
) -> Taken {
    let (outcome, reason) = match clock {
        Clock::Offer => ("expired", "offer_expired"),
        Clock::Silence => ("silent", "silent"),
        Clock::Overrun => ("timed_out", "timed_out"),
    };
    let base = Taken {
        outcome: Some(outcome),
        spent: standing.spent,
        declines: standing.declines,
        avoid: avoid(standing, standing.worker.as_deref(), now),
        ..Taken::default()
    };
    if standing.cancelling {
        return cancelled(base);
    }
    if clock == Clock::Offer {
        return Taken {
            state: Some(TaskState::Queued),
            reason: Some(reason.to_owned()),
            ..base
        };
    }
    spend(standing, base, reason, terms, now, chance)
}

/// One attempt less: the next after a pause, or the end.
fn spend(
    standing: &Standing,
    base: Taken,
    reason: &str,
    terms: &Terms,
    now: Moment,
    chance: u64,
) -> Taken {
    let spent = standing.spent + 1;
    if spent >= i64::from(terms.retry.max) {
        return Taken {
            state: Some(TaskState::Dead),
            spent,
            reason: Some(
                if reason == "failed" {
                    "out_of_attempts"
                } else {
                    reason
                }
                .to_owned(),
            ),
            ..base
        };
    }
    Taken {
        state: Some(TaskState::Queued),
        spent,
        not_before: Some(now.plus(pause(&terms.retry, standing.spent, chance))),
        reason: Some(reason.to_owned()),
        ..base
    }
}

fn cancelled(base: Taken) -> Taken {
    Taken {
        state: Some(TaskState::Cancelled),
        reason: Some("cancelled".to_owned()),
        ..base
    }
}

/// Who is avoided from now on: those still avoided, and this one.
fn avoid(standing: &Standing, worker: Option<&str>, now: Moment) -> Vec<Avoided> {
    let mut avoided: Vec<Avoided> = standing
        .avoid
        .iter()
        .filter(|avoided| avoided.until > now && Some(avoided.worker.as_str()) != worker)
        .cloned()
        .collect();
    avoided.extend(worker.map(|worker| Avoided {
        worker: worker.to_owned(),
        until: now.plus(AVOID),
    }));
    avoided
}

/// The word under which an attempt that this status ends is kept.
fn end_of(status: &Status) -> Option<&'static str> {
    Some(match &status.word {
        StatusWord::Accepted | StatusWord::Heartbeat { .. } => return None,
        StatusWord::Succeeded(_) => "succeeded",
        StatusWord::Failed { .. } => "failed",
        StatusWord::Declined { .. } => "declined",
        StatusWord::Cancelled { .. } => "cancelled",
        StatusWord::Snooze { .. } => "snoozed",
        StatusWord::NeverAgain { .. } => "never_again",
    })
}

fn take(standing: &Standing, status: &Status, terms: &Terms, now: Moment, chance: u64) -> Taken {
    let accepted = standing.worker.is_none() && standing.outcome.is_none();
    let base = Taken {
        outcome: end_of(status),
        spent: standing.spent,
        declines: standing.declines,
        avoid: avoid(standing, None, now),
        accepted,
        ..Taken::default()
    };
    let said = |reason: &Option<String>| Ending {
        message: reason.clone(),
        ..Ending::default()
    };
    let shunned = || avoid(standing, Some(&status.worker), now);
    match &status.word {
        StatusWord::Accepted => {
            let run_until = ends_at(terms, now);
            Taken {
                state: Some(TaskState::Running),
                clock: Some(run_until),
                run_until: Some(run_until),
                declines: 0,
                ..base
            }
        }
        StatusWord::Heartbeat {
            done,
            total,
            stage,
            note,
        } => {
            let run_until = standing.run_until.unwrap_or_else(|| ends_at(terms, now));
            Taken {
                state: (standing.state != TaskState::Running).then_some(TaskState::Running),
                clock: Some(run_until.min(now.plus(terms.timeouts.heartbeat))),
                run_until: Some(run_until),
                declines: 0,
                beat: Some(Beat {
                    done: *done,
                    total: *total,
                    stage: stage.clone(),
                    note: note.clone(),
                }),
                ..base
            }
        }
        StatusWord::Succeeded(ending) => Taken {
            state: Some(TaskState::Succeeded),
            ending: ending.clone(),
            ..base
        },
        StatusWord::Failed { retryable, ending } => {
            let base = Taken {
                ending: ending.clone(),
                avoid: shunned(),
                ..base
            };
            if standing.cancelling {
                cancelled(base)
            } else if *retryable {
                spend(standing, base, "failed", terms, now, chance)
            } else {
                Taken {
                    state: Some(TaskState::Failed),
                    spent: standing.spent + i64::from(standing.outcome.is_none()),
                    reason: Some("fatal".to_owned()),
                    ..base
                }
            }
        }
        StatusWord::Declined { reason, retry_in } => {
            let base = Taken {
                accepted: false,
                ending: said(reason),
                avoid: shunned(),
                ..base
            };
            if standing.cancelling {
                return cancelled(base);
            }
            let declines = standing.declines + 1;
            let asked = retry_in.map(|pause| now.plus(pause));
            // The first pause is the worker's wish; from then on they grow, so that nobody is asked for ever.
            let grown = (declines > 1 || asked.is_none())
                .then(|| now.plus(pause(&terms.retry, declines - 1, chance)));
            Taken {
                state: Some(TaskState::Queued),
                declines,
                not_before: asked.max(grown),
                reason: Some(
                    if declines >= i64::from(terms.retry.declines) {
                        "declined_by_all"
                    } else {
                        "declined"
                    }
                    .to_owned(),
                ),
                ..base
            }
        }
        StatusWord::Cancelled { reason } => cancelled(Taken {
            ending: said(reason),
            ..base
        }),
        StatusWord::Snooze { .. } if standing.cancelling => cancelled(base),
        StatusWord::Snooze { until } => Taken {
            state: Some(TaskState::Queued),
            not_before: Some(*until),
            reason: Some("snoozed".to_owned()),
            ..base
        },
        StatusWord::NeverAgain { reason, until } => Taken {
            state: Some(TaskState::Withdrawn),
            reason: Some("never_again".to_owned()),
            ending: said(reason),
            suppress: Some((*until, reason.clone().unwrap_or_default())),
            ..base
        },
    }
}
