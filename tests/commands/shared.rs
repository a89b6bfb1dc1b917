//! One scan for several organisations: who gets a task of his own, which of them runs, and what becomes of those that wait
//! for it. No organisation sees that another has the same object.

use std::collections::BTreeSet;

use muster::intake::{Incoming, handle};
use muster::moment::Span;
use muster::progress::Step;
use muster::{expansion, reaper, ticker};
use serde_json::{Value, json};

use super::asking::{House, moment};

const SCANS: &str = r#"
- {kind: organization, id: bravo}
- {kind: organization, id: charlie}
- {kind: plugin, plugin_id: scan, version: "1", worker_type: scanner, scan_level: 1, consumes: [hostname], timeouts: {task: 1d}, retry: {max: 2, first: 1s, cap: 1s}}
- {name: watch, organization: acme, run_on: hostname, operation: [created, updated], plugins: "plugin_id = 'scan'"}
"#;

/// A task, by whose it is: its state and the organisation of the one whose outcome it shares.
type Seen = (String, String, Option<String>);

async fn changed(house: &House, organization: &str, key: &str, kind: &str, more: Value) {
    let mut data =
        json!({"organization": organization, "object_type": "hostname", "primary_key": key});
    if kind != "object.deleted" {
        data["attributes"] = json!({"name": key});
        data["scan_level"] = json!(2);
    }
    for (name, value) in more.as_object().expect("fields") {
        data[name] = value.clone();
    }
    let event = json!({
        "specversion": "1.0", "id": format!("{organization}-{key}-{}", house.ground.chance()), "source": "/t",
        "type": kind, "time": house.ground.clock.now().to_string(), "data": data,
    });
    assert_eq!(house.event(&event.to_string()).await, 0, "no dead letter");
}

/// Bravo and charlie have a host, acme gets it now, and with it a scan.
async fn scanned_by_three(house: &House, key: &str) {
    house.declare(SCANS).await;
    house.host("bravo", key).await;
    house.host("charlie", key).await;
    assert_eq!(scans(house).await, []);
    house.host("acme", key).await;
}

