//! What the clock makes due next: all schedules that it starts, in the order of their next instants.
//!
//! An instant is computed when a schedule is new here, changed or decided, not each time that somebody looks; so a look
//! with nothing due costs the same however many schedules there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::moment::Moment;
use crate::recurrence::Last;
use crate::trigger::Scheduled;

#[derive(Debug, Default)]
pub struct Agenda {
    /// Of the catalogue that it follows.
    revision: Option<i64>,
    entries: Vec<Entry>,
    order: BTreeSet<(Moment, usize)>,
    /// No cursor is after this.
    furthest: Moment,
    /// Those whose next instant depends on the end of their last run.
    waiting: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    scheduled: Arc<Scheduled>,
    cursor: Moment,
    next: Option<Moment>,
    last: Last,
}

/// A place on the agenda; it holds until the agenda follows another catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

impl Agenda {
    /// Whether the cursors are needed to follow this catalogue. A newer one with the very same schedules is followed
    /// without: organisations that events bring raise the revision too.
    pub fn is_behind(&mut self, catalogue: &Catalogue) -> bool {
        if self.revision == Some(catalogue.revision) {
            return false;
        }
        let mut timed = timed(catalogue);
        let same = self.revision.is_some()
            && self.entries.iter().all(|entry| {
                timed
                    .next()
                    .is_some_and(|theirs| Arc::ptr_eq(theirs, &entry.scheduled))
            })
            && timed.next().is_none();
        if same {
            self.revision = Some(catalogue.revision);
        }
        !same
    }

    /// The ids of a catalogue's schedules that are not as they are here.
    pub fn unknown<'a>(&self, catalogue: &'a Catalogue) -> Vec<&'a str> {
        let known: HashMap<&str, &Arc<Scheduled>> = self
            .entries
            .iter()
            .map(|entry| (entry.scheduled.schedule.id.as_str(), &entry.scheduled))
            .collect();
        timed(catalogue)
            .filter(|scheduled| {
                known
                    .get(scheduled.schedule.id.as_str())
                    .is_none_or(|known| !Arc::ptr_eq(known, scheduled))
            })
            .map(|scheduled| scheduled.schedule.id.as_str())
            .collect()
    }

    /// Takes over the schedules of a catalogue. `cursors` says until when each that is [unknown](Agenda::unknown) has
    /// been decided; one that has none yet is left out.
    pub fn follow(&mut self, catalogue: &Catalogue, cursors: &HashMap<String, Moment>) {
        let before = std::mem::take(&mut self.entries);
        let known: HashMap<&str, &Entry> = before
            .iter()
            .map(|entry| (entry.scheduled.schedule.id.as_str(), entry))
            .collect();
        self.entries = timed(catalogue)
            .filter_map(|scheduled| {
                let known = known.get(scheduled.schedule.id.as_str());
                // Somebody else may have moved it since; whoever decides looks again.
                let mine = known.filter(|known| Arc::ptr_eq(&known.scheduled, scheduled));
                let cursor = match cursors.get(&scheduled.schedule.id) {
                    Some(cursor) => *cursor,
                    None => mine?.cursor,
                };
                let known =
                    known.filter(|known| known.cursor == cursor && same_clock(known, scheduled));
                let (next, last) = match known {
                    Some(known) => (known.next, known.last),
                    None => (
                        scheduled.timetable.next_after(cursor, Last::Never),
                        Last::Never,
                    ),
                };
                Some(Entry {
                    scheduled: scheduled.clone(),
                    cursor,
                    next,
                    last,
                })
            })
            .collect();
        let cursors = self.entries.iter().map(|entry| entry.cursor);
        self.furthest = cursors.max().unwrap_or_default();
        let places = || self.entries.iter().enumerate();
        self.order = places()
            .filter_map(|(at, entry)| Some((entry.next?, at)))
            .collect();
        self.waiting = places()
            .filter(|(_, entry)| entry.scheduled.timetable.waits_for_completion())
            .map(|(at, _)| at)
            .collect();
        self.revision = Some(catalogue.revision);
    }

    /// The ids of schedules whose last run matters.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.waiting
            .iter()
            .filter_map(|at| self.entries.get(*at))
            .map(|entry| entry.scheduled.schedule.id.as_str())
    }

    /// How the last runs stand of those that wait for them.
    pub fn learn(&mut self, lasts: &HashMap<String, Last>) {
        for at in self.waiting.clone() {
            let Some(entry) = self.entries.get_mut(at) else {
                continue;
            };
            let id = entry.scheduled.schedule.id.as_str();
            let last = lasts.get(id).copied().unwrap_or_default();
            if entry.last != last {
                entry.last = last;
                let cursor = entry.cursor;
                self.decided(Place(at), cursor);
            }
        }
    }

    /// What is due, the earliest first; and where the clock was set back, what was decided until after `limit`.
    pub fn due(&self, now: Moment, limit: Moment) -> Vec<(Place, Arc<Scheduled>, Last)> {
        let due = self
            .order
            .iter()
            .take_while(|(next, _)| *next <= now)
            .map(|(_, at)| *at);
        // All are looked at only where some cursor may be that far.
        let looked = if self.furthest > limit {
            self.entries.as_slice()
        } else {
            &[]
        };
        let ahead = looked
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.cursor > limit && entry.next.is_none_or(|next| next > now))
            .map(|(at, _)| at);
        due.chain(ahead)
            .filter_map(|at| {
                let entry = self.entries.get(at)?;
                Some((Place(at), entry.scheduled.clone(), entry.last))
            })
            .collect()
    }

    /// It has been decided until an instant, here or elsewhere.
    pub fn decided(&mut self, place: Place, until: Moment) {
        let Some(entry) = self.entries.get_mut(place.0) else {
            return;
        };
        if let Some(next) = entry.next {
            self.order.remove(&(next, place.0));
        }
        entry.cursor = until;
        self.furthest = self.furthest.max(until);
        entry.next = entry.scheduled.timetable.next_after(until, entry.last);
        if let Some(next) = entry.next {
            self.order.insert((next, place.0));
        }
    }

    /// The next instant of all.
    pub fn next(&self) -> Option<Moment> {
        self.order.first().map(|(next, _)| *next)
    }
}

fn timed(catalogue: &Catalogue) -> impl Iterator<Item = &Arc<Scheduled>> {
    catalogue
        .schedules
        .iter()
        .filter(|scheduled| !scheduled.timetable.is_empty())
}

/// Whether a schedule fires as it did. Calendars and plugins change without a new revision of the schedules they serve.
fn same_clock(known: &Entry, scheduled: &Arc<Scheduled>) -> bool {
    let (before, now) = (&known.scheduled.schedule, &scheduled.schedule);
    Arc::ptr_eq(&known.scheduled, scheduled)
        || (before.revision == now.revision && now.calendars.is_empty() && !now.of_plugin())
}
