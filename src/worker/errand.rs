//! One task, from its acceptance to the word by which it ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::craft::{Craft, PATH};
use super::execution::{End, Execution, Order, ordered};
use super::log::{Log, Progress};
use super::report::Untold;
use super::shelf::Missing;
use super::{Ground, Receipts, Tools, lock};
use crate::bus::{Bus, Verdict};
use crate::document::nearest;
use crate::moment::{Moment, Span};
use crate::task::{Ending, StatusWord};
use crate::wire::{self, Assignment};

/// Exit codes that say more than that it failed; the names are those of sysexits.h.
const DATAERR: i32 = 65;
const TEMPFAIL: i32 = 75;

/// How long a task sleeps that ended with [`TEMPFAIL`].
const SNOOZE: Span = Span::seconds(60);
/// How long a task waits that this worker declined, because it is to be avoided.
const AVOIDED: Span = Span::seconds(1);
/// How long a task waits that met a trouble of this worker.
const TROUBLED: Span = Span::seconds(30);
/// Between two heartbeats, at most; else a third of the silence that the task allows.
const LONGEST_SILENCE: Duration = Duration::from_secs(20);
const SHORTEST_SILENCE: Duration = Duration::from_millis(100);
/// The service stores no more than one heartbeat a second.
const BETWEEN_REPORTS: Duration = Duration::from_secs(1);
/// Attempts to put a log into the store, the pauses before them, and how long each may take.
const UPLOADS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
const UPLOAD: Duration = Duration::from_secs(20);
/// What a script leaves behind is small: it travels in the status.
const LARGEST_OUTPUTS: u64 = 1024 * 1024;
/// The file in a script's folder that holds them.
const OUTPUTS: &str = "outputs.json";

/// A task in our hands.
pub struct Errand<B: Bus> {
    pub ground: Arc<Ground<B>>,
    pub task: Assignment,
    /// The message as it came, which is what a script reads.
    pub body: Vec<u8>,
    pub receipts: Receipts<B::Receipt>,
}

impl<B: Bus> Errand<B> {
    pub async fn run(self, mut orders: watch::Receiver<Option<Order>>) -> Result<(), Untold> {
        let (tools, task) = (&self.ground.tools, &self.task);
        if task.avoid_workers.contains(&tools.name) {
            self.tell(StatusWord::Declined {
                reason: Some("avoided".to_owned()),
                retry_in: Some(AVOIDED),
            })
            .await?;
            self.acknowledge().await;
            return Ok(());
        }
        let order = tokio::select! {
            told = self.tell(StatusWord::Accepted) => {
                told?;
                None
            }
            order = ordered(&mut orders) => Some(order),
        };
        if let Some(order) = order {
            // Whether the acceptance arrived is not known; this word ends the attempt in either case.
            self.tell(obeyed(order)).await?;
            self.acknowledge().await;
            return Ok(());
        }
        self.acknowledge().await;
        let (id, attempt) = (&task.id, task.attempt);
        tracing::info!(task = id, attempt, plugin = task.plugin_id, "accepted");
        let (progress, seen) = watch::channel(Progress::default());
        let word = tokio::select! {
            word = work(tools, task, &self.body, &mut orders, &progress) => word,
            never = self.beats(seen) => match never {},
        };
        tracing::info!(task = id, attempt, status = word.name(), "ended");
        self.tell(word).await
    }

    async fn tell(&self, word: StatusWord) -> Result<(), Untold> {
        let task = &self.task;
        let trace = task.traceparent.as_deref();
        let reporter = &self.ground.reporter;
        reporter.tell((&task.id, task.attempt), trace, word).await
    }

    /// The broker need not bring it again: from here on the service's clocks watch over it, or it has ended.
    async fn acknowledge(&self) {
        let receipts = lock(&self.receipts).take().unwrap_or_default();
        let done = receipts
            .into_iter()
            .map(|receipt| (receipt, Verdict::Done))
            .collect();
        self.ground.reporter.bus.settle(done).await;
    }

