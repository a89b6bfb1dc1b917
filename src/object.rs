//! What an organisation owns: inventory entries, and how a change becomes part of one.
//!
//! An object is known by (organization, primary key). Four things are remembered with the order of their last
//! change: that it was created, that it was deleted, its attributes, its level. Each keeps the newest, so the
//! changes of one object may arrive in any order and end in the same object.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::moment::Moment;

/// The type of raw data.
pub const FILE: &str = "file";

/// The highest scan level.
pub const HIGHEST_LEVEL: u8 = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub organization: String,
    pub primary_key: String,
}

/// Where a change stands among the changes of its object: by number (time in microseconds, version or arrival),
/// then by the id of its event.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    pub number: i64,
    pub event_id: String,
}

impl Rank {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Rank> {
        let (number, event_id) = text.split_once('|')?;
        Some(Rank {
            number: number.parse().ok()?,
            event_id: event_id.to_owned(),
        })
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.number, self.event_id)
    }
}

/// What was done to an object; what a schedule can be triggered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Created,
    Updated,
    Deleted,
    /// Of runs and tasks only.
    Finished,
}

impl Operation {
    pub const ALL: [(&'static str, Operation); 4] = [
        ("created", Operation::Created),
        ("updated", Operation::Updated),
        ("deleted", Operation::Deleted),
        ("finished", Operation::Finished),
    ];

    /// Reads `created` and, as the older documents write it, `create`.
    pub fn parse(word: &str) -> Option<Operation> {
        match word {
            "created" | "create" => Some(Operation::Created),
            "updated" | "update" => Some(Operation::Updated),
            "deleted" | "delete" => Some(Operation::Deleted),
            "finished" | "finish" => Some(Operation::Finished),
            _ => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Operation::Created => "created",
            Operation::Updated => "updated",
            Operation::Deleted => "deleted",
            Operation::Finished => "finished",
        }
    }
}

/// An inventory entry, also one that is gone (a tombstone) or not there yet (a level that came first).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    pub key: ObjectKey,
    /// Empty while only a level is known.
    pub object_type: String,
    pub attributes: Map<String, Value>,
    pub level: Option<u8>,
    pub profile_type: Option<String>,
    /// It was above level 0 at some time since it was created.
    pub lifted: bool,
    pub created_rank: Option<Rank>,
    pub deleted_rank: Option<Rank>,
    pub attributes_rank: Option<Rank>,
    pub level_rank: Option<Rank>,
}

impl Object {
    /// There, as far as is known: seen, and not deleted after it was last created.
    pub fn live(&self) -> bool {
        let seen = self.created_rank.is_some() || self.attributes_rank.is_some();
        seen && match (&self.deleted_rank, &self.created_rank) {
            (None, _) => true,
            (Some(deleted), Some(created)) => created.number > deleted.number,
            (Some(_), None) => false,
        }
    }
}

/// What a file was made of and by which plugin, and where it stands among others that were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made<'a> {
    /// The key of the object that its plugin ran on.
    pub of: &'a str,
    pub by: &'a str,
    /// The larger is the newer: when it was finished, in microseconds, else its place among the changes; then that place;
    /// then its key.
    pub newness: (i64, i64, &'a str),
}

impl Object {
    /// How a file came to be, as far as it can be joined with others: it is there, its plugin ended well, and it says of
    /// what it was made and by whom.
    pub fn made(&self) -> Option<Made<'_>> {
        if self.object_type != FILE || !self.live() || self.failed() {
            return None;
        }
        let text = |name: &str| self.attributes.get(name).and_then(Value::as_str);
        let number = self.attributes_rank.as_ref().or(self.created_rank.as_ref());
        let number = number.map_or(0, |rank| rank.number);
        let ended = text("ended_at").and_then(|text| Moment::parse(text).ok());
        Some(Made {
            of: text("input_key")?,
            by: text("plugin_id")?,
            newness: (
                ended.map_or(number, Moment::micros),
                number,
                &self.key.primary_key,
            ),
        })
    }

    /// A file that tells how its plugin failed.
    pub fn failed(&self) -> bool {
        self.object_type == FILE
            && self
                .mime_types()
                .iter()
                .any(|mime| mime.starts_with("error/"))
    }

    pub fn mime_types(&self) -> Vec<&str> {
        match self.attributes.get("mime_types") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

impl Object {
    /// About how many bytes its attributes take.
    pub fn weight(&self) -> usize {
        fn of(value: &Value) -> usize {
            match value {
                Value::String(text) => text.len(),
                Value::Array(items) => items.iter().map(of).sum(),
                Value::Object(members) => members
                    .iter()
                    .map(|(name, value)| name.len() + of(value))
                    .sum(),
                Value::Null | Value::Bool(_) | Value::Number(_) => 16,
            }
        }
        let attributes = self.attributes.iter();
        attributes.map(|(name, value)| name.len() + of(value)).sum()
    }
}

/// What an event says about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: ObjectKey,
    /// Absent where the event may leave it out.
    pub object_type: Option<String>,
    pub rank: Rank,
    pub word: Word,
    /// OpenKAT: a `create` that changes the object counts as created, also where the object was there.
    pub create_counts: bool,
}

