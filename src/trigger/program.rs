//! What is left to be checked of a candidate, as a few words: an instruction tests one attribute, and jumps.
//!
//! | Word | Bits | |
//! |:--|:--|:--|
//! | first | 0–3 | what is tested |
//! | | 4 | negated |
//! | | 5 | jump when true, else when false |
//! | | 6 | all depends on it |
//! | | 7 | a rule may wait under each of its keys |
//! | | 8–23 | attribute |
//! | | 24–31 | words to jump over; 255 ends the program: accepted when true, rejected when false |
//! | next | | a key, a test, a count of keys and the keys, or two floats of one word or of two |
//!
//! Falling off the end accepts. What only the judge knows passes, and the answer is then [`Verdict::Ask`].

use super::attributes::Attribute;
use super::dictionary::KeyId;

pub(crate) const EQUAL: u32 = 0;
pub(crate) const AMONG: u32 = 1;
pub(crate) const BETWEEN: u32 = 2;
pub(crate) const TEST: u32 = 3;
pub(crate) const JUDGE: u32 = 4;
/// As [`BETWEEN`], where both ends fit into half as many bits.
const BETWEEN_SHORT: u32 = 5;
const NEGATED: u32 = 1 << 4;
const ON_TRUE: u32 = 1 << 5;
const MUST: u32 = 1 << 6;
const EACH: u32 = 1 << 7;
/// With more keys a rule waits under none of them, so that there are not too many copies of it.
pub(crate) const FEW: usize = 4;
const END: u32 = 255;

/// The number of a text or other test.
pub(crate) type TestId = u32;

/// A formula whose attributes and constants have numbers.
#[derive(Clone, Debug)]
pub(crate) enum Numbered {
    And(Vec<Numbered>),
    Or(Vec<Numbered>),
    Leaf {
        attribute: Attribute,
        ask: AskNumber,
        negated: bool,
        /// There is always one value, or None.
        single: bool,
    },
    Judge,
}

#[derive(Clone, Debug)]
pub(crate) enum AskNumber {
    Among(Vec<KeyId>),
    Between(f64, f64),
    Test(TestId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    No,
    Yes,
    Ask,
}

impl Numbered {
    /// Whether it is an equality with one constant.
    pub fn is_equality(&self) -> bool {
        matches!(self, Numbered::Leaf { ask: AskNumber::Among(keys), negated: false, .. } if keys.len() == 1)
    }
}

/// How one test of an event came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tested {
    False,
    True,
    /// The judge must say.
    Unknown,
}

impl Tested {
    pub fn of(truth: bool) -> Tested {
        if truth { Tested::True } else { Tested::False }
    }
}

/// What a program asks of an event.
pub(crate) trait Answers {
    fn equals(&mut self, attribute: Attribute, key: KeyId) -> bool;
    fn among(&mut self, attribute: Attribute, keys: &[KeyId]) -> bool;
    fn between(&mut self, attribute: Attribute, first: f64, last: f64) -> Tested;
    fn test(&mut self, attribute: Attribute, test: TestId) -> Tested;
}

/// The program of an "and" of parts; nothing where its jumps would be too long.
pub(crate) fn write(parts: &[Numbered]) -> Option<Vec<u32>> {
    let mut writer = Writer::default();
    for part in parts {
        let next = writer.label();
        writer.node(part, next, REJECTED, next, true);
        writer.place(next);
    }
    writer.finish()
}

type Label = usize;
const ACCEPTED: Label = 0;
const REJECTED: Label = 1;

#[derive(Default)]
struct Writer {
    code: Vec<u32>,
    /// Where each label stands; the first two stand nowhere.
    places: Vec<usize>,
    jumps: Vec<(usize, usize, Label)>,
}

impl Writer {
    fn label(&mut self) -> Label {
        self.places.resize(self.places.len().max(2) + 1, 0);
        self.places.len() - 1
    }

    fn place(&mut self, label: Label) {
        let here = self.code.len();
        if let Some(place) = self.places.get_mut(label) {
            *place = here;
        }
    }

