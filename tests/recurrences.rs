//! When schedules fire: the laws, vectors for the zones that do strange things, other implementations' answers.

use jiff::tz::TimeZone;
use muster::moment::Moment;
use muster::recurrence::{Bounds, Last, Recurrence, Timetable};

#[path = "recurrences/agenda.rs"]
mod agenda;
#[path = "recurrences/blackouts.rs"]
mod blackouts;
#[path = "recurrences/instants.rs"]
mod instants;
#[path = "recurrences/properties.rs"]
mod properties;
#[path = "recurrences/rules.rs"]
mod rules;
#[path = "recurrences/vectors.rs"]
mod vectors;

fn moment(text: &str) -> Moment {
    Moment::parse(text).expect("an instant")
}

/// In a zone, made at an instant.
fn timetable(recurrences: &[&str], zone: &str, created: &str) -> Timetable {
    let recurrences: Vec<Recurrence> = recurrences
        .iter()
        .map(|text| Recurrence::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
        .collect();
    let zone = TimeZone::get(zone).expect("a zone");
    let bounds = Bounds {
        created: moment(created),
        ..Bounds::default()
    };
    Timetable::new(&recurrences, zone, bounds, Vec::new())
}

/// The first instants after one, in UTC.
fn first(timetable: &Timetable, after: &str, many: usize) -> Vec<String> {
    timetable
        .instants(moment(after), Last::Never)
        .take(many)
        .map(|instant| instant.to_string())
        .collect()
}

fn refusal(text: &str) -> String {
    Recurrence::parse(text)
        .err()
        .unwrap_or_else(|| panic!("expected `{text}` to be refused"))
}
