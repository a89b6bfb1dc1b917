//! What is wrong with a query, as data and as text.
//!
//! A [`Diagnostic`] says where, what was expected and what was probably meant. It renders in the manner of a compiler:
//! the line as typed, a caret under the culprit, one line for each label, then help. A front end takes the same thing
//! from [`Diagnostic::to_json`].

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harmless;

/// A stretch of the query, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The empty stretch at a place.
    pub fn at(place: usize) -> Span {
        Span::new(place, place)
    }

    /// From the start of this to the end of the other.
    pub fn to(self, other: Span) -> Span {
        Span::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// The text that it covers; nothing where it does not fit the text.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or("")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A second place that explains the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// What stands below the excerpt: `= help: …`, `= note: …`, or a list under its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Footnote {
    Help(String),
    List(String, String),
    Note(String),
}

/// A change that a front end can apply for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    pub span: Span,
    pub text: String,
}

/// One finding about one query. `Display` renders it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
    pub span: Span,
    /// What is said under the carets.
    pub label: String,
    pub labels: Vec<Label>,
    pub footnotes: Vec<Footnote>,
    pub replacement: Option<Replacement>,
    /// Where the query stands: "plugins", "input.hostname", "when".
    pub origin: Arc<str>,
    /// The whole query.
    pub source: Arc<str>,
}

/// The text that findings are about, and its name.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub origin: Arc<str>,
    pub text: Arc<str>,
}

impl Source {
    pub fn new(origin: &str, text: &str) -> Source {
        Source {
            origin: origin.into(),
            text: text.into(),
        }
    }

    pub fn error(
        &self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            span,
            label: label.into(),
            labels: Vec::new(),
            footnotes: Vec::new(),
            replacement: None,
            origin: Arc::clone(&self.origin),
            source: Arc::clone(&self.text),
        }
    }

    pub fn warning(
        &self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> Diagnostic {
        let mut diagnostic = self.error(code, message, span, label);
        diagnostic.severity = Severity::Warning;
        diagnostic
    }
}

impl Diagnostic {
    pub(crate) fn beside(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.footnotes.push(Footnote::Help(text.into()));
        self
    }

    pub(crate) fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.footnotes.push(Footnote::Note(text.into()));
        self
    }

    pub(crate) fn list(mut self, name: impl Into<String>, text: impl Into<String>) -> Diagnostic {
        self.footnotes
            .push(Footnote::List(name.into(), text.into()));
        self
    }

    pub(crate) fn instead(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.replacement = Some(Replacement {
            span,
            text: text.into(),
        });
        self
    }

    /// Line and column of a place, both from 1; CR LF is one line end.
    pub fn position(&self, place: usize) -> (usize, usize) {
        let line = line_at(&self.source, place);
        let column = self
            .source
            .get(line.start..place.max(line.start))
            .unwrap_or("")
            .chars()
            .count();
        (line.number, column + 1)
    }

    /// The query with the replacement applied, where there is one.
    pub fn repaired(&self) -> Option<String> {
        let replacement = self.replacement.as_ref()?;
        let before = self.source.get(..replacement.span.start)?;
        let after = self.source.get(replacement.span.end..)?;
        Some(format!("{before}{}{after}", replacement.text))
    }

    pub fn to_json(&self) -> Value {
        let place = |span: Span| {
            let (line, column) = self.position(span.start);
            json!({"start": span.start, "end": span.end, "line": line, "column": column})
        };
        let helps = |wanted: fn(&Footnote) -> Option<String>| {
            self.footnotes
                .iter()
                .filter_map(wanted)
                .collect::<Vec<String>>()
        };
        let labels: Vec<Value> = self
            .labels
            .iter()
            .map(|label| json!({"span": place(label.span), "text": label.text}))
            .collect();
        let mut data = json!({
            "code": self.code,
            "severity": self.severity.word(),
            "message": self.message,
            "origin": &*self.origin,
            "span": place(self.span),
            "label": self.label,
            "labels": labels,
            "help": helps(|note| match note {
                Footnote::Help(text) => Some(text.clone()),
                _ => None,
            }),
            "notes": helps(|note| match note {
                Footnote::Note(text) => Some(text.clone()),
                Footnote::List(name, text) => Some(format!("{name}: {text}")),
                Footnote::Help(_) => None,
            }),
            "rendered": self.to_string(),
        });
        if let (Some(replacement), Some(map)) = (&self.replacement, data.as_object_mut()) {
            map.insert(
                "replacement".to_owned(),
                json!({"span": place(replacement.span), "text": replacement.text}),
            );
        }
        data
    }
}

