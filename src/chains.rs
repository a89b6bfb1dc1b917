//! Loop: what has ended sets off what is chained to it.
//!
//! An end is noted in the transaction that ends the run or the task, where some schedule waits for such ends. Whoever sees
//! it first decides what it sets off, and the note goes in the transaction that stores that: each end is told once,
//! whoever is killed in between.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use metrics::counter;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, End, Plan, chained};
use crate::ground::{Ground, count_plan, trail};
use crate::object::ObjectKey;
use crate::store::{Commit, Committed, StoreError, Wanted};

/// Ends that one transaction tells of.
const AT_ONCE: i64 = 200;

/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    ground
        .by_turns("chains", &ground.ends, async || {
            step(&ground).await.map(|_| None)
        })
        .await
}

/// Tells of all that has ended; answers how many ends these were.
pub async fn step(ground: &Ground) -> Result<usize, StoreError> {
    let mut told = 0;
    if !ground.store.some_ended().await? {
        return Ok(told);
    }
    while !ground.stop.is_cancelled() {
        let ends = ground.store.ends(AT_ONCE).await?;
        if ends.is_empty() {
            break;
        }
        told += ends.len();
        match tell(ground, &ends).await {
            Err(error @ StoreError::Statement(_)) if !error.passing() => {
                tracing::warn!(
                    "the store refuses what some ends set off; each is told alone: {error}"
                );
                for end in &ends {
                    alone(ground, end).await?;
                }
            }
            done => done?,
        }
    }
    // The last of a chain completes those before it, one after another.
    while ground.store.complete_runs(ground.clock.now()).await? > 0 {}
    Ok(told)
}

/// What one end sets off is stored or, where the store refuses it, left out: it must not hold up the others.
async fn alone(ground: &Ground, end: &End) -> Result<(), StoreError> {
    match tell(ground, std::slice::from_ref(end)).await {
        Err(error @ StoreError::Statement(_)) if !error.passing() => {
            let (id, of) = (&end.id, end.of.noun());
            tracing::error!(id, of, "what its end sets off cannot be stored: {error}");
            let revision = ground.store.catalogue_revision().await?;
            let commit = Commit {
                announced: std::slice::from_ref(end),
                ..Commit::empty(ground.clock.now(), revision)
            };
            ground.store.commit(&commit).await.map(|_| ())
        }
        told => told,
    }
}

/// Decides what some ends set off, and stores it.
async fn tell(ground: &Ground, ends: &[End]) -> Result<(), StoreError> {
    let mut scopes = BTreeSet::new();
    loop {
        let revision = ground.store.catalogue_revision().await?;
        let catalogue = ground.catalogue_at(revision).await?;
        let mut wanted = Wanted {
            keys: inputs(&catalogue, ends),
            scopes: std::mem::take(&mut scopes),
            among: catalogue.fellows(),
            ..Wanted::default()
        };
        let mut gathered = ground.store.gather(&wanted).await?;
        let now = ground.clock.now();
        let mut plan = Plan::default();
        let mut ids = ground.ids();
        let mut desk = Desk {
            catalogue: &catalogue,
            now,
            ids: &mut ids,
            plan: &mut plan,
            findings: None,
        };
        for end in ends {
            chained(&mut desk, &mut gathered.world, end);
        }
        if !gathered.world.unseen.is_empty() {
            scopes = std::mem::take(&mut wanted.scopes);
            scopes.append(&mut gathered.world.unseen);
            continue;
        }
        trail::decided(&plan);
        let commit = Commit {
            announced: ends,
            plan: &plan,
            ..Commit::empty(now, catalogue.revision)
        };
        match ground.store.commit(&commit).await? {
            Committed::Done => {
                counter!("muster_ends_told_total").increment(ends.len() as u64);
                count_plan(&plan);
                ground.wake(&plan);
                return Ok(());
            }
            // Somebody else told of one of them: what is left is looked at again.
            Committed::Stale("ends") => return Ok(()),
            Committed::Stale(_) => {}
        }
    }
}

/// The objects that the runs of a chain may be on.
fn inputs(catalogue: &Catalogue, ends: &[End]) -> HashSet<ObjectKey> {
    let nouns: BTreeSet<&str> = ends.iter().map(|end| end.of.noun()).collect();
    if !nouns.iter().any(|noun| catalogue.run_on.contains(*noun)) {
        return HashSet::new();
    }
    let key = |organization: &str, primary_key: &str| ObjectKey {
        organization: organization.to_owned(),
        primary_key: primary_key.to_owned(),
    };
    let named = catalogue.schedules.iter().filter_map(|scheduled| {
        let schedule = &scheduled.schedule;
        let chained = schedule
            .run_on
            .iter()
            .any(|noun| nouns.contains(noun.as_str()));
        Some(key(
            schedule.organization.as_deref()?,
            schedule.target.as_deref()?,
        ))
        .filter(|_| chained)
    });
    let of_ends = ends.iter().flat_map(|end| {
        // Under the empty key stand the tasks without an input.
        let keys = end.inputs.iter().map(String::as_str).chain([""]);
        keys.map(|primary_key| key(&end.organization, primary_key))
    });
    of_ends.chain(named).collect()
}
