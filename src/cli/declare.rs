//! Files of declarations: checked, applied with a diff, exported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};

pub use super::files::bytes_of;

use super::files::Files;
use super::output::{complain, counted, in_lines, note, print, print_json, sure, text};
use super::progress::watched;
use super::{Failure, Output, VariableArguments, deeds, door, rules};
use crate::answer::{consequences, store_edits};
use crate::catalogue::{Ahead, Stored, look_ahead};
use crate::declaration::{Compiled, Declared, Kind, Origin, RunOnce, Variables, read_file};
use crate::document::{Complaint, Severity, nearest};
use crate::harmless;
use crate::moment::Moment;
use crate::rules::Rules;
use crate::schedule::OF_PLUGIN;
use crate::settings::Settings;
use crate::store::{Applied, Edit};

#[derive(Debug, Args)]
pub struct Apply {
    /// YAML or JSON files; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Show what would change (also instants, selections and tasks), and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete what is declared and not in the files, of the kinds that the files hold
    #[arg(long)]
    prune: bool,
    /// Do not ask before deleting
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    variables: VariableArguments,
}

pub fn check(
    settings: &Settings,
    files: &[PathBuf],
    variables: &[String],
    output: Output,
) -> Result<(), Failure> {
    let mut complaints = Vec::new();
    let mut found = Files::default();
    match rules::rules(settings) {
        Err(wrong) => complaints.extend(wrong),
        Ok(rules) => {
            let variables = Variables::parse(variables).map_err(Failure::Usage)?;
            found = Files::with_cases(files, &variables, &rules)?;
            let declared = found.declared.iter();
            let unworkable = declared.filter_map(|entry| unworkable(entry, settings));
            let mut more: Vec<Complaint> =
                unworkable.chain(found.unknown(Severity::Warning)).collect();
            let named = unknown(&found.declared, &[], &rules);
            let left_out = |about: &Unknown| found.is_left_out(about.kind, &about.name);
            let named = named.into_iter().filter(|about| !left_out(about));
            // What the store holds is not asked here, so all of them may be there.
            more.extend(named.map(|about| about.complaint(Severity::Warning)));
            found.complain(more);
            complaints.append(&mut found.complaints);
            // What the store holds is not asked here, so a calendar that is missing may be there.
            let ahead = look_ahead(&found.declared, &[], &rules, Moment::now());
            for mut complaint in ahead.complaints {
                if let Some((_, rest)) = complaint.message.split_once("there is no calendar `") {
                    let name = rest.split('`').next().unwrap_or_default();
                    if found.is_left_out(Kind::Calendar, name) {
                        continue;
                    }
                    complaint.severity = Severity::Warning;
                }
                complaints.push(complaint);
            }
        }
    }
    let wrong = complaints.iter().any(Complaint::is_error);
    match output {
        Output::Json => print_json(&json!({
            "ok": !wrong,
            "findings": complaints.iter().map(Complaint::to_json).collect::<Vec<_>>(),
        })),
        Output::Table => {
            for complaint in &complaints {
                print(&complaint.to_string());
            }
            let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
            for entry in &found.declared {
                *counts.entry(entry.kind).or_default() += 1;
            }
            let mut kinds: Vec<String> = counts
                .iter()
                .map(|(kind, many)| counted(*many as u64, kind.word()))
                .collect();
            if !found.cases.is_empty() {
                kinds.push(counted(found.cases.len() as u64, "test"));
            }
            let findings = if complaints.is_empty() {
                "nothing to complain about".to_owned()
            } else {
                counted(complaints.len() as u64, "finding")
            };
            print(&format!(
                "settings and {}: {findings}{}{}",
                counted(found.names.len() as u64, "file"),
                if kinds.is_empty() { "" } else { "; read " },
                kinds.join(", ")
            ));
        }
    }
    if wrong {
        Err(Failure::Found(String::new()))
    } else {
        Ok(())
    }
}

