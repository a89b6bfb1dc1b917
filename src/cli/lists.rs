//! Lists as people see them. A terminal shows of each noun the columns that matter most, as far as it is wide; elsewhere a
//! list keeps all of its columns, and one line a row.

use std::io::IsTerminal;

use clap::Args;
use ratatui::crossterm::terminal;
use serde_json::{Map, Value};

use super::Failure;
use super::output::{listing, print, table};
use crate::document::nearest;
use crate::harmless;
use crate::moment::Moment;
use crate::watch::words::{clock, fit, fit_end, long, plain, width, wrap};

/// What stands between two columns.
const GAP: usize = 2;
/// What an id takes.
const ID: usize = 36;
/// A text that is cut still has so many cells.
const LEAST: usize = 12;
/// A terminal of which nobody knows how wide it is.
const USUAL: usize = 80;
/// Narrower than this nothing is worth fitting.
const NARROWEST: usize = 30;

/// How a list is laid out.
#[derive(Clone, Debug, Default, Args)]
pub struct Layout {
    /// Show every column whole, however wide the terminal is
    #[arg(long)]
    wide: bool,
    /// Show these columns, in this order; any that --output json has
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "wide"
    )]
    columns: Vec<String>,
}

/// The columns of each noun that a terminal shows, the most important first; by the first one people name a row, so it is
/// never cut: one that is too long stands on a line of its own.
const NOUNS: [(&str, &[&str]); 19] = [
    (
        "task",
        &[
            "id",
            "state",
            "plugin_id",
            "inputs",
            "created_at",
            "organization",
            "reason",
            "attempt",
            "finished_at",
            "queue",
            "cause",
            "priority",
        ],
    ),
    (
        "run",
        &[
            "id",
            "state",
            "schedule",
            "created_at",
            "total",
            "failed",
            "organization",
            "reason",
            "succeeded",
            "cause",
            "finished_at",
            "blocked_by",
            "cancelled",
            "position",
        ],
    ),
    (
        "attempt",
        &[
            "task_id",
            "number",
            "outcome",
            "worker",
            "offered_at",
            "ended_at",
            "exit_code",
            "accepted_at",
            "stage",
            "done",
            "total",
            "beat_at",
            "published_at",
            "log_ref",
        ],
    ),
    (
        "object",
        &[
            "primary_key",
            "object_type",
            "scan_level",
            "organization",
            "live",
            "scan_profile_type",
        ],
    ),
    (
        "dead-letter",
        &[
            "id",
            "reason",
            "message",
            "last_seen",
            "count",
            "kind",
            "organization",
            "intake",
            "first_seen",
        ],
    ),
    (
        "organization",
        &["id", "name", "enabled", "indemnified", "weight"],
    ),
    (
        "plugin",
        &[
            "plugin_id",
            "enabled",
            "worker_type",
            "scan_level",
            "recurrences",
            "consumes",
            "oci_arguments",
        ],
    ),
    (
        "schedule",
        &[
            "name",
            "organization",
            "recurrences",
            "run_on",
            "operation",
            "enabled",
            "paused",
            "plugins",
            "revision",
        ],
    ),
    (
        "object_set",
        &["name", "object_type", "organization", "query", "keys"],
    ),
    ("calendar", &["name", "timezone", "dates", "weekly"]),
    (
        "queue",
        &[
            "queue",
            "waiting",
            "paused",
            "oldest",
            "running",
            "dispatched",
            "credit",
            "delayed",
        ],
    ),
    (
        "target",
        &[
            "object",
            "schedule",
            "last",
            "running",
            "organization",
            "last_failure",
            "last_success",
            "schedule_id",
        ],
    ),
    (
        "attempts",
        &[
            "number",
            "outcome",
            "worker",
            "message",
            "offered_at",
            "accepted_at",
            "ended_at",
            "exit_code",
            "stage",
            "done",
            "total",
            "log_ref",
        ],
    ),
    (
        "conditions",
        &["type", "status", "reason", "message", "transition_at"],
    ),
    ("by_hand", &["verb", "who", "at", "reason"]),
    ("replicas", &["id", "started_at", "beat_at"]),
    (
        "runs",
        &["run_id", "run_name", "state", "organization", "reason"],
    ),
    ("instants", &["at", "runs"]),
    (
        "replay",
        &[
            "schedule",
            "tasks",
            "tasks now",
            "added",
            "removed",
            "runs",
            "of",
            "refused",
        ],
    ),
];

