//! Lists: what their rows have, and which of them somebody wants to see.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::document::Table;
use crate::moment::Moment;
use crate::query::narrow::{Narrow, Place, Probe, narrow};
use crate::query::{Context, Facts, Nowhere, Query, Schema};
use crate::run::RunState;
use crate::task::TaskState;
use crate::wire::Flaw;

/// A noun whose rows are listed, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Run,
    Task,
    Attempt,
    DeadLetter,
}

impl Rows {
    /// As the store calls them.
    pub fn noun(self) -> &'static str {
        match self {
            Rows::Run => "run",
            Rows::Task => "task",
            Rows::Attempt => "attempt",
            Rows::DeadLetter => "dead-letter",
        }
    }

    /// Under which name a reply holds them.
    pub fn plural(self) -> &'static str {
        match self {
            Rows::Run => "runs",
            Rows::Task => "tasks",
            Rows::Attempt => "attempts",
            Rows::DeadLetter => "dead_letters",
        }
    }

    pub fn of(noun: &str) -> Option<Rows> {
        [Rows::Run, Rows::Task, Rows::Attempt, Rows::DeadLetter]
            .into_iter()
            .find(|rows| rows.noun() == noun)
    }

    /// What `where` may ask, as type words.
    pub fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Rows::Run => &[
                ("id", "text"),
                ("schedule", "text"),
                ("schedule_id", "text"),
                ("organization", "text"),
                ("cause", "text"),
                ("target", "text?"),
                ("state", "text"),
                ("reason", "text?"),
                ("blocked_by", "text?"),
                ("position", "text?"),
                ("parent_id", "text?"),
                ("request_id", "text?"),
                ("total", "int"),
                ("succeeded", "int"),
                ("failed", "int"),
                ("cancelled", "int"),
                ("scheduled_for", "datetime"),
                ("created_at", "datetime"),
                ("started_at", "datetime?"),
                ("finished_at", "datetime?"),
            ],
            Rows::Task => &[
                ("id", "text"),
                ("run_id", "text"),
                ("schedule", "text?"),
                ("organization", "text"),
                ("plugin_id", "text"),
                ("worker_type", "text"),
                ("queue", "text"),
                ("state", "text"),
                ("reason", "text?"),
                ("cause", "text"),
                ("priority", "int"),
                ("attempt", "int"),
                ("spent", "int"),
                ("declines", "int"),
                ("created_at", "datetime"),
                ("scheduled_for", "datetime"),
                ("not_before", "datetime?"),
                ("finished_at", "datetime?"),
                ("expires_at", "datetime?"),
                ("deduplication_key", "text?"),
                ("shared_from", "text?"),
                (
                    "inputs",
                    "list({object_type = \"text\", primary_key = \"text\"})",
                ),
            ],
            Rows::Attempt => &[
                ("task_id", "text"),
                ("number", "int"),
                ("schedule", "text?"),
                ("organization", "text"),
                ("plugin_id", "text"),
                ("worker", "text?"),
                ("outcome", "text?"),
                ("message", "text?"),
                ("stage", "text?"),
                ("log_ref", "text?"),
                ("done", "int?"),
                ("total", "int?"),
                ("exit_code", "int?"),
                ("scheduled_for", "datetime"),
                ("offered_at", "datetime"),
                ("published_at", "datetime?"),
                ("accepted_at", "datetime?"),
                ("started_at", "datetime?"),
                ("beat_at", "datetime?"),
                ("ended_at", "datetime?"),
            ],
            Rows::DeadLetter => &[
                ("id", "text"),
                ("kind", "text"),
                ("organization", "text?"),
                ("plugin_id", "text?"),
                ("intake", "text"),
                ("reason", "text?"),
                ("message", "text?"),
                ("count", "int"),
                ("first_seen", "datetime"),
                ("last_seen", "datetime?"),
            ],
        }
    }

    /// What a column can hold, where that is one of a few words.
    pub fn words(self, column: &str) -> Option<Vec<&'static str>> {
        Some(match (self, column) {
            (Rows::Run, "state") => RunState::ALL.iter().map(|(word, _)| *word).collect(),
            (Rows::Task, "state") => TaskState::ALL.iter().map(|(word, _)| *word).collect(),
            (Rows::Attempt, "outcome") => OUTCOMES.to_vec(),
            (Rows::DeadLetter, "reason") => letter_reasons().collect(),
            (Rows::DeadLetter, "kind") => vec!["message", "task"],
            _ => return None,
        })
    }

    /// Columns by which the store can leave rows out at once.
    fn texts(self) -> impl Iterator<Item = &'static str> {
        let columns = self.columns().iter();
        columns.filter_map(|(name, word)| word.starts_with("text").then_some(*name))
    }
}

