//! Loop: what is stored and waiting is offered to the workers, and marked once the broker has confirmed it.
//!
//! Claim, look again, publish, mark. A claim is a lease: if this process dies between, the offer is made again with
//! the same number, and so with the same message id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{Address, Bus, Letter, TaskQueue, Undelivered};
use crate::catalogue::Catalogue;
use crate::decide::gates;
use crate::ground::trail::{self, step};
use crate::ground::{Ground, persist, queue_label};
use crate::moment::{Moment, Span};
use crate::object::{FILE, Object, ObjectKey};
use crate::plugin::{Plugin, fill};
use crate::policy::{Acknowledge, Envelope};
use crate::progress::HEARD;
use crate::schedule::{SaidTimeouts, timeouts};
use crate::store::{Ask, Busy, Claimed, ClaimedInput, Leaving, Published, PutOff, StoreError};
use crate::task::{Offer, OfferedInput};
use crate::wire;

/// How many tasks are claimed at once.
const CHUNK: i64 = 500;
/// How long a claim is this replica's alone.
const LEASE: Span = Span::seconds(30);
/// RabbitMQ refuses messages that are to expire later than this (49 days).
const LONGEST_EXPIRY_MS: u64 = 4_294_967_295;
/// How long an offer waits that no queue takes.
const UNROUTABLE_PAUSE: Span = Span::seconds(5);
/// How long an offer waits whose confirm did not come.
const UNCONFIRMED_PAUSE: Span = Span::seconds(1);
/// Tasks can come from beside this process; it looks this often without being called.
const LOOK: Duration = Duration::from_millis(500);

