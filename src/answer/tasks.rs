//! Tasks: looked at, and what people do to them by hand.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Answer, Clerk, not_found};
use crate::command::{Filter, Listing, Rows, TaskCommand, Which};
use crate::decide::{Desk, Plan, again};
use crate::object::ObjectKey;
use crate::progress::Taken;
use crate::run::Asked;
use crate::schedule::OF_PLUGIN;
use crate::store::{
    Commit, Committed, Deed, Ended, HandDone, MARKED, Past, Redrive, Reported, StoreError, Wanted,
};
use crate::task::{Ending, TaskState};
use crate::wire::Refused;

/// Tasks that one request touches, at most.
const MOST: usize = 100_000;
/// What can still be cancelled; what can be offered at once or made anew; and of that, what nobody ended on purpose.
const OPEN: [TaskState; 4] = [
    TaskState::Queued,
    TaskState::Waiting,
    TaskState::Dispatched,
    TaskState::Running,
];
const AGAIN: [TaskState; 7] = [
    TaskState::Queued,
    TaskState::Waiting,
    TaskState::Dispatched,
    TaskState::Failed,
    TaskState::Dead,
    TaskState::Cancelled,
    TaskState::Withdrawn,
];
const UNINTENDED: [TaskState; 5] = [
    TaskState::Queued,
    TaskState::Waiting,
    TaskState::Dispatched,
    TaskState::Failed,
    TaskState::Dead,
];
/// Attempts of one task that are shown.
const ATTEMPTS: i64 = 1000;

