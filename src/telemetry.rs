//! What can be seen of the service from outside: logs on standard error, metrics in a file and at a push gateway.
//!
//! [`METRICS`] is the one list of what is measured, and [`figures`] the table of it, with the bound of every label. The loops count by name through the `metrics` crate; what they count
//! leaves through a [`MetricsHandle`], either into a file that is replaced as a whole ([`MetricsHandle::write_to`]) or in
//! a request that this process makes ([`MetricsHandle::push`]). Nothing here ever listens.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use metrics::{KeyName, Recorder as _, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub use crate::tally::Bounded;
pub use figures::{Kind, METRICS, Metric};
pub use push::PushGateway;

pub mod figures;
mod push;

/// Sends logs to standard error. `level` is a word (`info`) or a filter by target (`info,muster=debug`).
///
/// Colours appear on a terminal only, and not where `NO_COLOR` is set. Lines that cannot be written are dropped.
pub fn logs(json: bool, level: &str) -> anyhow::Result<()> {
    // The broker's client repeats what the bus says better, and logs a returned message with its whole body.
    let filter = EnvFilter::builder()
        .parse(format!("lapin=off,{level}"))
        .with_context(|| {
            format!("`{level}` is not a log level; write error, warn, info, debug or trace")
        })?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|said| !said.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !plain && !json)
        // Complaints about a standard error that is gone would go to standard error, and panic.
        .log_internal_errors(false);
    let begun = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.try_init()
    };
    begun.map_err(|error| anyhow::anyhow!("logs cannot be started: {error}"))
}

/// Counters without labels, which are there with 0 before anything happens.
const FROM_THE_START: [&str; 3] = [
    "muster_bus_reconnects_total",
    "muster_store_reconnects_total",
    "muster_store_retries_total",
];

/// Upper bounds of the histograms, all of them in seconds: from a decision in memory to a broker that is away.
const BUCKETS: [f64; 19] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 300.0,
];

/// How often samples are folded into their histograms, so that they do not pile up between two publications.
const UPKEEP: Duration = Duration::from_secs(5);

/// What remembers everything that is counted.
pub struct Recorder {
    prometheus: PrometheusRecorder,
}

impl Recorder {
    /// A recorder that knows every metric. It records nothing until it is installed.
    pub fn new() -> anyhow::Result<Recorder> {
        let prometheus = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .context("the buckets of the histograms are wrong")?
            .build_recorder();
        for metric in METRICS {
            let (name, help) = (KeyName::from(metric.name), SharedString::from(metric.help));
            match metric.kind {
                Kind::Counter => prometheus.describe_counter(name, metric.unit, help),
                Kind::Gauge => prometheus.describe_gauge(name, metric.unit, help),
                Kind::Histogram => prometheus.describe_histogram(name, metric.unit, help),
            }
        }
        metrics::with_local_recorder(&prometheus, || {
            for name in FROM_THE_START {
                metrics::counter!(name).absolute(0);
            }
            metrics::gauge!("muster_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
        Ok(Recorder { prometheus })
    }

    pub fn handle(&self) -> MetricsHandle {
        MetricsHandle {
            prometheus: self.prometheus.handle(),
        }
    }

    /// Makes a new recorder the one of this process. That works once.
    pub fn install() -> anyhow::Result<MetricsHandle> {
        let recorder = Recorder::new()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder.prometheus)
            .map_err(|_| anyhow::anyhow!("another recorder of metrics is installed already"))?;
        Ok(handle)
    }

    /// Counts what `work` does here and nowhere else.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.prometheus, work)
    }
}

/// Where the metrics can be had from.
#[derive(Clone, Debug)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
}

