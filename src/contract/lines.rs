//! Lines: of lines mode, and of `query --batch`.

use serde_json::{Value, json};

use super::shape::{about, either, instant, maybe, nothing, open, table, text};
use super::{commands, events, tasks};

/// A line of input is told by its shape.
pub fn input() -> Value {
    either([
        events::native(),
        tasks::status(),
        commands::request(),
        about("the clock", open(&[("now", instant())], &[])),
    ])
}

pub fn question() -> Value {
    open(
        &[("query", text())],
        &[
            (
                "type",
                about(
                    "a declared object type, or plugin, run or task; without it every field is taken as it is",
                    text(),
                ),
            ),
            ("object", table()),
            ("trigger", table()),
            ("trigger_type", text()),
            ("params", about("values of $name", table())),
            ("now", instant()),
        ],
    )
}

pub fn answer() -> Value {
    let error = open(&[("code", text()), ("message", text())], &[]);
    let valid = |yes: bool| json!({"const": yes});
    either([
        open(
            &[
                ("valid", valid(true)),
                (
                    "matches",
                    about("null without an object", maybe(json!({"type": "boolean"}))),
                ),
            ],
            &[("error", error.clone())],
        ),
        open(
            &[("valid", valid(false)), ("error", error)],
            &[("matches", nothing())],
        ),
    ])
}