/// What no worker will be able to do, as far as the settings know.
fn unworkable(entry: &Declared, settings: &Settings) -> Option<Complaint> {
    let Compiled::Plugin(plugin) = &entry.compiled else {
        return None;
    };
    let meant = |near: Vec<&str>| match near.as_slice() {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    };
    let runtimes = settings.work.runtimes.keys().map(String::as_str);
    let (field, message) = match (&plugin.artefact, &plugin.runtime) {
        (Some(_), None) => (
            "artefact",
            "artefact: a script needs a `runtime` too, or `muster work` cannot run it".to_owned(),
        ),
        (Some(_), Some(runtime)) if !settings.work.runtimes.contains_key(runtime) => {
            let known: Vec<&str> = runtimes.clone().collect();
            (
                "runtime",
                format!(
                    "runtime: the settings have no `{runtime}` in [work.runtimes], so `muster work` cannot run it (known: {}){}",
                    known.join(", "),
                    meant(nearest(runtime, runtimes))
                ),
            )
        }
        // Types without a table have the defaults; where there are some, another name may be a slip of the pen.
        _ => {
            let types = settings.workers.keys().map(String::as_str);
            let near = nearest(&plugin.worker_type, types);
            if settings.workers.contains_key(&plugin.worker_type) || near.is_empty() {
                return None;
            }
            (
                "worker_type",
                format!(
                    "worker_type: the settings have no [workers.{}], so it has the defaults{}",
                    plugin.worker_type,
                    meant(near)
                ),
            )
        }
    };
    let Origin { file, place } = &entry.origin;
    Some(Complaint::warning(file.as_str(), *place, field, message))
}

/// What an entry names that is declared nowhere.
struct Unknown {
    kind: Kind,
    name: String,
    field: &'static str,
    help: String,
    entry: String,
    origin: Origin,
}

impl Unknown {
    fn complaint(&self, severity: Severity) -> Complaint {
        let Origin { file, place } = &self.origin;
        let message = format!(
            "{}{}: no {} `{}` is declared{}",
            self.entry,
            self.field,
            self.kind.word(),
            self.name,
            self.help
        );
        match severity {
            Severity::Warning => Complaint::warning(file.as_str(), *place, self.field, message),
            Severity::Error => Complaint::error(file.as_str(), *place, self.field, message),
        }
    }
}

/// Organisations whose schedules, object sets and runs these are and which nobody has declared, each where it is named
/// first; and schedules and plugins of which runs are, neither declared here nor stored.
fn unknown(declared: &[Declared], staying: &[&Stored], rules: &Rules) -> Vec<Unknown> {
    let there = |kind: Kind| {
        let stored = staying.iter().filter(move |entry| entry.kind == kind);
        let stored = stored.map(|entry| (entry.name.as_str(), entry.organization.as_str()));
        let told = declared.iter().filter(move |entry| entry.kind == kind);
        stored.chain(told.map(|entry| (entry.name.as_str(), entry.organization.as_str())))
    };
    let meant = |near: Vec<&str>, else_said: &str| match near.as_slice() {
        [] => else_said.to_owned(),
        near => format!("; did you mean {}?", near.join(" or ")),
    };
    let nobody = match rules.open_organizations {
        true => "; until it is, or an event names it, nothing runs for it",
        false => "; until it is, nothing runs for it",
    };
    let organizations: BTreeSet<&str> = there(Kind::Organization).map(|(id, _)| id).collect();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for entry in declared {
        let run = match &entry.compiled {
            Compiled::Run(run) => Some(run.as_ref()),
            _ => None,
        };
        let own = run.and_then(|run| run.organization.as_deref());
        let organization = own.unwrap_or(&entry.organization);
        let known = organization.is_empty() || organizations.contains(organization);
        if !known && told.insert(organization) {
            found.push(Unknown {
                kind: Kind::Organization,
                name: organization.to_owned(),
                field: "organization",
                help: meant(nearest(organization, organizations.iter().copied()), nobody),
                entry: String::new(),
                origin: entry.origin.clone(),
            });
        }
        let Some(run) = run else { continue };
        let (field, kind, name) = match (&run.schedule, &run.plugin) {
            (Some(schedule), _) => match schedule.strip_prefix(OF_PLUGIN) {
                Some(plugin) => ("schedule", Kind::Plugin, plugin),
                None => ("schedule", Kind::Schedule, schedule.as_str()),
            },
            (None, Some(plugin)) => ("plugin", Kind::Plugin, plugin.as_str()),
            (None, None) => continue,
        };
        let concerns = |whose: &str| whose.is_empty() || own.is_none_or(|own| own == whose);
        let candidates: Vec<&str> = there(kind)
            .filter(|(_, whose)| concerns(whose))
            .map(|(name, _)| name)
            .collect();
        let by_id = staying.iter().any(|stored| {
            stored.kind == kind && stored.id == name && concerns(&stored.organization)
        });
        if !by_id && !candidates.contains(&name) {
            found.push(Unknown {
                kind,
                name: name.to_owned(),
                field,
                help: meant(nearest(name, candidates), ""),
                entry: format!("run {}: ", run.name),
                origin: entry.origin.clone(),
            });
        }
    }
    found
}

