//! Generated queries over related objects, and inventories to try them on.

#![allow(dead_code)]

use muster::query::{Fields, Types, Version, World, print};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::generated::{compile, text};

pub type Object = Map<String, Value>;

pub fn leads(from: Option<&Value>, to: Option<&Value>) -> bool {
    match from {
        Some(Value::Array(keys)) => keys.iter().any(|key| Some(key) == to),
        from => from.is_some() && from == to,
    }
}

#[derive(Debug, Default)]
pub struct Stored {
    pub objects: Vec<Object>,
}

impl Stored {
    pub fn of(&self, object_type: &str) -> impl Iterator<Item = &Object> {
        self.objects
            .iter()
            .filter(move |object| object["object_type"] == object_type)
    }
}

impl World for Stored {
    fn object(&self, object_type: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>> {
        let found = self
            .of(object_type)
            .find(|object| object["primary_key"] == primary_key)?;
        Some(Box::new(found))
    }

    fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> Vec<Box<dyn Fields + '_>> {
        let key = json!(primary_key);
        self.of(object_type)
            .filter(|object| leads(object.get(field), Some(&key)))
            .map(|object| Box::new(object) as Box<dyn Fields>)
            .collect()
    }

    fn versions<'a>(&'a self, _: &'a dyn Fields) -> Vec<Version<'a>> {
        Vec::new()
    }

    fn member(&self, _: &str, _: &dyn Fields) -> bool {
        false
    }
}

pub fn types() -> Types {
    let mut types = Types::new();
    let fields = [
        ("name", "text?"),
        ("u", "int?"),
        ("f", "float?"),
        ("b", "bool?"),
        ("d", "date?"),
        ("ip", "ip?"),
        ("tags", "list(text)"),
        ("one", "rel(U)"),
        ("many", "many(U)"),
        ("back", "many(U.owner)"),
        ("records", "list({p = \"int\", q = \"text?\"})"),
    ];
    types.declare("T", &fields).expect("types");
    let fields = [
        ("name", "text?"),
        ("u", "int?"),
        ("owner", "rel(T)?"),
        ("one", "rel(U)?"),
        ("many", "many(U)"),
    ];
    types.declare("U", &fields).expect("types");
    types
}

/// TEXT and INT are filled in.
const CONDITIONS: &[&str] = &[
    "any(many: name = TEXT)",
    "any(back: name = TEXT)",
    "any(back: name ~ TEXT and u = INT)",
    "one.name = TEXT",
    "one.name != TEXT",
    "one.u > INT",
    "back.name = TEXT",
    "many.u in (INT, 3)",
    "one = None",
    "one != None",
    "many = None",
    "many != None",
    "back = None",
    "back != None",
    "none(back: name = TEXT)",
    "all(many: name = TEXT)",
    "count(back) > 1",
    "count(many: u = INT) >= 1",
    "count(many) = 0",
    "any(records: p = INT and q = TEXT)",
    "any(records: p in (1, 2, INT) and q != TEXT)",
    "records.p = INT",
    "records = None",
    "name = trigger.name",
    "any(back: name = trigger.name)",
    "any(many: one.name = TEXT)",
    "one.one.name = TEXT",
    "u = None",
    "name ~ TEXT",
    "not name = TEXT",
    "TEXT in tags",
    "TEXT not in tags",
    "any(tags: it in (TEXT, 'x'))",
    "tags != None",
    "scan_level > INT",
    "scan_profile_type != 'declared'",
    "primary_key endswith 'INT'",
    "u not in (INT, None)",
    "any(back: any(many: u = INT))",
    "d > '2020-01-01'",
    "ip in net('10.0.0.0/8')",
    "ip = '10.0.0.1'",
    "f = 0.5",
    "b != True",
    "one.name in (TEXT, None)",
    "any(many: name = TEXT or u = INT)",
    "lower(name) >= TEXT",
    "name > TEXT",
];

pub fn related_query() -> BoxedStrategy<String> {
    let leaf = (prop::sample::select(CONDITIONS), text(), 0..4_i64).prop_map(
        |(template, text, number)| {
            template
                .replace("TEXT", &literal(&text))
                .replace("INT", &number.to_string())
        },
    );
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|query| format!("not ({query})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} or {b})")),
        ]
    })
    .boxed()
}

fn literal(text: &str) -> String {
    let query = compile("x = 'x'");
    let mut tree = query.written().clone();
    if let muster::query::syntax::Clause::Compare { right, .. } = &mut tree.node {
        right.node = muster::query::syntax::Value::Text(text.to_owned());
    }
    let printed = print::canonical(&tree);
    printed.trim_start_matches("x = ").to_owned()
}

pub fn name() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Null),
        text().prop_map(Value::String),
        Just(json!(5)),
        Just(json!([]))
    ]
    .boxed()
}

/// A key, an object in its place, or nothing.
fn key(of: &'static str) -> BoxedStrategy<Value> {
    prop_oneof![
        4 => (0..6).prop_map(move |number| json!(format!("{of}|{number}"))),
        1 => (name(), 0..4).prop_map(|(name, u)| json!({"name": name, "u": u})),
        1 => Just(Value::Null),
    ]
    .boxed()
}

fn keys(of: &'static str) -> BoxedStrategy<Value> {
    prop_oneof![
        prop::collection::vec(key(of), 0..3).prop_map(Value::Array),
        key(of)
    ]
    .boxed()
}

pub fn inventory() -> BoxedStrategy<Stored> {
    let level = prop_oneof![Just(Value::Null), (0..4).prop_map(|level| json!(level))];
    let records = prop::collection::vec((0..4, name()), 0..3).prop_map(|records| {
        let records = records.into_iter().map(|(p, q)| json!({"p": p, "q": q}));
        Value::Array(records.collect())
    });
    let tags = prop::collection::vec(text().prop_map(Value::String), 0..3).prop_map(Value::Array);
    let subject = (name(), keys("U"), keys("U"), level, records, tags, 0..4).prop_map(
        |(name, one, many, level, records, tags, u)| {
            json!({
                "object_type": "T", "name": name, "one": one, "many": many, "scan_level": level, "records": records,
                "tags": tags, "u": u, "f": 0.5, "d": "2026-11-21", "ip": "10.0.0.1", "b": true,
            })
        },
    );
    let other = (name(), keys("T"), keys("U"), keys("U"), 0..4).prop_map(|(name, owner, one, many, u)| {
        json!({"object_type": "U", "name": name, "owner": owner, "one": one, "many": many, "u": u})
    });
    let all = (
        prop::collection::vec(subject, 1..5),
        prop::collection::vec(other, 0..6),
    );
    all.prop_map(|(subjects, others)| {
        let keyed = |(number, value): (usize, Value)| {
            let mut object = value.as_object().expect("an object").clone();
            let kind = object["object_type"].as_str().expect("a type").to_owned();
            object.insert("primary_key".to_owned(), json!(format!("{kind}|{number}")));
            object
        };
        let subjects = subjects.into_iter().enumerate().map(keyed);
        let others = others.into_iter().enumerate().map(keyed);
        Stored {
            objects: subjects.chain(others).collect(),
        }
    })
    .boxed()
}