/// Which rows of a noun.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    pub rows: Rows,
    pub filter: Filter,
    pub limit: i64,
    pub offset: i64,
    /// The last row of the page before.
    pub after: String,
}

/// What rows must be like.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    query: Option<Query>,
    /// Columns that must have one of these values beside.
    said: BTreeMap<String, Vec<String>>,
}

/// By these columns somebody looks for what he knows of.
const SOUGHT_BY: [&str; 12] = [
    "id",
    "run_id",
    "task_id",
    "schedule_id",
    "request_id",
    "parent_id",
    "blocked_by",
    "organization",
    "schedule",
    "target",
    "inputs",
    "worker",
];

impl Listing {
    /// Whether it asks for particular rows, and not for what there is.
    pub fn seeks(&self) -> bool {
        self.filter.seeks()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        let text = |filter: &Filter| filter.query.as_ref().map(|query| query.text().to_owned());
        text(self) == text(other) && self.said == other.said
    }
}

impl Filter {
    /// A condition in the query language over the columns of the rows.
    pub fn asking(rows: Rows, text: &str) -> Result<Filter, String> {
        let schema = Schema::of_rows(rows.noun(), rows.columns());
        let context = Context::new("where", &schema);
        let query = Query::compile(text, &context).map_err(|found| {
            let said: Vec<String> = found.iter().map(ToString::to_string).collect();
            said.join("\n")
        })?;
        Ok(Filter {
            query: Some(query),
            said: BTreeMap::new(),
        })
    }

    /// Columns that must have one of these values: what the store need not bring at all.
    pub fn only(&self, rows: Rows, now: Moment) -> BTreeMap<String, Vec<String>> {
        let mut only = BTreeMap::new();
        if let Some(query) = &self.query {
            let nothing = Map::new();
            let narrow = narrow(query, &facts(&nothing, &nothing, now));
            pinned(&narrow, rows, &mut only);
        }
        for (column, values) in &self.said {
            let both = only.get(column).map(|pinned| {
                let both = pinned.iter().filter(|value| values.contains(value));
                both.cloned().collect::<Vec<String>>()
            });
            // Where no value is in both, the query says no to every row.
            let values = both.filter(|both| !both.is_empty());
            let values = values.unwrap_or_else(|| self.said[column].clone());
            only.insert(column.clone(), values);
        }
        only
    }

    /// The same, of those alone that have this value.
    pub fn with(self, column: &str, value: &str) -> Filter {
        self.among(column, &[value])
    }

    /// The same, of those alone that have one of these values.
    pub fn among(mut self, column: &str, values: &[&str]) -> Filter {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.said.insert(column.to_owned(), values);
        self
    }

    /// Whether it asks for particular rows: by ids, by names, by whose they are.
    fn seeks(&self) -> bool {
        let asked = self.query.as_ref().map(Query::canonical);
        let asked = asked.unwrap_or_default();
        let words = asked.split(|c: char| !c.is_alphanumeric() && c != '_');
        let said = self.said.keys().map(String::as_str);
        words.chain(said).any(|word| SOUGHT_BY.contains(&word))
    }

    /// Whether it asks more than the store can tell by itself.
    pub fn judges(&self) -> bool {
        self.query.is_some()
    }

    /// Whether a row is wanted; one that costs too much to look at is not.
    pub fn wants(&self, row: &Map<String, Value>, now: Moment) -> bool {
        let nothing = Map::new();
        self.query
            .as_ref()
            .is_none_or(|query| query.answers(&facts(row, &nothing, now)).unwrap_or(false))
    }
}

fn facts<'a>(
    row: &'a Map<String, Value>,
    parameters: &'a Map<String, Value>,
    now: Moment,
) -> Facts<'a> {
    Facts {
        subject: row,
        trigger: None,
        previous: None,
        parameters,
        now,
        world: &Nowhere,
    }
}

/// Columns that a condition pins to some values: what the store need not bring at all.
fn pinned(narrow: &Narrow, rows: Rows, only: &mut BTreeMap<String, Vec<String>>) {
    match narrow {
        Narrow::And(all) => {
            for one in all {
                pinned(one, rows, only);
            }
        }
        Narrow::Probe {
            place,
            probe,
            negated: false,
        } => {
            let column = match place {
                Place::Column(column) => column.name(),
                Place::Attribute(steps) => match steps.as_slice() {
                    [name] => name,
                    _ => return,
                },
            };
            let values: Vec<String> = match probe {
                Probe::Equals {
                    value: Value::String(value),
                    folded: false,
                } => vec![value.clone()],
                Probe::OneOf {
                    values,
                    folded: false,
                } if values.iter().all(Value::is_string) => values
                    .iter()
                    .filter_map(|value| value.as_str().map(str::to_owned))
                    .collect(),
                _ => return,
            };
            if rows.texts().any(|known| known == column) {
                only.entry(column.to_owned()).or_insert(values);
            }
        }
        _ => {}
    }
}

