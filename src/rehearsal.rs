//! A rehearsal: what rules would do with things that a case gives, through the decisions that the service takes.
//!
//! There is no store, no clock and no chance in it. A case is played alone; a [`Replay`] goes on from what has happened
//! to what has happened next. What a case leaves open is empty: no other objects, no history, no open
//! tasks. A run that selects its inputs finds them among the given objects at once.

mod case;
mod differ;
mod replay;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::catalogue::{Catalogue, Found, Known, Missing, Stored, keys_in};
use crate::decide::{
    Desk, Ended, Finding, FindingOutcome, Impossible, Inputs, OpenInput, Plan, World, change, due,
    occurrence, page, selects,
};
use crate::declaration::{Declared, Kind};
use crate::document::Place;
use crate::moment::{Moment, Span};
use crate::object::{Object, ObjectKey, Told};
use crate::recurrence::Last;
use crate::rules::Rules;
use crate::run::{Reason, RunDraft, Turn};
use crate::schedule::{Input, Organization, Selection};
use crate::task::{Ids, digest, digest_of_all, key_of_all, unique_key};
use crate::trigger::Scheduled;

pub use case::{Cases, Named, read_cases};
pub use differ::{Change, Differences, Differs};
pub use replay::{Met, Page, Replay, Sample, Tally};

/// What is there, what happens, and what is to come of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub place: Option<Place>,
    pub now: Moment,
    pub given: Vec<Object>,
    /// Tasks that have not ended.
    pub open: Vec<Before>,
    /// Tasks that have.
    pub ended: Vec<Before>,
    pub cue: Cue,
    /// All the tasks that are to be made.
    pub tasks: Vec<Wanted>,
    /// Some of what is to be refused.
    pub refused: Vec<Refused>,
}

/// A task of before.
#[derive(Clone, Debug)]
pub struct Before {
    pub plugin: String,
    pub organization: String,
    /// More than one where files were joined.
    pub inputs: Vec<String>,
    /// When it ended; nothing: at the time of the case.
    pub at: Option<Moment>,
}

#[derive(Clone, Debug)]
pub enum Cue {
    Event(Box<Told>),
    Instant(Moment),
}

/// A task that is to be made; what is not said may be anything.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub plugin: String,
    pub inputs: Option<Vec<String>>,
    pub schedule: Option<String>,
    pub organization: Option<String>,
    pub queue: Option<String>,
    pub priority: Option<i64>,
}

/// A candidate that is to get no task.
#[derive(Clone, Debug)]
pub struct Refused {
    pub plugin: String,
    pub input: Option<String>,
    pub schedule: Option<String>,
    pub reason: Option<Reason>,
}

/// A task that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub plugin: String,
    pub inputs: Vec<String>,
    pub schedule: String,
    pub organization: String,
    pub queue: String,
    pub priority: i64,
}

/// A candidate that got none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub plugin: String,
    pub input: Option<String>,
    pub schedule: String,
    pub reason: Reason,
    pub detail: String,
}

/// What came of a case.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub made: Vec<Made>,
    pub left: Vec<Left>,
    /// The event would have been a dead letter.
    pub impossible: Option<Impossible>,
}

/// How an outcome differs from what was wanted.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    pub not_made: Vec<Wanted>,
    pub not_wanted: Vec<Made>,
    pub not_refused: Vec<Refused>,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.not_made.is_empty() && self.not_wanted.is_empty() && self.not_refused.is_empty()
    }
}

/// Plays a case with what is declared.
pub fn play(rules: &Arc<Rules>, declared: &[Declared], case: &Case) -> Outcome {
    let catalogue = Catalogue::build(rules.clone(), 1, &stored(declared, case));
    let mut asked: BTreeMap<String, Missing> = BTreeMap::new();
    loop {
        let mut stage = Stage {
            catalogue: &catalogue,
            case,
            world: world(&catalogue, case),
            ids: Ids::seeded(0),
            plan: Plan::default(),
            findings: Vec::new(),
            outcome: Outcome::default(),
        };
        for (organization, missing) in &asked {
            let known = known(case, organization, missing);
            stage.world.beyond.insert(organization.clone(), known);
        }
        stage.play();
        let missing = stage.world.missing();
        if missing.is_empty() {
            return stage.outcome();
        }
        for (organization, more) in missing {
            let known = asked.entry(organization).or_default();
            known.objects.extend(more.objects);
            known.histories.extend(more.histories);
            known.files.extend(more.files);
            for (pointer, keys) in more.referrers {
                known.referrers.entry(pointer).or_default().extend(keys);
            }
        }
    }
}

