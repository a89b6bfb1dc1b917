//! Chains: what the ends of runs and tasks set off, once each, in their own organisation, and no further than a chain may
//! be long.

use muster::chains;
use muster::declaration::{Variables, read_file};
use muster::intake::{Incoming, handle};
use muster::run::{LONGEST_CHAIN, RunState};
use muster::store::{RunRecord, Store};
use muster::task::TaskState;
use serde_json::json;

use super::{House, moment, on_postgres, on_sqlite, on_target, replica, rules};

on_both!(
    a_run_that_ends_sets_off_what_is_chained_to_it_on_its_target,
    an_end_is_told_once_whoever_is_killed_and_however_often_it_is_reported,
    two_replicas_that_tell_of_the_same_end_make_one_run_of_it,
    the_end_of_a_task_sets_off_a_run_on_its_inputs,
    an_end_that_a_replica_decides_with_an_old_catalogue_is_noted,
    a_chained_run_selects_its_inputs_by_what_ended,
    a_chain_that_is_too_long_ends_with_a_row_that_says_so,
    what_did_not_run_sets_nothing_off,
    a_schedule_that_is_switched_off_or_paused_is_not_set_off,
    a_chain_stays_in_its_organization,
    a_chained_run_waits_where_its_schedule_buffers,
    a_run_with_descendants_is_complete_when_all_that_it_set_off_is,
    a_chained_run_whose_target_is_gone_is_a_failed_run,
);

/// What runs once `scan` has gone well.
const REPORT: &str = "- {name: report, run_on: run, when: \"schedule = 'scan' and state = 'succeeded'\", \
     plugins: \"plugin_id = 'report'\"}\n\
     - {kind: plugin, plugin_id: report, worker_type: reader, consumes: [hostname]}\n";

/// The runs of one schedule.
async fn runs_of(house: &House, schedule: &str) -> Vec<RunRecord> {
    let mut runs = house.runs().await;
    runs.retain(|run| run.schedule == schedule);
    runs
}

async fn tell(house: &House) {
    chains::step(&house.ground).await.expect("told");
}

async fn a_run_that_ends_sets_off_what_is_chained_to_it_on_its_target(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house.declare(REPORT).await;
    house.at("2026-11-21T10:00:01Z").await;
    house.clock("2026-11-21T10:05:00Z");
    assert_eq!(house.work(TaskState::Failed).await, 1);
    tell(&house).await;
    assert_eq!(house.runs().await.len(), 1, "`when` asks for a success");
    house.at("2026-11-21T11:00:01Z").await;
    house.clock("2026-11-21T11:05:00Z");
    assert_eq!(house.succeed().await, 1);
    tell(&house).await;
    let scan = runs_of(&house, "scan").await.remove(1);
    let report = runs_of(&house, "report").await;
    assert_eq!(report.len(), 1);
    let report = &report[0];
    assert_eq!(report.cause, "chained");
    assert_eq!(report.parent_id.as_ref(), Some(&scan.id));
    assert_eq!(report.target.as_deref(), Some("h1"));
    assert_eq!(report.scheduled_for, moment("2026-11-21T11:05:00Z"));
    assert_eq!(report.counts[0], 1);
    // What was set off has ended too, and asks for nothing more.
    assert_eq!(house.succeed().await, 1);
    tell(&house).await;
    assert_eq!(house.runs().await.len(), 3);
    assert_eq!(chains::step(&house.ground).await.expect("looked"), 0);
}

async fn an_end_is_told_once_whoever_is_killed_and_however_often_it_is_reported(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house.declare(REPORT).await;
    house.at("2026-11-21T10:00:01Z").await;
    house.accept().await;
    let task = house.open_tasks().await.remove(0).0;
    let word = json!({
        "task_id": task, "attempt": 1, "worker": "w1", "status": "succeeded", "at": "2026-11-21T10:05:00Z",
    });
    let status = Incoming {
        queue: "muster.status".to_owned(),
        body: word.to_string().into_bytes(),
        status: true,
        ..Incoming::default()
    };
    for _ in 0..2 {
        let handled = handle(&house.ground, std::slice::from_ref(&status)).await;
        assert_eq!(handled.expect("handled").statuses, 1);
    }
    assert_eq!(runs_of(&house, "scan").await[0].state, RunState::Succeeded);
    assert_eq!(house.runs().await.len(), 1, "nobody has told of it yet");
    // Whoever stored the end is killed before it tells; another finds the note.
    let now = house.ground.clock.now();
    let house = House {
        ground: replica(&house.ground.store, 99, now),
        url: house.url.clone(),
    };
    tell(&house).await;
    assert_eq!(runs_of(&house, "report").await.len(), 1);
    handle(&house.ground, std::slice::from_ref(&status))
        .await
        .expect("handled");
    tell(&house).await;
    assert_eq!(runs_of(&house, "report").await.len(), 1);
}

