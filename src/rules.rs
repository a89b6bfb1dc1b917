//! What the settings say about deciding. It does not change while the service runs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::moment::Moment;
use crate::object::{FILE, Object, TypeNames};
use crate::plugin::{Plugin, is_type_name};
use crate::policy::{Defaults, WorkerSettings};
use crate::query::{Context, Facts, Nowhere, Query, Schema, Types};

#[derive(Debug, Default)]
pub struct Rules {
    pub names: TypeNames,
    pub types: Types,
    /// Object types that declare their fields.
    pub closed: Vec<String>,
    /// Attributes whose changes do not count, by type.
    pub ignore: BTreeMap<String, Vec<String>>,
    /// The attribute that is the natural name, by type.
    pub natural_names: BTreeMap<String, String>,
    pub workers: BTreeMap<String, WorkerSettings>,
    /// Compiled splits of a worker type's queue: the first that matches takes the plugin's tasks.
    pub splits: BTreeMap<String, Vec<(String, Query)>>,
    pub defaults: Defaults,
    pub open_organizations: bool,
}

impl Rules {
    pub fn worker(&self, worker_type: &str) -> Cow<'_, WorkerSettings> {
        match self.workers.get(worker_type) {
            Some(settings) => Cow::Borrowed(settings),
            None => Cow::Owned(WorkerSettings::for_type(worker_type)),
        }
    }

    /// The queue that a plugin's tasks go to.
    pub fn queue_for(&self, plugin: &Plugin) -> String {
        let facts = Facts {
            subject: plugin,
            trigger: None,
            previous: None,
            parameters: &Map::new(),
            now: Moment::EPOCH,
            world: &Nowhere,
        };
        let split = self
            .splits
            .get(&plugin.worker_type)
            .into_iter()
            .flatten()
            .find(|(_, query)| query.answers(&facts).unwrap_or(false));
        match split {
            Some((queue, _)) => queue.clone(),
            None => self.worker(&plugin.worker_type).queue.clone(),
        }
    }

    pub fn ignored(&self, object_type: &str) -> &[String] {
        self.ignore.get(object_type).map_or(&[], Vec::as_slice)
    }

    /// What a query about this type of object, file, run or task may ask.
    pub fn schema(&self, object_type: &str) -> Schema {
        match object_type {
            FILE => Schema::file(),
            "run" => Schema::run(),
            "task" => Schema::task(),
            declared if self.closed.iter().any(|closed| closed == declared) => {
                self.types.schema(declared)
            }
            open => Schema::open(open),
        }
    }

    /// Whether a placeholder of this name stands for an input.
    pub fn known_type(&self, name: &str) -> bool {
        if self.names.declared.is_empty() || self.names.open {
            is_type_name(name)
        } else {
            name == FILE || self.names.declared.iter().any(|declared| declared == name)
        }
    }

    /// How people call an input: the attribute that its type says, else the last part of its key.
    pub fn natural_name<'o>(&self, object: &'o Object) -> Cow<'o, str> {
        let key = object.key.primary_key.as_str();
        if object.object_type == FILE {
            return Cow::Borrowed(key);
        }
        let attribute = self
            .natural_names
            .get(&object.object_type)
            .map_or("name", String::as_str);
        match object.attributes.get(attribute) {
            Some(Value::String(name)) => Cow::Borrowed(name.as_str()),
            Some(Value::Number(number)) => Cow::Owned(number.to_string()),
            _ => Cow::Borrowed(key.rsplit('|').next().unwrap_or(key)),
        }
    }
}

/// The splits of a worker type, compiled.
pub fn compile_splits(
    workers: &BTreeMap<String, WorkerSettings>,
) -> Result<BTreeMap<String, Vec<(String, Query)>>, Vec<String>> {
    let schema = Schema::plugin();
    let mut splits = BTreeMap::new();
    let mut wrong = Vec::new();
    for (worker_type, settings) in workers {
        let mut parts = Vec::new();
        for split in &settings.split {
            let label = format!("workers.{worker_type}.split.where");
            let context = Context::new(&label, &schema);
            match Query::compile(&split.query, &context) {
                Ok(query) => parts.push((split.queue.clone(), query)),
                Err(diagnostics) => wrong.extend(diagnostics.iter().map(ToString::to_string)),
            }
        }
        splits.insert(worker_type.clone(), parts);
    }
    if wrong.is_empty() {
        Ok(splits)
    } else {
        Err(wrong)
    }
}
