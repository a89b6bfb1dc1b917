//! The nouns as people look at them: a page of rows, newest first.

use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, ValueRef};

use super::{Store, StoreError};
use crate::moment::Moment;

/// Which rows to show.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub organization: Option<String>,
    pub state: Option<String>,
    pub limit: i64,
    pub offset: i64,
}

/// Rows with their columns in order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub columns: Vec<String>,
    pub rows: Vec<Map<String, Value>>,
}

/// What one noun shows, and by what it is filtered and ordered.
struct Noun {
    name: &'static str,
    columns: &'static str,
    table: &'static str,
    organization: Option<&'static str>,
    state: Option<&'static str>,
    order: &'static str,
}

const NOUNS: [Noun; 6] = [
    Noun {
        name: "object",
        columns: "organization, object_type, primary_key, scan_level, scan_profile_type, live",
        table: "object",
        organization: Some("organization"),
        state: Some("object_type"),
        order: "organization, primary_key",
    },
    Noun {
        name: "run",
        columns: "id, schedule, organization, cause, state, reason, blocked_by, total, succeeded, failed, cancelled, created_at, finished_at",
        table: "run",
        organization: Some("organization"),
        state: Some("state"),
        order: "id DESC",
    },
    Noun {
        name: "task",
        columns: "id, organization, plugin_id, state, attempt, cause, priority, queue, created_at, finished_at, reason, inputs",
        table: "task",
        organization: Some("organization"),
        state: Some("state"),
        order: "id DESC",
    },
    Noun {
        name: "attempt",
        columns: "attempt.task_id, attempt.number, worker, offered_at, published_at, accepted_at, beat_at, done, total, stage, ended_at, outcome, exit_code, log_ref",
        table: "attempt JOIN task ON task.id = attempt.task_id",
        organization: Some("task.organization"),
        state: Some("coalesce(outcome, 'open')"),
        order: "attempt.task_id DESC, attempt.number DESC",
    },
    Noun {
        name: "late-result",
        columns: "late_result.id, task_id, number, worker, status, received_at",
        table: "late_result",
        organization: None,
        state: Some("status"),
        order: "late_result.id DESC",
    },
    Noun {
        name: "dead-letter",
        columns: "id, intake, reason, message, count, first_seen, last_seen",
        table: "dead_letter",
        organization: None,
        state: Some("reason"),
        order: "last_seen DESC, id DESC",
    },
];

impl Store {
    /// A page of a noun; nothing for a noun that is not kept in rows.
    pub async fn list(&self, noun: &str, page: &Page) -> Result<Option<Listing>, StoreError> {
        let Some(noun) = NOUNS.iter().find(|known| known.name == noun) else {
            return Ok(None);
        };
        let condition = |column: Option<&str>, parameter: &str| match column {
            Some(column) => format!("({parameter} = '' OR {column} = {parameter})"),
            None => format!("{parameter} = ''"),
        };
        let sql = format!(
            "SELECT {} FROM {} WHERE {} AND {} ORDER BY {} LIMIT $3 OFFSET $4",
            noun.columns,
            noun.table,
            condition(noun.organization, "$1"),
            condition(noun.state, "$2"),
            noun.order
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(page.organization.clone().unwrap_or_default())
            .bind(page.state.clone().unwrap_or_default())
            .bind(page.limit)
            .bind(page.offset)
            .fetch_all(&self.pool)
            .await?;
        let columns = noun
            .columns
            .split(", ")
            .map(|column| {
                column
                    .rsplit([' ', '.'])
                    .next()
                    .unwrap_or(column)
                    .to_owned()
            })
            .collect();
        let rows = rows.iter().map(read_row).collect::<Result<_, _>>()?;
        Ok(Some(Listing { columns, rows }))
    }

    /// Every task with its plugin and inputs, for comparisons: (organization, plugin, inputs, state).
    pub async fn task_keys(&self) -> Result<Vec<[String; 5]>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.organization, t.plugin_id, t.inputs, t.state, u.schedule FROM task t JOIN run u ON u.id = t.run_id ORDER BY t.id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok([
                    row.try_get("organization")?,
                    row.try_get("plugin_id")?,
                    row.try_get("inputs")?,
                    row.try_get("state")?,
                    row.try_get("schedule")?,
                ])
            })
            .collect()
    }
}

fn read_row(row: &AnyRow) -> Result<Map<String, Value>, sqlx::Error> {
    let mut read = Map::new();
    for column in row.columns() {
        let name = column.name();
        let raw = row.try_get_raw(name)?;
        let value = if raw.is_null() {
            Value::Null
        } else {
            match raw.type_info().name() {
                "TEXT" | "VARCHAR" => {
                    let text: String = row.try_get(name)?;
                    match name {
                        "inputs" => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                        _ => Value::String(text),
                    }
                }
                _ => {
                    let number: i64 = row.try_get(name)?;
                    if name.ends_with("_at") || name.ends_with("_seen") {
                        json!(Moment::from_micros(number).to_string())
                    } else if name == "live" {
                        json!(number != 0)
                    } else {
                        json!(number)
                    }
                }
            }
        };
        read.insert(name.to_owned(), value);
    }
    Ok(read)
}