async fn two_replicas_that_tell_of_the_same_end_make_one_run_of_it(house: House) {
    house
        .declare(
            "- {name: feeds, recurrences: hourly, plugins: \"plugin_id = 'feed'\", input: {}}\n\
             - {name: after, run_on: run, when: \"schedule = 'feeds'\", plugins: \"plugin_id = 'other'\", overlap: allow}\n\
             - {kind: plugin, plugin_id: other, worker_type: reader}",
        )
        .await;
    let other = replica(&house.ground.store, 8, house.ground.clock.now());
    for hour in 10..20 {
        house.clock(&format!("2026-11-21T{hour}:00:01Z"));
        muster::ticker::step(&house.ground).await.expect("ticked");
        assert!(house.succeed().await > 0);
        other.clock.fix(house.ground.clock.now());
        let (one, two) = tokio::join!(chains::step(&house.ground), chains::step(&other));
        // Who comes second may have to look again, and then finds nothing.
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    }
    let (feeds, after) = (
        runs_of(&house, "feeds").await,
        runs_of(&house, "after").await,
    );
    let parents: Vec<_> = after.iter().flat_map(|run| &run.parent_id).collect();
    assert_eq!(parents, feeds.iter().map(|run| &run.id).collect::<Vec<_>>());
}

async fn the_end_of_a_task_sets_off_a_run_on_its_inputs(house: House) {
    for host in ["h1", "h2", "h3"] {
        house.host("acme", host).await;
    }
    house
        .declare(
            "- {kind: plugin, plugin_id: sweep, worker_type: reader, consumes: [hostname], batch_size: 2}\n\
             - {name: sweeps, recurrences: hourly, plugins: \"plugin_id = 'sweep'\", input: {hostname: null}}\n\
             - {name: after, run_on: task, operation: finished, when: \"plugin_id = 'sweep' and state = 'succeeded'\", \
                plugins: \"plugin_id = 'dns'\"}",
        )
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    assert_eq!(house.succeed().await, 2, "a batch of two and one of one");
    tell(&house).await;
    let sweeps = runs_of(&house, "sweeps").await.remove(0);
    let after = runs_of(&house, "after").await;
    let made: Vec<i64> = after.iter().map(|run| run.counts[0]).collect();
    assert_eq!(made, [2, 1], "a task for each input");
    let targets: Vec<Option<&str>> = after.iter().map(|run| run.target.as_deref()).collect();
    assert_eq!(targets, [None, Some("h3")]);
    assert!(
        after
            .iter()
            .all(|run| run.parent_id.as_ref() == Some(&sweeps.id))
    );
}

async fn an_end_that_a_replica_decides_with_an_old_catalogue_is_noted(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house.at("2026-11-21T10:00:01Z").await;
    // Somebody declares what is chained; this replica has not heard of it when it stores the end.
    let now = house.ground.clock.now();
    let url = house.url.clone();
    let elsewhere = House {
        ground: replica(&Store::open(&url).await.expect("open"), 9, now),
        url,
    };
    elsewhere.declare(REPORT).await;
    assert_eq!(house.succeed().await, 1);
    tell(&house).await;
    assert_eq!(runs_of(&house, "report").await.len(), 1);
}

async fn a_chained_run_selects_its_inputs_by_what_ended(house: House) {
    for host in ["h1", "h2", "other"] {
        house.host("acme", host).await;
    }
    house.declare(&on_target("")).await;
    house
        .declare(
            "- {name: others, run_on: run, when: \"schedule = 'scan' and total = 1 and failed = 0\", \
                plugins: \"plugin_id = 'dns'\", input: {hostname: \"name != trigger.target and name startswith 'h'\"}}",
        )
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.succeed().await;
    house.tick().await;
    house.tick().await;
    let others = runs_of(&house, "others").await;
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].counts[0], 1, "h2 alone");
    assert_eq!(others[0].target, None);
}

