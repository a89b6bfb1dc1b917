//! What a reader holds: all rules as they were at one time. It is cheap to copy, and nothing that a writer does later
//! shows in it.

use std::hint::black_box;
use std::sync::Arc;

use super::attributes::{Attribute, Attributes};
use super::dictionary::{Dictionary, Form, Key, KeyId, NO_KEY, Record, grid, hashed};
use super::event::{Asking, Event, Found, Seen};
use super::lists::{ELSEWHERE, List};
use super::literal::Literal;
use super::pieces::Pieces;
use super::program::{TestId, Verdict, run_quickly};
use super::register::Dead;
use crate::query::tree::Test;

#[derive(Clone, Debug)]
pub struct Picture {
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) sorts: Arc<Vec<Sorts>>,
    pub(crate) dictionary: Dictionary,
    /// The rules that no key finds.
    pub(crate) unindexed: List,
    pub(crate) tests: Pieces<Option<Arc<Test>>, 16>,
    /// The key of None of each attribute.
    pub(crate) nones: Arc<Vec<KeyId>>,
    /// Attributes of which some rule waits for None.
    pub(crate) absent: Arc<Vec<Attribute>>,
    /// Rules that are no more, and still lie in lists.
    pub(super) dead: Dead,
}

/// The sorts of keys that there are of an attribute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sorts {
    pub elements: bool,
    /// Some rule asks for a value that is this or that.
    pub is: bool,
    pub several: KeyId,
    /// A bit for each level of the grid, and for each length of a beginning or an end.
    pub levels: u64,
    pub starts: u64,
    pub ends: u64,
    pub grams: bool,
}

const NO_SORTS: Sorts = Sorts {
    elements: false,
    is: false,
    several: NO_KEY,
    levels: 0,
    starts: 0,
    ends: 0,
    grams: false,
};

impl Sorts {
    /// There are keys of other sorts than [`Form::Is`].
    #[inline]
    fn are_more(&self) -> bool {
        self.levels | self.starts | self.ends | u64::from(self.several) != 0 || self.grams
    }
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

/// A list that is to be looked through for one of some events, and its key.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'p> {
    list: &'p List,
    event: u32,
    key: KeyId,
}

