//! The contract with everybody outside: what events, statuses and task messages look like.

use muster::moment::{Moment, Span};
use muster::object::{Change, Level, ObjectKey, Rank, TypeNames, Word};
use muster::plugin::Plugin;
use muster::policy::{Format, Order};
use muster::run::Cause;
use muster::task::{Ending, Offer, OfferedInput, Status, StatusWord};
use muster::wire::{
    DEEPEST, EndsTask, Event, Flaw, LARGEST, Line, Message, Reading, Unreadable, cancel,
    openkat_task_message, read_event, read_line, read_status, task_message,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

#[path = "wire/cloudevents.rs"]
mod cloudevents;
#[path = "wire/limits.rs"]
mod limits;
#[path = "wire/openkat.rs"]
mod openkat;
#[path = "wire/status.rs"]
mod status;
#[path = "wire/tasks.rs"]
mod tasks;
#[path = "wire/worker.rs"]
mod worker;

const CLOUDEVENT: &[u8] = include_bytes!("wire/cloudevent.json");
const PROFILE_CREATE: &[u8] = include_bytes!("wire/scan_profile_create.json");
const PROFILE_DELETE: &[u8] = include_bytes!("wire/scan_profile_delete.json");
const RAW_FILE: &[u8] = include_bytes!("wire/raw_file.json");
const OBJECT_EVENT: &[u8] = include_bytes!("wire/object_event.json");
const TASK: &[u8] = include_bytes!("wire/task.json");

fn moment(text: &str) -> Moment {
    Moment::parse(text).expect("an instant")
}

fn arrived() -> Moment {
    moment("2026-11-21T10:00:00Z")
}

fn message(body: &[u8]) -> Message<'_> {
    Message {
        body,
        content_type: None,
        routing_key: "",
        message_id: None,
        headers: &[],
    }
}

fn read_as(
    format: Format,
    order: Order,
    message: &Message<'_>,
    names: &TypeNames,
) -> Result<Event, Unreadable> {
    let reading = Reading {
        format,
        order,
        names,
        arrived: arrived(),
        arrival: 42,
    };
    read_event(message, &reading)
}

fn native(body: &[u8]) -> Result<Event, Unreadable> {
    let names = TypeNames::default();
    read_as(Format::CloudEvents, Order::Time, &message(body), &names)
}

fn openkat(format: Format, body: &[u8]) -> Result<Event, Unreadable> {
    let names = TypeNames::default();
    read_as(format, Order::Arrival, &message(body), &names)
}

/// A native event of this type.
fn event(event_type: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": "e-7", "source": "/inventory", "type": event_type,
        "time": "2026-11-21T09:30:00Z", "data": data,
    })
}

fn native_value(event: &Value) -> Result<Event, Unreadable> {
    native(event.to_string().as_bytes())
}

/// The event of the contract with one field replaced; `None` takes it away.
fn changed(pointer: &str, value: Option<Value>) -> Value {
    let mut event: Value = serde_json::from_slice(CLOUDEVENT).expect("the sample is JSON");
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = event
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("the sample has it");
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
    event
}

#[track_caller]
fn refused(read: Result<Event, Unreadable>, reason: Flaw, said: &str) {
    let wrong = read.expect_err("it cannot be read");
    assert_eq!(wrong.reason, reason, "{wrong}");
    assert!(
        wrong.message.contains(said),
        "{wrong} does not say `{said}`"
    );
    assert!(!wrong.message.contains('\0'), "{wrong:?}");
}

fn key(organization: &str, primary_key: &str) -> ObjectKey {
    ObjectKey {
        organization: organization.to_owned(),
        primary_key: primary_key.to_owned(),
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

fn level(level: u8, profile_type: Option<&str>) -> Level {
    Level {
        level,
        profile_type: profile_type.map(str::to_owned),
    }
}

fn attributes(event: &Event) -> &Map<String, Value> {
    match &event.told.change.word {
        Word::Object {
            attributes: Some(attributes),
            ..
        } => attributes,
        other => panic!("{other:?} has no attributes"),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "1.0",
            "object.created",
            "create",
            "ooi",
            "acme",
            "2026-11-21T09:30:00Z",
            "error/x",
            "failed",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn read_all(body: &[u8]) {
    let headers = [(
        "ce-id".to_owned(),
        String::from_utf8_lossy(body).into_owned(),
    )];
    let names = TypeNames::default();
    for (_, format) in Format::WORDS {
        for (_, order) in Order::WORDS {
            let mut message = message(body);
            let _ = read_as(*format, *order, &message, &names);
            message.headers = &headers;
            let _ = read_as(*format, *order, &message, &names);
        }
    }
    let _ = read_status(body, arrived());
    let _ = read_line(body);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&body);
    }

    #[test]
    fn no_change_of_one_byte_makes_a_reader_panic(
        sample in 0..5_usize, at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut body = [CLOUDEVENT, PROFILE_CREATE, PROFILE_DELETE, RAW_FILE, OBJECT_EVENT][sample].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        read_all(&body);
    }

    #[test]
    fn no_value_of_any_field_makes_a_reader_panic(value in any_json(), sample in 0..5_usize, chosen in any::<prop::sample::Index>()) {
        let body = [CLOUDEVENT, PROFILE_CREATE, PROFILE_DELETE, RAW_FILE, OBJECT_EVENT][sample];
        let mut event: Value = serde_json::from_slice(body).unwrap();
        let mut pointers = Vec::new();
        pointers_of(&event, String::new(), &mut pointers);
        let pointer = chosen.get(&pointers);
        *event.pointer_mut(pointer).unwrap() = value.clone();
        read_all(event.to_string().as_bytes());
        read_all(value.to_string().as_bytes());
    }

    #[test]
    fn what_was_read_of_a_native_object_is_what_was_sent(value in any_json(), name in "[a-z]{1,8}") {
        let text = changed("/data/attributes", Some(json!({ name: value }))).to_string();
        let sent: Value = serde_json::from_str(&text).unwrap();
        match native(text.as_bytes()) {
            Ok(event) => prop_assert_eq!(Some(attributes(&event)), sent["data"]["attributes"].as_object()),
            Err(wrong) => prop_assert_eq!(wrong.reason, Flaw::Nul),
        }
    }
}

fn pointers_of(value: &Value, way: String, found: &mut Vec<String>) {
    if let Value::Object(members) = value {
        for (name, inner) in members {
            pointers_of(inner, format!("{way}/{name}"), found);
        }
    }
    found.push(way);
}
