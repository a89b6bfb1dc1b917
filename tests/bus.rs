//! What every bus owes us, shown on lines, RabbitMQ and NATS, each seen from the other side by a plain client.

mod support;

#[path = "bus/lines.rs"]
mod lines;
#[path = "bus/nats.rs"]
mod nats;
#[path = "bus/outside.rs"]
mod outside;
#[path = "bus/rabbit.rs"]
mod rabbit;
#[path = "bus/worker.rs"]
mod worker;

use std::path::Path;
use std::time::Duration;

use muster::bus::{
    Address, Bus, BusError, Delivery, Intake, Letter, Role, Source, TaskQueue, Topology,
    Undelivered, Verdict, names,
};
use outside::{Broadcast, Broker, Message, Outside};
use support::proxy::Proxy;

/// Longer than anything here takes; whoever waits so long has found a fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("in vain: {what}"),
    }
}

/// Waits for a state that nobody announces.
async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn task_queue(kind: &str) -> TaskQueue {
    TaskQueue {
        queue: format!("muster.tasks.{kind}"),
        routing_key: kind.to_owned(),
    }
}

fn topology() -> Topology {
    Topology {
        role: Role::Service,
        intakes: vec![
            Intake {
                queue: names::EVENTS.to_owned(),
                native: true,
                exclusive: false,
            },
            Intake {
                queue: "raw_file_received".to_owned(),
                native: false,
                exclusive: false,
            },
        ],
        task_queues: vec![task_queue("boefje")],
        prefetch: 100,
    }
}

fn letter(address: Address, id: &str, body: &[u8]) -> Letter {
    Letter {
        address,
        message_id: id.to_owned(),
        correlation_id: None,
        content_type: "application/json",
        headers: Vec::new(),
        priority: 2,
        expires_in_ms: None,
        body: body.to_vec(),
    }
}

fn task(kind: &str, id: &str, body: &[u8]) -> Letter {
    letter(Address::Tasks(task_queue(kind)), id, body)
}

async fn next<B: Bus>(bus: &B) -> Delivery<B::Receipt> {
    soon("a delivery", bus.next())
        .await
        .expect("the bus has not ended")
}

async fn settle<B: Bus>(bus: &B, delivery: Delivery<B::Receipt>, verdict: Verdict) {
    bus.settle(vec![(delivery.receipt, verdict)]).await;
}

async fn publish<B: Bus>(bus: &B, letters: Vec<Letter>) -> Vec<Result<(), Undelivered>> {
    let answers = soon("answers", bus.publish(letters)).await;
    answers.into_iter().map(|answer| answer.map(drop)).collect()
}

async fn done<B: Bus>(bus: B) {
    soon("stop", bus.stop()).await;
    soon("close", bus.close()).await;
}

/// The address of a broker behind a proxy.
fn through<B: Broker>(proxy: &Proxy, broker: &B) -> String {
    let (theirs, ours) = (broker.port().to_string(), proxy.port().to_string());
    broker.url().replace(&theirs, &ours)
}

/// What all bodies have in common.
async fn contract<O: Outside>(outside: &O) {
    tasks_arrive_in_order(outside).await;
    statuses_and_events_are_told_apart(outside).await;
    bodies_are_bytes(outside).await;
    a_full_size_body_passes_and_a_larger_one_is_refused(outside).await;
    a_worker_type_that_comes_later_gets_its_queue(outside).await;
    stop_ends_the_waiting_for_deliveries(outside).await;
}

/// What a broker adds to it.
async fn contract_of_a_broker<B: Broker>(broker: &B) {
    a_task_arrives_to_the_letter(broker).await;
    a_delivery_brings_what_was_sent(broker).await;
    every_queue_is_read(broker).await;
    what_is_done_is_forgotten_in_whatever_order(broker).await;
    what_is_to_come_again_comes_again(broker).await;
    what_stays_unsettled_comes_back(broker).await;
    stop_hands_back_what_was_buffered(broker).await;
    a_command_gets_its_reply(broker).await;
    control_and_life_cycle_reach_whoever_listens(broker).await;
    one_replica_reads_an_exclusive_intake_and_another_stands_by(broker).await;
    what_waiting_cannot_mend_is_an_error_at_once(broker).await;
    a_cut_connection_is_made_again(broker).await;
    a_task_that_leads_nowhere_is_named(broker).await;
}

