//! Queues: what waits in them and since when, how much of their credit is in use; paused and resumed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Answer, Clerk, not_found};
use crate::command::QueueCommand;
use crate::document::nearest;
use crate::policy::{Acknowledge, WorkerSettings};
use crate::store::{Pause, QueueRecord, StoreError};
use crate::wire::Refused;

/// The classes by their numbers.
pub(super) const CLASSES: [&str; 3] = ["manual", "event", "recurring"];

impl Clerk<'_> {
    pub(super) async fn of_queues(&self, asked: QueueCommand) -> Result<Answer, StoreError> {
        match asked {
            QueueCommand::List => {
                let queues = self.queues().await?;
                let told: Vec<Value> = queues
                    .iter()
                    .map(|(record, worker)| as_json(record, worker.as_ref()))
                    .collect();
                Ok(Ok(json!({"queues": told})))
            }
            QueueCommand::Pause { queue, reason } => {
                allowed!(self.for_all(&queue));
                allowed!(self.queue(&queue).await?);
                let pause = Pause {
                    reason,
                    who: self.who.to_owned(),
                    at: self.ground.clock.now(),
                };
                let changed = self.ground.store.pause_queue(&queue, &pause).await?;
                let record = allowed!(self.queue(&queue).await?);
                Ok(Ok(json!({
                    "queue": queue, "changed": changed, "paused": paused(&record),
                    "note": "what is at the broker is untouched",
                })))
            }
            QueueCommand::Resume { queue } => {
                allowed!(self.for_all(&queue));
                allowed!(self.queue(&queue).await?);
                let changed = self.ground.store.resume_queue(&queue).await?;
                self.ground.dispatch.notify_one();
                Ok(Ok(
                    json!({"queue": queue, "changed": changed, "paused": null}),
                ))
            }
        }
    }

    /// Queues that settings and plugins name, and those that have something in them all the same.
    async fn queues(&self) -> Result<Vec<(QueueRecord, Option<WorkerSettings>)>, StoreError> {
        let mut lanes = self.catalogue().await?.lanes();
        let found = self.ground.store.queues(self.bound).await?;
        let mut queues: BTreeMap<String, (QueueRecord, Option<WorkerSettings>)> = BTreeMap::new();
        for record in found {
            let worker = lanes.remove(&record.name);
            queues.insert(record.name.clone(), (record, worker));
        }
        for (name, worker) in lanes {
            let empty = QueueRecord {
                name: name.clone(),
                ..QueueRecord::default()
            };
            queues.insert(name, (empty, Some(worker)));
        }
        Ok(queues.into_values().collect())
    }

    async fn queue(&self, name: &str) -> Result<Result<QueueRecord, Refused>, StoreError> {
        let queues = self.queues().await?;
        let mut known = queues.iter().map(|(record, _)| record);
        Ok(match known.find(|record| record.name == name) {
            Some(record) => Ok(record.clone()),
            None => {
                let names = queues.iter().map(|(record, _)| record.name.as_str());
                Err(not_found("queue", name, &nearest(name, names)))
            }
        })
    }

    /// Every organisation's tasks wait in one queue.
    fn for_all(&self, queue: &str) -> Result<(), Refused> {
        match self.bound {
            None => Ok(()),
            Some(_) => Err(Refused::new(
                "not_yours",
                format!("the queue `{queue}` is for all organisations"),
                "leave the organization out",
            )),
        }
    }
}

fn paused(record: &QueueRecord) -> Option<Value> {
    record
        .paused
        .as_ref()
        .map(|pause| json!({"reason": pause.reason, "who": pause.who, "at": pause.at.to_string()}))
}

fn as_json(record: &QueueRecord, worker: Option<&WorkerSettings>) -> Value {
    let mut waiting = Map::new();
    let mut oldest = Map::new();
    for (class, word) in (0..).zip(CLASSES) {
        let depth = record.waiting.get(&class);
        waiting.insert(word.to_owned(), json!(depth.map_or(0, |depth| depth.many)));
        let since = depth.map(|depth| depth.oldest.to_string());
        oldest.insert(word.to_owned(), json!(since));
    }
    let until_end = worker.is_some_and(|worker| worker.acknowledge == Acknowledge::Publish);
    let in_use = record.dispatched + if until_end { record.running } else { 0 };
    let credit = worker.map(|worker| worker.credit);
    json!({
        "queue": record.name, "waiting": waiting, "oldest": oldest, "delayed": record.delayed, "sharing": record.sharing,
        "dispatched": record.dispatched, "running": record.running,
        "credit": credit.filter(|credit| *credit > 0), "credit_in_use": in_use, "paused": paused(record),
    })
}
