//! Generated queries and objects, for the tests that try laws on them.

#![allow(dead_code)]

use muster::moment::Moment;
use muster::query::syntax::{
    Argument, Clause, Expression, History, Operand, Operator, Quantifier, Set, Shift, Spanned,
    Value as Literal,
};
use muster::query::{
    Context, Diagnostic, Facts, Kind, KnownSets, Nowhere, ParameterTypes, Query, Schema, Span,
    TooCostly, limit,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// How often a test is repeated: `MUSTER_ROUNDS` times its usual number. `MUSTER_ROUNDS=1000` runs for a long while.
pub fn rounds(usual: u32) -> u32 {
    let times = std::env::var("MUSTER_ROUNDS").ok();
    usual * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

// --- queries ---

pub fn spanned<T>(node: T) -> Spanned<T> {
    Spanned::new(node, Span::default())
}

pub const NAMES: [&str; 7] = ["a", "b", "x", "tags", "any", "count", "not_a_keyword"];

pub fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        "[abAB%_ ]{0,4}",
        "[\\PC\"'\\\\\n\t\r]{0,5}".prop_filter("no NUL", |text| !text.contains('\0')),
        Just("É ß İ ſ Σ 😀 \u{2028}\u{200b}\u{feff}".to_owned()),
        Just("2026-11-21".to_owned()),
        Just("10.0.0.1".to_owned()),
    ]
    .boxed()
}

pub fn scalar() -> BoxedStrategy<Literal> {
    prop_oneof![
        Just(Literal::None),
        any::<bool>().prop_map(Literal::Bool),
        (-3_i64..3).prop_map(Literal::Int),
        any::<i64>().prop_map(Literal::Int),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(Literal::Decimal),
        (-6_i32..6).prop_map(|number| Literal::Decimal(f64::from(number) / 2.0)),
        text().prop_map(Literal::Text),
    ]
    .boxed()
}

pub fn path() -> BoxedStrategy<Vec<String>> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..3)
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
        .boxed()
}

pub fn clock() -> BoxedStrategy<Literal> {
    let call = prop::sample::select(vec!["now", "today"]).prop_map(|name| Literal::Call {
        name: spanned(name.to_owned()),
        arguments: Vec::new(),
    });
    let shift = (
        any::<bool>(),
        0_u32..1000,
        prop::sample::select(vec!["s", "m", "h", "d", "w"]),
    );
    (call, prop::collection::vec(shift, 0..3))
        .prop_map(|(call, shifts)| {
            if shifts.is_empty() {
                return call;
            }
            let shifts = shifts.into_iter().map(|(forward, count, unit)| {
                spanned(Shift {
                    forward,
                    count: count.to_string(),
                    unit: unit.to_owned(),
                    duration: spanned(()),
                })
            });
            Literal::Shifted {
                base: Box::new(spanned(call)),
                shifts: shifts.collect(),
            }
        })
        .boxed()
}

pub fn outside() -> BoxedStrategy<Literal> {
    prop_oneof![
        path().prop_map(|mut names| {
            names.insert(0, "trigger".to_owned());
            Literal::Path(names)
        }),
        Just(Literal::Parameter("p".to_owned())),
    ]
    .boxed()
}

pub fn constant() -> BoxedStrategy<Literal> {
    prop_oneof![6 => scalar(), 1 => clock(), 1 => outside()].boxed()
}

pub fn field() -> BoxedStrategy<Operand> {
    prop_oneof![
        5 => path().prop_map(|names| spanned(Literal::Path(names))),
        1 => path().prop_map(|names| spanned(Literal::Call {
            name: spanned("lower".to_owned()),
            arguments: vec![spanned(Literal::Path(names))],
        })),
    ]
    .boxed()
}

