//! What people declared, as it was written, with a revision over all of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::Commit;
use super::life::Told;
use super::requests::Answered;
use super::world::read_map;
use super::{Store, StoreError, json_rows, moment};
use crate::catalogue::{Changed, Stored, names_calendar};
use crate::decide::Plan;
use crate::declaration::Kind;
use crate::moment::Moment;
use crate::recurrence::Last;
use crate::run::RunDraft;

/// One change to what is declared.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Make it, or make it so.
    Put {
        kind: Kind,
        organization: String,
        name: String,
        /// Used where it is new; what is there keeps its id.
        id: String,
        definition: Map<String, Value>,
    },
    Delete {
        kind: Kind,
        organization: String,
        name: String,
    },
}

/// A declaration that a revision changed.
#[derive(Serialize)]
pub(super) struct ChangeRow<'a> {
    pub kind: &'static str,
    pub organization: &'a str,
    pub name: &'a str,
}

impl Edit {
    /// Kind, organisation and name of what it is about.
    pub fn about(&self) -> (Kind, &str, &str) {
        let (Edit::Put {
            kind,
            organization,
            name,
            ..
        }
        | Edit::Delete {
            kind,
            organization,
            name,
        }) = self;
        (*kind, organization, name)
    }

    fn changes(&self) -> ChangeRow<'_> {
        let (kind, organization, name) = self.about();
        ChangeRow {
            kind: kind.word(),
            organization,
            name,
        }
    }
}

/// What is stored, as it would be after some edits.
pub fn overlaid(stored: &[Stored], edits: &[Edit], now: Moment) -> Vec<Stored> {
    let key = |entry: &Stored| {
        let (organization, name) = (entry.organization.clone(), entry.name.clone());
        (entry.kind, organization, name)
    };
    let mut left: BTreeMap<(Kind, String, String), Stored> = stored
        .iter()
        .map(|entry| (key(entry), entry.clone()))
        .collect();
    for edit in edits {
        let (kind, organization, name) = edit.about();
        let key = (kind, organization.to_owned(), name.to_owned());
        let Edit::Put { id, definition, .. } = edit else {
            left.remove(&key);
            continue;
        };
        let entry = left.entry(key).or_insert_with(|| Stored {
            kind,
            id: id.clone(),
            name: name.to_owned(),
            organization: organization.to_owned(),
            definition: Map::new(),
            revision: 0,
            created_at: now,
        });
        entry.definition.clone_from(definition);
        entry.revision += 1;
    }
    left.into_values().collect()
}

/// What became of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Revision(i64),
    /// Somebody else changed the declarations meanwhile.
    Stale,
    /// The same request was answered meanwhile.
    Answered,
}

/// What was declared since a revision.
#[derive(Clone, Debug)]
pub enum Since {
    Nothing,
    Changes(Vec<Changed>),
    /// All that there is: what changed since is no longer known one by one.
    All(Vec<Stored>),
}

/// So many revisions are kept one by one.
const KEPT: i64 = 10_000;

impl Store {
    pub async fn catalogue_revision(&self) -> Result<i64, StoreError> {
        Ok(
            sqlx::query("SELECT value FROM revision WHERE name = 'catalogue'")
                .fetch_one(&self.pool)
                .await?
                .try_get("value")?,
        )
    }

    /// All that is declared, with the revision that it is.
    pub async fn declared(&self) -> Result<(i64, Vec<Stored>), StoreError> {
        loop {
            let before = self.catalogue_revision().await?;
            let rows = sqlx::query(
                "SELECT kind, organization, name, id, definition, revision, created_at FROM declared \
                 ORDER BY kind, organization, name",
            )
            .fetch_all(&self.pool)
            .await?;
            // Both must be of one revision; a change in between is rare, and then it is read again.
            if self.catalogue_revision().await? != before {
                continue;
            }
            let mut stored = Vec::with_capacity(rows.len());
            for row in &rows {
                let Some(kind) = Kind::parse(&row.try_get::<String, _>("kind")?) else {
                    continue;
                };
                stored.push(Stored {
                    kind,
                    organization: row.try_get("organization")?,
                    name: row.try_get("name")?,
                    id: row.try_get("id")?,
                    definition: read_map(&row.try_get::<String, _>("definition")?),
                    revision: row.try_get("revision")?,
                    created_at: moment(row, "created_at")?,
                });
            }
            return Ok((before, stored));
        }
    }

