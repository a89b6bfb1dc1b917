//! Why a text does not parse. The parser decides; this walks its tokens to the first that fits nowhere, and says what it
//! was probably meant to be.

mod habit;

use super::diagnose::{Diagnostic, Source, Span};
use super::schema::Context;
use super::token::{Shape, Token, tokens};

/// Explains a text that the grammar refused at `place`.
pub(crate) fn about(source: &Source, context: &Context<'_>, place: usize) -> Diagnostic {
    let tokens = tokens(source);
    let mut walk = Walk {
        source,
        context,
        tokens: &tokens,
        at: 0,
        state: State::Start,
        open: Vec::new(),
        field: None,
        operator: None,
        connective: None,
    };
    walk.first_misfit().unwrap_or_else(|| {
        source.error(
            "Q109",
            "the query does not parse",
            Span::at(place),
            "not expected here",
        )
    })
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A condition.
    Start,
    /// An operator, behind a field or a value.
    Operator,
    /// A value, behind an operator.
    Value,
    /// A list, behind `in`.
    List,
    /// A value inside a list or behind a function's parenthesis.
    Item,
    ItemEnd,
    /// The path of a quantifier or of `changed`.
    Path,
    PathEnd,
    /// `since:` or `until:`.
    Bound,
    /// A connective, a closing parenthesis or the end.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Group,
    Quantifier,
    History,
    Changed,
    /// A list or the arguments of a function, and what follows it.
    Items(State),
}

struct Walk<'w> {
    source: &'w Source,
    context: &'w Context<'w>,
    tokens: &'w [Token],
    at: usize,
    state: State,
    open: Vec<(Opened, Span)>,
    /// The left side of the current condition.
    field: Option<Span>,
    operator: Option<Span>,
    connective: Option<Span>,
}

const END: Token = Token {
    shape: Shape::End,
    span: Span { start: 0, end: 0 },
};

