//! Why a schedule did not run on an object: every step from the clock or the change to the task, by the code that
//! decides, as it would decide now. Nothing is stored.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::super::{Answer, Clerk, not_found, schedules::preview};
use crate::catalogue::{Catalogue, Known};
use crate::decide::{
    Desk, FindingOutcome, Inputs, Plan, Refusal, World, change, facts, occurrence, page, scope_of,
    selects,
};
use crate::document::nearest;
use crate::ground::judged;
use crate::moment::Moment;
use crate::object::{Change, Level, Object, ObjectKey, Operation, Rank, Told, Word};
use crate::query::{Facts, Fields, Nowhere, Query};
use crate::run::{Cause, EndReason, Occasion, Reason, RunDraft, Turn};
use crate::schedule::{Input, Organization, Schedule, Selection};
use crate::store::{RunFilter, StoreError, Wanted};
use crate::trigger::{Scheduled, Untouched};
use crate::wire::Refused;

/// Plugins that are told of, and past runs.
const PLUGINS: usize = 1000;
const RUNS: i64 = 5;
/// How often more is fetched of what queries ask beyond the object.
const ROUNDS: usize = 64;

/// The gates in their order, each with the reasons by which it refuses.
const GATES: [(&str, &[Reason]); 10] = [
    ("enabled", &[Reason::Disabled]),
    ("type of input", &[Reason::TypeNotTaken, Reason::NoInput]),
    ("run_on", &[Reason::NotRunOn]),
    ("indemnification", &[Reason::NotIndemnified]),
    ("own organisation", &[Reason::OtherOrganization]),
    ("not deleted", &[Reason::Deleted]),
    (
        "level",
        &[
            Reason::NoPluginLevel,
            Reason::NoObjectLevel,
            Reason::LevelTooLow,
        ],
    ),
    ("never_again", &[Reason::Suppressed]),
    ("open task", &[Reason::Duplicate]),
    ("grace", &[Reason::InGrace]),
];

/// What came of each plugin that is selected.
type Considered = Vec<(String, Result<String, Refusal>)>;

/// One step: whether it is passed, nothing where it only tells.
struct Step {
    step: &'static str,
    passed: Option<bool>,
    says: String,
}

/// What is asked of, and what is known of it.
struct Case<'a> {
    catalogue: &'a Catalogue,
    /// As if it were switched on: that it is not is a step of its own.
    scheduled: Arc<Scheduled>,
    organization: Organization,
    object: Option<Object>,
    now: Moment,
    steps: Vec<Step>,
    considered: Option<Considered>,
}

impl Case<'_> {
    fn tell(&mut self, step: &'static str, passed: Option<bool>, says: impl Into<String>) {
        self.steps.push(Step {
            step,
            passed,
            says: says.into(),
        });
    }

    fn schedule(&self) -> Arc<Schedule> {
        self.scheduled.schedule.clone()
    }
}

