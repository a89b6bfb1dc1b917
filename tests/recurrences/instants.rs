//! When a schedule fires.

use muster::recurrence::{Bounds, Last, Recurrence, Timetable};

use super::{moment, refusal};

/// The first instants after one, in UTC, of a schedule that was made on New Year's Day.
fn instants(recurrences: &[&str], zone: &str, after: &str, many: usize) -> Vec<String> {
    let timetable = super::timetable(recurrences, zone, "2026-01-01T00:00:00Z");
    super::first(&timetable, after, many)
}

#[test]
fn names_stand_for_the_documented_instants_in_the_zone_of_the_schedule() {
    for (name, expected) in [
        ("hourly", "2026-07-01T11:00:00Z"),
        ("daily", "2026-07-01T22:00:00Z"),
        // Monday, 6 July.
        ("weekly", "2026-07-05T22:00:00Z"),
        ("monthly", "2026-07-31T22:00:00Z"),
        ("yearly", "2026-12-31T23:00:00Z"),
    ] {
        assert_eq!(
            instants(&[name], "Europe/Amsterdam", "2026-07-01T10:30:00Z", 1),
            [expected],
            "{name}"
        );
    }
}

#[test]
fn an_instant_itself_is_not_after_itself() {
    assert_eq!(
        instants(&["daily"], "UTC", "2026-07-01T00:00:00Z", 1),
        ["2026-07-02T00:00:00Z"]
    );
    assert_eq!(
        instants(&["daily"], "UTC", "2026-06-30T23:59:59.999999Z", 1),
        ["2026-07-01T00:00:00Z"]
    );
}

#[test]
fn cron_expressions_have_five_fields_or_six_with_seconds() {
    assert_eq!(
        instants(&["15 3 * * 1-5"], "UTC", "2026-11-20T03:15:00Z", 2),
        ["2026-11-23T03:15:00Z", "2026-11-24T03:15:00Z"]
    );
    assert_eq!(
        instants(&["*/20 15 3 * * *"], "UTC", "2026-11-20T03:15:00Z", 3),
        [
            "2026-11-20T03:15:20Z",
            "2026-11-20T03:15:40Z",
            "2026-11-21T03:15:00Z"
        ]
    );
    for text in [
        "61 * * * *",
        "* * *",
        "a b c d e",
        "0 0 * * 9",
        "0 24 * * *",
    ] {
        assert!(refusal(text).contains(text), "{text}");
    }
}

#[test]
fn a_date_that_never_comes_is_refused_and_a_rare_one_is_not() {
    assert!(refusal("0 0 30 2 *").contains("never comes"));
    assert!(refusal("0 0 31 4 *").contains("never comes"));
    assert_eq!(
        instants(&["0 0 29 2 *"], "UTC", "2026-01-01T00:00:00Z", 2),
        ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]
    );
}

#[test]
fn a_period_counts_from_its_anchor_whenever_it_is_asked() {
    assert_eq!(
        instants(&["36h"], "Europe/Amsterdam", "2026-01-02T00:00:00Z", 2),
        ["2026-01-02T12:00:00Z", "2026-01-04T00:00:00Z"]
    );
    assert_eq!(
        instants(&["36h"], "UTC", "2026-01-03T00:00:00Z", 1),
        ["2026-01-04T00:00:00Z"],
        "expected the same grid from another instant"
    );
    assert_eq!(
        instants(&["PT90M"], "UTC", "2026-01-01T00:00:00Z", 1),
        ["2026-01-01T01:30:00Z"]
    );
    assert!(refusal("0s").contains("too short"));
    assert!(!refusal("90").is_empty(), "a number has no unit");
}

#[test]
fn before_its_anchor_a_period_does_not_fire() {
    assert_eq!(
        instants(&["1d"], "UTC", "2025-12-01T00:00:00Z", 1),
        ["2026-01-02T00:00:00Z"]
    );
}

