//! Publishing: tasks and life-cycle events into streams, with acknowledgements; the rest by the core.

use std::collections::HashSet;
use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use async_nats::client::PublishErrorKind as CoreErrorKind;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{CONTENT_TYPE, CORRELATION_ID, Connected, MESSAGE_ID, declare, lock};
use crate::bus::{Address, Answer, BusError, Letter, TaskQueue, Undelivered, names};

/// Letters whose acknowledgements are out at once.
pub(super) const WINDOW: usize = 1000;
/// So long may the acknowledgements of a window stay out.
const CONFIRM: Duration = Duration::from_secs(30);

/// What is known of a letter after it was sent.
enum Sent {
    /// The core keeps nothing: sent is all that can be said.
    Core,
    Stream(PublishAckFuture),
    Failed(Undelivered),
}

impl Connected {
    pub(super) async fn publish(&self, letters: Vec<Letter>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(letters.len());
        let mut letters = letters.into_iter();
        loop {
            let window: Vec<Letter> = letters.by_ref().take(WINDOW).collect();
            if window.is_empty() {
                return answers;
            }
            answers.extend(self.publish_window(window).await);
        }
    }

    async fn publish_window(&self, letters: Vec<Letter>) -> Vec<Answer> {
        let until = Instant::now() + CONFIRM;
        let refused = self.declare_missing(&letters).await;
        let count = letters.len();
        let mut sent: Vec<(Address, usize, Sent)> = Vec::with_capacity(count);
        for letter in letters {
            let (address, size) = (letter.address.clone(), letter.body.len());
            let refusal = refused.iter().find(|(queue, _)| is_for(&address, queue));
            let outcome = match refusal {
                Some((_, why)) => Sent::Failed(why.clone()),
                None => tokio::select! {
                    biased;
                    () = self.end.reached() => Sent::Failed(self.gone()),
                    outcome = timeout_at(until, self.send(letter)) => {
                        outcome.unwrap_or_else(|_| Sent::Failed(late()))
                    }
                },
            };
            sent.push((address, size, outcome));
        }
        if sent
            .iter()
            .any(|(_, _, outcome)| matches!(outcome, Sent::Core))
        {
            let flushed = timeout_at(until, self.client.flush()).await;
            if !matches!(flushed, Ok(Ok(()))) {
                for (_, _, outcome) in &mut sent {
                    if matches!(outcome, Sent::Core) {
                        *outcome = Sent::Failed(late());
                    }
                }
            }
        }
        let mut answers = Vec::with_capacity(count);
        for (address, size, outcome) in sent {
            let task = matches!(address, Address::Tasks(_));
            answers.push(match outcome {
                Sent::Core => Ok(None),
                Sent::Failed(why) => Err(why),
                Sent::Stream(acknowledgement) => tokio::select! {
                    biased;
                    acknowledged = timeout_at(until, acknowledgement.into_future()) => {
                        match acknowledged {
                            Ok(Ok(said)) => Ok(task.then_some(said.sequence)),
                            Ok(Err(error)) => Err(self.undelivered(&address, size, &error)),
                            Err(_) => Err(late()),
                        }
                    }
                    () = self.end.reached() => Err(self.gone()),
                },
            });
        }
        answers
    }

    async fn send(&self, letter: Letter) -> Sent {
        let size = letter.body.len();
        let headers = headers(&letter);
        let (subject, kept) = match &letter.address {
            Address::Status => (names::STATUS.to_owned(), true),
            Address::Control => (names::CONTROL.to_owned(), false),
            Address::Reply(to) => (to.clone(), false),
            Address::Tasks(queue) => (queue.queue.clone(), true),
            Address::Lifecycle(kind) => (format!("{}.{kind}", names::LIFECYCLE), true),
        };
        if !declare::is_subject(&subject) {
            return Sent::Failed(Undelivered::Unroutable(format!(
                "`{subject}` is not a subject"
            )));
        }
        let body = letter.body.into();
        if kept {
            let message = PublishMessage::build().headers(headers).payload(body);
            return match self.context.send_publish(subject, message).await {
                Ok(acknowledgement) => Sent::Stream(acknowledgement),
                Err(error) => Sent::Failed(self.undelivered(&letter.address, size, &error)),
            };
        }
        match self
            .client
            .publish_with_headers(subject, headers, body)
            .await
        {
            Ok(()) => Sent::Core,
            Err(error) => Sent::Failed(match error.kind() {
                CoreErrorKind::MaxPayloadExceeded => self.too_large(size),
                CoreErrorKind::InvalidSubject | CoreErrorKind::Send => {
                    Undelivered::Unconfirmed(error.to_string())
                }
            }),
        }
    }

