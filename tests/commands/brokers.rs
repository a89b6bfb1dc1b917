//! Commands on real brokers: asked with `reply_to` and a correlation id on RabbitMQ, by request and reply on NATS.

use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicPublishOptions, QueueBindOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Value, json};

use crate::support::broker::{Broker, OnNats, OnRabbit, Parcel, own_queue};
use crate::support::process::{House, until};
use crate::support::servers::{Nats, Postgres, Rabbit};

const DECLARED: &str = r#"
- {kind: organization, id: acme}
- {kind: organization, id: other}
- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname]}
- {name: hosts, run_on: hostname, operation: created, plugins: "plugin_id = 'dns'"}
- {kind: plugin, plugin_id: feed, worker_type: reader}
- {name: feeds, recurrences: yearly, plugins: "plugin_id = 'feed'", input: {}, overlap: allow}
"#;

const LIFE: &str = "[lifecycle]\nenabled = true\n";

/// So long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever asks on a bus, and what is told to workers.
trait Asker {
    /// The reply to these bytes.
    async fn ask(&self, body: &[u8]) -> Vec<u8>;
    /// What workers are told next.
    async fn told(&mut self) -> Value;
    /// What is told next of the life of runs, tasks and schedules: under which word, and what.
    async fn life(&mut self) -> (String, Value);
}

