//! What the query language costs: reading queries, judging objects in memory, and a selective query over stored objects
//! beside hand-written SQL on the same PostgreSQL in the same run.
//!
//! Nothing here asserts a time; that both find the same objects it does assert.
//!
//! `cargo bench --bench language -- [--quick] [--objects N] [--rounds N]`

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use muster::catalogue::Catalogue;
use muster::ground::judged;
use muster::moment::Moment;
use muster::object::Object;
use muster::query::narrow::narrow;
use muster::query::{Context, Facts, Nowhere, Query, Schema, World};
use muster::store::Store;
use serde_json::{Map, Value, json};
use servers::Postgres;
use sqlx::{Connection, PgConnection, Row};

#[path = "../tests/support/servers.rs"]
mod servers;

const SELECTIVE: &str = "scan_level > 2 and name endswith '.nl'";
/// What somebody would write who knows the table.
const BY_HAND: &str = "SELECT primary_key, attributes::text FROM object WHERE organization = 'acme' \
     AND object_type = 'hostname' AND live = 1 AND scan_level > 2 AND right(lower(attributes ->> 'name'), 3) = '.nl'";
const QUERIES: usize = 10_000;
/// Rows that are looked at in one go, as an expansion does it.
const PAGE: usize = 500;

fn main() {
    let (mut objects, mut rounds) = (1_000_000_usize, 5_usize);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--quick" => (objects, rounds) = (50_000, 3),
            "--objects" => objects = number().expect("a number of objects"),
            "--rounds" => rounds = number().expect("a number of rounds"),
            _ => {}
        }
    }
    let parse = parse(rounds);
    println!(
        "Reading a query, names and types checked: {parse:.2} µs each, over {QUERIES} of them"
    );
    let judge = judge(objects, rounds);
    println!("Judging an object in memory: {judge:.3} µs each, over {objects} objects");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (ours, theirs, found) = runtime.block_on(stored(objects, rounds));
    let ratio = ours / theirs;
    println!("`{SELECTIVE}` over {objects} stored objects, {found} of which match:");
    println!(
        "  by muster {ours:.1} ms, by hand {theirs:.1} ms, medians of {rounds}; ratio {ratio:.2}"
    );
    println!(
        "RESULT objects={objects} parse_us={parse:.2} judge_us={judge:.3} found={found} muster_ms={ours:.1} \
         by_hand_ms={theirs:.1} ratio={ratio:.3}"
    );
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Microseconds for one query.
fn parse(rounds: usize) -> f64 {
    let schema = Schema::open("hostname");
    let texts: Vec<String> = (0..QUERIES)
        .map(|n| match n % 6 {
            0 => format!("scan_level > {} and name endswith '.nl'", n % 4),
            1 => format!("plugin_id in ('dns-{n}', 'nmap-{n}', 'rpki') and scan_level >= 1"),
            2 => format!("name = 'www{n}.example.com' or (root = True and not name ~ 'test{n}')"),
            3 => format!(
                "'{{hostname}}' in oci_arguments and enabled = True and created_at > now() - {}d",
                n % 90
            ),
            4 => format!("any(ports: protocol = 'TCP' and port in (1433, 3306, {n}))"),
            _ => format!(
                "address in net('10.{}.0.0/16') and name matches '^www[0-9]*\\\\.' and asn != {n}",
                n % 256
            ),
        })
        .collect();
    let context = Context::new("query", &schema);
    let times = (0..rounds).map(|_| {
        let begun = Instant::now();
        for text in &texts {
            let query = Query::compile(text, &context);
            black_box(query.unwrap_or_else(|found| panic!("{text}: {found:?}")));
        }
        begun.elapsed().as_secs_f64() * 1e6 / texts.len() as f64
    });
    median(times.collect())
}

fn name(n: usize) -> String {
    // One of five hundred ends so, and half of these are on level 3 or 4: one of a thousand matches.
    let ending = if n.is_multiple_of(500) {
        "nl"
    } else {
        "example.com"
    };
    format!("host{n}.{ending}")
}

fn level(n: usize) -> i64 {
    [0, 3, 1, 4][n / 500 % 4]
}

fn query() -> Query {
    let schema = Schema::open("hostname");
    Query::compile(SELECTIVE, &Context::new("query", &schema)).expect("the query is valid")
}