    /// Heartbeats, for as long as it is polled.
    async fn beats(&self, mut progress: watch::Receiver<Progress>) -> Infallible {
        let Assignment {
            id,
            attempt,
            heartbeat,
            ..
        } = &self.task;
        let allowed = heartbeat.map_or(LONGEST_SILENCE, Span::as_duration);
        let every = (allowed / 3).clamp(SHORTEST_SILENCE, LONGEST_SILENCE);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(last + every) => {}
                changed = progress.changed() => match changed {
                    Ok(()) => sleep_until(last + BETWEEN_REPORTS.min(every)).await,
                    Err(_) => sleep_until(last + every).await,
                },
            }
            last = Instant::now();
            let Progress { done, total, note } = progress.borrow_and_update().clone();
            let word = StatusWord::Heartbeat {
                done,
                total,
                stage: None,
                note,
            };
            let trace = self.task.traceparent.as_deref();
            self.ground.reporter.beat((id, *attempt), trace, word).await;
        }
    }
}

/// What is said when somebody else ended the task.
fn obeyed(order: Order) -> StatusWord {
    match order {
        Order::Cancel(reason) => StatusWord::Cancelled {
            reason: Some(reason),
        },
        Order::HandBack => StatusWord::Declined {
            reason: Some("the worker ends".to_owned()),
            retry_in: None,
        },
    }
}

fn fatal(message: String) -> StatusWord {
    StatusWord::Failed {
        retryable: false,
        ending: Ending {
            message: Some(message),
            ..Ending::default()
        },
    }
}

/// It is not the task's fault, so it spends none of its attempts.
fn troubled(reason: String) -> StatusWord {
    tracing::error!(reason, "this worker cannot work; the task goes back");
    StatusWord::Declined {
        reason: Some(reason),
        retry_in: Some(TROUBLED),
    }
}

/// All between acceptance and end.
async fn work(
    tools: &Tools,
    task: &Assignment,
    body: &[u8],
    orders: &mut watch::Receiver<Option<Order>>,
    progress: &watch::Sender<Progress>,
) -> StatusWord {
    let environment = match environment(tools, task) {
        Ok(environment) => environment,
        Err(message) => return fatal(message),
    };
    let folder = match Folder::make(&tools.scratch) {
        Ok(folder) => folder,
        Err(error) => {
            let scratch = tools.scratch.display();
            return troubled(format!("no folder can be made in {scratch}: {error}"));
        }
    };
    let prepared = tokio::select! {
        prepared = prepare(tools, task, &folder) => prepared,
        order = ordered(orders) => return obeyed(order),
    };
    let words = match prepared {
        Ok(words) => words,
        Err(Missing::ForGood(message)) => return fatal(message),
        Err(Missing::ForNow(message)) => return troubled(message),
    };
    let program = words.first().cloned().unwrap_or_default();
    let execution = Execution {
        words,
        environment: surroundings(environment, &folder),
        folder: folder.home(),
        input: body.to_vec(),
        limit: task.run_limit.map(Span::as_duration),
        grace: tools.grace,
        log_bound: tools.log_bound,
    };
    let (end, log) = execution.run(orders, progress).await;
    let word = match end {
        End::NotStarted(error) => not_started(&program, &error),
        end => {
            let outputs = outputs(&folder).await;
            let ending = ending(tools, task, &log).await;
            ended(task, end, ending, outputs)
        }
    };
    // Whatever a script left behind can be much.
    let _ = tokio::task::spawn_blocking(move || drop(folder)).await;
    word
}

