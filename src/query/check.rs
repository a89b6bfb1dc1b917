//! Names and types: an untyped tree becomes a typed one, or everything that is wrong with it is said.
//!
//! A clause that cannot be understood is reported once and then left out, so that one mistake has no echo.

use std::collections::BTreeSet;

use super::diagnose::{Diagnostic, Source, Span};
use super::print;
use super::refusal;
use super::resolve::{Names, Resolved, Scope, is_outside};
use super::schema::{Context, Kind, KnownSets};
use super::syntax::{
    Argument, Clause, Expression, History, Name, Operand, Operator, Quantifier, Set, Spanned, Value,
};
use super::tree::{self, Condition, Node, Quantified, Relation};

/// What an evaluation will want to know besides its subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub trigger: bool,
    pub previous: bool,
    pub history: bool,
    pub relations: bool,
    pub clock: bool,
    /// The types of the objects whose versions it asks for.
    pub histories: BTreeSet<String>,
    pub sets: BTreeSet<String>,
    pub parameters: BTreeSet<String>,
}

pub(crate) struct Checked {
    pub tree: Node,
    pub needs: Needs,
}

pub(crate) fn check(
    source: &Source,
    context: &Context<'_>,
    written: &Expression,
) -> Result<Checked, Vec<Diagnostic>> {
    let mut checker = Checker {
        source,
        context,
        needs: Needs::default(),
        networks: 0,
        found: Vec::new(),
    };
    let scope = Scope {
        names: Names::Schema(context.schema.clone()),
        within: None,
        history: None,
    };
    let tree = checker.expression(written, &scope);
    match tree {
        Some(tree) if checker.found.is_empty() => Ok(Checked {
            tree,
            needs: checker.needs,
        }),
        _ => Err(checker.found),
    }
}

pub(crate) struct Checker<'c> {
    pub source: &'c Source,
    pub context: &'c Context<'c>,
    pub needs: Needs,
    pub networks: usize,
    pub found: Vec<Diagnostic>,
}

/// A field on the left of an operator.
pub(crate) struct Left {
    pub field: Resolved,
    pub lower: bool,
    pub span: Span,
}

/// How a name is used, for a complaint that repeats the clause.
#[derive(Clone, Copy)]
pub(crate) struct Usage<'u> {
    pub operator: &'u str,
    pub right: &'u str,
    pub clause: Span,
}

impl<'u> Usage<'u> {
    pub fn bare(clause: Span) -> Usage<'u> {
        Usage {
            operator: "",
            right: "",
            clause,
        }
    }
}

