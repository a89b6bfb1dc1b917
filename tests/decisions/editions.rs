//! The catalogue goes from one revision to the next by what changed, and is then what all of it compiled anew would be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster::catalogue::{Catalogue, Changed, Edition, Stored};
use muster::declaration::{Kind, Variables, read_file};
use muster::moment::Moment;
use muster::object::{Object, Operation};
use muster::query::Facts;
use muster::recurrence::Last;
use muster::rules::Rules;
use muster::trigger::{Room, touches};
use serde_json::json;

use super::{SETTINGS, object_key, rules_of};

struct Shelf {
    rules: Arc<Rules>,
    edition: Edition,
    stored: BTreeMap<(&'static str, String, String), Stored>,
    paused: BTreeSet<String>,
    revision: i64,
}

impl Shelf {
    fn new() -> Shelf {
        let rules = Arc::new(rules_of(SETTINGS));
        Shelf {
            edition: Edition::new(rules.clone()),
            rules,
            stored: BTreeMap::new(),
            paused: BTreeSet::new(),
            revision: 0,
        }
    }

    /// Declares what the text says, beside what is there.
    fn put(&mut self, text: &str) -> Arc<Catalogue> {
        let (declared, complaints) = read_file(
            "more.yaml",
            text.as_bytes(),
            &Variables::default(),
            &self.rules,
        );
        assert!(complaints.is_empty(), "{complaints:?}");
        self.revision += 1;
        let changes: Vec<Changed> = declared
            .into_iter()
            .map(|entry| {
                let stored = Stored {
                    kind: entry.kind,
                    id: format!("{}/{}", entry.organization, entry.name),
                    name: entry.name,
                    organization: entry.organization,
                    definition: entry.definition,
                    revision: self.revision,
                    created_at: Moment::EPOCH,
                };
                let key = (
                    stored.kind.word(),
                    stored.organization.clone(),
                    stored.name.clone(),
                );
                self.stored.insert(key, stored.clone());
                Changed {
                    kind: stored.kind,
                    organization: stored.organization.clone(),
                    name: stored.name.clone(),
                    now: Some(stored),
                }
            })
            .collect();
        let catalogue = self.edition.apply(self.revision, changes, &self.paused);
        self.check(&catalogue);
        catalogue
    }

    /// Pauses a schedule, or resumes it.
    fn pause(&mut self, name: &str, paused: bool) -> Arc<Catalogue> {
        let id = format!("/{name}");
        let other = match paused {
            true => self.paused.insert(id),
            false => self.paused.remove(&id),
        };
        assert!(other, "{name} changes");
        self.revision += 1;
        let catalogue = self.edition.apply(self.revision, [], &self.paused);
        self.check(&catalogue);
        catalogue
    }

    fn remove(&mut self, kind: Kind, name: &str) -> Arc<Catalogue> {
        self.revision += 1;
        let gone = self
            .stored
            .remove(&(kind.word(), String::new(), name.to_owned()));
        assert!(gone.is_some(), "{name} is declared");
        let change = Changed {
            kind,
            organization: String::new(),
            name: name.to_owned(),
            now: None,
        };
        let catalogue = self.edition.apply(self.revision, [change], &self.paused);
        self.check(&catalogue);
        catalogue
    }

