//! Runs, the clock, overlap, requests: the same on SQLite and on PostgreSQL, by the steps of the loops on a fixed clock.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use muster::answer::answer;
use muster::catalogue::Catalogue;
use muster::declaration::{Variables, read_file};
use muster::ground::{Ground, IntakeRule};
use muster::intake::{Incoming, handle};
use muster::moment::{Moment, Span};
use muster::policy::{Format, Order, WorkerSettings};
use muster::progress::Taken;
use muster::rules::Rules;
use muster::run::RunState;
use muster::store::{Applied, Edit, Older, Reported, RunFilter, RunRecord, Store};
use muster::task::TaskState;
use muster::wire::Requested;
use muster::{chains, expansion, ticker, turns};
use serde_json::{Value, json};
use support::servers::Postgres;
use tokio_util::sync::CancellationToken;

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

#[path = "runs/chained.rs"]
mod chained;
#[path = "runs/joined.rs"]
mod joined;
#[path = "runs/waiting.rs"]
mod waiting;

on_both!(
    an_occurrence_is_a_run_with_its_conditions_counters_and_revision,
    skip_on_a_target_stores_the_suppressed_run_with_its_blocker,
    skip_without_a_target_suppresses_a_run_whose_candidates_all_still_run,
    buffer_one_keeps_one_pending_run_that_begins_when_its_blocker_ends,
    replace_cancels_its_blocker_and_begins_then,
    a_manual_request_takes_the_pending_place_and_never_the_other_way,
    two_replicas_never_let_two_runs_into_one_scope,
    what_was_missed_is_one_row_for_each_gap_and_reason,
    all_that_was_missed_runs_one_after_another_oldest_first_without_grace,
    while_paused_the_cursor_moves_and_one_row_grows,
    a_cursor_ahead_of_a_clock_that_was_set_back_is_set_to_now_and_nothing_runs_twice,
    a_new_schedule_never_fires_for_the_past,
    ends_that_can_start_no_grace_are_not_kept,
    a_manual_request_passes_grace_and_never_again_but_no_gate,
    a_manual_request_adopts_a_queued_duplicate_and_learns_who_runs,
    the_same_request_id_starts_once_and_gets_the_same_answer,
    a_request_sees_only_its_organization,
    a_missing_target_is_a_failed_run,
    a_backfill_lists_its_instants_and_runs_what_has_not_succeeded,
    no_task_and_no_waiting_run_outlives_its_clock,
    history_goes_by_age_and_by_number_with_tasks_and_attempts,
    a_target_shows_pointers_that_are_derived_from_its_runs,
    a_plugin_that_becomes_enabled_runs_on_all_that_is_there,
    a_command_that_is_unknown_or_wrong_is_refused_with_what_would_be_right,
);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn on_sqlite<F: Future<Output = ()>>(name: &str, contract: impl Fn(House) -> F) {
    let folder = std::env::temp_dir().join(format!("muster-runs-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let url = format!("sqlite:{}", folder.join("store.db").display());
    runtime().block_on(async { contract(House::open(&url).await).await });
    let _ = std::fs::remove_dir_all(&folder);
}

/// One server for all who need it at the same time; it goes with the last of them.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

fn on_postgres<F: Future<Output = ()>>(name: &str, contract: impl Fn(House) -> F) {
    let server = {
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::start());
            *shared = Arc::downgrade(&server);
            server
        })
    };
    let database: String = name.chars().take(60).collect();
    server.create_database(&database);
    let url = server.url_of(&database);
    runtime().block_on(async { contract(House::open(&url).await).await });
}

fn moment(text: &str) -> Moment {
    Moment::parse(text).expect("an instant")
}

fn rules() -> Arc<Rules> {
    let mut boefje = WorkerSettings::for_type("boefje");
    boefje.run_on_enable = true;
    Arc::new(Rules {
        workers: BTreeMap::from([("boefje".to_owned(), boefje)]),
        open_organizations: true,
        ..Rules::default()
    })
}

/// One replica over a store.
fn replica(store: &Store, seed: u64, now: Moment) -> Ground {
    let intakes = vec![IntakeRule {
        queue: "muster.events".to_owned(),
        order: Order::Time,
        format: Format::CloudEvents,
    }];
    let ground = Ground::new(
        store.clone(),
        rules(),
        intakes,
        seed,
        CancellationToken::new(),
    );
    ground.clock.fix(now);
    ground
}

struct House {
    ground: Ground,
    url: String,
}

const PLUGINS: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: feed, worker_type: reader}
- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname]}
"#;

impl House {
    async fn open(url: &str) -> House {
        let store = Store::open(url).await.expect("the address is right");
        store.migrate().await.expect("the schema is made");
        let house = House {
            ground: replica(&store, 7, moment("2026-11-21T09:30:00Z")),
            url: url.to_owned(),
        };
        house.declare(PLUGINS).await;
        house
    }

    async fn declare(&self, text: &str) {
        let (declared, complaints) = read_file(
            "test.yaml",
            text.as_bytes(),
            &Variables::default(),
            &self.ground.rules,
        );
        assert!(complaints.is_empty(), "{complaints:?}");
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
        let revision = self.ground.store.catalogue_revision().await.expect("one");
        let applied = self
            .ground
            .store
            .apply(&edits, revision, self.ground.clock.now())
            .await
            .expect("applied");
        assert_eq!(applied, Applied::Revision(revision + 1));
        self.ground.load_catalogue().await.expect("loaded");
    }

