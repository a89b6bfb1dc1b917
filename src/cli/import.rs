//! `muster import`: inventory and plugins in bulk, from JSON Lines.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::output::{counted, print, print_json, shown};
use super::progress::Progress;
use super::{Failure, Output, rules};
use crate::answer::store_edits;
use crate::declaration::{Declared, Kind, read_stored};
use crate::document::nearest;
use crate::ground::Ground;
use crate::intake::{Imported, import};
use crate::moment::Moment;
use crate::object::Told;
use crate::policy::{Format, Order};
use crate::rules::Rules;
use crate::settings::Settings;
use crate::store::{Applied, Edit};
use crate::wire::{self, Message, Reading};

/// So many objects become known in one transaction.
const TOGETHER: usize = 2000;
/// So many transactions go side by side, where the store has more than one writer.
const BESIDE: usize = 3;
/// A line that is longer is not an object.
const LONGEST: usize = 20_000_000;
/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// So many wrong lines are told of; the rest is counted.
const TOLD: usize = 20;

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Make objects known, one JSON object a line, as the `data` of an `object.created`; nothing is triggered by it
    #[command(
        after_help = "Example:\n  muster import objects inventory.jsonl\n\nA line: {\"organization\":\"acme\",\"object_type\":\"hostname\",\"primary_key\":\"h1\",\"attributes\":{\"name\":\"a.example.com\"},\"scan_level\":2}\nWith a `time` of its own (RFC 3339) a line is as old as it says: what is known to be newer stays."
    )]
    Objects(Source),
    /// Declare plugins, one JSON object a line, as the entries of a file that `apply` reads
    #[command(
        after_help = "Example:\n  muster import plugins plugins.jsonl\n\nA line: {\"plugin_id\":\"dns-records\",\"worker_type\":\"boefje\",\"consumes\":[\"hostname\"],\"scan_level\":1}\nA line that is wrong is told and left out; the others are declared. What is declared and not in the file stays."
    )]
    Plugins(Source),
}

#[derive(Debug, Args)]
pub struct Source {
    /// JSON Lines; `-` is standard input
    file: PathBuf,
}

impl Source {
    fn open(&self) -> Result<Box<dyn BufRead + Send>, Failure> {
        if self.file == Path::new("-") {
            return Ok(Box::new(BufReader::new(std::io::stdin())));
        }
        let file = std::fs::File::open(&self.file)
            .map_err(|error| Failure::Usage(format!("{}: {error}", self.file.display())))?;
        Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
    }

    /// How it ends, once all is done that can be: with the lines that were left out, or where reading broke off.
    fn ended(&self, wrong: &Wrong, broken: Option<std::io::Error>) -> Result<(), Failure> {
        match broken {
            Some(error) => Err(Failure::Found(format!("{}: {error}", self.file.display()))),
            None if wrong.many > 0 => Err(Failure::Found(String::new())),
            None => Ok(()),
        }
    }
}

/// Some lines, read.
struct Lines<T> {
    told: Vec<T>,
    /// Where each of them is.
    places: Vec<u64>,
}

pub async fn run(settings: &Settings, what: &Import, output: Output) -> Result<(), Failure> {
    match what {
        Import::Objects(source) => objects(settings, source, output).await,
        Import::Plugins(source) => plugins(settings, source, output).await,
    }
}

async fn objects(settings: &Settings, file: &Source, output: Output) -> Result<(), Failure> {
    let source = file.open()?;
    let ground = rules::ground(settings).await?;
    ground.store.migrate().await?;
    ground.load_catalogue().await?;
    let begun = Instant::now();
    let (send, mut receive) = mpsc::channel::<Lines<Told>>(2);
    let rules = ground.rules.clone();
    let reader =
        tokio::task::spawn_blocking(move || read(source, &send, |line| told(line, &rules)));
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
    wrong.join(complaints);
    wrong.tell();
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
    file.ended(&wrong, broken)
}

/// What became of some plugins.
#[derive(Default)]
struct Declares {
    created: u64,
    changed: u64,
    unchanged: u64,
}

async fn plugins(settings: &Settings, file: &Source, output: Output) -> Result<(), Failure> {
    let source = file.open()?;
    let ground = rules::ground(settings).await?;
    ground.store.migrate().await?;
    ground.load_catalogue().await?;
    let (send, mut receive) = mpsc::channel::<Lines<Declared>>(2);
    let rules = ground.rules.clone();
    let reader =
        tokio::task::spawn_blocking(move || read(source, &send, |line| plugin(line, &rules)));
    let mut sum = Declares::default();
    let mut wrong = Wrong::default();
    let mut progress = Progress::new();
    let mut seen: HashMap<String, u64> = HashMap::new();
    while let Some(lines) = receive.recv().await {
        let mut entries = Vec::with_capacity(lines.told.len());
        for (entry, place) in lines.told.into_iter().zip(lines.places) {
            match seen.get(&entry.name) {
                Some(before) => wrong.add(format!(
                    "line {place}: the plugin `{}` is on line {before} already",
                    entry.name
                )),
                None => {
                    seen.insert(entry.name.clone(), place);
                    entries.push(entry);
                }
            }
        }
        declare(&ground, &entries, &mut sum).await?;
        progress.at(sum.created + sum.changed + sum.unchanged, "plugins");
    }
    let (complaints, broken) = reader
        .await
        .map_err(|error| Failure::Found(error.to_string()))?;
    progress.end();
    wrong.join(complaints);
    wrong.tell();
    match output {
        Output::Json => print_json(&json!({
            "created": sum.created, "changed": sum.changed, "unchanged": sum.unchanged, "wrong": wrong.many,
        })),
        Output::Table => print(&format!(
            "{} created, {} changed, {} as they were{}",
            counted(sum.created, "plugin"),
            sum.changed,
            sum.unchanged,
            some(wrong.many, "line", " left out"),
        )),
    }
    ground.store.close().await;
    file.ended(&wrong, broken)
}

