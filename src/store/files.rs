//! The newest files of objects, for schedules that join them: a row for each file that can be joined, found by what it was
//! made of and by whom.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::world::{KeyRow, OBJECT_COLUMNS, read_object};
use super::{Store, StoreError, json_rows, write_rows};
use crate::catalogue::{Keys, Maker};
use crate::object::{FILE, Object, ObjectKey};

/// The step of the schema that made the table.
pub(super) const SINCE: i64 = 11;

#[derive(Serialize)]
struct FileRow<'a> {
    organization: &'a str,
    primary_key: &'a str,
    made_of: &'a str,
    made_by: &'a str,
    ended_at: i64,
    number: i64,
}

#[derive(Serialize)]
struct MakerRow<'a> {
    made_of: &'a str,
    made_by: &'a str,
}

impl Store {
    /// The newest file that each plugin made of its object, in one organisation; those with the keys `beside` do not count.
    pub async fn newest_files(
        &self,
        organization: &str,
        makers: &BTreeSet<Maker>,
        beside: &Keys,
    ) -> Result<Vec<Object>, StoreError> {
        if makers.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<MakerRow<'_>> = makers
            .iter()
            .map(|(made_of, made_by)| MakerRow { made_of, made_by })
            .collect();
        let sql = format!(
            "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM (SELECT (SELECT f.primary_key FROM file f \
             WHERE f.organization = $2 AND f.made_of = r.made_of AND f.made_by = r.made_by \
             AND f.primary_key NOT IN (SELECT b.k FROM (SELECT r.k FROM {}) b) \
             ORDER BY f.ended_at DESC, f.number DESC, f.primary_key DESC LIMIT 1) AS k FROM {}) n \
             JOIN object o ON o.organization = $2 AND o.primary_key = n.k WHERE o.live = 1",
            self.dialect.json_text("o.attributes"),
            self.dialect.rows("$3", "k text"),
            self.dialect.rows("$1", "made_of text, made_by text")
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .bind(organization)
            .bind(super::key_rows(beside))
            .fetch_all(&self.pool)
            .await?;
        found.iter().map(|row| Ok(read_object(row)?.0)).collect()
    }

    /// Finds the files that are there already.
    pub(super) async fn find_files(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM object o \
             WHERE o.object_type = '{FILE}' AND o.live = 1 AND (o.organization, o.primary_key) > ($1, $2) \
             ORDER BY o.organization, o.primary_key LIMIT 1000",
            self.dialect.json_text("o.attributes")
        );
        let mut after = ObjectKey::default();
        loop {
            let rows = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(&after.organization)
                .bind(&after.primary_key)
                .fetch_all(&mut *connection)
                .await?;
            let mut files = Vec::with_capacity(rows.len());
            for row in &rows {
                files.push(read_object(row)?.0);
            }
            let Some(last) = files.last() else {
                return Ok(());
            };
            after = last.key.clone();
            self.write_files(connection, files.iter()).await?;
        }
    }

    /// Keeps of files that changed what they are found by.
    pub(super) async fn write_files<'a>(
        &self,
        connection: &mut AnyConnection,
        changed: impl Iterator<Item = &'a Object>,
    ) -> Result<(), StoreError> {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for object in changed.filter(|object| object.object_type == FILE) {
            let (organization, primary_key) = (&object.key.organization, &object.key.primary_key);
            match object.made() {
                Some(made) => there.push(FileRow {
                    organization,
                    primary_key,
                    made_of: made.of,
                    made_by: made.by,
                    ended_at: made.newness.0,
                    number: made.newness.1,
                }),
                None => gone.push(KeyRow::of(&object.key)),
            }
        }
        let sql = format!(
            "INSERT INTO file (organization, primary_key, made_of, made_by, ended_at, number) \
             SELECT r.organization, r.primary_key, r.made_of, r.made_by, r.ended_at, r.number FROM {} WHERE true \
             ON CONFLICT (organization, primary_key) DO UPDATE SET made_of = excluded.made_of, \
             made_by = excluded.made_by, ended_at = excluded.ended_at, number = excluded.number",
            self.dialect.rows(
                "$1",
                "organization text, primary_key text, made_of text, made_by text, ended_at bigint, number bigint"
            )
        );
        write_rows(connection, sql, &there).await?;
        let sql = format!(
            "DELETE FROM file WHERE (organization, primary_key) IN (SELECT r.o, r.k FROM {})",
            self.dialect.rows("$1", "o text, k text")
        );
        write_rows(connection, sql, &gone).await?;
        Ok(())
    }
}
