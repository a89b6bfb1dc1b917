//! Joins: one task on the newest file of each named plugin for one object, made once for each set of them, whatever the
//! order in which they come, however they are brought together, and whoever decides.

use muster::answer::explained_as;
use muster::intake::{Handled, Incoming, explain, handle};
use muster::moment::Span;
use muster::store::{Commit, Committed};
use muster::task::TaskState;
use muster::turns;
use serde_json::{Map, Value, json};

use super::{House, on_postgres, on_sqlite, replica};

on_both!(
    a_file_of_each_plugin_makes_one_task_on_all_of_them_in_the_order_of_the_join,
    two_files_in_one_batch_make_one_task,
    a_newer_file_makes_a_new_task_and_an_older_one_that_comes_late_makes_none,
    the_end_of_its_plugin_says_which_file_is_the_newest_and_not_its_coming,
    the_same_file_again_makes_nothing_again,
    files_that_failed_or_were_deleted_do_not_count,
    only_files_of_the_same_object_in_the_same_organization_are_joined,
    a_file_that_is_deleted_takes_the_whole_task_with_it,
    a_file_that_goes_ends_a_join_and_leaves_a_batch,
    what_is_missing_is_named_by_explain,
    of_two_replicas_that_take_the_last_two_files_at_once_one_makes_the_task,
    a_join_that_waits_for_its_turn_begins_with_what_is_the_newest_then,
    a_person_starts_a_join_for_an_object_and_makes_a_failed_one_anew_whole,
    grace_and_gates_hold_for_the_set,
    files_that_were_there_before_the_schedule_are_joined_too,
);

const JOIN: &str = "- {kind: plugin, plugin_id: compare, worker_type: reader, consumes: [file]}\n\
     - {name: both, run_on: file, operation: created, join: [ports, pages], plugins: \"plugin_id = 'compare'\", grace: 0s}\n";

/// A file that a plugin made of an object.
#[derive(Clone, Copy)]
struct File<'a> {
    id: &'a str,
    by: &'a str,
    of: &'a str,
    organization: &'a str,
    ended_at: &'a str,
    mime: &'a str,
}

fn file<'a>(id: &'a str, by: &'a str, ended_at: &'a str) -> File<'a> {
    File {
        id,
        by,
        of: "h1",
        organization: "acme",
        ended_at,
        mime: "text/plain",
    }
}

const NINE: &str = "2026-11-21T09:00:00Z";
const TEN: &str = "2026-11-21T10:00:00+01:00";
const LATER: &str = "2026-11-21T09:20:00Z";

fn event(house: &House, file: File<'_>) -> Incoming {
    let event = json!({
        "specversion": "1.0", "id": format!("e-{}-{}", file.organization, file.id), "source": "/t",
        "type": "raw_data.created", "time": house.ground.clock.now().to_string(),
        "data": {"organization": file.organization, "id": file.id, "mime_types": [file.mime], "plugin_id": file.by,
                 "input": {"object_type": "hostname", "primary_key": file.of}, "ended_at": file.ended_at},
    });
    incoming(&event)
}

fn incoming(event: &Value) -> Incoming {
    Incoming {
        queue: "muster.events".to_owned(),
        body: event.to_string().into_bytes(),
        ..Incoming::default()
    }
}

async fn take(house: &House, batch: &[Incoming]) -> Handled {
    // A moment after what came before, so that ids tell the order.
    let now = house.ground.clock.now();
    house.ground.clock.fix(now.plus(Span::seconds(1)));
    let handled = handle(&house.ground, batch).await.expect("handled");
    assert!(handled.dead.is_empty(), "{:?}", handled.dead);
    handled
}

async fn come(house: &House, came: File<'_>) -> u64 {
    take(house, &[event(house, came)]).await.tasks
}

async fn gone(house: &House, id: &str) {
    let event = json!({
        "specversion": "1.0", "id": format!("gone-{id}"), "source": "/t", "type": "object.deleted",
        "time": house.ground.clock.now().to_string(),
        "data": {"organization": "acme", "object_type": "file", "primary_key": id},
    });
    take(house, &[incoming(&event)]).await;
}

