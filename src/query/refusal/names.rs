//! Unknown names: the nearest known ones, and what a lookup of Django's is called here.

use crate::query::check::Usage;
use crate::query::diagnose::{Diagnostic, Source, Span, did_you_mean, nearest};
use crate::query::resolve::Scope;
use crate::query::schema::{Context, Kind, Schema};

/// The most names in one list.
const LISTED: usize = 20;

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
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
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

pub(super) fn with_fields(diagnostic: Diagnostic, schema: &Schema) -> Diagnostic {
    let fields = fields_of(schema);
    if fields.is_empty() {
        return diagnostic;
    }
    diagnostic.list(format!("fields of {}", schema.name()), fields)
}

pub(super) fn with_list_fields(diagnostic: Diagnostic, schema: Option<&Schema>) -> Diagnostic {
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
    let prefix: String = at.before.iter().map(|s| format!("{s}.")).collect();
    let dotted = at.name.replace("__", ".");
    let as_path = || {
        let written = format!("{prefix}{dotted}");
        let help = format!("this looks like a Django lookup; write `{written}`");
        (help, (at.span, written))
    };
    if knows(schema, &dotted, false) {
        return Some(as_path());
    }
    lookup_clause(schema, at, usage, &prefix).or_else(|| knows(schema, &dotted, true).then(as_path))
}

/// `name__icontains = "x"` as the clause that it stands for.
fn lookup_clause(
    schema: &Schema,
    at: &Unknown<'_>,
    usage: Usage<'_>,
    prefix: &str,
) -> Option<Rewrite> {
    let (path, lookup) = at.name.rsplit_once("__")?;
    let path = path.replace("__", ".");
    if !knows(schema, &path, true) || usage.right.is_empty() {
        return None;
    }
    let field = format!("{prefix}{path}");
    let is_word = usage
        .right
        .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !matches!(usage.right, "True" | "False" | "None");
    let right = if is_word && !usage.right.contains('(') {
        format!("\"{}\"", usage.right)
    } else {
        usage.right.to_owned()
    };
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
            let yes = matches!(usage.right, "True" | "true" | "1");
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

/// Whether a path can be followed; `loosely` also where an open type takes any name.
fn knows(schema: &Schema, path: &str, loosely: bool) -> bool {
    let mut schema = schema.clone();
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        if schema.is_open() && schema.known().all(|name| name != segment) {
            return loosely && !segment.is_empty();
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
