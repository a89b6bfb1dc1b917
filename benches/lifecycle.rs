//! How fast tasks live: stored, dispatched, accepted, succeeded, with workers that do nothing, on a real RabbitMQ and a
//! real PostgreSQL beside it on this machine.
//!
//! In turns, a plain loop claims and completes rows of a table of its own with SKIP LOCKED batches, and muster takes the
//! same number of stored tasks to their end: once with the usual credit, once with more. Then a service starts on many
//! queued tasks, and it is timed until the first message is at the broker. At last the same lives are timed beside tasks
//! that ended before, and without.
//!
//! Nothing here asserts a time; that every task succeeds once it does assert.
//!
//! `cargo bench --bench lifecycle -- [--quick] [--tasks N] [--rounds N] [--queued N] [--finished N] [--credit N]`

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use sqlx::{AnyPool, AssertSqlSafe, Row};
use tokio::task::JoinHandle;

use cost::Cost;
use servers::{Folder, Postgres, Rabbit};

#[path = "pipeline/cost.rs"]
#[allow(dead_code)] // the other bench reads metrics too
mod cost;
#[path = "../tests/support/servers.rs"]
mod servers;

const WORKER_TYPE: &str = "bench";
const TASKS: &str = "muster.tasks.bench";
const STATUS: &str = "muster.status";
/// Tasks that one run has.
const RUN: usize = 1000;
/// Rows that the plain loop claims at once: as many as muster does.
const BATCH: usize = 500;
/// How often something is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// Whoever does not get on for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);

struct Plan {
    tasks: usize,
    rounds: usize,
    queued: usize,
    finished: usize,
    credit: usize,
}

impl Plan {
    fn of_arguments() -> Plan {
        let mut plan = Plan {
            tasks: 20_000,
            rounds: 3,
            queued: 1_000_000,
            finished: 10_000_000,
            credit: 2000,
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
                        tasks: 3000,
                        rounds: 1,
                        queued: 50_000,
                        finished: 50_000,
                        ..plan
                    };
                }
                "--tasks" => plan.tasks = number().max(RUN),
                "--rounds" => plan.rounds = number().max(1),
                "--queued" => plan.queued = number().max(RUN),
                "--finished" => plan.finished = number(),
                "--credit" => plan.credit = number(),
                // What cargo says to every benchmark.
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        plan
    }
}

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads to run on")
        .block_on(measure(&Plan::of_arguments()));
}

/// One way of many tasks to their end.
struct Lives {
    per_s: f64,
    cost: Cost,
    peak_mb: f64,
}