/// The words that are run.
async fn prepare(
    tools: &Tools,
    task: &Assignment,
    folder: &Folder,
) -> Result<Vec<String>, Missing> {
    let runtimes = match &tools.craft {
        Craft::Template(template) => return template.fill(task).map_err(Missing::ForGood),
        Craft::Scripts(runtimes) => runtimes,
    };
    let plugin = &task.plugin_id;
    let Some(runtime) = &task.runtime else {
        return Err(Missing::ForGood(format!(
            "plugin `{plugin}` names no runtime; known here: {}",
            known(runtimes)
        )));
    };
    let Some(interpreter) = runtimes.get(runtime) else {
        let near = nearest(runtime, runtimes.keys().map(String::as_str));
        let help = near
            .first()
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(Missing::ForGood(format!(
            "the runtime `{runtime}` of plugin `{plugin}` is not known here; known are {}{help}",
            known(runtimes)
        )));
    };
    let Some(artefact) = &task.artefact else {
        return Err(Missing::ForGood(format!(
            "plugin `{plugin}` names no artefact, so there is no script"
        )));
    };
    let Some(shelf) = &tools.shelf else {
        return Err(Missing::ForNow(
            "this worker has no store of scripts".to_owned(),
        ));
    };
    let script = shelf.script(artefact).await?;
    let path = folder.script(artefact);
    tokio::fs::write(&path, script)
        .await
        .map_err(|error| Missing::ForNow(format!("the script cannot be written: {error}")))?;
    let mut words = interpreter.clone();
    words.push(path.display().to_string());
    words.extend(task.arguments.iter().cloned());
    Ok(words)
}

fn known(runtimes: &BTreeMap<String, Vec<String>>) -> String {
    let names: Vec<String> = runtimes.keys().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// What a task brings into the environment, over what the worker gives to all.
fn environment(tools: &Tools, task: &Assignment) -> Result<BTreeMap<String, String>, String> {
    let mut environment: BTreeMap<String, String> = [
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]
    .into();
    environment.extend(tools.environment.clone());
    for name in &task.secrets {
        let Some(value) = tools.secrets.get(name) else {
            return Err(format!(
                "plugin `{}` asks for the secret `{name}`, which this worker does not have; set it under [work.secrets]",
                task.plugin_id
            ));
        };
        environment.insert(name.clone(), value.clone());
    }
    let attempt = task.attempt.to_string();
    let mut say = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            environment.insert(format!("MUSTER_TASK_{name}"), value.to_owned());
        }
    };
    say("ID", Some(&task.id));
    say("ATTEMPT", Some(&attempt));
    say("ORGANIZATION", Some(&task.organization));
    say("PLUGIN", Some(&task.plugin_id));
    for (name, path) in [
        ("SCHEDULE", "schedule"),
        ("SCHEDULED_FOR", "scheduled_for"),
        ("CAUSE", "cause"),
        ("TRACEPARENT", "traceparent"),
    ] {
        say(name, task.value(path).as_deref());
    }
    // What traces programs looks for it under this name.
    if let Some(traceparent) = &task.traceparent {
        let name = "TRACEPARENT".to_owned();
        environment
            .entry(name)
            .or_insert_with(|| traceparent.clone());
    }
    Ok(environment)
}

fn surroundings(
    mut environment: BTreeMap<String, String>,
    folder: &Folder,
) -> BTreeMap<String, String> {
    let home = folder.home().display().to_string();
    let outputs = folder.home().join(OUTPUTS).display().to_string();
    environment.insert("HOME".to_owned(), home.clone());
    environment.insert("TMPDIR".to_owned(), home);
    environment.insert("MUSTER_TASK_OUTPUTS".to_owned(), outputs);
    environment
}

fn not_started(program: &str, error: &io::Error) -> StatusWord {
    use io::ErrorKind::{ArgumentListTooLong, InvalidInput, NotFound, PermissionDenied};
    let message = format!("`{program}` cannot be started: {error}");
    tracing::warn!("{message}");
    match error.kind() {
        NotFound | PermissionDenied | InvalidInput | ArgumentListTooLong => fatal(message),
        _ => troubled(message),
    }
}

/// What a script wrote as outputs, if it did.
async fn outputs(folder: &Folder) -> Result<Option<serde_json::Value>, String> {
    let path = folder.home().join(OUTPUTS);
    // Only a file that is one: a pipe would keep us waiting, and a link may lead anywhere.
    let found = match tokio::fs::symlink_metadata(&path).await {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{OUTPUTS} cannot be read: {error}")),
    };
    if !found.is_file() {
        return Err(format!("{OUTPUTS} is no plain file"));
    }
    if found.len() > LARGEST_OUTPUTS {
        let size = found.len();
        return Err(format!(
            "{OUTPUTS} has {size} bytes; at most {LARGEST_OUTPUTS} are taken"
        ));
    }
    let bytes = tokio::fs::read(&path)
        .await
        .map_err(|error| format!("{OUTPUTS} cannot be read: {error}"))?;
    wire::read_outputs(&bytes)
        .map(Some)
        .map_err(|why| format!("{OUTPUTS}: {why}"))
}

