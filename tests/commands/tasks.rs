//! Tasks, attempts and dead letters.

use muster::progress::Step;
use serde_json::{Value, json};

use super::asking::{House, requested};

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("a list: {list}"));
    items
        .iter()
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect()
}

fn column(rows: &Value, name: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("rows: {rows}"));
    rows.iter()
        .map(|row| row[name].as_str().unwrap_or_default().to_owned())
        .collect()
}

pub async fn a_queued_task_that_is_cancelled_is_gone_and_its_run_ends(house: House) {
    house.host("acme", "h1").await;
    let tasks = house.done("task.list", json!({})).await;
    let id = column(&tasks["tasks"], "id").remove(0);
    let done = house
        .done("task.cancel", json!({"task_id": id, "reason": "not now"}))
        .await;
    assert_eq!(texts(&done["cancelled"]), std::slice::from_ref(&id));
    assert_eq!(
        house.offer().await,
        [],
        "what is cancelled is never offered"
    );
    let task = house.task(&id).await;
    assert_eq!(task["state"], "cancelled");
    assert_eq!(task["by_hand"][0]["verb"], "cancel");
    assert_eq!(task["by_hand"][0]["reason"], "not now");
    assert_eq!(task["by_hand"][0]["who"], "tester");
    let run = house
        .done("run.get", json!({"run_id": task["run_id"]}))
        .await;
    assert_eq!(run["state"], "cancelled");
    let again = house.refused("task.cancel", json!({"task_id": id})).await;
    assert_eq!(again, "ended");
    // Its key is free, and cancelling starts no grace.
    house.host("acme", "h2").await;
    let start = json!({"plugin": "dns", "objects": ["h1"]});
    let started = house.ask_of("acme", "run.start", start).await.expect("it");
    assert_eq!(started["tasks"], 1);
}

pub async fn a_running_task_that_is_cancelled_tells_its_worker_and_ends_with_its_lease(
    house: House,
) {
    house.host("acme", "h1").await;
    house.host("acme", "h2").await;
    let offers = house.offer().await;
    let [(silent, number), (polite, other)] = offers.as_slice() else {
        panic!("two offers: {offers:?}");
    };
    house
        .say(silent, *number, json!({"status": "accepted"}))
        .await;
    house
        .say(polite, *other, json!({"status": "accepted"}))
        .await;
    let which = json!({"task_id": [silent, polite]});
    let done = house.done("task.cancel", which).await;
    let mut stopping = texts(&done["stopping"]);
    stopping.sort();
    assert_eq!(stopping, [silent.clone(), polite.clone()]);
    assert_eq!(house.task(silent).await["state"], "running");
    let mut told = house.cancels().await;
    told.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].worker.as_deref(), Some("w1"));
    assert_eq!(house.cancels().await, [], "each is told once");
    house
        .say(
            polite,
            *other,
            json!({"status": "cancelled", "reason": "asked"}),
        )
        .await;
    assert_eq!(house.task(polite).await["state"], "cancelled");
    // The other says nothing: its lease ends it.
    house.later(61);
    house.cancels().await;
    let task = house.task(silent).await;
    assert_eq!(task["state"], "cancelled");
    assert_eq!(task["attempts"][0]["outcome"], "cancelled");
    let late = house
        .say(silent, *number, json!({"status": "succeeded"}))
        .await;
    assert!(matches!(late, Step::Late { .. }), "{late:?}");
}

pub async fn a_waiting_task_that_is_retried_is_offered_at_once_with_a_new_number(house: House) {
    house.host("acme", "h1").await;
    let (id, number) = house.offer().await.remove(0);
    let until = "2026-11-22T00:00:00Z";
    house
        .say(&id, number, json!({"status": "snooze", "until": until}))
        .await;
    assert_eq!(house.offer().await, [], "it waits for the next day");
    let done = house.done("task.retry", json!({"task_id": id})).await;
    assert_eq!(texts(&done["offered_at_once"]), std::slice::from_ref(&id));
    assert_eq!(house.offer().await, [(id.clone(), 2)]);
    // An offer that nobody has accepted is void after another retry.
    house.done("task.retry", json!({"task_id": id})).await;
    assert_eq!(house.offer().await, [(id.clone(), 3)]);
    let late = house.say(&id, 2, json!({"status": "accepted"})).await;
    assert_eq!(late, Step::Late { cancel: true });
    house.say(&id, 3, json!({"status": "accepted"})).await;
    let refused = house.refused("task.retry", json!({"task_id": id})).await;
    assert_eq!(refused, "not_retried", "a worker has it");
    house.say(&id, 3, json!({"status": "succeeded"})).await;
    let refused = house.refused("task.retry", json!({"task_id": id})).await;
    assert_eq!(refused, "not_retried", "it has succeeded");
}

