//! A page of the inventory for a run that expands: each object by each plugin, and the batches that come of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Desk, FindingOutcome, World, consider, consider_one, grace, note};
use crate::catalogue::Catalogue;
use crate::moment::Span;
use crate::object::Object;
use crate::plugin::Plugin;
use crate::policy::{Envelope, Rank};
use crate::run::{Cause, RunDraft};
use crate::schedule::Organization;
use crate::task::TaskDraft;
use crate::trigger::Scheduled;

/// The keys of inputs that were found and wait until their batch is full, by plugin.
pub type Carried = BTreeMap<String, Vec<String>>;

/// What a page looks at.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What the pages before left for a batch, by plugin. It is decided again: it may have changed since.
    pub carried: &'a BTreeMap<String, Vec<Object>>,
    pub found: &'a [Object],
    /// No page comes after this one, so every batch is closed.
    pub last: bool,
}

/// Decides a page. The run's counters grow; the answer is what waits for the next page.
pub fn page(
    desk: &mut Desk<'_>,
    world: &mut World,
    scheduled: &Scheduled,
    organization: &Organization,
    run: &mut RunDraft,
    inputs: &Inputs<'_>,
) -> Carried {
    let first = desk.plan.tasks.len();
    for plugin in scheduled.selected.iter() {
        for input in inputs.carried.get(&plugin.plugin_id).into_iter().flatten() {
            // What became of it is counted on the run.
            let _ = consider_one(
                desk,
                world,
                scheduled,
                organization,
                run,
                plugin,
                &[input],
                &[],
            );
        }
    }
    for input in inputs.found {
        let mut considered = Vec::new();
        consider(
            desk,
            world,
            scheduled,
            organization,
            run,
            &[input],
            &[],
            &mut considered,
        );
        note(desk, scheduled, FindingOutcome::Considered(considered));
    }
    let sizes: HashMap<&str, usize> = scheduled
        .selected
        .iter()
        .map(|plugin| {
            (
                plugin.plugin_id.as_str(),
                batch_size(desk.catalogue, plugin),
            )
        })
        .filter(|(_, size)| *size > 1)
        .collect();
    if sizes.is_empty() {
        return Carried::new();
    }
    let made = desk.plan.tasks.split_off(first);
    gather(&mut desk.plan.tasks, made, &sizes, run, inputs.last)
}

/// Whether the last ends of tasks can keep a run from making new ones, or say how urgent these are.
pub fn asks_for_ends(catalogue: &Catalogue, scheduled: &Scheduled, cause: Cause) -> bool {
    let asks = |plugin: &Arc<Plugin>| {
        grace(catalogue, scheduled, plugin, cause) > Span::ZERO
            || catalogue.rules.worker(&plugin.worker_type).rank == Rank::Age
    };
    scheduled.selected.iter().any(asks)
}

/// How many inputs one task of a plugin takes. OpenKAT's envelope has a place for one.
pub(super) fn batch_size(catalogue: &Catalogue, plugin: &Plugin) -> usize {
    match catalogue.rules.worker(&plugin.worker_type).format {
        Envelope::Openkat => 1,
        Envelope::Muster => usize::try_from(plugin.batch_size).unwrap_or(1),
    }
}

/// Puts the tasks of one input each together, in their order. What does not fill a batch is carried on to the next page,
/// where there is one.
fn gather(
    tasks: &mut Vec<TaskDraft>,
    made: Vec<TaskDraft>,
    sizes: &HashMap<&str, usize>,
    run: &mut RunDraft,
    last: bool,
) -> Carried {
    // Where in the list the batch of a plugin is that still has room.
    let mut open: HashMap<String, usize> = HashMap::new();
    for draft in made {
        let size = sizes.get(draft.plugin_id.as_str()).copied().unwrap_or(1);
        if size == 1 {
            tasks.push(draft);
            continue;
        }
        let begun = open.get(&draft.plugin_id).copied();
        let Some(batch) = begun.and_then(|at| tasks.get_mut(at)) else {
            open.insert(draft.plugin_id.clone(), tasks.len());
            tasks.push(draft);
            continue;
        };
        batch.inputs.extend(draft.inputs);
        run.total -= 1;
        if batch.inputs.len() >= size {
            open.remove(&draft.plugin_id);
        }
    }
    if last {
        return Carried::new();
    }
    let mut carried = Carried::new();
    let unfilled: HashSet<usize> = open.into_values().collect();
    let mut at = 0;
    tasks.retain_mut(|batch| {
        let keeps = !unfilled.contains(&at);
        at += 1;
        if !keeps {
            let inputs = std::mem::take(&mut batch.inputs);
            let keys = inputs.into_iter().map(|input| input.primary_key);
            carried.insert(batch.plugin_id.clone(), keys.collect());
            run.total -= 1;
        }
        keeps
    });
    carried
}
