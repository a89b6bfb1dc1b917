//! What the clock starts, under both rules: one instant of each schedule that may be another one, and the instants at which
//! it would be started at other times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::expand::{Look, expand};
use super::{Over, Read, Replayed, about, organizations};
use crate::catalogue::Catalogue;
use crate::ground::Ground;
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::recurrence::Last;
use crate::rehearsal::{Differences, Replay};
use crate::run::{Cause, Occasion};
use crate::schedule::{Input, Organization, Selection};
use crate::store::{StoreError, Wanted};
use crate::trigger::Scheduled;

/// Instants of a schedule that are compared, and those that are shown.
const COMPARED: usize = 10_000;
const SHOWN: usize = 5;
/// Of schedules that are replayed over objects so many coming instants are compared.
const COMING: usize = 5;

/// One instant of each schedule that the clock starts and that may be another one under the proposal.
pub(super) async fn over_the_clock(
    ground: &Ground,
    asked: &Replayed,
    stages: &mut [Replay; 2],
    differences: &mut Differences,
    read: &mut Read,
) -> Result<(), StoreError> {
    for id in affected(asked) {
        let of_each = stages.each_ref().map(|stage| {
            let known = stage.catalogue().schedules.get(&id).cloned();
            known.filter(|known| known.schedule.awake() && !known.timetable.is_empty())
        });
        let whose = stages.each_ref().map(|stage| {
            let theirs = organizations(asked, stage.catalogue()).into_iter();
            let theirs = theirs.map(|known| (known.id.clone(), known));
            theirs.collect::<BTreeMap<String, Organization>>()
        });
        let all: BTreeSet<String> = whose
            .iter()
            .flat_map(|known| known.keys().cloned())
            .collect();
        for organization in &all {
            let mut looks: [Option<Look>; 2] = [None, None];
            for (at, look) in looks.iter_mut().enumerate() {
                let (Some(Some(scheduled)), Some(known)) = (
                    of_each.get(at),
                    whose.get(at).and_then(|known| known.get(organization)),
                ) else {
                    continue;
                };
                let Some(stage) = stages.get_mut(at) else {
                    continue;
                };
                if !scheduled.schedule.concerns(organization) {
                    continue;
                }
                if matches!(scheduled.schedule.input, Input::Selected(_)) {
                    stage.begin(scheduled);
                    *look = Some(Look {
                        scheduled: scheduled.clone(),
                        organization: known.clone(),
                        cause: Cause::OnTime,
                        occasion: Occasion::default(),
                    });
                } else {
                    instant(ground, stage, scheduled, known).await?;
                }
            }
            let [now, would] = &mut *stages;
            differences.note(now, would);
            if looks.iter().any(Option::is_some) {
                expand(ground, asked, stages, &looks, differences, read).await?;
            }
        }
    }
    Ok(())
}

/// An instant of the clock, now, for a schedule that does not look for inputs.
async fn instant(
    ground: &Ground,
    stage: &mut Replay,
    scheduled: &Scheduled,
    organization: &Organization,
) -> Result<(), StoreError> {
    let of = |primary_key: &str| ObjectKey {
        organization: organization.id.clone(),
        primary_key: primary_key.to_owned(),
    };
    let mut wanted = Wanted::default();
    wanted.keys.insert(of(""));
    wanted
        .keys
        .extend(scheduled.schedule.target.as_deref().map(of));
    stage.stand(ground.store.gather(&wanted).await?.world);
    stage.instant(scheduled, organization, ground.clock.now());
    Ok(())
}

/// Schedules of the clock that may be other ones under the proposal: those that it is about, and those that name or select
/// what it changes.
fn affected(asked: &Replayed) -> BTreeSet<String> {
    let (present, proposed) = (&asked.present, &asked.proposed);
    let organizations = present.organizations != proposed.organizations;
    let sets = sets_of(present) != sets_of(proposed);
    let both = [present, proposed];
    let timed = both.iter().flat_map(|catalogue| catalogue.schedules.iter());
    let timed = timed.filter(|scheduled| !scheduled.timetable.is_empty());
    let differs = |scheduled: &Scheduled| {
        let id = &scheduled.schedule.id;
        organizations
            || (sets && names_sets(scheduled))
            || selected(present, id) != selected(proposed, id)
    };
    let touched = timed.filter(|scheduled| differs(scheduled));
    let named = both.iter().flat_map(|catalogue| about(asked, catalogue));
    let named = named.filter(|scheduled| !scheduled.timetable.is_empty());
    touched
        .map(|scheduled| scheduled.schedule.id.clone())
        .chain(named.map(|scheduled| scheduled.schedule.id.clone()))
        .collect()
}

