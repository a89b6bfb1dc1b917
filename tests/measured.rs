//! What a real run measures, as those read it who are there for that: a push gateway, a node exporter, a Prometheus.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::broker::{Broker, OnNats, OnRabbit, Parcel};
use support::peers::{NodeExporter, Prometheus, Pushgateway};
use support::process::{House, until};
use support::servers::{Nats, Postgres, Rabbit};

/// One row of the table in `src/telemetry/figures.rs`: its labels, each with how many values it has at most.
struct Row {
    kind: String,
    labels: BTreeMap<String, usize>,
}

fn table() -> BTreeMap<String, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/figures.rs");
    let text = fs::read_to_string(path).expect("the table");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let labels = cells[2].split(", ").filter(|cell| *cell != "none");
        let labels = labels.map(|label| {
            let (name, most) = label.split_once(' ').expect("a label with its bound");
            let most = most.trim_matches(['(', ')']).parse().expect("a bound");
            (name.trim_matches('`').to_owned(), most)
        });
        let row = Row {
            kind: cells[1].to_owned(),
            labels: labels.collect(),
        };
        (cells[0].trim_matches('`').to_owned(), row)
    })
    .collect()
}

/// The series of a text of metrics: name, labels, value.
fn series(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let lines = text.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split("\",");
            let labels = labels
                .filter_map(|label| label.split_once("=\""))
                .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
            let value = value.parse().expect("a number");
            (name.to_owned(), labels.collect(), value)
        })
        .collect()
}

/// Holds what a run wrote against the table; answers with the metrics that it wrote.
fn as_tabled(text: &str) -> BTreeSet<String> {
    let table = table();
    let mut seen = BTreeSet::new();
    let mut values: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (name, mut labels, _) in series(text) {
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|whole| table.get(*whole).is_some_and(|row| row.kind == "histogram"));
        if part.is_some() {
            labels.remove("le");
        }
        let name = part.unwrap_or(&name).to_owned();
        let row = table
            .get(&name)
            .unwrap_or_else(|| panic!("the table has no `{name}`"));
        let theirs: Vec<&String> = labels.keys().collect();
        let ours: Vec<&String> = row.labels.keys().collect();
        assert_eq!(theirs, ours, "labels of `{name}`");
        for (label, value) in labels {
            values
                .entry((name.clone(), label))
                .or_default()
                .insert(value);
        }
        seen.insert(name);
    }
    for ((name, label), values) in values {
        let most = table[&name].labels[&label];
        assert!(
            values.len() <= most,
            "`{label}` of `{name}` has more than {most} values: {values:?}"
        );
    }
    seen
}

#[test]
fn the_table_names_every_metric_with_its_kind_and_help() {
    let table = table();
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/figures.rs"))
            .expect("the table");
    for metric in muster::telemetry::METRICS {
        let row = table
            .get(metric.name)
            .unwrap_or_else(|| panic!("the table has no `{}`", metric.name));
        assert_eq!(row.kind, format!("{:?}", metric.kind).to_lowercase());
        assert!(
            text.contains(&format!("| {} |\n", metric.help)),
            "{}",
            metric.help
        );
    }
    assert_eq!(table.len(), muster::telemetry::METRICS.len());
}

// A run to which nearly everything happens

const DECLARED: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: greet, worker_type: script, runtime: sh, artefact: greet.sh, consumes: [hostname]}
- {kind: plugin, plugin_id: strict, worker_type: script, runtime: sh, artefact: greet.sh, consumes: [hostname], scan_level: 4}
- {kind: plugin, plugin_id: feed, worker_type: script, runtime: sh, artefact: greet.sh, consumes: [hostname]}
- {kind: plugin, plugin_id: lonely, worker_type: nobody, timeouts: {queue: 1s}}
- {kind: plugin, plugin_id: huge, worker_type: script, runtime: sh, artefact: greet.sh, settings: {text: "HUGE"}}
- {name: hosts, run_on: hostname, operation: created, plugins: "plugin_id = 'greet' or plugin_id = 'strict'"}
- {name: after, run_on: run, operation: finished, when: "schedule = 'hosts'", plugins: "plugin_id = 'feed'"}
- {name: ticks, recurrences: {period: 1s, anchor: start}, plugins: "plugin_id = 'lonely' or plugin_id = 'huge'"}
- {name: asleep, recurrences: {period: 1s, anchor: start}, enabled: false, plugins: "plugin_id = 'feed'"}
"#;

fn event(id: &str, key: &str) -> Parcel {
    let body = json!({
        "specversion": "1.0", "id": id, "source": "/inventory", "type": "object.created",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": key, "attributes": {"name": key}, "scan_level": 2},
    });
    Parcel {
        key: "object.created".to_owned(),
        content_type: Some("application/cloudevents+json"),
        body: body.to_string().into_bytes(),
        ..Parcel::default()
    }
}

