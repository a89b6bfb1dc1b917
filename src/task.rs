//! A task: one plugin on one input or on one batch of inputs; its attempts; the table of legal steps.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::moment::{Moment, Span};
use crate::plugin::Plugin;
use crate::run::Cause;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Waits to be offered.
    Queued,
    /// Another one runs, and this one shares its outcome.
    Waiting,
    /// Offered, not accepted yet.
    Dispatched,
    /// A worker has it.
    Running,
    Succeeded,
    Failed,
    /// Out of attempts, or impossible to offer.
    Dead,
    /// Ended by a person or by the worker on request.
    Cancelled,
    /// Its reason is gone.
    Withdrawn,
}

impl TaskState {
    pub const ALL: [(&'static str, TaskState); 9] = [
        ("queued", TaskState::Queued),
        ("waiting", TaskState::Waiting),
        ("dispatched", TaskState::Dispatched),
        ("running", TaskState::Running),
        ("succeeded", TaskState::Succeeded),
        ("failed", TaskState::Failed),
        ("dead", TaskState::Dead),
        ("cancelled", TaskState::Cancelled),
        ("withdrawn", TaskState::Withdrawn),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, state)| *state == self)
            .map_or("queued", |(word, _)| word)
    }

    pub fn parse(word: &str) -> Option<TaskState> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, state)| *state)
    }

    /// The states in which a task may be stored.
    pub const FIRST: [TaskState; 2] = [TaskState::Queued, TaskState::Waiting];

    /// Nothing more happens to it.
    pub fn terminal(self) -> bool {
        self.legal().is_empty()
    }

    /// An end that counts for grace: it was executed.
    pub fn executed(self) -> bool {
        matches!(
            self,
            TaskState::Succeeded | TaskState::Failed | TaskState::Dead
        )
    }

    /// The states that may follow: the table of legal steps.
    pub fn legal(self) -> &'static [TaskState] {
        use TaskState::*;
        match self {
            // A late result decides while no newer offer was made.
            Queued => &[Dispatched, Succeeded, Failed, Withdrawn, Cancelled, Dead],
            // The outcome of the one that runs, or its own turn; what ends the queued ends it too.
            Waiting => &[Queued, Succeeded, Failed, Withdrawn, Cancelled, Dead],
            // A result may overtake its acceptance; silence, a refusal or a snooze queue it again.
            Dispatched => &[
                Running, Succeeded, Failed, Dead, Queued, Withdrawn, Cancelled,
            ],
            Running => &[Succeeded, Failed, Dead, Queued, Withdrawn, Cancelled],
            Succeeded | Failed | Dead | Cancelled | Withdrawn => &[],
        }
    }
}

/// One input of a task that is about to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDraft {
    pub object_type: String,
    pub primary_key: String,
    pub unique_key: String,
    /// What the attributes were, so that a change can pass the grace.
    pub digest: String,
}

/// A task that is about to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDraft {
    pub id: String,
    pub run_id: String,
    pub organization: String,
    pub plugin_id: String,
    pub worker_type: String,
    pub queue: String,
    pub cause: Cause,
    pub priority: i64,
    pub created_at: Moment,
    pub not_before: Option<Moment>,
    /// It ends by then, whatever it is at.
    pub expires_at: Moment,
    /// How urgent it is among those of its class and its priority, by the strategy of its queue.
    pub rank: i64,
    pub scheduled_for: Moment,
    /// Empty for a plugin that takes none; then `unique_key` alone guards it.
    pub inputs: Vec<InputDraft>,
    pub unique_key: String,
    /// Its end starts a grace. Not where the key is its run's alone, for that never comes again.
    pub graced: bool,
    pub parameters: Map<String, Value>,
    pub state: TaskState,
    /// The tasks of one key share the outcome of one of them; nothing where it shares with nobody.
    pub deduplication_key: Option<String>,
    /// While another task of its key has not ended, it waits for that one. What a person asks for does not.
    pub waits: bool,
    /// Made because another organisation got one, and not asked for in its own yet.
    pub on_behalf: bool,
}

