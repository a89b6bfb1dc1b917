//! An event as the index sees it: the values of the attributes that predicates ask about, each with its key.
//!
//! It is filled once, from an object ([`Event::fill`]) or from bytes of JSON ([`Event::read`](super::reader)), and
//! asked by any number of programs. Its room is used again for the next event.

use serde_json::Value;

use super::attributes::{Attribute, Name, ROOT, Reading};
use super::dictionary::{Form, KeyId, NO_KEY, hashed};
use super::literal::Literal;
use super::picture::Picture;
use super::program::{Answers, TestId, Tested};
use crate::moment::Moment;
use crate::query::Fields;
use crate::query::evaluate::passes;
use crate::query::value::{Address, Number, Scalar, instant};

/// With more elements than these under the names that are asked about, the judge's steps count, and it must say all.
const MANY: usize = 150;

/// Room for an event.
#[derive(Debug, Default)]
pub struct Event {
    /// The number of the event that fills it; what bears another is of an earlier one.
    turn: u32,
    slots: Vec<Slot>,
    found: Vec<Found>,
    /// Attributes with values, in the order in which they were found.
    pub(crate) present: Vec<Attribute>,
    texts: String,
    pub(crate) elements: usize,
    /// The same key may stand twice among the values of one attribute.
    pub(crate) repeats: bool,
    results: Vec<(u32, Tested)>,
    /// The names seen so far in the objects that are being read.
    pub(crate) seen: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    turn: u32,
    /// The key of its first value.
    key: KeyId,
    first: u32,
    last: u32,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub key: KeyId,
    pub hash: u32,
    /// The next value of the same attribute.
    next: u32,
    pub form: Seen,
    /// A number, or the microseconds of an instant.
    pub number: f64,
    text: (u32, u32),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    None,
    Bool(bool),
    Number,
    /// A number that no float is, or may not be.
    Large,
    Text,
    Instant,
    Address,
    Whole,
}

/// A value on its way in.
#[derive(Clone, Copy)]
pub(crate) enum Bit<'a> {
    None,
    Bool(bool),
    Number(Number),
    Text(&'a str),
    Whole,
}

const NOTHING: u32 = u32::MAX;
/// Among so many values of one attribute the same is looked for, and left out.
const FEW: u32 = 16;

impl Event {
    pub fn new() -> Event {
        Event::default()
    }

