//! `muster import`: inventory in bulk, from JSON Lines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::output::{counted, print, print_json, shown};
use super::progress::Progress;
use super::{Failure, Output, rules};
use crate::ground::Ground;
use crate::intake::{Imported, import};
use crate::moment::Moment;
use crate::object::Told;
use crate::policy::{Format, Order};
use crate::rules::Rules;
use crate::settings::Settings;
use crate::wire::{self, Message, Reading};

/// So many objects become known in one transaction.
const TOGETHER: usize = 2000;
/// So many transactions go side by side, where the store has more than one writer.
const BESIDE: usize = 3;
/// A line that is longer is not an object.
const LONGEST: usize = 20_000_000;
/// So many wrong lines are told of; the rest is counted.
const TOLD: usize = 20;

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Make objects known, one JSON object a line, as the `data` of an `object.created`; nothing is triggered by it
    #[command(
        after_help = "Example:\n  muster import objects inventory.jsonl\n\nA line: {\"organization\":\"acme\",\"object_type\":\"hostname\",\"primary_key\":\"h1\",\"attributes\":{\"name\":\"a.example.com\"},\"scan_level\":2}\nWith a `time` of its own (RFC 3339) a line is as old as it says: what is known to be newer stays."
    )]
    Objects(Objects),
}

#[derive(Debug, Args)]
pub struct Objects {
    /// JSON Lines; `-` is standard input
    file: PathBuf,
}

/// Some lines, read.
struct Lines {
    told: Vec<Told>,
    /// Where each of them is.
    places: Vec<u64>,
}

pub async fn run(settings: &Settings, what: &Import, output: Output) -> Result<(), Failure> {
    let Import::Objects(objects) = what;
    let source: Box<dyn BufRead + Send> = match objects.file == Path::new("-") {
        true => Box::new(BufReader::new(std::io::stdin())),
        false => {
            let file = std::fs::File::open(&objects.file)
                .map_err(|error| Failure::Usage(format!("{}: {error}", objects.file.display())))?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        }
    };
    let ground = rules::ground(settings).await?;
    ground.store.migrate().await?;
    ground.load_catalogue().await?;
    let begun = Instant::now();
    let (send, mut receive) = mpsc::channel::<Lines>(2);
    let rules = ground.rules.clone();
    let reader = tokio::task::spawn_blocking(move || read(source, &rules, &send));
    let beside = if ground.store.one_writer() { 1 } else { BESIDE };
    let mut going: JoinSet<Result<(Imported, Vec<String>), Failure>> = JoinSet::new();
    let mut sum = Imported::default();
    let mut wrong = Wrong::default();
    let mut progress = Progress::new();
    loop {
        let ended = if going.len() < beside {
            match receive.recv().await {
                Some(lines) => {
                    let ground = ground.clone();
                    going.spawn(async move { store(&ground, lines).await });
                    continue;
                }
                None => going.join_next().await,
            }
        } else {
            going.join_next().await
        };
        let Some(ended) = ended else { break };
        let ended = ended.map_err(|error| Failure::Found(error.to_string()))??;
        let (imported, complaints) = ended;
        sum.changed += imported.changed;
        sum.unchanged += imported.unchanged;
        sum.organizations += imported.organizations;
        sum.withdrawn += imported.withdrawn;
        complaints.into_iter().for_each(|it| wrong.add(it));
        progress.at(sum.changed + sum.unchanged, "objects");
    }
    let read = reader
        .await
        .map_err(|error| Failure::Found(error.to_string()))?;
    progress.end();
    let (complaints, broken) = read;
    complaints
        .told
        .into_iter()
        .for_each(|it| wrong.told.push(it));
    wrong.many += complaints.many;
    for complaint in &wrong.told {
        eprintln!("{}", shown(complaint, true));
    }
    let took = begun.elapsed().as_secs_f64();
    match output {
        Output::Json => print_json(&json!({
            "changed": sum.changed, "unchanged": sum.unchanged, "organizations": sum.organizations,
            "withdrawn": sum.withdrawn, "wrong": wrong.many, "seconds": took,
        })),
        Output::Table => {
            let many = sum.changed + sum.unchanged;
            #[allow(clippy::cast_precision_loss)] // a rate for people
            let rate = many as f64 / took.max(0.001);
            print(&format!(
                "{} in {took:.1} s ({rate:.0}/s): {} new or different, {} as they were{}{}{}",
                counted(many, "object"),
                sum.changed,
                sum.unchanged,
                some(sum.organizations, "new organisation", ""),
                some(sum.withdrawn, "waiting task", " withdrawn"),
                some(wrong.many, "line", " left out"),
            ));
        }
    }
    ground.store.close().await;
    if let Some(error) = broken {
        return Err(Failure::Found(format!(
            "{}: {error}",
            objects.file.display()
        )));
    }
    if wrong.many > 0 {
        return Err(Failure::Found(String::new()));
    }
    Ok(())
}

