//! What keys do.

use muster::answer::answer;
use muster::watch::{Change, Effect, Tab, outcome};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::asking::{House, requested};
use super::{Watching, is_as_kept, morning, terms, watching};

pub async fn a_filter_is_asked_in_the_query_language_and_its_mistakes_are_told(house: House) {
    let tasks = morning(&house).await;
    let mut watching = watching(&house, Tab::Tasks, terms(false)).await;
    watching.press(KeyCode::Char('/'));
    watching.write("stat = 'dead'");
    assert_eq!(watching.press(KeyCode::Enter), Effect::Nothing);
    watching.is_as_kept("filter-wrong");
    let control = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    watching.screen.press(control);
    watching.screen.paste("state = 'dead'\u{1b}\n");
    watching.press(KeyCode::Enter);
    let look = watching.look(&house).await;
    let found: Vec<&str> = look
        .rows
        .iter()
        .filter_map(|row| row["id"].as_str())
        .collect();
    assert_eq!(found, [&tasks[1]]);
    watching.is_as_kept("filter");
    watching.press(KeyCode::Esc);
    let look = watching.look(&house).await;
    assert!(look.rows.len() > 1, "esc shows all again");
    // Schedules are asked likewise; queues are not, and it is said so.
    watching.press(KeyCode::Char('4'));
    watching.press(KeyCode::Char('/'));
    watching.write("enabled = False");
    watching.press(KeyCode::Enter);
    let look = watching.look(&house).await;
    assert_eq!(look.rows.len(), 1);
    assert_eq!(look.rows[0]["name"], "others");
    watching.press(KeyCode::Char('1'));
    watching.press(KeyCode::Char('/'));
    let text = watching.text(80, 24);
    assert!(text.contains("queues have no filter"), "{text}");
    // A run leads to its tasks.
    watching.press(KeyCode::Char('2'));
    watching.look(&house).await;
    watching.press(KeyCode::End);
    watching.press(KeyCode::Char('t'));
    let look = watching.look(&house).await;
    assert_eq!(look.wanted.tab, Tab::Tasks);
    assert_eq!(look.rows.len(), 1);
    assert_eq!(look.rows[0]["id"], tasks[0].as_str());
}

pub async fn pages_are_turned_and_the_chosen_row_is_followed(house: House) {
    for at in 0..45 {
        house.host("acme", &format!("h{at:02}")).await;
    }
    let mut watching = watching(&house, Tab::Tasks, terms(false)).await;
    let shown = |watching: &mut Watching| {
        let text = watching.text(80, 24);
        let keys: Vec<String> = text
            .lines()
            .filter_map(|line| {
                line.split_whitespace().find(|word| {
                    word.len() == 3 && word.starts_with('h') && word[1..].parse::<u8>().is_ok()
                })
            })
            .map(str::to_owned)
            .collect();
        let chosen = text
            .lines()
            .find(|line| line.starts_with("> "))
            .map(str::to_owned);
        (keys, chosen.unwrap_or_default())
    };
    let (first, chosen) = shown(&mut watching);
    assert_eq!(first.len(), 19);
    assert_eq!(first[0], "h44");
    assert!(chosen.contains("h44"));
    watching.press(KeyCode::Char('j'));
    watching.press(KeyCode::Down);
    assert!(shown(&mut watching).1.contains("h42"));
    // Something new comes: what is chosen moves on.
    house.host("acme", "h99").await;
    watching.look(&house).await;
    let (keys, chosen) = shown(&mut watching);
    assert_eq!(keys[0], "h99");
    assert!(chosen.contains("h42"), "{chosen}");
    // Held still, nothing moves.
    watching.press(KeyCode::Char(' '));
    house.host("acme", "h98").await;
    watching.look(&house).await;
    assert_eq!(shown(&mut watching).0[0], "h99");
    watching.press(KeyCode::Char(' '));
    watching.look(&house).await;
    assert_eq!(shown(&mut watching).0[0], "h98");
    let mut seen = shown(&mut watching).0;
    for _ in 0..2 {
        watching.press(KeyCode::PageDown);
        watching.look(&house).await;
        seen.extend(shown(&mut watching).0);
    }
    let mut known = seen.clone();
    known.sort();
    known.dedup();
    assert_eq!((seen.len(), known.len()), (47, 47), "each is on one page");
    watching.press(KeyCode::PageDown);
    watching.look(&house).await;
    assert!(
        shown(&mut watching).1.contains("h00"),
        "the last row of the last page"
    );
    watching.press(KeyCode::PageUp);
    watching.press(KeyCode::PageUp);
    watching.look(&house).await;
    assert_eq!(shown(&mut watching).0[0], "h98");
    // A store that goes away is told, and what was known stays.
    let now = house.ground.clock.now();
    watching
        .screen
        .failed("the database is out of reach: refused".to_owned(), now);
    let text = watching.text(80, 24);
    assert!(
        text.contains("! the database is out of reach: refused (since"),
        "{text}"
    );
    assert!(text.contains("h98"), "{text}");
    watching.look(&house).await;
    let text = watching.text(80, 24);
    assert!(!text.contains("out of reach"), "it is back:\n{text}");
}