    /// Makes subject and consumer of task queues that nobody named when we connected: a new worker type can
    /// come at any time.
    async fn declare_missing(&self, letters: &[Letter]) -> Vec<(TaskQueue, Undelivered)> {
        let missing: HashSet<TaskQueue> = {
            let known = lock(&self.known);
            letters
                .iter()
                .filter_map(|letter| match &letter.address {
                    Address::Tasks(queue) if !known.contains(queue) => Some(queue.clone()),
                    _ => None,
                })
                .collect()
        };
        let mut refused = Vec::new();
        for queue in missing {
            let declared = tokio::select! {
                () = self.end.reached() => Err(BusError::OutOfReach("the connection ended".to_owned())),
                declared = declare::declare_task_queue(&self.context, &queue) => declared.map(drop),
            };
            match declared {
                Ok(()) => {
                    lock(&self.known).insert(queue);
                }
                Err(BusError::OutOfReach(why)) => {
                    refused.push((queue, Undelivered::Unconfirmed(why)));
                }
                Err(lasting) => refused.push((queue, Undelivered::Unroutable(lasting.to_string()))),
            }
        }
        refused
    }

    fn undelivered(&self, address: &Address, size: usize, error: &PublishError) -> Undelivered {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => self.too_large(size),
            PublishErrorKind::StreamNotFound => {
                // Connecting again makes the stream again.
                self.end.come("a stream is gone".to_owned());
                Undelivered::Unroutable(match address {
                    Address::Tasks(TaskQueue { queue, .. }) => format!(
                        "no stream takes subject `{queue}`; missing is stream `MUSTER_TASKS` with it"
                    ),
                    _ => "no stream takes the subject".to_owned(),
                })
            }
            _ => match error
                .source()
                .and_then(|said| said.downcast_ref::<jetstream::Error>())
            {
                Some(said) if said.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                    Undelivered::TooLarge(format!("{size} bytes are more than the stream takes"))
                }
                Some(said) => Undelivered::Unconfirmed(said.to_string()),
                None => Undelivered::Unconfirmed(error.to_string()),
            },
        }
    }

    fn too_large(&self, size: usize) -> Undelivered {
        let limit = self.client.max_payload();
        Undelivered::TooLarge(format!(
            "{size} bytes and their headers are more than the {limit} of the server's max_payload"
        ))
    }

    fn gone(&self) -> Undelivered {
        let trouble = self.end.trouble().unwrap_or_default();
        Undelivered::Unconfirmed(format!(
            "the connection ended before the confirm: {trouble}"
        ))
    }
}

fn is_for(address: &Address, queue: &TaskQueue) -> bool {
    matches!(address, Address::Tasks(other) if other == queue)
}

fn late() -> Undelivered {
    Undelivered::Unconfirmed("the broker did not confirm in time".to_owned())
}

fn headers(letter: &Letter) -> HeaderMap {
    let mut map = HeaderMap::new();
    let own = [
        (MESSAGE_ID, Some(letter.message_id.as_str())),
        (CONTENT_TYPE, Some(letter.content_type)),
        (CORRELATION_ID, letter.correlation_id.as_deref()),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .filter(|(_, value)| !value.is_empty());
    let given = letter
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(given) {
        // A line break would end the header and begin another of the sender's choice.
        match (HeaderName::from_str(name), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => map.append(name, value),
            _ => warn!(header = name, "left out: this header cannot be sent"),
        }
    }
    map
}