/// Declares some plugins, all in one transaction.
async fn declare(ground: &Ground, entries: &[Declared], sum: &mut Declares) -> Result<(), Failure> {
    loop {
        let (revision, stored) = ground.store.declared().await?;
        let plugins = stored.iter().filter(|known| known.kind == Kind::Plugin);
        let known: HashMap<&str, &Map<String, Value>> = plugins
            .map(|known| (known.name.as_str(), &known.definition))
            .collect();
        let mut done = Declares::default();
        let mut edits = Vec::new();
        for entry in entries {
            match known.get(entry.name.as_str()) {
                Some(definition) if **definition == entry.definition => {
                    done.unchanged += 1;
                    continue;
                }
                Some(_) => done.changed += 1,
                None => done.created += 1,
            }
            edits.push(Edit::Put {
                kind: Kind::Plugin,
                organization: String::new(),
                name: entry.name.clone(),
                id: entry.name.clone(),
                definition: entry.definition.clone(),
            });
        }
        if store_edits(ground, &stored, &edits, revision, None).await? != Applied::Stale {
            sum.created += done.created;
            sum.changed += done.changed;
            sum.unchanged += done.unchanged;
            return Ok(());
        }
    }
}

/// A line as the entry of a file would be read.
fn plugin(line: &[u8], rules: &Rules) -> Result<Declared, String> {
    let read: Value = serde_json::from_slice(line).map_err(|error| no_json(&error))?;
    let Value::Object(mut definition) = read else {
        return Err("a plugin is an object: {\"plugin_id\": …}".to_owned());
    };
    if let Some(kind) = definition.remove("kind")
        && kind != json!(Kind::Plugin.word())
    {
        return Err(format!(
            "kind: {kind} is no plugin; `muster apply` takes it"
        ));
    }
    read_stored(Kind::Plugin, &definition, rules).map_err(|wrong| {
        let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        said.join("; ")
    })
}

fn no_json(error: &serde_json::Error) -> String {
    // A line is the whole text.
    let said = error
        .to_string()
        .replace(" at line 1 column ", " at column ");
    format!("it is not JSON: {said}")
}

fn some(many: u64, what: &str, became: &str) -> String {
    if many == 0 {
        String::new()
    } else {
        format!(", {}{became}", counted(many, what))
    }
}

/// Stores some lines. One that cannot be known is left out and complained about, and the others go on without it.
async fn store(
    ground: &Ground,
    mut lines: Lines<Told>,
) -> Result<(Imported, Vec<String>), Failure> {
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
fn read<T>(
    mut source: Box<dyn BufRead + Send>,
    send: &mpsc::Sender<Lines<T>>,
    told: impl Fn(&[u8]) -> Result<T, String>,
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
        // Some editors begin a file with this mark.
        let line = match line.strip_prefix(MARK) {
            Some(rest) if place == 1 => rest,
            _ => &line,
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        match told(line) {
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
    let mut json = serde_json::Deserializer::from_slice(line);
    let fields = json
        .deserialize_any(Fields::default())
        .map_err(|error| no_json(&error))?;
    if let Some(unknown) = fields.unknown {
        let near = nearest(&unknown, FIELDS);
        let help = near.first().map(|near| format!("; did you mean `{near}`?"));
        let help = help.unwrap_or_else(|| format!("; there are {}", FIELDS.join(", ")));
        return Err(format!("unknown field `{unknown}`{help}"));
    }
    match fields.time {
        None | Some(Value::Null) => {}
        Some(Value::String(time)) if Moment::parse(&time).is_ok() => {
            headers.push(header("ce-time", &time));
        }
        Some(other) => {
            return Err(format!(
                "time: {other} is not an instant; write it as \"2026-11-21T09:30:00Z\""
            ));
        }
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
    let event = wire::read_event(&message, &reading).map_err(|wrong| {
        // A line is what an event calls its data.
        wrong
            .message
            .replace("data.", "")
            .replace("data is", "it is")
    })?;
    rules.takes(&event.told.change)?;
    Ok(event.told)
}

/// What a line may have.
const FIELDS: [&str; 7] = [
    "organization",
    "object_type",
    "primary_key",
    "attributes",
    "scan_level",
    "scan_profile_type",
    "time",
];

/// The names that a line has, and of the values the time alone.
#[derive(Default)]
struct Fields {
    time: Option<Value>,
    unknown: Option<String>,
}

impl<'de> Visitor<'de> for Fields {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object: {\"organization\": …, \"object_type\": …, \"primary_key\": …}")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Fields, A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*name {
                "time" => self.time = Some(map.next_value()?),
                name => {
                    if !FIELDS.contains(&name) && self.unknown.is_none() {
                        self.unknown = Some(name.to_owned());
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(self)
    }
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

    fn join(&mut self, others: Wrong) {
        self.told.extend(others.told);
        self.many += others.many;
    }

    fn tell(&self) {
        for complaint in &self.told {
            eprintln!("{}", shown(complaint, true));
        }
    }
}
