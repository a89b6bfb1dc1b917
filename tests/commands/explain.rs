//! Why something was made, was not, or has not run yet.

use muster::moment::Moment;
use muster::store::Older;
use serde_json::{Value, json};

use super::asking::House;

fn created(id: &str, source: &str, organization: &str, key: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": source, "type": "object.created", "time": "2026-11-21T09:00:00Z",
        "data": {"organization": organization, "object_type": "hostname", "primary_key": key,
                 "attributes": {"name": "it's \"é\" \\ so"}, "scan_level": 2},
    })
}

async fn refusal(house: &House, organization: Option<&str>, args: Value) -> (String, String) {
    let said = house.ask_as(None, organization, "explain", args).await;
    let refused = said.expect_err("it is refused");
    (
        refused.code,
        format!("{}; {}", refused.message, refused.help),
    )
}

pub async fn an_event_that_was_handled_is_explained_with_what_was_made_of_it(house: House) {
    let event = created("e1", "/inventory", "acme", "h1");
    assert_eq!(house.event(&event.to_string()).await, 0);
    let handled_at = house.ground.clock.now();
    let told = house.done("explain", json!({"event_id": "e1"})).await;
    assert_eq!(told["kept"]["operations"], json!(["created"]));
    assert_eq!(told["kept"]["handled_at"], handled_at.to_string());
    assert_eq!(told["handled_before"], true);
    assert_eq!(told["unchanged"], true, "the object is as it says already");
    let made = told["made"].as_array().expect("runs");
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["schedule"], "hosts");
    assert_eq!(made[0]["tasks"][0]["plugin"], "dns");
    assert_eq!(made[0]["tasks"][0]["state"], "queued");
    let hosts = told["schedules"].as_array().expect("findings").iter();
    let hosts = hosts.clone().find(|finding| finding["schedule"] == "hosts");
    let hosts = hosts.expect("the schedule");
    assert_eq!(hosts["plugins"][0]["reason"], "duplicate", "{hosts}");
    // What it did then stays what it did, also where the same would do nothing now.
    let again = created("e2", "/inventory", "acme", "h1");
    assert_eq!(house.event(&again.to_string()).await, 0);
    let told = house.done("explain", json!({"event_id": "e2"})).await;
    assert_eq!(told["kept"]["operations"], json!([]));
    assert_eq!(told["made"], json!([]));
    // By the id under which it is kept too.
    let kept = told["kept"]["id"].clone();
    let same = house.done("explain", json!({"event_id": kept})).await;
    assert_eq!(same["event"]["id"], "e2");
    assert_eq!(house.offer().await.len(), 1, "explaining makes nothing");
}

pub async fn an_event_that_is_not_kept_or_not_ones_own_is_not_explained(house: House) {
    house
        .event(&created("e1", "/a", "acme", "h1").to_string())
        .await;
    house
        .event(&created("e1", "/b", "acme", "h2").to_string())
        .await;
    let (code, said) = refusal(&house, None, json!({"event_id": "e1"})).await;
    assert_eq!(code, "ambiguous");
    assert!(said.contains("/a, /b"), "{said}");
    let one = json!({"event_id": "e1", "source": "/b"});
    assert_eq!(
        house.done("explain", one.clone()).await["primary_key"],
        "h2"
    );
    let (code, said) = refusal(&house, Some("other"), one.clone()).await;
    assert_eq!(code, "not_found", "{said}");
    assert!(!said.contains("oldest"), "nothing of others: {said}");
    for (args, words) in [
        (json!({"event_id": "e9"}), "retention.events"),
        (json!({"event_id": "e1", "event": "{}"}), "in one way"),
        (json!({"event_id": "e1", "queue": "q"}), "goes with `event`"),
        (json!({"evnt_id": "e1"}), "event_id"),
        (json!({"event_id": 7}), "event_id"),
    ] {
        let (_, said) = refusal(&house, None, args.clone()).await;
        assert!(
            said.contains(words),
            "expected `{words}` for {args}: {said}"
        );
    }
    // Once its time is over, nothing of it is there.
    let older = Older {
        events: house
            .ground
            .clock
            .now()
            .plus(muster::moment::Span::seconds(1)),
        ..Older::default()
    };
    let store = &house.ground.store;
    store
        .forget(&older, Moment::EPOCH, 100)
        .await
        .expect("done");
    let (code, said) = refusal(&house, None, one).await;
    assert_eq!(code, "not_found");
    assert!(said.contains("muster explain FILE"), "{said}");
}

