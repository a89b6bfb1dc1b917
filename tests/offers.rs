//! What is offered, in which order and how much of it, on both databases: fair turns, shares of lower classes, credit,
//! limits over several replicas, pauses, ranks. Time is an argument here, so a minute takes no minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use muster::catalogue::Catalogue;
use muster::declaration::{Variables, read_file};
use muster::ground::{Ground, IntakeRule};
use muster::intake::{Incoming, handle};
use muster::moment::{Moment, Span};
use muster::policy::{Format, Order, Rank, WorkerSettings};
use muster::rules::Rules;
use muster::store::{Applied, Ask, Claimed, Claims, Edit, Pause, Store};
use serde_json::json;
use sqlx::{AnyPool, AssertSqlSafe};
use tokio_util::sync::CancellationToken;

use support::servers::Postgres;

#[path = "support/mod.rs"]
mod support;

/// Every contract on both databases.
macro_rules! on_both {
    ($($contract:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $contract() { super::on_sqlite(stringify!($contract), super::$contract); })*
        }
        mod postgres {
            $(#[test] fn $contract() { super::on_postgres(stringify!($contract), super::$contract); })*
        }
    };
}

on_both!(
    ten_of_another_organization_pass_a_hundred_thousand_within_a_window_and_their_share,
    the_lowest_class_gets_one_of_sixteen_under_a_flood_of_the_highest_and_its_oldest_first,
    more_organizations_than_one_look_sees_all_get_their_turn,
    three_replicas_keep_a_rate_over_a_minute,
    no_more_than_a_second_of_a_rate_waits_for_somebody_to_accept_it,
    replicas_at_once_keep_a_concurrency_that_spans_two_queues,
    a_limit_that_is_declared_later_counts_what_is_under_way,
    what_is_limited_holds_up_nobody,
    replicas_at_once_spend_a_credit_once_and_what_is_accepted_frees_it,
    where_the_confirm_is_the_acceptance_credit_is_held_until_the_end,
    what_a_killed_replica_claimed_counts_and_is_offered_again_with_its_number,
    a_paused_queue_offers_nothing_and_tells_who_paused_it,
    priority_goes_before_rank_and_rank_before_the_instant_of_making,
    the_strategy_of_the_settings_is_stored_with_the_task,
    what_waits_for_an_instant_goes_when_it_has_come_and_is_in_nobodys_way,
    weights_are_shares,
);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn on_sqlite<F: Future<Output = ()>>(name: &str, contract: impl Fn(House) -> F) {
    let folder = std::env::temp_dir().join(format!("muster-offers-{name}-{}", std::process::id()));
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

const QUEUE: &str = "muster.tasks.scanner";

fn at(ms: i64) -> Moment {
    Moment::from_micros(1_790_000_000_000_000 + ms * 1000)
}

/// A store, and what a test does beside muster.
struct House {
    url: String,
    sql: AnyPool,
}

/// Tasks to be queued.
struct Lot<'a> {
    many: usize,
    class: i64,
    organization: &'a str,
    plugin: &'a str,
    priority: i64,
    queue: &'a str,
    not_before: Option<Moment>,
}

const LOT: Lot<'static> = Lot {
    many: 1,
    class: 1,
    organization: "acme",
    plugin: "scan",
    priority: 2,
    queue: QUEUE,
    not_before: None,
};

impl House {
    async fn open(url: &str) -> House {
        let house = House {
            url: url.to_owned(),
            sql: {
                sqlx::any::install_default_drivers();
                let store = Store::open(url).await.expect("the address is right");
                store.migrate().await.expect("the schema is made");
                store.close().await;
                AnyPool::connect(url).await.expect("connected")
            },
        };
        house
            .execute(
                "INSERT INTO run (id, schedule_id, schedule, schedule_revision, organization, cause, scheduled_for, \
                 created_at, state, occasion, total, succeeded, failed, cancelled, refused) \
                 VALUES ('run', 's', 's', 1, 'acme', 'event', 0, 0, 'running', '{}', 1000000, 0, 0, 0, '{}')",
            )
            .await;
        house
    }

