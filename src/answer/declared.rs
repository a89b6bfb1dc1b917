//! What is declared: made, changed, deleted and listed, one at a time.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Answer, Clerk, not_found};
use crate::catalogue::{Catalogue, Stored, look_ahead, names_calendar};
use crate::command::{Apply, DeclaredCommand, IfExists, Page};
use crate::declaration::{Compiled, Declared, Kind, read_stored};
use crate::document::{Complaint, nearest};
use crate::ground::{Ground, decide_due};
use crate::moment::Moment;
use crate::policy::WorkerSettings;
use crate::run::{Cause, RunDraft};
use crate::schedule::{OF_ENABLED, OF_PLUGIN};
use crate::store::{Answered, Applied, Edit, Pause, StoreError, overlaid};
use crate::wire::Refused;

/// The instants that are told of a schedule that was applied.
const NEXT: usize = 5;

/// What a change of declarations came to.
enum Changed {
    Done,
    /// Somebody else was faster: look again.
    Again,
    Answered,
    Wrong(Refused),
}

impl Clerk<'_> {
    pub(super) async fn of_declared(&self, asked: DeclaredCommand) -> Result<Answer, StoreError> {
        match asked {
            DeclaredCommand::Apply(apply) => self.apply(&apply).await,
            DeclaredCommand::Delete { kind, name } => self.delete(kind, &name).await,
            DeclaredCommand::List { kind, page } => self.declarations(kind, page).await,
            DeclaredCommand::Switch { plugin_id, enabled } => {
                self.switch(&plugin_id, enabled).await
            }
        }
    }

    /// Whether the request may change what is declared for this organisation; empty: for all.
    fn may_change(&self, kind: Kind, organization: &str) -> Result<(), Refused> {
        match self.bound {
            Some(bound) if bound != organization => Err(Refused::new(
                "not_yours",
                format!("this {} is not {bound}'s alone", words(kind)),
                "leave the organization out",
            )),
            _ => Ok(()),
        }
    }

    /// Reads one declaration; of whoever speaks for one organisation it is that organisation's.
    fn declaration(
        &self,
        kind: Kind,
        definition: &Map<String, Value>,
    ) -> Result<Declared, Refused> {
        let mut definition = definition.clone();
        let owned = matches!(kind, Kind::Schedule | Kind::ObjectSet);
        if let Some(bound) = self.bound.filter(|_| owned) {
            let said = definition.entry("organization").or_insert(Value::Null);
            if said.is_null() {
                *said = json!(bound);
            }
        }
        let read = read_stored(kind, &definition, &self.ground.rules)
            .map_err(|wrong| complained(&wrong))?;
        self.may_change(kind, &read.organization)?;
        Ok(read)
    }

    async fn apply(&self, asked: &Apply) -> Result<Answer, StoreError> {
        loop {
            let (revision, stored) = self.ground.store.declared().await?;
            let mut definition = asked.definition.clone();
            let by_id = asked
                .id
                .as_ref()
                .map(|id| stored.iter().find(|known| known.id == *id));
            if let Some(known) = by_id {
                let id = asked.id.as_deref().unwrap_or_default();
                let known = known.filter(|known| self.sees(&known.organization));
                let known = allowed!(known.ok_or_else(|| not_found("schedule", id, &[])));
                let name = definition
                    .entry("name")
                    .or_insert_with(|| json!(known.name));
                if *name != json!(known.name) {
                    return Ok(Err(Refused::new(
                        "wrong_argument",
                        format!("the schedule {id} is called `{}`", known.name),
                        "a schedule keeps its name; another name is another schedule",
                    )));
                }
            }
            let mut entries = Vec::new();
            if let Some(plugin) = &asked.plugin {
                let plugin = allowed!(self.declaration(Kind::Plugin, plugin));
                definition
                    .entry("plugins")
                    .or_insert_with(|| json!(format!("plugin_id = {}", json!(plugin.name))));
                entries.push(plugin);
            }
            let entry = allowed!(self.declaration(asked.kind, &definition));
            let known = same(&stored, &entry);
            let kind = words(entry.kind);
            let before = known.map_or(0, |known| known.revision);
            match (known, asked.if_exists) {
                (Some(_), IfExists::Fail) => {
                    return Ok(Err(Refused::new(
                        "exists",
                        format!("there is a {kind} `{}`", entry.name),
                        "if_exists: update changes it",
                    )));
                }
                (Some(known), IfExists::Ignore) => return Ok(Ok(self.told(known, false, None))),
                _ => {}
            }
            if let Some(expected) = asked.expected_revision.filter(|wanted| *wanted != before) {
                let said = match before {
                    0 => format!("there is no {kind} `{}`", entry.name),
                    before => format!("the {kind} `{}` is of revision {before}", entry.name),
                };
                return Ok(Err(Refused::new(
                    "other_revision",
                    format!("{said}, and {expected} was expected"),
                    "look at it again, then change it",
                )));
            }
            entries.push(entry);
            let (Some(entry), plugin) = (entries.last(), entries.len() > 1) else {
                continue;
            };
            let ahead = look_ahead(
                &entries,
                &stored.iter().collect::<Vec<_>>(),
                &self.ground.rules,
                self.ground.clock.now(),
            );
            let wrong: Vec<Complaint> = ahead
                .complaints
                .iter()
                .filter(|complaint| complaint.is_error())
                .cloned()
                .collect();
            if !wrong.is_empty() {
                return Ok(Err(complained(&wrong)));
            }
            let edits: Vec<Edit> = entries
                .iter()
                .filter(|entry| {
                    same(&stored, entry).is_none_or(|known| known.definition != entry.definition)
                })
                .map(|entry| Edit::Put {
                    kind: entry.kind,
                    organization: entry.organization.clone(),
                    name: entry.name.clone(),
                    id: match entry.kind {
                        Kind::Schedule => self.ground.ids().next(self.ground.clock.now()),
                        _ => entry.name.clone(),
                    },
                    definition: entry.definition.clone(),
                })
                .collect();
            let changes = edits
                .iter()
                .any(|edit| matches!(edit, Edit::Put { kind, .. } if *kind == entry.kind));
            let id = match (known_id(&stored, entry), edits.last()) {
                (Some(id), _) => id,
                (None, Some(Edit::Put { id, .. })) => id.clone(),
                (None, _) => String::new(),
            };
            let made = Stored {
                kind: entry.kind,
                id,
                name: entry.name.clone(),
                organization: entry.organization.clone(),
                definition: entry.definition.clone(),
                revision: before + i64::from(changes),
                created_at: self.ground.clock.now(),
            };
            let mut told = self.told(&made, changes, Some(before == 0));
            if let Compiled::Schedule(schedule) = &entry.compiled {
                let key = (entry.name.clone(), entry.organization.clone());
                let next = ahead.instants.get(&key).into_iter().flatten();
                let next: Vec<Value> = next
                    .take(NEXT)
                    .map(|(local, utc)| json!({"local": local, "utc": utc.to_string()}))
                    .collect();
                told["next"] = json!(next);
                told["timezone"] = json!(schedule.timezone);
            }
            if plugin {
                told["plugin_id"] = json!(entries.first().map(|plugin| plugin.name.clone()));
            }
            let warnings: Vec<String> = ahead
                .complaints
                .iter()
                .map(|complaint| complaint.message.clone())
                .collect();
            told["warnings"] = json!(warnings);
            let answer = Ok(told);
            match self.change(&stored, &edits, revision, &answer).await? {
                Changed::Done => return Ok(answer),
                Changed::Again => {}
                Changed::Answered => return self.answered_before().await,
                Changed::Wrong(refused) => return Ok(Err(refused)),
            }
        }
    }

    async fn delete(&self, kind: Kind, name: &str) -> Result<Answer, StoreError> {
        loop {
            let (revision, stored) = self.ground.store.declared().await?;
            let of_kind: Vec<&Stored> = stored
                .iter()
                .filter(|known| known.kind == kind && self.sees(&known.organization))
                .collect();
            let named: Vec<&Stored> = of_kind
                .iter()
                .copied()
                .filter(|known| known.name == name || known.id == name)
                .collect();
            let known = match named.as_slice() {
                [one] => *one,
                [] => {
                    let names = of_kind.iter().map(|known| known.name.as_str());
                    return Ok(Err(not_found(&words(kind), name, &nearest(name, names))));
                }
                _ => {
                    return Ok(Err(Refused::new(
                        "ambiguous",
                        format!("several organisations have a {} `{name}`", words(kind)),
                        "name the organization too, or its id",
                    )));
                }
            };
            allowed!(self.may_change(kind, &known.organization));
            let staying: Vec<&Stored> = stored
                .iter()
                .filter(|other| !std::ptr::eq(*other, known))
                .collect();
            let ahead = look_ahead(&[], &staying, &self.ground.rules, self.ground.clock.now());
            let wrong: Vec<Complaint> = ahead
                .complaints
                .into_iter()
                .filter(Complaint::is_error)
                .collect();
            if kind == Kind::Calendar && !wrong.is_empty() {
                return Ok(Err(Refused {
                    code: "needed".to_owned(),
                    ..complained(&wrong)
                }));
            }
            let edits = [Edit::Delete {
                kind,
                organization: known.organization.clone(),
                name: known.name.clone(),
            }];
            let answer = Ok(json!({
                "kind": kind.word(), "id": known.id, "name": known.name, "deleted": true,
                "note": match kind {
                    Kind::Plugin => "tasks that wait for it are withdrawn",
                    _ => "tasks that exist keep what they were made from",
                },
            }));
            match self.change(&stored, &edits, revision, &answer).await? {
                Changed::Done => return Ok(answer),
                Changed::Again => {}
                Changed::Answered => return self.answered_before().await,
                Changed::Wrong(refused) => return Ok(Err(refused)),
            }
        }
    }

    /// Turns a plugin on or off: for the organisation of the request, else for all that do not say.
    async fn switch(&self, plugin_id: &str, enabled: bool) -> Result<Answer, StoreError> {
        loop {
            let (revision, stored) = self.ground.store.declared().await?;
            let plugins = stored.iter().filter(|known| known.kind == Kind::Plugin);
            let Some(known) = plugins.clone().find(|known| known.name == plugin_id) else {
                let names = plugins.map(|known| known.name.as_str());
                return Ok(Err(not_found(
                    "plugin",
                    plugin_id,
                    &nearest(plugin_id, names),
                )));
            };
            if let Some(bound) = self.bound
                && !stored
                    .iter()
                    .any(|known| known.kind == Kind::Organization && known.name == bound)
            {
                return Ok(Err(not_found("organization", bound, &[])));
            }
            let mut definition = known.definition.clone();
            match self.bound {
                None => {
                    definition.insert("enabled".to_owned(), json!(enabled));
                }
                Some(bound) => {
                    let own = definition
                        .entry("organizations")
                        .or_insert_with(|| json!({}));
                    let mut said = own.get(bound).cloned().unwrap_or_default();
                    if !said.is_object() {
                        said = json!({});
                    }
                    said["enabled"] = json!(enabled);
                    own[bound] = said;
                }
            }
            let changes = definition != known.definition;
            let edits: Vec<Edit> = changes
                .then(|| Edit::Put {
                    kind: Kind::Plugin,
                    organization: String::new(),
                    name: known.name.clone(),
                    id: known.id.clone(),
                    definition,
                })
                .into_iter()
                .collect();
            let answer = Ok(json!({
                "plugin_id": known.name, "organization": self.bound, "enabled": enabled, "changed": changes,
                "revision": known.revision + i64::from(changes),
            }));
            match self.change(&stored, &edits, revision, &answer).await? {
                Changed::Done => return Ok(answer),
                Changed::Again => {}
                Changed::Answered => return self.answered_before().await,
                Changed::Wrong(refused) => return Ok(Err(refused)),
            }
        }
    }

    /// Stores edits, if what was read still holds and nothing breaks by them.
    async fn change(
        &self,
        stored: &[Stored],
        edits: &[Edit],
        revision: i64,
        answer: &Answer,
    ) -> Result<Changed, StoreError> {
        // A schedule stands alone; what others rest on is looked at with them.
        let alone = edits.iter().all(|edit| {
            let (Edit::Put { kind, .. } | Edit::Delete { kind, .. }) = edit;
            *kind == Kind::Schedule
        });
        if !alone && let Some(refused) = breaks(self.ground, stored, edits, revision) {
            return Ok(Changed::Wrong(refused));
        }
        let answered = self.answered(answer);
        let applied = store_edits(self.ground, stored, edits, revision, answered).await?;
        Ok(match applied {
            Applied::Stale => Changed::Again,
            Applied::Answered => Changed::Answered,
            Applied::Revision(_) => {
                self.ground.load_catalogue().await?;
                self.ground.tick.notify_one();
                self.ground.expand.notify_one();
                Changed::Done
            }
        })
    }

    fn sees(&self, organization: &str) -> bool {
        self.bound
            .is_none_or(|bound| organization.is_empty() || organization == bound)
    }

    /// A declaration as a reply tells of it.
    fn told(&self, made: &Stored, changed: bool, created: Option<bool>) -> Value {
        let mut told = json!({
            "kind": made.kind.word(), "id": made.id, "name": made.name, "revision": made.revision,
            "changed": changed, "created": created.unwrap_or(false),
        });
        match made.kind {
            Kind::Schedule => {
                told["schedule_id"] = json!(made.id);
                told["organization"] = made.definition.get("organization").cloned().into();
            }
            Kind::Plugin => told["plugin_id"] = json!(made.name),
            _ => {}
        }
        told
    }

    async fn declarations(&self, kind: Kind, page: Page) -> Result<Answer, StoreError> {
        let (_, stored) = self.ground.store.declared().await?;
        let rows = declared_rows(&stored, kind, self.bound, |_| None);
        let from = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let many = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let rows: Vec<Map<String, Value>> = rows.into_iter().skip(from).take(many).collect();
        let mut answer = Map::new();
        answer.insert(format!("{}s", kind.word()), json!(rows));
        Ok(Ok(Value::Object(answer)))
    }
}

