//! What is read of an event: the attributes that some predicate asks about, as a tree of names.
//!
//! An attribute is a path of names, what it is followed for and how its values are read; each has a number. A name
//! that no predicate asks about is in no branch of the tree, so what stands under it is passed over.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::query::schema::Kind;
use crate::query::tree::{Path, Via};

/// The number of an attribute.
pub(crate) type Attribute = u16;

/// How the texts of an attribute are read, as the type of the field has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    Plain,
    /// A–Z as a–z.
    Folded,
    Instant,
    Address,
}

impl Reading {
    pub fn of(kind: &Kind, folded: bool) -> Option<Reading> {
        match (kind, folded) {
            (Kind::Date | Kind::DateTime, false) => Some(Reading::Instant),
            (Kind::Ip, false) => Some(Reading::Address),
            (Kind::Date | Kind::DateTime | Kind::Ip, true) => None,
            (_, false) => Some(Reading::Plain),
            (_, true) => Some(Reading::Folded),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Described {
    pub names: Vec<String>,
    /// The elements of the list at its end, not the value there.
    pub elements: bool,
    pub reading: Reading,
}

impl Described {
    /// The attribute of a path that leads through the event alone.
    pub fn of(path: &Path, elements: bool, reading: Reading) -> Option<Described> {
        let plain = path.steps.iter().all(|step| step.via == Via::Value);
        let names: Vec<String> = path.steps.iter().map(|step| step.name.clone()).collect();
        (plain && !names.is_empty()).then_some(Described {
            names,
            elements,
            reading,
        })
    }

    /// Whether there is always one value: None where nothing is found.
    pub fn single(&self) -> bool {
        !self.elements && self.names.len() == 1
    }
}

/// A name in the tree, with all that is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Name {
    pub under: HashMap<Box<str>, u32, FixedState>,
    /// Attributes whose value stands here, and how it is read.
    pub values: Vec<(Attribute, Reading)>,
    /// Attributes whose elements stand here.
    pub elements: Vec<(Attribute, Reading)>,
    /// Attributes with values somewhere below, which an element without them has as None.
    pub below: Vec<Attribute>,
}

#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    names: Vec<Name>,
    numbers: HashMap<Described, Attribute, FixedState>,
}

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes {
            names: vec![Name::default()],
            numbers: HashMap::default(),
        }
    }
}

/// The place where every path begins.
pub(crate) const ROOT: u32 = 0;

impl Attributes {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn known(&self, described: &Described) -> Option<Attribute> {
        self.numbers.get(described).copied()
    }

    #[inline]
    pub fn name(&self, at: u32) -> Option<&Name> {
        self.names.get(at as usize)
    }

    /// The place of a name under another.
    #[inline]
    pub fn under(&self, at: u32, name: &str) -> Option<u32> {
        self.name(at)?.under.get(name).copied()
    }

    /// A new attribute; nothing where there are as many as can be told apart.
    pub fn add(&mut self, described: &Described) -> Option<Attribute> {
        let number = Attribute::try_from(self.numbers.len()).ok()?;
        self.numbers.insert(described.clone(), number);
        let mut at = ROOT;
        for name in &described.names {
            let fresh = u32::try_from(self.names.len()).ok()?;
            let here = self.names.get_mut(at as usize)?;
            if !described.elements {
                here.below.push(number);
            }
            let next = *here.under.entry(name.as_str().into()).or_insert(fresh);
            if next == fresh {
                self.names.push(Name::default());
            }
            at = next;
        }
        let end = self.names.get_mut(at as usize)?;
        let list = match described.elements {
            true => &mut end.elements,
            false => &mut end.values,
        };
        list.push((number, described.reading));
        Some(number)
    }
}
