//! The nouns, listed; and whether all is well.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::lists::{self, Layout};
use super::output::{print, print_json, table};
use super::{Failure, Filter, Output, door};
use crate::answer::{self, Shown, declared_rows, no_organization};
use crate::bus::BusError;
use crate::bus::nats::Nats;
use crate::bus::rabbit::Rabbit;
use crate::catalogue::Stored;
use crate::command::{self, Listing, Rows};
use crate::declaration::Kind;
use crate::ground::Ground;
use crate::harmless;
use crate::moment::{Moment, Span};
use crate::settings::Settings;
use crate::store::Page;
use crate::wire::Refused;

/// A loop that has been silent for longer is not well.
const SILENT: Span = Span::seconds(30);
/// How long health waits for a server.
const WITHIN: Duration = Duration::from_secs(5);

pub async fn list(
    settings: &Settings,
    noun: &str,
    filter: &Filter,
    output: Output,
) -> Result<(), Failure> {
    known_filter(noun, filter)?;
    let listing = match Rows::of(noun) {
        Some(rows) => Some(asked_of(rows, filter)?),
        None => {
            no_query(noun, filter)?;
            None
        }
    };
    let ground = door::found(settings).await?;
    let organization = filter.organization.as_deref();
    if organization.is_some() {
        known_organization(&ground.store.declared().await?.1, organization)?;
    }
    let shown = match &listing {
        Some(listing) => {
            answer::rows(&ground.store, listing, organization, ground.clock.now()).await?
        }
        None => {
            let page = Page {
                organization: filter.organization.clone(),
                state: filter.state.clone(),
                limit: filter.limit,
                offset: filter.offset,
                ..Page::default()
            };
            let found = ground.store.list(noun, &page).await?.unwrap_or_default();
            Shown {
                columns: found.columns,
                rows: found.rows,
                ..Shown::default()
            }
        }
    };
    show(
        noun,
        &shown.columns,
        &shown.rows,
        &filter.layout,
        ground.clock.now(),
        output,
    )?;
    if let Some(next) = shown.next.filter(|_| output == Output::Table) {
        eprintln!("there are more: --after {next}");
    }
    ground.store.close().await;
    Ok(())
}

/// What a list of rows is asked for.
fn asked_of(rows: Rows, filter: &Filter) -> Result<Listing, Failure> {
    let open = rows == Rows::Attempt && filter.state.as_deref() == Some("open");
    let condition = match (&filter.condition, open) {
        (None, false) => None,
        (None, true) => Some("outcome = None".to_owned()),
        (Some(text), false) => Some(text.clone()),
        (Some(text), true) => Some(format!("({text}) and outcome = None")),
    };
    let mut asked = match condition {
        None => command::Filter::default(),
        Some(text) => command::Filter::asking(rows, &text)
            .map_err(|wrong| Failure::Usage(format!("--where: {wrong}")))?,
    };
    let column = match rows {
        Rows::Run | Rows::Task => "state",
        Rows::Attempt => "outcome",
        Rows::DeadLetter => "reason",
    };
    if let Some(state) = filter.state.as_deref().filter(|_| !open) {
        asked = asked.with(column, state);
    }
    let after = filter.after.as_deref().map(command::position).transpose();
    Ok(Listing {
        rows,
        filter: asked,
        limit: filter.limit,
        offset: filter.offset,
        after: after
            .map_err(|wrong| Failure::Usage(format!("--after: {wrong}")))?
            .unwrap_or_default(),
    })
}

/// An organisation that nobody knows has nothing, and is rather a slip of the pen.
pub fn known_organization(stored: &[Stored], organization: Option<&str>) -> Result<(), Failure> {
    let Some(organization) = organization else {
        return Ok(());
    };
    let known: Vec<&str> = stored
        .iter()
        .filter(|entry| entry.kind == Kind::Organization)
        .map(|entry| entry.name.as_str())
        .collect();
    if known.contains(&organization) {
        return Ok(());
    }
    Err(Failure::Refused(no_organization(
        organization,
        known.into_iter(),
    )))
}

fn no_query(noun: &str, filter: &Filter) -> Result<(), Failure> {
    let asked = [
        ("--where", filter.condition.is_some()),
        ("--after", filter.after.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::Usage(format!(
            "{option}: this is for lists of runs, tasks, attempts and dead letters; {noun}: --limit and --offset"
        ))),
    }
}

