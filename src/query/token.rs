//! A text as tokens, for explaining what does not parse. What cannot be a token carries its own complaint.

use super::diagnose::{Diagnostic, Source, Span};
use super::print;
use super::syntax::is_space;

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub shape: Shape,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A name, dotted or not, or a keyword.
    Word,
    Parameter,
    Number,
    Text(char),
    /// An operator or punctuation, known or not.
    Sign,
    Bad(Box<Diagnostic>),
    End,
}

/// The longest first. What is not an operator here is one somewhere else.
const SIGNS: [&str; 43] = [
    "===", "!==", "<=>", "&&", "||", "==", "<>", "=>", "=<", "=~", "~=", "!~", "!=", ">=", "<=",
    ":=", "--", "//", "/*", "**", "(", ")", ",", ":", "=", ">", "<", "~", "!", "&", "|", "+", "-",
    "*", "/", "%", ";", "[", "]", "{", "}", "^", "#",
];

pub(crate) fn tokens(source: &Source) -> Vec<Token> {
    let text = &*source.text;
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or("");
        let trimmed = rest.trim_start_matches(is_space);
        let start = text.len() - trimmed.len();
        let Some(first) = trimmed.chars().next() else {
            // The end is where the last token ended: trailing space is not what is wrong.
            let end = tokens.last().map_or(0, |token: &Token| token.span.end);
            tokens.push(Token {
                shape: Shape::End,
                span: Span::at(end),
            });
            return tokens;
        };
        let (shape, length) = token(source, start, trimmed, first);
        let length = length.max(first.len_utf8());
        let bad = matches!(shape, Shape::Bad(_));
        tokens.push(Token {
            shape,
            span: Span::new(start, start + length),
        });
        at = start + length;
        if bad {
            // Nothing behind it can be trusted, and nothing behind it is looked at.
            tokens.push(Token {
                shape: Shape::End,
                span: Span::at(at),
            });
            return tokens;
        }
    }
}

fn token(source: &Source, start: usize, rest: &str, first: char) -> (Shape, usize) {
    match first {
        '"' | '\'' => string(source, start, rest, first),
        '$' => match word_length(rest.get(1..).unwrap_or("")) {
            0 => bad(
                source
                    .error(
                        "Q108",
                        "illegal character",
                        one(start, first),
                        "a name must follow",
                    )
                    .help("parameters are written `$name`"),
                1,
            ),
            length => (Shape::Parameter, length + 1),
        },
        c if c.is_ascii_alphabetic() || c == '_' => (Shape::Word, path_length(rest)),
        c if c.is_ascii_digit() => number(source, start, rest),
        '-' | '+' | '.'
            if rest
                .get(1..)
                .is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit())) =>
        {
            number(source, start, rest)
        }
        c => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => (Shape::Sign, sign.len()),
            None => illegal(source, start, rest, c),
        },
    }
}

fn one(start: usize, c: char) -> Span {
    Span::new(start, start + c.len_utf8())
}

fn bad(diagnostic: Diagnostic, length: usize) -> (Shape, usize) {
    (Shape::Bad(Box::new(diagnostic)), length)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn word_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.len() - text.trim_start_matches(is_word).len()
}

fn path_length(text: &str) -> usize {
    let mut length = word_length(text);
    while let Some(next) = text.get(length..).and_then(|rest| rest.strip_prefix('.')) {
        match word_length(next) {
            0 => break,
            more => length += 1 + more,
        }
    }
    length
}

