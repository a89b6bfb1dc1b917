//! What can be asked of tasks and of their attempts.

use super::list::{Listing, Rows, Which, listing, which};
use super::{Command, needed};
use crate::document::Table;
use crate::task::TaskState;

#[derive(Clone, Debug, PartialEq)]
pub enum TaskCommand {
    Get {
        task_id: String,
    },
    List(Listing),
    Cancel {
        which: Which,
        reason: Option<String>,
    },
    Retry {
        which: Which,
    },
    Mark {
        task_id: String,
        state: TaskState,
        reason: String,
    },
}

pub(super) const VERBS: [&str; 5] = ["get", "list", "cancel", "retry", "mark"];

/// What a person may say that a task has come to.
pub const MARKS: [(&str, TaskState); 2] = [
    ("succeeded", TaskState::Succeeded),
    ("failed", TaskState::Failed),
];

pub(super) fn read(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "get" => TaskCommand::Get {
            task_id: needed(table, "task_id")?,
        },
        "cancel" => {
            let reason = table.word("reason");
            TaskCommand::Cancel {
                which: which(Rows::Task, "task_id", table)?,
                reason,
            }
        }
        "retry" => TaskCommand::Retry {
            which: which(Rows::Task, "task_id", table)?,
        },
        "mark" => {
            let task_id = needed(table, "task_id");
            let state = match table.require("state") {
                true => table.one_of("state", &MARKS),
                false => None,
            };
            let reason = needed(table, "reason");
            TaskCommand::Mark {
                task_id: task_id?,
                state: state?,
                reason: reason?,
            }
        }
        _ => TaskCommand::List(listing(
            Rows::Task,
            table,
            &["run_id", "schedule", "plugin_id", "state", "queue"],
        )),
    };
    Some(Command::Task(asked))
}

pub(super) const ATTEMPT_VERBS: [&str; 1] = ["list"];

pub(super) fn read_attempt(_: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = listing(
        Rows::Attempt,
        table,
        &["task_id", "schedule", "plugin_id", "worker", "outcome"],
    );
    Some(Command::Attempts(asked))
}
