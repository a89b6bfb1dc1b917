//! How fast events become tasks, on a real RabbitMQ and a real PostgreSQL beside it on this machine.
//!
//! Queues are filled first. Then, in turns, a bare forwarder and muster empty them: the forwarder consumes, publishes
//! with confirms and acknowledges in batches, and muster does its whole work between the same two queues. Both are timed
//! alike, from the first message that leaves the queue of events to the last one in the queue of tasks. After that,
//! events come at a tenth of muster's rate, and each is timed until its task is received.
//!
//! Nothing here asserts a time; that no task is lost or doubled it does assert.
//!
//! `cargo bench --bench pipeline -- [--quick] [--events N] [--rounds N] [--schedules N] [--seconds N]`

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use cost::{Cost, metric};
use servers::{Folder, Postgres, Rabbit};

#[path = "pipeline/cost.rs"]
mod cost;
#[path = "../tests/support/servers.rs"]
mod servers;

const EVENTS: &str = "muster.events";
const TASKS: &str = "muster.tasks.bench";
const TASK_EXCHANGE: &str = "muster.tasks";
const WORKER_TYPE: &str = "bench";
/// Of the forwarder: as many as muster takes by default.
const PREFETCH: u16 = 1000;
/// So many messages of the forwarder share one acknowledgement.
const ACKNOWLEDGED_TOGETHER: usize = 250;
/// How often a queue is looked at.
const GLANCE: Duration = Duration::from_millis(3);
/// Whoever does not get on for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured, and how much of it.
struct Plan {
    events: usize,
    rounds: usize,
    schedules: usize,
    /// How long events come at a tenth of the rate.
    seconds: f64,
}

impl Plan {
    fn of_arguments() -> Plan {
        let mut plan = Plan {
            events: 50_000,
            rounds: 3,
            schedules: 50,
            seconds: 15.0,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || -> usize {
                let text = arguments.next().unwrap_or_default();
                text.parse()
                    .unwrap_or_else(|_| panic!("{argument} wants a number, not {text:?}"))
            };
            match argument.as_str() {
                "--quick" => {
                    plan = Plan {
                        events: 5_000,
                        rounds: 1,
                        seconds: 4.0,
                        ..plan
                    };
                }
                "--events" => plan.events = number().max(1),
                "--rounds" => plan.rounds = number().max(1),
                "--schedules" => plan.schedules = number().max(1),
                "--seconds" => plan.seconds = number().max(1) as f64,
                // What cargo says to every benchmark.
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        plan
    }
}

/// One emptying of the queue of events.
struct Round {
    seconds: f64,
    cost: Cost,
}

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads to run on")
        .block_on(measure(&Plan::of_arguments()));
}

async fn measure(plan: &Plan) {
    let bench = Bench {
        postgres: Postgres::start(),
        rabbit: Rabbit::start(),
        folder: Folder::new("pipeline"),
        schedules: plan.schedules,
    };
    let channel = bench.channel().await;
    // It declares exchanges and queues as it wants them.
    let muster = bench.start("declares");
    muster.says("connected").await;
    muster.stop().await;

    println!(
        "{} events of {} bytes, each making 1 task; {} schedules, of which 1 matches; {} rounds in turns",
        plan.events,
        event("warm", 0).len(),
        plan.schedules,
        plan.rounds
    );
    let mut forwarded: Vec<Round> = Vec::new();
    let mut mustered: Vec<Round> = Vec::new();
    let mut inside: Vec<BTreeMap<&str, f64>> = Vec::new();
    let mut peaks: Vec<f64> = Vec::new();
    for round in 1..=plan.rounds {
        bench.fill(&channel, round, plan.events).await;
        let forwarder = tokio::spawn(forward(bench.connection().await, plan.events));
        forwarded.push(timed(&channel, plan.events, None).await);
        forwarder.await.expect("the forwarder ends");

        bench.fill(&channel, round, plan.events).await;
        let muster = bench.start(&format!("round{round}"));
        mustered.push(timed(&channel, plan.events, Some(muster.id())).await);
        peaks.push(cost::peak_mb(muster.id()));
        inside.push(muster.stop().await);
        // Whatever is left was not acknowledged; whatever is too much was published twice.
        assert_eq!(count(&channel, EVENTS).await, 0, "events left over");
        assert_eq!(count(&channel, TASKS).await, plan.events, "tasks");

        let rate = |round: Option<&Round>| round.map_or(0.0, |r| plan.events as f64 / r.seconds);
        println!(
            "round {round}: forwarder {:>6.0}/s   muster {:>6.0}/s",
            rate(forwarded.last()),
            rate(mustered.last())
        );
    }
    let rate = |rounds: &[Round]| {
        median(
            rounds
                .iter()
                .map(|r| plan.events as f64 / r.seconds)
                .collect(),
        )
    };
    let (forwarder, muster) = (rate(&forwarded), rate(&mustered));
    let ratio = muster / forwarder;
    println!("median : forwarder {forwarder:>6.0}/s   muster {muster:>6.0}/s   ratio {ratio:.2}");

    let thousands = plan.events as f64 / 1000.0;
    let spent = |rounds: &[Round], of: fn(&Cost) -> f64| {
        median(rounds.iter().map(|r| of(&r.cost) / thousands).collect())
    };
    println!("\nCPU seconds for 1,000 events       muster  postgres  rabbitmq  this benchmark");
    for (name, rounds) in [("forwarder", &forwarded), ("muster", &mustered)] {
        println!(
            "  {name:<30} {:>8.3} {:>9.3} {:>9.3} {:>15.3}",
            spent(rounds, |c| c.muster),
            spent(rounds, |c| c.postgres),
            spent(rounds, |c| c.rabbit),
            spent(rounds, |c| c.bench),
        );
    }
    let wall = median(mustered.iter().map(|r| r.seconds).collect());
    println!("Inside muster, of {wall:.2} s (loops overlap)");
    for name in cost::TIMED {
        let sum = median(
            inside
                .iter()
                .map(|m| m.get(name).copied().unwrap_or(0.0))
                .collect(),
        );
        println!("  {name:<30} {sum:>8.2} s");
    }

    let calm = muster / 10.0;
    let (latencies, peak) = at_rate(&bench, calm, plan.seconds).await;
    peaks.push(peak);
    let (p50, p99) = (percentile(&latencies, 0.50), percentile(&latencies, 0.99));
    println!(
        "\nFrom event to received task, {} events at {calm:.0}/s: p50 {p50:.1} ms, p99 {p99:.1} ms, longest {:.1} ms",
        latencies.len(),
        percentile(&latencies, 1.0)
    );
    let peak = peaks.into_iter().fold(0.0, f64::max);
    println!("Peak memory of muster: {peak:.1} MB\n");
    println!(
        "RESULT events={} forwarder_per_s={forwarder:.0} muster_per_s={muster:.0} ratio={ratio:.3} p50_ms={p50:.1} \
         p99_ms={p99:.1} peak_mb={peak:.1} cpu_muster_per_1000={:.3} cpu_postgres_per_1000={:.3} cpu_rabbitmq_per_1000={:.3}",
        plan.events,
        spent(&mustered, |c| c.muster),
        spent(&mustered, |c| c.postgres),
        spent(&mustered, |c| c.rabbit),
    );
}

/// The servers, and where files go.
struct Bench {
    postgres: Postgres,
    rabbit: Rabbit,
    folder: Folder,
    schedules: usize,
}

impl Bench {
    async fn connection(&self) -> Connection {
        Connection::connect(&self.rabbit.url(), ConnectionProperties::default())
            .await
            .expect("a connection to RabbitMQ")
    }

