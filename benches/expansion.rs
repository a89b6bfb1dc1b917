//! What a run over the inventory costs: one plugin on every stored object, from the run to its stored tasks, on a real
//! PostgreSQL, beside a bare `INSERT … SELECT` of the same rows into tables with the same indexes, in turns in one run.
//! Then once more while events come at a steady rate, each timed from its arrival to its stored task.
//!
//! Nothing here asserts a time; that every object has exactly one task it does assert.
//!
//! `cargo bench --bench expansion -- [--quick] [--objects N] [--rounds N] [--rate N] [--batch N] [--size BYTES]`

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cost::Cost;
use muster::decide::{Desk, Plan, World, occurrence};
use muster::declaration::{Variables, read_file};
use muster::expansion;
use muster::ground::{Ground, IntakeRule};
use muster::intake::{Incoming, handle};
use muster::moment::Moment;
use muster::policy::{Format, Order};
use muster::rules::Rules;
use muster::run::Cause;
use muster::store::{Applied, Commit, Committed, Edit, Store};
use serde_json::json;
use servers::Postgres;
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;

#[path = "pipeline/cost.rs"]
#[allow(dead_code)] // this bench uses a part of it
mod cost;
#[path = "../tests/support/servers.rs"]
mod servers;

/// What is measured, and how much of it.
struct Measure {
    objects: i64,
    rounds: usize,
    /// Events in a second.
    rate: u32,
    batch: i64,
    /// Of the text in the attributes of each object.
    size: i64,
}