async fn tasks_arrive_in_order<O: Outside>(outside: &O) {
    let bus = outside.open(&topology()).await;
    let bodies: Vec<String> = (0..200)
        .map(|number| format!("{{\"n\":{number}}}"))
        .collect();
    let letters = bodies.iter().enumerate();
    let letters = letters.map(|(n, body)| task("boefje", &format!("o-{n}:1"), body.as_bytes()));
    assert_eq!(publish(&bus, letters.collect()).await, vec![Ok(()); 200]);
    for body in bodies {
        assert_eq!(
            outside.take(&task_queue("boefje")).await.body,
            body.as_bytes()
        );
    }
    done(bus).await;
}

async fn statuses_and_events_are_told_apart<O: Outside>(outside: &O) {
    let bus = outside.open(&topology()).await;
    for (queue, body, source) in [
        (
            names::STATUS,
            r#"{"task_id":"t","status":"accepted"}"#,
            Source::Status,
        ),
        (names::EVENTS, r#"{"specversion":"1.0"}"#, Source::Events(0)),
    ] {
        outside.send(queue, Message::of(body.as_bytes())).await;
        let got = next(&bus).await;
        assert_eq!((got.source, got.body.as_slice()), (source, body.as_bytes()));
        settle(&bus, got, Verdict::Done).await;
    }
    done(bus).await;
}

async fn bodies_are_bytes<O: Outside>(outside: &O) {
    let bus = outside.open(&topology()).await;
    for body in [
        &b"\xff\xfe\x00\x01 not text"[..],
        &b"{\"broken\":"[..],
        &[0; 70_000][..],
    ] {
        outside.send(names::EVENTS, Message::of(body)).await;
        let got = next(&bus).await;
        assert_eq!(got.body, body);
        settle(&bus, got, Verdict::Done).await;
    }
    done(bus).await;
}

async fn a_full_size_body_passes_and_a_larger_one_is_refused<O: Outside>(outside: &O) {
    let bus = outside.open(&topology()).await;
    let largest = vec![b'x'; outside.largest()];
    outside.send(names::EVENTS, Message::of(&largest)).await;
    let got = next(&bus).await;
    assert!(
        got.body == largest,
        "{} bytes came of {}",
        got.body.len(),
        largest.len()
    );
    settle(&bus, got, Verdict::Done).await;

    // A broker may count the headers too.
    let full = &largest[..largest.len() - 1024];
    let letters = vec![
        task("boefje", "a:1", b"{}"),
        task("boefje", "b:1", &vec![b'x'; outside.largest() + 1]),
        task("boefje", "c:1", full),
    ];
    let answers = publish(&bus, letters).await;
    assert_eq!((&answers[0], &answers[2]), (&Ok(()), &Ok(())));
    let Err(Undelivered::TooLarge(why)) = &answers[1] else {
        panic!("{:?}", answers[1])
    };
    assert!(
        why.contains(&outside.largest().to_string()),
        "the limit is told: {why}"
    );
    assert_eq!(outside.take(&task_queue("boefje")).await.body, b"{}");
    assert!(outside.take(&task_queue("boefje")).await.body == full);
    done(bus).await;
}

async fn a_worker_type_that_comes_later_gets_its_queue<O: Outside>(outside: &O) {
    let bus = outside.open(&topology()).await;
    assert_eq!(
        publish(&bus, vec![task("newcomer", "n:1", b"{}")]).await,
        vec![Ok(())]
    );
    assert_eq!(outside.take(&task_queue("newcomer")).await.body, b"{}");
    done(bus).await;
}

async fn stop_ends_the_waiting_for_deliveries<O: Outside>(outside: &O) {
    let bus = outside.open(&topology()).await;
    let (ended, ()) = tokio::join!(soon("the end", bus.next()), bus.stop());
    assert!(ended.is_none());
    assert!(soon("the end", bus.next()).await.is_none());
    // What was claimed before the stop is still published.
    assert_eq!(
        publish(&bus, vec![task("boefje", "s:1", b"{}")]).await,
        vec![Ok(())]
    );
    assert_eq!(outside.take(&task_queue("boefje")).await.body, b"{}");
    soon("close", bus.close()).await;
}

async fn a_task_arrives_to_the_letter<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    let mut sent = task("boefje", "t-1:1", b"{\"id\":\"t-1\"}");
    sent.correlation_id = Some("t-1".to_owned());
    sent.headers = vec![("traceparent".to_owned(), "00-ab-cd-01".to_owned())];
    assert_eq!(publish(&bus, vec![sent.clone()]).await, vec![Ok(())]);
    let got = broker.take(&task_queue("boefje")).await;
    assert_eq!(got.content_type.as_deref(), Some("application/json"));
    assert_eq!(got.message_id.as_deref(), Some("t-1:1"));
    assert_eq!(got.correlation_id.as_deref(), Some("t-1"));
    assert_eq!(got.headers, sent.headers);
    assert_eq!(got.body, sent.body);
    done(bus).await;
}