    /// Fills it from fields that were read already.
    pub fn take<'v>(
        &mut self,
        picture: &Picture,
        fields: impl IntoIterator<Item = (&'v str, &'v Value)>,
    ) {
        self.clear(picture);
        for (name, value) in fields {
            self.fill(picture, name, value);
        }
    }

    /// Fills it from anything with named fields, of which those are asked for that some predicate names.
    pub fn take_fields(&mut self, picture: &Picture, subject: &dyn Fields) {
        self.clear(picture);
        let Some(root) = picture.attributes.name(ROOT) else {
            return;
        };
        for (name, at) in &root.under {
            if let Some(value) = subject.field(name) {
                self.walk(picture, *at, &value, false);
            }
        }
    }

    /// Makes room for another event.
    pub(crate) fn clear(&mut self, picture: &Picture) {
        self.turn = self.turn.wrapping_add(1);
        if self.turn == 0 {
            // Once in four billion events old turns would look new.
            self.slots.clear();
            self.results.clear();
            self.turn = 1;
        }
        self.slots.resize(picture.attributes.len(), Slot::default());
        self.results
            .resize(picture.tests.len(), (0, Tested::Unknown));
        self.found.clear();
        self.present.clear();
        self.texts.clear();
        self.elements = 0;
        self.repeats = false;
        self.seen.clear();
    }

    /// Whether the judge's steps count.
    pub(crate) fn is_large(&self) -> bool {
        self.elements > MANY
    }

    /// A field that holds these texts, each for itself.
    pub(crate) fn fill_texts<'t>(
        &mut self,
        picture: &Picture,
        name: &str,
        texts: impl IntoIterator<Item = &'t str>,
    ) {
        let at = picture.attributes.under(ROOT, name);
        if let Some(name) = at.and_then(|at| picture.attributes.name(at)) {
            for text in texts {
                self.arrive(picture, name, Bit::Text(text), false);
            }
        }
    }

    /// Reads a field of the event.
    pub(crate) fn fill(&mut self, picture: &Picture, name: &str, value: &Value) {
        if let Some(at) = picture.attributes.under(ROOT, name) {
            self.walk(picture, at, value, false);
        }
    }

    fn walk(&mut self, picture: &Picture, at: u32, value: &Value, spread: bool) {
        let Some(name) = picture.attributes.name(at) else {
            return;
        };
        match value {
            Value::Null => {}
            Value::Bool(truth) => self.arrive(picture, name, Bit::Bool(*truth), spread),
            Value::Number(number) => {
                let bit = Number::of(number).map_or(Bit::None, Bit::Number);
                self.arrive(picture, name, bit, spread);
            }
            Value::String(text) => self.arrive(picture, name, Bit::Text(text), spread),
            Value::Object(map) => {
                self.arrive(picture, name, Bit::Whole, spread);
                if !name.under.is_empty() {
                    for (field, value) in map {
                        if let Some(under) = name.under.get(field.as_str()) {
                            self.walk(picture, *under, value, spread);
                        }
                    }
                }
            }
            Value::Array(items) => {
                self.elements += items.len();
                if !name.values.is_empty() {
                    let whole = match items.iter().all(Value::is_null) {
                        true => Bit::None,
                        false => Bit::Whole,
                    };
                    self.values(picture, name, whole);
                }
                for item in items.iter().filter(|item| !item.is_null()) {
                    if !name.elements.is_empty() {
                        self.elements(picture, name, bit_of(item));
                    }
                    if name.under.is_empty() {
                        continue;
                    }
                    let before = self.counts(name);
                    if let Value::Object(map) = item {
                        for (field, value) in map {
                            if let Some(under) = name.under.get(field.as_str()) {
                                self.walk(picture, *under, value, true);
                            }
                        }
                    }
                    self.fill_in(picture, name, &before);
                }
            }
        }
    }

    /// How many values there are of what stands below a name.
    pub(crate) fn counts(&self, name: &Name) -> Vec<u32> {
        name.below.iter().map(|below| self.count(*below)).collect()
    }

    /// An element without a value has None.
    pub(crate) fn fill_in(&mut self, picture: &Picture, name: &Name, before: &[u32]) {
        for (attribute, before) in name.below.iter().zip(before) {
            if self.count(*attribute) == *before {
                self.add(picture, *attribute, Reading::Plain, Bit::None);
            }
        }
    }

    /// What is no list, at the end of paths and on their way.
    pub(crate) fn arrive(&mut self, picture: &Picture, name: &Name, bit: Bit<'_>, spread: bool) {
        self.values(picture, name, bit);
        if spread {
            self.elements(picture, name, bit);
        }
    }

    pub(crate) fn values(&mut self, picture: &Picture, name: &Name, bit: Bit<'_>) {
        for &(attribute, reading) in &name.values {
            self.add(picture, attribute, reading, bit);
        }
    }

    pub(crate) fn elements(&mut self, picture: &Picture, name: &Name, bit: Bit<'_>) {
        for &(attribute, reading) in &name.elements {
            self.add(picture, attribute, reading, bit);
        }
    }

    /// A value of an attribute.
    pub(crate) fn add(
        &mut self,
        picture: &Picture,
        attribute: Attribute,
        reading: Reading,
        bit: Bit<'_>,
    ) {
        let mut found = Found {
            key: NO_KEY,
            hash: 0,
            next: NOTHING,
            form: Seen::Whole,
            number: f64::NAN,
            text: (0, 0),
        };
        match bit {
            Bit::Whole => {}
            Bit::None => self.is(picture, attribute, &mut found, Seen::None, &Literal::None),
            Bit::Bool(truth) => {
                let literal = Literal::Bool(truth);
                self.is(picture, attribute, &mut found, Seen::Bool(truth), &literal);
            }
            Bit::Number(number) => {
                let literal = Literal::number_of(number);
                let exact = literal.number();
                let form = if exact.is_some() {
                    Seen::Number
                } else {
                    Seen::Large
                };
                if reading == Reading::Instant {
                    // Microseconds are kept as numbers there, so a number is equal to no key and lies between none.
                    found.form = form;
                } else {
                    found.number = exact.unwrap_or(f64::NAN);
                    self.is(picture, attribute, &mut found, form, &literal);
                }
                if found.number.is_nan() {
                    found.number = exact.unwrap_or(f64::NAN);
                }
            }
            Bit::Text(text) => self.text(picture, attribute, reading, text, &mut found),
        }
        self.keep(attribute, found);
    }

    fn text(
        &mut self,
        picture: &Picture,
        attribute: Attribute,
        reading: Reading,
        text: &str,
        found: &mut Found,
    ) {
        let start = self.texts.len();
        self.texts.push_str(text);
        if reading == Reading::Folded
            && let Some(kept) = self.texts.get_mut(start..)
        {
            kept.make_ascii_lowercase();
        }
        #[allow(clippy::cast_possible_truncation)] // a message is smaller
        {
            found.text = (start as u32, self.texts.len() as u32);
        }
        found.form = Seen::Text;
        match reading {
            Reading::Instant => {
                if let Some(moment) = instant(text) {
                    let literal = Literal::int(moment.micros().into());
                    found.number = literal.number().unwrap_or(f64::NAN);
                    self.is(picture, attribute, found, Seen::Instant, &literal);
                }
            }
            Reading::Address => {
                if let Some(address) = Address::parse(text) {
                    let literal = Literal::Address(Box::new(address));
                    self.is(picture, attribute, found, Seen::Address, &literal);
                }
            }
            Reading::Plain | Reading::Folded => {
                let text = self.texts.get(start..).unwrap_or_default();
                found.hash = hashed::text(attribute, text);
                found.key = picture.dictionary.find(found.hash, |key| {
                    key.attribute == attribute
                        && matches!(&key.form, Form::Is(Literal::Text(known)) if **known == *text)
                });
            }
        }
    }

    fn is(
        &self,
        picture: &Picture,
        attribute: Attribute,
        found: &mut Found,
        form: Seen,
        literal: &Literal,
    ) {
        found.form = form;
        found.hash = hashed::literal(attribute, literal);
        found.key = picture.dictionary.find(found.hash, |key| {
            key.attribute == attribute && matches!(&key.form, Form::Is(known) if known == literal)
        });
    }

    fn keep(&mut self, attribute: Attribute, found: Found) {
        #[allow(clippy::cast_possible_truncation)] // a message is smaller
        let place = self.found.len() as u32;
        let Some(slot) = self.slots.get_mut(usize::from(attribute)) else {
            return;
        };
        if slot.turn == self.turn {
            slot.count += 1;
            if found.key != NO_KEY && slot.count > FEW {
                self.repeats = true;
            } else if found.key != NO_KEY {
                let mut place = slot.first;
                while let Some(known) = self.found.get(place as usize) {
                    if known.key == found.key {
                        return;
                    }
                    place = known.next;
                }
            }
            let last = std::mem::replace(&mut slot.last, place);
            if let Some(last) = self.found.get_mut(last as usize) {
                last.next = place;
            }
        } else {
            *slot = Slot {
                turn: self.turn,
                key: found.key,
                first: place,
                last: place,
                count: 1,
            };
            self.present.push(attribute);
        }
        self.found.push(found);
    }

    pub(crate) fn count(&self, attribute: Attribute) -> u32 {
        self.slot(attribute).map_or(0, |slot| slot.count)
    }

    #[inline]
    fn slot(&self, attribute: Attribute) -> Option<&Slot> {
        self.slots
            .get(usize::from(attribute))
            .filter(|slot| slot.turn == self.turn)
    }

    /// The values of an attribute.
    #[inline]
    pub(crate) fn found(&self, attribute: Attribute) -> Values<'_> {
        Values {
            all: &self.found,
            next: self.slot(attribute).map_or(NOTHING, |slot| slot.first),
        }
    }

    /// The place of an attribute's first value.
    #[inline]
    pub(crate) fn first(&self, attribute: Attribute) -> u32 {
        self.slot(attribute).map_or(NOTHING, |slot| slot.first)
    }

    /// The key at a place, and the place of the next value.
    #[inline]
    pub(crate) fn key_at(&self, place: u32) -> Option<(KeyId, u32)> {
        self.found
            .get(place as usize)
            .map(|found| (found.key, found.next))
    }

    pub(crate) fn text_of(&self, found: &Found) -> &str {
        let (from, to) = found.text;
        self.texts
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }
}

