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
