//! The query language on stored objects: databases narrow, and never leave out what the judge accepts.

use std::collections::{BTreeMap, BTreeSet};

use muster::catalogue::{Keys, Missing};
use muster::ground::judged;
use muster::moment::Moment;
use muster::object::{Change, Level, Object, Rank, Told, Word};
use muster::query::narrow::{Bound, Dialect, Narrow, narrow};
use muster::query::{Context, Facts, Fields, Nowhere, Query, Types, World, print};
use muster::store::{Commit, Committed, Older, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::generated::{asked, compile, object, rendered, rounds, small_query};
use crate::related::{Stored, inventory, name, related_query, types};
use crate::{House, at, key};

const OBJECTS: usize = 50;
const QUERIES: usize = 200;

fn some<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("generated").current()
}

/// The object is there, with these attributes.
fn is(object_type: &str, primary_key: &str, number: i64, attributes: Map<String, Value>) -> Told {
    let level = attributes.get("scan_level").and_then(Value::as_u64);
    Told {
        event_id: None,
        event_type: "object.created".to_owned(),
        at: at(number),
        traceparent: None,
        change: Change {
            key: key(primary_key),
            object_type: Some(object_type.to_owned()),
            rank: Rank {
                number,
                event_id: String::new(),
            },
            word: Word::Object {
                created: true,
                attributes: Some(attributes),
                level: level.map(|level| Level {
                    level: u8::try_from(level).expect("a level"),
                    profile_type: Some("declared".to_owned()),
                }),
            },
            create_counts: false,
        },
    }
}

async fn store(house: &House, told: &[Told], seed: u64) {
    let decided = house.decide(told, seed).await;
    assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
}

async fn stored(house: &House, object_type: &str, narrowed: &Narrow) -> Vec<Object> {
    house
        .store
        .objects_after("acme", object_type, "", 10_000, narrowed)
        .await
        .unwrap_or_else(|error| panic!("{narrowed:?}: {error}"))
}

/// How many rows the judge accepted and how many the database left out; all of the former were let through.
async fn tried(house: &House, all: &[Object], query: &Query, facts: Facts<'_>) -> (usize, usize) {
    let Some(first) = all.first() else {
        return (0, 0);
    };
    let narrowed = narrow(query, &facts);
    let accepted: Vec<&Object> = all
        .iter()
        .filter(|object| {
            let subject: &dyn Fields = *object;
            query.answers(&Facts { subject, ..facts }) == Ok(true)
        })
        .collect();
    let through = stored(house, &first.object_type, &narrowed).await;
    for object in &accepted {
        assert!(
            through.contains(object),
            "{}\n{narrowed:?}\n{object:?}",
            query.text()
        );
    }
    (accepted.len(), all.len() - through.len())
}

pub async fn whatever_is_accepted_is_let_through(house: House) {
    let mut runner = TestRunner::deterministic();
    let (objects, queries, asks) = (object(), small_query(), asked());
    let (mut accepted, mut left_out) = (0, 0);
    for round in 1..=i64::from(rounds(8)) {
        let told: Vec<Told> = (0..OBJECTS)
            .map(|number| {
                let mut attributes = some(&objects, &mut runner);
                attributes.insert("scan_level".to_owned(), (number % 5).into());
                is("thing", &format!("thing|{number}"), round, attributes)
            })
            .collect();
        store(&house, &told, round.unsigned_abs()).await;
        let all = stored(&house, "thing", &Narrow::Everything).await;
        assert_eq!(all.len(), OBJECTS);
        for _ in 0..QUERIES {
            let query = compile(&print::canonical(&some(&queries, &mut runner)));
            let asked = some(&asks, &mut runner);
            let (these, those) = tried(&house, &all, &query, asked.facts()).await;
            accepted += these;
            left_out += those;
        }
    }
    // Neither is the law tried on nothing, nor does the database find all.
    assert!(
        accepted > 1_000 && left_out > 1_000,
        "{accepted}, {left_out}"
    );
}

