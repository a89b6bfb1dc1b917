//! Cron expressions: five fields, or six with the seconds first.
//!
//! They mean what crontab(5) says they mean: where both the day of the month and the day of the week are restricted, a
//! day that matches either is taken; a field that starts with `*` restricts nothing by itself. `L`, `W` and `#` are
//! those of Quartz.

use std::ops::RangeInclusive;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::sets::{Month, Times};
use super::wall;
use crate::moment::Moment;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    times: Times,
    months: u16,
    days: Days,
    weekdays: Weekdays,
    /// A day that either field takes is taken; else both must.
    either: bool,
    /// The hours start with `*`: it follows elapsed time.
    elapsed: bool,
}

/// Of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Days {
    plain: u32,
    /// Bit 1 is the last day, bit 2 the one before.
    from_end: u32,
    /// The workday nearest to a day.
    nearest: u32,
    last_workday: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weekdays {
    plain: u8,
    /// The first, second, … fifth of the month.
    nth: [u8; 5],
    last: u8,
}

/// No pattern that ever comes keeps people waiting longer: 29 February on one weekday can take 40 years.
const YEARS: i16 = 48;

struct Kind {
    what: &'static str,
    range: RangeInclusive<u32>,
    names: &'static [&'static str],
}

const SECOND: Kind = Kind {
    what: "seconds",
    range: 0..=59,
    names: &[],
};
const MINUTE: Kind = Kind {
    what: "minutes",
    range: 0..=59,
    names: &[],
};
const HOUR: Kind = Kind {
    what: "hours",
    range: 0..=23,
    names: &[],
};
const DAY: Kind = Kind {
    what: "days of the month",
    range: 1..=31,
    names: &[],
};
const MONTH: Kind = Kind {
    what: "months",
    range: 1..=12,
    names: &[
        "", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
};
/// 7 is Sunday too.
const WEEKDAY: Kind = Kind {
    what: "days of the week",
    range: 0..=7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

impl Cron {
    pub fn parse(text: &str) -> Result<Cron, String> {
        let wrong = |why: String| format!("`{text}` is not a cron expression: {why}");
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (second, rest) = match fields.len() {
            5 => ("0", fields.as_slice()),
            6 => (fields[0], &fields[1..]),
            many => {
                return Err(wrong(format!(
                    "it has {many} field{}; write five (minute, hour, day of the month, month, day of the week), or six with the seconds first",
                    if many == 1 { "" } else { "s" }
                )));
            }
        };
        let [minute, hour, day, month, weekday] = *rest else {
            return Err(wrong("it needs five fields".to_owned()));
        };
        let cron = Cron {
            times: Times {
                seconds: SECOND.set(second).map_err(wrong)?,
                minutes: MINUTE.set(minute).map_err(wrong)?,
                hours: low(HOUR.set(hour).map_err(wrong)?),
            },
            months: u16::try_from(MONTH.set(month).map_err(wrong)?).unwrap_or(0),
            days: days(day).map_err(wrong)?,
            weekdays: weekdays(weekday).map_err(wrong)?,
            either: !starred(day) && !starred(weekday),
            elapsed: hour.starts_with('*'),
        };
        // The calendar repeats itself, so what is not found from here is found from nowhere.
        if cron
            .next(jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0))
            .is_none()
        {
            return Err(format!("`{text}` never comes: no date matches it"));
        }
        Ok(cron)
    }

    /// The first instant after `after`.
    pub fn next_after(&self, after: Moment, zone: &TimeZone) -> Option<Moment> {
        let next = |from| self.next(from);
        if self.elapsed {
            wall::elapsed(zone, after, next)
        } else {
            wall::fixed(zone, after, next)
        }
    }

    /// The first wall-clock time that matches, from one on.
    fn next(&self, from: DateTime) -> Option<DateTime> {
        let mut month = Month::of(from.date())?;
        let first = u32::try_from(from.day()).ok()?;
        let ends = from.year().saturating_add(YEARS);
        let mut days = self.days_in(month) & (u32::MAX << first);
        if days >> first & 1 == 1 {
            if let Some(at) = self.times.next(wall::second_of_day(from)) {
                return Some(wall::at_second(from.date(), at));
            }
            days &= days - 1;
        }
        loop {
            if days != 0 {
                let date = month.date(days.trailing_zeros())?;
                return Some(wall::at_second(date, self.times.next(0)?));
            }
            month = month.next()?;
            if month.year > ends {
                return None;
            }
            days = self.days_in(month);
        }
    }

    fn days_in(&self, month: Month) -> u32 {
        if self.months >> month.month & 1 == 0 {
            return 0;
        }
        let (days, weekdays) = (self.days.within(month), self.weekdays.within(month));
        if self.either {
            days | weekdays
        } else {
            days & weekdays
        }
    }
}

impl Days {
    fn within(self, month: Month) -> u32 {
        let mut days = self.plain & month.all();
        if self.from_end | self.nearest != 0 || self.last_workday {
            for day in 1..=month.length {
                if self.from_end >> day & 1 == 1 {
                    days |= month.back_from_end(day);
                }
                if self.nearest >> day & 1 == 1 {
                    days |= month.nearest_workday(day);
                }
            }
            if self.last_workday {
                days |= month.nearest_workday(month.length);
            }
        }
        days
    }
}

impl Weekdays {
    fn within(self, month: Month) -> u32 {
        let mut days = month.on_weekdays(self.plain);
        for weekday in 0..7 {
            for (nth, set) in (1..).zip(self.nth) {
                if set >> weekday & 1 == 1 {
                    days |= month.nth(weekday, nth);
                }
            }
            if self.last >> weekday & 1 == 1 {
                days |= month.nth(weekday, -1);
            }
        }
        days
    }
}

/// `*`, `*/2`, and `?`, which Quartz writes for a day that does not matter.
fn starred(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

fn low(set: u64) -> u32 {
    (set & u64::from(u32::MAX)) as u32
}

fn days(field: &str) -> Result<Days, String> {
    let mut days = Days::default();
    if field == "?" {
        days.plain = low(DAY.set("*")?);
        return Ok(days);
    }
    for part in field.split(',') {
        let upper = part.to_ascii_uppercase();
        if upper == "L" {
            days.from_end |= 1 << 1;
        } else if upper == "LW" || upper == "WL" {
            days.last_workday = true;
        } else if let Some(back) = upper.strip_prefix("L-") {
            let back = DAY.within(back, 1..=30)?;
            days.from_end |= 1 << (back + 1);
        } else if let Some(day) = upper.strip_suffix('W') {
            days.nearest |= 1 << DAY.within(day, 1..=31)?;
        } else {
            days.plain |= low(DAY.set_of(part)?);
        }
    }
    Ok(days)
}

fn weekdays(field: &str) -> Result<Weekdays, String> {
    let mut weekdays = Weekdays::default();
    if field == "?" {
        weekdays.plain = 0x7f;
        return Ok(weekdays);
    }
    for part in field.split(',') {
        let upper = part.to_ascii_uppercase();
        if upper == "L" {
            return Err(
                "`L` alone is no day of the week; the last Friday of the month is `5L`".to_owned(),
            );
        }
        if let Some((day, nth)) = upper.split_once('#') {
            let day = 1 << (WEEKDAY.value(day)? % 7);
            if nth == "L" {
                weekdays.last |= day;
                continue;
            }
            let nth = WEEKDAY.within(nth, 1..=5)?;
            if let Some(set) = usize::try_from(nth - 1)
                .ok()
                .and_then(|at| weekdays.nth.get_mut(at))
            {
                *set |= day;
            }
        } else if let Some(day) = upper.strip_suffix('L') {
            weekdays.last |= 1 << (WEEKDAY.value(day)? % 7);
        } else {
            let set = WEEKDAY.set_of(part)?;
            weekdays.plain |= u8::try_from((set | set >> 7) & 0x7f).unwrap_or(0);
        }
    }
    Ok(weekdays)
}

impl Kind {
    fn set(&self, field: &str) -> Result<u64, String> {
        field
            .split(',')
            .try_fold(0, |set, part| Ok(set | self.set_of(part)?))
    }

    /// `*`, `*/5`, `3`, `3/5`, `1-5`, `1-20/5`.
    fn set_of(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let most = match self.range.end() {
            // Sunday is not counted twice.
            7 => 6,
            end => *end,
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (*self.range.start(), most),
            None => {
                let value = self.value(range)?;
                (
                    value,
                    if step.is_some() {
                        most.max(value)
                    } else {
                        value
                    },
                )
            }
            Some((first, last)) => {
                let (first, last) = (self.value(first)?, self.value(last)?);
                // A week may end with Sunday.
                let sunday = self.range.contains(&7) && last == 0 && first > 0;
                (first, if sunday { 7 } else { last })
            }
        };
        if first > last {
            return Err(format!(
                "`{range}` goes backwards; write the two parts, as in `{first}-{most},{}-{last}`",
                self.range.start()
            ));
        }
        let step = match step {
            None => 1,
            Some(step) => {
                let many = most - self.range.start() + 1;
                self.within(step, 1..=many).map_err(|_| {
                    format!(
                        "the step `{step}` of the {} is not from 1 to {many}; for longer intervals write a period, such as \"90m\"",
                        self.what
                    )
                })?
            }
        };
        let mut set = 0;
        let mut value = first;
        while value <= last {
            set |= 1 << value;
            value += step;
        }
        Ok(set)
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = self
            .names
            .iter()
            .position(|name| !name.is_empty() && name.eq_ignore_ascii_case(text));
        match named.and_then(|at| u32::try_from(at).ok()) {
            Some(value) => Ok(value),
            None => self.within(text, self.range.clone()),
        }
    }

    fn within(&self, text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
        let digits =
            !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        let value = if digits { text.parse().ok() } else { None };
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            let names = match (
                self.names.iter().find(|name| !name.is_empty()),
                self.names.last(),
            ) {
                (Some(first), Some(last)) if range == self.range => {
                    format!(", or {first} to {last}")
                }
                _ => String::new(),
            };
            format!(
                "`{text}` in the {} is not a number from {} to {}{names}",
                self.what,
                range.start(),
                range.end()
            )
        })
    }
}
