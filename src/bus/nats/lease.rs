//! A lease on a queue: one replica at a time reads it.
//!
//! A pull consumer of JetStream serves everybody who asks, so we agree among ourselves, in a stream that keeps
//! one message for each queue and drops it after [`TERM`]. The broker stores the first only where there is
//! none, and a renewal only on top of the holder's last: both are compared on the broker, in one place.
//! Whoever cannot renew stops in time by his own clock, before the term ends by the broker's.

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
    /// The number of our last renewal, and when we asked for it.
    held: Option<(u64, Instant)>,
}

impl Lease {
    pub(super) async fn of(context: &Context, queue: &str) -> Result<Lease, BusError> {
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
            held: None,
        })
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// `true`: it is ours until we cease to [`Lease::keep`] it. `false`: somebody else has it.
    pub(super) async fn take(&mut self) -> Result<bool, String> {
        self.held = None;
        self.renew(0).await
    }

    /// Renews, and returns only when that fails for too long or another has it: with the reason.
    pub(super) async fn keep(&mut self) -> String {
        loop {
            sleep(RENEWAL).await;
            let Some((last, since)) = self.held else {
                return "it is not ours".to_owned();
            };
            let until = (TERM - MARGIN).saturating_sub(since.elapsed());
            match timeout(until, self.renew(last)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return "another replica has it".to_owned(),
                Ok(Err(_)) if !until.is_zero() => {} // the next renewal may succeed within the term
                Ok(Err(trouble)) => return trouble,
                Err(_) => return "it could not be renewed in time".to_owned(),
            }
        }
    }

    /// Lets the next replica have it at once.
    pub(super) async fn give_back(mut self) {
        if let Some((last, _)) = self.held.take() {
            let _ = timeout(FAREWELL, self.stream.delete_message(last)).await;
        }
    }

    async fn renew(&mut self, last: u64) -> Result<bool, String> {
        let asked = Instant::now();
        let claim = PublishMessage::build().expected_last_subject_sequence(last);
        let stored = async {
            self.context
                .send_publish(self.subject.clone(), claim)
                .await?
                .await
        };
        match stored.await {
            Ok(stored) => {
                self.held = Some((stored.sequence, asked));
                Ok(true)
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Err(error) => Err(format!("the lease of `{}`: {error}", self.queue)),
        }
    }
}
