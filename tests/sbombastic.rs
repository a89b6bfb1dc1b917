//! Discovery of registries as a whole: registries and images as objects, schedules and requests, workers as processes, NATS
//! and PostgreSQL. Rows of the seed (S1–S49) are noted at the tests that show them. Shown elsewhere:
//!
//! - S6 (a selector that says nothing is all of the type): `tests/expansion.rs`, whose schedules say `hostname: null`
//! - S22, S37 (the end and what follows from it are one transaction): `tests/crash.rs`, and
//!   `an_end_is_told_once_whoever_is_killed_and_however_often_it_is_reported` of `tests/runs/chained.rs`; the pointers are
//!   derived, so nothing is copied: `tests/runs.rs`, `a_target_shows_pointers_that_are_derived_from_its_runs`
//! - S30 (schedules are kept compiled, by revision): `tests/store.rs`, `what_changed_since_a_revision_is_read_alone` and
//!   `a_changed_catalogue_makes_the_decision_stale`
//! - S31 (instants are decided, not looked for each minute): `tests/year.rs`
//! - S35 (a newer request takes the place of one that waits): `tests/runs.rs`,
//!   `a_manual_request_takes_the_pending_place_and_never_the_other_way`
//! - S40 is missing from the seed's own numbering.

mod support;

use std::time::Duration;

use muster::moment::Moment;
use serde_json::{Value, json};
use support::broker::{Broker, OnNats, Parcel};
use support::process::{House, Service, until};
use support::servers::{Nats, Postgres};

const DECLARED: &str = include_str!("../config/sbombastic.yaml");
const SETTINGS: &str = "[workers.discoverer]\n[workers.scanner]\n[work]\ngrace = \"1s\"\n\
    [work.secrets]\nREGISTRY_CREDENTIALS = \"open sesame\"\n";
const SCHEDULE: &str = "discover-registry-example";
const REGISTRY: &str = "registry-example";
const RECURRENCES: &str = "[\"0 1 * * *\", \"0 13 * * 1-5\", {period: 1h, anchor: completion}]";

/// Tells what it was asked, waits until it may end, and says how far it is.
const DISCOVER: &str = "echo \"$2 $3 $4 ${REGISTRY_CREDENTIALS:+with credentials}\" >> \"$1/discovered\"\n\
    echo '::progress 1/2 listed'\n\
    while [ -d \"$1\" ] && [ ! -e \"$1/go\" ]; do sleep 0.05; done\n\
    echo '::progress 2/2 told'\n\
    echo '{\"images\": 2}' > \"$MUSTER_TASK_OUTPUTS\"\n";

/// One namespace with its servers and its service.
struct Namespace {
    house: House,
    broker: OnNats,
    nats: Nats,
    _postgres: Postgres,
    _service: Service,
}

impl Namespace {
    async fn open() -> Namespace {
        let (postgres, nats) = (Postgres::with(&["fsync=off"]), Nats::start());
        let house = House::new(&postgres.url(), &nats.url(), SETTINGS);
        house.write("discover.sh", DISCOVER.as_bytes());
        house.apply("sbombastic.yaml", DECLARED);
        let service = house.service();
        let broker = OnNats::connect(&nats.url()).await;
        let there = Namespace {
            house,
            broker,
            nats,
            _postgres: postgres,
            _service: service,
        };
        there
            .told(
                "registry",
                REGISTRY,
                json!({"uri": "https://registry.example.org", "repositories": ["repo1", "repo2"]}),
            )
            .await;
        there
    }

    /// An object is told of on the bus, and waited for.
    async fn told(&self, object_type: &str, key: &str, attributes: Value) {
        self.tell("object.created", object_type, key, attributes)
            .await;
        until("the object is known", async || {
            let objects = self.house.json(&["object", "list", "--limit", "1000"]);
            let all = objects.as_array()?;
            all.iter()
                .any(|object| object["primary_key"] == key)
                .then_some(())
        })
        .await;
    }

    async fn tell(&self, event: &str, object_type: &str, key: &str, attributes: Value) {
        let body = json!({
            "specversion": "1.0", "id": format!("{event}-{key}-{}", Moment::now()), "source": "/registries", "type": event,
            "data": {"organization": "default", "object_type": object_type, "primary_key": key, "attributes": attributes},
        });
        let parcel = Parcel {
            key: event.to_owned(),
            content_type: Some("application/cloudevents+json"),
            body: body.to_string().into_bytes(),
            ..Parcel::default()
        };
        self.broker.publish(&[parcel]).await;
    }

