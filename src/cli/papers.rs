//! What the program says of itself: the contract as documents, completions for shells, the manual.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use serde_json::{Value, json};

use super::output::{print, print_json, table, written};
use super::{Arguments, Failure, Output};
use crate::document::nearest;
use crate::{contract, settings};

#[derive(Debug, Args)]
pub struct Schema {
    /// Which document; without it their names are listed
    name: Option<String>,
    /// Write all of them into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct Manual {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn schema(asked: &Schema, output: Output) -> Result<(), Failure> {
    if let Some(folder) = &asked.dir {
        std::fs::create_dir_all(folder).map_err(|error| Failure::of_file(folder, &error))?;
        for (name, _) in names() {
            let file = folder.join(contract::file_name(name));
            let document = document(name).unwrap_or_default();
            let text = format!("{}\n", pretty(&document));
            std::fs::write(&file, text).map_err(|error| Failure::of_file(&file, &error))?;
        }
        return Ok(());
    }
    let Some(name) = &asked.name else {
        list(output);
        return Ok(());
    };
    match document(name) {
        Some(document) => {
            print(&pretty(&document));
            Ok(())
        }
        None => {
            let near = nearest(name, names().map(|(known, _)| known));
            let meant = match near.as_slice() {
                [] => "`muster schema` lists them".to_owned(),
                near => format!("did you mean {}?", near.join(" or ")),
            };
            let why = format!("there is no schema `{name}`");
            Err(Failure::no("not_found", &why, &meant))
        }
    }
}

/// The documents of the contract, and the settings.
fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    contract::names().chain([settings::DOCUMENT])
}

fn document(name: &str) -> Option<Value> {
    match name == settings::DOCUMENT.0 {
        true => Some(settings::schema()),
        false => contract::document(name),
    }
}

fn list(output: Output) {
    match output {
        Output::Json => {
            let all = names().map(|(name, about)| json!({"name": name, "about": about}));
            print_json(&all.collect());
        }
        Output::Table => {
            let rows = names().map(|(name, about)| vec![name.to_owned(), about.to_owned()]);
            print(&table(&["name", "about"], rows.collect()));
        }
    }
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

pub fn completions(asked: &Completions) {
    let mut script = Vec::new();
    clap_complete::generate(
        asked.shell,
        &mut Arguments::command(),
        "muster",
        &mut script,
    );
    written(std::io::stdout().lock().write_all(&script));
}

pub fn manual(asked: &Manual) -> Result<(), Failure> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &asked.dir else {
        written(
            std::io::stdout()
                .lock()
                .write_all(page(&command)?.as_bytes()),
        );
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|error| Failure::of_file(folder, &error))?;
    pages(&command, folder)
}

/// A page for the command, and for each within it.
fn pages(command: &Command, folder: &Path) -> Result<(), Failure> {
    let file = folder.join(clap_mangen::Man::new(command.clone()).get_filename());
    std::fs::write(&file, page(command)?).map_err(|error| Failure::of_file(&file, &error))?;
    for within in command.get_subcommands() {
        pages(within, folder)?;
    }
    Ok(())
}

/// A page of the manual. Examples stay the lines that they are, and what is not ASCII is spelt as every troff reads it.
fn page(command: &Command) -> Result<String, Failure> {
    let mut rendered = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut rendered)?;
    let mut page = String::with_capacity(rendered.len() + 64);
    let mut as_it_is = false;
    for line in String::from_utf8_lossy(&rendered).lines() {
        if line.starts_with(".SH") && as_it_is {
            page.push_str(".fi\n");
            as_it_is = false;
        }
        if line == ".SH EXTRA" {
            page.push_str(".SH NOTES\n.nf\n");
            as_it_is = true;
            continue;
        }
        for letter in line.chars() {
            match letter {
                plain if plain.is_ascii() => page.push(plain),
                other => page.push_str(&format!("\\[u{:04X}]", u32::from(other))),
            }
        }
        page.push('\n');
    }
    if as_it_is {
        page.push_str(".fi\n");
    }
    Ok(page)
}