pub async fn a_dead_task_is_made_anew_once_with_its_lineage(house: House) {
    let dead = house.dead("acme", &["h1"]).await.remove(0);
    assert_eq!(house.task(&dead).await["state"], "dead");
    let made = house.done("task.retry", json!({"task_id": dead})).await;
    let new = texts(&made["tasks"]).remove(0);
    assert_ne!(new, dead, "history is not rewritten");
    let task = house.task(&new).await;
    assert_eq!(task["redrive_of"], json!(dead));
    assert_eq!(task["cause"], "retry");
    // A person asked for it: it goes before events and what recurs.
    assert_eq!(task["priority"], 1);
    let queues = house.done("queue.list", json!({})).await;
    let waiting = &queues["queues"][0]["waiting"];
    assert_eq!(*waiting, json!({"manual": 1, "event": 0, "recurring": 0}));
    assert_eq!(task["inputs"][0]["primary_key"], "h1");
    assert_eq!(house.task(&dead).await["redriven_as"], made["run_id"]);
    assert_eq!(house.task(&dead).await["state"], "dead");
    let again = house.refused("task.retry", json!({"task_id": dead})).await;
    assert_eq!(again, "duplicate", "the new one is open");
    let (id, number) = house.offer().await.remove(0);
    assert_eq!(id, new);
    house.say(&id, number, json!({"status": "succeeded"})).await;
    let again = house.refused("task.retry", json!({"task_id": dead})).await;
    assert_eq!(again, "redriven", "it is made anew once");
    // The gates are asked as they are now.
    let gone = house.dead("acme", &["h2"]).await.remove(0);
    let event = json!({
        "specversion": "1.0", "id": "gone", "source": "/t", "type": "object.deleted",
        "time": "2026-11-21T12:00:00Z",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": "h2"},
    });
    house.event(&event.to_string()).await;
    let refused = house.refused("task.retry", json!({"task_id": gone})).await;
    assert_eq!(refused, "deleted");
}

pub async fn a_task_is_marked_with_a_reason_and_only_while_it_is_open(house: House) {
    house.host("acme", "h1").await;
    house.host("acme", "h2").await;
    let offers = house.offer().await;
    let (ran, number) = offers[0].clone();
    house.say(&ran, number, json!({"status": "accepted"})).await;
    let mark = |id: &str, state: &str| json!({"task_id": id, "state": state, "reason": "I looked"});
    house.done("task.mark", mark(&ran, "succeeded")).await;
    let task = house.task(&ran).await;
    assert_eq!(task["state"], "succeeded");
    assert_eq!(task["reason"], "marked");
    assert_eq!(task["attempts"][0]["outcome"], "marked");
    assert_eq!(task["attempts"][0]["message"], "I looked");
    assert_eq!(task["by_hand"][0]["reason"], "I looked");
    let run = house
        .done("run.get", json!({"run_id": task["run_id"]}))
        .await;
    assert_eq!(run["state"], "succeeded", "its run has ended too");
    let late = house
        .say(
            &ran,
            number,
            json!({"status": "failed", "class": "retryable"}),
        )
        .await;
    assert_eq!(late, Step::Late { cancel: false });
    house.done("task.mark", mark(&offers[1].0, "failed")).await;
    assert_eq!(house.task(&offers[1].0).await["state"], "failed");
    let refused = house.refused("task.mark", mark(&ran, "failed")).await;
    assert_eq!(refused, "ended");
    let refused = house.refused("task.mark", mark(&ran, "dead")).await;
    assert_eq!(refused, "wrong_argument");
}

