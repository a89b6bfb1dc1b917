//! CloudEvents 1.0, in structured mode (the body holds everything) and in binary mode (attributes in the headers).
//!
//! The headers of binary mode are read as the bindings for AMQP (`cloudEvents:id`, `cloudEvents_id`) and for HTTP and
//! NATS (`ce-id`) name them, without regard to case.

use serde_json::{Map, Value};

use super::body::{self, Section, bounded, excerpt, instant};
use super::{
    EndsTask, Event, Flaw, LONGEST_ID, LONGEST_ORGANIZATION, LONGEST_PRIMARY_KEY, LONGEST_TYPE,
    Message, Reading, Unreadable,
};
use crate::document::nearest;
use crate::moment::Moment;
use crate::object::{Change, FILE, HIGHEST_LEVEL, Level, ObjectKey, Rank, Told, TypeNames, Word};
use crate::policy::Order;
use crate::trace;

/// The types of events that are read.
pub const EVENT_TYPES: [&str; 7] = [
    "object.created",
    "object.updated",
    "object.deleted",
    "scan_profile.created",
    "scan_profile.updated",
    "scan_profile.deleted",
    "raw_data.created",
];

/// Where the level of an object comes from.
pub const PROFILE_TYPES: [&str; 3] = ["declared", "inherited", "empty"];

/// What is around the data of an event.
struct Envelope {
    id: String,
    source: String,
    event_type: String,
    time: Option<Moment>,
    traceparent: Option<String>,
    data: Section,
}

pub(super) fn read(message: &Message<'_>, reading: &Reading<'_>) -> Result<Event, Unreadable> {
    let envelope = if is_binary(message) {
        binary(message)?
    } else {
        structured(message)?
    };
    match envelope.event_type.as_str() {
        "object.created" => object(envelope, reading, true),
        "object.updated" => object(envelope, reading, false),
        "object.deleted" => deleted(envelope, reading),
        "scan_profile.created" | "scan_profile.updated" => scan_profile(envelope, reading, false),
        "scan_profile.deleted" => scan_profile(envelope, reading, true),
        "raw_data.created" => raw_data(envelope, reading),
        other => {
            let message = format!(
                "type is `{}`, which is not an event that is read here{}",
                excerpt(other),
                did_you_mean(other, EVENT_TYPES)
            );
            Err(Unreadable::new(Flaw::UnknownType, message))
        }
    }
}

/// Headers hold the attributes, unless the content type says that the body does.
fn is_binary(message: &Message<'_>) -> bool {
    let structured = message
        .content_type()
        .is_some_and(|said| starts_with(said, "application/cloudevents"));
    !structured
        && message
            .headers
            .iter()
            .any(|(name, _)| attribute_name(name).is_some())
}

fn starts_with(text: &str, start: &str) -> bool {
    text.trim_start()
        .get(..start.len())
        .is_some_and(|there| there.eq_ignore_ascii_case(start))
}

/// The attribute that a header stands for.
fn attribute_name(header: &str) -> Option<&str> {
    ["cloudEvents:", "cloudEvents_", "ce-", "ce_"]
        .iter()
        .find(|prefix| starts_with(header, prefix))
        .and_then(|prefix| header.trim_start().get(prefix.len()..))
}

/// Whether a message is the event with this id, and of this source where one is named, as far as it can be told of what
/// may not be readable: by its body, its headers or the id that its broker carries.
pub fn is_named(message: &Message<'_>, id: &str, source: &str) -> bool {
    let header = |name: &str| {
        let mut headers = message.headers.iter();
        let found = headers.find(|(header, _)| {
            attribute_name(header).is_some_and(|found| found.eq_ignore_ascii_case(name))
        });
        found.map(|(_, value)| value.as_str())
    };
    let body = serde_json::from_slice::<Value>(message.body).ok();
    let said = |pointer: &str| body.as_ref()?.pointer(pointer)?.as_str();
    let from = said("/source").or(header("source"));
    if !source.is_empty() && from.is_some_and(|from| from != source) {
        return false;
    }
    let ids = [
        said("/id"),
        said("/raw_data/id"),
        header("id"),
        message.message_id,
    ];
    // What is not JSON may say all the same who it is.
    let quoted = || Value::from(id).to_string();
    ids.contains(&Some(id))
        || (body.is_none() && String::from_utf8_lossy(message.body).contains(&quoted()))
}