/// What makes a set what it is: its name, whose it is, its type, its query and its keys.
type SetOf<'c> = (
    &'c str,
    Option<&'c str>,
    &'c str,
    Option<&'c str>,
    &'c [String],
);

/// All sets, as far as it matters whether they are the same.
fn sets_of(catalogue: &Catalogue) -> BTreeSet<SetOf<'_>> {
    let sets = catalogue.sets.iter().map(|set| {
        (
            set.name.as_str(),
            set.organization.as_deref(),
            set.object_type.as_str(),
            set.query.as_ref().map(|query| query.text()),
            set.keys.as_slice(),
        )
    });
    sets.collect()
}

/// Whether its inputs or its plugins ask for any set.
fn names_sets(scheduled: &Scheduled) -> bool {
    let selects = match &scheduled.schedule.input {
        Input::Given => false,
        Input::Selected(selections) => selections.values().any(|selection| match selection {
            Selection::All => false,
            Selection::Set(_) => true,
            Selection::Query(query) => !query.sets().is_empty(),
        }),
    };
    let selected = scheduled.selected.iter();
    selects
        || selected
            .into_iter()
            .any(|plugin| plugin.sets_taken().next().is_some())
}

/// The plugins that a schedule selects, as they are declared.
fn selected<'c>(catalogue: &'c Catalogue, id: &str) -> Option<&'c [Arc<crate::plugin::Plugin>]> {
    let scheduled = catalogue.schedules.get(id)?;
    Some(&scheduled.selected)
}

/// At which instants the clock starts a schedule under one of the rules alone.
#[derive(Default)]
pub(super) struct Clocks {
    added: Vec<Moment>,
    removed: Vec<Moment>,
}

impl Clocks {
    pub(super) fn as_json(&self) -> Value {
        let shown = |instants: &[Moment]| -> Vec<String> {
            let some = instants.iter().take(SHOWN);
            some.map(|at| at.to_string()).collect()
        };
        json!({
            "added": self.added.len(), "removed": self.removed.len(),
            "instants_added": shown(&self.added), "instants_removed": shown(&self.removed),
        })
    }
}

/// The instants of the time that is replayed at which the clock starts schedules under one of the rules alone, by their
/// ids. Objects have no time: there it is the next instants.
pub(super) fn clocks(asked: &Replayed, now: Moment) -> BTreeMap<String, Clocks> {
    let both = [&asked.present, &asked.proposed];
    let timed = both.iter().flat_map(|catalogue| catalogue.schedules.iter());
    let timed = timed.filter(|scheduled| !scheduled.timetable.is_empty());
    let own = |scheduled: &&Arc<Scheduled>| {
        let own = asked.organization.as_deref();
        own.is_none_or(|own| scheduled.schedule.concerns(own))
    };
    let ids: BTreeSet<&str> = timed
        .filter(own)
        .map(|scheduled| scheduled.schedule.id.as_str())
        .collect();
    let mut clocks = BTreeMap::new();
    for id in ids {
        let [before, after] = both.map(|catalogue| instants(asked, catalogue, id, now));
        let only = |here: &BTreeSet<Moment>, there: &BTreeSet<Moment>| -> Vec<Moment> {
            here.difference(there).copied().collect()
        };
        let found = Clocks {
            added: only(&after, &before),
            removed: only(&before, &after),
        };
        if !found.added.is_empty() || !found.removed.is_empty() {
            clocks.insert(id.to_owned(), found);
        }
    }
    clocks
}

fn instants(asked: &Replayed, catalogue: &Catalogue, id: &str, now: Moment) -> BTreeSet<Moment> {
    let scheduled = catalogue.schedules.get(id);
    let Some(scheduled) = scheduled.filter(|known| known.schedule.awake()) else {
        return BTreeSet::new();
    };
    let from = match asked.over {
        Over::Events => asked.since,
        Over::Objects => now,
    };
    let instants = scheduled.timetable.instants(from, Last::Never);
    match asked.over {
        Over::Events => instants
            .take_while(|at| *at <= asked.until)
            .take(COMPARED)
            .collect(),
        Over::Objects => instants.take(COMING).collect(),
    }
}
