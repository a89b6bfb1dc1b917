//! RabbitMQ, by AMQP 0-9-1.
//!
//! Delivery tags, channels, and which queues were declared are of one connection, and so they live in its
//! session: nothing of an old connection can be mistaken for something of the new one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::StreamExt;
use lapin::message::Delivery as Arrived;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, ErrorKind, Event};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use tracing::{debug, info};

use crate::bus::link::{Buffer, End, Gate, Link, Session, lock};
use crate::bus::{
    Answer, Bus, BusError, Condition, Delivery, Intake, Letter, Role, Source, TaskQueue, Topology,
    Verdict, names,
};
use crate::moment::Moment;
use book::{Acknowledged, Book, Settlement};
use broker::Broker;
use declare::{control_queue, declare, declare_task_queue, durable_queue};

mod book;
mod broker;
mod declare;
mod publish;

/// A broker that needs longer to let us in is away.
const CONNECT: Duration = Duration::from_secs(20);
/// So long may confirms stay out, and a second more for each megabyte.
const CONFIRM: Duration = Duration::from_secs(30);
/// Farewells are short: the broker cleans up after a lost connection too.
const FAREWELL: Duration = Duration::from_secs(5);
/// What all workers are told is small.
const CONTROL_PREFETCH: u16 = 100;
/// How often a replica that stands by looks whether the queue is free.
const STAND_BY: Duration = Duration::from_secs(1);

/// Asks for a queue as it is, and declares none.
fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions {
        passive: true,
        ..durable_queue()
    }
}

/// A connection to RabbitMQ that mends itself.
pub struct Rabbit {
    shared: Arc<Shared>,
    _closed_when_dropped: DropGuard,
}

/// Settles a delivery; void once its channel is gone.
pub struct Receipt {
    lane: Arc<Lane>,
    tag: u64,
}

struct Shared {
    broker: Broker,
    topology: Topology,
    link: Arc<Link<Connected>>,
    buffer: Buffer<Receipt>,
    taking: Gate,
}

/// What one connection has.
struct Connected {
    connection: Connection,
    /// Publishing channels that nobody uses now. Each publication has one for itself, because a returned
    /// message can only be told apart by its id.
    spare: Mutex<Vec<Channel>>,
    /// The task queues that are declared and bound.
    known: Mutex<HashSet<TaskQueue>>,
    /// Consumers that keep their queue from others, and do not read it any more.
    resting: Mutex<Vec<(Arc<Lane>, Consumer)>>,
    /// All lanes, until the connection is closed. The client closes a channel that nobody holds any more; where it does
    /// that while the connection closes, it takes it for an error and hangs up, or never closes, with what was
    /// acknowledged still unsent.
    lanes: Mutex<Vec<Arc<Lane>>>,
    end: End,
}

/// A channel that is consumed from, and what is settled of it.
struct Lane {
    channel: Channel,
    /// Its consumer keeps others from the queue.
    exclusive: bool,
    book: Mutex<Book>,
}

impl Rabbit {
    /// Connects, declares and begins to consume. Waits for a broker that is away, for ever; what waiting
    /// cannot mend (another declaration, refused credentials, a wrong URL) is an error at once.
    pub async fn open(url: &str, topology: &Topology) -> Result<Rabbit, BusError> {
        let broker = Broker::parse(url)?;
        let link = Arc::new(Link::to(broker.to_string()));
        // Each queue keeps a place while it waits, and must leave one to the others.
        let queues = topology.intakes.len() + topology.task_queues.len() + 2;
        let shared = Arc::new(Shared {
            broker,
            topology: topology.clone(),
            link: Arc::clone(&link),
            buffer: Buffer::of(usize::from(topology.prefetch).max(queues)),
            taking: Gate::open(),
        });
        let (_closed_when_dropped, ours) = (link.closing.clone().drop_guard(), Arc::clone(&shared));
        link.open(move || Connected::establish(Arc::clone(&ours)))
            .await?;
        Ok(Rabbit {
            shared,
            _closed_when_dropped,
        })
    }

