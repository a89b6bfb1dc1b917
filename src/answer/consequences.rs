//! What declarations would change beside themselves: instants of the clock, which schedules and plugins select each
//! other, and tasks that would lose their reason. Nothing is stored.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::decide::gates;
use crate::declaration::Kind;
use crate::ground::Ground;
use crate::moment::Moment;
use crate::object::ObjectKey;
use crate::recurrence::Last;
use crate::run::Reason;
use crate::store::{Edit, StoreError, Wanted};
use crate::trigger::Scheduled;

/// Instants that are shown of each schedule.
const INSTANTS: usize = 5;
/// Schedules whose instants or plugins are shown.
const SHOWN: usize = 100;
/// Open tasks that are counted, and those of one plugin and organisation that are looked at one by one.
const COUNTED: i64 = 1_000_000;
const LOOKED_AT: i64 = 500;

/// What edits touch, by kind.
#[derive(Default)]
struct Touched<'a> {
    names: BTreeMap<Kind, BTreeSet<(&'a str, &'a str)>>,
}

impl<'a> Touched<'a> {
    fn by(edits: &'a [Edit]) -> Touched<'a> {
        let mut touched = Touched::default();
        for edit in edits {
            let (kind, organization, name) = edit.about();
            let names = touched.names.entry(kind).or_default();
            names.insert((organization, name));
        }
        touched
    }

    fn has(&self, kind: Kind, organization: &str, name: &str) -> bool {
        let names = self.names.get(&kind);
        names.is_some_and(|names| names.contains(&(organization, name)))
    }

    fn names(&self, kind: Kind) -> Vec<&'a str> {
        let names = self.names.get(&kind).into_iter().flatten();
        names.map(|(_, name)| *name).collect()
    }

    /// Whether the clock of a schedule may be another.
    fn clock_of(&self, scheduled: &Scheduled) -> bool {
        let schedule = &scheduled.schedule;
        let organization = schedule.organization.as_deref().unwrap_or_default();
        let plugin = schedule.name.split_once(':').map(|(_, plugin)| plugin);
        self.has(Kind::Schedule, organization, &schedule.name)
            || schedule
                .calendars
                .iter()
                .any(|name| self.has(Kind::Calendar, "", name))
            || (schedule.of_plugin() && plugin.is_some_and(|id| self.has(Kind::Plugin, "", id)))
    }
}

/// What edits would change that make one catalogue of the other.
pub async fn consequences(
    ground: &Ground,
    present: &Catalogue,
    proposed: &Catalogue,
    edits: &[Edit],
) -> Result<Value, StoreError> {
    let touched = Touched::by(edits);
    let now = ground.clock.now();
    let (mut instants, mut selections) = (Vec::new(), Vec::new());
    let (mut more_instants, mut more_selections) = (0, 0);
    let of = |catalogue: &Catalogue| -> BTreeMap<(String, String), String> {
        let named = catalogue.schedules.iter().map(|scheduled| {
            let schedule = &scheduled.schedule;
            let organization = schedule.organization.clone().unwrap_or_default();
            ((schedule.name.clone(), organization), schedule.id.clone())
        });
        named.collect()
    };
    let (before, after) = (of(present), of(proposed));
    let names: BTreeSet<&(String, String)> = before.keys().chain(after.keys()).collect();
    for name in names {
        let was = before.get(name).and_then(|id| present.schedules.get(id));
        let will = after.get(name).and_then(|id| proposed.schedules.get(id));
        let about = || json!({"schedule": name.0, "organization": name.1});
        if was.is_some_and(|was| touched.clock_of(was))
            || will.is_some_and(|will| touched.clock_of(will))
        {
            let (was, will) = (next_of(was, now), next_of(will, now));
            if was != will && instants.len() < SHOWN {
                let mut differs = about();
                differs["before"] = json!(was);
                differs["after"] = json!(will);
                instants.push(differs);
            } else if was != will {
                more_instants += 1;
            }
        }
        let (was, will) = (selected(was), selected(will));
        let begins: Vec<&str> = will.difference(&was).copied().collect();
        let ceases: Vec<&str> = was.difference(&will).copied().collect();
        if begins.is_empty() && ceases.is_empty() {
            continue;
        }
        if selections.len() < SHOWN {
            let mut differs = about();
            differs["begins"] = json!(begins);
            differs["ceases"] = json!(ceases);
            selections.push(differs);
        } else {
            more_selections += 1;
        }
    }
    let tasks = withdrawals(ground, present, proposed, &touched).await?;
    Ok(json!({
        "instants": instants, "more_instants": more_instants,
        "selections": selections, "more_selections": more_selections,
        "tasks": tasks,
    }))
}

