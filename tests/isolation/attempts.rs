//! What somebody who speaks for one organisation can try, to reach what is another's.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::theirs::{OURS, THEIRS, Theirs};

/// What an attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Refused with this code.
    Refused(&'static str),
    /// Answered as if there were none.
    Nothing,
    /// Done, and about our own alone.
    Own,
}
use Outcome::{Nothing, Own, Refused};

pub struct Attempt {
    pub command: String,
    pub args: Value,
    organization: Value,
    id: Option<String>,
    pub outcome: Outcome,
}

impl Attempt {
    pub fn body(&self) -> Vec<u8> {
        let mut asked = json!({
            "command": self.command, "organization": self.organization, "args": self.args,
        });
        if let Some(id) = &self.id {
            asked["id"] = json!(id);
        }
        asked.to_string().into_bytes()
    }
}

fn of(command: &str, args: Value, outcome: Outcome) -> Attempt {
    Attempt {
        command: command.to_owned(),
        args,
        organization: json!(OURS),
        id: None,
        outcome,
    }
}

/// Every command for the other organisation, for all of them, and for none that can be.
pub fn naming_others(commands: &BTreeSet<String>) -> Vec<Attempt> {
    let mut all = Vec::new();
    for command in commands {
        for (organization, code) in [
            (json!(THEIRS), "not_permitted"),
            (Value::Null, "not_permitted"),
            (json!("acme "), "not_permitted"),
            (json!(""), "bad_value"),
            (json!([OURS, THEIRS]), "wrong_type"),
        ] {
            all.push(Attempt {
                organization,
                ..of(command, json!({}), Refused(code))
            });
        }
    }
    all
}

/// What a list can be asked, by the column that identifies its rows.
fn of_rows(command: &str, column: &str, ids: [&str; 2], theirs: &Theirs) -> Vec<Attempt> {
    let [one, other] = ids;
    let start: String = one.chars().take(30).collect();
    // We have no dead letters ourselves.
    let mixed = if command == "dead_letter.list" {
        Nothing
    } else {
        Own
    };
    let mut all = Vec::new();
    for (asked, outcome) in [
        (format!("organization = '{THEIRS}'"), Nothing),
        (format!("organization != '{OURS}'"), Nothing),
        (format!("not (organization = '{OURS}')"), Nothing),
        (format!("organization in ('{THEIRS}', 'nobody')"), Nothing),
        ("organization startswith 'z'".to_owned(), Nothing),
        ("organization ~ 'ebr'".to_owned(), Nothing),
        (
            format!("organization = '{OURS}' or organization = '{THEIRS}'"),
            mixed,
        ),
        (format!("{column} = '{one}'"), Nothing),
        (format!("{column} in ('{one}', '{other}')"), Nothing),
        (
            format!("{column} = '{one}' or {column} = '{other}'"),
            Nothing,
        ),
        (format!("{column} startswith '{start}'"), Nothing),
        (
            format!("{column} = '{one}' and organization = '{THEIRS}'"),
            Nothing,
        ),
        (
            "organization = $organization".to_owned(),
            Refused("wrong_argument"),
        ),
        (
            "organization = trigger.organization".to_owned(),
            Refused("wrong_argument"),
        ),
        (
            format!("ever(organization = '{THEIRS}')"),
            Refused("wrong_argument"),
        ),
        (
            format!("in_set('{}')", theirs.set),
            Refused("wrong_argument"),
        ),
        (
            format!("any(organizations: id = '{THEIRS}')"),
            Refused("wrong_argument"),
        ),
        (
            format!("{column} = (task: organization = '{THEIRS}')"),
            Refused("wrong_argument"),
        ),
    ] {
        all.push(of(command, json!({"where": asked}), outcome));
    }
    all.push(of(command, json!({"after": one, "limit": 1000}), Own));
    all.push(of(command, json!({"limit": 1000, "offset": 1}), Own));
    all.push(of(
        command,
        json!({"organization": THEIRS}),
        Refused("wrong_argument"),
    ));
    all
}

/// Every command that there is, with what could reach further than it may.
pub fn attempts(t: &Theirs) -> Vec<Attempt> {
    let mut all = declared(t);
    all.extend(of_schedules(t));
    all.extend(of_the_rest(t));
    all.extend(of_runs(t));
    all.extend(of_letters(t));
    all.extend(of_tasks(t));
    all
}

