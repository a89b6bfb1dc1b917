//! The same contract from the other side: how a worker reads what we write, and writes what we read.

use super::*;
use muster::wire::{read_cancel, read_task, status_message, task_of};

#[test]
fn the_task_of_the_contract_is_read_as_it_was_written() {
    let task = read_task(TASK).expect("a task");
    assert_eq!(
        (task.id.as_str(), task.attempt),
        ("01936000-0000-7000-8000-000000000001", 1)
    );
    assert_eq!(
        (task.organization.as_str(), task.worker_type.as_str()),
        ("acme", "boefje")
    );
    assert_eq!(
        (task.runtime.as_deref(), task.artefact.as_deref()),
        (None, None)
    );
    assert_eq!(task.arguments, ["dig", "www.example.com"]);
    assert_eq!(task.expires_at, Some(moment("2026-11-21T10:30:02Z")));
    assert_eq!(task.heartbeat, Some(Span::seconds(60)));
    assert_eq!(task.run_limit, Some(Span::seconds(900)));
    for (path, value) in [
        ("id", Some("01936000-0000-7000-8000-000000000001")),
        ("plugin.plugin_id", Some("dns-records")),
        ("plugin.runtime", None),
        (
            "input.primary_key",
            Some("Hostname|internet|www.example.com"),
        ),
        ("input.name", Some("www.example.com")),
        ("input.scan_level", Some("2")),
        ("input.attributes", Some("{\"name\":\"www.example.com\"}")),
        ("settings.x", None),
        ("input.", None),
        ("", None),
    ] {
        assert_eq!(task.value(path).as_deref(), value, "{path}");
    }
}

#[test]
fn a_task_that_cannot_be_read_names_its_field() {
    let task: Value = serde_json::from_slice(TASK).expect("JSON");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut task = task.clone();
        change(&mut task);
        read_task(task.to_string().as_bytes())
    };
    for (change, said) in [
        (
            &(|t: &mut Value| t["attempt"] = json!(0)) as &dyn Fn(&mut Value),
            "attempt is 0",
        ),
        (&|t: &mut Value| t["id"] = json!(" "), "id is empty"),
        (
            &|t: &mut Value| t["plugin"] = json!(null),
            "plugin is null; it must be an object",
        ),
        (
            &|t: &mut Value| t["plugin"]["runtime"] = json!(1),
            "plugin.runtime is the number 1",
        ),
        (
            &|t: &mut Value| t["arguments"] = json!("x"),
            "arguments is the string",
        ),
        (
            &|t: &mut Value| t["arguments"][1] = json!(2),
            "an item of arguments is the number 2",
        ),
        (
            &|t: &mut Value| t["timeouts"]["run_s"] = json!(-1),
            "timeouts.run_s is -1",
        ),
        (
            &|t: &mut Value| t["expires_at"] = json!("soon"),
            "expires_at is `soon`",
        ),
        (
            &|t: &mut Value| t["arguments"][1] = json!("a\0b"),
            "holds a NUL",
        ),
    ] {
        let unreadable = with(change).expect_err(said).to_string();
        assert!(unreadable.contains(said), "expected `{said}`: {unreadable}");
    }
    // More fields are no trouble, and a limit of zero is none.
    let read = with(&|t| {
        t["later"] = json!([1]);
        t["timeouts"]["run_s"] = json!(0);
    });
    assert_eq!(read.expect("a task").run_limit, None);
    assert_eq!(
        task_of(b"{\"id\":\"x\",\"attempt\":3,\"plugin\":1}"),
        Some(("x".to_owned(), 3))
    );
    assert_eq!(task_of(b"{\"id\":\"x\"}"), None);
}

#[test]
fn a_cancel_is_read_as_it_is_written() {
    let read = read_cancel(&cancel("t-1", Some(2), Some("w"))).expect("a cancel");
    assert_eq!(
        (read.task_id.as_str(), read.attempt, read.worker.as_deref()),
        ("t-1", Some(2), Some("w"))
    );
    let read = read_cancel(&cancel("t-1", None, None)).expect("a cancel");
    assert_eq!((read.attempt, read.worker), (None, None));
    assert!(read_cancel(b"{\"type\":\"pause\",\"task_id\":\"t\"}").is_err());
}

#[test]
fn what_a_worker_writes_is_what_is_read() {
    let text = |text: &str| Some(text.to_owned());
    let ending = Ending {
        message: text("exit code 3"),
        exit_code: Some(3),
        log_ref: text("logs/acme/t/2.log"),
        log_tail: text("ö\n"),
        outputs: Some(json!({"a": [1]})),
    };
    for word in [
        StatusWord::Accepted,
        StatusWord::Declined {
            reason: text("avoided"),
            retry_in: Some(Span::from_micros(1_500_000)),
        },
        StatusWord::Declined {
            reason: None,
            retry_in: None,
        },
        StatusWord::Heartbeat {
            done: Some(3),
            total: None,
            stage: None,
            note: text("a note"),
        },
        StatusWord::Succeeded(ending.clone()),
        StatusWord::Failed {
            retryable: false,
            ending,
        },
        StatusWord::Failed {
            retryable: true,
            ending: Ending::default(),
        },
        StatusWord::Cancelled {
            reason: text("on request"),
        },
        StatusWord::Snooze {
            until: moment("2026-11-22T00:00:00Z"),
        },
        StatusWord::NeverAgain {
            reason: None,
            until: Some(moment("2026-11-22T00:00:00Z")),
        },
    ] {
        let status = Status {
            task_id: "t".to_owned(),
            attempt: Some(2),
            worker: "w-1".to_owned(),
            at: Some(moment("2026-11-21T09:31:00.25Z")),
            word,
        };
        let written = status_message(&status, None);
        assert_eq!(read_status(&written, arrived()), Ok(status));
        assert!(!String::from_utf8_lossy(&written).contains("null"));
    }
}

proptest! {
    #[test]
    fn no_message_makes_a_worker_panic(bytes in any::<Vec<u8>>(), at in 0..TASK.len(), letter in any::<u8>(), path in "[a-z.0-9]{0,12}") {
        let _ = (read_task(&bytes), read_cancel(&bytes), task_of(&bytes));
        let mut changed = TASK.to_vec();
        changed[at] = letter;
        if let Ok(task) = read_task(&changed) {
            let _ = task.value(&path);
        }
    }
}
