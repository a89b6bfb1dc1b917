//! Queues as people see them: how much waits, since when, what is under way, and whether somebody paused them.

use std::collections::BTreeMap;

use sqlx::Row;

use super::{Pause, Store, StoreError, maybe_moment, moment};
use crate::moment::Moment;

/// What waits in one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    pub many: i64,
    /// When the oldest of them was made.
    pub oldest: Moment,
}

/// A queue and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRecord {
    pub name: String,
    /// By class; what waits for an instant is not among them.
    pub waiting: BTreeMap<i64, Depth>,
    pub delayed: i64,
    /// They wait for the outcome of others. Where one organisation looks they are among those that wait for their turn.
    pub sharing: i64,
    pub dispatched: i64,
    pub running: i64,
    pub paused: Option<Pause>,
}

impl Store {
    /// Queues that have something in them or are paused; what is in them of one organisation, where one is named.
    pub async fn queues(&self, organization: Option<&str>) -> Result<Vec<QueueRecord>, StoreError> {
        let mut queues: BTreeMap<String, QueueRecord> = BTreeMap::new();
        let mut connection = self.pool.acquire().await?;
        let bound = organization.unwrap_or("");
        for row in sqlx::query(
            "SELECT name, reason, who, paused_at FROM queue WHERE paused_at IS NOT NULL",
        )
        .fetch_all(&mut *connection)
        .await?
        {
            if let Some(at) = maybe_moment(&row, "paused_at")? {
                let reason: Option<String> = row.try_get("reason")?;
                let who: Option<String> = row.try_get("who")?;
                record(&mut queues, row.try_get("name")?).paused = Some(Pause {
                    reason: reason.unwrap_or_default(),
                    who: who.unwrap_or_default(),
                    at,
                });
            }
        }
        // Ids begin with the instant of their making, so the least of them is the oldest.
        for row in sqlx::query(
            "SELECT w.queue, w.class, w.many, t.created_at AS oldest FROM (SELECT queue, class, count(*) AS many, \
             min(id) AS first FROM task WHERE state = 'queued' AND not_before IS NULL AND ($1 = '' OR organization = $1) \
             GROUP BY queue, class) AS w JOIN task t ON t.id = w.first",
        )
        .bind(bound)
        .fetch_all(&mut *connection)
        .await?
        {
            let depth = Depth {
                many: row.try_get("many")?,
                oldest: moment(&row, "oldest")?,
            };
            let queue = record(&mut queues, row.try_get("queue")?);
            queue.waiting.insert(row.try_get("class")?, depth);
        }
        for row in sqlx::query(
            "SELECT w.queue, w.class, w.many, t.created_at AS oldest FROM (SELECT queue, class, count(*) AS many, \
             min(id) AS first FROM task WHERE state = 'waiting' AND ($1 = '' OR organization = $1) \
             GROUP BY queue, class) AS w JOIN task t ON t.id = w.first",
        )
        .bind(bound)
        .fetch_all(&mut *connection)
        .await?
        {
            let many: i64 = row.try_get("many")?;
            let oldest = moment(&row, "oldest")?;
            let queue = record(&mut queues, row.try_get("queue")?);
            if organization.is_none() {
                queue.sharing += many;
                continue;
            }
            let none = Depth { many: 0, oldest };
            let depth = queue.waiting.entry(row.try_get("class")?).or_insert(none);
            depth.many += many;
            depth.oldest = depth.oldest.min(oldest);
        }
        for row in sqlx::query(
            "SELECT queue, 'delayed' AS state, count(*) AS many FROM task WHERE state = 'queued' \
             AND not_before IS NOT NULL AND ($1 = '' OR organization = $1) GROUP BY queue UNION ALL \
             SELECT queue, state, count(*) AS many FROM task WHERE state IN ('dispatched', 'running') \
             AND ($1 = '' OR organization = $1) GROUP BY queue, state",
        )
        .bind(bound)
        .fetch_all(&mut *connection)
        .await?
        {
            let many: i64 = row.try_get("many")?;
            let state: String = row.try_get("state")?;
            let queue = record(&mut queues, row.try_get("queue")?);
            match state.as_str() {
                "delayed" => queue.delayed = many,
                "dispatched" => queue.dispatched = many,
                _ => queue.running = many,
            }
        }
        Ok(queues.into_values().collect())
    }

    /// How many offers were made from each queue, ever.
    pub async fn offers_made(&self) -> Result<BTreeMap<String, i64>, StoreError> {
        let rows = sqlx::query("SELECT name, dispatched FROM queue")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows
            .iter()
            .map(|row| Ok((row.try_get("name")?, row.try_get("dispatched")?)))
            .collect::<Result<_, sqlx::Error>>()?)
    }

    /// Ids of the oldest tasks of a queue that may be offered, of one class.
    pub async fn oldest_waiting(
        &self,
        queue: &str,
        class: i64,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM task WHERE state = 'queued' AND not_before IS NULL AND queue = $1 AND class = $2 \
             ORDER BY id LIMIT $3",
        )
        .bind(queue)
        .bind(class)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()?)
    }

    /// Nothing more is offered from the queue until it is resumed; false where it is paused already for the same reason.
    pub async fn pause_queue(&self, queue: &str, pause: &Pause) -> Result<bool, StoreError> {
        let paused = sqlx::query(
            "INSERT INTO queue AS q (name, paused_at, reason, who) VALUES ($1, $2, $3, $4) ON CONFLICT (name) \
             DO UPDATE SET paused_at = excluded.paused_at, reason = excluded.reason, who = excluded.who \
             WHERE q.paused_at IS NULL OR coalesce(q.reason, '') <> excluded.reason",
        )
        .bind(queue)
        .bind(pause.at.micros())
        .bind(&pause.reason)
        .bind(&pause.who)
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(paused == 1)
    }

    /// The queue offers again; false where it was not paused.
    pub async fn resume_queue(&self, queue: &str) -> Result<bool, StoreError> {
        let resumed = sqlx::query(
            "UPDATE queue SET paused_at = NULL, reason = NULL, who = NULL WHERE name = $1 AND paused_at IS NOT NULL",
        )
        .bind(queue)
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(resumed == 1)
    }
}

fn record(queues: &mut BTreeMap<String, QueueRecord>, name: String) -> &mut QueueRecord {
    queues.entry(name.clone()).or_insert_with(|| QueueRecord {
        name,
        ..QueueRecord::default()
    })
}
