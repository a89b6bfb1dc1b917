//! The only judge of a query: a typed tree and facts to yes or no.
//!
//! Every condition is true or false. None is an ordinary value for equality; every other comparison with it is false, and
//! a negated operator is the exact complement of its positive. Nothing found in an object can make the judge panic: what
//! is of another type is simply not equal, and has no order.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::Value;

use super::limit;
use super::schema::Kind;
use super::tree::{Condition, Needle, Node, Operand, Path, Quantified, Relation, Step, Test, Via};
use super::value::{Scalar, alike};
use super::{Facts, Fields, TooCostly, Version};
use crate::moment::{Moment, Span};

type Verdict = Result<bool, TooCostly>;

/// Where a path has come to.
#[derive(Clone, Copy)]
pub(crate) enum Place<'p> {
    Nothing,
    Value(&'p Value),
    Object(&'p dyn Fields),
}

impl<'p> Place<'p> {
    fn field(self, name: &str) -> Option<Cow<'p, Value>> {
        match self {
            Place::Object(object) => object.field(name),
            Place::Value(Value::Object(map)) => map.get(name).map(Cow::Borrowed),
            Place::Value(_) | Place::Nothing => None,
        }
        .filter(|value| !value.is_null())
    }

    fn object(self) -> Option<&'p dyn Fields> {
        match self {
            Place::Object(object) => Some(object),
            Place::Value(Value::Object(map)) => Some(map),
            Place::Value(_) | Place::Nothing => None,
        }
    }

    fn scalar(self, kind: &Kind) -> Scalar<'p> {
        match self {
            Place::Nothing => Scalar::None,
            Place::Object(_) => Scalar::Object,
            Place::Value(value) => Scalar::read(value, kind),
        }
    }
}

/// What a visitor answers at each place: whether it has seen enough.
type Visitor<'v> = dyn FnMut(Place<'_>) -> Verdict + 'v;

/// What a path is followed for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The values at its end; an absent one is None, and so is an empty list.
    Values,
    /// The elements of the list at its end.
    Elements,
}

/// One evaluation: the facts, and the steps taken so far.
pub(crate) struct Judge<'f> {
    facts: &'f Facts<'f>,
    steps: Cell<u32>,
}