    fn clock(&self, text: &str) {
        self.ground.clock.fix(moment(text));
    }

    /// The clock goes there, and everything that is due is done.
    async fn at(&self, text: &str) {
        self.clock(text);
        self.tick().await;
    }

    async fn tick(&self) {
        ticker::step(&self.ground).await.expect("ticked");
        turns::step(&self.ground).await.expect("turned");
        expansion::step(&self.ground).await.expect("expanded");
        chains::step(&self.ground).await.expect("told");
    }

    async fn host(&self, organization: &str, key: &str) {
        let event = json!({
            "specversion": "1.0", "id": format!("{organization}-{key}-{}", self.ground.chance()), "source": "/t",
            "type": "object.created", "time": self.ground.clock.now().to_string(),
            "data": {"organization": organization, "object_type": "hostname", "primary_key": key,
                     "attributes": {"name": key}, "scan_level": 2},
        });
        let incoming = Incoming {
            queue: "muster.events".to_owned(),
            routing_key: "object.created".to_owned(),
            body: event.to_string().into_bytes(),
            ..Incoming::default()
        };
        let handled = handle(&self.ground, &[incoming]).await.expect("handled");
        assert!(handled.dead.is_empty(), "{:?}", handled.dead);
    }

    /// The runs in the order of their making.
    async fn runs(&self) -> Vec<RunRecord> {
        let filter = RunFilter {
            limit: 10_000,
            ..RunFilter::default()
        };
        let mut runs = self.ground.store.runs(&filter).await.expect("runs");
        runs.reverse();
        runs
    }

    /// State and reason of each.
    async fn states(&self) -> Vec<(&'static str, String)> {
        let runs = self.runs().await;
        runs.into_iter()
            .map(|run| (run.state.word(), run.reason.unwrap_or_default()))
            .collect()
    }

    /// Open tasks with their runs.
    async fn open_tasks(&self) -> Vec<(String, String)> {
        let page = muster::store::Page {
            limit: 10_000,
            ..Default::default()
        };
        let listed = self.ground.store.list("task", &page).await;
        let rows = listed.expect("tasks").expect("a noun").rows;
        rows.iter()
            .filter(|row| {
                ["queued", "dispatched", "running"].contains(&row["state"].as_str().unwrap_or(""))
            })
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap_or("").to_owned();
                (text("id"), text("state"))
            })
            .collect()
    }

    /// A worker takes what waits and says this of it.
    async fn work(&self, state: TaskState) -> usize {
        let now = self.ground.clock.now();
        let queue = self.ground.rules.worker("reader").queue.clone();
        let lease = now.plus(Span::seconds(30));
        let claimed = self.ground.store.claim(&queue, 1000, now, lease).await;
        let claimed = claimed.expect("claimed");
        for task in &claimed {
            self.say(&task.task_id, state).await;
        }
        claimed.len()
    }

    async fn say(&self, task: &str, state: TaskState) {
        let now = self.ground.clock.now();
        let standings = self
            .ground
            .store
            .standings(&[task])
            .await
            .expect("standings");
        let known = standings.get(task).expect("the task is known");
        let standing = known.standing.clone();
        let outcome = state.terminal().then_some("succeeded");
        let reported = Reported {
            task_id: task.to_owned(),
            worker: Some("w1".to_owned()),
            at: Some(now),
            standing,
            step: Taken {
                state: Some(state),
                accepted: true,
                outcome,
                suppress: (state == TaskState::Withdrawn).then(|| (None, "never".to_owned())),
                ..Taken::default()
            },
        };
        let written = self.ground.store.apply_steps(&[reported], &[], now).await;
        assert_eq!(written.expect("applied").stale, Vec::<String>::new());
    }

    async fn succeed(&self) -> usize {
        self.work(TaskState::Succeeded).await
    }

    async fn accept(&self) -> usize {
        self.work(TaskState::Running).await
    }

    async fn ask(&self, command: &str, args: Value) -> Result<Value, String> {
        self.ask_as(None, None, command, args).await
    }

    async fn ask_as(
        &self,
        id: Option<&str>,
        organization: Option<&str>,
        command: &str,
        args: Value,
    ) -> Result<Value, String> {
        // People come a moment after the clock, so that ids tell the order.
        let now = self.ground.clock.now();
        self.ground.clock.fix(now.plus(Span::seconds(1)));
        let requested = Requested {
            id: id.map(str::to_owned),
            command: command.to_owned(),
            organization: organization.map(str::to_owned),
            args: args.as_object().cloned().unwrap_or_default(),
        };
        let said = answer(&self.ground, &requested, "tester").await;
        said.expect("the store answers")
            .map_err(|refused| refused.code)
    }
}

/// A schedule on one host name, each hour.
fn on_target(more: &str) -> String {
    format!(
        "- {{name: scan, organization: acme, recurrences: hourly, target: h1, plugins: \"plugin_id = 'dns'\"{more}}}"
    )
}

