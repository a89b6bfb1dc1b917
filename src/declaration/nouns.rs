//! Each noun from its table.

use std::collections::BTreeMap;

use super::{RunOnce, operations};
use crate::document::{Complaint, Field, Table, Value};
use crate::moment::{Moment, Span};
use crate::object::{FILE, HIGHEST_LEVEL, Operation};
use crate::plugin::{Consumes, ForOrganization, Plugin, is_type_name, placeholder_types};
use crate::policy::Envelope;
use crate::query::{Context, ParameterTypes, Query, Schema};
use crate::recurrence::{Calendar, Recurrence, read_zone};
use crate::rules::Rules;
use crate::schedule::{
    CompleteWhen, Input, Limit, Missed, ObjectSet, Organization, Overlap, Per, SaidRetry,
    SaidTimeouts, Schedule, Selection,
};

/// The longest name of anything; database indexes have a limit.
pub const LONGEST: usize = 200;

/// What becomes of a run whose predecessor has not ended.
pub const OVERLAP: [(&str, Overlap); 4] = [
    ("skip", Overlap::Skip),
    ("buffer_one", Overlap::BufferOne),
    ("allow", Overlap::Allow),
    ("replace", Overlap::Replace),
];
/// Whether a newer request takes the place of a pending one.
pub const MANUAL_SUPERSEDES: [(&str, bool); 2] = [("pending", true), ("none", false)];
/// What becomes of instants that went by unseen.
pub const MISSED: [(&str, Missed); 3] = [
    ("latest", Missed::Latest),
    ("skip", Missed::Skip),
    ("all", Missed::All),
];
/// When a run is complete.
pub const COMPLETE_WHEN: [(&str, CompleteWhen); 2] = [
    ("own", CompleteWhen::Own),
    ("descendants", CompleteWhen::Descendants),
];
/// What a limit counts by.
pub const PER: [(&str, Per); 3] = [
    ("plugin", Per::Plugin),
    ("organization", Per::Organization),
    ("both", Per::Both),
];

fn name(table: &mut Table<'_, '_>, field: &str) -> Option<String> {
    let text = table.word(field)?;
    if text.len() > LONGEST {
        table.complain(
            field,
            format!("{} bytes are too long; the limit is {LONGEST}", text.len()),
        );
        return None;
    }
    Some(text)
}

fn required_name(table: &mut Table<'_, '_>, field: &str) -> Option<String> {
    table.require(field).then(|| name(table, field))?
}

/// A field that is read and kept, and does nothing so far: whoever sets it is told.
fn without_effect(table: &mut Table<'_, '_>, field: &str, set: bool) {
    if set {
        let place = table.node(field).and_then(|node| node.place);
        table
            .complaints()
            .warning(place, field, "it is kept, and has no effect yet");
    }
}

pub fn organization(table: &mut Table<'_, '_>) -> Option<Organization> {
    let id = required_name(table, "id");
    let read = Organization {
        id: String::new(),
        name: table.text("name"),
        indemnified: table.bool("indemnified").unwrap_or(false),
        weight: table.int_in("weight", 1..=1000).unwrap_or(1),
        enabled: table.bool("enabled").unwrap_or(true),
        limits: limits(table),
    };
    Some(Organization { id: id?, ..read })
}

