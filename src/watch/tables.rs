//! The lists as tables: which columns each has, how wide they are, and what stands in them.

use serde_json::{Map, Value};

use super::bars::{Ended, bar};
use super::keys::short;
use super::screen::{Screen, Tab};
use super::words::{age, count, fit, fit_end, instant, long, number, plain, text};

/// A column: its head and its width.
struct Column {
    head: &'static str,
    cells: usize,
    right: bool,
    /// From this width of the screen on.
    from: usize,
}

const fn left(head: &'static str, cells: usize) -> Column {
    Column {
        head,
        cells,
        right: false,
        from: 0,
    }
}

const fn right(head: &'static str, cells: usize) -> Column {
    Column {
        right: true,
        ..left(head, cells)
    }
}

const fn from(width: usize, column: Column) -> Column {
    Column {
        from: width,
        ..column
    }
}

/// A column that takes what the others leave has no width of its own.
const REST: usize = 0;

const QUEUES: [Column; 8] = [
    left("queue", REST),
    right("waiting", 7),
    right("oldest", 6),
    from(50, right("sent/s", 6)),
    from(56, right("credit", 9)),
    from(64, right("running", 7)),
    from(72, right("delayed", 7)),
    left("", 6),
];
const RUNS: [Column; 9] = [
    left("schedule", REST),
    from(60, left("organisation", 12)),
    from(100, left("cause", 9)),
    left("state", 13),
    left("progress", 10),
    right("done", 12),
    from(110, right("failed", 6)),
    right("age", 6),
    from(100, left("run", 8)),
];
const TASKS: [Column; 9] = [
    left("plugin", 16),
    left("input", REST),
    from(66, left("organisation", 12)),
    left("state", 10),
    from(56, right("try", 3)),
    right("age", 6),
    from(100, left("reason", 14)),
    from(124, left("queue", 20)),
    from(100, left("task", 8)),
];
const SCHEDULES: [Column; 6] = [
    left("schedule", REST),
    from(70, left("organisation", 12)),
    from(56, left("when", 18)),
    right("next in", 7),
    left("last", 13),
    right("ago", 6),
];
const DEAD_LETTERS: [Column; 6] = [
    left("reason", 18),
    from(90, left("organisation", 12)),
    from(66, left("from", 18)),
    left("message", REST),
    right("times", 5),
    right("last", 6),
];
const REPLICAS: [Column; 5] = [
    left("replica", 8),
    right("up", 6),
    right("beat", 6),
    left("lease", 16),
    left("loops", REST),
];

fn columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Queues => &QUEUES,
        Tab::Runs => &RUNS,
        Tab::Tasks => &TASKS,
        Tab::Schedules => &SCHEDULES,
        Tab::DeadLetters => &DEAD_LETTERS,
        Tab::Replicas => &REPLICAS,
    }
}

/// A line of a table in so many cells.
fn line(tab: Tab, width: usize, cell: impl Fn(usize, &Column) -> String) -> String {
    let shown: Vec<(usize, &Column)> = columns(tab)
        .iter()
        .enumerate()
        .filter(|(_, column)| column.from <= width)
        .collect();
    let fixed: usize = shown.iter().map(|(_, column)| column.cells).sum();
    let rest = width.saturating_sub(fixed + shown.len() - 1).max(8);
    let cells: Vec<String> = shown
        .iter()
        .map(|(at, column)| {
            let room = if column.cells == REST {
                rest
            } else {
                column.cells
            };
            let text = cell(*at, column);
            // What tells keys of objects apart stands at their end.
            if column.head == "input" && text.contains('|') {
                fit_end(&text, room)
            } else {
                fit(&text, room, column.right)
            }
        })
        .collect();
    cells.join(" ")
}

pub(super) fn head(tab: Tab, width: usize) -> String {
    line(tab, width, |_, column| column.head.to_owned())
}