async fn an_occurrence_is_a_run_with_its_conditions_counters_and_revision(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    let run = house.runs().await.remove(0);
    assert_eq!(
        (run.cause.as_str(), run.state),
        ("on_time", RunState::Running)
    );
    assert_eq!(run.scheduled_for, moment("2026-11-21T10:00:00Z"));
    assert_eq!(run.schedule_revision, 1);
    assert_eq!(run.counts, [1, 0, 0, 0]);
    let begun = run.started_at;
    assert!(begun.is_some() && run.finished_at.is_none());
    house.clock("2026-11-21T10:05:00Z");
    assert_eq!(house.succeed().await, 1);
    let told = house
        .ask("run.get", json!({"run_id": run.id}))
        .await
        .expect("the run");
    assert_eq!(told["state"], "succeeded");
    assert_eq!(told["started_at"], begun.expect("it began").to_string());
    assert_eq!(told["finished_at"], "2026-11-21T10:05:00Z");
    assert_eq!(told["counters"]["done"], 1);
    let name = told["run_name"].as_str().expect("a name");
    assert!(name.starts_with("feeds-") && name.len() == "feeds-".len() + 8);
    let conditions: Vec<(&str, bool, &str)> = told["conditions"]
        .as_array()
        .expect("conditions")
        .iter()
        .map(|condition| {
            assert_eq!(condition["observed_revision"], 1);
            (
                condition["type"].as_str().unwrap_or(""),
                condition["status"].as_bool().unwrap_or(false),
                condition["reason"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        conditions,
        [
            ("accepted", true, "accepted"),
            ("progressing", false, "finished"),
            ("complete", true, "succeeded"),
            ("failed", false, "no_failure"),
        ]
    );
}

async fn skip_on_a_target_stores_the_suppressed_run_with_its_blocker(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house.at("2026-11-21T10:00:01Z").await;
    house.at("2026-11-21T11:00:01Z").await;
    let runs = house.runs().await;
    assert_eq!(runs[1].state, RunState::Skipped);
    assert_eq!(runs[1].reason.as_deref(), Some("overlap"));
    assert_eq!(runs[1].blocked_by.as_ref(), Some(&runs[0].id));
    assert_eq!(house.open_tasks().await.len(), 1);
    house.succeed().await;
    house.at("2026-11-21T12:00:01Z").await;
    assert_eq!(house.runs().await[2].state, RunState::Running);
}

async fn skip_without_a_target_suppresses_a_run_whose_candidates_all_still_run(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.at("2026-11-21T11:00:01Z").await;
    let runs = house.runs().await;
    assert_eq!(runs[1].reason.as_deref(), Some("overlap"));
    assert_eq!(runs[1].blocked_by.as_ref(), Some(&runs[0].id));
    assert_eq!(runs[1].refused["duplicate"], 1);
    // By input too, and then it is each candidate for itself.
    house.host("acme", "h1").await;
    house
        .declare("- {name: all, recurrences: hourly, plugins: \"plugin_id = 'dns'\", input: {hostname: null}}")
        .await;
    house.at("2026-11-21T12:00:01Z").await;
    house.host("acme", "h2").await;
    house.at("2026-11-21T13:00:01Z").await;
    let runs = house.runs().await;
    let all: Vec<&RunRecord> = runs.iter().filter(|run| run.schedule == "all").collect();
    assert_eq!(all[1].counts[0], 1, "h2 alone");
    assert_eq!(all[1].refused["duplicate"], 1);
}

async fn buffer_one_keeps_one_pending_run_that_begins_when_its_blocker_ends(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target(", overlap: buffer_one")).await;
    for hour in ["10", "11", "12"] {
        house.at(&format!("2026-11-21T{hour}:00:01Z")).await;
    }
    let runs = house.runs().await;
    let states = house.states().await;
    assert_eq!(
        states,
        [
            ("running", String::new()),
            ("pending", String::new()),
            ("skipped", "overlap".to_owned())
        ]
    );
    assert_eq!(runs[1].blocked_by.as_ref(), Some(&runs[0].id));
    assert_eq!(runs[1].started_at, None);
    assert_eq!(house.open_tasks().await.len(), 1, "what waits has no tasks");
    house.succeed().await;
    house.tick().await;
    let runs = house.runs().await;
    assert_eq!(runs[0].state, RunState::Succeeded);
    assert_eq!(runs[1].state, RunState::Running);
    assert_eq!(runs[1].started_at, Some(moment("2026-11-21T12:00:01Z")));
    assert_eq!(house.succeed().await, 1);
    assert_eq!(house.runs().await[1].state, RunState::Succeeded);
}

async fn replace_cancels_its_blocker_and_begins_then(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target(", overlap: replace")).await;
    house.at("2026-11-21T10:00:01Z").await;
    // Nobody has it yet: it ends at once, and the newer one begins.
    house.at("2026-11-21T11:00:01Z").await;
    let runs = house.runs().await;
    assert_eq!(
        (runs[0].state, runs[0].reason.as_deref()),
        (RunState::Cancelled, Some("replaced"))
    );
    assert_eq!(runs[0].blocked_by.as_ref(), Some(&runs[1].id));
    assert_eq!(runs[1].state, RunState::Running);
    // A worker has it: it is told, and the newer one waits until it has stopped or its time is over.
    assert_eq!(house.accept().await, 1);
    house.at("2026-11-21T12:00:01Z").await;
    assert_eq!(house.runs().await[2].state, RunState::Pending);
    let now = house.ground.clock.now();
    let told = house.ground.store.cancels(now, 100).await.expect("cancels");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].worker.as_deref(), Some("w1"));
    assert!(
        house
            .ground
            .store
            .cancels(now, 100)
            .await
            .expect("cancels")
            .is_empty(),
        "told once"
    );
    house.tick().await;
    assert_eq!(house.runs().await[2].state, RunState::Pending);
    house.clock("2026-11-21T12:02:00Z");
    let now = house.ground.clock.now();
    house.ground.store.cancels(now, 100).await.expect("cancels");
    house.tick().await;
    let runs = house.runs().await;
    assert_eq!(runs[1].state, RunState::Cancelled);
    assert_eq!(runs[2].state, RunState::Running);
}