/// What is looked for: a value of an event, or the cell of a number.
enum Wanted {
    Value(usize),
    Cell(Attribute, u8, i64),
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
        self.find_all(std::slice::from_mut(event), std::slice::from_mut(matches));
    }

    /// The rules that each of some events fits; they were filled from this picture. What is far in memory is asked for
    /// all of them before it is needed, so together they wait less.
    pub fn find_all(&self, events: &mut [Event], matches: &mut [Matches]) {
        let mut visits: Vec<Visit<'_>> = Vec::with_capacity(32 * events.len());
        if self.dictionary.is_far() {
            self.look_up_far(events, &mut visits);
        } else {
            for (event, number) in events.iter_mut().zip(0..) {
                self.look_up(event, number, &mut visits);
            }
        }
        for (event, matches) in events.iter().zip(&mut *matches) {
            matches.clear();
            matches.twice = event.repeats;
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

    /// Gives the values of an event their keys, and tells the lists under them and under all that follows from them.
    pub(crate) fn look_up<'p>(
        &'p self,
        event: &mut Event,
        number: u32,
        visits: &mut Vec<Visit<'p>>,
    ) {
        for place in 0..event.all_found().len() {
            let Some(found) = event.all_found().get(place) else {
                break;
            };
            if found.hash == 0 || !self.sorts_of(found.attribute).is {
                continue;
            }
            let record = self
                .dictionary
                .find(found.hash, |key| is_value(key, event, found));
            name(event, place, number, record, visits);
        }
        self.look_up_more(event, number, visits, |attribute, levels, value, visits| {
            for (level, cell) in grid::cells(levels, value) {
                let hash = hashed::cell(attribute, level, cell);
                let record = self
                    .dictionary
                    .find(hash, |key| is_cell(key, attribute, level, cell));
                visits.extend(listed(record, number));
            }
        });
    }

    /// Does so for several events where keys are far in memory, so that they wait for it together.
    fn look_up_far<'p>(&'p self, events: &mut [Event], visits: &mut Vec<Visit<'p>>) {
        let mut sought = Vec::with_capacity(32 * events.len());
        let mut wanted = Vec::with_capacity(32 * events.len());
        for (event, number) in events.iter().zip(0_u32..) {
            for (place, found) in event.all_found().iter().enumerate() {
                if found.hash != 0 && self.sorts_of(found.attribute).is {
                    sought.push(self.dictionary.seek(found.hash));
                    wanted.push((number, Wanted::Value(place)));
                }
            }
            self.look_up_more(event, number, visits, |attribute, levels, value, _| {
                for (level, cell) in grid::cells(levels, value) {
                    let hash = hashed::cell(attribute, level, cell);
                    sought.push(self.dictionary.seek(hash));
                    wanted.push((number, Wanted::Cell(attribute, level, cell)));
                }
            });
        }
        self.dictionary.approach(&mut sought);
        for (sought, (number, wanted)) in sought.iter().zip(wanted) {
            let Some(event) = events.get_mut(number as usize) else {
                continue;
            };
            match wanted {
                Wanted::Value(place) => {
                    let Some(found) = event.all_found().get(place) else {
                        continue;
                    };
                    let record = self
                        .dictionary
                        .reach(sought, |key| is_value(key, event, found));
                    name(event, place, number, record, visits);
                }
                Wanted::Cell(attribute, level, cell) => {
                    let record = self
                        .dictionary
                        .reach(sought, |key| is_cell(key, attribute, level, cell));
                    visits.extend(listed(record, number));
                }
            }
        }
    }

    /// The lists of an event under keys of other sorts; `cells` is told of each single number that lies in some.
    fn look_up_more<'p>(
        &'p self,
        event: &Event,
        number: u32,
        visits: &mut Vec<Visit<'p>>,
        mut cells: impl FnMut(Attribute, u64, f64, &mut Vec<Visit<'p>>),
    ) {
        if !self.unindexed.is_empty() {
            visits.push(Visit {
                list: &self.unindexed,
                event: number,
                key: NO_KEY,
            });
        }
        for &attribute in &event.present {
            let sorts = self.sorts_of(attribute);
            if !sorts.are_more() {
                continue;
            }
            if sorts.several != NO_KEY && event.count(attribute) > 1 {
                let hash = hashed::key(attribute, &Form::Several);
                let several = self.dictionary.record(hash, sorts.several);
                visits.extend(listed(several, number));
            }
            match event.single_number(attribute) {
                Some(value) => cells(attribute, sorts.levels, value, visits),
                None => self.derived(attribute, sorts, event, number, visits),
            }
        }
        for &attribute in self.absent.iter() {
            if event.count(attribute) == 0 {
                let hash = hashed::literal(attribute, &Literal::None);
                let none = self.dictionary.record(hash, self.none_of(attribute));
                visits.extend(listed(none, number));
            }
        }
    }

    /// Looks through lists, and then through those of their children that their events lead to.
    fn visit<'p>(
        &'p self,
        mut visits: Vec<Visit<'p>>,
        events: &mut [Event],
        matches: &mut [Matches],
    ) {
        let many = visits.len();
        let mut below = Vec::new();
        while !visits.is_empty() {
            if self.dictionary.is_far() {
                let near = visits.iter().map(|visit| visit.list.approach());
                black_box(near.fold(0, |sum, word| sum ^ word));
                let near = visits.iter().map(|visit| visit.list.touch());
                black_box(near.fold(0, |sum, word| sum ^ word));
            }
            for visit in visits.drain(..) {
                let number = visit.event as usize;
                if let (Some(event), Some(matches)) =
                    (events.get_mut(number), matches.get_mut(number))
                {
                    let mut asking = Asking {
                        picture: self,
                        event,
                    };
                    scan(visit.list, &mut asking, matches);
                    visit.list.children(
                        |attribute| asking.keys(attribute),
                        |list| {
                            // Among few rules there is no need of it.
                            if below.is_empty() {
                                below.reserve(many);
                            }
                            below.push(Visit { list, ..visit });
                        },
                    );
                }
            }
            std::mem::swap(&mut visits, &mut below);
        }
    }

    /// The lists under the keys of cells, beginnings, ends and parts that the values of an attribute lead to.
    fn derived<'p>(
        &'p self,
        attribute: Attribute,
        sorts: &Sorts,
        event: &Event,
        number: u32,
        visits: &mut Vec<Visit<'p>>,
    ) {
        let from = visits.len();
        let mut found = |record: &'p Record| visits.extend(listed(Some(record), number));
        for value in event.found(attribute) {
            if matches!(value.form, Seen::Number | Seen::Instant) {
                for (level, cell) in grid::cells(sorts.levels, value.number) {
                    let hash = hashed::cell(attribute, level, cell);
                    self.dictionary
                        .find(hash, |key| is_cell(key, attribute, level, cell))
                        .map(&mut found);
                }
            }
            // What spells an instant or an address is none of a text's.
            if value.form == Seen::Text && (sorts.starts | sorts.ends != 0 || sorts.grams) {
                let folded = event.text_of(value).to_ascii_lowercase();
                self.parts_of(attribute, sorts, &folded, &mut found);
            }
        }
        // Several values or parts of one attribute may lead to the same list.
        let more = visits.len() > from + 1;
        if more && (sorts.grams || event.count(attribute) > 1) {
            let mut kept = visits.split_off(from);
            kept.sort_unstable_by_key(|visit| visit.key);
            kept.dedup_by_key(|visit| visit.key);
            visits.append(&mut kept);
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

    /// The keys that an event leads to, each with how many rules it would look at there.
    pub(crate) fn burdens(&self, event: &mut Event) -> Vec<(KeyId, usize)> {
        let mut visits = Vec::new();
        self.look_up(event, 0, &mut visits);
        let mut matches = Matches::default();
        let burden = |visit: Visit<'_>| {
            matches.clear();
            let (events, matches) = (
                std::slice::from_mut(event),
                std::slice::from_mut(&mut matches),
            );
            self.visit(vec![visit], events, matches);
            let looked_at = matches.first().map_or(0, |matches| matches.candidates);
            (visit.key, looked_at)
        };
        visits.into_iter().map(burden).collect()
    }

    #[inline]
    fn sorts_of(&self, attribute: Attribute) -> &Sorts {
        self.sorts.get(usize::from(attribute)).unwrap_or(&NO_SORTS)
    }

    #[inline]
    pub(crate) fn none_of(&self, attribute: Attribute) -> KeyId {
        let none = self.nones.get(usize::from(attribute));
        none.copied().unwrap_or(NO_KEY)
    }

    pub(crate) fn has_elements(&self, attribute: Attribute) -> bool {
        self.sorts_of(attribute).elements
    }

    pub(crate) fn test(&self, test: TestId) -> Option<&Test> {
        self.tests.get(test as usize)?.as_deref()
    }
}

