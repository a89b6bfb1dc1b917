//! When a schedule fires next: one that is declared, one of a file, or one that a plugin brought along.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::output::{print, print_json, table};
use super::{Failure, Output, VariableArguments, declare, rules};
use crate::catalogue::{Catalogue, Stored, timetable};
use crate::declaration::{Compiled, Declared, Kind, Variables, read_stored};
use crate::document::Complaint;
use crate::moment::Moment;
use crate::recurrence::{Calendar, Last, Timetable};
use crate::rules::Rules;
use crate::settings::Settings;
use crate::trigger::Scheduled;

#[derive(Debug, Args)]
pub struct Preview {
    /// The schedule's name or id, `plugin:<plugin id>`, or a file of declarations (`-` is standard input)
    schedule: String,
    /// How many instants
    #[arg(short, long = "number", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    number: u64,
    /// The schedule of this organisation, where several have that name
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Instants after this one, instead of now
    #[arg(long, value_name = "INSTANT", value_parser = |text: &str| Moment::parse(text))]
    after: Option<Moment>,
    #[command(flatten)]
    variables: VariableArguments,
}

pub async fn run(settings: &Settings, preview: &Preview, output: Output) -> Result<(), Failure> {
    let now = preview.after.unwrap_or_else(Moment::now);
    let path = Path::new(&preview.schedule);
    let is_file = preview.schedule == "-" || path.is_file();
    let found = if is_file {
        of_file(settings, preview, now)?
    } else {
        declared(settings, preview).await?
    };
    let many = usize::try_from(preview.number).unwrap_or(usize::MAX);
    match output {
        Output::Json => print_json(&Value::Array(
            found
                .iter()
                .map(|scheduled| as_json(scheduled, now, many))
                .collect(),
        )),
        Output::Table => {
            for scheduled in &found {
                show(scheduled, now, many);
            }
        }
    }
    Ok(())
}

/// All schedules of a file that the clock starts; calendars may stand in the same file.
fn of_file(
    settings: &Settings,
    preview: &Preview,
    now: Moment,
) -> Result<Vec<Arc<Scheduled>>, Failure> {
    let rules = rules::rules(settings).map_err(|wrong| Failure::of_complaints(&wrong))?;
    let variables = Variables::parse(&preview.variables.variables).map_err(Failure::Usage)?;
    let files = [Path::new(&preview.schedule).to_path_buf()];
    let (declared, complaints) = declare::read(&files, &variables, &rules)?;
    if complaints.iter().any(Complaint::is_error) {
        return Err(Failure::of_complaints(&complaints));
    }
    let stored: Vec<Stored> = declared
        .iter()
        .map(|entry| as_if_stored(entry, now))
        .collect();
    let catalogue = Catalogue::build(Arc::new(rules), 0, &stored);
    if !catalogue.broken.is_empty() {
        return Err(Failure::of_complaints(&catalogue.broken));
    }
    let found: Vec<Arc<Scheduled>> = catalogue
        .schedules
        .by_name()
        .into_iter()
        .filter(|scheduled| !scheduled.timetable.is_empty())
        .cloned()
        .collect();
    if found.is_empty() {
        return Err(Failure::Found(format!(
            "{}: the clock starts no schedule of it: none has `recurrences`",
            preview.schedule
        )));
    }
    Ok(found)
}

fn as_if_stored(entry: &Declared, now: Moment) -> Stored {
    Stored {
        kind: entry.kind,
        id: entry.name.clone(),
        name: entry.name.clone(),
        organization: entry.organization.clone(),
        definition: entry.definition.clone(),
        revision: 1,
        created_at: now,
    }
}

