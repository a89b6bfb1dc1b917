//! What people ask is done, and answered: the same for whoever asks on the bus and on the command line.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::command::{Backfill, Command, Page, Start};
use crate::decide::{Desk, Plan, occurrence, request};
use crate::document::nearest;
use crate::ground::{Ground, count_plan, decide_due};
use crate::moment::{Moment, Span};
use crate::object::ObjectKey;
use crate::recurrence::Last;
use crate::run::{Asked, Cause, RunState, Standing, conditions, run_name};
use crate::schedule::{Input, Organization};
use crate::store::{Answered, Commit, Committed, Pause, RunFilter, RunRecord, StoreError, Wanted};
use crate::trigger::Scheduled;
use crate::wire::{Refused, Requested, read_reply, reply};

/// What is answered.
pub type Answer = Result<Value, Refused>;

/// Instants that one backfill may ask for.
const INSTANTS: usize = 10_000;

/// Does what is asked. The same id is answered with the same answer and done once.
pub async fn answer(
    ground: &Ground,
    requested: &Requested,
    who: &str,
) -> Result<Answer, StoreError> {
    let bound = requested.organization.clone().unwrap_or_default();
    if let Some(id) = &requested.id
        && let Some(kept) = ground.store.answer_of(&bound, id).await?
    {
        return Ok(read_reply(&kept));
    }
    let command = match Command::read(&requested.command, &requested.args) {
        Ok(command) => command,
        Err(refused) => return Ok(Err(refused)),
    };
    let clerk = Clerk {
        ground,
        requested,
        bound: requested.organization.as_deref(),
        who,
    };
    let answer = match command {
        Command::RunStart(start) => clerk.start(&start).await?,
        Command::RunGet { run_id } => clerk.run(&run_id).await?.map(|run| as_json(&run)),
        Command::RunList {
            schedule,
            state,
            page,
        } => clerk.runs(schedule.as_deref(), state, page).await?,
        Command::RunCancel { run_id } => clerk.cancel(&run_id).await?,
        Command::SchedulePause { schedule, reason } => clerk.pause(&schedule, &reason).await?,
        Command::ScheduleResume { schedule } => clerk.resume(&schedule).await?,
        Command::ScheduleList { page } => clerk.schedules(page).await?,
        Command::ScheduleBackfill(backfill) => clerk.backfill(&backfill).await?,
        Command::TargetGet { schedule, object } => clerk.target(&schedule, &object).await?,
        Command::TargetList { schedule, page } => clerk.targets(schedule.as_deref(), page).await?,
    };
    if requested.id.is_some()
        && let Some(answered) = clerk.answered(&answer)
    {
        ground.store.answered(&answered, ground.clock.now()).await?;
    }
    Ok(answer)
}

/// Whoever does one request.
struct Clerk<'a> {
    ground: &'a Ground,
    requested: &'a Requested,
    bound: Option<&'a str>,
    who: &'a str,
}

