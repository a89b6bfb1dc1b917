//! The rules under one key. A list that grows long splits itself by an equality that most of its rules depend on.

use std::ops::Range;
use std::sync::Arc;

use super::attributes::Attribute;
use super::dictionary::KeyId;
use super::program::{musts, only_once, without};

/// Longer lists are split, where that is possible.
const LONG: u32 = 12;
/// By so many attributes, at most.
const SPLITS: usize = 4;

/// A rule's number; the highest bit says that the rule may be found in another place too.
pub(crate) type RuleNumber = u32;
pub(crate) const ELSEWHERE: RuleNumber = 1 << 31;

/// A list. All that is looked at lies together, in words: the rules, each with the length of its program and the program.
#[derive(Clone, Debug)]
pub(crate) enum List {
    /// As most are: nothing but words.
    Short(Arc<[u32]>),
    Long(Arc<Long>),
}

/// A list that has grown long. Its words begin with the splits, each an attribute, the number of its children and their
/// keys in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Long {
    words: Vec<u32>,
    /// Where the rules begin.
    begin: u32,
    /// How many rules there are, those of the children not among them.
    count: u32,
    /// Of the first split, then of the next. Behind them are those that take what no split takes, when there is much.
    children: Vec<List>,
}

/// A list with more words than these takes no more: a change must not copy too much.
const MANY: usize = 2048;

impl Default for List {
    fn default() -> List {
        List::Short(Arc::default())
    }
}

/// Where one of its splits stands in the words of a list.
struct Split {
    attribute: Attribute,
    /// Its keys are there, and the next split behind them.
    keys: Range<usize>,
    /// Which of the children is its first.
    first: usize,
}

/// How often events have a key of an attribute, from 0 to 1.
pub(crate) type Commonness<'c> = dyn Fn(Attribute, KeyId) -> f32 + 'c;

/// What a rule depends on: an attribute, of which one value must have one of these keys.
pub(crate) type Must = (Attribute, Vec<KeyId>);

/// The keys under which a rule waits where a list is split by an attribute. Of several sets the shortest and smallest is
/// taken, so that a rule is found where it was put.
fn chosen<'k>(
    musts: impl Iterator<Item = (Attribute, &'k [KeyId])>,
    attribute: Attribute,
) -> Option<Vec<KeyId>> {
    let of_it = musts.filter_map(|(of, keys)| (of == attribute).then_some(keys));
    let keys = of_it.min_by_key(|keys| (keys.len(), *keys))?;
    Some(keys.to_vec())
}

/// What is left of what a rule depends on, where it waits under a key that is one of so many.
fn left(depends: &[Must], key: KeyId, many: bool) -> Vec<Must> {
    let left = depends.iter().filter(|(_, keys)| !keys.contains(&key));
    left.filter(|(_, keys)| !many || keys.len() == 1)
        .cloned()
        .collect()
}

/// The rules that stand in some words, each with its program.
#[derive(Clone)]
pub(crate) struct Entries<'l>(&'l [u32]);

impl<'l> Iterator for Entries<'l> {
    type Item = (RuleNumber, &'l [u32]);

    #[inline]
    fn next(&mut self) -> Option<(RuleNumber, &'l [u32])> {
        let [rule, length, rest @ ..] = self.0 else {
            return None;
        };
        let (program, rest) = rest.split_at_checked(*length as usize)?;
        self.0 = rest;
        Some((*rule, program))
    }
}

impl List {
    #[inline]
    pub fn entries(&self) -> Entries<'_> {
        match self {
            List::Short(words) => Entries(words),
            List::Long(long) => long.entries(),
        }
    }

    /// Reads a little of what tells where the words are, so that it is near when they are read.
    #[inline]
    pub fn approach(&self) -> u32 {
        match self {
            List::Short(_) => 0,
            List::Long(long) => long.begin,
        }
    }

    /// Reads a little of each part of the words, so that they are near when all of them are read.
    #[inline]
    pub fn touch(&self) -> u32 {
        const LINE: usize = 16;
        const LINES: usize = 24;
        let words = match self {
            List::Short(words) => words,
            List::Long(long) => long.words.as_slice(),
        };
        let mut sum = 0;
        let mut place = 0;
        while let Some(word) = words.get(place) {
            sum ^= word;
            place += LINE;
            if place == LINE * LINES {
                break;
            }
        }
        sum
    }

