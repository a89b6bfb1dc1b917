//! What people ask is done, and answered: the same for whoever asks on the bus and on the command line.

use std::sync::Arc;

use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::command::Command;
use crate::document::nearest;
use crate::ground::Ground;
use crate::moment::Moment;
use crate::schedule::Organization;
use crate::store::{Answered, StoreError};
use crate::trigger::Scheduled;
use crate::wire::{LONGEST_ID, Refused, Requested, read_reply, reply};

/// What is answered.
pub type Answer = Result<Value, Refused>;

/// Passes a refusal on as the answer.
macro_rules! allowed {
    ($found:expr) => {
        match $found {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}

mod consequences;
mod declared;
mod explain;
mod letters;
mod lists;
mod queues;
mod replay;
mod runs;
mod schedules;
mod stats;
mod targets;
mod tasks;

pub use consequences::consequences;
pub use declared::{declared_rows, store_edits};
pub use explain::explained_as;
pub use lists::{Shown, rows, rows_at_a_glance};
pub use replay::{Over, Replayed, replay};
pub use runs::started;
pub use schedules::preview;

/// Does what is asked. The same id is answered with the same answer and done once.
pub async fn answer(
    ground: &Ground,
    requested: &Requested,
    who: &str,
) -> Result<Answer, StoreError> {
    // An empty id would be that of everything that came to be without a request.
    if requested
        .id
        .as_deref()
        .is_some_and(|id| id.trim().is_empty())
    {
        return Ok(Err(Refused::new(
            "wrong_argument",
            "an id is not empty",
            "leave the id of the request out, or give one that no other request has",
        )));
    }
    // Empty stands for all where rows are kept, and whoever names an organisation speaks for that one alone.
    if requested.organization.as_deref() == Some("") {
        return Ok(Err(Refused::new(
            "wrong_argument",
            "an organization is not empty",
            "leave it out to speak for all of them",
        )));
    }
    if let Some(id) = requested.id.as_deref().filter(|id| id.len() > LONGEST_ID) {
        return Ok(Err(Refused::new(
            "wrong_argument",
            format!(
                "the id of the request has {} bytes; at most {LONGEST_ID} are taken",
                id.len()
            ),
            "",
        )));
    }
    let bound = requested.organization.clone().unwrap_or_default();
    if let Some(id) = &requested.id
        && let Some(kept) = ground.store.answer_of(&bound, id).await?
    {
        return Ok(read_reply(&kept));
    }
    let command = match Command::read(&requested.command, &requested.args) {
        Ok(command) => command,
        Err(refused) => return Ok(Err(refused)),
    };
    let clerk = Clerk {
        ground,
        requested,
        bound: requested.organization.as_deref(),
        who,
    };
    let answer = match command {
        Command::Queue(asked) => clerk.of_queues(asked).await?,
        Command::Run(asked) => clerk.of_runs(asked).await?,
        Command::Schedule(asked) => clerk.of_schedules(asked).await?,
        Command::Target(asked) => clerk.of_targets(asked).await?,
        Command::Task(asked) => clerk.of_tasks(asked).await?,
        Command::Attempts(listing) => clerk.list(&listing).await?,
        Command::DeadLetter(asked) => clerk.of_letters(asked).await?,
        Command::Declared(asked) => clerk.of_declared(asked).await?,
        Command::Explain(asked) => clerk.explain(asked).await?,
        Command::Stats => clerk.stats().await?,
    };
    if requested.id.is_some()
        && let Some(answered) = clerk.answered(&answer)
    {
        let kept = ground.store.answered(&answered, ground.clock.now()).await?;
        // Whoever was faster with the same request has said what is answered.
        if !kept {
            return clerk.answered_before().await;
        }
    }
    Ok(answer)
}

/// Whoever does one request.
struct Clerk<'a> {
    ground: &'a Ground,
    requested: &'a Requested,
    bound: Option<&'a str>,
    who: &'a str,
}

impl Clerk<'_> {
    async fn catalogue(&self) -> Result<Arc<Catalogue>, StoreError> {
        let revision = self.ground.store.catalogue_revision().await?;
        self.ground.catalogue_at(revision).await
    }

    /// The answer as it is kept, where whoever asked gave an id.
    fn answered(&self, answer: &Answer) -> Option<Answered> {
        let id = self.requested.id.clone()?;
        Some(Answered {
            organization: self.bound.unwrap_or_default().to_owned(),
            command: self.requested.command.clone(),
            answer: reply(Some(&id), answer),
            id,
        })
    }

    /// What was answered to the same request, once it is known that there was one.
    async fn answered_before(&self) -> Result<Answer, StoreError> {
        let id = self.requested.id.as_deref().unwrap_or_default();
        let bound = self.bound.unwrap_or_default();
        let kept = self.ground.store.answer_of(bound, id).await?;
        Ok(kept.as_deref().map_or_else(
            || {
                Err(Refused::new(
                    "try_again",
                    "the same request was being answered",
                    "send it again, with the same id",
                ))
            },
            read_reply,
        ))
    }

    /// The schedule of this name or id, as far as the request may see it.
    fn find(&self, catalogue: &Catalogue, name: &str) -> Result<Arc<Scheduled>, Refused> {
        let seen = |scheduled: &&Arc<Scheduled>| {
            self.bound
                .is_none_or(|bound| scheduled.schedule.concerns(bound))
        };
        let known: Vec<&Arc<Scheduled>> = catalogue.schedules.iter().filter(seen).collect();
        let named: Vec<&Arc<Scheduled>> = known
            .iter()
            .copied()
            .filter(|scheduled| scheduled.schedule.id == name || scheduled.schedule.name == name)
            .collect();
        match named.as_slice() {
            [one] => Ok((*one).clone()),
            // What stands for a plugin is nobody's own; whatever else has this id belongs to others.
            [] => catalogue
                .scheduled(name)
                .filter(|it| seen(&it))
                .ok_or_else(|| {
                    let names = known
                        .iter()
                        .map(|scheduled| scheduled.schedule.name.as_str());
                    not_found("schedule", name, &nearest(name, names))
                }),
            _ => Err(Refused::new(
                "ambiguous",
                format!("several organisations have a schedule `{name}`"),
                "name the organization too",
            )),
        }
    }

    /// The schedule, where the request may change it: one that is for all is not one organisation's to change.
    fn own(&self, catalogue: &Catalogue, name: &str) -> Result<Arc<Scheduled>, Refused> {
        let found = self.find(catalogue, name)?;
        if self.bound.is_some() && found.schedule.organization.is_none() {
            return Err(Refused::new(
                "not_yours",
                format!("the schedule `{name}` is for all organisations"),
                "leave the organization out",
            ));
        }
        Ok(found)
    }

    /// For whom a request runs: the one that it names, the schedule's own, or all.
    fn organizations(
        &self,
        catalogue: &Catalogue,
        scheduled: &Scheduled,
        on_objects: bool,
    ) -> Result<Vec<Organization>, Refused> {
        let own = scheduled.schedule.organization.as_deref();
        match self.bound.or(own) {
            Some(id) => {
                // Whoever speaks for one organisation is not told of others by their names.
                let known = catalogue.organizations.keys().map(String::as_str);
                let known = known.filter(|_| self.bound.is_none());
                let organization = catalogue
                    .organizations
                    .get(id)
                    .ok_or_else(|| not_found("organization", id, &nearest(id, known)))?;
                Ok(vec![organization.clone()])
            }
            None if on_objects && catalogue.organizations.len() != 1 => Err(Refused::new(
                "organization_needed",
                "an object belongs to an organisation, and none is named",
                "name it: organization, or --organization on the command line",
            )),
            None => Ok(catalogue.organizations.values().cloned().collect()),
        }
    }
}

/// Nobody knows this organisation; the nearest of those that are known.
pub fn no_organization<'k>(id: &str, known: impl Iterator<Item = &'k str>) -> Refused {
    not_found("organization", id, &nearest(id, known))
}

fn not_found(noun: &str, name: &str, near: &[&str]) -> Refused {
    let help = match near {
        [] => String::new(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    let message = format!("no {noun} `{}` is known", shortened(name));
    Refused::new("not_found", message, help)
}

/// What somebody wrote, as an answer repeats it.
fn shortened(name: &str) -> String {
    let shown: String = name.chars().take(200).collect();
    let cut = if shown.len() < name.len() { "…" } else { "" };
    format!("{shown}{cut}")
}

fn text(at: Option<Moment>) -> Option<String> {
    at.map(|at| at.to_string())
}
