//! The pure core, without any I/O: what a change triggers, which gate refuses it and under which name; unique keys and
//! grace; what a worker's word does to a task; how changes of one object merge; how declarations and recurrences are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster::catalogue::{Catalogue, Stored};
use muster::cli::rules::rules;
use muster::decide::{
    Desk, Ended, Finding, FindingOutcome, Impossible, Inputs, Plan, Refusal, World, change, gates,
    occurrence, page,
};
use muster::declaration::{Variables, read_file};
use muster::document::Document;
use muster::moment::{Moment, Span};
use muster::object::{Change, Level, Object, ObjectKey, Operation, Rank, Told, Word, merge};
use muster::rules::Rules;
use muster::run::{Cause, Reason, RunDraft};
use muster::schedule::{Input, Organization};
use muster::settings::Settings;
use muster::task::{Ids, TaskState};
use muster::trigger::Untouched;
use serde_json::{Map, Value, json};

const SETTINGS: &str = r#"
[workers.boefje]
level_gate = "required"
[workers.strict]
level_gate = "required"
minimum_scan_level = 1
requires_indemnification = true
[workers.reader]
"#;

fn moment(text: &str) -> Moment {
    Moment::parse(text).expect("an instant")
}

fn span(text: &str) -> Span {
    Span::parse(text).expect("a length of time")
}

fn rules_of(settings: &str) -> Rules {
    let document = Document::toml("muster.toml", settings).expect("TOML");
    let (settings, _) = Settings::read(&document, []).expect("settings");
    rules(&settings).expect("rules")
}

/// A catalogue, what is known, and a clock.
struct Case {
    catalogue: Catalogue,
    world: World,
    ids: Ids,
    now: Moment,
    events: i64,
}

impl Case {
    fn new(text: &str) -> Case {
        Case::with(SETTINGS, text)
    }

    fn with(settings: &str, text: &str) -> Case {
        let rules = Arc::new(rules_of(settings));
        let (declared, complaints) =
            read_file("case.yaml", text.as_bytes(), &Variables::default(), &rules);
        assert!(complaints.is_empty(), "{complaints:?}");
        let now = moment("2026-11-21T09:30:00Z");
        let stored: Vec<Stored> = declared
            .into_iter()
            .map(|entry| Stored {
                kind: entry.kind,
                id: entry.name.clone(),
                name: entry.name,
                organization: entry.organization,
                definition: entry.definition,
                revision: 1,
                created_at: now,
            })
            .collect();
        let catalogue = Catalogue::build(rules, 1, &stored);
        assert!(catalogue.broken.is_empty(), "{:?}", catalogue.broken);
        Case {
            catalogue,
            world: World::default(),
            ids: Ids::seeded(1),
            now,
            events: 0,
        }
    }

    fn told(&mut self, key: &str, object_type: &str, word: Word) -> Told {
        self.events += 1;
        Told {
            event_id: Some(format!("e-{}", self.events)),
            event_type: "object.changed".to_owned(),
            at: self.now,
            traceparent: None,
            change: Change {
                key: object_key(key),
                object_type: Some(object_type.to_owned()),
                rank: Rank {
                    number: self.events,
                    event_id: format!("e-{}", self.events),
                },
                word,
                create_counts: false,
            },
        }
    }

    fn decide(&mut self, told: &Told) -> Plan {
        self.try_decide(told).expect("it is possible")
    }

    fn try_decide(&mut self, told: &Told) -> Result<Plan, Impossible> {
        let mut plan = Plan::default();
        let mut desk = Desk {
            catalogue: &self.catalogue,
            now: self.now,
            ids: &mut self.ids,
            plan: &mut plan,
            findings: None,
        };
        change(&mut desk, &mut self.world, told).map(|_| plan)
    }

    fn explain(&mut self, told: &Told) -> Vec<Finding> {
        let mut plan = Plan::default();
        let mut findings = Vec::new();
        let mut desk = Desk {
            catalogue: &self.catalogue,
            now: self.now,
            ids: &mut self.ids,
            plan: &mut plan,
            findings: Some(&mut findings),
        };
        change(&mut desk, &mut self.world, told).expect("it is possible");
        findings
    }

    fn created(&mut self, key: &str, level: Option<u8>) -> Plan {
        let told = self.told(key, "hostname", object(true, json!({ "name": key }), level));
        self.decide(&told)
    }

    fn updated(&mut self, key: &str, attributes: Value) -> Plan {
        let told = self.told(key, "hostname", object(false, attributes, None));
        self.decide(&told)
    }

    fn level(&mut self, key: &str, level: Option<u8>) -> Plan {
        let level = level.map(|level| Level {
            level,
            profile_type: None,
        });
        let told = self.told(key, "hostname", Word::Level(level));
        self.decide(&told)
    }

    fn deleted(&mut self, key: &str) -> Plan {
        let told = self.told(key, "hostname", Word::Deleted);
        self.decide(&told)
    }

    fn file(&mut self, key: &str, mime_types: &[&str]) -> Plan {
        let told = self.told(
            key,
            "file",
            object(true, json!({ "mime_types": mime_types }), None),
        );
        self.decide(&told)
    }

    /// The tasks of a plan have ended.
    fn ended(&mut self, plan: &Plan) {
        for task in &plan.tasks {
            for input in &task.inputs {
                let ended = Ended {
                    at: self.now,
                    digest: input.digest.clone(),
                };
                self.world.ended.insert(input.unique_key.clone(), ended);
            }
        }
        self.world.open.clear();
    }

    fn later(&mut self, text: &str) {
        self.now = self.now.plus(span(text));
    }

