//! Which schedules a change touches.
//!
//! An event finds its schedules as fast among a million as among ten: each schedule waits under the key of its rarest
//! predicate, and only those are looked at whose key the event has. The index narrows, the judge decides: a schedule
//! that it brings is either known to be touched, or [`touches`] asks the judge, so that the decision and its explanation
//! walk the same steps. The rooms, in the order in which a schedule walks through them:
//!
//! - `formula` turns what is asked into predicates on single attributes, with the constants of `literal`; `attributes`
//!   numbers what is read of an event.
//! - `register`, the writer, names constants and chooses where a schedule waits, by what `statistics` has learned from
//!   events, and writes the rest as a `program`. `lists` holds what waits under one key, and splits what grows long.
//! - `dictionary` finds keys, in `pieces` of which a reader keeps its own copy for nothing: a `picture`. It looks for all
//!   that an event leads to before it needs any of it, as memory is what a million schedules cost.
//! - `event` holds the values of one event, from an object or, by `reader`, from bytes of JSON in one pass.
//! - `roll` has the schedules themselves, by number and by id on `pages`. `scan` is the plain way, to compare with.

pub(crate) mod attributes;
pub(crate) mod dictionary;
mod event;
mod formula;
pub(crate) mod lists;
pub(crate) mod literal;
pub(crate) mod pages;
mod picture;
pub(crate) mod pieces;
pub(crate) mod program;
mod reader;
mod register;
mod roll;
mod scan;
pub(crate) mod statistics;

use std::sync::Arc;

use serde_json::Value;

pub use event::Event;
pub use formula::{Alternative, Asked};
pub use picture::{Matches, Picture};
pub use reader::NotJson;
pub use register::Register;
pub use roll::{Roll, Room, Schedules};
pub use scan::Scan;

use crate::object::Operation;
use crate::plugin::Plugin;
use crate::query::{Facts, Query};
use crate::recurrence::Timetable;
use crate::schedule::Schedule;

/// A schedule, the plugins that its query selects, and the instants at which it fires.
#[derive(Debug)]
pub struct Scheduled {
    pub schedule: Arc<Schedule>,
    pub selected: Arc<[Arc<Plugin>]>,
    pub timetable: Arc<Timetable>,
}

/// What finding the schedules of events took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Schedules that were looked at.
    pub candidates: u64,
    /// Those of which more than their key had to be checked.
    pub checks: u64,
    /// Those that were touched.
    pub matches: u64,
}

impl Tally {
    pub fn add(&mut self, more: Tally) {
        self.candidates += more.candidates;
        self.checks += more.checks;
        self.matches += more.matches;
    }
}

/// Why a schedule has nothing to do with a change, at the first step that says so.
#[derive(Clone, Debug)]
pub enum Untouched {
    /// It is not triggered by objects of this type.
    Type,
    /// It is not triggered by this operation.
    Operation,
    /// It belongs to another organisation.
    Organization,
    /// Switched off, or paused.
    Asleep,
    /// Its `when` is false here.
    When(Query),
    /// Its `when` ran out of steps.
    TooCostly,
    /// It joins files of other plugins, or the file says of no object that it was made of it.
    Join,
}

/// The operations of a change that a schedule is triggered by, or why it is not. `known`: its `when` is true.
pub fn touches(
    scheduled: &Scheduled,
    known: bool,
    organization: &str,
    object_type: &str,
    operations: &[Operation],
    facts: &Facts<'_>,
) -> Result<Vec<Operation>, Untouched> {
    let schedule = &scheduled.schedule;
    if !schedule.run_on.iter().any(|named| named == object_type) {
        return Err(Untouched::Type);
    }
    let matching: Vec<Operation> = operations
        .iter()
        .copied()
        .filter(|operation| schedule.operations.contains(operation))
        .collect();
    if matching.is_empty() {
        return Err(Untouched::Operation);
    }
    if !schedule.concerns(organization) {
        return Err(Untouched::Organization);
    }
    if !schedule.awake() {
        return Err(Untouched::Asleep);
    }
    if !schedule.join.is_empty() {
        let maker = facts.subject.field("plugin_id");
        let maker = maker.as_deref().and_then(Value::as_str);
        let joins = schedule.join.iter().any(|named| maker == Some(named));
        let object = facts.subject.field("input_key");
        if !joins || !matches!(object.as_deref(), Some(Value::String(_))) {
            return Err(Untouched::Join);
        }
    }
    if let Some(when) = schedule.when.get(object_type).filter(|_| !known) {
        match when.answers(facts) {
            Ok(true) => {}
            Ok(false) => return Err(Untouched::When(when.clone())),
            Err(_) => return Err(Untouched::TooCostly),
        }
    }
    Ok(matching)
}
