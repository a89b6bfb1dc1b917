//! The query language: how people say which plugins run on which objects.
//!
//! A text becomes a [`Query`] once, against a [`Context`] that says what may be named; then it answers for any number of
//! [`Facts`]. The rooms behind this door, in the order in which a query walks through them:
//!
//! - [`limit`] refuses hostile text while that is cheap.
//! - [`syntax`] turns the grammar's pairs into an untyped tree with spans; `complaint` explains, from the tokens of
//!   `token`, what does not parse.
//! - [`schema`] says which fields there are; `check` walks the tree, `resolve` finds its names, `fit` fits values to
//!   types, `refusal` has the words where that fails, and the typed `tree` is what comes of it.
//! - `evaluate` judges the tree, with the values of `value`. It is the only judge: nothing else decides whether an
//!   object matches.
//! - [`explain`] shows a judgement clause by clause, [`mod@print`] writes the canonical text, `warn` looks for what was
//!   probably not meant, [`mod@narrow`] derives a weaker condition for a database or an index, and [`diagnose`] holds what is
//!   said about a query that cannot be.
//!
//! Every condition is true or false. None equals None and nothing else; every other comparison with it is false; `!=`,
//! `not in` and the other negated operators are exact complements. So `not q` is the complement of `q` on every object.

pub(crate) mod check;
pub(crate) mod complaint;
pub mod diagnose;
pub(crate) mod evaluate;
pub mod explain;
pub(crate) mod fit;
pub mod limit;
pub mod narrow;
pub mod print;
pub(crate) mod refusal;
pub(crate) mod resolve;
pub mod schema;
pub mod syntax;
pub(crate) mod token;
pub(crate) mod tree;
pub(crate) mod value;
pub(crate) mod warn;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use diagnose::{Diagnostic, Severity, Span};
pub use explain::Explanation;
pub use schema::{Context, Kind, KnownSets, ParameterTypes, Schema, Types};

use crate::moment::Moment;
use diagnose::Source;
use evaluate::Judge;

/// A compiled query: immutable, and cheap to clone and to share.
#[derive(Clone)]
pub struct Query {
    inner: Arc<Compiled>,
}

struct Compiled {
    source: Source,
    written: syntax::Expression,
    tree: tree::Node,
    needs: check::Needs,
    warnings: Vec<Diagnostic>,
    type_name: String,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Query").field(&self.text()).finish()
    }
}

impl Query {
    /// Reads and checks a query. All that is wrong with it is reported, up to ten findings.
    pub fn compile(text: &str, context: &Context<'_>) -> Result<Query, Vec<Diagnostic>> {
        let source = Source::new(context.label, text);
        let parsed = syntax::parse(&source, context).map_err(first_findings)?;
        let checked = check::check(&source, context, &parsed.tree).map_err(first_findings)?;
        let mut warnings = warn::warnings(&source, &parsed, &checked.tree);
        warnings.truncate(limit::ERRORS);
        Ok(Query {
            inner: Arc::new(Compiled {
                source,
                written: parsed.tree,
                tree: checked.tree,
                needs: checked.needs,
                warnings,
                type_name: context.schema.name().to_owned(),
            }),
        })
    }

    /// What is allowed and yet probably not meant.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.inner.warnings
    }

    /// Whether the query is true for the subject. It may run out of steps; it never panics.
    pub fn answers(&self, facts: &Facts<'_>) -> Result<bool, TooCostly> {
        let judge = Judge::new(facts);
        judge.holds(&self.inner.tree, judge.subject())
    }

    /// The judgement with its reasons, clause by clause.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation {
        explain::explain(&self.inner.source.text, &self.inner.tree, facts)
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.inner.source.text
    }

    /// The one text of all that say the same in the same order; parses to the same tree.
    pub fn canonical(&self) -> String {
        print::canonical(&self.inner.written)
    }

    /// A text that is equal for more queries that mean the same: sorted, flattened, without duplicates, `not` pushed down.
    /// For hashing; nobody should have to read it.
    pub fn normal(&self) -> String {
        print::normal(&self.inner.written)
    }

    /// The tree as written, before names and types.
    pub fn written(&self) -> &syntax::Expression {
        &self.inner.written
    }

    pub fn needs_trigger(&self) -> bool {
        self.inner.needs.trigger
    }

    pub fn needs_previous(&self) -> bool {
        self.inner.needs.previous
    }

    pub fn needs_history(&self) -> bool {
        self.inner.needs.history
    }

    /// The types of the objects whose history it asks for: its own, or that of a relation.
    pub fn histories(&self) -> &BTreeSet<String> {
        &self.inner.needs.histories
    }

    /// Whether an answer may need other objects than the subject.
    pub fn needs_relations(&self) -> bool {
        self.inner.needs.relations
    }

    /// Whether the answer may change with time alone.
    pub fn needs_clock(&self) -> bool {
        self.inner.needs.clock
    }

    /// The object sets that it names.
    pub fn sets(&self) -> &BTreeSet<String> {
        &self.inner.needs.sets
    }

    /// The parameters that it names.
    pub fn parameters(&self) -> &BTreeSet<String> {
        &self.inner.needs.parameters
    }

    /// The type that the query was compiled for.
    pub fn type_name(&self) -> &str {
        &self.inner.type_name
    }

    pub(crate) fn tree(&self) -> &tree::Node {
        &self.inner.tree
    }
}

