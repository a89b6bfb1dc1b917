//! A shipped sample through the real pipeline: SQLite and lines, nothing to set up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, IsTerminal};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWrite;

use super::output::{print, print_json};
use super::{Failure, Output, declare, rules};
use crate::bus::lines::Lines;
use crate::document::Document;
use crate::ground::Ground;
use crate::intake::BatchSize;
use crate::moment::{Moment, Span};
use crate::processor;
use crate::reaper::Keep;
use crate::run::Reason;
use crate::settings::Settings;
use crate::store::Page;
use crate::telemetry::Recorder;
use crate::wire::{self, Line};

const SETTINGS: &str = include_str!("../../config/demo/muster.toml");
const CATALOGUE: &str = include_str!("../../config/demo/catalogue.yaml");
const EVENTS: &str = include_str!("../../config/demo/events.jsonl");

/// What a terminal shows in a row.
const WIDTH: usize = 79;

#[derive(Debug, Args)]
pub struct Demo {
    /// Print every task message, not only the first
    #[arg(long)]
    tasks: bool,
}

/// Where the tasks go: kept, and counted as they come.
#[derive(Clone, Default)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    lines: Arc<AtomicUsize>,
}

impl Collected {
    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl AsyncWrite for Collected {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.lines
            .fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count(), Relaxed);
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A folder that goes when the demonstration is over.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The lines from one setting of the clock to the next.
struct Part<'a> {
    now: Moment,
    lines: Vec<&'a str>,
}

/// The sample in its parts. Lines before the first setting of the clock belong to the first part.
fn parts(sample: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for line in sample.lines() {
        match wire::read_line(line.as_bytes()) {
            Ok(Line::Clock(now)) => parts.push(Part {
                now,
                lines: vec![line],
            }),
            _ => match parts.last_mut() {
                Some(part) => part.lines.push(line),
                None => parts.push(Part {
                    now: Moment::now(),
                    lines: vec![line],
                }),
            },
        }
    }
    parts
}