async fn a_delivery_brings_what_was_sent<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    let sent = Message {
        content_type: Some("application/cloudevents+json".to_owned()),
        message_id: Some("m-1".to_owned()),
        correlation_id: Some("c-1".to_owned()),
        reply_to: None,
        headers: vec![
            ("ce-id".to_owned(), "e-1".to_owned()),
            ("ce-subject".to_owned(), "naïve".to_owned()),
        ],
        body: b"{\"specversion\":\"1.0\"}".to_vec(),
    };
    broker.send(names::EVENTS, sent.clone()).await;
    let got = next(&bus).await;
    assert_eq!(got.source, Source::Events(0));
    assert_eq!(got.content_type, sent.content_type);
    assert_eq!(got.message_id, sent.message_id);
    assert_eq!(got.correlation_id, sent.correlation_id);
    for header in &sent.headers {
        assert!(
            got.headers.contains(header),
            "{header:?} is not in {:?}",
            got.headers
        );
    }
    assert_eq!(got.body, sent.body);
    assert!(!got.redelivered);
    settle(&bus, got, Verdict::Done).await;
    done(bus).await;
}

async fn every_queue_is_read<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    for (queue, source) in [
        (names::STATUS, Source::Status),
        ("raw_file_received", Source::Events(1)),
        (names::EVENTS, Source::Events(0)),
    ] {
        broker.send(queue, Message::of(b"{}")).await;
        let got = next(&bus).await;
        assert_eq!(got.source, source);
        settle(&bus, got, Verdict::Done).await;
    }
    done(bus).await;
}

