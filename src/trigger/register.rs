//! The writer's side of the index: rules come and go, and move to rarer keys as events are seen.
//!
//! A rule is cut at its top-level "or" into branches. Each branch waits under the key of its rarest predicate; what is
//! left of it is a program. Only the writer knows how often a constant or a test is named; readers hold a [`Picture`].

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attributes::{Attribute, Attributes, Described, Reading};
use super::dictionary::{Dictionary, Form, Key, KeyId, NO_KEY, grid, hashed};
use super::event::Event;
use super::formula::{Ask, Asked, Formula, Leaf};
use super::lists::ELSEWHERE;
use super::literal::Literal;
use super::picture::{Matches, Picture, Sorts};
use super::pieces::Pieces;
use super::program::{AskNumber, JUDGE, Numbered, TestId, musts, write};
use super::statistics::Statistics;
use crate::query::tree::{Needle, Test};

/// More branches than these are one, checked whole.
const BRANCHES: usize = 16;
/// A predicate with more keys than these is no place to wait at, unless there is no other.
const KEYS: usize = 64;
/// The longest beginning or end that is a key.
const LONGEST: usize = 63;

#[derive(Clone, Debug)]
pub struct Register {
    picture: Picture,
    /// Where each rule waits: branch and key.
    homes: Vec<Homes>,
    /// How often each key and each test is named.
    named: Vec<u32>,
    tested: Vec<u32>,
    free_keys: Vec<KeyId>,
    free_tests: Vec<TestId>,
    tests: HashMap<(Attribute, String), TestId, FixedState>,
    /// How many keys there are of each sort that readers look up by a mask.
    sorts: HashMap<(Attribute, u8, u8), u32, FixedState>,
    statistics: Statistics,
    rules: usize,
    /// The rule after the last one that was asked whether it waits at the right place.
    next: u32,
}

#[derive(Clone, Debug, Default)]
enum Homes {
    #[default]
    Nowhere,
    One(KeyId),
    Several(Box<[(u16, KeyId)]>),
}

impl Homes {
    fn all(&self) -> Vec<(u16, KeyId)> {
        match self {
            Homes::Nowhere => Vec::new(),
            Homes::One(key) => vec![(0, *key)],
            Homes::Several(several) => several.to_vec(),
        }
    }
}

