//! What holds of the index over all schedules: it finds what asking each schedule finds, whatever comes and goes.

#[path = "language/generated.rs"]
mod generated;
#[path = "language/related.rs"]
mod related;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use generated::{Asked as Situation, asked, compile, rounds, small_query, value};
use muster::moment::Moment;
use muster::query::{Context, Facts, Query, print};
use muster::trigger::{Alternative, Asked, Event, Matches, Picture, Register, Scan};
use proptest::prelude::*;
use related::{Stored, inventory, name, related_query, types};
use serde_json::{Map, Value, json};

/// What the index finds, with the judge's word where it is asked for.
fn found(
    picture: &Picture,
    event: &mut Event,
    rules: &BTreeMap<u32, Asked>,
    situation: &Situation,
) -> BTreeSet<u32> {
    let mut matches = Matches::default();
    picture.find(event, &mut matches);
    decided(&matches, rules, situation)
}

fn decided(
    matches: &Matches,
    rules: &BTreeMap<u32, Asked>,
    situation: &Situation,
) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for (rule, ask) in &matches.rules {
        if !ask || truth(&rules[rule], situation) {
            assert!(all.insert(*rule), "rule {rule} was found twice");
        }
    }
    all
}

fn truth(asked: &Asked, situation: &Situation) -> bool {
    let facts = Facts {
        parameters: &asked.parameters,
        ..situation.facts()
    };
    asked.either.iter().any(|alternative| {
        let fixed = alternative.fixed.iter().all(|(name, texts)| {
            let value = situation.object.get(*name);
            value.is_some_and(|value| texts.iter().any(|text| value == &json!(text)))
        });
        let query = alternative.query.as_ref();
        fixed && query.is_none_or(|query| query.answers(&facts).unwrap_or(false))
    })
}

fn expected(rules: &BTreeMap<u32, Asked>, situation: &Situation) -> BTreeSet<u32> {
    rules
        .iter()
        .filter(|(_, asked)| truth(asked, situation))
        .map(|(rule, _)| *rule)
        .collect()
}

fn fields(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    map.iter().map(|(name, value)| (name.as_str(), value))
}

/// A rule of any kind of query.
fn any_rule() -> BoxedStrategy<Asked> {
    (small_query(), value(), prop::option::of(0..3_usize))
        .prop_map(|(tree, parameter, fixed)| {
            let fixed = fixed.map(|few| {
                let texts = ["", "a", "10.0.0.1"].iter().take(few + 1);
                ("b", texts.map(|text| (*text).to_owned()).collect())
            });
            Asked {
                either: vec![Alternative {
                    fixed: fixed.into_iter().collect(),
                    query: Some(compile(&print::canonical(&tree))),
                }],
                parameters: Map::from_iter([("p".to_owned(), parameter)]),
            }
        })
        .boxed()
}