    /// Whether these credentials are let in: a connection that is made and closed again. Nothing is read or declared.
    pub async fn admits(url: &str) -> Result<(), BusError> {
        let connection = Broker::parse(url)?.connect().await?;
        let _ = timeout(FAREWELL, connection.close(200, ShortString::default())).await;
        Ok(())
    }
}

impl Bus for Rabbit {
    type Receipt = Receipt;

    async fn next(&self) -> Option<Delivery<Receipt>> {
        // What a lost connection left in the buffer comes again; handing it out would be work for nothing.
        let Shared { link, buffer, .. } = &*self.shared;
        buffer
            .next(&link.stopping, |receipt| receipt.lane.is_open())
            .await
    }

    async fn settle(&self, settled: Vec<(Receipt, Verdict)>) {
        let mut lanes: Vec<(Arc<Lane>, Settlement)> = Vec::new();
        for (Receipt { lane, tag }, verdict) in settled {
            let known = lanes
                .iter()
                .position(|(other, _)| Arc::ptr_eq(other, &lane));
            let place = known.unwrap_or_else(|| {
                lanes.push((lane, Settlement::default()));
                lanes.len() - 1
            });
            match verdict {
                Verdict::Done => lanes[place].1.done.push(tag),
                Verdict::Again => lanes[place].1.again.push(tag),
            }
        }
        for (lane, settlement) in lanes {
            lane.settle(settlement);
        }
    }

    async fn publish(&self, letters: Vec<Letter>) -> Vec<Answer> {
        match self.shared.link.session() {
            Ok(session) => session.publish(&letters).await,
            Err(undelivered) => letters.iter().map(|_| Err(undelivered.clone())).collect(),
        }
    }

    async fn waiting(&self) -> Result<Vec<(String, u64)>, String> {
        let Shared { link, topology, .. } = &*self.shared;
        let session = link.session().map_err(|away| away.to_string())?;
        session
            .waiting(topology)
            .await
            .map_err(|error| said(&error))
    }

    fn condition(&self) -> Condition {
        self.shared.link.condition()
    }

    fn take_tasks(&self, take: bool) {
        self.shared.taking.set(take);
    }

    async fn stop(&self) {
        self.shared.link.stopping.cancel();
        let buffered = self.shared.buffer.empty().await;
        let shared = buffered
            .into_iter()
            .filter(|receipt| !receipt.lane.exclusive);
        self.settle(shared.map(|receipt| (receipt, Verdict::Again)).collect())
            .await;
    }

    async fn close(&self) {
        self.shared.link.close().await;
    }
}

impl Session for Connected {
    fn end(&self) -> &End {
        &self.end
    }

    async fn farewell(&self) {
        // Frames go out in order, so what was acknowledged before this is known to the broker before it.
        let close = self.connection.close(200, ShortString::default());
        if !matches!(timeout(FAREWELL, close).await, Ok(Ok(()))) {
            debug!("the connection ended without a farewell");
        }
    }
}

impl Connected {
    async fn establish(shared: Arc<Shared>) -> Result<Arc<Connected>, BusError> {
        let connection = shared.broker.connect().await?;
        let session = Arc::new(Connected {
            connection,
            spare: Mutex::default(),
            known: Mutex::default(),
            resting: Mutex::default(),
            lanes: Mutex::default(),
            end: End::open(),
        });
        tokio::spawn(watch(Arc::clone(&shared), Arc::clone(&session)));
        let consumed = timeout(CONNECT, session.declare_and_consume(&shared)).await;
        let consumed = consumed.unwrap_or_else(|_| {
            Err(BusError::OutOfReach(format!(
                "{} does not answer declarations",
                shared.broker
            )))
        });
        if let Err(trouble) = consumed {
            session.end.come(trouble.to_string());
            session.farewell().await;
            return Err(trouble);
        }
        Ok(session)
    }

