//! When a schedule fires next: one that is declared, one of a file, or one that a plugin brought along.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::output::{counted, in_lines, note, print, print_json, table};
use super::{Failure, Output, VariableArguments, declare, door, rules};
use crate::answer::{no_organization, preview};
use crate::catalogue::{Catalogue, Stored, instants};
use crate::declaration::{Declared, Variables};
use crate::document::{Complaint, nearest};
use crate::harmless;
use crate::moment::Moment;
use crate::schedule::OF_PLUGIN;
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

pub async fn run(settings: &Settings, asked: &Preview, output: Output) -> Result<(), Failure> {
    let now = asked.after.unwrap_or_else(Moment::now);
    let path = Path::new(&asked.schedule);
    // A folder is refused as a file that cannot be read.
    let is_file = asked.schedule == "-" || path.exists();
    let found = if is_file {
        of_file(settings, asked, now)?
    } else {
        declared(settings, asked).await?
    };
    let many = usize::try_from(asked.number).unwrap_or(usize::MAX);
    match output {
        Output::Json => print_json(&Value::Array(
            found
                .iter()
                .map(|scheduled| preview(scheduled, now, many))
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
    let rules = rules::rules(settings).map_err(Failure::Wrong)?;
    let variables = Variables::parse(&preview.variables.variables).map_err(Failure::Usage)?;
    let files = [Path::new(&preview.schedule).to_path_buf()];
    let (declared, complaints) = declare::read(&files, &variables, &rules)?;
    if complaints.iter().any(Complaint::is_error) {
        return Err(Failure::Wrong(complaints));
    }
    let stored: Vec<Stored> = declared
        .iter()
        .map(|entry| as_if_stored(entry, now))
        .collect();
    let catalogue = Catalogue::build(Arc::new(rules), 0, &stored);
    if !catalogue.broken.is_empty() {
        return Err(Failure::Wrong(catalogue.broken.to_vec()));
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
    let ground = door::known(settings).await?;
    let catalogue = ground.catalogue();
    let pauses = ground.store.pauses().await?;
    ground.store.close().await;
    if let Some(organization) = &preview.organization
        && !catalogue.organizations.contains_key(organization)
    {
        let known = catalogue.organizations.keys().map(String::as_str);
        return Err(Failure::Refused(no_organization(organization, known)));
    }
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
        if let Some(plugin) = name.strip_prefix(OF_PLUGIN) {
            return Err(of_no_plugin(&catalogue, plugin));
        }
        let whose = preview.organization.as_ref();
        let whose = whose.map_or(String::new(), |id| format!(" of {id}"));
        let why = format!("there is no schedule `{name}`{whose}");
        let mut help = vec![match nearest(name, names).as_slice() {
            [] => "`muster schedule list` shows them, and a file can be named instead".to_owned(),
            near => format!("did you mean {}?", near.join(" or ")),
        }];
        help.extend(broken);
        return Err(Failure::no("not_found", &why, &help.join("; ")));
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
    for scheduled in &timed {
        if let Some(pause) = pauses.get(&scheduled.schedule.id) {
            note(&format!(
                "`{}` is paused ({}), so none of these runs until it is resumed",
                harmless::line(&scheduled.schedule.name),
                harmless::line(&pause.reason)
            ));
        }
    }
    Ok(timed)
}

/// Why a plugin brings no schedule along.
fn of_no_plugin(catalogue: &Catalogue, plugin: &str) -> Failure {
    if catalogue.plugins.contains_key(plugin) {
        return Failure::Found(format!(
            "the clock does not start the plugin `{plugin}` by itself: it has no `recurrences`"
        ));
    }
    let near = nearest(plugin, catalogue.plugins.keys().map(String::as_str));
    let meant = match near.as_slice() {
        [] => "`muster plugin list` shows them".to_owned(),
        near => format!(
            "did you mean {OF_PLUGIN}{}?",
            near.join(&format!(" or {OF_PLUGIN}"))
        ),
    };
    let why = format!("there is no plugin `{plugin}`");
    Failure::no("not_found", &why, &meant)
}

fn show(scheduled: &Scheduled, after: Moment, many: usize) {
    let schedule = &scheduled.schedule;
    let of = schedule
        .organization
        .as_ref()
        .map_or(String::new(), |organization| format!(" of {organization}"));
    let asleep = if schedule.awake() || schedule.paused {
        ""
    } else {
        "; it is switched off, so none of these runs"
    };
    print(&harmless::line(&format!(
        "{}{of} ({}){asleep}",
        schedule.name, schedule.timezone
    )));
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

/// What declarations would change beside themselves.
pub fn show_consequences(changes: &Value) {
    let changes = &in_lines(changes, &[], &[]);
    let items = |value: &Value, name: &str| {
        let list = value.get(name).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let text = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let list = |value: &Value, name: &str| {
        let items = items(value, name);
        let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        texts.join(", ")
    };
    let named = |value: &Value| match text(value, "organization").as_str() {
        "" => text(value, "schedule"),
        organization => format!("{} of {organization}", text(value, "schedule")),
    };
    let instants = items(changes, "instants");
    if !instants.is_empty() {
        print("instants that would change:");
    }
    for differs in &instants {
        print(&format!("  {}", named(differs)));
        for (sign, name) in [("-", "before"), ("+", "after")] {
            let instants = match list(differs, name).as_str() {
                "" => "none".to_owned(),
                instants => instants.to_owned(),
            };
            print(&format!("    {sign} {instants}"));
        }
    }
    let selections = items(changes, "selections");
    if !selections.is_empty() {
        print("plugins that schedules would begin or cease to select:");
    }
    for differs in &selections {
        print(&format!("  {}", named(differs)));
        for (sign, name) in [("-", "ceases"), ("+", "begins")] {
            let plugins = list(differs, name);
            if !plugins.is_empty() {
                print(&format!("    {sign} {plugins}"));
            }
        }
    }
    for (name, what) in [
        ("more_instants", "instants"),
        ("more_selections", "plugins"),
    ] {
        let more = changes[name].as_u64().unwrap_or(0);
        if more > 0 {
            let schedules = counted(more, "schedule");
            print(&format!("  and {schedules} more with other {what}"));
        }
    }
    let tasks = items(changes, "tasks");
    if !tasks.is_empty() {
        print("open tasks that would be withdrawn when their turn comes:");
    }
    for task in &tasks {
        let reasons = task["reasons"].as_object().cloned().unwrap_or_default();
        let reasons: Vec<&str> = reasons.keys().map(String::as_str).collect();
        let of = match task["looked_at"] == task["open"] {
            true => format!("of {}", task["open"]),
            false => format!(
                "of {} that were looked at, of {}",
                task["looked_at"], task["open"]
            ),
        };
        print(&format!(
            "  {} of {}: {} {of} ({})",
            text(task, "plugin"),
            text(task, "organization"),
            task["withdrawn"],
            reasons.join(", ")
        ));
    }
}
