//! Which of the waiting tasks of one queue go next: by class, fair between organisations, within limits.
//!
//! It holds the heads of what the store has waiting, grouped by class, organisation and plugin: all of a group share their
//! limits, so what is limited is passed over as a whole and holds up nobody else. Manual work goes before events,
//! events before what recurs; one of so many goes to the oldest of a lower class, so nothing starves. Between the
//! organisations of a class turns go round by their weights (deficit round robin).
//!
//! It lives for one look: the store keeps where the turns stand, so that whichever replica offers next goes on from
//! there, and hands over as many heads as a look needs; a group that runs dry says so.

mod limits;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::moment::Moment;
use crate::plugin::Plugin;
use crate::schedule::{Limit, Organization, Per};

pub use limits::{Used, bucket, left};

/// A task that waits for its offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: String,
    pub class: i64,
    pub organization: String,
    pub plugin_id: String,
    pub priority: i64,
    pub rank: i64,
    pub created_at: Moment,
}

/// What a limit counts together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Plugin(String),
    Organization(String),
    Both(String, String),
}

impl Key {
    /// The plugin and the organisation that it is of.
    pub fn parts(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Key::Plugin(plugin) => (Some(plugin), None),
            Key::Organization(organization) => (None, Some(organization)),
            Key::Both(plugin, organization) => (Some(plugin), Some(organization)),
        }
    }

    /// As the store keeps it; names cannot hold the character between the parts.
    pub fn text(&self) -> String {
        match self {
            Key::Plugin(plugin) => format!("p\u{1f}{plugin}"),
            Key::Organization(organization) => format!("o\u{1f}{organization}"),
            Key::Both(plugin, organization) => format!("b\u{1f}{plugin}\u{1f}{organization}"),
        }
    }
}

/// The limits that a plugin's tasks of an organisation are under, each with what it counts together.
///
/// A limit of a plugin counts all its tasks together, or those of each organisation by themselves; one of an
/// organisation all its tasks, or those of each plugin by themselves.
pub fn limits_of<'a>(
    plugin: &'a Plugin,
    organization: &'a Organization,
) -> impl Iterator<Item = (Key, &'a Limit)> {
    let both = || Key::Both(plugin.plugin_id.clone(), organization.id.clone());
    let of_plugin = plugin.limits.iter().map(move |limit| {
        let key = match limit.per {
            Per::Plugin => Key::Plugin(plugin.plugin_id.clone()),
            Per::Organization | Per::Both => both(),
        };
        (key, limit)
    });
    let of_organization = organization.limits.iter().map(move |limit| {
        let key = match limit.per {
            Per::Organization => Key::Organization(organization.id.clone()),
            Per::Plugin | Per::Both => both(),
        };
        (key, limit)
    });
    of_plugin.chain(of_organization)
}

/// How many more tasks may go now, for each key that has a limit.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    left: HashMap<Key, i64>,
    /// By plugin and organisation.
    keys: HashMap<(String, String), Vec<Key>>,
}

impl Allowance {
    /// Tasks of this plugin and organisation count towards these keys.
    pub fn bind(&mut self, plugin_id: &str, organization: &str, keys: Vec<Key>) {
        let group = (plugin_id.to_owned(), organization.to_owned());
        self.keys.insert(group, keys);
    }

    /// The least that any limit of the key leaves.
    pub fn leave(&mut self, key: Key, many: i64) {
        let left = self.left.entry(key).or_insert(many);
        *left = (*left).min(many);
    }