/// What differs from what the case wants.
pub fn compare(case: &Case, outcome: &Outcome) -> Difference {
    let mut difference = Difference::default();
    let mut made: Vec<&Made> = outcome.made.iter().collect();
    // Who says most chooses first, so that a vague wish does not take what only a precise one means.
    let mut wanted: Vec<&Wanted> = case.tasks.iter().collect();
    wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.says()));
    for wanted in wanted {
        match made.iter().position(|made| wanted.is(made)) {
            Some(at) => drop(made.remove(at)),
            None => difference.not_made.push(wanted.clone()),
        }
    }
    difference.not_wanted = made.into_iter().cloned().collect();
    let refused = |refused: &&Refused| !outcome.left.iter().any(|left| refused.is(left));
    difference.not_refused = case.refused.iter().filter(refused).cloned().collect();
    difference
}

impl Wanted {
    fn says(&self) -> usize {
        [
            self.inputs.is_some(),
            self.schedule.is_some(),
            self.organization.is_some(),
            self.queue.is_some(),
            self.priority.is_some(),
        ]
        .into_iter()
        .filter(|said| *said)
        .count()
    }

    fn is(&self, made: &Made) -> bool {
        self.plugin == made.plugin
            && self.inputs.as_ref().is_none_or(|inputs| {
                let (mut wanted, mut given) = (inputs.clone(), made.inputs.clone());
                wanted.sort_unstable();
                given.sort_unstable();
                wanted == given
            })
            && said(&self.schedule, &made.schedule)
            && said(&self.organization, &made.organization)
            && said(&self.queue, &made.queue)
            && self
                .priority
                .is_none_or(|priority| priority == made.priority)
    }
}

impl Refused {
    fn is(&self, left: &Left) -> bool {
        self.plugin == left.plugin
            && self.reason.is_none_or(|reason| reason == left.reason)
            && said(&self.schedule, &left.schedule)
            && self
                .input
                .as_ref()
                .is_none_or(|input| left.input.as_ref() == Some(input))
    }
}

fn said(wanted: &Option<String>, found: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == found)
}

/// What is declared as a store would have it: made at the time of the case, by the names that it has.
fn stored(declared: &[Declared], case: &Case) -> Vec<Stored> {
    let row = |kind: Kind, name: &str, organization: &str| Stored {
        kind,
        id: format!("{}:{organization}:{name}", kind.word()),
        name: name.to_owned(),
        organization: organization.to_owned(),
        definition: serde_json::Map::new(),
        revision: 1,
        created_at: case.now.minus(Span::seconds(86_400)),
    };
    let mut rows: Vec<Stored> = declared
        .iter()
        .filter(|entry| entry.kind != Kind::Run)
        .map(|entry| Stored {
            definition: entry.definition.clone(),
            ..row(entry.kind, &entry.name, &entry.organization)
        })
        .collect();
    // An organisation that has something is there.
    for object in &case.given {
        let id = &object.key.organization;
        let known = |row: &Stored| row.kind == Kind::Organization && row.name == *id;
        if !rows.iter().any(known) {
            let mut new = row(Kind::Organization, id, "");
            new.definition.insert("id".to_owned(), id.clone().into());
            rows.push(new);
        }
    }
    rows
}

