//! `muster test`: cases beside the rules are played through the real decisions.

mod support;

use serde_json::{Value, json};
use support::process::House;

const RULES: &str = r#"
- {kind: organization, id: acme}
- {kind: organization, id: beta}
- {kind: plugin, plugin_id: resolve, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {kind: plugin, plugin_id: scan, worker_type: boefje, scan_level: 3, consumes: [hostname], batch_size: 2, grace: 1h}
- {kind: plugin, plugin_id: sweep, worker_type: boefje, scan_level: 0}
- {name: on-new, run_on: hostname, operation: created, plugins: plugin_id = 'resolve', priority: 7}
- {name: nightly, recurrences: "30 3 * * *", timezone: Europe/Amsterdam, plugins: plugin_id = 'scan',
   input: {hostname: "name endswith '.example.com'"}}
- {name: sweeping, recurrences: "30 3 * * *", timezone: Europe/Amsterdam, organization: acme, plugins: plugin_id = 'sweep'}
- {name: of-network, run_on: hostname, operation: updated, plugins: plugin_id = 'resolve', when: "network.name = 'internet'"}
"#;

const SETTINGS: &str = "open_types = true\n[object_types]\n\
network = { fields = { name = \"text\" } }\n\
hostname = { fields = { name = \"text\", network = \"rel(network)?\" } }\n";

/// The answer of `muster test --output json` about some cases.
fn played(cases: &str) -> (Option<i32>, Value) {
    let house = House::embedded(SETTINGS);
    house.write("rules.yaml", RULES.as_bytes());
    house.write("cases.yaml", cases.as_bytes());
    let path = |name: &str| house.path(name).display().to_string();
    let output = house.run(&[
        "test",
        &path("rules.yaml"),
        &path("cases.yaml"),
        "--output",
        "json",
    ]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), told)
}

/// The one case of a file.
fn one(case: &str) -> Value {
    let (_, told) = played(case);
    assert_eq!(told["cases"].as_array().map(Vec::len), Some(1), "{told}");
    told["cases"][0].clone()
}

const CREATED: &str = "event: {type: object.created, data: {organization: acme, object_type: hostname, primary_key: h1, attributes: {name: a.example.com}, scan_level: 2}}";

fn case(rest: &str) -> String {
    format!(
        "- kind: test\n  name: it\n  {}\n",
        rest.replace('\n', "\n  ")
    )
}

#[test]
fn a_case_passes_that_names_all_tasks_and_fails_that_leaves_one_out() {
    let right = one(&case(&format!(
        "{CREATED}\ntasks: [{{plugin: resolve, input: h1, priority: 7}}]"
    )));
    assert_eq!(right["passed"], true, "{right}");
    let too_few = one(&case(CREATED));
    assert_eq!(too_few["passed"], false);
    assert_eq!(too_few["not_wanted"][0]["plugin"], "resolve");
    let too_many = one(&case(&format!(
        "{CREATED}\ntasks: [{{plugin: resolve}}, {{plugin: resolve}}]"
    )));
    assert_eq!(too_many["not_made"], json!([{"plugin": "resolve"}]));
    let other = one(&case(&format!(
        "{CREATED}\ntasks: [{{plugin: resolve, priority: 3}}]"
    )));
    assert_eq!(other["passed"], false, "{other}");
}

#[test]
fn the_clock_starts_what_is_due_at_that_instant_for_the_inputs_that_are_given() {
    let given = "given:\n\
- {organization: acme, object_type: hostname, primary_key: h1, attributes: {name: a.example.com}, scan_level: 3}\n\
- {organization: acme, object_type: hostname, primary_key: h2, attributes: {name: b.example.com}, scan_level: 3}\n\
- {organization: acme, object_type: hostname, primary_key: h3, attributes: {name: c.example.com}, scan_level: 2}\n\
- {organization: acme, object_type: hostname, primary_key: h4, attributes: {name: d.example.org}, scan_level: 3}\n\
- {organization: beta, object_type: hostname, primary_key: h5, attributes: {name: e.example.com}, scan_level: 3}";
    let told = one(&case(&format!(
        "{given}\nat: 2026-11-22T02:30:00Z\ntasks:\n\
- {{plugin: scan, input: [h1, h2], organization: acme}}\n\
- {{plugin: scan, input: h5, organization: beta}}\n\
- {{plugin: sweep, organization: acme, input: []}}\n\
refused: [{{plugin: scan, input: h3, reason: level_too_low, schedule: nightly}}]"
    )));
    assert_eq!(told["passed"], true, "{told}");
    // In summer it is another instant, and this one is none.
    let none = one(&case(&format!("{given}\nat: 2026-07-22T02:30:00Z")));
    assert_eq!(none["passed"], true, "{none}");
}

