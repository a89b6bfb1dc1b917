//! The grammar's pairs, read into a tree.

use std::num::NonZeroUsize;
use std::sync::Once;

use pest::Parser;
use pest::error::InputLocation;
use pest::iterators::Pair;

use super::{
    Argument, Clause, Expression, History, Name, Operand, Operator, Quantifier, Set, Shift,
    Spanned, Value,
};
use crate::query::complaint;
use crate::query::diagnose::{Diagnostic, Source, Span};
use crate::query::limit::{self, Counts};
use crate::query::print;
use crate::query::schema::Context;

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/query.pest"]
struct Grammar;

/// What a text says, and where it mixes `and` with `or` without parentheses.
pub struct Parsed {
    pub tree: Expression,
    pub mixed: Vec<Span>,
}

/// Reads a query. What does not parse gives one complaint; values that cannot be are reported together.
pub(crate) fn parse(source: &Source, context: &Context<'_>) -> Result<Parsed, Vec<Diagnostic>> {
    limit::before_parsing(source).map_err(|diagnostic| vec![*diagnostic])?;
    // A mistake made in the grammar later must not cost more than this; process-wide in pest, and set once.
    static CALLS: Once = Once::new();
    CALLS.call_once(|| pest::set_call_limit(NonZeroUsize::new(500_000)));

    let pairs = Grammar::parse(Rule::query, &source.text).map_err(|error| {
        let place = match error.location {
            InputLocation::Pos(place) | InputLocation::Span((place, _)) => place,
        };
        vec![complaint::about(source, context, place)]
    })?;
    let mut reader = Reader {
        source,
        counts: Counts::default(),
        mixed: Vec::new(),
        found: Vec::new(),
    };
    let tree = pairs
        .flat_map(Pair::into_inner)
        .find(|pair| pair.as_rule() == Rule::expr)
        .map(|pair| reader.expression(pair));
    if let (Some(tree), true) = (&tree, reader.found.is_empty()) {
        let outcome = limit::canonical(source, &print::canonical(tree), tree.span);
        reader.limit(outcome);
    }
    match tree {
        Some(tree) if reader.found.is_empty() => Ok(Parsed {
            tree,
            mixed: reader.mixed,
        }),
        Some(_) => Err(reader.found),
        None => Err(vec![complaint::about(source, context, 0)]),
    }
}

struct Reader<'a> {
    source: &'a Source,
    counts: Counts,
    mixed: Vec<Span>,
    found: Vec<Diagnostic>,
}

fn span_of(pair: &Pair<'_, Rule>) -> Span {
    let span = pair.as_span();
    Span::new(span.start(), span.end())
}

/// The span without the white space that implicit rules may leave at its end.
fn tight(span: Span, text: &str) -> Span {
    let kept = span.of(text).trim_end_matches(is_space).len();
    Span::new(span.start, span.start + kept)
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\u{0B}' | '\u{0C}' | '\u{A0}' | '\n' | '\r' | '\u{2028}' | '\u{2029}'
    )
}

