//! Slips of the pen: what the program says of them, and how it ends.

use super::*;

const MORE: &str = r#"
- {kind: plugin, plugin_id: reader, worker_type: boefje, scan_level: 1}
- {name: monthly, organization: acme, recurrences: monthly, plugins: "False"}
"#;

fn house() -> House {
    let house = embedded();
    house.apply("more.yaml", MORE);
    house
}

/// Each ends so, and says this.
fn say(house: &House, cases: &[(&[&str], i32, &str)]) {
    for (arguments, wanted, said) in cases {
        let (code, out, err) = ended(house.command(arguments));
        assert_eq!(code, *wanted, "{arguments:?}: {out}{err}");
        assert!(
            err.contains(said),
            "{arguments:?} does not say `{said}`: {err}"
        );
    }
}

#[test]
fn what_is_not_there_is_a_no_with_the_nearest_name() {
    let house = house();
    let range = [
        "--from",
        "2026-11-01T00:00:00Z",
        "--to",
        "2026-11-02T00:00:00Z",
    ];
    let backfill = |name: &'static str| [&["schedule", "backfill", name][..], &range].concat();
    say(
        &house,
        &[
            (
                &["schedule", "preview", "nigthly"],
                1,
                "did you mean nightly?",
            ),
            (
                &["schedule", "preview", "plugin:reader"],
                1,
                "the plugin `reader` by itself",
            ),
            (
                &["schedule", "preview", "plugin:readr"],
                1,
                "did you mean plugin:reader?",
            ),
            (
                &["schedule", "preview", "monthly", "--organization", "nope"],
                1,
                "no organization `nope`",
            ),
            (
                &["schedule", "pause", "nigthly", "--reason", "r"],
                1,
                "did you mean nightly?",
            ),
            (&backfill("nigthly"), 1, "did you mean nightly?"),
            (&backfill("new hosts"), 1, "it has no `recurrences`"),
            (&["run", "get", "x"], 1, "no run `x`"),
            (&["task", "get", "x"], 1, "no task `x`"),
            (&["schema", "tsk"], 1, "did you mean task?"),
            (
                &["attempt", "list", "--state", "bogus"],
                2,
                "`bogus` is no outcome of an attempt; known: open, succeeded,",
            ),
        ],
    );
    for noun in [
        "run",
        "task",
        "attempt",
        "dead-letter",
        "object",
        "plugin",
        "schedule",
        "calendar",
        "object-set",
    ] {
        say(
            &house,
            &[(
                &[noun, "list", "--organization", "acm"],
                1,
                "did you mean acme?",
            )],
        );
    }
    let against = [
        "query",
        "True",
        "--against",
        "objects",
        "--organization",
        "acm",
    ];
    say(&house, &[(&against, 1, "did you mean acme?")]);
    let all = ["task", "cancel", "--all", "--yes", "--organization", "acm"];
    say(&house, &[(&all, 1, "did you mean acme?")]);
}

#[test]
fn what_cannot_be_used_is_said_in_the_words_of_the_command_line() {
    let house = house();
    let long = "x".repeat(2000);
    say(
        &house,
        &[
            (
                &["schedule", "pause", "nightly", "--reason", " "],
                2,
                "`--reason`: expected",
            ),
            (
                &["task", "cancel", "--where", "stat = 'x'", "--yes"],
                2,
                "`--where`: ",
            ),
            (&["task", "cancel", ""], 2, "see muster task cancel --help"),
            (
                &[
                    "schedule",
                    "backfill",
                    "nightly",
                    "--from",
                    "2026-11-01T00:00:00Z",
                    "--to",
                    "9999-12-31T23:59:59Z",
                ],
                2,
                "later than 9999-12-30T22:00:00Z",
            ),
            (
                &["run", "start", "nightly", "--request-id", &long],
                2,
                "has 2000 bytes; at most 1024",
            ),
            (&["task", "list", "--after", &long], 2, "xxx…` is no place"),
        ],
    );
    let (_, _, err) = ended(house.command(&["task", "list", "--after", &long]));
    assert!(err.len() < 400, "{err}");
}

#[test]
fn scripts_read_what_went_wrong_as_json_on_standard_error() {
    let house = house();
    let told = |arguments: &[&str]| {
        let (code, out, err) = ended(house.command(&[&["--output", "json"], arguments].concat()));
        assert_eq!(out, "", "{arguments:?}");
        let error: Value = serde_json::from_str(&err).unwrap_or_else(|_| panic!("no JSON: {err}"));
        assert_eq!(error["ok"], false);
        (code, error["error"].clone())
    };
    let (code, error) = told(&["schedule", "pause", "nigthly", "--reason", "r"]);
    assert_eq!(code, 1);
    assert_eq!(error["code"], "not_found");
    assert_eq!(error["help"], "did you mean nightly?");
    let (code, error) = told(&["task", "lst"]);
    assert_eq!((code, error["code"].as_str()), (2, Some("usage")));
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|said| said.starts_with("unrecognized"))
    );
    let (code, error) = told(&["task", "cancel", "--where", "stat = 1"]);
    assert_eq!((code, error["code"].as_str()), (2, Some("wrong_argument")));
}

