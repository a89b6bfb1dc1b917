//! Tables for people, JSON for scripts; on standard error too.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value, json};

use crate::document::Complaint;
use crate::harmless;
use crate::wire::Refused;

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

/// Asks whoever sits at the terminal; nothing where nobody does.
pub fn sure(question: &str) -> std::io::Result<Option<bool>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut err = std::io::stderr();
    write!(err, "{} [y/N] ", harmless::line(question))?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
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
    let text = harmless::line(&text);
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

/// An answer as a terminal may see it: each text in it is one line. Some fields have lines of their own, and are no names
/// of others; some have such below a first one that ends with a colon.
pub fn in_lines(answer: &Value, whole: &[&str], below: &[&str]) -> Value {
    let as_lines = |name: &str, value: &Value| match value {
        Value::String(_) if whole.contains(&name) => value.clone(),
        Value::String(text) if below.contains(&name) => match text.split_once(":\n") {
            Some((head, rest)) => json!(format!("{}:\n{rest}", harmless::line(head))),
            None => json!(harmless::line(text)),
        },
        other => in_lines(other, whole, below),
    };
    match answer {
        Value::String(text) => json!(harmless::line(text)),
        Value::Array(items) => items.iter().map(|item| as_lines("", item)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (harmless::line(name).into_owned(), as_lines(name, value)))
            .collect(),
        other => other.clone(),
    }
}

/// Whether standard error speaks to scripts: each line is then one JSON object.
static TO_SCRIPTS: AtomicBool = AtomicBool::new(false);

/// From now on, or no longer, scripts read what is said on standard error.
pub fn speak_to_scripts(scripts: bool) {
    TO_SCRIPTS.store(scripts, Relaxed);
}

pub fn to_scripts() -> bool {
    TO_SCRIPTS.load(Relaxed)
}

/// Where standard error cannot be written either, the exit code is all that is left to say.
fn say(people: impl FnOnce() -> String, scripts: impl FnOnce() -> Value) {
    let _ = match to_scripts() {
        true => writeln!(
            std::io::stderr(),
            "{}",
            harmless::json(&scripts().to_string())
        ),
        false => writeln!(std::io::stderr(), "{}", harmless::lines(&people())),
    };
}

/// Says what is worth knowing and no error.
pub fn note(text: &str) {
    say(
        || format!("note: {text}"),
        || json!({"ok": true, "note": {"message": text}}),
    );
}

/// Says what is likely a mistake and no error.
pub fn warn(text: &str) {
    say(
        || text.to_owned(),
        || json!({"ok": true, "warning": {"message": text}}),
    );
}

/// Says what went wrong, as a reply on the bus has it.
pub fn tell(refused: &Refused, people: impl FnOnce() -> String) {
    say(
        people,
        || json!({"ok": false, "error": {"code": refused.code, "message": refused.message, "help": refused.help}}),
    );
}

/// Says what is wrong in files and settings, with the places where it stands.
pub fn complain<'c>(complaints: impl IntoIterator<Item = &'c Complaint>) {
    for complaint in complaints {
        say(
            || complaint.to_string(),
            || {
                let mut said = complaint.to_json();
                if let Some(said) = said.as_object_mut() {
                    said.remove("severity");
                    said.entry("help").or_insert_with(|| json!(""));
                    said.insert("code".to_owned(), json!("invalid"));
                }
                match complaint.is_error() {
                    true => json!({"ok": false, "error": said}),
                    false => json!({"ok": true, "warning": said}),
                }
            },
        );
    }
}

/// Says what is wrong with a line of a file of lines.
pub fn complain_of_line(file: &str, line: u64, message: &str, help: Option<&str>) {
    let people = || match help {
        None => format!("line {line}: {message}"),
        Some(help) => format!("line {line}: {message}\n  help: {help}"),
    };
    let help = help.unwrap_or_default();
    say(
        people,
        || json!({"ok": false, "error": {"code": "invalid", "message": message, "help": help, "file": file, "line": line}}),
    );
}

/// Why something could not be printed, the first time.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// Prints to standard output. What cannot be written is told at the end of the command ([`unwritten`]), which does its
/// work all the same.
pub fn print(text: &str) {
    written(writeln!(
        std::io::stdout().lock(),
        "{}",
        harmless::lines(text)
    ));
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

/// Prints an answer for scripts, to the letter.
pub fn print_json(value: &Value) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    written(writeln!(
        std::io::stdout().lock(),
        "{}",
        harmless::json(&text)
    ));
}
