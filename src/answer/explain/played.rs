//! What could start a schedule on an object, played by the code that decides: a change of it, or a run that found it.

use super::super::Clerk;
use super::schedule::{Case, Considered};
use crate::catalogue::Known;
use crate::decide::{Desk, FindingOutcome, Inputs, Plan, World, change, page};
use crate::moment::Moment;
use crate::object::{Change, Level, Object, Operation, Rank, Told, Word};
use crate::query::{Facts, Fields, Query};
use crate::run::{Cause, Reason, RunDraft};
use crate::store::StoreError;
use crate::trigger::Untouched;

/// How often more is fetched of what queries ask beyond the object.
const ROUNDS: usize = 64;

impl Clerk<'_> {
    /// Plays a change of the object that it could be triggered by, with all that its `when` asks beyond.
    pub(super) async fn of_change(
        &self,
        case: &mut Case<'_>,
        world: &mut World,
        object: &Object,
    ) -> Result<(), StoreError> {
        let schedule = case.schedule();
        let Some((told, before)) = told_of(object, &schedule.operations, case.now) else {
            return Ok(());
        };
        let alone = case.catalogue.with_only(&case.scheduled);
        let key = object.key.clone();
        let stored = world.objects.get(&key).cloned();
        for round in 0..ROUNDS {
            match &before {
                Some(before) => world.objects.insert(key.clone(), before.clone()),
                None => world.objects.remove(&key),
            };
            let mut plan = Plan::default();
            let mut findings = Vec::new();
            let mut desk = Desk {
                catalogue: &alone,
                now: case.now,
                ids: &mut self.ground.ids(),
                plan: &mut plan,
                findings: Some(&mut findings),
            };
            if let Err(impossible) = change(&mut desk, world, &told) {
                case.tell("change", Some(false), impossible.message);
                break;
            }
            let missing = world.missing();
            if !missing.is_empty() {
                for (organization, missing) in missing {
                    let store = &self.ground.store;
                    let here = world.keys_of(&organization);
                    let found = store
                        .look_up(&organization, &missing, &here, case.now)
                        .await?;
                    let known = world.beyond.entry(organization).or_default();
                    if found.too_much || round + 2 >= ROUNDS {
                        known.close();
                    } else {
                        known.learn(missing, found);
                    }
                }
                forget_plan(world, &plan);
                continue;
            }
            let finding = findings.into_iter().next();
            of_finding(
                case,
                finding.map(|finding| finding.outcome),
                &told,
                object,
                world,
            );
            break;
        }
        world.objects.extend(stored.map(|stored| (key, stored)));
        Ok(())
    }
}

/// A change of the object that one of the operations comes from, and the object as it was before.
fn told_of(
    object: &Object,
    operations: &[Operation],
    now: Moment,
) -> Option<(Told, Option<Object>)> {
    let level = object.level.map(|level| Level {
        level,
        profile_type: object.profile_type.clone(),
    });
    let as_it_is = |created: bool| Word::Object {
        created,
        attributes: Some(object.attributes.clone()),
        level: level.clone(),
    };
    let (kind, word, before) = if operations.contains(&Operation::Created) {
        ("object.created", as_it_is(true), None)
    } else if operations.contains(&Operation::Updated) {
        // Whatever it was before, it was otherwise.
        let mut before = object.clone();
        before.attributes.clear();
        if object.attributes.is_empty() {
            before.level = None;
        }
        ("object.updated", as_it_is(false), Some(before))
    } else if operations.contains(&Operation::Deleted) {
        ("object.deleted", Word::Deleted, Some(object.clone()))
    } else {
        return None;
    };
    let told = Told {
        event_id: None,
        event_type: kind.to_owned(),
        at: now,
        traceparent: None,
        change: Change {
            key: object.key.clone(),
            object_type: Some(object.object_type.clone()),
            // Newer than whatever is known.
            rank: Rank {
                number: i64::MAX,
                event_id: String::new(),
            },
            word,
            create_counts: false,
        },
    };
    Some((told, before))
}

/// What a plan made that is not to be seen when it is made again.
fn forget_plan(world: &mut World, plan: &Plan) {
    for open in world.open.values_mut() {
        open.retain(|open| !plan.tasks.iter().any(|task| task.id == open.task_id));
    }
    for scope in world.scopes.values_mut() {
        let planned = |run_id: &str| plan.runs.iter().any(|run| run.id == run_id);
        if scope
            .holder
            .as_ref()
            .is_some_and(|run| planned(&run.run_id))
        {
            scope.holder = None;
        }
        if scope
            .waiting
            .as_ref()
            .is_some_and(|run| planned(&run.run_id))
        {
            scope.waiting = None;
        }
    }
}

