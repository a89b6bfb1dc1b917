//! Why an event starts what it starts, and not the rest.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::output::{counted, in_lines, items, print, print_json, text};
use super::{Failure, Output, ask, declare, door};
use crate::answer::explained_as;
use crate::intake::{self, Incoming};
use crate::settings::Settings;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["file", "event", "task", "schedule"]))]
pub struct Explain {
    /// A file with one event, as the bus would bring it; `-` is standard input
    #[arg(value_name = "EVENT_FILE")]
    file: Option<PathBuf>,
    /// The id of an event that was handled: what was made of it, and what would be now
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// The id of a task: why it is there, and why it is not running yet
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// A schedule, by name or id: why it did not run, or would now
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// The primary key of the object that the schedule did not run on
    #[arg(long, value_name = "KEY", conflicts_with_all = ["file", "event", "task"])]
    object: Option<String>,
    /// This plugin alone, of those that the schedule selects and leaves out
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "event", "task"])]
    plugin: Option<String>,
    /// The source of that event, where several have sent one with that id
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["file", "task", "schedule"])]
    source: Option<String>,
    /// The queue that the event of a file would come from, where that decides its format
    #[arg(long, value_name = "QUEUE", conflicts_with_all = ["event", "task", "schedule"])]
    queue: Option<String>,
    /// Only where it is of this organisation
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    organization: Option<String>,
}

pub async fn run(settings: &Settings, explain: &Explain, output: Output) -> Result<(), Failure> {
    let Some(file) = &explain.file else {
        return asked(settings, explain, output).await;
    };
    let body = declare::bytes_of(file)?;
    let ground = door::known(settings).await?;
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
        body,
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
    let told = explained_as(&explained, None);
    ground.store.close().await;
    show_event(&told, output)
}

/// What can be asked on the bus too.
async fn asked(settings: &Settings, explain: &Explain, output: Output) -> Result<(), Failure> {
    let mut args = Map::new();
    let said = [
        ("event_id", &explain.event),
        ("source", &explain.source),
        ("task", &explain.task),
        ("schedule", &explain.schedule),
        ("object", &explain.object),
        ("plugin", &explain.plugin),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            args.insert(name.to_owned(), json!(value));
        }
    }
    let told = ask::answered(
        settings,
        "explain",
        explain.organization.clone(),
        Value::Object(args),
    )
    .await?;
    match (&explain.task, &explain.schedule) {
        (None, None) => return show_event(&told, output),
        _ if output == Output::Json => print_json(&told),
        (Some(_), _) => task_as_text(&readable(&told)),
        (None, Some(_)) => schedule_as_text(&readable(&told)),
    }
    Ok(())
}

/// As a terminal may see it; what queries answered is shown with its lines.
fn readable(told: &Value) -> Value {
    in_lines(told, &["query"], &["why", "says", "detail"])
}

