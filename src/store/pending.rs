//! Runs that wait, what they wait for, and those that have to go: all by unique keys, so that no two replicas let two
//! runs into one scope.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::{CANCELLED, CUT_OFF, Commit, EXPIRED, IdRow};
use super::runs::{Begun, announced, count_ended, counts, read_asked, read_counts, read_occasion};
use super::{Store, StoreError, json_rows, moment, of_named, write_rows};
use crate::decide::{InTheWay, Plan, Scope};
use crate::moment::Moment;
use crate::run::{Cause, EndReason, RunDraft, RunState, Turn};
use crate::tally;
use crate::task::first_id_of;

/// A worker that is to be told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    pub task_id: String,
    pub attempt: i64,
    pub worker: Option<String>,
}

#[derive(Serialize)]
struct ScopeRow<'a> {
    k: &'a str,
}

#[derive(Serialize)]
struct AdoptionRow<'a> {
    id: &'a str,
    was: &'a str,
    run_id: &'a str,
    cause: &'static str,
    class: i64,
    priority: i64,
    by_hand: i64,
}

/// What a lost run waits for no more.
const LETS_GO: &str = "awaits = NULL, line = NULL, expires_at = NULL";

const PENDING_COLUMNS: &str = "p.id, p.schedule_id, p.schedule, p.schedule_revision, p.organization, p.cause, p.scheduled_for, \
     p.created_at, p.target, p.occasion, p.refused, p.blocked_by, p.awaits, p.line, p.expires_at, p.request_id, p.request, \
     p.parent_id, p.depth, p.with_descendants";

