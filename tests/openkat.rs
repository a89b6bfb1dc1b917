//! config/openkat.toml and config/openkat.yaml: what OpenKAT's users keep, and what its scheduler gets wrong and cannot
//! go wrong here. Messages in OpenKAT's own formats in, its own envelopes out.

mod support;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use muster::answer::answer;
use muster::bus::lines::Lines;
use muster::cli::rules::rules;
use muster::declaration::{Variables, read_file};
use muster::document::Document;
use muster::ground::{Ground, IntakeRule};
use muster::intake::{Handled, Incoming, handle};
use muster::moment::{Moment, Span};
use muster::rules::Rules;
use muster::settings::Settings;
use muster::store::{Applied, Edit, Page, Store};
use muster::wire::Requested;
use muster::{dispatch, expansion, reaper, ticker};
use serde_json::{Value, json};
use support::broker::{Broker, OnRabbit};
use support::process::{Database, House, until};
use support::servers::{Folder, Postgres, Rabbit};
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

const SETTINGS: &str = include_str!("../config/openkat.toml");
const CATALOGUE: &str = include_str!("../config/openkat.yaml");

const PROFILES: &str = "scan_profile_mutations";
const FILES: &str = "raw_file_received";

/// A boefje without a level, one for each `run_on`, and the examples of the catalogue switched on.
const MORE: &str = r#"
- {kind: plugin, plugin_id: no-level, worker_type: boefje, consumes: [Hostname]}
- {kind: plugin, plugin_id: level-four, worker_type: boefje, scan_level: 4, consumes: [Hostname]}
- {kind: plugin, plugin_id: on-create, worker_type: boefje, scan_level: 1, consumes: [Website], run_on: [create]}
- {kind: plugin, plugin_id: on-update, worker_type: boefje, scan_level: 1, consumes: [Website], run_on: [update]}
- {kind: plugin, plugin_id: on-both, worker_type: boefje, scan_level: 1, consumes: [Website], run_on: [create, update]}
- {kind: plugin, plugin_id: always, worker_type: boefje, scan_level: 1, consumes: [Website]}
- {kind: plugin, plugin_id: other-reader, worker_type: normalizer, consumes: ["file:application/json"]}
- {kind: plugin, plugin_id: sleeping-reader, worker_type: normalizer, consumes: ["file:boefje/dns-records"], enabled: false}
"#;

/// Where the task messages go.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Written {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.lock().expect("the output").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// muster with OpenKAT's settings, on SQLite and lines, one step at a time and by a clock of its own.
struct Kat {
    folder: Folder,
    ground: Ground,
    bus: Lines,
    written: Written,
    seen: usize,
}

