//! Calendars: windows in which nothing is to begin. Schedules share them by name.

use std::cmp::Ordering;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::wall::{self, at_second, day_number, second_of_day};
use crate::document::{Field, Table, Value, nearest};
use crate::moment::Moment;

/// Seconds of a day, at which a window may end.
const MIDNIGHT: u32 = 86_400;

#[derive(Clone, Debug)]
pub struct Calendar {
    pub name: String,
    zone: TimeZone,
    /// First and last days, both within, in their order and apart from each other.
    dates: Vec<(Date, Date)>,
    weekly: Vec<Window>,
}

/// From one second of a day to another; past midnight where the second is not after the first.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// On which it begins; bit 0 is Sunday.
    days: u8,
    from: u32,
    to: u32,
}

const DAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

impl Calendar {
    pub fn read(name: String, table: &mut Table<'_, '_>) -> Option<Calendar> {
        let zone = super::read_zone(table).1;
        let dates = table.one_or_many("dates", days);
        let weekly = table.one_or_many("weekly", window);
        if table.node("dates").is_none() && table.node("weekly").is_none() {
            table.complain(
                "dates",
                "a calendar needs `dates` or `weekly`: it says when nothing begins",
            );
        }
        let calendar = Calendar {
            name,
            zone,
            dates: joined(dates.unwrap_or_default()),
            weekly: weekly.unwrap_or_default(),
        };
        if calendar.covers_the_week() {
            table.complain(
                "weekly",
                "these windows leave no minute of the week: nothing would ever begin",
            );
            return None;
        }
        Some(calendar)
    }

    /// Where an instant lies in a window: the instant at which that ends.
    pub fn until(&self, at: Moment) -> Option<Moment> {
        let wall = wall::shown(at, &self.zone);
        let ends = self.wall_until(wall)?;
        // On the first pass of a repeated hour a window may end before the second pass does.
        [
            wall::instant(&self.zone, ends),
            wall::last_instant(&self.zone, ends),
        ]
        .into_iter()
        .flatten()
        .find(|ends| *ends > at)
        .or_else(|| Some(Moment::from_micros(at.micros().saturating_add(1_000_000))))
    }

    fn wall_until(&self, wall: DateTime) -> Option<DateTime> {
        let date = wall.date();
        let found = self.dates.binary_search_by(|(first, last)| {
            if *last < date {
                Ordering::Less
            } else if *first > date {
                Ordering::Greater
            } else {
                Ordering::Equal
            }
        });
        let by_date = found
            .ok()
            .and_then(|at| self.dates.get(at))
            .map(|(_, last)| {
                last.tomorrow()
                    .map_or(DateTime::MAX, |next| next.at(0, 0, 0, 0))
            });
        let weekday = date.weekday().to_sunday_zero_offset();
        let second = second_of_day(wall);
        let by_week = self
            .weekly
            .iter()
            .filter_map(|window| window.until(date, weekday, second));
        by_date.into_iter().chain(by_week).max()
    }

    fn covers_the_week(&self) -> bool {
        if self.weekly.is_empty() {
            return false;
        }
        // The first of a month that begins on a Sunday; any week will do.
        let begins = jiff::civil::date(2023, 1, 1).at(0, 0, 0, 0);
        let week = Calendar {
            dates: Vec::new(),
            zone: TimeZone::UTC,
            ..self.clone()
        };
        let mut at = begins;
        while day_number(at.date()) - day_number(begins.date()) < 7 {
            match week.wall_until(at) {
                Some(ends) if ends > at => at = ends,
                _ => return false,
            }
        }
        true
    }
}

impl Window {
    fn until(&self, date: Date, weekday: i8, second: u32) -> Option<DateTime> {
        let on = |weekday: i8| self.days >> weekday.rem_euclid(7) & 1 == 1;
        let over_midnight = self.to <= self.from;
        if on(weekday) && second >= self.from {
            if over_midnight {
                return Some(at_second(date.tomorrow().ok()?, self.to));
            }
            if second < self.to {
                return match self.to {
                    MIDNIGHT => Some(date.tomorrow().ok()?.at(0, 0, 0, 0)),
                    to => Some(at_second(date, to)),
                };
            }
        }
        (over_midnight && on(weekday - 1) && second < self.to).then(|| at_second(date, self.to))
    }
}

