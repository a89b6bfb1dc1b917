//! What a reader holds: all rules as they were at one time. It is cheap to copy, and nothing that a writer does later
//! shows in it.

use std::sync::Arc;

use super::attributes::{Attribute, Attributes};
use super::dictionary::{Dictionary, Form, KeyId, NO_KEY, grid, hashed};
use super::event::{Asking, Event, Seen};
use super::lists::{ELSEWHERE, List, NO_CHECK, RuleNumber};
use super::pieces::Pieces;
use super::program::{TestId, Verdict, run};
use crate::query::tree::Test;

#[derive(Clone, Debug)]
pub struct Picture {
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) sorts: Pieces<Sorts, 16>,
    pub(crate) dictionary: Dictionary,
    pub(crate) tests: Pieces<Option<Arc<Test>>, 16>,
    /// Attributes of which some rule waits for None.
    pub(crate) absent: Arc<Vec<Attribute>>,
}

/// The sorts of keys that there are of an attribute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sorts {
    pub elements: bool,
    pub instants: bool,
    /// The key of None.
    pub none: KeyId,
    pub several: KeyId,
    /// A bit for each level of the grid, and for each length of a beginning or an end.
    pub levels: u64,
    pub starts: u64,
    pub ends: u64,
    pub grams: bool,
}

/// What was found for an event.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// Rules that were looked at.
    pub candidates: usize,
    /// Those of them of which more than their key had to be checked.
    pub checks: usize,
    /// Rules that are true of the event as far as is known here, and whether the judge is still to be asked.
    pub rules: Vec<(u32, bool)>,
    twice: bool,
}

impl Matches {
    pub fn clear(&mut self) {
        self.candidates = 0;
        self.checks = 0;
        self.rules.clear();
        self.twice = false;
    }

    /// A rule that was found in two places is told once; it is sure if one of them was.
    fn once(&mut self) {
        if self.twice {
            self.rules.sort_unstable();
            self.rules.dedup_by_key(|(rule, _)| *rule);
        }
    }
}

impl Picture {
    /// The rules that an event fits. `fill` or [`Event::read`] has filled it from this picture.
    pub fn find(&self, event: &mut Event, matches: &mut Matches) {
        matches.clear();
        let large = event.is_large();
        matches.twice = event.repeats;
        let present = std::mem::take(&mut event.present);
        let mut asking = Asking {
            picture: self,
            event,
        };
        self.look(NO_KEY, &mut asking, matches);
        for &attribute in &present {
            let mut values = 0;
            let mut place = asking.event.first(attribute);
            while let Some((key, next)) = asking.event.key_at(place) {
                place = next;
                values += 1;
                if key != NO_KEY {
                    self.look(key, &mut asking, matches);
                }
            }
            if let Some(sorts) = self.sorts.get(usize::from(attribute)) {
                if values > 1 && sorts.several != NO_KEY {
                    self.look(sorts.several, &mut asking, matches);
                }
                if sorts.levels | sorts.starts | sorts.ends != 0 || sorts.grams {
                    let mut keys = Vec::new();
                    self.derived(attribute, sorts, asking.event, &mut |key| keys.push(key));
                    if values > 1 {
                        // Several values of one attribute may lead to the same list.
                        keys.sort_unstable();
                        keys.dedup();
                    }
                    for key in keys {
                        self.look(key, &mut asking, matches);
                    }
                }
            }
        }
        for &attribute in self.absent.iter() {
            if asking.event.count(attribute) == 0 {
                self.look(self.none_of(attribute), &mut asking, matches);
            }
        }
        asking.event.present = present;
        if large {
            // The judge may run out of steps, which is for it to say.
            for (_, ask) in &mut matches.rules {
                *ask = true;
            }
        }
        matches.once();
    }

    /// The rules that each of some events fits, one after another; they were filled from this picture.
    pub fn find_all(&self, events: &mut [Event], matches: &mut [Matches]) {
        for (event, matches) in events.iter_mut().zip(matches) {
            self.find(event, matches);
        }
    }

    /// The keys of cells, beginnings, ends and parts that the values of an attribute lead to.
    pub(crate) fn derived(
        &self,
        attribute: Attribute,
        sorts: &Sorts,
        event: &Event,
        found: &mut dyn FnMut(KeyId),
    ) {
        for value in event.found(attribute) {
            let number = matches!(value.form, Seen::Number | Seen::Instant);
            if number && sorts.levels != 0 && !value.number.is_nan() {
                let mut levels = sorts.levels;
                while levels != 0 {
                    #[allow(clippy::cast_possible_truncation)] // 63 at most
                    let level = levels.trailing_zeros() as u8;
                    levels &= levels - 1;
                    let cell = grid::cell(level, value.number);
                    let key = self
                        .dictionary
                        .find(hashed::cell(attribute, level, cell), |key| {
                            key.attribute == attribute && key.form == Form::Cell(level, cell)
                        });
                    if key != NO_KEY {
                        found(key);
                    }
                }
            }
            // What spells an instant or an address is none of a text's.
            if value.form == Seen::Text && (sorts.starts | sorts.ends != 0 || sorts.grams) {
                let folded = event.text_of(value).to_ascii_lowercase();
                self.parts_of(attribute, sorts, &folded, found);
            }
        }
    }

