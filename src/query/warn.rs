//! What is allowed and yet probably not meant.

use super::diagnose::{Diagnostic, Source};
use super::schema::Kind;
use super::syntax::Parsed;
use super::tree::{Condition, Needle, Node, Operand, Path, Relation, Test};

pub(crate) fn warnings(source: &Source, parsed: &Parsed, tree: &Node) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = parsed
        .mixed
        .iter()
        .map(|span| {
            source
                .warning(
                    "Q401",
                    "`or` behind `and` without parentheses",
                    *span,
                    "`and` binds tighter than `or`",
                )
                .note("DjangoQL groups to the right instead; parentheses say it for both")
        })
        .collect();
    visit(source, tree, &[], &mut found);
    found.sort_by_key(|diagnostic| diagnostic.span);
    found
}

fn visit(source: &Source, node: &Node, siblings: &[Node], found: &mut Vec<Diagnostic>) {
    match &node.condition {
        Condition::And(parts) | Condition::Or(parts) => {
            let and = matches!(node.condition, Condition::And(_));
            for part in parts {
                constant(source, part, and, found);
                visit(source, part, if and { parts } else { &[] }, found);
            }
            if !and {
                unequal_pair(source, parts, found);
            }
        }
        Condition::Not(inner) => {
            if let Condition::Constant(truth) = inner.condition {
                let word = if truth { "False" } else { "True" };
                found.push(
                    source
                        .warning(
                            "Q402",
                            format!("this is always {}", if truth { "false" } else { "true" }),
                            node.span,
                            "constant",
                        )
                        .help(format!("write `{word}`")),
                );
            }
            visit(source, inner, &[], found);
        }
        Condition::Quantified {
            body: Some(body), ..
        }
        | Condition::History { body, .. } => visit(source, body, &[], found),
        Condition::Test {
            path,
            test,
            negated,
            ..
        } => {
            empty_text(source, node, test, *negated, found);
            if !negated {
                unguarded(source, node, path, test, siblings, found);
            }
        }
        _ => {}
    }
}

/// `True` or `False` as one part of a group decides it or does nothing.
fn constant(source: &Source, part: &Node, and: bool, found: &mut Vec<Diagnostic>) {
    let Condition::Constant(truth) = part.condition else {
        return;
    };
    let effect = match (truth, and) {
        (true, true) | (false, false) => "changes nothing here",
        (true, false) => "makes the whole group true",
        (false, true) => "makes the whole group false",
    };
    found.push(source.warning("Q402", "a constant condition", part.span, effect));
}

/// `x != 1 or x != 2` is true for everything.
fn unequal_pair(source: &Source, parts: &[Node], found: &mut Vec<Diagnostic>) {
    let unequal = |node: &Node| match &node.condition {
        Condition::Test {
            path,
            lower: false,
            test: Test::Compare(Relation::Equal, Operand::Literal(value)),
            negated: true,
        } => Some((named(path), value.clone())),
        _ => None,
    };
    let unequals: Vec<_> = parts
        .iter()
        .filter_map(|part| unequal(part).map(|(name, value)| (part.span, name, value)))
        .collect();
    for (index, (span, name, value)) in unequals.iter().enumerate() {
        let other = unequals
            .iter()
            .skip(index + 1)
            .find(|(_, again, second)| again == name && !second.same(value));
        if let Some((other, _, _)) = other {
            found.push(
                source
                    .warning(
                        "Q403",
                        "one of these is always true",
                        *other,
                        "or unequal to this",
                    )
                    .beside(*span, "unequal to this")
                    .help(format!(
                        "for neither of them write `{name} not in (…)`, or join them with `and`"
                    )),
            );
            return;
        }
    }
}

fn named(path: &Path) -> String {
    let names: Vec<&str> = path.steps.iter().map(|step| step.name.as_str()).collect();
    if names.is_empty() {
        "it".to_owned()
    } else {
        names.join(".")
    }
}

/// A text operator with the empty string asks only whether there is a string.
fn empty_text(
    source: &Source,
    node: &Node,
    test: &Test,
    negated: bool,
    found: &mut Vec<Diagnostic>,
) {
    let needle = match test {
        Test::Contains(needle) | Test::StartsWith(needle) | Test::EndsWith(needle) => needle,
        _ => return,
    };
    if matches!(needle, Needle::Folded(text) if text.is_empty()) {
        let meant = if negated { "= None" } else { "!= None" };
        found.push(
            source
                .warning(
                    "Q405",
                    "the empty string is part of every string",
                    node.span,
                    "looks for nothing",
                )
                .help(format!(
                    "if a value should be there or not, write `{meant}`"
                )),
        );
    }
}

/// `name = trigger.name` selects all that have no name when the trigger has none.
fn unguarded(
    source: &Source,
    node: &Node,
    path: &Path,
    test: &Test,
    siblings: &[Node],
    found: &mut Vec<Diagnostic>,
) {
    let outside = |operand: &Operand| match operand {
        Operand::Trigger(from) | Operand::Previous(from) => {
            // Of dynamic fields nobody knows; a warning for each of them would be read by nobody.
            let declared = !matches!(from.kind, Kind::Dynamic);
            declared.then(|| named(from))
        }
        _ => None,
    };
    let from = match test {
        Test::Compare(Relation::Equal, operand) => outside(operand),
        Test::Among(items) => items.iter().find_map(outside),
        _ => None,
    };
    let Some(from) = from else { return };
    if !path.nullable || !nullable_outside(test) {
        return;
    }
    let name = named(path);
    let guarded = siblings
        .iter()
        .any(|sibling| !std::ptr::eq(sibling, node) && excludes_none(sibling, &name));
    if !guarded {
        found.push(
            source
                .warning(
                    "Q404",
                    format!("`{from}` of the trigger may be None"),
                    node.span,
                    format!("then this selects everything whose `{name}` is None"),
                )
                .help(format!("add `and {name} != None`")),
        );
    }
}

fn nullable_outside(test: &Test) -> bool {
    let nullable = |operand: &Operand| match operand {
        Operand::Trigger(path) | Operand::Previous(path) => path.nullable,
        _ => false,
    };
    match test {
        Test::Compare(_, operand) => nullable(operand),
        Test::Among(items) => items.iter().any(nullable),
        _ => false,
    }
}

/// Whether a condition is false where the field is None.
fn excludes_none(node: &Node, name: &str) -> bool {
    let Condition::Test {
        path,
        test,
        negated,
        ..
    } = &node.condition
    else {
        return false;
    };
    if named(path) != name {
        return false;
    }
    match test {
        Test::Compare(Relation::Equal, Operand::Literal(value)) => {
            value.same(&super::value::Scalar::None) == *negated
        }
        Test::Compare(..)
        | Test::Contains(_)
        | Test::StartsWith(_)
        | Test::EndsWith(_)
        | Test::Matches(_) => !negated,
        _ => false,
    }
}
