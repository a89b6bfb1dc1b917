//! How a database is come to: whether it is there, whether it answers and lets us in, whether its schema is ours.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

use super::{Dialect, NEWEST, Store, StoreError};

/// How long a server may take to let us in; so long a full one, or one that is still starting, is asked again.
const WITHIN: Duration = Duration::from_secs(10);
/// How often that is.
const GLANCE: Duration = Duration::from_millis(100);

/// Where a database is. It is told without the password.
#[derive(Clone)]
pub(super) enum Place {
    /// SQLite that leaves nothing behind.
    Memory,
    File(PathBuf),
    Server(Box<PgConnectOptions>),
}

impl Place {
    fn of(dialect: Dialect, url: &str) -> Result<Place, StoreError> {
        let wrong = |_| {
            StoreError::Refused(
                "store.url is not a database address; write \"postgres://user@host/database\" or \"sqlite:muster.db\""
                    .to_owned(),
            )
        };
        match dialect {
            Dialect::Postgres => {
                let options = PgConnectOptions::from_str(url).map_err(wrong)?;
                Ok(Place::Server(Box::new(options.disable_statement_logging())))
            }
            Dialect::Sqlite => {
                let options = SqliteConnectOptions::from_str(url).map_err(wrong)?;
                let path = options.get_filename();
                let memory = url.contains("mode=memory") || path.starts_with("file:sqlx-in-memory");
                Ok(match memory || url.contains(":memory:") {
                    true => Place::Memory,
                    false => Place::File(path.to_path_buf()),
                })
            }
        }
    }

    /// The error, and which database it is of.
    fn tells(&self, error: sqlx::Error) -> StoreError {
        match StoreError::from(error) {
            StoreError::OutOfReach(why) => StoreError::OutOfReach(format!("{self}: {why}")),
            StoreError::Denied(why) => {
                StoreError::Denied(format!("{self} does not let us in: {why}"))
            }
            other => other,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Memory => f.write_str("the database in memory"),
            // Where somebody looked from is half of what is wrong with a path.
            Place::File(path) => match std::path::absolute(path) {
                Ok(whole) => write!(f, "{}", whole.display()),
                Err(_) => write!(f, "{}", path.display()),
            },
            Place::Server(server) => {
                let user = server.get_username();
                write!(f, "postgres://{user}@")?;
                match server.get_socket() {
                    Some(socket) => write!(f, "{}", socket.display())?,
                    None => write!(f, "{}:{}", server.get_host(), server.get_port())?,
                }
                write!(f, "/{}", server.get_database().unwrap_or(user))
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What went wrong, without the places in the sources of the server and of the client that tell of it.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => format!("no connection within {} s", WITHIN.as_secs()),
        other => other.to_string(),
    }
}

/// A file that is something else is told apart at once; connecting to it would be tried again until time is out.
fn refuse_other_files(path: &Path) -> Result<(), StoreError> {
    let refused = |what: &str| {
        let path = path.display();
        Err(StoreError::Refused(format!("store.url: {path} {what}")))
    };
    if path.is_dir() {
        return refused("is a folder; name a file in it");
    }
    let mut head = Vec::new();
    // What is not there is made; what cannot be read is found out when it is opened.
    let read = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut head));
    if read.is_ok() && !head.is_empty() && !head.starts_with(b"SQLite format 3") {
        return refused("is there, and is no SQLite database");
    }
    Ok(())
}

impl Store {
    /// Prepares to use the database; a file that is not there will be made. Connections are made when they are needed.
    pub async fn open(url: &str) -> Result<Store, StoreError> {
        Store::come_to(url, true)
    }

    /// The same of a database that is there already: nothing is made, and a file of others stays as it is.
    pub async fn open_existing(url: &str) -> Result<Store, StoreError> {
        Store::come_to(url, false)
    }