/// The cells of a line of the terminal that standard output is; nothing where it is none.
pub fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let said = std::env::var("COLUMNS").ok();
    let said = said.and_then(|said| said.trim().parse().ok());
    let asked = || {
        terminal::size()
            .ok()
            .map(|(columns, _)| usize::from(columns))
    };
    let known = said.or_else(asked).filter(|columns| *columns > 0);
    Some(known.unwrap_or(USUAL).max(NARROWEST))
}

/// Prints the rows of a noun; below them, what of them is not seen.
pub fn show(
    noun: &str,
    columns: &[String],
    rows: &[Map<String, Value>],
    layout: &Layout,
    now: Moment,
) -> Result<(), Failure> {
    if rows.is_empty() {
        print("none");
        return Ok(());
    }
    let chosen = chosen(noun, columns, rows, layout)?;
    let cells = match terminal_width() {
        Some(cells) if !layout.wide => cells,
        _ => {
            print(&listing(&chosen, rows));
            return Ok(());
        }
    };
    let all = layout.columns.is_empty();
    let laid = laid(noun, &chosen, rows, all, cells, now);
    for line in &laid.lines {
        print(line);
    }
    if !laid.left_out.is_empty() {
        let said = format!(
            "left out: {} (--wide shows all, --columns NAMES chooses)",
            laid.left_out.join(", ")
        );
        for line in wrap(&said, cells) {
            eprintln!("{}", harmless::line(&line));
        }
    } else if laid.cut {
        eprintln!("… is where a text is cut: --wide shows it whole");
    }
    Ok(())
}

/// Prints rows that are no list of a noun: what a terminal has no room for is in the JSON.
pub fn sum_up(what: &str, head: &[&str], rows: &[Vec<String>], now: Moment) {
    let Some(cells) = terminal_width() else {
        return print(&table(head, rows.to_vec()));
    };
    let columns: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let named = rows.iter().map(|row| {
        let entries = columns.iter().zip(row);
        let entries = entries.map(|(name, cell)| (name.clone(), Value::from(cell.as_str())));
        entries.collect::<Map<_, _>>()
    });
    let laid = laid(what, &columns, &named.collect::<Vec<_>>(), true, cells, now);
    for line in &laid.lines {
        print(line);
    }
    if !laid.left_out.is_empty() {
        let said = format!(
            "left out: {} (--output json has all)",
            laid.left_out.join(", ")
        );
        for line in wrap(&said, cells) {
            eprintln!("{}", harmless::line(&line));
        }
    }
}

/// What stands first where one thing is shown.
const FIRST: [&str; 12] = [
    "id",
    "task_id",
    "run_id",
    "run_name",
    "name",
    "schedule",
    "object",
    "organization",
    "plugin_id",
    "state",
    "reason",
    "cause",
];

/// One thing: an entry a line, lists below it. A terminal is not shown what is empty.
pub fn record(thing: &Map<String, Value>, now: Moment) {
    let cells = terminal_width();
    let listed = |value: &Value| {
        let items = value.as_array();
        items.is_some_and(|items| items.iter().any(Value::is_object))
    };
    let mut entries: Vec<(&String, &Value)> = thing.iter().collect();
    let place = |name: &str| FIRST.iter().position(|known| *known == name);
    entries.sort_by_key(|(name, _)| (is_instant(name), place(name).unwrap_or(FIRST.len())));
    let single: Vec<(&str, String)> = entries
        .iter()
        .filter(|(_, value)| !listed(value))
        .map(|(name, value)| (name.as_str(), told(name, value, cells.is_some(), now)))
        .filter(|(_, said)| cells.is_none() || !said.is_empty())
        .collect();
    let names = single.iter().map(|(name, _)| width(name));
    let indent = names.max().unwrap_or(0) + GAP;
    for (name, said) in single {
        let lines = match cells {
            Some(cells) => wrap(&said, cells.saturating_sub(indent).max(LEAST)),
            None => vec![said],
        };
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            print(format!("{}{line}", fit(name, indent, false)).trim_end());
        }
    }
    for (name, value) in entries.iter().filter(|(_, value)| listed(value)) {
        let items = value.as_array().into_iter().flatten();
        let rows: Vec<Map<String, Value>> =
            items.filter_map(|row| row.as_object().cloned()).collect();
        print("");
        print(name);
        match cells {
            Some(cells) => beneath(name, &rows, cells, now)
                .iter()
                .for_each(|line| print(line)),
            None => {
                let first = rows.first().into_iter().flat_map(Map::keys);
                let columns: Vec<String> = first.cloned().collect();
                print(&listing(&columns, &rows));
            }
        }
    }
}

