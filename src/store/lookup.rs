//! What queries ask beyond their subjects: one statement for objects by their keys, one for each field that points to
//! some, one for histories.

use sqlx::{AssertSqlSafe, Row};

use super::world::{OBJECT_COLUMNS, read_object};
use super::{Store, StoreError, key_rows};
use crate::catalogue::{Found, Keys, Missing, Pointer};
use crate::moment::Moment;
use crate::object::{Object, ObjectKey};

/// What one look reads of each kind. A query that needs more is asked of fewer objects at a time, and is too costly
/// where it needs more for a single one.
const AT_ONCE: usize = 20_000;

impl Store {
    /// Fetches what is missing, of the live objects of one organisation: all of it, or word that it is too much. Of the
    /// objects `here` the asker knows more: they are not among the newest files.
    pub async fn look_up(
        &self,
        organization: &str,
        missing: &Missing,
        here: &Keys,
        now: Moment,
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let too_much = || Found {
            too_much: true,
            ..Found::default()
        };
        let asked = missing.referrers.values().map(|keys| keys.len());
        let asked = asked.chain([
            missing.objects.len(),
            missing.histories.len(),
            missing.files.len(),
        ]);
        if asked.max().unwrap_or(0) > AT_ONCE {
            return Ok(too_much());
        }
        if !missing.objects.is_empty() {
            let sql = format!(
                "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM {} \
                 JOIN object o ON o.organization = $2 AND o.primary_key = r.k WHERE o.live = 1",
                self.dialect.json_text("o.attributes"),
                self.dialect.rows("$1", "k text")
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(key_rows(&missing.objects))
                .bind(organization)
                .fetch_all(&self.pool)
                .await?;
            for row in &rows {
                found.objects.push(read_object(row)?.0);
            }
        }
        for (pointer, keys) in &missing.referrers {
            let objects = self.referrers(organization, pointer, keys).await?;
            if objects.len() > AT_ONCE {
                return Ok(too_much());
            }
            found.referrers.insert(pointer.clone(), objects);
        }
        if !missing.histories.is_empty() {
            found.histories = self
                .histories(organization, &missing.histories, now, AT_ONCE)
                .await?;
            if found.histories.values().map(Vec::len).sum::<usize>() > AT_ONCE {
                return Ok(too_much());
            }
        }
        found.files = self
            .newest_files(organization, &missing.files, here)
            .await?;
        Ok(found)
    }

    /// The keys of live objects that stand before and after one in the order of keys, so many on each side.
    pub async fn keys_around(&self, key: &ObjectKey, many: i64) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        for (side, order) in [("<", "DESC"), (">", "ASC")] {
            let sql = format!(
                "SELECT primary_key FROM object WHERE organization = $1 AND primary_key {side} $2 AND live = 1 \
                 ORDER BY primary_key {order} LIMIT $3"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(key.organization.clone())
                .bind(key.primary_key.clone())
                .bind(many)
                .fetch_all(&self.pool)
                .await?;
            for row in &rows {
                keys.push(row.try_get("primary_key")?);
            }
        }
        Ok(keys)
    }

    /// The objects of a type whose field holds one of the keys, alone or in a list.
    async fn referrers(
        &self,
        organization: &str,
        (object_type, field): &Pointer,
        keys: &Keys,
    ) -> Result<Vec<Object>, StoreError> {
        // By the index from each key to what points to it, where there is one; else all of the type once.
        let rows = self.dialect.rows("$1", "k text");
        let (from, points) = if self.indexed().await?.contains(object_type) {
            let held =
                |key: &str| format!("o.attributes @> jsonb_build_object(CAST($4 AS text), {key})");
            let either = [held("r.k"), held("jsonb_build_array(r.k)")].join(" OR ");
            (
                format!("{rows} JOIN object o ON ({either})"),
                "true".to_owned(),
            )
        } else {
            let points = self.dialect.points("o.attributes", "$4", "$1");
            ("object o".to_owned(), points)
        };
        let sql = format!(
            "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM {from} \
             WHERE o.organization = $2 AND o.object_type = $3 AND o.live = 1 AND {points} \
             ORDER BY o.primary_key LIMIT {}",
            self.dialect.json_text("o.attributes"),
            AT_ONCE + 1
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(keys))
            .bind(organization)
            .bind(object_type)
            .bind(self.dialect.step(field))
            .fetch_all(&self.pool)
            .await?;
        let mut objects = Vec::with_capacity(rows.len());
        for row in &rows {
            objects.push(read_object(row)?.0);
        }
        // One that points to several of the keys comes once for each.
        if objects.len() <= AT_ONCE {
            objects.dedup_by(|a, b| a.key == b.key);
        }
        Ok(objects)
    }
}
