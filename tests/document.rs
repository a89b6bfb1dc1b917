//! What people write is read one way, and complained about one way.

use muster::document::{Complaints, Document, Key, Node, Place, Table, Value, nearest};
use muster::moment::{Moment, Span};
use proptest::prelude::*;

fn complaint(document: Result<Document, muster::document::Complaint>) -> String {
    match document {
        Ok(document) => panic!("this was read: {document:?}"),
        Err(complaint) => complaint.to_string(),
    }
}

fn json(document: Document) -> serde_json::Value {
    serde_json::Value::Array(document.roots.iter().map(Node::to_json).collect())
}

fn yaml(text: &str) -> serde_json::Value {
    json(Document::yaml("a.yaml", text).unwrap())
}

fn place(line: u32, column: u32) -> Option<Place> {
    Some(Place { line, column })
}

// Reading

#[test]
fn the_three_notations_of_one_thing_are_equal_but_for_their_places() {
    let toml = "name = \"a\"\nlevels = [1, 2.5]\non = true\n[deep.er]\nx = \"é\"\n";
    let yaml = "name: a\nlevels: [1, 2.5]\non: true\ndeep:\n  er: {x: é}\n";
    let json_text = r#"{"name":"a","levels":[1,2.5],"on":true,"deep":{"er":{"x":"\u00e9"}}}"#;
    let toml = json(Document::toml("a.toml", toml).unwrap());
    assert_eq!(toml, json(Document::yaml("a.yaml", yaml).unwrap()));
    assert_eq!(toml, json(Document::json("a.json", json_text).unwrap()));
}

#[test]
fn the_end_of_the_name_says_which_notation_a_file_is_in() {
    assert!(Document::open("a.TOML", b"a = 1").is_ok());
    assert!(Document::open("a.json", b"{\"a\": 1}").is_ok());
    assert!(Document::open("a.json", b"a: 1").is_err());
    assert!(Document::open("a.yml", b"a: 1").is_ok());
    assert!(Document::open("-", b"{\"a\": 1}").is_ok());
}

#[test]
fn values_know_their_line_and_their_column_in_characters() {
    let places = |document: Document| {
        let root = document.roots.into_iter().next().unwrap();
        let Value::Table(entries) = root.value else {
            panic!("no table");
        };
        let places: Vec<_> = entries.iter().map(|(k, v)| (k.place, v.place)).collect();
        places
    };
    let toml = Document::toml("a.toml", "é = 1\nbé = \"x\"\n").unwrap_err();
    assert_eq!(toml.place, place(1, 1), "TOML has no such bare keys");
    let toml = Document::toml("a.toml", "\"é\" = 1\n\"bé\" = \"x\"\n").unwrap();
    let expected = [(place(1, 1), place(1, 7)), (place(2, 1), place(2, 8))];
    assert_eq!(places(toml), expected);
    let yaml = Document::yaml("a.yaml", "\"é\" : 1\n\"bé\" : x\n").unwrap();
    assert_eq!(places(yaml), expected);
    let json = Document::json("a.json", "{\"é\":  1,\n\"bé\" : \"x\"}").unwrap();
    assert_eq!(
        places(json),
        [(place(1, 2), place(1, 8)), (place(2, 1), place(2, 8))]
    );
}

#[test]
fn places_are_right_far_into_a_single_long_line() {
    let mut text = String::from("[");
    for _ in 0..1000 {
        text.push_str("\"é\",");
    }
    text.push_str("x]");
    let complaint = Document::json("a.json", &text).unwrap_err();
    assert_eq!(complaint.place, place(1, 4002));
}

