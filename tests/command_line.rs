//! The built program as somebody who is new to it calls it, and as somebody tired or hostile does.

mod support;

#[path = "command_line/clock.rs"]
mod clock;
#[path = "command_line/doors.rs"]
mod doors;
#[path = "command_line/lists.rs"]
mod lists;
#[path = "command_line/papers.rs"]
mod papers;
#[path = "command_line/runs.rs"]
mod runs;
#[path = "command_line/slips.rs"]
mod slips;

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use muster::moment::{Moment, Span};
use serde_json::{Value, json};
use support::process::House;
use support::servers::{Folder, free_port};

const CATALOGUE: &str = r#"
- {kind: organization, id: acme, name: Acme}
- {kind: plugin, plugin_id: dns-records, worker_type: boefje, scan_level: 1, oci_arguments: [dig, "{hostname}"]}
- {kind: plugin, plugin_id: nmap, worker_type: boefje, scan_level: 2, consumes: [ip_address]}
- {kind: plugin, plugin_id: deep, worker_type: boefje, scan_level: 4, consumes: [hostname]}
- {kind: object_set, name: shops, object_type: hostname, query: name startswith "shop"}
- {kind: calendar, name: freeze, dates: "2026-12-25"}
- {name: new hosts, run_on: hostname, operation: created, plugins: worker_type = "boefje" and "hostname" in input_types}
- {name: root hosts, run_on: hostname, operation: created, when: root = True, plugins: "True"}
- {name: nightly, recurrences: daily, plugins: recurrences = None, input: {hostname: scan_level > 0}}
"#;

/// The documented event.
const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/inventory","type":"object.created","time":"2026-11-21T09:30:00Z","data":{"organization":"acme","object_type":"hostname","primary_key":"Hostname|internet|www.example.com","attributes":{"name":"www.example.com"},"scan_level":2}}"#;

/// The program without any settings, in a folder of its own.
fn newcomer(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command
        .args(arguments)
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    command
}

/// What a command said and how it ended. None ever panics.
fn ended(mut command: Command) -> (i32, String, String) {
    told(&command.output().expect("muster runs"))
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("muster prints UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    let code = output.status.code();
    (
        code.unwrap_or_else(|| panic!("expected an end and no signal: {err}")),
        out,
        err,
    )
}

fn embedded() -> House {
    let house = House::embedded("[workers.boefje]\nlevel_gate = \"required\"\n");
    house.apply("catalogue.yaml", CATALOGUE);
    house
}

fn piped(house: &House, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = house
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster runs");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input).expect("muster reads");
    drop(stdin);
    told(&child.wait_with_output().expect("muster ends"))
}

fn ids(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().expect("a list");
    rows.iter()
        .map(|row| row["id"].as_str().expect("an id").to_owned())
        .collect()
}

// --- The first steps ------------------------------------------------------------------------------------------------

#[test]
fn without_a_command_it_tells_what_there_is() {
    let folder = Folder::new("cli");
    let (code, out, err) = ended(newcomer(&folder, &[]));
    assert_eq!((code, out.as_str()), (2, ""));
    for word in [
        "demo",
        "check",
        "apply",
        "explain",
        "dead-letter",
        "Examples:",
    ] {
        assert!(err.contains(word), "expected `{word}` in:\n{err}");
    }
    let (code, out, _) = ended(newcomer(&folder, &["--help"]));
    assert_eq!(code, 0);
    assert!(out.contains("Exit codes:"), "{out}");
}

#[test]
fn every_command_has_a_help_of_its_own() {
    let folder = Folder::new("cli");
    for command in [
        "run",
        "demo",
        "check",
        "apply",
        "export",
        "migrate",
        "health",
        "explain",
        "replay",
        "organization",
        "plugin",
        "object-set",
        "schedule",
        "object",
        "task",
        "attempt",
        "queue",
        "dead-letter",
        "query",
    ] {
        let (code, out, _) = ended(newcomer(&folder, &[command, "--help"]));
        assert_eq!(code, 0, "{command}");
        assert!(out.contains("Usage: muster"), "{command}:\n{out}");
    }
}

#[test]
fn the_demonstration_works_with_nothing_set_up_and_leaves_nothing_behind() {
    let folder = Folder::new("cli");
    let (code, out, err) = ended(newcomer(&folder, &["demo"]));
    assert_eq!((code, err.as_str()), (0, ""));
    for words in [
        "The first event in:",
        "Schedules touched",
        "Tasks by queue",
        "Refusals, by reason",
        "level_too_low",
        "Dead letters",
        "unknown_object_type",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    let widest = out.lines().map(|line| line.chars().count()).max();
    assert!(
        widest <= Some(80),
        "expected lines of at most 80 columns: {widest:?}"
    );
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "expected nothing to be left");
}

#[test]
fn the_demonstration_shows_every_refusal_that_events_and_the_clock_can_meet() {
    let folder = Folder::new("cli");
    let (code, out, _) = ended(newcomer(&folder, &["demo", "--output", "json"]));
    assert_eq!(code, 0);
    let summary: Value = serde_json::from_str(&out).expect("JSON");
    let mut reasons: Vec<&String> = summary["refusals"]
        .as_object()
        .expect("refusals")
        .keys()
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "disabled",
            "duplicate",
            "in_grace",
            "level_too_low",
            "no_input",
            "no_object_level",
            "no_plugin_level",
            "not_indemnified",
            "not_run_on",
            "suppressed",
            "type_not_taken"
        ]
    );
    for (schedule, figures) in summary["schedules"].as_object().expect("schedules") {
        let made = figures["tasks"].as_u64().expect("a figure");
        assert_eq!(
            made == 0,
            schedule == "mistaken",
            "{schedule} made {made} tasks"
        );
    }
}

#[test]
fn the_files_of_the_demonstration_are_free_of_findings() {
    let folder = Folder::new("cli");
    let root = env!("CARGO_MANIFEST_DIR");
    for name in [
        "demo/muster.toml demo/catalogue.yaml",
        "openkat.toml openkat.yaml",
    ] {
        let (settings, catalogue) = name.split_once(' ').expect("two files");
        let (settings, catalogue) = (
            format!("{root}/config/{settings}"),
            format!("{root}/config/{catalogue}"),
        );
        let (code, out, err) = ended(newcomer(
            &folder,
            &["--config", &settings, "check", &catalogue],
        ));
        assert_eq!(code, 0, "{out}{err}");
        assert!(!out.contains("error"), "{out}");
    }
}

