//! The streams and consumers that we declare, and what it means when the broker has others by these names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, ConsumerErrorKind, RetentionPolicy, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use tracing::warn;

use super::{ACK_WAIT, CONSUMER};
use crate::bus::{BusError, Role, Source, TaskQueue, Topology, names};

const EVENTS: &str = "MUSTER_EVENTS";
pub(super) const TASKS: &str = "MUSTER_TASKS";
const STATUS: &str = "MUSTER_STATUS";
const LIFECYCLE: &str = "MUSTER_LIFECYCLE";
/// Life-cycle events are kept for whoever wants them, not for ever.
const LIFECYCLE_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// An unaccepted task message comes to another worker after this long, where its consumer is ours to make.
const WORKER_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Declared {
    /// When each stream that we read was made.
    pub(super) made: BTreeMap<String, String>,
    pub(super) consumers: Vec<(Source, PullConsumer)>,
}

/// Everything. Anything that exists and serves stays as it is.
pub(super) async fn declare(context: &Context, topology: &Topology) -> Result<Declared, BusError> {
    let mut declared = Declared {
        made: BTreeMap::new(),
        consumers: Vec::new(),
    };
    for task_queue in &topology.task_queues {
        let consumer = declare_task_queue(context, task_queue).await?;
        if topology.role == Role::Worker {
            declared.consumers.push((Source::Tasks, consumer));
        }
    }
    let offered = tasks(context, &[]).await?;
    let status = stream(context, queue(STATUS, &[names::STATUS])).await?;
    if topology.role == Role::Worker {
        declared.made.extend(made(&offered));
        return Ok(declared);
    }
    let lifecycle = format!("{}.>", names::LIFECYCLE);
    let config = Config {
        max_age: LIFECYCLE_AGE,
        ..queue(LIFECYCLE, &[&lifecycle])
    };
    stream(
        context,
        Config {
            retention: RetentionPolicy::Limits,
            ..config
        },
    )
    .await?;

    let mut read = vec![(Source::Status, status, String::new())];
    for (place, intake) in topology.intakes.iter().enumerate() {
        let (stream, filter) = if intake.native {
            let subjects = format!("{}.>", names::EVENTS);
            (
                stream(context, queue(EVENTS, &[&subjects])).await?,
                String::new(),
            )
        } else {
            (foreign(context, &intake.queue).await?, intake.queue.clone())
        };
        read.push((Source::Events(place), stream, filter));
    }
    for (source, stream, filter_subject) in read {
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::from(topology.prefetch),
            filter_subject,
            ..pull::Config::default()
        };
        declared.made.extend(made(&stream));
        declared
            .consumers
            .push((source, consumer(&stream, config, true).await?));
    }
    Ok(declared)
}

/// When a stream was made, by its name.
fn made(stream: &Stream) -> Option<(String, String)> {
    let info = stream.cached_info();
    Some((info.config.name.clone(), info.created.to_string()))
}

/// The subject of a task queue, and the consumer by which its workers find it.
pub(super) async fn declare_task_queue(
    context: &Context,
    task_queue: &TaskQueue,
) -> Result<PullConsumer, BusError> {
    let TaskQueue { queue, routing_key } = task_queue;
    if !is_subject(queue) {
        return Err(BusError::Conflict(format!(
            "task queue `{queue}` cannot be a subject: it has an empty part, a blank or a wildcard"
        )));
    }
    let stream = tasks(context, &[queue]).await?;
    let config = pull::Config {
        durable_name: Some(identifier(routing_key)),
        ack_policy: AckPolicy::Explicit,
        ack_wait: WORKER_WAIT,
        filter_subject: queue.clone(),
        ..pull::Config::default()
    };
    consumer(&stream, config, false).await
}

