//! Which files a schedule would join for an object, and which are missing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::Clerk;
use super::schedule::Case;
use crate::decide::{Refusal, World, scope_of};
use crate::object::{FILE, Object};
use crate::run::{Cause, Reason};
use crate::store::{StoreError, Wanted};

/// The files of an object, before the schedule that joins them.
pub(super) struct Joined {
    /// The object that they were made of.
    pub target: String,
    /// Whether there is any.
    pub some: bool,
    /// Where it is asked about a file that is no longer the newest: why that starts nothing.
    pub older: Option<Refusal>,
}

impl Clerk<'_> {
    /// Looks for the newest files that a schedule joins: of the object that is asked about, or of that which a file was
    /// made of. The newest of all stands for the change that could start it.
    pub(super) async fn of_join(
        &self,
        case: &mut Case<'_>,
        world: &mut World,
        key: &str,
    ) -> Result<Option<Joined>, StoreError> {
        let schedule = case.schedule();
        let file = case
            .object
            .clone()
            .filter(|object| object.object_type == FILE);
        let (target, by) = match (&file, file.as_ref().and_then(Object::made)) {
            (Some(_), Some(made)) => (made.of.to_owned(), Some(made.by.to_owned())),
            // What it was made of is not known, or it failed.
            (Some(_), None) => return Ok(None),
            (None, _) => (key.to_owned(), None),
        };
        let organization = case.organization.id.clone();
        let scope = scope_of(&schedule, &organization, Some(&target), false, Cause::Event);
        let makers = schedule.makers(&target).collect();
        let wanted = Wanted {
            keys: file.iter().map(|file| file.key.clone()).collect(),
            files: [(organization, makers)].into(),
            scopes: scope.into_iter().collect(),
            ..Wanted::default()
        };
        let around = self.ground.store.gather(&wanted).await?.world;
        let of_it = |by: &str| {
            let files = around.objects.values();
            let made = files.filter_map(|file| Some((file, file.made()?)));
            let made = made.filter(|(_, made)| made.of == target && made.by == by);
            let newest = made.max_by_key(|(_, made)| made.newness);
            newest.map(|(file, _)| file.clone())
        };
        let newest: BTreeMap<&String, Object> = schedule
            .join
            .iter()
            .filter_map(|plugin| Some((plugin, of_it(plugin)?)))
            .collect();
        let newest_by = |plugin: &String| newest.get(plugin);
        let (mut there, mut missing, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for plugin in &schedule.join {
            let newest = newest_by(plugin);
            match newest {
                Some(file) => there.push(format!("{} by {plugin}", file.key.primary_key)),
                None => missing.push(plugin.as_str()),
            }
            let key = newest.map(|file| file.key.primary_key.as_str());
            listed.push(json!({"plugin": plugin, "file": key}));
        }
        let there = match there.as_slice() {
            [] => "none is there".to_owned(),
            there => format!("there is {}", there.join(", ")),
        };
        let missing = match missing.as_slice() {
            [] => String::new(),
            missing => format!("; missing is one by {}", missing.join(", ")),
        };
        case.tell(
            "join",
            Some(newest.len() == schedule.join.len()),
            format!(
                "it takes the newest file of {target} by each of {}: {there}{missing}",
                schedule.join.join(", ")
            ),
        );
        case.join = Some(json!({"object": target, "files": Value::Array(listed)}));
        let newer = by.as_ref().and_then(newest_by);
        let newer = newer.filter(|newer| newer.key.primary_key != key);
        let older = newer.map(|newer| Refusal {
            reason: Reason::NotNewest,
            detail: format!("the newer is {}", newer.key.primary_key),
        });
        let last = newest
            .values()
            .max_by_key(|file| file.made().map(|made| made.newness));
        if file.is_none() {
            case.object = last.cloned();
        }
        let some = !newest.is_empty();
        world.objects.extend(around.objects);
        world.open.extend(around.open);
        world.ended.extend(around.ended);
        world.suppressed.extend(around.suppressed);
        world.scopes.extend(around.scopes);
        world.beyond.extend(around.beyond);
        Ok(Some(Joined {
            some,
            target,
            older,
        }))
    }
}
