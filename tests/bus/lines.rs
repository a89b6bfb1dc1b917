//! What is true of lines alone.

use muster::bus::lines::Lines;
use muster::bus::{Address, Bus, LARGEST, Source, Undelivered};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::outside::on_lines::Streams;
use crate::{contract, letter, next, publish, soon, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_keep_the_contract() {
    contract(&Streams::default()).await;
}

#[tokio::test]
async fn the_end_of_input_ends_the_deliveries_and_its_last_line_counts() {
    let input = b"\n  \n{\"a\":1}\r\n\n\n{\"command\":\"stats\"}\nno end".as_slice();
    let bus = Lines::open(input, tokio::io::sink());
    assert_eq!(next(&bus).await.body, b"{\"a\":1}\r");
    assert_eq!(next(&bus).await.source, Source::Commands);
    assert_eq!(next(&bus).await.body, b"no end");
    assert!(bus.next().await.is_none());
    assert!(bus.next().await.is_none());
}

#[tokio::test]
async fn a_line_that_is_too_long_shows_that_it_is_and_spoils_no_other() {
    let (mut writer, reader) = duplex(1 << 16);
    tokio::spawn(async move {
        for length in [LARGEST, LARGEST + 1, LARGEST + 70_000] {
            writer
                .write_all(&vec![b'x'; length])
                .await
                .expect("written");
            writer.write_all(b"\nnext\n").await.expect("written");
        }
    });
    let bus = Lines::open(reader, tokio::io::sink());
    for length in [LARGEST, LARGEST + 1, LARGEST + 1] {
        assert_eq!(next(&bus).await.body.len(), length);
        assert_eq!(next(&bus).await.body, b"next");
    }
    assert!(bus.next().await.is_none());
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing_of_a_line() {
    let (mut writer, reader) = duplex(8);
    let bus = Lines::open(reader, tokio::io::sink());
    for part in [&b"{\"na"[..], b"me\":", b"1}"] {
        writer.write_all(part).await.expect("written");
        tokio::select! {
            biased;
            _ = bus.next() => panic!("the line has not ended"),
            () = std::future::ready(()) => {}
        }
    }
    writer.write_all(b"\n").await.expect("written");
    assert_eq!(next(&bus).await.body, b"{\"name\":1}");
}

#[tokio::test]
async fn a_message_is_one_line_whatever_is_in_it() {
    let (writer, mut reader) = duplex(1 << 16);
    let bus = Lines::open(tokio::io::empty(), writer);
    let letters = vec![
        task("boefje", "a:1", b"{\n  \"a\": 1\r\n}"),
        letter(Address::Reply("whoever".to_owned()), "b", b"{\"ok\":true}"),
        letter(
            Address::Lifecycle("run.started".to_owned()),
            "c",
            b"{\"specversion\":\"1.0\"}",
        ),
    ];
    assert_eq!(publish(&bus, letters).await, vec![Ok(()); 3]);
    soon("close", bus.close()).await;
    let mut all = String::new();
    reader.read_to_string(&mut all).await.expect("read");
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(
        lines,
        [
            "{   \"a\": 1  }",
            "{\"ok\":true}",
            "{\"specversion\":\"1.0\"}"
        ]
    );
}

#[tokio::test]
async fn a_closed_output_is_told_and_does_not_grow() {
    let (writer, reader) = duplex(1 << 16);
    drop(reader);
    let bus = Lines::open(tokio::io::empty(), writer);
    for _ in 0..3 {
        let answers = publish(&bus, vec![task("boefje", "a:1", b"{}"); 2]).await;
        for answer in answers {
            let Err(Undelivered::Unconfirmed(why)) = answer else {
                panic!("{answer:?}")
            };
            assert!(why.contains("output"), "{why}");
        }
    }
    assert!(bus.condition().trouble.is_some());
}

#[tokio::test]
async fn a_cancelled_publication_leaves_whole_lines() {
    let (writer, mut reader) = duplex(4);
    let bus = Lines::open(tokio::io::empty(), writer);
    tokio::select! {
        biased;
        _ = bus.publish(vec![task("boefje", "a:1", b"{\"first\":1}")]) => panic!("nobody reads"),
        () = std::future::ready(()) => {}
    }
    let mut all = String::new();
    let (answers, ()) = tokio::join!(
        async {
            let answers = bus
                .publish(vec![task("boefje", "b:1", b"{\"second\":2}")])
                .await;
            bus.close().await;
            answers
        },
        async {
            reader.read_to_string(&mut all).await.expect("read");
        }
    );
    assert_eq!(answers, vec![Ok(None)]);
    assert_eq!(all, "{\"first\":1}\n{\"second\":2}\n");
}
