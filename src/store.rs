//! What lasts: one struct for PostgreSQL and SQLite, one SQL text wherever they agree.
//!
//! Sets of rows travel as one JSON parameter, which both databases read as a table (`Dialect::rows`). Nothing
//! reads inside a transaction in order to decide: a decision is made on what was read before, and
//! [`commit`](Store::commit) stores it only if that is still so. Whose turn it is alone is decided while the row of the
//! queue is held ([`claim_turns`](Store::claim_turns)).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row};
use tokio::sync::OnceCell;

use crate::moment::Moment;

mod by_hand;
mod chained;
mod claiming;
mod columns;
mod commit;
mod declared;
mod depths;
mod door;
mod events;
mod expanding;
mod files;
mod history;
mod indexes;
mod leaving;
mod letters;
mod life;
mod limits;
mod listing;
mod lookup;
mod near;
mod pending;
mod queues;
mod reading;
mod requests;
mod retention;
mod runs;
mod shared;
mod standing;
mod steps;
mod tasks;
mod void;
mod world;

pub use by_hand::{Deed, Ended, HandDone, Past, Redrive};
pub use claiming::{Ask, Busy, Claims};
pub use commit::{Commit, Committed, CursorMove};
pub use declared::{Applied, Edit, Since, overlaid};
pub use depths::LeftBehind;
pub use events::{EventsOf, KeptEvent, RunOfEvent, TaskOfRun};
pub use expanding::{ExpandingRun, Expansion, Held};
pub use leaving::Leaving;
pub use letters::{DeadLetter, StoredLetter};
pub use life::{Life, LifeOfRun, LifeOfTask};
pub use limits::LimitNow;
pub use listing::{CENSUS, Listing, Page};
pub use pending::Cancel;
pub use queues::{Depth, QueueRecord};
pub use reading::Reading;
pub use requests::{Answered, Pause};
pub use retention::Older;
pub use runs::{Pointers, RunFilter, RunRecord};
pub use shared::{Follower, Waiting};
pub use standing::{AttemptRecord, Place, TaskRecord};
pub use steps::{Known, MARKED, Reported, Written};
pub use tasks::{Claimed, ClaimedInput, Published, PutOff};
pub use void::Void;
pub use world::{Gathered, Wanted};

/// Which database it is, and the few fragments in which they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer; the same will work once it does.
    #[error("the database is out of reach: {0}")]
    OutOfReach(String),
    /// The address is wrong.
    #[error("{0}")]
    Refused(String),
    /// The server does not let us in, or has no such database.
    #[error("{0}")]
    Denied(String),
    /// There is no such file, and nobody asked to make it.
    #[error("there is no database at {0}")]
    Absent(String),
    /// Its schema is older than this version, or not there at all.
    #[error("{0}")]
    Old(String),
    /// The database holds something that this version does not understand.
    #[error("{0}")]
    Unusable(String),
    /// A statement failed.
    #[error("the database refused a statement: {}", door::said(.0))]
    Statement(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        use sqlx::Error::*;
        match error {
            Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => {
                StoreError::OutOfReach(door::said(&error))
            }
            Configuration(_) => StoreError::Refused(format!("store.url: {error}")),
            Database(ref database) => match database.code().as_deref() {
                // Shutting down, starting up, too many connections, not the first server yet, no room on the disk, the
                // disk itself: it comes back.
                Some("57P01" | "57P02" | "57P03" | "53300" | "25006" | "53100" | "58030") => {
                    StoreError::OutOfReach(door::said(&error))
                }
                Some("28P01" | "28000" | "3D000") => StoreError::Denied(door::said(&error)),
                // SQLite cannot open the file.
                Some("14") => StoreError::Refused(
                    "store.url: the file of the database cannot be opened; its folder must be there, and may be written to"
                        .to_owned(),
                ),
                _ => StoreError::Statement(error),
            },
            other => StoreError::Statement(other),
        }
    }
}

impl StoreError {
    /// Trying the same again may work: the database was away, or somebody else was faster.
    pub fn passing(&self) -> bool {
        match self {
            StoreError::OutOfReach(_) => true,
            StoreError::Statement(sqlx::Error::Database(error)) => matches!(
                error.code().as_deref(),
                // Serialisation failure, deadlock, lock time-out; SQLite busy and locked, plain and extended, and full.
                Some("40001" | "40P01" | "55P03" | "5" | "6" | "261" | "517" | "262" | "13")
            ),
            _ => false,
        }
    }
}

