//! Tasks on their way: claimed for an offer, published, reported on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::commit::{IdRow, UNGRACED};
use super::shared::Over;
use super::steps::read_avoid;
use super::world::{KeyRow, OBJECT_COLUMNS, read_map, read_object};
use super::{Store, StoreError, json_rows, maybe_moment, moment, of_named, write_rows};
use crate::moment::{Moment, Span};
use crate::object::{Object, ObjectKey};
use crate::progress::Avoided;
use crate::run::Cause;
use crate::tally;

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
    /// Workers that are not to have it.
    pub avoid: Vec<Avoided>,
    pub deduplication_key: Option<String>,
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
    /// Who has not accepted it by then does not have it; where the confirm is the acceptance, it has to have ended then.
    pub expires_at: Moment,
    /// Where it lies in a stream until somebody takes it.
    pub sequence: Option<i64>,
}

/// An offer that could not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOff {
    pub task_id: String,
    pub attempt: i64,
    pub why: String,
}

/// What an offer tells of its run: the schedule, its id, and what set it off.
type KnownRun = (String, String, Arc<Map<String, Value>>);

/// How attempts end that can never be offered.
const UNDELIVERABLE: &str = "undeliverable";

/// A replica that has been silent for so long is no longer shown.
const FORGOTTEN: Span = Span::seconds(120);

#[derive(Serialize)]
pub(super) struct OfferRow<'a> {
    pub id: &'a str,
    pub number: i64,
}

#[derive(Serialize)]
struct PublishedRow<'a> {
    id: &'a str,
    number: i64,
    expires_at: i64,
    sequence: Option<i64>,
}

#[derive(Serialize)]
struct PutOffRow<'a> {
    id: &'a str,
    number: i64,
    message: &'a str,
}

pub(super) const TASK_COLUMNS: &str = "id, attempt, run_id, organization, plugin_id, worker_type, queue, cause, priority, created_at, scheduled_for, inputs, parameters, avoid, deduplication_key";

impl Store {
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
        let mut claimed = rows
            .iter()
            .map(read_claimed)
            .collect::<Result<Vec<_>, _>>()?;
        // A statement answers in any order; urgency is the order of the offers.
        claimed.sort_by(|a, b| {
            let place = |task: &Claimed| (task.cause.class(), task.priority);
            (place(a), &a.task_id).cmp(&(place(b), &b.task_id))
        });
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
    pub(super) async fn complete(
        &self,
        mut claimed: Vec<Claimed>,
    ) -> Result<Vec<Claimed>, StoreError> {
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
        let rows: Vec<KeyRow<'_>> = keys.iter().map(KeyRow::of).collect();
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
        Ok(claimed)
    }

