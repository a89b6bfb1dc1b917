//! Why an event would start what it starts, and not the rest; why a task is there, and why a schedule did not run.

mod joined;
mod played;
mod schedule;
mod sharing;
mod task;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Answer, Clerk};
use crate::bus::names;
use crate::command::ExplainCommand;
use crate::decide::FindingOutcome;
use crate::intake::{self, Explained, Incoming};
use crate::object::Object;
use crate::query::{Facts, Fields, Nowhere};
use crate::run::Turn;
use crate::store::{DeadLetter, Follower, RunOfEvent, StoreError, TaskOfRun};
use crate::task::TaskState;
use crate::trigger::Untouched;
use crate::wire::{self, Message, Refused};

/// Tasks of others that wait for those of an event and are shown.
const FOLLOWERS: i64 = 100;

impl Clerk<'_> {
    pub(super) async fn explain(&self, asked: ExplainCommand) -> Result<Answer, StoreError> {
        match asked {
            ExplainCommand::Event { event, queue } => {
                let intake = match queue {
                    None => 0,
                    Some(queue) => allowed!(self.intake_of(&queue)),
                };
                let message = Incoming {
                    intake,
                    queue: self.queue_of(intake),
                    body: event.into_bytes(),
                    ..Incoming::default()
                };
                self.event(&message).await
            }
            ExplainCommand::Kept { event_id, source } => {
                self.kept(&event_id, source.as_deref().unwrap_or_default())
                    .await
            }
            ExplainCommand::Task { task_id } => self.task_explained(&task_id).await,
            ExplainCommand::Schedule {
                schedule,
                object,
                plugin,
            } => {
                self.schedule_explained(&schedule, object.as_deref(), plugin.as_deref())
                    .await
            }
        }
    }

    fn intake_of(&self, queue: &str) -> Result<usize, Refused> {
        let known = self.ground.intakes.iter();
        let at = known.clone().position(|rule| rule.queue == queue);
        at.ok_or_else(|| {
            let names: Vec<&str> = known.map(|rule| rule.queue.as_str()).collect();
            Refused::new(
                "not_found",
                format!("no intake reads `{queue}`"),
                format!("known: {}", names.join(", ")),
            )
        })
    }

    fn queue_of(&self, intake: usize) -> String {
        let rule = self.ground.intakes.get(intake);
        rule.map(|rule| rule.queue.clone()).unwrap_or_default()
    }

    /// What would be decided about an event now. Nothing is stored.
    async fn event(&self, message: &Incoming) -> Result<Answer, StoreError> {
        Ok(match intake::explain(self.ground, message).await? {
            Err(unreadable) => Err(Refused::new(
                unreadable.reason.word(),
                unreadable.message,
                "it would become a dead letter",
            )),
            Ok(mut explained) => {
                let own = self
                    .bound
                    .is_none_or(|bound| explained.key.organization == bound);
                if own {
                    if let Some(bound) = self.bound {
                        let catalogue = explained.catalogue.clone();
                        explained.findings.retain(|finding| {
                            let found = catalogue.schedules.get(&finding.schedule_id);
                            found.is_some_and(|known| known.schedule.concerns(bound))
                        });
                    }
                    Ok(explained_as(&explained, self.bound))
                } else {
                    Err(Refused::new(
                        "not_yours",
                        "the event is of another organisation",
                        "an event that is explained is of the organization of the request",
                    ))
                }
            }
        })
    }

    /// An event that was handled: what would be made of it now, and what was made of it then.
    async fn kept(&self, event_id: &str, source: &str) -> Result<Answer, StoreError> {
        let store = &self.ground.store;
        let bound = self.bound.unwrap_or_default();
        let found = store.events_named(event_id, source, bound).await?;
        let Some(event) = found.first() else {
            return Ok(Err(self.not_kept(event_id, source).await?));
        };
        let mut sources: Vec<&str> = found.iter().map(|event| event.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        if sources.len() > 1 {
            return Ok(Err(Refused::new(
                "ambiguous",
                format!("several sources sent an event `{event_id}`"),
                format!("name the source too: {}", sources.join(", ")),
            )));
        }
        let message = Incoming {
            intake: allowed!(self.intake_of(&event.queue)),
            queue: event.queue.clone(),
            routing_key: event.routing_key.clone(),
            content_type: event.content_type.clone(),
            message_id: event.message_id.clone(),
            headers: event.headers.clone(),
            body: event.body.as_bytes().to_vec(),
            ..Incoming::default()
        };
        let mut told = allowed!(self.event(&message).await?);
        let primary_key = told["primary_key"].as_str().unwrap_or_default().to_owned();
        let runs = store.runs_of_event(event, &primary_key).await?;
        let operations: Vec<&str> = event.operations.iter().map(|op| op.word()).collect();
        told["kept"] = json!({
            "id": event.id, "source": event.source, "queue": event.queue,
            "handled_at": event.handled_at.to_string(), "operations": operations,
        });
        let made: BTreeSet<&str> = runs
            .iter()
            .flat_map(|run| &run.tasks)
            .map(|task| task.id.as_str())
            .collect();
        // One organisation is not told that another has the same object.
        let followers = match self.bound {
            None => store.waiting_for(&made, FOLLOWERS).await?,
            Some(_) => Vec::new(),
        };
        let hides = self.bound.is_some();
        told["made"] = runs
            .iter()
            .map(|run| run_as(run, &followers, hides))
            .collect();
        Ok(Ok(told))
    }

    /// What is not kept any more, or never was, and what would be right.
    async fn not_kept(&self, event_id: &str, source: &str) -> Result<Refused, StoreError> {
        let of = match source {
            "" => String::new(),
            source => format!(" of the source `{source}`"),
        };
        // A message that could not be read belongs to nobody.
        if self.bound.is_none()
            && let Some(refused) = self.lies_dead(event_id, source).await?
        {
            return Ok(refused);
        }
        let oldest = match self.bound {
            None => self.ground.store.oldest_event().await?,
            Some(_) => None,
        };
        let since = oldest.map_or(String::new(), |at| {
            format!(", the oldest of now since {at}")
        });
        Ok(Refused::new(
            "not_found",
            format!("no event `{event_id}`{of} is kept"),
            format!(
                "events are kept for as long as retention.events says{since}; \
                 give the event itself: muster explain FILE, or the argument event"
            ),
        ))
    }

    /// An event that could not be read or handled, among the dead letters.
    async fn lies_dead(&self, event_id: &str, source: &str) -> Result<Option<Refused>, StoreError> {
        let mut found = self.ground.store.dead_letters_with(event_id).await?;
        found.retain(|stored| is_event(&stored.letter, event_id, source));
        let Some(newest) = found.first() else {
            return Ok(None);
        };
        let letter = &newest.letter;
        let more = match found.len() {
            1 => String::new(),
            many => format!("; so do {} more with that id", many - 1),
        };
        Ok(Some(Refused::new(
            "dead_letter",
            format!(
                "the event `{event_id}` was not handled: it lies in the dead letters as {} since {}, {}: {}{more}",
                letter.id, newest.first_seen, letter.reason, letter.message
            ),
            format!(
                "dead_letter.show {} shows it; once the reason is mended, dead_letter.redrive {} tries it again",
                letter.id, letter.id
            ),
        )))
    }
}

