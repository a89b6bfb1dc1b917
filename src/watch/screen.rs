//! What is on the screen: the tab that is looked at, what of it is chosen, asked and open, and what the store last said.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::words::text;
use crate::command::Rows;
use crate::moment::{Moment, Span};

/// What there is to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tab {
    #[default]
    Queues,
    Runs,
    Tasks,
    Schedules,
    DeadLetters,
    Replicas,
}

impl Tab {
    /// In the order of their keys.
    pub const ALL: [(&'static str, Tab); 6] = [
        ("queues", Tab::Queues),
        ("runs", Tab::Runs),
        ("tasks", Tab::Tasks),
        ("schedules", Tab::Schedules),
        ("dead letters", Tab::DeadLetters),
        ("replicas", Tab::Replicas),
    ];

    pub fn title(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, tab)| *tab == self)
            .map_or("", |(title, _)| title)
    }

    /// The rows that it lists, where the store keeps them in pages.
    pub fn rows(self) -> Option<Rows> {
        match self {
            Tab::Runs => Some(Rows::Run),
            Tab::Tasks => Some(Rows::Task),
            Tab::DeadLetters => Some(Rows::DeadLetter),
            Tab::Queues | Tab::Schedules | Tab::Replicas => None,
        }
    }

    /// By which column a row is known.
    pub(super) fn id(self) -> &'static str {
        match self {
            Tab::Queues => "queue",
            Tab::Schedules => "schedule_id",
            Tab::Runs | Tab::Tasks | Tab::DeadLetters | Tab::Replicas => "id",
        }
    }

    pub(super) fn beside(self, step: usize) -> Tab {
        let at = Self::ALL.iter().position(|(_, tab)| *tab == self);
        let at = (at.unwrap_or(0) + step) % Self::ALL.len();
        Self::ALL.get(at).map_or(self, |(_, tab)| *tab)
    }
}

/// What is said about the store and the terminal when the screen begins.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The store, without its password.
    pub store: String,
    /// Keys may change something.
    pub changes: bool,
    /// Nothing but ASCII.
    pub ascii: bool,
    pub colour: bool,
    pub every: Span,
}

/// What the screen wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub tab: Tab,
    pub organization: Option<String>,
    /// In the query language, over the columns of the rows.
    pub filter: String,
    /// What the page comes after; empty for the first one.
    pub after: String,
    pub limit: usize,
    /// The one whose details are looked at, instead of the list.
    pub open: Option<String>,
}

/// What a look at the store brought.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub wanted: Wanted,
    pub now: Moment,
    pub rows: Vec<Map<String, Value>>,
    /// What the next page comes after.
    pub next: Option<String>,
    /// So many rows were looked through and there are more.
    pub through: Option<i64>,
    /// Of what is open; or why it cannot be shown.
    pub details: Option<Result<Map<String, Value>, String>>,
    /// What stands below the list.
    pub beside: Vec<String>,
    /// How many offers each queue has made, ever.
    pub offers_made: BTreeMap<String, i64>,
    pub organizations: Arc<Vec<String>>,
}

/// Something that a key changes: a command, as it is asked on the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub command: &'static str,
    pub organization: Option<String>,
    pub args: Map<String, Value>,
    /// As the question names it.
    pub what: String,
}

/// What a key comes to, beside what it does to the screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Nothing,
    Quit,
    Do(Change),
}

/// A line that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writing {
    pub text: String,
    /// Where the cursor is, in characters.
    pub at: usize,
}

/// What the foot asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Prompt {
    #[default]
    Nothing,
    Help,
    Filter {
        line: Writing,
        wrong: Option<String>,
    },
    Organization {
        line: Writing,
    },
    /// Why something is to be paused.
    Reason {
        line: Writing,
        change: Change,
    },
    Sure(Change),
}

/// One tab as somebody left it.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub filter: String,
    /// What each page before this one, and this one, come after.
    pub pages: Vec<String>,
    pub chosen: usize,
    /// The id of what is chosen, which is followed while rows come and go.
    pub id: String,
    pub open: Option<String>,
    pub scroll: usize,
    pub look: Option<Look>,
    pub details: Option<Result<Map<String, Value>, String>>,
}

impl View {
    pub fn after(&self) -> &str {
        self.pages.last().map_or("", String::as_str)
    }

    pub fn rows(&self) -> &[Map<String, Value>] {
        self.look.as_ref().map_or(&[], |look| &look.rows)
    }