async fn measure(plan: &Plan) {
    sqlx::any::install_default_drivers();
    let bench = Bench {
        // As somebody would set it who has ten million rows.
        postgres: Postgres::with(&["shared_buffers=256MB", "max_wal_size=4GB"]),
        rabbit: Rabbit::start(),
        folder: Folder::new("lifecycle"),
    };
    println!(
        "{} tasks through stored, dispatched, accepted, succeeded; {} rounds in turns",
        plan.tasks, plan.rounds
    );
    let usual = bench.house("usual", 64).await;
    let wide = bench.house("wide", plan.credit).await;
    let mut plain: Vec<f64> = Vec::new();
    let (mut with_usual, mut with_wide): (Vec<Lives>, Vec<Lives>) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        plain.push(plain_loop(&usual.sql, plan.tasks).await);
        with_usual.push(bench.lives(&usual, plan.tasks).await);
        with_wide.push(bench.lives(&wide, plan.tasks).await);
        println!(
            "round {round}: plain loop {:>6.0}/s   muster {:>6.0}/s with a credit of 64   {:>6.0}/s with {}",
            plain.last().unwrap_or(&0.0),
            with_usual.last().map_or(0.0, |lives| lives.per_s),
            with_wide.last().map_or(0.0, |lives| lives.per_s),
            plan.credit,
        );
    }
    let rate = |lives: &[Lives]| median(lives.iter().map(|lives| lives.per_s).collect());
    let (plain, usual_rate, wide_rate) = (median(plain), rate(&with_usual), rate(&with_wide));
    println!(
        "median : plain loop {plain:>6.0}/s   muster {usual_rate:>6.0}/s and {wide_rate:>6.0}/s"
    );
    let thousands = plan.tasks as f64 / 1000.0;
    let spent = |lives: &[Lives], of: fn(&Cost) -> f64| {
        median(lives.iter().map(|l| of(&l.cost) / thousands).collect())
    };
    println!(
        "\nCPU seconds for 1,000 tasks        muster  postgres  rabbitmq  workers of this benchmark"
    );
    for (name, lives) in [("credit 64", &with_usual), ("wide credit", &with_wide)] {
        println!(
            "  {name:<30} {:>8.3} {:>9.3} {:>9.3} {:>15.3}",
            spent(lives, |c| c.muster),
            spent(lives, |c| c.postgres),
            spent(lives, |c| c.rabbit),
            spent(lives, |c| c.bench),
        );
    }

    let (first_s, dispatch_mb) = bench.start_on_many(plan).await;
    println!(
        "\nStart with {} queued: first dispatch after {first_s:.2} s, {dispatch_mb:.1} MB at most while it dispatched",
        plan.queued
    );

    let full = bench.house("full", plan.credit).await;
    full.finished(plan.finished).await;
    let mut beside: Vec<Lives> = Vec::new();
    let mut without: Vec<Lives> = Vec::new();
    for round in 1..=plan.rounds {
        without.push(bench.lives(&wide, plan.tasks).await);
        beside.push(bench.lives(&full, plan.tasks).await);
        println!(
            "round {round}: {:>6.0}/s without, {:>6.0}/s beside {} tasks that ended before",
            without.last().map_or(0.0, |lives| lives.per_s),
            beside.last().map_or(0.0, |lives| lives.per_s),
            plan.finished
        );
    }
    let (without, beside) = (rate(&without), rate(&beside));
    let all = with_usual.iter().chain(&with_wide);
    let peak = all.fold(dispatch_mb, |peak, lives| peak.max(lives.peak_mb));
    println!();
    println!(
        "RESULT tasks={} plain_per_s={plain:.0} muster_64_per_s={usual_rate:.0} muster_per_s={wide_rate:.0} credit={} \
         ratio={:.3} queued={} first_dispatch_s={first_s:.3} dispatch_mb={dispatch_mb:.1} finished={} \
         beside_finished_per_s={beside:.0} without_finished_per_s={without:.0} finished_ratio={:.3} peak_mb={peak:.1}",
        plan.tasks,
        plan.credit,
        wide_rate / plain,
        plan.queued,
        plan.finished,
        beside / without,
    );
}

/// A loop as one would write it without muster: rows are claimed in batches and completed, two at it.
async fn plain_loop(sql: &AnyPool, tasks: usize) -> f64 {
    for statement in [
        "DROP TABLE IF EXISTS plain".to_owned(),
        "CREATE TABLE plain (id bigint PRIMARY KEY, state text NOT NULL, payload text NOT NULL)"
            .to_owned(),
        format!(
            "INSERT INTO plain SELECT n, 'queued', repeat('x', 200) FROM generate_series(1, {tasks}) AS s(n)"
        ),
        "CREATE INDEX plain_queued ON plain (id) WHERE state = 'queued'".to_owned(),
        "VACUUM ANALYZE plain".to_owned(),
    ] {
        execute(sql, &statement).await;
    }
    let started = Instant::now();
    let hands: Vec<JoinHandle<usize>> = (0..2)
        .map(|_| {
            let sql = sql.clone();
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    let claimed = sqlx::query(AssertSqlSafe(format!(
                        "UPDATE plain SET state = 'running' WHERE id IN (SELECT id FROM plain WHERE state = 'queued' \
                         ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED) RETURNING id, payload"
                    )))
                    .fetch_all(&sql)
                    .await
                    .expect("claimed");
                    if claimed.is_empty() {
                        return done;
                    }
                    let ids: Vec<String> = claimed
                        .iter()
                        .map(|row| row.get::<i64, _>("id").to_string())
                        .collect();
                    execute(
                        &sql,
                        &format!("UPDATE plain SET state = 'succeeded' WHERE id IN ({})", ids.join(",")),
                    )
                    .await;
                    done += ids.len();
                }
            })
        })
        .collect();
    let mut done = 0;
    for hand in hands {
        done += hand.await.expect("a hand");
    }
    assert_eq!(done, tasks);
    tasks as f64 / started.elapsed().as_secs_f64()
}

