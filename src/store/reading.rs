//! The live objects of one type, in the order of their keys, for whoever goes through all of them.

use std::collections::VecDeque;

use super::{Store, StoreError};
use crate::object::Object;
use crate::query::narrow::Narrow;

/// Where a condition leaves most rows out, the database finds a few among many by looking at all of them. So few reads
/// must do: each takes so many times as much as the one before, up to so many objects, as long as what was read is light.
const TIMES: i64 = 4;
const MOST: i64 = 16_000;
const LIGHT: usize = 4 << 20;

/// How far somebody has read.
#[derive(Debug)]
pub struct Reading<'s> {
    store: &'s Store,
    organization: String,
    object_type: String,
    narrowed: Narrow,
    after: String,
    /// Read, and not handed out yet.
    ahead: VecDeque<Object>,
    /// What the next read takes, where it takes more than is asked for.
    larger: i64,
    ended: bool,
}

impl Store {
    /// Reads the live objects of one type, after a key, of those that the narrowed condition lets through.
    pub fn reading<'s>(
        &'s self,
        organization: &str,
        object_type: &str,
        after: &str,
        narrowed: Narrow,
    ) -> Reading<'s> {
        Reading {
            store: self,
            organization: organization.to_owned(),
            object_type: object_type.to_owned(),
            narrowed,
            after: after.to_owned(),
            ahead: VecDeque::new(),
            larger: 0,
            ended: false,
        }
    }
}

impl Reading<'_> {
    /// The next objects, at most so many; none at all are the end. Each was so when it was read, which may be some
    /// pages ago.
    pub async fn page(&mut self, most: usize) -> Result<Vec<Object>, StoreError> {
        if self.ahead.is_empty() && !self.ended {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            // In the order of an index, a page costs what it holds.
            let limit = match self.narrowed {
                Narrow::Everything => most,
                _ => most.max(self.larger),
            };
            let read = self
                .store
                .objects_after(
                    &self.organization,
                    &self.object_type,
                    &self.after,
                    limit,
                    &self.narrowed,
                )
                .await?;
            let weight: usize = read.iter().map(Object::weight).sum();
            self.larger = match weight * 4 {
                light if light <= LIGHT => (limit * TIMES).min(MOST),
                heavy if heavy <= LIGHT * 4 => limit,
                _ => 0,
            };
            self.ended = (read.len() as i64) < limit;
            if let Some(last) = read.last() {
                self.after.clone_from(&last.key.primary_key);
            }
            self.ahead = read.into();
        }
        let many = most.min(self.ahead.len());
        Ok(self.ahead.drain(..many).collect())
    }

    /// Whether nothing is left to hand out.
    pub fn over(&self) -> bool {
        self.ended && self.ahead.is_empty()
    }
}
