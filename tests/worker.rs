//! The reference worker, with lines: what it runs, what it keeps from it, how everything that it runs ends, and what it says.
//! The rows of dcron (D18, D19, …) are noted where they are shown.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::process::{Dialogue, House, until};
use support::work::{Store, end_of, lives, next_of, number_in, task};

fn worker(house: &House, arguments: &[&str]) -> Dialogue {
    let store = Store::of(house);
    let mut all = vec!["work", "--store", store.path(), "--name", "w1"];
    all.extend(arguments);
    house.dialogue_with(
        &all,
        &[("MUSTER_BUS_URL", "lines:"), ("HUSH", "of the worker")],
    )
}

fn house() -> (House, Store) {
    let house = House::embedded("");
    let store = Store::of(&house);
    (house, store)
}

// D19, D22, D32: what a task is made of, and what comes back.
#[test]
fn a_script_gets_its_arguments_its_message_and_nothing_of_the_workers_environment() {
    let (house, store) = house();
    store.put(
        "jobs/look.sh",
        "cat > message.json\nenv | sort\nprintf '%s|' \"$@\"\necho; echo to-stderr >&2\npwd\nls -A ../script\n\
         printf '{\"bytes\": %d, \"list\": [1]}' $(wc -c < message.json) > \"$MUSTER_TASK_OUTPUTS\"\n",
    );
    let mut worker = worker(&house, &[]);
    let task = task(
        "t-1",
        "jobs/look.sh",
        json!({"arguments": ["a b", "$(id)", ";", ""], "traceparent": "00-1-2-01"}),
    );
    let end = end_of(&mut worker, &task);
    assert_eq!(worker.end(), [Value::Null; 0]);
    for (field, value) in [
        ("task_id", json!("t-1")),
        ("attempt", json!(1)),
        ("worker", json!("w1")),
        ("status", json!("succeeded")),
        ("exit_code", json!(0)),
        ("log_ref", json!("logs/acme/t-1/1.log")),
        (
            "outputs",
            json!({"bytes": task.to_string().len(), "list": [1]}),
        ),
    ] {
        assert_eq!(end[field], value, "{field} of {end}");
    }
    let log = store.text("logs/acme/t-1/1.log");
    assert_eq!(end["log_tail"], log.as_str());
    assert!(log.contains("a b|$(id)|;||\n"), "{log}");
    assert!(
        log.contains("|\nto-stderr\n/"),
        "in the order in which it was said: {log}"
    );
    assert!(log.contains("\nlook.sh\n"), "{log}");
    let home = log
        .lines()
        .find_map(|line| line.strip_prefix("HOME="))
        .expect("a home");
    assert!(
        log.contains(&format!("\n{home}\n")),
        "it begins at home: {log}"
    );
    assert!(!Path::new(home).exists(), "its folder is gone");
    let variables: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    // PWD, OLDPWD, SHLVL and _ are the shell's own.
    let mut expected = vec![
        "HOME",
        "LANG",
        "MUSTER_TASK_ATTEMPT",
        "MUSTER_TASK_CAUSE",
        "MUSTER_TASK_ID",
        "MUSTER_TASK_ORGANIZATION",
        "MUSTER_TASK_OUTPUTS",
        "MUSTER_TASK_PLUGIN",
        "MUSTER_TASK_SCHEDULE",
        "MUSTER_TASK_SCHEDULED_FOR",
        "MUSTER_TASK_TRACEPARENT",
        "PATH",
        "TMPDIR",
    ];
    expected.extend(
        ["PWD", "OLDPWD", "SHLVL", "_"]
            .iter()
            .filter(|name| variables.contains(name)),
    );
    expected.sort_unstable();
    assert_eq!(variables, expected);
    assert!(log.contains("MUSTER_TASK_TRACEPARENT=00-1-2-01\n"), "{log}");
}

