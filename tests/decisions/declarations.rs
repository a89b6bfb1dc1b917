//! How declarations are read: what is wrong is named with file, line and the nearest right word; names are made from
//! content; variables are filled.

use muster::declaration::{Declared, Variables, read_file};
use serde_json::json;

use super::{SETTINGS, rules_of};

/// Types that are declared, so that a wrong one can be told.
fn settings() -> String {
    format!(
        "{SETTINGS}\n[object_types]\nhostname = {{ fields = {{ name = \"text\", root = \"bool?\" }} }}\nip_address = {{}}\n\
         [workers.runner]\nformat = \"openkat\"\n"
    )
}

fn read_with(text: &str, variables: &[&str]) -> (Vec<Declared>, Vec<String>) {
    let pairs: Vec<String> = variables.iter().map(|pair| (*pair).to_owned()).collect();
    let variables = Variables::parse(&pairs).expect("variables");
    let rules = rules_of(&settings());
    let (declared, complaints) = read_file("plan.yaml", text.as_bytes(), &variables, &rules);
    (
        declared,
        complaints.iter().map(ToString::to_string).collect(),
    )
}

fn read(text: &str) -> (Vec<Declared>, Vec<String>) {
    read_with(text, &[])
}

fn names(declared: &[Declared]) -> Vec<&str> {
    declared.iter().map(|entry| entry.name.as_str()).collect()
}

/// The one complaint about a text.
fn complaint(text: &str) -> String {
    let (_, mut complaints) = read(text);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    complaints.remove(0)
}

#[test]
fn an_unknown_field_is_refused_with_its_place_and_the_nearest_right_name() {
    let text = "- kind: plugin\n  plugin_id: a\n  worker_type: boefje\n  scan_levle: 2\n";
    let said = complaint(text);
    assert!(
        said.starts_with("plan.yaml:4:3: unknown field `scan_levle`"),
        "{said}"
    );
    assert!(said.contains("did you mean `scan_level`?"), "{said}");
}

#[test]
fn each_wrong_value_is_refused_with_its_line_and_what_would_be_right() {
    let schedule = |line: &str| format!("- plugins: \"True\"\n  recurrences: daily\n  {line}\n");
    for (text, place, words) in [
        (
            "- kind: plugin\n  plugin_id: a\n".to_owned(),
            "plan.yaml:1:3:",
            "`worker_type` is missing",
        ),
        (
            "- kind: plugin\n  plugin_id: a\n  worker_type: b\n  scan_level: 5\n".to_owned(),
            "plan.yaml:4:15:",
            "4",
        ),
        (
            "- kind: plugin\n  plugin_id: a\n  worker_type: b\n  consumes: [text/plain]\n"
                .to_owned(),
            "plan.yaml:4:",
            "file:text/plain",
        ),
        ("- kind: planet\n".to_owned(), "plan.yaml:1:9:", "plugin"),
        (
            schedule("timezone: Europe/Amsterdm"),
            "plan.yaml:3:13:",
            "IANA",
        ),
        (
            schedule("overlap: sometimes"),
            "plan.yaml:3:12:",
            "buffer_one",
        ),
        (schedule("grace: 24"), "plan.yaml:3:10:", "90s"),
        (
            schedule("input: {printer: null}"),
            "plan.yaml:3:",
            "hostname",
        ),
        (
            schedule("target: www"),
            "plan.yaml:3:",
            "set `organization` too",
        ),
        (schedule("when: name = \"a\""), "plan.yaml:3:", "run_on"),
        (
            "- plugins: \"True\"\n  run_on: hostname\n".to_owned(),
            "plan.yaml:",
            "created, updated or deleted",
        ),
        (
            "- plugins: \"True\"\n".to_owned(),
            "plan.yaml:",
            "nothing starts this schedule",
        ),
    ] {
        let said = complaint(&text);
        assert!(said.starts_with(place), "expected {place} of: {said}");
        assert!(said.contains(words), "expected `{words}` in: {said}");
    }
}

