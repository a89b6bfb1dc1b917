//! Loop: the inputs of runs that take them from the inventory are found, a page at a time.
//!
//! A run keeps its position, and a page's tasks are stored with the next one: memory stays flat for a million inputs,
//! and whoever is next goes on where somebody stopped. Organisations take turns, and in an organisation its runs. A run
//! whose turn it is belongs to one replica for as long as it gets on. While the tasks of a page are written, the next
//! page is read and decided.

mod room;
mod turn;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::ground::Ground;
use crate::moment::{Moment, Span};
use crate::schedule::Input;
use crate::store::{ExpandingRun, Held, StoreError};
use crate::trigger::Scheduled;

use room::Rooms;
use turn::{Pace, Turn};

/// A run on which nobody has got on for so long is anybody's.
const LEASE: Span = Span::seconds(10);

/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    let rooms = Rooms::default();
    ground
        .by_turns("expansion", &ground.expand, || turns(&ground, &rooms))
        .await
}

/// Expands all that is open and may go on; there is no next instant.
pub async fn step(ground: &Ground) -> Result<Option<Moment>, StoreError> {
    turns(ground, &Rooms::default()).await
}

/// Gives turns until there is nothing that may go on.
async fn turns(ground: &Ground, rooms: &Rooms) -> Result<Option<Moment>, StoreError> {
    let _alone = ground.expanding.lock().await;
    let mut pace = Pace::default();
    let mut full: BTreeSet<String> = BTreeSet::new();
    // Schedules that found their workers full; those of plugins are in no list of the catalogue.
    let mut waiting: BTreeSet<String> = BTreeSet::new();
    // What stays where it is, of which catalogue, and how much had been found full by then.
    let mut held: Option<(Arc<Catalogue>, (usize, usize), Held)> = None;
    // The organisation that had the last turn.
    let mut after = String::new();
    while !ground.stop.is_cancelled() {
        ground.beat("expansion");
        let revision = ground.store.catalogue_revision().await?;
        let catalogue = ground.catalogue_at(revision).await?;
        // All schedules are looked at for it, so not with each turn.
        let found = (full.len(), waiting.len());
        let known = held
            .take()
            .filter(|(of, with, _)| Arc::ptr_eq(of, &catalogue) && *with == found);
        let (.., held) = held.insert(known.unwrap_or_else(|| {
            let held = hold(&catalogue, &full, &waiting);
            (catalogue.clone(), found, held)
        }));
        let Some(run) = next(ground, &after, held).await? else {
            break;
        };
        after.clone_from(&run.organization);
        match rooms.first_full(ground, &catalogue, &run).await? {
            None => {
                let turn = Turn::new(ground, &catalogue, rooms, run);
                turn.take(&mut pace).await?;
            }
            Some(worker_type) => {
                full.insert(worker_type);
                waiting.insert(run.schedule_id.clone());
                ground.store.release_expansion(&run.id, run.until).await?;
            }
        }
    }
    Ok(None)
}

/// The run whose turn it is: of the next organisation, and after the last one of the first.
async fn next(
    ground: &Ground,
    after: &str,
    held: &Held,
) -> Result<Option<ExpandingRun>, StoreError> {
    let now = ground.clock.now();
    let until = now.plus(LEASE);
    let store = &ground.store;
    match store.claim_expansion(after, held, now, until).await? {
        None if !after.is_empty() => store.claim_expansion("", held, now, until).await,
        claimed => Ok(claimed),
    }
}

/// The schedules whose runs stay where they are: those asleep, those whose workers have enough, and those that were
/// found to wait for these.
fn hold(catalogue: &Catalogue, full: &BTreeSet<String>, waiting: &BTreeSet<String>) -> Held {
    let asleep = ids(catalogue, |scheduled| !scheduled.schedule.awake());
    let busy = ids(catalogue, |scheduled| {
        let mut selected = scheduled.selected.iter();
        selected.any(|plugin| full.contains(&plugin.worker_type))
    });
    Held::of(asleep, busy.chain(waiting.iter().map(String::as_str)))
}

/// The ids of schedules that select their inputs and of which something is so.
fn ids(catalogue: &Catalogue, so: impl Fn(&Scheduled) -> bool) -> impl Iterator<Item = &str> {
    catalogue
        .schedules
        .iter()
        .filter(move |scheduled| {
            matches!(scheduled.schedule.input, Input::Selected(_)) && so(scheduled)
        })
        .map(|scheduled| scheduled.schedule.id.as_str())
}