    async fn execute(&self, sql: &str) -> u64 {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&self.sql)
            .await;
        done.expect("executed").rows_affected()
    }

    async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.sql)
            .await
            .expect("counted")
    }

    /// Another replica: a store of its own on the same database.
    async fn replica(&self) -> Store {
        Store::open(&self.url).await.expect("the address is right")
    }

    /// Queues tasks whose ids rise with `first`; the instant of their making does so too.
    async fn queue(&self, first: usize, lot: &Lot<'_>) {
        let numbers = if self.url.starts_with("sqlite") {
            "(WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {last}) SELECT n FROM n) AS s"
        } else {
            "generate_series(0, {last}) AS s(n)"
        };
        let numbers = numbers.replace("{last}", &(lot.many - 1).to_string());
        let made = at(0).micros();
        let not_before = lot
            .not_before
            .map_or("NULL".to_owned(), |at| at.micros().to_string());
        let sql = format!(
            "INSERT INTO task (id, run_id, organization, plugin_id, worker_type, queue, state, class, priority, rank, \
             cause, created_at, scheduled_for, not_before, expires_at, attempt, spent, inputs, parameters) \
             SELECT 't' || CAST({base} + n AS text), 'run', '{org}', '{plugin}', 'scanner', '{queue}', 'queued', \
             {class}, {priority}, {made} + {first} + n, 'event', {made} + {first} + n, 0, {not_before}, 9000000000000000, \
             0, 0, '[]', '{{}}' FROM {numbers}",
            base = 10_000_000 + first,
            org = lot.organization,
            plugin = lot.plugin,
            queue = lot.queue,
            class = lot.class,
            priority = lot.priority,
        );
        assert_eq!(self.execute(&sql).await, lot.many as u64);
    }

    /// Their workers accept them, or they end.
    async fn becomes(&self, tasks: &[Claimed], state: &str) {
        for chunk in tasks.chunks(500) {
            let ids: Vec<String> = chunk.iter().map(|t| format!("'{}'", t.task_id)).collect();
            let sql = format!(
                "UPDATE task SET state = '{state}' WHERE id IN ({})",
                ids.join(", ")
            );
            self.execute(&sql).await;
            let sql = format!(
                "UPDATE attempt SET claimed_until = NULL WHERE task_id IN ({})",
                ids.join(", ")
            );
            self.execute(&sql).await;
        }
    }

    async fn in_state(&self, state: &str) -> i64 {
        self.count(&format!(
            "SELECT count(*) FROM task WHERE state = '{state}'"
        ))
        .await
    }

    async fn under_way(&self) -> i64 {
        self.count("SELECT count(*) FROM task WHERE state IN ('dispatched', 'running')")
            .await
    }
}

fn declared(text: &str) -> Vec<Edit> {
    let rules = Rules::default();
    let (declared, complaints) =
        read_file("test.yaml", text.as_bytes(), &Variables::default(), &rules);
    assert!(complaints.is_empty(), "{complaints:?}");
    declared
        .into_iter()
        .map(|entry| Edit::Put {
            kind: entry.kind,
            organization: entry.organization,
            id: format!("id-{}", entry.name),
            name: entry.name,
            definition: entry.definition,
        })
        .collect()
}

/// What is declared, as a replica knows it.
async fn catalogue(store: &Store, text: &str) -> Arc<Catalogue> {
    let ground = ground(store, Rank::Fifo);
    let revision = store.catalogue_revision().await.expect("a revision");
    let applied = store.apply(&declared(text), revision, at(0)).await;
    assert_ne!(applied.expect("applied"), Applied::Stale);
    ground.load_catalogue().await.expect("a catalogue")
}

fn ground(store: &Store, rank: Rank) -> Ground {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let mut worker = WorkerSettings::for_type("scanner");
    worker.rank = rank;
    let rules = Rules {
        workers: BTreeMap::from([("scanner".to_owned(), worker)]),
        open_organizations: true,
        ..Rules::default()
    };
    let intakes = vec![IntakeRule {
        queue: "muster.events".to_owned(),
        order: Order::Time,
        format: Format::CloudEvents,
    }];
    let ground = Ground::new(
        store.clone(),
        Arc::new(rules),
        intakes,
        // No two make the same ids.
        SEED.fetch_add(1, Relaxed),
        CancellationToken::new(),
    );
    ground.clock.fix(at(0));
    ground
}