/// What a task is told to stand at, by its word.
fn stand<'v>(told: &'v Value, kind: &str) -> Option<&'v Value> {
    let stands = told["stands"].as_array().expect("stands").iter();
    stands.clone().find(|stand| stand["kind"] == kind)
}

fn says<'v>(told: &'v Value, kind: &str) -> &'v str {
    let found = stand(told, kind).unwrap_or_else(|| panic!("no `{kind}` in {told:#}"));
    found["says"].as_str().expect("a sentence")
}

async fn only_task(house: &House) -> String {
    let tasks = house.done("task.list", json!({})).await;
    tasks["tasks"][0]["id"].as_str().expect("a task").to_owned()
}

pub async fn a_task_tells_why_it_is_there_and_what_keeps_it_from_running(house: House) {
    house
        .declare("- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname], limits: {concurrency: 1}}")
        .await;
    house
        .event(&created("e1", "/t", "acme", "h1").to_string())
        .await;
    let id = only_task(&house).await;
    let ask = |id: &str| json!({"task": id});
    let told = house.done("explain", ask(&id)).await;
    let because = told["exists_because"].to_string();
    for words in [
        "the event e1 (object.created) triggered the schedule hosts",
        "on h1",
    ] {
        assert!(because.contains(words), "{because}");
    }
    assert!(says(&told, "no_worker").contains("has ever accepted"));
    assert!(says(&told, "nobody_offers").contains("muster run"));
    assert!(says(&told, "place").contains("class event, priority 2"));
    assert_eq!(told["place"]["before_of_organization"], 0);
    assert_eq!(told["clocks"][0]["clock"], "task");
    assert_eq!(told["limits"][0]["reached"], false);
    // Somebody pauses the queue, and says why.
    let queue = json!({"queue": "muster.tasks.reader", "reason": "new workers"});
    house.done("queue.pause", queue.clone()).await;
    let told = house.done("explain", ask(&id)).await;
    assert!(says(&told, "queue_paused").contains("by tester: new workers"));
    house
        .done("queue.resume", json!({"queue": "muster.tasks.reader"}))
        .await;
    // Offered, and nobody has accepted it; another one is held back by the limit.
    assert_eq!(house.offer().await.len(), 1);
    let told = house.done("explain", ask(&id)).await;
    assert_eq!(told["task"]["state"], "dispatched");
    assert!(says(&told, "claimed").contains("attempt 1 was claimed"));
    house
        .event(&created("e2", "/t", "acme", "h2").to_string())
        .await;
    let other = only_task(&house).await;
    assert_ne!(other, id);
    let told = house.done("explain", ask(&other)).await;
    let limit = says(&told, "limit");
    assert!(
        limit.contains("the limit of dns is reached: 1 of 1 at once"),
        "{limit}"
    );
    // A worker has it, and says how far it is.
    house.say(&id, 1, json!({"status": "accepted"})).await;
    house.later(5);
    let beat = json!({"status": "heartbeat", "done": 3, "total": 9, "stage": "reading"});
    house.say(&id, 1, beat).await;
    let told = house.done("explain", ask(&id)).await;
    assert!(says(&told, "running").contains("w1 has it"));
    assert!(says(&told, "progress").contains("reading, 3 of 9 done"));
    assert_eq!(told["clocks"][0]["clock"], "silence");
    // It fails: it waits for its next attempt, not for the same worker.
    let failed = json!({"status": "failed", "class": "retryable", "message": "no answer"});
    house.say(&id, 1, failed.clone()).await;
    let told = house.done("explain", ask(&id)).await;
    assert_eq!(told["task"]["state"], "queued");
    let why = stand(&told, "not_before").or_else(|| stand(&told, "again"));
    let why = why.expect("the last attempt")["says"].to_string();
    assert!(
        why.contains("attempt 1 ended by w1: failed: no answer"),
        "{why}"
    );
    assert!(says(&told, "avoided").contains("w1 until"));
    // Its object goes: it does not pass its gates any more.
    let gone = json!({
        "specversion": "1.0", "id": "e3", "source": "/t", "type": "object.updated", "time": "2026-11-21T11:00:00Z",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": "h1", "attributes": {"name": "h1"}},
    });
    house.event(&gone.to_string()).await;
    house
        .declare("- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname], enabled: false}")
        .await;
    let told = house.done("explain", ask(&id)).await;
    assert!(says(&told, "gate").contains("not enabled"), "{told:#}");
    house
        .done("task.cancel", json!({"task_id": id, "reason": "no more"}))
        .await;
    let told = house.done("explain", ask(&id)).await;
    assert!(says(&told, "ended").contains("cancelled: somebody cancelled it"));
    assert!(says(&told, "by_hand").contains("cancel by tester"));
    assert_eq!(told["clocks"], json!([]), "what has ended has no clock");
}

