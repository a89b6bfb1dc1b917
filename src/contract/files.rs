//! What people declare: each kind as an entry of a file, and as the argument of its `apply`.

use serde_json::{Value, json};

use super::events;
use super::shape::{
    Part, about, closed, either, exactly, instant, key, list, maybe, nothing, one_of, one_or_many,
    one_says, says, span, table, text, whole, word, yes_or_no,
};
use crate::declaration::{
    COMPLETE_WHEN, Kind, LONGEST_NAME, MANUAL_SUPERSEDES, MISSED, MOST_JOINED, OVERLAP, PER,
};
use crate::object::{HIGHEST_LEVEL, Operation};
use crate::recurrence::Anchor;
use crate::run::Reason;

/// The fields of an entry: those that it needs, those that it may have, and what else holds.
pub struct Entry {
    pub required: Vec<Part>,
    pub optional: Vec<Part>,
    /// Schemas that all have to hold beside.
    pub besides: Vec<Value>,
}

impl Entry {
    fn of(required: Vec<Part>, optional: Vec<Part>) -> Entry {
        Entry {
            required,
            optional,
            besides: Vec::new(),
        }
    }

    pub fn schema(self) -> Value {
        let mut schema = closed(&self.required, &self.optional);
        if !self.besides.is_empty() {
            schema["allOf"] = json!(self.besides);
        }
        schema
    }
}

fn name() -> Value {
    key(LONGEST_NAME)
}

/// One of some words; in a file, where variables are filled in before anything is read, `${name}` may stand for it.
fn chosen<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Value {
    either([
        one_of(words),
        json!({"type": "string", "pattern": "\\$\\{"}),
    ])
}

