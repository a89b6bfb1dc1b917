//! Inputs that leave their task: deleted, or no longer permitted. A batch goes on with those that are left.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::commit::{IdRow, WITHDRAWN};
use super::{Store, StoreError, json_rows, write_rows};
use crate::moment::Moment;
use crate::tally;

/// An input leaves a task that nobody has accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaving {
    pub task_id: String,
    pub primary_key: String,
}

/// What becomes of the offer of a batch that is left with fewer inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is void: whoever accepts it is told so, and the batch waits again.
    Void,
    /// It is about to be made, and has the new inputs already.
    Stands,
}

#[derive(Serialize)]
struct LeftRow<'a> {
    id: &'a str,
    inputs: String,
}

#[derive(Serialize)]
struct LeavingRow<'a> {
    id: &'a str,
    k: &'a str,
}

impl Store {
    /// Takes inputs out of offers that are about to be made; those without any input left are withdrawn.
    pub async fn leave_offer(
        &self,
        leaving: &[Leaving],
        reason: &str,
        now: Moment,
    ) -> Result<(), StoreError> {
        tally::counted(async {
            let mut transaction = self.begin().await?;
            let leaving: Vec<(&str, &str)> = leaving
                .iter()
                .map(|one| (one.task_id.as_str(), one.primary_key.as_str()))
                .collect();
            self.leave_in(&mut transaction, &leaving, reason, Offered::Stands, now)
                .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Those of the tasks whose inputs belong together: all of them stand under one unique key.
    async fn joined(
        &self,
        connection: &mut AnyConnection,
        tasks: &[(String, Vec<Value>)],
    ) -> Result<BTreeSet<String>, StoreError> {
        if tasks.is_empty() {
            return Ok(BTreeSet::new());
        }
        let ids: Vec<IdRow<'_>> = tasks.iter().map(|(id, _)| IdRow { id }).collect();
        let sql = format!(
            "SELECT DISTINCT i.task_id FROM {} JOIN open_input i ON i.task_id = r.id \
             GROUP BY i.task_id, i.unique_key HAVING count(*) > 1",
            self.dialect.rows("$1", "id text")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&ids))
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| Ok(row.try_get("task_id")?)).collect()
    }

    /// Takes inputs, as (task, primary key), out of tasks that nobody has accepted; a task that has none left is
    /// withdrawn, and so is one whose inputs belong together.
    pub(super) async fn leave_in(
        &self,
        connection: &mut AnyConnection,
        leaving: &[(&str, &str)],
        reason: &str,
        offered: Offered,
        now: Moment,
    ) -> Result<(), StoreError> {
        let mut gone: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (task_id, primary_key) in leaving {
            gone.entry(task_id).or_default().insert(primary_key);
        }
        if gone.is_empty() {
            return Ok(());
        }
        let ids: Vec<IdRow<'_>> = gone.keys().map(|id| IdRow { id }).collect();
        // Locked, so that two inputs which leave one batch at the same time both leave it.
        let sql = format!(
            "SELECT t.id, t.inputs FROM {} JOIN task t ON t.id = r.id \
             WHERE t.state IN ('queued', 'waiting', 'dispatched') ORDER BY t.id {}",
            self.dialect.rows("$1", "id text"),
            self.dialect.for_update_of("t")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&ids))
            .fetch_all(&mut *connection)
            .await?;
        let mut left: Vec<(String, Vec<Value>)> = Vec::new();
        for row in &rows {
            let id: String = row.try_get("id")?;
            let inputs: String = row.try_get("inputs")?;
            let mut inputs: Vec<Value> = serde_json::from_str(&inputs).unwrap_or_default();
            let going = gone.get(id.as_str());
            inputs.retain(|input| {
                let key = input.get("primary_key").and_then(Value::as_str);
                !key.is_some_and(|key| going.is_some_and(|going| going.contains(key)))
            });
            if !inputs.is_empty() {
                left.push((id, inputs));
            }
        }
        let joined = self.joined(connection, &left).await?;
        left.retain(|(id, _)| !joined.contains(id));
        let goes_on: BTreeSet<&str> = left.iter().map(|(id, _)| id.as_str()).collect();
        let whole: Vec<&str> = gone
            .keys()
            .copied()
            .filter(|id| !goes_on.contains(id))
            .collect();
        self.withdraw_in(connection, &whole, reason, now).await?;
        if left.is_empty() {
            return Ok(());
        }
        let ids: Vec<IdRow<'_>> = goes_on.iter().map(|id| IdRow { id }).collect();
        let waits = if offered == Offered::Void {
            self.close_attempts(connection, &ids, WITHDRAWN.outcome, now)
                .await?;
            "state = 'queued', "
        } else {
            ""
        };
        let rows: Vec<LeftRow<'_>> = left
            .iter()
            .map(|(id, inputs)| LeftRow {
                id,
                inputs: Value::Array(inputs.clone()).to_string(),
            })
            .collect();
        let sql = format!(
            "UPDATE task SET {waits}inputs = r.inputs FROM {} WHERE task.id = r.id",
            self.dialect.rows("$1", "id text, inputs text")
        );
        write_rows(connection, sql, &rows).await?;
        if offered == Offered::Void {
            self.tell_tasks(connection, goes_on.iter().copied(), now)
                .await?;
        }
        let rows: Vec<LeavingRow<'_>> = leaving
            .iter()
            .filter(|(id, _)| goes_on.contains(id))
            .map(|(id, k)| LeavingRow { id, k })
            .collect();
        let sql = format!(
            "DELETE FROM open_input WHERE (task_id, primary_key) IN (SELECT r.id, r.k FROM {})",
            self.dialect.rows("$1", "id text, k text")
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }
}