impl Clerk<'_> {
    pub(super) async fn schedule_explained(
        &self,
        name: &str,
        key: Option<&str>,
        plugin: Option<&str>,
    ) -> Result<Answer, StoreError> {
        let catalogue = self.catalogue().await?;
        let found = allowed!(
            self.find(&catalogue, name)
                .map_err(|refused| { self.out_of_use(&catalogue, name).unwrap_or(refused) })
        );
        let organizations = allowed!(self.organizations(&catalogue, &found, true));
        let Some(organization) = organizations.into_iter().next() else {
            return Ok(Err(not_found("organization", "", &[])));
        };
        if let Some(plugin) = plugin
            && !catalogue.plugins.contains_key(plugin)
        {
            let known = catalogue.plugins.keys().map(String::as_str);
            return Ok(Err(not_found("plugin", plugin, &nearest(plugin, known))));
        }
        let mut case = Case {
            catalogue: &catalogue,
            scheduled: awake(&found, plugin),
            organization,
            object: None,
            now: self.ground.clock.now(),
            steps: Vec::new(),
            considered: None,
        };
        let world = self.known_of(&mut case, key).await?;
        self.of_schedule(&found.schedule, &mut case).await?;
        self.of_clock(&mut case).await?;
        if key.is_none() || case.object.is_some() {
            self.of_inputs(&mut case, world, key).await?;
        }
        let runs = self.past_runs(&case, key).await?;
        Ok(Ok(as_json(&case, &found, key, plugin, &runs)))
    }

    /// A schedule that is declared and left out, for a reason that is no other organisation's business.
    fn out_of_use(&self, catalogue: &Catalogue, name: &str) -> Option<Refused> {
        let own = self.bound.is_none();
        let named = format!("stored schedule {name}");
        let complaint = catalogue
            .broken
            .iter()
            .find(|complaint| own && complaint.file == named)?;
        Some(Refused::new(
            "out_of_use",
            format!(
                "the schedule `{name}` is declared and out of use: {}",
                complaint.message
            ),
            complaint.help.clone().unwrap_or_default(),
        ))
    }

    /// Reads the object and what is known around it.
    async fn known_of(&self, case: &mut Case<'_>, key: Option<&str>) -> Result<World, StoreError> {
        let schedule = case.schedule();
        let of = |primary_key: &str| ObjectKey {
            organization: case.organization.id.clone(),
            primary_key: primary_key.to_owned(),
        };
        let mut wanted = Wanted::default();
        wanted.keys.insert(of(""));
        wanted.keys.extend(key.map(of));
        wanted.keys.extend(schedule.target.as_deref().map(of));
        let expands = matches!(schedule.input, Input::Selected(_));
        for cause in [Cause::Event, Cause::OnTime] {
            let targets = [None, key, schedule.target.as_deref()];
            for target in targets {
                let scope = scope_of(&schedule, &case.organization.id, target, expands, cause);
                wanted.scopes.extend(scope);
            }
        }
        let world = self.ground.store.gather(&wanted).await?.world;
        let Some(key) = key else { return Ok(world) };
        match world.objects.get(&of(key)) {
            None => case.tell(
                "object",
                Some(false),
                format!("no object `{key}` of {} is known", case.organization.id),
            ),
            Some(object) => {
                let level = object.level.map_or("no scan level".to_owned(), |level| {
                    format!("scan level {level}")
                });
                let says = format!("a {} with {level}", object.object_type);
                let deletes = schedule.operations.contains(&Operation::Deleted);
                if object.live() {
                    case.tell("object", Some(true), says);
                } else {
                    case.tell("object", Some(deletes), format!("{says}; it is deleted"));
                }
                if object.live() || deletes {
                    case.object = Some(object.clone());
                }
            }
        }
        Ok(world)
    }

    /// Whether anything at all can start it.
    async fn of_schedule(
        &self,
        schedule: &Schedule,
        case: &mut Case<'_>,
    ) -> Result<(), StoreError> {
        let organization = case.organization.clone();
        if !organization.enabled {
            case.tell(
                "organisation",
                Some(false),
                format!("{} is switched off", organization.id),
            );
        }
        case.tell(
            "schedule enabled",
            Some(schedule.enabled),
            if schedule.enabled {
                "it is switched on".to_owned()
            } else {
                "its `enabled` is false".to_owned()
            },
        );
        let pauses = self.ground.store.pauses().await?;
        if let Some(pause) = pauses.get(&schedule.id) {
            case.tell(
                "paused",
                Some(false),
                format!("since {} by {}: {}", pause.at, pause.who, pause.reason),
            );
        }
        if schedule.recurrences.is_empty() && schedule.run_on.is_empty() {
            case.tell(
                "started by",
                None,
                "nothing but people: it has neither recurrences nor run_on",
            );
        }
        Ok(())
    }

    /// When the clock starts it, and what keeps it from that.
    async fn of_clock(&self, case: &mut Case<'_>) -> Result<(), StoreError> {
        let (schedule, now) = (case.schedule(), case.now);
        if case.scheduled.timetable.is_empty() {
            return Ok(());
        }
        if let Some(starts_at) = schedule.starts_at.filter(|at| *at > now) {
            case.tell(
                "starts_at",
                Some(false),
                format!("it begins at {starts_at}"),
            );
        }
        if let Some(ends_at) = schedule.ends_at.filter(|at| *at < now) {
            case.tell("ends_at", Some(false), format!("it ended at {ends_at}"));
        }
        for name in &schedule.calendars {
            let window = case.catalogue.calendars.get(name);
            if let Some(until) = window.and_then(|calendar| calendar.until(now)) {
                case.tell(
                    "calendar",
                    None,
                    format!("now lies in a window of the calendar {name}, until {until}"),
                );
            }
        }
        let next = case
            .scheduled
            .timetable
            .next_after(now, crate::recurrence::Last::Never);
        let decided = self
            .ground
            .store
            .cursors(Some(&[schedule.id.as_str()]))
            .await?;
        let decided = decided.first().map_or(String::new(), |(_, until)| {
            format!("; what was due until {until} is decided")
        });
        match next {
            Some(next) => case.tell(
                "clock",
                None,
                format!("its next instant is {next}{decided}"),
            ),
            None => case.tell(
                "clock",
                Some(false),
                format!("none of its instants is still to come{decided}"),
            ),
        }
        Ok(())
    }

    /// From what starts it to the tasks, by the code that decides.
    async fn of_inputs(
        &self,
        case: &mut Case<'_>,
        mut world: World,
        key: Option<&str>,
    ) -> Result<(), StoreError> {
        let schedule = case.schedule();
        let by_ends = |named: &String| matches!(named.as_str(), "run" | "task");
        let by_objects = schedule.run_on.iter().any(|named| !by_ends(named));
        let mut cause = Cause::OnTime;
        if by_objects && let Some(object) = case.object.clone() {
            cause = Cause::Event;
            self.of_change(case, &mut world, &object).await?;
        } else if !schedule.run_on.is_empty() {
            cause = Cause::Chained;
            let on = schedule.run_on.join(", ");
            case.tell(
                "started by",
                None,
                format!("changes of {on}, and none is asked about"),
            );
        }
        let expands = matches!(schedule.input, Input::Selected(_));
        if case.considered.is_none() && schedule.run_on.is_empty() && !expands {
            self.of_occurrence(case, &mut world, key);
        }
        self.of_overlap(case, &world, cause, key);
        if case.considered.is_none() && case.object.is_some() {
            let selected = !expands || self.of_selection(case).await?;
            let input = case.object.clone().filter(|_| selected);
            let considered = input.map(|object| considered_on(case, &mut world, &object, cause));
            case.considered = considered;
        }
        Ok(())
    }

    /// Plays a change of the object that it could be triggered by, with all that its `when` asks beyond.
    async fn of_change(
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

    /// An instant of the clock, now.
    fn of_occurrence(&self, case: &mut Case<'_>, world: &mut World, key: Option<&str>) {
        let schedule = case.schedule();
        if let (Some(key), target) = (key, &schedule.target)
            && target.as_deref() != Some(key)
        {
            case.tell(
                "input",
                Some(false),
                match target {
                    Some(target) => format!("its target is {target}, and no other object"),
                    None => {
                        "it runs without an input, once for each plugin and organisation".to_owned()
                    }
                },
            );
            return;
        }
        if schedule.recurrences.is_empty() {
            return;
        }
        let mut plan = Plan::default();
        let mut findings = Vec::new();
        let mut desk = Desk {
            catalogue: case.catalogue,
            now: case.now,
            ids: &mut self.ground.ids(),
            plan: &mut plan,
            findings: Some(&mut findings),
        };
        let scheduled = case.scheduled.clone();
        let organization = case.organization.clone();
        let (cause, now) = (Cause::OnTime, case.now);
        occurrence(&mut desk, world, &scheduled, &organization, cause, now);
        for finding in findings {
            if let FindingOutcome::Considered(considered) = finding.outcome {
                case.considered = Some(considered);
            }
        }
        let gone = EndReason::TargetNotFound;
        if plan
            .runs
            .iter()
            .any(|run| matches!(&run.turn, Turn::Ended(_, reason) if *reason == gone))
        {
            case.tell("input", Some(false), EndReason::meaning(gone.word()));
        }
    }

    /// Another run that has not ended, where there may be one at a time.
    fn of_overlap(&self, case: &mut Case<'_>, world: &World, cause: Cause, key: Option<&str>) {
        let schedule = case.schedule();
        let expands = matches!(schedule.input, Input::Selected(_));
        let target = match cause {
            _ if expands => None,
            Cause::Event => key,
            _ => schedule.target.as_deref(),
        };
        let Some(scope) = scope_of(&schedule, &case.organization.id, target, expands, cause) else {
            return;
        };
        let known = world.scopes.get(&scope).cloned().unwrap_or_default();
        match (known.holder, known.waiting) {
            (None, None) => case.tell(
                "overlap",
                Some(true),
                "no other run of its scope is under way",
            ),
            (holder, waiting) => {
                let runs: Vec<String> = holder
                    .into_iter()
                    .map(|run| format!("the run {} has not ended", run.run_id))
                    .chain(waiting.map(|run| format!("the run {} waits already", run.run_id)))
                    .collect();
                case.tell("overlap", Some(false), runs.join(", "));
            }
        }
    }

    /// Whether its `input` takes the object; with the query's own explanation.
    async fn of_selection(&self, case: &mut Case<'_>) -> Result<bool, StoreError> {
        let schedule = case.schedule();
        let (Input::Selected(selections), Some(object)) = (&schedule.input, case.object.clone())
        else {
            return Ok(true);
        };
        let Some(selection) = selections.get(&object.object_type) else {
            let types: Vec<&str> = selections.keys().map(String::as_str).collect();
            case.tell(
                "input",
                Some(false),
                format!(
                    "it selects {}, and this is a {}",
                    types.join(", "),
                    object.object_type
                ),
            );
            return Ok(false);
        };
        let said: Mutex<Option<String>> = Mutex::new(None);
        let occasion = Occasion::default();
        let (parameters, now) = (&schedule.parameters, case.now);
        let (taken, costly) = judged(
            &self.ground.store,
            case.catalogue,
            &case.organization.id,
            now,
            vec![object],
            |object, world| match selection {
                Selection::All => Ok(true),
                Selection::Set(name) => Ok(world.member(name, object)),
                Selection::Query(query) => {
                    let facts = facts(object, &occasion, parameters, now, world);
                    let explained = query.explain(&facts).to_string();
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(explained);
                    selects(query, object, &occasion, parameters, now, world)
                }
            },
        )
        .await?;
        let takes = !taken.is_empty();
        let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
        let answer = if takes { "takes it" } else { "leaves it out" };
        let says = match (selection, said) {
            (_, Some(said)) if costly == 0 => format!("its query {answer}:\n{said}"),
            (_, Some(_)) => Reason::QueryTooCostly.meaning().to_owned(),
            (Selection::Set(name), _) => format!("the set {name} {answer}"),
            _ => "it takes all of this type".to_owned(),
        };
        case.tell("input", Some(takes), says);
        if let Selection::Query(query) = selection {
            of_unknown(case, query);
        }
        Ok(takes)
    }

    /// What became of it lately: runs on the object, else any of the organisation and gaps of the clock.
    async fn past_runs(
        &self,
        case: &Case<'_>,
        key: Option<&str>,
    ) -> Result<Vec<Value>, StoreError> {
        let schedule = &case.scheduled.schedule;
        let mut filter = RunFilter {
            schedule_id: schedule.id.clone(),
            organization: case.organization.id.clone(),
            limit: RUNS,
            ..RunFilter::default()
        };
        let store = &self.ground.store;
        filter.target = key.unwrap_or_default().to_owned();
        let mut found = store.runs(&filter).await?;
        if found.is_empty() {
            filter.target = String::new();
            found = store.runs(&filter).await?;
        }
        Ok(found
            .iter()
            .map(|run| {
                let reason = run.reason.as_deref();
                json!({
                    "run_id": run.id, "cause": run.cause, "state": run.state.word(), "reason": reason,
                    "meaning": reason.map(EndReason::meaning), "scheduled_for": run.scheduled_for.to_string(),
                    "blocked_by": run.blocked_by, "target": run.target, "total": run.counts[0], "refused": run.refused,
                    "gap_count": run.gap.map(|(_, _, count)| count),
                })
            })
            .collect())
    }
}

