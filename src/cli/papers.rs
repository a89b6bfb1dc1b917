//! What the program says of itself: the contract as documents, completions for shells, the manual.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use serde_json::{Value, json};

use super::lists::terminal_width;
use super::output::{print, print_json, table, written};
use super::{Arguments, Failure, Output};
use crate::document::nearest;
use crate::watch::words::{width, wrap};
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

/// Help and manual are as wide as this, and narrower on a narrower terminal.
const WIDTH: usize = 80;
/// How far a manual stands from the edge.
const INDENT: usize = 8;
/// Below this nothing can be read.
const NARROWEST: usize = 40;

/// The command line as its help is told here.
pub fn command() -> Command {
    let cells = terminal_width().or_else(|| std::env::var("COLUMNS").ok()?.trim().parse().ok());
    let cells = cells.unwrap_or(WIDTH).clamp(NARROWEST, WIDTH);
    fitted(Arguments::command().term_width(cells), cells)
}

/// The command, and all within it, with usage and examples in lines of so many cells.
fn fitted(mut command: Command, cells: usize) -> Command {
    command.build();
    within(command, cells)
}

fn within(mut command: Command, cells: usize) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|known| known.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |known| within(known, cells));
    }
    let usage = command.render_usage().to_string();
    if usage.lines().any(|line| width(line) > cells) {
        let usage = usage.trim_start_matches("Usage: ").trim_end().to_owned();
        let lines = broken(&usage, cells.saturating_sub("Usage: ".len()), 4, "");
        command = command.override_usage(lines.join("\n       "));
    }
    let text = |said: Option<&clap::builder::StyledStr>| said.map(|said| said.to_string());
    if let Some(said) = text(command.get_after_help()) {
        command = command.after_help(folded(&said, cells));
    }
    if let Some(said) = text(command.get_after_long_help()) {
        command = command.after_long_help(folded(&said, cells));
    }
    command
}

/// A text in lines of so many cells. Prose flows; an example that is too long goes on below, as a shell reads it, and
/// what is said of it stands under it.
fn folded(text: &str, cells: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut prose = String::new();
    let flush = |prose: &mut String, lines: &mut Vec<String>| {
        if !prose.is_empty() {
            lines.extend(wrap(&std::mem::take(prose), cells));
        }
    };
    // Where one of several examples has no room for what is said of it, none has.
    let mut stacked = false;
    let all: Vec<&str> = text.lines().collect();
    for (at, line) in all.iter().enumerate() {
        let example = |line: &&&str| line.starts_with("  ");
        let before = at.checked_sub(1).and_then(|at| all.get(at));
        if !before.as_ref().is_some_and(example) {
            let mut block = all.iter().skip(at).take_while(example);
            stacked = block.any(|line| width(line) > cells && apart(line).is_some());
        }
        let shown = line.starts_with([' ', '{']) || line.contains("{\"") || line.ends_with(':');
        let plain = !line.is_empty() && !shown;
        if plain {
            if !prose.is_empty() {
                prose.push(' ');
            }
            prose.push_str(line);
            continue;
        }
        flush(&mut prose, &mut lines);
        let parts = apart(line);
        if width(line) <= cells && !(stacked && parts.is_some()) {
            lines.push((*line).to_owned());
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let (example, remark) = parts.unwrap_or((line.trim_start(), ""));
        let shell = ["muster ", "echo "]
            .iter()
            .any(|word| example.starts_with(word));
        let mark = if shell { " \\" } else { "" };
        let example = format!("{}{example}", " ".repeat(indent));
        lines.extend(broken(&example, cells, indent + 4, mark));
        let blank = " ".repeat(indent + 4);
        let remark = wrap(remark, cells.saturating_sub(indent + 4));
        let said = remark.iter().filter(|line| !line.is_empty());
        lines.extend(said.map(|line| format!("{blank}{line}")));
    }
    flush(&mut prose, &mut lines);
    lines.join("\n")
}

/// An example, and what is said of it behind some blanks.
fn apart(line: &str) -> Option<(&str, &str)> {
    let (example, remark) = line.trim_start().split_once("   ")?;
    Some((example, remark.trim_start()))
}

/// A line that is too long, in several: broken at blanks outside of quotes where there are some, else behind commas and
/// bars. Those that go on end with a mark.
fn broken(line: &str, cells: usize, indent: usize, mark: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    loop {
        if width(&rest) <= cells {
            lines.push(rest);
            return lines;
        }
        let own = rest.len() - rest.trim_start().len();
        let room = cells.saturating_sub(width(mark));
        let mut quoted = None;
        let (mut blank, mut behind) = (None, None);
        for (at, c) in rest.char_indices().skip(own).take(room.saturating_sub(own)) {
            match (quoted, c) {
                (None, '\'' | '"') => quoted = Some(c),
                (Some(open), _) if open == c => quoted = None,
                (None, ' ') => blank = Some(at),
                (_, ',' | '|') => behind = Some(at + 1),
                _ => {}
            }
        }
        let at = blank.or(behind).filter(|at| *at > own);
        let Some(at) = at else {
            lines.push(rest);
            return lines;
        };
        let next = rest.split_off(at);
        lines.push(format!("{}{mark}", rest.trim_end()));
        rest = format!("{}{}", " ".repeat(indent), next.trim_start());
    }
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
    let command = Arguments::command().disable_help_subcommand(true);
    let command = fitted(command, WIDTH - INDENT);
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
