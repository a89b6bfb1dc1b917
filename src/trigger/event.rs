//! An event as the index sees it: the values of the attributes that predicates ask about, each with its key.
//!
//! It is filled once, from an object ([`Event::fill`]) or from bytes of JSON ([`Event::read`](super::reader)), and
//! asked by any number of programs. Its room is used again for the next event.

use serde_json::Value;

use super::attributes::{Attribute, Name, ROOT, Reading};
use super::dictionary::{KeyId, NO_KEY, hashed};
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
    /// By attribute: the key of its value, or of None where there is none; [`NO_KEY`], or [`SEVERAL`].
    keys: Vec<KeyId>,
    found: Vec<Found>,
    /// Attributes with values, in the order in which they were found.
    pub(crate) present: Vec<Attribute>,
    /// What was read, with [`SPARE`] behind it.
    body: String,
    /// Texts that stand nowhere in what was read.
    texts: String,
    pub(crate) elements: usize,
    /// The same key may stand twice among the values of one attribute.
    pub(crate) repeats: bool,
    results: Vec<(u32, Tested)>,
    /// The number of the last object in which each name was read, and how many objects were begun.
    seen: Vec<u32>,
    objects: u32,
    /// Under and after each name: the name that came first there, or next, the last time.
    guesses: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    turn: u32,
    first: u32,
    last: u32,
    count: u32,
    /// Its value, where that is a single number.
    number: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its key, when it has been looked up.
    pub key: KeyId,
    /// The hash of its key; zero: no key can be it.
    pub hash: u32,
    pub attribute: Attribute,
    /// The next value of the same attribute.
    next: u32,
    pub form: Seen,
    /// A number, or the microseconds of an instant.
    pub number: f64,
    /// From and to, in what was read or, with [`APART`], among the other texts.
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
    /// A number where instants are read, which is equal to none of them and lies between none. As a float, or not one.
    Stray,
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
    /// A number that is the same as a float.
    Exact(f64),
    Text(&'a str),
    Read(Stretch<'a>),
    Whole,
}

/// A text as it stands in what is read.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    /// All that is read.
    pub body: &'a str,
    pub from: usize,
    pub to: usize,
    /// [`hashed::bytes`] of it.
    pub hash: u64,
}

