//! What people declare: organisations, plugins, object sets, calendars and schedules, as files and commands bring them.
//!
//! A declaration is read by the same code wherever it comes from: a file, a command, the store. What it says is
//! kept as it was written (`definition`), and compiled each time that it is loaded, so an entry that a newer
//! version understands differently is found at load and never guessed at.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::document::{Complaint, Complaints, Document, Key, Node, Place, Table, Value};
use crate::object::Operation;
use crate::plugin::Plugin;
use crate::query::{Query, circle};
use crate::recurrence::Calendar;
use crate::rules::Rules;
use crate::schedule::{ObjectSet, Organization, Schedule};

mod nouns;
mod variables;

pub use nouns::{
    COMPLETE_WHEN, LONGEST as LONGEST_NAME, MANUAL_SUPERSEDES, MISSED, MOST_JOINED, OVERLAP, PER,
};
pub use variables::Variables;

/// The nouns that can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Organization,
    Plugin,
    ObjectSet,
    Calendar,
    Schedule,
    /// Started once, not kept.
    Run,
}

impl Kind {
    pub const ALL: [(&'static str, Kind); 6] = [
        ("organization", Kind::Organization),
        ("plugin", Kind::Plugin),
        ("object_set", Kind::ObjectSet),
        ("calendar", Kind::Calendar),
        ("schedule", Kind::Schedule),
        ("run", Kind::Run),
    ];

    pub fn word(self) -> &'static str {
        match self {
            Kind::Organization => "organization",
            Kind::Plugin => "plugin",
            Kind::ObjectSet => "object_set",
            Kind::Calendar => "calendar",
            Kind::Schedule => "schedule",
            Kind::Run => "run",
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
    pub origin: Origin,
}

/// Where an entry stands; what a command or the store brings stands nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub file: String,
    pub place: Option<Place>,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}:{}", self.file, place.line),
            None => f.write_str(&self.file),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Compiled {
    Organization(Organization),
    Plugin(Box<Plugin>),
    ObjectSet(Box<ObjectSet>),
    Calendar(Box<Calendar>),
    Schedule(Box<Schedule>),
    Run(Box<RunOnce>),
}

/// A run that somebody wants once; its name is the id of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOnce {
    pub name: String,
    pub organization: Option<String>,
    pub schedule: Option<String>,
    pub plugin: Option<String>,
    pub objects: Vec<String>,
    pub parameters: Map<String, Json>,
}

/// A file of entries, opened once for everybody who reads some of them.
pub struct Sheet {
    pub name: String,
    /// With their variables filled in.
    entries: Vec<Node>,
    /// What keeps entries from being there.
    pub complaints: Vec<Complaint>,
}

/// What a file declares.
#[derive(Default)]
pub struct Read {
    pub declared: Vec<Declared>,
    /// Entries that are wrong are left out.
    pub complaints: Vec<Complaint>,
    /// What those are that were left out, as far as they say it.
    pub left_out: Vec<(Kind, String)>,
    /// Some were left out that do not say it.
    pub nameless: bool,
}

impl Sheet {
    pub fn open(name: &str, bytes: &[u8], variables: &Variables) -> Sheet {
        let mut complaints = Complaints::new(name);
        let mut entries = Vec::new();
        match Document::open(name, bytes) {
            Err(complaint) => complaints.push(complaint),
            Ok(document) => entries = filled(&document, variables, &mut complaints),
        }
        Sheet {
            name: name.to_owned(),
            entries,
            complaints: complaints.into_vec(),
        }
    }

    /// Reads all that it declares. Complaints are collected; an entry that is complained about is left out.
    pub fn declared(&self, rules: &Rules) -> Read {
        let mut complaints = Complaints::new(self.name.as_str());
        let mut taken = BTreeSet::new();
        let mut read = Read {
            nameless: self.complaints.iter().any(Complaint::is_error),
            ..Read::default()
        };
        for entry in self.entries.iter().filter(|entry| !is_case(entry)) {
            match (
                read_entry(entry, rules, &mut taken, &mut complaints),
                said(entry),
            ) {
                (Some(declared), _) => read.declared.push(declared),
                (None, Some(said)) => read.left_out.push(said),
                (None, None) => read.nameless = true,
            }
        }
        twice(&read.declared, &mut complaints);
        let sets = read
            .declared
            .iter()
            .filter_map(|entry| match &entry.compiled {
                Compiled::ObjectSet(set) => Some(set.as_ref()),
                _ => None,
            });
        for (_, circle) in circles(sets.clone()) {
            complaints.error(None, "query", in_a_circle(&circle));
        }
        let reaching = reaching(sets.map(|set| (set.name.as_str(), set.query.as_ref())));
        for entry in &read.declared {
            if let Compiled::Plugin(plugin) = &entry.compiled {
                for set in plugin.sets_taken().filter(|set| reaching.contains(*set)) {
                    let message = takes_by_relations(&plugin.plugin_id, set);
                    complaints.error(None, "consumes", message);
                }
            }
        }
        read.complaints = complaints.into_vec();
        read
    }

