//! Lists and related objects where one value should be, and one value where a list should be.

use super::names::{with_fields, with_list_fields};
use super::{FUNCTIONS, describe, no_such_function};
use crate::query::check::{Described, Usage};
use crate::query::diagnose::{Diagnostic, Source, Span};
use crate::query::resolve::Resolved;
use crate::query::schema::{Kind, Schema};
use crate::query::syntax::{Operand, Quantifier, Value};

/// `dns in consumes`: both sides are bare words.
pub(crate) fn bare_word_in_list(
    source: &Source,
    left: &Operand,
    span: Span,
    usage: Usage<'_>,
) -> Diagnostic {
    let word = left.span.of(&source.text);
    let list = span.of(&source.text);
    let quoted = format!("'{word}'");
    source
        .error(
            "Q113",
            "two fields cannot be compared",
            left.span,
            "a bare word is a field name",
        )
        .beside(span, "so is this")
        .help(format!(
            "for a string in a list field put it in quotes: `{quoted} {} {list}`",
            usage.operator
        ))
        .instead(left.span, quoted)
}

pub(crate) fn not_a_list(
    source: &Source,
    left: &Operand,
    span: Span,
    field: &Resolved,
    usage: Usage<'_>,
) -> Diagnostic {
    let name = span.of(&source.text);
    let value = left.span.of(&source.text);
    let mut diagnostic = source
        .error(
            "Q211",
            "`value in field` needs a list field",
            span,
            format!("this is {}", field.kind().phrase()),
        )
        .beside(left.span, "looked for in it");
    if matches!((field.kind(), &left.node), (Kind::Text, Value::Text(_))) {
        let operator = if usage.operator == "in" { "~" } else { "!~" };
        let clause = format!("{name} {operator} {value}");
        diagnostic = diagnostic
            .help(format!("for a part of a string write `{clause}`"))
            .instead(usage.clause, clause);
    } else if field.kind().is_many() {
        diagnostic = diagnostic.help(format!(
            "for an element with a field of that value write `any({name}: … = {value})`"
        ));
    } else {
        let operator = if usage.operator == "in" { "=" } else { "!=" };
        diagnostic = diagnostic.help(format!("for one value write `{name} {operator} {value}`"));
    }
    with_list_fields(diagnostic, field.owner.as_ref())
}

pub(crate) fn not_quantifiable(
    source: &Source,
    quantifier: Quantifier,
    span: Span,
    field: &Resolved,
) -> Diagnostic {
    let diagnostic = source.error(
        "Q220",
        format!("`{}` needs a list field", quantifier.word()),
        span,
        format!("this is {}", field.kind().phrase()),
    );
    let diagnostic = match field.kind() {
        Kind::One(_) => diagnostic.help(format!(
            "there is at most one: write `{0} != None`, or compare one of its fields",
            span.of(&source.text)
        )),
        _ => diagnostic,
    };
    with_list_fields(diagnostic, field.owner.as_ref())
}

pub(crate) fn list_compared(
    source: &Source,
    described: &Described<'_>,
    operator: Span,
    operand: &Operand,
) -> Diagnostic {
    let word = operator.of(&source.text);
    let right = operand.span;
    let (name, value) = (described.name, right.of(&source.text));
    let mut diagnostic = source
        .error(
            "Q210",
            format!("a list field cannot be compared with `{word}`"),
            operator,
            "compares one value",
        )
        .beside(
            described.span,
            format!("this is {}", described.kind.phrase()),
        );
    let clause = described.span.to(right);
    if !is_of_element(described.kind, &operand.node) {
        return diagnostic;
    }
    match word {
        "=" | "!=" => {
            let member = if word == "=" { "in" } else { "not in" };
            let exact = format!("{value} {member} {name}");
            diagnostic = diagnostic
                .help(format!("for an element that is exactly this: `{exact}`"))
                .instead(clause, exact);
            if is_text_list(described.kind) {
                let quantifier = if word == "=" { "any" } else { "none" };
                diagnostic = diagnostic.help(format!(
                    "for an element that contains it: `{quantifier}({name}: it ~ {value})`"
                ));
            }
            diagnostic
        }
        _ => {
            let some = format!("any({name}: it {word} {value})");
            diagnostic
                .help(format!("for an element of which it is true: `{some}`"))
                .instead(clause, some)
        }
    }
}

