//! What workers can run: which inputs a plugin takes, at which level, for whom it is enabled.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::moment::{Moment, Span};
use crate::object::FILE;
use crate::object::Operation;
use crate::query::Fields;
use crate::schedule::{Limit, SaidRetry, SaidTimeouts};

/// One entry of `consumes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumes {
    /// Objects of this type.
    Type(String),
    /// Files with this MIME type.
    Mime(String),
    /// Members of a named object set.
    Set(String),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plugin {
    pub plugin_id: String,
    pub name: String,
    pub description: Option<String>,
    pub version: Option<String>,
    pub worker_type: String,
    pub scan_level: Option<u8>,
    /// As written; what a query sees.
    pub consumes: Vec<String>,
    pub takes: Vec<Consumes>,
    pub produces: Vec<String>,
    /// As written; what a query sees.
    pub recurrences: Option<Value>,
    /// `None`: on created and updated, and it recurs.
    pub run_on: Option<Vec<Operation>>,
    pub oci_image: Option<String>,
    pub oci_arguments: Vec<String>,
    pub runtime: Option<String>,
    pub artefact: Option<String>,
    pub secrets: Vec<String>,
    pub batch_size: i64,
    pub grace: Option<Span>,
    pub timeouts: SaidTimeouts,
    pub retry: SaidRetry,
    pub limits: Vec<Limit>,
    pub idempotent: bool,
    pub enabled: bool,
    pub organizations: BTreeMap<String, ForOrganization>,
    pub settings: Map<String, Value>,
    pub created_at: Moment,
    /// Computed: object types that `consumes` or a placeholder names.
    pub input_types: Vec<String>,
}

/// What one organisation says about a plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForOrganization {
    pub enabled: Option<bool>,
    pub settings: Map<String, Value>,
}

impl Plugin {
    pub fn enabled_for(&self, organization: &str) -> bool {
        self.organizations
            .get(organization)
            .and_then(|said| said.enabled)
            .unwrap_or(self.enabled)
    }

    /// The plugin's settings with the organisation's laid over them.
    pub fn settings_for(&self, organization: &str) -> Map<String, Value> {
        let mut settings = self.settings.clone();
        if let Some(said) = self.organizations.get(organization) {
            for (name, value) in &said.settings {
                settings.insert(name.clone(), value.clone());
            }
        }
        settings
    }

    /// Whether `consumes` or a placeholder names this type of input. Sets are asked of the caller.
    pub fn takes_type(&self, object_type: &str, mime_types: &[&str]) -> bool {
        if object_type != FILE {
            return self.input_types.iter().any(|taken| taken == object_type);
        }
        let mut named = false;
        for taken in &self.takes {
            match taken {
                Consumes::Mime(mime) if mime_types.contains(&mime.as_str()) => return true,
                Consumes::Mime(_) => named = true,
                Consumes::Type(name) if name == FILE => return true,
                _ => {}
            }
        }
        // `{file}` in the arguments takes any file, unless `consumes` says which.
        !named && self.input_types.iter().any(|taken| taken == FILE)
    }

    /// Names of the object sets whose members it takes.
    pub fn sets_taken(&self) -> impl Iterator<Item = &str> {
        self.takes.iter().filter_map(|taken| match taken {
            Consumes::Set(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// No placeholder of its arguments asks for an input, and it consumes nothing.
    pub fn runs_without_input(&self) -> bool {
        self.input_types.is_empty() && self.takes.is_empty()
    }

    /// Whether a change of this kind may start it.
    pub fn runs_on(&self, operation: Operation) -> bool {
        match (&self.run_on, operation) {
            (_, Operation::Deleted | Operation::Finished) | (None, _) => true,
            (Some(allowed), operation) => allowed.contains(&operation),
        }
    }

    /// It is left out of what the clock starts: it runs on changes only.
    pub fn recurs(&self) -> bool {
        self.run_on.is_none()
    }
}

/// The names inside `{…}`, or nothing where the text is not a placeholder of names.
pub fn placeholder_types(argument: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let after = &rest[open + 1..];
        let Some(close) = after.find('}') else { break };
        let inside = &after[..close];
        if !inside.is_empty() && inside.split('|').all(is_type_name) {
            found.extend(inside.split('|'));
            rest = &after[close + 1..];
        } else {
            rest = after;
        }
    }
    found
}

pub fn is_type_name(word: &str) -> bool {
    let mut letters = word.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// One argument with its placeholders filled, or `None` where it holds no placeholder of a known type.
pub fn fill(
    argument: &str,
    known: &dyn Fn(&str) -> bool,
    object_type: &str,
    natural_name: &str,
) -> Option<String> {
    let mut filled = String::with_capacity(argument.len() + natural_name.len());
    let mut any = false;
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        filled.push_str(before);
        let inside = from[1..].find('}').map(|close| &from[1..1 + close]);
        match inside {
            Some(names)
                if !names.is_empty()
                    && names
                        .split('|')
                        .all(|name| is_type_name(name) && known(name))
                    && names.split('|').any(|name| name == object_type) =>
            {
                filled.push_str(natural_name);
                any = true;
                rest = &from[names.len() + 2..];
            }
            _ => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled.push_str(rest);
    any.then_some(filled)
}

fn texts(values: &[String]) -> Value {
    Value::Array(values.iter().map(|v| Value::String(v.clone())).collect())
}

impl Fields for Plugin {
    fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        let value = match name {
            "plugin_id" => json!(self.plugin_id),
            "name" => json!(self.name),
            "worker_type" => json!(self.worker_type),
            "description" => json!(self.description),
            "version" => json!(self.version),
            "oci_image" => json!(self.oci_image),
            "runtime" => json!(self.runtime),
            "artefact" => json!(self.artefact),
            "recurrences" => match &self.recurrences {
                None => Value::Null,
                Some(Value::String(text)) => json!(text),
                Some(other) => json!(other.to_string()),
            },
            "scan_level" => json!(self.scan_level),
            "batch_size" => json!(self.batch_size),
            "consumes" => texts(&self.consumes),
            "produces" => texts(&self.produces),
            "oci_arguments" => texts(&self.oci_arguments),
            "input_types" => texts(&self.input_types),
            "enabled" => json!(self.enabled),
            "idempotent" => json!(self.idempotent),
            "created_at" => json!(self.created_at.to_string()),
            _ => return None,
        };
        Some(Cow::Owned(value))
    }
}
