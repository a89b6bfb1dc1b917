//! All that is declared, compiled and indexed: one consistent picture with a revision. A copy costs next to nothing; an
//! [`Edition`] makes the next one from what changed.

mod ahead;
mod edition;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::declaration::{Compiled, Kind, read_stored};
use crate::document::{Complaint, nearest};
use crate::moment::Moment;
use crate::object::{FILE, Object};
use crate::plugin::Plugin;
use crate::policy::WorkerSettings;
use crate::query::{Facts, Fields, Version, World};
use crate::recurrence::{Bounds, Calendar, Timetable};
use crate::rules::Rules;
use crate::schedule::{OF_ENABLED, OF_PLUGIN, ObjectSet, Organization, Schedule};
use crate::trigger::{Roll, Scheduled, Schedules};

pub use ahead::{Ahead, instants, look_ahead};
pub use edition::{Changed, Edition};
pub use known::{
    Asked, Found, Keys, Known, Maker, Missing, Past, Pointer, key_of, keys_in, versions,
};

/// A declaration as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub kind: Kind,
    pub id: String,
    pub name: String,
    pub organization: String,
    pub definition: Map<String, Value>,
    pub revision: i64,
    pub created_at: Moment,
}

/// Whether a schedule, as it was declared, leaves out the windows of a calendar.
pub fn names_calendar(schedule: &Map<String, Value>, calendar: &str) -> bool {
    match schedule.get("calendars") {
        Some(Value::Array(names)) => names.iter().any(|name| name == calendar),
        Some(Value::String(name)) => name == calendar,
        _ => false,
    }
}

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub rules: Arc<Rules>,
    pub revision: i64,
    pub organizations: Arc<BTreeMap<String, Organization>>,
    pub plugins: Arc<BTreeMap<String, Arc<Plugin>>>,
    pub sets: Arc<Vec<ObjectSet>>,
    pub calendars: Arc<BTreeMap<String, Arc<Calendar>>>,
    pub schedules: Schedules,
    /// The nouns that some schedule is triggered by.
    pub run_on: Arc<BTreeSet<String>>,
    /// Types of objects whose versions are kept, because some schedule asks for them.
    pub historied: Arc<BTreeSet<String>>,
    /// The queue of each plugin, by its id.
    queues: Arc<BTreeMap<String, String>>,
    /// What is stored and can no longer be read.
    pub broken: Arc<Vec<Complaint>>,
}

impl Catalogue {
    /// Before anything was loaded.
    pub fn empty(rules: Arc<Rules>) -> Catalogue {
        Catalogue {
            rules,
            ..Catalogue::default()
        }
    }

    /// Compiles what is stored. What can no longer be read is left out, and complained about.
    pub fn build(rules: Arc<Rules>, revision: i64, stored: &[Stored]) -> Catalogue {
        let stored = stored.to_vec();
        let catalogue = Edition::new(rules).replace(revision, stored, &BTreeSet::new());
        Arc::unwrap_or_clone(catalogue)
    }

    /// The schedule with this id: one that is declared or that a plugin brings along, or what stands for a plugin that
    /// is run by hand (`plugin:<id>`) or because it was enabled (`enabled:<id>`).
    pub fn scheduled(&self, id: &str) -> Option<Arc<Scheduled>> {
        if let Some(known) = self.schedules.get(id) {
            return Some(known.clone());
        }
        let (plugin_id, enabled) = match (id.strip_prefix(OF_PLUGIN), id.strip_prefix(OF_ENABLED)) {
            (Some(plugin_id), _) => (plugin_id, false),
            (None, Some(plugin_id)) => (plugin_id, true),
            (None, None) => return None,
        };
        let plugin = self.plugins.get(plugin_id)?;
        // It is started by others; what it says of the clock is not asked.
        let mut schedule = schedule_of(plugin, Value::String("daily".to_owned()), &self.rules)?;
        schedule.recurrences.clear();
        if enabled {
            schedule.id = id.to_owned();
            schedule.name = id.to_owned();
            schedule.grace = Some(self.rules.defaults.grace);
        } else {
            schedule.spread = crate::moment::Span::ZERO;
        }
        Some(Arc::new(Scheduled {
            schedule: Arc::new(schedule),
            selected: [plugin.clone()].into(),
            timetable: Arc::default(),
        }))
    }

