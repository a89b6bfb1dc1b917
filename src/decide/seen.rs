//! What queries and decisions see of an object.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::object::Object;
use crate::query::Fields;

impl Fields for Object {
    fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        match name {
            "primary_key" => Some(Cow::Owned(json!(self.key.primary_key))),
            "object_type" => Some(Cow::Owned(json!(self.object_type))),
            "organization" => Some(Cow::Owned(json!(self.key.organization))),
            "scan_level" => Some(Cow::Owned(json!(self.level))),
            "scan_profile_type" => Some(Cow::Owned(json!(self.profile_type))),
            _ => self.attributes.get(name).map(Cow::Borrowed),
        }
    }
}

impl Object {
    /// What a query sees of it, as one table; a run keeps its trigger so.
    pub fn snapshot(&self) -> Map<String, Value> {
        let mut all = self.attributes.clone();
        for name in [
            "primary_key",
            "object_type",
            "organization",
            "scan_level",
            "scan_profile_type",
        ] {
            if let Some(value) = self.field(name) {
                all.insert(name.to_owned(), value.into_owned());
            }
        }
        all
    }

    /// Whether no query could tell them apart.
    pub(super) fn looks_like(&self, other: &Object) -> bool {
        self.object_type == other.object_type
            && self.attributes == other.attributes
            && self.level == other.level
            && self.profile_type == other.profile_type
    }
}
