//! The settings as a JSON Schema (draft 7), made from [`KEYS`]: what a key holds, and not more than its reader asks.

use serde_json::{Value, json};

use super::written::{LOG_FORMATS, LOG_LEVELS};
use super::{Acknowledge, Envelope, Format, KEYS, Kind, LevelGate, Order, Rank};

/// The name of the document, and what it is about.
pub const DOCUMENT: (&str, &str) = ("settings", "the settings file, once its TOML is read");

/// What each item of these lists needs.
const NEEDED: [(&str, &[&str]); 3] = [
    ("bus.intake", &["queue"]),
    ("workers.*.split", &["queue", "where"]),
    ("keys", &["id", "secret", "organizations"]),
];

pub fn schema() -> Value {
    let (name, about) = DOCUMENT;
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": format!("urn:muster:{name}"),
        "title": name,
        "description": about,
    });
    let mut root = table();
    for (key, kind) in KEYS {
        let items = format!("{key}[].");
        // A list of tables is described by the keys of its items.
        if !KEYS.iter().any(|(other, _)| other.starts_with(&items)) {
            put(&mut root, key, "", value(key, *kind));
        }
    }
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, root) {
        schema.extend(root);
    }
    schema
}

/// A table that has only names that are known.
fn table() -> Value {
    json!({"type": "object", "properties": {}, "additionalProperties": false})
}

/// Puts what a key holds below the tables and lists that lead to it; `before` is the way to this table.
fn put(table: &mut Value, key: &str, before: &str, value: Value) {
    let (head, rest) = match key.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (key, None),
    };
    let way = if before.is_empty() {
        head.to_owned()
    } else {
        format!("{before}.{head}")
    };
    let (place, list) = match head.strip_suffix("[]") {
        _ if head == "*" => (&mut table["additionalProperties"], false),
        Some(list) => (&mut table["properties"][list], true),
        None => (&mut table["properties"][head], false),
    };
    let Some(rest) = rest else {
        *place = value;
        return;
    };
    if list {
        if place.is_null() {
            let mut items = self::table();
            let of = way.trim_end_matches("[]");
            if let Some((_, needed)) = NEEDED.iter().find(|(known, _)| *known == of) {
                items["required"] = json!(needed);
            }
            *place = json!({"type": "array", "items": items});
        }
        return put(&mut place["items"], rest, &way, value);
    }
    if !place.is_object() {
        *place = self::table();
    }
    put(place, rest, &way, value);
}

/// What a key holds.
fn value(key: &str, kind: Kind) -> Value {
    let text = json!({"type": "string"});
    match key {
        "bus.intake[].order" => words(Order::WORDS),
        "bus.intake[].format" => words(Format::WORDS),
        "workers.*.format" => words(Envelope::WORDS),
        "workers.*.acknowledge" => words(Acknowledge::WORDS),
        "workers.*.rank" => words(Rank::WORDS),
        "workers.*.level_gate" => words(LevelGate::WORDS),
        "log.format" => words(&LOG_FORMATS),
        "log.level" => json!({"enum": LOG_LEVELS}),
        "object_types.*.fields" | "work.runtimes" | "work.environment" | "work.secrets" => {
            json!({"type": "object", "additionalProperties": text})
        }
        "object_types.*.aliases"
        | "object_types.*.ignore"
        | "work.types"
        | "keys[].organizations" => {
            json!({"anyOf": [text, {"type": "array", "items": text}]})
        }
        _ => match kind {
            Kind::Int => json!({"type": "integer"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Text | Kind::FileOnly => text,
        },
    }
}

fn words<T>(known: &[(&str, T)]) -> Value {
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    json!({"enum": words})
}
