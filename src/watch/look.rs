//! What is fetched from the store: a page of what is looked at, by the code that answers commands. Nothing here writes.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::screen::{Look, Tab, Wanted};
use super::words::{long, text};
use crate::answer::{answer, rows_at_a_glance};
use crate::catalogue::Catalogue;
use crate::command::{Filter, Listing, Rows};
use crate::document::nearest;
use crate::ground::Ground;
use crate::moment::{Moment, Span};
use crate::query::{Context, Facts, Nowhere, Query, Schema};
use crate::recurrence::{Anchor, Last, Recurrence};
use crate::schedule::{Input, Schedule, Selection};
use crate::store::{Page, RunFilter, StoreError};
use crate::trigger::Scheduled;
use crate::wire::Requested;

/// A replica that has been silent for longer is not well; `muster health` says the same.
pub(super) const SILENT: Span = Span::seconds(30);
/// Newest runs among which the last one of each schedule is looked for.
const NEWEST: i64 = 10_000;
/// Attempts of a task that are shown, the newest.
const ATTEMPTS: usize = 20;
/// Instants of a schedule that are shown.
const INSTANTS: usize = 5;
/// Of each class of a queue, the oldest that wait.
const OLDEST: i64 = 3;
/// What is shown of a text that may be long: its end for logs, its beginning for bodies.
const TEXT: usize = 8000;

/// What may be asked of schedules, as type words.
const SCHEDULE_COLUMNS: [(&str, &str); 7] = [
    ("schedule_id", "text"),
    ("name", "text"),
    ("organization", "text?"),
    ("enabled", "bool"),
    ("paused", "bool"),
    ("run_on", "list(text)"),
    ("timezone", "text"),
];

/// What may be asked in the filter of a tab.
pub(super) fn columns(tab: Tab) -> Vec<&'static str> {
    let columns = match tab.rows() {
        Some(rows) => rows.columns(),
        None => &SCHEDULE_COLUMNS[..],
    };
    columns.iter().map(|(name, _)| *name).collect()
}

/// Whether a filter can be read; else what is wrong with it.
pub(super) fn readable(tab: Tab, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    match tab.rows() {
        Some(rows) => Filter::asking(rows, text).map(|_| ()),
        None if tab == Tab::Schedules => of_schedules(text).map(|_| ()),
        None => Err(format!("{} have no filter", tab.title())),
    }
}

fn of_schedules(text: &str) -> Result<Query, String> {
    let schema = Schema::of_rows("schedule", &SCHEDULE_COLUMNS);
    Query::compile(text, &Context::new("filter", &schema)).map_err(|found| {
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        said.join("\n")
    })
}

/// A list of schedules in the order of their names, with what it was made for.
struct ByName {
    revision: i64,
    organization: Option<String>,
    filter: String,
    schedules: Vec<Arc<Scheduled>>,
}

/// Whoever looks at the store for the screen.
pub struct Looker {
    ground: Arc<Ground>,
    by_name: Option<ByName>,
    organizations: (i64, Arc<Vec<String>>),
    /// The last run of schedules that have not run lately, by organisation and schedule.
    lasts: HashMap<(String, String), Option<String>>,
    /// A dead letter stays as it is, and may be large.
    letter: Option<(String, Map<String, Value>)>,
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn maps(value: &Value) -> Vec<Map<String, Value>> {
    let rows = value.as_array().into_iter().flatten();
    rows.filter_map(|row| row.as_object().cloned()).collect()
}

impl Looker {
    pub fn new(ground: Arc<Ground>) -> Looker {
        Looker {
            ground,
            by_name: None,
            organizations: (0, Arc::default()),
            lasts: HashMap::new(),
            letter: None,
        }
    }

