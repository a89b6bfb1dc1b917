//! A turn of one run: some pages of its inputs, each read, judged, decided and stored with the position after it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LEASE;
use super::room::Rooms;
use crate::catalogue::Catalogue;
use crate::decide::{Carried, Desk, Inputs, Plan, World, asks_for_ends, facts, page, selects};
use crate::ground::{Ground, count_plan, judged};
use crate::moment::Moment;
use crate::object::Object;
use crate::query::narrow::{Narrow, narrow};
use crate::run::{Reason, RunDraft};
use crate::schedule::{Input, Organization, Overlap, Selection};
use crate::store::{self, Commit, Committed, ExpandingRun, Expansion, Reading, StoreError};
use crate::trigger::Scheduled;

/// How long a run goes on before it is somebody else's turn.
const TURN: Duration = Duration::from_millis(500);
/// Inputs that a page looks at: at first, and at most.
const FIRST_PAGE: i64 = 250;
const LARGEST_PAGE: i64 = 1000;
/// Where tasks are shared a page makes those of other organisations too; one that makes more than this is made smaller.
const MANY: usize = 10_000;
/// A page of objects that are larger than this together is made smaller.
const HEAVY: usize = 4 << 20;

/// How many inputs the next page looks at.
#[derive(Debug)]
pub struct Pace(i64);

impl Default for Pace {
    fn default() -> Pace {
        Pace(FIRST_PAGE)
    }
}

impl Pace {
    /// Objects may be of any size, and memory holds a page of them.
    fn adapt(&mut self, found: &[Object]) {
        let weight: usize = found.iter().map(Object::weight).sum();
        if weight > HEAVY {
            self.slow();
        } else if weight * 2 < HEAVY {
            self.0 = (self.0 * 2).min(LARGEST_PAGE);
        }
    }

    fn slow(&mut self) {
        self.0 = (self.0 / 2).max(1);
    }
}

/// One run, for as long as it is this replica's.
pub struct Turn<'a> {
    ground: &'a Ground,
    catalogue: &'a Catalogue,
    rooms: &'a Rooms,
    run: ExpandingRun,
    /// The type that it is at, and how far its objects were read.
    reading: Option<(String, Reading<'a>)>,
    /// What the run carries, as it was read.
    carried: BTreeMap<String, Vec<Object>>,
}

/// A page that was read and is to be decided.
struct Found {
    from: String,
    /// `None`: there is nothing after it.
    to: Option<String>,
    inputs: Vec<Object>,
    costly: i64,
    world: World,
    now: Moment,
}

/// What a run's schedule says now.
struct Wanted<'a> {
    scheduled: Arc<Scheduled>,
    organization: &'a Organization,
}

impl Wanted<'_> {
    fn selections(&self) -> &BTreeMap<String, Selection> {
        static NONE: BTreeMap<String, Selection> = BTreeMap::new();
        match &self.scheduled.schedule.input {
            Input::Selected(selections) => selections,
            Input::Given => &NONE,
        }
    }
}