async fn a_chain_that_is_too_long_ends_with_a_row_that_says_so(house: House) {
    // It sets itself off, each time that it ends.
    house
        .declare(
            "- {name: again, recurrences: hourly, run_on: run, plugins: \"plugin_id = 'feed'\"}",
        )
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    let mut ended = 0;
    while house.succeed().await > 0 {
        ended += 1;
        house.clock(&format!("2026-11-21T10:{ended:02}:00Z"));
        tell(&house).await;
        assert!(ended <= LONGEST_CHAIN, "a circle has no end");
    }
    assert_eq!(ended, LONGEST_CHAIN);
    let mut runs = house.runs().await;
    let refused = runs.pop().expect("the row");
    assert_eq!(refused.state, RunState::Skipped);
    assert_eq!(refused.reason.as_deref(), Some("chain_too_long"));
    let mut parent = None;
    for run in &runs {
        assert_eq!(run.state, RunState::Succeeded);
        assert_eq!(run.parent_id, parent, "each was set off by the one before");
        parent = Some(run.id.clone());
    }
    assert_eq!(refused.parent_id, parent);
    let told = house
        .ask("run.get", json!({"run_id": refused.id}))
        .await
        .expect("the run");
    assert_eq!(
        told["conditions"][0]["message"],
        "too many runs set each other off one after another"
    );
}

