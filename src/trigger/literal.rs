//! Constants that predicates compare with, in a form in which equal is the same bytes.

use std::sync::Arc;

use super::attributes::Reading;
use crate::query::value::{Address, Number, Scalar};

/// A constant; two of one attribute are equal exactly where `=` says so of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Literal {
    None,
    Bool(bool),
    /// The bits of a number that is the same as a float.
    Number(u64),
    /// An int that no float is.
    Large(Box<i128>),
    /// A text that has room here: it need not be looked for elsewhere.
    Short(Short),
    Text(Arc<str>),
    Address(Box<Address>),
}

/// A text of few bytes, with zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Short {
    bytes: [u8; Short::MOST],
    length: u8,
}

impl Short {
    const MOST: usize = 22;

    fn of(text: &str) -> Option<Short> {
        let mut bytes = [0; Short::MOST];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).ok()?;
        Some(Short { bytes, length })
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }
}

/// Up to here, and at its negative, each int is a float.
pub(crate) const EXACT: u64 = 1 << 53;

impl Literal {
    pub fn text(text: &str) -> Literal {
        match Short::of(text) {
            Some(short) => Literal::Short(short),
            None => Literal::Text(text.into()),
        }
    }

    /// A constant as the values of that reading meet it; nothing where a text of the event could be equal to it by what
    /// the text spells.
    pub fn of(scalar: &Scalar<'_>, reading: Reading) -> Option<Literal> {
        let plain = matches!(reading, Reading::Plain | Reading::Folded);
        match scalar {
            Scalar::None => Some(Literal::None),
            Scalar::Bool(truth) => Some(Literal::Bool(*truth)),
            // An instant is kept as the number of its microseconds.
            Scalar::Number(number) if reading != Reading::Instant => {
                Some(Literal::number_of(*number))
            }
            Scalar::Text(text) if plain => Some(Literal::text(text)),
            Scalar::Instant(moment) if reading == Reading::Instant => {
                Some(Literal::int(moment.micros().into()))
            }
            Scalar::Address(address) if reading == Reading::Address => {
                Some(Literal::Address(Box::new(*address)))
            }
            _ => None,
        }
    }

    pub fn number_of(number: Number) -> Literal {
        match number {
            Number::Int(int) => Literal::int(int),
            Number::Float(float) => {
                // Beyond 2^53 a float may equal an int that is written out.
                #[allow(clippy::cast_possible_truncation)]
                if float.fract() == 0.0 && float.abs() > EXACT as f64 && float.abs() < 1e30 {
                    return Literal::Large(Box::new(float as i128));
                }
                Literal::Number((float + 0.0).to_bits())
            }
        }
    }

    pub fn int(int: i128) -> Literal {
        match i64::try_from(int) {
            #[allow(clippy::cast_precision_loss)] // none is lost up to there
            Ok(small) if small.unsigned_abs() <= EXACT => Literal::Number((small as f64).to_bits()),
            _ => Literal::Large(Box::new(int)),
        }
    }

    /// As a float, where it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Literal::Number(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        }
    }
}
