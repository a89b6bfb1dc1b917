//! The nouns as people look at them: a page of rows, newest first.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, ValueRef};

use super::{Store, StoreError, key_rows};
use crate::moment::Moment;

/// Which rows to show.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub organization: Option<String>,
    pub state: Option<String>,
    pub limit: i64,
    pub offset: i64,
    /// The id of the last row of the page before; empty for the first page.
    pub after: String,
    /// The id of the last row that is looked at; empty where all are.
    pub down_to: String,
    /// Columns of texts that must have one of these values.
    pub only: BTreeMap<String, Vec<String>>,
}

/// Rows with their columns in order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Those that a table shows; a row may have more.
    pub columns: Vec<String>,
    pub rows: Vec<Map<String, Value>>,
}

impl Listing {
    /// By which the page after a row is asked for.
    pub fn position(row: &Map<String, Value>) -> String {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        match row.get("number") {
            Some(number) => format!("{}:{number}", text("task_id")),
            None => text("id").to_owned(),
        }
    }
}

/// What one noun shows, and by what it is filtered and ordered.
struct Noun {
    name: &'static str,
    columns: &'static str,
    /// What a table has no room for.
    more: &'static str,
    table: &'static str,
    organization: Option<&'static str>,
    state: Option<&'static str>,
    order: &'static str,
    /// What comes after a row: `$3` is its id, `$4` its number; nothing where pages are not asked for so.
    after: Option<&'static str>,
}

/// What has ids that tell the order of its making, the newest first.
const AFTER_ID: Option<&str> = Some("id < $3 AND $4 >= 0");
/// The first page.
const FROM_THE_TOP: &str = "$3 = '' AND $4 >= 0";

const NOUNS: [Noun; 6] = [
    Noun {
        name: "object",
        columns: "organization, object_type, primary_key, scan_level, scan_profile_type, live",
        more: "",
        table: "object",
        organization: Some("organization"),
        state: Some("object_type"),
        order: "organization, primary_key",
        after: None,
    },
    Noun {
        name: "run",
        columns: "id, schedule, organization, cause, state, reason, blocked_by, position, total, succeeded, failed, cancelled, created_at, finished_at",
        more: ", schedule_id, target, parent_id, request_id, scheduled_for, started_at",
        table: "run",
        organization: Some("organization"),
        state: Some("state"),
        order: "id DESC",
        after: AFTER_ID,
    },
    Noun {
        name: "task",
        columns: "id, organization, plugin_id, state, attempt, cause, priority, queue, created_at, finished_at, reason, inputs",
        more: ", run_id, (SELECT u.schedule FROM run u WHERE u.id = task.run_id) AS schedule, worker_type, spent, declines, \
              scheduled_for, not_before, expires_at, parameters, deduplication_key, shared_from",
        table: "task",
        organization: Some("organization"),
        state: Some("state"),
        order: "id DESC",
        after: AFTER_ID,
    },
    Noun {
        name: "attempt",
        columns: "attempt.task_id, attempt.number, worker, offered_at, published_at, accepted_at, beat_at, done, total, stage, ended_at, outcome, exit_code, log_ref",
        more: ", task.organization, task.plugin_id, task.scheduled_for, message, log_tail, note, accepted_at AS started_at, \
              (SELECT u.schedule FROM run u WHERE u.id = task.run_id) AS schedule",
        table: "attempt JOIN task ON task.id = attempt.task_id",
        organization: Some("task.organization"),
        state: Some("coalesce(outcome, 'open')"),
        order: "attempt.task_id DESC, attempt.number DESC",
        after: Some("(attempt.task_id < $3 OR (attempt.task_id = $3 AND attempt.number < $4))"),
    },
    Noun {
        name: "late-result",
        columns: "late_result.id, task_id, number, worker, status, received_at",
        more: "",
        table: "late_result",
        organization: None,
        state: Some("status"),
        order: "late_result.id DESC",
        after: None,
    },
    Noun {
        name: "dead-letter",
        columns: "id, kind, organization, intake, reason, message, count, first_seen, last_seen",
        more: ", plugin_id",
        // Made of two tables, see `letters`.
        table: "",
        organization: Some("organization"),
        state: Some("reason"),
        order: "id DESC",
        after: AFTER_ID,
    },
];

const MESSAGES: &str = "SELECT id, 'message' AS kind, '' AS organization, intake, reason, message, count, first_seen, last_seen, \
     '' AS plugin_id FROM dead_letter";
