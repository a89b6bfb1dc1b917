//! Completions in a real shell, and the manual as groff reads it.

use std::path::Path;

use super::*;

/// What bash offers for the last of these words.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let count = words.len() - 1;
    let last = words.last().unwrap_or(&"");
    let before = words.get(count.saturating_sub(1)).unwrap_or(&"");
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    // As bash does it itself when somebody presses the tab key.
    let asked = format!(
        "source '{}'; COMP_WORDS=({}); COMP_CWORD={count}; f=$(complete -p muster | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
         $f muster '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        quoted.join(" ")
    );
    let done = Command::new("bash")
        .args(["--norc", "-c", &asked])
        .output()
        .expect("bash runs");
    let (_, out, err) = told(&done);
    assert!(err.is_empty(), "{asked}: {err}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_nouns_verbs_and_flags() {
    let folder = Folder::new("completions");
    let (code, script, _) = ended(newcomer(&folder, &["completions", "bash"]));
    assert_eq!(code, 0);
    let file = folder.path().join("muster.bash");
    fs::write(&file, script).expect("a file");
    let has = |words: &[&str], wanted: &[&str]| {
        let found = offered(&file, words);
        for word in wanted {
            assert!(
                found.iter().any(|known| known == word),
                "{words:?}: {found:?}"
            );
        }
    };
    has(
        &["muster", ""],
        &["run", "task", "dead-letter", "schema", "work"],
    );
    has(&["muster", "sche"], &["schedule", "schema"]);
    has(
        &["muster", "task", ""],
        &["list", "get", "cancel", "retry", "mark"],
    );
    has(
        &["muster", "task", "cancel", "--"],
        &["--where", "--yes", "--organization"],
    );
    has(&["muster", "--output", ""], &["table", "json"]);
    has(&["muster", "completions", ""], &["bash", "zsh", "fish"]);
    assert_eq!(offered(&file, &["muster", "task", "canc"]), ["cancel"]);
}

#[test]
fn every_shell_gets_a_script_and_an_unknown_one_is_told_which_there_are() {
    let folder = Folder::new("completions");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, err) = ended(newcomer(&folder, &["completions", shell]));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("dead-letter"), "{shell}");
    }
    let (code, _, err) = ended(newcomer(&folder, &["completions", "csh"]));
    assert_eq!(code, 2);
    assert!(err.contains("bash"), "{err}");
}

/// Nothing that groff warns about.
fn reads(page: &Path) {
    let done = Command::new("groff")
        .args(["-man", "-ww", "-Tutf8", "-z"])
        .arg(page)
        .output()
        .expect("groff runs; set it up: bash tests/all.sh");
    let (code, _, err) = told(&done);
    assert_eq!((code, err.as_str()), (0, ""), "{}", page.display());
}

#[test]
fn the_manual_is_one_page_or_one_for_each_command_and_groff_reads_it_without_a_warning() {
    let folder = Folder::new("manual");
    let (code, page, _) = ended(newcomer(&folder, &["man"]));
    assert_eq!(code, 0);
    assert!(page.contains(".TH muster 1"), "{page}");
    for said in ["dead\\-letter", "Exit codes", "MUSTER_STORE_URL"] {
        assert!(page.contains(said), "{said}");
    }
    let file = folder.path().join("muster.1");
    fs::write(&file, page).expect("a file");
    reads(&file);
    let pages = folder.path().join("man1");
    let named = pages.to_str().expect("a path").to_owned();
    assert_eq!(ended(newcomer(&folder, &["man", "--dir", &named])).0, 0);
    let mut many = 0;
    for entry in fs::read_dir(&pages).expect("a folder") {
        reads(&entry.expect("a file").path());
        many += 1;
    }
    assert!(many > 60, "{many} pages");
    assert!(pages.join("muster-task-cancel.1").is_file());
}

/// The commands that a help lists.
fn listed(help: &str) -> Vec<String> {
    let within = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    within
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_help_of_any_command_is_wider_than_the_terminal() {
    let folder = Folder::new("help");
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut many = 0;
    while let Some(path) = open.pop() {
        many += 1;
        for (columns, flag) in [(80, "--help"), (80, "-h"), (200, "--help"), (60, "--help")] {
            let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
            words.push(flag);
            let mut command = newcomer(&folder, &words);
            command.env("COLUMNS", columns.to_string());
            let (code, out, err) = ended(command);
            assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
            for line in out.lines() {
                let fits = line.chars().count() <= columns.min(80);
                assert!(fits, "{words:?} at {columns}: `{line}`");
            }
            if flag == "-h" {
                let names = listed(&out).into_iter();
                open.extend(names.map(|name| [&path[..], &[name]].concat()));
            }
        }
    }
    assert!(many > 60, "{many} commands");
}

#[test]
fn an_example_that_is_too_long_for_a_line_goes_on_as_a_shell_reads_it() {
    let folder = Folder::new("help");
    let mut command = newcomer(&folder, &["run", "start", "--help"]);
    command.env("COLUMNS", "80");
    let (_, out, _) = ended(command);
    let long = out.lines().position(|line| line.ends_with(" \\"));
    let lines: Vec<&str> = out.lines().skip(long.unwrap_or(usize::MAX)).collect();
    assert!(lines.len() >= 2, "{out}");
    assert!(lines[0].starts_with("  muster run start --plugin"), "{out}");
    assert!(
        lines[1].starts_with("      --") || lines[1].starts_with("      '"),
        "{out}"
    );
}

#[test]
fn no_page_of_the_manual_is_wider_than_80_columns() {
    let folder = Folder::new("manual");
    let pages = folder.path().join("man1");
    let named = pages.to_str().expect("a path").to_owned();
    assert_eq!(ended(newcomer(&folder, &["man", "--dir", &named])).0, 0);
    for entry in fs::read_dir(&pages).expect("a folder") {
        let page = entry.expect("a file").path();
        let done = Command::new("groff")
            .args(["-man", "-Tutf8", "-P-cbou", "-rLL=80n"])
            .arg(&page)
            .output()
            .expect("groff runs; set it up: bash tests/all.sh");
        let (code, out, _) = told(&done);
        assert_eq!(code, 0);
        for line in out.lines() {
            let fits = line.chars().count() <= 80;
            assert!(fits, "{}: `{line}`", page.display());
        }
    }
}
