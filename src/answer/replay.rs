//! What rules would have made of the events that are kept, or of the objects that are there; beside what the present
//! rules would make of the same. Nothing is stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::decide::selects;
use crate::ground::{Ground, judged};
use crate::moment::Moment;
use crate::object::{Change, Level, Object, ObjectKey, Operation, Rank, Told, Word};
use crate::query::narrow::Narrow;
use crate::rehearsal::{Page, Replay, Tally};
use crate::run::{Cause, Occasion};
use crate::schedule::{Input, Organization, Selection};
use crate::store::{EventsOf, KeptEvent, Reading, StoreError, Wanted};
use crate::trigger::Scheduled;
use crate::wire::{self, Message};

/// Events and objects that are read at once: at first, and at most; and the weight from which less is.
const FIRST: i64 = 20;
const MOST: i64 = 500;
const HEAVY: usize = 4 << 20;
/// How often more is fetched of what queries ask beyond an object.
const ROUNDS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Those that are kept, in the order in which they were handled.
    Events,
    /// Those that are there, as if each were created now; and one instant of the clock.
    Objects,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Replayed {
    pub present: Arc<Catalogue>,
    pub proposed: Arc<Catalogue>,
    /// Schedules that the proposal is about, by name and organisation.
    pub about: BTreeSet<(String, String)>,
    pub over: Over,
    pub since: Moment,
    pub until: Moment,
    pub organization: Option<String>,
    /// Events or objects, at most.
    pub limit: i64,
}

/// How far it came.
#[derive(Default)]
struct Read {
    events: u64,
    unchanged: u64,
    unreadable: u64,
    objects: u64,
    /// There was more than the limit.
    more: bool,
}

/// What the first run of a schedule that looks for its inputs would find now.
type Firsts = BTreeMap<String, Tally>;

/// Plays both rules over the same.
pub async fn replay(ground: &Ground, asked: &Replayed) -> Result<Value, StoreError> {
    let mut stages = [
        Replay::new(asked.present.clone()),
        Replay::new(asked.proposed.clone()),
    ];
    let mut read = Read::default();
    let mut made = BTreeMap::new();
    let mut firsts = [Firsts::new(), Firsts::new()];
    match asked.over {
        Over::Events => {
            over_events(ground, asked, &mut stages, &mut read).await?;
            for (id, runs, tasks) in ground.store.made_of_events(&all(asked, "", 0)).await? {
                made.insert(id, (runs, tasks));
            }
            for (stage, firsts) in stages.iter().zip(&mut firsts) {
                *firsts = first_runs(ground, asked, stage).await?;
            }
        }
        Over::Objects => {
            over_objects(ground, asked, &mut stages, &mut read).await?;
            for stage in &mut stages {
                over_the_clock(ground, asked, stage).await?;
            }
        }
    }
    let oldest = ground.store.oldest_event().await?;
    let [now, would] = &stages;
    let [first_now, first_would] = &firsts;
    let mut ids: BTreeSet<String> = now.tallies().keys().cloned().collect();
    ids.extend(would.tallies().keys().cloned());
    let proposed = about(asked, &asked.proposed);
    ids.extend(proposed.map(|scheduled| scheduled.schedule.id.clone()));
    let mut schedules: Vec<Value> = ids
        .iter()
        .filter_map(|id| {
            let known = asked.proposed.scheduled(id).or_else(|| asked.present.scheduled(id))?;
            let schedule = &known.schedule;
            let none = Tally::default();
            let (before, after) = (
                now.tallies().get(id).unwrap_or(&none),
                would.tallies().get(id).unwrap_or(&none),
            );
            let differs = |before: u64, after: u64| {
                i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
            };
            let name = (schedule.name.clone(), schedule.organization.clone().unwrap_or_default());
            Some(json!({
                "schedule": schedule.name, "organization": schedule.organization,
                "in_files": asked.about.contains(&name),
                "would": tally_as(after, first_would.get(id)), "now": tally_as(before, first_now.get(id)),
                "made": made.get(id).map(|(runs, tasks)| json!({"runs": runs, "tasks": tasks})),
                "difference": {
                    "events": differs(before.events, after.events), "runs": differs(before.runs, after.runs),
                    "tasks": differs(before.tasks, after.tasks),
                },
            }))
        })
        .collect();
    schedules.sort_by_key(|schedule| {
        let text = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
        (text("schedule"), text("organization"))
    });
    let events = asked.over == Over::Events;
    let cut = oldest.is_none_or(|oldest| oldest > asked.since);
    Ok(json!({
        "over": if events { "events" } else { "objects" },
        "since": events.then(|| asked.since.to_string()), "until": events.then(|| asked.until.to_string()),
        "events": read.events, "unchanged": read.unchanged, "unreadable": read.unreadable,
        "objects": read.objects, "more": read.more,
        "not_known_before": would.approximate, "dead_letters": would.impossible,
        "kept_since": oldest.filter(|_| events && cut).map(|at| at.to_string()),
        "not_all_kept": events && cut,
        "schedules": schedules,
    }))
}

