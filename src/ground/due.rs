//! What the clock makes due, decided.
//!
//! Every replica may decide an instant; the cursor of its schedule moves in the same transaction, and only one of
//! them moves it. Many schedules are decided at once, in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use metrics::counter;

use super::{Ground, count_plan, trail};
use crate::agenda::Place;
use crate::catalogue::Catalogue;
use crate::decide::{AHEAD, Desk, Due, Plan, due, occurrence, scope_of};
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::run::{Cause, Gap};
use crate::schedule::{Input, Organization, Schedule};
use crate::store::{Commit, Committed, CursorMove, StoreError, Wanted};
use crate::trigger::Scheduled;

/// Schedules that one transaction decides, at most.
const AT_ONCE: usize = 200;

/// So many cursors are asked for by name; where more are needed, all are read.
const FEW: usize = 1000;

/// A schedule with what is due of it.
struct Turn {
    place: Place,
    scheduled: Arc<Scheduled>,
    cursor: Moment,
    due: Due,
}

/// Decides what is due, of all schedules or of some before somebody changes them; answers with the next instant that
/// something is due at.
pub async fn decide_due(
    ground: &Ground,
    concerned: Option<&BTreeSet<String>>,
) -> Result<Option<Moment>, StoreError> {
    let mut agenda = ground.agenda.lock().await;
    loop {
        let revision = ground.store.catalogue_revision().await?;
        let catalogue = ground.catalogue_at(revision).await?;
        if agenda.is_behind(&catalogue) {
            let unknown = agenda.unknown(&catalogue);
            let some = (unknown.len() <= FEW).then_some(unknown.as_slice());
            let cursors = ground.store.cursors(some).await?.into_iter().collect();
            agenda.follow(&catalogue, &cursors);
        }
        let waiting: Vec<&str> = agenda.waiting().collect();
        if !waiting.is_empty() {
            let lasts = ground.store.last_runs(&waiting).await?;
            agenda.learn(&lasts.into_iter().collect());
        }
        let now = ground.clock.now();
        let mut places = agenda.due(now, now.plus(AHEAD));
        if let Some(ids) = concerned {
            places.retain(|(_, scheduled, _)| ids.contains(&scheduled.schedule.id));
        }
        if places.is_empty() || ground.stop.is_cancelled() {
            return Ok(agenda.next());
        }
        // Another replica may have decided some of them.
        let ids: Vec<&str> = places
            .iter()
            .map(|(_, scheduled, _)| scheduled.schedule.id.as_str())
            .collect();
        let cursors = ground.store.cursors(Some(&ids)).await?;
        let cursors: HashMap<String, Moment> = cursors.into_iter().collect();
        let mut turns = Vec::with_capacity(places.len());
        for (place, scheduled, last) in places {
            // One without a cursor is gone; the next catalogue says so.
            let cursor = cursors.get(&scheduled.schedule.id).copied().unwrap_or(now);
            match due(&scheduled, cursor, last, now) {
                None => agenda.decided(place, cursor),
                Some(due) => turns.push(Turn {
                    place,
                    scheduled,
                    cursor,
                    due,
                }),
            }
        }
        for turns in turns.chunks(AT_ONCE) {
            // Where somebody else moved a cursor or changed a declaration, what is left is decided by what is so now.
            if !together(ground, &catalogue, turns, now).await? {
                for turn in turns {
                    agenda.decided(turn.place, turn.due.until);
                }
            }
        }
    }
}

/// Decides some schedules in one transaction; answers whether it has to be tried again. Where the store refuses them
/// together, each is tried alone, so that one cannot hold up the others.
async fn together(
    ground: &Ground,
    catalogue: &Catalogue,
    turns: &[Turn],
    now: Moment,
) -> Result<bool, StoreError> {
    match commit(ground, catalogue, turns, now).await {
        Err(StoreError::Statement(error)) if turns.len() > 1 => {
            tracing::warn!(
                "the store refuses some schedules together; each is decided alone: {error}"
            );
            let mut stale = false;
            for turn in turns {
                match commit(ground, catalogue, std::slice::from_ref(turn), now).await {
                    Err(StoreError::Statement(error)) => {
                        let schedule = &turn.scheduled.schedule.name;
                        tracing::error!(schedule, "its instants cannot be stored: {error}");
                    }
                    committed => stale |= matches!(committed?, Committed::Stale(_)),
                }
            }
            Ok(stale)
        }
        committed => Ok(matches!(committed?, Committed::Stale(_))),
    }
}

