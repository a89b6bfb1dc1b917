//! What must come of a load, computed in another way than muster does: one event after the other, in the order of time,
//! in memory. It shares no code with muster.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::load::{Condition, Event, FILE, Load, Plugin, Schedule, TYPES, UNSIGNED, Word};

/// A task as it can be compared: organisation, plugin, key of the input, and whether it was withdrawn.
pub type Key = (String, String, String, bool);

/// An object as it can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub object_type: String,
    pub live: bool,
    pub level: Option<u8>,
    pub attributes: Map<String, Value>,
}

/// What came of a load.
#[derive(Default)]
pub struct Outcome {
    /// How often each task is there.
    pub tasks: BTreeMap<Key, usize>,
    /// By organisation and key.
    pub inventory: BTreeMap<(String, String), Entry>,
}

impl Outcome {
    pub fn made(&self) -> usize {
        self.tasks.values().sum()
    }

    pub fn open(&self) -> usize {
        self.tasks
            .iter()
            .filter(|((.., withdrawn), _)| !withdrawn)
            .map(|(_, count)| count)
            .sum()
    }

    /// Only what is there now, which is what can be compared when events came in another order.
    pub fn live(&self) -> BTreeMap<(String, String), Entry> {
        self.inventory
            .iter()
            .filter(|(_, entry)| entry.live)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }
}

#[derive(Clone, Default)]
struct Object {
    object_type: String,
    live: bool,
    /// It was there, or was said to be gone.
    known: bool,
    attributes: Map<String, Value>,
    level: Option<u8>,
    profile: Option<&'static str>,
    /// Above 0 at some time since it was made.
    lifted: bool,
}

/// What a plugin looks like from here.
struct Candidate<'a> {
    plugin: &'a Plugin,
    types: BTreeSet<String>,
    mimes: BTreeSet<String>,
    facts: Map<String, Value>,
}

