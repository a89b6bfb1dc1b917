//! The canonical text of a query: one line, one spelling. Used for storage, hashing, diffs and people.

use std::fmt::Write as _;

use crate::harmless;

use super::syntax::{
    Argument, Clause, Expression, Operand, Operator, Quantifier, Set, Spanned, Value,
};

/// Prints a tree so that it parses to the same tree.
pub fn canonical(expression: &Expression) -> String {
    let mut text = String::new();
    write_clause(&mut text, &expression.node, false);
    text
}

/// Prints the normal form: `not` pushed down, groups flattened, sorted and without duplicates. Never shown.
pub fn normal(expression: &Expression) -> String {
    canonical(&normalized(expression, false))
}

fn write_clause(out: &mut String, clause: &Clause, grouped: bool) {
    match clause {
        Clause::And(parts) => write_group(out, parts, " and ", grouped),
        Clause::Or(parts) => write_group(out, parts, " or ", grouped),
        Clause::Not(inner) => {
            let mut inner = inner;
            out.push_str("not ");
            while let Clause::Not(further) = &inner.node {
                out.push_str("not ");
                inner = further;
            }
            write_clause(out, &inner.node, true);
        }
        Clause::Bare(operand) => write_operand(out, operand),
        Clause::Compare {
            left,
            operator,
            right,
        } => {
            write_operand(out, left);
            let _ = write!(out, " {} ", operator.node.word());
            write_operand(out, right);
        }
        Clause::Member {
            left,
            negated,
            right,
            ..
        } => write_member(out, left, *negated, right),
        Clause::Quantified {
            quantifier,
            path,
            body,
            compare,
        } => {
            let _ = write!(out, "{}({}", quantifier.node.word(), path.node.join("."));
            if let Some(body) = body {
                out.push_str(": ");
                write_clause(out, &body.node, false);
            }
            out.push(')');
            if let Some((operator, number)) = compare {
                let _ = write!(out, " {} ", operator.node.word());
                write_operand(out, number);
            }
        }
        Clause::History { kind, body, window } => {
            let _ = write!(out, "{}(", kind.node.word());
            write_clause(out, &body.node, false);
            write_window(out, window);
        }
        Clause::Changed { path, window } => {
            let _ = write!(out, "changed({}", path.node.join("."));
            write_window(out, window);
        }
    }
}

fn write_group(out: &mut String, parts: &[Expression], joint: &str, grouped: bool) {
    if grouped {
        out.push('(');
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push_str(joint);
        }
        write_clause(out, &part.node, true);
    }
    if grouped {
        out.push(')');
    }
}

fn write_member(out: &mut String, left: &Operand, negated: bool, right: &Set) {
    write_operand(out, left);
    out.push_str(if negated { " not in " } else { " in " });
    match right {
        Set::Operand(operand) => write_operand(out, operand),
        Set::List(list) => {
            out.push('(');
            write_operands(out, &list.node);
            out.push(')');
        }
    }
}

fn write_window(out: &mut String, window: &[Argument]) {
    for argument in window {
        let _ = write!(out, ", {}: ", argument.name.node);
        write_operand(out, &argument.value);
    }
    out.push(')');
}

fn write_operands(out: &mut String, operands: &[Operand]) {
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_operand(out, operand);
    }
}

fn write_operand(out: &mut String, operand: &Operand) {
    match &operand.node {
        Value::None | Value::Broken => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Decimal(number) => out.push_str(&decimal(*number)),
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::Parameter(name) => {
            let _ = write!(out, "${name}");
        }
        Value::Path(segments) => out.push_str(&segments.join(".")),
        Value::Call { name, arguments } => {
            out.push_str(&name.node);
            out.push('(');
            write_operands(out, arguments);
            out.push(')');
        }
        Value::Shifted { base, shifts } => {
            write_operand(out, base);
            for shift in shifts {
                let sign = if shift.node.forward { '+' } else { '-' };
                let _ = write!(out, " {sign} {}{}", shift.node.count, shift.node.unit);
            }
        }
    }
}

/// A string in double quotes. What would be invisible or would turn the text around is escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{08}' => out.push_str("\\b"),
            '\u{0C}' => out.push_str("\\f"),
            c if harmless::is(c) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// A decimal without trailing zeros and always with a point; with an exponent where it is very small or very large.
