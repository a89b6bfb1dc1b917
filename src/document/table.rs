//! Taking typed values out of nodes, with every complaint kept.

use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json};

use super::complaint::{about, either, help_for, nearest, short};
use super::{Complaint, Complaints, Key, Node, Place, Value};
use crate::moment::{Moment, Span};

/// The entries of a table, taken one by one. A getter gives nothing for what is absent, null, or complained about;
/// [`Table::finish`] complains about every entry that was never asked for.
pub struct Table<'n, 'c> {
    entries: &'n [(Key, Node)],
    place: Option<Place>,
    path: String,
    asked: Vec<String>,
    /// Entries that were complained about because they are not there.
    missing: Vec<String>,
    complaints: &'c mut Complaints,
}

/// One value with the way to it.
pub struct Field<'n, 'c> {
    node: &'n Node,
    path: String,
    complaints: &'c mut Complaints,
}

impl<'n, 'c> Table<'n, 'c> {
    /// Nothing, and a complaint, where the node is no table. `path` is empty for the root of a file.
    pub fn open(
        node: &'n Node,
        path: &str,
        complaints: &'c mut Complaints,
    ) -> Option<Table<'n, 'c>> {
        Field::new(node, path, complaints).table()
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn place(&self) -> Option<Place> {
        self.place
    }

    pub fn complaints(&mut self) -> &mut Complaints {
        self.complaints
    }

    /// The value as it was written, null too.
    pub fn node(&mut self, name: &str) -> Option<&'n Node> {
        if !self.asked.iter().any(|asked| asked == name) {
            self.asked.push(name.to_string());
        }
        let entry = self.entries.iter().find(|(key, _)| key.name == name);
        entry.map(|(_, node)| node)
    }

    /// The entry of that name, if it is there and not null.
    pub fn get(&mut self, name: &str) -> Option<Field<'n, '_>> {
        let node = self.node(name)?;
        if node.is_null() {
            return None;
        }
        let path = join(&self.path, name);
        Some(Field {
            node,
            path,
            complaints: self.complaints,
        })
    }

    /// Every entry that was not asked for yet, as it is: whoever takes it reads it elsewhere.
    pub fn rest(&mut self) -> Map<String, Json> {
        let mut rest = super::to_map(self.entries);
        rest.retain(|name, _| !self.asked.contains(name));
        self.asked.extend(rest.keys().cloned());
        rest
    }

    /// Complains where the entry is absent or null; says whether it is there.
    pub fn require(&mut self, name: &str) -> bool {
        if self.node(name).is_some_and(|node| !node.is_null()) {
            return true;
        }
        let (path, message) = self.is_missing(name);
        let file = self.complaints.file();
        let complaint = Complaint::error(file, self.place, path, message);
        self.complaints.push(complaint);
        self.missing.push(name.to_string());
        false
    }

    /// The way to an entry that is not there, and what is said of it.
    fn is_missing(&self, name: &str) -> (String, String) {
        let path = join(&self.path, name);
        let message = format!("{} `{path}` is missing", self.complaints.noun());
        (path, message)
    }

    /// Complains about the entry of that name, or about the table where there is none.
    pub fn complain(&mut self, name: &str, message: impl Into<String>) {
        let entry = self.entries.iter().find(|(key, _)| key.name == name);
        let place = entry.map_or(self.place, |(_, node)| node.place);
        let path = join(&self.path, name);
        self.complaints.error(place, &path, message);
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        self.get(name)?.text()
    }

    /// A text that is not blank.
    pub fn word(&mut self, name: &str) -> Option<String> {
        self.get(name)?.word()
    }

    pub fn bool(&mut self, name: &str) -> Option<bool> {
        self.get(name)?.bool()
    }

    /// A whole number within a range. A type that cannot hold the range's ends is refused like a number outside of it.
    pub fn int_in<N: TryFrom<i64>>(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<N> {
        self.get(name)?.int_in(range)
    }

    pub fn number(&mut self, name: &str) -> Option<f64> {
        self.get(name)?.number()
    }

    pub fn span(&mut self, name: &str) -> Option<Span> {
        self.get(name)?.span()
    }

    pub fn moment(&mut self, name: &str) -> Option<Moment> {
        self.get(name)?.moment()
    }

    pub fn one_of<T: Clone>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        self.get(name)?.one_of(words)
    }

