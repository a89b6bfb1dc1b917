//! One of a list in full: what is known of it, a line each.

use serde_json::{Map, Value};

use super::bars::{Ended, bar};
use super::screen::{Screen, Tab};
use super::tables::{a_second, inputs, lease, waiting};
use super::words::{clock, count, instant, long, number, plain, text, wrap};
use crate::moment::Moment;

/// A line of details; a head stands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub head: bool,
}

/// How far values stand from the edge.
const INDENT: usize = 14;

struct Sheet {
    lines: Vec<Line>,
    width: usize,
    now: Moment,
}

impl Sheet {
    fn head(&mut self, title: &str) {
        if !self.lines.is_empty() {
            self.lines.push(Line {
                text: String::new(),
                head: false,
            });
        }
        self.lines.push(Line {
            text: title.to_owned(),
            head: true,
        });
    }

    /// A name and its value; nothing where there is no value.
    fn say(&mut self, name: &str, value: &str) {
        let value = plain(value);
        if value.trim().is_empty() {
            return;
        }
        let room = self.width.saturating_sub(INDENT).max(10);
        for (at, part) in wrap(&value, room).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.lines.push(Line {
                text: format!("{name:<INDENT$}{part}"),
                head: false,
            });
        }
    }

    fn text(&mut self, value: &str) {
        for line in value.lines() {
            for part in wrap(&plain(&line.replace('\t', "    ")), self.width) {
                self.lines.push(Line {
                    text: part,
                    head: false,
                });
            }
        }
    }

    fn of(&mut self, name: &str, row: &Map<String, Value>, column: &str) {
        self.say(name, &said(row.get(column).unwrap_or(&Value::Null)));
    }

    fn at(&mut self, name: &str, row: &Map<String, Value>, column: &str) {
        if let Some(at) = instant(row, column) {
            self.say(name, &self.when(at));
        }
    }

    fn when(&self, at: Moment) -> String {
        let now = self.now;
        if at > now {
            format!("{} (in {})", clock(at, now), long(at.since(now)))
        } else {
            format!("{} ({} ago)", clock(at, now), long(now.since(at)))
        }
    }
}

/// A value as a text in one line.
fn said(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(said).collect();
            items.join(", ")
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{name} {}", said(value)))
                .collect();
            entries.join(", ")
        }
        other => other.to_string(),
    }
}

fn maps<'a>(row: &'a Map<String, Value>, column: &str) -> Vec<&'a Map<String, Value>> {
    let listed = row.get(column).and_then(Value::as_array);
    let listed = listed.map(Vec::as_slice).unwrap_or_default();
    listed.iter().filter_map(Value::as_object).collect()
}

/// What is open, in lines of this width.
pub(super) fn lines(screen: &Screen, row: &Map<String, Value>, width: usize) -> Vec<Line> {
    let mut sheet = Sheet {
        lines: Vec::new(),
        width,
        now: screen.now,
    };
    match screen.tab {
        Tab::Queues => queue(screen, &mut sheet, row),
        Tab::Runs => run(screen, &mut sheet, row),
        Tab::Tasks => task(&mut sheet, row),
        Tab::Schedules => schedule(&mut sheet, row),
        Tab::DeadLetters => letter(&mut sheet, row),
        Tab::Replicas => replica(screen, &mut sheet, row),
    }
    sheet.lines
}

fn paused(sheet: &mut Sheet, pause: Option<&Value>) {
    if let Some(pause) = pause.and_then(Value::as_object) {
        let since = instant(pause, "at").map_or_else(String::new, |at| clock(at, sheet.now));
        sheet.say(
            "PAUSED",
            &format!(
                "{} (by {}, since {since})",
                text(pause, "reason"),
                text(pause, "who")
            ),
        );
    }
}

