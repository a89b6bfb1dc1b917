//! Who may speak: commands and statuses that are signed, and those that are not, on a real RabbitMQ.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use support::process::{House, until};
use support::servers::Rabbit;

const SETTINGS: &str = r#"
require_signatures = true
[workers.script]
level_gate = "if_set"
[[keys]]
id = "console"
secret = "the secret of acme"
organizations = ["acme"]
[[keys]]
id = "other"
secret = "the secret of beta"
organizations = ["beta"]
[work]
key = "console"
"#;

const RULES: &str = "\
- {kind: organization, id: acme}
- {kind: organization, id: beta}
- {kind: plugin, plugin_id: greet, worker_type: script, runtime: sh, artefact: greet.sh}
- {name: greet, organization: acme, plugins: plugin_id = 'greet', recurrences: {period: 1d, anchor: start}}
";

/// As somebody else would sign.
fn hmac(secret: &str, body: &[u8]) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret, "-hex"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut input = openssl.stdin.take().expect("an input");
    input.write_all(body).expect("the body is read");
    drop(input);
    let output = openssl.wait_with_output().expect("an end");
    let said = String::from_utf8(output.stdout).expect("a text");
    said.trim().rsplit(' ').next().expect("a digest").to_owned()
}

type Headers = BTreeMap<&'static str, String>;

fn signed(id: &str, secret: &str, body: &[u8]) -> Headers {
    BTreeMap::from([
        ("muster-key", id.to_owned()),
        ("muster-signature", hmac(secret, body)),
    ])
}

struct Asker {
    _connection: Connection,
    channel: Channel,
    replies: lapin::Consumer,
    queue: String,
}

impl Asker {
    async fn connect(url: &str) -> Asker {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel
            .queue_declare("".into(), own, FieldTable::default())
            .await
            .expect("a queue");
        let queue = declared.name().to_string();
        let replies = channel
            .basic_consume(
                queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a consumer");
        Asker {
            _connection: connection,
            channel,
            replies,
            queue,
        }
    }

    async fn send(&self, queue: &str, body: &[u8], headers: &Headers) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            let value = AMQPValue::LongString(value.as_str().into());
            table.insert((*name).into(), value);
        }
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_reply_to(self.queue.as_str().into());
        self.channel
            .basic_publish(
                "".into(),
                queue.into(),
                BasicPublishOptions::default(),
                body,
                properties,
            )
            .await
            .expect("sent");
    }

    async fn ask(&mut self, body: &[u8], headers: &Headers) -> Value {
        self.send("muster.commands", body, headers).await;
        let reply = tokio::time::timeout(Duration::from_secs(60), self.replies.next());
        let reply = reply.await.expect("a reply in time").expect("a reply");
        let reply = reply.expect("a reply");
        reply
            .ack(BasicAckOptions::default())
            .await
            .expect("acknowledged");
        serde_json::from_slice(&reply.data).expect("JSON")
    }
}

fn command(id: &str, organization: &Value) -> Vec<u8> {
    json!({"id": id, "command": "run.start", "organization": organization, "args": {"schedule": "greet"}})
        .to_string()
        .into_bytes()
}

fn tasks(house: &House) -> Vec<Value> {
    let listed = house.json(&["task", "list"]);
    listed.as_array().cloned().unwrap_or_default()
}

fn dead_letters(house: &House) -> Vec<Value> {
    let listed = house.json(&["dead-letter", "list"]);
    listed.as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_speaks_for_its_organisations_and_nobody_else_does() {
    let rabbit = Rabbit::start();
    let house = House::embedded("");
    house.set(&rabbit.url(), SETTINGS);
    house.apply("rules.yaml", RULES);
    let service = house.service();
    until("the service is well", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.run(&["health"]).status.success().then_some(())
    })
    .await;
    let mut asker = Asker::connect(&rabbit.url()).await;

    // Nothing, something else, another body, an unknown key, half of it: each is refused and says why.
    let body = command("r-1", &json!("acme"));
    let none = Headers::new();
    let wrong = signed("console", "a guess", &body);
    let other_body = signed(
        "console",
        "the secret of acme",
        &command("r-2", &json!("acme")),
    );
    let unknown = signed("nobody", "the secret of acme", &body);
    let mut half = signed("console", "the secret of acme", &body);
    half.remove("muster-signature");
    let mut torn = signed("console", "the secret of acme", &body);
    torn.insert("muster-signature", "ab".to_owned());
    for (headers, why) in [
        (&none, "not signed"),
        (&wrong, "does not fit"),
        (&other_body, "does not fit"),
        (&unknown, "not known"),
        (&half, "missing"),
        (&torn, "64 digits"),
    ] {
        let reply = asker.ask(&body, headers).await;
        assert_eq!(reply["error"]["code"], "unsigned", "{reply}");
        let said = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{said}");
    }
    // A key that is good for others, and one that asks for all.
    let reply = asker
        .ask(&body, &signed("other", "the secret of beta", &body))
        .await;
    assert_eq!(reply["error"]["code"], "not_permitted", "{reply}");
    let all = command("r-3", &Value::Null);
    let reply = asker
        .ask(&all, &signed("console", "the secret of acme", &all))
        .await;
    assert_eq!(reply["error"]["code"], "not_permitted", "{reply}");
    assert_eq!(tasks(&house), Vec::<Value>::new());

    // The right one.
    let reply = asker
        .ask(&body, &signed("console", "the secret of acme", &body))
        .await;
    assert_eq!(reply["ok"], true, "{reply}");
    let task = until("its task is offered", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let offered = |task: &Value| task["state"] == "dispatched";
        tasks(&house).into_iter().find(offered)
    })
    .await;

    // Statuses: unsigned ones are kept as dead letters, those of another key are refused; the task stays as it is.
    let id = task["id"].as_str().expect("an id");
    let status = json!({"task_id": id, "attempt": 1, "worker": "w", "status": "succeeded", "at": "2026-11-21T09:31:00Z"})
        .to_string()
        .into_bytes();
    asker.send("muster.status", &status, &none).await;
    let foreign = signed("other", "the secret of beta", &status);
    asker.send("muster.status", &status, &foreign).await;
    until("the unsigned one is kept", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let kept = dead_letters(&house);
        let unsigned = |letter: &&Value| letter["reason"] == "unsigned";
        kept.iter().find(unsigned).map(|_| ())
    })
    .await;
    until("the foreign one is told of", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let said = "the key `other` does not speak for organization `acme`";
        service.log().contains(said).then_some(())
    })
    .await;
    assert_eq!(tasks(&house)[0]["state"], "dispatched");

    // The worker that comes along signs with the key of its settings.
    let shelf = house.path("shelf");
    std::fs::create_dir_all(&shelf).expect("a store");
    std::fs::write(shelf.join("greet.sh"), "echo hello\n").expect("a script");
    let shelf = shelf.to_str().expect("a path").to_owned();
    let worker = house.beside(
        "worker",
        &["work", "--type", "script", "--store", &shelf],
        &[],
    );
    until("the task has run", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (tasks(&house)[0]["state"] == "succeeded").then_some(())
    })
    .await;
    worker.stop().await;
    service.stop().await;
}

#[test]
fn settings_that_could_not_be_kept_are_refused() {
    let house = House::embedded("require_signatures = true\n");
    let said = house.run(&["check"]);
    assert_eq!(said.status.code(), Some(2));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("lines have no headers"), "{said}");
    let house = House::embedded("");
    house.set("amqp://127.0.0.1:1/%2f", "[work]\nkey = \"nobody\"\n");
    let said = house.run(&["check"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("there is no key `nobody`"), "{said}");
}
