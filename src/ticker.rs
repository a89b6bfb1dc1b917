//! Loop: what the clock makes due is decided, and what is to be found in the inventory is found, a page at a time.
//!
//! Every replica may decide an instant; the cursor of its schedule moves in the same transaction, and only one of
//! them moves it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use metrics::counter;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, Plan, facts, occurrence, page, selects};
use crate::ground::{Ground, count_plan, judged, persist};
use crate::moment::{Moment, Span};
use crate::object::{Object, ObjectKey};
use crate::query::narrow::{Narrow, narrow};
use crate::recurrence::next_of;
use crate::run::{Cause, Occasion, Reason, RunDraft};
use crate::schedule::{Input, Missed, Selection};
use crate::store::{Commit, Committed, CursorMove, ExpandingRun, Expansion, StoreError, Wanted};
use crate::trigger::Scheduled;

/// Inputs that one page of an expansion looks at.
const PAGE: i64 = 500;
/// An instant older than this was missed.
const ON_TIME: Span = Span::seconds(10);
/// Instants of one schedule that one tick looks at, at most; the rest comes with the next tick.
const INSTANTS: usize = 10_000;
/// The longest sleep: schedules can change beside this process.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    while !ground.stop.is_cancelled() {
        ground.beat("ticker");
        let called = ground.tick.notified();
        match persist!(ground, "ticker", step(&ground)) {
            Ok(next) => {
                let now = ground.clock.now();
                let pause = next.map_or(LONGEST_SLEEP, |next| next.since(now).as_duration());
                tokio::select! {
                    () = called => {}
                    () = tokio::time::sleep(pause.min(LONGEST_SLEEP)) => {}
                    () = ground.stop.cancelled() => {}
                }
            }
            Err(error) if error.passing() => {}
            Err(error @ StoreError::Statement(_)) => {
                tracing::error!("ticker: {error}");
                tokio::select! {
                    () = tokio::time::sleep(LONGEST_SLEEP) => {}
                    () = ground.stop.cancelled() => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Decides all that is due and expands all that is open; answers with the next instant that something is due at.
pub async fn step(ground: &Ground) -> Result<Option<Moment>, StoreError> {
    let next = decide_due(ground).await?;
    while expand(ground).await? {
        ground.beat("ticker");
        if ground.stop.is_cancelled() {
            break;
        }
    }
    Ok(next)
}

async fn decide_due(ground: &Ground) -> Result<Option<Moment>, StoreError> {
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
        count_plan(&plan, catalogue);
        ground.dispatch.notify_one();
    }
    Ok(committed)
}

/// One page of every run that still looks for its inputs; answers whether there is more to do.
async fn expand(ground: &Ground) -> Result<bool, StoreError> {
    let runs = ground.store.expanding(100).await?;
    let more = !runs.is_empty();
    for run in runs {
        expand_page(ground, &run).await?;
    }
    Ok(more)
}

/// The position of an expansion: the type that it is at, and the last key that it has seen.
fn read_position(position: &str) -> (&str, &str) {
    position.split_once('|').unwrap_or((position, ""))
}

/// One page of one run: read, judge, gate, commit with the new position.
async fn expand_page(ground: &Ground, run: &ExpandingRun) -> Result<(), StoreError> {
    let revision = ground.store.catalogue_revision().await?;
    let catalogue = ground.catalogue_at(revision).await?;
    let scheduled = catalogue
        .schedules
        .iter()
        .find(|scheduled| scheduled.schedule.id == run.schedule_id);
    let organization = catalogue.organizations.get(&run.organization);
    let (Some(scheduled), Some(organization)) = (scheduled, organization) else {
        // The schedule is gone: what was found stays, and nothing more is looked for.
        return finish(ground, run, revision).await;
    };
    let Input::Selected(selections) = &scheduled.schedule.input else {
        return finish(ground, run, revision).await;
    };
    let (at, after) = read_position(&run.position);
    let Some((object_type, selection)) = selections.iter().find(|(name, _)| name.as_str() >= at)
    else {
        return finish(ground, run, revision).await;
    };
    let after = if object_type == at { after } else { "" };
    let now = ground.clock.now();
    let narrowed = narrowed(selection, run, scheduled, &catalogue, now);
    let found = ground
        .store
        .objects_after(&run.organization, object_type, after, PAGE, &narrowed)
        .await?;
    let last = found.last().map(|object| object.key.primary_key.clone());
    let full = found.len() as i64 == PAGE;
    let (inputs, costly) =
        select(ground, &catalogue, selection, found, run, scheduled, now).await?;
    let wanted = Wanted {
        keys: inputs.iter().map(|object| object.key.clone()).collect(),
        inbox: Vec::new(),
    };
    let mut gathered = ground.store.gather(&wanted).await?;
    let mut plan = Plan::default();
    let mut ids = ground.ids();
    let mut draft = RunDraft {
        id: run.id.clone(),
        schedule_id: run.schedule_id.clone(),
        schedule: scheduled.schedule.name.clone(),
        schedule_revision: scheduled.schedule.revision,
        organization: run.organization.clone(),
        cause: run.cause,
        scheduled_for: run.scheduled_for,
        created_at: now,
        target: None,
        occasion: Occasion::default(),
        expands: true,
        total: 0,
        refused: run.refused.clone(),
    };
    if costly > 0 {
        add(&mut draft.refused, Reason::QueryTooCostly, costly);
        let refused = plan.refused.entry(Reason::QueryTooCostly).or_default();
        *refused += costly.unsigned_abs();
    }
    let mut desk = Desk {
        catalogue: &catalogue,
        now,
        ids: &mut ids,
        plan: &mut plan,
        findings: None,
    };
    page(
        &mut desk,
        &mut gathered.world,
        scheduled,
        organization,
        &mut draft,
        &inputs,
    );
    let next = match (last, full) {
        (Some(last), true) => Some(format!("{object_type}|{last}")),
        _ => selections
            .keys()
            .find(|name| name.as_str() > object_type.as_str())
            .map(|name| format!("{name}|")),
    };
    let commit = Commit {
        plan: &plan,
        expansion: Some(Expansion {
            run_id: run.id.clone(),
            from: run.position.clone(),
            to: next,
            found: draft.total,
            refused: draft.refused.clone(),
        }),
        ..Commit::empty(now, revision)
    };
    if ground.store.commit(&commit).await? == Committed::Done {
        count_plan(&plan, &catalogue);
        ground.dispatch.notify_one();
    }
    Ok(())
}

fn add(refused: &mut Vec<(Reason, i64)>, reason: Reason, many: i64) {
    match refused.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += many,
        None => refused.push((reason, many)),
    }
}

/// What the database may leave out of a page, because the selection takes none of it.
fn narrowed(
    selection: &Selection,
    run: &ExpandingRun,
    scheduled: &Scheduled,
    catalogue: &Catalogue,
    now: Moment,
) -> Narrow {
    match selection {
        Selection::Query(query) => {
            let nothing = Object::default();
            let parameters = &scheduled.schedule.parameters;
            let facts = facts(&nothing, &run.occasion, parameters, now, catalogue);
            narrow(query, &facts)
        }
        Selection::All | Selection::Set(_) => Narrow::Everything,
    }
}

/// The objects of a page that the selection takes, and how many its query was too costly for.
async fn select(
    ground: &Ground,
    catalogue: &Catalogue,
    selection: &Selection,
    found: Vec<Object>,
    run: &ExpandingRun,
    scheduled: &Scheduled,
    now: Moment,
) -> Result<(Vec<Object>, i64), StoreError> {
    let query = match selection {
        Selection::All => return Ok((found, 0)),
        Selection::Set(name) => {
            let held = found
                .into_iter()
                .filter(|object| catalogue.set_has(name, object));
            return Ok((held.collect(), 0));
        }
        Selection::Query(query) => query,
    };
    let parameters = &scheduled.schedule.parameters;
    let organization = &run.organization;
    judged(
        &ground.store,
        catalogue,
        organization,
        now,
        found,
        |object, world| selects(query, object, &run.occasion, parameters, now, world),
    )
    .await
}

async fn finish(ground: &Ground, run: &ExpandingRun, revision: i64) -> Result<(), StoreError> {
    ground
        .store
        .commit(&Commit {
            expansion: Some(Expansion {
                run_id: run.id.clone(),
                from: run.position.clone(),
                to: None,
                found: 0,
                refused: run.refused.clone(),
            }),
            ..Commit::empty(ground.clock.now(), revision)
        })
        .await?;
    Ok(())
}
