//! Runs that look for their inputs: whose turn it is, what a page of inputs has to know, where the run stands after it.

use std::collections::HashSet;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::IdRow;
use super::runs::{counts, read_asked, read_counts, read_occasion};
use super::world::{read_ended, read_open};
use super::{Store, StoreError, json_rows, key_rows, maybe_moment};
use crate::decide::{Carried, World};
use crate::moment::Moment;
use crate::object::{Object, ObjectKey};
use crate::run::{Asked, Cause, Occasion, Reason};

/// A run found more of its inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expansion {
    pub run_id: String,
    pub from: String,
    /// `None`: there is nothing left to find.
    pub to: Option<String>,
    pub found: i64,
    /// All refusals of the run up to now.
    pub refused: Vec<(Reason, i64)>,
    /// The run whose tasks were in the way.
    pub blocked_by: Option<String>,
    /// It kept others off only while it looked for its inputs.
    pub releases: bool,
    /// Inputs that wait for their batch to be full.
    pub carried: Carried,
    /// Until then the run is left to whoever stores this.
    pub until: Moment,
}

/// A run that still looks for its inputs, and is this replica's until its claim ends.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpandingRun {
    pub id: String,
    pub schedule_id: String,
    pub organization: String,
    pub cause: Cause,
    pub scheduled_for: Moment,
    pub position: String,
    pub occasion: Occasion,
    pub asked: Asked,
    pub line: Option<String>,
    pub refused: Vec<(Reason, i64)>,
    pub carried: Carried,
    pub until: Moment,
}

/// Schedules whose runs stay where they are, as rows: they are many, and asked for with each turn.
#[derive(Clone, Debug)]
pub struct Held {
    asleep: String,
    busy: String,
}

impl Held {
    /// `asleep`: paused or switched off; what a person asked for goes on. `busy`: with tasks for workers who have enough.
    pub fn of<'a>(
        asleep: impl Iterator<Item = &'a str>,
        busy: impl Iterator<Item = &'a str>,
    ) -> Held {
        let asleep: Vec<IdRow<'_>> = asleep.map(|id| IdRow { id }).collect();
        let busy: Vec<IdRow<'_>> = busy.map(|id| IdRow { id }).collect();
        Held {
            asleep: json_rows(&asleep),
            busy: json_rows(&busy),
        }
    }
}

impl Default for Held {
    fn default() -> Held {
        Held::of([].into_iter(), [].into_iter())
    }
}

impl Store {
    /// Takes the run whose turn it is in the first organisation after `after`, until `until`; of one organisation the one
    /// that waited longest.
    pub async fn claim_expansion(
        &self,
        after: &str,
        held: &Held,
        now: Moment,
        until: Moment,
    ) -> Result<Option<ExpandingRun>, StoreError> {
        let sql = format!(
            "WITH picked AS MATERIALIZED (SELECT id AS picked_id FROM run \
             WHERE position IS NOT NULL AND state = 'expanding' AND (claimed_until IS NULL OR claimed_until <= $1) \
             AND organization > $3 AND schedule_id NOT IN (SELECT r.id FROM {}) \
             AND (cause IN ('manual', 'backfill') OR schedule_id NOT IN (SELECT r.id FROM {})) \
             ORDER BY organization, coalesce(turn_at, created_at), id LIMIT 1 {}) \
             UPDATE run SET claimed_until = $2, turn_at = $1 FROM picked WHERE id = picked.picked_id \
             RETURNING id, schedule_id, organization, cause, scheduled_for, position, occasion, refused, carried, \
             request_id, request, line",
            self.dialect.rows("$4", "id text"),
            self.dialect.rows("$5", "id text"),
            self.dialect.skip_locked()
        );
        let Some(row) = sqlx::query(AssertSqlSafe(sql))
            .bind(now.micros())
            .bind(until.micros())
            .bind(after)
            .bind(held.busy.as_str())
            .bind(held.asleep.as_str())
            .fetch_optional(&self.pool)
            .await?
        else {
            return Ok(None);
        };
        let carried: Option<String> = row.try_get("carried")?;
        Ok(Some(ExpandingRun {
            id: row.try_get("id")?,
            schedule_id: row.try_get("schedule_id")?,
            organization: row.try_get("organization")?,
            cause: Cause::parse(&row.try_get::<String, _>("cause")?).unwrap_or(Cause::Event),
            scheduled_for: super::moment(&row, "scheduled_for")?,
            position: row.try_get("position")?,
            occasion: read_occasion(&row.try_get::<String, _>("occasion")?),
            asked: read_asked(&row)?,
            line: row.try_get("line")?,
            refused: read_counts(&row.try_get::<String, _>("refused")?),
            carried: carried
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
            until,
        }))
    }

