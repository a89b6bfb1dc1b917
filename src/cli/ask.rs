//! What can also be asked on the bus: runs, schedules, targets. Done here through the database, by the same code.

use std::time::Duration;

use clap::{Args, CommandFactory, Subcommand};
use serde_json::{Map, Value, json};

use super::output::{cell, in_lines, items, note, print, print_json, sure, text, warn};
use super::progress::watched;
use super::{
    Arguments, DeclaredFilter, Failure, Filter, Output, Which, declared, deeds, door, lists, look,
    preview,
};
use crate::answer::{answer, started};
use crate::declaration::{Kind, Origin, RunOnce};
use crate::ground::Ground;
use crate::moment::Moment;
use crate::run::RunState;
use crate::settings::Settings;
use crate::store::RunFilter;
use crate::wire::{Refused, Requested};

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(250);

/// What whoever waits is told where nothing will happen by itself.
const NOBODY: &str = "warning: no replica of the service is alive, so nothing is offered until one runs (`muster run`)";

#[derive(Debug, Subcommand)]
pub enum RunVerb {
    /// Show them, the newest first
    List(Filter),
    /// Start a schedule, or one plugin, now
    #[command(
        after_help = "Examples:\n  muster run start nightly\n  muster run start --plugin nmap --organization acme --object 'Hostname|internet|example.com' --wait"
    )]
    Start(Start),
    /// One run: its conditions, counters and what blocks it
    Get { run_id: String },
    /// End a run: what waits is not offered, and workers are told to stop
    Cancel { run_id: String },
}

#[derive(Debug, Args)]
pub struct Start {
    /// The schedule, by name or id
    #[arg(required_unless_present = "plugin", conflicts_with = "plugin")]
    schedule: Option<String>,
    /// One plugin instead of a schedule
    #[arg(long, value_name = "ID")]
    plugin: Option<String>,
    /// The primary key of an object to run on; may be given several times
    #[arg(long = "object", value_name = "KEY")]
    objects: Vec<String>,
    /// For this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// A value of $NAME, laid over the schedule's; JSON, or else a text
    #[arg(long = "param", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// The id of this request: the same id starts nothing twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Wait until it has ended; exit 1 unless it succeeded
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum ScheduleVerb {
    /// Show them
    List(DeclaredFilter),
    /// Make one, or make it so; tells its next instants
    Apply(declared::ApplyOne),
    /// Remove one; tasks that exist keep what they were made from
    Delete(declared::DeleteOne),
    /// The next instants at which the clock starts one, in its zone and in UTC
    #[command(
        after_help = "Examples:\n  muster schedule preview nightly -n 20\n  muster schedule preview schedules.yaml\n  muster schedule preview plugin:dns-records --output json"
    )]
    Preview(preview::Preview),
    /// Stop a schedule from firing, until it is resumed; tasks that exist are untouched
    Pause {
        schedule: String,
        /// Why; kept with who and when
        #[arg(long)]
        reason: String,
        /// The organisation whose schedule it is
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
    /// Let it fire again, from now on
    Resume {
        schedule: String,
        /// The organisation whose schedule it is
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
    /// Run the instants of a range that have gone by, one after another, except those that succeeded
    #[command(
        after_help = "Example:\n  muster schedule backfill nightly --from 2026-11-01T00:00:00Z --to 2026-11-07T00:00:00Z --dry-run"
    )]
    Backfill {
        schedule: String,
        /// The first instant
        #[arg(long, value_name = "INSTANT")]
        from: String,
        /// The last instant
        #[arg(long, value_name = "INSTANT")]
        to: String,
        /// List the instants, and run none
        #[arg(long)]
        dry_run: bool,
        /// Only for this organisation
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum TargetVerb {
    /// What runs on an object, ran last, succeeded last and failed last
    Get {
        schedule: String,
        /// The primary key of the object
        object: String,
        /// Whose object it is
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
    /// The same of every object that has runs of its own
    List {
        /// Only of this schedule
        #[arg(long, value_name = "NAME")]
        schedule: Option<String>,
        /// Only of this organisation
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        /// Leave out so many first
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
        offset: i64,
        #[command(flatten)]
        layout: lists::Layout,
    },
}

pub async fn run(settings: &Settings, verb: RunVerb, output: Output) -> Result<(), Failure> {
    match verb {
        RunVerb::List(filter) => look::list(settings, "run", &filter, output).await,
        RunVerb::Start(start) => self::start(settings, start, output).await,
        RunVerb::Get { run_id } => {
            ask(settings, "run.get", None, json!({"run_id": run_id}), output).await
        }
        RunVerb::Cancel { run_id } => {
            ask(
                settings,
                "run.cancel",
                None,
                json!({"run_id": run_id}),
                output,
            )
            .await
        }
    }
}

pub async fn schedule(
    settings: &Settings,
    verb: ScheduleVerb,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        ScheduleVerb::List(filter) => {
            look::declared(settings, Kind::Schedule, &filter.into(), output).await
        }
        ScheduleVerb::Apply(one) => declared::apply(settings, Kind::Schedule, one, output).await,
        ScheduleVerb::Delete(one) => declared::delete(settings, Kind::Schedule, one, output).await,
        ScheduleVerb::Preview(asked) => preview::run(settings, &asked, output).await,
        ScheduleVerb::Pause {
            schedule,
            reason,
            organization,
        } => {
            let args = json!({"schedule": schedule, "reason": reason});
            ask(settings, "schedule.pause", organization, args, output).await
        }
        ScheduleVerb::Resume {
            schedule,
            organization,
        } => {
            let args = json!({"schedule": schedule});
            ask(settings, "schedule.resume", organization, args, output).await
        }
        ScheduleVerb::Backfill {
            schedule,
            from,
            to,
            dry_run,
            organization,
        } => {
            let args = json!({"schedule": schedule, "from": from, "to": to, "dry_run": dry_run});
            let ground = door::known(settings).await?;
            let asked = request("schedule.backfill", None, organization, args);
            let answered = watched(&ground, said(&ground, &asked)).await?;
            show(&asked, &answered, ground.clock.now(), output);
            ground.store.close().await;
            Ok(())
        }
    }
}

pub async fn target(settings: &Settings, verb: TargetVerb, output: Output) -> Result<(), Failure> {
    match verb {
        TargetVerb::Get {
            schedule,
            object,
            organization,
        } => {
            let args = json!({"schedule": schedule, "object": object});
            ask(settings, "target.get", organization, args, output).await
        }
        TargetVerb::List {
            schedule,
            organization,
            limit,
            offset,
            layout,
        } => {
            let mut args = json!({"limit": limit, "offset": offset});
            if let Some(schedule) = schedule {
                args["schedule"] = json!(schedule);
            }
            let answered = answered(settings, "target.list", organization, args).await?;
            if output == Output::Json {
                print_json(&answered);
                return Ok(());
            }
            let targets = answered["targets"].as_array().into_iter().flatten();
            let rows: Vec<Map<String, Value>> =
                targets.filter_map(|row| row.as_object().cloned()).collect();
            let first = rows.first().into_iter().flat_map(Map::keys);
            let columns: Vec<String> = first.cloned().collect();
            lists::show("target", &columns, &rows, &layout, Moment::now())
        }
    }
}

/// A parameter as the command line writes it.
fn parameter(text: &str) -> Result<(String, Value), Failure> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Failure::Usage(format!(
            "--param {text}: write it as NAME=VALUE"
        )));
    };
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((name.to_owned(), value))
}

