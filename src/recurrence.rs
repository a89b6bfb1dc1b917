//! When a schedule fires: names, cron expressions, periods, rules and single instants; and when it does not.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::document::{Field, Table, Value as Written};
use crate::moment::{Moment, Span};

mod calendar;
mod cron;
mod parts;
mod rule;
mod sets;
mod timetable;
mod wall;

pub use calendar::Calendar;
pub use cron::Cron;
pub use parts::{Rule, Time};
pub use timetable::{Bounds, Last, Timetable};

#[derive(Clone, Debug)]
pub enum Recurrence {
    Cron { text: String, cron: Arc<Cron> },
    Period { every: Span, anchor: Anchor },
    Rule(Arc<Rule>),
    At(Moment),
}

/// Where a period counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    #[default]
    Start,
    Completion,
    Epoch,
}

impl Anchor {
    pub const ALL: [(&'static str, Anchor); 3] = [
        ("start", Anchor::Start),
        ("completion", Anchor::Completion),
        ("epoch", Anchor::Epoch),
    ];
}

/// The shortest period; shorter ones are a mistake in the unit.
const SHORTEST: Span = Span::seconds(1);
/// The longest; longer ones are a mistake too, and no clock gets there.
const LONGEST: Span = Span::seconds(1000 * 366 * 86_400);
/// Dates of one rule that are left out or added, at most.
const DATES: usize = 10_000;

/// Names, and the cron expressions that they stand for.
const NAMES: [(&str, &str); 5] = [
    ("hourly", "0 * * * *"),
    ("daily", "0 0 * * *"),
    ("weekly", "0 0 * * 1"),
    ("monthly", "0 0 1 * *"),
    ("yearly", "0 0 1 1 *"),
];

impl Recurrence {
    /// Reads a name, a cron expression of 5 or 6 fields, a length of time, an RRULE or an instant.
    pub fn parse(text: &str) -> Result<Recurrence, String> {
        let trimmed = text.trim();
        if let Some((_, cron)) = NAMES.iter().find(|(name, _)| *name == trimmed) {
            return Recurrence::cron(cron);
        }
        if trimmed.starts_with("RRULE:") || trimmed.contains("FREQ=") {
            return Rule::parse(trimmed).and_then(Recurrence::rule);
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
            "`{trimmed}` is not a recurrence; write a name (hourly, daily, weekly, monthly, yearly), a cron expression (\"0 1 * * *\"), a period (\"1h\"), an RRULE (\"FREQ=WEEKLY;BYDAY=MO\") or an instant (\"2026-11-21T09:30:00Z\")"
        ))
    }

    fn cron(text: &str) -> Result<Recurrence, String> {
        let text = text.trim();
        Ok(Recurrence::Cron {
            cron: Arc::new(Cron::parse(text)?),
            text: text.to_owned(),
        })
    }

    fn period(every: Span, anchor: Anchor) -> Result<Recurrence, String> {
        if every < SHORTEST {
            return Err(format!(
                "a period of {every} is too short; the shortest is {SHORTEST}"
            ));
        }
        if every > LONGEST {
            return Err(format!(
                "a period of {every} is too long; the longest is {LONGEST}"
            ));
        }
        Ok(Recurrence::Period { every, anchor })
    }

    /// A rule that never fires is found out now. Of one that does not say when it begins, only whether its parts go
    /// together: at which of them an interval arrives depends on the beginning.
    fn rule(rule: Rule) -> Result<Recurrence, String> {
        let any = jiff::civil::date(2024, 1, 1).at(0, 0, 0, 0);
        let ended = match (&rule.until, &rule.dtstart) {
            (Some(Time::Instant(until)), Some(Time::Instant(start))) => until < start,
            _ => false,
        };
        let asked = Rule {
            // Whether it has ended by then is not asked.
            until: rule.dtstart.as_ref().and(rule.until.clone()),
            interval: rule.dtstart.as_ref().map_or(1, |_| rule.interval),
            ..rule.clone()
        };
        if ended || !rule::Walk::new(&asked, any, &TimeZone::UTC).comes() {
            return Err(format!("`{}` never comes: no time matches it", rule.text));
        }
        Ok(Recurrence::Rule(Arc::new(rule)))
    }

