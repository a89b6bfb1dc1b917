//! Everything that must be atomic about a decision, in one transaction: it is stored if what it was made from still
//! holds, and otherwise nothing is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::by_hand::Redrive;
use super::columns::Columns;
use super::declared::ChangeRow;
use super::events::KeptEvent;
use super::expanding::Expansion;
use super::leaving::Offered;
use super::letters::DeadLetter;
use super::requests::Answered;
use super::shared::{Over, Seat};
use super::{Dialect, Store, StoreError, json_rows, write_rows};
use crate::decide::{End, Plan, World};
use crate::declaration::Kind;
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::tally;
use crate::task::{TaskDraft, TaskState};

/// What is to be stored, and what it rests on.
#[derive(Debug)]
pub struct Commit<'a> {
    pub now: Moment,
    /// The revision of the catalogue that decided.
    pub revision: i64,
    /// Strong ids of the messages whose effects these are.
    pub inbox: &'a [(String, String)],
    /// The messages themselves, as they are kept.
    pub events: &'a [KeptEvent],
    pub dead: &'a [DeadLetter],
    pub world: &'a World,
    /// Versions of the objects as they were read; absent: there was none.
    pub versions: &'a HashMap<ObjectKey, i64>,
    /// Organisations of which other objects were read, with the marks from before: no other decision that rests so may
    /// have been stored since.
    pub rests: &'a BTreeMap<String, i64>,
    pub plan: &'a Plan,
    pub cursors: &'a [CursorMove],
    pub expansion: Option<Expansion>,
    /// Ends whose effects these are; nobody else may have told of them.
    pub announced: &'a [End],
    /// The request that this does, with its answer.
    pub answered: Option<Answered>,
    /// The task that this makes anew.
    pub redrive: Option<Redrive>,
}

impl Commit<'static> {
    /// Nothing to store; what there is goes on top.
    pub fn empty(now: Moment, revision: i64) -> Commit<'static> {
        static WORLD: LazyLock<World> = LazyLock::new(World::default);
        static VERSIONS: LazyLock<HashMap<ObjectKey, i64>> = LazyLock::new(HashMap::new);
        static PLAN: LazyLock<Plan> = LazyLock::new(Plan::default);
        static RESTS: BTreeMap<String, i64> = BTreeMap::new();
        Commit {
            now,
            revision,
            inbox: &[],
            events: &[],
            dead: &[],
            world: &WORLD,
            versions: &VERSIONS,
            rests: &RESTS,
            plan: &PLAN,
            cursors: &[],
            expansion: None,
            announced: &[],
            answered: None,
            redrive: None,
        }
    }
}

/// The clock of a schedule moves from one instant to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    pub schedule_id: String,
    pub from: Moment,
    pub to: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Done,
    /// Something that was read has changed since; nothing was stored. Read again and decide again.
    Stale(&'static str),
}

#[derive(Serialize)]
struct ObjectRow<'a> {
    organization: &'a str,
    primary_key: &'a str,
    object_type: &'a str,
    attributes: &'a serde_json::Map<String, Value>,
    scan_level: Option<u8>,
    scan_profile_type: Option<&'a str>,
    lifted: i64,
    live: i64,
    created_rank: Option<String>,
    deleted_rank: Option<String>,
    attributes_rank: Option<String>,
    level_rank: Option<String>,
    deleted_at: Option<i64>,
    base: i64,
}

#[derive(Serialize)]
struct TaskRow<'a> {
    id: &'a str,
    run_id: &'a str,
    organization: &'a str,
    plugin_id: &'a str,
    worker_type: &'a str,
    queue: &'a str,
    state: &'static str,
    class: i64,
    priority: i64,
    rank: i64,
    cause: &'static str,
    created_at: i64,
    scheduled_for: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    expires_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    inputs: String,
    parameters: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deduplication_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf: Option<i64>,
}

#[derive(Serialize)]
struct OpenRow<'a> {
    organization: &'a str,
    primary_key: &'a str,
    unique_key: &'a str,
    task_id: &'a str,
    plugin_id: &'a str,
    digest: &'a str,
}

#[derive(Serialize)]
struct CursorRow<'a> {
    id: &'a str,
    was: i64,
    next: i64,
}

#[derive(Serialize)]
struct InboxRow<'a> {
    source: &'a str,
    id: &'a str,
}