fn queue(screen: &Screen, sheet: &mut Sheet, queue: &Map<String, Value>) {
    sheet.head(&format!("queue {}", plain(text(queue, "queue"))));
    paused(sheet, queue.get("paused"));
    sheet.say("waiting", &waiting(queue).to_string());
    for class in ["manual", "event", "recurring"] {
        let of = |column: &str| queue.get(column).and_then(Value::as_object);
        let many = of("waiting").map_or(0, |waiting| number(waiting, class));
        let since = of("oldest").and_then(|oldest| instant(oldest, class));
        if let Some(since) = since.filter(|_| many > 0) {
            let oldest = long(screen.now.since(since));
            sheet.say(
                &format!("  {class}"),
                &format!("{many}, the oldest for {oldest}"),
            );
        }
    }
    sheet.of("delayed", queue, "delayed");
    sheet.of("offered", queue, "dispatched");
    sheet.of("running", queue, "running");
    sheet.say(
        "sent a second",
        &a_second(screen.rate(text(queue, "queue"))),
    );
    let used = number(queue, "credit_in_use");
    match queue.get("credit").and_then(Value::as_i64) {
        Some(credit) => sheet.say("credit", &format!("{used} of {credit} in use")),
        None => sheet.say("credit", &format!("{used} in use, without a limit")),
    }
    sheet.of("rank", queue, "rank");
    let oldest = maps(queue, "oldest_tasks");
    if !oldest.is_empty() {
        sheet.head("the oldest that wait, of each class");
    }
    for task in oldest {
        let since = instant(task, "created_at");
        let since = since.map_or_else(String::new, |at| long(screen.now.since(at)));
        let what = format!(
            "{} on {}, {} ({})",
            plain(text(task, "plugin_id")),
            inputs(task),
            plain(text(task, "organization")),
            plain(text(task, "id"))
        );
        sheet.say(&since, &what);
    }
}

fn run(screen: &Screen, sheet: &mut Sheet, run: &Map<String, Value>) {
    sheet.head(&format!("run {}", plain(text(run, "run_name"))));
    for (name, column) in [
        ("id", "run_id"),
        ("schedule", "schedule"),
        ("organisation", "organization"),
        ("cause", "cause"),
        ("target", "target"),
        ("state", "state"),
        ("reason", "reason"),
        ("blocked by", "blocked_by"),
        ("chained from", "parent_id"),
        ("request", "request_id"),
        ("gap", "gap"),
    ] {
        sheet.of(name, run, column);
    }
    let nothing = Map::new();
    let counters = run.get("counters").and_then(Value::as_object);
    let counters = counters.unwrap_or(&nothing);
    let total = number(counters, "total");
    if total > 0 {
        let [well, badly, given_up] =
            ["succeeded", "failed", "cancelled"].map(|column| number(counters, column));
        let cells = sheet.width.saturating_sub(INDENT + 2).min(50);
        let ended = Ended {
            well,
            badly,
            given_up,
        };
        let bar = bar(cells, total, ended, screen.terms.ascii);
        sheet.say("progress", &bar);
        sheet.say(
            "",
            &format!(
                "of {total}: {well} succeeded, {badly} failed, {given_up} cancelled, {} open",
                total - well - badly - given_up
            ),
        );
    } else {
        sheet.say("progress", "no tasks");
    }
    sheet.of("refused", counters, "refused");
    sheet.of("looks at", run, "position");
    for (name, column) in [
        ("due", "scheduled_for"),
        ("created", "created_at"),
        ("started", "started_at"),
        ("finished", "finished_at"),
        ("complete", "completed_at"),
    ] {
        sheet.at(name, run, column);
    }
    sheet.head("conditions");
    for condition in maps(run, "conditions") {
        let since = instant(condition, "transition_at").map_or_else(String::new, |at| {
            format!(", since {}", clock(at, sheet.now))
        });
        sheet.say(
            text(condition, "type"),
            &format!(
                "{} ({}){since} {}",
                said(condition.get("status").unwrap_or(&Value::Null)),
                text(condition, "reason"),
                text(condition, "message")
            ),
        );
    }
}

