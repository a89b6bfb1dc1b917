//! The shapes of messages: events, statuses and lines coming in, tasks going out; and for a worker the other way round. JSON of messages is read and written
//! here and nowhere else, and so are the versions of these shapes.
//!
//! No body makes a reader panic. What cannot be read is an [`Unreadable`] that says which field is wrong, what was found
//! there and what would be right; the bytes themselves stay with the caller. Fields that are not known are left alone.
//!
//! A body is held against four limits before anything is asked of it: its size ([`LARGEST`]), its nesting ([`DEEPEST`]),
//! UTF-8, and that no string or name holds a NUL, which PostgreSQL refuses. Keys that become part of a database's index
//! are bounded too, so that what was read can also be stored.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::moment::Moment;
use crate::object::{Told, TypeNames};
use crate::policy::{Format, Order};

mod assignment;
mod body;
mod cloudevents;
mod command;
mod envelope;
mod murmur;
mod offer;
mod openkat;
mod status;

pub use assignment::{Assignment, Cancel, read_cancel, read_outputs, read_task, task_of};
pub use cloudevents::{EVENT_TYPES, PROFILE_TYPES, is_named};
pub use command::{Refused, Requested, read_reply, read_request, reply};
pub use envelope::openkat_task_message;
pub use offer::task_message;
pub use status::{read_status, status_message, traceparent_in};

/// The largest body that is read, in bytes.
pub const LARGEST: usize = 20 * 1024 * 1024;

/// The deepest nesting that is read. A little below what the JSON library reads at all (127), because attributes travel
/// on in tasks, where they stand a level or two deeper, and must be readable there too.
pub const DEEPEST: usize = 120;

/// The longest organisation, in bytes: what an event brings is declared by that, so a declaration must take it too.
pub const LONGEST_ORGANIZATION: usize = 200;
/// The longest primary key, in bytes.
pub const LONGEST_PRIMARY_KEY: usize = 2048;
/// The longest name of an object type, in bytes.
pub const LONGEST_TYPE: usize = 128;
/// The longest id and the longest source of an event, in bytes.
pub const LONGEST_ID: usize = 1024;

/// A message as a bus hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub body: &'a [u8],
    pub content_type: Option<&'a str>,
    pub routing_key: &'a str,
    pub message_id: Option<&'a str>,
    pub headers: &'a [(String, String)],
}

impl<'a> Message<'a> {
    /// The value of a header; names are compared without regard to case.
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// What the broker or a header says that the body is.
    fn content_type(&self) -> Option<&'a str> {
        self.content_type.or_else(|| self.header("content-type"))
    }
}

/// How the messages of one intake are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub format: Format,
    pub order: Order,
    pub names: &'a TypeNames,
    pub arrived: Moment,
    /// The number of this arrival; it strictly rises.
    pub arrival: i64,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// A strong id, as (source, id): the message counts once. Without one the state of the object has to tell.
    pub inbox: Option<(String, String)>,
    pub told: Told,
    /// A raw file names the task that made it.
    pub ends: Option<EndsTask>,
}

/// The task that made a raw file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndsTask {
    pub task_id: String,
    /// A MIME type of the file starts with `error/`.
    pub failed: bool,
}

/// Reads one event in the format of its intake.
pub fn read_event(message: &Message<'_>, reading: &Reading<'_>) -> Result<Event, Unreadable> {
    match reading.format {
        Format::CloudEvents => cloudevents::read(message, reading),
        Format::OpenkatScanProfile => openkat::scan_profile(message, reading),
        Format::OpenkatRawFile => openkat::raw_file(message, reading),
        Format::OpenkatObject => openkat::object(message, reading),
    }
}

/// What a line of input is, told by its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Event,
    Status,
    Command,
    /// Sets the clock.
    Clock(Moment),
}

/// Tells the lines of lines mode apart. What has no shape that is known is left to the reader of events, which says what
/// is wrong with it.
pub fn read_line(line: &[u8]) -> Result<Line, Unreadable> {
    /// Only whether the fields are there; their values are skipped, however deep they are.
    #[derive(Deserialize)]
    struct Shape {
        specversion: Option<IgnoredAny>,
        command: Option<IgnoredAny>,
        task_id: Option<IgnoredAny>,
        status: Option<IgnoredAny>,
        now: Option<IgnoredAny>,
    }
    if line.len() > LARGEST {
        return Ok(Line::Event);
    }
    Ok(match serde_json::from_slice::<Shape>(line) {
        Err(_) => Line::Event,
        Ok(shape) if shape.specversion.is_some() => Line::Event,
        Ok(shape) if shape.command.is_some() => Line::Command,
        Ok(shape) if shape.task_id.is_some() && shape.status.is_some() => Line::Status,
        Ok(shape) if shape.now.is_some() => Line::Clock(body::section(line)?.instant("now")?),
        Ok(_) => Line::Event,
    })
}

/// Why a message could not be read. A closed list; dead letters are counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    NotJson,
    TooLarge,
    TooDeep,
    NotUtf8,
    Nul,
    MissingField,
    WrongType,
    TooLong,
    BadValue,
    /// Of an event.
    UnknownType,
    UnknownObjectType,
}

impl Flaw {
    pub const ALL: [(&'static str, Flaw); 11] = [
        ("not_json", Flaw::NotJson),
        ("too_large", Flaw::TooLarge),
        ("too_deep", Flaw::TooDeep),
        ("not_utf8", Flaw::NotUtf8),
        ("nul", Flaw::Nul),
        ("missing_field", Flaw::MissingField),
        ("wrong_type", Flaw::WrongType),
        ("too_long", Flaw::TooLong),
        ("bad_value", Flaw::BadValue),
        ("unknown_type", Flaw::UnknownType),
        ("unknown_object_type", Flaw::UnknownObjectType),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, flaw)| *flaw == self)
            .map_or("bad_value", |(word, _)| word)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A message that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub reason: Flaw,
    /// Names the field by its path, what was found and what would be right. Never holds a NUL.
    pub message: String,
}

impl Unreadable {
    fn new(reason: Flaw, message: impl Into<String>) -> Unreadable {
        let mut message = message.into();
        // The text quotes what was found, and it is stored beside the message.
        if message.contains('\0') {
            message = message.replace('\0', "\\u0000");
        }
        Unreadable { reason, message }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Unreadable {}

/// Tells whoever has a task that it is wanted no more.
pub fn cancel(task_id: &str, attempt: Option<i64>, worker: Option<&str>) -> Vec<u8> {
    let mut message = serde_json::json!({"type": "cancel", "task_id": task_id});
    if let Some(attempt) = attempt {
        message["attempt"] = attempt.into();
    }
    if let Some(worker) = worker {
        message["worker"] = worker.into();
    }
    message.to_string().into_bytes()
}