// --- check and apply ------------------------------------------------------------------------------------------------

#[test]
fn check_says_0_to_what_is_right_and_1_to_any_finding() {
    let folder = Folder::new("cli");
    fs::write(folder.path().join("good.yaml"), CATALOGUE).expect("written");
    let (code, out, _) = ended(newcomer(&folder, &["check", "good.yaml"]));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("1 file: nothing to complain about"), "{out}");
    assert!(out.contains("3 plugins"), "{out}");
    fs::write(
        folder.path().join("bad.yaml"),
        "- {kind: plugin, plugin_id: a, worker_tpye: b}\n",
    )
    .expect("written");
    let (code, out, _) = ended(newcomer(&folder, &["check", "good.yaml", "bad.yaml"]));
    assert_eq!(code, 1);
    assert!(out.contains("bad.yaml:1:"), "{out}");
    assert!(out.contains("did you mean `worker_type`?"), "{out}");
    let (code, out, _) = ended(newcomer(
        &folder,
        &["check", "bad.yaml", "--output", "json"],
    ));
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&report["ok"], &report["findings"][0]["line"]),
        (&json!(false), &json!(1))
    );
    let left: Vec<_> = fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(left.len(), 2, "expected check to make nothing");
}

#[test]
fn the_same_entry_in_two_files_is_a_finding() {
    let folder = Folder::new("cli");
    for name in ["one.yaml", "two.yaml"] {
        fs::write(folder.path().join(name), "{kind: organization, id: acme}").expect("written");
    }
    let (code, out, _) = ended(newcomer(&folder, &["check", "one.yaml", "two.yaml"]));
    assert_eq!(code, 1);
    assert!(out.contains("`acme` is declared in one.yaml too"), "{out}");
}

#[test]
fn apply_shows_what_is_new_and_what_changes_and_then_nothing() {
    let house = House::embedded("");
    let out = house.apply("catalogue.yaml", CATALOGUE);
    assert!(out.contains("+ plugin dns-records"), "{out}");
    assert!(out.contains("9 created, 0 changed, 0 deleted"), "{out}");
    assert_eq!(
        house.apply("catalogue.yaml", CATALOGUE),
        "nothing differs\n"
    );
    let out = house.apply(
        "catalogue.yaml",
        &CATALOGUE.replace("scan_level: 4", "scan_level: 3"),
    );
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "~ plugin deep",
            "- scan_level: 4",
            "+ scan_level: 3",
            "0 created, 1 changed, 0 deleted"
        ]
    );
}

#[test]
fn a_dry_run_shows_the_same_and_changes_nothing() {
    let house = House::embedded("");
    house.done(&["migrate"]);
    let path = house.write("catalogue.yaml", CATALOGUE.as_bytes());
    let path = path.to_str().expect("a path");
    let out = house.done(&["apply", path, "--dry-run"]);
    assert!(out.contains("not applied (--dry-run): 9 created"), "{out}");
    assert_eq!(house.json(&["plugin", "list"]), json!([]));
}

