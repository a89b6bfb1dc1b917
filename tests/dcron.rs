//! dcron as a whole: scripts in a store, workers as processes, a broker and a database. Rows of the seed (D1–D42) are noted
//! at the tests that show them.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::broker::{Broker, OnNats, OnRabbit, Parcel};
use support::process::{House, Service, until};
use support::proxy::Proxy;
use support::servers::{Nats, Postgres, Rabbit};
use support::work::{Store, lives, number_in};

const DECLARED: &str = include_str!("../config/dcron.yaml");
/// Scripts that wait, fail and never end, for the tests.
const MORE: &str = r#"
- {kind: plugin, plugin_id: wait, worker_type: script, runtime: sh, artefact: wait.sh, oci_arguments: [GO, RAN], timeouts: {run: 10m}}
- {kind: plugin, plugin_id: fail, worker_type: script, runtime: sh, artefact: fail.sh, retry: {max: 1}}
- {kind: plugin, plugin_id: stuck, worker_type: script, runtime: sh, artefact: stuck.sh, oci_arguments: [PID], timeouts: {run: 1s}, retry: {max: 1}}
"#;

fn house(store: &str, bus: &str) -> (House, Store) {
    let house = House::new(store, bus, "[workers.script]\n[work]\ngrace = \"1s\"\n");
    let shelf = Store::of(&house);
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dcron/jobs");
    for job in fs::read_dir(jobs).expect("the scripts of config/dcron") {
        let path = job.expect("a script").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).expect("a script is text");
        shelf.put(&format!("jobs/{name}"), &text);
    }
    shelf.put(
        "wait.sh",
        "echo \"$MUSTER_TASK_ORGANIZATION $MUSTER_TASK_ATTEMPT\" >> \"$2\"\nwhile [ ! -e \"$1\" ]; do sleep 0.05; done\n",
    );
    shelf.put("fail.sh", "echo what went wrong >&2\nexit 3\n");
    shelf.put(
        "stuck.sh",
        "trap '' TERM\necho stuck\n(while :; do sleep 1000; done) &\necho $! > \"$1\"\nwhile :; do sleep 1000; done\n",
    );
    house.apply("dcron.yaml", DECLARED);
    let path = |name: &str| house.path(name).display().to_string();
    let more = MORE
        .replace("GO", &path("go"))
        .replace("RAN", &path("ran"))
        .replace("PID", &path("stuck.pid"));
    house.apply("more.yaml", &more);
    (house, shelf)
}

/// A run of a plugin at once, for every organisation.
fn start(house: &House, plugin: &str) {
    let at = house.soon();
    let text = format!(
        "- {{name: now-{plugin}, recurrences: {{at: \"{at}\"}}, plugins: \"plugin_id = '{plugin}'\"}}\n"
    );
    house.apply(&format!("now-{plugin}.yaml"), &text);
}

fn organizations(house: &House, many: usize) {
    let text: String = (0..many)
        .map(|number| format!("- {{kind: organization, id: o{number}}}\n"))
        .collect();
    house.apply("organizations.yaml", &text);
}

fn worker(house: &House, name: &str, hands: &str, variables: &[(&str, &str)]) -> Service {
    let store = Store::of(house);
    let arguments = [
        "work",
        "--type",
        "script",
        "--store",
        store.path(),
        "--name",
        name,
        "--concurrency",
        hands,
    ];
    house.beside(name, &arguments, variables)
}

fn rows(house: &House, noun: &str) -> Vec<Value> {
    let listed = house.json(&[noun, "list", "--limit", "1000"]);
    match listed {
        Value::Array(rows) => rows,
        other => panic!("expected a list: {other}"),
    }
}

/// The tasks of a plugin, once there are so many in such a state.
async fn tasks(house: &House, plugin: &str, state: &str, many: usize) -> Vec<Value> {
    let what = format!("{many} tasks of {plugin} are {state}");
    until(&what, async || {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let found: Vec<Value> = rows(house, "task")
            .into_iter()
            .filter(|task| task["plugin_id"] == plugin && task["state"] == state)
            .collect();
        (found.len() == many).then_some(found)
    })
    .await
}

