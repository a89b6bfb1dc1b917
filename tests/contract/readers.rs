//! Who reads what a schema describes: `true` where it is taken.

use muster::command::{self, Command, DeclaredCommand};
use muster::declaration::{Kind, Variables, read_file, read_stored};
use muster::document::Complaint;
use muster::moment::Moment;
use muster::object::TypeNames;
use muster::policy::{Format, Order};
use muster::rehearsal::read_cases;
use muster::rules::Rules;
use muster::wire::{
    Line, Message, Reading, read_cancel, read_event, read_line, read_request, read_status,
    read_task,
};
use serde_json::{Map, Value, json};

/// Whether the reader of what this schema describes takes the value; nothing where it is only written.
pub fn takes(schema: &str, value: &Value) -> Option<bool> {
    let body = value.to_string();
    let body = body.as_bytes();
    Some(match schema {
        "event" => event(Format::CloudEvents, body),
        "openkat-scan-profile" => event(Format::OpenkatScanProfile, body),
        "openkat-raw-file" => event(Format::OpenkatRawFile, body),
        "openkat-object" => event(Format::OpenkatObject, body),
        "status" => read_status(body, Moment::EPOCH).is_ok(),
        "control" => read_cancel(body).is_ok(),
        "task" => read_task(body).is_ok(),
        "request" => request(body),
        "line" => line(body),
        "test" => {
            let (cases, wrong) =
                read_cases("cases.json", body, &Variables::default(), &Rules::default());
            (cases.len() == 1 || value["for_each"] == json!([]))
                && !wrong.iter().any(Complaint::is_error)
        }
        "file" | "organization" | "plugin" | "object-set" | "calendar" | "schedule" | "run" => {
            (value.is_object() || schema == "file") && entry(schema, body)
        }
        _ => return None,
    })
}

fn event(format: Format, body: &[u8]) -> bool {
    let message = Message {
        body,
        content_type: None,
        routing_key: "",
        message_id: None,
        headers: &[],
    };
    let names = TypeNames::default();
    let reading = Reading {
        format,
        order: Order::Time,
        names: &names,
        arrived: Moment::EPOCH,
        arrival: 1,
    };
    read_event(&message, &reading).is_ok()
}

fn line(body: &[u8]) -> bool {
    match read_line(body) {
        Ok(Line::Event) => event(Format::CloudEvents, body),
        Ok(Line::Status) => read_status(body, Moment::EPOCH).is_ok(),
        Ok(Line::Command) => request(body),
        Ok(Line::Clock(_)) => true,
        Err(_) => false,
    }
}

fn entry(schema: &str, body: &[u8]) -> bool {
    let (read, wrong) = read_file("entry.json", body, &Variables::default(), &Rules::default());
    let kind = Kind::parse(&schema.replace('-', "_"));
    !wrong.iter().any(Complaint::is_error)
        && kind.is_none_or(|kind| read.iter().all(|entry| entry.kind == kind))
}

fn request(body: &[u8]) -> bool {
    let Ok(asked) = read_request(body) else {
        return false;
    };
    match Command::read(&asked.command, &asked.args) {
        Err(_) => false,
        Ok(Command::Declared(DeclaredCommand::Apply(apply))) => {
            let mut definition = apply.definition.clone();
            let plugin = match &apply.plugin {
                None => true,
                Some(plugin) => {
                    definition.entry("plugins").or_insert_with(|| json!("True"));
                    declared(Kind::Plugin, plugin)
                }
            };
            plugin && declared(apply.kind, &definition)
        }
        Ok(_) => true,
    }
}

fn declared(kind: Kind, definition: &Map<String, Value>) -> bool {
    read_stored(kind, definition, &Rules::default()).is_ok()
}

/// The least that each command takes.
pub fn least(command: &str) -> Value {
    match command {
        "organization.apply" => json!({"id": "acme"}),
        "plugin.apply" => json!({"plugin_id": "nmap", "worker_type": "boefje"}),
        "object_set.apply" => json!({"name": "s", "object_type": "hostname", "keys": ["a"]}),
        "calendar.apply" => json!({"name": "c", "dates": "2026-12-25"}),
        "schedule.apply" => json!({"plugins": "True", "recurrences": "daily"}),
        "plugin.delete" | "plugin.enable" | "plugin.disable" => json!({"plugin_id": "nmap"}),
        "object_set.delete" | "calendar.delete" => json!({"name": "c"}),
        "schedule.delete" | "schedule.resume" | "schedule.preview" | "run.start" => {
            json!({"schedule": "nightly"})
        }
        "schedule.pause" => json!({"schedule": "nightly", "reason": "r"}),
        "schedule.backfill" => {
            json!({"schedule": "nightly", "from": "2026-11-21T09:30:00Z", "to": "2026-11-22T09:30:00Z"})
        }
        "queue.pause" => json!({"queue": "q", "reason": "r"}),
        "queue.resume" => json!({"queue": "q"}),
        "run.get" | "run.cancel" => json!({"run_id": "r"}),
        "task.get" | "task.cancel" | "task.retry" => json!({"task_id": "t"}),
        "task.mark" => json!({"task_id": "t", "state": "failed", "reason": "r"}),
        "target.get" => json!({"schedule": "nightly", "object": "h1"}),
        "dead_letter.show" | "dead_letter.redrive" | "dead_letter.drop" => json!({"id": "d"}),
        "explain" => json!({"event": "{}"}),
        _ => json!({}),
    }
}

/// Requests of every command.
pub fn requests() -> Vec<Value> {
    command::names()
        .iter()
        .map(|name| json!({"command": name, "args": least(name)}))
        .collect()
}
