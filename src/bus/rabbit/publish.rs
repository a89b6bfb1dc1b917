//! Publishing with confirms: all letters of a call are on their way before the first confirm is awaited.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use futures::future::poll_immediate;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    CONFIRM, CONNECT, Connected, FAREWELL, NOT_FOUND, PRECONDITION_FAILED, code,
    declare_task_queue, lost, said,
};
use crate::bus::link::lock;
use crate::bus::{Address, Answer, BusError, LARGEST, Letter, TaskQueue, Undelivered, names};

type Sending<'a> =
    Pin<Box<dyn Future<Output = Result<PublisherConfirm, lapin::Error>> + Send + 'a>>;

/// Channels kept open for the next publication.
const SPARE: usize = 4;
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// Where a letter goes in the words of AMQP, and with what.
struct Envelope {
    exchange: ShortString,
    routing_key: ShortString,
    mandatory: bool,
    properties: BasicProperties,
}

impl Connected {
    pub(super) async fn publish(&self, letters: &[Letter]) -> Vec<Answer> {
        let undeclared = self.declare_missing(letters).await;
        let mut answers: Vec<Option<Answer>> = letters
            .iter()
            .map(|letter| match &letter.address {
                _ if letter.body.len() > LARGEST => Some(Err(too_large(letter))),
                Address::Tasks(queue) => undeclared
                    .iter()
                    .find(|(other, _)| other == queue)
                    .map(|(_, why)| Err(why.clone())),
                _ => None,
            })
            .collect();
        let oversized = self.attempt(letters, &mut answers).await;
        // The broker's own limit can be below ours. It closes the channel, and with it goes what was published
        // beside: those are published again, each alone, so that only the one that is to blame fails.
        if oversized {
            for (letter, answer) in letters.iter().zip(&mut answers) {
                if matches!(answer, Some(Err(Undelivered::Unconfirmed(_)))) {
                    let mut alone = [None];
                    if self.attempt(std::slice::from_ref(letter), &mut alone).await {
                        alone = [Some(Err(too_large_for_broker(letter, alone)))];
                    }
                    let [again] = alone;
                    *answer = again;
                }
            }
        }
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(unconfirmed("it was not sent"))))
            .collect()
    }

    /// Publishes what has no answer yet. `true`: the broker refused one of these for its size.
    async fn attempt(&self, letters: &[Letter], answers: &mut [Option<Answer>]) -> bool {
        if answers.iter().all(Option::is_some) {
            return false;
        }
        let channel = match timeout(CONNECT, self.lend()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return fill(answers, &said(&error)),
            Err(_) => return fill(answers, "the broker does not open a channel"),
        };

        let mut bytes = 0;
        let mut sending: Vec<(usize, Sending<'_>)> = Vec::with_capacity(letters.len());
        for (place, letter) in letters.iter().enumerate() {
            if answers[place].is_some() {
                continue;
            }
            let Envelope {
                exchange,
                routing_key,
                mandatory,
                properties,
            } = match envelope(letter) {
                Ok(envelope) => envelope,
                Err(undelivered) => {
                    answers[place] = Some(Err(undelivered));
                    continue;
                }
            };
            let options = BasicPublishOptions {
                mandatory,
                immediate: false,
            };
            let body = letter.body.as_slice();
            bytes += body.len();
            let mut sent: Sending<'_> =
                Box::pin(channel.basic_publish(exchange, routing_key, options, body, properties));
            // Polled once, it has queued its frames: nothing waits for the socket between two letters.
            match poll_immediate(&mut sent).await {
                None => sending.push((place, sent)),
                Some(Ok(confirm)) => {
                    sending.push((place, Box::pin(async move { Ok(confirm) })));
                }
                Some(Err(error)) => answers[place] = Some(Err(unconfirmed(&said(&error)))),
            }
        }

        let until = Instant::now() + CONFIRM + Duration::from_micros(bytes as u64);
        let mut returned = Vec::new();
        let mut complaint = None;
        for (place, sent) in sending {
            let confirmed = timeout_at(until, async { sent.await?.await }).await;
            answers[place] = Some(match confirmed {
                Ok(Ok(Confirmation::Ack(message))) => {
                    returned.extend(message);
                    Ok(None)
                }
                Ok(Ok(Confirmation::Nack(message))) => {
                    returned.extend(message);
                    Err(unconfirmed("the broker could not take it"))
                }
                Ok(Ok(Confirmation::NotRequested)) => Err(unconfirmed("no confirm was asked for")),
                Ok(Err(error)) => {
                    let answer = Err(unconfirmed(&said(&error)));
                    complaint.get_or_insert(error);
                    answer
                }
                Err(_) => Err(unconfirmed("the broker did not confirm in time")),
            });
        }
        mark_returned(letters, answers, &returned);

        let sound = answers
            .iter()
            .all(|answer| !matches!(answer, Some(Err(Undelivered::Unconfirmed(_)))));
        // A channel with confirms still out would give them to the next publication.
        if channel.status().connected() {
            let mut spare = lock(&self.spare);
            if sound && spare.len() < SPARE {
                spare.push(channel);
            } else {
                tokio::spawn(async move { channel.close(200, ShortString::default()).await });
            }
        }
        match complaint {
            Some(error) if code(&error) == Some(NOT_FOUND) => {
                // An exchange is gone. Connecting again declares it again.
                self.end.come(said(&error));
                false
            }
            Some(error) => {
                code(&error) == Some(PRECONDITION_FAILED) && said(&error).contains("larger than")
            }
            None => false,
        }
    }

    /// A channel with confirms, for one publication at a time.
    async fn lend(&self) -> Result<Channel, lapin::Error> {
        loop {
            let spare = lock(&self.spare).pop();
            match spare {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {}
                None => break,
            }
        }
        let channel = self.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    /// Declares the task queues that nobody named when we connected: a new worker type can come at any time.
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
            match self.declare_one(&queue).await {
                Ok(()) => {
                    lock(&self.known).insert(queue);
                }
                Err(BusError::OutOfReach(why)) => {
                    refused.push((queue, Undelivered::Unconfirmed(why)));
                }
                Err(lasting) => {
                    refused.push((queue, Undelivered::Unroutable(lasting.to_string())));
                }
            }
        }
        refused
    }

    async fn declare_one(&self, queue: &TaskQueue) -> Result<(), BusError> {
        let declared = async {
            // A refusal closes the channel it comes on, so it gets one of its own.
            let channel = self.connection.create_channel().await.map_err(lost)?;
            declare_task_queue(&channel, queue).await?;
            let _ = timeout(FAREWELL, channel.close(200, ShortString::default())).await;
            Ok(())
        };
        timeout(CONNECT, declared).await.unwrap_or_else(|_| {
            Err(BusError::OutOfReach(
                "the broker does not answer".to_owned(),
            ))
        })
    }
}