    /// The same with this schedule alone, whatever else there is.
    pub fn with_only(&self, scheduled: &Arc<Scheduled>) -> Catalogue {
        let mut roll = Roll::new();
        roll.put(scheduled.clone());
        Catalogue {
            schedules: roll.schedules(),
            ..self.clone()
        }
    }

    /// Every queue that a task may wait for, with the settings of its worker type.
    pub fn lanes(&self) -> BTreeMap<String, WorkerSettings> {
        let mut lanes: BTreeMap<String, WorkerSettings> = BTreeMap::new();
        let of_plugins = self.plugins.values();
        let types: BTreeSet<&str> = of_plugins
            .map(|plugin| plugin.worker_type.as_str())
            .chain(self.rules.workers.keys().map(String::as_str))
            .collect();
        for worker_type in types {
            let worker = self.rules.worker(worker_type);
            for queue in worker.queues() {
                lanes
                    .entry(queue.to_owned())
                    .or_insert_with(|| worker.clone().into_owned());
            }
        }
        lanes
    }

    /// Plugins that this catalogue enables for an organisation and `before` did not, where their worker type says that
    /// they then run on all that is there: (plugin, organisation).
    pub fn newly_enabled(&self, before: &Catalogue) -> Vec<(Arc<Plugin>, Organization)> {
        let enabled = |catalogue: &Catalogue, plugin_id: &str, organization: &str| {
            let known = catalogue.organizations.get(organization);
            let plugin = catalogue.plugins.get(plugin_id);
            known.is_some_and(|known| known.enabled)
                && plugin.is_some_and(|plugin| plugin.enabled_for(organization))
        };
        let mut found = Vec::new();
        for plugin in self.plugins.values() {
            if !self.rules.worker(&plugin.worker_type).run_on_enable || plugin.runs_without_input()
            {
                continue;
            }
            for organization in self.organizations.values() {
                if enabled(self, &plugin.plugin_id, &organization.id)
                    && !enabled(before, &plugin.plugin_id, &organization.id)
                {
                    found.push((plugin.clone(), organization.clone()));
                }
            }
        }
        found
    }

    /// The shortest time that any task has from its making to its end.
    pub fn shortest_life(&self) -> crate::moment::Span {
        let said = self.plugins.values().map(|plugin| plugin.timeouts.task);
        let schedules = self.schedules.iter();
        said.chain(schedules.map(|scheduled| scheduled.schedule.timeouts.task))
            .flatten()
            .chain([self.rules.defaults.timeouts.task])
            .min()
            .unwrap_or_default()
    }

    /// Among which organisations the same objects are looked for: all, where some workers share their tasks.
    pub fn fellows(&self) -> Vec<String> {
        match self.rules.shares() && self.organizations.len() > 1 {
            true => self.organizations.keys().cloned().collect(),
            false => Vec::new(),
        }
    }

    /// The queue that a plugin's tasks go to.
    pub fn queue_for(&self, plugin: &Plugin) -> String {
        self.queues
            .get(&plugin.plugin_id)
            .cloned()
            .unwrap_or_else(|| self.rules.queue_for(plugin))
    }

    /// Whether a plugin takes this object: by its type, or because a set that it names holds it.
    pub fn takes(&self, plugin: &Plugin, object: &Object, mime_types: &[&str]) -> bool {
        plugin.takes_type(&object.object_type, mime_types)
            || plugin
                .sets_taken()
                .any(|name| self.set_has(name, object, self))
    }

