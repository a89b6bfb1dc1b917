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