/// Conditions as people write them, over few values, so that many rules share a key and lists split.
fn plain_rule() -> BoxedStrategy<Asked> {
    let condition = prop_oneof![
        (0..6_i32).prop_map(|n| format!("a = {n}")),
        (0..6_i32, 0..6_i32).prop_map(|(a, b)| format!("a in ({a}, {b})")),
        (0..9_i32, 1..5_i32)
            .prop_map(|(from, width)| format!("x >= {from} and x < {}", from + width)),
        (0..9_i32, 1..5_i32)
            .prop_map(|(from, width)| format!("tags.x >= {from} and tags.x < {}", from + width)),
        (0..9_i32).prop_map(|n| format!("x > {n}.5")),
        (0..9_i32).prop_map(|n| format!("x != {n}")),
        (0..4_i32).prop_map(|n| format!("'t{n}' in tags")),
        (0..4_i32).prop_map(|n| format!("any(tags: it = 't{n}')")),
        (0..4_i32).prop_map(|n| format!("not ('t{n}' in tags)")),
        (0..4_i32).prop_map(|n| format!("b = 'host{n}.example'")),
        (0..4_i32).prop_map(|n| format!("b startswith 'HOST{n}'")),
        (0..4_i32).prop_map(|n| format!("b endswith '{n}.example'")),
        (0..4_i32).prop_map(|n| format!("b ~ 't{n}.ex'")),
        (0..4_i32).prop_map(|n| format!("b !~ '{n}'")),
        (0..4_i32).prop_map(|n| format!("lower(b) = 'host{n}.example'")),
        Just("b matches '^host[12]'".to_owned()),
        Just("count = None".to_owned()),
        Just("count != None".to_owned()),
        Just("any.count = None".to_owned()),
        (0..3_i32).prop_map(|n| format!("any.count = {n}")),
        Just("any.b in net('10.0.0.0/8')".to_owned()),
        Just("a = trigger.x".to_owned()),
        Just("count(tags) > 1".to_owned()),
        Just("a = $p".to_owned()),
    ];
    let group = prop::collection::vec(condition, 1..4);
    prop::collection::vec(group, 1..3)
        .prop_map(|groups| {
            let text: Vec<String> = groups
                .iter()
                .map(|parts| format!("({})", parts.join(" and ")))
                .collect();
            Asked {
                parameters: Map::from_iter([("p".to_owned(), json!(3))]),
                ..Asked::of(compile(&text.join(" or ")))
            }
        })
        .boxed()
}

fn plain_object() -> BoxedStrategy<Map<String, Value>> {
    let tag = prop_oneof![
        4 => (0..5_i32).prop_map(|n| json!(format!("t{n}"))),
        1 => (0..12_i32).prop_map(|n| json!({"x": n})),
        1 => Just(Value::Null),
        1 => Just(json!({"a": 1})),
    ];
    (
        prop::option::of(0..7_i32),
        prop::option::of(0..5_i32),
        prop::option::of(prop_oneof![
            (0..12_i32).prop_map(|n| json!(n)),
            (0..24_i32).prop_map(|n| json!(f64::from(n) / 2.0))
        ]),
        prop::option::of(prop::collection::vec(tag, 0..4)),
        prop::option::of(prop::collection::vec(
            (0..4_i32).prop_map(|n| json!({"count": n, "b": format!("10.0.0.{n}")})),
            0..3,
        )),
    )
        .prop_map(|(a, b, x, tags, any)| {
            let mut object = Map::new();
            let mut put = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    object.insert(name.to_owned(), value);
                }
            };
            put("a", a.map(|n| json!(n)));
            put("b", b.map(|n| json!(format!("Host{n}.example"))));
            put("x", x);
            put("tags", tags.map(Value::Array));
            put(
                "any",
                any.map(|any| match any.as_slice() {
                    [one] => one.clone(),
                    _ => Value::Array(any),
                }),
            );
            object
        })
        .boxed()
}

fn situation_of(object: Map<String, Value>) -> Situation {
    Situation {
        trigger: Map::from_iter([("x".to_owned(), json!(2))]),
        parameters: Map::new(),
        object,
    }
}

