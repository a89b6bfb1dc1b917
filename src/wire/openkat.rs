//! Events in OpenKAT's own three formats, as its producers send them.
//!
//! Scan profiles and object events carry no id, and the same bytes can be a new fact (create, delete, create). Only a
//! message id that the broker knows makes one of them count once.

use serde_json::{Map, Value};

use super::body::{self, Section, excerpt};
use super::cloudevents::{File, header_traceparent, instant_as_written, level, object_type};
use super::{
    Event, Flaw, LONGEST_ID, LONGEST_ORGANIZATION, LONGEST_PRIMARY_KEY, Message, Reading,
    Unreadable,
};
use crate::moment::Moment;
use crate::object::{Change, FILE, ObjectKey, Operation, Rank, Told, TypeNames, Word};
use crate::policy::Order;

/// A change of a scan profile. A profile comes and goes with its object here, so its deletion is the object's.
pub(super) fn scan_profile(
    message: &Message<'_>,
    reading: &Reading<'_>,
) -> Result<Event, Unreadable> {
    let mut event = body::section(message.body)?;
    let operation = operation(&mut event, "operation")?;
    let key = ObjectKey {
        organization: event.key("client_id", LONGEST_ORGANIZATION)?,
        primary_key: event.key("primary_key", LONGEST_PRIMARY_KEY)?,
    };
    let mut said_type = None;
    let word = if operation == Operation::Deleted {
        Word::Deleted
    } else {
        let mut value = event.section("value", "value")?;
        said_type = Some(object_type(&mut value, reading.names)?);
        let mut profile = value.section("scan_profile", "value.scan_profile")?;
        let level = level(&mut profile, "level")?.ok_or_else(|| profile.missing("level"))?;
        Word::Object {
            // The first sight of a live key is its creation, whatever the word.
            created: true,
            attributes: None,
            level: Some(level),
        }
    };
    let strong_id = message_id(message)?;
    let change = Change {
        key,
        object_type: said_type,
        rank: rank(&mut event, reading, None, strong_id)?,
        word,
        create_counts: operation == Operation::Created,
    };
    Ok(Event {
        inbox: inbox(strong_id),
        told: Told {
            event_id: strong_id.map(str::to_owned),
            event_type: event_type(operation).to_owned(),
            at: reading.arrived,
            traceparent: header_traceparent(message),
            change,
        },
        ends: None,
    })
}

/// A change of an object.
pub(super) fn object(message: &Message<'_>, reading: &Reading<'_>) -> Result<Event, Unreadable> {
    let mut event = body::section(message.body)?;
    let entity = event.text("entity_type")?;
    if entity != "ooi" {
        let message = format!("entity_type is `{}`; only `ooi` is read", excerpt(&entity));
        return Err(Unreadable::new(Flaw::UnknownType, message));
    }
    let operation = operation(&mut event, "operation_type")?;
    let organization = event.key("client", LONGEST_ORGANIZATION)?;
    let at = event.instant("valid_time")?;
    let mut data = match operation {
        Operation::Deleted => event.section("old_data", "old_data")?,
        _ => event.section("new_data", "new_data")?,
    };
    let key = ObjectKey {
        organization,
        primary_key: data.key("primary_key", LONGEST_PRIMARY_KEY)?,
    };
    let said_type = object_type(&mut data, reading.names)?;
    let word = if operation == Operation::Deleted {
        Word::Deleted
    } else {
        let way = "new_data.scan_profile";
        let level = match data.optional_section("scan_profile", way)? {
            None => None,
            Some(mut profile) => level(&mut profile, "level")?,
        };
        let mut attributes = data.rest();
        // Who set the level is not about the object.
        attributes.remove("user_id");
        Word::Object {
            created: operation == Operation::Created,
            attributes: Some(attributes),
            level,
        }
    };
    let strong_id = message_id(message)?;
    let change = Change {
        key,
        object_type: Some(said_type),
        rank: rank(&mut event, reading, Some(at), strong_id)?,
        word,
        create_counts: operation == Operation::Created,
    };
    Ok(Event {
        inbox: inbox(strong_id),
        told: Told {
            event_id: strong_id.map(str::to_owned),
            event_type: event_type(operation).to_owned(),
            at,
            traceparent: header_traceparent(message),
            change,
        },
        ends: None,
    })
}

