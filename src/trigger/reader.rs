//! From bytes of JSON to an event, in one pass: what no predicate asks about is passed over, and no tree is built.

use std::borrow::Cow;

use serde_json::Value;

use super::attributes::{Name, ROOT};
use super::event::{Bit, Event};
use super::picture::Picture;
use crate::query::value::Number;

/// Not a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is no JSON object")]
pub struct NotJson;

/// Why reading stops.
enum Stop {
    NotJson,
    /// A name stands twice in an object, of which the last counts. That is rare, and read in the slow way.
    Twice,
}

/// As deep as `serde_json` goes.
const DEEPEST: usize = 128;

impl Event {
    /// Fills it from the bytes of a JSON object. What is passed over is not looked at closely.
    pub fn read(&mut self, picture: &Picture, body: &[u8]) -> Result<(), NotJson> {
        self.clear(picture);
        let text = std::str::from_utf8(body).map_err(|_| NotJson)?;
        let root = picture.attributes.name(ROOT).ok_or(NotJson)?;
        let mut reader = Reader {
            text,
            bytes: body,
            at: 0,
            picture,
            event: self,
        };
        let read = reader.whole(root);
        match read {
            Ok(()) => Ok(()),
            Err(Stop::NotJson) => Err(NotJson),
            Err(Stop::Twice) => {
                let Ok(Value::Object(map)) = serde_json::from_str(text) else {
                    return Err(NotJson);
                };
                self.clear(picture);
                for (name, value) in &map {
                    self.fill(picture, name, value);
                }
                Ok(())
            }
        }
    }
}

struct Reader<'e, 't> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    picture: &'e Picture,
    event: &'e mut Event,
}

