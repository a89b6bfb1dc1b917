//! What a decision needs to know: objects, open tasks, last ends, by the keys that it may touch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError, json_rows, maybe_moment, moment};
use crate::catalogue::{Found, Keys, Maker, Missing};
use crate::decide::{Ended, OpenInput, World};
use crate::object::{Object, ObjectKey, Rank};
use crate::query::narrow::{Bound, Narrow};

/// What is asked of the store before a decision.
#[derive(Debug, Default)]
pub struct Wanted {
    pub keys: HashSet<ObjectKey>,
    /// Strong ids of messages.
    pub inbox: Vec<(String, String)>,
    /// Scopes whose holders decide whether a run has its turn.
    pub scopes: BTreeSet<String>,
    /// By organisation: what is asked of the newest files of objects. These are wanted too.
    pub files: BTreeMap<String, BTreeSet<Maker>>,
    /// Organisations whose objects of the same keys are asked for too.
    pub among: Vec<String>,
}

/// What the store knew, and by which marks it will see whether that still holds.
#[derive(Debug, Default)]
pub struct Gathered {
    pub world: World,
    pub versions: HashMap<ObjectKey, i64>,
    /// Strong ids that were handled before.
    pub handled: HashSet<(String, String)>,
    pub revision: i64,
}

/// The key of an object, as a row of two columns.
#[derive(Serialize)]
pub(super) struct KeyRow<'a> {
    o: &'a str,
    k: &'a str,
}

impl<'a> KeyRow<'a> {
    pub fn of(key: &'a ObjectKey) -> KeyRow<'a> {
        KeyRow {
            o: &key.organization,
            k: &key.primary_key,
        }
    }
}

#[derive(Serialize)]
struct InboxRow<'a> {
    source: &'a str,
    id: &'a str,
}

pub(super) const OBJECT_COLUMNS: &str = "o.organization, o.primary_key, o.object_type, o.scan_level, o.scan_profile_type, o.lifted, o.live, o.created_rank, o.deleted_rank, o.attributes_rank, o.level_rank, o.version";