fn task(sheet: &mut Sheet, task: &Map<String, Value>) {
    sheet.head(&format!(
        "task of {}, {}",
        plain(text(task, "plugin_id")),
        text(task, "state")
    ));
    for stand in maps(task, "stands") {
        // What people did stands below, with the rest of it.
        if text(stand, "kind") == "by_hand" {
            continue;
        }
        let until = instant(stand, "until").map_or_else(String::new, |at| {
            format!(
                " (until {}, in {})",
                clock(at, sheet.now),
                long(at.since(sheet.now))
            )
        });
        sheet.say("now", &format!("{}{until}", text(stand, "says")));
    }
    for (name, column) in [
        ("id", "id"),
        ("state", "state"),
        ("reason", "reason"),
        ("organisation", "organization"),
    ] {
        sheet.of(name, task, column);
    }
    for (at, input) in maps(task, "inputs").into_iter().take(50).enumerate() {
        let input = format!(
            "{} ({})",
            text(input, "primary_key"),
            text(input, "object_type")
        );
        sheet.say(if at == 0 { "input" } else { "" }, &input);
    }
    for (name, column) in [
        ("schedule", "schedule"),
        ("run", "run_id"),
        ("cause", "cause"),
        ("priority", "priority"),
        ("queue", "queue"),
        ("worker type", "worker_type"),
        ("redrive of", "redrive_of"),
        ("redriven as", "redriven_as"),
    ] {
        sheet.of(name, task, column);
    }
    if let Some(parameters) = task
        .get("parameters")
        .filter(|value| **value != Value::Object(Map::new()))
    {
        sheet.say("parameters", &said(parameters));
    }
    let tries = format!(
        "offered {}, spent {}, declined in a row {}",
        number(task, "attempt"),
        number(task, "spent"),
        number(task, "declines")
    );
    sheet.say("tries", &tries);
    for (name, column) in [
        ("due", "scheduled_for"),
        ("created", "created_at"),
        ("not before", "not_before"),
        ("finished", "finished_at"),
    ] {
        sheet.at(name, task, column);
    }
    for one in maps(task, "clocks") {
        let when = instant(one, "at").map_or_else(String::new, |at| sheet.when(at));
        sheet.say("clock", &format!("{when}: {}", text(one, "then")));
    }
    for deed in maps(task, "by_hand") {
        let deed = format!(
            "{} by {} at {} {}",
            text(deed, "verb"),
            text(deed, "who"),
            text(deed, "at"),
            text(deed, "reason")
        );
        sheet.say("by hand", &deed);
    }
    attempts(sheet, task);
}

fn attempts(sheet: &mut Sheet, task: &Map<String, Value>) {
    for attempt in maps(task, "attempts") {
        let outcome = match text(attempt, "outcome") {
            "" => "open",
            outcome => outcome,
        };
        sheet.head(&format!(
            "attempt {}, {}",
            number(attempt, "number"),
            plain(outcome)
        ));
        sheet.of("worker", attempt, "worker");
        sheet.of("message", attempt, "message");
        sheet.of("exit code", attempt, "exit_code");
        if attempt.get("done").is_some_and(|done| !done.is_null()) {
            let total = match attempt.get("total").and_then(Value::as_i64) {
                Some(total) => format!(" of {total}"),
                None => String::new(),
            };
            sheet.say("progress", &format!("{}{total}", number(attempt, "done")));
        }
        sheet.of("stage", attempt, "stage");
        sheet.of("note", attempt, "note");
        for (name, column) in [
            ("offered", "offered_at"),
            ("published", "published_at"),
            ("accepted", "accepted_at"),
            ("last beat", "beat_at"),
            ("ended", "ended_at"),
        ] {
            sheet.at(name, attempt, column);
        }
        sheet.of("log", attempt, "log_ref");
        let tail = text(attempt, "log_tail");
        if !tail.is_empty() {
            sheet.say("end of the log", " ");
            sheet.text(tail);
        }
    }
}