pub async fn without_leave_nothing_can_be_changed(house: House) {
    morning(&house).await;
    let mut watching = watching(&house, Tab::Queues, terms(false)).await;
    for (_, tab) in Tab::ALL {
        watching.look(&house).await;
        for open in [false, true] {
            if open {
                watching.press(KeyCode::Enter);
                watching.look(&house).await;
            }
            for key in "prcsdy".chars() {
                assert_eq!(
                    watching.press(KeyCode::Char(key)),
                    Effect::Nothing,
                    "{tab:?} {key}"
                );
                assert_eq!(
                    watching.press(KeyCode::Char('y')),
                    Effect::Nothing,
                    "{tab:?} {key}"
                );
                assert_eq!(
                    watching.press(KeyCode::Enter),
                    Effect::Nothing,
                    "{tab:?} {key}"
                );
            }
        }
        watching.press(KeyCode::Esc);
        watching.press(KeyCode::Tab);
    }
    watching.press(KeyCode::Char('1'));
    watching.press(KeyCode::Char('p'));
    let text = watching.text(80, 24);
    assert!(text.contains("--allow-changes"), "{text}");
}

/// Does what the screen asks to be done, as the command does it.
async fn does(house: &House, watching: &mut Watching, effect: Effect) -> Change {
    let Effect::Do(change) = effect else {
        panic!("something is to be done: {effect:?}");
    };
    let args = serde_json::Value::Object(change.args.clone());
    house.later(1);
    let organization = change.organization.as_deref();
    let id = format!("key-{}", house.ground.chance());
    let asked = requested(Some(&id), organization, change.command, args);
    let answered = answer(&house.ground, &asked, "watcher").await;
    let answered = answered.expect("the store answers");
    watching.screen.told(outcome(&change, &answered));
    watching.look(house).await;
    change
}

