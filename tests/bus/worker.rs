//! The worker's side of a broker: tasks and control come in, statuses go out.

use muster::bus::{Address, Bus, Role, Source, Topology, Verdict, names};

use crate::outside::{Broker, Message};
use crate::support::proxy::Proxy;
use crate::{
    done, letter, next, publish, settle, soon, task, task_queue, through, topology, until,
};

fn workers() -> Topology {
    Topology {
        role: Role::Worker,
        intakes: Vec::new(),
        task_queues: vec![task_queue("boefje"), task_queue("normalizer")],
        prefetch: 1,
    }
}

pub async fn contract_of_a_worker<B: Broker>(broker: &B) {
    tasks_and_control_are_read_and_statuses_arrive(broker).await;
    who_takes_no_tasks_leaves_them_to_others(broker).await;
    what_a_dead_worker_had_goes_to_another(broker).await;
    a_worker_whose_connection_was_cut_reads_on(broker).await;
}

async fn tasks_and_control_are_read_and_statuses_arrive<B: Broker>(broker: &B) {
    // A worker can be there before any service: it declares what it needs.
    let worker = broker.open(&workers()).await;
    let service = broker.open(&topology()).await;
    let letters = vec![
        task("boefje", "w-1:1", b"{\"w\":1}"),
        task("normalizer", "w-2:1", b"{\"w\":2}"),
    ];
    assert_eq!(publish(&service, letters).await, vec![Ok(()); 2]);
    let mut came = Vec::new();
    for _ in 0..2 {
        worker.take_tasks(true);
        let got = next(&worker).await;
        assert_eq!(got.source, Source::Tasks);
        came.push((got.message_id.clone(), got.body.clone()));
        settle(&worker, got, Verdict::Done).await;
    }
    came.sort();
    assert_eq!(came[0], (Some("w-1:1".to_owned()), b"{\"w\":1}".to_vec()));
    assert_eq!(came[1], (Some("w-2:1".to_owned()), b"{\"w\":2}".to_vec()));

    let cancel = letter(Address::Control, "c-1", b"{\"type\":\"cancel\"}");
    assert_eq!(publish(&service, vec![cancel]).await, vec![Ok(())]);
    let told = next(&worker).await;
    assert_eq!(
        (told.source, told.body.as_slice()),
        (Source::Control, b"{\"type\":\"cancel\"}".as_slice())
    );
    settle(&worker, told, Verdict::Done).await;

    let status = letter(
        Address::Status,
        "s-1",
        b"{\"task_id\":\"t\",\"status\":\"accepted\"}",
    );
    assert_eq!(publish(&worker, vec![status]).await, vec![Ok(())]);
    let heard = next(&service).await;
    assert_eq!(heard.source, Source::Status);
    assert_eq!(heard.body, b"{\"task_id\":\"t\",\"status\":\"accepted\"}");
    settle(&service, heard, Verdict::Done).await;
    done(worker).await;
    done(service).await;
}

async fn who_takes_no_tasks_leaves_them_to_others<B: Broker>(broker: &B) {
    let service = broker.open(&topology()).await;
    let (full, free) = (broker.open(&workers()).await, broker.open(&workers()).await);
    free.take_tasks(false);
    let letters = (0..6)
        .map(|n| task("boefje", &format!("f-{n}:1"), b"{}"))
        .collect();
    assert_eq!(publish(&service, letters).await, vec![Ok(()); 6]);
    // One hand: what comes after it was filled is given back.
    let kept = next(&full).await;
    full.take_tasks(false);
    free.take_tasks(true);
    let rest = async {
        let mut came = 0;
        while came < 5 {
            let given_back = async {
                let more = full.next().await.expect("the bus has not ended");
                settle(&full, more, Verdict::Again).await;
            };
            tokio::select! {
                () = given_back => {}
                got = next(&free) => {
                    settle(&free, got, Verdict::Done).await;
                    free.take_tasks(true);
                    came += 1;
                }
            }
        }
    };
    soon("what the full one left", rest).await;
    settle(&full, kept, Verdict::Done).await;
    done(full).await;
    done(free).await;
    done(service).await;
    assert_eq!(broker.kept("muster.tasks.boefje").await, 0);
}

async fn what_a_dead_worker_had_goes_to_another<B: Broker>(broker: &B) {
    let service = broker.open(&topology()).await;
    let proxy = Proxy::to(broker.port());
    let dead = B::open_at(&through(&proxy, broker), &workers())
        .await
        .expect("opens");
    assert_eq!(
        publish(&service, vec![task("boefje", "d-1:1", b"{\"d\":1}")]).await,
        vec![Ok(())]
    );
    let had = next(&dead).await;
    proxy.refuse(true);
    proxy.cut();
    // It is as good as dead: nobody says any more that this message is worked on.
    std::mem::forget(had);
    let alive = broker.open(&workers()).await;
    let got = next(&alive).await;
    assert_eq!(
        (got.body.as_slice(), got.redelivered),
        (b"{\"d\":1}".as_slice(), true)
    );
    settle(&alive, got, Verdict::Done).await;
    done(alive).await;
    done(service).await;
}

async fn a_worker_whose_connection_was_cut_reads_on<B: Broker>(broker: &B) {
    let proxy = Proxy::to(broker.port());
    let worker = B::open_at(&through(&proxy, broker), &workers())
        .await
        .expect("opens");
    proxy.cut();
    let status = Message {
        body: b"{\"s\":1}".to_vec(),
        ..Message::default()
    };
    broker.send(names::STATUS, status).await;
    let service = broker.open(&topology()).await;
    assert_eq!(next(&service).await.body, b"{\"s\":1}");
    assert_eq!(
        publish(&service, vec![task("boefje", "e-1:1", b"{\"e\":1}")]).await,
        vec![Ok(())]
    );
    let got = next(&worker).await;
    assert_eq!(got.body, b"{\"e\":1}");
    settle(&worker, got, Verdict::Done).await;
    until("the connection was made again", || {
        worker.condition().reconnects >= 1
    })
    .await;
    done(worker).await;
    done(service).await;
}
