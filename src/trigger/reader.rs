//! From bytes of JSON to an event, in one pass: what no predicate asks about is passed over, and no tree is built.

use std::borrow::Cow;

use serde_json::Value;

use super::attributes::{Name, ROOT, start_of};
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

/// Where a string stands, its quotes not with it.
#[derive(Clone, Copy)]
struct Written {
    from: usize,
    to: usize,
    /// There are backslashes in it.
    escaped: bool,
}

/// As deep as `serde_json` goes.
const DEEPEST: usize = 128;

impl Event {
    /// Fills it from the bytes of a JSON object. What is passed over is not looked at closely.
    pub fn read(&mut self, picture: &Picture, body: &[u8]) -> Result<(), NotJson> {
        self.clear(picture);
        let text = std::str::from_utf8(body).map_err(|_| NotJson)?;
        let root = picture.attributes.name(ROOT).ok_or(NotJson)?;
        self.keep_all(text);
        let mut reader = Reader {
            text,
            bytes: body,
            at: 0,
            picture,
            event: self,
        };
        match reader.whole(root) {
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

impl<'e, 't> Reader<'e, 't> {
    fn whole(&mut self, root: &Name) -> Result<(), Stop> {
        match self.next()? {
            b'{' => self.object(root, false, 0)?,
            _ => return Err(Stop::NotJson),
        }
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(Stop::NotJson),
        }
    }

    /// The next byte that is no space.
    #[inline]
    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Stop::NotJson),
            }
        }
    }

    /// Behind `{`. The fields that are asked about are read, and the others passed over.
    fn object(&mut self, name: &Name, spread: bool, depth: usize) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::NotJson);
        }
        let object = self.event.begin_object();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        let mut last = (name.place, true);
        loop {
            if self.next()? != b'"' {
                return Err(Stop::NotJson);
            }
            match self.field(name, last)? {
                None => self.pass()?,
                Some(under) => {
                    last = (under.place, false);
                    if !self.event.is_new(object, under.place) {
                        return Err(Stop::Twice);
                    }
                    self.value(under, spread, depth + 1)?;
                }
            }
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(Stop::NotJson),
            }
        }
    }

    /// Behind the quote that begins the name of a field: the name, where somebody asks about it. As a rule the fields
    /// come in the order in which they came in the last event.
    #[inline]
    fn field(&mut self, name: &Name, last: (u32, bool)) -> Result<Option<&'e Name>, Stop> {
        let attributes = &self.picture.attributes;
        let guess = self.event.guess(last.0, last.1);
        if let Some(guessed) = guess.as_ref().and_then(|guess| attributes.name(**guess))
            && let Some(rest) = self.bytes.get(self.at..)
            && !guessed.written.is_empty()
            && rest.starts_with(&guessed.written)
        {
            self.at += guessed.written.len();
            return Ok(Some(guessed));
        }
        let field = self.string()?;
        if self.next()? != b':' {
            return Err(Stop::NotJson);
        }
        let Some(under) = self.under(name, field)? else {
            return Ok(None);
        };
        if let Some(guess) = self.event.guess(last.0, last.1) {
            *guess = under;
        }
        Ok(attributes.name(under))
    }

    /// The place of a field's name, where somebody asks about it.
    #[inline]
    fn under(&self, name: &Name, field: Written) -> Result<Option<u32>, Stop> {
        if field.escaped {
            return Ok(name.under.get(&self.text_of(field)?));
        }
        let length = field.to - field.from;
        let bytes = self.bytes.get(field.from..field.to).ok_or(Stop::NotJson)?;
        // Eight bytes are read together, even where some of them stand behind the name.
        let start = match self.bytes.get(field.from..field.from + 8) {
            Some(eight) if length < 8 => start_of(eight) & !(u64::MAX << (8 * length)),
            _ => start_of(bytes),
        };
        Ok(name.under.find(start, bytes))
    }

    #[inline]
    fn value(&mut self, name: &Name, spread: bool, depth: usize) -> Result<(), Stop> {
        match self.next()? {
            b'"' => {
                let written = self.string()?;
                self.read_text(written, |event, bit| event.arrive(name, bit, spread))?;
            }
            b'{' => {
                self.event.arrive(name, Bit::Whole, spread);
                self.object(name, spread, depth)?;
            }
            b'[' => self.array(name, depth)?,
            first => {
                let bit = self.plain(first)?;
                // What is null is as if it were not there.
                if !matches!(bit, Bit::None) {
                    self.event.arrive(name, bit, spread);
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
        self.event.values(name, whole);
        Ok(())
    }

    /// An element of a list; whether it is one, and not null.
    fn element(&mut self, name: &Name, depth: usize) -> Result<bool, Stop> {
        let before = match name.under.is_empty() {
            true => Vec::new(),
            false => self.event.counts(name),
        };
        let bit = match self.next()? {
            b'"' => {
                let written = self.string()?;
                self.read_text(written, |event, bit| event.elements(name, bit))?;
                if !name.under.is_empty() {
                    self.event.fill_in(name, &before);
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
        self.event.elements(name, bit);
        if !name.under.is_empty() {
            self.event.fill_in(name, &before);
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
    #[inline]
    fn plain(&mut self, first: u8) -> Result<Bit<'static>, Stop> {
        let from = self.at - 1;
        if first.is_ascii_digit() && first != b'0' {
            // A number of few digits, as most are.
            const FEW: usize = 15;
            let mut int = i64::from(first - b'0');
            while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
                int = int.wrapping_mul(10) + i64::from(digit - b'0');
                self.at += 1;
            }
            if self.at - from <= FEW && self.bytes.get(self.at).is_some_and(ends) {
                return Ok(Bit::Number(Number::Int(int.into())));
            }
        }
        self.pass_plain();
        let word = self.text.get(from..self.at).ok_or(Stop::NotJson)?;
        match (first, word) {
            (b't', "true") => Ok(Bit::Bool(true)),
            (b'f', "false") => Ok(Bit::Bool(false)),
            (b'n', "null") => Ok(Bit::None),
            (b'-' | b'0'..=b'9', word) => number(word).map(Bit::Number).ok_or(Stop::NotJson),
            _ => Err(Stop::NotJson),
        }
    }

    #[inline]
    fn pass_plain(&mut self) {
        while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }

    /// Behind its opening quote.
    #[inline]
    fn string(&mut self) -> Result<Written, Stop> {
        let from = self.at;
        let to = from + plain_part(self.bytes.get(from..).unwrap_or_default());
        self.at = to + 1;
        match self.bytes.get(to) {
            Some(b'"') => Ok(Written {
                from,
                to,
                escaped: false,
            }),
            Some(b'\\') => {
                self.at = to;
                self.pass_string()?;
                Ok(Written {
                    from,
                    to: self.at - 1,
                    escaped: true,
                })
            }
            _ => Err(Stop::NotJson),
        }
    }

    /// What a string says.
    fn text_of(&self, written: Written) -> Result<Cow<'t, str>, Stop> {
        let Written { from, to, escaped } = written;
        if !escaped {
            return Ok(Cow::Borrowed(self.text.get(from..to).ok_or(Stop::NotJson)?));
        }
        let quoted = self.text.get(from - 1..to + 1).ok_or(Stop::NotJson)?;
        let text: String = serde_json::from_str(quoted).map_err(|_| Stop::NotJson)?;
        Ok(Cow::Owned(text))
    }

    #[inline]
    fn read_text(
        &mut self,
        written: Written,
        arrive: impl FnOnce(&mut Event, Bit<'_>),
    ) -> Result<(), Stop> {
        if written.escaped {
            arrive(self.event, Bit::Text(&self.text_of(written)?));
        } else {
            let text = self.text.get(written.from..written.to);
            #[allow(clippy::cast_possible_truncation)] // a message is smaller
            let bit = Bit::Kept(text.ok_or(Stop::NotJson)?, written.from as u32);
            arrive(self.event, bit);
        }
        Ok(())
    }

    /// Behind its opening quote, or further on.
    fn pass_string(&mut self) -> Result<(), Stop> {
        loop {
            let rest = self.bytes.get(self.at..).ok_or(Stop::NotJson)?;
            let end = plain_part(rest);
            match rest.get(end) {
                Some(b'"') => {
                    self.at += end + 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += end + 2,
                _ => return Err(Stop::NotJson),
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
                _ => self.pass_plain(),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Whether a byte stands behind a word or a number.
#[inline]
fn ends(byte: &u8) -> bool {
    matches!(
        byte,
        b',' | b':' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'
    )
}

/// How many bytes stand before a quote, a backslash or what may not be in a string; eight are looked at together.
#[inline]
fn plain_part(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    while let Some(eight) = bytes.get(at..at + 8) {
        let Ok(eight) = eight.try_into() else { break };
        let word = u64::from_le_bytes(eight);
        // The high bit of each byte that is one of these, and of no byte before the first that is. With its second bit
        // changed a quote is just above what may not be in a string, and that stays below.
        let turned = word ^ (ONES * 2);
        let quote_or_low = turned.wrapping_sub(ONES * 0x21) & !turned;
        let other = word ^ (ONES * 0x5c);
        let backslash = other.wrapping_sub(ONES) & !other;
        let found = (quote_or_low | backslash) & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
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
