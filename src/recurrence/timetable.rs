//! The instants of one schedule: its recurrences in its zone, within its bounds, without its blackouts.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::parts::{Rule, Time};
use super::rule::Walk;
use super::{Anchor, Calendar, Cron, Recurrence, wall};
use crate::moment::{Moment, Span};

/// Windows in a row that a search passes over. What lies in so many is never outside of them.
const WINDOWS: usize = 1_000;

/// What bounds a schedule, and what its periods count from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub created: Moment,
    pub starts: Option<Moment>,
    pub ends: Option<Moment>,
}

/// How a schedule's last run stands; a period may count from its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Last {
    /// There was none.
    #[default]
    Never,
    Running,
    Ended(Moment),
}

/// All that decides when a schedule fires.
#[derive(Clone, Debug)]
pub struct Timetable {
    sources: Vec<Source>,
    zone: TimeZone,
    bounds: Bounds,
    calendars: Vec<Arc<Calendar>>,
}

#[derive(Clone, Debug)]
enum Source {
    Cron(Arc<Cron>),
    /// On a grid from an instant on; whether that instant is on it itself.
    Grid {
        every: Span,
        from: Moment,
        itself: bool,
    },
    Completion {
        every: Span,
    },
    At(Moment),
    Rule(Box<Dated>),
}

/// A rule with its own exceptions.
#[derive(Clone, Debug)]
struct Dated {
    walk: Walk,
    excluded: Vec<Moment>,
    excluded_days: Vec<Date>,
    /// In their order.
    added: Vec<Moment>,
}

impl Default for Timetable {
    fn default() -> Timetable {
        Timetable::new(&[], TimeZone::UTC, Bounds::default(), Vec::new())
    }
}

impl Timetable {
    pub fn new(
        recurrences: &[Recurrence],
        zone: TimeZone,
        bounds: Bounds,
        calendars: Vec<Arc<Calendar>>,
    ) -> Timetable {
        let sources = recurrences
            .iter()
            .map(|recurrence| match recurrence {
                Recurrence::Cron { cron, .. } => Source::Cron(cron.clone()),
                Recurrence::At(at) => Source::At(*at),
                Recurrence::Period {
                    every,
                    anchor: Anchor::Completion,
                } => Source::Completion { every: *every },
                Recurrence::Period { every, anchor } => {
                    let (from, itself) = match (anchor, bounds.starts) {
                        (Anchor::Epoch, _) => (Moment::EPOCH, true),
                        (_, Some(starts)) => (starts, true),
                        // Nothing happens at the instant at which somebody writes a schedule.
                        (_, None) => (bounds.created, false),
                    };
                    Source::Grid {
                        every: *every,
                        from,
                        itself,
                    }
                }
                Recurrence::Rule(rule) => Source::Rule(Box::new(Dated::new(rule, &zone, bounds))),
            })
            .collect();
        Timetable {
            sources,
            zone,
            bounds,
            calendars,
        }
    }

    /// Nothing of the clock starts the schedule, as it is by default.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether its next instant depends on how its last run stands.
    pub fn waits_for_completion(&self) -> bool {
        self.sources
            .iter()
            .any(|source| matches!(source, Source::Completion { .. }))
    }

    /// The first instant after `after`.
    pub fn next_after(&self, after: Moment, last: Last) -> Option<Moment> {
        let mut at = match self.bounds.starts {
            Some(starts) => after.max(starts.minus(Span::from_micros(1))),
            None => after,
        };
        for _ in 0..WINDOWS {
            let next = self
                .sources
                .iter()
                .filter_map(|source| self.of_source(source, at, last))
                .min()
                .filter(|next| self.bounds.ends.is_none_or(|ends| *next <= ends))?;
            let blocked = self
                .calendars
                .iter()
                .filter_map(|calendar| calendar.until(next))
                .max();
            match blocked {
                None => return Some(next),
                Some(until) => at = until.minus(Span::from_micros(1)).max(next),
            }
        }
        None
    }

    /// The instants after `after`, one after the other.
    pub fn instants(&self, after: Moment, last: Last) -> impl Iterator<Item = Moment> + '_ {
        let mut at = Some(after);
        std::iter::from_fn(move || {
            at = self.next_after(at?, last);
            at
        })
    }

    fn of_source(&self, source: &Source, after: Moment, last: Last) -> Option<Moment> {
        match source {
            Source::Cron(cron) => cron.next_after(after, &self.zone),
            Source::At(at) => (*at > after).then_some(*at),
            Source::Grid {
                every,
                from,
                itself,
            } => on_grid(*every, *from, i64::from(!*itself), after),
            Source::Completion { every } => match last {
                Last::Running => None,
                // An instant at which nothing ran does not end the counting.
                Last::Never => on_grid(*every, self.bounds.created, 1, after),
                Last::Ended(at) => on_grid(*every, at, 1, after),
            },
            Source::Rule(dated) => dated.next_after(after, &self.zone),
        }
    }
}

/// The first instant after `after` that is at least `least` times `every` from an instant.
fn on_grid(every: Span, from: Moment, least: i64, after: Moment) -> Option<Moment> {
    let passed = after.micros().checked_sub(from.micros())?;
    let times = (passed.div_euclid(every.micros().max(1)) + 1).max(least);
    let next = every
        .micros()
        .checked_mul(times)
        .and_then(|ahead| from.micros().checked_add(ahead))?;
    let found = Moment::from_micros(next);
    // After the last instant that there is, none follows.
    (found > after && found.micros() == next).then_some(found)
}

impl Dated {
    fn new(rule: &Rule, zone: &TimeZone, bounds: Bounds) -> Dated {
        let start = match bounds.starts {
            Some(starts) => wall::shown(starts, zone),
            // Round: nobody wrote the second at which the schedule was made.
            None => wall::shown(bounds.created, zone).date().at(0, 0, 0, 0),
        };
        let mut dated = Dated {
            walk: Walk::new(rule, start, zone),
            excluded: Vec::new(),
            excluded_days: Vec::new(),
            added: Vec::new(),
        };
        for time in &rule.exdate {
            match time {
                Time::Instant(at) => dated.excluded.push(*at),
                Time::Wall(wall) => dated.excluded.extend(wall::instant(zone, *wall)),
                Time::Day(date) => dated.excluded_days.push(*date),
            }
        }
        for time in &rule.rdate {
            match time {
                Time::Instant(at) => dated.added.push(*at),
                Time::Wall(wall) => dated.added.extend(wall::instant(zone, *wall)),
                Time::Day(date) => dated.added.extend(wall::instant(zone, date.at(0, 0, 0, 0))),
            }
        }
        dated.added.sort_unstable();
        dated.excluded.sort_unstable();
        dated.excluded_days.sort_unstable();
        dated
    }

    fn next_after(&self, after: Moment, zone: &TimeZone) -> Option<Moment> {
        let mut at = after;
        loop {
            let added = self.added.partition_point(|added| *added <= at);
            let next = match (self.walk.next_after(at, zone), self.added.get(added)) {
                (Some(next), Some(added)) => next.min(*added),
                (next, added) => next.or(added.copied())?,
            };
            let date = wall::shown(next, zone).date();
            if self.excluded_days.binary_search(&date).is_ok() {
                // The rest of the day is passed over at once.
                let tomorrow = date.tomorrow().ok()?.at(0, 0, 0, 0);
                let ends = wall::instant(zone, tomorrow)?;
                at = ends.minus(Span::from_micros(1)).max(next);
            } else if self.excluded.binary_search(&next).is_ok() {
                at = next;
            } else {
                return Some(next);
            }
        }
    }
}