/// What becomes of a run that files declare.
async fn of_run(ground: &crate::ground::Ground, run: &RunOnce) -> Result<(String, Value), Failure> {
    let name = &run.name;
    let what = match (&run.schedule, &run.plugin) {
        (Some(schedule), _) => format!("the schedule {schedule}"),
        (None, plugin) => format!("the plugin {}", plugin.as_deref().unwrap_or_default()),
    };
    if let Some(answer) = super::ask::started_before(ground, run).await? {
        let lines = deeds::started_before(&in_lines(&answer, &[], &[]));
        let told = json!({"name": name, "started_before": true, "runs": answer["runs"]});
        return Ok((format!("  run {name}: {}", lines.join("; ")), told));
    }
    let whom = match &run.organization {
        Some(organization) => format!(" for {organization}"),
        None => String::new(),
    };
    let line = format!("+ run {name}: it would start {what}{whom}");
    let told = json!({"name": name, "started_before": false, "runs": []});
    Ok((harmless::line(&line).into_owned(), told))
}

/// Reads files as declarations; a file that cannot be opened is a matter of usage.
pub fn read(
    files: &[PathBuf],
    variables: &Variables,
    rules: &Rules,
) -> Result<(Vec<Declared>, Vec<Complaint>), Failure> {
    let read = Files::read(files, variables, rules)?;
    Ok((read.declared, read.complaints))
}

/// One line of a diff.
pub(super) struct Difference {
    sign: char,
    kind: Kind,
    name: String,
    organization: String,
    fields: Vec<(String, Value, Value)>,
}

impl Difference {
    /// The next instants of a schedule that the clock starts.
    fn next<'a>(&self, ahead: &'a Ahead) -> Option<&'a Vec<(String, Moment)>> {
        let key = (self.name.clone(), self.organization.clone());
        let schedule = self.kind == Kind::Schedule && self.sign != '-';
        ahead.instants.get(&key).filter(|_| schedule)
    }
}

pub async fn apply(settings: &Settings, apply: &Apply, output: Output) -> Result<(), Failure> {
    let rules = rules::rules(settings).map_err(Failure::Wrong)?;
    let variables = Variables::parse(&apply.variables.variables).map_err(Failure::Usage)?;
    let (declared, complaints) = read(&apply.files, &variables, &rules)?;
    complain(&complaints);
    if complaints.iter().any(Complaint::is_error) {
        return Err(Failure::Found("nothing was applied".to_owned()));
    }
    let ground = match apply.dry_run {
        true => door::found(settings).await?,
        false => rules::ground(settings).await?,
    };
    if !apply.dry_run {
        door::made(&ground).await?;
    }
    let (runs, entries) = apart(declared.clone());
    loop {
        let (revision, stored) = ground.store.declared().await?;
        let (differences, edits) = compare(&entries, &stored, apply.prune, &mut || {
            ground.ids().next(ground.clock.now())
        });
        let staying: Vec<&Stored> = stored
            .iter()
            .filter(|known| {
                !edits.iter().any(|edit| {
                    matches!(edit, Edit::Delete { kind, organization, name }
                        if *kind == known.kind && *organization == known.organization && *name == known.name)
                })
            })
            .collect();
        let ahead = look_ahead(&entries, &staying, &ground.rules, ground.clock.now());
        if output == Output::Table {
            show(&differences, &ahead);
        }
        complain(&ahead.complaints);
        let mut unstartable = false;
        for about in unknown(&declared, &staying, &ground.rules) {
            match about.kind {
                Kind::Organization => complain([&about.complaint(Severity::Warning)]),
                // Whoever applies is told by the run itself.
                _ if !apply.dry_run => {}
                _ => {
                    unstartable = true;
                    complain([&about.complaint(Severity::Error)]);
                }
            }
        }
        if ahead.complaints.iter().any(Complaint::is_error) {
            return Err(Failure::Found("nothing was applied".to_owned()));
        }
        if !apply.dry_run {
            let deletes = differences
                .iter()
                .filter(|difference| difference.sign == '-')
                .count();
            if deletes > 0 && !apply.yes {
                confirm(deletes)?;
            }
            let storing = store_edits(&ground, &stored, &edits, revision, None);
            if watched(&ground, storing).await? == Applied::Stale {
                note("the declarations changed meanwhile; comparing again");
                continue;
            }
        }
        let mut changes = Value::Null;
        let mut to_start = Vec::new();
        if apply.dry_run {
            for (_, run) in &runs {
                let (line, told) = of_run(&ground, run).await?;
                if output == Output::Table {
                    print(&line);
                }
                to_start.push(told);
            }
            let (present, proposed) =
                super::replay::both(&ground, revision, stored.clone(), &edits).await?;
            changes = consequences(&ground, &present, &proposed, &edits).await?;
            if output == Output::Table {
                super::preview::show_consequences(&changes);
            }
        }
        report(
            &differences,
            &ahead,
            apply.dry_run,
            changes,
            &to_start,
            output,
        );
        if !apply.dry_run && !runs.is_empty() {
            ground.load_catalogue().await?;
            for (before, answer) in super::ask::start_declared(&ground, &runs).await? {
                if output == Output::Table {
                    let name = text(&answer, "request_id");
                    let answer = in_lines(&answer, &[], &[]);
                    let lines = match before {
                        true => deeds::started_before(&answer),
                        false => deeds::started(&answer),
                    };
                    for line in lines {
                        print(&format!("run {name}: {line}"));
                    }
                }
            }
        }
        ground.store.close().await;
        return match unstartable {
            true => Err(Failure::Found(String::new())),
            false => Ok(()),
        };
    }
}

