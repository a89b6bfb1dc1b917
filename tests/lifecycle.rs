//! The life of tasks on real servers: RabbitMQ and PostgreSQL, the service as a process of its own, and workers of
//! every kind.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use sqlx::{AnyPool, Row};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use support::broker::{Broker, OnNats, OnRabbit, Parcel};
use support::process::{House, until};
use support::servers::{Nats, Postgres, Rabbit};

#[path = "support/mod.rs"]
mod support;

const QUEUE: &str = "muster.tasks.scanner";

fn host(number: usize, tag: usize) -> Parcel {
    let event = json!({
        "specversion": "1.0", "id": format!("{number}-{tag}"), "source": "/t", "type": "object.updated",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": format!("host{number}"),
                 "attributes": {"name": format!("host{number}"), "tag": tag}, "scan_level": 2},
    });
    Parcel {
        key: "object.updated".to_owned(),
        body: event.to_string().into_bytes(),
        content_type: Some("application/cloudevents+json"),
        ..Parcel::default()
    }
}

const CATALOGUE: &str = "- {kind: organization, id: acme}\n\
    - {kind: plugin, plugin_id: scan, worker_type: scanner, consumes: [hostname]}\n\
    - {name: changed, run_on: hostname, operation: [created, updated], plugins: \"True\", grace: 0s}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_at_the_broker_than_the_credit_says_and_a_paused_queue_gives_nothing() {
    let (postgres, rabbit) = (Postgres::start(), Rabbit::start());
    let house = House::new(
        &postgres.url(),
        &rabbit.url(),
        "[workers.scanner]\ncredit = 5\n",
    );
    house.apply("catalogue.yaml", CATALOGUE);
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let hosts: Vec<Parcel> = (0..20).map(|number| host(number, 1)).collect();
    broker.publish(&hosts).await;
    let listed = || house.json(&["queue", "list"])[0].clone();
    let stands = async |expected: [i64; 3]| {
        until(
            &format!("[waiting, dispatched, running] is {expected:?}"),
            async || {
                let queue = listed();
                let seen = [
                    &queue["waiting"]["event"],
                    &queue["dispatched"],
                    &queue["running"],
                ];
                (seen.map(|many| many.as_i64().unwrap_or(-1)) == expected).then_some(())
            },
        )
        .await;
    };
    stands([15, 5, 0]).await;
    until("what was offered is at the broker", async || {
        (broker.ready(QUEUE).await == 5).then_some(())
    })
    .await;
    let first = broker.tasks("scanner").await;
    // Taking is not accepting.
    stands([15, 5, 0]).await;
    let say = async |task: &Value, word: &str| {
        broker
            .report(&json!({"task_id": task["id"], "attempt": task["attempt"], "worker": "w", "status": word,
                            "at": "2026-11-21T09:30:00Z"}))
            .await;
    };
    for task in &first[..2] {
        say(&task.body, "accepted").await;
    }
    stands([13, 5, 2]).await;
    assert_eq!(listed()["credit_in_use"], 5);

    let reason = "the scanned network is down";
    house.done(&["queue", "pause", QUEUE, "--reason", reason]);
    for task in &first {
        say(&task.body, "accepted").await;
    }
    stands([13, 2, 5]).await;
    let paused = listed();
    assert_eq!(paused["paused"]["reason"], reason);
    assert!(house.done(&["queue", "list"]).contains(reason));
    until("the two that were on their way are there", async || {
        (broker.ready(QUEUE).await == 2).then_some(())
    })
    .await;
    assert_eq!(broker.tasks("scanner").await.len(), 2);
    let again = house.json(&["queue", "resume", QUEUE]);
    assert_eq!(
        (&again["changed"], &again["paused"]),
        (&json!(true), &Value::Null)
    );
    stands([10, 5, 5]).await;
    let refused = house.run(&["queue", "pause", "muster.tasks.scaner", "--reason", "x"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("did you mean muster.tasks.scanner?"),
        "{said}"
    );
    service.stop().await;
}

/// What the workers of a test have said, each time that they did.
#[derive(Default)]
struct Told {
    /// Who accepted which attempt.
    accepted: BTreeMap<(String, i64), String>,
    answered: BTreeSet<(String, i64)>,
    succeeded: BTreeSet<(String, i64)>,
    fatal: BTreeSet<(String, i64)>,
}

