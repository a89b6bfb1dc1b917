//! The live objects of one type, in the order of their keys, for whoever goes through all of them.

use std::collections::VecDeque;

use super::{Store, StoreError};
use crate::object::Object;
use crate::query::narrow::Narrow;

/// What a read takes at first where a condition leaves most rows out, and what it takes from then on. The database finds
/// a few rows among many by looking at all of them, so few reads must do; and this much of an inventory fits in memory.
const SELECTIVE: [i64; 2] = [4_000, 16_000];

/// How far somebody has read.
#[derive(Debug)]
pub struct Reading<'s> {
    store: &'s Store,
    organization: String,
    object_type: String,
    narrowed: &'s Narrow,
    after: String,
    /// Read, and not handed out yet.
    ahead: VecDeque<Object>,
    reads: usize,
    ended: bool,
}

impl Store {
    /// Reads the live objects of one type, after a key, of those that the narrowed condition lets through.
    pub fn reading<'s>(
        &'s self,
        organization: &str,
        object_type: &str,
        after: &str,
        narrowed: &'s Narrow,
    ) -> Reading<'s> {
        Reading {
            store: self,
            organization: organization.to_owned(),
            object_type: object_type.to_owned(),
            narrowed,
            after: after.to_owned(),
            ahead: VecDeque::new(),
            reads: 0,
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
            let [first, then] = SELECTIVE;
            let limit = match (self.narrowed, self.reads) {
                // In the order of an index, a page costs what it holds.
                (Narrow::Everything, _) => most,
                (_, 0) => most.max(first),
                _ => most.max(then),
            };
            let read = self
                .store
                .objects_after(
                    &self.organization,
                    &self.object_type,
                    &self.after,
                    limit,
                    self.narrowed,
                )
                .await?;
            self.reads += 1;
            self.ended = (read.len() as i64) < limit;
            if let Some(last) = read.last() {
                self.after.clone_from(&last.key.primary_key);
            }
            self.ahead = read.into();
        }
        let many = most.min(self.ahead.len());
        Ok(self.ahead.drain(..many).collect())
    }
}