    /// The catalogue is the one that would be built from all that is stored.
    fn check(&self, catalogue: &Catalogue) {
        let stored: Vec<Stored> = self.stored.values().cloned().collect();
        let anew = Edition::new(self.rules.clone()).replace(self.revision, stored, &self.paused);
        assert_eq!(told(catalogue), told(&anew));
        assert_eq!(catalogue.historied, anew.historied);
        assert_eq!(catalogue.organizations, anew.organizations);
        assert_eq!(
            catalogue.plugins.keys().collect::<Vec<_>>(),
            anew.plugins.keys().collect::<Vec<_>>()
        );
        assert_eq!(
            catalogue
                .sets
                .iter()
                .map(|set| &set.name)
                .collect::<Vec<_>>(),
            anew.sets.iter().map(|set| &set.name).collect::<Vec<_>>()
        );
        assert_eq!(catalogue.run_on, anew.run_on);
        assert_eq!(complaints(catalogue), complaints(&anew));
        for scheduled in anew.schedules.iter() {
            let id = &scheduled.schedule.id;
            let found = catalogue.schedules.get(id).expect("found by its id");
            assert_eq!(found.schedule.revision, scheduled.schedule.revision);
            assert_eq!(found.schedule.paused, scheduled.schedule.paused);
            assert_eq!(next(found), next(scheduled));
        }
        for (object_type, name) in [
            ("hostname", "www"),
            ("hostname", "mail"),
            ("ip_address", "www"),
        ] {
            for operations in [
                &[Operation::Created][..],
                &[Operation::Created, Operation::Updated],
            ] {
                asks_those_it_touches(catalogue, &object(object_type, name), operations);
            }
        }
    }
}

fn complaints(catalogue: &Catalogue) -> BTreeSet<String> {
    catalogue.broken.iter().map(ToString::to_string).collect()
}

/// When a schedule first fires in these tests.
fn next(scheduled: &muster::trigger::Scheduled) -> Option<Moment> {
    scheduled.timetable.next_after(Moment::EPOCH, Last::Never)
}

fn object(object_type: &str, name: &str) -> Object {
    let mut object = Object {
        key: object_key(name),
        object_type: object_type.to_owned(),
        level: Some(2),
        ..Object::default()
    };
    object.attributes.insert("name".to_owned(), json!(name));
    object
}

/// The index brings exactly the schedules that are touched by what happened, each once.
fn asks_those_it_touches(catalogue: &Catalogue, object: &Object, operations: &[Operation]) {
    let touched = |scheduled: &muster::trigger::Scheduled, known| {
        let facts = Facts {
            subject: object,
            trigger: Some(object),
            previous: None,
            parameters: &scheduled.schedule.parameters,
            now: Moment::EPOCH,
            world: catalogue,
        };
        let organization = &object.key.organization;
        touches(
            scheduled,
            known,
            organization,
            &object.object_type,
            operations,
            &facts,
        )
        .is_ok()
    };
    let mut room = Room::default();
    let (candidates, _) = catalogue
        .schedules
        .candidates(object, operations, &mut room);
    let found: Vec<&str> = candidates
        .into_iter()
        .filter(|(scheduled, known)| touched(scheduled, *known))
        .map(|(scheduled, _)| scheduled.schedule.name.as_str())
        .collect();
    let mut wanted: Vec<&str> = catalogue
        .schedules
        .iter()
        .filter(|scheduled| touched(scheduled, false))
        .map(|scheduled| scheduled.schedule.name.as_str())
        .collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

/// Each schedule with the plugins that it selects, and the revision of each.
fn told(catalogue: &Catalogue) -> BTreeMap<String, Vec<(String, String)>> {
    let plugin = |plugin: &Arc<muster::plugin::Plugin>| {
        (plugin.plugin_id.clone(), plugin.worker_type.clone())
    };
    catalogue
        .schedules
        .iter()
        .map(|scheduled| {
            let selected = scheduled.selected.iter().map(plugin).collect();
            (scheduled.schedule.id.clone(), selected)
        })
        .collect()
}

fn selected<'c>(catalogue: &'c Catalogue, schedule: &str) -> Vec<&'c str> {
    let scheduled = catalogue
        .schedules
        .iter()
        .find(|known| known.schedule.name == schedule);
    let scheduled = scheduled.expect("the schedule");
    scheduled
        .selected
        .iter()
        .map(|plugin| plugin.plugin_id.as_str())
        .collect()
}

const FIRST: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname]}
- {kind: plugin, plugin_id: nmap, worker_type: reader, consumes: [ip_address]}
- {kind: schedule, name: one, run_on: hostname, operation: created, when: "name = 'www'", plugins: "plugin_id = 'dns'", input: {}}
- {kind: schedule, name: same, run_on: [hostname, ip_address], operation: [created, updated], when: "name startswith 'ww' or name = 'mail'", plugins: "plugin_id = 'dns'", input: {}}
- {kind: schedule, name: readers, run_on: ip_address, operation: created, plugins: "worker_type = 'reader'", input: {}}
"#;

