//! `muster replay`: what new rules would have made of what has happened, beside what the present ones make of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::lists::sum_up;
use super::output::{self, counted, in_lines, items, print, print_json, text};
use super::{Failure, Output, VariableArguments, declare, door, rules};
use crate::answer::{self, Replayed, replay};
use crate::catalogue::{Catalogue, Edition, Stored, look_ahead};
use crate::declaration::{Kind, Variables};
use crate::document::{Complaint, nearest};
use crate::ground::Ground;
use crate::moment::{Moment, Span};
use crate::settings::Settings;
use crate::store::{Edit, overlaid};

pub const ABOUT: &str = "\
Examples:
  muster replay schedules.yaml                      the events of the last day
  muster replay schedules.yaml --since 7d --organization acme
  muster replay schedules.yaml --since 2026-11-01 --until 2026-11-08
  muster replay schedules.yaml --over objects       every object as if it were created now, and one instant of the clock

What FILES declare is laid over what is declared. Both rules, the present and those, decide the same events in the order in
which they were handled, by the code of the service; nothing is stored. Each task counts as ended as soon as it is made, so
what comes after it meets its grace. What queries ask of other objects is answered from what is there now. Events are kept
for retention.events.

`added` and `removed` count plugins on objects that get a task under one of the rules alone: a schedule may lose one and gain
another, and make as many tasks as before. Some of them are shown below the table, with + or -, and the reason of the other
rules. They are told of every schedule, also of those that FILES change by a plugin, a set or a calendar.";

/// Since when events are replayed where nobody says.
const LATELY: &str = "1d";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Over {
    Events,
    Objects,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// YAML or JSON files; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Over what
    #[arg(long, value_enum, default_value_t = Over::Events)]
    over: Over,
    /// Events from so long ago (1d, 36h), a date (2026-11-01: its first instant, UTC) or an instant on; 1d, where it is left out
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    since: Option<String>,
    /// Events until so long ago, a date or an instant; now, where it is left out
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    until: Option<String>,
    /// Only of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// So many events, or objects, at most; and so many objects of each run that looks for its inputs
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    limit: i64,
    #[command(flatten)]
    variables: VariableArguments,
}

pub async fn run(settings: &Settings, asked: &Replay, output: Output) -> Result<(), Failure> {
    let rules = rules::rules(settings).map_err(Failure::Wrong)?;
    let now = Moment::now();
    let (since, until) = while_of(asked, now)?;
    let variables = Variables::parse(&asked.variables.variables).map_err(Failure::Usage)?;
    let (declared, complaints) = declare::read(&asked.files, &variables, &rules)?;
    complain(&complaints)?;
    let ground = door::known(settings).await?;
    let (revision, stored) = ground.store.declared().await?;
    let (_, declared) = declare::apart(declared);
    let (_, edits) = declare::compare(&declared, &stored, false, &mut || ground.ids().next(now));
    let kept: Vec<&Stored> = stored.iter().collect();
    complain(&look_ahead(&declared, &kept, &ground.rules, now).complaints)?;
    let about: BTreeSet<(String, String)> = declared
        .iter()
        .filter(|entry| entry.kind == Kind::Schedule)
        .map(|entry| (entry.name.clone(), entry.organization.clone()))
        .collect();
    let (present, proposed) = both(&ground, revision, stored, &edits).await?;
    if let Some(organization) = &asked.organization
        && !proposed.organizations.contains_key(organization)
    {
        let known = proposed.organizations.keys().map(String::as_str);
        let near = match nearest(organization, known).as_slice() {
            [] => String::new(),
            near => format!("; did you mean {}?", near.join(" or ")),
        };
        return Err(Failure::Found(format!(
            "no organization `{organization}` is known{near}"
        )));
    }
    let replayed = Replayed {
        present,
        proposed,
        about,
        over: match asked.over {
            Over::Events => answer::Over::Events,
            Over::Objects => answer::Over::Objects,
        },
        since,
        until,
        organization: asked.organization.clone(),
        limit: asked.limit,
    };
    let told = replay(&ground, &replayed).await?;
    ground.store.close().await;
    match output {
        Output::Json => print_json(&told),
        Output::Table => tell(&in_lines(&told, &[], &[])),
    }
    Ok(())
}

