//! From bytes of JSON to an event, in one pass: what no predicate asks about is passed over, and no tree is built.
//!
//! What is accepted is what `serde_json` accepts as an object. A text is hashed while its end is looked for. Behind the
//! body stand some zeros, which are part of no JSON, so that eight bytes can be read together wherever one is.

use std::borrow::Cow;

use serde_json::Value;

use super::attributes::{Name, ROOT, start_of};
use super::dictionary::hashed;
use super::event::{Bit, Event, Stretch};
use super::literal::EXACT;
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

/// Where a string ends, which began behind its opening quote.
#[derive(Clone, Copy)]
struct Ended {
    /// At its closing quote.
    to: usize,
    /// Of its bytes, if none of them is a backslash.
    hash: Option<u64>,
}

/// A level deeper is not read, as in `serde_json`.
const DEEPEST: usize = 127;

impl Event {
    /// Fills it from the bytes of a JSON object.
    pub fn read(&mut self, picture: &Picture, body: &[u8]) -> Result<(), NotJson> {
        self.clear(picture);
        let text = std::str::from_utf8(body).map_err(|_| NotJson)?;
        let root = picture.attributes.name(ROOT).ok_or(NotJson)?;
        let body = self.take_body(text);
        let mut reader = Reader {
            text: &body,
            bytes: body.as_bytes(),
            picture,
            event: self,
        };
        let read = reader.whole(root, text.len());
        self.put_body(body);
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

/// Each part begins at a place that it is given, and answers with the place behind it.
struct Reader<'e, 't> {
    text: &'t str,
    bytes: &'t [u8],
    picture: &'e Picture,
    event: &'e mut Event,
}

impl<'e, 't> Reader<'e, 't> {
    fn whole(&mut self, root: &Name, length: usize) -> Result<(), Stop> {
        let at = self.space(0);
        if self.byte(at) != b'{' {
            return Err(Stop::NotJson);
        }
        let end = self.object(at + 1, root, false, 1)?;
        match self.space(end) == length {
            true => Ok(()),
            false => Err(Stop::NotJson),
        }
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Eight bytes.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        let eight = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        eight.map_or(0, |eight| u64::from_le_bytes(*eight))
    }

    /// The place of the next byte that is no space.
    #[inline]
    fn space(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// Behind an element or a field: the place of the next, or nothing behind the end.
    #[inline]
    fn next(&self, at: usize, end: u8) -> Result<(usize, bool), Stop> {
        let at = self.space(at);
        match self.byte(at) {
            b',' => Ok((self.space(at + 1), true)),
            byte if byte == end => Ok((at + 1, false)),
            _ => Err(Stop::NotJson),
        }
    }

    /// From behind `{` on. The fields that are asked about are read, and the others passed over.
    fn object(
        &mut self,
        at: usize,
        name: &Name,
        spread: bool,
        depth: usize,
    ) -> Result<usize, Stop> {
        if depth > DEEPEST {
            return Err(Stop::NotJson);
        }
        let object = self.event.begin_object();
        let mut at = self.space(at);
        if self.byte(at) == b'}' {
            return Ok(at + 1);
        }
        let mut last = (name.place, true);
        loop {
            if self.byte(at) != b'"' {
                return Err(Stop::NotJson);
            }
            let (value, field) = self.field(at + 1, name, last)?;
            let value = self.space(value);
            let end = match field {
                None => self.pass(value, depth + 1)?,
                Some(under) => {
                    last = (under.place, false);
                    if !self.event.is_new(object, under.place) {
                        return Err(Stop::Twice);
                    }
                    self.value(value, under, spread, depth + 1)?
                }
            };
            let more;
            (at, more) = self.next(end, b'}')?;
            if !more {
                return Ok(at);
            }
        }
    }

    /// From behind the quote of a field's name on, to behind its colon: the name, where somebody asks about it. As a rule
    /// the fields come in the order in which they came in the last event, now and then with one left out.
    #[inline]
    fn field(
        &mut self,
        at: usize,
        name: &Name,
        last: (u32, bool),
    ) -> Result<(usize, Option<&'e Name>), Stop> {
        let attributes = &self.picture.attributes;
        let first = self.word(at);
        let mut guess = self.event.guess(last.0, last.1);
        for _ in 0..2 {
            if let Some(guessed) = attributes.name(guess)
                && let Some(length) = guessed.written.begins(first, || self.word(at + 8))
            {
                return Ok((at + length, Some(guessed)));
            }
            guess = self.event.guess(guess, false);
        }
        self.other_field(at, name, last)
    }

    #[inline(never)]
    fn other_field(
        &mut self,
        at: usize,
        name: &Name,
        last: (u32, bool),
    ) -> Result<(usize, Option<&'e Name>), Stop> {
        let ended = self.string(at)?;
        let colon = self.space(ended.to + 1);
        if self.byte(colon) != b':' {
            return Err(Stop::NotJson);
        }
        let under = match ended.hash {
            None => name.under.get(&self.text_of(at, ended)?),
            Some(_) => {
                let bytes = self.bytes.get(at..ended.to).ok_or(Stop::NotJson)?;
                let length = bytes.len();
                // Eight bytes are read together, even where some of them stand behind the name.
                let start = match length {
                    0..8 => self.word(at) & !(u64::MAX << (8 * length)),
                    _ => start_of(bytes),
                };
                name.under.find(start, bytes)
            }
        };
        let Some(under) = under else {
            return Ok((colon + 1, None));
        };
        self.event.guess_from_now_on(last.0, last.1, under);
        Ok((colon + 1, self.picture.attributes.name(under)))
    }

    #[inline]
    fn value(&mut self, at: usize, name: &Name, spread: bool, depth: usize) -> Result<usize, Stop> {
        match self.byte(at) {
            b'"' => {
                let ended = self.string(at + 1)?;
                self.text(at + 1, ended, |event, bit| event.arrive(name, bit, spread))?;
                Ok(ended.to + 1)
            }
            b'{' => {
                self.event.arrive(name, Bit::Whole, spread);
                self.object(at + 1, name, spread, depth)
            }
            b'[' => self.array(at + 1, name, depth),
            _ => {
                let (end, bit) = self.plain(at)?;
                // What is null is as if it were not there.
                if !matches!(bit, Bit::None) {
                    self.event.arrive(name, bit, spread);
                }
                Ok(end)
            }
        }
    }

    /// From behind `[` on. Whether it holds anything but null is known at its end.
    fn array(&mut self, at: usize, name: &Name, depth: usize) -> Result<usize, Stop> {
        if depth > DEEPEST {
            return Err(Stop::NotJson);
        }
        let mut empty = true;
        let mut at = self.space(at);
        if self.byte(at) == b']' {
            at += 1;
        } else {
            loop {
                self.event.elements += 1;
                let (end, some) = self.element(at, name, depth + 1)?;
                empty &= !some;
                let more;
                (at, more) = self.next(end, b']')?;
                if !more {
                    break;
                }
            }
        }
        if !name.values.is_empty() {
            let whole = if empty { Bit::None } else { Bit::Whole };
            self.event.values(name, whole);
        }
        Ok(at)
    }

    /// An element of a list; whether it is one, and not null.
    #[inline]
    fn element(&mut self, at: usize, name: &Name, depth: usize) -> Result<(usize, bool), Stop> {
        if !name.under.is_empty() {
            return self.element_with_fields(at, name, depth);
        }
        let (end, bit) = match self.byte(at) {
            b'"' => {
                let ended = self.string(at + 1)?;
                self.text(at + 1, ended, |event, bit| event.elements(name, bit))?;
                return Ok((ended.to + 1, true));
            }
            b'{' => (self.pass(at, depth)?, Bit::Whole),
            b'[' => self.list(at, depth)?,
            _ => match self.plain(at)? {
                (end, Bit::None) => return Ok((end, false)),
                some => some,
            },
        };
        self.event.elements(name, bit);
        Ok((end, true))
    }

    fn element_with_fields(
        &mut self,
        at: usize,
        name: &Name,
        depth: usize,
    ) -> Result<(usize, bool), Stop> {
        let before = self.event.counts(name);
        let end = match self.byte(at) {
            b'"' => {
                let ended = self.string(at + 1)?;
                self.text(at + 1, ended, |event, bit| event.elements(name, bit))?;
                ended.to + 1
            }
            b'{' => {
                let end = self.object(at + 1, name, true, depth)?;
                self.event.elements(name, Bit::Whole);
                end
            }
            other => {
                let (end, bit) = match other {
                    b'[' => self.list(at, depth)?,
                    _ => match self.plain(at)? {
                        (end, Bit::None) => return Ok((end, false)),
                        some => some,
                    },
                };
                self.event.elements(name, bit);
                end
            }
        };
        self.event.fill_in(name, &before);
        Ok((end, true))
    }

    /// Passes over a list within a list, which is None if it holds nothing but null.
    fn list(&mut self, at: usize, depth: usize) -> Result<(usize, Bit<'t>), Stop> {
        let end = self.pass(at, depth)?;
        let list = self.bytes.get(at + 1..end).unwrap_or_default();
        // `null,null]`, and no other list is spelt with these letters alone.
        let nulls = list.iter().all(|byte| {
            matches!(byte, b'n' | b'u' | b'l' | b']')
                || matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',')
        });
        let within = list.iter().filter(|byte| **byte == b']').count() > 1;
        Ok((
            end,
            if nulls && !within {
                Bit::None
            } else {
                Bit::Whole
            },
        ))
    }

    /// true, false, null or a number.
    #[inline]
    fn plain(&self, at: usize) -> Result<(usize, Bit<'t>), Stop> {
        let word = self.word(at);
        match self.byte(at) {
            b'1'..=b'9' => {
                // A number of few digits, as most are.
                let mut end = at;
                let mut int = 0_u64;
                while let digit @ b'0'..=b'9' = self.byte(end) {
                    int = int.wrapping_mul(10).wrapping_add((digit - b'0').into());
                    end += 1;
                }
                #[allow(clippy::cast_precision_loss)] // none is lost up to there
                if end - at < 16 && int <= EXACT && !matches!(self.byte(end), b'.' | b'e' | b'E') {
                    return Ok((end, Bit::Exact(int as f64)));
                }
                self.number(at)
            }
            b't' if word & (u64::MAX >> 32) == start_of(b"true") => Ok((at + 4, Bit::Bool(true))),
            b'f' if word & (u64::MAX >> 24) == start_of(b"false") => Ok((at + 5, Bit::Bool(false))),
            b'n' if word & (u64::MAX >> 32) == start_of(b"null") => Ok((at + 4, Bit::None)),
            b'-' | b'0' => self.number(at),
            _ => Err(Stop::NotJson),
        }
    }

    #[inline(never)]
    fn number(&self, from: usize) -> Result<(usize, Bit<'t>), Stop> {
        let digits = |mut at: usize| match self.byte(at) {
            b'0'..=b'9' => {
                while self.byte(at).is_ascii_digit() {
                    at += 1;
                }
                Ok(at)
            }
            _ => Err(Stop::NotJson),
        };
        let first = from + usize::from(self.byte(from) == b'-');
        let mut end = match self.byte(first) {
            b'0' => first + 1,
            _ => digits(first)?,
        };
        let whole = end;
        if self.byte(end) == b'.' {
            end = digits(end + 1)?;
        }
        if matches!(self.byte(end), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(end + 1), b'+' | b'-'));
            end = digits(end + 1 + sign)?;
        }
        let word = self.text.get(from..end).ok_or(Stop::NotJson)?;
        if end == whole {
            if let Ok(int) = word.parse::<i64>() {
                return Ok((end, Bit::Number(Number::Int(int.into()))));
            }
            if let Ok(int) = word.parse::<u64>() {
                return Ok((end, Bit::Number(Number::Int(int.into()))));
            }
        }
        match word.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok((end, Bit::Number(Number::Float(float)))),
            _ => Err(Stop::NotJson),
        }
    }

    /// From behind its opening quote on.
    #[inline]
    fn string(&self, from: usize) -> Result<Ended, Stop> {
        let mut at = from;
        let mut hash = hashed::NO_BYTES;
        loop {
            let word = self.word(at);
            let found = special(word);
            if found != 0 {
                let bits = found.trailing_zeros() & !7;
                let to = at + bits as usize / 8;
                #[allow(clippy::cast_possible_truncation)] // one byte of them
                return match (word >> bits) as u8 {
                    b'"' => {
                        let rest = word & !(u64::MAX << bits);
                        Ok(Ended {
                            to,
                            hash: Some(hashed::end(hash, rest, to - from)),
                        })
                    }
                    b'\\' => self.escaped(from, to),
                    _ => Err(Stop::NotJson),
                };
            }
            hash = hashed::more(hash, word);
            at += 8;
        }
    }

    /// The end of a string in which there is a backslash.
    #[inline(never)]
    fn escaped(&self, from: usize, mut at: usize) -> Result<Ended, Stop> {
        loop {
            match self.byte(at) {
                b'"' => break,
                b'\\' => at += 2,
                ..0x20 => return Err(Stop::NotJson),
                _ => at += 1,
            }
        }
        let ended = Ended { to: at, hash: None };
        self.text_of(from, ended).map(|_| ended)
    }

    /// What a string says.
    fn text_of(&self, from: usize, ended: Ended) -> Result<Cow<'t, str>, Stop> {
        if ended.hash.is_some() {
            let text = self.text.get(from..ended.to).ok_or(Stop::NotJson)?;
            return Ok(Cow::Borrowed(text));
        }
        let quoted = self.text.get(from - 1..=ended.to).ok_or(Stop::NotJson)?;
        let text: String = serde_json::from_str(quoted).map_err(|_| Stop::NotJson)?;
        Ok(Cow::Owned(text))
    }

    #[inline]
    fn text(
        &mut self,
        from: usize,
        ended: Ended,
        arrive: impl FnOnce(&mut Event, Bit<'_>),
    ) -> Result<(), Stop> {
        match ended.hash {
            Some(hash) => arrive(
                self.event,
                Bit::Read(Stretch {
                    body: self.text,
                    from,
                    to: ended.to,
                    hash,
                }),
            ),
            None => arrive(self.event, Bit::Text(&self.text_of(from, ended)?)),
        }
        Ok(())
    }

    /// Passes over a value.
    fn pass(&self, at: usize, depth: usize) -> Result<usize, Stop> {
        let list = match self.byte(at) {
            b'"' => return Ok(self.string(at + 1)?.to + 1),
            b'{' => false,
            b'[' => true,
            _ => return Ok(self.plain(at)?.0),
        };
        if depth > DEEPEST {
            return Err(Stop::NotJson);
        }
        let close = if list { b']' } else { b'}' };
        let mut at = self.space(at + 1);
        if self.byte(at) == close {
            return Ok(at + 1);
        }
        loop {
            if !list {
                if self.byte(at) != b'"' {
                    return Err(Stop::NotJson);
                }
                at = self.space(self.string(at + 1)?.to + 1);
                if self.byte(at) != b':' {
                    return Err(Stop::NotJson);
                }
                at = self.space(at + 1);
            }
            let more;
            (at, more) = self.next(self.pass(at, depth + 1)?, close)?;
            if !more {
                return Ok(at);
            }
        }
    }
}

/// The high bit of each byte that is a quote, a backslash or what may not be in a string, and of no byte before the first
/// that is.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // With its second bit changed a quote is just above what may not be in a string, and that stays below.
    let turned = word ^ (ONES * 2);
    let quote_or_low = turned.wrapping_sub(ONES * 0x21) & !turned;
    let other = word ^ (ONES * 0x5c);
    let backslash = other.wrapping_sub(ONES) & !other;
    (quote_or_low | backslash) & HIGH
}
