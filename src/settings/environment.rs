//! The keys that there are, and the variables of the environment that stand for them.

use std::collections::BTreeMap;

use crate::document::{Complaint, Complaints, Key, Node, Value, join, nearest};

/// The variable that names the file.
pub(super) const CONFIG: &str = "MUSTER_CONFIG";
const PREFIX: &str = "MUSTER_";

/// What a key holds, as far as a variable can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Int,
    Bool,
    /// A list, a table of the writer's own names, or something inside of a list: in the file only.
    FileOnly,
}

/// Every key of the settings. `*` is a name of the writer's own, `[]` each item of a list.
pub const KEYS: &[(&str, Kind)] = &[
    ("open_types", Kind::Bool),
    ("open_organizations", Kind::Bool),
    ("require_signatures", Kind::Bool),
    ("store.url", Kind::Text),
    ("bus.url", Kind::Text),
    ("bus.prefetch", Kind::Int),
    ("bus.batch.count", Kind::Int),
    ("bus.batch.linger", Kind::Text),
    ("bus.intake", Kind::FileOnly),
    ("bus.intake[].queue", Kind::FileOnly),
    ("bus.intake[].order", Kind::FileOnly),
    ("bus.intake[].format", Kind::FileOnly),
    ("defaults.grace", Kind::Text),
    ("defaults.timeouts.queue", Kind::Text),
    ("defaults.timeouts.heartbeat", Kind::Text),
    ("defaults.timeouts.run", Kind::Text),
    ("defaults.timeouts.task", Kind::Text),
    ("defaults.retry.max", Kind::Int),
    ("defaults.retry.first", Kind::Text),
    ("defaults.retry.cap", Kind::Text),
    ("defaults.retry.declines", Kind::Int),
    ("retention.tasks", Kind::Text),
    ("retention.runs", Kind::Text),
    ("retention.runs_each", Kind::Int),
    ("retention.events", Kind::Text),
    ("retention.versions", Kind::Text),
    ("retention.tombstones", Kind::Text),
    ("metrics.file", Kind::Text),
    ("metrics.push", Kind::Text),
    ("metrics.every", Kind::Text),
    ("lifecycle.enabled", Kind::Bool),
    ("workers.*.queue", Kind::Text),
    ("workers.*.split", Kind::FileOnly),
    ("workers.*.split[].queue", Kind::FileOnly),
    ("workers.*.split[].where", Kind::FileOnly),
    ("workers.*.format", Kind::Text),
    ("workers.*.acknowledge", Kind::Text),
    ("workers.*.rank", Kind::Text),
    ("workers.*.limit", Kind::Int),
    ("workers.*.stored_limit", Kind::Int),
    ("workers.*.credit", Kind::Int),
    ("workers.*.lower_class_every", Kind::Int),
    ("workers.*.level_gate", Kind::Text),
    ("workers.*.minimum_scan_level", Kind::Int),
    ("workers.*.requires_indemnification", Kind::Bool),
    ("workers.*.run_on_enable", Kind::Bool),
    ("workers.*.share", Kind::Bool),
    ("object_types.*.fields", Kind::FileOnly),
    ("object_types.*.aliases", Kind::FileOnly),
    ("object_types.*.name", Kind::Text),
    ("object_types.*.ignore", Kind::FileOnly),
    ("plugin_recurrences.timezone", Kind::Text),
    ("plugin_recurrences.spread", Kind::Text),
    ("keys", Kind::FileOnly),
    ("keys[].id", Kind::FileOnly),
    ("keys[].secret", Kind::FileOnly),
    ("keys[].organizations", Kind::FileOnly),
    ("work.name", Kind::Text),
    ("work.types", Kind::FileOnly),
    ("work.queue", Kind::Text),
    ("work.concurrency", Kind::Int),
    ("work.store", Kind::Text),
    ("work.runtimes", Kind::FileOnly),
    ("work.exec", Kind::Text),
    ("work.scratch", Kind::Text),
    ("work.grace", Kind::Text),
    ("work.key", Kind::Text),
    ("work.log_bound", Kind::Int),
    ("work.environment", Kind::FileOnly),
    ("work.secrets", Kind::FileOnly),
    ("log.format", Kind::Text),
    ("log.level", Kind::Text),
    ("log.trail", Kind::Bool),
];

