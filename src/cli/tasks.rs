//! Tasks: looked at, and what people do to them by hand.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::ask::{ask, request, said_surely, show, which};
use super::{Failure, Filter, Output, Sure, Which, door, look};
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub enum TaskVerb {
    /// Show them, the newest first
    #[command(
        after_help = "Examples:\n  muster task list --where \"organization = 'acme' and state = 'dead'\"\n  muster task list --state queued --limit 1000 --output json"
    )]
    List(Filter),
    /// One task: its attempts, and what people did to it
    Get {
        task_id: String,
        /// Only where it is of this organisation
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
    /// End tasks: what waits is not offered, workers are told to stop
    #[command(
        after_help = "Examples:\n  muster task cancel 0193…\n  muster task cancel --where \"plugin_id = 'nmap'\" --yes"
    )]
    Cancel {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        sure: Sure,
        /// Why; kept with who and when
        #[arg(long)]
        reason: Option<String>,
    },
    /// Offer at once what waits, and make anew, once, what ended without success; with --all not what was cancelled or
    /// withdrawn
    #[command(
        after_help = "Examples:\n  muster task retry 0193…\n  muster task retry --where \"state = 'dead' and organization = 'acme'\" --yes"
    )]
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        sure: Sure,
    },
    /// Say how a task ended that no worker will tell of
    Mark {
        task_id: String,
        #[arg(value_enum)]
        state: Marked,
        /// Why; kept with who and when
        #[arg(long)]
        reason: String,
        /// Only where it is of this organisation
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Marked {
    Succeeded,
    Failed,
}

pub async fn run(settings: &Settings, verb: TaskVerb, output: Output) -> Result<(), Failure> {
    match verb {
        TaskVerb::List(filter) => look::list(settings, "task", &filter, output).await,
        TaskVerb::Get {
            task_id,
            organization,
        } => {
            let args = json!({"task_id": task_id});
            ask(settings, "task.get", organization, args, output).await
        }
        TaskVerb::Cancel {
            which: tasks,
            sure,
            reason,
        } => {
            let mut args = which("task_id", &tasks, sure.yes);
            if let Some(reason) = reason {
                args["reason"] = json!(reason);
            }
            many(settings, "task.cancel", sure.organization, args, output).await
        }
        TaskVerb::Retry { which: tasks, sure } => {
            let args = which("task_id", &tasks, sure.yes);
            many(settings, "task.retry", sure.organization, args, output).await
        }
        TaskVerb::Mark {
            task_id,
            state,
            reason,
            organization,
        } => {
            let state = match state {
                Marked::Succeeded => "succeeded",
                Marked::Failed => "failed",
            };
            let args = json!({"task_id": task_id, "state": state, "reason": reason});
            ask(settings, "task.mark", organization, args, output).await
        }
    }
}

async fn many(
    settings: &Settings,
    command: &str,
    organization: Option<String>,
    args: Value,
    output: Output,
) -> Result<(), Failure> {
    let ground = door::known(settings).await?;
    let asked = request(command, None, organization, args);
    let answered = said_surely(&ground, asked.clone()).await?;
    show(&asked, &answered, ground.clock.now(), output);
    ground.store.close().await;
    Ok(())
}
