//! A load that is the same every time: organisations, plugins, schedules and events from one seed.
//!
//! It knows nothing of muster but the shapes of the files and events that muster reads.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

/// Chance that is the same every time: splitmix64.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn seeded(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).expect("a length")).expect("a length")
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// A condition of a query, as a tree; the query text is made from it, and the model judges the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    True,
    Is(&'static str, Value),
    IsNot(&'static str, Value),
    Above(&'static str, Value),
    AtMost(&'static str, Value),
    OneOf(&'static str, Vec<Value>),
    NoneOf(&'static str, Vec<Value>),
    Begins(&'static str, String),
    NotBegins(&'static str, String),
    Holds(&'static str, String),
    NotHolds(&'static str, String),
    /// A value is among those of a list.
    Among(Value, &'static str),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Condition {
    pub fn text(&self) -> String {
        use Condition::*;
        let list = |values: &[Value]| values.iter().map(literal).collect::<Vec<_>>().join(", ");
        let joined = |parts: &[Condition], word: &str, loose: fn(&Condition) -> bool| {
            let texts: Vec<String> = parts
                .iter()
                .map(|part| {
                    if loose(part) {
                        format!("({})", part.text())
                    } else {
                        part.text()
                    }
                })
                .collect();
            texts.join(word)
        };
        match self {
            True => "True".to_owned(),
            Is(field, value) => format!("{field} = {}", literal(value)),
            IsNot(field, value) => format!("{field} != {}", literal(value)),
            Above(field, value) => format!("{field} > {}", literal(value)),
            AtMost(field, value) => format!("{field} <= {}", literal(value)),
            OneOf(field, values) => format!("{field} in ({})", list(values)),
            NoneOf(field, values) => format!("{field} not in ({})", list(values)),
            Begins(field, text) => format!("{field} startswith {}", quoted(text)),
            NotBegins(field, text) => format!("{field} not startswith {}", quoted(text)),
            Holds(field, text) => format!("{field} ~ {}", quoted(text)),
            NotHolds(field, text) => format!("{field} !~ {}", quoted(text)),
            Among(value, field) => format!("{} in {field}", literal(value)),
            // `not` binds tighter than `and`, and that tighter than `or`: no parentheses where that says it.
            Not(inner) if matches!(**inner, All(_) | Any(_)) => format!("not ({})", inner.text()),
            Not(inner) => format!("not {}", inner.text()),
            All(parts) => joined(parts, " and ", |part| matches!(part, Any(_))),
            Any(parts) => joined(parts, " or ", |_| false),
        }
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    assert!(!text.contains(['\'', '\\']), "the load needs no escapes");
    format!("'{text}'")
}

pub const ORGANIZATIONS: [&str; 3] = ["acme", "borealis", "cumulus"];
/// The one that has signed no indemnification.
pub const UNSIGNED: &str = "borealis";
pub const TYPES: [&str; 5] = ["hostname", "ip_address", "url", "ip_port", "certificate"];
pub const FILE: &str = "file";
pub const WORKER_TYPES: [&str; 3] = ["boefje", "normalizer", "probe"];
const MIMES: [&str; 6] = [
    "application/json",
    "text/plain",
    "text/html",
    "image/png",
    "boefje/dns-records",
    "application/pdf",
];

/// What the service is told beside the addresses, so that every rule of the model has a worker type. No credit limit:
/// nobody takes the messages while they are counted.
pub const SETTINGS: &str = r#"
[workers.boefje]
level_gate = "required"
minimum_scan_level = 1
credit = 0
[workers.normalizer]
credit = 0
[workers.probe]
requires_indemnification = true
credit = 0
"#;

#[derive(Clone, Debug)]
pub struct Plugin {
    pub id: String,
    pub worker_type: &'static str,
    pub level: Option<u8>,
    pub consumes: Vec<String>,
    pub arguments: Vec<String>,
    pub run_on: Option<Vec<&'static str>>,
    pub image: Option<String>,
    pub version: Option<String>,
    pub enabled: bool,
    /// What single organisations say instead.
    pub organizations: BTreeMap<&'static str, bool>,
}

impl Plugin {
    fn entry(&self) -> Value {
        let organizations: Map<String, Value> = self
            .organizations
            .iter()
            .map(|(id, enabled)| ((*id).to_owned(), json!({ "enabled": enabled })))
            .collect();
        json!({
            "kind": "plugin", "plugin_id": self.id, "name": self.id, "worker_type": self.worker_type,
            "scan_level": self.level, "consumes": self.consumes, "oci_arguments": self.arguments,
            "run_on": self.run_on, "oci_image": self.image, "version": self.version, "enabled": self.enabled,
            "organizations": organizations,
        })
    }
}

#[derive(Clone, Debug)]
pub struct Schedule {
    pub name: String,
    pub organization: Option<&'static str>,
    pub enabled: bool,
    pub run_on: Vec<&'static str>,
    pub operations: Vec<&'static str>,
    pub when: Option<Condition>,
    pub plugins: Condition,
}

impl Schedule {
    fn entry(&self, at: usize) -> Value {
        let one_or_list = |list: &[&str]| match list {
            [one] => json!(one),
            more => json!(more),
        };
        let mut entry = json!({
            "name": self.name, "organization": self.organization, "enabled": self.enabled, "recurrences": null,
            "run_on": one_or_list(&self.run_on), "operation": one_or_list(&self.operations),
            "plugins": self.plugins.text(),
            "input": if at.is_multiple_of(2) { json!({}) } else { Value::Null },
        });
        if let Some(when) = &self.when {
            entry["when"] = json!(when.text());
        }
        entry
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    Created {
        attributes: Map<String, Value>,
        level: Option<u8>,
    },
    Updated {
        attributes: Map<String, Value>,
        level: Option<u8>,
    },
    Deleted,
    /// A scan profile; without a level it is deleted.
    Profile {
        level: Option<u8>,
        says_type: bool,
    },
    File {
        mimes: Vec<&'static str>,
        input: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the order of time.
    pub at: usize,
    pub organization: &'static str,
    pub object_type: &'static str,
    pub primary_key: String,
    pub word: Word,
}

impl Event {
    pub fn id(&self) -> String {
        format!("e-{:05}", self.at)
    }

    pub fn event_type(&self) -> &'static str {
        match self.word {
            Word::Created { .. } => "object.created",
            Word::Updated { .. } => "object.updated",
            Word::Deleted => "object.deleted",
            Word::Profile { level: None, .. } => "scan_profile.deleted",
            Word::Profile { .. } if self.at.is_multiple_of(2) => "scan_profile.created",
            Word::Profile { .. } => "scan_profile.updated",
            Word::File { .. } => "raw_data.created",
        }
    }

    /// Strictly rising: 10 ms an event.
    pub fn time(&self) -> String {
        let ms = self.at * 10;
        let (s, m, h) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000);
        assert!(h < 24, "the load fits into a day");
        format!("2026-03-01T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1000)
    }

    pub fn data(&self) -> Value {
        let mut data = json!({ "organization": self.organization });
        match &self.word {
            Word::Created { attributes, level } | Word::Updated { attributes, level } => {
                data["attributes"] = Value::Object(attributes.clone());
                if let Some(level) = level {
                    data["scan_level"] = json!(level);
                    data["scan_profile_type"] = json!("declared");
                }
            }
            Word::Profile { level, .. } => {
                if let Some(level) = level {
                    data["scan_level"] = json!(level);
                    data["scan_profile_type"] = json!("inherited");
                }
            }
            Word::Deleted => {}
            Word::File { mimes, input } => {
                data["id"] = json!(self.primary_key);
                data["mime_types"] = json!(mimes);
                data["plugin_id"] = json!("dns-records");
                if let Some(key) = input {
                    data["input"] = json!({ "object_type": "hostname", "primary_key": key });
                }
                return data;
            }
        }
        data["primary_key"] = json!(self.primary_key);
        if !matches!(
            self.word,
            Word::Profile {
                says_type: false,
                ..
            }
        ) {
            data["object_type"] = json!(self.object_type);
        }
        data
    }

    /// In structured mode.
    pub fn body(&self) -> Vec<u8> {
        let event = json!({
            "specversion": "1.0", "id": self.id(), "source": "/load", "type": self.event_type(), "time": self.time(),
            "data": self.data(),
        });
        event.to_string().into_bytes()
    }
}

pub struct Load {
    pub plugins: Vec<Plugin>,
    pub schedules: Vec<Schedule>,
    pub events: Vec<Event>,
}

impl Load {
    /// The arguments of a task: every placeholder that names the type of the input is its natural name.
    pub fn arguments(&self, plugin: &str, object_type: &str, key: &str) -> Vec<String> {
        let name = match object_type {
            FILE => key.to_owned(),
            _ => natural_name(object_type, number_of(key)),
        };
        let plugin = self
            .plugins
            .iter()
            .find(|known| known.id == plugin)
            .expect("a plugin of the load");
        let filled = |argument: &String| match (argument.find('{'), argument.find('}')) {
            (Some(from), Some(to))
                if argument[from + 1..to]
                    .split('|')
                    .any(|named| named == object_type) =>
            {
                format!("{}{name}{}", &argument[..from], &argument[to + 1..])
            }
            _ => argument.clone(),
        };
        plugin.arguments.iter().map(filled).collect()
    }

    /// The load of the tests: 3 organisations, 20 plugins, 50 schedules and this many events.
    pub fn of(events: usize) -> Load {
        let mut chance = Chance::seeded(0x6d75_7374_6572);
        let plugins = plugins(&mut chance);
        let schedules = schedules(&mut chance, &plugins);
        let events = stories(&mut chance, events);
        Load {
            plugins,
            schedules,
            events,
        }
    }

    /// One event for each object: whichever order they come in, the same tasks follow.
    pub fn without_history(events: usize) -> Load {
        let mut load = Load::of(events);
        let mut seen = std::collections::HashSet::new();
        for event in &mut load.events {
            if !matches!(event.word, Word::File { .. }) {
                let level = u8::try_from(event.at % 6).ok().filter(|level| *level <= 4);
                let number = number_of(&event.primary_key);
                let mut chance = Chance::seeded(u64::try_from(event.at).expect("a place"));
                let attributes = attributes(&mut chance, event.object_type, number);
                event.word = Word::Created { attributes, level };
            }
            if !seen.insert((event.organization, event.primary_key.clone())) {
                event.primary_key = format!("{}~{}", event.primary_key, event.at);
            }
        }
        load
    }

    /// The file for `muster apply`.
    pub fn declarations(&self) -> String {
        let organizations = ORGANIZATIONS
            .iter()
            .map(|id| json!({ "kind": "organization", "id": id, "indemnified": *id != UNSIGNED }));
        let plugins = self.plugins.iter().map(Plugin::entry);
        let schedules = self
            .schedules
            .iter()
            .enumerate()
            .map(|(at, schedule)| schedule.entry(at));
        let entries: Vec<Value> = organizations.chain(plugins).chain(schedules).collect();
        serde_json::to_string_pretty(&entries).expect("JSON")
    }

    /// The events with those of each object in any order; each keeps its time.
    pub fn shuffled_within_objects(&self, seed: u64) -> Vec<Event> {
        let mut places: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (place, event) in self.events.iter().enumerate() {
            places
                .entry((event.organization, &event.primary_key))
                .or_default()
                .push(place);
        }
        let mut chance = Chance::seeded(seed);
        let mut shuffled = self.events.clone();
        for of_one in places.values() {
            let mut order = of_one.clone();
            chance.shuffle(&mut order);
            for (place, from) in of_one.iter().zip(order) {
                shuffled[*place] = self.events[from].clone();
            }
        }
        shuffled
    }
}

fn plugins(chance: &mut Chance) -> Vec<Plugin> {
    let strings = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    // What it consumes, its arguments, its level, when it runs.
    type Row<'a> = (
        &'a str,
        &'static str,
        &'a [&'a str],
        &'a [&'a str],
        Option<u8>,
        Option<&'a [&'static str]>,
    );
    let rows: [Row<'_>; 20] = [
        (
            "dns-records",
            "boefje",
            &[],
            &["dig", "{hostname}"],
            Some(1),
            None,
        ),
        (
            "dns-zone",
            "boefje",
            &["hostname"],
            &["axfr"],
            Some(1),
            Some(&["created"]),
        ),
        (
            "nmap",
            "boefje",
            &[],
            &["-sS", "{ip_address}"],
            Some(2),
            None,
        ),
        (
            "nmap-udp",
            "boefje",
            &["type:ip_address"],
            &["-sU", "{ip_address}"],
            Some(3),
            Some(&["updated"]),
        ),
        (
            "ssl-version",
            "boefje",
            &[],
            &["--target={hostname|ip_address}"],
            Some(1),
            None,
        ),
        (
            "nikto",
            "boefje",
            &["url"],
            &["nikto", "{url}"],
            Some(3),
            None,
        ),
        (
            "brute",
            "boefje",
            &["ip_port"],
            &[],
            Some(4),
            Some(&["created", "updated"]),
        ),
        ("shodan", "boefje", &["IPAddressV4"], &[], Some(0), None),
        (
            "leakix",
            "boefje",
            &["hostname", "ip_address", "url"],
            &[],
            Some(1),
            Some(&["created"]),
        ),
        // Without a level it is refused where its worker type asks for one.
        ("no-level", "boefje", &["hostname", "url"], &[], None, None),
        (
            "weigh",
            "probe",
            &["hostname", "certificate"],
            &[],
            None,
            None,
        ),
        (
            "expiry",
            "probe",
            &["certificate"],
            &["{certificate}", "x{ip_port}x"],
            Some(2),
            Some(&["updated"]),
        ),
        (
            "level-zero",
            "probe",
            &["certificate", "ip_port"],
            &[],
            Some(0),
            None,
        ),
        // Takes nothing: an input is what it does not take.
        ("bgp-download", "probe", &[], &["fetch"], None, None),
        (
            "json",
            "normalizer",
            &["file:application/json"],
            &[],
            None,
            None,
        ),
        (
            "html",
            "normalizer",
            &["file:text/html", "file:text/plain"],
            &["{file}"],
            None,
            Some(&["created"]),
        ),
        (
            "any-file",
            "normalizer",
            &[],
            &["read", "{file}"],
            None,
            None,
        ),
        (
            "pixels",
            "normalizer",
            &["file:image/png"],
            &[],
            Some(4),
            Some(&["created", "updated"]),
        ),
        // Wants only what never happens to a file.
        (
            "only-updates",
            "normalizer",
            &["file:application/json"],
            &[],
            None,
            Some(&["updated"]),
        ),
        (
            "errors",
            "normalizer",
            &["file:error/boefje", "file:boefje/dns-records"],
            &[],
            None,
            None,
        ),
    ];
    rows.iter()
        .enumerate()
        .map(
            |(at, (id, worker_type, consumes, arguments, level, run_on))| Plugin {
                id: (*id).to_owned(),
                worker_type,
                level: *level,
                consumes: strings(consumes),
                arguments: strings(arguments),
                run_on: run_on.map(<[_]>::to_vec),
                image: (at % 3 != 2).then(|| {
                    format!(
                        "registry.example/{}:{}",
                        ["generic", "nmap", "Special"][at % 3],
                        at
                    )
                }),
                version: chance.percent(50).then(|| format!("{}", at % 4)),
                // Two are off but where somebody says otherwise; some are off for one organisation.
                enabled: at != 7 && at != 12,
                organizations: match at {
                    7 | 12 => BTreeMap::from([("acme", true)]),
                    _ if at % 4 == 1 => BTreeMap::from([(*chance.one(&ORGANIZATIONS), false)]),
                    _ => BTreeMap::new(),
                },
            },
        )
        .collect()
}

fn schedules(chance: &mut Chance, plugins: &[Plugin]) -> Vec<Schedule> {
    const SUBSETS: [&[&str]; 6] = [
        &["created"],
        &["updated"],
        &["created", "updated"],
        &["created"],
        &["deleted"],
        &["created", "updated", "deleted"],
    ];
    (0..50)
        .map(|at| {
            let of_files = at % 5 == 4;
            let run_on: Vec<&str> = if of_files {
                vec![FILE]
            } else {
                let mut types = TYPES.to_vec();
                chance.shuffle(&mut types);
                types.truncate(1 + at % 3);
                types
            };
            let when = chance.percent(75).then(|| match of_files {
                true => of_file(chance, 1),
                false => of_object(chance, 2),
            });
            Schedule {
                name: format!("s{at:02}"),
                organization: (at % 7 == 3).then(|| *chance.one(&ORGANIZATIONS)),
                enabled: at % 10 != 7,
                run_on,
                operations: SUBSETS[chance.below(SUBSETS.len())].to_vec(),
                when,
                plugins: of_plugin(chance, plugins, 1),
            }
        })
        .collect()
}

/// Combines what `leaf` gives, so deep at most.
fn combined(
    chance: &mut Chance,
    depth: usize,
    leaf: &mut dyn FnMut(&mut Chance) -> Condition,
) -> Condition {
    let choice = if depth == 0 { 0 } else { chance.below(6) };
    match choice {
        0 | 1 => leaf(chance),
        2 => Condition::Not(Box::new(combined(chance, depth - 1, leaf))),
        3 => Condition::All(vec![combined(chance, depth - 1, leaf), leaf(chance)]),
        4 => Condition::Any(vec![combined(chance, depth - 1, leaf), leaf(chance)]),
        _ => Condition::Any(vec![
            leaf(chance),
            Condition::All(vec![leaf(chance), combined(chance, depth - 1, leaf)]),
        ]),
    }
}

fn of_object(chance: &mut Chance, depth: usize) -> Condition {
    use Condition::*;
    combined(chance, depth, &mut |chance| match chance.below(17) {
        0 => Is("root", json!(chance.percent(50))),
        1 => IsNot("root", json!(true)),
        2 => Above("score", json!(chance.below(100))),
        3 => AtMost("score", json!(chance.below(100))),
        4 => AtMost("rating", json!(0.25 * chance.below(8) as f64)),
        5 => OneOf("network", vec![json!("internet"), json!("dmz")]),
        6 => NoneOf("network", vec![json!("dmz"), Value::Null]),
        7 => Begins("name", "WWW".to_owned()),
        8 => NotBegins("name", "mx".to_owned()),
        9 => Holds(
            "name",
            ["example", "Internal", "7"][chance.below(3)].to_owned(),
        ),
        10 => NotHolds("name", "3".to_owned()),
        11 => Among(json!(443), "ports"),
        12 => Among(json!("critical"), "tags"),
        13 => Is("owner", Value::Null),
        14 => Above("scan_level", json!(chance.below(4))),
        15 => IsNot("scan_level", Value::Null),
        _ => OneOf(
            "organization",
            vec![json!("acme"), json!(*chance.one(&ORGANIZATIONS))],
        ),
    })
}

fn of_file(chance: &mut Chance, depth: usize) -> Condition {
    use Condition::*;
    combined(chance, depth, &mut |chance| match chance.below(5) {
        0 => Among(json!(*chance.one(&MIMES)), "mime_types"),
        1 => Is("input_key", Value::Null),
        2 => Begins("plugin_id", "DNS".to_owned()),
        3 => Holds("primary_key", "1".to_owned()),
        _ => IsNot("organization", json!(*chance.one(&ORGANIZATIONS))),
    })
}

fn of_plugin(chance: &mut Chance, plugins: &[Plugin], depth: usize) -> Condition {
    use Condition::*;
    combined(chance, depth, &mut |chance| match chance.below(14) {
        0 => Is("worker_type", json!(*chance.one(&WORKER_TYPES))),
        1 => IsNot("worker_type", json!("normalizer")),
        2 => AtMost("scan_level", json!(1 + chance.below(3))),
        3 => Above("scan_level", json!(chance.below(3))),
        4 => Among(json!("{hostname}"), "oci_arguments"),
        5 => Among(json!(*chance.one(&TYPES)), "input_types"),
        6 => Among(json!(FILE), "input_types"),
        7 => Begins("oci_image", "registry.EXAMPLE/nmap".to_owned()),
        8 => Is("oci_image", Value::Null),
        9 => Holds("name", "S".to_owned()),
        10 => Is("enabled", json!(true)),
        11 => OneOf(
            "plugin_id",
            (0..4).map(|_| json!(chance.one(plugins).id)).collect(),
        ),
        12 => OneOf("version", vec![json!("1"), Value::Null]),
        _ => True,
    })
}

/// The number in a key: `hostname|internet|17`, or `hostname|internet|17~4`.
fn number_of(key: &str) -> usize {
    let last = key
        .rsplit('|')
        .next()
        .and_then(|last| last.split('~').next());
    last.and_then(|number| number.parse().ok())
        .expect("a key of the load")
}

fn natural_name(object_type: &str, number: usize) -> String {
    let kind = ["www", "mx", "Db", "internal"][number % 4];
    format!("{kind}{number}.example.{object_type}")
}

fn attributes(chance: &mut Chance, object_type: &str, number: usize) -> Map<String, Value> {
    let mut attributes = Map::new();
    let mut set = |name: &str, value: Value| {
        attributes.insert(name.to_owned(), value);
    };
    // The natural name never changes, so the arguments of a task are known whenever it is offered.
    set("name", json!(natural_name(object_type, number)));
    if chance.percent(70) {
        set("root", json!(chance.percent(40)));
    }
    if chance.percent(80) {
        set("score", json!(chance.below(100)));
    }
    if chance.percent(50) {
        set("rating", json!(0.25 * chance.below(8) as f64));
    }
    set("network", json!(chance.one(&["internet", "dmz", "lan"])));
    if chance.percent(60) {
        let ports: Vec<u16> = [22, 80, 443, 8080]
            .into_iter()
            .filter(|_| chance.percent(40))
            .collect();
        set("ports", json!(ports));
    }
    if chance.percent(30) {
        set("tags", json!([chance.one(&["critical", "old"]), "seen"]));
    }
    match chance.below(3) {
        0 => set("owner", Value::Null),
        1 => set("owner", json!("ops")),
        _ => {}
    }
    attributes
}

/// What happens to some objects, in the order of time: most of it sensible, some of it not.
fn stories(chance: &mut Chance, events: usize) -> Vec<Event> {
    struct Known {
        live: bool,
        attributes: Map<String, Value>,
    }
    let mut known: BTreeMap<(usize, usize), Known> = BTreeMap::new();
    let mut files: Vec<Event> = Vec::new();
    let keys = (events / 8).max(10);
    let mut made = Vec::with_capacity(events);
    while made.len() < events {
        let at = made.len();
        let organization = chance.below(ORGANIZATIONS.len());
        if chance.percent(15) {
            let again = chance.percent(5).then(|| files.last().cloned()).flatten();
            let file = again.map(|file| Event { at, ..file }).unwrap_or_else(|| {
                let mut mimes: Vec<&'static str> =
                    MIMES.into_iter().filter(|_| chance.percent(35)).collect();
                if chance.percent(10) {
                    mimes.push("error/boefje");
                }
                let mut id = String::new();
                write!(id, "raw-{at:05}-{:08x}", chance.next() >> 32).expect("written");
                Event {
                    at,
                    organization: ORGANIZATIONS[organization],
                    object_type: FILE,
                    primary_key: id,
                    word: Word::File {
                        mimes,
                        input: chance
                            .percent(70)
                            .then(|| format!("Hostname|internet|h{}", chance.below(keys))),
                    },
                }
            });
            files.push(file.clone());
            made.push(file);
            continue;
        }
        let number = chance.below(keys);
        let object_type = TYPES[number % TYPES.len()];
        let seen = known.entry((organization, number)).or_insert(Known {
            live: false,
            attributes: Map::new(),
        });
        let level = |chance: &mut Chance| u8::try_from(chance.below(5)).expect("a level");
        let some_level = chance.percent(40).then(|| level(chance));
        let fresh = attributes(chance, object_type, number);
        let word = match (seen.live, chance.below(100)) {
            // Something happens to what is not there: unknown, or deleted.
            (false, 0..8) => Word::Profile {
                level: Some(level(chance)),
                says_type: chance.percent(50),
            },
            (false, 8..12) => Word::Deleted,
            (false, 12..18) => Word::Updated {
                attributes: fresh.clone(),
                level: some_level,
            },
            (false, _) => Word::Created {
                attributes: fresh.clone(),
                level: some_level,
            },
            (true, 0..15) => Word::Deleted,
            (true, 15..50) => Word::Profile {
                level: Some(level(chance)),
                says_type: chance.percent(50),
            },
            (true, 50..54) => Word::Profile {
                level: None,
                says_type: true,
            },
            // The same again: nothing changes.
            (true, 54..60) => Word::Updated {
                attributes: seen.attributes.clone(),
                level: None,
            },
            (true, 60..64) => Word::Created {
                attributes: fresh.clone(),
                level: some_level,
            },
            (true, _) => Word::Updated {
                attributes: fresh.clone(),
                level: some_level,
            },
        };
        match &word {
            Word::Created { attributes, .. } => {
                seen.live = true;
                seen.attributes.clone_from(attributes);
            }
            Word::Updated { attributes, .. } => seen.attributes.clone_from(attributes),
            Word::Deleted => seen.live = false,
            _ => {}
        }
        made.push(Event {
            at,
            organization: ORGANIZATIONS[organization],
            object_type,
            primary_key: format!("{object_type}|internet|{number}"),
            word,
        });
    }
    made
}
