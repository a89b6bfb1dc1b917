//! Reader and schema beside each other: thousands of values near to good ones, and what both say of them.

use std::collections::BTreeSet;
use std::fs;

use muster::contract;
use serde_json::{Map, Value, json};

use super::readers::{requests, takes};
use super::{Schema, root};

/// Names, texts and numbers that a schema speaks of.
#[derive(Default)]
struct Spoken {
    names: BTreeSet<String>,
    texts: BTreeSet<String>,
}

impl Spoken {
    fn of(schema: &Value) -> Spoken {
        let mut spoken = Spoken::default();
        spoken.hear(schema);
        spoken
    }

    fn hear(&mut self, schema: &Value) {
        match schema {
            Value::Object(members) => {
                if let Some(Value::Object(properties)) = members.get("properties") {
                    self.names.extend(properties.keys().cloned());
                }
                for name in ["enum", "examples"] {
                    let words = members.get(name).and_then(Value::as_array);
                    let words = words.into_iter().flatten().filter_map(Value::as_str);
                    self.texts.extend(words.map(str::to_owned));
                }
                if let Some(Value::String(word)) = members.get("const") {
                    self.texts.insert(word.clone());
                }
                members.values().for_each(|member| self.hear(member));
            }
            Value::Array(items) => items.iter().for_each(|item| self.hear(item)),
            _ => {}
        }
    }
}

/// What else might stand somewhere. Of the values that are not texts reader and schema say the same.
fn others(spoken: &Spoken) -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(3),
        json!(5),
        json!(1001),
        json!(-1),
        json!(1.5),
        json!(10_000_000_000_i64),
        json!([]),
        json!({}),
        json!([7]),
        json!([null]),
        json!([{}]),
        json!(""),
        json!(" "),
        json!("zzz"),
        json!("a".repeat(300)),
        json!("2026-11-21T09:30:00Z"),
        json!("1h"),
        json!(["zzz"]),
        json!({"zzz": 1}),
    ];
    values.extend(spoken.texts.iter().map(|text| json!(text)));
    values
}

/// Whether what is in it could be judged by its shape alone.
fn plain(value: &Value) -> bool {
    match value {
        Value::String(_) => false,
        Value::Array(items) => items.iter().all(plain),
        Value::Object(members) => members.is_empty(),
        _ => true,
    }
}

/// Every value that differs from `whole` in one place: the way to it, what it became, and whether that is plain.
fn mutants(whole: &Value, spoken: &Spoken) -> Vec<(String, Value, bool)> {
    let mut made = Vec::new();
    let others = others(spoken);
    let mut change = |way: String, with: &mut dyn FnMut(&mut Value), plain: bool| {
        let mut mutant = whole.clone();
        with(&mut mutant);
        made.push((way, mutant, plain));
    };
    let mut places = Vec::new();
    ways(whole, String::new(), &mut places);
    for way in places {
        let here = whole.pointer(&way).cloned().unwrap_or_default();
        for other in &others {
            let put = |mutant: &mut Value| {
                if let Some(place) = mutant.pointer_mut(&way) {
                    *place = other.clone();
                }
            };
            change(format!("{way} = {other}"), &mut { put }, plain(other));
        }
        let Value::Object(members) = here else {
            continue;
        };
        let at = |mutant: &mut Value, change: &dyn Fn(&mut Map<String, Value>)| {
            if let Some(Value::Object(members)) = mutant.pointer_mut(&way) {
                change(members);
            }
        };
        for name in members.keys() {
            let remove = |mutant: &mut Value| {
                at(mutant, &|members| {
                    members.remove(name);
                });
            };
            change(format!("{way} without {name}"), &mut { remove }, true);
        }
        let unknown = "zzz".to_owned();
        for name in spoken.names.iter().chain([&unknown]) {
            if members.contains_key(name) {
                continue;
            }
            for other in &others {
                let add = |mutant: &mut Value| {
                    at(mutant, &|members| {
                        members.insert(name.clone(), other.clone());
                    });
                };
                change(
                    format!("{way} with {name}: {other}"),
                    &mut { add },
                    plain(other),
                );
            }
        }
    }
    made
}