// D3: runtimes are an open list.
#[test]
fn runtimes_are_those_of_the_settings_and_python_is_one_from_the_start() {
    let house = House::embedded("[work.runtimes]\nloud = \"sh -x -c '. \\\"$0\\\"'\"\n");
    let store = Store::of(&house);
    store.put(
        "a.py",
        "import sys, json\nprint(json.load(sys.stdin)['id'], sys.argv[1:])\n",
    );
    store.put("b", "echo quiet\n");
    let mut worker = worker(&house, &[]);
    let python = json!({"plugin": {"runtime": "python"}, "arguments": ["x"]});
    let end = end_of(&mut worker, &task("t-1", "a.py", python));
    assert_eq!(
        (&end["status"], &end["log_tail"]),
        (&json!("succeeded"), &json!("t-1 ['x']\n"))
    );
    let end = end_of(
        &mut worker,
        &task("t-2", "b", json!({"plugin": {"runtime": "loud"}})),
    );
    let tail = end["log_tail"].as_str().expect("a log");
    assert!(
        tail.contains("+ echo quiet") && tail.contains("\nquiet\n"),
        "{end}"
    );
    worker.end();
}

// D3, D4, D14: what is not there is a fatal failure that says what is.
#[test]
fn what_can_never_run_is_a_fatal_failure_that_says_what_would_be_right() {
    let (house, store) = house();
    store.put("a.sh", "echo ran\n");
    let right = "9d5a2bd8ccce0b9a5ee0d5d2c2fa2d39e8d2b2b7f9b3f8a3c4e1f0ad7fcd1f00";
    let mut worker = worker(&house, &[]);
    for (artefact, more, message) in [
        (
            "a.sh",
            json!({"plugin": {"runtime": "pyhton"}}),
            "the runtime `pyhton` of plugin `backup` is not known here; known are `python`, `ruby`, `sh`; did you mean `python`?",
        ),
        (
            "a.sh",
            json!({"plugin": {"runtime": null}}),
            "plugin `backup` names no runtime; known here: `python`, `ruby`, `sh`",
        ),
        (
            "a.sh",
            json!({"plugin": {"artefact": null}}),
            "plugin `backup` names no artefact, so there is no script",
        ),
        (
            "jobs/b.sh",
            json!({}),
            "artefact `jobs/b.sh` is not in the store file://",
        ),
        (
            "../a.sh",
            json!({}),
            "artefact `../a.sh` is no path in a store",
        ),
        (
            "s3://other/a.sh",
            json!({}),
            "artefact `s3://other/a.sh` is not in the store of this worker",
        ),
        ("a.sh#md5=1", json!({}), "after `#` stands `sha256=`"),
        (
            &format!("a.sh#sha256={right}"),
            json!({}),
            "it is not the one that was declared",
        ),
        (
            "a.sh",
            json!({"secrets": ["TOKEN"]}),
            "asks for the secret `TOKEN`, which this worker does not have",
        ),
    ] {
        let end = end_of(&mut worker, &task("t", artefact, more.clone()));
        assert_eq!(
            (&end["status"], &end["class"]),
            (&json!("failed"), &json!("fatal")),
            "{end}"
        );
        let said = end["message"].as_str().expect("a message");
        assert!(said.contains(message), "expected `{message}`: {said}");
        worker.say(&json!({"type": "cancel", "task_id": "nobody"}).to_string());
        // The same attempt is not taken twice, so each gets a worker that does not remember.
        worker.end();
        worker = self::worker(&house, &[]);
    }
    worker.end();
}

#[test]
fn a_checksum_that_is_right_lets_the_script_run() {
    let (house, store) = house();
    store.put("a.sh", "echo ran\n");
    let sum = std::process::Command::new("sha256sum")
        .arg(house.path("store/a.sh"))
        .output()
        .expect("sha256sum runs");
    let sum = String::from_utf8(sum.stdout).expect("a checksum");
    let sum = &sum[..64];
    let mut worker = worker(&house, &[]);
    let end = end_of(
        &mut worker,
        &task("t", &format!("a.sh#sha256={sum}"), json!({})),
    );
    assert_eq!(end["status"], "succeeded", "{end}");
    worker.end();
}

