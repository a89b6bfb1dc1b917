//! Tables for people, JSON for scripts.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value};

/// A table with a head; cells are cut to what a terminal shows.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
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
    const WIDEST: usize = 60;
    if text.chars().count() > WIDEST {
        let cut: String = text.chars().take(WIDEST - 1).collect();
        format!("{cut}…")
    } else {
        text
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
    table(&head, cells)
}

/// Prints to standard output; a reader that went away is no error.
pub fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

pub fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}
