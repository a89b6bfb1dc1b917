//! JSON with places: serde_json gives a place for its errors, none for its values, and takes the last of two equal keys.

use super::places::Places;
use super::{DEPTH_LIMIT, Fault, Key, NUL, Node, Place, Seen, Value, too_deep};

pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader {
        text,
        at: 0,
        places: Places::of(text.as_bytes()),
    };
    reader.skip_space();
    let root = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(root),
        Some(found) => Err(reader.fault(format!(
            "expected the end of the file, found {}",
            named(found)
        ))),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    places: Places<'a>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let found = self.peek()?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn place(&self) -> Place {
        self.places.at(self.at)
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(self.place(), message)
    }

    fn expected(&self, what: &str) -> Fault {
        match self.peek() {
            Some(found) => self.fault(format!("expected {what}, found {}", named(found))),
            None => self.fault(format!("expected {what}, found the end of the file")),
        }
    }

    fn skip_space(&mut self) {
        while let Some(' ' | '\t' | '\n' | '\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        let place = self.place();
        if depth > DEPTH_LIMIT {
            return Err(too_deep(place));
        }
        let value = match self.peek() {
            Some('{') => self.table(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Value::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node::placed(value, place))
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "" => return Err(self.expected("a value")),
            other => {
                let message = format!(
                    "expected a value, found `{}`",
                    super::complaint::short(other)
                );
                return Err(self.fault(message));
            }
        };
        self.at += word.len();
        Ok(value)
    }

    /// The longest run of such characters from here; nothing is taken.
    fn run(&self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.take('[');
        self.skip_space();
        if self.take(']') {
            return Ok(Value::List(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(']') {
                return Ok(Value::List(items));
            }
            if !self.take(',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = Seen::default();
        self.take('{');
        self.skip_space();
        if self.take('}') {
            return Ok(Value::Table(entries));
        }
        loop {
            self.skip_space();
            if self.peek() != Some('"') {
                return Err(self.expected("a name in double quotes"));
            }
            let place = Some(self.place());
            let name = self.string()?;
            let key = Key { name, place };
            seen.check(&key, &entries)?;
            self.skip_space();
            if !self.take(':') {
                return Err(self.expected("`:`"));
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            entries.push((key, value));
            self.skip_space();
            if self.take('}') {
                return Ok(Value::Table(entries));
            }
            if !self.take(',') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let word = self.run(|c| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let value = match (well_formed(word), word.parse::<i64>(), word.parse::<f64>()) {
            // Of the integers none is `-0`; every reader of JSON takes it for the other zero.
            (true, Ok(int), _) if word != "-0" => Value::Int(int),
            (true, _, Ok(float)) if float.is_finite() => Value::Float(float),
            (true, ..) => return Err(self.fault("this number is too large")),
            (false, ..) => {
                let message = format!("`{}` is not a number", super::complaint::short(word));
                return Err(self.fault(message));
            }
        };
        self.at += word.len();
        Ok(value)
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.place();
        self.take('"');
        let mut text = String::new();
        loop {
            let plain = self.run(|c| c != '"' && c != '\\' && c >= ' ');
            text.push_str(plain);
            self.at += plain.len();
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(control) => {
                    let message = format!("{} in a text; write it as an escape", named(control));
                    return Err(self.fault(message));
                }
                None => return Err(Fault::at(start, "this text has no closing quote")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.place();
        self.take('\\');
        let char = match self.next() {
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => self.unicode(start)?,
            _ => return Err(Fault::at(start, "unknown escape; `\\\\` is a backslash")),
        };
        if char == '\0' {
            return Err(Fault::at(start, NUL));
        }
        Ok(char)
    }

    /// `\u` and four digits; above U+FFFF two of them, a surrogate pair.
    fn unicode(&mut self, start: Place) -> Result<char, Fault> {
        let lone = || Fault::at(start, "half of a surrogate pair");
        let first = self.four_digits(start)?;
        let code = match first {
            0xd800..=0xdbff => {
                if !(self.take('\\') && self.take('u')) {
                    return Err(lone());
                }
                match self.four_digits(start)? {
                    second @ 0xdc00..=0xdfff => {
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => return Err(lone()),
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(lone)
    }

    fn four_digits(&mut self, start: Place) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|c| c.to_digit(16));
            code = code * 16
                + digit.ok_or_else(|| Fault::at(start, "`\\u` needs four hexadecimal digits"))?;
        }
        Ok(code)
    }
}

/// JSON's own grammar of numbers, which is narrower than Rust's.
fn well_formed(word: &str) -> bool {
    let rest = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

fn named(found: char) -> String {
    match found {
        '\n' => "the end of the line".to_string(),
        '\t' => "a tab".to_string(),
        c if c.is_control() => format!("the control character U+{:04X}", u32::from(c)),
        c => format!("`{c}`"),
    }
}