/// Whether a dead letter is the event with this id: its own, or that of the letter.
fn is_event(letter: &DeadLetter, event_id: &str, source: &str) -> bool {
    let message = Message {
        body: &letter.body,
        content_type: letter.content_type.as_deref(),
        routing_key: &letter.routing_key,
        message_id: letter.message_id.as_deref(),
        headers: &letter.headers,
    };
    letter.intake != names::STATUS
        && (letter.id == event_id || wire::is_named(&message, event_id, source))
}

/// What an event set off when it was handled; what is shared with others is hidden from one organisation.
fn run_as(run: &RunOfEvent, followers: &[Follower], hides: bool) -> Value {
    let task_as = |task: &TaskOfRun| {
        let waits = task.state == TaskState::Waiting.word();
        let state = match hides && waits {
            true => TaskState::Queued.word(),
            false => &task.state,
        };
        let mut told = json!({
            "id": task.id, "plugin": task.plugin_id, "state": state, "reason": task.reason,
        });
        if !hides {
            let waiting = followers
                .iter()
                .filter(|other| other.shared_from == task.id);
            let waiting = waiting
                .map(|other| json!({"id": other.task_id, "organization": other.organization}));
            told["shared_from"] = json!(task.shared_from);
            told["waiting_for_it"] = waiting.collect();
        }
        told
    };
    let tasks: Vec<Value> = run.tasks.iter().map(task_as).collect();
    json!({
        "run_id": run.run_id, "schedule": run.schedule, "state": run.state, "reason": run.reason,
        "refused": run.refused, "tasks": tasks,
    })
}