async fn claim(store: &Store, ask: &Ask<'_>, now: Moment) -> Claims {
    let lease = now.plus(Span::seconds(30));
    store.claim_turns(ask, now, lease).await.expect("a claim")
}

fn of_organization(tasks: &[Claimed], organization: &str) -> usize {
    tasks
        .iter()
        .filter(|task| task.organization == organization)
        .count()
}

fn ids(tasks: &[Claimed]) -> Vec<&str> {
    tasks.iter().map(|task| task.task_id.as_str()).collect()
}

async fn ten_of_another_organization_pass_a_hundred_thousand_within_a_window_and_their_share(
    house: House,
) {
    let store = house.replica().await;
    house
        .queue(
            0,
            &Lot {
                many: 100_000,
                organization: "large",
                ..LOT
            },
        )
        .await;
    let ask = Ask {
        credit: Some(64),
        lower_class_every: 16,
        ..Ask::of(QUEUE, 500)
    };
    let window = claim(&store, &ask, at(1)).await.tasks;
    assert_eq!(
        of_organization(&window, "large"),
        64,
        "the window is theirs"
    );
    house
        .queue(
            100_000,
            &Lot {
                many: 10,
                organization: "small",
                ..LOT
            },
        )
        .await;
    assert!(
        claim(&store, &ask, at(2)).await.tasks.is_empty(),
        "no credit is left"
    );
    let mut went = Vec::new();
    let mut accepted = window;
    // Workers accept seven at a time.
    while of_organization(&went, "small") < 10 {
        let now: Vec<Claimed> = accepted.drain(..7).collect();
        house.becomes(&now, "running").await;
        let next = claim(&store, &ask, at(3)).await.tasks;
        assert_eq!(next.len(), 7, "as much as there is credit for");
        accepted.extend(next.clone());
        went.extend(next);
    }
    let last = went.iter().rposition(|task| task.organization == "small");
    // Turns alternate, so ten of them need twenty.
    assert!(last.expect("the last of the ten") < 20, "{last:?}");
}

async fn the_lowest_class_gets_one_of_sixteen_under_a_flood_of_the_highest_and_its_oldest_first(
    house: House,
) {
    let store = house.replica().await;
    house
        .queue(
            0,
            &Lot {
                many: 100,
                class: 2,
                organization: "patient",
                priority: 9,
                ..LOT
            },
        )
        .await;
    house
        .queue(
            1000,
            &Lot {
                many: 100,
                class: 2,
                organization: "patient",
                priority: 1,
                ..LOT
            },
        )
        .await;
    house
        .queue(
            2000,
            &Lot {
                many: 3000,
                class: 0,
                ..LOT
            },
        )
        .await;
    let ask = Ask {
        lower_class_every: 16,
        ..Ask::of(QUEUE, 100)
    };
    let mut went = Vec::new();
    for round in 0..16 {
        went.extend(claim(&store, &ask, at(round)).await.tasks);
    }
    assert_eq!(went.len(), 1600);
    let lower: Vec<usize> = (0..went.len())
        .filter(|n| went[*n].organization == "patient")
        .collect();
    let expected: Vec<usize> = (0..100).map(|n| n * 16 + 15).collect();
    assert_eq!(lower, expected);
    let served: Vec<&str> = lower.iter().map(|n| went[*n].task_id.as_str()).collect();
    assert!(
        served.is_sorted(),
        "the oldest first, whatever its priority"
    );
    assert_eq!(served[0], "t10000000");
}