fn ways(value: &Value, way: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                ways(member, format!("{way}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                ways(item, format!("{way}/{at}"), found);
            }
        }
        _ => {}
    }
    found.push(way);
}

/// What reader and schema say differently, and should: the way to it, and why.
type Apart = (&'static str, &'static str);

/// Holds reader and schema against each other around some good values; `refused` says how many were not taken.
fn hold(name: &str, schema: &Schema, spoken: &Spoken, good: &[Value], apart: &[Apart]) {
    let (mut taken, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for whole in good {
        assert_eq!(takes(name, whole), Some(true), "{name}: {whole}");
        schema.must_take(whole);
        for (way, mutant, plain) in mutants(whole, spoken) {
            let read = takes(name, &mutant).expect("it has a reader");
            let valid = schema.takes(&mutant);
            if read {
                taken += 1;
            } else {
                refused += 1;
            }
            let differs = (read && !valid) || (!read && valid && plain);
            if differs && !apart.iter().any(|(known, _)| way.starts_with(known)) {
                let word = if read { "the reader" } else { "the schema" };
                wrong.push(format!("{name}: only {word} takes {way}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    assert!(
        taken > 5 && refused > 20,
        "{name}: {taken} taken, {refused} refused"
    );
}

fn hold_named(name: &str, good: &[Value], apart: &[Apart]) {
    let document = contract::document(name).expect("it is described");
    hold(
        name,
        &Schema::of(&document),
        &Spoken::of(&document),
        good,
        apart,
    );
}

/// A number that an event brings and its intake need not go by is not looked at.
const VERSION: Apart = (
    "/data with version",
    "read where the intake is ordered by it",
);

#[test]
fn of_events_reader_and_schema_say_the_same() {
    let event = |kind: &str, data: Value| json!({"specversion": "1.0", "id": "e", "source": "/s", "type": kind, "time": "2026-11-21T09:30:00Z", "data": data});
    let object = json!({"organization": "acme", "object_type": "hostname", "primary_key": "h1", "attributes": {}, "scan_level": 2});
    let good = [
        event("object.created", object.clone()),
        event(
            "object.deleted",
            json!({"organization": "acme", "object_type": "hostname", "primary_key": "h1"}),
        ),
        event(
            "scan_profile.updated",
            json!({"organization": "acme", "primary_key": "h1", "scan_level": 0, "scan_profile_type": "empty"}),
        ),
        event(
            "scan_profile.deleted",
            json!({"organization": "acme", "primary_key": "h1"}),
        ),
        event(
            "raw_data.created",
            json!({
                "organization": "acme", "id": "f", "mime_types": ["text/plain"], "plugin_id": "p", "task_id": "t",
                "input": {"object_type": "hostname", "primary_key": "h1"}, "started_at": "2026-11-21T09:30:00Z",
            }),
        ),
        json!({"specversion": "1.0", "id": "e", "source": "/s", "type": "object.deleted", "data_base64":
            "eyJvcmdhbml6YXRpb24iOiJhY21lIiwib2JqZWN0X3R5cGUiOiJob3N0bmFtZSIsInByaW1hcnlfa2V5IjoiaDEifQ=="}),
    ];
    hold_named("event", &good, &[VERSION]);
}

#[test]
fn of_openkats_events_reader_and_schema_say_the_same() {
    let example = |file: &str| {
        let text = fs::read_to_string(root().join("tests/wire").join(file)).expect("an example");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let profiles = [
        example("scan_profile_create.json"),
        example("scan_profile_delete.json"),
    ];
    hold_named("openkat-scan-profile", &profiles, &[]);
    hold_named("openkat-raw-file", &[example("raw_file.json")], &[]);
    let created = example("object_event.json");
    let mut deleted = created.clone();
    deleted["operation_type"] = json!("delete");
    deleted["old_data"] = deleted["new_data"].take();
    hold_named("openkat-object", &[created, deleted], &[]);
}

#[test]
fn of_what_workers_say_and_hear_reader_and_schema_say_the_same() {
    let said = |word: &str, more: Value| {
        let mut status = json!({"task_id": "t", "attempt": 1, "worker": "w", "status": word, "at": "2026-11-21T09:30:00Z"});
        if let (Value::Object(status), Value::Object(more)) = (&mut status, more) {
            status.extend(more);
        }
        status
    };
    let good = [
        said("accepted", json!({})),
        said("declined", json!({"reason": "r", "retry_in_s": 1.5})),
        said(
            "heartbeat",
            json!({"done": 1, "total": 2, "stage": "s", "note": "n"}),
        ),
        said(
            "succeeded",
            json!({"outputs": {}, "log_ref": "l", "exit_code": 0}),
        ),
        said(
            "failed",
            json!({"class": "fatal", "message": "m", "log_tail": "l"}),
        ),
        said("cancelled", json!({"reason": "r"})),
        said("snooze", json!({"until": "2026-11-21T09:30:00Z"})),
        said("never_again", json!({"until": "2026-11-21T09:30:00Z"})),
        json!({"task_id": "t", "status": "running"}),
        json!({"task_id": "t", "status": "completed"}),
        json!({"task_id": "t", "status": "failed"}),
        json!({"task_id": "t", "status": "cancelled"}),
    ];
    hold_named("status", &good, &[]);
    let cancel = json!({"type": "cancel", "task_id": "t", "attempt": 2, "worker": "w"});
    hold_named("control", &[cancel], &[]);
}

#[test]
fn of_every_command_reader_and_schema_say_the_same() {
    let document = contract::document("request").expect("it is described");
    let schema = Schema::of(&document);
    let whole = Spoken::of(&document);
    for good in requests() {
        let command = good["command"].as_str().unwrap_or_default().to_owned();
        // What this command speaks of, and nothing of the others.
        let ways = document["anyOf"].as_array().expect("ways");
        let way = ways
            .iter()
            .find(|way| way["properties"]["command"]["const"] == json!(command))
            .unwrap_or_else(|| panic!("{command} is described"));
        let mut spoken = Spoken::of(way);
        if !command.ends_with(".apply") {
            spoken.names.extend(whole.names.iter().take(10).cloned());
        }
        hold("request", &schema, &spoken, &[good], &declarations("/args"));
    }
}

/// What is judged by more than its shape in a declaration.
fn declarations(within: &str) -> Vec<Apart> {
    let known: &[Apart] = &[
        ("/args with join", "asks for run_on: file"),
        ("/args with target", "asks for an organisation"),
        ("/args with run_on: [", "asks for an operation"),
        (" with join", "asks for run_on: file"),
        (" without operation", "run_on asks for one"),
        ("/operation = ", "run_on asks for one"),
        (" with run_on: []", "asks for an operation"),
    ];
    known
        .iter()
        .filter(|(way, _)| way.starts_with("/args") == (within == "/args"))
        .copied()
        .collect()
}

#[test]
fn of_everything_declared_reader_and_schema_say_the_same() {
    let limits = json!([{"concurrency": 4, "rate": "10/s", "per": "both"}]);
    let timeouts = json!({"queue": "1h", "run": "1h"});
    let retry = json!({"max": 3, "first": "30s", "cap": "1h"});
    hold_named(
        "organization",
        &[json!({"kind": "organization", "id": "acme", "limits": limits})],
        &[],
    );
    hold_named(
        "plugin",
        &[json!({
            "kind": "plugin", "plugin_id": "nmap", "worker_type": "boefje", "timeouts": timeouts, "retry": retry,
            "organizations": {"acme": {"enabled": false}}, "recurrences": [{"period": "1h"}, {"cron": "0 1 * * *"}],
        })],
        &[],
    );
    hold_named(
        "object-set",
        &[
            json!({"kind": "object_set", "name": "s", "object_type": "hostname", "query": "True"}),
            json!({"kind": "object_set", "name": "s", "object_type": "hostname", "keys": ["h1"]}),
        ],
        &[],
    );
    hold_named(
        "calendar",
        &[json!({
            "kind": "calendar", "name": "c", "dates": ["2026-12-25", {"from": "2026-12-25", "to": "2026-12-26"}],
            "weekly": [{"days": ["sat"], "from": "22:00", "to": "06:00"}],
        })],
        &[],
    );
    hold_named(
        "schedule",
        &[
            json!({
                "name": "nightly", "plugins": "True", "recurrences": [{"rrule": "FREQ=DAILY", "dtstart": "2026-01-01T18:00:00"}],
                "input": {"hostname": "True", "url": {"set": "s"}}, "organization": "acme", "timeouts": timeouts, "retry": retry,
            }),
            json!({"kind": "schedule", "plugins": "True", "run_on": ["hostname"], "operation": ["created"]}),
        ],
        &declarations(""),
    );
    hold_named(
        "run",
        &[json!({"kind": "run", "name": "r", "schedule": "nightly", "objects": ["h1"]})],
        &[],
    );
    hold_named(
        "test",
        &[
            json!({"kind": "test", "name": "t", "at": "2026-11-21T09:30:00Z", "open": [{"plugin": "p", "organization": "acme"}],
                "tasks": [{"plugin": "p", "input": "h1"}], "refused": [{"plugin": "p", "reason": "disabled"}]}),
        ],
        &[],
    );
}

/// What a reader asks for by hand has to be in a schema, or nobody outside knows of it.
#[test]
fn every_field_that_is_read_is_described() {
    let read = |files: &[&str]| {
        let mut names = BTreeSet::new();
        let asked = regex::Regex::new(
            r#"(?:\.|\()(?:text|optional_text|key|optional_key|section|optional_section|list|integer|optional_integer|instant|optional_instant|value|has|word|bool|int_in|number|span|moment|one_of|parsed|texts|object|table|one_or_many|entries|get|require|instant_as_written|required_name|name|needed|level|operations)\(\s*(?:&mut \w+|table|said|data|meta|event|section|&mut envelope\.data)?,?\s*"([a-z_0-9]+)""#,
        )
        .expect("a pattern");
        for file in files {
            let text = fs::read_to_string(root().join("src").join(file)).expect("a source");
            names.extend(asked.captures_iter(&text).map(|found| found[1].to_owned()));
        }
        assert!(names.len() > 5, "{files:?}: {names:?}");
        names
    };
    let described = |schemas: &[&str]| {
        let mut names = BTreeSet::new();
        for name in schemas {
            names.extend(Spoken::of(&contract::document(name).expect("described")).names);
        }
        names
    };
    let rooms: [(&[&str], &[&str]); 5] = [
        (&["wire/cloudevents.rs"], &["event"]),
        (
            &["wire/openkat.rs"],
            &["openkat-scan-profile", "openkat-raw-file", "openkat-object"],
        ),
        (&["wire/status.rs"], &["status"]),
        (
            &[
                "declaration/nouns.rs",
                "recurrence.rs",
                "recurrence/calendar.rs",
            ],
            &[
                "organization",
                "plugin",
                "object-set",
                "calendar",
                "schedule",
                "run",
            ],
        ),
        (
            &[
                "command/letter.rs",
                "command/list.rs",
                "command/queue.rs",
                "command/run.rs",
                "command/schedule.rs",
                "command/target.rs",
                "command/task.rs",
                "command/declared.rs",
            ],
            &["request"],
        ),
    ];
    for (files, schemas) in rooms {
        let unsaid: Vec<String> = read(files)
            .difference(&described(schemas))
            .cloned()
            .collect();
        // The number of a change is read where an intake is ordered by it.
        let unsaid: Vec<&String> = unsaid.iter().filter(|name| *name != "version").collect();
        assert!(
            unsaid.is_empty(),
            "{files:?} read {unsaid:?}, and {schemas:?} have none"
        );
    }
}