pub async fn run(demo: &Demo, output: Output) -> Result<(), Failure> {
    let started = Instant::now();
    let folder = Folder(std::env::temp_dir().join(format!("muster-demo-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    let document = Document::toml("config/demo/muster.toml", SETTINGS)
        .map_err(|complaint| Failure::Wrong(vec![complaint]))?;
    let store = format!("sqlite:{}", folder.0.join("demo.db").display());
    let (settings, _) = Settings::read(&document, [("MUSTER_STORE_URL".to_owned(), store)])
        .map_err(Failure::Wrong)?;
    let recorder = Recorder::install().map_err(|error| Failure::Found(error.to_string()))?;
    let parts = parts(EVENTS);
    let told = output == Output::Table;

    let ground = rules::ground(&settings).await?;
    if let Some(first) = parts.first() {
        // The schedules begin when the sample does, not today.
        ground.clock.fix(first.now);
    }
    declare::declare(&ground, &[("config/demo/catalogue.yaml", CATALOGUE)]).await?;
    if told {
        introduce(&ground);
    }
    ground.store.close().await;

    let mut workers = Workers::default();
    let mut shown = false;
    let mut before = parts.first().map(|part| part.now);
    for part in &parts {
        let ground = rules::ground(&settings).await?;
        if let Some(before) = before.replace(part.now) {
            ground.clock.fix(before);
        }
        let answers = workers.answers(ground.clock.now());
        let tasks = Collected::default();
        let progress = tokio::spawn(progress(tasks.lines.clone()));
        // Each task has an acceptance and an end.
        let answered = answers.lines().count() / 2;
        let input = format!("{answers}{}\n", part.lines.join("\n"));
        let done = through(&ground, input, tasks.clone()).await;
        progress.abort();
        ground.store.close().await;
        done?;
        let out = tasks.text();
        if told && !shown {
            shown = true;
            first_task(&out);
        }
        if told {
            print(&format!(
                "  {:<17} {:>10} {:>10} {:>15}",
                part.now
                    .to_string()
                    .replace('T', " ")
                    .trim_end_matches(":00Z"),
                part.lines.len() - 1,
                out.lines().count(),
                answered,
            ));
        }
        workers.take(&out);
    }

    if demo.tasks && told {
        print("\nThe tasks out:");
        for line in &workers.tasks {
            print(line);
        }
    }
    let ground = rules::ground(&settings).await?;
    let sections = summary(&ground, &recorder.render(), &workers).await?;
    ground.store.close().await;
    let seconds = started.elapsed().as_secs_f64();
    if told {
        for section in &sections {
            section.show();
        }
        print(&format!("\nAll of it took {seconds:.2} s."));
        print(concat!(
            "\nWhat next: `muster demo --tasks` prints every task. config/demo holds the\n",
            "sample, and its muster.toml tells how to play with it. `muster explain` says of\n",
            "one event what it starts, what it does not, and why. `muster --help`: the rest."
        ));
    } else {
        let mut all: Map<String, Value> = sections.iter().map(Section::as_json).collect();
        all.insert("seconds".to_owned(), json!(seconds));
        print_json(&Value::Object(all));
    }
    Ok(())
}

fn introduce(ground: &Ground) {
    let catalogue = ground.catalogue();
    let own = catalogue
        .schedules
        .iter()
        .filter(|scheduled| scheduled.schedule.of_plugin())
        .count();
    print(concat!(
        "muster demo: the sample of config/demo, through the whole service, embedded:\n",
        "SQLite in a temporary folder, JSON Lines in and out, two played workers.\n"
    ));
    print(&format!(
        "  declared  {} organisations, {} plugins, {} schedules (and {own} of a plugin's own)",
        catalogue.organizations.len(),
        catalogue.plugins.len(),
        catalogue.schedules.len() - own,
    ));
    let lines = EVENTS.lines().count();
    let clock = EVENTS
        .lines()
        .filter(|line| line.starts_with("{\"now\""))
        .count();
    print(&format!(
        "  to read   {} events, and {clock} lines that set the clock",
        lines - clock
    ));
    let first = EVENTS.lines().find(|line| line.contains("specversion"));
    print(&format!(
        "\nThe first event in:\n{}",
        wrapped(first.unwrap_or_default(), 2, WIDTH)
    ));
}

/// A task that the first event started, as its worker gets it.
fn first_task(out: &str) {
    let event = EVENTS.lines().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        event.get("id").cloned()
    });
    let started = |line: &&str| {
        let task: Value = serde_json::from_str(line).unwrap_or_default();
        event.is_some() && task.pointer("/trigger/event_id") == event.as_ref()
    };
    let Some(line) = out.lines().find(started).or_else(|| out.lines().next()) else {
        return;
    };
    let many = out.lines().filter(started).count();
    print(&format!(
        "\nIt starts {many} tasks. One of them, as a worker gets it:\n{}",
        wrapped(line, 2, WIDTH)
    ));
    print(&format!(
        "\n  {:<17} {:>10} {:>10} {:>15}",
        "clock", "events in", "tasks out", "tasks answered"
    ));
}

/// One part of the sample through the real loops.
async fn through(ground: &Arc<Ground>, input: String, tasks: Collected) -> Result<(), Failure> {
    let bus = Lines::open(Cursor::new(input.into_bytes()), tasks);
    let size = BatchSize {
        count: 100,
        linger: Duration::from_millis(1),
    };
    let keep = Keep {
        events: Span::seconds(604_800),
        tombstones: Span::seconds(604_800),
        versions: Span::seconds(86_400 * 30),
        tasks: Span::seconds(86_400 * 30),
        runs: Span::seconds(86_400 * 90),
        runs_each: 0,
    };
    processor::run(ground.clone(), Arc::new(bus), size, keep, true).await?;
    Ok(())
}

/// The workers of the demonstration: each task is accepted, and ends before the clock moves on.
#[derive(Default)]
struct Workers {
    tasks: Vec<String>,
    /// Tasks that were not answered yet begin here.
    answered: usize,
    said: BTreeMap<&'static str, u64>,
}

impl Workers {
    fn take(&mut self, out: &str) {
        self.tasks.extend(out.lines().map(str::to_owned));
    }

    /// What they say about the tasks that they were given since they were last asked, as lines of input.
    fn answers(&mut self, now: Moment) -> String {
        let mut lines = String::new();
        for (number, task) in self.tasks.iter().enumerate().skip(self.answered) {
            let task: Value = serde_json::from_str(task).unwrap_or_default();
            let (status, more) = match number {
                _ if number % 50 == 29 => (
                    "failed",
                    json!({"class": "fatal", "message": "connection refused"}),
                ),
                _ if number % 120 == 47 => (
                    "never_again",
                    json!({"reason": "this machine must not be scanned"}),
                ),
                _ => ("succeeded", json!({"exit_code": 0})),
            };
            *self.said.entry(status).or_default() += 1;
            let worker = format!("demo-{}", number % 2 + 1);
            for status in ["accepted", status] {
                let mut line = json!({
                    "task_id": task["id"], "attempt": task["attempt"], "worker": worker,
                    "status": status, "at": now.to_string(),
                });
                if let (Some(line), Value::Object(more), false) =
                    (line.as_object_mut(), &more, status == "accepted")
                {
                    line.extend(more.clone());
                }
                let _ = writeln!(lines, "{line}");
            }
        }
        self.answered = self.tasks.len();
        lines
    }
}

/// A line that counts, where somebody looks at it.
async fn progress(lines: Arc<AtomicUsize>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        eprint!("\r  {} tasks out \r", lines.load(Relaxed));
    }
}

