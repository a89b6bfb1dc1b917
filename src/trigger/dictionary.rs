//! Keys to lists: each constant that some predicate names has a number, and with it are the rules that wait for it.
//!
//! Keys lie by hash in small pages that grow and shrink one at a time, so that no change moves them all. They are in
//! [`Pieces`], so a copy for readers costs nothing.

use std::hint::black_box;
use std::sync::Arc;

use super::attributes::Attribute;
use super::lists::List;
use super::literal::Literal;
use super::pages::{page_before, page_of};
use super::pieces::{Pieces, Spot};

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

/// Hashes, the same for a key and for what is looked for: first of the value, then with its attribute and the form.
pub(crate) mod hashed {
    use super::{Attribute, Form, Literal};
    use crate::query::value::Address;

    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xd6e8_feb8_6659_fd93;
    const C: u64 = 0xa076_1d64_78bd_642f;

    pub const IS: u8 = 0;

    #[inline]
    fn fold(a: u64, b: u64) -> u64 {
        let all = u128::from(a) * u128::from(b);
        #[allow(clippy::cast_possible_truncation)] // both halves
        {
            all as u64 ^ (all >> 64) as u64
        }
    }

    /// The hash of a value that has this one for itself.
    #[inline]
    pub fn of(attribute: Attribute, form: u8, value: u64) -> u32 {
        let here = (u64::from(attribute) << 8 | u64::from(form)).wrapping_mul(A);
        let all = fold(value ^ here, C);
        // Zero is no hash.
        #[allow(clippy::cast_possible_truncation)]
        {
            ((all ^ all >> 32) as u32).max(1)
        }
    }

    /// What [`bytes`] begins with.
    pub const NO_BYTES: u64 = B;

    /// Eight bytes more.
    #[inline]
    pub fn more(before: u64, eight: u64) -> u64 {
        fold(before ^ eight, A)
    }

    /// The last bytes, fewer than eight, and how many there were in all.
    #[inline]
    pub fn end(before: u64, rest: u64, length: usize) -> u64 {
        fold(before ^ rest, C ^ length as u64)
    }

    pub fn bytes(all: &[u8]) -> u64 {
        let (eights, rest) = all.as_chunks();
        let before = eights.iter().fold(NO_BYTES, |before, eight| {
            more(before, u64::from_le_bytes(*eight))
        });
        let mut last = [0; 8];
        for (place, byte) in last.iter_mut().zip(rest) {
            *place = *byte;
        }
        end(before, u64::from_le_bytes(last), all.len())
    }

    #[inline]
    pub fn number(bits: u64) -> u64 {
        fold(bits ^ B, A)
    }

    pub fn literal(attribute: Attribute, literal: &Literal) -> u32 {
        let value = match literal {
            Literal::None => 1,
            Literal::Bool(truth) => 2 + u64::from(*truth),
            Literal::Number(bits) => number(*bits),
            Literal::Large(int) => bytes(&int.to_le_bytes()),
            Literal::Short(text) => bytes(text.bytes()),
            Literal::Text(text) => bytes(text.as_bytes()),
            Literal::Address(address) => self::address(address),
        };
        of(attribute, IS, value)
    }

    fn address(address: &Address) -> u64 {
        bytes(&address.bytes())
    }

    pub fn text(attribute: Attribute, text: &str) -> u32 {
        of(attribute, IS, bytes(text.as_bytes()))
    }

    pub fn cell(attribute: Attribute, level: u8, cell: i64) -> u32 {
        of(attribute, 1, more(u64::from(level), cell.cast_unsigned()))
    }

    pub fn starts(attribute: Attribute, folded: &[u8]) -> u32 {
        of(attribute, 2, bytes(folded))
    }

    pub fn ends(attribute: Attribute, folded: &[u8]) -> u32 {
        of(attribute, 3, bytes(folded))
    }

    pub fn gram(attribute: Attribute, gram: [u8; 4]) -> u32 {
        of(attribute, 4, number(u32::from_le_bytes(gram).into()))
    }

    pub fn key(attribute: Attribute, form: &Form) -> u32 {
        match form {
            Form::Is(wanted) => literal(attribute, wanted),
            Form::Cell(level, number) => cell(attribute, *level, *number),
            Form::Starts(text) => starts(attribute, text.as_bytes()),
            Form::Ends(text) => ends(attribute, text.as_bytes()),
            Form::Gram(bytes) => gram(attribute, *bytes),
            Form::Several => of(attribute, 5, 0),
        }
    }
}

/// Some records. A few bits of the hashes of the first stand in the page itself, so that as a rule no other record is
/// looked at than the right one.
#[derive(Clone, Debug, Default)]
struct Page {
    marks: [u8; FIRST],
    records: Vec<Record>,
}