pub async fn many_tasks_are_touched_only_where_somebody_says_yes(house: House) {
    for key in ["h1", "h2", "h3"] {
        house.host("acme", key).await;
    }
    house.host("other", "h1").await;
    let mut which = json!({"where": "organization = 'acme' and state = 'queued'"});
    let refused = house.ask("task.cancel", which.clone()).await;
    let refused = refused.expect_err("nobody said yes");
    assert_eq!(refused.code, "confirmation_needed");
    assert!(refused.message.contains("3 tasks"), "{refused:?}");
    which["yes"] = json!(true);
    let done = house.done("task.cancel", which).await;
    assert_eq!(texts(&done["cancelled"]).len(), 3);
    assert_eq!(house.offer().await.len(), 1, "the other organisation's");
    house.dead("acme", &["d1", "d2"]).await;
    let which = json!({"where": "state = 'dead'", "yes": true});
    let done = house.done("task.retry", which.clone()).await;
    let made = done["made_anew"].as_array().expect("a list");
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|one| one["ok"] == true), "{made:?}");
    let done = house.done("task.retry", which).await;
    let made = done["made_anew"].as_array().expect("a list");
    assert!(
        made.iter().all(|one| one["reason"] == "duplicate"),
        "{made:?}"
    );
}

pub async fn of_many_tasks_those_count_that_can_still_be_touched(house: House) {
    for key in ["h1", "h2", "h3", "h4"] {
        house.host("acme", key).await;
    }
    let offers = house.offer().await;
    let [(well, one), (badly, other), (gone, _), (open, _)] = offers.as_slice() else {
        panic!("four offers: {offers:?}");
    };
    house.say(well, *one, json!({"status": "succeeded"})).await;
    let failed = json!({"status": "failed", "class": "retryable", "message": "no answer"});
    house.say(badly, *other, failed).await;
    house.done("task.cancel", json!({"task_id": gone})).await;
    for which in [json!({"all": true}), json!({"where": "attempt = 1"})] {
        let asked = house.ask("task.cancel", which).await;
        let asked = asked.expect_err("nobody said yes");
        assert_eq!(asked.message, "that would be 1 task");
    }
    // What somebody ended is made anew where he says so, and not with everything else.
    for (which, many) in [
        (json!({"all": true}), 2),
        (json!({"where": "attempt = 1"}), 3),
        (json!({"where": "state = 'cancelled'"}), 1),
    ] {
        let asked = house.ask("task.retry", which.clone()).await;
        let asked = asked.expect_err("nobody said yes").message;
        assert!(
            asked.starts_with(&format!("that would be {many} task")),
            "{which}: {asked}"
        );
    }
    let none = json!({"where": "state = 'succeeded'"});
    for command in ["task.cancel", "task.retry"] {
        house.done(command, none.clone()).await;
    }
    let all = json!({"all": true, "yes": true});
    let done = house.done("task.cancel", all.clone()).await;
    assert_eq!(texts(&done["cancelled"]), std::slice::from_ref(open));
    assert_eq!(done["ended"], json!([]));
    // What has been made anew is not made anew again.
    house.done("task.retry", json!({"task_id": badly})).await;
    let done = house.done("task.retry", all).await;
    assert_eq!(done["made_anew"], json!([]));
    assert_eq!(texts(&done["offered_at_once"]).len(), 1, "the new one");
    // Who is named is counted, whatever it has come to.
    let named = json!({"task_id": [well, gone]});
    let done = house.done("task.cancel", named).await;
    assert_eq!(texts(&done["ended"]).len(), 2);
}

pub async fn who_marks_what_has_ended_is_told_what_can_be_done_with_it(house: House) {
    house.host("acme", "h1").await;
    let (well, number) = house.offer().await.remove(0);
    house
        .say(&well, number, json!({"status": "succeeded"}))
        .await;
    let badly = house.dead("acme", &["h2"]).await.remove(0);
    let mark = async |id: &str| {
        let args = json!({"task_id": id, "state": "failed", "reason": "I looked"});
        let refused = house.ask("task.mark", args).await;
        refused.expect_err("it has ended").help
    };
    let (of_success, of_death) = (mark(&well).await, mark(&badly).await);
    assert!(
        of_success.contains("run.start does it once more"),
        "{of_success}"
    );
    assert!(of_death.contains("task.retry makes it anew"), "{of_death}");
    let refused = house.refused("task.retry", json!({"task_id": well})).await;
    assert_eq!(refused, "not_retried");
    house.done("task.retry", json!({"task_id": badly})).await;
    let again = mark(&badly).await;
    assert!(again.contains("it was made anew"), "{again}");
}

