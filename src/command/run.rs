//! What can be asked of runs.

use serde_json::{Map, Value};

use super::list::{Listing, Rows, listing};
use super::{Command, needed};
use crate::document::Table;

#[derive(Clone, Debug, PartialEq)]
pub enum RunCommand {
    Start(Start),
    Get {
        run_id: String,
    },
    List {
        schedule: Option<String>,
        listing: Listing,
    },
    Cancel {
        run_id: String,
    },
}

/// What is to run now: a schedule, or one plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    pub schedule: Option<String>,
    pub plugin: Option<String>,
    pub objects: Vec<String>,
    pub parameters: Map<String, Value>,
}

pub(super) const VERBS: [&str; 4] = ["start", "get", "list", "cancel"];

pub(super) fn read(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "start" => RunCommand::Start(start(table)),
        "get" => RunCommand::Get {
            run_id: needed(table, "run_id")?,
        },
        "cancel" => RunCommand::Cancel {
            run_id: needed(table, "run_id")?,
        },
        _ => {
            let schedule = table.word("schedule");
            let listing = listing(Rows::Run, table, &["state"]);
            RunCommand::List { schedule, listing }
        }
    };
    Some(Command::Run(asked))
}

fn start(table: &mut Table<'_, '_>) -> Start {
    let start = Start {
        schedule: table.word("schedule"),
        plugin: table.word("plugin"),
        objects: table.texts("objects").unwrap_or_default(),
        parameters: table.object("parameters").unwrap_or_default(),
    };
    if start.schedule.is_some() == start.plugin.is_some() {
        table.complain("schedule", "name either a schedule or a plugin");
    }
    start
}