async fn declared(settings: &Settings, preview: &Preview) -> Result<Vec<Arc<Scheduled>>, Failure> {
    let ground = rules::ground(settings).await?;
    ground.store.migrate().await?;
    let catalogue = ground.load_catalogue().await?;
    ground.store.close().await;
    let name = preview.schedule.as_str();
    let named: Vec<&Arc<Scheduled>> = catalogue
        .schedules
        .by_name()
        .into_iter()
        .filter(|scheduled| scheduled.schedule.name == name || scheduled.schedule.id == name)
        .filter(|scheduled| {
            preview.organization.is_none()
                || preview.organization == scheduled.schedule.organization
        })
        .collect();
    if named.is_empty() {
        let names = catalogue
            .schedules
            .iter()
            .map(|scheduled| scheduled.schedule.name.as_str());
        let broken = catalogue.broken.iter().map(ToString::to_string);
        let mut told = vec![format!("there is no schedule `{name}`")];
        match crate::document::nearest(name, names).as_slice() {
            [] => told.push(
                "`muster schedule list` shows them, and a file can be named instead".to_owned(),
            ),
            near => told.push(format!("did you mean {}?", near.join(" or "))),
        }
        told.extend(broken);
        return Err(Failure::Usage(told.join("\n")));
    }
    let timed: Vec<Arc<Scheduled>> = named
        .into_iter()
        .filter(|scheduled| !scheduled.timetable.is_empty())
        .cloned()
        .collect();
    if timed.is_empty() {
        return Err(Failure::Found(format!(
            "the clock does not start `{name}`: it has no `recurrences`"
        )));
    }
    Ok(timed)
}

/// The next instants of a schedule, as the clock on its wall shows them and in UTC.
fn instants(timetable: &Timetable, after: Moment, many: usize) -> Vec<(String, Moment)> {
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

fn as_json(scheduled: &Scheduled, after: Moment, many: usize) -> Value {
    let schedule = &scheduled.schedule;
    let instants: Vec<Value> = scheduled
        .timetable
        .instants(after, Last::Never)
        .take(many)
        .map(|instant| {
            let offset = scheduled.timetable.zone().to_offset(instant.timestamp());
            let local = instant.timestamp().display_with_offset(offset).to_string();
            json!({"utc": instant.to_string(), "local": local})
        })
        .collect();
    json!({
        "schedule": schedule.name, "organization": schedule.organization, "timezone": schedule.timezone,
        "awake": schedule.awake(), "instants": instants,
    })
}

fn show(scheduled: &Scheduled, after: Moment, many: usize) {
    let schedule = &scheduled.schedule;
    let of = schedule
        .organization
        .as_ref()
        .map_or(String::new(), |organization| format!(" of {organization}"));
    let asleep = if schedule.awake() {
        ""
    } else {
        "; it is switched off, so none of these runs"
    };
    print(&format!(
        "{}{of} ({}){asleep}",
        schedule.name, schedule.timezone
    ));
    let found = instants(&scheduled.timetable, after, many);
    if found.is_empty() {
        print("never again");
    } else {
        print(&table(
            &["local", "UTC"],
            found
                .iter()
                .map(|(local, utc)| vec![local.clone(), utc.to_string()])
                .collect(),
        ));
    }
    if scheduled.timetable.waits_for_completion() {
        print(
            "a period is anchored at completion: these instants are those if no run takes any time",
        );
    }
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
    for entry in declared {
        let Compiled::Schedule(schedule) = &entry.compiled else {
            continue;
        };
        let place = format!("schedule {}", entry.name);
        let mut schedule = schedule.as_ref().clone();
        let known = staying.iter().find(|known| {
            known.kind == Kind::Schedule
                && known.name == entry.name
                && known.organization == entry.organization
        });
        schedule.created_at = known.map_or(now, |known| known.created_at);
        let timetable = match timetable(&schedule, &calendars) {
            Ok(timetable) if timetable.is_empty() => continue,
            Ok(timetable) => timetable,
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
        let next = instants(&timetable, now, 5);
        if next.is_empty() {
            schedule.calendars.clear();
            let open = crate::catalogue::timetable(&schedule, &calendars);
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