#[test]
fn tasks_of_before_stand_in_the_way() {
    let open = one(&case(&format!(
        "{CREATED}\nopen: [{{plugin: resolve, organization: acme, input: h1}}]\n\
refused: [{{plugin: resolve, reason: duplicate}}]"
    )));
    assert_eq!(open["passed"], true, "{open}");
    let ended = |at: &str| {
        one(&case(&format!(
            "now: 2026-11-21T12:00:00Z\n{CREATED}\n\
given: [{{organization: acme, object_type: hostname, primary_key: other, attributes: {{name: a}}}}]\n\
ended: [{{plugin: resolve, organization: acme, input: h1, at: \"{at}\"}}]\n\
refused: [{{plugin: resolve, reason: in_grace}}]"
        )))
    };
    // What was seen by the one that ended is not known, so the object counts as changed.
    assert_eq!(ended("2026-11-21T11:00:00Z")["passed"], false);
    let at = "2026-11-22T02:30:00Z";
    let given = "given: [{organization: acme, object_type: hostname, primary_key: h1, attributes: {name: a.example.com}, scan_level: 3}]";
    let sweep = "{plugin: sweep}";
    let within = one(&case(&format!(
        "at: {at}\n{given}\nended: [{{plugin: scan, organization: acme, input: h1, at: \"2026-11-22T02:00:00Z\"}}]\n\
tasks: [{sweep}]\nrefused: [{{plugin: scan, input: h1, reason: in_grace}}]"
    )));
    assert_eq!(within["passed"], true, "{within}");
    let over = one(&case(&format!(
        "at: {at}\n{given}\nended: [{{plugin: scan, organization: acme, input: h1, at: \"2026-11-22T01:00:00Z\"}}]\n\
tasks: [{sweep}, {{plugin: scan, input: h1}}]"
    )));
    assert_eq!(over["passed"], true, "{over}");
}

#[test]
fn a_query_follows_relations_among_what_is_given() {
    let event = "event: {type: object.updated, data: {organization: acme, object_type: hostname, primary_key: h1, attributes: {name: b, network: n1}}}";
    let given = |name: &str| {
        format!(
            "given:\n- {{organization: acme, object_type: network, primary_key: n1, attributes: {{name: {name}}}}}\n\
- {{organization: acme, object_type: hostname, primary_key: h1, attributes: {{name: a, network: n1}}, scan_level: 2}}"
        )
    };
    let yes = one(&case(&format!(
        "{event}\n{}\ntasks: [{{plugin: resolve, schedule: of-network}}]",
        given("internet")
    )));
    assert_eq!(yes["passed"], true, "{yes}");
    let no = one(&case(&format!("{event}\n{}", given("office"))));
    assert_eq!(no["passed"], true, "{no}");
}

#[test]
fn what_fails_says_what_was_wanted_what_came_and_why() {
    let house = House::embedded(SETTINGS);
    house.write("rules.yaml", RULES.as_bytes());
    let cases = case(
        "event: {type: object.created, data: {organization: acme, object_type: hostname, primary_key: h1, attributes: {name: a}, scan_level: 0}}\n\
tasks: [{plugin: resolve, input: h1}]\nrefused: [{plugin: scan}]",
    );
    house.write("cases.yaml", format!("# one case\n{cases}").as_bytes());
    let path = |name: &str| house.path(name).display().to_string();
    let output = house.run(&["test", &path("rules.yaml"), &path("cases.yaml")]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).replace(&path("cases.yaml"), "cases.yaml");
    assert_eq!(
        said,
        "FAILED  it (cases.yaml:2)\n    \
- task: plugin resolve, input h1\n        \
resolve was refused for h1: level_too_low: scan_level = 0, the plugin's is 1\n    \
- refused: plugin scan\n        \
no schedule that was triggered selects it\n\
0 passed, 1 failed\n"
    );
}

