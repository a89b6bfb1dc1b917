//! The command line: what each command is called, and how it ends.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::bus::BusError;
use crate::declaration::Kind;
use crate::document::Complaint;
use crate::harmless;
use crate::store::StoreError;
use crate::wire::Refused;

mod ask;
mod declare;
mod declared;
mod deeds;
mod demo;
mod door;
mod explain;
mod files;
mod import;
mod letters;
mod lists;
mod look;
mod output;
mod papers;
mod preview;
mod progress;
mod query;
mod queues;
mod rehearse;
mod replay;
pub mod rules;
mod serve;
mod tasks;
mod watch;
mod work;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or yes
  1  it was tried: the answer is no, there is no such thing, or something wrong was found
  2  it cannot be asked so: arguments, settings, files, an invalid query
  3  a server is out of reach
What went wrong is told on standard error, with --output json as a line {\"ok\":false,\"error\":{…}} for each thing.

Settings come from --config, else MUSTER_CONFIG, else ./muster.toml, else the embedded defaults (SQLite in
muster.db, events as JSON Lines on standard input, tasks on standard output). Each can be overridden by the
environment: MUSTER_STORE_URL is store.url. config/example.toml documents them all.";

const EXAMPLES: &str = "\
Examples:
  muster demo                                     see it work, nothing set up
  muster check plugins.yaml schedules.yaml        find mistakes before they run
  muster apply plugins.yaml schedules.yaml        declare them, showing changes
  muster run < events.jsonl > tasks.jsonl         embedded: events in, tasks out
  muster --config muster.toml run                 the service, beside a broker
  muster work --type script --store scripts/      a worker for its tasks
  muster explain event.json                       why this event starts that
  muster task list --state queued --output json   what waits, for scripts
  muster watch                                    the terminal screen";

/// Matches what happens to the things an organisation owns against schedules, and calls the workers together.
#[derive(Debug, Parser)]
#[command(name = "muster", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Arguments {
    /// The settings file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_CONFIG")]
    config: Option<PathBuf>,
    /// How to print: tables for people, JSON for scripts
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The service, until a signal or the end of input; or, with a verb, its runs
    #[command(
        after_help = "Examples:\n  muster run < events.jsonl\n  muster run list --organization acme\n  muster run start nightly --wait"
    )]
    Run {
        #[command(subcommand)]
        verb: Option<ask::RunVerb>,
    },
    /// A shipped sample through the real pipeline, embedded, with a summary
    Demo(demo::Demo),
    /// Validate the settings and files without starting anything
    #[command(after_help = "Example:\n  muster check config/openkat.yaml")]
    Check {
        /// YAML or JSON files with organisations, plugins, object sets, schedules, and cases for `muster test`
        files: Vec<PathBuf>,
        #[command(flatten)]
        variables: VariableArguments,
    },
    /// Declare what files say; shows what changes first
    #[command(
        after_help = "Examples:\n  muster apply schedules.yaml --dry-run\n  muster apply *.yaml --var zone=Europe/Amsterdam --prune"
    )]
    Apply(declare::Apply),
    /// Print all that is declared as YAML that `apply` reads
    Export,
    /// Load inventory or plugins in bulk
    Import {
        #[command(subcommand)]
        what: import::Import,
    },
    /// Bring the database's schema up to this version
    Migrate,
    /// Whether store, bus and every replica's loops are well
    Health,
    /// Why: what an event starts and what not, why a task is there and waits, why a schedule did not run
    #[command(
        after_help = "Examples:\n  muster explain event.json\n  muster explain --event e-1\n  muster explain --task TASK_ID\n  muster explain --schedule nightly --object 'Hostname|internet|example.com' --organization acme\n  echo '{\"specversion\":\"1.0\",…}' | muster explain -\n  muster explain mutation.json --queue scan_profile_mutations"
    )]
    Explain(explain::Explain),
    /// Test rules like code: play the cases (`kind: test`) that stand in FILES with what is declared there.
    #[command(after_help = "\
