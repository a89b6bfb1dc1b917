//! Loop: offers that nobody accepted, history that is old, gauges, and this replica's sign of life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde_json::{Map, Value, json};

use crate::bus::{Bus, Letter};
use crate::decide::{Sharing, sharing};
use crate::ground::trail::{self, step};
use crate::ground::{Ground, terms_of};
use crate::moment::{Moment, Span};
use crate::progress::{Clock, clock, run_out};
use crate::store::{Cancel, Older, Reported, StoreError};
use crate::task::TaskState;
use crate::wire;

mod gauges;
mod void;
mod waiting;

use gauges::Gauges;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Rows that one look touches at a time, and how many times.
const AT_ONCE: i64 = 1000;
const TIMES: usize = 10;
/// Every so many looks runs are forgotten by their number.
const COUNTED_EVERY: u64 = 30;

/// How long history is kept, as far as this loop removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub events: Span,
    pub tombstones: Span,
    pub versions: Span,
    pub tasks: Span,
    pub runs: Span,
    /// So many ended runs of each schedule, organisation and target; 0: however many there are.
    pub runs_each: i64,
}

/// The loop.
pub async fn run<B: Bus>(ground: Arc<Ground>, bus: Arc<B>, keep: Keep) -> Result<(), StoreError> {
    // A broker that does not answer holds up no clock.
    tokio::join!(
        looks(&ground, bus.as_ref(), keep),
        void::run(&ground, bus.as_ref()),
        waiting::run(&ground, bus.as_ref())
    );
    if let Err(error) = ground.store.leave(&ground.replica).await {
        tracing::debug!("reaper: {error}");
    }
    Ok(())
}