impl Reader<'_> {
    fn limit(&mut self, outcome: Result<(), Box<Diagnostic>>) {
        if let Err(diagnostic) = outcome {
            self.found.push(*diagnostic);
        }
    }

    fn expression(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let mut alternatives: Vec<Vec<Expression>> = vec![Vec::new()];
        let mut either = None;
        let mut both = false;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::and_op => both = true,
                Rule::or_op => {
                    // DjangoQL groups to the right without precedence, so an `or` behind an `and` meant something else.
                    if both {
                        either.get_or_insert(span_of(&part));
                    }
                    alternatives.push(Vec::new());
                }
                _ => {
                    let expression = self.unary(part);
                    if let Some(last) = alternatives.last_mut() {
                        last.push(expression);
                    }
                }
            }
        }
        self.mixed.extend(either);
        let alternatives: Vec<Expression> = alternatives
            .into_iter()
            .map(|parts| join(parts, Clause::And))
            .collect();
        join(alternatives, Clause::Or)
    }

    fn unary(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let mut nots: Vec<Span> = Vec::new();
        let mut primary = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::not_op => nots.push(span_of(&part)),
                _ => primary = Some(self.primary(part)),
            }
        }
        let mut below = 0;
        let mut inner = primary.as_ref();
        while let Some(Spanned {
            node: Clause::Not(further),
            ..
        }) = inner
        {
            below += 1;
            inner = Some(further);
        }
        let outcome = self.counts.nots(self.source, &nots, below);
        self.limit(outcome);
        // A refused row of `not`s is cut, so that the tree stays as shallow as the limit says.
        nots.truncate(limit::NOTS.saturating_sub(below));
        let mut expression = primary.unwrap_or_else(broken);
        for not in nots.into_iter().rev() {
            let span = not.to(expression.span);
            let clause = match expression.node {
                // `not x in (…)` is another way to write `x not in (…)`.
                Clause::Member {
                    left,
                    negated: false,
                    operator,
                    right,
                } => Clause::Member {
                    left,
                    negated: true,
                    operator,
                    right,
                },
                node => Clause::Not(Box::new(Spanned::new(node, expression.span))),
            };
            expression = Spanned::new(clause, span);
        }
        expression
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let span = tight(span_of(&pair), &self.source.text);
        if pair.as_rule() == Rule::group {
            let inner = pair
                .into_inner()
                .find(|part| part.as_rule() == Rule::expr)
                .map(|part| self.expression(part));
            // The span of the group, so that a complaint about it shows its parentheses.
            let mut expression = inner.unwrap_or_else(broken);
            expression.span = span;
            return expression;
        }
        let outcome = self.counts.condition(self.source, span);
        self.limit(outcome);
        let clause = match pair.as_rule() {
            Rule::quant => self.quantified(pair),
            Rule::history => self.history(pair),
            Rule::changed => self.changed(pair),
            _ => self.predicate(pair),
        };
        Spanned::new(clause, span)
    }

    fn quantified(&mut self, pair: Pair<'_, Rule>) -> Clause {
        let mut quantifier = Spanned::new(Quantifier::Any, span_of(&pair));
        let mut path = Spanned::new(Vec::new(), span_of(&pair));
        let mut body = None;
        let mut operator = None;
        let mut number = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::quant_kw => {
                    let word = match part.as_str() {
                        "all" => Quantifier::All,
                        "none" => Quantifier::None,
                        "count" => Quantifier::Count,
                        _ => Quantifier::Any,
                    };
                    quantifier = Spanned::new(word, span_of(&part));
                    let outcome = self.counts.enter_quantifier(self.source, quantifier.span);
                    self.limit(outcome);
                }
                Rule::path => path = self.name(&part),
                Rule::expr => body = Some(Box::new(self.expression(part))),
                Rule::order_op => {
                    operator = Some(Spanned::new(
                        Operator::symbol(part.as_str()),
                        span_of(&part),
                    ));
                }
                _ => number = Some(self.operand(part)),
            }
        }
        self.counts.leave_quantifier();
        Clause::Quantified {
            quantifier,
            path,
            body,
            compare: operator.zip(number),
        }
    }

    fn history(&mut self, pair: Pair<'_, Rule>) -> Clause {
        let mut kind = Spanned::new(History::Ever, span_of(&pair));
        let mut body = broken();
        let mut window = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::hist_kw => {
                    let word = if part.as_str() == "always" {
                        History::Always
                    } else {
                        History::Ever
                    };
                    kind = Spanned::new(word, span_of(&part));
                }
                Rule::hist_arg => window.extend(self.argument(part)),
                _ => body = self.expression(part),
            }
        }
        Clause::History {
            kind,
            body: Box::new(body),
            window,
        }
    }

    fn changed(&mut self, pair: Pair<'_, Rule>) -> Clause {
        let mut path = Spanned::new(Vec::new(), span_of(&pair));
        let mut window = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::path => path = self.name(&part),
                Rule::hist_arg => window.extend(self.argument(part)),
                _ => {}
            }
        }
        Clause::Changed { path, window }
    }

    fn argument(&mut self, pair: Pair<'_, Rule>) -> Option<Argument> {
        let mut name = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(Spanned::new(part.as_str().to_owned(), span_of(&part))),
                _ => value = Some(self.operand(part)),
            }
        }
        Some(Argument {
            name: name?,
            value: value?,
        })
    }

    fn predicate(&mut self, pair: Pair<'_, Rule>) -> Clause {
        let mut operands = Vec::new();
        let mut operator = None;
        let mut member = None;
        let mut list = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::cmp_op => operator = Some(self.comparison(part)),
                Rule::set_op => {
                    let span = tight(span_of(&part), &self.source.text);
                    let negated = part.into_inner().any(|word| word.as_rule() == Rule::not_op);
                    member = Some((negated, span));
                }
                Rule::list => list = Some(self.list(part)),
                _ => operands.push(self.operand(part)),
            }
        }
        let right = if operands.len() > 1 {
            operands.pop()
        } else {
            None
        };
        let Some(left) = operands.pop() else {
            return broken().node;
        };
        match (operator, member, list, right) {
            (Some(operator), _, _, Some(right)) => Clause::Compare {
                left,
                operator,
                right,
            },
            (_, Some((negated, span)), Some(list), _) => Clause::Member {
                left,
                negated,
                operator: Spanned::new((), span),
                right: Set::List(list),
            },
            (_, Some((negated, span)), _, Some(right)) => Clause::Member {
                left,
                negated,
                operator: Spanned::new((), span),
                right: Set::Operand(right),
            },
            _ => Clause::Bare(left),
        }
    }

    fn comparison(&mut self, pair: Pair<'_, Rule>) -> Spanned<Operator> {
        let span = tight(span_of(&pair), &self.source.text);
        let Some(words) = pair.clone().into_inner().next() else {
            return Spanned::new(Operator::symbol(pair.as_str()), span);
        };
        let mut negated = false;
        let mut operator = Operator::Equal;
        for word in words.into_inner() {
            match word.as_str() {
                "not" => negated = true,
                "startswith" => operator = Operator::StartsWith { negated },
                "endswith" => operator = Operator::EndsWith { negated },
                _ => operator = Operator::Matches { negated },
            }
        }
        Spanned::new(operator, span)
    }

    fn list(&mut self, pair: Pair<'_, Rule>) -> Spanned<Vec<Operand>> {
        let span = span_of(&pair);
        let items: Vec<Operand> = pair.into_inner().map(|part| self.operand(part)).collect();
        let outcome = limit::items(self.source, &items);
        self.limit(outcome);
        Spanned::new(items, span)
    }

    fn operand(&mut self, pair: Pair<'_, Rule>) -> Operand {
        let mut base = None;
        let mut shifts = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::offset => shifts.push(shift(part)),
                _ => base = Some(self.value(part)),
            }
        }
        let Some(base) = base else {
            return Spanned::new(Value::Broken, Span::default());
        };
        let Some(last) = shifts.last() else {
            return base;
        };
        let span = base.span.to(last.span);
        let base = Box::new(base);
        Spanned::new(Value::Shifted { base, shifts }, span)
    }

    fn value(&mut self, pair: Pair<'_, Rule>) -> Operand {
        let span = span_of(&pair);
        let text = pair.as_str();
        if matches!(
            pair.as_rule(),
            Rule::string | Rule::decimal | Rule::int | Rule::boolean | Rule::none
        ) {
            let outcome = self.counts.literal(self.source, span);
            self.limit(outcome);
        }
        let value = match pair.as_rule() {
            Rule::none => Value::None,
            Rule::boolean => Value::Bool(text == "True"),
            Rule::int => match text.parse() {
                Ok(number) => Value::Int(number),
                Err(_) => self.refuse(number_too_large(self.source, span)),
            },
            Rule::decimal => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Decimal(number),
                _ => self.refuse(number_too_large(self.source, span)),
            },
            Rule::string => self.string(pair),
            Rule::param => {
                let name = text.trim_start_matches('$').to_owned();
                let outcome = limit::identifier(self.source, &name, span);
                self.limit(outcome);
                Value::Parameter(name)
            }
            Rule::call => self.call(pair),
            _ => Value::Path(self.name(&pair).node),
        };
        let span = match value {
            Value::Call { .. } => tight(span, &self.source.text),
            _ => span,
        };
        Spanned::new(value, span)
    }

    fn refuse(&mut self, diagnostic: Diagnostic) -> Value {
        self.found.push(diagnostic);
        Value::Broken
    }

    fn call(&mut self, pair: Pair<'_, Rule>) -> Value {
        let mut name = Spanned::new(String::new(), span_of(&pair));
        let mut arguments = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::call_name => {
                    name = Spanned::new(part.as_str().to_owned(), span_of(&part));
                }
                _ => arguments.push(self.operand(part)),
            }
        }
        Value::Call { name, arguments }
    }

    fn name(&mut self, pair: &Pair<'_, Rule>) -> Name {
        let span = span_of(pair);
        let segments: Vec<String> = pair.as_str().split('.').map(str::to_owned).collect();
        let outcome = limit::path(self.source, &segments, span);
        self.limit(outcome);
        Spanned::new(segments, span)
    }

    fn string(&mut self, pair: Pair<'_, Rule>) -> Value {
        let span = span_of(&pair);
        let body = pair.into_inner().next();
        let (start, raw) = body.map_or((span.start, ""), |body| {
            (span_of(&body).start, body.as_str())
        });
        let decoded = decode(raw);
        // As it is written here, and as the canonical text will write it.
        let printed = decoded
            .as_deref()
            .map_or(0, |text| print::quoted(text).len().saturating_sub(2));
        let outcome = limit::string(self.source, raw.len().max(printed), span);
        self.limit(outcome);
        match decoded {
            Ok(text) => Value::Text(text),
            Err((at, what)) => {
                let place = Span::new(start + at, start + at + 6);
                let diagnostic = match what {
                    Unsound::Nul => self
                        .source
                        .error(
                            "Q119",
                            "a string cannot hold NUL",
                            place,
                            "the character U+0000",
                        )
                        .note("databases cannot store it, so nothing could ever equal it"),
                    Unsound::Surrogate => self
                        .source
                        .error(
                            "Q119",
                            "half a surrogate pair is not a character",
                            place,
                            "its other half is missing",
                        )
                        .help("write the character itself, or both halves: `\\ud83d\\ude00` is 😀"),
                };
                self.refuse(diagnostic)
            }
        }
    }
}