fn schedule_as_text(told: &Value) {
    let on = match text(told, "object") {
        "" => String::new(),
        object => format!(" on {object}"),
    };
    print(&format!(
        "{} for {}{on}: {}",
        text(&told["schedule"], "name"),
        text(told, "organization"),
        match told["would_run"].as_bool() {
            Some(true) => "nothing keeps it from running now",
            Some(false) => "it would not run now",
            None => "whether it would run is a matter of the object, and none is named (--object)",
        }
    ));
    for step in items(told, "steps") {
        let sign = match step["passed"].as_bool() {
            Some(true) => "+",
            Some(false) => "-",
            None => " ",
        };
        let mut lines = text(step, "says").lines();
        print(&format!(
            "  {sign} {}: {}",
            text(step, "step"),
            lines.next().unwrap_or_default()
        ));
        for line in lines {
            print(&indent(line, 8));
        }
    }
    print("plugins:");
    for plugin in items(told, "plugins") {
        let id = text(plugin, "plugin");
        let list = |name: &str| {
            let names: Vec<&str> = items(plugin, name).filter_map(Value::as_str).collect();
            names.join(", ")
        };
        if plugin["selected"] == json!(false) {
            print(&format!("  - {id}: not selected by `plugins`"));
            print(&indent(text(plugin, "query"), 8));
            continue;
        }
        match plugin["task"].as_bool() {
            Some(true) => print(&format!("  + {id}: a task; it passes {}", list("passed"))),
            None => print(&format!(
                "    {id}: selected; no input to ask its gates with"
            )),
            Some(false) => {
                print(&format!(
                    "  - {id}: {}: {}: {}",
                    text(plugin, "reason"),
                    text(plugin, "meaning"),
                    text(plugin, "detail")
                ));
                for (name, what) in [("passed", "passed"), ("not_asked", "not asked after that")] {
                    let names = list(name);
                    if !names.is_empty() {
                        print(&indent(&format!("{what}: {names}"), 8));
                    }
                }
            }
        }
    }
    let mut runs = items(told, "runs").peekable();
    let nothing = runs.peek().is_none();
    match (text(told, "object"), nothing) {
        (_, false) => print("what became of it lately:"),
        ("", true) => print("no run of it is kept"),
        (object, true) => print(&format!("no run of it on {object} is kept")),
    }
    for run in runs {
        let why = match text(run, "meaning") {
            "" => String::new(),
            meaning => format!(": {meaning}"),
        };
        let refused = run["refused"].as_object().into_iter().flatten();
        let refused: String = refused
            .map(|(reason, many)| format!(", {reason} {many}"))
            .collect();
        let tasks = match run["gap_count"].as_u64() {
            Some(many) => counted(many, "instant"),
            None => counted(run["total"].as_u64().unwrap_or(0), "task"),
        };
        print(&format!(
            "    {} {} {}, {}, {tasks}{refused}{why}",
            text(run, "scheduled_for"),
            text(run, "run_id"),
            text(run, "cause"),
            text(run, "state")
        ));
    }
}

fn task_as_text(told: &Value) {
    let task = &told["task"];
    print(&format!(
        "task {} of {} for {}: {}",
        text(task, "id"),
        text(task, "plugin_id"),
        text(task, "organization"),
        text(task, "state")
    ));
    print("\nWhy it is there:");
    for because in items(told, "exists_because").filter_map(Value::as_str) {
        print(&indent(because, 2));
    }
    print(match text(task, "state") {
        "queued" | "dispatched" | "waiting" => "\nWhy it is not running yet:",
        "running" => "\nHow it stands:",
        _ => "\nHow it ended:",
    });
    for stand in items(told, "stands") {
        let until = match text(stand, "until") {
            "" => String::new(),
            until => format!(", until {until}"),
        };
        print(&indent(&format!("{}{until}", text(stand, "says")), 2));
    }
    let mut clocks = items(told, "clocks").peekable();
    if clocks.peek().is_some() {
        print("\nWhat will end that, at the latest:");
    }
    for clock in clocks {
        print(&indent(
            &format!("{}: {}", text(clock, "at"), text(clock, "then")),
            2,
        ));
    }
}