// D11, D31: a closed list of ends.
#[test]
fn exit_codes_say_how_a_task_ended() {
    let (house, store) = house();
    store.put("exit.sh", "echo \"as told\"; exit $1\n");
    store.put("kill.sh", "kill -SEGV $$\n");
    store.put("broken.sh", "echo '{' > outputs.json\n");
    store.put("pipe.sh", "mkfifo outputs.json\n");
    let mut worker = worker(&house, &[]);
    let mut end = |id: &str, artefact: &str, code: &str| {
        end_of(
            &mut worker,
            &task(id, artefact, json!({"arguments": [code]})),
        )
    };
    let failed = end("t-1", "exit.sh", "3");
    for (field, value) in [
        ("status", json!("failed")),
        ("class", json!("retryable")),
        ("exit_code", json!(3)),
        ("message", json!("exit code 3")),
        ("log_ref", json!("logs/acme/t-1/1.log")),
        ("log_tail", json!("as told\n")),
    ] {
        assert_eq!(failed[field], value, "{field} of {failed}");
    }
    assert_eq!(store.text("logs/acme/t-1/1.log"), "as told\n");
    let fatal = end("t-2", "exit.sh", "65");
    assert_eq!(
        (&fatal["class"], &fatal["exit_code"]),
        (&json!("fatal"), &json!(65))
    );
    let snooze = end("t-3", "exit.sh", "75");
    assert_eq!(snooze["status"], "snooze");
    assert!(snooze["until"].is_string(), "{snooze}");
    let signal = end("t-4", "kill.sh", "");
    assert_eq!(
        (&signal["class"], &signal["exit_code"], &signal["message"]),
        (
            &json!("retryable"),
            &json!(139),
            &json!("ended by signal 11")
        )
    );
    for (id, artefact) in [("t-5", "broken.sh"), ("t-6", "pipe.sh")] {
        let end = end(id, artefact, "");
        assert_eq!(
            (&end["status"], &end["class"]),
            (&json!("failed"), &json!("retryable")),
            "{end}"
        );
        assert!(
            end["message"]
                .as_str()
                .is_some_and(|m| m.contains("outputs.json")),
            "{end}"
        );
    }
    worker.end();
}

// D23: the time limit ends whatever was started.
#[test]
fn at_its_time_limit_the_whole_group_is_killed_and_the_log_is_kept() {
    let (house, store) = house();
    let child = house.path("child.pid");
    store.put(
        "stubborn.sh",
        "trap '' TERM\necho begun\n(trap '' TERM; while :; do sleep 1000; done) &\necho $! > \"$1\"\nwhile :; do sleep 1000; done\n",
    );
    let mut worker = worker(&house, &["--grace", "1s"]);
    let more = json!({"arguments": [child], "timeouts": {"run_s": 1}});
    let end = end_of(&mut worker, &task("t-1", "stubborn.sh", more));
    assert_eq!(
        (&end["status"], &end["class"]),
        (&json!("failed"), &json!("retryable")),
        "{end}"
    );
    assert_eq!(
        end["message"],
        "stopped at its time limit of 1 s (timeouts.run_s)"
    );
    assert_eq!(end["exit_code"], Value::Null);
    assert_eq!(end["log_tail"], "begun\n");
    assert_eq!(store.text("logs/acme/t-1/1.log"), "begun\n");
    assert!(
        !lives(number_in(&child)),
        "its child is gone before the end is told"
    );
    worker.end();
}

#[test]
fn a_script_that_is_asked_to_end_may_clean_up() {
    let (house, store) = house();
    store.put(
        "tidy.sh",
        "trap 'echo tidied; exit 0' TERM\necho begun\nsleep 1000 & wait\n",
    );
    let mut worker = worker(&house, &[]);
    let end = end_of(
        &mut worker,
        &task("t-1", "tidy.sh", json!({"timeouts": {"run_s": 1}})),
    );
    assert_eq!(
        end["message"], "stopped at its time limit of 1 s (timeouts.run_s)",
        "{end}"
    );
    assert_eq!(end["log_tail"], "begun\ntidied\n");
    worker.end();
}