    /// The children for an event; `keys_of` tells the keys that it has of an attribute.
    #[inline]
    pub fn children<'l, K: Iterator<Item = KeyId>>(
        &'l self,
        keys_of: impl Fn(Attribute) -> K,
        mut found: impl FnMut(&'l List),
    ) {
        let List::Long(long) = self else { return };
        for split in long.splits() {
            let keys = long.words.get(split.keys).unwrap_or_default();
            for key in keys_of(split.attribute) {
                if let Ok(at) = keys.binary_search(&key)
                    && let Some(child) = long.children.get(split.first + at)
                {
                    found(child);
                }
            }
        }
        long.blocks().iter().for_each(found);
    }

    pub fn is_empty(&self) -> bool {
        match self {
            List::Short(words) => words.is_empty(),
            // With its last rule it became short.
            List::Long(_) => false,
        }
    }

    /// How much of it can be told without looking further.
    #[inline]
    pub fn length(&self) -> u32 {
        match self {
            #[allow(clippy::cast_possible_truncation)] // it stands for no number
            List::Short(words) => words.len() as u32,
            List::Long(_) => 0,
        }
    }

    /// The rules in it and below; some of them more than once.
    pub fn rules(&self, all: &mut Vec<RuleNumber>) {
        all.extend(self.entries().map(|(rule, _)| rule & !ELSEWHERE));
        if let List::Long(long) = self {
            for child in &long.children {
                child.rules(all);
            }
        }
    }

    /// Whether a rule is in it or below.
    fn holds(&self, rule: RuleNumber) -> bool {
        let mut entries = self.entries();
        entries.any(|(known, _)| known & !ELSEWHERE == rule)
            || match self {
                List::Short(_) => false,
                List::Long(long) => long.children.iter().any(|child| child.holds(rule)),
            }
    }

    fn is_full(&self) -> bool {
        match self {
            List::Short(_) => false,
            List::Long(long) => long.words.len() > MANY,
        }
    }

    /// Adds a rule.
    pub fn put(&mut self, rule: RuleNumber, code: &mut Vec<u32>, commonness: &Commonness<'_>) {
        if let List::Short(words) = self {
            let (count, length) = (Entries(words).count(), words.len() + 2 + code.len());
            if count < LONG as usize && length <= MANY {
                let known = words.iter().copied();
                *words = known.chain(entry(rule, code)).collect();
                return;
            }
            #[allow(clippy::cast_possible_truncation)] // few
            let long = Long {
                words: words.to_vec(),
                count: count as u32,
                ..Long::default()
            };
            *self = List::Long(Arc::new(long));
        }
        if let List::Long(long) = self {
            Arc::make_mut(long).put(rule, code, commonness);
        }
    }

    /// Removes one entry of a rule whose program depends on these equalities; whether there was one.
    pub fn remove(&mut self, rule: RuleNumber, depends: &[Must]) -> bool {
        match self {
            List::Short(words) => {
                let Some(gone) = place_of(Entries(words), rule) else {
                    return false;
                };
                let before = words.iter().take(gone.start);
                let after = words.iter().skip(gone.end);
                *words = before.chain(after).copied().collect();
            }
            List::Long(long) => {
                let long = Arc::make_mut(long);
                if !long.remove(rule, depends) {
                    return false;
                }
                if long.children.is_empty() && long.count <= LONG / 2 {
                    *self = List::Short(long.words.as_slice().into());
                }
            }
        }
        true
    }
}

/// A rule as it stands in the words.
#[allow(clippy::cast_possible_truncation)] // a query is short
fn entry(rule: RuleNumber, code: &[u32]) -> impl Iterator<Item = u32> {
    [rule, code.len() as u32]
        .into_iter()
        .chain(code.iter().copied())
}

