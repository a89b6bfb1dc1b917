//! What comes along for whoever runs muster: rights, alerts, panels, the unit, the machine of containers.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};
use support::broker::OnRabbit;
use support::process::{Database, House, until};
use support::servers::{Nats, Postgres, Rabbit};

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(config(name)).unwrap_or_else(|error| panic!("config/{name}: {error}"))
}

const DECLARED: &str = "\
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: greet, worker_type: script, runtime: sh, artefact: greet.sh}
- {name: greet, plugins: plugin_id = 'greet', recurrences: {period: 1d, anchor: start}}
";

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .current_dir(config("prometheus"))
        .args(arguments)
        .output()
        .expect("`promtool` runs; it comes with Debian's package `prometheus`");
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn promtool_accepts_the_settings_and_each_alert_fires_when_it_should() {
    promtool(&["check", "config", "prometheus.yaml"]);
    promtool(&["check", "rules", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts.test.yaml"]);
    // A rule that no test names could be wrong for ever.
    let tests = text("prometheus/alerts.test.yaml");
    let rules = text("prometheus/alerts.yaml");
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut many = 0;
    for name in names {
        many += 1;
        assert!(
            tests.contains(&format!("alertname: {name}")),
            "{name} has no test"
        );
    }
    assert!(many > 5);
}

/// The words of an expression that are names of our metrics.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    expression
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("muster_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned())
        .collect()
}

/// What an expression groups by or selects: labels that have to be there.
fn labels_in(expression: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for part in expression.split("by (").skip(1) {
        let list = part.split(')').next().unwrap_or_default();
        labels.extend(list.split(',').map(|label| label.trim().to_owned()));
    }
    labels.remove("le");
    labels
}

/// Each metric that a run has written, with its labels.
fn written(path: &Path) -> Vec<(String, BTreeSet<String>)> {
    let text = fs::read_to_string(path).expect("the metrics of the run");
    let lines = text.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (series, _) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            let labels = labels
                .trim_end_matches('}')
                .split("\",")
                .filter_map(|label| label.split_once('=').map(|(name, _)| name.to_owned()))
                .collect();
            (name.to_owned(), labels)
        })
        .collect()
}

