//! What the screen shows.

use muster::moment::Span;
use muster::watch::{Look, SMALLEST, Screen, Tab, page_of};
use ratatui::crossterm::event::KeyCode;
use serde_json::{Value, json};
use sqlx::Row;

use super::asking::{House, moment};
use super::{is_as_kept, morning, terms, text_of, watching};

pub async fn each_tab_shows_what_the_store_holds(house: House) {
    morning(&house).await;
    let pause = json!({"queue": "muster.tasks.reader", "reason": "the scanned network is down"});
    let mut watching = watching(&house, Tab::Queues, terms(false)).await;
    watching.is_as_kept("queues");
    house.done("queue.pause", pause).await;
    watching.look(&house).await;
    watching.is_as_kept("queues-paused");
    for (key, name) in [
        ('2', "runs"),
        ('3', "tasks"),
        ('4', "schedules"),
        ('5', "dead-letters"),
        ('6', "replicas"),
        ('?', "help"),
    ] {
        watching.press(KeyCode::Char(key));
        watching.look(&house).await;
        watching.is_as_kept(name);
    }
}

pub async fn details_say_all_that_is_known(house: House) {
    let tasks = morning(&house).await;
    let pause = json!({"schedule": "nightly", "reason": "the vendor works on it"});
    house.done("schedule.pause", pause).await;
    let mut watching = watching(&house, Tab::Tasks, terms(false)).await;
    for (name, id) in [("task-running", &tasks[0]), ("task-dead", &tasks[1])] {
        watching.screen.open(id.clone());
        watching.look(&house).await;
        let text = watching.text(80, 48);
        is_as_kept(name, &text);
    }
    watching.press(KeyCode::Esc);
    watching.look(&house).await;
    // The chosen one is the newest: it waits.
    watching.press(KeyCode::Enter);
    watching.look(&house).await;
    watching.is_as_kept("task-queued");
    for (key, down, name) in [
        ('1', 0, "queue"),
        ('2', 0, "run"),
        ('4', 2, "schedule-paused"),
        ('4', 4, "schedule"),
        ('5', 0, "dead-letter"),
        ('6', 1, "replica"),
    ] {
        watching.press(KeyCode::Char(key));
        watching.press(KeyCode::Esc);
        watching.look(&house).await;
        watching.press(KeyCode::Home);
        for _ in 0..down {
            watching.press(KeyCode::Char('j'));
        }
        watching.press(KeyCode::Enter);
        watching.look(&house).await;
        let text = watching.text(80, 34);
        is_as_kept(name, &text);
    }
}

pub async fn a_store_without_anything_says_what_would_bring_something(house: House) {
    let mut watching = watching(&house, Tab::Runs, terms(false)).await;
    let mut said = String::new();
    for (at, (title, _)) in Tab::ALL.iter().enumerate().skip(1) {
        let key = u32::try_from(at + 1)
            .ok()
            .and_then(|at| char::from_digit(at, 10));
        watching.press(KeyCode::Char(key.expect("a digit")));
        watching.look(&house).await;
        let text = watching.text(80, 24);
        let shown: Vec<&str> = text.lines().skip(3).take(5).collect();
        said.push_str(&format!("# {title}\n{}\n", shown.join("\n")));
    }
    is_as_kept("nothing", &said);
}

pub async fn a_screen_of_any_size_is_filled_and_not_overrun(house: House) {
    let tasks = morning(&house).await;
    let mut watching = watching(&house, Tab::Queues, terms(true)).await;
    for (_, tab) in Tab::ALL {
        for open in [false, true] {
            for (width, height) in [
                (1, 1),
                (39, 9),
                SMALLEST,
                (60, 15),
                (79, 23),
                (81, 25),
                (132, 50),
                (500, 12),
            ] {
                watching.screen.resize(width, height);
                watching.look(&house).await;
                let text = watching.text(width, height);
                let too_small = width < SMALLEST.0 || height < SMALLEST.1;
                assert!(
                    too_small || text.contains("q quit"),
                    "{tab:?} at {width}x{height} shows its keys:\n{text}"
                );
                if too_small && width > 30 {
                    assert!(text.contains("needs 40 columns and 10"), "{text}");
                }
            }
            if !open {
                watching.press(KeyCode::Enter);
            }
        }
        watching.press(KeyCode::Esc);
        watching.press(KeyCode::Tab);
    }
    let text = watching.text(40, 10);
    is_as_kept("smallest", &text);
    watching.press(KeyCode::Char('3'));
    watching.screen.resize(132, 16);
    watching.look(&house).await;
    let text = watching.text(132, 16);
    assert!(
        text.contains(&tasks[0][28..]),
        "a wide screen tells more:\n{text}"
    );
    is_as_kept("tasks-wide", &text);
}

