//! The reference worker on the command line.

use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::output::counted;
use super::{Failure, rules, serve};
use crate::bus::lines::Lines;
use crate::bus::nats::Nats;
use crate::bus::rabbit::Rabbit;
use crate::bus::{Bus, BusError, Role, TaskQueue, Topology};
use crate::moment::Span;
use crate::settings::{LogFormat, Settings, WorkSettings};
use crate::signature::Keys;
use crate::telemetry;
use crate::worker::{self, Craft, PATH, Shelf, Template, Tools};

/// Tasks of one queue that are on their way to a worker: a broker goes round, and who is slow holds up no more.
const PREFETCH: u16 = 1;

pub(super) const ABOUT: &str = "\
Examples:
  muster work --type script --store /var/lib/muster/store --concurrency 4
  muster work --type boefje --exec 'nmap -oX - {arguments}'
  muster run < events.jsonl | muster work --store store > statuses.jsonl

A script is the plugin's `artefact`, a path in the store (after it `#sha256=HEX` where it must not change), run by the
interpreter of the plugin's `runtime` with the task's `arguments`. It reads the task message on standard input, begins in
a folder of its own ($HOME, gone afterwards), and finds there nothing of the worker's environment: PATH, HOME, TMPDIR,
LANG, what [work.environment] says, and of the task MUSTER_TASK_ID, MUSTER_TASK_ATTEMPT, MUSTER_TASK_ORGANIZATION,
MUSTER_TASK_PLUGIN, MUSTER_TASK_SCHEDULE, MUSTER_TASK_SCHEDULED_FOR, MUSTER_TASK_CAUSE, MUSTER_TASK_TRACEPARENT and
MUSTER_TASK_OUTPUTS; its trace context, which every task has, is in TRACEPARENT too.

What it says:
  outputs.json in its folder ($MUSTER_TASK_OUTPUTS)   the task's outputs, any JSON of at most 1 MiB
  a line ::progress 3/10 a note on standard output    a heartbeat with these figures
  exit code 0                                         succeeded
  exit code 65                                        failed, and not to be tried again
  exit code 75                                        not now: snoozed for 60 s
  any other, a signal, the time limit                 failed, to be tried again
A runtime that is not known, or an artefact that is not there, is a failure that is not tried again.

Standard output and standard error are the log: logs/ORGANIZATION/TASK/ATTEMPT.log in the store. At the end, whoever
brings it about, all processes of its group are killed. SIGTERM hands back what runs; a second signal kills at once.";

#[derive(Debug, Args)]
pub struct Work {
    /// A worker type whose tasks are taken; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Another queue than that of the types
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// So many tasks run side by side, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: Option<u16>,
    /// Where scripts are fetched and logs put: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR")]
    store: Option<String>,
    /// A command for each task, in place of scripts; no shell, words are split once
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// What the worker is called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// From SIGTERM to SIGKILL for the processes of a task
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    grace: Option<Span>,
}

/// Runs until a signal, or the end of input with lines.
pub async fn run(settings: &Settings, arguments: Work) -> Result<(), Failure> {
    telemetry::logs(
        settings.log.format == LogFormat::Json,
        &settings.log.filter(),
    )
    .map_err(|error| Failure::Usage(format!("log.level: {error}")))?;
    let work = chosen(&settings.work, arguments)?;
    let lines = settings.bus.url.scheme() == "lines";
    let topology = topology(settings, &work);
    if topology.task_queues.is_empty() && !lines {
        return Err(Failure::Usage(
            "which tasks? name their worker type: --type script".to_owned(),
        ));
    }
    let signs = work.key.clone().map(|key| (rules::keys(settings), key));
    let tools = tools(work, lines, signs)?;
    keep_to_ourselves();
    let (stop, halt) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(serve::obey(stop.clone(), Some(halt.clone())));
    let url = settings.bus.url.expose().to_owned();
    tracing::info!(bus = %settings.bus.url, name = tools.name, hands = tools.hands, "the worker begins");
    match settings.bus.url.scheme() {
        "amqp" | "amqps" => {
            if let Some(bus) = unless(&stop, Rabbit::open(&url, &topology)).await? {
                go(tools, bus, false, stop, halt).await?;
            }
        }
        "nats" | "tls" => {
            if let Some(bus) = unless(&stop, Nats::open(&url, &topology)).await? {
                go(tools, bus, false, stop, halt).await?;
            }
        }
        _ => go(tools, Lines::stdio().for_worker(), true, stop, halt).await?,
    }
    tracing::info!("the worker ends");
    Ok(())
}

