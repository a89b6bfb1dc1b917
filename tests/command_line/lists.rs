//! Lists at a terminal and elsewhere, and what commands say that they did.

use super::slips::terminal;
use super::*;

const EVENTS: [&str; 3] = ["www", "mail", "a-host-with-quite-a-long-name.somewhere"];

/// A house with something of everything, whose tasks wait at nobody's.
fn furnished() -> House {
    let house = embedded();
    let events: String = EVENTS
        .iter()
        .map(|host| {
            let event = EVENT.replace("e-1", host);
            format!("{}\n", event.replace("www", host))
        })
        .collect();
    house.lines(format!("{events}not an event\n").into_bytes());
    house.done(&["run", "start", "nightly"]);
    house.done(&["queue", "list"]);
    house
}

/// What a terminal so wide shows of a command.
fn seen(house: &House, columns: usize, arguments: &[&str]) -> (i32, String) {
    let mut command = house.command(arguments);
    command.env("COLUMNS", columns.to_string());
    let (code, seen) = terminal(&command, "");
    (code, seen.replace('\r', ""))
}

fn cells(line: &str) -> usize {
    line.chars().count()
}

const LISTS: [&[&str]; 11] = [
    &["task", "list"],
    &["run", "list"],
    &["attempt", "list"],
    &["object", "list"],
    &["dead-letter", "list"],
    &["organization", "list"],
    &["plugin", "list"],
    &["schedule", "list"],
    &["object-set", "list"],
    &["calendar", "list"],
    &["queue", "list"],
];

#[test]
fn every_list_fits_the_terminal_and_says_what_it_leaves_out() {
    let house = furnished();
    for columns in [80, 60, 200] {
        for list in LISTS {
            let (code, out) = seen(&house, columns, list);
            assert_eq!(code, 0, "{list:?}: {out}");
            assert!(out.lines().count() >= 3, "{list:?}: {out}");
            for line in out.lines() {
                // A key that is longer than the terminal is there whole, and alone.
                let alone = line.starts_with("Hostname|") && !line.contains(' ');
                assert!(
                    alone || cells(line) <= columns,
                    "{list:?} at {columns}:\n{out}"
                );
            }
        }
        for shown in [&["stats"][..], &["health"], &["schema"]] {
            let (_, out) = seen(&house, columns, shown);
            for line in out.lines() {
                assert!(cells(line) <= columns, "{shown:?} at {columns}:\n{out}");
            }
        }
    }
    let (_, out) = seen(&house, 80, &["task", "list"]);
    assert!(
        out.contains("left out: ") && out.contains("--wide"),
        "{out}"
    );
    assert!(out.contains("queue"), "{out}");
    let (_, objects) = seen(&house, 60, &["object", "list"]);
    assert!(objects.contains(EVENTS[2]), "{objects}");
    assert!(objects.contains("object_type"), "{objects}");
    let tasks = ids(&house.json(&["task", "list"]));
    for id in &tasks {
        assert!(out.contains(id), "an id is copied, so it is whole:\n{out}");
    }
}

#[test]
fn elsewhere_a_list_keeps_its_columns_whatever_is_said_of_a_terminal() {
    let house = furnished();
    let mut command = house.command(&["task", "list"]);
    command.env("COLUMNS", "80");
    let (code, out, err) = ended(command);
    assert_eq!((code, err.as_str()), (0, ""));
    for column in ["priority", "finished_at", "inputs", "muster.tasks.boefje"] {
        assert!(out.contains(column), "{column}:\n{out}");
    }
    assert!(!out.contains("left out"), "{out}");
    let (_, wide) = seen(&house, 80, &["task", "list", "--wide"]);
    assert_eq!(wide, out);
}

