//! Tasks on their way: claimed for an offer, published, reported on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::commit::UNGRACED;
use super::world::{OBJECT_COLUMNS, read_map, read_object};
use super::{Store, StoreError, json_rows, moment, write_rows};
use crate::moment::{Moment, Span};
use crate::object::{Object, ObjectKey};
use crate::progress::{Standing, Taken};
use crate::run::Cause;
use crate::task::{Status, TaskState};

/// A task that this replica may offer now.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub task_id: String,
    pub attempt: i64,
    pub run_id: String,
    pub schedule: String,
    pub schedule_id: String,
    pub organization: String,
    pub plugin_id: String,
    pub worker_type: String,
    pub queue: String,
    pub cause: Cause,
    pub priority: i64,
    pub created_at: Moment,
    pub scheduled_for: Moment,
    pub inputs: Vec<ClaimedInput>,
    pub parameters: Map<String, Value>,
    pub occasion: Arc<Map<String, Value>>,
}

#[derive(Clone, Debug)]
pub struct ClaimedInput {
    pub object_type: String,
    pub primary_key: String,
    /// As it is now; `None` where nothing is known of it any more.
    pub object: Option<Arc<Object>>,
}

/// An offer that the broker has confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub task_id: String,
    pub attempt: i64,
    /// Who has not accepted it by then does not have it.
    pub expires_at: Moment,
}

/// A status and the step that was decided on it.
#[derive(Clone, Debug)]
pub struct Reported {
    pub status: Status,
    pub standing: Standing,
    pub step: Taken,
}

/// What an offer tells of its run: the schedule, its id, and what set it off.
type KnownRun = (String, String, Arc<Map<String, Value>>);

/// A replica that has been silent for so long is no longer shown.
const FORGOTTEN: Span = Span::seconds(120);

/// How far a batch of statuses was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Tasks that were no longer as they had been read: read again.
    pub stale: Vec<String>,
}

#[derive(Serialize)]
struct OfferRow<'a> {
    id: &'a str,
    number: i64,
}

#[derive(Serialize)]
struct PublishedRow<'a> {
    id: &'a str,
    number: i64,
    expires_at: Option<i64>,
}

#[derive(Serialize)]
struct IdRow<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct KeyRow<'a> {
    o: &'a str,
    k: &'a str,
}

#[derive(Serialize)]
struct StepRow<'a> {
    id: &'a str,
    was: &'static str,
    number: i64,
    state: &'static str,
    spent: i64,
    not_before: Option<i64>,
    finished_at: Option<i64>,
    reason: Option<&'a str>,
    worker: &'a str,
    accepted_at: Option<i64>,
    ended_at: Option<i64>,
    outcome: Option<&'static str>,
    message: Option<&'a str>,
    exit_code: Option<i64>,
    log_ref: Option<&'a str>,
    log_tail: Option<&'a str>,
    outputs: Option<String>,
}

#[derive(Serialize)]
struct LateRow<'a> {
    id: &'a str,
    task_id: &'a str,
    number: i64,
    worker: &'a str,
    status: &'static str,
    received_at: i64,
    body: &'a str,
}

#[derive(Serialize)]
struct SuppressRow<'a> {
    task_id: &'a str,
    until: Option<i64>,
    reason: &'a str,
}

const TASK_COLUMNS: &str = "id, attempt, run_id, organization, plugin_id, worker_type, queue, cause, priority, created_at, scheduled_for, inputs, parameters";