pub fn plugin(table: &mut Table<'_, '_>, rules: &Rules) -> Option<Plugin> {
    let plugin_id = required_name(table, "plugin_id");
    let worker_type = required_name(table, "worker_type");
    let consumes: Vec<String> = table.texts("consumes").unwrap_or_default();
    let mut takes = Vec::new();
    for entry in &consumes {
        match consumed(entry, rules) {
            Ok(taken) => takes.push(taken),
            Err(message) => table.complain("consumes", message),
        }
    }
    let oci_arguments = table.texts("oci_arguments").unwrap_or_default();
    let mut input_types: Vec<String> = Vec::new();
    for taken in &takes {
        match taken {
            Consumes::Type(name) => input_types.push(name.clone()),
            Consumes::Mime(_) => input_types.push(FILE.to_owned()),
            Consumes::Set(_) => {}
        }
    }
    for argument in &oci_arguments {
        let named = placeholder_types(argument);
        input_types.extend(
            named
                .into_iter()
                .filter(|name| rules.known_type(name))
                .map(str::to_owned),
        );
    }
    let mut unique = Vec::new();
    for name in input_types {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    let recurrences = recurrences(table);
    let recurrences =
        (!recurrences.is_empty()).then(|| crate::recurrence::as_written(&recurrences));
    let read = Plugin {
        plugin_id: String::new(),
        worker_type: String::new(),
        name: table.text("name").unwrap_or_default(),
        description: table.text("description"),
        version: table.text("version"),
        scan_level: table.int_in("scan_level", 0..=i64::from(HIGHEST_LEVEL)),
        consumes,
        takes,
        produces: table.texts("produces").unwrap_or_default(),
        recurrences,
        run_on: operations(table, "run_on"),
        oci_image: table.text("oci_image"),
        oci_arguments,
        runtime: table.text("runtime"),
        artefact: table.text("artefact"),
        secrets: table.texts("secrets").unwrap_or_default(),
        batch_size: table.int_in("batch_size", 1..=10_000).unwrap_or(1),
        grace: table.span("grace"),
        timeouts: timeouts(table),
        retry: retry(table),
        limits: limits(table),
        idempotent: table.bool("idempotent").unwrap_or(false),
        enabled: table.bool("enabled").unwrap_or(true),
        organizations: for_organizations(table),
        settings: table.object("settings").unwrap_or_default(),
        created_at: table.moment("created_at").unwrap_or(Moment::EPOCH),
        input_types: unique,
    };
    if let Some(worker_type) = &worker_type
        && read.batch_size > 1
        && rules.worker(worker_type).format == Envelope::Openkat
    {
        let place = table.node("batch_size").and_then(|node| node.place);
        table.complaints().warning(
            place,
            "batch_size",
            format!("it has no effect: workers.{worker_type} has format openkat, whose tasks have one input each"),
        );
    }
    let plugin_id = plugin_id?;
    Some(Plugin {
        name: if read.name.is_empty() {
            plugin_id.clone()
        } else {
            read.name.clone()
        },
        plugin_id,
        worker_type: worker_type?,
        ..read
    })
}

fn consumed(entry: &str, rules: &Rules) -> Result<Consumes, String> {
    if let Some(set) = entry
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        return Ok(Consumes::Set(set.trim().to_owned()));
    }
    if let Some(mime) = entry.strip_prefix("file:") {
        return Ok(Consumes::Mime(mime.trim().to_owned()));
    }
    let written = entry.strip_prefix("type:").unwrap_or(entry).trim();
    let ours = rules.names.ours(written);
    if written.contains('/') {
        return Err(format!(
            "`{entry}` looks like a MIME type; write \"file:{entry}\""
        ));
    }
    if !is_type_name(&ours) {
        return Err(format!(
            "`{entry}` is not an object type; write \"hostname\", \"file:<mime type>\" or \"{{set name}}\""
        ));
    }
    if !rules.names.takes(&ours) {
        return Err(format!(
            "`{entry}` is not a declared object type; known: {}",
            rules.names.declared.join(", ")
        ));
    }
    Ok(Consumes::Type(ours))
}

fn for_organizations(table: &mut Table<'_, '_>) -> BTreeMap<String, ForOrganization> {
    table
        .entries("organizations", |key, field| {
            let mut table = field.table()?;
            let said = ForOrganization {
                enabled: table.bool("enabled"),
                settings: table.object("settings").unwrap_or_default(),
            };
            table.finish();
            Some((key.name.clone(), said))
        })
        .unwrap_or_default()
        .into_iter()
        .collect()
}