impl Store {
    /// Who holds these scopes, and who waits behind.
    pub(super) async fn scopes(
        &self,
        connection: &mut AnyConnection,
        wanted: &BTreeSet<String>,
    ) -> Result<HashMap<String, Scope>, StoreError> {
        let mut scopes: HashMap<String, Scope> = wanted
            .iter()
            .map(|scope| (scope.clone(), Scope::default()))
            .collect();
        let rows: Vec<ScopeRow<'_>> = wanted.iter().map(|k| ScopeRow { k }).collect();
        for column in ["holds", "awaits"] {
            let sql = format!(
                "SELECT u.id, u.cause, u.{column} AS scope FROM {} JOIN run u ON u.{column} = r.k",
                self.dialect.rows("$1", "k text")
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&rows))
                .fetch_all(&mut *connection)
                .await?
            {
                let found = InTheWay {
                    run_id: row.try_get("id")?,
                    cause: read_cause(&row)?,
                };
                let scope = scopes.entry(row.try_get("scope")?).or_default();
                if column == "holds" {
                    scope.holder = Some(found);
                } else {
                    scope.waiting = Some(found);
                }
            }
        }
        Ok(scopes)
    }

    /// Runs that wait and whose turn has come: nobody holds their scope, or they are the next of their line.
    pub async fn ready(&self, limit: i64) -> Result<Vec<RunDraft>, StoreError> {
        let behind = format!(
            "SELECT {PENDING_COLUMNS} FROM run p WHERE p.expires_at IS NOT NULL AND p.awaits IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM run h WHERE h.holds = p.awaits) ORDER BY p.id LIMIT $1"
        );
        let next = format!(
            "SELECT {PENDING_COLUMNS} FROM (SELECT DISTINCT line FROM run WHERE line IS NOT NULL AND expires_at IS NOT NULL) l \
             JOIN run p ON p.id = (SELECT o.id FROM run o WHERE o.line = l.line AND o.expires_at IS NOT NULL \
             ORDER BY o.scheduled_for, o.id LIMIT 1) \
             WHERE NOT EXISTS (SELECT 1 FROM run u WHERE u.line = l.line AND u.expires_at IS NULL) ORDER BY p.id LIMIT $1"
        );
        let mut ready = Vec::new();
        for sql in [behind, next] {
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(limit)
                .fetch_all(&self.pool)
                .await?
            {
                ready.push(read_pending(&row)?);
            }
        }
        Ok(ready)
    }

    /// Whether any run waits.
    pub async fn some_wait(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 AS one FROM run WHERE expires_at IS NOT NULL LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Runs that waited begin; false where one of them no longer waits, or somebody came into its scope.
    pub(super) async fn begin_pending(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<bool, StoreError> {
        for run in &commit.plan.started {
            let begun = Begun::of(run, 0);
            let holds = match &run.turn {
                Turn::Now { holds } if !begun.ended => holds.clone(),
                _ => None,
            };
            let finished_at = begun.ended.then_some(commit.now.micros());
            let sql = format!(
                "UPDATE run SET state = $1, started_at = $2, finished_at = $3, completed_at = $4, position = $5, total = $6, \
                 refused = $7, reason = $8, holds = $9, awaits = NULL, expires_at = NULL, unannounced = $10, \
                 line = {} WHERE id = $11 AND expires_at IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM run h WHERE h.holds = $9)",
                if begun.ended { "NULL" } else { "line" }
            );
            let done = sqlx::query(AssertSqlSafe(sql))
                .bind(begun.state.word())
                .bind(matches!(run.turn, Turn::Now { .. }).then_some(commit.now.micros()))
                .bind(finished_at)
                .bind(finished_at.filter(|_| !run.with_descendants))
                .bind(begun.expands.then_some(""))
                .bind(run.total)
                .bind(counts(&run.refused).to_string())
                .bind(begun.reason.map(EndReason::word))
                .bind(holds)
                .bind(finished_at.filter(|_| self.listened().runs && announced(begun.state)))
                .bind(&run.id)
                .execute(&mut *connection)
                .await;
            match done {
                Ok(done) if done.rows_affected() == 1 => {
                    if begun.ended {
                        tally::run_ended(&run.schedule, begun.state.word());
                    }
                    self.tell_begun(connection, [run.id.as_str()].into_iter(), commit.now)
                        .await?;
                }
                Ok(_) => return Ok(false),
                // Somebody came into the scope at the same time.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Whoever loses a place or is replaced makes room; false where it has begun or ended meanwhile.
    pub(super) async fn put_aside(
        &self,
        connection: &mut AnyConnection,
        plan: &Plan,
        now: Moment,
    ) -> Result<bool, StoreError> {
        for (loser, by) in &plan.superseded {
            if !self
                .end_pending(
                    connection,
                    loser,
                    RunState::Skipped,
                    EndReason::Superseded,
                    Some(by),
                    now,
                )
                .await?
            {
                return Ok(false);
            }
        }
        for (run_id, by) in &plan.replaced {
            self.cancel_in(connection, run_id, EndReason::Replaced, Some(by), now)
                .await?;
        }
        Ok(true)
    }

    async fn end_pending(
        &self,
        connection: &mut AnyConnection,
        run_id: &str,
        state: RunState,
        reason: EndReason,
        by: Option<&str>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let noted = match announced(state) {
            true => self.noting(self.listened().runs, now.micros()),
            false => "NULL".to_owned(),
        };
        let sql = format!(
            "UPDATE run SET state = $1, reason = $2, blocked_by = coalesce($3, blocked_by), finished_at = $4, \
             completed_at = CASE WHEN with_descendants = 0 THEN $4 END, unannounced = {noted}, {LETS_GO} \
             WHERE id = $5 AND expires_at IS NOT NULL RETURNING schedule, state"
        );
        let ended = sqlx::query(AssertSqlSafe(sql))
            .bind(state.word())
            .bind(reason.word())
            .bind(by.map(str::to_owned))
            .bind(now.micros())
            .bind(run_id)
            .fetch_all(&mut *connection)
            .await?;
        count_ended(&ended)?;
        self.tell_ended(connection, [run_id].into_iter(), now)
            .await?;
        Ok(ended.len() == 1)
    }

    /// Cancels a run: what waits ends now; a worker that has accepted is told, and has a while to stop.
    pub async fn cancel_run(&self, run_id: &str, now: Moment) -> Result<bool, StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let cancelled = self
                .cancel_in(&mut transaction, run_id, EndReason::Cancelled, None, now)
                .await?;
            transaction.commit().await?;
            Ok(cancelled)
        })
        .await
    }

    async fn cancel_in(
        &self,
        connection: &mut AnyConnection,
        run_id: &str,
        reason: EndReason,
        by: Option<&str>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        if self
            .end_pending(connection, run_id, RunState::Cancelled, reason, by, now)
            .await?
        {
            return Ok(true);
        }
        let stopped = sqlx::query(
            "UPDATE run SET position = NULL, state = 'running', reason = $1, blocked_by = coalesce($2, blocked_by) \
             WHERE id = $3 AND finished_at IS NULL",
        )
        .bind(reason.word())
        .bind(by.map(str::to_owned))
        .bind(run_id)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if stopped != 1 {
            return Ok(false);
        }
        let rows = sqlx::query(
            "SELECT id FROM task WHERE run_id = $1 AND state IN ('queued', 'waiting', 'dispatched', 'running') ORDER BY id",
        )
        .bind(run_id)
        .fetch_all(&mut *connection)
        .await?;
        let tasks = ids_of(&rows)?;
        self.cancel_tasks_in(connection, &tasks, reason.word(), now)
            .await?;
        self.end_runs(connection, &[run_id.to_owned()], now).await?;
        Ok(true)
    }

    /// What nobody has accepted ends now; whose worker has begun is told, and has a while to stop. Answers with both, in
    /// this order.
    pub(super) async fn cancel_tasks_in(
        &self,
        connection: &mut AnyConnection,
        tasks: &[String],
        reason: &str,
        now: Moment,
    ) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let ids: Vec<&str> = tasks.iter().map(String::as_str).collect();
        let ended = self
            .close_in(connection, &ids, &CANCELLED, reason, now)
            .await?;
        let rows: Vec<IdRow<'_>> = ids
            .into_iter()
            .filter(|id| !ended.iter().any(|gone| gone == id))
            .map(|id| IdRow { id })
            .collect();
        // A worker that stays silent has as long as it may be silent anyway; whoever asks again is told again, and gives it
        // no more time.
        let sql = format!(
            "UPDATE task SET cancel_by = CASE WHEN cancel_told IS NULL THEN {} ELSE cancel_by END, cancel_told = NULL, \
             reason = $2 FROM {} \
             WHERE task.id = r.id AND {} RETURNING task.id AS id",
            now.plus(TOLD).micros(),
            self.dialect.rows("$1", "id text"),
            of_named("task.state IN ('queued', 'dispatched', 'running')")
        );
        let told = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .bind(reason)
            .fetch_all(&mut *connection)
            .await?;
        Ok((ended, ids_of(&told)?))
    }

    /// Workers that are to be told to stop, each once; and tasks whose worker had time to, and did not, end.
    pub async fn cancels(&self, now: Moment, limit: i64) -> Result<Vec<Cancel>, StoreError> {
        tally::counted(async {
            let due = sqlx::query("SELECT 1 AS one FROM task WHERE cancel_by IS NOT NULL LIMIT 1")
                .fetch_optional(&self.pool)
                .await?;
            if due.is_none() {
                return Ok(Vec::new());
            }
            let mut transaction = self.begin().await?;
            // What came back to the queue meanwhile, or has no worker's word in time, ends here.
            let over = sqlx::query(
                "SELECT id FROM task WHERE cancel_by IS NOT NULL AND (cancel_by <= $1 OR state <> 'running') ORDER BY id LIMIT $2",
            )
            .bind(now.micros())
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
            let over = ids_of(&over)?;
            let ids: Vec<&str> = over.iter().map(String::as_str).collect();
            self.close_in(&mut transaction, &ids, &CUT_OFF, "cancelled", now)
                .await?;
            let rows: Vec<IdRow<'_>> = over.iter().map(|id| IdRow { id }).collect();
            let sql = format!(
                "UPDATE task SET cancel_by = NULL WHERE id IN (SELECT r.id FROM {})",
                self.dialect.rows("$1", "id text")
            );
            write_rows(&mut transaction, sql, &rows).await?;
            let told = sqlx::query(
                "UPDATE task SET cancel_told = $1 WHERE cancel_by IS NOT NULL AND cancel_told IS NULL RETURNING id, attempt",
            )
            .bind(now.micros())
            .fetch_all(&mut *transaction)
            .await?;
            let mut cancels = Vec::new();
            for row in &told {
                let (task_id, attempt): (String, i64) = (row.try_get("id")?, row.try_get("attempt")?);
                let worker =
                    sqlx::query("SELECT worker FROM attempt WHERE task_id = $1 AND number = $2")
                        .bind(&task_id)
                        .bind(attempt)
                        .fetch_optional(&mut *transaction)
                        .await?
                        .map(|row| row.try_get("worker"))
                        .transpose()?
                        .flatten();
                cancels.push(Cancel {
                    task_id,
                    attempt,
                    worker,
                });
            }
            transaction.commit().await?;
            Ok(cancels)
        })
        .await
    }

    /// Tasks and waiting runs whose time is over end; `oldest` is the shortest time that any task has.
    pub async fn expire(
        &self,
        now: Moment,
        shortest: crate::moment::Span,
        limit: i64,
    ) -> Result<u64, StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let noted = self.noting(self.listened().runs, now.micros());
            let sql = format!(
                "UPDATE run SET state = 'expired', reason = 'expired', finished_at = $1, \
                 completed_at = CASE WHEN with_descendants = 0 THEN $1 END, unannounced = {noted}, {LETS_GO} \
                 WHERE id IN (SELECT id FROM run WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2) RETURNING id, schedule, state"
            );
            let waited = sqlx::query(AssertSqlSafe(sql))
                .bind(now.micros())
                .bind(limit)
                .fetch_all(&mut *transaction)
                .await?;
            count_ended(&waited)?;
            let waited = ids_of(&waited)?;
            self.tell_ended(&mut transaction, waited.iter().map(String::as_str), now)
                .await?;
            // What has not ended is in this table, in the order of its making.
            let rows = sqlx::query(
                "SELECT DISTINCT t.id FROM open_input i JOIN task t ON t.id = i.task_id \
                 WHERE i.task_id < $1 AND t.expires_at <= $2 ORDER BY t.id LIMIT $3",
            )
            .bind(first_id_of(
                now.minus(shortest).plus(crate::moment::Span::seconds(1)),
            ))
            .bind(now.micros())
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
            let over = ids_of(&rows)?;
            let ids: Vec<&str> = over.iter().map(String::as_str).collect();
            let ended = self
                .close_in(&mut transaction, &ids, &EXPIRED, "expired", now)
                .await?;
            transaction.commit().await?;
            Ok((waited.len() + ended.len()) as u64)
        })
        .await
    }

    /// Waiting tasks become part of a run that asked for them; false where one no longer waits. What a person asks for
    /// waits for no instant and for nobody else's outcome.
    pub(super) async fn adopt(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<bool, StoreError> {
        let adopted = &commit.plan.adopted;
        let rows: Vec<AdoptionRow<'_>> = adopted
            .iter()
            .map(|adoption| AdoptionRow {
                id: &adoption.task_id,
                was: &adoption.from,
                run_id: &adoption.run_id,
                cause: adoption.cause.word(),
                class: adoption.cause.class(),
                priority: adoption.priority,
                by_hand: i64::from(matches!(adoption.cause, Cause::Manual | Cause::Retry)),
            })
            .collect();
        let kept = |column: &str| {
            format!(
                "{column} = CASE WHEN r.by_hand = 1 AND task.state = 'waiting' THEN NULL ELSE task.{column} END"
            )
        };
        let sql = format!(
            "UPDATE task SET run_id = r.run_id, cause = r.cause, class = r.class, priority = r.priority, on_behalf = NULL, {}, {}, \
             not_before = CASE WHEN r.by_hand = 1 THEN NULL ELSE task.not_before END, \
             state = CASE WHEN r.by_hand = 1 THEN 'queued' ELSE task.state END FROM {} \
             WHERE task.id = r.id AND task.run_id = r.was AND task.state IN ('queued', 'waiting')",
            kept("deduplication_key"),
            kept("shared_from"),
            self.dialect.rows(
                "$1",
                "id text, was text, run_id text, cause text, class bigint, priority bigint, by_hand bigint"
            )
        );
        if write_rows(connection, sql, &rows).await? != rows.len() as u64 {
            return Ok(false);
        }
        let mut moved: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for adoption in adopted {
            *moved.entry((&adoption.from, &adoption.run_id)).or_default() += 1;
        }
        for ((from, to), many) in moved {
            // A run that loses its last task was superseded.
            sqlx::query(
                "UPDATE run SET total = total - $3, \
                 reason = CASE WHEN total = $3 AND position IS NULL THEN 'superseded' ELSE reason END, \
                 blocked_by = CASE WHEN total = $3 AND position IS NULL THEN $1 ELSE blocked_by END WHERE id = $2",
            )
            .bind(to)
            .bind(from)
            .bind(many)
            .execute(&mut *connection)
            .await?;
            self.end_runs(connection, &[from.to_owned()], commit.now)
                .await?;
        }
        Ok(true)
    }

    /// What a worker never wanted again is wanted by a person.
    pub(super) async fn want_again(
        &self,
        connection: &mut AnyConnection,
        keys: &[String],
    ) -> Result<(), StoreError> {
        let rows: Vec<ScopeRow<'_>> = keys.iter().map(|k| ScopeRow { k }).collect();
        let sql = format!(
            "DELETE FROM suppressed WHERE unique_key IN (SELECT r.k FROM {})",
            self.dialect.rows("$1", "k text")
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }
}

/// A worker that was told to stop has so long.
const TOLD: crate::moment::Span = crate::moment::Span::seconds(60);

fn ids_of(rows: &[AnyRow]) -> Result<Vec<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get("id")).collect()
}

