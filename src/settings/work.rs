//! What `muster work` works with. Its arguments win over these.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Secret;
use super::written::{queue_name, set};
use crate::document::Table;
use crate::moment::Span;
use crate::worker::{Template, words};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkSettings {
    /// Default: the host's name and the number of the process.
    pub name: Option<String>,
    pub types: Vec<String>,
    /// Another queue than that of the types.
    pub queue: Option<String>,
    pub concurrency: usize,
    /// A folder, or `s3://bucket/prefix`.
    pub store: Option<String>,
    /// The words of the interpreter for each runtime.
    pub runtimes: BTreeMap<String, Vec<String>>,
    /// A command for each task, in place of scripts.
    pub exec: Option<Template>,
    /// Default: where the system keeps what is temporary.
    pub scratch: Option<PathBuf>,
    pub grace: Span,
    pub log_bound: usize,
    pub environment: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    /// Which of the keys signs its statuses.
    pub key: Option<String>,
}

impl Default for WorkSettings {
    fn default() -> WorkSettings {
        let runtime = |name: &str, program: &str| (name.to_owned(), vec![program.to_owned()]);
        WorkSettings {
            name: None,
            types: Vec::new(),
            queue: None,
            concurrency: 1,
            store: None,
            runtimes: [
                runtime("python", "python3"),
                runtime("ruby", "ruby"),
                runtime("sh", "sh"),
            ]
            .into(),
            exec: None,
            scratch: None,
            grace: Span::seconds(10),
            log_bound: 1024 * 1024,
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            key: None,
        }
    }
}

pub(super) fn read(mut t: Table<'_, '_>, work: &mut WorkSettings) {
    work.name = t.word("name");
    set(&mut work.types, t.texts("types"));
    work.queue = t.parsed("queue", queue_name);
    set(&mut work.concurrency, t.int_in("concurrency", 1..=256));
    work.store = t.word("store");
    let runtimes = t.entries("runtimes", |key, field| {
        let words = field.parsed(interpreter)?;
        Some((key.name.clone(), words))
    });
    work.runtimes.extend(runtimes.unwrap_or_default());
    work.exec = t.parsed("exec", Template::parse);
    work.scratch = t.word("scratch").map(PathBuf::from);
    set(&mut work.grace, t.span("grace"));
    // Below this there would be no end of a log to report.
    set(
        &mut work.log_bound,
        t.int_in("log_bound", 8192..=67_108_864),
    );
    let environment = t.entries("environment", |key, mut field| {
        if let Err(message) = variable_name(&key.name) {
            field.complain(message);
        }
        Some((key.name.clone(), field.text()?))
    });
    work.environment = environment.unwrap_or_default().into_iter().collect();
    let secrets = t.entries("secrets", |key, mut field| {
        if let Err(message) = variable_name(&key.name) {
            field.complain(message);
        }
        Some((key.name.clone(), Secret::new(field.secret()?)))
    });
    work.key = t.word("key");
    work.secrets = secrets.unwrap_or_default().into_iter().collect();
    t.finish();
}

fn interpreter(text: &str) -> Result<Vec<String>, String> {
    let words = words(text)?;
    if words.is_empty() {
        return Err("a runtime is the command line of its interpreter: `python3 -I`".to_owned());
    }
    Ok(words)
}

fn variable_name(name: &str) -> Result<(), String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(sound) {
        return Err("the name of a variable has letters, digits and `_`".to_owned());
    }
    if name.starts_with("MUSTER_TASK_") {
        return Err("variables that begin with MUSTER_TASK_ are those of the task".to_owned());
    }
    Ok(())
}
