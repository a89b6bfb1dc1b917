//! The parts of an RRULE as it is written.

use jiff::civil::{Date, DateTime};

use crate::document::nearest;
use crate::moment::Moment;

/// A rule as it was read; what it leaves open comes from its beginning.
#[derive(Clone, Debug)]
pub struct Rule {
    pub text: String,
    pub frequency: Frequency,
    pub interval: i64,
    pub count: Option<u32>,
    pub until: Option<Time>,
    /// Sunday is 0.
    pub week_start: u8,
    pub months: u16,
    pub month_days: u32,
    pub month_days_back: u32,
    pub year_days: Vec<i16>,
    pub weeks: Vec<i8>,
    pub weekdays: u8,
    pub nth_weekdays: Vec<(i16, u32)>,
    pub hours: Option<u32>,
    pub minutes: Option<u64>,
    pub seconds: Option<u64>,
    pub positions: Vec<i32>,
    pub dtstart: Option<Time>,
    pub exdate: Vec<Time>,
    pub rdate: Vec<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

/// A time as a rule writes it: of the world, of the wall, or a whole day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    Instant(Moment),
    Wall(DateTime),
    Day(Date),
}

/// All matches up to the last one are counted when a rule is read, so their number has a limit.
const MOST: i64 = 10_000;

const FREQUENCIES: [(&str, Frequency); 7] = [
    ("YEARLY", Frequency::Yearly),
    ("MONTHLY", Frequency::Monthly),
    ("WEEKLY", Frequency::Weekly),
    ("DAILY", Frequency::Daily),
    ("HOURLY", Frequency::Hourly),
    ("MINUTELY", Frequency::Minutely),
    ("SECONDLY", Frequency::Secondly),
];

const WEEKDAYS: [&str; 7] = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];

const PARTS: [&str; 14] = [
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYMONTH",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYDAY",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
    "BYSETPOS",
    "WKST",
];

impl Frequency {
    /// The seconds of a unit that is shorter than a day.
    pub fn unit(self) -> Option<i64> {
        match self {
            Frequency::Hourly => Some(3600),
            Frequency::Minutely => Some(60),
            Frequency::Secondly => Some(1),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        let known = FREQUENCIES.iter().find(|(_, known)| *known == self);
        known.map_or("", |(word, _)| word)
    }
}

impl Time {
    /// `2026-11-21T09:30:00Z`, `2026-11-21T09:30:00` (of the wall), `2026-11-21`, and the same as iCalendar writes them
    /// (`20261121T093000Z`).
    pub fn parse(text: &str) -> Result<Time, String> {
        let trimmed = text.trim();
        let wrong = || {
            format!(
                "`{text}` is not a time; write \"2026-11-21T09:30:00Z\", \"2026-11-21T09:30:00\" for the clock on the wall, or \"2026-11-21\" for a day"
            )
        };
        if !trimmed.is_ascii() || trimmed.len() > 40 || trimmed.len() < 8 {
            return Err(wrong());
        }
        let timed = trimmed.contains(['T', 't']);
        let day = trimmed.split(['T', 't']).next().unwrap_or("");
        let zoned =
            timed && (trimmed.ends_with(['Z', 'z']) || trimmed[day.len()..].contains(['+', '-']));
        if zoned {
            let stamp: jiff::Timestamp = trimmed.parse().map_err(|_| wrong())?;
            Ok(Time::Instant(Moment::from_timestamp(stamp)))
        } else if timed {
            let wall: DateTime = trimmed.parse().map_err(|_| wrong())?;
            let wall = wall
                .with()
                .subsec_nanosecond(0)
                .build()
                .map_err(|_| wrong())?;
            within_years(wall.date())
                .then_some(Time::Wall(wall))
                .ok_or_else(wrong)
        } else {
            let date: Date = trimmed.parse().map_err(|_| wrong())?;
            within_years(date)
                .then_some(Time::Day(date))
                .ok_or_else(wrong)
        }
    }
}

fn within_years(date: Date) -> bool {
    date.year() >= 1
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Time::Instant(at) => write!(f, "{at}"),
            Time::Wall(wall) => write!(f, "{wall}"),
            Time::Day(date) => write!(f, "{date}"),
        }
    }
}

