//! What happens when something dies, is away or sends nonsense: nothing is lost, nothing is done twice.

#[path = "crash/expansion.rs"]
mod expansion;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::broker::{Broker, OnNats, OnRabbit, Parcel, TaskMessage};
use support::compare::{assert_as_modelled, assert_messages, assert_same, inventory_of};
use support::load::{Chance, Load, SETTINGS, WORKER_TYPES};
use support::model::outcome;
use support::process::{Database, House, Service, until};
use support::proxy::Proxy;
use support::servers::{Nats, Postgres, Rabbit};

const EVENTS: usize = 10_000;
/// Longer than an orderly end may take.
const BOUND: Duration = Duration::from_secs(30);

fn parcels(load: &Load) -> Vec<Parcel> {
    load.events
        .iter()
        .map(|event| Parcel::of(event, OnRabbit::PREFIX))
        .collect()
}

async fn all_tasks(broker: &impl Broker) -> Vec<TaskMessage> {
    let mut messages = Vec::new();
    for worker_type in WORKER_TYPES {
        messages.extend(broker.tasks(worker_type).await);
    }
    messages
}

/// Makes whoever marks an offer as published wait while a test holds the lock 42.
const MARKS_WAIT: &str = "
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$;
CREATE TRIGGER marks_wait BEFORE UPDATE ON attempt FOR EACH ROW
WHEN (OLD.published_at IS NULL AND NEW.published_at IS NOT NULL) EXECUTE FUNCTION wait_for_test();
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_ten_moments_of_a_load_it_loses_nothing_and_stores_nothing_twice() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), SETTINGS);
    let load = Load::of(EVENTS);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let mut service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let database = house.database().await;
    let mut chance = Chance::seeded(9);
    let mut moments: Vec<usize> = (0..9).map(|_| 10 + chance.below(900)).collect();
    moments.sort_unstable();
    let parcels = parcels(&load);
    let kills = async {
        // First when messages are in the workers' queues and nobody has written down that they are.
        database.execute(MARKS_WAIT).await;
        let held = database.hold("SELECT pg_advisory_xact_lock(42)").await;
        until("task messages whose mark waits", async || {
            (broker.ready("muster.tasks.boefje").await > 0).then_some(())
        })
        .await;
        service.kill();
        drop(held);
        service = house.service();
        for (number, moment) in moments.iter().enumerate() {
            let enough = i64::try_from(EVENTS * moment / 1000).expect("a count");
            until(&format!("{enough} events are handled"), async || {
                (database.handled().await? >= enough).then_some(())
            })
            .await;
            if number % 2 == 1 {
                // Somewhere between the claim of some tasks and their mark as published.
                until("some offers are claimed", async || {
                    let claimed = "SELECT count(*) FROM attempt WHERE claimed_until > 0";
                    (database.count(claimed).await? > 0).then_some(())
                })
                .await;
            }
            service.kill();
            service = house.service();
        }
        service
    };
    let (service, ()) = tokio::join!(kills, broker.publish(&parcels));
    database.settled(EVENTS).await;
    service.stop().await;
    assert_eq!(
        broker.waiting().await,
        0,
        "expected no event to be left at the broker"
    );
    assert_eq!(
        database.dead_letters().await,
        Some(0),
        "expected no dead letter"
    );
    assert_as_modelled(&house, &expected).await;
    let repeated = assert_messages(&house, &load, &all_tasks(&broker).await);
    assert!(
        repeated > 0,
        "expected some messages to be published again, with the same message id"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_broker_and_database_are_killed_and_come_back_it_goes_on_by_itself() {
    let (mut postgres, mut rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), SETTINGS);
    let load = Load::of(EVENTS);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let database = house.database().await;
    let reaches = async |count: i64| {
        until(&format!("{count} events are handled"), async || {
            (database.handled().await? >= count).then_some(())
        })
        .await;
    };
    let parcels = parcels(&load);
    let (first, second) = parcels.split_at(EVENTS / 2);
    broker.publish(first).await;
    reaches(1_500).await;
    rabbit.kill();
    rabbit.restart();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let publishing = broker.publish(second);
    let killing = async {
        reaches(6_000).await;
        postgres.kill();
        postgres.restart();
    };
    tokio::join!(publishing, killing);
    database.settled(EVENTS).await;
    service.stop().await;
    assert_eq!(
        broker.waiting().await,
        0,
        "expected no event to be left at the broker"
    );
    assert_eq!(
        database.dead_letters().await,
        Some(0),
        "expected no dead letter"
    );
    assert_as_modelled(&house, &expected).await;
    assert_messages(&house, &load, &all_tasks(&broker).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_too_nothing_is_lost_when_it_is_killed_or_the_broker_is() {
    let (postgres, mut nats) = (Postgres::with(&["fsync=off"]), Nats::start());
    let house = House::new(&postgres.url(), &nats.url(), SETTINGS);
    // What a dead process held comes again after a while, behind what came later, so each object has one event.
    let load = Load::without_history(6_000);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let service = house.service();
    let broker = OnNats::connect(&nats.url()).await;
    let database = house.database().await;
    let events = load.events.iter();
    let parcels: Vec<Parcel> = events
        .map(|event| Parcel::of(event, OnNats::PREFIX))
        .collect();
    let reaches = async |count: i64| {
        until(&format!("{count} events are handled"), async || {
            (database.handled().await? >= count).then_some(())
        })
        .await;
    };
    let (first, second) = parcels.split_at(3_000);
    let killing = async {
        reaches(700).await;
        service.kill();
        house.service()
    };
    let (service, ()) = tokio::join!(killing, broker.publish(first));
    reaches(1_500).await;
    nats.kill();
    nats.restart();
    let broker = OnNats::connect(&nats.url()).await;
    broker.publish(second).await;
    database.settled(load.events.len()).await;
    service.stop().await;
    assert_eq!(
        database.dead_letters().await,
        Some(0),
        "expected no dead letter"
    );
    assert_as_modelled(&house, &expected).await;
    assert_messages(&house, &load, &all_tasks(&broker).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_takes_no_writes_it_waits_and_gives_up_nothing() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), SETTINGS);
    let load = Load::of(500);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    // As after a failover to a server that is not the first yet.
    let operator = Database::at(&postgres.url_of("postgres"));
    let ends_sessions =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'muster'";
    operator
        .execute("ALTER DATABASE muster SET default_transaction_read_only = on")
        .await;
    operator.execute(ends_sessions).await;
    broker.publish(&parcels(&load)).await;
    until(
        "it tells that it waits for the intake's writes",
        async || {
            service
                .log()
                .contains("intake: the database is out of reach")
                .then_some(())
        },
    )
    .await;
    operator
        .execute("ALTER DATABASE muster RESET default_transaction_read_only")
        .await;
    operator.execute(ends_sessions).await;
    let database = house.database().await;
    database.settled(load.events.len()).await;
    service.stop().await;
    assert_eq!(
        database.dead_letters().await,
        Some(0),
        "expected no message to be given up"
    );
    assert_as_modelled(&house, &expected).await;
}

/// Ten kinds of messages that cannot be read, with the reason that each is refused for.
fn unreadable(kind: usize, number: usize) -> (&'static str, Vec<u8>) {
    let event = |event_type: &str, data: Value| {
        let id = format!("u-{kind}-{number}");
        json!({ "specversion": "1.0", "id": id, "source": "/nonsense", "type": event_type, "time": "2026-03-01T00:00:00Z", "data": data })
            .to_string()
            .into_bytes()
    };
    let object = |more: Value| {
        let key = format!("hostname|internet|u{number}");
        let mut data = json!({ "organization": "acme", "object_type": "hostname", "primary_key": key, "attributes": { "name": "u" } });
        for (name, value) in more.as_object().expect("fields") {
            data[name] = value.clone();
        }
        data
    };
    match kind {
        0 => (
            "not_json",
            format!("{{\"specversion\":\"1.0\",\"id\":\"{number}\"").into_bytes(),
        ),
        1 => {
            let mut bytes = event("object.created", object(json!({})));
            let at = bytes.len() / 2;
            bytes.splice(at..at, [0xff, 0xfe]);
            ("not_utf8", bytes)
        }
        2 => ("wrong_type", format!("[\"{number}\"]").into_bytes()),
        3 => (
            "missing_field",
            event(
                "object.created",
                json!({ "organization": "acme", "object_type": "hostname", "attributes": {} }),
            ),
        ),
        4 => (
            "wrong_type",
            event("object.created", object(json!({ "scan_level": "two" }))),
        ),
        5 => (
            "bad_value",
            event("object.created", object(json!({ "scan_level": 9 }))),
        ),
        6 => ("unknown_type", event("object.exploded", object(json!({})))),
        7 => (
            "nul",
            event(
                "object.created",
                object(json!({ "attributes": { "name": "a\0b" } })),
            ),
        ),
        8 => (
            "too_long",
            event(
                "object.created",
                object(json!({ "primary_key": "k".repeat(5000) })),
            ),
        ),
        _ => (
            "unknown_organization",
            event(
                "object.created",
                object(json!({ "organization": "dunes", "scan_level": 4 })),
            ),
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_unreadable_messages_of_ten_kinds_are_kept_and_hold_up_nothing() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let settings = format!("open_organizations = false\n{SETTINGS}");
    let house = House::new(&postgres.url(), &rabbit.url(), &settings);
    let load = Load::of(2_000);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let database = house.database().await;
    let mut chance = Chance::seeded(1000);
    let mut nonsense: Vec<(&'static str, Vec<u8>)> =
        (0..1000).map(|at| unreadable(at % 10, at)).collect();
    chance.shuffle(&mut nonsense);
    let mut sent: BTreeMap<Vec<u8>, &'static str> = BTreeMap::new();
    let mut all = parcels(&load);
    for (reason, body) in nonsense {
        let parcel = Parcel {
            key: "object.created".to_owned(),
            body: body.clone(),
            ..Parcel::default()
        };
        all.insert(chance.below(all.len()), parcel);
        sent.insert(body, reason);
    }
    assert_eq!(sent.len(), 1000, "expected 1,000 different messages");
    broker.publish(&all).await;
    database.settled(load.events.len()).await;
    until("all unreadable messages are dead letters", async || {
        (database.dead_letters().await? == 1000).then_some(())
    })
    .await;
    assert_eq!(
        broker.waiting().await,
        0,
        "expected nothing to wait at the broker"
    );

    let store = house.store().await;
    let letters = store
        .dead_letters(None, 10_000)
        .await
        .expect("the dead letters");
    let kept: BTreeMap<Vec<u8>, &str> = letters
        .iter()
        .map(|kept| (kept.letter.body.clone(), kept.letter.reason.as_str()))
        .collect();
    assert_same(
        "the raw bytes and reasons of the dead letters",
        &kept,
        &sent,
    );
    for kept in &letters {
        assert_eq!(
            (kept.letter.intake.as_str(), kept.count),
            ("muster.events", 1),
            "expected each once, from its queue"
        );
        assert!(
            !kept.letter.message.is_empty(),
            "expected a message that says what is wrong"
        );
    }
    assert_as_modelled(&house, &expected).await;

    // One of them is no nonsense once the organisation is known.
    let of = |reason: &str| {
        letters
            .iter()
            .find(|kept| kept.letter.reason == reason)
            .expect("one of each")
            .letter
            .id
            .clone()
    };
    let (unknown, bad) = (of("unknown_organization"), of("bad_value"));
    let before = house.run(&["dead-letter", "redrive", &unknown]);
    assert_eq!(
        before.status.code(),
        Some(1),
        "expected the letter to stay dead before the fix"
    );
    house.apply(
        "fix.yaml",
        "- {kind: organization, id: dunes, indemnified: true}\n\
         - {name: dunes, organization: dunes, run_on: hostname, operation: created, plugins: \"plugin_id = 'weigh'\"}\n",
    );
    let redriven = house.json(&["dead-letter", "redrive", &unknown]);
    assert_eq!(
        redriven["results"][0]["ok"], true,
        "expected the letter to go through after the fix: {redriven}"
    );
    assert_eq!(
        redriven["results"][0]["tasks"]
            .as_u64()
            .map(|tasks| tasks > 0),
        Some(true),
        "expected a task of it: {redriven}"
    );
    until("the task of the redriven letter is published", async || {
        (database.unpublished().await? == 0).then_some(())
    })
    .await;
    let still = house.run(&["dead-letter", "redrive", &bad]);
    assert_eq!(
        still.status.code(),
        Some(1),
        "expected what is still wrong to stay a dead letter"
    );
    assert_eq!(
        database.dead_letters().await,
        Some(999),
        "expected one dead letter less"
    );
    let objects = house.json(&["object", "list", "--organization", "dunes"]);
    assert_eq!(
        objects.as_array().map(Vec::len),
        Some(1),
        "expected the object of the redriven letter: {objects}"
    );
    service.stop().await;
    let weighed = broker.tasks("probe").await;
    assert!(
        weighed
            .iter()
            .any(|task| task.body["organization"] == "dunes"),
        "expected the task in its queue"
    );
    store.close().await;
}

/// Declares what the strange messages need: everything about a host starts one plugin.
const ONE_PLUGIN: &str = r#"
- {kind: plugin, plugin_id: dns, worker_type: boefje, consumes: [hostname]}
- {name: hostnames, run_on: hostname, operation: created, plugins: "plugin_id = 'dns'"}
"#;

/// The largest message that is read.
const LARGEST: usize = 20 * 1024 * 1024;

/// An event with these attributes, written by hand.
fn hostname(key: &str, attributes: &str) -> Vec<u8> {
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":\"/strange\",\"type\":\"object.created\",\"data\":{{\"organization\":\"acme\",\
         \"object_type\":\"hostname\",\"primary_key\":\"{key}\",\"scan_level\":1,\"attributes\":{attributes}}}}}",
        key.replace("\\u0000", "")
    )
    .into_bytes()
}

/// Strange messages, each with why it is a dead letter, or nothing where it is handled.
fn strange() -> Vec<(&'static str, Option<&'static str>, Vec<u8>)> {
    let room = LARGEST - hostname("big", "{\"blob\":\"\"}").len();
    let blob = |size: usize| format!("{{\"blob\":\"{}\"}}", "x".repeat(size));
    let many: Vec<String> = (0..10_000).map(|at| format!("\"a{at}\":{at}")).collect();
    let deep = |open: &str, close: &str| {
        format!(
            "{{\"deep\":{}1{}}}",
            open.repeat(10_000),
            close.repeat(10_000)
        )
    };
    let mut not_utf8 = hostname("not-utf8", "{\"name\":\"ab\"}");
    let at = not_utf8.len() - 6;
    not_utf8[at] = 0xc3;
    let mut raw_nul = hostname("raw-nul", "{\"name\":\"ab\"}");
    raw_nul[at - 1] = 0;
    vec![
        ("20 MB", None, hostname("big", &blob(room))),
        (
            "20 MB and a byte",
            Some("too_large"),
            hostname("big", &blob(room + 1)),
        ),
        (
            "10,000 attributes",
            None,
            hostname("many", &format!("{{{}}}", many.join(","))),
        ),
        (
            "lists nested 10,000 deep",
            Some("too_deep"),
            hostname("lists", &deep("[", "]")),
        ),
        (
            "objects nested 10,000 deep",
            Some("too_deep"),
            hostname("objects", &deep("{\"d\":", "}")),
        ),
        (
            "10,000 brackets that are never closed",
            Some("too_deep"),
            "[".repeat(10_000).into_bytes(),
        ),
        ("invalid UTF-8", Some("not_utf8"), not_utf8),
        (
            "a NUL in a value",
            Some("nul"),
            hostname("value", "{\"name\":\"a\\u0000b\"}"),
        ),
        (
            "a NUL in the name of an attribute",
            Some("nul"),
            hostname("name", "{\"a\\u0000b\":1}"),
        ),
        ("a NUL in the key", Some("nul"), hostname("k\\u0000y", "{}")),
        ("a NUL as it is", Some("nul"), raw_nul),
        ("nothing", Some("not_json"), b" ".to_vec()),
    ]
}

/// What came of the strange messages; `cut` is how much is kept of one that is too long.
async fn assert_strange_handled(
    house: &House,
    messages: &[Value],
    sent: &[(&'static str, Option<&'static str>, Vec<u8>)],
) {
    let store = house.store().await;
    let letters = store
        .dead_letters(None, 1000)
        .await
        .expect("the dead letters");
    for (what, reason, body) in sent {
        let found = letters
            .iter()
            .find(|kept| kept.letter.body == *body)
            .map(|kept| kept.letter.reason.as_str());
        assert_eq!(
            found, *reason,
            "expected {what} to be a dead letter of this reason, or none"
        );
    }
    let dead = sent
        .iter()
        .filter(|(_, reason, _)| reason.is_some())
        .count();
    assert_eq!(letters.len(), dead, "expected no other dead letters");
    let objects = store
        .objects_after(
            "acme",
            "hostname",
            "",
            100,
            &muster::query::narrow::Narrow::Everything,
        )
        .await
        .expect("the objects");
    let keys: Vec<&str> = objects
        .iter()
        .map(|object| object.key.primary_key.as_str())
        .collect();
    assert_eq!(
        keys,
        ["big", "last", "many"],
        "expected the messages that can be read to be handled"
    );
    let sizes: Vec<usize> = objects
        .iter()
        .map(|object| object.attributes.len())
        .collect();
    assert_eq!(sizes, [1, 1, 10_000], "expected all attributes to be kept");
    let mut offered: Vec<(&str, usize)> = messages
        .iter()
        .map(|task| &task["inputs"][0])
        .map(|input| {
            (
                input["primary_key"].as_str().expect("a key"),
                input["attributes"].as_object().map_or(0, |map| map.len()),
            )
        })
        .collect();
    offered.sort_unstable();
    assert_eq!(
        offered,
        [("last", 1), ("many", 10_000)],
        "expected a task with all attributes for each that fits"
    );
    let listing = house.json(&["task", "list", "--state", "dead"]);
    let dead: Vec<(&Value, &Value)> = listing
        .as_array()
        .expect("a list")
        .iter()
        .map(|task| (&task["inputs"][0]["primary_key"], &task["reason"]))
        .collect();
    assert_eq!(
        dead,
        [(&json!("big"), &json!("too_large"))],
        "expected a task that is too large for its message to be dead"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_messages_on_rabbitmq_and_postgresql_are_handled_or_dead_letters() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), "");
    house.apply("one.yaml", ONE_PLUGIN);
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let database = house.database().await;
    let sent = strange();
    let parcel = |body: &Vec<u8>| Parcel {
        key: "object.created".to_owned(),
        // Headers that PostgreSQL would not take either.
        headers: vec![("x-note".to_owned(), "a\0b".to_owned())],
        body: body.clone(),
        ..Parcel::default()
    };
    let parcels: Vec<Parcel> = sent.iter().map(|(.., body)| parcel(body)).collect();
    broker.publish(&parcels).await;
    broker
        .publish(&[parcel(&hostname("last", "{\"name\":\"last\"}"))])
        .await;
    database.settled(3).await;
    let dead = i64::try_from(
        sent.iter()
            .filter(|(_, reason, _)| reason.is_some())
            .count(),
    )
    .expect("a count");
    until("the unreadable ones are dead letters", async || {
        (database.dead_letters().await? == dead).then_some(())
    })
    .await;
    service.stop().await;
    assert_eq!(broker.waiting().await, 0, "expected no message to be stuck");
    let messages: Vec<Value> = broker
        .tasks("boefje")
        .await
        .into_iter()
        .map(|message| message.body)
        .collect();
    assert_strange_handled(&house, &messages, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_messages_on_lines_and_sqlite_are_handled_or_dead_letters() {
    let house = House::embedded("");
    house.apply("one.yaml", ONE_PLUGIN);
    let mut sent = strange();
    // A line with nothing on it is no message.
    sent.retain(|(what, ..)| *what != "nothing");
    let mut input = Vec::new();
    for (.., body) in &sent {
        input.extend(body);
        input.push(b'\n');
    }
    input.extend(hostname("last", "{\"name\":\"last\"}"));
    let messages = house.lines(input);
    assert_strange_handled(&house, &messages, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_written_is_written_by_the_next_run_all_of_it() {
    let house = House::embedded("");
    house.apply("one.yaml", ONE_PLUGIN);
    let input: Vec<u8> = (0..1_200)
        .flat_map(|at| {
            let mut line = hostname(&format!("k{at}"), "{}");
            line.push(b'\n');
            line
        })
        .collect();
    let events = house.write("events.jsonl", &input);
    let status = house
        .command(&["run"])
        .stdin(fs::File::open(events).expect("the events"))
        .stdout(
            fs::File::options()
                .write(true)
                .open("/dev/full")
                .expect("a full disk"),
        )
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "expected an end: {status:?}");
    let database = house.database().await;
    assert_eq!(
        database.tasks().await,
        Some(1_200),
        "expected every task to be stored"
    );
    until("the offers that failed may be made again", async || {
        let early = "SELECT count(*) FROM attempt WHERE claimed_until >= CAST(strftime('%s', 'now') AS INTEGER) * 1000000";
        (database.count(early).await? == 0).then_some(())
    })
    .await;
    let written = house.lines(Vec::new());
    let tasks: BTreeSet<&str> = written
        .iter()
        .filter_map(|task| task["id"].as_str())
        .collect();
    assert_eq!(
        tasks.len(),
        1_200,
        "expected the next run to write them all"
    );
}

/// Sockets of a process on which somebody could call: listening ones of TCP and of the machine itself, any of UDP.
fn listening(pid: u32) -> Vec<String> {
    let folder = format!("/proc/{pid}");
    let mut own: BTreeSet<String> = BTreeSet::new();
    for entry in fs::read_dir(format!("{folder}/fd"))
        .expect("the process is there")
        .flatten()
    {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let inode = target
            .to_string_lossy()
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
            .map(str::to_owned);
        own.extend(inode);
    }
    assert!(
        !own.is_empty(),
        "expected the process to have sockets at all"
    );
    let mut found = Vec::new();
    for (table, inode, state) in [
        ("tcp", 9, Some((3, "0A"))),
        ("tcp6", 9, Some((3, "0A"))),
        ("udp", 9, None),
        ("udp6", 9, None),
        ("unix", 6, Some((3, "00010000"))),
    ] {
        let text = fs::read_to_string(format!("{folder}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let ours = fields.get(inode).is_some_and(|inode| own.contains(*inode));
            let listens = state.is_none_or(|(place, word)| fields.get(place) == Some(&word));
            if ours && listens {
                found.push(format!("{table}: {line}"));
            }
        }
    }
    found
}

/// The value of a metric, over all its labels.
fn metric(text: &str, name: &str) -> f64 {
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_that_start_at_once_share_a_load_and_listen_nowhere() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    // Each object has one event, so that the order in which two replicas handle them does not matter.
    let load = Load::without_history(4_000);
    let expected = outcome(&load, &load.events);
    let house = House::new(
        &postgres.url(),
        &rabbit.url(),
        &format!("{SETTINGS}\n[metrics]\nevery = \"1s\"\n"),
    );
    let metrics: Vec<String> = (0..2)
        .map(|number| house.path(&format!("{number}.prom")).display().to_string())
        .collect();
    // Nobody has made the schema before.
    let replicas: Vec<Service> = metrics
        .iter()
        .enumerate()
        .map(|(number, file)| {
            house.service_with(
                &format!("replica-{number}"),
                &[("MUSTER_METRICS_FILE", file)],
            )
        })
        .collect();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    for replica in &replicas {
        until("both replicas run", async || {
            replica.log().contains("muster runs").then_some(())
        })
        .await;
    }
    house.apply("load.json", &load.declarations());
    let database = house.database().await;
    broker.publish(&parcels(&load)).await;
    database.settled(load.events.len()).await;

    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    // Other tests of this process may listen too, so it is looked for by its port.
    let port = listener.local_addr().expect("an address").port();
    let seen = listening(std::process::id());
    assert!(
        seen.iter()
            .any(|line| line.starts_with("tcp:") && line.contains(&format!(":{port:04X} "))),
        "expected a listening socket to be seen: {seen:?}"
    );
    drop(listener);
    for replica in &replicas {
        assert_eq!(
            listening(replica.pid()),
            [""; 0],
            "expected muster to listen nowhere"
        );
    }
    for replica in replicas {
        replica.stop().await;
    }
    for file in &metrics {
        let text = fs::read_to_string(file).expect("the file of metrics");
        let taken = metric(&text, "muster_events_total");
        assert!(
            taken > 0.0,
            "expected each replica to take some of the events"
        );
        promtool(&text);
    }
    let taken: f64 = metrics
        .iter()
        .map(|file| {
            metric(
                &fs::read_to_string(file).expect("the file"),
                "muster_tasks_published_total",
            )
        })
        .sum();
    assert!(
        taken >= expected.open() as f64,
        "expected the metrics to count every task that was published: {taken}"
    );
    assert_as_modelled(&house, &expected).await;
    assert_eq!(
        assert_messages(&house, &load, &all_tasks(&broker).await),
        0,
        "expected no task message twice"
    );

    // With a history the tasks depend on the order, the inventory does not.
    postgres.create_database("again");
    let house = House::new(&postgres.url_of("again"), &rabbit.url(), SETTINGS);
    let load = Load::of(4_000);
    // And with organisations that nobody declared, so both replicas meet them for the first time.
    let mut declarations: Value =
        serde_json::from_str(&load.declarations()).expect("the declarations");
    let entries = declarations.as_array_mut().expect("a list");
    entries.retain(|entry| entry["kind"] != "organization");
    house.apply("load.json", &declarations.to_string());
    let replicas = [
        house.service_with("replica-0", &[]),
        house.service_with("replica-1", &[]),
    ];
    let database = house.database().await;
    broker.publish(&parcels(&load)).await;
    database.settled(load.events.len()).await;
    for replica in replicas {
        replica.stop().await;
    }
    assert_same(
        "the inventory",
        &inventory_of(&house).await,
        &outcome(&load, &load.events).live(),
    );
}

fn promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`promtool` runs; it comes with Debian's package `prometheus`");
    promtool
        .stdin
        .take()
        .expect("its input")
        .write_all(text.as_bytes())
        .expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && said.trim().is_empty(),
        "expected promtool to find nothing: {said}\n{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_in_order_and_a_second_one_at_once() {
    let (mut postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let proxy = Proxy::to(postgres.port());
    let address = format!("postgres://muster@127.0.0.1:{}/muster", proxy.port());
    let house = House::new(&address, &rabbit.url(), SETTINGS);
    let load = Load::of(3_000);
    let expected = outcome(&load, &load.events);
    house.apply("load.json", &load.declarations());
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let database = Database::at(&postgres.url());
    broker.publish(&parcels(&load)).await;
    until("it works on the load", async || {
        (database.handled().await? >= 500).then_some(())
    })
    .await;
    let asked = Instant::now();
    let log = service.log_path().to_owned();
    service.stop().await;
    assert!(
        asked.elapsed() < BOUND,
        "expected an orderly end within {BOUND:?}: {:?}",
        asked.elapsed()
    );
    let claimed = database
        .count("SELECT count(*) FROM attempt WHERE claimed_until IS NOT NULL")
        .await;
    assert_eq!(
        claimed,
        Some(0),
        "expected what was claimed to be published before the end:\n{}",
        fs::read_to_string(log).unwrap_or_default()
    );
    let service = house.service();
    database.settled(load.events.len()).await;
    assert_as_modelled(&house, &expected).await;
    assert_eq!(
        assert_messages(&house, &load, &all_tasks(&broker).await),
        0,
        "expected no task message twice after an orderly end"
    );

    // The database does not answer any more, so the end takes its time, and somebody loses patience.
    let mut service = service;
    proxy.stall();
    broker
        .publish(&[Parcel::of(&load.events[0], OnRabbit::PREFIX)])
        .await;
    until("it has taken the event", async || {
        (broker.waiting().await == 0).then_some(())
    })
    .await;
    service.terminate();
    // The service before it was told to stop in the same log.
    until("it has heard the first signal", async || {
        (service.log().matches("stopping").count() == 2).then_some(())
    })
    .await;
    let asked = Instant::now();
    service.terminate();
    let status = service.end().await;
    assert_eq!(
        status.code(),
        Some(130),
        "expected the second signal to end it at once"
    );
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "expected the second signal to end it at once: {:?}",
        asked.elapsed()
    );
    proxy.resume();

    // The database is gone: one signal is enough.
    let mut service = house.service();
    until("it runs again", async || {
        (service.log().matches("muster runs").count() == 3).then_some(())
    })
    .await;
    postgres.kill();
    let asked = Instant::now();
    service.terminate();
    let status = service.end().await;
    assert_eq!(
        status.code(),
        Some(0),
        "expected an orderly end without a database too:\n{}",
        service.log()
    );
    assert!(
        asked.elapsed() < BOUND,
        "expected an end within {BOUND:?}: {:?}",
        asked.elapsed()
    );
}
