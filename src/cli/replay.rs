//! `muster replay`: what new rules would have made of what has happened, beside what the present ones make of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::output::{items, print, print_json, shown, table, text};
use super::{Failure, Output, VariableArguments, declare, rules, serve};
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
  muster replay schedules.yaml --over objects       every object as if it were created now, and one instant of the clock

What FILES declare is laid over what is declared. Both rules, the present and those, decide the same events in the order in
which they were handled, by the code of the service; nothing is stored. Each task counts as ended as soon as it is made, so
what comes after it meets its grace. What queries ask of other objects is answered from what is there now. Events are kept
for retention.events.";

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
    /// From so long ago (1d, 36h), or an instant
    #[arg(long, value_name = "WHEN", default_value = "1d")]
    since: String,
    /// Until so long ago, or an instant; now, where it is left out
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only of this organisation
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Events or objects, at most
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    limit: i64,
    #[command(flatten)]
    variables: VariableArguments,
}

pub async fn run(settings: &Settings, asked: &Replay, output: Output) -> Result<(), Failure> {
    let ground = rules::ground(settings).await?;
    let now = ground.clock.now();
    let since = when("--since", &asked.since, now)?;
    let until = match &asked.until {
        Some(until) => when("--until", until, now)?,
        None => now,
    };
    if since > until {
        return Err(Failure::Usage(format!(
            "--since {since} is after --until {until}; the events between them are replayed"
        )));
    }
    let variables = Variables::parse(&asked.variables.variables).map_err(Failure::Usage)?;
    let (declared, complaints) = declare::read(&asked.files, &variables, &ground.rules)?;
    complain(&complaints)?;
    serve::ready(&ground).await?;
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
        Output::Table => tell(&told),
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

/// So long ago, or an instant.
fn when(argument: &str, text: &str, now: Moment) -> Result<Moment, Failure> {
    match (Span::parse(text), Moment::parse(text)) {
        (Ok(span), _) => Ok(now.minus(span)),
        (_, Ok(instant)) => Ok(instant),
        (Err(_), Err(_)) => Err(Failure::Usage(format!(
            "{argument}: `{text}` is neither a length of time (90s, 36h, 7d) nor an instant (2026-11-21T09:30:00Z)"
        ))),
    }
}

fn complain(complaints: &[Complaint]) -> Result<(), Failure> {
    for complaint in complaints {
        eprintln!("{}", shown(&complaint.to_string(), true));
    }
    match complaints.iter().any(Complaint::is_error) {
        true => Err(Failure::Found("nothing was replayed".to_owned())),
        false => Ok(()),
    }
}

fn tell(told: &Value) {
    let number = |name: &str| told[name].as_u64().unwrap_or(0);
    if text(told, "over") == "events" {
        print(&format!(
            "{} events from {} to {}; {} left their object as it was",
            number("events"),
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
            "{} objects, each as if it were created now",
            number("objects")
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
        print("there is more than --limit allows; what is told is of the first ones");
    }
    let rows: Vec<Vec<String>> = items(told, "schedules")
        .map(|schedule| {
            let count = |of: &str, name: &str| schedule[of][name].to_string();
            let signed = |name: &str| match schedule["difference"][name].as_i64() {
                Some(more) if more > 0 => format!("+{more}"),
                Some(number) => number.to_string(),
                None => String::new(),
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
                signed("tasks"),
                made,
                refusals(&schedule["would"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        return print("no schedule would have had anything to do");
    }
    print(&table(
        &[
            "schedule",
            "of",
            "events",
            "runs",
            "tasks",
            "tasks now",
            "difference",
            "tasks made",
            "refused",
        ],
        rows,
    ));
    for schedule in items(told, "schedules") {
        samples(schedule);
    }
}

fn refusals(tally: &Value) -> String {
    let counted = tally["refused"].as_object().into_iter().flatten();
    let counted: Vec<String> = counted
        .map(|(reason, many)| format!("{reason} {many}"))
        .collect();
    counted.join(", ")
}

fn samples(schedule: &Value) {
    let would = &schedule["would"];
    let first = &would["first_expansion"];
    if schedule["in_files"] != Value::Bool(true) {
        return;
    }
    print(&format!("{}:", text(schedule, "schedule")));
    if !first.is_null() {
        print(&format!(
            "    {} of its runs look for their inputs; the first would make {} tasks of what is there now ({})",
            would["expanding"],
            first["tasks"],
            refusals(first)
        ));
    }
    for sample in items(would, "samples") {
        let of = match text(sample, "event") {
            "" => String::new(),
            event => format!("{event}: "),
        };
        let outcome = match text(sample, "reason") {
            "" => "a task".to_owned(),
            reason => format!("{reason}: {}", text(sample, "detail")),
        };
        print(&format!(
            "    {of}{} on {}: {outcome}",
            text(sample, "plugin"),
            text(sample, "object")
        ));
    }
}