    /// Fetches what is wanted.
    pub async fn look(&mut self, wanted: &Wanted) -> Result<Look, StoreError> {
        if let Some(theirs) = self.ground.store.clock().await? {
            self.ground.clock.follow(theirs);
        }
        let revision = self.ground.store.catalogue_revision().await?;
        let catalogue = self.ground.catalogue_at(revision).await?;
        if self.organizations.0 != catalogue.revision {
            let known = catalogue.organizations.keys().cloned().collect();
            self.organizations = (catalogue.revision, Arc::new(known));
        }
        let mut look = Look {
            wanted: wanted.clone(),
            now: self.ground.clock.now(),
            organizations: self.organizations.1.clone(),
            ..Look::default()
        };
        let unknown = wanted.organization.as_ref();
        if let Some(id) = unknown.filter(|id| !catalogue.organizations.contains_key(*id)) {
            look.details = Some(Err(format!("no organisation `{id}` is known")));
            return Ok(look);
        }
        match &wanted.open {
            Some(id) => {
                look.details = Some(self.details(&mut look, id, &catalogue).await?);
            }
            None => self.list(&mut look, &catalogue).await?,
        }
        Ok(look)
    }

    async fn list(&mut self, look: &mut Look, catalogue: &Catalogue) -> Result<(), StoreError> {
        match look.wanted.tab {
            Tab::Queues => {
                let asked = self.ask(&look.wanted, "queue.list", json!({})).await?;
                let told = asked.unwrap_or_default();
                page(look, maps(told.get("queues").unwrap_or(&Value::Null)));
                look.offers_made = self.ground.store.offers_made().await?;
            }
            Tab::Runs | Tab::Tasks | Tab::DeadLetters => self.rows(look).await?,
            Tab::Schedules => self.schedules(look, catalogue).await?,
            Tab::Replicas => self.replicas(look).await?,
        }
        Ok(())
    }

    /// Asks as one would on the bus; whoever looks at one organisation sees that alone.
    async fn ask(
        &self,
        wanted: &Wanted,
        command: &str,
        args: Value,
    ) -> Result<Result<Map<String, Value>, String>, StoreError> {
        let requested = Requested {
            id: None,
            command: command.to_owned(),
            organization: wanted.organization.clone(),
            args: map(args),
        };
        let answered = answer(&self.ground, &requested, "").await?;
        Ok(answered.map(map).map_err(|refused| refused.message))
    }

    async fn rows(&self, look: &mut Look) -> Result<(), StoreError> {
        let wanted = &look.wanted;
        let Some(rows) = wanted.tab.rows() else {
            return Ok(());
        };
        let filter = match wanted.filter.as_str() {
            "" => Filter::default(),
            text => Filter::asking(rows, text).unwrap_or_default(),
        };
        let listing = Listing {
            rows,
            filter,
            limit: i64::try_from(wanted.limit).unwrap_or(1),
            offset: 0,
            after: wanted.after.clone(),
        };
        let organization = wanted.organization.as_deref();
        let shown = rows_at_a_glance(&self.ground.store, &listing, organization, look.now).await?;
        look.rows = shown.rows;
        look.next = shown.next;
        look.through = shown.through;
        Ok(())
    }

    async fn replicas(&self, look: &mut Look) -> Result<(), StoreError> {
        let replicas = self.ground.store.replicas().await?;
        let rows = replicas
            .into_iter()
            .map(|(id, started, beat, loops)| {
                let stale: Vec<&String> = loops
                    .iter()
                    .filter(|(_, at)| {
                        let at = at.as_str().and_then(|at| Moment::parse(at).ok());
                        at.is_none_or(|at| look.now.since(at) > SILENT)
                    })
                    .map(|(name, _)| name)
                    .collect();
                let lease = beat.plus(SILENT);
                map(json!({
                    "id": id, "started_at": started.to_string(), "beat_at": beat.to_string(),
                    "lease_until": lease.to_string(), "stale": stale, "loops": loops,
                }))
            })
            .collect();
        page(look, rows);
        for (what, many, lapsed, until) in self.ground.store.leases(look.now).await? {
            let what = match what {
                "offers" => "offers on their way to the broker",
                _ => "runs that look for their inputs",
            };
            let mut said = format!("leases on {what}: {many}");
            if let Some(until) = until.filter(|until| *until > look.now) {
                said.push_str(&format!(", the last for {}", long(until.since(look.now))));
            }
            if lapsed > 0 {
                said.push_str(&format!("; ran out, and free for others: {lapsed}"));
            }
            look.beside.push(said);
        }
        Ok(())
    }

