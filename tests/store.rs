//! What the database owes us, the same on SQLite and on PostgreSQL.

#[path = "store/counted.rs"]
mod counted;
#[path = "store/files.rs"]
mod files;
#[path = "language/generated.rs"]
mod generated;
#[path = "store/language.rs"]
mod language;
#[path = "language/related.rs"]
mod related;
mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use counted::what_has_not_ended_is_counted_without_a_look_at_the_history;
use files::{
    files_of_before_are_found_once_the_schema_knows_them,
    the_newest_file_is_found_by_its_end_then_its_event_then_its_key,
};
use language::{
    a_reading_hands_out_each_object_once_in_the_order_of_the_keys,
    of_two_decisions_that_rest_on_other_objects_one_is_made_again,
    the_flagship_costs_what_it_finds_and_not_the_inventory,
    versions_are_kept_only_of_types_whose_history_is_asked_for_and_forgotten_by_age,
    whatever_is_accepted_for_its_relations_is_let_through, whatever_is_accepted_is_let_through,
};
use muster::catalogue::Catalogue;
use muster::decide::{Desk, Plan, World, change, occurrence};
use muster::declaration::{Kind, Variables, read_file};
use muster::moment::{Moment, Span};
use muster::object::{Change, Level, Object, ObjectKey, Rank, Told, Word};
use muster::policy::{Retry, Timeouts, WorkerSettings};
use muster::progress::{Clock, Step, Taken, Terms, clock, progress, run_out};
use muster::rules::Rules;
use muster::run::Cause;
use muster::store::{
    Applied, Commit, Committed, CursorMove, DeadLetter, Edit, Gathered, Older, Page, Published,
    Reported, Since, Store, Void, Wanted,
};
use muster::task::{Ending, Ids, Status, StatusWord, TaskState};
use serde_json::{Value, json};
use support::servers::Postgres;