pub async fn words_that_no_row_can_have_are_refused_with_those_that_it_can(house: House) {
    for (command, column, wrong, known) in [
        ("run.list", "state", "runing", "running"),
        ("task.list", "state", "deed", "dead"),
        ("attempt.list", "outcome", "bogus", "succeeded"),
        ("dead_letter.list", "reason", "nonsense", "not_json"),
        ("dead_letter.list", "kind", "massage", "message"),
        (
            "dead_letter.redrive",
            "reason",
            "nonsense",
            "out_of_attempts",
        ),
    ] {
        let refused = house.ask(command, json!({ column: wrong })).await;
        let refused = refused.expect_err(command);
        assert_eq!(refused.code, "wrong_argument", "{command}");
        let said = format!("{} {}", refused.message, refused.help);
        assert!(said.contains(known), "{command}: {said}");
        if command.ends_with("list") {
            house.done(command, json!({ column: known })).await;
            house.done(command, json!({ column: null })).await;
        }
    }
}

pub async fn the_target_of_an_object_that_nobody_knows_is_refused_with_the_nearest_key(
    house: House,
) {
    house.host("acme", "host-one").await;
    house.host("acme", "host-two").await;
    let of = |object: &str| json!({"schedule": "hosts", "object": object});
    let asked = house.ask_of("acme", "target.get", of("host-onee")).await;
    let refused = asked.expect_err("nobody knows it");
    assert_eq!(refused.code, "not_found");
    assert!(refused.help.contains("host-one"), "{refused:?}");
    let known = house.ask_of("acme", "target.get", of("host-one")).await;
    assert_ne!(known.expect("its pointers")["running"], Value::Null);
    let idle = json!({"schedule": "feeds", "object": "host-one"});
    let idle = house.ask_of("acme", "target.get", idle).await;
    assert_eq!(idle.expect("nothing ran on it")["last"], Value::Null);
}