#[test]
fn what_stays_behind_after_a_success_is_killed() {
    let (house, store) = house();
    let child = house.path("child.pid");
    store.put("leave.sh", "sleep 1000 &\necho $! > \"$1\"\necho done\n");
    let mut worker = worker(&house, &[]);
    let end = end_of(
        &mut worker,
        &task("t-1", "leave.sh", json!({"arguments": [child]})),
    );
    assert_eq!(
        (&end["status"], &end["log_tail"]),
        (&json!("succeeded"), &json!("done\n"))
    );
    assert!(!lives(number_in(&child)));
    worker.end();
}

#[test]
fn a_log_is_bounded_and_its_last_four_kibibytes_are_reported() {
    let house = House::embedded("[work]\nlog_bound = 8192\n");
    let store = Store::of(&house);
    store.put(
        "loud.sh",
        "i=0\nwhile [ $i -lt 3000 ]; do echo \"line $i of many\"; i=$((i+1)); done\nprintf 'nul:\\0'\n",
    );
    let mut worker = worker(&house, &[]);
    let end = end_of(&mut worker, &task("t-1", "loud.sh", json!({})));
    let log = store.text("logs/acme/t-1/1.log");
    assert!(log.len() < 8300, "{}", log.len());
    assert!(log.starts_with("line 0 of many\n") && log.contains("bytes are left out here]\n"));
    let tail = end["log_tail"].as_str().expect("a tail");
    assert!(tail.len() <= 4096 && tail.len() > 4080, "{}", tail.len());
    assert!(tail.ends_with("line 2999 of many\nnul:\u{FFFD}"), "{tail}");
    worker.end();
}

#[test]
fn heartbeats_come_by_themselves_and_bring_progress() {
    let (house, store) = house();
    let go = house.path("go");
    store.put(
        "long.sh",
        "echo '::progress 3/10 third host'\nwhile [ ! -e \"$1\" ]; do sleep 0.05; done\n",
    );
    let mut worker = worker(&house, &[]);
    let more = json!({"arguments": [go], "timeouts": {"heartbeat_s": 1}});
    worker.say(&task("t-1", "long.sh", more).to_string());
    assert_eq!(worker.hear()["status"], "accepted");
    for _ in 0..3 {
        let mut beat = worker.hear();
        while beat["done"].is_null() {
            beat = worker.hear();
        }
        assert_eq!(
            (
                &beat["status"],
                &beat["done"],
                &beat["total"],
                &beat["note"]
            ),
            (
                &json!("heartbeat"),
                &json!(3),
                &json!(10),
                &json!("third host")
            )
        );
    }
    fs::write(&go, "").expect("go");
    assert_eq!(next_of(&mut worker, "t-1")["status"], "succeeded");
    worker.end();
}

#[test]
fn a_task_that_is_cancelled_is_stopped_and_others_go_on() {
    let (house, store) = house();
    let (first, second, go) = (house.path("1.pid"), house.path("2.pid"), house.path("go"));
    store.put(
        "wait.sh",
        "echo $$ > \"$1\"\nwhile [ ! -e \"$2\" ]; do sleep 0.05; done\n",
    );
    let mut worker = worker(&house, &["--concurrency", "3"]);
    for (id, pid) in [("t-1", &first), ("t-2", &second)] {
        worker.say(&task(id, "wait.sh", json!({"arguments": [pid, go]})).to_string());
    }
    let (first, _) = (number_in(&first), number_in(&second));
    for other in [
        json!({"type": "cancel", "task_id": "t-1", "attempt": 2}),
        json!({"type": "cancel", "task_id": "t-2", "worker": "another"}),
        json!({"type": "other", "task_id": "t-2"}),
        json!({"type": "cancel", "task_id": "t-1", "attempt": 1, "worker": "w1"}),
    ] {
        worker.say(&other.to_string());
    }
    let mut said = Vec::new();
    while said.len() < 3 {
        let status = worker.hear();
        if status["status"] != "heartbeat" {
            said.push((status["task_id"].clone(), status["status"].clone()));
        }
    }
    assert_eq!(said[2], (json!("t-1"), json!("cancelled")), "{said:?}");
    assert!(!lives(first));
    fs::write(&go, "").expect("go");
    assert_eq!(next_of(&mut worker, "t-2")["status"], "succeeded");
    worker.end();
}