pub fn condition() -> BoxedStrategy<Expression> {
    let equality = (field(), any::<bool>(), constant()).prop_map(|(left, equal, right)| {
        let operator = if equal {
            Operator::Equal
        } else {
            Operator::Unequal
        };
        compare(left, operator, right)
    });
    let orderings = vec![
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
    ];
    let ordered = constant().prop_filter("ordered", |value| {
        !matches!(value, Literal::None | Literal::Bool(_))
    });
    let ordering = (field(), prop::sample::select(orderings), ordered)
        .prop_map(|(left, operator, right)| compare(left, operator, right));
    let textual = (
        field(),
        0..3_u8,
        any::<bool>(),
        prop_oneof![text().prop_map(Literal::Text), outside()],
    )
        .prop_map(|(left, which, negated, right)| {
            let operator = match which {
                0 => Operator::Contains { negated },
                1 => Operator::StartsWith { negated },
                _ => Operator::EndsWith { negated },
            };
            compare(left, operator, right)
        });
    let pattern = prop::sample::select(vec!["^a", "b$", "[0-9]+", "(?i)a.b", "\\."]);
    let matching = (field(), any::<bool>(), pattern).prop_map(|(left, negated, pattern)| {
        compare(
            left,
            Operator::Matches { negated },
            Literal::Text(pattern.to_owned()),
        )
    });
    let listed = (
        field(),
        any::<bool>(),
        prop::collection::vec(constant(), 1..4),
    )
        .prop_map(|(left, negated, items)| {
            let items = items.into_iter().map(spanned).collect();
            member(left, negated, Set::List(spanned(items)))
        });
    let nets = prop::sample::select(vec!["10.0.0.0/8", "::/0", "192.0.2.1"]);
    let network = (path(), any::<bool>(), nets).prop_map(|(names, negated, net)| {
        let call = Literal::Call {
            name: spanned("net".to_owned()),
            arguments: vec![spanned(Literal::Text(net.to_owned()))],
        };
        member(
            spanned(Literal::Path(names)),
            negated,
            Set::Operand(spanned(call)),
        )
    });
    let value = constant().prop_filter("a value", |value| {
        !matches!(value, Literal::None | Literal::Path(_))
    });
    let held = (value, any::<bool>(), path()).prop_map(|(value, negated, names)| {
        member(
            spanned(value),
            negated,
            Set::Operand(spanned(Literal::Path(names))),
        )
    });
    prop_oneof![
        any::<bool>()
            .prop_map(|truth| spanned(Clause::Bare(spanned(Literal::Bool(truth)))))
            .boxed(),
        equality.boxed(),
        ordering.boxed(),
        textual.boxed(),
        matching.boxed(),
        listed.boxed(),
        network.boxed(),
        held.boxed(),
        path()
            .prop_map(|names| spanned(Clause::Changed {
                path: spanned(names),
                window: Vec::new(),
            }))
            .boxed(),
    ]
    .boxed()
}

pub fn compare(left: Operand, operator: Operator, right: Literal) -> Expression {
    spanned(Clause::Compare {
        left,
        operator: spanned(operator),
        right: spanned(right),
    })
}

pub fn member(left: Operand, negated: bool, right: Set) -> Expression {
    spanned(Clause::Member {
        left,
        negated,
        operator: spanned(()),
        right,
    })
}

/// `not x in (…)` is written `x not in (…)`, so the tree of the former is that of the latter.
pub fn not(inner: Expression) -> Expression {
    match inner.node {
        Clause::Member {
            left,
            negated: false,
            right,
            ..
        } => member(left, true, right),
        node => spanned(Clause::Not(Box::new(spanned(node)))),
    }
}