#[test]
fn a_case_that_cannot_be_read_is_complained_about_with_its_place() {
    let house = House::embedded(SETTINGS);
    house.write("rules.yaml", RULES.as_bytes());
    let path = |name: &str| house.path(name).display().to_string();
    for (written, complaint) in [
        ("tasks: []", "a case needs an `event`"),
        (&format!("{CREATED}\nat: 2026-11-22T02:30:00Z"), "not both"),
        (&format!("{CREATED}\ntask: []"), "did you mean `tasks`?"),
        (
            &format!("{CREATED}\nrefused: [{{plugin: a, reason: level_to_low}}]"),
            "did you mean `level_too_low`?",
        ),
        ("event: {type: object.created, data: {}}", "organization"),
        (
            "at: 2026-11-22T02:30:00Z\ngiven: [{organization: acme, object_type: hostname, primary_key: h, attributs: {}}]",
            "did you mean `attributes`?",
        ),
        (
            "at: 2026-11-22T02:30:00Z\ngiven: [{organization: acme, object_type: hostname, primary_key: h, attributes: {name: 3}}]",
            "name",
        ),
    ] {
        house.write("cases.yaml", case(written).as_bytes());
        let output = house.run(&["test", &path("rules.yaml"), &path("cases.yaml")]);
        assert_eq!(output.status.code(), Some(1), "{written}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(complaint), "{written}: {said}");
        assert!(said.contains("cases.yaml"), "{said}");
    }
    house.write("cases.yaml", b"[]");
    let output = house.run(&["test", &path("rules.yaml"), &path("cases.yaml")]);
    assert_eq!(output.status.code(), Some(2));
}

/// What is wrong with a file, each with its line; `muster check` says it on standard output, `muster test` on the other.
fn findings(house: &House, command: &str, files: &[&str]) -> Vec<String> {
    let path = |name: &str| house.path(name).display().to_string();
    let paths: Vec<String> = files.iter().map(|name| path(name)).collect();
    let mut arguments = vec![command];
    arguments.extend(paths.iter().map(String::as_str));
    let output = house.run(&arguments);
    assert_eq!(output.status.code(), Some(1), "{command} {files:?}");
    let told = if command == "check" {
        output.stdout
    } else {
        output.stderr
    };
    let told = String::from_utf8_lossy(&told).replace(&path(files[0]), "");
    let of_file = told.lines().filter_map(|line| line.strip_prefix(':'));
    of_file.map(str::to_owned).collect()
}

const WRONG: &str = "\
- {kind: test, name: first, at: yesterday, tasks: [{plugin: resolve}]}
- {kind: plugin, plugin_id: resolve, worker_typ: boefje, consumes: [hostname]}
- {kind: plugin, plugin_id: scan, worker_type: boefje, scan_level: 9}
- kind: test
  name: second
  at: 2026-11-22T02:30:00Z
  given: [{organization: acme, object_type: hostname, primary_kye: h1, attributes: {name: a}}]
  tasks:
  - {plugn: scan}
  - {plugin: scna}
  refused:
  - {plugin: scna}
  - {plugin: resolve, reason: too_low}
  - {plugin: resolve, schedule: nightly}
- {name: nightly, recurrences: daily, plugins: plugin_id = 'scan', calendars: [freeze]}
- {kind: calendar, name: freeze, weekly: never}
";

#[test]
fn what_is_wrong_in_a_file_is_told_once_for_each_cause_in_the_order_of_the_file() {
    let house = House::embedded("");
    house.write("wrong.yaml", WRONG.as_bytes());
    let wanted = [
        (1, "`at`: `yesterday` is not an instant"),
        (2, "unknown field `worker_typ`"),
        (3, "`scan_level`: expected a whole number from 0 to 4"),
        (7, "unknown field `given[0].primary_kye`"),
        (9, "unknown field `tasks[0].plugn`"),
        (
            10,
            "`tasks[1].plugin`: these files declare no plugin `scna`; did you mean scan? (named 2 times)",
        ),
        (13, "`refused[1].reason`: expected"),
    ];
    for command in ["check", "test"] {
        let told = findings(&house, command, &["wrong.yaml"]);
        let told: Vec<&String> = told
            .iter()
            .filter(|line| !line.starts_with("16:"))
            .collect();
        assert_eq!(told.len(), wanted.len(), "{command}: {told:#?}");
        for (told, (line, wanted)) in told.iter().zip(wanted) {
            let (place, said) = told.split_once(": ").unwrap_or_default();
            assert!(
                place.starts_with(&format!("{line}:")) && said.starts_with(wanted),
                "{command}: {line}: {wanted}: {told}"
            );
        }
    }
    // The calendar is wrong, so nobody is told that there is none.
    house.write("cut.yaml", b"- {kind: test, name: \"\xff\"}\n");
    for command in ["check", "test"] {
        let told = findings(&house, command, &["cut.yaml", "wrong.yaml"]);
        assert_eq!(told, ["1:23: this is not UTF-8 text"], "{command}");
    }
}

#[test]
fn check_reads_cases_and_takes_it_lightly_where_what_they_name_may_be_in_other_files() {
    let house = House::embedded("");
    house.write("rules.yaml", RULES.as_bytes());
    let cases = case(&format!(
        "{CREATED}\ntasks: [{{plugin: resolv, schedule: on-news}}]"
    ));
    house.write("cases.yaml", cases.as_bytes());
    let path = |name: &str| house.path(name).display().to_string();
    let alone = house.done(&["check", &path("cases.yaml")]);
    assert!(
        alone.contains("warning: `tasks[0].plugin`: these files declare no plugin `resolv`")
            && alone.ends_with("2 findings; read 1 test\n"),
        "{alone}"
    );
    let both = findings(&house, "check", &["cases.yaml", "rules.yaml"]);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].ends_with("did you mean resolve?"), "{both:?}");
    assert!(both[1].ends_with("did you mean on-new?"), "{both:?}");
}

