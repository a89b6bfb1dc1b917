//! The newest files of objects, which schedules join.

use std::collections::BTreeSet;

use muster::moment::Moment;
use muster::object::{Change, Rank, Told, Word};
use muster::store::{Committed, Store};
use serde_json::json;

use crate::{House, at, beside, key, sqlx_url};

/// A file that `ports` made of `h1`.
fn file(primary_key: &str, number: i64, ended_at: Option<&str>, mime: &str) -> Told {
    let mut attributes = json!({"plugin_id": "ports", "input_key": "h1", "mime_types": [mime]});
    if let Some(ended_at) = ended_at {
        attributes["ended_at"] = json!(ended_at);
    }
    Told {
        event_id: None,
        event_type: "raw_data.created".to_owned(),
        at: at(1),
        traceparent: None,
        change: Change {
            key: key(primary_key),
            object_type: Some("file".to_owned()),
            rank: Rank {
                number,
                event_id: String::new(),
            },
            word: Word::Object {
                created: true,
                attributes: attributes.as_object().cloned(),
                level: None,
            },
            create_counts: false,
        },
    }
}

async fn newest(store: &Store, organization: &str, beside: &[&str]) -> Option<String> {
    let maker = |of: &str, by: &str| (of.to_owned(), by.to_owned());
    let makers = BTreeSet::from([
        maker("h1", "ports"),
        maker("h1", "pages"),
        maker("h2", "ports"),
    ]);
    let beside = beside.iter().map(|key| (*key).to_owned()).collect();
    let found = store.newest_files(organization, &makers, &beside).await;
    let mut found = found.expect("an answer");
    assert!(found.len() < 2, "{found:?}");
    found.pop().map(|file| file.key.primary_key)
}

pub async fn the_newest_file_is_found_by_its_end_then_its_event_then_its_key(house: House) {
    let organization = key("h1").organization;
    let put = async |told: &[Told], seed: u64| {
        let decided = house.decide(told, seed).await;
        assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
    };
    let look = async |beside: &[&str]| newest(&house.store, &organization, beside).await;
    assert_eq!(look(&[]).await, None);
    // Without its end the number of its event counts, in microseconds.
    let (nine, ten) = ("2026-11-21T09:00:00Z", "2026-11-21T11:00:00+01:00");
    let number = |text: &str| Moment::parse(text).expect("an instant").micros();
    put(&[file("m", number(nine), None, "text/plain")], 1).await;
    assert_eq!(look(&[]).await.as_deref(), Some("m"));
    put(
        &[file(
            "z",
            1,
            Some("2026-11-21T08:59:59.999999Z"),
            "text/plain",
        )],
        2,
    )
    .await;
    assert_eq!(look(&[]).await.as_deref(), Some("m"));
    put(&[file("a", 1, Some(ten), "text/plain")], 3).await;
    assert_eq!(look(&[]).await.as_deref(), Some("a"));
    put(
        &[
            file("b", 2, Some(ten), "text/plain"),
            file("c", 2, Some(ten), "text/plain"),
        ],
        4,
    )
    .await;
    assert_eq!(look(&[]).await.as_deref(), Some("c"));
    assert_eq!(look(&["c"]).await.as_deref(), Some("b"));
    assert_eq!(look(&["c", "b", "a"]).await.as_deref(), Some("m"));
    // What failed is not among them, nor what became so.
    put(&[file("d", 3, Some(ten), "error/boefje")], 5).await;
    assert_eq!(look(&[]).await.as_deref(), Some("c"));
    put(&[file("c", 3, Some(ten), "error/boefje")], 6).await;
    assert_eq!(look(&[]).await.as_deref(), Some("b"));
    let mut gone = file("b", 4, None, "text/plain");
    gone.change.word = Word::Deleted;
    put(&[gone], 7).await;
    assert_eq!(look(&[]).await.as_deref(), Some("a"));
    assert_eq!(newest(&house.store, "other", &[]).await, None);
}

/// The steps of the schema before the one that knows files.
const BEFORE: i64 = 9;

pub async fn files_of_before_are_found_once_the_schema_knows_them(house: House) {
    let url = beside(&house).await;
    let store = Store::open(&url).await.expect("open");
    let plain = match url.strip_prefix("sqlite:") {
        Some(_) => sqlx_url(&format!("{url}?mode=rwc")),
        None => sqlx_url(&url),
    };
    plain
        .execute_sql("CREATE TABLE migration (number bigint PRIMARY KEY, name text NOT NULL)")
        .await;
    let kind = url.split(':').next().expect("a kind");
    let folder = format!("{}/migrations/{kind}", env!("CARGO_MANIFEST_DIR"));
    let steps = std::fs::read_dir(folder).expect("the steps");
    let mut steps: Vec<_> = steps.map(|step| step.expect("a step").path()).collect();
    steps.sort();
    for (number, step) in (1..=BEFORE).zip(steps) {
        plain
            .execute_sql(&std::fs::read_to_string(step).expect("a step"))
            .await;
        plain
            .execute_sql(&format!(
                "INSERT INTO migration (number, name) VALUES ({number}, 'before')"
            ))
            .await;
    }
    let row = |key: &str, attributes: &str, live: i64| {
        format!(
            "INSERT INTO object (organization, primary_key, object_type, attributes, lifted, live, created_rank, version) \
             VALUES ('acme', '{key}', 'file', '{attributes}', 0, {live}, '1|e', 1);"
        )
    };
    let made = |ended: &str| {
        format!(
            r#"{{"plugin_id":"ports","input_key":"h1","mime_types":["a/b"],"ended_at":"{ended}"}}"#
        )
    };
    let mut rows = vec![
        row("old", &made("2026-11-21T09:00:00Z"), 1),
        row("new", &made("2026-11-21T09:00:01Z"), 1),
        row("gone", &made("2026-11-21T09:00:02Z"), 0),
        row(
            "odd",
            r#"{"plugin_id":7,"input_key":"h1","mime_types":"none"}"#,
            1,
        ),
    ];
    rows.extend((0..1500).map(|number| row(&format!("other-{number:04}"), "{}", 1)));
    plain.execute_sql(&rows.concat()).await;
    store.migrate().await.expect("the newer steps");
    assert_eq!(newest(&store, "acme", &[]).await.as_deref(), Some("new"));
    assert_eq!(
        newest(&store, "acme", &["new"]).await.as_deref(),
        Some("old")
    );
    assert_eq!(newest(&store, "acme", &["new", "old"]).await, None);
}
