//! A body as JSON, held against the limits of [`super`], and its objects, whose members are taken out one by one.
//!
//! A section moves its members out, so a body is parsed once and nothing of it is copied. The way to a field is put
//! together only where something is wrong.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{DEEPEST, Flaw, LARGEST, Unreadable};
use crate::moment::Moment;

/// Names with which the JSON library marks values of its own. Read again from the store they would not be what they were.
const PRIVATE: &str = "$serde_json::private::";

/// The object that a body is.
pub(super) fn section(body: &[u8]) -> Result<Section, Unreadable> {
    Section::of("", "the body", parse(body)?)
}

/// A body as JSON.
pub(super) fn parse(body: &[u8]) -> Result<Value, Unreadable> {
    if body.len() > LARGEST {
        let message = format!(
            "the body has {} bytes; at most {LARGEST} are read",
            body.len()
        );
        return Err(Unreadable::new(Flaw::TooLarge, message));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        Unreadable::new(Flaw::NotUtf8, message)
    })?;
    let trouble = Trouble::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = Seed {
        trouble: &trouble,
        depth: 0,
    };
    seed.deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| trouble.tell(&error, text))
}

/// What was met inside a value that the parser's own error cannot carry.
#[derive(Default)]
struct Trouble {
    found: RefCell<Option<(Flaw, String)>>,
    /// The names on the way to it, innermost first.
    way: RefCell<Vec<String>>,
}

impl Trouble {
    fn note<E: Error>(&self, flaw: Flaw, what: impl Into<String>) -> E {
        let what = what.into();
        let error = E::custom(&what);
        *self.found.borrow_mut() = Some((flaw, what));
        error
    }

    fn tell(self, error: &serde_json::Error, text: &str) -> Unreadable {
        let Some((flaw, what)) = self.found.into_inner() else {
            if text.contains('\0') {
                let message = format!("the body holds a NUL byte: {error}");
                return Unreadable::new(Flaw::Nul, message);
            }
            return Unreadable::new(Flaw::NotJson, format!("the body is not JSON: {error}"));
        };
        // Of a value that is nested too deeply the first steps say enough.
        let way = self.way.into_inner();
        let mut path = String::new();
        for name in way.iter().rev().take(8) {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&excerpt(name));
        }
        if way.len() > 8 {
            path.push('…');
        }
        if path.is_empty() {
            path.push_str("the body");
        }
        Unreadable::new(flaw, format!("{path} {what}"))
    }
}

/// Builds a JSON value while it looks at each string and counts the levels. Of members with one name the last wins.
#[derive(Clone, Copy)]
struct Seed<'t> {
    trouble: &'t Trouble,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(self.trouble.note(
                Flaw::TooDeep,
                format!("is nested too deeply; at most {DEEPEST} levels are read"),
            ));
        }
        Ok(Seed {
            trouble: self.trouble,
            depth: self.depth + 1,
        })
    }

    fn text<E: Error>(self, text: &str) -> Result<(), E> {
        if text.as_bytes().contains(&0) {
            return Err(self
                .trouble
                .note(Flaw::Nul, "holds a NUL character, which is not stored"));
        }
        Ok(())
    }

    fn name<E: Error>(self, name: &str) -> Result<(), E> {
        if name.starts_with(PRIVATE) {
            return Err(self
                .trouble
                .note(Flaw::BadValue, "has a member whose name is reserved"));
        }
        self.text(name)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.text(text)?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        self.text(&text)?;
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.name(&name)?;
            match members.next_value_seed(inner) {
                Ok(value) => map.insert(name, value),
                Err(error) => {
                    self.trouble.way.borrow_mut().push(name);
                    return Err(error);
                }
            };
        }
        Ok(Value::Object(map))
    }
}

/// A JSON object and the way to it.
#[derive(Debug)]
pub(super) struct Section {
    way: &'static str,
    members: Map<String, Value>,
}

impl Section {
    /// `way` stands before the names of its members; `name` is what it is called itself.
    pub(super) fn of(way: &'static str, name: &str, value: Value) -> Result<Section, Unreadable> {
        match value {
            Value::Object(members) => Ok(Section { way, members }),
            other => Err(wrong_type(name, &other, "an object")),
        }
    }