fn settings(folder: &Folder) -> Settings {
    let document = Document::toml("config/openkat.toml", SETTINGS).expect("config/openkat.toml");
    let store = format!("sqlite:{}", folder.path().join("kat.db").display());
    let variables = [
        ("MUSTER_STORE_URL", store.as_str()),
        ("MUSTER_BUS_URL", "lines:"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (settings, warnings) = Settings::read(&document, variables).expect("it loads");
    assert!(warnings.is_empty(), "{warnings:?}");
    settings
}

impl Kat {
    /// Friday, at the instant of every test's beginning.
    const START: &str = "2026-03-06T12:00:00Z";

    async fn new() -> Kat {
        let mut kat = Kat::opened(Folder::new("kat")).await;
        kat.ground.store.migrate().await.expect("migrated");
        kat.at(Kat::START);
        kat.apply(CATALOGUE).await;
        kat.apply(MORE).await;
        kat
    }

    async fn opened(folder: Folder) -> Kat {
        Kat::opened_with(folder, |_| {}).await
    }

    async fn opened_with(folder: Folder, change: impl FnOnce(&mut Rules)) -> Kat {
        let settings = settings(&folder);
        let mut rules = rules(&settings).expect("rules");
        change(&mut rules);
        let store = Store::open(settings.store.url.expose())
            .await
            .expect("a store");
        let intakes = settings.bus.intake.iter().map(|intake| IntakeRule {
            queue: intake.queue.clone(),
            order: intake.order,
            format: intake.format,
        });
        let ground = Ground::new(
            store,
            Arc::new(rules),
            intakes.collect(),
            7,
            CancellationToken::new(),
        );
        let written = Written::default();
        let bus = Lines::open(tokio::io::empty(), written.clone());
        Kat {
            folder,
            ground,
            bus,
            written,
            seen: 0,
        }
    }

    /// The process ends, and another one begins.
    async fn restarted(self) -> Kat {
        let now = self.ground.clock.now();
        self.ground.store.close().await;
        let kat = Kat::opened(self.folder).await;
        kat.ground.clock.fix(now);
        kat
    }

    fn at(&mut self, now: &str) {
        self.ground
            .clock
            .fix(Moment::parse(now).expect("an instant"));
    }

    fn later(&mut self, span: &str) {
        let span = Span::parse(span).expect("a length of time");
        self.ground.clock.fix(self.ground.clock.now().plus(span));
    }

    fn rules(&self) -> &Rules {
        &self.ground.rules
    }

    async fn apply(&self, text: &str) {
        let (declared, complaints) = read_file(
            "kat.yaml",
            text.as_bytes(),
            &Variables::default(),
            self.rules(),
        );
        assert!(complaints.is_empty(), "{complaints:?}");
        let now = self.ground.clock.now();
        let edits: Vec<Edit> = declared
            .into_iter()
            .map(|entry| Edit::Put {
                kind: entry.kind,
                organization: entry.organization,
                id: entry.name.clone(),
                name: entry.name,
                definition: entry.definition,
            })
            .collect();
        let revision = self
            .ground
            .store
            .catalogue_revision()
            .await
            .expect("a revision");
        let applied = self.ground.store.apply(&edits, revision, now).await;
        assert_ne!(applied.expect("applied"), Applied::Stale);
        self.ground.load_catalogue().await.expect("the catalogue");
    }

    /// A person asks for something.
    async fn ask(&self, organization: Option<&str>, command: &str, args: Value) -> Value {
        let requested = Requested {
            id: None,
            command: command.to_owned(),
            organization: organization.map(str::to_owned),
            args: args.as_object().cloned().unwrap_or_default(),
        };
        let answered = answer(&self.ground, &requested, "person").await;
        let answered = answered.expect("the store answers");
        answered.unwrap_or_else(|refused| panic!("{command}: {refused:?}"))
    }

    async fn put(&self, queue: &str, bodies: &[String]) -> Handled {
        let intake = self
            .ground
            .intakes
            .iter()
            .position(|rule| rule.queue == queue);
        let batch: Vec<Incoming> = bodies
            .iter()
            .map(|body| Incoming {
                intake: intake.unwrap_or(0),
                queue: queue.to_owned(),
                routing_key: queue.to_owned(),
                body: body.clone().into_bytes(),
                status: queue == "muster.status",
                ..Incoming::default()
            })
            .collect();
        handle(&self.ground, &batch).await.expect("handled")
    }

    async fn profile(&self, operation: &str, key: &str, level: u8) -> Handled {
        self.put(PROFILES, &[profile(operation, "acme", key, level)])
            .await
    }

    async fn gone(&self, key: &str) -> Handled {
        self.put(PROFILES, &[deleted("acme", key)]).await
    }

    async fn say(&self, task: &Value, status: &str) {
        let status = json!({ "task_id": task["id"], "status": status });
        self.put("muster.status", &[status.to_string()]).await;
    }

    /// What is due is decided and everything that may go out goes out; answers with what was new.
    async fn tasks(&mut self) -> Vec<Value> {
        ticker::step(&self.ground).await.expect("a tick");
        expansion::step(&self.ground).await.expect("an expansion");
        while dispatch::round(&self.ground, &self.bus)
            .await
            .expect("a round")
            .moved
            > 0
        {}
        let bytes = self.written.0.lock().expect("the output").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        let lines = text.lines().skip(self.seen);
        let tasks: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).expect("a task is JSON"))
            .collect();
        self.seen += tasks.len();
        tasks
    }

    /// The new tasks as (plugin, input), in the order of their names.
    async fn named(&mut self) -> Vec<(String, String)> {
        let tasks = self.tasks().await;
        names(&tasks)
    }

    /// One new task and no other.
    async fn one(&mut self) -> Value {
        let mut tasks = self.tasks().await;
        assert_eq!(tasks.len(), 1, "expected one task: {:?}", names(&tasks));
        tasks.remove(0)
    }

    async fn states(&self) -> Vec<String> {
        let page = Page {
            limit: 1000,
            ..Page::default()
        };
        let listed = self.ground.store.list("task", &page).await.expect("a list");
        let rows = listed.expect("tasks are listed").rows;
        let mut states: Vec<String> = rows
            .iter()
            .map(|row| row["state"].as_str().expect("a state").to_owned())
            .collect();
        states.sort();
        states
    }
}

fn names(tasks: &[Value]) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = tasks
        .iter()
        .map(|task| {
            let data = &task["data"];
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            match task["type"].as_str() {
                Some("boefje") => (text(&data["boefje"]["id"]), text(&data["input_ooi"])),
                Some("normalizer") => (
                    text(&data["normalizer"]["id"]),
                    text(&data["raw_data"]["id"]),
                ),
                _ => (text(&task["type"]), text(&data["report_recipe_id"])),
            }
        })
        .collect();
    names.sort();
    names
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(one, two)| ((*one).to_owned(), (*two).to_owned()))
        .collect()
}