    /// Every gate for one plugin.
    fn gate(
        &self,
        plugin: &str,
        organization: &Organization,
        input: Option<&Object>,
        operations: &[Operation],
    ) -> Result<(), Refusal> {
        let plugin = &self.catalogue.plugins[plugin];
        gates(&self.catalogue, plugin, organization, input, operations)
    }
}

fn object_key(key: &str) -> ObjectKey {
    ObjectKey {
        organization: "acme".to_owned(),
        primary_key: key.to_owned(),
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("expected an object: {other}"),
    }
}

fn object(created: bool, attributes: Value, level: Option<u8>) -> Word {
    Word::Object {
        created,
        attributes: Some(map(attributes)),
        level: level.map(|level| Level {
            level,
            profile_type: None,
        }),
    }
}

/// A live object as the gates see it.
fn live(object_type: &str, level: Option<u8>) -> Object {
    let mut live = Object {
        key: object_key("www"),
        ..Object::default()
    };
    let change = Change {
        key: object_key("www"),
        object_type: Some(object_type.to_owned()),
        rank: Rank {
            number: 1,
            event_id: "e".to_owned(),
        },
        word: object(true, json!({ "mime_types": ["text/plain"] }), level),
        create_counts: false,
    };
    merge(&mut live, &change).expect("one type");
    live
}

fn signed() -> Organization {
    Organization {
        indemnified: true,
        ..Organization::unknown("acme")
    }
}

fn plugins_of(plan: &Plan) -> Vec<&str> {
    let mut plugins: Vec<&str> = plan
        .tasks
        .iter()
        .map(|task| task.plugin_id.as_str())
        .collect();
    plugins.sort_unstable();
    plugins
}

fn refused(plan: &Plan) -> HashMap<&'static str, u64> {
    plan.refused
        .iter()
        .map(|(reason, many)| (reason.word(), *many))
        .collect()
}

fn reason(outcome: Result<(), Refusal>) -> Option<Reason> {
    outcome.err().map(|refusal| refusal.reason)
}

// --- The gates ------------------------------------------------------------------------------------------------------

const GATES: &str = r#"
- {kind: plugin, plugin_id: scan, worker_type: boefje, scan_level: 2, consumes: [hostname]}
- {kind: plugin, plugin_id: zero, worker_type: boefje, scan_level: 0, consumes: [hostname]}
- {kind: plugin, plugin_id: bare, worker_type: boefje, consumes: [hostname, "file:text/plain"]}
- {kind: plugin, plugin_id: alone, worker_type: boefje, scan_level: 2}
- {kind: plugin, plugin_id: strict, worker_type: strict, scan_level: 0, consumes: [hostname]}
- {kind: plugin, plugin_id: strictest, worker_type: strict, scan_level: 3, consumes: [hostname], run_on: [update], enabled: false, organizations: {signed: {enabled: true}, acme: {enabled: true}}}
- {kind: plugin, plugin_id: off, worker_type: boefje, scan_level: 1, consumes: [hostname], enabled: false}
- {kind: plugin, plugin_id: reader, worker_type: reader, consumes: [hostname, "file:text/plain"]}
- {kind: plugin, plugin_id: careful, worker_type: reader, scan_level: 2, consumes: [hostname, "file:text/plain"]}
- {kind: plugin, plugin_id: once, worker_type: reader, consumes: [hostname], run_on: [created]}
- {kind: plugin, plugin_id: argued, worker_type: reader, oci_arguments: [dig, "{hostname|ip_address}", "{file}"]}
- {kind: plugin, plugin_id: member, worker_type: reader, consumes: ["{shop}"]}
- {kind: object_set, name: shop, object_type: hostname, keys: [www]}
"#;

#[test]
fn a_plugin_that_is_not_enabled_for_the_organisation_is_refused_as_disabled() {
    let case = Case::new(GATES);
    let host = live("hostname", Some(4));
    let gate = |plugin: &str, organization: &Organization| {
        reason(case.gate(plugin, organization, Some(&host), &[Operation::Created]))
    };
    assert_eq!(gate("off", &signed()), Some(Reason::Disabled));
    assert_eq!(gate("reader", &signed()), None);
    let asleep = Organization {
        enabled: false,
        ..signed()
    };
    assert_eq!(gate("reader", &asleep), Some(Reason::Disabled));
}

#[test]
fn an_organisations_own_word_on_a_plugin_goes_before_the_plugins() {
    let case = Case::new(GATES);
    let host = live("hostname", Some(4));
    let on = [Operation::Updated];
    assert_eq!(
        reason(case.gate("strictest", &signed(), Some(&host), &on)),
        None
    );
    let other = Organization {
        id: "other".to_owned(),
        ..signed()
    };
    let outcome = case.gate("strictest", &other, Some(&host), &on);
    assert_eq!(reason(outcome), Some(Reason::Disabled));
}

#[test]
fn an_input_of_a_type_that_the_plugin_does_not_take_is_refused() {
    let case = Case::new(GATES);
    let gate =
        |plugin: &str, object: &Object| reason(case.gate(plugin, &signed(), Some(object), &[]));
    let (host, address) = (live("hostname", Some(4)), live("ip_address", Some(4)));
    assert_eq!(gate("scan", &address), Some(Reason::TypeNotTaken));
    assert_eq!(gate("scan", &host), None);
    // A placeholder names a type too.
    assert_eq!(gate("argued", &address), None);
    assert_eq!(
        gate("argued", &live("url", Some(4))),
        Some(Reason::TypeNotTaken)
    );
}

