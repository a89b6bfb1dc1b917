//! Values as they meet in a comparison: one meaning of equal, before and after, whatever the values are.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::print;
use super::schema::Kind;
use crate::moment::Moment;

/// One value in a comparison. None is an ordinary value for equality, and has no order.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'a> {
    None,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Instant(Moment),
    Address(Address),
    /// A list or a record, which equals only its like.
    Whole(Cow<'a, Value>),
    /// An object that a relation led to.
    Object,
}

/// A number of JSON or of a query, compared exactly.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

/// An IP address, in an order in which a network is a range. A mapped address is the one that it maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    six: bool,
    bits: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    first: Address,
    last: Address,
}

impl<'a> Scalar<'a> {
    /// A JSON value as a field of that kind holds it. What does not fit the kind stays what it is.
    pub fn read(value: &'a Value, kind: &Kind) -> Scalar<'a> {
        match value {
            Value::Null => Scalar::None,
            Value::Bool(truth) => Scalar::Bool(*truth),
            Value::Number(number) => Number::of(number).map_or(Scalar::None, Scalar::Number),
            Value::String(text) => match kind {
                Kind::Date | Kind::DateTime => instant(text).map(Scalar::Instant),
                Kind::Ip => Address::parse(text).map(Scalar::Address),
                _ => None,
            }
            .unwrap_or(Scalar::Text(Cow::Borrowed(text))),
            // An empty list is None: lists have no third state.
            Value::Array(items) if items.iter().all(Value::is_null) => Scalar::None,
            Value::Array(_) | Value::Object(_) => Scalar::Whole(Cow::Borrowed(value)),
        }
    }

    /// The same value without a copy of its text.
    pub fn lend(&self) -> Scalar<'_> {
        match self {
            Scalar::Text(text) => Scalar::Text(Cow::Borrowed(text)),
            Scalar::Whole(value) => Scalar::Whole(Cow::Borrowed(value)),
            other => other.clone(),
        }
    }

    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Scalar::None => Scalar::None,
            Scalar::Bool(truth) => Scalar::Bool(truth),
            Scalar::Number(number) => Scalar::Number(number),
            Scalar::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
            Scalar::Instant(moment) => Scalar::Instant(moment),
            Scalar::Address(address) => Scalar::Address(address),
            Scalar::Whole(value) => Scalar::Whole(Cow::Owned(value.into_owned())),
            Scalar::Object => Scalar::Object,
        }
    }

    /// Equal as `=` means it: None equals None, and nothing equals what is of another type.
    pub fn same(&self, other: &Scalar<'_>) -> bool {
        match (self, other) {
            (Scalar::None, Scalar::None) => true,
            (Scalar::Bool(a), Scalar::Bool(b)) => a == b,
            (Scalar::Whole(a), Scalar::Whole(b)) => alike(a, b),
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }

    /// The order of two values that have one: numbers, strings by code point, instants, addresses.
    pub fn order(&self, other: &Scalar<'_>) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Number(a), Scalar::Number(b)) => a.order(*b),
            (Scalar::Text(a), Scalar::Text(b)) => Some(a.as_ref().cmp(b.as_ref())),
            (Scalar::Instant(a), Scalar::Instant(b)) => Some(a.cmp(b)),
            (Scalar::Address(a), Scalar::Address(b)) => Some(a.cmp(b)),
            // A string meets these as what it spells, if it spells one.
            (Scalar::Text(a), Scalar::Instant(b)) => Some(instant(a)?.cmp(b)),
            (Scalar::Instant(a), Scalar::Text(b)) => Some(a.cmp(&instant(b)?)),
            (Scalar::Text(a), Scalar::Address(b)) => Some(Address::parse(a)?.cmp(b)),
            (Scalar::Address(a), Scalar::Text(b)) => Some(a.cmp(&Address::parse(b)?)),
            _ => None,
        }
    }

    pub fn address(&self) -> Option<Address> {
        match self {
            Scalar::Address(address) => Some(*address),
            Scalar::Text(text) => Address::parse(text),
            _ => None,
        }
    }

    pub fn moment(&self) -> Option<Moment> {
        match self {
            Scalar::Instant(moment) => Some(*moment),
            Scalar::Text(text) => instant(text),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::None => f.write_str("None"),
            Scalar::Bool(true) => f.write_str("True"),
            Scalar::Bool(false) => f.write_str("False"),
            Scalar::Number(Number::Int(number)) => write!(f, "{number}"),
            Scalar::Number(Number::Float(number)) => f.write_str(&print::decimal(*number)),
            Scalar::Text(text) => f.write_str(&print::quoted(text)),
            Scalar::Instant(moment) => write!(f, "{moment}"),
            Scalar::Address(address) => write!(f, "{address}"),
            Scalar::Whole(value) => write!(f, "{value}"),
            Scalar::Object => f.write_str("an object"),
        }
    }
}