/// A noun as people say it.
fn words(kind: Kind) -> String {
    kind.word().replace('_', " ")
}

fn complained(wrong: &[Complaint]) -> Refused {
    let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    Refused::new("wrong_argument", said.join("; "), "")
}

fn same<'s>(stored: &'s [Stored], entry: &Declared) -> Option<&'s Stored> {
    stored.iter().find(|known| {
        known.kind == entry.kind
            && known.organization == entry.organization
            && known.name == entry.name
    })
}

fn known_id(stored: &[Stored], entry: &Declared) -> Option<String> {
    same(stored, entry).map(|known| known.id.clone())
}

/// The declarations of a kind as people see them, with their defaults; those that one organisation may see, and of
/// plugins only what is said of it.
pub fn declared_rows(
    stored: &[Stored],
    kind: Kind,
    bound: Option<&str>,
    paused: impl Fn(&str) -> Option<Pause>,
) -> Vec<Map<String, Value>> {
    let seen = |entry: &&Stored| match (bound, kind) {
        (None, _) => true,
        (Some(bound), Kind::Organization) => entry.name == bound,
        (Some(bound), _) => entry.organization.is_empty() || entry.organization == bound,
    };
    let defaults: &[(&str, Value)] = match kind {
        Kind::Organization => &[
            ("indemnified", json!(false)),
            ("enabled", json!(true)),
            ("weight", json!(1)),
        ],
        Kind::Plugin | Kind::Schedule => &[("enabled", json!(true))],
        _ => &[],
    };
    stored
        .iter()
        .filter(|entry| entry.kind == kind)
        .filter(seen)
        .map(|entry| {
            let mut row = entry.definition.clone();
            for (name, value) in defaults {
                row.entry(*name).or_insert_with(|| value.clone());
            }
            if let (Some(bound), Some(Value::Object(said))) = (bound, row.get_mut("organizations"))
            {
                said.retain(|organization, _| organization == bound);
            }
            row.insert("revision".to_owned(), json!(entry.revision));
            row.insert("created_at".to_owned(), json!(entry.created_at.to_string()));
            if kind == Kind::Schedule {
                let reason = paused(&entry.id).map(|pause| pause.reason);
                row.insert("paused".to_owned(), json!(reason));
                row.insert("schedule_id".to_owned(), json!(entry.id));
            }
            row
        })
        .collect()
}

