//! The terminal screen: what it shows of a store on a fixed clock, drawn in cells and kept in `watch/*.txt`; what its keys
//! do; and all of it in a real terminal. `MUSTER_KEEP=1 cargo test --test watch` writes the kept screens anew.

mod support;

// Its house does more than is asked for here.
#[allow(dead_code)]
#[macro_use]
#[path = "commands/asking.rs"]
mod asking;
#[path = "watch/glance.rs"]
mod glance;
#[path = "watch/keys.rs"]
mod keys;
#[path = "watch/shown.rs"]
mod shown;
#[path = "watch/terminal.rs"]
mod terminal;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use muster::ground::Ground;
use muster::moment::Span;
use muster::watch::{Effect, Look, Looker, Screen, Tab, Terms, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use regex::Regex;

use asking::{House, moment};

on_both!(
    shown:
        each_tab_shows_what_the_store_holds,
        details_say_all_that_is_known,
        a_store_without_anything_says_what_would_bring_something,
        a_screen_of_any_size_is_filled_and_not_overrun,
        names_from_outside_cannot_break_the_screen,
        without_utf8_nothing_but_ascii_is_drawn,
        one_organisation_is_looked_at_alone;
    glance:
        a_rare_row_is_found_page_by_page_and_what_is_under_way_at_once,
        the_last_run_of_a_schedule_is_found_however_long_ago_it_was;
    keys:
        a_filter_is_asked_in_the_query_language_and_its_mistakes_are_told,
        pages_are_turned_and_the_chosen_row_is_followed,
        without_leave_nothing_can_be_changed,
        each_change_asks_first_and_is_done_as_the_commands_do_it;
);

/// The screen that a test looks at, and whoever looks for it.
pub struct Watching {
    pub screen: Screen,
    looker: Looker,
    ground: Arc<Ground>,
}

pub fn terms(changes: bool) -> Terms {
    Terms {
        store: "sqlite:muster.db".to_owned(),
        changes,
        ascii: false,
        colour: false,
        every: Span::seconds(1),
    }
}

pub async fn watching(house: &House, tab: Tab, terms: Terms) -> Watching {
    let ground = Arc::new(house.beside().await);
    let now = ground.clock.now();
    let mut watching = Watching {
        screen: Screen::new(terms, tab, None, now),
        looker: Looker::new(ground.clone()),
        ground,
    };
    watching.look(house).await;
    watching
}

impl Watching {
    /// What the screen wants to know is fetched, at the instant of the house.
    pub async fn look(&mut self, house: &House) -> Look {
        self.ground.clock.fix(house.ground.clock.now());
        let looked = self.looker.look(&self.screen.wanted()).await;
        let look = looked.expect("the store answers");
        self.screen.seen(look.clone());
        look
    }

    pub fn press(&mut self, code: KeyCode) -> Effect {
        self.screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    pub fn write(&mut self, text: &str) {
        for c in text.chars() {
            assert_eq!(self.press(KeyCode::Char(c)), Effect::Nothing);
        }
    }

    /// The screen as a terminal of this size shows it.
    pub fn cells(&mut self, width: u16, height: u16) -> Buffer {
        self.screen.resize(width, height);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal
            .draw(|frame| draw(frame, &self.screen))
            .expect("drawn");
        terminal.backend().buffer().clone()
    }

    pub fn text(&mut self, width: u16, height: u16) -> String {
        text_of(&self.cells(width, height))
    }

    /// Holds what a terminal of 80x24 shows against what is kept.
    pub fn is_as_kept(&mut self, name: &str) {
        let text = self.text(80, 24);
        is_as_kept(name, &text);
    }
}

pub fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut hidden = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            if hidden > 0 {
                hidden -= 1;
                continue;
            }
            hidden = ratatui::text::Span::raw(symbol).width().saturating_sub(1);
            line.push_str(symbol);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Ids without what chance gave them: whoever asks chance once more or less changes no screen.
fn without_chance(text: &str) -> String {
    let ids = Regex::new("([0-9a-f]{8}-[0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}");
    let ends = Regex::new("(?m)[0-9a-f]{8}$");
    let text = ids
        .expect("it is well made")
        .replace_all(text, "$1-7***-****-************");
    let text = ends
        .expect("it is well made")
        .replace_all(&text, "********");
    text.into_owned()
}

/// A screen is as it was when somebody looked at it and kept it.
pub fn is_as_kept(name: &str, text: &str) {
    let text = without_chance(text);
    let text = text.as_str();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/watch");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("MUSTER_KEEP").is_some() {
        fs::write(&path, text).expect("a screen is kept");
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        kept,
        "the screen is not as it is kept in {}; MUSTER_KEEP=1 keeps it as it is now:\n{text}",
        path.display()
    );
}

/// A morning in which something of everything happened.
pub async fn morning(house: &House) -> Vec<String> {
    use serde_json::json;
    house
        .declare(
            r#"
- {kind: calendar, name: holidays, dates: ["2026-12-25"]}
- {name: nightly, recurrences: "30 3 * * *", timezone: Europe/Amsterdam, calendars: [holidays], plugins: "plugin_id = 'feed'", input: {}}
- {name: others, organization: other, recurrences: 2h, plugins: "plugin_id = 'feed'", input: {}, enabled: false}
- {name: weekly, organization: acme, recurrences: weekly, plugins: "plugin_id = 'none'", input: {hostname: "name endswith '.org'"}}
"#,
        )
        .await;
    house.ask("queue.list", json!({})).await.expect("queues");
    for host in [
        "www",
        "mail",
        "a-host-with-quite-a-long-name.somewhere",
        "vpn",
    ] {
        house
            .host("acme", &format!("Hostname|internet|{host}.example.com"))
            .await;
    }
    house.later(40);
    let offers = house.offer().await;
    let [(run, a), (fail, b), (well, c), (offered, _)] = offers.as_slice() else {
        panic!("four offers: {offers:?}");
    };
    house.say(run, *a, json!({"status": "accepted"})).await;
    house
        .say(
            run,
            *a,
            json!({"status": "heartbeat", "done": 3, "total": 10, "stage": "ports", "note": "443"}),
        )
        .await;
    house.say(fail, *b, json!({"status": "accepted"})).await;
    house
        .say(
            fail,
            *b,
            json!({"status": "failed", "class": "retryable", "message": "no answer from 192.0.2.7", "exit_code": 3,
                   "log_ref": "logs/acme/1.log", "log_tail": "resolving\nasking 192.0.2.7\n\u{1b}[31mno answer\u{1b}[0m\n"}),
        )
        .await;
    house.say(well, *c, json!({"status": "accepted"})).await;
    house
        .say(well, *c, json!({"status": "succeeded", "exit_code": 0}))
        .await;
    house.later(200);
    house
        .host("other", "Hostname|internet|other.example.net")
        .await;
    house
        .host("acme", "Hostname|internet|new.example.com")
        .await;
    house.done("run.start", json!({"schedule": "feeds"})).await;
    let bad = json!({
        "specversion": "1.0", "id": "bad", "source": "/t", "type": "object.created",
        "data": {"organization": "acme", "object_type": "hostname", "primary_key": "h", "attributes": {}, "scan_level": 9},
    });
    assert_eq!(house.event(&bad.to_string()).await, 1);
    assert_eq!(house.event("{not json").await, 1);
    let now = house.ground.clock.now();
    let beats =
        json!({"dispatch": now.to_string(), "intake": now.to_string(), "ticker": now.to_string()});
    let started = moment("2026-11-21T06:00:00Z");
    let store = &house.ground.store;
    let beat = store.beat("01a1f000-0000-7000-8000-000000000001", started, now, &beats);
    beat.await.expect("it beats");
    let old = now.minus(Span::seconds(50));
    let beats =
        json!({"dispatch": old.to_string(), "intake": now.minus(Span::seconds(95)).to_string()});
    let beat = store.beat("01a1f000-0000-7000-8000-000000000002", started, old, &beats);
    beat.await.expect("it did beat");
    house.later(5);
    [run, fail, well, offered].into_iter().cloned().collect()
}
