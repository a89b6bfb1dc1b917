//! What is declared, looked ahead and explained by commands.

use serde_json::{Value, json};

use super::asking::{House, requested};

fn names(rows: &Value, field: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("rows: {rows}"));
    rows.iter()
        .map(|row| row[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn nightly() -> Value {
    json!({
        "name": "nightly", "recurrences": "0 3 * * *", "timezone": "Europe/Amsterdam",
        "plugins": "plugin_id = 'feed'", "input": {},
    })
}

fn with(mut definition: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("fields") {
        definition[name] = value.clone();
    }
    definition
}

pub async fn a_schedule_is_applied_with_ids_revision_and_its_next_five_instants(house: House) {
    let made = house.done("schedule.apply", nightly()).await;
    assert_eq!(
        (&made["created"], &made["revision"]),
        (&json!(true), &json!(1))
    );
    let next: Vec<&str> = made["next"]
        .as_array()
        .expect("instants")
        .iter()
        .map(|at| at["utc"].as_str().expect("an instant"))
        .collect();
    assert_eq!(next.len(), 5);
    assert_eq!(next[0], "2026-11-22T02:00:00Z", "three o'clock in its zone");
    let same = house.done("schedule.apply", nightly()).await;
    assert_eq!(
        (&same["changed"], &same["revision"], &same["schedule_id"]),
        (&json!(false), &json!(1), &made["schedule_id"])
    );
    let later = with(
        nightly(),
        json!({"recurrences": "0 4 * * *", "expected_revision": 1}),
    );
    let changed = house.done("schedule.apply", later.clone()).await;
    assert_eq!(
        (
            &changed["changed"],
            &changed["revision"],
            &changed["schedule_id"]
        ),
        (&json!(true), &json!(2), &made["schedule_id"])
    );
    for (more, code) in [
        (json!({"expected_revision": 1}), "other_revision"),
        (json!({"if_exists": "fail"}), "exists"),
        (json!({"if_exists": "perhaps"}), "wrong_argument"),
        (json!({"recurrences": "0 25 * * *"}), "wrong_argument"),
        (json!({"timezone": "Europe/Amsterdm"}), "wrong_argument"),
        (json!({"recurences": "daily"}), "wrong_argument"),
        (json!({"calendars": ["freeze"]}), "wrong_argument"),
        (
            json!({"name": "other", "schedule_id": made["id"]}),
            "wrong_argument",
        ),
    ] {
        let refused = house
            .refused("schedule.apply", with(nightly(), more.clone()))
            .await;
        assert_eq!(refused, code, "{more}");
    }
    let ignored = with(nightly(), json!({"if_exists": "ignore"}));
    let ignored = house.done("schedule.apply", ignored).await;
    assert_eq!(
        (&ignored["changed"], &ignored["revision"]),
        (&json!(false), &json!(2))
    );
    // Its id finds it as well as its name.
    let mut by_id = with(nightly(), json!({"schedule_id": made["schedule_id"]}));
    by_id.as_object_mut().expect("fields").remove("name");
    let by_id = house.done("schedule.apply", by_id).await;
    assert_eq!(
        (&by_id["name"], &by_id["revision"]),
        (&json!("nightly"), &json!(3))
    );
    let preview =
        json!({"schedule": made["schedule_id"], "number": 2, "after": "2027-03-26T12:00:00Z"});
    let preview = house.done("schedule.preview", preview).await;
    assert_eq!(
        preview["instants"],
        json!([
            {"utc": "2027-03-27T02:00:00Z", "local": "2027-03-27T03:00:00+01:00"},
            {"utc": "2027-03-28T01:00:00Z", "local": "2027-03-28T03:00:00+02:00"},
        ]),
        "summer time begins in between"
    );
    house
        .done("schedule.delete", json!({"schedule": "nightly"}))
        .await;
    let gone = house
        .refused("schedule.preview", json!({"schedule": "nightly"}))
        .await;
    assert_eq!(gone, "not_found");
    let gone = house
        .ask("schedule.delete", json!({"schedule": "nightl"}))
        .await;
    assert_eq!(gone.expect_err("it is gone").code, "not_found");
}

pub async fn one_command_makes_a_job_of_a_plugin_and_its_schedule(house: House) {
    let job = json!({
        "name": "report", "recurrences": "daily", "input": {},
        "plugin": {"plugin_id": "report", "worker_type": "script", "runtime": "python", "artefact": "s3://jobs/report.py"},
    });
    let made = house
        .ask_as(Some("job-1"), None, "schedule.apply", job.clone())
        .await
        .expect("it is made");
    assert_eq!(made["plugin_id"], "report");
    let again = house
        .ask_as(Some("job-1"), None, "schedule.apply", job)
        .await;
    assert_eq!(again, Ok(made), "the same ids");
    let started = house
        .ask_of("acme", "run.start", json!({"schedule": "report"}))
        .await
        .expect("it starts");
    assert_eq!(started["tasks"], 1);
    // Both or none: a wrong plugin makes no schedule.
    let wrong = json!({
        "name": "other", "recurrences": "daily", "input": {},
        "plugin": {"plugin_id": "other", "worker": "script"},
    });
    let refused = house.ask("schedule.apply", wrong).await;
    let refused = refused.expect_err("a wrong field");
    assert!(refused.message.contains("worker_type"), "{refused:?}");
    let gone = house
        .refused("schedule.delete", json!({"schedule": "other"}))
        .await;
    assert_eq!(gone, "not_found");
}

pub async fn organisations_plugins_sets_and_calendars_are_made_listed_and_deleted(house: House) {
    house
        .done(
            "organization.apply",
            json!({"id": "third", "indemnified": true}),
        )
        .await;
    let listed = house.done("organization.list", json!({})).await;
    assert_eq!(
        names(&listed["organizations"], "id"),
        ["acme", "other", "third"]
    );
    house
        .done(
            "plugin.apply",
            json!({"plugin_id": "nmap", "worker_type": "reader", "consumes": ["hostname"]}),
        )
        .await;
    let listed = house.done("plugin.list", json!({})).await;
    assert_eq!(
        names(&listed["plugins"], "plugin_id"),
        ["dns", "feed", "nmap"]
    );
    house
        .done(
            "object_set.apply",
            json!({"name": "shops", "object_type": "hostname", "query": "name startswith 'shop'"}),
        )
        .await;
    let listed = house.done("object_set.list", json!({})).await;
    assert_eq!(names(&listed["object_sets"], "name"), ["shops"]);
    house
        .done(
            "calendar.apply",
            json!({"name": "freeze", "dates": ["2026-12-25"]}),
        )
        .await;
    house
        .done(
            "schedule.apply",
            with(nightly(), json!({"calendars": ["freeze"]})),
        )
        .await;
    let needed = house
        .refused("calendar.delete", json!({"name": "freeze"}))
        .await;
    assert_eq!(needed, "needed", "a schedule names it");
    house
        .done("schedule.delete", json!({"schedule": "nightly"}))
        .await;
    house
        .done("calendar.delete", json!({"name": "freeze"}))
        .await;
    let listed = house.done("calendar.list", json!({})).await;
    assert_eq!(listed["calendars"], json!([]));
    house
        .done("object_set.delete", json!({"name": "shops"}))
        .await;
    house
        .done("plugin.delete", json!({"plugin_id": "nmap"}))
        .await;
    let gone = house
        .ask("plugin.delete", json!({"plugin_id": "dsn"}))
        .await;
    let gone = gone.expect_err("no such plugin");
    assert_eq!(
        (gone.code.as_str(), gone.help.as_str()),
        ("not_found", "did you mean dns?")
    );
    // A plugin is switched for one organisation, or for all that do not say.
    let dns = json!({"plugin_id": "dns"});
    house
        .ask_of("acme", "plugin.disable", dns.clone())
        .await
        .expect("done");
    house.host("acme", "h1").await;
    house.host("other", "h1").await;
    assert_eq!(house.offer().await.len(), 1, "the other organisation's");
    house.done("plugin.disable", dns.clone()).await;
    house.host("other", "h2").await;
    assert_eq!(house.offer().await, []);
    let on = house
        .ask_of("other", "plugin.enable", dns)
        .await
        .expect("done");
    assert_eq!(on["changed"], true);
    house.host("other", "h3").await;
    assert_eq!(house.offer().await.len(), 1);
}

pub async fn an_organisation_declares_and_sees_only_what_is_its_own(house: House) {
    let theirs = with(
        nightly(),
        json!({"organization": "other", "name": "theirs"}),
    );
    house.done("schedule.apply", theirs.clone()).await;
    let made = house
        .ask_of("acme", "schedule.apply", nightly())
        .await
        .expect("it");
    assert_eq!(made["organization"], "acme", "it is whose it is that asks");
    for (command, args, code) in [
        ("schedule.apply", theirs, "not_yours"),
        (
            "schedule.delete",
            json!({"schedule": "theirs"}),
            "not_found",
        ),
        (
            "schedule.preview",
            json!({"schedule": "theirs"}),
            "not_found",
        ),
        ("schedule.delete", json!({"schedule": "feeds"}), "not_yours"),
        (
            "plugin.apply",
            json!({"plugin_id": "x", "worker_type": "y"}),
            "not_yours",
        ),
        ("plugin.delete", json!({"plugin_id": "dns"}), "not_yours"),
        (
            "organization.apply",
            json!({"id": "acme", "weight": 9}),
            "not_yours",
        ),
        (
            "calendar.apply",
            json!({"name": "c", "dates": []}),
            "not_yours",
        ),
    ] {
        let refused = house.ask_of("acme", command, args.clone()).await;
        let refused = refused.expect_err(command);
        assert_eq!(refused.code, code, "{command} {args}");
    }
    let seen = house
        .ask_of("acme", "organization.list", json!({}))
        .await
        .expect("it");
    assert_eq!(names(&seen["organizations"], "id"), ["acme"]);
    house
        .ask_of("other", "plugin.disable", json!({"plugin_id": "dns"}))
        .await
        .expect("done");
    let seen = house
        .ask_of("acme", "plugin.list", json!({}))
        .await
        .expect("it");
    assert!(!seen.to_string().contains("\"other\""), "{seen}");
    let seen = house
        .ask_of("acme", "schedule.list", json!({}))
        .await
        .expect("it");
    assert!(!seen.to_string().contains("theirs"), "{seen}");
}

pub async fn an_event_is_explained_and_nothing_is_stored(house: House) {
    let event = json!({
        "specversion": "1.0", "id": "e1", "source": "/t", "type": "object.created", "time": "2026-11-21T09:00:00Z",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": "h1", "attributes": {"name": "h1"}},
    });
    house
        .done("schedule.apply", json!({
            "name": "theirs", "organization": "other", "run_on": "hostname", "operation": "created", "plugins": "True",
        }))
        .await;
    for event in [event.clone(), json!(event.to_string())] {
        let told = house.done("explain", json!({"event": event})).await;
        assert_eq!(told["tasks"], 1);
        let hosts = told["schedules"].as_array().expect("findings").iter();
        let hosts = hosts.clone().find(|finding| finding["schedule"] == "hosts");
        let hosts = hosts.expect("the schedule");
        assert_eq!(
            hosts["plugins"][0],
            json!({"plugin": "dns", "task": true, "inputs": ["h1"]})
        );
    }
    let told = house
        .ask_of("acme", "explain", json!({"event": event}))
        .await
        .expect("it");
    assert!(!told.to_string().contains("theirs"), "{told}");
    let refused = house
        .ask_of("other", "explain", json!({"event": event}))
        .await;
    assert_eq!(refused.expect_err("theirs").code, "not_yours");
    assert_eq!(
        house.refused("explain", json!({"event": "{}"})).await,
        "missing_field"
    );
    assert_eq!(house.refused("explain", json!({})).await, "wrong_argument");
    let nowhere = json!({"event": event, "queue": "elsewhere"});
    assert_eq!(house.refused("explain", nowhere).await, "not_found");
    assert_eq!(house.offer().await, []);
    house.host("acme", "h1").await;
    house.host("other", "h1").await;
    let all = house.done("stats", json!({})).await;
    let queue = house.ground.rules.worker("reader").queue.clone();
    assert_eq!(all["tasks"][&queue]["queued"], 2);
    assert_eq!(all["objects"]["hostname"], 2);
    let ours = house.ask_of("acme", "stats", json!({})).await.expect("it");
    assert_eq!(ours["tasks"][&queue]["queued"], 1);
    assert_eq!(
        ours["organizations"],
        Value::Null,
        "who else there is is not told"
    );
}

pub async fn two_at_once_with_one_id_make_one_schedule_and_hear_the_same(house: House) {
    let beside = house.beside().await;
    let job = with(nightly(), json!({"if_exists": "fail"}));
    let asked = requested(Some("once"), None, "schedule.apply", job);
    let (one, other) = tokio::join!(
        muster::answer::answer(&house.ground, &asked, "one"),
        muster::answer::answer(&beside, &asked, "other"),
    );
    let (one, other) = (one.expect("answered"), other.expect("answered"));
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(one, other);
    beside.store.close().await;
}

pub async fn what_is_paused_already_keeps_a_new_reason_with_who_and_when(house: House) {
    for (noun, name) in [("schedule", "feeds"), ("queue", "muster.tasks.reader")] {
        let command = format!("{noun}.pause");
        let pause = |reason: &str| json!({noun: name, "reason": reason});
        let first = house.done(&command, pause("the feed is down")).await;
        let same = house.done(&command, pause("the feed is down")).await;
        assert_eq!(same["changed"], false, "{noun}");
        assert_eq!(same["paused"], first["paused"]);
        let other = house.done(&command, pause("it is moved")).await;
        assert_eq!(other["changed"], true, "{noun}");
        assert_eq!(other["paused"]["reason"], "it is moved");
        assert_eq!(other["paused"]["who"], "tester");
        assert_eq!(
            other["paused"]["at"],
            house.ground.clock.now().to_string(),
            "since the one who said it last"
        );
        let command = format!("{noun}.resume");
        let resumed = house.done(&command, json!({noun: name})).await;
        assert_eq!(resumed["changed"], true);
    }
}