/// What is due of the schedules that change is decided first, and plugins that become enabled run on what is there.
pub async fn store_edits(
    ground: &Ground,
    stored: &[Stored],
    edits: &[Edit],
    revision: i64,
    answered: Option<Answered>,
) -> Result<Applied, StoreError> {
    if edits.is_empty() {
        return Ok(Applied::Revision(revision));
    }
    let id = |known: &Stored| known.id.clone();
    let changed: BTreeSet<String> = edits
        .iter()
        .flat_map(|edit| {
            let (Edit::Put {
                kind,
                organization,
                name,
                ..
            }
            | Edit::Delete {
                kind,
                organization,
                name,
            }) = edit;
            let named = |known: &&Stored| {
                known.kind == *kind && known.organization == *organization && known.name == *name
            };
            match kind {
                Kind::Schedule => stored.iter().filter(named).map(id).collect(),
                Kind::Plugin => vec![format!("{OF_PLUGIN}{name}")],
                // What was due by the windows as they were was due.
                Kind::Calendar => {
                    let names = |known: &&Stored| {
                        known.kind == Kind::Schedule && names_calendar(&known.definition, name)
                    };
                    stored.iter().filter(names).map(id).collect()
                }
                _ => Vec::new(),
            }
        })
        .collect();
    decide_due(ground, Some(&changed)).await?;
    let now = ground.clock.now();
    // Only what is about plugins and organisations enables anything.
    let begins = |worker: &WorkerSettings| worker.run_on_enable;
    let enables = ground.rules.workers.values().any(begins)
        && edits.iter().any(|edit| {
            let (Edit::Put { kind, .. } | Edit::Delete { kind, .. }) = edit;
            matches!(kind, Kind::Plugin | Kind::Organization)
        });
    let runs = match enables {
        true => enabling(ground, stored, edits, revision, now),
        false => Vec::new(),
    };
    let applied = ground
        .store
        .apply_with(edits, &runs, answered.as_ref(), revision, now);
    applied.await
}

