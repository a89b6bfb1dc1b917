//! Dead letters: looked at, tried again, dropped.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{print, print_json};
use super::{Failure, Filter, Output, look, rules, serve};
use crate::ground::Ground;
use crate::intake::{self, Incoming};
use crate::settings::Settings;
use crate::store::StoredLetter;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show them, the newest first
    List(Filter),
    /// Show one with its headers and body
    Show { id: String },
    /// Try them again, as if they came now; those that can be handled are removed
    #[command(
        after_help = "Examples:\n  muster dead-letter redrive 0193…\n  muster dead-letter redrive --reason unknown_object_type"
    )]
    Redrive(Which),
    /// Remove them for good
    Drop(Which),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their ids
    ids: Vec<String>,
    /// All with this reason
    #[arg(long)]
    reason: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Letters that one command takes, at most.
const MOST: i64 = 100_000;

pub async fn run(settings: &Settings, verb: &Verb, output: Output) -> Result<(), Failure> {
    if let Verb::List(filter) = verb {
        return look::list(settings, "dead-letter", filter, output).await;
    }
    let ground = rules::ground(settings).await?;
    serve::prepare(&ground).await?;
    let done = match verb {
        Verb::List(_) => Ok(()),
        Verb::Show { id } => show(&ground, id, output).await,
        Verb::Redrive(which) => redrive(&ground, which, output).await,
        Verb::Drop(which) => drop_letters(&ground, which, output).await,
    };
    ground.store.close().await;
    done
}

async fn find(ground: &Ground, id: &str) -> Result<StoredLetter, Failure> {
    ground.store.dead_letter(id).await?.ok_or_else(|| {
        Failure::Found(format!(
            "there is no dead letter `{id}`; `muster dead-letter list` shows them"
        ))
    })
}

async fn chosen(ground: &Ground, which: &Which) -> Result<Vec<StoredLetter>, Failure> {
    if which.all || which.reason.is_some() {
        return Ok(ground
            .store
            .dead_letters(which.reason.as_deref(), MOST)
            .await?);
    }
    let mut letters = Vec::new();
    for id in &which.ids {
        letters.push(find(ground, id).await?);
    }
    Ok(letters)
}

async fn show(ground: &Ground, id: &str, output: Output) -> Result<(), Failure> {
    let stored = find(ground, id).await?;
    let letter = &stored.letter;
    let text = String::from_utf8(letter.body.clone());
    match output {
        Output::Json => {
            let body = match &text {
                Ok(text) => json!({ "text": text }),
                Err(_) => json!({ "hex": hex(&letter.body) }),
            };
            print_json(&json!({
                "id": letter.id, "intake": letter.intake, "routing_key": letter.routing_key, "reason": letter.reason,
                "message": letter.message, "count": stored.count, "first_seen": stored.first_seen.to_string(),
                "last_seen": stored.last_seen.to_string(), "content_type": letter.content_type,
                "message_id": letter.message_id, "headers": letter.headers, "body": body,
            }));
        }
        Output::Table => {
            print(&format!("id           {}", letter.id));
            print(&format!("intake       {}", letter.intake));
            if !letter.routing_key.is_empty() {
                print(&format!("routing key  {}", letter.routing_key));
            }
            print(&format!("reason       {}", letter.reason));
            print(&format!("message      {}", letter.message));
            print(&format!(
                "seen         {} times, first {}, last {}",
                stored.count, stored.first_seen, stored.last_seen
            ));
            for (name, value) in &letter.headers {
                print(&format!("header       {name}: {value}"));
            }
            print("");
            match text {
                Ok(text) => print(&text),
                Err(_) => print(&hex(&letter.body)),
            }
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn redrive(ground: &Ground, which: &Which, output: Output) -> Result<(), Failure> {
    let letters = chosen(ground, which).await?;
    let mut results: Vec<Value> = Vec::new();
    let mut still = 0;
    for stored in letters {
        let letter = stored.letter;
        let status = letter.intake == crate::bus::names::STATUS;
        let Some(intake) = ground
            .intakes
            .iter()
            .position(|rule| rule.queue == letter.intake)
            .or(status.then_some(0))
        else {
            still += 1;
            results.push(json!({"id": letter.id, "ok": false, "message": format!("no intake reads the queue `{}`", letter.intake)}));
            continue;
        };
        let incoming = Incoming {
            intake,
            queue: letter.intake.clone(),
            routing_key: letter.routing_key.clone(),
            content_type: letter.content_type.clone(),
            message_id: letter.message_id.clone(),
            headers: letter.headers.clone(),
            body: letter.body.clone(),
            status,
        };
        let handled = intake::handle(ground, std::slice::from_ref(&incoming)).await?;
        match handled.dead.first() {
            Some(dead) => {
                still += 1;
                results.push(json!({"id": letter.id, "ok": false, "reason": dead.reason, "message": dead.message}));
            }
            None => {
                ground.store.drop_dead_letter(&letter.id).await?;
                results.push(json!({"id": letter.id, "ok": true, "tasks": handled.tasks}));
            }
        }
    }
    match output {
        Output::Json => print_json(&Value::Array(results)),
        Output::Table => {
            for result in &results {
                let id = result["id"].as_str().unwrap_or_default();
                match result["ok"].as_bool() {
                    Some(true) => print(&format!("{id}  handled, {} tasks made", result["tasks"])),
                    _ => print(&format!(
                        "{id}  still dead: {}",
                        result["message"].as_str().unwrap_or_default()
                    )),
                }
            }
            print(&format!(
                "{} handled, {still} still dead",
                results.len() - still
            ));
        }
    }
    if still > 0 {
        Err(Failure::Found(String::new()))
    } else {
        Ok(())
    }
}

async fn drop_letters(ground: &Ground, which: &Which, output: Output) -> Result<(), Failure> {
    let letters = chosen(ground, which).await?;
    let mut dropped = 0;
    for stored in letters {
        dropped += i64::from(ground.store.drop_dead_letter(&stored.letter.id).await?);
    }
    match output {
        Output::Json => print_json(&json!({ "dropped": dropped })),
        Output::Table => print(&format!("{dropped} dropped")),
    }
    Ok(())
}
