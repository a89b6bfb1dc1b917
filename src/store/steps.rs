//! How tasks stand, and the steps that workers' words and clocks that ran out make them take.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::IdRow;
use super::runs::traceparent;
use super::shared::Over;
use super::{Dialect, Store, StoreError, json_rows, maybe_moment, of_named, write_rows};
use crate::moment::Moment;
use crate::progress::{Avoided, Standing, Taken};
use crate::tally;
use crate::task::{Status, TaskState};

/// A step that was decided on a task as it stood.
#[derive(Clone, Debug)]
pub struct Reported {
    pub task_id: String,
    /// Whose word it was; `None`: a clock ran out.
    pub worker: Option<String>,
    /// When the worker says that it was so.
    pub at: Option<Moment>,
    pub standing: Standing,
    pub step: Taken,
}

/// A task as it stands, with what says which terms hold for it.
#[derive(Clone, Debug)]
pub struct Known {
    pub standing: Standing,
    pub organization: String,
    pub plugin_id: String,
    pub schedule_id: String,
    /// Until when its offer may be accepted.
    pub offered_until: Option<Moment>,
}

/// How far a batch of steps was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Tasks that were no longer as they had been read: read again.
    pub stale: Vec<String>,
}

#[derive(Serialize)]
struct StepRow<'a> {
    id: &'a str,
    was: &'static str,
    step: i64,
    number: i64,
    state: &'static str,
    spent: i64,
    declines: i64,
    avoid: Option<String>,
    not_before: Option<i64>,
    finished_at: Option<i64>,
    reason: Option<&'a str>,
    worker: Option<&'a str>,
    accepted_at: Option<i64>,
    run_until: Option<i64>,
    clock: Option<i64>,
    beat_at: Option<i64>,
    done: Option<i64>,
    total: Option<i64>,
    stage: Option<&'a str>,
    note: Option<&'a str>,
    ended_at: Option<i64>,
    outcome: Option<&'static str>,
    message: Option<&'a str>,
    exit_code: Option<i64>,
    log_ref: Option<&'a str>,
    log_tail: Option<&'a str>,
    outputs: Option<String>,
}

/// The outcome of an attempt that a person decided.
pub const MARKED: &str = "marked";

const STEP_COLUMNS: &str = "id text, was text, step bigint, number bigint, state text, spent bigint, declines bigint, avoid text, \
    not_before bigint, finished_at bigint, reason text, worker text, accepted_at bigint, run_until bigint, \
    clock bigint, beat_at bigint, done bigint, total bigint, stage text, note text, ended_at bigint, outcome text, \
    message text, exit_code bigint, log_ref text, log_tail text, outputs text";

/// How many tasks of a run ended, and how.
#[derive(Clone, Copy, Default, Serialize)]
struct Counts {
    succeeded: i64,
    failed: i64,
    cancelled: i64,
    overran: i64,
}

#[derive(Serialize)]
struct CountRow<'a> {
    id: &'a str,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct LateRow<'a> {
    id: &'a str,
    task_id: &'a str,
    number: i64,
    worker: &'a str,
    status: &'static str,
    received_at: i64,
    body: &'a str,
}

#[derive(Serialize)]
struct SuppressRow<'a> {
    task_id: &'a str,
    until: Option<i64>,
    reason: &'a str,
}

const STANDING: &str = "t.id, t.state, t.attempt, t.spent, t.declines, t.avoid, t.step, t.cancel_by, t.organization, t.plugin_id, u.schedule_id, \
    a.worker, a.outcome, a.run_until, a.beat_at, a.expires_at";

