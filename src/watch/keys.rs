//! Keys: what each does to the screen, and what it asks for.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Map, Value, json};

use super::screen::{Change, Effect, Prompt, Screen, Tab, View, Writing};
use super::tables::inputs;
use super::words::{plain, text};

/// What a key came to that writes a line.
enum Written {
    Goes,
    Done,
    Left,
}

impl Writing {
    fn new(text: &str) -> Writing {
        Writing {
            text: text.to_owned(),
            at: text.chars().count(),
        }
    }

    fn place(&self, at: usize) -> usize {
        let mut places = self.text.char_indices().map(|(place, _)| place);
        places.nth(at).unwrap_or(self.text.len())
    }

    fn remove(&mut self, at: usize) {
        if at < self.text.chars().count() {
            self.text.remove(self.place(at));
        }
    }

    fn press(&mut self, key: KeyEvent) -> Written {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let length = self.text.chars().count();
        match key.code {
            KeyCode::Enter => return Written::Done,
            KeyCode::Esc => return Written::Left,
            KeyCode::Char('u') if control => *self = Writing::default(),
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = length,
            KeyCode::Char(c) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                self.text.insert(self.place(self.at), c);
                self.at += 1;
            }
            KeyCode::Backspace if self.at > 0 => {
                self.at -= 1;
                self.remove(self.at);
            }
            KeyCode::Delete => self.remove(self.at),
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(length),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = length,
            _ => {}
        }
        Written::Goes
    }
}

