//! How much there is, and who is at work.

use serde_json::{Value, json};

use super::{Answer, Clerk};
use crate::store::StoreError;

impl Clerk<'_> {
    /// Whoever speaks for one organisation is told of that alone.
    pub(super) async fn stats(&self) -> Result<Answer, StoreError> {
        let store = &self.ground.store;
        let mut told = store.census(self.bound.unwrap_or_default()).await?;
        told["now"] = json!(self.ground.clock.now().to_string());
        let catalogue = self.catalogue().await?;
        let seen = |organization: &Option<String>| {
            self.bound
                .is_none_or(|bound| organization.as_deref().is_none_or(|own| own == bound))
        };
        let schedules = catalogue.schedules.iter();
        let schedules = schedules
            .filter(|scheduled| seen(&scheduled.schedule.organization))
            .count();
        told["schedules"] = json!(schedules);
        told["plugins"] = json!(catalogue.plugins.len());
        if self.bound.is_some() {
            return Ok(Ok(told));
        }
        told["organizations"] = json!(catalogue.organizations.len());
        told["revision"] = json!(catalogue.revision);
        told["objects"] = json!(store.count_objects().await?);
        told["unreadable_messages"] = json!(store.count_dead_letters().await?);
        let replicas: Vec<Value> = store
            .replicas()
            .await?
            .into_iter()
            .map(|(id, started, beat, loops)| {
                json!({
                    "id": id, "started_at": started.to_string(), "beat_at": beat.to_string(), "loops": loops,
                })
            })
            .collect();
        told["replicas"] = json!(replicas);
        Ok(Ok(told))
    }
}