/// How a worker behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Takes so many and says no more, half of them after a first heartbeat.
    Hangs(usize),
    DeclinesForEver,
    AnswersTwice,
    /// Takes so many and answers when their time is over.
    AnswersLate(usize),
}

struct Worker {
    name: String,
    manner: Manner,
    channel: Channel,
    told: Arc<Mutex<Told>>,
    stop: CancellationToken,
    _connection: Connection,
}

impl Worker {
    async fn connect(
        url: &str,
        name: &str,
        manner: Manner,
        told: &Arc<Mutex<Told>>,
        stop: &CancellationToken,
    ) -> Worker {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        channel
            .basic_qos(4, BasicQosOptions::default())
            .await
            .expect("a prefetch");
        Worker {
            name: name.to_owned(),
            manner,
            channel,
            told: told.clone(),
            stop: stop.clone(),
            _connection: connection,
        }
    }

    async fn say(&self, task: &Value, status: &str, more: Value) {
        let mut said = json!({"task_id": task["id"], "attempt": task["attempt"], "worker": self.name,
                              "status": status, "at": muster::moment::Moment::now().to_string()});
        if let (Value::Object(said), Value::Object(more)) = (&mut said, more) {
            said.extend(more);
        }
        let offer = (
            task["id"].as_str().expect("an id").to_owned(),
            task["attempt"].as_i64().expect("a number"),
        );
        {
            let mut told = self.told.lock().expect("the log");
            if ["succeeded", "failed"].contains(&status) {
                told.answered.insert(offer.clone());
            }
            match status {
                "accepted" => {
                    told.accepted.entry(offer).or_insert(self.name.clone());
                }
                "succeeded" => {
                    told.succeeded.insert(offer);
                }
                "failed" if said["class"] == "fatal" => {
                    told.fatal.insert(offer);
                }
                _ => {}
            }
        }
        let confirm = self
            .channel
            .basic_publish(
                "".into(),
                "muster.status".into(),
                BasicPublishOptions::default(),
                said.to_string().as_bytes(),
                BasicProperties::default(),
            )
            .await
            .expect("sent");
        confirm.await.expect("confirmed");
    }

