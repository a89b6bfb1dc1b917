//! Queries about other objects and about the past, on the whole way from the events to the tasks and in `muster query`.

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::process::House;
use support::servers::Postgres;

const TYPES: &str = r#"
[object_types.hostname]
fields = { name = "text" }
[object_types.ip_address]
fields = { hostnames = "many(hostname)", ports = "list({protocol = \"text\", port = \"int\"})" }
"#;

/// One house on each database.
fn houses() -> (Postgres, Vec<House>) {
    let postgres = Postgres::start();
    let houses = vec![
        House::embedded(TYPES),
        House::new(&postgres.url(), "lines:", TYPES),
    ];
    (postgres, houses)
}

/// A schedule on created host names, over the addresses that its query finds.
fn apply(house: &House, query: &str) {
    let declared = json!([
        {"kind": "organization", "id": "acme"},
        {"kind": "organization", "id": "other"},
        {"kind": "plugin", "plugin_id": "databases", "worker_type": "generic", "scan_level": 1, "oci_arguments": ["{ip_address}"]},
        {"name": "open-databases", "run_on": "hostname", "operation": "created", "plugins": "True",
         "input": {"ip_address": query}},
    ]);
    house.apply("declared.json", &declared.to_string());
}

struct Events {
    number: usize,
    lines: Vec<String>,
}

impl Events {
    fn new() -> Events {
        Events {
            number: 0,
            lines: Vec::new(),
        }
    }

    fn say(
        &mut self,
        what: &str,
        organization: &str,
        object_type: &str,
        key: &str,
        attributes: Value,
    ) {
        self.number += 1;
        let event = json!({
            "specversion": "1.0", "id": format!("e{}", self.number), "source": "/test", "type": format!("object.{what}"),
            "time": format!("2026-03-01T00:{:02}:{:02}Z", self.number / 60, self.number % 60),
            "data": {"organization": organization, "object_type": object_type, "primary_key": key, "scan_level": 2,
                     "attributes": attributes},
        });
        self.lines.push(event.to_string());
    }

    fn input(&self) -> Vec<u8> {
        (self.lines.join("\n") + "\n").into_bytes()
    }
}

/// The inputs of the tasks that the events give.
fn inputs(house: &House, events: &Events) -> BTreeSet<String> {
    let tasks = house.lines(events.input());
    let keys: Vec<String> = tasks
        .iter()
        .map(|task| {
            assert_eq!(task["organization"], "acme", "{task}");
            task["inputs"][0]["primary_key"]
                .as_str()
                .expect("a key")
                .to_owned()
        })
        .collect();
    let set: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(set.len(), keys.len(), "no input comes twice: {keys:?}");
    set
}

/// The keys that `muster query --against objects` finds for a trigger.
fn found(house: &House, query: &str, trigger: &Value) -> BTreeSet<String> {
    let file = house.write("trigger.json", trigger.to_string().as_bytes());
    let file = file.display().to_string();
    let answer = house.json(&[
        "query",
        query,
        "--against",
        "objects",
        "--type",
        "ip_address",
        "--organization",
        "acme",
        "--trigger",
        &file,
        "--trigger-type",
        "hostname",
    ]);
    let matches = answer["matches"].as_array().expect("a list");
    assert_eq!(answer["count"], matches.len());
    assert_eq!(answer["too_costly"], 0);
    matches
        .iter()
        .map(|row| row["primary_key"].as_str().expect("a key").to_owned())
        .collect()
}

fn keys(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

#[test]
fn a_new_host_name_finds_the_addresses_that_point_to_it() {
    let (_postgres, houses) = houses();
    for house in &houses {
        let query = "any(hostnames: name = trigger.name)";
        apply(house, query);
        let mut events = Events::new();
        let points = |names: &[&str]| json!({"hostnames": names, "ports": []});
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|1",
            points(&["host|www"]),
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|2",
            points(&["host|mail", "host|www"]),
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|3",
            points(&["host|mail", "host|gone"]),
        );
        events.say("created", "acme", "ip_address", "ip|4", points(&[]));
        events.say(
            "created",
            "other",
            "ip_address",
            "ip|5",
            points(&["host|www"]),
        );
        events.say(
            "created",
            "acme",
            "hostname",
            "host|www",
            json!({"name": "www.example.com"}),
        );
        assert_eq!(inputs(house, &events), keys(&["ip|1", "ip|2"]));
        let trigger = json!({"name": "www.example.com"});
        assert_eq!(found(house, query, &trigger), keys(&["ip|1", "ip|2"]));
        let without = "none(hostnames: name = trigger.name)";
        assert_eq!(found(house, without, &trigger), keys(&["ip|3", "ip|4"]));
    }
}