/// State and inputs of each task, in the order of their making.
async fn tasks(house: &House) -> Vec<(String, Vec<String>)> {
    let page = muster::store::Page {
        limit: 1_000,
        ..Default::default()
    };
    let listed = house.ground.store.list("task", &page).await;
    let mut rows = listed.expect("tasks").expect("a noun").rows;
    rows.sort_by_key(|row| row["id"].to_string());
    let inputs = |row: &Map<String, Value>| {
        let inputs = match &row["inputs"] {
            Value::String(text) => serde_json::from_str(text).expect("JSON"),
            other => other.clone(),
        };
        let keys = inputs.as_array().expect("a list").iter();
        keys.map(|input| input["primary_key"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    rows.iter()
        .map(|row| {
            (
                row["state"].as_str().unwrap_or_default().to_owned(),
                inputs(row),
            )
        })
        .collect()
}

/// The inputs of each task.
async fn sets(house: &House) -> Vec<Vec<String>> {
    tasks(house)
        .await
        .into_iter()
        .map(|(_, inputs)| inputs)
        .collect()
}

async fn a_file_of_each_plugin_makes_one_task_on_all_of_them_in_the_order_of_the_join(
    house: House,
) {
    house.declare(JOIN).await;
    assert_eq!(come(&house, file("b", "pages", NINE)).await, 0);
    assert!(house.runs().await.is_empty(), "a refusal costs no row");
    assert_eq!(come(&house, file("a", "ports", NINE)).await, 1);
    assert_eq!(sets(&house).await, [["a", "b"]]);
    let run = house.runs().await.remove(0);
    assert_eq!(
        run.target.as_deref(),
        Some("h1"),
        "it is about what they were made of"
    );
    assert_eq!((run.counts[0], run.cause.as_str()), (1, "event"));
    // What is offered has the files as they are, and each placeholder once for each of them.
    let now = house.ground.clock.now();
    let queue = house.ground.rules.worker("reader").queue.clone();
    let lease = now.plus(Span::seconds(30));
    let claimed = house.ground.store.claim(&queue, 10, now, lease).await;
    let claimed = claimed.expect("claimed");
    let inputs = claimed[0].inputs.iter();
    let offered: Vec<(&str, &Value)> = inputs
        .map(|input| {
            let object = input.object.as_ref().expect("it is there");
            (input.primary_key.as_str(), &object.attributes["plugin_id"])
        })
        .collect();
    assert_eq!(offered, [("a", &json!("ports")), ("b", &json!("pages"))]);
}

async fn two_files_in_one_batch_make_one_task(house: House) {
    house.declare(JOIN).await;
    let batch = [file("b", "pages", NINE), file("a", "ports", NINE)];
    let batch = batch.map(|file| event(&house, file));
    assert_eq!(take(&house, &batch).await.tasks, 1);
    assert_eq!(sets(&house).await, [["a", "b"]]);
}

async fn a_newer_file_makes_a_new_task_and_an_older_one_that_comes_late_makes_none(house: House) {
    house.declare(JOIN).await;
    come(&house, file("a", "ports", TEN)).await;
    come(&house, file("b", "pages", NINE)).await;
    assert_eq!(come(&house, file("a2", "ports", LATER)).await, 1);
    assert_eq!(sets(&house).await, [["a", "b"], ["a2", "b"]]);
    assert_eq!(
        come(&house, file("a1", "ports", "2026-11-21T09:10:00Z")).await,
        0
    );
    // It is late for the other too, whatever comes first of it.
    assert_eq!(
        come(&house, file("b0", "pages", "2026-11-20T09:00:00Z")).await,
        0
    );
    assert_eq!(sets(&house).await.len(), 2);
}

async fn the_end_of_its_plugin_says_which_file_is_the_newest_and_not_its_coming(house: House) {
    house.declare(JOIN).await;
    // The newer one comes first, in this batch and before it.
    come(&house, file("a2", "ports", LATER)).await;
    let batch = [
        file("b2", "pages", LATER),
        file("a1", "ports", NINE),
        file("b1", "pages", NINE),
    ];
    let batch = batch.map(|file| event(&house, file));
    assert_eq!(take(&house, &batch).await.tasks, 1);
    assert_eq!(sets(&house).await, [["a2", "b2"]]);
    // Where two ended at once, the later event counts.
    house.clock("2026-11-21T09:40:00Z");
    assert_eq!(come(&house, file("a0", "ports", LATER)).await, 1);
    assert_eq!(sets(&house).await[1], ["a0", "b2"]);
}

async fn the_same_file_again_makes_nothing_again(house: House) {
    house.declare(JOIN).await;
    let (a, b) = (file("a", "ports", NINE), file("b", "pages", NINE));
    come(&house, a).await;
    come(&house, b).await;
    house.succeed().await;
    for file in [a, b, b, a] {
        assert_eq!(come(&house, file).await, 0);
        // Under another id too.
        let again = String::from_utf8(event(&house, file).body).expect("text");
        let again = again.replace("\"e-acme-", "\"again-");
        let again = serde_json::from_str(&again).expect("JSON");
        assert_eq!(take(&house, &[incoming(&again)]).await.tasks, 0);
    }
    assert_eq!(sets(&house).await.len(), 1);
}

async fn files_that_failed_or_were_deleted_do_not_count(house: House) {
    house.declare(JOIN).await;
    let failed = File {
        mime: "error/timeout",
        ..file("a2", "ports", LATER)
    };
    come(&house, failed).await;
    assert_eq!(come(&house, file("b", "pages", NINE)).await, 0);
    // The failed one is the newer, and is none.
    assert_eq!(come(&house, file("a", "ports", NINE)).await, 1);
    assert_eq!(sets(&house).await, [["a", "b"]]);
    house.succeed().await;
    come(&house, file("a3", "ports", LATER)).await;
    gone(&house, "a3").await;
    assert_eq!(come(&house, file("b2", "pages", LATER)).await, 1);
    assert_eq!(
        sets(&house).await.last(),
        Some(&vec!["a".to_owned(), "b2".to_owned()])
    );
    gone(&house, "a").await;
    assert_eq!(
        come(&house, file("b3", "pages", "2026-11-21T09:25:00Z")).await,
        0
    );
    // The last one goes and a new one comes, together.
    let deleted = json!({
        "specversion": "1.0", "id": "gone-b3", "source": "/t", "type": "object.deleted",
        "time": house.ground.clock.now().to_string(),
        "data": {"organization": "acme", "object_type": "file", "primary_key": "b3"},
    });
    let batch = [incoming(&deleted), event(&house, file("a4", "ports", NINE))];
    assert_eq!(take(&house, &batch).await.tasks, 1);
    assert_eq!(
        sets(&house).await.last(),
        Some(&vec!["a4".to_owned(), "b2".to_owned()])
    );
}

async fn only_files_of_the_same_object_in_the_same_organization_are_joined(house: House) {
    house.declare(JOIN).await;
    come(&house, file("a", "ports", NINE)).await;
    let elsewhere = [
        File {
            of: "h2",
            ..file("b", "pages", NINE)
        },
        File {
            organization: "beta",
            ..file("c", "pages", NINE)
        },
        file("d", "other", NINE),
    ];
    for file in elsewhere {
        assert_eq!(come(&house, file).await, 0, "{}", file.id);
    }
    // A file of no object is joined with none.
    let alone = json!({
        "specversion": "1.0", "id": "alone", "source": "/t", "type": "raw_data.created",
        "data": {"organization": "acme", "id": "alone", "mime_types": ["text/plain"], "plugin_id": "pages"},
    });
    assert_eq!(take(&house, &[incoming(&alone)]).await.tasks, 0);
    assert_eq!(come(&house, file("e", "pages", NINE)).await, 1);
    assert_eq!(sets(&house).await, [["a", "e"]]);
}

async fn a_file_that_is_deleted_takes_the_whole_task_with_it(house: House) {
    house.declare(JOIN).await;
    come(&house, file("a", "ports", NINE)).await;
    come(&house, file("b", "pages", NINE)).await;
    gone(&house, "b").await;
    assert_eq!(tasks(&house).await[0].0, "withdrawn");
    // Neither of them is held by it.
    assert_eq!(come(&house, file("b2", "pages", NINE)).await, 1);
    assert_eq!(sets(&house).await[1], ["a", "b2"]);
}

async fn a_file_that_goes_ends_a_join_and_leaves_a_batch(house: House) {
    house.declare(JOIN).await;
    come(&house, file("a", "ports", NINE)).await;
    come(&house, file("b", "pages", NINE)).await;
    // The same two, put together because they came together.
    house
        .declare(
            "- {kind: plugin, plugin_id: each, worker_type: reader, consumes: [file], batch_size: 2}\n\
             - {name: all, recurrences: \"0 10 * * *\", plugins: \"plugin_id = 'each'\", input: {file: null}}\n",
        )
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    gone(&house, "b").await;
    let states = tasks(&house).await;
    assert_eq!(states[0].0, "withdrawn");
    assert_eq!(states[1], ("queued".to_owned(), vec!["a".to_owned()]));
}

async fn what_is_missing_is_named_by_explain(house: House) {
    house.declare(JOIN).await;
    let told = |file: File<'static>| {
        let house = &house;
        async move {
            let explained = explain(&house.ground, &event(house, file)).await;
            explained_as(
                &explained.expect("the store answers").expect("readable"),
                None,
            )
        }
    };
    let incomplete = told(file("a", "ports", NINE)).await;
    let plugin = &incomplete["schedules"][0]["plugins"][0];
    assert_eq!(plugin["reason"], "join_incomplete", "{incomplete}");
    assert_eq!(plugin["detail"], "no file of h1 by pages");
    come(&house, file("a", "ports", LATER)).await;
    let old = told(file("a0", "ports", NINE)).await;
    let plugin = &old["schedules"][0]["plugins"][0];
    assert_eq!(plugin["reason"], "not_newest", "{old}");
    assert_eq!(plugin["detail"], "the newer is a");
    let whole = told(file("b", "pages", NINE)).await;
    let plugin = &whole["schedules"][0]["plugins"][0];
    assert_eq!(plugin["inputs"], json!(["a", "b"]), "{whole}");
    let other = told(file("c", "other", NINE)).await;
    let why = &other["schedules"][0]["why"];
    assert_eq!(
        why,
        "it joins files by ports, pages of one object, and this is none of these"
    );
    assert!(sets(&house).await.is_empty(), "nothing of it is stored");
}

async fn of_two_replicas_that_take_the_last_two_files_at_once_one_makes_the_task(house: House) {
    house.declare(JOIN).await;
    let other = replica(&house.ground.store, 8, house.ground.clock.now());
    other.load_catalogue().await.expect("loaded");
    for round in 0..20 {
        let (a, b) = (format!("a-{round}"), format!("b-{round}"));
        let of = format!("h-{round}");
        let (a, b) = (file(&a, "ports", NINE), file(&b, "pages", NINE));
        let [a, b] = [a, b].map(|file| [event(&house, File { of: &of, ..file })]);
        let (one, two) = tokio::join!(handle(&house.ground, &a), handle(&other, &b));
        let made = one.expect("handled").tasks + two.expect("handled").tasks;
        assert_eq!(made, 1, "round {round}");
    }
    assert_eq!(sets(&house).await.len(), 20);
}

async fn a_join_that_waits_for_its_turn_begins_with_what_is_the_newest_then(house: House) {
    house
        .declare(&JOIN.replace("grace: 0s", "grace: 0s, overlap: buffer_one"))
        .await;
    come(&house, file("a", "ports", NINE)).await;
    come(&house, file("b", "pages", NINE)).await;
    assert_eq!(house.accept().await, 1);
    assert_eq!(come(&house, file("a2", "ports", TEN)).await, 0);
    // Another object has a turn of its own.
    let elsewhere = |id, by| File {
        of: "h2",
        ..file(id, by, NINE)
    };
    come(&house, elsewhere("c", "ports")).await;
    assert_eq!(come(&house, elsewhere("d", "pages")).await, 1);
    come(&house, file("b2", "pages", LATER)).await;
    let (first, _) = house
        .open_tasks()
        .await
        .into_iter()
        .find(|(_, state)| state == "running")
        .expect("one runs");
    house.say(&first, TaskState::Succeeded).await;
    turns::step(&house.ground).await.expect("turned");
    assert_eq!(
        sets(&house).await,
        [vec!["a", "b"], vec!["c", "d"], vec!["a2", "b2"]]
    );
    // Its commit rests on what it read, as that of a file that comes does.
    let mark = house.ground.store.resting("acme").await.expect("a mark");
    let rests = [("acme".to_owned(), mark - 1)].into();
    let revision = house.ground.store.catalogue_revision().await.expect("one");
    let commit = Commit {
        rests: &rests,
        ..Commit::empty(house.ground.clock.now(), revision)
    };
    let committed = house.ground.store.commit(&commit).await.expect("an answer");
    assert_eq!(committed, Committed::Stale("other objects"));
}

async fn a_person_starts_a_join_for_an_object_and_makes_a_failed_one_anew_whole(house: House) {
    house.declare(JOIN).await;
    come(&house, file("a", "ports", NINE)).await;
    let start = |object: &str| json!({"schedule": "both", "objects": [object]});
    let none = house.ask("run.start", json!({"schedule": "both"})).await;
    assert_eq!(none.expect_err("of which object?"), "objects_needed");
    let incomplete = house
        .ask_as(None, Some("acme"), "run.start", start("h1"))
        .await
        .expect("answered");
    assert_eq!(
        incomplete["refused"],
        json!({"join_incomplete": 1}),
        "{incomplete}"
    );
    assert_eq!(come(&house, file("b", "pages", NINE)).await, 1);
    house.work(TaskState::Failed).await;
    let started = house
        .ask_as(None, Some("acme"), "run.start", start("h1"))
        .await
        .expect("started");
    assert_eq!(started["tasks"], 1, "{started}");
    assert_eq!(sets(&house).await, [["a", "b"], ["a", "b"]]);
    house.work(TaskState::Failed).await;
    let page = muster::store::Page {
        limit: 10,
        ..Default::default()
    };
    let listed = house.ground.store.list("task", &page).await;
    let rows = listed.expect("tasks").expect("a noun").rows;
    let failed = rows.iter().max_by_key(|row| row["id"].to_string());
    let failed = failed.expect("one")["id"].clone();
    house
        .ask("task.retry", json!({"task_id": failed}))
        .await
        .expect("retried");
    assert_eq!(
        sets(&house).await.last(),
        Some(&vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(
        sets(&house).await.len(),
        3,
        "one task, not one for each file"
    );
}

async fn grace_and_gates_hold_for_the_set(house: House) {
    let text = JOIN
        .replace("grace: 0s", "grace: 1h")
        .replace("operation: created", "operation: [created, updated]")
        .replace("consumes: [file]", "consumes: [\"file:text/plain\"]");
    house.declare(&text).await;
    let other = File {
        mime: "image/png",
        ..file("a", "ports", NINE)
    };
    come(&house, other).await;
    assert_eq!(
        come(&house, file("b", "pages", NINE)).await,
        0,
        "one of them is not taken"
    );
    assert_eq!(come(&house, file("a2", "ports", LATER)).await, 1);
    assert_eq!(house.succeed().await, 1);
    // The same set within the grace, until one of its files is another.
    let update = |note: &str| {
        incoming(&json!({
            "specversion": "1.0", "id": format!("update-{}", house.ground.chance()), "source": "/t",
            "type": "object.updated",
            "time": house.ground.clock.now().to_string(),
            "data": {"organization": "acme", "object_type": "file", "primary_key": "b", "attributes": {
                "mime_types": ["text/plain"], "plugin_id": "pages", "input_type": "hostname", "input_key": "h1",
                "ended_at": NINE, "note": note}},
        }))
    };
    house.clock("2026-11-21T09:35:00Z");
    assert_eq!(take(&house, &[update("one")]).await.tasks, 1);
    assert_eq!(take(&house, &[update("two")]).await.tasks, 0, "it is open");
    assert_eq!(house.succeed().await, 1);
    house.clock("2026-11-21T09:36:00Z");
    assert_eq!(
        take(&house, &[update("one")]).await.tasks,
        0,
        "it is as the last task saw it"
    );
    house.clock("2026-11-21T10:36:01Z");
    assert_eq!(take(&house, &[update("two")]).await.tasks, 1);
}

async fn files_that_were_there_before_the_schedule_are_joined_too(house: House) {
    come(&house, file("a", "ports", NINE)).await;
    house.declare(JOIN).await;
    assert_eq!(come(&house, file("b", "pages", NINE)).await, 1);
    assert_eq!(sets(&house).await, [["a", "b"]]);
}