/// What is declared, and what would be after some edits.
pub(super) async fn both(
    ground: &Ground,
    revision: i64,
    stored: Vec<Stored>,
    edits: &[Edit],
) -> Result<(Arc<Catalogue>, Arc<Catalogue>), Failure> {
    let paused = ground.store.pauses().await?.into_keys().collect();
    let after = overlaid(&stored, edits, ground.clock.now());
    let build = |stored| Edition::new(ground.rules.clone()).replace(revision, stored, &paused);
    Ok((build(stored), build(after)))
}

/// The while whose events are replayed; objects have none.
fn while_of(asked: &Replay, now: Moment) -> Result<(Moment, Moment), Failure> {
    let said = [("--since", &asked.since), ("--until", &asked.until)];
    if asked.over == Over::Objects
        && let Some((argument, _)) = said.iter().find(|(_, text)| text.is_some())
    {
        return Err(Failure::Usage(format!(
            "{argument} is of events, and objects are replayed as they are now; leave it out, or say --over events"
        )));
    }
    let text = asked.since.as_deref().unwrap_or(LATELY);
    let since = when("--since", text, now)?;
    let until = match &asked.until {
        Some(until) => when("--until", until, now)?,
        None => now,
    };
    if since > until {
        return Err(Failure::Usage(format!(
            "--since {since} is after --until {until}; the events between them are replayed"
        )));
    }
    if since == until {
        return Err(Failure::Usage(format!(
            "no time lies between --since {text} and --until; say how long ago (90s, 36h, 7d), a date (2026-11-01) or an \
             instant (2026-11-21T09:30:00Z)"
        )));
    }
    Ok((since, until))
}

/// So long ago, a date or an instant.
fn when(argument: &str, text: &str, now: Moment) -> Result<Moment, Failure> {
    let date = || Moment::parse(&format!("{}T00:00:00Z", text.trim()));
    if let Ok(span) = Span::parse(text) {
        return Ok(now.minus(span));
    }
    Moment::parse(text.trim()).or_else(|_| date()).map_err(|_| {
        Failure::Usage(format!(
            "{argument}: `{text}` is neither a length of time (90s, 36h, 7d) nor a date (2026-11-01) nor an instant \
             (2026-11-21T09:30:00Z)"
        ))
    })
}

fn complain(complaints: &[Complaint]) -> Result<(), Failure> {
    output::complain(complaints);
    match complaints.iter().any(Complaint::is_error) {
        true => Err(Failure::Found("nothing was replayed".to_owned())),
        false => Ok(()),
    }
}

fn tell(told: &Value) {
    let number = |name: &str| told[name].as_u64().unwrap_or(0);
    let over = text(told, "over");
    if over == "events" {
        print(&format!(
            "{} from {} to {}; {} left their object as it was",
            counted(number("events"), "event"),
            text(told, "since"),
            text(told, "until"),
            number("unchanged")
        ));
        if told["not_all_kept"] == Value::Bool(true) {
            print(&match text(told, "kept_since") {
                "" => "no event is kept; they are kept for retention.events".to_owned(),
                since => {
                    format!("what was handled before {since} is not kept, so it is not among them")
                }
            });
        }
    } else {
        print(&format!(
            "{}, each as if it were created now",
            counted(number("objects"), "object")
        ));
    }
    for (name, what) in [
        ("unreadable", "events can no longer be read"),
        ("dead_letters", "changes would be dead letters"),
        (
            "not_known_before",
            "changes are of objects that nobody knows how they were before: that is guessed from how they are now",
        ),
    ] {
        if number(name) > 0 {
            print(&format!("{} {what}", number(name)));
        }
    }
    if told["more"] == Value::Bool(true) {
        let limit = number("limit");
        print(&match text(told, "stopped_at") {
            "" => format!(
                "stopped at --limit {limit}: there are more objects, and nothing is told of them"
            ),
            at => format!(
                "stopped at --limit {limit}: there are more events after {at}, and nothing is told of them"
            ),
        });
    }
    let rows: Vec<Vec<String>> = items(told, "schedules").map(row).collect();
    if rows.is_empty() {
        return print("no schedule would have had anything to do");
    }
    let touched = if over == "events" {
        "events"
    } else {
        "objects"
    };
    sum_up(
        "replay",
        &[
            "schedule",
            "of",
            touched,
            "runs",
            "tasks",
            "tasks now",
            "added",
            "removed",
            "tasks made",
            "refused",
        ],
        &rows,
        Moment::now(),
    );
    for schedule in items(told, "schedules") {
        details(schedule, number("limit"));
    }
}