/// A schedule on addresses, for those of which its `when` is true.
fn apply_when(house: &House, operation: Value, when: &str) {
    let declared = json!([
        {"kind": "organization", "id": "acme"},
        {"kind": "organization", "id": "other"},
        {"kind": "plugin", "plugin_id": "scan", "worker_type": "generic", "scan_level": 1, "oci_arguments": ["{ip_address}"]},
        {"name": "asks", "run_on": "ip_address", "operation": operation, "plugins": "True", "when": when},
    ]);
    house.apply("when.json", &declared.to_string());
}

#[test]
fn when_asks_other_objects_that_are_stored_or_come_in_the_same_batch() {
    let (_postgres, houses) = houses();
    for house in &houses {
        apply_when(
            house,
            json!("created"),
            "any(hostnames: name = 'www.example.com')",
        );
        let mut events = Events::new();
        let points = |names: &[&str]| json!({"hostnames": names, "ports": []});
        let host = |name: &str| json!({"name": name});
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|early",
            points(&["host|www"]),
        );
        events.say(
            "created",
            "acme",
            "hostname",
            "host|www",
            host("www.example.com"),
        );
        events.say(
            "created",
            "acme",
            "hostname",
            "host|mail",
            host("mail.example.com"),
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|1",
            points(&["host|mail", "host|www"]),
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|2",
            points(&["host|mail", "host|gone"]),
        );
        events.say(
            "created",
            "other",
            "ip_address",
            "ip|3",
            points(&["host|www"]),
        );
        // The first came before the host name did, in the same batch.
        assert_eq!(inputs(house, &events), keys(&["ip|1"]));
        events.lines.clear();
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|4",
            points(&["host|www"]),
        );
        events.say(
            "updated",
            "acme",
            "hostname",
            "host|www",
            host("old.example.com"),
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|5",
            points(&["host|www"]),
        );
        assert_eq!(inputs(house, &events), keys(&["ip|4"]));
    }
}

