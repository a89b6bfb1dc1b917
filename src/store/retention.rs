//! History is forgotten by its age, and runs by their number too; a bounded number of rows at a time, so that nothing
//! waits for it.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::IdRow;
use super::requests::ANSWERS_KEPT;
use super::{Store, StoreError, write_rows};
use crate::moment::Moment;
use crate::task::first_id_of;

/// Before which instants history is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Older {
    pub events: Moment,
    pub tombstones: Moment,
    /// What objects no longer are since then.
    pub versions: Moment,
    /// Tasks that ended, with their attempts.
    pub tasks: Moment,
    /// Runs that ended, with whatever is left of their tasks.
    pub runs: Moment,
}

/// Runs that one step removes, at most: each may have many tasks.
const RUNS: i64 = 100;

impl Store {
    /// Removes history that is older than it is kept; answers with how many rows went.
    pub async fn forget(&self, older: &Older, now: Moment, limit: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        for (sql, before) in [
            (
                "DELETE FROM inbox WHERE (source, id) IN (SELECT source, id FROM inbox WHERE received_at < $1 LIMIT $2)",
                older.events,
            ),
            (
                "DELETE FROM object WHERE (organization, primary_key) IN (SELECT organization, primary_key FROM object \
              WHERE deleted_at IS NOT NULL AND live = 0 AND deleted_at < $1 LIMIT $2)",
                older.tombstones,
            ),
            (
                "DELETE FROM object_version WHERE (organization, primary_key, valid_from) IN \
              (SELECT organization, primary_key, valid_from FROM object_version \
              WHERE valid_to IS NOT NULL AND valid_to < $1 LIMIT $2)",
                older.versions,
            ),
            (
                "DELETE FROM request WHERE (organization, id) IN \
              (SELECT organization, id FROM request WHERE answered_at < $1 LIMIT $2)",
                now.minus(ANSWERS_KEPT),
            ),
        ] {
            gone += sqlx::query(sql)
                .bind(before.micros())
                .bind(limit)
                .execute(&self.pool)
                .await?
                .rows_affected();
        }
        gone += self.forget_events(older.events, limit).await?;
        gone += self.forget_tasks(older.tasks, limit).await?;
        gone += self.forget_runs(older.runs, limit).await?;
        Ok(gone)
    }

    async fn forget_events(&self, before: Moment, limit: i64) -> Result<u64, StoreError> {
        let sql = "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id < $1 ORDER BY id LIMIT $2)";
        let gone = sqlx::query(sql)
            .bind(first_id_of(before))
            .bind(limit)
            .execute(&self.pool)
            .await?;
        Ok(gone.rows_affected())
    }

    /// Ids begin with the instant of their making, and nothing ends before it was made: so the oldest come first
    /// without an index on their ends.
    async fn forget_tasks(&self, before: Moment, limit: i64) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM task WHERE id < $1 AND finished_at IS NOT NULL AND finished_at < $2 ORDER BY id LIMIT $3",
        )
        .bind(first_id_of(before))
        .bind(before.micros())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let mut transaction = self.begin().await?;
        let gone = self.remove_tasks(&mut transaction, &rows).await?;
        transaction.commit().await?;
        Ok(gone)
    }

    async fn forget_runs(&self, before: Moment, limit: i64) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM run WHERE id < $1 AND finished_at IS NOT NULL AND finished_at < $2 \
             AND completed_at IS NOT NULL ORDER BY id LIMIT $3",
        )
        .bind(first_id_of(before))
        .bind(before.micros())
        .bind(limit.min(RUNS))
        .fetch_all(&self.pool)
        .await?;
        self.remove_runs(&rows, limit).await
    }

    /// Of each schedule, organisation and target the newest runs that have ended are kept, so many.
    pub async fn forget_all_but(&self, newest: i64, limit: i64) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT n.id FROM (SELECT id, row_number() OVER (PARTITION BY schedule_id, organization, target \
             ORDER BY id DESC) AS number FROM run WHERE completed_at IS NOT NULL) n WHERE n.number > $1 ORDER BY n.id LIMIT $2",
        )
        .bind(newest)
        .bind(limit.min(RUNS))
        .fetch_all(&self.pool)
        .await?;
        self.remove_runs(&rows, limit).await
    }

    /// Removes runs with what is left of their tasks; a run with more tasks than `limit` goes in several steps.
    async fn remove_runs(&self, runs: &[AnyRow], limit: i64) -> Result<u64, StoreError> {
        if runs.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = runs
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()?;
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let list = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
        let mut transaction = self.begin().await?;
        let tasks = sqlx::query(AssertSqlSafe(format!(
            "SELECT id FROM task WHERE run_id IN {list} LIMIT $2"
        )))
        .bind(super::json_rows(&rows))
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
        let mut gone = self.remove_tasks(&mut transaction, &tasks).await?;
        if (tasks.len() as i64) < limit {
            gone += write_rows(
                &mut transaction,
                format!("DELETE FROM run WHERE id IN {list}"),
                &rows,
            )
            .await?;
        }
        transaction.commit().await?;
        Ok(gone)
    }

    async fn remove_tasks(
        &self,
        connection: &mut AnyConnection,
        tasks: &[AnyRow],
    ) -> Result<u64, StoreError> {
        let ids: Vec<String> = tasks
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()?;
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let list = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
        let mut gone = 0;
        for (table, column) in [
            ("attempt", "task_id"),
            ("late_result", "task_id"),
            ("by_hand", "task_id"),
            ("redrive", "task_id"),
            ("task", "id"),
        ] {
            let sql = format!("DELETE FROM {table} WHERE {column} IN {list}");
            let removed = write_rows(connection, sql, &rows).await?;
            if table == "task" {
                gone += removed;
            }
        }
        Ok(gone)
    }
}