    /// Leaves a run to whoever is next, if it is still ours.
    pub async fn release_expansion(&self, run_id: &str, until: Moment) -> Result<(), StoreError> {
        sqlx::query("UPDATE run SET claimed_until = NULL WHERE id = $1 AND claimed_until = $2")
            .bind(run_id)
            .bind(until.micros())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How many runs look for their inputs.
    pub async fn count_expanding(&self, most: i64) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS many FROM (SELECT 1 AS one FROM run WHERE position IS NOT NULL LIMIT $1) AS counted",
        )
        .bind(most)
        .fetch_one(&self.pool)
        .await?;
        Ok(row.try_get("many")?)
    }

    /// How many objects the runs that look for their inputs have not seen yet, of the types that their schedules select,
    /// by a schedule's id; what is above `most` is not counted.
    pub async fn inputs_left(
        &self,
        types_of: impl Fn(&str) -> Vec<String>,
        most: i64,
    ) -> Result<i64, StoreError> {
        let rows = sqlx::query(
            "SELECT organization, schedule_id, position FROM run WHERE position IS NOT NULL LIMIT 100",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut many = 0;
        for row in &rows {
            let position: String = row.try_get("position")?;
            let (at, after) = position.split_once('|').unwrap_or((&position, ""));
            let organization: String = row.try_get("organization")?;
            let types = types_of(&row.try_get::<String, _>("schedule_id")?);
            for object_type in types.iter().filter(|name| name.as_str() >= at) {
                let counted = sqlx::query(
                    "SELECT count(*) AS many FROM (SELECT 1 FROM object WHERE organization = $1 AND object_type = $2 \
                     AND primary_key > $3 AND live = 1 LIMIT $4) AS left_over",
                )
                .bind(&organization)
                .bind(object_type)
                .bind(if object_type == at { after } else { "" })
                .bind(most - many)
                .fetch_one(&self.pool)
                .await?;
                many += counted.try_get::<i64, _>("many")?;
            }
        }
        Ok(many)
    }

    /// How many tasks wait in some queues; what is above `most` is not counted.
    pub async fn count_queued(
        &self,
        queues: impl Iterator<Item = &str>,
        most: i64,
    ) -> Result<i64, StoreError> {
        let mut many = 0;
        for queue in queues {
            let row = sqlx::query(
                "SELECT (SELECT count(*) FROM (SELECT 1 FROM task WHERE queue = $1 AND state = 'queued' \
                 AND not_before IS NULL LIMIT $2) AS ready) + (SELECT count(*) FROM (SELECT 1 FROM task WHERE queue = $1 \
                 AND state = 'queued' AND not_before IS NOT NULL LIMIT $2) AS put_off) AS many",
            )
            .bind(queue)
            .bind(most - many)
            .fetch_one(&self.pool)
            .await?;
            many += row.try_get::<i64, _>("many")?;
            if many >= most {
                break;
            }
        }
        Ok(many)
    }

    /// What keeps inputs of one organisation from getting tasks: open tasks, what was suppressed and, where it is asked
    /// for, last ends. Open tasks are read before last ends, so that a task which ends in between is seen at least once.
    pub async fn gather_standing(
        &self,
        organization: &str,
        inputs: &[&Object],
        ends: bool,
    ) -> Result<World, StoreError> {
        let mut world = World::default();
        let keys: Vec<&str> = inputs
            .iter()
            .map(|input| input.key.primary_key.as_str())
            .collect();
        let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else {
            return Ok(world);
        };
        let mut connection = self.pool.acquire().await?;
        // Mostly there is nothing at all between the first and the last of them.
        let any = |table: &str| {
            format!(
                "(SELECT count(*) FROM (SELECT 1 FROM {table} \
                 WHERE organization = $1 AND primary_key >= $2 AND primary_key <= $3 LIMIT 1) AS some_{table}) AS {table}"
            )
        };
        let sql = format!(
            "SELECT {}, {}, {}",
            any("open_input"),
            any("suppressed"),
            any("last_end")
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(organization)
            .bind(*first)
            .bind(*last)
            .fetch_one(&mut *connection)
            .await?;
        let has = |table: &str| Ok::<bool, sqlx::Error>(row.try_get::<i64, _>(table)? > 0);
        let (open, suppressed, ended) = (has("open_input")?, has("suppressed")?, has("last_end")?);
        let keys = key_rows(keys);
        let source = self.dialect.rows("$2", "k text");
        if open {
            let sql = format!(
                "SELECT i.organization, i.primary_key, i.unique_key, i.task_id, i.plugin_id, t.state, t.run_id, t.priority, t.on_behalf \
                 FROM {source} JOIN open_input i ON i.organization = $1 AND i.primary_key = r.k \
                 JOIN task t ON t.id = i.task_id"
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(organization)
                .bind(&keys)
                .fetch_all(&mut *connection)
                .await?
            {
                read_open(&row, &mut world)?;
            }
        }
        // A task may have ended since the look at what is there.
        if ends && (ended || open) {
            let sql = format!(
                "SELECT e.unique_key, e.ended_at, e.digest FROM {source} \
                 JOIN last_end e ON e.organization = $1 AND e.primary_key = r.k"
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(organization)
                .bind(&keys)
                .fetch_all(&mut *connection)
                .await?
            {
                read_ended(&row, &mut world)?;
            }
        }
        if suppressed {
            let sql = format!(
                "SELECT s.unique_key, s.until FROM {source} \
                 JOIN suppressed s ON s.organization = $1 AND s.primary_key = r.k"
            );
            for row in sqlx::query(AssertSqlSafe(sql))
                .bind(organization)
                .bind(&keys)
                .fetch_all(&mut *connection)
                .await?
            {
                world
                    .suppressed
                    .insert(row.try_get("unique_key")?, maybe_moment(&row, "until")?);
            }
        }
        Ok(world)
    }

    /// Objects as they are, by their keys; what is not known is absent.
    pub async fn objects_of(
        &self,
        organization: &str,
        keys: HashSet<&str>,
    ) -> Result<Vec<Object>, StoreError> {
        let wanted = super::Wanted {
            keys: keys
                .into_iter()
                .map(|primary_key| ObjectKey {
                    organization: organization.to_owned(),
                    primary_key: primary_key.to_owned(),
                })
                .collect(),
            ..super::Wanted::default()
        };
        let gathered = self.gather(&wanted).await?;
        Ok(gathered.world.objects.into_values().collect())
    }

    /// The run stands further on, if it stood where it was read; with nothing left to find it is nobody's.
    pub(super) async fn move_position(
        &self,
        connection: &mut AnyConnection,
        expansion: &Expansion,
    ) -> Result<bool, StoreError> {
        let carried = (!expansion.carried.is_empty())
            .then(|| serde_json::to_string(&expansion.carried).unwrap_or_default());
        let until = expansion.to.as_ref().map(|_| expansion.until.micros());
        let released = expansion.releases && expansion.to.is_none();
        let sql = format!(
            "UPDATE run SET position = $1, total = total + $2, refused = $3, carried = $4, claimed_until = $5, \
             blocked_by = coalesce(blocked_by, $8), state = CASE WHEN $1 IS NULL THEN 'running' ELSE state END {} \
             WHERE id = $6 AND position = $7 AND state = 'expanding'",
            if released { ", holds = NULL" } else { "" }
        );
        let moved = sqlx::query(AssertSqlSafe(sql))
            .bind(expansion.to.clone())
            .bind(expansion.found)
            .bind(counts(&expansion.refused).to_string())
            .bind(carried)
            .bind(until)
            .bind(&expansion.run_id)
            .bind(&expansion.from)
            .bind(expansion.blocked_by.clone())
            .execute(&mut *connection)
            .await?
            .rows_affected();
        Ok(moved == 1)
    }
}
