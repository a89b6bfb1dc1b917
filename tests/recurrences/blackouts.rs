//! Calendars: windows in which nothing begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::catalogue::{Catalogue, Stored, timetable};
use muster::declaration::{Compiled, Kind, Variables, read_file};
use muster::recurrence::{Calendar, Last};
use muster::rules::Rules;

use super::{first, moment};

/// The first instants of the one schedule of a text, whose calendars stand beside it.
fn instants(text: &str, after: &str, many: usize) -> Vec<String> {
    let (declared, complaints) = read_file(
        "calendars.yaml",
        text.as_bytes(),
        &Variables::default(),
        &Rules::default(),
    );
    let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{told:?}");
    let mut calendars: BTreeMap<String, Arc<Calendar>> = BTreeMap::new();
    let mut schedules = Vec::new();
    for entry in declared {
        match entry.compiled {
            Compiled::Calendar(calendar) => {
                calendars.insert(entry.name, Arc::from(calendar));
            }
            Compiled::Schedule(schedule) => schedules.push(schedule),
            _ => {}
        }
    }
    let [schedule] = schedules.as_slice() else {
        panic!("one schedule, not {}", schedules.len());
    };
    let timetable = timetable(schedule, &calendars).expect("its calendars are there");
    first(&timetable, after, many)
}

fn complaints(calendar: &str) -> String {
    let text = format!("- {{kind: calendar, name: c, {calendar}}}");
    let (_, complaints) = read_file(
        "calendars.yaml",
        text.as_bytes(),
        &Variables::default(),
        &Rules::default(),
    );
    let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    told.join("\n")
}

#[test]
fn days_of_a_calendar_are_left_out_in_its_own_zone() {
    let text = r#"
- {kind: calendar, name: freeze, timezone: Europe/Amsterdam, dates: ["2026-12-25", {from: "2026-12-27", to: "2026-12-28"}]}
- {name: s, recurrences: "0 23 * * *", calendars: [freeze], plugins: "True"}
"#;
    // 23:00 in UTC is midnight of the next day in Amsterdam.
    assert_eq!(
        instants(text, "2026-12-24T00:00:00Z", 4),
        [
            "2026-12-25T23:00:00Z",
            "2026-12-28T23:00:00Z",
            "2026-12-29T23:00:00Z",
            "2026-12-30T23:00:00Z"
        ]
    );
}

#[test]
fn weekly_windows_go_over_midnight_and_end_before_their_end() {
    let text = r#"
- {kind: calendar, name: nights, weekly: [{days: [fri, saturday], from: "22:00", to: "06:00"}]}
- {name: s, recurrences: "0 */2 * * *", calendars: nights, plugins: "True"}
"#;
    // Friday, 20 November 2026.
    assert_eq!(
        instants(text, "2026-11-20T19:00:00Z", 3),
        [
            "2026-11-20T20:00:00Z",
            "2026-11-21T06:00:00Z",
            "2026-11-21T08:00:00Z"
        ]
    );
    assert_eq!(
        instants(text, "2026-11-21T20:00:00Z", 1),
        ["2026-11-22T06:00:00Z"]
    );
    assert_eq!(
        instants(text, "2026-11-22T20:00:00Z", 1),
        ["2026-11-22T22:00:00Z"],
        "a Sunday evening is free"
    );
}

#[test]
fn whole_days_of_the_week_and_several_calendars_add_up() {
    let text = r#"
- {kind: calendar, name: weekend, weekly: [{days: sat-sun}]}
- {kind: calendar, name: monday, weekly: [{days: mon, to: "12:00"}]}
- {name: s, recurrences: "every", calendars: [weekend, monday], plugins: "True"}
"#
    .replace("every", "*/10 * * * * *");
    assert_eq!(
        instants(&text, "2026-11-20T23:59:45Z", 3),
        [
            "2026-11-20T23:59:50Z",
            "2026-11-23T12:00:00Z",
            "2026-11-23T12:00:10Z"
        ]
    );
}