async fn a_manual_request_takes_the_pending_place_and_never_the_other_way(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target(", overlap: buffer_one")).await;
    house.at("2026-11-21T10:00:01Z").await;
    house.at("2026-11-21T11:00:01Z").await;
    let first = house
        .ask("run.start", json!({"schedule": "scan"}))
        .await
        .expect("a run");
    assert_eq!(first["state"], "pending");
    let runs = house.runs().await;
    assert_eq!(
        (runs[1].state, runs[1].reason.as_deref()),
        (RunState::Skipped, Some("superseded"))
    );
    assert_eq!(runs[1].blocked_by.as_deref(), first["run_id"].as_str());
    // The clock does not take it back.
    house.at("2026-11-21T12:00:01Z").await;
    let runs = house.runs().await;
    assert_eq!(
        (runs[3].state, runs[3].reason.as_deref()),
        (RunState::Skipped, Some("overlap"))
    );
    assert_eq!(runs[3].blocked_by.as_deref(), first["run_id"].as_str());
    // A newer request takes it from an older one, and runs when the running one has ended.
    let second = house
        .ask("run.start", json!({"schedule": "scan"}))
        .await
        .expect("a run");
    let runs = house.runs().await;
    assert_eq!(
        (runs[2].state, runs[2].reason.as_deref()),
        (RunState::Skipped, Some("superseded"))
    );
    assert_eq!(runs[0].state, RunState::Running, "never a running one");
    house.succeed().await;
    house.tick().await;
    let told = house
        .ask("run.get", json!({"run_id": second["run_id"]}))
        .await
        .expect("it");
    assert_eq!(told["state"], "running");
    // Where the schedule says so, it does not.
    house
        .declare(&on_target(", overlap: buffer_one, manual_supersedes: none"))
        .await;
    let waits = house
        .ask("run.start", json!({"schedule": "scan"}))
        .await
        .expect("a run");
    let late = house
        .ask("run.start", json!({"schedule": "scan"}))
        .await
        .expect("a run");
    assert_eq!(
        (&late["state"], &late["reason"]),
        (&json!("skipped"), &json!("overlap"))
    );
    assert_eq!(late["blocked_by"], waits["run_id"]);
}

async fn two_replicas_never_let_two_runs_into_one_scope(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    let now = house.ground.clock.now();
    let others: Vec<Ground> = (0..4)
        .map(|seed| replica(&house.ground.store, 100 + seed, now))
        .collect();
    let asks = others.iter().enumerate().map(|(at, ground)| async move {
        let requested = Requested {
            id: Some(format!("r-{at}")),
            command: "run.start".to_owned(),
            args: json!({"schedule": "scan"})
                .as_object()
                .cloned()
                .unwrap_or_default(),
            ..Requested::default()
        };
        answer(ground, &requested, "tester")
            .await
            .expect("an answer")
            .expect("a run")
    });
    let answers = futures::future::join_all(asks).await;
    let running: Vec<&Value> = answers.iter().filter(|a| a["state"] == "running").collect();
    assert_eq!(running.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|a| a["state"] != "running") {
        assert_eq!(answer["state"], "skipped");
        assert_eq!(answer["blocked_by"], running[0]["run_id"]);
    }
    assert_eq!(house.open_tasks().await.len(), 1);
}

async fn what_was_missed_is_one_row_for_each_gap_and_reason(house: House) {
    let schedule = |name: &str, more: &str| {
        format!(
            "- {{name: {name}, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {{}}, overlap: allow{more}}}\n"
        )
    };
    house
        .declare(
            &[
                schedule("latest", ""),
                schedule("skips", ", missed: skip"),
                schedule("some", ", missed: all, catchup_max: 3, catchup_window: 10h"),
            ]
            .concat(),
        )
        .await;
    // 10:00 to 09:00 the next day are late: 24 instants.
    house.clock("2026-11-22T09:30:00Z");
    ticker::step(&house.ground).await.expect("ticked");
    let runs = house.runs().await;
    let told = |name: &str| -> Vec<(String, String, i64)> {
        let mut told: Vec<(String, String, i64)> = runs
            .iter()
            .filter(|run| run.schedule == name)
            .map(|run| {
                let count = run.gap.map_or(1, |(.., count)| count);
                let why = run.reason.clone().unwrap_or_else(|| run.cause.clone());
                (run.state.word().to_owned(), why, count)
            })
            .collect();
        told.sort();
        told
    };
    let row = |state: &str, why: &str, count| (state.to_owned(), why.to_owned(), count);
    assert_eq!(
        told("latest"),
        [
            row("missed", "missed_latest", 23),
            row("running", "catch_up", 1)
        ]
    );
    assert_eq!(told("skips"), [row("missed", "missed_skip", 24)]);
    assert_eq!(
        told("some"),
        [
            row("missed", "beyond_catchup_max", 7),
            row("missed", "outside_catchup_window", 14),
            row("pending", "catch_up", 1),
            row("pending", "catch_up", 1),
            row("pending", "catch_up", 1),
        ]
    );
    let gap = runs
        .iter()
        .find(|run| run.schedule == "skips")
        .and_then(|run| run.gap);
    assert_eq!(
        gap,
        Some((
            moment("2026-11-21T10:00:00Z"),
            moment("2026-11-22T09:00:00Z"),
            24
        ))
    );
    ticker::step(&house.ground).await.expect("ticked");
    assert_eq!(house.runs().await.len(), runs.len(), "decided once");
}

