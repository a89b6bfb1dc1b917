//! What workers report, and the lines of lines mode.

use super::*;

fn status(mut fields: Value, word: &str) -> Result<Status, Unreadable> {
    let common = json!({"task_id": "t-1", "attempt": 2, "worker": "w-1", "at": "2026-11-21T09:31:00Z", "status": word});
    let said = fields.as_object_mut().expect("fields");
    for (name, value) in map(common) {
        said.entry(name).or_insert(value);
    }
    read_status(fields.to_string().as_bytes(), arrived())
}

#[test]
fn every_word_of_our_workers_is_read_with_what_belongs_to_it() {
    let ending = Ending {
        message: Some("no route".into()),
        exit_code: Some(7),
        log_ref: Some("s3://l".into()),
        log_tail: Some("…".into()),
        outputs: Some(json!({"files": 1})),
    };
    let of_end = json!({"message": "no route", "exit_code": 7, "log_ref": "s3://l", "log_tail": "…", "outputs": {"files": 1}});
    let with = |name: &str, value: Value| {
        let mut fields = of_end.clone();
        fields[name] = value;
        fields
    };
    let until = "2026-11-22T00:00:00Z";
    for (word, fields, expected) in [
        ("accepted", json!({}), StatusWord::Accepted),
        (
            "declined",
            json!({"reason": "busy", "retry_in_s": 1.5}),
            StatusWord::Declined {
                reason: Some("busy".into()),
                retry_in: Some(Span::from_micros(1_500_000)),
            },
        ),
        (
            "declined",
            json!({}),
            StatusWord::Declined {
                reason: None,
                retry_in: None,
            },
        ),
        (
            "heartbeat",
            json!({"done": 3, "total": 9, "stage": "scan", "note": "n"}),
            StatusWord::Heartbeat {
                done: Some(3),
                total: Some(9),
                stage: Some("scan".into()),
                note: Some("n".into()),
            },
        ),
        (
            "succeeded",
            of_end.clone(),
            StatusWord::Succeeded(ending.clone()),
        ),
        (
            "failed",
            with("class", json!("retryable")),
            StatusWord::Failed {
                retryable: true,
                ending: ending.clone(),
            },
        ),
        (
            "failed",
            with("class", json!("fatal")),
            StatusWord::Failed {
                retryable: false,
                ending,
            },
        ),
        (
            "cancelled",
            json!({"reason": "asked"}),
            StatusWord::Cancelled {
                reason: Some("asked".into()),
            },
        ),
        (
            "snooze",
            json!({"until": until}),
            StatusWord::Snooze {
                until: moment(until),
            },
        ),
        (
            "never_again",
            json!({"reason": "gone", "until": until}),
            StatusWord::NeverAgain {
                reason: Some("gone".into()),
                until: Some(moment(until)),
            },
        ),
        (
            "never_again",
            json!({}),
            StatusWord::NeverAgain {
                reason: None,
                until: None,
            },
        ),
    ] {
        let read = status(fields, word).unwrap();
        let expected = Status {
            task_id: "t-1".into(),
            attempt: Some(2),
            worker: "w-1".into(),
            at: Some(moment("2026-11-21T09:31:00Z")),
            word: expected,
        };
        assert_eq!(read, expected);
    }
}

#[test]
fn openkats_words_need_no_more_than_the_task() {
    let failed = StatusWord::Failed {
        retryable: true,
        ending: Ending::default(),
    };
    for (word, expected) in [
        ("dispatched", StatusWord::Accepted),
        ("running", StatusWord::Accepted),
        ("completed", StatusWord::Succeeded(Ending::default())),
        ("failed", failed),
        ("cancelled", StatusWord::Cancelled { reason: None }),
    ] {
        let body = json!({"task_id": "t-1", "status": word}).to_string();
        let expected = Status {
            task_id: "t-1".into(),
            attempt: None,
            worker: "openkat".into(),
            at: Some(arrived()),
            word: expected,
        };
        assert_eq!(read_status(body.as_bytes(), arrived()).unwrap(), expected);
    }
}