async fn start(settings: &Settings, start: Start, output: Output) -> Result<(), Failure> {
    let parameters: Map<String, Value> = start
        .parameters
        .iter()
        .map(|text| parameter(text))
        .collect::<Result<_, _>>()?;
    let mut args = json!({"objects": start.objects, "parameters": parameters});
    if let Some(schedule) = start.schedule {
        args["schedule"] = json!(schedule);
    }
    if let Some(plugin) = start.plugin {
        args["plugin"] = json!(plugin);
    }
    let ground = door::known(settings).await?;
    let asked = request("run.start", start.request_id, start.organization, args);
    let answered = said(&ground, &asked).await?;
    let mut runs: Vec<&Value> = items(&answered, "runs").collect();
    if !start.wait {
        show(&asked, &answered, ground.clock.now(), output);
        ground.store.close().await;
        // What is suppressed at once is answered with who is in its way, and that is what was asked for.
        let skipped = RunState::Skipped.word();
        runs.retain(|run| text(run, "state") != skipped);
        return well(&runs);
    }
    let open =
        |run: &Value| RunState::parse(text(run, "state")).is_some_and(|state| !state.ended());
    for run in runs.iter().filter(|run| open(run)) {
        note(&format!(
            "started the run {} for {}, waiting …",
            text(run, "run_id"),
            text(run, "organization")
        ));
    }
    if runs.iter().any(|run| open(run)) && !look::alive(&ground).await? {
        warn(NOBODY);
    }
    let mut ended = Vec::new();
    for run in runs {
        let run_id = text(run, "run_id");
        loop {
            let look = request("run.get", None, None, json!({"run_id": run_id}));
            let run = said(&ground, &look).await?;
            if !run["finished_at"].is_null() {
                ended.push(run);
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    ground.store.close().await;
    match (ended.as_slice(), output) {
        ([one], Output::Json) => print_json(one),
        (all, Output::Json) => print_json(&json!({ "runs": all })),
        (all, Output::Table) => all
            .iter()
            .for_each(|run| print(&deeds::ended(&in_lines(run, &[], &[])))),
    }
    well(&ended.iter().collect::<Vec<_>>())
}

/// A no where one of these runs has ended and did not succeed, with where to look next.
fn well(runs: &[&Value]) -> Result<(), Failure> {
    let badly = runs.iter().filter(|run| {
        let state = RunState::parse(text(run, "state"));
        state.is_some_and(|state| state.ended() && state != RunState::Succeeded)
    });
    let badly: Vec<&str> = badly.map(|run| text(run, "run_id")).collect();
    let Some(first) = badly.first() else {
        return Ok(());
    };
    note(&format!("`muster run get {first}` tells more"));
    Err(Failure::Found(String::new()))
}

pub(super) fn request(
    command: &str,
    id: Option<String>,
    organization: Option<String>,
    args: Value,
) -> Requested {
    Requested {
        id,
        command: command.to_owned(),
        organization,
        args: match args {
            Value::Object(args) => args,
            _ => Map::new(),
        },
    }
}

/// The answer; a refusal is a no.
pub(super) async fn said(ground: &Ground, asked: &Requested) -> Result<Value, Failure> {
    // What is one thing's is not there for another organisation either; of many there would be none.
    let bound = asked.organization.as_deref();
    if bound.is_some() && (asked.command.ends_with(".list") || asked.command == "stats") {
        look::known_organization(&ground.store.declared().await?.1, bound)?;
    }
    let answered = answer(ground, asked, &who()).await?;
    answered.map_err(|refused| refusal(&asked.command, refused))
}

pub(super) fn who() -> String {
    std::env::var("USER").unwrap_or_else(|_| "command line".to_owned())
}

/// What refusals advise, as a message and as somebody at the command line says it.
const IN_OUR_WORDS: [(&str, &str); 5] = [
    ("if_exists: update", "--if-exists update"),
    ("ask for fewer: where", "ask for fewer: --where"),
    ("leave the organization out", "leave --organization out"),
    ("leave the id of the request out", "leave --request-id out"),
    (
        "name the organization too",
        "name the organisation too (--organization)",
    ),
];

/// A refusal in the words of the command line: its flags for the names of arguments, its commands for those of the bus.
fn refusal(command: &str, mut refused: Refused) -> Failure {
    refused.message = spoken(command, &refused.message);
    refused.help = spoken(command, &refused.help);
    Failure::Refused(refused)
}

fn spoken(command: &str, text: &str) -> String {
    let (noun, verb) = command.split_once('.').unwrap_or((command, ""));
    let words: Vec<String> = [noun, verb]
        .into_iter()
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('_', "-"))
        .collect();
    let help = format!("see muster {} --help", words.join(" "));
    let mut text = text.replace(&format!("see the arguments of {command}"), &help);
    let root = Arguments::command();
    let mut found = Some(&root);
    for word in &words {
        found = found.and_then(|within| within.find_subcommand(word));
    }
    for argument in found.into_iter().flat_map(clap::Command::get_arguments) {
        let id = argument.get_id().as_str();
        let (names, shown) = match argument.get_long() {
            Some(long) => (
                vec![long.replace('-', "_"), format!("{long}s"), id.to_owned()],
                format!("--{long}"),
            ),
            None => (
                vec![id.to_owned(), id.trim_end_matches('s').to_owned()],
                format!("<{}>", id.to_uppercase()),
            ),
        };
        for name in names {
            for end in ["`", ":", "["] {
                text = text.replace(&format!("args.{name}{end}"), &format!("{shown}{end}"));
            }
        }
    }
    for name in crate::command::names() {
        if let Some((noun, verb)) = name.split_once('.') {
            let said = format!("muster {} {verb}", noun.replace('_', "-"));
            text = text.replace(&name, &said);
        }
    }
    for (theirs, ours) in IN_OUR_WORDS {
        text = text.replace(theirs, ours);
    }
    // Of two ways to say it, the one of those who read this.
    if let Some((both, flag)) = text.split_once(", or --")
        && let Some(flag) = flag.strip_suffix(" on the command line")
        && let Some((what, _)) = both.split_once(':')
    {
        text = format!("{what}: --{flag}");
    }
    text.replace("`args.", "`")
}

/// Asks before much is touched at once; where nobody can be asked, `--yes` has to be said.
pub(super) async fn said_surely(ground: &Ground, mut asked: Requested) -> Result<Value, Failure> {
    let bound = asked.organization.as_deref();
    if bound.is_some() {
        look::known_organization(&ground.store.declared().await?.1, bound)?;
    }
    let who = who();
    let refused = match watched(ground, answer(ground, &asked, &who)).await? {
        Ok(answer) => return Ok(answer),
        Err(refused) => refused,
    };
    let answer = match refused.code.as_str() {
        "confirmation_needed" => sure(&format!("{}; go on?", refused.message))?,
        _ => None,
    };
    match answer {
        None => return Err(refusal(&asked.command, refused)),
        Some(false) => return Err(Failure::Found("nothing was done".to_owned())),
        Some(true) => {}
    }
    asked.args.insert("yes".to_owned(), json!(true));
    watched(ground, said(ground, &asked)).await
}

/// Which ones, as a command has it.
pub(super) fn which(field: &str, which: &Which, yes: bool) -> Value {
    let mut args = json!({});
    if !which.ids.is_empty() {
        args[field] = json!(which.ids);
    }
    if let Some(condition) = &which.condition {
        args["where"] = json!(condition);
    }
    if which.all {
        args["all"] = json!(true);
    }
    if yes {
        args["yes"] = json!(true);
    }
    args
}

pub(super) async fn ask(
    settings: &Settings,
    command: &str,
    organization: Option<String>,
    args: Value,
    output: Output,
) -> Result<(), Failure> {
    let ground = door::known(settings).await?;
    let asked = request(command, None, organization, args);
    let answered = said(&ground, &asked).await?;
    show(&asked, &answered, ground.clock.now(), output);
    ground.store.close().await;
    Ok(())
}

/// The answer to what can be asked on the bus too.
pub(super) async fn answered(
    settings: &Settings,
    command: &str,
    organization: Option<String>,
    args: Value,
) -> Result<Value, Failure> {
    let ground = door::known(settings).await?;
    let answered = said(&ground, &request(command, None, organization, args)).await?;
    ground.store.close().await;
    Ok(answered)
}

/// What was done in a sentence, or what was asked for: one entry a line, lists below it.
pub(super) fn show(asked: &Requested, answer: &Value, now: Moment, output: Output) {
    if output == Output::Json {
        return print_json(answer);
    }
    let answer = &in_lines(answer, &[], &[]);
    match (deeds::told(&asked.command, &asked.args, answer), answer) {
        (Some(lines), _) => lines.iter().for_each(|line| print(line)),
        (None, Value::Object(thing)) => lists::record(thing, now),
        (None, other) => print(&cell(other)),
    }
}

/// How a run that files declare stands that was started before, as an answer has it.
pub async fn started_before(ground: &Ground, run: &RunOnce) -> Result<Option<Value>, Failure> {
    let filter = RunFilter {
        request_id: run.name.clone(),
        organization: run.organization.clone().unwrap_or_default(),
        limit: 100_000,
        ..RunFilter::default()
    };
    let runs = ground.store.runs(&filter).await?;
    Ok((!runs.is_empty()).then(|| started(&run.name, &runs)))
}

/// Starts what files declare as runs: each once, its name is the id of its request. Answers with how each stands, and
/// whether it was started before. Where one cannot be started, it is said where it stands, and which others were not
/// started after it.
pub async fn start_declared(
    ground: &Ground,
    runs: &[(Origin, RunOnce)],
) -> Result<Vec<(bool, Value)>, Failure> {
    let mut answers = Vec::new();
    for (at, (origin, run)) in runs.iter().enumerate() {
        if let Some(answer) = started_before(ground, run).await? {
            answers.push((true, answer));
            continue;
        }
        let mut args = json!({"objects": run.objects, "parameters": run.parameters});
        if let Some(schedule) = &run.schedule {
            args["schedule"] = json!(schedule);
        }
        if let Some(plugin) = &run.plugin {
            args["plugin"] = json!(plugin);
        }
        let id = Some(run.name.clone());
        let asked = request("run.start", id, run.organization.clone(), args);
        match said(ground, &asked).await {
            Ok(answer) => answers.push((false, answer)),
            Err(Failure::Refused(mut refused)) => {
                let later: Vec<&str> = runs[at + 1..]
                    .iter()
                    .map(|(_, run)| run.name.as_str())
                    .collect();
                refused.message = format!("{origin}: run {}: {}", run.name, refused.message);
                if !later.is_empty() {
                    refused.message += &format!("; not started after it: {}", later.join(", "));
                }
                refused.message += "; everything else in the files is applied";
                return Err(Failure::Refused(refused));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(answers)
}
