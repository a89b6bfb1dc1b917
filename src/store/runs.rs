//! Runs: stored with their decision, expanded, ended once, looked at.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::{Commit, IdRow};
use super::world::read_map;
use super::{Store, StoreError, json_rows, maybe_moment, moment, write_rows};
use crate::moment::Moment;
use crate::object::Operation;
use crate::run::{Asked, Cause, EndReason, Gap, Occasion, Reason, RunDraft, RunState, Turn};
use crate::tally;
use crate::task::TaskState;
use crate::trace;

/// A run as people look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    pub id: String,
    pub schedule_id: String,
    pub schedule: String,
    pub schedule_revision: i64,
    pub organization: String,
    pub cause: String,
    pub scheduled_for: Moment,
    pub created_at: Moment,
    pub started_at: Option<Moment>,
    pub finished_at: Option<Moment>,
    pub completed_at: Option<Moment>,
    pub target: Option<String>,
    pub state: RunState,
    pub reason: Option<String>,
    pub blocked_by: Option<String>,
    pub parent_id: Option<String>,
    pub request_id: Option<String>,
    /// How far it has looked for its inputs: the type, and the last key. Nothing where there is nothing left to find.
    pub position: Option<String>,
    /// From, until and how many, of a row that stands for many instants.
    pub gap: Option<(Moment, Moment, i64)>,
    /// Total, succeeded, failed, cancelled.
    pub counts: [i64; 4],
    pub refused: Map<String, Value>,
}

/// Which runs to show; what is empty asks nothing.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub id: String,
    /// These alone.
    pub ids: Option<Vec<String>>,
    pub organization: String,
    pub schedule_id: String,
    pub state: String,
    pub target: String,
    pub request_id: String,
    pub limit: i64,
    pub offset: i64,
}

/// What a target shows of a schedule. Derived each time that it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pointers {
    pub running: Option<RunRecord>,
    pub last: Option<RunRecord>,
    pub last_success: Option<RunRecord>,
    pub last_failure: Option<RunRecord>,
}

#[derive(Serialize)]
struct RunRow<'a> {
    id: &'a str,
    schedule_id: &'a str,
    schedule: &'a str,
    schedule_revision: i64,
    organization: &'a str,
    cause: &'static str,
    scheduled_for: i64,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    completed_at: Option<i64>,
    target: Option<&'a str>,
    state: &'static str,
    reason: Option<&'static str>,
    position: Option<&'static str>,
    occasion: String,
    total: i64,
    cancelled: i64,
    refused: String,
    blocked_by: Option<&'a str>,
    holds: Option<&'a str>,
    awaits: Option<&'a str>,
    line: Option<&'a str>,
    expires_at: Option<i64>,
    request_id: Option<&'a str>,
    request: Option<String>,
    parent_id: Option<&'a str>,
    depth: i64,
    with_descendants: i64,
    unannounced: Option<i64>,
}

const RUN_COLUMNS: &str = "id text, schedule_id text, schedule text, schedule_revision bigint, organization text, cause text, \
     scheduled_for bigint, created_at bigint, started_at bigint, finished_at bigint, completed_at bigint, target text, \
     state text, reason text, position text, occasion text, total bigint, cancelled bigint, refused text, \
     blocked_by text, holds text, awaits text, line text, expires_at bigint, request_id text, request text, \
     parent_id text, depth bigint, with_descendants bigint, unannounced bigint";

/// How a run stands when it is stored or begins.
pub(super) struct Begun {
    pub state: RunState,
    pub reason: Option<EndReason>,
    pub ended: bool,
    pub expands: bool,
}

impl Begun {
    pub(super) fn of(run: &RunDraft, cancelled: i64) -> Begun {
        let (state, reason) = match (&run.turn, run.expands) {
            (Turn::Ended(state, reason), _) => (*state, Some(*reason)),
            (Turn::Later { .. }, _) => (RunState::Pending, None),
            (Turn::Now { .. }, true) => (RunState::Expanding, None),
            (Turn::Now { .. }, false) if run.total == cancelled => {
                (RunState::of_ended(run.total, 0, cancelled, 0), None)
            }
            (Turn::Now { .. }, false) => (RunState::Running, None),
        };
        Begun {
            state,
            reason,
            ended: state.ended(),
            expands: state == RunState::Expanding,
        }
    }
}