/// The schedule as if it were switched on, and selected this plugin alone of those that it selects.
fn awake(scheduled: &Scheduled, plugin: Option<&str>) -> Arc<Scheduled> {
    let mut schedule = Schedule::clone(&scheduled.schedule);
    schedule.enabled = true;
    schedule.paused = false;
    let selected = scheduled.selected.iter();
    let selected = selected.filter(|taken| plugin.is_none_or(|only| taken.plugin_id == only));
    Arc::new(Scheduled {
        schedule: Arc::new(schedule),
        selected: selected.cloned().collect(),
        timetable: scheduled.timetable.clone(),
    })
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
fn of_unknown(case: &mut Case<'_>, query: &Query) {
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
fn considered_on(case: &Case<'_>, world: &mut World, object: &Object, cause: Cause) -> Considered {
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

fn as_json(
    case: &Case<'_>,
    found: &Scheduled,
    key: Option<&str>,
    plugin: Option<&str>,
    runs: &[Value],
) -> Value {
    let schedule = &found.schedule;
    let steps: Vec<Value> = case
        .steps
        .iter()
        .map(|step| json!({"step": step.step, "passed": step.passed, "says": step.says}))
        .collect();
    let plugins: Vec<Value> = case
        .catalogue
        .plugins
        .values()
        .filter(|known| plugin.is_none_or(|only| known.plugin_id == only))
        .take(PLUGINS)
        .map(|known| {
            let id = known.plugin_id.as_str();
            if !found.selected.iter().any(|taken| taken.plugin_id == id) {
                let facts = Facts {
                    subject: known.as_ref(),
                    trigger: None,
                    previous: None,
                    parameters: &schedule.parameters,
                    now: case.now,
                    world: &Nowhere,
                };
                return json!({
                    "plugin": id, "selected": false, "task": false,
                    "query": schedule.plugins.explain(&facts).to_string(),
                });
            }
            let outcome = case
                .considered
                .iter()
                .flatten()
                .find(|(plugin, _)| plugin == id);
            match outcome {
                None => json!({"plugin": id, "selected": true, "task": null}),
                Some((_, Ok(_))) => json!({
                    "plugin": id, "selected": true, "task": true,
                    "passed": GATES.iter().map(|(gate, _)| gate).collect::<Vec<_>>(),
                }),
                Some((_, Err(refusal))) => refused(id, refusal),
            }
        })
        .collect();
    let stopped = case.steps.iter().any(|step| step.passed == Some(false));
    let makes = plugins.iter().any(|plugin| plugin["task"] == json!(true));
    json!({
        "schedule": {
            "schedule_id": schedule.id, "name": schedule.name, "organization": schedule.organization,
            "revision": schedule.revision, "enabled": schedule.enabled, "paused": schedule.paused,
        },
        "organization": case.organization.id, "object": key,
        "would_run": !stopped && makes,
        "steps": steps, "plugins": plugins,
        "next": preview(found, case.now, 5)["instants"], "runs": runs,
    })
}

/// A plugin that gets no task: the gate that refuses it, those before that it passes and those that are not asked.
fn refused(plugin: &str, refusal: &Refusal) -> Value {
    let at = GATES
        .iter()
        .position(|(_, reasons)| reasons.contains(&refusal.reason));
    let names = |gates: &[(&'static str, &[Reason])]| {
        let names: Vec<&str> = gates.iter().map(|(gate, _)| *gate).collect();
        names
    };
    let (passed, stopped, rest) = match at {
        Some(at) => (
            names(GATES.get(..at).unwrap_or_default()),
            GATES.get(at).map(|(gate, _)| *gate),
            names(GATES.get(at + 1..).unwrap_or_default()),
        ),
        None => (Vec::new(), None, Vec::new()),
    };
    json!({
        "plugin": plugin, "selected": true, "task": false, "reason": refusal.reason.word(),
        "meaning": refusal.reason.meaning(), "detail": refusal.detail,
        "passed": passed, "stopped_at": stopped, "not_asked": rest,
    })
}
