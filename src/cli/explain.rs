//! Why an event starts what it starts, and not the rest.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::{print, print_json};
use super::{Failure, Output, declare, rules, serve};
use crate::decide::FindingOutcome;
use crate::intake::{self, Explained, Incoming};
use crate::object::Object;
use crate::query::{Facts, Fields, Nowhere};
use crate::run::Turn;
use crate::settings::Settings;
use crate::trigger::Untouched;

#[derive(Debug, Args)]
pub struct Explain {
    /// A file with one event, as the bus would bring it; `-` is standard input
    event: PathBuf,
    /// The queue that it would come from, where that decides its format
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
}

pub async fn run(settings: &Settings, explain: &Explain, output: Output) -> Result<(), Failure> {
    let ground = rules::ground(settings).await?;
    serve::prepare(&ground).await?;
    let intake = match &explain.queue {
        None => 0,
        Some(queue) => ground
            .intakes
            .iter()
            .position(|rule| rule.queue == *queue)
            .ok_or_else(|| {
                let known: Vec<&str> = ground
                    .intakes
                    .iter()
                    .map(|rule| rule.queue.as_str())
                    .collect();
                Failure::Usage(format!(
                    "--queue: no intake reads `{queue}`; known: {}",
                    known.join(", ")
                ))
            })?,
    };
    let message = Incoming {
        intake,
        queue: ground
            .intakes
            .get(intake)
            .map(|rule| rule.queue.clone())
            .unwrap_or_default(),
        body: declare::bytes_of(&explain.event)?,
        ..Incoming::default()
    };
    let explained = match intake::explain(&ground, &message).await? {
        Ok(explained) => explained,
        Err(unreadable) => {
            match output {
                Output::Json => print_json(
                    &json!({"readable": false, "reason": unreadable.reason.word(), "message": unreadable.message}),
                ),
                Output::Table => print(&format!("it would become a dead letter: {unreadable}")),
            }
            return Err(Failure::Found(String::new()));
        }
    };
    let told = as_json(&explained);
    match output {
        Output::Json => print_json(&told),
        Output::Table => as_text(&explained, &told),
    }
    ground.store.close().await;
    // A dead letter is a no, whoever finds it to be one.
    match explained.impossible {
        Some(_) => Err(Failure::Found(String::new())),
        None => Ok(()),
    }
}

fn as_json(explained: &Explained) -> Value {
    let change = &explained.event.told.change;
    let findings: Vec<Value> = explained
        .findings
        .iter()
        .map(|finding| {
            let mut told = Map::new();
            told.insert("schedule".to_owned(), json!(finding.schedule));
            match &finding.outcome {
                FindingOutcome::Untouched(untouched) => {
                    told.insert("triggered".to_owned(), json!(false));
                    told.insert(
                        "why".to_owned(),
                        json!(untouched_words(explained, &finding.schedule, untouched)),
                    );
                }
                FindingOutcome::Expands => {
                    told.insert("triggered".to_owned(), json!(true));
                    told.insert(
                        "why".to_owned(),
                        json!("its inputs are looked for in the inventory, by its input queries"),
                    );
                }
                FindingOutcome::Overlaps(turn) => {
                    let waits = matches!(turn, Turn::Later { .. });
                    told.insert("triggered".to_owned(), json!(waits));
                    let why = if waits {
                        "another run of the same scope has not ended: it waits for that"
                    } else {
                        "overlap: another run of the same scope has not ended, and one waits for that already"
                    };
                    told.insert("why".to_owned(), json!(why));
                }
                FindingOutcome::Considered(plugins) => {
                    told.insert("triggered".to_owned(), json!(true));
                    let list: Vec<Value> = plugins
                        .iter()
                        .map(|(plugin, outcome)| match outcome {
                            Ok(_) => json!({"plugin": plugin, "task": true}),
                            Err(refusal) => json!({
                                "plugin": plugin, "task": false, "reason": refusal.reason.word(),
                                "meaning": refusal.reason.meaning(), "detail": refusal.detail,
                            }),
                        })
                        .collect();
                    told.insert("plugins".to_owned(), Value::Array(list));
                    told.insert(
                        "not_selected".to_owned(),
                        json!(not_selected(explained, &finding.schedule)),
                    );
                }
            }
            Value::Object(told)
        })
        .collect();
    json!({
        "event": {"id": explained.event.told.event_id, "type": explained.event.told.event_type},
        "organization": change.key.organization,
        "primary_key": change.key.primary_key,
        "handled_before": explained.handled_before,
        "impossible": explained.impossible.as_ref().map(|impossible| impossible.message.clone()),
        "unchanged": explained.as_new,
        "late": explained.plan.late > 0,
        "object": explained.world.objects.get(&explained.key).map(Object::snapshot),
        "withdraws": explained.plan.withdrawn.iter().map(|w| json!({"task": w.task_id, "reason": w.reason})).collect::<Vec<_>>(),
        "tasks": explained.plan.tasks.len(),
        "matching": {
            "candidates": explained.plan.looked.candidates,
            "checks": explained.plan.looked.checks,
            "matches": explained.plan.looked.matches,
            "schedules": explained.catalogue.schedules.len(),
        },
        "schedules": findings,
    })
}