#[test]
fn a_join_that_cannot_be_is_refused_with_its_line_and_what_would_be_right() {
    let schedule =
        |lines: &str| format!("- plugins: \"True\"\n  {}\n", lines.replace('\n', "\n  "));
    let many: Vec<String> = (0..17).map(|number| format!("p{number}")).collect();
    let many = format!(
        "run_on: file\noperation: created\njoin: [{}]",
        many.join(", ")
    );
    for (text, place, words) in [
        (
            "run_on: hostname\noperation: created\njoin: [a, b]",
            "plan.yaml:4:9:",
            "`run_on: file`",
        ),
        (
            "run_on: [file, hostname]\noperation: created\njoin: [a]",
            "plan.yaml:4:",
            "nothing else there",
        ),
        (
            "recurrences: daily\njoin: [a]",
            "plan.yaml:3:",
            "`run_on: file`",
        ),
        (
            "run_on: file\noperation: created\njoin: [a, b, a]",
            "plan.yaml:4:16:",
            "`a` is named twice",
        ),
        (
            "run_on: file\noperation: created\njoin: [a, \" \"]",
            "plan.yaml:4:13:",
            "the id of a plugin",
        ),
        (
            "run_on: file\noperation: created\njoin: [a, 3]",
            "plan.yaml:4:13:",
            "a text",
        ),
        (&many, "plan.yaml:4:", "16 plugins are the most"),
        (
            "run_on: file\noperation: [created, deleted]\njoin: [a]",
            "plan.yaml:3:",
            "completes no join",
        ),
        (
            "run_on: file\noperation: created\njoin: [a]\nrecurrences: daily",
            "plan.yaml:5:",
            "leave out `recurrences`",
        ),
        (
            "run_on: file\noperation: created\njoin: [a]\ninput: {hostname: null}",
            "plan.yaml:5:",
            "leave out `input`",
        ),
        (
            "run_on: file\noperation: created\njoin: [a]\norganization: acme\ntarget: h1",
            "plan.yaml:6:",
            "leave out `target`",
        ),
    ] {
        let (_, complaints) = read(&schedule(text));
        let said = complaints
            .iter()
            .find(|said| said.starts_with(place) && said.contains(words));
        assert!(
            said.is_some(),
            "expected {place} … {words} in: {complaints:#?}"
        );
    }
    for right in [
        "join: a",
        "join: [a, b]\ninput: {}",
        "join: null",
        "join: []",
    ] {
        let text = schedule(&format!(
            "run_on: file\noperation: [created, updated]\n{right}"
        ));
        let (declared, complaints) = read(&text);
        assert!(complaints.is_empty(), "{right}: {complaints:?}");
        assert_eq!(declared.len(), 1, "{right}");
    }
}

#[test]
fn a_wrong_recurrence_is_complained_about_once() {
    let said = complaint("- plugins: \"True\"\n  recurrences: \"0 0 30 2 *\"\n");
    assert!(said.contains("never comes"), "{said}");
}

#[test]
fn a_wrong_query_is_shown_with_the_known_fields() {
    let said = complaint("- recurrences: daily\n  plugins: plugn_id = \"a\"\n");
    for words in [
        "plan.yaml:2:12:",
        "unknown field `plugn_id`",
        "did you mean `plugin_id`?",
        "oci_image",
    ] {
        assert!(said.contains(words), "expected `{words}` in: {said}");
    }
    let when =
        "- run_on: hostname\n  operation: created\n  plugins: \"True\"\n  when: nmae = \"a\"\n";
    let said = complaint(when);
    assert!(
        said.contains("did you mean `name`?") && said.contains("root"),
        "{said}"
    );
    let input = "- recurrences: daily\n  plugins: \"True\"\n  input: {hostname: scan_levle > 0}\n";
    let said = complaint(input);
    assert!(said.contains("did you mean `scan_level`?"), "{said}");
}

#[test]
fn operation_without_run_on_is_accepted_with_a_warning() {
    let (declared, complaints) =
        read("- recurrences: daily\n  plugins: \"True\"\n  operation: created\n");
    assert_eq!(declared.len(), 1);
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0].contains("warning: `operation` has no effect without `run_on`"),
        "{}",
        complaints[0]
    );
}

#[test]
fn a_batch_size_is_taken_and_where_tasks_have_one_input_it_is_said_to_have_no_effect() {
    let text = |worker_type: &str| {
        format!(
            "- {{kind: plugin, plugin_id: a, worker_type: {worker_type}, consumes: [hostname], batch_size: 10}}\n"
        )
    };
    let (declared, complaints) = read(&text("other"));
    assert_eq!((declared.len(), complaints), (1, Vec::new()));
    let (declared, complaints) = read(&text("runner"));
    assert_eq!((declared.len(), complaints.len()), (1, 1));
    assert!(
        complaints[0].contains("`batch_size`: it has no effect: workers.runner has format openkat"),
        "{}",
        complaints[0]
    );
}

#[test]
fn a_wrong_entry_leaves_the_others_alone() {
    let text = "- {kind: organization, id: one}\n- {kind: organization, idd: two}\n- {kind: organization, id: three}\n";
    let (declared, complaints) = read(text);
    assert_eq!(names(&declared), ["one", "three"]);
    // What is misspelt is not missing too.
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(
        complaints[0].contains("did you mean `id`?"),
        "{complaints:?}"
    );
}

#[test]
fn the_same_name_twice_is_refused() {
    let (_, complaints) =
        read("- {kind: organization, id: one}\n- {kind: organization, id: one}\n");
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0].starts_with(
            "plan.yaml:2:3: the organization `one` is declared twice; it is on line 1 already"
        ),
        "{}",
        complaints[0]
    );
}

#[test]
fn what_cannot_be_read_at_all_is_told_with_its_line() {
    for text in [
        "- kind: plugin\n  plugin_id: [a\n",
        "- kind: plugin\n\tplugin_id: a\n",
        "{\"kind\": \"plugin\",\n \"plugin_id\": \"a\"",
        "- &a [*a]\n",
    ] {
        let said = read(text).1;
        assert_eq!(said.len(), 1, "{text:?}: {said:?}");
        assert!(said[0].starts_with("plan.yaml:"), "{said:?}");
    }
    let rules = rules_of(&settings());
    let (declared, complaints) = read_file(
        "plan.yaml",
        b"- id: \xff\xfe",
        &Variables::default(),
        &rules,
    );
    assert!(declared.is_empty() && complaints.len() == 1);
}

