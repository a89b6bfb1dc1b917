//! A case as a file holds it: what is there, what happens, and what is to come of it.

use serde_json::{Value as Json, json};

use super::{Before, Case, Cue, Refused, Wanted};
use crate::declaration::{Kind, Sheet, Variables};
use crate::document::{Complaint, Complaints, Field, Node, Place, Table, Value};
use crate::moment::{Moment, Span};
use crate::object::{Object, Told, merge};
use crate::policy::{Format, Order};
use crate::rules::Rules;
use crate::run::Reason;
use crate::wire::{self, Message, Reading};

/// The cases of a file.
#[derive(Default)]
pub struct Cases {
    pub cases: Vec<Case>,
    /// What they name, also those that cannot be played.
    pub named: Vec<Named>,
    pub complaints: Vec<Complaint>,
}

/// A plugin or a schedule as a case names it.
pub struct Named {
    pub kind: Kind,
    pub name: String,
    pub path: String,
    pub place: Option<Place>,
}

/// Reads the cases of a file (`kind: test`); everything else in it is left to others.
pub fn read_cases(
    name: &str,
    bytes: &[u8],
    variables: &Variables,
    rules: &Rules,
) -> (Vec<Case>, Vec<Complaint>) {
    let sheet = Sheet::open(name, bytes, variables);
    let read = Cases::of(&sheet, rules);
    let mut complaints = sheet.complaints;
    complaints.extend(read.complaints);
    (read.cases, complaints)
}

impl Cases {
    pub fn of(sheet: &Sheet, rules: &Rules) -> Cases {
        let mut complaints = Complaints::new(sheet.name.as_str());
        let mut read = Cases::default();
        for entry in sheet.cases() {
            read.cases.extend(case(entry, rules, &mut complaints));
            read.named.extend(named(entry));
        }
        read.complaints = complaints.into_vec();
        read
    }
}

/// The plugins and schedules that a case names.
fn named(case: &Node) -> Vec<Named> {
    let mut named = Vec::new();
    for list in ["open", "ended", "tasks", "refused"] {
        let Some(Value::List(items)) = case.get(list).map(|list| &list.value) else {
            continue;
        };
        for (at, item) in items.iter().enumerate() {
            for (kind, word) in [(Kind::Plugin, "plugin"), (Kind::Schedule, "schedule")] {
                let Some(node) = item.get(word) else {
                    continue;
                };
                if let Value::Text(name) = &node.value {
                    named.push(Named {
                        kind,
                        name: name.clone(),
                        path: format!("{list}[{at}].{word}"),
                        place: node.place,
                    });
                }
            }
        }
    }
    named
}

fn case(node: &Node, rules: &Rules, complaints: &mut Complaints) -> Option<Case> {
    let before = complaints.iter().filter(|c| c.is_error()).count();
    let mut table = Table::open(node, "", complaints)?;
    table.node("kind");
    table.require("name");
    let name = table.word("name");
    let at = table.moment("at");
    // A case is the same on every day.
    let now = table.moment("now").or(at).unwrap_or(Moment::from_micros(0));
    let given = table
        .list("given", |field| object(field, rules, now))
        .unwrap_or_default();
    let open = table.list("open", past).unwrap_or_default();
    let ended = table.list("ended", past).unwrap_or_default();
    let event = table.get("event").and_then(|field| told(field, rules, now));
    let mut there = |name: &str| table.node(name).is_some_and(|node| !node.is_null());
    let cue = match (there("event"), there("at")) {
        (true, true) => {
            table.complain("at", "a case has an `event` or an instant `at`, not both");
            None
        }
        (true, false) => event.map(|event| Cue::Event(Box::new(event))),
        (false, true) => at.map(Cue::Instant),
        (false, false) => {
            table.complain(
                "event",
                "a case needs an `event`, as the bus would bring it, or an instant `at`",
            );
            None
        }
    };
    let tasks = table.list("tasks", wanted).unwrap_or_default();
    let refused = table.list("refused", refused).unwrap_or_default();
    let place = table.place();
    table.finish();
    if complaints.iter().filter(|c| c.is_error()).count() > before {
        return None;
    }
    Some(Case {
        name: name?,
        place,
        now,
        given,
        open,
        ended,
        cue: cue?,
        tasks,
        refused,
    })
}