impl MetricsHandle {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.prometheus.render();
        process(&mut text);
        text
    }

    /// Folds samples into their histograms.
    pub fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    /// Replaces the file at `path`. Who reads it sees the old text or the new one, never a part.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let said =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let Some(name) = path.file_name() else {
            return Err(said(io::ErrorKind::InvalidInput.into()));
        };
        // Beside the file, because only there a rename replaces it, and not called `*.prom`, which collectors look for.
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_file_name(format!(
            ".{}.{}.{number}.tmp",
            name.to_string_lossy(),
            std::process::id()
        ));
        let written = write_new(&unfinished, self.render().as_bytes())
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written.map_err(said)
    }

    /// Puts the metrics to a push gateway, where they replace what this job and instance put there before.
    pub async fn push(&self, gateway: &PushGateway) -> anyhow::Result<()> {
        gateway.put(self.render().as_bytes()).await
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    // Whatever the umask is: the collector is another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)
}

/// Writes and pushes the metrics at each interval, and once more at the end. Trouble is logged when it begins and when it
/// is over, and stops nothing.
pub async fn publish_metrics(
    handle: MetricsHandle,
    file: Option<PathBuf>,
    push: Option<PushGateway>,
    every: Duration,
    cancel: CancellationToken,
) {
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // An interval of nothing would panic.
    let mut publish = interval(every.max(Duration::from_millis(10)));
    publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut writes, mut pushes) = (Trouble::default(), Trouble::default());
    loop {
        let last = tokio::select! {
            biased;
            () = cancel.cancelled() => true,
            _ = publish.tick() => false,
            _ = upkeep.tick() => {
                handle.upkeep();
                continue;
            }
        };
        if let Some(file) = &file {
            let (handle, file) = (handle.clone(), file.clone());
            let written = tokio::task::spawn_blocking(move || handle.write_to(&file)).await;
            let written = written
                .map_err(anyhow::Error::from)
                .and_then(|done| Ok(done?));
            writes.note("written to their file", written);
        }
        if let Some(gateway) = &push {
            pushes.note("pushed", handle.push(gateway).await);
        }
        if last {
            return;
        }
    }
}

/// Whether the last try failed.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
}

impl Trouble {
    fn note(&mut self, what: &str, tried: anyhow::Result<()>) {
        match (tried, self.since) {
            (Err(error), None) => {
                tracing::warn!("metrics cannot be {what}: {error:#}");
                self.since = Some(Instant::now());
            }
            (Ok(()), Some(since)) => {
                let seconds = since.elapsed().as_secs();
                tracing::info!("metrics are {what} again, after {seconds} s");
                self.since = None;
            }
            (Err(_), Some(_)) | (Ok(()), None) => {}
        }
    }
}

/// Appends what the kernel knows of this process. CPU time is a counter with a fraction, which the recorder has not, so
/// these lines are written here. What cannot be read is left out.
fn process(text: &mut String) {
    /// The kernel's clock ticks in a second, as it shows them to programs: 100 wherever Linux runs.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in parentheses and may hold anything; the third begins after the last of them.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let cpu = field(14)
        .zip(field(15))
        .map(|(user, system)| (user + system) / TICKS);
    let booted = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|stat| after(&stat, "btime"));
    let started = field(22)
        .zip(booted)
        .map(|(ticks, booted)| booted + ticks / TICKS);
    let memory = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| after(&status, "VmRSS:"));
    // One of them reads the list.
    let open = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|list| list.count().saturating_sub(1) as f64);
    let limit = fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| after(&limits, "Max open files"));
    for (name, value) in [
        (
            "muster_process_resident_memory_bytes",
            memory.map(|kib| kib * 1024.0),
        ),
        ("muster_process_cpu_seconds_total", cpu),
        ("muster_process_open_fds", open),
        ("muster_process_max_fds", limit),
        ("muster_process_start_time_seconds", started),
    ] {
        let (Some(value), Some(metric)) = (value, METRICS.iter().find(|known| known.name == name))
        else {
            continue;
        };
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}\n",
            metric.help
        );
    }
}

/// The number after the first occurrence of `words` at the start of a line.
fn after(text: &str, words: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(words))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
