//! What is said about a query that parses and yet cannot be: the words, the places, and what was probably meant.

mod lists;
mod names;

pub(crate) use lists::{
    bare_word_in_list, empty_list, in_needs_a_list, list_among, list_compared, not_a_list,
    not_quantifiable, related_compared,
};
pub(crate) use names::{Unknown, not_it, past_a_plain_field, unknown, unknown_field};

use super::check::{Described, Usage};
use super::diagnose::{Diagnostic, Source, Span, did_you_mean, nearest};
use super::resolve::{Names, Resolved, Scope, is_outside};
use super::schema::{Kind, plural};
use super::syntax::{Operand, Operator, Shift, Spanned, Value};
use super::value::NoNetwork;

const DATE_FORMS: &str =
    "dates are \"YYYY-MM-DD\", timestamps \"YYYY-MM-DD HH:MM\" or \"YYYY-MM-DD HH:MM:SS\", in UTC";
const FUNCTIONS: [&str; 5] = ["in_set", "lower", "net", "now", "today"];
const UNITS: &str = "units are s, m, h, d, w";

/// "a string", "an int": what stands there.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::None => "`None`",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "an int",
        Value::Decimal(_) => "a decimal",
        Value::Text(_) => "a string",
        Value::Parameter(_) => "a parameter",
        Value::Path(segments) if is_outside(segments) => "a value of another object",
        Value::Path(_) => "a field",
        Value::Call { name, .. } if matches!(name.node.as_str(), "now" | "today") => "a datetime",
        Value::Call { .. } => "a function",
        Value::Shifted { .. } => "a datetime",
        Value::Broken => "not a value",
    }
    .to_owned()
}

/// The words that other languages have for our values.
pub(crate) fn value_habit(word: &str) -> Option<&'static str> {
    match word {
        "null" | "NULL" | "Null" | "nil" | "none" | "NONE" | "undefined" => Some("None"),
        "true" | "TRUE" => Some("True"),
        "false" | "FALSE" => Some("False"),
        _ => None,
    }
}

fn habit(source: &Source, word: &str, span: Span, before: &str) -> Option<Diagnostic> {
    let meant = value_habit(word)?;
    let (message, label) = if meant == "None" {
        (
            "no value is written `None`",
            format!("`{word}` is not a value here"),
        )
    } else {
        ("booleans are capitalised", "unquoted word".to_owned())
    };
    Some(
        source
            .error("Q110", message, span, label)
            .help(format!("write `{before}{meant}`"))
            .instead(span, meant),
    )
}

/// `true` or `null` where a condition should be.
pub(crate) fn bare_word(source: &Source, span: Span, segments: &[String]) -> Option<Diagnostic> {
    let [word] = segments else { return None };
    habit(source, word, span, "").filter(|_| value_habit(word) != Some("None"))
}

/// What cannot stand on the right of an operator whatever the field holds.
pub(crate) fn right_side(
    source: &Source,
    described: &Described<'_>,
    operator: Span,
    right: &Operand,
) -> Option<Diagnostic> {
    let Value::Path(segments) = &right.node else {
        return None;
    };
    if is_outside(segments) {
        return None;
    }
    let in_list = described.operator.ends_with("in");
    let before = if in_list {
        String::new()
    } else {
        format!("{} {} ", described.name, operator.of(&source.text))
    };
    if let [word] = segments.as_slice()
        && let Some(diagnostic) = habit(source, word, right.span, &before)
    {
        return Some(diagnostic);
    }
    let quoted = format!("'{}'", right.span.of(&source.text));
    let is_clock = matches!(right.span.of(&source.text), "now" | "today");
    let mut diagnostic = source.error(
        "Q113",
        "the right side must be a value",
        right.span,
        "a bare word is a field name, and fields are only allowed on the left",
    );
    if matches!(described.kind, Kind::Text | Kind::Dynamic) {
        diagnostic = diagnostic
            .help(format!("put it in quotes: `{before}{quoted}`"))
            .instead(right.span, quoted);
    } else if is_clock && matches!(described.kind, Kind::Date | Kind::DateTime) {
        let call = format!("{}()", right.span.of(&source.text));
        diagnostic = diagnostic
            .help(format!(
                "for the time of the evaluation write `{before}{call}`"
            ))
            .instead(right.span, call);
    }
    Some(diagnostic)
}

