//! Runs that look for their inputs, under both rules at once: each page of the inventory is read once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{FIRST, HEAVY, MOST, Read, Replayed};
use crate::decide::selects;
use crate::ground::{Ground, judged};
use crate::object::Object;
use crate::query::narrow::Narrow;
use crate::rehearsal::{Differences, Page, Replay};
use crate::run::{Cause, Occasion};
use crate::schedule::{Input, Organization, Selection};
use crate::store::{Reading, StoreError};
use crate::trigger::Scheduled;

/// A run that looks for its inputs, under one of the rules.
pub(super) struct Look {
    pub scheduled: Arc<Scheduled>,
    pub organization: Organization,
    pub cause: Cause,
    pub occasion: Occasion,
}

impl Look {
    /// What it takes of a type.
    fn selection(&self, object_type: &str) -> Option<&Selection> {
        match &self.scheduled.schedule.input {
            Input::Selected(selections) => selections.get(object_type),
            Input::Given => None,
        }
    }

    fn types(&self) -> impl Iterator<Item = &String> {
        let selections = match &self.scheduled.schedule.input {
            Input::Selected(selections) => Some(selections),
            Input::Given => None,
        };
        selections
            .into_iter()
            .flat_map(|selections| selections.keys())
    }

    fn page<'a>(&'a self, found: &'a [Object], last: bool, ground: &Ground) -> Page<'a> {
        Page {
            scheduled: &self.scheduled,
            organization: &self.organization,
            cause: self.cause,
            occasion: &self.occasion,
            found,
            last,
            now: ground.clock.now(),
        }
    }
}

/// Finds the inputs of a run, page by page, and decides them; no more objects than the limit are looked at.
pub(super) async fn expand(
    ground: &Ground,
    asked: &Replayed,
    stages: &mut [Replay; 2],
    looks: &[Option<Look>; 2],
    differences: &mut Differences,
    read: &mut Read,
) -> Result<(), StoreError> {
    let there = || looks.iter().flatten();
    let types: BTreeSet<&String> = there().flat_map(Look::types).collect();
    let organizations: BTreeSet<&str> = there().map(|look| look.organization.id.as_str()).collect();
    for organization in organizations {
        let mut left = usize::try_from(asked.limit).unwrap_or(usize::MAX);
        for object_type in &types {
            let mut pages = Pages::of(ground, organization, object_type);
            loop {
                let mut found = pages.next().await?;
                if found.len() > left {
                    found.truncate(left);
                    let cut = there().map(|look| look.scheduled.schedule.id.clone());
                    read.cut.extend(cut);
                }
                left -= found.len();
                if found.is_empty() {
                    break;
                }
                for (stage, look) in stages.iter_mut().zip(looks) {
                    if let Some(look) = look
                        && look.organization.id == organization
                        && let Some(selection) = look.selection(object_type)
                    {
                        let inputs = taken(ground, stage, look, selection, found.clone()).await?;
                        decide(ground, stage, look.page(&inputs, false, ground)).await?;
                    }
                }
                let [now, would] = &mut *stages;
                differences.note(now, would);
            }
        }
    }
    for (stage, look) in stages.iter_mut().zip(looks) {
        if let Some(look) = look {
            // What waits for its batch to be full is closed.
            decide(ground, stage, look.page(&[], true, ground)).await?;
        }
    }
    let [now, would] = stages;
    differences.note(now, would);
    Ok(())
}

/// Those of a page that a selection takes.
async fn taken(
    ground: &Ground,
    stage: &Replay,
    look: &Look,
    selection: &Selection,
    found: Vec<Object>,
) -> Result<Vec<Object>, StoreError> {
    let now = ground.clock.now();
    let parameters = &look.scheduled.schedule.parameters;
    let (inputs, _) = judged(
        &ground.store,
        stage.catalogue(),
        &look.organization.id,
        now,
        found,
        |object, world| match selection {
            Selection::All => Ok(true),
            Selection::Set(name) => Ok(world.member(name, object)),
            Selection::Query(query) => {
                selects(query, object, &look.occasion, parameters, now, world)
            }
        },
    )
    .await?;
    Ok(inputs)
}

/// Decides a page with all that stands in the way of its inputs.
async fn decide(ground: &Ground, stage: &mut Replay, page: Page<'_>) -> Result<(), StoreError> {
    let carried = stage.carried();
    let inputs: Vec<&Object> = page.found.iter().chain(&carried).collect();
    let organization = &page.organization.id;
    let standing = ground
        .store
        .gather_standing(organization, &inputs, true)
        .await?;
    stage.stand(standing);
    stage.page(&page);
    Ok(())
}

/// The live objects of one type, a bounded weight of them at a time.
pub(super) struct Pages<'a> {
    reading: Reading<'a>,
    size: i64,
}

impl<'a> Pages<'a> {
    pub(super) fn of(ground: &'a Ground, organization: &str, object_type: &str) -> Pages<'a> {
        let store = &ground.store;
        Pages {
            reading: store.reading(organization, object_type, "", Narrow::Everything),
            size: FIRST,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Vec<Object>, StoreError> {
        let found = self
            .reading
            .page(usize::try_from(self.size).unwrap_or(1))
            .await?;
        let weight: usize = found.iter().map(Object::weight).sum();
        self.size = match weight {
            heavy if heavy > HEAVY => (self.size / 2).max(1),
            light if light * 2 < HEAVY => (self.size * 2).min(MOST),
            _ => self.size,
        };
        Ok(found)
    }
}
