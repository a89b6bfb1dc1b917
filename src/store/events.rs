//! Events as they came: kept with their effects for as long as the settings say, for whoever asks later.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::columns::Columns;
use super::runs::read_occasion;
use super::world::read_map;
use super::{Dialect, Store, StoreError, moment, write_rows};
use crate::moment::{Moment, Span};
use crate::object::Operation;
use crate::task::first_id_of;

/// An event as it came, with what it did to its object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptEvent {
    pub id: String,
    /// Its own id, where it has one; a source too, where the two make it count once.
    pub event_id: Option<String>,
    pub source: String,
    pub organization: String,
    pub handled_at: Moment,
    pub queue: String,
    pub routing_key: String,
    pub content_type: Option<String>,
    pub message_id: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Empty where it left the object as it was.
    pub operations: Vec<Operation>,
}

/// A run that an event set off, with its tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOfEvent {
    pub run_id: String,
    pub schedule: String,
    pub state: String,
    pub reason: Option<String>,
    pub refused: Map<String, Value>,
    pub tasks: Vec<TaskOfRun>,
}

/// One of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskOfRun {
    pub id: String,
    pub plugin_id: String,
    pub state: String,
    pub reason: Option<String>,
    /// Whose outcome it waits for, or took.
    pub shared_from: Option<String>,
}

/// Which kept events.
#[derive(Clone, Debug)]
pub struct EventsOf<'a> {
    /// The last one of the page before; empty for the first page.
    pub after: &'a str,
    pub since: Moment,
    pub until: Moment,
    /// Empty: of all.
    pub organization: &'a str,
    pub limit: i64,
}

#[derive(Serialize)]
struct EventRow<'a> {
    id: &'a str,
    event_id: Option<&'a str>,
    source: &'a str,
    organization: &'a str,
    intake: &'a str,
    message: String,
    body: &'a str,
    operations: String,
}

const COLUMNS: &str =
    "id, event_id, source, organization, handled_at, intake, message, body, operations";
/// Ids are those of the instant at which they were made, or of one of the few milliseconds after it where they are many.
const SLACK: Span = Span::from_micros(100_000);
/// Events of one id, runs of one event and tasks of one run that are shown.
const SHOWN: i64 = 100;

/// What came beside the body.
fn message(event: &KeptEvent) -> String {
    let mut kept = Map::new();
    if !event.routing_key.is_empty() {
        kept.insert("routing_key".to_owned(), json!(event.routing_key));
    }
    if let Some(said) = &event.content_type {
        kept.insert("content_type".to_owned(), json!(said));
    }
    if let Some(said) = &event.message_id {
        kept.insert("message_id".to_owned(), json!(said));
    }
    if !event.headers.is_empty() {
        kept.insert("headers".to_owned(), json!(event.headers));
    }
    Value::Object(kept).to_string()
}

impl Store {
    pub(super) async fn write_events(
        &self,
        connection: &mut AnyConnection,
        events: &[KeptEvent],
    ) -> Result<(), StoreError> {
        let Some(first) = events.first() else {
            return Ok(());
        };
        let handled_at = first.handled_at.micros();
        let rows: Vec<EventRow<'_>> = events
            .iter()
            .map(|event| {
                let words: Vec<&str> = event.operations.iter().map(|op| op.word()).collect();
                EventRow {
                    id: &event.id,
                    event_id: event.event_id.as_deref(),
                    source: &event.source,
                    organization: &event.organization,
                    intake: &event.queue,
                    message: message(event),
                    body: &event.body,
                    operations: words.join(" "),
                }
            })
            .collect();
        if self.dialect == Dialect::Postgres {
            Columns::default()
                .texts("id", rows.iter().map(|row| Some(row.id)))
                .texts("event_id", rows.iter().map(|row| row.event_id))
                .texts("source", rows.iter().map(|row| Some(row.source)))
                .texts(
                    "organization",
                    rows.iter().map(|row| Some(row.organization)),
                )
                .numbers("handled_at", rows.iter().map(|_| Some(handled_at)))
                .texts("intake", rows.iter().map(|row| Some(row.intake)))
                .texts("message", rows.iter().map(|row| Some(row.message.as_str())))
                .texts("body", rows.iter().map(|row| Some(row.body)))
                .texts(
                    "operations",
                    rows.iter().map(|row| Some(row.operations.as_str())),
                )
                .insert(connection, "event", "")
                .await?;
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO event ({COLUMNS}) SELECT r.id, r.event_id, r.source, r.organization, {handled_at}, r.intake, \
             r.message, r.body, r.operations FROM {} WHERE true",
            self.dialect.rows(
                "$1",
                "id text, event_id text, source text, organization text, intake text, message text, body text, \
                 operations text"
            )
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }

    /// Those of an id, the newest first: the event's own, or that under which it is kept. Empty texts ask nothing.
    pub async fn events_named(
        &self,
        id: &str,
        source: &str,
        organization: &str,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM event WHERE (event_id = $1 OR id = $1) AND ($2 = '' OR source = $2) \
             AND ($3 = '' OR organization = $3) ORDER BY id DESC LIMIT {SHOWN}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(source)
            .bind(organization)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(read_event).collect::<Result<_, _>>()?)
    }