fn bit_of(value: &Value) -> Bit<'_> {
    match value {
        Value::Null => Bit::None,
        Value::Bool(truth) => Bit::Bool(*truth),
        Value::Number(number) => Number::of(number).map_or(Bit::None, Bit::Number),
        Value::String(text) => Bit::Text(text),
        Value::Array(items) if items.iter().all(Value::is_null) => Bit::None,
        Value::Array(_) | Value::Object(_) => Bit::Whole,
    }
}

pub(crate) struct Values<'e> {
    all: &'e [Found],
    next: u32,
}

impl<'e> Iterator for Values<'e> {
    type Item = &'e Found;

    #[inline]
    fn next(&mut self) -> Option<&'e Found> {
        let found = self.all.get(self.next as usize)?;
        self.next = found.next;
        Some(found)
    }
}

/// An event beside the picture that its keys are of.
pub(crate) struct Asking<'e> {
    pub picture: &'e Picture,
    pub event: &'e mut Event,
}

impl Asking<'_> {
    /// The keys of an attribute's values; that of None where there is no value.
    #[inline]
    pub fn any_key(&self, attribute: Attribute, is_it: impl Fn(KeyId) -> bool) -> bool {
        match self.event.slot(attribute) {
            Some(slot) if slot.count == 1 => is_it(slot.key),
            Some(_) => self.event.found(attribute).any(|found| is_it(found.key)),
            None => is_it(self.picture.none_of(attribute)),
        }
    }
}