pub fn object_set(table: &mut Table<'_, '_>, rules: &Rules) -> Option<ObjectSet> {
    let set_name = required_name(table, "name");
    let organization = name(table, "organization");
    let object_type = table
        .require("object_type")
        .then(|| object_type(table, "object_type", rules))?;
    let schema = object_type.as_deref().map(|name| rules.schema(name));
    let query = schema.as_ref().and_then(|schema| {
        let context = Context::new("query", schema);
        table
            .get("query")
            .and_then(|field| compiled(field, &context))
    });
    let keys = table.texts("keys").unwrap_or_default();
    if query.is_none() && keys.is_empty() && table.node("query").is_none() {
        table.complain("query", "an object set needs a query, or keys, or both");
    }
    Some(ObjectSet {
        name: set_name?,
        organization,
        object_type: object_type?,
        query,
        keys,
    })
}

pub fn run_once(table: &mut Table<'_, '_>) -> Option<RunOnce> {
    let run_name = required_name(table, "name");
    let read = RunOnce {
        name: String::new(),
        organization: name(table, "organization"),
        schedule: table.word("schedule"),
        plugin: table.word("plugin"),
        objects: table.texts("objects").unwrap_or_default(),
        parameters: table.object("parameters").unwrap_or_default(),
    };
    if read.schedule.is_some() == read.plugin.is_some() {
        table.complain(
            "schedule",
            "a run is of a schedule or of a plugin: name one of them",
        );
    }
    Some(RunOnce {
        name: run_name?,
        ..read
    })
}

pub fn calendar(table: &mut Table<'_, '_>) -> Option<Calendar> {
    let name = required_name(table, "name");
    Calendar::read(name?, table)
}

fn object_type(table: &mut Table<'_, '_>, field: &str, rules: &Rules) -> Option<String> {
    table.parsed(field, |written| type_name(written, rules))
}

fn type_name(written: &str, rules: &Rules) -> Result<String, String> {
    let ours = rules.names.ours(written);
    let own = matches!(ours.as_str(), "run" | "task");
    if !is_type_name(&ours) {
        return Err(format!(
            "`{written}` is not an object type; write it as `hostname` or `ip_address`"
        ));
    }
    if !own && !rules.names.takes(&ours) {
        return Err(format!(
            "`{written}` is not a declared object type; known: {}",
            rules.names.declared.join(", ")
        ));
    }
    Ok(ours)
}

/// A query in its context; its diagnostics become complaints at the place of the field.
fn compiled(field: Field<'_, '_>, context: &Context<'_>) -> Option<Query> {
    let path = field.path().to_owned();
    let place = field.place();
    let mut field = field;
    let text = match &field.node().value {
        Value::Text(text) => text.clone(),
        Value::Bool(yes) => {
            let word = if *yes { "True" } else { "False" };
            field.complain_with_help("a query is a text", format!("write \"{word}\""));
            return None;
        }
        _ => {
            return {
                field.text();
                None
            };
        }
    };
    let complaints = field.complaints();
    let file = complaints.file().to_owned();
    match Query::compile(&text, context) {
        Ok(query) => {
            for warning in query.warnings() {
                complaints.push(Complaint::warning(
                    &file,
                    place,
                    path.clone(),
                    warning.to_string(),
                ));
            }
            Some(query)
        }
        Err(diagnostics) => {
            for diagnostic in diagnostics {
                complaints.push(Complaint::error(
                    &file,
                    place,
                    path.clone(),
                    diagnostic.to_string(),
                ));
            }
            None
        }
    }
}

