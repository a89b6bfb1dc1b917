//! Runs of events where only one may be under way, what a person asks for beside a pause, and calendars that change.

use serde_json::json;

use muster::intake::{Incoming, handle};
use muster::run::RunState;
use muster::task::TaskState;

use super::{House, on_postgres, on_sqlite};

on_both!(
    buffer_one_keeps_one_run_of_an_event_that_begins_when_its_blocker_ends,
    replace_lets_the_newest_event_go_first_and_skips_none,
    a_run_of_an_event_that_selects_its_inputs_waits_for_the_one_before,
    what_a_person_asks_for_is_expanded_beside_a_pause,
    a_changed_calendar_makes_nothing_due_that_it_left_out,
    an_expanding_run_shows_how_far_it_is,
);

impl House {
    /// The host is said to be different.
    async fn change(&self, key: &str, number: i64) {
        let now = self.ground.clock.now();
        let event = json!({
            "specversion": "1.0", "id": format!("c-{key}-{number}"), "source": "/t", "type": "object.updated",
            "time": now.to_string(),
            "data": {"organization": "acme", "object_type": "hostname", "primary_key": key,
                     "attributes": {"name": key, "number": number}, "scan_level": 2},
        });
        let incoming = Incoming {
            queue: "muster.events".to_owned(),
            body: event.to_string().into_bytes(),
            ..Incoming::default()
        };
        let handled = handle(&self.ground, &[incoming]).await.expect("handled");
        assert!(handled.dead.is_empty(), "{:?}", handled.dead);
    }

    async fn words(&self) -> Vec<&'static str> {
        let runs = self.runs().await;
        runs.iter().map(|run| run.state.word()).collect()
    }
}

/// What runs when a host changes.
fn on_change(more: &str) -> String {
    format!(
        "- {{name: changed, run_on: hostname, operation: updated, plugins: \"plugin_id = 'dns'\", grace: 1s{more}}}"
    )
}

async fn buffer_one_keeps_one_run_of_an_event_that_begins_when_its_blocker_ends(house: House) {
    house.host("acme", "h1").await;
    house.host("acme", "h2").await;
    house.declare(&on_change(", overlap: buffer_one")).await;
    for minute in 1..=3 {
        house.clock(&format!("2026-11-21T10:0{minute}:00Z"));
        house.change("h1", minute).await;
    }
    // What a refusal is of an event costs no row; another object is another scope.
    assert_eq!(house.words().await, ["running", "pending"]);
    house.clock("2026-11-21T10:04:00Z");
    house.change("h2", 1).await;
    assert_eq!(house.words().await, ["running", "pending", "running"]);
    assert_eq!(house.open_tasks().await.len(), 2);
    house.clock("2026-11-21T10:05:00Z");
    house.succeed().await;
    house.tick().await;
    assert_eq!(house.words().await, ["succeeded", "running", "succeeded"]);
    let begun = house.runs().await.remove(1);
    assert_eq!(begun.cause, "event");
    assert_eq!(begun.target.as_deref(), Some("h1"));
    assert_eq!(begun.counts[0], 1, "the object changed since the last end");
    assert_eq!(house.succeed().await, 1);
    assert_eq!(house.words().await, ["succeeded", "succeeded", "succeeded"]);
    // Nobody is in the way any more.
    house.clock("2026-11-21T10:06:00Z");
    house.change("h1", 6).await;
    assert_eq!(house.words().await.pop(), Some("running"));
}

async fn replace_lets_the_newest_event_go_first_and_skips_none(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_change(", overlap: replace")).await;
    house.clock("2026-11-21T10:01:00Z");
    house.change("h1", 1).await;
    assert_eq!(house.accept().await, 1);
    let task = house.open_tasks().await.remove(0).0;
    house.clock("2026-11-21T10:02:00Z");
    house.change("h1", 2).await;
    house.clock("2026-11-21T10:03:00Z");
    house.change("h1", 3).await;
    let runs = house.runs().await;
    assert_eq!(house.words().await, ["running", "skipped", "pending"]);
    assert_eq!(runs[0].reason.as_deref(), Some("replaced"));
    assert_eq!(runs[1].reason.as_deref(), Some("superseded"));
    assert_eq!(runs[1].blocked_by.as_ref(), Some(&runs[2].id));
    let now = house.ground.clock.now();
    let cancels = house
        .ground
        .store
        .cancels(now, 10)
        .await
        .expect("an answer");
    let told: Vec<&str> = cancels.iter().map(|told| told.task_id.as_str()).collect();
    assert_eq!(told, [task.as_str()], "its worker is told once");
    house.say(&task, TaskState::Cancelled).await;
    house.tick().await;
    assert_eq!(house.words().await, ["cancelled", "skipped", "running"]);
    assert_eq!(house.succeed().await, 1);
}