/// Stores the log, and says where it is and how it ends.
async fn ending(tools: &Tools, task: &Assignment, log: &Log) -> Ending {
    let mut ending = Ending {
        log_tail: (!log.is_empty()).then(|| log.last()),
        ..Ending::default()
    };
    let Some(shelf) = &tools.shelf else {
        return ending;
    };
    let mut trouble = String::new();
    for pause in UPLOADS {
        sleep(pause).await;
        match timeout(UPLOAD, shelf.put_log(task, log.text())).await {
            Ok(Ok(path)) => {
                ending.log_ref = Some(path);
                return ending;
            }
            Ok(Err(why)) => trouble = why,
            Err(_) => trouble = "the store does not answer".to_owned(),
        }
    }
    tracing::error!(
        task = task.id,
        attempt = task.attempt,
        trouble,
        "the log is not stored"
    );
    ending.message = Some(format!("the log is not stored: {trouble}"));
    ending
}

/// The word for the end of a process.
fn ended(
    task: &Assignment,
    end: End,
    mut ending: Ending,
    outputs: Result<Option<serde_json::Value>, String>,
) -> StatusWord {
    let log_trouble = ending.message.take();
    let mut because = |message: String| {
        ending.message = Some(match &log_trouble {
            Some(trouble) => format!("{message}; {trouble}"),
            None => message,
        });
    };
    let retryable = match end {
        End::Exited(0) => match outputs {
            Ok(outputs) => {
                ending.message = log_trouble;
                ending.exit_code = Some(0);
                ending.outputs = outputs;
                return StatusWord::Succeeded(ending);
            }
            Err(why) => {
                because(why);
                ending.exit_code = Some(0);
                true
            }
        },
        End::Exited(TEMPFAIL) => {
            return StatusWord::Snooze {
                until: Moment::now().plus(SNOOZE),
            };
        }
        End::Exited(code) => {
            because(format!("exit code {code}"));
            ending.exit_code = Some(i64::from(code));
            code != DATAERR
        }
        End::Killed(signal) => {
            because(format!("ended by signal {signal}"));
            ending.exit_code = Some(i64::from(128 + signal));
            true
        }
        End::Overran => {
            let limit = task.run_limit.unwrap_or(Span::ZERO).whole_seconds();
            because(format!(
                "stopped at its time limit of {limit} s (timeouts.run_s)"
            ));
            true
        }
        End::Ordered(order) => return obeyed(order),
        End::NotStarted(error) => return fatal(error.to_string()),
    };
    StatusWord::Failed { retryable, ending }
}

/// A private folder, gone with all that is in it when it is dropped.
struct Folder(PathBuf);

impl Folder {
    /// With two rooms, so that a script cannot be in the way of what it leaves behind.
    fn make(scratch: &Path) -> io::Result<Folder> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "muster-{}-{count}-{}",
            std::process::id(),
            Moment::now().micros()
        );
        let mut private = DirBuilder::new();
        private.mode(0o700);
        // One that is there already is somebody else's.
        private.create(scratch.join(&name))?;
        let folder = Folder(scratch.join(name));
        private.create(folder.home())?;
        private.create(folder.0.join("script"))?;
        Ok(folder)
    }

    /// Where the process begins.
    fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// Where the script is, under the last part of its name.
    fn script(&self, artefact: &str) -> PathBuf {
        let plain = artefact.split('#').next().unwrap_or_default();
        let name = plain.rsplit('/').next().unwrap_or_default();
        let name = match name {
            "" | "." | ".." => "script",
            name => name,
        };
        self.0.join("script").join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a task's folder is not removed");
        }
    }
}
