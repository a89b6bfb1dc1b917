//! Rules over what has happened: events that were handled, one after another, or objects that are there.
//!
//! Nobody works in a replay, so each task counts as ended as soon as it is made: what comes after it meets its grace and
//! not the task. Memory holds a bounded number of objects; what is forgotten is taken from what the store says of it now.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::catalogue::{Catalogue, Found, Keys, Missing};
use crate::decide::{
    Desk, Ended, Finding, FindingOutcome, Inputs, Plan, Refusal, Scope, World, change, occurrence,
    page,
};
use crate::moment::Moment;
use crate::object::{Object, ObjectKey, Operation, Rank, Told, Word};
use crate::run::{Cause, Occasion, Reason, RunDraft, Turn};
use crate::schedule::Organization;
use crate::task::Ids;
use crate::trigger::Scheduled;

/// Objects that memory holds, and their weight together.
const MOST: usize = 20_000;
const HEAVY: usize = 64 << 20;
/// Of each schedule so many candidates are shown.
const SAMPLES: usize = 5;

/// What came of one schedule.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub schedule: String,
    /// `None`: it is for all.
    pub organization: Option<String>,
    /// Changes that touched it.
    pub events: u64,
    pub runs: u64,
    pub tasks: u64,
    /// Of the runs, those that look for their inputs.
    pub expanding: u64,
    pub refused: BTreeMap<Reason, u64>,
    pub samples: Vec<Sample>,
    /// What set off the first run that looks for its inputs.
    pub first: Option<(String, Occasion)>,
}

/// How a candidate came before its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Its object changed.
    Changed,
    /// The clock started the schedule, which does not look for inputs.
    Instant,
    /// The schedule looked for its inputs.
    Found,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Sample {
    pub schedule_id: String,
    pub organization: String,
    pub event_id: Option<String>,
    /// Empty where there is no input.
    pub object: String,
    pub plugin: String,
    pub met: Met,
    /// Nothing where it got a task.
    pub refusal: Option<Refusal>,
}

/// What a decision was about.
#[derive(Clone, Copy)]
struct About<'a> {
    organization: &'a str,
    event: Option<&'a str>,
    object: &'a str,
    met: Met,
}

/// A page of inputs of one run.
pub struct Page<'a> {
    pub scheduled: &'a Scheduled,
    pub organization: &'a Organization,
    pub cause: Cause,
    pub occasion: &'a Occasion,
    pub found: &'a [Object],
    pub last: bool,
    pub now: Moment,
}

/// One set of rules, and what has become of the world under it.
pub struct Replay {
    catalogue: Arc<Catalogue>,
    world: World,
    ids: Ids,
    /// Objects in the order in which they were met.
    met: VecDeque<ObjectKey>,
    weight: usize,
    /// Unique keys whose ends are known, by their input.
    ends: HashMap<ObjectKey, Vec<String>>,
    /// What the pages before left for a batch, by plugin.
    carried: BTreeMap<String, Vec<Object>>,
    tallies: BTreeMap<String, Tally>,
    /// What became of each candidate of the last decision.
    decided: Vec<Sample>,
    /// Changes of objects of which nobody knows how they were before.
    pub approximate: u64,
    /// Changes that would be dead letters.
    pub impossible: u64,
}

impl Replay {
    pub fn new(catalogue: Arc<Catalogue>) -> Replay {
        Replay {
            catalogue,
            world: World::default(),
            ids: Ids::seeded(0),
            met: VecDeque::new(),
            weight: 0,
            ends: HashMap::new(),
            carried: BTreeMap::new(),
            tallies: BTreeMap::new(),
            decided: Vec::new(),
            approximate: 0,
            impossible: 0,
        }
    }

    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    pub fn knows(&self, key: &ObjectKey) -> bool {
        self.world.objects.contains_key(key)
    }

    /// The objects of an organisation that memory holds.
    pub fn here(&self, organization: &str) -> Keys {
        self.world.keys_of(organization)
    }

    /// What came of each schedule that anything came of, by its id.
    pub fn tallies(&self) -> &BTreeMap<String, Tally> {
        &self.tallies
    }