#[test]
fn columns_are_chosen_by_their_names_and_a_wrong_one_is_told_the_nearest() {
    let house = furnished();
    let (_, out) = seen(
        &house,
        80,
        &["task", "list", "--columns", "state,worker_type"],
    );
    let head: Vec<&str> = out
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(head, ["state", "worker_type"]);
    assert!(out.contains("boefje") && !out.contains("left out"), "{out}");
    let piped = house.done(&["task", "list", "--columns", "state,worker_type"]);
    assert!(
        piped.contains("worker_type") && !piped.contains("priority"),
        "{piped}"
    );
    let (code, _, err) = ended(house.command(&["task", "list", "--columns", "stat"]));
    assert_eq!(code, 2);
    assert!(err.contains("did you mean state?"), "{err}");
}

#[test]
fn one_thing_is_told_line_by_line_without_what_is_empty() {
    let house = furnished();
    let id = ids(&house.json(&["task", "list"])).remove(0);
    let (code, out) = seen(&house, 80, &["task", "get", &id]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("id "), "{out}");
    assert!(out.contains(" ago)"), "{out}");
    for nothing in ["redrive_of", "{}", "┌"] {
        assert!(!out.contains(nothing), "{nothing}:\n{out}");
    }
    assert!(out.lines().all(|line| cells(line) <= 80), "{out}");
}

#[test]
fn a_deed_is_told_in_a_sentence() {
    let house = furnished();
    let done = |arguments: &[&str]| house.done(arguments);
    let tasks = ids(&house.json(&["task", "list"]));
    let (first, second) = (tasks[0].as_str(), tasks[1].as_str());
    assert_eq!(done(&["task", "cancel", first]), "cancelled 1 task\n");
    assert_eq!(
        done(&["task", "cancel", first, second]),
        "cancelled 1 task; 1 was already done\n"
    );
    let none = ["--where", "plugin_id = 'nope'", "--yes"];
    for command in [["task", "cancel"], ["task", "retry"]] {
        assert_eq!(done(&[&command[..], &none].concat()), "0 tasks match\n");
    }
    let none = ["--where", "reason = 'nope'", "--yes"];
    for command in [["dead-letter", "drop"], ["dead-letter", "redrive"]] {
        assert_eq!(
            done(&[&command[..], &none].concat()),
            "0 dead letters match\n"
        );
    }
    let again = done(&["task", "retry", first]);
    assert!(
        again.starts_with(&format!("made the task {first} anew: ")),
        "{again}"
    );
    let queue = "muster.tasks.boefje";
    assert_eq!(
        done(&["queue", "pause", queue, "--reason", "quiet"]),
        format!("paused the queue {queue} (quiet); what is at the broker is untouched\n")
    );
    assert_eq!(
        done(&["queue", "pause", queue, "--reason", "quiet"]),
        format!("the queue {queue} was paused already (quiet)\n")
    );
    assert_eq!(
        done(&["queue", "resume", queue]),
        format!("resumed the queue {queue}\n")
    );
    assert_eq!(
        done(&["schedule", "resume", "nightly"]),
        "the schedule nightly was not paused\n"
    );
    assert_eq!(
        done(&["plugin", "disable", "nmap"]),
        "disabled the plugin nmap\n"
    );
    assert_eq!(
        done(&["plugin", "disable", "nmap"]),
        "the plugin nmap is disabled already\n"
    );
    assert_eq!(
        done(&["plugin", "delete", "nmap"]),
        "deleted the plugin nmap; tasks that wait for it are withdrawn\n"
    );
    let started = done(&["run", "start", "nightly"]);
    assert!(started.starts_with("started the run "), "{started}");
    assert_eq!(started.lines().count(), 1, "{started}");
    let file = house.write(
        "one.yaml",
        b"{name: one, recurrences: daily, plugins: \"True\"}",
    );
    let file = file.display().to_string();
    let made = done(&["schedule", "apply", &file]);
    assert!(
        made.starts_with("made the schedule one\n  next: "),
        "{made}"
    );
    let left = done(&["schedule", "apply", &file]);
    assert!(
        left.starts_with("the schedule one is left as it is"),
        "{left}"
    );
}

