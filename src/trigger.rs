//! Which schedules a change touches.
//!
//! Schedules are kept by object type and operation; what else a schedule asks of its trigger is judged here too,
//! so that the decision and its explanation walk the same steps.

pub(crate) mod attributes;
pub(crate) mod dictionary;
mod event;
mod formula;
pub(crate) mod lists;
pub(crate) mod literal;
mod picture;
pub(crate) mod pieces;
pub(crate) mod program;
mod reader;
mod register;
mod scan;
pub(crate) mod statistics;

use std::collections::HashMap;
use std::sync::Arc;

pub use event::Event;
pub use formula::Asked;
pub use picture::{Matches, Picture};
pub use register::Register;
pub use reader::NotJson;
pub use scan::Scan;

use crate::object::Operation;
use crate::plugin::Plugin;
use crate::query::{Facts, Query};
use crate::recurrence::Timetable;
use crate::schedule::Schedule;

/// A schedule, the plugins that its query selects, and the instants at which it fires.
#[derive(Debug)]
pub struct Scheduled {
    pub schedule: Schedule,
    pub selected: Vec<Arc<Plugin>>,
    pub timetable: Timetable,
}

/// Schedules by what they are triggered by.
#[derive(Clone, Debug, Default)]
pub struct Index {
    by_type: HashMap<String, Vec<Arc<Scheduled>>>,
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
}

impl Index {
    pub fn of(schedules: &[Arc<Scheduled>]) -> Index {
        let mut by_type: HashMap<String, Vec<Arc<Scheduled>>> = HashMap::new();
        for scheduled in schedules {
            for object_type in &scheduled.schedule.run_on {
                by_type
                    .entry(object_type.clone())
                    .or_default()
                    .push(scheduled.clone());
            }
        }
        Index { by_type }
    }

    /// Candidates for a change of this type; each is still to be asked by [`touches`].
    pub fn candidates(&self, object_type: &str) -> &[Arc<Scheduled>] {
        self.by_type.get(object_type).map_or(&[], Vec::as_slice)
    }
}

/// The operations of a change that a schedule is triggered by, or why it is not.
pub fn touches(
    scheduled: &Scheduled,
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
    if let Some(when) = schedule.when.get(object_type) {
        match when.answers(facts) {
            Ok(true) => {}
            Ok(false) => return Err(Untouched::When(when.clone())),
            Err(_) => return Err(Untouched::TooCostly),
        }
    }
    Ok(matching)
}
