//! Keys to lists: each constant that some predicate names has a number, and under it the rules that wait for it.
//!
//! A key is looked up by its hash in small pages; the pages grow and shrink one at a time. All of it is in
//! [`Pieces`], so a copy for readers costs nothing.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attributes::Attribute;
use super::lists::List;
use super::literal::Literal;
use super::pieces::Pieces;

/// What rules wait for at an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A value is this.
    Is(Literal),
    /// A number lies in this cell of a grid with cells of a power of two.
    Cell(u8, i64),
    /// A folded text starts or ends with this, or holds these four bytes.
    Starts(Arc<str>),
    Ends(Arc<str>),
    Gram([u8; 4]),
    /// There are several values.
    Several,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub attribute: Attribute,
    pub form: Form,
}

/// The number of a key. Zero is no key; under it is the list of the rules that no key finds.
pub(crate) type KeyId = u32;
pub(crate) const NO_KEY: KeyId = 0;

#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub key: Option<Key>,
    pub list: Option<Arc<List>>,
}

/// Hashes, one for each form, the same for a key and for what is looked for.
pub(crate) mod hashed {
    use super::{Attribute, BuildHasher, FixedState, Form, Hash, Hasher, Literal};

    fn of(attribute: Attribute, form: u8, rest: impl FnOnce(&mut <FixedState as BuildHasher>::Hasher)) -> u32 {
        let mut state = FixedState::with_seed(0x6d75_7374_6572).build_hasher();
        state.write_u32(u32::from(attribute) << 8 | u32::from(form));
        rest(&mut state);
        let all = state.finish();
        #[allow(clippy::cast_possible_truncation)]
        {
            (all ^ all >> 32) as u32
        }
    }

    pub fn literal(attribute: Attribute, literal: &Literal) -> u32 {
        of(attribute, 0, |state| literal.hash(state))
    }

    pub fn text(attribute: Attribute, text: &str) -> u32 {
        of(attribute, 0, |state| state.write(text.as_bytes()))
    }

    pub fn cell(attribute: Attribute, level: u8, cell: i64) -> u32 {
        of(attribute, 1, |state| {
            state.write_u8(level);
            state.write_i64(cell);
        })
    }

    pub fn starts(attribute: Attribute, folded: &[u8]) -> u32 {
        of(attribute, 2, |state| state.write(folded))
    }

    pub fn ends(attribute: Attribute, folded: &[u8]) -> u32 {
        of(attribute, 3, |state| state.write(folded))
    }

    pub fn gram(attribute: Attribute, gram: [u8; 4]) -> u32 {
        of(attribute, 4, |state| state.write_u32(u32::from_le_bytes(gram)))
    }

    pub fn key(attribute: Attribute, form: &Form) -> u32 {
        match form {
            Form::Is(wanted) => literal(attribute, wanted),
            Form::Cell(level, number) => cell(attribute, *level, *number),
            Form::Starts(text) => starts(attribute, text.as_bytes()),
            Form::Ends(text) => ends(attribute, text.as_bytes()),
            Form::Gram(bytes) => gram(attribute, *bytes),
            Form::Several => of(attribute, 5, |_| {}),
        }
    }
}

/// Numbers of keys by hash; a slot with number zero is free.
#[derive(Clone, Debug, Default)]
struct Page {
    slots: Vec<(u32, KeyId)>,
    used: usize,
}

impl Page {
    fn start(&self, hash: u32) -> usize {
        // The low bits have chosen the page.
        hash.rotate_right(20) as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(KeyId) -> bool) -> KeyId {
        let start = self.start(hash);
        let (before, from) = self.slots.split_at(start.min(self.slots.len()));
        for &(known, id) in from.iter().chain(before) {
            if id == NO_KEY || (known == hash && is_it(id)) {
                return id;
            }
        }
        NO_KEY
    }

    fn put(&mut self, hash: u32, id: KeyId) {
        if self.used * 4 >= self.slots.len() * 3 {
            let size = (self.slots.len() * 2).max(8);
            self.refill(size, |_| true);
        }
        let start = self.start(hash);
        let size = self.slots.len();
        for step in 0..size {
            if let Some(slot) = self.slots.get_mut((start + step) & (size - 1))
                && slot.1 == NO_KEY
            {
                *slot = (hash, id);
                self.used += 1;
                return;
            }
        }
    }

    /// Keeps what `stays`, in so many slots; answers with the rest.
    fn refill(&mut self, size: usize, stays: impl Fn(u32) -> bool) -> Vec<(u32, KeyId)> {
        let old = std::mem::replace(&mut self.slots, vec![(0, NO_KEY); size]);
        self.used = 0;
        let mut gone = Vec::new();
        for (hash, id) in old.into_iter().filter(|(_, id)| *id != NO_KEY) {
            match stays(hash) {
                true => self.put(hash, id),
                false => gone.push((hash, id)),
            }
        }
        gone
    }