/// Declares the entries of some texts, for `demo`.
pub async fn declare(
    ground: &Arc<crate::ground::Ground>,
    texts: &[(&str, &str)],
) -> Result<(), Failure> {
    door::made_and_known(ground).await?;
    let mut declared = Vec::new();
    for (name, text) in texts {
        let (read, complaints) =
            read_file(name, text.as_bytes(), &Variables::default(), &ground.rules);
        if complaints.iter().any(Complaint::is_error) {
            return Err(Failure::Wrong(complaints));
        }
        declared.extend(read);
    }
    let (revision, stored) = ground.store.declared().await?;
    let (runs, declared) = apart(declared);
    let (_, edits) = compare(&declared, &stored, false, &mut || {
        ground.ids().next(ground.clock.now())
    });
    store_edits(ground, &stored, &edits, revision, None).await?;
    ground.load_catalogue().await?;
    super::ask::start_declared(ground, &runs).await?;
    Ok(())
}

/// Runs are started once, after everything else is declared.
pub(super) fn apart(declared: Vec<Declared>) -> (Vec<(Origin, RunOnce)>, Vec<Declared>) {
    let mut runs = Vec::new();
    let mut rest = Vec::new();
    for entry in declared {
        match entry.compiled {
            Compiled::Run(run) => runs.push((entry.origin, *run)),
            _ => rest.push(entry),
        }
    }
    (runs, rest)
}

fn entries(many: usize) -> String {
    match many {
        1 => "1 entry".to_owned(),
        many => format!("{many} entries"),
    }
}

fn confirm(deletes: usize) -> Result<(), Failure> {
    let many = entries(deletes);
    match sure(&format!("delete {many}?"))? {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Found("nothing was applied".to_owned())),
        None => Err(Failure::no(
            "confirmation_needed",
            &format!("{many} would be deleted; say --yes to do it"),
            "",
        )),
    }
}

/// What differs between the files and the store, and the edits that would end it.
pub(super) fn compare(
    declared: &[Declared],
    stored: &[Stored],
    prune: bool,
    new_id: &mut dyn FnMut() -> String,
) -> (Vec<Difference>, Vec<Edit>) {
    let mut differences = Vec::new();
    let mut edits = Vec::new();
    let mut named: BTreeSet<(Kind, &str, &str)> = BTreeSet::new();
    for entry in declared {
        named.insert((entry.kind, &entry.organization, &entry.name));
        let known = stored.iter().find(|known| {
            known.kind == entry.kind
                && known.organization == entry.organization
                && known.name == entry.name
        });
        let before = known
            .map(|known| known.definition.clone())
            .unwrap_or_default();
        let fields = fields(&before, &entry.definition);
        if known.is_some() && fields.is_empty() {
            continue;
        }
        differences.push(Difference {
            sign: if known.is_some() { '~' } else { '+' },
            kind: entry.kind,
            name: entry.name.clone(),
            organization: entry.organization.clone(),
            fields,
        });
        edits.push(Edit::Put {
            kind: entry.kind,
            organization: entry.organization.clone(),
            name: entry.name.clone(),
            id: if entry.kind == Kind::Schedule {
                new_id()
            } else {
                entry.name.clone()
            },
            definition: entry.definition.clone(),
        });
    }
    let kinds: BTreeSet<Kind> = declared.iter().map(|entry| entry.kind).collect();
    for known in stored
        .iter()
        .filter(|known| prune && kinds.contains(&known.kind))
    {
        if !named.contains(&(known.kind, &known.organization, &known.name)) {
            differences.push(Difference {
                sign: '-',
                kind: known.kind,
                name: known.name.clone(),
                organization: known.organization.clone(),
                fields: Vec::new(),
            });
            edits.push(Edit::Delete {
                kind: known.kind,
                organization: known.organization.clone(),
                name: known.name.clone(),
            });
        }
    }
    (differences, edits)
}