    /// What became of each candidate of the last decision; it is told once.
    pub fn decided(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.decided)
    }

    /// An object is met for the first time, by a change that did this to it; `stored` is what the store says of it now.
    pub fn meet(&mut self, told: &Told, operations: &[Operation], stored: Option<&Object>) {
        let change = &told.change;
        if matches!(operations, [] | [Operation::Created]) {
            return;
        }
        self.approximate += 1;
        let mut before = stored.cloned().unwrap_or_default();
        before.key = change.key.clone();
        if let Some(said) = &change.object_type {
            before.object_type.clone_from(said);
        }
        // It was there, and whatever comes is newer.
        before.created_rank = Some(Rank {
            number: i64::MIN,
            event_id: String::new(),
        });
        before.deleted_rank = None;
        before.attributes_rank = None;
        before.level_rank = None;
        before.lifted = !operations.contains(&Operation::Created);
        match &change.word {
            Word::Object {
                attributes, level, ..
            } => {
                if attributes.is_some() {
                    before.attributes.clear();
                }
                let empty = attributes.as_ref().is_none_or(serde_json::Map::is_empty);
                if level.is_some() && (empty || !before.lifted) {
                    before.level = None;
                }
            }
            Word::Level(_) => before.level = None,
            Word::Deleted => {}
        }
        self.weight += before.weight();
        self.met.push_back(before.key.clone());
        self.world.objects.insert(before.key.clone(), before);
        self.forget();
    }

    /// What stands in the way of tasks on some objects, as the store knows it.
    pub fn stand(&mut self, standing: World) {
        self.world.objects.extend(standing.objects);
        self.world.open = standing.open;
        self.world.ended = standing.ended;
        self.world.suppressed = standing.suppressed;
    }

    /// What was missing was fetched; or it would be too much.
    pub fn learn(&mut self, organization: String, missing: Missing, found: Option<Found>) {
        let known = self.world.beyond.entry(organization).or_default();
        match found {
            Some(found) => known.learn(missing, found),
            None => known.close(),
        }
    }

    /// Decides a change. What it asks beyond and is not known comes back, to be fetched before it is decided again.
    pub fn change(&mut self, told: &Told, at: Moment) -> Vec<(String, Missing)> {
        let key = &told.change.key;
        let before = self.world.objects.get(key).cloned();
        let catalogue = self.catalogue.clone();
        let (plan, possible) = loop {
            let mut plan = traced();
            let mut desk = Desk {
                catalogue: &catalogue,
                now: at,
                ids: &mut self.ids,
                plan: &mut plan,
                findings: None,
            };
            let possible = change(&mut desk, &mut self.world, told).is_ok();
            let missing = self.world.missing();
            let unseen = std::mem::take(&mut self.world.unseen);
            if missing.is_empty() && unseen.is_empty() {
                break (plan, possible);
            }
            match &before {
                Some(before) => self.world.objects.insert(key.clone(), before.clone()),
                None => self.world.objects.remove(key),
            };
            self.undo(&plan);
            // Every run has ended, so nobody holds a scope.
            let free = unseen.into_iter().map(|scope| (scope, Scope::default()));
            self.world.scopes.extend(free);
            if !missing.is_empty() {
                return missing;
            }
        };
        self.impossible += u64::from(!possible);
        let about = About {
            organization: &told.change.key.organization,
            event: told.event_id.as_deref(),
            object: &told.change.key.primary_key,
            met: Met::Changed,
        };
        self.tally(plan, about, at);
        self.world.beyond.clear();
        match (&before, self.world.objects.get(key)) {
            (None, Some(after)) => {
                self.weight += after.weight();
                self.met.push_back(key.clone());
                self.forget();
            }
            (Some(before), Some(after)) => {
                self.weight = (self.weight + after.weight()).saturating_sub(before.weight());
            }
            _ => {}
        }
        Vec::new()
    }

    /// An instant of the clock for one organisation, where it runs without looking for inputs.
    pub fn instant(&mut self, scheduled: &Scheduled, organization: &Organization, at: Moment) {
        let catalogue = self.catalogue.clone();
        let mut plan = traced();
        for _ in 0..2 {
            plan = traced();
            let mut desk = Desk {
                catalogue: &catalogue,
                now: at,
                ids: &mut self.ids,
                plan: &mut plan,
                findings: None,
            };
            let cause = Cause::OnTime;
            occurrence(
                &mut desk,
                &mut self.world,
                scheduled,
                organization,
                cause,
                at,
            );
            let unseen = std::mem::take(&mut self.world.unseen);
            if unseen.is_empty() {
                break;
            }
            self.undo(&plan);
            let free = unseen.into_iter().map(|scope| (scope, Scope::default()));
            self.world.scopes.extend(free);
        }
        let about = About {
            organization: &organization.id,
            event: None,
            object: scheduled.schedule.target.as_deref().unwrap_or_default(),
            met: Met::Instant,
        };
        self.tally(plan, about, at);
    }

    /// What waits for its batch to be full. It is decided again with the next page, so its standing is needed too.
    pub fn carried(&self) -> Vec<Object> {
        self.carried.values().flatten().cloned().collect()
    }

    /// Decides a page of the inputs of a run, whose standing is known.
    pub fn page(&mut self, asked: &Page<'_>) {
        let catalogue = self.catalogue.clone();
        let schedule = &asked.scheduled.schedule;
        let mut plan = traced();
        let mut run = RunDraft {
            id: self.ids.next(asked.now),
            schedule_id: schedule.id.clone(),
            schedule: schedule.name.clone(),
            organization: asked.organization.id.clone(),
            cause: asked.cause,
            scheduled_for: asked.now,
            created_at: asked.now,
            expands: true,
            occasion: asked.occasion.clone(),
            ..RunDraft::default()
        };
        let carried = std::mem::take(&mut self.carried);
        let mut desk = Desk {
            catalogue: &catalogue,
            now: asked.now,
            ids: &mut self.ids,
            plan: &mut plan,
            findings: None,
        };
        let inputs = Inputs {
            carried: &carried,
            found: asked.found,
            last: asked.last,
        };
        let left = page(
            &mut desk,
            &mut self.world,
            asked.scheduled,
            asked.organization,
            &mut run,
            &inputs,
        );
        let known: HashMap<&str, &Object> = carried
            .values()
            .flatten()
            .chain(asked.found)
            .map(|object| (object.key.primary_key.as_str(), object))
            .collect();
        for (plugin, keys) in left {
            let objects = keys.iter().filter_map(|key| known.get(key.as_str()));
            let objects = objects.map(|object| (*object).clone()).collect();
            self.carried.insert(plugin, objects);
        }
        let tasks = plan.tasks.len() as u64;
        let findings = plan.traced.take().unwrap_or_default();
        let makers = makers(&plan, Some(&schedule.name));
        self.decided.clear();
        for (finding, object) in findings.into_iter().zip(asked.found) {
            let about = About {
                organization: &asked.organization.id,
                event: asked.occasion.event_id.as_deref(),
                object: &object.key.primary_key,
                met: Met::Found,
            };
            self.note(finding, about, &makers, 0);
        }
        self.on_behalf(&plan);
        self.of(asked.scheduled).tasks += tasks;
    }

    /// A run of a schedule that looks for its inputs.
    pub fn begin(&mut self, scheduled: &Scheduled) {
        let tally = self.of(scheduled);
        tally.runs += 1;
        tally.expanding += 1;
    }

    fn of(&mut self, scheduled: &Scheduled) -> &mut Tally {
        let schedule = &scheduled.schedule;
        self.tallies
            .entry(schedule.id.clone())
            .or_insert_with(|| Tally {
                schedule: schedule.name.clone(),
                organization: schedule.organization.clone(),
                ..Tally::default()
            })
    }

    /// Counts what a plan makes, and ends it.
    fn tally(&mut self, mut plan: Plan, about: About<'_>, at: Moment) {
        let mut tasks: HashMap<String, u64> = HashMap::new();
        for task in &plan.tasks {
            *tasks.entry(task.run_id.clone()).or_default() += 1;
        }
        let findings = plan.traced.take().unwrap_or_default();
        let makers = makers(&plan, None);
        self.decided.clear();
        for finding in findings {
            self.note(finding, about, &makers, 1);
        }
        self.on_behalf(&plan);
        for run in &plan.runs {
            let Some(scheduled) = self.catalogue.scheduled(&run.schedule_id) else {
                continue;
            };
            let made = tasks.get(&run.id).copied().unwrap_or(0);
            let tally = self.of(&scheduled);
            tally.runs += u64::from(!matches!(run.turn, Turn::Ended(..)));
            tally.tasks += made;
            if run.expands {
                tally.expanding += 1;
                let first = || (run.organization.clone(), run.occasion.clone());
                tally.first.get_or_insert_with(first);
            }
        }
        self.end(&plan, at);
    }

    fn note(
        &mut self,
        finding: Finding,
        about: About<'_>,
        makers: &HashMap<String, String>,
        counts: u64,
    ) {
        let Some(scheduled) = self.catalogue.scheduled(&finding.schedule_id) else {
            return;
        };
        let tally = self.of(&scheduled);
        tally.events += counts;
        let considered = match finding.outcome {
            FindingOutcome::Considered(considered) => considered,
            FindingOutcome::Overlaps(Turn::Ended(..)) => {
                *tally.refused.entry(Reason::Overlap).or_default() += 1;
                return;
            }
            _ => return,
        };
        let mut decided = Vec::with_capacity(considered.len());
        for (plugin, outcome) in considered {
            let mut refusal = outcome.err();
            if let Some(refusal) = &mut refusal {
                *tally.refused.entry(refusal.reason).or_default() += 1;
                // The id of a task that is imagined says nothing to anybody.
                let imagined = |id: &&String| refusal.detail.contains(id.as_str());
                if refusal.reason == Reason::Duplicate
                    && let Some(maker) = makers.keys().find(imagined).and_then(|id| makers.get(id))
                {
                    refusal.detail = format!("the schedule {maker} makes that task of the same");
                }
            }
            let sample = Sample {
                schedule_id: finding.schedule_id.clone(),
                organization: about.organization.to_owned(),
                event_id: about.event.map(str::to_owned),
                object: about.object.to_owned(),
                plugin,
                met: about.met,
                refusal,
            };
            if tally.samples.len() < SAMPLES {
                tally.samples.push(sample.clone());
            }
            decided.push(sample);
        }
        self.decided.append(&mut decided);
    }

    /// What other organisations get for having the same object is found for no schedule.
    fn on_behalf(&mut self, plan: &Plan) {
        for task in plan.tasks.iter().filter(|task| task.on_behalf) {
            let run = plan.runs.iter().find(|run| run.id == task.run_id);
            let (Some(run), Some(input)) = (run, task.inputs.first()) else {
                continue;
            };
            self.decided.push(Sample {
                schedule_id: run.schedule_id.clone(),
                organization: task.organization.clone(),
                event_id: None,
                object: input.primary_key.clone(),
                plugin: task.plugin_id.clone(),
                met: Met::Changed,
                refusal: None,
            });
        }
    }

    /// Every task ends at once, as done, and every run with it.
    fn end(&mut self, plan: &Plan, at: Moment) {
        self.undo(plan);
        for task in plan.tasks.iter().filter(|task| task.graced) {
            if task.inputs.is_empty() {
                let digest = String::new();
                self.world
                    .ended
                    .insert(task.unique_key.clone(), Ended { at, digest });
            }
            for input in &task.inputs {
                let key = ObjectKey {
                    organization: task.organization.clone(),
                    primary_key: input.primary_key.clone(),
                };
                let digest = input.digest.clone();
                self.world
                    .ended
                    .insert(input.unique_key.clone(), Ended { at, digest });
                let ends = self.ends.entry(key).or_default();
                if !ends.contains(&input.unique_key) {
                    ends.push(input.unique_key.clone());
                }
            }
        }
    }

    /// What a plan made is not there.
    fn undo(&mut self, plan: &Plan) {
        for task in &plan.tasks {
            let keys = task.inputs.iter().map(|input| input.primary_key.as_str());
            for primary_key in keys.chain([""]) {
                let key = ObjectKey {
                    organization: task.organization.clone(),
                    primary_key: primary_key.to_owned(),
                };
                if let Some(open) = self.world.open.get_mut(&key) {
                    open.retain(|open| open.task_id != task.id);
                }
            }
        }
        self.world.open.retain(|_, open| !open.is_empty());
        self.world.scopes.clear();
    }

    /// What was met first is forgotten first, with what ended on it.
    fn forget(&mut self) {
        while self.met.len() > MOST || (self.weight > HEAVY && self.met.len() > 1) {
            let Some(key) = self.met.pop_front() else {
                return;
            };
            if let Some(object) = self.world.objects.remove(&key) {
                self.weight = self.weight.saturating_sub(object.weight());
            }
            for unique in self.ends.remove(&key).into_iter().flatten() {
                self.world.ended.remove(&unique);
            }
        }
    }
}

/// The schedule that made each task of a plan, by the id of the task; `page`: that of a run which is not in the plan.
fn makers(plan: &Plan, page: Option<&str>) -> HashMap<String, String> {
    let of_run: HashMap<&str, &str> = plan
        .runs
        .iter()
        .map(|run| (run.id.as_str(), run.schedule.as_str()))
        .collect();
    let made = plan.tasks.iter().filter_map(|task| {
        let schedule = of_run.get(task.run_id.as_str()).copied().or(page)?;
        Some((task.id.clone(), schedule.to_owned()))
    });
    made.collect()
}

fn traced() -> Plan {
    Plan {
        traced: Some(Vec::new()),
        ..Plan::default()
    }
}
