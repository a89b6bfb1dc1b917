//! Limits, counted where all replicas see it: a row for each key, held while somebody spends it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::tasks::Claimed;
use super::{Store, StoreError, json_rows, moment, write_rows};
use crate::backlog::{Allowance, Key, Used, bucket, left, limits_of};
use crate::catalogue::Catalogue;
use crate::moment::{Moment, Span};
use crate::schedule::Limit;

/// A limit that the tasks of a plugin and an organisation are under, and what is spent of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitNow {
    pub key: Key,
    pub limit: Limit,
    pub used: Used,
    /// How many more may go now.
    pub left: i64,
    /// When its rate allows the next, where it allows none now.
    pub next: Option<Moment>,
}

/// The limits that some groups are under, with what is spent of them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    keys: BTreeMap<String, Limited>,
    /// By plugin and organisation.
    groups: BTreeMap<(String, String), Vec<Key>>,
}

#[derive(Debug)]
struct Limited {
    key: Key,
    limits: Vec<Limit>,
    used: Used,
    /// When the bucket of each rate is full.
    full_at: BTreeMap<String, Moment>,
}

#[derive(Serialize)]
struct NameRow<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct SeedRow<'a> {
    name: &'a str,
    p: Option<&'a str>,
    o: Option<&'a str>,
}

#[derive(Serialize)]
struct HoldRow<'a> {
    key: &'a str,
    task_id: &'a str,
    attempt: i64,
}

#[derive(Serialize)]
struct BucketRow<'a> {
    name: &'a str,
    full_at: i64,
}

fn bucket_name(key: &str, (many, within): (i64, Span)) -> String {
    format!("{key}\u{1f}{many}/{}", within.micros())
}

impl Limits {
    /// Those of groups, as (organisation, plugin).
    pub fn of<'a>(
        catalogue: &Catalogue,
        groups: impl Iterator<Item = &'a (String, String)>,
    ) -> Limits {
        let mut limits = Limits::default();
        for (organization_id, plugin_id) in groups {
            let plugin = catalogue.plugins.get(plugin_id);
            let organization = catalogue.organizations.get(organization_id);
            let (Some(plugin), Some(organization)) = (plugin, organization) else {
                continue;
            };
            if plugin.limits.is_empty() && organization.limits.is_empty() {
                continue;
            }
            let group = (plugin_id.clone(), organization_id.clone());
            if limits.groups.contains_key(&group) {
                continue;
            }
            let mut keys: Vec<Key> = Vec::new();
            for (key, limit) in limits_of(plugin, organization) {
                let known = limits.keys.entry(key.text()).or_insert_with(|| Limited {
                    key: key.clone(),
                    limits: Vec::new(),
                    used: Used::default(),
                    full_at: BTreeMap::new(),
                });
                if !known.limits.contains(limit) {
                    known.limits.push(limit.clone());
                }
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            limits.groups.insert(group, keys);
        }
        limits
    }

    /// How many more may go.
    pub fn allowance(&self, now: Moment) -> Allowance {
        let mut allowance = Allowance::default();
        for ((plugin_id, organization), keys) in &self.groups {
            allowance.bind(plugin_id, organization, keys.clone());
        }
        for (name, limited) in &self.keys {
            for limit in &limited.limits {
                let full_at = limited.full_at(name, limit);
                allowance.leave(limited.key.clone(), left(limit, limited.used, full_at, now));
            }
        }
        allowance
    }

    /// When the first of the empty buckets has a token again.
    pub fn next(&self, now: Moment) -> Option<Moment> {
        let empty = self.keys.iter().flat_map(|(name, limited)| {
            limited.limits.iter().filter_map(move |limit| {
                let full_at = limited.full_at(name, limit);
                bucket(limit.rate?).next(full_at, now)
            })
        });
        empty.min()
    }

    /// Everything that is locked: the keys, and the buckets of their rates.
    fn names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.keys.keys().cloned().collect();
        for (name, limited) in &self.keys {
            let rates = limited.limits.iter().filter_map(|limit| limit.rate);
            names.extend(rates.map(|rate| bucket_name(name, rate)));
        }
        names
    }
}

impl Limited {
    fn full_at(&self, name: &str, limit: &Limit) -> Moment {
        limit
            .rate
            .and_then(|rate| self.full_at.get(&bucket_name(name, rate)))
            .copied()
            .unwrap_or(Moment::EPOCH)
    }
}

