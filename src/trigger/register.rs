//! The writer's side of the index: rules come and go, and move to rarer keys as events are seen.
//!
//! A rule is cut at its top-level "or" into branches. Each branch waits under the key of its rarest predicate; what is
//! left of it is a program. Only the writer knows how often a constant or a test is named; readers hold a [`Picture`].

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attributes::{Attribute, Attributes};
use super::dictionary::{Dictionary, Form, Key, KeyId, NO_KEY, Record};
use super::event::Event;
use super::formula::{Asked, Formula};
use super::lists::{ELSEWHERE, List, Must};
use super::literal::Literal;
use super::picture::Picture;
use super::pieces::Pieces;
use super::program::{TestId, without};
use super::statistics::Statistics;
use graves::Graves;

mod graves;
mod names;
mod places;

pub(super) use graves::Dead;

/// More branches than these are one, checked whole.
const BRANCHES: usize = 16;

#[derive(Clone, Debug)]
pub struct Register {
    picture: Picture,
    /// Where each rule waits: branch and key.
    homes: Vec<Homes>,
    /// Of each key.
    named: Vec<Named>,
    /// How often each test is named.
    tested: Vec<u32>,
    free_keys: Vec<KeyId>,
    free_tests: Vec<TestId>,
    tests: HashMap<(Attribute, String), TestId, FixedState>,
    /// How many keys there are of each sort that readers look up by a mask.
    sorts: HashMap<(Attribute, u8, u8), u32, FixedState>,
    statistics: Statistics,
    rules: usize,
    graves: Graves,
    /// The rule after the last one that was asked whether it waits at the right place.
    next: u32,
}

/// The hash of a key, and how often it is named.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    hash: u32,
    count: u32,
}

#[derive(Clone, Debug, Default)]
enum Homes {
    /// There is no such rule.
    #[default]
    Nowhere,
    /// It is never true.
    Never,
    One(KeyId),
    Several(Box<[(u16, KeyId)]>),
}

impl Homes {
    fn all(&self) -> Vec<(u16, KeyId)> {
        match self {
            Homes::Nowhere | Homes::Never => Vec::new(),
            Homes::One(key) => vec![(0, *key)],
            Homes::Several(several) => several.to_vec(),
        }
    }
}

impl Default for Register {
    fn default() -> Register {
        Register::new()
    }
}

impl Register {
    pub fn new() -> Register {
        Register {
            picture: Picture {
                attributes: Arc::new(Attributes::default()),
                sorts: Arc::default(),
                dictionary: Dictionary::default(),
                unindexed: List::default(),
                tests: Pieces::default(),
                nones: Arc::default(),
                absent: Arc::default(),
                dead: Dead::default(),
            },
            homes: Vec::new(),
            named: vec![Named::default()],
            tested: Vec::new(),
            free_keys: Vec::new(),
            free_tests: Vec::new(),
            tests: HashMap::default(),
            sorts: HashMap::default(),
            statistics: Statistics::default(),
            rules: 0,
            graves: Graves::default(),
            next: 0,
        }
    }

    /// All rules as they are now, for readers.
    pub fn picture(&self) -> Picture {
        self.picture.clone()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules
    }

    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// How many constants and tests rules name, with those that are dead and not yet swept away.
    pub fn named(&self) -> usize {
        let named = self.named.iter().map(|named| named.count);
        let counts = named.chain(self.tested.iter().copied());
        counts.filter(|count| *count > 0).count()
    }

    /// How many rules no key finds: each event looks at them.
    pub fn unindexed(&self) -> usize {
        let mut rules = Vec::new();
        self.picture.unindexed.rules(&mut rules);
        rules.sort_unstable();
        rules.dedup();
        rules.retain(|rule| !self.picture.dead.holds(*rule));
        rules.len()
    }

    fn place(&mut self, rule: u32, formula: &Formula) {
        let branches = branches(formula);
        let mut homes: Vec<(u16, KeyId)> = Vec::new();
        let mut written: Vec<(Vec<u32>, Vec<KeyId>)> = Vec::new();
        for (number, branch) in branches.iter().enumerate() {
            let place = self.rarest(branch);
            let keys: Vec<KeyId> = match place {
                Some(place) => place.keys.into_iter().map(|key| self.name(key)).collect(),
                None => vec![NO_KEY],
            };
            let code = self.program(branch);
            #[allow(clippy::cast_possible_truncation)] // few branches
            homes.extend(keys.iter().map(|key| (number as u16, *key)));
            written.push((code, keys));
        }
        let elsewhere = if homes.len() > 1 { ELSEWHERE } else { 0 };
        for (code, keys) in written {
            for key in keys {
                self.put(key, rule | elsewhere, code.clone());
            }
        }
        let homes = match homes.as_slice() {
            [] => Homes::Never,
            [(_, key)] => Homes::One(*key),
            several => Homes::Several(several.into()),
        };
        let at = rule as usize;
        if at >= self.homes.len() {
            self.homes.resize(at + 1, Homes::Nowhere);
        }
        if let Some(place) = self.homes.get_mut(at) {
            *place = homes;
        }
    }

    fn displace(&mut self, rule: u32, formula: &Formula) {
        let Some(homes) = self.homes.get_mut(rule as usize).map(std::mem::take) else {
            return;
        };
        let homes = homes.all();
        let branches = branches(formula);
        for (number, branch) in branches.iter().enumerate() {
            let depends = self.depends(branch);
            for (_, key) in homes.iter().filter(|(of, _)| usize::from(*of) == number) {
                let left = depends.iter().filter(|(_, keys)| !keys.contains(key));
                let left: Vec<Must> = left.cloned().collect();
                self.take(*key, rule, &left);
                self.unname(*key);
            }
            self.release(branch);
        }
    }