async fn what_is_done_is_forgotten_in_whatever_order<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    let mut deliveries = Vec::new();
    for number in 0..7 {
        broker
            .send(names::EVENTS, Message::of(number.to_string().as_bytes()))
            .await;
        deliveries.push(next(&bus).await.receipt);
    }
    let mut receipts: Vec<_> = deliveries.into_iter().map(Some).collect();
    for batch in [&[3, 5][..], &[0, 1], &[6, 4], &[2]] {
        let batch = batch
            .iter()
            .filter_map(|place| Some((receipts[*place].take()?, Verdict::Done)));
        bus.settle(batch.collect()).await;
    }
    // The bus still works: a broker ends the channel over an acknowledgement that it does not understand.
    broker.send(names::EVENTS, Message::of(b"more")).await;
    let more = next(&bus).await;
    assert_eq!(
        (more.body.as_slice(), more.redelivered),
        (&b"more"[..], false)
    );
    settle(&bus, more, Verdict::Done).await;
    assert_eq!(bus.condition().reconnects, 0);
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn what_is_to_come_again_comes_again<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    broker.send(names::EVENTS, Message::of(b"again")).await;
    let first = next(&bus).await;
    assert!(!first.redelivered);
    settle(&bus, first, Verdict::Again).await;
    let second = next(&bus).await;
    assert_eq!(
        (second.body.as_slice(), second.redelivered),
        (&b"again"[..], true)
    );
    settle(&bus, second, Verdict::Done).await;
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn what_stays_unsettled_comes_back<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    broker.send(names::EVENTS, Message::of(b"unsettled")).await;
    drop(next(&bus).await);
    drop(bus); // without a farewell
    let bus = broker.open(&topology()).await;
    let again = next(&bus).await;
    assert_eq!(
        (again.body.as_slice(), again.redelivered),
        (&b"unsettled"[..], true)
    );
    settle(&bus, again, Verdict::Done).await;
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn stop_hands_back_what_was_buffered<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    for number in 0..20 {
        broker
            .send(names::EVENTS, Message::of(number.to_string().as_bytes()))
            .await;
    }
    let taken = next(&bus).await;
    soon("stop", bus.stop()).await;
    // NATS 2.9 can lose a message that is handed back while only dead readers ask, and brings it when it loses patience
    // with us (15 s); RabbitMQ has it at once.
    let other = broker.open(&topology()).await;
    let mut came = Vec::new();
    let others = async {
        for _ in 1..20 {
            let got = next(&other).await;
            came.push(String::from_utf8_lossy(&got.body).into_owned());
            settle(&other, got, Verdict::Done).await;
        }
    };
    soon("what was handed back", others).await;
    settle(&bus, taken, Verdict::Done).await;
    soon("close", bus.close()).await;
    came.sort();
    came.dedup();
    assert_eq!(came.len(), 19);
    done(other).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn a_command_gets_its_reply<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    let answer = async {
        let command = next(&bus).await;
        assert_eq!(command.source, Source::Commands);
        assert_eq!(command.body, b"{\"command\":\"stats\"}");
        assert_eq!(command.correlation_id.as_deref(), Some("question"));
        let to = command.reply_to.clone().expect("a place for the reply");
        let mut reply = letter(Address::Reply(to), "r-1", b"{\"ok\":true}");
        reply.correlation_id = command.correlation_id.clone();
        assert_eq!(publish(&bus, vec![reply]).await, vec![Ok(())]);
        settle(&bus, command, Verdict::Done).await;
    };
    let (reply, ()) = tokio::join!(broker.ask(b"{\"command\":\"stats\"}"), answer);
    assert_eq!(reply.body, b"{\"ok\":true}");
    assert_eq!(reply.correlation_id.as_deref(), Some("question"));
    // Replies go where the asker said; that there is no such place is his trouble, not ours.
    let strange = ["nobody.there", "", &"x".repeat(1000), "a b\r\nPUB c 0\r\n"];
    let strange = strange.map(|to| letter(Address::Reply(to.to_owned()), "r-2", b"{}"));
    publish(&bus, strange.to_vec()).await;
    assert!(bus.condition().connected);
    done(bus).await;
}

async fn control_and_life_cycle_reach_whoever_listens<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    let mut control = [
        broker.listen(Broadcast::Control).await,
        broker.listen(Broadcast::Control).await,
    ];
    let mut lifecycle = broker.listen(Broadcast::Lifecycle).await;
    let letters = vec![
        letter(Address::Control, "c-1", b"{\"type\":\"cancel\"}"),
        letter(
            Address::Lifecycle("run.started".to_owned()),
            "l-1",
            b"{\"l\":1}",
        ),
        letter(
            Address::Lifecycle("task.queued".to_owned()),
            "l-2",
            b"{\"l\":2}",
        ),
        letter(
            Address::Lifecycle("run.finished".to_owned()),
            "l-3",
            b"{\"l\":3}",
        ),
    ];
    assert_eq!(publish(&bus, letters).await, vec![Ok(()); 4]);
    for listener in &mut control {
        let got = soon("a cancel", listener.recv()).await.expect("listens");
        assert_eq!(got.body, b"{\"type\":\"cancel\"}");
    }
    for body in [b"{\"l\":1}", b"{\"l\":3}"] {
        assert_eq!(
            soon("an event", lifecycle.recv())
                .await
                .expect("listens")
                .body,
            body
        );
    }
    done(bus).await;
}

