//! Which of the waiting tasks of one queue go next: by class, fair between organisations, within limits.
//!
//! It holds the heads of what the store has waiting, grouped by class, organisation and plugin: all of a group share their
//! limits, so what is limited is passed over as a whole and holds up nobody else. Manual work goes before events,
//! events before what recurs; one of so many goes to the oldest of a lower class, so nothing starves. Between the
//! organisations of a class turns go round by their weights (deficit round robin).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::moment::Moment;
use crate::plugin::Plugin;
use crate::schedule::{Limit, Organization, Per};

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

    fn keys(&self, plugin_id: &str, organization: &str) -> &[Key] {
        // A group without limits is the usual one, so the pair is only built where there are any.
        if self.keys.is_empty() {
            return &[];
        }
        self.keys
            .get(&(plugin_id.to_owned(), organization.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    fn permits(&self, plugin_id: &str, organization: &str) -> bool {
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
}

#[derive(Clone, Debug)]
pub struct Backlog {
    classes: BTreeMap<i64, Class>,
    known: HashMap<String, (i64, String, String, Place)>,
    /// One of so many goes to a lower class.
    every: u64,
    dispatched: u64,
}

impl Backlog {
    /// `every`: one of so many dispatches goes to the oldest task of a lower class; 0: none does.
    pub fn new(every: u32) -> Backlog {
        Backlog {
            classes: BTreeMap::new(),
            known: HashMap::new(),
            every: u64::from(every),
            dispatched: 0,
        }
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
                let new = Tenant {
                    weight: 1,
                    turns: 0,
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

    /// It does not wait any more.
    pub fn remove(&mut self, id: &str) -> Option<Waiting> {
        let (class, organization, plugin_id, place) = self.known.remove(id)?;
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

    /// Forgets what the store does not have waiting any more.
    pub fn keep_only(&mut self, ids: &BTreeSet<String>) {
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|id| !ids.contains(*id))
            .cloned()
            .collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// Plugins and organisations that have something waiting.
    pub fn groups(&self) -> BTreeSet<(String, String)> {
        self.classes
            .values()
            .flat_map(|class| &class.tenants)
            .flat_map(|(organization, tenant)| {
                tenant
                    .groups
                    .keys()
                    .map(|plugin_id| (plugin_id.clone(), organization.clone()))
            })
            .collect()
    }

    /// Takes out who goes next, as many as there is credit for and the limits allow.
    pub fn next(&mut self, credit: usize, allowance: &mut Allowance) -> Vec<Waiting> {
        let mut chosen = Vec::new();
        while chosen.len() < credit {
            let id = self
                .of_a_lower_class(allowance)
                .or_else(|| self.in_turn(allowance));
            let Some(waiting) = id.and_then(|id| self.remove(&id)) else {
                break;
            };
            self.dispatched += 1;
            allowance.spend(&waiting.plugin_id, &waiting.organization);
            chosen.push(waiting);
        }
        chosen
    }

    /// The oldest below the highest class that has somebody to go, every so many dispatches.
    fn of_a_lower_class(&self, allowance: &Allowance) -> Option<String> {
        if self.every == 0 || !(self.dispatched + 1).is_multiple_of(self.every) {
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
            let organization = self.round.front()?.clone();
            let tenant = self.tenants.get_mut(&organization)?;
            if tenant.groups.is_empty() {
                self.tenants.remove(&organization);
                self.round.pop_front();
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
            }
            if head.is_some() {
                return head;
            }
        }
        None
    }
}
