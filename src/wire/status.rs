//! What workers report, in our words and in OpenKAT's; read, and written in ours.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Section, excerpt};
use super::{LONGEST_ID, Unreadable};
use crate::moment::{Moment, Span};
use crate::task::{Ending, Status, StatusWord};
use crate::trace;

/// The name of a worker that gives none.
const OPENKAT: &str = "openkat";

/// Longer pauses than a year are held to that.
const LONGEST_PAUSE_S: f64 = 31_536_000.0;

/// Reads one status.
///
/// OpenKAT's runners send the id of the task and one word alone; such a status is of whichever attempt is current, and of
/// the instant of its arrival.
pub fn read_status(body: &[u8], arrived: Moment) -> Result<Status, Unreadable> {
    let mut said = body::section(body)?;
    let task_id = said.key("task_id", LONGEST_ID)?;
    let word = said.text("status")?;
    let bare = !["attempt", "worker", "at", "class"]
        .iter()
        .any(|name| said.has(name));
    let word = match word.as_str() {
        "dispatched" | "running" => StatusWord::Accepted,
        "completed" => StatusWord::Succeeded(ending(&mut said)?),
        // Two words that both have; who says no more than that is OpenKAT.
        "failed" | "cancelled" if bare => ours(&word, &mut said)?,
        _ => {
            let word = ours(&word, &mut said)?;
            return Ok(Status {
                task_id,
                attempt: Some(attempt(&mut said)?),
                worker: said.key("worker", LONGEST_ID)?,
                at: Some(said.instant("at")?),
                word,
            });
        }
    };
    let attempt = match said.has("attempt") {
        true => Some(attempt(&mut said)?),
        false => None,
    };
    Ok(Status {
        task_id,
        attempt,
        worker: said
            .optional_key("worker", LONGEST_ID)?
            .unwrap_or_else(|| OPENKAT.to_owned()),
        at: Some(said.optional_instant("at")?.unwrap_or(arrived)),
        word,
    })
}

pub(super) fn attempt(said: &mut Section) -> Result<i64, Unreadable> {
    match said.integer("attempt")? {
        number if number >= 1 => Ok(number),
        number => Err(said.bad("attempt", format!("is {number}; attempts count from 1"))),
    }
}

fn ours(word: &str, said: &mut Section) -> Result<StatusWord, Unreadable> {
    Ok(match word {
        "accepted" => StatusWord::Accepted,
        "declined" => StatusWord::Declined {
            reason: said.optional_text("reason")?,
            retry_in: seconds(said, "retry_in_s")?,
        },
        "heartbeat" => StatusWord::Heartbeat {
            done: said.optional_integer("done")?,
            total: said.optional_integer("total")?,
            stage: said.optional_text("stage")?,
            note: said.optional_text("note")?,
        },
        "succeeded" => StatusWord::Succeeded(ending(said)?),
        "failed" => StatusWord::Failed {
            retryable: retryable(said)?,
            ending: ending(said)?,
        },
        "cancelled" => StatusWord::Cancelled {
            reason: said.optional_text("reason")?,
        },
        "snooze" => StatusWord::Snooze {
            until: said.instant("until")?,
        },
        "never_again" => StatusWord::NeverAgain {
            reason: said.optional_text("reason")?,
            until: said.optional_instant("until")?,
        },
        other => {
            let what = format!(
                "is `{}`; it must be accepted, declined, heartbeat, succeeded, failed, cancelled, snooze or never_again",
                excerpt(other)
            );
            return Err(said.bad("status", what));
        }
    })
}

/// A failure is worth another attempt, unless the worker knows better.
fn retryable(said: &mut Section) -> Result<bool, Unreadable> {
    match said.optional_text("class")?.as_deref() {
        None | Some("retryable") => Ok(true),
        Some("fatal") => Ok(false),
        Some(other) => {
            let what = format!("is `{}`; it must be retryable or fatal", excerpt(other));
            Err(said.bad("class", what))
        }
    }
}

fn ending(said: &mut Section) -> Result<Ending, Unreadable> {
    Ok(Ending {
        message: said.optional_text("message")?,
        exit_code: said.optional_integer("exit_code")?,
        log_ref: said.optional_text("log_ref")?,
        log_tail: said.optional_text("log_tail")?,
        outputs: said.value("outputs"),
    })
}

fn seconds(said: &mut Section, name: &str) -> Result<Option<Span>, Unreadable> {
    let Some(value) = said.value(name) else {
        return Ok(None);
    };
    let Some(seconds) = value.as_f64() else {
        return Err(body::wrong_type(name, &value, "a number of seconds"));
    };
    if seconds < 0.0 {
        return Err(said.bad(name, format!("is {seconds}; it cannot be negative")));
    }
    let micros = (seconds.min(LONGEST_PAUSE_S) * 1e6).round();
    Ok(Some(Span::from_micros(micros as i64)))
}

/// The trace context that a status brings in its body; whatever else is there is not looked at.
pub fn traceparent_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Brought {
        traceparent: Option<String>,
    }
    let brought: Brought = serde_json::from_slice(body).ok()?;
    brought
        .traceparent
        .filter(|text| trace::carried(text).is_some())
}

/// A status as our worker writes it, with the fields that its word has, and the trace that it belongs to.
pub fn status_message(status: &Status, traceparent: Option<&str>) -> Vec<u8> {
    let mut message = json!({
        "traceparent": traceparent,
        "task_id": status.task_id,
        "attempt": status.attempt,
        "worker": status.worker,
        "status": status.word.name(),
        "at": status.at.map(|at| at.to_string()),
    });
    let more = match &status.word {
        StatusWord::Accepted => json!({}),
        StatusWord::Declined { reason, retry_in } => {
            #[allow(clippy::cast_precision_loss)] // pauses are short
            let seconds = retry_in.map(|span| span.micros() as f64 / 1e6);
            json!({"reason": reason, "retry_in_s": seconds})
        }
        StatusWord::Heartbeat {
            done,
            total,
            stage,
            note,
        } => json!({"done": done, "total": total, "stage": stage, "note": note}),
        StatusWord::Succeeded(ending) => end(ending),
        StatusWord::Failed { retryable, ending } => {
            let mut said = end(ending);
            said["class"] = json!(if *retryable { "retryable" } else { "fatal" });
            said
        }
        StatusWord::Cancelled { reason } => json!({"reason": reason}),
        StatusWord::Snooze { until } => json!({"until": until.to_string()}),
        StatusWord::NeverAgain { reason, until } => {
            json!({"reason": reason, "until": until.map(|until| until.to_string())})
        }
    };
    if let (Value::Object(message), Value::Object(more)) = (&mut message, more) {
        message.extend(more);
        message.retain(|_, value| !value.is_null());
    }
    message.to_string().into_bytes()
}

fn end(ending: &Ending) -> Value {
    json!({
        "message": ending.message,
        "exit_code": ending.exit_code,
        "log_ref": ending.log_ref,
        "log_tail": ending.log_tail,
        "outputs": ending.outputs,
    })
}