    async fn image(&self, registry: &str, name: &str) {
        let attributes = json!({"registry": registry, "repository": "repo1", "name": name});
        self.told("image", &format!("{registry}/{name}"), attributes)
            .await;
    }

    fn discoverer(&self) -> Service {
        let folder = self.house.path("").display().to_string();
        let exec = format!("sh {folder}/discover.sh {folder} {{input.uri}} {{run_name}} {{cause}}");
        self.worker("discoverer", &exec)
    }

    fn worker(&self, worker_type: &str, exec: &str) -> Service {
        let arguments = [
            "work",
            "--type",
            worker_type,
            "--name",
            worker_type,
            "--exec",
            exec,
        ];
        self.house.beside(worker_type, &arguments, &[])
    }

    /// The discovery comes at once, by the clock.
    fn due(&self) {
        let at = self.house.soon();
        assert!(DECLARED.contains(RECURRENCES));
        let text = DECLARED.replace(RECURRENCES, &format!("{{at: \"{at}\"}}"));
        self.house.apply("due.yaml", &text);
    }

    /// What the registry shows of its discoveries, once that is so.
    async fn shows(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let shown = self.target();
            so(&shown).then_some(shown)
        })
        .await
    }

    fn target(&self) -> Value {
        self.house.json(&[
            "target",
            "get",
            SCHEDULE,
            REGISTRY,
            "--organization",
            "default",
        ])
    }

    fn run(&self, id: &Value) -> Value {
        self.house
            .json(&["run", "get", id.as_str().expect("an id")])
    }

    fn condition(&self, id: &Value, kind: &str) -> (bool, String) {
        let run = self.run(id);
        let conditions = run["conditions"].as_array().expect("conditions");
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == kind);
        let condition = found.expect("the condition");
        // S43
        assert_eq!(condition["observed_revision"], run["schedule_revision"]);
        (
            condition["status"] == true,
            condition["reason"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// What a command on NATS is answered.
    async fn command(
        &self,
        command: &str,
        id: Option<&str>,
        organization: &str,
        args: Value,
    ) -> Value {
        let client = async_nats::connect(self.nats.url())
            .await
            .expect("connected");
        let asked =
            json!({"id": id, "command": command, "organization": organization, "args": args});
        let reply = client
            .request("muster.commands", asked.to_string().into())
            .await
            .expect("a reply");
        serde_json::from_slice(&reply.payload).expect("JSON")
    }

    fn go(&self) {
        self.house.write("go", b"");
    }
}

/// S3, S5, S7–S9, S11–S22, S24–S29, S36 in part, S39, S41–S44, S47–S49: by the clock, with all that the registry and the
/// run show of it meanwhile and afterwards; what it found is scanned after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_is_discovered_by_the_clock_and_its_images_are_scanned_after_it() {
    let there = Namespace::open().await;
    let house = &there.house;
    // S7, S8: the union of the crons and the period.
    let after = "2026-11-23T11:30:00Z";
    let preview = house.json(&[
        "schedule", "preview", SCHEDULE, "-n", "200", "--after", after,
    ]);
    let instants: Vec<&str> = preview[0]["instants"]
        .as_array()
        .expect("instants")
        .iter()
        .filter_map(|instant| instant["utc"].as_str())
        .collect();
    for cron in ["2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z"] {
        assert_eq!(
            instants.iter().filter(|at| **at == cron).count(),
            1,
            "{cron} in {instants:?}"
        );
    }
    assert_eq!(there.target()["running"], Value::Null);

    let worker = there.discoverer();
    // S3, S27: its schedule is edited, and that is a new revision.
    there.due();
    let running = there
        .shows("a discovery runs", |shown| {
            shown["running"]["started_at"].is_string()
        })
        .await["running"]
        .clone();
    assert_eq!(running["cause"], "on_time");
    assert_eq!(running["schedule_revision"], 2);
    // S41, S42: what the worker says of its progress is the run's own.
    let task = until("the worker's progress", async || {
        let attempts = house.json(&["attempt", "list"]);
        let attempt = attempts.as_array()?.first()?.clone();
        (attempt["done"] == 1 && attempt["total"] == 2).then_some(attempt)
    })
    .await;
    assert!(task["accepted_at"].is_string());
    // S12: set once, whatever the worker says.
    assert_eq!(there.target()["running"], running);
    assert_eq!(there.target()["last"], Value::Null);
    let id = &running["run_id"];
    assert_eq!(
        there.condition(id, "accepted"),
        (true, "accepted".to_owned())
    );
    assert!(there.condition(id, "progressing").0);
    // S5, S39, S49: the worker has the registry's attributes, the run and its cause, and what the secret stands for.
    let said = std::fs::read_to_string(house.path("discovered")).expect("it began");
    let name = running["run_name"].as_str().expect("a name");
    assert_eq!(
        said,
        format!("https://registry.example.org {name} on_time with credentials\n")
    );

    for (registry, image) in [(REGISTRY, "a"), (REGISTRY, "b"), ("another", "c")] {
        there.image(registry, image).await;
    }
    there.go();
    let shown = there
        .shows("the discovery has ended", |shown| shown["last"].is_object())
        .await;
    // S16–S22: what was running is the last, and nothing runs.
    assert_eq!(shown["running"], Value::Null);
    for same in [
        "cause",
        "started_at",
        "run_name",
        "run_id",
        "schedule_revision",
    ] {
        assert_eq!(shown["last"][same], running[same], "{same}");
    }
    assert!(shown["last"]["finished_at"].is_string());
    assert_eq!(shown["last_success"], shown["last"]);
    assert_eq!(shown["last_failure"], Value::Null);
    // S24–S26
    assert_eq!(
        there.condition(id, "progressing"),
        (false, "finished".to_owned())
    );
    assert_eq!(
        there.condition(id, "failed"),
        (false, "no_failure".to_owned())
    );
    // S47: the images are listed, and not scanned yet.
    assert_eq!(
        there.condition(id, "complete"),
        (false, "descendants".to_owned())
    );
    let scanner = there.worker("scanner", "sh -c exit");
    until("the discovery is complete", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        there.condition(id, "complete").0.then_some(())
    })
    .await;
    assert_eq!(
        there.condition(id, "complete"),
        (true, "succeeded".to_owned())
    );
    // S9: a schedule of its own, after every discovery.
    let runs = house.json(&["run", "list"]);
    let scans: Vec<&Value> = runs
        .as_array()
        .expect("runs")
        .iter()
        .filter(|run| run["schedule"] == "scan-discovered")
        .collect();
    assert_eq!(scans.len(), 1, "{runs}");
    let scan = there.run(&scans[0]["id"]);
    assert_eq!(
        (&scan["cause"], &scan["parent_id"]),
        (&json!("chained"), id)
    );
    assert_eq!(
        scan["counters"]["succeeded"], 2,
        "the images of this registry alone: {scan}"
    );
    let database = house.database().await;
    let leaked = database
        .count("SELECT count(*) FROM attempt WHERE log_tail LIKE '%sesame%' OR outputs LIKE '%sesame%'")
        .await;
    assert_eq!(leaked, Some(0));

    // S28, S29, S44: the next one is a run of its own, and the one before stays.
    house.json(&["run", "start", SCHEDULE, "--wait"]);
    let shown = there.target();
    assert_eq!(shown["last"]["cause"], "manual");
    assert_ne!(shown["last"]["run_id"], *id);
    assert_eq!(there.run(id)["state"], "succeeded");
    worker.stop().await;
    scanner.stop().await;
}