struct RabbitAsker {
    url: String,
    control: Consumer,
    life: Consumer,
    _connection: Connection,
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

impl RabbitAsker {
    async fn connect(url: &str) -> RabbitAsker {
        let (connection, channel) = channel(url).await;
        let (queue, control) = own_queue(&channel).await;
        let bound = channel.queue_bind(
            queue.as_str().into(),
            "muster.control".into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("bound");
        let (queue, life) = own_queue(&channel).await;
        let bound = channel.queue_bind(
            queue.as_str().into(),
            "muster.lifecycle".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("bound");
        RabbitAsker {
            url: url.to_owned(),
            control,
            life,
            _connection: connection,
        }
    }
}

impl Asker for RabbitAsker {
    async fn ask(&self, body: &[u8]) -> Vec<u8> {
        let (_connection, channel) = channel(&self.url).await;
        let (queue, mut replies) = own_queue(&channel).await;
        let properties = BasicProperties::default()
            .with_reply_to(queue.as_str().into())
            .with_correlation_id("question 7".into());
        let sent = channel.basic_publish(
            "".into(),
            "muster.commands".into(),
            BasicPublishOptions::default(),
            body,
            properties,
        );
        sent.await.expect("sent").await.expect("taken");
        let reply = tokio::time::timeout(PATIENCE, replies.next()).await;
        let reply = reply.expect("in time").expect("a reply").expect("a reply");
        let id = reply.properties.correlation_id().as_ref();
        assert_eq!(
            id.map(ToString::to_string).as_deref(),
            Some("question 7"),
            "the reply carries the correlation id"
        );
        reply.data
    }

    async fn told(&mut self) -> Value {
        let told = tokio::time::timeout(PATIENCE, self.control.next()).await;
        let told = told.expect("in time").expect("a word").expect("a word");
        serde_json::from_slice(&told.data).expect("JSON")
    }

    async fn life(&mut self) -> (String, Value) {
        let told = tokio::time::timeout(PATIENCE, self.life.next()).await;
        let told = told.expect("in time").expect("an event").expect("an event");
        let body = serde_json::from_slice(&told.data).expect("JSON");
        (told.routing_key.to_string(), body)
    }
}

struct NatsAsker {
    client: async_nats::Client,
    control: async_nats::Subscriber,
    life: async_nats::Subscriber,
}

impl NatsAsker {
    async fn connect(url: &str) -> NatsAsker {
        let client = async_nats::connect(url).await.expect("a connection");
        let control = client.subscribe("muster.control").await.expect("heard");
        let life = client.subscribe("muster.lifecycle.>").await;
        let life = life.expect("heard");
        // A request that nobody listens to is answered with that at once.
        until("muster listens for commands", async || {
            let asked = client.request("muster.commands", "{\"command\":\"stats\"}".into());
            asked.await.ok()
        })
        .await;
        NatsAsker {
            client,
            control,
            life,
        }
    }
}

impl Asker for NatsAsker {
    async fn ask(&self, body: &[u8]) -> Vec<u8> {
        let asked = self.client.request("muster.commands", body.to_vec().into());
        let reply = tokio::time::timeout(PATIENCE, asked).await;
        reply.expect("in time").expect("a reply").payload.to_vec()
    }

    async fn told(&mut self) -> Value {
        let told = tokio::time::timeout(PATIENCE, self.control.next()).await;
        let told = told.expect("in time").expect("a word");
        serde_json::from_slice(&told.payload).expect("JSON")
    }

    async fn life(&mut self) -> (String, Value) {
        let told = tokio::time::timeout(PATIENCE, self.life.next()).await;
        let told = told.expect("in time").expect("an event");
        let word = told.subject.trim_start_matches("muster.lifecycle.");
        let body = serde_json::from_slice(&told.payload).expect("JSON");
        (word.to_owned(), body)
    }
}

fn request(id: &str, organization: Option<&str>, command: &str, args: Value) -> Vec<u8> {
    json!({"id": id, "command": command, "organization": organization, "args": args})
        .to_string()
        .into_bytes()
}

async fn said(asker: &impl Asker, body: &[u8]) -> Value {
    serde_json::from_slice(&asker.ask(body).await).expect("a reply is JSON")
}

fn code(reply: &Value) -> &str {
    assert_eq!(reply["ok"], false, "{reply}");
    for part in ["code", "message", "help"] {
        assert!(reply["error"][part].is_string(), "{reply}");
    }
    reply["error"]["code"].as_str().unwrap_or_default()
}

async fn conversation<B: Broker>(house: &House, broker: &B, mut asker: impl Asker) {
    // The same id gets the same answer, byte by byte, also when it comes many times at once.
    let start = request("r-1", None, "run.start", json!({"schedule": "feeds"}));
    let all = futures::future::join_all((0..5).map(|_| asker.ask(&start))).await;
    let first: Value = serde_json::from_slice(&all[0]).expect("JSON");
    assert_eq!((&first["id"], &first["ok"]), (&json!("r-1"), &json!(true)));
    assert!(all.iter().all(|one| *one == all[0]), "one answer for all");
    assert_eq!(asker.ask(&start).await, all[0]);
    let runs = said(&asker, &request("r-2", None, "run.list", json!({}))).await;
    assert_eq!(
        runs["result"]["runs"].as_array().map(Vec::len),
        Some(2),
        "one for each organisation: {runs}"
    );

    // Whatever comes is answered with what would be right.
    for (body, wanted, hint) in [
        (
            request("b-1", None, "run.strat", json!({})),
            "unknown_command",
            "run.start",
        ),
        (
            request("b-2", None, "task.get", json!({})),
            "wrong_argument",
            "task_id",
        ),
        (
            request("b-3", None, "task.get", json!({"task_id": [1]})),
            "wrong_argument",
            "task_id",
        ),
        (
            request("b-4", None, "task.list", json!({"limt": 1})),
            "wrong_argument",
            "limit",
        ),
        (
            request("b-5", None, "task.list", json!({"where": "stat = 'x'"})),
            "wrong_argument",
            "`state`",
        ),
        (
            b"{\"id\":\"b-6\",\"command\":5}".to_vec(),
            "wrong_type",
            "command",
        ),
        (b"{\"id\":\"b-7\"}".to_vec(), "missing_field", "command"),
        (
            b"{\"id\":\"b-8\",\"command\":\"stats\",\"args\":[]}".to_vec(),
            "wrong_type",
            "args",
        ),
        (
            b"{\"id\":\"b-9\",\"command\":\"task.list\",\"organisation\":\"acme\",\"args\":{}}"
                .to_vec(),
            "bad_value",
            "`organization`",
        ),
        (b"no JSON".to_vec(), "not_json", "command"),
        (
            request(&"x".repeat(5000), None, "stats", json!({})),
            "too_long",
            "id",
        ),
    ] {
        let reply = said(&asker, &body).await;
        assert_eq!(code(&reply), wanted, "{reply}");
        let told = format!("{} {}", reply["error"]["message"], reply["error"]["help"]);
        assert!(told.contains(hint), "{reply}");
    }

    // A task is cancelled: its worker is told on the control exchange or subject.
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/t", "type": "object.created", "time": "2026-11-21T09:00:00Z",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": "h1",
                 "attributes": {"name": "h1"}, "scan_level": 2},
    });
    broker
        .publish(&[Parcel {
            key: "object.created".to_owned(),
            body: event.to_string().into_bytes(),
            ..Parcel::default()
        }])
        .await;
    let list = request(
        "",
        None,
        "task.list",
        json!({"plugin_id": "dns", "state": "dispatched"}),
    );
    let list = String::from_utf8(list)
        .expect("text")
        .replace("\"id\":\"\",", "");
    let task = until("the task is offered", async || {
        let reply = said(&asker, list.as_bytes()).await;
        Some(reply["result"]["tasks"].get(0)?["id"].as_str()?.to_owned())
    })
    .await;
    let which = json!({"task_id": task});
    for command in ["task.get", "task.cancel", "task.retry"] {
        let theirs = request(
            &format!("o-{command}"),
            Some("other"),
            command,
            which.clone(),
        );
        let reply = said(&asker, &theirs).await;
        assert_eq!(code(&reply), "not_found", "{command}: {reply}");
    }
    broker
        .report(&json!({
            "task_id": task, "attempt": 1, "worker": "w1", "status": "accepted", "at": "2026-11-21T09:00:01Z",
        }))
        .await;
    let get = request("", None, "task.get", which.clone());
    let get = String::from_utf8(get)
        .expect("text")
        .replace("\"id\":\"\",", "");
    until("the task runs", async || {
        let reply = said(&asker, get.as_bytes()).await;
        (reply["result"]["state"] == "running").then_some(())
    })
    .await;
    let cancel = request("c-1", Some("acme"), "task.cancel", which);
    let cancelled = said(&asker, &cancel).await;
    assert_eq!(
        cancelled["result"]["stopping"],
        json!([task]),
        "{cancelled}"
    );
    let told = asker.told().await;
    assert_eq!(
        (
            &told["type"],
            &told["task_id"],
            &told["attempt"],
            &told["worker"]
        ),
        (&json!("cancel"), &json!(task), &json!(1), &json!("w1"))
    );
    broker
        .report(&json!({
            "task_id": task, "attempt": 1, "worker": "w1", "status": "cancelled", "at": "2026-11-21T09:00:02Z",
        }))
        .await;
    until("the task is cancelled", async || {
        let reply = said(&asker, get.as_bytes()).await;
        (reply["result"]["state"] == "cancelled").then_some(())
    })
    .await;