fn words<T>(known: &[(&'static str, T)]) -> Value {
    chosen(known.iter().map(|(word, _)| *word))
}

fn texts() -> Value {
    one_or_many(text())
}

fn joined() -> Value {
    let mut several = list(name());
    several["maxItems"] = json!(MOST_JOINED);
    several["uniqueItems"] = json!(true);
    either([name(), several])
}

fn query(what: &str) -> Value {
    about(what, json!({"type": "string", "minLength": 1}))
}

fn limits() -> Value {
    one_or_many(closed(
        &[],
        &[
            ("concurrency", whole(1, 1_000_000)),
            (
                "rate",
                json!({"type": "string", "examples": ["10/s", "100/1h"]}),
            ),
            ("per", words(&PER)),
        ],
    ))
}

fn timeouts() -> Value {
    closed(
        &[],
        &[
            ("queue", span()),
            ("heartbeat", span()),
            ("run", span()),
            ("task", span()),
        ],
    )
}

fn retry() -> Value {
    closed(
        &[],
        &[
            ("max", whole(1, 1000)),
            ("first", span()),
            ("cap", span()),
            ("declines", whole(1, 100_000)),
        ],
    )
}

fn zone() -> Value {
    json!({"type": "string", "description": "an IANA name", "examples": ["Europe/Amsterdam"]})
}

fn recurrences() -> Value {
    let time = || json!({"type": "string", "examples": ["2026-01-01T18:00:00"]});
    let kinds = ["cron", "period", "rrule", "at"];
    let one = |kind: &'static str, value: Value, mut more: Vec<Part>| {
        let others = kinds.into_iter().filter(|other| *other != kind);
        more.extend(others.map(|other| (other, nothing())));
        closed(&[(kind, value)], &more)
    };
    let written = "a name (hourly, daily, weekly, monthly, yearly), a cron expression, a period, an RRULE or an instant";
    let examples = ["daily", "30 2 * * 1-5", "90s", "FREQ=MONTHLY;BYDAY=-1FR"];
    let plain = json!({"type": "string", "description": written, "examples": examples});
    one_or_many(either([
        plain,
        one(
            "cron",
            json!({"type": "string", "examples": ["0 1 * * *"]}),
            vec![],
        ),
        one("period", span(), vec![("anchor", words(&Anchor::ALL))]),
        one(
            "rrule",
            json!({"type": "string", "examples": ["FREQ=WEEKLY;BYDAY=MO"]}),
            vec![
                ("dtstart", time()),
                ("exdate", one_or_many(time())),
                ("rdate", one_or_many(time())),
            ],
        ),
        one("at", instant(), vec![]),
    ]))
}

fn operations() -> Value {
    let spoken = Operation::ALL.map(|(word, _)| word);
    // As the older documents write them.
    let older = ["create", "update", "delete", "finish"];
    one_or_many(chosen(spoken.into_iter().chain(older)))
}

fn object_type() -> Value {
    json!({"type": "string", "examples": ["hostname"]})
}

/// What an entry of a kind has, without the word for the kind.
pub fn entry(kind: Kind) -> Entry {
    match kind {
        Kind::Organization => Entry::of(
            vec![("id", name())],
            vec![
                ("name", text()),
                ("indemnified", yes_or_no()),
                ("weight", whole(1, 1000)),
                ("enabled", yes_or_no()),
                ("limits", limits()),
            ],
        ),
        Kind::Plugin => plugin_entry(),
        Kind::ObjectSet => {
            let mut entry = Entry::of(
                vec![("name", name()), ("object_type", object_type())],
                vec![
                    ("organization", name()),
                    ("query", query("over objects of the type")),
                    ("keys", about("primary keys, hand-picked", texts())),
                ],
            );
            let some = json!({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]});
            let picked = json!({"required": ["keys"], "properties": {"keys": some}});
            entry
                .besides
                .push(either([json!({"required": ["query"]}), picked]));
            entry
        }
        Kind::Calendar => {
            let date = || json!({"type": "string", "examples": ["2026-12-25"]});
            let dates = either([date(), closed(&[("from", date()), ("to", date())], &[])]);
            let time = |example: &str| json!({"type": "string", "examples": [example]});
            let days = json!({"type": "string", "examples": ["saturday", "sat", "mon-fri"]});
            let window = closed(
                &[("days", one_or_many(days))],
                &[("from", time("22:00")), ("to", time("06:00"))],
            );
            let mut entry = Entry::of(
                vec![("name", name())],
                vec![
                    ("timezone", zone()),
                    ("dates", one_or_many(dates)),
                    ("weekly", one_or_many(window)),
                ],
            );
            let there = |name: &str| json!({"required": [name]});
            entry
                .besides
                .push(either([there("dates"), there("weekly")]));
            entry
        }
        Kind::Schedule => schedule_entry(),
        Kind::Run => {
            let mut entry = Entry::of(
                vec![(
                    "name",
                    about("the id of the request: it is started once", name()),
                )],
                vec![
                    ("organization", name()),
                    ("schedule", word()),
                    ("plugin", word()),
                    ("objects", about("primary keys", texts())),
                    ("parameters", table()),
                ],
            );
            let which = one_says(json!({}), &["schedule", "plugin"]);
            entry.besides.push(which);
            entry
        }
    }
}

fn plugin_entry() -> Entry {
    let own = closed(&[], &[("enabled", yes_or_no()), ("settings", table())]);
    Entry::of(
        vec![("plugin_id", name()), ("worker_type", name())],
        vec![
            ("name", text()),
            ("description", text()),
            ("version", text()),
            ("scan_level", whole(0, i64::from(HIGHEST_LEVEL))),
            (
                "consumes",
                about("object types, file:<mime type>, {set name}", texts()),
            ),
            ("produces", texts()),
            ("recurrences", recurrences()),
            ("run_on", operations()),
            ("oci_image", text()),
            (
                "oci_arguments",
                about("with placeholders such as {hostname}, {file}", texts()),
            ),
            ("runtime", text()),
            ("artefact", text()),
            ("secrets", about("names, never values", texts())),
            ("batch_size", whole(1, 10_000)),
            ("grace", span()),
            ("timeouts", timeouts()),
            ("retry", retry()),
            ("limits", limits()),
            ("idempotent", yes_or_no()),
            ("enabled", yes_or_no()),
            (
                "organizations",
                json!({"type": "object", "additionalProperties": own}),
            ),
            ("settings", table()),
            ("created_at", instant()),
        ],
    )
}

