//! How commands come to the database and the brokers: what they make and what not, what they say where the door is
//! closed, and how they end.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;
use crate::support::servers::{Nats, Postgres};

/// Who is told at once is told in less; a machine under load needs some of it.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Commands that have nothing to look at, or to act on, where there is no database.
const LOOKING: [&str; 41] = [
    "apply catalogue.yaml --dry-run",
    "attempt list",
    "calendar delete freeze",
    "calendar list",
    "dead-letter drop --all --yes",
    "dead-letter list",
    "dead-letter redrive --all --yes",
    "dead-letter show x",
    "explain --event e-1",
    "explain --schedule nightly --object x --organization acme",
    "explain --task x",
    "explain event.json",
    "export",
    "health",
    "object list",
    "object-set list",
    "organization list",
    "plugin delete nmap",
    "plugin disable nmap",
    "plugin list",
    "query True --against objects",
    "query True --against plugins",
    "queue list",
    "queue pause muster.tasks.boefje --reason none",
    "replay catalogue.yaml",
    "run cancel x",
    "run get x",
    "run list",
    "run start nightly",
    "schedule backfill nightly --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z",
    "schedule list",
    "schedule pause nightly --reason none",
    "schedule preview nightly",
    "stats",
    "target list",
    "task cancel x",
    "task get x",
    "task list",
    "task mark x failed --reason none",
    "task retry x",
    "watch --once",
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// A folder with files to name, and no settings.
fn folder() -> Folder {
    let folder = Folder::new("cli");
    for (name, text) in [("catalogue.yaml", CATALOGUE), ("event.json", EVENT)] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn at(folder: &Folder, store: &str, line: &str) -> (i32, String, String) {
    let mut command = newcomer(folder, &words(line));
    command.env("MUSTER_STORE_URL", store);
    ended(command)
}

fn files(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn who_only_looks_makes_no_database_and_says_that_there_is_none() {
    let folder = folder();
    let before = files(&folder);
    let path = folder.path().join("typo.db").display().to_string();
    for line in LOOKING {
        let (code, out, err) = at(&folder, "sqlite:typo.db", line);
        assert_eq!(code, 1, "{line}: {out}{err}");
        let said = format!("{out}{err}");
        assert!(
            said.contains(&format!("there is no database at {path}"))
                && said.contains("`muster migrate` makes one"),
            "{line}: {said}"
        );
        assert_eq!(files(&folder), before, "{line} made something");
    }
}

#[test]
fn who_writes_makes_the_database() {
    for line in [
        "apply catalogue.yaml",
        "import objects objects.jsonl",
        "migrate",
        "organization apply organization.yaml",
        "run",
    ] {
        let folder = folder();
        fs::write(folder.path().join("objects.jsonl"), "").expect("written");
        let entry = "{id: acme, name: Acme}";
        fs::write(folder.path().join("organization.yaml"), entry).expect("written");
        let (code, _, err) = at(&folder, "sqlite:new.db", line);
        assert_eq!(code, 0, "{line}: {err}");
        let (code, _, err) = at(&folder, "sqlite:new.db", "task list");
        assert_eq!(code, 0, "after {line}: {err}");
    }
}

#[tokio::test]
async fn a_schema_of_another_version_is_told_and_left_as_it_is() {
    let folder = folder();
    at(&folder, "sqlite:muster.db", "migrate");
    let url = format!("sqlite:{}", folder.path().join("muster.db").display());
    let database = support::process::Database::at(&url);
    for (change, words) in [
        (
            "DELETE FROM migration WHERE number = (SELECT max(number) FROM migration)",
            &["and this program needs", "`muster migrate` brings it up"][..],
        ),
        (
            "INSERT INTO migration (number, name) VALUES (9999, 'later')",
            &["the database has schema 9999", "use the newer program"],
        ),
        (
            "DROP TABLE migration",
            &["holds no tables of muster", "`muster migrate` brings it up"],
        ),
    ] {
        database.execute(change).await;
        let count = "SELECT count(*) FROM migration";
        let steps = database.count(count).await;
        for line in LOOKING {
            let (code, out, err) = at(&folder, "sqlite:muster.db", line);
            let said = format!("{out}{err}");
            assert_eq!(code, 1, "{change}: {line}: {said}");
            for word in words {
                assert!(said.contains(word), "{change}: {line}: {said}");
            }
        }
        assert_eq!(database.count(count).await, steps, "{change}: migrated");
    }
}

#[test]
fn a_database_of_others_is_left_as_it_is() {
    let folder = folder();
    fs::write(folder.path().join("empty.db"), "").expect("written");
    // A database of SQLite with one table and a journal of its own kind.
    let theirs = folder.path().join("theirs.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        fs::write(&theirs, "").expect("written");
        let database = support::process::Database::at(&format!("sqlite:{}", theirs.display()));
        database.execute("CREATE TABLE song (name text)").await;
    });
    for name in ["empty.db", "theirs.db"] {
        let before = fs::read(folder.path().join(name)).expect("read");
        for line in LOOKING {
            let (code, out, err) = at(&folder, &format!("sqlite:{name}"), line);
            assert_eq!(code, 1, "{line}: {out}{err}");
            let said = format!("{out}{err}");
            assert!(said.contains("holds no tables of muster"), "{line}: {said}");
        }
        let after = fs::read(folder.path().join(name)).expect("read");
        assert!(before == after, "{name} was changed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_does_not_let_us_in_is_told_at_once_with_address_and_cause() {
    let postgres = Postgres::with(&["fsync=off"]);
    let server = support::process::Database::at(&postgres.url());
    server.execute("CREATE ROLE weak LOGIN").await;
    let folder = folder();
    let host = format!("127.0.0.1:{}", postgres.port());
    let nobody_there = format!("127.0.0.1:{}", free_port());
    let url = |user: &str, host: &str, name: &str| format!("postgres://{user}@{host}/{name}");
    let (_, _, err) = at(&folder, &postgres.url(), "migrate");
    assert_eq!(err, "");
    for (url, code, place, cause) in [
        (
            url("muster:open-sesame", &nobody_there, "muster"),
            3,
            format!("postgres://muster@{nobody_there}/muster"),
            "refused",
        ),
        (
            url("nobody:open-sesame", &host, "muster"),
            1,
            format!("postgres://nobody@{host}/muster"),
            "role \"nobody\" does not exist",
        ),
        (
            url("muster:open-sesame", &host, "nothing"),
            1,
            format!("postgres://muster@{host}/nothing"),
            "database \"nothing\" does not exist",
        ),
        (
            url("weak:open-sesame", &host, "muster"),
            1,
            String::new(),
            "permission denied",
        ),
    ] {
        for line in [
            "task list",
            "health",
            "watch --once",
            "apply catalogue.yaml",
        ] {
            let begun = Instant::now();
            let (ended, out, err) = at(&folder, &url, line);
            let said = format!("{out}{err}");
            assert!(begun.elapsed() < AT_ONCE, "{line}: {:?}", begun.elapsed());
            assert_eq!(ended, code, "{line}: {said}");
            assert!(
                said.contains(&place) && said.contains(cause),
                "{line} does not name {place} and `{cause}`: {said}"
            );
            for never in ["open-sesame", "at line", "pool"] {
                assert!(!said.contains(never), "{line} says `{never}`: {said}");
            }
        }
    }
}

/// The first line that a command says on standard error; it is ended then.
fn first_line(mut command: Command) -> String {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster runs");
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().expect("its standard error"));
    said.read_line(&mut line).expect("a line");
    child.kill().expect("killed");
    child.wait().expect("ended");
    line
}

#[test]
fn a_server_that_is_silent_is_waited_for_and_that_is_told() {
    let folder = folder();
    let silent = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = silent.local_addr().expect("its address");
    for line in ["task list", "--output json task list"] {
        let mut command = newcomer(&folder, &words(line));
        let url = format!("postgres://muster:open-sesame@{address}/muster");
        command.env("MUSTER_STORE_URL", url);
        let said = first_line(command);
        let waits = format!("waiting for postgres://muster@{address}/muster");
        assert!(said.contains(&waits), "{line}: {said}");
        if line != "task list" {
            let note: Value = serde_json::from_str(&said).expect("JSON");
            assert_eq!(note["ok"], true, "{note}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_says_which_database_it_waits_for_and_goes_on_when_it_is_there() {
    let mut postgres = Postgres::with(&["fsync=off"]);
    let nats = Nats::start();
    postgres.kill();
    let house = House::new(&postgres.url(), &nats.url(), "");
    let service = house.service();
    let place = postgres.url().replace("postgres://", "");
    support::process::until("it says what it waits for", async || {
        let log = service.log();
        (log.contains(&place) && log.contains("refused")).then_some(())
    })
    .await;
    postgres.restart();
    support::process::until("it is well", async || {
        house.run(&["health"]).status.success().then_some(())
    })
    .await;
    service.stop().await;
}

// --- What scripts read ----------------------------------------------------------------------------------------------

/// What a command says to scripts on standard error: one JSON object a line.
fn to_scripts(line: &str, err: &str) -> Vec<Value> {
    let each = err.lines().map(|said| {
        serde_json::from_str(said).unwrap_or_else(|_| panic!("{line}: this is no JSON: {said}"))
    });
    each.collect()
}

#[test]
fn whatever_is_wrong_scripts_read_one_json_object_for_each() {
    let house = embedded();
    for (name, text) in [
        (
            "wrong.yaml",
            "- {name: a, recurrenes: daily, plugins: 'True'}\n- {name: b, recurrences: daily, plugins: 'plugin_ix = 3'}\n",
        ),
        (
            "warned.yaml",
            "- {kind: plugin, plugin_id: again, worker_type: boefje, scan_level: 1}\n- {name: again, recurrences: daily, plugins: \"name = 'x' and name = 'y'\"}\n",
        ),
        ("lines.jsonl", "nonsense\n{\"primary_key\":\"x\"}\n"),
        (
            "cases.yaml",
            "- {kind: test, name: c, event: {type: nothing}, tasks: []}\n- {kind: test, name: d}\n",
        ),
        ("broken.toml", "[stoer]\nurl = 1\n[bus]\nurl = 7\n"),
        ("one.yaml", "{id: x, nam: X}\n"),
    ] {
        house.write(name, text.as_bytes());
    }
    // What it says, how it ends, how often, the word, and whether the place in a file is told.
    for (line, code, many, word, file) in [
        ("apply wrong.yaml", 1, 4, "invalid", true),
        ("apply --dry-run wrong.yaml", 1, 4, "invalid", true),
        ("replay wrong.yaml", 1, 4, "invalid", true),
        ("schedule preview wrong.yaml", 2, 3, "invalid", true),
        ("organization apply one.yaml", 2, 1, "invalid", true),
        ("import objects lines.jsonl", 1, 2, "invalid", true),
        ("import plugins lines.jsonl", 1, 4, "invalid", true),
        ("test cases.yaml", 1, 3, "invalid", true),
        ("--config broken.toml task list", 2, 2, "invalid", true),
        ("schema nope", 1, 1, "not_found", false),
        ("schedule preview nope", 1, 1, "not_found", false),
        ("watch --once --organization nope", 1, 1, "not_found", false),
        ("task list --organization nope", 1, 1, "not_found", false),
        ("task lst", 2, 1, "usage", false),
        ("apply", 2, 1, "usage", false),
        ("check nothing.yaml", 2, 1, "usage", false),
    ] {
        // Settings of its own stand before those of the house in the folder.
        let mut command = match line.strip_prefix("--config broken.toml ") {
            Some(_) => Command::new(env!("CARGO_BIN_EXE_muster")),
            None => house.command(&[]),
        };
        let folder = house.path("muster.toml");
        command.args(["--output", "json"]).args(words(line));
        command.current_dir(folder.parent().expect("a folder"));
        let (ended, _, err) = ended(command);
        assert_eq!(ended, code, "{line}: {err}");
        let said = to_scripts(line, &err);
        let errors: Vec<&Value> = said.iter().filter(|said| said["ok"] == false).collect();
        assert_eq!(errors.len(), many, "{line}: {err}");
        let first = &errors[0]["error"];
        assert_eq!(first["code"], word, "{line}: {err}");
        for field in ["message", "help"] {
            assert!(first[field].is_string(), "{line}: {err}");
        }
        assert_eq!(first["line"].is_u64(), file, "{line}: {err}");
    }
    let (_, _, err) = ended(house.command(&["--output", "json", "task", "lst"]));
    let help = &to_scripts("task lst", &err)[0]["error"]["help"];
    let help = help.as_str().expect("a text");
    assert!(help.contains("'list'") && help.contains("Usage:"), "{help}");
}

#[test]
fn warnings_are_no_errors_to_scripts() {
    let folder = folder();
    let mut command = newcomer(&folder, &["--output", "json", "check"]);
    command.env("MUSTER_STORE_ULR", "x");
    let (code, _, err) = ended(command);
    assert_eq!(code, 0);
    let said = to_scripts("check", &err);
    assert_eq!(said.len(), 1, "{err}");
    assert_eq!(said[0]["ok"], true);
    assert_eq!(said[0]["warning"]["file"], "MUSTER_STORE_ULR");
}

// --- Texts of others ------------------------------------------------------------------------------------------------

/// A name that would forge a line, colour the rest and turn it around.
fn hostile(name: &str) -> String {
    format!("{name}\nFORGED\t\u{1b}[31m\u{9b}1m\u{202e}\u{2066}{name}")
}

/// Nothing of a hostile name has its way with the terminal.
fn is_harmless(line: &str, said: &str) {
    let moves = |c: char| {
        (c.is_control() && c != '\n') || matches!(u32::from(c), 0x202a..=0x202e | 0x2066..=0x2069)
    };
    assert!(!said.contains(moves), "{line}: {said:?}");
    let forged = said
        .lines()
        .find(|said| said.trim_start().starts_with("FORGED"));
    assert_eq!(forged, None, "{line}: {said}");
}

#[test]
fn names_and_reasons_of_others_have_no_way_with_a_terminal() {
    let house = House::embedded("");
    let entries = |operation: Value| {
        json!([
            {"kind": "organization", "id": hostile("acme"), "name": hostile("Acme")},
            {"kind": "plugin", "plugin_id": hostile("dns"), "worker_type": "boefje", "consumes": ["hostname"]},
            {"kind": "object_set", "name": hostile("set"), "object_type": "hostname", "query": "True"},
            {"kind": "calendar", "name": hostile("freeze"), "dates": "2026-12-25"},
            {"name": hostile("new"), "run_on": "hostname", "operation": operation, "plugins": "True"},
            {"name": hostile("nightly"), "recurrences": "daily", "plugins": "True", "input": {"hostname": null},
             "calendars": [hostile("freeze")]},
        ])
        .to_string()
    };
    house.write("entries.json", entries(json!("created")).as_bytes());
    house.write("others.json", entries(json!("deleted")).as_bytes());
    let only = json!([{"kind": "plugin", "plugin_id": "other", "worker_type": "boefje"},
                      {"name": "other", "recurrences": "daily", "plugins": "True"}]);
    house.write("only.json", only.to_string().as_bytes());
    let case = json!([{"kind": "test", "name": hostile("case"), "event": {"type": "object.created", "data": {
        "organization": hostile("acme"), "object_type": "hostname", "primary_key": hostile("host"), "attributes": {}}},
        "tasks": [{"plugin": hostile("dns"), "input": hostile("other")}]}]);
    house.write("case.json", case.to_string().as_bytes());
    let event = json!({"specversion": "1.0", "id": hostile("e"), "source": "/t", "type": "object.created",
        "time": "2026-11-21T09:30:00Z", "data": {"organization": hostile("acme"), "object_type": "hostname",
        "primary_key": hostile("host"), "attributes": {"name": hostile("www")}, "scan_level": 2}});
    house.write("event.json", event.to_string().as_bytes());
    let said = |arguments: &[&str]| {
        let (_, out, err) = ended(house.command(arguments));
        is_harmless(&arguments.join(" "), &out);
        is_harmless(&arguments.join(" "), &err);
        format!("{out}{err}")
    };
    let shown = said(&["apply", "entries.json"]);
    assert!(
        shown.contains("+ schedule nightly\\nFORGED\\t\\u{1b}"),
        "{shown}"
    );
    let bad = json!({"specversion": "1.0", "id": hostile("x"), "type": hostile("y")});
    house.lines(format!("{event}\n{bad}\n").into_bytes());
    let first = |noun: &str, id: &str| {
        let rows = house.json(&[noun, "list"]);
        rows[0][id].as_str().expect("an id").to_owned()
    };
    let task = first("task", "id");
    let run = first("run", "id");
    let letter = first("dead-letter", "id");
    let (acme, host) = (hostile("acme"), hostile("host"));
    let (new, nightly) = (hostile("new"), hostile("nightly"));
    let (nobody, why) = (hostile("nobody"), hostile("why"));
    for arguments in [
        &["apply", "--dry-run", "others.json"][..],
        &["apply", "--dry-run", "--prune", "only.json"],
        &["check", "entries.json", "others.json"],
        &["test", "entries.json", "case.json"],
        &["explain", "event.json"],
        &["explain", "--event", &hostile("e")],
        &["explain", "--task", &task],
        &[
            "explain",
            "--schedule",
            &new,
            "--object",
            &host,
            "--organization",
            &acme,
        ],
        &[
            "explain",
            "--schedule",
            &nightly,
            "--object",
            &host,
            "--organization",
            &acme,
        ],
        &[
            "explain",
            "--schedule",
            &nobody,
            "--object",
            &host,
            "--organization",
            &acme,
        ],
        &["schedule", "preview", &nightly],
        &["schedule", "preview", "entries.json"],
        &["schedule", "preview", &nobody],
        &["schedule", "pause", &nobody, "--reason", "x"],
        &["schedule", "pause", &nightly, "--reason", &why],
        &["schedule", "preview", &nightly],
        &["schedule", "list"],
        &["queue", "pause", "muster.tasks.boefje", "--reason", &why],
        &["queue", "list"],
        &["run", "get", &run],
        &["run", "start", &nightly],
        &["run", "start", "--plugin", &nobody],
        &["task", "get", &task],
        &["task", "cancel", &task, "--reason", &why],
        &["task", "get", &task],
        &["task", "list", "--organization", &nobody],
        &["task", "list", "--state", &nobody],
        &["target", "get", &new, &host, "--organization", &acme],
        &["target", "list"],
        &["replay", "others.json"],
        &["replay", "others.json", "--over", "objects"],
        &["export"],
        &["stats"],
        &["query", "True", "--against", "objects"],
        &["query", &nobody],
        &["dead-letter", "show", &letter],
        &["dead-letter", "redrive", &letter],
        &["watch", "--once", "--tab", "tasks"],
        &["watch", "--once", "--organization", &nobody],
        &["plugin", "delete", &nobody],
        &["--config", &nobody, "check"],
        &["check", &nobody],
        &["schema", &nobody],
        &["\u{202e}nobody\u{9b}"],
    ] {
        said(arguments);
    }
    // Scripts read them to the letter, and a terminal is none the worse.
    let (_, out, _) = ended(house.command(&["--output", "json", "schedule", "list"]));
    is_harmless("schedule list", &out);
    let rows: Value = serde_json::from_str(&out).expect("JSON");
    let names = rows
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| &row["name"]);
    assert!(
        names.into_iter().any(|name| *name == json!(nightly)),
        "{rows}"
    );
    let (_, _, err) = ended(house.command(&["--output", "json", "run", "start", &nobody]));
    is_harmless("run start", &err);
}

// --- How they end ---------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_fault_ends_every_command_with_the_same_code() {
    let postgres = Postgres::with(&["fsync=off"]);
    let nats = Nats::with(|_| "authorization { user: me, password: right }".to_owned());
    let store = postgres.url();
    let denied = store.replace("muster@", "nobody@");
    let away = format!("postgres://127.0.0.1:{}/muster", free_port());
    let broker = nats.url().replace("//", "//me:right@");
    let stranger = nats.url().replace("//", "//me:wrong@");
    let folder = folder();
    fs::create_dir(folder.path().join("folder")).expect("made");
    fs::write(folder.path().join("notes.txt"), "no database at all").expect("written");
    let (code, _, err) = at(&folder, &store, "apply catalogue.yaml");
    assert_eq!(code, 0, "{err}");
    let of_stores = ["task list", "health", "watch --once", "run start nightly"];
    let of_brokers = ["health", "run", "work --type boefje --exec true"];
    let of_files = [
        "apply folder",
        "check folder",
        "explain folder",
        "import objects folder",
        "import plugins folder",
        "organization apply folder",
        "query True --object folder",
        "replay folder",
        "schedule preview folder",
        "test folder",
        "--config folder task list",
    ];
    let unasked = [
        "run start --plugin nmap --object x",
        "schedule backfill nightly --from 2026-11-02T00:00:00Z --to 2026-11-01T00:00:00Z",
        "task list --where stat=1",
        "task lst",
    ];
    let nothing = [
        "task list --organization nobody",
        "watch --once --organization nobody",
        "schedule preview nobody",
        "schedule pause nobody --reason none",
        "run get nobody",
        "schema nobody",
    ];
    // Two organisations, so that an object alone does not say whose it is.
    let other = "- {kind: organization, id: other, name: Other}";
    fs::write(folder.path().join("other.yaml"), other).expect("written");
    at(&folder, &store, "apply other.yaml");
    for (fault, code, store, bus, lines) in [
        (
            "a server lets nobody in",
            1,
            denied.as_str(),
            "lines:",
            &of_stores[..],
        ),
        ("the service is not let in", 1, &denied, "lines:", &["run"]),
        ("a broker lets nobody in", 1, &store, &stranger, &of_brokers),
        ("a server is away", 3, &away, "lines:", &of_stores),
        (
            "there is no database",
            1,
            "sqlite:typo.db",
            "lines:",
            &of_stores,
        ),
        (
            "a folder is no database",
            2,
            "sqlite:folder",
            "lines:",
            &of_stores,
        ),
        (
            "a file is no database",
            2,
            "sqlite:notes.txt",
            "lines:",
            &of_stores,
        ),
        (
            "no folder for a database",
            2,
            "sqlite:no/such/a.db",
            "lines:",
            &of_stores,
        ),
        ("an address is none", 2, "mysql://x", "lines:", &of_stores),
        (
            "an address of a broker is none",
            2,
            &store,
            "nats://",
            &of_brokers,
        ),
        ("a folder is no file", 2, &store, "lines:", &of_files),
        ("it cannot be asked so", 2, &store, &broker, &unasked),
        ("there is no such thing", 1, &store, &broker, &nothing),
    ] {
        for line in lines {
            let mut command = newcomer(&folder, &words(line));
            command
                .env("MUSTER_STORE_URL", store)
                .env("MUSTER_BUS_URL", bus);
            let (ended, out, err) = ended(command);
            assert_eq!(ended, code, "{fault}: {line}: {out}{err}");
        }
    }
}
