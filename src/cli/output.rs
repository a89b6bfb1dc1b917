//! Tables for people, JSON for scripts.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value};

use super::lists::terminal_width;

/// A table with a head. On a terminal what is too wide for it is wrapped; elsewhere a row is a line.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let cells = terminal_width().and_then(|cells| u16::try_from(cells).ok());
    framed(head, rows, cells)
}

fn framed(head: &[&str], rows: Vec<Vec<String>>, cells: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head.iter().copied());
    if let Some(cells) = cells {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(cells);
    }
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// `1 file`, `2 files`.
pub fn counted(many: u64, what: &str) -> String {
    let what = what.replace('_', " ");
    format!("{many} {what}{}", if many == 1 { "" } else { "s" })
}

/// A text of an answer; none is an empty one.
pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list of an answer; none is an empty one.
pub fn items<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// What a value looks like in a cell.
pub fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let shown: Vec<String> = items
                .iter()
                .map(|item| match item.get("primary_key") {
                    Some(key) => cell(key),
                    None => cell(item),
                })
                .collect();
            shown.join(", ")
        }
        other => other.to_string(),
    };
    let text = shown(&text, false);
    const WIDEST: usize = 60;
    if text.chars().count() > WIDEST {
        let cut: String = text.chars().take(WIDEST - 1).collect();
        format!("{cut}…")
    } else {
        text.into_owned()
    }
}

/// Rows of a listing as a table.
pub fn listing(columns: &[String], rows: &[Map<String, Value>]) -> String {
    let head: Vec<&str> = columns.iter().map(String::as_str).collect();
    let cells = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|column| cell(row.get(column).unwrap_or(&Value::Null)))
                .collect()
        })
        .collect();
    framed(&head, cells, None)
}

/// A text as a terminal may see it: what comes from outside must not move the cursor or change the colours.
pub fn shown(text: &str, lines: bool) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || (lines && matches!(c, '\n' | '\t'));
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmless(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    Cow::Owned(escaped)
}

/// Why something could not be printed, the first time.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// Prints to standard output. What cannot be written is told at the end of the command ([`unwritten`]), which does its
/// work all the same.
pub fn print(text: &str) {
    written(writeln!(std::io::stdout().lock(), "{}", shown(text, true)));
}

/// Notes what went wrong with writing to standard output; a reader that went away is no error. Whether to go on.
pub fn written(done: std::io::Result<()>) -> bool {
    match done {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != ErrorKind::BrokenPipe {
                let _ = UNWRITTEN.set(error);
            }
            false
        }
    }
}

/// What to say of output that could not be written.
pub fn unwritten() -> Option<String> {
    let why = UNWRITTEN.get()?;
    Some(format!("standard output cannot be written: {why}"))
}

pub fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}