/// A filter that can match nothing is a slip of the pen.
fn known_filter(noun: &str, filter: &Filter) -> Result<(), Failure> {
    let column = match noun {
        "attempt" => "outcome",
        "dead-letter" => "reason",
        _ => "state",
    };
    let Some(mut states) = Rows::of(noun).and_then(|rows| rows.words(column)) else {
        return Ok(());
    };
    if noun == "attempt" {
        states.insert(0, "open");
    }
    match &filter.state {
        Some(state) if !states.contains(&state.as_str()) => {
            let what = match noun {
                "dead-letter" => "reason of a dead letter".to_owned(),
                "attempt" => "outcome of an attempt".to_owned(),
                noun => format!("state of a {noun}"),
            };
            Err(Failure::Usage(format!(
                "--state: `{}` is no {what}; known: {}",
                harmless::line(state),
                states.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

pub(super) fn show(
    noun: &str,
    columns: &[String],
    rows: &[Map<String, Value>],
    layout: &Layout,
    now: Moment,
    output: Output,
) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(&Value::Array(
            rows.iter().cloned().map(Value::Object).collect(),
        )),
        Output::Table => lists::show(noun, columns, rows, layout, now)?,
    }
    Ok(())
}

pub async fn declared(
    settings: &Settings,
    kind: Kind,
    filter: &Filter,
    output: Output,
) -> Result<(), Failure> {
    no_query(kind.word(), filter)?;
    if let Some(state) = &filter.state {
        return Err(Failure::Usage(format!(
            "--state {state}: {}s are declared, and have no state",
            kind.word().replace('_', " ")
        )));
    }
    let ground = door::found(settings).await?;
    let (_, stored) = ground.store.declared().await?;
    known_organization(&stored, filter.organization.as_deref())?;
    let pauses = ground.store.pauses().await?;
    let columns: &[&str] = match kind {
        Kind::Organization => &["id", "name", "indemnified", "enabled", "weight"],
        Kind::Plugin => &[
            "plugin_id",
            "worker_type",
            "scan_level",
            "consumes",
            "oci_arguments",
            "enabled",
            "recurrences",
        ],
        Kind::ObjectSet => &["name", "organization", "object_type", "query", "keys"],
        Kind::Calendar => &["name", "timezone", "dates", "weekly"],
        Kind::Schedule => &[
            "name",
            "organization",
            "recurrences",
            "run_on",
            "operation",
            "plugins",
            "enabled",
            "paused",
            "revision",
        ],
        Kind::Run => &[],
    };
    let rows: Vec<Map<String, Value>> =
        declared_rows(&stored, kind, None, |id| pauses.get(id).cloned())
            .into_iter()
            .filter(|row| {
                let is = |name: &str, own: &str| row.get(name).is_some_and(|value| value == own);
                filter.organization.as_deref().is_none_or(|own| {
                    is("organization", own) || (kind == Kind::Organization && is("id", own))
                })
            })
            .skip(usize::try_from(filter.offset).unwrap_or(0))
            .take(usize::try_from(filter.limit).unwrap_or(usize::MAX))
            .collect();
    let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
    show(
        kind.word(),
        &columns,
        &rows,
        &filter.layout,
        ground.clock.now(),
        output,
    )?;
    ground.store.close().await;
    Ok(())
}

/// One thing that health looked at.
struct Finding {
    what: String,
    well: bool,
    reachable: bool,
    detail: String,
}

pub async fn health(settings: &Settings, output: Output) -> Result<(), Failure> {
    let (stored, ground) = store(settings).await?;
    let mut findings = vec![stored, bus(settings).await?];
    if let Some(ground) = ground.filter(|_| findings.iter().all(|finding| finding.well)) {
        findings.extend(replicas(&ground).await?);
    }
    let well = findings.iter().all(|finding| finding.well);
    match output {
        Output::Json => print_json(&json!({
            "well": well,
            "findings": findings.iter().map(|f| json!({"what": f.what, "well": f.well, "detail": f.detail})).collect::<Vec<_>>(),
        })),
        Output::Table => print(&table(
            &["what", "", "detail"],
            findings
                .iter()
                .map(|f| {
                    vec![
                        f.what.clone(),
                        if f.well { "well" } else { "NOT WELL" }.to_owned(),
                        f.detail.clone(),
                    ]
                })
                .collect(),
        )),
    }
    let away: Vec<&str> = findings
        .iter()
        .filter(|f| !f.reachable)
        .map(|f| f.what.as_str())
        .collect();
    if !away.is_empty() {
        return Err(Failure::Reach(format!("out of reach: {}", away.join(", "))));
    }
    if well {
        Ok(())
    } else {
        Err(Failure::Found(String::new()))
    }
}

/// Whether some replica of the service is alive, as far as the store knows.
pub(super) async fn alive(ground: &Ground) -> Result<bool, Failure> {
    let now = Moment::now();
    let replicas = ground.store.replicas().await?;
    Ok(replicas
        .iter()
        .any(|(_, _, beat, _)| now.since(*beat) <= SILENT))
}

/// How the store is, and the store where it is well. What the settings cannot mean is no finding.
async fn store(settings: &Settings) -> Result<(Finding, Option<Arc<Ground>>), Failure> {
    let finding = |well, reachable, detail: String| Finding {
        what: format!("store {}", settings.store.url),
        well,
        reachable,
        detail,
    };
    let found = tokio::time::timeout(WITHIN, door::found(settings)).await;
    Ok(match found {
        Ok(Ok(ground)) => (finding(true, true, "answers".to_owned()), Some(ground)),
        Ok(Err(wrong @ Failure::Usage(_))) => return Err(wrong),
        // Who answers that we may not come in is within reach.
        Ok(Err(failure)) => {
            let away = matches!(failure, Failure::Reach(_));
            let Refused { message, help, .. } = failure.told();
            let detail = match help.as_str() {
                "" => message,
                help => format!("{message}; {help}"),
            };
            (finding(false, !away, detail), None)
        }
        Err(_) => {
            let why = format!("no answer within {} s", WITHIN.as_secs());
            (finding(false, false, why), None)
        }
    })
}

/// A connection with the credentials of the settings, made and closed again: nothing is read from any queue.
async fn bus(settings: &Settings) -> Result<Finding, Failure> {
    let what = format!("bus {}", settings.bus.url);
    let url = settings.bus.url.expose().to_owned();
    let admitted = async {
        match settings.bus.url.scheme() {
            "amqp" | "amqps" => Rabbit::admits(&url).await,
            "nats" | "tls" => Nats::admits(&url).await,
            _ => Ok(()),
        }
    };
    let lines = settings.bus.url.address().is_none();
    let (well, reachable, detail) = match tokio::time::timeout(WITHIN, admitted).await {
        Ok(Ok(())) if lines => (true, true, "standard input and output".to_owned()),
        Ok(Ok(())) => (true, true, "lets us in".to_owned()),
        Ok(Err(BusError::OutOfReach(why))) => (false, false, why),
        Ok(Err(wrong @ BusError::Address(_))) => return Err(wrong.into()),
        Ok(Err(refused)) => (false, true, refused.to_string()),
        Err(_) => {
            let why = format!("no answer within {} s", WITHIN.as_secs());
            (false, false, why)
        }
    };
    Ok(Finding {
        what,
        well,
        reachable,
        detail,
    })
}

async fn replicas(ground: &Ground) -> Result<Vec<Finding>, Failure> {
    let replicas = ground.store.replicas().await?;
    let now = Moment::now();
    let mut findings: Vec<Finding> = replicas
        .into_iter()
        .map(|(id, _, beat, beats)| {
            let stale: Vec<String> = beats
                .iter()
                .filter(|(_, at)| {
                    let at = at.as_str().and_then(|at| Moment::parse(at).ok());
                    at.is_none_or(|at| now.since(at) > SILENT)
                })
                .map(|(name, _)| name.clone())
                .collect();
            let silent = now.since(beat);
            let well = silent <= SILENT && stale.is_empty();
            let detail = match (silent > SILENT, stale.is_empty()) {
                (true, _) => format!("silent for {} s", silent.whole_seconds()),
                (false, false) => format!("these loops stand still: {}", stale.join(", ")),
                (false, true) => "every loop moves".to_owned(),
            };
            Finding {
                what: format!("replica {id}"),
                well,
                reachable: true,
                detail,
            }
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding {
            what: "replicas".to_owned(),
            well: false,
            reachable: true,
            detail: "none runs".to_owned(),
        });
    }
    Ok(findings)
}