async fn more_organizations_than_one_look_sees_all_get_their_turn(house: House) {
    let store = house.replica().await;
    for number in 0..700 {
        let organization = format!("o{number:03}");
        let lot = Lot {
            many: 3,
            organization: &organization,
            ..LOT
        };
        house.queue(number * 10, &lot).await;
    }
    let ask = Ask::of(QUEUE, 64);
    let mut served: HashMap<String, usize> = HashMap::new();
    let mut total = 0;
    while total < 2100 {
        let tasks = claim(&store, &ask, at(1)).await.tasks;
        assert!(!tasks.is_empty(), "{total} of 2100 went");
        for task in tasks {
            total += 1;
            let before = served.entry(task.organization).or_default();
            *before += 1;
            let most = *before;
            let least = if served.len() < 700 {
                0
            } else {
                *served.values().min().unwrap_or(&0)
            };
            assert!(
                most <= least + 1,
                "somebody went {most} times and somebody {least} times"
            );
        }
    }
    assert_eq!(house.in_state("queued").await, 0);
}

async fn weights_are_shares(house: House) {
    let store = house.replica().await;
    let known = catalogue(
        &store,
        "- {kind: organization, id: one}\n- {kind: organization, id: three, weight: 3}\n",
    )
    .await;
    for (first, organization) in [(0, "one"), (1000, "three")] {
        house
            .queue(
                first,
                &Lot {
                    many: 500,
                    organization,
                    ..LOT
                },
            )
            .await;
    }
    let ask = Ask {
        catalogue: Some(&known),
        ..Ask::of(QUEUE, 10)
    };
    let mut went = Vec::new();
    for _ in 0..40 {
        went.extend(claim(&store, &ask, at(1)).await.tasks);
    }
    assert_eq!((went.len(), of_organization(&went, "three")), (400, 300));
}

const RATED: &str = "- {kind: organization, id: acme}\n\
    - {kind: plugin, plugin_id: scan, worker_type: scanner, limits: {rate: 10/s}}\n";

async fn three_replicas_keep_a_rate_over_a_minute(house: House) {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(house.replica().await);
    }
    let known = catalogue(&replicas[0], RATED).await;
    house.queue(0, &Lot { many: 2000, ..LOT }).await;
    let ask = Ask {
        catalogue: Some(&known),
        ..Ask::of(QUEUE, 500)
    };
    let mut went: Vec<i64> = Vec::new();
    for step in 0..600 {
        let ms = step * 100;
        // Now one of them looks, and now all at once.
        let looks = if step % 5 == 0 { 3 } else { 1 };
        let asked = replicas
            .iter()
            .cycle()
            .skip(usize::try_from(step % 3).expect("small"))
            .take(looks)
            .map(|replica| claim(replica, &ask, at(ms)));
        for claims in futures::future::join_all(asked).await {
            went.extend(claims.tasks.iter().map(|_| ms));
            house.becomes(&claims.tasks, "succeeded").await;
            let next = claims.next.expect("the rate holds the others back");
            assert!(next.since(at(ms)) <= Span::seconds(1), "{next}");
        }
    }
    assert!(
        (540..=660).contains(&went.len()),
        "{} in a minute",
        went.len()
    );
    let busiest = went
        .iter()
        .map(|from| {
            went.iter()
                .filter(|ms| (*from..from + 1000).contains(*ms))
                .count()
        })
        .max();
    assert!(busiest <= Some(15), "{busiest:?} in one second");
}

async fn no_more_than_a_second_of_a_rate_waits_for_somebody_to_accept_it(house: House) {
    let store = house.replica().await;
    let known = catalogue(&store, RATED).await;
    house.queue(0, &Lot { many: 100, ..LOT }).await;
    let ask = Ask {
        catalogue: Some(&known),
        ..Ask::of(QUEUE, 500)
    };
    let mut offered = Vec::new();
    for second in 0..20 {
        offered.extend(claim(&store, &ask, at(second * 1000)).await.tasks);
    }
    assert_eq!(offered.len(), 10);
    house.becomes(&offered[..4], "running").await;
    let more = claim(&store, &ask, at(30_000)).await.tasks;
    assert_eq!(more.len(), 4, "as many as were accepted");
}

