//! What file and environment say, resolved once.

use std::path::Path;

use muster::document::{Complaint, Document, Node, Value};
use muster::moment::Span;
use muster::settings::{
    Acknowledge, Defaults, EVENTS, Envelope, Format, IntakeSettings, KEYS, Kind, LevelGate,
    LogFormat, ObjectTypeSettings, Order, Rank, Settings, Url, WorkSettings, WorkerSettings,
    variable,
};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../config/example.toml");
const OPENKAT: &str = include_str!("../config/openkat.toml");

type Loaded = Result<(Settings, Vec<Complaint>), Vec<Complaint>>;

fn read(text: &str, variables: &[(&str, &str)]) -> Loaded {
    let document = Document::toml("muster.toml", text).map_err(|complaint| vec![complaint])?;
    let variables = variables
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_string()));
    Settings::read(&document, variables)
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Settings {
    match read(text, variables) {
        Ok((settings, warnings)) => {
            assert_eq!(shown(&warnings), [""; 0]);
            settings
        }
        Err(complaints) => panic!("{:#?}", shown(&complaints)),
    }
}

fn shown(complaints: &[Complaint]) -> Vec<String> {
    complaints.iter().map(ToString::to_string).collect()
}

fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match read(text, variables) {
        Ok((settings, _)) => panic!("this was taken: {settings:?}"),
        Err(complaints) => shown(&complaints),
    }
}

fn warnings(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match read(text, variables) {
        Ok((_, warnings)) => shown(&warnings),
        Err(complaints) => panic!("{:#?}", shown(&complaints)),
    }
}

fn native(order: Order) -> IntakeSettings {
    IntakeSettings {
        queue: EVENTS.to_string(),
        order,
        format: Format::CloudEvents,
    }
}

// What is read

#[test]
fn nothing_written_means_the_documented_defaults() {
    let settings = settings("", &[]);
    assert!(!settings.open_types);
    assert!(settings.open_organizations);
    assert!(!settings.require_signatures);
    assert_eq!(settings.store.url.expose(), "sqlite:muster.db");
    assert_eq!(settings.bus.url.expose(), "lines:");
    assert_eq!(settings.bus.intake, [native(Order::Time)]);
    assert_eq!(settings.bus.prefetch, 1000);
    assert_eq!(settings.bus.batch.count, 250);
    assert_eq!(settings.bus.batch.linger, Span::from_micros(5000));
    assert_eq!(settings.defaults.grace, Span::seconds(86_400));
    assert_eq!(settings.defaults.timeouts.task, Span::seconds(604_800));
    assert_eq!(settings.defaults.retry.max, 3);
    assert_eq!(settings.retention.events, Span::seconds(7 * 86_400));
    assert_eq!(settings.metrics.every, Span::seconds(10));
    assert_eq!(settings.metrics.file, None);
    assert!(settings.workers.is_empty());
    assert_eq!(settings.plugin_recurrences.timezone, "UTC");
    assert_eq!(settings.log.format, LogFormat::Text);
}

#[test]
fn a_worker_type_that_is_not_named_has_the_defaults() {
    let settings = settings("[workers.boefje]\ncredit = 7\n", &[]);
    assert_eq!(settings.worker("boefje").credit, 7);
    assert_eq!(settings.worker("boefje").limit, 100_000);
    let other = settings.worker("nobody").into_owned();
    assert_eq!(other, WorkerSettings::for_type("nobody"));
    assert_eq!(other.queue, "muster.tasks.nobody");
    assert_eq!(other.level_gate, LevelGate::IfSet);
}

