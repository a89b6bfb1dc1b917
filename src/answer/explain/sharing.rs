//! Tasks that share an outcome with those of other organisations: only who may see all of these is told of it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::Clerk;
use super::FOLLOWERS;
use super::task::Told;
use crate::store::{StoreError, TaskRecord};
use crate::task::TaskState;

impl Clerk<'_> {
    /// The tasks of other organisations whose outcome it shares, or that share its own.
    pub(super) async fn of_sharing(
        &self,
        task: &TaskRecord,
        told: &mut Told,
        more: &mut Map<String, Value>,
    ) -> Result<(), StoreError> {
        let store = &self.ground.store;
        let leader = match &task.shared_from {
            Some(id) => store.task_record(id, "").await?,
            None => None,
        };
        let named = |leader: &TaskRecord| {
            format!(
                "the task {} of {} ({})",
                leader.id, leader.organization, leader.state
            )
        };
        if task.on_behalf {
            let whose = leader
                .as_ref()
                .map_or("another organisation", |leader| &leader.organization);
            told.exists.push(format!(
                "it was made with that of {whose}, which has the same object: nobody in {} has asked for it yet",
                task.organization
            ));
        }
        if task.state == TaskState::Waiting.word() {
            let whose = leader
                .as_ref()
                .map_or_else(|| "another task".to_owned(), named);
            told.stand(
                "shared",
                format!(
                    "{whose} does the same work: it shares that outcome if it is success, and is queued if it is not"
                ),
            );
        } else if let Some(id) = &task.shared_from {
            let whose = match &leader {
                Some(leader) => named(leader),
                None => format!("the task {id}, which is no longer kept"),
            };
            told.stand("shared", format!("it shares the outcome of {whose}"));
        }
        let waiting = store
            .waiting_for(&BTreeSet::from([task.id.as_str()]), FOLLOWERS)
            .await?;
        if !waiting.is_empty() {
            let names = waiting.iter();
            let names: Vec<String> = names
                .map(|other| format!("{} of {}", other.task_id, other.organization))
                .collect();
            told.stand(
                "waited_for",
                format!("these wait for its outcome: {}", names.join(", ")),
            );
        }
        more.insert("shared_from".to_owned(), json!(task.shared_from));
        let waiting = waiting
            .iter()
            .map(|other| json!({"id": other.task_id, "organization": other.organization}));
        more.insert("waiting_for_it".to_owned(), waiting.collect());
        Ok(())
    }
}
