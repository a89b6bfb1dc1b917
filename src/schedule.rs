//! What should run, when, on what and under which policies; and the other things that people declare.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::moment::{Moment, Span};
use crate::object::Operation;
use crate::policy::{Defaults, Retry, Timeouts};
use crate::query::Query;
use crate::recurrence::Recurrence;

/// How the ids and names of schedules begin that plugins bring along.
pub const OF_PLUGIN: &str = "plugin:";

/// And those that stand for what a plugin does once it is enabled.
pub const OF_ENABLED: &str = "enabled:";

/// A compiled schedule. Its definition as it was declared is kept beside it by the catalogue.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub id: String,
    pub name: String,
    /// `None`: every organisation.
    pub organization: Option<String>,
    pub enabled: bool,
    pub paused: bool,
    pub revision: i64,
    pub recurrences: Vec<Recurrence>,
    pub timezone: String,
    /// Names of calendars whose windows are left out.
    pub calendars: Vec<String>,
    pub starts_at: Option<Moment>,
    pub ends_at: Option<Moment>,
    /// Object types; empty: not triggered by changes.
    pub run_on: Vec<String>,
    pub operations: Vec<Operation>,
    /// On the trigger, by type, because each type has its own fields.
    pub when: BTreeMap<String, Query>,
    /// Plugins whose newest files of one object are the inputs of one task; empty: the trigger alone is the input.
    pub join: Vec<String>,
    pub plugins: Query,
    pub input: Input,
    pub target: Option<String>,
    pub overlap: Overlap,
    pub manual_supersedes: bool,
    pub missed: Missed,
    pub catchup_window: Span,
    pub catchup_max: i64,
    pub spread: Span,
    pub complete_when: CompleteWhen,
    pub priority: Option<i64>,
    pub grace: Option<Span>,
    pub timeouts: SaidTimeouts,
    pub retry: SaidRetry,
    pub parameters: Map<String, Value>,
    pub created_at: Moment,
}

impl Schedule {
    /// Whether it is switched on, as far as it itself says.
    pub fn awake(&self) -> bool {
        self.enabled && !self.paused
    }

    /// Nobody declared it: a plugin brought its recurrences along.
    pub fn of_plugin(&self) -> bool {
        self.id.starts_with(OF_PLUGIN) || self.id.starts_with(OF_ENABLED)
    }

    /// Whose newest files it joins for an object: that object, and each of the plugins.
    pub fn makers(&self, target: &str) -> impl Iterator<Item = (String, String)> {
        let plugins = self.join.iter();
        plugins.map(move |plugin| (target.to_owned(), plugin.clone()))
    }

    pub fn concerns(&self, organization: &str) -> bool {
        self.organization
            .as_deref()
            .is_none_or(|own| own == organization)
    }
}

/// What the tasks of a run get as input.
#[derive(Clone, Debug)]
pub enum Input {
    /// The triggering object; with a clock: none, or the target.
    Given,
    /// Objects of the inventory, by type.
    Selected(BTreeMap<String, Selection>),
}

#[derive(Clone, Debug)]
pub enum Selection {
    /// All of the type.
    All,
    Query(Box<Query>),
    Set(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    #[default]
    Skip,
    BufferOne,
    Allow,
    Replace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    #[default]
    Latest,
    Skip,
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompleteWhen {
    #[default]
    Own,
    Descendants,
}

/// How much at a time, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub concurrency: Option<i64>,
    /// So many in so long.
    pub rate: Option<(i64, Span)>,
    pub per: Per,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    #[default]
    Plugin,
    Organization,
    Both,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Organization {
    pub id: String,
    pub name: Option<String>,
    pub indemnified: bool,
    pub weight: i64,
    pub enabled: bool,
    pub limits: Vec<Limit>,
}

impl Organization {
    /// As an event makes one that nobody declared.
    pub fn unknown(id: &str) -> Organization {
        Organization {
            id: id.to_owned(),
            name: None,
            indemnified: false,
            weight: 1,
            enabled: true,
            limits: Vec::new(),
        }
    }
}

/// A named set of objects: those that a query finds, and those picked by hand.
#[derive(Clone, Debug)]
pub struct ObjectSet {
    pub name: String,
    pub organization: Option<String>,
    pub object_type: String,
    pub query: Option<Query>,
    pub keys: Vec<String>,
}

/// The timeouts that somebody names; the rest comes from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaidTimeouts {
    pub queue: Option<Span>,
    pub heartbeat: Option<Span>,
    pub run: Option<Span>,
    pub task: Option<Span>,
}

/// What somebody says of retries; the rest comes from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaidRetry {
    pub max: Option<u32>,
    pub first: Option<Span>,
    pub cap: Option<Span>,
    pub declines: Option<u32>,
}

/// The plugin's own word goes before the schedule's, and that before the defaults.
pub fn timeouts(plugin: &SaidTimeouts, schedule: &SaidTimeouts, defaults: &Defaults) -> Timeouts {
    let last = &defaults.timeouts;
    Timeouts {
        queue: plugin.queue.or(schedule.queue).unwrap_or(last.queue),
        heartbeat: plugin
            .heartbeat
            .or(schedule.heartbeat)
            .unwrap_or(last.heartbeat),
        run: plugin.run.or(schedule.run).unwrap_or(last.run),
        task: plugin.task.or(schedule.task).unwrap_or(last.task),
    }
}

/// The plugin's own word goes before the schedule's, and that before the defaults.
pub fn retry(plugin: &SaidRetry, schedule: &SaidRetry, defaults: &Defaults) -> Retry {
    let last = &defaults.retry;
    Retry {
        max: plugin.max.or(schedule.max).unwrap_or(last.max),
        first: plugin.first.or(schedule.first).unwrap_or(last.first),
        cap: plugin.cap.or(schedule.cap).unwrap_or(last.cap),
        declines: plugin
            .declines
            .or(schedule.declines)
            .unwrap_or(last.declines),
    }
}
