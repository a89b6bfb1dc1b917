//! Attributes, constants and tests get numbers when a rule names them first, and lose them with the last one that does.

use std::sync::Arc;

use super::super::attributes::{Attribute, Described};
use super::super::dictionary::{Form, Key, KeyId, NO_KEY, hashed};
use super::super::formula::{Ask, Formula, Leaf};
use super::super::lists::Must;
use super::super::literal::Literal;
use super::super::picture::Sorts;
use super::super::program::{AskNumber, FEW, JUDGE, Numbered, TestId, write};
use super::{Named, Register, parts_of};
use crate::query::tree::{Needle, Test};

impl Register {
    pub(super) fn attribute(&mut self, described: &Described) -> Option<Attribute> {
        if let Some(known) = self.picture.attributes.known(described) {
            return Some(known);
        }
        let number = Arc::make_mut(&mut self.picture.attributes).add(described)?;
        Arc::make_mut(&mut self.picture.sorts).push(Sorts {
            elements: described.elements,
            ..Sorts::default()
        });
        Arc::make_mut(&mut self.picture.nones).push(NO_KEY);
        Some(number)
    }

    /// The number of a key, which is named once more.
    pub(super) fn name(&mut self, key: Key) -> KeyId {
        let hash = hashed::key(key.attribute, &key.form);
        let known = self.picture.dictionary.find(hash, |known| *known == key);
        let id = match known {
            Some(record) => record.id,
            None => self.name_first(hash, key),
        };
        if let Some(named) = self.named.get_mut(id as usize) {
            named.count += 1;
        }
        id
    }

    fn name_first(&mut self, hash: u32, key: Key) -> KeyId {
        self.mark(&key, true);
        let id = self.free_keys.pop().unwrap_or_else(|| {
            self.named.push(Named::default());
            #[allow(clippy::cast_possible_truncation)] // no four billion keys
            {
                self.named.len() as KeyId - 1
            }
        });
        if let Some(named) = self.named.get_mut(id as usize) {
            *named = Named { hash, count: 0 };
        }
        self.special(&key, id);
        self.picture.dictionary.add(hash, id, key);
        id
    }

    pub(super) fn unname(&mut self, id: KeyId) {
        let Some(named) = self.named.get_mut(id as usize).filter(|_| id != NO_KEY) else {
            return;
        };
        named.count = named.count.saturating_sub(1);
        if named.count > 0 {
            return;
        }
        let hash = named.hash;
        let record = self.picture.dictionary.record(hash, id);
        let Some(key) = record.map(|record| record.key.clone()) else {
            return;
        };
        self.mark(&key, false);
        self.special(&key, NO_KEY);
        self.picture.dictionary.remove(hash, id);
        self.free_keys.push(id);
    }

    /// What readers find without looking for it: the keys of several values and of None.
    fn special(&mut self, key: &Key, id: KeyId) {
        let attribute = usize::from(key.attribute);
        match key.form {
            Form::Several => {
                if let Some(sorts) = Arc::make_mut(&mut self.picture.sorts).get_mut(attribute) {
                    sorts.several = id;
                }
            }
            Form::Is(Literal::None) => {
                let sorts = self.picture.sorts.get(attribute);
                if sorts.is_some_and(|sorts| !sorts.elements)
                    && let Some(none) = Arc::make_mut(&mut self.picture.nones).get_mut(attribute)
                {
                    *none = id;
                }
            }
            _ => {}
        }
    }

    /// Counts a key among those of its sort, and tells readers of sorts that came or went.
    fn mark(&mut self, key: &Key, comes: bool) {
        let (sort, bit) = match &key.form {
            Form::Is(_) => {
                let some = match comes {
                    true => self.statistics.named(key.attribute),
                    false => self.statistics.unnamed(key.attribute),
                } > 0;
                let attribute = usize::from(key.attribute);
                let sorts = self.picture.sorts.get(attribute);
                if sorts.is_some_and(|sorts| sorts.is != some)
                    && let Some(sorts) = Arc::make_mut(&mut self.picture.sorts).get_mut(attribute)
                {
                    sorts.is = some;
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
        if some && (!comes || *count > 1) {
            return;
        }
        if !some {
            self.sorts.remove(&(key.attribute, sort, bit));
        }
        let sorts = Arc::make_mut(&mut self.picture.sorts);
        if let Some(sorts) = sorts.get_mut(usize::from(key.attribute)) {
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

    /// The program of a whole rule.
    pub(in crate::trigger) fn compile(&mut self, formula: &Formula) -> Vec<u32> {
        self.program(&parts_of(formula))
    }

    /// The program of a branch, whose constants and tests are named by it.
    pub(super) fn program(&mut self, branch: &[&Formula]) -> Vec<u32> {
        let mut parts: Vec<(f32, Numbered)> = branch
            .iter()
            .map(|part| {
                let passes = self.passes(part);
                (passes, self.number(part))
            })
            .collect();
        // What is likeliest to fail comes first; an equality costs next to nothing.
        parts.sort_by(|a, b| {
            let before = b.1.is_equality().cmp(&a.1.is_equality());
            before.then(a.0.total_cmp(&b.0))
        });
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
                    single: leaf.attribute.single(),
                }
            }
            Formula::Judge | Formula::Constant(_) => Numbered::Judge,
        }
    }

    /// Gives back what [`Register::program`] has named.
    pub(super) fn release(&mut self, branch: &[&Formula]) {
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

    /// What a branch depends on, as [`musts`](crate::trigger::program::musts) tells it of its program.
    pub(super) fn depends(&self, branch: &[&Formula]) -> Vec<Must> {
        let mut depends = Vec::new();
        for part in branch {
            if let Formula::Leaf(Leaf {
                attribute,
                ask: Ask::Among(literals),
                negated: false,
            }) = part
                && (literals.len() == 1 || attribute.single() && literals.len() <= FEW)
                && let Some(attribute) = self.picture.attributes.known(attribute)
            {
                let key = |literal: &Literal| {
                    let form = Form::Is(literal.clone());
                    self.picture.dictionary.find_form(attribute, &form)
                };
                depends.push((attribute, literals.iter().map(key).collect()));
            }
        }
        depends
    }
}

pub(super) fn is(attribute: Attribute, literal: &Literal) -> Key {
    Key {
        attribute,
        form: Form::Is(literal.clone()),
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