fn attempts_of(house: &House, tasks: &[Value]) -> Vec<Value> {
    let ids: BTreeSet<&str> = tasks
        .iter()
        .filter_map(|task| task["id"].as_str())
        .collect();
    let mut attempts = rows(house, "attempt");
    attempts.retain(|attempt| {
        attempt["task_id"]
            .as_str()
            .is_some_and(|id| ids.contains(id))
    });
    attempts
}

fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// D1–D4, D9–D11, D16, D17, D19–D23, D30–D32, D37: declared jobs run on two workers, and everything about them is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_run_on_two_workers_and_their_logs_and_results_are_kept() {
    let (postgres, rabbit) = (Postgres::start(), Rabbit::start());
    let (house, store) = house(&postgres.url(), &rabbit.url());
    organizations(&house, 7);
    let service = house.service();
    let (first, second) = (
        worker(&house, "w1", "2", &[]),
        worker(&house, "w2", "2", &[]),
    );

    start(&house, "rotate-backups");
    let done = tasks(&house, "rotate-backups", "succeeded", 8).await;
    let attempts = attempts_of(&house, &done);
    assert_eq!(attempts.len(), 8, "{attempts:?}");
    for attempt in &attempts {
        assert_eq!(
            (&attempt["outcome"], &attempt["exit_code"]),
            (&json!("succeeded"), &json!(0))
        );
        // D10: four instants, not one.
        for instant in ["offered_at", "published_at", "accepted_at", "ended_at"] {
            assert!(attempt[instant].is_string(), "{instant} of {attempt}");
        }
        let log = store.text(attempt["log_ref"].as_str().expect("a log"));
        assert!(log.contains("kept 14, removed 3"), "{log}");
    }
    let workers: BTreeSet<&str> = attempts
        .iter()
        .filter_map(|a| a["worker"].as_str())
        .collect();
    assert_eq!(
        workers,
        BTreeSet::from(["w1", "w2"]),
        "the broker goes round"
    );
    let database = house.database().await;
    let kept = database
        .count("SELECT count(*) FROM attempt WHERE outputs LIKE '%\"kept\":14%' AND log_tail LIKE '%removed 3%'")
        .await;
    assert_eq!(kept, Some(8));

    start(&house, "fail");
    let dead = tasks(&house, "fail", "dead", 8).await;
    for attempt in attempts_of(&house, &dead) {
        assert_eq!(
            (&attempt["outcome"], &attempt["exit_code"]),
            (&json!("failed"), &json!(3))
        );
        let log = store.text(attempt["log_ref"].as_str().expect("a log"));
        assert_eq!(log, "what went wrong\n");
    }

    // D23: whatever overruns is ended with all that it started, and its log is kept.
    start(&house, "stuck");
    let dead = tasks(&house, "stuck", "dead", 8).await;
    for attempt in attempts_of(&house, &dead) {
        assert_eq!(attempt["outcome"], "failed");
        assert_eq!(
            store.text(attempt["log_ref"].as_str().expect("a log")),
            "stuck\n"
        );
    }
    assert!(!lives(number_in(&house.path("stuck.pid"))));
    let said = database
        .count(
            "SELECT count(*) FROM attempt WHERE message LIKE 'stopped at its time limit of 1 s%'",
        )
        .await;
    assert_eq!(said, Some(8));

    first.stop().await;
    second.stop().await;
    service.stop().await;
}