pub(super) fn row(screen: &Screen, row: &Map<String, Value>, width: usize) -> String {
    let tab = screen.tab;
    line(tab, width, |_, column| match tab {
        Tab::Queues => of_queue(screen, row, column.head),
        Tab::Runs => of_run(screen, row, column.head, column.cells),
        Tab::Tasks => of_task(screen, row, column.head),
        Tab::Schedules => of_schedule(screen, row, column.head),
        Tab::DeadLetters => of_letter(screen, row, column.head),
        Tab::Replicas => of_replica(screen, row, column.head),
    })
}

/// All that waits in a queue, whatever its class.
pub(super) fn waiting(queue: &Map<String, Value>) -> i64 {
    let classes = queue.get("waiting").and_then(Value::as_object);
    let counts = classes.into_iter().flat_map(Map::values);
    counts.filter_map(Value::as_i64).sum()
}

/// A rate of offers, in two or three digits.
pub(super) fn a_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 0.05 => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn of_queue(screen: &Screen, queue: &Map<String, Value>, head: &str) -> String {
    match head {
        "queue" => plain(text(queue, "queue")),
        "waiting" => count(waiting(queue)),
        "oldest" => {
            let classes = queue.get("oldest").and_then(Value::as_object);
            let since = classes.into_iter().flat_map(Map::keys).filter_map(|class| {
                let oldest = queue.get("oldest")?.as_object()?;
                instant(oldest, class)
            });
            since
                .min()
                .map_or_else(String::new, |at| long(screen.now.since(at)))
        }
        "sent/s" => a_second(screen.rate(text(queue, "queue"))),
        "credit" => {
            let used = count(number(queue, "credit_in_use"));
            match queue.get("credit").and_then(Value::as_i64) {
                Some(credit) => format!("{used}/{}", count(credit)),
                None => used,
            }
        }
        "running" => count(number(queue, "running")),
        "delayed" => count(number(queue, "delayed")),
        _ if queue.get("paused").is_some_and(|paused| !paused.is_null()) => "PAUSED".to_owned(),
        _ => String::new(),
    }
}

fn of_run(screen: &Screen, run: &Map<String, Value>, head: &str, cells: usize) -> String {
    let total = number(run, "total");
    let ended = Ended {
        well: number(run, "succeeded"),
        badly: number(run, "failed"),
        given_up: number(run, "cancelled"),
    };
    let open = run.get("finished_at").is_none_or(Value::is_null);
    match head {
        "schedule" => plain(text(run, "schedule")),
        "organisation" => plain(text(run, "organization")),
        "cause" => text(run, "cause").to_owned(),
        "state" => text(run, "state").to_owned(),
        "progress" if total == 0 => String::new(),
        "progress" => bar(cells, total, ended, screen.terms.ascii),
        "done" if total == 0 && !open => text_or(run, "reason", "no tasks"),
        "done" => {
            // More may be found yet.
            let more = if text(run, "state") == "expanding" {
                "+"
            } else {
                ""
            };
            let done = count(ended.well + ended.badly + ended.given_up);
            format!("{done}/{}{more}", count(total))
        }
        "failed" => count(ended.badly),
        "age" => age(run, "created_at", screen.now),
        _ => short(text(run, "id")),
    }
}

fn text_or(row: &Map<String, Value>, column: &str, other: &str) -> String {
    match text(row, column) {
        "" => other.to_owned(),
        said => said.to_owned(),
    }
}

/// The inputs of a task in one line.
pub(super) fn inputs(task: &Map<String, Value>) -> String {
    let inputs = task.get("inputs").and_then(Value::as_array);
    let inputs = inputs.map(Vec::as_slice).unwrap_or_default();
    let key = |input: &Value| plain(input["primary_key"].as_str().unwrap_or_default());
    match inputs {
        [] => "-".to_owned(),
        [one] => key(one),
        [first, others @ ..] => format!("{} and {} more", key(first), others.len()),
    }
}

fn of_task(screen: &Screen, task: &Map<String, Value>, head: &str) -> String {
    match head {
        "plugin" => plain(text(task, "plugin_id")),
        "input" => inputs(task),
        "organisation" => plain(text(task, "organization")),
        "state" => text(task, "state").to_owned(),
        "try" => count(number(task, "attempt")),
        "age" => age(task, "created_at", screen.now),
        "reason" => plain(text(task, "reason")),
        "queue" => plain(text(task, "queue")),
        _ => short(text(task, "id")),
    }
}