/// What a record adds to the lists that are to be visited.
#[inline]
fn listed(record: Option<&Record>, event: u32) -> Option<Visit<'_>> {
    let record = record?;
    (!record.list.is_empty()).then_some(Visit {
        list: &record.list,
        event,
        key: record.id,
    })
}

#[inline]
fn is_value(key: &Key, event: &Event, found: &Found) -> bool {
    key.attribute == found.attribute
        && matches!(&key.form, Form::Is(wanted) if event.equals(found, wanted))
}

#[inline]
fn is_cell(key: &Key, attribute: Attribute, level: u8, cell: i64) -> bool {
    key.attribute == attribute && key.form == Form::Cell(level, cell)
}

/// Gives a value the key of its record, whose list is to be visited.
#[inline]
fn name<'p>(
    event: &mut Event,
    place: usize,
    number: u32,
    record: Option<&'p Record>,
    visits: &mut Vec<Visit<'p>>,
) {
    let key = record.map_or(NO_KEY, |record| record.id);
    if event.name(place, key) {
        visits.extend(listed(record, number));
    }
}

fn scan(list: &List, asking: &mut Asking<'_>, matches: &mut Matches) {
    let (mut candidates, mut checks) = (0, 0);
    for (rule, program) in list.entries() {
        candidates += 1;
        let mut verdict = Verdict::Yes;
        if !program.is_empty() {
            checks += 1;
            verdict = run_quickly(program, asking);
        }
        if verdict != Verdict::No && !asking.picture.dead.holds(rule & !ELSEWHERE) {
            matches.twice |= rule & ELSEWHERE != 0;
            matches
                .rules
                .push((rule & !ELSEWHERE, verdict == Verdict::Ask));
        }
    }
    matches.candidates += candidates;
    matches.checks += checks;
}