    /// What was declared since a revision, and the revision that it is now.
    pub async fn declared_since(&self, known: i64) -> Result<(i64, Since), StoreError> {
        loop {
            let before = self.catalogue_revision().await?;
            if before == known {
                return Ok((before, Since::Nothing));
            }
            let kept: i64 = sqlx::query(
                "SELECT COUNT(DISTINCT revision) AS kept FROM declared_change WHERE revision > $1 AND revision <= $2",
            )
            .bind(known)
            .bind(before)
            .fetch_one(&self.pool)
            .await?
            .try_get("kept")?;
            if kept != before - known {
                let (revision, stored) = self.declared().await?;
                return Ok((revision, Since::All(stored)));
            }
            let rows = sqlx::query(
                "SELECT c.kind AS of_kind, c.organization AS of_organization, c.name AS of_name, \
                 d.id, d.definition, d.revision, d.created_at FROM \
                 (SELECT DISTINCT kind, organization, name FROM declared_change WHERE revision > $1 AND revision <= $2) c \
                 LEFT JOIN declared d ON d.kind = c.kind AND d.organization = c.organization AND d.name = c.name \
                 ORDER BY c.kind, c.organization, c.name",
            )
            .bind(known)
            .bind(before)
            .fetch_all(&self.pool)
            .await?;
            // Both must be of one revision; a change in between is rare, and then it is read again.
            if self.catalogue_revision().await? != before {
                continue;
            }
            let mut changes = Vec::with_capacity(rows.len());
            for row in &rows {
                let Some(kind) = Kind::parse(&row.try_get::<String, _>("of_kind")?) else {
                    continue;
                };
                let organization: String = row.try_get("of_organization")?;
                let name: String = row.try_get("of_name")?;
                let now = match row.try_get::<Option<String>, _>("id")? {
                    None => None,
                    Some(id) => Some(Stored {
                        kind,
                        organization: organization.clone(),
                        name: name.clone(),
                        id,
                        definition: read_map(&row.try_get::<String, _>("definition")?),
                        revision: row.try_get("revision")?,
                        created_at: moment(row, "created_at")?,
                    }),
                };
                changes.push(Changed {
                    kind,
                    organization,
                    name,
                    now,
                });
            }
            return Ok((before, Since::Changes(changes)));
        }
    }

    /// Makes all edits, or none where the declarations are no longer of `revision`.
    pub async fn apply(
        &self,
        edits: &[Edit],
        revision: i64,
        now: Moment,
    ) -> Result<Applied, StoreError> {
        self.apply_with(edits, &[], None, revision, now).await
    }

    /// The same, with runs that the edits set off, and with the request that asked for it and its answer.
    pub async fn apply_with(
        &self,
        edits: &[Edit],
        runs: &[RunDraft],
        answered: Option<&Answered>,
        revision: i64,
        now: Moment,
    ) -> Result<Applied, StoreError> {
        if edits.is_empty() {
            return Ok(Applied::Revision(revision));
        }
        let mut transaction = self.begin().await?;
        let raised = sqlx::query(
            "UPDATE revision SET value = value + 1 WHERE name = 'catalogue' AND value = $1",
        )
        .bind(revision)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if raised != 1 {
            transaction.rollback().await?;
            return Ok(Applied::Stale);
        }
        let changed: Vec<ChangeRow<'_>> = edits.iter().map(Edit::changes).collect();
        self.write_changes(&mut transaction, revision + 1, &changed)
            .await?;
        for edit in edits {
            match edit {
                Edit::Put {
                    kind,
                    organization,
                    name,
                    id,
                    definition,
                } => {
                    let row = sqlx::query(
                        "INSERT INTO declared AS d (kind, organization, name, id, definition, revision, created_at, updated_at) \
                         VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT (kind, organization, name) \
                         DO UPDATE SET definition = excluded.definition, revision = d.revision + 1, updated_at = excluded.updated_at \
                         RETURNING id",
                    )
                    .bind(kind.word())
                    .bind(organization)
                    .bind(name)
                    .bind(id)
                    .bind(Value::Object(definition.clone()).to_string())
                    .bind(now.micros())
                    .fetch_one(&mut *transaction)
                    .await?;
                    let id: String = row.try_get("id")?;
                    if *kind == Kind::Schedule {
                        let state = "applied";
                        self.tell_schedule(&mut transaction, &id, edit, state, revision + 1, now)
                            .await?;
                    }
                    let clock = match kind {
                        Kind::Schedule => Some(id),
                        Kind::Plugin => Some(format!("plugin:{name}")),
                        _ => None,
                    };
                    if *kind == Kind::Calendar {
                        self.restart_clocks(&mut transaction, name, now).await?;
                    }
                    // A schedule never fires for the time before it was what it is.
                    if let Some(id) = clock {
                        sqlx::query(
                            "INSERT INTO schedule_cursor (schedule_id, decided_until) VALUES ($1, $2) \
                             ON CONFLICT (schedule_id) DO UPDATE SET decided_until = excluded.decided_until",
                        )
                        .bind(id)
                        .bind(now.micros())
                        .execute(&mut *transaction)
                        .await?;
                    }
                }
                Edit::Delete {
                    kind,
                    organization,
                    name,
                } => {
                    if *kind == Kind::Schedule {
                        let known = sqlx::query(
                            "SELECT id FROM declared WHERE kind = $1 AND organization = $2 AND name = $3",
                        )
                        .bind(kind.word())
                        .bind(organization)
                        .bind(name)
                        .fetch_optional(&mut *transaction)
                        .await?;
                        if let Some(known) = known {
                            let id: String = known.try_get("id")?;
                            let state = "deleted";
                            self.tell_schedule(
                                &mut transaction,
                                &id,
                                edit,
                                state,
                                revision + 1,
                                now,
                            )
                            .await?;
                        }
                    }
                    sqlx::query(
                        "DELETE FROM schedule_cursor WHERE schedule_id IN \
                         (SELECT id FROM declared WHERE kind = $1 AND organization = $2 AND name = $3) \
                         OR schedule_id = 'plugin:' || $3",
                    )
                    .bind(kind.word())
                    .bind(organization)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                    sqlx::query(
                        "DELETE FROM pause WHERE schedule_id IN \
                         (SELECT id FROM declared WHERE kind = $1 AND organization = $2 AND name = $3)",
                    )
                    .bind(kind.word())
                    .bind(organization)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                    sqlx::query(
                        "DELETE FROM declared WHERE kind = $1 AND organization = $2 AND name = $3",
                    )
                    .bind(kind.word())
                    .bind(organization)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                }
            }
        }
        let plan = Plan {
            runs: runs.to_vec(),
            ..Plan::default()
        };
        let begun = Commit {
            plan: &plan,
            ..Commit::empty(now, revision)
        };
        self.write_runs(&mut transaction, &begun).await?;
        if !self
            .keep_if(&mut transaction, answered.cloned(), now)
            .await?
        {
            transaction.rollback().await?;
            return Ok(Applied::Answered);
        }
        transaction.commit().await?;
        Ok(Applied::Revision(revision + 1))
    }

