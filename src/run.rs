//! A run: the decision about one occurrence of a schedule for one organisation.

use serde_json::{Map, Value};

use crate::moment::Moment;
use crate::object::{ObjectKey, Operation};

/// Why a run came to be; every task message says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    OnTime,
    CatchUp,
    Backfill,
    Manual,
    #[default]
    Event,
    Chained,
    Retry,
}

impl Cause {
    pub const ALL: [(&'static str, Cause); 7] = [
        ("on_time", Cause::OnTime),
        ("catch_up", Cause::CatchUp),
        ("backfill", Cause::Backfill),
        ("manual", Cause::Manual),
        ("event", Cause::Event),
        ("chained", Cause::Chained),
        ("retry", Cause::Retry),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, cause)| *cause == self)
            .map_or("event", |(word, _)| word)
    }

    pub fn parse(word: &str) -> Option<Cause> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, cause)| *cause)
    }

    /// The class in the queue: what people ask for first, then events, then what recurs.
    pub fn class(self) -> i64 {
        match self {
            Cause::Manual | Cause::Retry => 0,
            Cause::Event | Cause::Chained => 1,
            Cause::OnTime | Cause::CatchUp | Cause::Backfill => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It has no tasks yet: it waits for another one to end.
    Pending,
    /// Inputs are still being found.
    Expanding,
    /// All its tasks exist; some have not ended.
    Running,
    Succeeded,
    PartlyFailed,
    TimedOut,
    Failed,
    Cancelled,
    /// It was not to run: something else ran, or somebody had paused it.
    Skipped,
    /// Its time went by while nobody was there to see it.
    Missed,
    /// It waited for too long.
    Expired,
}

impl RunState {
    pub const ALL: [(&'static str, RunState); 11] = [
        ("pending", RunState::Pending),
        ("expanding", RunState::Expanding),
        ("running", RunState::Running),
        ("succeeded", RunState::Succeeded),
        ("partly_failed", RunState::PartlyFailed),
        ("timed_out", RunState::TimedOut),
        ("failed", RunState::Failed),
        ("cancelled", RunState::Cancelled),
        ("skipped", RunState::Skipped),
        ("missed", RunState::Missed),
        ("expired", RunState::Expired),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, state)| *state == self)
            .map_or("running", |(word, _)| word)
    }

    pub fn parse(word: &str) -> Option<RunState> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, state)| *state)
    }

    /// Nothing more happens to it.
    pub fn ended(self) -> bool {
        !matches!(
            self,
            RunState::Pending | RunState::Expanding | RunState::Running
        )
    }

    /// How a run ends whose tasks have all ended. `overran` are those of the failed whose time was over.
    pub fn of_ended(total: i64, succeeded: i64, cancelled: i64, overran: i64) -> RunState {
        if succeeded == total {
            RunState::Succeeded
        } else if cancelled == total {
            RunState::Cancelled
        } else if succeeded > 0 {
            RunState::PartlyFailed
        } else if overran >= total - succeeded - cancelled {
            RunState::TimedOut
        } else {
            RunState::Failed
        }
    }
}

/// Why a run ended as it did, where its tasks do not say so. A closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    Overlap,
    Superseded,
    Replaced,
    Paused,
    Disabled,
    OutsideWindow,
    BeyondMax,
    MissedSkip,
    MissedLatest,
    ClockSetBack,
    Expired,
    TargetNotFound,
    ScheduleGone,
    Cancelled,
    ChainTooLong,
}

