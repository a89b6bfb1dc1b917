//! NATS with JetStream.
//!
//! JetStream does not know which client has a message: it waits for an acknowledgement, and delivers again
//! when none came in time. So receipts stay good when a connection is lost, and what we hold for long (the
//! database is away) is reported as in progress, again and again, until it is settled or dropped.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{AckKind, Context, ContextBuilder};
use async_nats::{Client, Subject};
use futures::future::FutureExt;
use futures::stream::StreamExt;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use tracing::{debug, info, warn};

use crate::bus::link::{Buffer, End, Gate, Link, Session, lock};
use crate::bus::{
    Answer, Bus, BusError, Condition, Delivery, Intake, Letter, Lying, Role, Source, TaskQueue,
    Topology, Verdict, names,
};
use declare::Declared;
use lease::Lease;
use server::Server;

mod declare;
mod lease;
mod publish;
mod server;
mod void;

/// A broker that needs longer to answer is away.
const ANSWER: Duration = Duration::from_secs(10);
/// Farewells are short: the broker cleans up after a lost connection too.
const FAREWELL: Duration = Duration::from_secs(5);
/// A message that a dead process held is delivered again after this long.
const ACK_WAIT: Duration = Duration::from_secs(15);
/// How often what is held is reported as in progress.
const PROGRESS: Duration = Duration::from_secs(4);
/// How often a replica that stands by looks whether the queue is free.
const STAND_BY: Duration = Duration::from_secs(1);
/// The broker says so often that it is there, while it has nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The name of the durable consumers of what muster reads; all replicas share them.
const CONSUMER: &str = "muster";

const CONTENT_TYPE: &str = "Content-Type";
const CORRELATION_ID: &str = "Correlation-Id";
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// A connection to NATS that mends itself.
pub struct Nats {
    shared: Arc<Shared>,
    _closed_when_dropped: DropGuard,
}

/// Settles a delivery, over whichever connection there is. Dropped without that, the message is delivered
/// again after a while.
pub struct Receipt(Option<Arc<Held>>);

/// A message that we have and the broker waits for.
struct Held {
    source: Source,
    answer_to: Subject,
    /// Of which making of the streams it is.
    era: u64,
    since: Instant,
}

struct Shared {
    server: Server,
    topology: Topology,
    link: Arc<Link<Connected>>,
    buffer: Buffer<Receipt>,
    taking: Gate,
    held: Holdings,
    /// The last claim on the lease of each exclusive intake; it outlives a connection.
    claims: Vec<Arc<AtomicU64>>,
    /// Settlements of the time without a connection.
    owed: Mutex<Vec<(Arc<Held>, Verdict)>>,
    /// Rises when a stream was made anew: the sequence numbers in old receipts mean other messages then.
    era: AtomicU64,
    /// When each stream was made.
    made: Mutex<BTreeMap<String, String>>,
}

/// What one connection has.
struct Connected {
    client: Client,
    context: Context,
    /// The task queues that have their subject and their consumer.
    known: Mutex<HashSet<TaskQueue>>,
    /// The queues that lie in streams, and how we read them.
    reading: Mutex<Vec<(String, PullConsumer)>>,
    /// Of queues that we have stopped to read and may still work on.
    leases: Mutex<Vec<(Source, Lease)>>,
    held: Holdings,
    end: Arc<End>,
}

/// All that we have and the broker waits for.
type Holdings = Arc<Mutex<Vec<Weak<Held>>>>;

