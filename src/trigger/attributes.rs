//! What is read of an event: the attributes that some predicate asks about, as a tree of names.
//!
//! An attribute is a path of names, what it is followed for and how its values are read; each has a number. A name
//! that no predicate asks about is in no branch of the tree, so what stands under it is passed over.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::query::schema::Kind;
use crate::query::tree::{Path, Via};

/// The number of an attribute.
pub(crate) type Attribute = u16;

/// How the texts of an attribute are read, as the type of the field has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    Plain,
    /// A–Z as a–z.
    Folded,
    Instant,
    Address,
}

impl Reading {
    pub fn of(kind: &Kind, folded: bool) -> Option<Reading> {
        match (kind, folded) {
            (Kind::Date | Kind::DateTime, false) => Some(Reading::Instant),
            (Kind::Ip, false) => Some(Reading::Address),
            (Kind::Date | Kind::DateTime | Kind::Ip, true) => None,
            (_, false) => Some(Reading::Plain),
            (_, true) => Some(Reading::Folded),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Described {
    pub names: Vec<String>,
    /// The elements of the list at its end, not the value there.
    pub elements: bool,
    pub reading: Reading,
}

impl Described {
    /// The attribute of a path that leads through the event alone.
    pub fn of(path: &Path, elements: bool, reading: Reading) -> Option<Described> {
        let plain = path.steps.iter().all(|step| step.via == Via::Value);
        let names: Vec<String> = path.steps.iter().map(|step| step.name.clone()).collect();
        (plain && !names.is_empty()).then_some(Described {
            names,
            elements,
            reading,
        })
    }

    /// Whether there is always one value: None where nothing is found.
    pub fn single(&self) -> bool {
        !self.elements && self.names.len() == 1
    }
}

/// A name in the tree, with all that is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Name {
    pub place: u32,
    pub written: Written,
    pub under: Under,
    /// Attributes whose value stands here, and how it is read.
    pub values: Vec<(Attribute, Reading)>,
    /// Attributes whose elements stand here.
    pub elements: Vec<(Attribute, Reading)>,
    /// Attributes with values somewhere below, which an element without them has as None.
    pub below: Vec<Attribute>,
}

/// Names under a name, found by their first eight bytes and their length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Under {
    /// Twice as many as there are names, at least, or none at all; a power of two.
    slots: Vec<Slot>,
    count: usize,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    start: u64,
    text: Box<str>,
    /// The place of the name; [`ROOT`] stands under nothing, so a slot with it is free.
    at: u32,
}

/// The first eight bytes of a text, or fewer.
#[inline]
pub(crate) fn start_of(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            for (place, byte) in eight.iter_mut().zip(text) {
                *place = *byte;
            }
            u64::from_le_bytes(eight)
        }
    }
}

/// How a name stands in JSON as a rule, from behind its first quote to the colon.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// Its first eight bytes and the next, and which of them count.
    words: [u64; 2],
    count: [u64; 2],
    /// Nothing for a long name or one that is not so simple.
    length: usize,
}

impl Written {
    fn of(name: &str) -> Written {
        let simple = |byte: u8| byte >= 0x20 && !matches!(byte, b'"' | b'\\');
        let mut bytes = [0; 16];
        let mut count = [0; 16];
        let length = name.len() + 2;
        if length > 16 || !name.bytes().all(simple) {
            return Written::default();
        }
        let all = name.bytes().chain(*b"\":");
        for ((place, counts), byte) in bytes.iter_mut().zip(&mut count).zip(all) {
            (*place, *counts) = (byte, u8::MAX);
        }
        let words = |bytes: [u8; 16]| {
            let (eights, _) = bytes.as_chunks();
            [0, 1].map(|at| eights.get(at).copied().map_or(0, u64::from_le_bytes))
        };
        Written {
            words: words(bytes),
            count: words(count),
            length,
        }
    }

    /// How long it is, if what stands there begins with it.
    #[inline]
    pub fn begins(&self, first: u64, next: impl FnOnce() -> u64) -> Option<usize> {
        let [a, b] = self.words;
        let [in_a, in_b] = self.count;
        let same = self.length != 0
            && (first ^ a) & in_a == 0
            && (self.length <= 8 || (next() ^ b) & in_b == 0);
        same.then_some(self.length)
    }
}

impl Under {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where a name is looked for first.
    #[inline]
    fn place(&self, start: u64, length: usize) -> usize {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        #[allow(clippy::cast_possible_truncation)] // the high bits are the mixed ones
        let hash = ((start ^ length as u64).wrapping_mul(MIX) >> 32) as usize;
        hash & self.slots.len().wrapping_sub(1)
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        self.find(start_of(name.as_bytes()), name.as_bytes())
    }

    /// The place of a name; `start` is how it begins.
    #[inline]
    pub fn find(&self, start: u64, name: &[u8]) -> Option<u32> {
        let mut place = self.place(start, name.len());
        loop {
            let slot = self.slots.get(place)?;
            if slot.at == ROOT {
                return None;
            }
            if slot.start == start
                && slot.text.len() == name.len()
                && (name.len() <= 8 || slot.text.as_bytes() == name)
            {
                return Some(slot.at);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    fn put(&mut self, name: &str, at: u32) {
        if 2 * self.count >= self.slots.len() {
            let size = (4 * self.count).max(8).next_power_of_two();
            let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
            self.count = 0;
            for slot in old.into_iter().filter(|slot| slot.at != ROOT) {
                self.put(&slot.text, slot.at);
            }
        }
        let start = start_of(name.as_bytes());
        let mut place = self.place(start, name.len());
        while let Some(slot) = self.slots.get_mut(place) {
            if slot.at == ROOT {
                let text = name.into();
                *slot = Slot { start, text, at };
                self.count += 1;
                return;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let known = self.slots.iter().filter(|slot| slot.at != ROOT);
        known.map(|slot| (&*slot.text, slot.at))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    names: Vec<Name>,
    numbers: HashMap<Described, Attribute, FixedState>,
}

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes {
            names: vec![Name::default()],
            numbers: HashMap::default(),
        }
    }
}

/// The place where every path begins.
pub(crate) const ROOT: u32 = 0;

impl Attributes {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// How many names there are in the tree.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    pub fn known(&self, described: &Described) -> Option<Attribute> {
        self.numbers.get(described).copied()
    }

    #[inline]
    pub fn name(&self, at: u32) -> Option<&Name> {
        self.names.get(at as usize)
    }

    /// The place of a name under another.
    #[inline]
    pub fn under(&self, at: u32, name: &str) -> Option<u32> {
        self.name(at)?.under.get(name)
    }

    /// A new attribute; nothing where there are as many as can be told apart.
    pub fn add(&mut self, described: &Described) -> Option<Attribute> {
        let number = Attribute::try_from(self.numbers.len()).ok()?;
        self.numbers.insert(described.clone(), number);
        let mut at = ROOT;
        for name in &described.names {
            let fresh = u32::try_from(self.names.len()).ok()?;
            let here = self.names.get_mut(at as usize)?;
            if !described.elements {
                here.below.push(number);
            }
            at = match here.under.get(name) {
                Some(next) => next,
                None => {
                    here.under.put(name, fresh);
                    self.names.push(Name {
                        place: fresh,
                        written: Written::of(name),
                        ..Name::default()
                    });
                    fresh
                }
            };
        }
        let end = self.names.get_mut(at as usize)?;
        let list = match described.elements {
            true => &mut end.elements,
            false => &mut end.values,
        };
        list.push((number, described.reading));
        Some(number)
    }
}
