//! What rules would have made of what has happened, and what they would change.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster::answer::{Over, Replayed, consequences, replay};
use muster::catalogue::{Catalogue, Edition, Stored};
use muster::declaration::{Kind, Variables, read_file};
use muster::moment::{Moment, Span};
use muster::store::{Edit, Older};
use serde_json::{Value, json};

use super::asking::House;
use crate::support::process::Database;

const NEW: &str = r#"
- {kind: plugin, plugin_id: nmap, worker_type: reader, consumes: [hostname], scan_level: 2}
- {kind: plugin, plugin_id: bulk, worker_type: reader, consumes: [hostname], batch_size: 2}
- {name: hosts, run_on: hostname, operation: [created, updated], plugins: "plugin_id = 'dns'"}
- {name: roots, run_on: hostname, operation: created, when: "root = True", plugins: "plugin_id = 'nmap'"}
- {name: around, run_on: hostname, operation: created, input: {hostname: "scan_level > 1"}, plugins: "plugin_id = 'bulk'"}
- {name: sweep, recurrences: daily, input: {hostname: "scan_level > 1"}, plugins: "plugin_id = 'bulk'"}
- {name: once, recurrences: daily, plugins: "plugin_id = 'feed'"}
"#;

fn event(id: &str, organization: &str, key: &str, kind: &str, root: Value, level: i64) -> String {
    let hour = 9 + id.len() as i64;
    json!({
        "specversion": "1.0", "id": id, "source": "/t", "type": format!("object.{kind}"),
        "time": format!("2026-11-21T{hour:02}:00:00Z"),
        "data": {"organization": organization, "object_type": "hostname", "primary_key": key,
                 "attributes": {"name": key, "root": root}, "scan_level": level},
    })
    .to_string()
}

/// What has happened: the instant before the last two events.
async fn past(house: &House) -> Moment {
    house
        .event(&event("e", "acme", "h1", "created", json!(true), 2))
        .await;
    house
        .event(&event("e1", "acme", "h2", "created", json!(false), 1))
        .await;
    house
        .event(&event("e11", "acme", "h2", "created", json!(false), 1))
        .await;
    house
        .event(&event("o", "other", "h3", "created", json!(true), 2))
        .await;
    let between = house.ground.clock.now();
    house.later(1);
    house
        .event(&event("e111", "acme", "h1", "updated", json!(false), 2))
        .await;
    house
        .event(&event("e1111", "acme", "h2", "updated", json!(true), 2))
        .await;
    between
}

/// Everything that is stored, counted.
async fn ledger(house: &House) -> Vec<Option<i64>> {
    let database = Database::at(house.url());
    let mut counts = Vec::new();
    for sql in [
        "SELECT count(*) FROM run",
        "SELECT count(*) FROM task",
        "SELECT count(*) FROM object",
        "SELECT count(*) FROM inbox",
        "SELECT count(*) FROM event",
        "SELECT count(*) FROM open_input",
        "SELECT count(*) FROM last_end",
        "SELECT count(*) FROM suppressed",
        "SELECT count(*) FROM attempt",
        "SELECT count(*) FROM declared",
        "SELECT count(*) FROM dead_letter",
        "SELECT count(*) FROM life",
        "SELECT count(*) FROM request",
        "SELECT count(*) FROM queue",
        "SELECT count(*) FROM allowance",
        "SELECT count(*) FROM schedule_cursor",
        "SELECT CAST(sum(version) AS bigint) FROM object",
        "SELECT CAST(sum(value) AS bigint) FROM revision",
        "SELECT CAST(sum(total) AS bigint) FROM run",
        "SELECT CAST(sum(priority) AS bigint) FROM task",
    ] {
        counts.push(database.count(sql).await);
    }
    counts
}

