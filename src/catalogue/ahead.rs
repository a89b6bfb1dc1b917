//! Looking ahead: when schedules fire next, and what a declaration would leave without effect or without what it needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Stored, timetable};
use crate::declaration::{Compiled, Declared, Kind, read_stored};
use crate::document::{Complaint, nearest};
use crate::moment::Moment;
use crate::recurrence::{Calendar, Last, Timetable};
use crate::rules::Rules;

/// The next instants of a schedule, as the clock on its wall shows them and in UTC.
pub fn instants(timetable: &Timetable, after: Moment, many: usize) -> Vec<(String, Moment)> {
    timetable
        .instants(after, Last::Never)
        .take(many)
        .map(|instant| {
            let local = instant.timestamp().to_zoned(timetable.zone().clone());
            (
                local.strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string(),
                instant,
            )
        })
        .collect()
}

/// What a look ahead found.
#[derive(Default)]
pub struct Ahead {
    pub complaints: Vec<Complaint>,
    /// The next five instants, by schedule and organisation.
    pub instants: BTreeMap<(String, String), Vec<(String, Moment)>>,
}

/// Looks at what files declare beside what stays declared: calendars that there are not, schedules that never fire.
pub fn look_ahead(declared: &[Declared], staying: &[&Stored], rules: &Rules, now: Moment) -> Ahead {
    let mut ahead = Ahead::default();
    let mut calendars: BTreeMap<String, Arc<Calendar>> = BTreeMap::new();
    for entry in staying.iter().filter(|entry| entry.kind == Kind::Calendar) {
        if let Ok(read) = read_stored(entry.kind, &entry.definition, rules)
            && let Compiled::Calendar(calendar) = read.compiled
        {
            calendars.insert(entry.name.clone(), Arc::from(calendar));
        }
    }
    for entry in declared {
        if let Compiled::Calendar(calendar) = &entry.compiled {
            calendars.insert(entry.name.clone(), Arc::new(calendar.as_ref().clone()));
        }
    }
    let there = |kind: Kind| {
        let stored = staying.iter().filter(move |entry| entry.kind == kind);
        let stored = stored.map(|entry| entry.name.as_str());
        let told = declared.iter().filter(move |entry| entry.kind == kind);
        stored.chain(told.map(|entry| entry.name.as_str()))
    };
    for entry in declared {
        let Compiled::Schedule(schedule) = &entry.compiled else {
            continue;
        };
        let place = format!("schedule {}", entry.name);
        // Whoever makes files need not be declared, so this may be meant so.
        for plugin in &schedule.join {
            if !there(Kind::Plugin).any(|known| known == plugin) {
                let near = nearest(plugin, there(Kind::Plugin));
                let help = match near.as_slice() {
                    [] => "it is completed by files of somebody else alone".to_owned(),
                    near => format!("did you mean `{}`?", near.join("` or `")),
                };
                ahead.complaints.push(Complaint::warning(
                    &place,
                    None,
                    "join",
                    format!("join: there is no plugin `{plugin}`; {help}"),
                ));
            }
        }
        let mut schedule = schedule.as_ref().clone();
        let known = staying.iter().find(|known| {
            known.kind == Kind::Schedule
                && known.name == entry.name
                && known.organization == entry.organization
        });
        schedule.created_at = known.map_or(now, |known| known.created_at);
        let found = match timetable(&schedule, &calendars) {
            Ok(found) if found.is_empty() => continue,
            Ok(found) => found,
            Err(message) => {
                ahead.complaints.push(Complaint::error(
                    place,
                    None,
                    "calendars",
                    format!("calendars: {message}"),
                ));
                continue;
            }
        };
        let next = instants(&found, now, 5);
        if next.is_empty() {
            schedule.calendars.clear();
            let open = timetable(&schedule, &calendars);
            let blocked = open.is_ok_and(|open| open.next_after(now, Last::Never).is_some());
            ahead.complaints.push(if blocked {
                Complaint::error(
                    place,
                    None,
                    "calendars",
                    "calendars: every instant of its recurrences lies in a blackout, so it would never fire",
                )
            } else {
                Complaint::warning(
                    place,
                    None,
                    "recurrences",
                    "recurrences: none of its instants is still to come, so the clock does not start it",
                )
            });
        }
        ahead
            .instants
            .insert((entry.name.clone(), entry.organization.clone()), next);
    }
    // A calendar that goes must not be one that somebody needs.
    let declared_again = |stored: &Stored| {
        declared.iter().any(|entry| {
            entry.kind == Kind::Schedule
                && entry.name == stored.name
                && entry.organization == stored.organization
        })
    };
    for stored in staying
        .iter()
        .filter(|stored| stored.kind == Kind::Schedule)
    {
        let Some(named) = stored.definition.get("calendars") else {
            continue;
        };
        let names: Vec<&str> = match named {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for name in names {
            if !calendars.contains_key(name) && !declared_again(stored) {
                ahead.complaints.push(Complaint::error(
                    format!("schedule {}", stored.name),
                    None,
                    "calendars",
                    format!("calendars: it names `{name}`, which would no longer be declared"),
                ));
            }
        }
    }
    ahead
}
