//! What is written is as its schema says, with all its fields and no other.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use muster::moment::{Moment, Span};
use muster::plugin::Plugin;
use muster::run::Cause;
use muster::task::{Offer, OfferedInput};
use muster::wire::{
    Refused, cancel, openkat_task_message, read_status, reply, status_message, task_message,
};
use serde_json::{Map, Value, json};

use super::Schema;
use super::support::process::House;
use muster::contract;

fn offer(worker_type: &str) -> Offer {
    let moment = |text: &str| Moment::parse(text).expect("an instant");
    Offer {
        task_id: "t-1".into(),
        attempt: 1,
        run_id: "01936000-0000-7000-8000-00005f2c91ab".into(),
        schedule: "s".into(),
        organization: "acme".into(),
        worker_type: worker_type.into(),
        queue: "q".into(),
        plugin: Arc::new(Plugin {
            plugin_id: "p".into(),
            name: "P".into(),
            ..Plugin::default()
        }),
        arguments: vec!["a".into()],
        inputs: vec![OfferedInput {
            object_type: "hostname".into(),
            primary_key: "h1".into(),
            attributes: Map::new(),
            level: None,
        }],
        settings: Map::new(),
        parameters: Map::new(),
        event_id: None,
        event_type: Some("object.created".into()),
        traceparent: None,
        cause: Cause::Event,
        priority: 2,
        scheduled_for: moment("2026-11-21T09:30:00Z"),
        created_at: moment("2026-11-21T09:30:00.25Z"),
        offered_at: moment("2026-11-21T09:30:02Z"),
        expires_at: moment("2026-11-21T10:30:02Z"),
        queue_timeout: Span::seconds(3600),
        heartbeat_timeout: Span::seconds(60),
        run_timeout: Span::seconds(900),
        avoid_workers: vec!["w".into()],
        deduplication_key: Some("0123456789abcdef0123456789abcdef".into()),
    }
}

fn json_of(message: &[u8]) -> Value {
    serde_json::from_slice(message).expect("a message is JSON")
}

