//! What can be asked to be explained.

use serde_json::Value;

use super::Command;
use crate::document::Table;

#[derive(Clone, Debug, PartialEq)]
pub enum ExplainCommand {
    /// An event as the bus would bring it, by this queue.
    Event {
        event: String,
        queue: Option<String>,
    },
    /// One that was handled.
    Kept {
        event_id: String,
        source: Option<String>,
    },
    /// Why it is there, and why it is not running yet.
    Task { task_id: String },
    /// Why it did not run: on this object, with this plugin alone.
    Schedule {
        schedule: String,
        object: Option<String>,
        plugin: Option<String>,
    },
}

/// The ways in which something is named that is to be explained, and what each takes besides.
pub const WAYS: [(&str, &[&str]); 4] = [
    ("event", &["queue"]),
    ("event_id", &["source"]),
    ("task", &[]),
    ("schedule", &["object", "plugin"]),
];

pub(super) fn read(_: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let said = |table: &mut Table<'_, '_>, name: &str| {
        table.node(name).is_some_and(|node| !node.is_null())
    };
    let event = match table.node("event") {
        Some(node) if !node.is_null() => Some(match node.to_json() {
            Value::String(text) => text,
            other => other.to_string(),
        }),
        _ => None,
    };
    let (event_id, task) = (table.word("event_id"), table.word("task"));
    let schedule = table.word("schedule");
    let (object, plugin) = (table.word("object"), table.word("plugin"));
    let (queue, source) = (table.word("queue"), table.word("source"));
    let mut ways = Vec::new();
    for (way, _) in WAYS {
        if said(table, way) {
            ways.push(way);
        }
    }
    let [way] = ways.as_slice() else {
        let names: Vec<String> = WAYS.iter().map(|(way, _)| format!("`{way}`")).collect();
        table.complain(
            "event",
            format!(
                "say what is to be explained in one way: {}",
                names.join(", ")
            ),
        );
        return None;
    };
    for (other, takes) in WAYS {
        for name in takes {
            if other != *way && said(table, name) {
                table.complain(
                    name,
                    format!("`{name}` goes with `{other}`, not with `{way}`"),
                );
            }
        }
    }
    let asked = match *way {
        "event" => ExplainCommand::Event {
            event: event?,
            queue,
        },
        "event_id" => ExplainCommand::Kept {
            event_id: event_id?,
            source,
        },
        "task" => ExplainCommand::Task { task_id: task? },
        _ => ExplainCommand::Schedule {
            schedule: schedule?,
            object,
            plugin,
        },
    };
    Some(Command::Explain(asked))
}
