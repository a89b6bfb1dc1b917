//! RRULEs, as objects and texts.

use jiff::tz::TimeZone;
use muster::document::{Complaints, Field, Node};
use muster::recurrence::{Bounds, Recurrence, Timetable, as_written};
use serde_json::{Value, json};

use super::{first, moment, refusal, timetable};

/// Reads an object as a file brings it; the complaints where there are any.
pub fn read(object: &Value) -> Result<Recurrence, String> {
    let node = Node::from_json(object);
    let mut complaints = Complaints::new("schedules.yaml");
    let read = Recurrence::read(Field::new(&node, "recurrences", &mut complaints));
    let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    match read {
        Some(read) if told.is_empty() => Ok(read),
        _ => Err(told.join("\n")),
    }
}

pub fn of(object: &Value, zone: &str) -> Timetable {
    let read = read(object).unwrap_or_else(|error| panic!("{object}: {error}"));
    let bounds = Bounds {
        created: moment("2026-01-15T08:12:33Z"),
        ..Bounds::default()
    };
    let zone = TimeZone::get(zone).expect("a zone");
    Timetable::new(&[read], zone, bounds, Vec::new())
}

pub fn from(rule: &str, dtstart: &str, zone: &str) -> Timetable {
    of(&json!({"rrule": rule, "dtstart": dtstart}), zone)
}

#[test]
fn a_rule_that_says_no_beginning_counts_from_midnight_of_the_day_it_was_made() {
    let timetable = timetable(
        &["FREQ=WEEKLY;BYDAY=MO"],
        "Europe/Amsterdam",
        "2026-01-15T08:12:33Z",
    );
    assert_eq!(
        first(&timetable, "2026-01-15T08:12:33Z", 2),
        ["2026-01-18T23:00:00Z", "2026-01-25T23:00:00Z"]
    );
}

#[test]
fn dates_are_left_out_and_added() {
    let timetable = of(
        &json!({
            "rrule": "FREQ=DAILY", "dtstart": "2026-03-01T09:00:00",
            "exdate": ["2026-03-02", "2026-03-03T09:00:00", "2026-03-04T08:00:00Z", "2026-03-05T09:00:00Z"],
            "rdate": ["2026-03-02T10:00:00", "2026-03-05T12:00:00Z", "20260305T120000Z"],
        }),
        "Europe/Amsterdam",
    );
    assert_eq!(
        first(&timetable, "2026-03-01T00:00:00Z", 4),
        [
            "2026-03-01T08:00:00Z",
            // The 2nd is left out whole, the 3rd by the clock on the wall, the 4th by the instant; that of the 5th is
            // another instant.
            "2026-03-05T08:00:00Z",
            "2026-03-05T12:00:00Z",
            "2026-03-06T08:00:00Z",
        ]
    );
}

#[test]
fn count_counts_from_the_beginning_wherever_one_asks() {
    let rule = from(
        "FREQ=MONTHLY;BYMONTHDAY=31;COUNT=3",
        "2026-01-01T06:00:00",
        "UTC",
    );
    assert_eq!(
        first(&rule, "2026-04-01T00:00:00Z", 5),
        ["2026-05-31T06:00:00Z"]
    );
    assert!(first(&rule, "2026-05-31T06:00:00Z", 5).is_empty());
}

#[test]
fn a_rule_ends_at_until_whichever_way_that_is_written() {
    for until in [
        "20260103T090000Z",
        "20260103T090000",
        "20260103",
        "20260103T235959",
    ] {
        let rule = from(
            &format!("FREQ=DAILY;UNTIL={until}"),
            "2026-01-01T09:00:00",
            "UTC",
        );
        assert_eq!(
            first(&rule, "2026-01-02T00:00:00Z", 5),
            ["2026-01-02T09:00:00Z", "2026-01-03T09:00:00Z"],
            "{until}"
        );
    }
}

#[test]
fn the_rfc_examples_of_new_york_keep_their_hour_through_the_changes_of_the_clocks() {
    let rule = from(
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU",
        "2026-10-18T09:00:00",
        "America/New_York",
    );
    assert_eq!(
        first(&rule, "2026-10-01T00:00:00Z", 3),
        [
            "2026-10-18T13:00:00Z",
            "2026-11-01T14:00:00Z",
            "2026-11-15T14:00:00Z"
        ]
    );
}

