//! Loop: the inputs of runs that take them from the inventory are found, a page at a time.
//!
//! A run keeps its position, and a page's tasks are stored with the next one: memory stays flat for a million inputs,
//! and whoever is next goes on where somebody stopped.

use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, Plan, facts, page, selects};
use crate::ground::{Ground, count_plan, judged};
use crate::moment::Moment;
use crate::object::Object;
use crate::query::narrow::{Narrow, narrow};
use crate::run::{Occasion, Reason, RunDraft};
use crate::schedule::{Input, Selection};
use crate::store::{Commit, Committed, ExpandingRun, Expansion, StoreError, Wanted};
use crate::trigger::Scheduled;

/// Inputs that one page looks at.
const PAGE: i64 = 500;

/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    ground
        .by_turns("expansion", &ground.expand, || step(&ground))
        .await
}

/// Expands all that is open; there is no next instant.
pub async fn step(ground: &Ground) -> Result<Option<Moment>, StoreError> {
    while round(ground).await? {
        ground.beat("expansion");
        if ground.stop.is_cancelled() {
            break;
        }
    }
    Ok(None)
}

/// One page of every run that still looks for its inputs; answers whether there is more to do.
async fn round(ground: &Ground) -> Result<bool, StoreError> {
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
