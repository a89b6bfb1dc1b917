//! What is told of the life of runs, tasks and schedules: a row in the same transaction as the state, taken away once it
//! is published. Nothing is written where nobody wants to be told.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::commit::IdRow;
use super::runs::traceparent;
use super::world::read_map;
use super::{Store, StoreError, maybe_moment, moment, write_rows};
use crate::moment::Moment;

/// Something that happened to a run, a task, a schedule or an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    pub about: String,
    pub number: i64,
    pub phase: i64,
    /// As `task.finished`.
    pub kind: String,
    pub organization: String,
    pub told_at: Moment,
    pub state: Option<String>,
    pub reason: Option<String>,
    pub worker: Option<String>,
    pub detail: Map<String, Value>,
    pub task: Option<LifeOfTask>,
    pub run: Option<LifeOfRun>,
}

/// What a page of tasks elsewhere shows of one.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeOfTask {
    pub run_id: String,
    pub plugin_id: String,
    pub worker_type: String,
    pub cause: String,
    pub priority: i64,
    pub created_at: Moment,
    pub scheduled_for: Moment,
    pub finished_at: Option<Moment>,
    pub inputs: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LifeOfRun {
    pub run_id: String,
    pub schedule_id: String,
    pub schedule: String,
    pub cause: String,
    pub target: Option<String>,
    pub blocked_by: Option<String>,
    pub scheduled_for: Moment,
    pub started_at: Option<Moment>,
    pub finished_at: Option<Moment>,
    /// Total, succeeded, failed, cancelled.
    pub counts: [i64; 4],
    /// The trace that it belongs to.
    pub traceparent: String,
}

/// What is told of something that has no row of its own.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    pub about: &'a str,
    pub number: i64,
    pub kind: &'static str,
    pub organization: &'a str,
    pub state: Option<&'static str>,
    pub reason: Option<&'a str>,
    pub detail: String,
}

#[derive(Serialize)]
struct KeyRow<'a> {
    about: &'a str,
    number: i64,
    phase: i64,
}

/// One replica publishes at a time, so that the order holds; the others wait for so long.
const LEASE: &str = "life";

impl Store {
    /// Whether the life of things is written down to be told.
    pub fn tell_life(&self, tell: bool) {
        self.telling.store(tell, Relaxed);
    }

    pub fn tells_life(&self) -> bool {
        self.telling.load(Relaxed)
    }

