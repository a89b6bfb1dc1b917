//! What people ask: which commands there are, and what their arguments mean.
//!
//! A command is a noun and a verb. Each noun has a room here that reads what its verbs take, and one of the same name
//! in [`answer`](crate::answer) that does it.

use serde_json::{Map, Value};

use crate::document::{Complaints, Node, Table, nearest};
use crate::wire::Refused;

mod declared;
mod explain;
mod letter;
mod list;
mod queue;
mod run;
mod schedule;
mod target;
mod task;

pub use declared::{Apply, DeclaredCommand, IF_EXISTS, IfExists, name_of};
pub use explain::{ExplainCommand, WAYS as EXPLAINED};
pub use letter::LetterCommand;
pub use list::{Filter, Listing, Rows, Which, position};
pub use queue::QueueCommand;
pub use run::{RunCommand, Start};
pub use schedule::{Backfill, Preview, ScheduleCommand};
pub use target::TargetCommand;
pub use task::{MARKS, TaskCommand};

/// A command that can be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Queue(QueueCommand),
    Run(RunCommand),
    Schedule(ScheduleCommand),
    Target(TargetCommand),
    Task(TaskCommand),
    Attempts(Listing),
    DeadLetter(LetterCommand),
    Declared(DeclaredCommand),
    Explain(ExplainCommand),
    Stats,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub limit: i64,
    pub offset: i64,
}

/// Reads the arguments of a verb of one noun.
type Read = fn(&str, &mut Table<'_, '_>) -> Option<Command>;

/// The nouns with their verbs, and who reads them.
const NOUNS: [(&str, &[&str], Read); 13] = [
    (
        "organization",
        &declared::ORGANIZATION,
        declared::organization,
    ),
    ("plugin", &declared::PLUGIN, declared::plugin),
    ("object_set", &declared::OBJECT_SET, declared::object_set),
    ("calendar", &declared::CALENDAR, declared::calendar),
    ("queue", &queue::VERBS, queue::read),
    ("run", &run::VERBS, run::read),
    ("schedule", &schedule::VERBS, schedule::read),
    ("target", &target::VERBS, target::read),
    ("task", &task::VERBS, task::read),
    ("attempt", &task::ATTEMPT_VERBS, task::read_attempt),
    ("dead_letter", &letter::VERBS, letter::read),
    ("explain", &[""], explain::read),
    ("stats", &[""], |_, _| Some(Command::Stats)),
];

impl Command {
    /// Reads the arguments of a command. Those that it does not know are refused, with the nearest right name.
    pub fn read(name: &str, args: &Map<String, Value>) -> Result<Command, Refused> {
        let Some((verb, reader)) = reader(name) else {
            return Err(unknown(name));
        };
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
            let command = reader(verb, &mut table);
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

impl Command {
    /// Whether it asks for something in particular, that whoever asks knows of; the answer that there is nothing is then
    /// as good as a refusal.
    pub fn seeks(&self) -> bool {
        match self {
            Command::Run(RunCommand::List { schedule, listing }) => {
                schedule.is_some() || listing.seeks()
            }
            Command::Task(TaskCommand::List(listing))
            | Command::DeadLetter(LetterCommand::List(listing))
            | Command::Attempts(listing) => listing.seeks(),
            Command::Task(TaskCommand::Cancel { which, .. } | TaskCommand::Retry { which })
            | Command::DeadLetter(
                LetterCommand::Redrive { which } | LetterCommand::Drop { which },
            ) => which.seeks(),
            Command::Target(TargetCommand::Get { .. }) => true,
            Command::Target(TargetCommand::List { schedule, .. }) => schedule.is_some(),
            _ => false,
        }
    }
}

/// The verb of a command, and who reads its arguments.
fn reader(name: &str) -> Option<(&str, Read)> {
    let (noun, verb) = name.split_once('.').unwrap_or((name, ""));
    let (_, verbs, reader) = NOUNS.iter().find(|(known, _, _)| *known == noun)?;
    verbs.contains(&verb).then_some((verb, *reader))
}

/// Every command that can be done.
pub fn names() -> Vec<String> {
    let verbs = |(noun, verbs, _): &(&str, &'static [&'static str], Read)| {
        let noun = (*noun).to_owned();
        verbs.iter().map(move |verb| match *verb {
            "" => noun.clone(),
            verb => format!("{noun}.{verb}"),
        })
    };
    NOUNS.iter().flat_map(verbs).collect()
}

fn unknown(name: &str) -> Refused {
    let done = names();
    let known = done.iter().map(String::as_str);
    let near = nearest(name, known);
    let help = match near.as_slice() {
        [] => format!("there are {}", done.join(", ")),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Refused::new("unknown_command", format!("`{name}` is no command"), help)
}

/// A word without which the command means nothing.
fn needed(table: &mut Table<'_, '_>, field: &str) -> Option<String> {
    table.require(field).then(|| table.word(field)).flatten()
}

fn page(table: &mut Table<'_, '_>) -> Page {
    Page {
        limit: table.int_in("limit", 1..=1000).unwrap_or(50),
        offset: table.int_in("offset", 0..=i64::MAX).unwrap_or(0),
    }
}
