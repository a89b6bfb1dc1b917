//! What a change of an object triggers: the schedules that the index brings are asked, and have their runs.

use super::beyond::Beyond;
use super::joined::joined_with;
use super::{Desk, Finding, FindingOutcome, World, consider, count_refusal, note, open_run, turn};
use crate::catalogue::Known;
use crate::object::{Object, Operation, Told};
use crate::query::{Facts, Fields};
use crate::run::{Cause, Occasion, Reason, Turn};
use crate::schedule::{Input, Organization};
use crate::trigger::{Untouched, touches};

/// Asks the schedules that the index brings, or all of them where somebody wants to know why.
pub(super) fn trigger(
    desk: &mut Desk<'_>,
    world: &mut World,
    told: &Told,
    organization: &Organization,
    subject: &Object,
    before: Option<&Object>,
    operations: &[Operation],
) {
    let catalogue = desk.catalogue;
    let (mut candidates, mut tally) =
        catalogue
            .schedules
            .candidates(subject, operations, &mut desk.plan.room);
    // Who wants to know why is told of each schedule, by the judge alone.
    if desk.findings.is_some() {
        let all = catalogue.schedules.by_name().into_iter();
        candidates = all.map(|each| (each, false)).collect();
    }
    if !world.beyond.contains_key(&organization.id) {
        let known = Known::default();
        world.beyond.insert(organization.id.clone(), known);
    }
    for (scheduled, sure) in candidates {
        let touched = match world.beyond.get(&organization.id) {
            Some(known) => {
                let beyond = Beyond {
                    catalogue,
                    known,
                    organization: &organization.id,
                    objects: &world.objects,
                    lived: &desk.plan.versions,
                    now: desk.now,
                };
                let facts = Facts {
                    subject,
                    trigger: Some(subject),
                    previous: before.map(|before| before as &dyn Fields),
                    parameters: &scheduled.schedule.parameters,
                    now: desk.now,
                    world: &beyond,
                };
                let touched = touches(
                    scheduled,
                    sure,
                    &organization.id,
                    &subject.object_type,
                    operations,
                    &facts,
                );
                // What was missing is fetched, and all is decided again; unless it was too much.
                if known.missed() {
                    Err(Untouched::TooCostly)
                } else {
                    touched
                }
            }
            None => Err(Untouched::TooCostly),
        };
        let matching = match touched {
            Ok(matching) => matching,
            Err(untouched) => {
                if matches!(untouched, Untouched::TooCostly) {
                    *desk.plan.refused.entry(Reason::QueryTooCostly).or_default() += 1;
                }
                if let Some(findings) = desk.findings.as_deref_mut() {
                    findings.push(Finding {
                        schedule_id: scheduled.schedule.id.clone(),
                        schedule: scheduled.schedule.name.clone(),
                        outcome: FindingOutcome::Untouched(untouched),
                    });
                }
                continue;
            }
        };
        tally.matches += 1;
        let made = match scheduled.schedule.join.as_slice() {
            [] => None,
            _ => subject.made(),
        };
        let joined = made.map(|made| joined_with(world, &scheduled.schedule, subject, &made));
        let joined = match joined.transpose() {
            Ok(joined) => joined,
            Err(refusal) => {
                let selected = scheduled.selected.len() as u64;
                *desk.plan.refused.entry(refusal.reason).or_default() += selected;
                let each = scheduled.selected.iter();
                let considered =
                    each.map(|plugin| (plugin.plugin_id.clone(), Err(refusal.clone())));
                let considered = FindingOutcome::Considered(considered.collect());
                note(desk, scheduled, considered);
                continue;
            }
        };
        let inputs: Vec<&Object> = match &joined {
            Some(files) => files.iter().collect(),
            None => vec![subject],
        };
        let expands = matches!(scheduled.schedule.input, Input::Selected(_));
        let mut run = open_run(desk, scheduled, &organization.id, Cause::Event, told.at);
        run.occasion = Occasion {
            operations: matching.clone(),
            event_id: told.event_id.clone(),
            event_type: Some(told.event_type.clone()),
            traceparent: told.traceparent.clone(),
            trigger: expands.then(|| subject.snapshot()),
            previous: expands.then(|| before.map(Object::snapshot)).flatten(),
            object: Some(subject.key.clone()),
            deleted: matching.contains(&Operation::Deleted),
            joined: joined.is_some(),
        };
        run.expands = expands;
        // What files are joined for is the object that they were made of.
        let target = made.map_or(subject.key.primary_key.as_str(), |made| made.of);
        run.target = (!expands).then(|| target.to_owned());
        let aside = turn::take_turn(desk, world, scheduled, &mut run);
        match &run.turn {
            Turn::Now { .. } => {}
            Turn::Later { .. } => {
                note(desk, scheduled, FindingOutcome::Overlaps(run.turn.clone()));
                turn::push(desk, world, run, aside);
                continue;
            }
            Turn::Ended(..) => {
                count_refusal(desk, &mut run, Reason::Overlap);
                note(desk, scheduled, FindingOutcome::Overlaps(run.turn));
                continue;
            }
        }
        if expands {
            turn::push(desk, world, run, aside);
            note(desk, scheduled, FindingOutcome::Expands);
            continue;
        }
        let mut considered = Vec::new();
        consider(
            desk,
            world,
            scheduled,
            organization,
            &mut run,
            &inputs,
            &matching,
            &mut considered,
        );
        note(desk, scheduled, FindingOutcome::Considered(considered));
        if run.total > 0 {
            turn::push(desk, world, run, aside);
        }
    }
    desk.plan.looked.add(tally);
    desk.plan.triggers += 1;
    // One of sixteen tells the index how common values are.
    if desk.plan.triggers % 16 == 1 {
        desk.plan
            .samples
            .push((subject.clone(), operations.to_vec()));
    }
}