fn profile(operation: &str, organization: &str, key: &str, level: u8) -> String {
    let object_type = key.split('|').next().expect("a type");
    json!({
        "operation": operation, "primary_key": key, "client_id": organization,
        "value": {
            "primary_key": key, "object_type": object_type,
            "scan_profile": { "scan_profile_type": "declared", "reference": key, "level": level, "user_id": 7 },
        },
    })
    .to_string()
}

fn deleted(organization: &str, key: &str) -> String {
    json!({ "operation": "delete", "primary_key": key, "value": null, "client_id": organization })
        .to_string()
}

/// A raw file of the run of a boefje.
fn raw_file(id: &str, run: &str, mime_types: &[&str]) -> String {
    let mime_types: Vec<Value> = mime_types
        .iter()
        .map(|mime| json!({ "value": mime }))
        .collect();
    json!({
        "event_id": "raw_file_received", "created_at": "2026-03-06T11:59:30.120000Z", "organization": "acme",
        "raw_data": {
            "id": id,
            "boefje_meta": {
                "id": run, "started_at": "2026-03-06T11:59:21Z", "ended_at": "2026-03-06T11:59:29Z",
                "boefje": { "id": "dns-records", "version": null }, "input_ooi": WWW, "arguments": {},
                "organization": "acme", "runnable_hash": "5f0c", "environment": null,
            },
            "mime_types": mime_types, "secure_hash": null, "signing_provider_url": null, "hash_retrieval_link": null,
        },
    })
    .to_string()
}

const WWW: &str = "Hostname|internet|www.example.com";
const SITE: &str = "Website|internet|192.0.2.1|tcp|443|https|internet|www.example.com";
const RUN: &str = "9f1d5a52-0a5e-4b0f-8f6c-1c7f0a2b3c44";

// --- What to keep ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_boefje_runs_on_a_new_object_that_permits_it_in_openkats_own_envelope() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    let mut keys: Vec<&String> = task.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "created_at",
            "data",
            "hash",
            "id",
            "modified_at",
            "organisation",
            "priority",
            "schedule_id",
            "scheduler_id",
            "status",
            "type"
        ]
    );
    assert_eq!(
        (&task["status"], &task["type"]),
        (&json!("queued"), &json!("boefje"))
    );
    assert_eq!(task["organisation"], "acme");
    assert_eq!(task["id"], task["data"]["id"]);
    assert_eq!(task["data"]["boefje"]["id"], "dns-records");
    assert_eq!(task["data"]["boefje"]["name"], "DNS records");
    assert_eq!(task["data"]["input_ooi"], WWW);
    assert_eq!(task["data"]["organization"], "acme");
    assert_eq!(task["data"]["dispatches"], json!([]));
    assert_eq!(task["hash"].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn a_boefje_without_a_level_or_above_the_objects_level_never_runs() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 3).await;
    assert_eq!(
        kat.named().await,
        pairs(&[("dns-records", WWW)]),
        "expected neither `no-level` nor `level-four`"
    );
}

#[tokio::test]
async fn an_object_of_level_0_is_never_scanned_and_its_first_level_counts_as_its_creation() {
    let mut kat = Kat::new().await;
    kat.profile("create", SITE, 0).await;
    kat.later("2d");
    assert_eq!(kat.named().await, pairs(&[]));
    kat.later("6h");
    assert_eq!(kat.named().await, pairs(&[]));
    // The profile is made a second time, now inherited from what it belongs to.
    kat.profile("create", SITE, 1).await;
    assert_eq!(
        kat.named().await,
        pairs(&[
            ("always", SITE),
            ("on-both", SITE),
            ("on-create", SITE),
            ("on-update", SITE)
        ])
    );
}

#[tokio::test]
async fn run_on_says_on_which_changes_a_boefje_runs_and_keeps_it_from_recurring() {
    let mut kat = Kat::new().await;
    kat.profile("create", SITE, 1).await;
    let tasks = kat.tasks().await;
    assert_eq!(
        names(&tasks),
        pairs(&[("always", SITE), ("on-both", SITE), ("on-create", SITE)])
    );
    for task in &tasks {
        kat.say(task, "completed").await;
    }
    kat.later("2d");
    kat.profile("update", SITE, 2).await;
    let tasks = kat.tasks().await;
    assert_eq!(
        names(&tasks),
        pairs(&[("always", SITE), ("on-both", SITE), ("on-update", SITE)])
    );
    for task in &tasks {
        kat.say(task, "completed").await;
    }
    kat.later("2d");
    assert_eq!(
        kat.named().await,
        pairs(&[]),
        "expected its spread to be waited for"
    );
    kat.later("6h");
    assert_eq!(
        kat.named().await,
        pairs(&[("always", SITE)]),
        "expected nothing that has a run_on to recur"
    );
}

