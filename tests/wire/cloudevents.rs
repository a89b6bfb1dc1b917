//! Native events: CloudEvents 1.0 in both modes.

use super::*;

#[test]
fn the_native_event_of_the_contract_is_read() {
    let event = native(CLOUDEVENT).unwrap();
    assert_eq!(event.inbox, Some(("/inventory".into(), "e-1".into())));
    assert_eq!(event.ends, None);
    assert_eq!(event.told.event_id.as_deref(), Some("e-1"));
    assert_eq!(event.told.event_type, "object.created");
    let at = moment("2026-11-21T09:30:00Z");
    assert_eq!(event.told.at, at);
    assert_eq!(event.told.traceparent, None);
    let expected = Change {
        key: key("acme", "Hostname|internet|www.example.com"),
        object_type: Some("hostname".into()),
        rank: Rank {
            number: at.micros(),
            event_id: "e-1".into(),
        },
        word: Word::Object {
            created: true,
            attributes: Some(map(json!({"name": "www.example.com"}))),
            level: Some(level(2, None)),
        },
        create_counts: false,
    };
    assert_eq!(event.told.change, expected);
}

#[test]
fn an_update_is_not_a_creation_and_a_deletion_has_no_attributes() {
    let updated = native_value(&changed("/type", Some(json!("object.updated")))).unwrap();
    assert!(matches!(
        updated.told.change.word,
        Word::Object {
            created: false,
            attributes: Some(_),
            ..
        }
    ));
    let data = json!({"organization": "acme", "object_type": "hostname", "primary_key": "k"});
    let deleted = native_value(&event("object.deleted", data)).unwrap();
    assert_eq!(deleted.told.change.word, Word::Deleted);
    assert_eq!(deleted.told.change.object_type.as_deref(), Some("hostname"));
}

#[test]
fn a_scan_profile_sets_the_level_alone_and_its_deletion_clears_it() {
    let data = json!({"organization": "acme", "primary_key": "k", "scan_level": 3, "scan_profile_type": "declared"});
    for event_type in ["scan_profile.created", "scan_profile.updated"] {
        let told = native_value(&event(event_type, data.clone())).unwrap().told;
        assert_eq!(told.change.object_type, None);
        assert_eq!(
            told.change.word,
            Word::Level(Some(level(3, Some("declared"))))
        );
    }
    let data = json!({"organization": "acme", "primary_key": "k", "object_type": "Hostname"});
    let told = native_value(&event("scan_profile.deleted", data.clone()))
        .unwrap()
        .told;
    assert_eq!(told.change.object_type.as_deref(), Some("hostname"));
    assert_eq!(told.change.word, Word::Level(None));
    let without = native_value(&event("scan_profile.updated", data));
    refused(without, Flaw::MissingField, "data.scan_level is missing");
}

#[test]
fn raw_data_becomes_a_file_with_the_attributes_that_queries_see() {
    let data = json!({
        "organization": "acme", "id": "f-1", "mime_types": ["text/plain", "dns-records"],
        "plugin_id": "dns-records", "task_id": "t-1",
        "input": {"object_type": "Hostname", "primary_key": "Hostname|internet|www.example.com"},
        "started_at": "2026-11-21T09:29:00Z", "ended_at": "2026-11-21T09:29:30Z",
        "attributes": {"size": 12, "plugin_id": "another"},
    });
    let read = native_value(&event("raw_data.created", data)).unwrap();
    assert_eq!(read.told.change.key, key("acme", "f-1"));
    assert_eq!(read.told.change.object_type.as_deref(), Some("file"));
    let expected = json!({
        "mime_types": ["text/plain", "dns-records"], "plugin_id": "dns-records", "task_id": "t-1",
        "input_type": "hostname", "input_key": "Hostname|internet|www.example.com",
        "started_at": "2026-11-21T09:29:00Z", "ended_at": "2026-11-21T09:29:30Z", "size": 12,
    });
    assert_eq!(attributes(&read), &map(expected));
    let ends = EndsTask {
        task_id: "t-1".into(),
        failed: false,
    };
    assert_eq!(read.ends, Some(ends));
}

