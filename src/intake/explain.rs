//! The decision about one event, for whoever wants to know why. Nothing is stored.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::batch::{Incoming, Read, as_message, reading, wanted};
use super::beyond::Beyond;
use crate::catalogue::Catalogue;
use crate::decide::{Desk, Finding, Impossible, Plan, World, change};
use crate::ground::Ground;
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::store::{Gathered, StoreError};
use crate::wire::{self, Event, Unreadable};

/// What would be decided about an event now, and why. Nothing is stored.
pub async fn explain(
    ground: &Ground,
    message: &Incoming,
) -> Result<Result<Explained, Unreadable>, StoreError> {
    let now = ground.clock.now();
    let reading = reading(ground, message.intake, now);
    let event = match wire::read_event(&as_message(message), &reading) {
        Ok(event) => event,
        Err(unreadable) => return Ok(Err(unreadable)),
    };
    let nonconforming = ground.rules.takes(&event.told.change).err();
    let read = Read { at: 0, event };
    let mut beyond = Beyond::default();
    let mut wanted = wanted(std::slice::from_ref(&read));
    let (gathered, catalogue, plan, impossible, findings, as_new) = loop {
        let mut gathered: Gathered = ground.store.gather(&wanted).await?;
        let catalogue = ground.catalogue_at(gathered.revision).await?;
        beyond.lend(&mut gathered.world);
        let mut findings: Vec<Finding> = Vec::new();
        let decide = |world: &mut World, findings: &mut Vec<Finding>| {
            let mut plan = Plan::default();
            let mut desk = Desk {
                catalogue: &catalogue,
                now,
                ids: &mut ground.ids(),
                plan: &mut plan,
                findings: Some(findings),
            };
            let impossible = change(&mut desk, world, &read.event.told).err();
            (plan, impossible)
        };
        let (mut plan, mut impossible) = decide(&mut gathered.world, &mut findings);
        // What leaves the object as it is triggers nothing. That answers no question, so it is asked again as if the
        // object were new; what is open or was done with it stays known.
        let as_new = impossible.is_none() && plan.unchanged > 0;
        if as_new {
            gathered.world.objects.clear();
            (plan, impossible) = decide(&mut gathered.world, &mut findings);
        }
        let unseen = !gathered.world.unseen.is_empty();
        wanted.scopes.append(&mut gathered.world.unseen);
        let asked = beyond
            .fetch(&ground.store, &mut gathered.world, now)
            .await?;
        if asked || unseen {
            continue;
        }
        break (gathered, catalogue, plan, impossible, findings, as_new);
    };
    let impossible = nonconforming
        .map(|message| Impossible {
            reason: "wrong_type",
            message,
        })
        .or(impossible);
    let keys: BTreeSet<&str> = plan
        .tasks
        .iter()
        .filter(|task| task.waits)
        .filter_map(|task| task.deduplication_key.as_deref())
        .collect();
    let leaders = ground.store.leaders(&keys).await?;
    Ok(Ok(Explained {
        key: read.event.told.change.key.clone(),
        handled_before: read
            .event
            .inbox
            .as_ref()
            .is_some_and(|id| gathered.handled.contains(id)),
        event: read.event,
        world: gathered.world,
        catalogue,
        plan,
        findings,
        impossible,
        as_new,
        leaders,
        now,
    }))
}

/// The answer of [`explain`].
#[derive(Debug)]
pub struct Explained {
    pub event: Event,
    pub key: ObjectKey,
    pub handled_before: bool,
    pub world: World,
    pub catalogue: Arc<Catalogue>,
    pub plan: Plan,
    pub findings: Vec<Finding>,
    pub impossible: Option<Impossible>,
    /// The event leaves the object as it is; what is told is what it would do if the object were new.
    pub as_new: bool,
    /// The tasks that do the work of planned ones already, with their organisations, by the key that they share.
    pub leaders: HashMap<String, (String, String)>,
    pub now: Moment,
}