fn declared(t: &Theirs) -> Vec<Attempt> {
    let mine = Refused("not_yours");
    let wrong = Refused("wrong_argument");
    vec![
        of(
            "organization.apply",
            json!({"id": THEIRS, "enabled": false}),
            mine,
        ),
        of(
            "organization.apply",
            json!({"id": THEIRS, "indemnified": true}),
            mine,
        ),
        of(
            "organization.apply",
            json!({"id": OURS, "weight": 1000}),
            mine,
        ),
        of("organization.apply", json!({"id": "newcomer"}), mine),
        of("organization.list", json!({}), Own),
        of("organization.list", json!({"limit": 1000}), Own),
        of("organization.list", json!({"organization": THEIRS}), wrong),
        of(
            "plugin.apply",
            json!({"plugin_id": "dns", "worker_type": "reader"}),
            mine,
        ),
        of(
            "plugin.apply",
            json!({"plugin_id": "spy", "worker_type": "reader", "organizations": {THEIRS: {"enabled": true}}}),
            mine,
        ),
        of("plugin.delete", json!({"plugin_id": "dns"}), mine),
        of("plugin.enable", json!({"plugin_id": "dns"}), Own),
        of(
            "plugin.enable",
            json!({"plugin_id": "dns", "organization": THEIRS}),
            wrong,
        ),
        of(
            "plugin.enable",
            json!({"plugin_id": t.schedule}),
            Refused("not_found"),
        ),
        of("plugin.disable", json!({"plugin_id": "feed"}), Own),
        of(
            "plugin.disable",
            json!({"plugin_id": "feed", "organization": THEIRS}),
            wrong,
        ),
        of("plugin.list", json!({}), Own),
        of("plugin.list", json!({"organization": THEIRS}), wrong),
        of(
            "object_set.apply",
            json!({"name": t.set, "organization": THEIRS, "object_type": "hostname", "query": "name != ''"}),
            mine,
        ),
        of(
            "object_set.apply",
            json!({"name": "all", "organization": THEIRS, "object_type": "hostname", "keys": [t.object]}),
            mine,
        ),
        // Two sets that name each other are a circle of one organisation, not of two.
        of(
            "object_set.apply",
            json!({"name": "mine", "object_type": "hostname", "query": format!("in_set('{}')", t.set)}),
            Own,
        ),
        of(
            "object_set.delete",
            json!({"name": t.set}),
            Refused("not_found"),
        ),
        of(
            "object_set.delete",
            json!({"name": "zq-sat"}),
            Refused("not_found"),
        ),
        of(
            "object_set.delete",
            json!({"name": t.set, "organization": THEIRS}),
            wrong,
        ),
        of("object_set.list", json!({}), Own),
        of("object_set.list", json!({"organization": THEIRS}), wrong),
        of(
            "calendar.apply",
            json!({"name": "freeze", "dates": ["2030-01-01"]}),
            mine,
        ),
        of("calendar.delete", json!({"name": "freeze"}), mine),
        of("calendar.list", json!({}), Own),
        of("calendar.list", json!({"organization": THEIRS}), wrong),
    ]
}

fn of_schedules(t: &Theirs) -> Vec<Attempt> {
    let unknown = Refused("not_found");
    let wrong = Refused("wrong_argument");
    let plugins = "plugin_id = 'feed'";
    let mut all = vec![
        of(
            "schedule.apply",
            json!({"name": t.schedule, "organization": THEIRS, "plugins": plugins, "recurrences": "yearly"}),
            Refused("not_yours"),
        ),
        of(
            "schedule.apply",
            json!({"name": "planted", "organization": THEIRS, "plugins": plugins, "recurrences": "yearly"}),
            Refused("not_yours"),
        ),
        of(
            "schedule.apply",
            json!({"schedule_id": t.schedule_id, "plugins": plugins, "recurrences": "yearly"}),
            unknown,
        ),
        of(
            "schedule.apply",
            json!({"schedule_id": t.schedule_id, "name": t.schedule, "plugins": plugins, "recurrences": "yearly"}),
            unknown,
        ),
        of(
            "schedule.apply",
            json!({"name": t.targeting, "expected_revision": 1, "plugins": plugins, "recurrences": "yearly"}),
            Refused("other_revision"),
        ),
        of(
            "schedule.apply",
            json!({"name": "with-plugin", "plugins": plugins, "recurrences": "yearly",
                   "plugin": {"plugin_id": "spy", "worker_type": "reader"}}),
            Refused("not_yours"),
        ),
        of(
            "schedule.delete",
            json!({"schedule": "hosts"}),
            Refused("not_yours"),
        ),
        of(
            "schedule.pause",
            json!({"schedule": "hosts", "reason": "ours now"}),
            Refused("not_yours"),
        ),
        of(
            "schedule.resume",
            json!({"schedule": "hosts"}),
            Refused("not_yours"),
        ),
        of("schedule.preview", json!({"schedule": "feeds"}), Own),
        of("schedule.list", json!({"limit": 1000}), Own),
        of("schedule.list", json!({"organization": THEIRS}), wrong),
    ];
    // By the name, by the id, and by a name that is nearly right.
    for name in [
        t.schedule,
        &t.schedule_id,
        t.targeting,
        &t.targeting_id,
        "zq-nightl",
    ] {
        let said = |more: Value| {
            let mut args = json!({"schedule": name});
            for (field, value) in more.as_object().expect("fields") {
                args[field] = value.clone();
            }
            args
        };
        let range = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
        for (command, more) in [
            ("schedule.delete", json!({})),
            ("schedule.pause", json!({"reason": "ours now"})),
            ("schedule.resume", json!({})),
            ("schedule.preview", json!({})),
            ("schedule.backfill", range),
            ("run.start", json!({})),
            ("run.start", json!({"objects": [t.object]})),
            ("run.list", json!({})),
            ("target.get", json!({"object": t.object})),
            ("target.list", json!({})),
        ] {
            all.push(of(command, said(more), unknown));
        }
    }
    all
}

