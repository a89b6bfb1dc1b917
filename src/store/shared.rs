//! Tasks that share an outcome: who has the same object, which task of a key runs, and what becomes of those that wait for
//! it once it has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::{IdRow, WITHDRAWN_WAITING};
use super::world::{OBJECT_COLUMNS, read_map, read_object};
use super::{Store, StoreError, json_rows, key_rows, write_rows};
use crate::moment::Moment;
use crate::object::{Object, ObjectKey};
use crate::tally;
use crate::task::TaskDraft;

/// The states of the one task of its key that is not waiting.
const RUNS: &str = "state IN ('queued', 'dispatched', 'running')";

/// A task that waits for the outcome of another one, and its object as it is now.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub task_id: String,
    pub organization: String,
    pub plugin_id: String,
    pub deduplication_key: String,
    pub parameters: Map<String, Value>,
    pub object: Option<Object>,
}

/// A task that waits, by name, and for which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    pub task_id: String,
    pub organization: String,
    pub shared_from: String,
}

/// How a task that shares its outcome is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It runs, and others of its key may wait for it.
    Runs,
    /// It waits for this one.
    WaitsFor(String),
    /// It runs by itself, because somebody asked for it while another one runs.
    Alone,
}

/// A task that has ended, and whether those that wait for it end so too.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Over {
    pub id: String,
    #[serde(skip)]
    pub shared: bool,
}

impl Over {
    /// A task that ended without success, where others may wait for it.
    pub(super) fn unshared(row: &AnyRow) -> Result<Option<Over>, sqlx::Error> {
        let key: Option<String> = row.try_get("deduplication_key")?;
        let id = row.try_get("id")?;
        Ok(key.map(|_| Over { id, shared: false }))
    }
}

