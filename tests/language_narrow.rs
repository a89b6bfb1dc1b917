//! The narrow condition lets through whatever the judge accepts. Here its data are tried, in memory, and its SQL text is
//! shown; the databases themselves are asked by the contract of the store.

#[path = "language/generated.rs"]
mod generated;
#[path = "language/related.rs"]
mod related;

use std::borrow::Cow;

use generated::{Asked, asked, compile, rendered, rounds, small_query};
use muster::moment::Moment;
use muster::query::narrow::{Bound, Column, Dialect, Link, Narrow, Place, Probe, narrow};
use muster::query::{Context, Facts, Fields, Query, Schema, print};
use proptest::prelude::*;
use related::{Object, Stored, inventory, leads, name, related_query, types};
use serde_json::{Map, Value, json};

/// What the condition means, said once more and as plainly as possible.
fn lets_through(narrow: &Narrow, object: &Object, stored: &Stored) -> bool {
    match narrow {
        Narrow::Everything => true,
        Narrow::Nothing => false,
        Narrow::And(parts) => parts.iter().all(|part| lets_through(part, object, stored)),
        Narrow::Or(parts) => parts.iter().any(|part| lets_through(part, object, stored)),
        Narrow::Probe {
            place,
            probe,
            negated,
        } => {
            let names: Vec<&str> = match place {
                Place::Column(column) => vec![column.name()],
                Place::Attribute(names) => names.iter().map(String::as_str).collect(),
            };
            let mut found = object.get(names[0]);
            for name in &names[1..] {
                // A list on the way is gone through by the judge alone.
                if found.is_some_and(Value::is_array) {
                    return true;
                }
                found = found.and_then(|value| value.get(name));
            }
            let found = found.filter(|value| !value.is_null());
            if found.is_some_and(Value::is_array) && matches!(probe, Probe::Present) {
                return true;
            }
            passes(probe, found) != *negated
        }
        Narrow::Holds { list, templates } => {
            let items = object.get(list).and_then(Value::as_array);
            items
                .into_iter()
                .flatten()
                .any(|item| templates.iter().any(|template| has(item, template)))
        }
        Narrow::Related {
            link,
            object_type,
            condition,
            inside,
        } => {
            let key = object.get("primary_key");
            let related = |other: &&Object| match link {
                Link::Forward(name) => leads(object.get(name), other.get("primary_key")),
                Link::Back(field) => leads(other.get(field), key),
            };
            let embedded = match link {
                Link::Forward(name) => object.get(name),
                Link::Back(_) => None,
            };
            let fits = |value: &Value| {
                value.is_object()
                    && (inside.is_empty() || inside.iter().any(|template| has(value, template)))
            };
            stored
                .of(object_type)
                .filter(related)
                .any(|other| lets_through(condition, other, stored))
                || embedded.is_some_and(|value| match value {
                    Value::Array(items) => items.iter().any(fits),
                    value => fits(value),
                })
        }
    }
}

