//! What we declare, and what it means when the broker has something else under that name.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use super::{ACCESS_REFUSED, NOT_ALLOWED, PRECONDITION_FAILED, RESOURCE_LOCKED, code, said, short};
use crate::bus::{BusError, Role, TaskQueue, Topology, names};

/// Everything but the task queues. Anything that exists as we want it stays as it is.
pub(super) async fn declare(channel: &Channel, topology: &Topology) -> Result<(), BusError> {
    for (name, kind, word) in [
        (names::EVENTS, ExchangeKind::Topic, "topic"),
        (names::TASKS, ExchangeKind::Direct, "direct"),
        (names::CONTROL, ExchangeKind::Fanout, "fanout"),
        (names::LIFECYCLE, ExchangeKind::Topic, "topic"),
    ] {
        declare_exchange(channel, name, kind, word).await?;
    }
    declare_queue(channel, names::STATUS).await?;
    if topology.role == Role::Worker {
        return Ok(());
    }
    declare_queue(channel, names::COMMANDS).await?;
    for intake in &topology.intakes {
        if intake.native {
            declare_queue(channel, names::EVENTS).await?;
            bind(channel, names::EVENTS, names::EVENTS, "#").await?;
        } else {
            declare_queue(channel, &intake.queue).await?;
        }
    }
    Ok(())
}

pub(super) async fn declare_task_queue(
    channel: &Channel,
    task_queue: &TaskQueue,
) -> Result<(), BusError> {
    declare_queue(channel, &task_queue.queue).await?;
    bind(
        channel,
        &task_queue.queue,
        names::TASKS,
        &task_queue.routing_key,
    )
    .await
}

/// The queue by which a worker hears what all are told; the broker names it, and drops it with the connection.
pub(super) async fn control_queue(channel: &Channel) -> Result<String, BusError> {
    let ours = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(short(""), ours, FieldTable::default())
        .await;
    let queue = declared.map_err(|error| trouble("a queue of our own", "exclusive", &error))?;
    let name = queue.name().to_string();
    bind(channel, &name, names::CONTROL, "").await?;
    Ok(name)
}

/// A plain classic queue, to the letter: workers and OpenKAT's producers declare theirs so too, and
/// whoever differs is refused.
pub(super) fn durable_queue() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

async fn declare_queue(channel: &Channel, name: &str) -> Result<(), BusError> {
    let declared = channel
        .queue_declare(short(name), durable_queue(), FieldTable::default())
        .await;
    declared.map(drop).map_err(|error| {
        let ours = "durable, not exclusive, not deleted with its last consumer, without arguments";
        trouble(&format!("queue `{name}`"), ours, &error)
    })
}

async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    word: &str,
) -> Result<(), BusError> {
    let ours = format!("of type {word}, durable, without arguments");
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel
        .exchange_declare(short(name), kind, options, FieldTable::default())
        .await;
    declared.map_err(|error| trouble(&format!("exchange `{name}`"), &ours, &error))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), BusError> {
    let bound = channel
        .queue_bind(
            short(queue),
            short(exchange),
            short(key),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await;
    bound.map_err(|error| {
        let what = format!("the binding of queue `{queue}` to exchange `{exchange}` by `{key}`");
        trouble(&what, "made so", &error)
    })
}

fn trouble(what: &str, ours: &str, error: &lapin::Error) -> BusError {
    let said = said(error);
    match code(error) {
        Some(PRECONDITION_FAILED | RESOURCE_LOCKED) => BusError::Conflict(format!(
            "{what} exists and differs from what muster declares: muster wants it {ours}; \
             the broker says: {said}. Remove or rename the one that exists, or give muster another name"
        )),
        Some(ACCESS_REFUSED | NOT_ALLOWED) => {
            BusError::Refused(format!("{what} may not be declared: {said}"))
        }
        _ => BusError::OutOfReach(format!("{what} could not be declared: {said}")),
    }
}