impl<'f> Judge<'f> {
    pub fn new(facts: &'f Facts<'f>) -> Judge<'f> {
        Judge {
            facts,
            steps: Cell::new(0),
        }
    }

    pub fn subject(&self) -> Place<'f> {
        Place::Object(self.facts.subject)
    }

    fn step(&self) -> Result<(), TooCostly> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > limit::STEPS {
            return Err(TooCostly {
                limit: limit::STEPS,
            });
        }
        Ok(())
    }

    /// Each further condition of a group is a step; the first belongs to the element that it is asked of.
    fn further(&self, index: usize) -> Result<(), TooCostly> {
        if index == 0 { Ok(()) } else { self.step() }
    }

    pub fn holds(&self, node: &Node, subject: Place<'_>) -> Verdict {
        match &node.condition {
            Condition::Constant(truth) => Ok(*truth),
            Condition::And(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    self.further(index)?;
                    if !self.holds(part, subject)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Or(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    self.further(index)?;
                    if self.holds(part, subject)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Not(inner) => Ok(!self.holds(inner, subject)?),
            Condition::Test {
                path,
                lower,
                test,
                negated,
            } => {
                let test = self.prepare(test);
                let some = self.values(path, subject, &mut |place| {
                    let mut found = place.scalar(&path.kind);
                    if *lower && let Scalar::Text(text) = &mut found {
                        text.to_mut().make_ascii_lowercase();
                    }
                    Ok(test.passes(&found))
                })?;
                Ok(some != *negated)
            }
            Condition::Holds {
                value,
                list,
                negated,
            } => {
                let wanted = self.constant(value);
                let kind = element_kind(&list.kind);
                let some = self.elements(list, subject, &mut |place| {
                    Ok(wanted.same(&place.scalar(kind)))
                })?;
                Ok(some != *negated)
            }
            Condition::Quantified {
                quantifier,
                path,
                body,
            } => self.quantified(quantifier, path, body.as_deref(), subject),
            Condition::InSet(name) => Ok(subject
                .object()
                .is_some_and(|object| self.facts.world.member(name, object))),
            Condition::History {
                always,
                body,
                since,
                until,
            } => self.history(*always, body, since.as_ref(), until.as_ref(), subject),
            Condition::Changed { path, since } => self.changed(path, since.as_ref(), subject),
        }
    }

    fn quantified(
        &self,
        quantifier: &Quantified,
        path: &Path,
        body: Option<&Node>,
        subject: Place<'_>,
    ) -> Verdict {
        let passes = |place: Place<'_>| match body {
            Some(body) => self.holds(body, place),
            None => Ok(true),
        };
        match quantifier {
            Quantified::Any => self.elements(path, subject, &mut |place| passes(place)),
            Quantified::None => Ok(!self.elements(path, subject, &mut |place| passes(place))?),
            Quantified::All => Ok(!self.elements(path, subject, &mut |place| Ok(!passes(place)?))?),
            Quantified::Count { relation, number } => {
                let mut count: i64 = 0;
                self.elements(path, subject, &mut |place| {
                    count += i64::from(passes(place)?);
                    Ok(false)
                })?;
                Ok(relation.allows(Some(count.cmp(number))))
            }
        }
    }

    /// The versions of an object, oldest first; an object without any stands for itself.
    fn versions<R>(&self, subject: Place<'_>, use_them: impl FnOnce(&[Version<'_>]) -> R) -> R {
        let Some(object) = subject.object() else {
            return use_them(&[]);
        };
        let mut versions = self.facts.world.versions(object);
        if versions.is_empty() {
            versions.push(Version {
                from: Moment::from_micros(i64::MIN),
                until: None,
                fields: Box::new(object),
            });
        }
        versions.sort_by_key(|version| version.from);
        use_them(&versions)
    }

    fn history(
        &self,
        always: bool,
        body: &Node,
        since: Option<&Operand>,
        until: Option<&Operand>,
        subject: Place<'_>,
    ) -> Verdict {
        // A bound that is no instant is None, and nothing compares with None: no version lies in that window.
        let bound = |operand: Option<&Operand>| match operand {
            None => Some(None),
            Some(operand) => self.constant(operand).moment().map(Some),
        };
        let (Some(since), Some(until)) = (bound(since), bound(until)) else {
            return Ok(always);
        };
        self.versions(subject, |versions| {
            for version in versions {
                self.step()?;
                let begins_in_time = until.is_none_or(|until| version.from < until);
                let ends_in_time =
                    since.is_none_or(|since| version.until.is_none_or(|end| end > since));
                if begins_in_time
                    && ends_in_time
                    && self.holds(body, Place::Object(&*version.fields))? != always
                {
                    return Ok(!always);
                }
            }
            Ok(always)
        })
    }

    fn changed(&self, path: &Path, since: Option<&Operand>, subject: Place<'_>) -> Verdict {
        let since = match since {
            None => None,
            Some(operand) => match self.constant(operand).moment() {
                None => return Ok(false),
                since => since,
            },
        };
        self.versions(subject, |versions| {
            for pair in versions.windows(2) {
                self.step()?;
                let [earlier, later] = pair else { continue };
                if since.is_some_and(|since| later.from < since) {
                    continue;
                }
                let before = self.snapshot(path, Place::Object(&*earlier.fields))?;
                let after = self.snapshot(path, Place::Object(&*later.fields))?;
                if !alike(&before, &after) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// All that a path leads to, as one value that can be compared with another version's.
    fn snapshot(&self, path: &Path, subject: Place<'_>) -> Result<Value, TooCostly> {
        let mut seen = Vec::new();
        self.values(path, subject, &mut |place| {
            seen.push(match place {
                Place::Nothing => Value::Null,
                Place::Value(Value::Array(items)) if items.iter().all(Value::is_null) => {
                    Value::Null
                }
                Place::Value(value) => value.clone(),
                Place::Object(object) => object
                    .field("primary_key")
                    .map_or(Value::Bool(true), Cow::into_owned),
            });
            Ok(false)
        })?;
        Ok(Value::Array(seen))
    }

    /// What a path finds in the subject, for people: one value, or several.
    pub fn found(&self, path: &Path, subject: Place<'_>) -> Result<Vec<String>, TooCostly> {
        const SHOWN: usize = 8;
        const LONGEST: usize = 200;
        let mut seen = Vec::new();
        self.values(path, subject, &mut |place| {
            let mut text = place.scalar(&path.kind).to_string();
            if let Some((end, _)) = text.char_indices().nth(LONGEST) {
                text.truncate(end);
                text.push('…');
            }
            if seen.len() == SHOWN {
                text = "…".to_owned();
            }
            seen.push(text);
            Ok(seen.len() > SHOWN)
        })?;
        Ok(seen)
    }

    /// Offers the values that a path leads to, until one is taken; whether one was.
    fn values(&self, path: &Path, subject: Place<'_>, visitor: &mut Visitor<'_>) -> Verdict {
        self.follow(&path.steps, Purpose::Values, subject, false, visitor)
    }

    /// Offers the elements of the list that a path leads to, until one is taken; whether one was.
    pub fn elements(&self, path: &Path, subject: Place<'_>, visitor: &mut Visitor<'_>) -> Verdict {
        self.follow(&path.steps, Purpose::Elements, subject, false, visitor)
    }

    /// `spread` is whether the path has already gone through a list, so that what it reaches is one element of many.
    fn follow(
        &self,
        steps: &[Step],
        purpose: Purpose,
        place: Place<'_>,
        spread: bool,
        visitor: &mut Visitor<'_>,
    ) -> Verdict {
        let Some((step, rest)) = steps.split_first() else {
            return self.arrive(purpose, place, spread, visitor);
        };
        if let Via::Referrers { object_type, field } = &step.via {
            let key = place.field("primary_key");
            let objects = match key.as_deref() {
                Some(Value::String(key)) => self.facts.world.referrers(object_type, field, key),
                _ => Vec::new(),
            };
            let objects = objects.into_iter().map(Related::Stored);
            return self.spread(objects, rest, purpose, visitor);
        }
        let Some(value) = place.field(&step.name) else {
            return absent(purpose, visitor);
        };
        match (&step.via, &*value) {
            (Via::Objects(object_type), Value::Array(items)) => {
                let objects = items.iter().map(|item| self.related(object_type, item));
                self.spread(objects, rest, purpose, visitor)
            }
            (Via::Objects(object_type), item) => {
                let related = self.related(object_type, item);
                match related.place() {
                    Place::Nothing => absent(purpose, visitor),
                    place => self.follow(rest, purpose, place, spread, visitor),
                }
            }
            (_, Value::Array(items)) if !rest.is_empty() => {
                let records = items.iter().map(Related::Inside);
                self.spread(records, rest, purpose, visitor)
            }
            (_, value) => self.follow(rest, purpose, Place::Value(value), spread, visitor),
        }
    }

    /// Goes on from each element. A path through no elements at all leads to the single value None.
    fn spread<'p>(
        &self,
        elements: impl Iterator<Item = Related<'p>>,
        rest: &[Step],
        purpose: Purpose,
        visitor: &mut Visitor<'_>,
    ) -> Verdict {
        let mut empty = true;
        for element in elements {
            self.step()?;
            let place = element.place();
            if matches!(place, Place::Nothing | Place::Value(Value::Null)) {
                continue;
            }
            empty = false;
            if self.follow(rest, purpose, place, true, visitor)? {
                return Ok(true);
            }
        }
        if empty {
            return absent(purpose, visitor);
        }
        Ok(false)
    }

    fn arrive(
        &self,
        purpose: Purpose,
        place: Place<'_>,
        spread: bool,
        visitor: &mut Visitor<'_>,
    ) -> Verdict {
        match (purpose, place) {
            (Purpose::Values, place) => visitor(place),
            (Purpose::Elements, Place::Value(Value::Array(items))) => {
                for item in items.iter().filter(|item| !item.is_null()) {
                    self.step()?;
                    if visitor(Place::Value(item))? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Purpose::Elements, Place::Nothing) => Ok(false),
            (Purpose::Elements, place) if spread => visitor(place),
            // What is no list has no elements.
            (Purpose::Elements, _) => Ok(false),
        }
    }

    fn related<'v>(&'v self, object_type: &str, item: &'v Value) -> Related<'v> {
        match item {
            Value::String(key) => match self.facts.world.object(object_type, key) {
                Some(object) => Related::Stored(object),
                None => Related::Nowhere,
            },
            Value::Object(_) => Related::Inside(item),
            _ => Related::Nowhere,
        }
    }

    pub fn constant<'t>(&'t self, operand: &'t Operand) -> Scalar<'t> {
        match operand {
            Operand::Literal(value) => value.lend(),
            Operand::Parameter(name) => match self.facts.parameters.get(name) {
                Some(value) => Scalar::read(value, &Kind::Dynamic),
                None => Scalar::None,
            },
            Operand::Trigger(path) => self.outside(self.facts.trigger, path),
            Operand::Previous(path) => self.outside(self.facts.previous, path),
            Operand::Clock { midnight, shift } => {
                Scalar::Instant(clock(self.facts.now, *midnight, *shift))
            }
        }
    }

    fn outside(&self, object: Option<&dyn Fields>, path: &Path) -> Scalar<'static> {
        let Some(object) = object else {
            return Scalar::None;
        };
        let mut value = Scalar::None;
        let outcome = self.values(path, Place::Object(object), &mut |place| {
            value = place.scalar(&path.kind).into_owned();
            Ok(true)
        });
        // Only a constant with a list of a hundred thousand steps on its way could fail; the count then stands at its
        // limit, and the next step of the evaluation reports it.
        if outcome.is_err() {
            return Scalar::None;
        }
        value
    }

    fn prepare<'t>(&'t self, test: &'t Test) -> Prepared<'t> {
        match test {
            Test::Compare(relation, operand) => {
                Prepared::Compare(*relation, self.constant(operand))
            }
            Test::Among(items) if items.iter().all(Operand::is_literal) => {
                Prepared::Literals(items)
            }
            Test::Among(items) => {
                Prepared::Among(items.iter().map(|item| self.constant(item)).collect())
            }
            Test::AmongOutside(operand) => match self.constant(operand) {
                Scalar::Whole(value) => Prepared::AmongOutside(value),
                _ => Prepared::Never,
            },
            Test::Contains(needle) => self.needle(needle, Prepared::Contains),
            Test::StartsWith(needle) => self.needle(needle, Prepared::StartsWith),
            Test::EndsWith(needle) => self.needle(needle, Prepared::EndsWith),
            Test::Matches(_) | Test::InNetworks(_) | Test::Within(..) => Prepared::Fixed(test),
        }
    }

    fn needle<'t>(
        &'t self,
        needle: &'t Needle,
        text: fn(Cow<'t, str>) -> Prepared<'t>,
    ) -> Prepared<'t> {
        match needle {
            Needle::Folded(folded) => text(Cow::Borrowed(folded)),
            Needle::Outside(operand) => match self.constant(operand) {
                Scalar::Text(found) => text(Cow::Owned(found.to_ascii_lowercase())),
                _ => Prepared::Never,
            },
        }
    }
}

/// Whether one value passes a test whose constants are literals: the judge's own word, for an index that keeps tests.
pub(crate) fn passes(test: &Test, found: &Scalar<'_>) -> bool {
    let nothing = serde_json::Map::new();
    let facts = Facts {
        subject: &nothing,
        trigger: None,
        previous: None,
        parameters: &nothing,
        now: Moment::EPOCH,
        world: &super::Nowhere,
    };
    let judge = Judge::new(&facts);
    judge.prepare(test).passes(found)
}

/// The instant of an evaluation or its midnight, shifted.
pub(crate) fn clock(now: Moment, midnight: bool, shift: i64) -> Moment {
    const DAY: i64 = 86_400_000_000;
    let base = if midnight {
        Moment::from_micros(now.micros().div_euclid(DAY) * DAY)
    } else {
        now
    };
    base.plus(Span::from_micros(shift))
}

pub(crate) fn element_kind(kind: &Kind) -> &Kind {
    match kind {
        Kind::List(element) => element,
        other => other,
    }
}

/// A path that ends early: the value None, or no element.
fn absent(purpose: Purpose, visitor: &mut Visitor<'_>) -> Verdict {
    match purpose {
        Purpose::Values => visitor(Place::Nothing),
        Purpose::Elements => Ok(false),
    }
}

enum Related<'v> {
    Nowhere,
    Inside(&'v Value),
    Stored(Box<dyn Fields + 'v>),
}

impl Related<'_> {
    fn place(&self) -> Place<'_> {
        match self {
            Related::Nowhere => Place::Nothing,
            Related::Inside(value) => Place::Value(value),
            Related::Stored(object) => Place::Object(&**object),
        }
    }
}

