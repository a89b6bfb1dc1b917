//! What people do to tasks: ended, offered at once, marked, made anew. Each deed is kept with who did it and why, and
//! its answer beside it, so that the same request does nothing twice.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::IdRow;
use super::requests::Answered;
use super::runs::read_occasion;
use super::world::read_map;
use super::{Reported, Store, StoreError, json_rows, moment};
use crate::moment::Moment;
use crate::run::Cause;
use crate::tally;
use crate::task::TaskState;

/// Who does something, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed<'a> {
    pub verb: &'static str,
    pub who: &'a str,
    pub reason: &'a str,
    pub now: Moment,
}

/// What became of tasks that somebody ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Nobody had them.
    pub cancelled: Vec<String>,
    /// Their workers are told.
    pub stopping: Vec<String>,
}

/// Whether a deed was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandDone<T> {
    Done(T),
    /// The same request was answered meanwhile: nothing was done.
    Answered,
}

/// A task that was made anew, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    pub task_id: String,
    /// Nothing where it was dropped.
    pub run_id: Option<String>,
    pub who: String,
}

/// A task as it was made, for whoever makes it anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    pub organization: String,
    pub plugin_id: String,
    pub schedule_id: String,
    pub state: TaskState,
    pub inputs: Vec<String>,
    /// What a person asked for when it was made.
    pub parameters: Map<String, Value>,
    /// Its inputs belong together.
    pub joined: bool,
    /// What it was redriven as already; `Some(None)`: it was dropped.
    pub redriven: Option<Option<String>>,
}

/// How offers end that a person takes back.
const RECALLED: &str = "recalled";