/// The next instants at which the clock starts it; none where it is switched off or gone.
fn next_of(scheduled: Option<&std::sync::Arc<Scheduled>>, now: Moment) -> Vec<String> {
    scheduled
        .filter(|scheduled| scheduled.schedule.awake())
        .into_iter()
        .flat_map(|scheduled| {
            scheduled
                .timetable
                .instants(now, Last::Never)
                .take(INSTANTS)
        })
        .map(|at| at.to_string())
        .collect()
}

fn selected(scheduled: Option<&std::sync::Arc<Scheduled>>) -> BTreeSet<&str> {
    scheduled
        .into_iter()
        .flat_map(|scheduled| scheduled.selected.iter())
        .map(|plugin| plugin.plugin_id.as_str())
        .collect()
}

/// Open tasks that would not pass their gates any more, and are withdrawn when their turn comes.
async fn withdrawals(
    ground: &Ground,
    present: &Catalogue,
    proposed: &Catalogue,
    touched: &Touched<'_>,
) -> Result<Vec<Value>, StoreError> {
    let plugins = touched.names(Kind::Plugin);
    let organizations = touched.names(Kind::Organization);
    if plugins.is_empty() && organizations.is_empty() {
        return Ok(Vec::new());
    }
    let store = &ground.store;
    let open = store
        .open_tasks_of(&plugins, &organizations, COUNTED)
        .await?;
    let mut told = Vec::new();
    for (plugin_id, organization_id, many) in open {
        let wanted = |catalogue: &Catalogue| {
            let plugin = catalogue.plugins.get(&plugin_id);
            let organization = catalogue.organizations.get(&organization_id);
            plugin.is_some_and(|plugin| plugin.enabled_for(&organization_id))
                && organization.is_some_and(|organization| organization.enabled)
        };
        if !wanted(present) {
            continue;
        }
        let about = |looked_at: i64, withdrawn: i64, reasons: Value| {
            json!({
                "plugin": plugin_id, "organization": organization_id, "open": many,
                "looked_at": looked_at, "withdrawn": withdrawn, "reasons": reasons,
            })
        };
        if !wanted(proposed) {
            let reason = Reason::Disabled.word();
            told.push(about(many, many, json!({reason: many})));
            continue;
        }
        let inputs = store
            .inputs_of_open(&plugin_id, &organization_id, LOOKED_AT)
            .await?;
        let key = |primary_key: &String| ObjectKey {
            organization: organization_id.clone(),
            primary_key: primary_key.clone(),
        };
        let wanted = Wanted {
            keys: inputs.iter().flatten().map(key).collect(),
            ..Wanted::default()
        };
        let objects = store.gather(&wanted).await?.world.objects;
        let (mut withdrawn, mut reasons) = (0, BTreeMap::new());
        for inputs in &inputs {
            let refused = |catalogue: &Catalogue| {
                let plugin = catalogue.plugins.get(&plugin_id)?;
                let organization = catalogue.organizations.get(&organization_id)?;
                let outcomes: Vec<Option<Reason>> = match inputs.as_slice() {
                    [] => vec![
                        gates(catalogue, plugin, organization, None, &[])
                            .err()
                            .map(|refusal| refusal.reason),
                    ],
                    inputs => inputs
                        .iter()
                        .filter_map(|input| objects.get(&key(input)))
                        .map(|object| gates(catalogue, plugin, organization, Some(object), &[]))
                        .map(|outcome| outcome.err().map(|refusal| refusal.reason))
                        .collect(),
                };
                // A task goes when none of its inputs is left.
                outcomes
                    .iter()
                    .all(Option::is_some)
                    .then(|| outcomes.first().copied().flatten())?
            };
            if refused(present).is_none()
                && let Some(reason) = refused(proposed)
            {
                withdrawn += 1;
                *reasons.entry(reason.word()).or_insert(0) += 1;
            }
        }
        if withdrawn > 0 {
            let looked_at = i64::try_from(inputs.len()).unwrap_or(i64::MAX);
            told.push(about(looked_at, withdrawn, json!(reasons)));
        }
    }
    Ok(told)
}