impl Checker<'_> {
    pub fn refuse<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.found.push(diagnostic);
        None
    }

    pub fn text(&self, span: Span) -> &str {
        span.of(&self.source.text)
    }

    fn expression(&mut self, expression: &Expression, scope: &Scope) -> Option<Node> {
        let span = expression.span;
        let condition = match &expression.node {
            Clause::And(parts) => Condition::And(self.parts(parts, scope)?),
            Clause::Or(parts) => Condition::Or(self.parts(parts, scope)?),
            Clause::Not(inner) => self.not(inner, scope)?,
            Clause::Bare(operand) => self.bare(operand, scope)?,
            Clause::Compare {
                left,
                operator,
                right,
            } => self.compare(left, *operator, right, span, scope)?,
            Clause::Member {
                left,
                negated,
                operator,
                right,
            } => self.member(left, *negated, operator.span, right, span, scope)?,
            Clause::Quantified {
                quantifier,
                path,
                body,
                compare,
            } => self.quantified(
                *quantifier,
                path,
                body.as_deref(),
                compare.as_ref(),
                span,
                scope,
            )?,
            Clause::History { kind, body, window } => self.history(*kind, body, window, scope)?,
            Clause::Changed { path, window } => self.changed(path, window, span, scope)?,
        };
        Some(Node { condition, span })
    }

    /// A row of `not`s is walked and not recursed into, and leaves one or none.
    fn not(&mut self, mut inner: &Expression, scope: &Scope) -> Option<Condition> {
        let mut negated = true;
        while let Clause::Not(further) = &inner.node {
            negated = !negated;
            inner = further;
        }
        let node = self.expression(inner, scope)?;
        Some(if negated {
            Condition::Not(Box::new(node))
        } else {
            node.condition
        })
    }

    fn parts(&mut self, parts: &[Expression], scope: &Scope) -> Option<Vec<Node>> {
        let nodes: Vec<Option<Node>> = parts
            .iter()
            .map(|part| self.expression(part, scope))
            .collect();
        nodes.into_iter().collect()
    }

    fn bare(&mut self, operand: &Operand, scope: &Scope) -> Option<Condition> {
        match &operand.node {
            Value::Bool(truth) => Some(Condition::Constant(*truth)),
            Value::Call { name, arguments } if name.node == "in_set" => {
                self.in_set(operand.span, arguments, scope)
            }
            Value::Path(segments) => {
                if let Some(diagnostic) = refusal::bare_word(self.source, operand.span, segments) {
                    return self.refuse(diagnostic);
                }
                let usage = Usage::bare(operand.span);
                let field = self.resolve(segments, operand.span, scope, usage)?;
                self.refuse(refusal::field_alone(self.source, operand.span, &field))
            }
            Value::Broken => None,
            _ => self.refuse(refusal::value_alone(self.source, operand)),
        }
    }

    fn in_set(&mut self, span: Span, arguments: &[Operand], scope: &Scope) -> Option<Condition> {
        let has_identity = match &scope.names {
            Names::Schema(schema) => !schema.is_record(),
            Names::It(_) => false,
            Names::Dynamic => true,
        };
        if !has_identity {
            let noun = scope.names.noun().to_owned();
            return self.refuse(self.source.error(
                "Q206",
                format!("a {} is never in an object set", noun.replace('_', " ")),
                span,
                "sets hold objects of the inventory",
            ));
        }
        let [
            Spanned {
                node: Value::Text(name),
                span: place,
            },
        ] = arguments
        else {
            return self.refuse(
                self.source
                    .error(
                        "Q121",
                        "`in_set` takes the name of one object set",
                        span,
                        "not a name in quotes",
                    )
                    .help("write `in_set(\"mail servers\")`"),
            );
        };
        if let KnownSets::Only(known) = self.context.sets
            && !known.contains(name)
        {
            return self.refuse(refusal::unknown(
                self.source.error(
                    "Q205",
                    format!("unknown object set `{name}`"),
                    *place,
                    "no such set",
                ),
                *place,
                name,
                known.iter().map(String::as_str),
                "object sets",
                &|near| print::quoted(near),
            ));
        }
        self.needs.sets.insert(name.clone());
        Some(Condition::InSet(name.clone()))
    }

    /// The left side of an operator must be a field, plain or in `lower(…)`.
    fn left(&mut self, left: &Operand, scope: &Scope, usage: Usage<'_>) -> Option<Left> {
        match &left.node {
            Value::Path(segments) if !is_outside(segments) => {
                let field = self.resolve(segments, left.span, scope, usage)?;
                Some(Left {
                    field,
                    lower: false,
                    span: left.span,
                })
            }
            Value::Call { name, arguments } if name.node == "lower" => {
                let [
                    Spanned {
                        node: Value::Path(segments),
                        span,
                    },
                ] = arguments.as_slice()
                else {
                    return self.refuse(
                        self.source
                            .error(
                                "Q121",
                                "`lower` takes one field",
                                left.span,
                                "not the name of a field",
                            )
                            .help("write `lower(name) = \"x\"`"),
                    );
                };
                let field = self.resolve(segments, *span, scope, usage)?;
                if !matches!(field.kind(), Kind::Text | Kind::Dynamic) {
                    let name = self.text(*span).to_owned();
                    return self.refuse(
                        self.source
                            .error(
                                "Q217",
                                "`lower` needs a string field",
                                *span,
                                format!("this is {}", field.kind().phrase()),
                            )
                            .help(format!("write `{name}` without `lower`")),
                    );
                }
                Some(Left {
                    field,
                    lower: true,
                    span: left.span,
                })
            }
            Value::Broken => None,
            _ => {
                let diagnostic = refusal::value_on_the_left(self.source, left, usage);
                self.refuse(diagnostic)
            }
        }
    }

    fn compare(
        &mut self,
        left: &Operand,
        operator: Spanned<Operator>,
        right: &Operand,
        clause: Span,
        scope: &Scope,
    ) -> Option<Condition> {
        let source = self.source;
        let usage = Usage {
            operator: operator.node.word(),
            right: right.span.of(&source.text),
            clause,
        };
        let left = self.left(left, scope, usage)?;
        if matches!(right.node, Value::Broken) {
            return None;
        }
        let (test, negated) = self.fit(&left, operator, right, scope)?;
        Some(Condition::Test {
            path: left.field.path,
            lower: left.lower,
            test,
            negated,
        })
    }

    fn member(
        &mut self,
        left: &Operand,
        negated: bool,
        operator: Span,
        right: &Set,
        clause: Span,
        scope: &Scope,
    ) -> Option<Condition> {
        let source = self.source;
        let right_span = match right {
            Set::List(list) => list.span,
            Set::Operand(operand) => operand.span,
        };
        let usage = Usage {
            operator: if negated { "not in" } else { "in" },
            right: right_span.of(&source.text),
            clause,
        };
        let is_field = match &left.node {
            Value::Path(segments) => !is_outside(segments),
            Value::Call { name, .. } => name.node == "lower",
            _ => false,
        };
        if let Set::Operand(Spanned {
            node: Value::Path(segments),
            span,
        }) = right
        {
            if !is_outside(segments) {
                return self.holds(left, is_field, negated, segments, *span, scope, usage);
            }
            if !is_field {
                let diagnostic = refusal::value_on_the_left(source, left, usage);
                return self.refuse(diagnostic);
            }
        }
        let left = self.left(left, scope, usage)?;
        let test = match right {
            Set::List(list) => self.among(&left, negated, operator, list, scope)?,
            Set::Operand(operand) => {
                self.among_operand(&left, negated, operator, operand, scope)?
            }
        };
        Some(Condition::Test {
            path: left.field.path,
            lower: left.lower,
            test,
            negated,
        })
    }

    /// `V in L`: a value on the left, a list field on the right.
    #[allow(clippy::too_many_arguments)]
    fn holds(
        &mut self,
        left: &Operand,
        is_field: bool,
        negated: bool,
        segments: &[String],
        span: Span,
        scope: &Scope,
        usage: Usage<'_>,
    ) -> Option<Condition> {
        if is_field {
            let diagnostic = refusal::bare_word_in_list(self.source, left, span, usage);
            return self.refuse(diagnostic);
        }
        let field = self.resolve(segments, span, scope, usage)?;
        let list_of_values = matches!(field.kind(), Kind::List(_) | Kind::Dynamic)
            || (field.spread && !field.kind().is_many());
        if !list_of_values {
            let diagnostic = refusal::not_a_list(self.source, left, span, &field, usage);
            return self.refuse(diagnostic);
        }
        if matches!(left.node, Value::None) {
            return self.refuse(
                self.source
                    .error(
                        "Q218",
                        "the elements of a list are never None",
                        left.span,
                        "no element equals this",
                    )
                    .help(format!(
                        "for an empty list write `{} = None`",
                        self.text(span)
                    )),
            );
        }
        let element = super::evaluate::element_kind(field.kind()).clone();
        let described = Described {
            name: &format!("an element of {}", self.text(span)),
            span,
            kind: &element,
            nullable: false,
            operator: usage.operator,
            quoted: false,
            noun: scope.names.noun(),
        };
        let value = self.constant(left, &described)?;
        Some(Condition::Holds {
            value,
            list: field.path,
            negated,
        })
    }

    fn quantified(
        &mut self,
        quantifier: Spanned<Quantifier>,
        name: &Name,
        body: Option<&Expression>,
        compare: Option<&(Spanned<Operator>, Operand)>,
        span: Span,
        scope: &Scope,
    ) -> Option<Condition> {
        let field = self.resolve(&name.node, name.span, scope, Usage::bare(span))?;
        if !field.is_list() {
            let diagnostic =
                refusal::not_quantifiable(self.source, quantifier.node, name.span, &field);
            return self.refuse(diagnostic);
        }
        let inside = Scope {
            names: self.element_names(&field),
            within: Some((quantifier.node, name.span)),
            history: scope.history,
        };
        let count = self.count(quantifier, compare, span);
        if quantifier.node == Quantifier::All && body.is_none() {
            return self.refuse(
                self.source
                    .error(
                        "Q224",
                        "`all` needs a condition",
                        Span::at(name.span.end),
                        "expected `:` and a condition",
                    )
                    .help(format!(
                        "for a list that is not empty write `any({})`",
                        self.text(name.span)
                    )),
            );
        }
        let body = match body {
            Some(body) => Some(Box::new(self.expression(body, &inside)?)),
            None => None,
        };
        Some(Condition::Quantified {
            quantifier: Quantified::of(quantifier.node, count?),
            path: field.path,
            body,
        })
    }

    /// `count` is compared with an int, and nothing else is compared.
    fn count(
        &mut self,
        quantifier: Spanned<Quantifier>,
        compare: Option<&(Spanned<Operator>, Operand)>,
        span: Span,
    ) -> Option<Option<(Relation, i64)>> {
        let word = quantifier.node.word();
        match (quantifier.node, compare) {
            (Quantifier::Count, None) => self.refuse(
                self.source
                    .error(
                        "Q105",
                        "a count alone is not a condition",
                        Span::at(span.end),
                        "expected an operator",
                    )
                    .help(format!("write `{} > 0`", self.text(span)))
                    .instead(Span::at(span.end), " > 0"),
            ),
            (Quantifier::Count, Some((operator, number))) => match &number.node {
                Value::Int(number) => Some(Some((relation(operator.node), *number))),
                Value::Broken => None,
                _ => self.refuse(
                    self.source
                        .error(
                            "Q213",
                            "a count is an int",
                            number.span,
                            refusal::describe(&number.node),
                        )
                        .help("write the number, as in `count(ports) > 2`"),
                ),
            },
            (_, Some((operator, number))) => self.refuse(
                self.source
                    .error(
                        "Q225",
                        format!("`{word}` is a condition and is not compared"),
                        operator.span.to(number.span),
                        "nothing to compare here",
                    )
                    .help(match quantifier.node {
                        Quantifier::Any => "for the number of elements write `count(…)`",
                        _ => "leave the comparison out",
                    }),
            ),
            (_, None) => Some(None),
        }
    }

    fn element_names(&self, field: &Resolved) -> Names {
        match field.kind() {
            Kind::Records(record) => Names::Schema(record.clone()),
            Kind::One(object_type)
            | Kind::Many(object_type)
            | Kind::Referrers { object_type, .. } => Names::Schema(
                field
                    .owner
                    .as_ref()
                    .unwrap_or(self.context.schema)
                    .related(object_type),
            ),
            Kind::List(element) => match &**element {
                Kind::Dynamic => Names::Dynamic,
                element => Names::It(element.clone()),
            },
            Kind::Dynamic => Names::Dynamic,
            kind => Names::It(kind.clone()),
        }
    }

    fn history(
        &mut self,
        kind: Spanned<History>,
        body: &Expression,
        window: &[Argument],
        scope: &Scope,
    ) -> Option<Condition> {
        let word = kind.node.word();
        self.has_history(word, kind.span, scope)?;
        let bounds = self.window(word, window, &["since", "until"], scope);
        let inside = Scope {
            history: Some(word),
            ..scope.clone()
        };
        let body = self.expression(body, &inside)?;
        let [since, until] = bounds?;
        self.needs.history = true;
        Some(Condition::History {
            always: kind.node == History::Always,
            body: Box::new(body),
            since,
            until,
        })
    }

    fn changed(
        &mut self,
        name: &Name,
        window: &[Argument],
        span: Span,
        scope: &Scope,
    ) -> Option<Condition> {
        let head = Span::new(span.start, span.start + "changed".len());
        self.has_history("changed", head, scope)?;
        let bounds = self.window("changed", window, &["since"], scope);
        let field = self.resolve(&name.node, name.span, scope, Usage::bare(span))?;
        let [since, _] = bounds?;
        self.needs.history = true;
        Some(Condition::Changed {
            path: field.path,
            since,
        })
    }

    fn has_history(&mut self, word: &'static str, head: Span, scope: &Scope) -> Option<()> {
        if let Some(outer) = scope.history {
            return self.refuse(
                self.source
                    .error(
                        "Q221",
                        "history operators do not nest",
                        head,
                        format!("already inside `{outer}`"),
                    )
                    .note(format!(
                        "`{outer}` asks about one version at a time, and a version has no history"
                    )),
            );
        }
        let has = match &scope.names {
            Names::Schema(schema) => !schema.is_record(),
            Names::It(_) => false,
            Names::Dynamic => true,
        };
        if has {
            if let Names::Schema(schema) = &scope.names {
                self.needs.histories.insert(schema.name().to_owned());
            }
            return Some(());
        }
        let noun = scope.names.noun().replace('_', " ");
        let mut diagnostic = self.source.error(
            "Q221",
            format!("a {noun} has no history"),
            head,
            format!("`{word}` asks about stored versions of an object"),
        );
        if let Some((quantifier, path)) = scope.within {
            diagnostic = diagnostic
                .beside(path, "its elements have no versions of their own")
                .help(format!(
                    "put `{word}` outside: `ever({}({}: …))`",
                    quantifier.word(),
                    self.text(path)
                ));
        }
        self.refuse(diagnostic)
    }

    /// The bounds of a history operator, in the order since, until.
    fn window(
        &mut self,
        word: &str,
        window: &[Argument],
        known: &[&str],
        scope: &Scope,
    ) -> Option<[Option<tree::Operand>; 2]> {
        let mut bounds = [None, None];
        for argument in window {
            let name = argument.name.node.as_str();
            let slot = match name {
                _ if !known.contains(&name) => None,
                "since" => Some(0),
                _ => Some(1),
            };
            let Some(slot) = slot.and_then(|slot| bounds.get_mut(slot)) else {
                return self.refuse(
                    self.source
                        .error(
                            "Q222",
                            format!("`{word}` takes no `{name}`"),
                            argument.name.span,
                            "not known here",
                        )
                        .list("known", known.join(", ")),
                );
            };
            if slot.is_some() {
                return self.refuse(self.source.error(
                    "Q222",
                    format!("`{name}` is given twice"),
                    argument.name.span,
                    "the second one",
                ));
            }
            let described = Described {
                name,
                span: argument.name.span,
                kind: &Kind::DateTime,
                nullable: false,
                operator: ":",
                quoted: true,
                noun: scope.names.noun(),
            };
            *slot = Some(self.constant(&argument.value, &described)?);
        }
        Some(bounds)
    }
}

