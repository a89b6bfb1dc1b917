//! What a worker runs for a task: the plugin's script with an interpreter, or a command whose blanks are filled in.
//!
//! There is no shell. A text is split into words once, when the worker starts; what comes from a task fills words, and
//! never makes new ones, but for `{arguments}`, which stands for as many words as the task has arguments.

use std::collections::BTreeMap;
use std::path::Path;

use crate::document::nearest;
use crate::wire::Assignment;

/// Where processes of tasks find their programs.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a worker does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Craft {
    /// The words of the interpreter for each runtime; script and arguments come after them.
    Scripts(BTreeMap<String, Vec<String>>),
    Template(Template),
}

/// A command with blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Word>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// All arguments of the task, each a word.
    Arguments,
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Blank(String),
}

/// What a blank may begin with; a `.` at the end asks for more.
const BLANKS: [&str; 17] = [
    "arguments",
    "attempt",
    "cause",
    "created_at",
    "id",
    "input.",
    "organization",
    "parameters.",
    "plugin.",
    "priority",
    "run_id",
    "run_name",
    "schedule",
    "scheduled_for",
    "settings.",
    "traceparent",
    "worker_type",
];

impl Template {
    /// Reads a command such as `nmap {arguments} -- {input.name}`.
    pub fn parse(text: &str) -> Result<Template, String> {
        let words: Vec<Word> = words(text)?
            .iter()
            .map(|word| Word::parse(word))
            .collect::<Result<_, _>>()?;
        match words.first() {
            None => Err("the command is empty; write it as `nmap {arguments}`".to_owned()),
            Some(Word::Parts(parts)) if parts.iter().all(|p| matches!(p, Part::Text(_))) => {
                Ok(Template(words))
            }
            Some(_) => Err(
                "the first word is the program; a task cannot choose it, so it has no blank"
                    .to_owned(),
            ),
        }
    }

    /// Looks for the program where processes of tasks find theirs: one that is not there would fail every task.
    pub fn find(&self, path: &str) -> Result<(), String> {
        let Some(Word::Parts(parts)) = self.0.first() else {
            return Ok(());
        };
        let program: String = parts
            .iter()
            .map(|part| match part {
                Part::Text(text) | Part::Blank(text) => text.as_str(),
            })
            .collect();
        let named = Path::new(&program);
        let there = match program.contains('/') {
            // What is not absolute is found, or not, in the folder of the task.
            true => named.is_file() || !named.is_absolute(),
            false => path
                .split(':')
                .any(|at| Path::new(at).join(named).is_file()),
        };
        match there {
            true => Ok(()),
            false => Err(format!(
                "there is no program `{program}`; it is looked for in {path}, or named by its whole path"
            )),
        }
    }

    /// The words for a task; an error names the blank for which it has nothing.
    pub fn fill(&self, task: &Assignment) -> Result<Vec<String>, String> {
        let mut filled = Vec::with_capacity(self.0.len());
        for word in &self.0 {
            match word {
                Word::Arguments => filled.extend(task.arguments.iter().cloned()),
                Word::Parts(parts) => {
                    let mut text = String::new();
                    for part in parts {
                        match part {
                            Part::Text(plain) => text.push_str(plain),
                            Part::Blank(path) => text
                                .push_str(&task.value(path).ok_or_else(|| {
                                format!(
                                    "the command asks for {{{path}}}, which this task does not have"
                                )
                            })?),
                        }
                    }
                    filled.push(text);
                }
            }
        }
        Ok(filled)
    }
}

impl Word {
    fn parse(word: &str) -> Result<Word, String> {
        if word == "{arguments}" {
            return Ok(Word::Arguments);
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = word;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some((path, after)) =
                from.strip_prefix('{').and_then(|from| from.split_once('}'))
            {
                blank(path)?;
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Blank(path.to_owned()));
                rest = after;
            } else {
                return Err(format!(
                    "`{word}` has a brace alone; a blank is written {{input.name}}, and a plain brace twice"
                ));
            }
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Word::Parts(parts))
    }
}

/// Refuses a blank that no task can fill.
fn blank(path: &str) -> Result<(), String> {
    if path == "arguments" {
        return Err("{arguments} stands for many words, so it is a word of its own".to_owned());
    }
    let known = |begin: &&str| match begin.strip_suffix('.') {
        Some(_) => path.len() > begin.len() && path.starts_with(*begin),
        None => path == *begin,
    };
    if BLANKS.iter().any(known) {
        return Ok(());
    }
    let plain = BLANKS.map(|begin| begin.trim_end_matches('.'));
    let first = path.split('.').next().unwrap_or_default();
    let help = match nearest(first, plain.iter().copied()).first() {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", plain.join(", ")),
    };
    Err(format!("no task has {{{path}}}; {help}"))
}

/// A command line as words: parted by blanks, and kept together by `'…'` or `"…"`. Nothing else has a meaning.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    if let Some(open) = quote {
        return Err(format!("`{text}`: a {open} is opened and not closed"));
    }
    if text.contains('\0') {
        return Err("a command line holds no NUL".to_owned());
    }
    words.extend(word);
    Ok(words)
}
