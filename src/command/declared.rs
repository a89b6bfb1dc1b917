//! What can be asked of what is declared: organisations, plugins, object sets, calendars, schedules.

use serde_json::{Map, Value};

use super::{Command, Page, needed, page};
use crate::declaration::Kind;
use crate::document::Table;

#[derive(Clone, Debug, PartialEq)]
pub enum DeclaredCommand {
    Apply(Box<Apply>),
    Delete {
        kind: Kind,
        name: String,
    },
    List {
        kind: Kind,
        page: Page,
    },
    /// For one organisation where the request names one, else for all that do not say.
    Switch {
        plugin_id: String,
        enabled: bool,
    },
}

/// One declaration, made or made so.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    pub kind: Kind,
    pub definition: Map<String, Value>,
    /// Of a schedule that is known by its id.
    pub id: Option<String>,
    /// A plugin that comes along with a schedule.
    pub plugin: Option<Map<String, Value>>,
    /// Refused where it is of another; 0: it must be new.
    pub expected_revision: Option<i64>,
    pub if_exists: IfExists,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    #[default]
    Update,
    Fail,
    Ignore,
}

pub const IF_EXISTS: [(&str, IfExists); 3] = [
    ("update", IfExists::Update),
    ("fail", IfExists::Fail),
    ("ignore", IfExists::Ignore),
];

pub(super) const ORGANIZATION: [&str; 2] = ["apply", "list"];
pub(super) const PLUGIN: [&str; 5] = ["apply", "delete", "enable", "disable", "list"];
pub(super) const OBJECT_SET: [&str; 3] = ["apply", "delete", "list"];
pub(super) const CALENDAR: [&str; 3] = ["apply", "delete", "list"];

pub(super) fn organization(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    read(Kind::Organization, verb, table)
}

pub(super) fn plugin(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    read(Kind::Plugin, verb, table)
}

pub(super) fn object_set(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    read(Kind::ObjectSet, verb, table)
}

pub(super) fn calendar(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    read(Kind::Calendar, verb, table)
}

/// What a command calls the name of such a declaration.
pub fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Plugin => "plugin_id",
        Kind::Schedule => "schedule",
        _ => "name",
    }
}

pub(super) fn read(kind: Kind, verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "apply" => DeclaredCommand::Apply(Box::new(apply(kind, table))),
        "delete" => DeclaredCommand::Delete {
            kind,
            name: needed(table, name_of(kind))?,
        },
        "enable" | "disable" => DeclaredCommand::Switch {
            plugin_id: needed(table, name_of(kind))?,
            enabled: verb == "enable",
        },
        _ => DeclaredCommand::List {
            kind,
            page: page(table),
        },
    };
    Some(Command::Declared(asked))
}

/// All that is not about the command itself is the declaration, as a file would hold it.
fn apply(kind: Kind, table: &mut Table<'_, '_>) -> Apply {
    // It is said already; of another kind it would be another command.
    table.one_of("kind", &[(kind.word(), ())]);
    let expected_revision = table.int_in("expected_revision", 0..=i64::MAX);
    let if_exists = table.one_of("if_exists", &IF_EXISTS).unwrap_or_default();
    let (id, plugin) = match kind {
        Kind::Schedule => (table.word("schedule_id"), table.object("plugin")),
        _ => (None, None),
    };
    Apply {
        kind,
        id,
        plugin,
        expected_revision,
        if_exists,
        definition: table.rest(),
    }
}