fn schedule_entry() -> Entry {
    let set = closed(&[("set", word())], &[]);
    let selection = either([nothing(), query("over objects of the type"), set]);
    let mut entry = Entry::of(
        vec![("plugins", query("over plugins"))],
        vec![
            ("name", name()),
            ("organization", about("absent: all", name())),
            ("enabled", yes_or_no()),
            ("recurrences", recurrences()),
            ("timezone", zone()),
            ("starts_at", instant()),
            ("ends_at", instant()),
            ("calendars", texts()),
            ("run_on", one_or_many(object_type())),
            ("operation", operations()),
            ("when", query("over the trigger")),
            (
                "join",
                about(
                    "plugins whose newest files of one object are the inputs; needs run_on: file",
                    joined(),
                ),
            ),
            (
                "input",
                about(
                    "absent or {}: the triggering object; else types, each with a query, {set}, or null for all",
                    json!({
                        "type": "object", "additionalProperties": selection,
                        // They are no objects.
                        "propertyNames": {"not": {"enum": ["run", "task"]}},
                    }),
                ),
            ),
            (
                "target",
                about("the primary key of an object; needs organization", word()),
            ),
            ("overlap", words(&OVERLAP)),
            ("manual_supersedes", words(&MANUAL_SUPERSEDES)),
            ("missed", words(&MISSED)),
            ("catchup_window", span()),
            ("catchup_max", whole(1, 100_000)),
            ("spread", span()),
            ("complete_when", words(&COMPLETE_WHEN)),
            ("priority", whole(0, 1_000_000_000)),
            ("grace", span()),
            ("timeouts", timeouts()),
            ("retry", retry()),
            ("parameters", about("values of $name", table())),
        ],
    );
    entry
        .besides
        .push(either([says("recurrences"), says("run_on")]));
    entry
}

/// A list, or a variable that holds one with commas.
fn for_each() -> Value {
    let items = list(json!({"type": ["string", "integer"]}));
    about(
        "one entry is made of each, ${each} being the item",
        either([text(), items]),
    )
}

/// An entry of a file: the kind is said, and it may be made once for each item of a list.
fn in_file(kind: Kind) -> Value {
    let mut entry = entry(kind);
    let said = ("kind", exactly(kind.word()));
    match kind {
        // Without a kind an entry is a schedule.
        Kind::Schedule => {}
        _ => entry.required.insert(0, said.clone()),
    }
    let mut schema = entry.schema();
    schema["properties"]["for_each"] = for_each();
    if kind == Kind::Schedule {
        schema["properties"]["kind"] = maybe(said.1);
    }
    schema
}

pub fn organization() -> Value {
    in_file(Kind::Organization)
}

pub fn plugin() -> Value {
    in_file(Kind::Plugin)
}

pub fn object_set() -> Value {
    in_file(Kind::ObjectSet)
}

pub fn calendar() -> Value {
    in_file(Kind::Calendar)
}

pub fn schedule() -> Value {
    in_file(Kind::Schedule)
}

pub fn run() -> Value {
    in_file(Kind::Run)
}

/// A case of `muster test`, which may stand beside what it tries.
pub fn case() -> Value {
    let past = closed(
        &[("plugin", word()), ("organization", word())],
        &[("input", texts()), ("at", instant())],
    );
    let wanted = closed(
        &[("plugin", word())],
        &[
            ("input", texts()),
            ("schedule", word()),
            ("organization", word()),
            ("queue", word()),
            ("priority", whole(0, 1_000_000)),
        ],
    );
    let refused = closed(
        &[("plugin", word())],
        &[
            ("input", word()),
            ("schedule", word()),
            ("reason", chosen(Reason::ALL.map(|(_, word, _)| word))),
        ],
    );
    let mut schema = closed(
        &[("kind", exactly("test")), ("name", word())],
        &[
            ("now", instant()),
            (
                "at",
                about("an instant of the clock, in place of an event", instant()),
            ),
            (
                "given",
                about(
                    "what is there, each as the data of an object.created",
                    list(events::given()),
                ),
            ),
            ("open", list(past.clone())),
            ("ended", list(past)),
            (
                "event",
                about("an event, as the bus would bring it", table()),
            ),
            ("tasks", about("all that are to be made", list(wanted))),
            ("refused", list(refused)),
        ],
    );
    schema["properties"]["for_each"] = for_each();
    one_says(schema, &["event", "at"])
}

pub fn file() -> Value {
    let kinds = Kind::ALL.map(|(_, kind)| in_file(kind));
    let entry = either(kinds.into_iter().chain([case()]));
    either([list(entry.clone()), entry, nothing()])
}