pub(crate) fn field_as_value(
    source: &Source,
    described: &Described<'_>,
    span: Span,
    segments: &[String],
) -> Diagnostic {
    let name = segments.join(".");
    source
        .error(
            "Q113",
            format!("{} must be given as a value", described.title()),
            span,
            "a bare word is a field name, and fields are only allowed on the left",
        )
        .help(format!("put it in quotes: `'{name}'`"))
}

pub(crate) fn field_alone(source: &Source, span: Span, field: &Resolved) -> Diagnostic {
    let name = span.of(&source.text);
    let end = Span::at(span.end);
    let diagnostic = source.error(
        "Q105",
        "a field alone is not a condition",
        end,
        "expected an operator",
    );
    match field.kind() {
        Kind::Bool => diagnostic
            .help(format!("write `{name} = True`"))
            .instead(end, " = True"),
        kind if kind.is_many() => diagnostic
            .help(format!("for a list that is not empty write `any({name})`"))
            .instead(span, format!("any({name})")),
        _ if field.is_nullable() => diagnostic
            .help(format!("for a value that is there write `{name} != None`"))
            .instead(end, " != None"),
        kind => diagnostic.list(
            format!("operators for {} field", noun(kind)),
            operators(kind),
        ),
    }
}

pub(crate) fn value_alone(source: &Source, operand: &Operand) -> Diagnostic {
    source
        .error(
            "Q105",
            "a value alone is not a condition",
            operand.span,
            describe(&operand.node),
        )
        .help("conditions look like `name = \"x\"`; everything is `True`")
}

/// A value where a field should be.
pub(crate) fn value_on_the_left(source: &Source, left: &Operand, usage: Usage<'_>) -> Diagnostic {
    if let Value::Call { name, .. } = &left.node
        && (name.node == "in_set" || !FUNCTIONS.contains(&name.node.as_str()))
    {
        return no_such_function(source, name, left.span);
    }
    let label = match &left.node {
        Value::Parameter(_) => "a parameter",
        Value::Path(_) => "a value of another object",
        Value::Call { .. } | Value::Shifted { .. } => "not a field",
        _ => "a value",
    };
    let mut diagnostic = source.error("Q117", "a comparison starts with a field", left.span, label);
    let turned = match usage.operator {
        "=" => Some("="),
        "!=" => Some("!="),
        "<" => Some(">"),
        "<=" => Some(">="),
        ">" => Some("<"),
        ">=" => Some("<="),
        _ => None,
    };
    let right_is_name = usage
        .right
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && usage
            .right
            .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !matches!(usage.right, "True" | "False" | "None");
    if let (Some(turned), true) = (turned, right_is_name) {
        let clause = format!("{} {turned} {}", usage.right, left.span.of(&source.text));
        diagnostic = diagnostic
            .help(format!("write `{clause}`"))
            .instead(usage.clause, clause);
    }
    diagnostic.note("a value may stand on the left only of `in`, with a list field on the right")
}

/// "an int, may be None".
fn holds(described: &Described<'_>) -> String {
    let mut phrase = described.kind.phrase();
    if described.nullable {
        phrase.push_str(", may be None");
    }
    phrase
}

/// "a string", for "operators for a string field".
fn noun(kind: &Kind) -> String {
    match kind {
        Kind::List(_) => "a list".to_owned(),
        Kind::Dynamic => "a dynamic".to_owned(),
        kind => kind.phrase(),
    }
}

fn operators(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Dynamic => {
            "=, !=, <, <=, >, >=, ~, !~, startswith, endswith, matches, in, not in"
        }
        Kind::Int | Kind::Float => "=, !=, <, <=, >, >=, in, not in",
        Kind::Bool => "=, !=, in, not in",
        Kind::Date | Kind::DateTime => "=, !=, <, <=, >, >=, ~, !~, in, not in",
        Kind::Ip => "=, !=, in, not in, in net(\"…\")",
        Kind::One(_) => "= None, != None",
        _ => "= None, != None, any(…), all(…), none(…), count(…), \"…\" in",
    }
}

pub(crate) fn operators_for(kind: &Kind) -> (String, &'static str) {
    (
        format!("operators for {} field", noun(kind)),
        operators(kind),
    )
}