    /// What tasks of this plugin and organisation count towards.
    pub fn keys(&self, plugin_id: &str, organization: &str) -> &[Key] {
        // A group without limits is the usual one, so the pair is only built where there are any.
        if self.keys.is_empty() {
            return &[];
        }
        self.keys
            .get(&(plugin_id.to_owned(), organization.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    pub fn permits(&self, plugin_id: &str, organization: &str) -> bool {
        let keys = self.keys(plugin_id, organization);
        keys.iter()
            .all(|key| self.left.get(key).is_none_or(|left| *left > 0))
    }

    fn spend(&mut self, plugin_id: &str, organization: &str) {
        for key in self.keys(plugin_id, organization).to_vec() {
            if let Some(left) = self.left.get_mut(&key) {
                *left -= 1;
            }
        }
    }
}

/// What orders the tasks of a group: the more urgent first, and of equals the one made first.
type Place = (i64, i64, String);

/// The waiting tasks of one plugin for one organisation.
type Group = BTreeMap<Place, Waiting>;

#[derive(Clone, Debug)]
struct Tenant {
    weight: i64,
    /// Turns that it has left in this round.
    turns: i64,
    groups: HashMap<String, Group>,
}

impl Tenant {
    /// The most urgent task of the groups that may go.
    fn head(&self, organization: &str, allowance: &Allowance) -> Option<(&Place, &Waiting)> {
        self.groups
            .iter()
            .filter(|(plugin_id, _)| allowance.permits(plugin_id, organization))
            .filter_map(|(_, group)| group.first_key_value())
            .min_by_key(|(place, _)| *place)
    }
}

#[derive(Clone, Debug, Default)]
struct Class {
    tenants: HashMap<String, Tenant>,
    /// Whose turn it is: the first. Who has nothing left waiting leaves when his turn comes.
    round: VecDeque<String>,
    /// All of them with their plugin and organisation, the oldest first.
    by_age: BTreeMap<(Moment, String), (String, String)>,
    /// Those that are here for their age alone.
    old: HashMap<String, Waiting>,
    /// Who is next after all that are here, and how many of these have not had their turn.
    stop: Option<(String, usize)>,
    stopped: bool,
}

/// Where the turns of a queue stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// How many went: one of so many goes to a lower class.
    pub dispatched: u64,
    /// Of each class: whose turn it is, and how many turns that organisation has left; 0: a whole round of them.
    pub next: BTreeMap<i64, (String, i64)>,
}

/// The tasks of one class, organisation and plugin.
pub type GroupName = (i64, String, String);

#[derive(Clone, Debug)]
pub struct Backlog {
    classes: BTreeMap<i64, Class>,
    known: HashMap<String, (i64, String, String, Place)>,
    /// One of so many goes to a lower class.
    every: u64,
    turns: Turns,
    /// Groups of which the store has more than was handed over; and which of these ran dry.
    more: HashSet<GroupName>,
    dry: Vec<GroupName>,
}

impl Backlog {
    /// `every`: one of so many dispatches goes to the oldest task of a lower class; 0: none does.
    pub fn new(every: u32) -> Backlog {
        Backlog::resumed(every, Turns::default())
    }

    /// Goes on where the turns stand. Organisations are to be put in their order, from the one whose turn it is.
    pub fn resumed(every: u32, turns: Turns) -> Backlog {
        Backlog {
            classes: BTreeMap::new(),
            known: HashMap::new(),
            every: u64::from(every),
            turns,
            more: HashSet::new(),
            dry: Vec::new(),
        }
    }

    /// Where the turns stand now.
    pub fn turns(&self) -> Turns {
        let mut turns = self.turns.clone();
        for (class, room) in &self.classes {
            let next = match (&room.stop, room.round.front()) {
                (Some((organization, _)), _) if room.stopped => (organization.clone(), 0),
                (_, Some(organization)) => {
                    let left = room
                        .tenants
                        .get(organization)
                        .map_or(0, |tenant| tenant.turns);
                    (organization.clone(), left)
                }
                _ => continue,
            };
            turns.next.insert(*class, next);
        }
        turns
    }

    /// The store has organisations of this class that were not handed over: turns stop before `next`, once every one
    /// that is here had its own.
    pub fn stop_before(&mut self, class: i64, next: &str) {
        let room = self.classes.entry(class).or_default();
        room.stop = Some((next.to_owned(), room.round.len()));
    }

    /// Nobody of those of this class that were looked at may go, and `next` comes after them.
    pub fn pass(&mut self, class: i64, next: &str) {
        self.turns.next.insert(class, (next.to_owned(), 0));
    }

    /// The store has more of this group: when its last one has gone, [`Backlog::next`] stops and [`Backlog::dry`] tells.
    pub fn expect_more(&mut self, group: GroupName) {
        self.more.insert(group);
    }

    /// Groups that ran dry and of which the store has more.
    pub fn dry(&mut self) -> Vec<GroupName> {
        std::mem::take(&mut self.dry)
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A task waits. One that is known takes its new place.
    pub fn put(&mut self, waiting: Waiting, weight: i64) {
        self.remove(&waiting.id);
        if let Some(class) = self.classes.get_mut(&waiting.class) {
            class.old.remove(&waiting.id);
        }
        let place = (waiting.priority, waiting.rank, waiting.id.clone());
        self.known.insert(
            waiting.id.clone(),
            (
                waiting.class,
                waiting.organization.clone(),
                waiting.plugin_id.clone(),
                place.clone(),
            ),
        );
        let class = self.classes.entry(waiting.class).or_default();
        class.by_age.insert(
            (waiting.created_at, waiting.id.clone()),
            (waiting.plugin_id.clone(), waiting.organization.clone()),
        );
        let tenant = match class.tenants.get_mut(&waiting.organization) {
            Some(tenant) => tenant,
            None => {
                class.round.push_back(waiting.organization.clone());
                let left = match self.turns.next.get(&waiting.class) {
                    Some((next, left)) if *next == waiting.organization => *left,
                    _ => 0,
                };
                let new = Tenant {
                    weight: 1,
                    turns: left,
                    groups: HashMap::new(),
                };
                class
                    .tenants
                    .entry(waiting.organization.clone())
                    .or_insert(new)
            }
        };
        tenant.weight = weight.max(1);
        tenant
            .groups
            .entry(waiting.plugin_id.clone())
            .or_default()
            .insert(place, waiting);
    }

    /// A task that is among the oldest of its class, however urgent it is: for the share of lower classes alone.
    pub fn put_old(&mut self, waiting: &Waiting) {
        if self.known.contains_key(&waiting.id) {
            return;
        }
        let class = self.classes.entry(waiting.class).or_default();
        class.by_age.insert(
            (waiting.created_at, waiting.id.clone()),
            (waiting.plugin_id.clone(), waiting.organization.clone()),
        );
        class.old.insert(waiting.id.clone(), waiting.clone());
    }

    /// It does not wait any more.
    pub fn remove(&mut self, id: &str) -> Option<Waiting> {
        let Some((class, organization, plugin_id, place)) = self.known.remove(id) else {
            let room = self
                .classes
                .values_mut()
                .find(|room| room.old.contains_key(id))?;
            let waiting = room.old.remove(id)?;
            room.by_age.remove(&(waiting.created_at, id.to_owned()));
            return Some(waiting);
        };
        let room = self.classes.get_mut(&class)?;
        let tenant = room.tenants.get_mut(&organization)?;
        let group = tenant.groups.get_mut(&plugin_id)?;
        let waiting = group.remove(&place)?;
        if group.is_empty() {
            tenant.groups.remove(&plugin_id);
        }
        room.by_age.remove(&(waiting.created_at, id.to_owned()));
        Some(waiting)
    }

    /// Takes out who goes next, as many as there is credit for and the limits allow, until a group of which there is more
    /// has run dry or the turns have come to somebody who is not here.
    pub fn next(&mut self, credit: usize, allowance: &mut Allowance) -> Vec<Waiting> {
        let mut chosen = Vec::new();
        while chosen.len() < credit && self.dry.is_empty() && !self.stopped() {
            let id = self
                .of_a_lower_class(allowance)
                .or_else(|| self.in_turn(allowance));
            let Some(waiting) = id.and_then(|id| self.remove(&id)) else {
                break;
            };
            self.turns.dispatched += 1;
            allowance.spend(&waiting.plugin_id, &waiting.organization);
            let group = (
                waiting.class,
                waiting.organization.clone(),
                waiting.plugin_id.clone(),
            );
            if self.more.contains(&group) && self.is_dry(&group) {
                self.more.remove(&group);
                self.dry.push(group);
            }
            chosen.push(waiting);
        }
        chosen
    }

    /// The turns of some class have come to somebody who is not here.
    pub fn stopped(&self) -> bool {
        self.classes.values().any(|class| class.stopped)
    }

    fn is_dry(&self, (class, organization, plugin_id): &GroupName) -> bool {
        let tenant = self
            .classes
            .get(class)
            .and_then(|room| room.tenants.get(organization));
        tenant.is_none_or(|tenant| !tenant.groups.contains_key(plugin_id))
    }

    /// The oldest below the highest class that has somebody to go, every so many dispatches.
    fn of_a_lower_class(&self, allowance: &Allowance) -> Option<String> {
        if self.every == 0 || !(self.turns.dispatched + 1).is_multiple_of(self.every) {
            return None;
        }
        let mut busy = self
            .classes
            .values()
            .filter_map(|class| class.oldest(allowance));
        busy.next()?;
        busy.min().map(|(_, id)| id)
    }

    /// The next of the highest class that has somebody to go.
    fn in_turn(&mut self, allowance: &Allowance) -> Option<String> {
        self.classes
            .values_mut()
            .find_map(|class| class.in_turn(allowance))
    }
}

impl Class {
    /// The oldest that may go.
    fn oldest(&self, allowance: &Allowance) -> Option<(Moment, String)> {
        self.by_age
            .iter()
            .find(|(_, (plugin_id, organization))| allowance.permits(plugin_id, organization))
            .map(|(age, _)| age.clone())
    }

    fn in_turn(&mut self, allowance: &Allowance) -> Option<String> {
        for _ in 0..self.round.len() {
            if self.stopped {
                return None;
            }
            let organization = self.round.front()?.clone();
            let tenant = self.tenants.get_mut(&organization)?;
            if tenant.groups.is_empty() {
                self.tenants.remove(&organization);
                self.round.pop_front();
                self.had_its_turn();
                continue;
            }
            if tenant.turns <= 0 {
                tenant.turns = tenant.weight;
            }
            let head = tenant.head(&organization, allowance);
            let head = head.map(|(_, waiting)| waiting.id.clone());
            // Where only limited ones wait the turn is lost, and nobody waits for it.
            tenant.turns = if head.is_some() { tenant.turns - 1 } else { 0 };
            if tenant.turns <= 0 {
                self.round.rotate_left(1);
                self.had_its_turn();
            }
            if head.is_some() {
                return head;
            }
        }
        None
    }

    fn had_its_turn(&mut self) {
        if let Some((_, left)) = &mut self.stop {
            *left = left.saturating_sub(1);
            self.stopped = *left == 0;
        }
    }
}
