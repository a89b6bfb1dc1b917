//! What the settings say, as the rooms below want to know it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Failure;
use super::output::complain;
use crate::bus::{Intake, Role, TaskQueue, Topology};
use crate::document::Complaint;
use crate::ground::{Ground, IntakeRule};
use crate::moment::Moment;
use crate::object::TypeNames;
use crate::policy::Order;
use crate::query::Types;
use crate::rules::{Rules, compile_splits};
use crate::settings::{EVENTS, Settings, variables};
use crate::signature::Keys;
use crate::store::Store;

/// Loads the settings; warnings go to standard error.
pub(super) fn load(path: Option<&Path>) -> Result<Settings, Failure> {
    match Settings::load(path, variables()) {
        Ok((settings, warnings)) => {
            complain(&warnings);
            Ok(settings)
        }
        Err(complaints) => Err(Failure::Wrong(complaints)),
    }
}

/// The keys of the settings, as they sign and are checked.
pub fn keys(settings: &Settings) -> Keys {
    let mut keys = Keys::new(settings.require_signatures);
    for key in &settings.keys {
        keys.add(&key.id, key.secret.expose().as_bytes(), &key.organizations);
    }
    keys
}

/// Compiles what the settings say about deciding.
pub fn rules(settings: &Settings) -> Result<Rules, Vec<Complaint>> {
    let mut wrong = Vec::new();
    let mut names = TypeNames {
        open: settings.open_types,
        ..TypeNames::default()
    };
    let mut types = Types::new();
    let mut rules = Rules {
        workers: settings.workers.clone(),
        defaults: settings.defaults,
        open_organizations: settings.open_organizations,
        plugin_timezone: Some(settings.plugin_recurrences.timezone.clone()),
        plugin_spread: settings.plugin_recurrences.spread,
        keys: keys(settings),
        ..Rules::default()
    };
    for (name, declared) in &settings.object_types {
        names.declared.push(name.clone());
        for alias in &declared.aliases {
            names.aliases.insert(alias.clone(), name.clone());
        }
        rules
            .natural_names
            .insert(name.clone(), declared.name.clone());
        rules.ignore.insert(name.clone(), declared.ignore.clone());
        if let Some(fields) = &declared.fields {
            let words: Vec<(&str, &str)> = fields
                .iter()
                .map(|(field, word)| (field.as_str(), word.as_str()))
                .collect();
            if let Err(message) = types.declare(name, &words) {
                wrong.push(settings.complaint(&format!("object_types.{name}.fields"), message));
            }
            rules.closed.push(name.clone());
        }
    }
    match compile_splits(&settings.workers) {
        Ok(splits) => rules.splits = splits,
        Err(messages) => {
            for message in messages {
                wrong.push(settings.complaint("workers", message));
            }
        }
    }
    rules.names = names;
    rules.types = types;
    if wrong.is_empty() {
        Ok(rules)
    } else {
        Err(wrong)
    }
}

/// Store, rules and clock for the service and for who writes: a database that is not there will be made.
pub(super) async fn ground(settings: &Settings) -> Result<Arc<Ground>, Failure> {
    ground_on(settings, Store::open(settings.store.url.expose()).await?)
}

/// The same on a store that is open.
pub(super) fn ground_on(settings: &Settings, store: Store) -> Result<Arc<Ground>, Failure> {
    let rules = rules(settings).map_err(Failure::Wrong)?;
    store.tell_life(settings.lifecycle.enabled);
    let intakes = settings
        .bus
        .intake
        .iter()
        .map(|intake| IntakeRule {
            queue: intake.queue.clone(),
            order: intake.order,
            format: intake.format,
        })
        .collect();
    Ok(Arc::new(Ground::new(
        store,
        Arc::new(rules),
        intakes,
        seed(),
        CancellationToken::new(),
    )))
}

/// Chance comes from the operating system, once.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_i64(Moment::now().micros());
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// All that is declared at the broker and read from it. `worker_types` are those of the plugins.
pub(super) fn topology(
    settings: &Settings,
    worker_types: impl Iterator<Item = String>,
) -> Topology {
    let mut queues: BTreeMap<String, TaskQueue> = BTreeMap::new();
    let known: Vec<String> = settings
        .workers
        .keys()
        .cloned()
        .chain(worker_types)
        .collect();
    for worker_type in known {
        let worker = settings.worker(&worker_type);
        for queue in worker.queues() {
            let routing_key = if queue == worker.queue {
                worker_type.clone()
            } else {
                queue.to_owned()
            };
            queues.insert(
                queue.to_owned(),
                TaskQueue {
                    queue: queue.to_owned(),
                    routing_key,
                },
            );
        }
    }
    Topology {
        role: Role::Service,
        intakes: settings
            .bus
            .intake
            .iter()
            .map(|intake| Intake {
                queue: intake.queue.clone(),
                native: intake.queue == EVENTS,
                exclusive: intake.order == Order::Arrival,
            })
            .collect(),
        task_queues: queues.into_values().collect(),
        prefetch: settings.bus.prefetch,
    }
}