pub async fn a_task_tells_who_goes_before_it_and_an_organisation_nothing_of_others(house: House) {
    house
        .declare("- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname], limits: {concurrency: 2}}")
        .await;
    for (organization, key) in [
        ("acme", "h1"),
        ("other", "h2"),
        ("acme", "h3"),
        ("other", "h4"),
        ("acme", "h5"),
    ] {
        house.host(organization, key).await;
    }
    let id = only_task(&house).await;
    let told = house.done("explain", json!({"task": id})).await;
    assert_eq!(told["place"]["before_of_organization"], 2);
    assert_eq!(told["place"]["of_others"], 2);
    let place = says(&told, "place");
    assert!(
        place.contains("2 of acme go before it") && place.contains("1 organisations more have 2"),
        "{place}"
    );
    let own = house
        .ask_of("acme", "explain", json!({"task": id}))
        .await
        .expect("it");
    assert_eq!(own["place"]["before_of_organization"], 2);
    assert_eq!(own["place"]["of_others"], Value::Null);
    assert!(!says(&own, "place").contains("organisations"), "{own}");
    assert_eq!(
        house.offer().await.len(),
        5,
        "the plain claim asks no limit"
    );
    let list = house
        .done("task.list", json!({"where": "organization = 'other'"}))
        .await;
    let theirs = list["tasks"][0]["id"].clone();
    let (code, said) = refusal(&house, Some("acme"), json!({"task": theirs})).await;
    assert_eq!(code, "not_found");
    assert_eq!(
        said,
        format!("no task `{}` is known; ", theirs.as_str().expect("an id"))
    );
    // A task that waits while all credit is taken: by whom is told to the operator alone.
    for number in 0..80 {
        house.host("other", &format!("x{number}")).await;
    }
    let queue = house.ground.rules.worker("reader").queue.clone();
    let now = house.ground.clock.now();
    let lease = now.plus(muster::moment::Span::seconds(30));
    let claimed = house.ground.store.claim(&queue, 59, now, lease).await;
    assert_eq!(claimed.expect("claimed").len(), 59);
    house.host("acme", "h6").await;
    let id = only_task(&house).await;
    let told = house.done("explain", json!({"task": id})).await;
    let credit = says(&told, "credit");
    assert!(
        credit.contains("the credit of muster.tasks.reader is taken: 64 tasks"),
        "{credit}"
    );
    assert!(credit.contains("of other"), "{credit}");
    let own = house
        .ask_of("acme", "explain", json!({"task": id}))
        .await
        .expect("it");
    assert!(!says(&own, "credit").contains("other"), "{own}");
    assert_eq!(own["credit"]["by"]["other"], Value::Null);
    assert_eq!(
        own["limits"][0]["under_way"],
        Value::Null,
        "others use it too"
    );
    assert_eq!(own["limits"][0]["reached"], told["limits"][0]["reached"]);
}

const RULES: &str = r#"
- {kind: plugin, plugin_id: nmap, worker_type: reader, consumes: [hostname], scan_level: 4}
- {kind: calendar, name: quiet, dates: [{from: 2026-11-21, to: 2026-11-22}]}
- {name: nightly, recurrences: daily, calendars: [quiet], input: {hostname: "name startswith 'www'"}, plugins: "plugin_id = 'dns' or plugin_id = 'nmap'"}
- {name: roots, run_on: hostname, operation: [created, updated], when: "root = True and scan_level > 1", plugins: "plugin_id = 'dns'"}
- {name: big, recurrences: daily, overlap: buffer_one, input: {hostname: null}, plugins: "plugin_id = 'dns'"}
- {name: theirs, organization: other, recurrences: daily, plugins: "plugin_id = 'feed'"}
"#;