impl Answers for Asking<'_> {
    #[inline]
    fn equals(&mut self, attribute: Attribute, key: KeyId) -> bool {
        self.any_key(attribute, |found| found == key)
    }

    #[inline]
    fn among(&mut self, attribute: Attribute, keys: &[KeyId]) -> bool {
        self.any_key(attribute, |found| found != NO_KEY && keys.contains(&found))
    }

    #[inline]
    fn between(&mut self, attribute: Attribute, first: f64, last: f64) -> Tested {
        let mut unknown = false;
        let read_as_instants = self.picture.reads_instants(attribute);
        for found in self.event.found(attribute) {
            match found.form {
                Seen::Number
                    if !read_as_instants && found.number >= first && found.number <= last =>
                {
                    return Tested::True;
                }
                Seen::Instant if found.number.is_nan() => unknown = true,
                Seen::Instant if found.number >= first && found.number <= last => {
                    return Tested::True;
                }
                Seen::Large if !read_as_instants => unknown = true,
                _ => {}
            }
        }
        if unknown {
            Tested::Unknown
        } else {
            Tested::False
        }
    }

    fn test(&mut self, attribute: Attribute, test: TestId) -> Tested {
        let turn = self.event.turn;
        if let Some((known, result)) = self.event.results.get(test as usize)
            && *known == turn
        {
            return *result;
        }
        let result = self.tested(attribute, test);
        if let Some(place) = self.event.results.get_mut(test as usize) {
            *place = (turn, result);
        }
        result
    }
}

impl Asking<'_> {
    fn tested(&self, attribute: Attribute, test: TestId) -> Tested {
        let Some(test) = self.picture.test(test) else {
            return Tested::Unknown;
        };
        if self.event.count(attribute) == 0 {
            let nothing = !self.picture.has_elements(attribute) && passes(test, &Scalar::None);
            return Tested::of(nothing);
        }
        let mut unknown = false;
        for found in self.event.found(attribute) {
            let text = self.event.text_of(found);
            let scalar = match found.form {
                Seen::None => Scalar::None,
                Seen::Bool(truth) => Scalar::Bool(truth),
                Seen::Number => Scalar::Number(Number::Float(found.number)),
                Seen::Large => {
                    unknown = true;
                    continue;
                }
                Seen::Text => Scalar::Text(text.into()),
                Seen::Instant => match instant(text) {
                    Some(moment) => Scalar::Instant(moment),
                    None => Scalar::Instant(Moment::EPOCH),
                },
                Seen::Address => match Address::parse(text) {
                    Some(address) => Scalar::Address(address),
                    None => continue,
                },
                Seen::Whole => Scalar::Object,
            };
            if passes(test, &scalar) {
                return Tested::True;
            }
        }
        if unknown {
            Tested::Unknown
        } else {
            Tested::False
        }
    }
}
