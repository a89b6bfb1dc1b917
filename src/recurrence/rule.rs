//! RRULE, as RFC 5545 has it: read, and walked from anywhere without a walk from its beginning.
//!
//! Apart from BYSETPOS a rule is a filter of days and a set of times, so the first match from one instant on is found by
//! looking at months, not at all the matches before. With COUNT the last match is found once, when the rule is settled.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::parts::{Frequency, Rule, Time};
use super::sets::{Month, Times, next_bit, nth_bit};
use super::wall::{self, DAY, at_second, day_number, day_of_number, second_of_day};
use crate::moment::Moment;

/// Months, units and periods that one search looks at, at most, and the counting of COUNT. A pattern that needs more comes never, or so rarely
/// that nobody means it.
const STEPS: u32 = 100_000;

/// A rule with its beginning, and with all that it takes from it.
#[derive(Clone, Debug)]
pub struct Walk {
    frequency: Frequency,
    interval: i64,
    week_start: i64,
    months: u16,
    month_days: u32,
    month_days_back: u32,
    year_days: Vec<i16>,
    weeks: Vec<i8>,
    weekdays: u8,
    nth_weekdays: Vec<(i16, u32)>,
    /// Nothing restricts the days but the interval.
    nth_in_month: bool,
    times: Times,
    /// Seconds of the day, hour or minute that BYSETPOS picks.
    picked: Option<Vec<u32>>,
    /// BYSETPOS of weeks, months and years.
    positions: Vec<i32>,
    start: DateTime,
    last: Option<DateTime>,
    until: Option<Moment>,
    elapsed: bool,
}

impl Walk {
    /// `start` is where the rule begins if it does not say so itself.
    pub fn new(rule: &Rule, start: DateTime, zone: &TimeZone) -> Walk {
        let start = match &rule.dtstart {
            Some(Time::Wall(wall)) => *wall,
            Some(Time::Instant(at)) => wall::shown(*at, zone),
            Some(Time::Day(date)) => date.at(0, 0, 0, 0),
            None => start,
        };
        let mut walk = Walk::filled(rule, start);
        match &rule.until {
            Some(Time::Instant(at)) => walk.until = Some(*at),
            Some(Time::Wall(wall)) => walk.last = Some(*wall),
            // A day lasts until its end.
            Some(Time::Day(date)) => walk.last = Some(at_second(*date, 86_399)),
            None => {}
        }
        if let Some(count) = rule.count {
            let mut steps = STEPS;
            let mut at = None;
            let mut from = Some(start);
            for _ in 0..count {
                let Some(found) = from.and_then(|from| walk.next_within(from, &mut steps)) else {
                    break;
                };
                at = Some(found);
                from = wall::second_after(found);
            }
            // None at all: it ends before it begins.
            walk.last = at.or_else(|| start.checked_sub(jiff::Span::new().seconds(1)).ok());
        }
        walk
    }

