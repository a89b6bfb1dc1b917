//! The screen in a real terminal (tmux), beside a service that runs: as somebody new to it would look around.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;

use super::asking::runtime;
use super::support::process::House;
use super::support::servers::Postgres;

/// How often the terminal is looked at, and how long something may take to be there.
const GLANCE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

const PLUGINS: &str = r#"
- {kind: organization, id: acme}
- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname]}
- {name: hosts, run_on: hostname, operation: created, plugins: "plugin_id = 'dns'"}
- {name: nightly, recurrences: daily, plugins: "plugin_id = 'dns'", input: {}}
"#;

/// A terminal of 80x24 with a shell in it.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    fn open(folder: &Path) -> Tmux {
        let tmux = Tmux {
            socket: folder.join("tmux"),
        };
        tmux.ask(&[
            "new-session",
            "-d",
            "-s",
            "w",
            "-x",
            "80",
            "-y",
            "24",
            "env PS1='$ ' LANG=C.UTF-8 sh",
        ]);
        tmux
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command
            .arg("-S")
            .arg(&self.socket)
            .args(["-f", "/dev/null"]);
        let output = command.args(arguments).output().expect("tmux is installed");
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        output
    }

    fn press(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys", "-t", "w"];
        arguments.extend(keys);
        self.ask(&arguments);
    }

    fn write(&self, text: &str) {
        self.ask(&["send-keys", "-t", "w", "-l", text]);
    }

    fn page(&self) -> String {
        let output = self.ask(&["capture-pane", "-p", "-t", "w"]);
        String::from_utf8(output.stdout).expect("a terminal shows UTF-8")
    }

    async fn shows(&self, text: &str) -> String {
        self.comes_to(text, true).await
    }

    async fn shows_no_more(&self, text: &str) {
        self.comes_to(text, false).await;
    }

    async fn comes_to(&self, text: &str, shown: bool) -> String {
        let begun = Instant::now();
        loop {
            let page = self.page();
            if page.contains(text) == shown {
                return page;
            }
            let long = begun.elapsed() > PATIENCE;
            assert!(!long, "`{text}` shown is not {shown} in time:\n{page}");
            tokio::time::sleep(GLANCE).await;
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        let _ = command
            .arg("-S")
            .arg(&self.socket)
            .arg("kill-server")
            .output();
    }
}

fn event(key: &str) -> serde_json::Value {
    json!({
        "specversion": "1.0", "id": key, "source": "/t", "type": "object.created", "time": "2026-11-21T09:30:00Z",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": key, "attributes": {"name": key}, "scan_level": 2},
    })
}