impl Relation {
    pub fn allows(self, order: Option<Ordering>) -> bool {
        match self {
            Relation::Equal => order == Some(Ordering::Equal),
            Relation::Unequal => order != Some(Ordering::Equal),
            Relation::Less => order == Some(Ordering::Less),
            Relation::Greater => order == Some(Ordering::Greater),
            Relation::LessOrEqual => order.is_some_and(Ordering::is_le),
            Relation::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// A test whose constants are known.
enum Prepared<'t> {
    Compare(Relation, Scalar<'t>),
    Among(Vec<Scalar<'t>>),
    Literals(&'t [Operand]),
    AmongOutside(Cow<'t, Value>),
    Contains(Cow<'t, str>),
    StartsWith(Cow<'t, str>),
    EndsWith(Cow<'t, str>),
    Fixed(&'t Test),
    Never,
}

impl Prepared<'_> {
    fn passes(&self, found: &Scalar<'_>) -> bool {
        match self {
            Prepared::Never => false,
            Prepared::Compare(Relation::Equal, wanted) => found.same(wanted),
            Prepared::Compare(Relation::Unequal, wanted) => !found.same(wanted),
            Prepared::Compare(relation, wanted) => relation.allows(found.order(wanted)),
            Prepared::Among(items) => items.iter().any(|item| found.same(item)),
            Prepared::Literals(items) => items
                .iter()
                .any(|item| matches!(item, Operand::Literal(value) if found.same(value))),
            Prepared::AmongOutside(list) => list.as_array().is_some_and(|items| {
                items
                    .iter()
                    .any(|item| found.same(&Scalar::read(item, &Kind::Dynamic)))
            }),
            Prepared::Contains(needle) => found
                .text()
                .is_some_and(|text| text.to_ascii_lowercase().contains(&**needle)),
            Prepared::StartsWith(needle) => found.text().is_some_and(|text| {
                let head = text.as_bytes().get(..needle.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(needle.as_bytes()))
            }),
            Prepared::EndsWith(needle) => found.text().is_some_and(|text| {
                let from = text.len().checked_sub(needle.len());
                let tail = from.and_then(|from| text.as_bytes().get(from..));
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(needle.as_bytes()))
            }),
            Prepared::Fixed(Test::Matches(pattern)) => {
                found.text().is_some_and(|text| pattern.is_match(text))
            }
            Prepared::Fixed(Test::InNetworks(networks)) => found
                .address()
                .is_some_and(|address| networks.iter().any(|network| network.holds(address))),
            Prepared::Fixed(Test::Within(first, last)) => found
                .moment()
                .is_some_and(|moment| (*first..=*last).contains(&moment)),
            Prepared::Fixed(_) => false,
        }
    }
}
