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
            .find(|said| said.starts_with(&format!("line {place}:")))
            .unwrap_or_else(|| panic!("line {place} is complained about: {err}"));
        assert!(said.contains(word), "{said}");
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
