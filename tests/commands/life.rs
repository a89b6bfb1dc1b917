//! What is told of the life of runs, tasks and schedules.

use muster::moment::Span;
use muster::store::Life;
use serde_json::json;

use super::asking::{House, moment};

/// All that is to be told, taken away as if it were published.
async fn told(house: &House) -> Vec<Life> {
    let now = moment("2027-01-01T00:00:00Z");
    let lease = now.plus(Span::seconds(60));
    let store = &house.ground.store;
    let found = store.life_to_tell(10_000, now, lease).await.expect("life");
    if !found.is_empty() {
        // While one tells, nobody else does.
        let others = store.life_to_tell(10_000, now, lease).await;
        assert_eq!(others.expect("life"), []);
        store.life_told(&found).await.expect("told");
    }
    found
}

fn kinds<'l>(told: &'l [Life], about: &str) -> Vec<&'l str> {
    let of_it = told.iter().filter(|life| life.about == about);
    of_it.map(|life| life.kind.as_str()).collect()
}

pub async fn what_happens_is_told_once_each_in_the_order_of_each_task(house: House) {
    house.ground.store.tell_life(true);
    house.host("acme", "h1").await;
    house.host("acme", "h2").await;
    let offers = house.offer().await;
    let [(one, _), (two, _)] = offers.as_slice() else {
        panic!("two offers: {offers:?}");
    };
    house.say(one, 1, json!({"status": "accepted"})).await;
    house.say(one, 1, json!({"status": "declined"})).await;
    house.later(3600);
    assert_eq!(house.offer().await, [(one.clone(), 2)]);
    house.say(one, 2, json!({"status": "accepted"})).await;
    house.later(5);
    house.say(one, 2, json!({"status": "heartbeat"})).await;
    house.say(one, 2, json!({"status": "succeeded"})).await;
    let failed = json!({"status": "failed", "class": "retryable"});
    house.say(two, 1, failed).await;
    let life = told(&house).await;
    assert_eq!(
        kinds(&life, one),
        [
            "task.queued",
            "task.dispatched",
            "task.accepted",
            "task.queued",
            "task.dispatched",
            "task.accepted",
            "task.finished"
        ]
    );
    assert_eq!(
        kinds(&life, two),
        ["task.queued", "task.dispatched", "task.dead"]
    );
    let end = life
        .iter()
        .find(|life| life.about == *one && life.kind == "task.finished");
    let end = end.expect("its end");
    assert_eq!(end.state.as_deref(), Some("succeeded"));
    assert_eq!(end.worker.as_deref(), Some("w1"));
    let task = end.task.as_ref().expect("its task");
    assert_eq!(task.inputs[0]["primary_key"], "h1");
    assert_eq!(kinds(&life, &task.run_id), ["run.started", "run.finished"]);
    assert_eq!(told(&house).await, [], "each is told once");

    // What a person does is told too.
    house.host("acme", "h3").await;
    let (three, _) = house.offer().await.remove(0);
    house.done("task.retry", json!({"task_id": three})).await;
    house.done("task.cancel", json!({"task_id": three})).await;
    let life = told(&house).await;
    assert_eq!(
        kinds(&life, &three),
        [
            "task.queued",
            "task.dispatched",
            "task.queued",
            "task.finished"
        ]
    );

    // A schedule that changes, an event that cannot be, a run that is not to be.
    house
        .done(
            "schedule.pause",
            json!({"schedule": "feeds", "reason": "down"}),
        )
        .await;
    house
        .done("schedule.resume", json!({"schedule": "feeds"}))
        .await;
    let made = house
        .done(
            "schedule.apply",
            json!({"name": "new", "recurrences": "daily", "plugins": "True", "input": {}}),
        )
        .await;
    house
        .done("schedule.delete", json!({"schedule": "new"}))
        .await;
    assert_eq!(house.event("no event").await, 1);
    let life = told(&house).await;
    let states = |about: &str| -> Vec<String> {
        let of_it = life.iter().filter(|life| life.about == about);
        of_it.filter_map(|life| life.state.clone()).collect()
    };
    assert_eq!(states("id-feeds"), ["paused", "resumed"]);
    let made = made["schedule_id"].as_str().expect("an id");
    assert_eq!(states(made), ["applied", "deleted"]);
    let rejected = life.iter().find(|life| life.kind == "event.rejected");
    let rejected = rejected.expect("the event");
    assert_eq!(rejected.reason.as_deref(), Some("not_json"));
    assert_eq!(rejected.detail["intake"], "muster.events");
}

pub async fn where_nobody_wants_to_be_told_nothing_is_written(house: House) {
    house.dead("acme", &["h1"]).await;
    house
        .done(
            "schedule.pause",
            json!({"schedule": "feeds", "reason": "down"}),
        )
        .await;
    assert_eq!(house.event("no event").await, 1);
    assert_eq!(told(&house).await, []);
}
