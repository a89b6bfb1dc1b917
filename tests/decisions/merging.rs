//! How the changes of one object merge: in any order into the same object.

use muster::object::{Change, Level, Object, Operation, Rank, TypeNames, Word, merge};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{object, object_key};

fn change(number: i64, event_id: &str, word: Word) -> Change {
    Change {
        key: object_key("www"),
        object_type: Some("hostname".to_owned()),
        rank: Rank {
            number,
            event_id: event_id.to_owned(),
        },
        word,
        create_counts: false,
    }
}

fn level(level: u8) -> Word {
    Word::Level(Some(Level {
        level,
        profile_type: Some("declared".to_owned()),
    }))
}

fn merged(changes: &[Change]) -> Object {
    let mut object = Object {
        key: object_key("www"),
        ..Object::default()
    };
    for change in changes {
        merge(&mut object, change).expect("one type");
    }
    object
}

/// What everybody can see of an object.
fn seen(object: &Object) -> (bool, String, Map<String, Value>, Option<u8>, Option<String>) {
    (
        object.live(),
        object.object_type.clone(),
        object.attributes.clone(),
        object.level,
        object.profile_type.clone(),
    )
}

#[test]
fn attributes_are_replaced_whole_and_an_absent_level_stays() {
    let object = merged(&[
        change(1, "a", object(true, json!({ "a": 1, "b": 2 }), Some(3))),
        change(2, "b", object(false, json!({ "b": 3 }), None)),
    ]);
    assert_eq!(
        (Value::Object(object.attributes), object.level),
        (json!({ "b": 3 }), Some(3))
    );
}

#[test]
fn an_older_change_that_comes_late_is_told_and_overwrites_nothing() {
    let mut known = merged(&[change(5, "a", object(true, json!({ "a": "new" }), None))]);
    let late = merge(
        &mut known,
        &change(4, "b", object(false, json!({ "a": "old" }), None)),
    );
    let late = late.expect("one type");
    assert!(late.late && late.operations.is_empty(), "{late:?}");
    assert_eq!(known.attributes["a"], "new");
}

#[test]
fn on_a_tie_a_delete_wins_and_then_the_larger_id() {
    let created = change(3, "zz", object(true, json!({}), None));
    let deleted = change(3, "a", Word::Deleted);
    for changes in [
        [created.clone(), deleted.clone()],
        [deleted.clone(), created.clone()],
    ] {
        assert!(!merged(&changes).live());
    }
    let one = change(3, "a", object(true, json!({ "from": "a" }), None));
    let two = change(3, "b", object(true, json!({ "from": "b" }), None));
    for changes in [[one.clone(), two.clone()], [two, one]] {
        assert_eq!(merged(&changes).attributes["from"], "b");
    }
}

#[test]
fn what_is_deleted_stays_deleted_until_a_newer_created() {
    let begun = [
        change(1, "a", object(true, json!({}), Some(2))),
        change(3, "b", Word::Deleted),
    ];
    let mut gone = merged(&begun);
    assert_eq!(gone.level, None, "expected the level to go with the object");
    merge(
        &mut gone,
        &change(4, "c", object(false, json!({ "a": 1 }), None)),
    )
    .expect("one type");
    assert!(!gone.live(), "expected an update not to bring it back");
    let late = merge(&mut gone, &change(2, "d", object(true, json!({}), None)));
    assert!(late.expect("one type").late);
    assert!(
        !gone.live(),
        "expected an older created not to bring it back"
    );
    let back = merge(&mut gone, &change(5, "e", object(true, json!({}), None)));
    assert_eq!(back.expect("one type").operations, [Operation::Created]);
    assert!(gone.live());
}

#[test]
fn the_attributes_and_the_level_have_each_an_order_of_their_own() {
    let object = merged(&[
        change(1, "a", object(true, json!({ "a": 1 }), None)),
        change(9, "b", level(2)),
        change(5, "c", object(false, json!({ "a": 2 }), None)),
        change(7, "d", level(4)),
    ]);
    assert_eq!(
        (&object.attributes["a"], object.level),
        (&json!(2), Some(2)),
        "expected a newer level not to hold back attributes, and an older level to count for nothing"
    );
}

#[test]
fn names_of_types_become_ours_by_runs_of_capitals() {
    let names = TypeNames {
        aliases: [("HostnameHTTPURL".to_owned(), "hostname_http_url".to_owned())].into(),
        ..TypeNames::default()
    };
    for (written, ours) in [
        ("Hostname", "hostname"),
        ("DNSTXTRecord", "dnstxt_record"),
        ("IPPort", "ip_port"),
        ("IPAddressV4", "ip_address"),
        ("IPAddressV6", "ip_address"),
        ("HTTPResource", "http_resource"),
        ("HostnameHTTPURL", "hostname_http_url"),
        ("hostname", "hostname"),
    ] {
        assert_eq!(names.ours(written), ours);
    }
}

fn any_word() -> impl Strategy<Value = Word> {
    let said = prop::option::of(0_u8..5);
    prop_oneof![
        (
            any::<bool>(),
            prop::option::weighted(0.8, 0..3),
            said.clone()
        )
            .prop_map(|(created, value, level)| Word::Object {
                // OpenKAT's profiles bring no attributes, and are creations.
                created: created || value.is_none(),
                attributes: value.map(|value| Map::from_iter([("a".to_owned(), json!(value))])),
                level: level.map(|level| Level {
                    level,
                    profile_type: None
                }),
            }),
        said.prop_map(|level| Word::Level(level.map(|level| Level {
            level,
            profile_type: Some("declared".to_owned())
        }))),
        Just(Word::Deleted),
    ]
}

/// Changes with few numbers, so that ties are common, in two orders.
fn two_orders() -> impl Strategy<Value = (Vec<Change>, Vec<Change>)> {
    prop::collection::vec((0_i64..6, any_word()), 1..9)
        .prop_map(|parts| {
            let changes = parts.into_iter().enumerate();
            changes
                .map(|(at, (number, word))| change(number, &format!("e-{at}"), word))
                .collect::<Vec<Change>>()
        })
        .prop_flat_map(|changes| (Just(changes.clone()), Just(changes).prop_shuffle()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_the_same_changes_ends_in_the_same_object((one, other) in two_orders()) {
        let (first, second) = (merged(&one), merged(&other));
        // Whether it was ever above level 0 is a memory of what triggered, not a part of the object.
        prop_assert_eq!(seen(&first), seen(&second));
        prop_assert_eq!(
            (&first.created_rank, &first.deleted_rank, &first.attributes_rank, &first.level_rank),
            (&second.created_rank, &second.deleted_rank, &second.attributes_rank, &second.level_rank)
        );
    }

    #[test]
    fn a_tail_that_is_replayed_in_its_order_ends_in_the_same_object((changes, _) in two_orders(), from in 0_usize..9) {
        let mut known = merged(&changes);
        let before = seen(&known);
        for change in changes.iter().skip(from) {
            merge(&mut known, change).expect("one type");
        }
        prop_assert_eq!(seen(&known), before);
    }

    #[test]
    fn the_same_change_twice_triggers_once((changes, _) in two_orders()) {
        let mut known = Object { key: object_key("www"), ..Object::default() };
        for change in &changes {
            merge(&mut known, change).expect("one type");
            let again = merge(&mut known, change).expect("one type");
            prop_assert_eq!(again.operations, []);
            prop_assert!(!again.withdraws);
        }
    }
}