#[test]
fn in_a_terminal_a_running_service_is_watched_and_the_terminal_is_left_as_it_was() {
    let mut server = Postgres::start();
    let house = House::new(&server.url(), "lines:", "");
    house.apply("plugins.yaml", PLUGINS);
    let mut service = house.dialogue();
    for key in ["www.example.com", "mail.example.com"] {
        service.say(&event(key).to_string());
    }
    let tmux = Tmux::open(house.path("muster.toml").parent().expect("a folder"));
    let muster = env!("CARGO_BIN_EXE_muster");
    let config = house.path("muster.toml");
    runtime().block_on(async {
        tmux.press(&["echo before", "Enter"]);
        tmux.shows("before").await;
        let begin = format!(
            "{muster} --config {} watch --allow-changes; echo it ended with $?",
            config.display()
        );
        tmux.write(&begin);
        tmux.press(&["Enter"]);
        let page = tmux.shows("> muster.tasks.reader").await;
        assert!(page.starts_with("[1 queues] 2 runs"), "{page}");
        assert!(
            !page.contains("before"),
            "it has the terminal for itself:\n{page}"
        );
        // Tasks, one of them in full, and back; a filter with a slip of the pen.
        tmux.press(&["3"]);
        tmux.shows("mail.example.com").await;
        tmux.press(&["Down", "Enter"]);
        let page = tmux.shows("task of dns, dispatched").await;
        assert!(page.contains("www.example.com (hostname)"), "{page}");
        tmux.press(&["Escape"]);
        tmux.shows("[3 tasks]").await;
        tmux.press(&["/"]);
        tmux.write("inputs = 3");
        tmux.press(&["Enter"]);
        tmux.shows("error[").await;
        tmux.press(&["C-u"]);
        tmux.write("plugin_id = 'nmap'");
        tmux.press(&["Enter"]);
        tmux.shows("Nothing is like that").await;
        tmux.press(&["Escape"]);
        tmux.shows("www.example.com").await;
        // What comes while it is looked at is seen.
        service.say(&event("vpn.example.com").to_string());
        tmux.shows("vpn.example.com").await;
        tmux.press(&["6"]);
        tmux.shows("holds").await;
        // A queue is paused, and it is.
        tmux.press(&["1"]);
        tmux.shows("[1 queues]").await;
        tmux.press(&["p"]);
        tmux.shows("why?").await;
        tmux.write("not now");
        tmux.press(&["Enter"]);
        tmux.shows("? y/n").await;
        tmux.press(&["y"]);
        tmux.shows("PAUSED").await;
        let queues = house.json(&["queue", "list"]);
        assert_eq!(queues[0]["paused"]["reason"], "not now");
        // A terminal that grows small and large again.
        tmux.ask(&["resize-window", "-t", "w", "-x", "30", "-y", "8"]);
        tmux.shows("needs 40 columns").await;
        tmux.ask(&["resize-window", "-t", "w", "-x", "80", "-y", "24"]);
        tmux.shows("> muster.tasks.reader").await;
        // The database goes away, is told of, and comes back by itself.
        server.kill();
        let page = tmux.shows("! the").await;
        assert!(
            page.contains("> muster.tasks.reader"),
            "what was known stays:\n{page}"
        );
        // And why: not that some time is over.
        tmux.shows("refused").await;
        tmux.press(&["?"]);
        tmux.shows("any key goes back").await;
        tmux.press(&["x"]);
        server.restart();
        tmux.shows_no_more("! the").await;
        tmux.shows("PAUSED").await;
        tmux.press(&["q"]);
        let page = tmux.shows("it ended with 0").await;
        assert!(
            page.contains("before"),
            "the terminal is as it was:\n{page}"
        );
        tmux.write("stty -a | grep -o -w -e '-*icanon' -e '-*echo'");
        tmux.press(&["Enter"]);
        tmux.shows("\nicanon\necho\n").await;
        // Ctrl-C and a signal end it as well.
        for (way, number) in [("C-c", 1), ("SIGTERM", 2)] {
            tmux.press(&["clear", "Enter"]);
            let again = begin.replace("it ended with", &format!("{number} ended with"));
            tmux.write(&again);
            tmux.press(&["Enter"]);
            tmux.shows("> muster.tasks.reader").await;
            if way == "C-c" {
                tmux.press(&[way]);
            } else {
                let pid = tmux.ask(&["display-message", "-p", "-t", "w", "#{pane_pid}"]);
                let shell = String::from_utf8(pid.stdout).expect("a number");
                let children = format!("/proc/{0}/task/{0}/children", shell.trim());
                let children = std::fs::read_to_string(children).expect("it has one");
                let killed = Command::new("kill")
                    .args(["-TERM", children.trim()])
                    .status();
                assert!(killed.expect("kill runs").success());
            }
            tmux.shows(&format!("{number} ended with 0")).await;
        }
    });
}

#[test]
fn where_there_is_no_terminal_it_says_what_to_do_instead() {
    let house = House::embedded("");
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let refused = house.run(&["watch"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        told(&refused).contains("muster watch --once"),
        "{refused:?}"
    );
    assert!(!house.path("muster.db").exists(), "nothing was made");
    let nothing = house.run(&["watch", "--once"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(told(&nothing).contains("muster migrate"), "{nothing:?}");
    house.apply("plugins.yaml", PLUGINS);
    let page = house.done(&["watch", "--once", "--size", "60x12"]);
    assert_eq!(page.lines().count(), 12, "{page}");
    assert!(page.contains("> muster.tasks.reader"), "{page}");
    let rows = house.json(&["watch", "--once", "--tab", "schedules"]);
    assert_eq!(rows["rows"][1]["name"], "nightly");
    for (arguments, wrong) in [
        (["--where", "stat = 1"], "--where: error[Q201]"),
        (["--size", "10x10"], "at least 40x10"),
        (["--every", "2d"], "from 1s to 1h"),
        (["--open", "nobody"], "nobody"),
        (["--organization", "nobody"], "no organisation `nobody`"),
    ] {
        let mut all = vec!["watch", "--once", "--tab", "tasks"];
        all.extend(arguments);
        let refused = house.run(&all);
        let code = if arguments[1] == "nobody" { 1 } else { 2 };
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{arguments:?}: {refused:?}"
        );
        assert!(told(&refused).contains(wrong), "{arguments:?}: {refused:?}");
    }
    let away = House::new("postgres://nobody@127.0.0.1:1/none", "lines:", "");
    let refused = away.run(&["watch", "--once"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}