/// Passes a refusal on as the answer.
macro_rules! allowed {
    ($found:expr) => {
        match $found {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}

impl Clerk<'_> {
    async fn catalogue(&self) -> Result<Arc<Catalogue>, StoreError> {
        let revision = self.ground.store.catalogue_revision().await?;
        self.ground.catalogue_at(revision).await
    }

    /// The answer as it is kept, where whoever asked gave an id.
    fn answered(&self, answer: &Answer) -> Option<Answered> {
        let id = self.requested.id.clone()?;
        Some(Answered {
            organization: self.bound.unwrap_or_default().to_owned(),
            command: self.requested.command.clone(),
            answer: reply(Some(&id), answer),
            id,
        })
    }

    /// The schedule of this name or id, as far as the request may see it.
    fn find(&self, catalogue: &Catalogue, name: &str) -> Result<Arc<Scheduled>, Refused> {
        let seen = |scheduled: &&Arc<Scheduled>| {
            self.bound
                .is_none_or(|bound| scheduled.schedule.concerns(bound))
        };
        let known: Vec<&Arc<Scheduled>> = catalogue.schedules.iter().filter(seen).collect();
        let named: Vec<&Arc<Scheduled>> = known
            .iter()
            .copied()
            .filter(|scheduled| scheduled.schedule.id == name || scheduled.schedule.name == name)
            .collect();
        match named.as_slice() {
            [one] => Ok((*one).clone()),
            [] => catalogue.scheduled(name).ok_or_else(|| {
                let names = known
                    .iter()
                    .map(|scheduled| scheduled.schedule.name.as_str());
                not_found("schedule", name, &nearest(name, names))
            }),
            _ => Err(Refused::new(
                "ambiguous",
                format!("several organisations have a schedule `{name}`"),
                "name the organization too",
            )),
        }
    }

    /// The schedule, where the request may change it: one that is for all is not one organisation's to change.
    fn own(&self, catalogue: &Catalogue, name: &str) -> Result<Arc<Scheduled>, Refused> {
        let found = self.find(catalogue, name)?;
        if self.bound.is_some() && found.schedule.organization.is_none() {
            return Err(Refused::new(
                "not_yours",
                format!("the schedule `{name}` is for all organisations"),
                "leave the organization out",
            ));
        }
        Ok(found)
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
            let mut gathered = ground.store.gather(&wanted).await?;
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
            let commit = Commit {
                plan: &plan,
                ..Commit::empty(now, catalogue.revision)
            };
            if ground.store.commit(&commit).await? == Committed::Done {
                count_plan(&plan, &catalogue.rules);
                ground.wake(&plan);
                let runs = self.runs_of_request(&id).await?;
                return Ok(Ok(started(&id, &runs)));
            }
        }
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
                .scheduled(&format!("{}{plugin_id}", crate::schedule::OF_PLUGIN))
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

    /// For whom a request runs: the one that it names, the schedule's own, or all.
    fn organizations(
        &self,
        catalogue: &Catalogue,
        scheduled: &Scheduled,
        on_objects: bool,
    ) -> Result<Vec<Organization>, Refused> {
        let own = scheduled.schedule.organization.as_deref();
        match self.bound.or(own) {
            Some(id) => {
                let known = catalogue.organizations.keys().map(String::as_str);
                let organization = catalogue
                    .organizations
                    .get(id)
                    .ok_or_else(|| not_found("organization", id, &nearest(id, known)))?;
                Ok(vec![organization.clone()])
            }
            None if on_objects && catalogue.organizations.len() != 1 => Err(Refused::new(
                "organization_needed",
                "an object belongs to an organisation, and none is named",
                "name it: organization, or --organization on the command line",
            )),
            None => Ok(catalogue.organizations.values().cloned().collect()),
        }
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
        state: Option<String>,
        page: Page,
    ) -> Result<Answer, StoreError> {
        let schedule_id = match schedule {
            None => String::new(),
            Some(name) => {
                let catalogue = self.catalogue().await?;
                allowed!(self.find(&catalogue, name)).schedule.id.clone()
            }
        };
        let filter = RunFilter {
            schedule_id,
            state: state.unwrap_or_default(),
            organization: self.bound.unwrap_or_default().to_owned(),
            limit: page.limit,
            offset: page.offset,
            ..RunFilter::default()
        };
        let runs = self.ground.store.runs(&filter).await?;
        Ok(Ok(
            json!({"runs": runs.iter().map(as_json).collect::<Vec<_>>()}),
        ))
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
        self.ground.turns.notify_one();
        Ok(self.run(run_id).await?.map(|run| as_json(&run)))
    }

    async fn pause(&self, name: &str, reason: &str) -> Result<Answer, StoreError> {
        let catalogue = self.catalogue().await?;
        let scheduled = allowed!(self.own(&catalogue, name));
        let schedule = &scheduled.schedule;
        // What is due by now was due before the pause.
        decide_due(self.ground, Some(&BTreeSet::from([schedule.id.clone()]))).await?;
        let pause = Pause {
            reason: reason.to_owned(),
            who: self.who.to_owned(),
            at: self.ground.clock.now(),
        };
        let paused = self.ground.store.pause(&schedule.id, &pause).await?;
        self.ground.load_catalogue().await?;
        let known = self.ground.store.pauses().await?;
        let pause = known.get(&schedule.id).unwrap_or(&pause);
        Ok(Ok(json!({
            "schedule_id": schedule.id, "schedule": schedule.name, "changed": paused,
            "paused": {"reason": pause.reason, "who": pause.who, "at": pause.at.to_string()},
            "note": "tasks that exist are untouched",
        })))
    }

    async fn resume(&self, name: &str) -> Result<Answer, StoreError> {
        let catalogue = self.catalogue().await?;
        let scheduled = allowed!(self.own(&catalogue, name));
        let schedule = &scheduled.schedule;
        // What was due by now belongs to the pause.
        decide_due(self.ground, Some(&BTreeSet::from([schedule.id.clone()]))).await?;
        let resumed = self.ground.store.resume(&schedule.id).await?;
        self.ground.load_catalogue().await?;
        Ok(Ok(json!({
            "schedule_id": schedule.id, "schedule": schedule.name, "changed": resumed, "paused": null,
        })))
    }

    async fn schedules(&self, page: Page) -> Result<Answer, StoreError> {
        let catalogue = self.catalogue().await?;
        let pauses = self.ground.store.pauses().await?;
        let from = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let many = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let schedules: Vec<Value> = catalogue
            .schedules
            .by_name()
            .into_iter()
            .map(|scheduled| &scheduled.schedule)
            .filter(|schedule| self.bound.is_none_or(|bound| schedule.concerns(bound)))
            .skip(from)
            .take(many)
            .map(|schedule| {
                let paused = pauses.get(&schedule.id).map(|pause| {
                    json!({"reason": pause.reason, "who": pause.who, "at": pause.at.to_string()})
                });
                json!({
                    "schedule_id": schedule.id, "name": schedule.name, "organization": schedule.organization,
                    "enabled": schedule.enabled, "paused": paused, "revision": schedule.revision,
                    "read_only": schedule.of_plugin(),
                })
            })
            .collect();
        Ok(Ok(json!({"schedules": schedules})))
    }

    async fn backfill(&self, asked: &Backfill) -> Result<Answer, StoreError> {
        let ground = self.ground;
        loop {
            let catalogue = self.catalogue().await?;
            let scheduled = allowed!(self.find(&catalogue, &asked.schedule));
            let schedule = &scheduled.schedule;
            let now = ground.clock.now();
            allowed!(range(asked, now));
            let organizations = allowed!(self.organizations(&catalogue, &scheduled, false));
            let found: Vec<Moment> = scheduled
                .timetable
                .instants(asked.from.minus(Span::from_micros(1)), Last::Never)
                .take_while(|at| *at <= asked.to)
                .take(INSTANTS + 1)
                .collect();
            if found.len() > INSTANTS {
                return Ok(Err(Refused::new(
                    "too_many",
                    format!("there are more than {INSTANTS} instants in this range"),
                    "ask for a shorter range",
                )));
            }
            let done = ground
                .store
                .instants_done(&schedule.id, asked.from, asked.to)
                .await?;
            let mut plan = Plan::default();
            let mut ids = ground.ids();
            let mut listed = Vec::with_capacity(found.len());
            let mut gathered = ground.store.gather(&Wanted::default()).await?;
            for at in found {
                let open: Vec<&Organization> = organizations
                    .iter()
                    .filter(|organization| !done.contains(&(organization.id.clone(), at)))
                    .collect();
                listed.push(json!({"at": at.to_string(), "runs": open.len()}));
                for organization in open {
                    let mut desk = Desk {
                        catalogue: &catalogue,
                        now,
                        ids: &mut ids,
                        plan: &mut plan,
                        findings: None,
                    };
                    occurrence(
                        &mut desk,
                        &mut gathered.world,
                        &scheduled,
                        organization,
                        Cause::Backfill,
                        at,
                    );
                }
            }
            let answer = Ok(json!({
                "schedule_id": schedule.id, "schedule": schedule.name, "dry_run": asked.dry_run,
                "runs": plan.runs.len(), "instants": listed,
            }));
            if asked.dry_run {
                return Ok(answer);
            }
            let commit = Commit {
                plan: &plan,
                answered: self.answered(&answer),
                ..Commit::empty(now, catalogue.revision)
            };
            match ground.store.commit(&commit).await? {
                Committed::Done => {
                    ground.wake(&plan);
                    return Ok(answer);
                }
                Committed::Stale("request") => {
                    let id = self.requested.id.as_deref().unwrap_or_default();
                    let bound = self.bound.unwrap_or_default();
                    if let Some(kept) = ground.store.answer_of(bound, id).await? {
                        return Ok(read_reply(&kept));
                    }
                }
                Committed::Stale(_) => {}
            }
        }
    }

    async fn target(&self, name: &str, object: &str) -> Result<Answer, StoreError> {
        let catalogue = self.catalogue().await?;
        let scheduled = allowed!(self.find(&catalogue, name));
        let organizations = allowed!(self.organizations(&catalogue, &scheduled, true));
        let organization = organizations.first().map_or("", |found| found.id.as_str());
        let schedule = &scheduled.schedule;
        Ok(Ok(self
            .pointers(&schedule.id, &schedule.name, organization, object)
            .await?))
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

fn range(asked: &Backfill, now: Moment) -> Result<(), Refused> {
    if asked.from > asked.to {
        return Err(Refused::new(
            "wrong_range",
            format!("from {} is after to {}", asked.from, asked.to),
            "the range is [from, to]",
        ));
    }
    if asked.to > now {
        return Err(Refused::new(
            "wrong_range",
            format!("to {} is in the future; now is {now}", asked.to),
            "a backfill is for what has gone by; the clock runs the rest",
        ));
    }
    Ok(())
}

fn not_found(noun: &str, name: &str, near: &[&str]) -> Refused {
    let help = match near {
        [] => String::new(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Refused::new("not_found", format!("no {noun} `{name}` is known"), help)
}

fn text(at: Option<Moment>) -> Option<String> {
    at.map(|at| at.to_string())
}

/// What a request that started runs is answered. Whoever is blocked learns by whom.
fn started(id: &str, runs: &[RunRecord]) -> Value {
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

/// Whether a run went well, once it has ended.
pub fn went_well(run: &RunRecord) -> Option<bool> {
    run.state
        .ended()
        .then_some(run.state == RunState::Succeeded)
}