/// A decision as people are told of it. How many schedules were looked at is for whoever may see them all.
pub fn explained_as(explained: &Explained, bound: Option<&str>) -> Value {
    let change = &explained.event.told.change;
    let findings: Vec<Value> = explained
        .findings
        .iter()
        .map(|finding| {
            let mut told = Map::new();
            told.insert("schedule".to_owned(), json!(finding.schedule));
            match &finding.outcome {
                FindingOutcome::Untouched(untouched) => {
                    told.insert("triggered".to_owned(), json!(false));
                    told.insert(
                        "why".to_owned(),
                        json!(untouched_words(explained, &finding.schedule_id, untouched)),
                    );
                }
                FindingOutcome::Expands => {
                    told.insert("triggered".to_owned(), json!(true));
                    told.insert(
                        "why".to_owned(),
                        json!("its inputs are looked for in the inventory, by its input queries"),
                    );
                }
                FindingOutcome::Overlaps(turn) => {
                    let waits = matches!(turn, Turn::Later { .. });
                    told.insert("triggered".to_owned(), json!(waits));
                    let why = if waits {
                        "another run of the same scope has not ended: it waits for that"
                    } else {
                        "overlap: another run of the same scope has not ended, and one waits for that already"
                    };
                    told.insert("why".to_owned(), json!(why));
                }
                FindingOutcome::Considered(plugins) => {
                    told.insert("triggered".to_owned(), json!(true));
                    let list: Vec<Value> = plugins
                        .iter()
                        .map(|(plugin, outcome)| match outcome {
                            Ok(task) => {
                                let made = explained.plan.tasks.iter().find(|made| made.id == *task);
                                let inputs = made.into_iter().flat_map(|made| &made.inputs);
                                let inputs: Vec<&str> =
                                    inputs.map(|input| input.primary_key.as_str()).collect();
                                let mut told = json!({"plugin": plugin, "task": true, "inputs": inputs});
                                let leader = made.filter(|made| bound.is_none() && made.waits);
                                let leader = leader.and_then(|made| made.deduplication_key.as_ref());
                                if let Some((id, whose)) =
                                    leader.and_then(|key| explained.leaders.get(key))
                                {
                                    told["shared_from"] = json!({"id": id, "organization": whose});
                                }
                                told
                            }
                            Err(refusal) => json!({
                                "plugin": plugin, "task": false, "reason": refusal.reason.word(),
                                "meaning": refusal.reason.meaning(), "detail": refusal.detail,
                            }),
                        })
                        .collect();
                    told.insert("plugins".to_owned(), Value::Array(list));
                    told.insert(
                        "not_selected".to_owned(),
                        json!(not_selected(explained, &finding.schedule_id)),
                    );
                }
            }
            Value::Object(told)
        })
        .collect();
    let others = explained.plan.tasks.iter();
    let others = others.filter(|task| task.organization != change.key.organization);
    let others =
        others.map(|task| json!({"organization": task.organization, "plugin": task.plugin_id}));
    json!({
        "event": {"id": explained.event.told.event_id, "type": explained.event.told.event_type},
        "organization": change.key.organization,
        "primary_key": change.key.primary_key,
        "handled_before": explained.handled_before,
        "impossible": explained.impossible.as_ref().map(|impossible| impossible.message.clone()),
        "unchanged": explained.as_new,
        "late": explained.plan.late > 0,
        "object": explained.world.objects.get(&explained.key).map(Object::snapshot),
        "withdraws": explained.plan.withdrawn.iter().map(|w| json!({"task": w.task_id, "reason": w.reason})).collect::<Vec<_>>(),
        // Others may get theirs at the same time, which is nobody's business here.
        "tasks": explained.plan.tasks.iter().filter(|task| task.organization == change.key.organization).count(),
        "for_others": bound.is_none().then(|| others.collect::<Vec<Value>>()),
        "matching": bound.is_none().then(|| json!({
            "candidates": explained.plan.looked.candidates,
            "checks": explained.plan.looked.checks,
            "matches": explained.plan.looked.matches,
            "schedules": explained.catalogue.schedules.len(),
        })),
        "schedules": findings,
    })
}