#[test]
fn a_file_is_taken_by_its_mime_type() {
    let case = Case::new(GATES);
    let mut file = live("file", None);
    let gate = |plugin: &str, file: &Object| reason(case.gate(plugin, &signed(), Some(file), &[]));
    assert_eq!(gate("reader", &file), None);
    assert_eq!(
        gate("argued", &file),
        None,
        "expected `{{file}}` to take any file"
    );
    file.attributes = map(json!({ "mime_types": ["text/html"] }));
    assert_eq!(gate("reader", &file), Some(Reason::TypeNotTaken));
    assert_eq!(gate("argued", &file), None);
}

#[test]
fn a_plugin_that_consumes_a_set_takes_its_members_only() {
    let case = Case::new(GATES);
    let mut host = live("hostname", None);
    assert_eq!(
        reason(case.gate("member", &signed(), Some(&host), &[])),
        None
    );
    host.key = object_key("mail");
    let outcome = case.gate("member", &signed(), Some(&host), &[]);
    assert_eq!(reason(outcome), Some(Reason::TypeNotTaken));
}

#[test]
fn without_an_input_only_a_plugin_that_asks_for_none_runs() {
    let case = Case::new(GATES);
    for plugin in ["scan", "argued", "member"] {
        let outcome = case.gate(plugin, &signed(), None, &[]);
        assert_eq!(reason(outcome), Some(Reason::NoInput), "{plugin}");
    }
    assert_eq!(
        reason(case.gate("alone", &signed(), None, &[])),
        None,
        "expected no input to pass its level"
    );
}

#[test]
fn a_plugins_own_run_on_refuses_the_other_operations() {
    let case = Case::new(GATES);
    let host = live("hostname", None);
    let gate =
        |operations: &[Operation]| reason(case.gate("once", &signed(), Some(&host), operations));
    assert_eq!(gate(&[Operation::Created]), None);
    assert_eq!(gate(&[Operation::Updated]), Some(Reason::NotRunOn));
    assert_eq!(gate(&[Operation::Created, Operation::Updated]), None);
    assert_eq!(
        gate(&[Operation::Deleted]),
        None,
        "expected run_on to say nothing of deletes"
    );
}

#[test]
fn a_worker_type_that_asks_for_the_indemnification_refuses_who_has_not_signed() {
    let case = Case::new(GATES);
    let host = live("hostname", Some(1));
    let unsigned = Organization::unknown("acme");
    let outcome = case.gate("strict", &unsigned, Some(&host), &[]);
    assert_eq!(reason(outcome), Some(Reason::NotIndemnified));
    assert_eq!(
        reason(case.gate("strict", &signed(), Some(&host), &[])),
        None
    );
    assert_eq!(reason(case.gate("zero", &unsigned, Some(&host), &[])), None);
}

#[test]
fn an_input_of_another_organisation_is_refused() {
    let case = Case::new(GATES);
    let mut host = live("hostname", Some(4));
    host.key.organization = "other".to_owned();
    let outcome = case.gate("scan", &signed(), Some(&host), &[]);
    assert_eq!(reason(outcome), Some(Reason::OtherOrganization));
}

#[test]
fn a_deleted_input_is_refused_except_where_the_delete_is_what_triggers() {
    let case = Case::new(GATES);
    let mut host = live("hostname", Some(4));
    host.deleted_rank = Some(Rank {
        number: 9,
        event_id: String::new(),
    });
    let gate =
        |operations: &[Operation]| reason(case.gate("reader", &signed(), Some(&host), operations));
    assert_eq!(gate(&[]), Some(Reason::Deleted));
    assert_eq!(gate(&[Operation::Updated]), Some(Reason::Deleted));
    assert_eq!(gate(&[Operation::Deleted]), None);
}

#[test]
fn a_plugin_without_a_level_is_refused_where_one_is_required_and_passes_where_it_is_not() {
    let case = Case::new(GATES);
    for level in [None, Some(0), Some(4)] {
        let host = live("hostname", level);
        let outcome = case.gate("bare", &signed(), Some(&host), &[]);
        assert_eq!(reason(outcome), Some(Reason::NoPluginLevel));
        assert_eq!(
            reason(case.gate("reader", &signed(), Some(&host), &[])),
            None
        );
    }
}

#[test]
fn a_file_passes_the_gate_of_levels() {
    let case = Case::new(GATES);
    let file = live("file", None);
    for plugin in ["bare", "careful"] {
        assert_eq!(
            reason(case.gate(plugin, &signed(), Some(&file), &[])),
            None,
            "{plugin}"
        );
    }
}

#[test]
fn an_object_without_a_level_is_refused_by_every_plugin_that_has_one() {
    let case = Case::new(GATES);
    let host = live("hostname", None);
    for plugin in ["zero", "scan", "careful"] {
        let outcome = case.gate(plugin, &signed(), Some(&host), &[]);
        assert_eq!(reason(outcome), Some(Reason::NoObjectLevel), "{plugin}");
    }
}

#[test]
fn a_plugins_level_must_not_be_above_the_objects_and_zero_is_a_level() {
    let case = Case::new(GATES);
    let gate = |plugin: &str, level: u8| {
        reason(case.gate(plugin, &signed(), Some(&live("hostname", Some(level))), &[]))
    };
    assert_eq!(gate("zero", 0), None, "expected 0 on 0 to pass");
    assert_eq!(gate("scan", 1), Some(Reason::LevelTooLow));
    assert_eq!(gate("scan", 2), None);
    assert_eq!(gate("scan", 3), None);
    assert_eq!(
        gate("careful", 1),
        Some(Reason::LevelTooLow),
        "expected a level to count where none is required"
    );
}