/// Lets a load happen.
pub fn outcome(load: &Load, events: &[Event]) -> Outcome {
    let candidates: Vec<Candidate<'_>> = load.plugins.iter().map(candidate).collect();
    let selections: Vec<(&Schedule, Vec<&Candidate<'_>>)> = load
        .schedules
        .iter()
        .map(|schedule| {
            let selected = candidates
                .iter()
                .filter(|candidate| judge(&schedule.plugins, &candidate.facts))
                .collect();
            (schedule, selected)
        })
        .collect();
    let mut objects: BTreeMap<(&str, &str), Object> = BTreeMap::new();
    // Open tasks by organisation and input: the plugins that have one.
    let mut open: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut withdrawn: Vec<(&str, &str, &str)> = Vec::new();
    for event in events {
        let place = (event.organization, event.primary_key.as_str());
        let object = objects.entry(place).or_default();
        let before = object.clone();
        happen(object, event);
        let operations = operations(&before, object);
        object.lifted = object.live && (before.live && before.lifted || object.level > Some(0));
        let gone = operations.contains("deleted");
        // As it was, where it is gone.
        let subject = if gone { &before } else { &*object };
        let waiting = open.entry(place).or_default();
        if gone || (object.live && before.live && height(object.level) < height(before.level)) {
            waiting.retain(|id| {
                let of_plugin = candidates
                    .iter()
                    .find(|candidate| candidate.plugin.id == *id);
                let plugin = of_plugin.expect("a plugin of the load").plugin;
                let stays = !gone && level_permits(plugin, subject);
                if !stays {
                    withdrawn.push((
                        event.organization,
                        plugin.id.as_str(),
                        event.primary_key.as_str(),
                    ));
                }
                stays
            });
        }
        let failed = subject.object_type == FILE
            && texts(&subject.attributes, "mime_types")
                .iter()
                .any(|mime| mime.starts_with("error/"));
        if operations.is_empty() || failed {
            continue;
        }
        let facts = facts(event, subject);
        for (schedule, selected) in &selections {
            let matching: BTreeSet<&str> = operations
                .iter()
                .copied()
                .filter(|operation| schedule.operations.contains(operation))
                .collect();
            let touched = schedule.enabled
                && !matching.is_empty()
                && schedule.run_on.contains(&subject.object_type.as_str())
                && schedule
                    .organization
                    .is_none_or(|own| own == event.organization)
                && schedule
                    .when
                    .as_ref()
                    .is_none_or(|when| judge(when, &facts));
            if !touched {
                continue;
            }
            for candidate in selected {
                if permitted(candidate, event.organization, subject, &matching) {
                    waiting.insert(&candidate.plugin.id);
                }
            }
        }
    }
    let mut outcome = Outcome::default();
    let mut add = |organization: &str, plugin: &str, key: &str, withdrawn: bool| {
        let key = (
            organization.to_owned(),
            plugin.to_owned(),
            key.to_owned(),
            withdrawn,
        );
        *outcome.tasks.entry(key).or_default() += 1;
    };
    for ((organization, key), plugins) in &open {
        for plugin in plugins {
            add(organization, plugin, key, false);
        }
    }
    for (organization, plugin, key) in withdrawn {
        add(organization, plugin, key, true);
    }
    for ((organization, key), object) in objects {
        let entry = Entry {
            object_type: object.object_type,
            live: object.live,
            level: object.level,
            attributes: object.attributes,
        };
        outcome
            .inventory
            .insert((organization.to_owned(), key.to_owned()), entry);
    }
    outcome
}

fn happen(object: &mut Object, event: &Event) {
    if !matches!(
        event.word,
        Word::Profile {
            says_type: false,
            ..
        }
    ) {
        object.object_type = event.object_type.to_owned();
    }
    match &event.word {
        Word::Created { attributes, level } => {
            object.live = true;
            object.attributes.clone_from(attributes);
            if let Some(level) = level {
                object.level = Some(*level);
                object.profile = Some("declared");
            }
        }
        Word::Updated { attributes, level } => {
            // What was never heard of is there now; what was deleted stays so.
            object.live |= !object.known;
            object.attributes.clone_from(attributes);
            if let Some(level) = level {
                object.level = Some(*level);
                object.profile = Some("declared");
            }
        }
        Word::Deleted => {
            object.live = false;
            object.level = None;
            object.profile = None;
        }
        // Kept for an object that is not there yet, too.
        Word::Profile { level, .. } => {
            object.level = *level;
            object.profile = level.map(|_| "inherited");
            return;
        }
        Word::File { mimes, input } => {
            object.live = true;
            object.attributes = Map::from_iter([
                ("mime_types".to_owned(), json!(mimes)),
                ("plugin_id".to_owned(), json!("dns-records")),
            ]);
            if let Some(key) = input {
                object
                    .attributes
                    .insert("input_type".to_owned(), json!("hostname"));
                object.attributes.insert("input_key".to_owned(), json!(key));
            }
        }
    }
    object.known = true;
}

/// What the difference between two states is called.
fn operations(before: &Object, after: &Object) -> BTreeSet<&'static str> {
    let mut operations = BTreeSet::new();
    match (before.live, after.live) {
        (false, true) => {
            operations.insert("created");
        }
        (true, false) => {
            operations.insert("deleted");
        }
        (true, true) => {
            let raised = height(after.level) > height(before.level);
            if raised || before.attributes != after.attributes {
                operations.insert("updated");
            }
            if raised && after.level > Some(0) && !before.lifted {
                operations.insert("created");
            }
        }
        (false, false) => {}
    }
    operations
}

/// No level permits less than level 0.
fn height(level: Option<u8>) -> i8 {
    level.map_or(-1, |level| i8::try_from(level).expect("a level"))
}

fn permitted(
    candidate: &Candidate<'_>,
    organization: &str,
    object: &Object,
    operations: &BTreeSet<&str>,
) -> bool {
    let plugin = candidate.plugin;
    let enabled = plugin
        .organizations
        .get(organization)
        .copied()
        .unwrap_or(plugin.enabled);
    let takes = if object.object_type == FILE {
        let there = texts(&object.attributes, "mime_types");
        if candidate.mimes.is_empty() {
            candidate.types.contains(FILE)
        } else {
            there.iter().any(|mime| candidate.mimes.contains(mime))
        }
    } else {
        candidate.types.contains(&object.object_type)
    };
    let runs = operations.iter().any(|operation| {
        *operation == "deleted"
            || plugin
                .run_on
                .as_ref()
                .is_none_or(|own| own.contains(operation))
    });
    let signed = plugin.worker_type != "probe" || organization != UNSIGNED;
    enabled && takes && runs && signed && level_permits(plugin, object)
}