    fn parts_of(
        &self,
        attribute: Attribute,
        sorts: &Sorts,
        folded: &str,
        found: &mut dyn FnMut(KeyId),
    ) {
        let mut lengths = sorts.starts | sorts.ends;
        while lengths != 0 {
            let length = lengths.trailing_zeros() as usize;
            lengths &= lengths - 1;
            if sorts.starts & 1 << length != 0
                && let Some(start) = folded.as_bytes().get(..length)
            {
                let key = self
                    .dictionary
                    .find(hashed::starts(attribute, start), |key| {
                        key.attribute == attribute
                            && matches!(&key.form, Form::Starts(known) if known.as_bytes() == start)
                    });
                if key != NO_KEY {
                    found(key);
                }
            }
            if sorts.ends & 1 << length != 0
                && let Some(from) = folded.len().checked_sub(length)
                && let Some(end) = folded.as_bytes().get(from..)
            {
                let key = self.dictionary.find(hashed::ends(attribute, end), |key| {
                    key.attribute == attribute
                        && matches!(&key.form, Form::Ends(known) if known.as_bytes() == end)
                });
                if key != NO_KEY {
                    found(key);
                }
            }
        }
        if sorts.grams {
            let mut keys: Vec<KeyId> = folded
                .as_bytes()
                .windows(4)
                .filter_map(|window| {
                    let gram: [u8; 4] = window.try_into().ok()?;
                    Some(self.dictionary.find(hashed::gram(attribute, gram), |key| {
                        key.attribute == attribute && key.form == Form::Gram(gram)
                    }))
                })
                .filter(|key| *key != NO_KEY)
                .collect();
            keys.sort_unstable();
            keys.dedup();
            keys.into_iter().for_each(found);
        }
    }

    fn look(&self, key: KeyId, asking: &mut Asking<'_>, matches: &mut Matches) {
        if let Some(list) = self.dictionary.list(key) {
            scan(list, asking, matches);
        }
    }

    /// How many rules one event would look at under a key.
    pub(crate) fn burden(&self, key: KeyId, event: &mut Event, matches: &mut Matches) -> usize {
        let before = matches.candidates;
        let mut asking = Asking {
            picture: self,
            event,
        };
        self.look(key, &mut asking, matches);
        matches.candidates - before
    }

    #[inline]
    pub(crate) fn none_of(&self, attribute: Attribute) -> KeyId {
        self.sorts
            .get(usize::from(attribute))
            .map_or(NO_KEY, |sorts| sorts.none)
    }

    pub(crate) fn reads_instants(&self, attribute: Attribute) -> bool {
        self.sorts
            .get(usize::from(attribute))
            .is_some_and(|sorts| sorts.instants)
    }

    pub(crate) fn has_elements(&self, attribute: Attribute) -> bool {
        self.sorts
            .get(usize::from(attribute))
            .is_some_and(|sorts| sorts.elements)
    }

    pub(crate) fn test(&self, test: TestId) -> Option<&Test> {
        self.tests.get(test as usize)?.as_deref()
    }
}

fn scan(list: &List, asking: &mut Asking<'_>, matches: &mut Matches) {
    matches.candidates += list.entries.len();
    for entry in &list.entries {
        #[allow(clippy::cast_possible_truncation)] // it was one before
        if entry.check != NO_CHECK
            && !asking.any_key(entry.check as Attribute, |found| found == entry.key)
        {
            continue;
        }
        let program = list.program(entry);
        let verdict = if program.is_empty() {
            Verdict::Yes
        } else {
            matches.checks += 1;
            run(program, asking)
        };
        if verdict != Verdict::No {
            found(matches, entry.rule, verdict == Verdict::Ask);
        }
    }
    for split in &list.splits {
        // The keys are few; the list is lent while its children are looked through.
        let mut place = asking.event.first(split.attribute);
        let mut one = asking.event.key_at(place);
        if one.is_none() {
            let none = asking.picture.none_of(split.attribute);
            if none != NO_KEY
                && let Some(child) = split.child(none)
            {
                scan(child, asking, matches);
            }
        }
        while let Some((key, next)) = one {
            if key != NO_KEY
                && let Some(child) = split.child(key)
            {
                scan(child, asking, matches);
            }
            place = next;
            one = asking.event.key_at(place);
        }
    }
}

fn found(matches: &mut Matches, rule: RuleNumber, ask: bool) {
    matches.twice |= rule & ELSEWHERE != 0;
    matches.rules.push((rule & !ELSEWHERE, ask));
}
