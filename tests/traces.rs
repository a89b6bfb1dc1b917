//! One trace from an event to its task, to the worker and back, in the logs of both.

mod support;

use std::collections::BTreeSet;
use std::fs;

use futures::StreamExt;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use muster::trace::{begun, carried, trace_id};
use serde_json::{Value, json};
use support::broker::{Broker, OnRabbit, Parcel, own_queue};
use support::process::{House, until};
use support::servers::Rabbit;

const DECLARED: &str = "\
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: greet, worker_type: script, runtime: sh, artefact: greet.sh, consumes: [hostname]}
- {name: hosts, run_on: hostname, operation: created, plugins: plugin_id = 'greet'}
";

/// The steps that leave a line, in their order.
const STEPS: [&str; 6] = ["event", "decide", "commit", "dispatch", "publish", "status"];

fn event(id: &str, traceparent: Option<&str>) -> Value {
    let mut event = json!({
        "specversion": "1.0", "id": id, "source": "/inventory", "type": "object.created",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": id, "attributes": {"name": id}, "scan_level": 2},
    });
    if let Some(traceparent) = traceparent {
        event["traceparent"] = json!(traceparent);
    }
    event
}

fn parcel(event: &Value) -> Parcel {
    Parcel {
        key: "object.created".to_owned(),
        content_type: Some("application/cloudevents+json"),
        body: event.to_string().into_bytes(),
        ..Parcel::default()
    }
}

/// The span that a line stands in, and what it says of the end of a task.
fn spans(log: &str, trace: &str, json: bool) -> Vec<(String, Option<String>)> {
    let lines = log.lines().filter(|line| line.contains(trace));
    lines
        .map(|line| {
            if json {
                let line: Value = serde_json::from_str(line).expect("a line of JSON");
                assert_eq!(line["span"]["trace"], trace, "{line}");
                let name = line["span"]["name"].as_str().expect("a name");
                (name.to_owned(), line["state"].as_str().map(str::to_owned))
            } else {
                let (before, after) = line
                    .split_once(&format!("{{trace=\"{trace}\"}}: "))
                    .unwrap_or_else(|| panic!("a span in {line}"));
                let name = before.rsplit(' ').next().expect("a name");
                let state = after.split_once(" state=\"").map(|(_, rest)| rest);
                let state = state.and_then(|rest| rest.split('"').next());
                (name.to_owned(), state.map(str::to_owned))
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_an_event_to_its_task_and_back() {
    let rabbit = Rabbit::start();
    let house = House::new(
        "sqlite:muster.db",
        &rabbit.url(),
        "[lifecycle]\nenabled = true\n[workers.script]\n",
    );
    house.apply("declared.yaml", DECLARED);
    let shelf = house.path("shelf");
    fs::create_dir_all(&shelf).expect("a store for the worker");
    fs::write(shelf.join("greet.sh"), "echo \"seen: $TRACEPARENT\"\n").expect("a script");
    let shelf = shelf.to_str().expect("a path");
    for (format, id, trace) in [
        ("text", "one", "0af7651916cd43dd8448eb211c80319c"),
        ("json", "two", "1bf7651916cd43dd8448eb211c80319d"),
    ] {
        let json = format == "json";
        let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
        let logs = [("MUSTER_LOG_TRAIL", "true"), ("MUSTER_LOG_FORMAT", format)];
        let service = house.service_with(&format!("service-{format}"), &logs);
        let broker = OnRabbit::connect(&rabbit.url()).await;
        let (_connection, mut life) = life_of(&rabbit.url()).await;
        let worker = house.beside(
            &format!("worker-{format}"),
            &["work", "--type", "script", "--store", shelf],
            &[("MUSTER_LOG_FORMAT", format)],
        );
        broker
            .publish(&[parcel(&event(id, Some(&traceparent)))])
            .await;
        let trail = until("the trail leads to the end of the task", async || {
            let trail = spans(&service.log(), trace, json);
            let ended = ("status".to_owned(), Some("succeeded".to_owned()));
            trail.contains(&ended).then_some(trail)
        })
        .await;
        let mut names: Vec<&str> = trail.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        assert_eq!(names, STEPS, "{trail:?}");
        let theirs = spans(&worker.log(), trace, json);
        assert!(theirs.len() >= 2, "{theirs:?}");
        assert!(
            theirs.iter().all(|(name, _)| name == "attempt"),
            "{theirs:?}"
        );

        // The script got it, and who listens to the life of things is told of it.
        let attempts = house.json(&["attempt", "list"]);
        let log = attempts[0]["log_ref"].as_str().expect("a log");
        let log = fs::read_to_string(house.path("shelf").join(log)).expect("the log");
        assert!(log.contains(&format!("seen: {traceparent}")), "{log}");
        let mut told = BTreeSet::new();
        while !(told.contains("run.finished") && told.contains("task.finished")) {
            let said = life.next().await.expect("told").expect("told");
            let said: Value = serde_json::from_slice(&said.data).expect("JSON");
            let kind = said["type"].as_str().expect("a type");
            // What was declared before has no trace; it may be told only now.
            if kind.starts_with("schedule.") {
                continue;
            }
            assert_eq!(said["traceparent"], traceparent.as_str(), "{said}");
            told.insert(kind.to_owned());
        }
        worker.stop().await;
        service.stop().await;
    }
}

/// All that is told of the life of runs and tasks.
async fn life_of(url: &str) -> (Connection, lapin::Consumer) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let (queue, consumer) = own_queue(&channel).await;
    channel
        .queue_bind(
            queue.as_str().into(),
            "muster.lifecycle".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("bound");
    (connection, consumer)
}

#[test]
fn what_brings_no_trace_or_none_that_is_one_begins_a_new_one() {
    let house = House::embedded("[workers.script]\n");
    let clocked = "- {kind: plugin, plugin_id: feed, worker_type: script, runtime: sh, artefact: feed.sh}\n\
                   - {name: daily, recurrences: daily, plugins: plugin_id = 'feed'}\n";
    house.apply("declared.yaml", &format!("{DECLARED}{clocked}"));
    let mut input = String::new();
    for line in [
        event("none", None),
        event(
            "odd",
            Some("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
        ),
        event(
            "zero",
            Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
        ),
        json!({"now": "2031-01-01T00:00:00Z"}),
    ] {
        input.push_str(&format!("{line}\n"));
    }
    // The clock leaps past the end of offers, which may then be made anew.
    let mut tasks = house.lines(input.into_bytes());
    tasks.retain(|task| task["attempt"] == 1);
    let text = |task: &Value, name: &str| task[name].as_str().unwrap_or_default().to_owned();
    let mut traces = BTreeSet::new();
    let mut clocked = 0;
    for task in &tasks {
        let traceparent = text(task, "traceparent");
        assert!(carried(&traceparent).is_some(), "{task}");
        traces.insert(trace_id(&traceparent).to_owned());
        if task["plugin"]["plugin_id"] == "feed" {
            clocked += 1;
            assert_eq!(traceparent, begun(&text(task, "run_id")), "{task}");
        }
    }
    assert_eq!((tasks.len(), traces.len(), clocked), (4, 4, 1), "{tasks:?}");
    assert_eq!(house.json(&["dead-letter", "list"]), json!([]));
}

#[test]
fn a_trail_is_seen_only_where_somebody_asks_for_it() {
    let house = House::embedded("[workers.script]\n");
    house.apply("declared.yaml", DECLARED);
    let line = format!("{}\n", event("one", None));
    let (_, tasks, log) = house.lines_and_end(line.into_bytes());
    assert_eq!(tasks.len(), 1);
    assert!(!log.contains("trace="), "{log}");
}