    fn come_to(url: &str, make: bool) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(url)?;
        let place = Place::of(dialect, url)?;
        let mut address = url.to_owned();
        if let Place::File(path) = &place {
            refuse_other_files(path)?;
            let absent =
                matches!(path.metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            if !make && absent && folder.is_none_or(Path::is_dir) {
                return Err(StoreError::Absent(place.to_string()));
            }
            if !address.contains("mode=") {
                address.push(if address.contains('?') { '&' } else { '?' });
                address.push_str(if make { "mode=rwc" } else { "mode=rw" });
            }
        }
        let options = AnyConnectOptions::from_str(&address)
            .map_err(StoreError::from)?
            .disable_statement_logging();
        let settings: &'static [&'static str] = match (dialect, make) {
            // Plans are made for the values at hand: a plan from when a table was empty must not live on.
            (Dialect::Postgres, _) => &[
                "SET plan_cache_mode = force_custom_plan",
                "SET jit = off",
                "SET client_min_messages = 'warning'",
                "SET timezone = 'UTC'",
                "SET statement_timeout = '60s'",
                "SET idle_in_transaction_session_timeout = '60s'",
            ],
            (Dialect::Sqlite, true) => &[
                "PRAGMA busy_timeout = 10000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = NORMAL",
                "PRAGMA foreign_keys = ON",
            ],
            // How its journal is kept stands in the file, and it may not be ours.
            (Dialect::Sqlite, false) => &[
                "PRAGMA busy_timeout = 10000",
                "PRAGMA synchronous = NORMAL",
                "PRAGMA foreign_keys = ON",
            ],
        };
        let pool = AnyPoolOptions::new()
            // SQLite has one writer; a second connection would only wait for the first.
            .max_connections(if dialect == Dialect::Sqlite { 1 } else { 8 })
            .acquire_timeout(WITHIN)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in settings {
                        sqlx::raw_sql(*statement).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(Store {
            pool,
            dialect,
            place,
            listened: Default::default(),
            indexed: Default::default(),
            telling: Default::default(),
        })
    }

    /// Where the database is, for people: without the password.
    pub fn address(&self) -> String {
        self.place.to_string()
    }

    /// Whether the server answers and lets us in, asked over a connection of its own: those that are kept are tried in
    /// silence until time is out, and nobody is told why. A file is within reach.
    pub async fn reach(&self) -> Result<(), StoreError> {
        let Place::Server(server) = &self.place else {
            return Ok(());
        };
        let begun = Instant::now();
        loop {
            let error = match tokio::time::timeout(WITHIN, server.connect()).await {
                Ok(Ok(connection)) => {
                    let _ = connection.close().await;
                    return Ok(());
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    return Err(StoreError::OutOfReach(format!(
                        "{}: no answer within {} s",
                        self.place,
                        WITHIN.as_secs()
                    )));
                }
            };
            // It is there, and has no room for us or is still starting.
            let passing = matches!(&error, sqlx::Error::Database(said)
                if matches!(said.code().as_deref(), Some("53300" | "57P03")));
            if !passing || begun.elapsed() > WITHIN {
                return Err(self.place.tells(error));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether the schema is that of this version; what it is otherwise is an error. Nothing is changed.
    pub async fn ours(&self) -> Result<(), StoreError> {
        match self.schema().await? {
            Some(NEWEST) => Ok(()),
            Some(newer) if newer > NEWEST => Err(too_new(newer)),
            Some(older) => Err(StoreError::Old(format!(
                "{} has schema {older}, and this program needs {NEWEST}",
                self.place
            ))),
            None => Err(StoreError::Old(format!(
                "{} is there, and holds no tables of muster",
                self.place
            ))),
        }
    }

    /// The number of the newest step that the schema has taken; none where there is no schema of ours.
    pub(super) async fn schema(&self) -> Result<Option<i64>, StoreError> {
        match sqlx::query("SELECT max(number) AS newest FROM migration")
            .fetch_one(&self.pool)
            .await
        {
            Ok(row) => Ok(row.try_get("newest")?),
            Err(sqlx::Error::Database(error)) if no_table(error.code().as_deref()) => Ok(None),
            // Who is not let in does not know what there is.
            Err(error) => Err(self.place.tells(error)),
        }
    }
}

/// PostgreSQL knows no such table, column or schema; on SQLite the statement is wrong, which is the same here.
fn no_table(code: Option<&str>) -> bool {
    matches!(code, Some("42P01" | "42703" | "3F000" | "1"))
}

pub(super) fn too_new(newest: i64) -> StoreError {
    StoreError::Unusable(format!(
        "the database has schema {newest}, and this program knows up to {NEWEST}: use the newer program"
    ))
}
