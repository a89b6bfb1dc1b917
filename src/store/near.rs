//! Keys of objects that are nearly what somebody wrote.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError};

/// Keys that are read in their order on either side of what was written, and from the first of all.
const AROUND: i64 = 500;
/// Keys that end like it.
const ENDING: i64 = 20;

impl Store {
    /// Keys of live objects of an organisation among which the one that is meant may be: those that end in it as a name
    /// ends a key, those around it in their order, and the first of all.
    pub async fn keys_near(
        &self,
        organization: &str,
        written: &str,
    ) -> Result<BTreeSet<String>, StoreError> {
        let plain = written.replace('\\', "\\\\");
        let plain = plain.replace('%', "\\%").replace('_', "\\_");
        let ending = format!("%|{plain}");
        let mut keys = BTreeSet::new();
        for (condition, bound, limit) in [
            (
                "primary_key LIKE $2 ESCAPE '\\' ORDER BY primary_key",
                ending.as_str(),
                ENDING,
            ),
            ("primary_key >= $2 ORDER BY primary_key", written, AROUND),
            (
                "primary_key < $2 ORDER BY primary_key DESC",
                written,
                AROUND,
            ),
            ("primary_key >= $2 ORDER BY primary_key", "", AROUND),
        ] {
            let sql = format!(
                "SELECT primary_key FROM object WHERE organization = $1 AND live = 1 AND {condition} LIMIT {limit}"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(organization)
                .bind(bound)
                .fetch_all(&self.pool)
                .await?;
            for row in &rows {
                keys.insert(row.try_get("primary_key")?);
            }
        }
        Ok(keys)
    }
}