fn show_event(told: &Value, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(told),
        Output::Table => as_text(&readable(told)),
    }
    // A dead letter is a no, whoever finds it to be one.
    match told["impossible"] {
        Value::Null => Ok(()),
        _ => Err(Failure::Found(String::new())),
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

fn as_text(told: &Value) {
    print(&format!(
        "{} on {} of {}",
        text(&told["event"], "type"),
        text(told, "primary_key"),
        text(told, "organization")
    ));
    match told.get("kept") {
        Some(kept) => as_it_was(kept, told),
        None if told["handled_before"] == json!(true) => {
            print("it was handled before: the same message again does nothing");
        }
        None => {}
    }
    if !told["impossible"].is_null() {
        print(&format!(
            "it would become a dead letter: {}",
            text(told, "impossible")
        ));
        return;
    }
    if told["late"] == json!(true) {
        print("something newer is known: what is older of it overwrites nothing");
    }
    let found = items(told, "schedules").next().is_some();
    if told["unchanged"] == json!(true) {
        print(match found {
            true => {
                "it leaves the object as it is, so it triggers nothing now. If the object were new:"
            }
            // What is no object by itself, or is gone, triggers nothing as a new one either.
            false => return print("it leaves the object as it is, so it triggers nothing now."),
        });
    }
    for withdrawal in items(told, "withdraws") {
        print(&format!(
            "withdraws task {} ({})",
            text(withdrawal, "task"),
            text(withdrawal, "reason")
        ));
    }
    for finding in items(told, "schedules") {
        let name = text(finding, "schedule");
        if finding.get("triggered") == Some(&json!(false)) {
            print(&format!("\n- {name}: not triggered"));
            print(&indent(text(finding, "why"), 4));
            continue;
        }
        print(&format!("\n+ {name}: triggered"));
        if finding.get("why").is_some() {
            print(&indent(text(finding, "why"), 4));
        }
        for plugin in items(finding, "plugins") {
            let id = text(plugin, "plugin");
            if plugin.get("task") == Some(&json!(true)) {
                let inputs = plugin.get("inputs").and_then(Value::as_array);
                match inputs.map(Vec::as_slice) {
                    Some(several @ [_, _, ..]) => {
                        let keys = several.iter().filter_map(Value::as_str);
                        let keys: Vec<&str> = keys.collect();
                        print(&format!("    + {id}: a task on {}", keys.join(", ")));
                    }
                    _ => print(&format!("    + {id}: a task")),
                }
                let leader = &plugin["shared_from"];
                if !leader.is_null() {
                    print(&format!(
                        "        it would wait for the task {} of {}, which does the same work",
                        text(leader, "id"),
                        text(leader, "organization")
                    ));
                }
            } else {
                print(&format!(
                    "    - {id}: {}: {}: {}",
                    text(plugin, "reason"),
                    text(plugin, "meaning"),
                    text(plugin, "detail")
                ));
            }
        }
        for plugin in items(finding, "not_selected") {
            print(&format!(
                "    - {}: not selected by `plugins`",
                text(plugin, "plugin")
            ));
            print(&indent(text(plugin, "query"), 8));
        }
    }
    for other in items(told, "for_others") {
        print(&format!(
            "\n{} would get one of {} too, which has the same object and shares the outcome",
            text(other, "organization"),
            text(other, "plugin")
        ));
    }
    let made = told["tasks"].as_u64().unwrap_or(0);
    let made = format!("{} would be made", counted(made, "task"));
    let looked = &told["matching"];
    if looked.is_null() {
        print(&format!("\n{made}."));
        return;
    }
    print(&format!(
        "\n{made}. Of {} schedules, {} were candidates, {} of which were checked further; {} matched",
        looked["schedules"], looked["candidates"], looked["checks"], looked["matches"]
    ));
}

/// What was made of an event when it was handled.
fn as_it_was(kept: &Value, told: &Value) {
    let operations: Vec<&str> = items(kept, "operations")
        .filter_map(Value::as_str)
        .collect();
    print(&format!(
        "handled at {}, from {}: {}",
        text(kept, "handled_at"),
        text(kept, "queue"),
        match operations.as_slice() {
            [] => "it left the object as it was".to_owned(),
            words => format!("the object was {}", words.join(" and ")),
        }
    ));
    let mut runs = 0;
    for run in items(told, "made") {
        runs += 1;
        print(&format!(
            "  run {} of {}: {}",
            text(run, "run_id"),
            text(run, "schedule"),
            text(run, "state")
        ));
        for task in items(run, "tasks") {
            let why = match text(task, "reason") {
                "" => String::new(),
                why => format!(", {why}"),
            };
            print(&format!(
                "    task {} of {}: {}{why}",
                text(task, "id"),
                text(task, "plugin"),
                text(task, "state")
            ));
            match (text(task, "shared_from"), text(task, "state")) {
                ("", _) => {}
                (from, "waiting") => print(&format!(
                    "        it waits for the task {from}, which does the same work"
                )),
                (from, _) => print(&format!("        it shares the outcome of the task {from}")),
            }
            for other in items(task, "waiting_for_it") {
                print(&format!(
                    "        {} of {} waits for its outcome",
                    text(other, "id"),
                    text(other, "organization")
                ));
            }
        }
    }
    if runs == 0 {
        print("  it set off no run that is still kept");
    }
    print("What would be made of it now:");
}