#[test]
fn a_file_needs_no_task_and_no_input_and_one_of_errors_tells_of_a_failure() {
    let data = json!({"organization": "acme", "id": "f-1", "mime_types": [], "plugin_id": "p"});
    let read = native_value(&event("raw_data.created", data)).unwrap();
    assert_eq!(
        attributes(&read),
        &map(json!({"mime_types": [], "plugin_id": "p"}))
    );
    assert_eq!(read.ends, None);
    let data = json!({"organization": "acme", "id": "f-1", "mime_types": ["text/plain", "error/boefje"], "plugin_id": "p", "task_id": "t"});
    let read = native_value(&event("raw_data.created", data)).unwrap();
    assert!(read.ends.unwrap().failed);
}

#[test]
fn changes_are_ordered_by_what_the_intake_says() {
    let names = TypeNames::default();
    let numbered = changed("/data/version", Some(json!(17))).to_string();
    let untimed = changed("/time", None).to_string();
    let rank = |order, body: &str| {
        let read = read_as(
            Format::CloudEvents,
            order,
            &message(body.as_bytes()),
            &names,
        );
        read.map(|event| event.told.change.rank)
    };
    let ranked = |number| Rank {
        number,
        event_id: "e-1".into(),
    };
    assert_eq!(rank(Order::Version, &numbered).unwrap(), ranked(17));
    assert_eq!(rank(Order::Arrival, &numbered).unwrap(), ranked(42));
    assert_eq!(
        rank(Order::Time, &untimed).unwrap(),
        ranked(arrived().micros())
    );
    let wrong = rank(Order::Version, &untimed).unwrap_err();
    assert_eq!(wrong.reason, Flaw::MissingField);
    assert_eq!(
        wrong.message,
        "data.version is missing; this intake is ordered by version"
    );
}

#[test]
fn binary_mode_reads_the_attributes_from_headers_however_a_binding_names_them() {
    let event: Value = serde_json::from_slice(CLOUDEVENT).unwrap();
    let body = event["data"].to_string();
    let expected = native(CLOUDEVENT).unwrap();
    let names = TypeNames::default();
    for prefix in [
        "cloudEvents:",
        "cloudEvents_",
        "ce-",
        "CE-",
        "CloudEvents_",
        "Ce_",
    ] {
        let headers: Vec<(String, String)> = [
            ("specversion", "1.0"),
            ("id", "e-1"),
            ("source", "/inventory"),
            ("type", "object.created"),
            ("time", "2026-11-21T09:30:00Z"),
        ]
        .iter()
        .map(|(name, value)| (format!("{prefix}{name}"), (*value).to_owned()))
        .collect();
        let mut message = message(body.as_bytes());
        message.content_type = Some("application/json");
        message.headers = &headers;
        let read = read_as(Format::CloudEvents, Order::Time, &message, &names).unwrap();
        assert_eq!(read, expected, "{prefix}");
        for missing in 0..4 {
            let mut fewer = headers.clone();
            let (name, _) = fewer.remove(missing);
            let message = Message {
                headers: &fewer,
                ..message
            };
            let read = read_as(Format::CloudEvents, Order::Time, &message, &names);
            refused(read, Flaw::MissingField, name.trim_start_matches(prefix));
        }
    }
}