Examples:
  muster test config/tour.yaml config/tour.cases.yaml
  muster test plugins.yaml schedules.yaml cases.yaml --output json

A case says what is there, what happens, and all the tasks that are to be made:
  - kind: test
    name: a host name of level 2 is resolved
    given: []
    event:
      type: object.created
      data: {organization: acme, object_type: hostname, primary_key: h1, attributes: {name: a.example.com}, scan_level: 2}
    tasks: [{plugin: dns-records, input: h1}]
    refused: [{plugin: nmap, reason: level_too_low}]

Instead of `event`, `at: 2026-11-22T03:30:00Z` plays what the clock starts at that instant. `open` and `ended` are tasks of
before ({plugin, organization, input, at}). No store is read. Exit 0 where every case passed, else 1.")]
    Test(rehearse::Test),
    /// What the rules of FILES would have made of the events that are kept, or of the objects that are there
    #[command(after_help = replay::ABOUT)]
    Replay(replay::Replay),
    /// Ask a query of one object, of what is stored, or of many lines
    #[command(
        after_help = "Examples:\n  muster query \"scan_level > 2 and name endswith '.nl'\" --object object.json\n  muster query \"'{hostname}' in oci_arguments\" --against plugins\n  muster query --batch < questions.jsonl\n\nIt answers yes (exit 0), no (exit 1) or invalid (exit 2)."
    )]
    Query(query::Ask),
    /// The contract as documents: JSON Schemas of all messages and files, and the AsyncAPI 3 document
    #[command(
        after_help = "Examples:\n  muster schema                       their names\n  muster schema schedule              one of them\n  muster schema asyncapi              channels, operations and messages\n  muster schema --dir contract        all of them, as files"
    )]
    Schema(papers::Schema),
    /// A completion script for a shell
    #[command(
        after_help = "Examples:\n  source <(muster completions bash)\n  muster completions bash > /usr/share/bash-completion/completions/muster\n  muster completions zsh > ~/.zfunc/_muster\n  muster completions fish > ~/.config/fish/completions/muster.fish"
    )]
    Completions(papers::Completions),
    /// The manual page
    #[command(
        after_help = "Examples:\n  muster man | man -l -\n  muster man --dir /usr/local/share/man/man1     one page for each command"
    )]
    Man(papers::Manual),
    /// The terminal screen: queues, runs, tasks, schedules, dead letters and replicas, as they are each second
    #[command(after_help = watch::ABOUT)]
    Watch(watch::Watch),
    /// A worker: takes tasks, runs scripts or a command, reports
    #[command(after_help = work::ABOUT)]
    Work(work::Work),
    /// Organisations
    Organization {
        #[command(subcommand)]
        verb: declared::OrganizationVerb,
    },
    /// Plugins
    Plugin {
        #[command(subcommand)]
        verb: declared::PluginVerb,
    },
    /// Object sets
    ObjectSet {
        #[command(subcommand)]
        verb: declared::Verb,
    },
    /// Schedules
    Schedule {
        #[command(subcommand)]
        verb: ask::ScheduleVerb,
    },
    /// What an object shows of the schedules that run on it
    Target {
        #[command(subcommand)]
        verb: ask::TargetVerb,
    },
    /// Calendars: windows in which nothing begins
    Calendar {
        #[command(subcommand)]
        verb: declared::Verb,
    },
    /// How much there is, and which replicas are at work
    Stats {
        /// Only of this organisation
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
    /// The inventory
    Object {
        #[command(subcommand)]
        verb: ObjectVerb,
    },
    /// Tasks
    Task {
        #[command(subcommand)]
        verb: tasks::TaskVerb,
    },
    /// Attempts: each offer of a task
    Attempt(ListCommand),
    /// Queues: what waits in them, paused and resumed
    Queue {
        #[command(subcommand)]
        verb: queues::Verb,
    },
    /// Messages that could not be read, and tasks that are dead
    DeadLetter {
        #[command(subcommand)]
        verb: letters::Verb,
    },
}

