//! What other languages call it: the operators and words that people bring along, and how we write them.

use super::{Opened, Walk};
use crate::query::diagnose::{Diagnostic, Span, did_you_mean, nearest};
use crate::query::refusal;
use crate::query::schema::{Kind, Schema};
use crate::query::token::{Shape, Token};

impl Walk<'_> {
    /// `scan-level`: names have no dashes.
    pub(super) fn dashed_name(&self) -> Diagnostic {
        let span = self.token(0).span.to(self.token(2).span);
        let name = self.text(span).to_owned();
        let schema = self.context.schema;
        let near = nearest(&name, schema.known());
        let mut diagnostic = self.error(
            "Q201",
            format!("unknown field `{name}`"),
            span,
            "names have no dashes",
        );
        if let Some(help) = did_you_mean(&near) {
            diagnostic = diagnostic.help(help);
        }
        match near.as_slice() {
            [first, ..] => diagnostic.instead(span, *first),
            [] => diagnostic,
        }
    }

    pub(super) fn wrong_sign(&self, token: &Token, sign: &str) -> Diagnostic {
        let (meant, label) = match sign {
            "==" | "===" => ("=", "one `=` is enough"),
            ":" | ":=" => ("=", "`=` compares"),
            "<>" | "!==" => ("!=", "unequal is `!=`"),
            "=>" => (">=", "the `=` comes last"),
            "=<" => ("<=", "the `=` comes last"),
            "=~" | "~=" => ("~", "one `~` is enough"),
            "!" => ("!=", "unequal is `!=`"),
            "&&" => return self.connective(token.span, sign, "and"),
            "||" => return self.connective(token.span, sign, "or"),
            _ => return self.no_operator(token.span),
        };
        let diagnostic = self.habit(token.span, meant, label, 1);
        match self.operators() {
            Some((title, operators)) => diagnostic.list(title, operators),
            None => diagnostic,
        }
    }

    /// An operator of another language; the clause is shown with ours.
    pub(super) fn habit(&self, span: Span, meant: &str, label: &str, value: usize) -> Diagnostic {
        let written = self.text(span).to_owned();
        let message = if written.starts_with(|c: char| c.is_ascii_alphabetic())
            && written.chars().any(|c| c.is_ascii_lowercase())
        {
            format!("`{written}` is not part of the language")
        } else {
            format!("`{written}` is not an operator")
        };
        let diagnostic = self.error("Q111", message, span, label);
        let field = self.field.map_or("", |field| self.text(field));
        match self.value_text(value) {
            // `is null` is wrong twice, and mended at once.
            Some(right) if right != self.word(value) && !right.starts_with('(') => diagnostic
                .help(format!("write `{field} {meant} {right}`"))
                .instead(span.to(self.token(value).span), format!("{meant} {right}")),
            Some(right) => diagnostic
                .help(format!("write `{field} {meant} {right}`"))
                .instead(span, meant),
            None => diagnostic
                .help(format!("write `{meant}`"))
                .instead(span, meant),
        }
    }

    /// The value that stands some tokens ahead, as we would write it.
    pub(super) fn value_text(&self, ahead: usize) -> Option<String> {
        let token = self.token(ahead);
        let text = self.text(token.span);
        match token.shape {
            Shape::Text(_) | Shape::Number | Shape::Parameter => Some(text.to_owned()),
            Shape::Word => Some(refusal::value_habit(text).unwrap_or(text).to_owned()),
            Shape::Sign if text == "(" => {
                let close = (ahead..ahead + 64).find(|index| self.is(*index, ")"))?;
                let span = token.span.to(self.token(close).span);
                Some(self.text(span).to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn wrong_word(&self, token: &Token, word: &str) -> Diagnostic {
        match word {
            "is" | "IS" | "Is" => self.is_or_is_not(token),
            "like" | "LIKE" | "ilike" | "ILIKE" | "contains" | "CONTAINS" | "has" | "icontains"
            | "includes" => self.like(token),
            "between" | "BETWEEN" => self.between(token),
            "IN" | "In" => self.habit(token.span, "in", "keywords are lower case", 1),
            "NOT" | "Not" if self.word(1).eq_ignore_ascii_case("in") => {
                let span = token.span.to(self.token(1).span);
                self.habit(span, "not in", "keywords are lower case", 2)
            }
            "STARTSWITH" | "startsWith" | "StartsWith" | "starts_with" | "begins"
            | "begins_with" | "istartswith" => {
                self.habit(token.span, "startswith", lower_case(word, "startswith"), 1)
            }
            "ENDSWITH" | "endsWith" | "EndsWith" | "ends_with" | "iendswith" => {
                self.habit(token.span, "endswith", lower_case(word, "endswith"), 1)
            }
            "regex" | "regexp" | "REGEXP" | "rlike" | "match" | "MATCHES" => {
                self.habit(token.span, "matches", lower_case(word, "matches"), 1)
            }
            "equals" | "eq" | "equal" => self.habit(token.span, "=", "not an operator", 1),
            "ne" | "neq" => self.habit(token.span, "!=", "not an operator", 1),
            "gt" => self.habit(token.span, ">", "not an operator", 1),
            "gte" | "ge" => self.habit(token.span, ">=", "not an operator", 1),
            "lt" => self.habit(token.span, "<", "not an operator", 1),
            "lte" | "le" => self.habit(token.span, "<=", "not an operator", 1),
            "AND" | "And" | "OR" | "Or" => {
                self.connective(token.span, word, &word.to_ascii_lowercase())
            }
            _ => self.no_operator(token.span),
        }
    }

    fn is_or_is_not(&self, token: &Token) -> Diagnostic {
        let negated = self.word(1).eq_ignore_ascii_case("not");
        let span = if negated {
            token.span.to(self.token(1).span)
        } else {
            token.span
        };
        let meant = if negated { "!=" } else { "=" };
        let mut diagnostic =
            self.habit(span, meant, "not an operator", if negated { 2 } else { 1 });
        diagnostic.message = format!("`{}` is not part of the language", self.text(span));
        diagnostic
    }

    /// `like 'dns%'`: the per cent signs say where the text may stand.
    fn like(&self, token: &Token) -> Diagnostic {
        let message = format!("`{}` is not part of the language", self.text(token.span));
        let diagnostic = self.error("Q111", message, token.span, "not an operator");
        let field = self.field.map_or("", |field| self.text(field));
        let Some(value) = self.value_text(1) else {
            return diagnostic
                .help(format!("write `{field} ~ …`"))
                .instead(token.span, "~");
        };
        let inner = value.trim_matches(['"', '\'']);
        let meant = match (inner.starts_with('%'), inner.ends_with('%')) {
            (false, true) => "startswith",
            (true, false) => "endswith",
            _ => "~",
        };
        let written = format!("{meant} {}", value.replace('%', ""));
        diagnostic
            .help(format!("write `{field} {written}`"))
            .instead(token.span.to(self.token(1).span), written)
    }

    fn between(&self, token: &Token) -> Diagnostic {
        let word = self.text(token.span).to_owned();
        let diagnostic = self.error(
            "Q111",
            format!("`{word}` is not part of the language"),
            token.span,
            "not an operator",
        );
        let field = self.field.map_or("", |field| self.text(field));
        match (self.value_text(1), self.value_text(3)) {
            (Some(low), Some(high)) => {
                let clause = format!("{field} >= {low} and {field} <= {high}");
                let whole = self.field.unwrap_or(token.span).to(self.token(3).span);
                diagnostic
                    .help(format!("write `{clause}`"))
                    .instead(whole, clause)
            }
            _ => diagnostic.help(format!("write `{field} >= … and {field} <= …`")),
        }
    }

    /// The operators that fit the field on the left, where it is known.
    pub(super) fn operators(&self) -> Option<(String, &'static str)> {
        let inside = self
            .open
            .iter()
            .any(|(opened, _)| *opened == Opened::Quantifier);
        if inside {
            return None;
        }
        let kind = kind_of(self.context.schema, self.text(self.field?))?;
        (!matches!(kind, Kind::Dynamic)).then(|| refusal::operators_for(&kind))
    }

    pub(super) fn connective(&self, span: Span, written: &str, meant: &str) -> Diagnostic {
        let label = if written.starts_with(|c: char| c.is_ascii_alphabetic()) {
            "keywords are lower case".to_owned()
        } else {
            format!("`{meant}` is a word here")
        };
        self.error("Q112", self.expected(), span, label)
            .help(format!("write `{meant}`"))
            .instead(
                span,
                format!(" {meant} ").trim_matches(if self.spaced(span) { ' ' } else { '\0' }),
            )
    }

    /// Whether spaces stand on both sides.
    fn spaced(&self, span: Span) -> bool {
        let text = &self.source.text;
        let before = text.get(..span.start).is_some_and(|t| t.ends_with(' '));
        let after = text.get(span.end..).is_some_and(|t| t.starts_with(' '));
        before && after
    }

    /// Text right behind a string: a quote inside it has ended it.
    pub(super) fn adjacent(&self, token: &Token) -> Option<Diagnostic> {
        let before = self.tokens.get(self.at.checked_sub(1)?)?;
        let Shape::Text(quote) = before.shape else {
            return None;
        };
        if before.span.end != token.span.start
            || !matches!(token.shape, Shape::Word | Shape::Number | Shape::Text(_))
        {
            return None;
        }
        let rest = self.source.text.get(token.span.start..).unwrap_or("");
        let line = rest.split(['\n', '\r']).next().unwrap_or(rest);
        let more = match line.find(quote) {
            Some(end) => end + 1,
            None => token.span.end - token.span.start,
        };
        let head = self.text(before.span);
        let head = head.get(1..head.len().saturating_sub(1)).unwrap_or("");
        let tail = line.get(..more).unwrap_or("");
        let tail = tail.strip_suffix(quote).unwrap_or(tail);
        let other = if quote == '\'' { '"' } else { '\'' };
        let escaped = format!("{quote}{head}\\{quote}{tail}{quote}");
        let message = "expected `and`, `or` or the end of the query";
        let diagnostic = self
            .error(
                "Q102",
                message,
                Span::new(token.span.start, token.span.start + 1).to(self.first_of(token)),
                "unexpected text after the string",
            )
            .beside(before.span, "the string ends here");
        let whole = Span::new(before.span.start, token.span.start + more);
        if head.contains(other) || tail.contains(other) {
            return Some(
                diagnostic
                    .help(format!("escape the quote, `{escaped}`"))
                    .instead(whole, escaped),
            );
        }
        let swapped = format!("{other}{head}{quote}{tail}{other}");
        Some(
            diagnostic
                .help(format!(
                    "escape the quote, `{escaped}`, or use the other quotes, `{swapped}`"
                ))
                .instead(whole, swapped),
        )
    }

    /// The first character of a token.
    fn first_of(&self, token: &Token) -> Span {
        let length = self
            .text(token.span)
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        Span::new(token.span.start, token.span.start + length)
    }
}

fn lower_case(word: &str, meant: &str) -> &'static str {
    if word.eq_ignore_ascii_case(meant) {
        "keywords are lower case"
    } else {
        "not an operator"
    }
}

/// What a path holds, followed without complaint.
fn kind_of(schema: &Schema, path: &str) -> Option<Kind> {
    let mut schema = schema.clone();
    let mut segments = path.split('.').peekable();
    loop {
        let field = schema.field(segments.next()?)?;
        if segments.peek().is_none() {
            return Some(field.kind);
        }
        schema = match &field.kind {
            Kind::Records(record) => schema.containing(record),
            Kind::One(object_type)
            | Kind::Many(object_type)
            | Kind::Referrers { object_type, .. } => schema.related(object_type),
            _ => return None,
        };
    }
}