/// The database behind muster.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    dialect: Dialect,
    place: door::Place,
    listened: Arc<AtomicI64>,
    telling: Arc<AtomicBool>,
    indexed: Arc<OnceCell<BTreeSet<String>>>,
}

/// Whose ends set something off: only those are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listened {
    pub runs: bool,
    pub tasks: bool,
}

/// The numbered changes of the schema, in order, for each database.
const MIGRATIONS: [(i64, &str, &str, &str); 14] = [
    (
        1,
        "house",
        include_str!("../migrations/postgres/0001_house.sql"),
        include_str!("../migrations/sqlite/0001_house.sql"),
    ),
    (
        2,
        "history",
        include_str!("../migrations/postgres/0002_history.sql"),
        include_str!("../migrations/sqlite/0002_history.sql"),
    ),
    (
        3,
        "runs",
        include_str!("../migrations/postgres/0003_runs.sql"),
        include_str!("../migrations/sqlite/0003_runs.sql"),
    ),
    (
        4,
        "turns",
        include_str!("../migrations/postgres/0004_turns.sql"),
        include_str!("../migrations/sqlite/0004_turns.sql"),
    ),
    (
        5,
        "changes",
        include_str!("../migrations/postgres/0005_changes.sql"),
        include_str!("../migrations/sqlite/0005_changes.sql"),
    ),
    (
        6,
        "clocks",
        include_str!("../migrations/postgres/0006_clocks.sql"),
        include_str!("../migrations/sqlite/0006_clocks.sql"),
    ),
    (
        7,
        "backlog",
        include_str!("../migrations/postgres/0007_backlog.sql"),
        include_str!("../migrations/sqlite/0007_backlog.sql"),
    ),
    (
        8,
        "by_hand",
        include_str!("../migrations/postgres/0008_by_hand.sql"),
        include_str!("../migrations/sqlite/0008_by_hand.sql"),
    ),
    (
        9,
        "life",
        include_str!("../migrations/postgres/0009_life.sql"),
        include_str!("../migrations/sqlite/0009_life.sql"),
    ),
    (
        10,
        "events",
        include_str!("../migrations/postgres/0010_events.sql"),
        include_str!("../migrations/sqlite/0010_events.sql"),
    ),
    (
        files::SINCE,
        "files",
        include_str!("../migrations/postgres/0011_files.sql"),
        include_str!("../migrations/sqlite/0011_files.sql"),
    ),
    (
        12,
        "sharing",
        include_str!("../migrations/postgres/0012_sharing.sql"),
        include_str!("../migrations/sqlite/0012_sharing.sql"),
    ),
    (
        13,
        "void",
        include_str!("../migrations/postgres/0013_void.sql"),
        include_str!("../migrations/sqlite/0013_void.sql"),
    ),
    (
        14,
        "open runs",
        include_str!("../migrations/postgres/0014_open_runs.sql"),
        include_str!("../migrations/sqlite/0014_open_runs.sql"),
    ),
];

/// The number of the last change of the schema.
const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Any number that no other program uses: the key of the advisory lock around migrations.
const MIGRATION_LOCK: i64 = 0x6d75_7374_6572;

