//! Why an event starts what it starts, and not the rest.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::output::{print, print_json};
use super::{Failure, Output, declare, rules, serve};
use crate::answer::explained_as;
use crate::intake::{self, Explained, Incoming};
use crate::settings::Settings;

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
    serve::ready(&ground).await?;
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
    let told = explained_as(&explained);
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