fn tally_as(tally: &Tally, first: Option<&Tally>) -> Value {
    let refused = |tally: &Tally| -> Value {
        let counted = tally.refused.iter();
        counted
            .map(|(reason, many)| (reason.word().to_owned(), json!(many)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let samples: Vec<Value> = tally
        .samples
        .iter()
        .chain(first.iter().flat_map(|first| &first.samples))
        .map(|sample| {
            let refusal = sample.refusal.as_ref();
            json!({
                "event": sample.event_id, "object": sample.object, "plugin": sample.plugin,
                "task": refusal.is_none(), "reason": refusal.map(|refusal| refusal.reason.word()),
                "detail": refusal.map(|refusal| &refusal.detail),
            })
        })
        .collect();
    json!({
        "events": tally.events, "runs": tally.runs, "tasks": tally.tasks, "expanding": tally.expanding,
        "refused": refused(tally), "samples": samples,
        "first_expansion": first.map(|first| json!({"tasks": first.tasks, "refused": refused(first)})),
    })
}

fn all<'a>(asked: &'a Replayed, after: &'a str, limit: i64) -> EventsOf<'a> {
    EventsOf {
        after,
        since: asked.since,
        until: asked.until,
        organization: asked.organization.as_deref().unwrap_or_default(),
        limit,
    }
}

/// The schedules that the proposal is about, as one catalogue has them.
fn about<'a>(
    asked: &'a Replayed,
    catalogue: &'a Catalogue,
) -> impl Iterator<Item = Arc<Scheduled>> {
    catalogue
        .schedules
        .iter()
        .filter(|scheduled| {
            let schedule = &scheduled.schedule;
            let name = (
                schedule.name.clone(),
                schedule.organization.clone().unwrap_or_default(),
            );
            asked.about.contains(&name)
        })
        .cloned()
}

/// Those for whom it is asked.
fn organizations(asked: &Replayed, catalogue: &Catalogue) -> Vec<Organization> {
    let own = |known: &&Organization| {
        asked
            .organization
            .as_ref()
            .is_none_or(|own| *own == known.id)
            && known.enabled
    };
    catalogue
        .organizations
        .values()
        .filter(own)
        .cloned()
        .collect()
}

async fn over_events(
    ground: &Ground,
    asked: &Replayed,
    stages: &mut [Replay; 2],
    read: &mut Read,
) -> Result<(), StoreError> {
    let mut after = String::new();
    let mut size = FIRST;
    let mut arrival = 0;
    loop {
        let left = asked.limit - i64::try_from(read.events).unwrap_or(i64::MAX);
        let page = ground
            .store
            .events_after(&all(asked, &after, size.min(left + 1)))
            .await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        if left <= 0 {
            read.more = true;
            return Ok(());
        }
        after.clone_from(&last.id);
        read.more |= page.len() as i64 > left;
        let weight: usize = page.iter().map(|event| event.body.len()).sum();
        size = match weight {
            heavy if heavy > HEAVY => (size / 2).max(1),
            light if light * 2 < HEAVY => (size * 2).min(MOST),
            _ => size,
        };
        let mut told = Vec::with_capacity(page.len());
        for event in page
            .iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            read.events += 1;
            arrival += 1;
            match told_by(ground, event, arrival) {
                Some(said) => told.push((event, said)),
                None => read.unreadable += 1,
            }
        }
        let unknown: HashSet<ObjectKey> = told
            .iter()
            .filter(|(event, _)| !matches!(event.operations.as_slice(), [] | [Operation::Created]))
            .map(|(_, told)| told.change.key.clone())
            .filter(|key| stages.iter().any(|stage| !stage.knows(key)))
            .collect();
        let wanted = Wanted {
            keys: unknown,
            ..Wanted::default()
        };
        let stored = ground.store.gather(&wanted).await?.world.objects;
        for (event, told) in &told {
            let key = &told.change.key;
            read.unchanged += u64::from(event.operations.is_empty());
            for stage in stages.iter_mut() {
                if !stage.knows(key) {
                    if event.operations.is_empty() {
                        continue;
                    }
                    stage.meet(told, &event.operations, stored.get(key));
                }
                change(ground, stage, told, event.handled_at).await?;
            }
        }
    }
}

/// What a kept event says, as it said it when it was handled.
fn told_by(ground: &Ground, event: &KeptEvent, arrival: i64) -> Option<Told> {
    let rule = ground.intakes.iter().find(|rule| rule.queue == event.queue);
    let rule = rule.or(ground.intakes.first())?;
    let message = Message {
        body: event.body.as_bytes(),
        content_type: event.content_type.as_deref(),
        routing_key: &event.routing_key,
        message_id: event.message_id.as_deref(),
        headers: &event.headers,
    };
    let reading = wire::Reading {
        format: rule.format,
        order: rule.order,
        names: &ground.rules.names,
        arrived: event.handled_at,
        arrival,
    };
    Some(wire::read_event(&message, &reading).ok()?.told)
}

/// Decides a change with all that it asks beyond, as that is now.
async fn change(
    ground: &Ground,
    stage: &mut Replay,
    told: &Told,
    at: Moment,
) -> Result<(), StoreError> {
    for round in 0..=ROUNDS {
        let missing = stage.change(told, at);
        if missing.is_empty() {
            return Ok(());
        }
        for (organization, missing) in missing {
            let mut here = stage.here(&organization);
            here.insert(told.change.key.primary_key.clone());
            let found = ground
                .store
                .look_up(&organization, &missing, &here, at)
                .await?;
            let found = Some(found).filter(|found| !found.too_much && round + 1 < ROUNDS);
            stage.learn(organization, missing, found);
        }
    }
    Ok(())
}

async fn over_objects(
    ground: &Ground,
    asked: &Replayed,
    stages: &mut [Replay; 2],
    read: &mut Read,
) -> Result<(), StoreError> {
    let types = ground.store.count_objects().await?;
    let now = ground.clock.now();
    for organization in organizations(asked, &asked.proposed) {
        for object_type in types.keys() {
            let mut pages = Pages::of(ground, &organization.id, object_type);
            loop {
                let found = pages.next().await?;
                if found.is_empty() {
                    break;
                }
                let left = asked.limit - i64::try_from(read.objects).unwrap_or(i64::MAX);
                let left = usize::try_from(left).unwrap_or(0);
                read.more |= found.len() > left;
                let found = found.get(..left.min(found.len())).unwrap_or_default();
                if found.is_empty() {
                    return Ok(());
                }
                read.objects += found.len() as u64;
                let inputs: Vec<&Object> = found.iter().collect();
                for stage in stages.iter_mut() {
                    let standing = ground
                        .store
                        .gather_standing(&organization.id, &inputs, true)
                        .await?;
                    stage.stand(standing);
                    for object in found {
                        change(ground, stage, &as_created(object, now), now).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// An object as if it were created now.
fn as_created(object: &Object, now: Moment) -> Told {
    Told {
        event_id: None,
        event_type: "object.created".to_owned(),
        at: now,
        traceparent: None,
        change: Change {
            key: object.key.clone(),
            object_type: Some(object.object_type.clone()),
            rank: Rank {
                number: now.micros(),
                event_id: String::new(),
            },
            word: Word::Object {
                created: true,
                attributes: Some(object.attributes.clone()),
                level: object.level.map(|level| Level {
                    level,
                    profile_type: object.profile_type.clone(),
                }),
            },
            create_counts: false,
        },
    }
}

/// One instant of each schedule that the proposal is about and the clock starts.
async fn over_the_clock(
    ground: &Ground,
    asked: &Replayed,
    stage: &mut Replay,
) -> Result<(), StoreError> {
    let catalogue = stage.catalogue().clone();
    let now = ground.clock.now();
    let timed = about(asked, &catalogue).filter(|scheduled| !scheduled.timetable.is_empty());
    for scheduled in timed.collect::<Vec<_>>() {
        let schedule = &scheduled.schedule;
        if !schedule.awake() {
            continue;
        }
        for organization in organizations(asked, &catalogue) {
            if !schedule.concerns(&organization.id) {
                continue;
            }
            if matches!(schedule.input, Input::Selected(_)) {
                stage.begin(&scheduled);
                let occasion = Occasion::default();
                let asks = (Cause::OnTime, &occasion);
                expand(ground, asked, stage, &scheduled, &organization, asks).await?;
                continue;
            }
            let of = |primary_key: &str| ObjectKey {
                organization: organization.id.clone(),
                primary_key: primary_key.to_owned(),
            };
            let mut wanted = Wanted::default();
            wanted.keys.insert(of(""));
            wanted.keys.extend(schedule.target.as_deref().map(of));
            stage.stand(ground.store.gather(&wanted).await?.world);
            stage.instant(&scheduled, &organization, now);
        }
    }
    Ok(())
}

/// What the first run of each schedule that looks for its inputs would find among the objects that are there now.
async fn first_runs(
    ground: &Ground,
    asked: &Replayed,
    stage: &Replay,
) -> Result<Firsts, StoreError> {
    let catalogue = stage.catalogue().clone();
    let mut firsts = Firsts::new();
    for (id, tally) in stage.tallies() {
        let (Some((organization, occasion)), Some(scheduled)) =
            (&tally.first, catalogue.scheduled(id))
        else {
            continue;
        };
        let Some(organization) = catalogue.organizations.get(organization) else {
            continue;
        };
        let mut alone = Replay::new(catalogue.clone());
        let asks = (Cause::Event, occasion);
        expand(ground, asked, &mut alone, &scheduled, organization, asks).await?;
        let found = alone.tallies().get(id).cloned();
        firsts.insert(id.clone(), found.unwrap_or_default());
    }
    Ok(firsts)
}

/// Finds the inputs of a run, page by page, and decides them.
async fn expand(
    ground: &Ground,
    asked: &Replayed,
    stage: &mut Replay,
    scheduled: &Scheduled,
    organization: &Organization,
    (cause, occasion): (Cause, &Occasion),
) -> Result<(), StoreError> {
    let Input::Selected(selections) = &scheduled.schedule.input else {
        return Ok(());
    };
    let catalogue = stage.catalogue().clone();
    let now = ground.clock.now();
    let parameters = &scheduled.schedule.parameters;
    let mut left = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    for (object_type, selection) in selections {
        let mut pages = Pages::of(ground, &organization.id, object_type);
        loop {
            let mut found = pages.next().await?;
            found.truncate(left);
            left -= found.len();
            if found.is_empty() {
                break;
            }
            let (inputs, _) = judged(
                &ground.store,
                &catalogue,
                &organization.id,
                now,
                found,
                |object, world| match selection {
                    Selection::All => Ok(true),
                    Selection::Set(name) => Ok(world.member(name, object)),
                    Selection::Query(query) => {
                        selects(query, object, occasion, parameters, now, world)
                    }
                },
            )
            .await?;
            let asks = (cause, occasion);
            decide(
                ground,
                stage,
                page_of(scheduled, organization, asks, &inputs, now),
            )
            .await?;
        }
    }
    // What waits for its batch to be full is closed.
    let mut last = page_of(scheduled, organization, (cause, occasion), &[], now);
    last.last = true;
    decide(ground, stage, last).await
}

/// Decides a page with all that stands in the way of its inputs.
async fn decide(ground: &Ground, stage: &mut Replay, page: Page<'_>) -> Result<(), StoreError> {
    let carried = stage.carried();
    let inputs: Vec<&Object> = page.found.iter().chain(&carried).collect();
    let organization = &page.organization.id;
    let standing = ground
        .store
        .gather_standing(organization, &inputs, true)
        .await?;
    stage.stand(standing);
    stage.page(&page);
    Ok(())
}

fn page_of<'a>(
    scheduled: &'a Scheduled,
    organization: &'a Organization,
    (cause, occasion): (Cause, &'a Occasion),
    found: &'a [Object],
    now: Moment,
) -> Page<'a> {
    Page {
        scheduled,
        organization,
        cause,
        occasion,
        found,
        last: false,
        now,
    }
}

/// The live objects of one type, a bounded weight of them at a time.
struct Pages<'a> {
    reading: Reading<'a>,
    size: i64,
}

impl<'a> Pages<'a> {
    fn of(ground: &'a Ground, organization: &str, object_type: &str) -> Pages<'a> {
        let store = &ground.store;
        Pages {
            reading: store.reading(organization, object_type, "", Narrow::Everything),
            size: FIRST,
        }
    }

    async fn next(&mut self) -> Result<Vec<Object>, StoreError> {
        let found = self
            .reading
            .page(usize::try_from(self.size).unwrap_or(1))
            .await?;
        let weight: usize = found.iter().map(Object::weight).sum();
        self.size = match weight {
            heavy if heavy > HEAVY => (self.size / 2).max(1),
            light if light * 2 < HEAVY => (self.size * 2).min(MOST),
            _ => self.size,
        };
        Ok(found)
    }
}
