//! All schedules: numbered, found by their ids and by what happens to an object.
//!
//! [`Schedules`] is what readers hold, a copy of which costs nothing. The [`Roll`] is the writer's.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::event::Event;
use super::formula::{Alternative, Asked};
use super::pages::{NOTHING, Pages};
use super::picture::{Matches, Picture};
use super::pieces::Pieces;
use super::register::Register;
use super::{Scheduled, Tally};
use crate::object::{Object, Operation};
use crate::plugin::Plugin;

/// The field of an event that holds what was done to the object. No query can name it.
const OPERATION: &str = " operation";
/// Fields that are not attributes.
const OWN: [&str; 5] = [
    "primary_key",
    "object_type",
    "organization",
    "scan_level",
    "scan_profile_type",
];

type Places = Pieces<Option<Arc<Scheduled>>, 16>;

/// Schedules as they were at one time.
#[derive(Clone, Debug)]
pub struct Schedules {
    picture: Picture,
    /// By number.
    places: Places,
    /// The number of each, plus one, by its id.
    by_id: Pages,
    count: usize,
}

impl Default for Schedules {
    fn default() -> Schedules {
        Roll::new().schedules()
    }
}

impl Schedules {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Scheduled>> {
        (0..self.places.len()).filter_map(|at| self.places.get(at)?.as_ref())
    }

