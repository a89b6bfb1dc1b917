//! What can be asked of targets.

use super::{Command, Page, needed, page};
use crate::document::Table;

#[derive(Clone, Debug, PartialEq)]
pub enum TargetCommand {
    Get {
        schedule: String,
        object: String,
    },
    List {
        schedule: Option<String>,
        page: Page,
    },
}

pub(super) const VERBS: [&str; 2] = ["get", "list"];

pub(super) fn read(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "get" => {
            let schedule = needed(table, "schedule");
            let object = needed(table, "object");
            TargetCommand::Get {
                schedule: schedule?,
                object: object?,
            }
        }
        _ => TargetCommand::List {
            schedule: table.word("schedule"),
            page: page(table),
        },
    };
    Some(Command::Target(asked))
}
