//! Runs as the command line starts them: by hand, and as files declare them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::support::process::House;
use crate::{ended, told};

const OPS: &str = r#"
- {kind: organization, id: ops}
- {kind: plugin, plugin_id: rotate, worker_type: keeper}
- {name: rotate-backups, organization: ops, recurrences: yearly, plugins: "True", input: {}}
- {name: elsewhere, organization: ops, recurrences: yearly, plugins: "True", target: nosuch}
"#;

fn house() -> House {
    let house = House::embedded("");
    house.apply("ops.yaml", OPS);
    house
}

#[test]
fn a_dry_run_tells_which_runs_it_would_start_and_how_those_stand_that_were_started() {
    let house = house();
    let file = house.write(
        "run.yaml",
        b"- {kind: run, name: r-1, schedule: rotate-backups, organization: ops}\n",
    );
    let file = file.display().to_string();
    let dry = house.done(&["apply", "--dry-run", &file]);
    assert!(
        dry.contains("+ run r-1: it would start the schedule rotate-backups for ops"),
        "{dry}"
    );
    assert!(dry.contains("1 run to start"), "{dry}");
    assert_eq!(
        house.json(&["run", "list"]),
        json!([]),
        "nothing is started"
    );
    let started = house.done(&["apply", &file]);
    assert!(started.contains("run r-1: started the run "), "{started}");
    let run = house.json(&["run", "list"])[0]["id"].clone();
    let run = run.as_str().expect("an id").to_owned();
    let dry = house.done(&["apply", "--dry-run", &file]);
    let before = format!("run r-1: was started before: the run {run} for ops: running, 1 task");
    assert!(
        dry.contains(&before) && dry.contains("nothing differs"),
        "{dry}"
    );
    let dry = house.json(&["apply", "--dry-run", &file]);
    assert_eq!(dry["runs"][0]["started_before"], true);
    assert_eq!(dry["runs"][0]["runs"][0]["run_id"], json!(run));
    // How it stands now is told, and not what was answered then.
    house.done(&["run", "cancel", &run]);
    let again = house.done(&["apply", &file]);
    let before = format!("run r-1: was started before: the run {run} for ops: cancelled");
    assert!(again.contains(&before), "{again}");
    assert!(!again.contains("started the run"), "{again}");
}

#[test]
fn a_run_of_what_is_not_declared_is_told_by_check_and_by_a_dry_run() {
    let house = house();
    let file = |name: &str, text: &str| house.write(name, text.as_bytes()).display().to_string();
    let all = file("all.yaml", OPS);
    let slip = file(
        "slip.yaml",
        "- {kind: run, name: r-1, schedule: rotate-backup, organization: ops}\n",
    );
    let said =
        "run r-1: schedule: no schedule `rotate-backup` is declared; did you mean rotate-backups?";
    let (code, out, _) = ended(house.command(&["check", &all, &slip]));
    assert!(out.contains(said) && out.contains("slip.yaml:1"), "{out}");
    assert_eq!(code, 0, "it may be stored: {out}");
    let (code, out, err) = ended(house.command(&["apply", "--dry-run", &slip]));
    assert!(err.contains(said), "{out}{err}");
    assert_eq!(code, 1, "{out}{err}");
    let plugin = file("plugin.yaml", "- {kind: run, name: r-2, plugin: rotat}\n");
    let (code, _, err) = ended(house.command(&["apply", "--dry-run", &plugin]));
    assert!(
        err.contains("no plugin `rotat` is declared; did you mean rotate?"),
        "{err}"
    );
    assert_eq!(code, 1);
    let by_plugin = file(
        "right.yaml",
        "- {kind: run, name: r-3, schedule: \"plugin:rotate\", organization: ops}\n",
    );
    let (code, out, err) = ended(house.command(&["apply", "--dry-run", &by_plugin]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
}

#[test]
fn an_organisation_that_nobody_declared_is_a_warning() {
    let house = house();
    let text = "- {kind: organization, id: acme}\n- {name: a, organization: acne, recurrences: yearly, plugins: \"True\"}\n\
                - {name: b, organization: acne, recurrences: yearly, plugins: \"True\"}\n";
    let file = house.write("strangers.yaml", text.as_bytes());
    let file = file.display().to_string();
    let said = "organization: no organization `acne` is declared; did you mean acme?";
    let (code, out, _) = ended(house.command(&["check", &file]));
    assert_eq!(code, 0, "{out}");
    assert_eq!(out.matches(said).count(), 1, "each is told once: {out}");
    let (code, _, err) = ended(house.command(&["apply", &file]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(said), "{err}");
    let known = "- {name: c, organization: ops, recurrences: yearly, plugins: \"True\"}\n";
    let known = house.write("known.yaml", known.as_bytes());
    let (_, _, err) = ended(house.command(&["apply", &known.display().to_string()]));
    assert_eq!(err, "", "it is stored");
}

#[test]
fn a_run_that_has_failed_is_a_no_whether_one_waits_or_not() {
    let house = house();
    for more in [&[][..], &["--wait"]] {
        let arguments = [&["run", "start", "elsewhere"], more].concat();
        let (code, out, err) = ended(house.command(&arguments));
        assert_eq!(code, 1, "{out}{err}");
        assert!(out.contains("failed (target not found)"), "{out}");
        assert!(err.contains("`muster run get "), "{err}");
        assert!(!err.contains("waiting"), "{err}");
    }
    assert_eq!(
        ended(house.command(&["run", "start", "rotate-backups"])).0,
        0
    );
}

#[test]
fn who_waits_for_a_run_is_told_its_id_at_once_and_that_nobody_serves_it() {
    let house = house();
    let mut waiting = house
        .command(&["run", "start", "rotate-backups", "--wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster runs");
    let mut err = BufReader::new(waiting.stderr.take().expect("its errors"));
    let mut line = String::new();
    err.read_line(&mut line).expect("a line");
    let run = line.split("started the run ").nth(1);
    let run = run.and_then(|rest| rest.split(' ').next());
    let run = run.unwrap_or_else(|| panic!("an id: {line}")).to_owned();
    assert!(line.contains("for ops, waiting …"), "{line}");
    let mut warning = String::new();
    err.read_line(&mut warning).expect("a line");
    assert!(
        warning.contains("no replica of the service is alive"),
        "{warning}"
    );
    house.done(&["run", "cancel", &run]);
    let mut next = String::new();
    err.read_line(&mut next).expect("a line");
    assert!(next.contains(&format!("`muster run get {run}`")), "{next}");
    let (code, out, _) = told(&waiting.wait_with_output().expect("it ends"));
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("ended: cancelled"), "{out}");
}