/// S1, S2, S4, S23, S32–S34, S38, S45, S46: on demand, by the command line, by a file and on the bus; never two at a time,
/// and never in another namespace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_is_discovered_on_demand_once_at_a_time_and_a_double_click_does_no_harm() {
    let there = Namespace::open().await;
    let house = &there.house;
    let worker = there.discoverer();
    // S1, S2: nothing has to be empty for it; S45: the client's id makes it one request.
    let args = json!({"schedule": SCHEDULE, "objects": [REGISTRY]});
    let first = there
        .command("run.start", Some("click-1"), "default", args.clone())
        .await;
    let again = there
        .command("run.start", Some("click-1"), "default", args.clone())
        .await;
    assert_eq!(first["ok"], true, "{first}");
    assert_eq!(first["result"]["run_id"], again["result"]["run_id"]);
    let running = there
        .shows("a discovery runs", |shown| {
            shown["running"]["started_at"].is_string()
        })
        .await["running"]
        .clone();
    assert_eq!(running["run_id"], first["result"]["run_id"]);
    assert_eq!(running["cause"], "manual");
    // S4, S38: whoever comes meanwhile learns at once who runs. S46: without an id it is a new request, and gets one.
    let second = there
        .command("run.start", None, "default", args.clone())
        .await;
    assert_eq!(second["result"]["state"], "skipped", "{second}");
    assert_eq!(second["result"]["reason"], "overlap");
    assert_eq!(second["result"]["blocked_by"], running["run_id"]);
    let third = there
        .command("run.start", None, "default", args.clone())
        .await;
    let ids = [&first, &second, &third].map(|answer| &answer["result"]["request_id"]);
    assert!(
        ids.iter().all(|id| id.is_string()) && ids[1] != ids[2],
        "{ids:?}"
    );
    // S4: the clock does not begin another one either.
    there.due();
    until("the occurrence of the clock is decided", async || {
        let runs = house.json(&["run", "list"]);
        let clocked = runs
            .as_array()?
            .iter()
            .find(|run| run["cause"] == "on_time")?
            .clone();
        assert_eq!(
            (&clocked["state"], &clocked["blocked_by"]),
            (&json!("skipped"), &running["run_id"])
        );
        Some(())
    })
    .await;
    there.go();
    there
        .shows("the discovery has ended", |shown| {
            shown["last"]["state"] == "succeeded"
        })
        .await;
    assert!(
        there.condition(&running["run_id"], "complete").0,
        "no image was found"
    );

    // S32, S33: declared, it is started once however often the file is applied.
    let job = format!(
        "- {{kind: run, name: job-1, organization: default, schedule: {SCHEDULE}, objects: [{REGISTRY}]}}"
    );
    house.apply("job.yaml", &job);
    house.apply("job.yaml", &job);
    let database = house.database().await;
    let started = "SELECT count(*) FROM run WHERE request_id = 'job-1'";
    assert_eq!(database.count(started).await, Some(1));
    // S34: another namespace's registry is nobody's to discover.
    house.apply("other.yaml", "- {kind: organization, id: other}");
    let theirs = there.command("run.start", Some("x"), "other", args).await;
    assert_eq!(
        (&theirs["ok"], &theirs["error"]["code"]),
        (&json!(false), &json!("not_found"))
    );
    // S23: one that is not there is a failed run that says so.
    let args = json!({"schedule": SCHEDULE, "objects": ["no-such-registry"]});
    let nobody = there.command("run.start", None, "default", args).await;
    assert_eq!(nobody["result"]["state"], "failed", "{nobody}");
    assert_eq!(nobody["result"]["reason"], "target_not_found");
    worker.stop().await;
}