impl Clerk<'_> {
    pub(super) async fn of_tasks(&self, asked: TaskCommand) -> Result<Answer, StoreError> {
        match asked {
            TaskCommand::Get { task_id } => self.task(&task_id).await,
            TaskCommand::List(listing) => self.list(&listing).await,
            TaskCommand::Cancel { which, reason } => {
                self.cancel_tasks(&which, reason.as_deref().unwrap_or_default())
                    .await
            }
            TaskCommand::Retry { which } => self.retry(&which).await,
            TaskCommand::Mark {
                task_id,
                state,
                reason,
            } => self.mark(&task_id, state, &reason).await,
        }
    }

    pub(super) fn deed<'d>(&'d self, verb: &'static str, reason: &'d str) -> Deed<'d> {
        Deed {
            verb,
            who: self.who,
            reason,
            now: self.ground.clock.now(),
        }
    }

    /// A task with its attempts, and what people did to it.
    async fn task(&self, task_id: &str) -> Result<Answer, StoreError> {
        let found = self
            .all_like(Rows::Task, &Filter::default().with("id", task_id))
            .await?
            .pop();
        let Some(mut task) = found else {
            return Ok(Err(not_found("task", task_id, &[])));
        };
        let attempts = Listing {
            rows: Rows::Attempt,
            filter: Filter::default().with("task_id", task_id),
            limit: ATTEMPTS,
            offset: 0,
            after: String::new(),
        };
        let attempts = super::rows(
            &self.ground.store,
            &attempts,
            self.bound,
            self.ground.clock.now(),
        )
        .await?;
        let run_id = task.get("run_id").and_then(Value::as_str);
        let run_id = run_id.unwrap_or_default().to_owned();
        let (deeds, from, to) = self.ground.store.deeds(task_id, &run_id).await?;
        task.insert("attempts".to_owned(), json!(attempts.rows));
        task.insert("by_hand".to_owned(), json!(deeds));
        task.insert("redrive_of".to_owned(), json!(from));
        task.insert("redriven_as".to_owned(), json!(to));
        Ok(Ok(Value::Object(task)))
    }

    /// Which tasks are meant, of many those that are in one of these states; several at once only where somebody says
    /// yes.
    async fn chosen(
        &self,
        which: &Which,
        among: &[TaskState],
    ) -> Result<Result<Vec<String>, Refused>, StoreError> {
        let (filter, yes) = match which {
            Which::Ids(ids) => {
                for id in ids {
                    let bound = self.bound.unwrap_or_default();
                    if self.ground.store.past(id, bound).await?.is_none() {
                        return Ok(Err(not_found("task", id, &[])));
                    }
                }
                return Ok(Ok(ids.clone()));
            }
            Which::Like { filter, yes } => (filter, yes),
        };
        let states: Vec<&str> = among.iter().map(|state| state.word()).collect();
        let filter = filter.clone().among("state", &states);
        let found = self.all_like(Rows::Task, &filter).await?;
        let ids = found
            .iter()
            .filter_map(|row| Some(row.get("id")?.as_str()?.to_owned()));
        let mut ids: Vec<String> = ids.collect();
        if among == UNINTENDED {
            let before = self.ground.store.made_anew(&ids).await?;
            ids.retain(|id| !before.contains(id));
        }
        Ok(several(ids.len(), *yes, "tasks").map(|()| ids))
    }

    async fn cancel_tasks(&self, which: &Which, reason: &str) -> Result<Answer, StoreError> {
        let ids = allowed!(self.chosen(which, &OPEN).await?);
        let alone = match (which, ids.as_slice()) {
            (Which::Ids(_), [id]) => Some(id.clone()),
            _ => None,
        };
        let told = |ended: &Ended| match &alone {
            Some(id) if ended.cancelled.is_empty() && ended.stopping.is_empty() => {
                Err(Refused::new(
                    "ended",
                    format!("the task {id} has ended already"),
                    "task.get shows how",
                ))
            }
            _ => Ok(json!({
                "cancelled": ended.cancelled, "stopping": ended.stopping,
                "ended": ended_before(&ids, ended),
                "note": "workers of those that are stopping are told, and have until the end of their lease",
            })),
        };
        let deed = self.deed("cancel", reason);
        let done = self
            .ground
            .store
            .cancel_tasks(&ids, &deed, &|ended| self.answered(&told(ended)))
            .await?;
        self.ground.turns.notify_one();
        match done {
            HandDone::Done(ended) => Ok(told(&ended)),
            HandDone::Answered => self.answered_before().await,
        }
    }

    /// What waits is offered at once; what ended without success is made anew, one by one.
    async fn retry(&self, which: &Which) -> Result<Answer, StoreError> {
        let among = match which {
            Which::Like { filter, .. } if !filter.judges() => &UNINTENDED[..],
            _ => &AGAIN[..],
        };
        let ids = allowed!(self.chosen(which, among).await?);
        let mut waiting = Vec::new();
        let mut anew = Vec::new();
        let mut results = Vec::new();
        for id in &ids {
            let bound = self.bound.unwrap_or_default();
            match self.ground.store.past(id, bound).await? {
                None => {}
                Some(past)
                    if matches!(
                        past.state,
                        TaskState::Queued | TaskState::Waiting | TaskState::Dispatched
                    ) =>
                {
                    waiting.push(id.clone());
                }
                Some(past) => anew.push((id.clone(), past)),
            }
        }
        if let ([(id, past)], []) = (anew.as_slice(), waiting.as_slice()) {
            return self.make_anew(id, past, true).await;
        }
        for (id, past) in &anew {
            let answer = self.make_anew(id, past, false).await?;
            results.push(result(id, &answer));
        }
        let told = |hurried: &[String]| -> Answer {
            Ok(json!({"offered_at_once": hurried, "made_anew": results}))
        };
        let deed = self.deed("retry", "");
        let done = self
            .ground
            .store
            .hurry_tasks(&waiting, &deed, &|hurried| self.answered(&told(hurried)))
            .await?;
        self.ground.dispatch.notify_one();
        match done {
            HandDone::Done(hurried) => Ok(told(&hurried)),
            HandDone::Answered => self.answered_before().await,
        }
    }

    /// Makes a task anew that ended without success; `alone`: this is all that the request asks.
    pub(super) async fn make_anew(
        &self,
        task_id: &str,
        past: &Past,
        alone: bool,
    ) -> Result<Answer, StoreError> {
        let ground = self.ground;
        let may = matches!(
            past.state,
            TaskState::Dead | TaskState::Failed | TaskState::Cancelled | TaskState::Withdrawn
        );
        if !may {
            let help = match past.state {
                TaskState::Succeeded => "run.start does it once more",
                _ => "cancel it first, or wait for its clocks",
            };
            let said = format!("the task {task_id} is {}", past.state.word());
            return Ok(Err(Refused::new("not_retried", said, help)));
        }
        loop {
            let catalogue = self.catalogue().await?;
            let Some(plugin) = catalogue.plugins.get(&past.plugin_id).cloned() else {
                return Ok(Err(not_found("plugin", &past.plugin_id, &[])));
            };
            let of_plugin = format!("{OF_PLUGIN}{}", past.plugin_id);
            let scheduled = catalogue
                .scheduled(&past.schedule_id)
                .or_else(|| catalogue.scheduled(&of_plugin));
            let (Some(scheduled), Some(organization)) = (
                scheduled,
                catalogue.organizations.get(&past.organization).cloned(),
            ) else {
                return Ok(Err(not_found("organization", &past.organization, &[])));
            };
            let mut wanted = Wanted {
                among: catalogue.fellows(),
                ..Wanted::default()
            };
            let alone_key = past.inputs.is_empty().then(String::new);
            for primary_key in past.inputs.iter().cloned().chain(alone_key) {
                wanted.keys.insert(ObjectKey {
                    organization: past.organization.clone(),
                    primary_key,
                });
            }
            let mut gathered = ground.store.gather(&wanted).await?;
            let now = ground.clock.now();
            let mut plan = Plan::default();
            let mut ids = ground.ids();
            let mut desk = Desk {
                catalogue: &catalogue,
                now,
                ids: &mut ids,
                plan: &mut plan,
                findings: None,
            };
            let asked = Asked {
                id: None,
                objects: past.inputs.clone(),
                parameters: past.parameters.clone(),
            };
            let (run_id, outcomes) = again(
                &mut desk,
                &mut gathered.world,
                &scheduled,
                &organization,
                &plugin,
                &asked,
                past.joined,
            );
            let made: HashSet<&String> = outcomes.iter().flatten().collect();
            let refused: Vec<Value> = outcomes
                .iter()
                .filter_map(|outcome| outcome.as_ref().err())
                .map(|refusal| json!({"reason": refusal.reason.word(), "detail": refusal.detail}))
                .collect();
            if plan.runs.is_empty() {
                let first = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
                let (word, detail) = first.map_or(("not_found", String::new()), |refusal| {
                    (refusal.reason.word(), refusal.detail.clone())
                });
                let help = "the gates are asked as they are now";
                return Ok(Err(Refused::new(word, detail, help)));
            }
            let answer = Ok(json!({
                "task_id": task_id, "run_id": run_id, "tasks": made, "refused": refused,
            }));
            let commit = Commit {
                plan: &plan,
                answered: if alone { self.answered(&answer) } else { None },
                redrive: Some(Redrive {
                    task_id: task_id.to_owned(),
                    run_id: Some(run_id),
                    who: self.who.to_owned(),
                }),
                ..Commit::empty(now, gathered.revision)
            };
            if gathered.revision != catalogue.revision {
                continue;
            }
            match ground.store.commit(&commit).await? {
                Committed::Done => {
                    ground.wake(&plan);
                    return Ok(answer);
                }
                Committed::Stale("request") => return self.answered_before().await,
                Committed::Stale("redrive") => {
                    let known = ground.store.past(task_id, "").await?;
                    let said = match known.and_then(|known| known.redriven).flatten() {
                        Some(run_id) => format!("the run {run_id} made the task {task_id} anew"),
                        None => format!("the task {task_id} was dropped"),
                    };
                    return Ok(Err(Refused::new("redriven", said, "it is done once")));
                }
                Committed::Stale(_) => {}
            }
        }
    }

    async fn mark(
        &self,
        task_id: &str,
        state: TaskState,
        reason: &str,
    ) -> Result<Answer, StoreError> {
        let ground = self.ground;
        loop {
            let bound = self.bound.unwrap_or_default();
            let Some(past) = ground.store.past(task_id, bound).await? else {
                return Ok(Err(not_found("task", task_id, &[])));
            };
            let standing = ground.store.standings(&[task_id]).await?.remove(task_id);
            let Some(known) = standing.filter(|_| !past.state.terminal()) else {
                let help = match (past.state, &past.redriven) {
                    (TaskState::Succeeded, _) => {
                        "what has ended stays as it is; run.start does it once more"
                    }
                    (_, Some(_)) => "what has ended stays as it is; it was made anew or dropped",
                    (_, None) => "what has ended stays as it is; task.retry makes it anew",
                };
                return Ok(Err(Refused::new(
                    "ended",
                    format!("the task {task_id} has ended: {}", past.state.word()),
                    help,
                )));
            };
            let standing = known.standing;
            let step = Taken {
                state: Some(state),
                outcome: Some(MARKED),
                ending: Ending {
                    message: Some(reason.to_owned()),
                    ..Ending::default()
                },
                spent: standing.spent,
                declines: standing.declines,
                avoid: standing.avoid.clone(),
                reason: Some("marked".to_owned()),
                ..Taken::default()
            };
            let reported = Reported {
                task_id: task_id.to_owned(),
                worker: None,
                at: None,
                standing,
                step,
            };
            let answer = Ok(json!({
                "task_id": task_id, "state": state.word(), "reason": "marked",
                "marked": {"who": self.who, "why": reason},
            }));
            let deed = self.deed("mark", reason);
            let done = ground
                .store
                .mark_task(&reported, &deed, self.answered(&answer))
                .await?;
            match done {
                HandDone::Done(true) => {
                    ground.turns.notify_one();
                    return Ok(answer);
                }
                // A worker said something meanwhile: it is looked at again.
                HandDone::Done(false) => {}
                HandDone::Answered => return self.answered_before().await,
            }
        }
    }
}