impl Screen {
    /// A key was pressed.
    pub fn press(&mut self, key: KeyEvent) -> Effect {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Effect::Quit;
        }
        self.notice = None;
        match std::mem::take(&mut self.prompt) {
            Prompt::Nothing => self.command(key),
            Prompt::Help => Effect::Nothing,
            Prompt::Filter { line, .. } => self.filtering(line, key),
            Prompt::Organization { line } => self.choosing(line, key),
            Prompt::Reason { line, change } => self.giving_reason(line, change, key),
            Prompt::Sure(change) => match key.code {
                KeyCode::Char('y' | 'Y') => Effect::Do(change),
                _ => {
                    self.notice = Some("nothing was done".to_owned());
                    Effect::Nothing
                }
            },
        }
    }

    /// What was pasted is written where a line is written, and is no command elsewhere.
    pub fn paste(&mut self, pasted: &str) {
        if let Prompt::Filter { line, .. }
        | Prompt::Organization { line }
        | Prompt::Reason { line, .. } = &mut self.prompt
        {
            for c in pasted.chars().filter(|c| !c.is_control()) {
                line.text.insert(line.place(line.at), c);
                line.at += 1;
            }
        }
    }

    fn filtering(&mut self, mut line: Writing, key: KeyEvent) -> Effect {
        match line.press(key) {
            Written::Goes => self.prompt = Prompt::Filter { line, wrong: None },
            Written::Left => {}
            Written::Done => match super::look::readable(self.tab, line.text.trim()) {
                Err(wrong) => {
                    let wrong = Some(wrong);
                    self.prompt = Prompt::Filter { line, wrong };
                }
                Ok(()) => {
                    let filter = line.text.trim().to_owned();
                    let view = self.view_mut();
                    *view = View {
                        filter,
                        ..View::default()
                    };
                }
            },
        }
        Effect::Nothing
    }

    /// The organisations whose ids hold what is written, those that begin with it first.
    pub(super) fn alike(&self, written: &str) -> Vec<&String> {
        let written = written.trim();
        let begin = |id: &&String| id.starts_with(written);
        let known = self.organizations.iter();
        let first = known.clone().filter(begin);
        let others = known.filter(|id| id.contains(written) && !id.starts_with(written));
        first.chain(others).collect()
    }

    fn choosing(&mut self, mut line: Writing, key: KeyEvent) -> Effect {
        match line.press(key) {
            Written::Goes => self.prompt = Prompt::Organization { line },
            Written::Left => {}
            Written::Done => {
                let written = line.text.trim();
                let chosen = match (written, self.alike(written).first()) {
                    ("", _) => None,
                    (_, Some(id)) => Some((*id).clone()),
                    (_, None) => {
                        self.notice = Some(format!("no organisation `{written}` is known"));
                        return Effect::Nothing;
                    }
                };
                self.organization = chosen;
                for view in self.views.values_mut() {
                    let filter = std::mem::take(&mut view.filter);
                    *view = View {
                        filter,
                        ..View::default()
                    };
                }
            }
        }
        Effect::Nothing
    }

    fn giving_reason(&mut self, mut line: Writing, mut change: Change, key: KeyEvent) -> Effect {
        match line.press(key) {
            Written::Left => self.notice = Some("nothing was done".to_owned()),
            Written::Done if !line.text.trim().is_empty() => {
                let reason = line.text.trim().to_owned();
                change.what = format!("{} ({})", change.what, plain(&reason));
                change.args.insert("reason".to_owned(), json!(reason));
                self.prompt = Prompt::Sure(change);
            }
            _ => self.prompt = Prompt::Reason { line, change },
        }
        Effect::Nothing
    }

    fn command(&mut self, key: KeyEvent) -> Effect {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = super::draw::rows_on(self.height);
        let open = self.view().open.is_some();
        match key.code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?') | KeyCode::F(1) => self.prompt = Prompt::Help,
            KeyCode::Char(' ') => self.held = !self.held,
            KeyCode::Tab | KeyCode::Right => self.turn(self.tab.beside(1)),
            KeyCode::BackTab | KeyCode::Left => self.turn(self.tab.beside(Tab::ALL.len() - 1)),
            KeyCode::Char(c @ '1'..='6') => {
                let at = usize::try_from(u32::from(c) - u32::from('1')).unwrap_or(0);
                if let Some((_, tab)) = Tab::ALL.get(at) {
                    self.turn(*tab);
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1, open),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1, open),
            KeyCode::PageDown if open => self.scroll(page.cast_signed()),
            KeyCode::PageUp if open => self.scroll(-page.cast_signed()),
            KeyCode::PageDown => self.next_page(),
            KeyCode::PageUp => self.page_before(),
            KeyCode::Char('f') if control => self.next_page(),
            KeyCode::Char('b') if control => self.page_before(),
            KeyCode::Char('n') if !open => self.next_page(),
            KeyCode::Char('b') if !open => self.page_before(),
            KeyCode::Home | KeyCode::Char('g') => self.first(open),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX / 2, open),
            KeyCode::Enter if !open => self.enter(),
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            KeyCode::Char('/') => self.ask_filter(),
            KeyCode::Char('o') => {
                self.prompt = Prompt::Organization {
                    line: Writing::default(),
                };
            }
            KeyCode::Char('t') if self.tab == Tab::Runs => self.tasks_of_run(),
            KeyCode::Char(c) if !control => self.change(c),
            _ => {}
        }
        Effect::Nothing
    }

    fn turn(&mut self, tab: Tab) {
        self.tab = tab;
        self.held = false;
    }

    fn step(&mut self, by: isize, open: bool) {
        if open {
            return self.scroll(by);
        }
        let view = self.view_mut();
        let last = view.rows().len().saturating_sub(1);
        view.chosen = view.chosen.saturating_add_signed(by).min(last);
        self.follow();
    }

    fn scroll(&mut self, by: isize) {
        let most = self.longest_scroll();
        let view = self.view_mut();
        view.scroll = view.scroll.saturating_add_signed(by).min(most);
    }

    fn first(&mut self, open: bool) {
        let view = self.view_mut();
        if open {
            view.scroll = 0;
            return;
        }
        view.pages.clear();
        view.chosen = 0;
        self.follow();
    }

    fn next_page(&mut self) {
        let next = self.view().look.as_ref().and_then(|look| look.next.clone());
        let view = self.view_mut();
        // What is on the screen must be the page whose end is known.
        let shown = view
            .look
            .as_ref()
            .is_some_and(|look| look.wanted.after == view.after());
        match next {
            Some(next) if shown => {
                view.pages.push(next);
                view.chosen = 0;
                view.id.clear();
            }
            Some(_) => {}
            None => self.step(isize::MAX / 2, false),
        }
    }

    fn page_before(&mut self) {
        let view = self.view_mut();
        if view.pages.pop().is_none() {
            view.chosen = 0;
        }
        self.follow();
    }

    fn enter(&mut self) {
        let column = self.tab.id();
        let view = self.view_mut();
        if let Some(row) = view.row() {
            view.open = Some(text(row, column).to_owned());
            view.scroll = 0;
            view.details = None;
        }
    }

    /// Out of the details; then without the filter.
    fn back(&mut self) {
        let view = self.view_mut();
        if view.open.take().is_some() {
            view.details = None;
        } else if !view.filter.is_empty() {
            *view = View::default();
        }
    }

    fn ask_filter(&mut self) {
        if matches!(self.tab, Tab::Queues | Tab::Replicas) {
            self.notice = Some(format!(
                "{} have no filter; runs, tasks, schedules and dead letters have",
                self.tab.title()
            ));
            return;
        }
        self.prompt = Prompt::Filter {
            line: Writing::new(&self.view().filter),
            wrong: None,
        };
    }

    /// What is open, or else what is chosen.
    fn about(&self) -> Option<&Map<String, Value>> {
        let view = self.view();
        match (&view.open, &view.details) {
            (Some(_), Some(Ok(details))) => Some(details),
            (Some(_), _) => None,
            (None, _) => view.row(),
        }
    }

    fn tasks_of_run(&mut self) {
        let id = self.about().map(|run| {
            let id = text(run, "id");
            if id.is_empty() {
                text(run, "run_id")
            } else {
                id
            }
            .to_owned()
        });
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            self.turn(Tab::Tasks);
            *self.view_mut() = View {
                filter: format!("run_id = '{id}'"),
                ..View::default()
            };
        }
    }

    /// What a letter would change of what is chosen; it asks before anything is done.
    fn change(&mut self, key: char) {
        let Some((_, verb)) = verbs(self.tab).iter().find(|(known, _)| *known == key) else {
            return;
        };
        if !self.terms.changes {
            self.notice = Some(format!(
                "to {verb} something, start the screen with --allow-changes: this one only looks"
            ));
            return;
        }
        let Some(row) = self.about() else {
            return;
        };
        let Some(change) = asked(self.tab, key, verb, row, self.organization.as_deref()) else {
            return;
        };
        self.prompt = if key == 'p' {
            Prompt::Reason {
                line: Writing::default(),
                change,
            }
        } else {
            Prompt::Sure(change)
        };
    }
}