/// Panels and alerts ask for what there is: a real run writes most of it, the rest is described.
#[test]
fn every_panel_and_every_alert_asks_for_what_is_measured() {
    let house =
        House::embedded("[metrics]\nfile = \"METRICS\"\nevery = \"1s\"\n[workers.script]\n");
    let file = house.path("muster.prom");
    let settings = fs::read_to_string(house.path("muster.toml")).expect("settings");
    let named = settings.replace("METRICS", file.to_str().expect("a path"));
    house.write("muster.toml", named.as_bytes());
    house.apply("declared.yaml", DECLARED);
    let input = concat!(
        "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/s\",\"type\":\"object.created\",\"data\":{\"organization\":\"acme\",",
        "\"object_type\":\"hostname\",\"primary_key\":\"h1\",\"attributes\":{\"name\":\"h1\"},\"scan_level\":2}}\n",
        "no event\n",
        "{\"now\":\"2031-01-01T00:00:00Z\"}\n",
    );
    house.lines(input.as_bytes().to_vec());
    let written = written(&file);
    assert!(written.len() > 30, "{written:?}");

    let described: BTreeSet<&str> = muster::telemetry::METRICS
        .iter()
        .map(|metric| metric.name)
        .collect();
    let dashboard: Value =
        serde_json::from_str(&text("grafana/dashboards/muster.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut expressions: Vec<String> = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .filter_map(|target| target["expr"].as_str().map(str::to_owned))
        .collect();
    assert!(expressions.len() > 25, "{}", expressions.len());
    let rules = text("prometheus/alerts.yaml");
    expressions.extend(
        rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("expr: "))
            .map(str::to_owned),
    );
    let mut asked = BTreeSet::new();
    for expression in &expressions {
        let metrics = metrics_in(expression);
        assert!(!metrics.is_empty(), "{expression}");
        for metric in &metrics {
            assert!(
                described.contains(metric.as_str()),
                "`{metric}` of `{expression}` is not measured"
            );
            let seen: Vec<_> = written.iter().filter(|(name, _)| name == metric).collect();
            for label in labels_in(expression).iter().filter(|_| !seen.is_empty()) {
                assert!(
                    seen.iter().any(|(_, labels)| labels.contains(label)),
                    "`{metric}` has no label `{label}`, which `{expression}` asks for"
                );
            }
        }
        asked.extend(metrics);
    }
    // What is measured and shown nowhere might as well not be.
    for metric in described {
        assert!(asked.contains(metric), "no panel shows `{metric}`");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_and_a_worker_need_no_more_rights_than_are_documented() {
    let postgres = Postgres::start();
    let rules = text("hardening.md");
    // The table's expressions, as they are written there.
    let rights = |who: &str| -> Vec<String> {
        let row = rules
            .lines()
            .find(|line| line.starts_with(&format!("| {who} ")))
            .unwrap_or_else(|| panic!("config/hardening.md says what {who} may do"));
        row.replace("\\|", "\u{0}")
            .split('|')
            .skip(2)
            .map(|cell| {
                cell.replace('\u{0}', "|")
                    .trim()
                    .trim_matches('`')
                    .to_owned()
            })
            .filter(|cell| !cell.is_empty())
            .collect()
    };
    let permission = |user: &str, who: &str| {
        let rights = rights(who);
        json!({"user": user, "vhost": "/", "configure": rights[0], "write": rights[1], "read": rights[2]})
    };
    let definitions = json!({
        "users": [
            {"name": "guest", "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "administrator"},
            {"name": "service", "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""},
            {"name": "worker", "password_hash": HASH, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""},
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
            permission("service", "`muster run`"),
            permission("worker", "a worker of type `script`"),
        ],
    });
    let rabbit = Rabbit::with(|folder| {
        let path = folder.join("definitions.json");
        fs::write(&path, definitions.to_string()).expect("write the definitions");
        format!(", {{load_definitions, {:?}}}", path.display().to_string())
    });

    // The owner makes the schema; who runs may only read and change rows.
    let owner = House::new(&postgres.url(), &rabbit.url(), "[workers.script]\n");
    owner.done(&["migrate"]);
    let database = Database::at(&postgres.url());
    database
        .execute("CREATE ROLE muster_run LOGIN PASSWORD 'secret'")
        .await;
    for statement in text("hardening.sql").split(';') {
        let lines = statement.lines().filter(|line| !line.starts_with("--"));
        let statement: String = lines.collect::<Vec<_>>().join("\n");
        if !statement.trim().is_empty() {
            database
                .execute(Box::leak(statement.into_boxed_str()))
                .await;
        }
    }
    let store = postgres.url().replace("muster@", "muster_run:secret@");
    assert!(store.contains("muster_run:secret@"), "{store}");
    let bus = rabbit.url().replace("guest:guest@", "service:guest@");
    let house = House::new(&store, &bus, "[workers.script]\n");
    house.apply("declared.yaml", DECLARED);
    let service = house.service();
    until("the service is well", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.run(&["health"]).status.success().then_some(())
    })
    .await;
    let shelf = house.path("shelf");
    fs::create_dir_all(&shelf).expect("a store for the worker");
    fs::write(shelf.join("greet.sh"), "echo hello\n").expect("a script");
    let theirs = rabbit.url().replace("guest:guest@", "worker:guest@");
    let worker = house.beside(
        "worker",
        &[
            "work",
            "--type",
            "script",
            "--store",
            shelf.to_str().expect("a path"),
        ],
        &[("MUSTER_BUS_URL", &theirs)],
    );
    let run = house.run(&["run", "start", "greet", "--wait"]);
    assert!(
        run.status.success(),
        "{}{}\n{}\n{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
        service.log(),
        worker.log()
    );
    // And no more: a worker reads neither events nor commands.
    for queue in ["muster.events", "muster.commands", "muster.status"] {
        let refused = OnRabbit::may_read(&theirs, queue).await;
        assert!(!refused, "a worker may not read {queue}");
    }
    worker.stop().await;
    service.stop().await;
}

/// Of the password `guest`.
const HASH: &str = "AAAAAPEoQ8a3jY6DABRiJzkoKooQbXiBp2iGLke7d+FVKzJx";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_needs_no_more_subjects_than_are_documented() {
    let rules = text("hardening.md");
    let (_, table) = rules.split_once("## NATS").expect("the section of NATS");
    let subjects = |who: &str, place: usize| -> String {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| {who} ")))
            .unwrap_or_else(|| panic!("config/hardening.md says what {who} may do"));
        let cell = row.split('|').nth(place).expect("a cell");
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted
            .map(|subject| format!("{subject:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let user = |name: &str, who: &str| {
        format!(
            "{{ user: {name}, password: secret, permissions: {{ publish: [{}], subscribe: [{}] }} }}",
            subjects(who, 2),
            subjects(who, 3)
        )
    };
    let nats = Nats::with(|_| {
        format!(
            "authorization {{ users: [{}, {}] }}",
            user("service", "`muster run`"),
            user("worker", "a worker")
        )
    });
    let url = |name: &str| {
        nats.url()
            .replace("nats://", &format!("nats://{name}:secret@"))
    };
    let house = House::embedded("[workers.script]\n");
    house.set(&url("service"), "[workers.script]\n");
    house.apply("declared.yaml", DECLARED);
    let service = house.service();
    until("the service is well", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        house.run(&["health"]).status.success().then_some(())
    })
    .await;
    let shelf = house.path("shelf");
    fs::create_dir_all(&shelf).expect("a store for the worker");
    fs::write(shelf.join("greet.sh"), "echo hello\n").expect("a script");
    let worker = house.beside(
        "worker",
        &[
            "work",
            "--type",
            "script",
            "--store",
            shelf.to_str().expect("a path"),
        ],
        &[("MUSTER_BUS_URL", &url("worker"))],
    );
    let run = house.run(&["run", "start", "greet", "--wait"]);
    assert!(
        run.status.success(),
        "{}{}\n{}\n{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
        service.log(),
        worker.log()
    );
    for log in [service.log(), worker.log()] {
        assert!(
            !log.to_lowercase().contains("permissions violation"),
            "{log}"
        );
    }
    worker.stop().await;
    service.stop().await;
}

#[test]
fn the_unit_is_valid_and_may_listen_nowhere() {
    let unit = text("systemd/muster.service");
    for line in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "SocketBindDeny=any",
        "DynamicUser=yes",
        "CapabilityBoundingSet=",
    ] {
        assert!(
            unit.lines().any(|said| said == line),
            "the unit says {line}"
        );
    }
    // systemd itself is asked where it is there; it is not on every machine that builds.
    let Ok(output) = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(config("systemd/muster.service"))
        .output()
    else {
        return;
    };
    assert!(
        output.status.success(),
        "more exposed than 2.0: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// The file with its anchors and merges followed.
fn compose_of(text: &str) -> Value {
    let mut parser = Parser::new_from_str(text);
    let mut events = std::iter::from_fn(|| match parser.next_event() {
        Some(Ok((event, _))) => Some(event),
        Some(Err(error)) => panic!("docker-compose.yml: {error}"),
        None => None,
    });
    let mut anchors = HashMap::new();
    loop {
        let event = events.next().expect("a document");
        if !matches!(event, Event::StreamStart | Event::DocumentStart(_)) {
            return node(event, &mut events, &mut anchors);
        }
    }
}

fn node<'a>(
    event: Event<'a>,
    events: &mut impl Iterator<Item = Event<'a>>,
    anchors: &mut HashMap<usize, Value>,
) -> Value {
    let (anchor, value) = match event {
        Event::Alias(anchor) => return anchors.get(&anchor).expect("an anchor").clone(),
        Event::Scalar(text, style, anchor, _) => {
            let value = match text.as_ref() {
                "true" if style == ScalarStyle::Plain => json!(true),
                "false" if style == ScalarStyle::Plain => json!(false),
                "" | "~" | "null" if style == ScalarStyle::Plain => Value::Null,
                text => json!(text),
            };
            (anchor, value)
        }
        Event::SequenceStart(anchor, _) => {
            let mut list = Vec::new();
            loop {
                match events.next().expect("the end of a list") {
                    Event::SequenceEnd => break,
                    event => list.push(node(event, events, anchors)),
                }
            }
            (anchor, Value::Array(list))
        }
        Event::MappingStart(anchor, _) => {
            let mut merged = Map::new();
            let mut own = Map::new();
            loop {
                let key = match events.next().expect("the end of a mapping") {
                    Event::MappingEnd => break,
                    event => node(event, events, anchors),
                };
                let event = events.next().expect("a value");
                let value = node(event, events, anchors);
                match (key.as_str().expect("a key"), value) {
                    ("<<", Value::Object(others)) => merged.extend(others),
                    (key, value) => drop(own.insert(key.to_owned(), value)),
                }
            }
            merged.extend(own);
            (anchor, Value::Object(merged))
        }
        event => panic!("unexpected in YAML: {event:?}"),
    };
    if anchor > 0 {
        anchors.insert(anchor, value.clone());
    }
    value
}

#[test]
fn the_containers_are_closed_and_what_they_mount_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docker-compose.yml")).expect("docker-compose.yml");
    let compose = compose_of(&text);
    let services = compose["services"].as_object().expect("services");
    for name in [
        "muster",
        "worker",
        "muster-nats",
        "worker-nats",
        "rabbitmq",
        "nats",
        "postgres",
        "prometheus",
        "node-exporter",
        "pushgateway",
        "grafana",
    ] {
        assert!(services.contains_key(name), "no service `{name}`");
    }
    let volumes = compose["volumes"].as_object().expect("volumes");
    for (name, service) in services {
        let ours = name.starts_with("muster") || name.starts_with("worker");
        if ours {
            assert_eq!(service["read_only"], json!(true), "{name}");
            assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
            assert!(service.get("ports").is_none(), "{name} listens nowhere");
            assert!(
                service["build"]["dockerfile_inline"]
                    .as_str()
                    .is_some_and(|text| text.contains("\nUSER muster\n")),
                "{name}"
            );
        }
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let mount = mount.as_str().expect("a mount");
            let source = mount.split(':').next().unwrap_or_default();
            match source.strip_prefix("./") {
                Some(path) => assert!(root.join(path).exists(), "{name} mounts {source}"),
                None => assert!(volumes.contains_key(source), "{name} mounts {source}"),
            }
        }
        for dependency in service["depends_on"].as_object().into_iter().flatten() {
            let (other, condition) = dependency;
            let other = services
                .get(other)
                .unwrap_or_else(|| panic!("{name} waits for {other}"));
            if condition["condition"] == "service_healthy" {
                assert!(
                    other.get("healthcheck").is_some(),
                    "{name} waits for health that nobody checks"
                );
            }
            // What it waits for runs under the same profile.
            for profile in service["profiles"].as_array().into_iter().flatten() {
                let theirs = other.get("profiles").and_then(Value::as_array);
                assert!(
                    theirs.is_none_or(|theirs| theirs.contains(profile)),
                    "{name}"
                );
            }
        }
    }
    for service in ["muster", "muster-nats"] {
        assert_eq!(
            services[service]["healthcheck"]["test"],
            json!(["CMD", "muster", "health"])
        );
    }
    // The image holds all that the build reads.
    for folder in ["src", "grammar", "migrations", "benches", "config"] {
        assert!(
            text.contains(&format!("COPY {folder} {folder}")),
            "{folder}"
        );
    }
}

#[test]
fn health_tries_the_credentials_of_the_settings_and_says_which_are_wrong() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let nats = Nats::with(|_| "authorization { user: me, password: right }".to_owned());
    let health = |store: &str, bus: &str| {
        let house = House::new(store, bus, "");
        let output = house.run(&["health", "--output", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        let well: Vec<Value> = findings.iter().map(|one| one["well"].clone()).collect();
        let said = findings.iter().map(|one| one["detail"].to_string());
        (output.status.code(), well, said.collect::<String>())
    };
    let store = postgres.url();
    House::new(&store, "lines:", "").done(&["migrate"]);
    let nats_as = |password: &str| nats.url().replace("//", &format!("//me:{password}@"));
    let wrong_rabbit = rabbit.url().replace("guest:guest", "guest:wrong-one");
    let wrong_store = store.replace("muster@", "nobody:wrong-one@");
    for (store, bus, well, what) in [
        (&store, &wrong_rabbit, [true, false], "ACCESS_REFUSED"),
        (
            &store,
            &nats_as("wrong-one"),
            [true, false],
            "authorization",
        ),
        (&wrong_store, &nats_as("right"), [false, true], "nobody"),
    ] {
        let (code, found, said) = health(store, bus);
        assert_eq!(
            (code, found),
            (Some(1), vec![json!(well[0]), json!(well[1])]),
            "{said}"
        );
        assert!(said.to_lowercase().contains(&what.to_lowercase()), "{said}");
        assert!(!said.contains("wrong-one"), "{said}");
    }
    // Let in, and nothing runs.
    for bus in [rabbit.url(), nats_as("right")] {
        let (code, found, said) = health(&store, &bus);
        assert_eq!(
            (code, found.first()),
            (Some(1), Some(&json!(true))),
            "{said}"
        );
        assert!(
            said.contains("lets us in") && said.contains("none runs"),
            "{said}"
        );
    }
}

/// The schema of the compose specification, as a package for such files carries it.
fn compose_schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/asyncapi/node_modules/dclint/schemas/compose.schema.json");
    let text = fs::read_to_string(path)
        .expect("the compose schema is there; set it up: bash tests/all.sh");
    let mut schema: Value = serde_json::from_str(&text).expect("JSON");
    // It names its draft by an address that nobody else knows it by.
    if let Value::Object(members) = &mut schema {
        members.remove("$schema");
        members.remove("$id");
    }
    schema
}

#[test]
fn the_containers_are_described_as_the_compose_specification_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("docker-compose.yml");
    let compose = compose_of(&fs::read_to_string(&path).expect("docker-compose.yml"));
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.set_default_draft(boon::Draft::V7);
    compiler
        .add_resource("compose.json", compose_schema())
        .expect("a schema");
    let schema = compiler
        .compile("compose.json", &mut schemas)
        .unwrap_or_else(|wrong| panic!("it is a schema: {wrong}"));
    if let Err(wrong) = schemas.validate(&compose, schema) {
        panic!("docker-compose.yml: {wrong}");
    }
    let mut misspelt = compose.clone();
    misspelt["services"]["postgres"]["helthcheck"] = json!({});
    assert!(
        schemas.validate(&misspelt, schema).is_err(),
        "the schema knows the words of a service"
    );
    let services = compose["services"].as_object().expect("services");
    let profiles = |service: &Value| -> BTreeSet<String> {
        let profiles = service["profiles"].as_array().into_iter().flatten();
        profiles
            .filter_map(|profile| profile.as_str().map(str::to_owned))
            .collect()
    };
    for (name, service) in services {
        assert!(service["image"].is_string(), "{name} has an image");
        if let Some(check) = service.get("healthcheck") {
            assert_eq!(
                check["test"][0], "CMD",
                "{name} runs its check without a shell"
            );
        }
    }
    // Either broker brings a service and a worker; all else runs with both.
    for (broker, service, worker) in [
        ("rabbitmq", "muster", "worker"),
        ("nats", "muster-nats", "worker-nats"),
    ] {
        for name in [broker, service, worker] {
            assert_eq!(
                profiles(&services[name]),
                [broker.to_owned()].into(),
                "{name}"
            );
        }
    }
    for name in [
        "postgres",
        "prometheus",
        "node-exporter",
        "pushgateway",
        "grafana",
    ] {
        assert!(profiles(&services[name]).is_empty(), "{name}");
    }

    // Where docker's own reader is there, which needs no engine, it has the last word.
    let compose = || {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        docker
    };
    let there = compose().arg("version").output();
    if !there.is_ok_and(|version| version.status.success()) {
        return;
    }
    for profile in ["rabbitmq", "nats"] {
        let read = compose()
            .arg("--file")
            .arg(&path)
            .args(["--profile", profile, "config", "--quiet"])
            .output()
            .expect("docker runs");
        assert!(
            read.status.success(),
            "{profile}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
    }
}