/// A raw file. The event's `raw_data` stays with the file, because the task of a normalizer carries it.
pub(super) fn raw_file(message: &Message<'_>, reading: &Reading<'_>) -> Result<Event, Unreadable> {
    let mut event = body::section(message.body)?;
    let organization = event.key("organization", LONGEST_ORGANIZATION)?;
    let at = event.optional_instant("created_at")?;
    let raw_data = event
        .value("raw_data")
        .ok_or_else(|| event.missing("raw_data"))?;
    let mut raw = Section::of("raw_data", "raw_data", raw_data.clone())?;
    let id = raw.key("id", LONGEST_PRIMARY_KEY)?;
    let file = file(raw, reading.names)?;
    let ends = file.ends();
    let attributes = Map::from_iter([("raw_data".to_owned(), raw_data)]);
    // A file is made once; an intake that is ordered by versions finds none here.
    let number = match reading.order {
        Order::Time | Order::Version => at.unwrap_or(reading.arrived).micros(),
        Order::Arrival => reading.arrival,
    };
    let change = Change {
        key: ObjectKey {
            organization,
            primary_key: id.clone(),
        },
        object_type: Some(FILE.to_owned()),
        rank: Rank {
            number,
            event_id: id.clone(),
        },
        word: Word::Object {
            created: true,
            attributes: Some(file.laid_over(attributes)),
            level: None,
        },
        create_counts: false,
    };
    Ok(Event {
        told: Told {
            event_id: Some(id.clone()),
            event_type: "raw_data.created".to_owned(),
            at: at.unwrap_or(reading.arrived),
            traceparent: header_traceparent(message),
            change,
        },
        inbox: Some(("raw-file".to_owned(), id)),
        ends,
    })
}

fn file(mut raw: Section, names: &TypeNames) -> Result<File, Unreadable> {
    let mut mime_types = Vec::new();
    for value in raw.list("mime_types")? {
        match value {
            Value::String(mime) => mime_types.push(mime),
            other => {
                let way = "raw_data.mime_types[]";
                mime_types.push(Section::of(way, way, other)?.text("value")?);
            }
        }
    }
    let mut meta = raw.section("boefje_meta", "raw_data.boefje_meta")?;
    let mut boefje = meta.section("boefje", "raw_data.boefje_meta.boefje")?;
    // `Hostname|internet|www.example.com`: the type is the first part of the key.
    let input = meta
        .optional_key("input_ooi", LONGEST_PRIMARY_KEY)?
        .map(|key| {
            let written = key.split('|').next().unwrap_or_default();
            (names.ours(written), key)
        });
    Ok(File {
        mime_types,
        plugin_id: boefje.text("id")?,
        task_id: Some(meta.text("id")?),
        input,
        started_at: instant_as_written(&mut meta, "started_at")?,
        ended_at: instant_as_written(&mut meta, "ended_at")?,
    })
}

fn operation(event: &mut Section, name: &str) -> Result<Operation, Unreadable> {
    let word = event.text(name)?;
    match word.as_str() {
        "create" => Ok(Operation::Created),
        "update" => Ok(Operation::Updated),
        "delete" => Ok(Operation::Deleted),
        other => {
            let what = format!(
                "is `{}`; it must be create, update or delete",
                excerpt(other)
            );
            Err(event.bad(name, what))
        }
    }
}

fn event_type(operation: Operation) -> &'static str {
    match operation {
        Operation::Created => "object.created",
        Operation::Deleted => "object.deleted",
        Operation::Updated | Operation::Finished => "object.updated",
    }
}

/// The id that the broker knows the message by, if its producer gave it one.
fn message_id<'a>(message: &Message<'a>) -> Result<Option<&'a str>, Unreadable> {
    let Some(id) = message.message_id.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    if id.contains('\0') {
        let message = "the message id holds a NUL character";
        return Err(Unreadable::new(Flaw::Nul, message));
    }
    body::bounded(id, LONGEST_ID, || "the message id".to_owned())?;
    Ok(Some(id))
}

fn inbox(strong_id: Option<&str>) -> Option<(String, String)> {
    strong_id.map(|id| ("message-id".to_owned(), id.to_owned()))
}

fn rank(
    event: &mut Section,
    reading: &Reading<'_>,
    at: Option<Moment>,
    strong_id: Option<&str>,
) -> Result<Rank, Unreadable> {
    let number = match reading.order {
        Order::Time => at.unwrap_or(reading.arrived).micros(),
        Order::Version => event.integer("version").map_err(|mut wrong| {
            wrong.message += "; this intake is ordered by version";
            wrong
        })?,
        Order::Arrival => reading.arrival,
    };
    let event_id = match strong_id {
        Some(id) => id.to_owned(),
        // Padded, so that as text the later arrival is the larger too.
        None => format!("{:020}", reading.arrival),
    };
    Ok(Rank { number, event_id })
}