/// Runs one contract on both databases.
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
    what_has_not_ended_is_counted_without_a_look_at_the_history,
    files_of_before_are_found_once_the_schema_knows_them,
    the_newest_file_is_found_by_its_end_then_its_event_then_its_key,
    the_flagship_costs_what_it_finds_and_not_the_inventory,
    a_reading_hands_out_each_object_once_in_the_order_of_the_keys,
    of_two_decisions_that_rest_on_other_objects_one_is_made_again,
    migrating_twice_takes_each_step_once,
    two_that_migrate_an_empty_database_at_once_both_succeed,
    a_decision_is_stored_whole_and_read_back_as_it_was,
    a_message_counts_once,
    an_object_that_changed_meanwhile_makes_the_decision_stale,
    a_changed_catalogue_makes_the_decision_stale,
    what_changed_since_a_revision_is_read_alone,
    a_unique_key_that_somebody_took_makes_the_decision_stale,
    a_cursor_that_somebody_moved_makes_the_decision_stale,
    a_stale_decision_stores_nothing_at_all,
    awkward_values_come_back_as_they_were,
    awkward_keys_come_back_as_they_were_from_many_rows_at_once,
    claims_of_two_replicas_are_disjoint,
    an_offer_whose_lease_is_over_is_made_again_with_its_number,
    an_offer_that_ends_while_it_is_confirmed_is_void_until_it_is_taken_back,
    an_offer_that_nobody_accepts_in_time_waits_again_and_gets_the_next_number,
    a_step_is_applied_only_where_the_task_still_stands_so,
    who_falls_silent_after_a_heartbeat_loses_the_task_and_is_avoided,
    what_overruns_three_times_is_dead_and_its_run_timed_out,
    a_heartbeat_and_a_clock_at_once_leave_one_of_them,
    declines_in_a_row_are_counted_and_an_acceptance_ends_the_row,
    the_end_of_a_task_frees_its_key_starts_its_grace_and_ends_its_run,
    a_withdrawn_task_is_never_offered_and_frees_its_key,
    the_same_dead_letter_is_counted_not_repeated,
    an_expansion_moves_its_position_once,
    history_is_forgotten_by_age,
    versions_are_kept_only_of_types_whose_history_is_asked_for_and_forgotten_by_age,
    whatever_is_accepted_is_let_through,
    whatever_is_accepted_for_its_relations_is_let_through,
);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn on_sqlite<F: Future<Output = ()>>(name: &str, contract: impl Fn(House) -> F) {
    let folder = std::env::temp_dir().join(format!("muster-store-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let url = format!("sqlite:{}", folder.join("store.db").display());
    runtime().block_on(async {
        let house = House::open(&url).await;
        contract(house).await;
    });
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
    // A database's name has at most 63 bytes.
    let database: String = name.chars().take(60).collect();
    server.create_database(&database);
    let url = server.url_of(&database);
    runtime().block_on(async {
        let house = House::open(&url).await;
        contract(house).await;
    });
}

/// A store with one plugin and two schedules: one on created host names, one daily.
#[derive(Clone)]
struct House {
    url: String,
    store: Store,
    rules: Arc<Rules>,
}

const DECLARED: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: dns, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {name: created, run_on: hostname, operation: [created, updated], plugins: "True", grace: 1h}
- {name: daily, recurrences: daily, plugins: "True", input: {hostname: null}}
"#;

fn at(seconds: i64) -> Moment {
    Moment::from_micros(1_790_000_000_000_000).plus(Span::seconds(seconds))
}

fn key(primary_key: &str) -> ObjectKey {
    ObjectKey {
        organization: "acme".to_owned(),
        primary_key: primary_key.to_owned(),
    }
}

fn created(primary_key: &str, number: i64, attributes: Value) -> Told {
    Told {
        event_id: Some(format!("e-{primary_key}-{number}")),
        event_type: "object.created".to_owned(),
        at: at(number),
        traceparent: None,
        change: Change {
            key: key(primary_key),
            object_type: Some("hostname".to_owned()),
            rank: Rank {
                number,
                event_id: format!("e-{number}"),
            },
            word: Word::Object {
                created: true,
                attributes: attributes.as_object().cloned(),
                level: Some(Level {
                    level: 2,
                    profile_type: Some("declared".to_owned()),
                }),
            },
            create_counts: false,
        },
    }
}

struct Decided {
    gathered: Gathered,
    plan: Plan,
}

impl House {
    async fn open(url: &str) -> House {
        let store = Store::open(url).await.expect("the address is right");
        store.migrate().await.expect("the schema is made");
        let workers = BTreeMap::from([("boefje".to_owned(), WorkerSettings::for_type("boefje"))]);
        let rules = Arc::new(Rules {
            workers,
            open_organizations: true,
            ..Rules::default()
        });
        let house = House {
            url: url.to_owned(),
            store,
            rules,
        };
        house.declare(DECLARED).await;
        house
    }

    async fn declare(&self, text: &str) {
        let (declared, complaints) = read_file(
            "test.yaml",
            text.as_bytes(),
            &Variables::default(),
            &self.rules,
        );
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
        let revision = self.store.catalogue_revision().await.expect("a revision");
        let applied = self
            .store
            .apply(&edits, revision, at(0))
            .await
            .expect("applied");
        assert_eq!(applied, Applied::Revision(revision + 1));
    }

    async fn catalogue(&self) -> Catalogue {
        let (revision, stored) = self.store.declared().await.expect("what is declared");
        let catalogue = Catalogue::build(self.rules.clone(), revision, &stored);
        assert!(catalogue.broken.is_empty(), "{:?}", catalogue.broken);
        catalogue
    }

    async fn decide(&self, told: &[Told], seed: u64) -> Decided {
        let wanted = Wanted {
            keys: told.iter().map(|told| told.change.key.clone()).collect(),
            ..Wanted::default()
        };
        let mut gathered = self.store.gather(&wanted).await.expect("what is known");
        let catalogue = self.catalogue().await;
        let mut plan = Plan::default();
        let mut ids = Ids::seeded(seed);
        for told in told {
            let mut desk = Desk {
                catalogue: &catalogue,
                now: at(100),
                ids: &mut ids,
                plan: &mut plan,
                findings: None,
            };
            change(&mut desk, &mut gathered.world, told).expect("a possible change");
        }
        Decided { gathered, plan }
    }

    async fn commit(&self, decided: &Decided, inbox: &[(String, String)]) -> Committed {
        self.store
            .commit(&commit_of(decided, inbox))
            .await
            .expect("the database takes it or says that it is stale")
    }

    /// Stores a task for a host name; answers with its id.
    async fn task(&self, primary_key: &str, seed: u64) -> String {
        let decided = self
            .decide(
                &[created(primary_key, 1, json!({"name": primary_key}))],
                seed,
            )
            .await;
        assert_eq!(self.commit(&decided, &[]).await, Committed::Done);
        decided.plan.tasks.first().expect("one task").id.clone()
    }

    async fn count(&self, noun: &str) -> usize {
        let page = Page {
            limit: 1000,
            ..Page::default()
        };
        self.store
            .list(noun, &page)
            .await
            .expect("a list")
            .expect("a noun")
            .rows
            .len()
    }

    async fn list(&self, noun: &str) -> Vec<serde_json::Map<String, Value>> {
        let page = Page {
            limit: 1000,
            ..Page::default()
        };
        let listed = self.store.list(noun, &page).await.expect("a list");
        listed.expect("a noun").rows
    }

    async fn state(&self, task: &str) -> (String, i64) {
        let page = Page {
            limit: 1000,
            ..Page::default()
        };
        let tasks = self
            .store
            .list("task", &page)
            .await
            .expect("a list")
            .expect("a noun")
            .rows;
        let row = tasks
            .iter()
            .find(|row| row["id"] == task)
            .expect("the task is listed");
        (
            row["state"].as_str().expect("a state").to_owned(),
            row["attempt"].as_i64().expect("a number"),
        )
    }

    async fn report(
        &self,
        task: &str,
        state: TaskState,
        outcome: Option<&'static str>,
    ) -> Vec<String> {
        let standings = self.store.standings(&[task]).await.expect("standings");
        let known = standings.get(task).expect("the task is known").clone();
        self.apply(task, known.standing, state, outcome).await
    }

    /// A worker's word, judged by the real judge and written; false where it decides nothing.
    async fn hears(
        &self,
        task: &str,
        attempt: i64,
        worker: &str,
        word: StatusWord,
        now: Moment,
    ) -> bool {
        let standings = self.store.standings(&[task]).await.expect("standings");
        let standing = standings
            .get(task)
            .expect("the task is known")
            .standing
            .clone();
        let status = Status {
            task_id: task.to_owned(),
            attempt: Some(attempt),
            worker: worker.to_owned(),
            at: Some(now),
            word,
        };
        let Step::Take(step) = progress(Some(&standing), &status, &terms(), now, 0) else {
            return false;
        };
        let reported = Reported {
            task_id: task.to_owned(),
            worker: Some(worker.to_owned()),
            at: Some(now),
            standing,
            step: *step,
        };
        let written = self
            .store
            .apply_steps(&[reported], &[], now)
            .await
            .expect("applied");
        written.stale.is_empty()
    }

    /// What the clocks do at this instant: how many ran out.
    async fn clocks(&self, now: Moment) -> usize {
        let overdue = self.store.overdue(now, 10).await.expect("what is overdue");
        let steps: Vec<Reported> = overdue
            .into_iter()
            .map(|(task_id, known)| {
                let standing = known.standing;
                let heartbeat = terms().timeouts.heartbeat;
                let (_, which) = clock(&standing, known.offered_until, heartbeat).expect("a clock");
                let step = run_out(&standing, which, &terms(), now, 0);
                Reported {
                    task_id,
                    worker: None,
                    at: None,
                    standing,
                    step,
                }
            })
            .collect();
        let written = self
            .store
            .apply_steps(&steps, &[], now)
            .await
            .expect("applied");
        steps.len() - written.stale.len()
    }

    /// The next offer of the one task that waits, published at once.
    async fn offer(&self, now: Moment) -> muster::store::Claimed {
        let lease = now.plus(Span::seconds(30));
        let mut claimed = self
            .store
            .claim("muster.tasks.boefje", 10, now, lease)
            .await
            .expect("a claim");
        assert_eq!(claimed.len(), 1);
        let published = Published {
            task_id: claimed[0].task_id.clone(),
            attempt: claimed[0].attempt,
            expires_at: now.plus(Span::seconds(100)),
            sequence: None,
        };
        self.store
            .mark_published(&[published], false, now)
            .await
            .expect("marked");
        claimed.remove(0)
    }

    async fn apply(
        &self,
        task: &str,
        standing: muster::progress::Standing,
        state: TaskState,
        outcome: Option<&'static str>,
    ) -> Vec<String> {
        let step = Taken {
            state: Some(state),
            accepted: true,
            outcome,
            ..Taken::default()
        };
        let reported = Reported {
            task_id: task.to_owned(),
            worker: Some("w1".to_owned()),
            at: Some(at(200)),
            standing,
            step,
        };
        self.store
            .apply_steps(&[reported], &[], at(200))
            .await
            .expect("applied")
            .stale
    }
}

fn commit_of<'a>(decided: &'a Decided, inbox: &'a [(String, String)]) -> Commit<'a> {
    Commit {
        inbox,
        world: &decided.gathered.world,
        versions: &decided.gathered.versions,
        plan: &decided.plan,
        ..Commit::empty(at(100), decided.gathered.revision)
    }
}

async fn migrating_twice_takes_each_step_once(house: House) {
    let again = house.store.migrate().await.expect("migrating again");
    assert!(again.is_empty(), "it took {again:?} again");
    house.store.ours().await.expect("of this version");
}

async fn two_that_migrate_an_empty_database_at_once_both_succeed(house: House) {
    let fresh = beside(&house).await;
    let (first, second) = (
        Store::open(&fresh).await.expect("open"),
        Store::open(&fresh).await.expect("open"),
    );
    let (one, two) = tokio::join!(first.migrate(), second.migrate());
    let taken = one.expect("the first").len() + two.expect("the second").len();
    let steps = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"));
    assert_eq!(
        taken,
        steps.expect("the steps").count(),
        "each step is taken by one of them, the other finds it taken"
    );
}

/// Beside the first, an empty one: another file, or another schema by the search path.
async fn beside(house: &House) -> String {
    match house.url.strip_prefix("sqlite:") {
        Some(file) => format!("sqlite:{file}.second"),
        None => {
            let name = "fresh";
            let joined = if house.url.contains('?') { '&' } else { '?' };
            // A schema of its own is made by the first that needs it.
            let maker = sqlx_url(&house.url);
            maker.execute_sql(&format!("CREATE SCHEMA {name}")).await;
            format!("{}{joined}options[search_path]={name}", house.url)
        }
    }
}

/// A plain connection, for what only a test does.
struct Plain(String);

fn sqlx_url(url: &str) -> Plain {
    Plain(url.to_owned())
}

impl Plain {
    async fn execute_sql(&self, sql: &str) {
        use sqlx::Connection;
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.0)
            .await
            .expect("a connection");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .expect("the statement");
    }
}

async fn a_decision_is_stored_whole_and_read_back_as_it_was(house: House) {
    let decided = house
        .decide(&[created("h1", 1, json!({"name": "www.example.com"}))], 1)
        .await;
    assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
    let wanted = Wanted {
        keys: HashSet::from([key("h1")]),
        inbox: Vec::new(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    assert_eq!(
        known.world.objects.get(&key("h1")),
        decided.gathered.world.objects.get(&key("h1"))
    );
    let open = known.world.open.get(&key("h1")).expect("an open task");
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].task_id, decided.plan.tasks[0].id);
    assert_eq!(
        (house.count("run").await, house.count("task").await),
        (1, 1)
    );
}

async fn a_message_counts_once(house: House) {
    let inbox = [("/inventory".to_owned(), "e-1".to_owned())];
    let first = house.decide(&[created("h1", 1, json!({}))], 1).await;
    let second = house.decide(&[created("h2", 1, json!({}))], 2).await;
    assert_eq!(house.commit(&first, &inbox).await, Committed::Done);
    assert_eq!(
        house.commit(&second, &inbox).await,
        Committed::Stale("inbox")
    );
    let wanted = Wanted {
        keys: HashSet::new(),
        inbox: inbox.to_vec(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    assert!(known.handled.contains(&inbox[0]));
}

async fn an_object_that_changed_meanwhile_makes_the_decision_stale(house: House) {
    let first = house
        .decide(&[created("h1", 1, json!({"name": "a"}))], 1)
        .await;
    let second = house
        .decide(&[created("h1", 2, json!({"name": "b"}))], 2)
        .await;
    assert_eq!(house.commit(&first, &[]).await, Committed::Done);
    assert_eq!(
        house.commit(&second, &[]).await,
        Committed::Stale("objects")
    );
    let again = house
        .decide(&[created("h1", 2, json!({"name": "b"}))], 3)
        .await;
    assert_eq!(house.commit(&again, &[]).await, Committed::Done);
}

async fn a_changed_catalogue_makes_the_decision_stale(house: House) {
    let decided = house.decide(&[created("h1", 1, json!({}))], 1).await;
    house.declare("- {kind: organization, id: other}").await;
    assert_eq!(
        house.commit(&decided, &[]).await,
        Committed::Stale("catalogue")
    );
}

async fn a_unique_key_that_somebody_took_makes_the_decision_stale(house: House) {
    let first = house.decide(&[created("h1", 1, json!({}))], 1).await;
    let mut second = house.decide(&[created("h1", 1, json!({}))], 2).await;
    assert_eq!(house.commit(&first, &[]).await, Committed::Done);
    // Only the key of the task stands in the way, not the object.
    second.plan.changed.clear();
    assert_eq!(house.commit(&second, &[]).await, Committed::Stale("tasks"));
}

async fn a_cursor_that_somebody_moved_makes_the_decision_stale(house: House) {
    let catalogue = house.catalogue().await;
    let daily = catalogue
        .schedules
        .iter()
        .find(|s| s.schedule.name == "daily")
        .expect("the schedule");
    let acme = &catalogue.organizations["acme"];
    let mut world = World::default();
    let mut plan = Plan::default();
    let mut ids = Ids::seeded(1);
    let mut desk = Desk {
        catalogue: &catalogue,
        now: at(100),
        ids: &mut ids,
        plan: &mut plan,
        findings: None,
    };
    occurrence(&mut desk, &mut world, daily, acme, Cause::OnTime, at(50));
    let decided = Decided {
        gathered: Gathered {
            revision: catalogue.revision,
            ..Gathered::default()
        },
        plan,
    };
    let moved = [CursorMove {
        schedule_id: daily.schedule.id.clone(),
        from: at(0),
        to: at(50),
    }];
    let commit = Commit {
        cursors: &moved,
        ..commit_of(&decided, &[])
    };
    assert_eq!(
        house.store.commit(&commit).await.expect("an answer"),
        Committed::Done
    );
    assert_eq!(
        house.store.commit(&commit).await.expect("an answer"),
        Committed::Stale("cursor")
    );
    assert_eq!(house.count("run").await, 1);
    let cursors: HashMap<String, Moment> = house
        .store
        .cursors(None)
        .await
        .expect("cursors")
        .into_iter()
        .collect();
    assert_eq!(cursors.get(&daily.schedule.id), Some(&at(50)));
}

async fn a_stale_decision_stores_nothing_at_all(house: House) {
    let inbox = [("/inventory".to_owned(), "e-1".to_owned())];
    let first = house.decide(&[created("h1", 1, json!({}))], 1).await;
    let second = house
        .decide(
            &[
                created("h1", 2, json!({"a": 1})),
                created("h2", 2, json!({})),
            ],
            2,
        )
        .await;
    assert_eq!(house.commit(&first, &[]).await, Committed::Done);
    assert!(matches!(
        house.commit(&second, &inbox).await,
        Committed::Stale(_)
    ));
    assert_eq!(
        (
            house.count("object").await,
            house.count("run").await,
            house.count("task").await
        ),
        (1, 1, 1)
    );
    let wanted = Wanted {
        keys: HashSet::new(),
        inbox: inbox.to_vec(),
        ..Wanted::default()
    };
    assert!(
        house
            .store
            .gather(&wanted)
            .await
            .expect("what is known")
            .handled
            .is_empty()
    );
}

async fn awkward_values_come_back_as_they_were(house: House) {
    let awkward = json!({
        "empty": "", "quote": "\"'\\", "unicode": "É ß İ ſ Σ 😀 \u{ffff}", "control": "\u{1}\t\n", "null": null,
        "max": i64::MAX, "min": i64::MIN, "unsigned": u64::MAX, "tiny": 5e-324, "large": 1.797_693_134_862_315_7e308,
        "third": 0.1, "exact": 9_007_199_254_740_993_i64, "nested": [[], {}, [{"a": [null, true]}]],
        "nan": "NaN", "": "no name", "$1": "a parameter", "': --": "a comment",
    });
    let decided = house
        .decide(&[created("h'1\"|\\ü", 1, awkward.clone())], 1)
        .await;
    assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
    let wanted = Wanted {
        keys: HashSet::from([key("h'1\"|\\ü")]),
        inbox: Vec::new(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    let object: &Object = known
        .world
        .objects
        .get(&key("h'1\"|\\ü"))
        .expect("the object");
    let read = Value::Object(object.attributes.clone());
    assert!(muster::object::same(&read, &awkward), "came back as {read}");
}

async fn awkward_keys_come_back_as_they_were_from_many_rows_at_once(house: House) {
    let keys = [
        "NULL",
        "",
        "{}",
        "{\"a\",NULL}",
        "a,b",
        "\\",
        "\\\"",
        "\"quoted\"",
        " blanks ",
        "É😀\u{ffff}",
        "$1",
        "\n\t\u{1}",
        "'",
    ];
    let told: Vec<Told> = keys
        .iter()
        .map(|awkward| created(awkward, 1, json!({"name": awkward})))
        .collect();
    let decided = house.decide(&told, 1).await;
    assert_eq!(decided.plan.tasks.len(), keys.len());
    assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
    let wanted = Wanted {
        keys: keys.iter().map(|awkward| key(awkward)).collect(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    let claimed = house
        .store
        .claim("muster.tasks.boefje", 100, at(300), at(330))
        .await
        .expect("a claim");
    for draft in &decided.plan.tasks {
        let input = &draft.inputs[0];
        let open = known.world.open.get(&key(&input.primary_key));
        let open = open.unwrap_or_else(|| panic!("{:?} is not open", input.primary_key));
        assert_eq!((open.len(), &open[0].task_id), (1, &draft.id));
        assert_eq!(open[0].unique_key, input.unique_key);
        let task = claimed.iter().find(|task| task.task_id == draft.id);
        let task = task.expect("the task is claimed");
        assert_eq!(task.inputs[0].primary_key, input.primary_key);
        assert_eq!(
            (
                &task.plugin_id,
                &task.run_id,
                task.created_at,
                task.scheduled_for
            ),
            (
                &draft.plugin_id,
                &draft.run_id,
                draft.created_at,
                draft.scheduled_for
            )
        );
    }
}

async fn claims_of_two_replicas_are_disjoint(house: House) {
    let mut made = HashSet::new();
    for number in 0..40 {
        made.insert(house.task(&format!("h{number}"), number).await);
    }
    let other = Store::open(&house.url).await.expect("another replica");
    let mut claimed = Vec::new();
    loop {
        let (one, two) = tokio::join!(
            house
                .store
                .claim("muster.tasks.boefje", 7, at(300), at(330)),
            other.claim("muster.tasks.boefje", 7, at(300), at(330)),
        );
        let (one, two) = (one.expect("a claim"), two.expect("a claim"));
        if one.is_empty() && two.is_empty() {
            break;
        }
        claimed.extend(one.into_iter().chain(two).map(|task| task.task_id));
    }
    assert_eq!(claimed.len(), 40, "each is claimed once");
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), made);
}

async fn an_offer_whose_lease_is_over_is_made_again_with_its_number(house: House) {
    let task = house.task("h1", 1).await;
    let first = house
        .store
        .claim("muster.tasks.boefje", 10, at(300), at(330))
        .await
        .expect("a claim");
    assert_eq!(
        (first[0].task_id.as_str(), first[0].attempt),
        (task.as_str(), 1)
    );
    assert!(
        house
            .store
            .claim_again(10, at(329), at(360))
            .await
            .expect("a claim")
            .is_empty(),
        "the lease holds"
    );
    let again = house
        .store
        .claim_again(10, at(331), at(361))
        .await
        .expect("a claim");
    assert_eq!(
        (again[0].task_id.as_str(), again[0].attempt),
        (task.as_str(), 1)
    );
    let published = Published {
        task_id: task.clone(),
        attempt: 1,
        expires_at: at(4000),
        sequence: None,
    };
    house
        .store
        .mark_published(&[published], false, at(340))
        .await
        .expect("marked");
    assert!(
        house
            .store
            .claim_again(10, at(9000), at(9030))
            .await
            .expect("a claim")
            .is_empty(),
        "it is published"
    );
}

async fn an_offer_that_ends_while_it_is_confirmed_is_void_until_it_is_taken_back(house: House) {
    let task = house.task("h1", 1).await;
    let claimed = house
        .store
        .claim("muster.tasks.boefje", 10, at(300), at(330));
    assert_eq!(claimed.await.expect("a claim").len(), 1);
    let ids = [task.clone()];
    let withdrawn = house.store.withdraw(&ids, "reason_gone", at(301));
    withdrawn.await.expect("withdrawn");
    let published = [Published {
        task_id: task.clone(),
        attempt: 1,
        expires_at: at(400),
        sequence: Some(7),
    }];
    let marked = house.store.mark_published(&published, false, at(302));
    marked.await.expect("marked");
    let void = house.store.void_after(0, 10).await.expect("read");
    let expected = Void {
        task_id: task,
        attempt: 1,
        sequence: 7,
    };
    assert_eq!(void, [expected]);
    assert!(
        house
            .store
            .void_after(7, 10)
            .await
            .expect("read")
            .is_empty()
    );
    house.store.taken_back(&void).await.expect("noted");
    assert!(
        house
            .store
            .void_after(0, 10)
            .await
            .expect("read")
            .is_empty()
    );
}

async fn an_offer_that_nobody_accepts_in_time_waits_again_and_gets_the_next_number(house: House) {
    let task = house.task("h1", 1).await;
    house
        .store
        .claim("muster.tasks.boefje", 10, at(300), at(330))
        .await
        .expect("a claim");
    let published = Published {
        task_id: task.clone(),
        attempt: 1,
        expires_at: at(400),
        sequence: None,
    };
    house
        .store
        .mark_published(&[published], false, at(301))
        .await
        .expect("marked");
    assert_eq!(house.clocks(at(399)).await, 0);
    assert_eq!(house.clocks(at(401)).await, 1);
    assert_eq!(house.state(&task).await, ("queued".to_owned(), 1));
    let again = house
        .store
        .claim("muster.tasks.boefje", 10, at(402), at(430))
        .await
        .expect("a claim");
    assert_eq!(again[0].attempt, 2);
    assert_eq!(house.count("attempt").await, 2, "both attempts are kept");
}

fn terms() -> Terms {
    Terms {
        retry: Retry::default(),
        timeouts: Timeouts::default(),
        idempotent: true,
    }
}

async fn who_falls_silent_after_a_heartbeat_loses_the_task_and_is_avoided(house: House) {
    let task = house.task("h1", 1).await;
    house.offer(at(10)).await;
    let beat = |done: i64| StatusWord::Heartbeat {
        done: Some(done),
        total: Some(9),
        stage: None,
        note: Some("images".to_owned()),
    };
    assert!(
        house
            .hears(&task, 1, "w1", StatusWord::Accepted, at(20))
            .await
    );
    assert_eq!(
        house.clocks(at(119)).await,
        0,
        "it never beat: only the hard end counts"
    );
    assert!(house.hears(&task, 1, "w1", beat(5), at(120)).await);
    assert!(house.hears(&task, 1, "w1", beat(4), at(150)).await);
    let attempts = house.list("attempt").await;
    assert_eq!(
        (&attempts[0]["done"], &attempts[0]["total"]),
        (&json!(5), &json!(9)),
        "it never falls"
    );
    assert_eq!(
        house.clocks(at(209)).await,
        0,
        "the second heartbeat extended it"
    );
    assert_eq!(house.clocks(at(210)).await, 1);
    assert_eq!(house.state(&task).await, ("queued".to_owned(), 1));
    let attempts = house.list("attempt").await;
    assert_eq!(attempts[0]["outcome"], "silent");
    let again = house.offer(at(250)).await;
    assert_eq!(again.attempt, 2);
    assert_eq!(again.avoid[0].worker, "w1");
    // What the first worker did all the same wins, because nobody has begun to do it again.
    assert!(
        house
            .hears(
                &task,
                1,
                "w1",
                StatusWord::Succeeded(Ending::default()),
                at(260)
            )
            .await
    );
    assert_eq!(house.state(&task).await, ("succeeded".to_owned(), 2));
    let outcomes: Vec<Value> = house
        .list("attempt")
        .await
        .iter()
        .map(|row| row["outcome"].clone())
        .collect();
    assert!(
        outcomes.contains(&json!("silent")) && outcomes.contains(&json!("superseded")),
        "{outcomes:?}"
    );
}

async fn what_overruns_three_times_is_dead_and_its_run_timed_out(house: House) {
    let task = house.task("h1", 1).await;
    for attempt in 1..=3 {
        let begun = at(attempt * 10_000);
        house.offer(begun).await;
        assert!(
            house
                .hears(&task, attempt, "w1", StatusWord::Accepted, begun)
                .await
        );
        // `timeouts.run` is an hour; the worker that ends it then has a moment to tell it with its log.
        assert_eq!(house.clocks(begun.plus(Span::seconds(3604))).await, 0);
        assert_eq!(house.clocks(begun.plus(Span::seconds(3605))).await, 1);
    }
    assert_eq!(house.state(&task).await, ("dead".to_owned(), 3));
    let runs = house.list("run").await;
    assert_eq!(runs[0]["state"], "timed_out");
}

async fn a_heartbeat_and_a_clock_at_once_leave_one_of_them(house: House) {
    let task = house.task("h1", 1).await;
    house.offer(at(10)).await;
    let beat = || StatusWord::Heartbeat {
        done: None,
        total: None,
        stage: None,
        note: None,
    };
    assert!(house.hears(&task, 1, "w1", beat(), at(20)).await);
    let overdue = house
        .store
        .overdue(at(90), 10)
        .await
        .expect("what is overdue");
    let (task_id, known) = overdue.into_iter().next().expect("it is overdue");
    // The heartbeat is stored between the look and the step.
    assert!(house.hears(&task, 1, "w1", beat(), at(90)).await);
    let step = run_out(&known.standing, Clock::Silence, &terms(), at(90), 0);
    let reported = Reported {
        task_id,
        worker: None,
        at: None,
        standing: known.standing,
        step,
    };
    let written = house
        .store
        .apply_steps(&[reported], &[], at(90))
        .await
        .expect("applied");
    assert_eq!(written.stale, std::slice::from_ref(&task));
    assert_eq!(house.state(&task).await.0, "running");
}

async fn declines_in_a_row_are_counted_and_an_acceptance_ends_the_row(house: House) {
    let task = house.task("h1", 1).await;
    let declined = || StatusWord::Declined {
        reason: None,
        retry_in: Some(Span::seconds(1)),
    };
    for attempt in 1..=3 {
        house.offer(at(attempt * 1000)).await;
        assert!(
            house
                .hears(&task, attempt, "w1", declined(), at(attempt * 1000 + 1))
                .await
        );
    }
    let standing = async || {
        let known = house.store.standings(&[&task]).await.expect("standings");
        known[&task].standing.clone()
    };
    assert_eq!((standing().await.declines, standing().await.spent), (3, 0));
    house.offer(at(9000)).await;
    assert!(
        house
            .hears(&task, 4, "w2", StatusWord::Accepted, at(9001))
            .await
    );
    assert_eq!(standing().await.declines, 0);
    let heard = house
        .store
        .heard_since(at(9000))
        .await
        .expect("who was heard");
    assert_eq!(heard, [("boefje".to_owned(), "w2".to_owned())]);
}

async fn a_step_is_applied_only_where_the_task_still_stands_so(house: House) {
    let task = house.task("h1", 1).await;
    house
        .store
        .claim("muster.tasks.boefje", 10, at(300), at(330))
        .await
        .expect("a claim");
    let standings = house.store.standings(&[&task]).await.expect("standings");
    let before = standings[&task].standing.clone();
    let stale = house.report(&task, TaskState::Running, None).await;
    assert!(stale.is_empty());
    let stale = house
        .apply(&task, before, TaskState::Succeeded, Some("succeeded"))
        .await;
    assert_eq!(
        stale,
        std::slice::from_ref(&task),
        "what was read before the acceptance holds no more"
    );
    assert_eq!(house.state(&task).await.0, "running");
}

async fn the_end_of_a_task_frees_its_key_starts_its_grace_and_ends_its_run(house: House) {
    let task = house.task("h1", 1).await;
    house
        .store
        .claim("muster.tasks.boefje", 10, at(300), at(330))
        .await
        .expect("a claim");
    house.report(&task, TaskState::Running, None).await;
    house
        .report(&task, TaskState::Succeeded, Some("succeeded"))
        .await;
    let wanted = Wanted {
        keys: HashSet::from([key("h1")]),
        inbox: Vec::new(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    assert!(
        known.world.open.get(&key("h1")).is_none_or(Vec::is_empty),
        "the key is free"
    );
    assert_eq!(
        known
            .world
            .ended
            .values()
            .map(|ended| ended.at)
            .collect::<Vec<_>>(),
        [at(200)]
    );
    let runs = house
        .store
        .list(
            "run",
            &Page {
                limit: 10,
                ..Page::default()
            },
        )
        .await
        .expect("runs")
        .expect("a noun")
        .rows;
    assert_eq!(runs[0]["state"], "succeeded");
    assert_eq!(runs[0]["succeeded"], 1);
    assert!(runs[0]["finished_at"].is_string());
}

async fn a_withdrawn_task_is_never_offered_and_frees_its_key(house: House) {
    let task = house.task("h1", 1).await;
    house
        .store
        .claim("muster.tasks.boefje", 10, at(300), at(330))
        .await
        .expect("a claim");
    house
        .store
        .withdraw(std::slice::from_ref(&task), "object_deleted", at(301))
        .await
        .expect("withdrawn");
    assert_eq!(house.state(&task).await.0, "withdrawn");
    assert!(
        house
            .store
            .claim("muster.tasks.boefje", 10, at(400), at(430))
            .await
            .expect("a claim")
            .is_empty()
    );
    assert!(
        house
            .store
            .claim_again(10, at(400), at(430))
            .await
            .expect("a claim")
            .is_empty()
    );
    let wanted = Wanted {
        keys: HashSet::from([key("h1")]),
        inbox: Vec::new(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    assert!(known.world.open.get(&key("h1")).is_none_or(Vec::is_empty));
    assert!(
        known.world.ended.is_empty(),
        "what was not executed starts no grace"
    );
}

async fn the_same_dead_letter_is_counted_not_repeated(house: House) {
    let letter = |id: &str, seconds: i64| DeadLetter {
        id: id.to_owned(),
        intake: "muster.events".to_owned(),
        routing_key: "a\0b".to_owned(),
        content_type: None,
        message_id: None,
        headers: vec![("name".to_owned(), "va\0lue".to_owned())],
        body: vec![0, 255, 10, 13],
        reason: "not_utf8".to_owned(),
        message: "byte 1".to_owned(),
        seen: at(seconds),
    };
    for (id, seconds) in [("l1", 1), ("l2", 2)] {
        let decided = Decided {
            gathered: Gathered {
                revision: house.store.catalogue_revision().await.expect("a revision"),
                ..Gathered::default()
            },
            plan: Plan::default(),
        };
        let dead = [letter(id, seconds)];
        let commit = Commit {
            dead: &dead,
            ..commit_of(&decided, &[])
        };
        assert_eq!(
            house.store.commit(&commit).await.expect("an answer"),
            Committed::Done
        );
    }
    let letters = house.store.dead_letters(None, 10).await.expect("letters");
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (
            letters[0].count,
            letters[0].first_seen,
            letters[0].last_seen
        ),
        (2, at(1), at(2))
    );
    assert_eq!(
        letters[0].letter.body,
        [0, 255, 10, 13],
        "the raw bytes are kept"
    );
    assert!(
        house
            .store
            .drop_dead_letter(&letters[0].letter.id)
            .await
            .expect("dropped")
    );
    assert_eq!(house.store.count_dead_letters().await.expect("a count"), 0);
}

async fn what_changed_since_a_revision_is_read_alone(house: House) {
    let (before, stored) = house.store.declared().await.expect("all of it");
    let since = async |known| {
        house
            .store
            .declared_since(known)
            .await
            .expect("what changed")
    };
    assert!(matches!(since(before).await, (revision, Since::Nothing) if revision == before));
    // What the empty database was is known to nobody: all is read.
    let (_, all) = since(0).await;
    assert!(matches!(all, Since::All(all) if all == stored));
    house.declare("- {kind: organization, id: late}\n").await;
    let (revision, Since::Changes(changes)) = since(before).await else {
        panic!("changes");
    };
    let told: Vec<(Kind, &str, bool)> = changes
        .iter()
        .map(|change| (change.kind, change.name.as_str(), change.now.is_some()))
        .collect();
    assert_eq!(revision, before + 1);
    assert_eq!(told, [(Kind::Organization, "late", true)]);
    let gone = Edit::Delete {
        kind: Kind::Organization,
        organization: String::new(),
        name: "late".to_owned(),
    };
    let applied = house.store.apply(&[gone], revision, at(0)).await;
    assert_eq!(applied.expect("applied"), Applied::Revision(before + 2));
    let (_, Since::Changes(changes)) = since(before).await else {
        panic!("changes");
    };
    assert!(matches!(&changes[..], [change] if change.name == "late" && change.now.is_none()));
}

async fn an_expansion_moves_its_position_once(house: House) {
    let catalogue = house.catalogue().await;
    let daily = catalogue
        .schedules
        .iter()
        .find(|s| s.schedule.name == "daily")
        .expect("the schedule");
    let mut plan = Plan::default();
    let mut ids = Ids::seeded(1);
    let mut desk = Desk {
        catalogue: &catalogue,
        now: at(100),
        ids: &mut ids,
        plan: &mut plan,
        findings: None,
    };
    occurrence(
        &mut desk,
        &mut World::default(),
        daily,
        &catalogue.organizations["acme"],
        Cause::OnTime,
        at(50),
    );
    let decided = Decided {
        gathered: Gathered {
            revision: catalogue.revision,
            ..Gathered::default()
        },
        plan,
    };
    assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
    let claim = async || {
        let claimed = house
            .store
            .claim_expansion("", &muster::store::Held::default(), at(100), at(110))
            .await;
        claimed.expect("an answer")
    };
    let run = claim().await.expect("the run is there");
    assert_eq!(run.position, "");
    let empty = Decided {
        gathered: Gathered {
            revision: catalogue.revision,
            ..Gathered::default()
        },
        plan: Plan::default(),
    };
    let moved = |from: &str, to: Option<&str>| muster::store::Expansion {
        run_id: run.id.clone(),
        from: from.to_owned(),
        to: to.map(str::to_owned),
        until: at(120),
        ..muster::store::Expansion::default()
    };
    for (from, to, expected) in [
        ("", Some("hostname|h5"), Committed::Done),
        ("", Some("hostname|h5"), Committed::Stale("position")),
        ("hostname|h5", None, Committed::Done),
        ("hostname|h5", None, Committed::Stale("position")),
    ] {
        let commit = Commit {
            expansion: Some(moved(from, to)),
            ..commit_of(&empty, &[])
        };
        assert_eq!(
            house.store.commit(&commit).await.expect("an answer"),
            expected,
            "from {from:?} to {to:?}"
        );
        let shown = house.list("run").await.remove(0);
        assert_eq!(shown["position"], json!(to), "a list shows how far it is");
    }
    assert!(claim().await.is_none(), "there is nothing left to find");
    let runs = house
        .store
        .list(
            "run",
            &Page {
                limit: 10,
                ..Page::default()
            },
        )
        .await
        .expect("runs")
        .expect("a noun")
        .rows;
    assert_eq!(
        runs[0]["state"], "succeeded",
        "there was nothing to do, and that is a success"
    );
}

async fn history_is_forgotten_by_age(house: House) {
    let inbox = [("/inventory".to_owned(), "e-1".to_owned())];
    let decided = house.decide(&[created("h1", 1, json!({}))], 1).await;
    house.commit(&decided, &inbox).await;
    let mut deleted = created("h1", 2, json!({}));
    deleted.change.word = Word::Deleted;
    let decided = house.decide(&[deleted], 2).await;
    house.commit(&decided, &[]).await;
    let keeps = Older {
        events: at(99),
        tombstones: at(99),
        versions: at(99),
        ..Older::default()
    };
    assert_eq!(
        house
            .store
            .forget(&keeps, at(300), 100)
            .await
            .expect("an answer"),
        0
    );
    let forgets = Older {
        events: at(101),
        tombstones: at(101),
        versions: at(101),
        ..Older::default()
    };
    assert_eq!(
        house
            .store
            .forget(&forgets, at(300), 100)
            .await
            .expect("an answer"),
        2,
        "the id and the tombstone"
    );
    let wanted = Wanted {
        keys: HashSet::from([key("h1")]),
        inbox: inbox.to_vec(),
        ..Wanted::default()
    };
    let known = house.store.gather(&wanted).await.expect("what is known");
    assert!(known.handled.is_empty() && known.world.objects.is_empty());
}