    /// A page of them in the order in which they were handled.
    pub async fn events_after(&self, of: &EventsOf<'_>) -> Result<Vec<KeptEvent>, StoreError> {
        let since = first_id_of(of.since);
        let sql = format!(
            "SELECT {COLUMNS} FROM event WHERE id > $1 AND handled_at >= $2 AND handled_at <= $3 \
             AND ($4 = '' OR organization = $4) ORDER BY id LIMIT $5"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(if of.after > since.as_str() {
                of.after
            } else {
                &since
            })
            .bind(of.since.micros())
            .bind(of.until.micros())
            .bind(of.organization)
            .bind(of.limit)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(read_event).collect::<Result<_, _>>()?)
    }

    /// What events set off in a while: runs and tasks, by the id of their schedule.
    pub async fn made_of_events(
        &self,
        of: &EventsOf<'_>,
    ) -> Result<Vec<(String, i64, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT schedule_id, count(*) AS runs, CAST(sum(total) AS bigint) AS tasks FROM run WHERE id >= $1 AND id < $2 \
             AND created_at >= $3 AND created_at <= $4 AND cause = 'event' AND ($5 = '' OR organization = $5) \
             GROUP BY schedule_id ORDER BY schedule_id",
        )
        .bind(first_id_of(of.since))
        .bind(first_id_of(of.until.plus(SLACK)))
        .bind(of.since.micros())
        .bind(of.until.micros())
        .bind(of.organization)
        .fetch_all(&self.pool)
        .await?;
        let read = rows.iter().map(|row| {
            Ok((
                row.try_get("schedule_id")?,
                row.try_get("runs")?,
                row.try_get("tasks")?,
            ))
        });
        Ok(read.collect::<Result<_, sqlx::Error>>()?)
    }

    /// When the oldest that is kept was handled.
    pub async fn oldest_event(&self) -> Result<Option<Moment>, StoreError> {
        let row = sqlx::query("SELECT handled_at FROM event ORDER BY id LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| moment(&row, "handled_at")).transpose()?)
    }

    /// The runs that an event on this object set off when it was handled. They carry the ids of that instant, so they
    /// are found without an index on their occasions.
    pub async fn runs_of_event(
        &self,
        event: &KeptEvent,
        primary_key: &str,
    ) -> Result<Vec<RunOfEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, schedule, state, reason, refused, occasion FROM run WHERE id >= $1 AND id < $2 \
             AND created_at = $3 AND organization = $4 AND cause = 'event' ORDER BY id",
        )
        .bind(first_id_of(event.handled_at))
        .bind(first_id_of(event.handled_at.plus(SLACK)))
        .bind(event.handled_at.micros())
        .bind(&event.organization)
        .fetch_all(&self.pool)
        .await?;
        let mut runs = Vec::new();
        for row in &rows {
            let text: String = row.try_get("occasion")?;
            let occasion = read_map(&text);
            let same_object = occasion.get("object").and_then(Value::as_str) == Some(primary_key);
            if !same_object || read_occasion(&text).event_id != event.event_id {
                continue;
            }
            let run_id: String = row.try_get("id")?;
            let tasks = sqlx::query(
                "SELECT id, plugin_id, state, reason, shared_from FROM task WHERE run_id = $1 ORDER BY id LIMIT $2",
            )
            .bind(&run_id)
            .bind(SHOWN)
            .fetch_all(&self.pool)
            .await?;
            let tasks = tasks.iter().map(|task| {
                Ok(TaskOfRun {
                    id: task.try_get("id")?,
                    plugin_id: task.try_get("plugin_id")?,
                    state: task.try_get("state")?,
                    reason: task.try_get("reason")?,
                    shared_from: task.try_get("shared_from")?,
                })
            });
            runs.push(RunOfEvent {
                schedule: row.try_get("schedule")?,
                state: row.try_get("state")?,
                reason: row.try_get("reason")?,
                refused: read_map(&row.try_get::<String, _>("refused")?),
                tasks: tasks.collect::<Result<_, sqlx::Error>>()?,
                run_id,
            });
            if runs.len() as i64 >= SHOWN {
                break;
            }
        }
        Ok(runs)
    }
}

fn read_event(row: &AnyRow) -> Result<KeptEvent, sqlx::Error> {
    let message = read_map(&row.try_get::<String, _>("message")?);
    let text = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
    let headers = message.get("headers").cloned().unwrap_or_default();
    let operations: String = row.try_get("operations")?;
    Ok(KeptEvent {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        source: row.try_get("source")?,
        organization: row.try_get("organization")?,
        handled_at: moment(row, "handled_at")?,
        queue: row.try_get("intake")?,
        routing_key: text("routing_key").unwrap_or_default(),
        content_type: text("content_type"),
        message_id: text("message_id"),
        headers: serde_json::from_value(headers).unwrap_or_default(),
        body: row.try_get("body")?,
        operations: operations.split(' ').filter_map(Operation::parse).collect(),
    })
}
