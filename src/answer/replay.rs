//! What rules would have made of the events that are kept, or of the objects that are there; beside what the present
//! rules would make of the same. Nothing is stored.

mod clock;
mod expand;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::clock::{Clocks, clocks, over_the_clock};
use self::expand::{Look, Pages, expand};
use crate::catalogue::Catalogue;
use crate::ground::Ground;
use crate::moment::Moment;
use crate::object::{Change, Level, Object, ObjectKey, Operation, Rank, Told, Word};
use crate::rehearsal::{Differences, Differs, Replay, Sample, Tally};
use crate::run::Cause;
use crate::schedule::Organization;
use crate::store::{EventsOf, KeptEvent, StoreError, Wanted};
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
    /// Events or objects, at most; and objects of each run that looks for its inputs.
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
    /// When the last event was handled.
    last: Option<Moment>,
    /// Schedules that look for their inputs among more objects than the limit.
    cut: BTreeSet<String>,
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
    let (mut differences, mut of_firsts) = (Differences::default(), Differences::default());
    match asked.over {
        Over::Events => {
            over_events(ground, asked, &mut stages, &mut differences, &mut read).await?;
            // What was made of all events of the while is no measure for some of them.
            if !read.more {
                for (id, runs, tasks) in ground.store.made_of_events(&all(asked, "", 0)).await? {
                    made.insert(id, (runs, tasks));
                }
            }
            firsts = first_runs(ground, asked, &stages, &mut of_firsts, &mut read).await?;
        }
        Over::Objects => {
            over_objects(ground, asked, &mut stages, &mut differences, &mut read).await?;
            over_the_clock(ground, asked, &mut stages, &mut differences, &mut read).await?;
        }
    }
    let clocks = clocks(asked, ground.clock.now());
    let oldest = ground.store.oldest_event().await?;
    let [now, would] = &stages;
    let [first_now, first_would] = &firsts;
    let mut ids: BTreeSet<String> = now.tallies().keys().cloned().collect();
    ids.extend(would.tallies().keys().cloned());
    ids.extend(differences.schedules().cloned());
    ids.extend(clocks.keys().cloned());
    let proposed = about(asked, &asked.proposed);
    ids.extend(proposed.map(|scheduled| scheduled.schedule.id.clone()));
    let mut schedules: Vec<Value> = ids
        .iter()
        .filter_map(|id| {
            let known = asked
                .proposed
                .scheduled(id)
                .or_else(|| asked.present.scheduled(id))?;
            let schedule = &known.schedule;
            let none = Tally::default();
            let (before, after) = (
                now.tallies().get(id).unwrap_or(&none),
                would.tallies().get(id).unwrap_or(&none),
            );
            let name = (
                schedule.name.clone(),
                schedule.organization.clone().unwrap_or_default(),
            );
            let both = [differences.of(id), of_firsts.of(id)];
            Some(json!({
                "schedule": schedule.name, "organization": schedule.organization,
                "in_files": asked.about.contains(&name), "more": read.cut.contains(id),
                "would": tally_as(schedule.name.as_str(), after, first_would.get(id)),
                "now": tally_as(schedule.name.as_str(), before, first_now.get(id)),
                "made": made.get(id).map(|(runs, tasks)| json!({"runs": runs, "tasks": tasks})),
                "difference": difference_as([before, after], both),
                "changes": changes_as(&schedule.name, both),
                "clock": clocks.get(id).map(Clocks::as_json),
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
        "objects": read.objects, "more": read.more, "limit": asked.limit,
        "stopped_at": read.last.filter(|_| events && read.more).map(|at| at.to_string()),
        "not_known_before": would.approximate, "dead_letters": would.impossible,
        "kept_since": oldest.filter(|_| events && cut).map(|at| at.to_string()),
        "not_all_kept": events && cut,
        "schedules": schedules,
    }))
}

/// How many more, and how many candidates get a task under one of the rules alone: these may differ where the numbers
/// are the same.
fn difference_as(
    [before, after]: [&Tally; 2],
    [differs, of_firsts]: [Option<&Differs>; 2],
) -> Value {
    let more = |before: u64, after: u64| {
        i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
    };
    let none = Differs::default();
    let differs = differs.unwrap_or(&none);
    json!({
        "events": more(before.events, after.events), "runs": more(before.runs, after.runs),
        "tasks": more(before.tasks, after.tasks),
        "added": differs.added, "removed": differs.removed,
        "first_expansion": of_firsts.map(|first| json!({"added": first.added, "removed": first.removed})),
    })
}

/// Some of the candidates that get a task under one of the rules alone, those of first runs after the others.
fn changes_as(schedule: &str, both: [Option<&Differs>; 2]) -> Value {
    let of_each = both.iter().zip([false, true]);
    let changes = of_each.flat_map(|(differs, first)| {
        let changes = differs.iter().flat_map(|differs| &differs.changes);
        changes.map(move |change| {
            let mut told = candidate_as(schedule, &change.candidate);
            let word = if change.added { "added" } else { "removed" };
            told.insert("change".to_owned(), json!(word));
            told.insert("reason".to_owned(), json!(change.reason));
            told.insert("detail".to_owned(), json!(change.detail));
            told.insert("first_expansion".to_owned(), json!(first));
            Value::Object(told)
        })
    });
    changes.collect()
}

/// Who and what a candidate is.
fn candidate_as(schedule: &str, candidate: &Sample) -> Map<String, Value> {
    let mut told = Map::new();
    for (name, value) in [
        ("schedule", json!(schedule)),
        ("organization", json!(candidate.organization)),
        ("event", json!(candidate.event_id)),
        ("object", json!(candidate.object)),
        ("plugin", json!(candidate.plugin)),
    ] {
        told.insert(name.to_owned(), value);
    }
    told
}

fn tally_as(schedule: &str, tally: &Tally, first: Option<&Tally>) -> Value {
    let refused = |tally: &Tally| -> Value {
        let counted = tally.refused.iter();
        counted
            .map(|(reason, many)| (reason.word().to_owned(), json!(many)))
            .collect::<Map<_, _>>()
            .into()
    };
    let samples: Vec<Value> = tally
        .samples
        .iter()
        .chain(first.iter().flat_map(|first| &first.samples))
        .map(|sample| {
            let refusal = sample.refusal.as_ref();
            let mut told = candidate_as(schedule, sample);
            told.insert("task".to_owned(), json!(refusal.is_none()));
            let reason = refusal.map(|refusal| refusal.reason.word());
            told.insert("reason".to_owned(), json!(reason));
            let detail = refusal.map(|refusal| &refusal.detail);
            told.insert("detail".to_owned(), json!(detail));
            Value::Object(told)
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
    differences: &mut Differences,
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
            read.last = Some(event.handled_at);
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
            let [now, would] = stages;
            differences.note(now, would);
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
    differences: &mut Differences,
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
                }
                for object in found {
                    let told = as_created(object, now);
                    for stage in stages.iter_mut() {
                        change(ground, stage, &told, now).await?;
                    }
                    let [now, would] = stages;
                    differences.note(now, would);
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

/// What the first run of each schedule that looks for its inputs would find among the objects that are there now.
async fn first_runs(
    ground: &Ground,
    asked: &Replayed,
    stages: &[Replay; 2],
    differences: &mut Differences,
    read: &mut Read,
) -> Result<[Firsts; 2], StoreError> {
    let mut firsts = [Firsts::new(), Firsts::new()];
    let looks = |stage: &Replay| -> BTreeSet<String> {
        let tallies = stage.tallies().iter();
        let looking = tallies.filter(|(_, tally)| tally.first.is_some());
        looking.map(|(id, _)| id.clone()).collect()
    };
    let ids: BTreeSet<String> = stages.iter().flat_map(looks).collect();
    for id in ids {
        // Nothing that another run would have made stands in its way.
        let mut alone = stages
            .each_ref()
            .map(|stage| Replay::new(stage.catalogue().clone()));
        let looks = stages.each_ref().map(|stage| {
            let (organization, occasion) = stage.tallies().get(&id)?.first.as_ref()?;
            Some(Look {
                scheduled: stage.catalogue().scheduled(&id)?,
                organization: stage.catalogue().organizations.get(organization)?.clone(),
                cause: Cause::Event,
                occasion: occasion.clone(),
            })
        });
        expand(ground, asked, &mut alone, &looks, differences, read).await?;
        for ((alone, look), firsts) in alone.iter().zip(&looks).zip(&mut firsts) {
            if look.is_some() {
                let found = alone.tallies().get(&id).cloned();
                firsts.insert(id.clone(), found.unwrap_or_default());
            }
        }
    }
    Ok(firsts)
}