/// The parts of an object that a change sets.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Created or updated, with the attributes as a whole and, if said, the level.
    Object {
        created: bool,
        attributes: Option<Map<String, Value>>,
        level: Option<Level>,
    },
    /// Only the level; `None` clears it.
    Level(Option<Level>),
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub level: u8,
    pub profile_type: Option<String>,
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// What schedules are triggered by; empty where the object stayed as it was.
    pub operations: Vec<Operation>,
    /// The level sank, or the object went: what waits for it may have lost its reason.
    pub withdraws: bool,
    /// Something of the change was older than what is known, and was not taken.
    pub late: bool,
    /// The entry differs from what was stored and must be written.
    pub changed: bool,
}

/// A live key that is said to be of another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherType {
    pub known: String,
    pub said: String,
}

impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the key belongs to a live {} and cannot become a {}",
            self.known, self.said
        )
    }
}

fn newer(rank: &Rank, than: Option<&Rank>) -> bool {
    than.is_none_or(|known| rank > known)
}

/// Deletions win a tie of numbers, whatever the ids.
fn outlives_delete(rank: &Rank, deleted: Option<&Rank>) -> bool {
    deleted.is_none_or(|deleted| rank.number > deleted.number)
}

/// Makes `change` part of `object`. On an error the object is as it was.
pub fn merge(object: &mut Object, change: &Change) -> Result<Merged, OtherType> {
    let was_live = object.live();
    if let (true, Some(said)) = (was_live, &change.object_type)
        && *said != object.object_type
    {
        return Err(OtherType {
            known: object.object_type.clone(),
            said: said.clone(),
        });
    }
    let before_level = object.level;
    let before_profile = object.profile_type.clone();
    let mut merged = Merged::default();
    let mut attributes_changed = false;
    let rank = &change.rank;
    let mut set_type = false;
    match &change.word {
        Word::Object {
            created,
            attributes,
            level,
        } => {
            if *created && newer(rank, object.created_rank.as_ref()) {
                object.created_rank = Some(rank.clone());
                merged.changed = true;
                set_type = true;
            }
            if let Some(attributes) = attributes {
                if newer(rank, object.attributes_rank.as_ref()) {
                    if !same_map(attributes, &object.attributes) {
                        object.attributes = attributes.clone();
                        attributes_changed = true;
                    }
                    object.attributes_rank = Some(rank.clone());
                    merged.changed = true;
                    set_type = true;
                } else {
                    merged.late = true;
                }
            }
            if let Some(level) = level {
                set_level(object, rank, Some(level), &mut merged);
            }
        }
        Word::Level(level) => set_level(object, rank, level.as_ref(), &mut merged),
        Word::Deleted => {
            let wins = object
                .deleted_rank
                .as_ref()
                .is_none_or(|known| rank > known);
            if wins {
                object.deleted_rank = Some(rank.clone());
                merged.changed = true;
            } else {
                merged.late = true;
            }
            // The level of what is gone permits nothing to what may come under the same key.
            if object
                .level_rank
                .as_ref()
                .is_none_or(|known| rank.number >= known.number)
            {
                object.level = None;
                object.profile_type = None;
                // That of the newest deletion, so that the order of their coming does not show.
                object.level_rank.clone_from(&object.deleted_rank);
                merged.changed = true;
            }
        }
    }
    if let Some(said) = &change.object_type
        && (set_type || object.object_type.is_empty())
        && *said != object.object_type
    {
        object.object_type = said.clone();
        merged.changed = true;
    }
    let is_live = object.live();
    // A change to what is deleted is kept for its order, and is late in effect.
    if !is_live && !was_live && change.word != Word::Deleted {
        merged.late |= object.deleted_rank.is_some();
    }
    tell(
        object,
        change,
        was_live,
        is_live,
        attributes_changed,
        before_level,
        &before_profile,
        &mut merged,
    );
    Ok(merged)
}