    async fn schedules(
        &mut self,
        look: &mut Look,
        catalogue: &Catalogue,
    ) -> Result<(), StoreError> {
        let wanted = look.wanted.clone();
        let known = self.by_name.as_ref().is_some_and(|known| {
            known.revision == catalogue.revision
                && known.organization == wanted.organization
                && known.filter == wanted.filter
        });
        if !known {
            let query = match wanted.filter.as_str() {
                "" => None,
                text => of_schedules(text).ok(),
            };
            let schedules = catalogue
                .schedules
                .by_name()
                .into_iter()
                .filter(|scheduled| {
                    let schedule = &scheduled.schedule;
                    let bound = wanted.organization.as_deref();
                    bound.is_none_or(|bound| schedule.concerns(bound))
                        && query
                            .as_ref()
                            .is_none_or(|query| is_so(query, schedule, look.now))
                })
                .cloned()
                .collect();
            self.by_name = Some(ByName {
                revision: catalogue.revision,
                organization: wanted.organization.clone(),
                filter: wanted.filter.clone(),
                schedules,
            });
        }
        let all = self
            .by_name
            .as_ref()
            .map_or(&[][..], |known| &known.schedules);
        let from = wanted.after.parse().unwrap_or(0).min(all.len());
        let until = from.saturating_add(wanted.limit).min(all.len());
        let shown = all.get(from..until).unwrap_or_default().to_vec();
        look.next = (until < all.len()).then(|| until.to_string());
        look.beside.push(format!(
            "{} to {until} of {} schedule{}",
            (from + 1).min(until),
            all.len(),
            if all.len() == 1 { "" } else { "s" }
        ));
        if shown.is_empty() {
            look.beside.clear();
        }
        look.rows = self.told_of(&wanted, &shown, look.now).await?;
        Ok(())
    }