/// D6, D14: what the shipped file declares is a valid plan, and says so with its next instants.
#[test]
fn the_shipped_jobs_are_declared_without_a_complaint() {
    let house = House::embedded("[workers.script]\n");
    let path = house.write("dcron.yaml", DECLARED.as_bytes());
    let path = path.to_str().expect("a path");
    let output = house.run(&["check", path]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    house.done(&["apply", path]);
    assert_eq!(rows(&house, "plugin").len(), 3);
    assert_eq!(rows(&house, "schedule").len(), 3);
    // D5, D7: applied again, they are the same.
    let again = house.done(&["apply", path]);
    assert!(!again.contains("+ "), "{again}");
}

/// D18, D20: a worker that ends gives back what it runs, and a message that nobody accepted goes to the next; a full one
/// takes nothing.
async fn work_goes_to_another(house: House, port: u16, url: impl Fn(u16) -> String) {
    let service = house.service();
    let ran = house.path("ran");
    // One worker runs one of two tasks; the other stays in the queue, undeclined.
    let mut first = worker(&house, "w1", "1", &[]);
    organizations(&house, 1);
    start(&house, "wait");
    tasks(&house, "wait", "running", 1).await;
    tasks(&house, "wait", "dispatched", 1).await;
    assert_eq!(lines_of(&ran).len(), 1);

    // Handed back on SIGTERM, it is offered again at once, as its second attempt; the other goes out as its first.
    first.terminate();
    assert_eq!(first.end().await.code(), Some(0), "{}", first.log());
    let second = worker(&house, "w2", "2", &[]);
    let running = tasks(&house, "wait", "running", 2).await;
    let attempts = attempts_of(&house, &running);
    let mut ends: Vec<(Option<&str>, Option<&str>)> = attempts
        .iter()
        .map(|a| (a["worker"].as_str(), a["outcome"].as_str()))
        .collect();
    ends.sort_unstable();
    assert_eq!(
        ends,
        [
            (Some("w1"), Some("declined")),
            (Some("w2"), None),
            (Some("w2"), None)
        ],
        "{attempts:?}"
    );
    fs::write(house.path("go"), "").expect("go");
    tasks(&house, "wait", "succeeded", 2).await;
    second.stop().await;

    // A worker that is killed before its acceptance went out has nothing: the broker brings the message to another.
    fs::remove_file(house.path("go")).expect("wait again");
    let proxy = Proxy::to(port);
    let cut_off = url(proxy.port());
    let third = worker(&house, "w3", "1", &[("MUSTER_BUS_URL", &cut_off)]);
    until("it is connected", async || {
        third.log().contains("connected").then_some(())
    })
    .await;
    proxy.stall();
    fs::write(house.path("go"), "").expect("go");
    house.apply(
        "again.yaml",
        &format!(
            "- {{name: again, organization: ops, recurrences: {{at: \"{}\"}}, plugins: \"plugin_id = 'wait'\"}}\n",
            house.soon()
        ),
    );
    tasks(&house, "wait", "dispatched", 1).await;
    let fourth = worker(&house, "w4", "1", &[]);
    third.kill();
    drop(proxy);
    let done = tasks(&house, "wait", "succeeded", 3).await;
    let last: Vec<Value> = attempts_of(&house, &done)
        .into_iter()
        .filter(|attempt| attempt["worker"] == "w4")
        .collect();
    assert_eq!(last.len(), 1);
    assert_eq!(
        last[0]["number"], 1,
        "the same offer, brought again: {last:?}"
    );
    fourth.stop().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_rabbit_work_that_is_handed_back_or_was_never_accepted_goes_to_another() {
    let (postgres, rabbit) = (Postgres::start(), Rabbit::start());
    let (house, _store) = house(&postgres.url(), &rabbit.url());
    let (url, port) = (rabbit.url(), rabbit.port());
    work_goes_to_another(house, port, |to| {
        url.replace(&port.to_string(), &to.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_work_that_is_handed_back_or_was_never_accepted_goes_to_another() {
    let nats = Nats::start();
    let database = House::embedded("");
    let (house, _store) = house(database.store_url(), &nats.url());
    let (url, port) = (nats.url(), nats.port());
    work_goes_to_another(house, port, |to| {
        url.replace(&port.to_string(), &to.to_string())
    })
    .await;
}

/// D22: the end of a task is told again until the broker has it, also over a broker that was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_could_not_be_told_is_told_when_the_broker_is_back() {
    let mut rabbit = Rabbit::start();
    let database = House::embedded("");
    let (house, _store) = house(database.store_url(), &rabbit.url());
    let service = house.service();
    let worker = worker(&house, "w1", "1", &[]);
    start(&house, "wait");
    tasks(&house, "wait", "running", 1).await;
    rabbit.kill();
    fs::write(house.path("go"), "").expect("go");
    until("the worker cannot tell", async || {
        worker.log().contains("not told yet").then_some(())
    })
    .await;
    rabbit.restart();
    let done = tasks(&house, "wait", "succeeded", 1).await;
    assert_eq!(done[0]["attempt"], 1);
    assert_eq!(lines_of(&house.path("ran")).len(), 1, "it ran once");
    worker.stop().await;
    service.stop().await;
}

/// What all workers are told: a task that is withdrawn while it waits for its acceptance is answered with a cancel.
async fn a_cancel_reaches_the_worker<B: Broker>(
    house: &House,
    connect: impl AsyncFnOnce() -> B,
    tell: impl AsyncFnOnce(Vec<u8>),
) {
    let service = house.service();
    let _broker = connect().await;
    let worker = worker(house, "w1", "1", &[]);
    start(house, "wait");
    let running = tasks(house, "wait", "running", 1).await;
    let id = running[0]["id"].as_str().expect("an id");
    tell(
        json!({"type": "cancel", "task_id": id})
            .to_string()
            .into_bytes(),
    )
    .await;
    let cancelled = tasks(house, "wait", "cancelled", 1).await;
    assert_eq!(attempts_of(house, &cancelled)[0]["outcome"], "cancelled");
    worker.stop().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_rabbit_hears_what_all_are_told() {
    let rabbit = Rabbit::start();
    let database = House::embedded("");
    let (house, _store) = house(database.store_url(), &rabbit.url());
    let connect = async || OnRabbit::connect(&rabbit.url()).await;
    a_cancel_reaches_the_worker(&house, connect, async |body| {
        let broker = OnRabbit::connect(&rabbit.url()).await;
        broker
            .tell_workers(&Parcel {
                body,
                ..Parcel::default()
            })
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_nats_hears_what_all_are_told() {
    let nats = Nats::start();
    let database = House::embedded("");
    let (house, _store) = house(database.store_url(), &nats.url());
    let connect = async || OnNats::connect(&nats.url()).await;
    a_cancel_reaches_the_worker(&house, connect, async |body| {
        let client = async_nats::connect(nats.url()).await.expect("connected");
        client
            .publish("muster.control", body.into())
            .await
            .expect("sent");
        client.flush().await.expect("flushed");
    })
    .await;
}

/// D38, D41: one program with SQLite and its own worker, tied together by pipes; the statuses go back as input.
#[test]
fn without_a_broker_the_worker_reads_what_the_service_writes() {
    let (house, store) = house("sqlite:house.db", "lines:");
    let event = |n: usize| {
        json!({"specversion": "1.0", "id": format!("e-{n}"), "source": "/t", "type": "object.created",
        "data": {"organization": "ops", "object_type": "hostname", "primary_key": format!("h{n}"), "attributes": {"name": format!("h{n}.example")}, "scan_level": 1}})
    };
    store.put("greet.sh", "echo hello $1\n");
    house.apply(
        "greet.yaml",
        "- {kind: plugin, plugin_id: greet, worker_type: script, scan_level: 0, runtime: sh, artefact: greet.sh, oci_arguments: ['{hostname}']}\n\
         - {name: greet, run_on: hostname, operation: created, plugins: \"plugin_id = 'greet'\", input: {}}\n",
    );
    let events: String = (0..5).map(|n| format!("{}\n", event(n))).collect();
    house.write("events.jsonl", events.as_bytes());
    let muster = format!(
        "{} --config {}",
        env!("CARGO_BIN_EXE_muster"),
        house.path("muster.toml").display()
    );
    let pipe = format!(
        "set -eo pipefail; {muster} run < events.jsonl | {muster} work --store {} > statuses.jsonl; {muster} run < statuses.jsonl",
        store.path()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &pipe])
        .current_dir(house.path("."))
        .output()
        .expect("bash runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let done: Vec<Value> = rows(&house, "task");
    assert_eq!(done.len(), 5);
    assert!(
        done.iter().all(|task| task["state"] == "succeeded"),
        "{done:?}"
    );
    let logs: BTreeSet<String> = attempts_of(&house, &done)
        .iter()
        .map(|attempt| store.text(attempt["log_ref"].as_str().expect("a log")))
        .collect();
    assert_eq!(logs.len(), 5);
    assert!(logs.contains("hello h3.example\n"), "{logs:?}");
}
