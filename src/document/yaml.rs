//! YAML by the events of `saphyr-parser`, which itself keeps its state in lists and not on the stack.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{
    DEPTH_LIMIT, Fault, Key, NODE_LIMIT, NUL, Node, Place, Seen, Value, too_deep, too_many,
};

/// How many bytes of text aliases may copy. Enough for every honest file; a text of a megabyte repeated a million
/// times is not one.
const COPY_LIMIT: usize = 16 << 20;

const START: Place = Place { line: 1, column: 1 };

pub(super) fn read(text: &str) -> Result<Vec<Node>, Fault> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| Fault::at(place(*error.marker()), error.info().replace('\n', ", ")))?;
        builder.event(event, place(span.start))?;
    }
    Ok(builder.roots)
}

fn place(mark: Marker) -> Place {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: count(mark.line().max(1)),
        column: count(mark.col().saturating_add(1)),
    }
}

/// A value that an alias may repeat, with what repeating it costs.
struct Anchored {
    node: Node,
    nodes: usize,
    bytes: usize,
    height: usize,
}

/// A list or a table that is not closed yet.
struct Open {
    anchor: usize,
    place: Place,
    kind: Kind,
    /// What it holds so far, for [`Anchored`].
    nodes: usize,
    bytes: usize,
    height: usize,
}

enum Kind {
    List(Vec<Node>),
    Table {
        entries: Vec<(Key, Node)>,
        seen: Seen,
        key: Option<Key>,
    },
}

#[derive(Default)]
struct Builder {
    roots: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    copied: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), place)
            }
            Event::SequenceStart(anchor, tag) => {
                tag_of(tag.as_deref(), "seq", place)?;
                self.start(anchor, place, Kind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                tag_of(tag.as_deref(), "map", place)?;
                let kind = Kind::Table {
                    entries: Vec::new(),
                    seen: Seen::default(),
                    key: None,
                };
                self.start(anchor, place, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentEnd => {
                // An anchor reaches to the end of its document.
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {
                Ok(())
            }
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
    ) -> Result<(), Fault> {
        if text.contains('\0') {
            return Err(Fault::at(place, NUL));
        }
        let plain = style == ScalarStyle::Plain;
        if self.wants_key() {
            return self.key(text, plain, place);
        }
        let value = match tag_name(tag) {
            None if plain => resolve(text, place)?,
            None | Some("str") => Value::Text(text.to_string()),
            Some(name @ ("null" | "bool" | "int" | "float")) => typed(name, text, place)?,
            Some(_) => return Err(unknown_tag(tag, place)),
        };
        let bytes = text.len();
        self.put(anchor, Node::placed(value, place), (1, bytes, 0))
    }

    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                kind: Kind::Table { key: None, .. },
                ..
            })
        )
    }

    /// A key is the text as it was written: `1: x` names the entry `1`.
    fn key(&mut self, text: &str, plain: bool, place: Place) -> Result<(), Fault> {
        if plain && matches!(text, "" | "~" | "null") {
            return Err(Fault::at(place, "an entry needs a name"));
        }
        if plain && text == "<<" {
            return Err(Fault::at(
                place,
                "merge keys (`<<`) are not read; write the entries out",
            ));
        }
        if let Some(Open {
            kind: Kind::Table { entries, seen, key },
            ..
        }) = self.open.last_mut()
        {
            let new = Key {
                name: text.to_string(),
                place: Some(place),
            };
            seen.check(&new, entries)?;
            *key = Some(new);
        }
        Ok(())
    }

    fn start(&mut self, anchor: usize, place: Place, kind: Kind) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(Fault::at(place, "the name of an entry must be a text"));
        }
        if self.open.len() >= DEPTH_LIMIT {
            return Err(too_deep(place));
        }
        self.open.push(Open {
            anchor,
            place,
            kind,
            nodes: 1,
            bytes: 0,
            height: 0,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.kind {
            Kind::List(items) => Value::List(items),
            Kind::Table { entries, .. } => Value::Table(entries),
        };
        let size = (open.nodes, open.bytes, open.height);
        self.put(open.anchor, Node::placed(value, open.place), size)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(Fault::at(place, "the name of an entry must be a text"));
        }
        let Some(found) = self.anchors.get(&anchor) else {
            return Err(Fault::at(
                place,
                "this alias stands for no value that is complete here",
            ));
        };
        self.copied = self.copied.saturating_add(found.bytes);
        if self.nodes.saturating_add(found.nodes) > NODE_LIMIT || self.copied > COPY_LIMIT {
            return Err(Fault::at(place, "aliases repeat too much"));
        }
        if self.open.len() + found.height > DEPTH_LIMIT {
            return Err(too_deep(place));
        }
        // Everything but the value itself is counted here; `put` counts that one.
        self.nodes += found.nodes.saturating_sub(1);
        let size = (found.nodes, found.bytes, found.height);
        let node = found.node.clone();
        self.put(0, node, size)
    }

    /// Puts a finished value where it belongs. `size` is its nodes, bytes of text, and levels below it.
    fn put(
        &mut self,
        anchor: usize,
        node: Node,
        (nodes, bytes, height): (usize, usize, usize),
    ) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > NODE_LIMIT {
            return Err(too_many(node.place.unwrap_or(START)));
        }
        if anchor != 0 {
            // Keeping a copy costs as much as an alias would.
            self.nodes += nodes;
            self.copied = self.copied.saturating_add(bytes);
            if self.copied > COPY_LIMIT {
                return Err(Fault::at(
                    node.place.unwrap_or(START),
                    "anchors keep too much",
                ));
            }
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    nodes,
                    bytes,
                    height,
                },
            );
        }
        let Some(open) = self.open.last_mut() else {
            self.roots.push(node);
            return Ok(());
        };
        open.nodes += nodes;
        open.bytes += bytes;
        open.height = open.height.max(height + 1);
        match &mut open.kind {
            Kind::List(items) => items.push(node),
            Kind::Table { entries, key, .. } => {
                if let Some(key) = key.take() {
                    open.bytes += key.name.len();
                    entries.push((key, node));
                }
            }
        }
        Ok(())
    }
}

