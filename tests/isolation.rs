//! What is an organisation's is nobody else's: every command, with everything that could reach another one's work, on
//! real servers. Whatever is refused is told in the log and counted; nothing of the other is in any answer.

mod support;

#[path = "isolation/asking.rs"]
mod asking;
#[path = "isolation/attempts.rs"]
mod attempts;
#[path = "isolation/theirs.rs"]
mod theirs;

use std::collections::BTreeSet;

use asking::{Asker, NatsAsker, RabbitAsker, Signer, request};
use attempts::{Attempt, Outcome, attempts, naming_others};
use serde_json::{Value, json};
use support::broker::{Broker, OnNats, OnRabbit};
use support::process::{House, Service, until};
use support::servers::{Nats, Postgres, Rabbit};
use theirs::{OURS, SETTINGS, THEIRS, Theirs};

/// So many attempts there are at least, each refused or answered with nothing.
const ATTEMPTS: usize = 100;

/// What the metrics say of refusals of one kind.
fn refused(house: &House, kind: &str) -> u64 {
    let text = std::fs::read_to_string(house.path("muster.prom")).unwrap_or_default();
    let of_kind = |line: &&str| {
        line.starts_with("muster_refused_requests_total{") && line.contains(&format!("\"{kind}\""))
    };
    text.lines()
        .filter(of_kind)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn told_in_the_log(service: &Service) -> usize {
    let log = service.log();
    log.matches("a command is refused").count()
}

/// Asks, and looks that the answer is what it is to be, that it tells of nothing that was not in the question, and that
/// the log has it; answers with what is wrong.
async fn attempt(
    asker: &mut impl Asker,
    theirs: &Theirs,
    service: &Service,
    attempt: &Attempt,
) -> Option<String> {
    let body = attempt.body();
    let before = told_in_the_log(service);
    let reply = asker.ask(&body).await;
    let (asked, text) = (String::from_utf8_lossy(&body), reply.to_string());
    let tells = |secret: &&String| text.contains(*secret) && !asked.contains(*secret);
    if let Some(secret) = theirs.secrets.iter().find(tells) {
        return Some(format!("{asked} is told of `{secret}`: {text}"));
    }
    let right = match attempt.outcome {
        Outcome::Refused(code) => reply["error"]["code"] == code,
        Outcome::Nothing | Outcome::Own => reply["ok"] == true,
    };
    let told = told_in_the_log(service) - before;
    let right = right && told == usize::from(attempt.outcome != Outcome::Own);
    (!right).then(|| {
        let wanted = attempt.outcome;
        format!("{asked} is not {wanted:?}, told {told} times: {text}")
    })
}

/// All of it, by somebody who may speak for one organisation and wants to know of another.
async fn all_attempts<B: Broker, A: Asker>(
    house: &House,
    service: Service,
    broker: &B,
    mut asker: A,
    signer: Option<&Signer>,
) {
    let theirs = theirs::made(house, broker, &mut asker, signer).await;
    let before = theirs::state(house);
    // They have looked for what was not there yet.
    let of_theirs = told_in_the_log(&service);
    let mut all = attempts(&theirs);
    let known: BTreeSet<String> = muster::command::names().into_iter().collect();
    let tried: BTreeSet<String> = all.iter().map(|one| one.command.clone()).collect();
    assert_eq!(tried, known, "every command that there is is tried");
    if signer.is_some() {
        all.extend(naming_others(&known));
    }
    let bodies: BTreeSet<Vec<u8>> = all.iter().map(Attempt::body).collect();
    assert_eq!(bodies.len(), all.len(), "no attempt is made twice");

    asker.speak_as(signer.map(|signer| (signer, OURS)));
    // Lists of our own come first: later they hold the names of theirs that we have asked with ourselves.
    all.sort_by_key(|one| one.outcome != Outcome::Own || !one.command.ends_with(".list"));
    let mut wrong = Vec::new();
    for one in &all {
        wrong.extend(attempt(&mut asker, &theirs, &service, one).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let recorded = all.iter().filter(|one| one.outcome != Outcome::Own).count();
    assert!(recorded >= ATTEMPTS, "{recorded} attempts");
    let recorded = recorded + of_theirs;
    assert_eq!(told_in_the_log(&service), recorded, "each is told of");
    let log = service.log();
    let who = signer.map_or("who=\"bus\"", |_| "who=\"key ours\"");
    let refusals = log
        .lines()
        .filter(|line| line.contains("a command is refused"))
        .skip(of_theirs);
    for line in refusals {
        for part in [who, "command=", "reason=", "organization="] {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
    }

    // A reply is not sent where it would act for whoever asked.
    for reply_to in asker.reserved() {
        asker
            .ask_for(&request(None, Some(OURS), "stats", &json!({})), reply_to)
            .await;
    }
    let reserved = asker.reserved().len();
    until("replies to our own queues are refused", async || {
        (told_in_the_log(&service) == recorded + reserved).then_some(())
    })
    .await;

    let statuses = match signer {
        Some(signer) => theirs::report_as_others(&mut asker, &theirs, signer).await,
        None => 0,
    };
    until("it is counted", async || {
        let counted = refused(house, "command") == (recorded + reserved) as u64;
        (counted && refused(house, "status") == statuses).then_some(())
    })
    .await;
    reach_by_queries(&mut asker, &theirs).await;
    for (now, before) in theirs::state(house).iter().zip(&before) {
        assert_eq!(now, before, "nothing of theirs has changed");
    }
    listen_by_queries(house, broker, &mut asker, &theirs).await;
    // What was to be taken from the broker is there, and nothing else beside it.
    let offered = broker.tasks("reader").await;
    let of = |owner: &str| {
        offered
            .iter()
            .filter(|task| task.body["organization"] == owner)
            .count()
    };
    assert!(of(THEIRS) >= 5, "{} offers of theirs are left", of(THEIRS));
    assert_eq!(of(THEIRS) + of(OURS), offered.len(), "{offered:?}");
    service.stop().await;
}

/// Schedules of our own whose queries ask for what is theirs: they are run, and find nothing.
async fn reach_by_queries(asker: &mut impl Asker, theirs: &Theirs) {
    let inputs = [
        json!(format!("organization = '{THEIRS}'")),
        json!(format!("organization != '{OURS}'")),
        json!(format!("primary_key = '{}'", theirs.object)),
        json!(format!("name = '{}'", theirs.object_name)),
        json!({"set": theirs.set}),
        json!(format!("any(neighbours: name = '{}')", theirs.object_name)),
        json!(format!("network.name = '{}'", theirs.network_name)),
        json!(format!("ever(name = '{}')", theirs.object_name)),
        json!("name = $name"),
    ];
    let mut runs = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let name = format!("reach-{number}");
        let schedule = json!({
            "name": name, "plugins": "plugin_id = 'dns'", "input": {"hostname": input}, "recurrences": "yearly",
            "parameters": {"name": theirs.object_name},
        });
        for (command, args) in [
            ("schedule.apply", schedule),
            ("run.start", json!({"schedule": name})),
        ] {
            let reply = asker.ask(&request(None, Some(OURS), command, &args)).await;
            assert_eq!(reply["ok"], true, "{input}: {reply}");
            runs.extend(reply["result"]["run_id"].as_str().map(str::to_owned));
        }
    }
    assert_eq!(runs.len(), inputs.len());
    for (run, input) in runs.iter().zip(&inputs) {
        let body = request(None, Some(OURS), "run.get", &json!({"run_id": run}));
        let ended = until("the run has looked for its inputs", async || {
            let reply = asker.ask(&body).await;
            let ended = reply["result"]["finished_at"].is_string();
            ended.then_some(reply)
        })
        .await;
        assert_eq!(ended["result"]["counters"]["total"], 0, "{input}: {ended}");
    }
}

/// Schedules of our own that wait for what happens to what is theirs: they do not hear it.
async fn listen_by_queries<B: Broker>(
    house: &House,
    broker: &B,
    asker: &mut impl Asker,
    theirs: &Theirs,
) {
    for (number, when) in [
        format!("organization = '{THEIRS}'"),
        format!("name = '{}'", theirs.late_name),
        "name != ''".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let schedule = json!({
            "name": format!("listen-{number}"), "plugins": "plugin_id = 'dns'", "run_on": "hostname",
            "operation": "created", "when": when,
        });
        let reply = asker
            .ask(&request(None, Some(OURS), "schedule.apply", &schedule))
            .await;
        assert_eq!(reply["ok"], true, "{when}: {reply}");
    }
    let listed = || house.json(&["task", "list", "--organization", OURS, "--limit", "1000"]);
    let ours = listed();
    let handled = house.database().await;
    let before = handled.handled().await.expect("a count");
    broker.publish(&[theirs::late(theirs)]).await;
    until("the event is handled", async || {
        (handled.handled().await? > before).then_some(())
    })
    .await;
    assert_eq!(listed(), ours, "no task of ours comes of their event");
}

fn settings(house: &House, bus: &str, more: &str) {
    let file = house.path("muster.prom");
    let text = format!("{more}\n{SETTINGS}\n[metrics]\nfile = {file:?}\nevery = \"1s\"\n");
    house.set(bus, &text);
}

async fn well(house: &House) {
    until("the service is well", async || {
        house.run(&["health"]).status.success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_reaches_nothing_of_another_organisation_by_any_command_on_rabbitmq() {
    let (postgres, rabbit) = (Postgres::with(&["fsync=off"]), Rabbit::start());
    let house = House::new(&postgres.url(), &rabbit.url(), "");
    let signer = Signer::new();
    settings(&house, &rabbit.url(), &signer.settings());
    house.apply("declared.yaml", theirs::DECLARED);
    let service = house.service();
    well(&house).await;
    let broker = OnRabbit::connect(&rabbit.url()).await;
    let asker = RabbitAsker::connect(&rabbit.url()).await;
    all_attempts(&house, service, &broker, asker, Some(&signer)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_names_an_organisation_reaches_nothing_of_another_by_any_command_on_nats() {
    let (postgres, nats) = (Postgres::with(&["fsync=off"]), Nats::start());
    let house = House::new(&postgres.url(), &nats.url(), "");
    settings(&house, &nats.url(), "");
    house.apply("declared.yaml", theirs::DECLARED);
    let service = house.service();
    well(&house).await;
    let broker = OnNats::connect(&nats.url()).await;
    let asker = NatsAsker::connect(&nats.url()).await;
    all_attempts(&house, service, &broker, asker, None).await;
}

/// The answer that was kept for one organisation is not that of another with the same id, and the same id of nobody in
/// particular is a third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_is_of_one_body_and_one_key() {
    let rabbit = Rabbit::start();
    let house = House::embedded("");
    let signer = Signer::new();
    settings(&house, &rabbit.url(), &signer.settings());
    house.apply("declared.yaml", theirs::DECLARED);
    let service = house.service();
    well(&house).await;
    let mut asker = RabbitAsker::connect(&rabbit.url()).await;
    let ours = request(None, Some(OURS), "stats", &json!({}));
    let forged = request(None, Some(THEIRS), "task.list", &json!({}));
    let (us, them) = (signer.headers(OURS, &ours), signer.headers(THEIRS, &forged));
    let key = |headers: &[(String, String)], other: &[(String, String)]| {
        vec![headers[0].clone(), other[1].clone()]
    };
    for (body, headers, code) in [
        (&ours, us.clone(), Value::Null),
        (&forged, us.clone(), json!("unsigned")),
        (&forged, key(&us, &them), json!("unsigned")),
        (&forged, key(&them, &us), json!("unsigned")),
        (
            &forged,
            signer.headers(OURS, &forged),
            json!("not_permitted"),
        ),
        (&forged, Vec::new(), json!("unsigned")),
        (&b"no JSON at all".to_vec(), Vec::new(), json!("unsigned")),
        (&forged, them, Value::Null),
    ] {
        let reply = asker.ask_with(body, &headers).await;
        assert_eq!(reply["error"]["code"], code, "{reply}");
    }
    service.stop().await;
}
