//! Runs: started, looked at, cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, Clerk, not_found, text};
use crate::catalogue::{Catalogue, Maker};
use crate::command::{Listing, RunCommand, Start};
use crate::decide::{Desk, Plan, World, request};
use crate::document::nearest;
use crate::ground::{count_plan, trail};
use crate::object::{Object, ObjectKey};
use crate::run::{Asked, Standing, conditions, run_name};
use crate::schedule::{Input, OF_PLUGIN};
use crate::store::{self, Commit, Committed, RunFilter, RunRecord, StoreError, Wanted};
use crate::trigger::Scheduled;
use crate::wire::Refused;

/// Keys on each side of one that is not there, among which the nearest is looked for.
const AROUND: i64 = 500;

impl Clerk<'_> {
    pub(super) async fn of_runs(&self, asked: RunCommand) -> Result<Answer, StoreError> {
        match asked {
            RunCommand::Start(start) => self.start(&start).await,
            RunCommand::Get { run_id } => Ok(self.run(&run_id).await?.map(|run| as_json(&run))),
            RunCommand::List { schedule, listing } => self.runs(schedule.as_deref(), listing).await,
            RunCommand::Cancel { run_id } => self.cancel(&run_id).await,
        }
    }

    async fn start(&self, start: &Start) -> Result<Answer, StoreError> {
        let ground = self.ground;
        let id = match &self.requested.id {
            Some(id) => id.clone(),
            None => ground.ids().next(ground.clock.now()),
        };
        let mut scopes = BTreeSet::new();
        loop {
            // Done before, by this or another replica: the run itself keeps the id of its request.
            let done = self.runs_of_request(&id).await?;
            if !done.is_empty() {
                return Ok(Ok(started(&id, &done)));
            }
            let catalogue = self.catalogue().await?;
            let scheduled = allowed!(self.to_start(&catalogue, start));
            let organizations =
                allowed!(self.organizations(&catalogue, &scheduled, !start.objects.is_empty()));
            let mut wanted = Wanted {
                scopes: std::mem::take(&mut scopes),
                among: catalogue.fellows(),
                ..Wanted::default()
            };
            let target = scheduled.schedule.target.iter();
            for primary_key in start.objects.iter().chain(target).chain([&String::new()]) {
                wanted
                    .keys
                    .extend(organizations.iter().map(|organization| ObjectKey {
                        organization: organization.id.clone(),
                        primary_key: primary_key.clone(),
                    }));
            }
            let targets = start.objects.iter();
            let makers = targets.flat_map(|target| scheduled.schedule.makers(target));
            let makers: BTreeSet<Maker> = makers.collect();
            if !makers.is_empty() {
                let ids = organizations.iter().map(|known| known.id.clone());
                wanted.files = ids.map(|id| (id, makers.clone())).collect();
            }
            let mut gathered = ground.store.gather(&wanted).await?;
            // Of a schedule it is a target that is not there, and its run says so; what files are joined of is known by
            // their word alone.
            let named = organizations.iter().filter(|_| start.plugin.is_some());
            for organization in named {
                let known = &gathered.world;
                allowed!(
                    self.are_there(known, &organization.id, &start.objects)
                        .await?
                );
            }
            let now = ground.clock.now();
            let mut plan = Plan::default();
            let mut ids = ground.ids();
            let asked = Asked {
                id: Some(id.clone()),
                objects: start.objects.clone(),
                parameters: start.parameters.clone(),
            };
            for organization in &organizations {
                let mut desk = Desk {
                    catalogue: &catalogue,
                    now,
                    ids: &mut ids,
                    plan: &mut plan,
                    findings: None,
                };
                request(
                    &mut desk,
                    &mut gathered.world,
                    &scheduled,
                    organization,
                    &asked,
                );
            }
            if !gathered.world.unseen.is_empty() {
                scopes = wanted.scopes;
                scopes.append(&mut gathered.world.unseen);
                continue;
            }
            trail::decided(&plan);
            let commit = Commit {
                plan: &plan,
                ..Commit::empty(now, catalogue.revision)
            };
            if ground.store.commit(&commit).await? == Committed::Done {
                count_plan(&plan);
                ground.wake(&plan);
                let runs = self.runs_of_request(&id).await?;
                return Ok(Ok(started(&id, &runs)));
            }
        }
    }

    /// Objects that somebody names are there; else the nearest of the keys around each is told.
    async fn are_there(
        &self,
        world: &World,
        organization: &str,
        objects: &[String],
    ) -> Result<Result<(), Refused>, StoreError> {
        for primary_key in objects {
            let key = ObjectKey {
                organization: organization.to_owned(),
                primary_key: primary_key.clone(),
            };
            let known = world.objects.get(&key);
            if known.is_some_and(Object::live) {
                continue;
            }
            let around = self.ground.store.keys_around(&key, AROUND).await?;
            let near = nearest(primary_key, around.iter().map(String::as_str));
            let mut refused = not_found("object", primary_key, &near);
            refused.message = format!("{} in {organization}", refused.message);
            if known.is_some() {
                refused.help = "it was there, and has been deleted".to_owned();
            }
            return Ok(Err(refused));
        }
        Ok(Ok(()))
    }

    fn to_start(&self, catalogue: &Catalogue, start: &Start) -> Result<Arc<Scheduled>, Refused> {
        let needs_objects = |what: String| {
            Err(Refused::new(
                "objects_needed",
                what,
                "name them: objects, or --object on the command line",
            ))
        };
        if let Some(plugin_id) = &start.plugin {
            let known = catalogue.plugins.keys().map(String::as_str);
            let plugin = catalogue
                .plugins
                .get(plugin_id)
                .ok_or_else(|| not_found("plugin", plugin_id, &nearest(plugin_id, known)))?;
            if start.objects.is_empty() && !plugin.runs_without_input() {
                let takes = plugin.input_types.join(", ");
                return needs_objects(format!("the plugin `{plugin_id}` takes {takes}"));
            }
            return catalogue
                .scheduled(&format!("{}{plugin_id}", OF_PLUGIN))
                .ok_or_else(|| not_found("plugin", plugin_id, &[]));
        }
        let name = start.schedule.as_deref().unwrap_or_default();
        let scheduled = self.find(catalogue, name)?;
        let schedule = &scheduled.schedule;
        let triggered = !schedule.run_on.is_empty() && matches!(schedule.input, Input::Given);
        if triggered && schedule.target.is_none() && start.objects.is_empty() {
            let on = schedule.run_on.join(", ");
            return needs_objects(format!("the schedule `{name}` runs on changes of {on}"));
        }
        Ok(scheduled)
    }

    async fn runs_of_request(&self, id: &str) -> Result<Vec<RunRecord>, StoreError> {
        let filter = RunFilter {
            request_id: id.to_owned(),
            organization: self.bound.unwrap_or_default().to_owned(),
            limit: 100_000,
            ..RunFilter::default()
        };
        self.ground.store.runs(&filter).await
    }

    async fn run(&self, run_id: &str) -> Result<Result<RunRecord, Refused>, StoreError> {
        let filter = RunFilter {
            id: run_id.to_owned(),
            organization: self.bound.unwrap_or_default().to_owned(),
            limit: 1,
            ..RunFilter::default()
        };
        let found = self.ground.store.runs(&filter).await?.pop();
        Ok(found.ok_or_else(|| not_found("run", run_id, &[])))
    }

    async fn runs(
        &self,
        schedule: Option<&str>,
        mut listing: Listing,
    ) -> Result<Answer, StoreError> {
        if let Some(name) = schedule {
            let catalogue = self.catalogue().await?;
            let scheduled = allowed!(self.find(&catalogue, name));
            listing.filter = listing.filter.with("schedule_id", &scheduled.schedule.id);
        }
        let shown = super::rows(
            &self.ground.store,
            &listing,
            self.bound,
            self.ground.clock.now(),
        )
        .await?;
        let ids = shown.rows.iter().map(store::Listing::position).collect();
        let filter = RunFilter {
            ids: Some(ids),
            limit: listing.limit,
            ..RunFilter::default()
        };
        let runs = self.ground.store.runs(&filter).await?;
        Ok(Ok(json!({
            "runs": runs.iter().map(as_json).collect::<Vec<_>>(), "next": shown.next,
        })))
    }

    async fn cancel(&self, run_id: &str) -> Result<Answer, StoreError> {
        let run = allowed!(self.run(run_id).await?);
        if run.state.ended() {
            return Ok(Err(Refused::new(
                "ended",
                format!("the run has ended already: {}", run.state.word()),
                "",
            )));
        }
        let now = self.ground.clock.now();
        self.ground.store.cancel_run(run_id, now).await?;
        self.ground.ended();
        Ok(self.run(run_id).await?.map(|run| as_json(&run)))
    }
}