fn number(source: &Source, start: usize, rest: &str) -> (Shape, usize) {
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let after = |length: usize| rest.get(length..).unwrap_or("");
    let wrong = |length: usize, label: &str, help: Option<String>| {
        let diagnostic = source.error(
            "Q109",
            "not a number",
            Span::new(start, start + length),
            label,
        );
        bad(
            match help {
                Some(written) => diagnostic
                    .help(format!("write `{written}`"))
                    .instead(Span::new(start, start + length), written),
                None => diagnostic,
            },
            length,
        )
    };
    if rest.starts_with('+') {
        let length = 1 + digits(after(1));
        let written = after(1).get(..length - 1).unwrap_or("").to_owned();
        return wrong(length, "numbers have no plus sign", Some(written));
    }
    if rest.starts_with('.') {
        let length = 1 + digits(after(1));
        let written = format!("0{}", rest.get(..length).unwrap_or(""));
        return wrong(length, "no digit before the point", Some(written));
    }
    let sign = usize::from(rest.starts_with('-'));
    let whole = digits(after(sign));
    let mut length = sign + whole;
    if whole > 1 && after(sign).starts_with('0') {
        let kept = after(sign)
            .get(..whole)
            .unwrap_or("")
            .trim_start_matches('0');
        let kept = if kept.is_empty() { "0" } else { kept };
        let written = format!("{}{kept}", rest.get(..sign).unwrap_or(""));
        return wrong(length, "numbers have no leading zero", Some(written));
    }
    if after(length).starts_with('.') {
        match digits(after(length + 1)) {
            0 => {
                let written = rest.get(..length).unwrap_or("").to_owned();
                return wrong(length + 1, "no digit behind the point", Some(written));
            }
            more => length += 1 + more,
        }
    }
    if let Some(exponent) = after(length).strip_prefix(['e', 'E']) {
        let signed = usize::from(exponent.starts_with(['+', '-']));
        let more = digits(exponent.get(signed..).unwrap_or(""));
        if more > 0 {
            length += 1 + signed + more;
        }
    }
    if after(length).starts_with('.') {
        let more = after(length)
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .len();
        let length = rest.len() - more;
        let text = rest.get(..length).unwrap_or("");
        let written = format!("\"{text}\"");
        return wrong(length, "too many points", Some(written));
    }
    (Shape::Number, length)
}

fn string(source: &Source, start: usize, rest: &str, quote: char) -> (Shape, usize) {
    let mut characters = rest.char_indices().skip(1);
    let mut escapes: Vec<Span> = Vec::new();
    while let Some((at, c)) = characters.next() {
        let place = start + at;
        match c {
            c if c == quote => return (Shape::Text(quote), at + 1),
            '\\' => {
                let Some((_, escaped)) = characters.next() else {
                    break;
                };
                let hex = rest.get(at + 2..at + 6);
                let sound = match escaped {
                    '"' | '\'' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => true,
                    'u' => hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())),
                    _ => false,
                };
                let span = Span::new(place, place + 1 + escaped.len_utf8());
                if !sound {
                    let length = at + 1 + escaped.len_utf8();
                    return bad(unknown_escape(source, span, escaped, &escapes), length);
                }
                escapes.push(span);
            }
            '\0' => {
                return bad(
                    source
                        .error(
                            "Q119",
                            "a string cannot hold NUL",
                            one(place, c),
                            "the character U+0000",
                        )
                        .note("databases cannot store it, so nothing could ever equal it"),
                    at + 1,
                );
            }
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => {
                let diagnostic = source
                    .error(
                        "Q107",
                        "unclosed string",
                        Span::at(place),
                        "the line ends here",
                    )
                    .beside(one(start, quote), "opened here")
                    .help("a string ends on its line; a line feed inside it is written `\\n`");
                return bad(diagnostic, at);
            }
            _ => {}
        }
    }
    let end = start + rest.len();
    bad(
        source
            .error(
                "Q107",
                "unclosed string",
                Span::at(end),
                format!("expected `{quote}` here"),
            )
            .beside(one(start, quote), "to close this"),
        rest.len(),
    )
}