pub(crate) fn none_has_no_order(
    source: &Source,
    described: &Described<'_>,
    operator: Spanned<Operator>,
    span: Span,
    scope: &Scope,
) -> Diagnostic {
    let name = described.name;
    let word = operator.node.word();
    let subjects = match &scope.names {
        Names::Schema(schema) => plural(schema.name()),
        _ => "elements".to_owned(),
    };
    if !operator.node.is_ordering() {
        return source
            .error(
                "Q212",
                format!("`None` cannot be compared with `{word}`"),
                span,
                "has no text",
            )
            .beside(operator.span, "needs a string")
            .none_help(described, span);
    }
    let mut diagnostic = source
        .error("Q212", "`None` cannot be ordered", span, "has no order")
        .beside(operator.span, "needs two ordered values");
    if !described.nullable {
        return diagnostic.note(format!("`{name}` is never None"));
    }
    let label = name.rsplit('.').next().unwrap_or(name).replace('_', " ");
    diagnostic = diagnostic
        .help(format!(
            "for {subjects} that have {} {label} write `{name} != None`",
            article(&label)
        ))
        .instead(described.span.to(span), format!("{name} != None"));
    let example = match described.kind {
        Kind::Int | Kind::Float => format!("{name} {word} 0"),
        _ => format!("{name} {word} …"),
    };
    diagnostic.note(format!("`{example}` is already false when {name} is None"))
}

impl Diagnostic {
    /// How None is asked for, where there can be one.
    fn none_help(self, described: &Described<'_>, span: Span) -> Diagnostic {
        let name = described.name;
        if !described.nullable {
            return self.note(format!("`{name}` is never None"));
        }
        self.help(format!("write `{name} = None` or `{name} != None`"))
            .instead(described.span.to(span), format!("{name} != None"))
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) {
        "an"
    } else {
        "a"
    }
}

pub(crate) fn operator_does_not_fit(
    source: &Source,
    described: &Described<'_>,
    word: &str,
    operator: Span,
    right: &Operand,
) -> Diagnostic {
    let mut diagnostic = source
        .error(
            "Q217",
            format!("`{word}` does not fit {}", described.kind.phrase()),
            operator,
            "not an operator for it",
        )
        .beside(described.span, holds(described));
    if let (Kind::Date | Kind::DateTime, "startswith") = (described.kind, word) {
        let clause = format!("{} ~ {}", described.name, right.span.of(&source.text));
        diagnostic = diagnostic.help(format!("for a year, month or day write `{clause}`"));
    }
    diagnostic.list(
        format!("operators for {} field", noun(described.kind)),
        operators(described.kind),
    )
}

pub(crate) fn needs_a_string(
    source: &Source,
    described: &Described<'_>,
    operator: Operator,
    right: &Operand,
) -> Diagnostic {
    let value = right.span.of(&source.text);
    let quoted = format!("\"{value}\"");
    let diagnostic = source
        .error(
            "Q213",
            format!("`{}` needs a string", operator.word()),
            right.span,
            describe(&right.node),
        )
        .beside(described.span, holds(described));
    match right.node {
        Value::Int(_) | Value::Decimal(_) | Value::Bool(_) => diagnostic
            .help(format!(
                "put it in quotes: `{} {} {quoted}`",
                described.name,
                operator.word()
            ))
            .instead(right.span, quoted),
        _ => diagnostic,
    }
}

pub(crate) fn not_a_pattern(source: &Source, pattern: &str, span: Span, error: &str) -> Diagnostic {
    // The last line of the engine's own report says what is wrong; the lines before it draw the pattern.
    let why = error
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("error: "))
        .unwrap_or("it does not parse")
        .to_owned();
    let diagnostic = source.error("Q219", "not a regular expression", span, why);
    if pattern.contains("(?=") || pattern.contains("(?!") || pattern.contains("(?<") {
        return diagnostic.note("look-around does not exist here: matching takes linear time");
    }
    diagnostic
}