#[test]
fn a_blackout_of_a_repeated_hour_holds_on_both_passes() {
    let text = r#"
- {kind: calendar, name: c, timezone: Europe/Amsterdam, weekly: [{days: sun, from: "02:00", to: "02:45"}]}
- {name: s, timezone: Europe/Amsterdam, recurrences: "*/15 * * * *", calendars: c, plugins: "True"}
"#;
    assert_eq!(
        instants(text, "2026-10-24T23:45:00Z", 3),
        [
            "2026-10-25T00:45:00Z",
            "2026-10-25T01:45:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

#[test]
fn a_schedule_that_lies_in_blackouts_altogether_has_no_instants() {
    let text = r#"
- {kind: calendar, name: c, weekly: [{days: mon-sun, from: "02:00", to: "04:00"}]}
- {name: s, recurrences: "0 3 * * *", calendars: c, plugins: "True"}
"#;
    assert!(instants(text, "2026-01-01T00:00:00Z", 1).is_empty());
}

#[test]
fn a_period_since_completion_waits_while_it_runs_and_counts_from_the_end() {
    let text = "- {name: s, recurrences: {period: 1h, anchor: completion}, plugins: \"True\"}";
    let (declared, _) = read_file(
        "s.yaml",
        text.as_bytes(),
        &Variables::default(),
        &Rules::default(),
    );
    let Some(Compiled::Schedule(schedule)) = declared.first().map(|entry| &entry.compiled) else {
        panic!("a schedule");
    };
    let mut schedule = schedule.as_ref().clone();
    schedule.created_at = moment("2026-01-01T00:10:00Z");
    let timetable = timetable(&schedule, &BTreeMap::new()).expect("a timetable");
    assert!(timetable.waits_for_completion());
    let next = |after: &str, last| {
        let next = timetable.next_after(moment(after), last);
        next.map(|next| next.to_string())
    };
    assert_eq!(
        next("2026-01-01T00:10:00Z", Last::Never).as_deref(),
        Some("2026-01-01T01:10:00Z")
    );
    assert_eq!(next("2026-01-01T01:10:00Z", Last::Running), None);
    let ended = Last::Ended(moment("2026-01-01T03:25:00Z"));
    assert_eq!(
        next("2026-01-01T01:10:00Z", ended).as_deref(),
        Some("2026-01-01T04:25:00Z")
    );
    // Nothing ran at 04:25, because it was paused, say: the next hour is another chance.
    assert_eq!(
        next("2026-01-01T04:25:00Z", ended).as_deref(),
        Some("2026-01-01T05:25:00Z")
    );
}

#[test]
fn what_is_wrong_with_a_calendar_is_said_at_its_place() {
    for (calendar, told) in [
        ("timezone: Europe/Amsterdam", "needs `dates` or `weekly`"),
        ("dates: [\"2026-02-30\"]", "dates[0]"),
        (
            "dates: {from: \"2026-02-03\", to: \"2026-02-01\"}",
            "is before",
        ),
        ("dates: {from: \"2026-02-03\"}", "`dates.to` is missing"),
        ("weekly: [{days: frieday}]", "write friday"),
        (
            "weekly: [{days: mon, from: \"9:00\"}]",
            "write it as \"09:30\"",
        ),
        (
            "weekly: [{days: mon, from: \"24:00\"}]",
            "not a time of day",
        ),
        (
            "weekly: [{days: mon, from: \"09:00\", to: \"09:00\"}]",
            "ends where it begins",
        ),
        (
            "weekly: [{days: mon, form: \"09:00\"}]",
            "did you mean `from`",
        ),
        ("weekly: [{from: \"09:00\"}]", "`weekly[0].days` is missing"),
        ("timezone: Mars, dates: \"2026-01-01\"", "not a time zone"),
        (
            "weekly: [{days: mon-sat}, {days: sun, to: \"12:00\"}, {days: sun, from: \"12:00\"}]",
            "no minute of the week",
        ),
    ] {
        let found = complaints(calendar);
        assert!(found.contains(told), "{calendar}: {found}");
    }
}

#[test]
fn a_schedule_whose_calendar_is_gone_is_left_out_rather_than_fired_in_a_blackout() {
    let text = r#"
- {name: s, recurrences: daily, calendars: freze, plugins: "True"}
- {kind: calendar, name: freeze, dates: "2026-12-25"}
"#;
    let rules = Arc::new(Rules::default());
    let (declared, _) = read_file("s.yaml", text.as_bytes(), &Variables::default(), &rules);
    let stored: Vec<Stored> = declared
        .into_iter()
        .map(|entry| Stored {
            kind: entry.kind,
            id: entry.name.clone(),
            name: entry.name,
            organization: entry.organization,
            definition: entry.definition,
            revision: 1,
            created_at: moment("2026-01-01T00:00:00Z"),
        })
        .collect();
    let catalogue = Catalogue::build(rules.clone(), 1, &stored);
    assert!(catalogue.schedules.is_empty());
    let told = catalogue
        .broken
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    assert!(told.contains("did you mean `freeze`"), "{told}");
    let mut right = stored;
    for entry in right
        .iter_mut()
        .filter(|entry| entry.kind == Kind::Schedule)
    {
        entry.definition.insert("calendars".into(), "freeze".into());
    }
    let catalogue = Catalogue::build(rules, 1, &right);
    let only = catalogue.schedules.iter().next().expect("the schedule");
    let next = only
        .timetable
        .next_after(moment("2026-12-24T12:00:00Z"), Last::Never);
    assert_eq!(next, Some(moment("2026-12-26T00:00:00Z")));
}