/// What the decision found for the schedule.
fn of_finding(
    case: &mut Case<'_>,
    found: Option<FindingOutcome>,
    told: &Told,
    object: &Object,
    world: &mut World,
) {
    let schedule = case.schedule();
    let words = |operations: &[Operation]| {
        let words: Vec<&str> = operations.iter().map(|op| op.word()).collect();
        words.join(", ")
    };
    let untouched = match found {
        None => {
            return case.tell(
                "change",
                Some(false),
                "such a change triggers nothing: a file of error/ types, or an object that nothing would differ of",
            );
        }
        Some(FindingOutcome::Untouched(untouched)) => untouched,
        Some(found) => {
            case.tell(
                "run_on",
                Some(true),
                format!(
                    "{} of a {}",
                    words(&schedule.operations),
                    object.object_type
                ),
            );
            if let Some(when) = schedule.when.get(&object.object_type) {
                case.tell("when", Some(true), format!("it is true: {}", when.text()));
            }
            if let FindingOutcome::Considered(considered) = found {
                case.considered = Some(considered);
            }
            return;
        }
    };
    match untouched {
        Untouched::Type => case.tell(
            "run_on",
            Some(false),
            format!(
                "it is {}, and this is a {}",
                schedule.run_on.join(", "),
                object.object_type
            ),
        ),
        Untouched::Operation => case.tell(
            "operation",
            Some(false),
            format!(
                "it is {}, and this is {}",
                words(&schedule.operations),
                told.event_type
            ),
        ),
        Untouched::Organization => case.tell("organisation", Some(false), "it is of another"),
        Untouched::Asleep => {}
        Untouched::Join => case.tell(
            "join",
            Some(false),
            format!(
                "it joins files by {} of one object, and this is none of these",
                schedule.join.join(", ")
            ),
        ),
        Untouched::TooCostly => case.tell("when", Some(false), Reason::QueryTooCostly.meaning()),
        Untouched::When(query) => {
            let none = Known::default();
            let known = world.beyond.get(&object.key.organization).unwrap_or(&none);
            let asked = known.asked(case.catalogue);
            let facts = Facts {
                subject: object,
                trigger: Some(object as &dyn Fields),
                previous: None,
                parameters: &schedule.parameters,
                now: case.now,
                world: &asked,
            };
            case.tell(
                "when",
                Some(false),
                format!("it is false:\n{}", query.explain(&facts)),
            );
            of_unknown(case, &query);
        }
    }
}

/// Queries that ask for what only a real change has.
pub(super) fn of_unknown(case: &mut Case<'_>, query: &Query) {
    let text = query.text();
    for (word, what) in [
        (
            "trigger.",
            "what triggers it is not known here, so `trigger.` has nothing",
        ),
        (
            "previous.",
            "what the object was before is not known here, so `previous.` has nothing",
        ),
    ] {
        if text.contains(word) {
            case.tell("not known", None, what);
        }
    }
}

/// Takes the object through the gates for each plugin that is selected.
pub(super) fn considered_on(
    case: &Case<'_>,
    world: &mut World,
    object: &Object,
    cause: Cause,
) -> Considered {
    let schedule = &case.scheduled.schedule;
    let mut plan = Plan::default();
    let mut findings = Vec::new();
    let mut ids = crate::task::Ids::seeded(0);
    let mut run = RunDraft {
        id: ids.next(case.now),
        schedule_id: schedule.id.clone(),
        schedule: schedule.name.clone(),
        organization: case.organization.id.clone(),
        cause,
        scheduled_for: case.now,
        created_at: case.now,
        expands: true,
        ..RunDraft::default()
    };
    let mut desk = Desk {
        catalogue: case.catalogue,
        now: case.now,
        ids: &mut ids,
        plan: &mut plan,
        findings: Some(&mut findings),
    };
    let inputs = Inputs {
        carried: &std::collections::BTreeMap::new(),
        found: std::slice::from_ref(object),
        last: true,
    };
    page(
        &mut desk,
        world,
        &case.scheduled,
        &case.organization,
        &mut run,
        &inputs,
    );
    let considered = findings
        .into_iter()
        .filter_map(|finding| match finding.outcome {
            FindingOutcome::Considered(considered) => Some(considered),
            _ => None,
        });
    considered.flatten().collect()
}
