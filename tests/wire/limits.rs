//! What no reader takes.

use super::*;

#[test]
fn bodies_that_are_not_json_or_not_utf8_are_refused() {
    for body in [
        &b""[..],
        b"{",
        b"nonsense",
        b"{\"a\":1} x",
        b"\"\\ud800\"",
        b"{\"a\":1e999}",
    ] {
        refused(native(body), Flaw::NotJson, "the body is not JSON");
    }
    refused(
        native(b"{\"id\":\"\xff\"}"),
        Flaw::NotUtf8,
        "not UTF-8 at byte 7",
    );
    for (body, said) in [
        (&b"[]"[..], "a list"),
        (b"null", "null"),
        (b"5", "the number 5"),
    ] {
        refused(
            native(body),
            Flaw::WrongType,
            &format!("the body is {said}; it must be an object"),
        );
    }
}

#[test]
fn a_body_of_twenty_megabytes_is_read_and_a_larger_one_is_not() {
    let head = br#"{"specversion":"1.0","id":"a","source":"/s","type":"object.created","data":{"organization":"acme","object_type":"hostname","primary_key":"k","attributes":{"name":""#;
    let mut body = head.to_vec();
    body.resize(LARGEST - 4, b'x');
    body.extend_from_slice(b"\"}}}");
    assert_eq!(body.len(), LARGEST);
    assert!(native(&body).is_ok());
    body.push(b' ');
    refused(native(&body), Flaw::TooLarge, "at most 20971520 are read");
    let status = read_status(&body, arrived()).unwrap_err();
    assert_eq!(status.reason, Flaw::TooLarge);
}

#[test]
fn nesting_is_bounded_however_deep_it_goes() {
    let nested = |levels: usize| {
        // The event, its data and its attributes are three levels.
        let list = "[".repeat(levels - 3) + &"]".repeat(levels - 3);
        let mut body = changed("/data/attributes", Some(json!({"name": "LIST"}))).to_string();
        body = body.replace("\"LIST\"", &list);
        body
    };
    assert!(native(nested(DEEPEST).as_bytes()).is_ok());
    for levels in [DEEPEST + 1, 127, 128, 129, 10_000, 1_000_000] {
        let read = native(nested(levels).as_bytes());
        refused(
            read,
            Flaw::TooDeep,
            "data.attributes.name is nested too deeply; at most 120",
        );
    }
    refused(
        native("[".repeat(100_000).as_bytes()),
        Flaw::TooDeep,
        "the body is nested too deeply",
    );
}

#[test]
fn a_nul_is_refused_wherever_it_stands_and_named_by_its_path() {
    let nul = "\\u0000";
    for (pointer, path) in [
        ("/id", "id"),
        ("/data/primary_key", "data.primary_key"),
        ("/data/attributes/name", "data.attributes.name"),
        ("/unknown", "unknown"),
    ] {
        let body = changed(pointer, Some(json!("a NUL b"))).to_string();
        refused(native(body.replace("NUL", nul).as_bytes()), Flaw::Nul, path);
        // The same in another spelling of the escape is no NUL.
        let escaped = native(body.replace("NUL", "\\\\u0000").as_bytes());
        assert!(escaped.is_ok(), "{pointer}: {escaped:?}");
    }
    let in_a_name = changed("/data/attributes", Some(json!({"a": {"NUL": 1}}))).to_string();
    refused(
        native(in_a_name.replace("NUL", nul).as_bytes()),
        Flaw::Nul,
        "data.attributes.a",
    );
    let raw = changed("/id", Some(json!("NUL")))
        .to_string()
        .replace("NUL", "\0");
    refused(native(raw.as_bytes()), Flaw::Nul, "NUL byte");
    let headers = [
        ("ce-id", "\0"),
        ("ce-specversion", "1.0"),
        ("ce-source", "s"),
        ("ce-type", "t"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut binary = message(b"{}");
    binary.headers = &headers;
    let names = TypeNames::default();
    refused(
        read_as(Format::CloudEvents, Order::Time, &binary, &names),
        Flaw::Nul,
        "ce-id",
    );
    let mut with_id = message(PROFILE_CREATE);
    with_id.message_id = Some("\0");
    let read = read_as(Format::OpenkatScanProfile, Order::Arrival, &with_id, &names);
    refused(read, Flaw::Nul, "message id");
}

#[test]
fn names_that_the_json_library_keeps_for_itself_cannot_smuggle_anything_in() {
    // Read as the library's own, this text would be JSON with a NUL in it.
    let smuggled = r#"{"\u0024serde_json::private::RawValue":"\"\\u005cu0000\""}"#;
    let body = changed("/data/attributes/name", Some(json!("HERE"))).to_string();
    let body = body.replace("\"HERE\"", smuggled);
    refused(
        native(body.as_bytes()),
        Flaw::BadValue,
        "data.attributes.name has a member whose name is reserved",
    );
}