fn structured(message: &Message<'_>) -> Result<Envelope, Unreadable> {
    if message
        .content_type()
        .is_some_and(|said| starts_with(said, "application/cloudevents-batch"))
    {
        let message = "the content type is a batch of events; send one event in each message";
        return Err(Unreadable::new(Flaw::BadValue, message));
    }
    let mut event = body::section(message.body)?;
    known_version(&event.text("specversion")?)?;
    let id = event.key("id", LONGEST_ID)?;
    let source = event.key("source", LONGEST_ID)?;
    let event_type = event.text("type")?;
    let time = event.optional_instant("time")?;
    let traceparent = match event.value("traceparent") {
        Some(Value::String(text)) => traceparent(&text),
        _ => header_traceparent(message),
    };
    let data = match event.value("data_base64") {
        Some(Value::String(text)) if !event.has("data") => data_of(&base64(&text)?)?,
        _ => event.section("data", "data")?,
    };
    Ok(Envelope {
        id,
        source,
        event_type,
        time,
        traceparent,
        data,
    })
}

fn binary(message: &Message<'_>) -> Result<Envelope, Unreadable> {
    let attribute = |name: &str| {
        message
            .headers
            .iter()
            .find(|(header, _)| {
                attribute_name(header).is_some_and(|n| n.eq_ignore_ascii_case(name))
            })
            .map(|(header, value)| (header.as_str(), value.as_str()))
    };
    let required = |name: &str| {
        let (header, value) = attribute(name).ok_or_else(|| {
            let message =
                format!("the header for {name} is missing (`cloudEvents:{name}`, `ce-{name}`)");
            Unreadable::new(Flaw::MissingField, message)
        })?;
        if value.contains('\0') {
            let message = format!("the header {header} holds a NUL character");
            return Err(Unreadable::new(Flaw::Nul, message));
        }
        bounded(value, LONGEST_ID, || format!("the header {header}"))?;
        Ok(value)
    };
    known_version(required("specversion")?)?;
    let id = required("id")?.to_owned();
    let source = required("source")?.to_owned();
    let event_type = required("type")?.to_owned();
    let time = attribute("time")
        .map(|(header, text)| instant(text, || format!("the header {header}")))
        .transpose()?;
    let traceparent = attribute("traceparent")
        .and_then(|(_, text)| traceparent(text))
        .or_else(|| header_traceparent(message));
    let data = data_of(message.body).map_err(|mut wrong| {
        if let (Flaw::NotJson, Some(said)) = (wrong.reason, message.content_type()) {
            wrong.message += &format!(" (the content type is {})", said.escape_debug());
        }
        wrong
    })?;
    Ok(Envelope {
        id,
        source,
        event_type,
        time,
        traceparent,
        data,
    })
}

fn data_of(bytes: &[u8]) -> Result<Section, Unreadable> {
    Section::of("data", "data", body::parse(bytes)?)
}

fn known_version(version: &str) -> Result<(), Unreadable> {
    if version.starts_with("1.") {
        return Ok(());
    }
    let message = format!(
        "specversion is `{}`; CloudEvents 1.0 is read here",
        excerpt(version)
    );
    Err(Unreadable::new(Flaw::BadValue, message))
}

/// The trace context that a header carries.
pub(super) fn header_traceparent(message: &Message<'_>) -> Option<String> {
    message.header("traceparent").and_then(traceparent)
}

/// A trace context is carried through as it is. What cannot be one is left behind; an event is not lost for it.
fn traceparent(text: &str) -> Option<String> {
    trace::carried(text).map(str::to_owned)
}

impl Envelope {
    fn rank(&mut self, reading: &Reading<'_>) -> Result<Rank, Unreadable> {
        let number = match reading.order {
            Order::Time => self.time.unwrap_or(reading.arrived).micros(),
            Order::Version => self.data.integer("version").map_err(|mut wrong| {
                wrong.message += "; this intake is ordered by version";
                wrong
            })?,
            Order::Arrival => reading.arrival,
        };
        Ok(Rank {
            number,
            event_id: self.id.clone(),
        })
    }