fn first_findings(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by_key(|diagnostic| diagnostic.span);
    found.truncate(limit::ERRORS);
    found
}

/// An object set that names itself, directly or through others: the names on the way, the first again at the end.
pub fn circle(mentions: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    for start in mentions.keys() {
        // Depth first with a path of its own, because a chain of sets may be as long as somebody likes.
        let mut path: Vec<(&str, Vec<&str>)> = vec![(start, followers(mentions, start))];
        while let Some((_, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                if let Some((done, _)) = path.pop() {
                    settled.insert(done);
                }
                continue;
            };
            if let Some(at) = path.iter().position(|(name, _)| *name == next) {
                let names = path.iter().skip(at).map(|(name, _)| (*name).to_owned());
                return Some(names.chain([next.to_owned()]).collect());
            }
            if !settled.contains(next) {
                path.push((next, followers(mentions, next)));
            }
        }
    }
    None
}

fn followers<'a>(mentions: &'a BTreeMap<String, BTreeSet<String>>, name: &str) -> Vec<&'a str> {
    let named = mentions.get(name).into_iter().flatten();
    named.map(String::as_str).collect()
}

/// Whether a text spells an instant or a date, as a declared field holds it.
pub fn spells_instant(text: &str) -> bool {
    value::instant(text).is_some()
}

/// Whether a text spells an IP address, as a declared field holds it.
pub fn spells_address(text: &str) -> bool {
    value::Address::parse(text).is_some()
}

/// The evaluation took more steps than one object may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("query_too_costly: more than {limit} steps for one object")]
pub struct TooCostly {
    pub limit: u32,
}

/// Anything with named fields: an object, a plugin, a file, an event.
pub trait Fields {
    /// The value of a field. Nothing and JSON null are both None.
    fn field(&self, name: &str) -> Option<Cow<'_, Value>>;
}

impl Fields for Map<String, Value> {
    fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.get(name).map(Cow::Borrowed)
    }
}

impl<T: Fields + ?Sized> Fields for &T {
    fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        (**self).field(name)
    }
}

impl<T: Fields + ?Sized> Fields for Box<T> {
    fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        (**self).field(name)
    }
}

impl<T: Fields + ?Sized> Fields for Arc<T> {
    fn field(&self, name: &str) -> Option<Cow<'_, Value>> {
        (**self).field(name)
    }
}

/// What a query may ask about other objects, all within the organisation of its subject.
pub trait World {
    /// The object of that type and key; None where the key leads nowhere.
    fn object(&self, object_type: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>>;

    /// Every object of that type whose field holds that key, or holds it in a list.
    fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> Vec<Box<dyn Fields + '_>>;

    /// The stored versions of an object, the current one included, in any order. None at all means that no history is
    /// kept: the object then stands for its only version.
    fn versions<'a>(&'a self, subject: &'a dyn Fields) -> Vec<Version<'a>>;

    /// Whether the named object set holds the object.
    fn member(&self, set: &str, subject: &dyn Fields) -> bool;
}

/// An object as it was from an instant until another; the current one has no end.
pub struct Version<'a> {
    pub from: Moment,
    pub until: Option<Moment>,
    pub fields: Box<dyn Fields + 'a>,
}

/// A world without other objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl World for Nowhere {
    fn object(&self, _: &str, _: &str) -> Option<Box<dyn Fields + '_>> {
        None
    }

    fn referrers(&self, _: &str, _: &str, _: &str) -> Vec<Box<dyn Fields + '_>> {
        Vec::new()
    }

    fn versions<'a>(&'a self, _: &'a dyn Fields) -> Vec<Version<'a>> {
        Vec::new()
    }

    fn member(&self, _: &str, _: &dyn Fields) -> bool {
        false
    }
}

/// All that one evaluation may know. `now` is fixed for its whole length.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub subject: &'a dyn Fields,
    pub trigger: Option<&'a dyn Fields>,
    pub previous: Option<&'a dyn Fields>,
    pub parameters: &'a Map<String, Value>,
    pub now: Moment,
    pub world: &'a dyn World,
}
