//! What people ask on the bus, command by command, and what they are answered.

use serde_json::{Value, json};

use super::files::{Entry, entry};
use super::shape::{
    Part, about, closed, either, exactly, instant, key, maybe, nothing, one_of, one_or_many,
    one_says, open, says, table, text, whole, word, yes_or_no,
};
use crate::command::{self, EXPLAINED, IF_EXISTS, MARKS, Rows, name_of};
use crate::declaration::Kind;
use crate::run::RunState;
use crate::wire::{LONGEST_ID, LONGEST_ORGANIZATION};

/// A request, whatever it asks.
pub fn request() -> Value {
    either(command::names().iter().map(|name| requested(name)))
}

fn requested(name: &str) -> Value {
    let (required, args) = match arguments(name) {
        Some(args)
            if args["required"]
                .as_array()
                .is_some_and(|all| !all.is_empty()) =>
        {
            (true, args)
        }
        Some(args)
            if ["oneOf", "anyOf", "allOf"]
                .iter()
                .any(|way| args.get(way).is_some()) =>
        {
            (true, args)
        }
        Some(args) => (false, args),
        None => (false, closed(&[], &[])),
    };
    let command = ("command", exactly(name));
    let same = "the same id gets the same answer, and is done once";
    let whose = "what it may see and touch; null: all";
    let id = ("id", about(same, key(LONGEST_ID)));
    let organization = ("organization", about(whose, key(LONGEST_ORGANIZATION)));
    match required {
        true => closed(&[command, ("args", args)], &[id, organization]),
        false => closed(&[command], &[id, organization, ("args", args)]),
    }
}

fn page() -> Vec<Part> {
    vec![("limit", whole(1, 1000)), ("offset", whole(0, i64::MAX))]
}

fn condition() -> Part {
    let what = "a query over the columns of the rows";
    ("where", about(what, text()))
}