fn unknown_escape(source: &Source, span: Span, escaped: char, before: &[Span]) -> Diagnostic {
    let written = span.of(&source.text);
    let diagnostic = source.error(
        "Q103",
        format!("unknown escape `{written}`"),
        span,
        if escaped == 'u' {
            "four hexadecimal digits must follow"
        } else {
            "no such escape"
        },
    );
    if escaped == 'u' {
        return diagnostic.help("write `\\u00e9` for é, or é itself");
    }
    let article = if "aefhilmnorsxAEFHILMNORSX8".contains(escaped) {
        "an"
    } else {
        "a"
    };
    let mut diagnostic = diagnostic
        .help(format!(
            "write `\\{written}` for a backslash and {article} {escaped}"
        ))
        .list("escapes", "\\\" \\' \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
    let stands_for = before.iter().rev().find_map(|place| {
        let text = place.of(&source.text);
        let what = match text {
            "\\t" => "a tab",
            "\\n" => "a line feed",
            "\\r" => "a carriage return",
            "\\b" => "a backspace",
            "\\f" => "a form feed",
            _ => return None,
        };
        Some((text, what))
    });
    if let Some((text, what)) = stands_for {
        diagnostic = diagnostic.note(format!("`{text}` before it is an escape too: it is {what}"));
    }
    diagnostic.instead(span, format!("\\{written}"))
}

fn illegal(source: &Source, start: usize, rest: &str, c: char) -> (Shape, usize) {
    let span = one(start, c);
    let quote = match c {
        '\u{201C}' => "LEFT DOUBLE QUOTATION MARK",
        '\u{201D}' => "RIGHT DOUBLE QUOTATION MARK",
        '\u{201E}' => "DOUBLE LOW-9 QUOTATION MARK",
        '\u{201F}' => "DOUBLE HIGH-REVERSED-9 QUOTATION MARK",
        '\u{2018}' => "LEFT SINGLE QUOTATION MARK",
        '\u{2019}' => "RIGHT SINGLE QUOTATION MARK",
        '\u{201A}' => "SINGLE LOW-9 QUOTATION MARK",
        '\u{AB}' => "LEFT-POINTING DOUBLE ANGLE QUOTATION MARK",
        '\u{BB}' => "RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK",
        '`' => "GRAVE ACCENT",
        _ => "",
    };
    if !quote.is_empty() {
        let message = if c == '`' {
            "a grave accent does not delimit strings"
        } else {
            "typographic quotes do not delimit strings"
        };
        let label = format!("U+{:04X}, {quote}", u32::from(c));
        let mut diagnostic = source.error("Q104", message, span, label);
        let inside = rest.get(c.len_utf8()..).unwrap_or("");
        let closing = [
            '\u{201C}', '\u{201D}', '\u{2019}', '\u{2018}', '\u{BB}', '\u{AB}', '`', '"', '\'',
        ];
        if let Some(length) = inside.find(closing) {
            let body = inside.get(..length).unwrap_or("");
            let mark = inside
                .get(length..)
                .and_then(|end| end.chars().next())
                .map_or(0, char::len_utf8);
            let written = print::quoted(body);
            let end = start + c.len_utf8() + length + mark;
            let clause = clause_before(&source.text, start);
            diagnostic = diagnostic
                .help(format!("write `{clause}{written}`"))
                .instead(Span::new(start, end), written);
        }
        return bad(diagnostic, c.len_utf8());
    }
    let label = if c.is_control() || c.is_whitespace() {
        format!("U+{:04X}", u32::from(c))
    } else {
        format!("`{c}` is U+{:04X}", u32::from(c))
    };
    let mut diagnostic = source.error("Q108", "illegal character", span, label);
    if c.is_alphabetic() {
        diagnostic = diagnostic.note("names are made of the letters a to z, digits and `_`");
    } else if c.is_whitespace() || c == '\u{200B}' || c == '\u{FEFF}' {
        diagnostic = diagnostic.help("write a plain space").instead(span, " ");
    }
    bad(diagnostic, c.len_utf8())
}

/// What stands before a value in its own clause: the field and the operator.
fn clause_before(text: &str, value: usize) -> String {
    let before = text.get(..value).unwrap_or("");
    let mut start = 0;
    for joint in [" and ", " or ", "("] {
        if let Some(at) = before.rfind(joint) {
            start = start.max(at + joint.len());
        }
    }
    before.get(start..).unwrap_or("").trim_start().to_owned()
}