/// Queries over an open type, so that each of them is of some type.
pub fn query() -> BoxedStrategy<Expression> {
    condition()
        .prop_recursive(3, 16, 3, |inner| {
            let several = prop::collection::vec(inner.clone(), 2..4);
            let quantified = (0..4_u8, path(), inner.clone(), -1_i64..3).prop_map(
                |(which, names, body, number)| {
                    let quantifier = match which {
                        0 => Quantifier::Any,
                        1 => Quantifier::All,
                        2 => Quantifier::None,
                        _ => Quantifier::Count,
                    };
                    let compare = (quantifier == Quantifier::Count).then(|| {
                        (
                            spanned(Operator::LessOrEqual),
                            spanned(Literal::Int(number)),
                        )
                    });
                    spanned(Clause::Quantified {
                        quantifier: spanned(quantifier),
                        path: spanned(names),
                        body: Some(Box::new(body)),
                        compare,
                    })
                },
            );
            prop_oneof![
                several
                    .clone()
                    .prop_map(|parts| spanned(Clause::And(parts)))
                    .boxed(),
                several.prop_map(|parts| spanned(Clause::Or(parts))).boxed(),
                inner.clone().prop_map(not).boxed(),
                quantified.boxed(),
                (any::<bool>(), condition(), clock())
                    .prop_map(|(always, body, since)| {
                        let body = match body.node {
                            // History does not nest.
                            Clause::Changed { .. } => {
                                spanned(Clause::Bare(spanned(Literal::Bool(true))))
                            }
                            node => spanned(node),
                        };
                        spanned(Clause::History {
                            kind: spanned(if always {
                                History::Always
                            } else {
                                History::Ever
                            }),
                            body: Box::new(body),
                            window: vec![Argument {
                                name: spanned("since".to_owned()),
                                value: spanned(since),
                            }],
                        })
                    })
                    .boxed(),
            ]
        })
        .boxed()
}

// --- objects ---

pub fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..3).prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        (-6_i32..6).prop_map(|number| json!(f64::from(number) / 2.0)),
        any::<f64>().prop_map(|number| json!(number)),
        text().prop_map(Value::String),
        prop::sample::select(vec![
            "NaN",
            "Infinity",
            "null",
            "True",
            "-0",
            "1e400",
            "2026-02-30"
        ])
        .prop_map(|word| json!(word)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(prop::sample::select(&NAMES[..]), inner, 0..4)
                .prop_map(|map| json!(map)),
        ]
    })
    .boxed()
}

pub fn object() -> BoxedStrategy<Map<String, Value>> {
    prop::collection::btree_map(prop::sample::select(&NAMES[..]), value(), 0..6)
        .prop_map(|map| {
            map.into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        })
        .boxed()
}

#[derive(Debug)]
pub struct Asked {
    pub object: Map<String, Value>,
    pub trigger: Map<String, Value>,
    pub parameters: Map<String, Value>,
}

impl Asked {
    pub fn answer(&self, query: &Query) -> Result<bool, TooCostly> {
        query.answers(&self.facts())
    }

    pub fn facts(&self) -> Facts<'_> {
        Facts {
            subject: &self.object,
            trigger: Some(&self.trigger),
            previous: None,
            parameters: &self.parameters,
            now: Moment::from_micros(1_795_000_000_123_456),
            world: &Nowhere,
        }
    }
}

pub fn asked() -> BoxedStrategy<Asked> {
    (object(), object(), value())
        .prop_map(|(object, trigger, parameter)| Asked {
            object,
            trigger,
            parameters: Map::from_iter([("p".to_owned(), parameter)]),
        })
        .boxed()
}

pub fn compile(text: &str) -> Query {
    try_compile(text).unwrap_or_else(|found| panic!("{text}\n{}", rendered(&found)))
}

pub fn try_compile(text: &str) -> Result<Query, Vec<Diagnostic>> {
    let schema = Schema::open("thing");
    let parameters = ParameterTypes::none().with("p", Kind::Dynamic);
    Query::compile(
        text,
        &Context {
            label: "query",
            schema: &schema,
            trigger: Some(&schema),
            previous: false,
            parameters: &parameters,
            sets: KnownSets::Any,
        },
    )
}

pub fn rendered(found: &[Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect()
}

pub fn is_few_quantifiers_deep(expression: &Expression, left: usize) -> bool {
    match &expression.node {
        Clause::And(parts) | Clause::Or(parts) => {
            parts.iter().all(|part| is_few_quantifiers_deep(part, left))
        }
        Clause::Not(inner) => is_few_quantifiers_deep(inner, left),
        // Inside a quantifier of an open type everything is dynamic, history included.
        Clause::Quantified { body, .. } => {
            left > 0
                && body
                    .as_ref()
                    .is_none_or(|body| is_few_quantifiers_deep(body, left - 1))
        }
        _ => true,
    }
}

pub fn small_query() -> BoxedStrategy<Expression> {
    query()
        .prop_filter("few quantifiers", |tree| {
            is_few_quantifiers_deep(tree, limit::QUANTIFIERS)
        })
        .boxed()
}