    async fn work(self) {
        let consumed = self
            .channel
            .basic_consume(
                QUEUE.into(),
                self.name.as_str().into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await;
        let mut tasks = consumed.expect("a worker may take tasks");
        let mut taken = 0;
        let mut late: Vec<(Instant, Value)> = Vec::new();
        loop {
            let delivery = tokio::select! {
                () = self.stop.cancelled() => return,
                delivery = tasks.next() => Some(delivery.expect("a task").expect("a task")),
                () = tokio::time::sleep(Duration::from_millis(50)), if !late.is_empty() => None,
            };
            // The attempt is closed two seconds for its work and five for its report after it began.
            while let Some((begun, task)) = late.first() {
                if begun.elapsed() < Duration::from_millis(8500) {
                    break;
                }
                self.answer(task).await;
                late.remove(0);
            }
            let Some(delivery) = delivery else {
                continue;
            };
            let task: Value = serde_json::from_slice(&delivery.data).expect("a task is JSON");
            let avoided = task["avoid_workers"].as_array().expect("a list");
            let full = match self.manner {
                Manner::Hangs(most) | Manner::AnswersLate(most) => taken >= most,
                Manner::DeclinesForEver => true,
                _ => false,
            };
            if full || avoided.contains(&json!(self.name)) {
                self.say(&task, "declined", json!({"reason": "not by me"}))
                    .await;
            } else {
                taken += 1;
                self.say(&task, "accepted", json!({})).await;
                match self.manner {
                    Manner::Hangs(_) if taken % 2 == 0 => {
                        self.say(&task, "heartbeat", json!({"done": 1, "total": 9}))
                            .await;
                    }
                    Manner::Hangs(_) => {}
                    Manner::AnswersLate(_) => late.push((Instant::now(), task.clone())),
                    Manner::AnswersTwice => {
                        self.answer(&task).await;
                        self.say(&task, "accepted", json!({})).await;
                        self.answer(&task).await;
                    }
                    Manner::Honest | Manner::DeclinesForEver => self.answer(&task).await,
                }
            }
            delivery
                .ack(BasicAckOptions::default())
                .await
                .expect("acknowledged");
        }
    }

    /// Some hosts can never be scanned, and some fail each time.
    async fn answer(&self, task: &Value) {
        let key = task["inputs"][0]["primary_key"].as_str().expect("a key");
        let number: usize = key.trim_start_matches("host").parse().expect("a number");
        match number % 25 {
            3 => {
                self.say(
                    task,
                    "failed",
                    json!({"class": "fatal", "message": "no such host"}),
                )
                .await
            }
            7 => {
                self.say(
                    task,
                    "failed",
                    json!({"class": "retryable", "message": "refused"}),
                )
                .await
            }
            _ => self.say(task, "succeeded", json!({})).await,
        }
    }
}

async fn offers_that_nobody_accepts_do_not_pile_up<B: Broker>(
    url: &str,
    connect: impl AsyncFnOnce() -> B,
    lying: impl AsyncFn(&B) -> u64,
) {
    let house = House::embedded("");
    house.set(url, "[workers.scanner]\n");
    let catalogue = CATALOGUE.replace(
        "consumes: [hostname]",
        "consumes: [hostname], timeouts: {queue: 1s}",
    );
    house.apply("catalogue.yaml", &catalogue);
    let service = house.service();
    let broker = connect().await;
    broker.publish(&[host(1, 1)]).await;
    until("it was offered three times", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let attempts = house.json(&["attempt", "list"]);
        (attempts.as_array().map_or(0, Vec::len) >= 3).then_some(())
    })
    .await;
    // The one before may go a moment after the next has come.
    until("the older ones are gone", async || {
        (lying(&broker).await <= 1).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_that_nobody_accepts_do_not_pile_up_on_rabbitmq() {
    let rabbit = Rabbit::start();
    let url = rabbit.url();
    let ready = async |broker: &OnRabbit| u64::from(broker.ready(QUEUE).await);
    let connect = async || OnRabbit::connect(&url).await;
    offers_that_nobody_accepts_do_not_pile_up(&url, connect, ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_that_nobody_accepts_do_not_pile_up_on_nats() {
    let nats = Nats::start();
    let url = nats.url();
    let lying = async |broker: &OnNats| broker.offered().await;
    let connect = async || OnNats::connect(&url).await;
    offers_that_nobody_accepts_do_not_pile_up(&url, connect, lying).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_what_is_cancelled_before_anybody_takes_it_leaves_the_stream_and_nothing_else_does()
{
    let nats = Nats::start();
    let house = House::embedded("");
    house.set(&nats.url(), "[workers.scanner]\n");
    house.apply("catalogue.yaml", CATALOGUE);
    let service = house.service();
    let broker = OnNats::connect(&nats.url()).await;
    broker.publish(&[host(1, 1), host(2, 1)]).await;
    let lie = async |many: u64| {
        until(&format!("{many} offers lie in the stream"), async || {
            (broker.offered().await == many).then_some(())
        })
        .await;
    };
    lie(2).await;
    let tasks = house.json(&["task", "list"]);
    let ids: Vec<&str> = tasks
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|task| task["id"].as_str())
        .collect();
    let [one, other] = ids[..] else {
        panic!("two tasks: {tasks}")
    };
    house.done(&["task", "cancel", one]);
    lie(1).await;
    assert_eq!(broker.first_offer(QUEUE).await, format!("{other}:1"));
    house.done(&["task", "cancel", other]);
    lie(0).await;
    let database = house.database().await;
    until("nothing is left to take back", async || {
        let left = database.count("SELECT count(*) FROM attempt WHERE sequence IS NOT NULL");
        (left.await? == 0).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_among_workers_that_die_hang_decline_repeat_and_answer_late_end_in_the_truth()
 {
    let (postgres, rabbit) = (Postgres::start(), Rabbit::start());
    let settings = "[defaults]\n\
        timeouts = { queue = \"20s\", heartbeat = \"3s\", run = \"2s\", task = \"1h\" }\n\
        retry = { max = 3, first = \"1s\", cap = \"1s\", declines = 20 }\n";
    let house = House::new(&postgres.url(), &rabbit.url(), settings);
    house.apply("catalogue.yaml", CATALOGUE);
    let service = house.service();
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let database = house.database().await;
    let begun = Instant::now();

    // One is killed while it has its hands full.
    let work = [
        "work",
        "--type",
        "scanner",
        "--name",
        "killed",
        "--concurrency",
        "8",
        "--exec",
        "sleep 600",
    ];
    let killed = house.beside("killed", &work, &[]);
    let hosts: Vec<Parcel> = (0..1000).map(|number| host(number, 1)).collect();
    broker.publish(&hosts).await;
    until("the one that is to be killed is at work", async || {
        let busy = database
            .count("SELECT count(*) FROM attempt WHERE worker = 'killed' AND ended_at IS NULL")
            .await;
        (busy >= Some(8)).then_some(())
    })
    .await;
    killed.kill();

    let told = Arc::new(Mutex::new(Told::default()));
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for (name, manner) in [
        ("honest-1", Manner::Honest),
        ("honest-2", Manner::Honest),
        ("honest-3", Manner::Honest),
        ("hangs", Manner::Hangs(30)),
        ("declines", Manner::DeclinesForEver),
        ("twice", Manner::AnswersTwice),
        ("late", Manner::AnswersLate(30)),
    ] {
        let worker = Worker::connect(&rabbit.url(), name, manner, &told, &stop).await;
        workers.spawn(worker.work());
    }
    until("every task has ended", async || {
        let made = database.tasks().await?;
        let open = database
            .count("SELECT count(*) FROM task WHERE finished_at IS NULL")
            .await?;
        (made == 1000 && open == 0).then_some(())
    })
    .await;
    until(
        "whoever answers late has done so, and all that was said was heard",
        async || {
            let said = {
                let told = told.lock().expect("the log");
                let late = told.accepted.iter().filter(|(_, worker)| *worker == "late");
                late.clone().count()
                    == late
                        .filter(|(offer, _)| told.answered.contains(*offer))
                        .count()
            };
            (said && broker.ready("muster.status").await == 0).then_some(())
        },
    )
    .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    service.stop().await;
    stop.cancel();
    while let Some(ended) = workers.join_next().await {
        ended.expect("a worker ends well");
    }

    let said = std::mem::take(&mut *told.lock().expect("the log"));
    assert_truth(&house, &said).await;
    // The same hosts change: nothing is in the way of new tasks, and they run.
    let service = house.service();
    let told = Arc::new(Mutex::new(Told::default()));
    let stop = CancellationToken::new();
    for name in ["new-1", "new-2"] {
        let worker = Worker::connect(&rabbit.url(), name, Manner::Honest, &told, &stop).await;
        workers.spawn(worker.work());
    }
    let hosts: Vec<Parcel> = (0..1000)
        .step_by(25)
        .map(|number| host(number, 2))
        .collect();
    broker.publish(&hosts).await;
    until("the new ones have succeeded", async || {
        let done = database
            .count("SELECT count(*) FROM task WHERE state = 'succeeded' AND id IN (SELECT id FROM task ORDER BY id DESC LIMIT 40)")
            .await?;
        (database.tasks().await? == 1040 && done == 40).then_some(())
    })
    .await;
    stop.cancel();
    while let Some(ended) = workers.join_next().await {
        ended.expect("a worker ends well");
    }
    service.stop().await;
}

/// What the store says is what the workers have said and what the clocks have seen.
async fn assert_truth(house: &House, told: &Told) {
    let sql = AnyPool::connect(house.store_url())
        .await
        .expect("connected");
    let database = house.database().await;
    let rows = sqlx::query(
        "SELECT t.id, t.state, t.attempt, t.spent, a.number, a.worker, a.outcome, a.accepted_at, a.ended_at \
         FROM task t JOIN attempt a ON a.task_id = t.id ORDER BY t.id, a.number",
    )
    .fetch_all(&sql)
    .await
    .expect("tasks");
    let late: HashSet<(String, i64)> =
        sqlx::query("SELECT task_id, number FROM late_result WHERE status = 'succeeded'")
            .fetch_all(&sql)
            .await
            .expect("late results")
            .iter()
            .map(|row| (row.get("task_id"), row.get("number")))
            .collect();
    type Attempt = (i64, Option<String>, String);
    let mut tasks: BTreeMap<String, (String, i64, i64, Vec<Attempt>)> = BTreeMap::new();
    for row in &rows {
        let id: String = row.get("id");
        let ended: Option<i64> = row.get("ended_at");
        assert!(ended.is_some(), "an attempt of {id} is open");
        let entry = tasks.entry(id).or_insert_with(|| {
            (
                row.get("state"),
                row.get("attempt"),
                row.get("spent"),
                Vec::new(),
            )
        });
        entry
            .3
            .push((row.get("number"), row.get("worker"), row.get("outcome")));
    }
    assert_eq!(tasks.len(), 1000);
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, (state, attempt, spent, attempts)) in &tasks {
        *states.entry(state).or_default() += 1;
        let numbers: Vec<i64> = attempts.iter().map(|(number, _, _)| *number).collect();
        assert_eq!(
            numbers,
            (1..=*attempt).collect::<Vec<_>>(),
            "every attempt of {id} is kept"
        );
        for (number, worker, outcome) in attempts {
            *outcomes.entry(outcome).or_default() += 1;
            let offer = (id.clone(), *number);
            if let Some(accepted) = told.accepted.get(&offer) {
                assert_eq!(
                    worker.as_ref(),
                    Some(accepted),
                    "who had attempt {number} of {id}"
                );
            }
        }
        let of = |words: &[&str]| {
            let these = attempts
                .iter()
                .filter(|(_, _, outcome)| words.contains(&outcome.as_str()));
            these.count() as i64
        };
        let worked = told.succeeded.iter().any(|(task, _)| task == id);
        match state.as_str() {
            "succeeded" => assert!(worked, "{id} succeeded and nobody said so"),
            "failed" => assert!(
                told.fatal.iter().any(|(task, _)| task == id),
                "{id} is not to be tried again and nobody said so"
            ),
            "dead" => {
                assert_eq!(
                    (*spent, of(&["failed", "silent", "timed_out"])),
                    (3, 3),
                    "{id}: {attempts:?}"
                );
                let last = attempts.last().map(|(number, _, _)| (id.clone(), *number));
                let said = last
                    .is_some_and(|last| told.succeeded.contains(&last) && !late.contains(&last));
                assert!(!said, "{id} is dead and its last attempt succeeded");
            }
            other => panic!("{id} is {other}"),
        }
    }
    // Whatever was said of success decided its task, or is kept beside it.
    for (task, number) in &told.succeeded {
        let (state, _, _, attempts) = &tasks[task];
        let decided = state == "succeeded"
            && attempts
                .iter()
                .any(|(n, _, outcome)| n == number && outcome == "succeeded");
        assert!(
            decided || late.contains(&(task.clone(), *number)),
            "{task}:{number} succeeded and is not kept"
        );
    }
    // Forty can never succeed and forty fail each time; of the others a few may have met bad workers alone.
    let of = |state: &str| states.get(state).copied().unwrap_or(0);
    assert!(of("failed") + of("dead") >= 80, "{states:?}");
    assert!(of("failed") >= 30 && of("succeeded") > 850, "{states:?}");
    for outcome in ["succeeded", "failed", "declined", "silent", "timed_out"] {
        assert!(
            outcomes.contains_key(outcome),
            "nothing was {outcome}: {outcomes:?}"
        );
    }
    // Nothing is blocked.
    for (what, count) in [
        ("keys", database.count("SELECT count(*) FROM open_input").await),
        ("runs", database.count("SELECT count(*) FROM run WHERE finished_at IS NULL").await),
        ("clocks", database.count("SELECT count(*) FROM attempt WHERE expires_at IS NOT NULL OR claimed_until IS NOT NULL").await),
    ] {
        assert_eq!(count, Some(0), "{what} are left");
    }
    println!(
        "states {states:?}, outcomes {outcomes:?}, late {}",
        late.len()
    );
}