pub async fn each_change_asks_first_and_is_done_as_the_commands_do_it(house: House) {
    let tasks = morning(&house).await;
    let mut watching = watching(&house, Tab::Queues, terms(true)).await;
    let foot = |watching: &mut Watching| -> String {
        let text = watching.text(80, 24);
        let lines: Vec<&str> = text.lines().skip(20).collect();
        lines.join("\n")
    };
    // A queue is paused with a reason, and resumed.
    watching.press(KeyCode::Char('p'));
    assert_eq!(
        watching.press(KeyCode::Enter),
        Effect::Nothing,
        "a reason is needed"
    );
    watching.write("down");
    assert!(foot(&mut watching).contains("pause muster.tasks.reader: why?\nreason: down"));
    watching.press(KeyCode::Enter);
    assert!(foot(&mut watching).contains("pause muster.tasks.reader (down)? y/n"));
    assert_eq!(watching.press(KeyCode::Char('n')), Effect::Nothing);
    assert!(foot(&mut watching).contains("nothing was done"));
    watching.press(KeyCode::Char('p'));
    watching.write("down");
    watching.press(KeyCode::Enter);
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(watching.text(80, 24).contains("PAUSED"));
    assert!(foot(&mut watching).contains("it is paused"));
    watching.press(KeyCode::Char('r'));
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(foot(&mut watching).contains("it goes on"));
    assert!(!watching.text(80, 24).contains("PAUSED"));
    // A schedule is started for every organisation, or for the one that is looked at.
    watching.press(KeyCode::Char('4'));
    watching.look(&house).await;
    watching.press(KeyCode::Char('s'));
    let text = watching.text(80, 24);
    is_as_kept("sure", &text);
    let effect = watching.press(KeyCode::Char('y'));
    let change = does(&house, &mut watching, effect).await;
    assert_eq!(change.organization, None);
    assert!(
        foot(&mut watching).contains("started 2 runs"),
        "{}",
        foot(&mut watching)
    );
    watching.press(KeyCode::Char('p'));
    watching.write("enough");
    watching.press(KeyCode::Enter);
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(watching.text(80, 24).contains("PAUSED"));
    watching.press(KeyCode::Char('r'));
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(foot(&mut watching).contains("it goes on"));
    // The newest run is cancelled.
    watching.press(KeyCode::Char('2'));
    watching.look(&house).await;
    watching.press(KeyCode::Char('c'));
    let asked = foot(&mut watching).replace('\n', " ");
    assert!(
        asked.contains("of feeds for other? y/n") || asked.contains("of feeds for acme? y/n"),
        "{asked}"
    );
    let effect = watching.press(KeyCode::Char('y'));
    let change = does(&house, &mut watching, effect).await;
    let run = house
        .done("run.get", serde_json::Value::Object(change.args))
        .await;
    assert_eq!(run["state"], "cancelled");
    assert!(foot(&mut watching).contains("the run is cancelled"));
    // A running task is cancelled from its details; its worker is told.
    watching.press(KeyCode::Char('3'));
    watching.screen.open(tasks[0].clone());
    watching.look(&house).await;
    watching.press(KeyCode::Char('c'));
    // Whose, and on what: the question runs over two lines.
    let asked = foot(&mut watching).replace('\n', " ");
    assert!(
        asked.contains("of dns on Hostname|internet|www.example.com for acme? y/n"),
        "{asked}"
    );
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(foot(&mut watching).contains("its worker is told"));
    assert_eq!(house.cancels().await.len(), 1);
    // What is offered is offered anew.
    watching.screen.open(tasks[3].clone());
    watching.look(&house).await;
    watching.press(KeyCode::Char('r'));
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert_eq!(house.task(&tasks[3]).await["state"], "queued");
    watching.press(KeyCode::Esc);
    // A dead task is made anew, once; a message stays dead until it can be read, or is dropped.
    watching.press(KeyCode::Char('5'));
    let look = watching.look(&house).await;
    let task = look
        .rows
        .iter()
        .position(|row| row["kind"] == "task")
        .expect("it is dead");
    for _ in 0..task {
        watching.press(KeyCode::Char('j'));
    }
    watching.press(KeyCode::Char('r'));
    let effect = watching.press(KeyCode::Char('y'));
    let change = does(&house, &mut watching, effect).await;
    assert_eq!(change.args["id"], json!(tasks[1]));
    assert!(
        foot(&mut watching).contains("handled"),
        "{}",
        foot(&mut watching)
    );
    watching.press(KeyCode::Home);
    watching.press(KeyCode::Char('r'));
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(
        foot(&mut watching).contains("still dead: "),
        "{}",
        foot(&mut watching)
    );
    watching.press(KeyCode::Char('d'));
    let effect = watching.press(KeyCode::Char('y'));
    does(&house, &mut watching, effect).await;
    assert!(foot(&mut watching).contains("1 dropped"));
    let look = watching.look(&house).await;
    assert_eq!(look.rows.len(), 1);
}