// D18, D20: a worker may refuse.
#[test]
fn a_worker_that_is_to_be_avoided_declines_and_what_has_expired_is_dropped() {
    let (house, store) = house();
    store.put("a.sh", "echo ran\n");
    let mut worker = worker(&house, &[]);
    let late = json!({"expires_at": "2026-01-01T00:00:00Z"});
    worker.say(&task("t-1", "a.sh", late).to_string());
    let avoided = json!({"avoid_workers": ["w0", "w1"]});
    worker.say(&task("t-2", "a.sh", avoided).to_string());
    let declined = worker.hear();
    assert_eq!(
        (
            &declined["task_id"],
            &declined["status"],
            &declined["reason"],
            &declined["retry_in_s"]
        ),
        (
            &json!("t-2"),
            &json!("declined"),
            &json!("avoided"),
            &json!(1.0)
        )
    );
    assert_eq!(worker.end(), [Value::Null; 0]);
}

#[test]
fn messages_that_cannot_be_read_are_refused_and_the_next_is_run() {
    let (house, store) = house();
    store.put("a.sh", "echo ran\n");
    let mut worker = worker(&house, &[]);
    for garbage in [
        "garbage",
        "[1]",
        "{\"id\":\"x\"}",
        "{\"ok\":false}",
        "{\"id\":7,\"attempt\":1}",
    ] {
        worker.say(garbage);
    }
    // Of this one it is known which task it is about.
    worker.say("{\"id\":\"t-0\",\"attempt\":2,\"plugin\":[]}");
    let refused = worker.hear();
    assert_eq!(
        (
            &refused["task_id"],
            &refused["attempt"],
            &refused["status"],
            &refused["class"]
        ),
        (&json!("t-0"), &json!(2), &json!("failed"), &json!("fatal"))
    );
    assert_eq!(
        refused["message"],
        "the task message cannot be read: wrong_type: plugin is a list; it must be an object"
    );
    let end = end_of(&mut worker, &task("t-1", "a.sh", json!({})));
    assert_eq!(end["status"], "succeeded");
    worker.end();
}

#[test]
fn an_attempt_that_comes_again_is_not_run_twice_and_a_newer_one_takes_its_place() {
    let (house, store) = house();
    let (go, count) = (house.path("go"), house.path("count"));
    store.put(
        "count.sh",
        "echo $MUSTER_TASK_ATTEMPT >> \"$1\"\nwhile [ ! -e \"$2\" ]; do sleep 0.05; done\n",
    );
    let mut worker = worker(&house, &["--concurrency", "3"]);
    let arguments = json!({"arguments": [count, go]});
    let first = task("t-1", "count.sh", arguments.clone());
    let mut newer = first.clone();
    newer["attempt"] = json!(2);
    for _ in 0..2 {
        worker.say(&first.to_string());
    }
    assert_eq!(next_of(&mut worker, "t-1")["status"], "accepted");
    number_in(&count);
    worker.say(&newer.to_string());
    let mut said = Vec::new();
    while said.len() < 2 {
        let status = next_of(&mut worker, "t-1");
        said.push((status["attempt"].clone(), status["status"].clone()));
    }
    said.sort_by_key(|(attempt, _)| attempt.as_i64());
    assert_eq!(
        said,
        [
            (json!(1), json!("cancelled")),
            (json!(2), json!("accepted"))
        ]
    );
    fs::write(&go, "").expect("go");
    assert_eq!(next_of(&mut worker, "t-1")["status"], "succeeded");
    worker.say(&newer.to_string());
    assert_eq!(worker.end(), [Value::Null; 0]);
    assert_eq!(fs::read_to_string(&count).expect("the count"), "1\n2\n");
}