/// What a task is offered with: everything that its message says.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub task_id: String,
    pub attempt: i64,
    pub run_id: String,
    pub schedule: String,
    pub organization: String,
    pub worker_type: String,
    pub queue: String,
    pub plugin: Arc<Plugin>,
    /// Placeholders filled.
    pub arguments: Vec<String>,
    pub inputs: Vec<OfferedInput>,
    pub settings: Map<String, Value>,
    pub parameters: Map<String, Value>,
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    pub traceparent: Option<String>,
    pub cause: Cause,
    pub priority: i64,
    pub scheduled_for: Moment,
    pub created_at: Moment,
    pub offered_at: Moment,
    pub expires_at: Moment,
    pub queue_timeout: Span,
    pub heartbeat_timeout: Span,
    pub run_timeout: Span,
    pub avoid_workers: Vec<String>,
    pub deduplication_key: Option<String>,
}

/// An input as it is at the time of the offer.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedInput {
    pub object_type: String,
    pub primary_key: String,
    pub attributes: Map<String, Value>,
    pub level: Option<u8>,
}

/// What makes two tasks the same: organisation, plugin, input and the parameters of the request.
pub fn unique_key(
    organization: &str,
    plugin_id: &str,
    primary_key: Option<&str>,
    parameters: &Map<String, Value>,
    run_id: Option<&str>,
) -> String {
    hash_of(&[
        Some(organization),
        Some(plugin_id),
        primary_key,
        run_id,
        text_of(parameters).as_deref(),
    ])
}

/// What makes the tasks of several organisations the same piece of work: all that their worker is told, but for whom it is.
pub fn deduplication_key(
    plugin: &Plugin,
    object_type: &str,
    primary_key: &str,
    digest: &str,
    settings: &Map<String, Value>,
    parameters: &Map<String, Value>,
) -> String {
    hash_of(&[
        Some(&plugin.plugin_id),
        plugin.version.as_deref(),
        Some(object_type),
        Some(primary_key),
        Some(digest),
        text_of(settings).as_deref(),
        text_of(parameters).as_deref(),
    ])
}

fn text_of(members: &Map<String, Value>) -> Option<String> {
    (!members.is_empty()).then(|| Value::Object(members.clone()).to_string())
}

/// Lengths first, so that no two different lists of parts read the same.
fn hash_of(parts: &[Option<&str>]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        match part {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
    }
    short_hex(hash)
}

/// What stands for the inputs of a task in its unique key: the key of the only one, or those of a set, in whatever order
/// they come.
pub fn key_of_all<'a>(mut keys: impl ExactSizeIterator<Item = &'a str>) -> Option<Cow<'a, str>> {
    if keys.len() < 2 {
        return keys.next().map(Cow::Borrowed);
    }
    let mut keys: Vec<&str> = keys.collect();
    keys.sort_unstable();
    // No key of an object holds this character.
    Some(Cow::Owned(format!("\0{}", json!(keys))))
}

