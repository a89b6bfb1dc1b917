//! A case as a file holds it: what is there, what happens, and what is to come of it.

use serde_json::{Value as Json, json};

use super::{Before, Case, Cue, Refused, Wanted};
use crate::declaration::{Variables, entries, is_case};
use crate::document::{Complaint, Complaints, Document, Field, Node, Table};
use crate::moment::{Moment, Span};
use crate::object::{Object, Told, merge};
use crate::policy::{Format, Order};
use crate::rules::Rules;
use crate::run::Reason;
use crate::wire::{self, Message, Reading};

/// Reads the cases of a file (`kind: test`); everything else in it is left to others.
pub fn read_cases(
    name: &str,
    bytes: &[u8],
    variables: &Variables,
    rules: &Rules,
) -> (Vec<Case>, Vec<Complaint>) {
    let mut complaints = Complaints::new(name);
    let mut cases = Vec::new();
    match Document::open(name, bytes) {
        Err(complaint) => complaints.push(complaint),
        Ok(document) => {
            // What is wrong with other entries is said by who reads those.
            let mut unsaid = Complaints::new(name);
            for entry in entries(&document, variables, &mut unsaid) {
                if is_case(&entry) {
                    cases.extend(case(&entry, rules, &mut complaints));
                }
            }
        }
    }
    (cases, complaints.into_vec())
}

fn case(node: &Node, rules: &Rules, complaints: &mut Complaints) -> Option<Case> {
    let before = complaints.iter().filter(|c| c.is_error()).count();
    let mut table = Table::open(node, "", complaints)?;
    table.node("kind");
    let name = table.require("name").then(|| table.word("name"))?;
    let at = table.moment("at");
    // A case is the same on every day.
    let now = table.moment("now").or(at).unwrap_or(Moment::from_micros(0));
    let given = table
        .list("given", |field| object(field, rules, now))
        .unwrap_or_default();
    let open = table.list("open", past).unwrap_or_default();
    let ended = table.list("ended", past).unwrap_or_default();
    let event = table.get("event").and_then(|field| told(field, rules, now));
    let cue = match (event, at) {
        (Some(_), Some(_)) => {
            table.complain("at", "a case has an `event` or an instant `at`, not both");
            None
        }
        (Some(event), None) => Some(Cue::Event(Box::new(event))),
        (None, Some(at)) => Some(Cue::Instant(at)),
        (None, None) if table.node("event").is_some() => None,
        (None, None) => {
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

/// An object that is there before anything happens: as if it had been created a day ago.
fn object(field: Field<'_, '_>, rules: &Rules, now: Moment) -> Option<Object> {
    let node = field.node();
    let place = node.place;
    let mut table = field.table()?;
    for name in [
        "organization",
        "object_type",
        "primary_key",
        "attributes",
        "scan_level",
        "scan_profile_type",
    ] {
        table.node(name);
    }
    let path = table.path().to_owned();
    let event = json!({
        "type": "object.created",
        "time": now.minus(Span::seconds(86_400)).to_string(),
        "data": node.to_json(),
    });
    let read = read_told(&event, rules, now);
    if let Err(message) = &read {
        table.complaints().error(place, &path, message.clone());
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
    let plugin = table.require("plugin").then(|| table.word("plugin"))?;
    let organization = table
        .require("organization")
        .then(|| table.word("organization"))?;
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
    let plugin = table.require("plugin").then(|| table.word("plugin"))?;
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
    let plugin = table.require("plugin").then(|| table.word("plugin"))?;
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
