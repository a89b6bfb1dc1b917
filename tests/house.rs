//! The floors of the house: who may import whom, and what each floor must not contain. Reads the sources as text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of each floor, in the order in which they may know each other: a room imports rooms of lower floors, and
/// of its own floor where [`LEVEL`] says so.
const FLOORS: [(u8, &[&str]); 5] = [
    (
        0,
        &[
            "harmless",
            "moment",
            "trace",
            "document",
            "policy",
            "object",
            "query",
            "recurrence",
            "schedule",
            "plugin",
            "run",
            "task",
            "signature",
            "rules",
            "declaration",
            "wire",
        ],
    ),
    (
        1,
        &[
            "trigger",
            "catalogue",
            "agenda",
            "rank",
            "decide",
            "progress",
            "backlog",
            "command",
            "rehearsal",
        ],
    ),
    (2, &["tally", "store", "bus"]),
    (
        3,
        &[
            "ground",
            "answer",
            "ticker",
            "intake",
            "turns",
            "chains",
            "expansion",
            "dispatch",
            "reaper",
            "life",
            "worker",
            "processor",
            "contract",
        ],
    ),
    (4, &["settings", "telemetry", "watch", "cli"]),
];

/// What a floor must not contain, outside of comments.
const BANNED: [(u8, &[&str]); 5] = [
    (
        0,
        &[
            "tokio",
            "sqlx::",
            "lapin::",
            "async_nats::",
            "tracing::",
            "async fn",
            "use rand",
            "std::fs",
            "std::net",
            "std::env",
        ],
    ),
    (
        1,
        &[
            "tokio",
            "sqlx::",
            "lapin::",
            "async_nats::",
            "tracing::",
            "async fn",
            "use rand",
            "std::fs",
            "std::net",
            "std::env",
        ],
    ),
    (2, &["Moment::now("]),
    (
        3,
        &[
            "sqlx::",
            "lapin::",
            "async_nats::",
            "SELECT ",
            "INSERT ",
            "serde_json::from_",
        ],
    ),
    (
        4,
        &["sqlx::", "lapin::", "async_nats::", "SELECT ", "INSERT "],
    ),
];

/// No file is longer.
const LONGEST: usize = 900;

struct Room {
    name: String,
    file: PathBuf,
    /// Without comments and without the tests at the end.
    code: String,
}

fn floor_of(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(_, rooms)| rooms.contains(&room))
        .map(|(floor, _)| *floor)
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("src is a folder")
        .map(|entry| entry.expect("an entry of src").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

fn rooms() -> Vec<Room> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 40, "only {} sources were found", files.len());
    files
        .into_iter()
        .map(|file| {
            let inside = file
                .strip_prefix(&root)
                .expect("a file of src")
                .to_path_buf();
            let first = inside
                .components()
                .next()
                .expect("a name")
                .as_os_str()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&file).expect("a source is text");
            let code: Vec<&str> = text
                .lines()
                .map(|line| {
                    if line.trim_start().starts_with("//") {
                        ""
                    } else {
                        line
                    }
                })
                .collect();
            Room {
                name: first.trim_end_matches(".rs").to_owned(),
                file: inside,
                code: code.join("\n"),
            }
        })
        .collect()
}

