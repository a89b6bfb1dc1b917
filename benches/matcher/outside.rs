//! The crate a-tree, over the same rules.

use a_tree::{ATree, AttributeDefinition, Event};
use serde_json::{Map, Value};

pub fn tree(rules: impl Iterator<Item = (usize, String)>) -> ATree<usize> {
    let mut tree = ATree::new(&[
        AttributeDefinition::string("type"),
        AttributeDefinition::string("operation"),
        AttributeDefinition::string("organization"),
        AttributeDefinition::string("object_id"),
        AttributeDefinition::string("source"),
        AttributeDefinition::integer("scan_level"),
        AttributeDefinition::string("hostname"),
        AttributeDefinition::integer("port"),
        AttributeDefinition::integer("severity"),
        AttributeDefinition::boolean("active"),
        AttributeDefinition::string("geo_country"),
        AttributeDefinition::integer("geo_asn"),
        AttributeDefinition::string_list("tags"),
        AttributeDefinition::string_list("oci_arguments"),
    ])
    .expect("attributes");
    for (number, text) in rules {
        tree.insert(&number, &text)
            .unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
    tree
}

/// An event as a-tree takes it, from the tree that `serde_json` read.
pub fn event(tree: &ATree<usize>, map: &Map<String, Value>) -> Event {
    let mut event = tree.make_event();
    let geo = map.get("geo").and_then(Value::as_object);
    for (ours, theirs) in [
        ("type", "type"),
        ("operation", "operation"),
        ("organization", "organization"),
        ("object_id", "object_id"),
        ("source", "source"),
        ("scan_level", "scan_level"),
        ("hostname", "hostname"),
        ("port", "port"),
        ("severity", "severity"),
        ("active", "active"),
        ("country", "geo_country"),
        ("asn", "geo_asn"),
        ("tags", "tags"),
        ("oci_arguments", "oci_arguments"),
    ] {
        let value = map.get(ours).or_else(|| geo.and_then(|geo| geo.get(ours)));
        let done = match value {
            Some(Value::String(text)) => event.with_string(theirs, text),
            Some(Value::Number(number)) => {
                event.with_integer(theirs, number.as_i64().unwrap_or_default())
            }
            Some(Value::Bool(truth)) => event.with_boolean(theirs, *truth),
            Some(Value::Array(items)) => {
                let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                event.with_string_list(theirs, &texts)
            }
            _ => event.with_undefined(theirs),
        };
        done.expect("an attribute of the event");
    }
    event.build().expect("an event")
}