async fn all_that_was_missed_runs_one_after_another_oldest_first_without_grace(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}, missed: all, grace: 1d}")
        .await;
    house.at("2026-11-21T12:30:00Z").await;
    for done in 0..3 {
        let runs = house.runs().await;
        let states: Vec<&str> = runs.iter().map(|run| run.state.word()).collect();
        let mut expected = vec!["succeeded"; done];
        expected.push("running");
        expected.resize(3, "pending");
        assert_eq!(states, expected);
        assert!(
            runs.windows(2)
                .all(|pair| pair[0].scheduled_for < pair[1].scheduled_for)
        );
        assert_eq!(house.succeed().await, 1);
        house.tick().await;
    }
    assert!(
        house
            .states()
            .await
            .iter()
            .all(|(state, _)| *state == "succeeded")
    );
    // The clock itself keeps to the grace.
    house.at("2026-11-21T13:00:01Z").await;
    assert_eq!(house.runs().await[3].refused["in_grace"], 1);
}

async fn while_paused_the_cursor_moves_and_one_row_grows(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}")
        .await;
    let paused = house
        .ask(
            "schedule.pause",
            json!({"schedule": "feeds", "reason": "the feed is down"}),
        )
        .await
        .expect("paused");
    assert_eq!(paused["paused"]["who"], "tester");
    for hour in ["10", "11", "12"] {
        house.at(&format!("2026-11-21T{hour}:00:01Z")).await;
    }
    let runs = house.runs().await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].state, runs[0].reason.as_deref()),
        (RunState::Skipped, Some("paused"))
    );
    let gap = (
        moment("2026-11-21T10:00:00Z"),
        moment("2026-11-21T12:00:00Z"),
        3,
    );
    assert_eq!(runs[0].gap, Some(gap));
    // A person may still start it.
    let manual = house
        .ask("run.start", json!({"schedule": "feeds"}))
        .await
        .expect("a run");
    assert_eq!(manual["state"], "running");
    house.succeed().await;
    house.clock("2026-11-21T13:30:00Z");
    house
        .ask("schedule.resume", json!({"schedule": "feeds"}))
        .await
        .expect("resumed");
    house.at("2026-11-21T14:00:01Z").await;
    let runs = house.runs().await;
    assert_eq!(
        runs[0].gap.map(|(.., count)| count),
        Some(4),
        "13:00 was in the pause"
    );
    assert_eq!(runs.last().map(|run| run.cause.as_str()), Some("on_time"));
}

async fn a_cursor_ahead_of_a_clock_that_was_set_back_is_set_to_now_and_nothing_runs_twice(
    house: House,
) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}, overlap: allow}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.at("2026-11-21T11:00:01Z").await;
    house.at("2026-11-21T10:30:00Z").await;
    let runs = house.runs().await;
    let note = runs
        .iter()
        .find(|run| run.reason.as_deref() == Some("clock_set_back"))
        .expect("a row");
    assert_eq!(
        note.gap,
        Some((
            moment("2026-11-21T10:30:00Z"),
            moment("2026-11-21T11:00:00Z"),
            0
        ))
    );
    house.at("2026-11-21T11:00:02Z").await;
    house.at("2026-11-21T12:00:01Z").await;
    let mut instants: Vec<String> = house
        .runs()
        .await
        .iter()
        .filter(|run| run.gap.is_none())
        .map(|run| run.scheduled_for.to_string())
        .collect();
    instants.sort();
    assert_eq!(
        instants,
        [
            "2026-11-21T10:00:00Z",
            "2026-11-21T11:00:00Z",
            "2026-11-21T12:00:00Z"
        ]
    );
    assert_eq!(house.open_tasks().await.len(), 3, "and no task twice");
}

async fn a_new_schedule_never_fires_for_the_past(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}, missed: all, starts_at: \"2026-01-01T00:00:00Z\"}")
        .await;
    house.tick().await;
    assert_eq!(house.runs().await, []);
}

async fn ends_that_can_start_no_grace_are_not_kept(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}, overlap: allow}")
        .await;
    let kept = async || {
        let slot = muster::object::ObjectKey {
            organization: "acme".to_owned(),
            primary_key: String::new(),
        };
        let wanted = muster::store::Wanted {
            keys: [slot].into(),
            ..Default::default()
        };
        house
            .ground
            .store
            .gather(&wanted)
            .await
            .expect("what is known")
            .world
            .ended
            .len()
    };
    for hour in 10..13 {
        house.at(&format!("2026-11-21T{hour}:00:01Z")).await;
        house.succeed().await;
    }
    assert_eq!(kept().await, 0, "no two of its runs have a key in common");
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}")
        .await;
    house.at("2026-11-21T13:00:01Z").await;
    house.succeed().await;
    assert_eq!(kept().await, 1);
}