/// The digest of the inputs of a task, from those of each: that of the only one, or one of the set.
pub fn digest_of_all<'a>(mut inputs: impl ExactSizeIterator<Item = (&'a str, String)>) -> String {
    if inputs.len() < 2 {
        return inputs.next().map(|(_, digest)| digest).unwrap_or_default();
    }
    let mut inputs: Vec<(&str, String)> = inputs.collect();
    inputs.sort_unstable();
    let mut hash = Sha256::new();
    for (key, digest) in inputs {
        for part in [key, &digest] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    short_hex(hash)
}

/// A digest of attributes, those that the type ignores aside. JSON objects are sorted, so it is canonical; numbers count
/// by their value, because a database may spell `1e16` in another way than the event did.
pub fn digest(attributes: &Map<String, Value>, ignored: &[String]) -> String {
    let mut hash = Sha256::new();
    let mut text = String::new();
    for (name, value) in attributes {
        if !ignored.iter().any(|ignored| ignored == name) {
            text.clear();
            spell(value, &mut text);
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(text.as_bytes());
            hash.update([0]);
        }
    }
    short_hex(hash)
}

fn spell(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => {
                // Without an exponent, and without the sign of a negative zero.
                text.push_str(&(float + 0.0).to_string());
            }
            _ => text.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            text.push('[');
            for item in items {
                spell(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (name, member) in members {
                text.push_str(&Value::String(name.clone()).to_string());
                text.push(':');
                spell(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

/// A number that is the same for the same two texts for ever; not negative.
pub fn stable_number(first: &str, second: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update((first.len() as u64).to_le_bytes());
    hash.update(first.as_bytes());
    hash.update(second.as_bytes());
    let bytes = hash.finalize();
    let number = bytes
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    i64::try_from(number >> 1).unwrap_or(0)
}

fn short_hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .take(16)
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// Ids in the order of their making (UUID v7). Chance comes in as a seed, time with each call.
#[derive(Clone, Debug)]
pub struct Ids {
    seed: u64,
    /// The millisecond of the last id, and how many it had before.
    last: u64,
    made: u16,
}

impl Ids {
    pub fn seeded(seed: u64) -> Ids {
        Ids {
            seed,
            last: 0,
            made: 0,
        }
    }

    pub fn next(&mut self, now: Moment) -> String {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.draw().to_le_bytes());
        random[8..].copy_from_slice(&self.draw().to_le_bytes()[..2]);
        let mut millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
        // Those of one millisecond are counted in the twelve bits after it, and what does not fit is a millisecond on.
        if millis > self.last {
            self.made = 0;
        } else {
            millis = self.last;
            self.made += 1;
            if self.made > 0xfff {
                self.made = 0;
                millis += 1;
            }
        }
        self.last = millis;
        random[..2].copy_from_slice(&self.made.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &random)
            .into_uuid()
            .to_string()
    }

    /// The step of splitmix64.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// No id that was made at this instant or later is before this text.
pub fn first_id_of(now: Moment) -> String {
    let millis = u64::try_from(now.micros() / 1000).unwrap_or(0) & 0xffff_ffff_ffff;
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

/// What a worker reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub task_id: String,
    /// `None`: whichever is current (OpenKAT's runners do not count).
    pub attempt: Option<i64>,
    pub worker: String,
    /// `None`: at its arrival.
    pub at: Option<Moment>,
    pub word: StatusWord,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StatusWord {
    Accepted,
    Declined {
        reason: Option<String>,
        retry_in: Option<Span>,
    },
    Heartbeat {
        done: Option<i64>,
        total: Option<i64>,
        stage: Option<String>,
        note: Option<String>,
    },
    Succeeded(Ending),
    Failed {
        retryable: bool,
        ending: Ending,
    },
    Cancelled {
        reason: Option<String>,
    },
    Snooze {
        until: Moment,
    },
    NeverAgain {
        reason: Option<String>,
        until: Option<Moment>,
    },
}

impl StatusWord {
    pub fn name(&self) -> &'static str {
        match self {
            StatusWord::Accepted => "accepted",
            StatusWord::Declined { .. } => "declined",
            StatusWord::Heartbeat { .. } => "heartbeat",
            StatusWord::Succeeded(_) => "succeeded",
            StatusWord::Failed { .. } => "failed",
            StatusWord::Cancelled { .. } => "cancelled",
            StatusWord::Snooze { .. } => "snooze",
            StatusWord::NeverAgain { .. } => "never_again",
        }
    }
}

/// What is kept of the end of an attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ending {
    pub message: Option<String>,
    pub exit_code: Option<i64>,
    pub log_ref: Option<String>,
    pub log_tail: Option<String>,
    pub outputs: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_in_the_order_of_their_making_also_within_a_millisecond() {
        let mut ids = Ids::seeded(7);
        let now = Moment::from_micros(1_790_000_000_000_000);
        let made: Vec<String> = (0..10_000).map(|_| ids.next(now)).collect();
        assert!(
            made.is_sorted_by(|a, b| a < b),
            "each is after the one before"
        );
    }
}
