//! The documents of the contract: they are what is checked in, they take what the readers take and refuse what these
//! refuse, and every example of the contract and every message that is written is as they say.

mod support;

#[path = "contract/laws.rs"]
mod laws;
#[path = "contract/readers.rs"]
mod readers;
#[path = "contract/written.rs"]
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boon::{Compiler, SchemaIndex, Schemas};
use muster::contract;
use muster::document::Document;
use muster::settings::{self, KEYS, Kind};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A schema that can be asked.
struct Schema {
    all: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn named(name: &str) -> Schema {
        Schema::of(&contract::document(name).unwrap_or_else(|| panic!("{name} is described")))
    }

    fn of(schema: &Value) -> Schema {
        let mut schema = schema.clone();
        if let Value::Object(members) = &mut schema {
            members.remove("$id");
        }
        let (mut all, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.set_default_draft(boon::Draft::V7);
        compiler
            .add_resource("schema.json", schema)
            .expect("a schema");
        let index = compiler
            .compile("schema.json", &mut all)
            .unwrap_or_else(|wrong| panic!("it is a schema: {wrong}"));
        Schema { all, index }
    }

    fn takes(&self, value: &Value) -> bool {
        self.all.validate(value, self.index).is_ok()
    }

    #[track_caller]
    fn must_take(&self, value: &Value) {
        if let Err(wrong) = self.all.validate(value, self.index) {
            panic!("{value}\n{wrong}");
        }
    }
}

/// Where the documents are checked in.
fn kept() -> PathBuf {
    root().join("config/contract")
}

#[test]
fn the_documents_that_are_checked_in_are_those_that_schema_prints() {
    let made = root().join("target/contract");
    let _ = fs::remove_dir_all(&made);
    let done = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["schema", "--dir"])
        .arg(&made)
        // It needs no settings, so wrong ones are no hindrance.
        .env("MUSTER_CONFIG", "/nowhere/muster.toml")
        .output()
        .expect("muster runs");
    assert!(done.status.success(), "{done:?}");
    let names = |folder: &Path| {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| {
                entry
                    .expect("a file")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    };
    let again = "write them anew: cargo run -- schema --dir config/contract";
    assert_eq!(names(&made), names(&kept()), "{again}");
    // The settings stand beside the contract.
    assert_eq!(names(&made).len(), contract::names().count() + 1);
    for name in names(&made) {
        let text =
            |folder: PathBuf| fs::read_to_string(folder.join(&name)).expect("it can be read");
        assert!(
            text(made.clone()) == text(kept()),
            "config/contract/{name} is not what `muster schema` prints; {again}"
        );
    }
}

#[test]
fn a_schema_is_printed_by_its_name_and_an_unknown_one_is_told_the_nearest() {
    let asked = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_muster"))
            .arg("schema")
            .args(arguments)
            .output()
            .expect("muster runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    for (name, about) in contract::names() {
        let (code, out, _) = asked(&[name]);
        assert_eq!(code, Some(0));
        let printed: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(Some(printed), contract::document(name));
        assert!(asked(&[]).1.contains(about), "{name} is listed");
    }
    let (code, out, err) = asked(&["shedule"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("did you mean schedule?"), "{err}");
    let (_, out, _) = asked(&["--output", "json"]);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed[0]["name"], "event");
}

/// A file in which one key of the settings has a value; `*` is called `a`, and a list has one item.
fn with(key: &str, value: Value) -> Value {
    let (head, value) = match key.split_once('.') {
        Some((head, rest)) => (head, with(rest, value)),
        None => (key, value),
    };
    match head.strip_suffix("[]") {
        Some(list) => json!({list: [value]}),
        None => json!({head.replace('*', "a"): value}),
    }
}

#[test]
fn settings_are_as_their_schema_says() {
    let schema = Schema::of(&settings::schema());
    for name in ["example.toml", "openkat.toml"] {
        let path = root().join("config").join(name);
        let text = fs::read_to_string(&path).expect("an example");
        let read = Document::toml(name, &text).expect("TOML");
        schema.must_take(&read.roots[0].to_json());
    }
    for (key, kind) in KEYS {
        // A key of an item of a list has others beside it that are needed.
        let alone = !key.contains("[]");
        let right = match kind {
            Kind::Text if key.starts_with("log.") || key.starts_with("workers.") => continue,
            Kind::Text => json!("1s"),
            Kind::Int => json!(5),
            Kind::Bool => json!(true),
            Kind::FileOnly => json!([]),
        };
        if alone && *kind != Kind::FileOnly {
            schema.must_take(&with(key, right));
        }
        for wrong in [json!([[1]]), json!({"a": {"b": [1]}}), json!(1.5)] {
            assert!(!schema.takes(&with(key, wrong)), "{key}");
        }
        assert!(!schema.takes(&with(&format!("{key}x"), json!(1))), "{key}");
    }
    for (wrong, right) in [
        (
            "{\"log\":{\"level\":\"loud\"}}",
            "{\"log\":{\"level\":\"warn\"}}",
        ),
        (
            "{\"workers\":{\"a\":{\"rank\":\"best\"}}}",
            "{\"workers\":{\"a\":{\"rank\":\"age\"}}}",
        ),
        (
            "{\"keys\":[{\"id\":\"k\"}]}",
            "{\"keys\":[{\"id\":\"k\",\"secret\":\"s\",\"organizations\":\"acme\"}]}",
        ),
        (
            "{\"bus\":{\"intake\":[{}]}}",
            "{\"bus\":{\"intake\":[{\"queue\":\"q\"}]}}",
        ),
    ] {
        let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert!(!schema.takes(&json(wrong)), "{wrong}");
        schema.must_take(&json(right));
    }
}

/// An AsyncAPI parser, of those who define the format, finds nothing wrong with the document.
#[test]
fn an_asyncapi_parser_reads_the_document_and_finds_nothing_wrong() {
    let installed = root().join("target/asyncapi");
    assert!(
        installed.join("node_modules/@asyncapi/parser").is_dir(),
        "the AsyncAPI parser is not there; set it up: bash tests/all.sh, or\n  mkdir -p target/asyncapi && cp tests/contract/parser/package*.json target/asyncapi && npm ci --ignore-scripts --prefix target/asyncapi"
    );
    let mut child = Command::new("node")
        .arg(root().join("tests/contract/parser/parse.js"))
        .arg(&installed)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node runs; set it up: bash tests/all.sh");
    let document = contract::document(contract::ASYNCAPI).expect("there is one");
    let mut input = child.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, document.to_string().as_bytes()).expect("it reads");
    drop(input);
    let done = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(told.contains("11 messages"), "{told}");
}