#[test]
fn one_entry_that_is_wrong_is_told_with_its_file_and_line() {
    let house = house();
    let file = |name: &str, text: &str| house.write(name, text.as_bytes()).display().to_string();
    let set = file(
        "set.yaml",
        "\nname: s\nobject_typ: hostname\nquery: 'True'\n",
    );
    let query = file(
        "query.yaml",
        "name: s\nobject_type: hostname\nquery: 'name ='\n",
    );
    let plugin = file(
        "plugin.yaml",
        "plugin_id: p\nworker_type: boefje\nscan_level: 7\n",
    );
    say(
        &house,
        &[
            (
                &["object-set", "apply", &set],
                2,
                "set.yaml:3:1: unknown field `object_typ`",
            ),
            (&["object-set", "apply", &query], 2, "query.yaml:3:8: "),
            (
                &["plugin", "apply", &plugin],
                2,
                "plugin.yaml:3:13: `scan_level`",
            ),
            (
                &["schedule", "apply", &plugin],
                2,
                "plugin.yaml:1:1: unknown field `plugin_id`",
            ),
        ],
    );
    let right = file(
        "right.yaml",
        "name: s\nobject_type: hostname\nquery: 'True'\n",
    );
    assert_eq!(ended(house.command(&["object-set", "apply", &right])).0, 0);
}

#[test]
fn a_run_that_cannot_be_started_is_told_with_its_line_and_with_those_that_were_not_tried() {
    let house = house();
    let text = "- {kind: run, name: r1, schedule: monthly}\n- {kind: run, name: r2, schedule: nope}\n- {kind: run, name: r3, schedule: monthly}\n";
    let file = house
        .write("runs.yaml", text.as_bytes())
        .display()
        .to_string();
    say(
        &house,
        &[
            (
                &["apply", &file],
                1,
                "runs.yaml:2: run r2: no schedule `nope`",
            ),
            (&["apply", &file], 1, "not started after it: r3"),
        ],
    );
    let runs = house.json(&["run", "list"]);
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
}

#[test]
fn a_case_that_names_what_is_not_there_is_not_played() {
    let house = house();
    let file = |name: &str, text: &str| house.write(name, text.as_bytes()).display().to_string();
    let catalogue = file("all.yaml", CATALOGUE);
    let kind = file("kind.yaml", "- {kind: tset, name: x}\n");
    let plugin = file(
        "case.yaml",
        "- kind: test\n  name: x\n  at: 2026-11-21T00:00:00Z\n  tasks: [{plugin: nmapp}]\n",
    );
    say(
        &house,
        &[
            (&["test", &catalogue, &kind], 1, "did you mean `test`?"),
            (
                &["test", &catalogue, &plugin],
                1,
                "no plugin `nmapp`; did you mean nmap?",
            ),
        ],
    );
}

#[test]
fn check_tells_of_scripts_that_no_worker_runs_and_of_worker_types_that_look_like_others() {
    let house = house();
    let text = "- {kind: plugin, plugin_id: a, worker_type: boefje, artefact: a.py}\n- {kind: plugin, plugin_id: b, worker_type: boefje, artefact: a.py, runtime: pyton}\n- {kind: plugin, plugin_id: c, worker_type: boefjes}\n- {kind: plugin, plugin_id: d, worker_type: boefje, artefact: a.py, runtime: python}\n";
    let file = house
        .write("scripts.yaml", text.as_bytes())
        .display()
        .to_string();
    let told = house.json(&["check", &file]);
    let said: Vec<&str> = told["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|finding| finding["message"].as_str())
        .collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("needs a `runtime`"), "{said:?}");
    assert!(said[1].contains("did you mean python?"), "{said:?}");
    assert!(said[2].contains("did you mean boefje?"), "{said:?}");
}

#[test]
fn help_offers_what_the_noun_takes() {
    let folder = Folder::new("help");
    for noun in [
        "organization",
        "plugin",
        "object-set",
        "calendar",
        "schedule",
        "object",
    ] {
        let (_, help, _) = ended(newcomer(&folder, &[noun, "list", "--help"]));
        for flag in ["--where", "--after", "--state"] {
            assert!(!help.contains(flag), "{noun}: {help}");
        }
        assert_eq!(help.contains("--type"), noun == "object", "{noun}: {help}");
    }
    for noun in ["run", "task", "attempt", "dead-letter"] {
        let (_, help, _) = ended(newcomer(&folder, &[noun, "list", "--help"]));
        for flag in ["--where", "--after", "--state"] {
            assert!(help.contains(flag), "{noun}: {help}");
        }
    }
}