/// S10, S36: a discoverer that never reports does not hold the next discovery up for ever; a new vulnerability database
/// has every image scanned again, each at its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_discovery_times_out_and_a_new_database_rescans_all_images_spread() {
    let there = Namespace::open().await;
    let house = &there.house;
    let text = DECLARED
        .replace("heartbeat: 5m, run: 2h", "heartbeat: 5m, run: 2s")
        .replace("- name: rescan\n  enabled: false", "- name: rescan");
    assert_ne!(text, DECLARED);
    house.apply("short.yaml", &text);
    house.json(&["run", "start", SCHEDULE]);
    // It takes the task, says so, and is never heard again.
    let mut taken = Vec::new();
    while taken.is_empty() {
        taken = there.broker.tasks("discoverer").await;
    }
    let task = &taken[0].body;
    assert_eq!(task["inputs"][0]["primary_key"], REGISTRY);
    let accepted = json!({
        "task_id": task["id"], "attempt": 1, "worker": "lost", "status": "accepted", "at": Moment::now().to_string(),
    });
    there.broker.report(&accepted).await;
    let shown = there
        .shows("its time is over", |shown| shown["last"].is_object())
        .await;
    assert_eq!(shown["last"]["state"], "timed_out");
    assert_eq!(
        (&shown["running"], &shown["last_success"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(shown["last_failure"], shown["last"]);
    let next = house.json(&["run", "start", SCHEDULE]);
    assert_eq!(next["state"], "running", "{next}");

    for image in ["a", "b", "c"] {
        there.image(REGISTRY, image).await;
    }
    there
        .told("vulnerability_db", "db", json!({"version": 1}))
        .await;
    there
        .tell(
            "object.updated",
            "vulnerability_db",
            "db",
            json!({"version": 2}),
        )
        .await;
    let database = house.database().await;
    until("all images are to be scanned again", async || {
        let many = database
            .count("SELECT count(DISTINCT t.not_before) FROM task t JOIN run u ON u.id = t.run_id WHERE u.schedule = 'rescan'")
            .await?;
        (many == 3).then_some(())
    })
    .await;
}