async fn go<B: Bus>(
    tools: Tools,
    bus: B,
    lines: bool,
    stop: CancellationToken,
    halt: CancellationToken,
) -> Result<(), Failure> {
    let ended = worker::run(tools, Arc::new(bus), lines, stop, halt.clone()).await;
    if halt.is_cancelled() {
        return Err(Failure::Found("stopped at once".to_owned()));
    }
    match (ended.trouble, ended.untold) {
        (Some(trouble), _) => Err(Failure::Found(trouble)),
        (None, 0) => Ok(()),
        (None, untold) => Err(Failure::Reach(format!(
            "the end of {} could not be told: the broker is out of reach",
            counted(untold as u64, "attempt")
        ))),
    }
}

async fn unless<B>(
    stop: &CancellationToken,
    open: impl Future<Output = Result<B, BusError>>,
) -> Result<Option<B>, Failure> {
    tokio::select! {
        opened = open => Ok(Some(opened?)),
        () = stop.cancelled() => Ok(None),
    }
}

/// The settings, with the arguments over them.
fn chosen(settings: &WorkSettings, arguments: Work) -> Result<WorkSettings, Failure> {
    let mut work = settings.clone();
    if !arguments.types.is_empty() {
        work.types = arguments.types;
    }
    if let Some(hands) = arguments.concurrency {
        work.concurrency = usize::from(hands);
    }
    if let Some(command) = arguments.exec {
        let template = Template::parse(&command);
        work.exec = Some(template.map_err(|why| Failure::Usage(format!("--exec: {why}")))?);
    }
    work.queue = arguments.queue.or(work.queue);
    work.store = arguments.store.or(work.store);
    work.name = arguments.name.or(work.name);
    work.grace = arguments.grace.unwrap_or(work.grace);
    Ok(work)
}

fn tools(work: WorkSettings, lines: bool, signs: Option<(Keys, String)>) -> Result<Tools, Failure> {
    if let Some(template) = &work.exec {
        let path = work.environment.get("PATH").map_or(PATH, String::as_str);
        let found = template.find(path);
        found.map_err(|why| Failure::Usage(format!("--exec: {why}")))?;
    }
    let shelf = match &work.store {
        Some(address) => {
            Some(Shelf::open(address).map_err(|why| Failure::Usage(format!("work.store: {why}")))?)
        }
        None if work.exec.is_none() => {
            return Err(Failure::Usage(
                "where are the scripts? name their store: --store DIR (or a command: --exec)"
                    .to_owned(),
            ));
        }
        None => {
            tracing::warn!("no store is named: logs of tasks are not kept");
            None
        }
    };
    Ok(Tools {
        name: work.name.unwrap_or_else(own_name),
        hands: work.concurrency,
        // What a queue brings is for us; only a pipe brings what is for others.
        types: if lines { work.types } else { Vec::new() },
        craft: match work.exec {
            Some(template) => Craft::Template(template),
            None => Craft::Scripts(work.runtimes),
        },
        shelf,
        scratch: work.scratch.unwrap_or_else(std::env::temp_dir),
        environment: work.environment,
        secrets: work
            .secrets
            .into_iter()
            .map(|(name, secret)| (name, secret.expose().to_owned()))
            .collect(),
        grace: work.grace.as_duration(),
        log_bound: work.log_bound,
        signs,
    })
}

fn own_name() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    format!("{host}-{}", std::process::id())
}

/// Where the tasks are. A queue of its own is found as the service fills it: by the worker type where it is that of the
/// type, else by its name.
fn topology(settings: &Settings, work: &WorkSettings) -> Topology {
    let usual = |worker_type: &String| TaskQueue {
        queue: settings.worker(worker_type).queue.clone(),
        routing_key: worker_type.clone(),
    };
    let task_queues = match &work.queue {
        None => work.types.iter().map(usual).collect(),
        Some(queue) => {
            let whole = work.types.iter().map(usual).find(|one| one.queue == *queue);
            vec![whole.unwrap_or_else(|| TaskQueue {
                queue: queue.clone(),
                routing_key: queue.clone(),
            })]
        }
    };
    Topology {
        role: Role::Worker,
        intakes: Vec::new(),
        task_queues,
        prefetch: PREFETCH,
    }
}

/// Processes of tasks run as the same user, who may look into this process and find what we keep from them: the
/// password of the broker, other plugins' secrets. Where the system lets us, we close that way.
fn keep_to_ourselves() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "processes of tasks can look into this one");
    }
}
