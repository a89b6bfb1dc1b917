//! What is declared, one at a time: the same as on the bus. Whole files go through `apply`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::ask::{ask, request, said, show};
use super::{DeclaredFilter, Failure, Output, declare, door, look, rules};
use crate::declaration::{Kind, read_alone};
use crate::document::{Complaint, Document};
use crate::settings::Settings;

#[derive(Debug, Args)]
pub struct ApplyOne {
    /// A YAML or JSON file with one entry; `-` is standard input
    file: PathBuf,
    /// Only where it is of this revision; 0: only where it is new
    #[arg(long, value_name = "N")]
    expected_revision: Option<i64>,
    /// What to do where it is there already
    #[arg(long, value_enum, default_value_t = IfExists::Update)]
    if_exists: IfExists,
    /// The organisation whose it is
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IfExists {
    Update,
    Fail,
    Ignore,
}

#[derive(Debug, Args)]
pub struct DeleteOne {
    /// Its name or id
    name: String,
    /// The organisation whose it is
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
}

#[derive(Debug, Args)]
pub struct Switch {
    plugin_id: String,
    /// For this organisation alone; without it for all that do not say
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum OrganizationVerb {
    /// Show them
    List(DeclaredFilter),
    /// Make one, or make it so
    Apply(ApplyOne),
}

#[derive(Debug, Subcommand)]
pub enum PluginVerb {
    /// Show them
    List(DeclaredFilter),
    /// Make one, or make it so
    Apply(ApplyOne),
    /// Remove one; tasks that wait for it are withdrawn
    Delete(DeleteOne),
    /// Let it run
    Enable(Switch),
    /// Let it run no more; tasks that wait for it are withdrawn
    Disable(Switch),
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show them
    List(DeclaredFilter),
    /// Make one, or make it so
    Apply(ApplyOne),
    /// Remove one
    Delete(DeleteOne),
}

pub async fn organization(
    settings: &Settings,
    verb: OrganizationVerb,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        OrganizationVerb::List(filter) => list(settings, Kind::Organization, filter, output).await,
        OrganizationVerb::Apply(one) => apply(settings, Kind::Organization, one, output).await,
    }
}

pub async fn plugin(settings: &Settings, verb: PluginVerb, output: Output) -> Result<(), Failure> {
    let (command, switch) = match verb {
        PluginVerb::List(filter) => return list(settings, Kind::Plugin, filter, output).await,
        PluginVerb::Apply(one) => return apply(settings, Kind::Plugin, one, output).await,
        PluginVerb::Delete(one) => return delete(settings, Kind::Plugin, one, output).await,
        PluginVerb::Enable(switch) => ("plugin.enable", switch),
        PluginVerb::Disable(switch) => ("plugin.disable", switch),
    };
    let args = json!({"plugin_id": switch.plugin_id});
    ask(settings, command, switch.organization, args, output).await
}

pub async fn run(
    settings: &Settings,
    kind: Kind,
    verb: Verb,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        Verb::List(filter) => list(settings, kind, filter, output).await,
        Verb::Apply(one) => apply(settings, kind, one, output).await,
        Verb::Delete(one) => delete(settings, kind, one, output).await,
    }
}

async fn list(
    settings: &Settings,
    kind: Kind,
    filter: DeclaredFilter,
    output: Output,
) -> Result<(), Failure> {
    look::declared(settings, kind, &filter.into(), output).await
}

pub async fn apply(
    settings: &Settings,
    kind: Kind,
    one: ApplyOne,
    output: Output,
) -> Result<(), Failure> {
    let mut args = entry(settings, &one.file, kind, one.organization.as_deref())?;
    if let Some(expected) = one.expected_revision {
        args.insert("expected_revision".to_owned(), json!(expected));
    }
    let if_exists = match one.if_exists {
        IfExists::Update => "update",
        IfExists::Fail => "fail",
        IfExists::Ignore => "ignore",
    };
    args.insert("if_exists".to_owned(), json!(if_exists));
    let command = format!("{}.apply", kind.word());
    let asked = request(&command, None, one.organization, Value::Object(args));
    let ground = rules::ground(settings).await?;
    door::made_and_known(&ground).await?;
    let answered = said(&ground, &asked).await?;
    ground.store.close().await;
    show(&asked, &answered, ground.clock.now(), output);
    Ok(())
}

pub async fn delete(
    settings: &Settings,
    kind: Kind,
    one: DeleteOne,
    output: Output,
) -> Result<(), Failure> {
    let field = match kind {
        Kind::Plugin => "plugin_id",
        Kind::Schedule => "schedule",
        _ => "name",
    };
    let command = format!("{}.delete", kind.word());
    let args = json!({ field: one.name });
    ask(settings, &command, one.organization, args, output).await
}

/// The one entry that a file holds, of this kind.
fn entry(
    settings: &Settings,
    file: &Path,
    kind: Kind,
    organization: Option<&str>,
) -> Result<Map<String, Value>, Failure> {
    let name = file.display().to_string();
    let bytes = declare::bytes_of(file)?;
    let document =
        Document::open(&name, &bytes).map_err(|complaint| Failure::Wrong(vec![complaint]))?;
    let mut entries: Vec<Value> = Vec::new();
    for root in &document.roots {
        match root.to_json() {
            Value::Null => {}
            Value::Array(items) => entries.extend(items),
            other => entries.push(other),
        }
    }
    let many = entries.len();
    if let [Value::Object(only)] = entries.as_slice()
        && only
            .get("kind")
            .is_none_or(|said| *said == json!(kind.word()))
    {
        // Read here too, where it is known on which line something stands.
        let rules = rules::rules(settings).map_err(Failure::Wrong)?;
        let wrong = read_alone(&document, kind, organization, &rules);
        if wrong.iter().any(Complaint::is_error) {
            return Err(Failure::Wrong(wrong));
        }
    }
    let mut entry = match (entries.pop(), many) {
        (Some(Value::Object(entry)), 1) => entry,
        _ => {
            return Err(Failure::Usage(format!(
                "{name}: one entry is needed, and it holds {many}; `muster apply` takes whole files"
            )));
        }
    };
    match entry.remove("kind") {
        Some(said) if said != json!(kind.word()) => Err(Failure::Usage(format!(
            "{name}: its kind is {}, and {} is asked for",
            said.as_str()
                .map_or_else(|| said.to_string(), str::to_owned),
            kind.word()
        ))),
        _ => Ok(entry),
    }
}