pub async fn names_from_outside_cannot_break_the_screen(house: House) {
    let names = [
        "\u{1b}[2J\u{1b}[31mred\u{1b}]0;title\u{7}",
        "\u{202e}turned\u{202c}\u{200b}\u{feff}",
        "日本語のとても長い名前のホスト日本語のとても長い名前のホスト",
        "e\u{301}\u{301}\u{301}👩\u{200d}👩\u{200d}👧\u{200d}👦 \u{9b}31m\r\n\t",
    ];
    for name in names {
        house.host("acme", name).await;
    }
    let not_json = "\u{1b}[2J\u{1b}c{\u{9b}";
    assert_eq!(house.event(not_json).await, 1);
    let mut watching = watching(&house, Tab::Tasks, terms(false)).await;
    for tab in ['3', '5'] {
        watching.press(KeyCode::Char(tab));
        for size in [(80, 24), (47, 11), (133, 40)] {
            for open in [false, true] {
                if open {
                    watching.press(KeyCode::Enter);
                }
                watching.screen.resize(size.0, size.1);
                watching.look(&house).await;
                let cells = watching.cells(size.0, size.1);
                for cell in cells.content() {
                    let harmless = |c: char| {
                        !c.is_control()
                            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}')
                    };
                    assert!(cell.symbol().chars().all(harmless), "{:?}", cell.symbol());
                }
                for line in text_of(&cells).lines() {
                    let taken = ratatui::text::Span::raw(line).width();
                    assert!(taken <= usize::from(size.0), "{taken}: {line}");
                }
                watching.press(KeyCode::Esc);
            }
        }
    }
    watching.press(KeyCode::Char('3'));
    watching.screen.resize(80, 24);
    watching.look(&house).await;
    watching.is_as_kept("names");
}

pub async fn without_utf8_nothing_but_ascii_is_drawn(house: House) {
    morning(&house).await;
    house.host("acme", "日本語").await;
    let mut plainly = terms(false);
    plainly.ascii = true;
    let mut watching = watching(&house, Tab::Queues, plainly).await;
    for _ in Tab::ALL {
        watching.press(KeyCode::Tab);
        for open in [false, true] {
            if open {
                watching.press(KeyCode::Enter);
            }
            watching.look(&house).await;
            let text = watching.text(80, 24);
            assert!(text.is_ascii(), "{text}");
        }
        watching.press(KeyCode::Esc);
    }
    watching.press(KeyCode::Char('2'));
    watching.look(&house).await;
    watching.is_as_kept("runs-ascii");
}

pub async fn one_organisation_is_looked_at_alone(house: House) {
    morning(&house).await;
    let mut watching = watching(&house, Tab::Tasks, terms(false)).await;
    watching.press(KeyCode::Char('o'));
    watching.write("oth");
    let asked = watching.text(80, 24);
    assert!(
        asked.contains("other\norganisation (none: every one): oth"),
        "{asked}"
    );
    watching.press(KeyCode::Enter);
    for (tab, is_there, is_not) in [
        ('1', "muster.tasks.reader", "acme"),
        ('2', "other", "acme"),
        ('3', "other.example.net", "acme"),
        ('4', "others", "weekly"),
        ('5', "No dead letter", "not_json"),
    ] {
        watching.press(KeyCode::Char(tab));
        let look = watching.look(&house).await;
        let text = watching.text(80, 24);
        assert!(text.contains(is_there), "{is_there}:\n{text}");
        assert!(!text.contains(is_not), "{is_not}:\n{text}");
        for row in look.rows {
            let whose = row.get("organization").and_then(Value::as_str);
            assert!(matches!(whose, None | Some("other" | "")), "{row:?}");
        }
    }
    // Nothing of all this was written down.
    let database = sqlx::AnyPool::connect(&house.url).await.expect("connected");
    let kept = sqlx::query("SELECT count(*) AS many FROM request");
    let kept = kept.fetch_one(&database).await.expect("counted");
    let asked: i64 = kept.get("many");
    assert_eq!(asked, 0, "looking asks for nothing that would be kept");
    database.close().await;
}

/// What the README shows, and what a Look is made of: nothing but rows.
#[test]
fn the_readme_shows_the_screen_as_it_is() {
    let now = moment("2026-11-21T09:30:00Z");
    let run = |schedule: &str, organization: &str, state: &str, ended: [i64; 4], minutes: i64| {
        let [total, succeeded, failed, cancelled] = ended;
        let finished =
            (state != "running" && state != "expanding").then_some("2026-11-21T09:29:00Z");
        let row = json!({
            "id": format!("{schedule}{organization}"), "schedule": schedule, "organization": organization, "state": state,
            "total": total, "succeeded": succeeded, "failed": failed, "cancelled": cancelled,
            "created_at": now.minus(Span::seconds(minutes * 60 + 12)).to_string(), "finished_at": finished,
        });
        row.as_object().cloned().expect("a row")
    };
    let mut terms = terms(true);
    terms.store = "postgres://muster@localhost/muster".to_owned();
    let mut screen = Screen::new(terms, Tab::Runs, None, now);
    screen.resize(80, 12);
    let rows = vec![
        run(
            "nightly-ports",
            "brightwater",
            "expanding",
            [48_000, 11_520, 312, 0],
            3,
        ),
        run("nightly-ports", "harbour", "running", [1204, 770, 0, 0], 4),
        run("hostnames-created", "juniper", "running", [3, 1, 0, 0], 6),
        run("weekly-report", "harbour", "succeeded", [12, 12, 0, 0], 31),
        run(
            "nightly-dns",
            "brightwater",
            "partly_failed",
            [640, 598, 42, 0],
            330,
        ),
        run("nightly-dns", "juniper", "cancelled", [80, 20, 0, 60], 331),
    ];
    screen.seen(Look {
        wanted: screen.wanted(),
        now,
        rows,
        ..Look::default()
    });
    let page = page_of(&screen);
    is_as_kept("readme", &page);
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("there is one");
    assert!(
        readme.contains(&page),
        "the README shows another screen than:\n{page}"
    );
}
