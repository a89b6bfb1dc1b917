//! What the two brokers have in common: a connection that is made again for ever, and the buffer that its
//! deliveries go through.
//!
//! A [`Session`] is what one connection has. All that is true of that connection alone lives and dies with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bus::{BusError, Condition, Delivery, Undelivered};

/// A session that lived so long was sound: the next one is tried without a pause.
const SOUND: Duration = Duration::from_secs(30);
/// The longest pause between two attempts, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What one connection has.
pub(super) trait Session: Send + Sync + 'static {
    fn end(&self) -> &End;

    /// Takes leave of the broker, within a bound.
    fn farewell(&self) -> impl Future<Output = ()> + Send;
}

/// The end of a session, before and after it came.
pub(super) struct End {
    reached: CancellationToken,
    trouble: Mutex<Option<String>>,
    since: Instant,
}

impl End {
    pub(super) fn open() -> End {
        End {
            reached: CancellationToken::new(),
            trouble: Mutex::default(),
            since: Instant::now(),
        }
    }

    /// Gives the session up; the loop makes another. The first trouble is the one that is told.
    pub(super) fn come(&self, trouble: String) {
        lock(&self.trouble).get_or_insert(trouble);
        self.reached.cancel();
    }

    pub(super) async fn reached(&self) {
        self.reached.cancelled().await;
    }

    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }
}

/// A connection that is kept.
pub(super) struct Link<S> {
    /// Where the broker is, without the credentials.
    broker: String,
    session: Mutex<Option<Arc<S>>>,
    condition: Mutex<Condition>,
    /// Nothing more is taken. Closing is stopping too.
    pub(super) stopping: CancellationToken,
    /// The connection is not kept any more.
    pub(super) closing: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Session> Link<S> {
    pub(super) fn to(broker: String) -> Link<S> {
        let closing = CancellationToken::new();
        Link {
            broker,
            session: Mutex::default(),
            condition: Mutex::default(),
            stopping: closing.child_token(),
            closing,
            keeper: Mutex::default(),
        }
    }

    /// Makes the first session, however long the broker is away, and keeps the link from then on. What
    /// waiting cannot mend is an error at once.
    pub(super) async fn open<Attempt>(
        self: &Arc<Self>,
        establish: impl Fn() -> Attempt + Send + 'static,
    ) -> Result<(), BusError>
    where
        Attempt: Future<Output = Result<Arc<S>, BusError>> + Send,
    {
        let mut pauses = pauses();
        let first = loop {
            match establish().await {
                Ok(session) => break session,
                Err(BusError::OutOfReach(trouble)) => self.out_of_reach(trouble),
                Err(lasting) => return Err(lasting),
            }
            tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        };
        self.connected(&first);
        let link = Arc::clone(self);
        *lock(&self.keeper) = Some(tokio::spawn(
            async move { link.keep(establish, first).await },
        ));
        Ok(())
    }

    /// The loop: waits until the session ends, and makes the next one.
    async fn keep<Attempt>(&self, establish: impl Fn() -> Attempt + Send, mut session: Arc<S>)
    where
        Attempt: Future<Output = Result<Arc<S>, BusError>> + Send,
    {
        let mut pauses = pauses();
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return self.farewell(&session).await,
                () = session.end().reached() => self.lost(&session),
            }
            if session.end().since.elapsed() > SOUND {
                pauses = self::pauses();
            } else if !self.pause(&mut pauses).await {
                return;
            }
            session = loop {
                let attempt = tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return,
                    attempt = establish() => attempt,
                };
                match attempt {
                    Ok(session) => break session,
                    // Later than at the start, even a refusal may be mended by whoever repairs the broker.
                    Err(trouble) => self.out_of_reach(trouble.to_string()),
                }
                if !self.pause(&mut pauses).await {
                    return;
                }
            };
            lock(&self.condition).reconnects += 1;
            self.connected(&session);
        }
    }

    /// `false`: we are closing, do not go on.
    async fn pause(&self, pauses: &mut (impl Iterator<Item = Duration> + Send)) -> bool {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => false,
            () = tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)) => true,
        }
    }

    fn connected(&self, session: &Arc<S>) {
        info!(broker = self.broker, "connected");
        *lock(&self.session) = Some(Arc::clone(session));
        let mut condition = lock(&self.condition);
        condition.connected = true;
        condition.trouble = None;
    }

    fn out_of_reach(&self, trouble: String) {
        warn!(
            broker = self.broker,
            trouble, "the broker is out of reach; trying again"
        );
        lock(&self.condition).trouble = Some(trouble);
    }

    fn lost(&self, session: &S) {
        *lock(&self.session) = None;
        let trouble = session.end().trouble().unwrap_or_default();
        warn!(
            broker = self.broker,
            trouble, "the connection is lost; connecting again"
        );
        let mut condition = lock(&self.condition);
        condition.connected = false;
        condition.trouble = Some(trouble);
    }

    async fn farewell(&self, session: &S) {
        *lock(&self.session) = None;
        lock(&self.condition).connected = false;
        session.farewell().await;
    }

    /// The present session; without one, what to answer to those who wanted to publish.
    pub(super) fn session(&self) -> Result<Arc<S>, Undelivered> {
        lock(&self.session).clone().ok_or_else(|| {
            let trouble = lock(&self.condition).trouble.clone().unwrap_or_default();
            Undelivered::Unconfirmed(format!("not connected to {}: {trouble}", self.broker))
        })
    }

    pub(super) fn condition(&self) -> Condition {
        lock(&self.condition).clone()
    }

    /// A trouble that does not end the session.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        if let Some(trouble) = &trouble {
            warn!(broker = self.broker, trouble, "the broker is in trouble");
        }
        lock(&self.condition).trouble = trouble;
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        let keeper = lock(&self.keeper).take();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
    }
}