const NOTHING: u32 = u32::MAX;
/// A mark in the place of a key: there are several values.
const SEVERAL: KeyId = u32::MAX;
const APART: u32 = 1 << 31;
/// What stands behind a body, so that a few bytes can always be read together; it is part of no JSON.
const SPARE: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
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
        for (name, at) in root.under.iter() {
            if let Some(value) = subject.field(name) {
                self.walk(picture, at, &value, false);
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
        self.keys.clear();
        self.keys.extend_from_slice(&picture.nones);
        self.results
            .resize(picture.tests.len(), (0, Tested::Unknown));
        self.found.clear();
        self.present.clear();
        self.body.clear();
        self.texts.clear();
        self.elements = 0;
        self.repeats = false;
        if self.objects > u32::MAX / 2 {
            self.seen.clear();
            self.objects = 0;
        }
        self.seen.resize(picture.attributes.names(), 0);
        self.guesses
            .resize(picture.attributes.names(), (ROOT, ROOT));
    }

    /// All that is read, so that texts need not be kept one by one. It is handed out to be read, and comes back.
    pub(crate) fn take_body(&mut self, text: &str) -> String {
        self.body.push_str(text);
        self.body.push_str(SPARE);
        std::mem::take(&mut self.body)
    }

    pub(crate) fn put_body(&mut self, body: String) {
        self.body = body;
    }

    /// The number of an object that begins.
    pub(crate) fn begin_object(&mut self) -> u32 {
        self.objects = self.objects.wrapping_add(1);
        self.objects
    }

    /// The name that came next the last time: behind another, or first under it.
    #[inline]
    pub(crate) fn guess(&self, name: u32, under: bool) -> u32 {
        let guesses = self.guesses.get(name as usize);
        guesses.map_or(ROOT, |(first, next)| if under { *first } else { *next })
    }

    pub(crate) fn guess_from_now_on(&mut self, name: u32, under: bool, guess: u32) {
        if let Some((first, next)) = self.guesses.get_mut(name as usize) {
            *(if under { first } else { next }) = guess;
        }
    }

    /// Whether a name is new in an object.
    #[inline]
    pub(crate) fn is_new(&mut self, object: u32, name: u32) -> bool {
        match self.seen.get_mut(name as usize) {
            Some(seen) => std::mem::replace(seen, object) != object,
            None => true,
        }
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
                self.arrive(name, Bit::Text(text), false);
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
            Value::Bool(truth) => self.arrive(name, Bit::Bool(*truth), spread),
            Value::Number(number) => {
                let bit = Number::of(number).map_or(Bit::None, Bit::Number);
                self.arrive(name, bit, spread);
            }
            Value::String(text) => self.arrive(name, Bit::Text(text), spread),
            Value::Object(map) => {
                self.arrive(name, Bit::Whole, spread);
                if !name.under.is_empty() {
                    for (field, value) in map {
                        if let Some(under) = name.under.get(field) {
                            self.walk(picture, under, value, spread);
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
                    self.values(name, whole);
                }
                for item in items.iter().filter(|item| !item.is_null()) {
                    if !name.elements.is_empty() {
                        self.elements(name, bit_of(item));
                    }
                    if name.under.is_empty() {
                        continue;
                    }
                    let before = self.counts(name);
                    if let Value::Object(map) = item {
                        for (field, value) in map {
                            if let Some(under) = name.under.get(field) {
                                self.walk(picture, under, value, true);
                            }
                        }
                    }
                    self.fill_in(name, &before);
                }
            }
        }
    }

    /// How many values there are of what stands below a name.
    pub(crate) fn counts(&self, name: &Name) -> Vec<u32> {
        name.below.iter().map(|below| self.count(*below)).collect()
    }

    /// An element without a value has None.
    pub(crate) fn fill_in(&mut self, name: &Name, before: &[u32]) {
        for (attribute, before) in name.below.iter().zip(before) {
            if self.count(*attribute) == *before {
                self.add(*attribute, Reading::Plain, Bit::None);
            }
        }
    }

    /// What is no list, at the end of paths and on their way.
    pub(crate) fn arrive(&mut self, name: &Name, bit: Bit<'_>, spread: bool) {
        self.values(name, bit);
        if spread {
            self.elements(name, bit);
        }
    }

    pub(crate) fn values(&mut self, name: &Name, bit: Bit<'_>) {
        for &(attribute, reading) in &name.values {
            self.add(attribute, reading, bit);
        }
    }

    pub(crate) fn elements(&mut self, name: &Name, bit: Bit<'_>) {
        for &(attribute, reading) in &name.elements {
            self.add(attribute, reading, bit);
        }
    }

    /// A value of an attribute.
    #[inline]
    pub(crate) fn add(&mut self, attribute: Attribute, reading: Reading, bit: Bit<'_>) {
        match (bit, reading) {
            // As most are.
            #[allow(clippy::cast_possible_truncation)] // a message is smaller
            (Bit::Read(text), Reading::Plain) => self.keep(Found {
                hash: hashed::of(attribute, hashed::IS, text.hash),
                form: Seen::Text,
                text: (text.from as u32, text.to as u32),
                ..Found::new(attribute)
            }),
            (Bit::Exact(number), Reading::Plain | Reading::Folded | Reading::Address) => {
                self.keep(Found {
                    hash: hashed::of(attribute, hashed::IS, hashed::number(number.to_bits())),
                    form: Seen::Number,
                    number,
                    ..Found::new(attribute)
                });
            }
            _ => self.add_any(attribute, reading, bit),
        }
    }

    fn add_any(&mut self, attribute: Attribute, reading: Reading, bit: Bit<'_>) {
        let mut found = Found::new(attribute);
        match bit {
            Bit::Whole => {}
            Bit::None => {
                found.form = Seen::None;
                found.hash = hashed::literal(attribute, &Literal::None);
            }
            Bit::Bool(truth) => {
                found.form = Seen::Bool(truth);
                found.hash = hashed::literal(attribute, &Literal::Bool(truth));
            }
            Bit::Exact(number) => {
                found.form = Seen::Stray;
                found.number = number;
            }
            Bit::Number(number) => {
                let literal = Literal::number_of(number);
                found.form = match &literal {
                    Literal::Large(int) => {
                        found.text = self.keep_text(&int.to_string());
                        Seen::Large
                    }
                    _ => Seen::Number,
                };
                found.number = literal.number().unwrap_or(f64::NAN);
                match reading {
                    Reading::Instant => found.form = Seen::Stray,
                    _ => found.hash = hashed::literal(attribute, &literal),
                }
            }
            Bit::Text(text) => {
                found.text = self.keep_text(text);
                self.text(attribute, reading, text, &mut found);
            }
            Bit::Read(Stretch { body, from, to, .. }) => {
                #[allow(clippy::cast_possible_truncation)] // a message is smaller
                {
                    found.text = (from as u32, to as u32);
                }
                let text = body.get(from..to).unwrap_or_default();
                self.text(attribute, reading, text, &mut found);
            }
        }
        self.keep(found);
    }

    fn keep_text(&mut self, text: &str) -> (u32, u32) {
        let start = self.texts.len();
        self.texts.push_str(text);
        #[allow(clippy::cast_possible_truncation)] // a message is smaller
        {
            (start as u32 | APART, self.texts.len() as u32)
        }
    }

    fn text(&mut self, attribute: Attribute, reading: Reading, text: &str, found: &mut Found) {
        found.form = Seen::Text;
        match reading {
            Reading::Plain => found.hash = hashed::text(attribute, text),
            Reading::Folded => {
                let folded = text.to_ascii_lowercase();
                found.text = self.keep_text(&folded);
                found.hash = hashed::text(attribute, &folded);
            }
            Reading::Instant => {
                if let Some(moment) = instant(text) {
                    let literal = Literal::int(moment.micros().into());
                    found.form = Seen::Instant;
                    found.number = literal.number().unwrap_or(f64::NAN);
                    found.hash = hashed::literal(attribute, &literal);
                }
            }
            Reading::Address => {
                if let Some(address) = Address::parse(text) {
                    found.form = Seen::Address;
                    found.hash = hashed::literal(attribute, &Literal::Address(Box::new(address)));
                }
            }
        }
    }

    fn keep(&mut self, found: Found) {
        #[allow(clippy::cast_possible_truncation)] // a message is smaller
        let place = self.found.len() as u32;
        let Some(slot) = self.slots.get_mut(usize::from(found.attribute)) else {
            return;
        };
        let key = self.keys.get_mut(usize::from(found.attribute));
        if slot.turn == self.turn {
            if let Some(key) = key {
                *key = SEVERAL;
            }
            slot.count += 1;
            slot.number = f64::NAN;
            let last = std::mem::replace(&mut slot.last, place);
            if let Some(last) = self.found.get_mut(last as usize) {
                last.next = place;
            }
        } else {
            if let Some(key) = key {
                *key = NO_KEY;
            }
            *slot = Slot {
                turn: self.turn,
                first: place,
                last: place,
                count: 1,
                number: match found.form {
                    Seen::Number | Seen::Instant => found.number,
                    _ => f64::NAN,
                },
            };
            self.present.push(found.attribute);
        }
        self.found.push(found);
    }

    /// Whether a value is what a key has.
    #[inline]
    pub(crate) fn equals(&self, found: &Found, wanted: &Literal) -> bool {
        match (found.form, wanted) {
            (Seen::None, Literal::None) => true,
            (Seen::Bool(truth), Literal::Bool(wanted)) => truth == *wanted,
            (Seen::Number | Seen::Instant, Literal::Number(bits)) => {
                found.number.to_bits() == *bits
            }
            (Seen::Text, Literal::Short(wanted)) => self.bytes_of(found) == wanted.bytes(),
            (Seen::Text, Literal::Text(wanted)) => self.bytes_of(found) == wanted.as_bytes(),
            (Seen::Large, Literal::Large(wanted)) => self
                .text_of(found)
                .parse()
                .is_ok_and(|int: i128| int == **wanted),
            (Seen::Instant, Literal::Large(wanted)) => instant(self.text_of(found))
                .is_some_and(|moment| i128::from(moment.micros()) == **wanted),
            (Seen::Address, Literal::Address(wanted)) => {
                Address::parse(self.text_of(found)).as_ref() == Some(&**wanted)
            }
            _ => false,
        }
    }

    /// All values, in the order in which they were found.
    #[inline]
    pub(crate) fn all_found(&self) -> &[Found] {
        &self.found
    }

    /// Gives a value its key. Whether no value of its attribute had it before.
    #[inline]
    pub(crate) fn name(&mut self, place: usize, key: KeyId) -> bool {
        let Some(found) = self.found.get_mut(place) else {
            return false;
        };
        found.key = key;
        let Some(slot) = self.slots.get(usize::from(found.attribute)) else {
            return false;
        };
        if slot.count == 1 {
            if let Some(known) = self.keys.get_mut(usize::from(found.attribute)) {
                *known = key;
            }
            return true;
        }
        if key == NO_KEY {
            return false;
        }
        if slot.count > FEW {
            self.repeats = true;
            return true;
        }
        let mut before = slot.first as usize;
        while before < place
            && let Some(known) = self.found.get(before)
        {
            if known.key == key {
                // It counts once.
                if let Some(found) = self.found.get_mut(place) {
                    found.key = NO_KEY;
                }
                return false;
            }
            before = known.next as usize;
        }
        true
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

    /// The value of an attribute that has one alone, a number.
    #[inline]
    pub(crate) fn single_number(&self, attribute: Attribute) -> Option<f64> {
        let slot = self.slot(attribute)?;
        (!slot.number.is_nan()).then_some(slot.number)
    }

    /// The values of an attribute.
    #[inline]
    pub(crate) fn found(&self, attribute: Attribute) -> Values<'_> {
        Values {
            all: &self.found,
            next: self.slot(attribute).map_or(NOTHING, |slot| slot.first),
        }
    }

    pub(crate) fn text_of(&self, found: &Found) -> &str {
        let (texts, from, to) = self.place_of(found);
        texts.get(from..to).unwrap_or_default()
    }

    #[inline]
    fn bytes_of(&self, found: &Found) -> &[u8] {
        let (texts, from, to) = self.place_of(found);
        texts.as_bytes().get(from..to).unwrap_or_default()
    }

    #[inline]
    fn place_of(&self, found: &Found) -> (&str, usize, usize) {
        let (from, to) = found.text;
        let texts = if from & APART == 0 {
            &self.body
        } else {
            &self.texts
        };
        (texts, (from & !APART) as usize, to as usize)
    }
}

impl Found {
    #[inline]
    fn new(attribute: Attribute) -> Found {
        Found {
            key: NO_KEY,
            hash: 0,
            attribute,
            next: NOTHING,
            form: Seen::Whole,
            number: f64::NAN,
            text: (0, 0),
        }
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
    pub fn keys(&self, attribute: Attribute) -> impl Iterator<Item = KeyId> {
        let none = match self.event.slot(attribute) {
            Some(_) => NO_KEY,
            None => self.picture.none_of(attribute),
        };
        let keys = self.event.found(attribute).map(|found| found.key);
        keys.chain([none]).filter(|key| *key != NO_KEY)
    }

    /// The key of an attribute's value, or of None; [`SEVERAL`] where there are more.
    #[inline]
    fn key(&self, attribute: Attribute) -> KeyId {
        let key = self.event.keys.get(usize::from(attribute));
        key.copied().unwrap_or(NO_KEY)
    }

    #[inline(never)]
    fn between_any(&self, attribute: Attribute, first: f64, last: f64) -> Tested {
        let mut unknown = false;
        for found in self.event.found(attribute) {
            match found.form {
                Seen::Number | Seen::Instant if found.number >= first && found.number <= last => {
                    return Tested::True;
                }
                Seen::Instant if found.number.is_nan() => unknown = true,
                Seen::Large => unknown = true,
                _ => {}
            }
        }
        if unknown {
            Tested::Unknown
        } else {
            Tested::False
        }
    }
}

impl Answers for Asking<'_> {
    #[inline]
    fn equals(&mut self, attribute: Attribute, key: KeyId) -> bool {
        match self.key(attribute) {
            SEVERAL => self.event.found(attribute).any(|found| found.key == key),
            known => known == key,
        }
    }

    #[inline]
    fn among(&mut self, attribute: Attribute, keys: &[KeyId]) -> bool {
        let is_it = |known: KeyId| known != NO_KEY && keys.contains(&known);
        match self.key(attribute) {
            SEVERAL => self.event.found(attribute).any(|found| is_it(found.key)),
            known => is_it(known),
        }
    }

    #[inline]
    fn between(&mut self, attribute: Attribute, first: f64, last: f64) -> Tested {
        let Some(slot) = self.event.slot(attribute) else {
            return Tested::False;
        };
        if slot.number.is_nan() {
            return self.between_any(attribute, first, last);
        }
        Tested::of(slot.number >= first && slot.number <= last)
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
                Seen::Stray if !found.number.is_nan() => {
                    Scalar::Number(Number::Float(found.number))
                }
                Seen::Large | Seen::Stray => {
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
