//! Who goes next out of a queue, chosen and claimed in one transaction.
//!
//! Here alone a transaction reads in order to decide: whoever offers from a queue holds its row, so replicas take turns,
//! and none spends the credit or the limits that another has spent. What nobody limits costs two statements more than
//! a plain claim.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::limits::Limits;
use super::tasks::{Claimed, OfferRow, TASK_COLUMNS, read_claimed};
use super::{Dialect, Store, StoreError, json_rows, moment, of_named, write_rows};
use crate::backlog::{Allowance, Backlog, GroupName, Turns, Waiting};
use crate::catalogue::Catalogue;
use crate::moment::Moment;

/// What is asked of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub queue: &'a str,
    /// No more tasks than this at once.
    pub most: i64,
    /// Messages at the broker that nobody has accepted; `None`: however many.
    pub credit: Option<i64>,
    /// What was accepted counts too, until its end.
    pub until_end: bool,
    /// One of so many goes to the oldest task of a lower class; 0: none does.
    pub lower_class_every: u32,
    /// Heads that are looked at, at most.
    pub heads: i64,
    /// What was to wait for an instant is looked at first.
    pub ripe: bool,
    /// Where limits and weights are written.
    pub catalogue: Option<&'a Catalogue>,
}

impl<'a> Ask<'a> {
    /// However much credit and whatever limits there are.
    pub fn of(queue: &'a str, most: i64) -> Ask<'a> {
        Ask {
            queue,
            most,
            credit: None,
            until_end: false,
            lower_class_every: 0,
            heads: 100_000,
            ripe: true,
            catalogue: None,
        }
    }
}

/// A queue that has something which could go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    pub queue: String,
    /// Something was to wait for an instant that has come.
    pub ripe: bool,
}

/// What a queue gave.
#[derive(Debug, Default)]
pub struct Claims {
    /// In the order in which they go.
    pub tasks: Vec<Claimed>,
    /// There may be more to claim at once.
    pub more: bool,
    /// When a rate allows the next, where one holds tasks back.
    pub next: Option<Moment>,
}

/// Groups that one look takes in, at most.
const GROUPS: i64 = 512;
/// What was put off is looked at again, so many at a time.
const RIPE: i64 = 1000;
/// Before every rank, priority and id.
const FIRST: (i64, i64, &str) = (i64::MIN, i64::MIN, "");

#[derive(Serialize)]
struct QueueRow<'a> {
    q: &'a str,
}

#[derive(Serialize)]
struct GroupRow<'a> {
    o: &'a str,
    p: &'a str,
    priority: i64,
    rank: i64,
    id: &'a str,
}

#[derive(Serialize)]
struct ChosenRow<'a> {
    id: &'a str,
}

/// A queue's row, held until the end of the transaction.
struct Held {
    turns: Turns,
    paused: bool,
}

/// One class of a queue with its groups, in the order of the turns.
struct Room {
    class: i64,
    groups: Vec<(String, String)>,
    /// The first organisation that is not among them, where not all are.
    stop: Option<String>,
}

const READY: &str = "state = 'queued' AND not_before IS NULL";