#[tokio::test]
async fn every_enabled_normalizer_of_one_of_the_files_types_reads_it_once() {
    let mut kat = Kat::new().await;
    kat.put(
        FILES,
        &[raw_file(
            "f-1",
            RUN,
            &["boefje/dns-records", "application/json"],
        )],
    )
    .await;
    let tasks = kat.tasks().await;
    assert_eq!(
        names(&tasks),
        pairs(&[("kat_dns_normalize", "f-1"), ("other-reader", "f-1")]),
        "expected neither the disabled one nor those of other types"
    );
    let raw_data = &tasks[0]["data"]["raw_data"];
    assert_eq!(
        raw_data["boefje_meta"]["id"], RUN,
        "expected the raw data as it came"
    );
    assert_eq!(raw_data["boefje_meta"]["input_ooi"], WWW);
}

#[tokio::test]
async fn a_file_that_tells_of_an_error_is_read_by_nobody() {
    let mut kat = Kat::new().await;
    kat.put(
        FILES,
        &[raw_file(
            "f-1",
            RUN,
            &["boefje/dns-records", "error/boefje"],
        )],
    )
    .await;
    assert_eq!(kat.named().await, pairs(&[]));
}

#[tokio::test]
async fn what_was_scanned_comes_again_a_day_after_its_end_within_the_spread_and_once() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    kat.say(&task, "completed").await;
    kat.later("23h");
    kat.tasks().await;
    assert_eq!(
        kat.states().await,
        ["succeeded"],
        "expected nothing within a day"
    );
    kat.later("2h");
    kat.tasks().await;
    kat.later("5h");
    let again = kat.one().await;
    assert_ne!(again["id"], task["id"]);
    kat.later("3h");
    assert_eq!(
        kat.named().await,
        pairs(&[]),
        "expected no second one while it is open"
    );
}

#[tokio::test]
async fn a_boefje_with_a_cron_of_its_own_follows_that_and_nothing_else_reschedules_it() {
    let mut kat = Kat::new().await;
    let plugin = "{kind: plugin, plugin_id: ssl-certificates, worker_type: boefje, scan_level: 1, \
                  consumes: [Hostname], recurrences: \"0 3 * * 1\"}";
    kat.apply(plugin).await;
    kat.profile("create", WWW, 1).await;
    let ssl = |tasks: &[Value]| {
        names(tasks)
            .iter()
            .filter(|(plugin, _)| plugin == "ssl-certificates")
            .count()
    };
    let tasks = kat.tasks().await;
    assert_eq!(ssl(&tasks), 1, "expected it to run on what is new");
    for task in &tasks {
        kat.say(task, "completed").await;
    }
    kat.at("2026-03-09T02:59:59Z");
    let weekend = kat.tasks().await;
    assert_eq!(
        ssl(&weekend),
        0,
        "expected no run before Monday, three o'clock UTC"
    );
    kat.at("2026-03-09T03:00:01Z");
    kat.tasks().await;
    kat.at("2026-03-09T08:00:01Z");
    let monday = kat.tasks().await;
    assert_eq!(
        ssl(&monday),
        1,
        "expected its run on Monday, within the spread"
    );
}

#[tokio::test]
async fn a_boefje_that_becomes_enabled_runs_on_all_that_is_there_and_permits_it() {
    let mut kat = Kat::new().await;
    for (key, level) in [
        ("IPAddressV4|internet|192.0.2.1", 2),
        ("IPAddressV6|internet|2001:db8::1", 3),
        ("IPAddressV4|internet|192.0.2.9", 1),
    ] {
        kat.profile("create", key, level).await;
    }
    assert_eq!(
        kat.named().await,
        pairs(&[]),
        "expected nmap to be off for acme"
    );
    let plugin = "{kind: plugin, plugin_id: nmap, worker_type: boefje, scan_level: 2, \
                  consumes: [IPAddressV4, IPAddressV6], enabled: false, organizations: {acme: {enabled: true}}}";
    kat.apply(plugin).await;
    kat.later("1h");
    kat.tasks().await;
    kat.later("5h");
    assert_eq!(
        kat.named().await,
        pairs(&[
            ("nmap", "IPAddressV4|internet|192.0.2.1"),
            ("nmap", "IPAddressV6|internet|2001:db8::1")
        ])
    );
}