impl Store {
    /// How tasks stand, with what is needed to judge a status; unknown ones are absent.
    pub async fn standings(&self, ids: &[&str]) -> Result<HashMap<String, Known>, StoreError> {
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let sql = format!(
            "SELECT {STANDING} FROM {} JOIN task t ON t.id = r.id JOIN run u ON u.id = t.run_id \
             LEFT JOIN attempt a ON a.task_id = t.id AND a.number = t.attempt",
            self.dialect.rows("$1", "id text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .fetch_all(&self.pool)
            .await?;
        let known = rows.iter().map(read_known);
        Ok(known.collect::<Result<_, _>>()?)
    }

    /// The traces that tasks belong to.
    pub async fn traceparents(&self, ids: &[&str]) -> Result<HashMap<String, String>, StoreError> {
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let sql = format!(
            "SELECT t.id, t.run_id, u.occasion FROM {} JOIN task t ON t.id = r.id JOIN run u ON u.id = t.run_id",
            self.dialect.rows("$1", "id text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let (run_id, occasion): (String, String) =
                    (row.try_get("run_id")?, row.try_get("occasion")?);
                Ok((row.try_get("id")?, traceparent(&run_id, &occasion)))
            })
            .collect()
    }

    /// Tasks of which a clock of their newest attempt has run out.
    pub async fn overdue(
        &self,
        now: Moment,
        limit: i64,
    ) -> Result<Vec<(String, Known)>, StoreError> {
        let sql = format!(
            "SELECT {STANDING} FROM attempt a JOIN task t ON t.id = a.task_id AND t.attempt = a.number \
             JOIN run u ON u.id = t.run_id WHERE a.expires_at <= $1 ORDER BY a.expires_at LIMIT $2"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(now.micros())
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        let known = rows.iter().map(read_known);
        Ok(known.collect::<Result<_, _>>()?)
    }

    /// Applies steps, each only where its task still stands as it was read. One step a task.
    pub async fn apply_steps(
        &self,
        steps: &[Reported],
        late: &[(String, Status, String)],
        now: Moment,
    ) -> Result<Written, StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let written = self
                .apply_steps_in(&mut transaction, steps, late, now)
                .await?;
            transaction.commit().await?;
            Ok(written)
        })
        .await
    }