async fn replicas_at_once_keep_a_concurrency_that_spans_two_queues(house: House) {
    let (one, two) = (house.replica().await, house.replica().await);
    let known = catalogue(
        &one,
        "- {kind: organization, id: acme, limits: {concurrency: 5, per: organization}}\n\
         - {kind: organization, id: other}\n\
         - {kind: plugin, plugin_id: scan, worker_type: scanner}\n\
         - {kind: plugin, plugin_id: read, worker_type: reader}\n",
    )
    .await;
    house.queue(0, &Lot { many: 200, ..LOT }).await;
    house
        .queue(
            1000,
            &Lot {
                many: 200,
                plugin: "read",
                queue: "muster.tasks.reader",
                ..LOT
            },
        )
        .await;
    house
        .queue(
            2000,
            &Lot {
                many: 3,
                organization: "other",
                ..LOT
            },
        )
        .await;
    let scanner = Ask {
        catalogue: Some(&known),
        ..Ask::of(QUEUE, 7)
    };
    let reader = Ask {
        queue: "muster.tasks.reader",
        ..scanner
    };
    let mut done = 0;
    for round in 0..30 {
        let (a, b, c) = tokio::join!(
            claim(&one, &scanner, at(round)),
            claim(&two, &scanner, at(round)),
            claim(&two, &reader, at(round)),
        );
        let acme = house
            .count("SELECT count(*) FROM task WHERE organization = 'acme' AND state IN ('dispatched', 'running')")
            .await;
        assert_eq!(acme, 5, "in round {round}");
        let all: Vec<Claimed> = [a.tasks, b.tasks, c.tasks].concat();
        done += all.len();
        // Half of them end, the others are at work until the next round.
        let (ends, goes_on) = all.split_at(all.len() / 2);
        house.becomes(goes_on, "running").await;
        house.becomes(ends, "succeeded").await;
        if round % 2 == 1 {
            house
                .execute("UPDATE task SET state = 'succeeded' WHERE state = 'running'")
                .await;
        }
        if ends.is_empty() && round % 2 == 0 {
            house
                .execute("UPDATE task SET state = 'succeeded' WHERE state = 'dispatched' AND id = (SELECT min(id) FROM task WHERE state = 'dispatched')")
                .await;
        }
    }
    assert!(done > 60, "{done} went in all");
    assert_eq!(
        of_organization_in(&house, "other").await,
        0,
        "others were not held up"
    );
}

async fn of_organization_in(house: &House, organization: &str) -> i64 {
    house
        .count(&format!(
            "SELECT count(*) FROM task WHERE state = 'queued' AND organization = '{organization}'"
        ))
        .await
}

async fn a_limit_that_is_declared_later_counts_what_is_under_way(house: House) {
    let store = house.replica().await;
    let before = catalogue(
        &store,
        "- {kind: organization, id: acme}\n- {kind: plugin, plugin_id: scan, worker_type: scanner}\n",
    )
    .await;
    house.queue(0, &Lot { many: 50, ..LOT }).await;
    let ask = Ask {
        catalogue: Some(&before),
        ..Ask::of(QUEUE, 10)
    };
    let under_way = claim(&store, &ask, at(0)).await.tasks;
    house.becomes(&under_way[..6], "running").await;
    let after = catalogue(
        &store,
        "- {kind: plugin, plugin_id: scan, worker_type: scanner, limits: {concurrency: 8}}\n",
    )
    .await;
    let ask = Ask {
        catalogue: Some(&after),
        ..Ask::of(QUEUE, 10)
    };
    assert!(claim(&store, &ask, at(1)).await.tasks.is_empty());
    house.becomes(&under_way[..5], "succeeded").await;
    assert_eq!(claim(&store, &ask, at(2)).await.tasks.len(), 3);
    assert_eq!(house.under_way().await, 8);
}

