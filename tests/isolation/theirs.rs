//! What another organisation has: objects, schedules, runs, tasks, attempts, dead letters, sets, targets, settings. All of
//! it has a name that nothing else has.

use serde_json::{Value, json};

use crate::asking::{Asker, Signer, request};
use crate::support::broker::{Broker, Parcel};
use crate::support::process::{House, until};

pub const OURS: &str = "acme";
pub const THEIRS: &str = "zebra";

pub const SETTINGS: &str = r#"
[workers.reader]
level_gate = "if_set"
[object_types.network]
fields = { name = "text" }
[object_types.hostname]
fields = { name = "text", network = "rel(network)?", neighbours = "many(hostname)" }
"#;

pub const DECLARED: &str = r#"
- {kind: organization, id: acme}
- {kind: organization, id: zebra, name: zq-company}
- kind: plugin
  plugin_id: dns
  worker_type: reader
  consumes: [hostname]
  retry: {max: 1, first: 1s, cap: 1s}
  organizations: {zebra: {enabled: true, settings: {token: zq-token}}}
- {kind: plugin, plugin_id: feed, worker_type: reader}
- {kind: calendar, name: freeze, dates: ["2031-01-01"]}
- {kind: object_set, name: zq-set, organization: zebra, object_type: hostname, query: "name startswith 'zq'"}
- {kind: object_set, name: zq-keys, organization: zebra, object_type: hostname, keys: [zq-key-1, own-1]}
- {name: hosts, run_on: hostname, operation: created, plugins: "plugin_id = 'dns'"}
- {name: feeds, recurrences: yearly, plugins: "plugin_id = 'feed'", input: {}, overlap: allow}
- {name: twin, organization: acme, run_on: hostname, operation: created, plugins: "plugin_id = 'feed'", when: "name = 'none'"}
- {name: twin, organization: zebra, run_on: hostname, operation: created, plugins: "plugin_id = 'feed'", when: "name = 'zq-when'"}
- name: zq-nightly
  organization: zebra
  recurrences: yearly
  plugins: "plugin_id = 'feed'"
  input: {}
  overlap: allow
  parameters: {password: zq-parameter}
- {name: zq-target, organization: zebra, recurrences: yearly, plugins: "plugin_id = 'dns'", target: zq-key-1, overlap: allow}
"#;

/// Their work, by its names and ids.
pub struct Theirs {
    pub schedule: &'static str,
    pub schedule_id: String,
    pub targeting: &'static str,
    pub targeting_id: String,
    pub set: &'static str,
    pub object: &'static str,
    pub object_name: &'static str,
    pub network_name: &'static str,
    pub late_name: &'static str,
    pub event: &'static str,
    /// The id of a request of theirs, and the run that it started.
    pub request: &'static str,
    pub run: String,
    pub dead: String,
    pub running: String,
    pub offered: String,
    /// A task of ours, which waits in the same queue as theirs.
    pub of_ours: String,
    /// A message that nobody could read, and so nobody's.
    pub unreadable: String,
    /// Nothing of this may be in an answer to anybody else.
    pub secrets: Vec<String>,
}

fn event(id: &str, organization: &str, object_type: &str, key: &str, attributes: &Value) -> Parcel {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "/inventory", "type": "object.created",
        "data": {"organization": organization, "object_type": object_type, "primary_key": key,
                 "attributes": attributes, "scan_level": 2},
    });
    Parcel {
        key: "object.created".to_owned(),
        content_type: Some("application/cloudevents+json"),
        body: event.to_string().into_bytes(),
        ..Parcel::default()
    }
}

/// An event of theirs that comes after everything else.
pub fn late(theirs: &Theirs) -> Parcel {
    let attributes = json!({"name": theirs.late_name, "neighbours": []});
    event(
        "zq-event-late",
        THEIRS,
        "hostname",
        "zq-key-late",
        &attributes,
    )
}