async fn tasks(context: &Context, more: &[&str]) -> Result<Stream, BusError> {
    let all = format!("{}.>", names::TASKS);
    let existing = stream(context, queue(TASKS, &[&all])).await?;
    let missing: Vec<String> = more
        .iter()
        .filter(|subject| !covers(&existing.cached_info().config.subjects, subject))
        .map(|subject| (*subject).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(existing);
    }
    // The stream is ours (it has our subjects), so it may grow.
    let mut config = existing.cached_info().config.clone();
    config.subjects.extend(missing);
    context.update_stream(&config).await.map_err(|error| {
        let subjects = config.subjects.join(", ");
        refused(
            &format!("stream `{TASKS}` with subjects {subjects}"),
            &error.to_string(),
            error.kind(),
        )
    })?;
    Ok(existing)
}

/// A stream that forgets what was acknowledged.
fn queue(name: &str, subjects: &[&str]) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects
            .iter()
            .map(|subject| (*subject).to_owned())
            .collect(),
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    }
}

/// The stream of a queue that others fill. They may have made it, in their way; all we ask is its subject.
async fn foreign(context: &Context, subject: &str) -> Result<Stream, BusError> {
    if !is_subject(subject) {
        return Err(BusError::Conflict(format!(
            "queue `{subject}` cannot be a subject: it has an empty part, a blank or a wildcard"
        )));
    }
    let name = identifier(subject).to_uppercase();
    let config = queue(&name, &[subject]);
    match get(context, &name).await? {
        Some(stream) if covers(&stream.cached_info().config.subjects, subject) => Ok(stream),
        Some(stream) => Err(differs(&stream.cached_info().config, &config)),
        None => create(context, config).await,
    }
}

/// The stream as it is wanted, made where it is missing.
pub(super) async fn stream(context: &Context, wanted: Config) -> Result<Stream, BusError> {
    let Some(stream) = get(context, &wanted.name).await? else {
        return create(context, wanted).await;
    };
    let config = &stream.cached_info().config;
    let subjects = wanted
        .subjects
        .iter()
        .all(|subject| config.subjects.contains(subject));
    if subjects && config.retention == wanted.retention {
        Ok(stream)
    } else {
        Err(differs(config, &wanted))
    }
}

async fn get(context: &Context, name: &str) -> Result<Option<Stream>, BusError> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(BusError::OutOfReach(format!("stream `{name}`: {error}"))),
        },
    }
}

async fn create(context: &Context, config: Config) -> Result<Stream, BusError> {
    let mut what = described(&config);
    match context.create_stream(config.clone()).await {
        Ok(stream) => Ok(stream),
        Err(error) => {
            if let CreateStreamErrorKind::JetStream(overlap) = error.kind()
                && overlap.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP
            {
                for subject in &config.subjects {
                    if let Ok(other) = context.stream_by_subject(subject.as_str()).await {
                        let _ = write!(what, " (subject `{subject}` belongs to stream `{other}`)");
                    }
                }
            }
            Err(refused(&what, &error.to_string(), error.kind()))
        }
    }
}

fn refused(what: &str, said: &str, kind: CreateStreamErrorKind) -> BusError {
    match kind {
        CreateStreamErrorKind::JetStream(error)
            if matches!(
                error.error_code(),
                ErrorCode::STREAM_SUBJECT_OVERLAP | ErrorCode::STREAM_NAME_EXIST
            ) =>
        {
            BusError::Conflict(format!("{what} cannot be made: {error}"))
        }
        CreateStreamErrorKind::InvalidStreamName | CreateStreamErrorKind::EmptyStreamName => {
            BusError::Conflict(format!("{what} cannot be made: {said}"))
        }
        _ => BusError::OutOfReach(format!("{what} could not be made: {said}")),
    }
}

fn differs(existing: &Config, wanted: &Config) -> BusError {
    BusError::Conflict(format!(
        "{} exists and differs from what muster declares: {}. \
         Remove or rename the one that exists, or change it to this",
        described(existing),
        described(wanted)
    ))
}

fn described(config: &Config) -> String {
    let Config {
        name,
        subjects,
        retention,
        ..
    } = config;
    let retention = match retention {
        RetentionPolicy::Limits => "limits",
        RetentionPolicy::Interest => "interest",
        RetentionPolicy::WorkQueue => "workqueue",
    };
    format!(
        "stream `{name}` with subjects [{}] and retention {retention}",
        subjects.join(", ")
    )
}