/// What an object that is given may say.
const GIVEN: [&str; 6] = [
    "organization",
    "object_type",
    "primary_key",
    "attributes",
    "scan_level",
    "scan_profile_type",
];

/// An object that is there before anything happens: as if it had been created a day ago.
fn object(field: Field<'_, '_>, rules: &Rules, now: Moment) -> Option<Object> {
    let node = field.node();
    let place = node.place;
    let misspelt = match &node.value {
        Value::Table(entries) => entries
            .iter()
            .any(|(key, _)| !GIVEN.contains(&key.name.as_str())),
        _ => false,
    };
    let mut table = field.table()?;
    for name in GIVEN {
        table.node(name);
    }
    let path = table.path().to_owned();
    let event = json!({
        "type": "object.created",
        "time": now.minus(Span::seconds(86_400)).to_string(),
        "data": node.to_json(),
    });
    let read = read_told(&event, rules, now);
    match &read {
        // What seems to be missing is there by another name, of which the table complains.
        Err(_) if misspelt => {}
        Err(message) => table.complaints().error(place, &path, message.clone()),
        Ok(_) => {}
    }
    table.finish();
    let told = read.ok()?;
    let mut object = Object {
        key: told.change.key.clone(),
        ..Object::default()
    };
    merge(&mut object, &told.change).ok()?;
    Some(object)
}

fn past(field: Field<'_, '_>) -> Option<Before> {
    let mut table = field.table()?;
    table.require("plugin");
    let plugin = table.word("plugin");
    table.require("organization");
    let organization = table.word("organization");
    let inputs = table.texts("input").unwrap_or_default();
    let at = table.moment("at");
    table.finish();
    Some(Before {
        plugin: plugin?,
        organization: organization?,
        inputs,
        at,
    })
}

/// The event, as the bus would bring it.
fn told(mut field: Field<'_, '_>, rules: &Rules, now: Moment) -> Option<Told> {
    let read = read_told(&field.node().to_json(), rules, now);
    read.map_err(|message| field.complain(message)).ok()
}

/// Reads an event as the intake does; what a case need not say is filled in.
fn read_told(event: &Json, rules: &Rules, now: Moment) -> Result<Told, String> {
    let Json::Object(mut event) = event.clone() else {
        return Err("expected a CloudEvent, with `type` and `data`".to_owned());
    };
    let mut filled = |name: &str, value: String| {
        event.entry(name).or_insert(Json::String(value));
    };
    filled("specversion", "1.0".to_owned());
    filled("id", "test".to_owned());
    filled("source", "/test".to_owned());
    filled("time", now.to_string());
    let body = Json::Object(event).to_string();
    let message = Message {
        body: body.as_bytes(),
        content_type: Some("application/cloudevents+json"),
        routing_key: "",
        message_id: None,
        headers: &[],
    };
    let reading = Reading {
        format: Format::CloudEvents,
        order: Order::Time,
        names: &rules.names,
        arrived: now,
        arrival: 1,
    };
    let told = wire::read_event(&message, &reading)
        .map_err(|unreadable| unreadable.to_string())?
        .told;
    rules.takes(&told.change)?;
    Ok(told)
}

fn wanted(field: Field<'_, '_>) -> Option<Wanted> {
    let mut table = field.table()?;
    table.require("plugin");
    let plugin = table.word("plugin");
    let read = Wanted {
        plugin: String::new(),
        inputs: table.texts("input"),
        schedule: table.word("schedule"),
        organization: table.word("organization"),
        queue: table.word("queue"),
        priority: table.int_in("priority", 0..=1_000_000),
    };
    table.finish();
    Some(Wanted {
        plugin: plugin?,
        ..read
    })
}

fn refused(field: Field<'_, '_>) -> Option<Refused> {
    let mut table = field.table()?;
    table.require("plugin");
    let plugin = table.word("plugin");
    let read = Refused {
        plugin: String::new(),
        input: table.word("input"),
        schedule: table.word("schedule"),
        reason: table.one_of(
            "reason",
            &Reason::ALL.map(|(reason, word, _)| (word, reason)),
        ),
    };
    table.finish();
    Some(Refused {
        plugin: plugin?,
        ..read
    })
}