/// And the judge finds on the store what it finds in memory.
pub async fn whatever_is_accepted_for_its_relations_is_let_through(house: House) {
    let mut runner = TestRunner::deterministic();
    let (inventories, queries, names) = (inventory(), related_query(), name());
    let types = types();
    let schema = types.schema("T");
    let nothing = Map::new();
    let catalogue = house.catalogue().await;
    let (mut accepted, mut left_out) = (0, 0);
    for round in 1..=i64::from(rounds(40)) {
        let told: Vec<Told> = some(&inventories, &mut runner)
            .objects
            .into_iter()
            .map(|object| {
                let text = |field: &str| object[field].as_str().expect("a text").to_owned();
                is(&text("object_type"), &text("primary_key"), round, object)
            })
            .collect();
        store(&house, &told, round.unsigned_abs()).await;
        let all = stored(&house, "T", &Narrow::Everything).await;
        let others = stored(&house, "U", &Narrow::Everything).await;
        let world = Stored {
            objects: all.iter().chain(&others).map(Object::snapshot).collect(),
        };
        for _ in 0..QUERIES / 5 {
            let text = some(&queries, &mut runner);
            let context = Context {
                trigger: Some(&schema),
                ..Context::new("query", &schema)
            };
            let query = Query::compile(&text, &context)
                .unwrap_or_else(|found| panic!("{}", rendered(&found)));
            let trigger = Map::from_iter([("name".to_owned(), some(&names, &mut runner))]);
            let facts = Facts {
                subject: &nothing,
                trigger: Some(&trigger as &dyn Fields),
                previous: None,
                parameters: &nothing,
                now: Moment::EPOCH,
                world: &world as &dyn World,
            };
            let (these, those) = tried(&house, &all, &query, facts).await;
            accepted += these;
            left_out += those;
            let ask = |object: &Object, world: &dyn World| {
                query.answers(&Facts {
                    subject: object,
                    trigger: Some(&trigger),
                    previous: None,
                    parameters: &nothing,
                    now: Moment::EPOCH,
                    world,
                })
            };
            let (taken, costly) =
                judged(&house.store, &catalogue, "acme", at(100), all.clone(), ask)
                    .await
                    .expect("judged");
            let expected: Vec<&Object> = all
                .iter()
                .filter(|object| ask(object, &world) == Ok(true))
                .collect();
            assert_eq!(taken.iter().collect::<Vec<_>>(), expected, "{text}");
            assert_eq!(costly, 0);
        }
    }
    assert!(
        accepted > 1_000 && left_out > 1_000,
        "{accepted}, {left_out}"
    );
}

pub async fn versions_are_kept_only_of_types_whose_history_is_asked_for_and_forgotten_by_age(
    house: House,
) {
    house
        .declare(
            "- {name: asks, run_on: hostname, operation: created, plugins: 'True', input: {thing: 'ever(a = 1)'}}",
        )
        .await;
    let attributes = |a: i64| Map::from_iter([("a".to_owned(), Value::from(a))]);
    for object_type in ["thing", "other"] {
        let told: Vec<Told> = [1, 2, 2, 3]
            .into_iter()
            .zip(1..)
            .map(|(a, number)| is(object_type, object_type, number, attributes(a)))
            .collect();
        store(&house, &told, 1).await;
    }
    let missing = Missing {
        histories: ["thing", "other"].map(str::to_owned).into(),
        ..Missing::default()
    };
    let look = async || {
        let found = house
            .store
            .look_up("acme", &missing, &Keys::new(), at(300))
            .await
            .expect("looked up");
        let mut histories = found.histories;
        let things = histories.remove("thing").unwrap_or_default();
        assert!(histories.is_empty(), "of the other type nothing is kept");
        things
    };
    // What did not change anything is no version.
    let things = look().await;
    let seen: Vec<i64> = things
        .iter()
        .map(|past| past.object.attributes["a"].as_i64().expect("a number"))
        .collect();
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(things[0].from, at(100));
    assert_eq!(things[0].until, Some(things[1].from));
    assert_eq!(things[1].until, Some(things[2].from));
    assert_eq!(things[2].until, None);
    for (versions, left) in [(at(99), 3), (at(101), 1)] {
        let older = Older {
            events: at(0),
            tombstones: at(0),
            versions,
            ..Older::default()
        };
        house
            .store
            .forget(&older, at(300), 100)
            .await
            .expect("forgotten");
        assert_eq!(look().await.len(), left);
    }
}