async fn a_manual_request_passes_grace_and_never_again_but_no_gate(house: House) {
    house.host("acme", "h1").await;
    house
        .declare(&on_target(", grace: 1d, overlap: allow"))
        .await;
    house
        .declare("- {kind: plugin, plugin_id: strict, worker_type: reader, scan_level: 4, consumes: [hostname]}")
        .await;
    // What a worker never wants again.
    let start = json!({"plugin": "dns", "objects": ["h1"]});
    house.ask("run.start", start.clone()).await.expect("a run");
    house.work(TaskState::Withdrawn).await;
    let again = house.ask("run.start", start.clone()).await.expect("a run");
    assert_eq!(
        (&again["state"], &again["tasks"]),
        (&json!("running"), &json!(1))
    );
    house.succeed().await;
    // The grace.
    let again = house.ask("run.start", start).await.expect("a run");
    assert_eq!(again["state"], "running");
    house.succeed().await;
    // A gate.
    let refused = house
        .ask("run.start", json!({"plugin": "strict", "objects": ["h1"]}))
        .await
        .expect("a run");
    assert_eq!(
        (&refused["tasks"], &refused["refused"]["level_too_low"]),
        (&json!(0), &json!(1))
    );
    let nothing = house.ask("run.start", json!({"plugin": "dns"})).await;
    assert_eq!(nothing, Err("objects_needed".to_owned()));
}