#[tokio::test]
async fn a_report_goes_out_by_the_clock_with_its_organisation_and_recipe() {
    let mut kat = Kat::new().await;
    let off = "  enabled: false\n  recurrences: \"0 6 * * 1\"";
    assert!(
        CATALOGUE.contains(off),
        "expected the example to be switched off"
    );
    kat.apply(&CATALOGUE.replace(off, "  recurrences: \"0 6 * * 1\""))
        .await;
    kat.put(
        PROFILES,
        &[profile("create", "000000", "Network|internet", 0)],
    )
    .await;
    // Six o'clock in Amsterdam.
    kat.at("2026-03-09T04:59:59Z");
    assert_eq!(kat.named().await, pairs(&[]));
    kat.at("2026-03-09T05:00:02Z");
    let task = kat.one().await;
    assert_eq!(task["type"], "report");
    assert_eq!(
        task["data"],
        json!({ "organisation_id": "000000", "report_recipe_id": "6b1a7a0e-3a54-4c0f-9a35-2f0f6a1f2d11" })
    );
}

#[tokio::test]
async fn one_scan_serves_several_organisations_and_if_it_fails_they_run() {
    let mut kat = Kat::new().await;
    let of_three = ["acme", "bravo", "charlie"].map(|one| profile("create", one, WWW, 1));
    kat.put(PROFILES, &of_three).await;
    let task = kat.one().await;
    let key = task["data"]["deduplication_key"].as_str();
    assert!(key.is_some_and(|key| key.len() == 32 && !key.contains("acme")));
    assert_eq!(kat.states().await, ["dispatched", "waiting", "waiting"]);
    kat.say(&task, "running").await;
    kat.say(&task, "completed").await;
    assert_eq!(kat.states().await, ["succeeded"; 3]);
    // All three have been scanned, and are left alone for a day.
    let changed = ["acme", "bravo", "charlie"].map(|one| profile("update", one, WWW, 2));
    kat.put(PROFILES, &changed).await;
    assert_eq!(kat.named().await, pairs(&[]));
    // Where it fails for good the others run, each for itself.
    let other = "Hostname|internet|mail.example.com";
    let of_two = ["acme", "bravo"].map(|one| profile("create", one, other, 1));
    kat.put(PROFILES, &of_two).await;
    let mut task = kat.one().await;
    for _ in 0..3 {
        assert_eq!(task["organisation"], "acme");
        kat.say(&task, "failed").await;
        kat.later("2h");
        task = kat.one().await;
    }
    assert_eq!(task["organisation"], "bravo");
    assert_eq!(task["data"]["deduplication_key"], Value::Null);
    kat.say(&task, "completed").await;
    let mut states = vec!["dead"];
    states.extend(["succeeded"; 4]);
    assert_eq!(kat.states().await, states);
}

// --- What goes wrong there ------------------------------------------------------------------------------------------

#[tokio::test]
async fn fault_1_any_number_of_unreadable_messages_leaves_the_readable_ones_alone() {
    let mut kat = Kat::new().await;
    let mut bodies: Vec<String> = (0..150)
        .map(|at| format!("{{\"operation\":\"create\",\"at\":{at}"))
        .collect();
    bodies.insert(75, profile("create", "acme", WWW, 1));
    let handled = kat.put(PROFILES, &bodies).await;
    assert_eq!(handled.dead.len(), 150);
    assert_eq!(
        kat.ground
            .store
            .count_dead_letters()
            .await
            .expect("a count"),
        150
    );
    assert_eq!(kat.named().await, pairs(&[("dns-records", WWW)]));
}

#[tokio::test]
async fn fault_2_a_delete_without_a_value_withdraws_what_waits_and_starts_nothing() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let handled = kat.gone(WWW).await;
    assert_eq!(
        handled.dead.len(),
        0,
        "expected `value: null` to be readable"
    );
    assert_eq!(kat.named().await, pairs(&[]));
    assert_eq!(kat.states().await, ["withdrawn"]);
    kat.later("2d");
    kat.tasks().await;
    kat.later("6h");
    assert_eq!(
        kat.named().await,
        pairs(&[]),
        "expected what is gone not to come again"
    );
}

#[tokio::test]
async fn fault_3_a_cancelled_task_does_not_block_its_boefje_and_object() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    kat.say(&task, "cancelled").await;
    kat.profile("update", WWW, 2).await;
    let next = kat.one().await;
    assert_ne!(next["id"], task["id"]);
}

#[tokio::test]
async fn fault_3_a_task_that_nobody_takes_is_offered_again() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    kat.later("61m");
    let told = reaper::run_out_of_time(&kat.ground)
        .await
        .expect("looked at");
    assert_eq!(told.many, 1);
    assert!(told.cancels.is_empty(), "nobody has it");
    let again = kat.one().await;
    assert_eq!(
        again["id"], task["id"],
        "expected the same task a second time"
    );
}