/// A value of one thing; for people an instant as far as its seconds, and how long ago that was.
fn told(name: &str, value: &Value, people: bool, now: Moment) -> String {
    let instant = value.as_str().filter(|_| people && is_instant(name));
    match instant.and_then(|text| Moment::parse(text).ok()) {
        Some(at) => format!("{} ({})", clock(at, now), from_now(at, now)),
        None if people => words(name, value, now),
        None => plain(&match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            other => words("", other, now),
        }),
    }
}

/// Rows that belong to something that is shown, fitted to a terminal of so many cells.
fn beneath(noun: &str, rows: &[Map<String, Value>], cells: usize, now: Moment) -> Vec<String> {
    let mut columns: Vec<String> = rows.iter().flat_map(Map::keys).cloned().collect();
    columns.sort_unstable();
    columns.dedup();
    if let Some(known) = important(noun) {
        columns.retain(|column| known.contains(&column.as_str()));
    }
    laid(noun, &columns, rows, true, cells, now).lines
}

/// The columns that are shown at most; whoever names one that is not there is told which are.
fn chosen(
    noun: &str,
    columns: &[String],
    rows: &[Map<String, Value>],
    layout: &Layout,
) -> Result<Vec<String>, Failure> {
    if layout.columns.is_empty() {
        return Ok(columns.to_vec());
    }
    let mut known: Vec<&str> = rows
        .iter()
        .flat_map(Map::keys)
        .chain(columns)
        .map(String::as_str)
        .collect();
    known.sort_unstable();
    known.dedup();
    for name in &layout.columns {
        if !known.contains(&name.as_str()) {
            let near = match nearest(name, known.iter().copied()).as_slice() {
                [] => String::new(),
                near => format!("; did you mean {}?", near.join(" or ")),
            };
            return Err(Failure::Usage(format!(
                "--columns: lists of {}s have no `{name}`{near} (known: {})",
                noun.replace(['-', '_'], " "),
                known.join(", ")
            )));
        }
    }
    Ok(layout.columns.clone())
}

fn important(noun: &str) -> Option<&'static [&'static str]> {
    let found = NOUNS.iter().find(|(name, _)| *name == noun);
    found.map(|(_, columns)| *columns)
}

/// A table that fits.
struct Laid {
    lines: Vec<String>,
    left_out: Vec<String>,
    cut: bool,
}

struct Column<'c> {
    name: &'c str,
    cells: Vec<String>,
    /// What the widest of its cells takes.
    whole: usize,
    width: usize,
}

