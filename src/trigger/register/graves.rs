//! A removed rule is dead at once, by a bit that readers see. It is taken from where it waited later, with others that
//! died: when rules come, when rules are moved, or when too many wait for it. So a removal costs next to nothing, and
//! the room of the dead is given back all the same.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use super::super::formula::{Asked, Formula};
use super::super::pieces::Pieces;
use super::{Homes, Register};

/// A bit for each number of a rule that is dead.
#[derive(Clone, Debug, Default)]
pub(in crate::trigger) struct Dead {
    words: Pieces<u64, 64>,
    count: usize,
}

impl Dead {
    #[inline]
    pub fn holds(&self, rule: u32) -> bool {
        let word = || self.words.get(rule as usize / 64);
        self.count > 0 && word().is_some_and(|word| word & 1 << (rule % 64) != 0)
    }

    /// Makes room for a number.
    fn reach(&mut self, rule: u32) {
        while self.words.len() <= rule as usize / 64 {
            self.words.push(0);
        }
    }

    fn put(&mut self, rule: u32) {
        if let Some(word) = self.words.get_mut(rule as usize / 64) {
            *word |= 1 << (rule % 64);
            self.count += 1;
        }
    }

    fn take(&mut self, rule: u32) {
        if let Some(word) = self.words.get_mut(rule as usize / 64) {
            *word &= !(1 << (rule % 64));
            self.count = self.count.saturating_sub(1);
        }
    }
}

/// What dead rules asked, and in which order they died.
#[derive(Clone, Debug, Default)]
pub(super) struct Graves {
    asked: HashMap<u32, Asked, FixedState>,
    order: VecDeque<u32>,
}

/// So many dead rules wait without harm; of many rules, a part.
const FEW: usize = 4096;
const PART: usize = 8;

impl Register {
    /// Takes a rule in. `rule` is a number below 2^31 that no other rule has; small numbers cost less.
    pub fn insert(&mut self, rule: u32, asked: &Asked) {
        if self.picture.dead.holds(rule)
            && let Some(before) = self.graves.asked.remove(&rule)
        {
            self.bury(rule, &before);
        }
        self.picture.dead.reach(rule);
        let formula = Formula::of(asked);
        self.place(rule, &formula);
        self.rules += 1;
        self.sweep(1);
    }

    /// Removes a rule, which asked this.
    pub fn remove(&mut self, rule: u32, asked: &Asked) {
        let known = self.homes.get(rule as usize);
        let known = known.is_some_and(|homes| !matches!(homes, Homes::Nowhere));
        if !known || self.picture.dead.holds(rule) {
            return;
        }
        self.rules -= 1;
        self.picture.dead.put(rule);
        self.graves.asked.insert(rule, asked.clone());
        self.graves.order.push_back(rule);
        if self.graves.asked.len() > FEW.max(self.rules / PART) {
            self.sweep(2);
        }
    }

    /// Takes dead rules from where they waited, so many at most.
    pub fn sweep(&mut self, most: usize) {
        for _ in 0..most {
            let Some(rule) = self.graves.order.pop_front() else {
                break;
            };
            // It may have been taken away already, for another rule with its number.
            if let Some(asked) = self.graves.asked.remove(&rule) {
                self.bury(rule, &asked);
            }
        }
    }

    fn bury(&mut self, rule: u32, asked: &Asked) {
        self.displace(rule, &Formula::of(asked));
        self.picture.dead.take(rule);
    }
}
