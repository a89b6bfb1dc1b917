//! The trail of a trace through the logs: a line for each step that something takes, in a span that is named after the
//! step and holds the id of the trace. Nothing is made of them, and nothing asked for them, unless the log lets them
//! through (`log.trail`, or level `debug`).

use std::collections::HashSet;

use tracing::Level;

use crate::decide::Plan;
use crate::run::RunDraft;
use crate::trace;
use crate::wire::Event;

/// Whether anybody wants to see it.
pub fn on() -> bool {
    tracing::enabled!(target: "muster::trace", Level::DEBUG)
}

/// One step: `step!("name", traceparent, fields…, "words")`.
macro_rules! step {
    ($name:literal, $traceparent:expr, $($said:tt)*) => {{
        let _in = tracing::debug_span!(
            target: "muster::trace", $name, trace = $crate::trace::trace_id($traceparent)
        )
        .entered();
        tracing::debug!(target: "muster::trace", $($said)*);
    }};
}
pub(crate) use step;

/// The trace of a run: that of what set it off, else its own.
fn of_run(run: &RunDraft) -> String {
    let carried = run.occasion.traceparent.clone();
    carried.unwrap_or_else(|| trace::begun(&run.id))
}

/// The trace of a task, as far as what set its run off brought one.
pub fn of_task(run_id: &str, carried: Option<&str>) -> String {
    carried.map_or_else(|| trace::begun(run_id), str::to_owned)
}

/// An event was read.
pub fn taken(event: &Event, queue: &str) {
    let told = &event.told;
    if let Some(traceparent) = &told.traceparent {
        let key = &told.change.key;
        step!(
            "event",
            traceparent,
            event = told.event_id,
            r#type = told.event_type,
            organization = key.organization,
            object = key.primary_key,
            queue,
            "an event was taken"
        );
    }
}

/// A plan was made, and is not stored yet.
pub fn decided(plan: &Plan) {
    if !on() {
        return;
    }
    for run in plan.runs.iter().chain(&plan.started) {
        let tasks = plan.tasks.iter().filter(|task| task.run_id == run.id);
        step!(
            "decide",
            &of_run(run),
            run = run.id,
            schedule = run.schedule,
            organization = run.organization,
            cause = run.cause.word(),
            tasks = tasks.count(),
            expands = run.expands,
            "a run was decided"
        );
    }
}

/// Those of these events that make no run.
pub fn idle<'e>(plan: &Plan, events: impl Iterator<Item = &'e Event>) {
    let runs = plan.runs.iter().chain(&plan.started);
    let traces: HashSet<&str> = runs
        .filter_map(|run| run.occasion.traceparent.as_deref())
        .collect();
    for event in events {
        if let Some(traceparent) = &event.told.traceparent
            && !traces.contains(traceparent.as_str())
        {
            let event = &event.told.event_id;
            step!("decide", traceparent, event, "the event makes no run");
        }
    }
}

/// A plan was stored.
pub fn stored(plan: &Plan) {
    if !on() {
        return;
    }
    for run in plan.runs.iter().chain(&plan.started) {
        step!(
            "commit",
            &of_run(run),
            run = run.id,
            schedule = run.schedule,
            "the run is stored"
        );
    }
}