/// The runs of plugins that these edits enable.
fn enabling(
    ground: &Ground,
    stored: &[Stored],
    edits: &[Edit],
    revision: i64,
    now: Moment,
) -> Vec<RunDraft> {
    let after = overlaid(stored, edits, now);
    let before = Catalogue::build(ground.rules.clone(), revision, stored);
    let after = Catalogue::build(ground.rules.clone(), revision, &after);
    let mut ids = ground.ids();
    after
        .newly_enabled(&before)
        .into_iter()
        .filter_map(|(plugin, organization)| {
            let scheduled = after.scheduled(&format!("{OF_ENABLED}{}", plugin.plugin_id))?;
            Some(RunDraft {
                id: ids.next(now),
                schedule_id: scheduled.schedule.id.clone(),
                schedule: scheduled.schedule.name.clone(),
                organization: organization.id,
                cause: Cause::OnTime,
                scheduled_for: now,
                created_at: now,
                expands: true,
                ..RunDraft::default()
            })
        })
        .collect()
}

/// What would be out of use by these edits, and is not now.
fn breaks(ground: &Ground, stored: &[Stored], edits: &[Edit], revision: i64) -> Option<Refused> {
    let after = overlaid(stored, edits, ground.clock.now());
    let before = Catalogue::build(ground.rules.clone(), revision, stored);
    let after = Catalogue::build(ground.rules.clone(), revision, &after);
    let known: BTreeSet<String> = before.broken.iter().map(ToString::to_string).collect();
    let new: Vec<Complaint> = after
        .broken
        .iter()
        .filter(|complaint| !known.contains(&complaint.to_string()))
        .cloned()
        .collect();
    (!new.is_empty()).then(|| Refused {
        code: "needed".to_owned(),
        ..complained(&new)
    })
}
