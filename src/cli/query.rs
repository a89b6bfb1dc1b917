//! A query, asked of one object, of what is stored, or of many lines.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::output::{listing, note, print, print_json, warn, written};
use super::{Failure, Output, declare, door, rules};
use crate::answer::no_organization;
use crate::catalogue::Catalogue;
use crate::document::nearest;
use crate::ground::judged;
use crate::harmless;
use crate::moment::Moment;
use crate::object::Object;
use crate::query::narrow::narrow;
use crate::query::{
    Context, Diagnostic, Facts, Fields, Nowhere, ParameterTypes, Query, Schema, World,
};
use crate::rules::Rules;
use crate::settings::Settings;
use crate::wire::LARGEST;

#[derive(Debug, Args)]
pub struct Ask {
    /// The query
    #[arg(required_unless_present = "batch")]
    query: Option<String>,
    /// A file with the object, as a JSON table of its fields; `-` is standard input
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// The object's type: a declared one, or `plugin`, `file`, `run`, `task`; without it every field is taken as it is
    #[arg(long = "type", value_name = "TYPE")]
    object_type: Option<String>,
    /// A file with the triggering object, for `trigger.…`
    #[arg(long, value_name = "FILE")]
    trigger: Option<PathBuf>,
    /// The type of the triggering object
    #[arg(long, value_name = "TYPE", requires = "trigger")]
    trigger_type: Option<String>,
    /// A value for `$NAME`; JSON, or else a text
    #[arg(long = "param", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// What `now()` is
    #[arg(long, value_name = "INSTANT")]
    now: Option<String>,
    /// Ask it of everything that is stored, and list what matches
    #[arg(long, value_enum, conflicts_with_all = ["object", "batch"])]
    against: Option<Against>,
    /// Only objects of this organisation
    #[arg(long, value_name = "ID", requires = "against")]
    organization: Option<String>,
    /// Show at most so many
    #[arg(long, default_value_t = 50, requires = "against")]
    limit: usize,
    /// Read JSON Lines from standard input, one question a line; write one answer a line
    #[arg(long, conflicts_with_all = ["query", "object"])]
    batch: bool,
    /// Show the tree with each clause's value and outcome
    #[arg(long, requires = "object")]
    explain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Against {
    Objects,
    Plugins,
}

/// A query that cannot be used, as it is shown.
fn invalid(diagnostics: &[Diagnostic], output: Output) -> Failure {
    match output {
        Output::Json => {
            print_json(&json!({
                "valid": false,
                "error": diagnostics.first().map(Diagnostic::to_json),
                "errors": diagnostics.iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
            }));
            Failure::Usage(String::new())
        }
        Output::Table => {
            let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            eprintln!("{}", harmless::lines(&shown.join("\n")));
            Failure::Usage(String::new())
        }
    }
}

/// What may be asked about a type; refused where types are declared and this is none of them.
fn schema_of(rules: &Rules, written: Option<&str>) -> Result<Schema, String> {
    let Some(written) = written else {
        return Ok(Schema::open("object"));
    };
    let name = rules.names.ours(written);
    match name.as_str() {
        "plugin" => return Ok(Schema::plugin()),
        "run" | "task" => return Ok(rules.schema(&name)),
        _ if rules.names.takes(&name) => return Ok(rules.schema(&name)),
        _ => {}
    }
    let declared = rules.names.declared.iter().map(String::as_str);
    let near = nearest(&name, declared);
    let meant = match near.as_slice() {
        [] => format!("known: {}", rules.names.declared.join(", ")),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Err(format!(
        "`{written}` is not a declared object type; {meant}"
    ))
}

/// `name=value`, where the value is JSON or else a text.
fn parameters(pairs: &[String]) -> Result<Map<String, Value>, Failure> {
    pairs
        .iter()
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| Failure::Usage(format!("--param: `{pair}` is not NAME=VALUE")))?;
            let value =
                serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
            Ok((name.to_owned(), value))
        })
        .collect()
}