impl Nats {
    /// Connects, declares and begins to consume. Waits for a broker that is away, for ever; what waiting
    /// cannot mend (another declaration, refused credentials, a wrong URL) is an error at once.
    pub async fn open(url: &str, topology: &Topology) -> Result<Nats, BusError> {
        let server = Server::parse(url)?;
        let link = Arc::new(Link::to(server.to_string()));
        // All that the broker may deliver has its place here: a message that waits in the client is not
        // held by us, so nobody would report it as in progress.
        let queues = match topology.role {
            Role::Service => topology.intakes.len() + 2,
            Role::Worker => topology.task_queues.len() + 1,
        };
        let shared = Arc::new(Shared {
            server,
            topology: topology.clone(),
            link: Arc::clone(&link),
            buffer: Buffer::of(usize::from(topology.prefetch) * queues),
            taking: Gate::open(),
            held: Holdings::default(),
            claims: topology.intakes.iter().map(|_| Arc::default()).collect(),
            owed: Mutex::default(),
            era: AtomicU64::new(0),
            made: Mutex::default(),
        });
        let (_closed_when_dropped, ours) = (link.closing.clone().drop_guard(), Arc::clone(&shared));
        link.open(move || Connected::establish(Arc::clone(&ours)))
            .await?;
        tokio::spawn(report_progress(Arc::clone(&shared)));
        Ok(Nats {
            shared,
            _closed_when_dropped,
        })
    }

    /// Whether these credentials are let in: a connection that is made and goes again. Nothing is read or declared.
    pub async fn admits(url: &str) -> Result<(), BusError> {
        let server = Server::parse(url)?;
        server.connect(&Arc::new(End::open())).await.map(drop)
    }
}

impl Bus for Nats {
    type Receipt = Receipt;

    async fn next(&self) -> Option<Delivery<Receipt>> {
        let Shared { link, buffer, .. } = &*self.shared;
        buffer
            .next(&link.stopping, |receipt| {
                self.shared.is_of_this_era(receipt)
            })
            .await
    }

    async fn settle(&self, settled: Vec<(Receipt, Verdict)>) {
        let settled = settled
            .into_iter()
            .filter_map(|(receipt, verdict)| Some((receipt.0?, verdict)));
        let settled = settled.collect();
        match self.shared.link.session() {
            Ok(session) => self.shared.answer(&session, settled).await,
            Err(_) => lock(&self.shared.owed).extend(settled),
        }
    }

    async fn publish(&self, letters: Vec<Letter>) -> Vec<Answer> {
        match self.shared.link.session() {
            Ok(session) => session.publish(letters).await,
            Err(undelivered) => letters.iter().map(|_| Err(undelivered.clone())).collect(),
        }
    }

    async fn take_back(&self, lying: Vec<Lying>) -> Vec<Result<(), String>> {
        match self.shared.link.session() {
            Ok(session) => session.take_back(&lying).await,
            Err(away) => vec![Err(away.to_string()); lying.len()],
        }
    }

    async fn waiting(&self) -> Result<Vec<(String, u64)>, String> {
        let session = self
            .shared
            .link
            .session()
            .map_err(|away| away.to_string())?;
        let reading = lock(&session.reading).clone();
        let mut waiting = Vec::with_capacity(reading.len());
        for (queue, consumer) in reading {
            let info = consumer
                .get_info()
                .await
                .map_err(|error| error.to_string())?;
            waiting.push((queue, info.num_pending));
        }
        Ok(waiting)
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
        self.settle(
            buffered
                .into_iter()
                .map(|receipt| (receipt, Verdict::Again))
                .collect(),
        )
        .await;
    }

    async fn close(&self) {
        self.shared.link.close().await;
    }
}

impl Shared {
    fn last_of(&self, source: Source) -> Arc<AtomicU64> {
        let claim = match source {
            Source::Events(place) => self.claims.get(place).cloned(),
            _ => None,
        };
        claim.unwrap_or_default()
    }

    fn is_of_this_era(&self, receipt: &Receipt) -> bool {
        let era = self.era.load(Ordering::Relaxed);
        receipt.0.as_ref().is_none_or(|held| held.era == era)
    }

    /// Tells the broker what became of messages. What cannot be told now is owed.
    async fn answer(&self, session: &Connected, settled: Vec<(Arc<Held>, Verdict)>) {
        let era = self.era.load(Ordering::Relaxed);
        let mut settled = settled.into_iter().filter(|(held, _)| held.era == era);
        while let Some((held, verdict)) = settled.next() {
            let word = match verdict {
                Verdict::Done => AckKind::Ack,
                Verdict::Again => AckKind::Nak(None),
            };
            let told = tokio::select! {
                biased;
                () = session.end.reached() => false,
                told = session.client.publish(held.answer_to.clone(), word.into()) => told.is_ok(),
            };
            if !told {
                let mut owed = lock(&self.owed);
                owed.push((held, verdict));
                owed.extend(settled);
                return;
            }
        }
    }