async fn what_is_limited_holds_up_nobody(house: House) {
    let store = house.replica().await;
    let known = catalogue(
        &store,
        "- {kind: organization, id: acme}\n- {kind: organization, id: other}\n\
         - {kind: plugin, plugin_id: scan, worker_type: scanner, limits: [{concurrency: 3, per: both}]}\n\
         - {kind: plugin, plugin_id: quick, worker_type: scanner}\n",
    )
    .await;
    house
        .queue(
            0,
            &Lot {
                many: 5000,
                priority: 1,
                ..LOT
            },
        )
        .await;
    house
        .queue(
            5000,
            &Lot {
                many: 20,
                plugin: "quick",
                priority: 9,
                ..LOT
            },
        )
        .await;
    house
        .queue(
            6000,
            &Lot {
                many: 20,
                organization: "other",
                class: 2,
                ..LOT
            },
        )
        .await;
    let ask = Ask {
        catalogue: Some(&known),
        lower_class_every: 16,
        ..Ask::of(QUEUE, 500)
    };
    let went = claim(&store, &ask, at(0)).await.tasks;
    let of = |organization: &str, plugin: &str| {
        let these = went.iter().filter(|t| t.organization == organization);
        these.filter(|t| t.plugin_id == plugin).count()
    };
    assert_eq!(
        (of("acme", "scan"), of("acme", "quick"), of("other", "scan")),
        (3, 20, 3)
    );
}

async fn replicas_at_once_spend_a_credit_once_and_what_is_accepted_frees_it(house: House) {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(house.replica().await);
    }
    house.queue(0, &Lot { many: 1000, ..LOT }).await;
    let ask = Ask {
        credit: Some(20),
        ..Ask::of(QUEUE, 500)
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for round in 0..20 {
        let (a, b, c) = tokio::join!(
            claim(&replicas[0], &ask, at(round)),
            claim(&replicas[1], &ask, at(round)),
            claim(&replicas[2], &ask, at(round)),
        );
        let all: Vec<Claimed> = [a.tasks, b.tasks, c.tasks].concat();
        for task in &all {
            assert!(seen.insert(task.task_id.clone()), "claimed twice");
        }
        assert_eq!(house.in_state("dispatched").await, 20, "in round {round}");
        let accepted = &all[..all.len().min(10)];
        house.becomes(accepted, "running").await;
    }
    assert_eq!(seen.len(), 20 + 19 * 10);
}

async fn where_the_confirm_is_the_acceptance_credit_is_held_until_the_end(house: House) {
    let store = house.replica().await;
    house.queue(0, &Lot { many: 50, ..LOT }).await;
    let ask = Ask {
        credit: Some(8),
        until_end: true,
        ..Ask::of(QUEUE, 500)
    };
    let first = claim(&store, &ask, at(0)).await.tasks;
    house.becomes(&first, "running").await;
    assert!(claim(&store, &ask, at(1)).await.tasks.is_empty());
    house.becomes(&first[..3], "succeeded").await;
    assert_eq!(claim(&store, &ask, at(2)).await.tasks.len(), 3);
}

async fn what_a_killed_replica_claimed_counts_and_is_offered_again_with_its_number(house: House) {
    let (killed, other) = (house.replica().await, house.replica().await);
    let known = catalogue(
        &other,
        "- {kind: organization, id: acme}\n\
         - {kind: plugin, plugin_id: scan, worker_type: scanner, limits: {concurrency: 9}}\n",
    )
    .await;
    house.queue(0, &Lot { many: 50, ..LOT }).await;
    let ask = Ask {
        credit: Some(8),
        catalogue: Some(&known),
        ..Ask::of(QUEUE, 500)
    };
    let lost = claim(&killed, &ask, at(0)).await.tasks;
    assert_eq!(lost.len(), 8);
    // It dies before it publishes.
    killed.close().await;
    assert!(
        claim(&other, &ask, at(29_000)).await.tasks.is_empty(),
        "the credit is spent"
    );
    let limited = Ask {
        credit: None,
        ..ask
    };
    let one = claim(&other, &limited, at(29_000)).await.tasks;
    assert_eq!(one.len(), 1, "and of the limit one is left");
    let again = |ms: i64| other.claim_again(500, at(ms), at(ms + 30_000));
    assert!(
        again(29_999).await.expect("an answer").is_empty(),
        "the lease is not over"
    );
    let mut taken = again(30_001).await.expect("an answer");
    taken.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    assert_eq!(ids(&taken), ids(&lost));
    assert!(
        taken.iter().all(|task| task.attempt == 1),
        "the same number"
    );
    assert!(
        claim(&other, &limited, at(30_002)).await.tasks.is_empty(),
        "they count once"
    );
}

