//! What the settings say about deciding. It does not change while the service runs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::moment::{Moment, Span};
use crate::object::{Change, FILE, Object, TypeNames, Word};
use crate::plugin::{Plugin, is_type_name};
use crate::policy::{Defaults, WorkerSettings};
use crate::query::schema::Field;
use crate::query::{
    Context, Facts, Kind, Nowhere, Query, Schema, Types, spells_address, spells_instant,
};
use crate::signature::Keys;

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
    pub splits: Splits,
    pub defaults: Defaults,
    pub open_organizations: bool,
    /// The zone of recurrences that plugins bring along; nothing is UTC.
    pub plugin_timezone: Option<String>,
    /// Over how long the tasks of one such run are spread.
    pub plugin_spread: Span,
    /// Who may sign commands and statuses, and whether everybody has to.
    pub keys: Keys,
}

impl Rules {
    pub fn worker(&self, worker_type: &str) -> Cow<'_, WorkerSettings> {
        match self.workers.get(worker_type) {
            Some(settings) => Cow::Borrowed(settings),
            None => Cow::Owned(WorkerSettings::for_type(worker_type)),
        }
    }

    /// Whether any worker type shares its tasks between organisations.
    pub fn shares(&self) -> bool {
        self.workers.values().any(|worker| worker.share)
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

    /// Whether what a change says of an object is as its type declares it.
    pub fn takes(&self, change: &Change) -> Result<(), String> {
        match (&change.object_type, &change.word) {
            (
                Some(object_type),
                Word::Object {
                    attributes: Some(attributes),
                    ..
                },
            ) => self.conforms(object_type, attributes),
            _ => Ok(()),
        }
    }

    /// Whether attributes hold what their type declares. What is not declared is kept, and queries do not see it; what
    /// is declared and absent is None.
    pub fn conforms(
        &self,
        object_type: &str,
        attributes: &Map<String, Value>,
    ) -> Result<(), String> {
        if !self.closed.iter().any(|closed| closed == object_type) {
            return Ok(());
        }
        let schema = self.types.schema(object_type);
        for (name, value) in attributes {
            if let Some(field) = schema
                .field(name)
                .filter(|_| !BUILT_IN.contains(&name.as_str()))
                && let Err(found) = holds(&field, value)
            {
                let nullable = if field.nullable { " or null" } else { "" };
                return Err(format!(
                    "data.attributes.{name} is {found}; {object_type} declares it as {}{nullable}",
                    field.kind.phrase()
                ));
            }
        }
        Ok(())
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

/// What every object has; an attribute of that name is hidden by it.
const BUILT_IN: [&str; 5] = [
    "primary_key",
    "object_type",
    "organization",
    "scan_level",
    "scan_profile_type",
];

/// Whether a field can hold a value; else what the value is.
fn holds(field: &Field, value: &Value) -> Result<(), String> {
    let fits = match (&field.kind, value) {
        (Kind::Dynamic | Kind::Referrers { .. }, _) => true,
        (kind, Value::Null) => field.nullable || kind.is_many(),
        (Kind::Text, Value::String(_))
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Float, Value::Number(_)) => true,
        (Kind::Int, Value::Number(number)) => number.is_i64(),
        (Kind::Date | Kind::DateTime, Value::String(text)) => spells_instant(text),
        (Kind::Ip, Value::String(text)) => spells_address(text),
        (Kind::List(element), Value::Array(items)) => {
            let element = Field {
                kind: element.as_ref().clone(),
                nullable: false,
            };
            for (at, item) in items.iter().enumerate() {
                holds(&element, item)
                    .map_err(|found| format!("a list whose item {} is {found}", at + 1))?;
            }
            true
        }
        (Kind::Records(record), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                let Value::Object(parts) = item else {
                    return Err(format!("a list whose item {} is {}", at + 1, kind_of(item)));
                };
                for (name, part) in parts {
                    if let Some(field) = record.field(name) {
                        holds(&field, part).map_err(|found| {
                            format!("a list whose item {} has {found} as `{name}`", at + 1)
                        })?;
                    }
                }
            }
            true
        }
        (Kind::One(_), Value::String(_) | Value::Object(_)) => true,
        (Kind::Many(_), Value::Array(items)) => items
            .iter()
            .all(|item| matches!(item, Value::String(_) | Value::Object(_))),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(kind_of(value).to_owned())
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Parts of worker types with queues of their own: queue and query, by worker type.
pub type Splits = BTreeMap<String, Vec<(String, Query)>>;

/// The splits of a worker type, compiled.
pub fn compile_splits(workers: &BTreeMap<String, WorkerSettings>) -> Result<Splits, Vec<String>> {
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
