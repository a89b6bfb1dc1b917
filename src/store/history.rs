//! Objects as they were: written with the change that ends a version, read for the judge.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::key_rows;
use super::world::read_map;
use super::{Store, StoreError, maybe_moment, moment, write_rows};
use crate::catalogue::{Keys, Past};
use crate::decide::Lived;
use crate::moment::{Moment, Span};
use crate::object::{Object, ObjectKey};

#[derive(Serialize)]
struct EndRow<'a> {
    o: &'a str,
    k: &'a str,
    ended: i64,
}

#[derive(Serialize)]
struct VersionRow<'a> {
    organization: &'a str,
    primary_key: &'a str,
    valid_from: i64,
    valid_to: Option<i64>,
    object_type: &'a str,
    attributes: &'a Map<String, Value>,
    scan_level: Option<u8>,
    scan_profile_type: Option<&'a str>,
}

const COLUMNS: &str = "organization, primary_key, valid_from, valid_to, object_type, attributes, scan_level, scan_profile_type";

impl Store {
    /// Ends the versions of what is different now and begins new ones. Before the objects themselves are written:
    /// what they were before anybody asked for their history is their first version, since no known time.
    pub(super) async fn write_versions(
        &self,
        connection: &mut AnyConnection,
        lived: &[Lived],
        now: Moment,
    ) -> Result<(), StoreError> {
        if lived.is_empty() {
            return Ok(());
        }
        let keys: BTreeSet<&ObjectKey> = lived.iter().map(|lived| &lived.key).collect();
        let ends: Vec<EndRow<'_>> = keys
            .into_iter()
            .map(|key| EndRow {
                o: &key.organization,
                k: &key.primary_key,
                ended: now.micros(),
            })
            .collect();
        let source = self.dialect.rows("$1", "o text, k text, ended bigint");
        let before = format!(
            "INSERT INTO object_version ({COLUMNS}) SELECT o.organization, o.primary_key, 0, NULL, o.object_type, \
             o.attributes, o.scan_level, o.scan_profile_type FROM {source} \
             JOIN object o ON o.organization = r.o AND o.primary_key = r.k WHERE o.live = 1 AND NOT EXISTS \
             (SELECT 1 FROM object_version v WHERE v.organization = r.o AND v.primary_key = r.k)"
        );
        write_rows(connection, before, &ends).await?;
        let end = format!(
            "UPDATE object_version AS v SET valid_to = r.ended FROM {source} \
             WHERE v.organization = r.o AND v.primary_key = r.k AND v.valid_to IS NULL"
        );
        write_rows(connection, end, &ends).await?;
        let mut rows: Vec<VersionRow<'_>> = Vec::new();
        // The changes of one batch happen one after another, a microsecond each.
        let mut newest: HashMap<&ObjectKey, (i64, Option<usize>)> = HashMap::new();
        for lived in lived {
            let (times, last) = newest.remove(&lived.key).unwrap_or_default();
            let from = now.plus(Span::from_micros(times)).micros();
            if let Some(last) = last.and_then(|at| rows.get_mut(at)) {
                last.valid_to = Some(from);
            }
            let at = lived.as_it_is.as_ref().map(|object| {
                rows.push(VersionRow {
                    organization: &lived.key.organization,
                    primary_key: &lived.key.primary_key,
                    valid_from: from,
                    valid_to: None,
                    object_type: &object.object_type,
                    attributes: &object.attributes,
                    scan_level: object.level,
                    scan_profile_type: object.profile_type.as_deref(),
                });
                rows.len() - 1
            });
            newest.insert(&lived.key, (times + 1, at));
        }
        let begin = format!(
            "INSERT INTO object_version ({COLUMNS}) SELECT r.organization, r.primary_key, r.valid_from, r.valid_to, \
             r.object_type, r.attributes, r.scan_level, r.scan_profile_type FROM {} WHERE true \
             ON CONFLICT (organization, primary_key, valid_from) DO UPDATE SET valid_to = excluded.valid_to, \
             object_type = excluded.object_type, attributes = excluded.attributes, \
             scan_level = excluded.scan_level, scan_profile_type = excluded.scan_profile_type",
            self.dialect.rows(
                "$1",
                "organization text, primary_key text, valid_from bigint, valid_to bigint, object_type text, \
                 attributes jsonb, scan_level bigint, scan_profile_type text"
            )
        );
        write_rows(connection, begin, &rows).await?;
        Ok(())
    }

    /// The versions of some objects, oldest first; one more than so many are enough to know. One that is still open and is not how its object is now (its history
    /// was not kept for a while) ends now.
    pub(super) async fn histories(
        &self,
        organization: &str,
        keys: &Keys,
        now: Moment,
        most: usize,
    ) -> Result<HashMap<String, Vec<Past>>, StoreError> {
        let sql = format!(
            "SELECT v.primary_key, v.valid_from, v.valid_to, v.object_type, {} AS attributes, v.scan_level, \
             v.scan_profile_type, CAST(CASE WHEN o.live = 1 AND o.object_type = v.object_type \
             AND o.attributes = v.attributes AND o.scan_level IS NOT DISTINCT FROM v.scan_level \
             AND o.scan_profile_type IS NOT DISTINCT FROM v.scan_profile_type THEN 1 ELSE 0 END AS bigint) AS is_so \
             FROM {} JOIN object_version v ON v.organization = $2 AND v.primary_key = r.k \
             LEFT JOIN object o ON o.organization = v.organization AND o.primary_key = v.primary_key \
             ORDER BY v.primary_key, v.valid_from LIMIT {}",
            self.dialect.json_text("v.attributes"),
            self.dialect.rows("$1", "k text"),
            most + 1
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(key_rows(keys))
            .bind(organization)
            .fetch_all(&self.pool)
            .await?;
        let mut histories: HashMap<String, Vec<Past>> = HashMap::new();
        for row in &rows {
            let primary_key: String = row.try_get("primary_key")?;
            let open = row.try_get::<i64, _>("is_so")? != 0;
            let past = Past {
                from: moment(row, "valid_from")?,
                until: maybe_moment(row, "valid_to")?.or((!open).then_some(now)),
                object: Object {
                    key: ObjectKey {
                        organization: organization.to_owned(),
                        primary_key: primary_key.clone(),
                    },
                    object_type: row.try_get("object_type")?,
                    attributes: read_map(&row.try_get::<String, _>("attributes")?),
                    level: row
                        .try_get::<Option<i64>, _>("scan_level")?
                        .and_then(|level| u8::try_from(level).ok()),
                    profile_type: row.try_get("scan_profile_type")?,
                    ..Object::default()
                },
            };
            histories.entry(primary_key).or_default().push(past);
        }
        Ok(histories)
    }
}