    pub fn row(&self) -> Option<&Map<String, Value>> {
        self.rows().get(self.chosen)
    }
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct Screen {
    pub terms: Terms,
    /// What the clock of the store says.
    pub now: Moment,
    pub(super) tab: Tab,
    pub(super) views: BTreeMap<Tab, View>,
    pub(super) organization: Option<String>,
    pub(super) organizations: Arc<Vec<String>>,
    pub(super) prompt: Prompt,
    /// What was done, or why it was not.
    pub(super) notice: Option<String>,
    /// Why the store cannot be looked at, since when.
    pub(super) trouble: Option<(String, Moment)>,
    /// When the store last answered.
    pub(super) known: Option<Moment>,
    /// Nothing moves until it is let go.
    pub(super) held: bool,
    /// How many offers each queue had made, when.
    pub(super) offers: VecDeque<(Moment, BTreeMap<String, i64>)>,
    pub(super) width: u16,
    pub(super) height: u16,
}

/// The rate of a queue is that of so long a while.
const WHILE: Span = Span::seconds(10);

impl Screen {
    pub fn new(terms: Terms, tab: Tab, organization: Option<String>, now: Moment) -> Screen {
        let views = Tab::ALL.map(|(_, tab)| (tab, View::default()));
        Screen {
            terms,
            now,
            tab,
            views: BTreeMap::from(views),
            organization,
            organizations: Arc::default(),
            prompt: Prompt::Nothing,
            notice: None,
            trouble: None,
            known: None,
            held: false,
            offers: VecDeque::new(),
            width: 80,
            height: 24,
        }
    }

    /// The filter that the tab begins with; or what is wrong with it.
    pub fn filter(&mut self, query: &str) -> Result<(), String> {
        super::look::readable(self.tab, query)?;
        self.view_mut().filter = query.to_owned();
        Ok(())
    }

    /// What is looked at in detail from the start.
    pub fn open(&mut self, id: String) {
        self.view_mut().open = Some(id);
    }

    pub fn resize(&mut self, width: u16, height: u16) {
        (self.width, self.height) = (width, height);
    }

    /// What is to be fetched for what is on the screen now.
    pub fn wanted(&self) -> Wanted {
        let view = self.view();
        Wanted {
            tab: self.tab,
            organization: self.organization.clone(),
            filter: view.filter.clone(),
            after: view.after().to_owned(),
            limit: super::draw::rows_on(self.height),
            open: view.open.clone(),
        }
    }

    /// The store has answered. What answers a question that is no longer asked is left aside.
    pub fn seen(&mut self, look: Look) {
        self.now = look.now;
        self.known = Some(look.now);
        self.trouble = None;
        if look.wanted != self.wanted() {
            return;
        }
        self.organizations = look.organizations.clone();
        if look.wanted.open.is_some() {
            if !(self.held && self.view().details.is_some()) {
                self.view_mut().details = look.details;
            }
            return;
        }
        if let Some(Err(why)) = &look.details {
            self.trouble = Some((why.clone(), look.now));
            return;
        }
        let same = self
            .view()
            .look
            .as_ref()
            .is_some_and(|known| known.wanted == look.wanted);
        if self.held && same {
            return;
        }
        if look.wanted.tab == Tab::Queues {
            self.offers.push_back((look.now, look.offers_made.clone()));
            while self.offers.len() > 2
                && self
                    .offers
                    .get(1)
                    .is_some_and(|(at, _)| look.now.since(*at) >= WHILE)
            {
                self.offers.pop_front();
            }
        }
        let column = self.tab.id();
        let view = self.view_mut();
        let place = look
            .rows
            .iter()
            .position(|row| same && text(row, column) == view.id);
        view.chosen = place
            .unwrap_or(view.chosen)
            .min(look.rows.len().saturating_sub(1));
        view.look = Some(look);
        self.follow();
    }

    /// The store has not answered.
    pub fn failed(&mut self, why: String, now: Moment) {
        self.now = now;
        let since = self.trouble.as_ref().map_or(now, |(_, since)| *since);
        self.trouble = Some((why, since));
    }

    /// What a change came to.
    pub fn told(&mut self, notice: String) {
        self.notice = Some(notice);
    }

    /// Offers a second from a queue; nothing before it was seen twice, and none of one organisation alone are counted.
    pub(super) fn rate(&self, queue: &str) -> Option<f64> {
        let ((first, before), (last, after)) = (self.offers.front()?, self.offers.back()?);
        let micros = last.since(*first).micros();
        if micros <= 0 || self.organization.is_some() {
            return None;
        }
        let made = after.get(queue).unwrap_or(&0) - before.get(queue).unwrap_or(&0);
        #[allow(clippy::cast_precision_loss)] // it is shown with two digits
        Some(made.max(0) as f64 * 1e6 / micros as f64)
    }

    pub(super) fn view(&self) -> &View {
        static NOTHING: View = View {
            filter: String::new(),
            pages: Vec::new(),
            chosen: 0,
            id: String::new(),
            open: None,
            scroll: 0,
            look: None,
            details: None,
        };
        self.views.get(&self.tab).unwrap_or(&NOTHING)
    }

    pub(super) fn view_mut(&mut self) -> &mut View {
        self.views.entry(self.tab).or_default()
    }

    /// Remembers what is chosen by its id.
    pub(super) fn follow(&mut self) {
        let column = self.tab.id();
        let view = self.view_mut();
        view.id = view
            .row()
            .map_or_else(String::new, |row| text(row, column).to_owned());
    }
}