#[test]
fn a_catalogue_that_took_in_changes_is_the_one_that_all_of_it_makes() {
    let mut shelf = Shelf::new();
    let first = shelf.put(FIRST);
    assert_eq!(selected(&first, "readers"), ["dns", "nmap"]);
    let third =
        shelf.put("- {kind: plugin, plugin_id: cert, worker_type: reader, consumes: [hostname]}\n");
    assert_eq!(selected(&third, "readers"), ["cert", "dns", "nmap"]);
    // What readers hold stays as it was.
    assert_eq!(selected(&first, "readers"), ["dns", "nmap"]);
    let other =
        shelf.put("- {kind: plugin, plugin_id: dns, worker_type: writer, consumes: [hostname]}\n");
    assert_eq!(selected(&other, "readers"), ["cert", "nmap"]);
    assert_eq!(selected(&other, "one"), ["dns"]);
    shelf.put("- {kind: schedule, name: one, run_on: hostname, operation: deleted, plugins: \"worker_type = 'writer'\", input: {}}\n");
    shelf.put("- {kind: plugin, plugin_id: cert, worker_type: reader, recurrences: daily}\n");
    shelf.put("- {kind: object_set, name: web, object_type: hostname, query: \"name = 'www'\"}\n");
    shelf.put("- {kind: schedule, name: set, run_on: hostname, operation: created, when: \"in_set('web')\", plugins: \"True\", input: {}}\n");
    shelf.put("- {kind: schedule, name: asleep, enabled: false, run_on: hostname, operation: created, plugins: \"True\", input: {}}\n");
    shelf.put("- {kind: schedule, name: past, recurrences: daily, plugins: \"True\", input: {hostname: \"ever(name = 'www')\"}}\n");
    shelf.remove(Kind::Schedule, "past");
    shelf.remove(Kind::Plugin, "cert");
    shelf.remove(Kind::Schedule, "same");
    let last = shelf.remove(Kind::Plugin, "dns");
    assert!(selected(&last, "one").is_empty());
}

#[test]
fn only_what_changed_is_compiled() {
    let mut shelf = Shelf::new();
    shelf.put(FIRST);
    let before = shelf.edition.compiled();
    shelf.put("- {kind: plugin, plugin_id: nmap, worker_type: writer, consumes: [ip_address]}\n");
    assert_eq!(shelf.edition.compiled() - before, 1);
    let dns = |catalogue: &Catalogue| {
        let schedule = catalogue
            .schedules
            .iter()
            .find(|known| known.schedule.name == "one");
        schedule.expect("the schedule").clone()
    };
    let known = dns(&shelf.edition.latest());
    let catalogue = shelf.put("- {kind: schedule, name: new, run_on: hostname, operation: created, plugins: \"True\", input: {}}\n");
    // A schedule that nothing concerns is the same one as before, not its like.
    assert!(Arc::ptr_eq(&known, &dns(&catalogue)));
}

#[test]
fn an_index_that_learned_finds_the_same() {
    let mut shelf = Shelf::new();
    shelf.put(FIRST);
    let many: String = (0..400)
        .map(|n| {
            format!(
                "- {{kind: schedule, name: s{n}, run_on: hostname, operation: created, when: \"zone = 'z{}' and name = 'n{}'\", \
                 plugins: \"plugin_id = 'dns'\", input: {{}}}}\n",
                n % 3,
                n % 40
            )
        })
        .collect();
    shelf.put(&many);
    let mut looked_at = Vec::new();
    for _ in 0..3 {
        let mut sum = 0;
        for n in 0..200 {
            let mut host = object("hostname", &format!("n{}", n % 40));
            host.attributes.insert("zone".to_owned(), json!("z0"));
            let catalogue = shelf.edition.latest();
            asks_those_it_touches(&catalogue, &host, &[Operation::Created]);
            let (_, tally) =
                catalogue
                    .schedules
                    .candidates(&host, &[Operation::Created], &mut Room::default());
            sum += tally.candidates;
            shelf.edition.learn(&[(host, vec![Operation::Created])]);
        }
        looked_at.push(sum);
    }
    assert!(looked_at[2] <= looked_at[0], "{looked_at:?}");
}

