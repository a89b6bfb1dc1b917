//! What the `when` of schedules asks of other objects and of the past is fetched, and the batch decided again with it.
//!
//! Such a decision rests on what was read of one organisation beside the objects of the batch. It is stored only if no
//! other decision that rests so was stored for that organisation meanwhile: of two events that wait for each other's
//! object, decided at the same time by two replicas, one sees the other. What is merely stored meanwhile comes later.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use crate::catalogue::Known;
use crate::decide::World;
use crate::moment::Moment;
use crate::store::{Store, StoreError};

/// How often more is fetched for one batch. Each time takes a query at least one step further.
const ROUNDS: usize = 64;

/// What was fetched for a batch so far.
#[derive(Default)]
pub(super) struct Beyond {
    known: HashMap<String, Known>,
    /// The mark of each organisation of which something was read, from before it was read.
    rests: BTreeMap<String, i64>,
    rounds: usize,
}

impl Beyond {
    /// Gives a world what is known.
    pub fn lend(&mut self, world: &mut World) {
        world.beyond = mem::take(&mut self.known);
    }

    pub fn rests(&self) -> &BTreeMap<String, i64> {
        &self.rests
    }

    /// Fetches what a decision found missing; answers whether there is something new to decide with.
    pub async fn fetch(
        &mut self,
        store: &Store,
        world: &mut World,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let missing = world.missing();
        if missing.is_empty() {
            return Ok(false);
        }
        self.known = mem::take(&mut world.beyond);
        self.rounds += 1;
        for (organization, missing) in missing {
            if !self.rests.contains_key(&organization) {
                let mark = store.resting(&organization).await?;
                self.rests.insert(organization.clone(), mark);
            }
            let here = world.keys_of(&organization);
            let found = store.look_up(&organization, &missing, &here, now).await?;
            let known = self.known.entry(organization).or_default();
            if found.too_much || self.rounds >= ROUNDS {
                // What is missing stays so, and the query that asks for it is too costly.
                known.close();
            } else {
                known.learn(missing, found);
            }
        }
        Ok(true)
    }
}