#[test]
fn a_file_that_is_named_twice_is_read_once() {
    let house = House::embedded(SETTINGS);
    let both = format!(
        "{RULES}{}",
        case(&format!("{CREATED}\ntasks: [{{plugin: resolve}}]"))
    );
    let path = house.write("both.yaml", both.as_bytes());
    let link = house.path("link.yaml");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    let folder = path.parent().expect("a folder");
    let dotted = folder.join(".").join("both.yaml");
    let named = [&path, &path, &dotted, &link].map(|path| path.display().to_string());
    let with = |command| [&[command][..], &named.each_ref().map(String::as_str)].concat();
    let checked = house.done(&with("check"));
    assert!(
        checked.starts_with("settings and 1 file: nothing to complain about"),
        "{checked}"
    );
    let tested = house.done(&with("test"));
    assert!(tested.ends_with("1 passed, 0 failed\n"), "{tested}");
    let applied = house.done(&with("apply"));
    assert!(applied.contains("9 created"), "{applied}");
}

#[test]
fn cases_beside_declarations_declare_nothing() {
    let house = House::embedded(SETTINGS);
    let both = format!("{RULES}{}", case(CREATED));
    house.apply("both.yaml", &both);
    let listed = house.json(&["schedule", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(4), "{listed}");
}

#[test]
fn the_cases_that_come_along_pass() {
    let house = House::embedded("");
    let root = env!("CARGO_MANIFEST_DIR");
    let said = house.done(&[
        "test",
        &format!("{root}/config/tour.yaml"),
        &format!("{root}/config/tour.cases.yaml"),
    ]);
    assert!(said.ends_with("3 passed, 0 failed\n"), "{said}");
    let joins = format!("{root}/config/joins.yaml");
    let said = house.done(&["test", &joins]);
    assert!(said.ends_with("4 passed, 0 failed\n"), "{said}");
    let said = house.done(&["check", &joins]);
    assert!(said.contains("nothing to complain about"), "{said}");
}
