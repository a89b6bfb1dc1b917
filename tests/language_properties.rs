//! What holds of every query and every object: laws, tried on generated ones; and what hostile text may cost.
//!
//! The runs are short and the same each time in what they mutate. `MUSTER_ROUNDS=1000 cargo test --release --test
//! language_properties` is the long run: parser, printer, checker and judge under a thousand times as many.

#[path = "language/generated.rs"]
mod generated;

use std::time::{Duration, Instant};

use generated::{
    Asked, NAMES, asked, compare, compile, path, rendered, rounds, scalar, small_query, spanned,
    text, try_compile, value,
};
use muster::query::syntax::{Clause, Expression, Operator, Value as Literal};
use muster::query::{Context, Diagnostic, Fields, Query, Types, circle, limit, print};
use proptest::prelude::*;
use serde_json::{Map, json};

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_parses_to_the_same_tree_and_prints_the_same(tree in small_query()) {
        let text = print::canonical(&tree);
        let parsed = compile(&text);
        prop_assert_eq!(parsed.written(), &tree, "{}", text);
        prop_assert_eq!(parsed.canonical(), text);
    }

    #[test]
    fn printing_changes_no_answer_and_neither_does_the_normal_form(tree in small_query(), asked in asked()) {
        let query = compile(&print::canonical(&tree));
        let answer = asked.answer(&query);
        prop_assert_eq!(asked.answer(&compile(&query.canonical())), answer);
        let normal = query.normal();
        let again = compile(&normal);
        prop_assert_eq!(asked.answer(&again), answer, "{}", &normal);
        prop_assert_eq!(again.normal(), normal);
    }

    #[test]
    fn not_is_the_complement_on_every_object(tree in small_query(), asked in asked()) {
        let text = print::canonical(&tree);
        let answer = asked.answer(&compile(&text));
        let complement = asked.answer(&compile(&format!("not ({text})")));
        prop_assert_eq!(complement, answer.map(|truth| !truth), "{}", text);
    }

    #[test]
    fn an_explanation_says_what_the_answer_says(tree in small_query(), asked in asked()) {
        let query = compile(&print::canonical(&tree));
        let explanation = query.explain(&asked.facts());
        prop_assert_eq!(explanation.outcome, asked.answer(&query).ok());
        prop_assert!(explanation.to_string().lines().count() > explanation.parts.len());
        prop_assert_eq!(&explanation.to_json()["outcome"], &json!(explanation.outcome));
    }

    #[test]
    fn every_negated_operator_is_the_complement_of_its_positive(
        asked in asked(),
        names in path(),
        literal in scalar(),
        word in text(),
    ) {
        let name = names.join(".");
        let value = print::canonical(&compare(spanned(Literal::Path(names)), Operator::Equal, literal));
        let value = value.split_once(" = ").expect("a comparison").1;
        let word = print::canonical(&compare(
            spanned(Literal::Path(vec!["x".to_owned()])),
            Operator::Equal,
            Literal::Text(word),
        ));
        let word = word.split_once(" = ").expect("a comparison").1;
        let pairs = [
            (format!("{name} = {value}"), format!("{name} != {value}")),
            (format!("{name} in ({value}, 1)"), format!("{name} not in ({value}, 1)")),
            (format!("{name} ~ {word}"), format!("{name} !~ {word}")),
            (format!("{name} startswith {word}"), format!("{name} not startswith {word}")),
            (format!("{name} endswith {word}"), format!("{name} not endswith {word}")),
            (format!("{name} matches \"^a\""), format!("{name} not matches \"^a\"")),
            (format!("1 in {name}"), format!("1 not in {name}")),
            (format!("any({name}: it = 1)"), format!("none({name}: it = 1)")),
            (format!("all({name}: it = 1)"), format!("any({name}: it != 1)")),
            (format!("{name} in net(\"10.0.0.0/8\")"), format!("{name} not in net(\"10.0.0.0/8\")")),
        ];
        for (positive, negative) in pairs {
            let yes = asked.answer(&compile(&positive));
            let no = asked.answer(&compile(&negative));
            prop_assert_eq!(yes.map(|truth| !truth), no, "{}", positive);
        }
    }

    #[test]
    fn in_is_the_or_of_its_equalities(asked in asked(), names in path(), items in prop::collection::vec(scalar(), 1..4)) {
        let equalities: Vec<Expression> = items
            .iter()
            .map(|item| compare(spanned(Literal::Path(names.clone())), Operator::Equal, item.clone()))
            .collect();
        let equalities: Vec<String> = equalities.iter().map(print::canonical).collect();
        let listed: Vec<&str> = equalities
            .iter()
            .map(|text| text.split_once(" = ").expect("a comparison").1)
            .collect();
        let inside = format!("{} in ({})", names.join("."), listed.join(", "));
        let either = asked.answer(&compile(&equalities.join(" or ")));
        prop_assert_eq!(asked.answer(&compile(&inside)), either, "{}", inside);
    }

    #[test]
    fn a_list_is_none_exactly_when_it_has_no_element(
        mut asked in asked(),
        name in prop::sample::select(&NAMES[..]),
        items in prop::option::of(prop::collection::vec(value(), 0..4)),
    ) {
        asked.object.insert(name.to_owned(), json!(items));
        let none = asked.answer(&compile(&format!("{name} = None")));
        prop_assert_eq!(none, asked.answer(&compile(&format!("not any({name})"))));
        prop_assert_eq!(none, asked.answer(&compile(&format!("count({name}) = 0"))));
    }

    #[test]
    fn a_typed_query_answers_for_objects_of_any_shape(asked in asked(), which in 0..TYPED.len()) {
        let mut types = Types::new();
        types.declare("thing", &[
            ("a", "int?"), ("b", "datetime?"), ("x", "list({a = \"int\", b = \"text?\"})"),
            ("tags", "list(ip)"), ("any", "rel(thing)"), ("count", "many(thing.any)"),
            ("not_a_keyword", "float?"),
        ]).expect("types");
        let schema = types.schema("thing");
        let query = Query::compile(TYPED[which], &Context::new("query", &schema))
            .unwrap_or_else(|found| panic!("{}", rendered(&found)));
        let complement = format!("not ({})", TYPED[which]);
        let complement = Query::compile(&complement, &Context::new("query", &schema)).expect("compiles");
        prop_assert_eq!(asked.answer(&query).map(|truth| !truth), asked.answer(&complement));
    }
}