async fn rows(house: &House) -> Vec<Value> {
    let list = json!({"where": "plugin_id = 'scan'", "limit": 1000});
    let mut rows = house.done("task.list", list).await["tasks"]
        .as_array()
        .expect("tasks")
        .clone();
    rows.sort_by_key(|row| row["id"].as_str().map(str::to_owned));
    rows
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

async fn scans(house: &House) -> Vec<Seen> {
    let rows = rows(house).await;
    let whose = |id: &str| {
        let row = rows.iter().find(|row| row["id"] == id);
        row.map(|row| text(row, "organization"))
    };
    let mut seen: Vec<Seen> = rows
        .iter()
        .map(|row| {
            let from = row["shared_from"].as_str().and_then(whose);
            (text(row, "organization"), text(row, "state"), from)
        })
        .collect();
    seen.sort();
    seen
}

fn seen(list: &[(&str, &str, Option<&str>)]) -> Vec<Seen> {
    list.iter()
        .map(|(whose, state, from)| {
            (
                (*whose).to_owned(),
                (*state).to_owned(),
                from.map(str::to_owned),
            )
        })
        .collect()
}

/// The task of an organisation that has not ended, else its newest.
async fn scan_of(house: &House, organization: &str) -> String {
    let mut rows = rows(house).await;
    rows.retain(|row| row["organization"] == organization);
    rows.sort_by_key(|row| (row["finished_at"].is_null(), text(row, "id")));
    text(rows.last().expect("a task"), "id")
}

async fn offer(house: &House) -> Vec<(String, i64, Option<String>)> {
    let now = house.ground.clock.now();
    let queue = house.ground.rules.worker("scanner").queue.clone();
    let lease = now.plus(Span::seconds(30));
    let claimed = house.ground.store.claim(&queue, 1000, now, lease).await;
    let claimed = claimed.expect("claimed").into_iter();
    claimed
        .map(|task| (task.task_id, task.attempt, task.deduplication_key))
        .collect()
}

const WAIT: [(&str, &str, Option<&str>); 3] = [
    ("acme", "queued", None),
    ("bravo", "waiting", Some("acme")),
    ("charlie", "waiting", Some("acme")),
];

pub async fn one_scan_runs_for_all_who_have_the_object_and_they_take_its_success(house: House) {
    scanned_by_three(&house, "h1").await;
    assert_eq!(scans(&house).await, seen(&WAIT));
    // Only the one that runs is offered, with the key that they share.
    let offers = offer(&house).await;
    let [(id, attempt, Some(key))] = offers.as_slice() else {
        panic!("one offer: {offers:?}");
    };
    assert!(key.len() == 32 && !key.contains("h1"), "{key}");
    let waiting = rows(&house).await;
    assert!(waiting.iter().all(|row| row["deduplication_key"] == **key));
    house.say(id, *attempt, json!({"status": "accepted"})).await;
    let done = json!({"status": "succeeded", "outputs": ["raw-1"], "exit_code": 0, "log_ref": "logs/acme/1"});
    house.say(id, *attempt, done).await;
    assert_eq!(
        scans(&house).await,
        seen(&[
            ("acme", "succeeded", None),
            ("bravo", "succeeded", Some("acme")),
            ("charlie", "succeeded", Some("acme")),
        ])
    );
    // What decided is kept with each, and the log with the one that ran.
    let bravo = house.task(&scan_of(&house, "bravo").await).await;
    let attempts = bravo["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 1, "{bravo}");
    assert_eq!(attempts[0]["outcome"], "succeeded");
    assert_eq!(attempts[0]["worker"], "w1");
    assert_eq!(attempts[0]["log_ref"], Value::Null);
    assert!(text(&attempts[0], "offered_at") >= text(&bravo, "created_at"));
    // Their runs count it and have ended, and grace has begun for each.
    let run = house
        .done("run.get", json!({"run_id": bravo["run_id"]}))
        .await;
    assert_eq!(run["state"], "succeeded");
    assert_eq!(run["counters"]["succeeded"], 1);
    house
        .declare(
            "- {name: all, run_on: hostname, operation: updated, plugins: \"plugin_id = 'scan'\"}",
        )
        .await;
    changed(
        &house,
        "bravo",
        "h1",
        "object.updated",
        json!({"scan_level": 3}),
    )
    .await;
    assert_eq!(scans(&house).await.len(), 3, "bravo is in grace");
    // A word about a task that was never offered is late, and changes nothing.
    let step = house
        .say(
            &text(&bravo, "id"),
            1,
            json!({"status": "failed", "class": "fatal"}),
        )
        .await;
    assert!(matches!(step, Step::Late { .. }), "{step:?}");
    assert_eq!(offer(&house).await, []);
}

pub async fn whatever_ends_it_but_success_queues_those_that_waited(house: House) {
    house.declare(SCANS).await;
    let ends = [
        "failed",
        "dead",
        "cancelled",
        "deleted",
        "marked",
        "marked failed",
        "never",
        "expired",
        "large",
    ];
    for (at, end) in ends.iter().enumerate() {
        let key = format!("h{at}");
        house.host("bravo", &key).await;
        house.host("acme", &key).await;
        let id = scan_of(&house, "acme").await;
        let attempt = match *end {
            "failed" | "dead" | "never" => {
                let offers = offer(&house).await;
                offers
                    .iter()
                    .find(|offer| offer.0 == id)
                    .expect("an offer")
                    .1
            }
            _ => 0,
        };
        let store = &house.ground.store;
        match *end {
            "failed" => {
                let said = json!({"status": "failed", "class": "fatal", "message": "no"});
                house.say(&id, attempt, said).await;
            }
            "dead" => {
                let said = json!({"status": "failed", "class": "retryable", "message": "no"});
                house.say(&id, attempt, said.clone()).await;
                assert_eq!(
                    house.task(&scan_of(&house, "bravo").await).await["state"],
                    "waiting",
                    "it is tried again"
                );
                house.done("task.retry", json!({"task_id": id})).await;
                assert_eq!(
                    house.task(&scan_of(&house, "bravo").await).await["state"],
                    "waiting",
                    "so it is by hand"
                );
                let again = offer(&house).await;
                let again = again.iter().find(|offer| offer.0 == id).expect("an offer");
                house.say(&id, again.1, said).await;
            }
            "never" => {
                house
                    .say(&id, attempt, json!({"status": "never_again"}))
                    .await;
            }
            "cancelled" => {
                house.done("task.cancel", json!({"task_id": id})).await;
            }
            "deleted" => changed(&house, "acme", &key, "object.deleted", json!({})).await,
            // A person's word about a task of one organisation is no outcome for the others.
            "marked" | "marked failed" => {
                let state = if *end == "marked" {
                    "succeeded"
                } else {
                    "failed"
                };
                let mark = json!({"task_id": id, "state": state, "reason": "seen by eye"});
                house.done("task.mark", mark).await;
            }
            "expired" => {
                let run = text(&house.task(&id).await, "run_id");
                house.later(20);
                house.done("run.cancel", json!({"run_id": run})).await;
            }
            _ => {
                let now = house.ground.clock.now();
                store
                    .bury(std::slice::from_ref(&id), "too_large", now)
                    .await
                    .expect("buried");
            }
        }
        let bravo = house.task(&scan_of(&house, "bravo").await).await;
        assert_eq!((bravo["state"].as_str(), *end), (Some("queued"), *end));
        assert_eq!(bravo["shared_from"], Value::Null, "{end}");
        assert_eq!(bravo["deduplication_key"], Value::Null, "{end}");
        // It runs by itself, to an end of its own.
        let offers = offer(&house).await;
        let own = offers
            .iter()
            .find(|offer| offer.0 == text(&bravo, "id"))
            .expect("an offer");
        house
            .say(&own.0, own.1, json!({"status": "succeeded"}))
            .await;
        assert_eq!(house.task(&own.0).await["state"], "succeeded");
    }
}

pub async fn each_organisations_own_gates_say_whether_it_gets_one(house: House) {
    house.declare(SCANS).await;
    house
        .declare(
            r#"
- {kind: plugin, plugin_id: scan, version: "1", worker_type: scanner, scan_level: 1, consumes: [hostname], organizations: {disabled: {enabled: false}, set: {settings: {ports: 1}}}}
- {kind: organization, id: away, enabled: false}
- {kind: organization, id: disabled}
- {kind: organization, id: set}
- {kind: organization, id: low}
- {kind: organization, id: named}
- {kind: organization, id: gone}
- {kind: organization, id: graced}
- {kind: organization, id: asleep}
- {kind: organization, id: asked}
"#,
        )
        .await;
    for organization in [
        "away", "disabled", "set", "gone", "graced", "asleep", "asked", "bravo",
    ] {
        house.host(organization, "h1").await;
    }
    changed(
        &house,
        "low",
        "h1",
        "object.created",
        json!({"scan_level": 0}),
    )
    .await;
    let other = json!({"attributes": {"name": "h1", "network": "elsewhere"}});
    changed(&house, "named", "h1", "object.created", other).await;
    changed(&house, "gone", "h1", "object.deleted", json!({})).await;
    for organization in ["graced", "asleep", "asked"] {
        let start = json!({"plugin": "scan", "objects": ["h1"]});
        house
            .ask_of(organization, "run.start", start)
            .await
            .expect("a run");
        // What a person of one organisation asks for brings the others theirs; here they are not to have it yet.
        for (id, _, _) in offer(&house).await {
            let word = match organization {
                "graced" => "succeeded",
                "asleep" => "never_again",
                _ => "accepted",
            };
            house.say(&id, 1, json!({"status": word})).await;
        }
    }
    let before: BTreeSet<String> = rows(&house)
        .await
        .iter()
        .map(|row| text(row, "id"))
        .collect();
    house.later(86_400 - 600);
    house.host("acme", "h1").await;
    let after = rows(&house).await;
    let made: BTreeSet<String> = after
        .iter()
        .filter(|row| !before.contains(&text(row, "id")))
        .map(|row| text(row, "organization"))
        .collect();
    assert_eq!(made, BTreeSet::from(["acme".to_owned()]), "{after:#?}");
}

pub async fn what_waits_goes_when_its_own_reason_goes(house: House) {
    scanned_by_three(&house, "h1").await;
    changed(
        &house,
        "bravo",
        "h1",
        "object.updated",
        json!({"scan_level": 0}),
    )
    .await;
    changed(&house, "charlie", "h1", "object.deleted", json!({})).await;
    let gone = house.task(&scan_of(&house, "bravo").await).await;
    assert_eq!(
        (&gone["state"], &gone["reason"]),
        (&json!("withdrawn"), &json!("level_lowered"))
    );
    let gone = house.task(&scan_of(&house, "charlie").await).await;
    assert_eq!(
        (&gone["state"], &gone["reason"]),
        (&json!("withdrawn"), &json!("object_deleted"))
    );
    let run = house
        .done("run.get", json!({"run_id": gone["run_id"]}))
        .await;
    assert_eq!(run["state"], "cancelled");
    // What the store alone would not see is looked at again: a plugin that is disabled, settings that are no longer equal.
    for key in ["h2", "h3"] {
        for organization in ["bravo", "charlie", "acme"] {
            house.host(organization, key).await;
        }
    }
    reaper::look_at_waiting(&house.ground, "")
        .await
        .expect("looked");
    assert_eq!(waiting(&house).await, 4);
    house
        .declare("- {kind: plugin, plugin_id: scan, version: \"1\", worker_type: scanner, scan_level: 1, consumes: [hostname], organizations: {bravo: {enabled: false}, charlie: {settings: {ports: 1}}}}")
        .await;
    reaper::look_at_waiting(&house.ground, "")
        .await
        .expect("looked");
    assert_eq!(
        house.task(&scan_of(&house, "bravo").await).await["reason"],
        "reason_gone"
    );
    assert_eq!(
        house.task(&scan_of(&house, "charlie").await).await["state"],
        "queued"
    );
    assert_eq!(waiting(&house).await, 0);
}

async fn waiting(house: &House) -> usize {
    let rows = scans(house).await;
    rows.iter().filter(|row| row.1 == "waiting").count()
}

pub async fn what_people_ask_for_waits_for_nobody(house: House) {
    scanned_by_three(&house, "h1").await;
    let start = json!({"plugin": "scan", "objects": ["h1"]});
    // Bravo's waits: it becomes what bravo's person asked for, and runs at once.
    let run = house
        .ask_of("bravo", "run.start", start.clone())
        .await
        .expect("a run");
    assert_eq!(
        (&run["state"], &run["tasks"]),
        (&json!("running"), &json!(1))
    );
    let bravo = house.task(&scan_of(&house, "bravo").await).await;
    assert_eq!(
        (&bravo["state"], &bravo["cause"]),
        (&json!("queued"), &json!("manual"))
    );
    assert_eq!(bravo["run_id"], run["run_id"]);
    assert_eq!(bravo["deduplication_key"], Value::Null);
    // A retry by hand is one too.
    let charlie = scan_of(&house, "charlie").await;
    let done = house
        .ask_of("charlie", "task.retry", json!({"task_id": charlie}))
        .await;
    assert_eq!(done.expect("done")["offered_at_once"], json!([charlie]));
    let charlie = house.task(&charlie).await;
    assert_eq!(
        (&charlie["state"], &charlie["cause"]),
        (&json!("queued"), &json!("manual"))
    );
    assert_eq!(offer(&house).await.len(), 3);
    // One for all organisations at once: everybody's runs.
    for organization in ["bravo", "charlie", "acme"] {
        let host = json!({"scan_level": 0});
        changed(&house, organization, "h2", "object.created", host).await;
        changed(
            &house,
            organization,
            "h2",
            "object.updated",
            json!({"attributes": {"name": "h2"}}),
        )
        .await;
    }
    house
        .declare("- {kind: plugin, plugin_id: look, worker_type: scanner, consumes: [hostname]}")
        .await;
    house
        .declare("- {name: by-hand, enabled: false, recurrences: daily, plugins: \"plugin_id = 'look'\", input: {hostname: \"name = 'h2'\"}}")
        .await;
    house
        .done("run.start", json!({"schedule": "by-hand"}))
        .await;
    expansion::step(&house.ground).await.expect("expanded");
    let list = json!({"where": "plugin_id = 'look'"});
    let rows = house.done("task.list", list).await;
    let rows = rows["tasks"].as_array().expect("tasks");
    let states: Vec<(&Value, &Value)> = rows
        .iter()
        .map(|row| (&row["state"], &row["cause"]))
        .collect();
    assert_eq!(states.len(), 3, "{rows:?}");
    assert!(
        states
            .iter()
            .all(|both| *both == (&json!("queued"), &json!("manual"))),
        "{states:?}"
    );
}

pub async fn a_task_that_waits_has_a_clock_of_its_own(house: House) {
    scanned_by_three(&house, "h1").await;
    // The one that runs is left to its worker, which beats for ever.
    let (id, attempt, _) = offer(&house).await.remove(0);
    house.say(&id, attempt, json!({"status": "accepted"})).await;
    house.later(86_400 + 60);
    let now = house.ground.clock.now();
    let shortest = house.ground.catalogue().shortest_life();
    let over = house.ground.store.expire(now, shortest, 100).await;
    assert_eq!(over.expect("expired"), 3);
    for organization in ["acme", "bravo", "charlie"] {
        let task = house.task(&scan_of(&house, organization).await).await;
        let state = task["state"].as_str().unwrap_or_default();
        // Whoever was first ended: what waited for it was queued, and its own time is over all the same.
        assert!(matches!(state, "dead" | "queued"), "{task}");
    }
    let over = house.ground.store.expire(now, shortest, 100).await;
    assert!(over.expect("expired") <= 2);
    assert_eq!(
        scans(&house)
            .await
            .iter()
            .map(|row| row.1.as_str())
            .collect::<Vec<_>>(),
        ["dead", "dead", "dead"]
    );
}

pub async fn a_cause_of_its_own_takes_over_what_was_made_on_its_behalf(house: House) {
    house.declare(SCANS).await;
    house
        .declare("- {name: nightly, recurrences: daily, plugins: \"plugin_id = 'scan'\", input: {hostname: null}}")
        .await;
    for key in ["h1", "h2"] {
        house.host("bravo", key).await;
    }
    house.host("acme", "h1").await;
    let before = house.task(&scan_of(&house, "bravo").await).await;
    assert_eq!(before["state"], "waiting");
    // The clock comes to bravo itself: its run has the task from now on, and the other run was superseded.
    house.ground.clock.fix(moment("2026-11-22T00:00:01Z"));
    ticker::step(&house.ground).await.expect("ticked");
    expansion::step(&house.ground).await.expect("expanded");
    let rows = rows(&house).await;
    let bravo: Vec<(String, String, String)> = rows
        .iter()
        .filter(|row| row["organization"] == "bravo")
        .map(|row| {
            (
                text(row, "schedule"),
                text(row, "state"),
                text(row, "cause"),
            )
        })
        .collect();
    let own = |state: &str| ("nightly".to_owned(), state.to_owned(), "on_time".to_owned());
    assert_eq!(bravo, [own("waiting"), own("queued")]);
    let left = house
        .done("run.get", json!({"run_id": before["run_id"]}))
        .await;
    assert_eq!(
        (&left["state"], &left["reason"]),
        (&json!("skipped"), &json!("superseded"))
    );
    let runs = house
        .ask_of("bravo", "run.list", json!({"schedule": "nightly"}))
        .await
        .expect("runs");
    assert_eq!(runs["runs"][0]["counters"]["total"], 2, "{runs}");
    assert_eq!(runs["runs"][0]["counters"]["refused"], json!({}));
    // And it ends with the outcome of the one that ran.
    for (id, attempt, _) in offer(&house).await {
        house
            .say(&id, attempt, json!({"status": "succeeded"}))
            .await;
    }
    let runs = house
        .ask_of("bravo", "run.list", json!({"schedule": "nightly"}))
        .await
        .expect("runs");
    assert_eq!(runs["runs"][0]["state"], "succeeded", "{runs}");
    // So it is within one batch of messages.
    house
        .declare(
            "- {name: seen, run_on: hostname, operation: updated, plugins: \"plugin_id = 'scan'\"}",
        )
        .await;
    house.later(2 * 86_400);
    let event = |organization: &str| {
        let event = json!({
            "specversion": "1.0", "id": format!("batch-{organization}"), "source": "/t", "type": "object.updated",
            "data": {"organization": organization, "object_type": "hostname", "primary_key": "h1",
                     "attributes": {"name": "h1"}, "scan_level": 3},
        });
        Incoming {
            queue: "muster.events".to_owned(),
            body: event.to_string().into_bytes(),
            ..Incoming::default()
        }
    };
    handle(&house.ground, &[event("acme"), event("bravo")])
        .await
        .expect("handled");
    let bravo = house.task(&scan_of(&house, "bravo").await).await;
    assert_eq!(
        (&bravo["state"], &bravo["schedule"]),
        (&json!("waiting"), &json!("seen"))
    );
}

pub async fn two_replicas_that_decide_at_once_let_one_of_them_run(house: House) {
    house
        .declare(&SCANS.replace("organization: acme, ", ""))
        .await;
    let beside = house.beside().await;
    beside.load_catalogue().await.expect("loaded");
    let events = |organization: &str| -> Vec<Incoming> {
        (0..40)
            .map(|at| {
                let event = json!({
                    "specversion": "1.0", "id": format!("{organization}-{at}"), "source": "/t", "type": "object.created",
                    "data": {"organization": organization, "object_type": "hostname", "primary_key": format!("h{at}"),
                             "attributes": {"name": "same"}, "scan_level": 2},
                });
                Incoming {
                    queue: "muster.events".to_owned(),
                    body: event.to_string().into_bytes(),
                    ..Incoming::default()
                }
            })
            .collect()
    };
    let (acme, bravo) = (events("acme"), events("bravo"));
    let one = async {
        for part in acme.chunks(4) {
            handle(&house.ground, part).await.expect("handled");
        }
    };
    let other = async {
        for part in bravo.chunks(4) {
            handle(&beside, part).await.expect("handled");
        }
    };
    tokio::join!(one, other);
    let rows = rows(&house).await;
    assert_eq!(rows.len(), 80);
    let runs = rows.iter().filter(|row| row["state"] == "queued").count();
    assert_eq!(runs, 40, "one for each object");
    let keys: BTreeSet<String> = rows
        .iter()
        .map(|row| text(row, "deduplication_key"))
        .collect();
    assert_eq!(keys.len(), 40);
    for row in rows.iter().filter(|row| row["state"] == "waiting") {
        let from = rows.iter().find(|other| other["id"] == row["shared_from"]);
        let from = from.expect("the one that runs");
        assert_eq!(
            (&from["state"], &from["inputs"]),
            (&json!("queued"), &row["inputs"])
        );
    }
}

/// The sentence by which a task is told to stand at something.
fn says(told: &Value, kind: &str) -> String {
    let stands = told["stands"].as_array().expect("stands").iter();
    let found = stands.clone().find(|stand| stand["kind"] == kind);
    text(
        found.unwrap_or_else(|| panic!("no `{kind}` in {told:#}")),
        "says",
    )
}

pub async fn whoever_sees_all_is_told_whose_outcome_a_task_waits_for(house: House) {
    scanned_by_three(&house, "h1").await;
    let (acme, bravo) = (
        scan_of(&house, "acme").await,
        scan_of(&house, "bravo").await,
    );
    let told = house.done("explain", json!({"task": bravo})).await;
    assert_eq!(told["shared_from"], json!(acme));
    let waits = says(&told, "shared");
    assert!(
        waits.contains(&format!(
            "the task {acme} of acme (queued) does the same work"
        )),
        "{waits}"
    );
    assert!(
        told["exists_because"]
            .to_string()
            .contains("made with that of acme"),
        "{told:#}"
    );
    let told = house.done("explain", json!({"task": acme})).await;
    assert!(says(&told, "waited_for").contains(&format!("{bravo} of bravo")));
    assert_eq!(told["waiting_for_it"][0]["organization"], "bravo");
    // An event of a fourth one, which has it too by then, waits for the same.
    house
        .declare(
            r#"- {kind: organization, id: delta}
- {name: all, run_on: hostname, operation: created, plugins: "plugin_id = 'scan'"}"#,
        )
        .await;
    let event = |key: &str| {
        json!({
            "specversion": "1.0", "id": format!("delta-{key}"), "source": "/t", "type": "object.created",
            "data": {"organization": "delta", "object_type": "hostname", "primary_key": key,
                     "attributes": {"name": key}, "scan_level": 2},
        })
    };
    let told = house.done("explain", json!({"event": event("h1")})).await;
    let of_all = told["schedules"].as_array().expect("findings").iter();
    let of_all = of_all.clone().find(|finding| finding["schedule"] == "all");
    let leader = &of_all.expect("the schedule")["plugins"][0]["shared_from"];
    assert_eq!(
        *leader,
        json!({"id": acme, "organization": "acme"}),
        "{told:#}"
    );
    let own = house
        .ask_of("delta", "explain", json!({"event": event("h1")}))
        .await;
    assert!(!own.expect("told").to_string().contains("shared_from"));
    house.event(&event("h1").to_string()).await;
    let kept = json!({"event_id": "delta-h1"});
    let told = house.done("explain", kept.clone()).await;
    let task = &told["made"][0]["tasks"][0];
    assert_eq!(
        (&task["state"], &task["shared_from"]),
        (&json!("waiting"), &json!(acme)),
        "{told:#}"
    );
    // Its own organisation is told of a task like any other.
    let own = house.ask_of("delta", "explain", kept).await.expect("told");
    assert_eq!(own["made"][0]["tasks"][0]["state"], "queued");
    let own = own.to_string();
    for trace in ["waiting", "shared_from", acme.as_str(), "acme"] {
        assert!(!own.contains(trace), "`{trace}` in {own}");
    }
    // Of whom it was is known when it is done.
    let (id, attempt, _) = offer(&house).await.remove(0);
    house.say(&id, attempt, json!({"status": "accepted"})).await;
    house
        .say(&id, attempt, json!({"status": "succeeded"}))
        .await;
    let told = house.done("explain", json!({"task": bravo})).await;
    assert!(
        says(&told, "shared")
            .contains(&format!("it shares the outcome of the task {acme} of acme")),
        "{told:#}"
    );
}

pub async fn no_organisation_sees_that_another_has_the_object(house: House) {
    house.ground.store.tell_life(true);
    scanned_by_three(&house, "h1").await;
    let leader = house.task(&scan_of(&house, "acme").await).await;
    let traces = [
        "acme".to_owned(),
        "charlie".to_owned(),
        "waiting\"".to_owned(),
        "shared".to_owned(),
        "watch".to_owned(),
        "deduplication".to_owned(),
        text(&leader, "id"),
        text(&leader, "run_id"),
    ];
    let (id, attempt, key) = offer(&house).await.remove(0);
    for ended in [false, true] {
        if ended {
            house.say(&id, attempt, json!({"status": "accepted"})).await;
            house
                .say(
                    &id,
                    attempt,
                    json!({"status": "succeeded", "log_ref": "logs/acme/x", "log_tail": "acme"}),
                )
                .await;
        }
        let bravo = scan_of(&house, "bravo").await;
        let run = text(&house.task(&bravo).await, "run_id");
        let event = json!({
            "specversion": "1.0", "id": "e", "source": "/t", "type": "object.updated",
            "data": {"organization": "bravo", "object_type": "hostname", "primary_key": "h1",
                     "attributes": {"name": "h1"}, "scan_level": 4},
        });
        let key = key.clone().unwrap_or_default();
        for (command, args) in [
            ("task.list", json!({})),
            (
                "task.list",
                json!({"where": "state = 'queued' or state = 'succeeded'"}),
            ),
            ("task.get", json!({"task_id": bravo})),
            ("attempt.list", json!({})),
            ("run.get", json!({"run_id": run})),
            ("run.list", json!({})),
            ("stats", json!({})),
            ("explain", json!({"event": event})),
            ("explain", json!({"task": bravo})),
        ] {
            let told = house
                .ask_of("bravo", command, args)
                .await
                .expect("told")
                .to_string();
            for trace in traces.iter().filter(|trace| !trace.is_empty()) {
                assert!(
                    !told.contains(trace.as_str()),
                    "{command} tells `{trace}`: {told}"
                );
            }
            assert!(!told.contains(&key), "{command}: {told}");
        }
        let queues = house
            .ask_of("bravo", "queue.list", json!({}))
            .await
            .expect("queues");
        let queues = queues["queues"].as_array().expect("queues");
        let queue = queues
            .iter()
            .find(|queue| queue["queue"] == "muster.tasks.scanner");
        let queue = queue.expect("the queue");
        assert_eq!(queue["sharing"], 0);
        assert_eq!(queue["waiting"]["event"], i64::from(!ended));
        // Nor does asking for what is not shown.
        let list = async |asked: String| {
            let found = house
                .ask_of("bravo", "task.list", json!({"where": asked}))
                .await;
            found.expect("tasks")["tasks"]
                .as_array()
                .expect("tasks")
                .len()
        };
        assert_eq!(list("state = 'waiting'".to_owned()).await, 0);
        assert_eq!(list(format!("shared_from = '{id}'")).await, 0);
        assert_eq!(list(format!("deduplication_key = '{key}'")).await, 0);
        let queued = list("state = 'queued' and plugin_id = 'scan'".to_owned()).await;
        assert_eq!(queued, usize::from(!ended));
        // Whoever looks over all organisations sees it.
        let all = json!({"where": format!("shared_from = '{id}'")});
        let all = house.done("task.list", all).await;
        assert_eq!(all["tasks"].as_array().expect("tasks").len(), 2);
        if !ended {
            let all = house
                .done("task.list", json!({"where": "state = 'waiting'"}))
                .await;
            assert_eq!(all["tasks"].as_array().expect("tasks").len(), 2);
            let stats = house.done("stats", json!({})).await.to_string();
            assert!(stats.contains("\"waiting\":2"), "{stats}");
        }
    }
    let bravo = scan_of(&house, "bravo").await;
    let now = moment("2027-01-01T00:00:00Z");
    let lease = now.plus(Span::seconds(60));
    let life = house
        .ground
        .store
        .life_to_tell(1000, now, lease)
        .await
        .expect("life");
    let told: Vec<(String, Option<String>)> = life
        .into_iter()
        .filter(|life| life.about == bravo)
        .map(|life| (life.kind, life.state))
        .collect();
    let told: Vec<(&str, Option<&str>)> = told
        .iter()
        .map(|(kind, state)| (kind.as_str(), state.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("task.queued", Some("queued")),
            ("task.finished", Some("succeeded"))
        ]
    );
}