/// Stands for the digest of what starts no grace.
pub(super) const UNGRACED: &str = "ungraced";

/// How tasks end without a worker's word.
pub(super) struct Closing {
    state: &'static str,
    /// The states from which it may be so, as SQL.
    from: &'static str,
    pub(super) outcome: &'static str,
    /// How their run counts so many of them.
    counts: &'static str,
    /// Grace starts with this end.
    executed: bool,
}

pub(super) const WITHDRAWN: Closing = Closing {
    state: "withdrawn",
    from: "'queued', 'waiting', 'dispatched'",
    outcome: "withdrawn",
    counts: "UPDATE run SET cancelled = cancelled + $1 WHERE id = $2",
    executed: false,
};
/// Those that wait for another one's outcome.
pub(super) const WITHDRAWN_WAITING: Closing = Closing {
    from: "'waiting'",
    ..WITHDRAWN
};
/// Those that no worker has accepted.
pub(super) const CANCELLED: Closing = Closing {
    state: "cancelled",
    outcome: "cancelled",
    ..WITHDRAWN
};
/// Whatever a worker may still be doing.
pub(super) const CUT_OFF: Closing = Closing {
    from: "'queued', 'waiting', 'dispatched', 'running'",
    ..CANCELLED
};
/// The time of the task is over.
pub(super) const EXPIRED: Closing = Closing {
    state: "dead",
    outcome: "expired",
    counts: "UPDATE run SET failed = failed + $1, overran = overran + $1 WHERE id = $2",
    executed: true,
    ..CUT_OFF
};

#[derive(Serialize)]
struct UrgentRow<'a> {
    id: &'a str,
    priority: i64,
}

fn resting_name(organization: &str) -> String {
    format!("resting:{organization}")
}

#[derive(Serialize)]
pub(super) struct IdRow<'a> {
    pub id: &'a str,
}

#[derive(Serialize)]
struct Kept<'a> {
    object_type: &'a str,
    primary_key: &'a str,
}

/// Inputs as the task keeps them.
fn inputs(task: &TaskDraft) -> String {
    let kept: Vec<Kept<'_>> = task
        .inputs
        .iter()
        .map(|input| Kept {
            object_type: &input.object_type,
            primary_key: &input.primary_key,
        })
        .collect();
    json_rows(&kept)
}