/// A query is shown whole up to this many characters a line; of a longer line, what is around the culprit.
const SHOWN: usize = 160;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut marks: Vec<(Span, &str)> = vec![(self.span, &self.label)];
        marks.extend(self.labels.iter().map(|l| (l.span, l.text.as_str())));
        let mut lines: Vec<Line> = marks
            .iter()
            .map(|(span, _)| line_at(&self.source, span.start))
            .collect();
        lines.sort_by_key(|line| line.number);
        lines.dedup_by_key(|line| line.number);

        let digits = lines.last().map_or(1, |line| line.number.to_string().len());
        let gutter = " ".repeat(digits + 2);
        let (number, column) = self.position(self.span.start);
        writeln!(
            f,
            "{}[{}]: {}",
            self.severity.word(),
            self.code,
            self.message
        )?;
        writeln!(
            f,
            "{}--> {}:{number}:{column}",
            " ".repeat(digits + 1),
            self.origin
        )?;
        writeln!(f, "{gutter}|")?;
        for line in &lines {
            let here: Vec<&(Span, &str)> = marks
                .iter()
                .filter(|(span, _)| line_at(&self.source, span.start).number == line.number)
                .collect();
            let focus = here.first().map_or(line.start, |(span, _)| span.start);
            let excerpt = Excerpt::new(&self.source, line, focus);
            writeln!(f, " {:>digits$} | {}", line.number, excerpt.text)?;
            for (span, text) in here {
                let (indent, carets) = excerpt.underline(*span);
                let mark = if *span == self.span && *text == self.label {
                    "^"
                } else {
                    "-"
                };
                let mut row = format!(
                    "{gutter}| {}{} {text}",
                    " ".repeat(indent),
                    mark.repeat(carets)
                );
                row.truncate(row.trim_end().len());
                writeln!(f, "{row}")?;
            }
        }
        writeln!(f, "{gutter}|")?;
        for footnote in &self.footnotes {
            match footnote {
                Footnote::Help(text) => writeln!(f, "{gutter}= help: {text}")?,
                Footnote::List(name, text) => writeln!(f, "{gutter}= {name}: {text}")?,
                Footnote::Note(text) => writeln!(f, "{gutter}= note: {text}")?,
            }
        }
        Ok(())
    }
}

struct Line {
    number: usize,
    start: usize,
    end: usize,
}

/// The line that holds a place. LF, CR, CR LF, U+2028 and U+2029 end lines.
fn line_at(source: &str, place: usize) -> Line {
    let (mut number, mut start) = (1, 0);
    let mut characters = source.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if !matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        if place <= at {
            return Line {
                number,
                start,
                end: at,
            };
        }
        start = at + c.len_utf8();
        if c == '\r' && characters.next_if(|(_, c)| *c == '\n').is_some() {
            start += 1;
        }
        number += 1;
    }
    Line {
        number,
        start,
        end: source.len(),
    }
}

/// What is shown of one line, with the width of what stands before each mark.
struct Excerpt<'a> {
    line: &'a str,
    start: usize,
    cut: bool,
    text: String,
}

impl<'a> Excerpt<'a> {
    fn new(source: &'a str, line: &Line, focus: usize) -> Excerpt<'a> {
        let whole = source.get(line.start..line.end).unwrap_or("");
        if whole.chars().nth(SHOWN).is_none() {
            return Excerpt {
                line: whole,
                start: line.start,
                cut: false,
                text: whole.chars().map(visible).collect(),
            };
        }
        let focus = focus.clamp(line.start, line.end) - line.start;
        let before = whole.get(..focus).unwrap_or("");
        let from = before
            .char_indices()
            .rev()
            .nth(SHOWN / 2 - 1)
            .map_or(0, |(at, _)| at);
        let rest = whole.get(from..).unwrap_or("");
        let length = rest
            .char_indices()
            .nth(SHOWN)
            .map_or(rest.len(), |(at, _)| at);
        let shown = rest.get(..length).unwrap_or("");
        let mut text = String::new();
        if from > 0 {
            text.push('…');
        }
        text.extend(shown.chars().map(visible));
        if length < rest.len() {
            text.push('…');
        }
        Excerpt {
            line: shown,
            start: line.start + from,
            cut: from > 0,
            text,
        }
    }

    fn underline(&self, span: Span) -> (usize, usize) {
        let clip = |place: usize| {
            let within = place.saturating_sub(self.start).min(self.line.len());
            self.line.get(..within).unwrap_or(self.line)
        };
        let width = |text: &str| text.chars().map(width).sum::<usize>();
        let before = width(clip(span.start));
        let through = width(clip(span.end.max(span.start)));
        (before + usize::from(self.cut), (through - before).max(1))
    }
}

/// A character as it may be shown: nothing that moves the cursor or turns the direction of the text.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if harmless::is(c) => c,
        _ => '\u{FFFD}',
    }
}

/// Columns that a character takes on a terminal.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xE0100..=0xE01EF => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0x33FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xA000..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// The names nearest to a word: within a third of its length, ignoring case; at most three, the nearest first.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = snake(word);
    let limit = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (distance(&wanted, &name.to_ascii_lowercase(), limit), name))
        .filter(|(far, _)| *far <= limit)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name).collect()
}

/// "did you mean `a`, `b` or `c`?"
pub(crate) fn did_you_mean(names: &[&str]) -> Option<String> {
    let mut text = String::from("did you mean ");
    for (index, name) in names.iter().enumerate() {
        let joint = match index {
            0 => "",
            _ if index + 1 == names.len() => " or ",
            _ => ", ",
        };
        write!(text, "{joint}`{name}`").ok()?;
    }
    (!names.is_empty()).then(|| text + "?")
}

/// `scan-level`, `scanLevel` and `ScanLevel` as `scan_level`.
fn snake(word: &str) -> String {
    let mut snake = String::new();
    let mut small = false;
    for c in word.chars() {
        if c.is_ascii_uppercase() && small {
            snake.push('_');
        }
        small = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        });
    }
    snake
}

/// Edits from one word to another (insert, drop, change, swap two neighbours); no more than `limit` + 1 are counted.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = last[j] + usize::from(x != y);
            let mut best = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