    /// `next` is what comes after, and one of `yes` and `no`.
    fn node(&mut self, node: &Numbered, yes: Label, no: Label, next: Label, must: bool) {
        match node {
            Numbered::And(parts) | Numbered::Or(parts) => {
                let and = matches!(node, Numbered::And(_));
                let Some((last, before)) = parts.split_last() else {
                    return;
                };
                for part in before {
                    let after = self.label();
                    match and {
                        true => self.node(part, after, no, after, false),
                        false => self.node(part, yes, after, after, false),
                    }
                    self.place(after);
                }
                self.node(last, yes, no, next, false);
            }
            Numbered::Leaf {
                attribute,
                ask,
                negated,
                single,
            } => {
                let start = self.code.len();
                let mut first = u32::from(*attribute) << 8;
                first |= if *negated { NEGATED } else { 0 };
                first |= if next == no { ON_TRUE } else { 0 };
                first |= if must && !negated { MUST } else { 0 };
                match ask {
                    AskNumber::Among(keys) => match keys.as_slice() {
                        [key] => self.code.extend([first | EQUAL, *key]),
                        keys => {
                            if *single && keys.len() <= FEW {
                                first |= EACH;
                            }
                            #[allow(clippy::cast_possible_truncation)] // a query is short
                            self.code.extend([first | AMONG, keys.len() as u32]);
                            self.code.extend(keys);
                        }
                    },
                    AskNumber::Between(from, to) => {
                        if let (Some(from), Some(to)) = (short(*from), short(*to)) {
                            self.code.extend([first | BETWEEN_SHORT, from, to]);
                        } else {
                            self.code.push(first | BETWEEN);
                            for float in [from, to] {
                                let bits = float.to_bits();
                                #[allow(clippy::cast_possible_truncation)]
                                self.code.extend([(bits >> 32) as u32, bits as u32]);
                            }
                        }
                    }
                    AskNumber::Test(test) => self.code.extend([first | TEST, *test]),
                }
                let target = if next == no { yes } else { no };
                self.jumps.push((start, self.code.len(), target));
            }
            Numbered::Judge => {
                let start = self.code.len();
                let on = if next == no { ON_TRUE } else { 0 };
                self.code.push(JUDGE | on);
                let target = if next == no { yes } else { no };
                self.jumps.push((start, self.code.len(), target));
            }
        }
    }

    fn finish(mut self) -> Option<Vec<u32>> {
        for (start, end, label) in self.jumps {
            let over = match label {
                ACCEPTED | REJECTED => END,
                label => {
                    let over = self.places.get(label)?.checked_sub(end)?;
                    u32::try_from(over).ok().filter(|over| *over < END)?
                }
            };
            *self.code.get_mut(start)? |= over << 24;
        }
        Some(self.code)
    }
}

fn attribute_of(word: u32) -> Attribute {
    #[allow(clippy::cast_possible_truncation)]
    {
        (word >> 8) as Attribute
    }
}

/// How long the instruction is that begins the code.
fn length(code: &[u32]) -> usize {
    match code.first().map(|word| word & 15) {
        Some(EQUAL | TEST) => 2,
        Some(AMONG) => 2 + code.get(1).map_or(0, |count| *count as usize),
        Some(BETWEEN) => 5,
        Some(BETWEEN_SHORT) => 3,
        _ => 1,
    }
}

/// The bits of a float in one word, if it is the same there.
fn short(float: f64) -> Option<u32> {
    #[allow(clippy::cast_possible_truncation)]
    let short = float as f32;
    (f64::from(short).to_bits() == float.to_bits()).then_some(short.to_bits())
}

fn float(high: u32, low: u32) -> f64 {
    f64::from_bits(u64::from(high) << 32 | u64::from(low))
}

