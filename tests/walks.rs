//! The whole way, from the events to the messages in the workers' queues, on every pair of bus and store; and back.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use muster::object::ObjectKey;
use serde_json::{Value, json};

use support::broker::{Broker, OnNats, OnRabbit, Parcel, TaskMessage, by_task};
use support::load::{Event, Load, ORGANIZATIONS, SETTINGS, TYPES, WORKER_TYPES};
use support::model::{Entry, Key, Outcome, outcome};
use support::process::House;
use support::servers::{Nats, Postgres, Rabbit};

/// The size of the load of the three main walks.
const EVENTS: usize = 10_000;

/// The tasks of the store as the model writes them.
async fn tasks_of(house: &House) -> BTreeMap<Key, usize> {
    let store = house.store().await;
    let mut tasks = BTreeMap::new();
    for [organization, plugin, inputs, state, _] in store.task_keys().await.expect("the tasks") {
        let inputs: Vec<Value> = serde_json::from_str(&inputs).expect("inputs are JSON");
        let [input] = inputs.as_slice() else {
            panic!("expected one input for each task of the load: {inputs:?}");
        };
        let key = input["primary_key"].as_str().expect("a key").to_owned();
        assert!(
            matches!(state.as_str(), "queued" | "dispatched" | "withdrawn"),
            "expected no other state than queued, dispatched or withdrawn: {state}"
        );
        *tasks
            .entry((organization, plugin, key, state == "withdrawn"))
            .or_default() += 1;
    }
    store.close().await;
    tasks
}

/// The live objects of the store as the model writes them.
async fn inventory_of(house: &House) -> BTreeMap<(String, String), Entry> {
    let store = house.store().await;
    let mut inventory = BTreeMap::new();
    for organization in ORGANIZATIONS {
        for object_type in TYPES.into_iter().chain(["file"]) {
            let all = store
                .objects_after(organization, object_type, "", 1_000_000)
                .await;
            for object in all.expect("the objects") {
                let ObjectKey {
                    organization,
                    primary_key,
                } = object.key.clone();
                let entry = Entry {
                    object_type: object.object_type.clone(),
                    live: object.live(),
                    level: object.level,
                    attributes: object.attributes,
                };
                inventory.insert((organization, primary_key), entry);
            }
        }
    }
    store.close().await;
    inventory
}

fn assert_same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) {
    let keys: BTreeSet<&K> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<String> = keys
        .into_iter()
        .filter(|key| found.get(key) != expected.get(key))
        .map(|key| {
            format!(
                "{key:?}: found {:?}, expected {:?}",
                found.get(key),
                expected.get(key)
            )
        })
        .collect();
    assert!(
        differ.is_empty(),
        "expected {what} to be as the model says ({} and {}); {} differ, such as\n{}",
        found.len(),
        expected.len(),
        differ.len(),
        differ
            .iter()
            .take(8)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

async fn assert_as_modelled(house: &House, expected: &Outcome) {
    assert_same(
        "the set of tasks in the store",
        &tasks_of(house).await,
        &expected.tasks,
    );
    assert_same(
        "the inventory",
        &inventory_of(house).await,
        &expected.live(),
    );
}

/// Every task that is to be done is in a worker's queue, once, as its message says; answers with how many messages came
/// more than once, which only a crash explains.
fn assert_messages(house: &House, load: &Load, messages: &[TaskMessage]) -> usize {
    let listing = house.json(&["task", "list", "--limit", "1000000"]);
    let listing = listing.as_array().expect("a list of tasks");
    let mut by_task = by_task(messages);
    let mut repeated = 0;
    for task in listing {
        let id = task["id"].as_str().expect("an id");
        let sent = by_task.remove(id).unwrap_or_default();
        repeated += sent.len().saturating_sub(1);
        if task["state"] != "withdrawn" {
            assert_eq!(
                task["state"], "dispatched",
                "expected every task to be published: {task}"
            );
            assert!(!sent.is_empty(), "expected a message in a queue for {task}");
        }
        for message in sent {
            let body = &message.body;
            let input = &body["inputs"][0];
            let says = json!([
                body["attempt"],
                body["organization"],
                body["plugin"]["plugin_id"],
                body["inputs"].as_array().map(Vec::len),
                input["object_type"],
                input["primary_key"],
                body["cause"]
            ]);
            let of_task = &task["inputs"][0];
            let expected = json!([
                1,
                task["organization"],
                task["plugin_id"],
                1,
                of_task["object_type"],
                of_task["primary_key"],
                "event"
            ]);
            assert_eq!(says, expected, "expected the message to be of its task");
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            let arguments = load.arguments(
                &text(&task["plugin_id"]),
                &text(&input["object_type"]),
                &text(&input["primary_key"]),
            );
            assert_eq!(
                body["arguments"],
                json!(arguments),
                "expected placeholders to be filled by natural names in {body}"
            );
        }
    }
    assert!(
        by_task.is_empty(),
        "expected no message without a task in the store: {:?}",
        by_task.keys()
    );
    repeated
}

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
