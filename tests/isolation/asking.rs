//! Whoever asks: signed by a key where there are keys, on RabbitMQ and on NATS.

use std::time::Duration;

use futures::StreamExt;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use muster::signature::Keys;
use serde_json::{Value, json};

use crate::support::broker::own_queue;
use crate::theirs::{OURS, THEIRS};

/// So long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub type Headers = Vec<(String, String)>;

/// The keys of both organisations.
pub struct Signer {
    keys: Keys,
}

/// The id and the secret of an organisation's key.
fn key_of(organization: &str) -> (&'static str, &'static str) {
    match organization {
        OURS => ("ours", "the secret of ours"),
        _ => ("theirs", "the secret of theirs"),
    }
}

impl Signer {
    pub fn new() -> Signer {
        let mut keys = Keys::new(true);
        for organization in [OURS, THEIRS] {
            let (id, secret) = key_of(organization);
            keys.add(id, secret.as_bytes(), &[organization.to_owned()]);
        }
        Signer { keys }
    }

    pub fn settings(&self) -> String {
        let mut text = "require_signatures = true\n".to_owned();
        for organization in [OURS, THEIRS] {
            let (id, secret) = key_of(organization);
            text.push_str(&format!(
                "[[keys]]\nid = {id:?}\nsecret = {secret:?}\norganizations = [{organization:?}]\n"
            ));
        }
        text
    }

    pub fn headers(&self, organization: &str, body: &[u8]) -> Headers {
        let signed = self.keys.sign(key_of(organization).0, body);
        signed.expect("the key is known").to_vec()
    }
}

pub fn request(
    id: Option<&str>,
    organization: Option<&str>,
    command: &str,
    args: &Value,
) -> Vec<u8> {
    let mut asked = json!({"command": command, "organization": organization, "args": args});
    if let Some(id) = id {
        asked["id"] = json!(id);
    }
    asked.to_string().into_bytes()
}

pub trait Asker {
    /// From now on everything is signed by the key of this organisation.
    fn speak_as(&mut self, signer: Option<(&Signer, &'static str)>);

    fn signature(&self, body: &[u8]) -> Headers;

    async fn ask_with(&mut self, body: &[u8], headers: &Headers) -> Value;

    async fn ask(&mut self, body: &[u8]) -> Value {
        let headers = self.signature(body);
        self.ask_with(body, &headers).await
    }

    /// Asks that the reply be sent elsewhere.
    async fn ask_for(&mut self, body: &[u8], reply_to: &str);

    async fn report(&mut self, status: &Value);

    /// Where no reply goes.
    fn reserved(&self) -> Vec<&'static str>;
}

/// The keys that sign, and for whom.
type Speaks = Option<(Keys, &'static str)>;

fn sign(speaks: &Speaks, body: &[u8]) -> Headers {
    speaks
        .as_ref()
        .map_or_else(Vec::new, |(keys, organization)| {
            let signed = keys.sign(key_of(organization).0, body);
            signed.expect("the key is known").to_vec()
        })
}

pub struct RabbitAsker {
    _connection: Connection,
    channel: Channel,
    replies: Consumer,
    queue: String,
    speaks: Speaks,
}

impl RabbitAsker {
    pub async fn connect(url: &str) -> RabbitAsker {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let (queue, replies) = own_queue(&channel).await;
        RabbitAsker {
            replies,
            _connection: connection,
            channel,
            queue,
            speaks: None,
        }
    }

    async fn send(&self, queue: &str, body: &[u8], headers: &Headers, reply_to: &str) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            let value = AMQPValue::LongString(value.as_str().into());
            table.insert(name.as_str().into(), value);
        }
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_reply_to(reply_to.into());
        let options = BasicPublishOptions::default();
        let sent = self
            .channel
            .basic_publish("".into(), queue.into(), options, body, properties);
        sent.await.expect("sent").await.expect("taken");
    }
}

impl Asker for RabbitAsker {
    fn speak_as(&mut self, signer: Option<(&Signer, &'static str)>) {
        self.speaks = signer.map(|(signer, of)| (signer.keys.clone(), of));
    }

    fn signature(&self, body: &[u8]) -> Headers {
        sign(&self.speaks, body)
    }

    async fn ask_with(&mut self, body: &[u8], headers: &Headers) -> Value {
        let queue = self.queue.clone();
        self.send("muster.commands", body, headers, &queue).await;
        let reply = tokio::time::timeout(PATIENCE, self.replies.next()).await;
        let reply = reply.expect("in time").expect("a reply").expect("a reply");
        serde_json::from_slice(&reply.data).expect("JSON")
    }

    async fn ask_for(&mut self, body: &[u8], reply_to: &str) {
        let headers = self.signature(body);
        self.send("muster.commands", body, &headers, reply_to).await;
    }

    async fn report(&mut self, status: &Value) {
        let body = status.to_string().into_bytes();
        let headers = self.signature(&body);
        self.send("muster.status", &body, &headers, "").await;
    }

    fn reserved(&self) -> Vec<&'static str> {
        vec![
            "muster.tasks.reader",
            "muster.events",
            "muster.status",
            "muster.commands",
        ]
    }
}

pub struct NatsAsker {
    client: async_nats::Client,
    speaks: Speaks,
}

impl NatsAsker {
    pub async fn connect(url: &str) -> NatsAsker {
        let client = async_nats::connect(url).await.expect("a connection");
        NatsAsker {
            client,
            speaks: None,
        }
    }