fn some(many: u64, what: &str, became: &str) -> String {
    if many == 0 {
        String::new()
    } else {
        format!(", {}{became}", counted(many, what))
    }
}

/// Stores some lines. One that cannot be known is left out and complained about, and the others go on without it.
async fn store(ground: &Ground, mut lines: Lines) -> Result<(Imported, Vec<String>), Failure> {
    let mut complaints = Vec::new();
    loop {
        match import(ground, &lines.told).await? {
            Ok(imported) => return Ok((imported, complaints)),
            Err((at, impossible)) => {
                let place = lines.places.get(at).copied().unwrap_or_default();
                complaints.push(format!("line {place}: {}", impossible.message));
                lines.told.remove(at);
                lines.places.remove(at);
            }
        }
    }
}

/// Reads lines until their end, or until nobody takes them any more.
fn read(
    mut source: Box<dyn BufRead + Send>,
    rules: &Rules,
    send: &mpsc::Sender<Lines>,
) -> (Wrong, Option<std::io::Error>) {
    let mut wrong = Wrong::default();
    let empty = || Lines {
        told: Vec::with_capacity(TOGETHER),
        places: Vec::with_capacity(TOGETHER),
    };
    let mut lines = empty();
    let mut line = Vec::new();
    for place in 1.. {
        line.clear();
        let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        match (&mut source).take(limit + 1).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if line.len() > LONGEST => {
                let message = format!(
                    "line {place}: it is longer than {LONGEST} bytes; nothing is read from there on"
                );
                wrong.add(message);
                break;
            }
            Ok(_) => {}
            Err(error) => return (wrong, Some(error)),
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match told(&line, rules) {
            Ok(told) => {
                lines.told.push(told);
                lines.places.push(place);
            }
            Err(message) => wrong.add(format!("line {place}: {message}")),
        }
        if lines.told.len() >= TOGETHER
            && send
                .blocking_send(std::mem::replace(&mut lines, empty()))
                .is_err()
        {
            return (wrong, None);
        }
    }
    if !lines.told.is_empty() {
        // Nobody takes it where something failed, and that is told.
        let _ = send.blocking_send(lines);
    }
    (wrong, None)
}

/// A line as the intake would read it in the body of an `object.created`.
fn told(line: &[u8], rules: &Rules) -> Result<Told, String> {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![
        header("ce-specversion", "1.0"),
        header("ce-id", "import"),
        header("ce-source", "import"),
        header("ce-type", "object.created"),
    ];
    if let Some(time) = time_of(line) {
        headers.push(header("ce-time", &time));
    }
    let message = Message {
        body: line,
        content_type: Some("application/json"),
        routing_key: "",
        message_id: None,
        headers: &headers,
    };
    let reading = Reading {
        format: Format::CloudEvents,
        order: Order::Time,
        names: &rules.names,
        arrived: Moment::now(),
        arrival: 0,
    };
    let event = wire::read_event(&message, &reading).map_err(|wrong| wrong.to_string())?;
    rules.takes(&event.told.change)?;
    Ok(event.told)
}

/// The time that a line says it is of.
fn time_of(line: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Timed {
        time: Option<String>,
    }
    // Most lines have none, and are not read twice.
    let may = line.windows(6).any(|part| part == b"\"time\"");
    may.then_some(())?;
    serde_json::from_slice::<Timed>(line).ok()?.time
}

/// Lines that were left out: the first are told of, all are counted.
#[derive(Default)]
struct Wrong {
    many: u64,
    told: Vec<String>,
}

impl Wrong {
    fn add(&mut self, complaint: String) {
        self.many += 1;
        if self.told.len() < TOLD {
            self.told.push(complaint);
        } else if self.told.len() == TOLD {
            self.told.push("and more; they are counted".to_owned());
        }
    }
}
