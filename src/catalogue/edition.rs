//! The writer's catalogue: it takes in what changed, and compiles nothing else.
//!
//! Which plugins a schedule selects is known beforehand. Schedules with the same `plugins` query share one choice, and
//! the choices are indexed as schedules are: a plugin that changes is asked for by those alone that it may concern.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Catalogue, Stored, own_schedule, timetable};
use crate::declaration::{
    Compiled, Kind, circles, in_a_circle, reaching, read_stored, takes_by_relations,
};
use crate::document::Complaint;
use crate::moment::Moment;
use crate::object::{Object, Operation};
use crate::plugin::Plugin;
use crate::query::{Facts, Nowhere, Query};
use crate::recurrence::Timetable;
use crate::rules::Rules;
use crate::schedule::{Input, OF_PLUGIN, ObjectSet, Organization, Schedule, Selection};
use crate::trigger::{Asked, Event, Matches, Register, Roll, Scheduled};

/// A declaration that changed: as it is stored now, or gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    pub kind: Kind,
    pub organization: String,
    pub name: String,
    pub now: Option<Stored>,
}

/// What a declaration is known by.
type Key = (&'static str, String, String);

/// What became of one.
#[derive(Debug)]
enum Held {
    Organization(String),
    Plugin(String),
    Set,
    Calendar(String),
    Schedule(String),
    /// Read, and nothing that lasts.
    Nothing,
    Broken(Vec<Complaint>),
}

/// The plugins that one `plugins` query selects, and the schedules that it is of.
#[derive(Debug)]
struct Choice {
    number: u32,
    query: Query,
    parameters: Map<String, Value>,
    selected: Vec<Arc<Plugin>>,
    schedules: BTreeSet<String>,
}

/// A schedule that is left out, because some calendar of it is not there.
#[derive(Debug)]
struct Homeless {
    schedule: Schedule,
    why: String,
}

/// A query's text and its parameters.
type Wording = (String, String);

#[derive(Debug)]
pub struct Edition {
    held: BTreeMap<Key, Held>,
    sets: BTreeMap<Key, ObjectSet>,
    roll: Roll,
    choices: HashMap<Wording, Choice>,
    wordings: HashMap<u32, Wording>,
    by_plugin: Register,
    next_choice: u32,
    /// Schedules that would fire when they must not.
    homeless: BTreeMap<String, Homeless>,
    /// Schedules that somebody paused, by their ids; not all of them need to be there.
    paused: BTreeSet<String>,
    /// How many schedules ask for the history of each type.
    histories: BTreeMap<String, usize>,
    /// How many schedules are triggered by each noun.
    run_on: BTreeMap<String, usize>,
    /// The timetable of all that the clock does not start.
    never: Arc<Timetable>,
    latest: Arc<Catalogue>,
    /// How many declarations were compiled so far.
    compiled: u64,
}

impl Edition {
    pub fn new(rules: Arc<Rules>) -> Edition {
        Edition {
            held: BTreeMap::new(),
            sets: BTreeMap::new(),
            roll: Roll::new(),
            choices: HashMap::new(),
            wordings: HashMap::new(),
            by_plugin: Register::new(),
            next_choice: 0,
            homeless: BTreeMap::new(),
            paused: BTreeSet::new(),
            histories: BTreeMap::new(),
            run_on: BTreeMap::new(),
            never: Arc::default(),
            latest: Arc::new(Catalogue::empty(rules)),
            compiled: 0,
        }
    }

    pub fn latest(&self) -> Arc<Catalogue> {
        self.latest.clone()
    }

    /// How many declarations were compiled so far.
    pub fn compiled(&self) -> u64 {
        self.compiled
    }

    /// How many schedules no key finds, so that each event looks at them.
    pub fn unindexed(&self) -> usize {
        self.roll.unindexed()
    }

    /// All that is stored, and which schedules are paused. What is known and not among it is gone.
    pub fn replace(
        &mut self,
        revision: i64,
        stored: Vec<Stored>,
        paused: &BTreeSet<String>,
    ) -> Arc<Catalogue> {
        let there: BTreeSet<Key> = stored.iter().map(key_of).collect();
        let gone: Vec<Changed> = self
            .held
            .keys()
            .filter(|key| !there.contains(*key))
            .filter_map(|(kind, organization, name)| {
                Some(Changed {
                    kind: Kind::parse(kind)?,
                    organization: organization.clone(),
                    name: name.clone(),
                    now: None,
                })
            })
            .collect();
        let here = stored.into_iter().map(|stored| Changed {
            kind: stored.kind,
            organization: stored.organization.clone(),
            name: stored.name.clone(),
            now: Some(stored),
        });
        self.apply(revision, gone.into_iter().chain(here), paused)
    }

    /// Takes changes in, and all schedules that are paused. What can no longer be read is left out, and complained about.
    pub fn apply(
        &mut self,
        revision: i64,
        changes: impl IntoIterator<Item = Changed>,
        paused: &BTreeSet<String>,
    ) -> Arc<Catalogue> {
        let mut next = self.latest.as_ref().clone();
        next.revision = revision;
        let mut schedules: Vec<Schedule> = Vec::new();
        let mut calendars: BTreeSet<String> = BTreeSet::new();
        // Whether anything changed that complaints may be about.
        let mut complains = !self.homeless.is_empty();
        for change in changes {
            let key: Key = (change.kind.word(), change.organization, change.name);
            let held = change.now.map(|stored| {
                self.compiled += 1;
                (
                    read_stored(stored.kind, &stored.definition, &next.rules),
                    stored,
                )
            });
            // What changed stays in its place until its successor takes it.
            let successor = match &held {
                Some((Ok(declared), _)) => Some(&declared.compiled),
                _ => None,
            };
            if let Some(old) = self.held.remove(&key) {
                complains |= !matches!(old, Held::Organization(_) | Held::Schedule(_));
                if let Held::Calendar(name) = &old {
                    calendars.insert(name.clone());
                }
                self.drop_old(&mut next, &key, old, successor);
            }
            let Some((read, stored)) = held else {
                continue;
            };
            let held = match read {
                Err(complaints) => {
                    complains = true;
                    Held::Broken(named(complaints, &stored))
                }
                Ok(declared) => match declared.compiled {
                    Compiled::Organization(organization) => {
                        let id = organization.id.clone();
                        Arc::make_mut(&mut next.organizations).insert(id.clone(), organization);
                        Held::Organization(id)
                    }
                    Compiled::Plugin(mut plugin) => {
                        plugin.created_at = stored.created_at;
                        let plugin: Arc<Plugin> = Arc::from(plugin);
                        let id = plugin.plugin_id.clone();
                        complains |= plugin.sets_taken().next().is_some();
                        self.put_plugin(&mut next, &plugin);
                        schedules.extend(own_schedule(&plugin, &next.rules));
                        Held::Plugin(id)
                    }
                    Compiled::ObjectSet(set) => {
                        complains = true;
                        self.sets.insert(key.clone(), *set);
                        Held::Set
                    }
                    Compiled::Calendar(calendar) => {
                        let name = calendar.name.clone();
                        let known = Arc::make_mut(&mut next.calendars);
                        known.insert(name.clone(), Arc::from(calendar));
                        calendars.insert(name.clone());
                        Held::Calendar(name)
                    }
                    // It was started, and is no declaration.
                    Compiled::Run(_) => Held::Nothing,
                    Compiled::Schedule(mut schedule) => {
                        schedule.id.clone_from(&stored.id);
                        schedule.revision = stored.revision;
                        schedule.created_at = stored.created_at;
                        let id = schedule.id.clone();
                        schedules.push(*schedule);
                        Held::Schedule(id)
                    }
                },
            };
            self.held.insert(key, held);
        }
        self.reckon_again(&calendars, paused, &mut schedules);
        self.paused.clone_from(paused);
        // In the order of their names, as far as they come together.
        schedules.sort_by(|a, b| (&a.name, &a.organization).cmp(&(&b.name, &b.organization)));
        for schedule in schedules {
            self.put_schedule(&next, schedule);
        }
        if complains || !self.homeless.is_empty() {
            self.lay_out_sets(&mut next);
        }
        let of_sets = next.sets.iter().filter_map(|set| set.query.as_ref());
        let of_sets = of_sets.flat_map(Query::histories);
        let historied = self.histories.keys().chain(of_sets).cloned().collect();
        next.historied = Arc::new(historied);
        next.run_on = Arc::new(self.run_on.keys().cloned().collect());
        next.schedules = self.roll.schedules();
        self.latest = Arc::new(next);
        self.latest.clone()
    }

    /// Organisations that an event brought raised the revision by one. Where nothing else did, they are taken in without
    /// asking the store.
    pub fn gain(&mut self, before: i64, organizations: &[Organization]) -> Option<Arc<Catalogue>> {
        if organizations.is_empty() || self.latest.revision != before {
            return None;
        }
        let mut next = self.latest.as_ref().clone();
        next.revision = before + 1;
        let known = Arc::make_mut(&mut next.organizations);
        for organization in organizations {
            let id = organization.id.clone();
            let key = (Kind::Organization.word(), String::new(), id.clone());
            self.held.insert(key, Held::Organization(id.clone()));
            known.insert(id, organization.clone());
        }
        self.latest = Arc::new(next);
        Some(self.latest.clone())
    }

    /// The index learns from changes that passed, and moves a few schedules now and then. The catalogue that finds them
    /// faster, where there is one.
    pub fn learn(&mut self, samples: &[(Object, Vec<Operation>)]) -> Option<Arc<Catalogue>> {
        let mut better = false;
        for (object, operations) in samples {
            better |= self.roll.learn(object, operations);
        }
        if !better {
            return None;
        }
        let mut next = self.latest.as_ref().clone();
        next.schedules = self.roll.schedules();
        self.latest = Arc::new(next);
        Some(self.latest.clone())
    }

    fn drop_old(
        &mut self,
        next: &mut Catalogue,
        key: &Key,
        old: Held,
        successor: Option<&Compiled>,
    ) {
        match old {
            Held::Organization(id) => {
                Arc::make_mut(&mut next.organizations).remove(&id);
            }
            Held::Plugin(id) => {
                self.drop_schedule(&format!("{}{id}", OF_PLUGIN));
                let stays = matches!(successor, Some(Compiled::Plugin(new)) if new.plugin_id == id);
                if !stays {
                    let plugin = Arc::make_mut(&mut next.plugins).remove(&id);
                    Arc::make_mut(&mut next.queues).remove(&id);
                    if let Some(plugin) = plugin {
                        self.choose_again(&plugin, None);
                    }
                }
            }
            Held::Set => {
                self.sets.remove(key);
            }
            Held::Calendar(name) => {
                Arc::make_mut(&mut next.calendars).remove(&name);
            }
            Held::Schedule(id) => self.drop_schedule(&id),
            Held::Nothing | Held::Broken(_) => {}
        }
    }

    fn put_plugin(&mut self, next: &mut Catalogue, plugin: &Arc<Plugin>) {
        let id = &plugin.plugin_id;
        let queue = next.rules.queue_for(plugin);
        Arc::make_mut(&mut next.queues).insert(id.clone(), queue);
        let old = Arc::make_mut(&mut next.plugins).insert(id.clone(), plugin.clone());
        if let Some(old) = old {
            self.choose_again(&old, Some(plugin));
        } else {
            self.choose_again(plugin, Some(plugin));
        }
    }

    /// Asks those choices anew that a plugin, as it was or as it is, may be part of.
    fn choose_again(&mut self, before: &Arc<Plugin>, now: Option<&Arc<Plugin>>) {
        let picture = self.by_plugin.picture();
        let (mut event, mut matches) = (Event::new(), Matches::default());
        let mut numbers: BTreeSet<u32> = BTreeSet::new();
        for plugin in [Some(before), now].into_iter().flatten() {
            event.take_fields(&picture, plugin.as_ref());
            picture.find(&mut event, &mut matches);
            numbers.extend(matches.rules.iter().map(|(number, _)| *number));
        }
        for number in numbers {
            let wording = self.wordings.get(&number);
            let Some(choice) = wording.and_then(|wording| self.choices.get_mut(wording)) else {
                continue;
            };
            choice
                .selected
                .retain(|known| known.plugin_id != before.plugin_id);
            if let Some(now) = now
                && selects(&choice.query, &choice.parameters, now)
            {
                let at = choice
                    .selected
                    .partition_point(|known| known.plugin_id < now.plugin_id);
                choice.selected.insert(at, now.clone());
            }
            let selected: Arc<[Arc<Plugin>]> = choice.selected.as_slice().into();
            for id in &choice.schedules {
                self.roll.select(id, &selected);
            }
        }
    }

    /// Adds the schedules that did not change themselves, and that name a calendar which did, or were paused or resumed.
    fn reckon_again(
        &self,
        calendars: &BTreeSet<String>,
        paused: &BTreeSet<String>,
        schedules: &mut Vec<Schedule>,
    ) {
        let mut again: BTreeMap<&str, &Schedule> = BTreeMap::new();
        if !calendars.is_empty() {
            let known = self.roll.iter().map(|known| &*known.schedule);
            let homeless = self.homeless.values().map(|homeless| &homeless.schedule);
            for schedule in known.chain(homeless) {
                if schedule
                    .calendars
                    .iter()
                    .any(|name| calendars.contains(name))
                {
                    again.insert(&schedule.id, schedule);
                }
            }
        }
        for id in paused.symmetric_difference(&self.paused) {
            if let Some(known) = self.roll.get(id) {
                again.insert(id, &known.schedule);
            }
        }
        for schedule in schedules.iter() {
            again.remove(schedule.id.as_str());
        }
        schedules.extend(again.into_values().cloned());
    }

    fn put_schedule(&mut self, next: &Catalogue, mut schedule: Schedule) {
        self.drop_schedule(&schedule.id);
        schedule.paused = self.paused.contains(&schedule.id);
        let timetable = match timetable(&schedule, &next.calendars) {
            Ok(timetable) if timetable.is_empty() => self.never.clone(),
            Ok(timetable) => Arc::new(timetable),
            // Left out: without its calendar it would fire when it must not.
            Err(why) => {
                let id = schedule.id.clone();
                self.homeless.insert(id, Homeless { schedule, why });
                return;
            }
        };
        for name in histories(&schedule) {
            *self.histories.entry(name).or_default() += 1;
        }
        for name in nouns(&schedule) {
            *self.run_on.entry(name).or_default() += 1;
        }
        let wording = wording(&schedule);
        if !self.choices.contains_key(&wording) {
            let number = self.next_choice;
            self.next_choice += 1;
            let asked = Asked {
                parameters: schedule.parameters.clone(),
                ..Asked::of(schedule.plugins.clone())
            };
            self.by_plugin.insert(number, &asked);
            self.wordings.insert(number, wording.clone());
            let selected = next
                .plugins
                .values()
                .filter(|plugin| selects(&schedule.plugins, &schedule.parameters, plugin))
                .cloned()
                .collect();
            let choice = Choice {
                number,
                query: schedule.plugins.clone(),
                parameters: schedule.parameters.clone(),
                selected,
                schedules: BTreeSet::new(),
            };
            self.choices.insert(wording.clone(), choice);
        }
        let Some(choice) = self.choices.get_mut(&wording) else {
            return;
        };
        choice.schedules.insert(schedule.id.clone());
        self.roll.put(Arc::new(Scheduled {
            selected: choice.selected.as_slice().into(),
            schedule: Arc::new(schedule),
            timetable,
        }));
    }

    fn drop_schedule(&mut self, id: &str) {
        self.homeless.remove(id);
        let Some(old) = self.roll.remove(id) else {
            return;
        };
        for name in histories(&old.schedule) {
            one_less(&mut self.histories, &name);
        }
        for name in nouns(&old.schedule) {
            one_less(&mut self.run_on, &name);
        }
        let wording = wording(&old.schedule);
        let Some(choice) = self.choices.get_mut(&wording) else {
            return;
        };
        choice.schedules.remove(id);
        if choice.schedules.is_empty()
            && let Some(choice) = self.choices.remove(&wording)
        {
            let asked = Asked {
                parameters: choice.parameters,
                ..Asked::of(choice.query)
            };
            self.by_plugin.remove(choice.number, &asked);
            self.wordings.remove(&choice.number);
        }
    }

    /// The sets that name themselves are left out, and all that is broken is told.
    fn lay_out_sets(&mut self, next: &mut Catalogue) {
        let mut broken: Vec<Complaint> = Vec::new();
        for held in self.held.values() {
            if let Held::Broken(complaints) = held {
                broken.extend(complaints.iter().cloned());
            }
        }
        let mut sets: Vec<ObjectSet> = self.sets.values().cloned().collect();
        let all = sets.clone();
        for (owner, circle) in circles(all.iter()) {
            let of_it = |set: &ObjectSet| {
                set.organization.as_deref() == owner && circle.contains(&set.name)
            };
            sets.retain(|set| !of_it(set));
            broken.push(Complaint::error(
                "stored object_set",
                None,
                "",
                in_a_circle(&circle),
            ));
        }
        for homeless in self.homeless.values() {
            broken.push(Complaint::error(
                format!("stored schedule {}", homeless.schedule.name),
                None,
                "calendars",
                homeless.why.clone(),
            ));
        }
        let queries = sets.iter();
        let reaching = reaching(queries.map(|set| (set.name.as_str(), set.query.as_ref())));
        for plugin in next.plugins.values() {
            for set in plugin.sets_taken().filter(|name| reaching.contains(*name)) {
                broken.push(Complaint::error(
                    "stored plugin",
                    None,
                    "consumes",
                    takes_by_relations(&plugin.plugin_id, set),
                ));
            }
        }
        next.sets = Arc::new(sets);
        next.broken = Arc::new(broken);
    }
}

fn key_of(stored: &Stored) -> Key {
    (
        stored.kind.word(),
        stored.organization.clone(),
        stored.name.clone(),
    )
}

fn named(complaints: Vec<Complaint>, stored: &Stored) -> Vec<Complaint> {
    let file = format!("stored {} {}", stored.kind.word(), stored.name);
    let mut complaints = complaints;
    for complaint in &mut complaints {
        complaint.file.clone_from(&file);
    }
    complaints
}

fn wording(schedule: &Schedule) -> Wording {
    let parameters = match schedule.parameters.is_empty() {
        true => String::new(),
        false => Value::Object(schedule.parameters.clone()).to_string(),
    };
    (schedule.plugins.text().to_owned(), parameters)
}

/// The types whose history a schedule asks for, by its inputs and its `when`.
fn histories(schedule: &Schedule) -> BTreeSet<String> {
    let selections = match &schedule.input {
        Input::Selected(selections) => Some(selections.values()),
        Input::Given => None,
    };
    let inputs = selections.into_iter().flatten();
    let inputs = inputs.filter_map(|selection| match selection {
        Selection::Query(query) => Some(&**query),
        Selection::All | Selection::Set(_) => None,
    });
    let queries = inputs.chain(schedule.when.values());
    queries.flat_map(Query::histories).cloned().collect()
}

/// What a schedule is triggered by, each once.
fn nouns(schedule: &Schedule) -> BTreeSet<String> {
    schedule.run_on.iter().cloned().collect()
}

fn one_less(counts: &mut BTreeMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

fn selects(query: &Query, parameters: &Map<String, Value>, plugin: &Plugin) -> bool {
    let facts = Facts {
        subject: plugin,
        trigger: None,
        previous: None,
        parameters,
        now: Moment::EPOCH,
        world: &Nowhere,
    };
    query.answers(&facts).unwrap_or(false)
}