#[test]
fn structured_mode_is_known_by_its_content_type_or_by_its_body() {
    let headers = [("ce-id".to_owned(), "of the transport".to_owned())];
    let names = TypeNames::default();
    let mut both = message(CLOUDEVENT);
    both.headers = &headers;
    both.content_type = Some("Application/CloudEvents+JSON; charset=utf-8");
    let read = read_as(Format::CloudEvents, Order::Time, &both, &names).unwrap();
    assert_eq!(read.told.event_id.as_deref(), Some("e-1"));
    let in_headers = [(
        "Content-Type".to_owned(),
        "application/cloudevents+json".to_owned(),
    )];
    let mut of_nats = message(CLOUDEVENT);
    of_nats.headers = &in_headers;
    assert!(read_as(Format::CloudEvents, Order::Time, &of_nats, &names).is_ok());
    let mut batch = message(b"[]");
    batch.content_type = Some("application/cloudevents-batch+json");
    let read = read_as(Format::CloudEvents, Order::Time, &batch, &names);
    refused(read, Flaw::BadValue, "one event in each message");
}

#[test]
fn the_trace_context_is_carried_through_from_the_event_or_the_header() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let names = TypeNames::default();
    let inside = native_value(&changed("/traceparent", Some(json!(TRACE)))).unwrap();
    assert_eq!(inside.told.traceparent.as_deref(), Some(TRACE));
    let headers = [("Traceparent".to_owned(), TRACE.to_owned())];
    for (format, body) in [
        (Format::CloudEvents, CLOUDEVENT),
        (Format::OpenkatScanProfile, PROFILE_CREATE),
        (Format::OpenkatRawFile, RAW_FILE),
        (Format::OpenkatObject, OBJECT_EVENT),
    ] {
        let mut message = message(body);
        message.headers = &headers;
        let read = read_as(format, Order::Time, &message, &names).unwrap();
        assert_eq!(read.told.traceparent.as_deref(), Some(TRACE), "{format}");
    }
    let odd = native_value(&changed("/traceparent", Some(json!("two words")))).unwrap();
    assert_eq!(odd.told.traceparent, None);
}

#[test]
fn data_can_come_in_base64() {
    let mut event = changed("/data", None);
    event["data_base64"] = json!(
        "eyJvcmdhbml6YXRpb24iOiJhY21lIiwib2JqZWN0X3R5cGUiOiJob3N0bmFtZSIsInByaW1hcnlfa2V5IjoiSG9zdG5hbWV8aW50ZXJuZXR8d3d3LmV4YW1wbGUuY29tIiwiYXR0cmlidXRlcyI6eyJuYW1lIjoid3d3LmV4YW1wbGUuY29tIn0sInNjYW5fbGV2ZWwiOjJ9"
    );
    assert_eq!(native_value(&event).unwrap(), native(CLOUDEVENT).unwrap());
    for wrong in ["!", "e", "e30===", "eyJ="] {
        event["data_base64"] = json!(wrong);
        native_value(&event).unwrap_err();
    }
    event["data_base64"] = json!("WzFd");
    refused(
        native_value(&event),
        Flaw::WrongType,
        "data is a list; it must be an object",
    );
}

#[test]
fn every_required_field_of_a_native_event_is_named_when_it_is_missing_or_of_another_type() {
    for pointer in [
        "/specversion",
        "/id",
        "/source",
        "/type",
        "/data",
        "/data/organization",
        "/data/object_type",
        "/data/primary_key",
        "/data/attributes",
    ] {
        let way = pointer.trim_start_matches('/').replace('/', ".");
        let read = native_value(&changed(pointer, None));
        refused(read, Flaw::MissingField, &format!("{way} is missing"));
        for other in [json!(5), json!(null), json!([]), json!(true)] {
            let read = native_value(&changed(pointer, Some(other)));
            refused(read, Flaw::WrongType, &format!("{way} is "));
        }
    }
    for (pointer, other) in [
        ("/time", json!(5)),
        ("/data/scan_level", json!("2")),
        ("/data/scan_level", json!(1.5)),
        ("/data/scan_profile_type", json!(1)),
    ] {
        let way = pointer.trim_start_matches('/').replace('/', ".");
        refused(
            native_value(&changed(pointer, Some(other))),
            Flaw::WrongType,
            &way,
        );
    }
}