/// Whether a literal could be an element of the list; what is no literal is not judged.
fn is_of_element(list: &Kind, value: &Value) -> bool {
    let Kind::List(element) = list else {
        return true;
    };
    match value {
        Value::Text(_) => !matches!(**element, Kind::Int | Kind::Float | Kind::Bool),
        Value::Int(_) => matches!(**element, Kind::Int | Kind::Float | Kind::Dynamic),
        Value::Decimal(_) => matches!(**element, Kind::Float | Kind::Dynamic),
        Value::Bool(_) => matches!(**element, Kind::Bool | Kind::Dynamic),
        _ => true,
    }
}

fn is_text_list(kind: &Kind) -> bool {
    matches!(kind, Kind::List(element) if matches!(**element, Kind::Text))
}

pub(crate) fn list_among(
    source: &Source,
    described: &Described<'_>,
    operator: Span,
    list: Span,
) -> Diagnostic {
    let word = operator.of(&source.text);
    let quantifier = if word == "in" { "any" } else { "none" };
    let some = format!(
        "{quantifier}({}: it in {})",
        described.name,
        list.of(&source.text)
    );
    source
        .error(
            "Q210",
            format!("a list field cannot be compared with `{word}`"),
            operator,
            "compares one value",
        )
        .beside(
            described.span,
            format!("this is {}", described.kind.phrase()),
        )
        .help(format!("for an element that is one of these: `{some}`"))
        .instead(described.span.to(list), some)
}

pub(crate) fn related_compared(
    source: &Source,
    described: &Described<'_>,
    operator: &str,
    right: &Operand,
    related: &Schema,
) -> Diagnostic {
    let (name, value) = (described.name, right.span.of(&source.text));
    let many = described.kind.is_many();
    let message = if many {
        "related objects can only be compared to `None`"
    } else {
        "a related object can only be compared to `None`"
    };
    let mut diagnostic = source
        .error("Q214", message, right.span, describe(&right.node))
        .beside(described.span, described.kind.phrase());
    let fitting = |kind: &Kind| match &right.node {
        Value::Int(_) => matches!(kind, Kind::Int | Kind::Float | Kind::Dynamic),
        Value::Decimal(_) => matches!(kind, Kind::Float | Kind::Dynamic),
        Value::Bool(_) => matches!(kind, Kind::Bool | Kind::Dynamic),
        _ => matches!(kind, Kind::Text | Kind::Dynamic),
    };
    let named = related.field("name").filter(|field| fitting(&field.kind));
    let field = match named {
        Some(_) => Some("name"),
        None => related
            .declared()
            .find(|(_, field)| fitting(&field.kind))
            .map(|(name, _)| name),
    };
    if let Some(field) = field
        && !operator.ends_with("in")
    {
        let clause = if many && operator == "!=" {
            format!("none({name}: {field} = {value})")
        } else if many {
            format!("any({name}: {field} {operator} {value})")
        } else {
            format!("{name}.{field} {operator} {value}")
        };
        diagnostic = diagnostic
            .help(format!("compare one of its fields: `{clause}`"))
            .instead(described.span.to(right.span), clause);
    }
    with_fields(diagnostic, related)
}

pub(crate) fn empty_list(source: &Source, span: Span, negated: bool, noun: &str) -> Diagnostic {
    let noun = noun.replace('_', " ");
    let (word, subjects, constant) = if negated {
        ("not in ()", format!("every {noun}"), "True")
    } else {
        ("in ()", format!("no {noun}"), "False")
    };
    source
        .error(
            "Q115",
            "a list needs at least one value",
            span,
            "nothing in it",
        )
        .note(format!(
            "`{word}` would be true for {subjects}; write `{constant}` if that is what you mean"
        ))
}

pub(crate) fn in_needs_a_list(
    source: &Source,
    described: &Described<'_>,
    right: &Operand,
    what: &str,
) -> Diagnostic {
    let value = right.span.of(&source.text);
    let (word, name) = (described.operator, described.name);
    let one = if word == "in" { "=" } else { "!=" };
    let mut diagnostic = source.error(
        "Q114",
        format!("`{word}` needs a list"),
        right.span,
        format!("{what}, not a list"),
    );
    if matches!(right.node, Value::Call { .. } | Value::Shifted { .. }) {
        if let Value::Call { name, .. } = &right.node
            && !FUNCTIONS.contains(&name.node.as_str())
        {
            return no_such_function(source, name, right.span);
        }
        return diagnostic;
    }
    diagnostic = diagnostic.help(format!(
        "write `{name} {word} ({value})`, or `{name} {one} {value}` for one value"
    ));
    diagnostic.instead(right.span, format!("({value})"))
}
