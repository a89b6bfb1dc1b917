//! Runs that find their inputs in the inventory: batches, turns, room, and who goes on where somebody stopped; the same on
//! SQLite and on PostgreSQL.

#[path = "support/servers.rs"]
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use muster::decide::{Desk, Plan, World, occurrence};
use muster::declaration::{Variables, read_file};
use muster::expansion::step;
use muster::ground::{Ground, IntakeRule};
use muster::intake::{Incoming, handle};
use muster::moment::{Moment, Span};
use muster::policy::{Format, Order, WorkerSettings};
use muster::rules::Rules;
use muster::run::Cause;
use muster::store::{Applied, Commit, Committed, Edit, Held, Store};
use serde_json::{Value, json};
use servers::Postgres;
use sqlx::{AnyPool, AssertSqlSafe, Row};
use tokio_util::sync::CancellationToken;

/// Runs one promise on both databases.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { super::on_sqlite(stringify!($name), super::$name) })+
        }
        mod postgres {
            $(#[test] fn $name() { super::on_postgres(stringify!($name), super::$name) })+
        }
    };
}

on_both!(
    a_batch_takes_as_many_inputs_as_its_plugin_says_and_the_last_one_what_is_left,
    a_number_of_inputs_that_divides_evenly_leaves_no_small_batch,
    what_is_open_or_in_grace_takes_no_place_in_a_batch,
    a_deleted_input_leaves_its_queued_batch_and_the_last_one_takes_it_along,
    an_offered_batch_that_loses_an_input_is_offered_anew_without_it,
    what_no_longer_passes_at_the_offer_leaves_the_batch,
    a_full_queue_stops_an_expansion_at_its_position_and_room_lets_it_go_on,
    a_paused_schedule_stops_at_its_position_and_goes_on_there,
    what_a_batch_waits_for_survives_the_process_that_found_it,
    an_expansion_goes_on_by_what_its_schedule_says_now,
    an_expansion_whose_schedule_is_gone_ends_with_what_it_found,
    a_large_run_holds_up_neither_another_organization_nor_another_run_of_its_own,
    runs_of_organizations_are_claimed_in_turns_each_by_one_replica,
    two_replicas_find_each_input_once,
    a_query_finds_each_of_its_inputs_once_however_much_is_read_ahead,
);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn on_sqlite<F: Future<Output = ()>>(name: &str, promise: impl Fn(House) -> F) {
    let folder = servers::Folder::new(name);
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    runtime().block_on(async { promise(House::open(&url).await).await });
}

/// One server for all who need it at the same time; it goes with the last of them.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

fn on_postgres<F: Future<Output = ()>>(name: &str, promise: impl Fn(House) -> F) {
    let server = {
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::with(&["fsync=off"]));
            *shared = Arc::downgrade(&server);
            server
        })
    };
    // A database's name has at most 63 bytes.
    let database: String = name.chars().take(60).collect();
    server.create_database(&database);
    let url = server.url_of(&database);
    runtime().block_on(async { promise(House::open(&url).await).await });
}

/// A database, and what any replica on it agrees on.
struct House {
    url: String,
    sql: AnyPool,
}

/// A task with its inputs.
#[derive(Clone, Debug, PartialEq)]
struct Task {
    id: String,
    organization: String,
    plugin: String,
    state: String,
    inputs: Vec<String>,
}

fn host(number: usize) -> String {
    format!("host{number:06}")
}

impl House {
    async fn open(url: &str) -> House {
        let store = Store::open(url).await.expect("the address is right");
        store.migrate().await.expect("the schema is made");
        store.close().await;
        House {
            url: url.to_owned(),
            sql: AnyPool::connect(url).await.expect("connected"),
        }
    }

    /// A replica whose workers may have so many queued tasks.
    async fn replica(&self, stored_limit: u64) -> Ground {
        let mut worker = WorkerSettings::for_type("boefje");
        worker.stored_limit = stored_limit;
        let rules = Arc::new(Rules {
            workers: BTreeMap::from([("boefje".to_owned(), worker)]),
            open_organizations: true,
            ..Rules::default()
        });
        let intakes = vec![IntakeRule {
            queue: "events".to_owned(),
            order: Order::Time,
            format: Format::CloudEvents,
        }];
        static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let seed = SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = Store::open(&self.url).await.expect("the address is right");
        let ground = Ground::new(store, rules, intakes, seed, CancellationToken::new());
        ground.load_catalogue().await.expect("a catalogue");
        ground
    }