    /// These tasks are in another state from now on. That one waits for another's outcome is told to nobody: it would tell
    /// that another organisation has the same object.
    pub(super) async fn tell_tasks<'t>(
        &self,
        connection: &mut AnyConnection,
        tasks: impl Iterator<Item = &'t str>,
        now: Moment,
    ) -> Result<(), StoreError> {
        if !self.tells_life() {
            return Ok(());
        }
        let rows: Vec<IdRow<'_>> = tasks.map(|id| IdRow { id }).collect();
        let sql = format!(
            "INSERT INTO life (about, number, phase, kind, organization, told_at, state, reason, worker) \
             SELECT t.id, t.attempt, CASE t.state WHEN 'dispatched' THEN 1 WHEN 'running' THEN 2 WHEN 'queued' THEN 5 WHEN 'waiting' THEN 5 ELSE 6 END, \
             CASE t.state WHEN 'dispatched' THEN 'task.dispatched' WHEN 'running' THEN 'task.accepted' \
             WHEN 'queued' THEN 'task.queued' WHEN 'waiting' THEN 'task.queued' WHEN 'dead' THEN 'task.dead' ELSE 'task.finished' END, \
             t.organization, {}, CASE t.state WHEN 'waiting' THEN 'queued' ELSE t.state END, t.reason, a.worker FROM {} JOIN task t ON t.id = r.id \
             LEFT JOIN attempt a ON a.task_id = t.id AND a.number = t.attempt WHERE true ON CONFLICT DO NOTHING",
            now.micros(),
            self.dialect.rows("$1", "id text")
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }

    /// These runs were stored or have begun, and may have ended at once.
    pub(super) async fn tell_begun<'r>(
        &self,
        connection: &mut AnyConnection,
        runs: impl Iterator<Item = &'r str> + Clone,
        now: Moment,
    ) -> Result<(), StoreError> {
        if !self.tells_life() {
            return Ok(());
        }
        let rows: Vec<IdRow<'_>> = runs.clone().map(|id| IdRow { id }).collect();
        let sql = format!(
            "INSERT INTO life (about, number, phase, kind, organization, told_at, state, reason) \
             SELECT u.id, 0, 0, 'run.started', u.organization, {}, \
             CASE WHEN u.finished_at IS NULL THEN u.state ELSE 'running' END, NULL \
             FROM {} JOIN run u ON u.id = r.id WHERE u.started_at IS NOT NULL ON CONFLICT DO NOTHING",
            now.micros(),
            self.dialect.rows("$1", "id text")
        );
        write_rows(connection, sql, &rows).await?;
        self.tell_ended(connection, runs, now).await
    }

    /// Those of these runs that have ended now.
    pub(super) async fn tell_ended<'r>(
        &self,
        connection: &mut AnyConnection,
        runs: impl Iterator<Item = &'r str>,
        now: Moment,
    ) -> Result<(), StoreError> {
        if !self.tells_life() {
            return Ok(());
        }
        let rows: Vec<IdRow<'_>> = runs.map(|id| IdRow { id }).collect();
        let sql = format!(
            "INSERT INTO life (about, number, phase, kind, organization, told_at, state, reason) \
             SELECT u.id, 0, 9, CASE WHEN u.started_at IS NULL THEN 'run.skipped' ELSE 'run.finished' END, \
             u.organization, {now}, u.state, u.reason FROM {} JOIN run u ON u.id = r.id \
             WHERE u.finished_at = {now} ON CONFLICT DO NOTHING",
            self.dialect.rows("$1", "id text"),
            now = now.micros()
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }

    /// What has no row of its own.
    pub(super) async fn tell(
        &self,
        connection: &mut AnyConnection,
        told: &[Told<'_>],
        now: Moment,
    ) -> Result<(), StoreError> {
        if !self.tells_life() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO life (about, number, phase, kind, organization, told_at, state, reason, detail) \
             SELECT r.about, r.number, 0, r.kind, r.organization, {}, r.state, r.reason, r.detail FROM {} \
             WHERE true ON CONFLICT DO NOTHING",
            now.micros(),
            self.dialect.rows(
                "$1",
                "about text, number bigint, kind text, organization text, state text, reason text, detail text"
            )
        );
        write_rows(connection, sql, told).await?;
        Ok(())
    }

    /// What is to be told, in the order in which it is told; nothing while another replica does it. Until `lease` it is
    /// this replica's to publish.
    pub async fn life_to_tell(
        &self,
        limit: i64,
        now: Moment,
        lease: Moment,
    ) -> Result<Vec<Life>, StoreError> {
        let any = sqlx::query("SELECT about FROM life LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        let ours = sqlx::query(
            "INSERT INTO revision AS v (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE v.value <= $3",
        )
        .bind(LEASE)
        .bind(lease.micros())
        .bind(now.micros())
        .execute(&self.pool)
        .await?
        .rows_affected();
        if ours != 1 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT l.about, l.number, l.phase, l.kind, l.organization, l.told_at, l.state, l.reason, l.worker, l.detail, \
             t.run_id, t.plugin_id, t.worker_type, t.cause, t.priority, t.created_at, t.scheduled_for, t.finished_at, t.inputs, \
             u.id AS of_run, u.schedule_id, u.schedule, u.cause AS run_cause, u.target, u.blocked_by, \
             u.scheduled_for AS run_for, u.started_at AS run_started, u.finished_at AS run_finished, \
             u.total, u.succeeded, u.failed, u.cancelled, u.occasion \
             FROM (SELECT * FROM life ORDER BY about, number, phase LIMIT $1) l LEFT JOIN task t ON t.id = l.about \
             LEFT JOIN run u ON u.id = coalesce(t.run_id, l.about) ORDER BY l.about, l.number, l.phase",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(read_life).collect::<Result<_, _>>()?)
    }

    /// These were confirmed; the next may be told by anybody.
    pub async fn life_told(&self, told: &[Life]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let rows: Vec<KeyRow<'_>> = told
            .iter()
            .map(|life| KeyRow {
                about: &life.about,
                number: life.number,
                phase: life.phase,
            })
            .collect();
        let sql = format!(
            "DELETE FROM life WHERE (about, number, phase) IN (SELECT r.about, r.number, r.phase FROM {})",
            self.dialect
                .rows("$1", "about text, number bigint, phase bigint")
        );
        write_rows(&mut transaction, sql, &rows).await?;
        sqlx::query("UPDATE revision SET value = 0 WHERE name = $1")
            .bind(LEASE)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn read_life(row: &AnyRow) -> Result<Life, sqlx::Error> {
    let run_id: Option<String> = row.try_get("run_id")?;
    let task = match run_id {
        None => None,
        Some(run_id) => Some(LifeOfTask {
            run_id,
            plugin_id: row.try_get("plugin_id")?,
            worker_type: row.try_get("worker_type")?,
            cause: row.try_get("cause")?,
            priority: row.try_get("priority")?,
            created_at: moment(row, "created_at")?,
            scheduled_for: moment(row, "scheduled_for")?,
            finished_at: maybe_moment(row, "finished_at")?,
            inputs: serde_json::from_str(&row.try_get::<String, _>("inputs")?).unwrap_or_default(),
        }),
    };
    let of_run: Option<String> = row.try_get("of_run")?;
    let run = match of_run {
        None => None,
        Some(run_id) => Some(LifeOfRun {
            traceparent: traceparent(&run_id, &row.try_get::<String, _>("occasion")?),
            run_id,
            schedule_id: row.try_get("schedule_id")?,
            schedule: row.try_get("schedule")?,
            cause: row.try_get("run_cause")?,
            target: row.try_get("target")?,
            blocked_by: row.try_get("blocked_by")?,
            scheduled_for: moment(row, "run_for")?,
            started_at: maybe_moment(row, "run_started")?,
            finished_at: maybe_moment(row, "run_finished")?,
            counts: [
                row.try_get("total")?,
                row.try_get("succeeded")?,
                row.try_get("failed")?,
                row.try_get("cancelled")?,
            ],
        }),
    };
    let detail: Option<String> = row.try_get("detail")?;
    Ok(Life {
        about: row.try_get("about")?,
        number: row.try_get("number")?,
        phase: row.try_get("phase")?,
        kind: row.try_get("kind")?,
        organization: row.try_get("organization")?,
        told_at: moment(row, "told_at")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        worker: row.try_get("worker")?,
        detail: detail.as_deref().map(read_map).unwrap_or_default(),
        task,
        run,
    })
}