/// What is declared, and what would be with these entries and without that plugin; with the edits between them.
async fn overlaid(
    house: &House,
    text: &str,
    gone: Option<&str>,
) -> (Arc<Catalogue>, Arc<Catalogue>, Vec<Edit>) {
    let rules = house.ground.rules.clone();
    let (declared, complaints) =
        read_file("new.yaml", text.as_bytes(), &Variables::default(), &rules);
    assert!(complaints.is_empty(), "{complaints:?}");
    let (revision, stored) = house.ground.store.declared().await.expect("declared");
    let mut after = stored.clone();
    let mut edits = Vec::new();
    for entry in declared {
        let known = after
            .iter_mut()
            .find(|known| known.kind == entry.kind && known.name == entry.name);
        match known {
            Some(known) => known.definition = entry.definition.clone(),
            None => after.push(Stored {
                kind: entry.kind,
                id: format!("new-{}", entry.name),
                name: entry.name.clone(),
                organization: entry.organization.clone(),
                definition: entry.definition.clone(),
                revision: 1,
                created_at: house.ground.clock.now(),
            }),
        }
        edits.push(Edit::Put {
            kind: entry.kind,
            organization: entry.organization,
            id: String::new(),
            name: entry.name,
            definition: entry.definition,
        });
    }
    if let Some(gone) = gone {
        after.retain(|known| known.kind != Kind::Plugin || known.name != gone);
        edits.push(Edit::Delete {
            kind: Kind::Plugin,
            organization: String::new(),
            name: gone.to_owned(),
        });
    }
    let build = |stored| Edition::new(rules.clone()).replace(revision, stored, &BTreeSet::new());
    (build(stored), build(after), edits)
}

/// What the files would make of a while, or of the objects.
async fn replayed(house: &House, over: Over, change: impl FnOnce(&mut Replayed)) -> Value {
    replayed_with(house, NEW, over, change).await
}

/// The same of other files.
async fn replayed_with(
    house: &House,
    text: &str,
    over: Over,
    change: impl FnOnce(&mut Replayed),
) -> Value {
    let (present, proposed, edits) = overlaid(house, text, None).await;
    let about = edits.iter().filter_map(|edit| match edit {
        Edit::Put {
            kind: Kind::Schedule,
            name,
            organization,
            ..
        } => Some((name.clone(), organization.clone())),
        _ => None,
    });
    let about = about.collect();
    let now = house.ground.clock.now();
    let mut asked = Replayed {
        present,
        proposed,
        about,
        over,
        since: now.minus(Span::seconds(86_400)),
        until: now,
        organization: None,
        limit: 1000,
    };
    change(&mut asked);
    replay(&house.ground, &asked).await.expect("replayed")
}

fn of<'v>(told: &'v Value, schedule: &str) -> &'v Value {
    let schedules = told["schedules"].as_array().expect("schedules").iter();
    let found = schedules
        .clone()
        .find(|found| found["schedule"] == schedule);
    found.unwrap_or_else(|| panic!("no `{schedule}` in {told:#}"))
}