async fn a_paused_queue_offers_nothing_and_tells_who_paused_it(house: House) {
    let store = house.replica().await;
    house
        .queue(
            0,
            &Lot {
                many: 5,
                class: 0,
                ..LOT
            },
        )
        .await;
    house
        .queue(
            10,
            &Lot {
                many: 7,
                class: 2,
                ..LOT
            },
        )
        .await;
    let ask = Ask::of(QUEUE, 4);
    assert_eq!(claim(&store, &ask, at(0)).await.tasks.len(), 4);
    let pause = Pause {
        reason: "the scanned network is down".to_owned(),
        who: "ada".to_owned(),
        at: at(1),
    };
    let other = Pause {
        who: "bob".to_owned(),
        ..pause.clone()
    };
    assert!(store.pause_queue(QUEUE, &pause).await.expect("paused"));
    assert!(
        !store.pause_queue(QUEUE, &other).await.expect("an answer"),
        "paused already"
    );
    assert!(claim(&store, &ask, at(2)).await.tasks.is_empty());
    let seen = store.queues(None).await.expect("queues");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].paused, Some(pause));
    let depths: Vec<(i64, i64)> = seen[0].waiting.iter().map(|(c, d)| (*c, d.many)).collect();
    assert_eq!((depths, seen[0].dispatched), (vec![(0, 1), (2, 7)], 4));
    assert_eq!(
        seen[0].waiting[&2].oldest,
        Moment::from_micros(at(0).micros() + 10)
    );
    assert!(store.resume_queue(QUEUE).await.expect("resumed"));
    assert!(
        !store.resume_queue(QUEUE).await.expect("an answer"),
        "it was not paused"
    );
    assert_eq!(claim(&store, &ask, at(3)).await.tasks.len(), 4);
}

async fn priority_goes_before_rank_and_rank_before_the_instant_of_making(house: House) {
    let store = house.replica().await;
    for (number, priority, rank) in [(0, 5, 9), (1, 5, 3), (2, 1, 7), (3, 5, 3), (4, 0, 9)] {
        // Two plugins: one organisation's order is over all of them.
        let plugin = ["scan", "read"][number % 2];
        house
            .queue(
                number,
                &Lot {
                    priority,
                    plugin,
                    ..LOT
                },
            )
            .await;
        let id = 10_000_000 + number;
        let sql = format!("UPDATE task SET rank = {rank} WHERE id = 't{id}'");
        house.execute(&sql).await;
    }
    let mut went = Vec::new();
    for _ in 0..3 {
        went.extend(claim(&store, &Ask::of(QUEUE, 2), at(0)).await.tasks);
    }
    assert_eq!(
        ids(&went),
        [
            "t10000004",
            "t10000002",
            "t10000001",
            "t10000003",
            "t10000000"
        ]
    );
}

