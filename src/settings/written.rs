//! From the tables of a file to settings. Every key that is read here is in [`super::KEYS`]; a test compares the two.

use std::path::PathBuf;

use super::together::TAKEN;
use super::{
    Acknowledge, BatchSettings, BusSettings, Defaults, EVENTS, Envelope, Format, IntakeSettings,
    KeySettings, LevelGate, LogFormat, LogSettings, MetricsSettings, ObjectTypeSettings, Order,
    PluginRecurrences, Rank, Retention, Retry, Secret, Settings, Split, StoreSettings, Timeouts,
    Url, WorkerSettings,
};
use crate::document::{Complaints, Field, Node, Table};
use crate::moment::Span;

/// What is written takes the place of the default.
pub(super) fn set<T>(here: &mut T, written: Option<T>) {
    if let Some(written) = written {
        *here = written;
    }
}

pub(super) fn read(root: &Node, settings: &mut Settings, complaints: &mut Complaints) {
    let Some(mut t) = Table::open(root, "", complaints) else {
        return;
    };
    set(&mut settings.open_types, t.bool("open_types"));
    set(
        &mut settings.open_organizations,
        t.bool("open_organizations"),
    );
    set(
        &mut settings.require_signatures,
        t.bool("require_signatures"),
    );
    if let Some(table) = t.table("store") {
        store(table, &mut settings.store);
    }
    if let Some(table) = t.table("bus") {
        bus(table, &mut settings.bus);
    }
    if let Some(table) = t.table("defaults") {
        defaults(table, &mut settings.defaults);
    }
    if let Some(table) = t.table("retention") {
        retention(table, &mut settings.retention);
    }
    if let Some(table) = t.table("metrics") {
        metrics(table, &mut settings.metrics);
    }
    if let Some(mut table) = t.table("lifecycle") {
        set(&mut settings.lifecycle.enabled, table.bool("enabled"));
        table.finish();
    }
    let workers = t.entries("workers", |key, field| {
        let mut worker = WorkerSettings::for_type(&key.name);
        worker_type(&key.name, field, &mut worker);
        Some((key.name.clone(), worker))
    });
    settings.workers = workers.unwrap_or_default().into_iter().collect();
    let object_types = t.entries("object_types", |key, field| {
        Some((key.name.clone(), object_type(field.table()?)))
    });
    settings.object_types = object_types.unwrap_or_default().into_iter().collect();
    if let Some(table) = t.table("plugin_recurrences") {
        plugin_recurrences(table, &mut settings.plugin_recurrences);
    }
    settings.keys = t
        .list("keys", |item| signer(item.table()?))
        .unwrap_or_default();
    if let Some(table) = t.table("work") {
        super::work::read(table, &mut settings.work);
    }
    if let Some(table) = t.table("log") {
        log(table, &mut settings.log);
    }
    t.finish();
}

fn store(mut t: Table<'_, '_>, store: &mut StoreSettings) {
    let schemes = ["sqlite", "postgres", "postgresql"];
    set(
        &mut store.url,
        t.parsed("url", |text| Url::parse(text, &schemes)),
    );
    t.finish();
}

fn bus(mut t: Table<'_, '_>, bus: &mut BusSettings) {
    let schemes = ["lines", "amqp", "amqps", "nats", "tls"];
    set(
        &mut bus.url,
        t.parsed("url", |text| Url::parse(text, &schemes)),
    );
    // AMQP counts a prefetch in sixteen bits.
    set(&mut bus.prefetch, t.int_in("prefetch", 1..=65_535));
    if let Some(table) = t.table("batch") {
        batch(table, &mut bus.batch);
    }
    let mut queues = Vec::new();
    let written = t.list("intake", |item| intake(item.table()?, &mut queues));
    for written in written.unwrap_or_default() {
        match bus.intake.first_mut() {
            // There is always one for native events; an entry may only set its order.
            Some(native) if written.queue == EVENTS => native.order = written.order,
            _ => bus.intake.push(written),
        }
    }
    t.finish();
}

fn batch(mut t: Table<'_, '_>, batch: &mut BatchSettings) {
    set(&mut batch.count, t.int_in("count", 1..=100_000));
    set(&mut batch.linger, t.parsed("linger", short_span));
    t.finish();
}