fn of_runs(t: &Theirs) -> Vec<Attempt> {
    let unknown = Refused("not_found");
    let mut all = of_rows("run.list", "id", [&t.run, &t.dead], t);
    for asked in [
        format!("schedule = '{}'", t.schedule),
        format!("schedule_id = '{}'", t.schedule_id),
        format!("request_id = '{}'", t.request),
        format!("target = '{}'", t.object),
        format!("blocked_by = '{}' or parent_id = '{}'", t.run, t.run),
    ] {
        all.push(of("run.list", json!({"where": asked}), Nothing));
    }
    all.extend([
        of("run.get", json!({"run_id": t.run}), unknown),
        of(
            "run.get",
            json!({"run_id": t.run, "organization": THEIRS}),
            Refused("wrong_argument"),
        ),
        of("run.cancel", json!({"run_id": t.run}), unknown),
        // What is for all runs for us, on objects of ours; theirs are not there, and a schedule's run says so.
        of(
            "run.start",
            json!({"schedule": "hosts", "objects": [t.object]}),
            Own,
        ),
        of(
            "run.start",
            json!({"plugin": "dns", "objects": [t.object]}),
            unknown,
        ),
        of(
            "run.start",
            json!({"plugin": "dns", "objects": [t.object], "organization": THEIRS}),
            Refused("wrong_argument"),
        ),
        of(
            "run.start",
            json!({"plugin": "dns", "objects": ["own-1"], "parameters": {"organization": THEIRS}}),
            Own,
        ),
        of(
            "run.start",
            json!({"schedule": "twin", "objects": [t.object]}),
            Own,
        ),
    ]);
    // The id of a request of theirs is the id of nothing here.
    for (command, args, outcome) in [
        ("run.start", json!({"schedule": "feeds"}), Own),
        ("run.start", json!({"schedule": t.schedule}), Own),
        ("run.get", json!({"run_id": t.run}), Own),
    ] {
        all.push(Attempt {
            id: Some(t.request.to_owned()),
            ..of(command, args, outcome)
        });
    }
    all
}

fn of_tasks(t: &Theirs) -> Vec<Attempt> {
    let unknown = Refused("not_found");
    let mut all = of_rows("task.list", "id", [&t.dead, &t.running], t);
    all.extend(of_rows("attempt.list", "task_id", [&t.dead, &t.running], t));
    for (command, args) in [
        ("task.list", json!({"run_id": t.run})),
        ("task.list", json!({"schedule": t.schedule})),
        (
            "task.list",
            json!({"where": format!("any(inputs: primary_key = '{}')", t.object)}),
        ),
        (
            "task.list",
            json!({"where": format!("run_id = '{}'", t.run)}),
        ),
        ("attempt.list", json!({"task_id": t.running})),
        ("attempt.list", json!({"worker": "zq-worker"})),
        ("attempt.list", json!({"schedule": t.schedule})),
    ] {
        all.push(of(command, args, Nothing));
    }
    for id in [&t.dead, &t.running, &t.offered] {
        all.extend([
            of("task.get", json!({"task_id": id}), unknown),
            of("task.cancel", json!({"task_id": id}), unknown),
            of(
                "task.cancel",
                json!({"task_id": [id], "reason": "ours now"}),
                unknown,
            ),
            of("task.retry", json!({"task_id": id}), unknown),
            of("task.retry", json!({"task_id": [id]}), unknown),
            of(
                "task.mark",
                json!({"task_id": id, "state": "succeeded", "reason": "so"}),
                unknown,
            ),
            of(
                "task.mark",
                json!({"task_id": id, "state": "failed", "reason": "so"}),
                unknown,
            ),
        ]);
        for command in ["task.cancel", "task.retry"] {
            let asked = format!("id = '{id}'");
            all.push(of(command, json!({"where": asked, "yes": true}), Nothing));
        }
    }
    for command in ["task.cancel", "task.retry"] {
        for asked in [
            format!("organization = '{THEIRS}'"),
            format!("organization != '{OURS}'"),
            format!("run_id = '{}'", t.run),
        ] {
            all.push(of(command, json!({"where": asked, "yes": true}), Nothing));
        }
    }
    all.push(of(
        "task.retry",
        json!({"where": "state = 'dead'", "yes": true}),
        Own,
    ));
    all.push(of("task.cancel", json!({"all": true, "yes": true}), Own));
    all
}

