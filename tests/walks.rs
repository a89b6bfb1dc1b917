//! The whole way, from the events to the messages in the workers' queues, on every pair of bus and store; and back.

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use support::broker::{Broker, OnNats, OnRabbit, Parcel, TaskMessage};
use support::compare::{assert_as_modelled, assert_messages, assert_same, inventory_of};
use support::load::{Event, Load, SETTINGS, WORKER_TYPES};
use support::model::outcome;
use support::process::{Database, Dialogue, House, until};
use support::servers::{Nats, Postgres, Rabbit};

/// The size of the load of the three main walks.
const EVENTS: usize = 10_000;

#[test]
fn the_load_is_large_enough_to_mean_something() {
    let load = Load::of(EVENTS);
    assert_eq!(
        (load.plugins.len(), load.schedules.len(), load.events.len()),
        (20, 50, EVENTS)
    );
    let expected = outcome(&load, &load.events);
    let withdrawn = expected.made() - expected.open();
    eprintln!(
        "{} tasks, {withdrawn} of them withdrawn, {} objects live",
        expected.made(),
        expected.live().len()
    );
    assert!(
        expected.open() > 1000,
        "expected more than 1,000 open tasks: {}",
        expected.open()
    );
    assert!(
        withdrawn > 500,
        "expected more than 500 withdrawn tasks: {withdrawn}"
    );
    let plugins: BTreeSet<&String> = expected
        .tasks
        .keys()
        .map(|(_, plugin, ..)| plugin)
        .collect();
    assert!(
        plugins.len() >= 14,
        "expected tasks of most plugins: {plugins:?}"
    );
    let again = Load::of(EVENTS);
    assert_eq!(
        again.events, load.events,
        "expected the same load from the same seed"
    );
}