pub(crate) fn decimal(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        return "0.0".to_owned();
    }
    if (1e-7..1e15).contains(&size) {
        let plain = format!("{number}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            format!("{mantissa}.0e{exponent}")
        }
        _ => scientific,
    }
}

/// Rebuilds a tree in normal form; `negated` is whether an odd number of `not` stands above it.
fn normalized(mut expression: &Expression, mut negated: bool) -> Expression {
    while let Clause::Not(inner) = &expression.node {
        expression = inner;
        negated = !negated;
    }
    let spanned = |clause| Spanned::new(clause, expression.span);
    let refused = |clause: Clause| {
        if negated {
            spanned(Clause::Not(Box::new(spanned(clause))))
        } else {
            spanned(clause)
        }
    };
    match &expression.node {
        Clause::And(parts) => gathered(parts, true, negated, expression),
        Clause::Or(parts) => gathered(parts, false, negated, expression),
        Clause::Not(_) => expression.clone(),
        Clause::Bare(operand) => match operand.node {
            Value::Bool(truth) => spanned(Clause::Bare(Spanned::new(
                Value::Bool(truth != negated),
                operand.span,
            ))),
            _ => refused(expression.node.clone()),
        },
        Clause::Compare {
            left,
            operator,
            right,
        } => match complement(operator.node) {
            Some(other) if negated => spanned(Clause::Compare {
                left: left.clone(),
                operator: Spanned::new(other, operator.span),
                right: right.clone(),
            }),
            _ => refused(expression.node.clone()),
        },
        Clause::Member {
            left,
            negated: already,
            operator,
            right,
        } => spanned(Clause::Member {
            left: left.clone(),
            negated: *already != negated,
            operator: *operator,
            right: match right {
                Set::List(list) => {
                    let mut items = list.node.clone();
                    items.sort_by_cached_key(printed);
                    items.dedup();
                    Set::List(Spanned::new(items, list.span))
                }
                operand => operand.clone(),
            },
        }),
        Clause::Quantified {
            quantifier,
            path,
            body,
            compare,
        } => {
            let (word, turned) = match (quantifier.node, negated) {
                (Quantifier::Any, true) => (Quantifier::None, false),
                (Quantifier::None, true) => (Quantifier::Any, false),
                // All of them pass where none of them fails.
                (Quantifier::All, false) => (Quantifier::None, true),
                (Quantifier::All, true) => (Quantifier::Any, true),
                (word, _) => (word, false),
            };
            let clause = Clause::Quantified {
                quantifier: Spanned::new(word, quantifier.span),
                path: path.clone(),
                body: body.as_ref().map(|body| Box::new(normalized(body, turned))),
                compare: compare.clone(),
            };
            if word == Quantifier::Count {
                refused(clause)
            } else {
                spanned(clause)
            }
        }
        Clause::History { kind, body, window } => refused(Clause::History {
            kind: *kind,
            body: Box::new(normalized(body, false)),
            window: window.clone(),
        }),
        Clause::Changed { .. } => refused(expression.node.clone()),
    }
}

fn gathered(parts: &[Expression], and: bool, negated: bool, whole: &Expression) -> Expression {
    let and = and != negated;
    let mut flat: Vec<Expression> = Vec::new();
    for part in parts {
        let part = normalized(part, negated);
        match part.node {
            Clause::And(inner) if and => flat.extend(inner),
            Clause::Or(inner) if !and => flat.extend(inner),
            node => flat.push(Spanned::new(node, part.span)),
        }
    }
    flat.sort_by_cached_key(canonical);
    flat.dedup();
    if flat.len() == 1
        && let Some(only) = flat.pop()
    {
        return only;
    }
    let clause = if and {
        Clause::And(flat)
    } else {
        Clause::Or(flat)
    };
    Spanned::new(clause, whole.span)
}

fn printed(operand: &Operand) -> String {
    let mut text = String::new();
    write_operand(&mut text, operand);
    text
}

/// The operator that is true exactly where this one is false. The orderings have none, because of None.
fn complement(operator: Operator) -> Option<Operator> {
    Some(match operator {
        Operator::Equal => Operator::Unequal,
        Operator::Unequal => Operator::Equal,
        Operator::Contains { negated } => Operator::Contains { negated: !negated },
        Operator::StartsWith { negated } => Operator::StartsWith { negated: !negated },
        Operator::EndsWith { negated } => Operator::EndsWith { negated: !negated },
        Operator::Matches { negated } => Operator::Matches { negated: !negated },
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            return None;
        }
    })
}
