//! Joins: of each named plugin the newest file of one object, all of them the inputs of one task.
//!
//! The newest is that whose plugin finished last (`ended_at`, else the order of its event), whichever came first
//! ([`crate::object::Made`]). So the same files make the same set in whatever order they come, and the last of them to
//! come completes it; one that is late and no longer the newest completes nothing.

use super::{Refusal, World};
use crate::catalogue::Known;
use crate::object::{Made, Object};
use crate::run::Reason;
use crate::schedule::Schedule;

/// The files that a schedule joins for an object, in the order in which it names their plugins.
pub(super) fn joined(
    world: &World,
    schedule: &Schedule,
    organization: &str,
    target: &str,
) -> Result<Vec<Object>, Refusal> {
    let unknown = Known::default();
    let known = world.beyond.get(organization).unwrap_or(&unknown);
    let mut files: Vec<Object> = Vec::with_capacity(schedule.join.len());
    let mut absent: Vec<&str> = Vec::new();
    for plugin in &schedule.join {
        match newest(world, known, organization, target, plugin) {
            Some(file) => files.push(file.clone()),
            None => absent.push(plugin),
        }
    }
    // What was missing is fetched, and all is decided again; unless it was too much.
    if known.missed() {
        return Err(Refusal {
            reason: Reason::QueryTooCostly,
            detail: format!("the newest files of {target} could not be looked up"),
        });
    }
    if absent.is_empty() {
        return Ok(files);
    }
    Err(Refusal {
        reason: Reason::JoinIncomplete,
        detail: format!("no file of {target} by {}", absent.join(", ")),
    })
}

/// The same for a file that came: it must be one of them.
pub(super) fn joined_with(
    world: &World,
    schedule: &Schedule,
    file: &Object,
    made: &Made<'_>,
) -> Result<Vec<Object>, Refusal> {
    let organization = &file.key.organization;
    let unknown = Known::default();
    let known = world.beyond.get(organization).unwrap_or(&unknown);
    let newest = newest(world, known, organization, made.of, made.by);
    let newer = newest.filter(|newest| newest.key != file.key);
    match (joined(world, schedule, organization, made.of), newer) {
        (Err(refusal), _) if refusal.reason == Reason::QueryTooCostly => Err(refusal),
        (_, Some(newer)) => Err(Refusal {
            reason: Reason::NotNewest,
            detail: format!("the newer is {}", newer.key.primary_key),
        }),
        (files, None) => files,
    }
}

/// Of the files that the batch told of as they are now, and of all others the newest, as it was fetched.
fn newest<'w>(
    world: &'w World,
    known: &'w Known,
    organization: &str,
    target: &str,
    plugin: &str,
) -> Option<&'w Object> {
    let elsewhere = known
        .newest_file(target, plugin)
        .filter(|file| !world.objects.contains_key(&file.key));
    let here = world
        .objects
        .values()
        .filter(|object| object.key.organization == organization);
    here.chain(elsewhere)
        .filter_map(|file| Some((file, file.made()?)))
        .filter(|(_, made)| made.of == target && made.by == plugin)
        .max_by_key(|(_, made)| made.newness)
        .map(|(file, _)| file)
}