fn schedule(sheet: &mut Sheet, schedule: &Map<String, Value>) {
    sheet.head(&format!("schedule {}", plain(text(schedule, "name"))));
    paused(sheet, schedule.get("pause"));
    if schedule.get("enabled") == Some(&Value::Bool(false)) {
        sheet.say("OFF", "enabled: false, so nothing starts it but people");
    }
    sheet.of("id", schedule, "schedule_id");
    let organization = match text(schedule, "organization") {
        "" => "all",
        organization => organization,
    };
    sheet.say("organisation", organization);
    sheet.of("when", schedule, "when");
    sheet.of("zone", schedule, "timezone");
    sheet.of("calendars", schedule, "calendars");
    sheet.at("starts", schedule, "starts_at");
    sheet.at("ends", schedule, "ends_at");
    sheet.of("condition", schedule, "conditions");
    sheet.of("plugins", schedule, "plugins");
    let chosen = schedule.get("selected").and_then(Value::as_array);
    let known = chosen.map_or(0, Vec::len);
    let many = number(schedule, "selected_of");
    let names = said(schedule.get("selected").unwrap_or(&Value::Null));
    match (
        many,
        usize::try_from(many).unwrap_or(0).saturating_sub(known),
    ) {
        (0, _) => sheet.say("", "none is like that now"),
        (_, 0) => sheet.say("", &format!("now {names}")),
        (_, others) => sheet.say("", &format!("now {names}, and {others} more")),
    }
    for (name, column) in [
        ("input", "input"),
        ("target", "target"),
        ("overlap", "overlap"),
        ("missed", "missed"),
        ("spread", "spread"),
        ("priority", "priority"),
        ("grace", "grace"),
        ("revision", "revision"),
    ] {
        sheet.of(name, schedule, column);
    }
    sheet.at("created", schedule, "created_at");
    sheet.head("next");
    let instants = maps(schedule, "instants");
    for one in &instants {
        let left = instant(one, "utc").map_or_else(String::new, |at| long(at.since(sheet.now)));
        let both = format!("{}   {}", text(one, "local"), text(one, "utc"));
        sheet.say(&format!("in {left}"), &both);
    }
    if instants.is_empty() {
        sheet.say("-", "the clock does not start it");
    }
    sheet.head("last");
    match schedule.get("last").and_then(Value::as_object) {
        None => sheet.say("-", "it has not run"),
        Some(run) => {
            sheet.of("run", run, "id");
            sheet.of("state", run, "state");
            sheet.of("reason", run, "reason");
            sheet.at("created", run, "created_at");
            sheet.at("finished", run, "finished_at");
        }
    }
}

fn letter(sheet: &mut Sheet, letter: &Map<String, Value>) {
    let title = match text(letter, "kind") {
        "task" => format!("dead task of {}", plain(text(letter, "plugin_id"))),
        _ => "message that could not be read".to_owned(),
    };
    sheet.head(&title);
    for (name, column) in [
        ("id", "id"),
        ("organisation", "organization"),
        ("queue", "intake"),
        ("routing key", "routing_key"),
        ("reason", "reason"),
        ("message", "message"),
        ("times", "count"),
        ("message id", "message_id"),
        ("content type", "content_type"),
    ] {
        sheet.of(name, letter, column);
    }
    sheet.at("first seen", letter, "first_seen");
    sheet.at("last seen", letter, "last_seen");
    let headers = letter.get("headers").and_then(Value::as_array);
    for header in headers.into_iter().flatten() {
        let part = |at: usize| header[at].as_str().unwrap_or_default();
        sheet.say("header", &format!("{}: {}", part(0), part(1)));
    }
    if let Some(body) = letter.get("body") {
        let shown = body["text"].as_str().or(body["hex"].as_str());
        sheet.head("body");
        sheet.text(shown.unwrap_or_default());
    }
    attempts(sheet, letter);
}

fn replica(screen: &Screen, sheet: &mut Sheet, replica: &Map<String, Value>) {
    sheet.head(&format!("replica {}", plain(text(replica, "id"))));
    sheet.at("started", replica, "started_at");
    sheet.at("last beat", replica, "beat_at");
    sheet.say("lease", &lease(screen, replica));
    sheet.head("loops, and when each last moved");
    let loops = replica.get("loops").and_then(Value::as_object);
    for (name, at) in loops.into_iter().flatten() {
        let at = at.as_str().and_then(|at| Moment::parse(at).ok());
        let how = match at {
            None => "never".to_owned(),
            Some(at) => {
                let ago = screen.now.since(at);
                let still = if ago > super::look::SILENT {
                    "STILL, "
                } else {
                    ""
                };
                format!("{still}{} ago", count(ago.whole_seconds().max(0)) + "s")
            }
        };
        sheet.say(&plain(name), &how);
    }
}