#[test]
fn scripts_are_told_of_a_deed_as_before_and_of_those_that_had_ended() {
    let house = furnished();
    let tasks = ids(&house.json(&["task", "list"]));
    house.done(&["task", "cancel", &tasks[0]]);
    let told = house.json(&["task", "cancel", &tasks[0], &tasks[1]]);
    assert_eq!(told["cancelled"], json!([tasks[1]]));
    assert_eq!(told["ended"], json!([tasks[0]]));
}

#[test]
fn a_run_on_what_is_not_there_is_refused_with_the_nearest_and_starts_nothing() {
    let house = furnished();
    let runs = || house.json(&["run", "list"]).as_array().map(Vec::len);
    let before = runs();
    let start = |key: &str| {
        ended(house.command(&[
            "run",
            "start",
            "--plugin",
            "dns-records",
            "--organization",
            "acme",
            "--object",
            key,
        ]))
    };
    let (code, out, err) = start("Hostname|internet|maill.example.com");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("not_found: no object"), "{err}");
    assert!(
        err.contains("did you mean Hostname|internet|mail.example.com"),
        "{err}"
    );
    assert_eq!(runs(), before);
    let targets = house.json(&["target", "list"]);
    assert!(!targets.to_string().contains("maill"), "{targets}");
    assert_eq!(start("Hostname|internet|mail.example.com").0, 0);
}

#[test]
fn what_cannot_be_meant_is_told_with_what_would_be_right() {
    let house = furnished();
    for (arguments, wanted) in [
        (
            &["dead-letter", "redrive", "--reason", "nope", "--yes"][..],
            "--reason`: expected `not_json`",
        ),
        (
            &["dead-letter", "drop", "--reason", "not_jsn", "--yes"],
            "did you mean `not_json`",
        ),
        (
            &["dead-letter", "list", "--state", "nope"],
            "`nope` is no reason of a dead letter",
        ),
        (
            &["replay", "none.yaml", "--since", "-1d"],
            "--since: `-1d` is neither",
        ),
    ] {
        let (code, _, err) = ended(house.command(arguments));
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(err.contains(wanted), "{arguments:?}: {err}");
    }
    let (code, _, err) = ended(house.command(&["task", "cancel", "--all"]));
    assert_eq!(code, 2);
    assert!(err.contains("help: say yes: --yes\n"), "{err}");
    let kept = house.json(&["dead-letter", "list"]);
    assert_eq!(kept.as_array().map(Vec::len), Some(1));
    let none = ["dead-letter", "redrive", "--reason", "silent", "--yes"];
    assert_eq!(house.done(&none), "0 dead letters match\n");
}

#[test]
fn the_screen_opens_schedules_and_queues_by_their_names() {
    let house = furnished();
    let open = |arguments: &[&str]| {
        let watch = [&["watch", "--once", "--tab"], arguments].concat();
        ended(house.command(&watch))
    };
    let (code, out, _) = open(&["schedules", "--open", "nightly"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("schedule nightly"), "{out}");
    let (code, _, err) = open(&["schedules", "--open", "nightl"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("there is no schedule `nightl`; did you mean nightly?"),
        "{err}"
    );
    let (code, _, err) = open(&["queues", "--open", "muster.tasks.boefj"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("there is no queue `muster.tasks.boefj`")
            && err.contains("did you mean muster.tasks.boefje?"),
        "{err}"
    );
    house.apply(
        "two.yaml",
        "- {kind: organization, id: other}\n\
         - {name: twice, organization: acme, recurrences: daily, plugins: \"True\"}\n\
         - {name: twice, organization: other, recurrences: daily, plugins: \"True\"}\n",
    );
    let (code, _, err) = open(&["schedules", "--open", "twice"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("of acme, other") && err.contains("--organization"),
        "{err}"
    );
    let (code, out, _) = open(&["schedules", "--open", "twice", "--organization", "other"]);
    assert_eq!(code, 0);
    assert!(out.contains("schedule twice"), "{out}");
}