impl Store {
    /// The same objects of other organisations, by what they are called there.
    pub(super) async fn fellows(
        &self,
        connection: &mut AnyConnection,
        keys: &HashSet<ObjectKey>,
        among: &[String],
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let names: BTreeSet<&str> = keys
            .iter()
            .map(|key| key.primary_key.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        if names.is_empty() || among.is_empty() {
            return Ok(Vec::new());
        }
        // One step down the primary key for each of them: no index that every writer would pay for.
        let sql = format!(
            "SELECT o.organization, o.primary_key FROM (SELECT r.k AS organization FROM {}) AS g \
             CROSS JOIN (SELECT r.k AS primary_key FROM {}) AS w \
             JOIN object o ON o.organization = g.organization AND o.primary_key = w.primary_key WHERE o.live = 1",
            self.dialect.rows("$1", "k text"),
            self.dialect.rows("$2", "k text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(among))
            .bind(key_rows(names))
            .fetch_all(connection)
            .await?;
        let read = rows.iter().map(|row| {
            Ok(ObjectKey {
                organization: row.try_get("organization")?,
                primary_key: row.try_get("primary_key")?,
            })
        });
        Ok(read.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Which of these tasks runs and which waits for another one, by their ids. Whoever runs already is held until the end
    /// of the transaction, so that it does not end before those that wait for it are stored.
    pub(super) async fn seats<'t>(
        &self,
        connection: &mut AnyConnection,
        tasks: &[&'t TaskDraft],
    ) -> Result<HashMap<&'t str, Seat>, StoreError> {
        let sharing = || {
            let open = tasks.iter().filter(|task| !task.state.terminal());
            open.filter_map(|task| Some((*task, task.deduplication_key.as_deref()?)))
        };
        let keys: BTreeSet<&str> = sharing().map(|(_, key)| key).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let lock = match self.dialect {
            super::Dialect::Postgres => "FOR SHARE OF t",
            super::Dialect::Sqlite => "",
        };
        let sql = format!(
            "SELECT t.id, t.deduplication_key FROM {} JOIN task t ON t.deduplication_key = r.k \
             WHERE t.deduplication_key IS NOT NULL AND t.{RUNS} ORDER BY t.id {lock}",
            self.dialect.rows("$1", "k text")
        );
        let mut runs: HashMap<String, String> = HashMap::new();
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(keys))
            .fetch_all(connection)
            .await?
        {
            runs.insert(row.try_get("deduplication_key")?, row.try_get("id")?);
        }
        let mut seats = HashMap::new();
        for (task, key) in sharing() {
            let seat = match runs.get(key) {
                None => {
                    runs.insert(key.to_owned(), task.id.clone());
                    Seat::Runs
                }
                Some(runs) if task.waits => Seat::WaitsFor(runs.clone()),
                Some(_) => Seat::Alone,
            };
            seats.insert(task.id.as_str(), seat);
        }
        Ok(seats)
    }

    /// Who runs for each of these keys now: task and organisation, by key.
    pub async fn leaders(
        &self,
        keys: &BTreeSet<&str>,
    ) -> Result<HashMap<String, (String, String)>, StoreError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT t.deduplication_key, t.id, t.organization FROM {} JOIN task t ON t.deduplication_key = r.k \
             WHERE t.deduplication_key IS NOT NULL AND t.{RUNS} ORDER BY t.id",
            self.dialect.rows("$1", "k text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(keys))
            .fetch_all(&self.pool)
            .await?;
        let read = rows.iter().map(|row| {
            let leader = (row.try_get("id")?, row.try_get("organization")?);
            Ok((row.try_get("deduplication_key")?, leader))
        });
        Ok(read.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Which tasks wait for the outcome of these, with their organisations: at most so many.
    pub async fn waiting_for(
        &self,
        tasks: &BTreeSet<&str>,
        limit: i64,
    ) -> Result<Vec<Follower>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT t.id, t.organization, t.shared_from FROM {} JOIN task t ON t.shared_from = r.k \
             WHERE t.state = 'waiting' ORDER BY t.organization, t.id LIMIT $2",
            self.dialect.rows("$1", "k text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(tasks))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        let read = rows.iter().map(|row| {
            Ok(Follower {
                task_id: row.try_get("id")?,
                organization: row.try_get("organization")?,
                shared_from: row.try_get("shared_from")?,
            })
        });
        Ok(read.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Those that wait for tasks which have ended take their outcome, where it is to be shared, and are queued otherwise.
    /// Answers with how many tasks of each run have succeeded so.
    pub(super) async fn share_ends(
        &self,
        connection: &mut AnyConnection,
        over: &[Over],
        now: Moment,
    ) -> Result<BTreeMap<String, i64>, StoreError> {
        let (shared, not): (Vec<&Over>, Vec<&Over>) = over.iter().partition(|over| over.shared);
        self.queue_waiting(connection, "shared_from", &not, now)
            .await?;
        let mut runs: BTreeMap<String, i64> = BTreeMap::new();
        if shared.is_empty() {
            return Ok(runs);
        }
        let noted = self.noting(self.listened().tasks, now.micros());
        let sql = format!(
            "UPDATE task SET state = 'succeeded', reason = NULL, finished_at = {}, attempt = attempt + 1, step = step + 1, \
             cancel_by = NULL, unannounced = {noted} WHERE state = 'waiting' AND shared_from IN (SELECT r.id FROM {}) \
             RETURNING id, run_id",
            now.micros(),
            self.dialect.rows("$1", "id text")
        );
        let mut ended: Vec<String> = Vec::new();
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&shared))
            .fetch_all(&mut *connection)
            .await?
        {
            ended.push(row.try_get("id")?);
            *runs.entry(row.try_get("run_id")?).or_default() += 1;
        }
        let rows: Vec<IdRow<'_>> = ended.iter().map(|id| IdRow { id }).collect();
        // What decided is kept with each of them: not before it was made, and without the log, which is the other's.
        let sql = format!(
            "INSERT INTO attempt (task_id, number, worker, offered_at, published_at, accepted_at, ended_at, outcome, exit_code, \
             outputs) SELECT t.id, t.attempt, a.worker, {offered}, {published}, {accepted}, a.ended_at, 'succeeded', \
             a.exit_code, a.outputs FROM {rows} JOIN task t ON t.id = r.id JOIN task l ON l.id = t.shared_from \
             JOIN attempt a ON a.task_id = l.id AND a.number = l.attempt",
            offered = not_before_made("a.offered_at"),
            published = not_before_made("a.published_at"),
            accepted = not_before_made("a.accepted_at"),
            rows = self.dialect.rows("$1", "id text")
        );
        write_rows(connection, sql, &rows).await?;
        self.start_grace(connection, &rows, now).await?;
        let sql = format!(
            "DELETE FROM open_input WHERE task_id IN (SELECT r.id FROM {})",
            self.dialect.rows("$1", "id text")
        );
        write_rows(connection, sql, &rows).await?;
        self.tell_tasks(connection, ended.iter().map(String::as_str), now)
            .await?;
        Ok(runs)
    }

    /// Tasks that wait are queued, and share nothing any more; `column` says by what they are named.
    async fn queue_waiting<T: Serialize>(
        &self,
        connection: &mut AnyConnection,
        column: &str,
        rows: &[T],
        now: Moment,
    ) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let sql = format!(
            "UPDATE task SET state = 'queued', deduplication_key = NULL, shared_from = NULL, step = step + 1 \
             WHERE state = 'waiting' AND {column} IN (SELECT r.id FROM {}) RETURNING id",
            self.dialect.rows("$1", "id text")
        );
        let queued = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(rows))
            .fetch_all(&mut *connection)
            .await?;
        let ids: Vec<String> = queued
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, sqlx::Error>>()?;
        self.tell_tasks(connection, ids.iter().map(String::as_str), now)
            .await?;
        Ok(ids.len() as u64)
    }

    /// These wait for nobody any more: they are queued.
    pub async fn stop_waiting(&self, tasks: &[String], now: Moment) -> Result<u64, StoreError> {
        let rows: Vec<IdRow<'_>> = tasks.iter().map(|id| IdRow { id }).collect();
        let mut transaction = self.begin().await?;
        let queued = self
            .queue_waiting(&mut transaction, "id", &rows, now)
            .await?;
        transaction.commit().await?;
        Ok(queued)
    }

    /// Those of these that still wait are not to be done at all.
    pub async fn withdraw_waiting(&self, tasks: &[String], now: Moment) -> Result<(), StoreError> {
        tally::counted(async {
            let ids: Vec<&str> = tasks.iter().map(String::as_str).collect();
            let mut transaction = self.begin().await?;
            self.close_in(
                &mut transaction,
                &ids,
                &WITHDRAWN_WAITING,
                "reason_gone",
                now,
            )
            .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Tasks that wait for another one's outcome, in the order of their ids.
    pub async fn waiting_after(&self, after: &str, limit: i64) -> Result<Vec<Waiting>, StoreError> {
        let sql = format!(
            "SELECT t.id AS task_id, t.organization AS belongs_to, t.plugin_id, t.deduplication_key, t.parameters, o.version AS known, \
             {OBJECT_COLUMNS}, {} AS attributes FROM (SELECT * FROM task WHERE state = 'waiting' AND id > $1 ORDER BY id LIMIT $2) t \
             JOIN open_input i ON i.task_id = t.id \
             LEFT JOIN object o ON o.organization = i.organization AND o.primary_key = i.primary_key ORDER BY t.id",
            self.dialect.json_text("o.attributes")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let known: Option<i64> = row.try_get("known")?;
                let key: Option<String> = row.try_get("deduplication_key")?;
                Ok(Waiting {
                    task_id: row.try_get("task_id")?,
                    organization: row.try_get("belongs_to")?,
                    plugin_id: row.try_get("plugin_id")?,
                    deduplication_key: key.unwrap_or_default(),
                    parameters: read_map(&row.try_get::<String, _>("parameters")?),
                    object: match known {
                        Some(_) => Some(read_object(row)?.0),
                        None => None,
                    },
                })
            })
            .collect()
    }
}

/// An instant of an attempt of `l` for a task `t` that may have been made later.
fn not_before_made(column: &str) -> String {
    format!("CASE WHEN {column} < t.created_at THEN t.created_at ELSE {column} END")
}
