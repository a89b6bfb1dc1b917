//! What people asked for: commands with their answers, and schedules that they paused.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{AnyConnection, Row};

use super::declared::ChangeRow;
use super::life::Told;
use super::{Store, StoreError, moment};
use crate::moment::{Moment, Span};

/// A command that is done, with what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Empty: whoever asked speaks for all.
    pub organization: String,
    pub id: String,
    pub command: String,
    pub answer: String,
}

/// Why a schedule is paused, by whom and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub reason: String,
    pub who: String,
    pub at: Moment,
}

/// So long the same id gets the same answer.
pub(super) const ANSWERS_KEPT: Span = Span::seconds(7 * 86_400);

impl Store {
    /// What was answered to a request with this id.
    pub async fn answer_of(
        &self,
        organization: &str,
        id: &str,
    ) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT answer FROM request WHERE organization = $1 AND id = $2")
            .bind(organization)
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get("answer")).transpose()?)
    }

    /// Keeps an answer beside what it tells of; false where the same request was answered meanwhile.
    pub(super) async fn keep_answer(
        &self,
        connection: &mut AnyConnection,
        answered: &Answered,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let kept = sqlx::query(
            "INSERT INTO request (organization, id, command, answer, answered_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&answered.organization)
        .bind(&answered.id)
        .bind(&answered.command)
        .bind(&answered.answer)
        .bind(now.micros())
        .execute(connection)
        .await?
        .rows_affected();
        Ok(kept == 1)
    }

    /// Keeps the answer of a command whose effect is the same however often it is done; false where the same request was
    /// answered before.
    pub async fn answered(&self, answered: &Answered, now: Moment) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let kept = self.keep_answer(&mut transaction, answered, now).await?;
        transaction.commit().await?;
        Ok(kept)
    }

    /// A schedule does not fire until it is resumed; false where it is paused already for the same reason. The catalogue's
    /// revision rises, so every replica hears of it.
    pub async fn pause(&self, schedule_id: &str, pause: &Pause) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let told = (
            "paused",
            Some(pause.reason.as_str()),
            Some(pause.who.as_str()),
        );
        self.raise_for_pauses(&mut transaction, schedule_id, told, pause.at)
            .await?;
        let paused = sqlx::query(
            "INSERT INTO pause AS p (schedule_id, reason, who, paused_at) VALUES ($1, $2, $3, $4) ON CONFLICT (schedule_id) \
             DO UPDATE SET paused_at = excluded.paused_at, reason = excluded.reason, who = excluded.who \
             WHERE p.reason <> excluded.reason",
        )
        .bind(schedule_id)
        .bind(&pause.reason)
        .bind(&pause.who)
        .bind(pause.at.micros())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if paused == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// A schedule fires again from now on; false where it was not paused.
    pub async fn resume(
        &self,
        schedule_id: &str,
        who: &str,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let told = ("resumed", None, Some(who));
        self.raise_for_pauses(&mut transaction, schedule_id, told, now)
            .await?;
        let resumed = sqlx::query("DELETE FROM pause WHERE schedule_id = $1")
            .bind(schedule_id)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if resumed == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// The next revision, which changes no declaration: who follows reads the pauses alone.
    async fn raise_for_pauses(
        &self,
        connection: &mut AnyConnection,
        schedule_id: &str,
        (state, reason, who): (&'static str, Option<&str>, Option<&str>),
        now: Moment,
    ) -> Result<(), StoreError> {
        let raised = sqlx::query(
            "UPDATE revision SET value = value + 1 WHERE name = 'catalogue' RETURNING value",
        )
        .fetch_one(&mut *connection)
        .await?;
        let change = ChangeRow {
            kind: "pause",
            organization: "",
            name: schedule_id,
        };
        let revision = raised.try_get("value")?;
        self.write_changes(connection, revision, &[change]).await?;
        let told = Told {
            about: schedule_id,
            number: revision,
            kind: "schedule.changed",
            organization: "",
            state: Some(state),
            reason,
            detail: json!({"schedule_id": schedule_id, "who": who}).to_string(),
        };
        self.tell(connection, &[told], now).await
    }

    /// Schedules that are paused, by their ids.
    pub async fn pauses(&self) -> Result<BTreeMap<String, Pause>, StoreError> {
        let rows = sqlx::query("SELECT schedule_id, reason, who, paused_at FROM pause")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.try_get("schedule_id")?,
                    Pause {
                        reason: row.try_get("reason")?,
                        who: row.try_get("who")?,
                        at: moment(row, "paused_at")?,
                    },
                ))
            })
            .collect()
    }
}
