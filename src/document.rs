//! What people write: files, settings and the arguments of commands, read one way and complained about one way.
//!
//! [`Document`] reads YAML, JSON or TOML into [`Node`]s that remember where they stood. [`Table`] and [`Field`] take
//! typed values out of a node and gather *every* [`Complaint`] of a document instead of stopping at the first. No input
//! makes a reader panic: nesting is bounded at [`DEPTH_LIMIT`], and what the aliases of YAML unfold to at [`NODE_LIMIT`].

use serde_json::{Map, Value as Json};

pub use complaint::{Complaint, Complaints, Severity, nearest};
pub use table::{Field, Table};

pub(crate) use complaint::about;
pub(crate) use table::join;

mod complaint;
mod json;
mod places;
mod table;
mod toml;
mod yaml;

/// How deeply lists and tables may be nested, in every notation.
pub const DEPTH_LIMIT: usize = 128;
/// How many values a YAML file may hold, its aliases unfolded.
pub const NODE_LIMIT: usize = 1_000_000;

/// A file that was read: its name as complaints show it, and its values. Only YAML can have more roots than one.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub name: String,
    pub roots: Vec<Node>,
}

/// A value and where it was written; what came as the argument of a command was written nowhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Option<Place>,
}

/// What the three notations have in common. Numbers are finite; no text holds a NUL.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; every key once.
    Table(Vec<(Key, Node)>),
}

/// The name of an entry of a table, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub name: String,
    pub place: Option<Place>,
}

/// A line and a column, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Document {
    /// Reads a file by the end of its name: `.json`, `.toml`, and everything else (standard input too) as YAML, of which
    /// ordinary JSON is a part.
    pub fn open(name: &str, bytes: &[u8]) -> Result<Document, Complaint> {
        let text = utf8(name, bytes)?;
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".json") {
            Document::json(name, text)
        } else if lower.ends_with(".toml") {
            Document::toml(name, text)
        } else {
            Document::yaml(name, text)
        }
    }

    /// YAML 1.2 with its core schema: `yes` and `no` are texts, quoted words stay texts, every document is a root.
    pub fn yaml(name: &str, text: &str) -> Result<Document, Complaint> {
        Document::of(name, yaml::read(plain(name, text)?))
    }

    /// JSON to the letter: no comments, no trailing commas, no key twice.
    pub fn json(name: &str, text: &str) -> Result<Document, Complaint> {
        Document::of(name, json::read(plain(name, text)?).map(|root| vec![root]))
    }

    /// TOML; its dates and times become texts.
    pub fn toml(name: &str, text: &str) -> Result<Document, Complaint> {
        Document::of(name, toml::read(plain(name, text)?).map(|root| vec![root]))
    }

    fn of(name: &str, read: Result<Vec<Node>, Fault>) -> Result<Document, Complaint> {
        match read {
            Ok(roots) => Ok(Document {
                name: name.to_string(),
                roots,
            }),
            Err(fault) => Err(fault.complaint(name)),
        }
    }
}

/// Why a text could not be read, before the name of its file is known.
#[derive(Debug)]
struct Fault {
    place: Option<Place>,
    message: String,
}

impl Fault {
    fn at(place: Place, message: impl Into<String>) -> Fault {
        Fault {
            place: Some(place),
            message: message.into(),
        }
    }

    fn complaint(self, file: &str) -> Complaint {
        Complaint::error(file, self.place, "", self.message)
    }
}

/// Bytes as text, or where they stop being UTF-8.
pub fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Complaint> {
    std::str::from_utf8(bytes).map_err(|error| {
        let place = places::Places::of(bytes).at(error.valid_up_to());
        Fault::at(place, "this is not UTF-8 text").complaint(name)
    })
}

/// The text without its byte order mark; a NUL is refused, because PostgreSQL keeps none.
fn plain<'a>(name: &str, text: &'a str) -> Result<&'a str, Complaint> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.find('\0') {
        None => Ok(text),
        Some(at) => {
            let place = places::Places::of(text.as_bytes()).at(at);
            Err(Fault::at(place, NUL).complaint(name))
        }
    }
}

const NUL: &str = "a text cannot hold a NUL character";

/// The complaint about a second entry of one name.
fn twice(key: &Key, first: &Key) -> Fault {
    let before = match first.place {
        Some(place) => format!("; it is on line {} already", place.line),
        None => String::new(),
    };
    Fault {
        place: key.place,
        message: format!("`{}` is there twice{before}", complaint::short(&key.name)),
    }
}

fn too_deep(place: Place) -> Fault {
    Fault::at(place, format!("nested more than {DEPTH_LIMIT} deep"))
}

fn too_many(place: Place) -> Fault {
    Fault::at(place, format!("more than {NODE_LIMIT} values"))
}

/// Keys seen so far in one table, to find the second of a name without comparing each with each.
#[derive(Default)]
struct Seen(std::collections::HashMap<String, usize>);

impl Seen {
    fn check(&mut self, key: &Key, entries: &[(Key, Node)]) -> Result<(), Fault> {
        match self.0.insert(key.name.clone(), entries.len()) {
            Some(first) => Err(twice(key, entries.get(first).map_or(key, |entry| &entry.0))),
            None => Ok(()),
        }
    }
}

impl Node {
    /// A value that was written nowhere.
    pub fn new(value: Value) -> Node {
        Node { value, place: None }
    }

    fn placed(value: Value, place: Place) -> Node {
        Node {
            value,
            place: Some(place),
        }
    }

    /// The argument of a command. What is nested deeper than [`DEPTH_LIMIT`] becomes null; serde_json reads nothing that
    /// deep.
    pub fn from_json(json: &Json) -> Node {
        from_json(json, DEPTH_LIMIT + 1)
    }

    /// The same value without its places.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(yes) => Json::Bool(*yes),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Table(entries) => Json::Object(to_map(entries)),
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The entry of that name, where this is a table that has one.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(entries) => entries
                .iter()
                .find(|(key, _)| key.name == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }
}

impl Key {
    /// A name that was written nowhere.
    pub fn new(name: impl Into<String>) -> Key {
        Key {
            name: name.into(),
            place: None,
        }
    }
}

fn to_map(entries: &[(Key, Node)]) -> Map<String, Json> {
    entries
        .iter()
        .map(|(key, node)| (key.name.clone(), node.to_json()))
        .collect()
}

fn from_json(json: &Json, deeper: usize) -> Node {
    let Some(below) = deeper.checked_sub(1) else {
        return Node::new(Value::Null);
    };
    Node::new(match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::Null,
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => {
            Value::List(items.iter().map(|item| from_json(item, below)).collect())
        }
        Json::Object(entries) => Value::Table(
            entries
                .iter()
                .map(|(name, value)| (Key::new(name.clone()), from_json(value, below)))
                .collect(),
        ),
    })
}
