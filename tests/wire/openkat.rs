//! OpenKAT's own formats.

use super::*;

#[test]
fn openkats_scan_profile_brings_an_object_whatever_the_word() {
    let event = openkat(Format::OpenkatScanProfile, PROFILE_CREATE).unwrap();
    assert_eq!(event.inbox, None);
    assert_eq!(event.told.event_id, None);
    assert_eq!(event.told.at, arrived());
    let mut expected = Change {
        key: key("acme", "Hostname|internet|www.example.com"),
        object_type: Some("hostname".into()),
        rank: Rank {
            number: 42,
            event_id: "00000000000000000042".into(),
        },
        word: Word::Object {
            created: true,
            attributes: None,
            level: Some(level(2, Some("declared"))),
        },
        create_counts: true,
    };
    assert_eq!(event.told.change, expected);
    let updated = String::from_utf8_lossy(PROFILE_CREATE).replace("create", "update");
    let event = openkat(Format::OpenkatScanProfile, updated.as_bytes()).unwrap();
    expected.create_counts = false;
    assert_eq!(event.told.change, expected);
    assert_eq!(event.told.event_type, "object.updated");
}

#[test]
fn openkats_deletion_of_a_scan_profile_deletes_the_object() {
    let event = openkat(Format::OpenkatScanProfile, PROFILE_DELETE).unwrap();
    assert_eq!(event.told.event_type, "object.deleted");
    assert_eq!(event.told.change.word, Word::Deleted);
    assert_eq!(event.told.change.object_type, None);
    assert!(!event.told.change.create_counts);
    let updated = String::from_utf8_lossy(PROFILE_DELETE).replace("delete", "update");
    let read = openkat(Format::OpenkatScanProfile, updated.as_bytes());
    refused(read, Flaw::WrongType, "value is null; it must be an object");
}

#[test]
fn a_message_id_of_the_broker_makes_an_openkat_event_count_once() {
    let names = TypeNames::default();
    for (format, body) in [
        (Format::OpenkatScanProfile, PROFILE_DELETE),
        (Format::OpenkatObject, OBJECT_EVENT),
    ] {
        let mut message = message(body);
        message.message_id = Some("m-1");
        let event = read_as(format, Order::Arrival, &message, &names).unwrap();
        assert_eq!(event.inbox, Some(("message-id".into(), "m-1".into())));
        assert_eq!(event.told.event_id.as_deref(), Some("m-1"));
        assert_eq!(event.told.change.rank.event_id, "m-1");
        message.message_id = Some("");
        let event = read_as(format, Order::Arrival, &message, &names).unwrap();
        assert_eq!(event.inbox, None);
    }
}

#[test]
fn openkats_raw_file_becomes_a_file_that_keeps_its_raw_data() {
    let event = openkat(Format::OpenkatRawFile, RAW_FILE).unwrap();
    let id = "2a6c9c0e-6f4d-4b39-9d0c-5d1c0f6b8a01";
    assert_eq!(event.inbox, Some(("raw-file".into(), id.into())));
    assert_eq!(event.told.event_type, "raw_data.created");
    assert_eq!(event.told.at, moment("2026-03-02T10:15:30.12Z"));
    assert_eq!(event.told.change.key, key("acme", id));
    assert_eq!(event.told.change.object_type.as_deref(), Some("file"));
    let sent: Value = serde_json::from_slice(RAW_FILE).unwrap();
    let expected = json!({
        "mime_types": ["boefje/dns-records", "application/json"], "plugin_id": "dns-records",
        "task_id": "9f1d5a52-0a5e-4b0f-8f6c-1c7f0a2b3c44", "input_type": "hostname",
        "input_key": "Hostname|internet|www.example.com", "started_at": "2026-03-02T10:15:21Z",
        "ended_at": "2026-03-02T10:15:29Z", "raw_data": sent["raw_data"],
    });
    assert_eq!(attributes(&event), &map(expected));
    let ends = EndsTask {
        task_id: "9f1d5a52-0a5e-4b0f-8f6c-1c7f0a2b3c44".into(),
        failed: false,
    };
    assert_eq!(event.ends, Some(ends));
    let failed = String::from_utf8_lossy(RAW_FILE).replace("application/json", "error/boefje");
    let event = openkat(Format::OpenkatRawFile, failed.as_bytes()).unwrap();
    assert!(event.ends.unwrap().failed);
}