fn read_cause(row: &AnyRow) -> Result<Cause, sqlx::Error> {
    Ok(Cause::parse(&row.try_get::<String, _>("cause")?).unwrap_or(Cause::Event))
}

fn read_pending(row: &AnyRow) -> Result<RunDraft, StoreError> {
    let line: Option<String> = row.try_get("line")?;
    Ok(RunDraft {
        id: row.try_get("id")?,
        schedule_id: row.try_get("schedule_id")?,
        schedule: row.try_get("schedule")?,
        schedule_revision: row.try_get("schedule_revision")?,
        organization: row.try_get("organization")?,
        cause: read_cause(row)?,
        scheduled_for: moment(row, "scheduled_for")?,
        created_at: moment(row, "created_at")?,
        target: row.try_get("target")?,
        occasion: read_occasion(&row.try_get::<String, _>("occasion")?),
        expands: false,
        total: 0,
        refused: read_counts(&row.try_get::<String, _>("refused")?),
        turn: Turn::Later {
            awaits: row.try_get("awaits")?,
            line: line.clone(),
            expires_at: moment(row, "expires_at")?,
        },
        blocked_by: row.try_get("blocked_by")?,
        asked: read_asked(row)?,
        line,
        parent_id: row.try_get("parent_id")?,
        depth: row.try_get("depth")?,
        with_descendants: row.try_get::<i64, _>("with_descendants")? != 0,
    })
}