impl Store {
    /// Ends tasks that have not ended. Whoever asks gets `answered` of what became of them.
    pub async fn cancel_tasks(
        &self,
        tasks: &[String],
        deed: &Deed<'_>,
        answered: &(dyn Fn(&Ended) -> Option<Answered> + Sync),
    ) -> Result<HandDone<Ended>, StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let (cancelled, stopping) = self
                .cancel_tasks_in(&mut transaction, tasks, "cancelled", deed.now)
                .await?;
            let ended = Ended {
                cancelled,
                stopping,
            };
            let touched = ended.cancelled.iter().chain(&ended.stopping);
            self.keep_deed(&mut transaction, touched, deed).await?;
            if !self
                .keep_if(&mut transaction, answered(&ended), deed.now)
                .await?
            {
                tally::undone();
                transaction.rollback().await?;
                return Ok(HandDone::Answered);
            }
            transaction.commit().await?;
            Ok(HandDone::Done(ended))
        })
        .await
    }

    /// Waiting tasks are offered at once, and offers that nobody has accepted are made anew, all as what a person asked for;
    /// answers with those tasks.
    pub async fn hurry_tasks(
        &self,
        tasks: &[String],
        deed: &Deed<'_>,
        answered: &(dyn Fn(&[String]) -> Option<Answered> + Sync),
    ) -> Result<HandDone<Vec<String>>, StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let rows: Vec<IdRow<'_>> = tasks.iter().map(|id| IdRow { id }).collect();
            let list = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
            let shares_no_more = |column: &str| {
                format!("{column} = CASE WHEN state = 'waiting' THEN NULL ELSE {column} END")
            };
            let sql = format!(
                "UPDATE task SET state = 'queued', not_before = NULL, step = step + 1, class = {}, cause = '{}', \
                 priority = CASE WHEN priority < 1 THEN priority ELSE 1 END, on_behalf = NULL, {}, {} \
                 WHERE id IN {list} AND state IN ('queued', 'waiting', 'dispatched') AND cancel_by IS NULL RETURNING id",
                Cause::Manual.class(),
                Cause::Manual.word(),
                shares_no_more("deduplication_key"),
                shares_no_more("shared_from")
            );
            let mut hurried = Vec::new();
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&rows))
                .fetch_all(&mut *transaction)
                .await?
            {
                hurried.push(row.try_get::<String, _>("id")?);
            }
            let rows: Vec<IdRow<'_>> = hurried.iter().map(|id| IdRow { id }).collect();
            self.close_attempts(&mut transaction, &rows, RECALLED, deed.now)
                .await?;
            self.tell_tasks(
                &mut transaction,
                hurried.iter().map(String::as_str),
                deed.now,
            )
            .await?;
            self.keep_deed(&mut transaction, hurried.iter(), deed)
                .await?;
            if !self
                .keep_if(&mut transaction, answered(&hurried), deed.now)
                .await?
            {
                tally::undone();
                transaction.rollback().await?;
                return Ok(HandDone::Answered);
            }
            transaction.commit().await?;
            Ok(HandDone::Done(hurried))
        })
        .await
    }

    /// A step that a person decided; false where the task no longer stands as it was read.
    pub async fn mark_task(
        &self,
        reported: &Reported,
        deed: &Deed<'_>,
        answered: Option<Answered>,
    ) -> Result<HandDone<bool>, StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let written = self
                .apply_steps_in(
                    &mut transaction,
                    std::slice::from_ref(reported),
                    &[],
                    deed.now,
                )
                .await?;
            if !written.stale.is_empty() {
                tally::undone();
                transaction.rollback().await?;
                return Ok(HandDone::Done(false));
            }
            self.keep_deed(&mut transaction, [&reported.task_id].into_iter(), deed)
                .await?;
            if !self.keep_if(&mut transaction, answered, deed.now).await? {
                tally::undone();
                transaction.rollback().await?;
                return Ok(HandDone::Answered);
            }
            transaction.commit().await?;
            Ok(HandDone::Done(true))
        })
        .await
    }

    /// A task as it was made, of one organisation where one is named.
    pub async fn past(
        &self,
        task_id: &str,
        organization: &str,
    ) -> Result<Option<Past>, StoreError> {
        let row = sqlx::query(
            "SELECT t.organization, t.plugin_id, t.state, t.inputs, u.schedule_id, u.request, u.occasion, d.task_id AS driven, \
             d.run_id AS driven_run FROM task t LEFT JOIN run u ON u.id = t.run_id \
             LEFT JOIN redrive d ON d.task_id = t.id WHERE t.id = $1 AND ($2 = '' OR t.organization = $2)",
        )
        .bind(task_id)
        .bind(organization)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let inputs: Vec<Value> =
            serde_json::from_str(&row.try_get::<String, _>("inputs")?).unwrap_or_default();
        let request: Option<String> = row.try_get("request")?;
        let mut asked = request.as_deref().map(read_map).unwrap_or_default();
        let parameters = match asked.remove("parameters") {
            Some(Value::Object(parameters)) => parameters,
            _ => Map::new(),
        };
        let driven: Option<String> = row.try_get("driven")?;
        Ok(Some(Past {
            organization: row.try_get("organization")?,
            plugin_id: row.try_get("plugin_id")?,
            schedule_id: row
                .try_get::<Option<String>, _>("schedule_id")?
                .unwrap_or_default(),
            state: TaskState::parse(&row.try_get::<String, _>("state")?)
                .unwrap_or(TaskState::Queued),
            inputs: inputs
                .iter()
                .filter_map(|input| input.get("primary_key").and_then(Value::as_str))
                .map(str::to_owned)
                .collect(),
            parameters,
            joined: row
                .try_get::<Option<String>, _>("occasion")?
                .is_some_and(|occasion| read_occasion(&occasion).joined),
            redriven: match driven {
                None => None,
                Some(_) => Some(row.try_get("driven_run")?),
            },
        }))
    }

    /// Those of the tasks that were made anew already, or dropped.
    pub async fn made_anew(&self, tasks: &[String]) -> Result<HashSet<String>, StoreError> {
        let rows: Vec<IdRow<'_>> = tasks.iter().map(|id| IdRow { id }).collect();
        let sql = format!(
            "SELECT task_id FROM redrive WHERE task_id IN (SELECT r.id FROM {})",
            self.dialect.rows("$1", "id text")
        );
        let found = sqlx::query(AssertSqlSafe(sql)).bind(json_rows(&rows));
        let found = found.fetch_all(&self.pool).await?;
        found
            .iter()
            .map(|row| Ok(row.try_get("task_id")?))
            .collect()
    }

    /// A dead task is no dead letter any more; false where somebody was faster.
    pub async fn drop_dead_task(
        &self,
        task_id: &str,
        organization: &str,
        deed: &Deed<'_>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO redrive (task_id, run_id, who, done_at) SELECT id, NULL, $3, $4 FROM task \
             WHERE id = $1 AND state = 'dead' AND ($2 = '' OR organization = $2) ON CONFLICT DO NOTHING",
        )
        .bind(task_id)
        .bind(organization)
        .bind(deed.who)
        .bind(deed.now.micros())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The task is made anew by this run; false where it was before.
    pub(super) async fn keep_redrive(
        &self,
        connection: &mut AnyConnection,
        redrive: &Redrive,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let kept = sqlx::query(
            "INSERT INTO redrive (task_id, run_id, who, done_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(&redrive.task_id)
        .bind(redrive.run_id.clone())
        .bind(&redrive.who)
        .bind(now.micros())
        .execute(connection)
        .await?;
        Ok(kept.rows_affected() == 1)
    }

    /// What people did to a task, and where it comes from and went to: the task that its run made anew, the run that made
    /// it anew.
    pub async fn deeds(
        &self,
        task_id: &str,
        run_id: &str,
    ) -> Result<(Vec<Value>, Option<String>, Option<String>), StoreError> {
        let rows = sqlx::query(
            "SELECT verb, reason, who, done_at FROM by_hand WHERE task_id = $1 ORDER BY done_at, id",
        )
        .bind(task_id)
        .fetch_all(&self.pool)
        .await?;
        let mut deeds = Vec::with_capacity(rows.len());
        for row in &rows {
            let (verb, reason, who): (String, String, String) = (
                row.try_get("verb")?,
                row.try_get("reason")?,
                row.try_get("who")?,
            );
            let at = moment(row, "done_at")?.to_string();
            deeds.push(json!({"verb": verb, "reason": reason, "who": who, "at": at}));
        }
        let from = sqlx::query("SELECT task_id FROM redrive WHERE run_id = $1")
            .bind(run_id)
            .fetch_optional(&self.pool)
            .await?
            .map(|row| row.try_get("task_id"))
            .transpose()?;
        let to = sqlx::query("SELECT run_id FROM redrive WHERE task_id = $1")
            .bind(task_id)
            .fetch_optional(&self.pool)
            .await?
            .map(|row| row.try_get("run_id"))
            .transpose()?
            .flatten();
        Ok((deeds, from, to))
    }

    async fn keep_deed<'t>(
        &self,
        connection: &mut AnyConnection,
        tasks: impl Iterator<Item = &'t String>,
        deed: &Deed<'_>,
    ) -> Result<(), StoreError> {
        let ids: Vec<&str> = tasks.map(String::as_str).collect();
        let rows: Vec<IdRow<'_>> = ids.into_iter().map(|id| IdRow { id }).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO by_hand (id, task_id, verb, reason, who, done_at) \
             SELECT r.id || ':{verb}:{at}', r.id, '{verb}', $2, $3, {at} FROM {} WHERE true ON CONFLICT DO NOTHING",
            self.dialect.rows("$1", "id text"),
            verb = deed.verb,
            at = deed.now.micros(),
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .bind(deed.reason)
            .bind(deed.who)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Keeps an answer where there is one to keep; false where the same request was answered meanwhile.
    pub(super) async fn keep_if(
        &self,
        connection: &mut AnyConnection,
        answered: Option<Answered>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        match answered {
            None => Ok(true),
            Some(answered) => self.keep_answer(connection, &answered, now).await,
        }
    }
}