#[test]
fn several_documents_a_list_and_a_single_entry_are_all_read() {
    let (declared, complaints) = read(
        "kind: organization\nid: one\n---\n- {kind: organization, id: two}\n- {kind: organization, id: three}\n",
    );
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(names(&declared), ["one", "two", "three"]);
    let (declared, complaints) = read("");
    assert!(declared.is_empty() && complaints.is_empty());
}

#[test]
fn a_schedule_without_a_name_gets_one_from_what_it_says_the_same_each_time() {
    let text = r#"
- {recurrences: daily, plugins: "True", input: {hostname: scan_level > 0, ip_address: scan_level > 0}}
- {run_on: hostname, operation: created, plugins: "True", input: {}}
- {recurrences: daily, plugins: "True", input: {hostname: null, ip_address: null}}
- {recurrences: "0 5 * * 1", plugins: "True"}
- {run_on: [hostname, ip_address], operation: [created, updated], plugins: "True"}
- {recurrences: daily, plugins: "True", input: {hostname: null, ip_address: null}}
"#;
    let (declared, complaints) = read(text);
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(
        names(&declared),
        [
            "daily-hostname-ip_address",
            "hostname-created",
            "daily-hostname-ip_address-2",
            "0-5-----1",
            "hostname-ip_address-created-updated",
            "daily-hostname-ip_address-3",
        ]
    );
    assert_eq!(names(&read(text).0), names(&declared));
}

#[test]
fn variables_are_filled_in_every_string_before_anything_is_read() {
    let text = r#"
- {name: "${who}-nightly", recurrences: "${when}", timezone: "${zone}", plugins: 'name = "$${who}" or name = "${who}$"'}
"#;
    let (declared, complaints) = read_with(
        text,
        &[
            "who=acme",
            "when=daily",
            "zone=Europe/Amsterdam",
            "unused=1=2",
        ],
    );
    assert_eq!(complaints, Vec::<String>::new());
    let definition = &declared[0].definition;
    assert_eq!(definition["name"], "acme-nightly");
    assert_eq!(definition["timezone"], "Europe/Amsterdam");
    assert_eq!(
        definition["plugins"],
        "name = \"${who}\" or name = \"acme$\""
    );
}

#[test]
fn a_variable_without_a_value_is_refused_with_the_known_ones() {
    let text = "- {kind: organization, id: \"${who}\"}\n";
    let (declared, complaints) = read_with(text, &["whom=acme"]);
    assert!(declared.is_empty());
    assert_eq!(complaints.len(), 1);
    for words in ["plan.yaml:1:", "`who`", "--var who=", "whom"] {
        assert!(
            complaints[0].contains(words),
            "expected `{words}` in {}",
            complaints[0]
        );
    }
    let (_, complaints) = read("- {kind: organization, id: \"${who\"}\n");
    assert!(complaints[0].contains("not closed"), "{}", complaints[0]);
    assert!(Variables::parse(&["=a".to_owned()]).is_err());
    assert!(Variables::parse(&["a".to_owned()]).is_err());
}

#[test]
fn for_each_makes_one_entry_for_each_item_of_a_list_or_of_a_variable() {
    let text = r#"
- {for_each: [hostname, ip_address], name: "new-${each}", run_on: "${each}", operation: created, plugins: '"${each}" in input_types'}
- {for_each: "${organizations}", kind: organization, id: "${each}"}
"#;
    let (declared, complaints) = read_with(text, &["organizations=one, two,"]);
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(
        names(&declared),
        ["new-hostname", "new-ip_address", "one", "two"]
    );
    assert_eq!(declared[1].definition["run_on"], json!("ip_address"));
    assert!(!declared[0].definition.contains_key("for_each"));
    let (_, complaints) = read("- {for_each: 7, kind: organization, id: a}\n");
    assert!(complaints[0].contains("for_each"), "{}", complaints[0]);
}

#[test]
fn a_definition_that_was_read_reads_again_as_itself() {
    let text = r#"
- {kind: plugin, plugin_id: p, worker_type: boefje, scan_level: 2, consumes: [Hostname, "file:text/plain", "{shop}"], grace: 90m, recurrences: ["0 1 * * *", 2d], retry: {max: 5}, settings: {a: {b: [1, 2.5, null]}}}
- {name: s, recurrences: [daily, {period: 1h, anchor: epoch}, {at: "2026-11-21T09:30:00Z"}], plugins: "True", parameters: {x: 1}, missed: all}
"#;
    let (declared, complaints) = read(text);
    assert_eq!(complaints, Vec::<String>::new());
    for entry in declared {
        let mut value = entry.definition.clone();
        value.insert("kind".to_owned(), json!(entry.kind.word()));
        let text = serde_json::Value::Object(value).to_string();
        let (again, complaints) = read(&text);
        assert_eq!(complaints, Vec::<String>::new());
        assert_eq!(again[0].definition, entry.definition);
    }
}
