//! The other side of each bus: plain clients that know nothing of muster.

use std::sync::Arc;
use std::time::Duration;

use muster::bus::{Bus, BusError, LARGEST, TaskQueue, Topology, names};
use tokio::sync::mpsc;

use crate::soon;

/// A message as a plain client sends or receives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub content_type: Option<String>,
    pub message_id: Option<String>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn of(body: &[u8]) -> Message {
        Message {
            body: body.to_vec(),
            ..Message::default()
        }
    }
}

/// What goes to everybody who listens, and not to a queue.
pub enum Broadcast {
    Control,
    Lifecycle,
}

/// The other side of any bus.
pub trait Outside {
    type Bus: Bus;

    async fn open(&self, topology: &Topology) -> Self::Bus;

    /// Sends to a queue that muster reads: `muster.events`, `muster.status`, an intake.
    async fn send(&self, queue: &str, message: Message);

    /// Takes the next task, as a worker does.
    async fn take(&self, queue: &TaskQueue) -> Message;

    /// The largest body that goes through.
    fn largest(&self) -> usize;
}

/// The other side of a bus with a broker.
pub trait Broker: Outside {
    fn url(&self) -> String;

    fn port(&self) -> u16;

    async fn open_at(url: &str, topology: &Topology) -> Result<Self::Bus, BusError>;

    /// How many messages the broker keeps for the queue, delivered or not.
    async fn kept(&self, queue: &str) -> u64;

    /// Asks a command, and gives the reply.
    async fn ask(&self, body: &[u8]) -> Message;

    /// Listens from now on.
    async fn listen(&self, to: Broadcast) -> mpsc::Receiver<Message>;

    /// Takes away what leads a task to its queue.
    async fn cut_off(&self, queue: &TaskQueue);

    fn kill(&mut self);

    fn restart(&mut self);
}

pub mod on_lines {
    use super::*;
    use muster::bus::lines::Lines;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
    use tokio::sync::Mutex;

    struct Ends {
        tasks: BufReader<DuplexStream>,
        events: DuplexStream,
    }

    /// The ends of the streams that we hold, of the bus opened last.
    #[derive(Default)]
    pub struct Streams {
        ends: Arc<Mutex<Option<Ends>>>,
    }

    impl Outside for Streams {
        type Bus = Lines;

        async fn open(&self, _topology: &Topology) -> Lines {
            let (events, input) = duplex(1000);
            let (output, tasks) = duplex(2 * LARGEST);
            *self.ends.lock().await = Some(Ends {
                tasks: BufReader::new(tasks),
                events,
            });
            Lines::open(input, output)
        }

        async fn send(&self, _queue: &str, message: Message) {
            let ends = Arc::clone(&self.ends);
            // Beside the test, because a stream that nobody reads takes only its first thousand bytes.
            tokio::spawn(async move {
                let mut ends = ends.lock().await;
                let events = &mut ends.as_mut().expect("open").events;
                events.write_all(&message.body).await.expect("written");
                events.write_all(b"\n").await.expect("written");
            });
        }

        async fn take(&self, _queue: &TaskQueue) -> Message {
            let mut ends = self.ends.lock().await;
            let tasks = &mut ends.as_mut().expect("open").tasks;
            let mut line = Vec::new();
            soon("a line", tasks.read_until(b'\n', &mut line))
                .await
                .expect("read");
            assert_eq!(line.pop(), Some(b'\n'));
            Message::of(&line)
        }

        fn largest(&self) -> usize {
            LARGEST
        }
    }
}

pub mod on_rabbit {
    use super::*;
    use crate::support::servers;
    use futures::StreamExt;
    use lapin::message::Delivery;
    use lapin::options::*;
    use lapin::types::{AMQPValue, FieldTable, ShortString};
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
    use muster::bus::rabbit::Rabbit;

    pub struct Server(pub servers::Rabbit);

    impl Server {
        pub fn start() -> Server {
            Server(servers::Rabbit::start())
        }

        pub async fn client(&self) -> (Connection, Channel) {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(&self.0.url(), properties).await;
            let connection = connection.expect("a plain client connects");
            let channel = connection.create_channel().await.expect("a channel");
            (connection, channel)
        }