/// A length of time in milliseconds too, which only makes sense between messages.
fn short_span(text: &str) -> Result<Span, String> {
    let span = match text.trim().strip_suffix("ms") {
        Some(number) => number
            .trim()
            .parse::<u32>()
            .map(|count| Span::from_micros(i64::from(count) * 1000))
            .map_err(|_| format!("`{text}` is not a length of time; write it as 5ms or 1s"))?,
        None => Span::parse(text)?,
    };
    if span > Span::seconds(60) {
        return Err("a batch may not wait longer than 60s".to_string());
    }
    Ok(span)
}

/// One intake; `queues` holds those of the intakes before it.
fn intake(mut t: Table<'_, '_>, queues: &mut Vec<String>) -> Option<IntakeSettings> {
    t.require("queue");
    let queue = t.parsed("queue", queue_name);
    if let Some(queue) = &queue {
        let taken = TAKEN.iter().find(|(name, _)| name == queue);
        if queues.contains(queue) {
            t.complain(
                "queue",
                format!("the queue `{queue}` has an intake already"),
            );
        } else if let Some((_, what)) = taken
            && queue != EVENTS
        {
            t.complain("queue", format!("the queue `{queue}` is that of {what}"));
        }
        queues.push(queue.clone());
    }
    let format = t.one_of("format", Format::WORDS).unwrap_or_default();
    let order = t.one_of("order", Order::WORDS).unwrap_or(match format {
        Format::OpenkatScanProfile => Order::Arrival,
        _ => Order::Time,
    });
    if order == Order::Version && format != Format::CloudEvents {
        let message = format!("messages in the format `{format}` carry no version to order by");
        t.complain("order", message);
    }
    if format != Format::CloudEvents && queue.as_deref() == Some(EVENTS) {
        t.complain("format", format!("`{EVENTS}` holds CloudEvents"));
    }
    t.finish();
    Some(IntakeSettings {
        queue: queue?,
        order,
        format,
    })
}

fn defaults(mut t: Table<'_, '_>, defaults: &mut Defaults) {
    set(&mut defaults.grace, t.span("grace"));
    if let Some(table) = t.table("timeouts") {
        timeouts(table, &mut defaults.timeouts);
    }
    if let Some(table) = t.table("retry") {
        retry(table, &mut defaults.retry);
    }
    t.finish();
}

fn timeouts(mut t: Table<'_, '_>, timeouts: &mut Timeouts) {
    set(&mut timeouts.queue, t.parsed("queue", some_time));
    set(&mut timeouts.heartbeat, t.parsed("heartbeat", some_time));
    set(&mut timeouts.run, t.parsed("run", some_time));
    set(&mut timeouts.task, t.parsed("task", some_time));
    t.finish();
}

fn retry(mut t: Table<'_, '_>, retry: &mut Retry) {
    set(&mut retry.max, t.int_in("max", 1..=1000));
    set(&mut retry.first, t.span("first"));
    set(&mut retry.cap, t.span("cap"));
    set(&mut retry.declines, t.int_in("declines", 1..=100_000));
    if retry.first > retry.cap {
        t.complain(
            "first",
            "the first pause of retries is longer than their `cap`",
        );
    }
    t.finish();
}

fn some_time(text: &str) -> Result<Span, String> {
    match Span::parse(text)? {
        Span::ZERO => Err("this must be longer than no time at all".to_string()),
        span => Ok(span),
    }
}

fn retention(mut t: Table<'_, '_>, retention: &mut Retention) {
    set(&mut retention.tasks, t.span("tasks"));
    set(&mut retention.runs, t.span("runs"));
    set(
        &mut retention.runs_each,
        t.int_in("runs_each", 0..=1_000_000_000),
    );
    set(&mut retention.events, t.span("events"));
    set(&mut retention.versions, t.span("versions"));
    set(&mut retention.tombstones, t.span("tombstones"));
    t.finish();
}

fn metrics(mut t: Table<'_, '_>, metrics: &mut MetricsSettings) {
    metrics.file = t.word("file").map(PathBuf::from);
    metrics.push = t.parsed("push", |text| Url::parse(text, &["http", "https"]));
    set(&mut metrics.every, t.parsed("every", some_time));
    t.finish();
}