    /// Schedules with what comes next and what was last.
    async fn told_of(
        &mut self,
        wanted: &Wanted,
        shown: &[Arc<Scheduled>],
        now: Moment,
    ) -> Result<Vec<Map<String, Value>>, StoreError> {
        let store = self.ground.store.clone();
        let pauses = if shown.iter().any(|scheduled| scheduled.schedule.paused) {
            store.pauses().await?
        } else {
            Default::default()
        };
        let waiting: Vec<&str> = shown
            .iter()
            .filter(|scheduled| scheduled.timetable.waits_for_completion())
            .map(|scheduled| scheduled.schedule.id.as_str())
            .collect();
        let ends: HashMap<String, Last> = if waiting.is_empty() {
            HashMap::new()
        } else {
            store.last_runs(&waiting).await?.into_iter().collect()
        };
        let lasts = self.last_runs(wanted, shown).await?;
        let mut rows = Vec::with_capacity(shown.len());
        for scheduled in shown {
            let schedule = &scheduled.schedule;
            let last = ends.get(&schedule.id).copied().unwrap_or_default();
            let next = scheduled.timetable.next_after(now, last);
            let pause = pauses.get(&schedule.id);
            let mut row = map(json!({
                "schedule_id": schedule.id, "name": schedule.name, "organization": schedule.organization,
                "when": when(schedule), "enabled": schedule.enabled, "paused": schedule.paused,
                "pause": pause.map(|pause| json!({
                    "reason": pause.reason, "who": pause.who, "at": pause.at.to_string(),
                })),
                "next": next.filter(|_| schedule.awake()).map(|next| next.to_string()),
                "revision": schedule.revision,
            }));
            if let Some(run) = lasts.get(&schedule.id) {
                row.insert("last".to_owned(), Value::Object(run.clone()));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The last run of each. Those that ran lately are among the newest runs; what the others ran last is looked up once.
    async fn last_runs(
        &mut self,
        wanted: &Wanted,
        shown: &[Arc<Scheduled>],
    ) -> Result<HashMap<String, Map<String, Value>>, StoreError> {
        let store = self.ground.store.clone();
        let bound = wanted.organization.clone().unwrap_or_default();
        let newest = store.newest_runs(NEWEST, &bound).await?;
        let key = |id: &String| (bound.clone(), id.clone());
        let ids = shown.iter().map(|scheduled| &scheduled.schedule.id);
        let unknown: Vec<String> = ids
            .clone()
            .filter(|id| !newest.contains_key(*id) && !self.lasts.contains_key(&key(id)))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let mut found = store.newest_runs_of(&unknown, &bound).await?;
            for id in unknown {
                let run = found.remove(&id);
                self.lasts.insert((bound.clone(), id), run);
            }
        }
        let mut of: HashMap<String, String> = HashMap::new();
        for id in ids {
            let run = match newest.get(id) {
                Some(run) => {
                    self.lasts.insert(key(id), Some(run.clone()));
                    Some(run.clone())
                }
                None => self.lasts.get(&key(id)).cloned().flatten(),
            };
            if let Some(run) = run {
                of.insert(run, id.clone());
            }
        }
        let filter = RunFilter {
            ids: Some(of.keys().cloned().collect()),
            limit: i64::try_from(of.len()).unwrap_or(i64::MAX),
            ..RunFilter::default()
        };
        let runs = if of.is_empty() {
            Vec::new()
        } else {
            store.runs(&filter).await?
        };
        let mut lasts = HashMap::new();
        for run in runs {
            if let Some(schedule) = of.get(&run.id) {
                let told = json!({
                    "id": run.id, "state": run.state.word(), "reason": run.reason,
                    "created_at": run.created_at.to_string(),
                    "finished_at": run.finished_at.map(|at| at.to_string()),
                });
                lasts.insert(schedule.clone(), map(told));
            }
        }
        Ok(lasts)
    }

    async fn details(
        &mut self,
        look: &mut Look,
        id: &str,
        catalogue: &Catalogue,
    ) -> Result<Result<Map<String, Value>, String>, StoreError> {
        let wanted = look.wanted.clone();
        match wanted.tab {
            Tab::Queues => self.queue(&wanted, id, catalogue).await,
            Tab::Runs => self.ask(&wanted, "run.get", json!({"run_id": id})).await,
            Tab::Tasks => self.task(&wanted, id).await,
            Tab::DeadLetters => self.letter(&wanted, id).await,
            Tab::Schedules => match meant(catalogue, id, wanted.organization.as_deref()) {
                Ok(scheduled) => Ok(Ok(self.schedule(&wanted, &scheduled, look.now).await?)),
                Err(wrong) => Ok(Err(wrong)),
            },
            Tab::Replicas => {
                self.replicas(look).await?;
                let found = look.rows.iter().find(|row| text(row, "id") == id);
                Ok(found.cloned().ok_or_else(|| {
                    let near = nearest(id, look.rows.iter().map(|row| text(row, "id")));
                    let said = "is at work: it has left, or has been silent for long";
                    format!("no replica `{id}` {said}{}", or_else(&near))
                }))
            }
        }
    }

    async fn queue(
        &self,
        wanted: &Wanted,
        id: &str,
        catalogue: &Catalogue,
    ) -> Result<Result<Map<String, Value>, String>, StoreError> {
        let told = self.ask(wanted, "queue.list", json!({})).await?;
        let queues = told.map(|told| maps(told.get("queues").unwrap_or(&Value::Null)));
        let found = queues.unwrap_or_default();
        let Some(at) = found.iter().position(|row| text(row, "queue") == id) else {
            let near = nearest(id, found.iter().map(|row| text(row, "queue")));
            return Ok(Err(format!(
                "there is no queue `{id}`: nothing is in it, and no settings and no plugin name it{}",
                or_else(&near)
            )));
        };
        let mut queue = found.into_iter().nth(at).unwrap_or_default();
        if let Some(worker) = catalogue.lanes().get(id) {
            queue.insert(
                "rank".to_owned(),
                json!(format!("{:?}", worker.rank).to_lowercase()),
            );
        }
        // The oldest of one organisation are not at the head of any index.
        if wanted.organization.is_some() {
            return Ok(Ok(queue));
        }
        let mut oldest = Vec::new();
        for class in 0..3 {
            oldest.extend(self.ground.store.oldest_waiting(id, class, OLDEST).await?);
        }
        if !oldest.is_empty() {
            let page = Page {
                limit: i64::try_from(oldest.len()).unwrap_or(i64::MAX),
                only: [("id".to_owned(), oldest)].into(),
                ..Page::default()
            };
            let found = self.ground.store.list("task", &page).await?;
            let mut rows = found.unwrap_or_default().rows;
            rows.reverse();
            queue.insert("oldest_tasks".to_owned(), json!(rows));
        }
        Ok(Ok(queue))
    }

    async fn task(
        &self,
        wanted: &Wanted,
        id: &str,
    ) -> Result<Result<Map<String, Value>, String>, StoreError> {
        let mut task = match self.ask(wanted, "task.get", json!({"task_id": id})).await? {
            Ok(task) => task,
            Err(wrong) => return Ok(Err(wrong)),
        };
        if let Some(Value::Array(attempts)) = task.get_mut("attempts") {
            attempts.truncate(ATTEMPTS);
            for attempt in attempts.iter_mut() {
                cut_to_end(attempt, "log_tail");
            }
        }
        let explained = self.ask(wanted, "explain", json!({"task": id})).await?;
        let mut explained = explained.unwrap_or_default();
        for part in ["stands", "clocks"] {
            task.insert(part.to_owned(), explained.remove(part).unwrap_or_default());
        }
        Ok(Ok(task))
    }

    async fn letter(
        &mut self,
        wanted: &Wanted,
        id: &str,
    ) -> Result<Result<Map<String, Value>, String>, StoreError> {
        if let Some((known, letter)) = &self.letter
            && known == id
        {
            return Ok(Ok(letter.clone()));
        }
        let shown = self
            .ask(wanted, "dead_letter.show", json!({"id": id}))
            .await?;
        let mut letter = match shown {
            Ok(letter) => letter,
            Err(wrong) => return Ok(Err(wrong)),
        };
        if let Some(body) = letter.get_mut("body") {
            for form in ["text", "hex"] {
                if let Some(Value::String(text)) = body.get_mut(form)
                    && let Some((at, _)) = text.char_indices().nth(TEXT)
                {
                    text.truncate(at);
                    text.push('…');
                }
            }
        }
        if text(&letter, "kind") == "task" {
            let rows = Rows::Attempt.plural();
            let args = json!({"task_id": id, "limit": ATTEMPTS});
            let attempts = self.ask(wanted, "attempt.list", args).await?;
            let attempts = attempts.unwrap_or_default().remove(rows);
            let mut attempts = attempts.unwrap_or_default();
            for attempt in attempts.as_array_mut().into_iter().flatten() {
                cut_to_end(attempt, "log_tail");
            }
            letter.insert("attempts".to_owned(), attempts);
        }
        self.letter = Some((id.to_owned(), letter.clone()));
        Ok(Ok(letter))
    }

    async fn schedule(
        &mut self,
        wanted: &Wanted,
        scheduled: &Arc<Scheduled>,
        now: Moment,
    ) -> Result<Map<String, Value>, StoreError> {
        let rows = self
            .told_of(wanted, std::slice::from_ref(scheduled), now)
            .await?;
        let mut told = rows.into_iter().next().unwrap_or_default();
        let schedule = &scheduled.schedule;
        let preview = crate::answer::preview(scheduled, now, INSTANTS);
        let chosen: Vec<&str> = scheduled
            .selected
            .iter()
            .take(100)
            .map(|plugin| plugin.plugin_id.as_str())
            .collect();
        let conditions: Vec<String> = schedule
            .when
            .iter()
            .map(|(object_type, query)| format!("{object_type}: {}", query.text()))
            .collect();
        let more = json!({
            "timezone": schedule.timezone, "calendars": schedule.calendars,
            "starts_at": schedule.starts_at.map(|at| at.to_string()),
            "ends_at": schedule.ends_at.map(|at| at.to_string()),
            "conditions": conditions, "plugins": schedule.plugins.text(), "selected": chosen,
            "selected_of": scheduled.selected.len(), "input": input(schedule), "target": schedule.target,
            "overlap": word(schedule.overlap), "missed": word(schedule.missed),
            "spread": (schedule.spread > Span::ZERO).then(|| schedule.spread.to_string()),
            "priority": schedule.priority, "grace": schedule.grace.map(|grace| grace.to_string()),
            "created_at": schedule.created_at.to_string(),
            "instants": if schedule.awake() { preview["instants"].clone() } else { Value::Null },
        });
        told.extend(map(more));
        Ok(told)
    }
}

/// The nearest of what is there, for somebody who named what is not.
fn or_else(near: &[&str]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// The schedule of this id, or the one of this name that whoever looks may see.
fn meant(
    catalogue: &Catalogue,
    id: &str,
    organization: Option<&str>,
) -> Result<Arc<Scheduled>, String> {
    let seen = |scheduled: &&Arc<Scheduled>| {
        organization.is_none_or(|bound| scheduled.schedule.concerns(bound))
    };
    if let Some(found) = catalogue.schedules.get(id).filter(seen) {
        return Ok(found.clone());
    }
    let known: Vec<&Arc<Scheduled>> = catalogue.schedules.iter().filter(seen).collect();
    let named = known.iter().filter(|known| known.schedule.name == id);
    match named.collect::<Vec<_>>().as_slice() {
        [one] => Ok((**one).clone()),
        [] => {
            let names = known.iter().map(|known| known.schedule.name.as_str());
            let near = nearest(id, names);
            Err(format!("there is no schedule `{id}`{}", or_else(&near)))
        }
        several => {
            let of = several.iter().map(|known| {
                let organization = known.schedule.organization.as_deref();
                organization.unwrap_or("all organisations")
            });
            Err(format!(
                "there is a schedule `{id}` of {}: name the organisation too (--organization), or the id",
                of.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// The word of a policy, as it is declared.
fn word(policy: impl std::fmt::Debug) -> String {
    let mut word = String::new();
    for c in format!("{policy:?}").chars() {
        if c.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(c.to_lowercase());
    }
    word
}

fn cut_to_end(row: &mut Value, column: &str) {
    if let Some(Value::String(text)) = row.get_mut(column)
        && let Some((at, _)) = text.char_indices().rev().nth(TEXT)
    {
        *text = text.split_off(at);
    }
}

/// The part of a list that is counted, not kept in pages.
fn page(look: &mut Look, rows: Vec<Map<String, Value>>) {
    let from = look.wanted.after.parse().unwrap_or(0).min(rows.len());
    let until = from.saturating_add(look.wanted.limit);
    look.next = (until < rows.len()).then(|| until.to_string());
    look.rows = rows
        .into_iter()
        .skip(from)
        .take(look.wanted.limit)
        .collect();
}

fn is_so(query: &Query, schedule: &Schedule, now: Moment) -> bool {
    let row = map(json!({
        "schedule_id": schedule.id, "name": schedule.name, "organization": schedule.organization,
        "enabled": schedule.enabled, "paused": schedule.paused, "run_on": schedule.run_on,
        "timezone": schedule.timezone,
    }));
    let nothing = Map::new();
    let facts = Facts {
        subject: &row,
        trigger: None,
        previous: None,
        parameters: &nothing,
        now,
        world: &Nowhere,
    };
    query.answers(&facts).unwrap_or(false)
}

/// When a schedule runs, in few words.
fn when(schedule: &Schedule) -> String {
    let mut said: Vec<String> = schedule
        .recurrences
        .iter()
        .map(|recurrence| match recurrence {
            Recurrence::Cron { text, .. } => text.clone(),
            Recurrence::Period { every, anchor } => match anchor {
                Anchor::Completion => format!("{every} after its end"),
                Anchor::Start | Anchor::Epoch => format!("every {every}"),
            },
            Recurrence::Rule(_) => "by a rule".to_owned(),
            Recurrence::At(at) => format!("at {at}"),
        })
        .collect();
    if !schedule.run_on.is_empty() {
        let operations: Vec<&str> = schedule.operations.iter().map(|one| one.word()).collect();
        let on = schedule.run_on.join(" or ");
        said.push(
            format!("{on} {}", operations.join(" or "))
                .trim_end()
                .to_owned(),
        );
    }
    if said.is_empty() {
        said.push("by hand".to_owned());
    }
    said.join(", ")
}

fn input(schedule: &Schedule) -> String {
    match &schedule.input {
        Input::Given if schedule.run_on.is_empty() => "none".to_owned(),
        Input::Given => "the object that changed".to_owned(),
        Input::Selected(types) => {
            let said: Vec<String> = types
                .iter()
                .map(|(object_type, selection)| match selection {
                    Selection::All => format!("every {object_type}"),
                    Selection::Query(query) => format!("{object_type}: {}", query.text()),
                    Selection::Set(set) => format!("{object_type} of the set {set}"),
                })
                .collect();
            said.join("; ")
        }
    }
}