/// The rooms that a text names by `crate::…`, also inside braces.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = &list[..list.find("};").unwrap_or(list.len())];
            let mut depth = 0;
            let mut word = String::new();
            for c in list.chars().chain([',']) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        let first: String = word
                            .trim()
                            .chars()
                            .take_while(|c| c.is_alphanumeric() || *c == '_')
                            .collect();
                        found.push(first);
                        word.clear();
                        continue;
                    }
                    _ => {}
                }
                word.push(c);
            }
        } else {
            found.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn every_file_of_src_has_its_room_on_a_floor() {
    for room in rooms() {
        if matches!(room.name.as_str(), "lib" | "main") {
            continue;
        }
        assert!(
            floor_of(&room.name).is_some(),
            "src/{} is on no floor: name its room in tests/house.rs and in src/lib.rs",
            room.file.display()
        );
    }
}

#[test]
fn imports_go_downwards_only() {
    for room in rooms() {
        let Some(floor) = floor_of(&room.name) else {
            continue;
        };
        for import in imports(&room.code) {
            let Some(theirs) = floor_of(&import) else {
                continue;
            };
            let same_room = import == room.name;
            let order = |name: &str| {
                FLOORS
                    .iter()
                    .flat_map(|(_, rooms)| rooms.iter())
                    .position(|known| *known == name)
            };
            // Loops do not know each other, only the ground; what answers does what the intake does, and the processor wires
            // them all. Bus and store count, and do not know each other. On the other floors a room knows those that were named before it.
            let may = match floor {
                2 => theirs < 2 || import == "tally",
                3 => {
                    theirs < 3
                        || import == "ground"
                        || (room.name == "answer" && import == "intake")
                        || room.name == "processor"
                }
                _ => theirs < floor || (theirs == floor && order(&import) < order(&room.name)),
            };
            assert!(
                same_room || may,
                "src/{} (floor {floor}) imports `{import}` (floor {theirs}): imports go downwards only",
                room.file.display()
            );
        }
    }
}

#[test]
fn no_floor_holds_what_belongs_to_another() {
    for room in rooms() {
        let Some(floor) = floor_of(&room.name) else {
            continue;
        };
        let (_, banned) = BANNED[usize::from(floor)];
        for word in banned {
            assert!(
                !room.code.contains(word),
                "src/{} (floor {floor}) contains `{word}`",
                room.file.display()
            );
        }
    }
}

#[test]
fn only_moment_reads_the_wall_clock() {
    for room in rooms().into_iter().filter(|room| room.name != "moment") {
        assert!(
            !room.code.contains("SystemTime"),
            "src/{} reads the wall clock",
            room.file.display()
        );
        assert!(
            !room.code.contains("Timestamp::now"),
            "src/{} reads the wall clock",
            room.file.display()
        );
        if floor_of(&room.name) < Some(2) {
            assert!(
                !room.code.contains("Moment::now("),
                "src/{} reads the wall clock",
                room.file.display()
            );
        }
    }
}

#[test]
fn no_socket_is_opened_to_listen() {
    for room in rooms() {
        for word in [
            "TcpListener",
            "UnixListener",
            "UdpSocket",
            "http-listener",
            "with_http_listener",
        ] {
            assert!(
                !room.code.contains(word),
                "src/{} contains `{word}`",
                room.file.display()
            );
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    for room in rooms() {
        let lines = room.code.lines().count();
        assert!(
            lines <= LONGEST,
            "src/{} has {lines} lines; the most is {LONGEST}",
            room.file.display()
        );
    }
}

#[test]
fn no_room_has_a_name_that_says_nothing() {
    for room in rooms() {
        for part in room.file.components() {
            let name = part.as_os_str().to_string_lossy();
            let name = name.trim_end_matches(".rs");
            assert!(
                ![
                    "utils", "util", "common", "helpers", "models", "types", "misc", "service",
                    "manager"
                ]
                .contains(&name),
                "src/{}: find the word of the domain",
                room.file.display()
            );
        }
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "grammar",
        "migrations",
        "tests",
        "config",
        "docker-compose.yml",
        "README.md",
        ".ci",
        ".gitignore",
        "benches",
        "LICENSE",
        ".git",
        "target",
    ];
    for entry in fs::read_dir(root).expect("the project's folder") {
        let name = entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned();
        let ignored = name.starts_with("muster.db") || name == "muster.toml";
        assert!(
            ignored || allowed.contains(&name.as_str()),
            "`{name}` does not belong at the top level"
        );
    }
}

#[test]
fn both_schemas_have_the_same_tables_and_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for database in ["postgres", "sqlite"] {
        let mut files: Vec<PathBuf> = fs::read_dir(root.join(database))
            .expect("migrations")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no migrations for {database}");
        for file in files {
            let text = fs::read_to_string(&file)
                .expect("a migration is text")
                .to_lowercase();
            let plain = text
                .replace(" collate \"c\"", "")
                .replace(") strict;", ");")
                .replace("bigint", "integer")
                .replace("bytea", "blob")
                .replace("jsonb", "text");
            tables.entry(database).or_default().push(plain);
        }
    }
    assert_eq!(
        tables["postgres"], tables["sqlite"],
        "the two schemas differ in more than their types"
    );
}