async fn looks<B: Bus>(ground: &Ground, bus: &B, keep: Keep) {
    let started = Moment::now();
    let mut reconnects = 0;
    let mut looks: u64 = 0;
    let mut gauges = Gauges::new();
    let mut waiting_until = String::new();
    while !ground.stop.is_cancelled() {
        ground.beat("reaper");
        let condition = bus.condition();
        counter!("muster_bus_reconnects_total")
            .increment(condition.reconnects.saturating_sub(reconnects));
        reconnects = condition.reconnects;
        let looked = async {
            look(ground, keep, started).await?;
            waiting_until = look_at_waiting(ground, &waiting_until).await?;
            hear_clocks(ground, bus).await?;
            if keep.runs_each > 0 && looks.is_multiple_of(COUNTED_EVERY) {
                ground.store.forget_all_but(keep.runs_each, AT_ONCE).await?;
            }
            gauges.count(ground, bus.keeps()).await
        };
        match looked.await {
            Ok(()) => looks = looks.wrapping_add(1),
            Err(error) if error.passing() => tracing::debug!("reaper: {error}"),
            Err(error) => tracing::error!("reaper: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = ground.stop.cancelled() => {}
        }
    }
}

async fn look(ground: &Ground, keep: Keep, started: Moment) -> Result<(), StoreError> {
    if let Some(theirs) = ground.store.clock().await? {
        ground.clock.follow(theirs);
    }
    let now = ground.clock.now();
    let older = Older {
        events: now.minus(keep.events),
        tombstones: now.minus(keep.tombstones),
        versions: now.minus(keep.versions),
        tasks: now.minus(keep.tasks),
        runs: now.minus(keep.runs),
    };
    let shortest = ground.catalogue().shortest_life();
    let over = ground.store.expire(now, shortest, AT_ONCE).await?;
    if over > 0 {
        tracing::warn!(over, "the time of tasks or waiting runs is over");
        ground.ended();
    }
    for _ in 0..TIMES {
        if ground.store.forget(&older, now, AT_ONCE).await? < AT_ONCE as u64 {
            break;
        }
    }
    let beats: Map<String, Value> = ground
        .beats()
        .into_iter()
        .map(|(name, at)| (name.to_owned(), json!(at.to_string())))
        .collect();
    ground
        .store
        .beat(
            &ground.replica,
            started,
            Moment::now(),
            &Value::Object(beats),
        )
        .await
}

/// Some of the tasks that wait for another one's outcome are looked at again, from where the last look ended: nobody claims
/// them, so here it is seen that their plugin is disabled, or that theirs is other work by now. Answers with where this look
/// ended.
pub async fn look_at_waiting(ground: &Ground, after: &str) -> Result<String, StoreError> {
    let waiting = ground.store.waiting_after(after, AT_ONCE).await?;
    let until = match waiting.last() {
        Some(last) if waiting.len() as i64 == AT_ONCE => last.task_id.clone(),
        _ => String::new(),
    };
    if waiting.is_empty() {
        return Ok(until);
    }
    let catalogue = ground
        .catalogue_at(ground.store.catalogue_revision().await?)
        .await?;
    let (mut other, mut gone) = (Vec::new(), Vec::new());
    for task in waiting {
        let still = sharing(
            &catalogue,
            &task.plugin_id,
            &task.organization,
            task.object.as_ref(),
            &task.parameters,
            &task.deduplication_key,
        );
        match still {
            Sharing::Goes => {}
            Sharing::Ends => other.push(task.task_id),
            Sharing::Withdrawn => gone.push(task.task_id),
        }
    }
    let now = ground.clock.now();
    if !other.is_empty() && ground.store.stop_waiting(&other, now).await? > 0 {
        ground.dispatch.notify_one();
    }
    if !gone.is_empty() {
        ground.store.withdraw_waiting(&gone, now).await?;
        ground.ended();
    }
    Ok(until)
}

/// Attempts whose clock ran out.
#[derive(Debug, Default)]
pub struct RanOut {
    pub many: usize,
    /// Who may still be at work for nothing.
    pub cancels: Vec<Cancel>,
}

/// Attempts whose clock has run out end, and their tasks go on.
pub async fn run_out_of_time(ground: &Ground) -> Result<RanOut, StoreError> {
    let now = ground.clock.now();
    let overdue = ground.store.overdue(now, AT_ONCE).await?;
    if overdue.is_empty() {
        return Ok(RanOut::default());
    }
    let catalogue = ground.catalogue();
    let mut steps = Vec::with_capacity(overdue.len());
    let mut cancels = Vec::new();
    let mut by_clock: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (task_id, known) in overdue {
        let terms = terms_of(&catalogue, Some(&known));
        let standing = known.standing;
        let Some((_, which)) = clock(&standing, known.offered_until, terms.timeouts.heartbeat)
        else {
            continue;
        };
        if which != Clock::Offer {
            cancels.push(Cancel {
                task_id: task_id.clone(),
                attempt: standing.attempt,
                worker: standing.worker.clone(),
            });
        }
        let step = run_out(&standing, which, &terms, now, ground.chance());
        *by_clock.entry(which.word()).or_default() += 1;
        steps.push(Reported {
            task_id,
            worker: None,
            at: None,
            standing,
            step,
        });
    }
    let written = ground.store.apply_steps(&steps, &[], now).await?;
    if trail::on() {
        tell_clocks(ground, &steps).await?;
    }
    cancels.retain(|cancel| !written.stale.contains(&cancel.task_id));
    for (which, many) in by_clock {
        tracing::warn!(clock = which, many, "attempts ran out of time");
        counter!("muster_clocks_run_out_total", "clock" => which).increment(many);
    }
    ground.dispatch.notify_one();
    ground.ended();
    let many = steps.len() - written.stale.len();
    Ok(RanOut { many, cancels })
}

/// The trail of those whose clock ran out.
async fn tell_clocks(ground: &Ground, steps: &[Reported]) -> Result<(), StoreError> {
    let ids: Vec<&str> = steps.iter().map(|step| step.task_id.as_str()).collect();
    let traces = ground.store.traceparents(&ids).await?;
    for reported in steps {
        let traceparent = traces.get(&reported.task_id);
        step!(
            "clock",
            traceparent.map_or("", String::as_str),
            task = reported.task_id,
            attempt = reported.standing.attempt,
            outcome = reported.step.outcome,
            state = reported.step.state.map(TaskState::word),
            "an attempt ran out of time"
        );
    }
    Ok(())
}

/// Clocks that ran out are heard, and workers whose tasks are to end are told; it may be lost, and then the clock of the
/// task ends it. Answers with how many ran out.
pub async fn hear_clocks<B: Bus>(ground: &Ground, bus: &B) -> Result<usize, StoreError> {
    let RanOut { many, mut cancels } = run_out_of_time(ground).await?;
    cancels.extend(ground.store.cancels(ground.clock.now(), AT_ONCE).await?);
    if cancels.is_empty() {
        return Ok(many);
    }
    let letters = cancels
        .iter()
        .map(|cancel| {
            let worker = cancel.worker.as_deref();
            let body = wire::cancel(&cancel.task_id, Some(cancel.attempt), worker);
            Letter::cancel(&cancel.task_id, body)
        })
        .collect();
    bus.publish(letters).await;
    ground.ended();
    Ok(many)
}
