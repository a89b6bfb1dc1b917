//! What came of a load, held against what the model says.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::{BTreeMap, BTreeSet};

use muster::object::ObjectKey;
use muster::query::narrow::Narrow;
use serde_json::{Value, json};

use super::broker::{TaskMessage, by_task};
use super::load::{Load, ORGANIZATIONS, TYPES};
use super::model::{Entry, Key, Outcome};
use super::process::House;

/// The tasks of the store as the model writes them.
pub async fn tasks_of(house: &House) -> BTreeMap<Key, usize> {
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
pub async fn inventory_of(house: &House) -> BTreeMap<(String, String), Entry> {
    let store = house.store().await;
    let mut inventory = BTreeMap::new();
    for organization in ORGANIZATIONS {
        for object_type in TYPES.into_iter().chain(["file"]) {
            let all = store
                .objects_after(
                    organization,
                    object_type,
                    "",
                    1_000_000,
                    &Narrow::Everything,
                )
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

pub fn assert_same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
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

pub async fn assert_as_modelled(house: &House, expected: &Outcome) {
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
pub fn assert_messages(house: &House, load: &Load, messages: &[TaskMessage]) -> usize {
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