async fn execute(sql: &AnyPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// The servers, and where files go.
struct Bench {
    postgres: Postgres,
    rabbit: Rabbit,
    folder: Folder,
}

/// A database with its settings.
struct House {
    name: String,
    settings: PathBuf,
    sql: AnyPool,
}

impl Bench {
    async fn house(&self, name: &str, credit: usize) -> House {
        self.postgres.create_database(name);
        let url = self.postgres.url_of(name);
        let file = |what: &str| self.folder.path().join(format!("{name}.{what}"));
        let (settings, catalogue) = (file("toml"), file("yaml"));
        let text = format!(
            "[store]\nurl = {url:?}\n[bus]\nurl = {:?}\n[workers.{WORKER_TYPE}]\ncredit = {credit}\n",
            self.rabbit.url(),
        );
        fs::write(&settings, text).expect("write the settings");
        let declared = format!(
            "- {{kind: organization, id: acme}}\n\
             - {{kind: plugin, plugin_id: scan, worker_type: {WORKER_TYPE}, scan_level: 1, consumes: [hostname], \
             oci_image: \"registry.example/generic:1\", oci_arguments: [dig, \"{{hostname}}\"]}}\n"
        );
        fs::write(&catalogue, declared).expect("write the declarations");
        let applied = Command::new(env!("CARGO_BIN_EXE_muster"))
            .arg("--config")
            .arg(&settings)
            .arg("apply")
            .arg(&catalogue)
            .output()
            .expect("run muster apply");
        assert!(
            applied.status.success(),
            "muster apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
        let sql = AnyPool::connect(&url).await.expect("connected");
        execute(
            &sql,
            "INSERT INTO object (organization, primary_key, object_type, attributes, scan_level, lifted, live, \
             created_rank, version) SELECT 'acme', 'host' || n, 'hostname', jsonb_build_object('name', 'host' || n), \
             2, 1, 1, '1|bench', 1 FROM generate_series(0, 9999) AS s(n)",
        )
        .await;
        House {
            name: name.to_owned(),
            settings,
            sql,
        }
    }

    async fn connection(&self) -> Connection {
        Connection::connect(&self.rabbit.url(), ConnectionProperties::default())
            .await
            .expect("a connection to RabbitMQ")
    }

    fn start(&self, house: &House) -> Muster {
        let log = self.folder.path().join(format!("{}.log", house.name));
        let process = Command::new(env!("CARGO_BIN_EXE_muster"))
            .arg("--config")
            .arg(&house.settings)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("make the log"))
            .spawn()
            .expect("run muster");
        Muster { process }
    }

    /// Takes so many tasks from stored to succeeded; timed from the first that is accepted to the last that has ended.
    async fn lives(&self, house: &House, tasks: usize) -> Lives {
        let before = house.succeeded().await;
        house.queue(tasks).await;
        let connection = self.connection().await;
        let muster = self.start(house);
        let channel = connection.create_channel().await.expect("a channel");
        until_declared(&connection).await;
        let worker = tokio::spawn(work(channel));
        let mut done = before;
        let begun = Instant::now();
        while done == before {
            assert!(begun.elapsed() < PATIENCE, "nothing succeeds");
            tokio::time::sleep(GLANCE).await;
            done = house.succeeded().await;
        }
        let already = done - before;
        let (started, cost) = (Instant::now(), Cost::now(Some(muster.process.id())));
        let mut moved = Instant::now();
        while done < before + tasks as i64 {
            tokio::time::sleep(GLANCE * 4).await;
            let now = house.succeeded().await;
            if now > done {
                (done, moved) = (now, Instant::now());
            }
            assert!(moved.elapsed() < PATIENCE, "no more succeed after {done}");
        }
        let seconds = started.elapsed().as_secs_f64();
        let cost = Cost::now(Some(muster.process.id())).since(&cost);
        let peak_mb = cost::peak_mb(muster.process.id());
        muster.stop().await;
        worker.abort();
        // The worker's channel may be closing already.
        let _ = connection.close(200, "done".into()).await;
        let once = house
            .count("SELECT count(*) FROM task WHERE attempt <> 1 OR state <> 'succeeded'")
            .await;
        assert_eq!(once, 0, "every task succeeds once");
        Lives {
            per_s: (tasks as i64 - already) as f64 / seconds,
            cost,
            peak_mb,
        }
    }

    /// A service begins where many tasks wait: the seconds until the first is at the broker, and the most memory that
    /// it has while it dispatches for a while.
    async fn start_on_many(&self, plan: &Plan) -> (f64, f64) {
        let house = self.house("many", 64).await;
        house.queue(plan.queued).await;
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .queue_purge(TASKS.into(), QueuePurgeOptions::default())
            .await
            .expect("an empty queue");
        let started = Instant::now();
        let muster = self.start(&house);
        while ready(&channel, TASKS).await == 0 {
            assert!(started.elapsed() < PATIENCE, "nothing is dispatched");
            tokio::time::sleep(GLANCE).await;
        }
        let first = started.elapsed().as_secs_f64();
        let worker = tokio::spawn(work(connection.create_channel().await.expect("a channel")));
        let enough = plan.tasks as i64;
        while house.succeeded().await < enough {
            assert!(started.elapsed() < PATIENCE * 2, "they do not go on");
            tokio::time::sleep(GLANCE * 4).await;
        }
        let peak = cost::peak_mb(muster.process.id());
        muster.stop().await;
        worker.abort();
        // The worker's channel may be closing already.
        let _ = connection.close(200, "done".into()).await;
        (first, peak)
    }
}

impl House {
    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&self.sql)
            .await
            .expect("counted")
    }

    async fn succeeded(&self) -> i64 {
        self.count("SELECT coalesce(sum(succeeded), 0)::bigint FROM run WHERE schedule = 'bench'")
            .await
    }

    /// Stored tasks with their runs and keys, as a decision leaves them.
    async fn queue(&self, many: usize) {
        let first = self.count("SELECT count(*) FROM task").await;
        let tasks = format!(
            "generate_series({first}, {}) AS s(n)",
            first + many as i64 - 1
        );
        let now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        for statement in [
            format!(
                "INSERT INTO run (id, schedule_id, schedule, schedule_revision, organization, cause, scheduled_for, created_at, \
                 started_at, state, occasion, total, succeeded, failed, cancelled, refused) \
                 SELECT 'run' || n / {RUN}, 's', 'bench', 1, 'acme', 'event', {now}, {now}, {now}, 'running', '{{}}', \
                 count(*), 0, 0, 0, '{{}}' FROM {tasks} GROUP BY n / {RUN} \
                 ON CONFLICT (id) DO UPDATE SET total = run.total + excluded.total, state = 'running', finished_at = NULL"
            ),
            format!(
                "INSERT INTO task (id, run_id, organization, plugin_id, worker_type, queue, state, class, priority, rank, cause, \
                 created_at, scheduled_for, expires_at, attempt, spent, inputs, parameters) \
                 SELECT {}, 'run' || n / {RUN}, 'acme', 'scan', '{WORKER_TYPE}', '{TASKS}', 'queued', 1, 2, {now} + n, \
                 'event', {now}, {now}, {now} + 604800000000, 0, 0, \
                 '[{{\"object_type\":\"hostname\",\"primary_key\":\"host' || n % 10000 || '\"}}]', '{{}}' FROM {tasks}",
                id_of("n")
            ),
            format!(
                "INSERT INTO open_input (organization, primary_key, unique_key, task_id, plugin_id, digest) \
                 SELECT 'acme', 'host' || n % 10000, md5(n::text), {}, 'scan', 'ungraced' FROM {tasks}",
                id_of("n")
            ),
            "VACUUM ANALYZE task, open_input, run, attempt".to_owned(),
        ] {
            execute(&self.sql, &statement).await;
        }
    }

    /// Tasks that ended before, with the attempts that they had.
    async fn finished(&self, many: usize) {
        let mut first = 0;
        while first < many {
            let chunk = (many - first).min(1_000_000);
            let tasks = format!("generate_series({first}, {}) AS s(n)", first + chunk - 1);
            for statement in [
                format!(
                    "INSERT INTO task (id, run_id, organization, plugin_id, worker_type, queue, state, class, priority, rank, \
                     cause, created_at, scheduled_for, expires_at, finished_at, attempt, spent, inputs, parameters) \
                     SELECT {}, 'before' || n / {RUN}, 'acme', 'scan', '{WORKER_TYPE}', '{TASKS}', 'succeeded', 1, 2, n, \
                     'event', n, n, n, {now}, 1, 0, '[{{\"object_type\":\"hostname\",\"primary_key\":\"host' || n % 10000 || '\"}}]', \
                     '{{}}' FROM {tasks}",
                    id_of("n"),
                    now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                ),
                format!(
                    "INSERT INTO attempt (task_id, number, worker, offered_at, published_at, accepted_at, ended_at, outcome) \
                     SELECT {}, 1, 'worker', n, n, n, n, 'succeeded' FROM {tasks}",
                    id_of("n")
                ),
            ] {
                execute(&self.sql, &statement).await;
            }
            first += chunk;
        }
        execute(&self.sql, "VACUUM ANALYZE task, attempt").await;
        execute(&self.sql, "CHECKPOINT").await;
    }
}