fn step<'v>(told: &'v Value, name: &str) -> &'v Value {
    let steps = told["steps"].as_array().expect("steps").iter();
    let found = steps.clone().find(|step| step["step"] == name);
    found.unwrap_or_else(|| panic!("no step `{name}` in {told:#}"))
}

fn plugin<'v>(told: &'v Value, id: &str) -> &'v Value {
    let plugins = told["plugins"].as_array().expect("plugins").iter();
    let found = plugins.clone().find(|plugin| plugin["plugin"] == id);
    found.unwrap_or_else(|| panic!("no plugin `{id}` in {told:#}"))
}

async fn why(house: &House, schedule: &str, object: Option<&str>) -> Value {
    let args = json!({"schedule": schedule, "object": object});
    let told = house.ask_of("acme", "explain", args).await;
    told.unwrap_or_else(|refused| panic!("{schedule} on {object:?}: {refused:?}"))
}

pub async fn a_schedule_tells_step_by_step_why_it_did_not_run_on_an_object(house: House) {
    house.declare(RULES).await;
    house.host("acme", "h1").await;
    house.host("acme", "www").await;
    let before = house.done("stats", json!({})).await;
    // It did: its task is open. What comes before that gate is passed, what comes after is not asked.
    let told = why(&house, "hosts", Some("h1")).await;
    assert_eq!(told["would_run"], false);
    assert_eq!(step(&told, "run_on")["passed"], true);
    let dns = plugin(&told, "dns");
    assert_eq!(dns["reason"], "duplicate");
    assert!(dns["passed"].to_string().contains("level"), "{dns}");
    assert_eq!(dns["not_asked"], json!(["grace"]));
    let nmap = plugin(&told, "nmap");
    assert_eq!(nmap["selected"], false);
    assert!(nmap["query"].to_string().contains("plugin_id"), "{nmap}");
    assert_eq!(told["runs"][0]["cause"], "event");
    // The query of its inputs, and the level of a plugin.
    let told = why(&house, "nightly", Some("h1")).await;
    let input = step(&told, "input");
    assert_eq!(input["passed"], false);
    assert!(
        input["says"].to_string().contains("leaves it out"),
        "{input}"
    );
    assert!(input["says"].to_string().contains("h1"), "{input}");
    assert!(
        step(&told, "calendar")["says"]
            .to_string()
            .contains("until 2026-11-23")
    );
    assert!(
        step(&told, "clock")["says"]
            .to_string()
            .contains("2026-11-23T00:00:00Z"),
        "{told}"
    );
    let told = why(&house, "nightly", Some("www")).await;
    assert_eq!(step(&told, "input")["passed"], true);
    let nmap = plugin(&told, "nmap");
    assert_eq!(nmap["stopped_at"], "level");
    assert!(
        nmap["detail"].to_string().contains("scan_level = 2"),
        "{nmap}"
    );
    // What triggers it.
    let told = why(&house, "roots", Some("h1")).await;
    let when = step(&told, "when");
    assert_eq!(when["passed"], false);
    assert!(when["says"].to_string().contains("root = True"), "{when}");
    // Nothing of all this was stored.
    let mut after = house.done("stats", json!({})).await;
    after["now"] = before["now"].clone();
    assert_eq!(after, before);
    let offers = house.offer().await;
    assert_eq!(offers.len(), 2);
    // Once it is done the grace keeps it; what a worker never wants again keeps it for longer.
    house
        .say(&offers[0].0, 1, json!({"status": "accepted"}))
        .await;
    house
        .say(&offers[0].0, 1, json!({"status": "succeeded"}))
        .await;
    let never = json!({"status": "never_again", "reason": "no such host"});
    house
        .say(&offers[1].0, 1, json!({"status": "accepted"}))
        .await;
    house.say(&offers[1].0, 1, never).await;
    let told = why(&house, "hosts", Some("h1")).await;
    assert_eq!(plugin(&told, "dns")["stopped_at"], "grace");
    let told = why(&house, "hosts", Some("www")).await;
    assert_eq!(plugin(&told, "dns")["stopped_at"], "never_again");
    // By the clock there is no grace unless somebody says so.
    let told = why(&house, "big", Some("h1")).await;
    assert_eq!(told["would_run"], true, "{told:#}");
    house
        .ask_of("acme", "run.start", json!({"schedule": "big"}))
        .await
        .expect("it");
    let told = why(&house, "big", Some("h1")).await;
    assert_eq!(told["would_run"], false);
    assert!(
        step(&told, "overlap")["says"]
            .to_string()
            .contains("has not ended")
    );
}