impl EndReason {
    pub const ALL: [(EndReason, &'static str, &'static str); 15] = [
        (
            EndReason::Overlap,
            "overlap",
            "another run of the same scope had not ended",
        ),
        (
            EndReason::Superseded,
            "superseded",
            "another request took its place before it began",
        ),
        (
            EndReason::Replaced,
            "replaced",
            "a newer run of the same scope replaced it",
        ),
        (EndReason::Paused, "paused", "the schedule was paused"),
        (
            EndReason::Disabled,
            "disabled",
            "the schedule or the organisation was disabled",
        ),
        (
            EndReason::OutsideWindow,
            "outside_catchup_window",
            "its instants were older than catchup_window",
        ),
        (
            EndReason::BeyondMax,
            "beyond_catchup_max",
            "more instants were late than catchup_max",
        ),
        (
            EndReason::MissedSkip,
            "missed_skip",
            "its instants were late, and the schedule says missed: skip",
        ),
        (
            EndReason::MissedLatest,
            "missed_latest",
            "a newer instant ran instead, as missed: latest says",
        ),
        (
            EndReason::ClockSetBack,
            "clock_set_back",
            "the clock was set back; what had been decided is not decided again",
        ),
        (
            EndReason::Expired,
            "expired",
            "it waited longer than timeouts.task",
        ),
        (
            EndReason::TargetNotFound,
            "target_not_found",
            "none of its objects is there",
        ),
        (
            EndReason::ScheduleGone,
            "schedule_gone",
            "its schedule was deleted while it waited",
        ),
        (EndReason::Cancelled, "cancelled", "somebody cancelled it"),
        (
            EndReason::ChainTooLong,
            "chain_too_long",
            "too many runs set each other off one after another",
        ),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("", |(_, word, _)| word)
    }

    /// What the word of a reason means.
    pub fn meaning(word: &str) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, known, _)| *known == word)
            .map_or("", |(.., meaning)| meaning)
    }
}

/// Runs that set each other off: no chain has more.
pub const LONGEST_CHAIN: i64 = 16;

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
    Overlap,
    NotFound,
    QueryTooCostly,
    JoinIncomplete,
    NotNewest,
}

impl Reason {
    pub const ALL: [(Reason, &'static str, &'static str); 18] = [
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
            Reason::Overlap,
            "overlap",
            "another run of the same scope has not ended",
        ),
        (Reason::NotFound, "not_found", "no such object is known"),
        (
            Reason::QueryTooCostly,
            "query_too_costly",
            "a query ran out of steps on this object",
        ),
        (
            Reason::JoinIncomplete,
            "join_incomplete",
            "a file that the schedule joins is not there yet",
        ),
        (
            Reason::NotNewest,
            "not_newest",
            "the same plugin made a newer file of the same object",
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
    /// The operations of the change that its schedule asked for.
    pub operations: Vec<Operation>,
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
    /// Its schedule joins files: the inputs of each task belong together, and it is about the object they were made of.
    pub joined: bool,
}

/// When a run's tasks are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// At once. What it holds no other run holds until it has ended.
    Now { holds: Option<String> },
    /// When its turn comes, and that it waits for until then.
    Later {
        awaits: Option<String>,
        line: Option<String>,
        expires_at: Moment,
    },
    /// Never.
    Ended(RunState, EndReason),
}

impl Default for Turn {
    fn default() -> Turn {
        Turn::Now { holds: None }
    }
}

/// What a person asked for, beside a schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// The same id asks for the same run.
    pub id: Option<String>,
    /// Picked by hand; empty: what the schedule says.
    pub objects: Vec<String>,
    /// Laid over the schedule's.
    pub parameters: Map<String, Value>,
}

/// A run that is about to be stored.
#[derive(Clone, Debug, Default, PartialEq)]
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
    pub turn: Turn,
    /// The run that is in its way, or that took its place.
    pub blocked_by: Option<String>,
    pub asked: Asked,
    /// One of a line: such runs go one after another, oldest first, without grace.
    pub line: Option<String>,
    /// The run whose end set this one off.
    pub parent_id: Option<String>,
    /// How many runs came before it in its chain.
    pub depth: i64,
    /// It is complete only when all that was chained from it is.
    pub with_descendants: bool,
}

/// Instants of a schedule that did not run: one row for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub id: String,
    pub schedule_id: String,
    pub schedule: String,
    pub schedule_revision: i64,
    /// Empty where the schedule is for all.
    pub organization: String,
    pub state: RunState,
    pub reason: EndReason,
    pub from: Moment,
    pub until: Moment,
    pub count: i64,
    /// A gap that reached until here goes on.
    pub after: Moment,
}

