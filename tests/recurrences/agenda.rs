//! What the clock makes due next.

use std::collections::HashMap;
use std::sync::Arc;

use muster::agenda::Agenda;
use muster::catalogue::{Catalogue, Stored};
use muster::declaration::Kind;
use muster::moment::Moment;
use muster::recurrence::Last;
use muster::rules::Rules;
use serde_json::{Value, json};

use super::moment;

fn stored(kind: Kind, name: &str, revision: i64, definition: Value) -> Stored {
    Stored {
        kind,
        id: format!("id-{name}"),
        name: name.to_owned(),
        organization: String::new(),
        definition: definition.as_object().expect("an object").clone(),
        revision,
        created_at: moment("2026-01-01T00:00:00Z"),
    }
}

fn schedule(name: &str, revision: i64, recurrences: Value) -> Stored {
    let definition = json!({"name": name, "recurrences": recurrences, "plugins": "True"});
    stored(Kind::Schedule, name, revision, definition)
}

fn catalogue(revision: i64, stored: &[Stored]) -> Catalogue {
    let catalogue = Catalogue::build(Arc::new(Rules::default()), revision, stored);
    assert!(catalogue.broken.is_empty(), "{:?}", catalogue.broken);
    catalogue
}

fn cursors(names: &[&str], at: &str) -> HashMap<String, Moment> {
    names
        .iter()
        .map(|name| (format!("id-{name}"), moment(at)))
        .collect()
}

fn due(agenda: &Agenda, now: &str) -> Vec<String> {
    agenda
        .due(moment(now), Moment::from_micros(i64::MAX))
        .into_iter()
        .map(|(_, scheduled, _)| scheduled.schedule.name.clone())
        .collect()
}

#[test]
fn what_is_due_comes_in_its_order_until_it_is_decided() {
    let catalogue = catalogue(
        1,
        &[
            schedule("hourly", 1, json!("hourly")),
            schedule("noon", 1, json!("0 12 * * *")),
            schedule("half", 1, json!("30 * * * *")),
            schedule("no-cursor", 1, json!("hourly")),
        ],
    );
    let mut agenda = Agenda::default();
    assert!(agenda.is_behind(&catalogue));
    let cursors = cursors(&["hourly", "noon", "half"], "2026-01-01T10:15:00Z");
    agenda.follow(&catalogue, &cursors);
    assert!(!agenda.is_behind(&catalogue));
    assert_eq!(agenda.next(), Some(moment("2026-01-01T10:30:00Z")));
    assert!(due(&agenda, "2026-01-01T10:29:59Z").is_empty());
    assert_eq!(due(&agenda, "2026-01-01T11:00:00Z"), ["half", "hourly"]);
    for (place, _, _) in agenda.due(
        moment("2026-01-01T11:00:00Z"),
        moment("2026-01-02T00:00:00Z"),
    ) {
        agenda.decided(place, moment("2026-01-01T11:00:00Z"));
    }
    assert!(due(&agenda, "2026-01-01T11:00:00Z").is_empty());
    assert_eq!(agenda.next(), Some(moment("2026-01-01T11:30:00Z")));
}

#[test]
fn a_new_catalogue_brings_changed_schedules_cursors_and_calendars() {
    let mut entries = vec![
        schedule("a", 1, json!("0 12 * * *")),
        schedule("b", 1, json!("0 13 * * *")),
        stored(
            Kind::Schedule,
            "c",
            1,
            json!({"name": "c", "recurrences": "0 14 * * *", "plugins": "True", "calendars": ["freeze"]}),
        ),
        stored(
            Kind::Calendar,
            "freeze",
            1,
            json!({"name": "freeze", "dates": "2026-01-09"}),
        ),
    ];
    let cursors = cursors(&["a", "b", "c"], "2026-01-01T10:00:00Z");
    let mut agenda = Agenda::default();
    agenda.follow(&catalogue(1, &entries), &cursors);
    assert_eq!(due(&agenda, "2026-01-01T14:00:00Z"), ["a", "b", "c"]);
    // `a` is changed, and the calendar, which is not a change of `c`; `b` goes.
    entries[0] = schedule("a", 2, json!("30 12 * * *"));
    entries[3] = stored(
        Kind::Calendar,
        "freeze",
        2,
        json!({"name": "freeze", "dates": "2026-01-01"}),
    );
    entries.remove(1);
    let newer = catalogue(2, &entries);
    assert!(agenda.is_behind(&newer));
    agenda.follow(&newer, &cursors);
    assert_eq!(agenda.next(), Some(moment("2026-01-01T12:30:00Z")));
    assert_eq!(due(&agenda, "2026-01-02T13:59:59Z"), ["a"]);
    assert_eq!(due(&agenda, "2026-01-02T14:00:00Z"), ["a", "c"]);
}

#[test]
fn a_catalogue_that_only_gained_organisations_needs_no_cursors() {
    let known = catalogue(1, &[schedule("a", 1, json!("daily"))]);
    let mut agenda = Agenda::default();
    agenda.follow(&known, &cursors(&["a"], "2026-01-01T10:00:00Z"));
    let mut gained = known.clone();
    gained.revision = 2;
    assert!(!agenda.is_behind(&gained));
    assert_eq!(agenda.next(), Some(moment("2026-01-02T00:00:00Z")));
}

#[test]
fn a_period_since_completion_leaves_the_agenda_while_its_run_is_open() {
    let period = json!({"period": "1h", "anchor": "completion"});
    let catalogue = catalogue(1, &[schedule("a", 1, period)]);
    let mut agenda = Agenda::default();
    agenda.follow(&catalogue, &cursors(&["a"], "2026-01-01T00:00:00Z"));
    assert_eq!(agenda.waiting().collect::<Vec<_>>(), ["id-a"]);
    assert_eq!(agenda.next(), Some(moment("2026-01-01T01:00:00Z")));
    let stands = |last| HashMap::from([("id-a".to_owned(), last)]);
    agenda.learn(&stands(Last::Running));
    assert_eq!(agenda.next(), None);
    agenda.learn(&stands(Last::Ended(moment("2026-01-01T02:30:00Z"))));
    assert_eq!(agenda.next(), Some(moment("2026-01-01T03:30:00Z")));
}

#[test]
fn a_schedule_that_was_decided_further_than_the_clock_is_looked_at_too() {
    let catalogue = catalogue(
        1,
        &[
            schedule("a", 1, json!("daily")),
            schedule("b", 1, json!("daily")),
        ],
    );
    let mut cursors = cursors(&["a", "b"], "2026-01-01T10:00:00Z");
    cursors.insert("id-b".to_owned(), moment("2026-06-01T00:00:00Z"));
    let mut agenda = Agenda::default();
    agenda.follow(&catalogue, &cursors);
    let now = moment("2026-01-01T11:00:00Z");
    let found = agenda.due(now, moment("2026-01-01T11:01:00Z"));
    let [(place, scheduled, _)] = found.as_slice() else {
        panic!("one of them: {found:?}");
    };
    assert_eq!(scheduled.schedule.name, "b");
    agenda.decided(*place, now);
    assert!(agenda.due(now, moment("2026-01-01T11:01:00Z")).is_empty());
}
