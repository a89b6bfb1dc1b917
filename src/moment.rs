//! An instant in UTC microseconds, and a length of time. The only reader of the wall clock.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant: microseconds since 1970 in UTC. Finer parts are cut off when read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

/// A length of time in microseconds; never negative when it was read from text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

/// The last instant that is accepted: the end of the year 9999.
const LATEST: i64 = 253_402_300_799_999_999;
/// The first instant that is accepted: the start of the year 1.
const EARLIEST: i64 = -62_135_596_800_000_000;

impl Moment {
    pub const EPOCH: Moment = Moment(0);

    /// The wall clock. Floors 0 and 1 take a `Moment` as a value and never call this.
    pub fn now() -> Moment {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment(
            i64::try_from(since.as_micros())
                .unwrap_or(LATEST)
                .min(LATEST),
        )
    }

    /// From microseconds since 1970, held within the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Moment {
        Moment(micros.clamp(EARLIEST, LATEST))
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 (`2026-11-21T09:30:00Z`, any offset, any fraction).
    pub fn parse(text: &str) -> Result<Moment, String> {
        text.parse::<jiff::Timestamp>()
            .map(|stamp| Moment::from_micros(stamp.as_microsecond()))
            .map_err(|wrong| {
                let flaw = if wrong.is_range() {
                    "no day or time, or later than 9999-12-30T22:00:00Z"
                } else {
                    "not an instant"
                };
                format!("`{text}` is {flaw}; write it as \"2026-11-21T09:30:00Z\"")
            })
    }

    /// Whether a text is written as an instant, and no calendar has such a one.
    pub fn is_beyond(text: &str) -> bool {
        let read = text.parse::<jiff::Timestamp>();
        read.is_err_and(|wrong| wrong.is_range())
    }

    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    pub fn from_timestamp(stamp: jiff::Timestamp) -> Moment {
        Moment::from_micros(stamp.as_microsecond())
    }

    pub fn plus(self, span: Span) -> Moment {
        Moment::from_micros(self.0.saturating_add(span.0))
    }

    pub fn minus(self, span: Span) -> Moment {
        Moment::from_micros(self.0.saturating_sub(span.0))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Moment) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timestamp())
    }
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn seconds(seconds: i64) -> Span {
        Span(seconds * 1_000_000)
    }

    pub const fn from_micros(micros: i64) -> Span {
        Span(micros)
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    pub fn whole_seconds(self) -> i64 {
        self.0 / 1_000_000
    }

    pub fn as_duration(self) -> Duration {
        Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads `90s 15m 1h 2d 1w` (also joined: `1h30m`) or ISO 8601 (`PT15M`). A bare number is refused: it has no unit.
    pub fn parse(text: &str) -> Result<Span, String> {
        let wrong =
            || format!("`{text}` is not a length of time; write it as 90s, 15m, 1h, 2d or 1w");
        let trimmed = text.trim();
        let (body, iso) = match trimmed.strip_prefix(['P', 'p']) {
            Some(rest) => (rest, true),
            None => (trimmed, false),
        };
        if body.is_empty() {
            return Err(wrong());
        }
        let mut total: i64 = 0;
        let mut number = String::new();
        let mut timed = !iso;
        let mut parts = 0;
        for c in body.chars() {
            match c {
                '0'..='9' => number.push(c),
                'T' | 't' if iso && !timed && number.is_empty() => timed = true,
                _ => {
                    let seconds = match c.to_ascii_lowercase() {
                        's' if timed => 1,
                        'm' if timed => 60,
                        'h' if timed => 3600,
                        'd' => 86_400,
                        'w' => 604_800,
                        _ => return Err(wrong()),
                    };
                    let count: i64 = number.parse().map_err(|_| wrong())?;
                    number.clear();
                    parts += 1;
                    total = count
                        .checked_mul(seconds * 1_000_000)
                        .and_then(|part| total.checked_add(part))
                        .ok_or_else(wrong)?;
                }
            }
        }
        if !number.is_empty() || parts == 0 {
            return Err(wrong());
        }
        Ok(Span(total))
    }
}

impl fmt::Display for Span {
    /// The shortest way to write it in the units that `parse` reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000;
        for (size, unit) in [(604_800, 'w'), (86_400, 'd'), (3600, 'h'), (60, 'm')] {
            if seconds > 0 && seconds % size == 0 {
                return write!(f, "{}{unit}", seconds / size);
            }
        }
        write!(f, "{seconds}s")
    }
}

/// The clock that a service goes by: the wall's, corrected to the database's, until a line of input sets it.
#[derive(Debug, Default)]
pub struct Clock {
    offset: AtomicI64,
    /// Microseconds, or nothing where the wall decides.
    fixed: Mutex<Option<Moment>>,
    arrivals: AtomicI64,
}

impl Clock {
    pub fn now(&self) -> Moment {
        let fixed = *self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        fixed.unwrap_or_else(|| {
            Moment::from_micros(
                Moment::now()
                    .micros()
                    .saturating_add(self.offset.load(Relaxed)),
            )
        })
    }

    /// Follows another clock, which said `theirs` just now.
    pub fn follow(&self, theirs: Moment) {
        self.offset.store(
            theirs.micros().saturating_sub(Moment::now().micros()),
            Relaxed,
        );
    }

    /// From now on only calls of this move the clock.
    pub fn fix(&self, now: Moment) {
        *self.fixed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    pub fn is_fixed(&self) -> bool {
        self.fixed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// The number of an arrival: the instant in microseconds, or more, so that numbers strictly rise.
    pub fn next_arrival(&self, now: Moment) -> i64 {
        let mut last = self.arrivals.load(Relaxed);
        loop {
            let next = now.micros().max(last.saturating_add(1));
            match self
                .arrivals
                .compare_exchange_weak(last, next, Relaxed, Relaxed)
            {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }
}