fn table_in(file: &Path, what: &str) -> Result<Map<String, Value>, Failure> {
    let bytes = declare::bytes_of(file)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::Usage(format!(
            "{what} {}: expected a JSON table of fields, such as {{\"name\": \"www.example.com\"}}",
            file.display()
        ))),
        Err(error) => Err(Failure::Usage(format!(
            "{what} {}: {error}",
            file.display()
        ))),
    }
}

fn instant(text: Option<&str>) -> Result<Moment, Failure> {
    match text {
        None => Ok(Moment::now()),
        Some(text) => {
            Moment::parse(text).map_err(|message| Failure::Usage(format!("--now: {message}")))
        }
    }
}

pub async fn run(settings: &Settings, ask: &Ask, output: Output) -> Result<(), Failure> {
    let rules = rules::rules(settings).map_err(Failure::Wrong)?;
    if ask.batch {
        return batch(&rules);
    }
    let text = ask.query.as_deref().unwrap_or_default();
    let parameters = parameters(&ask.parameters)?;
    let types = ParameterTypes::of(&parameters);
    let trigger = ask
        .trigger
        .as_ref()
        .map(|file| table_in(file, "--trigger"))
        .transpose()?;
    let trigger_schema = trigger
        .as_ref()
        .map(|_| schema_of(&rules, ask.trigger_type.as_deref()))
        .transpose()
        .map_err(|message| Failure::Usage(format!("--trigger-type: {message}")))?;
    let object_type = match (ask.against, &ask.object_type) {
        (Some(Against::Plugins), _) => Some("plugin"),
        (_, named) => named.as_deref(),
    };
    let schema = schema_of(&rules, object_type)
        .map_err(|message| Failure::Usage(format!("--type: {message}")))?;
    let context = Context {
        trigger: trigger_schema.as_ref(),
        previous: trigger_schema.is_some(),
        parameters: &types,
        ..Context::new("query", &schema)
    };
    let query =
        Query::compile(text, &context).map_err(|diagnostics| invalid(&diagnostics, output))?;
    for warning in query.warnings() {
        warn(&warning.to_string());
    }
    let now = instant(ask.now.as_deref())?;
    let asked = Asked {
        query,
        trigger,
        parameters,
        now,
    };
    match (ask.against, &ask.object) {
        (Some(against), _) => asked.against(settings, ask, against, output).await,
        (None, Some(file)) => {
            let object = table_in(file, "--object")?;
            asked.of(&object, ask.explain, output)
        }
        (None, None) => {
            match output {
                Output::Json => print_json(
                    &json!({"valid": true, "matches": null, "canonical": asked.query.canonical()}),
                ),
                Output::Table => print(&format!("valid: {}", asked.query.canonical())),
            }
            Ok(())
        }
    }
}

/// A query with everything it is asked with.
struct Asked {
    query: Query,
    trigger: Option<Map<String, Value>>,
    parameters: Map<String, Value>,
    now: Moment,
}