impl Store {
    /// Takes waiting tasks of a queue, most urgent first, and makes an attempt of each. They are this replica's to
    /// publish until `lease`; after that anybody's, with the same number.
    pub async fn claim(
        &self,
        queue: &str,
        limit: i64,
        now: Moment,
        lease: Moment,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut transaction = self.begin().await?;
        let sql = format!(
            "WITH picked AS MATERIALIZED (SELECT id AS picked_id FROM task WHERE queue = $1 AND state = 'queued' \
             AND (not_before IS NULL OR not_before <= $2) AND cancel_by IS NULL ORDER BY class, priority, id LIMIT $3 {}) \
             UPDATE task SET state = 'dispatched', attempt = attempt + 1 FROM picked \
             WHERE id = picked.picked_id RETURNING {TASK_COLUMNS}",
            self.dialect.skip_locked()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(now.micros())
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
        let claimed = rows
            .iter()
            .map(read_claimed)
            .collect::<Result<Vec<_>, _>>()?;
        let offers: Vec<OfferRow<'_>> = claimed
            .iter()
            .map(|task| OfferRow {
                id: &task.task_id,
                number: task.attempt,
            })
            .collect();
        let sql = format!(
            "INSERT INTO attempt (task_id, number, offered_at, claimed_until) \
             SELECT r.id, r.number, {}, {} FROM {}",
            now.micros(),
            lease.micros(),
            self.dialect.rows("$1", "id text, number bigint")
        );
        write_rows(&mut transaction, sql, &offers).await?;
        transaction.commit().await?;
        self.complete(claimed).await
    }

    /// Takes offers that some replica claimed and did not publish in time, with their numbers.
    pub async fn claim_again(
        &self,
        limit: i64,
        now: Moment,
        lease: Moment,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut transaction = self.begin().await?;
        let sql = format!(
            "WITH picked AS MATERIALIZED (SELECT task_id AS picked_id, number AS picked_number FROM attempt \
             WHERE claimed_until <= $1 ORDER BY claimed_until LIMIT $2 {}) \
             UPDATE attempt SET claimed_until = $3 FROM picked \
             WHERE task_id = picked.picked_id AND number = picked.picked_number RETURNING task_id, number",
            self.dialect.skip_locked()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(now.micros())
            .bind(limit)
            .bind(lease.micros())
            .fetch_all(&mut *transaction)
            .await?;
        let offers: Vec<(String, i64)> = rows
            .iter()
            .map(|row| Ok((row.try_get("task_id")?, row.try_get("number")?)))
            .collect::<Result<_, sqlx::Error>>()?;
        if offers.is_empty() {
            transaction.rollback().await?;
            return Ok(Vec::new());
        }
        let offers: Vec<OfferRow<'_>> = offers
            .iter()
            .map(|(id, number)| OfferRow {
                id,
                number: *number,
            })
            .collect();
        let sql = format!(
            "SELECT {TASK_COLUMNS} FROM task WHERE state = 'dispatched' AND (id, attempt) IN (SELECT r.id, r.number FROM {})",
            self.dialect.rows("$1", "id text, number bigint")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&offers))
            .fetch_all(&mut *transaction)
            .await?;
        let claimed = rows
            .iter()
            .map(read_claimed)
            .collect::<Result<Vec<_>, _>>()?;
        let wanted: HashSet<&str> = claimed.iter().map(|task| task.task_id.as_str()).collect();
        // A task that went on without being published again has nothing left to offer.
        let void: Vec<OfferRow<'_>> = offers
            .into_iter()
            .filter(|offer| !wanted.contains(offer.id))
            .collect();
        let sql = format!(
            "UPDATE attempt SET claimed_until = NULL FROM {} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number",
            self.dialect.rows("$1", "id text, number bigint")
        );
        write_rows(&mut transaction, sql, &void).await?;
        transaction.commit().await?;
        self.complete(claimed).await
    }

    /// Adds the runs and the objects as they are now.
    async fn complete(&self, mut claimed: Vec<Claimed>) -> Result<Vec<Claimed>, StoreError> {
        if claimed.is_empty() {
            return Ok(claimed);
        }
        let mut connection = self.pool.acquire().await?;
        let runs: HashSet<&str> = claimed.iter().map(|task| task.run_id.as_str()).collect();
        let rows: Vec<IdRow<'_>> = runs.into_iter().map(|id| IdRow { id }).collect();
        let sql = format!(
            "SELECT u.id, u.schedule, u.schedule_id, u.occasion FROM {} JOIN run u ON u.id = r.id",
            self.dialect.rows("$1", "id text")
        );
        let mut known: HashMap<String, KnownRun> = HashMap::new();
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .fetch_all(&mut *connection)
            .await?
        {
            let occasion = Arc::new(read_map(&row.try_get::<String, _>("occasion")?));
            known.insert(
                row.try_get("id")?,
                (
                    row.try_get("schedule")?,
                    row.try_get("schedule_id")?,
                    occasion,
                ),
            );
        }
        let keys: HashSet<ObjectKey> = claimed
            .iter()
            .flat_map(|task| {
                task.inputs.iter().map(|input| ObjectKey {
                    organization: task.organization.clone(),
                    primary_key: input.primary_key.clone(),
                })
            })
            .collect();
        let rows: Vec<KeyRow<'_>> = keys
            .iter()
            .map(|key| KeyRow {
                o: &key.organization,
                k: &key.primary_key,
            })
            .collect();
        let mut objects: HashMap<ObjectKey, Arc<Object>> = HashMap::new();
        if !rows.is_empty() {
            let sql = format!(
                "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM {} JOIN object o ON o.organization = r.o AND o.primary_key = r.k",
                self.dialect.json_text("o.attributes"),
                self.dialect.rows("$1", "o text, k text")
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&rows))
                .fetch_all(&mut *connection)
                .await?
            {
                let (object, _) = read_object(&row)?;
                objects.insert(object.key.clone(), Arc::new(object));
            }
        }
        for task in &mut claimed {
            if let Some((schedule, schedule_id, occasion)) = known.get(&task.run_id) {
                task.schedule.clone_from(schedule);
                task.schedule_id.clone_from(schedule_id);
                task.occasion.clone_from(occasion);
            }
            for input in &mut task.inputs {
                let key = ObjectKey {
                    organization: task.organization.clone(),
                    primary_key: input.primary_key.clone(),
                };
                input.object = objects.get(&key).cloned();
            }
        }
        // A statement answers in any order; urgency is the order of the offers.
        claimed.sort_by(|a, b| {
            (a.cause.class(), a.priority, &a.task_id).cmp(&(
                b.cause.class(),
                b.priority,
                &b.task_id,
            ))
        });
        Ok(claimed)
    }

