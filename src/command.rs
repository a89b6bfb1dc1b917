//! What people ask: which commands there are, and what their arguments mean.

use serde_json::{Map, Value};

use crate::document::{Complaints, Node, Table, nearest};
use crate::moment::Moment;
use crate::run::RunState;
use crate::wire::Refused;

/// A command that can be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    RunStart(Start),
    RunGet {
        run_id: String,
    },
    RunList {
        schedule: Option<String>,
        state: Option<String>,
        page: Page,
    },
    RunCancel {
        run_id: String,
    },
    SchedulePause {
        schedule: String,
        reason: String,
    },
    ScheduleResume {
        schedule: String,
    },
    ScheduleList {
        page: Page,
    },
    ScheduleBackfill(Backfill),
    TargetGet {
        schedule: String,
        object: String,
    },
    TargetList {
        schedule: Option<String>,
        page: Page,
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

/// Instants of a schedule that are to run although they have gone by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub schedule: String,
    pub from: Moment,
    pub to: Moment,
    pub dry_run: bool,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub limit: i64,
    pub offset: i64,
}

/// Commands of the contract that are not done yet.
const NOT_YET: [&str; 31] = [
    "organization.apply",
    "organization.list",
    "plugin.apply",
    "plugin.delete",
    "plugin.enable",
    "plugin.disable",
    "plugin.list",
    "object_set.apply",
    "object_set.delete",
    "object_set.list",
    "calendar.apply",
    "calendar.delete",
    "calendar.list",
    "schedule.apply",
    "schedule.delete",
    "schedule.preview",
    "task.get",
    "task.list",
    "task.cancel",
    "task.retry",
    "task.mark",
    "attempt.list",
    "queue.list",
    "queue.pause",
    "queue.resume",
    "dead_letter.list",
    "dead_letter.show",
    "dead_letter.redrive",
    "dead_letter.drop",
    "explain",
    "stats",
];

const DONE: [&str; 10] = [
    "run.start",
    "run.get",
    "run.list",
    "run.cancel",
    "schedule.pause",
    "schedule.resume",
    "schedule.list",
    "schedule.backfill",
    "target.get",
    "target.list",
];

impl Command {
    /// Reads the arguments of a command. Those that it does not know are refused, with the nearest right name.
    pub fn read(name: &str, args: &Map<String, Value>) -> Result<Command, Refused> {
        if !DONE.contains(&name) {
            return Err(unknown(name));
        }
        let node = Node::from_json(&Value::Object(args.clone()));
        let mut complaints = Complaints::new("");
        let command = {
            let Some(mut table) = Table::open(&node, "args", &mut complaints) else {
                return Err(Refused::new(
                    "wrong_argument",
                    "args: an object is needed",
                    "",
                ));
            };
            let command = read(name, &mut table);
            table.finish();
            command
        };
        match command {
            Some(command) if !complaints.has_errors() => Ok(command),
            _ => {
                let said: Vec<String> = complaints.iter().map(ToString::to_string).collect();
                Err(Refused::new(
                    "wrong_argument",
                    said.join("; "),
                    format!("see the arguments of {name}"),
                ))
            }
        }
    }
}

fn unknown(name: &str) -> Refused {
    if NOT_YET.contains(&name) {
        return Refused::new(
            "not_supported",
            format!("{name} is not done on the bus yet"),
            "use the command line: muster apply, muster task list, …",
        );
    }
    let known = DONE.iter().chain(&NOT_YET).copied();
    let near = nearest(name, known);
    let help = match near.as_slice() {
        [] => format!("there are {}", DONE.join(", ")),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Refused::new("unknown_command", format!("`{name}` is no command"), help)
}

fn read(name: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let needed = |table: &mut Table<'_, '_>, field: &str| {
        table.require(field).then(|| table.word(field)).flatten()
    };
    Some(match name {
        "run.start" => {
            let start = Start {
                schedule: table.word("schedule"),
                plugin: table.word("plugin"),
                objects: table.texts("objects").unwrap_or_default(),
                parameters: table.object("parameters").unwrap_or_default(),
            };
            if start.schedule.is_some() == start.plugin.is_some() {
                table.complain("schedule", "name either a schedule or a plugin");
            }
            Command::RunStart(start)
        }
        "run.get" => Command::RunGet {
            run_id: needed(table, "run_id")?,
        },
        "run.cancel" => Command::RunCancel {
            run_id: needed(table, "run_id")?,
        },
        "run.list" => Command::RunList {
            schedule: table.word("schedule"),
            state: table.parsed("state", |word| {
                let known: Vec<&str> = RunState::ALL.iter().map(|(word, _)| *word).collect();
                RunState::parse(word)
                    .map(|state| state.word().to_owned())
                    .ok_or_else(|| format!("`{word}` is no state; known: {}", known.join(", ")))
            }),
            page: page(table),
        },
        "schedule.pause" => Command::SchedulePause {
            schedule: needed(table, "schedule")?,
            reason: needed(table, "reason")?,
        },
        "schedule.resume" => Command::ScheduleResume {
            schedule: needed(table, "schedule")?,
        },
        "schedule.list" => Command::ScheduleList { page: page(table) },
        "schedule.backfill" => {
            let schedule = needed(table, "schedule");
            let from = table
                .require("from")
                .then(|| table.moment("from"))
                .flatten();
            let to = table.require("to").then(|| table.moment("to")).flatten();
            let dry_run = table.bool("dry_run").unwrap_or(false);
            Command::ScheduleBackfill(Backfill {
                schedule: schedule?,
                from: from?,
                to: to?,
                dry_run,
            })
        }
        "target.get" => {
            let schedule = needed(table, "schedule");
            let object = needed(table, "object");
            Command::TargetGet {
                schedule: schedule?,
                object: object?,
            }
        }
        _ => Command::TargetList {
            schedule: table.word("schedule"),
            page: page(table),
        },
    })
}

fn page(table: &mut Table<'_, '_>) -> Page {
    Page {
        limit: table.int_in("limit", 1..=1000).unwrap_or(50),
        offset: table.int_in("offset", 0..=i64::MAX).unwrap_or(0),
    }
}
