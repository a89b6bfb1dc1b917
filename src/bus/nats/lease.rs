//! A lease on a queue: one replica at a time reads it.
//!
//! A pull consumer of JetStream serves everybody who asks, so we agree among ourselves, in a stream that keeps
//! one message for each queue and drops it after [`TERM`]. The broker stores the first only where there is
//! none, and a renewal only on top of the holder's last: both are compared on the broker, in one place.
//! Whoever cannot renew stops in time by his own clock, before the term ends by the broker's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Stream};
use tokio::time::{Instant, sleep, timeout};

use super::{ACK_WAIT, FAREWELL, declare};
use crate::bus::BusError;

const STREAM: &str = "MUSTER_LEASES";
const SUBJECTS: &str = "muster.leases.>";
/// Longer than the time after which a dead holder's messages come again, so that these come first, in order.
const TERM: Duration = Duration::from_secs(2 * ACK_WAIT.as_secs());
const RENEWAL: Duration = Duration::from_secs(5);
/// The holder stops so long before the term is over.
const MARGIN: Duration = Duration::from_secs(5);

pub(super) struct Lease {
    context: Context,
    stream: Stream,
    queue: String,
    subject: String,
    /// The number of our last claim, 0 for none. A claim of a lost connection is still ours.
    claim: Arc<AtomicU64>,
    /// When we asked for it.
    since: Instant,
}

impl Lease {
    pub(super) async fn of(
        context: &Context,
        queue: &str,
        claim: Arc<AtomicU64>,
    ) -> Result<Lease, BusError> {
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECTS.to_owned()],
            max_messages_per_subject: 1,
            max_age: TERM,
            ..Config::default()
        };
        let stream = declare::stream(context, config).await?;
        Ok(Lease {
            context: context.clone(),
            stream,
            queue: queue.to_owned(),
            subject: format!("muster.leases.{}", declare::identifier(queue)),
            claim,
            since: Instant::now(),
        })
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// `true`: it is ours until we cease to [`Lease::keep`] it. `false`: somebody else has it.
    pub(super) async fn take(&mut self) -> Result<bool, String> {
        let last = self.claim.load(Ordering::Relaxed);
        if last > 0 && self.renew(last).await? {
            return Ok(true);
        }
        self.renew(0).await
    }

    /// Renews, and returns only when that fails for too long or another has it: with the reason.
    pub(super) async fn keep(&mut self) -> String {
        loop {
            sleep(RENEWAL).await;
            let left = (TERM - MARGIN).saturating_sub(self.since.elapsed());
            let last = self.claim.load(Ordering::Relaxed);
            match timeout(left, self.renew(last)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "another replica has it".to_owned(),
                // The next attempt may succeed within the term.
                Ok(Err(_)) if !left.is_zero() => {}
                Ok(Err(trouble)) => return trouble,
                Err(_) => return "it could not be renewed in time".to_owned(),
            }
        }
    }

    /// Lets the next replica have it at once.
    pub(super) async fn give_back(self) {
        let last = self.claim.swap(0, Ordering::Relaxed);
        if last > 0 {
            let _ = timeout(FAREWELL, self.stream.delete_message(last)).await;
        }
    }

    async fn renew(&mut self, last: u64) -> Result<bool, String> {
        let asked = Instant::now();
        let claim = PublishMessage::build().expected_last_subject_sequence(last);
        let stored = async {
            let subject = self.subject.clone();
            self.context.send_publish(subject, claim).await?.await
        };
        match stored.await {
            Ok(stored) => {
                self.claim.store(stored.sequence, Ordering::Relaxed);
                self.since = asked;
                Ok(true)
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Err(error) => Err(format!("the lease of `{}`: {error}", self.queue)),
        }
    }
}