    fn map(headers: &Headers) -> async_nats::HeaderMap {
        let mut map = async_nats::HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.as_str(), value.as_str());
        }
        map
    }
}

impl Asker for NatsAsker {
    fn speak_as(&mut self, signer: Option<(&Signer, &'static str)>) {
        self.speaks = signer.map(|(signer, of)| (signer.keys.clone(), of));
    }

    fn signature(&self, body: &[u8]) -> Headers {
        sign(&self.speaks, body)
    }

    async fn ask_with(&mut self, body: &[u8], headers: &Headers) -> Value {
        let body = body.to_vec().into();
        let asked = self
            .client
            .request_with_headers("muster.commands", Self::map(headers), body);
        let reply = tokio::time::timeout(PATIENCE, asked).await;
        let reply = reply.expect("in time").expect("a reply");
        let empty = |values: &Vec<async_nats::HeaderValue>| {
            values.iter().any(|value| value.as_str().is_empty())
        };
        let mut values = reply.headers.iter().flat_map(|headers| headers.iter());
        assert!(
            !values.any(|(_, values)| empty(values)),
            "no header of a reply is empty: {:?}",
            reply.headers
        );
        serde_json::from_slice(&reply.payload).expect("JSON")
    }

    async fn ask_for(&mut self, body: &[u8], reply_to: &str) {
        let headers = Self::map(&self.signature(body));
        let sent = self.client.publish_with_reply_and_headers(
            "muster.commands",
            reply_to.to_owned(),
            headers,
            body.to_vec().into(),
        );
        sent.await.expect("sent");
        self.client.flush().await.expect("sent");
    }

    async fn report(&mut self, status: &Value) {
        let body = status.to_string().into_bytes();
        let headers = Self::map(&self.signature(&body));
        let context = async_nats::jetstream::new(self.client.clone());
        let sent = context.publish_with_headers("muster.status", headers, body.into());
        sent.await.expect("sent").await.expect("confirmed");
    }

    fn reserved(&self) -> Vec<&'static str> {
        vec![
            "$JS.API.STREAM.PURGE.MUSTER_TASKS",
            "$JS.API.STREAM.DELETE.MUSTER_TASKS",
            "muster.tasks.reader",
            "muster.events.object.created",
            "muster.status",
        ]
    }
}
