//! What a schedule asks, as an "and" and "or" of predicates on single attributes.
//!
//! Negation stands at the predicates alone. What only the judge can say (other objects, histories, the clock, what is
//! asked of elements) stays in as [`Formula::Judge`].

use serde_json::{Map, Value};

use super::attributes::{Described, Reading};
use super::literal::Literal;
use crate::query::Query;
use crate::query::evaluate::element_kind;
use crate::query::schema::Kind;
use crate::query::tree::{Condition, Needle, Node, Operand, Path, Quantified, Relation, Test};
use crate::query::value::Scalar;

/// All that a rule asks of an event: one of these, and nothing where there is none.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub either: Vec<Alternative>,
    pub parameters: Map<String, Value>,
}

/// Fields that are one of some texts, by name, and a query.
#[derive(Clone, Debug, Default)]
pub struct Alternative {
    pub fixed: Vec<(&'static str, Vec<String>)>,
    pub query: Option<Query>,
}

impl Asked {
    /// What a query alone asks.
    pub fn of(query: Query) -> Asked {
        Asked {
            either: vec![Alternative {
                fixed: Vec::new(),
                query: Some(query),
            }],
            parameters: Map::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Formula {
    Constant(bool),
    And(Vec<Formula>),
    Or(Vec<Formula>),
    Leaf(Leaf),
    /// True or false, as the judge will say.
    Judge,
}

/// Some value of the attribute passes, or where negated none does.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub attribute: Described,
    pub ask: Ask,
    pub negated: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Equals one of these.
    Among(Vec<Literal>),
    /// A number, or an instant as its microseconds, from the first to the last.
    Between(f64, f64),
    /// A–Z folded text.
    Starts(String),
    Ends(String),
    Contains(String),
    /// Anything else that one value alone answers.
    Other(Test),
}

impl Formula {
    pub fn of(asked: &Asked) -> Formula {
        let either = asked.either.iter();
        any(either
            .map(|alternative| alternative.formula(&asked.parameters))
            .collect())
    }
}

impl Alternative {
    fn formula(&self, parameters: &Map<String, Value>) -> Formula {
        let fixed = self.fixed.iter().map(|(name, texts)| {
            let mut literals: Vec<Literal> = texts.iter().map(|text| Literal::text(text)).collect();
            literals.sort();
            literals.dedup();
            Formula::Leaf(Leaf {
                attribute: Described {
                    names: vec![(*name).to_owned()],
                    elements: false,
                    reading: Reading::Plain,
                },
                ask: Ask::Among(literals),
                negated: false,
            })
        });
        let reader = Reader { parameters };
        let query = self
            .query
            .iter()
            .map(|query| reader.node(query.tree(), false));
        all(fixed.chain(query).collect())
    }
}

/// Flattened; an "and" with a false part is false.
fn all(parts: Vec<Formula>) -> Formula {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Formula::Constant(false) => return Formula::Constant(false),
            Formula::Constant(true) => {}
            Formula::And(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => Formula::Constant(true),
        1 => flat.pop().unwrap_or(Formula::Constant(true)),
        _ => Formula::And(flat),
    }
}

fn any(parts: Vec<Formula>) -> Formula {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Formula::Constant(true) => return Formula::Constant(true),
            Formula::Constant(false) => {}
            Formula::Or(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => Formula::Constant(false),
        1 => flat.pop().unwrap_or(Formula::Constant(false)),
        _ => Formula::Or(flat),
    }
}

struct Reader<'a> {
    parameters: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn node(&self, node: &Node, negated: bool) -> Formula {
        match &node.condition {
            Condition::Constant(truth) => Formula::Constant(*truth != negated),
            Condition::And(parts) | Condition::Or(parts) => {
                let and = matches!(node.condition, Condition::And(_)) != negated;
                let parts = parts.iter().map(|part| self.node(part, negated)).collect();
                if and { all(parts) } else { any(parts) }
            }
            Condition::Not(inner) => self.node(inner, !negated),
            Condition::Test {
                path,
                lower,
                test,
                negated: already,
            } => self.test(path, *lower, test, *already != negated, false),
            Condition::Holds {
                value,
                list,
                negated: already,
            } => {
                let path = Path {
                    kind: element_kind(&list.kind).clone(),
                    ..list.clone()
                };
                let test = Test::Compare(Relation::Equal, value.clone());
                self.test(&path, false, &test, *already != negated, true)
            }
            Condition::Quantified {
                quantifier: quantifier @ (Quantified::Any | Quantified::None),
                path,
                body: Some(body),
            } => self.element(
                path,
                body,
                matches!(quantifier, Quantified::None) != negated,
            ),
            Condition::Quantified { .. }
            | Condition::InSet(_)
            | Condition::History { .. }
            | Condition::Changed { .. } => Formula::Judge,
        }
    }

    /// `any(list: it …)` with one test of the element itself.
    fn element(&self, list: &Path, body: &Node, negated: bool) -> Formula {
        match &body.condition {
            Condition::Test {
                path,
                lower,
                test,
                negated: false,
            } if path.steps.is_empty() => {
                let path = Path {
                    kind: path.kind.clone(),
                    ..list.clone()
                };
                self.test(&path, *lower, test, negated, true)
            }
            _ => Formula::Judge,
        }
    }

    fn test(
        &self,
        path: &Path,
        lower: bool,
        test: &Test,
        negated: bool,
        elements: bool,
    ) -> Formula {
        let described = Reading::of(&path.kind, lower)
            .and_then(|reading| Described::of(path, elements, reading));
        let Some(attribute) = described else {
            return Formula::Judge;
        };
        match self.ask(test, attribute.reading) {
            // Nothing is asked that a value could pass.
            Some(Ask::Among(literals)) if literals.is_empty() => Formula::Constant(negated),
            Some(ask) => Formula::Leaf(Leaf {
                attribute,
                ask,
                negated,
            }),
            None => Formula::Judge,
        }
    }

    fn ask(&self, test: &Test, reading: Reading) -> Option<Ask> {
        match test {
            Test::Compare(Relation::Equal, operand) => {
                self.among(std::slice::from_ref(operand), reading)
            }
            Test::Compare(Relation::Unequal, _) => None,
            Test::Compare(relation, operand) => {
                let wanted = self.constant(operand)?;
                match (Literal::of(&wanted, reading), &wanted) {
                    (Some(literal), Scalar::Number(_) | Scalar::Instant(_)) => {
                        between(*relation, literal.number()?)
                    }
                    (_, Scalar::Text(_) | Scalar::Instant(_) | Scalar::Address(_)) => Some(
                        Ask::Other(Test::Compare(*relation, Operand::Literal(wanted))),
                    ),
                    _ => None,
                }
            }
            Test::Among(operands) => self.among(operands, reading),
            Test::AmongOutside(Operand::Parameter(name)) => {
                let items = self.parameters.get(name)?.as_array()?;
                let operands: Vec<Operand> = items
                    .iter()
                    .map(|item| Operand::Literal(Scalar::read(item, &Kind::Dynamic).into_owned()))
                    .collect();
                self.among(&operands, reading)
            }
            Test::AmongOutside(_) => None,
            Test::Contains(needle) => self.needle(needle).map(Ask::Contains),
            Test::StartsWith(needle) => self.needle(needle).map(Ask::Starts),
            Test::EndsWith(needle) => self.needle(needle).map(Ask::Ends),
            Test::Matches(_) | Test::InNetworks(_) | Test::Within(..) => {
                Some(Ask::Other(test.clone()))
            }
        }
    }

    /// Equality with each of some constants.
    fn among(&self, operands: &[Operand], reading: Reading) -> Option<Ask> {
        let wanted: Vec<Scalar<'static>> = operands
            .iter()
            .map(|operand| self.constant(operand))
            .collect::<Option<_>>()?;
        let literals: Option<Vec<Literal>> = wanted
            .iter()
            .map(|scalar| Literal::of(scalar, reading))
            .collect();
        if let Some(mut literals) = literals {
            literals.sort();
            literals.dedup();
            return Some(Ask::Among(literals));
        }
        // A text that is equal to what it spells, and not only to itself.
        let simple = |scalar: &Scalar<'_>| !matches!(scalar, Scalar::Whole(_) | Scalar::Object);
        wanted.iter().all(simple).then(|| {
            Ask::Other(Test::Among(
                wanted.into_iter().map(Operand::Literal).collect(),
            ))
        })
    }

    fn constant(&self, operand: &Operand) -> Option<Scalar<'static>> {
        match operand {
            Operand::Literal(value) => Some(value.clone()),
            Operand::Parameter(name) => Some(match self.parameters.get(name) {
                Some(value) => Scalar::read(value, &Kind::Dynamic).into_owned(),
                None => Scalar::None,
            }),
            Operand::Trigger(_) | Operand::Previous(_) | Operand::Clock { .. } => None,
        }
    }

    fn needle(&self, needle: &Needle) -> Option<String> {
        match needle {
            Needle::Folded(folded) => Some(folded.clone()),
            Needle::Outside(operand) => match self.constant(operand)? {
                Scalar::Text(text) => Some(text.to_ascii_lowercase()),
                _ => None,
            },
        }
    }
}

fn between(relation: Relation, bound: f64) -> Option<Ask> {
    Some(match relation {
        Relation::Less => Ask::Between(f64::NEG_INFINITY, bound.next_down()),
        Relation::LessOrEqual => Ask::Between(f64::NEG_INFINITY, bound),
        Relation::Greater => Ask::Between(bound.next_up(), f64::INFINITY),
        Relation::GreaterOrEqual => Ask::Between(bound, f64::INFINITY),
        Relation::Equal | Relation::Unequal => return None,
    })
}
