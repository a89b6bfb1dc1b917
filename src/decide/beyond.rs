//! What the `when` of a schedule may ask beyond the object that changed: other objects and versions as they were
//! fetched, with what the batch has done to them so far.

use std::collections::HashMap;

use super::Lived;
use crate::catalogue::{Catalogue, Known, key_of, keys_in, versions};
use crate::moment::{Moment, Span};
use crate::object::{Object, ObjectKey};
use crate::query::{Fields, Version, World};

pub(super) struct Beyond<'a> {
    pub catalogue: &'a Catalogue,
    pub known: &'a Known,
    pub organization: &'a str,
    /// The objects of the batch, as they are by now.
    pub objects: &'a HashMap<ObjectKey, Object>,
    /// What became of them in it, where their history is kept.
    pub lived: &'a [Lived],
    pub now: Moment,
}

impl Beyond<'_> {
    fn key(&self, primary_key: &str) -> ObjectKey {
        ObjectKey {
            organization: self.organization.to_owned(),
            primary_key: primary_key.to_owned(),
        }
    }
}

impl World for Beyond<'_> {
    fn object(&self, object_type: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>> {
        let object = match self.objects.get(&self.key(primary_key)) {
            Some(here) => Some(here).filter(|here| here.live() && here.object_type == object_type),
            None => self.known.object(object_type, primary_key),
        };
        Some(Box::new(object?))
    }

    fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> Vec<Box<dyn Fields + '_>> {
        let fetched = self.known.referrers(object_type, field, primary_key);
        let elsewhere = fetched.filter(|object| !self.objects.contains_key(&object.key));
        let here = self.objects.values().filter(|object| {
            object.live()
                && object.key.organization == self.organization
                && object.object_type == object_type
                && keys_in(object.attributes.get(field)).any(|key| key == primary_key)
        });
        elsewhere
            .chain(here)
            .map(|object| Box::new(object) as _)
            .collect()
    }

    fn versions<'a>(&'a self, subject: &'a dyn Fields) -> Vec<Version<'a>> {
        let key = self.key(&key_of(subject));
        let Some(pasts) = self.known.pasts(&key.primary_key) else {
            return Vec::new();
        };
        let lived: Vec<&Lived> = self.lived.iter().filter(|lived| lived.key == key).collect();
        // What the batch changed ends what was stored.
        let ends = |until: Option<Moment>| until.or((!lived.is_empty()).then_some(self.now));
        let mut all: Vec<(Moment, Option<Moment>, &Object)> = pasts
            .iter()
            .map(|past| (past.from, ends(past.until), &past.object))
            .collect();
        // Of what has no history yet, what it was is the first version, as it will be stored.
        let first = lived.first().and_then(|lived| lived.as_it_was.as_ref());
        if let (true, Some(first)) = (all.is_empty(), first) {
            all.push((Moment::EPOCH, Some(self.now), first));
        }
        let mut from = self.now;
        for (at, change) in lived.iter().enumerate() {
            let until = from.plus(Span::from_micros(1));
            let lasts = at + 1 == lived.len();
            if let Some(object) = &change.as_it_is {
                all.push((from, (!lasts).then_some(until), object));
            }
            from = until;
        }
        versions(all.into_iter(), subject)
    }

    fn member(&self, set: &str, subject: &dyn Fields) -> bool {
        self.catalogue.set_has(set, subject, self)
    }
}