#[tokio::test]
async fn fault_3_a_task_that_failed_for_good_lets_the_next_days_through() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let first = kat.one().await;
    kat.say(&first, "failed").await;
    for _ in 0..2 {
        kat.later("10m");
        let again = kat.one().await;
        assert_eq!(again["id"], first["id"], "expected it to be tried again");
        kat.say(&again, "failed").await;
    }
    assert_eq!(kat.states().await, ["dead"]);
    kat.later("25h");
    kat.tasks().await;
    kat.later("5h");
    assert_ne!(kat.one().await["id"], first["id"]);
}

#[tokio::test]
async fn fault_4_stuck_tasks_do_not_keep_the_others_from_coming_again() {
    let mut kat = Kat::new().await;
    let keys: Vec<String> = (0..650)
        .map(|at| format!("Hostname|internet|h{at}.example.com"))
        .collect();
    let bodies: Vec<String> = keys
        .iter()
        .map(|key| profile("create", "acme", key, 1))
        .collect();
    kat.put(PROFILES, &bodies).await;
    let tasks = kat.tasks().await;
    assert_eq!(tasks.len(), 650);
    let ends: Vec<String> = tasks
        .iter()
        .map(|task| {
            // The first 150 stay with a worker that is never heard of again.
            let key = task["data"]["input_ooi"].as_str().expect("an input");
            let stuck = keys[..150].iter().any(|stuck| stuck == key);
            json!({ "task_id": task["id"], "status": if stuck { "running" } else { "completed" } })
                .to_string()
        })
        .collect();
    kat.put("muster.status", &ends).await;
    kat.later("25h");
    kat.tasks().await;
    kat.later("5h");
    assert_eq!(
        kat.tasks().await.len(),
        500,
        "expected one look to find all that is due"
    );
}

#[tokio::test]
async fn fault_5_the_interval_of_a_boefje_decides_when_it_comes_again() {
    let mut kat = Kat::new().await;
    let address = "IPAddressV4|internet|192.0.2.1";
    kat.put(PROFILES, &[profile("create", "000000", address, 2)])
        .await;
    let task = kat.one().await;
    kat.say(&task, "completed").await;
    kat.later("71h");
    kat.tasks().await;
    assert_eq!(
        kat.states().await,
        ["succeeded"],
        "expected three days of rest"
    );
    kat.later("1h");
    kat.tasks().await;
    kat.later("5h");
    assert_eq!(kat.named().await, pairs(&[("nmap", address)]));
}

#[tokio::test]
async fn fault_6_an_object_whose_level_fell_and_rose_is_scanned_again() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    kat.say(&task, "completed").await;
    kat.profile("update", WWW, 0).await;
    kat.later("2d");
    kat.tasks().await;
    kat.later("6h");
    assert_eq!(
        kat.named().await,
        pairs(&[]),
        "expected level 0 not to be scanned"
    );
    kat.profile("update", WWW, 1).await;
    assert_eq!(kat.named().await, pairs(&[("dns-records", WWW)]));
}

#[tokio::test]
async fn fault_7_a_full_queue_holds_up_neither_events_nor_what_goes_out_and_empties() {
    const LIMIT: usize = 5;
    let mut kat = Kat::opened_with(Folder::new("kat"), |rules| {
        let boefje = rules.workers.get_mut("boefje").expect("boefjes");
        boefje.stored_limit = LIMIT as u64;
    })
    .await;
    kat.ground.store.migrate().await.expect("migrated");
    kat.at(Kat::START);
    kat.apply(CATALOGUE).await;
    let hosts: Vec<String> = (0..20)
        .map(|at| profile("create", "acme", &format!("Hostname|internet|h{at}"), 1))
        .collect();
    kat.put(PROFILES, &hosts).await;
    for task in kat.tasks().await {
        kat.say(&task, "completed").await;
    }
    // A boefje that becomes enabled runs on all twenty, and there is room for five.
    let late = json!({"plugin_id": "late", "worker_type": "boefje", "scan_level": 1, "consumes": ["Hostname"]});
    kat.ask(None, "plugin.apply", late).await;
    expansion::step(&kat.ground).await.expect("an expansion");
    let queued = |states: Vec<String>| states.iter().filter(|state| *state == "queued").count();
    assert_eq!(queued(kat.states().await), LIMIT, "the rest of it waits");
    // An event does not wait for room, and what is there goes out.
    let handled = kat.profile("create", WWW, 1).await;
    assert!(handled.tasks > 0, "{handled:?}");
    let mut late: Vec<(String, String)> = Vec::new();
    for _ in 0..6 {
        // They are spread over some hours.
        kat.later("5h");
        let tasks = kat.tasks().await;
        late.extend(
            names(&tasks)
                .into_iter()
                .filter(|(plugin, _)| plugin == "late"),
        );
    }
    late.sort();
    late.dedup();
    assert_eq!(late.len(), 21, "each object once");
}

