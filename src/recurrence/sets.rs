//! Days of a month and times of a day, as sets of bits.

use jiff::civil::Date;

/// A month, and which of its days is what. Sets of its days have bit 1 for the first. Sunday is weekday 0.
#[derive(Clone, Copy, Debug)]
pub struct Month {
    pub year: i16,
    pub month: i8,
    pub length: u32,
    first: u32,
}

impl Month {
    pub fn new(year: i16, month: i8) -> Option<Month> {
        let first = Date::new(year, month, 1).ok()?;
        Some(Month {
            year,
            month,
            length: u32::try_from(first.days_in_month()).unwrap_or(28),
            first: u32::try_from(first.weekday().to_sunday_zero_offset()).unwrap_or(0),
        })
    }

    pub fn of(date: Date) -> Option<Month> {
        Month::new(date.year(), date.month())
    }

    pub fn next(self) -> Option<Month> {
        match self.month {
            12 => Month::new(self.year.checked_add(1)?, 1),
            month => Month::new(self.year, month + 1),
        }
    }

    pub fn all(self) -> u32 {
        ((1_u64 << (self.length + 1)) - 2) as u32
    }

    pub fn date(self, day: u32) -> Option<Date> {
        Date::new(self.year, self.month, i8::try_from(day).ok()?).ok()
    }

    pub fn weekday_of(self, day: u32) -> u32 {
        (self.first + day + 6) % 7
    }

    /// All Mondays, say.
    pub fn on_weekday(self, weekday: u32) -> u32 {
        const EVERY_SEVENTH: u32 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;
        (EVERY_SEVENTH << (1 + (weekday + 7 - self.first) % 7)) & self.all()
    }

    pub fn on_weekdays(self, weekdays: u8) -> u32 {
        (0..7)
            .filter(|weekday| weekdays >> weekday & 1 == 1)
            .fold(0, |days, weekday| days | self.on_weekday(weekday))
    }

    /// The second Monday (2), the last one (-1).
    pub fn nth(self, weekday: u32, nth: i32) -> u32 {
        let first = 1 + (weekday + 7 - self.first) % 7;
        let many = (self.length - first) / 7 + 1;
        let at = match u32::try_from(nth) {
            Ok(forward) => forward,
            Err(_) => (many + 1).saturating_sub(nth.unsigned_abs()),
        };
        if at == 0 || at > many {
            return 0;
        }
        1 << (first + (at - 1) * 7)
    }

    /// The last day (1), the one before it (2).
    pub fn back_from_end(self, back: u32) -> u32 {
        match self.length.checked_sub(back) {
            Some(before) if back > 0 => 1 << (before + 1),
            _ => 0,
        }
    }

    /// The day from Monday to Friday that is nearest to a day, in the same month.
    pub fn nearest_workday(self, day: u32) -> u32 {
        if day == 0 || day > self.length {
            return 0;
        }
        let nearest = match self.weekday_of(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        };
        1 << nearest
    }
}

/// The smallest member of a set that is not below `from`.
pub fn next_bit(set: u64, from: u32) -> Option<u32> {
    let rest = set.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

/// Every combination of an hour, a minute and a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub hours: u32,
    pub minutes: u64,
    pub seconds: u64,
}

impl Times {
    /// The first that is not before this second of the day.
    pub fn next(self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let at_hour = next_bit(u64::from(self.hours), hour)?;
        if at_hour == hour {
            let within = next_bit(self.minutes, minute).and_then(|at_minute| {
                if at_minute == minute {
                    if let Some(at) = next_bit(self.seconds, second) {
                        return Some(minute * 60 + at);
                    }
                    let later = next_bit(self.minutes, minute + 1)?;
                    return Some(later * 60 + self.seconds.trailing_zeros());
                }
                Some(at_minute * 60 + self.seconds.trailing_zeros())
            });
            if let Some(within) = within {
                return Some(hour * 3600 + within);
            }
            let later = next_bit(u64::from(self.hours), hour + 1)?;
            return Some(later * 3600 + self.first_in_hour());
        }
        Some(at_hour * 3600 + self.first_in_hour())
    }

    fn first_in_hour(self) -> u32 {
        self.minutes.trailing_zeros() * 60 + self.seconds.trailing_zeros()
    }

    /// How many there are in a day.
    pub fn count(self) -> u32 {
        self.hours.count_ones() * self.minutes.count_ones() * self.seconds.count_ones()
    }

    /// The one with this number, the first being 0.
    pub fn nth(self, number: u32) -> Option<u32> {
        let seconds = self.seconds.count_ones();
        let in_hour = self.minutes.count_ones() * seconds;
        let hour = nth_bit(u64::from(self.hours), number.checked_div(in_hour)?)?;
        let minute = nth_bit(self.minutes, number % in_hour / seconds)?;
        let second = nth_bit(self.seconds, number % seconds)?;
        Some(hour * 3600 + minute * 60 + second)
    }
}

pub fn nth_bit(mut set: u64, number: u32) -> Option<u32> {
    for _ in 0..number {
        set &= set.wrapping_sub(1);
    }
    (set != 0).then(|| set.trailing_zeros())
}