/// Queries of the dashboard, and of the alerts.
fn queries() -> Vec<String> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let text = |name: &str| fs::read_to_string(config.join(name)).expect("a file of config");
    let dashboard: Value =
        serde_json::from_str(&text("grafana/dashboards/muster.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let queries = targets
        .flatten()
        .filter_map(|target| target["expr"].as_str())
        .map(|query| query.replace("$__rate_interval", "5s"));
    queries.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prometheus_answers_every_panel_from_the_file_that_a_run_writes() {
    // Small, so that one task is too large for it.
    let nats = Nats::with(|_| "max_payload: 65536".to_owned());
    let house = House::new("sqlite:muster.db", &nats.url(), "");
    let files = house.path("files");
    fs::create_dir_all(&files).expect("a folder for metrics");
    let file = files.join("muster.prom");
    let settings = format!(
        "[metrics]\nfile = {:?}\nevery = \"1s\"\n[lifecycle]\nenabled = true\n[workers.script]\n[workers.nobody]\n",
        file.display().to_string()
    );
    house.set(&nats.url(), &settings);
    house.apply(
        "declared.yaml",
        &DECLARED.replace("HUGE", &"x".repeat(70_000)),
    );
    let service = house.service();
    let broker = OnNats::connect(&nats.url()).await;
    let shelf = house.path("shelf");
    fs::create_dir_all(&shelf).expect("a store for the worker");
    fs::write(shelf.join("greet.sh"), "echo hello\n").expect("a script");
    let shelf = shelf.to_str().expect("a path");
    let worker = house.beside(
        "worker",
        &["work", "--type", "script", "--store", shelf],
        &[],
    );

    let exporter = NodeExporter::of(&files);
    let prometheus = Prometheus::of(&[("node", exporter.port())]);
    let client = async_nats::connect(nats.url()).await.expect("connected");
    for command in ["stats", "statistics"] {
        let asked = json!({"id": command, "command": command, "args": {}}).to_string();
        client
            .request("muster.commands", asked.into())
            .await
            .expect("answered");
    }
    broker
        .publish(&[
            event("e-1", "www.example.com"),
            event("e-1", "www.example.com"),
            Parcel {
                key: "object.created".to_owned(),
                body: b"no event".to_vec(),
                ..Parcel::default()
            },
        ])
        .await;

    let table = table();
    let unseen = async || {
        let seen = as_tabled(&fs::read_to_string(&file).ok()?);
        let missing: Vec<&String> = table.keys().filter(|name| !seen.contains(*name)).collect();
        missing.is_empty().then_some(())
    };
    until("the run writes every metric of the table", unseen).await;

    // The exporter takes the whole file, beside what it tells of itself.
    until("the exporter shows them", async || {
        let shown = exporter.metrics()?;
        assert!(
            shown.contains("node_textfile_scrape_error 0"),
            "{}",
            exporter.log()
        );
        table
            .iter()
            .filter(|(_, row)| row.kind != "histogram")
            .all(|(name, _)| {
                let mut lines = shown.lines();
                lines.any(|line| line.starts_with(name.as_str()))
            })
            .then_some(())
    })
    .await;
    for query in queries() {
        let answer = until(&format!("an answer to {query}"), async || {
            let answer = prometheus.ask(&query).expect("a query");
            (!answer.is_empty()).then_some(answer)
        })
        .await;
        assert!(!answer.is_empty());
    }
    let built = prometheus.ask("muster_build_info").expect("a query");
    assert_eq!(built[0].0["version"], env!("CARGO_PKG_VERSION"));
    // What happened is what is counted.
    for (query, least) in [
        (
            "sum(muster_runs_ended_total{schedule=\"hosts\",state=\"succeeded\"})",
            1.0,
        ),
        (
            "sum(muster_runs_ended_total{schedule=\"after\",state=\"succeeded\"})",
            1.0,
        ),
        (
            "sum(muster_runs_ended_total{schedule=\"asleep\",state=\"skipped\"})",
            1.0,
        ),
        (
            "sum(muster_occurrences_skipped_total{reason=\"disabled\"})",
            1.0,
        ),
        (
            "sum(muster_attempts_ended_total{worker_type=\"script\",outcome=\"succeeded\"})",
            2.0,
        ),
        (
            "sum(muster_attempts_ended_total{worker_type=\"script\",outcome=\"undeliverable\"})",
            1.0,
        ),
        (
            "sum(muster_attempts_ended_total{worker_type=\"nobody\",outcome=\"expired\"})",
            1.0,
        ),
        ("muster_queue_credit{queue=\"muster.tasks.script\"}", 64.0),
        ("muster_dead_letters", 1.0),
        ("muster_dead_tasks", 1.0),
        ("muster_dead_letters_oldest_age_seconds", 1.0),
    ] {
        until(query, async || {
            let answer = prometheus.ask(query).expect("a query");
            (answer.first()?.1 >= least).then_some(())
        })
        .await;
    }
    let alerts = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/alerts.yaml"),
    )
    .expect("the alerts");
    let named = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    until("every alert was evaluated", async || {
        let known: BTreeSet<String> = prometheus.alerts().into_iter().collect();
        (known == named).then_some(())
    })
    .await;
    worker.stop().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_gateway_shows_what_was_pushed_and_its_loss_stops_nothing() {
    let mut gateway = Pushgateway::start();
    let settings = format!(
        "[metrics]\npush = {:?}\nevery = \"1s\"\n[workers.script]\n",
        gateway.url()
    );
    let house = House::embedded(&settings);
    house.apply("declared.yaml", DECLARED);
    let mut service = house.dialogue_with(&["run"], &[("HOSTNAME", "first")]);
    let say = |id: &str, key: &str| String::from_utf8(event(id, key).body).expect("text");
    let taken = |shown: &str| {
        let found = series(shown).into_iter().find(|(name, labels, _)| {
            name == "muster_events_total"
                && labels.get("job").is_some_and(|job| job == "muster")
                && labels
                    .get("instance")
                    .is_some_and(|instance| instance == "first")
                && labels
                    .get("outcome")
                    .is_some_and(|outcome| outcome == "taken")
        });
        found.map(|(_, _, value)| value)
    };
    let offered = |service: &mut support::process::Dialogue, key: &str| loop {
        let task = service.hear();
        if task["plugin"]["plugin_id"] == "greet" {
            assert_eq!(task["inputs"][0]["primary_key"], key);
            return;
        }
    };
    service.say(&say("e-1", "one.example.com"));
    offered(&mut service, "one.example.com");
    until("the gateway shows the first event", async || {
        (taken(&gateway.metrics()?)? == 1.0).then_some(())
    })
    .await;

    gateway.kill();
    let log = house.path("dialogue.log");
    let said = async |words: &str| {
        until(words, async || {
            let log = fs::read_to_string(&log).ok()?;
            log.contains(words).then_some(())
        })
        .await;
    };
    said("metrics cannot be pushed: the push gateway at").await;
    service.say(&say("e-2", "two.example.com"));
    offered(&mut service, "two.example.com");

    gateway.restart();
    said("metrics are pushed again").await;
    until("the gateway shows both events", async || {
        (taken(&gateway.metrics()?)? == 2.0).then_some(())
    })
    .await;
    // It is told once, however many pushes fail.
    let log = fs::read_to_string(&log).expect("the log");
    assert_eq!(log.matches("metrics cannot be pushed").count(), 1, "{log}");
    service.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_store_falls_behind_and_catches_up_when_the_database_is_back() {
    let (mut postgres, nats) = (Postgres::with(&["fsync=off"]), Nats::start());
    let house = House::new(&postgres.url(), &nats.url(), "");
    let file = house.path("muster.prom");
    let settings = format!(
        "[metrics]\nfile = {:?}\nevery = \"1s\"\n",
        file.display().to_string()
    );
    house.set(&nats.url(), &settings);
    let service = house.service();
    let broker = OnNats::connect(&nats.url()).await;
    let value = |name: &str, consumer: Option<&str>| {
        let text = fs::read_to_string(&file).ok()?;
        let found = series(&text).into_iter().find(|(found, labels, _)| {
            found == name && labels.get("consumer").map(String::as_str) == consumer
        });
        found.map(|(_, _, value)| value)
    };
    let lag = || value("muster_consumer_lag_seconds", Some("muster.events"));
    until("nobody is behind", async || (lag()? == 0.0).then_some(())).await;
    postgres.kill();
    broker.publish(&[event("e-1", "www.example.com")]).await;
    until("who reads events is behind", async || {
        (lag()? > 3.0).then_some(())
    })
    .await;
    assert_eq!(
        value("muster_consumer_lag_seconds", Some("muster.status")),
        Some(0.0)
    );
    assert_eq!(value("muster_store_reconnects_total", None), Some(0.0));
    postgres.restart();
    until("nobody is behind any more", async || {
        (lag()? == 0.0).then_some(())
    })
    .await;
    until("the return of the database is counted", async || {
        (value("muster_store_reconnects_total", None)? >= 1.0).then_some(())
    })
    .await;
    service.stop().await;
}

/// What a service shows of the messages that its broker keeps for it while the database is away, and after.
async fn what_waits_at_the_broker_is_shown<B: Broker>(
    url: &str,
    connect: impl AsyncFn(String) -> B,
) {
    let mut postgres = Postgres::with(&["fsync=off"]);
    let house = House::new(&postgres.url(), url, "");
    let file = house.path("muster.prom");
    let settings = format!(
        "[metrics]\nfile = {:?}\nevery = \"1s\"\n",
        file.display().to_string()
    );
    house.set(url, &settings);
    let few = [
        ("MUSTER_BUS_PREFETCH", "2"),
        ("MUSTER_BUS_BATCH_COUNT", "2"),
    ];
    let service = house.service_with("service", &few);
    let broker = connect(url.to_owned()).await;
    let waiting = |queue: &str| {
        let text = fs::read_to_string(&file).ok()?;
        let found = series(&text).into_iter().find(|(name, labels, _)| {
            name == "muster_consumer_waiting_messages"
                && labels
                    .get("consumer")
                    .is_some_and(|consumer| consumer == queue)
        });
        found.map(|(_, _, value)| value)
    };
    for queue in ["muster.events", "muster.status"] {
        until("nothing waits", async || {
            (waiting(queue)? == 0.0).then_some(())
        })
        .await;
    }
    postgres.kill();
    let events: Vec<Parcel> = (0..30)
        .map(|number| event(&format!("e-{number}"), &format!("h{number}.example.com")))
        .collect();
    broker.publish(&events).await;
    let many = until("what nobody has taken is counted", async || {
        waiting("muster.events").filter(|many| *many >= 10.0)
    })
    .await;
    assert!(many <= 30.0, "{many}");
    assert_eq!(waiting("muster.status"), Some(0.0));
    postgres.restart();
    until("nothing waits any more", async || {
        (waiting("muster.events")? == 0.0).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_rabbitmq_is_shown() {
    let rabbit = Rabbit::start();
    what_waits_at_the_broker_is_shown(&rabbit.url(), async |url| OnRabbit::connect(&url).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_nats_is_shown() {
    let nats = Nats::start();
    what_waits_at_the_broker_is_shown(&nats.url(), async |url| OnNats::connect(&url).await).await;
}

#[test]
fn no_label_grows_with_organisations_schedules_types_plugins_or_workers() {
    const MANY: usize = 300;
    let mut settings = String::from("[metrics]\nfile = \"muster.prom\"\nevery = \"1h\"\n");
    let mut declared = String::new();
    let mut input = String::new();
    for n in 0..MANY {
        settings.push_str(&format!("[workers.w{n}]\n"));
        declared.push_str(&format!(
            "- {{kind: organization, id: o{n}}}\n\
             - {{kind: plugin, plugin_id: p{n}, worker_type: w{n}, consumes: [type_{n}]}}\n\
             - {{name: s{n}, run_on: type_{n}, operation: created, plugins: \"plugin_id = 'p{n}'\"}}\n"
        ));
        let event = json!({
            "specversion": "1.0", "id": format!("e-{n}"), "source": "/inventory", "type": "object.created",
            "data": {"organization": format!("o{n}"), "object_type": format!("type_{n}"), "primary_key": format!("k{n}"), "attributes": {}, "scan_level": 2},
        });
        input.push_str(&format!("{event}\n"));
    }
    let house = House::embedded(&settings);
    house.apply("declared.yaml", &declared);
    let read = || fs::read_to_string(house.path("muster.prom")).expect("the metrics");
    let tasks = house.lines(input.into_bytes());
    assert_eq!(tasks.len(), MANY);
    let made = read();
    as_tabled(&made);
    // Of three hundred schedules an event looks at its own alone.
    for name in ["events", "candidates", "matches"] {
        let name = format!("muster_trigger_{name}_total");
        let found = series(&made)
            .into_iter()
            .find(|(found, _, _)| *found == name);
        let value = found.map(|(_, _, value)| value);
        assert_eq!(value, Some(MANY as f64), "{name}");
    }
    let done: String = tasks
        .iter()
        .map(|task| json!({"task_id": task["id"], "status": "completed"}).to_string() + "\n")
        .collect();
    house.lines(done.into_bytes());
    let ended = read();
    as_tabled(&ended);
    for (text, name, label, total) in [
        (&made, "muster_tasks_created_total", "worker_type", MANY),
        (&made, "muster_tasks_published_total", "queue", MANY),
        (&ended, "muster_runs_ended_total", "schedule", MANY),
        (&ended, "muster_attempts_ended_total", "worker_type", MANY),
        (&ended, "muster_queue_credit", "queue", 0),
    ] {
        let found: Vec<_> = series(text)
            .into_iter()
            .filter(|(found, _, _)| found == name)
            .collect();
        let values: BTreeSet<&String> = found.iter().map(|(_, labels, _)| &labels[label]).collect();
        assert_eq!(values.len(), 101, "{name}: {values:?}");
        assert!(values.contains(&"other".to_owned()), "{name}");
        let sum: f64 = found.iter().map(|(_, _, value)| value).sum();
        assert_eq!(sum, total as f64, "{name}");
    }
}