    /// The entries that are cases for `muster test`.
    pub fn cases(&self) -> impl Iterator<Item = &Node> {
        self.entries.iter().filter(|entry| is_case(entry))
    }
}

/// Reads all entries of a file.
pub fn read_file(
    name: &str,
    bytes: &[u8],
    variables: &Variables,
    rules: &Rules,
) -> (Vec<Declared>, Vec<Complaint>) {
    let sheet = Sheet::open(name, bytes, variables);
    let read = sheet.declared(rules);
    let mut complaints = sheet.complaints;
    complaints.extend(read.complaints);
    (read.declared, complaints)
}

/// The entries of a document, with their variables filled in.
fn filled(document: &Document, variables: &Variables, complaints: &mut Complaints) -> Vec<Node> {
    let mut filled = Vec::new();
    for root in &document.roots {
        match &root.value {
            Value::Null => {}
            Value::List(items) => {
                for item in items {
                    filled.extend(variables.fill(item, complaints));
                }
            }
            _ => filled.extend(variables.fill(root, complaints)),
        }
    }
    filled
}

/// Kind and name of an entry as it says them, also where the rest of it is wrong.
fn said(entry: &Node) -> Option<(Kind, String)> {
    let text = |name: &str| match entry.get(name).map(|node| &node.value) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let kind = match entry.get("kind").filter(|kind| !kind.is_null()) {
        None => Kind::Schedule,
        Some(_) => Kind::parse(text("kind")?)?,
    };
    let name = match kind {
        Kind::Organization => text("id"),
        Kind::Plugin => text("plugin_id"),
        Kind::ObjectSet | Kind::Calendar | Kind::Schedule | Kind::Run => text("name"),
    };
    Some((kind, name?.to_owned()))
}

/// The kind of an entry that is a case.
const CASE: &str = "test";

/// A case for `muster test` may stand beside what it tries; it declares nothing.
fn is_case(entry: &Node) -> bool {
    matches!(entry.get("kind").map(|kind| &kind.value), Some(Value::Text(kind)) if kind == CASE)
}

/// Object sets that name themselves, directly or through others: of which organisation, none where all of them are for
/// everybody, and the names on the way. The sets of two organisations never meet, whatever they are called.
pub fn circles<'a>(
    sets: impl Iterator<Item = &'a ObjectSet> + Clone,
) -> Vec<(Option<&'a str>, Vec<String>)> {
    let owners: BTreeSet<Option<&str>> = sets
        .clone()
        .map(|set| set.organization.as_deref())
        .collect();
    let mut found: Vec<(Option<&str>, Vec<String>)> = Vec::new();
    // Those for everybody come first, so that nobody is blamed for a circle that he is not part of.
    for owner in owners {
        let mut mentions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for set in sets.clone() {
            let of = set.organization.as_deref();
            let told = of.is_none()
                && found
                    .iter()
                    .any(|(owner, circle)| owner.is_none() && circle.contains(&set.name));
            if (of.is_none() || of == owner) && !told {
                let named = set.query.iter().flat_map(|query| query.sets().clone());
                mentions.entry(set.name.clone()).or_default().extend(named);
            }
        }
        while let Some(circle) = circle(&mentions) {
            for name in &circle {
                mentions.remove(name);
            }
            found.push((owner, circle));
        }
    }
    found
}

pub fn in_a_circle(circle: &[String]) -> String {
    format!("object sets name themselves: {}", circle.join(" -> "))
}