async fn done(asker: &mut impl Asker, command: &str, args: Value) -> Value {
    let reply = asker
        .ask(&request(None, Some(THEIRS), command, &args))
        .await;
    assert_eq!(reply["ok"], true, "{command} {args}: {reply}");
    reply["result"].clone()
}

/// The task on an object, once it is offered.
async fn task_on(asker: &mut impl Asker, key: &str) -> String {
    let args =
        json!({"where": format!("any(inputs: primary_key = '{key}') and state = 'dispatched'")});
    let body = request(None, Some(THEIRS), "task.list", &args);
    until("the task is offered", async || {
        let reply = asker.ask(&body).await;
        Some(reply["result"]["tasks"].get(0)?["id"].as_str()?.to_owned())
    })
    .await
}

async fn comes_to(asker: &mut impl Asker, task: &str, state: &str) {
    let body = request(None, Some(THEIRS), "task.get", &json!({"task_id": task}));
    until("a task is as its worker said", async || {
        let reply = asker.ask(&body).await;
        (reply["result"]["state"] == state).then_some(())
    })
    .await;
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Makes it all, by their own words.
pub async fn made<B: Broker>(
    house: &House,
    broker: &B,
    asker: &mut impl Asker,
    signer: Option<&Signer>,
) -> Theirs {
    asker.speak_as(signer.map(|signer| (signer, THEIRS)));
    let host = |name: &str| json!({"name": name, "neighbours": [], "network": "zq-net"});
    // Ours points at theirs, as far as keys can.
    let own = json!({"name": "own", "neighbours": ["zq-key-1"], "network": "zq-net"});
    broker
        .publish(&[
            event(
                "zq-event-0",
                THEIRS,
                "network",
                "zq-net",
                &json!({"name": "zq-network"}),
            ),
            event(
                "zq-event-1",
                THEIRS,
                "hostname",
                "zq-key-1",
                &host("zq-name-1"),
            ),
            event(
                "zq-event-2",
                THEIRS,
                "hostname",
                "zq-key-2",
                &host("zq-name-2"),
            ),
            event(
                "zq-event-3",
                THEIRS,
                "hostname",
                "zq-key-3",
                &host("zq-name-3"),
            ),
            event("own-event-1", OURS, "hostname", "own-1", &own),
            Parcel {
                key: "object.created".to_owned(),
                body: b"{\"zq-garbage\": no JSON".to_vec(),
                ..Parcel::default()
            },
        ])
        .await;
    let (dead, running) = (
        task_on(asker, "zq-key-1").await,
        task_on(asker, "zq-key-2").await,
    );
    let offered = task_on(asker, "zq-key-3").await;
    let at = "2026-11-21T09:31:00Z";
    for status in [
        json!({"task_id": dead, "attempt": 1, "worker": "zq-worker", "status": "accepted", "at": at}),
        json!({"task_id": dead, "attempt": 1, "worker": "zq-worker", "status": "failed", "class": "retryable",
               "message": "zq-message", "log_ref": "zq-log", "log_tail": "zq-tail", "at": at}),
        json!({"task_id": running, "attempt": 1, "worker": "zq-worker", "status": "accepted", "at": at}),
    ] {
        asker.report(&status).await;
    }
    comes_to(asker, &dead, "dead").await;
    comes_to(asker, &running, "running").await;
    let asked = request(
        Some("zq-request"),
        Some(THEIRS),
        "run.start",
        &json!({"schedule": "zq-nightly"}),
    );
    let started = asker.ask(&asked).await;
    let run = text(&started["result"]["run_id"]);
    let targeted = done(asker, "run.start", json!({"schedule": "zq-target"})).await;
    done(
        asker,
        "schedule.pause",
        json!({"schedule": "zq-target", "reason": "zq-reason"}),
    )
    .await;
    let runs = done(asker, "run.list", json!({"limit": 1000})).await;
    let tasks = until("all that they have is offered", async || {
        let body = request(None, Some(THEIRS), "task.list", &json!({"limit": 1000}));
        let reply = asker.ask(&body).await;
        let tasks = reply["result"]["tasks"].as_array()?.clone();
        let waits = |task: &Value| task["state"] == "queued";
        (tasks.len() == 5 && !tasks.iter().any(waits)).then_some(tasks)
    })
    .await;
    let schedules = done(asker, "schedule.list", json!({})).await;
    let id_of = |name: &str| {
        let all = schedules["schedules"].as_array().expect("schedules");
        let found = all
            .iter()
            .find(|one| one["name"] == name && one["organization"] == THEIRS);
        text(&found.expect("it is there")["schedule_id"])
    };
    let letters = house.json(&["dead-letter", "list"]);
    let letters = letters.as_array().expect("letters");
    let unreadable = letters.iter().find(|letter| letter["kind"] == "message");
    let unreadable = text(&unreadable.expect("what nobody can read")["id"]);

    let mut secrets = vec![
        unreadable.clone(),
        text(&targeted["run_id"]),
        id_of("twin"),
        id_of("zq-nightly"),
        id_of("zq-target"),
        "zq-".to_owned(),
        THEIRS.to_owned(),
    ];
    secrets.extend(tasks.iter().map(|task| text(&task["id"])));
    let runs = runs["runs"].as_array().expect("runs").iter();
    secrets.extend(runs.map(|run| text(&run["run_id"])));
    Theirs {
        schedule: "zq-nightly",
        schedule_id: id_of("zq-nightly"),
        targeting: "zq-target",
        targeting_id: id_of("zq-target"),
        set: "zq-set",
        object: "zq-key-1",
        object_name: "zq-name-1",
        network_name: "zq-network",
        late_name: "zq-name-late",
        event: "zq-event-1",
        request: "zq-request",
        run,
        dead,
        running,
        offered,
        of_ours: text(&house.json(&["task", "list", "--organization", OURS])[0]["id"]),
        unreadable,
        secrets,
    }
}

/// Everything that is theirs, as an operator sees it.
pub fn state(house: &House) -> Vec<Value> {
    let mut all = Vec::new();
    for noun in [
        "object",
        "run",
        "task",
        "attempt",
        "dead-letter",
        "schedule",
    ] {
        all.push(house.json(&[noun, "list", "--organization", THEIRS, "--limit", "1000"]));
    }
    all.push(house.json(&["dead-letter", "list", "--limit", "1000"]));
    let declared = house.json(&["export"]);
    let declared = declared.as_array().expect("entries").iter();
    // What is said of us in what is everybody's is ours.
    let not_ours = declared.filter(|entry| entry["organization"] != OURS);
    all.extend(not_ours.cloned().map(|mut entry| {
        let said = entry["organizations"].as_object();
        let mut said = said.cloned().unwrap_or_default();
        said.remove(OURS);
        entry["organizations"] = Value::Object(said);
        entry
    }));
    all
}

/// Every word that a worker can say, of tasks of theirs and signed by us; answers with how many there were.
pub async fn report_as_others(asker: &mut impl Asker, theirs: &Theirs, signer: &Signer) -> u64 {
    asker.speak_as(Some((signer, OURS)));
    let words = [
        json!({"status": "accepted"}),
        json!({"status": "heartbeat", "done": 1, "total": 1}),
        json!({"status": "succeeded", "outputs": []}),
        json!({"status": "failed", "class": "fatal", "message": "no"}),
        json!({"status": "declined", "reason": "no", "retry_in_s": 1}),
        json!({"status": "cancelled", "reason": "no"}),
        json!({"status": "snooze", "until": "2030-01-01T00:00:00Z"}),
        json!({"status": "never_again", "reason": "no"}),
        json!({"status": "completed"}),
    ];
    let mut told = 0;
    for task in [&theirs.running, &theirs.offered, &theirs.dead] {
        for word in &words {
            let mut status = json!({
                "task_id": task, "attempt": 1, "worker": "zq-worker", "at": "2026-11-21T09:32:00Z",
            });
            for (name, value) in word.as_object().expect("fields") {
                status[name] = value.clone();
            }
            asker.report(&status).await;
            told += 1;
        }
    }
    told
}