    fn remove(&mut self, hash: u32, id: KeyId) {
        let before = self.used;
        for slot in &mut self.slots {
            if *slot == (hash, id) {
                slot.1 = NO_KEY;
                self.used -= 1;
            }
        }
        if self.used < before {
            // What was pushed past the freed slot finds its way again.
            let least = (self.used * 2).next_power_of_two().max(8);
            self.refill(self.slots.len().min(least.max(8)), |_| true);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    pages: Pieces<Page, 4>,
    records: Pieces<Record, 16>,
    count: usize,
}

/// A page holds so many keys on average before one more page is made, and so few before one goes.
const FULL: usize = 48;
const SPARSE: usize = 16;

fn page_of(hash: u32, pages: usize) -> usize {
    let size = pages.next_power_of_two();
    let page = hash as usize & (size - 1);
    if page < pages { page } else { page - size / 2 }
}

impl Dictionary {
    pub fn new() -> Dictionary {
        let mut dictionary = Dictionary::default();
        dictionary.pages.push(Page::default());
        // Key zero.
        dictionary.records.push(Record::default());
        dictionary
    }

    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(&Key) -> bool) -> KeyId {
        let Some(page) = self.pages.get(page_of(hash, self.pages.len())) else {
            return NO_KEY;
        };
        page.find(hash, |id| self.record(id).and_then(|record| record.key.as_ref()).is_some_and(&is_it))
    }

    pub fn find_form(&self, attribute: Attribute, form: &Form) -> KeyId {
        self.find(hashed::key(attribute, form), |key| {
            key.attribute == attribute && key.form == *form
        })
    }

    #[inline]
    pub fn record(&self, id: KeyId) -> Option<&Record> {
        self.records.get(id as usize)
    }

    #[inline]
    pub fn list(&self, id: KeyId) -> Option<&Arc<List>> {
        self.record(id)?.list.as_ref()
    }

    pub fn list_mut(&mut self, id: KeyId) -> Option<&mut Option<Arc<List>>> {
        Some(&mut self.records.get_mut(id as usize)?.list)
    }

    /// Keeps a key under a free number, or under the next one.
    pub fn add(&mut self, key: Key, free: Option<KeyId>) -> KeyId {
        let hash = hashed::key(key.attribute, &key.form);
        let record = Record {
            key: Some(key),
            list: None,
        };
        let id = match free {
            Some(id) => id,
            #[allow(clippy::cast_possible_truncation)] // no four billion keys
            None => self.records.len() as KeyId,
        };
        match free.and_then(|id| self.records.get_mut(id as usize)) {
            Some(place) => *place = record,
            None => self.records.push(record),
        }
        if let Some(page) = self.pages.get_mut(page_of(hash, self.pages.len())) {
            page.put(hash, id);
        }
        self.count += 1;
        if self.count > self.pages.len() * FULL {
            self.grow();
        }
        id
    }

    pub fn remove(&mut self, id: KeyId) {
        let Some(record) = self.records.get_mut(id as usize) else {
            return;
        };
        let Some(key) = std::mem::take(record).key else {
            return;
        };
        let hash = hashed::key(key.attribute, &key.form);
        if let Some(page) = self.pages.get_mut(page_of(hash, self.pages.len())) {
            page.remove(hash, id);
        }
        self.count -= 1;
        if self.pages.len() > 1 && self.count < self.pages.len() * SPARSE {
            self.shrink();
        }
    }

    /// One page more, and one that gives half of its keys to it.
    fn grow(&mut self) {
        let new = self.pages.len();
        let from = new - (new + 1).next_power_of_two() / 2;
        self.pages.push(Page::default());
        let pages = self.pages.len();
        let moved = match self.pages.get_mut(from) {
            Some(page) => page.refill(page.slots.len(), |hash| page_of(hash, pages) == from),
            None => Vec::new(),
        };
        if let Some(page) = self.pages.get_mut(new) {
            for (hash, id) in moved {
                page.put(hash, id);
            }
        }
    }

    fn shrink(&mut self) {
        let Some(last) = self.pages.pop() else {
            return;
        };
        let pages = self.pages.len();
        for (hash, id) in last.slots.into_iter().filter(|(_, id)| *id != NO_KEY) {
            if let Some(page) = self.pages.get_mut(page_of(hash, pages)) {
                page.put(hash, id);
            }
        }
    }
}

/// Numbers lie in a grid at each level: cells of `2^(level - 32)`.
pub(crate) mod grid {
    const LEVELS: f64 = 63.0;

    /// The level at which an interval has at most three cells.
    pub fn level(first: f64, last: f64) -> u8 {
        let half = ((last - first) / 2.0).max(2.0_f64.powi(-32));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        {
            (half.log2().ceil() + 32.0).clamp(0.0, LEVELS) as u8
        }
    }

    #[allow(clippy::cast_possible_truncation)] // it stops at the ends
    pub fn cell(level: u8, number: f64) -> i64 {
        (number / 2.0_f64.powi(i32::from(level) - 32)).floor() as i64
    }
}