#[test]
fn openkats_object_event_has_its_own_time_and_leaves_out_what_is_not_an_attribute() {
    let names = TypeNames::default();
    let event = read_as(
        Format::OpenkatObject,
        Order::Time,
        &message(OBJECT_EVENT),
        &names,
    )
    .unwrap();
    let at = moment("2026-03-02T10:15:35Z");
    assert_eq!(event.told.at, at);
    let change = &event.told.change;
    assert_eq!(change.rank.number, at.micros());
    assert_eq!(change.key, key("acme", "Hostname|internet|mx.example.com"));
    assert!(change.create_counts);
    let expected = Word::Object {
        created: true,
        attributes: Some(map(json!({
            "network": "Network|internet", "name": "mx.example.com", "dns_zone": null, "registered_domain": null,
        }))),
        level: None,
    };
    assert_eq!(change.word, expected);

    let mut sent: Value = serde_json::from_slice(OBJECT_EVENT).unwrap();
    sent["new_data"]["scan_profile"] = json!({"level": 1, "scan_profile_type": "inherited"});
    sent["operation_type"] = json!("update");
    let event = openkat(Format::OpenkatObject, sent.to_string().as_bytes()).unwrap();
    assert!(!event.told.change.create_counts);
    match event.told.change.word {
        Word::Object {
            created,
            level: said,
            ..
        } => {
            assert!(!created);
            assert_eq!(said, Some(level(1, Some("inherited"))));
        }
        other => panic!("{other:?}"),
    }

    sent["operation_type"] = json!("delete");
    sent["old_data"] = sent["new_data"].take();
    let event = openkat(Format::OpenkatObject, sent.to_string().as_bytes()).unwrap();
    assert_eq!(event.told.change.word, Word::Deleted);
    assert_eq!(
        event.told.change.key,
        key("acme", "Hostname|internet|mx.example.com")
    );
}

#[test]
fn every_required_field_of_openkats_events_is_named_when_it_is_missing() {
    for (format, body, pointers) in [
        (
            Format::OpenkatScanProfile,
            PROFILE_CREATE,
            &[
                "/operation",
                "/client_id",
                "/primary_key",
                "/value",
                "/value/object_type",
                "/value/scan_profile",
                "/value/scan_profile/level",
            ][..],
        ),
        (
            Format::OpenkatRawFile,
            RAW_FILE,
            &[
                "/organization",
                "/raw_data",
                "/raw_data/id",
                "/raw_data/mime_types",
                "/raw_data/boefje_meta",
                "/raw_data/boefje_meta/id",
                "/raw_data/boefje_meta/boefje",
                "/raw_data/boefje_meta/boefje/id",
            ],
        ),
        (
            Format::OpenkatObject,
            OBJECT_EVENT,
            &[
                "/entity_type",
                "/operation_type",
                "/client",
                "/valid_time",
                "/new_data",
                "/new_data/primary_key",
                "/new_data/object_type",
            ],
        ),
    ] {
        for pointer in pointers {
            let mut event: Value = serde_json::from_slice(body).unwrap();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let parent = event
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
                .unwrap();
            parent.remove(name).unwrap();
            let way = pointer.trim_start_matches('/').replace('/', ".");
            let read = openkat(format, event.to_string().as_bytes());
            refused(read, Flaw::MissingField, &format!("{way} is missing"));
        }
    }
    let origin = String::from_utf8_lossy(OBJECT_EVENT).replace("\"ooi\"", "\"origin\"");
    refused(
        openkat(Format::OpenkatObject, origin.as_bytes()),
        Flaw::UnknownType,
        "entity_type is `origin`",
    );
    let renewed = String::from_utf8_lossy(PROFILE_CREATE).replace("create", "renew");
    let read = openkat(Format::OpenkatScanProfile, renewed.as_bytes());
    refused(
        read,
        Flaw::BadValue,
        "operation is `renew`; it must be create, update or delete",
    );
}