impl Store {
    /// Those of some queues that have a task which could go now, and the revision of the catalogue.
    pub async fn busy(
        &self,
        queues: impl Iterator<Item = &str>,
        now: Moment,
    ) -> Result<(Vec<Busy>, i64), StoreError> {
        let rows: Vec<QueueRow<'_>> = queues.map(|q| QueueRow { q }).collect();
        // The order makes it take the index: by the statistics of a minute ago most of the table may have been ready, and
        // somewhere in it the next of them would soon be met.
        let sql = format!(
            "SELECT b.name, b.ready, b.ripe, (SELECT value FROM revision WHERE name = 'catalogue') AS revision FROM (SELECT r.q AS name, \
             CAST(CASE WHEN (SELECT class FROM task WHERE queue = r.q AND {READY} ORDER BY class, id LIMIT 1) IS NULL \
             THEN 0 ELSE 1 END AS bigint) AS ready, \
             CAST(CASE WHEN EXISTS (SELECT 1 FROM task WHERE queue = r.q AND state = 'queued' AND not_before <= $2) \
             THEN 1 ELSE 0 END AS bigint) AS ripe FROM {}) AS b WHERE b.ready + b.ripe > 0 ORDER BY b.name",
            self.dialect.rows("$1", "q text")
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&rows))
            .bind(now.micros())
            .fetch_all(&self.pool)
            .await?;
        let mut busy = Vec::with_capacity(found.len());
        let mut revision = 0;
        for row in &found {
            revision = row.try_get("revision")?;
            busy.push(Busy {
                queue: row.try_get("name")?,
                ripe: row.try_get::<i64, _>("ripe")? != 0,
            });
        }
        Ok((busy, revision))
    }

    /// Takes the tasks of a queue whose turn it is, whatever their credit and limits.
    pub async fn claim(
        &self,
        queue: &str,
        most: i64,
        now: Moment,
        lease: Moment,
    ) -> Result<Vec<Claimed>, StoreError> {
        Ok(self
            .claim_turns(&Ask::of(queue, most), now, lease)
            .await?
            .tasks)
    }

    /// Takes the tasks of a queue whose turn it is, as credit and limits allow, and makes an attempt of each. They are
    /// this replica's to publish until `lease`; after that anybody's, with the same number.
    pub async fn claim_turns(
        &self,
        ask: &Ask<'_>,
        now: Moment,
        lease: Moment,
    ) -> Result<Claims, StoreError> {
        let mut transaction = self.begin().await?;
        let held = self.hold_queue(&mut transaction, ask.queue).await?;
        if held.paused {
            transaction.rollback().await?;
            return Ok(Claims::default());
        }
        let ripened = match ask.ripe {
            true => self.ripen(&mut transaction, ask.queue, now).await?,
            false => 0,
        };
        let most = match ask.credit {
            None => ask.most,
            Some(credit) => {
                let spent = self.credit_spent(&mut transaction, ask, credit).await?;
                ask.most.min(credit - spent)
            }
        };
        let rooms = match most {
            ..=0 => Vec::new(),
            _ => {
                self.rooms(&mut transaction, ask.queue, &held.turns.next)
                    .await?
            }
        };
        if rooms.is_empty() {
            transaction.commit().await?;
            return Ok(Claims::default());
        }
        let groups = rooms.iter().flat_map(|room| &room.groups);
        let mut limits = match ask.catalogue {
            Some(catalogue) => Limits::of(catalogue, groups),
            None => Limits::default(),
        };
        self.hold_limits(&mut transaction, &mut limits).await?;
        let mut allowance = limits.allowance(now);
        let mut backlog = Backlog::resumed(ask.lower_class_every, held.turns.clone());
        let chosen = self
            .choose(
                &mut transaction,
                ask,
                most,
                &rooms,
                &mut backlog,
                &mut allowance,
            )
            .await?;
        let claimed = self
            .take(&mut transaction, ask.queue, &chosen, now, lease)
            .await?;
        let turns = backlog.turns();
        if turns != held.turns {
            self.keep_turns(&mut transaction, ask.queue, &turns).await?;
        }
        self.spend_limits(&mut transaction, &mut limits, &claimed, now)
            .await?;
        transaction.commit().await?;
        // With all credit spent, whoever accepts something calls.
        let full = chosen.len() as i64 == ask.most;
        Ok(Claims {
            tasks: self.complete(claimed).await?,
            more: full || backlog.stopped() || ripened == RIPE as u64,
            next: limits.next(now),
        })
    }

    async fn hold_queue(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
    ) -> Result<Held, StoreError> {
        let sql = format!(
            "SELECT dispatched, turns, paused_at FROM queue WHERE name = $1 {}",
            self.dialect.for_update_of("queue")
        );
        for _ in 0..2 {
            let row = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(queue)
                .fetch_optional(&mut *connection)
                .await?;
            if let Some(row) = row {
                let dispatched: i64 = row.try_get("dispatched")?;
                let turns: String = row.try_get("turns")?;
                return Ok(Held {
                    turns: Turns {
                        dispatched: u64::try_from(dispatched).unwrap_or(0),
                        next: read_turns(&turns),
                    },
                    paused: row.try_get::<Option<i64>, _>("paused_at")?.is_some(),
                });
            }
            sqlx::query("INSERT INTO queue (name) VALUES ($1) ON CONFLICT DO NOTHING")
                .bind(queue)
                .execute(&mut *connection)
                .await?;
        }
        Err(StoreError::Unusable(format!(
            "the row of queue {queue} went while it was wanted"
        )))
    }

    async fn keep_turns(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        turns: &Turns,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE queue SET dispatched = $1, turns = $2 WHERE name = $3")
            .bind(i64::try_from(turns.dispatched).unwrap_or(0))
            .bind(serde_json::to_string(&turns.next).unwrap_or_default())
            .bind(queue)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// What was to wait for an instant that has come waits no longer.
    async fn ripen(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        now: Moment,
    ) -> Result<u64, StoreError> {
        let sql = format!(
            "UPDATE task SET not_before = NULL WHERE id IN (SELECT id FROM task WHERE queue = $1 AND state = 'queued' \
             AND not_before <= $2 ORDER BY not_before LIMIT $3 {})",
            self.dialect.skip_locked()
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(now.micros())
            .bind(RIPE)
            .execute(connection)
            .await?;
        Ok(done.rows_affected())
    }

    /// Counted no further than to where there is no credit left.
    async fn credit_spent(
        &self,
        connection: &mut AnyConnection,
        ask: &Ask<'_>,
        credit: i64,
    ) -> Result<i64, StoreError> {
        let states = if ask.until_end {
            "state IN ('dispatched', 'running')"
        } else {
            "state = 'dispatched'"
        };
        let sql = format!(
            "SELECT count(*) AS many FROM (SELECT 1 FROM task WHERE queue = $1 AND {states} LIMIT $2) AS offered"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(ask.queue)
            .bind(credit)
            .fetch_one(connection)
            .await?;
        Ok(row.try_get("many")?)
    }

    /// The classes of a queue with their groups, from whose turn it is.
    async fn rooms(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        turns: &BTreeMap<i64, (String, i64)>,
    ) -> Result<Vec<Room>, StoreError> {
        let all = self
            .groups(
                connection,
                queue,
                (i64::MIN, "", ""),
                (i64::MAX, ""),
                GROUPS,
            )
            .await?;
        let complete = (all.len() as i64) < GROUPS;
        let mut classes: BTreeMap<i64, Vec<(String, String)>> = BTreeMap::new();
        for (class, organization, plugin_id) in all {
            classes
                .entry(class)
                .or_default()
                .push((organization, plugin_id));
        }
        let mut rooms = Vec::new();
        if complete {
            for (class, mut groups) in classes {
                if let Some((next, _)) = turns.get(&class) {
                    let at = groups.partition_point(|(organization, _)| organization < next);
                    groups.rotate_left(at);
                }
                rooms.push(Room {
                    class,
                    groups,
                    stop: None,
                });
            }
            return Ok(rooms);
        }
        // Too many to see all: of each class those whose turn is next.
        let mut class = i64::MIN;
        loop {
            let first = self
                .groups(connection, queue, (class, "", ""), (i64::MAX, ""), 1)
                .await?;
            let Some((found, _, _)) = first.into_iter().next() else {
                return Ok(rooms);
            };
            let next = turns.get(&found).map_or("", |(next, _)| next.as_str());
            let mut groups = self
                .groups(
                    connection,
                    queue,
                    (found, next, ""),
                    (found + 1, ""),
                    GROUPS,
                )
                .await?;
            let mut whole = (groups.len() as i64) < GROUPS;
            if whole && !next.is_empty() {
                let rest = GROUPS - groups.len() as i64;
                let before = self
                    .groups(connection, queue, (found, "", ""), (found, next), rest)
                    .await?;
                whole = (before.len() as i64) < rest;
                groups.extend(before);
            }
            let mut groups: Vec<(String, String)> =
                groups.into_iter().map(|(_, o, p)| (o, p)).collect();
            let mut stop = None;
            if !whole {
                // The last organisation may have more plugins than were seen: it is next time's first.
                let last = groups.last().map(|(organization, _)| organization.clone());
                let last = last.unwrap_or_default();
                let at = groups.partition_point(|(organization, _)| *organization != last);
                if at > 0 {
                    groups.truncate(at);
                    stop = Some(last);
                } else {
                    // All of them are of one organisation, and whoever comes after it has the next turn.
                    stop = Some(format!("{last}\u{1}"));
                }
            }
            rooms.push(Room {
                class: found,
                groups,
                stop,
            });
            class = found + 1;
        }
    }

    /// Groups that have a task which may go, in their order, from one place to another, each found by one step down
    /// the index.
    async fn groups(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        from: (i64, &str, &str),
        before: (i64, &str),
        most: i64,
    ) -> Result<Vec<GroupName>, StoreError> {
        if most <= 0 {
            return Ok(Vec::new());
        }
        let sql = format!(
            "WITH RECURSIVE g(class, organization, plugin_id, number) AS (\
             SELECT CAST($2 AS bigint), CAST($3 AS text) {collate}, CAST($4 AS text) {collate}, CAST(0 AS bigint) \
             UNION ALL SELECT t.class, t.organization, t.plugin_id, g.number + 1 FROM g JOIN task t ON t.id = (\
             SELECT n.id FROM task n WHERE n.queue = $1 AND n.{READY} \
             AND (n.class, n.organization, n.plugin_id) > (g.class, g.organization, g.plugin_id) \
             ORDER BY n.class, n.organization, n.plugin_id LIMIT 1) \
             WHERE g.number < $5 AND (t.class, t.organization) < ($6, $7)) \
             SELECT class, organization, plugin_id FROM g WHERE number > 0 ORDER BY number",
            collate = self.dialect.by_code_point()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(from.0)
            .bind(from.1)
            .bind(from.2)
            .bind(most)
            .bind(before.0)
            .bind(before.1)
            .fetch_all(connection)
            .await?;
        let read = rows.iter().map(|row| {
            Ok((
                row.try_get("class")?,
                row.try_get("organization")?,
                row.try_get("plugin_id")?,
            ))
        });
        Ok(read.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Whose turn it is. Heads of lower classes are read only when no higher class has anybody left.
    async fn choose(
        &self,
        connection: &mut AnyConnection,
        ask: &Ask<'_>,
        most: i64,
        rooms: &[Room],
        backlog: &mut Backlog,
        allowance: &mut Allowance,
    ) -> Result<Vec<Waiting>, StoreError> {
        let most = usize::try_from(most).unwrap_or(0);
        let every = usize::try_from(ask.lower_class_every).unwrap_or(0);
        if let Some(shares) = most.checked_div(every) {
            for room in rooms.iter().skip(1) {
                let many = shares as i64 + 1;
                let oldest = self.oldest(connection, ask.queue, room.class, many);
                for waiting in oldest.await? {
                    backlog.put_old(&waiting);
                }
            }
        }
        let mut chosen: Vec<Waiting> = Vec::with_capacity(most);
        for room in rooms {
            let open: Vec<&(String, String)> = room
                .groups
                .iter()
                .filter(|(organization, plugin_id)| allowance.permits(plugin_id, organization))
                .collect();
            if open.is_empty() {
                if let Some(stop) = &room.stop {
                    backlog.pass(room.class, stop);
                }
                continue;
            }
            let left = most - chosen.len();
            // Where there is one group it gives all; where there are many, each a few at first.
            let each = (2 * left / open.len().max(1)).clamp(4, left.max(4));
            let each = each.min(usize::try_from(ask.heads).unwrap_or(1) / open.len().max(1));
            let each = each.max(1) as i64;
            let wanted: Vec<GroupRow<'_>> = open
                .iter()
                .map(|(o, p)| GroupRow {
                    o,
                    p,
                    priority: FIRST.0,
                    rank: FIRST.1,
                    id: FIRST.2,
                })
                .collect();
            let mut places = self
                .put_heads(connection, ask, room, &wanted, each, &chosen, backlog)
                .await?;
            if let Some(stop) = &room.stop {
                backlog.stop_before(room.class, stop);
            }
            loop {
                chosen.extend(backlog.next(most - chosen.len(), allowance));
                let dry = backlog.dry();
                if dry.is_empty() {
                    break;
                }
                let after: Vec<(GroupName, (i64, i64, String))> = dry
                    .into_iter()
                    .filter_map(|group| Some((group.clone(), places.remove(&group)?)))
                    .collect();
                let wanted: Vec<GroupRow<'_>> = after
                    .iter()
                    .map(|((_, o, p), (priority, rank, id))| GroupRow {
                        o,
                        p,
                        priority: *priority,
                        rank: *rank,
                        id,
                    })
                    .collect();
                let left = (most - chosen.len()).max(1) as i64;
                let further = self
                    .put_heads(connection, ask, room, &wanted, left, &chosen, backlog)
                    .await?;
                places.extend(further);
            }
            if chosen.len() >= most || backlog.stopped() {
                break;
            }
        }
        Ok(chosen)
    }

    /// Hands the next heads of some groups over; answers with the place of the last of each group that has more.
    #[allow(clippy::too_many_arguments)] // one look, and all that it has come to
    async fn put_heads(
        &self,
        connection: &mut AnyConnection,
        ask: &Ask<'_>,
        room: &Room,
        wanted: &[GroupRow<'_>],
        each: i64,
        chosen: &[Waiting],
        backlog: &mut Backlog,
    ) -> Result<HashMap<GroupName, (i64, i64, String)>, StoreError> {
        let mut places: HashMap<GroupName, (i64, i64, String)> = HashMap::new();
        if wanted.is_empty() {
            return Ok(places);
        }
        // Of a lower class some may have gone for their age; they still wait as far as the store knows.
        let gone: HashSet<&str> = chosen
            .iter()
            .filter(|waiting| waiting.class == room.class)
            .map(|waiting| waiting.id.as_str())
            .collect();
        let each = each + gone.len() as i64;
        let columns = "n.id, n.organization, n.plugin_id, n.priority, n.rank, n.created_at";
        let heads = |columns: &str| {
            format!(
                "SELECT {columns} FROM task n WHERE n.queue = $1 AND n.class = $2 AND n.organization = r.o \
                 AND n.plugin_id = r.p AND n.{READY} AND n.cancel_by IS NULL \
                 AND (n.priority, n.rank, n.id) > (r.priority, r.rank, r.id) ORDER BY n.priority, n.rank, n.id LIMIT $3"
            )
        };
        let rows = self.dialect.rows(
            "$4",
            "o text, p text, priority bigint, rank bigint, id text",
        );
        let sql = match self.dialect {
            Dialect::Postgres => {
                format!(
                    "SELECT n.* FROM {rows} CROSS JOIN LATERAL ({}) n",
                    heads(columns)
                )
            }
            Dialect::Sqlite => {
                format!(
                    "SELECT {columns} FROM {rows} JOIN task n ON n.id IN ({})",
                    heads("n.id")
                )
            }
        };
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(ask.queue)
            .bind(room.class)
            .bind(each)
            .bind(json_rows(wanted))
            .fetch_all(connection)
            .await?;
        let mut found: HashMap<(String, String), Vec<Waiting>> = HashMap::new();
        for row in &rows {
            let waiting = read_waiting(row, room.class)?;
            found
                .entry((waiting.organization.clone(), waiting.plugin_id.clone()))
                .or_default()
                .push(waiting);
        }
        let organizations = ask.catalogue.map(|catalogue| &catalogue.organizations);
        for row in wanted {
            let Some(heads) = found.remove(&(row.o.to_owned(), row.p.to_owned())) else {
                continue;
            };
            let weight = organizations
                .and_then(|known| known.get(row.o))
                .map_or(1, |organization| organization.weight);
            let group = (room.class, row.o.to_owned(), row.p.to_owned());
            if heads.len() as i64 == each {
                let last = heads
                    .iter()
                    .map(|head| (head.priority, head.rank, &head.id))
                    .max();
                if let Some((priority, rank, id)) = last {
                    places.insert(group.clone(), (priority, rank, id.clone()));
                    backlog.expect_more(group);
                }
            }
            for head in heads {
                if !gone.contains(head.id.as_str()) {
                    backlog.put(head, weight);
                }
            }
        }
        Ok(places)
    }

    async fn oldest(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        class: i64,
        many: i64,
    ) -> Result<Vec<Waiting>, StoreError> {
        let sql = format!(
            "SELECT id, organization, plugin_id, priority, rank, created_at FROM task WHERE queue = $1 AND class = $2 \
             AND {READY} AND cancel_by IS NULL ORDER BY id LIMIT $3"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(class)
            .bind(many)
            .fetch_all(connection)
            .await?;
        let read = rows.iter().map(|row| read_waiting(row, class));
        Ok(read.collect::<Result<_, _>>()?)
    }

    /// Makes an attempt of each that still waits and that nobody else is at.
    async fn take(
        &self,
        connection: &mut AnyConnection,
        queue: &str,
        chosen: &[Waiting],
        now: Moment,
        lease: Moment,
    ) -> Result<Vec<Claimed>, StoreError> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<ChosenRow<'_>> = chosen
            .iter()
            .map(|waiting| ChosenRow { id: &waiting.id })
            .collect();
        let picked = format!(
            "WITH picked AS MATERIALIZED (SELECT t.id AS picked_id FROM {} JOIN task t ON t.id = r.id \
             WHERE {} {})",
            self.dialect.rows("$1", "id text"),
            of_named("t.queue = $2 AND t.state = 'queued' AND t.cancel_by IS NULL"),
            self.dialect.skip_locked_of("t")
        );
        let update = format!(
            "UPDATE task SET state = 'dispatched', attempt = attempt + 1 FROM picked \
             WHERE id = picked.picked_id RETURNING {TASK_COLUMNS}"
        );
        // Where one statement may change two tables, it does.
        let sql = match self.dialect {
            Dialect::Postgres => format!(
                "{picked}, taken AS ({update}), made AS (INSERT INTO attempt (task_id, number, offered_at, claimed_until) \
                 SELECT id, attempt, {}, {} FROM taken) SELECT {TASK_COLUMNS} FROM taken",
                now.micros(),
                lease.micros()
            ),
            Dialect::Sqlite => format!("{picked} {update}"),
        };
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json_rows(&ids))
            .bind(queue)
            .fetch_all(&mut *connection)
            .await?;
        let mut claimed = rows
            .iter()
            .map(read_claimed)
            .collect::<Result<Vec<_>, _>>()?;
        let order: HashMap<&str, usize> = chosen
            .iter()
            .enumerate()
            .map(|(at, waiting)| (waiting.id.as_str(), at))
            .collect();
        claimed.sort_by_key(|task| order.get(task.task_id.as_str()).copied());
        if self.dialect == Dialect::Sqlite {
            let offers: Vec<OfferRow<'_>> = claimed
                .iter()
                .map(|task| OfferRow {
                    id: &task.task_id,
                    number: task.attempt,
                })
                .collect();
            let sql = format!(
                "INSERT INTO attempt (task_id, number, offered_at, claimed_until) \
                 SELECT r.id, r.number, {}, {} FROM {}",
                now.micros(),
                lease.micros(),
                self.dialect.rows("$1", "id text, number bigint")
            );
            write_rows(&mut *connection, sql, &offers).await?;
        }
        let taken = claimed.iter().map(|task| task.task_id.as_str());
        self.tell_tasks(connection, taken, now).await?;
        Ok(claimed)
    }
}

fn read_waiting(row: &AnyRow, class: i64) -> Result<Waiting, sqlx::Error> {
    Ok(Waiting {
        id: row.try_get("id")?,
        class,
        organization: row.try_get("organization")?,
        plugin_id: row.try_get("plugin_id")?,
        priority: row.try_get("priority")?,
        rank: row.try_get("rank")?,
        created_at: moment(row, "created_at")?,
    })
}

fn read_turns(text: &str) -> BTreeMap<i64, (String, i64)> {
    serde_json::from_str(text).unwrap_or_default()
}
