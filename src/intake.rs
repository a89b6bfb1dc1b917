//! Loop: a batch of deliveries becomes one transaction, then one settlement.
//!
//! Read, decide, commit, settle: in that order, always. What cannot be read becomes a dead letter; what the store
//! refuses is found by halving the batch, so that one message never fails the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{Address, Bus, Delivery, Letter, Source, Verdict};
use crate::ground::Ground;
use crate::moment::Moment;
use crate::store::StoreError;
use crate::task::Status;
use crate::wire::{self, Line};

mod batch;
mod explain;

pub use batch::{Handled, Incoming, handle};
pub use explain::{Explained, explain};

/// How much is taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    pub count: usize,
    pub linger: Duration,
}

/// What a delivery is to this loop.
enum Sorted {
    Message,
    Command,
    Clock(Moment),
}

/// The loop. `tick` is called when a line of input has set the clock, and returns when all that is due is decided.
pub async fn run<B: Bus>(
    ground: Arc<Ground>,
    bus: Arc<B>,
    size: BatchSize,
    lines: bool,
    tick: impl AsyncFn(),
) -> Result<(), StoreError> {
    let mut batch: Vec<Incoming> = Vec::with_capacity(size.count);
    let mut receipts: Vec<(B::Receipt, Verdict)> = Vec::with_capacity(size.count);
    let mut open = true;
    while open {
        ground.beat("intake");
        let mut clock = None;
        let mut commands = Vec::new();
        let mut deadline = Instant::now() + Duration::from_secs(1);
        while batch.len() < size.count && clock.is_none() {
            let delivery = tokio::select! {
                biased;
                () = ground.stop.cancelled() => { open = false; break }
                next = tokio::time::timeout_at(deadline, bus.next()) => next,
            };
            match delivery {
                Err(_) => break,
                Ok(None) => {
                    open = false;
                    break;
                }
                Ok(Some(delivery)) => {
                    if batch.is_empty() {
                        deadline = Instant::now() + size.linger;
                    }
                    match sort(&delivery, lines) {
                        Sorted::Clock(now) => {
                            clock = Some(now);
                            receipts.push((delivery.receipt, Verdict::Done));
                        }
                        Sorted::Command => {
                            commands.push(refusal(&delivery));
                            receipts.push((delivery.receipt, Verdict::Done));
                        }
                        Sorted::Message => {
                            let (incoming, receipt) = incoming(&ground, delivery);
                            batch.push(incoming);
                            receipts.push((receipt, Verdict::Done));
                        }
                    }
                }
            }
        }
        if !batch.is_empty() {
            match handle(&ground, &batch).await {
                Ok(handled) => tell_workers(bus.as_ref(), &handled.cancels).await,
                Err(error) => {
                    // Nothing of it is acknowledged: the broker delivers it again, to us or to another replica.
                    let again = receipts
                        .drain(..)
                        .map(|(receipt, _)| (receipt, Verdict::Again))
                        .collect();
                    bus.settle(again).await;
                    if ground.stop.is_cancelled() && error.passing() {
                        return Ok(());
                    }
                    return Err(error);
                }
            }
            batch.clear();
        }
        let replies: Vec<Letter> = commands.into_iter().flatten().collect();
        if !replies.is_empty() {
            bus.publish(replies).await;
        }
        if !receipts.is_empty() {
            bus.settle(std::mem::take(&mut receipts)).await;
        }
        if let Some(now) = clock {
            // What came before belongs to the clock as it was, its expansions too; then the clock moves.
            tick().await;
            ground.clock.fix(now);
            tick().await;
        }
    }
    Ok(())
}

fn sort<R>(delivery: &Delivery<R>, lines: bool) -> Sorted {
    if delivery.source == Source::Commands {
        return Sorted::Command;
    }
    if lines
        && matches!(delivery.source, Source::Events(_))
        && let Ok(Line::Clock(now)) = wire::read_line(&delivery.body)
    {
        return Sorted::Clock(now);
    }
    Sorted::Message
}

fn incoming<R>(ground: &Ground, delivery: Delivery<R>) -> (Incoming, R) {
    let (intake, status) = match delivery.source {
        Source::Events(intake) => (intake, false),
        _ => (0, true),
    };
    let queue = match (status, ground.intakes.get(intake)) {
        (false, Some(rule)) => rule.queue.clone(),
        _ => crate::bus::names::STATUS.to_owned(),
    };
    let incoming = Incoming {
        intake,
        queue,
        routing_key: delivery.routing_key,
        content_type: delivery.content_type,
        message_id: delivery.message_id,
        headers: delivery.headers,
        body: delivery.body,
        status,
    };
    (incoming, delivery.receipt)
}

/// Commands are not taken yet; whoever asks one is told so.
fn refusal<R>(delivery: &Delivery<R>) -> Option<Letter> {
    Some(Letter {
        address: Address::Reply(delivery.reply_to.clone()?),
        message_id: delivery.message_id.clone().unwrap_or_default(),
        correlation_id: delivery.correlation_id.clone(),
        content_type: "application/json",
        headers: Vec::new(),
        priority: 0,
        expires_in_ms: None,
        body: wire::command_refusal(&delivery.body),
    })
}

async fn tell_workers<B: Bus>(bus: &B, cancels: &[Status]) {
    if cancels.is_empty() {
        return;
    }
    let letters = cancels
        .iter()
        .map(|status| Letter {
            address: Address::Control,
            message_id: format!("{}:cancel", status.task_id),
            correlation_id: Some(status.task_id.clone()),
            content_type: "application/json",
            headers: Vec::new(),
            priority: 0,
            expires_in_ms: None,
            body: wire::cancel(&status.task_id, status.attempt, Some(&status.worker)),
        })
        .collect();
    // It may be lost; the clocks of the task are what counts.
    bus.publish(letters).await;
}