#[test]
fn values_out_of_bounds_are_refused_with_what_would_be_right() {
    for (pointer, value, said) in [
        (
            "/data/scan_level",
            json!(5),
            "data.scan_level is 5; levels go from 0 to 4",
        ),
        ("/data/scan_level", json!(-1), "data.scan_level is -1"),
        (
            "/data/scan_profile_type",
            json!("full"),
            "declared, inherited or empty",
        ),
        (
            "/data/organization",
            json!(""),
            "data.organization is empty",
        ),
        ("/data/primary_key", json!(""), "data.primary_key is empty"),
        ("/data/object_type", json!(""), "data.object_type is empty"),
        ("/id", json!(""), "id is empty"),
        (
            "/time",
            json!("yesterday"),
            "time is `yesterday`, which is not an instant",
        ),
        ("/specversion", json!("0.3"), "specversion is `0.3`"),
    ] {
        refused(
            native_value(&changed(pointer, Some(value))),
            Flaw::BadValue,
            said,
        );
    }
    for (pointer, longest) in [
        ("/data/organization", 200),
        ("/data/primary_key", 2048),
        ("/data/object_type", 128),
        ("/id", 1024),
        ("/source", 1024),
    ] {
        let fits = changed(pointer, Some(json!("k".repeat(longest))));
        assert!(native_value(&fits).is_ok(), "{pointer}");
        let over = changed(pointer, Some(json!("k".repeat(longest + 1))));
        refused(
            native_value(&over),
            Flaw::TooLong,
            &format!("at most {longest} are taken"),
        );
    }
}

#[test]
fn what_is_optional_may_be_null_and_what_is_unknown_is_left_alone() {
    let mut event = changed("/data/scan_level", Some(json!(null)));
    event["time"] = json!(null);
    event["datacontenttype"] = json!("application/json");
    event["data"]["colour"] = json!({"of": "no account"});
    let read = native_value(&event).unwrap();
    assert!(matches!(
        read.told.change.word,
        Word::Object { level: None, .. }
    ));
    let whole = native_value(&changed("/data/scan_level", Some(json!(2.0)))).unwrap();
    assert!(matches!(
        whole.told.change.word,
        Word::Object {
            level: Some(Level { level: 2, .. }),
            ..
        }
    ));
}

#[test]
fn of_members_with_one_name_the_last_wins() {
    let body = br#"{"specversion":"1.0","id":"a","id":"b","source":"/s","type":"object.deleted","data":{"organization":"x","organization":"acme","object_type":"hostname","primary_key":"k"}}"#;
    let read = native(body).unwrap();
    assert_eq!(read.told.event_id.as_deref(), Some("b"));
    assert_eq!(read.told.change.key.organization, "acme");
}

#[test]
fn unknown_types_are_refused_with_the_nearest_ones_that_are_known() {
    let read = native_value(&changed("/type", Some(json!("object.create"))));
    refused(read, Flaw::UnknownType, "did you mean `object.created`");
    let names = TypeNames {
        aliases: [("Host".to_owned(), "hostname".to_owned())].into(),
        declared: vec!["hostname".to_owned(), "ip_address".to_owned()],
        open: false,
    };
    let read_type = |object_type: &str| {
        let event = changed("/data/object_type", Some(json!(object_type))).to_string();
        read_as(
            Format::CloudEvents,
            Order::Time,
            &message(event.as_bytes()),
            &names,
        )
    };
    for (written, ours) in [
        ("Host", "hostname"),
        ("IPAddressV6", "ip_address"),
        ("Hostname", "hostname"),
    ] {
        let told = read_type(written).unwrap().told;
        assert_eq!(told.change.object_type.as_deref(), Some(ours));
    }
    let wrong = read_type("hostnme");
    let said = "data.object_type is `hostnme`, which is not a declared object type; did you mean `hostname`?";
    refused(wrong, Flaw::UnknownObjectType, said);
}