    async fn declare_and_consume(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), BusError> {
        let topology = &shared.topology;
        let channel = self.connection.create_channel().await.map_err(lost)?;
        declare(&channel, topology).await?;
        for queue in &topology.task_queues {
            declare_task_queue(&channel, queue).await?;
            lock(&self.known).insert(queue.clone());
        }
        if shared.link.stopping.is_cancelled() {
            return Ok(());
        }
        if topology.role == Role::Worker {
            return self.consume_as_worker(shared, channel).await;
        }
        let lane = self.lane(channel, topology.prefetch, false).await?;
        let mut sources = vec![
            (names::STATUS, Source::Status),
            (names::COMMANDS, Source::Commands),
        ];
        for (place, intake) in topology.intakes.iter().enumerate() {
            let source = Source::Events(place);
            if intake.exclusive {
                shared
                    .buffer
                    .pump(Arc::clone(self).stand_by(Arc::clone(shared), place));
            } else if intake.native {
                sources.push((names::EVENTS, source));
            } else {
                sources.push((&intake.queue, source));
            }
        }
        for (queue, source) in sources {
            let consumer = lane.consume(queue).await.map_err(|error| {
                if code(&error) == Some(ACCESS_REFUSED) {
                    BusError::Refused(format!("queue `{queue}` cannot be read: {}", said(&error)))
                } else {
                    lost(error)
                }
            })?;
            let (session, lane) = (Arc::clone(self), Arc::clone(&lane));
            shared
                .buffer
                .pump(session.pump(Arc::clone(shared), lane, consumer, source));
        }
        Ok(())
    }

    async fn lane(
        &self,
        channel: Channel,
        prefetch: u16,
        exclusive: bool,
    ) -> Result<Arc<Lane>, BusError> {
        let lane = Lane::on(channel, prefetch, exclusive).await.map_err(lost)?;
        lock(&self.lanes).push(Arc::clone(&lane));
        Ok(lane)
    }

    /// The task queues, each with so many messages on the way as the topology says, and what all workers are told, by
    /// a queue of our own that goes with the connection.
    async fn consume_as_worker(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        channel: Channel,
    ) -> Result<(), BusError> {
        let topology = &shared.topology;
        let told = control_queue(&channel).await?;
        let lane = self.lane(channel, CONTROL_PREFETCH, false).await?;
        let consumer = lane.consume(&told).await.map_err(lost)?;
        let session = Arc::clone(self);
        shared
            .buffer
            .pump(session.pump(Arc::clone(shared), lane, consumer, Source::Control));
        for TaskQueue { queue, .. } in &topology.task_queues {
            let channel = self.connection.create_channel().await.map_err(lost)?;
            let lane = self.lane(channel, topology.prefetch, false).await?;
            let session = Arc::clone(self);
            shared
                .buffer
                .pump(session.pump_tasks(Arc::clone(shared), lane, queue.clone()));
        }
        Ok(())
    }

    /// Consumes from a task queue whenever, and as long as, tasks are taken: what we do not consume goes to others.
    async fn pump_tasks(self: Arc<Self>, shared: Arc<Shared>, lane: Arc<Lane>, queue: String) {
        loop {
            tokio::select! {
                biased;
                () = shared.link.stopping.cancelled() => return,
                () = self.end.reached() => return,
                () = shared.taking.is(true) => {}
            }
            let consumer = match lane.consume(&queue).await {
                Ok(consumer) => consumer,
                Err(error) => return self.end.come(format!("queue `{queue}`: {}", said(&error))),
            };
            Arc::clone(&self)
                .pump(
                    Arc::clone(&shared),
                    Arc::clone(&lane),
                    consumer,
                    Source::Tasks,
                )
                .await;
        }
    }

    /// What is ready in each queue that the service reads.
    async fn waiting(&self, topology: &Topology) -> Result<Vec<(String, u64)>, lapin::Error> {
        let mut queues: Vec<&str> = topology.intakes.iter().map(Intake::read_from).collect();
        queues.extend([names::STATUS, names::COMMANDS]);
        let mut waiting = Vec::with_capacity(queues.len());
        // A queue that is gone closes the channel that asks for it.
        let channel = self.connection.create_channel().await?;
        for queue in queues {
            let state = channel
                .queue_declare(short(queue), passive(), FieldTable::default())
                .await?;
            waiting.push((queue.to_owned(), u64::from(state.message_count())));
        }
        channel.close(200, ShortString::default()).await?;
        Ok(waiting)
    }