async fn what_did_not_run_sets_nothing_off(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house
        .declare("- {name: after, run_on: run, when: \"schedule = 'scan'\", plugins: \"plugin_id = 'dns'\"}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.at("2026-11-21T11:00:01Z").await;
    assert_eq!(house.runs().await[1].state, RunState::Skipped);
    house.tick().await;
    assert_eq!(runs_of(&house, "after").await, []);
    let running = house.runs().await[0].id.clone();
    house
        .ask("run.cancel", json!({"run_id": running}))
        .await
        .expect("cancelled");
    tell(&house).await;
    assert_eq!(
        runs_of(&house, "after").await.len(),
        1,
        "a cancelled one began, and has ended"
    );
}

async fn a_schedule_that_is_switched_off_or_paused_is_not_set_off(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house.declare(REPORT).await;
    house
        .declare(&REPORT.replace("name: report,", "name: off, enabled: false,"))
        .await;
    let paused = house
        .ask(
            "schedule.pause",
            json!({"schedule": "report", "reason": "night"}),
        )
        .await;
    paused.expect("paused");
    house.at("2026-11-21T10:00:01Z").await;
    house.succeed().await;
    tell(&house).await;
    house
        .ask("schedule.resume", json!({"schedule": "report"}))
        .await
        .expect("resumed");
    house.tick().await;
    assert_eq!(
        house.runs().await.len(),
        1,
        "what went by does not come back"
    );
    house.at("2026-11-21T11:00:01Z").await;
    house.succeed().await;
    tell(&house).await;
    assert_eq!(runs_of(&house, "report").await.len(), 1);
    assert_eq!(runs_of(&house, "off").await, []);
}

async fn a_chain_stays_in_its_organization(house: House) {
    house.declare("- {kind: organization, id: other}").await;
    for organization in ["acme", "other"] {
        house.host(organization, "h1").await;
    }
    house.declare(&on_target("")).await;
    house.declare(REPORT).await;
    house
        .declare(&REPORT.replace("name: report,", "name: theirs, organization: other,"))
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.clock("2026-11-21T10:01:00Z");
    house.succeed().await;
    tell(&house).await;
    let runs = house.runs().await;
    let made: Vec<(&str, &str)> = runs
        .iter()
        .map(|run| (run.schedule.as_str(), run.organization.as_str()))
        .collect();
    assert_eq!(made, [("scan", "acme"), ("report", "acme")]);
}

async fn a_chained_run_waits_where_its_schedule_buffers(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house
        .declare(&REPORT.replace("name: report,", "name: report, overlap: buffer_one,"))
        .await;
    let states = async || -> Vec<&str> {
        let runs = runs_of(&house, "report").await;
        runs.iter().map(|run| run.state.word()).collect()
    };
    house.at("2026-11-21T10:00:01Z").await;
    house.succeed().await;
    tell(&house).await;
    // A worker keeps the first report.
    house.accept().await;
    let report = house.open_tasks().await.remove(0).0;
    house.at("2026-11-21T11:00:01Z").await;
    house.succeed().await;
    tell(&house).await;
    assert_eq!(states().await, ["running", "pending"]);
    house.say(&report, TaskState::Succeeded).await;
    house.tick().await;
    assert_eq!(states().await, ["succeeded", "running"]);
    let second = &runs_of(&house, "report").await[1];
    assert_eq!(second.target.as_deref(), Some("h1"));
    assert_eq!(second.counts[0], 1);
}

async fn a_run_with_descendants_is_complete_when_all_that_it_set_off_is(house: House) {
    house.host("acme", "h1").await;
    house
        .declare(&on_target(", complete_when: descendants"))
        .await;
    house
        .declare(&REPORT.replace("name: report,", "name: report, complete_when: descendants,"))
        .await;
    house
        .declare("- {name: last, run_on: task, when: \"schedule = 'report'\", plugins: \"plugin_id = 'dns'\"}")
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    let complete = async |schedule: &str| {
        let run = runs_of(&house, schedule).await.remove(0);
        let told = house
            .ask("run.get", json!({"run_id": run.id}))
            .await
            .expect("the run");
        let condition = &told["conditions"][2];
        (
            condition["status"].as_bool().expect("a status"),
            condition["reason"].as_str().unwrap_or("").to_owned(),
        )
    };
    let waits = || (false, "descendants".to_owned());
    assert_eq!(complete("scan").await, (false, "not_finished".to_owned()));
    house.succeed().await;
    assert_eq!(runs_of(&house, "scan").await[0].state, RunState::Succeeded);
    assert_eq!(complete("scan").await, waits(), "before it is told too");
    tell(&house).await;
    assert_eq!(complete("scan").await, waits());
    house.succeed().await;
    tell(&house).await;
    assert_eq!(complete("report").await, waits());
    assert_eq!(complete("scan").await, waits());
    house.clock("2026-11-21T10:30:00Z");
    house.succeed().await;
    tell(&house).await;
    for schedule in ["last", "report", "scan"] {
        assert_eq!(
            complete(schedule).await,
            (true, "succeeded".to_owned()),
            "{schedule}"
        );
    }
    let scan = runs_of(&house, "scan").await.remove(0);
    assert_eq!(scan.completed_at, Some(moment("2026-11-21T10:30:00Z")));
    // Without anything that is chained to it, it is complete with its end.
    house
        .ask(
            "schedule.pause",
            json!({"schedule": "report", "reason": "x"}),
        )
        .await
        .expect("paused");
    house.at("2026-11-21T11:00:01Z").await;
    house.succeed().await;
    tell(&house).await;
    let scan = runs_of(&house, "scan").await.remove(1);
    assert_eq!(scan.completed_at, scan.finished_at);
}

async fn a_chained_run_whose_target_is_gone_is_a_failed_run(house: House) {
    house.host("acme", "h1").await;
    house.declare(&on_target("")).await;
    house
        .declare(&REPORT.replace(
            "name: report,",
            "name: report, organization: acme, target: nobody,",
        ))
        .await;
    house.at("2026-11-21T10:00:01Z").await;
    house.succeed().await;
    tell(&house).await;
    let report = runs_of(&house, "report").await.remove(0);
    assert_eq!(report.state, RunState::Failed);
    assert_eq!(report.reason.as_deref(), Some("target_not_found"));
}

#[test]
fn what_cannot_be_chained_is_refused_with_what_would_be_right() {
    let said = |text: &str| {
        let text = format!("- {{name: a, plugins: \"enabled = True\", {text}}}");
        let (_, complaints) = read_file("a.yaml", text.as_bytes(), &Variables::default(), &rules());
        let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        told.join("\n")
    };
    for (text, told) in [
        ("run_on: run, operation: created", "`operation: finished`"),
        (
            "run_on: hostname, operation: finished",
            "`run_on: run` or `run_on: task`",
        ),
        (
            "run_on: run, operation: [finished, deleted]",
            "`operation: finished` alone",
        ),
        ("run_on: run, when: \"primary_key = 'a'\"", "primary_key"),
        ("run_on: task, when: \"total > 1\"", "total"),
        ("run_on: run, when: \"previous.state = 'a'\"", "previous"),
        (
            "recurrences: daily, input: {run: \"state = 'failed'\"}",
            "runs and tasks are no objects",
        ),
    ] {
        let complaint = said(text);
        assert!(complaint.contains(told), "{text}: {complaint}");
    }
    for text in [
        "run_on: run",
        "run_on: task, operation: finished, when: \"plugin_id = 'a' and target = 'b'\"",
        "run_on: run, when: \"done > 1\", complete_when: descendants",
        "run_on: [run, hostname], operation: [finished, created]",
    ] {
        assert_eq!(said(text), "", "{text}");
    }
}