/// The sets whose queries ask other objects or history, themselves or through the sets that they name.
pub fn reaching<'a>(
    sets: impl Iterator<Item = (&'a str, Option<&'a Query>)> + Clone,
) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    loop {
        let more = sets.clone().filter_map(|(name, query)| {
            let query = query?;
            let reaches = query.needs_relations()
                || query.needs_history()
                || query.sets().iter().any(|named| found.contains(named));
            (reaches && !found.contains(name)).then(|| name.to_owned())
        });
        let more: Vec<String> = more.collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A plugin is permitted by looking at one object alone, so a set that it takes may not ask for more.
pub fn takes_by_relations(plugin: &str, set: &str) -> String {
    format!(
        "the plugin `{plugin}` takes the object set `{set}`, whose query asks other objects or history; what a plugin \
         takes is seen from the object alone, so select with that set in the `input` of a schedule"
    )
}

fn twice(declared: &[Declared], complaints: &mut Complaints) {
    let mut seen = BTreeMap::new();
    for entry in declared {
        let key = (entry.kind, entry.organization.as_str(), entry.name.as_str());
        let place = entry.origin.place;
        let Some(first) = seen.insert(key, place) else {
            continue;
        };
        let before = match first {
            Some(first) if Some(first) != place => {
                format!("; it is on line {} already", first.line)
            }
            _ => String::new(),
        };
        let (kind, name) = (entry.kind.word(), &entry.name);
        complaints.error(
            place,
            "",
            format!("the {kind} `{name}` is declared twice{before}"),
        );
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

/// What is wrong with the one entry of a document as a command takes it: of a kind that it need not say, perhaps for an
/// organisation, and with what goes to the command itself.
pub fn read_alone(
    document: &Document,
    kind: Kind,
    organization: Option<&str>,
    rules: &Rules,
) -> Vec<Complaint> {
    let mut complaints = Complaints::new(document.name.as_str());
    let roots = document.roots.iter().flat_map(|root| match &root.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(root),
    });
    for root in roots {
        let mut entry = root.clone();
        let Value::Table(fields) = &mut entry.value else {
            continue;
        };
        let said = |fields: &[(Key, Node)], name: &str| {
            fields
                .iter()
                .any(|(key, node)| key.name == name && !node.is_null())
        };
        // What comes along with a plugin of its own is read with it.
        if kind == Kind::Schedule && (said(fields, "plugin") || said(fields, "schedule_id")) {
            continue;
        }
        fields.retain(|(key, _)| !matches!(key.name.as_str(), "expected_revision" | "if_exists"));
        let mut fill = |name: &str, value: &str| {
            if !said(fields, name) {
                fields.retain(|(key, _)| key.name != name);
                fields.push((Key::new(name), Node::new(Value::Text(value.to_owned()))));
            }
        };
        fill("kind", kind.word());
        if let (Some(organization), Kind::Schedule | Kind::ObjectSet) = (organization, kind) {
            fill("organization", organization);
        }
        read_entry(&entry, rules, &mut BTreeSet::new(), &mut complaints);
    }
    complaints.into_vec()
}

fn read_entry(
    node: &Node,
    rules: &Rules,
    taken: &mut BTreeSet<String>,
    complaints: &mut Complaints,
) -> Option<Declared> {
    let before = complaints.iter().filter(|c| c.is_error()).count();
    let mut table = Table::open(node, "", complaints)?;
    let kind = match table.node("kind").is_some_and(|kind| !kind.is_null()) {
        false => Kind::Schedule,
        true => {
            // A case is known, and read by who tries it.
            let mut words: Vec<(&str, Option<Kind>)> = Vec::new();
            words.extend(Kind::ALL.map(|(word, kind)| (word, Some(kind))));
            words.push((CASE, None));
            table.one_of("kind", &words)??
        }
    };
    let read = match kind {
        Kind::Organization => nouns::organization(&mut table)
            .map(|read| (read.id.clone(), String::new(), Compiled::Organization(read))),
        Kind::Plugin => nouns::plugin(&mut table, rules).map(|read| {
            (
                read.plugin_id.clone(),
                String::new(),
                Compiled::Plugin(Box::new(read)),
            )
        }),
        Kind::ObjectSet => nouns::object_set(&mut table, rules).map(|read| {
            let organization = read.organization.clone().unwrap_or_default();
            (
                read.name.clone(),
                organization,
                Compiled::ObjectSet(Box::new(read)),
            )
        }),
        Kind::Calendar => nouns::calendar(&mut table).map(|read| {
            (
                read.name.clone(),
                String::new(),
                Compiled::Calendar(Box::new(read)),
            )
        }),
        Kind::Schedule => nouns::schedule(&mut table, rules).map(|mut read| {
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
        }),
        Kind::Run => nouns::run_once(&mut table).map(|read| {
            (
                read.name.clone(),
                read.organization.clone().unwrap_or_default(),
                Compiled::Run(Box::new(read)),
            )
        }),
    };
    table.finish();
    if complaints.iter().filter(|c| c.is_error()).count() > before {
        return None;
    }
    let (name, organization, compiled) = read?;
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
        origin: Origin {
            file: complaints.file().to_owned(),
            place: node.place,
        },
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
