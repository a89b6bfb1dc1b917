//! How common keys are, learned from the events that pass.
//!
//! The last events that were shown are kept as the hashes of their keys, so that a key that no rule has named yet can
//! be weighed too. What was never seen is taken for as rare as the number of other constants of its attribute makes it.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use super::attributes::Attribute;
use super::dictionary::{KeyId, NO_KEY};
use super::event::{Event, Seen};

/// So many events are kept.
const KEPT: usize = 512;
/// How much what is believed without events counts, in events.
const BELIEF: f32 = 1.0;

#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    events: VecDeque<Shown>,
    hashes: HashMap<u32, u16, FixedState>,
    numbers: HashMap<Attribute, Vec<f64>, FixedState>,
    /// How much was looked at under each key, since it was last seen to.
    burdens: HashMap<KeyId, u32, FixedState>,
    /// Constants named by rules, by attribute.
    constants: HashMap<Attribute, u32, FixedState>,
}

#[derive(Clone, Debug)]
struct Shown {
    hashes: Vec<u32>,
    numbers: Vec<(Attribute, f64)>,
}

impl Statistics {
    /// Learns from an event, which takes the place of the oldest one.
    pub fn show(&mut self, event: &Event) {
        let mut shown = Shown {
            hashes: Vec::with_capacity(event.present.len()),
            numbers: Vec::new(),
        };
        for &attribute in &event.present {
            for found in event.found(attribute) {
                if found.hash != 0 {
                    shown.hashes.push(found.hash);
                }
                let number = matches!(found.form, Seen::Number | Seen::Instant);
                if number && !found.number.is_nan() {
                    shown.numbers.push((attribute, found.number));
                }
            }
        }
        shown.hashes.sort_unstable();
        shown.hashes.dedup();
        if self.events.len() == KEPT
            && let Some(old) = self.events.pop_front()
        {
            self.forget(&old);
        }
        for &hash in &shown.hashes {
            *self.hashes.entry(hash).or_default() += 1;
        }
        for &(attribute, number) in &shown.numbers {
            let known = self.numbers.entry(attribute).or_default();
            let at = known.partition_point(|other| *other < number);
            known.insert(at, number);
        }
        self.events.push_back(shown);
    }

    fn forget(&mut self, old: &Shown) {
        for hash in &old.hashes {
            if let Some(count) = self.hashes.get_mut(hash) {
                *count -= 1;
                if *count == 0 {
                    self.hashes.remove(hash);
                }
            }
        }
        for (attribute, number) in &old.numbers {
            if let Some(known) = self.numbers.get_mut(attribute) {
                let at = known.partition_point(|other| other < number);
                if known.get(at) == Some(number) {
                    known.remove(at);
                }
            }
        }
    }

    /// One constant more is named of an attribute; how many there are.
    pub fn named(&mut self, attribute: Attribute) -> u32 {
        let count = self.constants.entry(attribute).or_default();
        *count += 1;
        *count
    }

    /// One less.
    pub fn unnamed(&mut self, attribute: Attribute) -> u32 {
        let Some(count) = self.constants.get_mut(&attribute) else {
            return 0;
        };
        *count = count.saturating_sub(1);
        *count
    }

    #[allow(clippy::cast_precision_loss)] // an estimate
    fn seen(&self) -> f32 {
        self.events.len() as f32
    }

    /// How often events have a constant: of `hash`, at an attribute.
    #[allow(clippy::cast_precision_loss)] // an estimate
    pub fn commonness(&self, attribute: Attribute, hash: u32) -> f32 {
        let others = self.constants.get(&attribute).copied().unwrap_or(0);
        let belief = 1.0 / (others.max(1) as f32 + 1.0);
        let count = f32::from(self.hashes.get(&hash).copied().unwrap_or(0));
        ((count + BELIEF * belief) / (self.seen() + BELIEF)).min(1.0)
    }

    /// How often events have a number between two.
    #[allow(clippy::cast_precision_loss)] // an estimate
    pub fn between(&self, attribute: Attribute, first: f64, last: f64) -> f32 {
        const UNKNOWN: f32 = 0.05;
        let known = self.numbers.get(&attribute).map_or(&[][..], Vec::as_slice);
        if known.is_empty() {
            return UNKNOWN / (self.seen() + 1.0).sqrt();
        }
        let from = known.partition_point(|number| *number < first);
        let to = known.partition_point(|number| *number <= last);
        let inside = (to - from) as f32;
        if inside > 0.0 {
            return (inside / self.seen()).min(1.0);
        }
        // Nothing lies there: a part of the gap between its neighbours.
        let gap = match (
            from.checked_sub(1).and_then(|at| known.get(at)),
            known.get(to),
        ) {
            (Some(below), Some(above)) => above - below,
            _ => f64::INFINITY,
        };
        #[allow(clippy::cast_possible_truncation)]
        let part = ((last - first) / gap).clamp(0.0, 1.0) as f32;
        (part + 0.01) / (self.seen() + BELIEF)
    }

    /// So many rules were looked at under a key, for one event.
    pub fn bore(&mut self, key: KeyId, rules: usize) {
        if key != NO_KEY && rules > 0 {
            let sum = self.burdens.entry(key).or_default();
            *sum = sum.saturating_add(u32::try_from(rules).unwrap_or(u32::MAX));
        }
    }

    /// The key under which most was looked at, and how much that was; it then counts anew.
    pub fn heaviest(&mut self) -> Option<(KeyId, u32)> {
        let (&key, &burden) = self
            .burdens
            .iter()
            .max_by_key(|(key, burden)| (**burden, **key))?;
        self.burdens.remove(&key);
        Some((key, burden))
    }

    /// All that was looked at is forgotten.
    pub fn rest(&mut self) {
        self.burdens.clear();
    }
}