    /// Each of them, in the order of their names.
    pub fn by_name(&self) -> Vec<&Arc<Scheduled>> {
        let mut all: Vec<&Arc<Scheduled>> = self.iter().collect();
        all.sort_by(|a, b| order(a).cmp(&order(b)));
        all
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Scheduled>> {
        let number = self.number(id)?;
        self.places.get(number as usize)?.as_ref()
    }

    fn number(&self, id: &str) -> Option<u32> {
        number(&self.places, &self.by_id, id).checked_sub(1)
    }

    /// The schedules that may be triggered by what happened to an object, in the order of their names, each with whether
    /// its `when` is known to be true; and what finding them took. `room` is used again for each event.
    pub fn candidates(
        &self,
        object: &Object,
        operations: &[Operation],
        room: &mut Room,
    ) -> (Vec<(&Arc<Scheduled>, bool)>, Tally) {
        fill(&mut room.event, &self.picture, object, operations);
        self.picture.find(&mut room.event, &mut room.matches);
        let mut found: Vec<(&Arc<Scheduled>, bool)> = room
            .matches
            .rules
            .iter()
            .filter_map(|(number, ask)| {
                let scheduled = self.places.get(*number as usize)?.as_ref()?;
                Some((scheduled, !ask))
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
        let tally = Tally {
            candidates: room.matches.candidates as u64,
            checks: room.matches.checks as u64,
            matches: 0,
        };
        (found, tally)
    }
}

fn order(scheduled: &Scheduled) -> (&str, Option<&str>) {
    let schedule = &scheduled.schedule;
    (&schedule.name, schedule.organization.as_deref())
}

/// Room for one event at a time.
#[derive(Debug, Default)]
pub struct Room {
    event: Event,
    matches: Matches,
}

fn fill(event: &mut Event, picture: &Picture, object: &Object, operations: &[Operation]) {
    event.clear(picture);
    event.fill_texts(
        picture,
        OPERATION,
        operations.iter().map(|operation| operation.word()),
    );
    let own = [
        ("primary_key", Some(object.key.primary_key.as_str())),
        ("object_type", Some(object.object_type.as_str())),
        ("organization", Some(object.key.organization.as_str())),
        ("scan_profile_type", object.profile_type.as_deref()),
    ];
    for (name, text) in own {
        event.fill_texts(picture, name, text);
    }
    if let Some(level) = object.level {
        event.fill(picture, "scan_level", &level.into());
    }
    for (name, value) in &object.attributes {
        if !OWN.contains(&name.as_str()) && name != OPERATION {
            event.fill(picture, name, value);
        }
    }
}

/// The number of a schedule, plus one.
fn number(places: &Places, by_id: &Pages, id: &str) -> u32 {
    by_id.find(hash(id), |number| {
        let known = places.get(number as usize - 1).and_then(Option::as_ref);
        known.is_some_and(|known| known.schedule.id == id)
    })
}

fn hash(id: &str) -> u32 {
    let all = FixedState::with_seed(0x726f_6c6c).hash_one(id);
    #[allow(clippy::cast_possible_truncation)]
    {
        (all ^ all >> 32) as u32
    }
}

/// What an object's change is asked for by a schedule that is awake.
fn asked(scheduled: &Scheduled) -> Asked {
    let schedule = &scheduled.schedule;
    if !schedule.awake() {
        return Asked::default();
    }
    let words = schedule
        .operations
        .iter()
        .map(|operation| operation.word().to_owned());
    let words: Vec<String> = words.collect();
    let alternative = |object_type: &String| {
        let mut fixed = vec![
            ("object_type", vec![object_type.clone()]),
            (OPERATION, words.clone()),
        ];
        if let Some(organization) = &schedule.organization {
            fixed.push(("organization", vec![organization.clone()]));
        }
        if !schedule.join.is_empty() {
            fixed.push(("plugin_id", schedule.join.clone()));
        }
        Alternative {
            fixed,
            query: schedule.when.get(object_type).cloned(),
        }
    };
    Asked {
        either: schedule.run_on.iter().map(alternative).collect(),
        parameters: schedule.parameters.clone(),
    }
}

/// The writer's list of schedules.
#[derive(Debug)]
pub struct Roll {
    register: Register,
    places: Places,
    by_id: Pages,
    free: Vec<u32>,
    count: usize,
    room: Event,
    shown: u64,
}

impl Default for Roll {
    fn default() -> Roll {
        Roll::new()
    }
}

impl Roll {
    pub fn new() -> Roll {
        Roll {
            register: Register::new(),
            places: Pieces::default(),
            by_id: Pages::default(),
            free: Vec::new(),
            count: 0,
            room: Event::new(),
            shown: 0,
        }
    }

    /// All schedules as they are now, for readers.
    pub fn schedules(&self) -> Schedules {
        Schedules {
            picture: self.register.picture(),
            places: self.places.clone(),
            by_id: self.by_id.clone(),
            count: self.count,
        }
    }

    /// Schedules that no key finds, so that each event looks at them.
    pub fn unindexed(&self) -> usize {
        self.register.unindexed()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Scheduled>> {
        (0..self.places.len()).filter_map(|at| self.places.get(at)?.as_ref())
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Scheduled>> {
        let number = self.number(id).checked_sub(1)?;
        self.places.get(number as usize)?.as_ref()
    }

    fn number(&self, id: &str) -> u32 {
        number(&self.places, &self.by_id, id)
    }

    /// Takes a schedule in, in the place of the one with its id.
    pub fn put(&mut self, scheduled: Arc<Scheduled>) {
        self.remove(&scheduled.schedule.id);
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.places.push(None);
                #[allow(clippy::cast_possible_truncation)] // no four billion schedules
                {
                    self.places.len() as u32 - 1
                }
            }
        };
        self.register.insert(number, &asked(&scheduled));
        self.by_id.put(hash(&scheduled.schedule.id), number + 1);
        if let Some(place) = self.places.get_mut(number as usize) {
            *place = Some(scheduled);
        }
        self.count += 1;
    }

    pub fn remove(&mut self, id: &str) -> Option<Arc<Scheduled>> {
        let number = self.number(id);
        if number == NOTHING {
            return None;
        }
        self.by_id.remove(hash(id), number);
        let old = self.places.get_mut(number as usize - 1)?.take()?;
        self.register.remove(number - 1, &asked(&old));
        self.free.push(number - 1);
        self.count -= 1;
        Some(old)
    }

    /// Puts another selection of plugins in the place of a schedule's own.
    pub fn select(&mut self, id: &str, selected: &Arc<[Arc<Plugin>]>) {
        let number = self.number(id);
        if number != NOTHING
            && let Some(place) = self.places.get_mut(number as usize - 1)
            && let Some(known) = place
        {
            *place = Some(Arc::new(Scheduled {
                schedule: known.schedule.clone(),
                selected: selected.clone(),
                timetable: known.timetable.clone(),
            }));
        }
    }

    /// Learns how common values are from an event, and moves what waits at common ones: a few schedules now and then.
    /// Whether readers would find things faster in [`Roll::schedules`] now.
    pub fn learn(&mut self, object: &Object, operations: &[Operation]) -> bool {
        const SETTLED_EVERY: u64 = 8;
        const AT_ONCE: usize = 64;
        let picture = self.register.picture();
        fill(&mut self.room, &picture, object, operations);
        self.register.show(&mut self.room);
        self.shown += 1;
        if !self.shown.is_multiple_of(SETTLED_EVERY) {
            return false;
        }
        let places = &self.places;
        let asked = |number: u32| Some(asked(places.get(number as usize)?.as_ref()?));
        self.register.settle(AT_ONCE, &asked) > 0
    }
}