/// Plugins that the schedule's `plugins` query leaves out, each with the query's own explanation.
fn not_selected(explained: &Explained, schedule_id: &str) -> Vec<Value> {
    let Some(scheduled) = explained.catalogue.schedules.get(schedule_id) else {
        return Vec::new();
    };
    explained
        .catalogue
        .plugins
        .values()
        .filter(|plugin| !scheduled.selected.iter().any(|taken| taken.plugin_id == plugin.plugin_id))
        .map(|plugin| {
            let facts = Facts {
                subject: plugin.as_ref(),
                trigger: None,
                previous: None,
                parameters: &scheduled.schedule.parameters,
                now: explained.now,
                world: &Nowhere,
            };
            json!({"plugin": plugin.plugin_id, "query": scheduled.schedule.plugins.explain(&facts).to_string()})
        })
        .collect()
}

fn untouched_words(explained: &Explained, schedule_id: &str, untouched: &Untouched) -> String {
    let scheduled = explained.catalogue.schedules.get(schedule_id);
    let list = |words: Vec<&str>| {
        if words.is_empty() {
            "nothing".to_owned()
        } else {
            words.join(", ")
        }
    };
    match untouched {
        Untouched::Type => {
            let on: Vec<&str> = scheduled
                .map(|s| s.schedule.run_on.iter().map(String::as_str).collect())
                .unwrap_or_default();
            match on.as_slice() {
                [] => "no change starts it: it has no run_on".to_owned(),
                _ => format!("run_on is {}", list(on)),
            }
        }
        Untouched::Operation => {
            let on = scheduled
                .map(|s| s.schedule.operations.iter().map(|op| op.word()).collect())
                .unwrap_or_default();
            format!("operation is {}, and this change is not that", list(on))
        }
        Untouched::Organization => format!(
            "it belongs to {}",
            scheduled
                .and_then(|s| s.schedule.organization.clone())
                .unwrap_or_default()
        ),
        Untouched::Asleep => "it is switched off or paused".to_owned(),
        Untouched::Join => {
            let joins = scheduled
                .map(|s| s.schedule.join.iter().map(String::as_str).collect())
                .unwrap_or_default();
            format!(
                "it joins files by {} of one object, and this is none of these",
                list(joins)
            )
        }
        Untouched::TooCostly => "its `when` ran out of steps on this object".to_owned(),
        Untouched::When(query) => {
            let object = explained.world.objects.get(&explained.key);
            let parameters = scheduled
                .map(|s| s.schedule.parameters.clone())
                .unwrap_or_default();
            let empty = Object::default();
            let subject = object.unwrap_or(&empty);
            let facts = Facts {
                subject,
                trigger: Some(subject as &dyn Fields),
                previous: None,
                parameters: &parameters,
                now: explained.now,
                world: &Nowhere,
            };
            format!("its `when` is false:\n{}", query.explain(&facts))
        }
    }
}
