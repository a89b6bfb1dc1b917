//! The contract with everybody outside, as documents: a JSON Schema (draft 7) of every message, of what people declare in
//! files and of the lines of `query --batch`, and the AsyncAPI 3 document that says on which channels they go.
//!
//! The words, limits and names in them are those of the code that reads and writes. Where a reader takes things by hand,
//! its schema stands here, and `tests/contract.rs` holds the two against each other: what the reader takes is valid, and
//! what it refuses by its shape is not.

use serde_json::{Value, json};

mod asyncapi;
mod commands;
mod events;
mod files;
mod lines;
mod shape;
mod tasks;

/// The name of the AsyncAPI document among the schemas.
pub const ASYNCAPI: &str = "asyncapi";

/// A document by its name, what it is about, and what makes it.
type Entry = (&'static str, &'static str, fn() -> Value);

const SCHEMAS: [Entry; 22] = [
    (
        "event",
        "an event, as a CloudEvent in structured mode",
        events::native,
    ),
    (
        "openkat-scan-profile",
        "a change of a scan profile, as OpenKAT sends it",
        events::scan_profile,
    ),
    (
        "openkat-raw-file",
        "a raw file that was received, as OpenKAT sends it",
        events::raw_file,
    ),
    (
        "openkat-object",
        "a change of an object, as OpenKAT sends it",
        events::object,
    ),
    ("task", "a task, as workers get it", tasks::task),
    (
        "openkat-task",
        "a task in OpenKAT's envelope (format = \"openkat\")",
        tasks::openkat,
    ),
    ("status", "what a worker reports", tasks::status),
    ("control", "what all workers are told", tasks::control),
    (
        "request",
        "a command, with its arguments",
        commands::request,
    ),
    ("reply", "the answer to a command", commands::reply),
    (
        "life",
        "what is told of runs, tasks, schedules and rejected events, as a CloudEvent",
        tasks::life,
    ),
    (
        "file",
        "a file of declarations, for apply and check",
        files::file,
    ),
    (
        "organization",
        "an organisation in a file",
        files::organization,
    ),
    ("plugin", "a plugin in a file", files::plugin),
    ("object-set", "an object set in a file", files::object_set),
    ("calendar", "a calendar in a file", files::calendar),
    ("schedule", "a schedule in a file", files::schedule),
    ("run", "a run that a file starts once", files::run),
    ("test", "a case for muster test in a file", files::case),
    ("line", "a line of input in lines mode", lines::input),
    (
        "question",
        "a line that query --batch reads",
        lines::question,
    ),
    ("answer", "a line that query --batch writes", lines::answer),
];

/// The names of all documents, with what they are about.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let schemas = SCHEMAS.iter().map(|(name, about, _)| (*name, *about));
    schemas.chain([(
        ASYNCAPI,
        "all channels, operations and messages, as an AsyncAPI 3 document",
    )])
}

/// The document of that name.
pub fn document(name: &str) -> Option<Value> {
    if name == ASYNCAPI {
        return Some(asyncapi::document());
    }
    let (name, about, schema) = SCHEMAS.iter().find(|(known, _, _)| *known == name)?;
    let mut document = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": format!("urn:muster:{name}"),
        "title": name,
        "description": about,
    });
    if let (Value::Object(document), Value::Object(schema)) = (&mut document, schema()) {
        document.extend(schema);
    }
    Some(document)
}

/// The name of the file that holds the document of that name.
pub fn file_name(name: &str) -> String {
    match name {
        ASYNCAPI => format!("{ASYNCAPI}.json"),
        name => format!("{name}.schema.json"),
    }
}