#[test]
fn a_worker_types_minimum_refuses_the_levels_below_it() {
    let case = Case::new(GATES);
    let gate = |level: u8| {
        case.gate(
            "strict",
            &signed(),
            Some(&live("hostname", Some(level))),
            &[],
        )
    };
    let refusal = gate(0).expect_err("level 0");
    assert_eq!(refusal.reason, Reason::LevelTooLow);
    assert_eq!(refusal.detail, "scan_level = 0, minimum_scan_level = 1");
    assert_eq!(reason(gate(1)), None);
}

#[test]
fn the_gates_are_asked_in_their_documented_order() {
    let text = r#"
- {kind: plugin, plugin_id: p, worker_type: strict, consumes: [ip_address], run_on: [updated], enabled: false}
- {kind: plugin, plugin_id: p1, worker_type: strict, consumes: [ip_address], run_on: [updated]}
- {kind: plugin, plugin_id: p2, worker_type: strict, consumes: [hostname], run_on: [updated]}
- {kind: plugin, plugin_id: p3, worker_type: strict, consumes: [hostname]}
- {kind: plugin, plugin_id: p4, worker_type: strict, consumes: [hostname], scan_level: 3}
"#;
    let case = Case::new(text);
    let mut host = live("hostname", None);
    host.key.organization = "other".to_owned();
    host.deleted_rank = Some(Rank {
        number: 9,
        event_id: String::new(),
    });
    let unsigned = Organization::unknown("acme");
    let created = [Operation::Created];
    let gate = |plugin: &str, organization: &Organization, host: &Object| {
        reason(case.gate(plugin, organization, Some(host), &created))
    };
    // Everything is wrong, and one thing after the other is put right.
    assert_eq!(gate("p", &unsigned, &host), Some(Reason::Disabled));
    assert_eq!(gate("p1", &unsigned, &host), Some(Reason::TypeNotTaken));
    assert_eq!(gate("p2", &unsigned, &host), Some(Reason::NotRunOn));
    assert_eq!(gate("p3", &unsigned, &host), Some(Reason::NotIndemnified));
    assert_eq!(
        gate("p3", &signed(), &host),
        Some(Reason::OtherOrganization)
    );
    host.key.organization = "acme".to_owned();
    assert_eq!(gate("p3", &signed(), &host), Some(Reason::Deleted));
    host.deleted_rank = None;
    assert_eq!(gate("p3", &signed(), &host), Some(Reason::NoPluginLevel));
    assert_eq!(gate("p4", &signed(), &host), Some(Reason::NoObjectLevel));
    host.level = Some(2);
    assert_eq!(gate("p4", &signed(), &host), Some(Reason::LevelTooLow));
    host.level = Some(3);
    assert_eq!(gate("p4", &signed(), &host), None);
}

// --- What a change triggers -----------------------------------------------------------------------------------------