    /// What the rule leaves open comes from its beginning.
    fn filled(rule: &Rule, start: DateTime) -> Walk {
        use Frequency::*;
        let bit = |part: i8| u32::try_from(part).unwrap_or(0);
        let mut walk = Walk {
            frequency: rule.frequency,
            interval: rule.interval,
            week_start: i64::from(rule.week_start),
            months: rule.months,
            month_days: rule.month_days,
            month_days_back: rule.month_days_back,
            year_days: rule.year_days.clone(),
            weeks: rule.weeks.clone(),
            weekdays: rule.weekdays,
            nth_weekdays: rule.nth_weekdays.clone(),
            nth_in_month: rule.frequency == Monthly || rule.months != 0,
            times: Times {
                hours: 0,
                minutes: 0,
                seconds: 0,
            },
            picked: None,
            positions: Vec::new(),
            start,
            last: None,
            until: None,
            elapsed: rule.frequency.unit().is_some() && rule.hours.is_none(),
        };
        let days = walk.month_days | walk.month_days_back != 0;
        let weekdays = walk.weekdays != 0 || !walk.nth_weekdays.is_empty();
        let weekday = bit(start.weekday().to_sunday_zero_offset());
        match rule.frequency {
            Yearly if !walk.weeks.is_empty() && !days && !weekdays && walk.year_days.is_empty() => {
                walk.weekdays = 1 << weekday;
            }
            Yearly if walk.weeks.is_empty() && !days && !weekdays && walk.year_days.is_empty() => {
                if walk.months == 0 {
                    walk.months = 1 << start.month();
                }
                walk.month_days = 1 << bit(start.day());
            }
            Monthly if !days && !weekdays => walk.month_days = 1 << bit(start.day()),
            Weekly if !weekdays => walk.weekdays = 1 << weekday,
            _ => {}
        }
        if walk.months == 0 {
            walk.months = 0x1ffe;
        }
        let unit = rule.frequency.unit();
        let every_hour = unit.is_some();
        let every_minute = unit.is_some_and(|unit| unit <= 60);
        let every_second = unit == Some(1);
        walk.times = Times {
            hours: match rule.hours {
                Some(hours) => hours,
                None if every_hour => 0xff_ffff,
                None => 1 << start.hour(),
            },
            minutes: match rule.minutes {
                Some(minutes) => minutes,
                None if every_minute => (1 << 60) - 1,
                None => 1 << start.minute(),
            },
            seconds: match rule.seconds {
                Some(seconds) => seconds,
                None if every_second => (1 << 60) - 1,
                None => 1 << start.second(),
            },
        };
        match rule.frequency {
            Yearly | Monthly | Weekly => walk.positions.clone_from(&rule.positions),
            _ if rule.positions.is_empty() => {}
            _ => walk.picked = Some(walk.pick(&rule.positions)),
        }
        walk
    }

    /// Of the times of a day, an hour or a minute those that BYSETPOS names: they are the same each time.
    fn pick(&self, positions: &[i32]) -> Vec<u32> {
        let within = match self.frequency {
            Frequency::Hourly => Times {
                hours: 1,
                ..self.times
            },
            Frequency::Minutely => Times {
                hours: 1,
                minutes: 1,
                ..self.times
            },
            Frequency::Secondly => Times {
                hours: 1,
                minutes: 1,
                seconds: 1,
            },
            _ => self.times,
        };
        let mut picked: Vec<u32> = positions
            .iter()
            .filter_map(|position| within.nth(at_position(*position, within.count())?))
            .collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }

    /// The first instant after `after`.
    pub fn next_after(&self, after: Moment, zone: &TimeZone) -> Option<Moment> {
        let next = |from: DateTime| self.next(from);
        let found = if self.elapsed {
            wall::elapsed(zone, after, next)
        } else {
            wall::fixed(zone, after, next)
        }?;
        self.until
            .is_none_or(|until| found <= until)
            .then_some(found)
    }

    /// Whether there is any match, whenever the rule ends by the instant of UNTIL.
    pub fn comes(&self) -> bool {
        self.next(self.start).is_some()
    }

    fn next(&self, from: DateTime) -> Option<DateTime> {
        self.next_within(from, &mut { STEPS })
    }

    /// The first wall-clock time that matches, from one on.
    fn next_within(&self, from: DateTime, steps: &mut u32) -> Option<DateTime> {
        let from = from.max(self.start);
        let found = match self.frequency.unit() {
            _ if !self.positions.is_empty() => self.next_position(from, steps),
            Some(unit) => self.next_unit(from, unit, steps),
            None => self.next_day(from, steps),
        }?;
        self.last.is_none_or(|last| found <= last).then_some(found)
    }

    /// Rules of days, weeks, months and years.
    fn next_day(&self, from: DateTime, steps: &mut u32) -> Option<DateTime> {
        let mut date = self.day_from(from.date(), steps)?;
        if date == from.date() {
            if let Some(at) = self.time_of_day(second_of_day(from)) {
                return Some(at_second(date, at));
            }
            date = self.day_from(date.tomorrow().ok()?, steps)?;
        }
        Some(at_second(date, self.time_of_day(0)?))
    }

    fn time_of_day(&self, from: u32) -> Option<u32> {
        match &self.picked {
            Some(picked) => picked.iter().copied().find(|at| *at >= from),
            None => self.times.next(from),
        }
    }