fn of_letters(t: &Theirs) -> Vec<Attempt> {
    let unknown = Refused("not_found");
    let mut all = of_rows("dead_letter.list", "id", [&t.dead, &t.unreadable], t);
    for id in [&t.dead, &t.unreadable] {
        for command in [
            "dead_letter.show",
            "dead_letter.redrive",
            "dead_letter.drop",
        ] {
            all.push(of(command, json!({"id": id}), unknown));
        }
        for command in ["dead_letter.redrive", "dead_letter.drop"] {
            all.push(of(command, json!({"id": [id]}), unknown));
            let asked = format!("id = '{id}'");
            all.push(of(command, json!({"where": asked, "yes": true}), Nothing));
        }
    }
    for command in ["dead_letter.redrive", "dead_letter.drop"] {
        let asked = format!("organization = '{THEIRS}'");
        all.push(of(command, json!({"where": asked, "yes": true}), Nothing));
        all.push(of(
            command,
            json!({"where": "kind = 'message'", "yes": true}),
            Own,
        ));
        all.push(of(command, json!({"reason": "not_json", "yes": true}), Own));
        all.push(of(command, json!({"all": true, "yes": true}), Own));
    }
    all
}

fn of_the_rest(t: &Theirs) -> Vec<Attempt> {
    let event = |organization: &str, key: &str, name: &str| {
        json!({
            "specversion": "1.0", "id": "asked", "source": "/t", "type": "object.created",
            "data": {"organization": organization, "object_type": "hostname", "primary_key": key,
                     "attributes": {"name": name, "neighbours": [key]}, "scan_level": 2},
        })
    };
    let wrong = Refused("wrong_argument");
    let mine = Refused("not_yours");
    vec![
        of(
            "target.get",
            json!({"schedule": "hosts", "object": t.object}),
            Refused("not_found"),
        ),
        of(
            "target.get",
            json!({"schedule": "twin", "object": t.object}),
            Refused("not_found"),
        ),
        of(
            "target.get",
            json!({"schedule": "hosts", "object": t.object, "organization": THEIRS}),
            wrong,
        ),
        of("target.list", json!({"limit": 1000}), Own),
        of("queue.list", json!({}), Own),
        of("queue.list", json!({"organization": THEIRS}), wrong),
        of(
            "queue.pause",
            json!({"queue": "muster.tasks.reader", "reason": "ours now"}),
            mine,
        ),
        of(
            "queue.resume",
            json!({"queue": "muster.tasks.reader"}),
            mine,
        ),
        of("stats", json!({}), Own),
        of("stats", json!({"organization": THEIRS}), wrong),
        of(
            "explain",
            json!({"event": event(THEIRS, t.object, "x")}),
            mine,
        ),
        of("explain", json!({"event": event(THEIRS, "new", "x")}), mine),
        of(
            "explain",
            json!({"event": event("nobody", "new", "x")}),
            mine,
        ),
        of("explain", json!({"event": event(OURS, t.object, "x")}), Own),
        of(
            "explain",
            json!({"event": event(OURS, "own-1", "own")}),
            Own,
        ),
        of(
            "explain",
            json!({"event_id": t.event}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"event_id": t.event, "source": "/inventory"}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"event_id": t.event, "organization": THEIRS}),
            wrong,
        ),
        of("explain", json!({"task": t.running}), Refused("not_found")),
        of("explain", json!({"task": t.offered}), Refused("not_found")),
        of("explain", json!({"task": t.dead}), Refused("not_found")),
        of("explain", json!({"task": t.of_ours}), Own),
        of(
            "explain",
            json!({"schedule": t.schedule}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"schedule": t.schedule_id}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"schedule": t.schedule_id, "object": t.object}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"schedule": t.targeting, "object": t.object}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"schedule": "hosts", "object": t.object}),
            Refused("not_found"),
        ),
        of(
            "explain",
            json!({"schedule": "hosts", "object": "own-1"}),
            Own,
        ),
        of(
            "explain",
            json!({"schedule": "twin", "object": "own-1"}),
            Own,
        ),
        of(
            "explain",
            json!({"schedule": "feeds", "plugin": "feed"}),
            Own,
        ),
    ]
}