    /// Declares, and leaves out schedules that the text no longer has.
    async fn declare(&self, ground: &Ground, text: &str) {
        let (declared, complaints) = read_file(
            "test.yaml",
            text.as_bytes(),
            &Variables::default(),
            &ground.rules,
        );
        assert!(complaints.iter().all(|c| !c.is_error()), "{complaints:?}");
        let mut edits: Vec<Edit> = Vec::new();
        let names: BTreeSet<String> = declared.iter().map(|entry| entry.name.clone()).collect();
        let before = ground.load_catalogue().await.expect("a catalogue");
        for scheduled in before.schedules.iter() {
            if !names.contains(&scheduled.schedule.name) {
                edits.push(Edit::Delete {
                    kind: muster::declaration::Kind::Schedule,
                    organization: String::new(),
                    name: scheduled.schedule.name.clone(),
                });
            }
        }
        edits.extend(declared.into_iter().map(|entry| Edit::Put {
            kind: entry.kind,
            organization: entry.organization,
            id: format!("id-{}", entry.name),
            name: entry.name,
            definition: entry.definition,
        }));
        let revision = ground.store.catalogue_revision().await.expect("a revision");
        let applied = ground.store.apply(&edits, revision, Moment::now()).await;
        assert!(matches!(applied, Ok(Applied::Revision(_))), "{applied:?}");
        ground.load_catalogue().await.expect("a catalogue");
    }

    /// Stored hosts of an organisation, from one number up to another.
    async fn hosts(&self, organization: &str, numbers: std::ops::Range<usize>) {
        let rows: Vec<Value> = numbers.map(|n| json!({"k": host(n)})).collect();
        let (source, attributes) = if self.url.starts_with("sqlite") {
            (
                "(SELECT value ->> 'k' AS k FROM json_each($2)) AS r",
                "json_object('name', r.k)",
            )
        } else {
            (
                "json_to_recordset($2::json) AS r(k text)",
                "jsonb_build_object('name', r.k)",
            )
        };
        let sql = format!(
            "INSERT INTO object (organization, primary_key, object_type, attributes, scan_level, lifted, live, \
             created_rank, version) SELECT $1, r.k, 'hostname', {attributes}, 2, 1, 1, '1|test', 1 FROM {source} WHERE true"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(organization)
            .bind(Value::Array(rows).to_string())
            .execute(&self.sql)
            .await
            .expect("stored");
    }

    /// A run of a schedule at position 0.
    async fn start(&self, ground: &Ground, schedule: &str, organization: &str, nominal: i64) {
        let catalogue = ground.load_catalogue().await.expect("a catalogue");
        let found = catalogue
            .schedules
            .iter()
            .find(|s| s.schedule.name == schedule);
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
            found.expect("the schedule is declared"),
            catalogue.organizations.get(organization).expect("declared"),
            Cause::OnTime,
            Moment::from_micros(1_790_000_000_000_000 + nominal),
        );
        let commit = Commit {
            plan: &plan,
            ..Commit::empty(now, catalogue.revision)
        };
        let committed = ground.store.commit(&commit).await.expect("an answer");
        assert_eq!(committed, Committed::Done);
    }

    /// An event becomes part of the state.
    async fn tell(&self, ground: &Ground, event_type: &str, key: &str, more: Value) {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut data =
            json!({"organization": "acme", "object_type": "hostname", "primary_key": key});
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more);
        }
        let body = json!({
            "specversion": "1.0", "id": format!("e-{number}"), "source": "/test", "type": event_type, "data": data,
        });
        let message = Incoming {
            queue: "events".to_owned(),
            body: body.to_string().into_bytes(),
            ..Incoming::default()
        };
        let handled = handle(ground, &[message]).await.expect("handled");
        assert!(handled.dead.is_empty(), "{:?}", handled.dead);
    }

    async fn tasks(&self) -> Vec<Task> {
        let rows =
            sqlx::query("SELECT id, organization, plugin_id, state, inputs FROM task ORDER BY id")
                .fetch_all(&self.sql)
                .await
                .expect("tasks");
        let read = |row: &sqlx::any::AnyRow| {
            let inputs: String = row.get("inputs");
            let inputs: Vec<Value> = serde_json::from_str(&inputs).expect("inputs");
            let key = |input: &Value| input["primary_key"].as_str().expect("a key").to_owned();
            Task {
                id: row.get("id"),
                organization: row.get("organization"),
                plugin: row.get("plugin_id"),
                state: row.get("state"),
                inputs: inputs.iter().map(key).collect(),
            }
        };
        rows.iter().map(read).collect()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let row = sqlx::query(sql).fetch_one(&self.sql).await.expect("a row");
        row.get(0)
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.sql).await.expect("executed");
    }

    /// The only run: its state, position, total and refusals.
    async fn run(&self) -> (String, Option<String>, i64, Value) {
        let row = sqlx::query("SELECT state, position, total, refused FROM run")
            .fetch_one(&self.sql)
            .await
            .expect("one run");
        let refused: String = row.get("refused");
        (
            row.get("state"),
            row.get("position"),
            row.get("total"),
            serde_json::from_str(&refused).expect("refusals"),
        )
    }
}