const TYPED: &[&str] = &[
    "a > 1 or b > now() - 1d or any(x: a = 1 and b ~ 'a') or not_a_keyword <= 0.5",
    "any(tags: it in net('10.0.0.0/8')) and '::1' in tags",
    "any.a = 1 or any = None or count != None",
    "x.b = None and b ~ '2026' and a not in (1, None)",
    "all(x: a != 2) and count(x: b = None) < 3 and count(count: a = 1) = 0",
    "ever(a = 1, since: now() - 3w) or changed(x) or always(b != None)",
];

// --- mutated text ---

/// A stream of numbers that is the same each time.
struct Stream(u64);

impl Stream {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).expect("small")
    }
}

const CORPUS: &[&str] = &[
    "plugin_id in ('bgp-download', 'rpki-download') and not enabled = True",
    "any(hostnames: name = trigger.name) and ever(any(ports: protocol = \"TCP\" and port in (1433, 5432)))",
    "name ~ \"sh\\u00f6p\" or name not startswith 'a\\'b' and lower(name) != \"x\"",
    "created_at > now() - 30d + 5m and t ~ \"2020-05\" or seen < today()",
    "address in net(\"10.0.0.0/8\", \"::/0\") or count(tags: it = $p) >= 2",
    "a.b.c = None and x = -1.5e10 or 'v' not in tags or in_set(\"mail servers\")",
    "changed(level, since: \"2025-01-01\") and always(a = 1, until: now())",
    "scan_lvl > 0 AND name == “dns” && x is not null",
    "name = 'it's and (x = 01 or y = .5))",
];

const PIECES: &[&str] = &[
    "(",
    ")",
    "\"",
    "'",
    "\\",
    "\\u12",
    "\\ud83d",
    "not ",
    " and ",
    " or ",
    "in",
    "=",
    "!=",
    "==",
    "<>",
    "~",
    "any(",
    "ever(",
    ",",
    ":",
    "$",
    ".",
    "..",
    "- 3",
    "1e999",
    "99999999999999999999",
    "\n",
    "\r\n",
    "\u{2028}",
    "\u{0}",
    "é",
    "😀",
    "“",
    "”",
    "\u{202e}",
    "\t",
    "None",
    "True",
    "true",
    "null",
    "[",
    "]",
    "{",
    "}",
    ";",
    "#",
    "--",
    "is not ",
    "like '%a'",
    "between 1 and",
    "IN (",
    "trigger.",
    "it",
    "net(",
    "now()",
    "1.",
    "+5",
    "a__b__gt = ",
];

