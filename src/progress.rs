//! A worker's word goes in, the next step of its task comes out.
//!
//! What is late, said twice or unknown is an answer here and no error: brokers repeat and reorder.

use crate::moment::{Moment, Span};
use crate::policy::Retry;
use crate::task::{Ending, Status, StatusWord, TaskState};

/// A task as the store knows it, with its newest attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub state: TaskState,
    /// The number of the newest offer; 0 before the first.
    pub attempt: i64,
    /// Attempts that failed, fell silent or overran.
    pub spent: i64,
    /// Who accepted the newest offer.
    pub worker: Option<String>,
    /// How the newest attempt ended.
    pub outcome: Option<String>,
}

/// What a status does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Take(Box<Taken>),
    /// Kept beside the task; decides nothing. Somebody who works in vain is told so.
    Late {
        cancel: bool,
    },
    /// Said before.
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
    pub spent: i64,
    pub not_before: Option<Moment>,
    pub reason: Option<String>,
    /// Never again for these inputs, until then or for ever.
    pub suppress: Option<(Option<Moment>, String)>,
}

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

/// What `status` does to a task that stands so.
pub fn progress(
    standing: Option<&Standing>,
    status: &Status,
    retry: &Retry,
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
    if number < standing.attempt {
        return Step::Late {
            cancel: works_in_vain,
        };
    }
    if let Some(outcome) = &standing.outcome {
        let again = end_of(status).is_some_and(|word| word == outcome);
        let decides =
            standing.state == TaskState::Queued && matches!(status.word, StatusWord::Succeeded(_));
        if again {
            return Step::Duplicate;
        }
        if !decides {
            return Step::Late {
                cancel: works_in_vain,
            };
        }
    } else if standing.state.terminal() {
        return Step::Late {
            cancel: works_in_vain,
        };
    }
    let other = standing
        .worker
        .as_ref()
        .is_some_and(|worker| *worker != status.worker);
    if standing.state == TaskState::Running && other {
        return Step::Late {
            cancel: works_in_vain,
        };
    }
    if standing.state == TaskState::Running && works_in_vain {
        return Step::Duplicate;
    }
    let taken = take(standing, status, retry, now, chance);
    match taken.state {
        Some(next) if !standing.state.legal().contains(&next) => Step::Late {
            cancel: works_in_vain,
        },
        _ => Step::Take(Box::new(taken)),
    }
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

fn take(standing: &Standing, status: &Status, retry: &Retry, now: Moment, chance: u64) -> Taken {
    let outcome = end_of(status);
    let base = Taken {
        outcome,
        spent: standing.spent,
        accepted: standing.worker.is_none(),
        ..Taken::default()
    };
    match &status.word {
        StatusWord::Accepted | StatusWord::Heartbeat { .. } => Taken {
            state: Some(TaskState::Running),
            ..base
        },
        StatusWord::Succeeded(ending) => Taken {
            state: Some(TaskState::Succeeded),
            ending: ending.clone(),
            ..base
        },
        StatusWord::Failed { retryable, ending } => {
            let spent = standing.spent + 1;
            let (state, not_before, reason) = if !retryable {
                (TaskState::Failed, None, "fatal")
            } else if spent >= i64::from(retry.max) {
                (TaskState::Dead, None, "out_of_attempts")
            } else {
                let next = now.plus(pause(retry, standing.spent, chance));
                (TaskState::Queued, Some(next), "failed")
            };
            Taken {
                state: Some(state),
                ending: ending.clone(),
                spent,
                not_before,
                reason: Some(reason.to_owned()),
                ..base
            }
        }
        StatusWord::Declined { reason, retry_in } => Taken {
            state: Some(TaskState::Queued),
            accepted: false,
            not_before: retry_in.map(|pause| now.plus(pause)),
            reason: Some("declined".to_owned()),
            ending: Ending {
                message: reason.clone(),
                ..Ending::default()
            },
            ..base
        },
        StatusWord::Cancelled { reason } => Taken {
            state: Some(TaskState::Cancelled),
            reason: Some("cancelled".to_owned()),
            ending: Ending {
                message: reason.clone(),
                ..Ending::default()
            },
            ..base
        },
        StatusWord::Snooze { until } => Taken {
            state: Some(TaskState::Queued),
            not_before: Some(*until),
            reason: Some("snoozed".to_owned()),
            ..base
        },
        StatusWord::NeverAgain { reason, until } => Taken {
            state: Some(TaskState::Withdrawn),
            reason: Some("never_again".to_owned()),
            ending: Ending {
                message: reason.clone(),
                ..Ending::default()
            },
            suppress: Some((*until, reason.clone().unwrap_or_default())),
            ..base
        },
    }
}
