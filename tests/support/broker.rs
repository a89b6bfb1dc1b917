//! The other side of a broker: who publishes events and statuses, and who takes tasks. Plain clients.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;

use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

use super::load::Event;
use super::process::until;

/// A message on its way to a queue that muster reads.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// RabbitMQ's routing key; the last part of the subject on NATS.
    pub key: String,
    pub headers: Vec<(String, String)>,
    pub content_type: Option<&'static str>,
    pub body: Vec<u8>,
}

impl Parcel {
    /// An event in structured mode; every fourth in binary mode, as `prefix` writes its headers.
    pub fn of(event: &Event, prefix: &str) -> Parcel {
        if !event.at.is_multiple_of(4) {
            return Parcel {
                key: event.event_type().to_owned(),
                content_type: Some("application/cloudevents+json"),
                body: event.body(),
                ..Parcel::default()
            };
        }
        let header = |name: &str, value: String| (format!("{prefix}{name}"), value);
        Parcel {
            key: event.event_type().to_owned(),
            content_type: Some("application/json"),
            headers: vec![
                header("specversion", "1.0".to_owned()),
                header("id", event.id()),
                header("source", "/load".to_owned()),
                header("type", event.event_type().to_owned()),
                header("time", event.time()),
            ],
            body: event.data().to_string().into_bytes(),
        }
    }
}

/// A task message as a worker gets it.
#[derive(Clone, Debug)]
pub struct TaskMessage {
    pub message_id: String,
    pub body: Value,
}

pub trait Broker {
    /// How the headers of binary mode begin here.
    const PREFIX: &'static str;

    /// Publishes events in their order; all are confirmed when it returns.
    async fn publish(&self, parcels: &[Parcel]);

    async fn report(&self, status: &Value);

    /// Takes all task messages of a worker type for good.
    async fn tasks(&self, worker_type: &str) -> Vec<TaskMessage>;

    /// Events that the broker has and has not handed to anybody.
    async fn waiting(&self) -> u64;
}

/// A queue of our own, which goes with us, and what comes to it.
pub async fn own_queue(channel: &Channel) -> (String, Consumer) {
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default());
    let queue = queue.await.expect("a queue").name().to_string();
    let free = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel.basic_consume(
        queue.as_str().into(),
        "".into(),
        free,
        FieldTable::default(),
    );
    let consumer = consumer.await.expect("a consumer");
    (queue, consumer)
}

pub struct OnRabbit {
    _connection: Connection,
    channel: Channel,
}

impl OnRabbit {
    /// Connects to a broker at which muster has declared its queues, or will soon.
    pub async fn connect(url: &str) -> OnRabbit {
        let open = async || {
            let connection = Connection::connect(url, ConnectionProperties::default())
                .await
                .ok()?;
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let channel = connection.create_channel().await.ok()?;
            let declared = channel
                .queue_declare("muster.events".into(), passive, FieldTable::default())
                .await;
            declared.ok()?;
            // Bound a moment after it was declared.
            let channel = connection.create_channel().await.ok()?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .ok()?;
            Some((connection, channel))
        };
        let (connection, channel) = until("muster has declared its queues on RabbitMQ", open).await;
        OnRabbit {
            _connection: connection,
            channel,
        }
    }

    async fn send(&self, exchange: &str, key: &str, parcels: &[Parcel]) {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        for chunk in parcels.chunks(1000) {
            let mut confirms = Vec::with_capacity(chunk.len());
            for parcel in chunk {
                let mut table = FieldTable::default();
                for (name, value) in &parcel.headers {
                    table.insert(
                        name.as_str().into(),
                        AMQPValue::LongString(value.as_str().into()),
                    );
                }
                let mut properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_headers(table);
                if let Some(said) = parcel.content_type {
                    properties = properties.with_content_type(said.into());
                }
                let key = if key.is_empty() {
                    parcel.key.as_str()
                } else {
                    key
                };
                let sent = self.channel.basic_publish(
                    exchange.into(),
                    key.into(),
                    mandatory,
                    &parcel.body,
                    properties,
                );
                confirms.push(sent.await.expect("sent"));
            }
            for confirm in confirms {
                let confirmed = confirm.await.expect("confirmed");
                assert!(confirmed.is_ack(), "expected RabbitMQ to take a message");
                let returned = confirmed.take_message();
                assert!(returned.is_none(), "expected a message to reach a queue");
            }
        }
    }

    /// Tells all workers something.
    pub async fn tell_workers(&self, parcel: &Parcel) {
        let sent = self.channel.basic_publish(
            "muster.control".into(),
            "".into(),
            BasicPublishOptions::default(),
            &parcel.body,
            BasicProperties::default(),
        );
        sent.await.expect("sent").await.expect("confirmed");
    }

    /// Whether who has this address may take messages from a queue.
    pub async fn may_read(url: &str, queue: &str) -> bool {
        let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default())
            .await
            .expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let got = channel.basic_get(queue.into(), lapin::options::BasicGetOptions::default());
        got.await.is_ok()
    }

    /// Messages of a queue that nobody has.
    pub async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let state = self
            .channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await;
        state.expect("the queue is there").message_count()
    }
}

impl Broker for OnRabbit {
    const PREFIX: &'static str = "cloudEvents:";

    /// To the queue itself: the binding may come a moment after the queue.
    async fn publish(&self, parcels: &[Parcel]) {
        self.send("", "muster.events", parcels).await;
    }