fn facts<'a>(
    object: &'a Object,
    nothing: &'a Map<String, Value>,
    world: &'a dyn World,
) -> Facts<'a> {
    Facts {
        subject: object,
        trigger: None,
        previous: None,
        parameters: nothing,
        now: Moment::EPOCH,
        world,
    }
}

/// Microseconds for one object.
fn judge(objects: usize, rounds: usize) -> f64 {
    let all: Vec<Object> = (0..objects)
        .map(|n| Object {
            object_type: "hostname".to_owned(),
            attributes: Map::from_iter([("name".to_owned(), json!(name(n)))]),
            level: u8::try_from(level(n)).ok(),
            ..Object::default()
        })
        .collect();
    let (query, nothing) = (query(), Map::new());
    let times = (0..rounds).map(|_| {
        let begun = Instant::now();
        let found = all
            .iter()
            .filter(|object| query.answers(&facts(object, &nothing, &Nowhere)) == Ok(true));
        let found = black_box(found.count());
        assert_eq!(found, objects / 1000);
        begun.elapsed().as_secs_f64() * 1e6 / objects as f64
    });
    median(times.collect())
}

/// Milliseconds by muster and by hand, and how many match.
async fn stored(objects: usize, rounds: usize) -> (f64, f64, usize) {
    let postgres = Postgres::start();
    let url = postgres.url();
    let store = Store::open(&url).await.expect("the address is right");
    store.migrate().await.expect("the schema is made");
    let mut hand = PgConnection::connect(&url).await.expect("connected");
    sqlx::query(
        "INSERT INTO object (organization, primary_key, object_type, attributes, scan_level, lifted, live, version) \
         SELECT 'acme', 'host|' || n, 'hostname', jsonb_build_object('name', 'host' || n || CASE WHEN n % 500 = 0 \
         THEN '.nl' ELSE '.example.com' END), (ARRAY[0, 3, 1, 4])[n / 500 % 4 + 1], 1, 1, 1 \
         FROM generate_series(0, $1 - 1) AS n",
    )
    .bind(i64::try_from(objects).expect("a number"))
    .execute(&mut hand)
    .await
    .expect("the objects are stored");
    sqlx::query("VACUUM ANALYZE object")
        .execute(&mut hand)
        .await
        .expect("the table is in order");
    for setting in ["SET jit = off", "SET plan_cache_mode = force_custom_plan"] {
        sqlx::query(setting).execute(&mut hand).await.expect("set");
    }
    let catalogue = Catalogue::default();
    let (query, nothing) = (query(), Map::new());
    let (mut ours, mut theirs, mut count) = (Vec::new(), Vec::new(), 0);
    // The first round only warms up. In turns, so that neither has the better machine.
    for round in 0..=rounds {
        let begun = Instant::now();
        let mut found: BTreeSet<String> = BTreeSet::new();
        let nobody = Object::default();
        let narrowed = narrow(&query, &facts(&nobody, &nothing, &Nowhere));
        let mut reading = store.reading("acme", "hostname", "", narrowed.clone());
        loop {
            let page = reading.page(PAGE).await.expect("a page");
            if page.is_empty() {
                break;
            }
            let ask =
                |object: &Object, world: &dyn World| query.answers(&facts(object, &nothing, world));
            let (taken, _) = judged(&store, &catalogue, "acme", Moment::EPOCH, page, ask)
                .await
                .expect("judged");
            found.extend(taken.into_iter().map(|object| object.key.primary_key));
        }
        let by_muster = begun.elapsed().as_secs_f64() * 1e3;
        let begun = Instant::now();
        let rows = sqlx::query(BY_HAND)
            .fetch_all(&mut hand)
            .await
            .expect("rows");
        let by_hand: BTreeSet<String> = rows.iter().map(|row| row.get("primary_key")).collect();
        let hand_took = begun.elapsed().as_secs_f64() * 1e3;
        assert_eq!(found, by_hand, "both find the same");
        assert_eq!(found.len(), objects / 1000);
        if round > 0 {
            ours.push(by_muster);
            theirs.push(hand_took);
            count = found.len();
        }
    }
    store.close().await;
    (median(ours), median(theirs), count)
}