pub fn schedule(table: &mut Table<'_, '_>, rules: &Rules) -> Option<Schedule> {
    let parameters = table.object("parameters").unwrap_or_default();
    let parameter_types = ParameterTypes::of(&parameters);
    let run_on: Vec<String> = table
        .one_or_many("run_on", |field| {
            field.parsed(|written| type_name(written, rules))
        })
        .unwrap_or_default();
    let operations = read_operations(table, &run_on);
    let plugin_schema = Schema::plugin();
    let plugins = if table.require("plugins") {
        let context = Context {
            parameters: &parameter_types,
            ..Context::new("plugins", &plugin_schema)
        };
        table
            .get("plugins")
            .and_then(|field| compiled(field, &context))
    } else {
        None
    };
    let mut when = BTreeMap::new();
    if run_on.is_empty() && table.node("when").is_some_and(|node| !node.is_null()) {
        table.complain(
            "when",
            "`when` asks about the trigger, and without `run_on` there is none",
        );
    }
    for object_type in &run_on {
        let schema = rules.schema(object_type);
        let context = Context {
            // What ends was not there before.
            previous: !ends(object_type),
            parameters: &parameter_types,
            ..Context::new("when", &schema)
        };
        if let Some(query) = table
            .get("when")
            .and_then(|field| compiled(field, &context))
        {
            when.insert(object_type.clone(), query);
        }
    }
    let input = input(table, rules, &run_on, &parameter_types);
    let recurrences = recurrences(table);
    let said =
        |table: &mut Table<'_, '_>, name| table.node(name).is_some_and(|node| !node.is_null());
    // What was written and could not be read has been complained about already.
    if !said(table, "recurrences") && !said(table, "run_on") {
        table.complain(
            "recurrences",
            "nothing starts this schedule: it needs `recurrences`, or `run_on` with `operation`",
        );
    }
    let (timezone, _) = read_zone(table);
    let (starts_at, ends_at) = (table.moment("starts_at"), table.moment("ends_at"));
    if starts_at.is_some() && ends_at.is_some() && ends_at < starts_at {
        table.complain("ends_at", "the schedule ends before it starts");
    }
    let calendars = table.texts("calendars").unwrap_or_default();
    if !calendars.is_empty() && !said(table, "recurrences") {
        without_effect(table, "calendars", true);
    }
    let organization = name(table, "organization");
    let target = table.word("target");
    if target.is_some() && organization.is_none() {
        table.complain(
            "target",
            "a target belongs to one organisation: set `organization` too",
        );
    }
    let join = join(table, &run_on, &operations);
    let overlap = table.one_of("overlap", &OVERLAP).unwrap_or_default();
    Some(Schedule {
        id: String::new(),
        name: name(table, "name").unwrap_or_default(),
        organization,
        enabled: table.bool("enabled").unwrap_or(true),
        paused: false,
        revision: 0,
        recurrences,
        timezone,
        calendars,
        starts_at,
        ends_at,
        run_on,
        operations,
        when,
        join,
        target,
        overlap,
        manual_supersedes: table
            .one_of("manual_supersedes", &MANUAL_SUPERSEDES)
            .unwrap_or(true),
        missed: table.one_of("missed", &MISSED).unwrap_or_default(),
        catchup_window: table
            .span("catchup_window")
            .unwrap_or(Span::seconds(86_400)),
        catchup_max: table.int_in("catchup_max", 1..=100_000).unwrap_or(100),
        spread: table.span("spread").unwrap_or(Span::ZERO),
        complete_when: table
            .one_of("complete_when", &COMPLETE_WHEN)
            .unwrap_or_default(),
        priority: table.int_in("priority", 0..=1_000_000_000),
        grace: table.span("grace"),
        timeouts: timeouts(table),
        retry: retry(table),
        parameters,
        created_at: Moment::EPOCH,
        // Last, so that everything else has been looked at where one of them is wrong.
        plugins: plugins?,
        input: input?,
    })
}

/// Runs and tasks come from here, and all that happens to them is that they end.
fn ends(noun: &str) -> bool {
    matches!(noun, "run" | "task")
}