/// What at most one run holds at a time: its schedule on one target, or in one organisation.
pub fn scope(schedule_id: &str, organization: &str, target: Option<&str>) -> String {
    // A name holds no control character, so no two scopes read the same.
    format!(
        "{schedule_id}\u{1f}{organization}\u{1f}{}",
        target.unwrap_or("")
    )
}

/// One of the four things that are said of every run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: &'static str,
    pub status: bool,
    pub reason: String,
    pub message: String,
    pub transition_at: Option<Moment>,
}

/// What the conditions of a run are derived from.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub state: RunState,
    pub reason: Option<&'a str>,
    pub created_at: Moment,
    pub started_at: Option<Moment>,
    pub finished_at: Option<Moment>,
    pub completed_at: Option<Moment>,
    /// Total, succeeded, failed, cancelled.
    pub counts: [i64; 4],
}

/// Accepted, progressing, complete, failed: derived, so they cannot contradict what the run is.
pub fn conditions(run: &Standing<'_>) -> [Condition; 4] {
    let Standing {
        state,
        reason,
        created_at,
        started_at,
        finished_at,
        completed_at,
        counts: [total, succeeded, failed, cancelled],
    } = *run;
    let began = started_at.is_some() || state == RunState::Pending;
    let end = reason.unwrap_or(state.word()).to_owned();
    let meaning = reason.map_or("", EndReason::meaning).to_owned();
    let tasks = if total == 1 { "task" } else { "tasks" };
    let counted =
        format!("{total} {tasks}: {succeeded} succeeded, {failed} failed, {cancelled} cancelled");
    let accepted = Condition {
        kind: "accepted",
        status: began,
        reason: if began { "accepted" } else { &end }.to_owned(),
        message: if began { "" } else { &meaning }.to_owned(),
        transition_at: Some(created_at),
    };
    let progressing = match state {
        RunState::Pending => (
            false,
            "pending",
            created_at,
            "it waits for another run to end",
        ),
        RunState::Expanding => (
            true,
            "expanding",
            started_at.unwrap_or(created_at),
            "its inputs are being found",
        ),
        RunState::Running => (true, "running", started_at.unwrap_or(created_at), ""),
        _ => (false, "finished", finished_at.unwrap_or(created_at), ""),
    };
    let progressing = Condition {
        kind: "progressing",
        status: progressing.0,
        reason: progressing.1.to_owned(),
        message: if progressing.0 {
            counted.clone()
        } else {
            progressing.3.to_owned()
        },
        transition_at: Some(progressing.2),
    };
    let complete = Condition {
        kind: "complete",
        status: completed_at.is_some(),
        reason: match (completed_at, state.ended()) {
            (Some(_), _) => end.clone(),
            (None, true) => "descendants".to_owned(),
            (None, false) => "not_finished".to_owned(),
        },
        message: match (completed_at, state.ended(), reason) {
            (Some(_), _, Some(_)) => meaning.clone(),
            (Some(_), _, None) => counted.clone(),
            (None, true, _) => "runs that were chained from it are not complete".to_owned(),
            (None, false, _) => String::new(),
        },
        transition_at: completed_at,
    };
    let wrong = matches!(
        state,
        RunState::Failed | RunState::PartlyFailed | RunState::TimedOut | RunState::Expired
    );
    let failed = Condition {
        kind: "failed",
        status: wrong,
        reason: if wrong { end } else { "no_failure".to_owned() },
        message: match (wrong, reason) {
            (false, _) => String::new(),
            (true, Some(_)) => meaning,
            (true, None) => counted,
        },
        transition_at: if wrong { finished_at } else { None },
    };
    [accepted, progressing, complete, failed]
}

/// `<schedule>-` and the last 8 digits of the run's id.
pub fn run_name(schedule: &str, run_id: &str) -> String {
    let digits: String = run_id.chars().filter(|c| *c != '-').collect();
    let tail = digits.get(digits.len().saturating_sub(8)..).unwrap_or("");
    format!("{schedule}-{tail}")
}