    /// Waits until no other replica reads the queue, then reads it alone.
    async fn stand_by(self: Arc<Self>, shared: Arc<Shared>, place: usize) {
        let Some(intake) = shared.topology.intakes.get(place) else {
            return;
        };
        let queue = intake.read_from();
        let mut told = false;
        loop {
            match self.take_alone(queue, shared.topology.prefetch).await {
                Ok(Some((lane, consumer))) => {
                    info!(queue, "reading this queue alone");
                    return self
                        .pump(Arc::clone(&shared), lane, consumer, Source::Events(place))
                        .await;
                }
                Ok(None) if told => {}
                Ok(None) => {
                    info!(queue, "another reader has this queue; standing by");
                    told = true;
                }
                Err(error) => return self.end.come(format!("queue `{queue}`: {}", said(&error))),
            }
            tokio::select! {
                () = shared.link.stopping.cancelled() => return,
                () = self.end.reached() => return,
                () = tokio::time::sleep(STAND_BY) => {}
            }
        }
    }

    /// An exclusive consumer on a channel of its own: a refusal closes the channel it comes on.
    async fn take_alone(
        &self,
        queue: &str,
        prefetch: u16,
    ) -> Result<Option<(Arc<Lane>, Consumer)>, lapin::Error> {
        let channel = self.connection.create_channel().await?;
        // Looking is quiet; trying and being refused is an error in the logs of both sides.
        let state = channel
            .queue_declare(short(queue), passive(), FieldTable::default())
            .await?;
        if state.consumer_count() > 0 {
            channel.close(200, ShortString::default()).await?;
            return Ok(None);
        }
        let lane = Lane::on(channel, prefetch, true).await?;
        match lane.consume(queue).await {
            Ok(consumer) => {
                lock(&self.lanes).push(Arc::clone(&lane));
                Ok(Some((lane, consumer)))
            }
            Err(error) if code(&error) == Some(ACCESS_REFUSED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Carries what one consumer receives to the common buffer, until the session breaks or we stop.
    async fn pump(
        self: Arc<Self>,
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        mut consumer: Consumer,
        source: Source,
    ) {
        let stopping = async {
            match source {
                Source::Tasks => tokio::select! {
                    () = shared.link.stopping.cancelled() => {}
                    () = shared.taking.is(false) => {}
                },
                _ => shared.link.stopping.cancelled().await,
            }
        };
        let broken = self.end.reached();
        tokio::pin!(stopping, broken);
        loop {
            // The place in the buffer comes first: a message is taken only when it can be put down.
            let place = tokio::select! {
                biased;
                () = &mut stopping => break,
                () = &mut broken => return,
                place = shared.buffer.place() => place,
            };
            let Some(place) = place else { return };
            let arrived = tokio::select! {
                biased;
                () = &mut stopping => break,
                () = &mut broken => return,
                arrived = consumer.next() => arrived,
            };
            match arrived {
                Some(Ok(arrived)) => place.send(delivery(arrived, source, &lane)),
                Some(Err(error)) => return self.end.come(said(&error)),
                None => {
                    let queue = consumer.queue();
                    return self
                        .end
                        .come(format!("the broker ended the consumer of queue `{queue}`"));
                }
            }
        }
        // Others would read on while we still work on what came before: this queue is let go at the close, and
        // then what is left of it goes back in its order.
        if lane.exclusive {
            return lock(&self.resting).push((lane, consumer));
        }
        let hand_back = async {
            lane.channel
                .basic_cancel(consumer.tag(), BasicCancelOptions::default())
                .await?;
            let mut rest = Settlement::default();
            while let Some(Ok(arrived)) = consumer.next().await {
                rest.again.push(arrived.delivery_tag);
            }
            lane.settle(rest);
            Ok::<_, lapin::Error>(())
        };
        // Where the broker does not answer any more, it takes everything back by itself.
        let _ = timeout(FAREWELL, hand_back).await;
    }
}

/// Follows what the client says of the connection.
async fn watch(shared: Arc<Shared>, session: Arc<Connected>) {
    let mut events = session.connection.events_listener().boxed();
    loop {
        let event = tokio::select! {
            () = session.end.reached() => return,
            () = shared.link.closing.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                shared
                    .link
                    .set_trouble(Some(format!("the broker blocks publishers: {reason}")));
            }
            Some(Event::ConnectionUnblocked) => shared.link.set_trouble(None),
            // Channels fail alone, and whoever uses them notices.
            Some(Event::Error(_)) if session.connection.status().connected() => {}
            Some(Event::Error(error)) => return session.end.come(said(&error)),
            Some(_) => {}
            None => return session.end.come("the connection ended".to_owned()),
        }
    }
}

impl Lane {
    async fn on(
        channel: Channel,
        prefetch: u16,
        exclusive: bool,
    ) -> Result<Arc<Lane>, lapin::Error> {
        let options = BasicQosOptions::default();
        channel.basic_qos(prefetch, options).await?;
        let book = Mutex::default();
        Ok(Arc::new(Lane {
            channel,
            exclusive,
            book,
        }))
    }

    async fn consume(&self, queue: &str) -> Result<Consumer, lapin::Error> {
        let options = BasicConsumeOptions {
            exclusive: self.exclusive,
            ..BasicConsumeOptions::default()
        };
        let any_tag = ShortString::default();
        self.channel
            .basic_consume(short(queue), any_tag, options, FieldTable::default())
            .await
    }

    fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Without an await: what the book says and what the broker is told cannot come apart when the caller
    /// is cancelled. The client has queued a frame when its future was polled once.
    fn settle(&self, settlement: Settlement) {
        let mut book = lock(&self.book);
        if !self.is_open() {
            return;
        }
        for tag in &settlement.again {
            let requeue = BasicNackOptions {
                multiple: false,
                requeue: true,
            };
            let _ = self.channel.basic_nack(*tag, requeue).now_or_never();
        }
        let Acknowledged { up_to, alone } = book.enter(settlement);
        for (tag, multiple) in up_to
            .map(|tag| (tag, true))
            .into_iter()
            .chain(alone.into_iter().map(|tag| (tag, false)))
        {
            let _ = self
                .channel
                .basic_ack(tag, BasicAckOptions { multiple })
                .now_or_never();
        }
    }
}

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// The broker's own number for an error, where it was the broker that complained.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What is wrong, in the broker's words where it spoke.
fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

fn lost(error: lapin::Error) -> BusError {
    BusError::OutOfReach(said(&error))
}

/// AMQP names have at most 255 bytes. Settings that break this are refused by the broker as unknown names.
fn short(name: &str) -> ShortString {
    let mut end = name.len().min(255);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::try_new(&name[..end]).unwrap_or_default()
}

/// Our form of a message. The body is moved, not copied.
fn delivery(arrived: Arrived, source: Source, lane: &Arc<Lane>) -> Delivery<Receipt> {
    let properties = &arrived.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    Delivery {
        source,
        content_type: text(properties.content_type()),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        headers: headers
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.to_string(), words(value)?)))
            .collect(),
        redelivered: arrived.redelivered,
        receipt: Receipt {
            lane: Arc::clone(lane),
            tag: arrived.delivery_tag,
        },
        routing_key: arrived.routing_key.into(),
        body: arrived.data,
    }
}

/// A header as text. Producers send the attributes of an event with the types of AMQP; tables and lists are
/// nobody's attribute.
fn words(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Timestamp(seconds) => {
            let micros = i64::try_from(*seconds).ok()?.checked_mul(1_000_000)?;
            Moment::from_micros(micros).to_string()
        }
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_text() {
        assert_eq!(
            words(&AMQPValue::LongString("a".into())).as_deref(),
            Some("a")
        );
        assert_eq!(words(&AMQPValue::LongUInt(7)).as_deref(), Some("7"));
        assert_eq!(
            words(&AMQPValue::Timestamp(1_000_000_000)).as_deref(),
            Some("2001-09-09T01:46:40Z")
        );
        assert_eq!(words(&AMQPValue::Timestamp(u64::MAX)), None);
        assert_eq!(words(&AMQPValue::Void), None);
    }
}