impl Asked {
    fn facts<'a>(&'a self, subject: &'a dyn Fields, world: &'a dyn World) -> Facts<'a> {
        Facts {
            subject,
            trigger: self.trigger.as_ref().map(|trigger| trigger as &dyn Fields),
            previous: None,
            parameters: &self.parameters,
            now: self.now,
            world,
        }
    }

    fn of(
        &self,
        object: &Map<String, Value>,
        explain: bool,
        output: Output,
    ) -> Result<(), Failure> {
        if self.query.needs_relations() {
            note(
                "no store was read, so a related object counts only where it stands in the object itself; a key leads nowhere",
            );
        }
        let facts = self.facts(object, &Nowhere);
        let answer = self
            .query
            .answers(&facts)
            .map_err(|costly| Failure::Found(costly.to_string()))?;
        let explanation = explain.then(|| self.query.explain(&facts));
        match output {
            Output::Json => print_json(&json!({
                "valid": true, "matches": answer,
                "explanation": explanation.map(|explanation| explanation.to_json()),
            })),
            Output::Table => {
                print(if answer { "yes" } else { "no" });
                if let Some(explanation) = explanation {
                    print(&explanation.to_string());
                }
            }
        }
        if answer {
            Ok(())
        } else {
            Err(Failure::Found(String::new()))
        }
    }

    async fn against(
        &self,
        settings: &Settings,
        ask: &Ask,
        against: Against,
        output: Output,
    ) -> Result<(), Failure> {
        let ground = door::known(settings).await?;
        let catalogue = ground.catalogue();
        if let Some(organization) = &ask.organization
            && !catalogue.organizations.contains_key(organization)
        {
            let known = catalogue.organizations.keys().map(String::as_str);
            return Err(Failure::Refused(no_organization(organization, known)));
        }
        for object_type in self.query.histories().difference(&catalogue.historied) {
            note(&format!(
                "no schedule asks for the history of `{object_type}`, so it is not kept: such an object is judged as it is"
            ));
        }
        let started = Instant::now();
        let (columns, found, looked, costly): (&[&str], Vec<Map<String, Value>>, usize, usize) =
            match against {
                Against::Plugins => {
                    let found: Vec<Map<String, Value>> = catalogue
                        .plugins
                        .values()
                        .filter(|plugin| {
                            self.query
                                .answers(&self.facts(plugin.as_ref(), catalogue.as_ref()))
                                .unwrap_or(false)
                        })
                        .map(|plugin| {
                            [
                                ("plugin_id", json!(plugin.plugin_id)),
                                ("worker_type", json!(plugin.worker_type)),
                                ("scan_level", json!(plugin.scan_level)),
                            ]
                            .into_iter()
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect()
                        })
                        .collect();
                    (
                        &["plugin_id", "worker_type", "scan_level"],
                        found,
                        catalogue.plugins.len(),
                        0,
                    )
                }
                Against::Objects => {
                    let (found, looked, costly) =
                        self.objects(&ground.store, &catalogue, ask).await?;
                    (
                        &["organization", "object_type", "primary_key", "scan_level"],
                        found,
                        looked,
                        costly,
                    )
                }
            };
        let seconds = started.elapsed().as_secs_f64();
        let total = found.len();
        let shown: Vec<Map<String, Value>> = found.into_iter().take(ask.limit).collect();
        match output {
            Output::Json => print_json(&json!({
                "valid": true, "count": total, "looked_at": looked, "too_costly": costly, "seconds": seconds, "matches": shown,
            })),
            Output::Table => {
                if total > 0 {
                    let columns: Vec<String> =
                        columns.iter().map(|&column| column.to_owned()).collect();
                    print(&listing(&columns, &shown));
                }
                print(&format!(
                    "{total} {}; {looked} looked at, in {seconds:.3} s",
                    if total == 1 { "matches" } else { "match" }
                ));
                if costly > 0 {
                    print(&format!("{costly} were too costly to judge"));
                }
            }
        }
        ground.store.close().await;
        if total > 0 {
            Ok(())
        } else {
            Err(Failure::Found(String::new()))
        }
    }

    /// What matches among the live objects, page by page; how many were looked at; how many were too costly.
    async fn objects(
        &self,
        store: &crate::store::Store,
        catalogue: &Catalogue,
        ask: &Ask,
    ) -> Result<(Vec<Map<String, Value>>, usize, usize), Failure> {
        const PAGE: usize = 1000;
        let wanted = ask
            .object_type
            .as_ref()
            .map(|name| catalogue.rules.names.ours(name));
        let types: Vec<String> = match wanted {
            Some(name) => vec![name],
            None => store.count_objects().await?.into_keys().collect(),
        };
        let organizations: Vec<String> = match &ask.organization {
            Some(one) => vec![one.clone()],
            None => catalogue.organizations.keys().cloned().collect(),
        };
        let nothing = Object::default();
        let narrowed = narrow(&self.query, &self.facts(&nothing, catalogue));
        let (mut found, mut looked, mut costly) = (Vec::new(), 0, 0);
        for organization in &organizations {
            for object_type in &types {
                let mut reading = store.reading(organization, object_type, "", narrowed.clone());
                loop {
                    let page = reading.page(PAGE).await?;
                    if page.is_empty() {
                        break;
                    }
                    looked += page.len();
                    let ask = |object: &Object, world: &dyn World| {
                        self.query.answers(&self.facts(object, world))
                    };
                    let (taken, refused) =
                        judged(store, catalogue, organization, self.now, page, ask).await?;
                    found.extend(taken.iter().map(Object::snapshot));
                    costly += usize::try_from(refused).unwrap_or(0);
                }
            }
        }
        Ok((found, looked, costly))
    }
}