fn read_operations(table: &mut Table<'_, '_>, run_on: &[String]) -> Vec<Operation> {
    let written = operations(table, "operation");
    match (written, run_on.is_empty()) {
        (Some(_), true) => {
            let place = table.place();
            let file = table.complaints().file().to_owned();
            table.complaints().push(Complaint::warning(
                &file,
                place,
                "operation",
                "`operation` has no effect without `run_on`",
            ));
            Vec::new()
        }
        (Some(written), false) => {
            let finished = written.contains(&Operation::Finished);
            let others = written.iter().any(|word| *word != Operation::Finished);
            if finished && !run_on.iter().any(|name| ends(name)) {
                table.complain(
                    "operation",
                    "only runs and tasks finish: `run_on: run` or `run_on: task`",
                );
            }
            if run_on.iter().any(|name| ends(name)) && !finished {
                table.complain(
                    "operation",
                    "of runs and tasks only their end sets something off: `operation: finished`",
                );
            }
            if others && run_on.iter().all(|name| ends(name)) && finished {
                table.complain(
                    "operation",
                    "runs and tasks are not created, updated or deleted here: `operation: finished` alone",
                );
            }
            written
        }
        (None, true) => Vec::new(),
        (None, false) if run_on.iter().all(|name| ends(name)) => vec![Operation::Finished],
        (None, false) => {
            table.complain(
                "operation",
                "`run_on` needs an `operation`: created, updated or deleted, or a list of them",
            );
            Vec::new()
        }
    }
}

fn input(
    table: &mut Table<'_, '_>,
    rules: &Rules,
    run_on: &[String],
    parameters: &ParameterTypes,
) -> Option<Input> {
    // One type of trigger has known fields; several have only what the first of them shares, so they are open.
    let trigger = match run_on {
        [] => None,
        [one] => Some(rules.schema(one)),
        _ => Some(Schema::open("trigger")),
    };
    let Some(field) = table.get("input") else {
        return Some(Input::Given);
    };
    let selections = field.entries(|key, field| {
        let object_type = match type_name(&key.name, rules) {
            Ok(name) if ends(&name) => {
                let mut field = field;
                field.complain("runs and tasks are no objects, so they are no inputs");
                return None;
            }
            Ok(name) => name,
            Err(message) => {
                let mut field = field;
                field.complain(message);
                return None;
            }
        };
        let schema = rules.schema(&object_type);
        let label = format!("input.{object_type}");
        let selection = match &field.node().value {
            Value::Null => Selection::All,
            Value::Table(_) => {
                let mut table = field.table()?;
                let set = table.require("set").then(|| table.word("set"))?;
                table.finish();
                Selection::Set(set?)
            }
            _ => {
                let context = Context {
                    trigger: trigger.as_ref(),
                    previous: trigger.is_some() && !run_on.iter().all(|name| ends(name)),
                    parameters,
                    ..Context::new(&label, &schema)
                };
                Selection::Query(Box::new(compiled(field, &context)?))
            }
        };
        Some((object_type, selection))
    })?;
    if selections.is_empty() {
        // `{}` is the triggering object too; and where something was complained about, nothing is made of it.
        return Some(Input::Given);
    }
    Some(Input::Selected(selections.into_iter().collect()))
}

/// So many files make one task, at most.
pub const MOST_JOINED: usize = 16;

/// The plugins whose newest files of one object are the inputs of one task.
fn join(table: &mut Table<'_, '_>, run_on: &[String], operations: &[Operation]) -> Vec<String> {
    let mut named: Vec<String> = Vec::new();
    let Some(field) = table.get("join") else {
        return named;
    };
    field.one_or_many(|item| {
        item.parsed(|plugin| {
            if plugin.trim().is_empty() || plugin.len() > LONGEST {
                return Err(format!(
                    "expected the id of a plugin, up to {LONGEST} bytes"
                ));
            }
            if named.iter().any(|known| known == plugin) {
                return Err(format!(
                    "`{plugin}` is named twice; of each plugin one file is joined, the newest"
                ));
            }
            if named.len() == MOST_JOINED {
                return Err(format!(
                    "{MOST_JOINED} plugins are the most that are joined"
                ));
            }
            named.push(plugin.to_owned());
            Ok(())
        })
    });
    if named.is_empty() {
        return named;
    }
    if operations.contains(&Operation::Deleted) {
        table.complain(
            "operation",
            "a file that is deleted completes no join: `operation: created`, or updated, or both",
        );
    }
    if run_on != [FILE] {
        table.complain(
            "join",
            "`join` brings files together, so it needs `run_on: file` and nothing else there",
        );
    }
    let ends_it = [
        (
            "recurrences",
            "a file that comes completes a join, and the clock brings none: leave out `recurrences` or `join`",
        ),
        (
            "input",
            "the files that `join` names are the inputs: leave out `input`",
        ),
        (
            "target",
            "what files are joined for is the object that they were made of: leave out `target`",
        ),
    ];
    for (other, why) in ends_it {
        let said = table.node(other).is_some_and(|node| match &node.value {
            Value::Null => false,
            // `{}` is the same as nothing.
            Value::Table(entries) => !entries.is_empty(),
            _ => true,
        });
        if said {
            table.complain(other, why);
        }
    }
    named
}