/// A part of the summary: figures under a title, each with a name and perhaps a word about it.
struct Section {
    title: &'static str,
    key: &'static str,
    heads: &'static [&'static str],
    rows: Vec<(String, Vec<u64>, String)>,
}

impl Section {
    fn show(&self) {
        if self.rows.is_empty() {
            return;
        }
        let names = self.rows.iter().map(|(name, ..)| name.chars().count());
        let widest = names.max().unwrap_or(0).max(self.title.chars().count() - 2);
        let mut head = format!("\n{:<width$}", self.title, width = widest + 2);
        for word in self.heads {
            let _ = write!(head, " {word:>7}");
        }
        print(&head);
        for (name, figures, about) in &self.rows {
            let mut line = format!("  {name:<widest$}");
            for figure in figures {
                let _ = write!(line, " {figure:>7}");
            }
            if !about.is_empty() {
                let indent = line.chars().count() + 2;
                let about = wrapped(about, indent, WIDTH);
                let _ = write!(line, "  {}", about.trim_start());
            }
            print(&line);
        }
    }

    fn as_json(&self) -> (String, Value) {
        let rows: Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, figures, _)| {
                let value = match (figures.as_slice(), self.heads) {
                    ([one], _) => json!(one),
                    (all, heads) => Value::Object(
                        heads
                            .iter()
                            .zip(all)
                            .map(|(head, figure)| ((*head).to_owned(), json!(figure)))
                            .collect(),
                    ),
                };
                (name.trim_start_matches("of these ").to_owned(), value)
            })
            .collect();
        (self.key.to_owned(), Value::Object(rows))
    }
}

/// A text in lines of at most `width`, broken after spaces and commas, each line behind `indent` spaces.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent).max(20);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for piece in text.split_inclusive([' ', ',']) {
        let mut piece = piece;
        while line.chars().count() + piece.trim_end().chars().count() > room {
            if line.is_empty() {
                // Nothing to break at: cut.
                let at = piece
                    .char_indices()
                    .nth(room)
                    .map_or(piece.len(), |(at, _)| at);
                lines.push(piece[..at].to_owned());
                piece = &piece[at..];
            } else {
                lines.push(std::mem::take(&mut line));
            }
        }
        line.push_str(piece);
    }
    lines.push(line);
    let margin = " ".repeat(indent);
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("{margin}{}", line.trim_end()))
        .collect();
    lines.join("\n")
}