#[test]
fn a_status_names_the_field_that_is_missing_or_wrong() {
    for (name, reason) in [
        ("attempt", "attempt is missing"),
        ("worker", "worker is missing"),
        ("at", "at is missing"),
    ] {
        for word in ["accepted", "succeeded", "failed", "cancelled"] {
            let mut fields = map(
                json!({"task_id": "t", "attempt": 1, "worker": "w", "at": "2026-11-21T09:31:00Z", "status": word}),
            );
            fields.remove(name);
            let wrong =
                read_status(Value::Object(fields).to_string().as_bytes(), arrived()).unwrap_err();
            assert_eq!(
                (wrong.reason, wrong.message.as_str()),
                (Flaw::MissingField, reason)
            );
        }
    }
    for (fields, word, reason, said) in [
        (
            json!({"task_id": 5}),
            "accepted",
            Flaw::WrongType,
            "task_id is the number 5; it must be a string",
        ),
        (
            json!({"attempt": "2"}),
            "accepted",
            Flaw::WrongType,
            "attempt is the string `2`; it must be a whole number",
        ),
        (
            json!({"attempt": 0}),
            "accepted",
            Flaw::BadValue,
            "attempt is 0; attempts count from 1",
        ),
        (
            json!({"at": "now"}),
            "accepted",
            Flaw::BadValue,
            "at is `now`, which is not an instant",
        ),
        (
            json!({}),
            "done",
            Flaw::BadValue,
            "status is `done`; it must be accepted",
        ),
        (
            json!({"class": "odd"}),
            "failed",
            Flaw::BadValue,
            "class is `odd`; it must be retryable or fatal",
        ),
        (
            json!({"retry_in_s": -1}),
            "declined",
            Flaw::BadValue,
            "retry_in_s is -1",
        ),
        (json!({}), "snooze", Flaw::MissingField, "until is missing"),
    ] {
        let wrong = status(fields, word).unwrap_err();
        assert_eq!(wrong.reason, reason, "{wrong}");
        assert!(wrong.message.starts_with(said), "{wrong}");
    }
}

#[test]
fn lines_are_told_apart_by_their_shape() {
    for (line, expected) in [
        (CLOUDEVENT, Line::Event),
        (PROFILE_CREATE, Line::Event),
        (br#"{"task_id":"t","status":"completed"}"#, Line::Status),
        (br#"{"command":"stats","id":"1"}"#, Line::Command),
        (br#"{"now":"2026-11-21T10:00:00Z"}"#, Line::Clock(arrived())),
        (b"{}", Line::Event),
        (b"[1", Line::Event),
        (b"\xff", Line::Event),
        (br#"{"now":null}"#, Line::Event),
    ] {
        assert_eq!(
            read_line(line).unwrap(),
            expected,
            "{}",
            String::from_utf8_lossy(line)
        );
    }
    let wrong = read_line(br#"{"now":"noon"}"#).unwrap_err();
    assert_eq!(wrong.reason, Flaw::BadValue);
    for (line, said) in [
        (
            r#"{"now":"noon"}"#,
            "now is `noon`, which is not an instant;",
        ),
        (r#"{"now":5}"#, "now is the number 5; it must be an instant"),
        (
            r#"{"now":"9999-12-31T23:59:59Z"}"#,
            "now is `9999-12-31T23:59:59Z`, which is no day or time, or later than 9999-12-30T22:00:00Z",
        ),
    ] {
        let wrong = read_line(line.as_bytes()).unwrap_err();
        assert!(wrong.message.starts_with(said), "{wrong}");
        assert!(wrong.message.contains("2026-11-21T09:30:00Z"), "{wrong}");
    }
    let deep = format!(
        "{{\"now\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        read_line(deep.as_bytes()).unwrap_err().reason,
        Flaw::TooDeep
    );
}

#[test]
fn a_cancel_names_the_worker_where_it_is_known() {
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let to_one = json!({"type": "cancel", "task_id": "t-1", "attempt": 2, "worker": "w-1"});
    assert_eq!(read(cancel("t-1", Some(2), Some("w-1"))), to_one);
    let to_all = json!({"type": "cancel", "task_id": "t-1"});
    assert_eq!(read(cancel("t-1", None, None)), to_all);
}