fn worker_type(name: &str, mut field: Field<'_, '_>, worker: &mut WorkerSettings) {
    if let Err(message) = queue_name(name) {
        field.complain(format!(
            "a worker type is the end of a queue's name: {message}"
        ));
    }
    let Some(mut t) = field.table() else {
        return;
    };
    set(&mut worker.queue, t.parsed("queue", queue_name));
    worker.split = t
        .list("split", |item| split(item.table()?))
        .unwrap_or_default();
    set(&mut worker.format, t.one_of("format", Envelope::WORDS));
    set(
        &mut worker.acknowledge,
        t.one_of("acknowledge", Acknowledge::WORDS),
    );
    set(&mut worker.rank, t.one_of("rank", Rank::WORDS));
    set(&mut worker.limit, t.int_in("limit", 1..=100_000_000));
    set(
        &mut worker.stored_limit,
        t.int_in("stored_limit", 1..=i64::MAX),
    );
    set(&mut worker.credit, t.int_in("credit", 0..=1_000_000));
    set(
        &mut worker.lower_class_every,
        t.int_in("lower_class_every", 2..=1_000_000),
    );
    set(
        &mut worker.level_gate,
        t.one_of("level_gate", LevelGate::WORDS),
    );
    set(
        &mut worker.minimum_scan_level,
        t.int_in("minimum_scan_level", 0..=4),
    );
    let signed = t.bool("requires_indemnification");
    set(&mut worker.requires_indemnification, signed);
    set(&mut worker.run_on_enable, t.bool("run_on_enable"));
    set(&mut worker.share, t.bool("share"));
    t.finish();
}

fn split(mut t: Table<'_, '_>) -> Option<Split> {
    t.require("queue");
    t.require("where");
    let queue = t.parsed("queue", queue_name);
    let query = t.word("where");
    t.finish();
    Some(Split {
        queue: queue?,
        query: query?,
    })
}

/// A name that RabbitMQ takes for a queue and NATS for a subject.
pub(super) fn queue_name(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>' | '#');
    let refused = if text.is_empty() {
        "a queue needs a name"
    } else if text.len() > 200 {
        "the name of a queue may not be longer than 200 bytes"
    } else if text.contains(odd) {
        "the name of a queue holds no spaces and none of `*`, `>`, `#`"
    } else if text.split('.').any(str::is_empty) {
        "the name of a queue has a word before and after each dot"
    } else if text.starts_with("amq.") {
        "names that begin with `amq.` belong to RabbitMQ"
    } else {
        return Ok(text.to_string());
    };
    Err(refused.to_string())
}

fn object_type(mut t: Table<'_, '_>) -> ObjectTypeSettings {
    let mut object_type = ObjectTypeSettings {
        fields: t.entries("fields", |key, field| {
            Some((key.name.clone(), field.word()?))
        }),
        ..ObjectTypeSettings::default()
    };
    set(&mut object_type.aliases, t.texts("aliases"));
    set(&mut object_type.name, t.word("name"));
    set(&mut object_type.ignore, t.texts("ignore"));
    t.finish();
    object_type
}

fn plugin_recurrences(mut t: Table<'_, '_>, recurrences: &mut PluginRecurrences) {
    set(&mut recurrences.timezone, t.parsed("timezone", time_zone));
    set(&mut recurrences.spread, t.span("spread"));
    t.finish();
}

fn time_zone(text: &str) -> Result<String, String> {
    match jiff::tz::TimeZone::get(text) {
        Ok(_) => Ok(text.to_string()),
        Err(_) => Err(format!(
            "`{}` is no time zone that is known here; write it as Europe/Amsterdam",
            text.chars().take(60).collect::<String>().escape_debug()
        )),
    }
}

fn signer(mut t: Table<'_, '_>) -> Option<KeySettings> {
    t.require("id");
    t.require("secret");
    t.require("organizations");
    let id = t.word("id");
    let secret = t.get("secret").and_then(Field::secret).map(Secret::new);
    let organizations = t.texts("organizations");
    if organizations.as_ref().is_some_and(Vec::is_empty) {
        t.complain(
            "organizations",
            "a key without organisations speaks for none",
        );
    }
    t.finish();
    Some(KeySettings {
        id: id?,
        secret: secret?,
        organizations: organizations?,
    })
}

pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] =
    [("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn log(mut t: Table<'_, '_>, log: &mut LogSettings) {
    set(&mut log.format, t.one_of("format", &LOG_FORMATS));
    let levels = LOG_LEVELS.map(|level| (level, level.to_string()));
    set(&mut log.level, t.one_of("level", &levels));
    set(&mut log.trail, t.bool("trail"));
    t.finish();
}