    /// Whether a named set holds what has these fields, in a world that knows what its query asks beyond them.
    pub fn set_has(&self, name: &str, subject: &dyn Fields, world: &dyn World) -> bool {
        let text = |field: &str| match subject.field(field).as_deref() {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let (object_type, organization) = (text("object_type"), text("organization"));
        let own = |set: &&ObjectSet| {
            set.name == name
                && set.object_type == object_type
                && set
                    .organization
                    .as_ref()
                    .is_none_or(|own| *own == organization)
        };
        self.sets.iter().filter(own).any(|set| {
            set.keys.contains(&text("primary_key"))
                || set.query.as_ref().is_some_and(|query| {
                    let facts = Facts {
                        subject,
                        trigger: None,
                        previous: None,
                        parameters: &Map::new(),
                        now: Moment::EPOCH,
                        world,
                    };
                    query.answers(&facts).unwrap_or(false)
                })
        })
    }
}

/// What queries over one object alone may ask: the named object sets. What asks for other objects or for history is
/// asked with a [`Known`].
impl World for Catalogue {
    fn object(&self, _: &str, _: &str) -> Option<Box<dyn Fields + '_>> {
        None
    }

    fn referrers(&self, _: &str, _: &str, _: &str) -> Vec<Box<dyn Fields + '_>> {
        Vec::new()
    }

    fn versions<'a>(&'a self, _: &'a dyn Fields) -> Vec<Version<'a>> {
        Vec::new()
    }

    fn member(&self, set: &str, subject: &dyn Fields) -> bool {
        self.set_has(set, subject, self)
    }
}

/// When a schedule fires, or which of its calendars there is not.
pub fn timetable(
    schedule: &Schedule,
    calendars: &BTreeMap<String, Arc<Calendar>>,
) -> Result<Timetable, String> {
    let mut of_it = Vec::with_capacity(schedule.calendars.len());
    for name in &schedule.calendars {
        match calendars.get(name) {
            Some(calendar) => of_it.push(calendar.clone()),
            None => {
                let near = nearest(name, calendars.keys().map(String::as_str));
                let help = match near.as_slice() {
                    [] if calendars.is_empty() => "no calendar is declared".to_owned(),
                    [] => "declare it with `kind: calendar`".to_owned(),
                    near => format!("did you mean `{}`?", near.join("` or `")),
                };
                return Err(format!("there is no calendar `{name}`; {help}"));
            }
        }
    }
    // The zone was looked up when the schedule was read.
    let zone = TimeZone::get(&schedule.timezone).unwrap_or(TimeZone::UTC);
    let bounds = Bounds {
        created: schedule.created_at,
        starts: schedule.starts_at,
        ends: schedule.ends_at,
    };
    Ok(Timetable::new(&schedule.recurrences, zone, bounds, of_it))
}

/// A plugin with recurrences of its own is a schedule that nobody declared: on all objects it takes, or once for each
/// organisation where it takes none.
fn own_schedule(plugin: &Plugin, rules: &Rules) -> Option<Schedule> {
    schedule_of(plugin, plugin.recurrences.clone()?, rules)
}

fn schedule_of(plugin: &Plugin, recurrences: Value, rules: &Rules) -> Option<Schedule> {
    let mut definition = Map::new();
    definition.insert(
        "name".into(),
        Value::String(format!("{OF_PLUGIN}{}", plugin.plugin_id)),
    );
    definition.insert(
        "timezone".into(),
        Value::String(
            rules
                .plugin_timezone
                .clone()
                .unwrap_or_else(|| "UTC".to_owned()),
        ),
    );
    definition.insert("recurrences".into(), recurrences);
    let quoted = Value::String(plugin.plugin_id.clone()).to_string();
    definition.insert(
        "plugins".into(),
        Value::String(format!("plugin_id = {quoted}")),
    );
    let inputs: Map<String, Value> = plugin
        .input_types
        .iter()
        .filter(|name| *name != FILE)
        .map(|name| (name.clone(), Value::Null))
        .collect();
    definition.insert("input".into(), Value::Object(inputs));
    let declared = read_stored(Kind::Schedule, &definition, rules).ok()?;
    let Compiled::Schedule(mut schedule) = declared.compiled else {
        return None;
    };
    schedule.id = format!("{OF_PLUGIN}{}", plugin.plugin_id);
    schedule.spread = rules.plugin_spread;
    schedule.created_at = plugin.created_at;
    Some(*schedule)
}