/// Whether the end of such a run may set something off: what did not run does not.
pub(super) fn announced(state: RunState) -> bool {
    state.ended() && !matches!(state, RunState::Skipped | RunState::Missed)
}

/// What a run keeps of what set it off.
fn occasion(run: &RunDraft) -> String {
    let occasion = &run.occasion;
    let mut kept = Map::new();
    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            kept.insert(name.to_owned(), value);
        }
    };
    keep("event_id", occasion.event_id.clone().map(Value::String));
    keep("event_type", occasion.event_type.clone().map(Value::String));
    keep(
        "traceparent",
        occasion.traceparent.clone().map(Value::String),
    );
    keep("trigger", occasion.trigger.clone().map(Value::Object));
    keep("previous", occasion.previous.clone().map(Value::Object));
    keep("deleted", occasion.deleted.then_some(Value::Bool(true)));
    keep("joined", occasion.joined.then_some(Value::Bool(true)));
    keep(
        "object",
        occasion.object.as_ref().map(|key| json!(key.primary_key)),
    );
    // Only a run that waits is asked again which operations it was.
    if matches!(run.turn, Turn::Later { .. }) && !occasion.operations.is_empty() {
        let words: Vec<&str> = occasion.operations.iter().map(|op| op.word()).collect();
        keep("operations", Some(json!(words)));
    }
    Value::Object(kept).to_string()
}

pub(super) fn read_occasion(text: &str) -> Occasion {
    let mut kept = read_map(text);
    let mut table = |name: &str| match kept.remove(name) {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    };
    let (trigger, previous) = (table("trigger"), table("previous"));
    let text = |name: &str| kept.get(name).and_then(Value::as_str).map(str::to_owned);
    let operations = match kept.get("operations") {
        Some(Value::Array(words)) => words
            .iter()
            .filter_map(|word| Operation::parse(word.as_str()?))
            .collect(),
        _ => Vec::new(),
    };
    Occasion {
        operations,
        event_id: text("event_id"),
        event_type: text("event_type"),
        traceparent: text("traceparent"),
        trigger,
        previous,
        object: None,
        deleted: kept.contains_key("deleted"),
        joined: kept.contains_key("joined"),
    }
}

/// The trace of a run: that of what set it off, else its own.
pub(super) fn traceparent(run_id: &str, occasion: &str) -> String {
    read_occasion(occasion)
        .traceparent
        .unwrap_or_else(|| trace::begun(run_id))
}

/// What a person asked for beside the schedule, as the run keeps it.
fn request(asked: &Asked) -> Option<String> {
    (!asked.objects.is_empty() || !asked.parameters.is_empty())
        .then(|| json!({"objects": asked.objects, "parameters": asked.parameters}).to_string())
}