/// Ids that rise with their numbers, as long as real ones; of now, so that nobody takes them for old.
fn id_of(number: &str) -> String {
    static NOW: OnceLock<u64> = OnceLock::new();
    let now = NOW.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| (since.as_secs() * 1000) >> 16)
    });
    format!("'{now:08x}-' || lpad(to_hex({number}), 27, '0')")
}

/// A worker that does nothing: each task is accepted and has succeeded.
async fn work(channel: Channel) {
    channel
        .basic_qos(500, BasicQosOptions::default())
        .await
        .expect("a prefetch");
    let consumer = channel
        .basic_consume(
            TASKS.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    let mut batches = consumer.ready_chunks(100);
    while let Some(batch) = batches.next().await {
        let mut last = None;
        for delivery in batch {
            let delivery = delivery.expect("a delivery");
            let task: serde_json::Value =
                serde_json::from_slice(&delivery.data).expect("a task is JSON");
            for status in ["accepted", "succeeded"] {
                let said = serde_json::json!({
                    "task_id": task["id"], "attempt": task["attempt"], "worker": "no-op", "status": status,
                    "at": task["created_at"],
                });
                channel
                    .basic_publish(
                        "".into(),
                        STATUS.into(),
                        BasicPublishOptions::default(),
                        said.to_string().as_bytes(),
                        BasicProperties::default().with_delivery_mode(2),
                    )
                    .await
                    .expect("said");
            }
            last = Some(delivery);
        }
        if let Some(last) = last {
            let done = last.ack(BasicAckOptions { multiple: true }).await;
            done.expect("acknowledged");
        }
    }
}

/// Waits until the service has made its queues.
async fn until_declared(connection: &Connection) {
    let begun = Instant::now();
    let passive = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    loop {
        let channel = connection.create_channel().await.expect("a channel");
        let both = [TASKS, STATUS]
            .map(|queue| channel.queue_declare(queue.into(), passive, FieldTable::default()));
        if futures::future::join_all(both)
            .await
            .iter()
            .all(Result::is_ok)
        {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "muster declares no queues");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Messages that are ready in a queue.
async fn ready(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await;
    declared.expect("the queue is there").message_count()
}

/// A running service; killed when it is dropped.
struct Muster {
    process: Child,
}

impl Muster {
    async fn stop(mut self) {
        let told = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        assert!(told.is_ok_and(|status| status.success()), "kill");
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("look after muster") {
                assert!(status.success(), "muster ended with {status}");
                return;
            }
            assert!(started.elapsed() < PATIENCE, "muster does not stop");
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Drop for Muster {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}