/// The name of a tag of the core schema; `!` alone means text, every other tag is none that we know.
fn tag_name(tag: Option<&Tag>) -> Option<&str> {
    let tag = tag?;
    if tag.is_yaml_core_schema() {
        Some(&tag.suffix)
    } else if (tag.handle.as_str(), tag.suffix.as_str()) == ("", "!") {
        Some("str")
    } else {
        Some("")
    }
}

fn tag_of(tag: Option<&Tag>, wanted: &str, place: Place) -> Result<(), Fault> {
    match tag_name(tag) {
        None => Ok(()),
        Some(name) if name == wanted => Ok(()),
        Some(_) => Err(unknown_tag(tag, place)),
    }
}

fn unknown_tag(tag: Option<&Tag>, place: Place) -> Fault {
    let shown = tag.map(Tag::to_string).unwrap_or_default();
    let shown = super::complaint::short(&shown);
    Fault::at(place, format!("the tag `{shown}` is not known here"))
}

fn typed(name: &str, text: &str, place: Place) -> Result<Value, Fault> {
    let value = resolve(text, place)?;
    match (name, value) {
        ("null", value @ Value::Null)
        | ("bool", value @ Value::Bool(_))
        | ("int", value @ Value::Int(_))
        | ("float", value @ Value::Float(_)) => Ok(value),
        ("float", Value::Int(number)) => Ok(Value::Float(number as f64)),
        _ => {
            let shown = super::complaint::short(text);
            Err(Fault::at(place, format!("`{shown}` is no `!!{name}`")))
        }
    }
}

/// What a word without quotes stands for in the core schema of YAML 1.2.
fn resolve(text: &str, place: Place) -> Result<Value, Fault> {
    let too_large = || Fault::at(place, "this number is too large; quote it if it is a text");
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).map_err(|_| too_large());
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_infinite(text) => {
            return Err(Fault::at(
                place,
                "a number must be finite; quote it if it is a text",
            ));
        }
        _ if is_digits(text.strip_prefix("0o"), |b| matches!(b, b'0'..=b'7')) => {
            Value::Int(radix(text.trim_start_matches("0o"), 8)?)
        }
        _ if is_digits(text.strip_prefix("0x"), |b| b.is_ascii_hexdigit()) => {
            Value::Int(radix(text.trim_start_matches("0x"), 16)?)
        }
        _ if is_number(text) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(int), _) => Value::Int(int),
            (_, Ok(float)) if float.is_finite() => Value::Float(float),
            _ => return Err(too_large()),
        },
        _ => Value::Text(text.to_string()),
    })
}

fn is_digits(part: Option<&str>, digit: impl Fn(&u8) -> bool) -> bool {
    part.is_some_and(|part| !part.is_empty() && part.as_bytes().iter().all(digit))
}

fn is_infinite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_number(text: &str) -> bool {
    let digits = |part: &str| is_digits(Some(part), u8::is_ascii_digit);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let mantissa_fits = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    mantissa_fits && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}