impl Rule {
    /// Reads `FREQ=WEEKLY;BYDAY=MO`, with or without `RRULE:` before it.
    pub fn parse(text: &str) -> Result<Rule, String> {
        let wrong = |why: String| format!("`{text}` is not an RRULE that can be run: {why}");
        let body = text.trim();
        let body = body.strip_prefix("RRULE:").unwrap_or(body);
        if body.contains(['\n', '\r']) {
            return Err(wrong(
                "it has several lines; write an object with `rrule`, `dtstart`, `exdate` and `rdate`".to_owned(),
            ));
        }
        let mut rule = Rule {
            text: body.to_owned(),
            frequency: Frequency::Daily,
            interval: 1,
            count: None,
            until: None,
            week_start: 1,
            months: 0,
            month_days: 0,
            month_days_back: 0,
            year_days: Vec::new(),
            weeks: Vec::new(),
            weekdays: 0,
            nth_weekdays: Vec::new(),
            hours: None,
            minutes: None,
            seconds: None,
            positions: Vec::new(),
            dtstart: None,
            exdate: Vec::new(),
            rdate: Vec::new(),
        };
        let mut said: Vec<&str> = Vec::new();
        for part in body.split(';').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(wrong(format!("`{part}` is no part; parts are NAME=VALUE")));
            };
            let Some(name) = PARTS.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                return Err(wrong(unknown(name)));
            };
            if said.contains(name) {
                return Err(wrong(format!("{name} is said twice")));
            }
            said.push(name);
            rule.part(name, &value.to_ascii_uppercase())
                .map_err(wrong)?;
        }
        rule.together(&said).map_err(wrong)?;
        Ok(rule)
    }

    fn part(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "FREQ" => {
                let known = FREQUENCIES.iter().find(|(word, _)| *word == value);
                self.frequency = known.map(|(_, known)| *known).ok_or_else(|| {
                    let words: Vec<&str> = FREQUENCIES.iter().map(|(word, _)| *word).collect();
                    format!("FREQ is one of {}, not `{value}`", words.join(", "))
                })?;
            }
            "INTERVAL" => self.interval = number(name, value, 1, i64::from(i32::MAX))?,
            "COUNT" => {
                let count = number(name, value, 1, i64::MAX).and_then(|count| {
                    if count > MOST {
                        return Err(format!(
                            "COUNT={value} is more than {MOST}; say with UNTIL when it ends"
                        ));
                    }
                    Ok(count)
                })?;
                self.count = u32::try_from(count).ok();
            }
            "UNTIL" => self.until = Some(Time::parse(value)?),
            "WKST" => self.week_start = u8::try_from(weekday(name, value)?).unwrap_or(1),
            "BYMONTH" => {
                for item in value.split(',') {
                    self.months |= 1 << number(name, item, 1, 12)?;
                }
            }
            "BYMONTHDAY" => {
                for item in value.split(',') {
                    match signed(name, item, 31)? {
                        back if back < 0 => self.month_days_back |= 1 << -back,
                        day => self.month_days |= 1 << day,
                    }
                }
            }
            "BYYEARDAY" => self.year_days = list(name, value, 366)?,
            "BYWEEKNO" => self.weeks = list(name, value, 53)?,
            "BYSETPOS" => self.positions = list(name, value, 366)?,
            "BYDAY" => {
                for item in value.split(',') {
                    let at = item.len().saturating_sub(2);
                    let (nth, day) = item.split_at_checked(at).unwrap_or(("", item));
                    let day = weekday(name, day)?;
                    if nth.is_empty() {
                        self.weekdays |= 1 << day;
                    } else {
                        let nth = signed(name, nth, 53)?;
                        self.nth_weekdays
                            .push((i16::try_from(nth).unwrap_or(0), day));
                    }
                }
            }
            "BYHOUR" => self.hours = Some(u32::try_from(set(name, value, 23)?).unwrap_or(0)),
            "BYMINUTE" => self.minutes = Some(set(name, value, 59)?),
            // 60 is for leap seconds, which no clock here shows.
            "BYSECOND" => self.seconds = Some(set(name, value, 59)?),
            _ => {}
        }
        Ok(())
    }

    /// What RFC 5545 does not allow together.
    fn together(&self, said: &[&str]) -> Result<(), String> {
        use Frequency::*;
        let has = |name: &str| said.contains(&name);
        if !has("FREQ") {
            return Err("FREQ is missing, as in FREQ=DAILY".to_owned());
        }
        if has("COUNT") && has("UNTIL") {
            return Err("COUNT and UNTIL cannot both say when it ends".to_owned());
        }
        let word = self.frequency.word();
        let not_with = |name: &str, fits: &[Frequency]| {
            if !has(name) || fits.contains(&self.frequency) {
                return Ok(());
            }
            let words: Vec<&str> = fits.iter().map(|fit| fit.word()).collect();
            Err(format!(
                "{name} does not go with FREQ={word}; it goes with {}",
                words.join(", ")
            ))
        };
        not_with("BYWEEKNO", &[Yearly])?;
        not_with("BYYEARDAY", &[Yearly, Hourly, Minutely, Secondly])?;
        not_with(
            "BYMONTHDAY",
            &[Yearly, Monthly, Daily, Hourly, Minutely, Secondly],
        )?;
        if !self.nth_weekdays.is_empty()
            && (!matches!(self.frequency, Yearly | Monthly) || has("BYWEEKNO"))
        {
            return Err(
                "a number before a weekday counts within a month or a year: it goes with FREQ=MONTHLY or YEARLY, without BYWEEKNO"
                    .to_owned(),
            );
        }
        if has("BYSETPOS")
            && !said
                .iter()
                .any(|name| name.starts_with("BY") && *name != "BYSETPOS")
        {
            return Err(
                "BYSETPOS picks from what another BY… part gives, and there is none".to_owned(),
            );
        }
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    match upper.as_str() {
        "DTSTART" | "EXDATE" | "RDATE" => format!(
            "{upper} is no part of the rule; write an object with `rrule` and `{}`",
            upper.to_ascii_lowercase()
        ),
        "BYEASTER" | "RSCALE" | "SKIP" => format!("{upper} is not supported"),
        _ => match nearest(&upper, PARTS).as_slice() {
            [] => format!("there is no part {name}; there are {}", PARTS.join(", ")),
            near => format!(
                "there is no part {name}; did you mean {}?",
                near.join(" or ")
            ),
        },
    }
}