fn envelope(letter: &Letter) -> Result<Envelope, Undelivered> {
    let name = |what: &str, text: &str| {
        ShortString::try_new(text).map_err(|_| {
            Undelivered::Unroutable(format!("{what} is longer than the 255 bytes of AMQP"))
        })
    };
    let (exchange, key) = match &letter.address {
        Address::Tasks(queue) => (names::TASKS, queue.routing_key.as_str()),
        Address::Status => ("", names::STATUS),
        Address::Control => (names::CONTROL, ""),
        Address::Reply(to) => ("", to.as_str()),
        Address::Lifecycle(kind) => (names::LIFECYCLE, kind.as_str()),
    };
    let mandatory = matches!(letter.address, Address::Tasks(_) | Address::Status);
    let lasting = mandatory || matches!(letter.address, Address::Lifecycle(_));
    let mut properties = BasicProperties::default()
        .with_delivery_mode(if lasting { PERSISTENT } else { TRANSIENT })
        .with_content_type(name("the content type", letter.content_type)?)
        .with_priority(letter.priority.min(9));
    if !letter.message_id.is_empty() {
        properties = properties.with_message_id(name("the message id", &letter.message_id)?);
    }
    if matches!(letter.address, Address::Tasks(_)) {
        properties = properties.with_reply_to(names::STATUS.into());
    }
    if let Some(id) = &letter.correlation_id {
        properties = properties.with_correlation_id(name("the correlation id", id)?);
    }
    if let Some(milliseconds) = letter.expires_in_ms {
        // 32 bits is what the broker takes.
        let milliseconds = milliseconds.min(u64::from(u32::MAX)).to_string();
        properties = properties.with_expiration(name("the expiration", &milliseconds)?);
    }
    if !letter.headers.is_empty() {
        let mut table = FieldTable::default();
        for (header, value) in &letter.headers {
            let value = AMQPValue::LongString(value.as_str().into());
            table.insert(name("the name of a header", header)?, value);
        }
        properties = properties.with_headers(table);
    }
    Ok(Envelope {
        exchange: name("the exchange", exchange)?,
        routing_key: name("the routing key", key)?,
        mandatory,
        properties,
    })
}

/// The client hands a returned message out with whichever confirm comes next, which need not be its own.
fn mark_returned(
    letters: &[Letter],
    answers: &mut [Option<Answer>],
    returned: &[BasicReturnMessage],
) {
    let returned: HashSet<(&str, &str)> = returned
        .iter()
        .filter_map(|message| {
            let id = message.delivery.properties.message_id().as_ref()?;
            Some((id.as_str(), message.delivery.routing_key.as_str()))
        })
        .collect();
    if returned.is_empty() {
        return;
    }
    for (letter, answer) in letters.iter().zip(answers) {
        let came_back = |key: &str| returned.contains(&(letter.message_id.as_str(), key));
        match &letter.address {
            Address::Tasks(queue) if came_back(&queue.routing_key) => {
                *answer = Some(Err(unroutable(queue)));
            }
            Address::Status if came_back(names::STATUS) => {
                *answer = Some(Err(Undelivered::Unroutable(format!(
                    "there is no queue `{}`",
                    names::STATUS
                ))));
            }
            _ => {}
        }
    }
}

fn unroutable(queue: &TaskQueue) -> Undelivered {
    let TaskQueue { queue, routing_key } = queue;
    Undelivered::Unroutable(format!(
        "exchange `{}` leads routing key `{routing_key}` to no queue; \
         missing is the binding of queue `{queue}` to it by `{routing_key}`",
        names::TASKS
    ))
}

fn unconfirmed(why: &str) -> Undelivered {
    Undelivered::Unconfirmed(why.to_owned())
}

fn too_large(letter: &Letter) -> Undelivered {
    let size = letter.body.len();
    Undelivered::TooLarge(format!(
        "{size} bytes are more than the {LARGEST} of a message"
    ))
}

fn too_large_for_broker(letter: &Letter, answer: [Option<Answer>; 1]) -> Undelivered {
    let said = match answer {
        [Some(Err(undelivered))] => undelivered.to_string(),
        _ => String::new(),
    };
    Undelivered::TooLarge(format!(
        "{} bytes are more than the broker takes: {said}",
        letter.body.len()
    ))
}

/// The same trouble for all that have no answer.
fn fill(answers: &mut [Option<Answer>], why: &str) -> bool {
    for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
        *answer = Some(Err(unconfirmed(why)));
    }
    false
}