async fn a_manual_request_adopts_a_queued_duplicate_and_learns_who_runs(house: House) {
    house.host("acme", "h1").await;
    house
        .declare("- {name: all, recurrences: hourly, plugins: \"plugin_id = 'dns'\", input: {hostname: null}}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    let tasks = house.open_tasks().await;
    let start = json!({"plugin": "dns", "objects": ["h1"]});
    let adopted = house.ask("run.start", start.clone()).await.expect("a run");
    assert_eq!(
        (&adopted["state"], &adopted["tasks"]),
        (&json!("running"), &json!(1))
    );
    assert_eq!(house.open_tasks().await, tasks, "the same task");
    let runs = house.runs().await;
    assert_eq!(
        (runs[0].state, runs[0].reason.as_deref()),
        (RunState::Skipped, Some("superseded"))
    );
    assert_eq!(runs[0].blocked_by.as_deref(), adopted["run_id"].as_str());
    let page = muster::store::Page {
        limit: 10,
        ..Default::default()
    };
    let listed = house
        .ground
        .store
        .list("task", &page)
        .await
        .expect("tasks")
        .expect("a noun");
    assert_eq!(
        (&listed.rows[0]["cause"], &listed.rows[0]["priority"]),
        (&json!("manual"), &json!(1))
    );
    // Once a worker has it, who asks learns by whom it is blocked.
    house.accept().await;
    let blocked = house.ask("run.start", start).await.expect("a run");
    assert_eq!(
        (&blocked["state"], &blocked["reason"]),
        (&json!("skipped"), &json!("overlap"))
    );
    assert_eq!(blocked["blocked_by"], adopted["run_id"]);
}

async fn the_same_request_id_starts_once_and_gets_the_same_answer(house: House) {
    house
        .declare("- {name: feeds, recurrences: daily, plugins: \"plugin_id = 'feed'\", input: {}, overlap: allow}")
        .await;
    let start = json!({"schedule": "feeds"});
    let first = house
        .ask_as(Some("r-1"), None, "run.start", start.clone())
        .await;
    assert!(first.is_ok(), "{first:?}");
    house.succeed().await;
    let again = house
        .ask_as(Some("r-1"), None, "run.start", start.clone())
        .await;
    assert_eq!(
        first, again,
        "the same answer, also after its run has ended"
    );
    assert_eq!(house.runs().await.len(), 1);
    // Longer than answers are kept, the run itself remembers.
    let now = moment("2026-12-20T00:00:00Z");
    house.ground.clock.fix(now);
    house
        .ground
        .store
        .forget(&Older::default(), now, 100)
        .await
        .expect("forgotten");
    let late = house
        .ask_as(Some("r-1"), None, "run.start", start.clone())
        .await
        .expect("it");
    assert_eq!(late["state"], "succeeded");
    assert_eq!(house.runs().await.len(), 1);
    let other = house
        .ask_as(Some("r-2"), None, "run.start", start)
        .await
        .expect("a run");
    assert_eq!(other["state"], "running");
}

async fn a_request_sees_only_its_organization(house: House) {
    house.declare("- {kind: organization, id: other}").await;
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}\n- {name: theirs, organization: other, recurrences: daily, plugins: \"True\", input: {}}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    let all = house.ask("run.list", json!({})).await.expect("runs");
    assert_eq!(all["runs"].as_array().map(Vec::len), Some(2));
    let ours = house
        .ask_as(None, Some("acme"), "run.list", json!({}))
        .await
        .expect("runs");
    let ours = ours["runs"].as_array().expect("a list").clone();
    assert_eq!(ours.len(), 1);
    let theirs = all["runs"]
        .as_array()
        .and_then(|runs| runs.iter().find(|run| run["organization"] == "other"));
    let theirs = theirs.expect("their run")["run_id"].clone();
    for command in ["run.get", "run.cancel"] {
        let refused = house
            .ask_as(None, Some("acme"), command, json!({"run_id": theirs}))
            .await;
        assert_eq!(refused, Err("not_found".to_owned()));
    }
    let refused = house
        .ask_as(
            None,
            Some("acme"),
            "run.start",
            json!({"schedule": "theirs"}),
        )
        .await;
    assert_eq!(refused, Err("not_found".to_owned()));
    let pause = json!({"schedule": "feeds", "reason": "x"});
    let refused = house
        .ask_as(None, Some("acme"), "schedule.pause", pause)
        .await;
    assert_eq!(refused, Err("not_yours".to_owned()));
    house
        .ask("run.cancel", json!({"run_id": theirs}))
        .await
        .expect("cancelled");
    let told = house
        .ask("run.get", json!({"run_id": theirs}))
        .await
        .expect("it");
    assert_eq!(
        (&told["state"], &told["reason"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
}

async fn a_missing_target_is_a_failed_run(house: House) {
    house.declare(&on_target("")).await;
    house.at("2026-11-21T10:00:01Z").await;
    assert_eq!(
        house.states().await,
        [("failed", "target_not_found".to_owned())]
    );
    house.host("acme", "h1").await;
    house.at("2026-11-21T11:00:01Z").await;
    assert_eq!(house.runs().await[1].state, RunState::Running);
}

async fn a_backfill_lists_its_instants_and_runs_what_has_not_succeeded(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.succeed().await;
    house.clock("2026-11-21T10:30:00Z");
    let range = |dry_run: bool| json!({"schedule": "feeds", "from": "2026-11-21T08:00:00Z", "to": "2026-11-21T10:00:00Z", "dry_run": dry_run});
    let listed = house
        .ask("schedule.backfill", range(true))
        .await
        .expect("a list");
    assert_eq!(
        listed["instants"],
        json!([
            {"at": "2026-11-21T08:00:00Z", "runs": 1},
            {"at": "2026-11-21T09:00:00Z", "runs": 1},
            {"at": "2026-11-21T10:00:00Z", "runs": 0},
        ])
    );
    assert_eq!(house.runs().await.len(), 1, "nothing was run");
    for _ in 0..2 {
        let done = house
            .ask_as(Some("b-1"), None, "schedule.backfill", range(false))
            .await;
        assert_eq!(done.expect("a backfill")["runs"], 2);
    }
    // Another one of the same range finds them under way.
    let again = house
        .ask("schedule.backfill", range(false))
        .await
        .expect("a backfill");
    assert_eq!(again["runs"], 0);
    house.tick().await;
    let waiting: Vec<&str> = house.runs().await[1..]
        .iter()
        .map(|run| run.state.word())
        .collect();
    assert_eq!(waiting, ["running", "pending"]);
    house.succeed().await;
    house.tick().await;
    house.succeed().await;
    let runs = house.runs().await;
    assert!(runs.iter().all(|run| run.state == RunState::Succeeded));
    assert!(runs[1..].iter().all(|run| run.cause == "backfill"));
    let future =
        json!({"schedule": "feeds", "from": "2026-11-21T08:00:00Z", "to": "2027-01-01T00:00:00Z"});
    assert_eq!(
        house.ask("schedule.backfill", future).await,
        Err("wrong_range".to_owned())
    );
}

async fn no_task_and_no_waiting_run_outlives_its_clock(house: House) {
    house.host("acme", "h1").await;
    house
        .declare(&on_target(", overlap: buffer_one, timeouts: {task: 2h}"))
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.accept().await;
    house.at("2026-11-21T11:00:01Z").await;
    let store = &house.ground.store;
    let life = house.ground.catalogue().shortest_life();
    let now = moment("2026-11-21T11:59:00Z");
    assert_eq!(store.expire(now, life, 100).await.expect("an answer"), 0);
    let now = moment("2026-11-21T12:00:02Z");
    assert_eq!(store.expire(now, life, 100).await.expect("an answer"), 1);
    let runs = house.runs().await;
    assert_eq!(
        runs[0].state,
        RunState::TimedOut,
        "none did, all overran or expired"
    );
    // Its successor begins; and one that never can expires.
    house.clock("2026-11-21T12:00:02Z");
    turns::step(&house.ground).await.expect("turned");
    assert_eq!(house.runs().await[1].state, RunState::Running);
    house.accept().await;
    house.at("2026-11-21T13:00:01Z").await;
    let pending = house.runs().await.pop().expect("a run");
    assert_eq!(pending.state, RunState::Pending);
    store.cancel_run(&pending.id, now).await.expect("an answer");
    house.at("2026-11-21T13:30:00Z").await;
    let waits = house
        .ask("run.start", json!({"schedule": "scan"}))
        .await
        .expect("a run");
    assert_eq!(waits["state"], "pending");
    let now = moment("2026-11-21T15:30:01Z");
    store
        .expire(now, Span::seconds(86_400), 100)
        .await
        .expect("an answer");
    let told = house
        .ask("run.get", json!({"run_id": waits["run_id"]}))
        .await
        .expect("it");
    assert_eq!(
        (&told["state"], &told["reason"]),
        (&json!("expired"), &json!("expired"))
    );
}

async fn history_goes_by_age_and_by_number_with_tasks_and_attempts(house: House) {
    house
        .declare("- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}")
        .await;
    for hour in 10..20 {
        house.at(&format!("2026-11-21T{hour}:00:01Z")).await;
        house.succeed().await;
    }
    house.at("2026-11-21T20:00:01Z").await;
    let store = &house.ground.store;
    let count = async |noun: &str| {
        let page = muster::store::Page {
            limit: 1000,
            ..Default::default()
        };
        store
            .list(noun, &page)
            .await
            .expect("a list")
            .expect("a noun")
            .rows
            .len()
    };
    assert_eq!(
        (
            count("run").await,
            count("task").await,
            count("attempt").await
        ),
        (11, 11, 10)
    );
    let now = house.ground.clock.now();
    let older = Older {
        tasks: moment("2026-11-21T12:30:00Z"),
        ..Older::default()
    };
    store.forget(&older, now, 2).await.expect("forgotten");
    assert_eq!(
        (
            count("run").await,
            count("task").await,
            count("attempt").await
        ),
        (11, 9, 8),
        "in steps"
    );
    store.forget(&older, now, 2).await.expect("forgotten");
    assert_eq!((count("task").await, count("attempt").await), (8, 7));
    let older = Older {
        runs: moment("2026-11-21T15:30:00Z"),
        ..Older::default()
    };
    store.forget(&older, now, 100).await.expect("forgotten");
    assert_eq!(
        (count("run").await, count("task").await),
        (5, 5),
        "runs go with their tasks"
    );
    store.forget_all_but(2, 100).await.expect("forgotten");
    assert_eq!(
        (count("run").await, count("task").await),
        (3, 3),
        "two that ended, and the one that runs"
    );
    let left = house.states().await;
    assert_eq!(left.last().map(|(state, _)| *state), Some("running"));
}

async fn a_target_shows_pointers_that_are_derived_from_its_runs(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house.at("2026-11-21T10:00:01Z").await;
    house.succeed().await;
    house.at("2026-11-21T11:00:01Z").await;
    house.work(TaskState::Failed).await;
    house.at("2026-11-21T12:00:01Z").await;
    house
        .ask("run.start", json!({"schedule": "scan"}))
        .await
        .expect("blocked");
    let told = house
        .ask("target.get", json!({"schedule": "scan", "object": "h1"}))
        .await
        .expect("the pointers");
    let runs = house.runs().await;
    for (pointer, at) in [
        ("last_success", 0),
        ("last_failure", 1),
        ("last", 1),
        ("running", 2),
    ] {
        let shown = &told[pointer];
        assert_eq!(shown["run_id"], json!(runs[at].id), "{pointer}");
        assert_eq!(shown["cause"], "on_time");
        assert_eq!(shown["schedule_revision"], 1);
        assert!(
            shown["run_name"]
                .as_str()
                .is_some_and(|name| name.starts_with("scan-"))
        );
    }
    assert!(told["running"]["finished_at"].is_null());
    let listed = house.ask("target.list", json!({})).await.expect("targets");
    assert_eq!(listed["targets"], json!([told]));
}

async fn a_plugin_that_becomes_enabled_runs_on_all_that_is_there(house: House) {
    for key in ["h1", "h2", "h3"] {
        house.host("acme", key).await;
    }
    let text = |enabled: bool| {
        format!(
            "- {{kind: plugin, plugin_id: scan, worker_type: boefje, scan_level: 1, consumes: [hostname], enabled: {enabled}}}"
        )
    };
    house.declare(&text(false)).await;
    let catalogue = |enabled: bool| {
        let ground = &house.ground;
        let text = text(enabled);
        async move {
            let (revision, mut stored) = ground.store.declared().await.expect("declared");
            let (read, _) = read_file("t", text.as_bytes(), &Variables::default(), &ground.rules);
            for known in &mut stored {
                if known.name == "scan" {
                    known.definition.clone_from(&read[0].definition);
                }
            }
            Catalogue::build(ground.rules.clone(), revision, &stored)
        }
    };
    let (off, on) = (catalogue(false).await, catalogue(true).await);
    assert!(
        on.newly_enabled(&on).is_empty(),
        "a restart enables nothing"
    );
    assert!(off.newly_enabled(&on).is_empty());
    let found = on.newly_enabled(&off);
    assert_eq!(found.len(), 1);
    let scheduled = on.scheduled("enabled:scan").expect("what stands for it");
    let now = house.ground.clock.now();
    let run = muster::run::RunDraft {
        id: house.ground.ids().next(now),
        schedule_id: scheduled.schedule.id.clone(),
        schedule: scheduled.schedule.name.clone(),
        organization: found[0].1.id.clone(),
        cause: muster::run::Cause::OnTime,
        scheduled_for: now,
        created_at: now,
        expands: true,
        ..Default::default()
    };
    let (read, _) = read_file(
        "t",
        text(true).as_bytes(),
        &Variables::default(),
        &house.ground.rules,
    );
    let edit = Edit::Put {
        kind: read[0].kind,
        organization: String::new(),
        name: "scan".to_owned(),
        id: "scan".to_owned(),
        definition: read[0].definition.clone(),
    };
    let revision = house.ground.store.catalogue_revision().await.expect("one");
    house
        .ground
        .store
        .apply_with(&[edit], &[run], None, revision, now)
        .await
        .expect("applied");
    house.ground.load_catalogue().await.expect("loaded");
    house.tick().await;
    assert_eq!(house.open_tasks().await.len(), 3);
    assert_eq!(house.runs().await[0].cause, "on_time", "as recurring work");
}

async fn a_command_that_is_unknown_or_wrong_is_refused_with_what_would_be_right(house: House) {
    for (command, args, code) in [
        ("run.strat", json!({}), "unknown_command"),
        ("calendar.apply", json!({}), "wrong_argument"),
        ("run.start", json!({}), "wrong_argument"),
        (
            "run.start",
            json!({"schedule": "x", "plugin": "y"}),
            "wrong_argument",
        ),
        ("run.start", json!({"schedul": "x"}), "wrong_argument"),
        ("run.start", json!({"schedule": "nothing"}), "not_found"),
        ("run.list", json!({"state": "runing"}), "wrong_argument"),
    ] {
        assert_eq!(
            house.ask(command, args).await,
            Err(code.to_owned()),
            "{command}"
        );
    }
    assert_eq!(house.runs().await, []);
}
