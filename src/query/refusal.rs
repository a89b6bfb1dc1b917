//! What is said about a query that parses and yet cannot be: the words, the places, and what was probably meant.

use super::check::{Described, Names, Resolved, Scope, Usage, is_outside};
use super::diagnose::{Diagnostic, Source, Span, did_you_mean, nearest};
use super::schema::{Context, Kind, Schema, plural};
use super::syntax::{Operand, Operator, Quantifier, Shift, Spanned, Value};
use super::value::NoNetwork;

/// The most names in one list.
const LISTED: usize = 20;
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

/// Adds the nearest known name and the list of all.
pub(crate) fn unknown<'a>(
    mut diagnostic: Diagnostic,
    span: Span,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    title: &str,
    written: &dyn Fn(&str) -> String,
) -> Diagnostic {
    let known: Vec<&str> = known.collect();
    let near = nearest(name, known.iter().copied());
    let spelt: Vec<String> = near.iter().map(|near| written(near)).collect();
    let spelt: Vec<&str> = spelt.iter().map(String::as_str).collect();
    if let Some(help) = did_you_mean(&spelt) {
        diagnostic = diagnostic.help(help);
    }
    if let [first, ..] = spelt.as_slice() {
        diagnostic = diagnostic.instead(span, *first);
    }
    if known.is_empty() {
        return diagnostic.note(format!("there are no {title} here"));
    }
    diagnostic.list(title, listed(known.into_iter()))
}

/// At most twenty names.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let mut text = names.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// "declared, name; lists: ports": the fields that somebody declared.
fn fields_of(schema: &Schema) -> String {
    let mut left = LISTED;
    let mut more = 0;
    let mut take = |many: bool| {
        let names: Vec<&str> = schema
            .declared()
            .filter(|(_, field)| field.kind.is_many() == many)
            .map(|(name, _)| name)
            .collect();
        let taken = names.len().min(left);
        left -= taken;
        more += names.len() - taken;
        names.get(..taken).unwrap_or(&[]).join(", ")
    };
    let (plain, lists) = (take(false), take(true));
    let mut text = match (plain.is_empty(), lists.is_empty()) {
        (_, true) => plain,
        (true, false) => format!("lists: {lists}"),
        (false, false) => format!("{plain}; lists: {lists}"),
    };
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn with_fields(diagnostic: Diagnostic, schema: &Schema) -> Diagnostic {
    let fields = fields_of(schema);
    if fields.is_empty() {
        return diagnostic;
    }
    diagnostic.list(format!("fields of {}", schema.name()), fields)
}

fn with_list_fields(diagnostic: Diagnostic, schema: Option<&Schema>) -> Diagnostic {
    let Some(schema) = schema else {
        return diagnostic;
    };
    let lists = schema
        .declared()
        .filter(|(_, field)| field.kind.is_many())
        .map(|(name, _)| name);
    let lists = listed(lists);
    if lists.is_empty() {
        return diagnostic;
    }
    diagnostic.list(format!("list fields of {}", schema.name()), lists)
}

/// An unknown segment of a path.
pub(crate) struct Unknown<'u> {
    pub name: &'u str,
    /// The segments before it.
    pub before: &'u [String],
    pub place: Span,
    /// The whole path.
    pub span: Span,
}

pub(crate) fn unknown_field(
    source: &Source,
    context: &Context<'_>,
    schema: &Schema,
    at: &Unknown<'_>,
    scope: &Scope,
    usage: Usage<'_>,
) -> Diagnostic {
    let mut diagnostic = source.error(
        "Q201",
        format!("unknown field `{}`", at.name),
        at.place,
        format!("not a field of {}", schema.name()),
    );
    if let (Some((quantifier, path)), true) = (&scope.within, at.before.is_empty()) {
        diagnostic = diagnostic.beside(
            *path,
            format!(
                "names inside {}(...) belong to its elements",
                quantifier.word()
            ),
        );
    }
    if let Some((help, replacement)) = django_lookup(schema, at, usage) {
        return with_fields(
            diagnostic.help(help).instead(replacement.0, replacement.1),
            schema,
        );
    }
    let near = nearest(at.name, schema.known());
    if let Some(help) = did_you_mean(&near) {
        diagnostic = diagnostic.help(help);
    } else if at.name == "it" {
        diagnostic = diagnostic.help("`it` is a scalar element; these elements have fields");
    } else if scope.within.is_some() && context.schema.field(at.name).is_some() {
        diagnostic = diagnostic.note(format!(
            "`{}` is a field of {}, which cannot be seen from inside",
            at.name,
            context.schema.name()
        ));
    }
    if let [first, ..] = near.as_slice() {
        diagnostic = diagnostic.instead(at.place, *first);
    }
    with_fields(diagnostic, schema)
}