/// Two decisions that looked at other objects of an organisation do not both stand: the second is made again.
pub async fn of_two_decisions_that_rest_on_other_objects_one_is_made_again(house: House) {
    let rests = |organization: &str, mark: i64| BTreeMap::from([(organization.to_owned(), mark)]);
    let revision = house.store.catalogue_revision().await.expect("a revision");
    let commit = async |rests: &BTreeMap<String, i64>| {
        let commit = Commit {
            rests,
            ..Commit::empty(at(1), revision)
        };
        house.store.commit(&commit).await.expect("it answers")
    };
    let mark = house.store.resting("acme").await.expect("a mark");
    assert_eq!(commit(&rests("acme", mark)).await, Committed::Done);
    let stale = Committed::Stale("other objects");
    assert_eq!(commit(&rests("acme", mark)).await, stale);
    assert_eq!(commit(&rests("other", mark)).await, Committed::Done);
    let mark = house.store.resting("acme").await.expect("a mark");
    assert_eq!(commit(&rests("acme", mark)).await, Committed::Done);
}

/// However many there are, and wherever the reads of the database end.
pub async fn a_reading_hands_out_each_object_once_in_the_order_of_the_keys(house: House) {
    const MANY: usize = 4_100;
    let told: Vec<Told> = (0..MANY)
        .map(|number| {
            let attributes = Map::from_iter([("a".to_owned(), Value::from(number % 2))]);
            is("thing", &format!("thing|{number:05}"), 1, attributes)
        })
        .collect();
    store(&house, &told, 1).await;
    for (text, expected) in [("True", MANY), ("a >= 0", MANY), ("a = 1", MANY / 2)] {
        let nothing = Object::default();
        let parameters = Map::new();
        let catalogue = house.catalogue().await;
        let facts = Facts {
            subject: &nothing,
            trigger: None,
            previous: None,
            parameters: &parameters,
            now: Moment::EPOCH,
            world: &catalogue,
        };
        let narrowed = narrow(&compile(text), &facts);
        let mut reading = house.store.reading("acme", "thing", "", narrowed.clone());
        let mut keys: Vec<String> = Vec::new();
        loop {
            let page = reading.page(500).await.expect("a page");
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 500);
            keys.extend(page.into_iter().map(|object| object.key.primary_key));
        }
        assert_eq!(keys.len(), expected, "{text}");
        assert!(keys.is_sorted_by(|a, b| a < b), "{text}");
    }
}

const FLAGSHIP: &str = "any(hostnames: name = trigger.name) and ever(any(ports: protocol = \"TCP\" and port in (3306, 5432)))";

/// Rows that the scans of a plan looked at.
fn looked_at(plan: &Value) -> f64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let kind = plan["Node Type"].as_str().unwrap_or("");
    let own = if kind.contains("Scan") {
        let rows = number("Actual Rows") + number("Rows Removed by Filter");
        (rows + number("Rows Removed by Index Recheck")) * number("Actual Loops")
    } else {
        0.0
    };
    let inner = plan["Plans"].as_array().into_iter().flatten();
    own + inner.map(looked_at).sum::<f64>()
}

/// How many rows the flagship looks at, with so many host names and as many addresses, and its plan.
async fn flagship(house: &House, hand: &mut PgConnection, many: i64) -> (f64, String) {
    for statement in [
        "TRUNCATE object".to_owned(),
        format!(
            "INSERT INTO object (organization, primary_key, object_type, attributes, scan_level, lifted, live, version) \
             SELECT 'acme', t || '|' || n, t, CASE t WHEN 'hostname' THEN jsonb_build_object('name', 'www' || n) ELSE \
             jsonb_build_object('hostnames', jsonb_build_array('hostname|' || n, 'hostname|' || (n + 1)), 'ports', \
             '[]'::jsonb, 'network', 'network|' || n % 50) END, 1, 1, 1, 1 \
             FROM generate_series(1, {many}) AS n, unnest(ARRAY['hostname', 'ip_address']) AS t"
        ),
        "VACUUM ANALYZE object".to_owned(),
        "SET plan_cache_mode = force_custom_plan".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *hand)
            .await
            .expect("done");
    }
    let mut types = Types::new();
    types
        .declare("hostname", &[("name", "text")])
        .expect("a type");
    let ports = "list({port = \"int\", protocol = \"text\"})";
    types
        .declare(
            "ip_address",
            &[("hostnames", "many(hostname)"), ("ports", ports)],
        )
        .expect("a type");
    let (schema, of_trigger) = (types.schema("ip_address"), types.schema("hostname"));
    let context = Context {
        trigger: Some(&of_trigger),
        ..Context::new("query", &schema)
    };
    let query = Query::compile(FLAGSHIP, &context).expect("the flagship");
    let (nothing, trigger) = (
        Map::new(),
        Map::from_iter([("name".to_owned(), Value::from("www7"))]),
    );
    let facts = Facts {
        subject: &nothing,
        trigger: Some(&trigger),
        previous: None,
        parameters: &nothing,
        now: Moment::EPOCH,
        world: &Nowhere,
    };
    let narrowed = narrow(&query, &facts);
    let found = stored_of(house, "ip_address", &narrowed).await;
    assert_eq!(found, ["ip_address|6", "ip_address|7"]);
    let sql = narrowed.render_within("acme", "ip_address", Dialect::Postgres, "o", 1);
    let text = format!(
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT o.primary_key FROM object o WHERE o.organization = 'acme' AND \
         o.object_type = 'ip_address' AND o.primary_key > '' AND o.live = 1 AND {} ORDER BY o.primary_key LIMIT 4000",
        sql.text
    );
    let mut statement = sqlx::query(AssertSqlSafe(text));
    for value in sql.values {
        statement = match value {
            Bound::Text(text) => statement.bind(text),
            Bound::Int(number) => statement.bind(number),
            Bound::Float(number) => statement.bind(number),
        };
    }
    let row = statement.fetch_one(&mut *hand).await.expect("a plan");
    let plan: String = row.try_get_unchecked(0).expect("a text");
    let tree: Value = serde_json::from_str(&plan).expect("JSON");
    (looked_at(&tree[0]["Plan"]), plan)
}