#[test]
fn entries_keep_the_order_of_the_file_in_toml_too() {
    let document = Document::toml("a.toml", "z = 1\na = 2\n[m]\ny = 1\nb = 2\n").unwrap();
    let Some(Node {
        value: Value::Table(entries),
        ..
    }) = document.roots.first()
    else {
        panic!("no table");
    };
    let names: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn yaml_resolves_plain_words_by_the_core_schema_and_nothing_else() {
    let text = "[true, False, null, ~, 12, -3, +4, 0x1F, 0o17, 1.5, .5, 1e3, yes, no, on, 1_000, 0b1, 12:30, 2026-01-01, \
                '12', \"true\", !!str 12, ! 13, !!float 2]";
    assert_eq!(
        yaml(text),
        serde_json::json!([[
            true,
            false,
            null,
            null,
            12,
            -3,
            4,
            31,
            15,
            1.5,
            0.5,
            1000.0,
            "yes",
            "no",
            "on",
            "1_000",
            "0b1",
            "12:30",
            "2026-01-01",
            "12",
            "true",
            "12",
            "13",
            2.0
        ]])
    );
}

#[test]
fn each_document_of_a_yaml_file_is_a_root() {
    assert_eq!(
        yaml("a: 1\n---\n- 2\n---\nthree\n"),
        serde_json::json!([{"a": 1}, [2], "three"])
    );
    assert_eq!(yaml(""), serde_json::json!([]));
    assert_eq!(yaml("# nothing but words\n"), serde_json::json!([]));
}

#[test]
fn an_alias_repeats_its_anchor() {
    assert_eq!(
        yaml("a: &x {b: [1, 2]}\nc: *x\nd: [*x]\n"),
        serde_json::json!([{"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": [{"b": [1, 2]}]}])
    );
}

#[test]
fn a_key_of_yaml_is_the_text_as_it_was_written() {
    assert_eq!(
        yaml("1: a\ntrue: b\n'null': c\n"),
        serde_json::json!([{"1": "a", "true": "b", "null": "c"}])
    );
}

#[test]
fn json_understands_every_escape() {
    let document = Document::json("a.json", r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#).unwrap();
    assert_eq!(
        document.roots.first().map(|root| root.value.clone()),
        Some(Value::Text("\"\\/\u{8}\u{c}\n\r\té😀".to_string()))
    );
}

#[test]
fn numbers_are_whole_where_they_fit_and_decimal_where_not() {
    let read = |text: &str| {
        Document::json("a.json", text)
            .unwrap()
            .roots
            .remove(0)
            .value
    };
    assert_eq!(read("9223372036854775807"), Value::Int(i64::MAX));
    assert_eq!(
        read("9223372036854775808"),
        Value::Float(9223372036854775808.0)
    );
    assert_eq!(read("-0.5e1"), Value::Float(-5.0));
}

#[test]
fn dates_of_toml_are_texts() {
    let read = json(Document::toml("a.toml", "a = 2026-11-21T09:30:00Z\nb = 2026-11-21").unwrap());
    assert_eq!(
        read,
        serde_json::json!([{"a": "2026-11-21T09:30:00Z", "b": "2026-11-21"}])
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert_eq!(yaml("\u{feff}a: 1"), serde_json::json!([{"a": 1}]));
    assert!(Document::json("a.json", "\u{feff}{}").is_ok());
    assert!(Document::toml("a.toml", "\u{feff}a = 1").is_ok());
}

#[test]
fn the_arguments_of_commands_are_nodes_without_places() {
    let json = serde_json::json!({"a": [1, 2.5, null, true, "x"], "b": {}});
    let node = Node::from_json(&json);
    assert_eq!(node.place, None);
    assert_eq!(node.to_json(), json);
}

// Refusing

#[test]
fn what_is_no_notation_is_refused_with_file_line_and_column() {
    for (text, expected) in [
        ("", "a.json: expected a value, found the end of the file"),
        (
            "{\"a\": 1,}",
            "a.json:1:9: expected a name in double quotes, found `}`",
        ),
        ("{\"a\" 1}", "a.json:1:6: expected `:`, found `1`"),
        ("[1\n 2]", "a.json:2:2: expected `,` or `]`, found `2`"),
        (
            "{\"a\": 1\n",
            "a.json:2:1: expected `,` or `}`, found the end of the file",
        ),
        ("[nul]", "a.json:1:2: expected a value, found `nul`"),
        ("[01]", "a.json:1:2: `01` is not a number"),
        ("[1.]", "a.json:1:2: `1.` is not a number"),
        ("[+1]", "a.json:1:2: expected a value, found `+`"),
        ("[1e999]", "a.json:1:2: this number is too large"),
        ("1 2", "a.json:1:3: expected the end of the file, found `2`"),
        ("\n \"abc", "a.json:2:2: this text has no closing quote"),
        (
            "[\"a\tb\"]",
            "a.json:1:4: a tab in a text; write it as an escape",
        ),
        (
            "[\"a\\x\"]",
            "a.json:1:4: unknown escape; `\\\\` is a backslash",
        ),
        ("[\"\\ud83d\"]", "a.json:1:3: half of a surrogate pair"),
        ("[\"\\ude00\"]", "a.json:1:3: half of a surrogate pair"),
        (
            "[\"\\ud83d\\u0041\"]",
            "a.json:1:3: half of a surrogate pair",
        ),
        (
            "[\"\\u12\"]",
            "a.json:1:3: `\\u` needs four hexadecimal digits",
        ),
        (
            "[\"\\u0000\"]",
            "a.json:1:3: a text cannot hold a NUL character",
        ),
        ("// a\n1", "a.json:1:1: expected a value, found `/`"),
    ] {
        let shown = complaint(Document::json("a.json", text));
        let expected = if text.is_empty() {
            expected.replace("a.json:", "a.json:1:1:")
        } else {
            expected.to_string()
        };
        assert_eq!(shown, expected, "{text:?}");
    }
}

#[test]
fn wrong_yaml_is_refused_with_file_line_and_column() {
    for (text, expected) in [
        (
            "a: 1\nb: 2\na: 3\n",
            "a.yaml:3:1: `a` is there twice; it is on line 1 already",
        ),
        (
            "a: &x [*x]\n",
            "a.yaml:1:8: this alias stands for no value that is complete here",
        ),
        (
            "? [a]\n: b\n",
            "a.yaml:1:3: the name of an entry must be a text",
        ),
        ("~: b\n", "a.yaml:1:1: an entry needs a name"),
        (
            "a: &x {b: 1}\nc:\n  <<: *x\n",
            "a.yaml:3:3: merge keys (`<<`) are not read; write the entries out",
        ),
        (
            "a: !secret x\n",
            "a.yaml:1:4: the tag `!secret` is not known here",
        ),
        ("a: !!int x\n", "a.yaml:1:4: `x` is no `!!int`"),
        (
            "a: .inf\n",
            "a.yaml:1:4: a number must be finite; quote it if it is a text",
        ),
        (
            "a: 0xffffffffffffffffff\n",
            "a.yaml:1:4: this number is too large; quote it if it is a text",
        ),
        (
            "a: \"\\0\"\n",
            "a.yaml:1:4: a text cannot hold a NUL character",
        ),
    ] {
        let shown = complaint(Document::yaml("a.yaml", text));
        assert_eq!(shown.lines().next(), Some(expected), "{text:?}");
    }
    for text in ["a: [1", "a: 'x", "a: b: c", "*x", "a: *nobody"] {
        let shown = complaint(Document::yaml("a.yaml", text));
        assert!(
            shown.starts_with("a.yaml:1:") || shown.starts_with("a.yaml:2:"),
            "{shown}"
        );
    }
}

#[test]
fn wrong_toml_is_refused_with_file_line_and_column() {
    for (text, expected) in [
        ("a = 1\nb = \n", "a.toml:2:"),
        ("a = 1\na = 2\n", "a.toml:2:1: duplicate key"),
        ("a = inf\n", "a.toml:1:5: this is not a finite number"),
        (
            "a = 99999999999999999999\n",
            "a.toml:1:5: this number is too large",
        ),
        (
            "a = \"\\u0000\"\n",
            "a.toml:1:5: a text cannot hold a NUL character",
        ),
        ("[a\n", "a.toml:1:"),
    ] {
        let shown = complaint(Document::toml("a.toml", text));
        assert!(shown.starts_with(expected), "{text:?}: {shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }
}

#[test]
fn a_key_twice_is_refused_in_json() {
    assert_eq!(
        complaint(Document::json("a.json", "{\"a\": 1,\n \"a\": 2}")),
        "a.json:2:2: `a` is there twice; it is on line 1 already"
    );
}

#[test]
fn bytes_that_are_not_utf_8_and_nuls_are_refused_where_they_are() {
    assert_eq!(
        complaint(Document::open("a.yaml", b"a: 1\nb: \xff\n")),
        "a.yaml:2:4: this is not UTF-8 text"
    );
    for name in ["a.yaml", "a.json", "a.toml"] {
        assert_eq!(
            complaint(Document::open(name, b"\n \0")),
            format!("{name}:2:2: a text cannot hold a NUL character")
        );
    }
}

#[test]
fn a_hundred_thousand_levels_are_refused_by_every_notation() {
    let deep = 100_000;
    for (text, what) in [
        ("[".repeat(deep), "open lists"),
        ("{\"a\":".repeat(deep), "open tables"),
        (format!("a = {}", "[".repeat(deep)), "open lists of TOML"),
        (format!("a = {}", "{a=".repeat(deep)), "open tables of TOML"),
        (
            format!("a = {}1{}", "[".repeat(deep), "]".repeat(deep)),
            "lists of TOML",
        ),
        (format!("{} = 1", vec!["a"; deep].join(".")), "dotted keys"),
        (format!("[{}]", vec!["a"; deep].join(".")), "dotted tables"),
        ("- ".repeat(deep), "block lists"),
        ("? ".repeat(deep), "block tables"),
        ("{? ".repeat(deep), "flow tables"),
        (
            (0..2000)
                .map(|i| format!("{}a:\n", " ".repeat(i)))
                .collect(),
            "indents",
        ),
    ] {
        assert!(Document::json("a.json", &text).is_err(), "JSON, {what}");
        assert!(
            Document::yaml("a.yaml", &text).is_err()
                || what.contains("TOML")
                || what.starts_with("dotted"),
            "YAML, {what}"
        );
        assert!(Document::toml("a.toml", &text).is_err(), "TOML, {what}");
    }
}

#[test]
fn as_many_levels_as_allowed_are_read() {
    let limit = muster::document::DEPTH_LIMIT;
    let text = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for read in [Document::json, Document::yaml] {
        assert!(read("a", &text(limit)).is_ok());
        assert!(complaint(read("a", &text(limit + 1))).contains("nested more than 128 deep"));
    }
}

#[test]
fn aliases_cannot_unfold_beyond_the_limits() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let repeated = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{repeated}]\n"));
    }
    assert!(complaint(Document::yaml("a.yaml", &bomb)).contains("aliases repeat too much"));

    let mut long = format!("a: &a {}\nb:\n", "x".repeat(100_000));
    long.push_str(&"- *a\n".repeat(1000));
    assert!(complaint(Document::yaml("a.yaml", &long)).contains("aliases repeat too much"));

    let mut tower = String::from("a0: &a0 [x]\n");
    for i in 1..10_000 {
        tower.push_str(&format!(
            "a{i}: &a{i} [[[[[[[[[[[[[[[[*a{}]]]]]]]]]]]]]]]]\n",
            i - 1
        ));
    }
    assert!(complaint(Document::yaml("a.yaml", &tower)).contains("nested more than 128 deep"));
}

// Taking values out

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rank {
    Fifo,
    Age,
}

const RANKS: &[(&str, Rank)] = &[("fifo", Rank::Fifo), ("age", Rank::Age)];

/// Opens the one root of a YAML text as a table and gives back all complaints.
fn taking(text: &str, take: impl FnOnce(&mut Table<'_, '_>)) -> Vec<String> {
    let document = Document::yaml("a.yaml", text).unwrap();
    let mut complaints = Complaints::new("a.yaml");
    if let Some(mut table) = Table::open(&document.roots[0], "plugin", &mut complaints) {
        take(&mut table);
        table.finish();
    }
    complaints.iter().map(ToString::to_string).collect()
}

#[test]
fn a_table_gives_what_was_written_and_nothing_for_what_is_absent_or_null() {
    let text = "name: x\ncount: 3\nratio: 0.5\nwhole: 2\non: false\nwait: 90s\nat: 2026-11-21T09:30:00Z\nrank: age\n\
                one: a\nmany: [a, b]\nfree: {x: 1, y: [2]}\nnothing: null\nempty: ''\n";
    let complaints = taking(text, |t| {
        assert_eq!(t.word("name").as_deref(), Some("x"));
        assert_eq!(t.int_in::<u8>("count", 0..=9), Some(3));
        assert_eq!(t.number("ratio"), Some(0.5));
        assert_eq!(t.number("whole"), Some(2.0));
        assert_eq!(t.bool("on"), Some(false));
        assert_eq!(t.span("wait"), Some(Span::seconds(90)));
        assert_eq!(t.moment("at"), Moment::parse("2026-11-21T09:30:00Z").ok());
        assert_eq!(t.one_of("rank", RANKS), Some(Rank::Age));
        assert_eq!(t.texts("one"), Some(vec!["a".to_string()]));
        assert_eq!(
            t.texts("many"),
            Some(vec!["a".to_string(), "b".to_string()])
        );
        assert_eq!(
            t.object("free").map(serde_json::Value::Object),
            Some(serde_json::json!({"x": 1, "y": [2]}))
        );
        let keys = t.entries("free", |key: &Key, _| Some(key.name.clone()));
        assert_eq!(keys, Some(vec!["x".to_string(), "y".to_string()]));
        assert_eq!(t.text("nothing"), None);
        assert!(t.node("nothing").is_some());
        assert_eq!(t.text("empty").as_deref(), Some(""));
        assert_eq!(t.text("absent"), None);
        assert!(t.require("name"));
    });
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn every_complaint_of_a_table_is_told_at_once() {
    let text = "name: 5\ncount: 12\nratio: x\non: yes\nwait: 5\npause: soon\nat: 7\nrank: fif\nmany: [a, {}]\nfree: []\n\
                inner:\n  levle: 1\nodd: 1\n";
    let complaints = taking(text, |t| {
        t.require("missing");
        t.word("name");
        t.int_in::<u8>("count", 0..=9);
        t.number("ratio");
        t.bool("on");
        t.span("wait");
        t.span("pause");
        t.moment("at");
        t.one_of("rank", RANKS);
        t.texts("many");
        t.object("free");
        if let Some(mut inner) = t.table("inner") {
            inner.int_in::<i64>("level", 0..=4);
            inner.finish();
        }
    });
    let pause = Span::parse("soon").unwrap_err();
    assert_eq!(
        complaints,
        [
            "a.yaml:1:1: field `plugin.missing` is missing".to_string(),
            "a.yaml:1:7: `plugin.name`: expected a text, found the number 5\n  help: put it in quotes to make it a text".to_string(),
            "a.yaml:2:8: `plugin.count`: expected a whole number from 0 to 9, found the number 12".to_string(),
            "a.yaml:3:8: `plugin.ratio`: expected a number, found the text \"x\"".to_string(),
            "a.yaml:4:5: `plugin.on`: expected true or false, found the text \"yes\"".to_string(),
            "a.yaml:5:7: `plugin.wait`: expected a length of time such as \"90s\" or \"1h\", found the number 5".to_string(),
            format!("a.yaml:6:8: `plugin.pause`: {pause}"),
            "a.yaml:7:5: `plugin.at`: expected an instant such as \"2026-11-21T09:30:00Z\", found the number 7".to_string(),
            "a.yaml:8:7: `plugin.rank`: expected `fifo` or `age`, found the text \"fif\"\n  help: did you mean `fifo`?".to_string(),
            "a.yaml:9:11: `plugin.many[1]`: expected a text, found a table".to_string(),
            "a.yaml:10:7: `plugin.free`: expected a table, found a list".to_string(),
            "a.yaml:12:3: unknown field `plugin.inner.levle`\n  help: did you mean `level`? known here: level".to_string(),
            "a.yaml:13:1: unknown field `plugin.odd`\n  help: known here: at, count, free, inner, many, missing, name, on, pause, rank, ratio, wait".to_string(),
        ]
    );
}

#[test]
fn what_is_no_table_cannot_be_opened_as_one() {
    assert_eq!(
        taking("[1]", |_| panic!("opened")),
        ["a.yaml:1:1: `plugin`: expected a table, found a list"]
    );
}

#[test]
fn the_list_of_known_names_ends_at_twenty() {
    let names: Vec<String> = (10..35).map(|i| format!("name{i}")).collect();
    let complaints = taking("zzzzzz: 1", |t| {
        for name in &names {
            t.text(name);
        }
    });
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0].ends_with("name28, name29 and 5 more"),
        "{complaints:?}"
    );
}

#[test]
fn names_that_are_no_plain_words_are_quoted_in_paths() {
    let complaints = taking("'a b.c': 1", |_| {});
    assert_eq!(
        complaints,
        ["a.yaml:1:1: unknown field `plugin.\"a b.c\"`\n  help: nothing is known here"]
    );
}

#[test]
fn a_secret_is_never_repeated() {
    let complaints = taking("secret: 123456\n", |t| {
        assert_eq!(t.get("secret").and_then(|field| field.secret()), None);
    });
    assert_eq!(
        complaints,
        ["a.yaml:1:9: `plugin.secret`: expected a text that is not empty"]
    );
}

#[test]
fn complaints_about_arguments_of_commands_have_no_file() {
    let node = Node::from_json(&serde_json::json!({"limit": -1}));
    let mut complaints = Complaints::new("");
    let mut table = Table::open(&node, "", &mut complaints).unwrap();
    assert_eq!(table.int_in::<u32>("limit", 0..=i64::MAX), None);
    table.finish();
    let complaint = &complaints.into_vec()[0];
    assert_eq!(
        complaint.to_string(),
        "`limit`: expected a whole number, 0 or more, found the number -1"
    );
    assert_eq!(
        complaint.to_json(),
        serde_json::json!({"severity": "error", "path": "limit", "message": "`limit`: expected a whole number, 0 or more, found the number -1"})
    );
}

#[test]
fn a_complaint_as_json_has_its_place_and_its_help() {
    let document = Document::yaml("a.yaml", "rnak: 1").unwrap();
    let mut complaints = Complaints::new("a.yaml").of_settings();
    let mut table = Table::open(&document.roots[0], "", &mut complaints).unwrap();
    table.text("rank");
    table.finish();
    assert_eq!(
        complaints.into_vec()[0].to_json(),
        serde_json::json!({
            "severity": "error", "file": "a.yaml", "line": 1, "column": 1, "path": "rnak",
            "message": "unknown setting `rnak`", "help": "did you mean `rank`? known here: rank"
        })
    );
}

// Did you mean

#[test]
fn the_nearest_names_come_first_and_equal_ones_by_name() {
    let known = ["rank", "limit", "credit", "split", "format", "share"];
    assert_eq!(nearest("rnak", known), ["rank"]);
    assert_eq!(nearest("limt", known), ["limit"]);
    assert_eq!(nearest("Credit", known), ["credit"]);
    assert_eq!(nearest("zzzz", known), [""; 0]);
    assert_eq!(
        nearest("bat", ["rat", "cat", "hat", "mat"]),
        ["cat", "hat", "mat"]
    );
    assert_eq!(
        nearest("formats", ["formal", "format"]),
        ["format", "formal"]
    );
}

#[test]
fn other_ways_to_write_a_name_are_no_mistakes_of_letters() {
    let known = ["minimum_scan_level", "scan_level"];
    assert_eq!(nearest("minimumScanLevel", known), ["minimum_scan_level"]);
    assert_eq!(nearest("minimum-scan-level", known), ["minimum_scan_level"]);
    assert_eq!(nearest("MINIMUM_SCAN_LEVEL", known), ["minimum_scan_level"]);
}

// Whatever is written

/// Texts that look like the notations, which random characters hardly ever do.
fn scribble() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "a",
        "b",
        ": ",
        ":",
        "- ",
        "-",
        "\n",
        "\n  ",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "'",
        "|",
        ">",
        "|2-",
        "&a ",
        "*a",
        "!",
        "!!str ",
        "!x",
        "? ",
        "?",
        "---",
        "...",
        "%YAML 1.2\n",
        "%TAG ! x\n",
        "#",
        "\\",
        "\\u0000",
        "\\ud83d",
        "=",
        ".",
        "1",
        "0x",
        "1e9",
        "null",
        "true",
        "é",
        "😀",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\r",
        "\"\"\"",
        "[[",
        "]]",
        "<<",
        "@",
        "`",
        "\u{1}",
        "2026-01-01",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

#[test]
fn the_other_zero_of_json_stays_what_it_is() {
    let read = Document::json("a", "-0").map(|document| document.roots[0].to_json());
    assert_eq!(read.expect("a number").to_string(), "-0.0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_reader_panic(text in prop_oneof![scribble(), any::<String>()]) {
        for read in [Document::json, Document::yaml, Document::toml] {
            if let Ok(document) = read("a", &text) {
                for root in &document.roots {
                    let mut complaints = Complaints::new("a");
                    if let Some(mut table) = Table::open(root, "", &mut complaints) {
                        table.span("a");
                        table.finish();
                    }
                    for complaint in complaints.iter() {
                        let _ = complaint.to_string();
                    }
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for name in ["a.json", "a.yaml", "a.toml"] {
            let _ = Document::open(name, &bytes).map_err(|complaint| complaint.to_string());
        }
    }

    #[test]
    fn our_json_reader_agrees_with_serde(text in "[\\[\\]{}\",:0-9a-eE+. \\-\\\\nultrfs]{0,20}") {
        let ours = Document::json("a", &text).map(|d| d.roots[0].to_json());
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.to_string(), Node::from_json(&theirs).to_json().to_string()),
            (Err(complaint), Ok(_)) => {
                let message = complaint.message;
                prop_assert!(message.contains("twice") || message.contains("NUL"), "{}", message);
            }
            (Ok(ours), Err(error)) => prop_assert!(false, "{} but {}", ours, error),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn what_serde_writes_is_read_back(texts in prop::collection::vec(any::<String>(), 0..5), number in any::<i64>()) {
        let texts: Vec<String> = texts.into_iter().map(|text| text.replace('\0', "")).collect();
        let json = serde_json::json!({"texts": texts, "number": number});
        let read = Document::json("a", &json.to_string()).unwrap();
        prop_assert_eq!(read.roots[0].to_json(), json);
    }

    #[test]
    fn a_name_is_nearest_to_itself(word in "[a-z_]{1,12}", other in "[a-z_]{1,12}") {
        let near = nearest(&word, [other.as_str(), word.as_str()]);
        prop_assert_eq!(near.first(), Some(&word.as_str()));
    }
}