fn row(schedule: &Value) -> Vec<String> {
    let count = |of: &str, name: &str| schedule[of][name].to_string();
    let signed = |sign: &str, name: &str| match schedule["difference"][name].as_u64() {
        None | Some(0) => String::new(),
        Some(many) => format!("{sign}{many}"),
    };
    let made = match &schedule["made"] {
        Value::Null => String::new(),
        made => made["tasks"].to_string(),
    };
    vec![
        text(schedule, "schedule").to_owned(),
        text(schedule, "organization").to_owned(),
        count("would", "events"),
        count("would", "runs"),
        count("would", "tasks"),
        count("now", "tasks"),
        signed("+", "added"),
        signed("-", "removed"),
        made,
        refusals(&schedule["would"]),
    ]
}

fn refusals(tally: &Value) -> String {
    let counted = tally["refused"].as_object().into_iter().flatten();
    let counted: Vec<String> = counted
        .map(|(reason, many)| format!("{reason} {many}"))
        .collect();
    counted.join(", ")
}

/// What stands below the table: of schedules of the files, and of all others for which something differs.
fn details(schedule: &Value, limit: u64) {
    let mut lines = Vec::new();
    let clock = &schedule["clock"];
    for (sign, many, which) in [
        ("+", "added", "instants_added"),
        ("-", "removed", "instants_removed"),
    ] {
        let instants: Vec<&str> = items(clock, which).filter_map(Value::as_str).collect();
        let more = clock[many].as_u64().unwrap_or(0) as usize - instants.len();
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if !instants.is_empty() {
            lines.push(format!(
                "{sign} started by the clock at {}{more}",
                instants.join(", ")
            ));
        }
    }
    let in_files = schedule["in_files"] == Value::Bool(true);
    let first = &schedule["would"]["first_expansion"];
    let of_firsts = &schedule["difference"]["first_expansion"];
    if !first.is_null() && (in_files || !of_firsts.is_null()) {
        let refused = refusals(first);
        lines.push(format!(
            "{} of its runs look for their inputs; the first would make {} of what is there now{}{}",
            schedule["would"]["expanding"],
            counted(first["tasks"].as_u64().unwrap_or(0), "task"),
            match of_firsts.is_null() {
                true => String::new(),
                false => format!(", +{} -{}", of_firsts["added"], of_firsts["removed"]),
            },
            match refused.as_str() {
                "" => String::new(),
                refused => format!(" (refused: {refused})"),
            },
        ));
    }
    if schedule["more"] == Value::Bool(true) {
        lines.push(format!(
            "a run of it stopped looking for inputs after {limit} objects, by --limit"
        ));
    }
    lines.extend(items(schedule, "changes").map(change));
    if in_files && items(schedule, "changes").next().is_none() {
        lines.extend(items(&schedule["would"], "samples").map(sample));
    }
    if lines.is_empty() {
        return;
    }
    print(&match text(schedule, "organization") {
        "" => format!("{}:", text(schedule, "schedule")),
        own => format!("{} of {own}:", text(schedule, "schedule")),
    });
    for line in lines {
        print(&format!("    {line}"));
    }
}

/// A plugin on an object that gets a task under one of the rules alone.
fn change(change: &Value) -> String {
    let (sign, others) = match text(change, "change") {
        "added" => ("+", "now"),
        _ => ("-", "would be"),
    };
    format!(
        "{sign} {} for {}: {others} {}: {}",
        candidate(change),
        text(change, "organization"),
        text(change, "reason"),
        text(change, "detail")
    )
}

fn sample(sample: &Value) -> String {
    let outcome = match text(sample, "reason") {
        "" => "a task".to_owned(),
        reason => format!("{reason}: {}", text(sample, "detail")),
    };
    format!("{}: {outcome}", candidate(sample))
}

fn candidate(told: &Value) -> String {
    let of = match text(told, "event") {
        "" => String::new(),
        event => format!("{event}: "),
    };
    let on = match text(told, "object") {
        "" => "without an input".to_owned(),
        object => format!("on {object}"),
    };
    format!("{of}{} {on}", text(told, "plugin"))
}