fn number_too_large(source: &Source, span: Span) -> Diagnostic {
    let whole = !span.of(&source.text).contains(['.', 'e', 'E']);
    if whole {
        source
            .error(
                "Q118",
                "the number is too large",
                span,
                "does not fit in 64 bits",
            )
            .note("ints go from -9223372036854775808 to 9223372036854775807")
    } else {
        source
            .error("Q118", "the number is too large", span, "would be infinite")
            .note("decimals are 64-bit floating point numbers, up to about 1.8e308")
    }
}

fn shift(pair: Pair<'_, Rule>) -> Spanned<Shift> {
    let span = span_of(&pair);
    let mut shift = Shift {
        forward: true,
        count: String::new(),
        unit: String::new(),
        duration: Spanned::new((), span),
    };
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::sign => shift.forward = part.as_str() == "+",
            _ => {
                let text = part.as_str();
                let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
                shift.count = text.strip_suffix(unit).unwrap_or(text).to_owned();
                shift.unit = unit.to_owned();
                shift.duration.span = span_of(&part);
            }
        }
    }
    Spanned::new(shift, span)
}

fn broken() -> Expression {
    let nothing = Spanned::new(Value::Broken, Span::default());
    Spanned::new(Clause::Bare(nothing), Span::default())
}

/// One part stays what it is; several become one node.
fn join(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Clause) -> Expression {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return only;
    }
    let span = match (parts.first(), parts.last()) {
        (Some(first), Some(last)) => first.span.to(last.span),
        _ => Span::default(),
    };
    Spanned::new(several(parts), span)
}

