//! `muster test`: rules tested like code, by cases that stand beside them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::files::Files;
use super::output::{complain, print, print_json};
use super::{Failure, Output, VariableArguments, rules};
use crate::declaration::Variables;
use crate::document::{Complaint, Severity};
use crate::harmless;
use crate::rehearsal::{Case, Difference, Left, Made, Outcome, Refused, Wanted, compare, play};
use crate::settings::Settings;

#[derive(Debug, Args)]
pub struct Test {
    /// YAML or JSON files with plugins, schedules, … and cases (`kind: test`)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    variables: VariableArguments,
}

/// A case with where it stands and what came of it.
struct Played {
    file: String,
    case: Case,
    outcome: Outcome,
    difference: Difference,
}

impl Played {
    fn passed(&self) -> bool {
        self.difference.is_empty()
            && (self.outcome.impossible.is_none() || !self.case.refused.is_empty())
    }
}

pub fn test(settings: &Settings, test: &Test, output: Output) -> Result<(), Failure> {
    let rules = rules::rules(settings).map_err(Failure::Wrong)?;
    let rules = Arc::new(rules);
    let variables = Variables::parse(&test.variables.variables).map_err(Failure::Usage)?;
    let mut found = Files::with_cases(&test.files, &variables, &rules)?;
    let unknown = found.unknown(Severity::Error);
    found.complain(unknown);
    complain(&found.complaints);
    if found.complaints.iter().any(Complaint::is_error) {
        return Err(Failure::Found("nothing was tested".to_owned()));
    }
    let Files {
        declared, cases, ..
    } = found;
    if cases.is_empty() {
        return Err(Failure::Usage(
            "there is no case in these files; a case is an entry with `kind: test`".to_owned(),
        ));
    }
    let played: Vec<Played> = cases
        .into_iter()
        .map(|(file, case)| {
            let outcome = play(&rules, &declared, &case);
            let difference = compare(&case, &outcome);
            Played {
                file,
                case,
                outcome,
                difference,
            }
        })
        .collect();
    let failed = played.iter().filter(|played| !played.passed()).count();
    match output {
        Output::Json => print_json(&json!({
            "passed": played.len() - failed,
            "failed": failed,
            "cases": played.iter().map(as_json).collect::<Vec<_>>(),
        })),
        Output::Table => {
            for played in &played {
                tell(played);
            }
            print(&format!(
                "{} passed, {failed} failed",
                played.len() - failed
            ));
        }
    }
    if failed > 0 {
        return Err(Failure::Found(String::new()));
    }
    Ok(())
}

fn tell(played: &Played) {
    let Played {
        file,
        case,
        outcome,
        difference,
    } = played;
    let print = |text: &str| print(&harmless::line(text));
    if played.passed() {
        print(&format!("ok      {}", case.name));
        return;
    }
    let line = case.place.map(|place| format!(":{}", place.line));
    print(&format!(
        "FAILED  {} ({file}{})",
        case.name,
        line.unwrap_or_default()
    ));
    if let Some(impossible) = &outcome.impossible {
        print(&format!(
            "    the event would become a dead letter: {}",
            impossible.message
        ));
    }
    for wanted in &difference.not_made {
        print(&format!("    - task: {}", words(&wanted_fields(wanted))));
        let why = outcome.left.iter().filter(|left| {
            let inputs = wanted.inputs.as_deref().unwrap_or_default();
            left.plugin == wanted.plugin
                && (inputs.is_empty() || left.input.iter().any(|input| inputs.contains(input)))
        });
        for left in why {
            print(&format!("        {}", refusal(left)));
        }
    }
    for made in &difference.not_wanted {
        print(&format!("    + task: {}", words(&made_fields(made))));
    }
    for refused in &difference.not_refused {
        print(&format!(
            "    - refused: {}",
            words(&refused_fields(refused))
        ));
        let of_plugin = |left: &&Left| left.plugin == refused.plugin;
        let others: Vec<&Left> = outcome.left.iter().filter(of_plugin).collect();
        let made = outcome
            .made
            .iter()
            .any(|made| made.plugin == refused.plugin);
        for left in &others {
            print(&format!("        {}", refusal(left)));
        }
        if made {
            print("        it got a task");
        } else if others.is_empty() {
            print("        no schedule that was triggered selects it");
        }
    }
}

fn refusal(left: &Left) -> String {
    let input = left.input.as_deref().map(|input| format!(" for {input}"));
    format!(
        "{} was refused{}: {}: {}",
        left.plugin,
        input.unwrap_or_default(),
        left.reason.word(),
        left.detail
    )
}

type Fields = Vec<(&'static str, Option<Value>)>;

fn wanted_fields(wanted: &Wanted) -> Fields {
    vec![
        ("plugin", Some(json!(wanted.plugin))),
        ("input", wanted.inputs.as_ref().map(|inputs| json!(inputs))),
        ("schedule", wanted.schedule.as_ref().map(|name| json!(name))),
        (
            "organization",
            wanted.organization.as_ref().map(|id| json!(id)),
        ),
        ("queue", wanted.queue.as_ref().map(|queue| json!(queue))),
        ("priority", wanted.priority.map(|priority| json!(priority))),
    ]
}

fn made_fields(made: &Made) -> Fields {
    vec![
        ("plugin", Some(json!(made.plugin))),
        ("input", Some(json!(made.inputs))),
        ("schedule", Some(json!(made.schedule))),
        ("organization", Some(json!(made.organization))),
        ("queue", Some(json!(made.queue))),
        ("priority", Some(json!(made.priority))),
    ]
}

fn refused_fields(refused: &Refused) -> Fields {
    vec![
        ("plugin", Some(json!(refused.plugin))),
        ("input", refused.input.as_ref().map(|input| json!(input))),
        (
            "schedule",
            refused.schedule.as_ref().map(|name| json!(name)),
        ),
        ("reason", refused.reason.map(|reason| json!(reason.word()))),
    ]
}

/// `plugin nmap, input h1`.
fn words(fields: &Fields) -> String {
    let said = fields.iter().filter_map(|(name, value)| {
        let text = match value.as_ref()? {
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Array(items) => items
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(" and "),
            other => other.to_string(),
        };
        Some(format!("{name} {text}"))
    });
    said.collect::<Vec<_>>().join(", ")
}

fn object(fields: Fields) -> Value {
    let said = fields.into_iter();
    said.filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn as_json(played: &Played) -> Value {
    let difference = &played.difference;
    let left = |left: &Left| {
        json!({
            "plugin": left.plugin, "input": left.input, "schedule": left.schedule,
            "reason": left.reason.word(), "detail": left.detail,
        })
    };
    json!({
        "name": played.case.name,
        "file": played.file,
        "line": played.case.place.map(|place| place.line),
        "passed": played.passed(),
        "dead_letter": played.outcome.impossible.as_ref().map(|impossible| impossible.message.clone()),
        "tasks": played.outcome.made.iter().map(|made| object(made_fields(made))).collect::<Vec<_>>(),
        "refused": played.outcome.left.iter().map(left).collect::<Vec<_>>(),
        "not_made": difference.not_made.iter().map(|wanted| object(wanted_fields(wanted))).collect::<Vec<_>>(),
        "not_wanted": difference.not_wanted.iter().map(|made| object(made_fields(made))).collect::<Vec<_>>(),
        "not_refused": difference.not_refused.iter().map(|refused| object(refused_fields(refused))).collect::<Vec<_>>(),
    })
}
