//! The typed tree: what a checked query asks. Nothing in it can be of the wrong type or name a field that cannot be.
//!
//! It is what [`evaluate`](super::evaluate) judges and [`narrow`](super::narrow) weakens.

use regex::Regex;

use super::diagnose::Span;
use super::schema::Kind;
use super::syntax::Quantifier;
use super::value::{Network, Scalar};
use crate::moment::Moment;

/// A condition and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub condition: Condition,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Constant(bool),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// Some value that the path leads to passes the test; where negated, none does.
    Test {
        path: Path,
        lower: bool,
        test: Test,
        negated: bool,
    },
    /// Some element of the list equals the value.
    Holds {
        value: Operand,
        list: Path,
        negated: bool,
    },
    Quantified {
        quantifier: Quantified,
        path: Path,
        body: Option<Box<Node>>,
    },
    InSet(String),
    History {
        always: bool,
        body: Box<Node>,
        since: Option<Operand>,
        until: Option<Operand>,
    },
    Changed {
        path: Path,
        since: Option<Operand>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Quantified {
    Any,
    All,
    None,
    Count { relation: Relation, number: i64 },
}

impl Quantified {
    pub fn of(quantifier: Quantifier, count: Option<(Relation, i64)>) -> Quantified {
        match (quantifier, count) {
            (Quantifier::Count, Some((relation, number))) => Quantified::Count { relation, number },
            (Quantifier::All, _) => Quantified::All,
            (Quantifier::None, _) => Quantified::None,
            _ => Quantified::Any,
        }
    }
}

/// A test of one value.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    Compare(Relation, Operand),
    /// Equals one of these.
    Among(Vec<Operand>),
    /// Equals an element of a list from outside the object.
    AmongOutside(Operand),
    Contains(Needle),
    StartsWith(Needle),
    EndsWith(Needle),
    Matches(Regex),
    InNetworks(Vec<Network>),
    /// From the first to the last microsecond.
    Within(Moment, Moment),
}

/// How two values lie to each other. Inequality is a negated equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a text operator looks for. A literal is folded when compiled.
#[derive(Clone, Debug)]
pub(crate) enum Needle {
    Folded(String),
    Outside(Operand),
}

/// A value that is one constant in each evaluation.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Literal(Scalar<'static>),
    Parameter(String),
    Trigger(Path),
    Previous(Path),
    /// The evaluation's instant, or its midnight, and the microseconds added to it.
    Clock {
        midnight: bool,
        shift: i64,
    },
}

impl Operand {
    pub fn is_literal(&self) -> bool {
        matches!(self, Operand::Literal(_))
    }
}

/// From a subject to the values of a field.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub steps: Vec<Step>,
    /// What the end of the path holds.
    pub kind: Kind,
    /// Whether it may lead to None.
    pub nullable: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub name: String,
    pub via: Via,
}

/// How a step gets from what it finds to what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By JSON: a record, or each record of a list.
    Value,
    /// A related object of this type, or each of a list.
    Objects(String),
    /// Each object of that type whose field points here.
    Referrers { object_type: String, field: String },
}
