//! How a task stands, for whoever asks why it is not running yet. It is read as it is, without a lock: it may have moved
//! on a moment later.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row};

use super::chained::keys_of;
use super::runs::read_occasion;
use super::steps::read_avoid;
use super::{Pause, Store, StoreError, key_rows, maybe_moment, moment};
use crate::moment::Moment;
use crate::progress::Avoided;
use crate::run::Occasion;

/// A task with the run that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    pub id: String,
    pub run_id: String,
    pub organization: String,
    pub plugin_id: String,
    pub worker_type: String,
    pub queue: String,
    pub state: String,
    pub class: i64,
    pub priority: i64,
    pub rank: i64,
    pub cause: String,
    pub created_at: Moment,
    pub scheduled_for: Moment,
    pub not_before: Option<Moment>,
    pub finished_at: Option<Moment>,
    pub expires_at: Option<Moment>,
    pub cancel_by: Option<Moment>,
    pub attempt: i64,
    pub spent: i64,
    pub declines: i64,
    pub reason: Option<String>,
    pub avoid: Vec<Avoided>,
    /// Keys of its inputs.
    pub inputs: Vec<String>,
    pub schedule_id: String,
    pub schedule: String,
    pub schedule_revision: i64,
    pub occasion: Occasion,
    pub parent_id: Option<String>,
    pub request_id: Option<String>,
    /// Whose outcome it waits for, or took.
    pub shared_from: Option<String>,
    /// It was made because another organisation got one, and nobody in its own has asked for it yet.
    pub on_behalf: bool,
}

/// The newest offer of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    pub number: i64,
    pub worker: Option<String>,
    pub offered_at: Moment,
    pub claimed_until: Option<Moment>,
    pub published_at: Option<Moment>,
    pub accepted_at: Option<Moment>,
    pub beat_at: Option<Moment>,
    pub done: Option<i64>,
    pub total: Option<i64>,
    pub stage: Option<String>,
    pub outcome: Option<String>,
    pub message: Option<String>,
}

/// Who goes before a task. Counts end at [`Place::MOST`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of the same class, organisation and plugin.
    pub in_group: i64,
    /// Of the same class and organisation, whatever their plugin.
    pub in_organization: i64,
    /// Of the same class, of other organisations; however urgent they are.
    pub of_others: i64,
    /// Other organisations of the same class.
    pub others: i64,
    /// Of higher classes.
    pub above: i64,
}

impl Place {
    pub const MOST: i64 = 10_000;
}

const READY: &str = "state = 'queued' AND not_before IS NULL AND cancel_by IS NULL";