#[test]
fn no_more_tasks_run_side_by_side_than_it_has_hands() {
    let (house, store) = house();
    let marks = house.path("marks");
    store.put("mark.sh", "echo + >> \"$1\"; sleep 0.2; echo - >> \"$1\"\n");
    let mut worker = worker(&house, &["--concurrency", "2"]);
    for number in 0..6 {
        let id = format!("t-{number}");
        worker.say(&task(&id, "mark.sh", json!({"arguments": [marks]})).to_string());
    }
    let said = worker.end();
    let succeeded = said.iter().filter(|said| said["status"] == "succeeded");
    assert_eq!(succeeded.count(), 6, "{said:?}");
    assert!(
        said.iter().all(|said| said["status"] != "declined"),
        "{said:?}"
    );
    let (mut now, mut most) = (0, 0);
    for mark in fs::read_to_string(&marks).expect("the marks").lines() {
        now += if mark == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!(most, 2);
}

// D38: the worker runs any command.
#[test]
fn a_command_is_filled_in_word_by_word_and_nothing_of_a_task_becomes_a_word_of_its_own() {
    let (house, store) = house();
    store.put("show.sh", "printf '[%s]' \"$@\"\ncat > /dev/null\n");
    let show = house.path("store/show.sh");
    let command = format!(
        "sh {} -x '{{input.name}}' {{arguments}} \"--key={{input.primary_key}}/{{parameters.deep.er}}\" {{attempt}} {{{{plain}}}}",
        show.display()
    );
    let mut worker = worker(&house, &["--exec", &command]);
    let more = json!({
        "arguments": ["two words", "{input.name}", "; rm -rf /"],
        "inputs": [{"object_type": "hostname", "primary_key": "Hostname|x", "attributes": {"name": "a' \"b\" $(c)"}, "scan_level": 1}],
        "parameters": {"deep": {"er": [1, true]}},
    });
    let end = end_of(&mut worker, &task("t-1", "", more));
    assert_eq!(
        end["log_tail"],
        "[-x][a' \"b\" $(c)][two words][{input.name}][; rm -rf /][--key=Hostname|x/[1,true]][1][{plain}]"
    );
    let end = end_of(&mut worker, &task("t-2", "", json!({})));
    assert_eq!(
        (&end["status"], &end["class"]),
        (&json!("failed"), &json!("fatal"))
    );
    assert_eq!(
        end["message"],
        "the command asks for {input.name}, which this task does not have"
    );
    worker.end();
}

#[test]
fn a_command_that_cannot_be_meant_is_refused_at_the_start() {
    let (house, store) = house();
    for (command, why) in [
        ("", "the command is empty"),
        ("{input.name} x", "the first word is the program"),
        (
            "echo {inputs.name}",
            "no task has {inputs.name}; did you mean `input`?",
        ),
        ("echo a{arguments}", "a word of its own"),
        ("echo {name", "has a brace alone"),
        ("echo 'a", "a ' is opened and not closed"),
        ("ehco {arguments}", "there is no program `ehco`"),
        ("/nowhere/echo", "there is no program `/nowhere/echo`"),
    ] {
        let output = house.run(&["work", "--store", store.path(), "--exec", command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why), "expected `{why}`: {said}");
    }
    for (arguments, why) in [
        (vec!["work"], "where are the scripts?"),
        (
            vec!["work", "--store", "nowhere"],
            "the folder `nowhere` is not there",
        ),
        (vec!["work", "--store", "s3://bucket/x"], "s3"),
    ] {
        let output = house.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "expected `{why}`: {said}");
    }
}

#[test]
fn a_secret_is_given_to_the_task_that_asks_for_it_alone() {
    let house =
        House::embedded("[work.secrets]\nTOKEN = \"hush\"\n[work.environment]\nREGION = \"eu\"\n");
    let store = Store::of(&house);
    store.put("say.sh", "echo \"${TOKEN-none} $REGION\"\n");
    let mut worker = worker(&house, &[]);
    let end = end_of(
        &mut worker,
        &task("t-1", "say.sh", json!({"secrets": ["TOKEN"]})),
    );
    assert_eq!(end["log_tail"], "hush eu\n");
    let end = end_of(&mut worker, &task("t-2", "say.sh", json!({})));
    assert_eq!(end["log_tail"], "none eu\n");
    assert!(!worker.process().log().contains("hush"));
    worker.end();
}

