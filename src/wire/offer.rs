//! The message that offers a task to the workers.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::moment::{Moment, Span};
use crate::run::run_name;
use crate::task::{Offer, OfferedInput};

/// A task as its workers read it.
pub fn task_message(offer: &Offer) -> Vec<u8> {
    let plugin = &offer.plugin;
    let run_name = run_name(&offer.schedule, &offer.run_id);
    encoded(&Message {
        id: &offer.task_id,
        attempt: offer.attempt,
        run_id: &offer.run_id,
        run_name: &run_name,
        schedule: &offer.schedule,
        organization: &offer.organization,
        worker_type: &offer.worker_type,
        plugin: Plugin {
            plugin_id: &plugin.plugin_id,
            version: plugin.version.as_deref(),
            oci_image: plugin.oci_image.as_deref(),
            oci_arguments: &plugin.oci_arguments,
            runtime: plugin.runtime.as_deref(),
            artefact: plugin.artefact.as_deref(),
        },
        arguments: &offer.arguments,
        inputs: Inputs(&offer.inputs),
        settings: &offer.settings,
        parameters: &offer.parameters,
        secrets: &plugin.secrets,
        deduplication_key: offer.deduplication_key.as_deref(),
        expires_at: Instant(offer.expires_at),
        trigger: offer.event_type.as_deref().map(|event_type| Trigger {
            event_id: offer.event_id.as_deref(),
            event_type,
        }),
        cause: offer.cause.word(),
        priority: offer.priority,
        scheduled_for: Instant(offer.scheduled_for),
        created_at: Instant(offer.created_at),
        late_by_s: offer.offered_at.since(offer.scheduled_for).whole_seconds(),
        timeouts: Timeouts {
            queue_s: seconds(offer.queue_timeout),
            heartbeat_s: seconds(offer.heartbeat_timeout),
            run_s: seconds(offer.run_timeout),
        },
        avoid_workers: &offer.avoid_workers,
        traceparent: offer.traceparent.as_deref(),
    })
}

/// The fields in the order of the contract.
#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    attempt: i64,
    run_id: &'a str,
    run_name: &'a str,
    schedule: &'a str,
    organization: &'a str,
    worker_type: &'a str,
    plugin: Plugin<'a>,
    arguments: &'a [String],
    inputs: Inputs<'a>,
    settings: &'a Map<String, Value>,
    parameters: &'a Map<String, Value>,
    secrets: &'a [String],
    deduplication_key: Option<&'a str>,
    expires_at: Instant,
    trigger: Option<Trigger<'a>>,
    cause: &'a str,
    priority: i64,
    scheduled_for: Instant,
    created_at: Instant,
    late_by_s: i64,
    timeouts: Timeouts,
    avoid_workers: &'a [String],
    traceparent: Option<&'a str>,
}

#[derive(Serialize)]
struct Plugin<'a> {
    plugin_id: &'a str,
    version: Option<&'a str>,
    oci_image: Option<&'a str>,
    oci_arguments: &'a [String],
    runtime: Option<&'a str>,
    artefact: Option<&'a str>,
}

struct Inputs<'a>(&'a [OfferedInput]);

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|input| Input {
            object_type: &input.object_type,
            primary_key: &input.primary_key,
            attributes: &input.attributes,
            scan_level: input.level,
        }))
    }
}

#[derive(Serialize)]
struct Input<'a> {
    object_type: &'a str,
    primary_key: &'a str,
    attributes: &'a Map<String, Value>,
    scan_level: Option<u8>,
}

#[derive(Serialize)]
struct Trigger<'a> {
    event_id: Option<&'a str>,
    #[serde(rename = "type")]
    event_type: &'a str,
}

#[derive(Serialize)]
struct Timeouts {
    queue_s: i64,
    heartbeat_s: i64,
    run_s: i64,
}

/// Whole seconds, and none of a time-out that is shorter than one.
fn seconds(span: Span) -> i64 {
    let whole = span.whole_seconds();
    whole + i64::from(Span::seconds(whole) < span)
}

/// An instant as RFC 3339.
pub(super) struct Instant(pub Moment);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Every message is a struct whose maps have strings for keys and whose numbers are finite, which JSON always takes.
pub(super) fn encoded(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    match serde_json::to_writer(&mut bytes, message) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}