impl Walk<'_> {
    fn token(&self, ahead: usize) -> &Token {
        self.tokens
            .get(self.at + ahead)
            .or(self.tokens.last())
            .unwrap_or(&END)
    }

    fn text(&self, span: Span) -> &str {
        span.of(&self.source.text)
    }

    fn word(&self, ahead: usize) -> &str {
        self.text(self.token(ahead).span)
    }

    fn is(&self, ahead: usize, text: &str) -> bool {
        matches!(self.token(ahead).shape, Shape::Word | Shape::Sign) && self.word(ahead) == text
    }

    fn error(
        &self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> Diagnostic {
        self.source.error(code, message, span, label)
    }

    fn first_misfit(&mut self) -> Option<Diagnostic> {
        loop {
            let token = self.token(0).clone();
            if let Shape::Bad(diagnostic) = token.shape {
                return Some(*diagnostic);
            }
            let at_end = matches!(token.shape, Shape::End);
            if let Some(diagnostic) = self.step(&token) {
                return Some(diagnostic);
            }
            if at_end {
                return None;
            }
            self.at += 1;
        }
    }

    fn step(&mut self, token: &Token) -> Option<Diagnostic> {
        match self.state {
            State::Start => self.start(token),
            State::Operator => self.behind_operand(token),
            State::Value => self.value(token, State::Done),
            State::List => self.list(token),
            State::Item => self.value(token, State::ItemEnd),
            State::ItemEnd => self.behind_item(token),
            State::Path => self.path(token),
            State::PathEnd => self.behind_path(token),
            State::Bound => self.bound(token),
            State::Done => self.behind_condition(token),
        }
    }

    fn start(&mut self, token: &Token) -> Option<Diagnostic> {
        self.operator = None;
        self.field = Some(token.span);
        let text = self.text(token.span).to_owned();
        match token.shape {
            Shape::End => return Some(self.condition_missing(token.span)),
            Shape::Word => {
                if text == "not" {
                    return None;
                }
                if let Some(diagnostic) = self.misplaced_keyword(token, &text) {
                    return Some(diagnostic);
                }
                if self.is(1, "(") {
                    return self.opens(&text);
                }
            }
            Shape::Sign => {
                if text == "(" {
                    self.open.push((Opened::Group, token.span));
                    return None;
                }
                return Some(self.no_condition(token, &text));
            }
            _ => {}
        }
        self.state = State::Operator;
        self.shifted()
    }

    /// A word before a parenthesis: quantifier, history operator or function.
    fn opens(&mut self, word: &str) -> Option<Diagnostic> {
        self.at += 1;
        let span = self.token(0).span;
        let (opened, state) = match word {
            "any" | "all" | "none" | "count" => (Opened::Quantifier, State::Path),
            "ever" | "always" => (Opened::History, State::Start),
            "changed" => (Opened::Changed, State::Path),
            _ => (Opened::Items(State::Operator), State::Item),
        };
        self.open.push((opened, span));
        self.state = state;
        self.nothing_inside(opened)
    }

    /// `f()`: right for the clock, and an empty list otherwise.
    fn nothing_inside(&mut self, opened: Opened) -> Option<Diagnostic> {
        if let (Opened::Items(after), true) = (opened, self.is(1, ")")) {
            self.at += 1;
            self.open.pop();
            self.state = after;
            return self.shifted();
        }
        None
    }

    fn condition_missing(&self, end: Span) -> Diagnostic {
        if let Some(connective) = self.connective {
            let word = self.text(connective).to_owned();
            return self
                .error(
                    "Q109",
                    "expected a condition",
                    end,
                    format!("nothing follows `{word}`"),
                )
                .beside(connective, "joins two conditions");
        }
        if let Some((_, open)) = self.open.last() {
            return self
                .error("Q101", "unclosed `(`", end, "expected a condition here")
                .beside(*open, "behind this");
        }
        if self.at > 0 {
            return self.error("Q109", "expected a condition", end, "nothing follows");
        }
        self.error(
            "Q106",
            "the query is empty",
            Span::at(0),
            "expected a condition",
        )
        .help("everything is spelt `True`")
        .instead(Span::new(0, self.source.text.len()), "True")
    }

    fn misplaced_keyword(&self, token: &Token, text: &str) -> Option<Diagnostic> {
        let next_is_operator = matches!(self.token(1).shape, Shape::Sign) && !self.is(1, "(");
        match text {
            "and" | "or" | "in" | "startswith" | "endswith" => Some(self.error(
                "Q109",
                "expected a condition",
                token.span,
                format!("`{text}` needs something on its left"),
            )),
            "NOT" | "Not" if !next_is_operator => Some(
                self.error(
                    "Q112",
                    "expected a condition",
                    token.span,
                    "keywords are lower case",
                )
                .help("write `not`")
                .instead(token.span, "not"),
            ),
            "AND" | "OR" | "And" | "Or" if !next_is_operator => Some(self.error(
                "Q109",
                "expected a condition",
                token.span,
                format!("`{}` needs something on its left", text.to_lowercase()),
            )),
            _ => None,
        }
    }

    fn no_condition(&self, token: &Token, text: &str) -> Diagnostic {
        let diagnostic =
            |label: &str| self.error("Q109", "expected a condition", token.span, label);
        match text {
            "!" => self
                .error(
                    "Q111",
                    "`!` is not an operator",
                    token.span,
                    "`not` is a word here",
                )
                .help("write `not`")
                .instead(token.span, "not "),
            "*" => diagnostic("not a condition")
                .help("everything is spelt `True`")
                .instead(token.span, "True"),
            "#" | "--" | "//" | "/*" => diagnostic("there are no comments"),
            ")" => diagnostic("nothing inside"),
            "[" | "{" => {
                diagnostic("not used in queries").help("groups are written in parentheses")
            }
            _ => diagnostic("not a field"),
        }
    }

    /// Takes `- 30d` behind a value.
    fn shifted(&mut self) -> Option<Diagnostic> {
        loop {
            let sign = self.is(1, "+") || self.is(1, "-");
            let number = if sign { 2 } else { 1 };
            let end = self.token(0).span.end;
            let adjacent_name = sign
                && self.token(1).span.start == end
                && matches!(self.token(2).shape, Shape::Word)
                && self.token(2).span.start == self.token(1).span.end;
            if adjacent_name && self.state == State::Operator {
                return Some(self.dashed_name());
            }
            let signed_number = !sign
                && matches!(self.token(1).shape, Shape::Number)
                && self.word(1).starts_with(['+', '-']);
            if !sign && !signed_number {
                return None;
            }
            if !matches!(self.token(number).shape, Shape::Number) {
                let span = self.token(number).span;
                if let Shape::Bad(diagnostic) = &self.token(number).shape {
                    return Some((**diagnostic).clone());
                }
                return Some(
                    self.error(
                        "Q109",
                        "expected a length of time",
                        span,
                        "not a length of time",
                    )
                    .help("lengths are written `30d`; units are s, m, h, d, w"),
                );
            }
            self.at += number;
            let end = self.token(0).span.end;
            if matches!(self.token(1).shape, Shape::Word) && self.token(1).span.start == end {
                self.at += 1;
            }
        }
    }

    fn behind_operand(&mut self, token: &Token) -> Option<Diagnostic> {
        let text = self.text(token.span).to_owned();
        match (&token.shape, text.as_str()) {
            (Shape::Sign, "=" | "!=" | ">" | ">=" | "<" | "<=" | "~" | "!~") => {
                self.operator = Some(token.span);
                self.state = State::Value;
                None
            }
            (Shape::Word, "startswith" | "endswith" | "matches") => {
                self.operator = Some(token.span);
                self.state = State::Value;
                None
            }
            (Shape::Word, "in") => {
                self.operator = Some(token.span);
                self.state = State::List;
                None
            }
            (Shape::Word, "not") => self.behind_not(token),
            // A bare operand parses; the checker has more to say about it.
            (Shape::Word, "and" | "or") | (Shape::Sign, ")" | ",") => self.behind_condition(token),
            (Shape::End, _) if self.open.is_empty() => None,
            (Shape::End, _) => Some(self.unclosed(token.span)),
            (Shape::Sign, sign) => Some(self.wrong_sign(token, sign)),
            (Shape::Word, word) => Some(self.wrong_word(token, word)),
            _ => Some(self.no_operator(token.span)),
        }
    }

    fn no_operator(&self, span: Span) -> Diagnostic {
        let mut diagnostic = self.error("Q109", "expected an operator", span, "not an operator");
        if let Some((title, operators)) = self.operators() {
            diagnostic = diagnostic.list(title, operators);
        }
        diagnostic
    }

    fn behind_not(&mut self, token: &Token) -> Option<Diagnostic> {
        let next = self.token(1).clone();
        match self.word(1) {
            "in" | "startswith" | "endswith" | "matches" => None,
            "IN" | "In" | "like" | "LIKE" | "ilike" | "ILIKE" | "contains" => {
                let span = token.span.to(next.span);
                let word = self.word(1).to_owned();
                let meant = if word.eq_ignore_ascii_case("in") {
                    "not in"
                } else {
                    "!~"
                };
                Some(self.habit(span, meant, "not an operator", 2))
            }
            _ => Some(
                self.error(
                    "Q109",
                    "expected `in`, `startswith`, `endswith` or `matches`",
                    next.span,
                    "not one of these",
                )
                .beside(token.span, "behind this"),
            ),
        }
    }

    fn value(&mut self, token: &Token, after: State) -> Option<Diagnostic> {
        let text = self.text(token.span).to_owned();
        match token.shape {
            Shape::Word => {
                if matches!(
                    text.as_str(),
                    "and" | "or" | "not" | "in" | "startswith" | "endswith"
                ) {
                    return Some(
                        self.value_missing(token.span, format!("`{text}` is not a value")),
                    );
                }
                if self.is(1, "(") {
                    self.at += 1;
                    let opened = Opened::Items(after);
                    self.open.push((opened, self.token(0).span));
                    self.state = State::Item;
                    return self.nothing_inside(opened);
                }
            }
            Shape::End => {
                return Some(self.value_missing(token.span, "nothing follows".to_owned()));
            }
            Shape::Sign => return Some(self.no_value(token, &text, after)),
            _ => {}
        }
        self.state = after;
        self.shifted()
    }

    fn value_missing(&self, span: Span, label: String) -> Diagnostic {
        let diagnostic = self.error("Q109", "expected a value", span, label);
        match self.operator {
            Some(operator) if span.start >= operator.end => {
                diagnostic.beside(operator, "compares with it")
            }
            _ => diagnostic,
        }
    }

    fn no_value(&self, token: &Token, text: &str, after: State) -> Diagnostic {
        let operator = self.operator.map_or("", |operator| self.text(operator));
        let field = self.field.map_or("", |field| self.text(field));
        match text {
            "(" if after == State::Done => {
                let written = self.value_text(0).unwrap_or_default();
                let diagnostic = self.error(
                    "Q109",
                    "expected a value",
                    token.span,
                    "a value takes no parentheses",
                );
                if operator == "=" && !written.is_empty() {
                    diagnostic
                        .help(format!(
                            "for one of several values write `{field} in {written}`"
                        ))
                        .instead(self.operator.unwrap_or(token.span), "in")
                } else {
                    diagnostic
                }
            }
            ")" if after == State::ItemEnd => self
                .error(
                    "Q109",
                    "expected a value",
                    token.span,
                    "nothing behind the comma",
                )
                .help("leave out the last comma"),
            "=" if operator == "=" => self.error(
                "Q111",
                "`= =` is not an operator",
                token.span,
                "one `=` is enough",
            ),
            _ => self.value_missing(token.span, format!("`{text}` is not a value")),
        }
    }

    fn list(&mut self, token: &Token) -> Option<Diagnostic> {
        let text = self.text(token.span).to_owned();
        if matches!(token.shape, Shape::Sign) {
            if text == "(" {
                let opened = Opened::Items(State::Done);
                self.open.push((opened, token.span));
                self.state = State::Item;
                return self.nothing_inside(opened);
            }
            let diagnostic = self.error("Q114", "`in` needs a list", token.span, "not a list");
            return Some(match text.as_str() {
                "[" | "{" => diagnostic.help("lists are written in parentheses: `in (1, 2)`"),
                _ => diagnostic,
            });
        }
        if matches!(token.shape, Shape::End) {
            return Some(self.error("Q114", "`in` needs a list", token.span, "nothing follows"));
        }
        self.value(token, State::Done)
    }

    fn behind_item(&mut self, token: &Token) -> Option<Diagnostic> {
        let text = self.text(token.span).to_owned();
        match (&token.shape, text.as_str()) {
            (Shape::Sign, ",") => {
                self.state = State::Item;
                None
            }
            (Shape::Sign, ")") => self.closes(token),
            (Shape::End, _) => Some(self.unclosed(token.span)),
            _ => Some(match self.adjacent(token) {
                Some(diagnostic) => diagnostic,
                None => self.error(
                    "Q109",
                    "expected `,` or `)`",
                    token.span,
                    "not expected in a list",
                ),
            }),
        }
    }

    fn path(&mut self, token: &Token) -> Option<Diagnostic> {
        if matches!(token.shape, Shape::Word) {
            self.state = State::PathEnd;
            return None;
        }
        Some(self.error(
            "Q109",
            "expected a field",
            token.span,
            if matches!(token.shape, Shape::End) {
                "nothing follows"
            } else {
                "not a field"
            },
        ))
    }

    fn behind_path(&mut self, token: &Token) -> Option<Diagnostic> {
        let text = self.text(token.span).to_owned();
        let opened = self
            .open
            .last()
            .map_or(Opened::Group, |(opened, _)| *opened);
        match (&token.shape, text.as_str()) {
            (Shape::Sign, ":") if opened == Opened::Quantifier => {
                self.connective = None;
                self.state = State::Start;
                None
            }
            (Shape::Sign, ",") if opened == Opened::Changed => {
                self.state = State::Bound;
                None
            }
            (Shape::Sign, ")") => self.closes(token),
            (Shape::End, _) => Some(self.unclosed(token.span)),
            _ if opened == Opened::Changed => Some(self.error(
                "Q109",
                "expected `)` or `, since: …`",
                token.span,
                "`changed` takes a field",
            )),
            _ => Some(
                self.error(
                    "Q109",
                    "expected `:` or `)`",
                    token.span,
                    "not expected here",
                )
                .help("a condition on the elements stands behind a colon: `any(ports: port = 80)`"),
            ),
        }
    }

    fn bound(&mut self, token: &Token) -> Option<Diagnostic> {
        if matches!(token.shape, Shape::Word) && self.is(1, ":") {
            self.at += 1;
            self.operator = None;
            self.state = State::Value;
            return None;
        }
        Some(
            self.error(
                "Q109",
                "expected a bound",
                token.span,
                "not `since:` or `until:`",
            )
            .help("bounds are written `since: \"2025-01-01\"`"),
        )
    }

    /// Takes a closing parenthesis.
    fn closes(&mut self, token: &Token) -> Option<Diagnostic> {
        match self.open.pop() {
            None => Some(
                self.error("Q101", "unmatched `)`", token.span, "nothing to close")
                    .instead(token.span, ""),
            ),
            Some((Opened::Items(after), _)) => {
                self.state = after;
                self.shifted()
            }
            Some((Opened::Quantifier, _)) => {
                self.state = State::Done;
                let compared = matches!(self.token(1).shape, Shape::Sign)
                    && matches!(self.word(1), "=" | "!=" | "<" | "<=" | ">" | ">=");
                if compared {
                    self.at += 1;
                    self.operator = Some(self.token(0).span);
                    self.state = State::Value;
                }
                None
            }
            Some(_) => {
                self.state = State::Done;
                None
            }
        }
    }

    fn unclosed(&self, end: Span) -> Diagnostic {
        let open = self.open.last().map_or(end, |(_, open)| *open);
        self.error("Q101", "unclosed `(`", end, "expected `)` here")
            .beside(open, "to close this")
            .instead(end, ")")
    }

    fn behind_condition(&mut self, token: &Token) -> Option<Diagnostic> {
        let text = self.text(token.span).to_owned();
        match (&token.shape, text.as_str()) {
            (Shape::Word, "and" | "or") => {
                self.connective = Some(token.span);
                self.state = State::Start;
                None
            }
            (Shape::Sign, ")") => self.closes(token),
            (Shape::Sign, ",")
                if matches!(
                    self.open.last(),
                    Some((Opened::History | Opened::Changed, _))
                ) =>
            {
                self.state = State::Bound;
                None
            }
            (Shape::End, _) if self.open.is_empty() => None,
            (Shape::End, _) => Some(self.unclosed(token.span)),
            (Shape::Word, "AND" | "And" | "OR" | "Or") => {
                Some(self.connective(token.span, &text, &text.to_ascii_lowercase()))
            }
            (Shape::Sign, "&&" | "&") => Some(self.connective(token.span, &text, "and")),
            (Shape::Sign, "||" | "|") => Some(self.connective(token.span, &text, "or")),
            _ => Some(self.unexpected(token, &text)),
        }
    }

    fn expected(&self) -> &'static str {
        if self.open.is_empty() {
            "expected `and`, `or` or the end of the query"
        } else {
            "expected `and`, `or` or `)`"
        }
    }

    fn unexpected(&self, token: &Token, text: &str) -> Diagnostic {
        if let Some(diagnostic) = self.adjacent(token) {
            return diagnostic;
        }
        let diagnostic = |label: &str| self.error("Q112", self.expected(), token.span, label);
        match (&token.shape, text) {
            (Shape::Sign, ";") => {
                diagnostic("nothing ends a query but its end").instead(token.span, "")
            }
            (Shape::Sign, "#" | "--" | "//" | "/*") => diagnostic("there are no comments"),
            (Shape::Sign, ",") => diagnostic("conditions are joined by words").help("write `and`"),
            (Shape::Sign, "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" | "==" | "<>") => {
                diagnostic("a comparison has one operator")
                    .help("write both comparisons and join them with `and`")
            }
            (Shape::Sign, "+" | "-" | "*" | "/" | "%") => diagnostic("there is no arithmetic"),
            (Shape::Word, "order" | "ORDER" | "limit" | "LIMIT" | "sort") => {
                diagnostic("a query selects and does not order")
            }
            (Shape::Word, _) => diagnostic("unexpected word"),
            (Shape::Text(_) | Shape::Number | Shape::Parameter, _) => {
                diagnostic("unexpected value")
            }
            _ => diagnostic("not expected here"),
        }
    }
}