/// The variables that could be meant for us. Those that are not UTF-8 are none of them.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// The variable that stands for a key: `MUSTER_STORE_URL` for `store.url`.
pub fn variable(path: &[&str]) -> String {
    let mut name = String::from("MUSTER");
    for part in path {
        name.push('_');
        name.extend(part.chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        }));
    }
    name
}

/// A key of this file, with its own names filled in.
struct Known {
    path: Vec<String>,
    kind: Kind,
}

/// Lays the variables over the file's root. Answers which path was set by which variable. An empty variable sets
/// nothing, as start scripts leave them behind.
pub(super) fn lay_over(
    root: &mut Node,
    variables: impl IntoIterator<Item = (String, String)>,
    complaints: &mut Complaints,
) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, Vec<Known>> = BTreeMap::new();
    for &(key, kind) in KEYS {
        for path in with_names(key, root) {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let name = variable(&parts);
            known.entry(name).or_default().push(Known { path, kind });
        }
    }
    // In order of their names, so that complaints do not depend on the order of the environment.
    let given: BTreeMap<String, String> = variables
        .into_iter()
        .filter(|(name, value)| name.starts_with(PREFIX) && name != CONFIG && !value.is_empty())
        .collect();
    let mut set = BTreeMap::new();
    for (name, value) in given {
        match known.get(&name).map(Vec::as_slice) {
            None => complaints.push(unknown(&name, known.keys().map(String::as_str))),
            Some([one]) if one.kind == Kind::FileOnly => complaints.push(Complaint::warning(
                name,
                None,
                dotted(&one.path),
                format!("`{}` is set in the file only", dotted(&one.path)),
            )),
            Some([one]) => {
                put(root, &one.path, typed(one.kind, value));
                set.insert(dotted(&one.path), name);
            }
            Some(several) => {
                let paths: Vec<String> = several.iter().map(|one| dotted(&one.path)).collect();
                complaints.push(Complaint::error(
                    name,
                    None,
                    "",
                    format!(
                        "this variable could mean any of {}; set it in the file",
                        paths.join(", ")
                    ),
                ));
            }
        }
    }
    set
}

/// The paths that a key stands for in this file: one, or one for each of the writer's own names. What is inside of a
/// list is none.
fn with_names(key: &str, root: &Node) -> Vec<Vec<String>> {
    if key.contains("[]") {
        return Vec::new();
    }
    let Some((table, rest)) = key.split_once(".*.") else {
        return vec![key.split('.').map(str::to_string).collect()];
    };
    match root.get(table).map(|node| &node.value) {
        Some(Value::Table(entries)) => entries
            .iter()
            .map(|(name, _)| vec![table.to_string(), name.name.clone(), rest.to_string()])
            .collect(),
        _ => Vec::new(),
    }
}

fn dotted(path: &[String]) -> String {
    path.iter()
        .fold(String::new(), |way, name| join(&way, name))
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Complaint {
    let message = "this variable stands for no setting and changes nothing";
    let complaint = Complaint::warning(name, None, "", message);
    let near = nearest(name, known.chain([CONFIG]));
    if let Some(first) = near.first() {
        return complaint.with_help(format!("did you mean `{first}`?"));
    }
    if name.starts_with("MUSTER_WORKERS_") || name.starts_with("MUSTER_OBJECT_TYPES_") {
        return complaint.with_help(
            "a table of your own name must be in the file; then variables can change what it holds",
        );
    }
    complaint
}

/// The variable's text as what the key holds; a text where it is none, and the reader complains.
fn typed(kind: Kind, value: String) -> Value {
    let read = match kind {
        Kind::Bool => value.parse().ok().map(Value::Bool),
        Kind::Int => value.parse().ok().map(Value::Int),
        Kind::Text | Kind::FileOnly => None,
    };
    read.unwrap_or(Value::Text(value))
}

/// Sets the value at the end of a path. Where the file holds something else than a table on the way, nothing is set:
/// that is an error already.
fn put(node: &mut Node, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        *node = Node::new(value);
        return;
    };
    let Value::Table(entries) = &mut node.value else {
        return;
    };
    if !entries.iter().any(|(key, _)| key.name == *name) {
        let empty = Node::new(Value::Table(Vec::new()));
        entries.push((Key::new(name.as_str()), empty));
    }
    let found = entries.iter_mut().find(|(key, _)| key.name == *name);
    if let Some((_, below)) = found {
        put(below, rest, value);
    }
}