        /// The next message of a queue, with all its properties.
        pub async fn fetch(&self, queue: &str) -> Delivery {
            let (_connection, channel) = self.client().await;
            let options = BasicGetOptions { no_ack: true };
            soon("a message", async {
                loop {
                    let got = channel.basic_get(queue.into(), options).await.expect("get");
                    if let Some(got) = got {
                        break got.delivery;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
        }
    }

    fn message(delivery: Delivery) -> Message {
        let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
        let properties = &delivery.properties;
        let table = properties.headers().clone().unwrap_or_default();
        let header = |(name, value): (&ShortString, &AMQPValue)| match value {
            AMQPValue::LongString(text) => (name.to_string(), text.to_string()),
            other => panic!("{name} is {other:?}"),
        };
        Message {
            content_type: text(properties.content_type()),
            message_id: text(properties.message_id()),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            headers: table.inner().iter().map(header).collect(),
            body: delivery.data,
        }
    }

    impl Outside for Server {
        type Bus = Rabbit;

        async fn open(&self, topology: &Topology) -> Rabbit {
            soon("open", Rabbit::open(&self.0.url(), topology))
                .await
                .expect("opens")
        }

        async fn send(&self, queue: &str, message: Message) {
            let (_connection, channel) = self.client().await;
            channel
                .confirm_select(Default::default())
                .await
                .expect("confirms");
            let mut properties = BasicProperties::default().with_delivery_mode(2);
            if let Some(text) = &message.content_type {
                properties = properties.with_content_type(text.as_str().into());
            }
            if let Some(text) = &message.message_id {
                properties = properties.with_message_id(text.as_str().into());
            }
            if let Some(text) = &message.correlation_id {
                properties = properties.with_correlation_id(text.as_str().into());
            }
            if let Some(text) = &message.reply_to {
                properties = properties.with_reply_to(text.as_str().into());
            }
            let mut table = FieldTable::default();
            for (name, value) in &message.headers {
                let value = AMQPValue::LongString(value.as_str().into());
                table.insert(name.as_str().into(), value);
            }
            let options = BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            };
            let properties = properties.with_headers(table);
            let sent =
                channel.basic_publish("".into(), queue.into(), options, &message.body, properties);
            let confirmation = sent.await.expect("sent").await.expect("confirmed");
            assert!(confirmation.is_ack() && confirmation.take_message().is_none());
        }

        async fn take(&self, queue: &TaskQueue) -> Message {
            message(self.fetch(&queue.queue).await)
        }

        fn largest(&self) -> usize {
            LARGEST
        }
    }

    impl Broker for Server {
        fn url(&self) -> String {
            self.0.url()
        }

        fn port(&self) -> u16 {
            self.0.port()
        }

        async fn open_at(url: &str, topology: &Topology) -> Result<Rabbit, BusError> {
            Rabbit::open(url, topology).await
        }

        /// Only right while nobody reads the queue: what a reader has is not counted here.
        async fn kept(&self, queue: &str) -> u64 {
            let (_connection, channel) = self.client().await;
            let options = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            // A connection that was closed is seen to be gone a moment later.
            soon("the queue without a reader", async {
                loop {
                    let declared =
                        channel.queue_declare(queue.into(), options, FieldTable::default());
                    let state = declared.await.expect("the queue exists");
                    if state.consumer_count() == 0 {
                        return u64::from(state.message_count());
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
        }

        async fn ask(&self, body: &[u8]) -> Message {
            let (_connection, channel) = self.client().await;
            let options = QueueDeclareOptions {
                exclusive: true,
                ..Default::default()
            };
            let replies = channel
                .queue_declare("".into(), options, FieldTable::default())
                .await;
            let replies = replies.expect("a queue for replies").name().clone();
            let properties = BasicProperties::default()
                .with_reply_to(replies.clone())
                .with_correlation_id("question".into());
            let options = BasicPublishOptions::default();
            let queue = names::COMMANDS.into();
            channel
                .basic_publish("".into(), queue, options, body, properties)
                .await
                .expect("sent");
            let mut replies = channel
                .basic_consume(
                    replies,
                    "".into(),
                    Default::default(),
                    FieldTable::default(),
                )
                .await
                .expect("listens");
            let reply = soon("a reply", replies.next()).await;
            message(reply.expect("a reply").expect("a reply"))
        }

        async fn listen(&self, to: Broadcast) -> mpsc::Receiver<Message> {
            let (connection, channel) = self.client().await;
            let options = QueueDeclareOptions {
                exclusive: true,
                ..Default::default()
            };
            let queue = channel
                .queue_declare("".into(), options, FieldTable::default())
                .await;
            let queue = queue.expect("a queue").name().clone();
            let (exchange, key) = match to {
                Broadcast::Control => (names::CONTROL, ""),
                Broadcast::Lifecycle => (names::LIFECYCLE, "run.*"),
            };
            let (binding, none) = (QueueBindOptions::default(), FieldTable::default());
            let bound =
                channel.queue_bind(queue.clone(), exchange.into(), key.into(), binding, none);
            bound.await.expect("bound");
            let options = BasicConsumeOptions {
                no_ack: true,
                ..Default::default()
            };
            let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default());
            let mut consumer = consumer.await.expect("listens");
            let (sender, receiver) = mpsc::channel(10);
            tokio::spawn(async move {
                let _connection = connection;
                while let Some(Ok(delivery)) = consumer.next().await {
                    let _ = sender.send(message(delivery)).await;
                }
            });
            receiver
        }

        async fn cut_off(&self, queue: &TaskQueue) {
            let (_connection, channel) = self.client().await;
            let options = QueueDeleteOptions::default();
            channel
                .queue_delete(queue.queue.as_str().into(), options)
                .await
                .expect("deleted");
        }

        fn kill(&mut self) {
            self.0.kill();
        }

        fn restart(&mut self) {
            self.0.restart();
        }
    }
}

pub mod on_nats {
    use super::*;
    use crate::support::servers;
    use async_nats::jetstream::consumer::PullConsumer;
    use async_nats::jetstream::{self, Context};
    use async_nats::{Client, HeaderMap};
    use futures::StreamExt;
    use muster::bus::nats::Nats;

    /// The default of the server.
    pub const MAX_PAYLOAD: usize = 1024 * 1024;

    pub struct Server(pub servers::Nats);

    impl Server {
        pub fn start() -> Server {
            Server(servers::Nats::start())
        }

        pub async fn client(&self) -> (Client, Context) {
            let client = async_nats::connect(self.0.url())
                .await
                .expect("a plain client connects");
            let context = jetstream::new(client.clone());
            (client, context)
        }
    }

    fn stream_of(queue: &str) -> String {
        match queue {
            names::EVENTS => "MUSTER_EVENTS".to_owned(),
            names::STATUS => "MUSTER_STATUS".to_owned(),
            queue if queue.starts_with(names::TASKS) => "MUSTER_TASKS".to_owned(),
            queue => queue.to_uppercase(),
        }
    }

    fn message(message: async_nats::Message) -> Message {
        let mut headers = Vec::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            assert_eq!(values.len(), 1, "{name} comes once");
            headers.push((name.to_string(), values[0].to_string()));
        }
        let mut take = |name: &str| {
            let place = headers.iter().position(|(known, _)| known == name)?;
            Some(headers.remove(place).1)
        };
        Message {
            content_type: take("Content-Type"),
            message_id: take("Nats-Msg-Id"),
            correlation_id: take("Correlation-Id"),
            reply_to: None,
            headers,
            body: message.payload.to_vec(),
        }
    }

    impl Outside for Server {
        type Bus = Nats;

        async fn open(&self, topology: &Topology) -> Nats {
            soon("open", Nats::open(&self.0.url(), topology))
                .await
                .expect("opens")
        }

        async fn send(&self, queue: &str, message: Message) {
            let (_client, context) = self.client().await;
            let subject = match queue {
                names::EVENTS => format!("{queue}.object.created"),
                queue => queue.to_owned(),
            };
            let mut headers = HeaderMap::new();
            for (name, value) in &message.headers {
                headers.append(name.as_str(), value.as_str());
            }
            for (name, value) in [
                ("Content-Type", &message.content_type),
                ("Nats-Msg-Id", &message.message_id),
                ("Correlation-Id", &message.correlation_id),
            ] {
                if let Some(value) = value {
                    headers.append(name, value.as_str());
                }
            }
            let body = message.body.into();
            let sent = context
                .publish_with_headers(subject, headers, body)
                .await
                .expect("sent");
            let stored = sent.await.expect("confirmed");
            assert_eq!(stored.stream, stream_of(queue));
        }

        async fn take(&self, queue: &TaskQueue) -> Message {
            let (_client, context) = self.client().await;
            let consumer: PullConsumer = context
                .get_consumer_from_stream(queue.routing_key.as_str(), "MUSTER_TASKS")
                .await
                .expect("the worker finds its consumer");
            let mut messages = consumer
                .batch()
                .max_messages(1)
                .messages()
                .await
                .expect("asks");
            let got = soon("a task", messages.next())
                .await
                .expect("a task")
                .expect("a task");
            got.double_ack().await.expect("acknowledged");
            message(got.message)
        }

        fn largest(&self) -> usize {
            MAX_PAYLOAD
        }
    }

    impl Broker for Server {
        fn url(&self) -> String {
            self.0.url()
        }

        fn port(&self) -> u16 {
            self.0.port()
        }

        async fn open_at(url: &str, topology: &Topology) -> Result<Nats, BusError> {
            Nats::open(url, topology).await
        }

        async fn kept(&self, queue: &str) -> u64 {
            let (_client, context) = self.client().await;
            let stream = context
                .get_stream(stream_of(queue))
                .await
                .expect("the stream exists");
            stream.cached_info().state.messages
        }

        async fn ask(&self, body: &[u8]) -> Message {
            let (client, _context) = self.client().await;
            let mut headers = HeaderMap::new();
            headers.append("Correlation-Id", "question");
            let body = body.to_vec().into();
            let reply = client.request_with_headers(names::COMMANDS, headers, body);
            message(soon("a reply", reply).await.expect("a reply"))
        }

        async fn listen(&self, to: Broadcast) -> mpsc::Receiver<Message> {
            let (client, _context) = self.client().await;
            let subject = match to {
                Broadcast::Control => names::CONTROL,
                Broadcast::Lifecycle => "muster.lifecycle.run.*",
            };
            let mut subscription = client.subscribe(subject).await.expect("listens");
            client.flush().await.expect("flushed");
            let (sender, receiver) = mpsc::channel(10);
            tokio::spawn(async move {
                let _client = client;
                while let Some(got) = subscription.next().await {
                    let _ = sender.send(message(got)).await;
                }
            });
            receiver
        }

        async fn cut_off(&self, _queue: &TaskQueue) {
            let (_client, context) = self.client().await;
            context
                .delete_stream("MUSTER_TASKS")
                .await
                .expect("deleted");
        }

        fn kill(&mut self) {
            self.0.kill();
        }

        fn restart(&mut self) {
            self.0.restart();
        }
    }
}
