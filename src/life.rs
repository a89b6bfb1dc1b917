//! Loop: what happened to runs, tasks and schedules is told to whoever listens, at least once and in its order.
//!
//! Each is a CloudEvent whose id stays the same however often it is published. It goes away once the broker has
//! confirmed it.

use std::sync::Arc;

use metrics::counter;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::bus::{Address, Bus, Letter};
use crate::ground::Ground;
use crate::moment::{Moment, Span};
use crate::run::run_name;
use crate::store::{Life, LifeOfRun, LifeOfTask, StoreError};

/// How many are told at once.
const AT_ONCE: i64 = 500;
/// How long they are this replica's to tell.
const LEASE: Span = Span::seconds(60);

/// The loop. It looks once a second; while there is something to tell it goes on.
pub async fn run<B: Bus>(ground: Arc<Ground>, bus: Arc<B>) -> Result<(), StoreError> {
    let nobody = Notify::new();
    ground
        .by_turns("life", &nobody, || async {
            while bus.condition().connected && step(&ground, bus.as_ref()).await? > 0 {}
            Ok(None)
        })
        .await
}

/// Tells what there is to tell; answers with how many were confirmed.
pub async fn step<B: Bus>(ground: &Ground, bus: &B) -> Result<usize, StoreError> {
    // The lease is of this machine's time: a clock that somebody sets does not end it.
    let real = Moment::now();
    let found = ground
        .store
        .life_to_tell(AT_ONCE, real, real.plus(LEASE))
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let letters = found.iter().map(letter).collect();
    let answers = bus.publish(letters).await;
    let mut told = Vec::with_capacity(found.len());
    let mut held: Option<String> = None;
    for (life, answer) in found.into_iter().zip(answers) {
        // What comes after one that was not confirmed is told after it.
        if held.as_deref() == Some(life.about.as_str()) {
            continue;
        }
        match answer {
            Ok(_) => told.push(life),
            Err(undelivered) => {
                tracing::warn!("a life-cycle event was not published: {undelivered}");
                held = Some(life.about);
            }
        }
    }
    ground.store.life_told(&told).await?;
    counter!("muster_life_told_total").increment(told.len() as u64);
    Ok(told.len())
}

fn letter(life: &Life) -> Letter {
    let id = format!("{}:{}:{}", life.about, life.number, life.kind);
    let traceparent = life.run.as_ref().map(|run| run.traceparent.clone());
    let mut event = json!({
        "specversion": "1.0", "id": id, "source": "/muster", "type": life.kind, "subject": life.about,
        "time": life.told_at.to_string(), "datacontenttype": "application/json", "data": data(life),
    });
    if let Some(traceparent) = &traceparent {
        event["traceparent"] = json!(traceparent);
    }
    Letter {
        address: Address::Lifecycle(life.kind.clone()),
        message_id: id,
        correlation_id: None,
        content_type: "application/cloudevents+json",
        headers: traceparent
            .map(|trace| ("traceparent".to_owned(), trace))
            .into_iter()
            .collect(),
        priority: 0,
        expires_in_ms: None,
        body: event.to_string().into_bytes(),
    }
}

fn data(life: &Life) -> Value {
    let mut data = Map::new();
    let mut say = |name: &str, value: Value| {
        data.insert(name.to_owned(), value);
    };
    if !life.organization.is_empty() {
        say("organization", json!(life.organization));
    }
    say("state", json!(life.state));
    say("reason", json!(life.reason));
    if let Some(run) = &life.run {
        say("run_id", json!(run.run_id));
        say("run_name", json!(run_name(&run.schedule, &run.run_id)));
        say("schedule", json!(run.schedule));
        say("schedule_id", json!(run.schedule_id));
    }
    match (&life.task, &life.run) {
        (Some(task), _) => of_task(life, task, &mut say),
        (None, Some(run)) => of_run(life, run, &mut say),
        (None, None) => {}
    }
    for (name, value) in &life.detail {
        say(name, value.clone());
    }
    Value::Object(data)
}

fn of_task(life: &Life, task: &LifeOfTask, say: &mut impl FnMut(&str, Value)) {
    say("task_id", json!(life.about));
    say("run_id", json!(task.run_id));
    say("attempt", json!(life.number));
    say("worker", json!(life.worker));
    say("plugin_id", json!(task.plugin_id));
    say("worker_type", json!(task.worker_type));
    say("cause", json!(task.cause));
    say("priority", json!(task.priority));
    say("inputs", task.inputs.clone());
    say("created_at", json!(task.created_at.to_string()));
    say("scheduled_for", json!(task.scheduled_for.to_string()));
    if matches!(life.kind.as_str(), "task.finished" | "task.dead") {
        let finished_at = task.finished_at.map(|at| at.to_string());
        say("finished_at", json!(finished_at));
    }
}

fn of_run(life: &Life, run: &LifeOfRun, say: &mut impl FnMut(&str, Value)) {
    let text = |at: Option<Moment>| at.map(|at| at.to_string());
    say("cause", json!(run.cause));
    say("target", json!(run.target));
    say("scheduled_for", json!(run.scheduled_for.to_string()));
    say("started_at", json!(text(run.started_at)));
    if life.kind != "run.started" {
        let [total, succeeded, failed, cancelled] = run.counts;
        say("finished_at", json!(text(run.finished_at)));
        say("blocked_by", json!(run.blocked_by));
        say(
            "counters",
            json!({"total": total, "succeeded": succeeded, "failed": failed, "cancelled": cancelled}),
        );
    }
}
