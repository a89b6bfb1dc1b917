//! The conformance table of the query language: `tests/language/*.toml`.
//!
//! A file holds the types that it speaks of, the defaults of its cases, and the cases. A case is a query with any of
//!
//! - `yes`, `no`: objects (JSON) of which it is true, and of which it is false;
//! - `diagnostic`: the exact text of all that is wrong with it;
//! - `warning`: the exact text of its warnings;
//! - `canonical`: its canonical text;
//! - `costly`: objects for which it runs out of steps.
//!
//! and, where it needs them, `type`, `label`, `trigger`, `trigger_type`, `previous`, `parameters`, `now`, `stored` (other
//! objects), `versions` (of the subject, each with `from`, `until` and `object`) and `sets`. What a case leaves out, the
//! `[defaults]` of its file say. Each pair of query and object counts as a case, and so does each expected text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use muster::moment::Moment;
use muster::query::{
    Context, Diagnostic, Facts, Fields, KnownSets, ParameterTypes, Query, Schema, Types, Version,
    World,
};
use serde_json::{Map, Value};
use toml::Table;

struct Report {
    cases: usize,
    failures: Vec<String>,
}

fn run(name: &str) -> Report {
    let path = format!("{}/tests/language/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the table is there");
    let file: Table = text.parse().unwrap_or_else(|error: toml::de::Error| {
        panic!("{path}: {} at {:?}", error.message(), error.span())
    });
    let types = types(&file);
    let nothing = Table::new();
    let defaults = file.get("defaults").and_then(toml::Value::as_table);
    let mut report = Report {
        cases: 0,
        failures: Vec::new(),
    };
    for entry in file["case"].as_array().expect("cases") {
        let case = Case {
            entry: entry.as_table().expect("a case is a table"),
            defaults: defaults.unwrap_or(&nothing),
            types: &types,
        };
        case.run(&mut report);
    }
    report
}

fn types(file: &Table) -> Types {
    let mut types = Types::new();
    for (name, fields) in file
        .get("types")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten()
    {
        let fields: Vec<(&str, &str)> = fields
            .as_table()
            .expect("fields")
            .iter()
            .map(|(field, word)| (field.as_str(), word.as_str().expect("a type word")))
            .collect();
        types.declare(name, &fields).expect("type words");
    }
    types
}

struct Case<'c> {
    entry: &'c Table,
    defaults: &'c Table,
    types: &'c Types,
}

