//! `muster import`: inventory and plugins in bulk, from JSON Lines.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::output::{complain_of_line, counted, note, print, print_json};
use super::progress::Progress;
use super::{Failure, Output, door, rules};
use crate::answer::store_edits;
use crate::catalogue::Stored;
use crate::declaration::{Declared, Kind, read_stored};
use crate::document::{Complaint, nearest};
use crate::ground::Ground;
use crate::intake::import;
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
/// So many things that are wrong are told of; the rest is counted.
const TOLD: usize = 20;
/// So many are told apart.
const APART: usize = 1000;

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
        let file = std::fs::File::open(&self.file).and_then(|file| match self.file.is_dir() {
            true => Err(ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file = file.map_err(|error| Failure::of_file(&self.file, &error))?;
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
    door::made_and_known(&ground).await?;
    let begun = Instant::now();
    let (send, mut receive) = mpsc::channel::<Lines<Told>>(2);
    let rules = ground.rules.clone();
    let reader = tokio::task::spawn_blocking(move || {
        read(source, &send, |line| {
            told(line, &rules).map_err(|said| vec![said.into()])
        })
    });
    let beside = if ground.store.one_writer() { 1 } else { BESIDE };
    let mut going: JoinSet<Result<Batch, Failure>> = JoinSet::new();
    let mut sum = Objects::default();
    let hasher = RandomState::new();
    let mut wrong = Wrong::default();
    let mut progress = Progress::new();
    loop {
        let ended = if going.len() < beside {
            match receive.recv().await {
                Some(lines) => {
                    let ground = ground.clone();
                    let hasher = hasher.clone();
                    going.spawn(async move { store(&ground, &hasher, lines).await });
                    continue;
                }
                None => going.join_next().await,
            }
        } else {
            going.join_next().await
        };
        let Some(ended) = ended else { break };
        let ended = ended.map_err(|error| Failure::Found(error.to_string()))??;
        sum.add(&ended);
        wrong.join(ended.wrong);
        progress.at(sum.lines(), "objects");
    }
    let read = reader
        .await
        .map_err(|error| Failure::Found(error.to_string()))?;
    progress.end();
    let (complaints, broken) = read;
    wrong.join(complaints);
    wrong.tell(file);
    let took = begun.elapsed().as_secs_f64();
    let (organizations, withdrawn) = (sum.organizations, sum.withdrawn);
    let (changed, unchanged, repeated) = sum.counted();
    match output {
        Output::Json => print_json(&json!({
            "changed": changed, "unchanged": unchanged, "repeated": repeated, "organizations": organizations,
            "withdrawn": withdrawn, "wrong": wrong.many, "seconds": took,
        })),
        Output::Table => {
            let many = changed + unchanged;
            #[allow(clippy::cast_precision_loss)] // a rate for people
            let rate = (many + repeated) as f64 / took.max(0.001);
            print(&format!(
                "{} in {took:.1} s ({rate:.0}/s): {changed} new or different, {unchanged} as they were{}{}{}{}",
                counted(many, "object"),
                some(repeated, "line", " about one of another line"),
                some(organizations, "new organisation", ""),
                some(withdrawn, "waiting task", " withdrawn"),
                some(wrong.many, "line", " left out"),
            ));
        }
    }
    ground.store.close().await;
    file.ended(&wrong, broken)
}

/// What became of some lines.
struct Batch {
    /// Of each, which object it is about and whether that is another now.
    lines: Vec<(u64, bool)>,
    organizations: u64,
    withdrawn: u64,
    wrong: Wrong,
}

/// What became of the lines so far.
#[derive(Default)]
struct Objects {
    /// Of each, its object, and in the lowest bit whether it changed that.
    lines: Vec<u64>,
    organizations: u64,
    withdrawn: u64,
}

impl Objects {
    fn add(&mut self, batch: &Batch) {
        let lines = batch.lines.iter();
        self.lines
            .extend(lines.map(|(object, changed)| object << 1 | u64::from(*changed)));
        self.organizations += batch.organizations;
        self.withdrawn += batch.withdrawn;
    }

    fn lines(&self) -> u64 {
        self.lines.len() as u64
    }

    /// How many objects changed and how many did not, and how many lines were about one that had a line already.
    fn counted(mut self) -> (u64, u64, u64) {
        self.lines.sort_unstable();
        let (mut changed, mut unchanged) = (0, 0);
        for object in self.lines.chunk_by(|one, other| one >> 1 == other >> 1) {
            match object.last() {
                Some(last) if last & 1 == 1 => changed += 1,
                _ => unchanged += 1,
            }
        }
        (changed, unchanged, self.lines() - changed - unchanged)
    }
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
    door::made_and_known(&ground).await?;
    let (send, mut receive) = mpsc::channel::<Lines<Declared>>(2);
    let rules = ground.rules.clone();
    let reader =
        tokio::task::spawn_blocking(move || read(source, &send, |line| plugin(line, &rules)));
    let mut sum = Declares::default();
    let mut wrong = Wrong::default();
    let mut progress = Progress::new();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut known = Known::read(&ground).await?;
    while let Some(lines) = receive.recv().await {
        let mut entries = Vec::with_capacity(lines.told.len());
        for (entry, place) in lines.told.into_iter().zip(lines.places) {
            match seen.get(&entry.name) {
                Some(before) => wrong.add(
                    place,
                    format!("the plugin `{}` is on line {before} already", entry.name),
                ),
                None => {
                    seen.insert(entry.name.clone(), place);
                    entries.push(entry);
                }
            }
        }
        known.declare(&ground, &entries, &mut sum).await?;
        progress.at(sum.created + sum.changed + sum.unchanged, "plugins");
    }
    let (complaints, broken) = reader
        .await
        .map_err(|error| Failure::Found(error.to_string()))?;
    progress.end();
    wrong.join(complaints);
    wrong.tell(file);
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

/// What is declared, as far as these lines made it.
struct Known {
    revision: i64,
    stored: Vec<Stored>,
    /// Where the plugins are among them.
    plugins: HashMap<String, usize>,
}

impl Known {
    async fn read(ground: &Ground) -> Result<Known, Failure> {
        let (revision, stored) = ground.store.declared().await?;
        let all = stored.iter().enumerate();
        let plugins = all.filter(|(_, known)| known.kind == Kind::Plugin);
        let plugins = plugins
            .map(|(at, known)| (known.name.clone(), at))
            .collect();
        Ok(Known {
            revision,
            stored,
            plugins,
        })
    }

    /// Declares some plugins, all in one transaction.
    async fn declare(
        &mut self,
        ground: &Ground,
        entries: &[Declared],
        sum: &mut Declares,
    ) -> Result<(), Failure> {
        loop {
            let mut done = Declares::default();
            let mut edits = Vec::new();
            for entry in entries {
                let known = self.plugins.get(&entry.name);
                match known.and_then(|at| self.stored.get(*at)) {
                    Some(known) if known.definition == entry.definition => {
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
            match store_edits(ground, &self.stored, &edits, self.revision, None).await? {
                // Somebody else declared something meanwhile.
                Applied::Stale => *self = Known::read(ground).await?,
                Applied::Revision(revision) => {
                    self.revision = revision;
                    self.learn(entries, ground.clock.now());
                    sum.created += done.created;
                    sum.changed += done.changed;
                    sum.unchanged += done.unchanged;
                    return Ok(());
                }
                Applied::Answered => return Ok(()),
            }
        }
    }

    fn learn(&mut self, entries: &[Declared], now: Moment) {
        for entry in entries {
            let known = self.plugins.get(&entry.name);
            match known.and_then(|at| self.stored.get_mut(*at)) {
                Some(known) => known.definition.clone_from(&entry.definition),
                None => {
                    self.plugins.insert(entry.name.clone(), self.stored.len());
                    self.stored.push(Stored {
                        kind: Kind::Plugin,
                        id: entry.name.clone(),
                        name: entry.name.clone(),
                        organization: String::new(),
                        definition: entry.definition.clone(),
                        revision: 1,
                        created_at: now,
                    });
                }
            }
        }
    }
}

/// A line as the entry of a file would be read.
fn plugin(line: &[u8], rules: &Rules) -> Result<Declared, Vec<Reason>> {
    let read: Value = serde_json::from_slice(line).map_err(|error| vec![no_json(&error).into()])?;
    let Value::Object(mut definition) = read else {
        return Err(vec!["a line is a plugin: {\"plugin_id\": …}".into()]);
    };
    if let Some(kind) = definition.remove("kind")
        && kind != json!(Kind::Plugin.word())
    {
        let message = format!("kind: {kind} is no plugin; `muster apply` takes it");
        return Err(vec![message.into()]);
    }
    read_stored(Kind::Plugin, &definition, rules)
        .map_err(|wrong| wrong.into_iter().map(Reason::from).collect())
}

/// Why a line cannot be taken.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reason {
    message: String,
    help: Option<String>,
}

impl From<String> for Reason {
    fn from(message: String) -> Reason {
        Reason {
            message,
            help: None,
        }
    }
}

impl From<&str> for Reason {
    fn from(message: &str) -> Reason {
        message.to_owned().into()
    }
}

impl From<Complaint> for Reason {
    fn from(complaint: Complaint) -> Reason {
        // Who is told what he means needs no list.
        let help = complaint
            .help
            .map(|help| match help.split_once("? known here: ") {
                Some((meant, _)) => format!("{meant}?"),
                None => help,
            });
        Reason {
            message: complaint.message,
            help,
        }
    }
}

/// A line is the whole text, so its number is not said again.
fn no_json(error: &serde_json::Error) -> String {
    let at = format!(" at line {} column {}", error.line(), error.column());
    if error.is_data() {
        return format!("a line is an object: {LINE}");
    }
    let said = error.to_string().replace(&at, "");
    let said = match error.is_eof() {
        true => "it breaks off".to_owned(),
        false => said,
    };
    format!("it is not JSON: {said} at column {}", error.column())
}

/// What the intake says of an event, as it is of a line: the data of the event, and all that there is.
fn of_line(message: &str) -> String {
    let message = message
        .replace("data.", "")
        .replace("data is", "it is")
        .replace("the body is", "it is")
        .replace(" at line 1 column ", " at column ");
    match message.split_once(" (the content type is") {
        Some((said, _)) => said.to_owned(),
        None => message,
    }
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
    hasher: &RandomState,
    mut lines: Lines<Told>,
) -> Result<Batch, Failure> {
    let mut wrong = Wrong::default();
    loop {
        match import(ground, &lines.told).await? {
            Ok(imported) => {
                let objects = lines.told.iter();
                let objects = objects.map(|told| hasher.hash_one(&told.change.key));
                return Ok(Batch {
                    lines: objects.zip(imported.changed).collect(),
                    organizations: imported.organizations,
                    withdrawn: imported.withdrawn,
                    wrong,
                });
            }
            Err((at, impossible)) => {
                let place = lines.places.get(at).copied().unwrap_or_default();
                wrong.add(place, of_line(&impossible.message));
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
    told: impl Fn(&[u8]) -> Result<T, Vec<Reason>>,
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
                let message =
                    format!("it is longer than {LONGEST} bytes; nothing is read from there on");
                wrong.add(place, message);
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
        let line = line.trim_ascii_end();
        if line.trim_ascii().is_empty() {
            continue;
        }
        match told(line) {
            Ok(told) => {
                lines.told.push(told);
                lines.places.push(place);
            }
            Err(reasons) => wrong.add_all(place, reasons),
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
        .and_then(|fields| json.end().map(|()| fields))
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
    let event = wire::read_event(&message, &reading).map_err(|wrong| of_line(&wrong.message))?;
    rules
        .takes(&event.told.change)
        .map_err(|wrong| of_line(&wrong))?;
    Ok(event.told)
}

/// What a line looks like.
const LINE: &str =
    "{\"organization\": …, \"object_type\": …, \"primary_key\": …, \"attributes\": {…}}";

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
        f.write_str(LINE)
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

/// Lines that were left out: all are counted, and of what is wrong with them the first of each is told.
#[derive(Default)]
struct Wrong {
    many: u64,
    /// Why, with the first line and how many there are.
    reasons: HashMap<Reason, (u64, u64)>,
    /// Lines whose reason is not kept, because there are so many different ones.
    untold: u64,
}

impl Wrong {
    fn add(&mut self, place: u64, message: String) {
        self.add_all(place, vec![message.into()]);
    }

    fn add_all(&mut self, place: u64, reasons: Vec<Reason>) {
        self.many += 1;
        for reason in reasons {
            self.count(reason, place, 1);
        }
    }

    fn count(&mut self, reason: Reason, place: u64, many: u64) {
        let full = self.reasons.len() >= APART;
        match self.reasons.get_mut(&reason) {
            Some((first, known)) => {
                *first = place.min(*first);
                *known += many;
            }
            None if full => self.untold += many,
            None => {
                self.reasons.insert(reason, (place, many));
            }
        }
    }

    fn join(&mut self, others: Wrong) {
        self.many += others.many;
        self.untold += others.untold;
        for (reason, (place, many)) in others.reasons {
            self.count(reason, place, many);
        }
    }

    /// In the order of the lines; the same help is given once.
    fn tell(&self, file: &Source) {
        let file = file.file.display().to_string();
        let mut reasons: Vec<(&Reason, u64, u64)> = self
            .reasons
            .iter()
            .map(|(reason, (first, many))| (reason, *first, *many))
            .collect();
        reasons.sort_by_key(|(reason, first, _)| (*first, &reason.message));
        let mut helped: Vec<&String> = Vec::new();
        for (reason, first, many) in reasons.iter().take(TOLD) {
            let others = match many - 1 {
                0 => String::new(),
                others => format!(" (and {})", counted(others, "more line")),
            };
            let said = format!("{}{others}", reason.message);
            let help = reason.help.as_ref().filter(|help| !helped.contains(help));
            complain_of_line(&file, *first, &said, help.map(String::as_str));
            helped.extend(help);
        }
        let rest = reasons.iter().skip(TOLD).map(|(_, _, many)| many);
        let rest = rest.sum::<u64>() + self.untold;
        if rest > 0 {
            note(&format!("and {}", counted(rest, "more complaint")));
        }
    }
}
