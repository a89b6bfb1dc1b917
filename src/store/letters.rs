//! Dead letters: messages that could not be read or handled, with their bytes.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::life::Told;
use super::{Dialect, Store, StoreError, moment};
use crate::moment::Moment;

/// Dead letters that are searched for a text, as no index is kept for that, and those that are found.
const LOOKED_AT: i64 = 10_000;
const FOUND: i64 = 100;

/// A message on its way to the dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub id: String,
    /// The queue that it came from.
    pub intake: String,
    pub routing_key: String,
    pub content_type: Option<String>,
    pub message_id: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub reason: String,
    pub message: String,
    pub seen: Moment,
}

/// A dead letter as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLetter {
    pub letter: DeadLetter,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub count: i64,
}

impl DeadLetter {
    /// The same bytes from the same queue are the same letter.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.intake.len() as u64).to_le_bytes());
        hash.update(self.intake.as_bytes());
        hash.update(self.message_id.as_deref().unwrap_or("").as_bytes());
        hash.update([0]);
        hash.update(&self.body);
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn envelope(&self) -> String {
        json!({
            "content_type": self.content_type,
            "message_id": self.message_id,
            "headers": self.headers,
        })
        .to_string()
        // PostgreSQL takes no NUL in a text, also not in a header that somebody sent.
        .replace("\\u0000", "\\ufffd")
    }
}

impl Store {
    pub(super) async fn write_dead_letters(
        &self,
        connection: &mut AnyConnection,
        letters: &[DeadLetter],
    ) -> Result<(), StoreError> {
        for letter in letters {
            sqlx::query(
                "INSERT INTO dead_letter AS d (id, fingerprint, intake, routing_key, headers, body, reason, message, \
                 first_seen, last_seen, count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 1) \
                 ON CONFLICT (fingerprint) DO UPDATE SET last_seen = excluded.last_seen, count = d.count + 1, \
                 reason = excluded.reason, message = excluded.message",
            )
            .bind(&letter.id)
            .bind(letter.fingerprint())
            .bind(without_nul(&letter.intake))
            .bind(without_nul(&letter.routing_key))
            .bind(letter.envelope())
            .bind(letter.body.clone())
            .bind(&letter.reason)
            .bind(without_nul(&letter.message))
            .bind(letter.seen.micros())
            .execute(&mut *connection)
            .await?;
        }
        let details: Vec<(&DeadLetter, String)> = letters
            .iter()
            .map(|letter| {
                let told = json!({
                    "id": letter.id, "intake": letter.intake, "routing_key": letter.routing_key,
                    "message_id": letter.message_id, "message": without_nul(&letter.message),
                });
                (letter, told.to_string().replace("\\u0000", "\\ufffd"))
            })
            .collect();
        let told: Vec<Told<'_>> = details
            .into_iter()
            .map(|(letter, detail)| Told {
                about: &letter.id,
                number: 0,
                kind: "event.rejected",
                organization: "",
                state: Some("rejected"),
                reason: Some(&letter.reason),
                detail,
            })
            .collect();
        if let Some(first) = letters.first() {
            self.tell(connection, &told, first.seen).await?;
        }
        Ok(())
    }

    /// Dead letters, the newest first; those of one reason where one is named.
    pub async fn dead_letters(
        &self,
        reason: Option<&str>,
        limit: i64,
    ) -> Result<Vec<StoredLetter>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, intake, routing_key, headers, body, reason, message, first_seen, last_seen, count \
             FROM dead_letter WHERE $1 = '' OR reason = $1 ORDER BY last_seen DESC, id DESC LIMIT $2",
        )
        .bind(reason.unwrap_or(""))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(read_letter)
            .collect::<Result<_, _>>()
            .map_err(StoreError::from)
    }

    pub async fn dead_letter(&self, id: &str) -> Result<Option<StoredLetter>, StoreError> {
        let row = sqlx::query(
            "SELECT id, intake, routing_key, headers, body, reason, message, first_seen, last_seen, count \
             FROM dead_letter WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref()
            .map(read_letter)
            .transpose()
            .map_err(StoreError::from)
    }

    /// Of the newest dead letters those that hold this text anywhere, or have it as their id; the newest first.
    pub async fn dead_letters_with(&self, text: &str) -> Result<Vec<StoredLetter>, StoreError> {
        let (in_body, in_headers) = match self.dialect {
            Dialect::Postgres => ("position($2 IN d.body) > 0", "strpos(d.headers, $1) > 0"),
            Dialect::Sqlite => ("instr(d.body, $2) > 0", "instr(d.headers, $1) > 0"),
        };
        let sql = format!(
            "SELECT id, intake, routing_key, headers, body, reason, message, first_seen, last_seen, count \
             FROM (SELECT * FROM dead_letter ORDER BY last_seen DESC, id DESC LIMIT {LOOKED_AT}) d \
             WHERE d.id = $1 OR {in_headers} OR {in_body} ORDER BY last_seen DESC, id DESC LIMIT {FOUND}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(text)
            .bind(text.as_bytes().to_vec())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(read_letter)
            .collect::<Result<_, _>>()
            .map_err(StoreError::from)
    }

    pub async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM dead_letter WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub async fn count_dead_letters(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS many FROM dead_letter")
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get("many")?)
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn read_letter(row: &AnyRow) -> Result<StoredLetter, sqlx::Error> {
    let envelope: String = row.try_get("headers")?;
    let envelope: Value = serde_json::from_str(&envelope).unwrap_or_default();
    let text = |name: &str| {
        envelope
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let headers = envelope
        .get("headers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|pair| {
            Some((
                pair.get(0)?.as_str()?.to_owned(),
                pair.get(1)?.as_str()?.to_owned(),
            ))
        })
        .collect();
    let last_seen = moment(row, "last_seen")?;
    Ok(StoredLetter {
        letter: DeadLetter {
            id: row.try_get("id")?,
            intake: row.try_get("intake")?,
            routing_key: row.try_get("routing_key")?,
            content_type: text("content_type"),
            message_id: text("message_id"),
            headers,
            body: row.try_get("body")?,
            reason: row.try_get("reason")?,
            message: row.try_get("message")?,
            seen: last_seen,
        },
        first_seen: moment(row, "first_seen")?,
        last_seen,
        count: row.try_get("count")?,
    })
}