/// One answer a line, in the order of the questions. A line that is no question gets an answer that says so.
fn batch(rules: &Rules) -> Result<(), Failure> {
    let mut stdin = std::io::stdin().lock();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more tells a line that is too long from one that just fits.
        let read = (&mut stdin)
            .take(LARGEST as u64 + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let whole = line.last() == Some(&b'\n');
        let answer = if line.len() > LARGEST && !whole {
            skip_line(&mut stdin)?;
            let message = format!("a line has at most {LARGEST} bytes");
            refused("too_large", message)
        } else if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        } else {
            answer(rules, &line)
        };
        if !written(writeln!(out, "{answer}")) {
            return Ok(());
        }
    }
    written(out.flush());
    Ok(())
}

/// Leaves out what is left of a line, however long it is.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let (used, ended) = match input.fill_buf()? {
            [] => return Ok(()),
            bytes => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (bytes.len(), false),
            },
        };
        input.consume(used);
        if ended {
            return Ok(());
        }
    }
}

fn refused(code: &str, message: impl Into<String>) -> Value {
    json!({"valid": false, "error": {"code": code, "message": message.into()}})
}

fn answer(rules: &Rules, line: &[u8]) -> Value {
    let mut question = match serde_json::from_slice(line) {
        Ok(Value::Object(question)) => question,
        Ok(_) => {
            return refused(
                "not_a_question",
                "a line is a table such as {\"query\": \"name = 'x'\", \"object\": {…}}",
            );
        }
        Err(error) => return refused("not_json", error.to_string()),
    };
    let mut table = |name: &str| match question.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(refused("wrong_type", format!("`{name}` must be a table"))),
    };
    let (object, trigger, parameters) = match (table("object"), table("trigger"), table("params")) {
        (Ok(object), Ok(trigger), Ok(parameters)) => {
            (object, trigger, parameters.unwrap_or_default())
        }
        (Err(refusal), ..) | (_, Err(refusal), _) | (.., Err(refusal)) => return refusal,
    };
    for name in ["query", "type", "trigger_type", "now"] {
        match question.get(name) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(_) => return refused("wrong_type", format!("`{name}` must be a text")),
        }
    }
    let text = |name: &str| question.get(name).and_then(Value::as_str);
    let Some(query) = text("query") else {
        return refused("missing_field", "`query` is missing, and it is a text");
    };
    let now = match text("now").map(Moment::parse) {
        None => Moment::now(),
        Some(Ok(now)) => now,
        Some(Err(message)) => return refused("bad_value", format!("now: {message}")),
    };
    let named = |field: &str| {
        schema_of(rules, text(field))
            .map_err(|message| refused("unknown_type", format!("{field}: {message}")))
    };
    let schema = match named("type") {
        Ok(schema) => schema,
        Err(refusal) => return refusal,
    };
    let has_trigger = trigger.is_some() || text("trigger_type").is_some();
    let trigger_schema = match has_trigger.then(|| named("trigger_type")).transpose() {
        Ok(schema) => schema,
        Err(refusal) => return refusal,
    };
    let types = ParameterTypes::of(&parameters);
    let context = Context {
        trigger: trigger_schema.as_ref(),
        previous: trigger_schema.is_some(),
        parameters: &types,
        ..Context::new("query", &schema)
    };
    let query = match Query::compile(query, &context) {
        Ok(query) => query,
        Err(diagnostics) => {
            return json!({"valid": false, "error": diagnostics.first().map(Diagnostic::to_json)});
        }
    };
    let Some(object) = object else {
        return json!({"valid": true, "matches": null});
    };
    let asked = Asked {
        query,
        trigger,
        parameters,
        now,
    };
    match asked.query.answers(&asked.facts(&object, &Nowhere)) {
        Ok(matches) => json!({"valid": true, "matches": matches}),
        Err(costly) => {
            json!({"valid": true, "matches": null, "error": {"code": "query_too_costly", "message": costly.to_string()}})
        }
    }
}
