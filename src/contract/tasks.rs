//! What goes to workers and comes back from them, and what is told of the life of things.

use serde_json::{Value, json};

use super::shape::{
    Part, about, anything, either, exactly, instant, integer, key, list, nothing, one_of, open,
    table, text, whole, written,
};
use crate::object::HIGHEST_LEVEL;
use crate::run::{Cause, RunState};
use crate::task::TaskState;
use crate::wire::LONGEST_ID;

fn cause() -> Value {
    one_of(Cause::ALL.map(|(word, _)| word))
}

/// Of a run, or of one row for the instants that did not run.
fn cause_of_run() -> Value {
    let causes = Cause::ALL.iter().map(|(word, _)| *word);
    one_of(causes.chain(["gap"]))
}

fn seconds() -> Value {
    whole(0, i64::MAX)
}

pub fn task() -> Value {
    let plugin = written(
        &[("plugin_id", text()), ("oci_arguments", list(text()))],
        &[
            ("version", text()),
            ("oci_image", text()),
            ("runtime", text()),
            ("artefact", text()),
        ],
    );
    let input = written(
        &[
            ("object_type", text()),
            ("primary_key", text()),
            ("attributes", table()),
        ],
        &[("scan_level", whole(0, i64::from(HIGHEST_LEVEL)))],
    );
    let trigger = written(&[("type", text())], &[("event_id", text())]);
    let timeouts = written(
        &[
            ("queue_s", seconds()),
            ("heartbeat_s", about("0: silence is not watched", seconds())),
            ("run_s", seconds()),
        ],
        &[],
    );
    written(
        &[
            ("id", text()),
            (
                "attempt",
                about(
                    "it rises with every offer, and is the token of it",
                    whole(1, i64::MAX),
                ),
            ),
            ("run_id", text()),
            ("run_name", text()),
            ("schedule", text()),
            ("organization", text()),
            ("worker_type", text()),
            ("plugin", plugin),
            (
                "arguments",
                about("oci_arguments with their placeholders filled", list(text())),
            ),
            ("inputs", list(input)),
            ("settings", table()),
            ("parameters", table()),
            ("secrets", about("names, never values", list(text()))),
            (
                "expires_at",
                about("past this instant the message is dropped", instant()),
            ),
            ("cause", cause()),
            ("priority", about("lower goes first", integer())),
            ("scheduled_for", instant()),
            ("created_at", instant()),
            ("late_by_s", seconds()),
            ("timeouts", timeouts),
            ("avoid_workers", list(text())),
        ],
        &[
            ("deduplication_key", text()),
            ("trigger", trigger),
            ("traceparent", text()),
        ],
    )
}

pub fn openkat() -> Value {
    let named = |image: bool| {
        let mut nullable = vec![("version", text())];
        if image {
            nullable.push(("oci_image", text()));
        }
        written(&[("id", text()), ("name", text())], &nullable)
    };
    let boefje = written(
        &[
            ("id", text()),
            ("boefje", named(true)),
            ("organization", text()),
            ("dispatches", list(text())),
        ],
        &[("input_ooi", text()), ("deduplication_key", text())],
    );
    let normalizer = written(
        &[("id", text()), ("normalizer", named(false))],
        &[("raw_data", table())],
    );
    let report = written(
        &[("organisation_id", text()), ("report_recipe_id", text())],
        &[],
    );
    written(
        &[
            ("id", text()),
            ("scheduler_id", text()),
            ("schedule_id", json!({"type": "string", "format": "uuid"})),
            ("organisation", text()),
            ("priority", integer()),
            ("status", exactly("queued")),
            ("type", text()),
            (
                "hash",
                json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
            ),
            ("data", either([boefje, normalizer, report])),
            ("created_at", instant()),
            ("modified_at", instant()),
        ],
        &[],
    )
}

/// How an attempt ended, as its worker tells.
fn ending() -> Vec<Part> {
    vec![
        ("message", text()),
        ("exit_code", integer()),
        ("log_ref", text()),
        ("log_tail", text()),
        ("outputs", anything()),
    ]
}