fn lines(events: &[Event]) -> Vec<u8> {
    let mut input = Vec::new();
    for event in events {
        input.extend(event.body());
        input.push(b'\n');
    }
    input
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_lines_and_sqlite_the_load_gives_the_tasks_of_the_model_also_when_it_comes_twice() {
    let load = Load::of(EVENTS);
    let expected = outcome(&load, &load.events);
    let house = House::embedded(SETTINGS);
    house.apply("load.json", &load.declarations());
    let first = house.lines(lines(&load.events));
    assert_as_modelled(&house, &expected).await;
    let messages: Vec<TaskMessage> = first
        .into_iter()
        .map(|body| TaskMessage {
            message_id: format!(
                "{}:{}",
                body["id"].as_str().expect("an id"),
                body["attempt"]
            ),
            body,
        })
        .collect();
    assert_eq!(
        assert_messages(&house, &load, &messages),
        0,
        "expected no task message twice"
    );
    let second = house.lines(lines(&load.events));
    assert_eq!(
        second.len(),
        0,
        "expected nothing new when every event comes a second time"
    );
    assert_as_modelled(&house, &expected).await;
}

/// Publishes the load, and then all of it again, and looks at everything that came of it.
async fn walk<B: Broker>(house: &House, connect: impl AsyncFnOnce() -> B) {
    let load = Load::of(EVENTS);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let service = house.service();
    let broker = connect().await;
    let parcels: Vec<Parcel> = load
        .events
        .iter()
        .map(|event| Parcel::of(event, B::PREFIX))
        .collect();
    let database = house.database().await;
    broker.publish(&parcels).await;
    database.settled(EVENTS).await;
    assert_as_modelled(house, &expected).await;

    // All of it again; one event more at the end tells when.
    broker.publish(&parcels).await;
    broker.publish(&[marker("after-the-second-time")]).await;
    database.settled(EVENTS + 1).await;
    service.stop().await;
    assert_eq!(
        broker.waiting().await,
        0,
        "expected nothing to wait at the broker"
    );
    assert_eq!(
        database.dead_letters().await,
        Some(0),
        "expected no dead letter"
    );
    assert_as_modelled(house, &expected).await;
    let mut messages = Vec::new();
    for worker_type in WORKER_TYPES {
        messages.extend(broker.tasks(worker_type).await);
    }
    assert_eq!(
        assert_messages(house, &load, &messages),
        0,
        "expected no task message twice"
    );

    // Some workers do their work, through the broker too; their word comes twice.
    let withdrawn = house.json(&["task", "list", "--state", "withdrawn", "--limit", "1000000"]);
    let withdrawn = ids(&withdrawn);
    let done: Vec<&TaskMessage> = messages
        .iter()
        .filter(|message| !withdrawn.contains(message.body["id"].as_str().expect("an id")))
        .step_by(100)
        .collect();
    let service = house.service();
    for message in &done {
        for word in ["accepted", "succeeded", "succeeded"] {
            broker.report(&status(&message.body, word)).await;
        }
    }
    until(
        "the tasks that were reported on have succeeded",
        async || {
            let succeeded = database
                .count("SELECT count(*) FROM task WHERE state = 'succeeded'")
                .await?;
            (succeeded >= i64::try_from(done.len()).expect("a count")).then_some(())
        },
    )
    .await;
    service.stop().await;
    let succeeded = house.json(&["task", "list", "--state", "succeeded", "--limit", "1000000"]);
    let reported = done
        .iter()
        .map(|message| message.body["id"].as_str().expect("an id").to_owned());
    assert_eq!(
        ids(&succeeded),
        reported.collect(),
        "expected exactly the reported tasks to have succeeded"
    );
}

fn ids(listing: &Value) -> BTreeSet<String> {
    let rows = listing.as_array().expect("a list").iter();
    rows.map(|row| row["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// What a worker reports about the task of a message.
fn status(task: &Value, word: &str) -> Value {
    json!({ "task_id": task["id"], "attempt": task["attempt"], "worker": "w-1", "status": word, "at": "2026-03-01T00:00:00Z" })
}

/// An event that makes no task, after the time of the load.
fn marker(name: &str) -> Parcel {
    let body = json!({
        "specversion": "1.0", "id": name, "source": "/marker", "type": "object.deleted", "time": "2026-03-02T00:00:00Z",
        "data": { "organization": "acme", "object_type": "marker", "primary_key": name },
    });
    Parcel {
        key: "object.deleted".to_owned(),
        body: body.to_string().into_bytes(),
        ..Parcel::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_and_postgresql_the_load_gives_the_tasks_of_the_model_also_when_it_comes_twice()
{
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), SETTINGS);
    walk(&house, async || OnRabbit::connect(&rabbit.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_and_postgresql_the_load_gives_the_tasks_of_the_model_also_when_it_comes_twice() {
    let (postgres, nats) = (Postgres::with(&["fsync=off"]), Nats::start());
    let house = House::new(&postgres.url(), &nats.url(), SETTINGS);
    walk(&house, async || OnNats::connect(&nats.url()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_versions_of_an_object_in_any_order_give_the_same_inventory() {
    let load = Load::of(EVENTS);
    let expected = outcome(&load, &load.events);
    let shuffled = load.shuffled_within_objects(17);
    let moved = shuffled
        .iter()
        .zip(&load.events)
        .filter(|(now, then)| now.at != then.at)
        .count();
    assert!(
        moved > EVENTS / 2,
        "expected most events to come at another place: {moved}"
    );
    let house = House::embedded(SETTINGS);
    house.apply("load.json", &load.declarations());
    house.lines(lines(&shuffled));
    assert_same(
        "the inventory",
        &inventory_of(&house).await,
        &expected.live(),
    );
}

/// Says an event about a hostname of acme, with the time at its place among the others.
fn hostname(key: &str, at: usize, event_type: &str, level: Option<u8>, root: bool) -> String {
    let mut data = json!({ "organization": "acme", "object_type": "hostname", "primary_key": key });
    if event_type.starts_with("object") {
        data["attributes"] = json!({ "name": key, "root": root });
    }
    if let Some(level) = level {
        data["scan_level"] = json!(level);
        data["scan_profile_type"] = json!("declared");
    }
    let time = format!("2026-03-01T00:00:00.{at:03}Z");
    json!({ "specversion": "1.0", "id": format!("h-{at}"), "source": "/walk", "type": event_type, "time": time, "data": data })
        .to_string()
}

/// One plugin that every hostname starts, with clocks so long that only grace and retries pass in these tests.
const ONE_PLUGIN: &str = r#"
- {kind: organization, id: acme}
- kind: plugin
  plugin_id: dns
  worker_type: boefje
  scan_level: 1
  oci_arguments: ["dig", "{hostname}"]
  timeouts: {queue: 30d, heartbeat: 30d, run: 30d, task: 90d}
  retry: {max: 3, first: 30s, cap: 1h}
- {name: hostnames, run_on: hostname, operation: [created, updated], plugins: "plugin_id = 'dns'"}
"#;

/// Waits until so many tasks are in a state.
async fn in_state(database: &Database, sql: &'static str, count: i64, what: &str) {
    until(what, async || {
        (database.count(sql).await? == count).then_some(())
    })
    .await;
}

const FAILED: &str = "SELECT count(*) FROM task WHERE state = 'failed'";
const SUCCEEDED: &str = "SELECT count(*) FROM task WHERE state = 'succeeded'";
const RUNNING: &str = "SELECT count(*) FROM task WHERE state = 'running'";

/// A dialogue whose clock stands at the start of 1 March 2026, and what it wrote down.
async fn one_plugin() -> (House, Database, Dialogue) {
    let house = House::embedded("");
    house.apply("one.yaml", ONE_PLUGIN);
    let database = house.database().await;
    let mut dialogue = house.dialogue();
    dialogue.say(r#"{"now":"2026-03-01T00:00:00Z"}"#);
    (house, database, dialogue)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fails_is_offered_again_until_it_is_fatal_or_out_of_attempts_and_every_attempt_is_kept()
 {
    let (house, database, mut dialogue) = one_plugin().await;
    dialogue.say(&hostname("a", 1, "object.created", Some(1), false));
    let first = dialogue.hear();
    assert_eq!(
        (&first["attempt"], &first["arguments"]),
        (&json!(1), &json!(["dig", "a"]))
    );

    dialogue.say(&status(&first, "accepted").to_string());
    dialogue.say(&status(&first, "accepted").to_string());
    in_state(&database, RUNNING, 1, "an accepted task runs").await;
    let mut other = status(&first, "accepted");
    other["worker"] = json!("w-2");
    dialogue.say(&other.to_string());
    let cancel = dialogue.hear();
    assert_eq!(
        (&cancel["type"], &cancel["task_id"], &cancel["worker"]),
        (&json!("cancel"), &first["id"], &json!("w-2")),
        "expected the second worker to be told that it works in vain"
    );

    let mut failed = status(&first, "failed");
    failed["class"] = json!("retryable");
    failed["exit_code"] = json!(7);
    failed["message"] = json!("no route");
    dialogue.say(&failed.to_string());
    in_state(
        &database,
        "SELECT count(*) FROM task WHERE state = 'queued' AND spent = 1",
        1,
        "a retryable failure queues the task again",
    )
    .await;
    dialogue.say(r#"{"now":"2026-03-01T00:01:00Z"}"#);
    let second = dialogue.hear();
    assert_eq!(
        (&second["id"], &second["attempt"]),
        (&first["id"], &json!(2)),
        "expected a second attempt of the same task"
    );

    // Of the attempt before: kept, and deciding nothing.
    dialogue.say(&status(&first, "succeeded").to_string());
    in_state(
        &database,
        "SELECT count(*) FROM late_result",
        2,
        "a late result is kept",
    )
    .await;
    let mut fatal = status(&second, "failed");
    fatal["class"] = json!("fatal");
    dialogue.say(&status(&second, "accepted").to_string());
    dialogue.say(&fatal.to_string());
    dialogue.say(&fatal.to_string());
    in_state(&database, FAILED, 1, "a fatal failure fails the task").await;

    // Another one fails three times, and that is all.
    dialogue.say(&hostname("b", 2, "object.created", Some(1), false));
    for attempt in 1..=3 {
        let offer = dialogue.hear();
        assert_eq!(
            (&offer["attempt"], &offer["inputs"][0]["primary_key"]),
            (&json!(attempt), &json!("b"))
        );
        let mut failed = status(&offer, "failed");
        failed["class"] = json!("retryable");
        dialogue.say(&failed.to_string());
        let (sql, what) = match attempt {
            1 => (
                "SELECT count(*) FROM task WHERE state = 'queued' AND spent = 1",
                "the first failure is counted",
            ),
            2 => (
                "SELECT count(*) FROM task WHERE state = 'queued' AND spent = 2",
                "the second failure is counted",
            ),
            _ => (
                "SELECT count(*) FROM task WHERE state = 'dead' AND reason = 'out_of_attempts'",
                "the third failure is the last",
            ),
        };
        in_state(&database, sql, 1, what).await;
        dialogue.say(&format!(
            r#"{{"now":"2026-03-01T0{}:00:00Z"}}"#,
            attempt + 1
        ));
    }
    assert_eq!(dialogue.end(), [Value::Null; 0], "expected no more lines");

    let attempts = house.json(&["attempt", "list"]);
    let of_first: Vec<[&Value; 4]> = attempts
        .as_array()
        .expect("a list")
        .iter()
        .filter(|attempt| attempt["task_id"] == first["id"])
        .map(|attempt| {
            [
                &attempt["number"],
                &attempt["worker"],
                &attempt["outcome"],
                &attempt["exit_code"],
            ]
        })
        .collect();
    assert_eq!(
        of_first,
        [
            [&json!(2), &json!("w-1"), &json!("failed"), &Value::Null],
            [&json!(1), &json!("w-1"), &json!("failed"), &json!(7)]
        ],
        "expected both attempts to be kept with how they ended"
    );
    assert_eq!(
        attempts.as_array().map(Vec::len),
        Some(5),
        "expected every attempt to be kept"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grace_counts_from_the_end_of_the_last_task_and_a_changed_input_passes_it() {
    let (_house, database, mut dialogue) = one_plugin().await;
    dialogue.say(&hostname("a", 1, "object.created", Some(1), false));
    let first = dialogue.hear();
    dialogue.say(&status(&first, "accepted").to_string());
    in_state(&database, RUNNING, 1, "the task runs").await;
    dialogue.say(r#"{"now":"2026-03-01T20:00:00Z"}"#);
    dialogue.say(&status(&first, "succeeded").to_string());
    in_state(
        &database,
        SUCCEEDED,
        1,
        "the task ends 20 hours after it was offered",
    )
    .await;

    // 30 hours after the offer and 10 after the end; then 23 after the end.
    dialogue.say(r#"{"now":"2026-03-02T06:00:00Z"}"#);
    dialogue.say(&hostname("a", 2, "scan_profile.updated", Some(2), false));
    dialogue.say(r#"{"now":"2026-03-02T19:00:00Z"}"#);
    dialogue.say(&hostname("a", 3, "scan_profile.updated", Some(3), false));
    // 25 after the end.
    dialogue.say(r#"{"now":"2026-03-02T21:00:00Z"}"#);
    dialogue.say(&hostname("a", 4, "scan_profile.updated", Some(4), false));
    let second = dialogue.hear();
    assert_eq!(
        (
            &second["trigger"]["event_id"],
            &second["inputs"][0]["scan_level"]
        ),
        (&json!("h-4"), &json!(4)),
        "expected the first raise after the grace, and none before, to make a task"
    );
    dialogue.say(&status(&second, "succeeded").to_string());
    in_state(&database, SUCCEEDED, 2, "the second task ends").await;
    dialogue.say(&hostname("a", 5, "object.updated", None, true));
    let third = dialogue.hear();
    assert_eq!(
        third["trigger"]["event_id"], "h-5",
        "expected changed attributes to pass the grace"
    );
    assert_eq!(dialogue.end(), [Value::Null; 0], "expected no more tasks");
}

/// Large, small and negative zero: a database may write such numbers in another way than they came.
const NUMBERS: &str = r#"{"a":1e16,"b":1.2345678901234567e18,"c":-0.0,"d":1e300,"e":100.0,"f":5e-324,"g":18446744073709551615,"h":[1e18,{"i":1E2}]}"#;

async fn numbers_stay_what_they_are(house: &House) {
    house.apply("one.yaml", ONE_PLUGIN);
    let database = house.database().await;
    let mut dialogue = house.dialogue();
    dialogue.say(r#"{"now":"2026-03-01T00:00:00Z"}"#);
    let event = |at: usize, event_type: &str, level: u8| {
        format!(
            r#"{{"specversion":"1.0","id":"n-{at}","source":"/numbers","type":"{event_type}","time":"2026-03-01T00:00:0{at}Z",
            "data":{{"organization":"acme","object_type":"hostname","primary_key":"k","scan_level":{level},"attributes":{NUMBERS}}}}}"#
        )
        .replace('\n', "")
    };
    dialogue.say(&event(1, "object.created", 1));
    let task = dialogue.hear();
    dialogue.say(&status(&task, "succeeded").to_string());
    in_state(&database, SUCCEEDED, 1, "the task ends").await;
    // The same again, and a raised level within the grace: nothing has changed that a task should see.
    dialogue.say(&event(2, "object.updated", 1));
    dialogue.say(&event(3, "object.updated", 2));
    assert_eq!(
        dialogue.end(),
        [Value::Null; 0],
        "expected the same numbers to be no change of the input"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_any_size_are_no_change_when_they_come_again() {
    numbers_stay_what_they_are(&House::embedded("")).await;
    let postgres = Postgres::with(&["fsync=off"]);
    numbers_stay_what_they_are(&House::new(&postgres.url(), "lines:", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_of_openkats_runners_are_understood() {
    let (house, database, mut dialogue) = one_plugin().await;
    let mut offers = Vec::new();
    for (at, key) in ["done", "tried", "stopped"].into_iter().enumerate() {
        dialogue.say(&hostname(key, at + 1, "object.created", Some(1), false));
        offers.push(dialogue.hear());
    }
    let word =
        |offer: &Value, word: &str| json!({ "task_id": offer["id"], "status": word }).to_string();
    for offer in &offers {
        dialogue.say(&word(offer, "dispatched"));
        dialogue.say(&word(offer, "running"));
    }
    in_state(&database, RUNNING, 3, "`dispatched` accepts a task").await;
    dialogue.say(&word(&offers[0], "completed"));
    dialogue.say(&word(&offers[1], "failed"));
    dialogue.say(&word(&offers[2], "cancelled"));
    in_state(
        &database,
        "SELECT count(*) FROM task WHERE state = 'cancelled'",
        1,
        "`cancelled` cancels a task",
    )
    .await;
    in_state(&database, SUCCEEDED, 1, "`completed` is success").await;
    dialogue.say(r#"{"now":"2026-03-01T00:01:00Z"}"#);
    let again = dialogue.hear();
    assert_eq!(
        (&again["id"], &again["attempt"]),
        (&offers[1]["id"], &json!(2)),
        "expected `failed` to be retryable"
    );

    // Whoever says nothing that can be read is a dead letter; whoever names no task changes nothing.
    dialogue.say(r#"{"task_id":"0193","status":"sideways"}"#);
    dialogue.say(r#"{"task_id":"0193","status":"completed"}"#);
    assert_eq!(dialogue.end(), [Value::Null; 0], "expected no more lines");
    let letters = house.json(&["dead-letter", "list"]);
    let reasons: Vec<[&Value; 2]> = letters
        .as_array()
        .expect("a list")
        .iter()
        .map(|letter| [&letter["intake"], &letter["reason"]])
        .collect();
    assert_eq!(
        reasons,
        [[&json!("muster.status"), &json!("bad_value")]],
        "expected the unreadable status alone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_an_event_brings_is_one_that_could_be_declared() {
    let house = House::embedded("");
    house.apply("one.yaml", ONE_PLUGIN);
    let (longest, longer) = ("o".repeat(200), "o".repeat(201));
    let mut input = Vec::new();
    for (at, organization) in [&longest, &longer, "\n", "a b"].into_iter().enumerate() {
        let event = created(&at.to_string(), organization, "hostname", Some(1));
        input.extend(event.into_bytes());
        input.push(b'\n');
    }
    let tasks = house.lines(input);
    let served: BTreeSet<&str> = tasks
        .iter()
        .filter_map(|task| task["organization"].as_str())
        .collect();
    assert_eq!(
        served,
        BTreeSet::from([longest.as_str(), "a b"]),
        "expected tasks for every organisation that can be declared"
    );
    let withdrawn = house.json(&["task", "list", "--state", "withdrawn"]);
    assert_eq!(withdrawn, json!([]), "expected no task to lose its reason");
    let letters = house.json(&["dead-letter", "list"]);
    let reasons: BTreeSet<&str> = letters
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|letter| letter["reason"].as_str())
        .collect();
    assert_eq!(
        reasons,
        BTreeSet::from(["bad_value", "too_long"]),
        "expected the others to be dead letters"
    );
    let exported = house.done(&["export"]);
    house.apply("exported.yaml", &exported);
}

/// A plugin of a worker type without settings of its own.
fn plugin(id: &str, level: Option<u8>, arguments: &[&str]) -> Value {
    json!({ "kind": "plugin", "plugin_id": id, "worker_type": "generic", "scan_level": level, "oci_arguments": arguments })
}

fn created(id: &str, organization: &str, object_type: &str, level: Option<u8>) -> String {
    let mut data = json!({ "organization": organization, "object_type": object_type, "primary_key": id, "attributes": { "name": id } });
    if let Some(level) = level {
        data["scan_level"] = json!(level);
    }
    json!({ "specversion": "1.0", "id": id, "source": "/rfd", "type": "object.created", "time": "2026-03-01T00:00:00Z", "data": data }).to_string()
}

/// What a task line says: schedule, organisation, plugin, input.
fn said(task: &Value) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    [
        text(&task["schedule"]),
        text(&task["organization"]),
        text(&task["plugin"]["plugin_id"]),
        text(&task["inputs"][0]["primary_key"]),
    ]
}

fn rows(rows: &[[&str; 4]]) -> BTreeSet<[String; 4]> {
    rows.iter().map(|row| row.map(str::to_owned)).collect()
}

/// Hears so many tasks, and has each of them succeed.
fn hear_and_do(dialogue: &mut Dialogue, count: usize) -> (BTreeSet<[String; 4]>, Vec<Value>) {
    let tasks: Vec<Value> = (0..count).map(|_| dialogue.hear()).collect();
    for task in &tasks {
        dialogue.say(&status(task, "succeeded").to_string());
    }
    let set: BTreeSet<[String; 4]> = tasks.iter().map(said).collect();
    assert_eq!(set.len(), count, "expected no task twice: {set:?}");
    (set, tasks)
}

/// The next midnight, in microseconds.
fn midnight() -> i64 {
    const DAY: i64 = 86_400_000_000;
    (muster::moment::Moment::now().micros() / DAY + 1) * DAY
}

fn clock(micros: i64) -> String {
    json!({ "now": muster::moment::Moment::from_micros(micros).to_string() }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_example_of_rfd_0010_loads_verbatim_and_gives_the_tasks_that_it_describes() {
    let house = House::embedded("");
    let mut late = plugin("own-clock", Some(1), &["{hostname}"]);
    late["recurrences"] = json!("2099-01-01T00:00:00Z");
    let mut off = plugin("off", Some(1), &["{hostname}", "{ip_address}"]);
    off["enabled"] = json!(false);
    let mut consumer = plugin("consumer", Some(1), &[]);
    consumer["consumes"] = json!(["hostname"]);
    let world = json!([
        { "kind": "organization", "id": "acme" }, { "kind": "organization", "id": "other" },
        plugin("dns", Some(1), &["dig", "{hostname}"]), plugin("nmap", Some(2), &["{ip_address}"]),
        plugin("ssl", Some(1), &["{hostname|ip_address}"]), plugin("rpki", None, &["fetch"]), late, off, consumer,
    ]);
    house.apply("world.json", &world.to_string());
    house.apply("rfd.json", include_str!("rfd0010/default_daily.json"));
    let midnight = midnight();
    let database = house.database().await;
    let mut dialogue = house.dialogue();
    for (id, organization, object_type, level) in [
        ("two", "acme", "hostname", Some(2)),
        ("zero", "acme", "hostname", Some(0)),
        ("none", "acme", "hostname", None),
        ("ip-two", "acme", "ip_address", Some(2)),
        ("ip-one", "acme", "ip_address", Some(1)),
        ("url", "acme", "url", Some(4)),
        ("theirs", "other", "hostname", Some(1)),
    ] {
        dialogue.say(&created(id, organization, object_type, level));
    }
    // Created: whatever names the type in its arguments, where enabled and permitted.
    let (tasks, _) = hear_and_do(&mut dialogue, 9);
    let expected = rows(&[
        ["hostname-created", "acme", "dns", "two"],
        ["hostname-created", "acme", "ssl", "two"],
        ["hostname-created", "acme", "own-clock", "two"],
        ["hostname-created", "other", "dns", "theirs"],
        ["hostname-created", "other", "ssl", "theirs"],
        ["hostname-created", "other", "own-clock", "theirs"],
        ["ip_address-created", "acme", "nmap", "ip-two"],
        ["ip_address-created", "acme", "ssl", "ip-two"],
        ["ip_address-created", "acme", "ssl", "ip-one"],
    ]);
    assert_eq!(
        tasks, expected,
        "expected the tasks of the two schedules on `created`"
    );
    in_state(&database, SUCCEEDED, 9, "all of them have ended").await;
    // Daily: every plugin without recurrences of its own, on all hosts and addresses above level 0.
    dialogue.say(&clock(midnight + 5_000_000));
    let (tasks, messages) = hear_and_do(&mut dialogue, 9);
    let expected = rows(&[
        ["daily-hostname-ip_address", "acme", "dns", "two"],
        ["daily-hostname-ip_address", "acme", "ssl", "two"],
        ["daily-hostname-ip_address", "acme", "consumer", "two"],
        ["daily-hostname-ip_address", "other", "dns", "theirs"],
        ["daily-hostname-ip_address", "other", "ssl", "theirs"],
        ["daily-hostname-ip_address", "other", "consumer", "theirs"],
        ["daily-hostname-ip_address", "acme", "nmap", "ip-two"],
        ["daily-hostname-ip_address", "acme", "ssl", "ip-two"],
        ["daily-hostname-ip_address", "acme", "ssl", "ip-one"],
    ]);
    assert_eq!(tasks, expected, "expected the tasks of the daily schedule");
    let nominal = muster::moment::Moment::from_micros(midnight).to_string();
    for message in messages {
        assert_eq!(
            (
                &message["cause"],
                &message["scheduled_for"],
                &message["late_by_s"]
            ),
            (&json!("on_time"), &json!(nominal), &json!(5)),
            "expected the instant of the schedule in {message}"
        );
    }
    in_state(&database, SUCCEEDED, 18, "all of them have ended").await;
    // The next day again, though all of it was done within the grace: that is for events.
    dialogue.say(&clock(midnight + 86_400_000_000));
    let (tasks, _) = hear_and_do(&mut dialogue, 9);
    assert_eq!(tasks, expected, "expected the same tasks on the next day");
    assert_eq!(dialogue.end(), [Value::Null; 0], "expected no more tasks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_example_of_rfd_0010_loads_verbatim_and_gives_the_tasks_that_it_describes() {
    let house = House::embedded("");
    let world = json!([
        { "kind": "organization", "id": "acme" }, { "kind": "organization", "id": "other" },
        plugin("dns", Some(1), &["dig", "{hostname}"]), plugin("bgp-download", None, &["bgp"]),
        plugin("rpki-download", None, &["rpki"]), plugin("kat_rpki_normalize2", None, &[]),
    ]);
    house.apply("world.json", &world.to_string());
    house.apply("rfd.json", include_str!("rfd0010/complete_control.json"));
    let midnight = midnight();
    let database = house.database().await;
    let mut dialogue = house.dialogue();
    dialogue.say(&created("one", "acme", "hostname", Some(1)));
    dialogue.say(&created("zero", "other", "hostname", Some(0)));
    // Daily on the host above level 0; hourly each plugin once for each organisation, without input.
    dialogue.say(&clock(midnight));
    let hourly = [
        ["hourly", "acme", "bgp-download", "-"],
        ["hourly", "acme", "rpki-download", "-"],
        ["hourly-2", "acme", "kat_rpki_normalize2", "-"],
        ["hourly", "other", "bgp-download", "-"],
        ["hourly", "other", "rpki-download", "-"],
        ["hourly-2", "other", "kat_rpki_normalize2", "-"],
    ];
    let mut expected = rows(&hourly);
    expected.extend(rows(&[["daily-hostname-ip_address", "acme", "dns", "one"]]));
    let (tasks, messages) = hear_and_do(&mut dialogue, 7);
    assert_eq!(tasks, expected, "expected the daily and the hourly tasks");
    let inputs = messages
        .iter()
        .map(|message| message["inputs"].as_array().map_or(0, Vec::len));
    assert_eq!(
        inputs.sum::<usize>(),
        1,
        "expected no inputs but that of the daily task"
    );
    in_state(&database, SUCCEEDED, 7, "all of them have ended").await;
    dialogue.say(&clock(midnight + 3_600_000_000));
    let (tasks, _) = hear_and_do(&mut dialogue, 6);
    assert_eq!(
        tasks,
        rows(&hourly),
        "expected the hourly tasks alone an hour later"
    );
    assert_eq!(dialogue.end(), [Value::Null; 0], "expected no more tasks");
}

const JOIN: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: compare, worker_type: joiner, consumes: ["file:a/a", "file:b/b"], oci_arguments: [compare, "{file}"]}
- {name: both, run_on: file, operation: created, join: [maker-b, maker-a], plugins: "plugin_id = 'compare'"}
"#;

/// A file that a plugin made of an object, as a line of input.
fn made(id: &str, maker: &str, of: &str) -> String {
    let event = json!({
        "specversion": "1.0", "id": format!("e-{id}"), "source": "/t", "type": "raw_data.created",
        "data": {"organization": "acme", "id": id, "plugin_id": format!("maker-{maker}"),
                 "mime_types": [format!("{maker}/{maker}")], "input": {"object_type": "hostname", "primary_key": of}},
    });
    format!("{event}\n")
}

#[test]
fn a_join_is_one_message_with_the_files_in_its_order_and_each_placeholder_once_for_each() {
    let house = House::embedded("");
    house.apply("join.yaml", JOIN);
    let input = [
        made("one", "a", "h1"),
        made("two", "b", "h1"),
        made("three", "a", "h2"),
    ];
    let tasks = house.lines(input.concat().into_bytes());
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    let task = &tasks[0];
    let inputs = task["inputs"].as_array().expect("a list");
    let told: Vec<[&Value; 3]> = inputs
        .iter()
        .map(|input| {
            [
                &input["object_type"],
                &input["primary_key"],
                &input["attributes"]["plugin_id"],
            ]
        })
        .collect();
    let of = |key: &str, maker: &str| [json!("file"), json!(key), json!(maker)];
    let expected = [of("two", "maker-b"), of("one", "maker-a")];
    assert_eq!(json!(told), json!(expected));
    assert_eq!(task["arguments"], json!(["compare", "two", "one"]));
    assert_eq!(task["trigger"]["event_id"], "e-two");
    assert_eq!(
        (&task["cause"], &task["schedule"]),
        (&json!("event"), &json!("both"))
    );
}

#[test]
fn a_join_one_file_of_which_is_no_longer_taken_when_it_is_offered_is_withdrawn_whole() {
    let house = House::embedded("");
    house.apply("join.yaml", JOIN);
    house.done(&[
        "queue",
        "pause",
        "muster.tasks.joiner",
        "--reason",
        "not yet",
    ]);
    let input = [made("one", "a", "h1"), made("two", "b", "h1")];
    assert!(
        house.lines(input.concat().into_bytes()).is_empty(),
        "the queue is paused"
    );
    house.apply("join.yaml", &JOIN.replace(r#", "file:b/b""#, ""));
    house.done(&["queue", "resume", "muster.tasks.joiner"]);
    assert!(house.lines(Vec::new()).is_empty(), "half a join is none");
    let tasks = house.json(&["task", "list"]);
    let states: Vec<&Value> = tasks
        .as_array()
        .expect("a list")
        .iter()
        .map(|task| &task["state"])
        .collect();
    assert_eq!(states, [&json!("withdrawn")], "{tasks}");
}
