//! Why a schedule did not run on an object: every step from the clock or the change to the task, by the code that
//! decides, as it would decide now. Nothing is stored.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::super::{Answer, Clerk, not_found, schedules::preview, shortened};
use super::played::{considered_on, of_unknown};
use crate::catalogue::Catalogue;
use crate::decide::{
    Desk, FindingOutcome, Plan, Refusal, World, facts, occurrence, scope_of, selects,
};
use crate::document::nearest;
use crate::ground::judged;
use crate::moment::Moment;
use crate::object::{Object, ObjectKey, Operation};
use crate::query::{Facts, Nowhere};
use crate::run::{Cause, EndReason, Occasion, Reason, Turn};
use crate::schedule::{Input, Organization, Schedule, Selection};
use crate::store::{RunFilter, StoreError, Wanted};
use crate::trigger::Scheduled;
use crate::wire::Refused;

/// Plugins that are told of, and past runs.
const PLUGINS: usize = 1000;
const RUNS: i64 = 5;

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
pub(super) type Considered = Vec<(String, Result<String, Refusal>)>;

/// One step: whether it is passed, nothing where it only tells.
pub(super) struct Step {
    step: &'static str,
    passed: Option<bool>,
    says: String,
}

/// What is asked of, and what is known of it.
pub(super) struct Case<'a> {
    pub catalogue: &'a Catalogue,
    /// As if it were switched on: that it is not is a step of its own.
    pub scheduled: Arc<Scheduled>,
    pub organization: Organization,
    /// What it is asked about; of a join one of the files.
    pub object: Option<Object>,
    pub now: Moment,
    steps: Vec<Step>,
    pub considered: Option<Considered>,
    /// What is joined, where that is what it does.
    pub join: Option<Value>,
}

