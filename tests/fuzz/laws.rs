//! What must hold of any query and any object; the targets make the queries and objects.

mod made;

use muster::moment::Moment;
use muster::query::narrow::{Dialect, Narrow, narrow};
use muster::query::{
    Context, Diagnostic, Facts, Fields, Kind, KnownSets, ParameterTypes, Query, Schema, Types,
    Version, World, limit,
};
use serde_json::{Map, Value};

pub use made::made;

pub type Object = Map<String, Value>;

/// What a query may name.
pub struct Place {
    subject: Schema,
    trigger: Schema,
    parameters: ParameterTypes,
}

impl Place {
    /// One of a few: an open type, a declared one with a field of each kind, a plugin, a file.
    pub fn of(which: u8) -> Place {
        let mut types = Types::new();
        types
            .declare(
                "thing",
                &[
                    ("a", "int?"),
                    ("b", "datetime?"),
                    ("x", "list({a = \"int\", b = \"text?\", c = \"list(text)\"})"),
                    ("tags", "list(ip)"),
                    ("any", "rel(thing)?"),
                    ("count", "many(thing.any)"),
                    ("things", "many(thing)"),
                    ("name", "text?"),
                    ("day", "date"),
                    ("flag", "bool?"),
                    ("words", "list(text)"),
                    ("address", "ip?"),
                    ("not_a_keyword", "float?"),
                ],
            )
            .expect("type words");
        let open = Schema::open("thing");
        let (subject, trigger) = match which % 4 {
            0 => (open.clone(), open),
            1 => (types.schema("thing"), types.schema("thing")),
            2 => (Schema::plugin(), open),
            _ => (Schema::file(), types.schema("thing")),
        };
        Place {
            subject,
            trigger,
            parameters: ParameterTypes::none().with("p", Kind::Dynamic),
        }
    }

    fn compile(&self, text: &str) -> Result<Query, Vec<Diagnostic>> {
        let context = Context {
            label: "query",
            schema: &self.subject,
            trigger: Some(&self.trigger),
            previous: true,
            parameters: &self.parameters,
            sets: KnownSets::Any,
        };
        Query::compile(text, &context)
    }
}

/// What is known when a query is asked.
#[derive(Debug, Default)]
pub struct Scene {
    pub object: Object,
    pub trigger: Object,
    pub parameters: Object,
    pub stored: Vec<Object>,
    pub versions: Vec<Object>,
}

impl Scene {
    /// From sections of JSON; what is none is empty.
    pub fn read<'t>(mut sections: impl Iterator<Item = &'t str>) -> Scene {
        let mut object = || {
            let text = sections.next().unwrap_or_default();
            serde_json::from_str(text).unwrap_or_default()
        };
        let (subject, trigger, parameters) = (object(), object(), object());
        let mut list = || {
            let text = sections.next().unwrap_or_default();
            serde_json::from_str(text).unwrap_or_default()
        };
        Scene {
            object: subject,
            trigger,
            parameters,
            stored: list(),
            versions: list(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            subject: &self.object,
            trigger: Some(&self.trigger),
            previous: Some(&self.trigger),
            parameters: &self.parameters,
            now: Moment::from_micros(1_795_000_000_123_456),
            world: self,
        }
    }
}

impl World for Scene {
    fn object(&self, _: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>> {
        let mut stored = self.stored.iter();
        let found = stored.find(|object| {
            object.get("primary_key").and_then(Value::as_str) == Some(primary_key)
        })?;
        Some(Box::new(found))
    }

    fn referrers(&self, _: &str, field: &str, primary_key: &str) -> Vec<Box<dyn Fields + '_>> {
        let points = |object: &&Object| match object.get(field) {
            Some(Value::Array(keys)) => keys.iter().any(|key| key == primary_key),
            Some(key) => key == primary_key,
            None => false,
        };
        let found = self.stored.iter().filter(points);
        found.map(|object| Box::new(object) as _).collect()
    }