    fn key(&mut self) -> Result<ObjectKey, Unreadable> {
        Ok(ObjectKey {
            organization: self.data.key("organization", LONGEST_ORGANIZATION)?,
            primary_key: self.data.key("primary_key", LONGEST_PRIMARY_KEY)?,
        })
    }

    fn tells(self, reading: &Reading<'_>, change: Change, ends: Option<EndsTask>) -> Event {
        Event {
            told: Told {
                event_id: Some(self.id.clone()),
                event_type: self.event_type,
                at: self.time.unwrap_or(reading.arrived),
                traceparent: self.traceparent,
                change,
            },
            inbox: Some((self.source, self.id)),
            ends,
        }
    }
}

fn object(
    mut envelope: Envelope,
    reading: &Reading<'_>,
    created: bool,
) -> Result<Event, Unreadable> {
    let key = envelope.key()?;
    let object_type = object_type(&mut envelope.data, reading.names)?;
    let attributes = envelope
        .data
        .section("attributes", "data.attributes")?
        .rest();
    let change = Change {
        key,
        object_type: Some(object_type),
        rank: envelope.rank(reading)?,
        word: Word::Object {
            created,
            attributes: Some(attributes),
            level: level(&mut envelope.data, "scan_level")?,
        },
        create_counts: false,
    };
    Ok(envelope.tells(reading, change, None))
}

fn deleted(mut envelope: Envelope, reading: &Reading<'_>) -> Result<Event, Unreadable> {
    let change = Change {
        key: envelope.key()?,
        object_type: Some(object_type(&mut envelope.data, reading.names)?),
        rank: envelope.rank(reading)?,
        word: Word::Deleted,
        create_counts: false,
    };
    Ok(envelope.tells(reading, change, None))
}

fn scan_profile(
    mut envelope: Envelope,
    reading: &Reading<'_>,
    cleared: bool,
) -> Result<Event, Unreadable> {
    let key = envelope.key()?;
    let object_type = match envelope.data.has("object_type") {
        true => Some(object_type(&mut envelope.data, reading.names)?),
        false => None,
    };
    let level = if cleared {
        None
    } else {
        let level = level(&mut envelope.data, "scan_level")?;
        Some(level.ok_or_else(|| envelope.data.missing("scan_level"))?)
    };
    let change = Change {
        key,
        object_type,
        rank: envelope.rank(reading)?,
        word: Word::Level(level),
        create_counts: false,
    };
    Ok(envelope.tells(reading, change, None))
}

fn raw_data(mut envelope: Envelope, reading: &Reading<'_>) -> Result<Event, Unreadable> {
    let data = &mut envelope.data;
    let key = ObjectKey {
        organization: data.key("organization", LONGEST_ORGANIZATION)?,
        primary_key: data.key("id", LONGEST_PRIMARY_KEY)?,
    };
    let mut mime_types = Vec::new();
    for value in data.list("mime_types")? {
        match value {
            Value::String(mime) => mime_types.push(mime),
            other => {
                return Err(body::wrong_type(
                    "data.mime_types[]",
                    &other,
                    "a string, as in \"text/plain\"",
                ));
            }
        }
    }
    let input = match data.optional_section("input", "data.input")? {
        None => None,
        Some(mut input) => Some((
            our_type(&mut input, reading.names)?,
            input.key("primary_key", LONGEST_PRIMARY_KEY)?,
        )),
    };
    let file = File {
        mime_types,
        plugin_id: data.text("plugin_id")?,
        task_id: data.optional_text("task_id")?,
        input,
        started_at: instant_as_written(data, "started_at")?,
        ended_at: instant_as_written(data, "ended_at")?,
    };
    let ends = file.ends();
    let own = match data.optional_section("attributes", "data.attributes")? {
        None => Map::new(),
        Some(attributes) => attributes.rest(),
    };
    // A file is made once, so a producer that numbers its changes has none to number here.
    let numbered = envelope.data.has("version") || reading.order != Order::Version;
    let rank = if numbered {
        envelope.rank(reading)?
    } else {
        let by_time = Reading {
            order: Order::Time,
            ..*reading
        };
        envelope.rank(&by_time)?
    };
    let change = Change {
        key,
        object_type: Some(FILE.to_owned()),
        rank,
        word: Word::Object {
            created: true,
            attributes: Some(file.laid_over(own)),
            level: None,
        },
        create_counts: false,
    };
    Ok(envelope.tells(reading, change, ends))
}

