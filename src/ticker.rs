//! Loop: what the clock makes due is decided.
//!
//! Every replica may decide an instant; the cursor of its schedule moves in the same transaction, and only one of
//! them moves it.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use metrics::counter;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, Plan, occurrence};
use crate::ground::{Ground, count_plan};
use crate::moment::{Moment, Span};
use crate::object::ObjectKey;
use crate::recurrence::next_of;
use crate::run::Cause;
use crate::schedule::Missed;
use crate::store::{Commit, Committed, CursorMove, StoreError, Wanted};
use crate::trigger::Scheduled;

/// An instant older than this was missed.
const ON_TIME: Span = Span::seconds(10);
/// Instants of one schedule that one tick looks at, at most; the rest comes with the next tick.
const INSTANTS: usize = 10_000;
/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    ground
        .by_turns("ticker", &ground.tick, || step(&ground))
        .await
}

/// Decides all that is due; answers with the next instant that something is due at.
pub async fn step(ground: &Ground) -> Result<Option<Moment>, StoreError> {
    let revision = ground.store.catalogue_revision().await?;
    let catalogue = ground.catalogue_at(revision).await?;
    let timed: Vec<&Arc<Scheduled>> = catalogue
        .schedules
        .iter()
        .filter(|scheduled| !scheduled.schedule.recurrences.is_empty())
        .collect();
    if timed.is_empty() {
        return Ok(None);
    }
    let cursors: HashMap<String, Moment> = ground.store.cursors().await?.into_iter().collect();
    let now = ground.clock.now();
    let mut earliest: Option<Moment> = None;
    for scheduled in timed {
        let Some(&cursor) = cursors.get(&scheduled.schedule.id) else {
            continue;
        };
        let next = decide_schedule(ground, &catalogue, scheduled, cursor, now).await?;
        earliest = match (earliest, next) {
            (Some(known), Some(next)) => Some(known.min(next)),
            (known, next) => known.or(next),
        };
    }
    Ok(earliest)
}

/// Decides the instants of one schedule in (cursor, now]; answers with the first one after.
async fn decide_schedule(
    ground: &Ground,
    catalogue: &Catalogue,
    scheduled: &Scheduled,
    cursor: Moment,
    now: Moment,
) -> Result<Option<Moment>, StoreError> {
    let schedule = &scheduled.schedule;
    // The zone was looked up when the schedule was read.
    let zone = TimeZone::get(&schedule.timezone).unwrap_or(TimeZone::UTC);
    let start = schedule.starts_at.unwrap_or(schedule.created_at);
    let mut instants = Vec::new();
    let mut at = cursor.max(
        schedule
            .starts_at
            .map_or(cursor, |start| start.minus(Span::from_micros(1))),
    );
    let mut next = None;
    while instants.len() < INSTANTS {
        next = next_of(&schedule.recurrences, at, &zone, start, schedule.ends_at);
        match next {
            Some(instant) if instant <= now => {
                instants.push(instant);
                at = instant;
            }
            _ => break,
        }
    }
    let Some(&last) = instants.last() else {
        return Ok(next);
    };
    let chosen = if schedule.awake() {
        choose(scheduled, &instants, now)
    } else {
        Vec::new()
    };
    let skipped = instants.len() - chosen.len();
    if skipped > 0 {
        counter!("muster_occurrences_skipped_total").increment(skipped as u64);
        tracing::info!(
            schedule = schedule.name,
            skipped,
            "instants of the clock were passed over"
        );
    }
    let moved = CursorMove {
        schedule_id: schedule.id.clone(),
        from: cursor,
        to: last,
    };
    let committed = commit_occurrences(ground, catalogue, scheduled, &chosen, now, moved).await?;
    if committed == Committed::Stale("catalogue") {
        // Decided anew at once, by the newer catalogue.
        ground.tick.notify_one();
    }
    Ok(next.filter(|next| *next > now).or(Some(now)))
}

/// Which of the instants run: those on time, and of the older ones what the schedule says.
fn choose(scheduled: &Scheduled, instants: &[Moment], now: Moment) -> Vec<(Moment, Cause)> {
    let schedule = &scheduled.schedule;
    let on_time = now.minus(ON_TIME);
    let window = now.minus(schedule.catchup_window);
    let (missed, fresh): (Vec<Moment>, Vec<Moment>) =
        instants.iter().partition(|instant| **instant < on_time);
    let within: Vec<Moment> = missed
        .into_iter()
        .filter(|instant| *instant >= window)
        .collect();
    let most = usize::try_from(schedule.catchup_max).unwrap_or(usize::MAX);
    let caught: Vec<Moment> = match schedule.missed {
        Missed::Skip => Vec::new(),
        // The newest of all; a fresh one is that.
        Missed::Latest if fresh.is_empty() => within.last().copied().into_iter().collect(),
        Missed::Latest => Vec::new(),
        Missed::All => within.iter().rev().take(most).rev().copied().collect(),
    };
    caught
        .into_iter()
        .map(|instant| (instant, Cause::CatchUp))
        .chain(fresh.into_iter().map(|instant| (instant, Cause::OnTime)))
        .collect()
}

async fn commit_occurrences(
    ground: &Ground,
    catalogue: &Catalogue,
    scheduled: &Scheduled,
    chosen: &[(Moment, Cause)],
    now: Moment,
    moved: CursorMove,
) -> Result<Committed, StoreError> {
    let schedule = &scheduled.schedule;
    let concerned: Vec<_> = catalogue
        .organizations
        .values()
        .filter(|organization| schedule.concerns(&organization.id) && organization.enabled)
        .collect();
    let mut wanted = Wanted::default();
    for organization in &concerned {
        for primary_key in ["", schedule.target.as_deref().unwrap_or("")] {
            wanted.keys.insert(ObjectKey {
                organization: organization.id.clone(),
                primary_key: primary_key.to_owned(),
            });
        }
    }
    let mut gathered = ground.store.gather(&wanted).await?;
    let mut plan = Plan::default();
    let mut ids = ground.ids();
    let mut desk = Desk {
        catalogue,
        now,
        ids: &mut ids,
        plan: &mut plan,
        findings: None,
    };
    for (instant, cause) in chosen {
        for organization in &concerned {
            occurrence(
                &mut desk,
                &mut gathered.world,
                scheduled,
                organization,
                *cause,
                *instant,
            );
        }
    }
    let committed = ground
        .store
        .commit(&Commit {
            plan: &plan,
            cursors: &[moved],
            ..Commit::empty(now, catalogue.revision)
        })
        .await?;
    if committed == Committed::Done {
        counter!("muster_occurrences_decided_total").increment(chosen.len() as u64);
        count_plan(&plan, &catalogue.rules);
        ground.wake(&plan);
    }
    Ok(committed)
}