#[test]
fn mutated_text_is_refused_or_answered_and_never_panics() {
    let mut stream = Stream(0x9E37_79B9_7F4A_7C15);
    let asked = Asked {
        object: Map::new(),
        trigger: Map::new(),
        parameters: Map::new(),
    };
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..rounds(12_000) {
        let mut bytes = CORPUS[stream.next(CORPUS.len())].as_bytes().to_vec();
        for _ in 0..=stream.next(4) {
            let at = stream.next(bytes.len() + 1);
            match stream.next(4) {
                0 => {
                    let piece = PIECES[stream.next(PIECES.len())].bytes();
                    bytes.splice(at..at, piece);
                }
                1 => bytes.truncate(at),
                2 if at < bytes.len() => {
                    bytes[at] = u8::try_from(stream.next(256)).expect("a byte")
                }
                _ => {
                    let end = (at + stream.next(6)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match try_compile(&text) {
            Ok(query) => {
                taken += 1;
                asked.answer(&query).expect("cheap");
                let again = compile(&query.canonical());
                assert_eq!(again.written(), query.written(), "{text}");
                assert_eq!(again.canonical(), query.canonical());
            }
            Err(found) => {
                refused += 1;
                assert!((1..=limit::ERRORS).contains(&found.len()), "{text}");
                for diagnostic in &found {
                    is_well_formed(diagnostic);
                }
            }
        }
    }
    // Both must happen, or the mutations tell nothing.
    assert!(
        taken > 300 && refused > 300,
        "{taken} taken, {refused} refused"
    );
}

/// Spans lie in the text, at characters; the rendering names the code; a replacement can be applied.
fn is_well_formed(diagnostic: &Diagnostic) {
    let source = &diagnostic.source;
    let mut spans = vec![diagnostic.span];
    spans.extend(diagnostic.labels.iter().map(|label| label.span));
    spans.extend(
        diagnostic
            .replacement
            .iter()
            .map(|replacement| replacement.span),
    );
    for span in spans {
        assert!(
            source.get(span.start..span.end).is_some(),
            "{span:?} in {source:?}: {diagnostic}"
        );
    }
    assert!(
        diagnostic
            .to_string()
            .starts_with(&format!("error[{}]: ", diagnostic.code))
    );
    assert_eq!(diagnostic.to_json()["code"], diagnostic.code);
    assert_eq!(
        diagnostic.repaired().is_some(),
        diagnostic.replacement.is_some()
    );
}

#[test]
fn a_finding_never_ends_within_a_character() {
    for text in ["name not \"\\é\"", "name = \"a\\😀b\"", "x \"\\日\" = 1"] {
        let found = try_compile(text).expect_err("no such escape");
        found.iter().for_each(is_well_formed);
    }
}

// --- limits ---

/// A text of a given size.
type Written<'t> = &'t dyn Fn(usize) -> String;

/// The first complaint about a text, which must come quickly.
fn complaint(text: &str) -> String {
    let start = Instant::now();
    let found = try_compile(text).expect_err("refused");
    let spent = start.elapsed();
    assert!(
        spent < Duration::from_millis(400),
        "{spent:?} for {} bytes",
        text.len()
    );
    let first = found.first().expect("a complaint");
    is_well_formed(first);
    let shown = first.to_string();
    assert!(shown.len() < 2_000, "{} bytes of complaint", shown.len());
    format!("{}: {}", first.code, first.message)
}

#[test]
fn hostile_text_is_refused_at_once() {
    let long = "x".repeat(1_000_000);
    for text in [
        long.clone(),
        format!("x = \"{long}\""),
        "(".repeat(100_000),
        format!("{}x = 1{}", "(".repeat(100_000), ")".repeat(100_000)),
        "any(".repeat(250_000),
        "not ".repeat(250_000),
        "é".repeat(500_000),
    ] {
        assert!(
            complaint(&text).starts_with("Q302: the query is "),
            "{}",
            complaint(&text)
        );
    }
    for (text, expected) in [
        (
            "(".repeat(16_000),
            "Q301: the query is nested 16000 deep; the limit is 32",
        ),
        (
            "any(".repeat(4_000),
            "Q301: the query is nested 4000 deep; the limit is 32",
        ),
        (
            "ever(".repeat(3_000),
            "Q301: the query is nested 3000 deep; the limit is 32",
        ),
        (
            format!("{}x = 1", "not ".repeat(4_000)),
            "Q306: there are 4000 `not` in a row; the limit is 16",
        ),
        (
            "a".repeat(16_000) + " = 1",
            "Q308: the name is 16000 bytes long; the limit is 64",
        ),
    ] {
        assert_eq!(complaint(&text), expected);
    }
    // These parse or fail in linear time whatever they say.
    for text in [
        "\"".repeat(16_000),
        "\\".repeat(16_000),
        "'(".repeat(8_000),
        "x = 1 and ".repeat(1_600),
        "any (".repeat(30) + &" ".repeat(16_000),
        "-".repeat(16_000),
        "now() - 1d ".repeat(1_400),
        "x in (1,".repeat(30) + &"1,".repeat(7_000),
        "a.".repeat(8_000),
    ] {
        let start = Instant::now();
        assert!(try_compile(&text).is_err());
        assert!(
            start.elapsed() < Duration::from_millis(400),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn each_limit_allows_what_it_names_and_refuses_one_more() {
    let joined = |count: usize| vec!["x = y__".replace("y__", "1"); count].join(" or ");
    let list = |count: usize| format!("x in ({})", vec!["1"; count].join(","));
    let nets = |count: usize| format!("x in net({})", vec!["'::/0'"; count].join(","));
    let nested = |count: usize| format!("{}x = 1{}", "(".repeat(count), ")".repeat(count));
    let nots = |count: usize| format!("{}x = 1", "not ".repeat(count));
    let path = |count: usize| format!("{} = 1", vec!["x"; count].join("."));
    let name = |count: usize| format!("{} = 1", "x".repeat(count));
    let string = |count: usize| format!("x = '{}'", "y".repeat(count));
    let quantified =
        |count: usize| format!("{}x = 1{}", "any(x: ".repeat(count), ")".repeat(count));
    let pattern = |count: usize| format!("x matches '{}'", "y".repeat(count));
    let literals = |count: usize| {
        let whole = vec![list(1_000); count / 1_000].join(" or ");
        format!("{whole}{}", " or x = 1".repeat(count % 1_000))
    };
    let cases: Vec<(usize, Written<'_>, &str)> = vec![
        (
            limit::CONDITIONS,
            &joined,
            "Q303: the query has more than 512 conditions; the limit is 512",
        ),
        (
            limit::ITEMS,
            &list,
            "Q304: the list has 1001 items; the limit is 1000",
        ),
        (
            limit::LITERALS,
            &literals,
            "Q305: the query has more than 2000 literals; the limit is 2000",
        ),
        (
            limit::NETWORKS,
            &nets,
            "Q312: the query has 257 networks; the limit is 256",
        ),
        (
            limit::NESTING,
            &nested,
            "Q301: the query is nested 33 deep; the limit is 32",
        ),
        (
            limit::NOTS,
            &nots,
            "Q306: there are 17 `not` in a row; the limit is 16",
        ),
        (
            limit::SEGMENTS,
            &path,
            "Q307: the path has 9 segments; the limit is 8",
        ),
        (
            limit::IDENTIFIER,
            &name,
            "Q308: the name is 65 bytes long; the limit is 64",
        ),
        (
            limit::STRING,
            &string,
            "Q309: the string is 4097 bytes long; the limit is 4096",
        ),
        (
            limit::QUANTIFIERS,
            &quantified,
            "Q310: quantifiers are nested 4 deep; the limit is 3",
        ),
        (
            limit::PATTERN,
            &pattern,
            "Q311: the regular expression is 257 bytes long; the limit is 256",
        ),
    ];
    for (most, text, expected) in cases {
        compile(&text(most));
        assert_eq!(complaint(&text(most + 1)), expected);
    }
    let exactly = |length: usize| format!("x = 1{}", " ".repeat(length - 5));
    compile(&exactly(limit::LENGTH));
    assert_eq!(
        complaint(&exactly(limit::LENGTH + 1)),
        "Q302: the query is 16385 bytes long; the limit is 16384"
    );
}

#[test]
fn the_complaint_about_a_deep_query_shows_the_parenthesis_that_crosses_the_limit() {
    let text = format!("{}x = 1{}", "(".repeat(41), ")".repeat(41));
    let found = try_compile(&text).expect_err("too deep");
    assert_eq!(
        rendered(&found),
        format!(
            "error[Q301]: the query is nested 41 deep; the limit is 32\n  --> query:1:33\n   |\n 1 | {text}\n   | {}^ \
             crosses the limit\n   |\n",
            " ".repeat(32)
        )
    );
}

#[test]
fn what_the_canonical_text_could_not_hold_is_refused_as_well() {
    // Written without parentheses, printed with them.
    let text = format!(
        "{}x = 1{}",
        "x = 1 and (".repeat(20),
        " or x = 1) or x = 1".repeat(20)
    );
    assert_eq!(
        complaint(&text),
        "Q301: the query is nested 40 deep; the limit is 32"
    );
    let dense = vec!["x=1"; 500].join(" or ") + &" or xxxxxxxxxxxxxxxxx=1".repeat(12);
    compile(&dense);
    let lists = (0..9)
        .map(|_| format!("x in({})", vec!["1111111"; 220].join(",")))
        .collect::<Vec<_>>();
    assert!(
        complaint(&lists.join(" or ")).starts_with("Q302: the canonical text of the query is ")
    );
    let controls = |count: usize| format!("x = '{}'", "\u{1}".repeat(count));
    compile(&controls(limit::STRING / 6));
    assert_eq!(
        complaint(&controls(limit::STRING / 6 + 1)),
        "Q309: the string is 4098 bytes long; the limit is 4096"
    );
    let nots = format!("{}({}x = 1)", "not ".repeat(9), "not ".repeat(8));
    assert_eq!(
        complaint(&nots),
        "Q306: there are 17 `not` in a row; the limit is 16"
    );
}

#[test]
fn a_long_chain_is_one_node_and_costs_no_stack() {
    let text = vec!["x = 1"; limit::CONDITIONS].join(" and ");
    std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || {
            let query = compile(&text);
            assert!(matches!(&query.written().node, Clause::And(parts) if parts.len() == limit::CONDITIONS));
        })
        .expect("a thread")
        .join()
        .expect("no overflow");
}

#[test]
fn the_deepest_query_that_is_allowed_needs_little_stack() {
    let nots = "not ".repeat(limit::NOTS);
    let deep = format!(
        "{}x = 1{}",
        format!("{nots}(x = 1 and ").repeat(limit::NESTING),
        ")".repeat(limit::NESTING)
    );
    std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(move || {
            let query = compile(&deep);
            let facts = Asked {
                object: Map::from_iter([("x".to_owned(), json!(1))]),
                trigger: Map::new(),
                parameters: Map::new(),
            };
            assert_eq!(facts.answer(&query), Ok(true));
            assert_eq!(compile(&query.canonical()).canonical(), query.canonical());
            assert_eq!(facts.answer(&compile(&query.normal())), Ok(true));
        })
        .expect("a thread")
        .join()
        .expect("no overflow");
}

#[test]
fn a_long_line_is_shown_around_the_culprit_only() {
    let text = format!(
        "{} and nope == 1 and {}",
        vec!["x = 1"; 200].join(" and "),
        vec!["x = 1"; 200].join(" and ")
    );
    let found = try_compile(&text).expect_err("not an operator");
    let shown = rendered(&found);
    let lines: Vec<&str> = shown.lines().collect();
    let (source, carets) = (lines[3], lines[4]);
    assert!(
        source.starts_with(" 1 | …") && source.ends_with('…'),
        "{source}"
    );
    assert!(source.chars().count() < 180);
    let column = carets.find('^').expect("a caret");
    let under: String = source.chars().skip(column).take(2).collect();
    assert_eq!(under, "==");
}

#[test]
fn wide_characters_take_two_columns_and_hidden_ones_are_shown() {
    let found = try_compile("x = \"日本語\u{202e}\" and y == 1").expect_err("not an operator");
    assert_eq!(
        rendered(&found),
        "error[Q111]: `==` is not an operator\n  --> query:1:18\n   |\n 1 | x = \"日本語\u{FFFD}\" and y == 1\n   |                     ^^ one `=` \
         is enough\n   |\n   = help: write `y = 1`\n"
    );
}

#[test]
fn object_sets_that_name_themselves_are_found() {
    let mentions = |pairs: &[(&str, &[&str])]| {
        pairs
            .iter()
            .map(|(name, others)| {
                let others = others.iter().map(|other| (*other).to_owned()).collect();
                ((*name).to_owned(), others)
            })
            .collect()
    };
    assert_eq!(
        circle(&mentions(&[
            ("a", &["b", "c"]),
            ("b", &["c"]),
            ("c", &["gone"])
        ])),
        None
    );
    assert_eq!(
        circle(&mentions(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])),
        Some(vec!["b".to_owned(), "c".to_owned(), "b".to_owned()])
    );
    assert_eq!(
        circle(&mentions(&[("a", &["a"])])),
        Some(vec!["a".to_owned(), "a".to_owned()])
    );
}

#[test]
fn type_words_that_are_none_are_refused_with_their_field() {
    let mut types = Types::new();
    for (field, word) in [
        ("x", "string"),
        ("x", "list"),
        ("x", "list(text"),
        ("x", "rel()"),
        ("x", "many(a.)"),
        ("x", "list({a})"),
        ("x", "int??"),
        ("trigger", "int"),
        ("previous", "int"),
        ("a b", "int"),
        ("x", &*format!("{}int{}", "list(".repeat(9), ")".repeat(9))),
    ] {
        let refused = types.declare("thing", &[(field, word)]).expect_err(word);
        assert!(
            refused.starts_with(&format!("field `{field}` of `thing`: ")),
            "{refused}"
        );
    }
    for word in [
        "list(int)?",
        "rel(a)?",
        "many(a.b)",
        "list({a = \"int?\", b = \"list(text)\"})",
        "list(rel(a))",
    ] {
        types.declare("thing", &[("x", word)]).expect(word);
    }
}

#[test]
fn a_query_says_what_it_needs() {
    let query =
        compile("any(x: name = trigger.name) and ever(y = $p) and z > now() and in_set('s')");
    assert!(query.needs_trigger() && query.needs_history() && query.needs_clock());
    assert!(!query.needs_previous() && !query.needs_relations());
    assert_eq!(query.sets().iter().collect::<Vec<_>>(), ["s"]);
    assert_eq!(query.parameters().iter().collect::<Vec<_>>(), ["p"]);
    let plain = compile("x = 1");
    assert!(!plain.needs_trigger() && !plain.needs_history() && !plain.needs_clock());
}

#[test]
fn an_explanation_shows_each_clause_with_what_it_found() {
    let query = compile("not (name ~ 'x' or any(ports: port = 80)) and 'x' in tags and level > 2");
    let object = json!({"name": "www.example.nl", "ports": [{"port": 80}], "tags": ["a", "x"]});
    let asked = Asked {
        object: object.as_object().expect("an object").clone(),
        trigger: Map::new(),
        parameters: Map::new(),
    };
    let explanation = query.explain(&asked.facts());
    assert_eq!(
        explanation.to_string(),
        "\
no      not (name ~ 'x' or any(ports: port = 80)) and 'x' in tags and level > 2
no        not (name ~ 'x' or any(ports: port = 80))
yes         (name ~ 'x' or any(ports: port = 80))
yes           name ~ 'x'             name is \"www.example.nl\"
yes           any(ports: port = 80)  ports has 1 element
yes       'x' in tags                tags is [\"a\",\"x\"]
no        level > 2                  level is None
"
    );
    let data = explanation.to_json();
    assert_eq!(
        data["parts"][2],
        json!({"clause": "level > 2", "outcome": false, "found": "level is None", "parts": []})
    );
}

#[test]
fn a_diagnostic_is_data_as_well() {
    let found = try_compile("a = 1\r\nand b == 2").expect_err("not an operator");
    assert_eq!(
        found[0].to_json(),
        json!({
            "code": "Q111",
            "severity": "error",
            "message": "`==` is not an operator",
            "origin": "query",
            "span": {"start": 13, "end": 15, "line": 2, "column": 7},
            "label": "one `=` is enough",
            "labels": [],
            "help": ["write `b = 2`"],
            "notes": [],
            "replacement": {"span": {"start": 13, "end": 15, "line": 2, "column": 7}, "text": "="},
            "rendered": "error[Q111]: `==` is not an operator\n  --> query:2:7\n   |\n 2 | and b == 2\n   |       ^^ one `=` is \
                         enough\n   |\n   = help: write `b = 2`\n",
        })
    );
}

#[test]
fn queries_are_shared_between_threads() {
    fn is_shared<T: Send + Sync + Clone + std::fmt::Debug>(_: &T) {}
    is_shared(&compile("x = 1"));
    let nothing = Map::new();
    assert!(nothing.field("x").is_none());
}