#[test]
fn one_instant_fires_once() {
    let at = "2026-11-21T10:30:00+01:00";
    assert_eq!(
        instants(&[at], "UTC", "2026-11-21T09:29:59Z", 5),
        ["2026-11-21T09:30:00Z"]
    );
    assert_eq!(
        instants(&[at], "UTC", "2026-11-21T09:30:00Z", 5),
        Vec::<String>::new()
    );
}

#[test]
fn equal_instants_of_several_recurrences_are_one() {
    assert_eq!(
        instants(
            &["daily", "0 */12 * * *", "1d"],
            "UTC",
            "2026-03-01T00:00:00Z",
            3
        ),
        [
            "2026-03-01T12:00:00Z",
            "2026-03-02T00:00:00Z",
            "2026-03-02T12:00:00Z"
        ]
    );
}

#[test]
fn the_end_of_a_schedule_is_its_last_instant() {
    let daily = [Recurrence::parse("daily").expect("a recurrence")];
    let next = |ends: &str| {
        let start = moment("2026-01-01T00:00:00Z");
        let bounds = Bounds {
            created: start,
            starts: None,
            ends: Some(moment(ends)),
        };
        Timetable::new(&daily, jiff::tz::TimeZone::UTC, bounds, Vec::new())
            .next_after(start, Last::Never)
    };
    assert_eq!(
        next("2026-01-02T00:00:00Z"),
        Some(moment("2026-01-02T00:00:00Z"))
    );
    assert_eq!(next("2026-01-01T23:59:59Z"), None);
}

#[test]
fn a_period_begins_at_starts_at_and_one_period_after_a_schedule_was_made() {
    let every = [Recurrence::parse("6h").expect("a recurrence")];
    let next = |starts: Option<&str>| {
        let bounds = Bounds {
            created: moment("2026-01-01T00:10:00Z"),
            starts: starts.map(moment),
            ends: None,
        };
        Timetable::new(&every, jiff::tz::TimeZone::UTC, bounds, Vec::new())
            .next_after(bounds.created, Last::Never)
    };
    assert_eq!(next(None), Some(moment("2026-01-01T06:10:00Z")));
    assert_eq!(
        next(Some("2026-01-03T12:00:00Z")),
        Some(moment("2026-01-03T12:00:00Z"))
    );
}

// Amsterdam's clocks go from 02:00 to 03:00 on 29 March 2026 (at 01:00 UTC), and from 03:00 back to 02:00 on 25 October.

#[test]
fn a_fixed_time_in_the_gap_fires_at_the_first_valid_instant_after_it() {
    assert_eq!(
        instants(
            &["30 2 * * *"],
            "Europe/Amsterdam",
            "2026-03-28T01:30:00Z",
            2
        ),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
}

#[test]
fn several_fixed_times_that_fall_into_one_gap_make_one_instant() {
    assert_eq!(
        instants(
            &["15 2 * * *", "30 2 * * *", "0 3 * * *"],
            "Europe/Amsterdam",
            "2026-03-28T12:00:00Z",
            2
        ),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:15:00Z"]
    );
}

#[test]
fn a_fixed_time_in_the_repeated_hour_fires_on_the_first_pass_only() {
    assert_eq!(
        instants(
            &["30 2 * * *"],
            "Europe/Amsterdam",
            "2026-10-24T12:00:00Z",
            2
        ),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
}

#[test]
fn an_hour_that_is_a_star_follows_elapsed_time_through_both_changes() {
    assert_eq!(
        instants(
            &["*/30 * * * *"],
            "Europe/Amsterdam",
            "2026-03-29T00:00:00Z",
            3
        ),
        [
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z"
        ]
    );
    assert_eq!(
        instants(
            &["*/30 * * * *"],
            "Europe/Amsterdam",
            "2026-10-24T23:30:00Z",
            6
        ),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T02:30:00Z",
        ]
    );
    assert_eq!(
        instants(&["hourly"], "Europe/Amsterdam", "2026-10-24T23:30:00Z", 3),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

#[test]
fn a_period_ignores_the_changes_of_the_clocks() {
    assert_eq!(
        instants(&["1d"], "Europe/Amsterdam", "2026-03-28T00:00:00Z", 2),
        ["2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"]
    );
}