    fn versions<'a>(&'a self, _: &'a dyn Fields) -> Vec<Version<'a>> {
        const DAY: i64 = 86_400_000_000;
        let begun = |at: usize| Moment::from_micros(1_794_000_000_000_000 + at as i64 * DAY);
        let last = self.versions.len().saturating_sub(1);
        let versions = self.versions.iter().enumerate();
        versions
            .map(|(at, fields)| Version {
                from: begun(at),
                until: (at < last).then(|| begun(at + 1)),
                fields: Box::new(fields),
            })
            .collect()
    }

    fn member(&self, set: &str, subject: &dyn Fields) -> bool {
        subject.field(set).is_some()
    }
}

/// Reads a text, prints it and reads it again.
pub fn readings(text: &str, place: &Place) {
    let query = match place.compile(text) {
        Ok(query) => query,
        Err(found) => {
            assert!((1..=limit::ERRORS).contains(&found.len()), "{text:?}");
            return found.iter().for_each(can_be_shown);
        }
    };
    query.warnings().iter().for_each(can_be_shown);
    let canonical = query.canonical();
    let again = place
        .compile(&canonical)
        .unwrap_or_else(|found| panic!("{text:?} prints as {canonical:?}: {}", shown(&found)));
    assert_eq!(again.written(), query.written(), "{text:?} as {canonical:?}");
    assert_eq!(again.canonical(), canonical);
    let normal = query.normal();
    if let Some(again) = unless_too_large(place.compile(&normal), &normal) {
        assert_eq!(again.normal(), normal, "{text:?}");
    }
}

/// Asks a query and all that must answer the same, or the opposite.
pub fn answers(text: &str, place: &Place, scene: &Scene) {
    let Ok(query) = place.compile(text) else {
        return;
    };
    let facts = scene.facts();
    let answer = query.answers(&facts);
    let explanation = query.explain(&facts);
    assert_eq!(explanation.outcome, answer.ok(), "the explanation of {text:?}");
    assert!(!explanation.to_string().is_empty());
    let canonical = query.canonical();
    let again = place.compile(&canonical).expect("the canonical text is a query");
    assert_eq!(again.answers(&facts), answer, "{canonical:?} of {scene:?}");
    // Other texts may need other numbers of steps.
    let agrees = |other: &str, expected: bool| {
        let Some(query) = unless_too_large(place.compile(other), other) else {
            return;
        };
        if let Ok(found) = query.answers(&facts)
            && answer.is_ok()
        {
            assert_eq!(found, expected, "{other:?} beside {text:?} of {scene:?}");
        }
    };
    let yes = answer == Ok(true);
    agrees(&format!("not ({text})"), !yes);
    agrees(&format!("({text}) or False"), yes);
    agrees(&query.normal(), yes);
    let weaker = narrow(&query, &facts);
    assert!(weaker != Narrow::Nothing || !yes, "{text:?} of {scene:?}");
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let sql = weaker.render_within("acme", "thing", dialect, "o", 1);
        assert!(!sql.text.is_empty());
    }
}

fn shown(found: &[Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect()
}

/// What is derived from a query may be over a limit, and nothing else may be wrong with it.
fn unless_too_large(outcome: Result<Query, Vec<Diagnostic>>, text: &str) -> Option<Query> {
    match outcome {
        Ok(query) => Some(query),
        Err(found) => {
            let of_size = |finding: &Diagnostic| finding.code.starts_with("Q3");
            assert!(found.iter().all(of_size), "{text:?}: {}", shown(&found));
            None
        }
    }
}

/// Its spans lie in the text, at characters, and it can be written for people and as data.
fn can_be_shown(finding: &Diagnostic) {
    let mut spans = vec![finding.span];
    spans.extend(finding.labels.iter().map(|label| label.span));
    spans.extend(finding.replacement.iter().map(|change| change.span));
    for span in spans {
        let part = finding.source.get(span.start..span.end);
        assert!(part.is_some(), "{span:?} of {:?}: {finding}", finding.source);
    }
    assert!(finding.to_string().contains(&format!("[{}]: ", finding.code)));
    assert_eq!(finding.to_json()["code"], finding.code);
    assert_eq!(finding.repaired().is_some(), finding.replacement.is_some());
}