    /// These offers were confirmed. Where the confirm counts as acceptance, the tasks run from now.
    pub async fn mark_published(
        &self,
        offers: &[Published],
        accepted: bool,
        now: Moment,
    ) -> Result<(), StoreError> {
        let rows: Vec<PublishedRow<'_>> = offers
            .iter()
            .map(|offer| PublishedRow {
                id: &offer.task_id,
                number: offer.attempt,
                expires_at: (!accepted).then_some(offer.expires_at.micros()),
            })
            .collect();
        // If it is forgotten, the lease ends and the same offer is published once more.
        let mut transaction = if accepted {
            self.begin().await?
        } else {
            self.begin_lightly().await?
        };
        let sql = format!(
            "UPDATE attempt SET claimed_until = NULL, published_at = {}, expires_at = r.expires_at FROM {} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number AND claimed_until IS NOT NULL",
            now.micros(),
            self.dialect
                .rows("$1", "id text, number bigint, expires_at bigint")
        );
        write_rows(&mut transaction, sql, &rows).await?;
        if accepted {
            let source = self.dialect.rows("$1", "id text, number bigint");
            let sql = format!(
                "UPDATE task SET state = 'running' FROM {source} \
                 WHERE task.id = r.id AND task.attempt = r.number AND task.state = 'dispatched'"
            );
            write_rows(&mut transaction, sql, &rows).await?;
            let sql = format!(
                "UPDATE attempt SET accepted_at = {} FROM {source} \
                 WHERE attempt.task_id = r.id AND attempt.number = r.number AND accepted_at IS NULL AND ended_at IS NULL",
                now.micros()
            );
            write_rows(&mut transaction, sql, &rows).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Where no other process runs, what a dead one had claimed need not wait for the end of its lease.
    pub async fn release_claims(&self) -> Result<(), StoreError> {
        for sql in [
            "UPDATE attempt SET claimed_until = 0 WHERE claimed_until > 0",
            "UPDATE run SET claimed_until = NULL WHERE position IS NOT NULL",
        ] {
            sqlx::query(sql).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Puts off offers that could not be published: nobody tries them before `until`.
    pub async fn put_off(&self, offers: &[(String, i64)], until: Moment) -> Result<(), StoreError> {
        let rows: Vec<OfferRow<'_>> = offers
            .iter()
            .map(|(id, number)| OfferRow {
                id,
                number: *number,
            })
            .collect();
        let sql = format!(
            "UPDATE attempt SET claimed_until = {} FROM {} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number AND claimed_until IS NOT NULL",
            until.micros(),
            self.dialect.rows("$1", "id text, number bigint")
        );
        let mut connection = self.pool.acquire().await?;
        write_rows(&mut connection, sql, &rows).await?;
        Ok(())
    }

    /// Withdraws tasks that nobody has accepted.
    pub async fn withdraw(
        &self,
        ids: &[String],
        reason: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut transaction = self.begin().await?;
        self.withdraw_in(&mut transaction, &ids, reason, now)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends tasks that can never be offered.
    pub async fn bury(&self, ids: &[String], reason: &str, now: Moment) -> Result<(), StoreError> {
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let list = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
        let mut transaction = self.begin().await?;
        let buried = sqlx::query(AssertSqlSafe(format!(
            "UPDATE task SET state = 'dead', reason = $2, finished_at = $3 \
             WHERE id IN {list} AND state IN ('queued', 'dispatched') RETURNING id, run_id"
        )))
        .bind(json_rows(&rows))
        .bind(reason)
        .bind(now.micros())
        .fetch_all(&mut *transaction)
        .await?;
        let mut runs = Vec::new();
        for row in &buried {
            let run_id: String = row.try_get("run_id")?;
            sqlx::query("UPDATE run SET failed = failed + 1 WHERE id = $1")
                .bind(&run_id)
                .execute(&mut *transaction)
                .await?;
            runs.push(run_id);
        }
        write_rows(
            &mut transaction,
            format!("DELETE FROM open_input WHERE task_id IN {list}"),
            &rows,
        )
        .await?;
        let sql = format!(
            "UPDATE attempt SET claimed_until = NULL, expires_at = NULL, ended_at = {}, outcome = 'undeliverable' \
             WHERE ended_at IS NULL AND task_id IN {list}",
            now.micros()
        );
        write_rows(&mut transaction, sql, &rows).await?;
        self.end_runs(&mut transaction, &runs, now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// How tasks stand, with what is needed to judge a status; unknown ones are absent.
    pub async fn standings(
        &self,
        ids: &[&str],
    ) -> Result<HashMap<String, (Standing, String, String)>, StoreError> {
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let sql = format!(
            "SELECT t.id, t.state, t.attempt, t.spent, t.plugin_id, u.schedule_id, a.worker, a.outcome FROM {} \
             JOIN task t ON t.id = r.id JOIN run u ON u.id = t.run_id \
             LEFT JOIN attempt a ON a.task_id = t.id AND a.number = t.attempt",
            self.dialect.rows("$1", "id text")
        );
        let mut standings = HashMap::new();
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .fetch_all(&self.pool)
            .await?
        {
            let state: String = row.try_get("state")?;
            let standing = Standing {
                state: TaskState::parse(&state).unwrap_or(TaskState::Queued),
                attempt: row.try_get("attempt")?,
                spent: row.try_get("spent")?,
                worker: row.try_get("worker")?,
                outcome: row.try_get("outcome")?,
                ..Standing::new()
            };
            standings.insert(
                row.try_get("id")?,
                (
                    standing,
                    row.try_get("plugin_id")?,
                    row.try_get("schedule_id")?,
                ),
            );
        }
        Ok(standings)
    }

    /// Applies steps, each only where its task still stands as it was read. One step a task.
    pub async fn apply_steps(
        &self,
        steps: &[Reported],
        late: &[(String, Status, String)],
        now: Moment,
    ) -> Result<Written, StoreError> {
        let mut transaction = self.begin().await?;
        let rows: Vec<StepRow<'_>> = steps
            .iter()
            .map(|reported| step_row(reported, now))
            .collect();
        let columns = "id text, was text, number bigint, state text, spent bigint, not_before bigint, finished_at bigint, \
             reason text, worker text, accepted_at bigint, ended_at bigint, outcome text, message text, exit_code bigint, \
             log_ref text, log_tail text, outputs text";
        let source = self.dialect.rows("$1", columns);
        let mut applied: HashSet<String> = HashSet::new();
        let mut runs: HashMap<(String, &'static str), i64> = HashMap::new();
        if !rows.is_empty() {
            let sql = format!(
                "UPDATE task SET state = r.state, spent = r.spent, not_before = r.not_before, \
                 finished_at = r.finished_at, reason = r.reason FROM {source} \
                 WHERE task.id = r.id AND task.state = r.was AND task.attempt = r.number RETURNING task.id AS id, run_id, task.state AS state"
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&rows))
                .fetch_all(&mut *transaction)
                .await?
            {
                let state: String = row.try_get("state")?;
                let counter = match TaskState::parse(&state) {
                    Some(TaskState::Succeeded) => Some("succeeded"),
                    Some(TaskState::Failed | TaskState::Dead) => Some("failed"),
                    Some(TaskState::Cancelled | TaskState::Withdrawn) => Some("cancelled"),
                    _ => None,
                };
                if let Some(counter) = counter {
                    *runs.entry((row.try_get("run_id")?, counter)).or_default() += 1;
                }
                applied.insert(row.try_get("id")?);
            }
        }
        let taken: Vec<&StepRow<'_>> = rows.iter().filter(|row| applied.contains(row.id)).collect();
        let sql = format!(
            "UPDATE attempt SET worker = coalesce(attempt.worker, r.worker), \
             accepted_at = coalesce(attempt.accepted_at, r.accepted_at), \
             claimed_until = NULL, expires_at = NULL, published_at = coalesce(attempt.published_at, {now}), \
             ended_at = r.ended_at, outcome = r.outcome, message = r.message, exit_code = r.exit_code, \
             log_ref = r.log_ref, log_tail = r.log_tail, outputs = r.outputs FROM {source} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number",
            now = now.micros()
        );
        write_rows(&mut transaction, sql, &taken).await?;
        let ended: Vec<&StepRow<'_>> = taken
            .iter()
            .copied()
            .filter(|row| row.finished_at.is_some())
            .collect();
        let executed: Vec<&StepRow<'_>> = ended
            .iter()
            .copied()
            .filter(|row| TaskState::parse(row.state).is_some_and(TaskState::executed))
            .collect();
        let ids = self.dialect.rows("$1", "id text");
        self.start_grace(&mut transaction, &executed, now).await?;
        let suppressed: Vec<SuppressRow<'_>> = steps
            .iter()
            .filter(|reported| applied.contains(&reported.status.task_id))
            .filter_map(|reported| {
                let (until, reason) = reported.step.suppress.as_ref()?;
                Some(SuppressRow {
                    task_id: &reported.status.task_id,
                    until: until.map(Moment::micros),
                    reason,
                })
            })
            .collect();
        let sql = format!(
            "INSERT INTO suppressed AS s (organization, primary_key, unique_key, until, reason) \
             SELECT i.organization, i.primary_key, i.unique_key, r.until, r.reason \
             FROM open_input i JOIN {} ON i.task_id = r.task_id WHERE true \
             ON CONFLICT (organization, primary_key, unique_key) DO UPDATE SET until = excluded.until, reason = excluded.reason",
            self.dialect
                .rows("$1", "task_id text, until bigint, reason text")
        );
        write_rows(&mut transaction, sql, &suppressed).await?;
        let sql = format!("DELETE FROM open_input WHERE task_id IN (SELECT r.id FROM {ids})");
        write_rows(&mut transaction, sql, &ended).await?;
        let mut counted: Vec<(&(String, &'static str), &i64)> = runs.iter().collect();
        counted.sort();
        for ((run_id, counter), count) in &counted {
            sqlx::query(AssertSqlSafe(format!(
                "UPDATE run SET {counter} = {counter} + $1 WHERE id = $2"
            )))
            .bind(**count)
            .bind(run_id)
            .execute(&mut *transaction)
            .await?;
        }
        let finished: Vec<String> = counted
            .iter()
            .map(|((run_id, _), _)| run_id.clone())
            .collect();
        self.end_runs(&mut transaction, &finished, now).await?;
        self.keep_late(&mut transaction, late, now).await?;
        transaction.commit().await?;
        Ok(Written {
            stale: steps
                .iter()
                .map(|reported| &reported.status.task_id)
                .filter(|id| !applied.contains(*id))
                .cloned()
                .collect(),
        })
    }

    /// From now grace counts for what these tasks were about. Rows with their `id`, before they leave their keys.
    pub(super) async fn start_grace<T: Serialize>(
        &self,
        connection: &mut sqlx::AnyConnection,
        executed: &[T],
        now: Moment,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO last_end AS e (organization, primary_key, unique_key, ended_at, digest) \
             SELECT i.organization, i.primary_key, i.unique_key, {}, i.digest \
             FROM open_input i JOIN {} ON i.task_id = r.id WHERE i.digest <> '{UNGRACED}' \
             ON CONFLICT (organization, primary_key, unique_key) DO UPDATE SET ended_at = excluded.ended_at, digest = excluded.digest",
            now.micros(),
            self.dialect.rows("$1", "id text")
        );
        write_rows(connection, sql, executed).await?;
        Ok(())
    }

    async fn keep_late(
        &self,
        connection: &mut sqlx::AnyConnection,
        late: &[(String, Status, String)],
        now: Moment,
    ) -> Result<(), StoreError> {
        let rows: Vec<LateRow<'_>> = late
            .iter()
            .map(|(id, status, body)| LateRow {
                id,
                task_id: &status.task_id,
                number: status.attempt.unwrap_or(0),
                worker: &status.worker,
                status: status.word.name(),
                received_at: now.micros(),
                body,
            })
            .collect();
        let sql = format!(
            "INSERT INTO late_result (id, task_id, number, worker, status, received_at, body) \
             SELECT r.id, r.task_id, r.number, r.worker, r.status, r.received_at, r.body FROM {}",
            self.dialect.rows(
                "$1",
                "id text, task_id text, number bigint, worker text, status text, received_at bigint, body text"
            )
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }

    /// Offers that nobody accepted in time end, and their tasks wait again; answers with how many.
    pub async fn expire_offers(&self, now: Moment, limit: i64) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let sql = format!(
            "WITH picked AS MATERIALIZED (SELECT task_id AS picked_id, number AS picked_number FROM attempt \
             WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 {}) \
             UPDATE attempt SET expires_at = NULL, ended_at = $1, outcome = 'expired' FROM picked \
             WHERE task_id = picked.picked_id AND number = picked.picked_number AND ended_at IS NULL \
             RETURNING task_id, number",
            self.dialect.skip_locked()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(now.micros())
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
        let expired: Vec<(String, i64)> = rows
            .iter()
            .map(|row| Ok((row.try_get("task_id")?, row.try_get("number")?)))
            .collect::<Result<_, sqlx::Error>>()?;
        let rows: Vec<OfferRow<'_>> = expired
            .iter()
            .map(|(id, number)| OfferRow {
                id,
                number: *number,
            })
            .collect();
        let sql = format!(
            "UPDATE task SET state = 'queued', reason = 'offer_expired' FROM {} \
             WHERE task.id = r.id AND task.attempt = r.number AND task.state = 'dispatched'",
            self.dialect.rows("$1", "id text, number bigint")
        );
        let moved = write_rows(&mut transaction, sql, &rows).await?;
        transaction.commit().await?;
        Ok(moved)
    }

    /// A replica says that it is alive, and how its loops are.
    pub async fn beat(
        &self,
        replica: &str,
        started: Moment,
        now: Moment,
        beats: &Value,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO replica (id, started_at, beat_at, beats) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, beats = excluded.beats",
        )
        .bind(replica)
        .bind(started.micros())
        .bind(now.micros())
        .bind(beats.to_string())
        .execute(&self.pool)
        .await?;
        sqlx::query("DELETE FROM replica WHERE beat_at < $1")
            .bind(now.minus(FORGOTTEN).micros())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// A replica that ends in order leaves.
    pub async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM replica WHERE id = $1")
            .bind(replica)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Replicas: id, start, last beat, beats of its loops.
    pub async fn replicas(
        &self,
    ) -> Result<Vec<(String, Moment, Moment, Map<String, Value>)>, StoreError> {
        let rows = sqlx::query("SELECT id, started_at, beat_at, beats FROM replica ORDER BY id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.try_get("id")?,
                    moment(row, "started_at")?,
                    moment(row, "beat_at")?,
                    read_map(&row.try_get::<String, _>("beats")?),
                ))
            })
            .collect()
    }

    /// Queues that have waiting tasks, with how many and since when.
    pub async fn waiting(&self) -> Result<Vec<(String, String, i64, Moment)>, StoreError> {
        let rows = sqlx::query(
            "SELECT queue, state, count(*) AS many, min(created_at) AS oldest FROM task \
             WHERE state IN ('queued', 'dispatched', 'running') GROUP BY queue, state ORDER BY queue, state",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.try_get("queue")?,
                    row.try_get("state")?,
                    row.try_get("many")?,
                    moment(row, "oldest")?,
                ))
            })
            .collect()
    }
}

fn step_row<'a>(reported: &'a Reported, now: Moment) -> StepRow<'a> {
    let step = &reported.step;
    let state = step.state.unwrap_or(reported.standing.state);
    let ending = &step.ending;
    let at = reported.status.at.unwrap_or(now).micros();
    StepRow {
        id: &reported.status.task_id,
        was: reported.standing.state.word(),
        number: reported.standing.attempt,
        state: state.word(),
        spent: step.spent,
        not_before: step.not_before.map(Moment::micros),
        finished_at: state.terminal().then_some(now.micros()),
        reason: step.reason.as_deref(),
        worker: &reported.status.worker,
        accepted_at: step.accepted.then_some(at),
        ended_at: step.outcome.map(|_| at),
        outcome: step.outcome,
        message: ending.message.as_deref(),
        exit_code: ending.exit_code,
        log_ref: ending.log_ref.as_deref(),
        log_tail: ending.log_tail.as_deref(),
        outputs: ending.outputs.as_ref().map(ToString::to_string),
    }
}

fn read_claimed(row: &AnyRow) -> Result<Claimed, sqlx::Error> {
    let inputs: String = row.try_get("inputs")?;
    let inputs: Vec<Value> = serde_json::from_str(&inputs).unwrap_or_default();
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Claimed {
        task_id: row.try_get("id")?,
        attempt: row.try_get("attempt")?,
        run_id: row.try_get("run_id")?,
        schedule: String::new(),
        schedule_id: String::new(),
        organization: row.try_get("organization")?,
        plugin_id: row.try_get("plugin_id")?,
        worker_type: row.try_get("worker_type")?,
        queue: row.try_get("queue")?,
        cause: Cause::parse(&row.try_get::<String, _>("cause")?).unwrap_or(Cause::Event),
        priority: row.try_get("priority")?,
        created_at: moment(row, "created_at")?,
        scheduled_for: moment(row, "scheduled_for")?,
        inputs: inputs
            .iter()
            .map(|input| ClaimedInput {
                object_type: text(input, "object_type"),
                primary_key: text(input, "primary_key"),
                object: None,
            })
            .collect(),
        parameters: read_map(&row.try_get::<String, _>("parameters")?),
        occasion: Arc::default(),
    })
}