impl<'c> Case<'c> {
    fn get(&self, key: &str) -> Option<&'c toml::Value> {
        self.entry.get(key).or_else(|| self.defaults.get(key))
    }

    fn text(&self, key: &str) -> Option<&'c str> {
        self.get(key).map(|value| value.as_str().expect("a string"))
    }

    fn object(&self, key: &str) -> Option<Map<String, Value>> {
        self.text(key).map(object)
    }

    fn objects(&self, key: &str) -> Vec<&'c str> {
        let list = self.get(key).and_then(toml::Value::as_array);
        list.into_iter()
            .flatten()
            .map(|item| item.as_str().expect("an object as JSON"))
            .collect()
    }

    fn schema(&self, name: &str) -> Schema {
        if name == "plugin" && !self.types.knows(name) {
            return Schema::plugin();
        }
        self.types.schema(name)
    }

    fn run(&self, report: &mut Report) {
        let query = self.entry["query"].as_str().expect("a query");
        let schema = self.schema(self.text("type").unwrap_or("object"));
        let trigger_schema = self.text("trigger_type").map(|name| self.schema(name));
        let trigger = self.object("trigger");
        let previous = self.object("previous");
        let parameters = self.object("parameters").unwrap_or_default();
        let parameter_types = ParameterTypes::of(&parameters);
        let sets = self.sets();
        let names: BTreeSet<String> = sets.keys().cloned().collect();
        let context = Context {
            label: self.text("label").unwrap_or("query"),
            schema: &schema,
            trigger: trigger_schema.as_ref(),
            previous: previous.is_some(),
            parameters: &parameter_types,
            sets: if sets.is_empty() {
                KnownSets::Any
            } else {
                KnownSets::Only(&names)
            },
        };
        let outcome = Query::compile(query, &context);
        let mut fail = |what: String| report.failures.push(format!("{query}\n{what}"));
        report.cases += 1;
        if let Some(expected) = self.entry.get("diagnostic") {
            let expected = expected.as_str().expect("a text");
            match &outcome {
                Ok(_) => fail("was not refused".to_owned()),
                Err(found) => {
                    let text = rendered(found);
                    if text.trim_end() != expected.trim_end() {
                        fail(format!("expected:\n{expected}\nfound:\n{text}"));
                    }
                    for diagnostic in found {
                        self.repairs(diagnostic, &context, &mut fail);
                    }
                }
            }
            return;
        }
        let compiled = match outcome {
            Ok(compiled) => compiled,
            Err(found) => return fail(rendered(&found)),
        };
        let expected = self.text("warning").unwrap_or("");
        let text = rendered(compiled.warnings());
        if self.entry.contains_key("warning") && text.trim_end() != expected.trim_end() {
            fail(format!("expected:\n{expected}\nfound:\n{text}"));
        }
        if let Some(expected) = self.text("canonical") {
            if compiled.canonical() != expected {
                fail(format!("canonical: {}", compiled.canonical()));
            }
            let again = Query::compile(&compiled.canonical(), &context).expect("compiles again");
            if again.written() != compiled.written() {
                fail("the canonical text says something else".to_owned());
            }
        }
        let now = self.text("now").unwrap_or("2026-11-21T09:30:00Z");
        let world = Stored {
            objects: self.objects("stored").into_iter().map(object).collect(),
            versions: self.versions(),
            sets,
        };
        let mut asked = 0;
        for (key, expected) in [("yes", Ok(true)), ("no", Ok(false)), ("costly", Err(()))] {
            for text in self.objects(key) {
                asked += 1;
                let subject = object(text);
                let facts = Facts {
                    subject: &subject,
                    trigger: trigger.as_ref().map(|fields| fields as &dyn Fields),
                    previous: previous.as_ref().map(|fields| fields as &dyn Fields),
                    parameters: &parameters,
                    now: Moment::parse(now).expect("an instant"),
                    world: &world,
                };
                let answer = compiled.answers(&facts).map_err(|_| ());
                if answer != expected {
                    let shown: String = text.chars().take(200).collect();
                    fail(format!("of {shown}: {answer:?}, expected {expected:?}"));
                }
                if answer.is_ok() && compiled.explain(&facts).outcome != answer.ok() {
                    fail("the explanation says something else than the answer".to_owned());
                }
            }
        }
        report.cases += asked.max(1) - 1;
        let checked =
            asked > 0 || self.entry.contains_key("warning") || self.entry.contains_key("canonical");
        if !checked {
            fail("the case expects nothing".to_owned());
        }
    }

    /// What a diagnostic offers as a replacement must be a query.
    fn repairs(
        &self,
        diagnostic: &Diagnostic,
        context: &Context<'_>,
        fail: &mut impl FnMut(String),
    ) {
        let Some(repaired) = diagnostic.repaired() else {
            return;
        };
        let Err(left) = Query::compile(&repaired, context) else {
            return;
        };
        // Of several findings a repair mends one.
        let expected = self.entry["diagnostic"].as_str().unwrap_or("");
        let alone = expected.matches("error[").count() == 1;
        let same =
            |other: &Diagnostic| other.code == diagnostic.code && other.span == diagnostic.span;
        if alone || left.iter().any(same) {
            fail(format!(
                "the replacement is refused: {repaired}\n{}",
                rendered(&left)
            ));
        }
    }

    fn sets(&self) -> BTreeMap<String, BTreeSet<String>> {
        let table = self.get("sets").and_then(toml::Value::as_table);
        table
            .into_iter()
            .flatten()
            .map(|(name, keys)| {
                let keys = keys.as_array().expect("keys").iter();
                let keys = keys.map(|key| key.as_str().expect("a key").to_owned());
                (name.clone(), keys.collect())
            })
            .collect()
    }

    fn versions(&self) -> Vec<Kept> {
        let list = self.get("versions").and_then(toml::Value::as_array);
        let moment = |entry: &Table, key: &str| {
            let text = entry.get(key)?.as_str().expect("an instant");
            Some(Moment::parse(text).expect("an instant"))
        };
        list.into_iter()
            .flatten()
            .map(|entry| {
                let entry = entry.as_table().expect("a version");
                Kept {
                    from: moment(entry, "from").expect("from"),
                    until: moment(entry, "until"),
                    fields: object(entry["object"].as_str().expect("an object")),
                }
            })
            .collect()
    }
}

