//! Dead letters: looked at, tried again, dropped.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::ask::{request, said, said_surely};
use super::output::{counted, in_lines, print, print_json};
use super::{Failure, Filter, Output, Sure, deeds, door, look};
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show them, the newest first
    List(Filter),
    /// Show one; a message with its headers and body
    Show { id: String },
    /// Try them again: messages as if they came now, tasks as new ones; those that can be handled are removed
    #[command(
        after_help = "Examples:\n  muster dead-letter redrive 0193…\n  muster dead-letter redrive --reason unknown_object_type --yes\n  muster dead-letter redrive --where \"kind = 'task' and organization = 'acme'\" --yes"
    )]
    Redrive(Letters),
    /// Remove them for good
    Drop(Letters),
}

#[derive(Debug, Args)]
pub struct Letters {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their ids
    ids: Vec<String>,
    /// All of which this query over their columns is true
    #[arg(long = "where", value_name = "QUERY")]
    condition: Option<String>,
    /// All with this reason
    #[arg(long)]
    reason: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl Letters {
    fn args(&self) -> Value {
        let which = super::Which {
            ids: self.which.ids.clone(),
            condition: self.which.condition.clone(),
            all: self.which.all,
        };
        let mut args = super::ask::which("id", &which, self.sure.yes);
        if let Some(reason) = &self.which.reason {
            args["reason"] = json!(reason);
        }
        args
    }
}

pub async fn run(settings: &Settings, verb: Verb, output: Output) -> Result<(), Failure> {
    let (command, organization, args) = match &verb {
        Verb::List(filter) => return look::list(settings, "dead-letter", filter, output).await,
        Verb::Show { id } => ("dead_letter.show", None, json!({"id": id})),
        Verb::Redrive(letters) => (
            "dead_letter.redrive",
            letters.sure.organization.clone(),
            letters.args(),
        ),
        Verb::Drop(letters) => (
            "dead_letter.drop",
            letters.sure.organization.clone(),
            letters.args(),
        ),
    };
    let ground = door::known(settings).await?;
    let asked = request(command, None, organization, args);
    let answered = match &verb {
        Verb::Show { .. } => said(&ground, &asked).await?,
        _ => said_surely(&ground, asked).await?,
    };
    ground.store.close().await;
    match (output, &verb) {
        (Output::Json, _) => print_json(&answered),
        (Output::Table, Verb::Show { .. }) => show(&answered),
        (Output::Table, _) => deeds::told(command, &Map::new(), &in_lines(&answered, &[], &[]))
            .iter()
            .flatten()
            .for_each(|line| print(line)),
    }
    if answered["still_dead"].as_i64().unwrap_or(0) > 0 {
        return Err(Failure::Found(String::new()));
    }
    Ok(())
}

fn show(letter: &Value) {
    let body = &letter["body"];
    let letter = &in_lines(letter, &[], &[]);
    let text = |name: &str| letter[name].as_str().unwrap_or_default();
    for (name, title) in [
        ("id", "id           "),
        ("organization", "organization "),
        ("plugin_id", "plugin       "),
        ("intake", "queue        "),
        ("routing_key", "routing key  "),
        ("reason", "reason       "),
        ("message", "message      "),
    ] {
        if !text(name).is_empty() {
            print(&format!("{title}{}", text(name)));
        }
    }
    print(&format!(
        "seen         {}, first {}, last {}",
        counted(letter["count"].as_u64().unwrap_or(1), "time"),
        text("first_seen"),
        text("last_seen")
    ));
    for header in letter["headers"].as_array().into_iter().flatten() {
        let part = |at: usize| header[at].as_str().unwrap_or_default();
        print(&format!("header       {}: {}", part(0), part(1)));
    }
    if let Some(body) = body["text"].as_str().or(body["hex"].as_str()) {
        print("");
        print(body);
    }
}
