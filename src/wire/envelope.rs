//! OpenKAT's own task envelope, so that its runners' models read a task as theirs.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::murmur::murmur3_x64_128;
use super::offer::{Instant, encoded};
use crate::moment::Moment;
use crate::run::Cause;
use crate::task::{Offer, OfferedInput};

/// The priority of what a person asked for; the others have an instant in seconds, so they come after it.
const MANUAL: i64 = 1;

/// A task as OpenKAT's scheduler would hand it out. One task has at most one input there.
pub fn openkat_task_message(offer: &Offer) -> Vec<u8> {
    let input = offer.inputs.first();
    let (data, since) = match offer.worker_type.as_str() {
        "normalizer" => {
            let raw_data = input.map(|input| raw_data(offer, input));
            let ended = raw_data.as_deref().and_then(end_of_run);
            let normalizer = Data::Normalizer {
                id: &offer.task_id,
                normalizer: Normalizer {
                    id: &offer.plugin.plugin_id,
                    name: &offer.plugin.name,
                    version: offer.plugin.version.as_deref(),
                },
                raw_data,
            };
            (normalizer, ended.unwrap_or(offer.created_at))
        }
        "report" => {
            let report = Data::Report {
                organisation_id: &offer.organization,
                report_recipe_id: recipe(offer, input),
            };
            (report, offer.created_at)
        }
        _ => {
            let boefje = Data::Boefje {
                id: &offer.task_id,
                boefje: Boefje {
                    id: &offer.plugin.plugin_id,
                    name: &offer.plugin.name,
                    version: offer.plugin.version.as_deref(),
                    oci_image: offer.plugin.oci_image.as_deref(),
                },
                input_ooi: input.map(|input| input.primary_key.as_str()),
                organization: &offer.organization,
                deduplication_key: offer.deduplication_key.as_deref(),
                dispatches: [],
            };
            (boefje, offer.created_at)
        }
    };
    encoded(&Envelope {
        id: &offer.task_id,
        scheduler_id: &offer.worker_type,
        schedule_id: schedule_id(offer),
        organisation: &offer.organization,
        priority: match offer.cause {
            Cause::Manual => MANUAL,
            _ => since.micros().div_euclid(1_000_000),
        },
        status: "queued",
        kind: &offer.worker_type,
        hash: hash(offer, input),
        data,
        created_at: Instant(offer.created_at),
        modified_at: Instant(offer.created_at),
    })
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    scheduler_id: &'a str,
    schedule_id: String,
    organisation: &'a str,
    priority: i64,
    status: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    hash: String,
    data: Data<'a>,
    created_at: Instant,
    modified_at: Instant,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Boefje {
        id: &'a str,
        boefje: Boefje<'a>,
        input_ooi: Option<&'a str>,
        organization: &'a str,
        deduplication_key: Option<&'a str>,
        dispatches: [&'a str; 0],
    },
    Normalizer {
        id: &'a str,
        normalizer: Normalizer<'a>,
        raw_data: Option<Cow<'a, Value>>,
    },
    Report {
        organisation_id: &'a str,
        report_recipe_id: &'a str,
    },
}

#[derive(Serialize)]
struct Boefje<'a> {
    id: &'a str,
    name: &'a str,
    version: Option<&'a str>,
    oci_image: Option<&'a str>,
}

#[derive(Serialize)]
struct Normalizer<'a> {
    id: &'a str,
    name: &'a str,
    version: Option<&'a str>,
}

/// OpenKAT's models want a UUID; ours is made of what is unique: the organisation and the name of the schedule in it.
fn schedule_id(offer: &Offer) -> String {
    let name = format!("{}/{}", offer.organization, offer.schedule);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
}

/// The same for two tasks of one plugin, input and organisation.
fn hash(offer: &Offer, input: Option<&OfferedInput>) -> String {
    let plugin = &offer.plugin.plugin_id;
    let organization = &offer.organization;
    let text = match input {
        Some(input) => format!("{}-{plugin}-{organization}", input.primary_key),
        None => format!("{plugin}-{organization}"),
    };
    let mut hex = String::with_capacity(32);
    for byte in murmur3_x64_128(text.as_bytes()) {
        // Writing into a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The `raw_data` of the event that told of the file; of a file that another format told of, the same made from what is
/// known of it.
fn raw_data<'a>(offer: &Offer, file: &'a OfferedInput) -> Cow<'a, Value> {
    if let Some(raw_data @ Value::Object(_)) = file.attributes.get("raw_data") {
        return Cow::Borrowed(raw_data);
    }
    let known = |name: &str| file.attributes.get(name).cloned().unwrap_or_default();
    let mime_types = file.attributes.get("mime_types").and_then(Value::as_array);
    let mime_types: Vec<Value> = mime_types
        .into_iter()
        .flatten()
        .map(|mime| json!({ "value": mime }))
        .collect();
    Cow::Owned(json!({
        "id": file.primary_key,
        "boefje_meta": {
            "id": known("task_id"),
            "started_at": known("started_at"),
            "ended_at": known("ended_at"),
            "boefje": { "id": known("plugin_id"), "version": null },
            "input_ooi": known("input_key"),
            "arguments": Map::new(),
            "organization": offer.organization,
            "runnable_hash": null,
            "environment": null,
        },
        "mime_types": mime_types,
        "secure_hash": null,
        "signing_provider_url": null,
        "hash_retrieval_link": null,
    }))
}

/// When the run that made the file ended.
fn end_of_run(raw_data: &Value) -> Option<Moment> {
    let ended = raw_data.get("boefje_meta")?.get("ended_at")?.as_str()?;
    Moment::parse(ended).ok()
}

/// The recipe of a report: the request names it, else the input is one.
fn recipe<'a>(offer: &'a Offer, input: Option<&'a OfferedInput>) -> &'a str {
    if let Some(Value::String(id)) = offer.parameters.get("report_recipe_id") {
        return id;
    }
    let key = input.map_or("", |input| input.primary_key.as_str());
    key.rsplit('|').next().unwrap_or(key)
}
