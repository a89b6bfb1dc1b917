//! Where a branch waits: under the keys of the part that fewest events fit.

use super::super::attributes::Described;
use super::super::dictionary::{Form, Key, KeyId, grid, hashed};
use super::super::formula::{Ask, Formula, Leaf};
use super::Register;
use super::names::is;

/// A predicate with more keys than these is no place to wait at, unless there is no other.
const KEYS: usize = 64;
/// The longest beginning or end that is a key.
const LONGEST: usize = 63;

/// Where a branch may wait, and how many events would find it there.
pub(super) struct Place {
    pub keys: Vec<Key>,
    pub cost: f32,
}

impl Register {
    pub(super) fn rarest(&mut self, branch: &[&Formula]) -> Option<Place> {
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
                    self.named.get(key as usize).map_or(0, |named| named.count)
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

    pub(super) fn cost_of(&self, key: KeyId) -> f32 {
        match self.record(key).map(|record| &record.key) {
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