/// An instant that is kept as it was written.
pub(super) fn instant_as_written(
    section: &mut Section,
    name: &str,
) -> Result<Option<String>, Unreadable> {
    let text = section.optional_text(name)?;
    if let Some(text) = &text {
        section.as_instant(name, text)?;
    }
    Ok(text)
}

/// What every file has, whichever format told of it.
pub(super) struct File {
    pub mime_types: Vec<String>,
    pub plugin_id: String,
    pub task_id: Option<String>,
    /// Type and key.
    pub input: Option<(String, String)>,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
}

impl File {
    /// The task that made it, and how that went.
    pub(super) fn ends(&self) -> Option<EndsTask> {
        self.task_id.as_ref().map(|task_id| EndsTask {
            task_id: task_id.clone(),
            failed: self
                .mime_types
                .iter()
                .any(|mime| mime.starts_with("error/")),
        })
    }

    /// The attributes that queries see of a file; of those with the same name these win.
    pub(super) fn laid_over(self, mut own: Map<String, Value>) -> Map<String, Value> {
        let mime_types = self.mime_types.into_iter().map(Value::String).collect();
        let (input_type, input_key) = self.input.unzip();
        own.insert("mime_types".to_owned(), Value::Array(mime_types));
        own.insert("plugin_id".to_owned(), Value::String(self.plugin_id));
        for (name, text) in [
            ("task_id", self.task_id),
            ("input_type", input_type),
            ("input_key", input_key),
            ("started_at", self.started_at),
            ("ended_at", self.ended_at),
        ] {
            // What is not said is absent, also where the producer's own attributes hold one of these names.
            match text {
                Some(text) => own.insert(name.to_owned(), Value::String(text)),
                None => own.remove(name),
            };
        }
        own
    }
}

/// Our name for the type that `object_type` says, if objects of it are taken.
pub(super) fn object_type(section: &mut Section, names: &TypeNames) -> Result<String, Unreadable> {
    let ours = our_type(section, names)?;
    if names.takes(&ours) {
        return Ok(ours);
    }
    let declared = names.declared.iter().map(String::as_str);
    let message = format!(
        "{} is `{}`, which is not a declared object type{}",
        section.way_to("object_type"),
        excerpt(&ours),
        did_you_mean(&ours, declared)
    );
    Err(Unreadable::new(Flaw::UnknownObjectType, message))
}

fn our_type(section: &mut Section, names: &TypeNames) -> Result<String, Unreadable> {
    let written = section.key("object_type", LONGEST_TYPE)?;
    Ok(names.ours(&written))
}

/// A level with the kind of profile it comes from, where one is said.
pub(super) fn level(section: &mut Section, name: &str) -> Result<Option<Level>, Unreadable> {
    let profile_type = section.optional_text("scan_profile_type")?;
    if let Some(said) = &profile_type
        && !PROFILE_TYPES.contains(&said.as_str())
    {
        let what = format!(
            "is `{}`; it must be declared, inherited or empty",
            excerpt(said)
        );
        return Err(section.bad("scan_profile_type", what));
    }
    let Some(number) = section.optional_integer(name)? else {
        return Ok(None);
    };
    match u8::try_from(number) {
        Ok(level) if level <= HIGHEST_LEVEL => Ok(Some(Level {
            level,
            profile_type,
        })),
        _ => Err(section.bad(
            name,
            format!("is {number}; levels go from 0 to {HIGHEST_LEVEL}"),
        )),
    }
}

/// What to write instead, where something near is known.
fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(word, known);
    match near.as_slice() {
        [] => String::new(),
        near => format!("; did you mean `{}`?", near.join("` or `")),
    }
}

/// Decodes base64 as RFC 4648 has it, with or without the padding at its end.
fn base64(text: &str) -> Result<Vec<u8>, Unreadable> {
    let wrong = || Unreadable::new(Flaw::BadValue, "data_base64 is not base64");
    let digits = text.trim_end_matches('=');
    // A lone digit at the end holds less than a byte.
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return Err(wrong());
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let mut bits: u32 = 0;
    let mut count = 0;
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(wrong()),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}