/// A durable pull consumer. One that exists is used as it is; a consumer of our own follows the settings.
async fn consumer(
    stream: &Stream,
    wanted: pull::Config,
    ours: bool,
) -> Result<PullConsumer, BusError> {
    let name = wanted.durable_name.clone().unwrap_or_default();
    let of = &stream.cached_info().config.name;
    let out_of_reach = |error: &dyn std::fmt::Display| {
        BusError::OutOfReach(format!("consumer `{name}` of stream `{of}`: {error}"))
    };
    let existing = match stream.consumer_info(&name).await {
        Ok(info) => Some(info.config),
        Err(error) if error.to_string().contains("not found") => None,
        Err(error) => return Err(out_of_reach(&error)),
    };
    if let Some(existing) = &existing {
        let pulled = existing.deliver_subject.is_none();
        let explicit = existing.ack_policy == AckPolicy::Explicit;
        if !pulled || !explicit || existing.filter_subject != wanted.filter_subject {
            return Err(BusError::Conflict(format!(
                "consumer `{name}` of stream `{of}` exists as a {} consumer with {:?} acknowledgements \
                 of subject `{}`; muster wants a pull consumer with explicit acknowledgements of subject \
                 `{}`. Remove the one that exists",
                if pulled { "pull" } else { "push" },
                existing.ack_policy,
                existing.filter_subject,
                wanted.filter_subject
            )));
        }
    }
    let same = existing.as_ref().is_some_and(|existing| {
        existing.max_ack_pending == wanted.max_ack_pending && existing.ack_wait == wanted.ack_wait
    });
    if existing.is_none() || (ours && !same) {
        match stream.create_consumer(wanted).await {
            Ok(consumer) => return Ok(consumer),
            Err(error) if existing.is_none() => {
                return Err(match error.kind() {
                    // Two consumers of a work queue may not share a subject.
                    ConsumerErrorKind::JetStream(said) => BusError::Conflict(format!(
                        "consumer `{name}` of stream `{of}` cannot be made: {said}"
                    )),
                    _ => out_of_reach(&error),
                });
            }
            Err(error) => warn!(consumer = name, stream = of, %error, "used as it is"),
        }
    }
    stream
        .get_consumer(&name)
        .await
        .map_err(|error| out_of_reach(&error))
}

/// Names of streams and consumers have letters, digits, `-` and `_`.
pub(super) fn identifier(text: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    text.chars()
        .map(|letter| if allowed(letter) { letter } else { '_' })
        .collect()
}

/// A subject that messages can be published to.
pub(super) fn is_subject(text: &str) -> bool {
    let sound = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c == '*' || c == '>' || c.is_whitespace())
    };
    text.split('.').all(sound)
}

/// Whether one of the patterns takes the subject.
fn covers(patterns: &[String], subject: &str) -> bool {
    patterns.iter().any(|pattern| {
        let mut parts = subject.split('.');
        for token in pattern.split('.') {
            match (token, parts.next()) {
                (">", part) => return part.is_some(),
                ("*", Some(_)) => {}
                (token, Some(part)) if token == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_subjects_as_the_broker_reads_them() {
        let covered = |pattern: &str, subject: &str| covers(&[pattern.to_owned()], subject);
        assert!(covered("muster.tasks.>", "muster.tasks.boefje"));
        assert!(covered("muster.tasks.>", "muster.tasks.boefje.nmap"));
        assert!(covered("*.tasks", "a.tasks"));
        assert!(covered("queue", "queue"));
        assert!(!covered("muster.tasks.>", "muster.tasks"));
        assert!(!covered("muster.*", "muster.tasks.boefje"));
        assert!(!covered("queue.a", "queue"));
        assert!(!covers(&[], "queue"));
    }

    #[test]
    fn names_are_made_of_what_is_allowed() {
        assert_eq!(identifier("boefje.nmap"), "boefje_nmap");
        assert_eq!(identifier("scan profile/é*>"), "scan_profile____");
        assert!(is_subject("muster.tasks.boefje"));
        for wrong in ["", ".", "a..b", "a.", "a b", "a.*", ">"] {
            assert!(!is_subject(wrong), "{wrong}");
        }
    }
}
