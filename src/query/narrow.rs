//! A query to a weaker condition that a database or an index can use. It may narrow, never decide.
//!
//! Law: whatever the judge accepts, the narrow condition lets through. What cannot be said exactly is said more weakly,
//! at worst as [`Narrow::Everything`]; so a negated condition survives only where its positive is exact.
//!
//! # The table
//!
//! [`Narrow::render`] writes for a table `object` with these columns:
//!
//! | Column | PostgreSQL | SQLite |
//! |:--|:--|:--|
//! | `organization`, `object_type`, `primary_key` | `text COLLATE "C" NOT NULL` | `TEXT NOT NULL` |
//! | `scan_level` | `bigint` | `INTEGER` |
//! | `scan_profile_type` | `text COLLATE "C"` | `TEXT` |
//! | `attributes` | `jsonb NOT NULL` | `TEXT NOT NULL`, a JSON object |
//!
//! Numbers in `attributes` are as `serde_json` prints them. The five names of columns are columns whatever a type
//! declares; every other name is an attribute. What else the caller knows (organisation, type, not deleted) it adds itself.
//!
//! # Indexes
//!
//! `(organization, object_type, scan_level)` and `(organization, primary_key)` for the columns. On PostgreSQL
//! `USING gin (attributes jsonb_path_ops)` serves every equality, `in`, `V in L` and `any(list: f = v)`, because these are
//! written as containment. A relation is written from the related rows to the keys of the subject, so that a selective
//! condition on the related side costs what it finds and not the whole inventory; [`Narrow::render_within`] also when the
//! planner guesses badly. On SQLite an index on `json_extract(attributes, '$."name"')` serves the ordinary comparisons of that attribute.

mod sql;

use serde_json::{Map, Number as JsonNumber, Value, json};

pub use sql::{Bound, Dialect, Sql};

use super::evaluate::Judge;
use super::schema::Kind;
use super::tree::{Condition, Needle, Node, Path, Quantified, Relation, Test, Via};
use super::value::{Number, Scalar};
use super::{Facts, Query};

/// A condition that follows from a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Narrow {
    Everything,
    Nothing,
    And(Vec<Narrow>),
    Or(Vec<Narrow>),
    Probe {
        place: Place,
        probe: Probe,
        negated: bool,
    },
    /// A list of records holds one that has at least the fields of one of these templates.
    Holds {
        list: String,
        templates: Vec<Map<String, Value>>,
    },
    /// Some related object passes.
    Related {
        link: Link,
        object_type: String,
        condition: Box<Narrow>,
        /// What an object that stands inside the subject instead of its key has at least; empty for anything.
        inside: Vec<Map<String, Value>>,
    },
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Column(Column),
    /// Steps into `attributes`; never empty.
    Attribute(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Organization,
    ObjectType,
    PrimaryKey,
    ScanLevel,
    ScanProfileType,
}

impl Column {
    fn named(name: &str) -> Option<Column> {
        Some(match name {
            "organization" => Column::Organization,
            "object_type" => Column::ObjectType,
            "primary_key" => Column::PrimaryKey,
            "scan_level" => Column::ScanLevel,
            "scan_profile_type" => Column::ScanProfileType,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Column::Organization => "organization",
            Column::ObjectType => "object_type",
            Column::PrimaryKey => "primary_key",
            Column::ScanLevel => "scan_level",
            Column::ScanProfileType => "scan_profile_type",
        }
    }
}

/// How a related object is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The attribute holds its key, or a list of keys.
    Forward(String),
    /// Its field holds the key of the subject, alone or in a list.
    Back(String),
}

/// A test of one value. Values of JSON: strings, booleans and numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Neither absent nor null. A list passes this and its negation, because an empty one is None.
    Present,
    Equals {
        value: Value,
        folded: bool,
    },
    OneOf {
        values: Vec<Value>,
        folded: bool,
    },
    Less {
        value: Value,
        or_equal: bool,
        folded: bool,
    },
    Greater {
        value: Value,
        or_equal: bool,
        folded: bool,
    },
    /// These look for A–Z folded text.
    Contains(String),
    StartsWith(String),
    EndsWith(String),
    /// The list has an element that equals this.
    Element(Value),
}