    /// Reads what a file or a command says: a text, or a table with `cron`, `period`, `rrule` or `at`.
    pub fn read(field: Field<'_, '_>) -> Option<Recurrence> {
        if !matches!(field.node().value, Written::Table(_)) {
            return field.parsed(Recurrence::parse);
        }
        let mut table = field.table()?;
        let said = |table: &mut Table<'_, '_>, name: &str| {
            table.node(name).is_some_and(|node| !node.is_null())
        };
        const KINDS: [&str; 4] = ["cron", "period", "rrule", "at"];
        let kinds: Vec<&str> = KINDS
            .into_iter()
            .filter(|kind| said(&mut table, kind))
            .collect();
        let found = match kinds.as_slice() {
            ["cron"] => table.parsed("cron", Recurrence::cron),
            ["at"] => table.moment("at").map(Recurrence::At),
            ["period"] => {
                let anchor = table.one_of("anchor", &Anchor::ALL);
                let wrong = anchor.is_none() && said(&mut table, "anchor");
                table
                    .parsed("period", |text| {
                        Recurrence::period(Span::parse(text)?, anchor.unwrap_or_default())
                    })
                    .filter(|_| !wrong)
            }
            ["rrule"] => read_rule(&mut table),
            [] => {
                for kind in KINDS {
                    table.node(kind);
                }
                // A wrong name beside it is the likelier complaint, and comes with the nearest right one.
                table.complain(
                    "",
                    "a recurrence is one of `cron`, `period`, `rrule` or `at`",
                );
                None
            }
            several => {
                let message = format!(
                    "a recurrence is one of `cron`, `period`, `rrule` or `at`, and here are {}; write them as a list of recurrences",
                    several.join(" and ")
                );
                table.complain(several.last().unwrap_or(&""), message);
                None
            }
        };
        table.finish();
        found
    }
}

fn read_rule(table: &mut Table<'_, '_>) -> Option<Recurrence> {
    let times = |table: &mut Table<'_, '_>, name: &str| {
        table
            .one_or_many(name, |field| field.parsed(Time::parse))
            .unwrap_or_default()
    };
    let dtstart = table.parsed("dtstart", Time::parse);
    let started = dtstart.is_some() || table.node("dtstart").is_none_or(|node| node.is_null());
    let (exdate, rdate) = (times(table, "exdate"), times(table, "rdate"));
    for (name, many) in [("exdate", exdate.len()), ("rdate", rdate.len())] {
        if many > DATES {
            table.complain(
                name,
                format!("{many} dates are too many; the limit is {DATES}"),
            );
            return None;
        }
    }
    table
        .parsed("rrule", |text| {
            Recurrence::rule(Rule {
                dtstart,
                exdate,
                rdate,
                ..Rule::parse(text)?
            })
        })
        .filter(|_| started)
}

/// The zone that `timezone` names, UTC where it names none; what is unknown is complained about.
pub fn read_zone(table: &mut Table<'_, '_>) -> (String, TimeZone) {
    table
        .parsed("timezone", |text| {
            TimeZone::get(text)
                .map(|zone| (text.to_owned(), zone))
                .map_err(|_| format!("`{text}` is not a time zone; write an IANA name such as \"Europe/Amsterdam\""))
        })
        .unwrap_or_else(|| ("UTC".to_owned(), TimeZone::UTC))
}

/// As a query over plugins and an exported file show it.
pub fn as_written(recurrences: &[Recurrence]) -> Value {
    let texts: Vec<Value> = recurrences.iter().map(written).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        _ => Value::Array(texts),
    }
}

fn written(recurrence: &Recurrence) -> Value {
    match recurrence {
        Recurrence::Cron { text, .. } => json!(text),
        Recurrence::At(at) => json!(at.to_string()),
        Recurrence::Period {
            every,
            anchor: Anchor::Start,
        } => json!(every.to_string()),
        Recurrence::Period { every, anchor } => {
            let word = Anchor::ALL.iter().find(|(_, known)| known == anchor);
            json!({"period": every.to_string(), "anchor": word.map(|(word, _)| *word)})
        }
        Recurrence::Rule(rule) => {
            let times = |times: &[Time]| -> Value {
                times.iter().map(|time| json!(time.to_string())).collect()
            };
            let mut object = Map::new();
            object.insert("rrule".into(), json!(rule.text));
            if let Some(start) = &rule.dtstart {
                object.insert("dtstart".into(), json!(start.to_string()));
            }
            for (name, dates) in [("exdate", &rule.exdate), ("rdate", &rule.rdate)] {
                if !dates.is_empty() {
                    object.insert(name.into(), times(dates));
                }
            }
            match object.len() {
                1 => json!(rule.text),
                _ => Value::Object(object),
            }
        }
    }
}