/// What a request that started runs is answered. Whoever is blocked learns by whom.
pub fn started(id: &str, runs: &[RunRecord]) -> Value {
    let told: Vec<Value> = runs
        .iter()
        .map(|run| {
            json!({
                "run_id": run.id, "run_name": run_name(&run.schedule, &run.id), "organization": run.organization,
                "state": run.state.word(), "reason": run.reason, "blocked_by": run.blocked_by,
                "tasks": run.counts[0], "refused": run.refused,
            })
        })
        .collect();
    let mut answer = match told.as_slice() {
        [one] => one.clone(),
        _ => json!({}),
    };
    answer["request_id"] = json!(id);
    answer["runs"] = Value::Array(told);
    answer
}

/// A run as people see it.
pub fn as_json(run: &RunRecord) -> Value {
    let [total, succeeded, failed, cancelled] = run.counts;
    let standing = Standing {
        state: run.state,
        reason: run.reason.as_deref(),
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        completed_at: run.completed_at,
        counts: run.counts,
    };
    let conditions: Vec<Value> = conditions(&standing)
        .into_iter()
        .map(|condition| {
            json!({
                "type": condition.kind, "status": condition.status, "reason": condition.reason,
                "message": condition.message, "transition_at": text(condition.transition_at),
                "observed_revision": run.schedule_revision,
            })
        })
        .collect();
    let mut told = json!({
        "run_id": run.id, "run_name": run_name(&run.schedule, &run.id), "schedule": run.schedule,
        "schedule_id": run.schedule_id, "schedule_revision": run.schedule_revision,
        "organization": run.organization, "cause": run.cause, "target": run.target,
        "scheduled_for": run.scheduled_for.to_string(), "created_at": run.created_at.to_string(),
        "started_at": text(run.started_at), "finished_at": text(run.finished_at),
        "completed_at": text(run.completed_at), "state": run.state.word(), "reason": run.reason,
        "blocked_by": run.blocked_by, "parent_id": run.parent_id, "request_id": run.request_id,
        "position": run.position,
        "counters": {
            "total": total, "done": succeeded + failed + cancelled, "succeeded": succeeded, "failed": failed,
            "cancelled": cancelled, "refused": run.refused,
        },
        "conditions": conditions,
    });
    if let Some((from, until, count)) = run.gap {
        told["gap"] = json!({"from": from.to_string(), "to": until.to_string(), "count": count});
    }
    told
}