#[test]
fn a_rule_that_never_fires_is_refused() {
    for rule in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=DAILY;BYHOUR=1;BYSETPOS=2",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6",
    ] {
        let told = refusal(rule);
        assert!(told.contains("never comes"), "{rule}: {told}");
    }
    for rule in [
        "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=5",
        "FREQ=DAILY;INTERVAL=7;BYDAY=MO",
    ] {
        let told = read(&json!({"rrule": rule, "dtstart": "2026-01-01T00:00:00"}));
        assert!(told.unwrap_err().contains("never comes"), "{rule}");
    }
    let told = read(
        &json!({"rrule": "FREQ=DAILY;UNTIL=20250101T000000Z", "dtstart": "2026-01-01T00:00:00Z"}),
    );
    assert!(told.unwrap_err().contains("never comes"));
}

#[test]
fn what_is_wrong_with_a_rule_is_said_by_name() {
    for (rule, told) in [
        ("FREQ=SOMETIMES", "FREQ is one of YEARLY, MONTHLY"),
        ("FREQ=DAILY;BYDAYS=MO", "did you mean BYDAY"),
        ("FREQ=DAILY;BYDAY=XX", "takes MO, TU"),
        ("FREQ=DAILY;BYDAY=1MO", "FREQ=MONTHLY or YEARLY"),
        (
            "FREQ=DAILY;COUNT=3;UNTIL=20270101T000000Z",
            "COUNT and UNTIL",
        ),
        (
            "FREQ=DAILY;INTERVAL=0",
            "INTERVAL takes whole numbers from 1",
        ),
        (
            "FREQ=DAILY;INTERVAL=4294967296",
            "INTERVAL takes whole numbers",
        ),
        ("FREQ=DAILY;COUNT=4000000000", "say with UNTIL"),
        ("FREQ=DAILY;BYHOUR=24", "from 0 to 23"),
        ("FREQ=DAILY;BYEASTER=1", "BYEASTER is not supported"),
        ("FREQ=DAILY;BYSETPOS=1", "there is none"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "does not go with FREQ=WEEKLY"),
        ("FREQ=DAILY;FREQ=DAILY", "said twice"),
        ("RRULE:INTERVAL=2;BYDAY=MO", "FREQ is missing"),
        (
            "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY",
            "several lines",
        ),
        (
            "FREQ=DAILY;DTSTART=20260101",
            "write an object with `rrule` and `dtstart`",
        ),
    ] {
        let found = refusal(rule);
        assert!(found.contains(told), "{rule}: {found}");
    }
}

#[test]
fn an_object_says_one_thing_and_says_it_whole() {
    for (object, told) in [
        (
            json!({"cron": "0 0 * * *", "period": "1h"}),
            "here are cron and period",
        ),
        (json!({}), "one of `cron`, `period`, `rrule` or `at`"),
        (json!({"crn": "0 0 * * *"}), "did you mean `cron`"),
        (json!({"period": "1h", "anchor": "end"}), "anchor"),
        (json!({"cron": "0 0 * * *", "anchor": "start"}), "unknown"),
        (
            json!({"rrule": "FREQ=DAILY", "dtstart": "soon"}),
            "recurrences.dtstart",
        ),
        (
            json!({"rrule": "FREQ=DAILY", "exdate": ["2026-02-30"]}),
            "recurrences.exdate[0]",
        ),
        (json!({"at": "2026-01-01"}), "not an instant"),
    ] {
        let found = read(&object).expect_err("it is refused");
        assert!(found.contains(told), "{object}: {found}");
    }
}

#[test]
fn a_recurrence_is_exported_as_it_can_be_read_again() {
    for written in [
        json!("0 0 * * *"),
        json!("90m"),
        json!("2026-01-01T00:00:00Z"),
        json!("FREQ=DAILY;COUNT=3"),
        json!({"period": "1h", "anchor": "completion"}),
        json!({"rrule": "FREQ=DAILY", "dtstart": "2026-01-01T09:00:00", "exdate": ["2026-01-02"], "rdate": ["2026-01-02T10:00:00Z"]}),
    ] {
        let read = read(&written).expect("a recurrence");
        assert_eq!(as_written(&[read]), written);
    }
}