async fn one_replica_reads_an_exclusive_intake_and_another_stands_by<B: Broker>(broker: &B) {
    let mut alone = topology();
    alone.intakes[1] = Intake {
        queue: "scan_profile_mutations".to_owned(),
        native: false,
        exclusive: true,
    };
    let queue = alone.intakes[1].queue.as_str();
    let first = broker.open(&alone).await;
    broker.send(queue, Message::of(b"0")).await;
    let zero = next(&first).await;
    settle(&first, zero, Verdict::Done).await;
    let second = broker.open(&alone).await;
    for number in 1..20 {
        let body = number.to_string();
        broker.send(queue, Message::of(body.as_bytes())).await;
        let got = tokio::select! {
            got = next(&first) => got,
            _ = second.next() => panic!("the other replica reads too"),
        };
        assert_eq!(
            (got.source, got.body.as_slice()),
            (Source::Events(1), body.as_bytes())
        );
        settle(&first, got, Verdict::Done).await;
    }
    // Standing by disturbs nothing else: both read the other queues, and the other one is connected.
    assert_eq!(second.condition().reconnects, 0);
    assert_eq!(
        publish(&second, vec![task("boefje", "x:1", b"{}")]).await,
        vec![Ok(())]
    );
    broker.take(&task_queue("boefje")).await;

    // Whoever stops keeps the queue until he has settled what he took, or the order would be lost.
    broker.send(queue, Message::of(b"taken")).await;
    let taken = next(&first).await;
    soon("stop", first.stop()).await;
    broker.send(queue, Message::of(b"after")).await;
    let early = tokio::time::timeout(Duration::from_secs(3), second.next()).await;
    assert!(
        early.is_err(),
        "the other replica reads before the first is done"
    );
    settle(&first, taken, Verdict::Done).await;
    soon("close", first.close()).await;
    let after = next(&second).await;
    assert_eq!(after.body, b"after");
    settle(&second, after, Verdict::Done).await;
    done(second).await;
}

async fn what_waiting_cannot_mend_is_an_error_at_once<B: Broker>(_broker: &B) {
    for wrong in ["http://127.0.0.1:1/", "not a url", ""] {
        let refused = soon("a refusal", B::open_at(wrong, &topology()))
            .await
            .err();
        assert!(
            matches!(refused, Some(BusError::Address(_))),
            "{wrong}: {refused:?}"
        );
    }
}

