//! What a reader holds: all rules as they were at one time. It is cheap to copy, and nothing that a writer does later
//! shows in it.

use std::hint::black_box;
use std::sync::Arc;

use super::attributes::{Attribute, Attributes};
use super::dictionary::{Dictionary, Form, KeyId, NO_KEY, Record, grid, hashed};
use super::event::{Asking, Event, Seen};
use super::lists::{ELSEWHERE, List};
use super::literal::Literal;
use super::pieces::Pieces;
use super::program::{TestId, Verdict, run_quickly};
use crate::query::tree::Test;

#[derive(Clone, Debug)]
pub struct Picture {
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) sorts: Pieces<Sorts, 16>,
    pub(crate) dictionary: Dictionary,
    /// The rules that no key finds.
    pub(crate) unindexed: List,
    pub(crate) tests: Pieces<Option<Arc<Test>>, 16>,
    /// Attributes of which some rule waits for None.
    pub(crate) absent: Arc<Vec<Attribute>>,
}

/// The sorts of keys that there are of an attribute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sorts {
    pub elements: bool,
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

/// A list that is to be looked through for one of some events.
type Visit<'p> = (&'p List, usize);

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
        self.find_all(std::slice::from_mut(event), std::slice::from_mut(matches));
    }

    /// The rules that each of some events fits; they were filled from this picture. What is far in memory is asked for
    /// all of them before it is needed, so together they wait less.
    pub fn find_all(&self, events: &mut [Event], matches: &mut [Matches]) {
        if self.dictionary.is_far() {
            self.approach(events);
        }
        let mut lists = Vec::with_capacity(32);
        let mut visits: Vec<Visit<'_>> = Vec::with_capacity(32 * events.len());
        for (number, (event, matches)) in events.iter_mut().zip(&mut *matches).enumerate() {
            matches.clear();
            self.look_up(event, &mut lists);
            matches.twice = event.repeats;
            visits.extend(lists.drain(..).map(|(_, list)| (list, number)));
        }
        self.visit(visits, events, matches);
        for (event, matches) in events.iter().zip(matches) {
            if event.is_large() {
                // The judge may run out of steps, which is for it to say.
                for (_, ask) in &mut matches.rules {
                    *ask = true;
                }
            }
            matches.once();
        }
    }

    /// Reads a little of all that the values of events lead to: one look into far memory need not wait for the other.
    fn approach(&self, events: &[Event]) {
        let mut cells: Vec<u32> = Vec::with_capacity(4 * events.len());
        for event in events {
            for &attribute in &event.present {
                if let Some(sorts) = self.sorts.get(usize::from(attribute))
                    && sorts.levels != 0
                {
                    for value in event.found(attribute) {
                        let hashes = grid::cells(sorts.levels, value.number)
                            .map(|(level, cell)| hashed::cell(attribute, level, cell));
                        cells.extend(hashes);
                    }
                }
            }
        }
        let values = events.iter().flat_map(Event::all_found);
        let hashes = values.map(|found| found.hash).chain(cells);
        let touched = hashes
            .clone()
            .map(|hash| self.dictionary.touch(hash))
            .fold(0, |sum, word| sum ^ word);
        black_box(touched);
        let near = hashes
            .map(|hash| self.dictionary.approach(hash))
            .fold(0, |sum, word| sum ^ word);
        black_box(near);
    }

    /// Gives the values of an event their keys, and tells the lists under them and under all that follows from them.
    pub(crate) fn look_up<'p>(&'p self, event: &mut Event, lists: &mut Vec<(KeyId, &'p List)>) {
        if !self.unindexed.is_empty() {
            lists.push((NO_KEY, &self.unindexed));
        }
        for place in 0..event.all_found().len() {
            let Some(found) = event.all_found().get(place).filter(|found| found.hash != 0) else {
                continue;
            };
            let record = self.dictionary.find(found.hash, |key| {
                key.attribute == found.attribute
                    && matches!(&key.form, Form::Is(wanted) if event.equals(found, wanted))
            });
            let key = record.map_or(NO_KEY, |record| record.id);
            if event.name(place, key)
                && let Some((_, list)) = listed(record)
            {
                lists.push((key, list));
            }
        }
        for &attribute in &event.present {
            let Some(sorts) = self.sorts.get(usize::from(attribute)) else {
                continue;
            };
            if sorts.several != NO_KEY && event.count(attribute) > 1 {
                let hash = hashed::key(attribute, &Form::Several);
                lists.extend(listed(self.dictionary.record(hash, sorts.several)));
            }
            if sorts.levels | sorts.starts | sorts.ends != 0 || sorts.grams {
                let from = lists.len();
                self.derived(attribute, sorts, event, &mut |record| {
                    lists.extend(listed(Some(record)));
                });
                // Several values or parts of one attribute may lead to the same list.
                let more = lists.len() > from + 1;
                if more && (sorts.grams || event.count(attribute) > 1) {
                    let mut kept = lists.split_off(from);
                    kept.sort_unstable_by_key(|(key, _)| *key);
                    kept.dedup_by_key(|(key, _)| *key);
                    lists.append(&mut kept);
                }
            }
        }
        for &attribute in self.absent.iter() {
            if event.count(attribute) == 0 {
                let hash = hashed::literal(attribute, &Literal::None);
                let none = self.dictionary.record(hash, self.none_of(attribute));
                lists.extend(listed(none));
            }
        }
    }

    /// Looks through lists, and then through those of their children that their events lead to.
    fn visit(&self, mut visits: Vec<Visit<'_>>, events: &mut [Event], matches: &mut [Matches]) {
        let mut below = Vec::with_capacity(visits.len());
        while !visits.is_empty() {
            if self.dictionary.is_far() {
                black_box(
                    visits
                        .iter()
                        .fold(0, |sum, (list, _)| sum ^ list.approach()),
                );
                black_box(visits.iter().fold(0, |sum, (list, _)| sum ^ list.touch()));
            }
            for (list, number) in visits.drain(..) {
                if let (Some(event), Some(matches)) =
                    (events.get_mut(number), matches.get_mut(number))
                {
                    let mut asking = Asking {
                        picture: self,
                        event,
                    };
                    scan(list, &mut asking, matches);
                    list.children(
                        |attribute| asking.keys(attribute),
                        |child| below.push((child, number)),
                    );
                }
            }
            std::mem::swap(&mut visits, &mut below);
        }
    }

    /// The keys of cells, beginnings, ends and parts that the values of an attribute lead to.
    fn derived<'p>(
        &'p self,
        attribute: Attribute,
        sorts: &Sorts,
        event: &Event,
        found: &mut dyn FnMut(&'p Record),
    ) {
        for value in event.found(attribute) {
            let number = matches!(value.form, Seen::Number | Seen::Instant);
            if number && sorts.levels != 0 {
                for (level, cell) in grid::cells(sorts.levels, value.number) {
                    let hash = hashed::cell(attribute, level, cell);
                    self.dictionary
                        .find(hash, |key| {
                            key.attribute == attribute && key.form == Form::Cell(level, cell)
                        })
                        .map(&mut *found);
                }
            }
            // What spells an instant or an address is none of a text's.
            if value.form == Seen::Text && (sorts.starts | sorts.ends != 0 || sorts.grams) {
                let folded = event.text_of(value).to_ascii_lowercase();
                self.parts_of(attribute, sorts, &folded, found);
            }
        }
    }

    fn parts_of<'p>(
        &'p self,
        attribute: Attribute,
        sorts: &Sorts,
        folded: &str,
        found: &mut dyn FnMut(&'p Record),
    ) {
        let bytes = folded.as_bytes();
        let mut lengths = sorts.starts | sorts.ends;
        while lengths != 0 {
            let length = lengths.trailing_zeros() as usize;
            lengths &= lengths - 1;
            if sorts.starts & 1 << length != 0
                && let Some(start) = bytes.get(..length)
            {
                let hash = hashed::starts(attribute, start);
                self.dictionary
                    .find(hash, |key| {
                        key.attribute == attribute
                            && matches!(&key.form, Form::Starts(known) if known.as_bytes() == start)
                    })
                    .map(&mut *found);
            }
            if sorts.ends & 1 << length != 0
                && let Some(from) = bytes.len().checked_sub(length)
                && let Some(end) = bytes.get(from..)
            {
                let hash = hashed::ends(attribute, end);
                self.dictionary
                    .find(hash, |key| {
                        key.attribute == attribute
                            && matches!(&key.form, Form::Ends(known) if known.as_bytes() == end)
                    })
                    .map(&mut *found);
            }
        }
        if sorts.grams {
            for window in bytes.array_windows() {
                self.dictionary
                    .find(hashed::gram(attribute, *window), |key| {
                        key.attribute == attribute && key.form == Form::Gram(*window)
                    })
                    .map(&mut *found);
            }
        }
    }

    /// How many rules one event would look at in a list.
    pub(crate) fn burden(&self, list: &List, event: &mut Event, matches: &mut Matches) -> usize {
        let before = matches.candidates;
        let (events, matches) = (std::slice::from_mut(event), std::slice::from_mut(matches));
        self.visit(vec![(list, 0)], events, matches);
        matches
            .first()
            .map_or(0, |matches| matches.candidates - before)
    }

    #[inline]
    pub(crate) fn none_of(&self, attribute: Attribute) -> KeyId {
        self.sorts
            .get(usize::from(attribute))
            .map_or(NO_KEY, |sorts| sorts.none)
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

/// What a record adds to the lists that are to be visited.
fn listed(record: Option<&Record>) -> Option<(KeyId, &List)> {
    let record = record?;
    (!record.list.is_empty()).then_some((record.id, &record.list))
}

fn scan(list: &List, asking: &mut Asking<'_>, matches: &mut Matches) {
    for (rule, program) in list.entries() {
        matches.candidates += 1;
        let mut verdict = Verdict::Yes;
        if !program.is_empty() {
            matches.checks += 1;
            verdict = run_quickly(program, asking);
        }
        if verdict != Verdict::No {
            matches.twice |= rule & ELSEWHERE != 0;
            matches
                .rules
                .push((rule & !ELSEWHERE, verdict == Verdict::Ask));
        }
    }
}