impl Store {
    /// Reads what is known of some keys. Open tasks are read before last ends, so that a task which ends in between
    /// is seen at least once.
    pub async fn gather(&self, wanted: &Wanted) -> Result<Gathered, StoreError> {
        let mut gathered = Gathered::default();
        let mut newest: Vec<ObjectKey> = Vec::new();
        for (organization, makers) in &wanted.files {
            let found = self
                .newest_files(organization, makers, &Keys::new())
                .await?;
            newest.extend(found.into_iter().map(|file| file.key));
            // They are read below as they are then, and no others are looked for.
            let asked = Missing {
                files: makers.clone(),
                ..Missing::default()
            };
            let known = gathered.world.beyond.entry(organization.clone());
            known.or_default().learn(asked, Found::default());
        }
        let keys: HashSet<&ObjectKey> = wanted.keys.iter().chain(&newest).collect();
        let mut connection = self.pool.acquire().await?;
        let row = sqlx::query("SELECT value FROM revision WHERE name = 'catalogue'")
            .fetch_one(&mut *connection)
            .await?;
        gathered.revision = row.try_get("value")?;
        if !wanted.inbox.is_empty() {
            let rows: Vec<InboxRow<'_>> = wanted
                .inbox
                .iter()
                .map(|(source, id)| InboxRow { source, id })
                .collect();
            let sql = format!(
                "SELECT i.source, i.id FROM {} JOIN inbox i ON i.source = r.source AND i.id = r.id",
                self.dialect.rows("$1", "source text, id text")
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(json_rows(&rows))
                .fetch_all(&mut *connection)
                .await?
            {
                gathered
                    .handled
                    .insert((row.try_get("source")?, row.try_get("id")?));
            }
        }
        if !wanted.scopes.is_empty() {
            gathered.world.scopes = self.scopes(&mut connection, &wanted.scopes).await?;
        }
        if keys.is_empty() {
            return Ok(gathered);
        }
        let fellows = self
            .fellows(&mut connection, &wanted.keys, &wanted.among)
            .await?;
        for fellow in &fellows {
            let of_name = gathered.world.fellows.entry(fellow.primary_key.clone());
            of_name.or_default().insert(fellow.organization.clone());
        }
        let keys: HashSet<&ObjectKey> = keys.into_iter().chain(&fellows).collect();
        let rows: Vec<KeyRow<'_>> = keys.into_iter().map(KeyRow::of).collect();
        let keys = json_rows(&rows);
        let source = self.dialect.rows("$1", "o text, k text");
        let sql = format!(
            "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM {source} JOIN object o ON o.organization = r.o AND o.primary_key = r.k",
            self.dialect.json_text("o.attributes")
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(&keys)
            .fetch_all(&mut *connection)
            .await?
        {
            let (object, version) = read_object(&row)?;
            gathered.versions.insert(object.key.clone(), version);
            gathered.world.objects.insert(object.key.clone(), object);
        }
        let sql = format!(
            "SELECT i.organization, i.primary_key, i.unique_key, i.task_id, i.plugin_id, t.state, t.priority, t.run_id, \
             t.on_behalf FROM {source} JOIN open_input i ON i.organization = r.o AND i.primary_key = r.k \
             JOIN task t ON t.id = i.task_id"
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(&keys)
            .fetch_all(&mut *connection)
            .await?
        {
            read_open(&row, &mut gathered.world)?;
        }
        let sql = format!(
            "SELECT e.unique_key, e.ended_at, e.digest FROM {source} \
             JOIN last_end e ON e.organization = r.o AND e.primary_key = r.k"
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(&keys)
            .fetch_all(&mut *connection)
            .await?
        {
            read_ended(&row, &mut gathered.world)?;
        }
        let sql = format!(
            "SELECT s.unique_key, s.until FROM {source} \
             JOIN suppressed s ON s.organization = r.o AND s.primary_key = r.k"
        );
        for row in sqlx::query(AssertSqlSafe(sql))
            .bind(&keys)
            .fetch_all(&mut *connection)
            .await?
        {
            gathered
                .world
                .suppressed
                .insert(row.try_get("unique_key")?, maybe_moment(&row, "until")?);
        }
        Ok(gathered)
    }

    /// A page of live objects of one type, in the order of their keys: of those that the narrowed condition lets
    /// through, which is for the database to find and for the judge to look at.
    ///
    /// An attribute's conditions are containments on PostgreSQL, which a GIN index on `attributes` serves. It costs every
    /// writer, so only types with declared relations have one ([`Store::index_types`]).
    pub async fn objects_after(
        &self,
        organization: &str,
        object_type: &str,
        after: &str,
        limit: i64,
        narrowed: &Narrow,
    ) -> Result<Vec<Object>, StoreError> {
        let dialect = self.dialect.of_queries();
        let narrowed = narrowed.render_within(organization, object_type, dialect, "o", 5);
        let sql = format!(
            "SELECT {OBJECT_COLUMNS}, {} AS attributes FROM object o \
             WHERE o.organization = $1 AND o.object_type = $2 AND o.primary_key > $3 AND o.live = 1 AND {} \
             ORDER BY o.primary_key LIMIT $4",
            self.dialect.json_text("o.attributes"),
            narrowed.text
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql))
            .bind(organization)
            .bind(object_type)
            .bind(after)
            .bind(limit);
        for value in narrowed.values {
            statement = match value {
                Bound::Text(text) => statement.bind(text),
                Bound::Int(number) => statement.bind(number),
                Bound::Float(number) => statement.bind(number),
            };
        }
        let rows = statement.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(read_object(row)?.0)).collect()
    }

    /// How many live objects of each type an organisation has; all organisations without one.
    pub async fn count_objects(&self) -> Result<BTreeMap<String, i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT object_type, count(*) AS many FROM object WHERE live = 1 GROUP BY object_type",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("object_type")?, row.try_get("many")?)))
            .collect()
    }
}

fn read_key(row: &AnyRow) -> Result<ObjectKey, sqlx::Error> {
    Ok(ObjectKey {
        organization: row.try_get("organization")?,
        primary_key: row.try_get("primary_key")?,
    })
}

/// One input of an open task becomes known.
pub(super) fn read_open(row: &AnyRow, world: &mut World) -> Result<(), sqlx::Error> {
    let state: String = row.try_get("state")?;
    let open = OpenInput {
        unique_key: row.try_get("unique_key")?,
        task_id: row.try_get("task_id")?,
        plugin_id: row.try_get("plugin_id")?,
        run_id: row.try_get("run_id")?,
        running: state == "running",
        queued: state == "queued",
        waiting: state == "waiting",
        on_behalf: row.try_get::<Option<i64>, _>("on_behalf")?.is_some(),
        priority: row.try_get("priority")?,
    };
    world.open.entry(read_key(row)?).or_default().push(open);
    Ok(())
}

/// The last end of a unique key becomes known.
pub(super) fn read_ended(row: &AnyRow, world: &mut World) -> Result<(), sqlx::Error> {
    let ended = Ended {
        at: moment(row, "ended_at")?,
        digest: row.try_get("digest")?,
    };
    world.ended.insert(row.try_get("unique_key")?, ended);
    Ok(())
}

/// An object and the version of its row.
pub(super) fn read_object(row: &AnyRow) -> Result<(Object, i64), sqlx::Error> {
    let rank = |column: &str| -> Result<Option<Rank>, sqlx::Error> {
        Ok(row
            .try_get::<Option<String>, _>(column)?
            .as_deref()
            .and_then(Rank::parse))
    };
    let object = Object {
        key: read_key(row)?,
        object_type: row.try_get("object_type")?,
        attributes: read_map(&row.try_get::<String, _>("attributes")?),
        level: row
            .try_get::<Option<i64>, _>("scan_level")?
            .and_then(|level| u8::try_from(level).ok()),
        profile_type: row.try_get("scan_profile_type")?,
        lifted: row.try_get::<i64, _>("lifted")? != 0,
        created_rank: rank("created_rank")?,
        deleted_rank: rank("deleted_rank")?,
        attributes_rank: rank("attributes_rank")?,
        level_rank: rank("level_rank")?,
    };
    Ok((object, row.try_get("version")?))
}

/// JSON that we wrote ourselves; what is not an object reads as an empty one.
pub(super) fn read_map(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}