impl Number {
    pub fn of(number: &serde_json::Number) -> Option<Number> {
        if let Some(int) = number.as_i64() {
            return Some(Number::Int(i128::from(int)));
        }
        if let Some(int) = number.as_u64() {
            return Some(Number::Int(i128::from(int)));
        }
        number.as_f64().filter(|n| !n.is_nan()).map(Number::Float)
    }

    /// By value, exactly: no int is rounded to meet a decimal.
    pub fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
            (Number::Int(a), Number::Float(b)) => int_to_float(a, b),
            (Number::Float(a), Number::Int(b)) => int_to_float(b, a).map(Ordering::reverse),
        }
    }
}

fn int_to_float(int: i128, float: f64) -> Option<Ordering> {
    // Beyond this no 64-bit int reaches, and below it a float's whole part is exact as an i128.
    const FAR: f64 = 1e30;
    if float.is_nan() {
        return None;
    }
    if float.abs() >= FAR {
        return Some(if float > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        });
    }
    #[allow(clippy::cast_possible_truncation)]
    let whole = float.trunc() as i128;
    let rest = if float.fract() > 0.0 {
        Ordering::Less
    } else if float.fract() < 0.0 {
        Ordering::Greater
    } else {
        Ordering::Equal
    };
    Some(int.cmp(&whole).then(rest))
}

/// Whether two JSON values are the same: numbers by value, absent and null alike.
pub(crate) fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (Number::of(a), Number::of(b)) {
            (Some(a), Some(b)) => a.order(b) == Some(Ordering::Equal),
            _ => false,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let missing = |value: Option<&Value>| value.is_none_or(Value::is_null);
            a.iter().all(|(name, value)| {
                b.get(name)
                    .map_or(value.is_null(), |other| alike(value, other))
            }) && b
                .iter()
                .all(|(name, value)| !missing(a.get(name)) || value.is_null())
        }
        _ => a == b,
    }
}

impl Address {
    /// What tells it from all others.
    pub fn bytes(self) -> [u8; 17] {
        let mut all = [u8::from(self.six); 17];
        for (place, byte) in all.iter_mut().zip(self.bits.to_le_bytes()) {
            *place = byte;
        }
        all
    }

    pub fn parse(text: &str) -> Option<Address> {
        text.parse::<IpAddr>().ok().map(Address::of)
    }

    fn of(address: IpAddr) -> Address {
        match address.to_canonical() {
            IpAddr::V4(four) => Address {
                six: false,
                bits: u128::from(u32::from(four)),
            },
            IpAddr::V6(six) => Address {
                six: true,
                bits: u128::from(six),
            },
        }
    }

    fn width(self) -> u32 {
        if self.six { 128 } else { 32 }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.bits) {
            Ok(bits) if !self.six => write!(f, "{}", Ipv4Addr::from(bits)),
            _ => write!(f, "{}", Ipv6Addr::from(self.bits)),
        }
    }
}

/// Why a text is not a network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoNetwork {
    Address,
    Prefix { most: u32 },
    HostBits { network: String, single: String },
}

impl Network {
    /// "10.0.0.0/8", or one address. Host bits must be clear: what was meant is not guessed.
    pub fn parse(text: &str) -> Result<Network, NoNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NoNetwork::Address)?;
        let mapped = matches!(written, IpAddr::V6(_)) && written.to_canonical().is_ipv4();
        let address = Address::of(written);
        let most = if mapped { 128 } else { address.width() };
        let wrong = NoNetwork::Prefix { most };
        let mut length = match prefix {
            None => most,
            Some(digits)
                if !digits.is_empty()
                    && digits.len() <= 3
                    && digits.bytes().all(|b| b.is_ascii_digit()) =>
            {
                digits.parse().map_err(|_| wrong)?
            }
            Some(_) => return Err(wrong),
        };
        if length > most {
            return Err(NoNetwork::Prefix { most });
        }
        if mapped {
            // A network of mapped addresses; a shorter prefix reaches beyond them and is no IPv4 network.
            length = length
                .checked_sub(96)
                .ok_or(NoNetwork::Prefix { most: 128 })?;
        }
        let free = address.width() - length;
        let host = u128::MAX.checked_shr(128 - free).unwrap_or(0);
        let first = Address {
            bits: address.bits & !host,
            ..address
        };
        if first != address {
            return Err(NoNetwork::HostBits {
                network: format!("{first}/{length}"),
                single: format!("{address}/{}", address.width()),
            });
        }
        let last = Address {
            bits: address.bits | host,
            ..address
        };
        Ok(Network { first, last })
    }

    pub fn holds(&self, address: Address) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// The instant that a text spells: a date (its midnight), a date and a time in UTC, or RFC 3339 with a zone.
pub(crate) fn instant(text: &str) -> Option<Moment> {
    stretch(text)
        .ok()
        .filter(|stretch| stretch.grain >= Grain::Day)
        .map(|stretch| stretch.first)
}

/// How finely a text names a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grain {
    Year,
    Month,
    Day,
    Minute,
    Second,
}

/// A year, month, day, minute or second: from its first to its last microsecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub first: Moment,
    pub last: Moment,
    pub grain: Grain,
}