/// Reads what a page comes after: an id, with a number where it is an attempt's. The row itself may be gone by now.
pub fn position(text: &str) -> Result<String, String> {
    let (id, number) = text.split_once(':').unwrap_or((text, "0"));
    let known = uuid::Uuid::try_parse(id).is_ok_and(|read| read.to_string() == id);
    if known && number.parse::<u32>().is_ok() {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(60).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    Err(format!(
        "`{shown}{cut}` is no place in a list; give `next` of the page before, or the id of a row"
    ))
}

/// Reads what every list takes: `where`, `limit`, `after`, and columns by their names.
pub(super) fn listing(rows: Rows, table: &mut Table<'_, '_>, columns: &[&str]) -> Listing {
    let mut filter = filter(rows, table);
    for column in columns {
        let value = match rows.words(column) {
            None => table.word(column),
            Some(words) => {
                let known: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
                let given = table.node(column).is_some_and(|node| !node.is_null());
                let word = given.then(|| table.one_of(column, &known)).flatten();
                word.map(str::to_owned)
            }
        };
        if let Some(value) = value {
            filter = filter.with(column, &value);
        }
    }
    Listing {
        rows,
        filter,
        limit: table.int_in("limit", 1..=1000).unwrap_or(50),
        offset: table.int_in("offset", 0..=i64::MAX).unwrap_or(0),
        after: table.parsed("after", position).unwrap_or_default(),
    }
}

pub(super) fn filter(rows: Rows, table: &mut Table<'_, '_>) -> Filter {
    table
        .parsed("where", |text| Filter::asking(rows, text))
        .unwrap_or_default()
}

/// One thing by its id, or all that are like this; many at once only where somebody says `yes`.
#[derive(Clone, Debug, PartialEq)]
pub enum Which {
    Ids(Vec<String>),
    Like { filter: Filter, yes: bool },
}

impl Which {
    pub(super) fn seeks(&self) -> bool {
        match self {
            Which::Ids(_) => true,
            Which::Like { filter, .. } => filter.seeks(),
        }
    }
}

/// How an attempt can end.
const OUTCOMES: [&str; 14] = [
    "succeeded",
    "failed",
    "declined",
    "cancelled",
    "snoozed",
    "never_again",
    "expired",
    "silent",
    "timed_out",
    "superseded",
    "marked",
    "recalled",
    "withdrawn",
    "undeliverable",
];

/// Why a message or a task is a dead letter, beside what is wrong with a message in itself.
const LETTER_REASONS: [&str; 8] = [
    "other_type",
    "unknown_organization",
    "unsigned",
    "store_refused",
    "out_of_attempts",
    "timed_out",
    "silent",
    "expired",
];

/// Every reason that a dead letter can have.
pub fn letter_reasons() -> impl Iterator<Item = &'static str> {
    let flaws = Flaw::ALL.iter().map(|(word, _)| *word);
    flaws.chain(LETTER_REASONS)
}

/// Reads which ones: `field` names one or several, `where` asks for them, `all` takes them all.
pub(super) fn which(rows: Rows, field: &str, table: &mut Table<'_, '_>) -> Option<Which> {
    let ids = table.one_or_many(field, |field| field.word());
    let asked = table.node("where").is_some_and(|node| !node.is_null());
    let filter = filter(rows, table);
    let says = rows == Rows::DeadLetter && table.node("reason").is_some_and(|node| !node.is_null());
    let reason = match rows {
        Rows::DeadLetter => {
            let known: Vec<(&str, &str)> = letter_reasons().map(|word| (word, word)).collect();
            table.one_of("reason", &known).map(str::to_owned)
        }
        _ => None,
    };
    let all = table.bool("all").unwrap_or(false);
    let yes = table.bool("yes").unwrap_or(false);
    let ways = [ids.is_some(), asked, says, all];
    if ways.iter().filter(|way| **way).count() != 1 {
        let reason = if rows == Rows::DeadLetter {
            ", `reason`"
        } else {
            ""
        };
        table.complain(
            field,
            format!("say which in one way: `{field}`, `where`{reason} or `all`"),
        );
        return None;
    }
    if says && reason.is_none() {
        return None;
    }
    Some(match (ids, reason) {
        (Some(ids), _) => Which::Ids(ids),
        (None, Some(reason)) => Which::Like {
            filter: filter.with("reason", &reason),
            yes,
        },
        (None, None) => Which::Like { filter, yes },
    })
}
