//! Why something was made, was not, or has not run yet.

use muster::moment::Moment;
use muster::store::Older;
use serde_json::{Value, json};

use super::asking::House;

fn created(id: &str, source: &str, organization: &str, key: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": source, "type": "object.created", "time": "2026-11-21T09:00:00Z",
        "data": {"organization": organization, "object_type": "hostname", "primary_key": key,
                 "attributes": {"name": "it's \"é\" \\ so"}, "scan_level": 2},
    })
}

async fn refusal(house: &House, organization: Option<&str>, args: Value) -> (String, String) {
    let said = house.ask_as(None, organization, "explain", args).await;
    let refused = said.expect_err("it is refused");
    (
        refused.code,
        format!("{}; {}", refused.message, refused.help),
    )
}

pub async fn an_event_that_was_handled_is_explained_with_what_was_made_of_it(house: House) {
    let event = created("e1", "/inventory", "acme", "h1");
    assert_eq!(house.event(&event.to_string()).await, 0);
    let handled_at = house.ground.clock.now();
    let told = house.done("explain", json!({"event_id": "e1"})).await;
    assert_eq!(told["kept"]["operations"], json!(["created"]));
    assert_eq!(told["kept"]["handled_at"], handled_at.to_string());
    assert_eq!(told["handled_before"], true);
    assert_eq!(told["unchanged"], true, "the object is as it says already");
    let made = told["made"].as_array().expect("runs");
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["schedule"], "hosts");
    assert_eq!(made[0]["tasks"][0]["plugin"], "dns");
    assert_eq!(made[0]["tasks"][0]["state"], "queued");
    let hosts = told["schedules"].as_array().expect("findings").iter();
    let hosts = hosts.clone().find(|finding| finding["schedule"] == "hosts");
    let hosts = hosts.expect("the schedule");
    assert_eq!(hosts["plugins"][0]["reason"], "duplicate", "{hosts}");
    // What it did then stays what it did, also where the same would do nothing now.
    let again = created("e2", "/inventory", "acme", "h1");
    assert_eq!(house.event(&again.to_string()).await, 0);
    let told = house.done("explain", json!({"event_id": "e2"})).await;
    assert_eq!(told["kept"]["operations"], json!([]));
    assert_eq!(told["made"], json!([]));
    // By the id under which it is kept too.
    let kept = told["kept"]["id"].clone();
    let same = house.done("explain", json!({"event_id": kept})).await;
    assert_eq!(same["event"]["id"], "e2");
    assert_eq!(house.offer().await.len(), 1, "explaining makes nothing");
}

pub async fn an_event_that_is_not_kept_or_not_ones_own_is_not_explained(house: House) {
    house
        .event(&created("e1", "/a", "acme", "h1").to_string())
        .await;
    house
        .event(&created("e1", "/b", "acme", "h2").to_string())
        .await;
    let (code, said) = refusal(&house, None, json!({"event_id": "e1"})).await;
    assert_eq!(code, "ambiguous");
    assert!(said.contains("/a, /b"), "{said}");
    let one = json!({"event_id": "e1", "source": "/b"});
    assert_eq!(
        house.done("explain", one.clone()).await["primary_key"],
        "h2"
    );
    let (code, said) = refusal(&house, Some("other"), one.clone()).await;
    assert_eq!(code, "not_found", "{said}");
    assert!(!said.contains("oldest"), "nothing of others: {said}");
    for (args, words) in [
        (json!({"event_id": "e9"}), "retention.events"),
        (json!({"event_id": "e1", "event": "{}"}), "in one way"),
        (json!({"event_id": "e1", "queue": "q"}), "goes with `event`"),
        (json!({"evnt_id": "e1"}), "event_id"),
        (json!({"event_id": 7}), "event_id"),
    ] {
        let (_, said) = refusal(&house, None, args.clone()).await;
        assert!(
            said.contains(words),
            "expected `{words}` for {args}: {said}"
        );
    }
    // Once its time is over, nothing of it is there.
    let older = Older {
        events: house
            .ground
            .clock
            .now()
            .plus(muster::moment::Span::seconds(1)),
        ..Older::default()
    };
    let store = &house.ground.store;
    store
        .forget(&older, Moment::EPOCH, 100)
        .await
        .expect("done");
    let (code, said) = refusal(&house, None, one).await;
    assert_eq!(code, "not_found");
    assert!(said.contains("muster explain FILE"), "{said}");
}