/// The most templates that one quantifier is written as.
const TEMPLATES: usize = 64;
/// From here on a decimal's shortest text is not its exact value, and databases compare texts.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Derives what follows from a query once its constants are known. Of the facts, the subject is not looked at.
pub fn narrow(query: &Query, facts: &Facts<'_>) -> Narrow {
    let weaken = Weaken {
        judge: Judge::new(facts),
        of_files: query.type_name() == "file",
    };
    weaken.node(query.tree(), false, false)
}

struct Weaken<'f> {
    judge: Judge<'f>,
    /// A file's own fields need not be attributes.
    of_files: bool,
}

impl Weaken<'_> {
    /// `inside` is whether the names belong to another object than the subject.
    fn node(&self, node: &Node, negated: bool, inside: bool) -> Narrow {
        match &node.condition {
            Condition::Constant(truth) if *truth != negated => Narrow::Everything,
            Condition::Constant(_) => Narrow::Nothing,
            Condition::And(parts) | Condition::Or(parts) => {
                let and = matches!(node.condition, Condition::And(_)) != negated;
                let parts = parts.iter().map(|part| self.node(part, negated, inside));
                if and { all(parts) } else { any(parts) }
            }
            Condition::Not(inner) => self.node(inner, !negated, inside),
            Condition::Test {
                path,
                lower,
                test,
                negated: already,
            } => self.test(path, *lower, test, *already != negated, inside),
            Condition::Holds {
                value,
                list,
                negated: already,
            } => self.holds(
                &self.judge.constant(value),
                list,
                *already != negated,
                inside,
            ),
            Condition::Quantified {
                quantifier,
                path,
                body,
            } => {
                let some = match quantifier {
                    Quantified::Any => !negated,
                    Quantified::None => negated,
                    Quantified::All => false,
                    // A count that no empty list has means that there is one.
                    Quantified::Count { relation, number } => {
                        !negated && !relation.allows(Some(0_i64.cmp(number)))
                    }
                };
                if some {
                    self.some(path, body.as_deref())
                } else {
                    Narrow::Everything
                }
            }
            Condition::InSet(_) | Condition::History { .. } | Condition::Changed { .. } => {
                Narrow::Everything
            }
        }
    }

    fn test(&self, path: &Path, folded: bool, test: &Test, negated: bool, inside: bool) -> Narrow {
        let Some((first, rest)) = path.steps.split_first() else {
            return Narrow::Everything;
        };
        if first.via != Via::Value {
            return self.through_relation(path, folded, test, negated);
        }
        if rest.iter().any(|step| step.via != Via::Value) {
            return Narrow::Everything;
        }
        let Some(place) = self.place(path, inside) else {
            return Narrow::Everything;
        };
        self.probes(&place, &path.kind, folded, test, negated)
    }

    fn place(&self, path: &Path, inside: bool) -> Option<Place> {
        let names: Vec<String> = path.steps.iter().map(|step| step.name.clone()).collect();
        match names.as_slice() {
            [only] => match Column::named(only) {
                Some(column) => Some(Place::Column(column)),
                None if self.of_files && !inside && is_of_files(only) => None,
                None => Some(Place::Attribute(names)),
            },
            [first, ..] if Column::named(first).is_some() => None,
            _ => Some(Place::Attribute(names)),
        }
    }

    /// `network.name = "x"`, `network != None`.
    fn through_relation(&self, path: &Path, folded: bool, test: &Test, negated: bool) -> Narrow {
        let Some((first, rest)) = path.steps.split_first() else {
            return Narrow::Everything;
        };
        // A relation that leads nowhere is None, which only the judge can see.
        if negated && rest.is_empty() && self.is_none(test) {
            return match &first.via {
                Via::Referrers { object_type, field } => Narrow::Related {
                    link: Link::Back(field.clone()),
                    object_type: object_type.clone(),
                    condition: Box::new(Narrow::Everything),
                    inside: Vec::new(),
                },
                _ => Narrow::Probe {
                    place: Place::Attribute(vec![first.name.clone()]),
                    probe: Probe::Present,
                    negated: false,
                },
            };
        }
        if negated || rest.is_empty() || self.accepts_none(test) {
            return Narrow::Everything;
        }
        let onward = Path {
            steps: rest.to_vec(),
            ..path.clone()
        };
        let condition = self.test(&onward, folded, test, false, true);
        let inside = match (rest, self.equal_values(&path.kind, folded, test)) {
            ([only], Some(values)) if only.via == Via::Value => values
                .into_iter()
                .map(|value| template(&only.name, value))
                .collect(),
            _ => Vec::new(),
        };
        related(first, condition, inside)
    }

    /// `any(path: body)`.
    fn some(&self, path: &Path, body: Option<&Node>) -> Narrow {
        let [step] = path.steps.as_slice() else {
            return Narrow::Everything;
        };
        let templates = match body {
            Some(body) => self.templates(body).unwrap_or_default(),
            None => Vec::new(),
        };
        if let (Via::Value, Some(body)) = (&step.via, body)
            && let Some(values) = self.element_values(body)
            && let Some(place @ Place::Attribute(_)) = self.place(path, false)
        {
            return any(values.into_iter().map(|value| Narrow::Probe {
                place: place.clone(),
                probe: Probe::Element(value),
                negated: false,
            }));
        }
        match &step.via {
            Via::Value if self.of_files && is_of_files(&step.name) => Narrow::Everything,
            Via::Value if Column::named(&step.name).is_some() => Narrow::Everything,
            Via::Value if templates.is_empty() => Narrow::Probe {
                place: Place::Attribute(vec![step.name.clone()]),
                probe: Probe::Present,
                negated: false,
            },
            Via::Value => Narrow::Holds {
                list: step.name.clone(),
                templates,
            },
            _ => {
                let condition =
                    body.map_or(Narrow::Everything, |body| self.node(body, false, true));
                related(step, condition, templates)
            }
        }
    }

    /// `it = "x"`, `it in (…)`: the values of which a scalar element is one.
    fn element_values(&self, body: &Node) -> Option<Vec<Value>> {
        match &body.condition {
            Condition::Test {
                path,
                lower,
                test,
                negated: false,
            } if path.steps.is_empty() => self.equal_values(&path.kind, *lower, test),
            _ => None,
        }
    }

    /// What a record that passes has at least: one of these templates. None where nothing is known.
    fn templates(&self, node: &Node) -> Option<Vec<Map<String, Value>>> {
        match &node.condition {
            Condition::And(parts) => {
                let mut product: Option<Vec<Map<String, Value>>> = None;
                for part in parts {
                    let Some(options) = self.templates(part) else {
                        continue;
                    };
                    product = Some(match product {
                        None => options,
                        Some(before) if before.len() * options.len() > TEMPLATES => before,
                        Some(before) => crossed(&before, &options),
                    });
                }
                product
            }
            Condition::Or(parts) => {
                let mut union = Vec::new();
                for part in parts {
                    union.extend(self.templates(part)?);
                }
                (union.len() <= TEMPLATES).then_some(union)
            }
            Condition::Test {
                path,
                lower,
                test,
                negated: false,
            } => {
                let [step] = path.steps.as_slice() else {
                    return None;
                };
                if step.via != Via::Value {
                    return None;
                }
                let values = self.equal_values(&path.kind, *lower, test)?;
                let templates = values.into_iter().map(|value| template(&step.name, value));
                Some(templates.collect())
            }
            _ => None,
        }
    }

    /// The JSON values of which the found one must be one. None where that is not known, or None is among them.
    fn equal_values(&self, kind: &Kind, folded: bool, test: &Test) -> Option<Vec<Value>> {
        if folded || !is_plain(kind) {
            return None;
        }
        let values = match test {
            Test::Compare(Relation::Equal, operand) => vec![self.judge.constant(operand)],
            Test::Among(items) => items.iter().map(|item| self.judge.constant(item)).collect(),
            _ => return None,
        };
        if values.len() > TEMPLATES {
            return None;
        }
        values.iter().map(as_json).collect()
    }

    fn holds(&self, value: &Scalar<'_>, list: &Path, negated: bool, inside: bool) -> Narrow {
        let plain = match &list.kind {
            Kind::List(element) => is_plain(element),
            Kind::Dynamic => true,
            _ => false,
        };
        let (Some(value), Some(Place::Attribute(names)), true) =
            (as_json(value), self.place(list, inside), plain)
        else {
            return Narrow::Everything;
        };
        if names.len() > 1 || list.steps.iter().any(|step| step.via != Via::Value) {
            return Narrow::Everything;
        }
        Narrow::Probe {
            place: Place::Attribute(names),
            probe: Probe::Element(value),
            negated,
        }
    }

    fn is_none(&self, test: &Test) -> bool {
        matches!(test, Test::Compare(Relation::Equal, operand)
            if matches!(self.judge.constant(operand), Scalar::None))
    }

    fn accepts_none(&self, test: &Test) -> bool {
        match test {
            Test::Compare(Relation::Equal, _) => self.is_none(test),
            Test::Among(items) => items
                .iter()
                .any(|item| matches!(self.judge.constant(item), Scalar::None)),
            Test::AmongOutside(_) => true,
            _ => false,
        }
    }

    /// One test of one place.
    fn probes(
        &self,
        place: &Place,
        kind: &Kind,
        folded: bool,
        test: &Test,
        negated: bool,
    ) -> Narrow {
        let probe = |probe: Probe| Narrow::Probe {
            place: place.clone(),
            probe,
            negated,
        };
        // Of what cannot be said exactly, a positive still needs a value, and a negative needs nothing.
        let present = || {
            if negated {
                Narrow::Everything
            } else {
                Narrow::Probe {
                    place: place.clone(),
                    probe: Probe::Present,
                    negated: false,
                }
            }
        };
        let plain = is_plain(kind);
        match test {
            _ if self.is_none(test) => Narrow::Probe {
                place: place.clone(),
                probe: Probe::Present,
                negated: !negated,
            },
            Test::Compare(relation, operand) if plain => {
                let Some(value) = as_json(&self.judge.constant(operand)) else {
                    return self.unsayable(operand, negated, present());
                };
                match relation {
                    Relation::Equal => probe(Probe::Equals { value, folded }),
                    Relation::Unequal => Narrow::Everything,
                    _ if value.is_boolean() => present(),
                    Relation::Less | Relation::LessOrEqual => probe(Probe::Less {
                        value,
                        or_equal: *relation == Relation::LessOrEqual,
                        folded,
                    }),
                    Relation::Greater | Relation::GreaterOrEqual => probe(Probe::Greater {
                        value,
                        or_equal: *relation == Relation::GreaterOrEqual,
                        folded,
                    }),
                }
            }
            Test::Among(items) if plain && !self.accepts_none(test) => {
                let values: Option<Vec<Value>> = items
                    .iter()
                    .map(|item| as_json(&self.judge.constant(item)))
                    .collect();
                match values {
                    Some(values) => probe(Probe::OneOf { values, folded }),
                    None => present(),
                }
            }
            Test::Contains(needle) => self.text(needle, Probe::Contains, &probe, present()),
            Test::StartsWith(needle) => self.text(needle, Probe::StartsWith, &probe, present()),
            Test::EndsWith(needle) => self.text(needle, Probe::EndsWith, &probe, present()),
            Test::Matches(_) | Test::InNetworks(_) | Test::Within(..) => present(),
            _ if self.accepts_none(test) => Narrow::Everything,
            _ => present(),
        }
    }

    /// A comparison with something that is no plain JSON value.
    fn unsayable(&self, operand: &super::tree::Operand, negated: bool, present: Narrow) -> Narrow {
        // An order with None is false; its complement is true.
        if matches!(self.judge.constant(operand), Scalar::None) {
            return if negated {
                Narrow::Everything
            } else {
                Narrow::Nothing
            };
        }
        present
    }

    fn text(
        &self,
        needle: &Needle,
        make: fn(String) -> Probe,
        probe: &dyn Fn(Probe) -> Narrow,
        present: Narrow,
    ) -> Narrow {
        let text = match needle {
            Needle::Folded(text) => text.clone(),
            Needle::Outside(operand) => match self.judge.constant(operand) {
                Scalar::Text(text) => text.to_ascii_lowercase(),
                _ => return present,
            },
        };
        if text.contains('\0') {
            return present;
        }
        probe(make(text))
    }
}