fn recurrences(table: &mut Table<'_, '_>) -> Vec<Recurrence> {
    table
        .one_or_many("recurrences", Recurrence::read)
        .unwrap_or_default()
}

fn timeouts(table: &mut Table<'_, '_>) -> SaidTimeouts {
    let Some(mut table) = table.table("timeouts") else {
        return SaidTimeouts::default();
    };
    let said = SaidTimeouts {
        queue: table.span("queue"),
        heartbeat: table.span("heartbeat"),
        run: table.span("run"),
        task: table.span("task"),
    };
    table.finish();
    said
}

fn retry(table: &mut Table<'_, '_>) -> SaidRetry {
    let Some(mut table) = table.table("retry") else {
        return SaidRetry::default();
    };
    let said = SaidRetry {
        max: table.int_in("max", 1..=1000),
        first: table.span("first"),
        cap: table.span("cap"),
        declines: table.int_in("declines", 1..=100_000),
    };
    table.finish();
    said
}

fn limits(table: &mut Table<'_, '_>) -> Vec<Limit> {
    table.one_or_many("limits", limit).unwrap_or_default()
}

fn limit(field: Field<'_, '_>) -> Option<Limit> {
    let mut table = field.table()?;
    let limit = Limit {
        concurrency: table.int_in("concurrency", 1..=1_000_000),
        rate: table.parsed("rate", rate),
        per: table.one_of("per", &PER).unwrap_or_default(),
    };
    table.finish();
    Some(limit)
}

/// Reads `10/s` and `100/1h`.
fn rate(text: &str) -> Result<(i64, Span), String> {
    let wrong = || format!("`{text}` is not a rate; write it as \"10/s\" or \"100/1h\"");
    let (count, span) = text.split_once('/').ok_or_else(wrong)?;
    let count: i64 = count.trim().parse().map_err(|_| wrong())?;
    let span = span.trim();
    let span = if span.starts_with(|c: char| c.is_ascii_digit()) {
        Span::parse(span)
    } else {
        Span::parse(&format!("1{span}"))
    }
    .map_err(|_| wrong())?;
    if count < 1 || span <= Span::ZERO {
        return Err(wrong());
    }
    Ok((count, span))
}

/// `daily-hostname-ip_address`: what starts it, then what it is for.
pub fn name_from_content(table: &mut Table<'_, '_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut words = |node: Option<&crate::document::Node>| {
        let Some(node) = node else { return };
        let mut push = |value: &Value| {
            if let Value::Text(text) = value {
                let plain: String = text
                    .chars()
                    .map(|c| {
                        if c.is_alphanumeric() || c == '_' {
                            c
                        } else {
                            '-'
                        }
                    })
                    .collect();
                let plain = plain.trim_matches('-').to_owned();
                if !plain.is_empty() {
                    parts.push(plain);
                }
            }
        };
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| push(&item.value)),
            Value::Table(entries) => entries
                .iter()
                .for_each(|(key, _)| push(&Value::Text(key.name.clone()))),
            other => push(other),
        }
    };
    words(table.node("recurrences"));
    words(table.node("run_on"));
    words(table.node("operation"));
    words(table.node("input"));
    if parts.is_empty() {
        "schedule".to_owned()
    } else {
        parts.join("-").chars().take(LONGEST / 4).collect()
    }
}
