//! `muster import`: inventory in bulk.

mod support;

use std::fmt::Write as _;

use serde_json::{Value, json};
use support::process::House;
use support::servers::Postgres;

const RULES: &str = "\
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: resolve, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {name: on-new, run_on: hostname, operation: [created, updated], plugins: plugin_id = 'resolve'}
";

fn line(number: usize, level: u8) -> String {
    format!(
        "{{\"organization\":\"acme\",\"object_type\":\"hostname\",\"primary_key\":\"h{number:05}\",\
         \"attributes\":{{\"name\":\"h{number}.example.com\"}},\"scan_level\":{level}}}\n"
    )
}

/// What an import answers, and how it ends.
fn import(house: &House, lines: &str) -> (Option<i32>, Value, String) {
    let path = house.write("inventory.jsonl", lines.as_bytes());
    let path = path.to_str().expect("a path");
    let output = house.run(&["import", "objects", path, "--output", "json"]);
    let said = String::from_utf8_lossy(&output.stdout);
    (
        output.status.code(),
        serde_json::from_str(&said).unwrap_or(Value::Null),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn objects(house: &House) -> Vec<Value> {
    let listed = house.json(&["object", "list", "--limit", "10000"]);
    listed.as_array().cloned().unwrap_or_default()
}

fn a_whole_inventory_is_known_at_once_and_triggers_nothing(house: &House) {
    house.apply("rules.yaml", RULES);
    let mut lines = String::new();
    for number in 0..5_500 {
        let _ = write!(lines, "{}", line(number, 2));
    }
    let (code, told, err) = import(house, &lines);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(told["changed"], 5_500, "{told}");
    assert_eq!(objects(house).len(), 5_500);
    assert_eq!(house.json(&["task", "list"]), json!([]));

    // The same again changes nothing; what differs is different from then on.
    let (_, again, _) = import(house, &lines);
    assert_eq!(
        (&again["changed"], &again["unchanged"]),
        (&json!(0), &json!(5_500)),
        "{again}"
    );
    let (_, other, _) = import(house, &line(17, 4));
    assert_eq!(other["changed"], 1, "{other}");
    let seventeenth = objects(house)
        .into_iter()
        .find(|object| object["primary_key"] == "h00017")
        .expect("it is there");
    assert_eq!(seventeenth["scan_level"], 4, "{seventeenth}");
}

#[test]
fn an_inventory_is_imported_into_sqlite() {
    a_whole_inventory_is_known_at_once_and_triggers_nothing(&House::embedded(""));
}

#[test]
fn an_inventory_is_imported_into_postgres() {
    let postgres = Postgres::start();
    a_whole_inventory_is_known_at_once_and_triggers_nothing(&House::new(
        &postgres.url(),
        "lines:",
        "",
    ));
}

#[test]
fn what_is_known_to_be_newer_stays() {
    let house = House::embedded("");
    import(&house, &line(1, 3));
    let old = line(1, 1).replace(
        "\"scan_level\"",
        "\"time\":\"2020-01-01T00:00:00Z\",\"scan_level\"",
    );
    let (code, told, err) = import(&house, &old);
    assert_eq!(
        (code, &told["changed"]),
        (Some(0), &json!(0)),
        "{told}{err}"
    );
    assert_eq!(objects(&house)[0]["scan_level"], 3);
}

#[test]
fn wrong_lines_are_named_and_left_out_and_the_others_are_taken() {
    let house = House::embedded(
        "open_organizations = false\n[object_types.hostname]\nfields = { name = \"text\" }\n",
    );
    house.apply("rules.yaml", RULES);
    let lines = [
        line(1, 2),
        "{\n".to_owned(),
        "\n".to_owned(),
        line(2, 9),
        line(3, 2).replace("\"primary_key\":\"h00003\",", ""),
        line(4, 2).replace("\"h4.example.com\"", "4"),
        line(5, 2).replace("acme", "nobody"),
        line(6, 2).replace("\"hostname\"", "\"hostnam\""),
        line(7, 2),
    ]
    .concat();
    let (code, told, err) = import(&house, &lines);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(
        (&told["changed"], &told["wrong"]),
        (&json!(2), &json!(6)),
        "{told}{err}"
    );
    for (place, word) in [
        (2, "JSON"),
        (4, "scan_level"),
        (5, "primary_key"),
        (6, "name"),
        (7, "nobody"),
        (8, "hostname"),
    ] {
        let said = err
            .lines()
            .map(|said| serde_json::from_str::<Value>(said).expect("scripts read JSON"))
            .map(|said| said["error"].clone())
            .find(|error| error["line"] == place)
            .unwrap_or_else(|| panic!("line {place} is complained about: {err}"));
        assert!(said["message"].to_string().contains(word), "{said}");
    }
    assert_eq!(objects(&house).len(), 2);
}

#[test]
fn a_file_that_is_not_there_is_a_matter_of_usage() {
    let house = House::embedded("");
    let output = house.run(&["import", "objects", "nowhere.jsonl"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.jsonl"));
}

/// What an import says of each line that it leaves out.
fn complaints(house: &House, noun: &str, bytes: &[u8]) -> (Option<i32>, Vec<String>) {
    let path = house.write("lines.jsonl", bytes);
    let output = house.run(&["import", noun, path.to_str().expect("a path")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.code(),
        said.lines().map(str::to_owned).collect(),
    )
}

#[test]
fn what_is_wrong_with_a_line_is_said_in_the_words_of_the_line() {
    let house = House::embedded("");
    let good = line(1, 2);
    let lines = [
        // A mark that editors put before a text is no part of it.
        format!("\u{feff}{good}"),
        line(2, 2).replace("\"scan_level\"", "\"time\":\"yesterday\",\"scan_level\""),
        line(3, 2).replace("\"scan_level\"", "\"time\":5,\"scan_level\""),
        line(4, 2).replace("primary_key", "primary_kye"),
        line(5, 2).replace("scan_level", "scan_lvel"),
        "[1]\n".to_owned(),
        line(7, 2).replace("\"acme\"", "5"),
        line(8, 2).replace('}', ""),
        line(9, 2).replace('\n', " and\n"),
        line(10, 2).replace("\"h10.example.com\"", "1e999"),
        line(1, 2).replace("\"hostname\"", "\"url\""),
    ];
    let (code, said) = complaints(&house, "objects", lines.concat().as_bytes());
    assert_eq!(code, Some(1), "{said:?}");
    let wanted = [
        "line 2: time: \"yesterday\" is not an instant; write it as \"2026-11-21T09:30:00Z\"",
        "line 3: time: 5 is not an instant; write it as \"2026-11-21T09:30:00Z\"",
        "line 4: unknown field `primary_kye`; did you mean `primary_key`?",
        "line 5: unknown field `scan_lvel`; did you mean `scan_level`?",
        "line 6: a line is an object: {\"organization\": …",
        "line 7: organization is the number 5; it must be a string",
        "line 8: it is not JSON: it breaks off at column ",
        "line 9: it is not JSON: trailing characters at column ",
        "line 10: it is not JSON: number out of range at column ",
        "line 11: object_type: the key belongs to a live hostname and cannot become a url",
    ];
    for wanted in wanted {
        let told = said.iter().any(|line| line.starts_with(wanted));
        assert!(told, "{wanted}: {said:#?}");
    }
    for jargon in ["ce-time", "data.", "content type", "sequence", " at line "] {
        assert!(!said.join("").contains(jargon), "{jargon}: {said:#?}");
    }
    assert_eq!(objects(&house).len(), 1);
}

#[test]
fn an_object_on_two_lines_counts_as_one() {
    let house = House::embedded("");
    import(&house, &line(1, 2));
    let mut lines = String::new();
    // Its second line comes in another transaction than its first.
    for number in [1, 2, 2, 3].into_iter().chain(10..3_000).chain([1, 3]) {
        let level = if lines.len() > 100_000 { 3 } else { 2 };
        let _ = write!(lines, "{}", line(number, level));
    }
    let (code, told, err) = import(&house, &lines);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        (&told["changed"], &told["unchanged"], &told["repeated"]),
        (&json!(2_993), &json!(0), &json!(3)),
        "{told}"
    );
    let (_, again, _) = import(&house, &format!("{}{}", line(1, 3), line(1, 3)));
    assert_eq!(
        (&again["changed"], &again["unchanged"], &again["repeated"]),
        (&json!(0), &json!(1), &json!(1)),
        "{again}"
    );
}

#[test]
fn what_is_wrong_with_many_lines_is_told_once_with_the_first_of_them() {
    let house = House::embedded("");
    let plugin = |number: usize, word: &str| {
        format!("{{\"plugin_id\":\"p-{number}\",\"worker_type\":\"boefje\",\"{word}\":1}}\n")
    };
    let mut lines = String::new();
    for number in 0..3_000 {
        let word = ["scan_level", "scan_lvel", "foo", "bar"][number % 4];
        lines.push_str(&plugin(number, word));
    }
    let (code, said) = complaints(&house, "plugins", lines.as_bytes());
    assert_eq!(code, Some(1), "{said:?}");
    assert_eq!(said.len(), 5, "{said:#?}");
    assert_eq!(
        said[0],
        "line 2: unknown field `scan_lvel` (and 749 more lines)"
    );
    assert_eq!(said[1], "  help: did you mean `scan_level`?");
    assert_eq!(said[2], "line 3: unknown field `foo` (and 749 more lines)");
    assert!(
        said[3].starts_with("  help: known here: artefact, "),
        "{said:#?}"
    );
    assert_eq!(said[4], "line 4: unknown field `bar` (and 749 more lines)");
    assert_eq!(plugins(&house).len(), 750);
}

fn plugins(house: &House) -> Vec<Value> {
    let listed = house.json(&["plugin", "list", "--limit", "10000"]);
    listed.as_array().cloned().unwrap_or_default()
}

fn plugins_are_declared_by_the_line(house: &House) {
    house.apply("rules.yaml", RULES);
    let mut lines = String::new();
    for number in 0..4_500 {
        let _ = writeln!(
            lines,
            "{{\"plugin_id\":\"p-{number:04}\",\"worker_type\":\"boefje\",\"consumes\":[\"hostname\"],\"scan_level\":1}}"
        );
    }
    let path = house.write("plugins.jsonl", lines.as_bytes());
    let path = path.to_str().expect("a path");
    let told = house.json(&["import", "plugins", path]);
    assert_eq!(
        (&told["created"], &told["wrong"]),
        (&json!(4_500), &json!(0)),
        "{told}"
    );
    assert_eq!(plugins(house).len(), 4_501);
    let again = house.json(&["import", "plugins", path]);
    assert_eq!(
        (&again["created"], &again["changed"], &again["unchanged"]),
        (&json!(0), &json!(0), &json!(4_500)),
        "{again}"
    );

    // One that is wrong does not keep the others out, and is told as apply tells it.
    let lines = [
        "{\"kind\":\"plugin\",\"plugin_id\":\"p-0001\",\"worker_type\":\"boefje\",\"scan_level\":2}",
        "{\"plugin_id\":\"new\",\"worker_typ\":\"boefje\"}",
        "{\"plugin_id\":\"level\",\"worker_type\":\"boefje\",\"scan_level\":9}",
        "",
        "no JSON",
        "{\"kind\":\"schedule\",\"name\":\"x\"}",
        "{\"plugin_id\":\"p-0001\",\"worker_type\":\"boefje\"}",
        "{\"plugin_id\":\"last\",\"worker_type\":\"boefje\"}",
    ];
    let (code, said) = complaints(house, "plugins", lines.join("\n").as_bytes());
    assert_eq!(code, Some(1), "{said:?}");
    for (place, words) in [
        (2, "did you mean `worker_type`"),
        (3, "scan_level"),
        (5, "not JSON"),
        (6, "is no plugin"),
        (7, "on line 1 already"),
    ] {
        let of = format!("line {place}: ");
        let told = said.join("\n");
        let at = told.find(&of).unwrap_or_else(|| panic!("{of}{told}"));
        assert!(told[at..].contains(words), "{words}: {told}");
    }
    let known = plugins(house);
    assert_eq!(known.len(), 4_502);
    let first = known.iter().find(|known| known["plugin_id"] == "p-0001");
    assert_eq!(first.expect("it is there")["scan_level"], 2);
}

#[test]
fn plugins_are_declared_by_the_line_in_sqlite() {
    plugins_are_declared_by_the_line(&House::embedded(""));
}

#[test]
fn plugins_are_declared_by_the_line_in_postgres() {
    let postgres = Postgres::with(&["fsync=off"]);
    plugins_are_declared_by_the_line(&House::new(&postgres.url(), "lines:", ""));
}
