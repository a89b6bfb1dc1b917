//! What a clock on the wall shows, and the instants at which it does.
//!
//! Cron expressions and rules speak of wall-clock times. Two laws turn these into instants: fixed times happen once
//! whatever the clocks do, and times that follow elapsed time happen at every real instant that matches.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::moment::Moment;

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// What the clock shows, to the second.
pub fn shown(at: Moment, zone: &TimeZone) -> DateTime {
    let wall = zone.to_datetime(at.timestamp());
    wall.with().subsec_nanosecond(0).build().unwrap_or(wall)
}

/// The same; nothing at the very end of time, where clocks show nothing any more.
fn shown_from(at: Moment, zone: &TimeZone) -> Option<DateTime> {
    (Moment::from_timestamp(at.timestamp()) == at).then(|| shown(at, zone))
}

pub fn second_after(wall: DateTime) -> Option<DateTime> {
    wall.checked_add(1.second()).ok()
}

pub fn second_of_day(wall: DateTime) -> u32 {
    let part = |part: i8| u32::try_from(part).unwrap_or(0);
    part(wall.hour()) * 3600 + part(wall.minute()) * 60 + part(wall.second())
}

pub fn at_second(date: Date, second: u32) -> DateTime {
    let part = |number: u32| i8::try_from(number).unwrap_or(0);
    date.at(
        part(second / 3600),
        part(second / 60 % 60),
        part(second % 60),
        0,
    )
}

/// The number of a day; consecutive days have consecutive numbers.
pub fn day_number(date: Date) -> i64 {
    let midnight = jiff::tz::Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(0, |midnight| midnight.as_second().div_euclid(DAY))
}

pub fn day_of_number(number: i64) -> Option<Date> {
    let midnight = Timestamp::from_second(number.checked_mul(DAY)?).ok()?;
    Some(jiff::tz::Offset::UTC.to_datetime(midnight).date())
}

/// The instant of a wall-clock time: on the first pass of a repeated hour, and in a gap the first valid instant after it.
pub fn instant(zone: &TimeZone, wall: DateTime) -> Option<Moment> {
    let stamp = match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok()?,
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok()?,
        AmbiguousOffset::Gap { before, after } => {
            // The change lies between the two readings of a time that the clock never shows.
            let early = after.to_timestamp(wall).ok()?;
            let late = before.to_timestamp(wall).ok()?;
            zone.following(early)
                .take_while(|change| change.timestamp() <= late)
                .find(|change| change.offset() == after)
                .map_or(late, |change| change.timestamp())
        }
    };
    Some(Moment::from_timestamp(stamp))
}

/// The instant of the second pass where the clock shows this twice; else as [`instant`].
pub fn last_instant(zone: &TimeZone, wall: DateTime) -> Option<Moment> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Fold { after, .. } => {
            Some(Moment::from_timestamp(after.to_timestamp(wall).ok()?))
        }
        _ => instant(zone, wall),
    }
}

/// Where the clock shows something for the second time: the first wall-clock time that is new again.
fn repeats_until(zone: &TimeZone, at: Moment) -> Option<DateTime> {
    let now = at.timestamp();
    let AmbiguousOffset::Fold { before, after } =
        zone.to_ambiguous_timestamp(zone.to_datetime(now)).offset()
    else {
        return None;
    };
    if zone.to_offset(now) != after {
        return None;
    }
    let change = zone
        .preceding(now.checked_add(1.nanosecond()).ok()?)
        .next()?
        .timestamp();
    Some(before.to_datetime(change))
}

/// The first instant after `after` of fixed wall-clock times; `next` gives the first of these from one on.
pub fn fixed(
    zone: &TimeZone,
    after: Moment,
    mut next: impl FnMut(DateTime) -> Option<DateTime>,
) -> Option<Moment> {
    let mut from = second_after(shown_from(after, zone)?)?;
    if let Some(new) = repeats_until(zone, after) {
        from = from.max(new);
    }
    loop {
        let wall = next(from)?;
        let instant = instant(zone, wall)?;
        if instant > after {
            return Some(instant);
        }
        from = second_after(wall)?;
    }
}

/// The first real instant after `after` at which the clock shows one of these times.
pub fn elapsed(
    zone: &TimeZone,
    after: Moment,
    mut next: impl FnMut(DateTime) -> Option<DateTime>,
) -> Option<Moment> {
    let mut at = after.timestamp();
    let mut offset = zone.to_offset(at);
    let mut from = second_after(shown_from(after, zone)?)?;
    let mut found = next(from)?;
    loop {
        let instant = offset.to_timestamp(found).ok()?;
        let change = zone
            .following(at)
            .next()
            .filter(|change| change.timestamp() <= instant);
        let Some(change) = change else {
            return Some(Moment::from_timestamp(instant));
        };
        at = change.timestamp();
        offset = change.offset();
        let begins = offset.to_datetime(at);
        // What was found stands, unless the clock went back behind it or jumped over it.
        if begins < from || found < begins {
            found = next(begins)?;
        }
        from = begins;
    }
}