/// The inputs of all tasks of a plugin, in the order of the tasks.
fn inputs_of(tasks: &[Task], plugin: &str) -> Vec<String> {
    tasks
        .iter()
        .filter(|task| task.plugin == plugin)
        .flat_map(|task| task.inputs.clone())
        .collect()
}

/// How many inputs each task of a plugin has.
fn sizes_of(tasks: &[Task], plugin: &str) -> Vec<usize> {
    tasks
        .iter()
        .filter(|task| task.plugin == plugin)
        .map(|task| task.inputs.len())
        .collect()
}

fn hosts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(host).collect()
}

const UNLIMITED: u64 = 10_000_000;

const BATCHES: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: bulk, worker_type: boefje, scan_level: 1, consumes: [hostname], batch_size: 100}
- {kind: plugin, plugin_id: seven, worker_type: boefje, scan_level: 1, consumes: [hostname], batch_size: 7}
- {kind: plugin, plugin_id: single, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {name: daily, recurrences: daily, plugins: "True", input: {hostname: null}}
"#;

async fn a_batch_takes_as_many_inputs_as_its_plugin_says_and_the_last_one_what_is_left(
    house: House,
) {
    let ground = house.replica(UNLIMITED).await;
    house.declare(&ground, BATCHES).await;
    house.hosts("acme", 0..1050).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let tasks = house.tasks().await;
    let mut bulk = vec![100; 10];
    bulk.push(50);
    assert_eq!(sizes_of(&tasks, "bulk"), bulk);
    assert_eq!(sizes_of(&tasks, "seven"), vec![7; 150]);
    assert_eq!(sizes_of(&tasks, "single"), vec![1; 1050]);
    for plugin in ["bulk", "seven", "single"] {
        assert_eq!(
            inputs_of(&tasks, plugin),
            hosts(0..1050),
            "{plugin}: each once, in order"
        );
    }
    let open = house.count("SELECT count(*) FROM open_input").await;
    assert_eq!(
        open,
        3 * 1050,
        "one unique key for each input, also inside a batch"
    );
    let (state, position, total, refused) = house.run().await;
    assert_eq!((state.as_str(), position), ("running", None));
    assert_eq!((total, refused), (11 + 150 + 1050, json!({})));
    assert_eq!(
        house
            .count("SELECT count(*) FROM run WHERE carried IS NOT NULL")
            .await,
        0
    );
}

async fn a_number_of_inputs_that_divides_evenly_leaves_no_small_batch(house: House) {
    let ground = house.replica(UNLIMITED).await;
    house.declare(&ground, BATCHES).await;
    house.hosts("acme", 0..700).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let tasks = house.tasks().await;
    assert_eq!(sizes_of(&tasks, "bulk"), vec![100; 7]);
    assert_eq!(sizes_of(&tasks, "seven"), vec![7; 100]);
}

const GRACED: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: bulk, worker_type: boefje, scan_level: 1, consumes: [hostname], batch_size: 10, grace: 1d}
- {name: daily, recurrences: daily, plugins: "True", input: {hostname: null}}
- {name: created, run_on: hostname, operation: created, plugins: "True"}
"#;