/// In their order; what touches or overlaps is one.
fn joined(mut dates: Vec<(Date, Date)>) -> Vec<(Date, Date)> {
    dates.sort_unstable();
    let mut joined: Vec<(Date, Date)> = Vec::with_capacity(dates.len());
    for (first, last) in dates {
        match joined.last_mut() {
            Some((_, before)) if first <= before.checked_add(1.day()).unwrap_or(*before) => {
                *before = last.max(*before);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// A date, or `{from, to}`.
fn days(field: Field<'_, '_>) -> Option<(Date, Date)> {
    if !matches!(field.node().value, Value::Table(_)) {
        return field.parsed(date).map(|date| (date, date));
    }
    let mut table = field.table()?;
    let both = table.require("from") & table.require("to");
    let (from, to) = (table.parsed("from", date), table.parsed("to", date));
    let found = match (both, from, to) {
        (true, Some(from), Some(to)) if from > to => {
            table.complain("to", format!("{to} is before {from}; both days are within"));
            None
        }
        (true, Some(from), Some(to)) => Some((from, to)),
        _ => None,
    };
    table.finish();
    found
}

fn date(text: &str) -> Result<Date, String> {
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date: Option<Date> = if plain { text.parse().ok() } else { None };
    date.filter(|date| date.year() >= 1)
        .ok_or_else(|| format!("`{text}` is not a date; write it as \"2026-12-25\""))
}

fn window(field: Field<'_, '_>) -> Option<Window> {
    let mut table = field.table()?;
    table.require("days");
    let days = table
        .one_or_many("days", |field| field.parsed(weekdays))
        .map(|days| days.into_iter().fold(0, |set, days| set | days));
    let from = table.parsed("from", |text| time(text, false));
    let to = table.parsed("to", |text| time(text, true));
    let said =
        |table: &mut Table<'_, '_>, name| table.node(name).is_some_and(|node| !node.is_null());
    let complete =
        (from.is_some() || !said(&mut table, "from")) && (to.is_some() || !said(&mut table, "to"));
    let (from, to) = (from.unwrap_or(0), to.unwrap_or(MIDNIGHT));
    if complete && from == to {
        table.complain(
            "to",
            "the window ends where it begins; leave both out for whole days",
        );
        return None;
    }
    table.finish();
    let days = days.filter(|days| *days != 0 && complete)?;
    Some(Window { days, from, to })
}

/// `saturday`, `sat`, `mon-fri`.
fn weekdays(text: &str) -> Result<u8, String> {
    let day = |word: &str| {
        let word = word.trim().to_ascii_lowercase();
        DAYS.iter()
            .position(|day| word.len() >= 2 && day.starts_with(&word))
            .ok_or_else(|| {
                let near = nearest(&word, DAYS);
                let help = if near.is_empty() {
                    DAYS.join(", ")
                } else {
                    near.join(" or ")
                };
                format!("`{text}` is not a day of the week, nor days such as mon-fri; write {help}")
            })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    let mut set = 0;
    let mut at = first;
    loop {
        set |= 1 << at;
        if at == last {
            return Ok(set);
        }
        at = (at + 1) % 7;
    }
}

/// `09:30`, `09:30:15`; at an end also `24:00`.
fn time(text: &str, end: bool) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a time of day; write it as \"09:30\"");
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: &str, most: u32| -> Option<u32> {
        let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let number = if plain { part.parse().ok() } else { None };
        number.filter(|number| *number <= most)
    };
    let (hour, minute, second) = match *parts {
        [hour, minute] => (hour, minute, "00"),
        [hour, minute, second] => (hour, minute, second),
        _ => return Err(wrong()),
    };
    let at = number(hour, 24).ok_or_else(wrong)? * 3600
        + number(minute, 59).ok_or_else(wrong)? * 60
        + number(second, 59).ok_or_else(wrong)?;
    let most = if end { MIDNIGHT } else { MIDNIGHT - 1 };
    (at <= most).then_some(at).ok_or_else(wrong)
}