impl<'a> Turn<'a> {
    pub fn new(
        ground: &'a Ground,
        catalogue: &'a Catalogue,
        rooms: &'a Rooms,
        run: ExpandingRun,
    ) -> Turn<'a> {
        Turn {
            ground,
            catalogue,
            rooms,
            run,
            reading: None,
            carried: BTreeMap::new(),
        }
    }

    /// Goes on for a while; whatever happens, the run is free for whoever is next.
    pub async fn take(mut self, pace: &mut Pace) -> Result<(), StoreError> {
        let went = self.go_on(pace).await;
        let released = self
            .ground
            .store
            .release_expansion(&self.run.id, self.run.until)
            .await;
        went.and(released)
    }

    async fn go_on(&mut self, pace: &mut Pace) -> Result<(), StoreError> {
        let catalogue = self.catalogue;
        let Some(wanted) = wanted(catalogue, &self.run) else {
            return self.finish().await;
        };
        self.fetch_carried().await?;
        let begun = Instant::now();
        let from = self.run.position.clone();
        let found = self.look(&wanted, &from, pace).await?;
        let mut decided = found.map(|page| self.decide(&wanted, page));
        while let Some((plan, expansion)) = decided.take() {
            if plan.tasks.len() > MANY {
                pace.slow();
            }
            let to = expansion.to.clone();
            let storing = self.store(plan, expansion);
            // The next page is read and decided while this one is written; it counts only if this one does.
            let goes_on = begun.elapsed() < TURN && !self.ground.stop.is_cancelled();
            let following = match &to {
                Some(to) if goes_on => self.look(&wanted, to, pace).await,
                _ => Ok(None),
            };
            let following = following.map(|found| found.map(|page| self.decide(&wanted, page)));
            let (committed, until) = storing.await.map_err(|error| {
                StoreError::Unusable(format!("a page was not stored: {error}"))
            })??;
            if committed != Committed::Done {
                // What stood in the way is known by the next turn, and a smaller page meets less of it.
                pace.slow();
                return Ok(());
            }
            self.ground.dispatch.notify_one();
            self.ground.ended();
            self.run.until = until;
            decided = following?;
        }
        Ok(())
    }

    /// The inputs that earlier turns left for a batch, as they are now.
    async fn fetch_carried(&mut self) -> Result<(), StoreError> {
        if self.run.carried.is_empty() {
            return Ok(());
        }
        let keys: HashSet<&str> = self
            .run
            .carried
            .values()
            .flatten()
            .map(String::as_str)
            .collect();
        let found = self
            .ground
            .store
            .objects_of(&self.run.organization, keys)
            .await?;
        self.carried = carried_objects(&self.run.carried, found.iter());
        Ok(())
    }

    /// A page of inputs after a position, with all that its decision has to know; nothing where there is no room for its
    /// tasks.
    async fn look(
        &mut self,
        wanted: &Wanted<'_>,
        from: &str,
        pace: &mut Pace,
    ) -> Result<Option<Found>, StoreError> {
        let (ground, catalogue) = (self.ground, self.catalogue);
        let room = self
            .rooms
            .inputs(ground, catalogue, &wanted.scheduled)
            .await?;
        if room == 0 {
            return Ok(None);
        }
        let now = ground.clock.now();
        let mut page = Found {
            from: from.to_owned(),
            to: None,
            inputs: Vec::new(),
            costly: 0,
            world: World::default(),
            now,
        };
        let (at, after) = read_position(from);
        let mut types = wanted
            .selections()
            .range::<str, _>((Bound::Included(at), Bound::Unbounded));
        if let Some((object_type, selection)) = types.next() {
            let limit = usize::try_from(pace.0.min(room)).unwrap_or(1);
            let reading = match self.reading.take() {
                Some((of, reading)) if of == *object_type => reading,
                _ => {
                    let after = if object_type == at { after } else { "" };
                    let narrowed =
                        narrowed(selection, &self.run, &wanted.scheduled, catalogue, now);
                    let organization = &self.run.organization;
                    ground
                        .store
                        .reading(organization, object_type, after, narrowed)
                }
            };
            let (_, reading) = self.reading.insert((object_type.clone(), reading));
            let found = reading.page(limit).await?;
            pace.adapt(&found);
            page.to = match found.last() {
                Some(last) if !reading.over() => {
                    Some(format!("{object_type}|{}", last.key.primary_key))
                }
                _ => types.next().map(|(name, _)| format!("{name}|")),
            };
            (page.inputs, page.costly) = self
                .select(selection, found, &wanted.scheduled, now)
                .await?;
        }
        let inputs: Vec<&Object> = page
            .inputs
            .iter()
            .chain(self.carried.values().flatten())
            .collect();
        let ends = asks_for_ends(catalogue, &wanted.scheduled, self.run.cause);
        let among = catalogue.fellows();
        page.world = if among.is_empty() {
            ground
                .store
                .gather_standing(&self.run.organization, &inputs, ends)
                .await?
        } else {
            let keys = inputs.iter().map(|input| input.key.clone()).collect();
            let wanted = store::Wanted {
                keys,
                among,
                ..store::Wanted::default()
            };
            ground.store.gather(&wanted).await?.world
        };
        Ok(Some(page))
    }

    /// What a page makes, and where the run stands after it. What is carried on is kept here too.
    fn decide(&mut self, wanted: &Wanted<'_>, mut found: Found) -> (Plan, Expansion) {
        let schedule = &wanted.scheduled.schedule;
        let mut plan = Plan::default();
        let mut ids = self.ground.ids();
        let mut draft = RunDraft {
            id: self.run.id.clone(),
            schedule_id: self.run.schedule_id.clone(),
            schedule: schedule.name.clone(),
            schedule_revision: schedule.revision,
            organization: self.run.organization.clone(),
            cause: self.run.cause,
            scheduled_for: self.run.scheduled_for,
            created_at: found.now,
            expands: true,
            refused: self.run.refused.clone(),
            asked: self.run.asked.clone(),
            line: self.run.line.clone(),
            ..RunDraft::default()
        };
        if found.costly > 0 {
            add(&mut draft.refused, Reason::QueryTooCostly, found.costly);
            let refused = plan.refused.entry(Reason::QueryTooCostly).or_default();
            *refused += found.costly.unsigned_abs();
        }
        let mut desk = Desk {
            catalogue: self.catalogue,
            now: found.now,
            ids: &mut ids,
            plan: &mut plan,
            findings: None,
        };
        let carried = page(
            &mut desk,
            &mut found.world,
            &wanted.scheduled,
            wanted.organization,
            &mut draft,
            &Inputs {
                carried: &self.carried,
                found: &found.inputs,
                last: found.to.is_none(),
            },
        );
        let known = found.inputs.iter().chain(self.carried.values().flatten());
        self.carried = carried_objects(&carried, known);
        self.run.refused.clone_from(&draft.refused);
        let mut made: BTreeMap<&str, i64> = BTreeMap::new();
        for task in &plan.tasks {
            *made.entry(task.worker_type.as_str()).or_default() += 1;
        }
        for (worker_type, many) in made {
            self.rooms.fill(worker_type, many);
        }
        let expansion = Expansion {
            run_id: self.run.id.clone(),
            from: found.from,
            to: found.to,
            found: draft.total,
            refused: draft.refused,
            blocked_by: draft.blocked_by,
            releases: schedule.overlap == Overlap::Skip,
            carried,
            until: self.ground.clock.now().plus(LEASE),
        };
        (plan, expansion)
    }

    /// Stores a page beside whatever else is done meanwhile.
    fn store(&self, plan: Plan, expansion: Expansion) -> Storing {
        let store = self.ground.store.clone();
        let (now, revision) = (self.ground.clock.now(), self.catalogue.revision);
        let until = expansion.until;
        tokio::spawn(async move {
            let commit = Commit {
                plan: &plan,
                expansion: Some(expansion),
                ..Commit::empty(now, revision)
            };
            let committed = store.commit(&commit).await?;
            if committed == Committed::Done {
                count_plan(&plan);
            }
            Ok((committed, until))
        })
    }

    /// The objects of a page that the selection takes, and how many its query was too costly for.
    async fn select(
        &self,
        selection: &Selection,
        found: Vec<Object>,
        scheduled: &Scheduled,
        now: Moment,
    ) -> Result<(Vec<Object>, i64), StoreError> {
        let parameters = &scheduled.schedule.parameters;
        let occasion = &self.run.occasion;
        judged(
            &self.ground.store,
            self.catalogue,
            &self.run.organization,
            now,
            found,
            |object, world| match selection {
                Selection::All => Ok(true),
                Selection::Set(name) => Ok(world.member(name, object)),
                Selection::Query(query) => selects(query, object, occasion, parameters, now, world),
            },
        )
        .await
    }

    /// The schedule is gone, or selects no inputs any more: what was found stays, and nothing more is looked for.
    async fn finish(&self) -> Result<(), StoreError> {
        let now = self.ground.clock.now();
        self.ground
            .store
            .commit(&Commit {
                expansion: Some(Expansion {
                    run_id: self.run.id.clone(),
                    from: self.run.position.clone(),
                    refused: self.run.refused.clone(),
                    releases: true,
                    until: now,
                    ..Expansion::default()
                }),
                ..Commit::empty(now, self.catalogue.revision)
            })
            .await?;
        Ok(())
    }
}