/// A plugin for each operation, so that the names of the tasks tell what was triggered.
const OPERATIONS: &str = r#"
- {kind: plugin, plugin_id: on-created, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {kind: plugin, plugin_id: on-updated, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {kind: plugin, plugin_id: on-deleted, worker_type: reader, consumes: [hostname]}
- {kind: plugin, plugin_id: reads, worker_type: reader, consumes: ["file:text/plain"]}
- {name: created, run_on: hostname, operation: created, plugins: plugin_id = "on-created", grace: 0s}
- {name: updated, run_on: hostname, operation: updated, plugins: plugin_id = "on-updated", grace: 0s}
- {name: deleted, run_on: hostname, operation: deleted, plugins: plugin_id = "on-deleted"}
- {name: files, run_on: file, operation: created, plugins: plugin_id = "reads"}
"#;

#[test]
fn a_new_object_counts_as_created_and_a_changed_one_as_updated() {
    let mut case = Case::new(OPERATIONS);
    assert_eq!(plugins_of(&case.created("www", Some(1))), ["on-created"]);
    assert_eq!(
        plugins_of(&case.updated("www", json!({ "name": "new" }))),
        ["on-updated"]
    );
}

#[test]
fn a_change_that_leaves_the_object_as_it_was_triggers_nothing() {
    let mut case = Case::new(OPERATIONS);
    case.created("www", Some(1));
    let plan = case.updated("www", json!({ "name": "www" }));
    assert_eq!(
        (plan.tasks.len(), plan.runs.len(), plan.unchanged),
        (0, 0, 1)
    );
    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
    let plan = case.level("www", Some(1));
    assert_eq!((plan.tasks.len(), plan.unchanged), (0, 1));
}

#[test]
fn numbers_that_are_equal_and_keys_in_another_order_are_no_change() {
    let mut case = Case::new(OPERATIONS);
    let first = case.told(
        "www",
        "hostname",
        object(
            true,
            json!({ "a": 1, "b": [1.0, { "c": 2, "d": 3 }] }),
            Some(1),
        ),
    );
    case.decide(&first);
    let plan = case.updated("www", json!({ "b": [1, { "d": 3.0, "c": 2 }], "a": 1.0 }));
    assert_eq!(plan.unchanged, 1);
    let plan = case.updated("www", json!({ "b": [{ "d": 3.0, "c": 2 }, 1], "a": 1.0 }));
    assert_eq!(plan.unchanged, 0, "expected the order of a list to count");
}

#[test]
fn the_first_level_above_zero_counts_as_created_and_updated() {
    for before in [None, Some(0)] {
        let mut case = Case::new(OPERATIONS);
        let plan = case.created("www", before);
        assert_eq!(plugins_of(&plan), Vec::<&str>::new());
        let plan = case.level("www", Some(1));
        assert_eq!(plugins_of(&plan), ["on-created", "on-updated"]);
    }
}

#[test]
fn a_raised_level_counts_as_updated_only_after_the_first() {
    let mut case = Case::new(OPERATIONS);
    case.created("www", Some(1));
    assert_eq!(plugins_of(&case.level("www", Some(2))), ["on-updated"]);
    // Down to nothing and up again is no first lift.
    let mut case = Case::new(OPERATIONS);
    let first = case.created("www", Some(1));
    case.ended(&first);
    case.level("www", None);
    assert_eq!(plugins_of(&case.level("www", Some(1))), ["on-updated"]);
}

#[test]
fn a_lowered_level_triggers_nothing_and_withdraws_what_it_no_longer_permits() {
    let text = format!(
        "{OPERATIONS}\n- {{kind: plugin, plugin_id: high, worker_type: boefje, scan_level: 3, consumes: [hostname]}}\n- {{name: high, run_on: hostname, operation: created, plugins: plugin_id = \"high\"}}"
    );
    let mut case = Case::new(&text);
    let plan = case.created("www", Some(3));
    let high = plan
        .tasks
        .iter()
        .find(|task| task.plugin_id == "high")
        .expect("a task");
    let plan = case.level("www", Some(2));
    assert_eq!(plan.tasks.len(), 0);
    let withdrawn: Vec<(&str, &str)> = plan
        .withdrawn
        .iter()
        .map(|w| (w.task_id.as_str(), w.reason))
        .collect();
    assert_eq!(
        withdrawn,
        [(high.id.as_str(), "level_lowered")],
        "expected `on-created` of level 1 to stay"
    );
}

#[test]
fn a_delete_withdraws_what_waits_and_gives_its_schedules_the_last_known_state() {
    let mut case = Case::new(OPERATIONS);
    let created = case.created("www", Some(1));
    let plan = case.deleted("www");
    let withdrawn: Vec<(&str, &str)> = plan
        .withdrawn
        .iter()
        .map(|w| (w.task_id.as_str(), w.reason))
        .collect();
    assert_eq!(
        withdrawn,
        [(created.tasks[0].id.as_str(), "object_deleted")]
    );
    assert_eq!(plugins_of(&plan), ["on-deleted"]);
    assert!(plan.runs[0].occasion.deleted);
    assert_eq!(
        case.deleted("www").unchanged,
        1,
        "expected a second delete to change nothing"
    );
}

#[test]
fn a_task_that_runs_is_not_withdrawn() {
    let mut case = Case::new(OPERATIONS);
    case.created("www", Some(1));
    for open in case.world.open.values_mut().flatten() {
        open.running = true;
    }
    assert_eq!(case.deleted("www").withdrawn, []);
}

#[test]
fn a_task_of_the_same_batch_that_lost_its_reason_is_stored_as_withdrawn() {
    let mut case = Case::new(OPERATIONS);
    let mut plan = Plan::default();
    let created = case.told("www", "hostname", object(true, json!({}), Some(1)));
    let deleted = case.told("www", "hostname", Word::Deleted);
    for told in [created, deleted] {
        let mut desk = Desk {
            catalogue: &case.catalogue,
            now: case.now,
            ids: &mut case.ids,
            plan: &mut plan,
            findings: None,
        };
        change(&mut desk, &mut case.world, &told).expect("possible");
    }
    let states: Vec<(&str, TaskState)> = plan
        .tasks
        .iter()
        .map(|task| (task.plugin_id.as_str(), task.state))
        .collect();
    assert_eq!(
        states,
        [
            ("on-created", TaskState::Withdrawn),
            ("on-deleted", TaskState::Queued)
        ]
    );
    assert_eq!(plan.withdrawn, []);
}

#[test]
fn a_file_of_an_error_triggers_nothing() {
    let mut case = Case::new(OPERATIONS);
    assert_eq!(plugins_of(&case.file("f-1", &["text/plain"])), ["reads"]);
    let plan = case.file("f-2", &["text/plain", "error/boefje"]);
    assert_eq!((plan.tasks.len(), plan.runs.len()), (0, 0));
    assert_eq!(
        plan.changed.len(),
        1,
        "expected the file to be known all the same"
    );
}

#[test]
fn a_live_key_cannot_become_another_type_and_a_deleted_one_can() {
    let mut case = Case::new(OPERATIONS);
    case.created("www", Some(1));
    let told = case.told("www", "url", object(true, json!({}), None));
    let impossible = case.try_decide(&told).expect_err("it is a hostname");
    assert_eq!(impossible.reason, "other_type");
    case.deleted("www");
    let told = case.told("www", "url", object(true, json!({}), None));
    case.decide(&told);
    assert_eq!(case.world.objects[&object_key("www")].object_type, "url");
}

#[test]
fn a_level_before_its_object_waits_for_it() {
    let mut case = Case::new(OPERATIONS);
    let plan = case.level("www", Some(2));
    assert_eq!((plan.tasks.len(), plan.changed.len()), (0, 1));
    let told = case.told("www", "hostname", object(false, json!({}), None));
    let plan = case.decide(&told);
    assert_eq!(
        plugins_of(&plan),
        ["on-created"],
        "expected the first sight to count as created"
    );
}

#[test]
fn an_unknown_organisation_is_made_or_refused_as_the_settings_say() {
    let mut case = Case::new(OPERATIONS);
    assert_eq!(case.created("www", Some(1)).organizations.len(), 1);
    let mut case = Case::with(
        &format!("open_organizations = false\n{SETTINGS}"),
        OPERATIONS,
    );
    let told = case.told("www", "hostname", object(true, json!({}), Some(1)));
    let impossible = case.try_decide(&told).expect_err("nobody declared it");
    assert_eq!(impossible.reason, "unknown_organization");
}

#[test]
fn a_schedule_of_one_organisation_one_that_sleeps_and_one_whose_when_is_false_are_not_touched() {
    let text = r#"
- {kind: plugin, plugin_id: p, worker_type: reader, consumes: [hostname]}
- {name: a-theirs, organization: other, run_on: hostname, operation: created, plugins: "True"}
- {name: b-asleep, enabled: false, run_on: hostname, operation: created, plugins: "True"}
- {name: c-when, run_on: hostname, operation: created, when: name = "mail", plugins: "True"}
- {name: d-type, run_on: url, operation: created, plugins: "True"}
- {name: e-operation, run_on: hostname, operation: [updated, deleted], plugins: "True"}
- {name: f-clock, recurrences: daily, plugins: "True"}
- {name: g-ours, organization: acme, run_on: [url, hostname], operation: created, when: name = "www", plugins: "True"}
"#;
    let mut case = Case::new(text);
    let told = case.told(
        "www",
        "hostname",
        object(true, json!({ "name": "www" }), None),
    );
    let findings = case.explain(&told);
    let outcomes: Vec<(&str, &str)> = findings
        .iter()
        .map(|finding| {
            let outcome = match &finding.outcome {
                FindingOutcome::Untouched(Untouched::Type) => "type",
                FindingOutcome::Untouched(Untouched::Operation) => "operation",
                FindingOutcome::Untouched(Untouched::Organization) => "organization",
                FindingOutcome::Untouched(Untouched::Asleep) => "asleep",
                FindingOutcome::Untouched(Untouched::When(_)) => "when",
                FindingOutcome::Untouched(Untouched::Join) => "join",
                FindingOutcome::Untouched(Untouched::TooCostly) => "too costly",
                FindingOutcome::Expands => "expands",
                FindingOutcome::Overlaps(_) => "overlaps",
                FindingOutcome::Considered(_) => "considered",
            };
            (finding.schedule.as_str(), outcome)
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            ("a-theirs", "organization"),
            ("b-asleep", "asleep"),
            ("c-when", "when"),
            ("d-type", "type"),
            ("e-operation", "operation"),
            ("f-clock", "type"),
            ("g-ours", "considered"),
        ]
    );
}

#[test]
fn explaining_decides_what_deciding_decides() {
    let told = |case: &mut Case| case.told("www", "hostname", object(true, json!({}), Some(1)));
    let (mut one, mut other) = (Case::new(GATES_ON_CREATED), Case::new(GATES_ON_CREATED));
    let (first, second) = (told(&mut one), told(&mut other));
    let plan = one.decide(&first);
    let findings = other.explain(&second);
    let FindingOutcome::Considered(considered) = &findings[0].outcome else {
        panic!("expected the schedule to be triggered");
    };
    let mut made: Vec<&str> = considered
        .iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .map(|(plugin, _)| plugin.as_str())
        .collect();
    made.sort_unstable();
    assert_eq!(made, plugins_of(&plan));
    let mut reasons: HashMap<&str, u64> = HashMap::new();
    for (_, outcome) in considered {
        if let Err(refusal) = outcome {
            *reasons.entry(refusal.reason.word()).or_default() += 1;
        }
    }
    assert_eq!(reasons, refused(&plan));
    assert_eq!(made, ["fits"]);
    assert_eq!(reasons.len(), 3);
}

const GATES_ON_CREATED: &str = r#"
- {kind: plugin, plugin_id: fits, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {kind: plugin, plugin_id: high, worker_type: boefje, scan_level: 2, consumes: [hostname]}
- {kind: plugin, plugin_id: bare, worker_type: boefje, consumes: [hostname]}
- {kind: plugin, plugin_id: other, worker_type: boefje, scan_level: 1, consumes: [url]}
- {name: created, run_on: hostname, operation: created, plugins: "True"}
"#;

#[test]
fn a_plugins_own_recurrences_are_a_schedule_over_all_that_it_takes_in_the_configured_zone_and_spread()
 {
    let settings = format!(
        "{SETTINGS}\n[plugin_recurrences]\ntimezone = \"Europe/Amsterdam\"\nspread = \"5h\"\n"
    );
    let text = r#"
- {kind: plugin, plugin_id: "it's \"odd\"", worker_type: reader, consumes: [hostname, ip_address], recurrences: "0 3 * * 1"}
- {kind: plugin, plugin_id: alone, worker_type: reader, recurrences: daily}
- {kind: plugin, plugin_id: without, worker_type: reader}
"#;
    let case = Case::with(&settings, text);
    let told: Vec<(&str, Vec<&str>, Vec<&str>)> = case
        .catalogue
        .schedules
        .iter()
        .map(|scheduled| {
            let schedule = &scheduled.schedule;
            assert_eq!(
                (
                    schedule.timezone.as_str(),
                    schedule.spread,
                    schedule.of_plugin()
                ),
                ("Europe/Amsterdam", span("5h"), true)
            );
            let types = match &schedule.input {
                Input::Given => Vec::new(),
                Input::Selected(selections) => selections.keys().map(String::as_str).collect(),
            };
            let selected = scheduled
                .selected
                .iter()
                .map(|plugin| plugin.plugin_id.as_str());
            (schedule.name.as_str(), types, selected.collect())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("plugin:alone", vec![], vec!["alone"]),
            (
                "plugin:it's \"odd\"",
                vec!["hostname", "ip_address"],
                vec!["it's \"odd\""]
            ),
        ]
    );
}

#[test]
fn an_event_that_makes_no_task_leaves_no_run() {
    let text = r#"
- {kind: plugin, plugin_id: high, worker_type: boefje, scan_level: 4, consumes: [hostname]}
- {name: created, run_on: hostname, operation: created, plugins: "True"}
"#;
    let mut case = Case::new(text);
    let plan = case.created("www", Some(1));
    assert_eq!(plan.runs, []);
    assert_eq!(
        refused(&plan),
        HashMap::from([("level_too_low", 1)]),
        "expected it to be counted all the same"
    );
}

#[test]
fn a_triggered_schedule_with_input_queries_leaves_a_run_that_keeps_its_trigger() {
    let text = r#"
- {kind: plugin, plugin_id: p, worker_type: reader, consumes: [hostname]}
- {name: looks, run_on: ip_port, operation: created, plugins: "True", input: {hostname: trigger.address in addresses}}
"#;
    let mut case = Case::new(text);
    let told = case.told(
        "port",
        "ip_port",
        object(true, json!({ "address": "192.0.2.1" }), None),
    );
    let plan = case.decide(&told);
    let [run] = plan.runs.as_slice() else {
        panic!("expected one run: {:?}", plan.runs)
    };
    assert!(run.expands);
    assert_eq!(plan.tasks, [], "expected the inputs to be found later");
    let trigger = run.occasion.trigger.as_ref().expect("its trigger");
    assert_eq!(
        (&trigger["address"], &trigger["object_type"]),
        (&json!("192.0.2.1"), &json!("ip_port"))
    );
}

#[test]
fn a_page_of_the_inventory_passes_the_same_gates() {
    let text = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: scan, worker_type: boefje, scan_level: 2, consumes: [hostname]}
- {kind: plugin, plugin_id: once, worker_type: reader, consumes: [hostname], run_on: [created]}
- {kind: plugin, plugin_id: elsewhere, worker_type: reader, consumes: [url], run_on: [created]}
- {name: nightly, recurrences: daily, plugins: "True", input: {hostname: null}}
"#;
    let mut case = Case::new(text);
    let inputs: Vec<Object> = [Some(1), Some(2), None]
        .into_iter()
        .enumerate()
        .map(|(at, level)| {
            let mut host = live("hostname", level);
            host.key = object_key(&format!("host-{at}"));
            host
        })
        .collect();
    let scheduled = case
        .catalogue
        .schedules
        .iter()
        .next()
        .expect("a schedule")
        .clone();
    let organization = case.catalogue.organizations["acme"].clone();
    let mut run = RunDraft {
        id: "run".to_owned(),
        schedule_id: scheduled.schedule.id.clone(),
        schedule: scheduled.schedule.name.clone(),
        schedule_revision: 1,
        organization: "acme".to_owned(),
        cause: Cause::OnTime,
        scheduled_for: case.now,
        created_at: case.now,
        expands: true,
        ..RunDraft::default()
    };
    let mut plan = Plan::default();
    let mut desk = Desk {
        catalogue: &case.catalogue,
        now: case.now,
        ids: &mut case.ids,
        plan: &mut plan,
        findings: None,
    };
    page(
        &mut desk,
        &mut case.world,
        &scheduled,
        &organization,
        &mut run,
        &Inputs {
            carried: &BTreeMap::new(),
            found: &inputs,
            last: true,
        },
    );
    let keys: Vec<&str> = plan
        .tasks
        .iter()
        .map(|task| task.inputs[0].primary_key.as_str())
        .collect();
    assert_eq!(keys, ["host-1"]);
    assert_eq!(run.total, 1);
    let expected = HashMap::from([
        ("level_too_low", 1),
        ("no_object_level", 1),
        ("not_run_on", 3),
        ("type_not_taken", 3),
    ]);
    assert_eq!(
        refused(&plan),
        expected,
        "expected what has a run_on not to recur"
    );
}

#[test]
fn an_occurrence_without_input_is_one_task_for_each_plugin_and_always_leaves_a_run() {
    let text = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: bgp, worker_type: reader}
- {kind: plugin, plugin_id: rpki, worker_type: reader}
- {kind: plugin, plugin_id: needs, worker_type: reader, consumes: [hostname]}
- {name: hourly, recurrences: hourly, plugins: "True", input: {}}
"#;
    let mut case = Case::new(text);
    let scheduled = case
        .catalogue
        .schedules
        .iter()
        .next()
        .expect("a schedule")
        .clone();
    let organization = case.catalogue.organizations["acme"].clone();
    let occur = |case: &mut Case| {
        let mut plan = Plan::default();
        let mut desk = Desk {
            catalogue: &case.catalogue,
            now: case.now,
            ids: &mut case.ids,
            plan: &mut plan,
            findings: None,
        };
        occurrence(
            &mut desk,
            &mut case.world,
            &scheduled,
            &organization,
            Cause::OnTime,
            case.now,
        );
        plan
    };
    let plan = occur(&mut case);
    assert_eq!(plugins_of(&plan), ["bgp", "rpki"]);
    assert!(plan.tasks.iter().all(|task| task.inputs.is_empty()));
    assert_eq!(refused(&plan), HashMap::from([("no_input", 1)]));
    let plan = occur(&mut case);
    assert_eq!(plan.tasks, []);
    assert_eq!(
        plan.runs.len(),
        1,
        "expected the run of the clock to be kept without tasks"
    );
    assert_eq!(
        refused(&plan),
        HashMap::from([("duplicate", 2), ("no_input", 1)])
    );
}

// --- Unique keys and grace ------------------------------------------------------------------------------------------

const GRACE: &str = r#"
- {kind: plugin, plugin_id: p, worker_type: boefje, scan_level: 1, consumes: [hostname]}
- {name: changes, run_on: hostname, operation: [created, updated], plugins: "True"}
"#;

#[test]
fn while_a_task_is_open_the_same_plugin_on_the_same_input_is_a_duplicate() {
    let mut case = Case::new(GRACE);
    case.created("www", Some(1));
    let plan = case.updated("www", json!({ "name": "new" }));
    assert_eq!(
        (plan.tasks.len(), refused(&plan)),
        (0, HashMap::from([("duplicate", 1)]))
    );
    assert_eq!(
        plugins_of(&case.created("mail", Some(1))),
        ["p"],
        "expected another input to be another task"
    );
}

#[test]
fn a_more_urgent_duplicate_makes_the_open_task_urgent_and_a_less_urgent_one_does_not() {
    let text = r#"
- {kind: plugin, plugin_id: p, worker_type: reader, consumes: [hostname]}
- {name: first, run_on: hostname, operation: created, plugins: "True", priority: 5}
- {name: later, run_on: hostname, operation: updated, when: urgent = True, plugins: "True", priority: 1}
- {name: never, run_on: hostname, operation: updated, when: urgent = False, plugins: "True", priority: 9}
- {name: same, run_on: hostname, operation: updated, when: urgent = None, plugins: "True", priority: 5}
"#;
    let mut case = Case::new(text);
    let first = case.created("www", None);
    assert_eq!(first.tasks[0].priority, 5);
    let plan = case.updated("www", json!({ "urgent": false }));
    assert_eq!(plan.urgent, []);
    let plan = case.updated("www", json!({ "urgent": null }));
    assert_eq!(plan.urgent, [], "expected equals to leave it alone");
    let plan = case.updated("www", json!({ "urgent": true }));
    assert_eq!(plan.urgent, [(first.tasks[0].id.clone(), 1)]);
}

#[test]
fn what_allows_overlap_is_no_duplicate() {
    let text = GRACE.replace("plugins: \"True\"}", "plugins: \"True\", overlap: allow}");
    let mut case = Case::new(&text);
    case.created("www", Some(1));
    assert_eq!(
        plugins_of(&case.updated("www", json!({ "name": "new" }))),
        ["p"]
    );
}

#[test]
fn within_the_grace_after_the_end_nothing_new_is_made_and_after_it_is() {
    let mut case = Case::new(GRACE);
    let plan = case.created("www", Some(1));
    case.later("20h");
    case.ended(&plan);
    case.later("23h");
    let plan = case.level("www", Some(2));
    assert_eq!(
        (plan.tasks.len(), refused(&plan)),
        (0, HashMap::from([("in_grace", 1)]))
    );
    case.later("1h");
    assert_eq!(plugins_of(&case.level("www", Some(3))), ["p"]);
}

#[test]
fn a_changed_input_passes_the_grace_and_an_ignored_attribute_does_not_change_it() {
    let settings = format!("{SETTINGS}\n[object_types]\nhostname = {{ ignore = [\"last_seen\"] }}");
    let mut case = Case::with(&settings, GRACE);
    let plan = case.created("www", Some(1));
    case.ended(&plan);
    case.later("1h");
    let plan = case.updated("www", json!({ "name": "www", "last_seen": "2026-11-21" }));
    assert_eq!(refused(&plan), HashMap::from([("in_grace", 1)]));
    assert_eq!(
        plugins_of(&case.updated("www", json!({ "name": "new" }))),
        ["p"]
    );
}

#[test]
fn a_plugins_own_grace_goes_before_the_schedules_and_that_before_the_default() {
    let text = r#"
- {kind: plugin, plugin_id: short, worker_type: reader, consumes: [hostname], grace: 1h}
- {kind: plugin, plugin_id: plain, worker_type: reader, consumes: [hostname]}
- {name: changes, run_on: hostname, operation: [created, updated], plugins: "True", grace: 3h}
"#;
    let mut case = Case::new(text);
    let plan = case.created("www", None);
    case.ended(&plan);
    case.later("2h");
    let plan = case.level("www", Some(1));
    assert_eq!(plugins_of(&plan), ["short"]);
    case.later("1h");
    assert_eq!(plugins_of(&case.level("www", Some(2))), ["plain"]);
}

#[test]
fn an_input_that_a_worker_never_wants_again_is_refused_until_its_time_has_come() {
    let mut case = Case::new(GRACE);
    let plan = case.created("www", Some(1));
    let key = plan.tasks[0].unique_key.clone();
    case.world.open.clear();
    case.world
        .suppressed
        .insert(key.clone(), Some(case.now.plus(span("1h"))));
    let plan = case.level("www", Some(2));
    assert_eq!(refused(&plan), HashMap::from([("suppressed", 1)]));
    case.later("1h");
    assert_eq!(plugins_of(&case.level("www", Some(3))), ["p"]);
    case.world.open.clear();
    case.world.suppressed.insert(key, None);
    case.later("999w");
    assert_eq!(
        refused(&case.level("www", Some(4))),
        HashMap::from([("suppressed", 1)])
    );
}

#[path = "decisions/backlog.rs"]
mod backlog;
#[path = "decisions/declarations.rs"]
mod declarations;
#[path = "decisions/editions.rs"]
mod editions;
#[path = "decisions/merging.rs"]
mod merging;
#[path = "decisions/protocol.rs"]
mod protocol;
#[path = "decisions/progress.rs"]
mod steps;