pub fn status() -> Value {
    let attempt = || ("attempt", whole(1, i64::MAX));
    let ours = |word: &str, required: Vec<Part>, optional: Vec<Part>| {
        let said = [
            ("task_id", key(LONGEST_ID)),
            attempt(),
            ("worker", key(LONGEST_ID)),
            ("status", exactly(word)),
            ("at", instant()),
        ];
        let required: Vec<Part> = said.into_iter().chain(required).collect();
        let mut schema = open(&required, &optional);
        let trace =
            "the trace context of the task, for the logs; what cannot be one is left behind";
        schema["properties"]["traceparent"] = about(trace, anything());
        schema
    };
    let class = ("class", one_of(["retryable", "fatal"]));
    let failed = ending().into_iter().chain([class]).collect();
    let progress = vec![
        ("done", integer()),
        ("total", integer()),
        ("stage", text()),
        ("note", text()),
    ];
    let pause = json!({"type": "number", "minimum": 0});
    // OpenKAT's words: with the task alone, or with as much of the rest as there is.
    let theirs = |words: Value, optional: Vec<Part>| {
        let said = [attempt(), ("worker", key(LONGEST_ID)), ("at", instant())];
        let optional: Vec<Part> = said.into_iter().chain(optional).collect();
        open(
            &[("task_id", key(LONGEST_ID)), ("status", words)],
            &optional,
        )
    };
    // Two words that both have: without any of the rest they are OpenKAT's.
    let bare = |word: &str, optional: Vec<Part>| {
        let absent = ["attempt", "worker", "at", "class"].map(|name| (name, nothing()));
        let optional: Vec<Part> = absent.into_iter().chain(optional).collect();
        open(
            &[("task_id", key(LONGEST_ID)), ("status", exactly(word))],
            &optional,
        )
    };
    either([
        ours("accepted", vec![], vec![]),
        ours(
            "declined",
            vec![],
            vec![("reason", text()), ("retry_in_s", pause)],
        ),
        ours("heartbeat", vec![], progress),
        ours("succeeded", vec![], ending()),
        ours("failed", vec![], failed),
        ours("cancelled", vec![], vec![("reason", text())]),
        ours("snooze", vec![("until", instant())], vec![]),
        ours(
            "never_again",
            vec![],
            vec![("reason", text()), ("until", instant())],
        ),
        theirs(one_of(["dispatched", "running"]), vec![]),
        theirs(exactly("completed"), ending()),
        bare("failed", ending()),
        bare("cancelled", vec![("reason", text())]),
    ])
}

pub fn control() -> Value {
    open(
        &[("type", exactly("cancel")), ("task_id", key(LONGEST_ID))],
        &[
            ("attempt", about("absent: whichever", integer())),
            ("worker", about("absent: whoever has it", text())),
        ],
    )
}

/// What is told of the life of things.
pub fn life() -> Value {
    let run = |words: Value, more: Vec<Part>, nullable: Vec<Part>| {
        let said = [
            ("organization", text()),
            ("state", one_of(RunState::ALL.map(|(word, _)| word))),
            ("run_id", text()),
            ("run_name", text()),
            ("schedule", text()),
            ("schedule_id", text()),
            ("cause", cause_of_run()),
            ("scheduled_for", instant()),
        ];
        let said: Vec<Part> = said.into_iter().chain(more).collect();
        let may = [
            ("reason", text()),
            ("target", text()),
            ("started_at", instant()),
        ];
        let may: Vec<Part> = may.into_iter().chain(nullable).collect();
        traced(told(words, written(&said, &may)))
    };
    let counters = ["total", "succeeded", "failed", "cancelled"].map(|name| (name, integer()));
    let ended = vec![("finished_at", instant()), ("blocked_by", text())];
    let task = |words: Value, nullable: Vec<Part>| {
        let said = [
            ("organization", text()),
            ("state", one_of(TaskState::ALL.map(|(word, _)| word))),
            ("task_id", text()),
            ("run_id", text()),
            ("attempt", integer()),
            ("plugin_id", text()),
            ("worker_type", text()),
            ("cause", cause()),
            ("priority", integer()),
            ("inputs", list(table())),
            ("created_at", instant()),
            ("scheduled_for", instant()),
        ];
        let may = [("reason", text()), ("worker", text())];
        let may: Vec<Part> = may.into_iter().chain(nullable).collect();
        let mut data = written(&said, &may);
        // Of the run, while it is kept.
        for name in ["run_name", "schedule", "schedule_id"] {
            data["properties"][name] = text();
        }
        traced(told(words, data))
    };
    let changed = open(
        &[("state", text()), ("schedule_id", text())],
        &[
            ("organization", text()),
            ("reason", text()),
            ("schedule", text()),
            ("who", text()),
        ],
    );
    let rejected = written(
        &[
            ("state", exactly("rejected")),
            ("reason", text()),
            ("id", about("of the dead letter", text())),
            ("intake", text()),
            ("routing_key", text()),
            ("message", text()),
        ],
        &[("message_id", text())],
    );
    let counted = vec![("counters", written(&counters, &[]))];
    either([
        run(exactly("run.started"), vec![], vec![]),
        run(one_of(["run.finished", "run.skipped"]), counted, ended),
        task(
            one_of(["task.queued", "task.dispatched", "task.accepted"]),
            vec![],
        ),
        task(
            one_of(["task.finished", "task.dead"]),
            vec![("finished_at", instant())],
        ),
        told(exactly("schedule.changed"), changed),
        told(exactly("event.rejected"), rejected),
    ])
}

/// Of a run, and of a task whose run is kept.
fn traced(mut schema: Value) -> Value {
    schema["properties"]["traceparent"] = about("the trace context", text());
    schema
}

fn told(words: Value, data: Value) -> Value {
    written(
        &[
            ("specversion", exactly("1.0")),
            (
                "id",
                about("the same however often it is published", text()),
            ),
            ("source", exactly("/muster")),
            ("type", words),
            (
                "subject",
                about("the run, task, schedule or dead letter", text()),
            ),
            ("time", instant()),
            ("datacontenttype", exactly("application/json")),
            ("data", data),
        ],
        &[],
    )
}