/// The schedule of this name, where it is in use.
fn named<'c>(catalogue: &'c Catalogue, name: &str) -> Option<&'c Arc<muster::trigger::Scheduled>> {
    catalogue.schedules.get(&format!("/{name}"))
}

#[test]
fn a_calendar_that_changes_moves_the_schedules_that_name_it_and_no_others() {
    let mut shelf = Shelf::new();
    shelf.put(
        r#"
- {kind: calendar, name: shut, dates: ["1970-01-02"]}
- {kind: calendar, name: other, dates: ["1970-01-03"]}
- {kind: schedule, name: quiet, recurrences: daily, calendars: [shut], plugins: "True", input: {}}
- {kind: schedule, name: plain, recurrences: daily, plugins: "True", input: {}}
- {kind: schedule, name: apart, recurrences: daily, calendars: [other], plugins: "True", input: {}}
"#,
    );
    let first = shelf.edition.latest();
    let fires =
        |catalogue: &Catalogue, name: &str| named(catalogue, name).and_then(|known| next(known));
    assert!(fires(&first, "quiet") > fires(&first, "plain"));
    let moved =
        shelf.put("- {kind: calendar, name: shut, dates: [\"1970-01-02\", \"1970-01-03\"]}\n");
    assert!(fires(&moved, "quiet") > fires(&first, "quiet"));
    for name in ["plain", "apart"] {
        let same = (named(&first, name), named(&moved, name));
        assert!(
            matches!(same, (Some(a), Some(b)) if Arc::ptr_eq(a, b)),
            "{name}"
        );
    }
    // Without its calendar it would fire when it must not.
    let left_out = shelf.remove(Kind::Calendar, "shut");
    assert!(named(&left_out, "quiet").is_none());
    let told = complaints(&left_out);
    assert!(
        told.iter()
            .any(|line| line.contains("there is no calendar `shut`")),
        "{told:?}"
    );
    let back = shelf.put("- {kind: calendar, name: shut, dates: [\"1970-01-03\"]}\n");
    assert_eq!(fires(&back, "quiet"), fires(&back, "plain"));
    assert!(complaints(&back).is_empty());
    shelf.remove(Kind::Calendar, "shut");
    let gone = shelf.remove(Kind::Schedule, "quiet");
    assert!(complaints(&gone).is_empty());
}

#[test]
fn a_pause_makes_one_schedule_anew_and_compiles_nothing() {
    let mut shelf = Shelf::new();
    let first = shelf.put(FIRST);
    let before = shelf.edition.compiled();
    let paused = shelf.pause("one", true);
    assert!(named(&paused, "one").is_some_and(|known| known.schedule.paused));
    let same = (named(&first, "same"), named(&paused, "same"));
    assert!(matches!(same, (Some(a), Some(b)) if Arc::ptr_eq(a, b)));
    assert_eq!(shelf.edition.compiled(), before);
    // Who declares it anew does not resume it.
    let declared = shelf.put("- {kind: schedule, name: one, run_on: hostname, operation: created, plugins: \"True\", input: {}}\n");
    assert!(named(&declared, "one").is_some_and(|known| known.schedule.paused));
    let resumed = shelf.pause("one", false);
    assert!(named(&resumed, "one").is_some_and(|known| !known.schedule.paused));
}

#[test]
fn a_set_that_comes_to_ask_other_objects_is_complained_of_where_a_plugin_takes_it() {
    let mut shelf = Shelf::new();
    let set = |query: &str| {
        format!("- {{kind: object_set, name: web, object_type: hostname, query: \"{query}\"}}\n")
    };
    shelf.put(&set("name = 'www'"));
    let fine =
        shelf.put("- {kind: plugin, plugin_id: taker, worker_type: reader, consumes: ['{web}']}\n");
    assert!(complaints(&fine).is_empty(), "{:?}", fine.broken);
    assert!(fine.historied.is_empty());
    let reaching = shelf.put(&set("ever(name = 'www')"));
    let told = complaints(&reaching);
    assert!(
        told.iter().any(|line| line.contains("`taker` takes")),
        "{told:?}"
    );
    assert!(reaching.historied.contains("hostname"));
    let again = shelf.put(&set("name = 'mail'"));
    assert!(complaints(&again).is_empty());
    assert!(again.historied.is_empty());
}
