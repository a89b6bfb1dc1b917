//! The zones of the design, and the answers of other implementations.

use serde::Deserialize;

use super::{first, timetable};

#[derive(Deserialize)]
struct Zones {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    what: String,
    zone: String,
    recurrences: Vec<String>,
    after: String,
    /// With their offsets, so that both readings of the clock can be told apart.
    then: Vec<String>,
}

#[derive(Deserialize)]
struct Oracles {
    cron: Vec<Oracle>,
    rrule: Vec<Oracle>,
}

#[derive(Deserialize)]
struct Oracle {
    is: String,
    then: Vec<String>,
    theirs: Option<toml::Value>,
    because: Option<String>,
}

#[test]
fn every_zone_fires_when_its_vectors_say() {
    let zones: Zones = toml::from_str(include_str!("zones.toml")).expect("vectors");
    let mut wrong = Vec::new();
    for case in &zones.case {
        let recurrences: Vec<&str> = case.recurrences.iter().map(String::as_str).collect();
        let timetable = timetable(&recurrences, &case.zone, "2000-01-01T00:00:00Z");
        let found: Vec<String> = timetable
            .instants(super::moment(&case.after), Default::default())
            .take(case.then.len())
            .map(|at| {
                let zoned = at.timestamp().to_zoned(timetable.zone().clone());
                jiff::fmt::temporal::DateTimePrinter::new()
                    .timestamp_with_offset_to_string(&zoned.timestamp(), zoned.offset())
            })
            .collect();
        if found != case.then {
            wrong.push(format!(
                "{} ({}):\n  expected {:?}\n  found    {found:?}",
                case.what, case.zone, case.then
            ));
        }
    }
    assert!(zones.case.len() >= 20, "{} vectors", zones.case.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cron_expressions_and_rules_fire_as_other_implementations_say_or_as_the_data_explains() {
    let oracles: Oracles = toml::from_str(include_str!("oracles.toml")).expect("oracles");
    let mut wrong = Vec::new();
    for oracle in oracles.cron.iter().chain(&oracles.rrule) {
        let made = "2026-01-15T09:30:00Z";
        let found = match muster::recurrence::Recurrence::parse(&oracle.is) {
            Err(error) => vec![error],
            Ok(_) if oracle.is.starts_with("FREQ") => first(
                &super::rules::from(&oracle.is, "2026-01-15T09:30:00", "UTC"),
                "2026-01-15T10:20:30Z",
                6,
            ),
            Ok(_) => first(
                &timetable(&[&oracle.is], "UTC", made),
                "2026-01-15T10:20:30Z",
                6,
            ),
        };
        if found != oracle.then {
            wrong.push(format!(
                "{}\n  expected {:?}\n  found    {found:?}",
                oracle.is, oracle.then
            ));
        }
        assert_eq!(
            oracle.theirs.is_some(),
            oracle.because.is_some(),
            "{}: a difference has a reason",
            oracle.is
        );
    }
    let many = oracles.cron.len() + oracles.rrule.len();
    assert!(many >= 200, "{many} expressions");
    assert!(
        wrong.is_empty(),
        "{} of {many}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