#[test]
fn when_asks_for_what_was_and_for_what_has_just_changed() {
    let (_postgres, houses) = houses();
    for house in &houses {
        let open = json!({"hostnames": [], "ports": [{"protocol": "TCP", "port": 5432}]});
        let shut = json!({"hostnames": [], "ports": []});
        let other = json!({"hostnames": ["host|x"], "ports": []});
        let mut events = Events::new();
        house.apply("before.json", r#"[{"kind": "organization", "id": "acme"}]"#);
        events.say("created", "acme", "ip_address", "ip|before", open.clone());
        assert_eq!(inputs(house, &events), keys(&[]));
        events.lines.clear();
        apply_when(
            house,
            json!("updated"),
            "changed(ports) and ever(any(ports: port = 5432))",
        );
        events.say("updated", "acme", "ip_address", "ip|before", shut.clone());
        events.say("created", "acme", "ip_address", "ip|was", open);
        events.say("updated", "acme", "ip_address", "ip|was", shut.clone());
        events.say("created", "acme", "ip_address", "ip|never", shut);
        events.say("updated", "acme", "ip_address", "ip|never", other);
        assert_eq!(inputs(house, &events), keys(&["ip|before", "ip|was"]));
    }
}

#[test]
fn an_object_set_may_follow_relations_and_then_no_plugin_takes_it() {
    let (_postgres, houses) = houses();
    let set = json!({"kind": "object_set", "name": "web", "object_type": "ip_address",
        "query": "any(hostnames: name startswith 'www.')"});
    for house in &houses {
        let declared = json!([
            {"kind": "organization", "id": "acme"},
            {"kind": "plugin", "plugin_id": "scan", "worker_type": "generic", "scan_level": 1,
             "oci_arguments": ["{ip_address}"]},
            set,
            {"name": "by-set", "run_on": "hostname", "operation": "created", "plugins": "True",
             "input": {"ip_address": {"set": "web"}}},
        ]);
        house.apply("declared.json", &declared.to_string());
        let mut events = Events::new();
        let points = |names: &[&str]| json!({"hostnames": names, "ports": []});
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|1",
            points(&["host|www"]),
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|2",
            points(&["host|mail"]),
        );
        events.say(
            "created",
            "acme",
            "hostname",
            "host|mail",
            json!({"name": "mail.example.com"}),
        );
        events.say(
            "created",
            "acme",
            "hostname",
            "host|www",
            json!({"name": "www.example.com"}),
        );
        assert_eq!(inputs(house, &events), keys(&["ip|1"]));
        assert_eq!(found(house, "in_set('web')", &json!({})), keys(&["ip|1"]));
    }
    let house = House::embedded(TYPES);
    let taken = json!([set, {"kind": "plugin", "plugin_id": "takes", "worker_type": "generic", "consumes": ["{web}"]}]);
    let file = house.write("taken.json", taken.to_string().as_bytes());
    let output = house.run(&["apply", &file.display().to_string()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("the plugin `takes` takes the object set `web`, whose query asks other objects or history"),
        "{said}"
    );
}

const FLAGSHIP: &str = "any(hostnames: name = trigger.name) and ever(any(ports: protocol = \"TCP\" and \
     port in (1433, 1434, 3050, 3306, 5432)))";

/// RFD 0010: a newly created host name, if there was ever an address with an open database port that now points to it.
#[test]
fn a_new_host_name_finds_the_addresses_that_ever_had_an_open_database_port() {
    let (_postgres, houses) = houses();
    for house in &houses {
        // One address had its port open and shut before anybody asked for history: that is not known.
        let mut events = Events::new();
        let open = |port: u16, names: &[&str]| json!({"hostnames": names, "ports": [{"protocol": "TCP", "port": port}]});
        let shut = |names: &[&str]| json!({"hostnames": names, "ports": []});
        house.apply(
            "before.json",
            r#"[{"kind": "organization", "id": "acme"}, {"kind": "organization", "id": "other"}]"#,
        );
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|unknown",
            open(5432, &[]),
        );
        events.say("updated", "acme", "ip_address", "ip|unknown", shut(&[]));
        // And one still has it open when the schedule is declared.
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|before",
            open(3306, &[]),
        );
        assert_eq!(inputs(house, &events), keys(&[]));
        events.lines.clear();
        apply(house, FLAGSHIP);
        let named = ["host|www"];
        events.say("updated", "acme", "ip_address", "ip|unknown", shut(&named));
        events.say("updated", "acme", "ip_address", "ip|before", shut(&named));
        // In one batch: open, then shut.
        events.say("created", "acme", "ip_address", "ip|was", open(5432, &[]));
        events.say("updated", "acme", "ip_address", "ip|was", shut(&named));
        events.say("created", "acme", "ip_address", "ip|is", open(1433, &named));
        events.say("created", "acme", "ip_address", "ip|web", open(443, &named));
        events.say(
            "created",
            "acme",
            "ip_address",
            "ip|away",
            open(5432, &named),
        );
        events.say("updated", "acme", "ip_address", "ip|away", open(5432, &[]));
        // Never both in one version: TCP on another port, and the port by UDP.
        let mixed = json!({"hostnames": named, "ports": [{"protocol": "UDP", "port": 5432}, {"protocol": "TCP", "port": 80}]});
        events.say("created", "acme", "ip_address", "ip|mixed", mixed);
        events.say(
            "created",
            "other",
            "ip_address",
            "ip|other",
            open(5432, &named),
        );
        events.say(
            "created",
            "acme",
            "hostname",
            "host|www",
            json!({"name": "www.example.com"}),
        );
        let expected = keys(&["ip|before", "ip|was", "ip|is"]);
        assert_eq!(inputs(house, &events), expected);
        let trigger = json!({"name": "www.example.com"});
        assert_eq!(found(house, FLAGSHIP, &trigger), expected);
        let changed = "changed(ports) and any(hostnames: name = trigger.name)";
        assert_eq!(
            found(house, changed, &trigger),
            keys(&["ip|before", "ip|was"])
        );
        let always = "always(any(ports: port = 1433)) and hostnames != None";
        assert_eq!(found(house, always, &trigger), keys(&["ip|is"]));
        let since = "ever(any(ports: port = 5432), since: \"2020-01-01\")";
        let found = found(house, since, &trigger);
        assert_eq!(found, keys(&["ip|was", "ip|away", "ip|mixed"]));
    }
}

#[test]
fn a_type_that_is_not_declared_is_refused_and_a_key_that_no_store_resolves_is_mentioned() {
    let house = House::embedded(TYPES);
    let said = |arguments: &[&str]| {
        let output = house.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = said(&["query", "True", "--type", "hostnam"]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("--type: `hostnam` is not a declared object type; did you mean hostname?"),
        "{text}"
    );
    let query = "any(hostnames: name = 'www')";
    for (object, code) in [
        (json!({"hostnames": ["host|www"]}), Some(1)),
        (json!({"hostnames": [{"name": "www"}]}), Some(0)),
    ] {
        let file = house.write("object.json", object.to_string().as_bytes());
        let file = file.display().to_string();
        let (found, text) = said(&["query", query, "--type", "ip_address", "--object", &file]);
        assert_eq!(found, code, "{text}");
        assert!(text.contains("note: no store was read"), "{text}");
    }
}
