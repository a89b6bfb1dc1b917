//! Inventory in bulk: objects become known as if they had been told of, and nothing is triggered by it.

use metrics::counter;

use crate::catalogue::Catalogue;
use crate::decide::{Desk, Impossible, Plan, change};
use crate::ground::Ground;
use crate::object::Told;
use crate::store::{Commit, Committed, StoreError, Wanted};
use crate::trigger::Schedules;

/// What became of some objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Of each in its order: whether it is new, or different. Else it was known so already, or something newer was.
    pub changed: Vec<bool>,
    pub organizations: u64,
    /// Tasks that waited and lost their reason.
    pub withdrawn: u64,
}

/// Makes all of them known, or none: then the answer says which one cannot be, by its place, and why.
pub async fn import(
    ground: &Ground,
    told: &[Told],
) -> Result<Result<Imported, (usize, Impossible)>, StoreError> {
    let wanted = Wanted {
        keys: told.iter().map(|told| told.change.key.clone()).collect(),
        ..Wanted::default()
    };
    loop {
        let mut gathered = ground.store.gather(&wanted).await?;
        let catalogue = ground.catalogue_at(gathered.revision).await?;
        if catalogue.revision != gathered.revision {
            continue;
        }
        // The rest of a change holds: its order, the history of its object, tasks that it takes the reason from.
        let mut quiet = Catalogue::clone(&catalogue);
        quiet.schedules = Schedules::default();
        let now = ground.clock.now();
        let mut plan = Plan::default();
        let mut ids = ground.ids();
        let mut changed = Vec::with_capacity(told.len());
        for (at, told) in told.iter().enumerate() {
            let unchanged = plan.unchanged;
            let mut desk = Desk {
                catalogue: &quiet,
                now,
                ids: &mut ids,
                plan: &mut plan,
                findings: None,
            };
            if let Err(impossible) = change(&mut desk, &mut gathered.world, told) {
                return Ok(Err((at, impossible)));
            }
            changed.push(plan.unchanged == unchanged);
        }
        let commit = Commit {
            world: &gathered.world,
            versions: &gathered.versions,
            plan: &plan,
            ..Commit::empty(now, gathered.revision)
        };
        match ground.store.commit(&commit).await? {
            Committed::Stale(what) => {
                tracing::debug!("objects are imported again: {what} changed meanwhile");
                counter!("muster_store_retries_total").increment(1);
            }
            Committed::Done => {
                ground.gain(gathered.revision, &plan.organizations);
                return Ok(Ok(Imported {
                    changed,
                    organizations: plan.organizations.len() as u64,
                    withdrawn: plan.withdrawn.len() as u64,
                }));
            }
        }
    }
}