async fn stored_of(house: &House, object_type: &str, narrowed: &Narrow) -> Vec<String> {
    let found = stored(house, object_type, narrowed).await;
    let keys = found.into_iter().map(|object| object.key.primary_key);
    keys.collect()
}

/// On PostgreSQL; SQLite makes no such indexes.
pub async fn the_flagship_costs_what_it_finds_and_not_the_inventory(house: House) {
    if house.store.dialect() == muster::store::Dialect::Sqlite {
        let types = ["hostname".to_owned()].into();
        assert!(
            house
                .store
                .index_types(&types)
                .await
                .expect("done")
                .is_empty()
        );
        return;
    }
    let mut hand = PgConnection::connect(&house.url).await.expect("connected");
    let types: BTreeSet<String> = ["hostname", "ip_address"].map(str::to_owned).into();
    let made = house.store.index_types(&types).await.expect("made");
    assert_eq!(
        made,
        ["made the index of hostname", "made the index of ip_address"]
    );
    assert!(
        house
            .store
            .index_types(&types)
            .await
            .expect("there")
            .is_empty()
    );
    let (few, _) = flagship(&house, &mut hand, 1_000).await;
    let (many, plan) = flagship(&house, &mut hand, 50_000).await;
    assert!(plan.contains("object_of_hostname"), "{plan}");
    assert!(plan.contains("object_of_ip_address"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    println!("{few} rows of 2,000, {many} of 100,000");
    assert!(many <= few.max(50.0), "{many} rows, {few} of few\n{plan}");

    // What points to some keys: the same with the index and without.
    let missing = Missing {
        referrers: BTreeMap::from([
            (
                ("ip_address".to_owned(), "hostnames".to_owned()),
                ["hostname|7", "hostname|8"].map(str::to_owned).into(),
            ),
            (
                ("ip_address".to_owned(), "network".to_owned()),
                ["network|3"].map(str::to_owned).into(),
            ),
        ]),
        ..Missing::default()
    };
    let look = async || {
        let store = Store::open(&house.url).await.expect("the address");
        let here = Keys::new();
        let found = store.look_up("acme", &missing, &here, at(1)).await;
        let found = found.expect("found");
        store.close().await;
        let keys = |objects: Vec<Object>| -> Vec<String> {
            let keys = objects.into_iter().map(|object| object.key.primary_key);
            keys.collect()
        };
        found.referrers.into_values().map(keys).collect::<Vec<_>>()
    };
    let with = look().await;
    assert_eq!(with[0], ["ip_address|6", "ip_address|7", "ip_address|8"]);
    assert_eq!(with[1].len(), 1_000);
    let dropped = house.store.index_types(&BTreeSet::new()).await;
    assert_eq!(
        dropped.expect("dropped"),
        [
            "dropped the index of hostname",
            "dropped the index of ip_address"
        ]
    );
    assert_eq!(look().await, with);
}