/// A literal of the wrong type.
pub(crate) fn wrong_type(
    source: &Source,
    described: &Described<'_>,
    right: &Operand,
) -> Diagnostic {
    let text = right.span.of(&source.text);
    let what = describe(&right.node);
    let diagnostic = source
        .error(
            "Q213",
            format!(
                "{} is {}; this is {what}",
                described.title(),
                described.kind.phrase()
            ),
            right.span,
            what,
        )
        .beside(described.span, holds(described));
    let instead = |written: String| {
        let listed = described.operator.ends_with("in");
        let shown = if listed || !described.quoted {
            written.clone()
        } else {
            format!("{} {} {written}", described.name, described.operator)
        };
        (shown, written)
    };
    match (described.kind, &right.node) {
        (Kind::Int, Value::Text(word)) if word.parse::<i64>().is_ok() => {
            let (shown, written) = instead(word.trim_start_matches('+').to_owned());
            diagnostic
                .help(format!("remove the quotes: `{shown}`"))
                .instead(right.span, written)
        }
        (Kind::Float, Value::Text(word)) if is_number(word) => {
            let (shown, written) = instead(word.clone());
            diagnostic
                .help(format!("remove the quotes: `{shown}`"))
                .instead(right.span, written)
        }
        (Kind::Int, Value::Decimal(number)) => {
            int_for_decimal(diagnostic, described, *number, right.span)
        }
        (Kind::Bool, value) => {
            let meant = match value {
                Value::Int(1) => Some("True"),
                Value::Int(0) => Some("False"),
                Value::Text(word) => match word.to_ascii_lowercase().as_str() {
                    "true" | "yes" => Some("True"),
                    "false" | "no" => Some("False"),
                    _ => None,
                },
                _ => None,
            };
            match meant {
                Some(meant) => {
                    let (shown, written) = instead(meant.to_owned());
                    diagnostic
                        .help(format!("write `{shown}`"))
                        .instead(right.span, written)
                }
                None => diagnostic.help("booleans are `True` and `False`"),
            }
        }
        (Kind::Text, Value::Int(_) | Value::Decimal(_) | Value::Bool(_)) => {
            let (shown, written) = instead(format!("\"{text}\""));
            diagnostic
                .help(format!("put it in quotes: `{shown}`"))
                .instead(right.span, written)
        }
        (Kind::Date | Kind::DateTime, _) => diagnostic.help(DATE_FORMS),
        (Kind::Ip, _) => diagnostic.help("write the address as a string: \"192.0.2.1\""),
        _ => diagnostic,
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && word.ends_with(|c: char| c.is_ascii_digit())
        && word.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `>= 1.5` is `>= 2` for ints.
fn int_for_decimal(
    diagnostic: Diagnostic,
    described: &Described<'_>,
    number: f64,
    span: Span,
) -> Diagnostic {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.abs() > EXACT {
        return diagnostic;
    }
    let whole = number.fract() == 0.0;
    let meant = match described.operator {
        ">" | "<=" => number.floor(),
        ">=" | "<" => number.ceil(),
        _ if whole => number,
        _ => return diagnostic.note("no int equals it"),
    };
    let written = format!("{meant:.0}").replace("-0", "0");
    if described.operator.ends_with("in") {
        return diagnostic
            .help(format!("write `{written}`"))
            .instead(span, written);
    }
    let clause = format!("{} {} {written}", described.name, described.operator);
    let subjects = plural(described.noun);
    diagnostic
        .help(format!("`{clause}` is true for the same {subjects}"))
        .instead(span, written)
}

/// A constant from outside whose type does not fit.
pub(crate) fn wrong_kind(
    source: &Source,
    described: &Described<'_>,
    right: &Operand,
    kind: &Kind,
) -> Diagnostic {
    let what = kind.phrase();
    source
        .error(
            "Q213",
            format!(
                "{} is {}; `{}` is {what}",
                described.title(),
                described.kind.phrase(),
                right.span.of(&source.text)
            ),
            right.span,
            what,
        )
        .beside(described.span, holds(described))
}

pub(crate) fn never_none(source: &Source, described: &Described<'_>, span: Span) -> Diagnostic {
    source
        .error(
            "Q218",
            format!("{} is never None", described.title()),
            span,
            "nothing to compare it with",
        )
        .beside(
            described.span,
            format!("{}, always there", described.kind.phrase()),
        )
        .note("the comparison would have the same answer for everything")
}

pub(crate) fn not_a_date(source: &Source, span: Span, why: &str) -> Diagnostic {
    // Inside the quotes: the culprit is the text.
    let inside = Span::new(
        span.start + 1,
        span.end.saturating_sub(1).max(span.start + 1),
    );
    source
        .error("Q215", "not a date", inside, why)
        .help(DATE_FORMS)
}

pub(crate) fn not_an_address(
    source: &Source,
    described: &Described<'_>,
    span: Span,
    text: &str,
) -> Diagnostic {
    let diagnostic = source
        .error("Q216", "not an IP address", span, "not written like one")
        .beside(described.span, holds(described));
    if super::value::Network::parse(text).is_ok() {
        let written = format!("net({})", span.of(&source.text));
        return diagnostic.help(format!(
            "this is a network: write `{} in {written}`",
            described.name
        ));
    }
    diagnostic.help("addresses are written \"192.0.2.1\" or \"2001:db8::1\"")
}

pub(crate) fn not_a_network(source: &Source, argument: &Operand, why: &NoNetwork) -> Diagnostic {
    let label = match why {
        NoNetwork::Address => match argument.node {
            Value::Text(_) => "not an address, nor one with a prefix length".to_owned(),
            _ => describe(&argument.node),
        },
        NoNetwork::Prefix { most } => format!("the prefix length goes from 0 to {most}"),
        NoNetwork::HostBits { .. } => "host bits are set".to_owned(),
    };
    let diagnostic = source.error("Q216", "not a network", argument.span, label);
    match why {
        NoNetwork::HostBits { network, single } => diagnostic
            .help(format!(
                "the network is \"{network}\"; the single address is \"{single}\""
            ))
            .instead(argument.span, format!("\"{network}\"")),
        _ => diagnostic.help("networks are written \"10.0.0.0/8\" or \"2001:db8::/32\""),
    }
}

pub(crate) fn no_such_function(source: &Source, name: &Spanned<String>, span: Span) -> Diagnostic {
    let word = name.node.as_str();
    match word {
        "lower" => source
            .error(
                "Q120",
                "`lower` stands on the left",
                span,
                "not a function of values",
            )
            .help("write the right side in lower case: it is compared as written"),
        "net" => source
            .error(
                "Q120",
                "`net` needs `in`",
                span,
                "a network, not an address",
            )
            .help(format!("write `… in {}`", span.of(&source.text))),
        "in_set" => source
            .error(
                "Q120",
                "`in_set` is a condition of its own",
                span,
                "not a value",
            )
            .help(format!("write `{}`", span.of(&source.text))),
        _ => {
            let mut diagnostic = source.error(
                "Q120",
                format!("unknown function `{word}`"),
                name.span,
                "no such function",
            );
            let near = nearest(word, FUNCTIONS);
            if let Some(help) = did_you_mean(&near) {
                diagnostic = diagnostic.help(help);
            }
            if let [first, ..] = near.as_slice() {
                diagnostic = diagnostic.instead(name.span, *first);
            }
            diagnostic.list("functions", FUNCTIONS.join(", "))
        }
    }
}

pub(crate) fn not_shiftable(source: &Source, base: &Operand, shift: Span) -> Diagnostic {
    if matches!(base.node, Value::Int(_) | Value::Decimal(_)) {
        return source
            .error("Q223", "there is no arithmetic", shift, "not expected")
            .beside(base.span, describe(&base.node));
    }
    let clock = concat!("now", "()");
    source
        .error(
            "Q223",
            "a length of time cannot be added here",
            shift,
            "not expected",
        )
        .beside(base.span, describe(&base.node))
        .note(format!("only `{clock}` and `today()` can be shifted"))
}

pub(crate) fn no_unit(source: &Source, base: Span, shift: &Spanned<Shift>) -> Diagnostic {
    let node = &shift.node;
    let sign = if node.forward { "+" } else { "-" };
    let base = base.of(&source.text);
    let place = node.duration.span;
    let written = |unit: &str| format!("{base} {sign} {}{unit}", node.count);
    if node.unit.is_empty() {
        return source
            .error("Q116", "a duration needs a unit", place, "no unit")
            .help(format!("write `{}`; {UNITS}", written("d")))
            .instead(place, format!("{}d", node.count));
    }
    let diagnostic = source.error(
        "Q116",
        format!("unknown unit `{}`", node.unit),
        place,
        "no such unit",
    );
    let meant = match node.unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hour" | "hours" => Some("h"),
        "d" | "day" | "days" => Some("d"),
        "w" | "week" | "weeks" => Some("w"),
        _ => None,
    };
    match meant {
        Some(unit) => diagnostic
            .help(format!("write `{}`; {UNITS}", written(unit)))
            .instead(place, format!("{}{unit}", node.count)),
        None => diagnostic
            .help(UNITS)
            .note("months and years have no fixed length"),
    }
}