pub(crate) fn relation(operator: Operator) -> Relation {
    match operator {
        Operator::Unequal => Relation::Unequal,
        Operator::Less => Relation::Less,
        Operator::LessOrEqual => Relation::LessOrEqual,
        Operator::Greater => Relation::Greater,
        Operator::GreaterOrEqual => Relation::GreaterOrEqual,
        _ => Relation::Equal,
    }
}

/// What a constant is meant for, with the words to say why it does not fit.
pub(crate) struct Described<'d> {
    pub name: &'d str,
    pub span: Span,
    pub kind: &'d Kind,
    pub nullable: bool,
    pub operator: &'d str,
    /// Whether the name is shown as code.
    pub quoted: bool,
    /// What the subject is called.
    pub noun: &'d str,
}

impl Described<'_> {
    pub fn title(&self) -> String {
        if self.quoted {
            format!("`{}`", self.name)
        } else {
            self.name.to_owned()
        }
    }

    pub fn of<'l>(
        left: &Left,
        name: &'l str,
        operator: &'l str,
        scope: &'l Scope,
        kind: &'l Kind,
    ) -> Described<'l> {
        Described {
            name,
            span: left.span,
            kind,
            nullable: left.field.is_nullable(),
            operator,
            quoted: true,
            noun: scope.names.noun(),
        }
    }
}