#[tokio::test]
async fn fault_8_a_persons_request_goes_before_a_batch_for_several_organisations() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    kat.say(&task, "completed").await;
    let batch: Vec<String> = ["acme", "bravo", "charlie"]
        .iter()
        .flat_map(|organization| {
            (0..20).map(move |at| {
                profile(
                    "create",
                    organization,
                    // Each its own, as the same objects would be scanned once for all three.
                    &format!("Hostname|internet|{organization}{at}"),
                    1,
                )
            })
        })
        .collect();
    kat.put(PROFILES, &batch).await;
    let start = json!({"plugin": "dns-records", "objects": [WWW]});
    let started = kat.ask(Some("acme"), "run.start", start).await;
    assert_eq!(started["tasks"], 1, "a person does not wait for the grace");
    let tasks = kat.tasks().await;
    assert_eq!(tasks.len(), 61);
    assert_eq!(
        tasks[0]["data"]["input_ooi"], WWW,
        "the person's goes first"
    );
    assert_eq!(tasks[0]["organisation"], "acme");
}

#[tokio::test]
async fn fault_11_what_cannot_be_decided_for_an_error_is_neither_acknowledged_nor_lost() {
    let mut kat = Kat::new().await;
    let database = Database::at(&format!(
        "sqlite:{}",
        kat.folder.path().join("kat.db").display()
    ));
    let event = Incoming {
        intake: kat
            .ground
            .intakes
            .iter()
            .position(|rule| rule.queue == PROFILES)
            .expect("the intake"),
        queue: PROFILES.to_owned(),
        body: profile("create", "acme", WWW, 1).into_bytes(),
        ..Incoming::default()
    };
    // Whatever the decision asks, the answer is an error: the message is not settled as done.
    database
        .execute("ALTER TABLE open_input RENAME TO elsewhere")
        .await;
    let failed = handle(&kat.ground, std::slice::from_ref(&event)).await;
    let kept = match &failed {
        Err(_) => false,
        Ok(handled) => handled.dead.len() == 1,
    };
    assert!(
        failed.is_err() || kept,
        "it comes again or is kept with its bytes: {failed:?}"
    );
    assert_eq!(kat.states().await, Vec::<String>::new());
    database
        .execute("ALTER TABLE elsewhere RENAME TO open_input")
        .await;
    if kept {
        let all = json!({"all": true, "yes": true});
        let redriven = kat.ask(None, "dead_letter.redrive", all).await;
        assert_eq!(redriven["redriven"], 1);
    } else {
        // What was not settled the broker delivers again.
        handle(&kat.ground, &[event]).await.expect("handled");
    }
    assert_eq!(kat.named().await, pairs(&[("dns-records", WWW)]));
}

#[tokio::test]
async fn fault_9_each_file_of_a_run_is_read_and_a_file_told_twice_is_read_once() {
    let mut kat = Kat::new().await;
    let first = raw_file("f-1", RUN, &["boefje/dns-records"]);
    kat.put(
        FILES,
        &[first.clone(), raw_file("f-2", RUN, &["boefje/dns-records"])],
    )
    .await;
    assert_eq!(
        kat.named().await,
        pairs(&[("kat_dns_normalize", "f-1"), ("kat_dns_normalize", "f-2")])
    );
    let handled = kat.put(FILES, &[first]).await;
    assert_eq!(handled.duplicates, 1);
    assert_eq!(kat.named().await, pairs(&[]));
}

#[tokio::test]
async fn fault_10_a_lowered_level_withdraws_what_waits() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    kat.profile("update", WWW, 0).await;
    assert_eq!(kat.named().await, pairs(&[]));
    assert_eq!(kat.states().await, ["withdrawn"]);
}

#[tokio::test]
async fn fault_12_a_restart_examines_nothing_again() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    assert_eq!(kat.tasks().await.len(), 1);
    let mut kat = kat.restarted().await;
    assert_eq!(kat.named().await, pairs(&[]));
    assert_eq!(kat.states().await, ["dispatched"]);
}

