//! What can be asked of dead letters: messages that could not be read, and tasks that are dead.

use super::list::{Listing, Rows, Which, listing, which};
use super::{Command, needed};
use crate::document::Table;

#[derive(Clone, Debug, PartialEq)]
pub enum LetterCommand {
    List(Listing),
    Show { id: String },
    Redrive { which: Which },
    Drop { which: Which },
}

pub(super) const VERBS: [&str; 4] = ["list", "show", "redrive", "drop"];

pub(super) fn read(verb: &str, table: &mut Table<'_, '_>) -> Option<Command> {
    let asked = match verb {
        "show" => LetterCommand::Show {
            id: needed(table, "id")?,
        },
        "redrive" => LetterCommand::Redrive {
            which: which(Rows::DeadLetter, "id", table)?,
        },
        "drop" => LetterCommand::Drop {
            which: which(Rows::DeadLetter, "id", table)?,
        },
        _ => LetterCommand::List(listing(
            Rows::DeadLetter,
            table,
            &["kind", "reason", "intake"],
        )),
    };
    Some(Command::DeadLetter(asked))
}