impl Dialect {
    fn of(url: &str) -> Result<Dialect, StoreError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Ok(Dialect::Postgres),
            Some("sqlite") => Ok(Dialect::Sqlite),
            _ => Err(StoreError::Refused(
                "store.url must begin with postgres: or sqlite:".to_owned(),
            )),
        }
    }

    /// A table made from the JSON array in a parameter. `columns` are written as PostgreSQL wants them:
    /// `"id text, number bigint, attributes jsonb"`.
    pub(crate) fn rows(self, parameter: &str, columns: &str) -> String {
        match self {
            Dialect::Postgres => {
                format!("json_to_recordset({parameter}::json) AS r({columns})")
            }
            Dialect::Sqlite => {
                let picked: Vec<String> = columns
                    .split(',')
                    .filter_map(|column| {
                        let (name, kind) = column.trim().split_once(' ')?;
                        let arrow = if kind == "jsonb" { "->" } else { "->>" };
                        Some(format!("value {arrow} '{name}' AS {name}"))
                    })
                    .collect();
                format!(
                    "(SELECT {} FROM json_each({parameter})) AS r",
                    picked.join(", ")
                )
            }
        }
    }

    /// How a column of JSON is read as text.
    pub(crate) fn json_text(self, column: &str) -> String {
        match self {
            Dialect::Postgres => format!("{column}::text"),
            Dialect::Sqlite => column.to_owned(),
        }
    }

    /// Rows that somebody else has locked are passed over.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Dialect::Postgres => "FOR UPDATE SKIP LOCKED",
            Dialect::Sqlite => "",
        }
    }

    /// The same of one table of a join.
    pub(crate) fn skip_locked_of(self, table: &str) -> String {
        match self {
            Dialect::Postgres => format!("FOR UPDATE OF {table} SKIP LOCKED"),
            Dialect::Sqlite => String::new(),
        }
    }

    /// How a text that is no column compares as columns do.
    pub(crate) fn by_code_point(self) -> &'static str {
        match self {
            Dialect::Postgres => "COLLATE \"C\"",
            Dialect::Sqlite => "",
        }
    }

    /// Rows of one table of a join are locked.
    pub(crate) fn for_update_of(self, table: &str) -> String {
        match self {
            Dialect::Postgres => format!("FOR UPDATE OF {table}"),
            Dialect::Sqlite => String::new(),
        }
    }

    pub(crate) fn for_share(self) -> &'static str {
        match self {
            Dialect::Postgres => "FOR SHARE",
            Dialect::Sqlite => "",
        }
    }

    /// The same database, as the query language knows it.
    pub(crate) fn of_queries(self) -> crate::query::narrow::Dialect {
        match self {
            Dialect::Postgres => crate::query::narrow::Dialect::Postgres,
            Dialect::Sqlite => crate::query::narrow::Dialect::Sqlite,
        }
    }

    /// Whether a field of a column of JSON holds one of the keys `k` of a parameter, alone or in a list. The field is a
    /// parameter too, as [`Dialect::step`] has it.
    pub(crate) fn points(self, column: &str, field: &str, keys: &str) -> String {
        let rows = self.rows(keys, "k text");
        match self {
            Dialect::Postgres => {
                let value = format!("{column} -> CAST({field} AS text)");
                format!(
                    "EXISTS (SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof({value}) WHEN 'array' THEN {value} \
                     ELSE jsonb_build_array({value}) END) AS e(item) WHERE e.item IN (SELECT to_jsonb(r.k) FROM {rows}))"
                )
            }
            Dialect::Sqlite => format!(
                "EXISTS (SELECT 1 FROM json_each({column}, {field}) e WHERE e.type = 'text' \
                 AND e.value IN (SELECT r.k FROM {rows}))"
            ),
        }
    }

    pub(crate) fn step(self, field: &str) -> String {
        match self {
            Dialect::Postgres => field.to_owned(),
            Dialect::Sqlite => format!("$.\"{field}\""),
        }
    }

    fn begin(self) -> &'static str {
        match self {
            Dialect::Postgres => "BEGIN",
            // The command line may write beside the service: take the write lock at once, or wait for it.
            Dialect::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// Of a transaction that may be forgotten if the database's machine fails, because it will be done again then.
    fn begin_lightly(self) -> &'static str {
        match self {
            Dialect::Postgres => "BEGIN; SET LOCAL synchronous_commit = off",
            Dialect::Sqlite => self.begin(),
        }
    }
}

impl Store {
    /// From this revision of the catalogue on the ends of these are noted.
    pub fn listen(&self, revision: i64, listened: Listened) {
        let bits = i64::from(listened.runs) | i64::from(listened.tasks) << 1;
        self.listened.fetch_max(revision << 2 | bits, Relaxed);
    }

    fn listened(&self) -> Listened {
        let bits = self.listened.load(Relaxed);
        Listened {
            runs: bits & 1 != 0,
            tasks: bits & 2 != 0,
        }
    }