    pub(super) fn way_to(&self, name: &str) -> String {
        if self.way.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.way)
        }
    }

    pub(super) fn missing(&self, name: &str) -> Unreadable {
        let message = format!("{} is missing", self.way_to(name));
        Unreadable::new(Flaw::MissingField, message)
    }

    pub(super) fn bad(&self, name: &str, what: impl fmt::Display) -> Unreadable {
        Unreadable::new(Flaw::BadValue, format!("{} {what}", self.way_to(name)))
    }

    fn wrong(&self, name: &str, found: &Value, right: &str) -> Unreadable {
        wrong_type(&self.way_to(name), found, right)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a member as it is; null counts as absent.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a member that must be there; what is null has the wrong type.
    fn required(&mut self, name: &str) -> Result<Value, Unreadable> {
        self.members.remove(name).ok_or_else(|| self.missing(name))
    }

    /// The first member that is none of these.
    pub(super) fn beside(&self, known: &[&str]) -> Option<&str> {
        let mut names = self.members.keys().map(String::as_str);
        names.find(|name| !known.contains(name))
    }

    pub(super) fn rest(self) -> Map<String, Value> {
        self.members
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, Unreadable> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(name, &other, "a string")),
        }
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Unreadable> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, &other, "a string")),
        }
    }

    /// A text that names something: not blank, and at most `longest` bytes, so that it can be part of an index.
    pub(super) fn key(&mut self, name: &str, longest: usize) -> Result<String, Unreadable> {
        let text = self.text(name)?;
        self.bounded(name, &text, longest)?;
        Ok(text)
    }

    pub(super) fn optional_key(
        &mut self,
        name: &str,
        longest: usize,
    ) -> Result<Option<String>, Unreadable> {
        let text = self.optional_text(name)?;
        if let Some(text) = &text {
            self.bounded(name, text, longest)?;
        }
        Ok(text)
    }

    fn bounded(&self, name: &str, text: &str, longest: usize) -> Result<(), Unreadable> {
        bounded(text, longest, || self.way_to(name))
    }

    pub(super) fn section(&mut self, name: &str, way: &'static str) -> Result<Section, Unreadable> {
        let value = self.required(name)?;
        Section::of(way, way, value)
    }

    pub(super) fn optional_section(
        &mut self,
        name: &str,
        way: &'static str,
    ) -> Result<Option<Section>, Unreadable> {
        self.value(name)
            .map(|value| Section::of(way, way, value))
            .transpose()
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, Unreadable> {
        match self.required(name)? {
            Value::Array(values) => Ok(values),
            other => Err(self.wrong(name, &other, "a list")),
        }
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<i64, Unreadable> {
        let value = self.required(name)?;
        self.as_integer(name, &value)
    }

    pub(super) fn optional_integer(&mut self, name: &str) -> Result<Option<i64>, Unreadable> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => self.as_integer(name, &value).map(Some),
        }
    }

    fn as_integer(&self, name: &str, value: &Value) -> Result<i64, Unreadable> {
        whole(value).ok_or_else(|| self.wrong(name, value, "a whole number"))
    }

    pub(super) fn instant(&mut self, name: &str) -> Result<Moment, Unreadable> {
        match self.required(name)? {
            Value::String(text) => self.as_instant(name, &text),
            other => Err(self.wrong(name, &other, "an instant such as \"2026-11-21T09:30:00Z\"")),
        }
    }

    pub(super) fn optional_instant(&mut self, name: &str) -> Result<Option<Moment>, Unreadable> {
        match self.optional_text(name)? {
            None => Ok(None),
            Some(text) => self.as_instant(name, &text).map(Some),
        }
    }

    pub(super) fn as_instant(&self, name: &str, text: &str) -> Result<Moment, Unreadable> {
        instant(text, || self.way_to(name))
    }
}

/// Reads an instant; `way` names the field where it is not one.
pub(super) fn instant(text: &str, way: impl FnOnce() -> String) -> Result<Moment, Unreadable> {
    Moment::parse(text).map_err(|_| {
        let flaw = if Moment::is_beyond(text) {
            "no day or time, or later than 9999-12-30T22:00:00Z"
        } else {
            "not an instant"
        };
        let message = format!(
            "{} is `{}`, which is {flaw}; write it as \"2026-11-21T09:30:00Z\"",
            way(),
            excerpt(text)
        );
        Unreadable::new(Flaw::BadValue, message)
    })
}

/// Refuses a key that is empty, as a file's would be, or that no index would take.
pub(super) fn bounded(
    text: &str,
    longest: usize,
    way: impl FnOnce() -> String,
) -> Result<(), Unreadable> {
    if text.trim().is_empty() {
        let message = format!("{} is empty", way());
        return Err(Unreadable::new(Flaw::BadValue, message));
    }
    if text.len() > longest {
        let message = format!(
            "{} has {} bytes; at most {longest} are taken",
            way(),
            text.len()
        );
        return Err(Unreadable::new(Flaw::TooLong, message));
    }
    Ok(())
}

pub(super) fn wrong_type(way: &str, found: &Value, right: &str) -> Unreadable {
    let message = format!("{way} is {}; it must be {right}", described(found));
    Unreadable::new(Flaw::WrongType, message)
}

/// A whole number, also where it was written as `2.0`.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // Within ±2^53 each whole float is one integer.
        (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
    })
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string `{}`", excerpt(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The start of a text, for what is said about it.
pub(super) fn excerpt(text: &str) -> String {
    let mut letters = text.chars();
    let mut start: String = letters.by_ref().take(60).collect();
    if letters.next().is_some() {
        start.push('…');
    }
    start
}