/// What a person has made anew, or dropped, is no letter any more.
const DEAD_TASKS: &str = "SELECT id, 'task' AS kind, organization, queue AS intake, reason, \
     (SELECT a.message FROM attempt a WHERE a.task_id = task.id AND a.number = task.attempt) AS message, attempt AS count, \
     created_at AS first_seen, finished_at AS last_seen, plugin_id FROM task WHERE state = 'dead' \
     AND NOT EXISTS (SELECT 1 FROM redrive WHERE redrive.task_id = task.id)";

/// Dead letters as one table. Where all of them are wanted a page needs no more than a page of each kind, which the
/// databases do not find out by themselves.
fn letters(page: Option<&str>) -> String {
    let part = |letters: &str| match page {
        Some(after) => format!(
            "SELECT * FROM (SELECT * FROM ({letters}) AS one WHERE {after} ORDER BY id DESC LIMIT $5 + $6) AS page"
        ),
        None => letters.to_owned(),
    };
    format!(
        "({} UNION ALL {}) AS letter",
        part(MESSAGES),
        part(DEAD_TASKS)
    )
}

/// The columns of a list, each with its name.
fn named(columns: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let (mut depth, mut from) = (0, 0);
    let ends = columns.char_indices().chain([(columns.len(), ',')]);
    for (at, c) in ends {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                let column = columns.get(from..at).unwrap_or_default().trim();
                let name = column.rsplit([' ', '.']).next().unwrap_or(column);
                let whole = column
                    .strip_suffix(&format!(" AS {name}"))
                    .unwrap_or(column);
                if !column.is_empty() {
                    found.push((whole, name));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// What is counted of what there is, and how: each part by the index that holds it alone, because the rest is history.
pub const CENSUS: [(&str, &str); 3] = [
    (
        "tasks",
        "SELECT queue, CASE WHEN $1 <> '' AND state = 'waiting' THEN 'queued' ELSE state END AS state, \
         CAST(sum(many) AS bigint) AS many FROM (\
         SELECT queue, state, CAST(count(*) AS bigint) AS many FROM task \
         WHERE state = 'queued' AND not_before IS NULL AND ($1 = '' OR organization = $1) GROUP BY queue, state \
         UNION ALL SELECT queue, state, CAST(count(*) AS bigint) AS many FROM task \
         WHERE state = 'queued' AND not_before IS NOT NULL AND ($1 = '' OR organization = $1) GROUP BY queue, state \
         UNION ALL SELECT queue, state, CAST(count(*) AS bigint) AS many FROM task \
         WHERE state = 'waiting' AND ($1 = '' OR organization = $1) GROUP BY queue, state \
         UNION ALL SELECT queue, state, CAST(count(*) AS bigint) AS many FROM task \
         WHERE state IN ('dispatched', 'running') AND ($1 = '' OR organization = $1) GROUP BY queue, state\
         ) AS counted GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "runs",
        "SELECT '' AS queue, state, count(*) AS many FROM run WHERE finished_at IS NULL \
         AND ($1 = '' OR organization = $1) GROUP BY state ORDER BY state",
    ),
    (
        "dead_tasks",
        "SELECT '' AS queue, state, count(*) AS many FROM task WHERE state = 'dead' \
         AND ($1 = '' OR organization = $1) AND NOT EXISTS \
         (SELECT 1 FROM redrive WHERE redrive.task_id = task.id) GROUP BY state",
    ),
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
        let select = format!("{}{}", noun.columns, noun.more);
        let columns = named(&select);
        let mut conditions = vec![
            condition(noun.organization, "$1"),
            condition(noun.state, "$2"),
            noun.after
                .filter(|_| !page.after.is_empty())
                .unwrap_or(FROM_THE_TOP)
                .to_owned(),
        ];
        let table = match noun.table {
            "" => {
                let all = page.organization.as_deref().unwrap_or_default().is_empty()
                    && page.state.as_deref().unwrap_or_default().is_empty()
                    && page.only.is_empty();
                let after = conditions.last().map(String::as_str);
                letters(after.filter(|_| all))
            }
            table => table.to_owned(),
        };
        let mut values = Vec::new();
        let hides = noun.name == "task" && page.organization.is_some();
        if !page.down_to.is_empty() && noun.after == AFTER_ID {
            values.push(page.down_to.clone());
            conditions.push(format!("id >= ${}", values.len() + 6));
        }
        for (name, wanted) in &page.only {
            let Some((column, _)) = columns.iter().find(|(_, known)| known == name) else {
                continue;
            };
            let mut wanted = wanted.clone();
            if hides && name == "state" {
                wanted.retain(|state| state != WAITING);
                if wanted.iter().any(|state| state == QUEUED) {
                    wanted.push(WAITING.to_owned());
                }
            }
            let parameter = format!("${}", values.len() + 7);
            if let [one] = wanted.as_slice() {
                values.push(one.clone());
                conditions.push(format!("{column} = {parameter}"));
                // There is an index of these, which is used where this stands here in so many words.
                if (noun.name, name.as_str(), one.as_str()) == ("task", "state", "dead") {
                    conditions.push("state = 'dead'".to_owned());
                }
                continue;
            }
            values.push(key_rows(wanted));
            let list = self.dialect.rows(&parameter, "k text");
            conditions.push(format!("{column} IN (SELECT r.k FROM {list})"));
        }
        let sql = format!(
            "SELECT {select} FROM {table} WHERE {} ORDER BY {} LIMIT $5 OFFSET $6",
            conditions.join(" AND "),
            noun.order
        );
        let (after, number) = match page.after.rsplit_once(':') {
            Some((id, number)) => (id, number.parse().unwrap_or(0)),
            None => (page.after.as_str(), 0),
        };
        let mut statement = sqlx::query(AssertSqlSafe(sql))
            .bind(page.organization.clone().unwrap_or_default())
            .bind(page.state.clone().unwrap_or_default())
            .bind(after.to_owned())
            .bind(number)
            .bind(page.limit)
            .bind(page.offset);
        for value in values {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(&self.pool).await?;
        let shown = named(noun.columns);
        let columns = shown.iter().map(|(_, name)| (*name).to_owned()).collect();
        let mut rows = rows.iter().map(read_row).collect::<Result<Vec<_>, _>>()?;
        if hides {
            rows.iter_mut().for_each(hide_sharing);
        }
        Ok(Some(Listing { columns, rows }))
    }

    /// The id of the run or task that is so many after another, counted from the newest; nothing where there are fewer.
    pub async fn place(
        &self,
        noun: &str,
        after: &str,
        many: i64,
    ) -> Result<Option<String>, StoreError> {
        let Some(noun) = NOUNS
            .iter()
            .find(|known| known.name == noun && !known.table.is_empty())
        else {
            return Ok(None);
        };
        let condition = if after.is_empty() {
            "$1 = ''"
        } else {
            "id < $1"
        };
        let sql = format!(
            "SELECT id FROM {} WHERE {condition} ORDER BY id DESC LIMIT 1 OFFSET $2",
            noun.table
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(after)
            .bind(many - 1)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }

    /// Ids of tasks that are offered or that workers have, the newest first, after one of them.
    pub async fn newest_under_way(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.id FROM queue q JOIN task t ON t.queue = q.name WHERE t.state IN ('dispatched', 'running') \
             AND ($1 = '' OR t.id < $1) ORDER BY t.id DESC LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()?)
    }

    /// How much there is, of one organisation where one is named: tasks that have not ended by queue and state, runs that
    /// have not ended by state, tasks that are dead.
    pub async fn census(&self, organization: &str) -> Result<Value, StoreError> {
        let mut counted = Map::new();
        for (what, sql) in CENSUS {
            let mut found = Map::new();
            for row in sqlx::query(sql)
                .bind(organization)
                .fetch_all(&self.pool)
                .await?
            {
                let queue: String = row.try_get("queue")?;
                let state: String = row.try_get("state")?;
                let many: i64 = row.try_get("many")?;
                if queue.is_empty() {
                    found.insert(state, json!(many));
                } else {
                    let of_queue = found.entry(queue).or_insert_with(|| json!({}));
                    of_queue[state] = json!(many);
                }
            }
            counted.insert(what.to_owned(), Value::Object(found));
        }
        Ok(Value::Object(counted))
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

const QUEUED: &str = "queued";
const WAITING: &str = "waiting";

/// What one organisation is shown of a task that shares its outcome: nothing that tells of the others. One that waits for
/// theirs looks as if it were queued.
fn hide_sharing(row: &mut Map<String, Value>) {
    if let Some(state) = row.get_mut("state")
        && state == WAITING
    {
        *state = json!(QUEUED);
    }
    row.remove("deduplication_key");
    row.remove("shared_from");
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
                        "inputs" | "parameters" => {
                            serde_json::from_str(&text).unwrap_or(Value::String(text))
                        }
                        _ => Value::String(text),
                    }
                }
                _ => {
                    let number: i64 = row.try_get(name)?;
                    if name.ends_with("_at")
                        || name.ends_with("_seen")
                        || matches!(name, "scheduled_for" | "not_before")
                    {
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