/// Runs a program.
#[inline(always)]
pub(crate) fn run(code: &[u32], event: &mut impl Answers) -> Verdict {
    let mut rest = code;
    let mut verdict = Verdict::Yes;
    while let [word, arguments @ ..] = rest {
        let word = *word;
        let attribute = attribute_of(word);
        let tested = match (word & 15, arguments) {
            (EQUAL, [key, after @ ..]) => {
                rest = after;
                Tested::of(event.equals(attribute, *key))
            }
            (AMONG, [count, keys @ ..]) => {
                let (keys, after) = keys.split_at_checked(*count as usize).unwrap_or((&[], &[]));
                rest = after;
                Tested::of(event.among(attribute, keys))
            }
            (BETWEEN_SHORT, [a, b, after @ ..]) => {
                rest = after;
                let (first, last) = (f32::from_bits(*a), f32::from_bits(*b));
                event.between(attribute, first.into(), last.into())
            }
            (BETWEEN, [a, b, c, d, after @ ..]) => {
                rest = after;
                event.between(attribute, float(*a, *b), float(*c, *d))
            }
            (TEST, [test, after @ ..]) => {
                rest = after;
                event.test(attribute, *test)
            }
            _ => {
                rest = arguments;
                Tested::Unknown
            }
        };
        let truth = match tested {
            Tested::Unknown => {
                verdict = Verdict::Ask;
                true
            }
            tested => (tested == Tested::True) != (word & NEGATED != 0),
        };
        if truth == (word & ON_TRUE != 0) {
            match word >> 24 {
                END if truth => break,
                END => return Verdict::No,
                over => rest = rest.get(over as usize..).unwrap_or(&[]),
            }
        }
    }
    verdict
}

/// Runs a program, of which the equality that it may begin with is tried first: as a rule all ends there.
#[inline(always)]
pub(crate) fn run_quickly(code: &[u32], event: &mut impl Answers) -> Verdict {
    let rest = match code {
        [word, key, rest @ ..] if word & (15 | MUST) == EQUAL | MUST => {
            if !event.equals(attribute_of(*word), *key) {
                return Verdict::No;
            }
            rest
        }
        code => code,
    };
    run(rest, event)
}

/// What all depends on: attributes of which one value must have one of these keys. Where there are several keys, no value
/// but that one is there.
pub(crate) fn musts(code: &[u32]) -> impl Iterator<Item = (Attribute, &[KeyId])> {
    let mut rest = code;
    std::iter::from_fn(move || {
        while let Some(&word) = rest.first() {
            let (this, after) = rest.split_at_checked(length(rest)).unwrap_or((rest, &[]));
            rest = after;
            let keys = match word & (15 | MUST | EACH) {
                EQUAL_MUST => this.get(1..),
                AMONG_MUST_EACH => this.get(2..),
                _ => None,
            };
            if let Some(keys) = keys {
                return Some((attribute_of(word), keys));
            }
        }
        None
    })
}

const EQUAL_MUST: u32 = EQUAL | MUST;
const AMONG_MUST: u32 = AMONG | MUST;
const AMONG_MUST_EACH: u32 = AMONG | MUST | EACH;

/// Takes out of a program what all depends on and a key has answered.
pub(crate) fn without(code: &mut Vec<u32>, key: KeyId) {
    let mut at = 0;
    while let Some(rest) = code.get(at..).filter(|rest| !rest.is_empty()) {
        let length = length(rest);
        let word = rest.first().copied().unwrap_or_default();
        let keys = match word & (15 | MUST) {
            EQUAL_MUST => rest.get(1..length),
            AMONG_MUST => rest.get(2..length),
            _ => None,
        };
        match keys.is_some_and(|keys| keys.contains(&key)) {
            true => drop(code.drain(at..at + length)),
            false => at += length,
        }
    }
}

/// What waits under each of some keys does so once: its program is split no more by several keys.
pub(crate) fn only_once(code: &mut [u32]) {
    let mut at = 0;
    while let Some(rest) = code.get_mut(at..).filter(|rest| !rest.is_empty()) {
        at += length(rest);
        if let Some(word) = rest.first_mut() {
            *word &= !EACH;
        }
    }
}