impl Measure {
    fn of_arguments() -> Measure {
        let mut measure = Measure {
            objects: 1_000_000,
            rounds: 3,
            rate: 50,
            batch: 1,
            size: 40,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || -> i64 {
                let text = arguments.next().unwrap_or_default();
                text.parse()
                    .unwrap_or_else(|_| panic!("{argument} wants a number, not {text:?}"))
            };
            match argument.as_str() {
                "--quick" => (measure.objects, measure.rounds) = (100_000, 1),
                "--objects" => measure.objects = number().max(1),
                "--rounds" => measure.rounds = usize::try_from(number()).unwrap_or(1).max(1),
                "--rate" => measure.rate = u32::try_from(number()).unwrap_or(1).max(1),
                "--batch" => measure.batch = number().max(1),
                "--size" => measure.size = number().max(0),
                // What cargo says to every benchmark.
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        measure
    }
}

fn main() {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads to run on")
        .block_on(run(&Measure::of_arguments()));
}

async fn run(measure: &Measure) {
    // Room for the log of a million rows, so that neither side waits for a checkpoint that the other caused.
    let postgres = Postgres::with(&["max_wal_size=8GB", "shared_buffers=256MB"]);
    let bench = Bench::new(&postgres, measure).await;
    let mut hand = PgConnection::connect(&postgres.url())
        .await
        .expect("connected");
    fill(&mut hand, measure).await;
    let tasks = measure
        .objects
        .unsigned_abs()
        .div_ceil(measure.batch.unsigned_abs());
    let tasks = i64::try_from(tasks).expect("a count");
    println!(
        "{} objects, one plugin with batches of {}: {tasks} tasks; {} rounds in turns",
        measure.objects, measure.batch, measure.rounds
    );
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let memory_before = resident();
    let mut peak = 0.0_f64;
    for round in 1..=measure.rounds {
        bench
            .start_run(i64::try_from(round).expect("a count"))
            .await;
        forget_peak();
        let before = Cost::now(None);
        let begun = Instant::now();
        expansion::step(&bench.ground).await.expect("expanded");
        let took = begun.elapsed().as_secs_f64();
        let cost = Cost::now(None).since(&before);
        peak = peak.max(peak_memory());
        let made = count(&mut hand, "SELECT count(*) FROM task").await;
        assert_eq!(made, tasks, "{}", run_row(&mut hand).await);
        assert_eq!(
            count(
                &mut hand,
                "SELECT count(DISTINCT primary_key) FROM open_input"
            )
            .await,
            measure.objects
        );
        let before = Cost::now(None);
        let by_hand = insert_bare(&mut hand).await;
        let bare_cost = Cost::now(None).since(&before);
        println!(
            "  round {round}: muster {took:.2} s, bare {by_hand:.2} s, ratio {:.2}; CPU: muster {:.2} s and PostgreSQL {:.2} s, \
             bare {:.2} s",
            by_hand / took,
            cost.bench,
            cost.postgres,
            bare_cost.postgres
        );
        ours.push(took);
        bare.push(by_hand);
        empty(&mut hand).await;
    }
    bench.start_run(1_000).await;
    let stop = CancellationToken::new();
    let events = tokio::spawn(events(bench.ground.clone(), measure.rate, stop.clone()));
    let begun = Instant::now();
    expansion::step(&bench.ground).await.expect("expanded");
    let busy = begun.elapsed().as_secs_f64();
    stop.cancel();
    let delays = events.await.expect("the events end");
    // The same events with nothing beside them.
    let quiet = CancellationToken::new();
    let alone = tokio::spawn(self::events(
        bench.ground.clone(),
        measure.rate,
        quiet.clone(),
    ));
    tokio::time::sleep(Duration::from_secs(3)).await;
    quiet.cancel();
    let alone = alone.await.expect("the events end");

    let (ours, bare) = (median(ours), median(bare));
    #[allow(clippy::cast_precision_loss)] // counts below 2^52
    let (rate, bare_rate) = (tasks as f64 / ours, tasks as f64 / bare);
    let ratio = bare / ours;
    println!(
        "medians: muster {rate:.0} tasks/s, bare INSERT … SELECT {bare_rate:.0} rows/s, ratio {ratio:.2}"
    );
    println!("peak memory {peak:.0} MB, {memory_before:.0} MB before");
    println!(
        "{} events during an expansion of {busy:.1} s: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; {} alone: p50 {:.1} ms, p99 {:.1} ms",
        delays.len(),
        part(&delays, 0.5),
        part(&delays, 0.99),
        part(&delays, 1.0),
        alone.len(),
        part(&alone, 0.5),
        part(&alone, 0.99)
    );
    println!(
        "RESULT objects={} batch={} tasks_per_s={rate:.0} bare_rows_per_s={bare_rate:.0} ratio={ratio:.3} peak_mb={peak:.0} \
         event_p50_ms={:.1} event_p99_ms={:.1} event_max_ms={:.1} alone_p99_ms={:.1}",
        measure.objects,
        measure.batch,
        part(&delays, 0.5),
        part(&delays, 0.99),
        part(&delays, 1.0),
        part(&alone, 0.99)
    );
}

struct Bench {
    ground: Arc<Ground>,
}

impl Bench {
    async fn new(postgres: &Postgres, measure: &Measure) -> Bench {
        let store = Store::open(&postgres.url())
            .await
            .expect("the address is right");
        store.migrate().await.expect("the schema is made");
        let rules = Arc::new(Rules {
            open_organizations: true,
            ..Rules::default()
        });
        let text = format!(
            "- {{kind: organization, id: acme}}\n\
             - {{kind: plugin, plugin_id: dns, worker_type: boefje, scan_level: 1, consumes: [hostname], batch_size: {}}}\n\
             - {{kind: plugin, plugin_id: whois, worker_type: boefje, scan_level: 1, consumes: [domain]}}\n\
             - {{name: daily, recurrences: daily, plugins: \"plugin_id = 'dns'\", input: {{hostname: null}}}}\n\
             - {{name: domains, run_on: domain, operation: created, plugins: \"plugin_id = 'whois'\"}}\n",
            measure.batch
        );
        let (declared, complaints) =
            read_file("bench.yaml", text.as_bytes(), &Variables::default(), &rules);
        assert!(complaints.iter().all(|c| !c.is_error()), "{complaints:?}");
        let edits: Vec<Edit> = declared
            .into_iter()
            .map(|entry| Edit::Put {
                kind: entry.kind,
                organization: entry.organization,
                id: format!("id-{}", entry.name),
                name: entry.name,
                definition: entry.definition,
            })
            .collect();
        let revision = store.catalogue_revision().await.expect("a revision");
        let applied = store.apply(&edits, revision, Moment::now()).await;
        assert!(matches!(applied, Ok(Applied::Revision(_))), "{applied:?}");
        let intakes = vec![IntakeRule {
            queue: "events".to_owned(),
            order: Order::Time,
            format: Format::CloudEvents,
        }];
        let ground = Ground::new(store, rules, intakes, 7, CancellationToken::new());
        ground.load_catalogue().await.expect("a catalogue");
        Bench {
            ground: Arc::new(ground),
        }
    }

    /// Stores a run at position 0.
    async fn start_run(&self, number: i64) {
        let ground = &self.ground;
        let catalogue = ground.catalogue();
        let daily = catalogue
            .schedules
            .iter()
            .find(|s| s.schedule.name == "daily");
        let mut plan = Plan::default();
        let mut ids = ground.ids();
        let now = ground.clock.now();
        let mut desk = Desk {
            catalogue: &catalogue,
            now,
            ids: &mut ids,
            plan: &mut plan,
            findings: None,
        };
        occurrence(
            &mut desk,
            &mut World::default(),
            daily.expect("the schedule"),
            catalogue.organizations.get("acme").expect("declared"),
            Cause::OnTime,
            Moment::from_micros(1_790_000_000_000_000 + number),
        );
        let commit = Commit {
            plan: &plan,
            ..Commit::empty(now, catalogue.revision)
        };
        let committed = ground.store.commit(&commit).await.expect("an answer");
        assert_eq!(committed, Committed::Done);
    }
}

/// Takes events as they come, those that came meanwhile together as the intake does it; answers with how long each took
/// from its instant to its stored task.
async fn events(ground: Arc<Ground>, rate: u32, stop: CancellationToken) -> Vec<f64> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut delays = Vec::new();
    let every = Duration::from_secs(1) / rate;
    let mut due = tokio::time::Instant::now();
    while !stop.is_cancelled() {
        tokio::time::sleep_until(due).await;
        let (mut came, mut batch) = (Vec::new(), Vec::new());
        while due <= tokio::time::Instant::now() {
            batch.push(event(NUMBER.fetch_add(1, Ordering::Relaxed)));
            came.push(due);
            due += every;
        }
        let handled = handle(&ground, &batch).await.expect("handled");
        let made = usize::try_from(handled.tasks).expect("a count");
        assert_eq!(made, batch.len(), "each event makes one task");
        let took = came.iter().map(|due| due.elapsed().as_secs_f64() * 1e3);
        delays.extend(took);
    }
    delays
}

fn event(number: u64) -> Incoming {
    let body = json!({
        "specversion": "1.0", "id": format!("e-{number}"), "source": "/bench", "type": "object.created",
        "data": {
            "organization": "acme", "object_type": "domain", "primary_key": format!("Domain|d{number}"),
            "attributes": {"name": format!("d{number}")}, "scan_level": 2,
        },
    });
    Incoming {
        queue: "events".to_owned(),
        body: body.to_string().into_bytes(),
        ..Incoming::default()
    }
}

async fn execute(hand: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(hand).await.expect("executed");
}

async fn count(hand: &mut PgConnection, sql: &'static str) -> i64 {
    let row = sqlx::query(sql).fetch_one(hand).await.expect("a row");
    row.get(0)
}

async fn run_row(hand: &mut PgConnection) -> String {
    let row = sqlx::query("SELECT row_to_json(run)::text AS run FROM run ORDER BY id DESC LIMIT 1");
    row.fetch_one(hand).await.expect("a run").get("run")
}

async fn fill(hand: &mut PgConnection, measure: &Measure) {
    sqlx::query(
        "INSERT INTO object (organization, primary_key, object_type, attributes, scan_level, lifted, live, created_rank, version) \
         SELECT 'acme', 'Hostname|internet|host' || n || '.example.com', 'hostname', \
         jsonb_build_object('name', 'host' || n || '.example.com', 'network', 'internet', 'note', repeat('x', $2::int)), \
         2, 1, 1, '1|bench', 1 FROM generate_series(1, $1) AS n",
    )
    .bind(measure.objects)
    .bind(measure.size)
    .execute(&mut *hand)
    .await
    .expect("the objects are stored");
    execute(hand, "VACUUM ANALYZE object").await;
    execute(
        hand,
        "CREATE TABLE bare_task (LIKE task INCLUDING ALL); CREATE TABLE bare_open_input (LIKE open_input INCLUDING ALL)",
    )
    .await;
}

/// The same rows in the same order into empty tables with the same indexes, in one transaction; seconds.
async fn insert_bare(hand: &mut PgConnection) -> f64 {
    execute(hand, "CHECKPOINT").await;
    let begun = Instant::now();
    execute(
        hand,
        "BEGIN; INSERT INTO bare_task SELECT * FROM task; INSERT INTO bare_open_input SELECT * FROM open_input; COMMIT",
    )
    .await;
    begun.elapsed().as_secs_f64()
}

async fn empty(hand: &mut PgConnection) {
    execute(
        hand,
        "TRUNCATE task, open_input, run, bare_task, bare_open_input",
    )
    .await;
    execute(hand, "CHECKPOINT").await;
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The value below which a part of them is.
fn part(times: &[f64], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let at = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

/// Megabytes, as the kernel counts them for this process.
fn of_status(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

fn resident() -> f64 {
    of_status("VmRSS:")
}

fn peak_memory() -> f64 {
    of_status("VmHWM:")
}

/// The highest mark begins anew.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}