/// What is known before the decision.
fn world(catalogue: &Catalogue, case: &Case) -> World {
    let mut world = World::default();
    let inputs_of = |before: &Before| -> Vec<ObjectKey> {
        let alone = before.inputs.is_empty().then(String::new);
        let inputs = before.inputs.iter().cloned().chain(alone);
        inputs
            .map(|primary_key| ObjectKey {
                organization: before.organization.clone(),
                primary_key,
            })
            .collect()
    };
    let key_of = |before: &Before| {
        let none = serde_json::Map::new();
        let input = key_of_all(before.inputs.iter().map(String::as_str));
        let (organization, plugin) = (&before.organization, &before.plugin);
        unique_key(organization, plugin, input.as_deref(), &none, None)
    };
    for (at, before) in case.open.iter().enumerate() {
        let id = format!("open-{}", at + 1);
        for input in inputs_of(before) {
            world.open.entry(input).or_default().push(OpenInput {
                unique_key: key_of(before),
                task_id: id.clone(),
                plugin_id: before.plugin.clone(),
                run_id: id.clone(),
                running: true,
                queued: false,
                waiting: false,
                on_behalf: false,
                priority: 0,
            });
        }
    }
    for object in &case.given {
        world.objects.insert(object.key.clone(), object.clone());
    }
    for before in &case.ended {
        let inputs = inputs_of(before);
        let seen: Vec<(&str, String)> = inputs
            .iter()
            .filter_map(|input| {
                let object = world.objects.get(input)?;
                let ignored = catalogue.rules.ignored(&object.object_type);
                let digest = digest(&object.attributes, ignored);
                Some((input.primary_key.as_str(), digest))
            })
            .collect();
        let ended = Ended {
            at: before.at.unwrap_or(case.now),
            digest: digest_of_all(seen.into_iter()),
        };
        world.ended.insert(key_of(before), ended);
    }
    world
}

/// What is asked beyond, among what is given.
fn known(case: &Case, organization: &str, missing: &Missing) -> Known {
    let given = || {
        let theirs = case.given.iter();
        theirs.filter(|object| object.key.organization == organization && object.live())
    };
    let mut found = Found::default();
    let asked = |object: &&Object| missing.objects.contains(&object.key.primary_key);
    found.objects = given().filter(asked).cloned().collect();
    for (pointer, keys) in &missing.referrers {
        let points = |object: &&Object| {
            object.object_type == pointer.0
                && keys_in(object.attributes.get(&pointer.1)).any(|key| keys.contains(key))
        };
        let pointing = given().filter(points).cloned().collect();
        found.referrers.insert(pointer.clone(), pointing);
    }
    let mut known = Known::default();
    known.learn(missing.clone(), found);
    known
}

/// One performance.
struct Stage<'a> {
    catalogue: &'a Catalogue,
    case: &'a Case,
    world: World,
    ids: Ids,
    plan: Plan,
    findings: Vec<Finding>,
    outcome: Outcome,
}