/// Where the words of a rule are, from the first of the entries on.
fn place_of(entries: Entries<'_>, rule: RuleNumber) -> Option<Range<usize>> {
    let mut begin = 0;
    for (known, program) in entries {
        let end = begin + 2 + program.len();
        if known & !ELSEWHERE == rule {
            return Some(begin..end);
        }
        begin = end;
    }
    None
}

impl Long {
    fn entries(&self) -> Entries<'_> {
        Entries(self.words.get(self.begin as usize..).unwrap_or_default())
    }

    /// The split that stands at a place, where one does.
    #[inline]
    fn split_at(&self, place: usize, first: usize) -> Option<Split> {
        let words = self.words.get(..self.begin as usize)?;
        let (attribute, count) = (*words.get(place)?, *words.get(place + 1)?);
        #[allow(clippy::cast_possible_truncation)] // it was one before
        Some(Split {
            attribute: attribute as Attribute,
            keys: place + 2..place + 2 + count as usize,
            first,
        })
    }

    #[inline]
    fn after(&self, split: &Split) -> Option<Split> {
        self.split_at(split.keys.end, split.first + split.keys.len())
    }

    #[inline]
    fn splits(&self) -> impl Iterator<Item = Split> {
        std::iter::successors(self.split_at(0, 0), |split| self.after(split))
    }

    fn put(&mut self, rule: RuleNumber, code: &mut Vec<u32>, commonness: &Commonness<'_>) {
        let place = self
            .splits()
            .find_map(|split| Some((split.attribute, chosen(musts(code), split.attribute)?)));
        if let Some((attribute, keys)) = place {
            if keys.len() > 1 {
                only_once(code);
            }
            for key in keys {
                let mut code = code.clone();
                without(&mut code, key);
                self.put_below(attribute, key, rule, &mut code, commonness);
            }
            return;
        }
        if self.words.len() > MANY {
            if self.blocks().last().is_none_or(List::is_full) {
                self.children.push(List::default());
            }
            if let Some(block) = self.children.last_mut() {
                block.put(rule, code, commonness);
            }
            return;
        }
        self.push(rule, code);
        if self.count > LONG && self.count.is_multiple_of(8) && self.splits().count() < SPLITS {
            self.split(commonness);
        }
    }

    /// How many children belong to splits.
    fn below(&self) -> usize {
        self.splits()
            .last()
            .map_or(0, |last| last.first + last.keys.len())
    }

    /// The children that take what no split takes.
    fn blocks(&self) -> &[List] {
        self.children.get(self.below()..).unwrap_or_default()
    }

    fn put_below(
        &mut self,
        attribute: Attribute,
        key: KeyId,
        rule: RuleNumber,
        code: &mut Vec<u32>,
        commonness: &Commonness<'_>,
    ) {
        let Some(split) = self.splits().find(|split| split.attribute == attribute) else {
            return;
        };
        let keys = self.words.get(split.keys.clone()).unwrap_or_default();
        let at = match keys.binary_search(&key) {
            Ok(at) => at,
            Err(at) => {
                self.words.reserve_exact(1);
                self.words.insert(split.keys.start + at, key);
                self.tell(&split, split.keys.len() + 1);
                self.begin += 1;
                self.children.reserve_exact(1);
                self.children.insert(split.first + at, List::default());
                at
            }
        };
        if let Some(child) = self.children.get_mut(split.first + at) {
            child.put(rule, code, commonness);
        }
    }

    /// Writes how many keys a split has.
    fn tell(&mut self, split: &Split, count: usize) {
        if let Some(place) = self.words.get_mut(split.keys.start - 1) {
            #[allow(clippy::cast_possible_truncation)] // no four billion keys
            {
                *place = count as u32;
            }
        }
    }

    fn push(&mut self, rule: RuleNumber, code: &[u32]) {
        let more = 2 + code.len();
        if self.words.capacity() - self.words.len() < more {
            self.words.reserve_exact(more + self.words.len() / 16);
        }
        self.words.extend(entry(rule, code));
        self.count += 1;
    }

    fn split(&mut self, commonness: &Commonness<'_>) {
        let mut worth: Vec<(Attribute, f32)> = Vec::new();
        for (_, program) in self.entries() {
            for (attribute, keys) in musts(program) {
                if self.splits().any(|split| split.attribute == attribute) {
                    continue;
                }
                let common: f32 = keys.iter().map(|key| commonness(attribute, *key)).sum();
                let spared = 1.0 - common.min(1.0);
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
        let rules = self.words.split_off(self.begin as usize);
        self.words.reserve_exact(2);
        self.words.extend([u32::from(attribute), 0]);
        self.begin += 2;
        self.count = 0;
        for (rule, program) in Entries(&rules) {
            self.put(rule, &mut program.to_vec(), commonness);
        }
    }

    fn remove(&mut self, rule: RuleNumber, depends: &[Must]) -> bool {
        let attributes: Vec<Attribute> = self.splits().map(|split| split.attribute).collect();
        for attribute in attributes {
            let musts = depends.iter().map(|(of, keys)| (*of, keys.as_slice()));
            let Some(keys) = chosen(musts, attribute) else {
                continue;
            };
            let mut found = false;
            for key in &keys {
                let left = left(depends, *key, keys.len() > 1);
                found |= self.remove_below(attribute, *key, rule, &left);
            }
            if found {
                return true;
            }
        }
        let Some(gone) = place_of(self.entries(), rule) else {
            return self.remove_from_block(rule, depends);
        };
        let begin = self.begin as usize;
        self.words.drain(begin + gone.start..begin + gone.end);
        self.count -= 1;
        self.shrink();
        true
    }

    fn remove_from_block(&mut self, rule: RuleNumber, depends: &[Must]) -> bool {
        let below = self.below();
        let at = self.blocks().iter().position(|block| block.holds(rule));
        let Some(at) = at.map(|at| below + at) else {
            return false;
        };
        let Some(block) = self.children.get_mut(at) else {
            return false;
        };
        let found = block.remove(rule, depends);
        if block.is_empty() {
            self.children.remove(at);
            self.shrink();
        }
        found
    }

    fn remove_below(
        &mut self,
        attribute: Attribute,
        key: KeyId,
        rule: RuleNumber,
        depends: &[Must],
    ) -> bool {
        let Some(split) = self.splits().find(|split| split.attribute == attribute) else {
            return false;
        };
        let keys = self.words.get(split.keys.clone()).unwrap_or_default();
        let Ok(at) = keys.binary_search(&key) else {
            return false;
        };
        let Some(child) = self.children.get_mut(split.first + at) else {
            return false;
        };
        if !child.remove(rule, depends) {
            return false;
        }
        if child.is_empty() {
            self.children.remove(split.first + at);
            self.tell(&split, split.keys.len() - 1);
            // With its last child a split goes.
            let gone = match split.keys.len() {
                1 => split.keys.start - 2..split.keys.end,
                _ => split.keys.start + at..split.keys.start + at + 1,
            };
            #[allow(clippy::cast_possible_truncation)] // three at most
            {
                self.begin -= gone.len() as u32;
            }
            self.words.drain(gone);
            self.shrink();
        }
        true
    }

    /// Gives back what was taken for more.
    fn shrink(&mut self) {
        if self.words.capacity() > 2 * self.words.len() {
            self.words.shrink_to_fit();
        }
        if self.children.capacity() > 2 * self.children.len() {
            self.children.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{List, MANY};

    #[test]
    fn a_list_that_no_equality_splits_is_kept_in_blocks_that_come_and_go() {
        let mut list = List::default();
        // Programs of one word that depend on nothing.
        for rule in 0..5_000 {
            list.put(rule, &mut vec![super::super::program::JUDGE], &|_, _| 0.5);
        }
        let found = |list: &List| {
            let mut seen = 0;
            let mut visits = vec![list];
            while let Some(list) = visits.pop() {
                seen += list.entries().count();
                assert!(list.entries().count() <= MANY, "a block is short");
                list.children(|_| std::iter::empty(), |child| visits.push(child));
            }
            seen
        };
        assert_eq!(found(&list), 5_000);
        let before = list.clone();
        for rule in (0..5_000).rev() {
            assert!(list.remove(rule, &[]));
        }
        assert!(!list.remove(7, &[]) && list.is_empty());
        assert_eq!((found(&list), found(&before)), (0, 5_000));
    }
}