fn of_schedule(screen: &Screen, schedule: &Map<String, Value>, head: &str) -> String {
    let is = |column: &str| schedule.get(column) == Some(&Value::Bool(true));
    let last = schedule.get("last").and_then(Value::as_object);
    match head {
        "schedule" => plain(text(schedule, "name")),
        "organisation" => match text(schedule, "organization") {
            "" => "all".to_owned(),
            organization => plain(organization),
        },
        "when" => plain(text(schedule, "when")),
        "next in" if !is("enabled") => "off".to_owned(),
        "next in" if is("paused") => "PAUSED".to_owned(),
        "next in" => match instant(schedule, "next") {
            Some(at) => long(at.since(screen.now)),
            None => "-".to_owned(),
        },
        "last" => last.map_or_else(|| "never".to_owned(), |run| text(run, "state").to_owned()),
        _ => last.map_or_else(String::new, |run| age(run, "created_at", screen.now)),
    }
}

fn of_letter(screen: &Screen, letter: &Map<String, Value>, head: &str) -> String {
    match head {
        "reason" => plain(text(letter, "reason")),
        "organisation" => plain(text(letter, "organization")),
        "from" => match text(letter, "plugin_id") {
            "" => plain(text(letter, "intake")),
            plugin_id => format!("task of {}", plain(plugin_id)),
        },
        "message" => plain(text(letter, "message")),
        "times" => count(number(letter, "count")),
        _ => age(letter, "last_seen", screen.now),
    }
}

fn of_replica(screen: &Screen, replica: &Map<String, Value>, head: &str) -> String {
    match head {
        "replica" => short(text(replica, "id")),
        "up" => age(replica, "started_at", screen.now),
        "beat" => age(replica, "beat_at", screen.now),
        "lease" => lease(screen, replica),
        _ => {
            let names = |column: &str| -> Vec<String> {
                let listed = replica.get(column).and_then(Value::as_array);
                let names = listed.into_iter().flatten().filter_map(Value::as_str);
                names.map(plain).collect()
            };
            let stale = names("stale");
            if stale.is_empty() {
                let loops = replica.get("loops").and_then(Value::as_object);
                format!("all {} move", loops.map_or(0, Map::len))
            } else {
                format!("STILL: {}", stale.join(", "))
            }
        }
    }
}

/// How long a replica counts as alive, unless it beats again.
pub(super) fn lease(screen: &Screen, replica: &Map<String, Value>) -> String {
    match instant(replica, "lease_until") {
        Some(until) if until > screen.now => {
            format!("holds {}", long(until.since(screen.now)))
        }
        Some(until) => format!("OVER for {}", long(screen.now.since(until))),
        None => String::new(),
    }
}

/// What to say where there is nothing.
pub(super) fn nothing(screen: &Screen) -> String {
    if !screen.view().filter.is_empty() {
        return "Nothing is like that. esc shows all again, / asks for something else.".to_owned();
    }
    let said = match screen.tab {
        Tab::Queues => {
            "No queue yet: the plugins that are declared have one for each type of worker. \
             muster apply plugins.yaml declares some; muster demo shows how it all works."
        }
        Tab::Runs => {
            "No run yet: an event or the clock makes one, or muster run start SCHEDULE. \
             muster explain EVENT_FILE says what an event would start, and why not more."
        }
        Tab::Tasks => {
            "No task yet: runs make them, of plugins on what is in the inventory. \
             muster explain EVENT_FILE says what an event would start, and why not more."
        }
        Tab::Schedules => "No schedule yet: muster apply schedules.yaml declares some.",
        Tab::DeadLetters => "No dead letter: every message could be read, and no task is dead.",
        Tab::Replicas => {
            "No replica runs on this store, so nothing is offered to workers: muster run starts one."
        }
    };
    match &screen.organization {
        Some(organization) => format!("For {}: {said}", plain(organization)),
        None => said.to_owned(),
    }
}