#[test]
fn everything_that_is_written_is_taken() {
    let text = r#"
        open_types = true
        open_organizations = false
        require_signatures = true
        [store]
        url = "postgres://muster@localhost/muster"
        [bus]
        url = "amqps://me:pw@localhost/%2f"
        prefetch = 20
        batch = { count = 10, linger = "1s" }
        [[bus.intake]]
        queue = "scan_profile_mutations"
        format = "openkat-scan-profile"
        [[bus.intake]]
        queue = "muster.events"
        order = "version"
        [[bus.intake]]
        queue = "raw_file_received"
        order = "arrival"
        format = "openkat-raw-file"
        [defaults]
        grace = "1h"
        timeouts = { queue = "1m", heartbeat = "2m", run = "3m", task = "4m" }
        retry = { max = 5, first = "1s", cap = "2s", declines = 6 }
        [retention]
        tasks = "1d"
        runs = "2d"
        events = "3d"
        versions = "4d"
        tombstones = "5d"
        [metrics]
        file = "m.prom"
        push = "https://me:pw@push.example/x"
        every = "1m"
        [workers.boefje]
        queue = "work"
        split = [{ queue = "work.nmap", where = "oci_image startswith 'nmap'" }]
        format = "openkat"
        acknowledge = "publish"
        rank = "age"
        limit = 10
        stored_limit = 100
        credit = 0
        lower_class_every = 4
        level_gate = "required"
        minimum_scan_level = 1
        requires_indemnification = true
        run_on_enable = true
        share = true
        [object_types.hostname]
        fields = { root = "bool?", name = "text" }
        aliases = ["Hostname", "Host"]
        ignore = "seen"
        [object_types.url]
        name = "raw"
        [plugin_recurrences]
        timezone = "Europe/Amsterdam"
        spread = "6h"
        [[keys]]
        id = "k"
        secret = "s"
        organizations = ["acme"]
        [log]
        format = "json"
        level = "debug"
    "#;
    let settings = settings(text, &[]);
    assert!(settings.open_types && !settings.open_organizations && settings.require_signatures);
    assert_eq!(settings.store.url.scheme(), "postgres");
    assert_eq!(settings.bus.url.expose(), "amqps://me:pw@localhost/%2f");
    let intake = |queue: &str, format| IntakeSettings {
        queue: queue.to_string(),
        order: Order::Arrival,
        format,
    };
    assert_eq!(
        settings.bus.intake,
        [
            native(Order::Version),
            intake("scan_profile_mutations", Format::OpenkatScanProfile),
            intake("raw_file_received", Format::OpenkatRawFile),
        ]
    );
    assert_eq!(settings.bus.batch.linger, Span::seconds(1));
    assert_eq!(settings.defaults.timeouts.heartbeat, Span::seconds(120));
    assert_eq!(settings.defaults.retry.declines, 6);
    assert_eq!(settings.retention.tombstones, Span::seconds(5 * 86_400));
    assert_eq!(settings.metrics.file.as_deref(), Some(Path::new("m.prom")));
    let boefje = settings.worker("boefje");
    assert_eq!(boefje.queues().collect::<Vec<_>>(), ["work.nmap", "work"]);
    assert_eq!(boefje.split[0].query, "oci_image startswith 'nmap'");
    assert_eq!(boefje.format, Envelope::Openkat);
    assert_eq!(boefje.acknowledge, Acknowledge::Publish);
    assert_eq!(boefje.rank, Rank::Age);
    assert_eq!(
        (boefje.limit, boefje.stored_limit, boefje.credit),
        (10, 100, 0)
    );
    assert_eq!(boefje.level_gate, LevelGate::Required);
    assert_eq!(boefje.minimum_scan_level, 1);
    assert!(boefje.requires_indemnification && boefje.run_on_enable && boefje.share);
    assert_eq!(
        settings.object_types["hostname"],
        ObjectTypeSettings {
            fields: Some(vec![
                ("root".to_string(), "bool?".to_string()),
                ("name".to_string(), "text".to_string())
            ]),
            aliases: vec!["Hostname".to_string(), "Host".to_string()],
            name: "name".to_string(),
            ignore: vec!["seen".to_string()],
        }
    );
    assert_eq!(settings.object_types["url"].fields, None);
    assert_eq!(settings.plugin_recurrences.timezone, "Europe/Amsterdam");
    assert_eq!(settings.keys[0].secret.expose(), "s");
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level, "debug");
    assert!(!settings.log.trail);
}

#[test]
fn the_settings_of_the_design_load_as_they_are_printed() {
    let text = r#"
open_types = false
open_organizations = true
require_signatures = false
[store]
url = "postgres://muster@localhost/muster"     # default: sqlite:muster.db
[bus]
url = "amqp://localhost:5672/%2f"              # or nats://…; default: lines: (standard input and output)
[[bus.intake]]                                 # further queues to read, beside muster.events
queue = "scan_profile_mutations"
order = "arrival"                              # time | version | arrival
format = "openkat-scan-profile"                # cloudevents | openkat-scan-profile | openkat-raw-file | openkat-object
[defaults]
grace = "24h"                                  # object and file events
timeouts = { queue = "1h", heartbeat = "60s", run = "1h", task = "7d" }
retry = { max = 3, first = "30s", cap = "1h", declines = 20 }
[retention]                                    # what history is kept
tasks = "30d"
runs = "90d"
events = "7d"                                  # bodies, for explain and replay
versions = "90d"                               # of objects, for ever() and changed()
tombstones = "30d"
[metrics]
file = "/var/lib/node_exporter/muster.prom"
push = "http://localhost:9091"
[workers.boefje]                               # a worker type
queue = "muster.tasks.boefje"
split = [{ queue = "muster.tasks.boefje.nmap", where = "oci_image startswith 'nmap'" }]   # first match wins
format = "muster"                              # or "openkat"
acknowledge = "status"                         # or "publish"
rank = "fifo"                                  # fifo | age | deadline
limit = 100000                                 # heads in memory
stored_limit = 10000000                        # queued tasks at which expansions wait
credit = 64                                    # messages at the broker that nobody has accepted; 0 = unlimited, as it always is with lines
lower_class_every = 16
level_gate = "required"                        # or "if_set"
minimum_scan_level = 0
requires_indemnification = false               # P18: true where muster knows who signed
run_on_enable = false
share = false
[object_types]                                 # declared fields, as in query.md; aliases; which attribute is the natural name
hostname = { fields = { name = "text", root = "bool?", ports = "list(int)", network = "rel(network)?" }, aliases = ["Hostname"], name = "name", ignore = ["last_seen"] }
"#;
    let settings = settings(text, &[]);
    assert_eq!(settings.worker("boefje").split.len(), 1);
    assert_eq!(
        settings.object_types["hostname"]
            .fields
            .as_ref()
            .map(Vec::len),
        Some(4)
    );
    assert_eq!(
        settings.metrics.file.as_deref(),
        Some(Path::new("/var/lib/node_exporter/muster.prom"))
    );
}