impl Store {
    /// Locks the rows of all keys until the end of the transaction, and counts what is spent of them.
    pub(super) async fn hold_limits(
        &self,
        connection: &mut AnyConnection,
        limits: &mut Limits,
    ) -> Result<(), StoreError> {
        let names = limits.names();
        if names.is_empty() {
            return Ok(());
        }
        let wanted: Vec<NameRow<'_>> = names.iter().map(|name| NameRow { name }).collect();
        let source = self.dialect.rows("$1", "name text");
        // In one order, so that two that offer from different queues never wait for each other.
        let sql = format!(
            "SELECT a.name, a.full_at FROM allowance a WHERE a.name IN (SELECT r.name FROM {source}) ORDER BY a.name {}",
            self.dialect.for_update_of("a")
        );
        let mut rows = Vec::new();
        for _ in 0..2 {
            rows = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(json_rows(&wanted))
                .fetch_all(&mut *connection)
                .await?;
            if rows.len() == wanted.len() {
                break;
            }
            let mut known: BTreeSet<String> = BTreeSet::new();
            for row in &rows {
                known.insert(row.try_get("name")?);
            }
            self.begin_keys(connection, limits, &names, &known).await?;
        }
        for row in &rows {
            let name: String = row.try_get("name")?;
            let full_at = moment(row, "full_at")?;
            for (key, limited) in &mut limits.keys {
                let rates = limited.limits.iter().filter_map(|limit| limit.rate);
                if rates.into_iter().any(|rate| bucket_name(key, rate) == name) {
                    limited.full_at.insert(name.clone(), full_at);
                }
            }
        }
        let keys: Vec<NameRow<'_>> = limits.keys.keys().map(|name| NameRow { name }).collect();
        let sql = format!(
            "DELETE FROM limited_offer WHERE key IN (SELECT r.name FROM {source}) AND NOT EXISTS (SELECT 1 FROM task t \
             WHERE t.id = limited_offer.task_id AND t.attempt = limited_offer.attempt \
             AND t.state IN ('dispatched', 'running'))"
        );
        write_rows(&mut *connection, sql, &keys).await?;
        self.count_used(connection, limits).await
    }