fn is_of_files(name: &str) -> bool {
    matches!(
        name,
        "mime_types"
            | "plugin_id"
            | "task_id"
            | "input_type"
            | "input_key"
            | "started_at"
            | "ended_at"
    )
}

/// Kinds whose values JSON holds as they are compared. A date or an address is compared by what its text spells.
fn is_plain(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Text | Kind::Int | Kind::Float | Kind::Bool | Kind::Dynamic
    )
}

/// A constant as JSON, where a database compares it as the judge does.
fn as_json(value: &Scalar<'_>) -> Option<Value> {
    match value {
        Scalar::Bool(truth) => Some(json!(truth)),
        Scalar::Text(text) if !text.contains('\0') => Some(json!(text)),
        Scalar::Number(Number::Int(number)) => {
            let number = i64::try_from(*number).ok()?;
            #[allow(clippy::cast_possible_truncation)]
            let exact = number.unsigned_abs() <= EXACT as u64;
            exact.then(|| json!(number))
        }
        Scalar::Number(Number::Float(number)) if number.abs() < EXACT => {
            JsonNumber::from_f64(*number).map(Value::Number)
        }
        _ => None,
    }
}

fn template(name: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value)])
}

fn crossed(a: &[Map<String, Value>], b: &[Map<String, Value>]) -> Vec<Map<String, Value>> {
    let mut product = Vec::new();
    for left in a {
        for right in b {
            // One name with two values: no record has both, and the first alone is weaker.
            let mut both = right.clone();
            both.extend(left.clone());
            product.push(both);
        }
    }
    product
}

