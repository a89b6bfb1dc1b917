//! What is true of RabbitMQ alone.

use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use muster::bus::rabbit::Rabbit;
use muster::bus::{Bus, BusError, Lying, Source, Undelivered, Verdict, names};

use crate::outside::on_rabbit::Server;
use crate::outside::{Broker, Message, Outside};
use crate::support::proxy::Proxy;
use crate::support::servers::{self, Certificates, free_port};
use crate::worker::contract_of_a_worker;
use crate::{
    a_restart_is_survived, a_silent_broker_is_given_up, contract, contract_of_a_broker, done, next,
    publish, settle, soon, task, task_queue, the_first_connection_is_waited_for, through, topology,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbit_keeps_the_contract() {
    let broker = Server::start();
    contract(&broker).await;
    contract_of_a_broker(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbit_keeps_the_contract_with_workers() {
    contract_of_a_worker(&Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbit_that_is_killed_and_restarted_is_used_again() {
    a_restart_is_survived(Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_waits_for_a_rabbit_that_is_away() {
    the_first_connection_is_waited_for(Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_amqp_alone_can_say_is_said_and_heard() {
    let broker = Server::start();
    properties_are_those_of_the_contract(&broker).await;
    producers_of_openkat_can_declare_their_queues(&broker).await;
    typed_headers_are_read(&broker).await;
    only_the_task_that_leads_nowhere_is_returned(&broker).await;
    receipts_of_a_dead_connection_are_void(&broker).await;
    a_queue_keeps_its_tasks_until_they_expire(&broker).await;
    an_exchange_that_is_deleted_is_made_again(&broker).await;
    a_queue_that_is_deleted_is_made_again(&broker).await;
    another_declaration_is_an_error_that_names_both(&broker).await;
    wrong_credentials_are_refused_at_once_and_not_shown(&broker).await;
    a_silent_broker_is_given_up(&broker, "?heartbeat=1").await;
}

async fn properties_are_those_of_the_contract(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let mut letter = task("boefje", "t-1:2", b"{}");
    letter.priority = 7;
    letter.expires_in_ms = Some(3_600_000);
    assert_eq!(publish(&bus, vec![letter]).await, vec![Ok(())]);
    let got = broker.fetch("muster.tasks.boefje").await;
    assert_eq!(
        (got.exchange.as_str(), got.routing_key.as_str()),
        ("muster.tasks", "boefje")
    );
    let properties = got.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.priority(), Some(7));
    assert_eq!(
        properties.expiration().as_ref().map(|text| text.as_str()),
        Some("3600000")
    );
    assert_eq!(
        properties.reply_to().as_ref().map(|text| text.as_str()),
        Some("muster.status")
    );
    done(bus).await;
}

async fn producers_of_openkat_can_declare_their_queues(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let (_connection, channel) = broker.client().await;
    for queue in ["raw_file_received", "muster.tasks.boefje", "muster.status"] {
        let durable = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let declared = channel
            .queue_declare(queue.into(), durable, FieldTable::default())
            .await;
        declared.unwrap_or_else(|error| panic!("{queue}: {error}"));
    }
    done(bus).await;
}

async fn typed_headers_are_read(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let (_connection, channel) = broker.client().await;
    let mut table = FieldTable::default();
    table.insert(
        "cloudEvents:time".into(),
        AMQPValue::Timestamp(1_000_000_000),
    );
    table.insert("number".into(), AMQPValue::LongInt(-3));
    table.insert(
        "bytes".into(),
        AMQPValue::LongString(b"\xff".as_slice().into()),
    );
    table.insert("list".into(), AMQPValue::FieldArray(Default::default()));
    let properties = BasicProperties::default().with_headers(table);
    let key = "object.created".into();
    channel
        .basic_publish(
            names::EVENTS.into(),
            key,
            Default::default(),
            b"{}",
            properties,
        )
        .await
        .expect("sent");
    let got = next(&bus).await;
    assert_eq!(
        (got.source, got.routing_key.as_str()),
        (Source::Events(0), "object.created")
    );
    let mut headers = got.headers.clone();
    headers.sort();
    let expected = [
        ("bytes", "\u{fffd}"),
        ("cloudEvents:time", "2001-09-09T01:46:40Z"),
        ("number", "-3"),
    ];
    assert_eq!(
        headers,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    settle(&bus, got, Verdict::Done).await;
    done(bus).await;
}

/// The client hands a returned message to whichever confirm comes next, so this is worth a look.
async fn only_the_task_that_leads_nowhere_is_returned(broker: &Server) {
    let bus = broker.open(&topology()).await;
    publish(&bus, vec![task("nowhere", "0:1", b"{}")]).await;
    broker.cut_off(&task_queue("nowhere")).await;
    let mut letters = Vec::new();
    for number in 0..300 {
        let kind = if number % 7 == 3 { "nowhere" } else { "boefje" };
        letters.push(task(kind, &format!("{number}:1"), &vec![b'x'; number * 10]));
    }
    for (number, answer) in publish(&bus, letters).await.into_iter().enumerate() {
        if number % 7 == 3 {
            let Err(Undelivered::Unroutable(why)) = answer else {
                panic!("{number}: {answer:?}")
            };
            for word in [
                "muster.tasks",
                "muster.tasks.nowhere",
                "`nowhere`",
                "binding",
            ] {
                assert!(why.contains(word), "{why}");
            }
        } else {
            assert_eq!(answer, Ok(()), "{number}");
        }
    }
    assert!(bus.condition().connected);
    done(bus).await;
    let (_connection, channel) = broker.client().await;
    let purged = channel
        .queue_purge("muster.tasks.boefje".into(), Default::default())
        .await;
    assert_eq!(purged.expect("purged"), 257);
}

async fn receipts_of_a_dead_connection_are_void(broker: &Server) {
    let proxy = Proxy::to(broker.port());
    let url = through(&proxy, broker);
    let bus = soon("open", Rabbit::open(&url, &topology()))
        .await
        .expect("opens");
    let mut old = Vec::new();
    for body in [b"0", b"1", b"2"] {
        broker.send(names::EVENTS, Message::of(body)).await;
        old.push((next(&bus).await.receipt, Verdict::Done));
    }
    proxy.cut();
    // They come again, over another connection, with the same delivery tags as before.
    let mut again = Vec::new();
    for body in [b"0", b"1", b"2"] {
        let got = next(&bus).await;
        assert_eq!((got.body.as_slice(), got.redelivered), (&body[..], true));
        again.push(got.receipt);
    }
    bus.settle(old).await;
    // If the old receipts had counted, the broker would have nothing left, or would have hung up.
    again.pop();
    bus.settle(
        again
            .into_iter()
            .map(|receipt| (receipt, Verdict::Done))
            .collect(),
    )
    .await;
    done(bus).await;
    // What is handed back is in the queue a moment later.
    assert_eq!(broker.fetch(names::EVENTS).await.data, b"2");
    assert_eq!(broker.kept(names::EVENTS).await, 0);
}

async fn a_queue_keeps_its_tasks_until_they_expire(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let offered = vec![task("boefje", "k:1", b"{}")];
    let answers = soon("an answer", bus.publish(offered)).await;
    assert_eq!(
        answers,
        [Ok(None)],
        "there is no stream to take it back from"
    );
    let lying = Lying {
        message_id: "k:1".to_owned(),
        sequence: 1,
    };
    assert_eq!(bus.take_back(vec![lying]).await, [Ok(())]);
    let taken = broker.take(&task_queue("boefje")).await;
    assert_eq!(taken.message_id.as_deref(), Some("k:1"));
    done(bus).await;
}

async fn an_exchange_that_is_deleted_is_made_again(broker: &Server) {
    let bus = broker.open(&topology()).await;
    assert_eq!(
        publish(&bus, vec![task("boefje", "e:1", b"{}")]).await,
        vec![Ok(())]
    );
    let (_connection, channel) = broker.client().await;
    let deleted = channel.exchange_delete(names::TASKS.into(), ExchangeDeleteOptions::default());
    deleted.await.expect("deleted");
    let tasks = || vec![task("boefje", "e:2", b"{}")];
    let mut answers = publish(&bus, tasks()).await;
    assert!(answers[0].is_err());
    soon("the exchange is there again", async {
        while answers[0].is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answers = publish(&bus, tasks()).await;
        }
    })
    .await;
    broker.take(&task_queue("boefje")).await;
    broker.take(&task_queue("boefje")).await;
    done(bus).await;
}

async fn a_queue_that_is_deleted_is_made_again(broker: &Server) {
    let bus = broker.open(&topology()).await;
    let (_connection, channel) = broker.client().await;
    let queue = "raw_file_received";
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .expect("deleted");
    soon("the queue is there again", async {
        loop {
            let (_connection, channel) = broker.client().await;
            let passive = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let state = channel
                .queue_declare(queue.into(), passive, FieldTable::default())
                .await;
            if state.is_ok_and(|state| state.consumer_count() == 1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    broker.send(queue, Message::of(b"{}")).await;
    let got = next(&bus).await;
    settle(&bus, got, Verdict::Done).await;
    done(bus).await;
}

async fn another_declaration_is_an_error_that_names_both(broker: &Server) {
    let (_connection, channel) = broker.client().await;
    let delete = QueueDeleteOptions::default();
    channel
        .queue_delete("muster.tasks.boefje".into(), delete)
        .await
        .expect("deleted");
    let mut table = FieldTable::default();
    table.insert("x-max-priority".into(), AMQPValue::LongInt(10));
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let declared = channel
        .queue_declare("muster.tasks.boefje".into(), durable, table)
        .await;
    declared.expect("declared");
    let conflict = soon("an error", Rabbit::open(&broker.url(), &topology()))
        .await
        .err();
    let Some(BusError::Conflict(why)) = conflict else {
        panic!("{conflict:?}")
    };
    for word in [
        "`muster.tasks.boefje`",
        "x-max-priority",
        "without arguments",
    ] {
        assert!(why.contains(word), "{why}");
    }
    channel
        .queue_delete("muster.tasks.boefje".into(), delete)
        .await
        .expect("deleted");

    let delete = ExchangeDeleteOptions::default();
    channel
        .exchange_delete(names::CONTROL.into(), delete)
        .await
        .expect("deleted");
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let kind = ExchangeKind::Direct;
    let declared =
        channel.exchange_declare(names::CONTROL.into(), kind, durable, FieldTable::default());
    declared.await.expect("declared");
    let conflict = soon("an error", Rabbit::open(&broker.url(), &topology()))
        .await
        .err();
    let Some(BusError::Conflict(why)) = conflict else {
        panic!("{conflict:?}")
    };
    for word in ["`muster.control`", "fanout", "direct"] {
        assert!(why.contains(word), "{why}");
    }
    channel
        .exchange_delete(names::CONTROL.into(), delete)
        .await
        .expect("deleted");
}

async fn wrong_credentials_are_refused_at_once_and_not_shown(broker: &Server) {
    let stranger = broker.url().replace("guest:guest", "guest:hush");
    let elsewhere = broker.url().replace("%2f", "elsewhere");
    for (url, word) in [(stranger, "ACCESS_REFUSED"), (elsewhere, "elsewhere")] {
        let refused = soon("a refusal", Rabbit::open(&url, &topology()))
            .await
            .err();
        let Some(BusError::Refused(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(why.contains(word) && !why.contains("hush"), "{why}");
    }
}

/// Another reader that is not ours holds the queue alone; and then it leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_reader_of_somebody_else_is_waited_out() {
    let broker = Server::start();
    let mut alone = topology();
    alone.intakes[1].exclusive = true;
    let (connection, channel) = broker.client().await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let queue = "raw_file_received";
    channel
        .queue_declare(queue.into(), durable, FieldTable::default())
        .await
        .expect("declared");
    let exclusive = BasicConsumeOptions {
        exclusive: true,
        ..Default::default()
    };
    let consumer = channel.basic_consume(queue.into(), "".into(), exclusive, FieldTable::default());
    let mut consumer = consumer.await.expect("reads");

    let bus = broker.open(&alone).await;
    broker.send(names::EVENTS, Message::of(b"event")).await;
    let event = next(&bus).await;
    settle(&bus, event, Verdict::Done).await;
    broker.send(queue, Message::of(b"file")).await;
    let theirs = soon("a file", consumer.next())
        .await
        .expect("a file")
        .expect("a file");
    assert_eq!(theirs.data, b"file");
    assert_eq!(bus.condition().reconnects, 0);

    connection.close(200, "".into()).await.expect("closed");
    let ours = next(&bus).await;
    assert_eq!(
        (ours.source, ours.body.as_slice()),
        (Source::Events(1), &b"file"[..])
    );
    settle(&bus, ours, Verdict::Done).await;
    done(bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_beyond_the_limit_of_the_broker_fails_alone() {
    let server = servers::Rabbit::with(|_| ", {max_message_size, 10000}".to_owned());
    let broker = Server(server);
    let bus = broker.open(&topology()).await;
    let letters = vec![
        task("boefje", "a:1", b"{\"a\":1}"),
        task("boefje", "b:1", &[b'x'; 10_001]),
        task("boefje", "c:1", b"{\"c\":1}"),
    ];
    let answers = publish(&bus, letters).await;
    assert_eq!((&answers[0], &answers[2]), (&Ok(()), &Ok(())));
    let Err(Undelivered::TooLarge(why)) = &answers[1] else {
        panic!("{:?}", answers[1])
    };
    assert!(why.contains("10000"), "{why}");
    assert_eq!(
        publish(&bus, vec![task("boefje", "d:1", b"{}")]).await,
        vec![Ok(())]
    );
    done(bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqps_is_tls_with_the_certificates_of_the_machine() {
    if crate::trusts_when_told::<Server>().await {
        return;
    }
    let port = free_port();
    let server = servers::Rabbit::with(|folder| {
        let Certificates {
            authority,
            certificate,
            key,
        } = Certificates::make(folder);
        format!(
            ", {{ssl_listeners, [{{\"127.0.0.1\", {port}}}]}}, {{ssl_options, [{{cacertfile, {authority:?}}}, \
             {{certfile, {certificate:?}}}, {{keyfile, {key:?}}}, {{versions, ['tlsv1.3', 'tlsv1.2']}}]}}"
        )
    });
    let url = format!("amqps://guest:guest@localhost:{port}/%2f");
    let test = "rabbit::amqps_is_tls_with_the_certificates_of_the_machine";
    crate::only_with_the_right_authority::<Server>(test, &url, server.folder()).await;
}