/// The values of a counter by one of its labels.
fn counted(metrics: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let wanted = format!("{label}=\"");
    for line in metrics.lines() {
        let Some(rest) = line
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('{'))
        else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once("} ") else {
            continue;
        };
        let Some((_, after)) = labels.split_once(&wanted) else {
            continue;
        };
        let Some((word, _)) = after.split_once('"') else {
            continue;
        };
        let value: f64 = value.trim().parse().unwrap_or(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // counters are whole and not negative
        let value = value as u64;
        *counts.entry(word.to_owned()).or_default() += value;
    }
    counts
}

/// How often each text stands in a column.
fn tally(rows: &[Map<String, Value>], column: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let word = row.get(column).and_then(Value::as_str).unwrap_or_default();
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

async fn summary(
    ground: &Ground,
    metrics: &str,
    workers: &Workers,
) -> Result<Vec<Section>, Failure> {
    let page = Page {
        limit: 1_000_000,
        ..Page::default()
    };
    let plain = |counts: BTreeMap<String, u64>| -> Vec<(String, Vec<u64>, String)> {
        counts
            .into_iter()
            .map(|(name, many)| (name, vec![many], String::new()))
            .collect()
    };
    let mut events = plain(counted(metrics, "muster_events_total", "type"));
    events.retain(|(name, ..)| name != "unknown");
    for (effect, many) in counted(metrics, "muster_event_effects_total", "effect") {
        let about = match effect.as_str() {
            "duplicate" => "came twice, and counted once",
            "late" => "older than what was known, and overwrote nothing",
            _ => "left their object as it was, and triggered nothing",
        };
        events.push((format!("of these {effect}"), vec![many], about.to_owned()));
    }
    let runs = ground.store.list("run", &page).await?.unwrap_or_default();
    let mut schedules: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for run in &runs.rows {
        let name = run
            .get("schedule")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let figures = schedules
            .entry(name.to_owned())
            .or_insert_with(|| vec![0, 0]);
        let tasks = run.get("total").and_then(Value::as_u64).unwrap_or(0);
        for (figure, more) in figures.iter_mut().zip([1, tasks]) {
            *figure += more;
        }
    }
    let tasks = ground.store.list("task", &page).await?.unwrap_or_default();
    let refusals = counted(metrics, "muster_refusals_total", "reason")
        .into_iter()
        .map(|(word, many)| {
            let meaning = Reason::parse(&word).map_or("", Reason::meaning);
            (word, vec![many], meaning.to_owned())
        })
        .collect();
    let mut letters = Vec::new();
    for letter in ground.store.dead_letters(None, 100).await? {
        let count = u64::try_from(letter.count).unwrap_or(0);
        letters.push((letter.letter.reason, vec![count], letter.letter.message));
    }
    let said = workers
        .said
        .iter()
        .map(|(word, many)| ((*word).to_owned(), *many));
    Ok(vec![
        Section {
            title: "Events",
            key: "events",
            heads: &["many"],
            rows: events,
        },
        Section {
            title: "Schedules touched",
            key: "schedules",
            heads: &["runs", "tasks"],
            rows: schedules
                .into_iter()
                .map(|(name, figures)| (name, figures, String::new()))
                .collect(),
        },
        Section {
            title: "Tasks by queue",
            key: "queues",
            heads: &["tasks"],
            rows: plain(tally(&tasks.rows, "queue")),
        },
        Section {
            title: "What became of them",
            key: "states",
            heads: &["tasks"],
            rows: plain(tally(&tasks.rows, "state")),
        },
        Section {
            title: "Workers said",
            key: "statuses",
            heads: &["tasks"],
            rows: plain(said.collect()),
        },
        Section {
            title: "Refusals, by reason",
            key: "refusals",
            heads: &["many"],
            rows: refusals,
        },
        Section {
            title: "Dead letters",
            key: "dead_letters",
            heads: &["many"],
            rows: letters,
        },
    ])
}