impl Stage<'_> {
    fn play(&mut self) {
        match &self.case.cue {
            Cue::Event(told) => {
                let input = told.change.key.primary_key.clone();
                self.outcome.impossible =
                    self.decide(|desk, world| change(desk, world, told).err());
                self.note_findings(&Some(input));
            }
            Cue::Instant(at) => self.tick(*at),
        }
        for run in std::mem::take(&mut self.plan.runs) {
            if run.expands && matches!(run.turn, Turn::Now { .. }) {
                self.expand(run.clone());
            }
            self.plan.runs.push(run);
        }
    }

    fn decide<T>(&mut self, decide: impl FnOnce(&mut Desk<'_>, &mut World) -> T) -> T {
        let mut desk = Desk {
            catalogue: self.catalogue,
            now: self.case.now,
            ids: &mut self.ids,
            plan: &mut self.plan,
            findings: Some(&mut self.findings),
        };
        decide(&mut desk, &mut self.world)
    }

    /// What the clock starts at an instant, and nothing that it would have started before.
    fn tick(&mut self, at: Moment) {
        let catalogue = self.catalogue;
        for scheduled in catalogue.schedules.by_name() {
            let before = at.minus(Span::from_micros(1));
            let Some(due) = due(scheduled, before, Last::Never, at) else {
                continue;
            };
            let schedule = &scheduled.schedule;
            let theirs: Vec<Organization> = catalogue
                .organizations
                .values()
                .filter(|known| known.enabled)
                .filter(|known| said(&schedule.organization, &known.id))
                .cloned()
                .collect();
            for (nominal, cause) in due.chosen {
                for organization in &theirs {
                    self.decide(|desk, world| {
                        occurrence(desk, world, scheduled, organization, cause, nominal);
                    });
                    self.note_findings(&None);
                }
            }
        }
    }

    /// The inputs of a run, all on one page.
    fn expand(&mut self, mut run: RunDraft) {
        let catalogue = self.catalogue;
        let Some(scheduled) = catalogue.scheduled(&run.schedule_id) else {
            return;
        };
        let mut new = self.plan.organizations.iter();
        let Some(organization) = catalogue
            .organizations
            .get(&run.organization)
            .or_else(|| new.find(|new| new.id == run.organization))
            .cloned()
        else {
            return;
        };
        let inputs = self.inputs(&scheduled, &run);
        let seen = self.findings.len();
        self.decide(|desk, world| {
            let pages = Inputs {
                carried: &BTreeMap::new(),
                found: &inputs,
                last: true,
            };
            page(desk, world, &scheduled, &organization, &mut run, &pages);
        });
        let found = self.findings.split_off(seen);
        for (input, finding) in inputs.iter().zip(found) {
            self.findings.push(finding);
            self.note_findings(&Some(input.key.primary_key.clone()));
        }
    }

    /// The objects that a schedule's `input` selects, in the order in which they are looked at.
    fn inputs(&mut self, scheduled: &Scheduled, run: &RunDraft) -> Vec<Object> {
        let Input::Selected(selections) = &scheduled.schedule.input else {
            return Vec::new();
        };
        // What a selection asks and is not known is noted there.
        let theirs = &mut self.world.beyond;
        theirs.entry(run.organization.clone()).or_default();
        let mut there: Vec<&Object> = self
            .world
            .objects
            .values()
            .filter(|object| object.live() && object.key.organization == run.organization)
            .collect();
        there.sort_by(|a, b| a.key.primary_key.cmp(&b.key.primary_key));
        let parameters = &scheduled.schedule.parameters;
        let nothing = Known::default();
        let known = self.world.beyond.get(&run.organization);
        let asked = known.unwrap_or(&nothing).asked(self.catalogue);
        let mut inputs = Vec::new();
        for (object_type, selection) in selections {
            for object in there
                .iter()
                .filter(|object| object.object_type == *object_type)
            {
                let now = self.case.now;
                let takes = match selection {
                    Selection::All => true,
                    Selection::Set(set) => self.catalogue.set_has(set, *object, &asked),
                    Selection::Query(query) => {
                        selects(query, object, &run.occasion, parameters, now, &asked)
                            .unwrap_or(false)
                    }
                };
                if takes {
                    inputs.push((*object).clone());
                }
            }
        }
        inputs
    }

    /// Keeps what was found since the last time as refusals.
    fn note_findings(&mut self, input: &Option<String>) {
        for finding in self.findings.drain(..) {
            let FindingOutcome::Considered(plugins) = finding.outcome else {
                continue;
            };
            for (plugin, outcome) in plugins {
                if let Err(refusal) = outcome {
                    self.outcome.left.push(Left {
                        plugin,
                        input: input.clone(),
                        schedule: finding.schedule.clone(),
                        reason: refusal.reason,
                        detail: refusal.detail,
                    });
                }
            }
        }
    }

    fn outcome(mut self) -> Outcome {
        let schedules: HashMap<&str, &str> = self
            .plan
            .runs
            .iter()
            .map(|run| (run.id.as_str(), run.schedule.as_str()))
            .collect();
        let made = self.plan.tasks.iter().map(|task| Made {
            plugin: task.plugin_id.clone(),
            inputs: task
                .inputs
                .iter()
                .map(|input| input.primary_key.clone())
                .collect(),
            schedule: schedules
                .get(task.run_id.as_str())
                .map(|name| (*name).to_owned())
                .unwrap_or_default(),
            organization: task.organization.clone(),
            queue: task.queue.clone(),
            priority: task.priority,
        });
        self.outcome.made = made.collect();
        self.outcome
    }
}