fn has(value: &Value, template: &Object) -> bool {
    template
        .iter()
        .all(|(name, wanted)| value.get(name).is_some_and(|found| equal(found, wanted)))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn passes(probe: &Probe, found: Option<&Value>) -> bool {
    let Some(found) = found else { return false };
    let folded = |fold: &bool| match found {
        Value::String(text) if *fold => json!(text.to_ascii_lowercase()),
        value => value.clone(),
    };
    let order = |value: &Value, fold: &bool| match (folded(fold), value) {
        (Value::String(a), Value::String(b)) => Some(a.as_str().cmp(b)),
        (a, b) => a.as_f64()?.partial_cmp(&b.as_f64()?),
    };
    let text = found.as_str().map(str::to_ascii_lowercase);
    match probe {
        Probe::Present => true,
        Probe::Equals {
            value,
            folded: fold,
        } => equal(&folded(fold), value),
        Probe::OneOf {
            values,
            folded: fold,
        } => values.iter().any(|value| equal(&folded(fold), value)),
        Probe::Less {
            value,
            or_equal,
            folded,
        } => order(value, folded).is_some_and(|order| order.is_lt() || *or_equal && order.is_eq()),
        Probe::Greater {
            value,
            or_equal,
            folded,
        } => order(value, folded).is_some_and(|order| order.is_gt() || *or_equal && order.is_eq()),
        Probe::Contains(part) => text.is_some_and(|text| text.contains(part)),
        Probe::StartsWith(part) => text.is_some_and(|text| text.starts_with(part)),
        Probe::EndsWith(part) => text.is_some_and(|text| text.ends_with(part)),
        Probe::Element(wanted) => found
            .as_array()
            .is_some_and(|items| items.iter().any(|item| equal(item, wanted))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_accepted_is_let_through(tree in small_query(), asked in asked()) {
        let query = compile(&print::canonical(&tree));
        let narrow = narrow(&query, &asked.facts());
        if asked.answer(&query) == Ok(true) {
            prop_assert!(lets_through(&narrow, &asked.object, &Stored::default()), "{narrow:?}");
        }
        is_balanced(&narrow);
    }

    #[test]
    fn whatever_is_accepted_for_its_relations_is_let_through(
        text in related_query(),
        stored in inventory(),
        trigger in name(),
    ) {
        let types = types();
        let schema = types.schema("T");
        let context = Context { trigger: Some(&schema), ..Context::new("query", &schema) };
        let query = Query::compile(&text, &context).unwrap_or_else(|found| panic!("{}", rendered(&found)));
        let trigger = Map::from_iter([("name".to_owned(), trigger)]);
        let nothing = Map::new();
        let facts = |subject| Facts {
            subject,
            trigger: Some(&trigger),
            previous: None,
            parameters: &nothing,
            now: Moment::EPOCH,
            world: &stored,
        };
        let narrow = narrow(&query, &facts(&nothing));
        for object in stored.of("T") {
            if query.answers(&facts(object)) == Ok(true) {
                prop_assert!(lets_through(&narrow, object, &stored), "{text}\n{narrow:?}\n{object:?}");
            }
        }
        is_balanced(&narrow);
    }
}

/// Every placeholder is bound once, and parentheses are as many and no deeper than SQLite's parser takes.
fn is_balanced(narrow: &Narrow) {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        for sql in [
            narrow.render(dialect, "o", 1),
            narrow.render_within("acme", "thing", dialect, "o", 1),
        ] {
            for number in 1..=sql.values.len() {
                assert!(sql.text.contains(&format!("${number}")), "{}", sql.text);
            }
            assert!(!sql.text.contains(&format!("${}", sql.values.len() + 1)));
            let (mut depth, mut deepest) = (0_i32, 0);
            for byte in sql.text.bytes() {
                depth += i32::from(byte == b'(') - i32::from(byte == b')');
                deepest = deepest.max(depth);
                assert!(depth >= 0, "{}", sql.text);
            }
            assert!(depth == 0 && deepest < 80, "{}", sql.text);
        }
    }
}

fn narrowed(text: &str) -> Narrow {
    let types = types();
    let schema = types.schema("T");
    let context = Context {
        trigger: Some(&schema),
        ..Context::new("query", &schema)
    };
    let query =
        Query::compile(text, &context).unwrap_or_else(|found| panic!("{}", rendered(&found)));
    let trigger = Map::from_iter([("name".to_owned(), json!("www"))]);
    let nothing = Map::new();
    let asked = Asked {
        object: Map::new(),
        trigger,
        parameters: nothing,
    };
    narrow(&query, &asked.facts())
}

fn attribute(name: &str) -> Place {
    Place::Attribute(vec![name.to_owned()])
}

#[test]
fn simple_conditions_are_said_exactly() {
    let equals = |name: &str, value: Value, negated| Narrow::Probe {
        place: attribute(name),
        probe: Probe::Equals {
            value,
            folded: false,
        },
        negated,
    };
    assert_eq!(narrowed("name = 'x'"), equals("name", json!("x"), false));
    assert_eq!(narrowed("not name = 'x'"), equals("name", json!("x"), true));
    assert_eq!(
        narrowed("not not b = True"),
        equals("b", json!(true), false)
    );
    assert_eq!(
        narrowed("scan_level >= 2 and name = trigger.name"),
        Narrow::And(vec![
            Narrow::Probe {
                place: Place::Column(Column::ScanLevel),
                probe: Probe::Greater {
                    value: json!(2),
                    or_equal: true,
                    folded: false
                },
                negated: false,
            },
            equals("name", json!("www"), false),
        ])
    );
}

#[test]
fn what_cannot_be_said_is_everything_or_a_value_that_is_there() {
    let present = |name: &str| Narrow::Probe {
        place: attribute(name),
        probe: Probe::Present,
        negated: false,
    };
    assert_eq!(narrowed("name matches '^a'"), present("name"));
    assert_eq!(narrowed("d > '2020-01-01'"), present("d"));
    for text in [
        "name not matches '^a'",
        "not d > '2020-01-01'",
        "ever(name = 'x')",
        "changed(name)",
        "in_set('s')",
        "all(records: p = 1)",
        "none(back: u = 1)",
        "count(back) < 2",
        "one = None",
        "name = 'x' or ever(u = 1)",
    ] {
        assert_eq!(narrowed(text), Narrow::Everything, "{text}");
    }
    assert_eq!(narrowed("name = 'x' and False"), Narrow::Nothing);
}

#[test]
fn numbers_that_databases_round_are_only_asked_to_be_there() {
    for (text, exact) in [
        ("u = 9007199254740992", true),
        ("u = 9007199254740993", false),
        ("u > -9007199254740993", false),
        ("f < 1e300", false),
        ("f < 0.5", true),
    ] {
        let narrow = narrowed(text);
        let is_present = matches!(
            narrow,
            Narrow::Probe {
                probe: Probe::Present,
                negated: false,
                ..
            }
        );
        assert_eq!(is_present, !exact, "{text}: {narrow:?}");
    }
}

#[test]
fn the_own_fields_of_a_file_are_left_to_the_judge() {
    let schema = Schema::file();
    for (text, expected) in [
        ("input_type = 'x'", true),
        ("'a/b' in mime_types", true),
        ("any(mime_types: it ~ 'nmap')", true),
        ("custom = 'x'", false),
        ("organization = 'x'", false),
    ] {
        let query = Query::compile(text, &Context::new("query", &schema)).expect("compiles");
        let asked = Asked {
            object: Map::new(),
            trigger: Map::new(),
            parameters: Map::new(),
        };
        let narrow = narrow(&query, &asked.facts());
        assert_eq!(narrow == Narrow::Everything, expected, "{text}: {narrow:?}");
    }
}

#[test]
fn a_relation_is_followed_from_the_related_rows_to_the_subject() {
    let narrow = narrowed("any(back: name = trigger.name)");
    let postgres = narrow.render_within("acme", "thing", Dialect::Postgres, "o", 3);
    assert_eq!(
        postgres.text,
        "(o.organization, o.primary_key) IN (SELECT r1.organization, k2.value FROM object r1 CROSS JOIN LATERAL \
         jsonb_array_elements_text(CASE jsonb_typeof(r1.attributes -> 'owner') WHEN 'array' THEN r1.attributes -> \
         'owner' WHEN 'string' THEN jsonb_build_array(r1.attributes -> 'owner') ELSE '[]'::jsonb END) k2 WHERE \
         r1.object_type = CAST($3 AS text) AND r1.organization = CAST($4 AS text) AND r1.attributes @> CAST($5 AS jsonb))"
    );
    let texts = |values: &[Bound]| -> Vec<String> {
        values
            .iter()
            .map(|value| match value {
                Bound::Text(text) => text.clone(),
                other => format!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(texts(&postgres.values), ["U", "acme", "{\"name\":\"www\"}"]);
    let sqlite = narrow.render(Dialect::Sqlite, "o", 1);
    assert_eq!(
        sqlite.text,
        "(o.organization, o.primary_key) IN (SELECT r1.organization, k2.value FROM object r1, \
         json_each(r1.attributes, '$.\"owner\"') k2 WHERE r1.object_type = $1 AND \
         (json_type(r1.attributes, '$.\"name\"') = 'text' AND json_extract(r1.attributes, '$.\"name\"') = $2))"
    );
    assert_eq!(texts(&sqlite.values), ["U", "www"]);
}

#[test]
fn values_are_bound_and_never_printed() {
    for text in [
        "name = '\\'; DROP TABLE object; --'",
        "name ~ '%_\"'",
        "'$1' in tags",
    ] {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let sql = narrowed(text).render(dialect, "o", 1);
            assert!(
                !sql.text.contains("DROP") && !sql.text.contains('%') && !sql.values.is_empty()
            );
        }
    }
}

#[test]
fn a_constant_that_no_database_can_store_is_never_bound() {
    let query = compile("a = $p and b ~ $p and $p in x");
    let asked = Asked {
        object: Map::new(),
        trigger: Map::new(),
        parameters: Map::from_iter([("p".to_owned(), json!("a\0b"))]),
    };
    let narrow = narrow(&query, &asked.facts());
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let sql = narrow.render_within("a\0b", "thing", dialect, "o", 1);
        assert!(
            sql.values
                .iter()
                .all(|value| !matches!(value, Bound::Text(text) if text.contains('\0')))
        );
    }
    assert_eq!(asked.object.field("x"), None::<Cow<'_, Value>>);
}