async fn a_run_of_an_event_that_selects_its_inputs_waits_for_the_one_before(house: House) {
    for host in ["h1", "h2", "h3"] {
        house.host("acme", host).await;
    }
    let more = ", overlap: buffer_one, input: {hostname: \"name != trigger.name\"}";
    house.declare(&on_change(more)).await;
    house.clock("2026-11-21T10:01:00Z");
    house.change("h1", 1).await;
    house.clock("2026-11-21T10:02:00Z");
    house.change("h2", 2).await;
    house.tick().await;
    assert_eq!(house.words().await, ["running", "pending"]);
    assert_eq!(house.open_tasks().await.len(), 2);
    house.clock("2026-11-21T10:03:00Z");
    assert_eq!(house.succeed().await, 2);
    house.at("2026-11-21T10:04:00Z").await;
    let runs = house.runs().await;
    assert_eq!(house.words().await, ["succeeded", "running"]);
    assert_eq!(runs[1].counts[0], 2, "all but h2, by its own trigger");
}

async fn what_a_person_asks_for_is_expanded_beside_a_pause(house: House) {
    for host in ["h1", "h2"] {
        house.host("acme", host).await;
    }
    house
        .declare("- {name: all, recurrences: hourly, plugins: \"plugin_id = 'dns'\", input: {hostname: null}, overlap: allow}")
        .await;
    // The clock's run is still looking for its inputs when somebody pauses.
    house.clock("2026-11-21T10:00:01Z");
    muster::ticker::step(&house.ground).await.expect("ticked");
    assert_eq!(house.words().await, ["expanding"]);
    house
        .ask("schedule.pause", json!({"schedule": "all", "reason": "x"}))
        .await
        .expect("paused");
    house
        .ask("run.start", json!({"schedule": "all"}))
        .await
        .expect("started");
    house.tick().await;
    assert_eq!(house.words().await, ["expanding", "running"]);
    assert_eq!(house.runs().await[1].counts[0], 2);
    house
        .ask("schedule.resume", json!({"schedule": "all"}))
        .await
        .expect("resumed");
    house.tick().await;
    assert_eq!(house.words().await, ["running", "running"]);
}

async fn a_changed_calendar_makes_nothing_due_that_it_left_out(house: House) {
    house
        .declare(
            "- {kind: calendar, name: closed, dates: [\"2026-11-21\"]}\n\
             - {name: feeds, recurrences: hourly, calendars: [closed], plugins: \"plugin_id = 'feed'\", input: {}}",
        )
        .await;
    house.at("2026-11-21T12:00:05Z").await;
    house.clock("2026-11-21T12:30:00Z");
    house
        .declare("- {kind: calendar, name: closed, dates: [\"2026-11-30\"]}")
        .await;
    house.at("2026-11-21T12:31:00Z").await;
    assert_eq!(house.runs().await, []);
    house.at("2026-11-21T13:00:01Z").await;
    let runs = house.runs().await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0].state, RunState::Running);
}

async fn an_expanding_run_shows_how_far_it_is(house: House) {
    for host in ["h1", "h2", "h3"] {
        house.host("acme", host).await;
    }
    house
        .declare("- {name: all, recurrences: hourly, plugins: \"plugin_id = 'dns'\", input: {hostname: null}}")
        .await;
    house.clock("2026-11-21T10:00:01Z");
    muster::ticker::step(&house.ground).await.expect("ticked");
    let position = async || {
        let told = house.ask("run.list", json!({})).await.expect("runs");
        told["runs"][0]["position"].clone()
    };
    assert_eq!(position().await, "", "at the beginning");
    let left = async |most: i64| {
        let types = |_: &str| vec!["hostname".to_owned()];
        let store = &house.ground.store;
        store.inputs_left(types, most).await.expect("counted")
    };
    assert_eq!((left(1000).await, left(2).await), (3, 2));
    house.tick().await;
    assert_eq!(position().await, json!(null), "nothing is left to find");
    assert_eq!(left(1000).await, 0);
}