async fn what_is_open_or_in_grace_takes_no_place_in_a_batch(house: House) {
    let ground = house.replica(UNLIMITED).await;
    house.declare(&ground, GRACED).await;
    house.hosts("acme", 2..25).await;
    // Two that have a task already; one of these tasks has ended.
    for number in [0, 1] {
        let more = json!({"attributes": {"name": host(number)}, "scan_level": 2});
        house
            .tell(&ground, "object.created", &host(number), more)
            .await;
    }
    let ended = house.tasks().await.remove(0);
    let status = json!({"task_id": ended.id, "attempt": 1, "worker": "w", "status": "succeeded", "at": Moment::now().to_string()});
    let now = ground.clock.now();
    ground
        .store
        .claim("muster.tasks.boefje", 1, now, now.plus(Span::seconds(30)))
        .await
        .expect("claimed");
    let message = Incoming {
        status: true,
        body: status.to_string().into_bytes(),
        ..Incoming::default()
    };
    handle(&ground, &[message]).await.expect("handled");
    house.execute("DELETE FROM run").await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let mut tasks = house.tasks().await;
    tasks.drain(..2);
    assert_eq!(sizes_of(&tasks, "bulk"), [10, 10, 3]);
    assert_eq!(inputs_of(&tasks, "bulk"), hosts(2..25));
    let (.., total, refused) = house.run().await;
    assert_eq!(
        (total, refused),
        (3, json!({"duplicate": 1, "in_grace": 1}))
    );
}

const TENS: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: bulk, worker_type: boefje, scan_level: 1, consumes: [hostname], batch_size: 10}
- {name: daily, recurrences: daily, plugins: "True", input: {hostname: null}}
"#;

/// One queued batch of three hosts.
async fn batch_of_three(house: &House) -> Ground {
    let ground = house.replica(UNLIMITED).await;
    house.declare(&ground, TENS).await;
    house.hosts("acme", 0..3).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    assert_eq!(sizes_of(&house.tasks().await, "bulk"), [3]);
    ground
}

async fn a_deleted_input_leaves_its_queued_batch_and_the_last_one_takes_it_along(house: House) {
    let ground = batch_of_three(&house).await;
    house
        .tell(&ground, "object.deleted", &host(1), json!({}))
        .await;
    let task = house.tasks().await.remove(0);
    assert_eq!(
        (task.state.as_str(), task.inputs),
        ("queued", vec![host(0), host(2)])
    );
    let open = house.count("SELECT count(*) FROM open_input").await;
    assert_eq!(open, 2, "its unique key is free");
    // A level that is no longer enough is the same.
    let lowered = json!({"scan_level": 0, "scan_profile_type": "declared"});
    house
        .tell(&ground, "scan_profile.updated", &host(0), lowered)
        .await;
    assert_eq!(house.tasks().await.remove(0).inputs, [host(2)]);
    house
        .tell(&ground, "object.deleted", &host(2), json!({}))
        .await;
    let task = house.tasks().await.remove(0);
    assert_eq!(task.state, "withdrawn");
    assert_eq!(house.count("SELECT count(*) FROM open_input").await, 0);
    let (state, _, total, _) = house.run().await;
    assert_eq!((state.as_str(), total), ("cancelled", 1));
}

async fn an_offered_batch_that_loses_an_input_is_offered_anew_without_it(house: House) {
    let ground = batch_of_three(&house).await;
    let now = ground.clock.now();
    let lease = now.plus(Span::seconds(30));
    let offered = ground
        .store
        .claim("muster.tasks.boefje", 10, now, lease)
        .await
        .expect("claimed");
    assert_eq!(
        (offered.len(), offered[0].attempt, offered[0].inputs.len()),
        (1, 1, 3)
    );
    house
        .tell(&ground, "object.deleted", &host(1), json!({}))
        .await;
    assert_eq!(house.tasks().await.remove(0).state, "queued");
    let again = ground
        .store
        .claim("muster.tasks.boefje", 10, now, lease)
        .await
        .expect("claimed");
    let keys: Vec<&str> = again[0]
        .inputs
        .iter()
        .map(|input| input.primary_key.as_str())
        .collect();
    assert_eq!(
        (again[0].attempt, keys),
        (2, vec!["host000000", "host000002"])
    );
    let standings = ground.store.standings(&[&again[0].task_id]).await;
    let standing = &standings.expect("known")[&again[0].task_id].standing;
    assert_eq!(standing.outcome, None, "the second offer is open");
    let ended = house.count("SELECT count(*) FROM attempt WHERE number = 1 AND outcome = 'withdrawn' AND claimed_until IS NULL").await;
    assert_eq!(ended, 1, "the first is void");
}