fn fields(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<(String, Value, Value)> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (
                before.get(name).unwrap_or(&Value::Null),
                after.get(name).unwrap_or(&Value::Null),
            );
            (old != new).then(|| (name.clone(), old.clone(), new.clone()))
        })
        .collect()
}

fn show(differences: &[Difference], ahead: &Ahead) {
    for difference in differences {
        let of = if difference.organization.is_empty() {
            String::new()
        } else {
            format!(" of {}", difference.organization)
        };
        print(&harmless::line(&format!(
            "{} {} {}{of}",
            difference.sign,
            difference.kind.word(),
            difference.name
        )));
        if difference.sign == '~' {
            for (name, old, new) in &difference.fields {
                if !old.is_null() {
                    print(&format!("    - {name}: {old}"));
                }
                if !new.is_null() {
                    print(&format!("    + {name}: {new}"));
                }
            }
        }
        if let Some(instants) = difference.next(ahead) {
            let next: Vec<&str> = instants.iter().map(|(local, _)| local.as_str()).collect();
            if !next.is_empty() {
                print(&format!("    next: {}", next.join(", ")));
            }
        }
    }
}

fn report(
    differences: &[Difference],
    ahead: &Ahead,
    dry_run: bool,
    changes: Value,
    runs: &[Value],
    output: Output,
) {
    let starting = runs.iter().filter(|run| run["started_before"] == false);
    let starting = starting.count() as u64;
    let count = |sign: char| {
        differences
            .iter()
            .filter(|difference| difference.sign == sign)
            .count()
    };
    match output {
        Output::Json => print_json(&json!({
            "applied": !dry_run,
            // Of a dry run alone: instants, selections and tasks that would be others.
            "changes": changes,
            // The same: which runs would be started, and which were.
            "runs": if dry_run { json!(runs) } else { Value::Null },
            "created": count('+'), "changed": count('~'), "deleted": count('-'),
            "differences": differences.iter().map(|difference| json!({
                "change": match difference.sign { '+' => "created", '~' => "changed", _ => "deleted" },
                "kind": difference.kind.word(), "name": difference.name, "organization": difference.organization,
                "next": difference.next(ahead).map(|next| next.iter().map(|(_, utc)| utc.to_string()).collect::<Vec<_>>()),
                "fields": difference.fields.iter().map(|(name, old, new)| json!({"name": name, "old": old, "new": new})).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
        Output::Table if differences.is_empty() && starting == 0 => print("nothing differs"),
        Output::Table => print(&format!(
            "{}{} created, {} changed, {} deleted{}",
            if dry_run {
                "not applied (--dry-run): "
            } else {
                ""
            },
            count('+'),
            count('~'),
            count('-'),
            match starting {
                0 => String::new(),
                many => format!(", {} to start", counted(many, "run")),
            }
        )),
    }
}

pub async fn export(settings: &Settings, output: Output) -> Result<(), Failure> {
    let ground = door::found(settings).await?;
    let (_, stored) = ground.store.declared().await?;
    let entries: Vec<Value> = stored
        .into_iter()
        .map(|entry| {
            let mut definition = Map::new();
            definition.insert("kind".to_owned(), json!(entry.kind.word()));
            definition.extend(entry.definition);
            Value::Object(definition)
        })
        .collect();
    match output {
        Output::Json => print_json(&Value::Array(entries)),
        // Each entry is one line of JSON, which is YAML too.
        Output::Table => {
            for entry in &entries {
                print(&format!("- {entry}"));
            }
        }
    }
    ground.store.close().await;
    Ok(())
}