    /// When an end is noted, as SQL: now, where somebody waits for such ends, or may since the catalogue has changed.
    fn noting(&self, listens: bool, now: i64) -> String {
        if listens {
            return now.to_string();
        }
        let known = self.listened.load(Relaxed) >> 2;
        format!(
            "CASE WHEN (SELECT value FROM revision WHERE name = 'catalogue') > {known} THEN {now} END"
        )
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Transactions wait for each other, whatever they write.
    pub fn one_writer(&self) -> bool {
        self.dialect == Dialect::Sqlite
    }

    /// The database's clock; on SQLite, which runs in this process, there is none and the answer is nothing.
    pub async fn clock(&self) -> Result<Option<Moment>, StoreError> {
        match self.dialect {
            Dialect::Sqlite => Ok(None),
            Dialect::Postgres => {
                let row = sqlx::query(
                    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now",
                )
                .fetch_one(&self.pool)
                .await?;
                Ok(Some(Moment::from_micros(row.try_get("now")?)))
            }
        }
    }

    /// Brings the schema up to this version, each step in a transaction; answers with the steps it took.
    /// Replicas that start at once wait for each other.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut taken = Vec::new();
        // Where nothing is to do nothing but reading is needed, and a replica may have rights to no more.
        if self.schema().await? == Some(NEWEST) {
            return Ok(taken);
        }
        for (number, name, postgres, sqlite) in MIGRATIONS {
            let mut transaction = self.pool.begin_with(self.dialect.begin()).await?;
            if self.dialect == Dialect::Postgres {
                sqlx::query("SELECT pg_advisory_xact_lock($1)::text")
                    .bind(MIGRATION_LOCK)
                    .execute(&mut *transaction)
                    .await?;
            }
            sqlx::raw_sql("CREATE TABLE IF NOT EXISTS migration (number bigint PRIMARY KEY, name text NOT NULL)")
                .execute(&mut *transaction)
                .await?;
            let newest: i64 =
                sqlx::query("SELECT coalesce(max(number), 0) AS newest FROM migration")
                    .fetch_one(&mut *transaction)
                    .await?
                    .try_get("newest")?;
            if newest > NEWEST {
                return Err(door::too_new(newest));
            }
            if newest < number {
                let text = match self.dialect {
                    Dialect::Postgres => postgres,
                    Dialect::Sqlite => sqlite,
                };
                sqlx::raw_sql(text).execute(&mut *transaction).await?;
                sqlx::query("INSERT INTO migration (number, name) VALUES ($1, $2)")
                    .bind(number)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                if number == files::SINCE {
                    self.find_files(&mut transaction).await?;
                }
                taken.push(format!("{number:04}_{name}"));
            }
            transaction.commit().await?;
        }
        Ok(taken)
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, StoreError> {
        Ok(self.pool.begin_with(self.dialect.begin()).await?)
    }

    async fn begin_lightly(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, StoreError> {
        Ok(self.pool.begin_with(self.dialect.begin_lightly()).await?)
    }
}

/// Texts as rows of one column `k`, as one JSON parameter.
fn key_rows<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> String {
    #[derive(serde::Serialize)]
    struct KeyRow<K> {
        k: K,
    }
    let keys: Vec<K> = keys.into_iter().collect();
    let rows: Vec<KeyRow<&str>> = keys.iter().map(|k| KeyRow { k: k.as_ref() }).collect();
    json_rows(&rows)
}

/// A condition on what rows `r` name by its id, said of both sides so that nobody plans by it. How many tasks are queued or
/// attempts open changes within a second; by the statistics of a minute ago, when there was none, the database would begin
/// with all of these and compare each with each row.
fn of_named(condition: &str) -> String {
    format!("({condition}) = (r.id IS NOT NULL)")
}

/// Rows as one JSON parameter.
fn json_rows<T: serde::Serialize>(rows: &[T]) -> String {
    // Only maps with keys that are not texts fail here, and no row has one.
    serde_json::to_string(rows).unwrap_or_else(|_| "[]".to_owned())
}

/// Runs a statement with rows as its one parameter; answers with the number of rows it touched.
async fn write_rows<T: serde::Serialize>(
    connection: &mut AnyConnection,
    sql: String,
    rows: &[T],
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(json_rows(rows))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

fn moment(row: &AnyRow, column: &str) -> Result<Moment, sqlx::Error> {
    row.try_get::<i64, _>(column).map(Moment::from_micros)
}

fn maybe_moment(row: &AnyRow, column: &str) -> Result<Option<Moment>, sqlx::Error> {
    Ok(row
        .try_get::<Option<i64>, _>(column)?
        .map(Moment::from_micros))
}