/// Rules come and go; after each round all events are asked, as objects and as bytes, and the plain scan beside.
fn lives(
    first: Vec<Asked>,
    changes: Vec<(usize, Option<Asked>)>,
    situations: &[Situation],
) -> Result<(), TestCaseError> {
    let mut register = Register::new();
    let mut rules: BTreeMap<u32, Asked> = BTreeMap::new();
    for (number, asked) in first.into_iter().enumerate() {
        let number = u32::try_from(number).expect("few");
        register.insert(number, &asked);
        rules.insert(number, asked);
    }
    let mut event = Event::new();
    let mut before: Option<(Picture, BTreeMap<u32, Asked>)> = None;
    let mut check =
        |register: &mut Register, rules: &BTreeMap<u32, Asked>| -> Result<(), TestCaseError> {
            let picture = register.picture();
            for situation in situations {
                let wanted = expected(rules, situation);
                event.take(&picture, fields(&situation.object));
                prop_assert_eq!(&found(&picture, &mut event, rules, situation), &wanted);
                let body = serde_json::to_vec(&situation.object).expect("JSON");
                event.read(&picture, &body).expect("JSON is read");
                prop_assert_eq!(&found(&picture, &mut event, rules, situation), &wanted);
                register.show(&mut event);
                // An older picture still tells what was true then.
                if let Some((old, then)) = &before {
                    event.take(old, fields(&situation.object));
                    prop_assert_eq!(
                        found(old, &mut event, then, situation),
                        expected(then, situation)
                    );
                }
            }
            before = Some((picture, rules.clone()));
            register.settle(50, &|rule| rules.get(&rule).cloned());
            Ok(())
        };
    check(&mut register, &rules)?;
    for (at, change) in changes {
        let number = u32::try_from(at % (rules.len() + 2)).expect("few");
        if let Some(old) = rules.remove(&number) {
            register.remove(number, &old);
        }
        if let Some(asked) = change {
            register.insert(number, &asked);
            rules.insert(number, asked);
        }
        prop_assert_eq!(register.len(), rules.len());
        check(&mut register, &rules)?;
    }
    let mut scan = Scan::new();
    for (number, asked) in &rules {
        scan.insert(*number, asked);
    }
    let picture = scan.picture();
    for situation in situations {
        event.take(&picture, fields(&situation.object));
        let mut matches = Matches::default();
        scan.find(&picture, &mut event, &mut matches);
        prop_assert_eq!(
            decided(&matches, &rules, situation),
            expected(&rules, situation)
        );
    }
    for (number, asked) in &rules {
        register.remove(*number, asked);
    }
    // Nothing is left of what is gone, once it is swept away.
    prop_assert!(register.is_empty());
    register.sweep(usize::MAX);
    prop_assert_eq!(register.named(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(150), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_asking_each_rule_finds(
        first in prop::collection::vec(any_rule(), 0..30),
        changes in prop::collection::vec((any::<usize>(), prop::option::of(any_rule())), 0..6),
        situations in prop::collection::vec(asked(), 1..6),
    ) {
        lives(first, changes, &situations)?;
    }

    #[test]
    fn it_does_so_where_rules_ask_of_related_objects(
        texts in prop::collection::vec(related_query(), 1..40),
        changes in prop::collection::vec((0..99_usize, prop::option::of(related_query())), 0..6),
        stored in inventory(),
        trigger in name(),
    ) {
        relations_live(&texts, &changes, &stored, trigger)?;
    }

    #[test]
    fn what_is_read_as_an_event_is_what_is_json(bodies in prop::collection::vec(spelt(), 40)) {
        reads_as_json(&bodies)?;
    }

    #[test]
    fn it_does_so_where_many_rules_share_what_they_ask(
        first in prop::collection::vec(plain_rule(), 60..160),
        changes in prop::collection::vec((any::<usize>(), prop::option::of(plain_rule())), 0..6),
        objects in prop::collection::vec(plain_object(), 1..8),
    ) {
        let situations: Vec<Situation> = objects.into_iter().map(situation_of).collect();
        lives(first, changes, &situations)?;
    }
}

/// Rules that ask of other objects too come and go; all objects of an inventory are asked, as objects and as bytes.
fn relations_live(
    texts: &[String],
    changes: &[(usize, Option<String>)],
    stored: &Stored,
    trigger: Value,
) -> Result<(), TestCaseError> {
    let types = types();
    let schema = types.schema("T");
    let context = Context {
        trigger: Some(&schema),
        ..Context::new("query", &schema)
    };
    let compile = |text: &String| {
        Query::compile(text, &context)
            .unwrap_or_else(|found| panic!("{}", generated::rendered(&found)))
    };
    let trigger = Map::from_iter([("name".to_owned(), trigger)]);
    let nothing = Map::new();
    let mut register = Register::new();
    let mut rules: BTreeMap<u32, Query> = (0_u32..).zip(texts.iter().map(compile)).collect();
    for (number, query) in &rules {
        register.insert(*number, &Asked::of(query.clone()));
    }
    let (mut event, mut matches) = (Event::new(), Matches::default());
    let none = (usize::MAX, None);
    for (at, change) in std::iter::once(&none).chain(changes) {
        let number = u32::try_from(at % (rules.len() + 2)).expect("few");
        if *at < usize::MAX
            && let Some(old) = rules.remove(&number)
        {
            register.remove(number, &Asked::of(old));
        }
        if let Some(text) = change {
            let query = compile(text);
            register.insert(number, &Asked::of(query.clone()));
            rules.insert(number, query);
        }
        let picture = register.picture();
        for object in stored.of("T") {
            let facts = Facts {
                subject: object,
                trigger: Some(&trigger),
                previous: None,
                parameters: &nothing,
                now: Moment::EPOCH,
                world: stored,
            };
            let accepted = |query: &Query| query.answers(&facts).unwrap_or(false);
            let all = rules.iter().filter(|(_, query)| accepted(query));
            let wanted: BTreeSet<u32> = all.map(|(number, _)| *number).collect();
            for as_bytes in [false, true] {
                match as_bytes {
                    false => event.take(&picture, fields(object)),
                    true => event
                        .read(&picture, &serde_json::to_vec(object).expect("JSON"))
                        .expect("JSON is read"),
                }
                picture.find(&mut event, &mut matches);
                let found = matches.rules.iter().filter(|(number, ask)| {
                    // What the index is sure of, the judge must not be asked to see.
                    !ask || accepted(&rules[number])
                });
                let found: BTreeSet<u32> = found.map(|(number, _)| *number).collect();
                prop_assert_eq!(&found, &wanted, "{:?} in {:?}", object, stored);
            }
            register.show(&mut event);
        }
        register.settle(20, &|number| rules.get(&number).cloned().map(Asked::of));
    }
    Ok(())
}

/// JSON as it may come: of any shape, and spelt in any way, often wrongly.
fn spelt() -> BoxedStrategy<Vec<u8>> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        (-9..9_i32).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,20})([.][0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        "\"([a-zé\u{1f600} ]|\\\\[nt\"\\\\/]|\\\\u00[46][0-9a-fA-F]){0,20}\"",
        Just("\"t1\"".to_owned()),
        Just("\"\\u0074\\u0031\"".to_owned()),
        Just("\"\\ud83d\\ude00\"".to_owned()),
        Just("\"\\ud83d\"".to_owned()),
        Just("\"Host1.example\"".to_owned()),
    ];
    let name = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "x", "tags", "any", "count", "a", "host"])
            .prop_map(str::to_owned),
        1 => Just("\\u0061".to_owned()),
        1 => Just("a_name_that_nobody_asks_about".to_owned()),
    ];
    let space = || prop::sample::select(vec!["", "", "", "", " ", "\t\r\n"]);
    let tree = leaf.prop_recursive(5, 40, 6, move |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(a, b, c)| format!("{a}{b}{c}"));
        let field = (space(), name.clone(), space(), item.clone())
            .prop_map(|(a, name, b, item)| format!("{a}\"{name}\"{b}:{item}"));
        prop_oneof![
            prop::collection::vec(item, 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(field, 0..6).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    });
    let bytes = prop::sample::select(b"{}[]\",:\\ue0123.+-tfnal \n\x00\x1f\x80\xc3".to_vec());
    let wound = (any::<prop::sample::Index>(), 0..3_u8, bytes);
    let field = |name: &'static str| move |text: String| format!("\"{name}\": {text}");
    let object = (
        tree.clone().prop_map(field("a")),
        tree.clone().prop_map(field("tags")),
        tree.clone().prop_map(field("other")),
        tree,
    )
        .prop_map(|(a, tags, other, any)| format!("{{{a}, {tags},{other}, \"any\" :{any}}}"));
    (object, prop::collection::vec(wound, 0..3))
        .prop_map(|(text, wounds)| {
            let mut bytes = text.into_bytes();
            for (at, what, byte) in wounds {
                let at = at.index(bytes.len());
                match what {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        })
        .boxed()
}

/// What an event that was read from bytes is beside the one that `serde_json` reads.
fn reads_as_json(bodies: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let texts = [
        "a = 1",
        "a = 't1'",
        "a = True",
        "a = None",
        "a > 2 and a < 7.5",
        "a.count = 1",
        "'t1' in tags",
        "any(tags: it = None)",
        "tags.x = 3",
        "tags = None",
        "any.count = None",
        "any.b = 't1'",
        "any.b.tags.a != 3",
        "'t1' in any",
        "b startswith 'host'",
    ];
    let rules: BTreeMap<u32, Asked> = (0_u32..)
        .zip(texts.map(|text| Asked::of(compile(text))))
        .collect();
    let mut register = Register::new();
    for (number, asked) in &rules {
        register.insert(*number, asked);
    }
    let picture = register.picture();
    let (mut event, mut matches) = (Event::new(), Matches::default());
    for body in bodies {
        let known = serde_json::from_slice::<Map<String, Value>>(body);
        let shown = String::from_utf8_lossy(body).into_owned();
        match known {
            Err(error) => {
                let read = event.read(&picture, body);
                prop_assert!(read.is_err(), "{} is no JSON: {}", shown, error);
            }
            Ok(map) => {
                let read = event.read(&picture, body);
                prop_assert!(read.is_ok(), "{} is JSON", shown);
                picture.find(&mut event, &mut matches);
                let mut read: Vec<(u32, bool)> = matches.rules.clone();
                event.take(&picture, fields(&map));
                picture.find(&mut event, &mut matches);
                let mut taken: Vec<(u32, bool)> = matches.rules.clone();
                read.sort_unstable();
                taken.sort_unstable();
                prop_assert_eq!(read, taken, "{}", shown);
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_read_as_an_event_is_what_is_json_at_its_edges() {
    let deep = |levels: usize| {
        [
            format!(
                "{{\"other\": {}{}}}",
                "[".repeat(levels),
                "]".repeat(levels)
            ),
            format!("{{\"tags\": {}{}}}", "[".repeat(levels), "]".repeat(levels)),
            format!("{}1{}", "{\"any\": ".repeat(levels), "}".repeat(levels)),
        ]
    };
    let bodies = [
        "",
        " ",
        "{",
        "{}",
        " { } ",
        "[]",
        "1",
        "null",
        "{}{}",
        "{} x",
        "{\"a\"}",
        "{\"a\":}",
        "{,}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":-0}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":1e400}",
        "{\"a\":1e-400}",
        "{\"a\":+1}",
        "{\"a\":1_0}",
        "{\"a\":tru}",
        "{\"a\":trues}",
        "{\"a\":nul}",
        "{\"a\":NaN}",
        "{\"a\":inf}",
        "{\"a\":18446744073709551616}",
        "{\"a\":\"\u{1}\"}",
        "{\"other\":01}",
        "{\"other\":[1 2]}",
        "{\"other\":{]}",
        "{\"other\":[1,]}",
        "{\"other\":{\"b\" 1}}",
        "{\"other\":\"\\x\"}",
        "{\"other\":\"\\ud800\"}",
        "{\"oth\\ud800er\":1}",
        "{\"other\":tru}",
        "{\"a\":1,\"a\":\"t1\"}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"any\":{\"count\":1,\"count\":null}}",
        "\u{feff}{}",
        "{\"a\":1}\0",
        "{\"a\":\"t1\0\"}",
    ]
    .map(|text| text.as_bytes().to_vec());
    let deep = (124..130).flat_map(|levels| deep(levels).map(String::into_bytes));
    let bodies: Vec<Vec<u8>> = bodies.into_iter().chain(deep).collect();
    reads_as_json(&bodies).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_list_that_is_split_by_elements_is_found_by_each_of_them_and_each_rule_once() {
    // So many constants of `a` that rules wait there, and so many rules under each that they are split by their tags.
    let rules: Vec<Asked> = (0..400)
        .map(|n| {
            Asked::of(compile(&format!(
                "a = {} and 't{}' in tags and x >= {}",
                n % 8,
                n / 8 % 4,
                n % 5
            )))
        })
        .collect();
    let situations: Vec<Situation> = [
        json!({"a": 2, "tags": ["t1", "t3", "t1"], "x": 4}),
        json!({"a": 5, "tags": ["t0", "t1", "t2", "t3"], "x": 3}),
        json!({"a": 7, "tags": ["t2"], "x": 1}),
        json!({"a": 7, "x": 1}),
    ]
    .into_iter()
    .map(|object| situation_of(object.as_object().expect("an object").clone()))
    .collect();
    let changes = vec![(3, None), (50, None), (3, Some(rules[9].clone()))];
    lives(rules, changes, &situations).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_is_removed_is_gone_at_once_and_its_room_is_given_back_as_others_come() {
    let rule = |n: usize| Asked::of(compile(&format!("a = {n} and b = 'host{n}'")));
    let mut register = Register::new();
    let mut event = Event::new();
    let mut found = |register: &Register, n: usize| {
        let picture = register.picture();
        let body = format!(r#"{{"a": {n}, "b": "host{n}"}}"#);
        event.read(&picture, body.as_bytes()).expect("JSON");
        let mut matches = Matches::default();
        picture.find(&mut event, &mut matches);
        matches.rules.len()
    };
    for n in 0..1_000 {
        register.insert(u32::try_from(n).expect("few"), &rule(n));
    }
    let before = register.named();
    for n in 0..1_000 {
        register.remove(u32::try_from(n).expect("few"), &rule(n));
        assert_eq!((register.len(), found(&register, n)), (999 - n, 0));
    }
    // What is not there is not removed, nor is anything removed twice.
    register.remove(3, &rule(3));
    register.remove(5_000, &rule(3));
    for n in 0..1_000 {
        // Some under the numbers of the dead, and some not.
        let number = u32::try_from(n + 500).expect("few");
        register.insert(number, &rule(n));
        assert_eq!((register.len(), found(&register, n)), (n + 1, 1));
    }
    assert_eq!(register.named(), before);
    let numbers = (500..1_500_u32).rev().step_by(2);
    for number in numbers {
        register.remove(number, &rule(number as usize - 500));
    }
    assert!(register.named() == before && register.len() == 500);
    register.settle(10_000, &|_| None);
    assert_eq!(register.named(), before / 2);
}

#[test]
fn readers_find_what_was_true_at_one_time_while_a_writer_changes_rules() {
    // Each rule is there or not; a version is one set of them, and the picture of it says nothing of the next.
    let rules: Vec<Asked> = (0..600)
        .map(|n| {
            Asked::of(compile(&format!(
                "a = {} and b = 'host{}' and x >= {}",
                n % 3,
                n % 7,
                n % 11
            )))
        })
        .collect();
    let mut register = Register::new();
    let shown = RwLock::new((register.picture(), BTreeSet::<u32>::new()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut event, mut matches) = (Event::new(), Matches::default());
                    let mut asked = 0;
                    while !stop.load(Ordering::Relaxed) || asked < 100 {
                        let (picture, there) = shown.read().expect("the picture").clone();
                        let (a, b, x) = (asked % 3, asked % 7, asked % 13);
                        let body = format!(r#"{{"a": {a}, "b": "host{b}", "x": {x}}}"#);
                        event.read(&picture, body.as_bytes()).expect("JSON");
                        picture.find(&mut event, &mut matches);
                        let found: BTreeSet<u32> =
                            matches.rules.iter().map(|(rule, _)| *rule).collect();
                        let wanted = there
                            .into_iter()
                            .filter(|n| n % 3 == a && n % 7 == b && n % 11 <= x);
                        assert_eq!(found, wanted.collect());
                        asked += 1;
                    }
                })
            })
            .collect();
        let mut there = BTreeSet::new();
        for step in 0..3_000_u32 {
            let number = step.wrapping_mul(2_654_435_761) % 600;
            let asked = &rules[number as usize];
            if there.remove(&number) {
                register.remove(number, asked);
            } else {
                register.insert(number, asked);
                there.insert(number);
            }
            *shown.write().expect("the picture") = (register.picture(), there.clone());
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader");
        }
    });
}