pub async fn a_schedule_that_is_asleep_or_without_an_object_says_so(house: House) {
    house.declare(RULES).await;
    let told = why(&house, "feeds", None).await;
    assert_eq!(plugin(&told, "feed")["task"], true, "{told:#}");
    assert_eq!(told["would_run"], true);
    let pause = json!({"schedule": "feeds", "reason": "the feed is down"});
    house.done("schedule.pause", pause).await;
    let told = why(&house, "feeds", None).await;
    assert_eq!(step(&told, "paused")["passed"], false);
    assert!(
        step(&told, "paused")["says"]
            .to_string()
            .contains("by tester: the feed is down")
    );
    assert_eq!(told["would_run"], false);
    assert_eq!(
        plugin(&told, "feed")["task"],
        true,
        "its gates are told all the same"
    );
    house
        .declare("- {kind: plugin, plugin_id: feed, worker_type: reader, organizations: {acme: {enabled: false}}}")
        .await;
    let told = why(&house, "feeds", None).await;
    assert_eq!(plugin(&told, "feed")["stopped_at"], "enabled");
    let told = why(&house, "hosts", None).await;
    assert_eq!(told["would_run"], Value::Null, "no change is asked about");
    assert!(
        step(&told, "started by")["says"]
            .to_string()
            .contains("--object")
    );
    let on = |schedule: &str| json!({"schedule": schedule, "object": "h1"});
    for (organization, args, code, words) in [
        (None, on("hosts"), "organization_needed", "name it"),
        (Some("acme"), on("nihgtly"), "not_found", "nightly"),
        (Some("acme"), on("theirs"), "not_found", "no schedule"),
        (Some("nobody"), on("hosts"), "not_found", "organization"),
        (
            Some("acme"),
            json!({"schedule": "hosts", "plugin": "dsn"}),
            "not_found",
            "dns",
        ),
        (
            Some("acme"),
            json!({"object": "h1"}),
            "wrong_argument",
            "in one way",
        ),
        (
            Some("acme"),
            json!({"task": "x", "object": "h1"}),
            "wrong_argument",
            "goes with `schedule`",
        ),
    ] {
        let (said_code, said) = refusal(&house, organization, args.clone()).await;
        assert_eq!(said_code, code, "{args}: {said}");
        assert!(
            said.contains(words),
            "expected `{words}` for {args}: {said}"
        );
    }
    let args = json!({"schedule": "hosts", "object": "h1", "plugin": "dns"});
    house.host("acme", "h1").await;
    let told = house.ask_of("acme", "explain", args).await.expect("it");
    assert_eq!(told["plugins"].as_array().map(Vec::len), Some(1));
    let gone = json!({
        "specversion": "1.0", "id": "gone", "source": "/t", "type": "object.deleted", "time": "2026-11-21T10:00:00Z",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": "h1"},
    });
    house.event(&gone.to_string()).await;
    let told = why(&house, "hosts", Some("h1")).await;
    assert!(
        step(&told, "object")["says"]
            .to_string()
            .contains("deleted")
    );
}