#[test]
fn the_examples_of_the_asyncapi_document_are_as_its_schemas_say() {
    let document = contract::document(contract::ASYNCAPI).expect("there is one");
    let messages = document["components"]["messages"]
        .as_object()
        .expect("messages");
    for (name, message) in messages {
        let schema = Schema::of(&document["components"]["schemas"][name]);
        let examples = message["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name} has none");
        for example in examples {
            schema.must_take(&example["payload"]);
            assert!(
                readers::takes(name, &example["payload"]).unwrap_or(true),
                "{example}"
            );
        }
    }
}

/// An example of the contract as it stands there, and what its ellipses stand for.
type Example = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const EXAMPLES: [Example; 16] = [
    ("event", "wire/cloudevent.json", &[]),
    ("openkat-scan-profile", "wire/scan_profile_create.json", &[]),
    ("openkat-scan-profile", "wire/scan_profile_delete.json", &[]),
    ("openkat-raw-file", "wire/raw_file.json", &[]),
    ("openkat-object", "wire/object_event.json", &[]),
    (
        "task",
        "contract/examples/task.json",
        &[("\"…\"", "\"2026-11-21T09:30:00Z\"")],
    ),
    ("control", "contract/examples/control.json", &[]),
    (
        "request",
        "contract/examples/request.json",
        &[("{…}", "{\"plugins\": \"True\", \"recurrences\": \"daily\"}")],
    ),
    (
        "reply",
        "contract/examples/reply_done.json",
        &[("{…}", "{}")],
    ),
    ("reply", "contract/examples/reply_refused.json", &[]),
    (
        "question",
        "contract/examples/question.json",
        &[
            ("{…}", "{}"),
            ("\"trigger_type\":…", "\"trigger_type\":\"hostname\""),
            ("\"now\":\"…\"", "\"now\":\"2026-11-21T09:30:00Z\""),
            (":…", ":\"True\""),
        ],
    ),
    ("answer", "contract/examples/answer.json", &[]),
    (
        "answer",
        "contract/examples/answer_invalid.json",
        &[(
            "{code, message, span, …}",
            "{\"code\":\"syntax\",\"message\":\"m\",\"span\":{}}",
        )],
    ),
    (
        "line",
        "contract/examples/line_status.json",
        &[
            ("\"status\":…", "\"status\":\"completed\""),
            (":…", ":\"t-1\""),
        ],
    ),
    (
        "line",
        "contract/examples/line_command.json",
        &[(":…", ":\"stats\"")],
    ),
    (
        "line",
        "contract/examples/line_clock.json",
        &[("…", "2026-11-21T09:30:00Z")],
    ),
];

#[test]
fn every_example_of_the_contract_is_as_its_schema_says_and_is_read() {
    for (schema, file, fillings) in EXAMPLES {
        let mut text = fs::read_to_string(root().join("tests").join(file)).expect("an example");
        for (ellipsis, filling) in fillings {
            assert!(text.contains(ellipsis), "{file}: {ellipsis}");
            text = text.replace(ellipsis, filling);
        }
        let example: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}: {text}"));
        Schema::named(schema).must_take(&example);
        assert!(
            readers::takes(schema, &example).unwrap_or(true),
            "{file}: {text}"
        );
    }
}