fn object(text: &str) -> Map<String, Value> {
    // A long list is written as {"list": "x*5"}: five times "x".
    let mut map: Map<String, Value> = serde_json::from_str(text).expect("an object");
    for value in map.values_mut() {
        if let Some((item, count)) = value.as_str().and_then(|text| text.split_once("×"))
            && let Ok(count) = count.parse::<usize>()
        {
            *value = Value::Array(vec![Value::String(item.to_owned()); count]);
        }
    }
    map
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        write!(text, "{diagnostic}").expect("a string takes text");
    }
    text
}

struct Kept {
    from: Moment,
    until: Option<Moment>,
    fields: Map<String, Value>,
}

/// Other objects, in memory.
struct Stored {
    objects: Vec<Map<String, Value>>,
    versions: Vec<Kept>,
    sets: BTreeMap<String, BTreeSet<String>>,
}

impl Stored {
    fn of<'s>(&'s self, object_type: &'s str) -> impl Iterator<Item = &'s Map<String, Value>> {
        self.objects
            .iter()
            .filter(move |object| object["object_type"] == object_type)
    }
}

impl World for Stored {
    fn object(&self, object_type: &str, primary_key: &str) -> Option<Box<dyn Fields + '_>> {
        let found = self.objects.iter().find(|object| {
            object["object_type"] == object_type && object["primary_key"] == primary_key
        })?;
        Some(Box::new(found))
    }

    fn referrers(
        &self,
        object_type: &str,
        field: &str,
        primary_key: &str,
    ) -> Vec<Box<dyn Fields + '_>> {
        let object_type = object_type.to_owned();
        self.of(&object_type.clone())
            .filter(|object| match object.get(field) {
                Some(Value::Array(keys)) => keys.iter().any(|key| key == primary_key),
                Some(key) => key == primary_key,
                None => false,
            })
            .map(|object| {
                let id = object["primary_key"].as_str().expect("a key").to_owned();
                self.objects
                    .iter()
                    .find(|other| other["primary_key"] == id.as_str())
                    .map(|found| Box::new(found) as Box<dyn Fields>)
                    .expect("found again")
            })
            .collect()
    }

    fn versions<'a>(&'a self, _: &'a dyn Fields) -> Vec<Version<'a>> {
        self.versions
            .iter()
            .map(|kept| Version {
                from: kept.from,
                until: kept.until,
                fields: Box::new(&kept.fields),
            })
            .collect()
    }

    fn member(&self, set: &str, subject: &dyn Fields) -> bool {
        let key = subject.field("primary_key").map(Cow::into_owned);
        let keys = self.sets.get(set);
        key.is_some_and(|key| keys.is_some_and(|keys| keys.iter().any(|known| *known == key)))
    }
}

fn holds(name: &str) {
    let report = run(name);
    assert!(
        report.failures.is_empty(),
        "{} of {} in {name}.toml:\n\n{}",
        report.failures.len(),
        report.cases,
        report.failures.join("\n\n")
    );
}

