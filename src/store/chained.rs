//! Ends that somebody waits for: noted with the end, told once, and the runs that are complete only when all that was
//! chained from them is.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::IdRow;
use super::runs::read_occasion;
use super::{Dialect, Store, StoreError, json_rows, moment};
use crate::decide::{End, EndOf};
use crate::moment::Moment;

impl Store {
    /// Whether there are ends that nobody was told of, or runs that wait for their descendants.
    pub async fn some_ended(&self) -> Result<bool, StoreError> {
        let any = |from: &str| {
            format!("(SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT 1) AS waiting)")
        };
        let sql = format!(
            "SELECT {} + {} + {} AS many",
            any("run WHERE unannounced IS NOT NULL"),
            any("task WHERE unannounced IS NOT NULL"),
            any("run WHERE with_descendants = 1 AND completed_at IS NULL")
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get::<i64, _>("many")? > 0)
    }

    /// Ends that nobody was told of, those of tasks first, which are before those of their runs.
    pub async fn ends(&self, limit: i64) -> Result<Vec<End>, StoreError> {
        let tasks = "SELECT t.id, t.run_id, t.organization, t.plugin_id, t.cause, t.state, t.reason, t.inputs, \
             t.unannounced, u.schedule_id, u.schedule, u.depth, u.occasion \
             FROM task t JOIN run u ON u.id = t.run_id WHERE t.unannounced IS NOT NULL ORDER BY t.unannounced, t.id LIMIT $1";
        let rows = sqlx::query(tasks).bind(limit).fetch_all(&self.pool).await?;
        let ends = rows.iter().map(|row| {
            let inputs: String = row.try_get("inputs")?;
            Ok(End {
                of: EndOf::Task,
                run_id: row.try_get("run_id")?,
                plugin_id: row.try_get("plugin_id")?,
                inputs: keys_of(&inputs),
                ..end(row)?
            })
        });
        let ends: Vec<End> = ends.collect::<Result<_, StoreError>>()?;
        if !ends.is_empty() {
            return Ok(ends);
        }
        let runs = "SELECT id, organization, cause, state, reason, unannounced, schedule_id, schedule, depth, occasion, target, \
             total, succeeded, failed, cancelled FROM run WHERE unannounced IS NOT NULL ORDER BY unannounced, id LIMIT $1";
        let rows = sqlx::query(runs).bind(limit).fetch_all(&self.pool).await?;
        let ends = rows.iter().map(|row| {
            let count = |name: &str| row.try_get::<i64, _>(name);
            let failed = count("failed")?;
            let done = count("succeeded")? + failed + count("cancelled")?;
            let target: Option<String> = row.try_get("target")?;
            Ok(End {
                of: EndOf::Run,
                run_id: row.try_get("id")?,
                inputs: target.into_iter().collect(),
                counts: [count("total")?, done, failed],
                ..end(row)?
            })
        });
        ends.collect()
    }

    /// From now on these ends are told; false where somebody else has told of one.
    pub(super) async fn announce(
        &self,
        connection: &mut AnyConnection,
        ends: &[End],
    ) -> Result<bool, StoreError> {
        for of in [EndOf::Run, EndOf::Task] {
            let ids: Vec<IdRow<'_>> = ends
                .iter()
                .filter(|end| end.of == of)
                .map(|end| IdRow { id: &end.id })
                .collect();
            if ids.is_empty() {
                continue;
            }
            let table = of.noun();
            let listed = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
            // Locked in one order, so that two replicas never wait for each other.
            let sql = match self.dialect {
                Dialect::Postgres => format!(
                    "WITH locked AS MATERIALIZED (SELECT id FROM {table} WHERE id IN {listed} ORDER BY id FOR UPDATE) \
                     UPDATE {table} SET unannounced = NULL WHERE id IN (SELECT id FROM locked) AND unannounced IS NOT NULL"
                ),
                Dialect::Sqlite => format!(
                    "UPDATE {table} SET unannounced = NULL WHERE id IN {listed} AND unannounced IS NOT NULL"
                ),
            };
            let told = sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&ids))
                .execute(&mut *connection)
                .await?
                .rows_affected();
            if told != ids.len() as u64 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs that waited for their descendants become complete once all of these are; answers how many did.
    pub async fn complete_runs(&self, now: Moment) -> Result<u64, StoreError> {
        let completed = sqlx::query(
            "UPDATE run SET completed_at = $1 WHERE id IN (SELECT p.id FROM run p WHERE p.with_descendants = 1 \
             AND p.completed_at IS NULL AND p.finished_at IS NOT NULL AND p.unannounced IS NULL \
             AND NOT EXISTS (SELECT 1 FROM run c WHERE c.parent_id = p.id AND c.completed_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM task t WHERE t.run_id = p.id AND t.unannounced IS NOT NULL))",
        )
        .bind(now.micros())
        .execute(&self.pool)
        .await?;
        Ok(completed.rows_affected())
    }
}

/// What the ends of runs and of tasks have alike.
fn end(row: &AnyRow) -> Result<End, StoreError> {
    let occasion = read_occasion(&row.try_get::<String, _>("occasion")?);
    Ok(End {
        id: row.try_get("id")?,
        organization: row.try_get("organization")?,
        schedule_id: row.try_get("schedule_id")?,
        schedule: row.try_get("schedule")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        cause: row.try_get("cause")?,
        depth: row.try_get("depth")?,
        at: moment(row, "unannounced")?,
        traceparent: occasion.traceparent,
        ..End::default()
    })
}

/// The keys of a task's inputs, as it keeps them.
pub(super) fn keys_of(inputs: &str) -> Vec<String> {
    let kept: Vec<serde_json::Value> = serde_json::from_str(inputs).unwrap_or_default();
    let key = |input: &serde_json::Value| Some(input.get("primary_key")?.as_str()?.to_owned());
    kept.iter().filter_map(key).collect()
}