impl<'t> Reader<'_, 't> {
    fn whole(&mut self, root: &Name) -> Result<(), Stop> {
        match self.next()? {
            b'{' => self.object(root, false, 0)?,
            _ => return Err(Stop::NotJson),
        }
        self.space();
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(Stop::NotJson),
        }
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    #[inline]
    fn next(&mut self) -> Result<u8, Stop> {
        self.space();
        let byte = self.bytes.get(self.at).ok_or(Stop::NotJson)?;
        self.at += 1;
        Ok(*byte)
    }

    /// Behind `{`. The fields that are asked about are read, and the others passed over.
    fn object(&mut self, name: &Name, spread: bool, depth: usize) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::NotJson);
        }
        let picture = self.picture;
        let base = self.event.seen.len();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.next()? != b'"' {
                return Err(Stop::NotJson);
            }
            let field = self.string()?;
            if self.next()? != b':' {
                return Err(Stop::NotJson);
            }
            match name.under.get(&*field) {
                None => self.pass()?,
                Some(under) => {
                    let seen = self.event.seen.get(base..).unwrap_or_default();
                    if seen.contains(under) {
                        return Err(Stop::Twice);
                    }
                    self.event.seen.push(*under);
                    match picture.attributes.name(*under) {
                        Some(name) => self.value(name, spread, depth + 1)?,
                        None => self.pass()?,
                    }
                }
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return Err(Stop::NotJson),
            }
        }
        self.event.seen.truncate(base);
        Ok(())
    }

    fn peek(&mut self) -> Result<u8, Stop> {
        self.space();
        self.bytes.get(self.at).copied().ok_or(Stop::NotJson)
    }

    fn value(&mut self, name: &Name, spread: bool, depth: usize) -> Result<(), Stop> {
        let picture = self.picture;
        match self.next()? {
            b'"' => {
                let text = self.string()?;
                self.event.arrive(picture, name, Bit::Text(&text), spread);
            }
            b'{' => {
                self.event.arrive(picture, name, Bit::Whole, spread);
                self.object(name, spread, depth)?;
            }
            b'[' => self.array(name, depth)?,
            first => {
                let bit = self.plain(first)?;
                // What is null is as if it were not there.
                if !matches!(bit, Bit::None) {
                    self.event.arrive(picture, name, bit, spread);
                }
            }
        }
        Ok(())
    }

    /// Behind `[`. Whether it holds anything but null is known at its end.
    fn array(&mut self, name: &Name, depth: usize) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::NotJson);
        }
        let picture = self.picture;
        let mut empty = true;
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                self.event.elements += 1;
                empty &= !self.element(name, depth + 1)?;
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return Err(Stop::NotJson),
                }
            }
        }
        let whole = if empty { Bit::None } else { Bit::Whole };
        self.event.values(picture, name, whole);
        Ok(())
    }

    /// An element of a list; whether it is one, and not null.
    fn element(&mut self, name: &Name, depth: usize) -> Result<bool, Stop> {
        let picture = self.picture;
        let before = match name.under.is_empty() {
            true => Vec::new(),
            false => self.event.counts(name),
        };
        let bit = match self.next()? {
            b'"' => {
                let text = self.string()?;
                self.event.elements(picture, name, Bit::Text(&text));
                if !name.under.is_empty() {
                    self.event.fill_in(picture, name, &before);
                }
                return Ok(true);
            }
            b'{' if name.under.is_empty() => {
                self.at -= 1;
                self.pass()?;
                Bit::Whole
            }
            b'{' => {
                self.object(name, true, depth)?;
                Bit::Whole
            }
            b'[' => {
                self.at -= 1;
                match self.nulls()? {
                    true => Bit::None,
                    false => Bit::Whole,
                }
            }
            first => match self.plain(first)? {
                Bit::None => return Ok(false),
                bit => bit,
            },
        };
        self.event.elements(picture, name, bit);
        if !name.under.is_empty() {
            self.event.fill_in(picture, name, &before);
        }
        Ok(true)
    }

    /// Passes over a list within a list; whether it holds nothing but null.
    fn nulls(&mut self) -> Result<bool, Stop> {
        let from = self.at;
        self.pass()?;
        let list = self.bytes.get(from..self.at).unwrap_or_default();
        let rest = list
            .iter()
            .filter(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b','));
        // `[null,null]`, and no other list is spelt with these letters alone.
        Ok(rest
            .skip(1)
            .all(|byte| matches!(byte, b'n' | b'u' | b'l' | b']'))
            && !list.get(1..).unwrap_or_default().contains(&b'['))
    }

    /// true, false, null or a number.
    fn plain(&mut self, first: u8) -> Result<Bit<'static>, Stop> {
        let from = self.at - 1;
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
        while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
        let word = self.text.get(from..self.at).ok_or(Stop::NotJson)?;
        match (first, word) {
            (b't', "true") => Ok(Bit::Bool(true)),
            (b'f', "false") => Ok(Bit::Bool(false)),
            (b'n', "null") => Ok(Bit::None),
            (b'-' | b'0'..=b'9', word) => number(word).map(Bit::Number).ok_or(Stop::NotJson),
            _ => Err(Stop::NotJson),
        }
    }

    /// Behind its opening quote.
    #[inline]
    fn string(&mut self) -> Result<Cow<'t, str>, Stop> {
        let from = self.at;
        let rest = self.bytes.get(from..).ok_or(Stop::NotJson)?;
        let end = plain_part(rest);
        match rest.get(end) {
            Some(b'"') => {
                self.at = from + end + 1;
                let text = self.text.get(from..from + end).ok_or(Stop::NotJson)?;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => {
                self.at = from;
                self.pass_string()?;
                let written = self.text.get(from - 1..self.at).ok_or(Stop::NotJson)?;
                let text: String = serde_json::from_str(written).map_err(|_| Stop::NotJson)?;
                Ok(Cow::Owned(text))
            }
            _ => Err(Stop::NotJson),
        }
    }

    fn pass_string(&mut self) -> Result<(), Stop> {
        loop {
            let rest = self.bytes.get(self.at..).ok_or(Stop::NotJson)?;
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\'))
                .ok_or(Stop::NotJson)?;
            match rest.get(end) {
                Some(b'"') => {
                    self.at += end + 1;
                    return Ok(());
                }
                _ => self.at += end + 2,
            }
        }
    }

    /// Passes over a value.
    fn pass(&mut self) -> Result<(), Stop> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                b'"' => self.pass_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1).ok_or(Stop::NotJson)?,
                b',' | b':' if depth > 0 => continue,
                b',' | b':' => return Err(Stop::NotJson),
                _ => {
                    let ends = |byte: &u8| {
                        matches!(
                            byte,
                            b',' | b':' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'
                        )
                    };
                    while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// How many bytes stand before a quote, a backslash or what may not be in a string; eight are looked at together.
#[inline]
fn plain_part(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is zero, and of no byte before the first that is.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    while let Some(eight) = bytes.get(at..at + 8) {
        let Ok(eight) = eight.try_into() else { break };
        let word = u64::from_le_bytes(eight);
        let low = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let ends = zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | low;
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
    at + end.unwrap_or(rest.len())
}

fn number(word: &str) -> Option<Number> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && whole;
    if leading_zero || digits.is_empty() {
        return None;
    }
    if whole {
        if let Ok(int) = word.parse::<i64>() {
            return Some(Number::Int(i128::from(int)));
        }
        if let Ok(int) = word.parse::<u64>() {
            return Some(Number::Int(i128::from(int)));
        }
    }
    let float: f64 = word.parse().ok()?;
    float.is_finite().then_some(Number::Float(float))
}
