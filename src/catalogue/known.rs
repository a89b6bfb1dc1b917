//! What queries ask beyond their subjects, as far as it was fetched.
//!
//! A judge cannot wait for a database. So it asks what is known here; what is not known is noted, the caller fetches it
//! and asks again, until nothing is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::Catalogue;
use crate::moment::Moment;
use crate::object::Object;
use crate::query::{Fields, Version, World};

/// Primary keys, of one organisation.
pub type Keys = BTreeSet<String>;
/// A type, and the field of it that points somewhere.
pub type Pointer = (String, String);
/// An object, and a plugin that makes files of it.
pub type Maker = (String, String);

/// What was asked and is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub objects: Keys,
    /// Keys that objects of a type are to point to by a field.
    pub referrers: BTreeMap<Pointer, Keys>,
    pub histories: Keys,
    /// The newest file of each.
    pub files: BTreeSet<Maker>,
}

/// What there is of it.
#[derive(Debug, Default)]
pub struct Found {
    /// It was more than one look may read, and nothing of it is here.
    pub too_much: bool,
    pub objects: Vec<Object>,
    pub referrers: BTreeMap<Pointer, Vec<Object>>,
    pub histories: HashMap<String, Vec<Past>>,
    pub files: Vec<Object>,
}

/// An object as it was from an instant until another.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    pub from: Moment,
    pub until: Option<Moment>,
    pub object: Object,
}

/// Objects of one organisation, with those that point to them and what they were.
#[derive(Debug, Default)]
pub struct Known {
    objects: HashMap<String, Option<Object>>,
    referrers: HashMap<Pointer, HashMap<String, Vec<usize>>>,
    pointing: Vec<Object>,
    histories: HashMap<String, Vec<Past>>,
    files: HashMap<Maker, Option<Object>>,
    missing: Mutex<Missing>,
    missed: AtomicBool,
    /// Whatever is missing stays so: it would be too much.
    closed: bool,
}

impl Known {
    /// An answer that rests on what is known alone; nothing where something was missing.
    pub fn answer<T>(&self, catalogue: &Catalogue, ask: impl FnOnce(&dyn World) -> T) -> Option<T> {
        self.missed();
        let answer = ask(&self.asked(catalogue));
        (!self.missed()).then_some(answer)
    }

    /// What is known, before a judge.
    pub fn asked<'k>(&'k self, catalogue: &'k Catalogue) -> Asked<'k> {
        Asked {
            catalogue,
            known: self,
        }
    }

    /// Whether something was missing since this was last asked.
    pub fn missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Nothing more will be fetched.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// What is to be fetched.
    pub fn missing(&self) -> Missing {
        mem::take(&mut self.missing.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.files
            .extend(asked.files.into_iter().map(|maker| (maker, None)));
        for file in found.files {
            let Some(made) = file.made() else { continue };
            let maker = (made.of.to_owned(), made.by.to_owned());
            self.files.insert(maker, Some(file));
        }
    }

    fn note(&self, note: impl FnOnce(&mut Missing)) {
        self.missed.store(true, Ordering::Relaxed);
        if !self.closed {
            note(&mut self.missing.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The object of that type and key.
    pub fn object(&self, object_type: &str, primary_key: &str) -> Option<&Object> {
        let Some(known) = self.objects.get(primary_key) else {
            self.note(|missing| {
                missing.objects.insert(primary_key.to_owned());
            });
            return None;
        };
        let known = known.as_ref();
        known.filter(|known| known.object_type == object_type)
    }

    /// The objects of that type whose field holds that key.
    pub fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> impl Iterator<Item = &Object> {
        let pointer = (object_type.to_owned(), field.to_owned());
        let pointed = self.referrers.get(&pointer);
        let places = pointed.and_then(|pointed| pointed.get(primary_key));
        if places.is_none() {
            self.note(|missing| {
                let keys = missing.referrers.entry(pointer).or_default();
                keys.insert(primary_key.to_owned());
            });
        }
        let places = places.into_iter().flatten();
        places.filter_map(|&at| self.pointing.get(at))
    }

    /// The stored versions of an object, oldest first, as far as they were fetched.
    pub fn pasts(&self, primary_key: &str) -> Option<&[Past]> {
        let pasts = self.histories.get(primary_key).map(Vec::as_slice);
        if pasts.is_none() {
            self.note(|missing| {
                missing.histories.insert(primary_key.to_owned());
            });
        }
        pasts
    }

    /// The newest file that a plugin made of an object.
    pub fn newest_file(&self, of: &str, by: &str) -> Option<&Object> {
        let maker = (of.to_owned(), by.to_owned());
        match self.files.get(&maker) {
            Some(file) => file.as_ref(),
            None => {
                self.note(|missing| {
                    missing.files.insert(maker);
                });
                None
            }
        }
    }
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.referrers.is_empty()
            && self.histories.is_empty()
            && self.files.is_empty()
    }
}

/// The keys that an attribute holds, alone or in a list.
pub fn keys_in(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = match value {
        Some(Value::Array(items)) => items.as_slice(),
        Some(other) => std::slice::from_ref(other),
        None => &[],
    };
    items.iter().filter_map(Value::as_str)
}

/// What is known of one organisation's objects, as a world that notes what it does not know.
#[derive(Clone, Copy)]
pub struct Asked<'k> {
    catalogue: &'k Catalogue,
    known: &'k Known,
}

/// The primary key of what is asked about; empty where it has none.
pub fn key_of(subject: &dyn Fields) -> String {
    match subject.field("primary_key").as_deref() {
        Some(Value::String(key)) => key.clone(),
        _ => String::new(),
    }
}

/// Versions, oldest first, for the judge. The object as it is stands for itself where none of them lasts: versions may
/// have been kept for a part of its life only.
pub fn versions<'v>(
    pasts: impl Iterator<Item = (Moment, Option<Moment>, &'v Object)>,
    subject: &'v dyn Fields,
) -> Vec<Version<'v>> {
    let mut versions: Vec<Version<'v>> = pasts
        .map(|(from, until, object)| Version {
            from,
            until,
            fields: Box::new(object),
        })
        .collect();
    let lasts = versions.iter().any(|version| version.until.is_none());
    let newest = versions.iter().filter_map(|version| version.until).max();
    if let (false, Some(from)) = (lasts, newest) {
        versions.push(Version {
            from,
            until: None,
            fields: Box::new(subject),
        });
    }
    versions
}

impl World for Asked<'_> {
    fn object(&self, object_type: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>> {
        let object = self.known.object(object_type, primary_key)?;
        Some(Box::new(object))
    }

    fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> Vec<Box<dyn Fields + '_>> {
        let referrers = self.known.referrers(object_type, field, primary_key);
        referrers.map(|object| Box::new(object) as _).collect()
    }

    fn versions<'a>(&'a self, subject: &'a dyn Fields) -> Vec<Version<'a>> {
        let key = key_of(subject);
        if key.is_empty() {
            return Vec::new();
        }
        let pasts = self.known.pasts(&key).unwrap_or_default();
        let pasts = pasts.iter();
        versions(
            pasts.map(|past| (past.from, past.until, &past.object)),
            subject,
        )
    }

    fn member(&self, set: &str, subject: &dyn Fields) -> bool {
        self.catalogue.set_has(set, subject, self)
    }
}