/// The loop. Ends when it is told to stop, after what it had claimed is published.
///
/// Where the store has more than one writer, two go side by side: one chunk is claimed or marked while the broker
/// confirms the other. A claim passes over what the other has claimed.
pub async fn run<B: Bus>(ground: Arc<Ground>, bus: Arc<B>) -> Result<(), StoreError> {
    if ground.store.one_writer() {
        return side(ground, bus).await;
    }
    let mut sides = JoinSet::new();
    for _ in 0..2 {
        sides.spawn(side(ground.clone(), bus.clone()));
    }
    let mut failed = None;
    while let Some(ended) = sides.join_next().await {
        let ended = ended.unwrap_or_else(|error| {
            Err(StoreError::Unusable(format!(
                "a side of the dispatch ended unexpectedly: {error}"
            )))
        });
        if let Err(error) = ended {
            failed.get_or_insert(error);
            sides.abort_all();
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn side<B: Bus>(ground: Arc<Ground>, bus: Arc<B>) -> Result<(), StoreError> {
    loop {
        ground.beat("dispatch");
        // Asked for before looking, so that a call in between is not missed.
        let called = ground.dispatch.notified();
        let mut pause = LOOK;
        if bus.condition().connected {
            let offered = persist!(ground, "dispatch", round(&ground, bus.as_ref()));
            match offered {
                Ok(_) if ground.stop.is_cancelled() => return Ok(()),
                Ok(Round { more: true, .. }) => continue,
                Ok(Round { next, .. }) => {
                    // A rate says when it allows the next; whatever else holds tasks back calls.
                    let wait = |next: Moment| next.since(ground.clock.now()).as_duration();
                    pause = next.map_or(LOOK, wait).min(LOOK);
                }
                Err(error) if error.passing() && ground.stop.is_cancelled() => return Ok(()),
                Err(error @ StoreError::Statement(_)) => {
                    // Nothing is lost: what was claimed is offered again when its lease is over.
                    tracing::error!("dispatch: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        tokio::select! {
            () = called => {}
            () = tokio::time::sleep(pause) => {}
            () = ground.stop.cancelled() => return Ok(()),
        }
    }
}

/// How far one look at all queues came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Tasks that it offered.
    pub moved: usize,
    /// There may be more to offer at once.
    pub more: bool,
    /// When a rate allows the next.
    pub next: Option<Moment>,
}

/// Offers a chunk of every queue.
pub async fn round<B: Bus>(ground: &Ground, bus: &B) -> Result<Round, StoreError> {
    let lanes = ground.catalogue().lanes();
    let now = ground.clock.now();
    let names = lanes.keys().map(String::as_str);
    let (busy, revision) = ground.store.busy(names, now).await?;
    let mut round = Round::default();
    for Busy { queue, ripe } in busy {
        // Limits hold from the moment that they are declared.
        let catalogue = ground.catalogue_at(revision).await?;
        let Some(worker) = lanes.get(&queue) else {
            continue;
        };
        let ask = Ask {
            queue: &queue,
            most: CHUNK,
            credit: (bus.keeps() && worker.credit > 0).then_some(i64::from(worker.credit)),
            until_end: worker.acknowledge == Acknowledge::Publish,
            lower_class_every: worker.lower_class_every,
            heads: i64::try_from(worker.limit).unwrap_or(i64::MAX),
            ripe,
            catalogue: Some(&catalogue),
        };
        let now = ground.clock.now();
        let claims = ground.store.claim_turns(&ask, now, now.plus(LEASE)).await?;
        round.moved += claims.tasks.len();
        round.next = round.next.into_iter().chain(claims.next).min();
        if claims.more {
            // The other side may have it.
            round.more = true;
            ground.dispatch.notify_one();
        }
        offer(ground, bus, claims.tasks).await?;
    }
    let now = ground.clock.now();
    let again = ground
        .store
        .claim_again(CHUNK, now, now.plus(LEASE))
        .await?;
    round.moved += again.len();
    round.more |= again.len() as i64 == CHUNK;
    offer(ground, bus, again).await?;
    Ok(round)
}

/// Publishes what was claimed and marks how it went. Each mark is tried until the store has it: what is published and
/// not marked would be published again when its lease is over.
async fn offer<B: Bus>(ground: &Ground, bus: &B, claimed: Vec<Claimed>) -> Result<(), StoreError> {
    if claimed.is_empty() {
        return Ok(());
    }
    // A claim may know plugins that this replica has not heard of.
    let catalogue = ground
        .catalogue_at(ground.store.catalogue_revision().await?)
        .await?;
    let now = ground.clock.now();
    let mut gone: Vec<String> = Vec::new();
    let mut leaving: Vec<Leaving> = Vec::new();
    let mut letters = Vec::with_capacity(claimed.len());
    let told = trail::on();
    let mut offers = Vec::with_capacity(claimed.len());
    let heard = match claimed.iter().any(|task| !task.avoid.is_empty()) {
        true => persist!(
            ground,
            "dispatch",
            ground.store.heard_since(now.minus(HEARD))
        )?,
        false => Vec::new(),
    };
    for mut task in claimed {
        spare(&mut task, &heard, now);
        let refused = look_again(&catalogue, &mut task);
        match prepare(&catalogue, &mut task, now) {
            Some(offer) if refused.is_empty() || !task.inputs.is_empty() => {
                letters.push(letter(&catalogue, &offer));
                if told {
                    step!(
                        "dispatch",
                        &traceparent_of(&task),
                        task = task.task_id,
                        attempt = task.attempt,
                        run = task.run_id,
                        plugin = task.plugin_id,
                        queue = task.queue,
                        "a task is offered"
                    );
                }
                leaving.extend(refused.into_iter().map(|primary_key| Leaving {
                    task_id: task.task_id.clone(),
                    primary_key,
                }));
                offers.push((task, offer.expires_at, offer.run_timeout));
            }
            _ => gone.push(task.task_id),
        }
    }
    if !gone.is_empty() {
        persist!(
            ground,
            "dispatch",
            ground.store.withdraw(&gone, "reason_gone", now)
        )?;
    }
    if !leaving.is_empty() {
        persist!(
            ground,
            "dispatch",
            ground.store.leave_offer(&leaving, "reason_gone", now)
        )?;
    }
    let published = Instant::now();
    let answers = bus.publish(letters).await;
    histogram!("muster_publish_seconds").record(published.elapsed().as_secs_f64());
    let now = ground.clock.now();
    let mut published_to: BTreeMap<String, u64> = BTreeMap::new();
    let mut confirmed = Vec::new();
    let mut accepted = Vec::new();
    let mut unroutable = Vec::new();
    let mut unconfirmed = Vec::new();
    let mut too_large = Vec::new();
    for ((task, expires_at, run), answer) in offers.into_iter().zip(answers) {
        if told {
            step!(
                "publish",
                &traceparent_of(&task),
                task = task.task_id,
                attempt = task.attempt,
                queue = task.queue,
                confirmed = answer.is_ok(),
                "the broker answered"
            );
        }
        let offer = (task.task_id, task.attempt);
        match answer {
            Ok(sequence) => {
                *published_to.entry(task.queue).or_default() += 1;
                #[allow(clippy::cast_precision_loss)] // a histogram takes floats
                histogram!("muster_event_to_task_seconds")
                    .record(now.since(task.created_at).micros() as f64 / 1e6);
                let acknowledge = catalogue.rules.worker(&task.worker_type).acknowledge;
                let mut offer = Published {
                    task_id: offer.0,
                    attempt: offer.1,
                    expires_at,
                    sequence: sequence.and_then(|sequence| i64::try_from(sequence).ok()),
                };
                if acknowledge == Acknowledge::Publish {
                    offer.expires_at = now.plus(run);
                    offer.sequence = None;
                    accepted.push(offer);
                } else {
                    confirmed.push(offer);
                }
            }
            Err(undelivered) => {
                let (reason, list) = match &undelivered {
                    Undelivered::Unroutable(_) => ("unroutable", &mut unroutable),
                    Undelivered::TooLarge(_) => ("too_large", &mut too_large),
                    Undelivered::Unconfirmed(_) => ("unconfirmed", &mut unconfirmed),
                };
                counter!("muster_publish_failures_total", "queue" => queue_label(&catalogue, &task.queue), "reason" => reason).increment(1);
                if list.is_empty() {
                    tracing::warn!(
                        task = offer.0,
                        queue = task.queue,
                        reason,
                        "a task was not published: {undelivered}"
                    );
                }
                list.push(PutOff {
                    task_id: offer.0,
                    attempt: offer.1,
                    why: undelivered.to_string(),
                });
            }
        }
    }
    for (queue, many) in published_to {
        counter!("muster_tasks_published_total", "queue" => queue_label(&catalogue, &queue))
            .increment(many);
    }
    if !confirmed.is_empty() {
        persist!(
            ground,
            "dispatch",
            ground.store.mark_published(&confirmed, false, now)
        )?;
    }
    if !accepted.is_empty() {
        persist!(
            ground,
            "dispatch",
            ground.store.mark_published(&accepted, true, now)
        )?;
    }
    if !unroutable.is_empty() {
        persist!(
            ground,
            "dispatch",
            ground
                .store
                .put_off(&unroutable, now.plus(UNROUTABLE_PAUSE))
        )?;
    }
    if !unconfirmed.is_empty() {
        persist!(
            ground,
            "dispatch",
            ground
                .store
                .put_off(&unconfirmed, now.plus(UNCONFIRMED_PAUSE))
        )?;
    }
    if !too_large.is_empty() {
        let ids: Vec<String> = too_large.into_iter().map(|offer| offer.task_id).collect();
        persist!(
            ground,
            "dispatch",
            ground.store.bury(&ids, "too_large", now)
        )?;
    }
    Ok(())
}

/// Avoiding ends with its time, and at once where nobody else of that type has been heard lately.
fn spare(task: &mut Claimed, heard: &[(String, String)], now: Moment) {
    task.avoid.retain(|avoided| avoided.until > now);
    let avoided = |worker: &str| task.avoid.iter().any(|avoided| avoided.worker == worker);
    let somebody = heard
        .iter()
        .any(|(worker_type, worker)| *worker_type == task.worker_type && !avoided(worker));
    if !somebody {
        task.avoid.clear();
    }
}

/// Looks again at what may have changed since the decision. Inputs that no longer pass leave their task; answers with
/// their keys.
fn look_again(catalogue: &Catalogue, task: &mut Claimed) -> Vec<String> {
    let plugin = catalogue.plugins.get(&task.plugin_id);
    let organization = catalogue.organizations.get(&task.organization);
    let (Some(plugin), Some(organization)) = (plugin, organization) else {
        return Vec::new();
    };
    let of_deleted = task.occasion.get("deleted").is_some();
    let mut refused = Vec::new();
    task.inputs.retain(|input| {
        let passes = match &input.object {
            // What is deleted keeps no level; it was looked at when it was decided.
            Some(_) if of_deleted => plugin.enabled_for(&organization.id),
            Some(object) => gates(catalogue, plugin, organization, Some(object), &[]).is_ok(),
            None => false,
        };
        if !passes {
            refused.push(input.primary_key.clone());
        }
        passes
    });
    // Without one of them the others are no join.
    if !refused.is_empty() && task.occasion.get("joined").is_some() {
        refused.extend(task.inputs.drain(..).map(|input| input.primary_key));
    }
    refused
}

/// Fills in what the message says; nothing where there is no task any more.
fn prepare(catalogue: &Catalogue, task: &mut Claimed, now: Moment) -> Option<Offer> {
    let plugin = catalogue.plugins.get(&task.plugin_id)?;
    let organization = catalogue.organizations.get(&task.organization)?;
    if task.inputs.is_empty() && gates(catalogue, plugin, organization, None, &[]).is_err() {
        return None;
    }
    let said = catalogue
        .schedules
        .get(&task.schedule_id)
        .map_or(SaidTimeouts::default(), |scheduled| {
            scheduled.schedule.timeouts
        });
    let clocks = timeouts(&plugin.timeouts, &said, &catalogue.rules.defaults);
    let text = |name: &str| {
        task.occasion
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Some(Offer {
        task_id: task.task_id.clone(),
        attempt: task.attempt,
        run_id: task.run_id.clone(),
        schedule: task.schedule.clone(),
        organization: task.organization.clone(),
        worker_type: task.worker_type.clone(),
        queue: task.queue.clone(),
        arguments: arguments(catalogue, plugin, task),
        inputs: task.inputs.iter_mut().map(offered).collect(),
        settings: plugin.settings_for(&task.organization),
        plugin: plugin.clone(),
        parameters: task.parameters.clone(),
        event_id: text("event_id"),
        event_type: text("event_type"),
        traceparent: Some(traceparent_of(task)),
        cause: task.cause,
        priority: task.priority,
        scheduled_for: task.scheduled_for,
        created_at: task.created_at,
        offered_at: now,
        expires_at: now.plus(clocks.queue),
        queue_timeout: clocks.queue,
        heartbeat_timeout: clocks.heartbeat,
        run_timeout: clocks.run,
        avoid_workers: task
            .avoid
            .iter()
            .map(|avoided| avoided.worker.clone())
            .collect(),
        deduplication_key: task.deduplication_key.clone(),
    })
}

fn traceparent_of(task: &Claimed) -> String {
    let carried = task.occasion.get("traceparent").and_then(Value::as_str);
    trail::of_task(&task.run_id, carried)
}

/// An input as it is now, taken from the claim.
fn offered(input: &mut ClaimedInput) -> OfferedInput {
    let object = input.object.take().map(Arc::unwrap_or_clone);
    let object = object.unwrap_or_default();
    OfferedInput {
        object_type: input.object_type.clone(),
        primary_key: input.primary_key.clone(),
        attributes: object.attributes,
        level: object.level,
    }
}

/// The plugin's arguments with each placeholder filled, and repeated for each input of a batch.
fn arguments(catalogue: &Catalogue, plugin: &Plugin, task: &Claimed) -> Vec<String> {
    let known = |name: &str| name == FILE || catalogue.rules.known_type(name);
    let mut arguments = Vec::with_capacity(plugin.oci_arguments.len());
    for argument in &plugin.oci_arguments {
        let mut filled = Vec::new();
        for input in &task.inputs {
            let blank = Object {
                key: ObjectKey {
                    organization: task.organization.clone(),
                    primary_key: input.primary_key.clone(),
                },
                object_type: input.object_type.clone(),
                ..Object::default()
            };
            let object = input.object.as_deref().unwrap_or(&blank);
            let name = catalogue.rules.natural_name(object);
            filled.extend(fill(argument, &known, &input.object_type, &name));
        }
        if filled.is_empty() {
            arguments.push(argument.clone());
        } else {
            arguments.extend(filled);
        }
    }
    arguments
}

fn letter(catalogue: &Catalogue, offer: &Offer) -> Letter {
    let worker = catalogue.rules.worker(&offer.worker_type);
    let body = match worker.format {
        Envelope::Muster => wire::task_message(offer),
        Envelope::Openkat => wire::openkat_task_message(offer),
    };
    // What nobody accepts in time is offered again, and the old message is not to pile up beside the new one. Where the
    // confirm is the acceptance, there is nothing to wait for.
    let waits = offer.expires_at.since(offer.offered_at).micros() / 1000;
    let expires = (worker.acknowledge == Acknowledge::Status).then(|| {
        u64::try_from(waits)
            .unwrap_or(0)
            .clamp(1, LONGEST_EXPIRY_MS)
    });
    Letter {
        address: Address::Tasks(task_queue(catalogue, &offer.worker_type, &offer.queue)),
        message_id: Letter::offer_id(&offer.task_id, offer.attempt),
        correlation_id: Some(offer.task_id.clone()),
        content_type: "application/json",
        headers: offer
            .traceparent
            .iter()
            .map(|trace| ("traceparent".to_owned(), trace.clone()))
            .collect(),
        // For information: 9 is the most urgent there, 0 the least.
        priority: u8::try_from(9 - offer.priority.clamp(0, 9)).unwrap_or(0),
        expires_in_ms: expires,
        body,
    }
}

/// The routing key is the worker type; a part of a worker type that has a queue of its own is reached by its name.
pub fn task_queue(catalogue: &Catalogue, worker_type: &str, queue: &str) -> TaskQueue {
    let whole = catalogue.rules.worker(worker_type).queue == queue;
    TaskQueue {
        queue: queue.to_owned(),
        routing_key: if whole {
            worker_type.to_owned()
        } else {
            queue.to_owned()
        },
    }
}
