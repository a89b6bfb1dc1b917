//! What a worker is sent: tasks, and the word that one of them is wanted no more.

use std::borrow::Cow;

use serde_json::Value;

use super::body::{self, Section, excerpt};
use super::{Flaw, LONGEST_ID, Unreadable};
use crate::moment::{Moment, Span};
use crate::trace;

/// A task as a worker reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub id: String,
    pub attempt: i64,
    pub organization: String,
    pub worker_type: String,
    pub plugin_id: String,
    pub runtime: Option<String>,
    pub artefact: Option<String>,
    pub arguments: Vec<String>,
    /// Names only; who runs the task knows their values.
    pub secrets: Vec<String>,
    pub expires_at: Option<Moment>,
    /// The longest silence that is not taken for the end.
    pub heartbeat: Option<Span>,
    /// `None`: as long as it takes.
    pub run_limit: Option<Span>,
    pub avoid_workers: Vec<String>,
    /// The trace that it belongs to; nothing that is none.
    pub traceparent: Option<String>,
    /// All of it, for those who ask for more.
    message: Value,
}

/// Who has this task may stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    pub task_id: String,
    /// `None`: whichever attempt.
    pub attempt: Option<i64>,
    /// `None`: whoever has it.
    pub worker: Option<String>,
}

impl Assignment {
    /// What stands at a dotted path of the message. `input.x` is of the first input: a part of the input itself, else its
    /// attribute. Texts are given as they are, all else as JSON; nothing is given for what is absent or null.
    pub fn value(&self, path: &str) -> Option<Cow<'_, str>> {
        let found = match path.strip_prefix("input.") {
            Some(rest) => {
                let input = self.message.get("inputs")?.get(0)?;
                at(input, rest).or_else(|| at(input.get("attributes")?, rest))
            }
            None => at(&self.message, path),
        };
        match found? {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.')
        .try_fold(value, |value, name| value.get(name))
}

/// Reads the message that offers a task.
pub fn read_task(message: &[u8]) -> Result<Assignment, Unreadable> {
    let message = body::parse(message)?;
    let mut said = Section::of("", "the body", message.clone())?;
    let id = said.key("id", LONGEST_ID)?;
    let attempt = super::status::attempt(&mut said)?;
    let mut plugin = said.section("plugin", "plugin")?;
    let timeouts = said.optional_section("timeouts", "timeouts")?;
    let (heartbeat, run_limit) = match timeouts {
        Some(mut timeouts) => (
            some_seconds(&mut timeouts, "heartbeat_s")?,
            some_seconds(&mut timeouts, "run_s")?,
        ),
        None => (None, None),
    };
    Ok(Assignment {
        id,
        attempt,
        organization: said.key("organization", LONGEST_ID)?,
        worker_type: said.key("worker_type", LONGEST_ID)?,
        plugin_id: plugin.key("plugin_id", LONGEST_ID)?,
        runtime: plugin.optional_text("runtime")?,
        artefact: plugin.optional_text("artefact")?,
        arguments: texts(&mut said, "arguments")?,
        secrets: texts(&mut said, "secrets")?,
        expires_at: said.optional_instant("expires_at")?,
        heartbeat,
        run_limit,
        avoid_workers: texts(&mut said, "avoid_workers")?,
        traceparent: said
            .value("traceparent")
            .and_then(|text| Some(trace::carried(text.as_str()?)?.to_owned())),
        message,
    })
}

/// Which task, and which attempt, a message is about of which the rest cannot be read.
pub fn task_of(message: &[u8]) -> Option<(String, i64)> {
    let mut said = body::section(message).ok()?;
    let id = said.key("id", LONGEST_ID).ok()?;
    Some((id, super::status::attempt(&mut said).ok()?))
}

/// Reads what all workers are told.
pub fn read_cancel(message: &[u8]) -> Result<Cancel, Unreadable> {
    let mut said = body::section(message)?;
    let word = said.text("type")?;
    if word != "cancel" {
        return Err(said.bad(
            "type",
            format!("is `{}`; it must be cancel", excerpt(&word)),
        ));
    }
    Ok(Cancel {
        task_id: said.key("task_id", LONGEST_ID)?,
        attempt: said.optional_integer("attempt")?,
        worker: said.optional_text("worker")?,
    })
}

/// Reads what a script leaves behind as the outputs of its task.
pub fn read_outputs(bytes: &[u8]) -> Result<Value, Unreadable> {
    body::parse(bytes)
}

/// A list of texts; none where it is absent.
fn texts(said: &mut Section, name: &'static str) -> Result<Vec<String>, Unreadable> {
    let items = match said.has(name) {
        true => said.list(name)?,
        false => return Ok(Vec::new()),
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Ok(text),
            other => Err(body::wrong_type(
                &format!("an item of {name}"),
                &other,
                "a string",
            )),
        })
        .collect()
}

/// A length of time; zero, as an absent one, sets no limit.
fn some_seconds(said: &mut Section, name: &str) -> Result<Option<Span>, Unreadable> {
    match said.optional_integer(name)? {
        None | Some(0) => Ok(None),
        Some(seconds) if seconds > 0 => Ok(Some(Span::seconds(seconds))),
        Some(seconds) => Err(Unreadable::new(
            Flaw::BadValue,
            format!("{} is {seconds}; it cannot be negative", said.way_to(name)),
        )),
    }
}
