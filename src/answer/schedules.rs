//! Schedules: paused and resumed, listed, looked ahead, run for what has gone by.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Answer, Clerk};
use crate::command::{Backfill, Page, ScheduleCommand};
use crate::decide::{Desk, Plan, occurrence};
use crate::ground::decide_due;
use crate::moment::{Moment, Span};
use crate::recurrence::{Last, Timetable};
use crate::run::Cause;
use crate::schedule::Organization;
use crate::store::{Commit, Committed, Pause, StoreError, Wanted};
use crate::trigger::Scheduled;
use crate::wire::Refused;

/// Instants that one backfill may ask for.
const INSTANTS: usize = 10_000;

impl Clerk<'_> {
    pub(super) async fn of_schedules(&self, asked: ScheduleCommand) -> Result<Answer, StoreError> {
        match asked {
            ScheduleCommand::Pause { schedule, reason } => self.pause(&schedule, &reason).await,
            ScheduleCommand::Resume { schedule } => self.resume(&schedule).await,
            ScheduleCommand::List { page } => self.schedules(page).await,
            ScheduleCommand::Backfill(backfill) => self.backfill(&backfill).await,
            ScheduleCommand::Preview(asked) => {
                let catalogue = self.catalogue().await?;
                let scheduled = allowed!(self.find(&catalogue, &asked.schedule));
                let after = asked.after.unwrap_or_else(|| self.ground.clock.now());
                Ok(Ok(preview(&scheduled, after, asked.number)))
            }
        }
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
        let resumed = self
            .ground
            .store
            .resume(&schedule.id, self.who, self.ground.clock.now())
            .await?;
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
            if scheduled.timetable.is_empty() {
                return Ok(Err(Refused::new(
                    "no_recurrences",
                    format!(
                        "the clock does not start the schedule `{}`: it has no `recurrences`, so no instant has gone by",
                        schedule.name
                    ),
                    "run.start starts it now",
                )));
            }
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
            ground.errand.of(found.len());
            for at in found {
                ground.errand.step();
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
                Committed::Stale("request") => return self.answered_before().await,
                Committed::Stale(_) => {}
            }
        }
    }
}

/// The next instants of a schedule, on its wall and in UTC.
pub fn preview(scheduled: &Scheduled, after: Moment, many: usize) -> Value {
    let schedule = &scheduled.schedule;
    json!({
        "schedule": schedule.name, "organization": schedule.organization, "timezone": schedule.timezone,
        "awake": schedule.awake(), "instants": instants(&scheduled.timetable, after, many),
    })
}

fn instants(timetable: &Timetable, after: Moment, many: usize) -> Vec<Value> {
    timetable
        .instants(after, Last::Never)
        .take(many)
        .map(|instant| {
            let offset = timetable.zone().to_offset(instant.timestamp());
            let local = instant.timestamp().display_with_offset(offset).to_string();
            json!({"utc": instant.to_string(), "local": local})
        })
        .collect()
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
