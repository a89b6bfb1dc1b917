//! The clock as the command line shows it: previews, calendars, what apply says of both.

use std::fs;

use serde_json::Value;

use muster::moment::{Moment, Span};

use crate::support::process::{House, until};
use crate::support::servers::Folder;
use crate::{ended, newcomer};

const FREEZE: &str = r#"
- {kind: calendar, name: freeze, timezone: Europe/Amsterdam, dates: {from: "2026-12-24", to: "2027-01-01"}}
- {kind: plugin, plugin_id: own, worker_type: boefje, recurrences: "0 3 * * 1"}
- {name: nightly, timezone: Europe/Amsterdam, recurrences: "30 2 * * *", calendars: [freeze], plugins: "True"}
- {name: events, run_on: hostname, operation: created, plugins: "True"}
"#;

#[test]
fn a_preview_shows_the_next_instants_of_a_declared_schedule_in_its_zone_and_in_utc() {
    let house = House::embedded("");
    house.apply("freeze.yaml", FREEZE);
    let preview = |arguments: &[&str]| {
        let mut all = vec!["schedule", "preview"];
        all.extend_from_slice(arguments);
        ended(house.command(&all))
    };
    let after = "2026-12-23T00:00:00Z";
    let (code, out, err) = preview(&["nightly", "-n", "2", "--after", after]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("nightly (Europe/Amsterdam)"), "{out}");
    assert!(out.contains("Wed 2026-12-23 02:30:00 +01:00"), "{out}");
    assert!(out.contains("2026-12-23T01:30:00Z"), "{out}");
    // The calendar's days are passed over.
    assert!(out.contains("2027-01-02T01:30:00Z"), "{out}");
    let (code, out, _) = preview(&[
        "plugin:own",
        "-n",
        "1",
        "--after",
        after,
        "--output",
        "json",
    ]);
    assert_eq!(code, 0);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told[0]["instants"][0]["utc"], "2026-12-28T03:00:00Z");
    assert_eq!(told[0]["instants"][0]["local"], "2026-12-28T03:00:00+00:00");
    let (code, _, err) = preview(&["nightli"]);
    assert_eq!(code, 1);
    assert!(err.contains("did you mean nightly"), "{err}");
    let (code, _, err) = preview(&["events"]);
    assert_eq!(code, 1);
    assert!(err.contains("the clock does not start `events`"), "{err}");
}

#[test]
fn a_preview_of_a_file_needs_nothing_declared() {
    let folder = Folder::new("preview");
    fs::write(folder.path().join("freeze.yaml"), FREEZE).expect("written");
    let arguments = [
        "schedule",
        "preview",
        "freeze.yaml",
        "-n",
        "1",
        "--after",
        "2026-03-28T12:00:00Z",
    ];
    let (code, out, err) = ended(newcomer(&folder, &arguments));
    assert_eq!(code, 0, "{err}");
    // The clocks go forward that night.
    assert!(out.contains("Sun 2026-03-29 03:00:00 +02:00"), "{out}");
    assert!(out.contains("plugin:own"), "{out}");
}