pub async fn an_object_that_nobody_told_of_is_refused_with_the_nearest_keys(house: House) {
    house.declare(RULES).await;
    house
        .host("acme", "Hostname|internet|www.example.com")
        .await;
    house.host("acme", "Hostname|internet|ns.example.com").await;
    house
        .host("other", "Hostname|internet|wwx.example.com")
        .await;
    let ask = |key: &str| json!({"schedule": "hosts", "object": key});
    for (written, help) in [
        (
            "Hostname|internet|wwv.example.com",
            "did you mean Hostname|internet|www.example.com or Hostname|internet|ns.example.com?",
        ),
        (
            "www.example.com",
            "did you mean Hostname|internet|www.example.com?",
        ),
        ("%", "by its primary key"),
        ("nothing like it", "by its primary key"),
    ] {
        let (code, said) = refusal(&house, Some("acme"), ask(written)).await;
        assert_eq!(code, "not_found", "{said}");
        assert!(
            said.contains(&format!("no object `{written}` of acme is known")),
            "{said}"
        );
        assert!(said.contains(help), "expected `{help}` in: {said}");
        assert!(!said.contains("wwx"), "nothing of others: {said}");
    }
    // One that is known, and on which nothing ran, is told no runs of others.
    let told = why(&house, "roots", Some("Hostname|internet|www.example.com")).await;
    assert_eq!(told["runs"], json!([]));
    house.declare("- {name: roots, run_on: hostname, operation: created, plugins: \"plugin_id = 'feed' or plugin_id = 'dns'\", grace: 0s}").await;
    let told = why(&house, "hosts", Some("Hostname|internet|ns.example.com")).await;
    assert_eq!(told["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        told["runs"][0]["target"],
        "Hostname|internet|ns.example.com"
    );
}

const JOIN: &str = r#"
- {kind: plugin, plugin_id: compare, worker_type: reader, consumes: [file]}
- {name: both, run_on: file, operation: created, join: [ports, pages], plugins: "plugin_id = 'compare'"}
"#;

async fn file(house: &House, id: &str, by: &str, ended_at: &str) {
    let event = json!({
        "specversion": "1.0", "id": format!("e-{id}"), "source": "/t", "type": "raw_data.created",
        "data": {"organization": "acme", "id": id, "mime_types": ["text/plain"], "plugin_id": by,
                 "input": {"object_type": "hostname", "primary_key": "h1"}, "ended_at": ended_at},
    });
    assert_eq!(house.event(&event.to_string()).await, 0, "no dead letter");
}

pub async fn a_join_tells_which_files_are_there_and_which_are_missing(house: House) {
    house.declare(JOIN).await;
    let ask = |key: &str| json!({"schedule": "both", "object": key});
    let (code, _) = refusal(&house, Some("acme"), ask("h1")).await;
    assert_eq!(code, "not_found", "neither the object nor a file of it");
    house.host("acme", "h1").await;
    let told = why(&house, "both", Some("h1")).await;
    let says = step(&told, "join")["says"].as_str().expect("a sentence");
    assert_eq!(
        says,
        "it takes the newest file of h1 by each of ports, pages: none is there; missing is one by ports, pages"
    );
    assert_eq!(told["would_run"], false);
    file(&house, "raw-1", "ports", "2026-11-21T09:00:00Z").await;
    let told = why(&house, "both", Some("h1")).await;
    assert_eq!(step(&told, "join")["passed"], false);
    let says = step(&told, "join")["says"].as_str().expect("a sentence");
    assert!(
        says.ends_with("there is raw-1 by ports; missing is one by pages"),
        "{says}"
    );
    assert_eq!(plugin(&told, "compare")["reason"], "join_incomplete");
    assert_eq!(
        told["join"],
        json!({"object": "h1", "files": [{"plugin": "ports", "file": "raw-1"}, {"plugin": "pages", "file": null}]})
    );
    // The last of them completes it: its task is open by then, and the run is on the object.
    file(&house, "raw-2", "pages", "2026-11-21T09:10:00Z").await;
    let told = why(&house, "both", Some("h1")).await;
    assert_eq!(step(&told, "join")["passed"], true);
    assert_eq!(plugin(&told, "compare")["reason"], "duplicate");
    assert_eq!(told["runs"][0]["target"], "h1");
    // A file is told what it is joined with, and where it is no longer the newest.
    file(&house, "raw-3", "ports", "2026-11-21T09:20:00Z").await;
    let told = why(&house, "both", Some("raw-1")).await;
    assert_eq!(told["join"]["files"][0]["file"], "raw-3");
    let compare = plugin(&told, "compare");
    assert_eq!(compare["reason"], "not_newest", "{told:#}");
    assert!(compare["detail"].to_string().contains("raw-3"), "{compare}");
    let told = why(&house, "both", Some("raw-2")).await;
    assert_eq!(step(&told, "join")["passed"], true);
    // Files of an object that nobody told of.
    let gone = json!({"schedule": "both", "object": "h2"});
    let (code, _) = refusal(&house, Some("acme"), gone).await;
    assert_eq!(code, "not_found");
}

pub async fn a_schedule_without_an_input_says_so_and_is_not_asked_as_if_it_had_one(house: House) {
    house
        .declare(
            r#"
- {name: idle, recurrences: daily, plugins: "plugin_id = 'dns' or plugin_id = 'feed'"}
- {name: aimed, organization: acme, recurrences: daily, plugins: "plugin_id = 'dns'", target: h2}
"#,
        )
        .await;
    house.host("acme", "h1").await;
    // The task of dns on h1 is open, which is nothing to a schedule without an input.
    let told = why(&house, "idle", Some("h1")).await;
    assert_eq!(plugin(&told, "dns")["reason"], "no_input", "{told:#}");
    assert_eq!(plugin(&told, "feed")["task"], true);
    let input = step(&told, "input");
    assert_eq!(input["passed"], false);
    assert!(
        input["says"].to_string().contains("it has no input"),
        "{input}"
    );
    assert_eq!(told["would_run"], false, "not on h1");
    assert_eq!(why(&house, "idle", None).await["would_run"], true);
    // It has another one: what stands in the way on h1 is not asked.
    let told = why(&house, "aimed", Some("h1")).await;
    assert!(
        step(&told, "input")["says"]
            .to_string()
            .contains("its target is h2")
    );
    assert_eq!(plugin(&told, "dns")["task"], Value::Null, "{told:#}");
    // What people alone start may be started on what is queued already.
    let told = why(&house, "plugin:dns", Some("h1")).await;
    assert_eq!(plugin(&told, "dns")["task"], true, "{told:#}");
}

pub async fn an_event_among_the_dead_letters_is_told_to_lie_there(house: House) {
    let mut wrong = created("e7", "/a", "acme", "h1");
    wrong["data"]["scan_level"] = json!(9);
    assert_eq!(house.event(&wrong.to_string()).await, 1);
    assert_eq!(house.event("{\"id\": \"e8\", \"data\":").await, 1);
    let letters = house.done("dead_letter.list", json!({})).await;
    let letters = letters["dead_letters"].as_array().expect("letters").iter();
    let id_of = |reason: &str| {
        let mut letters = letters.clone();
        let found = letters.find(|letter| letter["reason"] == reason);
        found.expect("a letter")["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    for (event, reason, words) in [
        ("e7", "bad_value", "levels go from 0 to 4"),
        ("e8", "not_json", "not JSON"),
    ] {
        let id = id_of(reason);
        for named in [event, &id] {
            let (code, said) = refusal(&house, None, json!({"event_id": named})).await;
            assert_eq!(code, "dead_letter", "{said}");
            for words in [
                id.as_str(),
                reason,
                words,
                &format!("dead_letter.redrive {id}"),
            ] {
                assert!(said.contains(words), "expected `{words}` in: {said}");
            }
        }
        // Nobody's message is one organisation's to know of.
        let (code, said) = refusal(&house, Some("acme"), json!({"event_id": event})).await;
        assert_eq!(code, "not_found");
        assert!(!said.contains("dead"), "{said}");
    }
    let elsewhere = json!({"event_id": "e7", "source": "/b"});
    assert_eq!(refusal(&house, None, elsewhere).await.0, "not_found");
    let from = json!({"event_id": "e7", "source": "/a"});
    assert_eq!(refusal(&house, None, from).await.0, "dead_letter");
    assert_eq!(
        refusal(&house, None, json!({"event_id": "e"})).await.0,
        "not_found"
    );
    // A task that is dead lies there too, until it is made anew.
    let dead = house.dead("acme", &["h1"]).await.remove(0);
    let told = house.done("explain", json!({"task": dead})).await;
    assert!(says(&told, "dead_letter").contains(&format!("muster dead-letter redrive {dead}")));
    house.done("dead_letter.redrive", json!({"id": dead})).await;
    let told = house.done("explain", json!({"task": dead})).await;
    assert_eq!(stand(&told, "dead_letter"), None);
    assert!(stand(&told, "made_anew").is_some());
}