#[test]
fn a_question_that_is_too_long_is_refused_and_the_next_one_is_answered() {
    let house = House::embedded("");
    let mut input = b"{\"query\": \"".to_vec();
    input.resize(21 * 1024 * 1024, b'x');
    input.extend_from_slice(b"\n{\"query\": \"True\", \"object\": {}}\n");
    let (code, out, _) = piped(&house, &["query", "--batch"], &input);
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(code, 0);
    assert_eq!(lines.len(), 2, "{out}");
    assert_eq!(lines[0]["error"]["code"], "too_large");
    assert_eq!(lines[1], json!({"valid": true, "matches": true}));
}

#[test]
fn a_line_that_sets_the_clock_to_no_instant_says_so_again_when_it_is_tried_again() {
    let house = House::embedded("");
    house.lines(b"{\"now\":\"tomorrow\"}\n".to_vec());
    let letters = house.json(&["dead-letter", "list"]);
    let id = letters[0]["id"].as_str().expect("an id").to_owned();
    let (code, out, _) = ended(house.command(&["dead-letter", "redrive", &id]));
    assert_eq!(code, 1);
    assert!(
        out.contains("tomorrow") && !out.contains("specversion"),
        "{out}"
    );
}

#[test]
fn what_is_touched_in_bulk_needs_a_yes_where_nobody_can_be_asked() {
    let house = house();
    let event = EVENT.replace("e-1", "bulk");
    house.lines(format!("{event}\n{{\"specversion\":\"1.0\"}}\n").into_bytes());
    say(
        &house,
        &[
            (
                &["task", "cancel", "--where", "True"],
                2,
                "that would be 1 task\n",
            ),
            (
                &["dead-letter", "redrive", "--all"],
                2,
                "that would be 1 dead letter\n",
            ),
            (&["dead-letter", "drop", "--all"], 2, "say yes"),
        ],
    );
    let empty = house.write(
        "calendar.yaml",
        b"- {kind: calendar, name: other, dates: 2026-12-26}\n",
    );
    let empty = empty.display().to_string();
    say(
        &house,
        &[(&["apply", "--prune", &empty], 2, "1 entry would be deleted")],
    );
    let (code, _, err) = ended(house.command(&["apply", "--prune", "--yes", &empty]));
    assert_eq!(code, 0, "{err}");
}

/// What somebody at a terminal sees, who answers so.
fn at_a_terminal(house: &House, arguments: &[&str], answer: &str) -> (i32, String) {
    terminal(&house.command(arguments), answer)
}

pub fn terminal(plain: &Command, answer: &str) -> (i32, String) {
    let words: Vec<String> = std::iter::once(plain.get_program())
        .chain(plain.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("a word")))
        .collect();
    // It makes a terminal of its own, and ends as the command does.
    let mut command = Command::new("script");
    command.args(["-qec", &words.join(" "), "/dev/null"]);
    command.envs(
        plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    if let Some(folder) = plain.get_current_dir() {
        command.current_dir(folder);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script runs, of bsdutils");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(answer.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    drop(stdin);
    let (code, out, _) = told(&done);
    (code, out)
}

#[test]
fn at_a_terminal_what_is_touched_in_bulk_is_asked_about() {
    let house = house();
    house.lines(format!("{}\n", EVENT.replace("e-1", "asked")).into_bytes());
    let cancel = ["task", "cancel", "--where", "True"];
    let (code, seen) = at_a_terminal(&house, &cancel, "n\n");
    assert!(
        seen.contains("that would be 1 task; go on? [y/N]"),
        "{seen}"
    );
    assert!(seen.contains("nothing was done"), "{seen}");
    assert_eq!(code, 1);
    let (code, seen) = at_a_terminal(&house, &cancel, "y\n");
    assert_eq!(code, 0, "{seen}");
}

#[test]
fn long_work_shows_at_a_terminal_how_far_it_is_and_writes_nothing_over_elsewhere() {
    let house = house();
    let line = |number: u32| {
        format!(
            "{{\"organization\":\"acme\",\"object_type\":\"hostname\",\"primary_key\":\"h{number}\",\"attributes\":{{\"name\":\"a\"}}}}\n"
        )
    };
    let lines: String = (0..20_000).map(line).collect();
    let file = house
        .write("inventory.jsonl", lines.as_bytes())
        .display()
        .to_string();
    let (code, seen) = at_a_terminal(&house, &["import", "objects", &file], "");
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("\r") && seen.contains(" objects, "), "{seen}");
    let (code, _, err) = ended(house.command(&["import", "objects", &file]));
    assert_eq!(code, 0);
    assert!(!err.contains('\r'), "{err}");
}
