//! What workers need: a store of scripts, task messages, and an eye on processes.

#![allow(dead_code)] // each test binary uses a part of it

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::process::{Dialogue, House, PATIENCE};

/// The folder of scripts and logs of a house.
pub struct Store(PathBuf);

impl Store {
    pub fn of(house: &House) -> Store {
        let folder = house.path("store");
        fs::create_dir_all(&folder).expect("make the store");
        Store(folder)
    }

    pub fn put(&self, path: &str, script: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, script).expect("write a script");
    }

    pub fn text(&self, path: &str) -> String {
        let path = self.0.join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path")
    }
}

/// A task message as the service writes it, for a script; `more` is laid over it.
pub fn task(id: &str, artefact: &str, more: Value) -> Value {
    let mut task = json!({
        "id": id, "attempt": 1, "run_id": "r-1", "run_name": "nightly-00000001", "schedule": "nightly",
        "organization": "acme", "worker_type": "script",
        "plugin": {"plugin_id": "backup", "version": "1", "oci_image": null, "oci_arguments": [], "runtime": "sh", "artefact": artefact},
        "arguments": [], "inputs": [], "settings": {}, "parameters": {}, "secrets": [], "deduplication_key": null,
        "expires_at": "2999-01-01T00:00:00Z", "trigger": null, "cause": "on_time", "priority": 3,
        "scheduled_for": "2026-11-21T09:30:00Z", "created_at": "2026-11-21T09:30:00Z", "late_by_s": 0,
        "timeouts": {"queue_s": 3600, "heartbeat_s": 60, "run_s": 900}, "avoid_workers": [], "traceparent": null
    });
    lay_over(&mut task, more);
    task
}

fn lay_over(value: &mut Value, more: Value) {
    match (value, more) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, more) in new {
                lay_over(old.entry(name).or_insert(Value::Null), more);
            }
        }
        (value, more) => *value = more,
    }
}

/// The next status of a task that is no heartbeat.
pub fn next_of(worker: &mut Dialogue, id: &str) -> Value {
    loop {
        let said = worker.hear();
        if said["task_id"] == id && said["status"] != "heartbeat" {
            return said;
        }
    }
}

/// Runs one task to its end; answers with the status that ends it.
pub fn end_of(worker: &mut Dialogue, task: &Value) -> Value {
    let id = task["id"].as_str().expect("an id");
    worker.say(&task.to_string());
    let accepted = next_of(worker, id);
    assert_eq!(accepted["status"], "accepted", "{accepted}");
    next_of(worker, id)
}

/// Whether a process is there, and not only its shell of a zombie.
pub fn lives(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z")),
        Err(_) => false,
    }
}

/// The number that a script wrote into a file.
pub fn number_in(path: &std::path::Path) -> u32 {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if let Some(line) = text.strip_suffix('\n') {
            return line.parse().expect("a number");
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "no number in {}",
            path.display()
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
