//! Keys to lists: each constant that some predicate names has a number, and with it are the rules that wait for it.
//!
//! Keys lie by hash in small pages that grow and shrink one at a time, so that no change moves them all. They are in
//! [`Pieces`], so a copy for readers costs nothing.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attributes::Attribute;
use super::lists::List;
use super::literal::Literal;
use super::pages::{page_before, page_of};
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

/// The number of a key. Zero is no key.
pub(crate) type KeyId = u32;
pub(crate) const NO_KEY: KeyId = 0;

/// A key, with the rules that wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub id: KeyId,
    pub key: Key,
    pub list: List,
}

/// Hashes, one for each form, the same for a key and for what is looked for.
pub(crate) mod hashed {
    use super::{Attribute, BuildHasher, FixedState, Form, Hash, Hasher, Literal};

    fn of(
        attribute: Attribute,
        form: u8,
        rest: impl FnOnce(&mut <FixedState as BuildHasher>::Hasher),
    ) -> u32 {
        const SEEDED: FixedState = FixedState::with_seed(0x6d75_7374_6572);
        let mut state = SEEDED.build_hasher();
        state.write_u32(u32::from(attribute) << 8 | u32::from(form));
        rest(&mut state);
        let all = state.finish();
        // Zero is no hash.
        #[allow(clippy::cast_possible_truncation)]
        {
            ((all ^ all >> 32) as u32).max(1)
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
        of(attribute, 4, |state| {
            state.write_u32(u32::from_le_bytes(gram))
        })
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

/// Some hashes, with the records that they lead to. The first ones lie in the page itself.
#[derive(Clone, Debug, Default)]
struct Page {
    first: [u32; FIRST],
    more: Vec<u32>,
    records: Vec<Record>,
}

const FIRST: usize = 16;
/// A page holds so many keys on average before one more page is made, and so few before one goes.
const FULL: usize = 10;
const SPARSE: usize = 4;
/// With more pages than these they are in no near memory.
const FAR: usize = 512;

impl Page {
    #[inline]
    fn hashes(&self) -> impl Iterator<Item = u32> {
        let first = self.first.iter().take(self.records.len());
        first.chain(&self.more).copied()
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(&Record) -> bool) -> Option<&Record> {
        // All of the first are compared at once: what is free is zero, which is no hash.
        let mut same = 0_u32;
        for (place, known) in self.first.iter().enumerate() {
            same |= u32::from(*known == hash) << place;
        }
        while same != 0 {
            let record = self.records.get(same.trailing_zeros() as usize)?;
            if is_it(record) {
                return Some(record);
            }
            same &= same - 1;
        }
        let more = self.records.get(FIRST..)?;
        let mut more = self.more.iter().zip(more);
        more.find_map(|(known, record)| (*known == hash && is_it(record)).then_some(record))
    }

    fn place_of(&self, hash: u32, id: KeyId) -> Option<usize> {
        let mut records = self.hashes().zip(&self.records);
        records.position(|(known, record)| known == hash && record.id == id)
    }

    fn put(&mut self, hash: u32, record: Record) {
        match self.first.get_mut(self.records.len()) {
            Some(place) => *place = hash,
            None => self.more.push(hash),
        }
        self.records.reserve_exact(1);
        self.records.push(record);
    }

    /// All that is in it, with its hashes.
    fn take(&mut self) -> Vec<(u32, Record)> {
        let page = std::mem::take(self);
        let hashes: Vec<u32> = page.hashes().collect();
        hashes.into_iter().zip(page.records).collect()
    }

    fn remove(&mut self, hash: u32, id: KeyId) {
        if let Some(place) = self.place_of(hash, id) {
            let mut kept = self.take();
            kept.remove(place);
            for (hash, record) in kept {
                self.put(hash, record);
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Dictionary {
    pages: Pieces<Page, 1>,
    count: usize,
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        let mut pages = Pieces::default();
        pages.push(Page::default());
        Dictionary { pages, count: 0 }
    }
}

impl Dictionary {
    /// Whether looking things up waits for the memory.
    pub fn is_far(&self) -> bool {
        self.pages.len() > FAR
    }

    #[inline]
    fn page(&self, hash: u32) -> Option<&Page> {
        self.pages.get(page_of(hash, self.pages.len()))
    }

    /// Reads a little of the page of a hash, so that it is near when it is looked through.
    #[inline]
    pub fn touch(&self, hash: u32) -> u32 {
        self.page(hash)
            .map_or(0, |page| page.first[0] ^ page.first[FIRST - 1])
    }

    /// Reads a little of what a hash leads to, as [`Dictionary::touch`].
    #[inline]
    pub fn approach(&self, hash: u32) -> u32 {
        let record = self.page(hash).and_then(|page| page.find(hash, |_| true));
        record.map_or(0, |record| {
            let first = match &record.key.form {
                Form::Is(Literal::Text(text)) => text.as_bytes().first().copied(),
                _ => None,
            };
            record.list.approach() ^ u32::from(first.unwrap_or_default())
        })
    }

    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(&Key) -> bool) -> Option<&Record> {
        self.page(hash)?.find(hash, |record| is_it(&record.key))
    }

    pub fn find_form(&self, attribute: Attribute, form: &Form) -> KeyId {
        let record = self.find(hashed::key(attribute, form), |key| {
            key.attribute == attribute && key.form == *form
        });
        record.map_or(NO_KEY, |record| record.id)
    }

    /// The record of a number, whose hash this is.
    pub fn record(&self, hash: u32, id: KeyId) -> Option<&Record> {
        self.page(hash)?.find(hash, |record| record.id == id)
    }

    pub fn record_mut(&mut self, hash: u32, id: KeyId) -> Option<&mut Record> {
        let page = self.pages.get_mut(page_of(hash, self.pages.len()))?;
        let place = page.place_of(hash, id)?;
        page.records.get_mut(place)
    }

    /// Keeps a key under a free number.
    pub fn add(&mut self, hash: u32, id: KeyId, key: Key) {
        let page = page_of(hash, self.pages.len());
        if let Some(page) = self.pages.get_mut(page) {
            let list = List::default();
            page.put(hash, Record { id, key, list });
        }
        self.count += 1;
        if self.count > self.pages.len() * FULL {
            let from = page_before(self.pages.len());
            self.pages.push(Page::default());
            self.share_out(from);
        }
    }

    pub fn remove(&mut self, hash: u32, id: KeyId) {
        let page = page_of(hash, self.pages.len());
        if let Some(page) = self.pages.get_mut(page) {
            page.remove(hash, id);
        }
        self.count = self.count.saturating_sub(1);
        if self.pages.len() > 1
            && self.count < self.pages.len() * SPARSE
            && let Some(mut last) = self.pages.pop()
        {
            self.spread(last.take());
        }
    }

    /// Puts what is on a page where it belongs now.
    fn share_out(&mut self, page: usize) {
        let all = self.pages.get_mut(page).map(Page::take);
        self.spread(all.unwrap_or_default());
    }

    fn spread(&mut self, records: Vec<(u32, Record)>) {
        for (hash, record) in records {
            let page = page_of(hash, self.pages.len());
            if let Some(page) = self.pages.get_mut(page) {
                page.put(hash, record);
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

    /// The cell of a number at each level that has a bit.
    pub fn cells(mut levels: u64, number: f64) -> impl Iterator<Item = (u8, i64)> + Clone {
        if number.is_nan() {
            levels = 0;
        }
        std::iter::from_fn(move || {
            let level = u8::try_from(levels.checked_ilog2()?).ok()?;
            levels &= !(1 << level);
            Some((level, cell(level, number)))
        })
    }

    #[allow(clippy::cast_possible_truncation)] // it stops at the ends
    pub fn cell(level: u8, number: f64) -> i64 {
        (number / 2.0_f64.powi(i32::from(level) - 32)).floor() as i64
    }
}