    /// Counts what is under way of all keys.
    async fn count_used(
        &self,
        connection: &mut AnyConnection,
        limits: &mut Limits,
    ) -> Result<(), StoreError> {
        let keys: Vec<NameRow<'_>> = limits.keys.keys().map(|name| NameRow { name }).collect();
        let sql = format!(
            "SELECT h.key AS name, count(*) AS under_way, sum(CASE WHEN t.state = 'dispatched' THEN 1 ELSE 0 END) AS offered \
             FROM {} JOIN limited_offer h ON h.key = r.name JOIN task t ON t.id = h.task_id \
             AND t.attempt = h.attempt AND t.state IN ('dispatched', 'running') GROUP BY h.key",
            self.dialect.rows("$1", "name text")
        );
        let counted = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&keys))
            .fetch_all(connection)
            .await?;
        for row in &counted {
            let name: String = row.try_get("name")?;
            if let Some(limited) = limits.keys.get_mut(&name) {
                limited.used = Used {
                    under_way: row.try_get("under_way")?,
                    offered: row.try_get("offered")?,
                };
            }
        }
        Ok(())
    }

    /// The limits that the tasks of a plugin and an organisation are under, as they stand; nothing is held.
    pub async fn limits_now(
        &self,
        catalogue: &Catalogue,
        organization: &str,
        plugin_id: &str,
        now: Moment,
    ) -> Result<Vec<LimitNow>, StoreError> {
        let group = (organization.to_owned(), plugin_id.to_owned());
        let mut limits = Limits::of(catalogue, std::iter::once(&group));
        if limits.keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.pool.acquire().await?;
        self.count_used(&mut connection, &mut limits).await?;
        let mut standing = Vec::new();
        for (name, limited) in &mut limits.keys {
            // A key that nobody has used yet counts what is under way already, as it will once it is used.
            let begun = sqlx::query("SELECT 1 AS one FROM allowance WHERE name = $1")
                .bind(name)
                .fetch_optional(&mut *connection)
                .await?;
            if begun.is_none() {
                let (plugin, organization) = limited.key.parts();
                let row = sqlx::query(
                    "SELECT count(*) AS under_way, coalesce(sum(CASE WHEN state = 'dispatched' THEN 1 ELSE 0 END), 0) AS offered \
                     FROM task WHERE state IN ('dispatched', 'running') AND ($1 = '' OR plugin_id = $1) \
                     AND ($2 = '' OR organization = $2)",
                )
                .bind(plugin.unwrap_or(""))
                .bind(organization.unwrap_or(""))
                .fetch_one(&mut *connection)
                .await?;
                limited.used = Used {
                    under_way: row.try_get("under_way")?,
                    offered: row.try_get("offered")?,
                };
            }
            for limit in &limited.limits {
                if let Some(rate) = limit.rate {
                    let bucket = bucket_name(name, rate);
                    let row = sqlx::query("SELECT full_at FROM allowance WHERE name = $1")
                        .bind(&bucket)
                        .fetch_optional(&mut *connection)
                        .await?;
                    if let Some(row) = row {
                        limited.full_at.insert(bucket, moment(&row, "full_at")?);
                    }
                }
            }
            for limit in &limited.limits {
                let full_at = limited.full_at(name, limit);
                standing.push(LimitNow {
                    key: limited.key.clone(),
                    limit: limit.clone(),
                    used: limited.used,
                    left: left(limit, limited.used, full_at, now),
                    next: limit.rate.and_then(|rate| bucket(rate).next(full_at, now)),
                });
            }
        }
        Ok(standing)
    }

    /// Keys that are new count what is under way already.
    async fn begin_keys(
        &self,
        connection: &mut AnyConnection,
        limits: &Limits,
        names: &BTreeSet<String>,
        known: &BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let missing: Vec<NameRow<'_>> = names
            .difference(known)
            .map(|name| NameRow { name })
            .collect();
        let sql = format!(
            "INSERT INTO allowance (name, full_at) SELECT r.name, 0 FROM {} WHERE true ON CONFLICT DO NOTHING",
            self.dialect.rows("$1", "name text")
        );
        write_rows(connection, sql, &missing).await?;
        let seeds: Vec<SeedRow<'_>> = limits
            .keys
            .iter()
            .filter(|(name, _)| !known.contains(*name))
            .map(|(name, limited)| {
                let (p, o) = limited.key.parts();
                SeedRow { name, p, o }
            })
            .collect();
        let sql = format!(
            "INSERT INTO limited_offer (key, task_id, attempt) SELECT r.name, t.id, t.attempt FROM {} \
             JOIN task t ON (r.p IS NULL OR t.plugin_id = r.p) AND (r.o IS NULL OR t.organization = r.o) \
             WHERE t.state IN ('dispatched', 'running') ON CONFLICT DO NOTHING",
            self.dialect.rows("$1", "name text, p text, o text")
        );
        write_rows(connection, sql, &seeds).await?;
        Ok(())
    }

    /// Counts what was claimed.
    pub(super) async fn spend_limits(
        &self,
        connection: &mut AnyConnection,
        limits: &mut Limits,
        claimed: &[Claimed],
        now: Moment,
    ) -> Result<(), StoreError> {
        if limits.groups.is_empty() || claimed.is_empty() {
            return Ok(());
        }
        let mut held: Vec<(String, &Claimed)> = Vec::new();
        let mut spent: BTreeMap<String, i64> = BTreeMap::new();
        for task in claimed {
            let group = (task.plugin_id.clone(), task.organization.clone());
            for key in limits.groups.get(&group).into_iter().flatten() {
                let name = key.text();
                *spent.entry(name.clone()).or_default() += 1;
                held.push((name, task));
            }
        }
        let rows: Vec<HoldRow<'_>> = held
            .iter()
            .map(|(key, task)| HoldRow {
                key,
                task_id: &task.task_id,
                attempt: task.attempt,
            })
            .collect();
        let sql = format!(
            "INSERT INTO limited_offer (key, task_id, attempt) SELECT r.key, r.task_id, r.attempt FROM {} WHERE true \
             ON CONFLICT (key, task_id) DO UPDATE SET attempt = excluded.attempt",
            self.dialect
                .rows("$1", "key text, task_id text, attempt bigint")
        );
        write_rows(connection, sql, &rows).await?;
        let mut moved: BTreeMap<String, i64> = BTreeMap::new();
        for (name, many) in &spent {
            let Some(limited) = limits.keys.get_mut(name) else {
                continue;
            };
            for rate in limited.limits.iter().filter_map(|limit| limit.rate) {
                let bucket_name = bucket_name(name, rate);
                let full_at = limited.full_at.get(&bucket_name).copied();
                let full_at = bucket(rate).taken(full_at.unwrap_or(Moment::EPOCH), *many, now);
                limited.full_at.insert(bucket_name.clone(), full_at);
                moved.insert(bucket_name, full_at.micros());
            }
        }
        let rows: Vec<BucketRow<'_>> = moved
            .iter()
            .map(|(name, full_at)| BucketRow {
                name,
                full_at: *full_at,
            })
            .collect();
        let sql = format!(
            "UPDATE allowance SET full_at = r.full_at FROM {} WHERE allowance.name = r.name",
            self.dialect.rows("$1", "name text, full_at bigint")
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }
}
