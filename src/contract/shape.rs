//! The few shapes that schemas are made of.

use serde_json::{Map, Value, json};

/// A field: its name and its schema.
pub type Part = (&'static str, Value);

/// Any text.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// A text that is not blank.
pub fn word() -> Value {
    json!({"type": "string", "pattern": "\\S"})
}

/// A text that names something: not blank, and at most so many bytes of UTF-8.
pub fn key(longest: usize) -> Value {
    json!({"type": "string", "pattern": "\\S", "maxLength": longest})
}

/// An instant, as RFC 3339 writes it.
pub fn instant() -> Value {
    json!({"type": "string", "format": "date-time", "examples": ["2026-11-21T09:30:00Z"]})
}

/// A length of time.
pub fn span() -> Value {
    json!({"type": "string", "description": "90s, 15m, 1h, 2d, 1w, or ISO 8601", "examples": ["15m"]})
}

pub fn whole(from: i64, to: i64) -> Value {
    let mut schema = json!({"type": "integer", "minimum": from});
    if to < i64::MAX {
        schema["maximum"] = json!(to);
    }
    schema
}

pub fn integer() -> Value {
    json!({"type": "integer"})
}

pub fn yes_or_no() -> Value {
    json!({"type": "boolean"})
}

/// A table whose names are the writer's own.
pub fn table() -> Value {
    json!({"type": "object"})
}

/// Whatever there is.
pub fn anything() -> Value {
    json!({})
}

/// Nothing: what must not be there has only this value.
pub fn nothing() -> Value {
    json!({"type": "null"})
}

pub fn one_of<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Value {
    let words: Vec<Value> = words.into_iter().map(|word| json!(word.as_ref())).collect();
    json!({"type": "string", "enum": words})
}

pub fn exactly(word: &str) -> Value {
    json!({"const": word})
}

pub fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// A list, or one item alone.
pub fn one_or_many(of: Value) -> Value {
    either([of.clone(), list(of)])
}

pub fn either(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({"anyOf": schemas.into_iter().collect::<Vec<Value>>()})
}

/// The same with a word about it.
pub fn about(description: &str, mut schema: Value) -> Value {
    schema["description"] = json!(description);
    schema
}

/// The same, or null.
pub fn maybe(mut schema: Value) -> Value {
    let Some(members) = schema.as_object_mut() else {
        return schema;
    };
    if members.is_empty() {
        return schema;
    }
    if let Some(Value::String(word)) = members.get("type") {
        if word == "null" {
            return schema;
        }
        let both = json!([word, "null"]);
        members.insert("type".to_owned(), both);
        if let Some(Value::Array(words)) = members.get_mut("enum") {
            words.push(Value::Null);
        }
        return schema;
    }
    if let Some(Value::Array(ways)) = members.get_mut("anyOf") {
        ways.push(nothing());
        return schema;
    }
    either([schema, nothing()])
}

/// A table with these fields. The optional ones may be null too, which is as if they were absent.
fn fields(required: &[Part], optional: &[Part], closed: bool) -> Value {
    let mut properties = Map::new();
    for (name, schema) in required {
        properties.insert((*name).to_owned(), schema.clone());
    }
    for (name, schema) in optional {
        properties.insert((*name).to_owned(), maybe(schema.clone()));
    }
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let mut schema = json!({"type": "object", "required": names, "properties": properties});
    if closed {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

/// Fields that are not known are left alone.
pub fn open(required: &[Part], optional: &[Part]) -> Value {
    fields(required, optional, false)
}

/// Fields that are not known are refused.
pub fn closed(required: &[Part], optional: &[Part]) -> Value {
    fields(required, optional, true)
}

/// What is written: every field is there, and those of `nullable` may be null.
pub fn written(fields: &[Part], nullable: &[Part]) -> Value {
    let all: Vec<Part> = fields
        .iter()
        .cloned()
        .chain(
            nullable
                .iter()
                .map(|(name, schema)| (*name, maybe(schema.clone()))),
        )
        .collect();
    open(&all, &[])
}

/// That this field is there, and not null.
pub fn says(name: &str) -> Value {
    json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}})
}

/// That one of these fields says something, and the others do not.
pub fn one_says(mut schema: Value, names: &[&str]) -> Value {
    let ways: Vec<Value> = names.iter().map(|name| says(name)).collect();
    schema["oneOf"] = json!(ways);
    schema
}