    /// Rules of hours, minutes and seconds. Seconds of the wall are counted on, as if it had no zone.
    fn next_unit(&self, from: DateTime, unit: i64, steps: &mut u32) -> Option<DateTime> {
        let number =
            |wall: DateTime| day_number(wall.date()) * DAY + i64::from(second_of_day(wall));
        let start = number(self.start).div_euclid(unit);
        let mut at = number(from);
        // Days are looked for anew only where the day is another one.
        let mut good_day = None;
        loop {
            *steps = steps.checked_sub(1)?;
            let now = at.div_euclid(unit);
            let past = (now - start).rem_euclid(self.interval);
            if past != 0 {
                at = (now + self.interval - past) * unit;
            }
            let day = at.div_euclid(DAY);
            if good_day != Some(day) {
                let found = day_number(self.day_from(day_of_number(day)?, steps)?);
                good_day = Some(found);
                if found > day {
                    at = found * DAY;
                    continue;
                }
            }
            let second = at.rem_euclid(DAY);
            let (hour, minute) = (second / 3600, second / 60 % 60);
            let low = |number: i64| u32::try_from(number).unwrap_or(0);
            match next_bit(u64::from(self.times.hours), low(hour)) {
                None => {
                    at = (day + 1) * DAY;
                    continue;
                }
                Some(next) if i64::from(next) > hour => {
                    at = day * DAY + i64::from(next) * 3600;
                    continue;
                }
                Some(_) => {}
            }
            if unit <= 60 {
                let hours = day * DAY + hour * 3600;
                match next_bit(self.times.minutes, low(minute)) {
                    None => {
                        at = hours + 3600;
                        continue;
                    }
                    Some(next) if i64::from(next) > minute => {
                        at = hours + i64::from(next) * 60;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            if unit == 1 {
                match next_bit(self.times.seconds, low(second % 60)) {
                    Some(next) if i64::from(next) == second % 60 => {
                        let chosen = self.picked.as_ref().is_none_or(|picked| !picked.is_empty());
                        return chosen.then_some(at_second(day_of_number(day)?, low(second)));
                    }
                    Some(next) => at = at - second % 60 + i64::from(next),
                    None => at = at - second % 60 + 60,
                }
                continue;
            }
            let begins = at - at.rem_euclid(unit);
            match self.within_unit(unit, low(at - begins)) {
                Some(later) => {
                    let second = (begins + i64::from(later)).rem_euclid(DAY);
                    return Some(at_second(day_of_number(day)?, low(second)));
                }
                None => at = begins + unit,
            }
        }
    }

    fn within_unit(&self, unit: i64, from: u32) -> Option<u32> {
        if let Some(picked) = &self.picked {
            return picked.iter().copied().find(|at| *at >= from);
        }
        let minutes = if unit == 60 { 1 } else { self.times.minutes };
        let times = Times {
            hours: 1,
            minutes,
            ..self.times
        };
        times.next(from)
    }

    /// The first day that matches, from one on.
    fn day_from(&self, date: Date, steps: &mut u32) -> Option<Date> {
        let mut date = date;
        loop {
            *steps = steps.checked_sub(1)?;
            date = self.aligned(date)?;
            let month = Month::of(date)?;
            if self.months >> month.month & 1 == 1 {
                let from = u32::try_from(date.day()).ok()?;
                let days = self.days_in(month) & (u32::MAX << from);
                if days != 0 {
                    return month.date(days.trailing_zeros());
                }
            }
            date = month.next()?.date(1)?;
        }
    }

    /// The first day from one on whose period is one of every so many.
    fn aligned(&self, date: Date) -> Option<Date> {
        if self.interval == 1 {
            return Some(date);
        }
        let start = self.start.date();
        let ahead = |past: i64| (self.interval - past.rem_euclid(self.interval)) % self.interval;
        match self.frequency {
            Frequency::Yearly => {
                let years = ahead(i64::from(date.year()) - i64::from(start.year()));
                if years == 0 {
                    return Some(date);
                }
                let year = i16::try_from(i64::from(date.year()).checked_add(years)?).ok()?;
                Date::new(year, 1, 1).ok()
            }
            Frequency::Monthly => {
                let number = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
                let months = ahead(number(date) - number(start));
                if months == 0 {
                    return Some(date);
                }
                let at = number(date).checked_add(months)?;
                let month = i8::try_from(at.rem_euclid(12) + 1).ok()?;
                Date::new(i16::try_from(at.div_euclid(12)).ok()?, month, 1).ok()
            }
            Frequency::Weekly => {
                let weeks = ahead((self.week(date) - self.week(start)) / 7);
                if weeks == 0 {
                    return Some(date);
                }
                day_of_number(self.week(date).checked_add(weeks.checked_mul(7)?)?)
            }
            Frequency::Daily => {
                let number = day_number(date);
                day_of_number(number.checked_add(ahead(number - day_number(start)))?)
            }
            _ => Some(date),
        }
    }

    /// The number of the first day of the week that a date is in.
    fn week(&self, date: Date) -> i64 {
        let weekday = i64::from(date.weekday().to_sunday_zero_offset());
        day_number(date) - (weekday - self.week_start).rem_euclid(7)
    }

    /// The days of a month that match, if its year and month do.
    fn days_in(&self, month: Month) -> u32 {
        let mut days = month.all();
        if self.month_days | self.month_days_back != 0 {
            let back = (1..=month.length)
                .filter(|back| self.month_days_back >> back & 1 == 1)
                .fold(0, |set, back| set | month.back_from_end(back));
            days &= self.month_days | back;
        }
        if self.weekdays != 0 || !self.nth_weekdays.is_empty() {
            days &= self
                .nth_weekdays
                .iter()
                .fold(month.on_weekdays(self.weekdays), |set, (nth, weekday)| {
                    set | self.nth(month, i64::from(*nth), *weekday)
                });
        }
        if !self.year_days.is_empty() {
            days &= self.of_year(month);
        }
        if !self.weeks.is_empty() {
            days &= self.of_weeks(month);
        }
        if self.interval > 1 && matches!(self.frequency, Frequency::Daily | Frequency::Weekly) {
            days &= self.every_so_many(month);
        }
        days
    }

    fn every_so_many(&self, month: Month) -> u32 {
        let Some(first) = month.date(1) else { return 0 };
        let (first, start) = (day_number(first), self.start.date());
        // The number of day 0, and of the day or week that all others are counted from.
        let (zero, weekly) = (first - 1, self.frequency == Frequency::Weekly);
        let origin = if weekly {
            self.week(start)
        } else {
            day_number(start)
        };
        (1..=month.length)
            .filter(|day| {
                let past = zero + i64::from(*day) - origin;
                let periods = if weekly { past.div_euclid(7) } else { past };
                periods.rem_euclid(self.interval) == 0
            })
            .fold(0, |set, day| set | 1 << day)
    }

    /// The nth such weekday of the month, or of the year.
    fn nth(&self, month: Month, nth: i64, weekday: u32) -> u32 {
        if self.nth_in_month {
            return month.nth(weekday, i32::try_from(nth).unwrap_or(0));
        }
        let (Some(before), length) = (days_before(month), year_length(month.year)) else {
            return 0;
        };
        // The first such weekday of the year, by the weekday of the first day of this month.
        let new_year = (i64::from(month.weekday_of(1)) - before).rem_euclid(7);
        let first = 1 + (i64::from(weekday) - new_year).rem_euclid(7);
        let many = (length - first) / 7 + 1;
        let number = if nth > 0 { nth } else { many + 1 + nth };
        if number < 1 || number > many {
            return 0;
        }
        one_day(month, first + (number - 1) * 7 - before)
    }

    fn of_year(&self, month: Month) -> u32 {
        let (Some(before), length) = (days_before(month), year_length(month.year)) else {
            return 0;
        };
        self.year_days.iter().fold(0, |set, day| {
            let day = i64::from(*day);
            let day = if day > 0 { day } else { length + 1 + day };
            set | one_day(month, day - before)
        })
    }

    /// Days in the weeks of the year that BYWEEKNO names: week 1 is the first with four days in the year.
    fn of_weeks(&self, month: Month) -> u32 {
        let first_week = |years: i16| -> Option<i64> {
            let year = month.year.checked_add(years)?;
            Some(self.week(Date::new(year, 1, 4).ok()?))
        };
        let (Some(first), Some(this), Some(next)) = (month.date(1), first_week(0), first_week(1))
        else {
            return 0;
        };
        let zero = day_number(first) - 1;
        let matches = |day: u32| -> Option<bool> {
            let at = zero + i64::from(day);
            let (begins, ends) = if at < this {
                (first_week(-1)?, this)
            } else if at >= next {
                (next, first_week(2)?)
            } else {
                (this, next)
            };
            let (number, many) = ((at - begins) / 7 + 1, (ends - begins) / 7);
            Some(self.weeks.iter().any(|wanted| match i64::from(*wanted) {
                back if back < 0 => number == many + 1 + back,
                wanted => number == wanted,
            }))
        };
        (1..=month.length)
            .filter(|day| matches(*day).unwrap_or(false))
            .fold(0, |set, day| set | 1 << day)
    }

    /// BYSETPOS: the matches of a whole week, month or year are numbered, and some of them picked.
    fn next_position(&self, from: DateTime, steps: &mut u32) -> Option<DateTime> {
        let mut date = self.period_of(from.date())?;
        loop {
            date = self.period_of(self.aligned(date)?)?;
            let ends = self.period_after(date);
            let mut days: Vec<(Month, u32)> = Vec::new();
            let mut month = Month::of(date)?;
            loop {
                *steps = steps.checked_sub(1)?;
                days.push((month, self.days_of_period(month, date, ends)));
                let next = month.next().filter(|next| {
                    let first = next.date(1);
                    ends.is_none_or(|ends| first.is_some_and(|first| first < ends))
                });
                match next {
                    Some(next) => month = next,
                    None => break,
                }
            }
            let (times, many) = (self.times.count(), |set: u32| set.count_ones());
            let total = days.iter().map(|(_, set)| many(*set)).sum::<u32>() * times;
            let found = self
                .positions
                .iter()
                .filter_map(|position| {
                    let number = at_position(*position, total)?;
                    let mut day = number.checked_div(times)?;
                    for (month, set) in &days {
                        if day < many(*set) {
                            let date = month.date(nth_bit(u64::from(*set), day)?)?;
                            return Some(at_second(date, self.times.nth(number % times)?));
                        }
                        day -= many(*set);
                    }
                    None
                })
                .filter(|found| *found >= from)
                .min();
            if found.is_some() {
                return found;
            }
            date = ends?;
        }
    }

    fn days_of_period(&self, month: Month, begins: Date, ends: Option<Date>) -> u32 {
        if self.months >> month.month & 1 == 0 {
            return 0;
        }
        let mut days = self.days_in(month);
        if self.frequency == Frequency::Weekly {
            for day in 1..=month.length {
                let date = month.date(day);
                if date.is_none_or(|date| date < begins || ends.is_some_and(|ends| date >= ends)) {
                    days &= !(1 << day);
                }
            }
        }
        days
    }

    /// The first day of the week, month or year that a date is in.
    fn period_of(&self, date: Date) -> Option<Date> {
        match self.frequency {
            Frequency::Yearly => Date::new(date.year(), 1, 1).ok(),
            Frequency::Monthly => Some(date.first_of_month()),
            _ => day_of_number(self.week(date)),
        }
    }

    fn period_after(&self, begins: Date) -> Option<Date> {
        match self.frequency {
            Frequency::Yearly => Date::new(begins.year().checked_add(1)?, 1, 1).ok(),
            Frequency::Monthly => Month::of(begins)?.next()?.date(1),
            _ => day_of_number(day_number(begins) + 7),
        }
    }
}

/// The number, from 0, of what BYSETPOS calls 1 (the first) or -1 (the last).
fn at_position(position: i32, total: u32) -> Option<u32> {
    let number = match u32::try_from(position) {
        Ok(forward) => forward.checked_sub(1)?,
        Err(_) => total.checked_sub(position.unsigned_abs())?,
    };
    (number < total).then_some(number)
}

fn one_day(month: Month, day: i64) -> u32 {
    match u32::try_from(day) {
        Ok(day) if (1..=month.length).contains(&day) => 1 << day,
        _ => 0,
    }
}

fn days_before(month: Month) -> Option<i64> {
    Some(i64::from(month.date(1)?.day_of_year()) - 1)
}

fn year_length(year: i16) -> i64 {
    Date::new(year, 1, 1).map_or(365, |date| i64::from(date.days_in_year()))
}