enum Unsound {
    Nul,
    Surrogate,
}

/// The text that a string literal stands for. Escapes are JSON's; a pair of surrogates is one character.
fn decode(raw: &str) -> Result<String, (usize, Unsound)> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(rest.get(..at).unwrap_or(""));
        let place = raw.len() - rest.len() + at;
        let escape = rest.get(at + 1..).unwrap_or("");
        let mut characters = escape.chars();
        let mut taken = 1;
        match characters.next() {
            Some('b') => text.push('\u{08}'),
            Some('f') => text.push('\u{0C}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let first = unit(escape.get(1..5));
                let second = escape
                    .get(5..)
                    .and_then(|next| next.strip_prefix("\\u"))
                    .map(|next| unit(next.get(..4)));
                let units = [first, second.unwrap_or(0)];
                let mut decoded = char::decode_utf16(units);
                match decoded.next() {
                    Some(Ok('\0')) => return Err((place, Unsound::Nul)),
                    Some(Ok(c)) => {
                        text.push(c);
                        taken = if c.len_utf16() == 2 { 11 } else { 5 };
                    }
                    _ => return Err((place, Unsound::Surrogate)),
                }
            }
            Some(other) => text.push(other),
            None => {}
        }
        rest = escape.get(taken..).unwrap_or("");
    }
    text.push_str(rest);
    Ok(text)
}

fn unit(digits: Option<&str>) -> u16 {
    digits
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}
