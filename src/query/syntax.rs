//! Text to tree: the grammar's pairs become an untyped tree with spans.
//!
//! The tree holds what was written and nothing that was concluded. Two trees are equal when they say the same, wherever
//! they say it: a [`Spanned`] compares without its span.

mod read;

pub(crate) use read::{Parsed, is_space, parse};

use super::diagnose::Span;

/// Something and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Spanned<T> {
    pub node: T,
    pub span: Span,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Spanned<T>) -> bool {
        self.node == other.node
    }
}

impl<T> Spanned<T> {
    pub fn new(node: T, span: Span) -> Spanned<T> {
        Spanned { node, span }
    }
}

pub type Expression = Spanned<Clause>;
pub type Operand = Spanned<Value>;
/// The segments of a dotted name; never empty.
pub type Name = Spanned<Vec<String>>;

#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Bare(Operand),
    Compare {
        left: Operand,
        operator: Spanned<Operator>,
        right: Operand,
    },
    Member {
        left: Operand,
        negated: bool,
        operator: Place,
        right: Set,
    },
    Quantified {
        quantifier: Spanned<Quantifier>,
        path: Name,
        body: Option<Box<Expression>>,
        compare: Option<(Spanned<Operator>, Operand)>,
    },
    History {
        kind: Spanned<History>,
        body: Box<Expression>,
        window: Vec<Argument>,
    },
    Changed {
        path: Name,
        window: Vec<Argument>,
    },
}

/// A place that takes no part in comparing trees.
pub type Place = Spanned<()>;

#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    pub name: Spanned<String>,
    pub value: Operand,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    List(Spanned<Vec<Operand>>),
    Operand(Operand),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Decimal(f64),
    Text(String),
    Parameter(String),
    Path(Vec<String>),
    Call {
        name: Spanned<String>,
        arguments: Vec<Operand>,
    },
    /// A value and the lengths of time added to it.
    Shifted {
        base: Box<Operand>,
        shifts: Vec<Spanned<Shift>>,
    },
    /// What was already complained about.
    Broken,
}

/// `- 30d`; the unit is empty where none was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    pub forward: bool,
    pub count: String,
    pub unit: String,
    pub duration: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains { negated: bool },
    StartsWith { negated: bool },
    EndsWith { negated: bool },
    Matches { negated: bool },
}

impl Operator {
    pub fn word(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::Unequal => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Contains { negated: false } => "~",
            Operator::Contains { negated: true } => "!~",
            Operator::StartsWith { negated: false } => "startswith",
            Operator::StartsWith { negated: true } => "not startswith",
            Operator::EndsWith { negated: false } => "endswith",
            Operator::EndsWith { negated: true } => "not endswith",
            Operator::Matches { negated: false } => "matches",
            Operator::Matches { negated: true } => "not matches",
        }
    }

    pub fn is_ordering(self) -> bool {
        matches!(
            self,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual
        )
    }

    pub fn is_equality(self) -> bool {
        matches!(self, Operator::Equal | Operator::Unequal)
    }

    pub(super) fn symbol(text: &str) -> Operator {
        match text {
            "=" => Operator::Equal,
            "!=" => Operator::Unequal,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            "!~" => Operator::Contains { negated: true },
            _ => Operator::Contains { negated: false },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    Any,
    All,
    None,
    Count,
}

impl Quantifier {
    pub fn word(self) -> &'static str {
        match self {
            Quantifier::Any => "any",
            Quantifier::All => "all",
            Quantifier::None => "none",
            Quantifier::Count => "count",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    Ever,
    Always,
}

impl History {
    pub fn word(self) -> &'static str {
        match self {
            History::Ever => "ever",
            History::Always => "always",
        }
    }
}