async fn a_cut_connection_is_made_again<B: Broker>(broker: &B) {
    let proxy = Proxy::to(broker.port());
    let url = through(&proxy, broker);
    let bus = soon("open", B::open_at(&url, &topology()))
        .await
        .expect("opens");
    broker.send(names::EVENTS, Message::of(b"before")).await;
    let before = next(&bus).await;
    proxy.refuse(true);
    proxy.cut();
    until("the loss is noticed", || !bus.condition().connected).await;
    assert!(bus.condition().trouble.is_some());
    let answers = publish(&bus, vec![task("boefje", "y:1", b"{}")]).await;
    assert!(
        matches!(answers[0], Err(Undelivered::Unconfirmed(_))),
        "{answers:?}"
    );
    proxy.refuse(false);
    until("it is connected", || bus.condition().connected).await;
    assert_eq!(bus.condition().reconnects, 1);
    // A receipt from before the cut settles its own message, or none.
    settle(&bus, before, Verdict::Done).await;
    broker.send(names::EVENTS, Message::of(b"after")).await;
    loop {
        let got = next(&bus).await;
        let last = got.body == b"after";
        assert!(last || (got.body == b"before" && got.redelivered));
        settle(&bus, got, Verdict::Done).await;
        if last {
            break;
        }
    }
    assert_eq!(
        publish(&bus, vec![task("boefje", "y:1", b"{}")]).await,
        vec![Ok(())]
    );
    broker.take(&task_queue("boefje")).await;
    assert_eq!(bus.condition().reconnects, 1);
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn a_task_that_leads_nowhere_is_named<B: Broker>(broker: &B) {
    let bus = broker.open(&topology()).await;
    broker.cut_off(&task_queue("boefje")).await;
    let answers = publish(&bus, vec![task("boefje", "z:1", b"{}")]).await;
    let Err(Undelivered::Unroutable(why)) = &answers[0] else {
        panic!("{answers:?}")
    };
    assert!(why.contains("muster.tasks.boefje"), "{why}");
    done(bus).await;
}

/// A broker that is killed and started again is read from and published to again, by itself.
async fn a_restart_is_survived<B: Broker>(mut broker: B) {
    let bus = broker.open(&topology()).await;
    broker.send(names::EVENTS, Message::of(b"held")).await;
    let held = next(&bus).await;
    let published = publish(&bus, vec![task("boefje", "1:1", b"{\"n\":1}")]).await;
    assert_eq!(published, vec![Ok(())]);

    broker.kill();
    until("the loss is noticed", || !bus.condition().connected).await;
    let answers = publish(&bus, vec![task("boefje", "2:1", b"{}")]).await;
    assert!(
        matches!(answers[0], Err(Undelivered::Unconfirmed(_))),
        "{answers:?}"
    );
    broker.restart();

    until("it is connected", || bus.condition().connected).await;
    settle(&bus, held, Verdict::Done).await;
    broker.send(names::EVENTS, Message::of(b"after")).await;
    loop {
        let got = next(&bus).await;
        let last = got.body == b"after";
        settle(&bus, got, Verdict::Done).await;
        if last {
            break;
        }
    }
    let again = vec![
        task("boefje", "1:1", b"{\"n\":1}"),
        task("boefje", "2:1", b"{\"n\":2}"),
    ];
    assert_eq!(publish(&bus, again).await, vec![Ok(()); 2]);
    // What was confirmed before the kill is still there.
    assert_eq!(broker.take(&task_queue("boefje")).await.body, b"{\"n\":1}");
    let mut second = broker.take(&task_queue("boefje")).await;
    if second.body == b"{\"n\":1}" {
        second = broker.take(&task_queue("boefje")).await; // published twice, with the same id
    }
    assert_eq!(second.message_id.as_deref(), Some("2:1"));
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

/// Whoever opens a bus while its broker is away waits for it.
async fn the_first_connection_is_waited_for<B: Broker>(mut broker: B) {
    broker.kill();
    let (url, topology) = (broker.url(), topology());
    let opening = B::open_at(&url, &topology);
    tokio::pin!(opening);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut opening).await;
    assert!(early.is_err(), "it opened without a broker, or gave up");
    tokio::task::block_in_place(|| broker.restart());
    let bus = soon("open", opening).await.expect("opens");
    assert_eq!(
        publish(&bus, vec![task("boefje", "w:1", b"{}")]).await,
        vec![Ok(())]
    );
    done(bus).await;
}

/// A broker that says nothing any more, with the connection open, is given up.
async fn a_silent_broker_is_given_up<B: Broker>(broker: &B, parameters: &str) {
    let proxy = Proxy::to(broker.port());
    let url = through(&proxy, broker);
    let bus = soon(
        "open",
        B::open_at(&format!("{url}{parameters}"), &topology()),
    )
    .await;
    let bus = bus.expect("opens");
    proxy.stall();
    let (answers, ()) = tokio::join!(
        publish(&bus, vec![task("boefje", "q:1", b"{}")]),
        until("the silence is noticed", || !bus.condition().connected)
    );
    assert!(
        matches!(answers[0], Err(Undelivered::Unconfirmed(_))),
        "{answers:?}"
    );
    // Its sockets are dead: what was held back in them never arrives.
    proxy.cut();
    proxy.resume();
    until("it is connected", || bus.condition().connected).await;
    assert_eq!(
        publish(&bus, vec![task("boefje", "q:2", b"{}")]).await,
        vec![Ok(())]
    );
    done(bus).await;
}

/// Holds the URL of a server that the process is to trust.
const TRUSTING: &str = "MUSTER_TEST_TRUSTING_URL";

/// A server is believed only where an authority that the machine knows vouches for it.
///
/// The authorities are read from the environment of the process, so the part that trusts ours runs in a
/// process of its own: the same test again, told by a variable.
async fn only_with_the_right_authority<B: Broker>(test: &str, url: &str, folder: &Path) {
    let topology = topology();
    let strange = tokio::time::timeout(Duration::from_secs(2), B::open_at(url, &topology)).await;
    assert!(
        !matches!(strange, Ok(Ok(_))),
        "a server that nobody vouches for is believed"
    );

    let program = std::env::current_exe().expect("this program");
    let mut trusting = std::process::Command::new(program);
    trusting
        .args(["--exact", test])
        .env("SSL_CERT_FILE", folder.join("authority.pem"))
        .env_remove("SSL_CERT_DIR")
        .env(TRUSTING, url);
    let output = tokio::task::block_in_place(|| trusting.output()).expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

/// The part of the process that trusts. `false`: this is not that process.
async fn trusts_when_told<B: Broker>() -> bool {
    let Ok(url) = std::env::var(TRUSTING) else {
        return false;
    };
    let bus = soon("open", B::open_at(&url, &topology()))
        .await
        .expect("opens");
    assert_eq!(
        publish(&bus, vec![task("boefje", "tls:1", b"{}")]).await,
        vec![Ok(())]
    );
    done(bus).await;
    true
}
