//! Names to fields: what a dotted path leads to, in the subject, in an element, or in the object that fired the schedule.

use super::check::{Checker, Usage};
use super::diagnose::Span;
use super::refusal;
use super::schema::{Field, Kind, Schema};
use super::syntax::Quantifier;
use super::tree::{self, Path, Step, Via};

/// Segments of JSON, of whatever type they turn out to be.
fn dynamic(mut steps: Vec<Step>, rest: &[String]) -> Resolved {
    steps.extend(rest.iter().map(|name| Step {
        name: name.clone(),
        via: Via::Value,
    }));
    Resolved {
        path: Path {
            steps,
            kind: Kind::Dynamic,
            nullable: true,
        },
        spread: false,
        owner: None,
    }
}

/// `trigger.x` and `previous.x` are constants and not fields of the subject.
pub(crate) fn is_outside(segments: &[String]) -> bool {
    segments.len() > 1
        && segments
            .first()
            .is_some_and(|first| first == "trigger" || first == "previous")
}

/// Which names a clause may use.
#[derive(Clone)]
pub(crate) struct Scope {
    pub names: Names,
    /// The quantifier whose elements the names belong to, and its path.
    pub within: Option<(Quantifier, Span)>,
    /// The history operator around the clause.
    pub history: Option<&'static str>,
}

#[derive(Clone)]
pub(crate) enum Names {
    Schema(Schema),
    /// A scalar element, called `it`.
    It(Kind),
    /// An element of whatever is found.
    Dynamic,
}

/// A name that was found, and what it holds.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub path: Path,
    /// Whether it goes through a list, so that it may lead to several values.
    pub spread: bool,
    /// The type at whose field the path ends.
    pub owner: Option<Schema>,
}

impl Names {
    /// What the subject is called in a sentence.
    pub fn noun(&self) -> &str {
        match self {
            Names::Schema(schema) => schema.name(),
            Names::It(_) | Names::Dynamic => "element",
        }
    }
}

impl Resolved {
    pub fn kind(&self) -> &Kind {
        &self.path.kind
    }

    pub fn is_nullable(&self) -> bool {
        self.path.nullable
    }

    pub fn is_list(&self) -> bool {
        self.spread || self.kind().is_many() || matches!(self.kind(), Kind::Dynamic)
    }
}

impl Checker<'_> {
    /// Follows a name through the schema.
    pub fn resolve(
        &mut self,
        segments: &[String],
        span: Span,
        scope: &Scope,
        usage: Usage<'_>,
    ) -> Option<Resolved> {
        let schema = match &scope.names {
            Names::Schema(schema) => schema.clone(),
            Names::It(kind) => {
                if let [it] = segments
                    && it == "it"
                {
                    return Some(Resolved {
                        path: Path {
                            steps: Vec::new(),
                            kind: kind.clone(),
                            nullable: false,
                        },
                        spread: false,
                        owner: None,
                    });
                }
                let diagnostic =
                    refusal::not_it(self.source, self.context, segments, span, scope, kind);
                return self.refuse(diagnostic);
            }
            Names::Dynamic => {
                let after_it = match segments.split_first() {
                    Some((it, rest)) if it == "it" => rest,
                    _ => segments,
                };
                return Some(dynamic(Vec::new(), after_it));
            }
        };
        self.follow(schema, segments, span, scope, usage)
    }

    fn follow(
        &mut self,
        mut schema: Schema,
        segments: &[String],
        span: Span,
        scope: &Scope,
        usage: Usage<'_>,
    ) -> Option<Resolved> {
        let mut steps = Vec::new();
        let (mut nullable, mut spread) = (false, false);
        let mut start = span.start;
        let mut rest = segments;
        while let Some((name, after)) = rest.split_first() {
            let place = Span::new(start, (start + name.len()).min(span.end));
            start = place.end + 1;
            rest = after;
            let Some(Field {
                kind,
                nullable: may_be_none,
            }) = schema.field(name)
            else {
                let at = refusal::Unknown {
                    name,
                    before: segments.get(..steps.len()).unwrap_or(&[]),
                    place,
                    span,
                };
                let diagnostic =
                    refusal::unknown_field(self.source, self.context, &schema, &at, scope, usage);
                return self.refuse(diagnostic);
            };
            nullable |= may_be_none;
            let via = match &kind {
                Kind::One(object_type) | Kind::Many(object_type) => {
                    Via::Objects(object_type.clone())
                }
                Kind::Referrers { object_type, field } => Via::Referrers {
                    object_type: object_type.clone(),
                    field: field.clone(),
                },
                _ => Via::Value,
            };
            self.needs.relations |= via != Via::Value;
            steps.push(Step {
                name: name.clone(),
                via,
            });
            if matches!(kind, Kind::Dynamic) {
                return Some(dynamic(steps, after));
            }
            if after.is_empty() {
                // A key may lead nowhere, so a relation may be None whatever was declared.
                nullable |= matches!(kind, Kind::One(_)) || kind.is_many();
                return Some(Resolved {
                    path: Path {
                        steps,
                        kind,
                        nullable,
                    },
                    spread,
                    owner: Some(schema),
                });
            }
            spread |= kind.is_many();
            nullable |= spread;
            schema = match &kind {
                Kind::Records(record) => schema.containing(record),
                Kind::One(object_type) => {
                    nullable = true;
                    schema.related(object_type)
                }
                Kind::Many(object_type) | Kind::Referrers { object_type, .. } => {
                    schema.related(object_type)
                }
                plain => {
                    let next = after.first().map_or("", String::as_str);
                    let diagnostic = refusal::past_a_plain_field(
                        self.source,
                        name,
                        next,
                        Span::new(start, (start + next.len()).min(span.end)),
                        place,
                        plain,
                    );
                    return self.refuse(diagnostic);
                }
            };
        }
        None
    }

    /// A path from the trigger or its earlier state.
    pub fn outside(
        &mut self,
        segments: &[String],
        span: Span,
    ) -> Option<(Resolved, tree::Operand)> {
        let (who, rest) = segments.split_first()?;
        let is_trigger = who == "trigger";
        let schema = if is_trigger {
            self.context.trigger
        } else {
            self.context.previous_schema()
        };
        let Some(schema) = schema else {
            let why = if is_trigger {
                "no object fires this query's schedule"
            } else {
                "only an update has a state before it"
            };
            return self.refuse(self.source.error(
                "Q203",
                format!("`{who}.` has no meaning here"),
                span,
                why,
            ));
        };
        let scope = Scope {
            names: Names::Schema(schema.clone()),
            within: None,
            history: None,
        };
        let place = Span::new(span.start + who.len() + 1, span.end);
        let field = self.follow(schema.clone(), rest, place, &scope, Usage::bare(span))?;
        let operand = if is_trigger {
            self.needs.trigger = true;
            tree::Operand::Trigger(field.path.clone())
        } else {
            self.needs.previous = true;
            tree::Operand::Previous(field.path.clone())
        };
        Some((field, operand))
    }
}