// The examples

/// The values of a key of [`KEYS`] that a file holds.
fn values<'n>(node: &'n Node, key: &str) -> Vec<&'n Node> {
    let Some((head, rest)) = key.split_once('.') else {
        return step(node, key);
    };
    step(node, head)
        .into_iter()
        .flat_map(|below| values(below, rest))
        .collect()
}

fn step<'n>(node: &'n Node, name: &str) -> Vec<&'n Node> {
    match (name.strip_suffix("[]"), &node.value) {
        (None, Value::Table(entries)) => {
            let taken = entries
                .iter()
                .filter(|(key, _)| name == "*" || key.name == name);
            taken.map(|(_, value)| value).collect()
        }
        (Some(list), Value::Table(_)) => match node.get(list).map(|list| &list.value) {
            Some(Value::List(items)) => items.iter().collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[test]
fn the_example_names_and_explains_every_key() {
    let document = Document::toml("config/example.toml", EXAMPLE).unwrap();
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (key, _) in KEYS {
        let found = values(&document.roots[0], key);
        assert!(!found.is_empty(), "`{key}` is not in config/example.toml");
        let line = found[0].place.unwrap().line as usize;
        let before = if line < 2 { "" } else { lines[line - 2] };
        assert!(
            before.starts_with('#'),
            "line {line} has no comment above it: {}",
            lines[line - 1]
        );
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let (example, warnings) = read(EXAMPLE, &[]).map_err(|found| shown(&found)).unwrap();
    assert_eq!(shown(&warnings), [""; 0]);
    let defaults = Settings::default();
    assert_eq!(example.open_types, defaults.open_types);
    assert_eq!(example.open_organizations, defaults.open_organizations);
    assert_eq!(example.require_signatures, defaults.require_signatures);
    assert_eq!(example.store, defaults.store);
    assert_eq!(example.bus, defaults.bus);
    assert_eq!(example.defaults, Defaults::default());
    assert_eq!(example.retention, defaults.retention);
    assert_eq!(example.metrics.every, defaults.metrics.every);
    assert_eq!(example.plugin_recurrences, defaults.plugin_recurrences);
    assert_eq!(example.log, defaults.log);
    let work = WorkSettings::default();
    assert_eq!(example.work.concurrency, work.concurrency);
    assert_eq!(example.work.runtimes, work.runtimes);
    assert_eq!(example.work.grace, work.grace);
    assert_eq!(example.work.log_bound, work.log_bound);
    let boefje = WorkerSettings {
        split: example.worker("boefje").split.clone(),
        ..WorkerSettings::for_type("boefje")
    };
    assert_eq!(*example.worker("boefje"), boefje);
    assert_eq!(
        example.object_types["hostname"].name,
        ObjectTypeSettings::default().name
    );
}

/// Which names a table knows, as its complaint about an unknown one lists them.
fn known(text: &str) -> Vec<String> {
    let found = errors(text, &[]);
    let line = found
        .iter()
        .find(|line| line.contains("zzzzzzzzzz"))
        .unwrap();
    let (_, names) = line.split_once("known here: ").unwrap();
    names.split(", ").map(str::to_string).collect()
}

#[test]
fn the_list_of_keys_is_what_is_read_and_nothing_else() {
    for (table, text) in [
        ("", "zzzzzzzzzz = 1"),
        ("store.", "[store]\nzzzzzzzzzz = 1"),
        ("bus.", "[bus]\nzzzzzzzzzz = 1"),
        ("bus.batch.", "[bus.batch]\nzzzzzzzzzz = 1"),
        ("bus.intake[].", "[[bus.intake]]\nzzzzzzzzzz = 1"),
        ("defaults.", "[defaults]\nzzzzzzzzzz = 1"),
        ("defaults.timeouts.", "[defaults.timeouts]\nzzzzzzzzzz = 1"),
        ("defaults.retry.", "[defaults.retry]\nzzzzzzzzzz = 1"),
        ("retention.", "[retention]\nzzzzzzzzzz = 1"),
        ("metrics.", "[metrics]\nzzzzzzzzzz = 1"),
        ("workers.*.", "[workers.a]\nzzzzzzzzzz = 1"),
        ("workers.*.split[].", "[[workers.a.split]]\nzzzzzzzzzz = 1"),
        ("object_types.*.", "[object_types.a]\nzzzzzzzzzz = 1"),
        (
            "plugin_recurrences.",
            "[plugin_recurrences]\nzzzzzzzzzz = 1",
        ),
        ("keys[].", "[[keys]]\nzzzzzzzzzz = 1"),
        ("work.", "[work]\nzzzzzzzzzz = 1"),
        ("log.", "[log]\nzzzzzzzzzz = 1"),
    ] {
        let mut listed: Vec<String> = KEYS
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(table))
            .filter_map(|rest| rest.split(['.', '[']).next())
            .filter(|name| *name != "*")
            .map(str::to_string)
            .collect();
        listed.sort();
        listed.dedup();
        assert_eq!(known(text), listed, "{table}");
    }
}

#[test]
fn the_settings_for_openkat_say_what_its_users_keep() {
    let settings = settings(OPENKAT, &[]);
    assert!(settings.open_types);
    let intake = |queue: &str, order, format| IntakeSettings {
        queue: queue.to_string(),
        order,
        format,
    };
    assert_eq!(
        settings.bus.intake,
        [
            native(Order::Time),
            intake(
                "scan_profile_mutations",
                Order::Arrival,
                Format::OpenkatScanProfile
            ),
            intake("raw_file_received", Order::Time, Format::OpenkatRawFile),
        ]
    );
    let boefje = settings.worker("boefje");
    assert_eq!(
        *boefje,
        WorkerSettings {
            format: Envelope::Openkat,
            level_gate: LevelGate::Required,
            minimum_scan_level: 1,
            run_on_enable: true,
            share: true,
            ..WorkerSettings::for_type("boefje")
        }
    );
    for raw in ["normalizer", "report"] {
        assert_eq!(settings.worker(raw).format, Envelope::Openkat);
        assert_eq!(settings.worker(raw).level_gate, LevelGate::IfSet);
    }
    assert_eq!(settings.defaults.grace, Span::seconds(86_400));
    assert_eq!(settings.plugin_recurrences.timezone, "UTC");
}

// The environment

#[test]
fn a_variable_beats_the_file_and_makes_the_tables_that_it_needs() {
    let settings = settings(
        "[store]\nurl = \"sqlite:a.db\"\n[workers.boefje]\ncredit = 1\n[workers.my-own]\n[object_types.url]\n",
        &[
            ("MUSTER_STORE_URL", "postgres://localhost/muster"),
            ("MUSTER_BUS_BATCH_COUNT", "7"),
            ("MUSTER_OPEN_TYPES", "true"),
            ("MUSTER_DEFAULTS_TIMEOUTS_RUN", "5m"),
            ("MUSTER_WORKERS_BOEFJE_CREDIT", "64"),
            ("MUSTER_WORKERS_MY_OWN_SHARE", "true"),
            ("MUSTER_OBJECT_TYPES_URL_NAME", "raw"),
            ("MUSTER_CONFIG", "elsewhere.toml"),
            ("MUSTER_LOG_LEVEL", ""),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(settings.store.url.scheme(), "postgres");
    assert_eq!(settings.bus.batch.count, 7);
    assert!(settings.open_types);
    assert_eq!(settings.defaults.timeouts.run, Span::seconds(300));
    assert_eq!(settings.worker("boefje").credit, 64);
    assert!(settings.worker("my-own").share);
    assert_eq!(settings.object_types["url"].name, "raw");
    assert_eq!(settings.log.level, "info", "an empty variable sets nothing");
}

#[test]
fn every_scalar_key_has_a_variable() {
    let file = "[workers.w]\n[object_types.t]\n";
    for (key, kind) in KEYS.iter().filter(|(_, kind)| *kind != Kind::FileOnly) {
        let names: Vec<&str> = key
            .split('.')
            .map(|part| match (part, key.starts_with("workers")) {
                ("*", true) => "w",
                ("*", false) => "t",
                (part, _) => part,
            })
            .collect();
        let name = variable(&names);
        // No key takes a space, so each complains, and by the name of its variable.
        let found = match read(file, &[(&name, " ")]) {
            Err(found) => shown(&found),
            Ok(_) => panic!("{name} ({kind:?}) was not looked at"),
        };
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("{name}: `{}`: ", names.join("."))),
            "{found:?}"
        );
    }
}

#[test]
fn a_wrong_variable_is_named_instead_of_the_file() {
    assert_eq!(
        errors(
            "[workers.boefje]\nrank = \"fifo\"\n",
            &[
                ("MUSTER_BUS_PREFETCH", "many"),
                ("MUSTER_WORKERS_BOEFJE_RANK", "fif"),
                ("MUSTER_DEFAULTS_GRACE", "5"),
                ("MUSTER_OPEN_TYPES", "yes"),
            ]
        ),
        [
            "MUSTER_OPEN_TYPES: `open_types`: expected true or false, found the text \"yes\"",
            "MUSTER_BUS_PREFETCH: `bus.prefetch`: expected a whole number from 1 to 65535, found the text \"many\"",
            "MUSTER_DEFAULTS_GRACE: `defaults.grace`: `5` is not a length of time; write it as 90s, 15m, 1h, 2d or 1w",
            "MUSTER_WORKERS_BOEFJE_RANK: `workers.boefje.rank`: expected `fifo`, `age` or `deadline`, found the text \"fif\"\n  help: did you mean `fifo`?",
        ]
    );
}

#[test]
fn a_variable_that_means_nothing_is_a_warning_that_names_the_nearest() {
    assert_eq!(
        warnings(
            "",
            &[
                ("MUSTER_STORE_URI", "secret"),
                ("MUSTER_CONFG", "x"),
                ("MUSTER_WHATEVER_THIS_IS", "x"),
                ("MUSTER_WORKERS_BOEFJE_CREDIT", "1"),
                ("MUSTER_KEYS", "x"),
                ("MUSTER_BUS_INTAKE", "x"),
            ]
        ),
        [
            "MUSTER_BUS_INTAKE: warning: `bus.intake` is set in the file only",
            "MUSTER_CONFG: warning: this variable stands for no setting and changes nothing\n  help: did you mean `MUSTER_CONFIG`?",
            "MUSTER_KEYS: warning: `keys` is set in the file only",
            "MUSTER_STORE_URI: warning: this variable stands for no setting and changes nothing\n  help: did you mean `MUSTER_STORE_URL`?",
            "MUSTER_WHATEVER_THIS_IS: warning: this variable stands for no setting and changes nothing",
            "MUSTER_WORKERS_BOEFJE_CREDIT: warning: this variable stands for no setting and changes nothing\n  help: a table of your own name must be in the file; then variables can change what it holds",
        ]
    );
}

#[test]
fn a_variable_that_could_mean_two_settings_is_refused() {
    assert_eq!(
        errors(
            "[workers.a-b]\n[workers.a_b]\n",
            &[("MUSTER_WORKERS_A_B_CREDIT", "1")]
        ),
        [
            "MUSTER_WORKERS_A_B_CREDIT: this variable could mean any of workers.a-b.credit, workers.a_b.credit; set it in the file"
        ]
    );
}

// What is refused

#[test]
fn unknown_keys_and_wrong_values_are_all_told_with_their_line_and_the_nearest_name() {
    let text = "open_typs = true\n[store]\nurl = \"mysql://h/d\"\n[workers.boefje]\nrnak = \"fifo\"\ncredit = \"64\"\n\
                minimumScanLevel = 1\n[retention]\ntasks = 30\n[log]\nlevel = \"verbose\"\n";
    let found = errors(text, &[]);
    let first_lines: Vec<&str> = found.iter().filter_map(|f| f.lines().next()).collect();
    assert_eq!(
        first_lines,
        [
            "muster.toml:3:7: `store.url`: expected an address that begins with `sqlite:`, `postgres:`, `postgresql:`",
            "muster.toml:9:9: `retention.tasks`: expected a length of time such as \"90s\" or \"1h\", found the number 30",
            "muster.toml:6:10: `workers.boefje.credit`: expected a whole number from 0 to 1000000, found the text \"64\"",
            "muster.toml:5:1: unknown setting `workers.boefje.rnak`",
            "muster.toml:7:1: unknown setting `workers.boefje.minimumScanLevel`",
            "muster.toml:11:9: `log.level`: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, found the text \"verbose\"",
            "muster.toml:1:1: unknown setting `open_typs`",
        ]
    );
    assert!(
        found[3].contains("\n  help: did you mean `rank`? known here: acknowledge, credit,"),
        "{}",
        found[3]
    );
    assert!(
        found[4].contains("did you mean `minimum_scan_level`?"),
        "{}",
        found[4]
    );
    assert!(
        found[6].contains("did you mean `open_types`?"),
        "{}",
        found[6]
    );
}

#[test]
fn a_value_that_cannot_be_is_refused_alone() {
    for (text, expected) in [
        (
            "store = 1",
            "1:9: `store`: expected a table, found the number 1",
        ),
        (
            "[store]\nurl = \"sqlite:\"",
            "2:7: `store.url`: the name of a file is missing: `sqlite:muster.db`",
        ),
        (
            "[store]\nurl = \"postgres:x\"",
            "2:7: `store.url`: this address names no host: `scheme://host`",
        ),
        (
            "[bus]\nurl = \"amqp//localhost\"",
            "2:7: `bus.url`: expected an address that begins with `lines:`, `amqp:`, `amqps:`, `nats:`, `tls:`",
        ),
        (
            "[bus]\nurl = \"ampq://h\"",
            "2:7: `bus.url`: expected an address that begins with `lines:`, `amqp:`, `amqps:`, `nats:`, `tls:`; did you mean `amqp:`?",
        ),
        (
            "[bus]\nurl = \"lines:x\"",
            "2:7: `bus.url`: nothing may follow `lines:`",
        ),
        (
            "[bus]\nbatch = { count = 0 }",
            "2:19: `bus.batch.count`: expected a whole number from 1 to 100000, found the number 0",
        ),
        (
            "[bus]\nbatch = { linger = \"5\" }",
            "2:20: `bus.batch.linger`: `5` is not a length of time; write it as 90s, 15m, 1h, 2d or 1w",
        ),
        (
            "[bus]\nbatch = { linger = \"2m\" }",
            "2:20: `bus.batch.linger`: a batch may not wait longer than 60s",
        ),
        (
            "[bus]\nbatch = { linger = \"xms\" }",
            "2:20: `bus.batch.linger`: `xms` is not a length of time; write it as 5ms or 1s",
        ),
        (
            "[[bus.intake]]\norder = \"time\"",
            "1:1: setting `bus.intake[0].queue` is missing",
        ),
        (
            "[[bus.intake]]\nqueue = \"q\"\norder = \"version\"\nformat = \"openkat-object\"",
            "3:9: `bus.intake[0].order`: messages in the format `openkat-object` carry no version to order by",
        ),
        (
            "[[bus.intake]]\nqueue = \"muster.events\"\nformat = \"openkat-object\"",
            "3:10: `bus.intake[0].format`: `muster.events` holds CloudEvents",
        ),
        (
            "[[bus.intake]]\nqueue = \"q\"\n[[bus.intake]]\nqueue = \"q\"",
            "4:9: `bus.intake[1].queue`: the queue `q` has an intake already",
        ),
        (
            "[[bus.intake]]\nqueue = \"muster.status\"",
            "2:9: `bus.intake[0].queue`: the queue `muster.status` is that of the statuses of workers",
        ),
        (
            "[defaults]\ntimeouts = { run = \"0s\" }",
            "2:20: `defaults.timeouts.run`: this must be longer than no time at all",
        ),
        (
            "[defaults]\nretry = { first = \"2h\" }",
            "2:19: `defaults.retry.first`: the first pause of retries is longer than their `cap`",
        ),
        (
            "[workers.a]\nqueue = \"a b\"",
            "2:9: `workers.a.queue`: the name of a queue holds no spaces and none of `*`, `>`, `#`",
        ),
        (
            "[workers.a]\nqueue = \"a..b\"",
            "2:9: `workers.a.queue`: the name of a queue has a word before and after each dot",
        ),
        (
            "[workers.a]\nqueue = \"amq.b\"",
            "2:9: `workers.a.queue`: names that begin with `amq.` belong to RabbitMQ",
        ),
        (
            "[workers.a]\nlower_class_every = 1",
            "2:21: `workers.a.lower_class_every`: expected a whole number from 2 to 1000000, found the number 1",
        ),
        (
            "[plugin_recurrences]\ntimezone = \"Europe/Amsterdm\"",
            "2:12: `plugin_recurrences.timezone`: `Europe/Amsterdm` is no time zone that is known here; write it as Europe/Amsterdam",
        ),
        (
            "[[keys]]\nid = \"a\"\nsecret = 5\norganizations = []",
            "3:10: `keys[0].secret`: expected a text that is not empty",
        ),
        (
            "[object_types.a]\nfields = { x = 5 }",
            "2:16: `object_types.a.fields.x`: expected a text, found the number 5",
        ),
    ] {
        let found = errors(text, &[]);
        let first = found[0].lines().next().unwrap_or_default();
        assert_eq!(first, format!("muster.toml:{expected}"), "{text}");
    }
}

#[test]
fn values_that_are_wrong_beside_each_other_are_refused() {
    for (text, expected) in [
        (
            "[workers.a]\nqueue = \"q\"\n[workers.b]\nqueue = \"q\"",
            "4:9: `workers.b.queue`: the queue `q` is that of the workers `a` already",
        ),
        (
            "[workers.a]\nsplit = [{ queue = \"muster.tasks.a\", where = \"x\" }]",
            "1:1: `workers.a.queue`: the queue `muster.tasks.a` is that of a part of the workers `a` already",
        ),
        (
            "[workers.a]\nsplit = [{ queue = \"q\", where = \"x\" }, { queue = \"q\", where = \"y\" }]",
            "2:50: `workers.a.split[1].queue`: the queue `q` is that of a part of the workers `a` already",
        ),
        (
            "[workers.a]\nqueue = \"muster.commands\"",
            "2:9: `workers.a.queue`: the queue `muster.commands` is that of commands already",
        ),
        (
            "[workers.a]\nqueue = \"q\"\n[[bus.intake]]\nqueue = \"q\"",
            "2:9: `workers.a.queue`: the queue `q` is that of an intake already",
        ),
        (
            "[workers.a]\nlimit = 5\ncredit = 6",
            "3:10: `workers.a.credit`: a credit of 6 is more than the 5 heads that `limit` holds",
        ),
        (
            "[workers.a]\nstored_limit = 70\nlimit = 80",
            "3:9: `workers.a.limit`: 80 heads in memory are more than the 70 tasks that `stored_limit` lets in",
        ),
        (
            "[object_types.a]\naliases = [\"X\"]\n[object_types.b]\naliases = [\"X\"]",
            "4:11: `object_types.b.aliases`: `X` means the object type `a` already",
        ),
        (
            "[object_types.a]\naliases = [\"b\"]\n[object_types.b]",
            "2:11: `object_types.a.aliases`: `b` means the object type `b` already",
        ),
        (
            "[object_types.a]\nfields = { x = \"text\" }\nname = \"y\"",
            "3:8: `object_types.a.name`: `y` is none of the fields of `a`",
        ),
        (
            "[[keys]]\nid = \"a\"\nsecret = \"s\"\norganizations = [\"o\"]\n[[keys]]\nid = \"a\"\nsecret = \"s\"\norganizations = [\"o\"]",
            "6:6: `keys[1].id`: the key `a` is there twice",
        ),
    ] {
        assert_eq!(
            errors(text, &[]),
            [format!("muster.toml:{expected}")],
            "{text}"
        );
    }
}

#[test]
fn what_is_odd_but_works_is_a_warning() {
    assert_eq!(
        warnings(
            "require_signatures = true\n[bus]\nurl = \"amqp://localhost:5672\"\nprefetch = 10\n",
            &[]
        ),
        [
            "muster.toml:1:22: warning: `require_signatures`: signatures are required and there are no `keys`: every command and status will be refused",
            "muster.toml:2:1: warning: `bus.batch.count`: a batch of 250 is never full: `bus.prefetch` hands over no more than 10",
        ]
    );
}

#[test]
fn others_can_complain_about_a_setting_where_it_was_written() {
    let text = "[workers.a]\nsplit = [{ queue = \"q\", where = \"x ==\" }]\ncredit = 1\n";
    let settings = settings(text, &[("MUSTER_WORKERS_A_CREDIT", "2")]);
    assert_eq!(
        settings
            .complaint("workers.a.split[0].where", "no query")
            .to_string(),
        "muster.toml:2:33: `workers.a.split[0].where`: no query"
    );
    assert_eq!(
        settings
            .complaint("workers.a.credit", "too few")
            .to_string(),
        "MUSTER_WORKERS_A_CREDIT: `workers.a.credit`: too few"
    );
}

// Secrets

#[test]
fn passwords_and_secrets_are_printed_nowhere() {
    let text = "[store]\nurl = \"postgres://muster:hunter2@localhost/muster?sslpassword=hunter2\"\n\
                [bus]\nurl = \"nats://hunter2@a:4222,nats://me:hunter2@b:4222\"\n\
                [metrics]\npush = \"https://me:hunter2@h/\"\n\
                [[keys]]\nid = \"k\"\nsecret = \"hunter2\"\norganizations = [\"acme\"]\n";
    let settings = settings(text, &[]);
    let printed = format!(
        "{settings:?} {settings:#?} {} {}",
        settings.store.url, settings.bus.url
    );
    assert!(!printed.contains("hunter2"), "{printed}");
    assert_eq!(
        settings.store.url.to_string(),
        "postgres://muster:***@localhost/muster?sslpassword=***"
    );
    assert_eq!(
        settings.bus.url.to_string(),
        "nats://***@a:4222,nats://me:***@b:4222"
    );
    assert!(settings.store.url.expose().contains("hunter2"));
}

#[test]
fn an_address_without_a_password_prints_as_it_is() {
    for address in [
        "sqlite:muster.db",
        "sqlite::memory:",
        "postgres://muster@localhost/muster",
        "amqp://localhost:5672/%2f",
    ] {
        let schemes = ["sqlite", "postgres", "amqp"];
        assert_eq!(Url::parse(address, &schemes).unwrap().to_string(), address);
    }
}

#[test]
fn a_wrong_address_is_not_repeated() {
    for address in [
        "hunter2",
        "hunter2:hunter2",
        "postgres://me:hunter2@h:x/d",
        "postgres://me:hunter2@/d",
        "postgres:hunter2",
    ] {
        for (name, value) in [
            ("MUSTER_STORE_URL", address),
            ("MUSTER_BUS_URL", address),
            ("MUSTER_METRICS_PUSH", address),
        ] {
            let found = errors("", &[(name, value)]).join("\n");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }
}

// Files

#[test]
fn a_file_that_is_named_must_be_there_and_be_a_file_of_settings() {
    let missing = Path::new("/nowhere/muster.toml");
    let none = std::iter::empty();
    let found = shown(&Settings::load(Some(missing), none).unwrap_err());
    assert!(
        found[0].starts_with("/nowhere/muster.toml: the settings cannot be read: "),
        "{found:?}"
    );

    let named = [(
        "MUSTER_CONFIG".to_string(),
        "/nowhere/else.toml".to_string(),
    )];
    let found = shown(&Settings::load(None, named.into_iter()).unwrap_err());
    assert!(found[0].starts_with("/nowhere/else.toml: "), "{found:?}");
    assert!(found[0].contains("a file that --config or MUSTER_CONFIG names must be there"));

    let name = format!("muster-settings-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let load = |bytes: &[u8], variables: &[(&str, &str)]| {
        std::fs::write(&file, bytes).unwrap();
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        Settings::load(Some(&file), variables.into_iter())
    };
    let (settings, _) = load(
        b"open_types = true",
        &[
            ("MUSTER_CONFIG", "/nowhere"),
            ("MUSTER_OPEN_ORGANIZATIONS", "false"),
        ],
    )
    .unwrap();
    assert!(settings.open_types && !settings.open_organizations);
    let found = shown(&load(b"open_types = true\nx = \xff", &[]).unwrap_err());
    assert!(
        found[0].ends_with(":2:5: this is not UTF-8 text"),
        "{found:?}"
    );
    let found = shown(&load(b"open_types = \n", &[]).unwrap_err());
    assert!(found[0].contains(".toml:1:"), "{found:?}");
    std::fs::remove_file(&file).unwrap();
}

// Whatever is written

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_value_of_any_setting_makes_it_panic(
        at in 0..KEYS.len(),
        value in prop_oneof![
            Just("1".to_string()), Just("-1".to_string()), Just("9e300".to_string()), Just("true".to_string()),
            Just("[]".to_string()), Just("[1]".to_string()), Just("{}".to_string()), Just("[{}]".to_string()),
            Just("{ a = 1 }".to_string()), Just("\"\"".to_string()), Just("\"a:b@c://d?e=f,\"".to_string()),
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            "[a-z]{0,8}:[/@:?,a-z0-9]{0,12}".prop_map(|text| format!("\"{text}\"")),
        ],
    ) {
        let key = KEYS[at].0.replace("[]", "").replace('*', "own");
        if let Ok((settings, _)) = read(&format!("{key} = {value}"), &[]) {
            let _ = format!("{settings:?}");
        }
    }

    #[test]
    fn no_variable_makes_it_panic(name in "[A-Z_]{0,20}", value in any::<String>()) {
        let _ = read("[workers.a]", &[(&format!("MUSTER_{name}"), &value)]);
        let _ = read("[workers.a]", &[("MUSTER_STORE_URL", &value), ("MUSTER_WORKERS_A_QUEUE", &value)]);
    }

    #[test]
    fn no_password_survives_printing(user in "[a-z]{1,5}", rest in "[a-z/:?&=#.,]{0,12}") {
        let address = format!("postgres://{user}:HUNTER2@{rest}");
        if let Ok(url) = Url::parse(&address, &["postgres"]) {
            prop_assert!(!url.to_string().contains("HUNTER2"), "{}", url);
        }
    }
}