/// Where a branch may wait, and how many events would find it there.
struct Place {
    keys: Vec<Key>,
    cost: f32,
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
                sorts: Pieces::default(),
                dictionary: Dictionary::new(),
                tests: Pieces::default(),
                absent: Arc::default(),
            },
            homes: Vec::new(),
            named: vec![0],
            tested: Vec::new(),
            free_keys: Vec::new(),
            free_tests: Vec::new(),
            tests: HashMap::default(),
            sorts: HashMap::default(),
            statistics: Statistics::default(),
            rules: 0,
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

    /// How many constants and tests rules name.
    pub fn named(&self) -> usize {
        let named = self.named.iter().chain(&self.tested);
        named.filter(|count| **count > 0).count()
    }

    /// How many rules no key finds: each event looks at them.
    pub fn unindexed(&self) -> usize {
        let mut rules = Vec::new();
        if let Some(list) = self.picture.dictionary.list(NO_KEY) {
            list.rules(&mut rules);
        }
        rules.len()
    }

    /// Takes a rule in. `rule` is a number below 2^31 that no other rule has; small numbers cost less.
    pub fn insert(&mut self, rule: u32, asked: &Asked) {
        let formula = Formula::of(asked);
        self.place(rule, &formula);
        self.rules += 1;
    }

    /// Removes a rule, which asked this.
    pub fn remove(&mut self, rule: u32, asked: &Asked) {
        let formula = Formula::of(asked);
        if self.displace(rule, &formula) {
            self.rules -= 1;
        }
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
                let code = without_key(&code, key);
                self.put(key, rule | elsewhere, code);
            }
        }
        let homes = match homes.as_slice() {
            [] => Homes::Nowhere,
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

    fn displace(&mut self, rule: u32, formula: &Formula) -> bool {
        let Some(homes) = self.homes.get_mut(rule as usize).map(std::mem::take) else {
            return false;
        };
        let homes = homes.all();
        let branches = branches(formula);
        for (number, branch) in branches.iter().enumerate() {
            let depends = self.depends(branch);
            for (_, key) in homes.iter().filter(|(of, _)| usize::from(*of) == number) {
                let left: Vec<(Attribute, KeyId)> = depends
                    .iter()
                    .copied()
                    .filter(|must| must.1 != *key)
                    .collect();
                if let Some(place) = self.picture.dictionary.list_mut(*key)
                    && let Some(list) = place
                {
                    let list = Arc::make_mut(list);
                    list.remove(rule, &left);
                    if list.is_empty() {
                        *place = None;
                        self.waits(*key, false);
                    }
                }
                self.unname(*key);
            }
            self.release(branch);
        }
        !homes.is_empty() || branches.is_empty()
    }

    fn put(&mut self, key: KeyId, rule: u32, code: Vec<u32>) {
        let taken = self.picture.dictionary.list_mut(key).map(Option::take);
        let known = taken.flatten();
        let fresh = known.is_none();
        let mut list = known.unwrap_or_default();
        let commonness = |key: KeyId| commonness(&self.statistics, &self.picture.dictionary, key);
        Arc::make_mut(&mut list).put(rule, code, &commonness);
        if let Some(place) = self.picture.dictionary.list_mut(key) {
            *place = Some(list);
        }
        if fresh {
            self.waits(key, true);
        }
    }

    /// Whether rules wait under a key has changed: of None, readers must know it.
    fn waits(&mut self, key: KeyId, waits: bool) {
        let Some(Key {
            attribute,
            form: Form::Is(Literal::None),
        }) = self
            .picture
            .dictionary
            .record(key)
            .and_then(|record| record.key.clone())
        else {
            return;
        };
        let absent = Arc::make_mut(&mut self.picture.absent);
        absent.retain(|known| *known != attribute);
        let elements = self.picture.sorts.get(usize::from(attribute));
        if waits && elements.is_some_and(|sorts| !sorts.elements) {
            absent.push(attribute);
        }
    }

    // --- names ---

    fn attribute(&mut self, described: &Described) -> Option<Attribute> {
        if let Some(known) = self.picture.attributes.known(described) {
            return Some(known);
        }
        let number = Arc::make_mut(&mut self.picture.attributes).add(described)?;
        self.picture.sorts.push(Sorts {
            elements: described.elements,
            instants: described.reading == Reading::Instant,
            ..Sorts::default()
        });
        Some(number)
    }

    /// The number of a key, which is named once more.
    fn name(&mut self, key: Key) -> KeyId {
        let known = self.picture.dictionary.find_form(key.attribute, &key.form);
        let id = match known {
            NO_KEY => {
                self.mark(&key, true);
                let free = self.free_keys.pop();
                let attribute = key.attribute;
                let none = key.form == Form::Is(Literal::None);
                let several = key.form == Form::Several;
                let id = self.picture.dictionary.add(key, free);
                if let Some(sorts) = self.picture.sorts.get_mut(usize::from(attribute))
                    && (none || several)
                {
                    if several {
                        sorts.several = id;
                    } else if !sorts.elements {
                        sorts.none = id;
                    }
                }
                id
            }
            id => id,
        };
        if self.named.len() <= id as usize {
            self.named.resize(id as usize + 1, 0);
        }
        if let Some(count) = self.named.get_mut(id as usize) {
            *count += 1;
        }
        id
    }

    fn unname(&mut self, id: KeyId) {
        let Some(count) = self.named.get_mut(id as usize).filter(|_| id != NO_KEY) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        let record = self.picture.dictionary.record(id);
        let Some(key) = record.and_then(|record| record.key.clone()) else {
            return;
        };
        self.mark(&key, false);
        if let Some(sorts) = self.picture.sorts.get_mut(usize::from(key.attribute)) {
            if sorts.none == id {
                sorts.none = NO_KEY;
            }
            if sorts.several == id {
                sorts.several = NO_KEY;
            }
        }
        self.picture.dictionary.remove(id);
        self.free_keys.push(id);
    }

    /// Counts a key among those of its sort, and tells readers of sorts that came or went.
    fn mark(&mut self, key: &Key, comes: bool) {
        let (sort, bit) = match &key.form {
            Form::Is(_) => {
                match comes {
                    true => self.statistics.named(key.attribute),
                    false => self.statistics.unnamed(key.attribute),
                }
                return;
            }
            Form::Several => return,
            #[allow(clippy::cast_possible_truncation)] // at most LONGEST
            Form::Starts(text) => (1, text.len() as u8),
            #[allow(clippy::cast_possible_truncation)]
            Form::Ends(text) => (2, text.len() as u8),
            Form::Cell(level, _) => (0, *level),
            Form::Gram(_) => (3, 0),
        };
        let count = self.sorts.entry((key.attribute, sort, bit)).or_default();
        *count = if comes { *count + 1 } else { *count - 1 };
        let some = *count > 0;
        if !some {
            self.sorts.remove(&(key.attribute, sort, bit));
        }
        if let Some(sorts) = self.picture.sorts.get_mut(usize::from(key.attribute)) {
            let mask = match sort {
                0 => &mut sorts.levels,
                1 => &mut sorts.starts,
                2 => &mut sorts.ends,
                _ => {
                    sorts.grams = some;
                    return;
                }
            };
            match some {
                true => *mask |= 1 << bit,
                false => *mask &= !(1 << bit),
            }
        }
    }

    fn name_test(&mut self, attribute: Attribute, test: &Test) -> TestId {
        let written = format!("{test:?}");
        if let Some(&known) = self.tests.get(&(attribute, written.clone())) {
            if let Some(count) = self.tested.get_mut(known as usize) {
                *count += 1;
            }
            return known;
        }
        let kept = Some(Arc::new(test.clone()));
        let id = match self.free_tests.pop() {
            Some(id) => id,
            None => {
                self.picture.tests.push(None);
                self.tested.push(0);
                #[allow(clippy::cast_possible_truncation)] // no four billion tests
                {
                    self.picture.tests.len() as TestId - 1
                }
            }
        };
        if let Some(place) = self.picture.tests.get_mut(id as usize) {
            *place = kept;
        }
        if let Some(count) = self.tested.get_mut(id as usize) {
            *count = 1;
        }
        self.tests.insert((attribute, written), id);
        id
    }

    fn unname_test(&mut self, attribute: Attribute, test: &Test) {
        let written = (attribute, format!("{test:?}"));
        let Some(&id) = self.tests.get(&written) else {
            return;
        };
        if let Some(count) = self.tested.get_mut(id as usize) {
            *count = count.saturating_sub(1);
            if *count > 0 {
                return;
            }
        }
        self.tests.remove(&written);
        if let Some(place) = self.picture.tests.get_mut(id as usize) {
            *place = None;
        }
        self.free_tests.push(id);
    }

    // --- branches ---

    /// The program of a whole rule.
    pub(crate) fn compile(&mut self, formula: &Formula) -> Vec<u32> {
        self.program(&parts_of(formula))
    }

    /// The program of a branch, whose constants and tests are named by it.
    fn program(&mut self, branch: &[&Formula]) -> Vec<u32> {
        let mut parts: Vec<(f32, Numbered)> = branch
            .iter()
            .map(|part| {
                let passes = self.passes(part);
                (passes, self.number(part))
            })
            .collect();
        // What is likeliest to fail comes first.
        parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let parts: Vec<Numbered> = parts.into_iter().map(|(_, part)| part).collect();
        write(&parts).unwrap_or_else(|| vec![JUDGE])
    }

    /// How often a part is true, as a guess; costly ones are put off.
    fn passes(&self, part: &Formula) -> f32 {
        match part {
            Formula::Constant(_) => 0.0,
            Formula::Judge => 3.0,
            Formula::And(parts) => parts
                .iter()
                .map(|part| self.passes(part))
                .fold(1.0, f32::min),
            Formula::Or(parts) => {
                let sum: f32 = parts.iter().map(|part| self.passes(part)).sum();
                0.2 + sum.min(2.0)
            }
            Formula::Leaf(leaf) => {
                let Some(attribute) = self.picture.attributes.known(&leaf.attribute) else {
                    return 0.5;
                };
                let some = match &leaf.ask {
                    Ask::Among(literals) => literals
                        .iter()
                        .map(|literal| {
                            let hash = hashed::literal(attribute, literal);
                            self.statistics.commonness(attribute, hash)
                        })
                        .sum::<f32>()
                        .min(1.0),
                    Ask::Between(first, last) => {
                        0.1 + self.statistics.between(attribute, *first, *last)
                    }
                    Ask::Starts(_) | Ask::Ends(_) => return 1.2,
                    Ask::Contains(_) => return 1.5,
                    Ask::Other(_) => return 2.0,
                };
                if leaf.negated { 1.0 - some } else { some }
            }
        }
    }

    fn number(&mut self, part: &Formula) -> Numbered {
        match part {
            Formula::And(parts) => {
                Numbered::And(parts.iter().map(|part| self.number(part)).collect())
            }
            Formula::Or(parts) => {
                Numbered::Or(parts.iter().map(|part| self.number(part)).collect())
            }
            Formula::Leaf(leaf) => {
                let Some(attribute) = self.attribute(&leaf.attribute) else {
                    return Numbered::Judge;
                };
                let ask = match &leaf.ask {
                    Ask::Among(literals) => AskNumber::Among(
                        literals
                            .iter()
                            .map(|literal| self.name(is(attribute, literal)))
                            .collect(),
                    ),
                    Ask::Between(first, last) => AskNumber::Between(*first, *last),
                    other => match as_test(other) {
                        Some(test) => AskNumber::Test(self.name_test(attribute, &test)),
                        None => return Numbered::Judge,
                    },
                };
                Numbered::Leaf {
                    attribute,
                    ask,
                    negated: leaf.negated,
                }
            }
            Formula::Judge | Formula::Constant(_) => Numbered::Judge,
        }
    }

    /// Gives back what [`Register::program`] has named.
    fn release(&mut self, branch: &[&Formula]) {
        for part in branch {
            match part {
                Formula::And(parts) | Formula::Or(parts) => {
                    let parts: Vec<&Formula> = parts.iter().collect();
                    self.release(&parts);
                }
                Formula::Leaf(leaf) => {
                    let Some(attribute) = self.picture.attributes.known(&leaf.attribute) else {
                        continue;
                    };
                    match &leaf.ask {
                        Ask::Among(literals) => {
                            for literal in literals {
                                let form = Form::Is(literal.clone());
                                let key = self.picture.dictionary.find_form(attribute, &form);
                                self.unname(key);
                            }
                        }
                        Ask::Between(..) => {}
                        other => {
                            if let Some(test) = as_test(other) {
                                self.unname_test(attribute, &test);
                            }
                        }
                    }
                }
                Formula::Judge | Formula::Constant(_) => {}
            }
        }
    }

    /// The equalities that a branch depends on, with the numbers of their keys.
    fn depends(&self, branch: &[&Formula]) -> Vec<(Attribute, KeyId)> {
        let mut depends = Vec::new();
        for part in branch {
            if let Formula::Leaf(Leaf {
                attribute,
                ask: Ask::Among(literals),
                negated: false,
            }) = part
                && let [literal] = literals.as_slice()
                && let Some(attribute) = self.picture.attributes.known(attribute)
            {
                let form = Form::Is(literal.clone());
                depends.push((
                    attribute,
                    self.picture.dictionary.find_form(attribute, &form),
                ));
            }
        }
        depends
    }

    // --- where a branch waits ---

    fn rarest(&mut self, branch: &[&Formula]) -> Option<Place> {
        let mut best: Option<Place> = None;
        let parts: Vec<Place> = branch
            .iter()
            .filter_map(|part| self.waiting(part))
            .collect();
        let intervals = self.intervals(branch);
        for place in parts.into_iter().chain(intervals) {
            if best.as_ref().is_none_or(|best| place.cost < best.cost) {
                best = Some(place);
            }
        }
        best
    }

    /// How a part could be waited for.
    fn waiting(&mut self, part: &Formula) -> Option<Place> {
        match part {
            Formula::Or(parts) => {
                let mut all = Place {
                    keys: Vec::new(),
                    cost: 0.0,
                };
                for part in parts {
                    let place = self.waiting(part)?;
                    for key in place.keys {
                        if !all.keys.contains(&key) {
                            all.keys.push(key);
                        }
                    }
                    all.cost += place.cost;
                }
                (all.keys.len() <= KEYS).then_some(all)
            }
            Formula::And(parts) => {
                let parts: Vec<&Formula> = parts.iter().collect();
                self.rarest(&parts)
            }
            Formula::Leaf(leaf) if !leaf.negated => self.leaf(leaf),
            Formula::Leaf(_) | Formula::Judge | Formula::Constant(_) => None,
        }
    }

    fn leaf(&mut self, leaf: &Leaf) -> Option<Place> {
        let attribute = self.attribute(&leaf.attribute)?;
        let one = |form: Form, cost: f32| {
            Some(Place {
                keys: vec![Key { attribute, form }],
                cost,
            })
        };
        match &leaf.ask {
            Ask::Among(literals) => {
                // Nothing is more than everything, so that a long list is still better than no key.
                let many = if literals.len() > KEYS { 1.0 } else { 0.0 };
                let costs = literals.iter().map(|literal| {
                    let hash = hashed::literal(attribute, literal);
                    self.statistics.commonness(attribute, hash)
                });
                Some(Place {
                    cost: costs.sum::<f32>() + many,
                    keys: literals
                        .iter()
                        .map(|literal| is(attribute, literal))
                        .collect(),
                })
            }
            Ask::Between(..) => None,
            Ask::Starts(text) if !text.is_empty() => {
                let start = text.get(..text.floor_char_boundary(LONGEST))?;
                one(Form::Starts(start.into()), rarity(start.len()))
            }
            Ask::Ends(text) if !text.is_empty() => {
                let from = text.ceil_char_boundary(text.len().saturating_sub(LONGEST));
                let end = text.get(from..)?;
                one(Form::Ends(end.into()), rarity(end.len()))
            }
            Ask::Contains(text) => {
                let bytes = text.as_bytes();
                // The part that fewest rules wait for already.
                let gram = bytes.windows(4).filter_map(|four| four.try_into().ok());
                let rarest = gram.min_by_key(|gram| {
                    let key = self
                        .picture
                        .dictionary
                        .find_form(attribute, &Form::Gram(*gram));
                    self.named.get(key as usize).copied().unwrap_or(0)
                })?;
                one(Form::Gram(rarest), 0.03)
            }
            Ask::Starts(_) | Ask::Ends(_) | Ask::Other(_) => None,
        }
    }

    /// Bounds on the same attribute are an interval, which is waited for in cells of a grid.
    fn intervals(&mut self, branch: &[&Formula]) -> Vec<Place> {
        let mut bounds: Vec<(&Described, f64, f64)> = Vec::new();
        for part in branch {
            if let Formula::Leaf(Leaf {
                attribute,
                ask: Ask::Between(first, last),
                negated: false,
            }) = part
            {
                match bounds.iter_mut().find(|(known, ..)| *known == attribute) {
                    Some((_, from, to)) => {
                        *from = from.max(*first);
                        *to = to.min(*last);
                    }
                    None => bounds.push((attribute, *first, *last)),
                }
            }
        }
        let mut places = Vec::new();
        for (described, first, last) in bounds {
            let Some(attribute) = self.attribute(described) else {
                continue;
            };
            if !first.is_finite() || !last.is_finite() {
                continue;
            }
            let mut keys = Vec::new();
            if first <= last {
                let level = grid::level(first, last);
                let cells = grid::cell(level, first)..=grid::cell(level, last);
                if cells.clone().take(4).count() > 3 {
                    continue;
                }
                keys.extend(cells.map(|cell| Key {
                    attribute,
                    form: Form::Cell(level, cell),
                }));
            }
            // Of several values one may lie above the one bound and another below the other.
            if !described.single() {
                keys.push(Key {
                    attribute,
                    form: Form::Several,
                });
            }
            if keys.is_empty() {
                continue;
            }
            places.push(Place {
                cost: 2.0 * self.statistics.between(attribute, first, last),
                keys,
            });
        }
        places
    }

    // --- learning ---

    /// Learns from an event that was filled from the present picture.
    pub fn show(&mut self, event: &mut Event) {
        self.statistics.show(event);
        let mut matches = Matches::default();
        let mut keys = Vec::new();
        for &attribute in &event.present {
            keys.extend(event.found(attribute).map(|found| found.key));
            if let Some(sorts) = self.picture.sorts.get(usize::from(attribute)) {
                self.picture
                    .derived(attribute, sorts, event, &mut |key| keys.push(key));
            }
        }
        for key in keys.into_iter().filter(|key| *key != NO_KEY) {
            let looked_at = self.picture.burden(key, event, &mut matches);
            self.statistics.bore(key, looked_at);
        }
    }

    /// Moves rules that wait under keys that turned out common, so many at most; answers how many were moved. `asked`
    /// tells what a rule asks.
    pub fn settle(&mut self, most: usize, asked: &dyn Fn(u32) -> Option<Asked>) -> usize {
        // Under what is lighter than this an event loses less than moving costs.
        const LIGHT: u32 = 64;
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
            if let Some(list) = self.picture.dictionary.list(key) {
                list.rules(&mut rules);
            }
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

    fn cost_of(&self, key: KeyId) -> f32 {
        let record = self.picture.dictionary.record(key);
        match record.and_then(|record| record.key.as_ref()) {
            None => f32::MAX,
            Some(Key {
                attribute,
                form: Form::Is(literal),
            }) => self
                .statistics
                .commonness(*attribute, hashed::literal(*attribute, literal)),
            Some(Key {
                attribute,
                form: Form::Cell(level, cell),
            }) => {
                let width = 2.0_f64.powi(i32::from(*level) - 32);
                #[allow(clippy::cast_precision_loss)]
                let first = *cell as f64 * width;
                self.statistics.between(*attribute, first, first + width)
            }
            Some(Key {
                form: Form::Several,
                ..
            }) => 0.0,
            Some(Key {
                form: Form::Starts(text) | Form::Ends(text),
                ..
            }) => rarity(text.len()),
            Some(Key {
                form: Form::Gram(_),
                ..
            }) => 0.03,
        }
    }
}

/// How often texts begin or end with a part of that length, as a guess.
fn rarity(length: usize) -> f32 {
    match length {
        0 | 1 => 0.2,
        2 | 3 => 0.1,
        _ => 0.03,
    }
}

fn commonness(statistics: &Statistics, dictionary: &Dictionary, key: KeyId) -> f32 {
    match dictionary
        .record(key)
        .and_then(|record| record.key.as_ref())
    {
        Some(key) => statistics.commonness(key.attribute, hashed::key(key.attribute, &key.form)),
        None => 0.5,
    }
}

fn is(attribute: Attribute, literal: &Literal) -> Key {
    Key {
        attribute,
        form: Form::Is(literal.clone()),
    }
}

/// The program without the equality that its key has answered.
fn without_key(code: &[u32], key: KeyId) -> Vec<u32> {
    let answered = musts(code).into_iter().find(|must| must.1 == key);
    match answered {
        Some(must) => super::program::without(code, must),
        None => code.to_vec(),
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

fn as_test(ask: &Ask) -> Option<Test> {
    Some(match ask {
        Ask::Starts(text) => Test::StartsWith(Needle::Folded(text.clone())),
        Ask::Ends(text) => Test::EndsWith(Needle::Folded(text.clone())),
        Ask::Contains(text) => Test::Contains(Needle::Folded(text.clone())),
        Ask::Other(test) => test.clone(),
        Ask::Among(_) | Ask::Between(..) => return None,
    })
}