const DAY: i64 = 86_400_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, a time behind it, and a zone behind that. The error says what is wrong.
pub(crate) fn stretch(text: &str) -> Result<Stretch, String> {
    let mut digits = Digits { rest: text };
    let unlike = || "not written like a date".to_owned();
    let year = digits.take(4).ok_or_else(unlike)?;
    if year == 0 {
        return Err("years go from 0001 to 9999".to_owned());
    }
    if digits.rest.is_empty() {
        return Ok(between(
            days(year, 1, 1) * DAY,
            days(year + 1, 1, 1) * DAY,
            Grain::Year,
        ));
    }
    digits.sign("-").ok_or_else(unlike)?;
    let month = digits.take(2).ok_or_else(unlike)?;
    let name = usize::try_from(month - 1)
        .ok()
        .and_then(|index| MONTHS.get(index))
        .ok_or("months go from 01 to 12")?;
    let next = if month == 12 {
        days(year + 1, 1, 1)
    } else {
        days(year, month + 1, 1)
    };
    if digits.rest.is_empty() {
        return Ok(between(
            days(year, month, 1) * DAY,
            next * DAY,
            Grain::Month,
        ));
    }
    digits.sign("-").ok_or_else(unlike)?;
    let day = digits.take(2).ok_or_else(unlike)?;
    let length = next - days(year, month, 1);
    if day == 0 || day > length {
        return Err(format!("{name} {year} has {length} days"));
    }
    let midnight = days(year, month, day) * DAY;
    if digits.rest.is_empty() {
        return Ok(between(midnight, midnight + DAY, Grain::Day));
    }
    time(digits, midnight)
}

fn time(mut digits: Digits<'_>, midnight: i64) -> Result<Stretch, String> {
    let unlike = || "not written like a timestamp".to_owned();
    let letter = digits.sign("T").or_else(|| digits.sign("t")).is_some();
    if !letter {
        digits.sign(" ").ok_or_else(unlike)?;
    }
    let hour = digits.take(2).ok_or_else(unlike)?;
    digits.sign(":").ok_or_else(unlike)?;
    let minute = digits.take(2).ok_or_else(unlike)?;
    if hour > 23 {
        return Err("hours go from 00 to 23".to_owned());
    }
    if minute > 59 {
        return Err("minutes go from 00 to 59".to_owned());
    }
    let mut micros = midnight + (hour * 60 + minute) * 60_000_000;
    if digits.rest.is_empty() && !letter {
        return Ok(between(micros, micros + 60_000_000, Grain::Minute));
    }
    digits.sign(":").ok_or_else(unlike)?;
    let second = digits.take(2).ok_or_else(unlike)?;
    if second > 59 {
        return Err("seconds go from 00 to 59".to_owned());
    }
    micros += second * 1_000_000;
    if digits.rest.is_empty() && !letter {
        return Ok(between(micros, micros + 1_000_000, Grain::Second));
    }
    let fraction = match digits.sign(".") {
        Some(()) => digits.fraction().ok_or_else(unlike)?,
        None => 0,
    };
    let zone = digits
        .zone()
        .ok_or("a timestamp with `T` or a fraction needs a zone, as in \"2025-02-28T12:00:00Z\"")?;
    if !digits.rest.is_empty() {
        return Err(unlike());
    }
    let from = micros + fraction - zone * 60_000_000;
    let until = if fraction == 0 {
        from + 1_000_000
    } else {
        from + 1
    };
    Ok(between(from, until, Grain::Second))
}

fn between(from: i64, until: i64, grain: Grain) -> Stretch {
    Stretch {
        first: Moment::from_micros(from),
        last: Moment::from_micros(until - 1),
        grain,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that a leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

struct Digits<'a> {
    rest: &'a str,
}

impl Digits<'_> {
    /// A number of exactly that many digits.
    fn take(&mut self, count: usize) -> Option<i64> {
        let digits = self.rest.get(..count)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.rest = self.rest.get(count..)?;
        digits.parse().ok()
    }

    fn sign(&mut self, sign: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(sign)?;
        Some(())
    }

    /// Digits behind the point as microseconds; finer ones are cut off.
    fn fraction(&mut self) -> Option<i64> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = self.rest.strip_suffix(rest)?;
        if digits.is_empty() {
            return None;
        }
        let micros: String = digits.chars().chain("000000".chars()).take(6).collect();
        self.rest = rest;
        micros.parse().ok()
    }

    /// Minutes east of UTC.
    fn zone(&mut self) -> Option<i64> {
        if self.sign("Z").or_else(|| self.sign("z")).is_some() {
            return Some(0);
        }
        let east = self.sign("+").is_some();
        if !east {
            self.sign("-")?;
        }
        let hours = self.take(2).filter(|hours| *hours < 24)?;
        self.sign(":")?;
        let minutes = self.take(2).filter(|minutes| *minutes < 60)?;
        let total = hours * 60 + minutes;
        Some(if east { total } else { -total })
    }
}