/// The keys of a tab that change something, with what they do.
pub(super) fn verbs(tab: Tab) -> &'static [(char, &'static str)] {
    match tab {
        Tab::Queues => &[('p', "pause"), ('r', "resume")],
        Tab::Runs => &[('c', "cancel")],
        Tab::Tasks => &[('c', "cancel"), ('r', "retry")],
        Tab::Schedules => &[('s', "start"), ('p', "pause"), ('r', "resume")],
        Tab::DeadLetters => &[('r', "redrive"), ('d', "drop")],
        Tab::Replicas => &[],
    }
}

fn asked(
    tab: Tab,
    key: char,
    verb: &str,
    row: &Map<String, Value>,
    organization: Option<&str>,
) -> Option<Change> {
    let id = text(row, tab.id());
    let id = if id.is_empty() {
        text(row, "run_id")
    } else {
        id
    };
    let name = match tab {
        Tab::Schedules => text(row, "name"),
        Tab::Runs => text(row, "schedule"),
        _ => text(row, "plugin_id"),
    };
    let (command, field) = match (tab, key) {
        (Tab::Queues, 'p') => ("queue.pause", "queue"),
        (Tab::Queues, 'r') => ("queue.resume", "queue"),
        (Tab::Runs, 'c') => ("run.cancel", "run_id"),
        (Tab::Tasks, 'c') => ("task.cancel", "task_id"),
        (Tab::Tasks, 'r') => ("task.retry", "task_id"),
        (Tab::Schedules, 's') => ("run.start", "schedule"),
        (Tab::Schedules, 'p') => ("schedule.pause", "schedule"),
        (Tab::Schedules, 'r') => ("schedule.resume", "schedule"),
        (Tab::DeadLetters, 'r') => ("dead_letter.redrive", "id"),
        (Tab::DeadLetters, 'd') => ("dead_letter.drop", "id"),
        _ => return None,
    };
    // A schedule for all is started for the organisation that is looked at alone.
    let own = text(row, "organization");
    let bound = organization.filter(|_| command == "run.start" && own.is_empty());
    let title = match tab {
        Tab::Queues => plain(id),
        Tab::DeadLetters if name.is_empty() => format!("message {}", short(id)),
        Tab::DeadLetters => format!("dead task {} of {}", short(id), plain(name)),
        Tab::Schedules => format!("schedule {}", plain(name)),
        Tab::Runs => format!("run {} of {}", short(id), plain(name)),
        Tab::Tasks | Tab::Replicas => format!("task {} of {}", short(id), plain(name)),
    };
    let about = match tab {
        Tab::Tasks if row.get("inputs").is_some_and(|inputs| *inputs != json!([])) => {
            format!(" on {}", inputs(row))
        }
        Tab::Runs if !text(row, "target").is_empty() => {
            format!(" on {}", plain(text(row, "target")))
        }
        _ => String::new(),
    };
    let for_whom = match (command, bound, own) {
        ("run.start", Some(bound), _) => format!(" for {}", plain(bound)),
        ("run.start", None, "") => " for every organisation".to_owned(),
        (_, _, "") => String::new(),
        (_, _, own) => format!(" for {}", plain(own)),
    };
    let mut args = Map::new();
    args.insert(field.to_owned(), json!(id));
    Some(Change {
        command,
        organization: bound.map(str::to_owned),
        args,
        what: format!("{verb} {title}{about}{for_whom}"),
    })
}

/// The end of an id, by which people tell them apart.
pub(super) fn short(id: &str) -> String {
    let from = id.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    plain(id.get(from..).unwrap_or(id))
}