#[test]
fn a_dry_run_tells_instants_selections_and_tasks_that_would_be_others() {
    let house = embedded();
    house.lines(format!("{EVENT}\n").into_bytes());
    // A task that waits: its queue is paused.
    house.done(&[
        "queue",
        "pause",
        "muster.tasks.boefje",
        "--reason",
        "to wait",
    ]);
    let event = EVENT.replace("e-1", "e-2").replace("www", "mail");
    house.lines(format!("{event}\n").into_bytes());
    house.write(
        "other.yaml",
        b"- {kind: plugin, plugin_id: dns-records, worker_type: boefje, scan_level: 1, consumes: [hostname], enabled: false}
- {kind: plugin, plugin_id: weekly-report, worker_type: report, recurrences: weekly}
- {name: new hosts, run_on: hostname, operation: created, plugins: \"plugin_id = 'dns-records'\"}
",
    );
    let out = house.done(&["apply", "other.yaml", "--dry-run"]);
    for words in [
        "instants that would change:",
        "  plugin:weekly-report\n    - none\n    + ",
        "plugins that schedules would begin or cease to select:",
        "  new hosts\n    - deep",
        "open tasks that would be withdrawn when their turn comes:\n  dns-records of acme: 1 of 1 (disabled)",
        "not applied (--dry-run)",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    let told = house.json(&["apply", "other.yaml", "--dry-run"]);
    assert_eq!(told["applied"], false);
    assert_eq!(told["changes"]["tasks"][0]["withdrawn"], 1);
    assert_eq!(
        told["changes"]["instants"][0]["after"]
            .as_array()
            .map(Vec::len),
        Some(5)
    );
    assert!(
        !house
            .json(&["export"])
            .to_string()
            .contains("weekly-report")
    );
}

#[test]
fn what_is_wrong_anywhere_applies_nothing_anywhere() {
    let house = House::embedded("");
    house.done(&["migrate"]);
    let path = house.write(
        "bad.yaml",
        format!("{CATALOGUE}\n- {{kind: planet}}\n").as_bytes(),
    );
    let (code, out, err) = told(&house.run(&["apply", path.to_str().expect("a path")]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("planet") && err.contains("nothing was applied"),
        "{err}"
    );
    assert_eq!(house.json(&["plugin", "list"]), json!([]));
}

#[test]
fn prune_asks_before_it_deletes_and_deletes_only_kinds_that_the_files_hold() {
    let house = embedded();
    let less = house.write("less.yaml", b"- {kind: plugin, plugin_id: nmap, worker_type: boefje, scan_level: 2, consumes: [ip_address]}");
    let less = less.to_str().expect("a path");
    let (code, out, err) = told(&house.run(&["apply", less, "--prune"]));
    assert_eq!(code, 2, "{out}{err}");
    assert!(
        err.contains("2 entries would be deleted; say --yes"),
        "{err}"
    );
    assert_eq!(
        house.json(&["plugin", "list"]).as_array().map(Vec::len),
        Some(3)
    );
    let out = house.done(&["apply", less, "--prune", "--yes"]);
    assert!(
        out.contains("- plugin deep") && out.contains("0 created, 0 changed, 2 deleted"),
        "{out}"
    );
    assert_eq!(
        house.json(&["schedule", "list"]).as_array().map(Vec::len),
        Some(3)
    );
}

#[test]
fn what_export_prints_applies_as_no_difference_here_and_as_the_same_elsewhere() {
    let house = embedded();
    let exported = house.done(&["export"]);
    let (code, out, err) = piped(&house, &["apply", "-", "--prune"], exported.as_bytes());
    assert_eq!((code, out.as_str()), (0, "nothing differs\n"), "{err}");
    let other = House::embedded("");
    let (code, out, err) = piped(&other, &["apply", "-"], exported.as_bytes());
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(other.done(&["export"]), exported);
    let as_json = house.done(&["export", "--output", "json"]);
    let (_, out, _) = piped(&house, &["apply", "-"], as_json.as_bytes());
    assert_eq!(out, "nothing differs\n");
}

#[test]
fn variables_are_given_on_the_command_line() {
    let house = House::embedded("");
    let path = house.write(
        "with.yaml",
        b"- {for_each: \"${all}\", kind: organization, id: \"${each}-${suffix}\"}",
    );
    let path = path.to_str().expect("a path");
    house.done(&["apply", path, "--var", "all=one,two", "--var", "suffix=x"]);
    let listed = house.json(&["organization", "list"]);
    assert_eq!(ids(&listed), ["one-x", "two-x"]);
    let (code, _, err) = told(&house.run(&["apply", path, "--var", "all=one"]));
    assert_eq!(code, 1);
    assert!(
        err.contains("--var suffix=") && err.contains("nothing was applied"),
        "{err}"
    );
}

// --- Looking --------------------------------------------------------------------------------------------------------

#[test]
fn every_noun_is_listed_as_a_table_and_as_json() {
    let house = embedded();
    let lines = house.lines(format!("{EVENT}\nnot an event\n").into_bytes());
    assert_eq!(lines.len(), 1);
    for (noun, text, many) in [
        ("organization", "acme", 1),
        ("plugin", "dns-records", 3),
        ("object-set", "shops", 1),
        ("calendar", "freeze", 1),
        ("schedule", "new hosts", 3),
        ("object", "Hostname|internet|www.example.com", 1),
        ("run", "new hosts", 1),
        ("task", "dns-records", 1),
        ("attempt", "1", 1),
        ("queue", "muster.tasks.boefje", 1),
        ("dead-letter", "not_json", 1),
    ] {
        let table = house.done(&[noun, "list"]);
        assert!(
            table.contains(text),
            "expected `{text}` in the table of {noun}:\n{table}"
        );
        let rows = house.json(&[noun, "list"]);
        assert_eq!(rows.as_array().map(Vec::len), Some(many), "{noun}: {rows}");
    }
}

#[test]
fn what_nobody_took_in_time_is_written_by_the_next_run_however_short() {
    let house = embedded();
    let yesterday = Moment::now().minus(Span::seconds(86_400));
    let first = house.lines(format!("{{\"now\": \"{yesterday}\"}}\n{EVENT}\n").into_bytes());
    assert_eq!(first.len(), 1);
    let again = house.lines(Vec::new());
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0]["id"], first[0]["id"]);
    assert_eq!(
        (&first[0]["attempt"], &again[0]["attempt"]),
        (&json!(1), &json!(2))
    );
}

#[test]
fn lists_are_filtered_by_organisation_and_state_and_come_in_pages() {
    let house = embedded();
    let event = |id: &str, organization: &str| {
        EVENT
            .replace("e-1", id)
            .replace("acme", organization)
            .replace("www", id)
    };
    let events: Vec<String> = [("a", "acme"), ("b", "acme"), ("c", "other")]
        .map(|(id, organization)| event(id, organization))
        .to_vec();
    house.lines(events.join("\n").into_bytes());
    let count = |arguments: &[&str]| house.json(arguments).as_array().map_or(0, Vec::len);
    assert_eq!(count(&["task", "list"]), 3);
    assert_eq!(count(&["task", "list", "--organization", "acme"]), 2);
    assert_eq!(count(&["task", "list", "--state", "dispatched"]), 3);
    assert_eq!(count(&["task", "list", "--state", "dead"]), 0);
    assert_eq!(
        count(&[
            "object",
            "list",
            "--type",
            "hostname",
            "--organization",
            "other"
        ]),
        1
    );
    let (first, rest) = (
        house.json(&["task", "list", "--limit", "1"]),
        house.json(&["task", "list", "--offset", "1"]),
    );
    let mut paged = ids(&first);
    paged.extend(ids(&rest));
    assert_eq!(paged, ids(&house.json(&["task", "list"])));
}

#[test]
fn what_lists_print_cannot_move_the_cursor() {
    let house = House::embedded("");
    let event = EVENT
        .replace(
            "www.example.com\",\"attributes",
            "\\u001b[2J\\u0007\\n\",\"attributes",
        )
        .replace("acme", "a\\u001b]0;x\\u0007");
    house.lines(format!("{event}\n{{\"bad\u{1b}[31m\n").into_bytes());
    let letter = ids(&house.json(&["dead-letter", "list"])).remove(0);
    for arguments in [
        &["object", "list"][..],
        &["organization", "list"],
        &["dead-letter", "show", &letter],
    ] {
        let out = house.done(arguments);
        assert!(out.contains("u{1b}"), "expected it to be shown in {out}");
        assert!(!out.contains('\u{1b}') && !out.contains('\u{7}'), "{out:?}");
    }
}

#[test]
fn explain_names_for_each_schedule_and_plugin_the_gate_with_clause_and_value() {
    let house = embedded();
    let (code, out, err) = piped(&house, &["explain", "-"], EVENT.as_bytes());
    assert_eq!(code, 0, "{err}");
    for words in [
        "+ new hosts: triggered",
        "+ dns-records: a task",
        "- deep: level_too_low",
        "scan_level = 2, the plugin's is 4",
        "- nmap: not selected by `plugins`",
        "- root hosts: not triggered",
        "its `when` is false",
        "root = True",
        "- nightly: not triggered",
        "1 task would be made. Of 3 schedules, 2 were candidates, 2 of which were checked further; 1 matched",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    assert_eq!(
        house.json(&["object", "list"]),
        json!([]),
        "expected nothing to be stored"
    );
}

#[test]
fn explain_says_the_same_in_json() {
    let house = embedded();
    let (code, out, _) = piped(
        &house,
        &["explain", "-", "--output", "json"],
        EVENT.as_bytes(),
    );
    assert_eq!(code, 0);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&told["tasks"], &told["handled_before"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        told["matching"],
        json!({"schedules": 3, "candidates": 2, "checks": 2, "matches": 1})
    );
    let schedules = told["schedules"].as_array().expect("schedules");
    let new = schedules
        .iter()
        .find(|schedule| schedule["schedule"] == "new hosts")
        .expect("the schedule");
    let deep = new["plugins"]
        .as_array()
        .expect("plugins")
        .iter()
        .find(|plugin| plugin["plugin"] == "deep");
    assert_eq!(deep.expect("the plugin")["reason"], "level_too_low");
    house.lines(format!("{EVENT}\n").into_bytes());
    let (_, out, _) = piped(
        &house,
        &["explain", "-", "--output", "json"],
        EVENT.as_bytes(),
    );
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["handled_before"], json!(true));
}

#[test]
fn explain_tells_of_a_handled_event_what_was_made_of_it() {
    let house = embedded();
    house.lines(format!("{EVENT}\n").into_bytes());
    let out = house.done(&["explain", "--event", "e-1"]);
    for words in [
        "from muster.events: the object was created",
        "of new hosts: running",
        "of dns-records: dispatched",
        "What would be made of it now:",
        "- dns-records: duplicate",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    for (arguments, code, words) in [
        (
            &["explain", "--event", "e-9"] as &[&str],
            1,
            "no event `e-9` is kept",
        ),
        (
            &["explain", "--event", "e-1", "--source", "/else"],
            1,
            "of the source `/else`",
        ),
        (
            &["explain", "--event", "e-1", "-"],
            2,
            "cannot be used with",
        ),
        (
            &["explain", "-", "--source", "/else"],
            2,
            "cannot be used with",
        ),
        (&["explain"], 2, "--event"),
    ] {
        let output = house.run(arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(words), "expected `{words}` in:\n{err}");
    }
}

#[test]
fn explain_tells_of_a_task_why_it_is_there_and_what_it_waits_for() {
    let house = embedded();
    house.lines(format!("{EVENT}\n").into_bytes());
    let id = ids(&house.json(&["task", "list"])).remove(0);
    let out = house.done(&["explain", "--task", &id]);
    for words in [
        "of dns-records for acme: dispatched",
        "Why it is there:\n  the event e-1 (object.created) triggered the schedule new hosts (revision 1)",
        "Why it is not running yet:\n  attempt 1 is in",
        "no worker of the type boefje has ever accepted a task",
        "the offer is void, and it is offered again",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    let told = house.json(&["explain", "--task", &id, "--organization", "acme"]);
    assert_eq!(told["task"]["state"], "dispatched");
    for organization in ["acme", "other"] {
        let id = if organization == "acme" {
            "nothing"
        } else {
            &id
        };
        let output = house.run(&["explain", "--task", id, "--organization", organization]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(&format!("no task `{id}` is known")), "{err}");
    }
}

#[test]
fn explain_tells_of_a_schedule_why_it_did_not_run_on_an_object() {
    let house = embedded();
    house.lines(format!("{EVENT}\n").into_bytes());
    let key = "Hostname|internet|www.example.com";
    let asked = [
        "explain",
        "--organization",
        "acme",
        "--object",
        key,
        "--schedule",
    ];
    let out = house.done(&[&asked[..], &["new hosts"]].concat());
    for words in [
        "new hosts for acme on Hostname|internet|www.example.com: it would not run now",
        "+ run_on: created of a hostname",
        "- dns-records: duplicate",
        "not asked after that: grace",
        "- deep: level_too_low",
        "- nmap: not selected by `plugins`",
        "event, running",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    let out = house.done(&[&asked[..], &["root hosts"]].concat());
    assert!(out.contains("- when: it is false:"), "{out}");
    assert!(out.contains("root = True"), "{out}");
    let told = house.json(&[&asked[..], &["nightly", "--plugin", "dns-records"]].concat());
    assert_eq!(told["plugins"].as_array().map(Vec::len), Some(1));
    for (arguments, code, words) in [
        (
            &[
                "explain",
                "--schedule",
                "new host",
                "--organization",
                "acme",
            ] as &[&str],
            1,
            "new hosts",
        ),
        (
            &["explain", "--task", "x", "--object", "y"],
            2,
            "cannot be used with",
        ),
        (&["explain", "--object", "y"], 2, "--schedule"),
    ] {
        let output = house.run(arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(words), "expected `{words}` in:\n{err}");
    }
}

#[test]
fn explain_tells_why_a_message_would_be_a_dead_letter() {
    let house = embedded();
    for (event, words) in [
        ("nonsense", "not JSON"),
        ("", "not JSON"),
        ("{}", "specversion"),
        (
            &EVENT.replace("primary_key", "primary_kye") as &str,
            "data.primary_key is missing",
        ),
        (
            &EVENT.replace("\"scan_level\":2", "\"scan_level\":7"),
            "levels go from 0 to 4",
        ),
    ] {
        let (code, out, err) = piped(&house, &["explain", "-"], event.as_bytes());
        assert_eq!(code, 1, "{event}: {out}{err}");
        assert!(
            out.contains(words),
            "expected `{words}` for {event}:\n{out}"
        );
    }
    let (code, _, err) = piped(
        &house,
        &["explain", "-", "--queue", "elsewhere"],
        EVENT.as_bytes(),
    );
    assert_eq!(code, 2);
    assert!(
        err.contains("no intake reads `elsewhere`; known: muster.events"),
        "{err}"
    );
}

#[test]
fn an_attribute_that_breaks_its_declared_type_is_a_dead_letter_and_explain_says_so_before() {
    let house = House::embedded("[object_types]\nhostname = { fields = { name = \"text\" } }\n");
    house.done(&["migrate"]);
    let wrong = EVENT.replace("\"name\":\"www.example.com\"", "\"name\":7");
    let (code, out, _) = piped(&house, &["explain", "-"], wrong.as_bytes());
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("data.attributes.name"), "{out}");
    let more = EVENT
        .replace("e-1", "e-2")
        .replace("\"name\":", "\"more\":7,\"name\":");
    house.lines(format!("{wrong}\n{more}\n").into_bytes());
    let letters = house.json(&["dead-letter", "list"]);
    assert_eq!(letters[0]["reason"], "wrong_type");
    assert_eq!(
        house.json(&["object", "list"]).as_array().map(Vec::len),
        Some(1),
        "expected an attribute that is not declared to be kept"
    );
}

// --- Replay ---------------------------------------------------------------------------------------------------------

#[test]
fn replay_tells_what_new_rules_would_have_made_and_leaves_the_database_as_it_is() {
    let house = embedded();
    house.lines(format!("{EVENT}\n").into_bytes());
    house.write(
        "new.yaml",
        b"- {name: deep hosts, run_on: hostname, operation: created, plugins: \"plugin_id = 'deep' or plugin_id = 'nmap'\"}",
    );
    let file = house.store_url().trim_start_matches("sqlite:").to_owned();
    let bytes = || {
        // Whoever closes the database last writes what is beside it into it.
        house.json(&["task", "list"]);
        std::fs::read(&file).expect("the database")
    };
    let before = bytes();
    let out = house.done(&["replay", "new.yaml"]);
    for words in [
        "1 event from",
        "deep hosts",
        "level_too_low 1",
        "e-1: deep on Hostname|internet|www.example.com: level_too_low",
    ] {
        assert!(out.contains(words), "expected `{words}` in:\n{out}");
    }
    for (since, until) in [
        ("2001-01-01", "2001-02-01"),
        ("2001-01-01T00:00:00Z", "2001-02-01"),
    ] {
        let told = house.json(&["replay", "new.yaml", "--since", since, "--until", until]);
        assert_eq!(
            (&told["since"], &told["until"]),
            (
                &json!("2001-01-01T00:00:00Z"),
                &json!("2001-02-01T00:00:00Z")
            )
        );
    }
    let told = house.json(&[
        "replay",
        "new.yaml",
        "--over",
        "objects",
        "--organization",
        "acme",
    ]);
    assert_eq!(told["objects"], 1);
    assert!(bytes() == before, "some byte of the database differs");
    house.lines(format!("{}\n", EVENT.replace("e-1", "e-2")).into_bytes());
    let out = house.done(&["replay", "new.yaml", "--limit", "1"]);
    assert!(out.contains("stopped at --limit 1"), "{out}");
    for (arguments, code, words) in [
        (
            &["replay", "new.yaml", "--since", "yesterday"] as &[&str],
            2,
            "neither a length of time",
        ),
        (
            &["replay", "new.yaml", "--since", "1h", "--until", "2h"],
            2,
            "is after --until",
        ),
        (
            &["replay", "new.yaml", "--organization", "acmee"],
            1,
            "did you mean acme?",
        ),
        (
            &["replay", "new.yaml", "--since", "0d"],
            2,
            "no time lies between",
        ),
        (
            &["replay", "new.yaml", "--over", "objects", "--since", "2d"],
            2,
            "--since is of events",
        ),
        (&["replay", "new.yaml", "--limit", "0"], 2, "--limit"),
        (&["replay", "nothing.yaml"], 2, "nothing.yaml"),
        (&["replay"], 2, "FILES"),
    ] {
        let output = house.run(arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(words), "expected `{words}` in:\n{err}");
    }
    house.write(
        "wrong.yaml",
        b"- {name: x, run_on: hostname, plugins: 'level >'}",
    );
    assert_eq!(house.run(&["replay", "wrong.yaml"]).status.code(), Some(1));
}

// --- Dead letters ---------------------------------------------------------------------------------------------------

#[test]
fn dead_letters_are_shown_tried_again_after_a_fix_and_dropped() {
    let house = House::embedded("[object_types.url]\n");
    house.lines(format!("{EVENT}\nnot an event\n").into_bytes());
    let letters = house.json(&["dead-letter", "list", "--state", "unknown_object_type"]);
    let id = ids(&letters).remove(0);
    let shown = house.json(&["dead-letter", "show", &id]);
    assert_eq!(
        shown["body"]["text"], EVENT,
        "expected the bytes as they came"
    );
    assert!(
        house
            .done(&["dead-letter", "show", &id])
            .contains("`hostname`"),
        "expected the reason to be told"
    );

    let (code, out, _) = told(&house.run(&["dead-letter", "redrive", &id]));
    assert_eq!(code, 1, "expected it still to be dead");
    assert!(out.contains("0 handled, 1 still dead"), "{out}");
    house.set("lines:", "[object_types.url]\n[object_types.hostname]\n");
    let out = house.done(&[
        "dead-letter",
        "redrive",
        "--reason",
        "unknown_object_type",
        "--yes",
    ]);
    assert!(out.contains("1 handled, 0 still dead"), "{out}");
    assert_eq!(
        house.json(&["object", "list"]).as_array().map(Vec::len),
        Some(1)
    );

    let (code, _, err) = told(&house.run(&["dead-letter", "drop", "--all"]));
    assert_eq!(code, 2, "expected it to want a yes");
    assert!(err.contains("--yes"), "{err}");
    assert_eq!(
        house.done(&["dead-letter", "drop", "--all", "--yes"]),
        "1 dropped\n"
    );
    assert_eq!(house.json(&["dead-letter", "list"]), json!([]));
    let (code, _, err) = told(&house.run(&["dead-letter", "show", &id]));
    assert_eq!(code, 1);
    assert!(err.contains("no dead letter"), "{err}");
}

#[test]
fn one_declaration_is_applied_and_deleted_with_its_revision() {
    let house = embedded();
    let one = house.write(
        "one.yaml",
        b"kind: schedule\nname: at three\nrecurrences: 0 3 * * *\nplugins: \"True\"\ninput: {}\n",
    );
    let one = one.display().to_string();
    let made = house.json(&["schedule", "apply", &one, "--expected-revision", "0"]);
    assert_eq!(made["created"], true);
    assert_eq!(made["next"].as_array().map(Vec::len), Some(5));
    let (code, _, err) = told(&house.run(&["schedule", "apply", &one, "--if-exists", "fail"]));
    assert_eq!(code, 1);
    assert!(err.contains("exists"), "{err}");
    let (code, _, err) = told(&house.run(&["calendar", "apply", &one]));
    assert_eq!(code, 2);
    assert!(err.contains("calendar is asked for"), "{err}");
    house.done(&["schedule", "delete", "at three"]);
    let (code, _, err) = told(&house.run(&["schedule", "delete", "at three"]));
    assert_eq!(code, 1);
    assert!(err.contains("not_found"), "{err}");
    let off = house.json(&["plugin", "disable", "dns-records", "--organization", "acme"]);
    assert_eq!(off["changed"], true);
    assert_eq!(house.lines(EVENT.as_bytes().to_vec()), Vec::<Value>::new());
    let stats = house.json(&["stats"]);
    assert_eq!(stats["objects"]["hostname"], 1);
}

#[test]
fn tasks_are_listed_by_queries_and_moved_by_hand() {
    let house = embedded();
    house.lines(EVENT.as_bytes().to_vec());
    let queued = [
        "task",
        "list",
        "--where",
        "organization = 'acme' and attempt = 1",
    ];
    let id = ids(&house.json(&queued)).remove(0);
    let none = house.json(&["task", "list", "--where", "organization = 'other'"]);
    assert_eq!(none, json!([]));
    let (code, _, err) = told(&house.run(&["task", "retry", "--all"]));
    assert_eq!(code, 2, "expected it to want a yes");
    assert!(err.contains("1 task\n") && err.contains("--yes"), "{err}");
    let hurried = house.json(&["task", "retry", &id]);
    assert_eq!(hurried["offered_at_once"], json!([id]));
    let marked = house.json(&["task", "mark", &id, "failed", "--reason", "no such host"]);
    assert_eq!(marked["state"], "failed");
    let task = house.json(&["task", "get", &id]);
    assert_eq!(task["attempts"][0]["outcome"], "recalled");
    assert_eq!(task["by_hand"][1]["reason"], "no such host");
    let (code, _, err) = told(&house.run(&["task", "cancel", &id]));
    assert_eq!(code, 1);
    assert!(err.contains("ended"), "{err}");
    let new = house.json(&["task", "retry", &id])["tasks"][0].clone();
    let new = new.as_str().expect("a task").to_owned();
    let done = house.json(&["task", "cancel", "--where", "state = 'queued'", "--yes"]);
    assert_eq!(done["cancelled"], json!([new]));
}

#[test]
fn redrive_and_drop_want_to_know_which() {
    let house = House::embedded("");
    for arguments in [
        &["dead-letter", "drop"][..],
        &["dead-letter", "redrive"],
        &["dead-letter", "drop", "--all", "some-id"],
        &["dead-letter", "drop", "--all", "--reason", "not_json"],
    ] {
        let (code, _, err) = told(&house.run(arguments));
        assert_eq!(code, 2, "{arguments:?}");
        assert!(err.contains("--all"), "{err}");
    }
}

// --- migrate and health ---------------------------------------------------------------------------------------------

#[test]
fn migrate_can_be_said_twice() {
    let house = House::embedded("");
    let first = house.done(&["migrate"]);
    assert!(first.contains("migrated to"), "{first}");
    assert_eq!(house.done(&["migrate"]), "the schema is up to date\n");
    assert_eq!(
        house.json(&["migrate"]),
        json!({ "migrated": [], "indexes": [] })
    );
}

#[test]
fn health_tells_well_from_not_well_and_from_out_of_reach() {
    let house = House::embedded("");
    let (code, out, _) = told(&house.run(&["health"]));
    assert_eq!(code, 1);
    assert!(out.contains("muster migrate"), "{out}");
    house.done(&["migrate"]);
    let (code, out, _) = told(&house.run(&["health"]));
    assert_eq!(code, 1);
    assert!(out.contains("none runs"), "{out}");
    let away = format!("amqp://127.0.0.1:{}", free_port());
    house.set(&away, "");
    let (code, out, err) = told(&house.run(&["health", "--output", "json"]));
    assert_eq!(code, 3, "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["well"], json!(false));
    assert!(err.contains(&away), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_well_while_a_service_runs() {
    let house = embedded();
    let mut dialogue = house.dialogue();
    dialogue.say(EVENT);
    dialogue.hear();
    support::process::until("health is well", async || {
        house.run(&["health"]).status.success().then_some(())
    })
    .await;
    let report = house.json(&["health"]);
    assert_eq!(report["well"], json!(true));
    dialogue.end();
}

#[test]
fn a_database_out_of_reach_is_3_and_a_wrong_one_is_2() {
    let folder = Folder::new("cli");
    let with = |url: &str| {
        let mut command = newcomer(&folder, &["task", "list"]);
        command.env("MUSTER_STORE_URL", url);
        ended(command)
    };
    let (code, _, err) = with(&format!("postgres://127.0.0.1:{}/muster", free_port()));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("out of reach"), "{err}");
    fs::write(
        folder.path().join("notes.txt"),
        "these are notes, and no database at all",
    )
    .expect("written");
    for (url, words) in [
        ("mysql://localhost/muster", "`sqlite:`, `postgres:`"),
        (
            "sqlite:no/such/folder/muster.db",
            "its folder must be there",
        ),
        (
            "sqlite:notes.txt",
            "notes.txt is there, and is no SQLite database",
        ),
    ] {
        let (code, _, err) = with(url);
        assert_eq!(code, 2, "{url}: {err}");
        assert!(err.contains(words), "expected `{words}` for {url}: {err}");
    }
    let notes = fs::read_to_string(folder.path().join("notes.txt")).expect("read");
    assert_eq!(notes, "these are notes, and no database at all");
}

#[test]
fn no_command_waits_for_a_database_that_is_away() {
    let folder = Folder::new("cli");
    fs::write(folder.path().join("event.json"), EVENT).expect("written");
    let entry = "{id: acme, name: Acme}";
    fs::write(folder.path().join("organization.yaml"), entry).expect("written");
    let url = format!("postgres://127.0.0.1:{}/muster", free_port());
    // All at once: each of them tries for a while.
    let going: Vec<_> = [
        "stats",
        "queue list",
        "run start nightly",
        "run get x",
        "run cancel x",
        "task get x",
        "task cancel x",
        "explain event.json",
        "dead-letter show x",
        "dead-letter drop x",
        "schedule pause nightly --reason none",
        "target list",
        "organization apply organization.yaml",
        "query root=True --against objects --type hostname",
    ]
    .into_iter()
    .map(|line| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut command = newcomer(&folder, &arguments);
        command
            .env("MUSTER_STORE_URL", &url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        (line, command.spawn().expect("muster runs"))
    })
    .collect();
    for (line, child) in going {
        let (code, _, err) = told(&child.wait_with_output().expect("muster ends"));
        assert_eq!(code, 3, "{line}: {err}");
        assert!(err.contains("out of reach"), "{line}: {err}");
    }
}

// --- Slips and worse ------------------------------------------------------------------------------------------------

#[test]
fn wrong_arguments_exit_with_2_and_say_what_would_be_right() {
    let folder = Folder::new("cli");
    for (arguments, words) in [
        (&["chek"][..], "'check'"),
        (&["task", "lst"], "'list'"),
        (&["apply"], "<FILES>"),
        (&["check", "--vra", "a=b"], "'--vra'"),
        (&["--output", "xml", "check"], "table, json"),
        (&["task", "list", "--limit", "0"], "1..="),
        (&["task", "list", "--limit=-1"], "1..="),
        (
            &["task", "list", "--offset", "99999999999999999999"],
            "--offset",
        ),
        (
            &["task", "list", "--state", "sideways"],
            "queued, waiting, dispatched, running",
        ),
        (&["run", "list", "--state", "sideways"], "partly_failed"),
        (&["schedule", "list", "--state", "on"], "have no state"),
        (&["task", "list", "--where", "stat = 'queued'"], "`state`"),
        (&["object", "list", "--where", "True"], "--limit"),
        (&["task", "cancel"], "--where"),
        (
            &["task", "mark", "x", "gone", "--reason", "y"],
            "succeeded, failed",
        ),
        (&["check", "nothing.yaml"], "nothing.yaml: No such file"),
        (&["check", "."], ".: Is a directory"),
        (&["explain", "nothing.json"], "nothing.json: No such file"),
        (&["--config", "nothing.toml", "check"], "nothing.toml"),
        (&["apply", "a.yaml", "--var", "x"], "--var name=value"),
        (&["migrate", "--force"], "--force"),
    ] {
        let (code, out, err) = ended(newcomer(&folder, arguments));
        assert_eq!(code, 2, "{arguments:?}: {out}{err}");
        assert!(
            err.contains(words),
            "expected `{words}` for {arguments:?}: {err}"
        );
    }
}

#[test]
fn wrong_settings_exit_with_2_and_name_file_line_and_the_right_word() {
    let folder = Folder::new("cli");
    let path = folder.path().join("muster.toml");
    for (settings, words) in [
        (
            &b"[stoer]\nurl = \"sqlite:a.db\"\n"[..],
            &["muster.toml:1:", "did you mean `store`?"][..],
        ),
        (
            b"[store]\nurl = 7\n",
            &["muster.toml:2:7", "expected a text"],
        ),
        (b"[store\n", &["muster.toml:1:"]),
        (b"\xff\xfe\x00", &["muster.toml:1:", "not UTF-8"]),
        (
            b"[workers.boefje]\nlevel_gate = \"requierd\"\n",
            &["muster.toml:2:", "required", "if_set"],
        ),
        (
            b"[workers.boefje]\nminimum_scan_level = 9\n",
            &["muster.toml:2:", "4"],
        ),
        (
            b"[defaults]\ngrace = \"soon\"\n",
            &["muster.toml:2:", "90s"],
        ),
        (b"[bus]\nurl = \"ftp://x\"\n", &["muster.toml:2:", "amqp"]),
    ] {
        fs::write(&path, settings).expect("written");
        let (code, _, err) = ended(newcomer(&folder, &["check"]));
        assert_eq!(code, 2, "{}: {err}", String::from_utf8_lossy(settings));
        for word in words {
            assert!(err.contains(word), "expected `{word}`: {err}");
        }
        let (code, _, err) = ended(newcomer(&folder, &["demo"]));
        assert_eq!(code, 0, "expected the demonstration not to mind: {err}");
    }
}

#[test]
fn an_unknown_variable_of_the_environment_is_a_warning_and_a_wrong_value_is_refused() {
    let folder = Folder::new("cli");
    let with = |name: &str, value: &str| {
        let mut command = newcomer(&folder, &["check"]);
        command.env(name, value);
        ended(command)
    };
    let (code, _, err) = with("MUSTER_STORE_ULR", "x");
    assert_eq!(code, 0);
    assert!(err.contains("did you mean `MUSTER_STORE_URL`?"), "{err}");
    let (code, _, err) = with("MUSTER_BUS_PREFETCH", "many");
    assert_eq!(code, 2);
    assert!(
        err.contains("MUSTER_BUS_PREFETCH") && err.contains("65535"),
        "{err}"
    );
}

#[test]
fn a_password_is_in_no_output() {
    let folder = Folder::new("cli");
    let url = format!(
        "postgres://muster:open-sesame@127.0.0.1:{}/muster",
        free_port()
    );
    for arguments in [
        &["health"][..],
        &["health", "--output", "json"],
        &["task", "list"],
        &["check"],
    ] {
        let mut command = newcomer(&folder, arguments);
        command.env("MUSTER_STORE_URL", &url);
        let (_, out, err) = ended(command);
        assert!(
            !out.contains("open-sesame") && !err.contains("open-sesame"),
            "{out}{err}"
        );
    }
}

#[test]
fn hostile_files_are_findings_and_nothing_worse() {
    let folder = Folder::new("cli");
    let path = folder.path().join("hostile.yaml");
    let bomb = format!(
        "a: &a [x,x,x,x,x,x,x,x,x]\n{}",
        ('b'..='k')
            .fold((String::new(), 'a'), |(text, last), name| {
                (
                    format!(
                        "{text}{name}: &{name} [{}]\n",
                        vec![format!("*{last}"); 9].join(",")
                    ),
                    name,
                )
            })
            .0
    );
    let long = format!("- {{kind: organization, id: {}}}", "x".repeat(100_000));
    let query = format!(
        "- {{recurrences: daily, plugins: '{}True{}'}}",
        "(".repeat(5000),
        ")".repeat(5000)
    );
    for text in [
        bomb.as_str(),
        &long,
        &query,
        &"[".repeat(100_000),
        &"- ".repeat(50_000),
        "- {kind: organization, id: \"a\\0b\"}",
        "- {kind: plugin, plugin_id: a, worker_type: b, scan_level: 99999999999999999999}",
        "- {recurrences: 99999999999999999999d, plugins: 'True'}",
        "- {recurrences: \"* * * * * * * *\", plugins: 'True'}",
        "? {a: b}\n: c",
        "\u{feff}- 1",
        "- !!binary aGk=",
    ] {
        fs::write(&path, text).expect("written");
        let (code, out, err) = ended(newcomer(&folder, &["check", "hostile.yaml"]));
        let start: String = text.chars().take(60).collect();
        assert_eq!(code, 1, "{start}: {out}{err}");
        assert!(out.contains("hostile.yaml"), "{start}: {out}");
        assert!(
            out.len() < 20_000,
            "expected a finding to be readable: {} bytes for {start}",
            out.len()
        );
    }
}

#[test]
fn a_file_without_an_end_is_refused_with_2() {
    let folder = Folder::new("cli");
    for (line, name) in [
        ("explain /dev/zero", "/dev/zero"),
        ("check /dev/zero", "/dev/zero"),
        ("apply /dev/zero", "/dev/zero"),
        ("apply -", "-"),
        ("test /dev/zero", "/dev/zero"),
        ("query root=True --object /dev/zero", "/dev/zero"),
        ("schedule apply /dev/zero", "/dev/zero"),
        ("--config /dev/zero stats", "/dev/zero"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut command = newcomer(&folder, &arguments);
        command.stdin(fs::File::open("/dev/zero").expect("opened"));
        let (code, _, err) = ended(command);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(&format!(" {name}: ")), "{line}: {err}");
        let words = "it is longer than 20000000 bytes";
        assert!(err.contains(words), "{line}: {err}");
    }
}

#[test]
fn hostile_lines_become_dead_letters_and_the_end_is_orderly() {
    let house = embedded();
    let mut input: Vec<u8> = Vec::new();
    for line in [
        &b"\xff\xfe\xfd"[..],
        b"{",
        b"[]",
        b"null",
        b"{\"specversion\":\"1.0\"}",
        b"{\"now\":\"yesterday\"}",
        b"{\"task_id\":7,\"status\":[]}",
        b"{\"specversion\":\"1.0\",\"id\":\"n\",\"source\":\"/\",\"type\":\"object.created\",\"data\":{\"organization\":\"a\\u0000b\",\"object_type\":\"hostname\",\"primary_key\":\"k\",\"attributes\":{}}}",
        EVENT.as_bytes(),
    ] {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    input.extend("[".repeat(20_000).into_bytes());
    let (status, lines, log) = house.lines_and_end(input);
    assert!(status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(
        lines.len(),
        1,
        "expected the one event among them to make its task"
    );
    assert_eq!(
        house
            .json(&["dead-letter", "list"])
            .as_array()
            .map(Vec::len),
        Some(9)
    );
}

#[test]
fn an_empty_id_of_a_request_is_a_usage_error() {
    let house = embedded();
    let start = ["run", "start", "nightly", "--request-id", ""];
    let (code, out, err) = ended(house.command(&start));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("an id is not empty"), "{err}");
}

#[test]
fn a_line_that_sets_the_clock_to_no_instant_is_a_dead_letter_that_says_so() {
    let house = embedded();
    let input = b"{\"now\":\"yesterday\"}\n{\"now\":5}\n".to_vec();
    let (status, _, log) = house.lines_and_end(input);
    assert!(status.success(), "{log}");
    let letters = house.json(&["dead-letter", "list"]);
    let letters = letters.as_array().expect("letters");
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in letters {
        let said = letter["message"].as_str().expect("a text");
        assert!(said.starts_with("now is "), "{said}");
        assert!(said.contains("2026-11-21T09:30:00Z"), "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_no_command_with_a_panic() {
    let house = embedded();
    let mut child = house
        .command(&["export"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster runs");
    drop(child.stdout.take());
    let (code, _, err) = told(&child.wait_with_output().expect("muster ends"));
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn output_that_cannot_be_written_is_told_and_exits_with_1() {
    let house = embedded();
    house.apply("more.yaml", "{kind: organization, id: other, name: Other}");
    for line in [
        "export",
        "plugin list",
        "object list --output json",
        "stats",
        "check more.yaml",
        "demo",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let full = fs::File::options().write(true).open("/dev/full");
        let mut command = house.command(&arguments);
        command.stdout(full.expect("opened")).stderr(Stdio::piped());
        let child = command.spawn().expect("muster runs");
        let (code, _, err) = told(&child.wait_with_output().expect("muster ends"));
        assert_eq!(code, 1, "{line}: {err}");
        let said = if line.ends_with("json") {
            "\"message\":\"standard output cannot be written: "
        } else {
            "error: standard output cannot be written: "
        };
        assert!(err.contains(said), "{line}: {err}");
    }
}