impl Store {
    /// Stores a decision, or nothing.
    pub async fn commit(&self, commit: &Commit<'_>) -> Result<Committed, StoreError> {
        tally::counted(async {
            // A page of an expansion is found again if it is forgotten, and whatever rests on it is written down after it.
            let mut transaction = if commit.expansion.is_some() {
                self.begin_lightly().await?
            } else {
                self.begin().await?
            };
            match self.write(&mut transaction, commit).await {
                Ok(Committed::Done) => {
                    transaction.commit().await?;
                    Ok(Committed::Done)
                }
                Ok(stale) => {
                    tally::undone();
                    transaction.rollback().await?;
                    Ok(stale)
                }
                Err(StoreError::Statement(sqlx::Error::Database(error)))
                    if commit.expansion.is_some() && error.is_unique_violation() =>
                {
                    tally::undone();
                    transaction.rollback().await?;
                    Ok(Committed::Stale("tasks"))
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn write(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<Committed, StoreError> {
        let plan = commit.plan;
        // New organisations raise the revision, so the row is locked for writing at once: two transactions that
        // first shared it would wait for each other.
        if plan.organizations.is_empty() {
            let sql = format!(
                "SELECT value FROM revision WHERE name = 'catalogue' {}",
                self.dialect.for_share()
            );
            let revision: i64 = sqlx::query(AssertSqlSafe(sql))
                .fetch_one(&mut *connection)
                .await?
                .try_get("value")?;
            if revision != commit.revision {
                return Ok(Committed::Stale("catalogue"));
            }
        } else {
            let raised = sqlx::query(
                "UPDATE revision SET value = value + 1 WHERE name = 'catalogue' AND value = $1",
            )
            .bind(commit.revision)
            .execute(&mut *connection)
            .await?
            .rows_affected();
            if raised != 1 {
                return Ok(Committed::Stale("catalogue"));
            }
            self.write_organizations(connection, commit).await?;
            let organizations = commit.plan.organizations.iter();
            let changed: Vec<ChangeRow<'_>> = organizations
                .map(|organization| ChangeRow {
                    kind: Kind::Organization.word(),
                    organization: "",
                    name: &organization.id,
                })
                .collect();
            self.write_changes(connection, commit.revision + 1, &changed)
                .await?;
        }
        if !self.move_rests(connection, commit.rests).await? {
            return Ok(Committed::Stale("other objects"));
        }
        if !self
            .write_inbox(connection, commit.inbox, commit.now)
            .await?
        {
            return Ok(Committed::Stale("inbox"));
        }
        if !self.announce(connection, commit.announced).await? {
            return Ok(Committed::Stale("ends"));
        }
        self.write_events(connection, commit.events).await?;
        self.write_dead_letters(connection, commit.dead).await?;
        if !self.move_cursors(connection, commit.cursors).await? {
            return Ok(Committed::Stale("cursor"));
        }
        self.write_versions(connection, &plan.versions, commit.now)
            .await?;
        if !self.write_objects(connection, commit).await? {
            return Ok(Committed::Stale("objects"));
        }
        // Withdrawn tasks leave their unique keys before new ones take them, and runs the places that others take.
        self.withdraw_planned(connection, commit).await?;
        if !self.put_aside(connection, plan, commit.now).await? {
            return Ok(Committed::Stale("overlap"));
        }
        let Some(decided) = self.write_runs(connection, commit).await? else {
            return Ok(Committed::Stale("overlap"));
        };
        if !self.begin_pending(connection, commit).await? {
            return Ok(Committed::Stale("pending"));
        }
        if !self.write_tasks(connection, commit, &decided).await? {
            return Ok(Committed::Stale("tasks"));
        }
        if !self.adopt(connection, commit).await? {
            return Ok(Committed::Stale("tasks"));
        }
        self.want_again(connection, &plan.wanted_again).await?;
        self.write_gaps(connection, &plan.gaps, commit.now).await?;
        if let Some(answered) = &commit.answered
            && !self.keep_answer(connection, answered, commit.now).await?
        {
            return Ok(Committed::Stale("request"));
        }
        if let Some(redrive) = &commit.redrive
            && !self.keep_redrive(connection, redrive, commit.now).await?
        {
            return Ok(Committed::Stale("redrive"));
        }
        self.write_urgent(connection, &plan.urgent).await?;
        // At the end, because who reports on a task of this run waits for its row.
        if let Some(expansion) = &commit.expansion {
            if !self.move_position(connection, expansion).await? {
                return Ok(Committed::Stale("position"));
            }
            if expansion.to.is_none() {
                self.end_runs(
                    connection,
                    std::slice::from_ref(&expansion.run_id),
                    commit.now,
                )
                .await?;
            }
        }
        Ok(Committed::Done)
    }

    async fn write_organizations(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<(), StoreError> {
        for organization in &commit.plan.organizations {
            sqlx::query(
                "INSERT INTO declared (kind, organization, name, id, definition, revision, created_at, updated_at) \
                 VALUES ('organization', '', $1, $1, $2, 1, $3, $3) ON CONFLICT DO NOTHING",
            )
            .bind(&organization.id)
            .bind(json!({"id": organization.id}).to_string())
            .bind(commit.now.micros())
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn write_inbox(
        &self,
        connection: &mut AnyConnection,
        inbox: &[(String, String)],
        now: Moment,
    ) -> Result<bool, StoreError> {
        let rows: Vec<InboxRow<'_>> = inbox
            .iter()
            .map(|(source, id)| InboxRow { source, id })
            .collect();
        let sql = format!(
            "INSERT INTO inbox (source, id, received_at) SELECT r.source, r.id, {} FROM {} WHERE true \
             ON CONFLICT DO NOTHING",
            now.micros(),
            self.dialect.rows("$1", "source text, id text")
        );
        Ok(write_rows(connection, sql, &rows).await? == rows.len() as u64)
    }

    /// The mark that a decision moves which rests on other objects of an organisation.
    pub async fn resting(&self, organization: &str) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT value FROM revision WHERE name = $1")
            .bind(resting_name(organization))
            .fetch_optional(&self.pool)
            .await?;
        Ok(row
            .map(|row| row.try_get("value"))
            .transpose()?
            .unwrap_or(0))
    }

    /// In the order of their names, so that two transactions never wait for each other.
    async fn move_rests(
        &self,
        connection: &mut AnyConnection,
        rests: &BTreeMap<String, i64>,
    ) -> Result<bool, StoreError> {
        for (organization, mark) in rests {
            let moved = sqlx::query(
                "INSERT INTO revision AS v (name, value) VALUES ($1, 1) \
                 ON CONFLICT (name) DO UPDATE SET value = v.value + 1 WHERE v.value = $2",
            )
            .bind(resting_name(organization))
            .bind(mark)
            .execute(&mut *connection)
            .await?
            .rows_affected();
            if moved != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn move_cursors(
        &self,
        connection: &mut AnyConnection,
        cursors: &[CursorMove],
    ) -> Result<bool, StoreError> {
        let rows: Vec<CursorRow<'_>> = cursors
            .iter()
            .map(|cursor| CursorRow {
                id: &cursor.schedule_id,
                was: cursor.from.micros(),
                next: cursor.to.micros(),
            })
            .collect();
        let source = self.dialect.rows("$1", "id text, was bigint, next bigint");
        // Locked in one order, so that two replicas never wait for each other.
        let lock = match self.dialect {
            Dialect::Postgres => format!(
                "WITH locked AS MATERIALIZED (SELECT schedule_id FROM schedule_cursor WHERE schedule_id IN \
                 (SELECT r.id FROM {source}) ORDER BY schedule_id FOR UPDATE) "
            ),
            Dialect::Sqlite => String::new(),
        };
        let locked = match self.dialect {
            Dialect::Postgres => "AND schedule_id IN (SELECT schedule_id FROM locked)",
            Dialect::Sqlite => "",
        };
        let sql = format!(
            "{lock}UPDATE schedule_cursor SET decided_until = r.next FROM {source} \
             WHERE schedule_id = r.id AND decided_until = r.was {locked}"
        );
        Ok(write_rows(connection, sql, &rows).await? == rows.len() as u64)
    }

    async fn write_objects(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<bool, StoreError> {
        // In the order of their keys, so that two transactions never wait for each other.
        let keys: BTreeSet<&ObjectKey> = commit.plan.changed.iter().collect();
        let rows: Vec<ObjectRow<'_>> = keys
            .iter()
            .filter_map(|key| commit.world.objects.get(key))
            .map(|object| ObjectRow {
                organization: &object.key.organization,
                primary_key: &object.key.primary_key,
                object_type: &object.object_type,
                attributes: &object.attributes,
                scan_level: object.level,
                scan_profile_type: object.profile_type.as_deref(),
                lifted: i64::from(object.lifted),
                live: i64::from(object.live()),
                created_rank: object.created_rank.as_ref().map(ToString::to_string),
                deleted_rank: object.deleted_rank.as_ref().map(ToString::to_string),
                attributes_rank: object.attributes_rank.as_ref().map(ToString::to_string),
                level_rank: object.level_rank.as_ref().map(ToString::to_string),
                deleted_at: (!object.live() && object.deleted_rank.is_some())
                    .then_some(commit.now.micros()),
                base: commit.versions.get(&object.key).copied().unwrap_or(0),
            })
            .collect();
        let sql = format!(
            "INSERT INTO object AS o (organization, primary_key, object_type, attributes, scan_level, scan_profile_type, \
             lifted, live, created_rank, deleted_rank, attributes_rank, level_rank, deleted_at, version) \
             SELECT r.organization, r.primary_key, r.object_type, r.attributes, r.scan_level, r.scan_profile_type, \
             r.lifted, r.live, r.created_rank, r.deleted_rank, r.attributes_rank, r.level_rank, r.deleted_at, r.base + 1 \
             FROM {} WHERE true \
             ON CONFLICT (organization, primary_key) DO UPDATE SET object_type = excluded.object_type, \
             attributes = excluded.attributes, scan_level = excluded.scan_level, \
             scan_profile_type = excluded.scan_profile_type, lifted = excluded.lifted, live = excluded.live, \
             created_rank = excluded.created_rank, deleted_rank = excluded.deleted_rank, \
             attributes_rank = excluded.attributes_rank, level_rank = excluded.level_rank, \
             deleted_at = excluded.deleted_at, version = excluded.version \
             WHERE o.version = excluded.version - 1",
            self.dialect.rows(
                "$1",
                "organization text, primary_key text, object_type text, attributes jsonb, scan_level bigint, \
                 scan_profile_type text, lifted bigint, live bigint, created_rank text, deleted_rank text, \
                 attributes_rank text, level_rank text, deleted_at bigint, base bigint"
            )
        );
        if write_rows(connection, sql, &rows).await? != rows.len() as u64 {
            return Ok(false);
        }
        let changed = keys.iter().filter_map(|key| commit.world.objects.get(key));
        self.write_files(connection, changed).await?;
        Ok(true)
    }

    /// Tasks and their unique keys; false where somebody else holds one of the keys.
    async fn write_tasks(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
        decided: &HashSet<String>,
    ) -> Result<bool, StoreError> {
        // Of runs that were decided before nothing is stored again.
        let tasks: Vec<&TaskDraft> = commit
            .plan
            .tasks
            .iter()
            .filter(|task| !decided.contains(&task.run_id))
            .collect();
        let mut open: Vec<OpenRow<'_>> = tasks
            .iter()
            .filter(|task| !task.state.terminal())
            .flat_map(|task| {
                let alone = task.inputs.is_empty().then_some(OpenRow {
                    organization: &task.organization,
                    primary_key: "",
                    unique_key: &task.unique_key,
                    task_id: &task.id,
                    plugin_id: &task.plugin_id,
                    digest: if task.graced { "" } else { UNGRACED },
                });
                let inputs = task.inputs.iter().map(|input| OpenRow {
                    organization: &task.organization,
                    primary_key: &input.primary_key,
                    unique_key: &input.unique_key,
                    task_id: &task.id,
                    plugin_id: &task.plugin_id,
                    digest: if task.graced { &input.digest } else { UNGRACED },
                });
                alone.into_iter().chain(inputs)
            })
            .collect();
        open.sort_by_key(|row| (row.organization, row.primary_key, row.unique_key));
        // A page is the only one to look at its inputs now; it need not ask row by row whether somebody was faster, and
        // fails where somebody was.
        let conflict = if commit.expansion.is_some() {
            ""
        } else {
            "ON CONFLICT DO NOTHING"
        };
        if self.insert_open(connection, &open, conflict).await? != open.len() as u64 {
            return Ok(false);
        }
        let seats = self.seats(connection, &tasks).await?;
        let seat = |task: &TaskDraft| seats.get(task.id.as_str());
        let rows: Vec<TaskRow<'_>> = tasks
            .iter()
            .map(|task| TaskRow {
                id: &task.id,
                run_id: &task.run_id,
                organization: &task.organization,
                plugin_id: &task.plugin_id,
                worker_type: &task.worker_type,
                queue: &task.queue,
                state: match seat(task) {
                    Some(Seat::WaitsFor(_)) => TaskState::Waiting.word(),
                    _ => task.state.word(),
                },
                class: task.cause.class(),
                priority: task.priority,
                rank: task.rank,
                cause: task.cause.word(),
                created_at: task.created_at.micros(),
                scheduled_for: task.scheduled_for.micros(),
                not_before: task.not_before.map(Moment::micros),
                expires_at: task.expires_at.micros(),
                finished_at: task.state.terminal().then_some(commit.now.micros()),
                reason: (task.state == TaskState::Withdrawn).then_some("reason_gone"),
                inputs: inputs(task),
                parameters: serde_json::to_string(&task.parameters).unwrap_or_default(),
                deduplication_key: match seat(task) {
                    Some(Seat::Runs | Seat::WaitsFor(_)) => task.deduplication_key.as_deref(),
                    _ => None,
                },
                shared_from: match seat(task) {
                    Some(Seat::WaitsFor(runs)) => Some(runs),
                    _ => None,
                },
                on_behalf: task.on_behalf.then_some(1),
            })
            .collect();
        // Whoever lets another task of the same key run at the same time is faster, or this one is.
        if self
            .insert_tasks(connection, &rows, !seats.is_empty())
            .await?
            != rows.len() as u64
        {
            return Ok(false);
        }
        self.tell_tasks(connection, rows.iter().map(|row| row.id), commit.now)
            .await?;
        Ok(true)
    }

    async fn insert_open(
        &self,
        connection: &mut AnyConnection,
        rows: &[OpenRow<'_>],
        conflict: &str,
    ) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        if self.dialect == Dialect::Postgres {
            return Columns::default()
                .texts("task_id", rows.iter().map(|row| Some(row.task_id)))
                .texts(
                    "organization",
                    rows.iter().map(|row| Some(row.organization)),
                )
                .texts("primary_key", rows.iter().map(|row| Some(row.primary_key)))
                .texts("unique_key", rows.iter().map(|row| Some(row.unique_key)))
                .texts("plugin_id", rows.iter().map(|row| Some(row.plugin_id)))
                .texts("digest", rows.iter().map(|row| Some(row.digest)))
                .insert(connection, "open_input", conflict)
                .await;
        }
        let sql = format!(
            "INSERT INTO open_input (organization, primary_key, unique_key, task_id, plugin_id, digest) \
             SELECT r.organization, r.primary_key, r.unique_key, r.task_id, r.plugin_id, r.digest FROM {} WHERE true {conflict}",
            self.dialect.rows(
                "$1",
                "organization text, primary_key text, unique_key text, task_id text, plugin_id text, digest text"
            )
        );
        write_rows(connection, sql, rows).await
    }

    async fn insert_tasks(
        &self,
        connection: &mut AnyConnection,
        rows: &[TaskRow<'_>],
        sharing: bool,
    ) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let conflict = if sharing {
            "ON CONFLICT DO NOTHING"
        } else {
            ""
        };
        if self.dialect == Dialect::Postgres {
            let columns = Columns::default()
                .texts("id", rows.iter().map(|row| Some(row.id)))
                .texts("run_id", rows.iter().map(|row| Some(row.run_id)))
                .texts(
                    "organization",
                    rows.iter().map(|row| Some(row.organization)),
                )
                .texts("plugin_id", rows.iter().map(|row| Some(row.plugin_id)))
                .texts("worker_type", rows.iter().map(|row| Some(row.worker_type)))
                .texts("queue", rows.iter().map(|row| Some(row.queue)))
                .texts("state", rows.iter().map(|row| Some(row.state)))
                .numbers("class", rows.iter().map(|row| Some(row.class)))
                .numbers("priority", rows.iter().map(|row| Some(row.priority)))
                .numbers("rank", rows.iter().map(|row| Some(row.rank)))
                .texts("cause", rows.iter().map(|row| Some(row.cause)))
                .numbers("created_at", rows.iter().map(|row| Some(row.created_at)))
                .numbers(
                    "scheduled_for",
                    rows.iter().map(|row| Some(row.scheduled_for)),
                )
                .numbers("not_before", rows.iter().map(|row| row.not_before))
                .numbers("expires_at", rows.iter().map(|row| Some(row.expires_at)))
                .numbers("finished_at", rows.iter().map(|row| row.finished_at))
                .numbers("attempt", rows.iter().map(|_| Some(0)))
                .numbers("spent", rows.iter().map(|_| Some(0)))
                .texts("reason", rows.iter().map(|row| row.reason))
                .texts("inputs", rows.iter().map(|row| Some(row.inputs.as_str())))
                .texts(
                    "parameters",
                    rows.iter().map(|row| Some(row.parameters.as_str())),
                );
            let columns = if sharing {
                columns
                    .texts(
                        "deduplication_key",
                        rows.iter().map(|row| row.deduplication_key),
                    )
                    .texts("shared_from", rows.iter().map(|row| row.shared_from))
                    .numbers("on_behalf", rows.iter().map(|row| row.on_behalf))
            } else {
                columns
            };
            return columns.insert(connection, "task", conflict).await;
        }
        let sql = format!(
            "INSERT INTO task (id, run_id, organization, plugin_id, worker_type, queue, state, class, priority, rank, cause, \
             created_at, scheduled_for, not_before, expires_at, finished_at, attempt, spent, reason, inputs, parameters, deduplication_key, \
             shared_from, on_behalf) SELECT r.id, r.run_id, r.organization, r.plugin_id, r.worker_type, r.queue, r.state, r.class, r.priority, r.rank, r.cause, \
             r.created_at, r.scheduled_for, r.not_before, r.expires_at, r.finished_at, 0, 0, r.reason, r.inputs, r.parameters, \
             r.deduplication_key, r.shared_from, r.on_behalf FROM {} WHERE true {conflict}",
            self.dialect.rows(
                "$1",
                "id text, run_id text, organization text, plugin_id text, worker_type text, queue text, state text, \
                 class bigint, priority bigint, rank bigint, cause text, created_at bigint, scheduled_for bigint, not_before bigint, \
                 expires_at bigint, finished_at bigint, reason text, inputs text, parameters text, deduplication_key text, \
                 shared_from text, on_behalf bigint"
            )
        );
        write_rows(connection, sql, rows).await
    }

    async fn withdraw_planned(
        &self,
        connection: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<(), StoreError> {
        let mut by_reason: BTreeMap<&'static str, Vec<(&str, &str)>> = BTreeMap::new();
        for withdrawal in &commit.plan.withdrawn {
            by_reason
                .entry(withdrawal.reason)
                .or_default()
                .push((&withdrawal.task_id, &withdrawal.key.primary_key));
        }
        for (reason, leaving) in by_reason {
            self.leave_in(connection, &leaving, reason, Offered::Void, commit.now)
                .await?;
        }
        Ok(())
    }

    /// Open tasks that a duplicate made more urgent; the most urgent word about one counts.
    async fn write_urgent(
        &self,
        connection: &mut AnyConnection,
        urgent: &[(String, i64)],
    ) -> Result<(), StoreError> {
        let mut most: BTreeMap<&str, i64> = BTreeMap::new();
        for (task_id, priority) in urgent {
            let known = most.entry(task_id).or_insert(*priority);
            *known = (*known).min(*priority);
        }
        let rows: Vec<UrgentRow<'_>> = most
            .into_iter()
            .map(|(id, priority)| UrgentRow { id, priority })
            .collect();
        let sql = format!(
            "UPDATE task SET priority = r.priority FROM {} \
             WHERE task.id = r.id AND task.state IN ('queued', 'waiting') AND task.priority > r.priority",
            self.dialect.rows("$1", "id text, priority bigint")
        );
        write_rows(connection, sql, &rows).await?;
        Ok(())
    }

    /// Withdraws tasks that nobody has accepted; answers with those that were.
    pub(super) async fn withdraw_in(
        &self,
        connection: &mut AnyConnection,
        ids: &[&str],
        reason: &str,
        now: Moment,
    ) -> Result<Vec<String>, StoreError> {
        self.close_in(connection, ids, &WITHDRAWN, reason, now)
            .await
    }

    /// Ends tasks without a worker's word; answers with those that ended.
    pub(super) async fn close_in(
        &self,
        connection: &mut AnyConnection,
        ids: &[&str],
        closing: &Closing,
        reason: &str,
        now: Moment,
    ) -> Result<Vec<String>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<IdRow<'_>> = ids.iter().map(|id| IdRow { id }).collect();
        let list = format!("(SELECT r.id FROM {})", self.dialect.rows("$1", "id text"));
        let noted = self.noting(self.listened().tasks, now.micros());
        let withdrawn = sqlx::query(AssertSqlSafe(format!(
            "UPDATE task SET state = '{}', reason = $2, finished_at = $3, cancel_by = NULL, unannounced = {noted} \
             WHERE id IN {list} AND state IN ({}) RETURNING id, run_id, deduplication_key",
            closing.state, closing.from
        )))
        .bind(json_rows(&rows))
        .bind(reason)
        .bind(now.micros())
        .fetch_all(&mut *connection)
        .await?;
        let mut gone = Vec::new();
        let mut runs: HashMap<String, i64> = HashMap::new();
        let mut over = Vec::new();
        for row in &withdrawn {
            over.extend(Over::unshared(row)?);
            gone.push(row.try_get::<String, _>("id")?);
            *runs.entry(row.try_get("run_id")?).or_default() += 1;
        }
        let rows: Vec<IdRow<'_>> = gone.iter().map(|id| IdRow { id }).collect();
        if closing.executed {
            self.start_grace(connection, &rows, now).await?;
        }
        write_rows(
            connection,
            format!("DELETE FROM open_input WHERE task_id IN {list}"),
            &rows,
        )
        .await?;
        self.close_attempts(connection, &rows, closing.outcome, now)
            .await?;
        let mut names: Vec<String> = runs.keys().cloned().collect();
        names.sort();
        for run_id in &names {
            sqlx::query(AssertSqlSafe(closing.counts))
                .bind(runs.get(run_id).copied().unwrap_or(0))
                .bind(run_id)
                .execute(&mut *connection)
                .await?;
        }
        self.tell_tasks(connection, gone.iter().map(String::as_str), now)
            .await?;
        self.share_ends(connection, &over, now).await?;
        self.end_runs(connection, &names, now).await?;
        Ok(gone)
    }
}
