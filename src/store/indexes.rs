//! Indexes on the attributes of objects, for the types that declare relations, and for no other: each write pays for
//! them. PostgreSQL alone has them; they are made and dropped while others write.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::{Dialect, Store, StoreError};

/// Before the name of the type.
const PREFIX: &str = "object_of_";
/// Any number that no other program uses.
const LOCK: i64 = 0x6d75_7374_6573;

impl Store {
    /// Makes the indexes of these types, and drops those of all others; answers with what was done. Where somebody else
    /// is at it, nothing is.
    pub async fn index_types(&self, types: &BTreeSet<String>) -> Result<Vec<String>, StoreError> {
        if self.dialect == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let mut connection = self.pool.acquire().await?;
        // Waiting for the lock would hold up the very index that its owner makes.
        let ours: bool = sqlx::query("SELECT pg_try_advisory_lock($1) AS ours")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await?
            .try_get("ours")?;
        if !ours {
            return Ok(vec!["the indexes are left to another process".to_owned()]);
        }
        let done = index(&mut connection, types).await;
        for statement in [
            "SET statement_timeout = '60s'".to_owned(),
            format!("SELECT pg_advisory_unlock({LOCK})::text"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *connection)
                .await?;
        }
        done
    }

    /// The types whose objects have an index on their attributes. Read once: the rest of this process's life is
    /// slower or faster by it, and not different.
    pub(super) async fn indexed(&self) -> Result<&BTreeSet<String>, StoreError> {
        self.indexed
            .get_or_try_init(|| async {
                if self.dialect == Dialect::Sqlite {
                    return Ok(BTreeSet::new());
                }
                let mut connection = self.pool.acquire().await?;
                let there = indexes(&mut connection).await?;
                let sound = there.into_iter().filter(|(_, sound)| *sound);
                Ok(sound.map(|(name, _)| name).collect())
            })
            .await
    }
}

async fn index(
    connection: &mut AnyConnection,
    types: &BTreeSet<String>,
) -> Result<Vec<String>, StoreError> {
    sqlx::raw_sql("SET statement_timeout = 0")
        .execute(&mut *connection)
        .await?;
    let mut done = Vec::new();
    let mut there = BTreeSet::new();
    for (name, sound) in indexes(connection).await? {
        // What was interrupted while it was made is no use.
        if sound && types.contains(&name) {
            there.insert(name);
            continue;
        }
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS \"{PREFIX}{name}\"");
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut *connection)
            .await?;
        done.push(format!("dropped the index of {name}"));
    }
    for name in types.difference(&there) {
        let quoted = name.replace('\'', "''");
        let make = format!(
            "CREATE INDEX CONCURRENTLY \"{PREFIX}{name}\" ON object USING gin (attributes jsonb_path_ops) \
             WHERE object_type = '{quoted}'"
        );
        sqlx::raw_sql(AssertSqlSafe(make))
            .execute(&mut *connection)
            .await?;
        done.push(format!("made the index of {name}"));
    }
    Ok(done)
}

/// The types whose index is there, and whether it is whole.
async fn indexes(connection: &mut AnyConnection) -> Result<Vec<(String, bool)>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, i.indisvalid AS sound FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = 'object'::regclass AND starts_with(c.relname::text, $1)",
    )
    .bind(PREFIX)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get("name")?;
            let name = name.trim_start_matches(PREFIX).to_owned();
            Ok((name, row.try_get("sound")?))
        })
        .collect()
}
