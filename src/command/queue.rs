//! What can be asked of queues.

use super::{Command, needed};
use crate::document::Table;

#[derive(Clone, Debug, PartialEq)]
pub enum QueueCommand {
    List,
    Pause { queue: String, reason: String },
    Resume { queue: String },
}

pub(super) const VERBS: [&str; 3] = ["list", "pause", "resume"];

pub(super) fn read(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "pause" => {
            let queue = needed(table, "queue");
            let reason = needed(table, "reason");
            QueueCommand::Pause {
                queue: queue?,
                reason: reason?,
            }
        }
        "resume" => QueueCommand::Resume {
            queue: needed(table, "queue")?,
        },
        _ => QueueCommand::List,
    };
    Some(Command::Queue(asked))
}