    /// Takes note of when the streams were made.
    fn enter_era(&self, made: BTreeMap<String, String>) {
        let mut known = lock(&self.made);
        let renewed = made
            .iter()
            .any(|(stream, at)| known.get(stream).is_some_and(|old| old != at));
        if renewed {
            warn!(broker = %self.server, "streams were made anew; what was read of the old ones is void");
            self.era.fetch_add(1, Ordering::Relaxed);
            lock(&self.owed).clear();
        }
        known.extend(made);
    }

    /// Our form of a message of a stream.
    fn delivery(
        &self,
        arrived: async_nats::jetstream::Message,
        source: Source,
    ) -> Delivery<Receipt> {
        let redelivered = arrived.info().is_ok_and(|info| info.delivered > 1);
        let mut message = arrived.message;
        let held = message.reply.take().map(|answer_to| {
            let era = self.era.load(Ordering::Relaxed);
            let held = Arc::new(Held {
                source,
                answer_to,
                era,
                since: Instant::now(),
            });
            let mut all = lock(&self.held);
            // Most are settled long before they are reported; forget these before the list has to grow.
            if all.len() == all.capacity() {
                all.retain(|held| held.strong_count() > 0);
            }
            all.push(Arc::downgrade(&held));
            held
        });
        delivery(message, source, redelivered, Receipt(held))
    }
}