fn level_permits(plugin: &Plugin, object: &Object) -> bool {
    if object.object_type == FILE {
        return true;
    }
    match (plugin.worker_type, plugin.level, object.level) {
        ("boefje", None, _) => false,
        ("boefje", Some(level), Some(of_object)) => of_object >= level.max(1),
        (_, None, _) => true,
        (_, Some(level), Some(of_object)) => of_object >= level,
        (_, Some(_), None) => false,
    }
}

fn candidate(plugin: &Plugin) -> Candidate<'_> {
    let mut types = BTreeSet::new();
    let mut mimes = BTreeSet::new();
    for entry in &plugin.consumes {
        match entry.strip_prefix("file:") {
            Some(mime) => {
                mimes.insert(mime.to_owned());
                types.insert(FILE.to_owned());
            }
            None => {
                let name = entry.strip_prefix("type:").unwrap_or(entry);
                let ours = if name == "IPAddressV4" {
                    "ip_address"
                } else {
                    name
                };
                types.insert(ours.to_owned());
            }
        }
    }
    for argument in &plugin.arguments {
        for name in TYPES.iter().chain([&FILE]) {
            let named = argument
                .split(['{', '|', '}'])
                .skip(1)
                .any(|part| part == *name);
            if named {
                types.insert((*name).to_owned());
            }
        }
    }
    let facts = Map::from_iter([
        ("plugin_id".to_owned(), json!(plugin.id)),
        ("name".to_owned(), json!(plugin.id)),
        ("worker_type".to_owned(), json!(plugin.worker_type)),
        ("scan_level".to_owned(), json!(plugin.level)),
        ("oci_image".to_owned(), json!(plugin.image)),
        ("version".to_owned(), json!(plugin.version)),
        ("oci_arguments".to_owned(), json!(plugin.arguments)),
        ("input_types".to_owned(), json!(types)),
        ("enabled".to_owned(), json!(plugin.enabled)),
    ]);
    Candidate {
        plugin,
        types,
        mimes,
        facts,
    }
}

fn facts(event: &Event, object: &Object) -> Map<String, Value> {
    let mut facts = object.attributes.clone();
    for (name, value) in [
        ("primary_key", json!(event.primary_key)),
        ("object_type", json!(object.object_type)),
        ("organization", json!(event.organization)),
        ("scan_level", json!(object.level)),
        ("scan_profile_type", json!(object.profile)),
    ] {
        facts.insert(name.to_owned(), value);
    }
    facts
}

fn texts(map: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = map.get(name).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Two-valued: what is not there is None, and every "not" is a complement.
fn judge(condition: &Condition, facts: &Map<String, Value>) -> bool {
    use Condition::*;
    let of = |field: &str| facts.get(field).unwrap_or(&Value::Null);
    let text = |field: &str| of(field).as_str().map(str::to_ascii_lowercase);
    match condition {
        True => true,
        Is(field, value) => of(field) == value,
        IsNot(field, value) => of(field) != value,
        Above(field, value) => of(field)
            .as_f64()
            .is_some_and(|known| known > number(value)),
        AtMost(field, value) => of(field)
            .as_f64()
            .is_some_and(|known| known <= number(value)),
        OneOf(field, values) => values.contains(of(field)),
        NoneOf(field, values) => !values.contains(of(field)),
        Begins(field, start) => {
            text(field).is_some_and(|known| known.starts_with(&start.to_ascii_lowercase()))
        }
        NotBegins(field, start) => !judge(&Begins(field, start.clone()), facts),
        Holds(field, part) => {
            text(field).is_some_and(|known| known.contains(&part.to_ascii_lowercase()))
        }
        NotHolds(field, part) => !judge(&Holds(field, part.clone()), facts),
        Among(value, field) => of(field)
            .as_array()
            .is_some_and(|list| list.contains(value)),
        Not(inner) => !judge(inner, facts),
        All(parts) => parts.iter().all(|part| judge(part, facts)),
        Any(parts) => parts.iter().any(|part| judge(part, facts)),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number of the load")
}