pub(super) fn read_asked(row: &AnyRow) -> Result<Asked, sqlx::Error> {
    let request: Option<String> = row.try_get("request")?;
    let mut kept = request.as_deref().map(read_map).unwrap_or_default();
    let objects = match kept.remove("objects") {
        Some(Value::Array(keys)) => keys
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let parameters = match kept.remove("parameters") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    Ok(Asked {
        id: row.try_get("request_id")?,
        objects,
        parameters,
    })
}

/// Counts by the words of their reasons.
pub(super) fn counts(refused: &[(Reason, i64)]) -> Value {
    refused
        .iter()
        .map(|(reason, count)| (reason.word().to_owned(), json!(count)))
        .collect::<Map<_, _>>()
        .into()
}

pub(super) fn read_counts(text: &str) -> Vec<(Reason, i64)> {
    read_map(text)
        .iter()
        .filter_map(|(word, count)| Some((Reason::parse(word)?, count.as_i64()?)))
        .collect()
}

impl Store {
    /// Stores the runs of a plan; answers with those of its ids whose instants were decided before, or with nothing
    /// where somebody else holds a scope or a place.
    pub(super) async fn write_runs(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<Option<HashSet<String>>, StoreError> {
        let mut cancelled: HashMap<&str, i64> = HashMap::new();
        for task in &commit.plan.tasks {
            if task.state == TaskState::Withdrawn {
                *cancelled.entry(task.run_id.as_str()).or_default() += 1;
            }
        }
        let now = commit.now.micros();
        let rows: Vec<RunRow<'_>> = commit
            .plan
            .runs
            .iter()
            .map(|run| {
                let cancelled = cancelled.get(run.id.as_str()).copied().unwrap_or(0);
                let begun = Begun::of(run, cancelled);
                let finished_at = begun.ended.then_some(now);
                let (holds, awaits, line, expires_at) = match &run.turn {
                    Turn::Now { holds } if !begun.ended => (holds.as_deref(), None, None, None),
                    Turn::Later {
                        awaits,
                        line,
                        expires_at,
                    } => (
                        None,
                        awaits.as_deref(),
                        line.as_deref(),
                        Some(expires_at.micros()),
                    ),
                    _ => (None, None, None, None),
                };
                RunRow {
                    id: &run.id,
                    schedule_id: &run.schedule_id,
                    schedule: &run.schedule,
                    schedule_revision: run.schedule_revision,
                    organization: &run.organization,
                    cause: run.cause.word(),
                    scheduled_for: run.scheduled_for.micros(),
                    created_at: run.created_at.micros(),
                    started_at: matches!(run.turn, Turn::Now { .. }).then_some(now),
                    finished_at,
                    completed_at: finished_at.filter(|_| !run.with_descendants),
                    target: run.target.as_deref(),
                    state: begun.state.word(),
                    reason: begun.reason.map(EndReason::word),
                    position: begun.expands.then_some(""),
                    occasion: occasion(run),
                    total: run.total,
                    cancelled,
                    refused: counts(&run.refused).to_string(),
                    blocked_by: run.blocked_by.as_deref(),
                    holds,
                    awaits,
                    line,
                    expires_at,
                    request_id: run.asked.id.as_deref(),
                    request: request(&run.asked),
                    parent_id: run.parent_id.as_deref(),
                    depth: run.depth,
                    with_descendants: i64::from(run.with_descendants),
                    unannounced: finished_at
                        .filter(|_| self.listened().runs && announced(begun.state)),
                }
            })
            .collect();
        let names: Vec<&str> = RUN_COLUMNS
            .split(", ")
            .filter_map(|column| column.trim().split_once(' '))
            .map(|(name, _)| name)
            .collect();
        let picked: Vec<String> = names.iter().map(|name| format!("r.{name}")).collect();
        let sql = format!(
            "INSERT INTO run ({}, succeeded, failed) SELECT {}, 0, 0 FROM {} WHERE true ON CONFLICT DO NOTHING",
            names.join(", "),
            picked.join(", "),
            self.dialect.rows("$1", RUN_COLUMNS)
        );
        let stored = write_rows(connection, sql, &rows).await?;
        self.tell_begun(connection, rows.iter().map(|row| row.id), commit.now)
            .await?;
        let decided = if stored == rows.len() as u64 {
            Some(HashSet::new())
        } else {
            self.decided_before(connection, &commit.plan.runs).await?
        };
        for row in rows.iter().filter(|row| row.finished_at.is_some()) {
            let before = decided.as_ref().is_none_or(|known| known.contains(row.id));
            if !before {
                tally::run_ended(row.schedule, row.state);
            }
        }
        Ok(decided)
    }

    /// Those of the runs that are not stored because their instants had been decided; nothing where another reason
    /// kept one out.
    async fn decided_before(
        &self,
        connection: &mut AnyConnection,
        runs: &[RunDraft],
    ) -> Result<Option<HashSet<String>>, StoreError> {
        let rows: Vec<IdRow<'_>> = runs.iter().map(|run| IdRow { id: &run.id }).collect();
        let sql = format!(
            "SELECT u.id FROM {} JOIN run u ON u.id = r.id",
            self.dialect.rows("$1", "id text")
        );
        let mut stored = HashSet::new();
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .fetch_all(&mut *connection)
            .await?
        {
            stored.insert(row.try_get::<String, _>("id")?);
        }
        let mut decided = HashSet::new();
        for run in runs.iter().filter(|run| !stored.contains(&run.id)) {
            let clocked = match run.cause {
                Cause::OnTime | Cause::CatchUp => "cause IN ('on_time', 'catch_up')",
                Cause::Backfill => "cause = 'backfill' AND line IS NOT NULL",
                _ => return Ok(None),
            };
            let sql = format!(
                "SELECT count(*) AS many FROM run WHERE schedule_id = $1 AND organization = $2 AND scheduled_for = $3 AND {clocked}"
            );
            let many: i64 = sqlx::query(AssertSqlSafe(sql))
                .bind(&run.schedule_id)
                .bind(&run.organization)
                .bind(run.scheduled_for.micros())
                .fetch_one(&mut *connection)
                .await?
                .try_get("many")?;
            if many == 0 {
                return Ok(None);
            }
            decided.insert(run.id.clone());
        }
        Ok(Some(decided))
    }

    /// Instants that did not run: the row of the gap that they go on from grows, or there is a new one.
    pub(super) async fn write_gaps(
        &self,
        connection: &mut AnyConnection,
        gaps: &[Gap],
        now: Moment,
    ) -> Result<(), StoreError> {
        for gap in gaps {
            let grown = sqlx::query(
                "UPDATE run SET gap_until = $1, gap_count = gap_count + $2 WHERE schedule_id = $3 AND organization = $4 \
                 AND state = $5 AND reason = $6 AND gap_until = $7 AND gap_count > 0",
            )
            .bind(gap.until.micros())
            .bind(gap.count)
            .bind(&gap.schedule_id)
            .bind(&gap.organization)
            .bind(gap.state.word())
            .bind(gap.reason.word())
            .bind(gap.after.micros())
            .execute(&mut *connection)
            .await?
            .rows_affected();
            if grown > 0 {
                continue;
            }
            sqlx::query(
                "INSERT INTO run (id, schedule_id, schedule, schedule_revision, organization, cause, scheduled_for, \
                 created_at, finished_at, completed_at, state, reason, occasion, total, succeeded, failed, cancelled, \
                 refused, gap_from, gap_until, gap_count) \
                 VALUES ($1, $2, $3, $4, $5, 'gap', $6, $7, $7, $7, $8, $9, '{}', 0, 0, 0, 0, '{}', $6, $10, $11)",
            )
            .bind(&gap.id)
            .bind(&gap.schedule_id)
            .bind(&gap.schedule)
            .bind(gap.schedule_revision)
            .bind(&gap.organization)
            .bind(gap.from.micros())
            .bind(now.micros())
            .bind(gap.state.word())
            .bind(gap.reason.word())
            .bind(gap.until.micros())
            .bind(gap.count)
            .execute(&mut *connection)
            .await?;
            tally::run_ended(&gap.schedule, gap.state.word());
            self.tell_ended(connection, [gap.id.as_str()].into_iter(), now)
                .await?;
        }
        Ok(())
    }

    /// Runs whose tasks have all ended, and that have nothing left to find, end.
    pub(super) async fn end_runs(
        &self,
        connection: &mut AnyConnection,
        runs: &[String],
        now: Moment,
    ) -> Result<(), StoreError> {
        let rows: Vec<IdRow<'_>> = runs.iter().map(|id| IdRow { id }).collect();
        let at = now;
        let now = now.micros();
        let noted = self.noting(self.listened().runs, now);
        // A run that found nothing to do because others did it was suppressed by them.
        let suppressed = "total = 0 AND blocked_by IS NOT NULL";
        let sql = format!(
            "UPDATE run SET finished_at = {now}, holds = NULL, line = NULL, \
             completed_at = CASE WHEN with_descendants = 0 THEN {now} ELSE NULL END, \
             reason = CASE WHEN {suppressed} THEN coalesce(reason, 'overlap') ELSE reason END, state = CASE \
             WHEN {suppressed} THEN 'skipped' \
             WHEN succeeded >= total THEN 'succeeded' \
             WHEN cancelled >= total THEN 'cancelled' \
             WHEN succeeded > 0 THEN 'partly_failed' \
             WHEN overran >= failed THEN 'timed_out' ELSE 'failed' END, \
             unannounced = CASE WHEN {suppressed} THEN NULL ELSE {noted} END \
             WHERE id IN (SELECT r.id FROM {}) AND finished_at IS NULL AND position IS NULL AND expires_at IS NULL \
             AND succeeded + failed + cancelled >= total RETURNING schedule, state",
            self.dialect.rows("$1", "id text")
        );
        if rows.is_empty() {
            return Ok(());
        }
        let ended = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .fetch_all(&mut *connection)
            .await?;
        count_ended(&ended)?;
        self.tell_ended(connection, runs.iter().map(String::as_str), at)
            .await
    }

    /// Runs as people look at them, the newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        let asks = [
            ("id", &filter.id),
            ("organization", &filter.organization),
            ("schedule_id", &filter.schedule_id),
            ("state", &filter.state),
            ("target", &filter.target),
            ("request_id", &filter.request_id),
        ];
        let asked: Vec<(&str, &String)> = asks
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut conditions: Vec<String> = asked
            .iter()
            .enumerate()
            .map(|(at, (column, _))| format!("AND {column} = ${}", at + 3))
            .collect();
        if filter.ids.is_some() {
            let ids = self
                .dialect
                .rows(&format!("${}", asked.len() + 3), "id text");
            conditions.push(format!("AND id IN (SELECT r.id FROM {ids})"));
        }
        let sql = format!(
            "SELECT {RECORD_COLUMNS} FROM run WHERE true {} ORDER BY id DESC LIMIT $1 OFFSET $2",
            conditions.join(" ")
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql))
            .bind(filter.limit)
            .bind(filter.offset);
        for (_, value) in asked {
            statement = statement.bind(value.clone());
        }
        if let Some(ids) = &filter.ids {
            let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
            statement = statement.bind(json_rows(&rows));
        }
        let rows = statement.fetch_all(&self.pool).await?;
        rows.iter().map(read_record).collect()
    }

    /// The newest run of each schedule that has one among so many newest runs, of one organisation where one is named:
    /// (schedule id, run id).
    pub async fn newest_runs(
        &self,
        among: i64,
        organization: &str,
    ) -> Result<HashMap<String, String>, StoreError> {
        let rows = sqlx::query(
            "SELECT schedule_id, max(id) AS id FROM (SELECT schedule_id, organization, id FROM run ORDER BY id DESC LIMIT $1) \
             AS newest WHERE $2 = '' OR organization = $2 GROUP BY schedule_id",
        )
        .bind(among)
        .bind(organization)
        .fetch_all(&self.pool)
        .await?;
        newest(&rows)
    }

    /// The newest run of each of some schedules, however long ago it was: (schedule id, run id).
    pub async fn newest_runs_of(
        &self,
        schedules: &[String],
        organization: &str,
    ) -> Result<HashMap<String, String>, StoreError> {
        let ids: Vec<IdRow<'_>> = schedules.iter().map(|id| IdRow { id }).collect();
        let sql = format!(
            "SELECT u.schedule_id, max(u.id) AS id FROM {} JOIN run u ON u.schedule_id = r.id \
             WHERE $2 = '' OR u.organization = $2 GROUP BY u.schedule_id",
            self.dialect.rows("$1", "id text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&ids))
            .bind(organization)
            .fetch_all(&self.pool)
            .await?;
        newest(&rows)
    }

    /// What a target shows of a schedule.
    pub async fn pointers(
        &self,
        schedule_id: &str,
        organization: &str,
        target: &str,
    ) -> Result<Pointers, StoreError> {
        let one = async |condition: &str, order: &str| -> Result<Option<RunRecord>, StoreError> {
            let sql = format!(
                "SELECT {RECORD_COLUMNS} FROM run WHERE schedule_id = $1 AND organization = $2 AND target = $3 \
                 AND started_at IS NOT NULL AND {condition} ORDER BY {order} LIMIT 1"
            );
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(schedule_id)
                .bind(organization)
                .bind(target)
                .fetch_optional(&self.pool)
                .await?;
            row.as_ref().map(read_record).transpose()
        };
        let newest = "finished_at DESC, id DESC";
        Ok(Pointers {
            running: one("finished_at IS NULL", "id DESC").await?,
            last: one("finished_at IS NOT NULL", newest).await?,
            last_success: one("state = 'succeeded'", newest).await?,
            last_failure: one("state IN ('failed', 'partly_failed', 'timed_out')", newest).await?,
        })
    }

    /// Schedules and targets that have runs: schedule id, schedule, organisation, target.
    pub async fn targets(
        &self,
        organization: &str,
        schedule_id: &str,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<[String; 4]>, StoreError> {
        let rows = sqlx::query(
            "SELECT schedule_id, max(schedule) AS schedule, organization, target FROM run WHERE target IS NOT NULL \
             AND ($1 = '' OR organization = $1) AND ($2 = '' OR schedule_id = $2) \
             GROUP BY schedule_id, organization, target ORDER BY schedule_id, organization, target LIMIT $3 OFFSET $4",
        )
        .bind(organization)
        .bind(schedule_id)
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok([
                    row.try_get("schedule_id")?,
                    row.try_get("schedule")?,
                    row.try_get("organization")?,
                    row.try_get("target")?,
                ])
            })
            .collect()
    }

    /// Instants of a schedule in a range that have succeeded or are under way: (organisation, instant).
    pub async fn instants_done(
        &self,
        schedule_id: &str,
        from: Moment,
        until: Moment,
    ) -> Result<HashSet<(String, Moment)>, StoreError> {
        let rows = sqlx::query(
            "SELECT organization, scheduled_for FROM run WHERE schedule_id = $1 AND scheduled_for >= $2 \
             AND scheduled_for <= $3 AND cause IN ('on_time', 'catch_up', 'backfill') \
             AND state IN ('succeeded', 'pending', 'expanding', 'running')",
        )
        .bind(schedule_id)
        .bind(from.micros())
        .bind(until.micros())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("organization")?, moment(row, "scheduled_for")?)))
            .collect()
    }
}

