//! Values that are right alone and wrong beside each other.

use std::collections::BTreeMap;

use super::{EVENTS, Settings};
use crate::document::{Complaints, join};

/// Queues that carry something else than tasks, whatever the settings say.
pub(super) const TAKEN: [(&str, &str); 3] = [
    (EVENTS, "native events"),
    ("muster.status", "the statuses of workers"),
    ("muster.commands", "commands"),
];

pub(super) fn check(settings: &Settings, complaints: &mut Complaints) {
    queues(settings, complaints);
    workers(settings, complaints);
    object_types(settings, complaints);
    keys(settings, complaints);
    batches(settings, complaints);
}

/// Each queue has one use. Intakes were compared with each other when they were read.
fn queues(settings: &Settings, complaints: &mut Complaints) {
    let taken = TAKEN.map(|(queue, what)| (queue.to_string(), what.to_string()));
    let mut uses: BTreeMap<String, String> = taken.into();
    for intake in settings.bus.intake.iter().skip(1) {
        uses.insert(intake.queue.clone(), "an intake".to_string());
    }
    let mut claim = |queue: &str, path: String, what: String| {
        if let Some(before) = uses.get(queue) {
            let message = format!("the queue `{queue}` is that of {before} already");
            complaints.error(None, &path, message);
        } else {
            uses.insert(queue.to_string(), what);
        }
    };
    for (name, worker) in &settings.workers {
        let way = join("workers", name);
        for (i, part) in worker.split.iter().enumerate() {
            let path = format!("{way}.split[{i}].queue");
            claim(&part.queue, path, format!("a part of the workers `{name}`"));
        }
        let path = format!("{way}.queue");
        claim(&worker.queue, path, format!("the workers `{name}`"));
    }
}

fn workers(settings: &Settings, complaints: &mut Complaints) {
    for (name, worker) in &settings.workers {
        if u64::from(worker.credit) > worker.limit {
            let path = format!("{}.credit", join("workers", name));
            complaints.error(
                None,
                &path,
                format!(
                    "a credit of {} is more than the {} heads that `limit` holds",
                    worker.credit, worker.limit
                ),
            );
        }
        if worker.limit > worker.stored_limit {
            let path = format!("{}.limit", join("workers", name));
            complaints.error(
                None,
                &path,
                format!(
                    "{} heads in memory are more than the {} tasks that `stored_limit` lets in",
                    worker.limit, worker.stored_limit
                ),
            );
        }
    }
}

/// A name or an alias means one type.
fn object_types(settings: &Settings, complaints: &mut Complaints) {
    let mut meaning: BTreeMap<&str, &str> = BTreeMap::new();
    for name in settings.object_types.keys() {
        meaning.insert(name, name);
    }
    for (name, object_type) in &settings.object_types {
        for alias in &object_type.aliases {
            if let Some(other) = meaning.insert(alias, name)
                && other != name
            {
                let path = format!("{}.aliases", join("object_types", name));
                let message = format!("`{alias}` means the object type `{other}` already");
                complaints.error(None, &path, message);
            }
        }
        if let Some(fields) = &object_type.fields
            && object_type.name != "name"
            && !fields.iter().any(|(field, _)| *field == object_type.name)
        {
            let path = format!("{}.name", join("object_types", name));
            let message = format!("`{}` is none of the fields of `{name}`", object_type.name);
            complaints.error(None, &path, message);
        }
    }
}

fn keys(settings: &Settings, complaints: &mut Complaints) {
    for (i, key) in settings.keys.iter().enumerate() {
        if settings.keys.iter().take(i).any(|other| other.id == key.id) {
            let message = format!("the key `{}` is there twice", key.id);
            complaints.error(None, &format!("keys[{i}].id"), message);
        }
    }
    if let Some(key) = &settings.work.key
        && !settings.keys.iter().any(|known| known.id == *key)
    {
        let known: Vec<&str> = settings.keys.iter().map(|key| key.id.as_str()).collect();
        complaints.error(
            None,
            "work.key",
            format!(
                "there is no key `{key}` in [[keys]]; known: {}",
                known.join(", ")
            ),
        );
    }
    if settings.require_signatures && settings.bus.url.scheme() == "lines" {
        complaints.error(
            None,
            "require_signatures",
            "lines have no headers, so nothing there can be signed; it is for a broker (bus.url)",
        );
    }
    if settings.require_signatures && settings.keys.is_empty() {
        complaints.warning(
            None,
            "require_signatures",
            "signatures are required and there are no `keys`: every command and status will be refused",
        );
    }
}

fn batches(settings: &Settings, complaints: &mut Complaints) {
    let bus = &settings.bus;
    if bus.batch.count > usize::from(bus.prefetch) {
        complaints.warning(
            None,
            "bus.batch.count",
            format!(
                "a batch of {} is never full: `bus.prefetch` hands over no more than {}",
                bus.batch.count, bus.prefetch
            ),
        );
    }
}