/// What a list of rows takes: a page, a query, and columns by their names.
fn listing(columns: &[&'static str]) -> Vec<Part> {
    let mut parts = page();
    parts.push(condition());
    let after = "next of the page before, or the id of a row";
    parts.push(("after", about(after, text())));
    parts.extend(columns.iter().map(|column| (*column, word())));
    parts
}

/// Which ones: by id, by a query, by a reason, or all; many at once only with `yes`.
fn which(rows: Rows, field: &'static str, more: Vec<Part>) -> Value {
    let mut parts = vec![
        (field, one_or_many(word())),
        condition(),
        ("all", yes_or_no()),
        ("yes", about("many at once are meant", yes_or_no())),
    ];
    let mut names = vec![field, "where"];
    if rows == Rows::DeadLetter {
        parts.push(("reason", word()));
        names.push("reason");
    }
    parts.extend(more);
    let mut schema = one_says(closed(&[], &parts), &names);
    if let Some(Value::Array(ways)) = schema.get_mut("oneOf") {
        ways.push(json!({"required": ["all"], "properties": {"all": {"const": true}}}));
    }
    schema
}

/// The kind that a noun declares.
fn kind_of(noun: &str) -> Option<Kind> {
    Kind::parse(noun).filter(|kind| *kind != Kind::Run)
}

/// The arguments of a command; `None` where it is not described, which a test does not let be.
pub fn arguments(name: &str) -> Option<Value> {
    let (noun, verb) = name.split_once('.').unwrap_or((name, ""));
    if let (Some(kind), "apply") = (kind_of(noun), verb) {
        return Some(applied(kind));
    }
    let args = match (noun, verb) {
        ("organization" | "plugin" | "object_set" | "calendar" | "schedule", verb) => {
            let kind = kind_of(noun)?;
            let named = (name_of(kind), word());
            match verb {
                "list" => closed(&[], &page()),
                "delete" | "enable" | "disable" | "resume" => closed(&[named], &[]),
                "pause" => closed(&[named, ("reason", word())], &[]),
                "preview" => closed(
                    &[named],
                    &[("number", whole(1, 1000)), ("after", instant())],
                ),
                "backfill" => closed(
                    &[named, ("from", instant()), ("to", instant())],
                    &[("dry_run", yes_or_no())],
                ),
                _ => return None,
            }
        }
        ("queue", "list") | ("stats", "") => closed(&[], &[]),
        ("queue", "pause") => closed(&[("queue", word()), ("reason", word())], &[]),
        ("queue", "resume") => closed(&[("queue", word())], &[]),
        ("run", "start") => {
            let parts = [
                ("schedule", word()),
                ("plugin", word()),
                ("objects", one_or_many(text())),
                ("parameters", table()),
            ];
            one_says(closed(&[], &parts), &["schedule", "plugin"])
        }
        ("run", "get" | "cancel") => closed(&[("run_id", word())], &[]),
        ("run", "list") => {
            let state = one_of(RunState::ALL.map(|(word, _)| word));
            let mut parts = listing(&["schedule"]);
            parts.push(("state", state));
            closed(&[], &parts)
        }
        ("target", "get") => closed(&[("schedule", word()), ("object", word())], &[]),
        ("target", "list") => {
            let mut parts = page();
            parts.push(("schedule", word()));
            closed(&[], &parts)
        }
        ("task", "get") => closed(&[("task_id", word())], &[]),
        ("task", "list") => closed(
            &[],
            &listing(&["run_id", "schedule", "plugin_id", "state", "queue"]),
        ),
        ("task", "cancel") => which(Rows::Task, "task_id", vec![("reason", word())]),
        ("task", "retry") => which(Rows::Task, "task_id", vec![]),
        ("task", "mark") => closed(
            &[
                ("task_id", word()),
                ("state", one_of(MARKS.map(|(word, _)| word))),
                ("reason", word()),
            ],
            &[],
        ),
        ("attempt", "list") => closed(
            &[],
            &listing(&["task_id", "schedule", "plugin_id", "worker", "outcome"]),
        ),
        ("dead_letter", "list") => closed(&[], &listing(&["kind", "reason", "intake"])),
        ("dead_letter", "show") => closed(&[("id", word())], &[]),
        ("dead_letter", "redrive" | "drop") => which(Rows::DeadLetter, "id", vec![]),
        ("explain", "") => either(EXPLAINED.map(|(way, takes)| explained(way, takes))),
        _ => return None,
    };
    Some(args)
}

/// One way to name what is to be explained; the others are absent.
fn explained(way: &'static str, takes: &[&'static str]) -> Value {
    let event = "an event as the bus would bring it: a text, or JSON as it is";
    let named = match way {
        "event" => json!({"not": {"type": "null"}, "description": event}),
        _ => word(),
    };
    let others = EXPLAINED
        .into_iter()
        .filter(|(other, _)| *other != way)
        .flat_map(|(other, takes)| [other].into_iter().chain(takes.iter().copied()));
    let absent = others.map(|other| (other, nothing()));
    let besides = takes.iter().map(|name| (*name, word()));
    closed(
        &[(way, named)],
        &absent.chain(besides).collect::<Vec<Part>>(),
    )
}

/// A declaration as an argument: as a file would hold it, and how it is meant.
fn applied(kind: Kind) -> Value {
    let Entry {
        mut required,
        mut optional,
        mut besides,
    } = entry(kind);
    optional.push(("kind", exactly(kind.word())));
    optional.push((
        "expected_revision",
        about(
            "refused where it is of another; 0: it must be new",
            whole(0, i64::MAX),
        ),
    ));
    optional.push(("if_exists", one_of(IF_EXISTS.map(|(word, _)| word))));
    if kind == Kind::Schedule {
        optional.push(("schedule_id", about("of one that is there", word())));
        optional.push((
            "plugin",
            about("one that comes along, and runs by it", plugin()),
        ));
        // A plugin that comes along is what `plugins` selects.
        optional.append(&mut required);
        besides.push(either([says("plugins"), says("plugin")]));
    }
    Entry {
        required,
        optional,
        besides,
    }
    .schema()
}

fn plugin() -> Value {
    entry(Kind::Plugin).schema()
}

/// What is answered: what was asked for, or why not.
pub fn reply() -> Value {
    let id = || maybe(text());
    let error = open(
        &[
            ("code", text()),
            ("message", text()),
            (
                "help",
                about("what would be right; empty where nothing is known", text()),
            ),
        ],
        &[],
    );
    let yes = |yes: bool| json!({"const": yes});
    either([
        open(&[("id", id()), ("ok", yes(true)), ("result", table())], &[]),
        open(&[("id", id()), ("ok", yes(false)), ("error", error)], &[]),
    ])
}