/// Those of the tasks that had ended before, and stay as they are.
fn ended_before<'i>(ids: &'i [String], ended: &'i Ended) -> Vec<&'i String> {
    let mut told: HashSet<&String> = ended.cancelled.iter().chain(&ended.stopping).collect();
    ids.iter().filter(|id| told.insert(id)).collect()
}

/// Whether so many may be touched at once.
pub(super) fn several(many: usize, yes: bool, what: &str) -> Result<(), Refused> {
    let what = if many == 1 {
        what.trim_end_matches('s')
    } else {
        what
    };
    if many > MOST {
        return Err(Refused::new(
            "too_many",
            format!("that would be {many} {what}, and {MOST} is the most"),
            "ask for fewer: where",
        ));
    }
    if !yes && many > 0 {
        return Err(Refused::new(
            "confirmation_needed",
            format!("that would be {many} {what}"),
            "say yes: true, or --yes on the command line",
        ));
    }
    Ok(())
}

/// One of many, with what it came to.
pub(super) fn result(id: &str, answer: &Answer) -> Value {
    match answer {
        Ok(done) => {
            let mut told = json!({"id": id, "ok": true});
            for name in ["run_id", "tasks"] {
                if let Some(value) = done.get(name) {
                    told[name] = value.clone();
                }
            }
            told
        }
        Err(refused) => {
            json!({"id": id, "ok": false, "reason": refused.code, "message": refused.message})
        }
    }
}