async fn the_strategy_of_the_settings_is_stored_with_the_task(house: House) {
    let store = house.replica().await;
    let known = "- {kind: organization, id: acme}\n\
        - {kind: plugin, plugin_id: slow, worker_type: scanner, consumes: [hostname], timeouts: {task: 7d}}\n\
        - {kind: plugin, plugin_id: urgent, worker_type: scanner, consumes: [hostname], timeouts: {task: 1d}}\n\
        - {name: slow, run_on: hostname, operation: [created, updated], when: \"name = 'slow'\", plugins: \"plugin_id = 'slow'\", grace: 1h}\n\
        - {name: urgent, run_on: hostname, operation: [created, updated], when: \"name = 'urgent'\", plugins: \"plugin_id = 'urgent'\", grace: 1h}\n";
    catalogue(&store, known).await;
    let tell = async |ground: &Ground, key: &str, plugin: &str, tag: i64| {
        let event = json!({
            "specversion": "1.0", "id": format!("{key}-{plugin}-{tag}"), "source": "/t", "type": "object.updated",
            "time": ground.clock.now().to_string(),
            "data": {"organization": "acme", "object_type": "hostname", "primary_key": key,
                     "attributes": {"name": plugin, "tag": tag}, "scan_level": 2},
        });
        let incoming = Incoming {
            queue: "muster.events".to_owned(),
            body: event.to_string().into_bytes(),
            ..Incoming::default()
        };
        let handled = handle(ground, &[incoming]).await.expect("handled");
        assert!(handled.dead.is_empty(), "{:?}", handled.dead);
        assert_eq!(handled.tasks, 1);
    };
    let went = async |rank: Rank| {
        let ground = ground(&store, rank);
        ground.load_catalogue().await.expect("a catalogue");
        let word = format!("{rank:?}");
        tell(&ground, &format!("{word}-1"), "slow", 1).await;
        ground.clock.fix(at(60_000));
        tell(&ground, &format!("{word}-2"), "urgent", 1).await;
        let tasks = claim(&store, &Ask::of(QUEUE, 9), at(60_000)).await.tasks;
        let plugins: Vec<String> = tasks.into_iter().map(|task| task.plugin_id).collect();
        plugins
    };
    assert_eq!(went(Rank::Fifo).await, ["slow", "urgent"]);
    assert_eq!(went(Rank::Deadline).await, ["urgent", "slow"]);
    // What ran an hour and a day ago goes before what ran an hour ago, and what never ran before both.
    let ground = ground(&store, Rank::Age);
    ground.load_catalogue().await.expect("a catalogue");
    let minute = 60_000;
    for (ms, key) in [(0, "long-ago"), (1440 * minute, "of-late")] {
        ground.clock.fix(at(ms));
        tell(&ground, key, "slow", 1).await;
        let tasks = claim(&store, &Ask::of(QUEUE, 9), at(ms)).await.tasks;
        assert_eq!(tasks.len(), 1);
        let said = json!({"task_id": tasks[0].task_id, "attempt": 1, "worker": "w", "status": "succeeded",
                          "at": at(ms).to_string()});
        let status = Incoming {
            status: true,
            body: said.to_string().into_bytes(),
            ..Incoming::default()
        };
        handle(&ground, &[status]).await.expect("handled");
    }
    ground.clock.fix(at(1500 * minute));
    for key in ["of-late", "long-ago", "never"] {
        tell(&ground, key, "slow", 2).await;
    }
    let tasks = claim(&store, &Ask::of(QUEUE, 9), at(1500 * minute))
        .await
        .tasks;
    let keys: Vec<&str> = tasks
        .iter()
        .map(|t| t.inputs[0].primary_key.as_str())
        .collect();
    assert_eq!(keys, ["never", "long-ago", "of-late"]);
}

async fn what_waits_for_an_instant_goes_when_it_has_come_and_is_in_nobodys_way(house: House) {
    let store = house.replica().await;
    house
        .queue(
            0,
            &Lot {
                many: 2500,
                priority: 0,
                not_before: Some(at(60_000)),
                ..LOT
            },
        )
        .await;
    house.queue(9000, &Lot { many: 3, ..LOT }).await;
    let ask = Ask::of(QUEUE, 2000);
    let busy = async |ms: i64| {
        let queues = [QUEUE].into_iter();
        let (busy, _) = store.busy(queues, at(ms)).await.expect("an answer");
        let told: Vec<(String, bool)> = busy.into_iter().map(|b| (b.queue, b.ripe)).collect();
        told
    };
    assert_eq!(claim(&store, &ask, at(59_999)).await.tasks.len(), 3);
    assert!(busy(59_999).await.is_empty());
    assert_eq!(busy(60_000).await, [(QUEUE.to_owned(), true)]);
    let first = claim(&store, &ask, at(60_000)).await;
    assert_eq!((first.tasks.len(), first.more), (1000, true));
    let mut rest = 0;
    for _ in 0..2 {
        rest += claim(&store, &ask, at(60_000)).await.tasks.len();
    }
    assert_eq!(rest, 1500);
}