type Rewrite = (String, (Span, String));

/// Users write Django's lookups by habit: `name__icontains`, `network__name`, `mx__isnull`.
fn django_lookup(schema: &Schema, at: &Unknown<'_>, usage: Usage<'_>) -> Option<Rewrite> {
    if !at.name.contains("__") || at.place.end != at.span.end {
        return None;
    }
    let knows = |path: &str| knows(schema, path);
    let prefix: String = at.before.iter().map(|s| format!("{s}.")).collect();
    let dotted = at.name.replace("__", ".");
    if knows(&dotted) {
        let written = format!("{prefix}{dotted}");
        return Some((
            format!("this looks like a Django lookup; write `{written}`"),
            (at.span, written),
        ));
    }
    let (path, lookup) = at.name.rsplit_once("__")?;
    let path = path.replace("__", ".");
    if !knows(&path) {
        return None;
    }
    let field = format!("{prefix}{path}");
    let right = usage.right;
    if right.is_empty() {
        return None;
    }
    let negative = usage.operator == "!=";
    let clause = match lookup {
        "exact" => format!("{field} = {right}"),
        "iexact" => format!("lower({field}) = {}", right.to_ascii_lowercase()),
        "contains" | "icontains" => format!("{field} ~ {right}"),
        "startswith" | "istartswith" => format!("{field} startswith {right}"),
        "endswith" | "iendswith" => format!("{field} endswith {right}"),
        "regex" | "iregex" => format!("{field} matches {right}"),
        "gt" => format!("{field} > {right}"),
        "gte" => format!("{field} >= {right}"),
        "lt" => format!("{field} < {right}"),
        "lte" => format!("{field} <= {right}"),
        "in" => format!("{field} in {right}"),
        "isnull" | "is_null" => {
            let yes = matches!(right, "True" | "true" | "1");
            format!("{field} {} None", if yes == negative { "!=" } else { "=" })
        }
        "count" | "len" => format!("count({field}) {} {right}", usage.operator),
        _ => return None,
    };
    let clause = if negative && !lookup.contains("null") && lookup != "count" {
        format!("not {clause}")
    } else {
        clause
    };
    Some((
        format!("this looks like a Django lookup; write `{clause}`"),
        (usage.clause, clause),
    ))
}

fn knows(schema: &Schema, path: &str) -> bool {
    let mut schema = schema.clone();
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        if schema.is_open() && schema.known().all(|name| name != segment) {
            return !segment.is_empty();
        }
        let Some(field) = schema.field(segment) else {
            return false;
        };
        if segments.peek().is_none() {
            return true;
        }
        schema = match field.kind {
            Kind::Records(record) => schema.containing(&record),
            Kind::One(object_type)
            | Kind::Many(object_type)
            | Kind::Referrers { object_type, .. } => schema.related(&object_type),
            _ => return false,
        };
    }
    false
}

/// A name where the elements are scalars.
pub(crate) fn not_it(
    source: &Source,
    context: &Context<'_>,
    segments: &[String],
    span: Span,
    scope: &Scope,
    kind: &Kind,
) -> Diagnostic {
    let name = segments.join(".");
    let mut diagnostic = source.error(
        "Q201",
        format!("unknown field `{name}`"),
        span,
        format!("the elements have no fields: each is {}", kind.phrase()),
    );
    if let Some((quantifier, path)) = &scope.within {
        diagnostic = diagnostic.beside(
            *path,
            format!(
                "names inside {}(...) belong to its elements",
                quantifier.word()
            ),
        );
    }
    diagnostic = diagnostic
        .help("an element is called `it`")
        .instead(span, "it");
    let outer = segments
        .first()
        .is_some_and(|first| context.schema.known().any(|known| known == first));
    if outer {
        diagnostic = diagnostic.note(format!(
            "`{name}` is a field of {}, which cannot be seen from inside",
            context.schema.name()
        ));
    }
    diagnostic
}

pub(crate) fn past_a_plain_field(
    source: &Source,
    name: &str,
    next: &str,
    next_place: Span,
    place: Span,
    kind: &Kind,
) -> Diagnostic {
    let diagnostic = source
        .error(
            "Q202",
            format!("`{name}` has no fields"),
            next_place,
            format!("there is no `{next}` in it"),
        )
        .beside(place, format!("this is {}", kind.phrase()));
    match (kind, next) {
        (Kind::List(_), "count" | "length" | "size") => diagnostic.help(format!(
            "for the number of elements write `count({name}) > 0`"
        )),
        (Kind::List(_), _) => {
            diagnostic.help(format!("for its elements write `any({name}: it = …)`"))
        }
        _ => diagnostic,
    }
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