fn number(name: &str, text: &str, least: i64, most: i64) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let value: Option<i64> = if plain { text.parse().ok() } else { None };
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| match most {
            i64::MAX => format!("{name} is a whole number from {least} on, not `{text}`"),
            _ => format!("{name} takes whole numbers from {least} to {most}, not `{text}`"),
        })
}

/// From 1, or from the end with a minus.
fn signed(name: &str, text: &str, most: i64) -> Result<i64, String> {
    let value = number(name, text.strip_prefix('+').unwrap_or(text), -most, most);
    value.ok().filter(|value| *value != 0).ok_or_else(|| {
        format!("{name} takes whole numbers from 1 to {most}, or from -{most} to -1 from the end, not `{text}`")
    })
}

fn list<N: TryFrom<i64>>(name: &str, value: &str, most: i64) -> Result<Vec<N>, String> {
    value
        .split(',')
        .map(|item| {
            let value = signed(name, item, most)?;
            N::try_from(value).map_err(|_| format!("{name}: `{item}` is too large"))
        })
        .collect()
}

fn set(name: &str, value: &str, most: i64) -> Result<u64, String> {
    value
        .split(',')
        .try_fold(0, |set, item| Ok(set | 1 << number(name, item, 0, most)?))
}

fn weekday(name: &str, text: &str) -> Result<u32, String> {
    let at = WEEKDAYS.iter().position(|day| *day == text);
    at.and_then(|at| u32::try_from(at).ok())
        .ok_or_else(|| format!("{name} takes MO, TU, WE, TH, FR, SA and SU, not `{text}`"))
}