fn laid(
    noun: &str,
    columns: &[String],
    rows: &[Map<String, Value>],
    by_importance: bool,
    cells: usize,
    now: Moment,
) -> Laid {
    let mut names: Vec<&str> = columns.iter().map(String::as_str).collect();
    if by_importance && let Some(known) = important(noun) {
        let place = |name: &&str| known.iter().position(|known| known == name);
        names.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
    }
    let mut shown: Vec<Column<'_>> = Vec::new();
    let mut left_out: Vec<String> = Vec::new();
    let mut taken = 0;
    for (at, name) in names.into_iter().enumerate() {
        let column = column(name, (at == 0).then_some(cells), rows, now);
        // A column without anything in it has nothing to tell.
        if by_importance && column.cells.iter().all(String::is_empty) {
            continue;
        }
        let gap = if shown.is_empty() { 0 } else { GAP };
        let fits = left_out.is_empty() && taken + gap + column.width <= cells;
        if shown.is_empty() || fits || !by_importance {
            taken += gap + column.width;
            shown.push(column);
        } else {
            left_out.push(name.to_owned());
        }
    }
    // What is left is given to those that are cut, in turns.
    let mut left = cells.saturating_sub(taken);
    while left > 0 {
        let before = left;
        for column in shown
            .iter_mut()
            .filter(|column| column.width < column.whole)
        {
            if left > 0 {
                column.width += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    let cut = shown
        .iter()
        .skip(1)
        .any(|column| column.width < column.whole);
    let line = |cell: &dyn Fn(&Column<'_>) -> String| {
        let mut line = String::new();
        for (at, column) in shown.iter().enumerate() {
            if at > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            let text = cell(column);
            line.push_str(&match column.name {
                "inputs" | "keys" => fit_end(&text, column.width),
                _ => fit(&text, column.width, false),
            });
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(&|column| column.name.to_owned())];
    let ruled: usize = shown.iter().map(|column| column.width).sum();
    let ruled = ruled + GAP * shown.len().saturating_sub(1);
    lines.push("─".repeat(ruled.min(cells)));
    for at in 0..rows.len() {
        let cell = |column: &Column<'_>| column.cells.get(at).cloned().unwrap_or_default();
        // A name that takes more than its share stands above what is said of it, whole.
        let long = shown
            .first()
            .filter(|column| width(&cell(column)) > column.width)
            .map(|column| (column.name, cell(column)));
        let Some((name, said)) = long else {
            lines.push(line(&cell));
            continue;
        };
        lines.push(said);
        let rest = line(&|column| match column.name == name {
            true => String::new(),
            false => cell(column),
        });
        if !rest.is_empty() {
            lines.push(rest);
        }
    }
    Laid {
        lines,
        left_out,
        cut,
    }
}

/// A column as narrow as it may be; the first one of a terminal of so many cells has its half.
fn column<'c>(
    name: &'c str,
    first_of: Option<usize>,
    rows: &[Map<String, Value>],
    now: Moment,
) -> Column<'c> {
    let cells: Vec<String> = rows
        .iter()
        .map(|row| words(name, row.get(name).unwrap_or(&Value::Null), now))
        .collect();
    let widest = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
    let whole = widest.max(width(name));
    let numbers = |row: &Map<String, Value>| {
        !matches!(
            row.get(name),
            Some(Value::String(_) | Value::Array(_) | Value::Object(_))
        )
    };
    let kept = is_id(name) || is_instant(name) || rows.iter().all(numbers);
    let least = match (first_of, kept) {
        (Some(cells), _) => whole.min(ID.max(cells / 2)),
        (None, true) => whole,
        (None, false) => whole.min(LEAST.max(width(name))),
    };
    Column {
        name,
        cells,
        whole,
        width: least,
    }
}

/// What people copy into other commands, which take it whole.
fn is_id(name: &str) -> bool {
    matches!(
        name,
        "id" | "task_id" | "run_id" | "schedule_id" | "parent_id" | "blocked_by" | "state"
    )
}

fn is_instant(name: &str) -> bool {
    let parts = ["_at", "_seen"];
    parts.iter().any(|end| name.ends_with(end))
        || matches!(name, "at" | "scheduled_for" | "not_before" | "oldest")
}

/// How long ago an instant was, or in how long it is.
fn from_now(at: Moment, now: Moment) -> String {
    if at > now {
        format!("in {}", long(at.since(now)))
    } else {
        format!("{} ago", long(now.since(at)))
    }
}

/// A value in one line, in words.
fn words(name: &str, value: &Value, now: Moment) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => match Moment::parse(text).ok().filter(|_| is_instant(name)) {
            Some(at) => from_now(at, now),
            None => text.clone(),
        },
        Value::Array(items) => match items.as_slice() {
            [first, others @ ..] if name == "inputs" && !others.is_empty() => {
                format!("{} and {} more", words("", first, now), others.len())
            }
            items => {
                let said: Vec<String> = items.iter().map(|item| words("", item, now)).collect();
                said.join(", ")
            }
        },
        Value::Object(entries) => of_object(entries, now),
    };
    plain(&text)
}