const FIRST: usize = 16;
/// A page holds so many keys on average before one more page is made, and so few before one goes.
const FULL: usize = 10;
const SPARSE: usize = 4;
/// With more pages than these they are in no near memory.
const FAR: usize = 512;

/// The low bits have chosen the page. Zero stands where there is no record.
#[inline]
fn mark_of(hash: u32) -> u8 {
    #[allow(clippy::cast_possible_truncation)] // the highest bits
    {
        ((hash >> 24) as u8).max(1)
    }
}

impl Page {
    /// The places of the first records that may be the right ones.
    #[inline]
    fn places(&self, hash: u32) -> impl Iterator<Item = usize> {
        const ONES: u64 = u64::MAX / 255;
        const LOW: u64 = ONES * 127;
        let wanted = ONES * u64::from(mark_of(hash));
        let (eights, _) = self.marks.as_chunks();
        eights.iter().enumerate().flat_map(move |(number, eight)| {
            // The high bit of each byte that is the mark.
            let other = u64::from_le_bytes(*eight) ^ wanted;
            let mut same = !(((other & LOW) + LOW) | other | LOW);
            std::iter::from_fn(move || {
                let place = (same != 0).then(|| same.trailing_zeros())?;
                same &= same - 1;
                Some(8 * number + place as usize / 8)
            })
        })
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(&Record) -> bool) -> Option<&Record> {
        for place in self.places(hash) {
            if let Some(record) = self.records.get(place)
                && is_it(record)
            {
                return Some(record);
            }
        }
        self.records
            .get(FIRST..)?
            .iter()
            .find(|record| is_it(record))
    }

    fn put(&mut self, hash: u32, record: Record) {
        if let Some(place) = self.marks.get_mut(self.records.len()) {
            *place = mark_of(hash);
        }
        self.records.reserve_exact(1);
        self.records.push(record);
    }

    fn remove(&mut self, id: KeyId) {
        let place = self.records.iter().position(|record| record.id == id);
        if let Some(place) = place {
            self.records.remove(place);
            self.marks = [0; FIRST];
            for (mark, record) in self.marks.iter_mut().zip(&self.records) {
                *mark = mark_of(record.hash());
            }
        }
    }
}

impl Record {
    fn hash(&self) -> u32 {
        hashed::key(self.key.attribute, &self.key.form)
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

/// On the way to the record of a hash.
pub(crate) struct Sought<'d> {
    hash: u32,
    page: Spot<'d, Page, 1>,
    likely: Option<&'d Record>,
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

    #[inline]
    pub fn seek(&self, hash: u32) -> Sought<'_> {
        Sought {
            hash,
            page: self.pages.spot(page_of(hash, self.pages.len())),
            likely: None,
        }
    }

    /// Goes most of the way to the records of some hashes, to all of them step by step: so they wait for the memory
    /// together, and not one after the other.
    pub fn approach<'d>(&'d self, sought: &mut [Sought<'d>]) {
        self.pages
            .approach(sought.iter_mut().map(|sought| &mut sought.page));
        for sought in &mut *sought {
            let page = sought.page.item();
            sought.likely = page.and_then(|page| {
                let place = page.places(sought.hash).next();
                page.records.get(place.unwrap_or(FIRST))
            });
        }
        // A little is read of each part of the records, so that they are near when they are reached.
        let near = sought.iter().map(|sought| {
            let near = sought.likely.map(|record| record.id ^ record.list.length());
            near.unwrap_or_default()
        });
        black_box(near.fold(0, |sum, word| sum ^ word));
    }

    /// The record of a hash that was approached.
    #[inline]
    pub fn reach<'d>(
        &'d self,
        sought: &Sought<'d>,
        is_it: impl Fn(&Key) -> bool,
    ) -> Option<&'d Record> {
        match sought.likely {
            Some(record) if is_it(&record.key) => Some(record),
            None => None,
            Some(_) => self.find(sought.hash, is_it),
        }
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
        page.records.iter_mut().find(|record| record.id == id)
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
            page.remove(id);
        }
        self.count = self.count.saturating_sub(1);
        if self.pages.len() > 1
            && self.count < self.pages.len() * SPARSE
            && let Some(last) = self.pages.pop()
        {
            self.spread(last.records);
        }
    }

    /// Puts what is on a page where it belongs now.
    fn share_out(&mut self, page: usize) {
        let all = self.pages.get_mut(page).map(std::mem::take);
        self.spread(all.unwrap_or_default().records);
    }

    fn spread(&mut self, records: Vec<Record>) {
        for record in records {
            let hash = record.hash();
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