/// Run as a user who is nobody, as workers should be: root may look into everything.
#[test]
fn a_script_cannot_look_into_the_worker() {
    let (house, store) = house();
    store.put(
        "pry.sh",
        "tr '\\0' '\\n' < /proc/$PPID/environ | grep -c HUSH\nexit 0\n",
    );
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(store.path(), open(0o777)).expect("opened to all");
    let mut command = house.command(&["work", "--store", store.path()]);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(arguments.iter().skip_while(|a| *a != "--").skip(1))
        .current_dir("/")
        .env("HUSH", "of the worker")
        .env("MUSTER_BUS_URL", "lines:")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    use std::io::Write;
    let mut input = child.stdin.take().expect("its input");
    writeln!(input, "{}", task("t-1", "pry.sh", json!({}))).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let end: Value = serde_json::from_str(said.lines().last().expect("a status")).expect("JSON");
    assert_eq!(end["status"], "succeeded", "{end}");
    assert_ne!(
        end["log_tail"], "1\n",
        "it found what only the worker should know: {end}"
    );
}

// The service's word "hand back": semantics.md §7.
#[tokio::test]
async fn sigterm_hands_back_what_runs_and_kills_it() {
    let (house, store) = house();
    let (pid, child) = (house.path("pid"), house.path("child"));
    store.put(
        "stubborn.sh",
        "trap '' TERM\necho $$ > \"$1\"\n(while :; do sleep 1000; done) &\necho $! > \"$2\"\nwhile :; do sleep 1000; done\n",
    );
    let mut worker = worker(&house, &["--grace", "1s"]);
    worker.say(&task("t-1", "stubborn.sh", json!({"arguments": [pid, child]})).to_string());
    assert_eq!(worker.hear()["status"], "accepted");
    let (pid, child) = (number_in(&pid), number_in(&child));
    worker.process().terminate();
    let back = next_of(&mut worker, "t-1");
    assert_eq!(
        (&back["status"], &back["reason"], &back["retry_in_s"]),
        (&json!("declined"), &json!("the worker ends"), &Value::Null)
    );
    assert!(!lives(pid) && !lives(child));
    assert_eq!(worker.process().end().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_kills_at_once() {
    let (house, store) = house();
    let pid = house.path("pid");
    store.put(
        "stubborn.sh",
        "trap '' TERM\necho $$ > \"$1\"\nwhile :; do sleep 1000; done\n",
    );
    let mut worker = worker(&house, &["--grace", "1h"]);
    worker.say(&task("t-1", "stubborn.sh", json!({"arguments": [pid]})).to_string());
    let pid = number_in(&pid);
    worker.process().terminate();
    until("the worker says that it stops", async || {
        worker.process().log().contains("stopping").then_some(())
    })
    .await;
    worker.process().terminate();
    assert_eq!(worker.process().end().await.code(), Some(1));
    until("the script is gone", async || (!lives(pid)).then_some(())).await;
}

#[test]
fn a_store_that_cannot_be_read_now_sends_the_task_back() {
    let (house, store) = house();
    store.put("a.sh", "echo ran\n");
    let mut worker = worker(&house, &[]);
    let before = end_of(&mut worker, &task("t-0", "a.sh", json!({})));
    assert_eq!(before["status"], "succeeded");
    fs::rename(store.path(), house.path("elsewhere")).expect("the store goes away");
    let back = end_of(&mut worker, &task("t-1", "a.sh", json!({})));
    assert_eq!(
        (&back["status"], &back["retry_in_s"]),
        (&json!("declined"), &json!(30.0)),
        "{back}"
    );
    assert!(
        back["reason"]
            .as_str()
            .is_some_and(|why| why.contains("is gone")),
        "{back}"
    );
    worker.end();
}

#[tokio::test]
async fn whoever_stops_listening_ends_the_worker() {
    let (house, store) = house();
    store.put("a.sh", "echo ran\n");
    let mut command = house.command(&["work", "--store", store.path()]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stdout.take());
    use std::io::Write;
    let mut input = child.stdin.take().expect("its input");
    writeln!(input, "{}", task("t-1", "a.sh", json!({}))).expect("it reads");
    let ended = until("the worker ends", async || {
        child.try_wait().expect("looked")
    })
    .await;
    assert_eq!(ended.code(), Some(1));
    drop(input);
}