#[derive(Debug, Args)]
struct ListCommand {
    #[command(subcommand)]
    verb: ListVerb,
}

#[derive(Debug, Subcommand)]
enum ListVerb {
    /// Show them, the newest first
    List(Filter),
}

#[derive(Debug, Subcommand)]
enum ObjectVerb {
    /// Show them
    List(ObjectFilter),
}

/// Of what is declared: there is less to choose by. What others take is hidden, and refused with what would be right.
#[derive(Debug, Args)]
struct DeclaredFilter {
    /// Only those of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
    /// Leave out so many first
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    #[arg(long, alias = "type", hide = true)]
    state: Option<String>,
    #[arg(long = "where", hide = true)]
    condition: Option<String>,
    #[arg(long, hide = true)]
    after: Option<String>,
    #[command(flatten)]
    layout: lists::Layout,
}

/// Of the inventory.
#[derive(Debug, Args)]
struct ObjectFilter {
    /// Only those of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only those of this type
    #[arg(long = "type", alias = "state", value_name = "TYPE")]
    object_type: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
    /// Leave out so many first
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    #[arg(long = "where", hide = true)]
    condition: Option<String>,
    #[arg(long, hide = true)]
    after: Option<String>,
    #[command(flatten)]
    layout: lists::Layout,
}

impl From<DeclaredFilter> for Filter {
    fn from(said: DeclaredFilter) -> Filter {
        Filter {
            organization: said.organization,
            state: said.state,
            limit: said.limit,
            offset: said.offset,
            condition: said.condition,
            after: said.after,
            layout: said.layout,
        }
    }
}

impl From<ObjectFilter> for Filter {
    fn from(said: ObjectFilter) -> Filter {
        Filter {
            organization: said.organization,
            state: said.object_type,
            limit: said.limit,
            offset: said.offset,
            condition: said.condition,
            after: said.after,
            layout: said.layout,
        }
    }
}

#[derive(Debug, Args)]
struct Filter {
    /// Only those of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only those in this state (attempts: with this outcome, or open; dead letters: for this reason)
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
    /// Leave out so many first
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Only those of which this query over their columns is true
    #[arg(long = "where", value_name = "QUERY")]
    condition: Option<String>,
    /// What comes after this id: the last of the page before
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    #[command(flatten)]
    layout: lists::Layout,
}

/// One thing by its id, or many that are alike.
#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "which")]
struct Which {
    /// Their ids
    #[arg(group = "which")]
    ids: Vec<String>,
    /// All of which this query over their columns is true
    #[arg(long = "where", value_name = "QUERY", group = "which")]
    condition: Option<String>,
    /// All of them
    #[arg(long, group = "which")]
    all: bool,
}

#[derive(Debug, Args)]
struct Sure {
    /// Only those of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Do not ask before many are touched at once
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct VariableArguments {
    /// A value for ${NAME} in the files
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

/// The words of what cannot be asked so: nothing was tried, and the arguments have to be others.
const UNASKABLE: [&str; 9] = [
    "ambiguous",
    "confirmation_needed",
    "objects_needed",
    "organization_needed",
    "too_many",
    "unknown_command",
    "usage",
    "wrong_argument",
    "wrong_range",
];

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried: no, or something wrong was found (exit 1). What it is has been printed, or is the text.
    Found(String),
    /// It cannot be asked so (exit 2).
    Usage(String),
    /// A server is out of reach (exit 3).
    Reach(String),
    /// So are files and settings (exit 2): all that is wrong in them.
    Wrong(Vec<Complaint>),
    /// Refused as on the bus: a no, or it cannot be used so.
    Refused(Refused),
}

impl Failure {
    /// As it is told to people; empty where it was told already.
    fn text(&self) -> String {
        match self {
            Failure::Found(text) | Failure::Usage(text) | Failure::Reach(text) => text.clone(),
            Failure::Wrong(complaints) => {
                let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
                lines.join("\n")
            }
            Failure::Refused(Refused {
                code,
                message,
                help,
            }) => {
                // A query is shown with its lines; all else is a sentence, whatever the names in it hold.
                let message = match code.as_str() {
                    "wrong_argument" => Cow::Borrowed(message.as_str()),
                    _ => harmless::line(message),
                };
                match help.as_str() {
                    "" => format!("{code}: {message}"),
                    help => format!("{code}: {message}\n  help: {}", harmless::line(help)),
                }
            }
        }
    }