/// Which operations the difference amounts to.
#[allow(clippy::too_many_arguments)] // the before and the after of one object, side by side
fn tell(
    object: &mut Object,
    change: &Change,
    was_live: bool,
    is_live: bool,
    attributes_changed: bool,
    before_level: Option<u8>,
    before_profile: &Option<String>,
    merged: &mut Merged,
) {
    let level = object.level.unwrap_or(0);
    match (was_live, is_live) {
        (false, true) => {
            object.lifted = level > 0;
            merged.operations.push(Operation::Created);
        }
        (true, false) => {
            object.lifted = false;
            merged.operations.push(Operation::Deleted);
            merged.withdraws = true;
        }
        (true, true) => {
            // None is below 0: an object without a level is permitted nothing at all.
            let (old, new) = (rung(before_level), rung(object.level));
            let raised = new > old;
            let lowered = new < old;
            merged.withdraws = lowered;
            let differs = attributes_changed
                || raised
                || (!lowered && *before_profile != object.profile_type);
            let first_lift = raised && level > 0 && !object.lifted;
            if first_lift || (change.create_counts && differs) {
                merged.operations.push(Operation::Created);
            }
            if attributes_changed || raised {
                merged.operations.push(Operation::Updated);
            }
            if level > 0 && !object.lifted {
                object.lifted = true;
                merged.changed = true;
            }
        }
        (false, false) => {}
    }
}

fn rung(level: Option<u8>) -> i16 {
    level.map_or(-1, i16::from)
}

fn set_level(object: &mut Object, rank: &Rank, level: Option<&Level>, merged: &mut Merged) {
    let deleted = object.deleted_rank.as_ref();
    if newer(rank, object.level_rank.as_ref()) && outlives_delete(rank, deleted) {
        object.level = level.map(|level| level.level);
        object.profile_type = level.and_then(|level| level.profile_type.clone());
        object.level_rank = Some(rank.clone());
        merged.changed = true;
    } else {
        merged.late = true;
    }
}

/// Equal as JSON is meant: the order of keys and the spelling of a number do not count.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            a == b
                || match (a.as_i64(), b.as_i64()) {
                    (Some(a), Some(b)) => a == b,
                    _ => a.as_f64().partial_cmp(&b.as_f64()) == Some(Ordering::Equal),
                }
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => same_map(a, b),
        _ => left == right,
    }
}

fn same_map(left: &Map<String, Value>, right: &Map<String, Value>) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
}

/// How the names of object types are written here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeNames {
    /// Written name to ours.
    pub aliases: BTreeMap<String, String>,
    /// Declared types; empty means that every type is taken.
    pub declared: Vec<String>,
    /// Types that are not declared are taken too.
    pub open: bool,
}

impl TypeNames {
    /// Our name for a type as somebody writes it: `DNSTXTRecord` is `dnstxt_record`.
    pub fn ours(&self, written: &str) -> String {
        if let Some(name) = self.aliases.get(written) {
            return name.clone();
        }
        if matches!(written, "IPAddressV4" | "IPAddressV6") {
            return "ip_address".to_owned();
        }
        snake_case(written)
    }

    /// Whether objects of this type (our name) are taken.
    pub fn takes(&self, name: &str) -> bool {
        self.declared.is_empty()
            || self.open
            || name == FILE
            || self.declared.iter().any(|declared| declared == name)
    }
}

/// A word ends before the last capital of a run that goes on in small letters.
fn snake_case(written: &str) -> String {
    let letters: Vec<char> = written.chars().collect();
    let mut name = String::with_capacity(written.len() + 4);
    for (at, &letter) in letters.iter().enumerate() {
        if letter.is_ascii_uppercase() {
            let before = at.checked_sub(1).and_then(|at| letters.get(at));
            let after = letters.get(at + 1);
            let starts = before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                || (before.is_some_and(char::is_ascii_uppercase)
                    && after.is_some_and(char::is_ascii_lowercase));
            if starts {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        } else {
            name.push(letter);
        }
    }
    name
}

/// A change and what else its event tells, ready to be decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event_id: Option<String>,
    pub event_type: String,
    pub at: Moment,
    pub traceparent: Option<String>,
    pub change: Change,
}
