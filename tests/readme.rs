//! Every command block of the README does what it says.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster::task::TaskState;
use support::servers::Rabbit;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("there is a README.md")
}

/// The blocks of one language, in their order.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(named)) if named == language => open = Some(String::new()),
            (None, _) => {}
            (Some(block), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (Some(block), Some(_)) => {
                blocks.push(std::mem::take(block));
                open = None;
            }
        }
    }
    blocks
}

fn block_with(word: &str) -> String {
    blocks("sh")
        .into_iter()
        .find(|block| block.contains(word))
        .unwrap_or_else(|| panic!("the README has a block with `{word}`"))
}

/// A folder with the example configuration and the built program on the path.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new(name: &str) -> Place {
        let folder =
            std::env::temp_dir().join(format!("muster-readme-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).expect("a folder for the test");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_muster"), folder.join("bin/muster"))
            .expect("a link to the program");
        std::os::unix::fs::symlink(root().join("config"), folder.join("config"))
            .expect("a link to config");
        Place { folder }
    }

    /// Runs a block as a newcomer would paste it; answers with what it printed.
    fn run(&self, block: &str) -> (bool, String, String) {
        let path = format!(
            "{}:{}",
            self.folder.join("bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let done = Command::new("timeout")
            .args(["120", "bash", "-m", "-e", "-c", block])
            .current_dir(&self.folder)
            .env("PATH", path)
            .env_remove("MUSTER_CONFIG")
            .output()
            .expect("bash runs");
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_first_command_runs_the_demonstration_to_its_table() {
    let block = block_with("-- demo");
    let arguments = block
        .trim()
        .strip_prefix("cargo run --release -- ")
        .expect("the first command is `cargo run --release -- …`");
    let place = Place::new("demo");
    let (ended_well, out, err) = place.run(&format!("muster {arguments}"));
    assert!(ended_well, "`{block}` failed:\n{out}\n{err}");
    for word in [
        "Events",
        "Schedules touched",
        "Tasks by queue",
        "Refusals, by reason",
        "Dead letters",
        "All of it took",
        "muster.tasks.boefje",
    ] {
        assert!(
            out.contains(word),
            "the table says nothing of `{word}`:\n{out}"
        );
    }
}

#[test]
fn the_second_command_is_what_ci_calls() {
    let block = block_with("tests/all.sh");
    let ci = fs::read_to_string(root().join(".ci/run")).expect("there is .ci/run");
    assert!(
        ci.lines().any(|line| line.trim() == block.trim()),
        ".ci/run does not call `{}`",
        block.trim()
    );
}

/// What a reader pastes, in the order of the README, all in one shell: everything but what takes an installation of one's
/// own (`RUN_ID`), the build, and the tests.
fn pasted() -> Vec<String> {
    let mut pasted = blocks("sh");
    pasted.retain(|block| {
        !["cargo run", "tests/all.sh", "RUN_ID"]
            .iter()
            .any(|word| block.contains(word))
    });
    pasted
}

#[test]
fn who_follows_it_from_top_to_bottom_sees_each_section_succeed() {
    let rabbit = Rabbit::start();
    let url = rabbit.url();
    let server = url
        .trim_end_matches("/%2f")
        .trim_end_matches('/')
        .to_owned();
    let blocks = pasted();
    let at = |word: &str| {
        let at = blocks.iter().position(|block| block.contains(word));
        at.unwrap_or_else(|| panic!("the README has a block with `{word}`"))
    };
    let tour = &blocks[at("amqp-publish")];
    let commands = tour.lines().filter(|line| !line.trim().is_empty());
    assert!(commands.count() < 10, "the tour is longer:\n{tour}");
    let script = blocks
        .join("echo '--- the next block'\n")
        .replace("amqp://guest:guest@localhost:5672", &server);
    assert!(
        script.contains(&server),
        "the tour names the server in its first line"
    );
    let place = Place::new("reader");
    let (ended_well, out, err) = place.run(&script);
    let log = fs::read_to_string(place.folder.join("muster.log")).unwrap_or_default();
    assert!(ended_well, "the README failed:\n{out}\n{err}\n{log}");
    let said: Vec<&str> = out.split("--- the next block\n").collect();
    assert_eq!(said.len(), blocks.len(), "{out}");

    let of_tour = said[at("amqp-publish")];
    assert!(
        of_tour.contains("\"arguments\":[\"dig\",\"www.example.com\"]"),
        "no task message was shown:\n{of_tour}"
    );
    let screen = of_tour.rsplit("\"attempt\":").next().unwrap_or_default();
    assert!(
        screen.contains("dns-records") && screen.contains("dispatched"),
        "`muster watch` does not show the task:\n{of_tour}"
    );
    let explained = said[at("muster explain -")];
    assert!(
        explained.contains("level_too_low"),
        "explain names the gate:\n{explained}"
    );

    let tasks =
        fs::read_to_string(place.folder.join("tasks.jsonl")).expect("tasks.jsonl was written");
    assert!(
        tasks.lines().count() > 10,
        "only these tasks came out:\n{tasks}"
    );
    for line in tasks.lines() {
        let task: serde_json::Value = serde_json::from_str(line).expect("a line of output is JSON");
        assert!(
            task["plugin"]["plugin_id"].is_string(),
            "a line of output is a task: {line}"
        );
    }

    let statuses = fs::read_to_string(place.folder.join("statuses.jsonl")).expect("statuses");
    assert!(
        statuses.contains("\"kept\":14"),
        "the script did not run:\n{statuses}"
    );
    let failed = |line: &&str| line.contains("\"failed\"");
    assert_eq!(
        statuses.lines().find(failed),
        None,
        "a task of the worker failed"
    );
    let attempts = said[at("muster work ")];
    assert!(
        attempts.contains("succeeded") && !attempts.contains("failed"),
        "{attempts}"
    );
    assert!(place.folder.join("store/logs/ops").is_dir());

    let queues = said[at("muster queue pause")];
    assert!(
        queues.contains("paused the queue muster.tasks.boefje (the scanned network is down)")
            && queues.contains("resumed the queue")
            && queues.contains("of 64"),
        "{queues}"
    );
    let cases = said[at("muster test")];
    assert!(cases.ends_with("3 passed, 0 failed\n"), "{cases}");
}

#[test]
fn the_schedules_shown_are_ones_that_check_accepts() {
    let place = Place::new("schedule");
    let yaml = blocks("yaml").concat();
    assert!(yaml.contains("calendars:"), "the README shows schedules");
    fs::write(place.folder.join("shown.yaml"), yaml).expect("the schedules are written");
    let (ended_well, out, err) = place.run("muster check shown.yaml");
    assert!(
        ended_well,
        "check refuses what the README shows:\n{out}\n{err}"
    );
}

#[test]
fn the_diagram_of_a_tasks_life_is_the_table_of_legal_steps() {
    let diagram = blocks("mermaid").concat();
    let shown: BTreeSet<(String, String)> = diagram
        .lines()
        .filter_map(|line| line.trim().split_once(" --> "))
        .map(|(from, to)| {
            let to = to.split_once(':').map_or(to, |(to, _)| to);
            (from.to_owned(), to.to_owned())
        })
        .collect();
    let mut legal: BTreeSet<(String, String)> = BTreeSet::new();
    let mut step = |from: &str, to: &str| legal.insert((from.to_owned(), to.to_owned()));
    for first in TaskState::FIRST {
        step("[*]", first.word());
    }
    for (word, state) in TaskState::ALL {
        for next in state.legal() {
            step(word, next.word());
        }
        if state.terminal() {
            step(word, "[*]");
        }
    }
    assert_eq!(shown, legal);
}

#[test]
fn what_the_readme_points_to_is_there() {
    let text = readme();
    for (at, _) in text.match_indices("](") {
        let target: String = text[at + 2..].chars().take_while(|c| *c != ')').collect();
        assert!(
            root().join(&target).exists(),
            "README.md points to `{target}`, which is not there"
        );
    }
}