    async fn channel(&self) -> Channel {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        // It lives as long as the process.
        std::mem::forget(connection);
        channel
    }

    /// Empties the queue of tasks, and puts new events into the other.
    async fn fill(&self, channel: &Channel, round: usize, events: usize) {
        for queue in [EVENTS, TASKS] {
            channel
                .queue_purge(queue.into(), QueuePurgeOptions::default())
                .await
                .expect("an empty queue");
        }
        let round = round.to_string();
        futures::stream::iter(0..events)
            .map(|number| publish(channel, EVENTS, "object.created", event(&round, number)))
            .buffered(usize::from(PREFETCH))
            .for_each(|()| async {})
            .await;
        assert_eq!(count(channel, EVENTS).await, events, "events in the queue");
    }

    /// The service as its own process, on a database that is new.
    fn start(&self, name: &str) -> Muster {
        self.postgres.create_database(name);
        let file = |what: &str| self.folder.path().join(format!("{name}.{what}"));
        let (settings, catalogue) = (file("toml"), file("yaml"));
        let metrics = file("prom");
        let text = format!(
            "[store]\nurl = {:?}\n[bus]\nurl = {:?}\n[metrics]\nfile = {metrics:?}\n[workers.{WORKER_TYPE}]\ncredit = 0\n",
            self.postgres.url_of(name),
            self.rabbit.url(),
        );
        fs::write(&settings, text).expect("write the settings");
        fs::write(&catalogue, declared(self.schedules)).expect("write the declarations");
        let muster = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
            command.arg("--config").arg(&settings).args(arguments);
            command.stdin(Stdio::null());
            command
        };
        let applied = muster(&["apply"])
            .arg(&catalogue)
            .output()
            .expect("run muster apply");
        assert!(
            applied.status.success(),
            "muster apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
        let log = file("log");
        let process = muster(&["run"])
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("make the log"))
            .spawn()
            .expect("run muster");
        Muster {
            process,
            log,
            metrics,
        }
    }
}

