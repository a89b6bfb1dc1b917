//! Targets: what an object shows of the schedules that run on it.

use serde_json::{Value, json};

use super::{Answer, Clerk, text};
use crate::command::{Page, TargetCommand};
use crate::object::ObjectKey;
use crate::run::run_name;
use crate::store::{RunRecord, StoreError, Wanted};

impl Clerk<'_> {
    pub(super) async fn of_targets(&self, asked: TargetCommand) -> Result<Answer, StoreError> {
        match asked {
            TargetCommand::Get { schedule, object } => self.target(&schedule, &object).await,
            TargetCommand::List { schedule, page } => self.targets(schedule.as_deref(), page).await,
        }
    }

    async fn target(&self, name: &str, object: &str) -> Result<Answer, StoreError> {
        let catalogue = self.catalogue().await?;
        let scheduled = allowed!(self.find(&catalogue, name));
        let organizations = allowed!(self.organizations(&catalogue, &scheduled, true));
        let organization = organizations.first().map_or("", |found| found.id.as_str());
        let schedule = &scheduled.schedule;
        let pointers = self
            .pointers(&schedule.id, &schedule.name, organization, object)
            .await?;
        // What has runs of its own is a target, whether an object of that key is known (yet, or still) or not.
        if pointers["last"].is_null() && pointers["running"].is_null() {
            let key = ObjectKey {
                organization: organization.to_owned(),
                primary_key: object.to_owned(),
            };
            let mut wanted = Wanted::default();
            wanted.keys.insert(key.clone());
            let world = self.ground.store.gather(&wanted).await?.world;
            let its_own = schedule.target.as_deref() == Some(object);
            // What files are joined of is known by their word alone.
            let told_of = its_own || !schedule.join.is_empty();
            if !told_of && !world.objects.contains_key(&key) {
                return Ok(Err(self.no_object(organization, object).await?));
            }
        }
        Ok(Ok(pointers))
    }

    async fn targets(&self, schedule: Option<&str>, page: Page) -> Result<Answer, StoreError> {
        let schedule_id = match schedule {
            None => String::new(),
            Some(name) => {
                let catalogue = self.catalogue().await?;
                allowed!(self.find(&catalogue, name)).schedule.id.clone()
            }
        };
        let bound = self.bound.unwrap_or_default();
        let found = self
            .ground
            .store
            .targets(bound, &schedule_id, page.limit, page.offset)
            .await?;
        let mut targets = Vec::with_capacity(found.len());
        for [schedule_id, schedule, organization, target] in found {
            targets.push(
                self.pointers(&schedule_id, &schedule, &organization, &target)
                    .await?,
            );
        }
        Ok(Ok(json!({ "targets": targets })))
    }

    async fn pointers(
        &self,
        schedule_id: &str,
        schedule: &str,
        organization: &str,
        target: &str,
    ) -> Result<Value, StoreError> {
        let pointers = self
            .ground
            .store
            .pointers(schedule_id, organization, target)
            .await?;
        let shown = |run: &Option<RunRecord>| {
            run.as_ref().map(|run| {
                json!({
                    "cause": run.cause, "started_at": text(run.started_at), "finished_at": text(run.finished_at),
                    "run_name": run_name(&run.schedule, &run.id), "run_id": run.id,
                    "schedule_revision": run.schedule_revision, "state": run.state.word(),
                })
            })
        };
        Ok(json!({
            "schedule_id": schedule_id, "schedule": schedule, "organization": organization, "object": target,
            "running": shown(&pointers.running), "last": shown(&pointers.last),
            "last_success": shown(&pointers.last_success), "last_failure": shown(&pointers.last_failure),
        }))
    }
}
