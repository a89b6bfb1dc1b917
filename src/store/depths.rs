//! How much there is, for gauges: counted along an index and up to a bound, so that ten million rows cost no more than
//! the bound does.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{AssertSqlSafe, Row};

use super::queues::{Depth, QueueRecord};
use super::{Store, StoreError, json_rows, maybe_moment};
use crate::moment::Moment;

/// What is left behind for people to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    pub letters: i64,
    /// When the oldest of these messages came first.
    pub oldest: Option<Moment>,
    /// Tasks that are dead and were not made anew.
    pub tasks: i64,
}

#[derive(Serialize)]
struct ClassRow<'a> {
    q: &'a str,
    c: i64,
}

#[derive(Serialize)]
struct QueueRow<'a> {
    q: &'a str,
}

const WAITS: &str = "t.state = 'queued' AND t.not_before IS NULL";

impl Store {
    /// What is in these queues, by state and class; no figure is higher than `most`.
    pub async fn depths(
        &self,
        queues: &[&str],
        classes: i64,
        most: i64,
    ) -> Result<Vec<QueueRecord>, StoreError> {
        let of_classes: Vec<ClassRow<'_>> = queues
            .iter()
            .flat_map(|q| (0..classes).map(|c| ClassRow { q, c }))
            .collect();
        let of_queues: Vec<QueueRow<'_>> = queues.iter().map(|q| QueueRow { q }).collect();
        let mut found: BTreeMap<String, QueueRecord> = BTreeMap::new();
        let mut connection = self.pool.acquire().await?;
        let sql = format!(
            "SELECT w.queue, w.class, w.many, (SELECT t.created_at FROM task t WHERE t.queue = w.queue \
             AND t.class = w.class AND {WAITS} ORDER BY t.id LIMIT 1) AS oldest FROM (SELECT r.q AS queue, r.c AS class, \
             (SELECT count(*) FROM (SELECT 1 AS one FROM task t WHERE t.queue = r.q AND t.class = r.c AND {WAITS} LIMIT $2) \
             AS counted) AS many FROM {}) AS w WHERE w.many > 0",
            self.dialect.rows("$1", "q text, c bigint")
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&of_classes))
            .bind(most)
            .fetch_all(&mut *connection)
            .await?
        {
            let name: String = row.try_get("queue")?;
            // It may have gone between the two looks.
            let Some(oldest) = maybe_moment(&row, "oldest")? else {
                continue;
            };
            let many = row.try_get("many")?;
            let record = found.entry(name).or_default();
            record
                .waiting
                .insert(row.try_get("class")?, Depth { many, oldest });
        }
        let counted = |condition: &str| {
            format!(
                "(SELECT count(*) FROM (SELECT 1 AS one FROM task t WHERE t.queue = r.q AND {condition} LIMIT $2) AS counted)"
            )
        };
        let sql = format!(
            "SELECT r.q AS queue, {} AS delayed, {} AS dispatched, {} AS running, {} AS sharing FROM {}",
            counted("t.state = 'queued' AND t.not_before IS NOT NULL"),
            counted("t.state = 'dispatched'"),
            counted("t.state = 'running'"),
            counted("t.state = 'waiting'"),
            self.dialect.rows("$1", "q text")
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&of_queues))
            .bind(most)
            .fetch_all(&mut *connection)
            .await?
        {
            let name: String = row.try_get("queue")?;
            let record = found.entry(name.clone()).or_default();
            record.name = name;
            record.delayed = row.try_get("delayed")?;
            record.dispatched = row.try_get("dispatched")?;
            record.running = row.try_get("running")?;
            record.sharing = row.try_get("sharing")?;
        }
        Ok(found.into_values().collect())
    }

    /// Dead letters and dead tasks; no figure is higher than `most`.
    pub async fn left_behind(&self, most: i64) -> Result<LeftBehind, StoreError> {
        // Ids begin with the instant of their making, so the least of them came first.
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM (SELECT 1 AS one FROM dead_letter LIMIT $1) AS counted) AS letters, \
             (SELECT first_seen FROM dead_letter ORDER BY id LIMIT 1) AS oldest, \
             (SELECT count(*) FROM (SELECT 1 AS one FROM task WHERE state = 'dead' AND NOT EXISTS \
             (SELECT 1 FROM redrive WHERE redrive.task_id = task.id) LIMIT $1) AS counted) AS tasks",
        )
        .bind(most)
        .fetch_one(&self.pool)
        .await?;
        Ok(LeftBehind {
            letters: row.try_get("letters")?,
            oldest: maybe_moment(&row, "oldest")?,
            tasks: row.try_get("tasks")?,
        })
    }
}