pub async fn lists_answer_queries_in_pages(house: House) {
    for key in ["h1", "h2", "h3", "h4", "h5"] {
        house.host("acme", key).await;
    }
    let all = house.done("task.list", json!({})).await;
    let all_ids = column(&all["tasks"], "id");
    assert_eq!(all_ids.len(), 5);
    assert_eq!(all["next"], Value::Null);
    assert!(all_ids.is_sorted_by(|a, b| a > b), "the newest first");
    for condition in [
        "state = 'queued'",
        "any(inputs: primary_key startswith 'h')",
    ] {
        let mut paged = Vec::new();
        let mut after = Value::Null;
        loop {
            let args = json!({"where": condition, "limit": 2, "after": after});
            let page = house.done("task.list", args).await;
            let ids = column(&page["tasks"], "id");
            assert!(ids.len() <= 2);
            paged.extend(ids);
            after = page["next"].clone();
            if after.is_null() {
                break;
            }
        }
        assert_eq!(paged, all_ids, "{condition}");
    }
    // The clock of a list is that of the house, also where other conditions stand beside it.
    for (condition, many) in [
        ("created_at > now()", 0),
        ("created_at > now() + 365d", 0),
        ("created_at <= now()", 5),
        ("created_at > now() - 1h", 5),
        ("created_at < now() - 7d", 0),
        ("state = 'dead' or created_at > now() - 1h", 5),
        ("state = 'queued' and created_at > now()", 0),
    ] {
        let found = house.done("task.list", json!({"where": condition})).await;
        let found = found["tasks"].as_array().map(Vec::len);
        assert_eq!(found, Some(many), "{condition}");
    }
    let one = json!({"where": "any(inputs: primary_key = 'h3') and created_at > '2026-11-21'"});
    let one = house.done("task.list", one).await;
    assert_eq!(one["tasks"].as_array().map(Vec::len), Some(1));
    let runs = json!({"where": "schedule = 'hosts' and total = 1", "limit": 3});
    let runs = house.done("run.list", runs).await;
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(3));
    assert_eq!(runs["runs"][0]["state"], "running");
    let offers = house.offer().await;
    house
        .say(&offers[0].0, 1, json!({"status": "accepted"}))
        .await;
    let mine = json!({"where": "worker = 'w1' and outcome = None"});
    let mine = house.done("attempt.list", mine).await;
    assert_eq!(mine["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(mine["attempts"][0]["schedule"], "hosts");
    let pages = json!({"schedule": "hosts", "limit": 4});
    let first = house.done("attempt.list", pages).await;
    let rest = json!({"schedule": "hosts", "limit": 4, "after": first["next"]});
    let rest = house.done("attempt.list", rest).await;
    assert_eq!(first["attempts"].as_array().map(Vec::len), Some(4));
    assert_eq!(rest["attempts"].as_array().map(Vec::len), Some(1));
    let wrong = house.ask("task.list", json!({"where": "stat = 'queued'"}));
    let wrong = wrong.await.expect_err("no such column");
    assert_eq!(wrong.code, "wrong_argument");
    assert!(wrong.message.contains("`state`"), "{}", wrong.message);
}

pub async fn an_organisation_neither_sees_nor_touches_tasks_of_another(house: House) {
    let theirs = house.dead("other", &["h1"]).await.remove(0);
    house.host("other", "h2").await;
    for (command, plural) in [
        ("task.list", "tasks"),
        ("attempt.list", "attempts"),
        ("run.list", "runs"),
        ("dead_letter.list", "dead_letters"),
    ] {
        let seen = house.ask_of("acme", command, json!({})).await.expect("it");
        assert_eq!(seen[plural], json!([]), "{command}");
        let args = json!({"where": "organization = 'other'"});
        let seen = house.ask_of("acme", command, args).await.expect("it");
        assert_eq!(seen[plural], json!([]), "{command}");
        let seen = house.ask_of("other", command, json!({})).await.expect("it");
        assert_ne!(seen[plural], json!([]), "{command}");
    }
    let one = json!({"task_id": theirs});
    let mark = json!({"task_id": theirs, "state": "failed", "reason": "x"});
    let letter = json!({"id": theirs});
    for (command, args) in [
        ("task.get", &one),
        ("task.cancel", &one),
        ("task.retry", &one),
        ("task.mark", &mark),
        ("dead_letter.show", &letter),
        ("dead_letter.redrive", &letter),
        ("dead_letter.drop", &letter),
    ] {
        let refused = house.ask_of("acme", command, args.clone()).await;
        let refused = refused.expect_err(command);
        assert_eq!(refused.code, "not_found", "{command}");
    }
    let all = json!({"all": true, "yes": true});
    let done = house.ask_of("acme", "task.cancel", all).await.expect("it");
    assert_eq!(done["cancelled"], json!([]));
    assert_eq!(house.offer().await.len(), 1, "theirs waits as before");
}

pub async fn dead_letters_are_messages_and_tasks_and_go_one_by_one(house: House) {
    let dead = house.dead("acme", &["h1", "h2"]).await;
    assert_eq!(house.event("no event").await, 1);
    let unknown = json!({
        "specversion": "1.0", "id": "u1", "source": "/t", "type": "object.created", "time": "2026-11-21T09:00:00Z",
        "data": {"organization": "nobody", "object_type": "hostname", "primary_key": "x", "attributes": {}},
    });
    assert_eq!(house.event(&unknown.to_string()).await, 1);
    let list = house.done("dead_letter.list", json!({})).await;
    let letters = list["dead_letters"].as_array().expect("a list").clone();
    assert_eq!(letters.len(), 4);
    let of_kind = |kind: &str| {
        let found = letters.iter().filter(|letter| letter["kind"] == kind);
        found.count()
    };
    assert_eq!((of_kind("message"), of_kind("task")), (2, 2));
    let seen = house
        .ask_of("acme", "dead_letter.list", json!({}))
        .await
        .expect("it");
    let seen = column(&seen["dead_letters"], "kind");
    assert_eq!(seen, ["task", "task"], "messages belong to nobody");
    let of_task = house.done("dead_letter.show", json!({"id": dead[0]})).await;
    assert_eq!(of_task["message"], "no answer");
    let message = letters.iter().find(|letter| letter["reason"] == "not_json");
    let message = message.expect("a letter")["id"].clone();
    let of_message = house.done("dead_letter.show", json!({"id": message})).await;
    assert_eq!(of_message["body"]["text"], "no event");
    // One task goes, one is dropped; the others stay what they are.
    let args = json!({"where": format!("id = '{}'", dead[0]), "yes": true});
    let done = house.done("dead_letter.redrive", args).await;
    assert_eq!(
        (&done["redriven"], &done["still_dead"]),
        (&json!(1), &json!(0))
    );
    let done = house.done("dead_letter.drop", json!({"id": dead[1]})).await;
    assert_eq!(done["dropped"], 1);
    let still = house
        .done(
            "dead_letter.redrive",
            json!({"reason": "unknown_organization", "yes": true}),
        )
        .await;
    assert_eq!(still["still_dead"], 1);
    house.declare("- {kind: organization, id: nobody}").await;
    let all = json!({"all": true, "yes": true});
    let done = house.done("dead_letter.redrive", all).await;
    assert_eq!(
        (&done["redriven"], &done["still_dead"]),
        (&json!(1), &json!(1))
    );
    let list = house.done("dead_letter.list", json!({})).await;
    assert_eq!(column(&list["dead_letters"], "reason"), ["not_json"]);
    let offered = house.offer().await;
    assert_eq!(offered.len(), 2, "of the task and of the message");
}

pub async fn the_same_request_is_done_once_also_when_it_comes_twice_at_once(house: House) {
    let dead = house.dead("acme", &["h1"]).await.remove(0);
    let beside = house.beside().await;
    let asked = requested(Some("r-1"), None, "task.retry", json!({"task_id": dead}));
    let (one, other) = tokio::join!(
        muster::answer::answer(&house.ground, &asked, "one"),
        muster::answer::answer(&beside, &asked, "other"),
    );
    let (one, other) = (one.expect("answered"), other.expect("answered"));
    let done = one.clone().expect("it is made anew");
    let again = house
        .ask_as(Some("r-1"), None, "task.retry", json!({"task_id": dead}))
        .await;
    assert_eq!(again, Ok(done.clone()), "the same answer");
    assert_eq!(one, other, "both are told the same");
    assert_eq!(house.offer().await.len(), 1, "and one task");
    // A mark whose answer was lost is not done twice, and says the same.
    house.host("acme", "h2").await;
    let (id, _) = house.offer().await.remove(0);
    let mark = json!({"task_id": id, "state": "succeeded", "reason": "x"});
    let first = house
        .ask_as(Some("r-2"), None, "task.mark", mark.clone())
        .await;
    assert!(first.is_ok(), "{first:?}");
    let second = house.ask_as(Some("r-2"), None, "task.mark", mark).await;
    assert_eq!(first, second);
    beside.store.close().await;
}

pub async fn a_request_with_an_empty_id_is_refused_and_starts_nothing(house: House) {
    // Its run came to be without a request.
    house.host("acme", "h1").await;
    for id in ["", " "] {
        for schedule in ["feeds", "nosuch"] {
            let start = json!({"schedule": schedule});
            let refused = house.ask_as(Some(id), None, "run.start", start).await;
            let refused = refused.expect_err("an id is not empty");
            assert_eq!(refused.code, "wrong_argument");
            assert_eq!(refused.message, "an id is not empty");
        }
    }
    let runs = house.done("run.list", json!({})).await;
    assert_eq!(column(&runs["runs"], "cause"), ["event"]);
}

pub async fn wrong_arguments_are_refused_with_what_would_be_right(house: House) {
    for (command, args, code, said) in [
        ("task.lisst", json!({}), "unknown_command", "task.list"),
        ("tasks.list", json!({}), "unknown_command", "task.list"),
        ("task.get", json!({}), "wrong_argument", "task_id"),
        (
            "task.get",
            json!({"task": "x"}),
            "wrong_argument",
            "task_id",
        ),
        (
            "task.get",
            json!({"task_id": 5}),
            "wrong_argument",
            "task_id",
        ),
        ("task.get", json!({"task_id": "x"}), "not_found", "x"),
        ("task.list", json!({"limit": 0}), "wrong_argument", "limit"),
        (
            "task.list",
            json!({"limit": 1001}),
            "wrong_argument",
            "1000",
        ),
        ("task.list", json!({"limt": 5}), "wrong_argument", "limit"),
        (
            "task.list",
            json!({"after": "nosuch"}),
            "wrong_argument",
            "`next` of the page before",
        ),
        (
            "attempt.list",
            json!({"after": "nosuch:1"}),
            "wrong_argument",
            "`next` of the page before",
        ),
        ("task.cancel", json!({}), "wrong_argument", "task_id"),
        (
            "task.cancel",
            json!({"all": true, "where": "True"}),
            "wrong_argument",
            "one way",
        ),
        (
            "task.list",
            json!({"where": "state = 5"}),
            "wrong_argument",
            "state",
        ),
        (
            "task.mark",
            json!({"task_id": "x", "state": "gone", "reason": "y"}),
            "wrong_argument",
            "succeeded",
        ),
        ("dead_letter.drop", json!({"id": "x"}), "not_found", "x"),
        (
            "dead_letter.drop",
            json!({"all": "yes"}),
            "wrong_argument",
            "all",
        ),
    ] {
        let refused = house.ask(command, args.clone()).await;
        let refused = refused.expect_err(command);
        assert_eq!(refused.code, code, "{command} {args}: {refused:?}");
        let told = format!("{} {}", refused.message, refused.help);
        assert!(told.contains(said), "{command} {args}: {refused:?}");
    }
}