    async fn tell_schedule(
        &self,
        connection: &mut AnyConnection,
        id: &str,
        edit: &Edit,
        state: &'static str,
        revision: i64,
        now: Moment,
    ) -> Result<(), StoreError> {
        let change = edit.changes();
        let told = Told {
            about: id,
            number: revision,
            kind: "schedule.changed",
            organization: change.organization,
            state: Some(state),
            reason: None,
            detail: json!({"schedule_id": id, "schedule": change.name}).to_string(),
        };
        self.tell(connection, &[told], now).await
    }

    /// The schedules that name a calendar which changes go on from now: what it left out stays left out.
    async fn restart_clocks(
        &self,
        connection: &mut AnyConnection,
        calendar: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT id, definition FROM declared WHERE kind = 'schedule' AND definition LIKE '%\"calendars\"%'",
        )
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            let definition = read_map(&row.try_get::<String, _>("definition")?);
            if !names_calendar(&definition, calendar) {
                continue;
            }
            sqlx::query(
                "UPDATE schedule_cursor SET decided_until = $1 WHERE schedule_id = $2 AND decided_until < $1",
            )
            .bind(now.micros())
            .bind(row.try_get::<String, _>("id")?)
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    /// Keeps which declarations a revision changed, so that whoever knows the one before reads these alone.
    pub(super) async fn write_changes(
        &self,
        connection: &mut AnyConnection,
        revision: i64,
        changed: &[ChangeRow<'_>],
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO declared_change (revision, kind, organization, name) \
             SELECT {revision}, r.kind, r.organization, r.name FROM {} WHERE true ON CONFLICT DO NOTHING",
            self.dialect
                .rows("$1", "kind text, organization text, name text")
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(changed))
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM declared_change WHERE revision <= $1")
            .bind(revision - KEPT)
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// How far the clocks of schedules have been decided: of some, or of all.
    pub async fn cursors(&self, ids: Option<&[&str]>) -> Result<Vec<(String, Moment)>, StoreError> {
        let all = "SELECT schedule_id, decided_until FROM schedule_cursor";
        let rows = match ids {
            None => sqlx::query(all).fetch_all(&self.pool).await?,
            Some(ids) => {
                let some = self.dialect.rows("$1", "id text");
                sqlx::query(AssertSqlSafe(format!(
                    "{all} WHERE schedule_id IN (SELECT r.id FROM {some})"
                )))
                .bind(as_rows(ids))
                .fetch_all(&self.pool)
                .await?
            }
        };
        rows.iter()
            .map(|row| Ok((row.try_get("schedule_id")?, moment(row, "decided_until")?)))
            .collect()
    }

    /// How the last runs of some schedules stand; those that had none are left out.
    pub async fn last_runs(&self, ids: &[&str]) -> Result<Vec<(String, Last)>, StoreError> {
        let some = self.dialect.rows("$1", "id text");
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT schedule_id, MAX(finished_at) AS ended, COUNT(*) - COUNT(finished_at) AS running FROM run \
             WHERE schedule_id IN (SELECT r.id FROM {some}) GROUP BY schedule_id"
        )))
        .bind(as_rows(ids))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let running: i64 = row.try_get("running")?;
                let ended: Option<i64> = row.try_get("ended")?;
                let last = match ended {
                    _ if running > 0 => Last::Running,
                    Some(ended) => Last::Ended(Moment::from_micros(ended)),
                    None => Last::Never,
                };
                Ok((row.try_get("schedule_id")?, last))
            })
            .collect()
    }
}

fn as_rows(ids: &[&str]) -> String {
    let rows: Value = ids.iter().map(|id| json!({"id": id})).collect();
    rows.to_string()
}