/// Counts runs that ended, by their schedule and state.
pub(super) fn count_ended(rows: &[AnyRow]) -> Result<(), StoreError> {
    for row in rows {
        let state: String = row.try_get("state")?;
        let state = RunState::parse(&state).unwrap_or(RunState::Failed);
        tally::run_ended(&row.try_get::<String, _>("schedule")?, state.word());
    }
    Ok(())
}

fn newest(rows: &[AnyRow]) -> Result<HashMap<String, String>, StoreError> {
    Ok(rows
        .iter()
        .map(|row| Ok((row.try_get("schedule_id")?, row.try_get("id")?)))
        .collect::<Result<_, sqlx::Error>>()?)
}

const RECORD_COLUMNS: &str = "id, schedule_id, schedule, schedule_revision, organization, cause, scheduled_for, created_at, \
     started_at, finished_at, completed_at, target, state, reason, blocked_by, parent_id, request_id, position, gap_from, gap_until, \
     gap_count, total, succeeded, failed, cancelled, refused";

fn read_record(row: &AnyRow) -> Result<RunRecord, StoreError> {
    let gap = match (
        maybe_moment(row, "gap_from")?,
        maybe_moment(row, "gap_until")?,
        row.try_get::<Option<i64>, _>("gap_count")?,
    ) {
        (Some(from), Some(until), Some(count)) => Some((from, until, count)),
        _ => None,
    };
    Ok(RunRecord {
        id: row.try_get("id")?,
        schedule_id: row.try_get("schedule_id")?,
        schedule: row.try_get("schedule")?,
        schedule_revision: row.try_get("schedule_revision")?,
        organization: row.try_get("organization")?,
        cause: row.try_get("cause")?,
        scheduled_for: moment(row, "scheduled_for")?,
        created_at: moment(row, "created_at")?,
        started_at: maybe_moment(row, "started_at")?,
        finished_at: maybe_moment(row, "finished_at")?,
        completed_at: maybe_moment(row, "completed_at")?,
        target: row.try_get("target")?,
        state: RunState::parse(&row.try_get::<String, _>("state")?).unwrap_or(RunState::Running),
        reason: row.try_get("reason")?,
        blocked_by: row.try_get("blocked_by")?,
        parent_id: row.try_get("parent_id")?,
        request_id: row.try_get("request_id")?,
        position: row.try_get("position")?,
        gap,
        counts: [
            row.try_get("total")?,
            row.try_get("succeeded")?,
            row.try_get("failed")?,
            row.try_get("cancelled")?,
        ],
        refused: read_map(&row.try_get::<String, _>("refused")?),
    })
}