    pub(super) async fn apply_steps_in(
        &self,
        transaction: &mut AnyConnection,
        steps: &[Reported],
        late: &[(String, Status, String)],
        now: Moment,
    ) -> Result<Written, StoreError> {
        let mut rows = Vec::with_capacity(steps.len());
        // How the attempts end that had not ended.
        let mut closes: HashMap<&str, &'static str> = HashMap::new();
        for reported in steps {
            let row = step_row(reported, now);
            let open = reported.standing.attempt > 0 && reported.standing.outcome.is_none();
            if let (true, Some(outcome)) = (open, row.outcome) {
                closes.insert(row.id, outcome);
            }
            rows.push(row);
        }
        // Locked in one order by all who report at once.
        rows.sort_by(|a, b| a.id.cmp(b.id));
        let source = self.dialect.rows("$1", STEP_COLUMNS);
        let overran: HashSet<&str> = steps
            .iter()
            .filter(|reported| overruns(reported))
            .map(|reported| reported.task_id.as_str())
            .collect();
        // What a person says of a task of one organisation is no outcome for the others.
        let marked: HashSet<&str> = steps
            .iter()
            .filter(|reported| reported.step.outcome == Some(MARKED))
            .map(|reported| reported.task_id.as_str())
            .collect();
        let mut over: Vec<Over> = Vec::new();
        let mut applied: HashSet<String> = HashSet::new();
        let mut runs: BTreeMap<String, Counts> = BTreeMap::new();
        if !rows.is_empty() {
            let noted = self.noting(self.listened().tasks, now.micros());
            let sql = format!(
                "UPDATE task SET state = r.state, spent = r.spent, declines = r.declines, avoid = r.avoid, \
                 not_before = r.not_before, finished_at = r.finished_at, reason = r.reason, step = task.step + 1, \
                 unannounced = CASE WHEN r.finished_at IS NULL THEN NULL ELSE {noted} END FROM {source} \
                 WHERE task.id = r.id AND task.state = r.was AND task.attempt = r.number AND task.step = r.step \
                 RETURNING task.id AS id, run_id, worker_type, task.state AS state, task.deduplication_key AS shares"
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&rows))
                .fetch_all(&mut *transaction)
                .await?
            {
                let state: String = row.try_get("state")?;
                let id: String = row.try_get("id")?;
                if let Some(outcome) = closes.get(id.as_str()) {
                    tally::attempt_ended(&row.try_get::<String, _>("worker_type")?, outcome);
                }
                if let Some(state) = TaskState::parse(&state).filter(|state| state.terminal()) {
                    let counts = runs.entry(row.try_get("run_id")?).or_default();
                    counts.overran += i64::from(overran.contains(id.as_str()));
                    let shares: Option<String> = row.try_get("shares")?;
                    over.extend(shares.map(|_| Over {
                        shared: state == TaskState::Succeeded && !marked.contains(id.as_str()),
                        id: id.clone(),
                    }));
                    match state {
                        TaskState::Succeeded => counts.succeeded += 1,
                        TaskState::Failed | TaskState::Dead => counts.failed += 1,
                        _ => counts.cancelled += 1,
                    }
                }
                applied.insert(id);
            }
        }
        let mut taken: Vec<&StepRow<'_>> =
            rows.iter().filter(|row| applied.contains(row.id)).collect();
        taken.sort_by_key(|row| row.id);
        // What was closed stays as it was; a heartbeat's figures never fall.
        let sql = format!(
            "UPDATE attempt SET worker = coalesce(attempt.worker, r.worker), \
             accepted_at = coalesce(attempt.accepted_at, r.accepted_at), \
             run_until = coalesce(attempt.run_until, r.run_until), beat_at = coalesce(r.beat_at, attempt.beat_at), \
             done = CASE WHEN r.done IS NULL OR r.done < attempt.done THEN attempt.done ELSE r.done END, \
             total = coalesce(r.total, attempt.total), stage = coalesce(r.stage, attempt.stage), \
             note = coalesce(r.note, attempt.note), \
             claimed_until = NULL, expires_at = r.clock, published_at = coalesce(attempt.published_at, {now}), \
             ended_at = r.ended_at, outcome = r.outcome, message = r.message, exit_code = r.exit_code, \
             log_ref = r.log_ref, log_tail = r.log_tail, outputs = r.outputs FROM {source} \
             WHERE attempt.task_id = r.id AND attempt.number = r.number AND {open}",
            now = now.micros(),
            open = of_named("attempt.ended_at IS NULL")
        );
        write_rows(transaction, sql, &taken).await?;
        self.hear(transaction, &taken, now).await?;
        // A heartbeat changes no state.
        let moved = taken.iter().filter(|row| row.was != row.state);
        self.tell_tasks(transaction, moved.map(|row| row.id), now)
            .await?;
        let ended: Vec<&StepRow<'_>> = taken
            .iter()
            .copied()
            .filter(|row| row.finished_at.is_some())
            .collect();
        let executed: Vec<&StepRow<'_>> = ended
            .iter()
            .copied()
            .filter(|row| TaskState::parse(row.state).is_some_and(TaskState::executed))
            .collect();
        self.start_grace(transaction, &executed, now).await?;
        self.suppress(transaction, steps, &applied).await?;
        let ids = self.dialect.rows("$1", "id text");
        let sql = format!("DELETE FROM open_input WHERE task_id IN (SELECT r.id FROM {ids})");
        write_rows(transaction, sql, &ended).await?;
        for (run_id, many) in self.share_ends(transaction, &over, now).await? {
            runs.entry(run_id).or_default().succeeded += many;
        }
        self.count_ends(transaction, &runs).await?;
        let finished: Vec<String> = runs.into_keys().collect();
        self.end_runs(transaction, &finished, now).await?;
        self.keep_late(transaction, late, now).await?;
        Ok(Written {
            stale: steps
                .iter()
                .map(|reported| &reported.task_id)
                .filter(|id| !applied.contains(*id))
                .cloned()
                .collect(),
        })
    }

    /// Runs count the ends of their tasks.
    async fn count_ends(
        &self,
        connection: &mut AnyConnection,
        runs: &BTreeMap<String, Counts>,
    ) -> Result<(), StoreError> {
        let rows: Vec<CountRow<'_>> = runs
            .iter()
            .map(|(id, counts)| CountRow {
                id,
                counts: *counts,
            })
            .collect();
        let source = self.dialect.rows(
            "$1",
            "id text, succeeded bigint, failed bigint, cancelled bigint, overran bigint",
        );
        let update = format!(
            "UPDATE run SET succeeded = run.succeeded + r.succeeded, failed = run.failed + r.failed, \
             cancelled = run.cancelled + r.cancelled, overran = run.overran + r.overran FROM {source} WHERE run.id = r.id"
        );
        // Locked in one order, so that two who report at once never wait for each other.
        let sql = match self.dialect {
            Dialect::Postgres => format!(
                "WITH locked AS MATERIALIZED (SELECT id FROM run WHERE id IN (SELECT r.id FROM {source}) ORDER BY id \
                 FOR UPDATE) {update} AND run.id IN (SELECT id FROM locked)"
            ),
            Dialect::Sqlite => update,
        };
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }

    /// Who accepts work is there: avoiding somebody makes sense only where somebody else has been heard.
    async fn hear(
        &self,
        connection: &mut AnyConnection,
        taken: &[&StepRow<'_>],
        now: Moment,
    ) -> Result<(), StoreError> {
        let heard: Vec<&StepRow<'_>> = taken
            .iter()
            .copied()
            .filter(|row| row.accepted_at.is_some() && row.worker.is_some())
            .collect();
        let sql = format!(
            "INSERT INTO heard AS h (worker_type, worker, heard_at) \
             SELECT DISTINCT t.worker_type, r.worker, {} FROM {} JOIN task t ON t.id = r.id WHERE true \
             ON CONFLICT (worker_type, worker) DO UPDATE SET heard_at = excluded.heard_at",
            now.micros(),
            self.dialect.rows("$1", "id text, worker text")
        );
        write_rows(connection, sql, &heard).await?;
        Ok(())
    }

    async fn suppress(
        &self,
        connection: &mut AnyConnection,
        steps: &[Reported],
        applied: &HashSet<String>,
    ) -> Result<(), StoreError> {
        let suppressed: Vec<SuppressRow<'_>> = steps
            .iter()
            .filter(|reported| applied.contains(&reported.task_id))
            .filter_map(|reported| {
                let (until, reason) = reported.step.suppress.as_ref()?;
                Some(SuppressRow {
                    task_id: &reported.task_id,
                    until: until.map(Moment::micros),
                    reason,
                })
            })
            .collect();
        let sql = format!(
            "INSERT INTO suppressed AS s (organization, primary_key, unique_key, until, reason) \
             SELECT i.organization, i.primary_key, i.unique_key, r.until, r.reason \
             FROM open_input i JOIN {} ON i.task_id = r.task_id WHERE true \
             ON CONFLICT (organization, primary_key, unique_key) DO UPDATE SET until = excluded.until, reason = excluded.reason",
            self.dialect
                .rows("$1", "task_id text, until bigint, reason text")
        );
        write_rows(connection, sql, &suppressed).await?;
        Ok(())
    }

    async fn keep_late(
        &self,
        connection: &mut AnyConnection,
        late: &[(String, Status, String)],
        now: Moment,
    ) -> Result<(), StoreError> {
        let rows: Vec<LateRow<'_>> = late
            .iter()
            .map(|(id, status, body)| LateRow {
                id,
                task_id: &status.task_id,
                number: status.attempt.unwrap_or(0),
                worker: &status.worker,
                status: status.word.name(),
                received_at: now.micros(),
                body,
            })
            .collect();
        let sql = format!(
            "INSERT INTO late_result (id, task_id, number, worker, status, received_at, body) \
             SELECT r.id, r.task_id, r.number, r.worker, r.status, r.received_at, r.body FROM {}",
            self.dialect.rows(
                "$1",
                "id text, task_id text, number bigint, worker text, status text, received_at bigint, body text"
            )
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }
}

impl Store {
    /// Closes the open attempts of tasks, and counts them.
    pub(super) async fn close_attempts(
        &self,
        connection: &mut AnyConnection,
        tasks: &[IdRow<'_>],
        outcome: &'static str,
        now: Moment,
    ) -> Result<(), StoreError> {
        if tasks.is_empty() {
            return Ok(());
        }
        // In the order in which everybody comes to them.
        let mut tasks: Vec<&IdRow<'_>> = tasks.iter().collect();
        tasks.sort_unstable_by_key(|row| row.id);
        let sql = format!(
            "UPDATE attempt SET ended_at = {}, outcome = '{outcome}', claimed_until = NULL, expires_at = NULL \
             FROM {} WHERE attempt.task_id = r.id AND {} \
             RETURNING (SELECT task.worker_type FROM task WHERE task.id = attempt.task_id) AS worker_type",
            now.micros(),
            self.dialect.rows("$1", "id text"),
            of_named("attempt.ended_at IS NULL")
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&tasks))
            .fetch_all(connection)
            .await?
        {
            tally::attempt_ended(&row.try_get::<String, _>("worker_type")?, outcome);
        }
        Ok(())
    }
}

/// Whether its last attempt ended by a clock.
fn overruns(reported: &Reported) -> bool {
    let step = &reported.step;
    step.state == Some(TaskState::Dead)
        && matches!(step.reason.as_deref(), Some("timed_out" | "silent"))
}

fn step_row(reported: &Reported, now: Moment) -> StepRow<'_> {
    let (standing, step) = (&reported.standing, &reported.step);
    let state = step.state.unwrap_or(standing.state);
    let ending = &step.ending;
    let at = reported.at.unwrap_or(now).micros();
    let beat = step.beat.as_ref();
    StepRow {
        id: &reported.task_id,
        was: standing.state.word(),
        step: standing.step,
        number: standing.attempt,
        state: state.word(),
        spent: step.spent,
        declines: step.declines,
        avoid: write_avoid(&step.avoid),
        not_before: step.not_before.map(Moment::micros),
        finished_at: state.terminal().then_some(now.micros()),
        reason: step.reason.as_deref(),
        // The result of an older offer is not the newest one's.
        worker: reported.worker.as_deref().filter(|_| !step.of_older),
        accepted_at: (step.accepted && !step.of_older).then_some(at),
        run_until: step.run_until.map(Moment::micros),
        clock: step.clock.map(Moment::micros),
        beat_at: beat.map(|_| now.micros()),
        done: beat.and_then(|beat| beat.done),
        total: beat.and_then(|beat| beat.total),
        stage: beat.and_then(|beat| beat.stage.as_deref()),
        note: beat.and_then(|beat| beat.note.as_deref()),
        ended_at: step.outcome.map(|_| at),
        outcome: step
            .outcome
            .map(|outcome| if step.of_older { "superseded" } else { outcome }),
        message: ending.message.as_deref(),
        exit_code: ending.exit_code,
        log_ref: ending.log_ref.as_deref(),
        log_tail: ending.log_tail.as_deref(),
        outputs: ending.outputs.as_ref().map(ToString::to_string),
    }
}