#[tokio::test]
async fn fault_13_what_comes_in_its_order_ends_in_its_order() {
    let mut kat = Kat::new().await;
    let story = [
        profile("create", "acme", WWW, 1),
        deleted("acme", WWW),
        profile("create", "acme", WWW, 2),
        deleted("acme", WWW),
        profile("create", "acme", WWW, 1),
    ];
    kat.put(PROFILES, &story).await;
    assert_eq!(
        kat.named().await,
        pairs(&[("dns-records", WWW)]),
        "expected the last word to count"
    );
    assert_eq!(kat.states().await, ["dispatched", "withdrawn", "withdrawn"]);
}

#[tokio::test]
async fn fault_14_grace_counts_from_the_end_and_nothing_follows_an_end() {
    let mut kat = Kat::new().await;
    kat.profile("create", WWW, 1).await;
    let task = kat.one().await;
    kat.say(&task, "running").await;
    kat.later("20h");
    kat.say(&task, "completed").await;
    for status in ["running", "failed", "cancelled", "dispatched"] {
        kat.say(&task, status).await;
        assert_eq!(
            kat.states().await,
            ["succeeded"],
            "expected `{status}` to come too late"
        );
    }
    // 30 hours after its dispatch, and ten after its end.
    kat.later("10h");
    kat.tasks().await;
    kat.later("5h");
    assert_eq!(kat.named().await, pairs(&[]));
    assert_eq!(kat.states().await, ["succeeded"]);
}

// --- On OpenKAT's own broker ----------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_openkats_own_queues_on_rabbitmq_and_postgresql_the_same_tasks_come_out() {
    let (rabbit, postgres) = (Rabbit::start(), Postgres::start());
    let house = House::new(&postgres.url(), &rabbit.url(), "");
    let toml = SETTINGS
        .replace("postgres://muster@localhost/muster", &postgres.url())
        .replace("amqp://localhost:5672/kat", &rabbit.url());
    assert!(toml.contains(&postgres.url()) && toml.contains(&rabbit.url()));
    house.write("muster.toml", toml.as_bytes());
    house.apply("openkat.yaml", CATALOGUE);

    // Octopoes and Bytes were there first, and declared their queues as they do.
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default())
        .await
        .expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    for queue in [PROFILES, FILES] {
        let declared = channel
            .queue_declare(queue.into(), durable, FieldTable::default())
            .await;
        declared.expect("declared");
    }
    let send = async |queue: &str, body: &str| {
        let sent = channel.basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default(),
        );
        sent.await.expect("sent");
    };
    send(PROFILES, &profile("create", "acme", WWW, 2)).await;
    send(PROFILES, "no mutation at all").await;
    send(
        PROFILES,
        &profile("create", "acme", "Hostname|internet|mail.example.com", 0),
    )
    .await;
    send(
        PROFILES,
        &profile("create", "000000", "IPAddressV4|internet|192.0.2.1", 2),
    )
    .await;
    send(
        FILES,
        &raw_file(
            "2a6c9c0e-6f4d-4b39-9d0c-5d1c0f6b8a01",
            RUN,
            &["boefje/dns-records"],
        ),
    )
    .await;

    let service = house.service();
    let database = house.database().await;
    until("three tasks", async || {
        (database.tasks().await? == 3).then_some(())
    })
    .await;
    until("all are published", async || {
        (database.unpublished().await? == 0).then_some(())
    })
    .await;
    until("the dead letter", async || {
        (database.dead_letters().await? == 1).then_some(())
    })
    .await;
    let worker = OnRabbit::connect(&rabbit.url()).await;
    let mut tasks: Vec<Value> = Vec::new();
    for worker_type in ["boefje", "normalizer"] {
        tasks.extend(
            worker
                .tasks(worker_type)
                .await
                .into_iter()
                .map(|message| message.body),
        );
    }
    assert_eq!(
        names(&tasks),
        pairs(&[
            ("dns-records", WWW),
            ("kat_dns_normalize", "2a6c9c0e-6f4d-4b39-9d0c-5d1c0f6b8a01"),
            ("nmap", "IPAddressV4|internet|192.0.2.1"),
        ])
    );

    // Its runners' words end them; then a delete with nothing but a key is understood too.
    for task in &tasks {
        worker
            .report(&json!({ "task_id": task["id"], "status": "completed" }))
            .await;
    }
    let ended = "SELECT count(*) FROM task WHERE state = 'succeeded'";
    until("all have ended", async || {
        (database.count(ended).await? == 3).then_some(())
    })
    .await;
    send(PROFILES, &deleted("acme", WWW)).await;
    let live =
        "SELECT count(*) FROM object WHERE live = 1 AND primary_key LIKE 'Hostname|internet|www%'";
    until("the object is gone", async || {
        (database.count(live).await? == 0).then_some(())
    })
    .await;
    assert_eq!(
        database.tasks().await,
        Some(3),
        "expected a delete to start nothing"
    );
    service.stop().await;
}