    // All of it is told, in its order, by events whose ids tell them apart.
    let mut kinds: Vec<String> = Vec::new();
    while kinds.last().map(String::as_str) != Some("task.finished") {
        let (word, event) = asker.life().await;
        assert_eq!(event["type"], json!(word), "{event}");
        assert_eq!(event["specversion"], "1.0");
        if event["subject"] != json!(task) {
            continue;
        }
        let number = event["data"]["attempt"].clone();
        assert_eq!(event["id"], json!(format!("{task}:{number}:{word}")));
        assert_eq!(event["data"]["organization"], "acme");
        assert_eq!(event["data"]["plugin_id"], "dns");
        assert_eq!(event["data"]["schedule"], "hosts");
        kinds.push(word);
    }
    let wanted = ["queued", "dispatched", "accepted", "finished"];
    assert_eq!(kinds, wanted.map(|word| format!("task.{word}")));
    let database = house.database().await;
    until("nothing is left to tell", async || {
        (database.count("SELECT count(*) FROM life").await? == 0).then_some(())
    })
    .await;

    // The command line sees the same.
    let seen = house.json(&["task", "get", &task]);
    assert_eq!(seen["state"], "cancelled");
    assert_eq!(seen["by_hand"][0]["who"], "bus");
}

/// A queue is listed, paused and resumed, and its tasks with it.
async fn queues<B: Broker>(house: &House, broker: &B, asker: impl Asker) {
    const QUEUE: &str = "muster.tasks.reader";
    let listed = async |id: &str, organization: Option<&str>| {
        let list = request(id, organization, "queue.list", json!({}));
        let reply = said(&asker, &list).await;
        assert_eq!((&reply["id"], &reply["ok"]), (&json!(id), &json!(true)));
        let queues = reply["result"]["queues"].as_array().cloned();
        let mut queues = queues.unwrap_or_default().into_iter();
        let found = queues.find(|queue| queue["queue"] == QUEUE);
        found.unwrap_or_else(|| panic!("{QUEUE} is listed: {reply}"))
    };
    assert_eq!(listed("l-1", None).await["paused"], Value::Null);

    // What is wrong is said, and pauses nothing.
    let reason = json!({"queue": QUEUE, "reason": "the network is down"});
    for (body, wanted, hint) in [
        (
            request("w-1", None, "queue.pause", json!({"queue": QUEUE})),
            "wrong_argument",
            "reason",
        ),
        (
            request(
                "w-2",
                None,
                "queue.pause",
                json!({"queue": "muster.tasks.raeder", "reason": "r"}),
            ),
            "not_found",
            QUEUE,
        ),
        (
            request("w-3", Some("acme"), "queue.pause", reason.clone()),
            "not_yours",
            "organization",
        ),
        (
            request("w-4", Some("acme"), "queue.resume", json!({"queue": QUEUE})),
            "not_yours",
            "organization",
        ),
    ] {
        let reply = said(&asker, &body).await;
        assert_eq!(code(&reply), wanted, "{reply}");
        let told = format!("{} {}", reply["error"]["message"], reply["error"]["help"]);
        assert!(told.contains(hint), "{reply}");
    }
    assert_eq!(listed("l-2", None).await["paused"], Value::Null);

    let pause = request("p-1", None, "queue.pause", reason);
    let first = asker.ask(&pause).await;
    let paused: Value = serde_json::from_slice(&first).expect("JSON");
    assert_eq!(
        (&paused["id"], &paused["ok"]),
        (&json!("p-1"), &json!(true))
    );
    assert_eq!(paused["result"]["changed"], true, "{paused}");
    assert_eq!(
        asker.ask(&pause).await,
        first,
        "the same id, the same answer"
    );
    let queue = listed("l-3", None).await;
    assert_eq!(queue["paused"]["reason"], "the network is down");
    assert_eq!(queue["paused"]["who"], "bus");
    assert_eq!(queue["paused"], paused["result"]["paused"]);

    // Its tasks wait.
    let start = request("s-1", None, "run.start", json!({"schedule": "feeds"}));
    assert_eq!(said(&asker, &start).await["ok"], true);
    let mut asked = 0;
    let queue = until("the tasks are there", async || {
        asked += 1;
        let queue = listed(&format!("t-{asked}"), None).await;
        (queue["waiting"]["manual"] == 2).then_some(queue)
    })
    .await;
    assert_eq!(queue["dispatched"], 0, "{queue}");
    let theirs = listed("l-4", Some("acme")).await;
    assert_eq!(
        theirs["waiting"]["manual"], 1,
        "only what is its own: {theirs}"
    );
    assert!(
        broker.tasks("reader").await.is_empty(),
        "nothing is offered"
    );

    let resume = request("r-1", None, "queue.resume", json!({"queue": QUEUE}));
    let resumed = said(&asker, &resume).await;
    assert_eq!(
        resumed["result"],
        json!({"queue": QUEUE, "changed": true, "paused": null}),
        "{resumed}"
    );
    let database = house.database().await;
    until("both are offered", async || {
        (database.unpublished().await? == 0).then_some(())
    })
    .await;
    assert_eq!(broker.tasks("reader").await.len(), 2);
    let queue = listed("l-5", None).await;
    assert_eq!(
        (&queue["paused"], &queue["dispatched"]),
        (&Value::Null, &json!(2))
    );
    let again = request("r-2", None, "queue.resume", json!({"queue": QUEUE}));
    assert_eq!(said(&asker, &again).await["result"]["changed"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_a_queue_is_listed_paused_and_resumed_by_commands() {
    let rabbit = Rabbit::start();
    let house = House::embedded("");
    house.set(&rabbit.url(), "");
    house.apply("declared.yaml", DECLARED);
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let asker = RabbitAsker::connect(&rabbit.url()).await;
    queues(&house, &broker, asker).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_a_queue_is_listed_paused_and_resumed_by_commands() {
    let nats = Nats::start();
    let house = House::embedded("");
    house.set(&nats.url(), "");
    house.apply("declared.yaml", DECLARED);
    let service = house.service();
    let broker = OnNats::connect(&nats.url()).await;
    let asker = NatsAsker::connect(&nats.url()).await;
    queues(&house, &broker, asker).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbitmq_commands_are_answered_where_reply_to_says_with_their_correlation_id() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), LIFE);
    house.apply("declared.yaml", DECLARED);
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let asker = RabbitAsker::connect(&rabbit.url()).await;
    conversation(&house, &broker, asker).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_commands_are_answered_by_request_and_reply() {
    let (postgres, nats) = (Postgres::with(&["fsync=off"]), Nats::start());
    let house = House::new(&postgres.url(), &nats.url(), LIFE);
    house.apply("declared.yaml", DECLARED);
    let service = house.service();
    let broker = OnNats::connect(&nats.url()).await;
    let asker = NatsAsker::connect(&nats.url()).await;
    conversation(&house, &broker, asker).await;
    service.stop().await;
}