async fn what_no_longer_passes_at_the_offer_leaves_the_batch(house: House) {
    let ground = batch_of_three(&house).await;
    // Behind the back of the intake, as if it came between the page and the offer.
    house
        .execute("UPDATE object SET scan_level = 0 WHERE primary_key = 'host000001'")
        .await;
    let bus = muster::bus::lines::Lines::open(tokio::io::empty(), tokio::io::sink());
    muster::dispatch::round(&ground, &bus)
        .await
        .expect("offered");
    let task = house.tasks().await.remove(0);
    assert_eq!(
        (task.state.as_str(), task.inputs),
        ("dispatched", vec![host(0), host(2)])
    );
    assert_eq!(house.count("SELECT count(*) FROM open_input").await, 2);
    // Offered again it is withdrawn once none of them passes.
    house.execute("UPDATE object SET scan_level = 0").await;
    house.execute("UPDATE task SET state = 'queued'").await;
    muster::dispatch::round(&ground, &bus)
        .await
        .expect("looked at");
    assert_eq!(house.tasks().await.remove(0).state, "withdrawn");
    assert_eq!(house.count("SELECT count(*) FROM open_input").await, 0);
}

const PLAIN: &str = r#"
- {kind: organization, id: acme}
- {kind: organization, id: beta}
- {kind: plugin, plugin_id: dns, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {name: daily, recurrences: daily, plugins: "plugin_id = 'dns'", input: {hostname: null}}
- {name: other, recurrences: daily, plugins: "plugin_id = 'dns'", input: {hostname: "name startswith 'host00000'"}, overlap: allow}
"#;

async fn a_full_queue_stops_an_expansion_at_its_position_and_room_lets_it_go_on(house: House) {
    let ground = house.replica(100).await;
    house.declare(&ground, PLAIN).await;
    house.hosts("acme", 0..350).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    assert_eq!(inputs_of(&house.tasks().await, "dns"), hosts(0..100));
    let (state, position, ..) = house.run().await;
    assert_eq!(state, "expanding");
    assert_eq!(
        position,
        Some(format!("hostname|{}", host(99))),
        "the position is stored"
    );
    step(&ground).await.expect("nothing to do");
    assert_eq!(
        house.tasks().await.len(),
        100,
        "a full queue stays as full as it is"
    );
    // Intake is never held back by it.
    house
        .tell(
            &ground,
            "object.created",
            "late",
            json!({"attributes": {"name": "late"}, "scan_level": 2}),
        )
        .await;
    let now = ground.clock.now();
    for expected in [200, 300, 351] {
        ground
            .store
            .claim("muster.tasks.boefje", 100, now, now.plus(Span::seconds(30)))
            .await
            .expect("claimed");
        step(&ground).await.expect("expanded");
        assert_eq!(house.tasks().await.len(), expected);
    }
    let found = inputs_of(&house.tasks().await, "dns");
    assert_eq!(
        found.iter().collect::<BTreeSet<_>>().len(),
        351,
        "each input once"
    );
    assert_eq!(house.run().await.1, None, "and the expansion is over");
}

async fn a_paused_schedule_stops_at_its_position_and_goes_on_there(house: House) {
    let ground = house.replica(100).await;
    house.declare(&ground, PLAIN).await;
    house.hosts("acme", 0..250).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let stopped = house.run().await;
    assert_eq!(stopped.1, Some(format!("hostname|{}", host(99))));
    let paused = PLAIN.replace("{name: daily,", "{name: daily, enabled: false,");
    let free = house.replica(UNLIMITED).await;
    house.declare(&free, &paused).await;
    step(&free).await.expect("nothing to do");
    assert_eq!(house.run().await, stopped, "it stays where it is");
    house.declare(&free, PLAIN).await;
    step(&free).await.expect("expanded");
    assert_eq!(inputs_of(&house.tasks().await, "dns"), hosts(0..250));
    let (_, position, total, _) = house.run().await;
    assert_eq!((position, total), (None, 250));
}

async fn what_a_batch_waits_for_survives_the_process_that_found_it(house: House) {
    // A batch of 100 is begun when the tasks of single inputs have filled the queue.
    let ground = house.replica(180).await;
    let text = BATCHES.replace(
        "plugin_id: seven, worker_type: boefje",
        "plugin_id: seven, worker_type: none, enabled: false",
    );
    house.declare(&ground, &text).await;
    house.hosts("acme", 0..333).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let before = house.tasks().await;
    assert_eq!(sizes_of(&before, "bulk"), [100]);
    let carried = house
        .count("SELECT count(*) FROM run WHERE carried LIKE '%host000100%'")
        .await;
    assert_eq!(carried, 1, "what waits for its batch is kept with the run");
    // One of those that wait is gone when somebody else goes on.
    let other = house.replica(UNLIMITED).await;
    house
        .tell(&other, "object.deleted", &host(101), json!({}))
        .await;
    step(&other).await.expect("expanded");
    let tasks = house.tasks().await;
    assert_eq!(sizes_of(&tasks, "bulk"), [100, 100, 100, 32]);
    let mut expected = hosts(0..333);
    expected.remove(101);
    assert_eq!(inputs_of(&tasks, "bulk"), expected);
    assert_eq!(inputs_of(&tasks, "single").len(), 333);
    let (_, _, total, refused) = house.run().await;
    assert_eq!(total, 4 + 333);
    assert_eq!(refused["deleted"], 1, "{refused}");
}

async fn an_expansion_goes_on_by_what_its_schedule_says_now(house: House) {
    let ground = house.replica(100).await;
    house.declare(&ground, PLAIN).await;
    house.hosts("acme", 0..200).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let changed = PLAIN.replace(
        "\"plugin_id = 'dns'\", input: {hostname: null}",
        "\"plugin_id = 'whois'\", input: {hostname: \"name < 'host000150'\"}",
    ) + "- {kind: plugin, plugin_id: whois, worker_type: boefje, scan_level: 1, consumes: [hostname]}\n";
    let free = house.replica(UNLIMITED).await;
    house.declare(&free, &changed).await;
    step(&free).await.expect("expanded");
    let tasks = house.tasks().await;
    assert_eq!(inputs_of(&tasks, "dns"), hosts(0..100), "what exists stays");
    assert_eq!(
        inputs_of(&tasks, "whois"),
        hosts(100..150),
        "from its position on"
    );
}

async fn an_expansion_whose_schedule_is_gone_ends_with_what_it_found(house: House) {
    let ground = house.replica(100).await;
    house.declare(&ground, PLAIN).await;
    house.hosts("acme", 0..200).await;
    house.start(&ground, "daily", "acme", 0).await;
    step(&ground).await.expect("expanded");
    let gone: String = PLAIN
        .lines()
        .filter(|line| !line.contains("name: daily"))
        .map(|line| format!("{line}\n"))
        .collect();
    let free = house.replica(UNLIMITED).await;
    house.declare(&free, &gone).await;
    step(&free).await.expect("ended");
    let (state, position, total, _) = house.run().await;
    assert_eq!((state.as_str(), position, total), ("running", None, 100));
    assert_eq!(house.tasks().await.len(), 100);
}

async fn a_large_run_holds_up_neither_another_organization_nor_another_run_of_its_own(
    house: House,
) {
    let ground = house.replica(UNLIMITED).await;
    house.declare(&ground, PLAIN).await;
    for begin in (0..40_000).step_by(10_000) {
        house.hosts("acme", begin..begin + 10_000).await;
    }
    house.hosts("beta", 0..10).await;
    house.start(&ground, "daily", "acme", 0).await;
    house.start(&ground, "other", "acme", 0).await;
    house.start(&ground, "daily", "beta", 0).await;
    step(&ground).await.expect("expanded");
    let tasks = house.tasks().await;
    assert_eq!(tasks.len(), 40_000 + 10 + 10);
    let runs = sqlx::query("SELECT u.organization, u.schedule, max(t.id) AS last FROM run u JOIN task t ON t.run_id = u.id GROUP BY u.organization, u.schedule ORDER BY 1, 2")
        .fetch_all(&house.sql)
        .await
        .expect("runs");
    let last: Vec<String> = runs.iter().map(|row| row.get("last")).collect();
    let [large, own, others] = last.as_slice() else {
        panic!("expected three runs with tasks: {last:?}");
    };
    let before = |end: &str| tasks.iter().filter(|task| task.id.as_str() < end).count();
    assert!(
        before(others) < 30_000,
        "the other organisation waited for {} tasks",
        before(others)
    );
    assert!(
        before(own) < 30_000,
        "the other run waited for {} tasks",
        before(own)
    );
    assert!(own < large && others < large);
}

async fn runs_of_organizations_are_claimed_in_turns_each_by_one_replica(house: House) {
    let ground = house.replica(UNLIMITED).await;
    house.declare(&ground, PLAIN).await;
    let mut runs = Vec::new();
    for (schedule, organization, nominal) in [
        ("daily", "acme", 0),
        ("daily", "acme", 1),
        ("daily", "beta", 0),
    ] {
        house.start(&ground, schedule, organization, nominal).await;
    }
    let now = ground.clock.now();
    let (until, over) = (now.plus(Span::seconds(10)), now.plus(Span::seconds(11)));
    let claim = async |after: &str, at: Moment, until: Moment| {
        ground
            .store
            .claim_expansion(after, &Held::default(), at, until)
            .await
            .expect("an answer")
    };
    let first = claim("", now, until).await.expect("the oldest of acme");
    assert_eq!(first.organization, "acme");
    let second = claim("acme", now, until).await.expect("the one of beta");
    assert_eq!(second.organization, "beta");
    assert!(
        claim("beta", now, until).await.is_none(),
        "after the last organisation there is none"
    );
    // Of two whose turn was at the same instant neither waited longer.
    let then = now.plus(Span::from_micros(1));
    let third = claim("", then, until).await.expect("the other of acme");
    assert_eq!(third.organization, "acme");
    assert!(
        third.scheduled_for > first.scheduled_for,
        "the one that waited longest went first"
    );
    assert!(claim("", then, until).await.is_none(), "all are somebody's");
    runs.extend([first.id.clone(), third.id]);
    let (daily, none) = (["id-daily"].into_iter(), std::iter::empty());
    for held in [
        Held::of(none.clone(), daily.clone()),
        Held::of(daily.clone(), none.clone()),
    ] {
        let claimed = ground.store.claim_expansion("", &held, over, over).await;
        let claimed = claimed.expect("an answer");
        assert!(claimed.is_none(), "held schedules stay where they are");
    }
    let later = over.plus(Span::seconds(1));
    let taken = claim("", over, later)
        .await
        .expect("a claim that is over is anybody's");
    assert_eq!(taken.id, first.id);
    ground
        .store
        .release_expansion(&first.id, until)
        .await
        .expect("an answer");
    let next = claim("", over, later)
        .await
        .expect("the other of acme is over too");
    assert_eq!(
        next.id, runs[1],
        "what somebody else has is not released by who had it before"
    );
    ground
        .store
        .release_expansion(&first.id, later)
        .await
        .expect("released");
    assert_eq!(
        claim("", over, later).await.expect("it is free").id,
        first.id
    );
}

async fn two_replicas_find_each_input_once(house: House) {
    let (one, two) = (
        house.replica(UNLIMITED).await,
        house.replica(UNLIMITED).await,
    );
    house.declare(&one, PLAIN).await;
    for organization in ["acme", "beta"] {
        house.hosts(organization, 0..6_000).await;
        house.start(&one, "daily", organization, 0).await;
    }
    let both = tokio::join!(step(&one), step(&two));
    both.0.and(both.1).expect("expanded");
    // One of them may have ended while the other had the last turns; nothing is left over.
    step(&one).await.expect("nothing to do");
    let tasks = house.tasks().await;
    let distinct: BTreeSet<(&str, &str)> = tasks
        .iter()
        .map(|task| (task.organization.as_str(), task.inputs[0].as_str()))
        .collect();
    assert_eq!((tasks.len(), distinct.len()), (12_000, 12_000));
    assert_eq!(
        house
            .count("SELECT count(*) FROM run WHERE total = 6000 AND position IS NULL")
            .await,
        2
    );
}

async fn a_query_finds_each_of_its_inputs_once_however_much_is_read_ahead(house: House) {
    let ground = house.replica(UNLIMITED).await;
    let text = PLAIN.replace(
        "input: {hostname: null}",
        "input: {hostname: \"name endswith '7' or name endswith '8'\"}",
    );
    house.declare(&ground, &text).await;
    house.hosts("acme", 0..9_000).await;
    house.start(&ground, "daily", "acme", 0).await;
    // Workers have enough now and then, so what was read ahead is read again.
    let narrow = house.replica(500).await;
    step(&narrow).await.expect("expanded");
    let first = house.tasks().await.len();
    assert!((1..=500).contains(&first), "{first}");
    step(&ground).await.expect("expanded");
    let wanted: Vec<String> = (0..9_000)
        .filter(|number| matches!(number % 10, 7 | 8))
        .map(host)
        .collect();
    assert_eq!(inputs_of(&house.tasks().await, "dns"), wanted);
}