/// What became of a page, and until when the run is ours if it is stored.
type Storing = tokio::task::JoinHandle<Result<(Committed, Moment), StoreError>>;

/// What the schedule of a run says, if it is there.
fn wanted<'a>(catalogue: &'a Catalogue, run: &ExpandingRun) -> Option<Wanted<'a>> {
    let scheduled = catalogue.scheduled(&run.schedule_id)?;
    if !matches!(scheduled.schedule.input, Input::Selected(_)) {
        return None;
    }
    Some(Wanted {
        scheduled,
        organization: catalogue.organizations.get(&run.organization)?,
    })
}

/// The position of an expansion: the type that it is at, and the last key that it has seen.
fn read_position(position: &str) -> (&str, &str) {
    position.split_once('|').unwrap_or((position, ""))
}

/// The objects whose keys are carried, in their order.
fn carried_objects<'a>(
    carried: &Carried,
    known: impl Iterator<Item = &'a Object>,
) -> BTreeMap<String, Vec<Object>> {
    if carried.is_empty() {
        return BTreeMap::new();
    }
    let known: HashMap<&str, &Object> = known
        .map(|object| (object.key.primary_key.as_str(), object))
        .collect();
    let objects = |keys: &Vec<String>| {
        let found = keys.iter().filter_map(|key| known.get(key.as_str()));
        found.map(|object| (*object).clone()).collect()
    };
    carried
        .iter()
        .map(|(plugin, keys)| (plugin.clone(), objects(keys)))
        .collect()
}

fn add(refused: &mut Vec<(Reason, i64)>, reason: Reason, many: i64) {
    match refused.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += many,
        None => refused.push((reason, many)),
    }
}

/// What the database may leave out of a page, because the selection takes none of it.
fn narrowed(
    selection: &Selection,
    run: &ExpandingRun,
    scheduled: &Scheduled,
    catalogue: &Catalogue,
    now: Moment,
) -> Narrow {
    match selection {
        Selection::Query(query) => {
            let nothing = Object::default();
            let parameters = &scheduled.schedule.parameters;
            let facts = facts(&nothing, &run.occasion, parameters, now, catalogue);
            narrow(query, &facts)
        }
        Selection::All | Selection::Set(_) => Narrow::Everything,
    }
}