    /// As it is told to scripts, with the words that a reply on the bus has.
    fn told(self) -> Refused {
        match self {
            Failure::Refused(refused) => refused,
            Failure::Found(text) => Refused::new("failed", text, ""),
            Failure::Usage(text) => Refused::new("usage", text, ""),
            Failure::Reach(text) => Refused::new("out_of_reach", text, ""),
            Failure::Wrong(_) => Refused::new("invalid", self.text(), ""),
        }
    }

    /// A file that cannot be read or written.
    fn of_file(file: &Path, error: &std::io::Error) -> Failure {
        let file = file.display().to_string();
        Failure::Usage(format!("{}: {error}", harmless::line(&file)))
    }

    /// No, with a word for scripts and what would be right.
    fn no(code: &str, why: &impl ToString, help: &str) -> Failure {
        Failure::Refused(Refused::new(code, why.to_string(), help))
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Found(_) => 1,
            Failure::Usage(_) | Failure::Wrong(_) => 2,
            Failure::Reach(_) => 3,
            Failure::Refused(refused) if UNASKABLE.contains(&refused.code.as_str()) => 2,
            Failure::Refused(_) => 1,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match error {
            StoreError::OutOfReach(_) => Failure::Reach(error.to_string()),
            StoreError::Refused(_) => Failure::Usage(error.to_string()),
            StoreError::Absent(_) => Failure::no(
                "no_database",
                &error,
                "is store.url right? `muster migrate` makes one, as do `muster run`, `muster apply` and `muster import`",
            ),
            StoreError::Old(_) => Failure::no(
                "old_schema",
                &error,
                "`muster migrate` brings it up to this version, as do `muster run` and `muster apply`",
            ),
            StoreError::Denied(_) => Failure::no(
                "denied",
                &error,
                "store.url has the user, the password and the name of the database",
            ),
            StoreError::Unusable(_) | StoreError::Statement(_) => Failure::Found(error.to_string()),
        }
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Failure {
        match error {
            BusError::OutOfReach(text) => Failure::Reach(text),
            BusError::Address(text) => Failure::Usage(text),
            BusError::Conflict(_) => Failure::no("conflict", &error, ""),
            BusError::Refused(_) => Failure::no(
                "denied",
                &error,
                "bus.url has the user and the password; config/hardening.md says what they must be able to do",
            ),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Found(error.to_string())
    }
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    let read = papers::command().try_get_matches();
    let arguments = match read.and_then(|read| Arguments::from_arg_matches(&read)) {
        Ok(arguments) => arguments,
        Err(wrong) if wrong.use_stderr() && asks_for_json() => {
            output::speak_to_scripts(true);
            let said = wrong.render().to_string();
            let said = said.trim_start_matches("error: ").trim_end();
            let (message, help) = said.split_once("\n\n").unwrap_or((said, ""));
            let help: Vec<&str> = help.lines().map(str::trim).collect();
            let help = help.join("\n");
            tell(Failure::Refused(Refused::new("usage", message, help)));
            return ExitCode::from(2);
        }
        Err(wrong) => {
            // What was typed may be shown again; where it is harmless it keeps its colours.
            let said = wrong.render().to_string();
            if let Cow::Owned(said) = harmless::lines(&said) {
                let said = said.trim_start_matches("error: ").trim_end();
                tell(Failure::Usage(said.to_owned()));
                return ExitCode::from(2);
            }
            wrong.exit()
        }
    };
    output::speak_to_scripts(arguments.output == Output::Json);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(Failure::Found(format!("no threads to run on: {error}")));
            return ExitCode::from(1);
        }
    };
    let done = runtime.block_on(dispatch(arguments));
    // A reader of standard input may still sit in its thread; it must not hold up the end.
    runtime.shutdown_background();
    let unwritten = output::unwritten();
    let code = match &done {
        Ok(()) => u8::from(unwritten.is_some()),
        Err(failure) => failure.exit_code(),
    };
    for failure in done.err().into_iter().chain(unwritten.map(Failure::Found)) {
        tell(failure);
    }
    ExitCode::from(code)
}

/// Tells on standard error what went wrong, where it was not told already.
fn tell(failure: Failure) {
    let text = failure.text();
    match failure {
        _ if text.is_empty() => {}
        Failure::Wrong(complaints) if output::to_scripts() => output::complain(&complaints),
        other => output::tell(&other.told(), || format!("error: {text}")),
    }
}

/// Whether arguments that cannot be read ask for JSON.
fn asks_for_json() -> bool {
    let words: Vec<String> = std::env::args().collect();
    let apart = words.windows(2).any(|two| two == ["--output", "json"]);
    apart || words.iter().any(|word| word == "--output=json")
}

async fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let output = arguments.output;
    match &arguments.command {
        // The demonstration brings its own settings: it works with nothing set up, and whatever is set up.
        Command::Demo(demo) => return demo::run(demo, output).await,
        // What is said of the program itself needs none.
        Command::Schema(schema) => return papers::schema(schema, output),
        Command::Completions(completions) => {
            papers::completions(completions);
            return Ok(());
        }
        Command::Man(manual) => return papers::manual(manual),
        _ => {}
    }
    let settings = rules::load(arguments.config.as_deref())?;
    match arguments.command {
        Command::Run { verb: None } => serve::run(&settings).await,
        Command::Run { verb: Some(verb) } => ask::run(&settings, verb, output).await,
        Command::Demo(_) | Command::Schema(_) | Command::Completions(_) | Command::Man(_) => Ok(()),
        Command::Check { files, variables } => {
            declare::check(&settings, &files, &variables.variables, output)
        }
        Command::Apply(apply) => declare::apply(&settings, &apply, output).await,
        Command::Export => declare::export(&settings, output).await,
        Command::Migrate => serve::migrate(&settings, output).await,
        Command::Health => look::health(&settings, output).await,
        Command::Explain(explain) => explain::run(&settings, &explain, output).await,
        Command::Import { what } => import::run(&settings, &what, output).await,
        Command::Test(test) => rehearse::test(&settings, &test, output),
        Command::Replay(asked) => replay::run(&settings, &asked, output).await,
        Command::Query(ask) => query::run(&settings, &ask, output).await,
        Command::Watch(watch) => watch::run(&settings, &watch, output).await,
        Command::Work(work) => work::run(&settings, work).await,
        Command::DeadLetter { verb } => letters::run(&settings, verb, output).await,
        Command::Organization { verb } => declared::organization(&settings, verb, output).await,
        Command::Plugin { verb } => declared::plugin(&settings, verb, output).await,
        Command::ObjectSet { verb } => {
            declared::run(&settings, Kind::ObjectSet, verb, output).await
        }
        Command::Calendar { verb } => declared::run(&settings, Kind::Calendar, verb, output).await,
        Command::Stats { organization } => {
            ask::ask(&settings, "stats", organization, json!({}), output).await
        }
        Command::Schedule { verb } => ask::schedule(&settings, verb, output).await,
        Command::Target { verb } => ask::target(&settings, verb, output).await,
        Command::Object {
            verb: ObjectVerb::List(filter),
        } => look::list(&settings, "object", &filter.into(), output).await,
        Command::Task { verb } => tasks::run(&settings, verb, output).await,
        Command::Attempt(ListCommand {
            verb: ListVerb::List(filter),
        }) => look::list(&settings, "attempt", &filter, output).await,
        Command::Queue { verb } => queues::run(&settings, verb, output).await,
    }
}
