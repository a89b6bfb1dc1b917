//! What people declare: organisations, plugins, object sets and schedules, as files and commands bring them.
//!
//! A declaration is read by the same code wherever it comes from: a file, a command, the store. What it says is
//! kept as it was written (`definition`), and compiled each time that it is loaded, so an entry that a newer
//! version understands differently is found at load and never guessed at.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::document::{Complaint, Complaints, Document, Node, Table, Value};
use crate::object::Operation;
use crate::plugin::Plugin;
use crate::rules::Rules;
use crate::schedule::{ObjectSet, Organization, Schedule};

mod nouns;
mod variables;

pub use variables::Variables;

/// The nouns that can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Organization,
    Plugin,
    ObjectSet,
    Schedule,
}

impl Kind {
    pub const ALL: [(&'static str, Kind); 4] = [
        ("organization", Kind::Organization),
        ("plugin", Kind::Plugin),
        ("object_set", Kind::ObjectSet),
        ("schedule", Kind::Schedule),
    ];

    pub fn word(self) -> &'static str {
        match self {
            Kind::Organization => "organization",
            Kind::Plugin => "plugin",
            Kind::ObjectSet => "object_set",
            Kind::Schedule => "schedule",
        }
    }

    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, kind)| *kind)
    }
}

/// One entry, read and compiled.
#[derive(Clone, Debug)]
pub struct Declared {
    pub kind: Kind,
    /// Unique among its kind (and organisation, where it belongs to one).
    pub name: String,
    /// Empty where it belongs to all.
    pub organization: String,
    /// As it was written, nulls left out, the name filled in.
    pub definition: Map<String, Json>,
    pub compiled: Compiled,
}

#[derive(Clone, Debug)]
pub enum Compiled {
    Organization(Organization),
    Plugin(Box<Plugin>),
    ObjectSet(Box<ObjectSet>),
    Schedule(Box<Schedule>),
}

/// Reads all entries of a file. Complaints are collected; an entry that is complained about is left out.
pub fn read_file(
    name: &str,
    bytes: &[u8],
    variables: &Variables,
    rules: &Rules,
) -> (Vec<Declared>, Vec<Complaint>) {
    let mut complaints = Complaints::new(name);
    let mut declared = Vec::new();
    match Document::open(name, bytes) {
        Err(complaint) => complaints.push(complaint),
        Ok(document) => {
            let mut entries = Vec::new();
            for root in &document.roots {
                match &root.value {
                    Value::Null => {}
                    Value::List(items) => entries.extend(items.iter()),
                    _ => entries.push(root),
                }
            }
            let mut taken = BTreeSet::new();
            for entry in entries {
                for filled in variables.fill(entry, &mut complaints) {
                    declared.extend(read_entry(&filled, rules, &mut taken, &mut complaints));
                }
            }
        }
    }
    twice(&declared, &mut complaints);
    (declared, complaints.into_vec())
}

fn twice(declared: &[Declared], complaints: &mut Complaints) {
    let mut seen = BTreeSet::new();
    for entry in declared {
        if !seen.insert((entry.kind, entry.organization.as_str(), entry.name.as_str())) {
            complaints.error(
                None,
                "",
                format!(
                    "the {} `{}` is declared twice",
                    entry.kind.word(),
                    entry.name
                ),
            );
        }
    }
}

/// Reads one entry that the store or a command holds as JSON.
pub fn read_stored(
    kind: Kind,
    definition: &Map<String, Json>,
    rules: &Rules,
) -> Result<Declared, Vec<Complaint>> {
    let mut complaints = Complaints::new("");
    let mut definition = definition.clone();
    definition.insert("kind".to_owned(), Json::String(kind.word().to_owned()));
    let node = Node::from_json(&Json::Object(definition));
    let read = read_entry(&node, rules, &mut BTreeSet::new(), &mut complaints);
    match read {
        Some(declared) if !complaints.has_errors() => Ok(declared),
        _ => Err(complaints.into_vec()),
    }
}

fn read_entry(
    node: &Node,
    rules: &Rules,
    taken: &mut BTreeSet<String>,
    complaints: &mut Complaints,
) -> Option<Declared> {
    let before = complaints.iter().filter(|c| c.is_error()).count();
    let mut table = Table::open(node, "", complaints)?;
    let kind = match table.node("kind").is_some() {
        false => Kind::Schedule,
        true => match table.text("kind").as_deref() {
            Some("calendar" | "run") => {
                table.complain("kind", "calendars and runs cannot be declared yet; an entry is an organization, a plugin, an object_set or a schedule");
                return None;
            }
            Some(_) => table.one_of("kind", &Kind::ALL)?,
            None => return None,
        },
    };
    let (name, organization, compiled) = match kind {
        Kind::Organization => {
            let read = nouns::organization(&mut table)?;
            (read.id.clone(), String::new(), Compiled::Organization(read))
        }
        Kind::Plugin => {
            let read = nouns::plugin(&mut table, rules)?;
            (
                read.plugin_id.clone(),
                String::new(),
                Compiled::Plugin(Box::new(read)),
            )
        }
        Kind::ObjectSet => {
            let read = nouns::object_set(&mut table, rules)?;
            let organization = read.organization.clone().unwrap_or_default();
            (
                read.name.clone(),
                organization,
                Compiled::ObjectSet(Box::new(read)),
            )
        }
        Kind::Schedule => {
            let mut read = nouns::schedule(&mut table, rules)?;
            if read.name.is_empty() {
                read.name = free_name(&nouns::name_from_content(&mut table), taken);
            }
            taken.insert(read.name.clone());
            let organization = read.organization.clone().unwrap_or_default();
            (
                read.name.clone(),
                organization,
                Compiled::Schedule(Box::new(read)),
            )
        }
    };
    table.finish();
    if complaints.iter().filter(|c| c.is_error()).count() > before {
        return None;
    }
    let mut definition = match node.to_json() {
        Json::Object(map) => map,
        _ => Map::new(),
    };
    definition.retain(|_, value| !value.is_null());
    definition.remove("kind");
    if kind == Kind::Schedule {
        definition.insert("name".to_owned(), Json::String(name.clone()));
    }
    Some(Declared {
        kind,
        name,
        organization,
        definition,
        compiled,
    })
}

fn free_name(wanted: &str, taken: &BTreeSet<String>) -> String {
    if !taken.contains(wanted) {
        return wanted.to_owned();
    }
    (2..)
        .map(|number: u32| format!("{wanted}-{number}"))
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}

/// Operations as a schedule or a plugin writes them.
fn operations(table: &mut Table<'_, '_>, name: &str) -> Option<Vec<Operation>> {
    table.one_or_many(name, |field| {
        field.parsed(|word| {
            Operation::parse(word).ok_or_else(|| {
                let known: Vec<&str> = Operation::ALL.iter().map(|(word, _)| *word).collect();
                format!(
                    "`{word}` is not an operation; write one of {}",
                    known.join(", ")
                )
            })
        })
    })
}