/// Growing, jittered pauses without an end.
fn pauses() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Where deliveries of all queues wait for [`Bus::next`](crate::bus::Bus::next). It is small, and whoever
/// fills it waits for a place before he takes a message, so the broker keeps what we have no room for.
pub(super) struct Buffer<R> {
    arrivals: mpsc::Sender<Delivery<R>>,
    deliveries: tokio::sync::Mutex<mpsc::Receiver<Delivery<R>>>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

impl<R> Buffer<R> {
    pub(super) fn of(places: usize) -> Buffer<R> {
        let (arrivals, deliveries) = mpsc::channel(places.max(1));
        Buffer {
            arrivals,
            deliveries: tokio::sync::Mutex::new(deliveries),
            pumps: Mutex::default(),
        }
    }

    /// The next delivery of which the receipt is still good.
    pub(super) async fn next(
        &self,
        stopping: &CancellationToken,
        good: impl Fn(&R) -> bool,
    ) -> Option<Delivery<R>> {
        let next = async {
            let mut deliveries = self.deliveries.lock().await;
            loop {
                let delivery = deliveries.recv().await?;
                if good(&delivery.receipt) {
                    return Some(delivery);
                }
            }
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => None,
            delivery = next => delivery,
        }
    }

    /// A place for one delivery, as soon as there is one.
    pub(super) async fn place(&self) -> Option<mpsc::Permit<'_, Delivery<R>>> {
        self.arrivals.reserve().await.ok()
    }

    /// Runs what fills the buffer beside us.
    pub(super) fn pump(&self, pump: impl Future<Output = ()> + Send + 'static) {
        let mut pumps = lock(&self.pumps);
        pumps.retain(|pump| !pump.is_finished());
        pumps.push(tokio::spawn(pump));
    }

    /// Waits until nothing is put in any more, and takes out what is there.
    pub(super) async fn empty(&self) -> Vec<R> {
        let pumps = std::mem::take(&mut *lock(&self.pumps));
        futures::future::join_all(pumps).await;
        let mut deliveries = self.deliveries.lock().await;
        std::iter::from_fn(|| deliveries.try_recv().ok())
            .map(|delivery| delivery.receipt)
            .collect()
    }
}

/// Whether tasks are taken: open at first.
pub(super) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(super) fn open() -> Gate {
        Gate(watch::Sender::new(true))
    }

    pub(super) fn set(&self, open: bool) {
        self.0
            .send_if_modified(|now| std::mem::replace(now, open) != open);
    }

    /// Waits until the gate is so.
    pub(super) async fn is(&self, open: bool) {
        // The sender lives as long as we do.
        let _ = self.0.subscribe().wait_for(|now| *now == open).await;
    }
}

/// A panic of another thread does not spoil what a mutex guards here: single assignments.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
