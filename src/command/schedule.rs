//! What can be asked of schedules.

use super::{Command, Page, declared, needed, page};
use crate::declaration::Kind;
use crate::document::Table;
use crate::moment::Moment;

#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleCommand {
    Pause { schedule: String, reason: String },
    Resume { schedule: String },
    List { page: Page },
    Backfill(Backfill),
    Preview(Preview),
}

/// The next instants of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub schedule: String,
    pub number: usize,
    /// After this one, instead of now.
    pub after: Option<Moment>,
}

/// Instants of a schedule that are to run although they have gone by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub schedule: String,
    pub from: Moment,
    pub to: Moment,
    pub dry_run: bool,
}

pub(super) const VERBS: [&str; 7] = [
    "apply", "delete", "pause", "resume", "list", "preview", "backfill",
];

pub(super) fn read(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "apply" | "delete" => return declared::read(Kind::Schedule, verb, table),
        "preview" => ScheduleCommand::Preview(Preview {
            number: table.int_in("number", 1..=1000).unwrap_or(5),
            after: table.moment("after"),
            schedule: needed(table, "schedule")?,
        }),
        "pause" => {
            let schedule = needed(table, "schedule");
            let reason = needed(table, "reason");
            ScheduleCommand::Pause {
                schedule: schedule?,
                reason: reason?,
            }
        }
        "resume" => ScheduleCommand::Resume {
            schedule: needed(table, "schedule")?,
        },
        "backfill" => {
            let schedule = needed(table, "schedule");
            let from = table
                .require("from")
                .then(|| table.moment("from"))
                .flatten();
            let to = table.require("to").then(|| table.moment("to")).flatten();
            let dry_run = table.bool("dry_run").unwrap_or(false);
            ScheduleCommand::Backfill(Backfill {
                schedule: schedule?,
                from: from?,
                to: to?,
                dry_run,
            })
        }
        _ => ScheduleCommand::List { page: page(table) },
    };
    Some(Command::Schedule(asked))
}