fn of_object(entries: &Map<String, Value>, now: Moment) -> String {
    let text = |name: &str| entries.get(name).and_then(Value::as_str);
    if let Some(key) = text("primary_key") {
        return key.to_owned();
    }
    if let (Some(run), Some(state)) = (text("run_name"), text("state")) {
        return format!("{run}: {state}");
    }
    let inner = |value: &Value| value.as_object().is_some_and(|inner| !inner.is_empty());
    let deep = entries.values().any(inner);
    let said: Vec<String> = entries
        .iter()
        .map(|(name, value)| (name, words(name, value, now)))
        .filter(|(_, said)| !said.is_empty())
        .map(|(name, said)| format!("{name}{} {said}", if deep { ":" } else { "" }))
        .collect();
    said.join(if deep { "; " } else { ", " })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-11-21T09:30:00Z";

    fn rows(rows: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(rows).expect("rows")
    }

    fn tasks() -> (Vec<String>, Vec<Map<String, Value>>) {
        let columns = [
            "id",
            "organization",
            "plugin_id",
            "state",
            "attempt",
            "created_at",
            "reason",
            "inputs",
        ];
        let row = json!({
            "id": "01a20041-22b6-7000-9202-8051dd4a4783", "organization": "brightwater",
            "plugin_id": "database-login-of-many", "state": "dispatched", "attempt": 1, "reason": null,
            "created_at": "2026-11-21T09:25:40Z",
            "inputs": [{"object_type": "hostname", "primary_key": "Hostname|internet|api.example.com"}, {"primary_key": "b"}],
        });
        (columns.map(str::to_owned).into(), rows(json!([row])))
    }

    fn at(cells: usize) -> Laid {
        let (columns, rows) = tasks();
        let now = Moment::parse(NOW).expect("an instant");
        laid("task", &columns, &rows, true, cells, now)
    }

    #[test]
    fn a_list_fits_every_terminal_and_loses_the_least_important_columns_first() {
        let order = [
            "id",
            "state",
            "plugin_id",
            "inputs",
            "created_at",
            "organization",
            "attempt",
        ];
        let mut before = 0;
        for cells in 40..200 {
            let laid = at(cells);
            for line in &laid.lines {
                assert!(width(line) <= cells, "{cells}: {line}");
            }
            let head: Vec<&str> = laid.lines[0].split_whitespace().collect();
            assert_eq!(head, order[..head.len()], "{cells}");
            assert!(head.len() >= before, "{cells}");
            before = head.len();
            let left: Vec<&str> = laid.left_out.iter().map(String::as_str).collect();
            assert_eq!(left, order[head.len()..], "{cells}");
        }
        assert_eq!(before, order.len());
    }

    #[test]
    fn an_id_is_never_cut_and_a_key_keeps_the_end_that_tells_it_apart() {
        for cells in [40, 80, 100] {
            let lines = at(cells).lines;
            assert!(
                lines[2].contains("01a20041-22b6-7000-9202-8051dd4a4783"),
                "{}",
                lines[2]
            );
        }
        let laid = at(80);
        assert!(laid.cut);
        assert!(laid.lines[2].ends_with(" and 1 more"), "{}", laid.lines[2]);
    }

    #[test]
    fn instants_are_told_from_now_and_json_in_words() {
        let now = Moment::parse(NOW).expect("an instant");
        let said = |name: &str, value: Value| words(name, &value, now);
        assert_eq!(
            said("created_at", json!("2026-11-21T09:25:40Z")),
            "4m20s ago"
        );
        assert_eq!(
            said("not_before", json!("2026-11-21T11:30:00Z")),
            "in 2h00m"
        );
        assert_eq!(said("live", json!(true)), "yes");
        assert_eq!(
            said("recurrences", json!({"period": "2h", "anchor": "start"})),
            "anchor start, period 2h"
        );
        assert_eq!(
            said(
                "tasks",
                json!({"a": {"queued": 2, "running": 1}, "b": {"queued": 3}})
            ),
            "a: queued 2, running 1; b: queued 3"
        );
        assert_eq!(
            said("counters", json!({"done": 1, "refused": {}})),
            "done 1"
        );
        assert_eq!(
            said("last", json!({"run_name": "r-1", "state": "failed"})),
            "r-1: failed"
        );
    }
}