    async fn report(&self, status: &Value) {
        let parcel = Parcel {
            body: status.to_string().into_bytes(),
            ..Parcel::default()
        };
        self.send("", "muster.status", &[parcel]).await;
    }

    async fn tasks(&self, worker_type: &str) -> Vec<TaskMessage> {
        let queue = format!("muster.tasks.{worker_type}");
        let tag = format!("takes-{worker_type}");
        let mut taken = Vec::new();
        let mut there = self.ready(&queue).await as usize;
        let free = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumed = self.channel.basic_consume(
            queue.as_str().into(),
            tag.as_str().into(),
            free,
            FieldTable::default(),
        );
        let mut messages = consumed.await.expect("a worker may take tasks");
        while there > 0 {
            let message = messages.next().await.expect("a task").expect("a task");
            let id = message
                .properties
                .message_id()
                .as_ref()
                .expect("a message id")
                .to_string();
            let body = serde_json::from_slice(&message.data).expect("a task message is JSON");
            taken.push(TaskMessage {
                message_id: id,
                body,
            });
            there -= 1;
        }
        self.channel
            .basic_cancel(tag.as_str().into(), Default::default())
            .await
            .expect("cancelled");
        taken
    }

    async fn waiting(&self) -> u64 {
        u64::from(self.ready("muster.events").await)
    }
}

pub struct OnNats {
    context: async_nats::jetstream::Context,
}

impl OnNats {
    pub async fn connect(url: &str) -> OnNats {
        let open = async || {
            let client = async_nats::connect(url).await.ok()?;
            let context = async_nats::jetstream::new(client);
            context.get_stream("MUSTER_EVENTS").await.ok()?;
            context.get_stream("MUSTER_STATUS").await.ok()?;
            Some(OnNats { context })
        };
        until("muster has declared its streams on NATS", open).await
    }
}

impl OnNats {
    /// How many offers lie in the stream.
    pub async fn offered(&self) -> u64 {
        let stream = self.context.get_stream("MUSTER_TASKS").await;
        let mut stream = stream.expect("the stream");
        stream.info().await.expect("its state").state.messages
    }

    /// The message id of the oldest offer of a queue.
    pub async fn first_offer(&self, queue: &str) -> String {
        let stream = self.context.get_stream("MUSTER_TASKS").await;
        let stream = stream.expect("the stream");
        let first = stream.get_first_raw_message_by_subject(queue, 1).await;
        let first = first.expect("an offer");
        let id = first.headers.get("Nats-Msg-Id");
        id.expect("a message id").to_string()
    }
}

impl Broker for OnNats {
    const PREFIX: &'static str = "ce-";

    async fn publish(&self, parcels: &[Parcel]) {
        for chunk in parcels.chunks(500) {
            let mut confirms = Vec::with_capacity(chunk.len());
            for parcel in chunk {
                let mut headers = async_nats::HeaderMap::new();
                for (name, value) in &parcel.headers {
                    headers.insert(name.as_str(), value.as_str());
                }
                if let Some(said) = parcel.content_type {
                    headers.insert("Content-Type", said);
                }
                let subject = format!("muster.events.{}", parcel.key);
                let sent =
                    self.context
                        .publish_with_headers(subject, headers, parcel.body.clone().into());
                confirms.push(sent.await.expect("sent"));
            }
            for confirm in confirms {
                confirm.await.expect("confirmed");
            }
        }
    }

    async fn report(&self, status: &Value) {
        let sent = self
            .context
            .publish("muster.status", status.to_string().into());
        sent.await.expect("sent").await.expect("confirmed");
    }

    async fn tasks(&self, worker_type: &str) -> Vec<TaskMessage> {
        let consumer: async_nats::jetstream::consumer::PullConsumer = self
            .context
            .get_consumer_from_stream(worker_type, "MUSTER_TASKS")
            .await
            .expect("a worker finds its consumer");
        let mut taken = Vec::new();
        loop {
            let mut messages = consumer
                .fetch()
                .max_messages(500)
                .messages()
                .await
                .expect("asks");
            let before = taken.len();
            while let Some(message) = messages.next().await {
                let message = message.expect("a task");
                let headers = message.headers.as_ref().expect("headers");
                let id = headers
                    .get("Nats-Msg-Id")
                    .expect("a message id")
                    .to_string();
                let body =
                    serde_json::from_slice(&message.payload).expect("a task message is JSON");
                taken.push(TaskMessage {
                    message_id: id,
                    body,
                });
                message.ack().await.expect("acknowledged");
            }
            if taken.len() == before {
                return taken;
            }
        }
    }

    async fn waiting(&self) -> u64 {
        let mut stream = self
            .context
            .get_stream("MUSTER_EVENTS")
            .await
            .expect("the stream");
        stream.info().await.expect("its state").state.messages
    }
}

/// Task messages by task; every message of one offer has the same id, which names task and attempt.
pub fn by_task(messages: &[TaskMessage]) -> BTreeMap<String, Vec<&TaskMessage>> {
    let mut tasks: BTreeMap<String, Vec<&TaskMessage>> = BTreeMap::new();
    for message in messages {
        let id = message.body["id"]
            .as_str()
            .expect("a task message has an id");
        let attempt = &message.body["attempt"];
        assert_eq!(
            message.message_id,
            format!("{id}:{attempt}"),
            "expected the message id to name task and attempt"
        );
        tasks.entry(id.to_owned()).or_default().push(message);
    }
    tasks
}
