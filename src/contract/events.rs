//! Events that come in: our own, and OpenKAT's three.

use serde_json::{Value, json};

use super::shape::{
    Part, about, anything, closed, either, exactly, instant, key, list, nothing, one_of, open,
    table, text, whole,
};
use crate::object::HIGHEST_LEVEL;
use crate::wire::{
    EVENT_TYPES, LONGEST_ID, LONGEST_ORGANIZATION, LONGEST_PRIMARY_KEY, LONGEST_TYPE, PROFILE_TYPES,
};

fn organization() -> Part {
    ("organization", key(LONGEST_ORGANIZATION))
}

fn primary_key() -> Part {
    ("primary_key", key(LONGEST_PRIMARY_KEY))
}

fn object_type() -> Part {
    ("object_type", key(LONGEST_TYPE))
}

fn level() -> Value {
    whole(0, i64::from(HIGHEST_LEVEL))
}

fn profile_type() -> Part {
    ("scan_profile_type", one_of(PROFILE_TYPES))
}

fn version() -> Part {
    let said = "the number of the change; needed where the intake has order = \"version\"";
    ("version", about(said, json!({"type": "integer"})))
}

pub fn native() -> Value {
    let created = ["object.created", "object.updated"];
    let profiled = ["scan_profile.created", "scan_profile.updated"];
    let data = [
        (
            one_of(created),
            open(
                &[
                    organization(),
                    object_type(),
                    primary_key(),
                    ("attributes", table()),
                ],
                &[("scan_level", level()), profile_type(), version()],
            ),
        ),
        (
            exactly("object.deleted"),
            open(
                &[organization(), object_type(), primary_key()],
                &[version()],
            ),
        ),
        (
            one_of(profiled),
            open(
                &[organization(), primary_key(), ("scan_level", level())],
                &[object_type(), profile_type(), version()],
            ),
        ),
        (
            exactly("scan_profile.deleted"),
            open(
                &[organization(), primary_key()],
                &[object_type(), version()],
            ),
        ),
        (exactly("raw_data.created"), raw_data()),
    ];
    let mut ways: Vec<Value> = data
        .into_iter()
        .map(|(word, data)| envelope(word, ("data", data), None))
        .collect();
    let encoded = about("the data, as JSON in base64", text());
    let nothing_else = Some(("data", nothing()));
    ways.push(envelope(
        one_of(EVENT_TYPES),
        ("data_base64", encoded),
        nothing_else,
    ));
    either(ways)
}

/// An object as a case of `muster test` has it: the data of an `object.created`, and nothing else.
pub fn given() -> Value {
    closed(
        &[
            organization(),
            object_type(),
            primary_key(),
            ("attributes", table()),
        ],
        &[("scan_level", level()), profile_type()],
    )
}

fn envelope(word: Value, data: Part, beside: Option<Part>) -> Value {
    let mut schema = open(
        &[
            ("specversion", json!({"type": "string", "pattern": "^1\\."})),
            ("id", key(LONGEST_ID)),
            ("source", key(LONGEST_ID)),
            ("type", word),
            data,
        ],
        &[("time", instant())],
    );
    let trace = "the trace context, which the tasks of this event carry on; what cannot be one is left behind";
    schema["properties"]["traceparent"] = about(trace, anything());
    if let Some((name, nothing)) = beside {
        schema["properties"][name] = nothing;
    }
    schema
}

fn raw_data() -> Value {
    open(
        &[
            organization(),
            ("id", key(LONGEST_PRIMARY_KEY)),
            ("mime_types", list(text())),
            ("plugin_id", text()),
        ],
        &[
            (
                "task_id",
                about("the task that made the file; it ends by it", text()),
            ),
            ("input", open(&[object_type(), primary_key()], &[])),
            ("started_at", instant()),
            ("ended_at", instant()),
            ("attributes", table()),
            version(),
        ],
    )
}

pub fn scan_profile() -> Value {
    let profile = open(&[("level", level())], &[profile_type()]);
    let value = open(&[object_type(), ("scan_profile", profile)], &[]);
    let whose = |word: Value| {
        [
            ("operation", word),
            ("client_id", key(LONGEST_ORGANIZATION)),
            primary_key(),
        ]
    };
    let [operation, client, object] = whose(one_of(["create", "update"]));
    either([
        open(&[operation, client, object, ("value", value)], &[]),
        open(&whose(exactly("delete")), &[]),
    ])
}

pub fn object() -> Value {
    let of = |words: Value, which: &'static str, data: Value| {
        open(
            &[
                ("entity_type", exactly("ooi")),
                ("operation_type", words),
                ("client", key(LONGEST_ORGANIZATION)),
                ("valid_time", instant()),
                (which, data),
            ],
            &[],
        )
    };
    let profile = open(&[], &[("level", level()), profile_type()]);
    either([
        of(
            one_of(["create", "update"]),
            "new_data",
            open(
                &[primary_key(), object_type()],
                &[("scan_profile", profile)],
            ),
        ),
        of(
            exactly("delete"),
            "old_data",
            open(&[primary_key(), object_type()], &[]),
        ),
    ])
}

pub fn raw_file() -> Value {
    let mime = either([text(), open(&[("value", text())], &[])]);
    let meta = open(
        &[
            ("id", about("the task that made the file", text())),
            ("boefje", open(&[("id", text())], &[])),
        ],
        &[
            ("input_ooi", key(LONGEST_PRIMARY_KEY)),
            ("started_at", instant()),
            ("ended_at", instant()),
        ],
    );
    open(
        &[
            organization(),
            (
                "raw_data",
                open(
                    &[
                        ("id", key(LONGEST_PRIMARY_KEY)),
                        ("mime_types", list(mime)),
                        ("boefje_meta", meta),
                    ],
                    &[],
                ),
            ),
        ],
        &[("created_at", instant())],
    )
}