/// A running service; killed when it is dropped.
struct Muster {
    process: Child,
    log: PathBuf,
    metrics: PathBuf,
}

impl Muster {
    fn id(&self) -> u32 {
        self.process.id()
    }

    async fn says(&self, words: &str) {
        let started = Instant::now();
        loop {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            if said.contains(words) {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "muster does not say {words:?}:\n{said}"
            );
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Stops it in order; answers with the seconds that its last metrics tell.
    async fn stop(mut self) -> BTreeMap<&'static str, f64> {
        let told = Command::new("kill").arg(self.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()), "kill");
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("look after muster") {
                assert!(status.success(), "muster ended with {status}");
                break;
            }
            assert!(started.elapsed() < PATIENCE, "muster does not stop");
            tokio::time::sleep(GLANCE).await;
        }
        let text = fs::read_to_string(&self.metrics).unwrap_or_default();
        cost::TIMED
            .iter()
            .map(|name| (*name, metric(&text, &format!("{name}_sum"))))
            .collect()
    }
}

impl Drop for Muster {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One plugin, and schedules for its events: one that matches, and in turns those of another type and those whose query
/// is asked and says no.
fn declared(schedules: usize) -> String {
    let mut text = format!(
        "- {{kind: organization, id: acme}}\n\
         - {{kind: plugin, plugin_id: dns-records, worker_type: {WORKER_TYPE}, scan_level: 1, \
         oci_image: \"registry.example/generic:1\", oci_arguments: [dig, \"{{hostname}}\"]}}\n\
         - {{kind: schedule, name: matches, run_on: hostname, operation: created, \
         plugins: \"plugin_id = 'dns-records'\", input: {{}}}}\n"
    );
    for number in 1..schedules {
        let (run_on, when) = match number % 2 {
            0 => ("ip_port".to_owned(), "port = 443".to_owned()),
            _ => (
                "hostname".to_owned(),
                format!("zone = 'zone-{number}.example' and ttl > 60"),
            ),
        };
        text.push_str(&format!(
            "- {{kind: schedule, name: other-{number}, run_on: {run_on}, operation: created, when: {when:?}, \
             plugins: \"plugin_id = 'dns-records'\", input: {{}}}}\n"
        ));
    }
    text
}

/// A CloudEvent of about 1 KB about an object that nobody has heard of.
fn event(round: &str, number: usize) -> Vec<u8> {
    let name = format!("host-{round}-{number:07}.department.acme.example");
    serde_json::json!({
        "specversion": "1.0",
        "id": event_id(round, number),
        "source": "https://inventory.example/acme",
        "type": "object.created",
        "time": "2026-11-21T09:30:00.123456Z",
        "datacontenttype": "application/json",
        "traceparent": format!("00-0af7651916cd43dd8448eb21{number:08x}-b7ad6b7169203331-01"),
        "data": {
            "organization": "acme",
            "object_type": "hostname",
            "primary_key": format!("Hostname|internet|{name}"),
            "scan_level": 2,
            "attributes": {
                "name": name,
                "network": "internet",
                "zone": "department.acme.example",
                "ttl": 3600,
                "registered": true,
                "address": format!("192.0.2.{}", number % 256),
                "ports": [22, 53, 80, 443, 8080],
                "tags": ["production", "external", "department", "monitored"],
                "owner": {"team": "infrastructure", "contact": "hostmaster@acme.example", "phone": "+31 70 000 0000"},
                "first_seen": "2026-01-12T08:15:30Z",
                "last_seen": "2026-11-21T09:29:58Z",
                "source": {"scanner": "dns-zone-transfer", "run": "0192f0c1-2d3e-7f00-8a1b-5c6d7e8f9a0b"},
                "description": "A name of the department, seen in a zone transfer and confirmed by two resolvers in \
                                different networks; it answers on the ports above.",
            },
        },
    })
    .to_string()
    .into_bytes()
}

fn event_id(round: &str, number: usize) -> String {
    format!("bench-{round}-{number:07}")
}

/// Publishes one lasting message, and returns with its confirm.
async fn publish(channel: &Channel, exchange: &str, key: &str, body: Vec<u8>) {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/cloudevents+json".into());
    let options = BasicPublishOptions::default();
    let sent = channel
        .basic_publish(exchange.into(), key.into(), options, &body, properties)
        .await
        .expect("a message is sent");
    assert!(sent.await.expect("a confirm").is_ack(), "refused");
}

/// The baseline: from queue to queue with confirms, acknowledged in batches, and nothing else.
async fn forward(connection: Connection, events: usize) {
    let incoming = connection.create_channel().await.expect("a channel");
    let outgoing = connection.create_channel().await.expect("a channel");
    outgoing
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    incoming
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .expect("a prefetch");
    let consumer = incoming
        .basic_consume(
            EVENTS.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    let outgoing = &outgoing;
    let mut forwarded = consumer
        .map(|delivery| async move {
            let delivery = delivery.expect("a delivery");
            publish(outgoing, TASK_EXCHANGE, WORKER_TYPE, delivery.data).await;
            delivery.delivery_tag
        })
        .buffered(usize::from(PREFETCH));
    for done in 1..=events {
        let tag = forwarded.next().await.expect("one more message");
        if done % ACKNOWLEDGED_TOGETHER == 0 || done == events {
            incoming
                .basic_ack(tag, BasicAckOptions { multiple: true })
                .await
                .expect("acknowledged");
        }
    }
    drop(forwarded);
    connection
        .close(200, "done".into())
        .await
        .expect("a farewell");
}

/// Watches the queues: from the first event that is taken to the last task that is there.
async fn timed(channel: &Channel, events: usize, muster: Option<u32>) -> Round {
    let waiting = Instant::now();
    while count(channel, EVENTS).await == events {
        assert!(waiting.elapsed() < PATIENCE, "nobody takes events");
        tokio::time::sleep(GLANCE).await;
    }
    let before = Cost::now(muster);
    let started = Instant::now();
    let mut there = 0;
    let mut moved = Instant::now();
    while there < events {
        tokio::time::sleep(GLANCE).await;
        let now = count(channel, TASKS).await;
        if now > there {
            (there, moved) = (now, Instant::now());
        }
        assert!(
            moved.elapsed() < PATIENCE,
            "no more tasks come after {there}"
        );
    }
    Round {
        seconds: started.elapsed().as_secs_f64(),
        cost: Cost::now(muster).since(&before),
    }
}

/// Messages that are ready in a queue.
async fn count(channel: &Channel, queue: &str) -> usize {
    let passive = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await;
    declared.expect("the queue is there").message_count() as usize
}

/// Publishes events at a steady rate; answers with the milliseconds from each to its task, sorted, and the peak of
/// memory. The first second warms up and does not count.
async fn at_rate(bench: &Bench, rate: f64, seconds: f64) -> (Vec<f64>, f64) {
    let (incoming, outgoing) = (bench.channel().await, bench.channel().await);
    for queue in [EVENTS, TASKS] {
        incoming
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await
            .expect("an empty queue");
    }
    let muster = bench.start("calm");
    muster.says("connected").await;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut tasks = incoming
        .basic_consume(TASKS.into(), "".into(), options, FieldTable::default())
        .await
        .expect("a consumer");
    let warm = (rate.ceil() as usize).max(1);
    let many = warm + ((rate * seconds).ceil() as usize).max(1);
    let started = Instant::now() + Duration::from_millis(200);
    let due = move |number: usize| started + Duration::from_secs_f64(number as f64 / rate);
    let publishing = tokio::spawn(async move {
        let mut sent: Vec<Instant> = Vec::with_capacity(many);
        let mut confirms = futures::stream::FuturesUnordered::new();
        for number in 0..many {
            tokio::time::sleep_until(due(number).into()).await;
            let body = event("calm", number);
            sent.push(Instant::now());
            let publication = publish(&outgoing, EVENTS, "object.created", body);
            let mut publication = Box::pin(publication);
            if futures::poll!(&mut publication).is_pending() {
                confirms.push(publication);
            }
            while let Some(Some(())) = futures::FutureExt::now_or_never(confirms.next()) {}
        }
        while confirms.next().await.is_some() {}
        drop(confirms);
        sent
    });
    let mut received: BTreeMap<String, Instant> = BTreeMap::new();
    while received.len() < many {
        let task = tokio::time::timeout(PATIENCE, tasks.next()).await;
        let task = task.expect("a task in time").expect("the consumer lives");
        let now = Instant::now();
        let body: serde_json::Value =
            serde_json::from_slice(&task.expect("a task").data).expect("a task is JSON");
        let of = body["trigger"]["event_id"].as_str().expect("its event");
        let twice = received.insert(of.to_owned(), now);
        assert!(twice.is_none(), "{of} made two tasks");
    }
    let sent = publishing.await.expect("all are published");
    let peak = cost::peak_mb(muster.id());
    muster.stop().await;
    let mut latencies: Vec<f64> = sent
        .iter()
        .enumerate()
        .skip(warm)
        .filter_map(|(number, sent)| {
            let received = received.get(&event_id("calm", number))?;
            Some(received.duration_since(*sent).as_secs_f64() * 1000.0)
        })
        .collect();
    assert_eq!(latencies.len(), many - warm, "a task for each event");
    latencies.sort_by(f64::total_cmp);
    (latencies, peak)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// Of sorted values.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * part).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}
