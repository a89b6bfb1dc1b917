//! The service itself.

use std::sync::Arc;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::{print, print_json};
use super::{Failure, Output, door, rules};
use crate::bus::Bus;
use crate::bus::lines::Lines;
use crate::bus::nats::Nats;
use crate::bus::rabbit::Rabbit;
use crate::ground::Ground;
use crate::intake::BatchSize;
use crate::processor;
use crate::reaper::Keep;
use crate::settings::{LogFormat, Settings};
use crate::telemetry::{self, PushGateway, Recorder, publish_metrics};

/// Runs until a signal, or the end of input with lines.
pub async fn run(settings: &Settings) -> Result<(), Failure> {
    telemetry::logs(
        settings.log.format == LogFormat::Json,
        &settings.log.filter(),
    )
    .map_err(|error| Failure::Usage(format!("log.level: {error}")))?;
    let handle = Recorder::install().map_err(|error| Failure::Found(error.to_string()))?;
    let push = match &settings.metrics.push {
        None => None,
        Some(url) => Some(
            PushGateway::parse(url.expose(), "muster", &instance())
                .map_err(|error| Failure::Usage(format!("metrics.push: {error}")))?,
        ),
    };
    let ground = rules::ground(settings).await?;
    let publishing = CancellationToken::new();
    let metrics = tokio::spawn(publish_metrics(
        handle,
        settings.metrics.file.clone(),
        push,
        settings.metrics.every.as_duration(),
        publishing.clone(),
    ));
    tokio::spawn(obey(ground.stop.clone(), None));
    let served = serve(settings, ground).await;
    publishing.cancel();
    let _ = metrics.await;
    served
}

fn instance() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| format!("pid-{}", std::process::id()))
}

/// The first signal stops in order, the second at once: `halt` is for who has something to take down with him.
pub(super) async fn obey(stop: CancellationToken, halt: Option<CancellationToken>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    for time in 0.. {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if let Some(halt) = halt.as_ref().filter(|_| time > 0) {
            halt.cancel();
        } else if time > 0 {
            eprintln!("stopped at once");
            std::process::exit(130);
        }
        if stop.is_cancelled() {
            continue;
        }
        tracing::info!("stopping: what was taken is finished first; a second signal stops at once");
        stop.cancel();
    }
}

async fn serve(settings: &Settings, ground: Arc<Ground>) -> Result<(), Failure> {
    prepare(&ground).await?;
    if ground.stop.is_cancelled() {
        return Ok(());
    }
    let catalogue = ground.catalogue();
    let worker_types = catalogue
        .plugins
        .values()
        .map(|plugin| plugin.worker_type.clone());
    let topology = rules::topology(settings, worker_types);
    let url = settings.bus.url.expose().to_owned();
    tracing::info!(
        store = %settings.store.url, bus = %settings.bus.url, schedules = catalogue.schedules.len(),
        plugins = catalogue.plugins.len(), "muster runs"
    );
    match settings.bus.url.scheme() {
        "amqp" | "amqps" => {
            let open = Rabbit::open(&url, &topology);
            if let Some(bus) = unless_stopped(&ground, open).await? {
                go(settings, ground, bus, false).await?;
            }
        }
        "nats" | "tls" => {
            let open = Nats::open(&url, &topology);
            if let Some(bus) = unless_stopped(&ground, open).await? {
                go(settings, ground, bus, false).await?;
            }
        }
        _ => go(settings, ground, Lines::stdio(), true).await?,
    }
    Ok(())
}

async fn unless_stopped<B>(
    ground: &Ground,
    open: impl Future<Output = Result<B, crate::bus::BusError>>,
) -> Result<Option<B>, Failure> {
    tokio::select! {
        opened = open => Ok(Some(opened?)),
        () = ground.stop.cancelled() => Ok(None),
    }
}

async fn go<B: Bus>(
    settings: &Settings,
    ground: Arc<Ground>,
    bus: B,
    lines: bool,
) -> Result<(), Failure> {
    let size = BatchSize {
        count: settings.bus.batch.count,
        linger: settings.bus.batch.linger.as_duration(),
    };
    let keep = Keep {
        events: settings.retention.events,
        tombstones: settings.retention.tombstones,
        versions: settings.retention.versions,
        tasks: settings.retention.tasks,
        runs: settings.retention.runs,
        runs_each: settings.retention.runs_each,
    };
    let bus = Arc::new(bus);
    if lines && ground.store.one_writer() {
        ground.store.release_claims().await?;
    }
    processor::run(ground, bus.clone(), size, keep, lines).await?;
    tracing::info!("muster ends");
    // With lines nobody is left who would try again: a script has to be told.
    match bus.condition().trouble.filter(|_| lines) {
        Some(trouble) => Err(Failure::Found(format!(
            "{trouble}; what is stored and was not written is written by the next run"
        ))),
        None => Ok(()),
    }
}

/// The schema up to date and the catalogue loaded; waits for the database where it is away, and says where that is.
async fn prepare(ground: &Ground) -> Result<(), Failure> {
    let prepared = crate::ground::persist!(ground, "start", async {
        ground.store.reach().await?;
        door::set_up(ground).await
    });
    match prepared {
        Ok(()) => Ok(()),
        Err(error) if error.passing() && ground.stop.is_cancelled() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub async fn migrate(settings: &Settings, output: Output) -> Result<(), Failure> {
    let ground = rules::ground(settings).await?;
    let taken = door::made(&ground).await?;
    // Of types that are declared with relations, which may have changed without the schema.
    let types = ground.rules.types.related();
    let indexes = ground.store.index_types(&types).await?;
    match output {
        Output::Json => print_json(&json!({ "migrated": taken, "indexes": indexes })),
        Output::Table => {
            if taken.is_empty() {
                print("the schema is up to date");
            }
            for step in &taken {
                print(&format!("migrated to {step}"));
            }
            for step in &indexes {
                print(step);
            }
        }
    }
    ground.store.close().await;
    Ok(())
}