fn related(step: &super::tree::Step, condition: Narrow, inside: Vec<Map<String, Value>>) -> Narrow {
    if condition == Narrow::Nothing {
        return Narrow::Nothing;
    }
    let (link, object_type) = match &step.via {
        Via::Value => return Narrow::Everything,
        Via::Objects(object_type) => (Link::Forward(step.name.clone()), object_type),
        Via::Referrers { object_type, field } => (Link::Back(field.clone()), object_type),
    };
    Narrow::Related {
        link,
        object_type: object_type.clone(),
        condition: Box::new(condition),
        inside,
    }
}

fn all(parts: impl Iterator<Item = Narrow>) -> Narrow {
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Narrow::Everything => {}
            Narrow::Nothing => return Narrow::Nothing,
            Narrow::And(inner) => kept.extend(inner),
            part => kept.push(part),
        }
    }
    match kept.len() {
        0 => Narrow::Everything,
        1 => kept.pop().unwrap_or(Narrow::Everything),
        _ => Narrow::And(kept),
    }
}

fn any(parts: impl Iterator<Item = Narrow>) -> Narrow {
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Narrow::Nothing => {}
            Narrow::Everything => return Narrow::Everything,
            Narrow::Or(inner) => kept.extend(inner),
            part => kept.push(part),
        }
    }
    match kept.len() {
        0 => Narrow::Nothing,
        1 => kept.pop().unwrap_or(Narrow::Everything),
        _ => Narrow::Or(kept),
    }
}