#[test]
fn apply_says_when_a_schedule_fires_next_and_refuses_one_that_never_does() {
    let house = House::embedded("");
    let apply = |text: &str, more: &[&str]| {
        let path = house.write("clock.yaml", text.as_bytes());
        let mut all = vec!["apply", path.to_str().expect("a path")];
        all.extend_from_slice(more);
        ended(house.command(&all))
    };
    let (code, out, err) = apply(FREEZE, &[]);
    assert_eq!(code, 0, "{err}");
    let next = out.lines().find(|line| line.trim().starts_with("next: "));
    assert_eq!(
        next.map(|line| line.matches(" 02:30:00 ").count()),
        Some(5),
        "{out}"
    );
    let never = r#"
- {kind: calendar, name: nights, weekly: [{days: mon-sun, from: "22:00", to: "06:00"}]}
- {name: at-three, recurrences: "0 3 * * *", calendars: nights, plugins: "True"}
"#;
    let (code, _, err) = apply(never, &[]);
    assert_eq!(code, 1);
    assert!(err.contains("lies in a blackout"), "{err}");
    let (code, _, err) = apply(
        "- {name: other, recurrences: daily, calendars: [freze], plugins: \"True\"}",
        &[],
    );
    assert_eq!(code, 1);
    assert!(
        err.contains("there is no calendar `freze`; did you mean `freeze`?"),
        "{err}"
    );
    // One that is stored may be named, and then it must stay.
    let (code, _, err) = apply(
        "- {name: other, recurrences: daily, calendars: [freeze], plugins: \"True\"}",
        &[],
    );
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = apply(
        "- {kind: calendar, name: another, dates: \"2026-12-25\"}",
        &["--prune", "--yes"],
    );
    assert_eq!(code, 1);
    assert!(
        err.contains("it names `freeze`, which would no longer be declared"),
        "{err}"
    );
    let (code, out, _) = ended(house.command(&["calendar", "list"]));
    assert_eq!(code, 0);
    assert!(out.contains("freeze") && !out.contains("another"), "{out}");
}

#[tokio::test]
async fn a_plugin_that_apply_enables_runs_on_what_is_there_and_a_restart_enables_nothing() {
    let house = House::embedded("[workers.boefje]\nrun_on_enable = true\n");
    let plugin = |more: &str| {
        format!(
            "- {{kind: plugin, plugin_id: scan, worker_type: boefje, scan_level: 1, consumes: [hostname]{more}}}"
        )
    };
    house.apply("plugin.yaml", &plugin(", enabled: false"));
    let events: Vec<String> = ["h1", "h2"]
        .iter()
        .map(|key| {
            format!(
                r#"{{"specversion":"1.0","id":"e-{key}","source":"/t","type":"object.created","data":{{"organization":"acme","object_type":"hostname","primary_key":"{key}","attributes":{{}},"scan_level":2}}}}"#
            )
        })
        .collect();
    assert_eq!(
        house.lines(events.join("\n").into_bytes()),
        [] as [Value; 0]
    );
    house.apply("plugin.yaml", &plugin(""));
    let tasks = house.lines(Vec::new());
    let mut inputs: Vec<&str> = tasks
        .iter()
        .filter_map(|task| task["inputs"][0]["primary_key"].as_str())
        .collect();
    inputs.sort_unstable();
    assert_eq!(inputs, ["h1", "h2"]);
    assert!(tasks.iter().all(|task| task["schedule"] == "enabled:scan"));
    // Nothing new is enabled, by the same file or by another start; once it was off, it is.
    house.apply("plugin.yaml", &plugin(""));
    house.apply("plugin.yaml", &plugin(", description: other"));
    assert_eq!(house.lines(Vec::new()), [] as [Value; 0]);
    let off = plugin(", organizations: {acme: {enabled: false}}");
    house.apply("plugin.yaml", &off);
    house.apply("plugin.yaml", &plugin(""));
    let runs = house.database().await;
    assert_eq!(runs.count("SELECT count(*) FROM run").await, Some(2));
}

#[tokio::test]
async fn what_was_due_before_a_calendar_changed_is_decided_by_the_calendar_as_it_was() {
    let house = House::embedded("");
    house.apply(
        "every.yaml",
        "- {kind: organization, id: acme}\n\
         - {kind: calendar, name: closed, dates: [\"2000-01-01\"]}\n\
         - {kind: plugin, plugin_id: feed, worker_type: reader}\n\
         - {name: every, recurrences: \"* * * * * *\", calendars: [closed], plugins: \"True\", overlap: allow}",
    );
    let begun = Moment::now();
    until("a second to go by", async || {
        (Moment::now().since(begun) > Span::seconds(1)).then_some(())
    })
    .await;
    // Now it is closed all the time, and what went by before ran.
    house.apply(
        "closed.yaml",
        "- {kind: calendar, name: closed, dates: [{from: \"2000-01-01\", to: \"2100-01-01\"}]}",
    );
    let runs = house.database().await;
    assert_ne!(runs.count("SELECT count(*) FROM run").await, Some(0));
}
