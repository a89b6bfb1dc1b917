//! When a schedule fires: names, cron expressions, periods and single instants; the instants in (cursor, now].

use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::document::{Field, Value as Written};
use crate::moment::{Moment, Span};

#[derive(Clone, Debug)]
pub enum Recurrence {
    Cron { text: String, cron: Box<Cron> },
    Period { every: Span, anchor: Anchor },
    At(Moment),
}

/// Where a period counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    #[default]
    Start,
    Epoch,
}

/// The shortest period; shorter ones are a mistake in the unit.
const SHORTEST: Span = Span::seconds(1);

/// Names, and the cron expressions that they stand for.
const NAMES: [(&str, &str); 5] = [
    ("hourly", "0 * * * *"),
    ("daily", "0 0 * * *"),
    ("weekly", "0 0 * * 1"),
    ("monthly", "0 0 1 * *"),
    ("yearly", "0 0 1 1 *"),
];

impl Recurrence {
    /// Reads a name, a cron expression of 5 or 6 fields, a length of time or an instant.
    pub fn parse(text: &str) -> Result<Recurrence, String> {
        let trimmed = text.trim();
        if let Some((_, cron)) = NAMES.iter().find(|(name, _)| *name == trimmed) {
            return Recurrence::cron(cron);
        }
        if trimmed.starts_with("FREQ=") || trimmed.starts_with("RRULE:") {
            return Err(format!(
                "`{trimmed}` is an RRULE, and these are not read yet; write it as a cron expression such as \"0 0 * * 1\", or as a period such as \"1d\""
            ));
        }
        if matches!(trimmed.split_whitespace().count(), 5 | 6) {
            return Recurrence::cron(trimmed);
        }
        if let Ok(every) = Span::parse(trimmed) {
            return Recurrence::period(every, Anchor::Start);
        }
        if let Ok(at) = Moment::parse(trimmed) {
            return Ok(Recurrence::At(at));
        }
        Err(format!(
            "`{trimmed}` is not a recurrence; write a name (hourly, daily, weekly, monthly, yearly), a cron expression (\"0 1 * * *\"), a period (\"1h\") or an instant (\"2026-11-21T09:30:00Z\")"
        ))
    }

    fn cron(text: &str) -> Result<Recurrence, String> {
        let cron = Cron::from_str(text)
            .map_err(|error| format!("`{text}` is not a cron expression: {error}"))?;
        // A day that never comes is found out now, by looking eight years ahead from a fixed instant.
        let start = Moment::from_micros(1_704_067_200_000_000)
            .timestamp()
            .to_zoned(TimeZone::UTC);
        if cron.find_next_occurrence(&start, false).is_err() {
            return Err(format!("`{text}` never comes: no date matches it"));
        }
        Ok(Recurrence::Cron {
            text: text.to_owned(),
            cron: Box::new(cron),
        })
    }

    fn period(every: Span, anchor: Anchor) -> Result<Recurrence, String> {
        if every < SHORTEST {
            return Err(format!(
                "a period of {every} is too short; the shortest is {SHORTEST}"
            ));
        }
        Ok(Recurrence::Period { every, anchor })
    }

    /// Reads what a file or a command says: a text, or a table with `cron`, `period` or `at`.
    pub fn read(field: Field<'_, '_>) -> Option<Recurrence> {
        if !matches!(field.node().value, Written::Table(_)) {
            return field.parsed(Recurrence::parse);
        }
        let mut table = field.table()?;
        let cron = table.parsed("cron", Recurrence::cron);
        let every = table.parsed("period", Span::parse);
        let anchor = table.one_of(
            "anchor",
            &[("start", Anchor::Start), ("epoch", Anchor::Epoch)],
        );
        let at = table.moment("at").map(Recurrence::At);
        let period = match every.map(|every| Recurrence::period(every, anchor.unwrap_or_default()))
        {
            Some(Err(message)) => {
                table.complain("period", message);
                None
            }
            Some(Ok(period)) => Some(period),
            None => None,
        };
        let found = cron.or(period).or(at);
        table.finish();
        found
    }

    /// The first instant after `after`. `anchor` is where periods count from.
    pub fn next_after(&self, after: Moment, zone: &TimeZone, start: Moment) -> Option<Moment> {
        match self {
            Recurrence::At(at) => (*at > after).then_some(*at),
            Recurrence::Period { every, anchor } => {
                let from = match anchor {
                    Anchor::Start => start,
                    Anchor::Epoch => Moment::EPOCH,
                };
                let passed = after.micros().saturating_sub(from.micros());
                let times = if passed < 0 {
                    1
                } else {
                    passed / every.micros() + 1
                };
                let next = from
                    .micros()
                    .checked_add(every.micros().checked_mul(times)?)?;
                Some(Moment::from_micros(next))
            }
            Recurrence::Cron { cron, .. } => {
                let from = after.timestamp().to_zoned(zone.clone());
                let next = cron.find_next_occurrence(&from, false).ok()?;
                let next = Moment::from_timestamp(next.timestamp());
                (next > after).then_some(next)
            }
        }
    }
}

/// The first instant of several recurrences after `after`, within the bounds.
pub fn next_of(
    recurrences: &[Recurrence],
    after: Moment,
    zone: &TimeZone,
    start: Moment,
    ends: Option<Moment>,
) -> Option<Moment> {
    recurrences
        .iter()
        .filter_map(|recurrence| recurrence.next_after(after, zone, start))
        .min()
        .filter(|next| ends.is_none_or(|ends| *next <= ends))
}

/// As a query over plugins and an exported file show it.
pub fn as_written(recurrences: &[Recurrence]) -> Value {
    let texts: Vec<Value> = recurrences
        .iter()
        .map(|recurrence| match recurrence {
            Recurrence::Cron { text, .. } => json!(text),
            Recurrence::Period { every, .. } => json!(every.to_string()),
            Recurrence::At(at) => json!(at.to_string()),
        })
        .collect();
    match texts.as_slice() {
        [one] => one.clone(),
        _ => Value::Array(texts),
    }
}