/// Extends the time of what is held, as long as we live.
async fn report_progress(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        tokio::select! {
            () = shared.link.closing.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let held: Vec<Arc<Held>> = {
            let mut all = lock(&shared.held);
            all.retain(|held| held.strong_count() > 0);
            all.shrink_to(1024);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let Ok(session) = shared.link.session() else {
            continue;
        };
        let era = shared.era.load(Ordering::Relaxed);
        let old = |held: &&Arc<Held>| held.era == era && held.since.elapsed() >= PROGRESS / 2;
        for held in held.iter().filter(old) {
            let word = AckKind::Progress.into();
            tokio::select! {
                biased;
                () = session.end.reached() => break,
                _ = session.client.publish(held.answer_to.clone(), word) => {}
            }
        }
    }
}

impl Session for Connected {
    fn end(&self) -> &End {
        &self.end
    }

    async fn farewell(&self) {
        let farewell = async {
            let leases = std::mem::take(&mut *lock(&self.leases));
            for (source, lease) in leases {
                // What was not settled comes again after a while, and has to come before all that is newer:
                // with such, the lease runs out by itself.
                let works_on =
                    |held: &Weak<Held>| held.upgrade().is_some_and(|held| held.source == source);
                if !lock(&self.held).iter().any(works_on) {
                    lease.give_back().await;
                }
            }
            // An answer to a question tells that what was said before has been heard.
            let _ = self.context.query_account().await;
            let _ = self.client.drain().await;
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            debug!("the connection ended without a farewell");
        }
    }
}

impl Connected {
    async fn establish(shared: Arc<Shared>) -> Result<Arc<Connected>, BusError> {
        let end = Arc::new(End::open());
        let client = shared.server.connect(&end).await?;
        let context = ContextBuilder::new()
            .timeout(ANSWER)
            .max_ack_inflight(2 * publish::WINDOW)
            .build(client.clone());
        let session = Arc::new(Connected {
            client,
            context,
            known: Mutex::default(),
            reading: Mutex::default(),
            leases: Mutex::default(),
            held: Arc::clone(&shared.held),
            end,
        });
        let consumed = tokio::select! {
            consumed = session.declare_and_consume(&shared) => consumed,
            () = session.end.reached() => {
                Err(BusError::OutOfReach(session.end.trouble().unwrap_or_default()))
            }
        };
        if let Err(trouble) = consumed {
            session.end.come(trouble.to_string());
            return Err(trouble);
        }
        let owed = std::mem::take(&mut *lock(&shared.owed));
        shared.answer(&session, owed).await;
        Ok(session)
    }

    async fn declare_and_consume(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), BusError> {
        let topology = &shared.topology;
        let Declared { made, consumers } = declare::declare(&self.context, topology).await?;
        lock(&self.known).extend(topology.task_queues.iter().cloned());
        shared.enter_era(made);
        if shared.link.stopping.is_cancelled() {
            return Ok(());
        }
        // Commands go to one of the replicas, what workers are told to each of them.
        let (subject, source) = match topology.role {
            Role::Service => (names::COMMANDS, Source::Commands),
            Role::Worker => (names::CONTROL, Source::Control),
        };
        let subscribed = match topology.role {
            Role::Service => {
                self.client
                    .queue_subscribe(subject, CONSUMER.to_owned())
                    .await
            }
            Role::Worker => self.client.subscribe(subject).await,
        };
        let messages = subscribed
            .map_err(|error| BusError::OutOfReach(format!("subject `{subject}`: {error}")))?;
        shared
            .buffer
            .pump(Arc::clone(self).pump_core(Arc::clone(shared), messages, source));
        for (source, consumer) in consumers {
            let queue = match source {
                Source::Events(place) => topology.intakes.get(place).map(Intake::read_from),
                Source::Status => Some(names::STATUS),
                Source::Commands | Source::Tasks | Source::Control => None,
            };
            if let Some(queue) = queue {
                lock(&self.reading).push((queue.to_owned(), consumer.clone()));
            }
            let (session, shared) = (Arc::clone(self), Arc::clone(shared));
            let exclusive = match source {
                Source::Events(place) => topology
                    .intakes
                    .get(place)
                    .filter(|intake| intake.exclusive),
                _ => None,
            };
            let pump = match exclusive {
                Some(intake) => {
                    let lease =
                        Lease::of(&self.context, &intake.queue, shared.last_of(source)).await?;
                    session
                        .stand_by(Arc::clone(&shared), consumer, source, lease)
                        .boxed()
                }
                None if source == Source::Tasks => {
                    session.pump_tasks(shared.clone(), consumer).boxed()
                }
                None => session.pump(Arc::clone(&shared), consumer, source).boxed(),
            };
            shared.buffer.pump(pump);
        }
        Ok(())
    }

    /// Reads the queue whenever, and as long as, we have its lease.
    async fn stand_by(
        self: Arc<Self>,
        shared: Arc<Shared>,
        consumer: PullConsumer,
        source: Source,
        mut lease: Lease,
    ) {
        let mut told = false;
        loop {
            match lease.take().await {
                Ok(true) => {
                    info!(queue = lease.queue(), "reading this queue alone");
                    let pump =
                        Arc::clone(&self).pump(Arc::clone(&shared), consumer.clone(), source);
                    tokio::select! {
                        () = pump => return lock(&self.leases).push((source, lease)),
                        trouble = lease.keep() => {
                            warn!(queue = lease.queue(), trouble, "the lease is lost; standing by");
                        }
                    }
                }
                Ok(false) if told => {}
                Ok(false) => {
                    info!(
                        queue = lease.queue(),
                        "another replica reads this queue; standing by"
                    );
                    told = true;
                }
                Err(trouble) => return self.end.come(trouble),
            }
            tokio::select! {
                () = shared.link.stopping.cancelled() => return,
                () = self.end.reached() => return,
                () = tokio::time::sleep(STAND_BY) => {}
            }
        }
    }

    /// Asks for one task at a time, whenever they are taken: what we do not ask for goes to others. A request is never
    /// left alone, because what the server sends then is lost to everybody for a while.
    async fn pump_tasks(self: Arc<Self>, shared: Arc<Shared>, consumer: PullConsumer) {
        let pump = async {
            loop {
                shared.taking.is(true).await;
                let Some(place) = shared.buffer.place().await else {
                    return;
                };
                let asked = consumer.batch().max_messages(1).expires(HEARTBEAT);
                let mut messages = match asked.messages().await {
                    Ok(messages) => messages,
                    Err(error) => return self.end.come(format!("asking for tasks: {error}")),
                };
                match messages.next().await {
                    Some(Ok(message)) => {
                        // The worker opens it again where it has another hand free.
                        shared.taking.set(false);
                        place.send(shared.delivery(message, Source::Tasks));
                    }
                    Some(Err(error)) => return self.end.come(format!("asking for tasks: {error}")),
                    None => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = shared.link.stopping.cancelled() => {}
            () = self.end.reached() => return,
            () = pump => return,
        }
        // Asked for its state, the server forgets requests that nobody listens for any more.
        let _ = timeout(FAREWELL, consumer.get_info()).await;
    }

    /// Carries what one consumer receives to the common buffer, until the session ends or we stop.
    async fn pump(self: Arc<Self>, shared: Arc<Shared>, consumer: PullConsumer, source: Source) {
        let batch = usize::from(shared.topology.prefetch).max(1);
        let pull = consumer
            .stream()
            .max_messages_per_batch(batch)
            .heartbeat(HEARTBEAT);
        let mut messages = match pull.messages().await {
            Ok(messages) => messages,
            Err(error) => return self.end.come(format!("consumer `{CONSUMER}`: {error}")),
        };
        let stopping = shared.link.stopping.cancelled();
        let ended = self.end.reached();
        tokio::pin!(stopping, ended);
        loop {
            let place = tokio::select! {
                biased;
                () = &mut stopping => break,
                () = &mut ended => return,
                place = shared.buffer.place() => place,
            };
            let Some(place) = place else { return };
            let arrived = tokio::select! {
                biased;
                () = &mut stopping => break,
                () = &mut ended => return,
                arrived = messages.next() => arrived,
            };
            match arrived {
                Some(Ok(message)) => place.send(shared.delivery(message, source)),
                Some(Err(error)) => {
                    return self.end.come(format!("consumer `{CONSUMER}`: {error}"));
                }
                None => return self.end.come(format!("consumer `{CONSUMER}` ended")),
            }
        }
        // Leave first, hand back then: what is handed back earlier comes to us again.
        let mut rest = Vec::new();
        while let Some(Some(Ok(message))) = messages.next().now_or_never() {
            rest.extend(shared.delivery(message, source).receipt.0);
        }
        drop(messages);
        let hand_back = async {
            // Asked for its state, the server forgets requests that nobody listens for any more. Server 2.9 has
            // to be asked: it would offer what is handed back to the last of these, and lose it for a while.
            let _ = consumer.get_info().await;
            shared
                .answer(
                    &self,
                    rest.into_iter()
                        .map(|held| (held, Verdict::Again))
                        .collect(),
                )
                .await;
        };
        let _ = timeout(FAREWELL, hand_back).await;
    }

    /// Carries what the core brings, which keeps nothing.
    async fn pump_core(
        self: Arc<Self>,
        shared: Arc<Shared>,
        mut messages: async_nats::Subscriber,
        source: Source,
    ) {
        let pump = async {
            while let Some(place) = shared.buffer.place().await {
                let Some(mut message) = messages.next().await else {
                    return self
                        .end
                        .come(format!("the subscription of {source:?} ended"));
                };
                let reply_to = message.reply.take();
                let mut delivery = delivery(message, source, false, Receipt(None));
                delivery.reply_to = reply_to.map(|subject| subject.to_string());
                place.send(delivery);
            }
        };
        tokio::select! {
            biased;
            () = shared.link.stopping.cancelled() => {}
            () = self.end.reached() => {}
            () = pump => {}
        }
    }
}

fn delivery(
    message: async_nats::Message,
    source: Source,
    redelivered: bool,
    receipt: Receipt,
) -> Delivery<Receipt> {
    let headers: Vec<(String, String)> = message
        .headers
        .iter()
        .flat_map(|headers| headers.iter())
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let named = |name: &str| {
        let found = headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    Delivery {
        source,
        routing_key: message.subject.to_string(),
        content_type: named(CONTENT_TYPE),
        message_id: named(MESSAGE_ID),
        correlation_id: named(CORRELATION_ID),
        reply_to: None,
        headers,
        body: message.payload.into(),
        redelivered,
        receipt,
    }
}
