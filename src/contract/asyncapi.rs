//! The AsyncAPI 3 document: which messages go on which channels, at RabbitMQ and at NATS.

use serde_json::{Map, Value, json};

use super::{SCHEMAS, document as schema};
use crate::bus::names;
use crate::wire::EVENT_TYPES;

/// A channel: its name, what it is about, its messages, and how each broker has it.
struct Channel {
    name: &'static str,
    about: &'static str,
    messages: &'static [&'static str],
    rabbitmq: Binding,
    /// The subject.
    nats: String,
    parameters: &'static [(&'static str, &'static str)],
    operation: &'static str,
    /// What muster does with it: send or receive.
    action: &'static str,
}

/// What a channel is at RabbitMQ.
enum Binding {
    /// A durable queue, reached through the default exchange.
    Queue(&'static str),
    Exchange {
        name: &'static str,
        kind: &'static str,
        routing_key: &'static str,
    },
}

fn channels() -> Vec<Channel> {
    let queue = |name: &'static str, about, message: &'static [&'static str], operation| Channel {
        name,
        about,
        messages: message,
        rabbitmq: Binding::Queue(name),
        nats: name.to_owned(),
        parameters: &[],
        operation,
        action: "receive",
    };
    vec![
        Channel {
            name: "events",
            about: "What happens to objects. RabbitMQ: a topic exchange with the durable queue muster.events bound by #. NATS: the stream MUSTER_EVENTS. Further queues to read are a setting (bus.intake).",
            messages: &["event"],
            rabbitmq: Binding::Exchange {
                name: names::EVENTS,
                kind: "topic",
                routing_key: "{type}",
            },
            nats: format!("{}.{{type}}", names::EVENTS),
            parameters: &[("type", "The type of the event.")],
            operation: "receiveEvents",
            action: "receive",
        },
        queue(
            "scan_profile_mutations",
            "Scan profiles, as OpenKAT sends them; read where a bus.intake says so.",
            &["openkat-scan-profile"],
            "receiveScanProfiles",
        ),
        queue(
            "raw_file_received",
            "Raw files, as OpenKAT sends them; read where a bus.intake says so.",
            &["openkat-raw-file"],
            "receiveRawFiles",
        ),
        queue(
            "object_events",
            "Objects, as OpenKAT's object store tells of them; read where a bus.intake of this or another name says so.",
            &["openkat-object"],
            "receiveObjects",
        ),
        Channel {
            name: "tasks",
            about: "Tasks, to the workers of a type. RabbitMQ: a direct exchange with the durable queue muster.tasks.<worker type>; persistent, mandatory, confirmed. NATS: the work-queue stream MUSTER_TASKS with a durable pull consumer named after the worker type.",
            messages: &["task", "openkat-task"],
            rabbitmq: Binding::Exchange {
                name: names::TASKS,
                kind: "direct",
                routing_key: "{workerType}",
            },
            nats: format!("{}.{{workerType}}", names::TASKS),
            parameters: &[("workerType", "The type of the workers.")],
            operation: "sendTasks",
            action: "send",
        },
        queue(
            names::STATUS,
            "What workers report. NATS: the stream MUSTER_STATUS.",
            &["status"],
            "receiveStatuses",
        ),
        Channel {
            name: "control",
            about: "What all workers are told. RabbitMQ: a fanout exchange. NATS: core messages. It may be lost: the lease is what counts.",
            messages: &["control"],
            rabbitmq: Binding::Exchange {
                name: names::CONTROL,
                kind: "fanout",
                routing_key: "",
            },
            nats: names::CONTROL.to_owned(),
            parameters: &[],
            operation: "sendControl",
            action: "send",
        },
        queue(
            names::COMMANDS,
            "Commands; the answer goes to reply_to with the same correlation_id. NATS: core requests, queue group muster.",
            &["request"],
            "answerCommands",
        ),
        Channel {
            name: "life",
            about: "What becomes of runs, tasks and schedules, where [lifecycle] is enabled. RabbitMQ: a topic exchange. NATS: the stream MUSTER_LIFECYCLE.",
            messages: &["life"],
            rabbitmq: Binding::Exchange {
                name: names::LIFECYCLE,
                kind: "topic",
                routing_key: "{type}",
            },
            nats: format!("{}.{{type}}", names::LIFECYCLE),
            parameters: &[("type", "The type of the event, such as task.finished.")],
            operation: "sendLife",
            action: "send",
        },
    ]
}

pub fn document() -> Value {
    let mut all = Map::new();
    let mut operations = Map::new();
    for channel in channels() {
        for broker in ["rabbitmq", "nats"] {
            let id = format!("{broker}.{}", channel.name);
            operations.insert(
                format!("{broker}.{}", channel.operation),
                operation(&channel, broker, &id),
            );
            all.insert(id, at(&channel, broker));
        }
    }
    for broker in ["rabbitmq", "nats"] {
        all.insert(
            format!("{broker}.replies"),
            json!({
                "address": null,
                "description": "Where the request says that it wants its answer.",
                "servers": [{"$ref": format!("#/servers/{broker}")}],
                "messages": {"reply": {"$ref": "#/components/messages/reply"}},
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "muster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Matches what happens to the things an organisation owns against schedules, and calls the workers together. Names of exchanges, queues and subjects are defaults. Unknown fields are accepted in events and statuses, and refused in commands and files.",
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {"host": "localhost:5672", "protocol": "amqp", "description": "bus.url = \"amqp://…\""},
            "nats": {"host": "localhost:4222", "protocol": "nats", "description": "bus.url = \"nats://…\""},
        },
        "channels": all,
        "operations": operations,
        "components": {"messages": messages(), "schemas": schemas()},
    })
}

fn at(channel: &Channel, broker: &str) -> Value {
    let mut described = json!({
        "description": channel.about,
        "servers": [{"$ref": format!("#/servers/{broker}")}],
        "messages": channel.messages.iter().map(|name| {
            ((*name).to_owned(), json!({"$ref": format!("#/components/messages/{name}")}))
        }).collect::<Map<String, Value>>(),
    });
    match broker {
        "rabbitmq" => {
            let (address, binding) = match &channel.rabbitmq {
                Binding::Queue(name) => (
                    *name,
                    json!({
                        "is": "queue",
                        "queue": {"name": name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": "/"},
                    }),
                ),
                Binding::Exchange {
                    name,
                    kind,
                    routing_key,
                } => (
                    // What goes to everybody has no key; the channel is called after its exchange.
                    if routing_key.is_empty() {
                        *name
                    } else {
                        *routing_key
                    },
                    json!({
                        "is": "routingKey",
                        "exchange": {"name": name, "type": kind, "durable": true, "autoDelete": false, "vhost": "/"},
                    }),
                ),
            };
            described["address"] = json!(address);
            described["bindings"] = json!({"amqp": binding});
        }
        _ => described["address"] = json!(channel.nats),
    }
    let named: Map<String, Value> = channel
        .parameters
        .iter()
        .map(|(name, about)| ((*name).to_owned(), json!({"description": about})))
        .collect();
    if !named.is_empty() {
        described["parameters"] = json!(named);
    }
    described
}

fn operation(channel: &Channel, broker: &str, id: &str) -> Value {
    let messages: Vec<Value> = channel
        .messages
        .iter()
        .map(|name| json!({"$ref": format!("#/channels/{id}/messages/{name}")}))
        .collect();
    let mut described = json!({
        "action": channel.action,
        "channel": {"$ref": format!("#/channels/{id}")},
        "messages": messages,
    });
    if channel.name == names::COMMANDS {
        let location = match broker {
            "rabbitmq" => "$message.header#/reply_to",
            _ => "$message.header#/reply",
        };
        described["reply"] = json!({
            "address": {"location": location, "description": "reply_to at RabbitMQ, the reply subject at NATS"},
            "channel": {"$ref": format!("#/channels/{broker}.replies")},
            "messages": [{"$ref": format!("#/channels/{broker}.replies/messages/reply")}],
        });
    }
    match (broker, channel.name) {
        ("rabbitmq", "tasks") => {
            described["bindings"] = json!({"amqp": {"deliveryMode": 2, "mandatory": true}});
        }
        ("nats", names::COMMANDS) => described["bindings"] = json!({"nats": {"queue": "muster"}}),
        _ => {}
    }
    described
}

/// What goes over a bus; files and the lines of `query --batch` have schemas of their own.
const CARRIED: [&str; 11] = [
    "event",
    "openkat-scan-profile",
    "openkat-raw-file",
    "openkat-object",
    "task",
    "openkat-task",
    "status",
    "control",
    "request",
    "reply",
    "life",
];

fn carried() -> impl Iterator<Item = (&'static str, &'static str)> {
    SCHEMAS
        .iter()
        .filter(|(name, _, _)| CARRIED.contains(name))
        .map(|(name, about, _)| (*name, *about))
}

fn schemas() -> Map<String, Value> {
    let named = |(name, _): (&str, &str)| {
        let mut schema = schema(name)?;
        if let Value::Object(members) = &mut schema {
            // Within a document a schema is found by its place.
            members.remove("$id");
            members.remove("$schema");
        }
        Some((name.to_owned(), schema))
    };
    carried().filter_map(named).collect()
}

fn messages() -> Map<String, Value> {
    carried()
        .map(|(name, about)| {
            let mut message = json!({
                "name": name,
                "summary": about,
                "contentType": content_type(name),
                "payload": {"$ref": format!("#/components/schemas/{name}")},
                "examples": examples(name).into_iter().map(|payload| json!({"payload": payload})).collect::<Vec<_>>(),
            });
            if let Some(headers) = headers(name) {
                message["headers"] = headers;
            }
            if matches!(name, "request" | "reply") {
                message["correlationId"] = json!({"location": "$message.header#/correlation_id"});
            }
            (name.to_owned(), message)
        })
        .collect()
}

fn content_type(name: &str) -> &'static str {
    match name {
        "event" | "life" => "application/cloudevents+json",
        _ => "application/json",
    }
}

/// Properties and headers that a message has beside its body.
fn headers(name: &str) -> Option<Value> {
    let text = |about: &str| json!({"type": "string", "description": about});
    let signed = json!({
        "muster-key": text("the id of a [[keys]] entry, where requests are signed"),
        "muster-signature": text("hex HMAC-SHA256 of the body"),
    });
    let mut properties = match name {
        "task" | "openkat-task" => json!({
            "message_id": text("<task id>:<attempt>; at NATS the header Nats-Msg-Id"),
            "correlation_id": text("the id of the task"),
            "reply_to": text("where statuses go"),
        }),
        "status" => json!({}),
        "request" => {
            json!({"reply_to": text("where the answer goes"), "correlation_id": text("comes back with the answer")})
        }
        "reply" => json!({"correlation_id": text("that of the request")}),
        _ => return None,
    };
    if let ("status" | "request", Value::Object(properties), Value::Object(signed)) =
        (name, &mut properties, signed)
    {
        properties.extend(signed);
    }
    Some(json!({"type": "object", "properties": properties}))
}

fn examples(name: &str) -> Vec<Value> {
    let event = |kind: &str, data: Value| json!({"specversion": "1.0", "id": "e-1", "source": "/inventory", "type": kind, "time": "2026-11-21T09:30:00Z", "data": data});
    let key = "Hostname|internet|www.example.com";
    let attributes = json!({"name": "www.example.com"});
    match name {
        "event" => EVENT_TYPES
            .iter()
            .map(|kind| {
                let mut data = json!({"organization": "acme", "object_type": "hostname", "primary_key": key});
                match *kind {
                    "object.created" | "object.updated" => {
                        data["attributes"] = attributes.clone();
                        data["scan_level"] = json!(2);
                    }
                    "scan_profile.created" | "scan_profile.updated" => data["scan_level"] = json!(3),
                    "raw_data.created" => {
                        data = json!({
                            "organization": "acme", "id": "2a6c9c0e", "mime_types": ["application/json"], "plugin_id": "dns-records",
                            "input": {"object_type": "hostname", "primary_key": key},
                        });
                    }
                    _ => {}
                }
                event(kind, data)
            })
            .collect(),
        "openkat-scan-profile" => vec![
            json!({"operation": "create", "primary_key": key, "client_id": "acme", "value": {
                "primary_key": key, "object_type": "Hostname",
                "scan_profile": {"scan_profile_type": "declared", "reference": key, "level": 2, "user_id": 7},
            }}),
            json!({"operation": "delete", "primary_key": key, "value": null, "client_id": "acme"}),
        ],
        "openkat-raw-file" => vec![json!({
            "event_id": "raw_file_received", "created_at": "2026-03-02T10:15:30.120000Z", "organization": "acme",
            "raw_data": {
                "id": "2a6c9c0e-6f4d-4b39-9d0c-5d1c0f6b8a01",
                "boefje_meta": {
                    "id": "9f1d5a52-0a5e-4b0f-8f6c-1c7f0a2b3c44", "started_at": "2026-03-02T10:15:21Z", "ended_at": "2026-03-02T10:15:29Z",
                    "boefje": {"id": "dns-records", "version": null}, "input_ooi": key,
                },
                "mime_types": [{"value": "boefje/dns-records"}, {"value": "application/json"}],
            },
        })],
        "openkat-object" => vec![json!({
            "entity_type": "ooi", "operation_type": "create", "valid_time": "2026-03-02T10:15:35Z", "client": "acme", "old_data": null,
            "new_data": {"object_type": "Hostname", "scan_profile": null, "primary_key": key, "name": "www.example.com"},
        })],
        "task" => vec![json!({
            "id": "01936000-0000-7000-8000-000000000001", "attempt": 1, "run_id": "01936000-0000-7000-8000-00005f2c91ab",
            "run_name": "hostnames-created-5f2c91ab", "schedule": "hostnames-created", "organization": "acme", "worker_type": "boefje",
            "plugin": {"plugin_id": "dns-records", "version": "1", "oci_image": "registry.example/generic:1", "oci_arguments": ["dig", "{hostname}"], "runtime": null, "artefact": null},
            "arguments": ["dig", "www.example.com"],
            "inputs": [{"object_type": "hostname", "primary_key": key, "attributes": attributes, "scan_level": 2}],
            "settings": {}, "parameters": {}, "secrets": [], "deduplication_key": null, "expires_at": "2026-11-21T10:30:02Z",
            "trigger": {"event_id": "e-1", "type": "object.created"}, "cause": "event", "priority": 2,
            "scheduled_for": "2026-11-21T09:30:00Z", "created_at": "2026-11-21T09:30:00Z", "late_by_s": 0,
            "timeouts": {"queue_s": 3600, "heartbeat_s": 60, "run_s": 900}, "avoid_workers": [], "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        })],
        "openkat-task" => vec![json!({
            "id": "01936000-0000-7000-8000-000000000001", "scheduler_id": "boefje", "schedule_id": "5f2c91ab-0a5e-5b0f-8f6c-1c7f0a2b3c44",
            "organisation": "acme", "priority": 1_795_254_600, "status": "queued", "type": "boefje", "hash": "7520fc55c8babe696f74a1360da4b20b",
            "data": {"id": "01936000-0000-7000-8000-000000000001", "boefje": {"id": "dns-records", "name": "DNS records", "version": null, "oci_image": null},
                "input_ooi": key, "organization": "acme", "deduplication_key": null, "dispatches": []},
            "created_at": "2026-11-21T09:30:00Z", "modified_at": "2026-11-21T09:30:00Z",
        })],
        "status" => vec![
            json!({"task_id": "01936000-0000-7000-8000-000000000001", "attempt": 1, "worker": "w1", "status": "accepted", "at": "2026-11-21T09:30:01Z"}),
            json!({"task_id": "01936000-0000-7000-8000-000000000001", "attempt": 1, "worker": "w1", "status": "failed", "at": "2026-11-21T09:31:00Z", "class": "retryable", "exit_code": 1}),
            json!({"task_id": "01936000-0000-7000-8000-000000000001", "status": "completed"}),
        ],
        "control" => vec![
            json!({"type": "cancel", "task_id": "01936000-0000-7000-8000-000000000001", "attempt": 2, "worker": "w1"}),
        ],
        "request" => vec![
            json!({"id": "r-1", "command": "run.start", "organization": null, "args": {"schedule": "nightly"}}),
            json!({"id": "r-2", "command": "task.cancel", "organization": "acme", "args": {"where": "plugin_id = 'nmap'", "yes": true}}),
        ],
        "reply" => vec![
            json!({"id": "r-1", "ok": true, "result": {"request_id": "r-1", "runs": []}}),
            json!({"id": "r-1", "ok": false, "error": {"code": "not_found", "message": "no schedule `nightly` is known", "help": ""}}),
        ],
        "life" => vec![
            json!({"specversion": "1.0", "id": "01936000-0000-7000-8000-000000000001:1:task.accepted", "source": "/muster",
                "type": "task.accepted", "subject": "01936000-0000-7000-8000-000000000001", "time": "2026-11-21T09:30:01Z",
                "datacontenttype": "application/json", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "data": {"organization": "acme", "state": "running", "reason": null, "run_id": "01936000-0000-7000-8000-00005f2c91ab",
                    "run_name": "hostnames-created-5f2c91ab", "schedule": "hostnames-created", "schedule_id": "01936000-0000-7000-8000-0000000000aa",
                    "task_id": "01936000-0000-7000-8000-000000000001", "attempt": 1, "worker": "w1", "plugin_id": "dns-records",
                    "worker_type": "boefje", "cause": "event", "priority": 2,
                    "inputs": [{"object_type": "hostname", "primary_key": key}],
                    "created_at": "2026-11-21T09:30:00Z", "scheduled_for": "2026-11-21T09:30:00Z"}}),
        ],
        _ => Vec::new(),
    }
}