pub async fn events_are_replayed_under_new_rules_and_nothing_is_stored(house: House) {
    let between = past(&house).await;
    let before = ledger(&house).await;
    let told = replayed(&house, Over::Events, |_| {}).await;
    assert_eq!(
        (&told["events"], &told["unchanged"]),
        (&json!(6), &json!(1))
    );
    assert_eq!(told["not_known_before"], 0, "all began within the while");
    let hosts = of(&told, "hosts");
    assert_eq!(hosts["now"]["tasks"], 3);
    assert_eq!(
        hosts["would"]["tasks"], 5,
        "changed inputs pass the grace: {hosts:#}"
    );
    assert_eq!(
        hosts["difference"],
        json!({"events": 2, "runs": 2, "tasks": 2, "added": 2, "removed": 0, "first_expansion": null})
    );
    assert_eq!(
        hosts["made"],
        json!({"runs": 3, "tasks": 3}),
        "what was made then"
    );
    let roots = of(&told, "roots");
    assert_eq!(
        (&roots["would"]["events"], &roots["would"]["tasks"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(roots["made"], Value::Null);
    assert_eq!(roots["in_files"], true);
    let sample = &roots["would"]["samples"][0];
    assert_eq!(
        *sample,
        json!({
            "schedule": "roots", "organization": "acme", "event": "e", "object": "h1", "plugin": "nmap",
            "task": true, "reason": null, "detail": null,
        })
    );
    // Those whose inputs are looked for: the first of them, over what is there now.
    let around = of(&told, "around");
    assert_eq!(
        (&around["would"]["expanding"], &around["would"]["tasks"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(
        around["would"]["first_expansion"]["tasks"], 1,
        "a batch of two: {around:#}"
    );
    // Of one organisation, of a part of the time, no more than so many.
    let told = replayed(&house, Over::Events, |asked| {
        asked.organization = Some("other".to_owned())
    })
    .await;
    assert_eq!(told["events"], 1);
    assert_eq!(of(&told, "hosts")["made"]["tasks"], 1);
    let told = replayed(&house, Over::Events, |asked| {
        asked.since = between.plus(Span::seconds(1))
    })
    .await;
    assert_eq!(
        (&told["events"], &told["not_known_before"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(of(&told, "hosts")["would"]["tasks"], 2);
    let told = replayed(&house, Over::Events, |asked| asked.limit = 2).await;
    assert_eq!((&told["events"], &told["more"]), (&json!(2), &json!(true)));
    assert!(told["stopped_at"].is_string(), "{told:#}");
    assert_eq!(told["limit"], 2);
    let made = &of(&told, "hosts")["made"];
    assert_eq!(*made, Value::Null, "that is of all events of the while");
    assert_eq!(ledger(&house).await, before, "a replay stores nothing");
}

pub async fn objects_are_replayed_as_if_new_and_by_one_instant_of_the_clock(house: House) {
    past(&house).await;
    let before = ledger(&house).await;
    let told = replayed(&house, Over::Objects, |_| {}).await;
    assert_eq!(told["objects"], 3);
    let hosts = of(&told, "hosts");
    assert_eq!(hosts["would"]["tasks"], 0);
    assert_eq!(
        hosts["would"]["refused"],
        json!({"duplicate": 3}),
        "their tasks are open"
    );
    let roots = of(&told, "roots");
    assert_eq!(roots["would"]["tasks"], 2, "as they are now: {roots:#}");
    let sweep = of(&told, "sweep");
    assert_eq!(
        (&sweep["would"]["runs"], &sweep["would"]["tasks"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(
        of(&told, "once")["would"]["tasks"],
        2,
        "one for each organisation"
    );
    let told = replayed(&house, Over::Objects, |asked| {
        asked.organization = Some("acme".to_owned());
        asked.limit = 1;
    })
    .await;
    assert_eq!((&told["objects"], &told["more"]), (&json!(1), &json!(true)));
    let sweep = of(&told, "sweep");
    assert_eq!(sweep["more"], true, "its run looks at one object too");
    assert_eq!(of(&told, "once")["more"], false);
    assert_eq!(ledger(&house).await, before, "a replay stores nothing");
}

/// Of the changes that are told of a schedule: which, the object, and why not under the other rules.
fn changes_of(told: &Value, schedule: &str) -> Vec<(String, String, String)> {
    let text = |change: &Value, name: &str| change[name].as_str().unwrap_or_default().to_owned();
    let mut changes: Vec<(String, String, String)> = of(told, schedule)["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| {
            let reason = format!("{}: {}", text(change, "reason"), text(change, "detail"));
            (text(change, "change"), text(change, "object"), reason)
        })
        .collect();
    changes.sort();
    changes
}

fn change(which: &str, object: &str, reason: &str) -> (String, String, String) {
    (which.to_owned(), object.to_owned(), reason.to_owned())
}

pub async fn what_a_schedule_loses_and_gains_is_told_apart(house: House) {
    let swap = |root: &str| {
        format!(
            "- {{kind: plugin, plugin_id: nmap, worker_type: reader, consumes: [hostname]}}\n\
             - {{name: swap, run_on: hostname, operation: created, when: \"root = {root}\", plugins: \"plugin_id = 'nmap'\"}}"
        )
    };
    house.declare(&swap("True")).await;
    past(&house).await;
    for over in [Over::Events, Over::Objects] {
        // By now h1 is not root, and h2 is.
        let (loses, gains) = match over {
            Over::Events => ("h1", "h2"),
            Over::Objects => ("h2", "h1"),
        };
        // What is open already is no matter of the rules.
        if over == Over::Objects {
            for (task, _) in house.offer().await {
                let args = json!({"task_id": task, "reason": "no more"});
                house.done("task.cancel", args).await;
            }
        }
        let told = replayed_with(&house, &swap("False"), over, |asked| {
            asked.organization = Some("acme".to_owned())
        })
        .await;
        let swapped = of(&told, "swap");
        let difference = &swapped["difference"];
        assert_eq!(difference["tasks"], 0, "{swapped:#}");
        assert_eq!(
            (&difference["added"], &difference["removed"]),
            (&json!(1), &json!(1)),
            "{swapped:#}"
        );
        let untriggered = "not_triggered: such a change does not trigger it";
        assert_eq!(
            changes_of(&told, "swap"),
            [
                change("added", gains, untriggered),
                change("removed", loses, untriggered)
            ]
        );
        let named = &swapped["changes"][0];
        assert_eq!(
            (&named["schedule"], &named["plugin"], &named["organization"]),
            (&json!("swap"), &json!("nmap"), &json!("acme"))
        );
    }
}

pub async fn what_differs_is_told_of_schedules_that_no_file_names(house: House) {
    house
        .declare(
            r#"
- {kind: object_set, name: few, object_type: hostname, keys: [h1]}
- {kind: calendar, name: quiet, dates: ["2031-01-01"]}
- {kind: plugin, plugin_id: nmap, worker_type: reader, consumes: [hostname]}
- {name: nightly, recurrences: daily, input: {hostname: {set: few}}, plugins: "plugin_id = 'nmap'"}
- {name: weekly, recurrences: daily, calendars: [quiet], plugins: "plugin_id = 'feed'", input: {}, overlap: allow}
"#,
        )
        .await;
    past(&house).await;
    // A plugin needs a level that h2 had not then.
    let plugin = "- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname], scan_level: 2}";
    let told = replayed_with(&house, plugin, Over::Events, |_| {}).await;
    let hosts = of(&told, "hosts");
    assert_eq!(hosts["in_files"], false);
    assert_eq!(
        (
            &hosts["difference"]["added"],
            &hosts["difference"]["removed"]
        ),
        (&json!(0), &json!(1)),
        "{hosts:#}"
    );
    let low = "level_too_low: scan_level = 1, the plugin's is 2";
    assert_eq!(changes_of(&told, "hosts"), [change("removed", "h2", low)]);
    // A set holds another object.
    let set = "- {kind: object_set, name: few, object_type: hostname, keys: [h2]}";
    let told = replayed_with(&house, set, Over::Objects, |asked| {
        asked.organization = Some("acme".to_owned())
    })
    .await;
    let out = "not_taken: its `input` leaves it out";
    assert_eq!(
        changes_of(&told, "nightly"),
        [change("added", "h2", out), change("removed", "h1", out)]
    );
    assert_eq!(of(&told, "nightly")["difference"]["tasks"], 0);
    // A calendar takes an instant of the while away; of what it does not touch nothing is told.
    let calendar = "- {kind: calendar, name: quiet, dates: [\"2026-11-21\"]}";
    let told = replayed_with(&house, calendar, Over::Events, |_| {}).await;
    assert_eq!(
        of(&told, "weekly")["clock"],
        json!({
            "added": 0, "removed": 1, "instants_added": [], "instants_removed": ["2026-11-21T00:00:00Z"],
        })
    );
    let told = told["schedules"].as_array().expect("schedules").iter();
    let clocks = told.filter(|schedule| !schedule["clock"].is_null());
    assert_eq!(clocks.count(), 1);
}

pub async fn a_replay_names_no_task_that_it_has_imagined(house: House) {
    past(&house).await;
    let again =
        r#"- {name: again, run_on: hostname, operation: created, plugins: "plugin_id = 'dns'"}"#;
    let told = replayed_with(&house, again, Over::Events, |_| {}).await;
    let same = "duplicate: the schedule again makes that task of the same";
    let changes = changes_of(&told, "hosts");
    assert_eq!(changes.len(), 3, "{changes:?}");
    for (which, _, reason) in &changes {
        assert_eq!((which.as_str(), reason.as_str()), ("removed", same));
    }
    let sample = &of(&told, "hosts")["would"]["samples"][0];
    assert_eq!(
        sample["detail"],
        "the schedule again makes that task of the same"
    );
}

pub async fn what_is_not_kept_is_told_and_not_replayed(house: House) {
    let between = past(&house).await;
    let older = Older {
        events: between.plus(Span::seconds(1)),
        ..Older::default()
    };
    let store = &house.ground.store;
    store
        .forget(&older, Moment::EPOCH, 100)
        .await
        .expect("done");
    let told = replayed(&house, Over::Events, |_| {}).await;
    assert_eq!(told["events"], 2);
    assert_eq!(told["not_all_kept"], true);
    assert!(
        told["kept_since"].as_str() > Some(between.to_string().as_str()),
        "{told}"
    );
    // What they were before is guessed from what the store says, and counted.
    assert_eq!(told["not_known_before"], 2);
    assert_eq!(of(&told, "hosts")["would"]["tasks"], 2);
    let older = Older {
        events: house.ground.clock.now().plus(Span::seconds(1)),
        ..Older::default()
    };
    store
        .forget(&older, Moment::EPOCH, 100)
        .await
        .expect("done");
    let told = replayed(&house, Over::Events, |_| {}).await;
    assert_eq!(
        (&told["events"], &told["kept_since"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(told["not_all_kept"], true);
}

/// What such entries would change.
async fn changes(house: &House, text: &str, gone: Option<&str>) -> Value {
    let (present, proposed, edits) = overlaid(house, text, gone).await;
    let told = consequences(&house.ground, &present, &proposed, &edits).await;
    told.expect("the store answers")
}

pub async fn instants_and_selections_that_would_change_are_told(house: House) {
    let before = ledger(&house).await;
    let told = changes(
        &house,
        r#"
- {name: feeds, recurrences: weekly, plugins: "plugin_id = 'feed'", input: {}, overlap: allow}
- {name: hosts, run_on: hostname, operation: created, plugins: "'hostname' in input_types"}
- {kind: plugin, plugin_id: nmap, worker_type: reader, consumes: [hostname], recurrences: daily}
"#,
        None,
    )
    .await;
    let instants = told["instants"].as_array().expect("instants");
    assert_eq!(instants.len(), 2, "{told:#}");
    assert_eq!(instants[0]["schedule"], "feeds");
    assert_eq!(instants[0]["before"][0], "2026-11-22T00:00:00Z");
    assert_eq!(instants[0]["before"].as_array().map(Vec::len), Some(5));
    assert_eq!(instants[0]["after"][0], "2026-11-23T00:00:00Z");
    assert_eq!(instants[1]["schedule"], "plugin:nmap");
    assert_eq!(instants[1]["before"], json!([]));
    let hosts = told["selections"].as_array().expect("selections").iter();
    let hosts = hosts.clone().find(|found| found["schedule"] == "hosts");
    let hosts = hosts.expect("another plugin");
    assert_eq!(
        (&hosts["begins"], &hosts["ceases"]),
        (&json!(["nmap"]), &json!([]))
    );
    let told = changes(&house, "", Some("dns")).await;
    assert_eq!(told["instants"], json!([]));
    assert_eq!(told["selections"][0]["ceases"], json!(["dns"]));
    // Switched off there are no instants; what leaves the clock as it is tells none.
    let off = "- {name: feeds, enabled: false, recurrences: daily, plugins: \"plugin_id = 'feed'\", input: {}, overlap: allow}";
    let told = changes(&house, off, None).await;
    assert_eq!(told["instants"][0]["after"], json!([]));
    let same = "- {name: feeds, recurrences: daily, plugins: \"plugin_id = 'feed'\", input: {}, overlap: replace}";
    assert_eq!(changes(&house, same, None).await["instants"], json!([]));
    assert_eq!(ledger(&house).await, before);
}

pub async fn open_tasks_that_would_lose_their_reason_are_counted(house: House) {
    past(&house).await;
    let before = ledger(&house).await;
    let told = changes(&house, "", Some("dns")).await;
    let acme = json!({
        "plugin": "dns", "organization": "acme", "open": 2, "looked_at": 2, "withdrawn": 2, "reasons": {"disabled": 2},
    });
    assert_eq!(told["tasks"][0], acme);
    assert_eq!(told["tasks"][1]["organization"], "other");
    let dns = |more: &str| {
        format!(
            "- {{kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname], {more}}}"
        )
    };
    let told = changes(
        &house,
        &dns("organizations: {other: {enabled: false}}"),
        None,
    )
    .await;
    assert_eq!(told["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["tasks"][0]["organization"], "other");
    // A level is asked object by object: h2 is of 2 by now too.
    let told = changes(&house, &dns("scan_level: 3"), None).await;
    assert_eq!(told["tasks"][0]["withdrawn"], 2);
    assert_eq!(told["tasks"][0]["reasons"], json!({"level_too_low": 2}));
    assert_eq!(
        changes(&house, &dns("scan_level: 1"), None).await["tasks"],
        json!([])
    );
    let told = changes(
        &house,
        "- {kind: organization, id: other, enabled: false}",
        None,
    )
    .await;
    assert_eq!(told["tasks"][0]["organization"], "other");
    assert_eq!(ledger(&house).await, before);
}