/// Plugins that the schedule's `plugins` query leaves out, each with the query's own explanation.
fn not_selected(explained: &Explained, schedule: &str) -> Vec<Value> {
    let Some(scheduled) = explained
        .catalogue
        .schedules
        .iter()
        .find(|known| known.schedule.name == schedule)
    else {
        return Vec::new();
    };
    explained
        .catalogue
        .plugins
        .values()
        .filter(|plugin| !scheduled.selected.iter().any(|taken| taken.plugin_id == plugin.plugin_id))
        .map(|plugin| {
            let facts = Facts {
                subject: plugin.as_ref(),
                trigger: None,
                previous: None,
                parameters: &scheduled.schedule.parameters,
                now: explained.now,
                world: &Nowhere,
            };
            json!({"plugin": plugin.plugin_id, "query": scheduled.schedule.plugins.explain(&facts).to_string()})
        })
        .collect()
}

fn untouched_words(explained: &Explained, schedule: &str, untouched: &Untouched) -> String {
    let scheduled = explained
        .catalogue
        .schedules
        .iter()
        .find(|known| known.schedule.name == schedule);
    let list = |words: Vec<&str>| {
        if words.is_empty() {
            "nothing".to_owned()
        } else {
            words.join(", ")
        }
    };
    match untouched {
        Untouched::Type => {
            let on = scheduled
                .map(|s| s.schedule.run_on.iter().map(String::as_str).collect())
                .unwrap_or_default();
            format!("run_on is {}", list(on))
        }
        Untouched::Operation => {
            let on = scheduled
                .map(|s| s.schedule.operations.iter().map(|op| op.word()).collect())
                .unwrap_or_default();
            format!("operation is {}, and this change is not that", list(on))
        }
        Untouched::Organization => format!(
            "it belongs to {}",
            scheduled
                .and_then(|s| s.schedule.organization.clone())
                .unwrap_or_default()
        ),
        Untouched::Asleep => "it is switched off or paused".to_owned(),
        Untouched::TooCostly => "its `when` ran out of steps on this object".to_owned(),
        Untouched::When(query) => {
            let object = explained.world.objects.get(&explained.key);
            let parameters = scheduled
                .map(|s| s.schedule.parameters.clone())
                .unwrap_or_default();
            let empty = Object::default();
            let subject = object.unwrap_or(&empty);
            let facts = Facts {
                subject,
                trigger: Some(subject as &dyn Fields),
                previous: None,
                parameters: &parameters,
                now: explained.now,
                world: &Nowhere,
            };
            format!("its `when` is false:\n{}", query.explain(&facts))
        }
    }
}

fn indent(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.trim_end()
        .lines()
        .map(|line| format!("{margin}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn as_text(explained: &Explained, told: &Value) {
    let change = &explained.event.told.change;
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    print(&format!(
        "{} on {} of {}",
        explained.event.told.event_type, change.key.primary_key, change.key.organization
    ));
    if explained.handled_before {
        print("it was handled before: the same message again does nothing");
    }
    if let Some(impossible) = &explained.impossible {
        print(&format!(
            "it would become a dead letter: {}",
            impossible.message
        ));
        return;
    }
    if explained.plan.late > 0 {
        print("something newer is known: what is older of it overwrites nothing");
    }
    if explained.as_new {
        print("it leaves the object as it is, so it triggers nothing now. If the object were new:");
    }
    for withdrawal in &explained.plan.withdrawn {
        print(&format!(
            "withdraws task {} ({})",
            withdrawal.task_id, withdrawal.reason
        ));
    }
    let schedules = told
        .get("schedules")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for finding in &schedules {
        let name = text(finding, "schedule");
        if finding.get("triggered") == Some(&json!(false)) {
            print(&format!("\n- {name}: not triggered"));
            print(&indent(&text(finding, "why"), 4));
            continue;
        }
        print(&format!("\n+ {name}: triggered"));
        if finding.get("why").is_some() {
            print(&indent(&text(finding, "why"), 4));
        }
        for plugin in finding
            .get("plugins")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let id = text(plugin, "plugin");
            if plugin.get("task") == Some(&json!(true)) {
                print(&format!("    + {id}: a task"));
            } else {
                print(&format!(
                    "    - {id}: {}: {}: {}",
                    text(plugin, "reason"),
                    text(plugin, "meaning"),
                    text(plugin, "detail")
                ));
            }
        }
        for plugin in finding
            .get("not_selected")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            print(&format!(
                "    - {}: not selected by `plugins`",
                text(plugin, "plugin")
            ));
            print(&indent(&text(plugin, "query"), 8));
        }
    }
    let looked = explained.plan.looked;
    print(&format!(
        "\n{} tasks would be made. Of {} schedules, {} were candidates, {} of which were checked further; {} matched",
        explained.plan.tasks.len(),
        explained.catalogue.schedules.len(),
        looked.candidates,
        looked.checks,
        looked.matches
    ));
}