/// The fields of a message are those of its schema, at every depth where the schema names any.
#[track_caller]
fn same_fields(schema: &Value, message: &Value, way: &str) {
    if let Some(Value::Array(ways)) = schema.get("anyOf") {
        let fits = ways.iter().find(|way| Schema::of(way).takes(message));
        let fits = fits.unwrap_or_else(|| panic!("{way}: {message} is none of these"));
        return same_fields(fits, message, way);
    }
    match message {
        Value::Object(members) => {
            let Some(Value::Object(properties)) = schema.get("properties") else {
                return;
            };
            let names = |map: &Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(members), names(properties), "{way}");
            for (name, member) in members {
                same_fields(&properties[name], member, &format!("{way}.{name}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                same_fields(&schema["items"], item, &format!("{way}[]"));
            }
        }
        _ => {}
    }
}

#[test]
fn tasks_are_written_with_the_fields_of_their_schema_and_no_other() {
    let mut bare = offer("boefje");
    bare.inputs.clear();
    bare.event_type = None;
    let document = contract::document("task").expect("it is described");
    for offer in [offer("boefje"), bare] {
        let message = json_of(&task_message(&offer));
        Schema::of(&document).must_take(&message);
        same_fields(&document, &message, "task");
    }
    let document = contract::document("openkat-task").expect("it is described");
    for worker_type in ["boefje", "normalizer", "report"] {
        let message = json_of(&openkat_task_message(&offer(worker_type)));
        Schema::of(&document).must_take(&message);
        same_fields(&document, &message, "openkat-task");
    }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn what_workers_and_askers_are_told_is_as_its_schema_says() {
    let control = Schema::named("control");
    control.must_take(&json_of(&cancel("t", None, None)));
    control.must_take(&json_of(&cancel("t", Some(2), Some("w"))));
    let replies = Schema::named("reply");
    let answer = |answer| json_of(reply(Some("r"), &answer).as_bytes());
    replies.must_take(&answer(Ok(json!({}))));
    replies.must_take(&answer(Err(Refused::new("c", "m", "h"))));
    assert!(!replies.takes(&json!({"ok": true, "error": {}})));
    let status = json!({"task_id": "t", "attempt": 1, "worker": "w", "status": "failed", "at": "2026-11-21T09:30:00Z", "class": "fatal"});
    let read = read_status(status.to_string().as_bytes(), Moment::EPOCH).expect("a status");
    Schema::named("status").must_take(&json_of(&status_message(&read, Some(TRACE))));
}

const CATALOGUE: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: dns, worker_type: boefje, scan_level: 1, oci_arguments: [dig, "{hostname}"]}
- {name: hosts, run_on: hostname, operation: created, plugins: "True"}
- {name: nightly, organization: acme, recurrences: daily, plugins: recurrences = None, input: {hostname: "True"}}
"#;

#[test]
fn every_line_that_a_service_writes_is_as_a_schema_says() {
    let house = House::embedded("[lifecycle]\nenabled = true\n");
    house.apply("catalogue.yaml", CATALOGUE);
    let event = json!({"specversion": "1.0", "id": "e-1", "source": "/s", "type": "object.created", "data":
        {"organization": "acme", "object_type": "hostname", "primary_key": "h1", "attributes": {"name": "a"}, "scan_level": 2}});
    let ask = |command: &str, args: Value| json!({"id": command, "command": command, "args": args});
    let lines = [
        json!({"now": "2026-11-21T09:30:00Z"}),
        event,
        json!({"specversion": "1.0"}),
        json!({"now": "2026-11-22T00:00:01Z"}),
        ask(
            "schedule.pause",
            json!({"schedule": "nightly", "reason": "r"}),
        ),
        ask("run.start", json!({"schedule": "nightly"})),
        ask("stats", json!({})),
        ask("task.list", json!({})),
        ask("task.cancel", json!({"all": true, "yes": true})),
        ask("no.such", json!({})),
    ];
    let input: Vec<u8> = lines
        .iter()
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect();
    let written = house.lines(input);
    let mut seen = BTreeSet::new();
    for line in &written {
        let name = match line {
            line if line.get("specversion").is_some() => "life",
            line if line.get("ok").is_some() => "reply",
            _ => "task",
        };
        Schema::named(name).must_take(line);
        if name == "life" {
            let document = contract::document("life").expect("it is described");
            let kind = line["type"].as_str().unwrap_or_default();
            // A pause says who, an application what it is called.
            if kind != "schedule.changed" {
                same_fields(&document, line, kind);
            }
            seen.insert(kind.to_owned());
        } else {
            seen.insert(name.to_owned());
        }
    }
    for kind in [
        "task",
        "reply",
        "run.started",
        "run.finished",
        "task.queued",
        "task.dispatched",
        "schedule.changed",
        "event.rejected",
        "task.finished",
    ] {
        assert!(seen.contains(kind), "{kind} was not written: {seen:?}");
    }
}

#[test]
fn questions_and_answers_of_a_batch_are_as_their_schemas_say() {
    let house = House::embedded("");
    let whole = json!({"query": "name = 'a'", "type": "hostname", "object": {"name": "a"}, "trigger": {"name": "b"},
        "trigger_type": "hostname", "params": {}, "now": "2026-11-21T09:30:00Z"});
    let mut questions = vec![
        whole.clone(),
        json!({"query": "name = 'a'"}),
        json!({"query": "name ="}),
        json!([]),
        json!(7),
    ];
    let others = [
        json!(null),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!([7]),
    ];
    for name in [
        "query",
        "type",
        "object",
        "trigger",
        "trigger_type",
        "params",
        "now",
    ] {
        for other in &others {
            let mut question = whole.clone();
            question[name] = other.clone();
            questions.push(question);
        }
    }
    let mut child = house
        .command(&["query", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("muster runs");
    let lines: Vec<String> = questions.iter().map(Value::to_string).collect();
    let mut stdin = child.stdin.take().expect("its input");
    let writer = std::thread::spawn(move || stdin.write_all(lines.join("\n").as_bytes()));
    let done = child.wait_with_output().expect("it ends");
    writer.join().expect("a thread").expect("it reads");
    let text = String::from_utf8(done.stdout).expect("UTF-8");
    let answers: Vec<Value> = text.lines().map(|line| json_of(line.as_bytes())).collect();
    assert_eq!(answers.len(), questions.len());
    let (asked, answered) = (Schema::named("question"), Schema::named("answer"));
    for (question, answer) in questions.iter().zip(&answers) {
        answered.must_take(answer);
        let code = answer["error"]["code"].as_str().unwrap_or_default();
        let misshapen = matches!(code, "not_a_question" | "missing_field" | "wrong_type");
        assert_eq!(asked.takes(question), !misshapen, "{question}: {answer}");
    }
}
