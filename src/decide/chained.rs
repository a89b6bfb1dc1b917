//! What the end of a run or a task sets off.

use serde_json::{Map, Value, json};

use super::asked::make;
use super::{Desk, World, count_refusal, open_run, turn};
use crate::moment::Moment;
use crate::object::{Object, ObjectKey, Operation};
use crate::query::Facts;
use crate::run::{Cause, EndReason, LONGEST_CHAIN, Occasion, Reason, RunDraft, RunState, Turn};
use crate::schedule::{Input, OF_ENABLED, OF_PLUGIN, Organization};
use crate::trace;
use crate::trigger::{Scheduled, Untouched, touches};

/// A run or a task that has ended, and of which those who wait for its end are not told yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    pub of: EndOf,
    pub id: String,
    /// The run itself, or the task's.
    pub run_id: String,
    pub organization: String,
    pub schedule_id: String,
    pub schedule: String,
    /// Of a task.
    pub plugin_id: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub cause: String,
    /// What it was about: the target of a run, the inputs of a task.
    pub inputs: Vec<String>,
    /// Total, done, failed; of a run.
    pub counts: [i64; 3],
    /// How many runs came before its run in the chain.
    pub depth: i64,
    pub at: Moment,
    pub traceparent: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndOf {
    #[default]
    Run,
    Task,
}

impl EndOf {
    /// What schedules call it in `run_on`.
    pub fn noun(self) -> &'static str {
        match self {
            EndOf::Run => "run",
            EndOf::Task => "task",
        }
    }
}

impl End {
    /// As queries see it.
    fn subject(&self) -> Object {
        let mut attributes = Map::new();
        let mut set = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
        let of_plugin = self.schedule_id.strip_prefix(OF_PLUGIN);
        let of_plugin = of_plugin.or(self.schedule_id.strip_prefix(OF_ENABLED));
        set("schedule", json!(self.schedule));
        set("plugin_id", json!(self.plugin_id.as_deref().or(of_plugin)));
        set("state", json!(self.state));
        set("reason", json!(self.reason));
        set("cause", json!(self.cause));
        set("target", json!(self.target()));
        if self.of == EndOf::Run {
            let [total, done, failed] = self.counts;
            set("total", json!(total));
            set("done", json!(done));
            set("failed", json!(failed));
        }
        Object {
            key: ObjectKey {
                organization: self.organization.clone(),
                primary_key: self.id.clone(),
            },
            object_type: self.of.noun().to_owned(),
            attributes,
            ..Object::default()
        }
    }

    /// The one object that it was about.
    fn target(&self) -> Option<&str> {
        match self.inputs.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// The runs that an end sets off, in its own organisation.
pub fn chained(desk: &mut Desk<'_>, world: &mut World, end: &End) {
    let catalogue = desk.catalogue;
    let Some(organization) = catalogue.organizations.get(&end.organization) else {
        return;
    };
    let subject = end.subject();
    let operations = [Operation::Finished];
    let (candidates, mut tally) =
        catalogue
            .schedules
            .candidates(&subject, &operations, &mut desk.plan.room);
    for (scheduled, sure) in candidates {
        let facts = Facts {
            subject: &subject,
            trigger: Some(&subject),
            previous: None,
            parameters: &scheduled.schedule.parameters,
            now: desk.now,
            world: catalogue,
        };
        let noun = end.of.noun();
        match touches(scheduled, sure, &organization.id, noun, &operations, &facts) {
            Ok(_) => {}
            Err(Untouched::TooCostly) => {
                *desk.plan.refused.entry(Reason::QueryTooCostly).or_default() += 1;
                continue;
            }
            Err(_) => continue,
        }
        tally.matches += 1;
        link(desk, world, scheduled, organization, end, &subject);
    }
    desk.plan.looked.add(tally);
    desk.plan.triggers += 1;
}

/// One more run of the chain.
fn link(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    end: &End,
    subject: &Object,
) {
    let schedule = &scheduled.schedule;
    let mut run = open_run(desk, scheduled, &organization.id, Cause::Chained, end.at);
    run.parent_id = Some(end.run_id.clone());
    run.depth = end.depth + 1;
    run.expands = matches!(schedule.input, Input::Selected(_));
    run.occasion = Occasion {
        operations: vec![Operation::Finished],
        event_id: Some(end.id.clone()),
        event_type: Some(format!("{}.finished", end.of.noun())),
        // A chain is one trace.
        traceparent: Some(
            end.traceparent
                .clone()
                .unwrap_or_else(|| trace::begun(&end.run_id)),
        ),
        trigger: run.expands.then(|| subject.snapshot()),
        ..Occasion::default()
    };
    if !run.expands {
        // A schedule that names its target means that one, and else what it was about that ended.
        match (&schedule.target, end.inputs.as_slice()) {
            (Some(own), _) => run.target = Some(own.clone()),
            (None, [one]) => run.target = Some(one.clone()),
            (None, several) => run.asked.objects = several.to_vec(),
        }
    }
    if run.depth >= LONGEST_CHAIN {
        refuse_link(desk, run);
        return;
    }
    let aside = turn::take_turn(desk, world, scheduled, &mut run);
    match &run.turn {
        Turn::Now { .. } => make(desk, world, scheduled, organization, &mut run),
        Turn::Later { .. } => {}
        Turn::Ended(..) => count_refusal(desk, &mut run, Reason::Overlap),
    }
    // As with events, a refusal alone costs no row.
    let stays = match &run.turn {
        Turn::Now { .. } => run.expands || run.total > 0,
        Turn::Later { .. } => true,
        Turn::Ended(state, _) => *state == RunState::Failed,
    };
    if stays {
        turn::push(desk, world, run, aside);
    }
}

/// Where a chain is too long it ends with a row that says so: one for each schedule, however many tasks would go on.
fn refuse_link(desk: &mut Desk<'_>, mut run: RunDraft) {
    run.turn = Turn::Ended(RunState::Skipped, EndReason::ChainTooLong);
    let told = desk.plan.runs.iter().any(|known| {
        known.turn == run.turn
            && known.parent_id == run.parent_id
            && known.schedule_id == run.schedule_id
    });
    if !told {
        desk.plan.runs.push(run);
    }
}
