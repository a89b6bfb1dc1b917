//! What is true of NATS alone.

use std::time::Duration;

use async_nats::jetstream::consumer::push;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use muster::bus::nats::Nats;
use muster::bus::{Address, Bus, BusError, Lying, TaskQueue, Undelivered, Verdict, names};

use crate::outside::on_nats::Server;
use crate::outside::{Broker, Message, Outside};
use crate::support::proxy::Proxy;
use crate::support::servers::{self, Certificates, Folder};
use crate::worker::contract_of_a_worker;
use crate::{
    a_restart_is_survived, contract, contract_of_a_broker, done, letter, next, publish, settle,
    soon, task, the_first_connection_is_waited_for, through, topology, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_keeps_the_contract_with_workers() {
    contract_of_a_worker(&Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_keeps_the_contract() {
    let broker = Server::start();
    contract(&broker).await;
    contract_of_a_broker(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_is_killed_and_restarted_is_used_again() {
    a_restart_is_survived(Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_waits_for_a_nats_that_is_away() {
    the_first_connection_is_waited_for(Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nats_alone_can_do_is_done() {
    let broker = Server::start();
    a_task_published_twice_is_stored_once(&broker).await;
    a_task_is_taken_back_from_its_place_and_nothing_else_is(&broker).await;
    a_task_queue_may_have_any_subject(&broker).await;
    headers_that_nats_cannot_carry_are_left_out(&broker).await;
    a_settlement_without_a_connection_is_made_up_for(&broker).await;
    streams_that_are_made_anew_void_old_receipts(&broker).await;
}

async fn a_task_published_twice_is_stored_once(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let twice = vec![task("boefje", "1:1", b"{}"), task("boefje", "1:1", b"{}")];
    assert_eq!(publish(&bus, twice).await, vec![Ok(()); 2]);
    done(bus).await;
    assert_eq!(broker.kept("muster.tasks.boefje").await, 1);
    broker.take(&crate::task_queue("boefje")).await;
}

fn lying(message_id: &str, sequence: u64) -> Lying {
    Lying {
        message_id: message_id.to_owned(),
        sequence,
    }
}

async fn a_task_is_taken_back_from_its_place_and_nothing_else_is(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let both = vec![task("boefje", "b:1", b"{}"), task("boefje", "b:2", b"{}")];
    let places: Vec<u64> = soon("answers", bus.publish(both))
        .await
        .into_iter()
        .map(|answer| answer.expect("confirmed").expect("a place in the stream"))
        .collect();
    // After the stream was made anew another message has the place.
    let other = lying("a:1", places[0]);
    assert_eq!(bus.take_back(vec![other.clone()]).await, [Ok(())]);
    assert_eq!(broker.kept("muster.tasks.boefje").await, 2);
    let mine = lying("b:1", places[0]);
    let gone = lying("b:3", places[1] + 1000);
    assert_eq!(
        bus.take_back(vec![mine, other, gone]).await,
        [Ok(()), Ok(()), Ok(())]
    );
    assert_eq!(broker.kept("muster.tasks.boefje").await, 1);
    let left = broker.take(&crate::task_queue("boefje")).await;
    assert_eq!(left.message_id.as_deref(), Some("b:2"));
    // A worker has taken it.
    let taken = lying("b:2", places[1]);
    assert_eq!(bus.take_back(vec![taken]).await, [Ok(())]);
    let status = letter(Address::Status, "b:2/s", b"{}");
    let answers = soon("an answer", bus.publish(vec![status])).await;
    assert_eq!(answers, [Ok(None)], "what is not offered is not taken back");
    let told = next(&bus).await;
    settle(&bus, told, Verdict::Done).await;
    done(bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_delete_taking_back_fails_and_nothing_else_does() {
    let denied = "$JS.API.STREAM.MSG.DELETE.MUSTER_TASKS";
    let server = Server(servers::Nats::with(|_| {
        format!(
            "authorization {{ users: [{{ user: u, password: p, permissions: {{ publish: {{ deny: {denied:?} }} }} }}] }}"
        )
    }));
    let url = server.0.url().replace("nats://", "nats://u:p@");
    let bus = soon("open", Nats::open(&url, &topology())).await;
    let bus = bus.expect("opens");
    let answers = soon("answers", bus.publish(vec![task("boefje", "d:1", b"{}")])).await;
    let place = answers[0].clone().expect("confirmed").expect("a place");
    let answers = soon("an answer", bus.take_back(vec![lying("d:1", place); 60])).await;
    assert_eq!(answers.len(), 60);
    for answer in answers {
        let why = answer.expect_err("it is not allowed");
        assert!(why.contains(denied), "{why}");
    }
    assert!(bus.condition().connected);
    assert_eq!(bus.condition().reconnects, 0);
    let next = publish(&bus, vec![task("boefje", "d:2", b"{}")]).await;
    assert_eq!(next, [Ok(())]);
    done(bus).await;
}

async fn a_task_queue_may_have_any_subject(broker: &Server) {
    let mut topology = topology();
    let named = |queue: &str, key: &str| TaskQueue {
        queue: queue.to_owned(),
        routing_key: key.to_owned(),
    };
    topology.task_queues = vec![
        named("boefjes", "other"),
        named("muster.tasks.b.nmap", "nmap"),
    ];
    let bus = broker.open(&topology).await;
    let late = named("late", "late");
    for queue in topology.task_queues.iter().chain([&late]) {
        let body = queue.queue.as_bytes();
        let letter = letter(Address::Tasks(queue.clone()), &queue.queue, body);
        assert_eq!(publish(&bus, vec![letter]).await, vec![Ok(())]);
        assert_eq!(broker.take(queue).await.body, body);
    }
    let wrong = named("a b", "a b");
    let answers = publish(&bus, vec![letter(Address::Tasks(wrong), "w", b"{}")]).await;
    assert!(
        matches!(answers[0], Err(Undelivered::Unroutable(_))),
        "{answers:?}"
    );
    done(bus).await;
}

async fn headers_that_nats_cannot_carry_are_left_out(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let mut letter = task("newcomer", "h:1", b"{}");
    letter.headers = vec![
        (
            "traceparent".to_owned(),
            "00\r\nNats-Rollup: all".to_owned(),
        ),
        ("a:b".to_owned(), "1".to_owned()),
        ("sound".to_owned(), "yes".to_owned()),
    ];
    assert_eq!(publish(&bus, vec![letter]).await, vec![Ok(())]);
    let got = broker.take(&crate::task_queue("newcomer")).await;
    assert_eq!(got.headers, vec![("sound".to_owned(), "yes".to_owned())]);
    done(bus).await;
}

async fn a_settlement_without_a_connection_is_made_up_for(broker: &Server) {
    let proxy = Proxy::to(broker.port());
    let url = through(&proxy, broker);
    let bus = soon("open", Nats::open(&url, &topology()))
        .await
        .expect("opens");
    broker.send(names::EVENTS, Message::of(b"one")).await;
    let one = next(&bus).await;
    proxy.refuse(true);
    proxy.cut();
    until("the loss is noticed", || !bus.condition().connected).await;
    settle(&bus, one, Verdict::Done).await;
    proxy.refuse(false);
    until("it is connected", || bus.condition().connected).await;
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn streams_that_are_made_anew_void_old_receipts(broker: &Server) {
    let (_client, context) = broker.client().await;
    let _ = context.delete_stream("MUSTER_EVENTS").await;
    let bus = broker.open(&topology()).await;
    broker.send(names::EVENTS, Message::of(b"old")).await;
    let old = next(&bus).await;
    context
        .delete_stream("MUSTER_EVENTS")
        .await
        .expect("deleted");
    until("the loss is noticed", || bus.condition().reconnects > 0).await;
    until("it is connected", || bus.condition().connected).await;
    // The same place in the stream, and so the same receipt by its letters.
    broker.send(names::EVENTS, Message::of(b"new")).await;
    let new = next(&bus).await;
    assert_eq!(new.body, b"new");
    settle(&bus, old, Verdict::Done).await;
    drop(new);
    done(bus).await;
    assert_eq!(broker.kept(names::EVENTS).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_for_long_is_not_delivered_again() {
    let broker = Server::start();
    let bus = broker.open(&topology()).await;
    broker.send(names::EVENTS, Message::of(b"held")).await;
    broker.send(names::EVENTS, Message::of(b"buffered")).await;
    let held = next(&bus).await;
    // Longer than the broker waits for those who say nothing.
    let other = broker.open(&topology()).await;
    let again = tokio::time::timeout(Duration::from_secs(20), other.next()).await;
    assert!(
        again.is_err(),
        "delivered again: {:?}",
        again.map(|got| got.map(|got| got.body))
    );
    settle(&bus, held, Verdict::Done).await;
    let buffered = next(&bus).await;
    assert_eq!(
        (buffered.body.as_slice(), buffered.redelivered),
        (&b"buffered"[..], false)
    );
    settle(&bus, buffered, Verdict::Done).await;
    done(bus).await;
    done(other).await;
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_a_dead_replica_runs_out_and_what_it_held_comes_first() {
    let broker = Server::start();
    let proxy = Proxy::to(broker.port());
    let url = through(&proxy, &broker);
    let mut alone = topology();
    alone.intakes[1].exclusive = true;
    let queue = "raw_file_received";
    let first = soon("open", Nats::open(&url, &alone)).await.expect("opens");
    broker.send(queue, Message::of(b"1")).await;
    let _held = next(&first).await;
    proxy.refuse(true);
    proxy.cut(); // it cannot give the lease back, nor say that it still works
    let second = broker.open(&alone).await;
    broker.send(queue, Message::of(b"2")).await;
    for (body, redelivered) in [(b"1", true), (b"2", false)] {
        let got = next(&second).await;
        assert_eq!(
            (got.body.as_slice(), got.redelivered),
            (&body[..], redelivered)
        );
        settle(&second, got, Verdict::Done).await;
    }
    done(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_connection_still_has_its_lease() {
    let broker = Server::start();
    let proxy = Proxy::to(broker.port());
    let mut alone = topology();
    alone.intakes[1].exclusive = true;
    let url = through(&proxy, &broker);
    let bus = soon("open", Nats::open(&url, &alone)).await.expect("opens");
    for body in [b"1", b"2", b"3"] {
        broker.send("raw_file_received", Message::of(body)).await;
        // Sooner than the lease of the lost connection runs out.
        let got = tokio::time::timeout(Duration::from_secs(10), bus.next()).await;
        let got = got.expect("reads on").expect("reads on");
        assert_eq!(got.body, body);
        settle(&bus, got, Verdict::Done).await;
        let before = bus.condition().reconnects;
        proxy.cut();
        until("it is connected again", || {
            bus.condition().reconnects > before
        })
        .await;
    }
    done(bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_declaration_on_nats_is_an_error_that_names_both() {
    let broker = Server::start();
    let (_client, context) = broker.client().await;
    let stream = |name: &str, subject: &str, retention| Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        retention,
        ..Config::default()
    };
    let queue = RetentionPolicy::WorkQueue;
    for (config, words) in [
        (
            stream("MUSTER_TASKS", "muster.tasks.>", RetentionPolicy::Limits),
            ["`MUSTER_TASKS`", "limits", "workqueue"],
        ),
        (
            stream("MUSTER_STATUS", "another.status", queue),
            ["`MUSTER_STATUS`", "another.status", "muster.status"],
        ),
        (
            stream("OTHER", "muster.events.object.*", RetentionPolicy::Limits),
            ["`MUSTER_EVENTS`", "muster.events.>", "`OTHER`"],
        ),
    ] {
        let name = config.name.clone();
        context.create_stream(config).await.expect("made");
        let conflict = soon("an error", Nats::open(&broker.url(), &topology()))
            .await
            .err();
        let Some(BusError::Conflict(why)) = conflict else {
            panic!("{name}: {conflict:?}")
        };
        for word in words {
            assert!(why.contains(word), "{why}");
        }
        context.delete_stream(name).await.expect("deleted");
    }
    let status = stream("MUSTER_STATUS", "muster.status", queue);
    let _ = context.delete_stream("MUSTER_STATUS").await;
    let status = context.create_stream(status).await.expect("made");
    let pushed = push::Config {
        durable_name: Some("muster".to_owned()),
        deliver_subject: "somewhere".to_owned(),
        ..push::Config::default()
    };
    status.create_consumer(pushed).await.expect("made");
    let conflict = soon("an error", Nats::open(&broker.url(), &topology()))
        .await
        .err();
    let Some(BusError::Conflict(why)) = conflict else {
        panic!("{conflict:?}")
    };
    for word in ["consumer `muster`", "`MUSTER_STATUS`", "push", "pull"] {
        assert!(why.contains(word), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_nats_are_used_and_not_shown() {
    let user = "authorization { user: \"me@home\", password: \"hush:hush\" }";
    let token = "authorization { token: \"hush+hush\" }";
    for (settings, right, wrong) in [
        (user, "nats://me%40home:hush%3Ahush@", "nats://me:hush@"),
        (token, "nats://hush+hush@", "nats://hush@"),
    ] {
        let server = servers::Nats::with(|_| settings.to_owned());
        let url = |scheme: &str| server.url().replace("nats://", scheme);
        let bus = soon("open", Nats::open(&url(right), &topology()))
            .await
            .expect("opens");
        done(bus).await;
        for stranger in [wrong, "nats://"] {
            let refused = soon("a refusal", Nats::open(&url(stranger), &topology()))
                .await
                .err();
            let Some(BusError::Refused(why)) = refused else {
                panic!("{refused:?}")
            };
            assert!(!why.contains("hush"), "{why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_tls_with_the_certificates_of_the_machine() {
    if crate::trusts_when_told::<Server>().await {
        return;
    }
    let folder = Folder::new("certificates");
    let Certificates {
        certificate, key, ..
    } = Certificates::make(folder.path());
    let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let server = servers::Nats::with(|_| tls);
    let url = format!("tls://localhost:{}", server.port());
    let test = "nats::tls_is_tls_with_the_certificates_of_the_machine";
    crate::only_with_the_right_authority::<Server>(test, &url, folder.path()).await;
}