impl Store {
    /// A task, where it is of this organisation; empty: of whichever.
    pub async fn task_record(
        &self,
        id: &str,
        organization: &str,
    ) -> Result<Option<TaskRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT t.id, t.run_id, t.organization, t.plugin_id, t.worker_type, t.queue, t.state, t.class, t.priority, \
             t.rank, t.cause, t.created_at, t.scheduled_for, t.not_before, t.finished_at, t.expires_at, t.cancel_by, \
             t.attempt, t.spent, t.declines, t.reason, t.avoid, t.inputs, t.shared_from, t.on_behalf, u.schedule_id, u.schedule, \
             u.schedule_revision, u.occasion, u.parent_id, u.request_id \
             FROM task t JOIN run u ON u.id = t.run_id WHERE t.id = $1 AND ($2 = '' OR t.organization = $2)",
        )
        .bind(id)
        .bind(organization)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(TaskRecord {
            id: row.try_get("id")?,
            run_id: row.try_get("run_id")?,
            organization: row.try_get("organization")?,
            plugin_id: row.try_get("plugin_id")?,
            worker_type: row.try_get("worker_type")?,
            queue: row.try_get("queue")?,
            state: row.try_get("state")?,
            class: row.try_get("class")?,
            priority: row.try_get("priority")?,
            rank: row.try_get("rank")?,
            cause: row.try_get("cause")?,
            created_at: moment(&row, "created_at")?,
            scheduled_for: moment(&row, "scheduled_for")?,
            not_before: maybe_moment(&row, "not_before")?,
            finished_at: maybe_moment(&row, "finished_at")?,
            expires_at: maybe_moment(&row, "expires_at")?,
            cancel_by: maybe_moment(&row, "cancel_by")?,
            attempt: row.try_get("attempt")?,
            spent: row.try_get("spent")?,
            declines: row.try_get("declines")?,
            reason: row.try_get("reason")?,
            avoid: read_avoid(row.try_get::<Option<String>, _>("avoid")?.as_deref()),
            inputs: keys_of(&row.try_get::<String, _>("inputs")?),
            schedule_id: row.try_get("schedule_id")?,
            schedule: row.try_get("schedule")?,
            schedule_revision: row.try_get("schedule_revision")?,
            occasion: read_occasion(&row.try_get::<String, _>("occasion")?),
            parent_id: row.try_get("parent_id")?,
            request_id: row.try_get("request_id")?,
            shared_from: row.try_get("shared_from")?,
            on_behalf: row.try_get::<Option<i64>, _>("on_behalf")? == Some(1),
        }))
    }

    pub async fn newest_attempt(&self, task_id: &str) -> Result<Option<AttemptRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT number, worker, offered_at, claimed_until, published_at, accepted_at, beat_at, done, total, stage, \
             outcome, message FROM attempt WHERE task_id = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(task_id)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(AttemptRecord {
            number: row.try_get("number")?,
            worker: row.try_get("worker")?,
            offered_at: moment(&row, "offered_at")?,
            claimed_until: maybe_moment(&row, "claimed_until")?,
            published_at: maybe_moment(&row, "published_at")?,
            accepted_at: maybe_moment(&row, "accepted_at")?,
            beat_at: maybe_moment(&row, "beat_at")?,
            done: row.try_get("done")?,
            total: row.try_get("total")?,
            stage: row.try_get("stage")?,
            outcome: row.try_get("outcome")?,
            message: row.try_get("message")?,
        }))
    }

    /// Who goes before a task that waits. `alone`: nothing is told of other organisations.
    pub async fn place_of(&self, task: &TaskRecord, alone: bool) -> Result<Place, StoreError> {
        let most = Place::MOST;
        let before =
            "(priority < $4 OR (priority = $4 AND (rank < $5 OR (rank = $5 AND id < $6))))";
        let count = |which: &str| {
            format!(
                "SELECT count(*) AS many FROM (SELECT 1 FROM task WHERE queue = $1 AND class = $2 AND {READY} AND {which} \
                 LIMIT {most}) AS before"
            )
        };
        let mut place = Place::default();
        let own = count(&format!(
            "organization = $3 AND {before} AND ($7 = '' OR plugin_id = $7)"
        ));
        for (plugin_id, into) in [
            (task.plugin_id.as_str(), &mut place.in_group),
            ("", &mut place.in_organization),
        ] {
            let row = sqlx::query(AssertSqlSafe(own.clone()))
                .bind(&task.queue)
                .bind(task.class)
                .bind(&task.organization)
                .bind(task.priority)
                .bind(task.rank)
                .bind(&task.id)
                .bind(plugin_id)
                .fetch_one(&self.pool)
                .await?;
            *into = row.try_get("many")?;
        }
        if alone {
            return Ok(place);
        }
        let above = sqlx::query(AssertSqlSafe(format!(
            "SELECT count(*) AS many FROM (SELECT 1 FROM task WHERE queue = $1 AND class < $2 AND {READY} LIMIT {most}) \
             AS above"
        )))
        .bind(&task.queue)
        .bind(task.class)
        .fetch_one(&self.pool)
        .await?;
        place.above = above.try_get("many")?;
        for (rows, into) in [
            ("1", &mut place.of_others),
            ("DISTINCT organization", &mut place.others),
        ] {
            let sql = format!(
                "SELECT count(*) AS many FROM (SELECT {rows} FROM task WHERE queue = $1 AND class = $2 \
                 AND organization <> $3 AND {READY} LIMIT {most}) AS others"
            );
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(&task.queue)
                .bind(task.class)
                .bind(&task.organization)
                .fetch_one(&self.pool)
                .await?;
            *into = row.try_get("many")?;
        }
        Ok(place)
    }

    /// How many tasks of a queue are offered and not accepted, and how many run, by organisation.
    pub async fn under_way(&self, queue: &str) -> Result<BTreeMap<String, (i64, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT organization, state, count(*) AS many FROM task WHERE queue = $1 \
             AND state IN ('dispatched', 'running') GROUP BY organization, state",
        )
        .bind(queue)
        .fetch_all(&self.pool)
        .await?;
        let mut under_way: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for row in &rows {
            let (offered, running) = under_way.entry(row.try_get("organization")?).or_default();
            match row.try_get::<String, _>("state")?.as_str() {
                "dispatched" => *offered = row.try_get("many")?,
                _ => *running = row.try_get("many")?,
            }
        }
        Ok(under_way)
    }

    /// How many tasks wait of some plugins or organisations: plugin, organisation, how many; no more than so many are
    /// counted.
    pub async fn open_tasks_of(
        &self,
        plugins: &[&str],
        organizations: &[&str],
        most: i64,
    ) -> Result<Vec<(String, String, i64)>, StoreError> {
        let sql = format!(
            "SELECT w.plugin_id, w.organization, count(*) AS many FROM (SELECT plugin_id, organization FROM task \
             WHERE state = 'queued' AND (plugin_id IN (SELECT r.k FROM {}) OR organization IN (SELECT r.k FROM {})) \
             LIMIT $3) AS w GROUP BY w.plugin_id, w.organization ORDER BY w.plugin_id, w.organization",
            self.dialect.rows("$1", "k text"),
            self.dialect.rows("$2", "k text")
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(plugins))
            .bind(key_rows(organizations))
            .bind(most)
            .fetch_all(&self.pool)
            .await?;
        let read = found.iter().map(|row| {
            Ok((
                row.try_get("plugin_id")?,
                row.try_get("organization")?,
                row.try_get("many")?,
            ))
        });
        Ok(read.collect::<Result<_, sqlx::Error>>()?)
    }

    /// The keys of the inputs of some tasks that wait.
    pub async fn inputs_of_open(
        &self,
        plugin_id: &str,
        organization: &str,
        limit: i64,
    ) -> Result<Vec<Vec<String>>, StoreError> {
        let rows = sqlx::query(
            "SELECT inputs FROM task WHERE plugin_id = $1 AND organization = $2 AND state = 'queued' LIMIT $3",
        )
        .bind(plugin_id)
        .bind(organization)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(keys_of(&row.try_get::<String, _>("inputs")?));
        }
        Ok(found)
    }

    /// Why a queue is paused, if it is.
    pub async fn pause_of_queue(&self, queue: &str) -> Result<Option<Pause>, StoreError> {
        let row = sqlx::query(
            "SELECT reason, who, paused_at FROM queue WHERE name = $1 AND paused_at IS NOT NULL",
        )
        .bind(queue)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let text = |name: &str| {
            let said: Option<String> = row.try_get(name)?;
            Ok::<String, sqlx::Error>(said.unwrap_or_default())
        };
        Ok(Some(Pause {
            reason: text("reason")?,
            who: text("who")?,
            at: moment(&row, "paused_at")?,
        }))
    }

    /// When each worker of a type last accepted something, the last first.
    pub async fn heard_of(&self, worker_type: &str) -> Result<Vec<(String, Moment)>, StoreError> {
        let rows = sqlx::query(
            "SELECT worker, heard_at FROM heard WHERE worker_type = $1 ORDER BY heard_at DESC, worker LIMIT 1000",
        )
        .bind(worker_type)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("worker")?, moment(row, "heard_at")?)))
            .collect()
    }
}
