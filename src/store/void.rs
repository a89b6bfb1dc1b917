//! Offers that nobody is to have any more and that still lie in a stream.

use serde::Serialize;
use sqlx::Row;

use super::{Store, StoreError, write_rows};

/// An offer that ended without being accepted, and where its message lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    pub task_id: String,
    pub attempt: i64,
    pub sequence: i64,
}

#[derive(Serialize)]
struct VoidRow<'a> {
    id: &'a str,
    number: i64,
    sequence: i64,
}

impl Store {
    /// Some of the void offers that lie behind this place of the stream, in its order.
    pub async fn void_after(&self, after: i64, limit: i64) -> Result<Vec<Void>, StoreError> {
        let rows = sqlx::query(
            "SELECT task_id, number, sequence FROM attempt WHERE sequence > $1 AND sequence IS NOT NULL \
             AND accepted_at IS NULL AND ended_at IS NOT NULL ORDER BY sequence LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Void {
                    task_id: row.try_get("task_id")?,
                    attempt: row.try_get("number")?,
                    sequence: row.try_get("sequence")?,
                })
            })
            .collect()
    }

    /// These lie there no more.
    pub async fn taken_back(&self, offers: &[Void]) -> Result<(), StoreError> {
        let rows: Vec<VoidRow<'_>> = offers
            .iter()
            .map(|offer| VoidRow {
                id: &offer.task_id,
                number: offer.attempt,
                sequence: offer.sequence,
            })
            .collect();
        let sql = format!(
            "UPDATE attempt SET sequence = NULL FROM {} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number AND attempt.sequence = r.sequence",
            self.dialect
                .rows("$1", "id text, number bigint, sequence bigint")
        );
        let mut connection = self.pool.acquire().await?;
        write_rows(&mut connection, sql, &rows).await?;
        Ok(())
    }
}
