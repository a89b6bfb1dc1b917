//! A run: the decision about one occurrence of a schedule for one organisation.

use serde_json::{Map, Value};

use crate::moment::Moment;
use crate::object::ObjectKey;

/// Why a run came to be; every task message says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    OnTime,
    CatchUp,
    Backfill,
    Manual,
    Event,
    Chained,
    Retry,
}

impl Cause {
    const WORDS: [(&'static str, Cause); 7] = [
        ("on_time", Cause::OnTime),
        ("catch_up", Cause::CatchUp),
        ("backfill", Cause::Backfill),
        ("manual", Cause::Manual),
        ("event", Cause::Event),
        ("chained", Cause::Chained),
        ("retry", Cause::Retry),
    ];

    pub fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, cause)| *cause == self)
            .map_or("event", |(word, _)| word)
    }

    pub fn parse(word: &str) -> Option<Cause> {
        Self::WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, cause)| *cause)
    }

    /// The class in the queue: manual requests first, then events, then what recurs.
    pub fn class(self) -> i64 {
        match self {
            Cause::Manual => 0,
            Cause::Event | Cause::Chained => 1,
            Cause::OnTime | Cause::CatchUp | Cause::Backfill | Cause::Retry => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Inputs are still being found.
    Expanding,
    /// All its tasks exist; some have not ended.
    Running,
    Succeeded,
    PartlyFailed,
    Failed,
    Cancelled,
}

impl RunState {
    pub const ALL: [(&'static str, RunState); 6] = [
        ("expanding", RunState::Expanding),
        ("running", RunState::Running),
        ("succeeded", RunState::Succeeded),
        ("partly_failed", RunState::PartlyFailed),
        ("failed", RunState::Failed),
        ("cancelled", RunState::Cancelled),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, state)| *state == self)
            .map_or("running", |(word, _)| word)
    }

    /// How a run ends whose tasks have all ended.
    pub fn of_ended(total: i64, succeeded: i64, cancelled: i64) -> RunState {
        if succeeded == total {
            RunState::Succeeded
        } else if cancelled == total {
            RunState::Cancelled
        } else if succeeded > 0 {
            RunState::PartlyFailed
        } else {
            RunState::Failed
        }
    }
}

/// Why a candidate got no task. A closed list; counted by reason on its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Disabled,
    TypeNotTaken,
    NoInput,
    NotRunOn,
    NotIndemnified,
    OtherOrganization,
    Deleted,
    NoPluginLevel,
    NoObjectLevel,
    LevelTooLow,
    Duplicate,
    InGrace,
    Suppressed,
    QueryTooCostly,
}

impl Reason {
    pub const ALL: [(Reason, &'static str, &'static str); 14] = [
        (
            Reason::Disabled,
            "disabled",
            "the plugin is not enabled for the organisation",
        ),
        (
            Reason::TypeNotTaken,
            "type_not_taken",
            "the plugin does not take this type of input",
        ),
        (
            Reason::NoInput,
            "no_input",
            "the plugin asks for an input and there is none",
        ),
        (
            Reason::NotRunOn,
            "not_run_on",
            "the plugin's own run_on does not allow this operation",
        ),
        (
            Reason::NotIndemnified,
            "not_indemnified",
            "the organisation has not signed the indemnification",
        ),
        (
            Reason::OtherOrganization,
            "other_organization",
            "the input belongs to another organisation",
        ),
        (Reason::Deleted, "deleted", "the input is deleted"),
        (
            Reason::NoPluginLevel,
            "no_plugin_level",
            "the plugin has no scan level, and its worker type requires one",
        ),
        (
            Reason::NoObjectLevel,
            "no_object_level",
            "the object has no scan level",
        ),
        (
            Reason::LevelTooLow,
            "level_too_low",
            "the object's scan level is below what is needed",
        ),
        (
            Reason::Duplicate,
            "duplicate",
            "a task for the same plugin and input is still open",
        ),
        (
            Reason::InGrace,
            "in_grace",
            "the last task for the same plugin and input ended within the grace",
        ),
        (
            Reason::Suppressed,
            "suppressed",
            "a worker asked never to be given this input again",
        ),
        (
            Reason::QueryTooCostly,
            "query_too_costly",
            "a query ran out of steps on this object",
        ),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("", |(_, word, _)| word)
    }

    pub fn parse(word: &str) -> Option<Reason> {
        Self::ALL
            .iter()
            .find(|(_, known, _)| *known == word)
            .map(|(reason, ..)| *reason)
    }

    pub fn meaning(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("", |(.., meaning)| meaning)
    }
}

/// What set a run off, as far as its tasks tell of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Occasion {
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    pub traceparent: Option<String>,
    /// The triggering object as it was then: what `trigger.` and `previous.` read.
    pub trigger: Option<Map<String, Value>>,
    pub previous: Option<Map<String, Value>>,
    /// Which object it was.
    pub object: Option<ObjectKey>,
    /// It was deleted, so its tasks get its last known state.
    pub deleted: bool,
}

/// A run that is about to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDraft {
    pub id: String,
    pub schedule_id: String,
    pub schedule: String,
    pub schedule_revision: i64,
    pub organization: String,
    pub cause: Cause,
    pub scheduled_for: Moment,
    pub created_at: Moment,
    pub target: Option<String>,
    pub occasion: Occasion,
    /// Inputs are to be found in the inventory.
    pub expands: bool,
    pub total: i64,
    pub refused: Vec<(Reason, i64)>,
}

/// `<schedule>-` and the last 8 digits of the run's id.
pub fn run_name(schedule: &str, run_id: &str) -> String {
    let digits: String = run_id.chars().filter(|c| *c != '-').collect();
    let tail = digits.get(digits.len().saturating_sub(8)..).unwrap_or("");
    format!("{schedule}-{tail}")
}
