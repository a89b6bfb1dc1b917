//! A shipped sample through the real pipeline: SQLite and lines, nothing to set up.

use std::collections::BTreeMap;
use std::io::{Cursor, IsTerminal};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tokio::io::AsyncWrite;

use super::output::{print, table};
use super::{Failure, declare, rules};
use crate::bus::lines::Lines;
use crate::document::Document;
use crate::intake::BatchSize;
use crate::moment::Span;
use crate::processor;
use crate::reaper::Keep;
use crate::settings::Settings;
use crate::store::Page;
use crate::telemetry::Recorder;

const SETTINGS: &str = include_str!("../../config/demo/muster.toml");
const CATALOGUE: &str = include_str!("../../config/demo/catalogue.yaml");
const EVENTS: &str = include_str!("../../config/demo/events.jsonl");

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

pub async fn run(demo: &Demo) -> Result<(), Failure> {
    let started = Instant::now();
    let folder = Folder(std::env::temp_dir().join(format!("muster-demo-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0)?;
    let document = Document::toml("config/demo/muster.toml", SETTINGS)
        .map_err(|complaint| Failure::of_complaints(&[complaint]))?;
    let store = format!("sqlite:{}", folder.0.join("demo.db").display());
    let (settings, _) = Settings::read(&document, [("MUSTER_STORE_URL".to_owned(), store)])
        .map_err(|complaints| Failure::of_complaints(&complaints))?;
    let recorder = Recorder::install().map_err(|error| Failure::Found(error.to_string()))?;
    let ground = rules::ground(&settings).await?;
    declare::declare(&ground, &[("config/demo/catalogue.yaml", CATALOGUE)]).await?;
    let events = EVENTS.lines().count();
    print(&format!(
        "muster demo: {} plugins, {} schedules, {events} lines of input (config/demo), SQLite and JSON Lines",
        ground.catalogue().plugins.len(),
        ground.catalogue().schedules.len()
    ));
    let first = EVENTS.lines().next().unwrap_or_default();
    print(&format!("\nthe first event in:\n  {}", shortened(first)));

    let tasks = Collected::default();
    let bus = Lines::open(Cursor::new(EVENTS.as_bytes()), tasks.clone());
    let progress = tokio::spawn(progress(tasks.lines.clone()));
    let size = BatchSize {
        count: 100,
        linger: Duration::from_millis(1),
    };
    let keep = Keep {
        events: Span::seconds(604_800),
        tombstones: Span::seconds(604_800),
    };
    processor::run(ground.clone(), Arc::new(bus), size, keep, true).await?;
    progress.abort();
    let written = tasks
        .bytes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let written = String::from_utf8_lossy(&written).into_owned();
    if demo.tasks {
        print("\nthe tasks out:");
        for line in written.lines() {
            print(line);
        }
    } else if let Some(line) = written.lines().next() {
        print(&format!(
            "\nthe first task out (all of them: --tasks):\n  {}",
            shortened(line)
        ));
    }
    summary(&ground, &written, &recorder.render(), started).await?;
    ground.store.close().await;
    Ok(())
}

fn shortened(line: &str) -> String {
    const MOST: usize = 300;
    if line.chars().count() <= MOST {
        return line.to_owned();
    }
    let cut: String = line.chars().take(MOST).collect();
    format!("{cut}…")
}

/// A line that counts, where somebody looks at it.
async fn progress(lines: Arc<AtomicUsize>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        eprint!("\r{} tasks out ", lines.load(Relaxed));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

async fn summary(
    ground: &crate::ground::Ground,
    written: &str,
    metrics: &str,
    started: Instant,
) -> Result<(), Failure> {
    let page = Page {
        limit: 1_000_000,
        ..Page::default()
    };
    let mut rows = Vec::new();
    let mut add =
        |what: &str, of: &str, many: String| rows.push(vec![what.to_owned(), of.to_owned(), many]);
    for (event_type, many) in counted(metrics, "muster_events_total", "type") {
        add("events", &event_type, many.to_string());
    }
    let runs = ground.store.list("run", &page).await?.unwrap_or_default();
    let mut schedules: BTreeMap<String, u64> = BTreeMap::new();
    for run in &runs.rows {
        *schedules
            .entry(
                run.get("schedule")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            )
            .or_default() += 1;
    }
    for (schedule, many) in &schedules {
        add("schedules touched (runs)", schedule, many.to_string());
    }
    let mut queues: BTreeMap<String, u64> = BTreeMap::new();
    for line in written.lines() {
        let task: Value = serde_json::from_str(line).unwrap_or_default();
        let worker = task
            .get("worker_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        *queues
            .entry(ground.rules.worker(worker).queue.clone())
            .or_default() += 1;
    }
    for (queue, many) in &queues {
        add("tasks by queue", queue, many.to_string());
    }
    for (reason, many) in counted(metrics, "muster_refusals_total", "reason") {
        add("refusals by reason", &reason, many.to_string());
    }
    for letter in ground.store.dead_letters(None, 100).await? {
        add(
            "dead letter",
            &letter.letter.reason,
            letter.count.to_string(),
        );
    }
    add(
        "time",
        "all of it",
        format!("{:.2} s", started.elapsed().as_secs_f64()),
    );
    print(&format!("\n{}", table(&["what", "of", "how many"], rows)));
    Ok(())
}