impl Case<'_> {
    pub(super) fn tell(
        &mut self,
        step: &'static str,
        passed: Option<bool>,
        says: impl Into<String>,
    ) {
        self.steps.push(Step {
            step,
            passed,
            says: says.into(),
        });
    }

    pub(super) fn schedule(&self) -> Arc<Schedule> {
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
            join: None,
        };
        let mut world = self.known_of(&mut case, key).await?;
        let joined = match key {
            Some(key) if !found.schedule.join.is_empty() => {
                self.of_join(&mut case, &mut world, key).await?
            }
            _ => None,
        };
        if let Some(key) = key
            && !case.steps.iter().any(|step| step.step == "object")
        {
            // Files may be told of before the object is that they were made of.
            match &joined {
                Some(joined) if joined.some => {
                    let says = format!("no object `{key}` is known; what is known are files of it");
                    case.tell("object", None, says);
                }
                _ => return Ok(Err(self.no_object(&case.organization.id, key).await?)),
            }
        }
        self.of_schedule(&found.schedule, &mut case).await?;
        self.of_clock(&mut case).await?;
        if key.is_none() || case.object.is_some() {
            // What is about files is about the object that they were made of.
            let target = joined.as_ref().map(|joined| joined.target.as_str());
            self.of_inputs(&mut case, world, target.or(key)).await?;
        }
        if let Some(older) = joined.as_ref().and_then(|joined| joined.older.as_ref()) {
            let each = case.scheduled.selected.iter();
            let refused = each.map(|plugin| (plugin.plugin_id.clone(), Err(older.clone())));
            case.considered = Some(refused.collect());
        }
        let target = joined.map(|joined| joined.target);
        let runs = self.past_runs(&case, target.as_deref().or(key)).await?;
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

    /// An object that nobody has told of, with the keys that are nearest to what was written.
    pub(in crate::answer) async fn no_object(
        &self,
        organization: &str,
        key: &str,
    ) -> Result<Refused, StoreError> {
        let known = self.ground.store.keys_near(organization, key).await?;
        let ending = format!("|{}", key.to_lowercase());
        let named = known.iter().map(String::as_str);
        let named: Vec<&str> = named
            .filter(|known| known.to_lowercase().ends_with(&ending))
            .take(3)
            .collect();
        let near = match named.is_empty() {
            true => nearest(key, known.iter().map(String::as_str)),
            false => named,
        };
        let mut refused = not_found("object", key, &near);
        refused.message = format!("no object `{}` of {organization} is known", shortened(key));
        if near.is_empty() {
            refused.help = "an object is named by its primary key, as its events do".to_owned();
        }
        Ok(refused)
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
        for cause in [Cause::Event, Cause::OnTime, Cause::Manual] {
            let targets = [None, key, schedule.target.as_deref()];
            for target in targets {
                let scope = scope_of(&schedule, &case.organization.id, target, expands, cause);
                wanted.scopes.extend(scope);
            }
        }
        let world = self.ground.store.gather(&wanted).await?.world;
        let Some(key) = key else { return Ok(world) };
        match world.objects.get(&of(key)) {
            None => {}
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
        let decided = self
            .ground
            .store
            .cursors(Some(&[schedule.id.as_str()]))
            .await?;
        let decided = decided.first().map(|(_, until)| *until);
        // The clock may have been set back: what is decided comes no second time.
        let from = decided.map_or(now, |until| until.max(now));
        let next = case
            .scheduled
            .timetable
            .next_after(from, crate::recurrence::Last::Never);
        let decided = decided.map_or(String::new(), |until| {
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
        let by_hand = schedule.recurrences.is_empty() && schedule.run_on.is_empty();
        let mut cause = match by_hand {
            true => Cause::Manual,
            false => Cause::OnTime,
        };
        if by_objects && let Some(object) = case.object.clone() {
            cause = Cause::Event;
            self.of_change(case, &mut world, &object).await?;
        } else if !schedule.run_on.is_empty() {
            cause = Cause::Chained;
            let on = schedule.run_on.join(", ");
            let ask = match by_objects {
                true => "and none is asked about: name an object (--object)",
                false => "and none is asked about",
            };
            case.tell("started by", None, format!("changes of {on}, {ask}"));
        }
        let expands = matches!(schedule.input, Input::Selected(_));
        let takes = if schedule.run_on.is_empty() && !expands {
            self.of_occurrence(case, &mut world, cause, key)
        } else {
            true
        };
        self.of_overlap(case, &world, cause, key);
        if takes && case.considered.is_none() && case.object.is_some() {
            let selected = !expands || self.of_selection(case).await?;
            let input = case.object.clone().filter(|_| selected);
            let considered = input.map(|object| considered_on(case, &mut world, &object, cause));
            case.considered = considered;
        }
        Ok(())
    }

    /// An instant of the clock, now, or somebody who starts it, without saying on what. False where it does not run on the
    /// object that is asked about.
    fn of_occurrence(
        &self,
        case: &mut Case<'_>,
        world: &mut World,
        cause: Cause,
        key: Option<&str>,
    ) -> bool {
        let schedule = case.schedule();
        match (key, schedule.target.as_deref()) {
            // Whoever starts it may pick the objects.
            (Some(_), None) if cause == Cause::Manual => return true,
            (Some(key), Some(target)) if target != key => {
                let says = format!("its target is {target}, and no other object");
                case.tell("input", Some(false), says);
                return false;
            }
            (Some(key), None) => {
                let by_hand = format!("muster run start '{}' --object '{key}'", schedule.name);
                let says = format!(
                    "it has no input: the clock starts it once for each plugin, and on no object; somebody may start it on \
                     this one: {by_hand}"
                );
                case.tell("input", Some(false), says);
            }
            _ => {}
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
        let now = case.now;
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
        key.is_none() || schedule.target.is_some()
    }

    /// Another run that has not ended, where there may be one at a time.
    fn of_overlap(&self, case: &mut Case<'_>, world: &World, cause: Cause, key: Option<&str>) {
        let schedule = case.schedule();
        let expands = matches!(schedule.input, Input::Selected(_));
        let target = match cause {
            _ if expands => None,
            Cause::Event | Cause::Manual if key.is_some() => key,
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

    /// What became of it lately: runs on the object, else those that were not on one object, and gaps of the clock.
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
        // The runs of changes are on one object each, and those on others say nothing of this one.
        let by_changes = !schedule.run_on.is_empty() && schedule.recurrences.is_empty();
        if found.is_empty() && (key.is_none() || !by_changes) {
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
    let mut plugins: Vec<Value> = case
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
    // Nobody asked about a change that could start it.
    let open = !stopped && case.considered.is_none() && key.is_none();
    plugins.sort_by_key(|plugin| plugin["selected"] == json!(false));
    json!({
        "schedule": {
            "schedule_id": schedule.id, "name": schedule.name, "organization": schedule.organization,
            "revision": schedule.revision, "enabled": schedule.enabled, "paused": schedule.paused,
        },
        "organization": case.organization.id, "object": key,
        "would_run": (!open).then_some(!stopped && makes), "join": case.join,
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
