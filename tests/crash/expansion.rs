//! A process dies in the middle of a long expansion, and another one goes on.

use std::time::{Duration, Instant};

use crate::support::process::{House, until};
use crate::support::servers::{Nats, Postgres};

const INPUTS: i64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_expand_the_one_that_is_killed_leaves_every_input_exactly_once() {
    let (postgres, nats) = (Postgres::with(&["fsync=off"]), Nats::start());
    let house = House::new(&postgres.url(), &nats.url(), "");
    house.done(&["migrate"]);
    let database = house.database().await;
    database
        .execute(
            "INSERT INTO object (organization, primary_key, object_type, attributes, scan_level, lifted, live, created_rank, version) \
             SELECT 'acme', 'host' || n, 'hostname', jsonb_build_object('name', 'host' || n), 2, 1, 1, '1|test', 1 \
             FROM generate_series(1, 100000) AS n",
        )
        .await;
    let services = [
        house.service_with("first", &[]),
        house.service_with("second", &[]),
    ];
    until("both run", async || {
        let all = services
            .iter()
            .all(|service| service.log().contains("muster runs"));
        all.then_some(())
    })
    .await;
    // A wide spread, so that what is stored waits and the workers' queues stay out of it.
    let soon = house.soon();
    house.apply(
        "declared.yaml",
        &format!(
            "- {{kind: organization, id: acme}}\n\
             - {{kind: plugin, plugin_id: dns, worker_type: boefje, scan_level: 1, consumes: [hostname]}}\n\
             - {{name: once, recurrences: \"{soon}\", plugins: \"True\", input: {{hostname: null}}, spread: 30d}}\n"
        ),
    );
    let begun = Instant::now();
    let [mut first, second] = services;
    // Whoever has the turn when the other one dies: each is killed once.
    let reaches = async |many: i64| {
        until(&format!("{many} tasks are stored"), async || {
            (database.tasks().await? >= many).then_some(())
        })
        .await;
    };
    reaches(15_000).await;
    first.kill();
    let stored = database.tasks().await.expect("a count");
    assert!(
        stored < INPUTS,
        "expected the kill to come in the middle, and {stored} tasks were stored"
    );
    reaches(stored + 15_000).await;
    first = house.service_with("third", &[]);
    second.kill();
    let stored = database.tasks().await.expect("a count");
    assert!(
        stored < INPUTS,
        "expected the kill to come in the middle, and {stored} tasks were stored"
    );
    until("the expansion is over", async || {
        let over = "SELECT count(*) FROM run WHERE position IS NULL AND total = 100000";
        (database.count(over).await? == 1).then_some(())
    })
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    first.stop().await;
    for (sql, expected) in [
        ("SELECT count(*) FROM task", INPUTS),
        ("SELECT count(DISTINCT primary_key) FROM open_input", INPUTS),
        ("SELECT count(*) FROM open_input", INPUTS),
        ("SELECT count(DISTINCT inputs) FROM task", INPUTS),
        ("SELECT count(*) FROM run", 1),
    ] {
        assert_eq!(database.count(sql).await, Some(expected), "{sql}");
    }
}
