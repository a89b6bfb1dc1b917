//! Two sets of rules over the same: which candidates get a task under one of them alone, and why not under the other.

use std::collections::{BTreeMap, HashMap};

use super::replay::{Met, Replay, Sample};
use crate::schedule::Input;

/// Of each schedule so many are shown that get a task under one set of rules alone, and so many under the other.
const SHOWN: usize = 5;

/// What differs, by the id of the schedule.
#[derive(Clone, Debug, Default)]
pub struct Differences(BTreeMap<String, Differs>);

/// What differs of one schedule. A candidate is a plugin on an object, or on none; several of them may share a task.
#[derive(Clone, Debug, Default)]
pub struct Differs {
    /// Candidates that would get a task and get none now.
    pub added: u64,
    /// Those that get one now and would get none.
    pub removed: u64,
    pub changes: Vec<Change>,
}

/// One candidate that only one set of rules gives a task.
#[derive(Clone, Debug)]
pub struct Change {
    /// As the rules have it that give it a task.
    pub candidate: Sample,
    pub added: bool,
    /// By what word and for what reason the others give it none.
    pub reason: &'static str,
    pub detail: String,
}

impl Differences {
    pub fn of(&self, schedule_id: &str) -> Option<&Differs> {
        self.0.get(schedule_id)
    }

    pub fn schedules(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Looks at what both have decided last.
    pub fn note(&mut self, now: &mut Replay, would: &mut Replay) {
        let (before, after) = (now.decided(), would.decided());
        self.only(&after, &before, now, true);
        self.only(&before, &after, would, false);
    }

    /// Those that get a task here and none there.
    fn only(&mut self, here: &[Sample], there: &[Sample], others: &Replay, added: bool) {
        let known: HashMap<_, &Sample> =
            there.iter().map(|sample| (place(sample), sample)).collect();
        for candidate in here.iter().filter(|candidate| candidate.refusal.is_none()) {
            let other = known.get(&place(candidate));
            let (reason, detail) = match other.map(|other| &other.refusal) {
                Some(None) => continue,
                Some(Some(refusal)) => (refusal.reason.word(), refusal.detail.clone()),
                None => not_asked(others, candidate),
            };
            let differs = self.0.entry(candidate.schedule_id.clone()).or_default();
            match added {
                true => differs.added += 1,
                false => differs.removed += 1,
            }
            let shown = differs.changes.iter();
            if shown.filter(|change| change.added == added).count() < SHOWN {
                differs.changes.push(Change {
                    candidate: candidate.clone(),
                    added,
                    reason,
                    detail,
                });
            }
        }
    }
}

fn place(sample: &Sample) -> (&str, &str, &str, &str) {
    (
        &sample.schedule_id,
        &sample.organization,
        &sample.plugin,
        &sample.object,
    )
}

/// Why rules did not so much as ask the gates for a candidate.
fn not_asked(rules: &Replay, candidate: &Sample) -> (&'static str, String) {
    let catalogue = rules.catalogue();
    let Some(scheduled) = catalogue.scheduled(&candidate.schedule_id) else {
        return ("not_declared", "the schedule is not declared".to_owned());
    };
    let schedule = &scheduled.schedule;
    let plugin = &candidate.plugin;
    let organization = catalogue.organizations.get(&candidate.organization);
    if !schedule.awake() {
        return (
            "asleep",
            "the schedule is switched off or paused".to_owned(),
        );
    }
    if organization.is_some_and(|known| !known.enabled) {
        let says = format!(
            "the organization {} is switched off",
            candidate.organization
        );
        return ("disabled", says);
    }
    if !schedule.concerns(&candidate.organization) {
        return (
            "other_organization",
            "the schedule is of another".to_owned(),
        );
    }
    if !catalogue.plugins.contains_key(plugin) {
        return (
            "not_declared",
            format!("the plugin {plugin} is not declared"),
        );
    }
    if !scheduled
        .selected
        .iter()
        .any(|taken| taken.plugin_id == *plugin)
    {
        return ("not_selected", format!("its `plugins` leaves {plugin} out"));
    }
    let looks = matches!(schedule.input, Input::Selected(_));
    match (candidate.met, looks) {
        (Met::Found, true) => ("not_taken", "its `input` leaves it out".to_owned()),
        (Met::Found, false) => ("no_input", "it does not look for inputs".to_owned()),
        (_, true) => (
            "expands",
            "it looks for its inputs among the objects that are there".to_owned(),
        ),
        (Met::Changed, false) => (
            "not_triggered",
            "such a change does not trigger it".to_owned(),
        ),
        (Met::Instant, false) => ("not_started", "the clock does not start it so".to_owned()),
    }
}