fn write_avoid(avoid: &[Avoided]) -> Option<String> {
    let listed = |avoided: &Avoided| json!([avoided.worker, avoided.until.micros()]);
    (!avoid.is_empty()).then(|| Value::Array(avoid.iter().map(listed).collect()).to_string())
}

/// Who is avoided, as the store keeps it.
pub(super) fn read_avoid(text: Option<&str>) -> Vec<Avoided> {
    let listed: Vec<(String, i64)> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    listed
        .into_iter()
        .map(|(worker, until)| Avoided {
            worker,
            until: Moment::from_micros(until),
        })
        .collect()
}

fn read_known(row: &AnyRow) -> Result<(String, Known), sqlx::Error> {
    let state: String = row.try_get("state")?;
    let avoid: Option<String> = row.try_get("avoid")?;
    let known = Known {
        standing: Standing {
            state: TaskState::parse(&state).unwrap_or(TaskState::Queued),
            step: row.try_get("step")?,
            attempt: row.try_get("attempt")?,
            spent: row.try_get("spent")?,
            declines: row.try_get("declines")?,
            worker: row.try_get("worker")?,
            outcome: row.try_get("outcome")?,
            run_until: maybe_moment(row, "run_until")?,
            beat_at: maybe_moment(row, "beat_at")?,
            cancelling: maybe_moment(row, "cancel_by")?.is_some(),
            avoid: read_avoid(avoid.as_deref()),
        },
        organization: row.try_get("organization")?,
        plugin_id: row.try_get("plugin_id")?,
        schedule_id: row.try_get("schedule_id")?,
        offered_until: maybe_moment(row, "expires_at")?,
    };
    Ok((row.try_get("id")?, known))
}
