//! Keys to lists: each constant that some predicate names has a number, and under it the rules that wait for it.
//!
//! All of it is in [`Pieces`], so a copy for readers costs nothing.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::attributes::Attribute;
use super::lists::List;
use super::literal::Literal;
use super::pages::Pages;
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

#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    pages: Pages,
    records: Pieces<Record, 16>,
}

impl Dictionary {
    pub fn new() -> Dictionary {
        let mut dictionary = Dictionary::default();
        // Key zero.
        dictionary.records.push(Record::default());
        dictionary
    }

    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(&Key) -> bool) -> KeyId {
        self.pages.find(hash, |id| {
            let key = self.record(id).and_then(|record| record.key.as_ref());
            key.is_some_and(&is_it)
        })
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
        self.pages.put(hash, id);
        id
    }

    pub fn remove(&mut self, id: KeyId) {
        let Some(record) = self.records.get_mut(id as usize) else {
            return;
        };
        let Some(key) = std::mem::take(record).key else {
            return;
        };
        self.pages.remove(hashed::key(key.attribute, &key.form), id);
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