    /// A text in a notation of its own; what `read` answers with is the complaint.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.get(name)?.parsed(read)
    }

    /// A text, or a list of texts.
    pub fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        self.get(name)?.texts()
    }

    /// Any table, as it is.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Json>> {
        self.get(name)?.object()
    }

    /// A table within. Finish it too.
    pub fn table(&mut self, name: &str) -> Option<Table<'n, '_>> {
        self.get(name)?.table()
    }

    /// A list; items for which `read` gives nothing are left out.
    pub fn list<T>(
        &mut self,
        name: &str,
        read: impl FnMut(Field<'n, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.get(name)?.list(read)
    }

    /// A list, or one item alone.
    pub fn one_or_many<T>(
        &mut self,
        name: &str,
        read: impl FnMut(Field<'n, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.get(name)?.one_or_many(read)
    }

    /// A table whose names are the writer's own.
    pub fn entries<T>(
        &mut self,
        name: &str,
        read: impl FnMut(&'n Key, Field<'n, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.get(name)?.entries(read)
    }

    /// Complains about every entry that was never asked for. Call it when all were.
    pub fn finish(self) {
        let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        for (key, _) in self.entries {
            if known.contains(&key.name.as_str()) {
                continue;
            }
            // It is not missing, but misspelt.
            for meant in nearest(&key.name, self.missing.iter().map(String::as_str)) {
                let (path, message) = self.is_missing(meant);
                self.complaints.take_back(self.place, &path, &message);
            }
            let path = join(&self.path, &key.name);
            let message = format!("unknown {} `{path}`", self.complaints.noun());
            let complaint = Complaint::error(self.complaints.file(), key.place, path, message);
            self.complaints
                .push(complaint.with_help(help_for(&key.name, &known)));
        }
    }
}

impl<'n, 'c> Field<'n, 'c> {
    pub fn new(node: &'n Node, path: &str, complaints: &'c mut Complaints) -> Field<'n, 'c> {
        Field {
            node,
            path: path.to_string(),
            complaints,
        }
    }

    pub fn node(&self) -> &'n Node {
        self.node
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn place(&self) -> Option<Place> {
        self.node.place
    }

    /// An error about this value; the way to it is put before the message.
    pub fn complain(&mut self, message: impl Into<String>) {
        self.complaints.error(self.node.place, &self.path, message);
    }

    /// Where complaints of a notation of its own go, which have a layout of their own.
    pub fn complaints(&mut self) -> &mut Complaints {
        self.complaints
    }

    pub fn complain_with_help(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let message = about(&self.path, message);
        let path = self.path.as_str();
        let complaint = Complaint::error(self.complaints.file(), self.node.place, path, message);
        self.complaints.push(complaint.with_help(help));
    }

    fn expected(&mut self, what: &str) {
        let message = format!("expected {what}, found {}", found(self.node));
        self.complain(message);
    }

    fn expected_text(&mut self, what: &str) {
        match self.node.value {
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                let found = found(self.node);
                let message = format!("expected {what}, found {found}");
                self.complain_with_help(message, "put it in quotes to make it a text");
            }
            _ => self.expected(what),
        }
    }

    pub fn text(mut self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.expected_text("a text");
                None
            }
        }
    }

    /// A text that is not blank.
    pub fn word(mut self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Text(_) => {
                self.complain("expected a text that is not empty");
                None
            }
            _ => {
                self.expected_text("a text");
                None
            }
        }
    }

    /// A text that no complaint may repeat.
    pub fn secret(mut self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => {
                self.complain("expected a text that is not empty");
                None
            }
        }
    }

    pub fn bool(mut self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(yes) => Some(*yes),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// A whole number within a range. A type that cannot hold the range's ends is refused like a number outside of it.
    pub fn int_in<N: TryFrom<i64>>(mut self, range: RangeInclusive<i64>) -> Option<N> {
        if let Value::Int(number) = &self.node.value
            && range.contains(number)
            && let Ok(fits) = N::try_from(*number)
        {
            return Some(fits);
        }
        let what = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "a whole number".to_string(),
            (start, i64::MAX) => format!("a whole number, {start} or more"),
            (start, end) => format!("a whole number from {start} to {end}"),
        };
        self.expected(&what);
        None
    }

    pub fn number(mut self) -> Option<f64> {
        match &self.node.value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => {
                self.expected("a number");
                None
            }
        }
    }

    pub fn span(mut self) -> Option<Span> {
        match &self.node.value {
            Value::Text(_) => self.parsed(Span::parse),
            _ => {
                self.expected("a length of time such as \"90s\" or \"1h\"");
                None
            }
        }
    }

    pub fn moment(mut self) -> Option<Moment> {
        match &self.node.value {
            Value::Text(_) => self.parsed(Moment::parse),
            _ => {
                self.expected("an instant such as \"2026-11-21T09:30:00Z\"");
                None
            }
        }
    }

    pub fn one_of<T: Clone>(mut self, words: &[(&str, T)]) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("expected {}, found {}", either(&known), found(self.node));
        let Value::Text(text) = &self.node.value else {
            self.complain(message);
            return None;
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
            return Some(meaning.clone());
        }
        match nearest(text, known.iter().copied()).as_slice() {
            [] => self.complain(message),
            near => {
                self.complain_with_help(message, format!("did you mean {}?", either(near)));
            }
        }
        None
    }

    /// A text in a notation of its own; what `read` answers with is the complaint.
    pub fn parsed<T>(mut self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let Value::Text(text) = &self.node.value else {
            self.expected_text("a text");
            return None;
        };
        match read(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.complain(message);
                None
            }
        }
    }

    /// A text, or a list of texts.
    pub fn texts(self) -> Option<Vec<String>> {
        match &self.node.value {
            Value::Text(_) | Value::List(_) => self.one_or_many(|item| item.text()),
            _ => {
                let mut field = self;
                field.expected("a text or a list of texts");
                None
            }
        }
    }

    /// Any table, as it is.
    pub fn object(mut self) -> Option<Map<String, Json>> {
        match &self.node.value {
            Value::Table(entries) => Some(super::to_map(entries)),
            _ => {
                self.expected("a table");
                None
            }
        }
    }

    pub fn table(mut self) -> Option<Table<'n, 'c>> {
        let Value::Table(entries) = &self.node.value else {
            self.expected("a table");
            return None;
        };
        Some(Table {
            entries,
            place: self.node.place,
            path: self.path,
            asked: Vec::new(),
            missing: Vec::new(),
            complaints: self.complaints,
        })
    }

    /// A list; items for which `read` gives nothing are left out.
    pub fn list<T>(mut self, mut read: impl FnMut(Field<'n, '_>) -> Option<T>) -> Option<Vec<T>> {
        let Value::List(items) = &self.node.value else {
            self.expected("a list");
            return None;
        };
        let mut taken = Vec::with_capacity(items.len());
        for (i, node) in items.iter().enumerate() {
            let item = Field {
                node,
                path: format!("{}[{i}]", self.path),
                complaints: self.complaints,
            };
            taken.extend(read(item));
        }
        Some(taken)
    }

    /// A list, or one item alone.
    pub fn one_or_many<T>(
        self,
        mut read: impl FnMut(Field<'n, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &self.node.value {
            Value::List(_) => self.list(read),
            _ => read(self).map(|only| vec![only]),
        }
    }

    /// A table whose names are the writer's own. Null is handed over like any other value.
    pub fn entries<T>(
        mut self,
        mut read: impl FnMut(&'n Key, Field<'n, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Table(entries) = &self.node.value else {
            self.expected("a table");
            return None;
        };
        let mut taken = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let field = Field {
                node,
                path: join(&self.path, &key.name),
                complaints: self.complaints,
            };
            taken.extend(read(key, field));
        }
        Some(taken)
    }
}

/// `workers` and `boefje` to `workers.boefje`; names that are no plain words are quoted.
pub(crate) fn join(path: &str, name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let shown = if !name.is_empty() && name.chars().count() <= 60 && name.chars().all(plain) {
        name.to_string()
    } else {
        format!("\"{}\"", short(name))
    };
    if path.is_empty() {
        shown
    } else {
        format!("{path}.{shown}")
    }
}

/// What is there, for the end of `expected …, found …`.
fn found(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing (null)".to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Int(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Text(text) => format!("the text \"{}\"", short(text)),
        Value::List(_) => "a list".to_string(),
        Value::Table(_) => "a table".to_string(),
    }
}