async fn commit(
    ground: &Ground,
    catalogue: &Catalogue,
    turns: &[Turn],
    now: Moment,
) -> Result<Committed, StoreError> {
    let mut wanted = Wanted {
        among: catalogue.fellows(),
        ..Wanted::default()
    };
    for turn in turns.iter().filter(|turn| !turn.due.chosen.is_empty()) {
        for organization in organizations(catalogue, &turn.scheduled.schedule) {
            want(&mut wanted, &turn.scheduled.schedule, &organization.id);
        }
    }
    let mut gathered = ground.store.gather(&wanted).await?;
    let mut plan = Plan::default();
    let mut ids = ground.ids();
    let mut cursors = Vec::with_capacity(turns.len());
    let (mut decided, mut passed) = (0, 0);
    let mut by_reason: BTreeMap<&'static str, u64> = BTreeMap::new();
    for turn in turns {
        let schedule = &turn.scheduled.schedule;
        for gap in &turn.due.passed {
            passed += gap.count;
            *by_reason.entry(gap.reason.word()).or_default() += gap.count.unsigned_abs();
            plan.gaps.push(Gap {
                id: ids.next(now),
                schedule_id: schedule.id.clone(),
                schedule: schedule.name.clone(),
                schedule_revision: schedule.revision,
                organization: schedule.organization.clone().unwrap_or_default(),
                state: gap.state,
                reason: gap.reason,
                from: gap.from,
                until: gap.until,
                count: gap.count,
                after: turn.cursor,
            });
        }
        let mut desk = Desk {
            catalogue,
            now,
            ids: &mut ids,
            plan: &mut plan,
            findings: None,
        };
        for (instant, cause) in &turn.due.chosen {
            decided += 1;
            for organization in organizations(catalogue, schedule) {
                occurrence(
                    &mut desk,
                    &mut gathered.world,
                    &turn.scheduled,
                    organization,
                    *cause,
                    *instant,
                );
            }
        }
        cursors.push(CursorMove {
            schedule_id: schedule.id.clone(),
            from: turn.cursor,
            to: turn.due.until,
        });
    }
    trail::decided(&plan);
    let committed = ground
        .store
        .commit(&Commit {
            plan: &plan,
            cursors: &cursors,
            ..Commit::empty(now, catalogue.revision)
        })
        .await?;
    if committed == Committed::Done {
        counter!("muster_occurrences_decided_total").increment(decided);
        for (reason, many) in by_reason {
            counter!("muster_occurrences_skipped_total", "reason" => reason).increment(many);
        }
        if passed > 0 {
            tracing::info!(passed, "instants of the clock were passed over");
        }
        count_plan(&plan);
        ground.wake(&plan);
    }
    Ok(committed)
}

/// Those for whom a schedule has runs.
fn organizations<'a>(
    catalogue: &'a Catalogue,
    schedule: &'a Schedule,
) -> impl Iterator<Item = &'a Organization> {
    catalogue
        .organizations
        .values()
        .filter(|organization| schedule.concerns(&organization.id) && organization.enabled)
}

/// What an occurrence has to know.
fn want(wanted: &mut Wanted, schedule: &Schedule, organization: &str) {
    let expands = matches!(schedule.input, Input::Selected(_));
    let target = schedule.target.as_deref().filter(|_| !expands);
    wanted.scopes.extend(scope_of(
        schedule,
        organization,
        target,
        expands,
        Cause::OnTime,
    ));
    if !expands {
        wanted.keys.insert(ObjectKey {
            organization: organization.to_owned(),
            primary_key: target.unwrap_or("").to_owned(),
        });
    }
}
