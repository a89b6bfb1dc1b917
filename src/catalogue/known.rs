//! What queries ask beyond their subjects, as far as it was fetched.
//!
//! A judge cannot wait for a database. So it asks what is known here; what is not known is noted, the caller fetches it
//! and asks again, until nothing is missing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::Catalogue;
use crate::moment::Moment;
use crate::object::Object;
use crate::query::{Fields, Version, World};

/// Primary keys, of one organisation.
pub type Keys = BTreeSet<String>;
/// A type, and the field of it that points somewhere.
pub type Pointer = (String, String);

/// What was asked and is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub objects: Keys,
    /// Keys that objects of a type are to point to by a field.
    pub referrers: BTreeMap<Pointer, Keys>,
    pub histories: Keys,
}

/// What there is of it.
#[derive(Debug, Default)]
pub struct Found {
    pub objects: Vec<Object>,
    pub referrers: BTreeMap<Pointer, Vec<Object>>,
    pub histories: HashMap<String, Vec<Past>>,
}

/// An object as it was from an instant until another.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    pub from: Moment,
    pub until: Option<Moment>,
    pub object: Object,
}

/// Objects of one organisation, with those that point to them.
pub struct Known<'c> {
    catalogue: &'c Catalogue,
    objects: HashMap<String, Option<Object>>,
    referrers: HashMap<Pointer, HashMap<String, Vec<usize>>>,
    pointing: Vec<Object>,
    histories: HashMap<String, Vec<Past>>,
    missing: RefCell<Missing>,
    missed: Cell<bool>,
}

impl<'c> Known<'c> {
    pub fn new(catalogue: &'c Catalogue) -> Known<'c> {
        Known {
            catalogue,
            objects: HashMap::new(),
            referrers: HashMap::new(),
            pointing: Vec::new(),
            histories: HashMap::new(),
            missing: RefCell::new(Missing::default()),
            missed: Cell::new(false),
        }
    }

    /// An answer that rests on what is known alone; nothing where something was missing.
    pub fn answer<T>(&self, ask: impl FnOnce(&dyn World) -> T) -> Option<T> {
        self.missed.set(false);
        let answer = ask(self);
        (!self.missed.get()).then_some(answer)
    }

    /// What is to be fetched.
    pub fn missing(&mut self) -> Missing {
        self.missing.take()
    }

    /// Takes what was fetched; what was not found is known not to be.
    pub fn learn(&mut self, asked: Missing, found: Found) {
        self.objects
            .extend(asked.objects.into_iter().map(|key| (key, None)));
        for object in found.objects {
            self.objects
                .insert(object.key.primary_key.clone(), Some(object));
        }
        for (pointer, keys) in asked.referrers {
            let pointed = self.referrers.entry(pointer).or_default();
            pointed.extend(keys.into_iter().map(|key| (key, Vec::new())));
        }
        for (pointer, objects) in found.referrers {
            let pointed = self.referrers.entry(pointer.clone()).or_default();
            for object in objects {
                let at = self.pointing.len();
                for key in keys_in(object.attributes.get(&pointer.1)) {
                    // Only keys that were asked for: of others not all referrers were fetched.
                    if let Some(referrers) = pointed.get_mut(key)
                        && referrers.last() != Some(&at)
                    {
                        referrers.push(at);
                    }
                }
                self.pointing.push(object);
            }
        }
        self.histories
            .extend(asked.histories.into_iter().map(|key| (key, Vec::new())));
        self.histories.extend(found.histories);
    }

    fn note(&self, note: impl FnOnce(&mut Missing)) {
        self.missed.set(true);
        note(&mut self.missing.borrow_mut());
    }
}

/// The keys that an attribute holds, alone or in a list.
fn keys_in(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = match value {
        Some(Value::Array(items)) => items.as_slice(),
        Some(other) => std::slice::from_ref(other),
        None => &[],
    };
    items.iter().filter_map(Value::as_str)
}

impl World for Known<'_> {
    fn object(&self, object_type: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>> {
        match self.objects.get(primary_key) {
            Some(known) => {
                let object = known
                    .as_ref()
                    .filter(|known| known.object_type == object_type)?;
                Some(Box::new(object))
            }
            None => {
                self.note(|missing| {
                    missing.objects.insert(primary_key.to_owned());
                });
                None
            }
        }
    }

    fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> Vec<Box<dyn Fields + '_>> {
        let pointer = (object_type.to_owned(), field.to_owned());
        let known = self.referrers.get(&pointer);
        match known.and_then(|pointed| pointed.get(primary_key)) {
            Some(referrers) => referrers
                .iter()
                .filter_map(|&at| Some(Box::new(self.pointing.get(at)?) as Box<dyn Fields>))
                .collect(),
            None => {
                self.note(|missing| {
                    let keys = missing.referrers.entry(pointer).or_default();
                    keys.insert(primary_key.to_owned());
                });
                Vec::new()
            }
        }
    }

    fn versions<'a>(&'a self, subject: &'a dyn Fields) -> Vec<Version<'a>> {
        let Some(Value::String(key)) = subject.field("primary_key").map(|key| key.into_owned())
        else {
            return Vec::new();
        };
        let Some(pasts) = self.histories.get(&key) else {
            self.note(|missing| {
                missing.histories.insert(key);
            });
            return Vec::new();
        };
        let mut versions: Vec<Version<'a>> = pasts
            .iter()
            .map(|past| Version {
                from: past.from,
                until: past.until,
                fields: Box::new(&past.object),
            })
            .collect();
        // The object as it is stands for itself: versions may have been kept for a part of its life only.
        if let Some(last) = pasts
            .iter()
            .map(|past| past.until)
            .max_by_key(|until| until.map_or(i64::MAX, Moment::micros))
            && let Some(last) = last
        {
            versions.push(Version {
                from: last,
                until: None,
                fields: Box::new(subject),
            });
        }
        versions
    }

    fn member(&self, set: &str, subject: &dyn Fields) -> bool {
        self.catalogue.set_has(set, subject)
    }
}