    fn record(&self, key: KeyId) -> Option<&Record> {
        let named = self.named.get(key as usize)?;
        self.picture.dictionary.record(named.hash, key)
    }

    /// The list under a key, or that of the rules that no key finds.
    fn list(&self, key: KeyId) -> Option<&List> {
        match key {
            NO_KEY => Some(&self.picture.unindexed),
            key => Some(&self.record(key)?.list),
        }
    }

    fn put(&mut self, key: KeyId, rule: u32, mut code: Vec<u32>) {
        // The program need not ask what its key has answered.
        without(&mut code, key);
        let (statistics, named) = (&self.statistics, &self.named);
        let commonness = |attribute: Attribute, key: KeyId| match named.get(key as usize) {
            Some(named) => statistics.commonness(attribute, named.hash),
            None => 0.5,
        };
        if key == NO_KEY {
            let list = &mut self.picture.unindexed;
            list.put(rule, &mut code, &commonness);
            return;
        }
        let hash = named.get(key as usize).map_or(0, |named| named.hash);
        let Some(record) = self.picture.dictionary.record_mut(hash, key) else {
            return;
        };
        let fresh = record.list.is_empty();
        record.list.put(rule, &mut code, &commonness);
        if fresh {
            let key = record.key.clone();
            self.waits(&key, true);
        }
    }

    /// Takes a rule from under a key. The list, if that is all there was, goes with it.
    fn take(&mut self, key: KeyId, rule: u32, depends: &[Must]) {
        if key == NO_KEY {
            self.picture.unindexed.remove(rule, depends);
            return;
        }
        let hash = self.named.get(key as usize).map_or(0, |named| named.hash);
        if let Some(record) = self.picture.dictionary.record_mut(hash, key) {
            record.list.remove(rule, depends);
            if record.list.is_empty() {
                let key = record.key.clone();
                self.waits(&key, false);
            }
        }
    }

    /// Whether rules wait under a key has changed: of None, readers must know it.
    fn waits(&mut self, key: &Key, waits: bool) {
        if key.form != Form::Is(Literal::None) {
            return;
        }
        let absent = Arc::make_mut(&mut self.picture.absent);
        absent.retain(|known| *known != key.attribute);
        let elements = self.picture.sorts.get(usize::from(key.attribute));
        if waits && elements.is_some_and(|sorts| !sorts.elements) {
            absent.push(key.attribute);
        }
    }

    // --- learning ---

    /// Learns from an event that was filled from the present picture.
    pub fn show(&mut self, event: &mut Event) {
        self.statistics.show(event);
        for (key, looked_at) in self.picture.burdens(event) {
            self.statistics.bore(key, looked_at);
        }
    }

    /// Moves rules that wait under keys that turned out common, so many at most; answers how many were moved. `asked`
    /// tells what a rule asks.
    pub fn settle(&mut self, most: usize, asked: &dyn Fn(u32) -> Option<Asked>) -> usize {
        // Under what is lighter than this an event loses less than moving costs.
        const LIGHT: u32 = 64;
        self.sweep(most);
        let mut looked_at = 0;
        let mut moved = 0;
        while looked_at < most {
            let Some((key, burden)) = self.statistics.heaviest() else {
                break;
            };
            if burden < LIGHT {
                self.statistics.rest();
                break;
            }
            let mut rules = Vec::new();
            if let Some(list) = self.list(key) {
                list.rules(&mut rules);
            }
            rules.sort_unstable();
            rules.dedup();
            rules.retain(|rule| !self.picture.dead.holds(*rule));
            // A long list is seen to in parts, each time from another place on.
            let many = rules.len();
            if many > most {
                let from = self.next as usize % many;
                rules.rotate_left(from);
                rules.truncate(most);
                #[allow(clippy::cast_possible_truncation)] // it wraps as it likes
                {
                    self.next = self.next.wrapping_add(most as u32);
                }
                self.statistics.bore(key, burden as usize / 2);
            }
            looked_at += rules.len().max(1);
            for rule in rules {
                if let Some(asked) = asked(rule) {
                    moved += usize::from(self.move_if_better(rule, &asked));
                }
            }
            if many > most {
                break;
            }
        }
        moved
    }

    fn move_if_better(&mut self, rule: u32, asked: &Asked) -> bool {
        let formula = Formula::of(asked);
        let Some(homes) = self.homes.get(rule as usize).map(Homes::all) else {
            return false;
        };
        let mut better = false;
        for (number, branch) in branches(&formula).iter().enumerate() {
            let now: f32 = homes
                .iter()
                .filter(|(of, _)| usize::from(*of) == number)
                .map(|(_, key)| self.cost_of(*key))
                .sum();
            if let Some(place) = self.rarest(branch) {
                better |= place.cost < now / 2.0;
            }
        }
        if better {
            self.displace(rule, &formula);
            self.place(rule, &formula);
        }
        better
    }
}

/// The branches of a rule, each an "and" of parts. None at all: the rule is never true.
fn branches(formula: &Formula) -> Vec<Vec<&Formula>> {
    match formula {
        Formula::Constant(false) => Vec::new(),
        Formula::Constant(true) => vec![Vec::new()],
        Formula::Or(parts) if parts.len() <= BRANCHES => parts.iter().map(parts_of).collect(),
        other => vec![parts_of(other)],
    }
}

fn parts_of(formula: &Formula) -> Vec<&Formula> {
    match formula {
        Formula::And(parts) => parts.iter().collect(),
        other => vec![other],
    }
}
