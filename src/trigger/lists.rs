//! The rules under one key. A list that grows long splits itself by an equality that most of its rules depend on.

use std::sync::Arc;

use super::attributes::Attribute;
use super::dictionary::KeyId;
use super::program::{EQUAL, musts, without};

/// Longer lists are split, where that is possible.
const LONG: usize = 24;
/// By so many attributes, at most.
const SPLITS: usize = 4;

/// A rule's number; the highest bit says that the rule may be found in another place too.
pub(crate) type RuleNumber = u32;
pub(crate) const ELSEWHERE: RuleNumber = 1 << 31;

/// A candidate: sixteen bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub rule: RuleNumber,
    /// Of an equality that is tested before anything else: its attribute, or [`NO_CHECK`].
    pub check: u32,
    pub key: KeyId,
    /// Where the program begins, with its length before it; or [`NOTHING_LEFT`].
    code: u32,
}

pub(crate) const NO_CHECK: u32 = u32::MAX;
pub(crate) const NOTHING_LEFT: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub entries: Vec<Entry>,
    code: Vec<u32>,
    pub splits: Vec<Split>,
}

/// Rules that wait for one more value of an attribute, by its key; in the order of the keys.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub attribute: Attribute,
    children: Vec<(KeyId, Arc<List>)>,
}

impl Split {
    #[inline]
    pub fn child(&self, key: KeyId) -> Option<&Arc<List>> {
        let at = self
            .children
            .binary_search_by_key(&key, |(known, _)| *known)
            .ok()?;
        self.children.get(at).map(|(_, list)| list)
    }

    pub fn children(&self) -> impl Iterator<Item = &Arc<List>> {
        self.children.iter().map(|(_, list)| list)
    }
}

/// Of several values of one attribute a list is split by the smallest key, so that a rule is found where it was put.
fn chosen(musts: &[(Attribute, KeyId)], attribute: Attribute) -> Option<(Attribute, KeyId)> {
    musts
        .iter()
        .copied()
        .filter(|must| must.0 == attribute)
        .min()
}

impl List {
    /// What is left to be checked after the entry's own check; nothing where all is done.
    #[inline]
    pub fn program(&self, entry: &Entry) -> &[u32] {
        let start = entry.code as usize;
        let Some(&length) = self.code.get(start) else {
            return &[];
        };
        self.code
            .get(start + 1..start + 1 + length as usize)
            .unwrap_or(&[])
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.splits.is_empty()
    }

    /// The rules in it and below.
    pub fn rules(&self, all: &mut Vec<RuleNumber>) {
        all.extend(self.entries.iter().map(|entry| entry.rule & !ELSEWHERE));
        for child in self.splits.iter().flat_map(Split::children) {
            child.rules(all);
        }
    }

    /// Adds a rule. `commonness` tells how often events have a key, from 0 to 1.
    pub fn put(&mut self, rule: RuleNumber, code: Vec<u32>, commonness: &dyn Fn(KeyId) -> f32) {
        if !self.splits.is_empty() {
            let depends = musts(&code);
            for split in &mut self.splits {
                let Some(must) = chosen(&depends, split.attribute) else {
                    continue;
                };
                let code = without(&code, must);
                let at = match split
                    .children
                    .binary_search_by_key(&must.1, |(known, _)| *known)
                {
                    Ok(at) => at,
                    Err(at) => {
                        split.children.insert(at, (must.1, Arc::default()));
                        at
                    }
                };
                if let Some((_, child)) = split.children.get_mut(at) {
                    Arc::make_mut(child).put(rule, code, commonness);
                }
                return;
            }
        }
        self.push(rule, code);
        let long = self.entries.len() > LONG && self.entries.len().is_multiple_of(8);
        if long && self.splits.len() < SPLITS {
            self.split(commonness);
        }
    }

    fn push(&mut self, rule: RuleNumber, code: Vec<u32>) {
        let (check, key, code) = match musts(&code).first() {
            Some(&must) => (u32::from(must.0), must.1, without(&code, must)),
            None => (NO_CHECK, 0, code),
        };
        #[allow(clippy::cast_possible_truncation)] // a list of four billion words is not
        let place = match code.is_empty() {
            true => NOTHING_LEFT,
            false => {
                let start = self.code.len() as u32;
                self.code.push(code.len() as u32);
                self.code.extend(code);
                start
            }
        };
        self.entries.push(Entry {
            rule,
            check,
            key,
            code: place,
        });
    }

    /// Takes the entries out, each with its whole program.
    fn take(&mut self) -> Vec<(RuleNumber, Vec<u32>)> {
        let entries = std::mem::take(&mut self.entries);
        let taken = entries
            .iter()
            .map(|entry| {
                let mut code = Vec::new();
                if entry.check != NO_CHECK {
                    code.extend([must_instruction(entry.check), entry.key]);
                }
                code.extend(self.program(entry));
                (entry.rule, code)
            })
            .collect();
        self.code = Vec::new();
        taken
    }

    fn split(&mut self, commonness: &dyn Fn(KeyId) -> f32) {
        let mut worth: Vec<(Attribute, f32)> = Vec::new();
        for entry in &self.entries {
            let inline = (entry.check != NO_CHECK).then_some((entry.check, entry.key));
            let rest = musts(self.program(entry));
            #[allow(clippy::cast_possible_truncation)] // it was one before
            let all = inline.map(|(attribute, key)| (attribute as Attribute, key));
            for (attribute, key) in all.into_iter().chain(rest) {
                if self.splits.iter().any(|split| split.attribute == attribute) {
                    continue;
                }
                let spared = 1.0 - commonness(key);
                match worth.iter_mut().find(|(known, _)| *known == attribute) {
                    Some((_, sum)) => *sum += spared,
                    None => worth.push((attribute, spared)),
                }
            }
        }
        let best = worth.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((attribute, _)) = best.filter(|(_, spared)| *spared >= 4.0) else {
            return;
        };
        self.splits.push(Split {
            attribute,
            children: Vec::new(),
        });
        for (rule, code) in self.take() {
            self.put(rule, code, commonness);
        }
    }

    /// Removes one entry of a rule whose program depends on these equalities; whether there was one.
    pub fn remove(&mut self, rule: RuleNumber, depends: &[(Attribute, KeyId)]) -> bool {
        for at in 0..self.splits.len() {
            let Some(split) = self.splits.get_mut(at) else {
                break;
            };
            let Some(must) = chosen(depends, split.attribute) else {
                continue;
            };
            let Ok(place) = split
                .children
                .binary_search_by_key(&must.1, |(known, _)| *known)
            else {
                continue;
            };
            let left: Vec<(Attribute, KeyId)> =
                depends.iter().copied().filter(|one| *one != must).collect();
            let Some((_, child)) = split.children.get_mut(place) else {
                continue;
            };
            let child = Arc::make_mut(child);
            if !child.remove(rule, &left) {
                continue;
            }
            if child.is_empty() {
                split.children.remove(place);
                if split.children.is_empty() {
                    self.splits.remove(at);
                } else if split.children.capacity() > 2 * split.children.len() {
                    split.children.shrink_to_fit();
                }
            }
            return true;
        }
        let found = self
            .entries
            .iter()
            .position(|entry| entry.rule & !ELSEWHERE == rule);
        let Some(place) = found else {
            return false;
        };
        let mut kept = self.take();
        kept.remove(place);
        for (rule, code) in kept {
            self.push(rule, code);
        }
        true
    }
}

fn must_instruction(attribute: u32) -> u32 {
    EQUAL | attribute << 8 | super::program::MUST_END
}
