//! What is wrong with something that was written, where, and what would be right.

use std::fmt;

use serde_json::{Map, Value as Json};

use super::Place;
use crate::harmless;

/// One finding. Its `Display` is two lines at most: where and what, then the help.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    /// The name of the file, the variable of the environment, or empty.
    pub file: String,
    pub place: Option<Place>,
    /// The way to the value, as in `workers.boefje.rank` or `bus.intake[0].order`; empty for the whole file.
    pub path: String,
    pub message: String,
    pub help: Option<String>,
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

impl Complaint {
    pub fn error(
        file: impl Into<String>,
        place: Option<Place>,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Complaint {
        Complaint {
            file: file.into(),
            place,
            path: path.into(),
            message: message.into(),
            help: None,
            severity: Severity::Error,
        }
    }

    pub fn warning(
        file: impl Into<String>,
        place: Option<Place>,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Complaint {
        Complaint {
            severity: Severity::Warning,
            ..Complaint::error(file, place, path, message)
        }
    }

    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Complaint {
        self.help = Some(help.into());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// For `--output json` and error replies; what is not known is left out.
    pub fn to_json(&self) -> Json {
        let mut json = Map::new();
        let mut put = |name: &str, value: Json| json.insert(name.to_string(), value);
        put(
            "severity",
            Json::from(match self.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            }),
        );
        if !self.file.is_empty() {
            put("file", Json::from(self.file.as_str()));
        }
        if let Some(place) = self.place {
            put("line", Json::from(place.line));
            put("column", Json::from(place.column));
        }
        if !self.path.is_empty() {
            put("path", Json::from(self.path.as_str()));
        }
        put("message", Json::from(self.message.as_str()));
        if let Some(help) = &self.help {
            put("help", Json::from(help.as_str()));
        }
        Json::Object(json)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", harmless::line(&self.file))?;
            if let Some(Place { line, column }) = self.place {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " ")?;
        }
        if self.severity == Severity::Warning {
            write!(f, "warning: ")?;
        }
        write!(f, "{}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaint {}

/// The complaints of one document, in the order in which they were found.
#[derive(Clone, Debug)]
pub struct Complaints {
    file: String,
    noun: &'static str,
    list: Vec<Complaint>,
}

impl Complaints {
    /// `file` is empty for the arguments of commands.
    pub fn new(file: impl Into<String>) -> Complaints {
        Complaints {
            file: file.into(),
            noun: "field",
            list: Vec::new(),
        }
    }

    /// What an entry is called here: `unknown setting`, not `unknown field`.
    #[must_use]
    pub fn of_settings(mut self) -> Complaints {
        self.noun = "setting";
        self
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn noun(&self) -> &'static str {
        self.noun
    }

    pub fn push(&mut self, complaint: Complaint) {
        self.list.push(complaint);
    }

    /// An error about the value at `path`, which the message then begins with.
    pub fn error(&mut self, place: Option<Place>, path: &str, message: impl Into<String>) {
        let message = about(path, message);
        self.push(Complaint::error(self.file.as_str(), place, path, message));
    }

    pub fn warning(&mut self, place: Option<Place>, path: &str, message: impl Into<String>) {
        let message = about(path, message);
        self.push(Complaint::warning(self.file.as_str(), place, path, message));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.list.iter()
    }

    /// Forgets a complaint that a better one takes the place of.
    pub(super) fn take_back(&mut self, place: Option<Place>, path: &str, message: &str) {
        self.list
            .retain(|known| known.place != place || known.path != path || known.message != message);
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Complaint::is_error)
    }

    pub fn into_vec(self) -> Vec<Complaint> {
        self.list
    }
}

/// A message that begins with the way to the value.
pub(crate) fn about(path: &str, message: impl Into<String>) -> String {
    let message = message.into();
    if path.is_empty() {
        message
    } else {
        format!("`{path}`: {message}")
    }
}

/// The candidates that look like a misspelt word: at most three, the nearest first, ties by name. Upper case, `-` for
/// `_` and camelCase count as no difference at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let length = word.chars().count();
    if length > 100 {
        return Vec::new();
    }
    let limit = (length / 3).max(1);
    let spellings = [lower(word), snake(word)];
    let mut near: Vec<(usize, &str)> = Vec::new();
    for candidate in candidates {
        let target = lower(candidate);
        let distance = spellings
            .iter()
            .filter(|spelling| spelling.len().abs_diff(target.len()) <= limit)
            .map(|spelling| edits(spelling, &target))
            .min();
        if let Some(distance) = distance
            && distance <= limit
        {
            near.push((distance, candidate));
        }
    }
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

fn lower(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).collect()
}

/// `minimumScanLevel` and `minimum-scan-level` as `minimum_scan_level`.
fn snake(word: &str) -> Vec<char> {
    let mut spelt = Vec::new();
    let mut after_small = false;
    for c in word.chars() {
        if c.is_uppercase() && after_small {
            spelt.push('_');
        }
        after_small = c.is_lowercase() || c.is_numeric();
        match c {
            '-' | ' ' | '.' => spelt.push('_'),
            _ => spelt.extend(c.to_lowercase()),
        }
    }
    spelt
}

/// Damerau–Levenshtein: letters that are missing, added, other, or swapped with their neighbour.
fn edits(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut above = None;
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = (cell(&last, j) + usize::from(a != b))
                .min(cell(&last, j + 1) + 1)
                .min(cell(&row, j) + 1);
            let left = j.checked_sub(1).and_then(|left| to.get(left));
            if j > 0 && above == Some(b) && left == Some(a) {
                best = best.min(cell(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        above = Some(a);
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

/// What to do about a name that is not known: the near ones, and all of them if they are few.
pub(super) fn help_for(word: &str, known: &[&str]) -> String {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let near = nearest(word, sorted.iter().copied());
    let mut help = match near.as_slice() {
        [] => String::new(),
        near => format!("did you mean {}? ", either(near)),
    };
    if sorted.is_empty() {
        return "nothing is known here".to_string();
    }
    let shown: Vec<&str> = sorted.iter().copied().take(20).collect();
    help.push_str("known here: ");
    help.push_str(&shown.join(", "));
    if sorted.len() > shown.len() {
        help.push_str(&format!(" and {} more", sorted.len() - shown.len()));
    }
    help
}

/// `` `a` ``, `` `a` or `b` ``, `` `a`, `b` or `c` ``.
pub(super) fn either(words: &[&str]) -> String {
    let mut text = String::new();
    for (i, word) in words.iter().enumerate() {
        let joint = match i {
            0 => "",
            _ if i + 1 == words.len() => " or ",
            _ => ", ",
        };
        text.push_str(&format!("{joint}`{}`", short(word)));
    }
    text
}

/// A text as a complaint shows it: one line, no control characters, not too long.
pub(super) fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    // Quotes need no escape: complaints put texts between backquotes.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
