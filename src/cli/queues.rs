//! Queues on the command line.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::ask::{ask, request, said};
use super::lists::Layout;
use super::{Failure, Output, door, look};
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What waits in each and since when, what workers have, how much credit is in use, and who paused it
    #[command(after_help = "Example:\n  muster queue list --organization acme")]
    List {
        /// Only what is of this organisation
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
        #[command(flatten)]
        layout: Layout,
    },
    /// Offer nothing more from a queue, until it is resumed; what is at the broker is untouched
    #[command(
        after_help = "Example:\n  muster queue pause muster.tasks.boefje --reason \"the scanned network is down\""
    )]
    Pause {
        queue: String,
        /// Why; kept with who and when
        #[arg(long)]
        reason: String,
    },
    /// Offer from it again
    Resume { queue: String },
}

pub async fn run(settings: &Settings, verb: Verb, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List {
            organization,
            layout,
        } => list(settings, organization, &layout, output).await,
        Verb::Pause { queue, reason } => {
            let args = json!({"queue": queue, "reason": reason});
            ask(settings, "queue.pause", None, args, output).await
        }
        Verb::Resume { queue } => {
            let args = json!({"queue": queue});
            ask(settings, "queue.resume", None, args, output).await
        }
    }
}

async fn list(
    settings: &Settings,
    organization: Option<String>,
    layout: &Layout,
    output: Output,
) -> Result<(), Failure> {
    let ground = door::known(settings).await?;
    let asked = request("queue.list", None, organization, json!({}));
    let answered = said(&ground, &asked).await?;
    ground.store.close().await;
    let queues = answered["queues"].as_array().into_iter().flatten();
    let rows: Vec<Map<String, Value>> = match output {
        Output::Json => queues.filter_map(|row| row.as_object().cloned()).collect(),
        Output::Table => queues.map(short).collect(),
    };
    let columns: Vec<String> = [
        "queue",
        "waiting",
        "oldest",
        "delayed",
        "dispatched",
        "running",
        "credit",
        "paused",
    ]
    .map(str::to_owned)
    .into();
    let now = ground.clock.now();
    look::show("queue", &columns, &rows, layout, now, output)
}

/// A queue in one line.
fn short(queue: &Value) -> Map<String, Value> {
    let mut row = queue.as_object().cloned().unwrap_or_default();
    let classes = queue["waiting"].as_object().into_iter().flatten();
    let waiting: Vec<String> = classes
        .filter(|(_, many)| many.as_i64() != Some(0))
        .map(|(class, many)| format!("{many} {class}"))
        .collect();
    let since = queue["oldest"].as_object().into_iter().flatten();
    let oldest = since.filter_map(|(_, at)| at.as_str()).min();
    row.insert("oldest".to_owned(), json!(oldest));
    row.insert("waiting".to_owned(), json!(waiting.join(", ")));
    if !queue["credit"].is_null() {
        let credit = format!("{} of {}", queue["credit_in_use"], queue["credit"]);
        row.insert("credit".to_owned(), json!(credit));
    }
    let said = |name: &str| {
        queue["paused"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    if !queue["paused"].is_null() {
        let paused = format!("{} ({}, {})", said("reason"), said("who"), said("at"));
        row.insert("paused".to_owned(), json!(paused));
    }
    row
}