    /// These offers were confirmed. Where the confirm counts as acceptance, the tasks run from now.
    pub async fn mark_published(
        &self,
        offers: &[Published],
        accepted: bool,
        now: Moment,
    ) -> Result<(), StoreError> {
        let mut rows: Vec<PublishedRow<'_>> = offers
            .iter()
            .map(|offer| PublishedRow {
                id: &offer.task_id,
                number: offer.attempt,
                expires_at: offer.expires_at.micros(),
                sequence: offer.sequence,
            })
            .collect();
        // Whoever changes attempts comes to them in one order, so that nobody waits for another in turn.
        rows.sort_unstable_by_key(|row| row.id);
        // If it is forgotten, the lease ends and the same offer is published once more.
        let mut transaction = if accepted {
            self.begin().await?
        } else {
            self.begin_lightly().await?
        };
        let sql = format!(
            "UPDATE attempt SET claimed_until = NULL, message = NULL, published_at = {}, expires_at = r.expires_at, \
             sequence = r.sequence FROM {} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number AND claimed_until IS NOT NULL",
            now.micros(),
            self.dialect.rows(
                "$1",
                "id text, number bigint, expires_at bigint, sequence bigint"
            )
        );
        let marked = write_rows(&mut transaction, sql, &rows).await?;
        // What ended while the broker confirmed it lies there all the same.
        let lying = rows.iter().any(|row| row.sequence.is_some());
        if lying && marked < rows.len() as u64 {
            let sql = format!(
                "UPDATE attempt SET sequence = r.sequence FROM {} WHERE attempt.task_id = r.id \
                 AND attempt.number = r.number AND attempt.sequence IS NULL AND attempt.ended_at IS NOT NULL",
                self.dialect
                    .rows("$1", "id text, number bigint, sequence bigint")
            );
            write_rows(&mut transaction, sql, &rows).await?;
        }
        if accepted {
            let source = self.dialect.rows("$1", "id text, number bigint");
            let sql = format!(
                "UPDATE task SET state = 'running' FROM {source} \
                 WHERE task.id = r.id AND task.attempt = r.number AND {}",
                of_named("task.state = 'dispatched'")
            );
            write_rows(&mut transaction, sql, &rows).await?;
            let sql = format!(
                "UPDATE attempt SET accepted_at = {}, run_until = expires_at FROM {source} \
                 WHERE attempt.task_id = r.id AND attempt.number = r.number AND {}",
                now.micros(),
                of_named("attempt.accepted_at IS NULL AND attempt.ended_at IS NULL")
            );
            write_rows(&mut transaction, sql, &rows).await?;
        }
        if accepted {
            self.tell_tasks(&mut transaction, rows.iter().map(|row| row.id), now)
                .await?;
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

    /// Puts off offers that could not be published, and keeps why: nobody tries them before `until`.
    pub async fn put_off(&self, offers: &[PutOff], until: Moment) -> Result<(), StoreError> {
        let rows: Vec<PutOffRow<'_>> = offers
            .iter()
            .map(|offer| PutOffRow {
                id: &offer.task_id,
                number: offer.attempt,
                message: &offer.why,
            })
            .collect();
        let sql = format!(
            "UPDATE attempt SET claimed_until = {}, message = r.message FROM {} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number AND claimed_until IS NOT NULL",
            until.micros(),
            self.dialect
                .rows("$1", "id text, number bigint, message text")
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
        tally::counted(async {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let mut transaction = self.begin().await?;
            self.withdraw_in(&mut transaction, &ids, reason, now)
                .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Ends tasks that can never be offered.
    pub async fn bury(&self, ids: &[String], reason: &str, now: Moment) -> Result<(), StoreError> {
        tally::counted(async {
            let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
            let list = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
            let mut transaction = self.begin().await?;
            let noted = self.noting(self.listened().tasks, now.micros());
            let buried = sqlx::query(AssertSqlSafe(format!(
                "UPDATE task SET state = 'dead', reason = $2, finished_at = $3, unannounced = {noted} \
                 WHERE id IN {list} AND state IN ('queued', 'waiting', 'dispatched') \
                 RETURNING id, run_id, worker_type, attempt, deduplication_key"
            )))
            .bind(json_rows(&rows))
            .bind(reason)
            .bind(now.micros())
            .fetch_all(&mut *transaction)
            .await?;
            let mut runs = Vec::new();
            let mut over = Vec::new();
            for row in &buried {
                over.extend(Over::unshared(row)?);
                let run_id: String = row.try_get("run_id")?;
                if row.try_get::<i64, _>("attempt")? > 0 {
                    tally::attempt_ended(&row.try_get::<String, _>("worker_type")?, UNDELIVERABLE);
                }
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
                "UPDATE attempt SET claimed_until = NULL, expires_at = NULL, ended_at = {}, outcome = '{UNDELIVERABLE}' \
                 FROM {} WHERE attempt.task_id = r.id AND {}",
                now.micros(),
                self.dialect.rows("$1", "id text"),
                of_named("attempt.ended_at IS NULL")
            );
            write_rows(&mut transaction, sql, &rows).await?;
            let buried = ids.iter().map(String::as_str);
            self.tell_tasks(&mut transaction, buried, now).await?;
            self.share_ends(&mut transaction, &over, now).await?;
            self.end_runs(&mut transaction, &runs, now).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
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

    /// Workers that have accepted something since then, with their type.
    pub async fn heard_since(&self, since: Moment) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query("SELECT worker_type, worker FROM heard WHERE heard_at >= $1")
            .bind(since.micros())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("worker_type")?, row.try_get("worker")?)))
            .collect()
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

    /// Leases that replicas hold: what is claimed, how many, how many of these have run out, and until when the last holds.
    pub async fn leases(
        &self,
        now: Moment,
    ) -> Result<Vec<(&'static str, i64, i64, Option<Moment>)>, StoreError> {
        let mut leases = Vec::new();
        for (what, claimed) in [
            ("offers", "attempt WHERE claimed_until IS NOT NULL"),
            (
                "expansions",
                "run WHERE position IS NOT NULL AND claimed_until IS NOT NULL",
            ),
        ] {
            let sql = format!(
                "SELECT count(*) AS many, coalesce(sum(CASE WHEN claimed_until <= $1 THEN 1 ELSE 0 END), 0) AS lapsed, \
                 max(claimed_until) AS until FROM {claimed}"
            );
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(now.micros())
                .fetch_one(&self.pool)
                .await?;
            leases.push((
                what,
                row.try_get("many")?,
                row.try_get("lapsed")?,
                maybe_moment(&row, "until")?,
            ));
        }
        Ok(leases)
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
}

pub(super) fn read_claimed(row: &AnyRow) -> Result<Claimed, sqlx::Error> {
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
        avoid: read_avoid(row.try_get::<Option<String>, _>("avoid")?.as_deref()),
        deduplication_key: row.try_get("deduplication_key")?,
    })
}