/// Each table as a test of its own, and the list of all.
macro_rules! tables {
    ($($test:ident: $file:literal,)*) => {
        $(#[test] fn $test() { holds($file); })*
        const TABLES: &[&str] = &[$($file),*];
    };
}

tables! {
    the_documented_diagnostics_are_reproduced_to_the_letter: "documented_diagnostics",
    the_examples_of_the_specification_say_what_it_says: "examples",
    none_is_an_ordinary_value_for_equality_and_has_no_order: "none",
    what_djangoql_users_write_means_what_they_expect: "djangoql",
    undeclared_attributes_have_the_type_of_the_value_found: "dynamic",
    the_catalogue_of_plugins_can_be_asked: "plugins",
    related_objects_lists_and_records_can_be_asked: "related",
    dates_times_and_networks_are_compared_as_what_they_are: "time",
    the_trigger_its_earlier_state_and_parameters_are_constants: "outside",
    history_is_asked_version_by_version: "history",
    what_does_not_parse_is_explained: "complaints",
    unknown_names_come_with_the_known_ones: "names",
    values_and_operators_that_do_not_fit_are_refused: "types",
    what_is_probably_not_meant_is_warned_of: "warnings",
    one_query_has_one_text: "canonical",
}

#[test]
fn every_table_is_run_and_together_they_hold_at_least_four_hundred_cases() {
    let folder = format!("{}/tests/language", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    files.sort();
    let mut tables: Vec<String> = TABLES.iter().map(|name| (*name).to_owned()).collect();
    tables.sort();
    assert_eq!(files, tables);
    let cases: usize = TABLES.iter().map(|name| run(name).cases).sum();
    println!("{cases} cases");
    assert!(cases >= 400, "{cases} cases");
}

/// Each case before the open type and before one of those that the fuzzer declares.
#[test]
#[ignore = "writes the corpora of tests/fuzz"]
fn seeds() {
    let corpus = format!("{}/tests/fuzz/corpus", env!("CARGO_MANIFEST_DIR"));
    let folder = |target: &str| {
        let folder = format!("{corpus}/{target}");
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    };
    let (parser, judge) = (folder("parser"), folder("judge"));
    let mut written = 0;
    for name in TABLES {
        let path = format!("{}/tests/language/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let file: Table = std::fs::read_to_string(path)
            .expect("the table is there")
            .parse()
            .expect("TOML");
        let types = types(&file);
        let nothing = Table::new();
        let defaults = file.get("defaults").and_then(toml::Value::as_table);
        for entry in file["case"].as_array().expect("cases") {
            let case = Case {
                entry: entry.as_table().expect("a case is a table"),
                defaults: defaults.unwrap_or(&nothing),
                types: &types,
            };
            let query = case.text("query").expect("a query");
            let mut objects = case.objects("yes");
            objects.extend(case.objects("no"));
            objects.push("{}");
            let versions = case.get("versions").and_then(toml::Value::as_array);
            let versions: Vec<&str> = versions
                .into_iter()
                .flatten()
                .filter_map(|version| version["object"].as_str())
                .collect();
            let rest = [
                case.text("trigger").unwrap_or("{}").to_owned(),
                case.text("parameters").unwrap_or("{}").to_owned(),
                format!("[{}]", case.objects("stored").join(",")),
                format!("[{}]", versions.join(",")),
            ]
            .join("\0");
            for which in [0, 1 + u8::try_from(written % 3).expect("small")] {
                written += 1;
                let seed = [&[which], query.as_bytes()].concat();
                std::fs::write(format!("{parser}/seed-{written}"), seed).expect("written");
                for (at, object) in objects.iter().take(2).enumerate() {
                    let text = format!("{query}\0{object}\0{rest}");
                    let seed = [&[which, 0], text.as_bytes()].concat();
                    std::fs::write(format!("{judge}/seed-{written}-{at}"), seed).expect("written");
                }
            }
        }
    }
    assert!(written > 800, "{written}");
}
