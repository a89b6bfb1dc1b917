//! `${name}` in the strings of a file, and entries that are made once for each item of a list.

use std::collections::BTreeMap;

use crate::document::{Complaints, Key, Node, Place, Value};

/// What `--var` gave.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    given: BTreeMap<String, String>,
}

impl Variables {
    /// Reads `name=value`.
    pub fn parse(pairs: &[String]) -> Result<Variables, String> {
        let mut given = BTreeMap::new();
        for pair in pairs {
            match pair.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    given.insert(name.to_owned(), value.to_owned());
                }
                _ => {
                    return Err(format!(
                        "`{pair}` is not a variable; write --var name=value"
                    ));
                }
            }
        }
        Ok(Variables { given })
    }

    /// The entry with its variables filled, once for each item of its `for_each`.
    pub fn fill(&self, entry: &Node, complaints: &mut Complaints) -> Vec<Node> {
        let Value::Table(fields) = &entry.value else {
            return vec![entry.clone()];
        };
        let Some((_, list)) = fields.iter().find(|(key, _)| key.name == "for_each") else {
            return self.filled(entry, None, complaints).into_iter().collect();
        };
        let rest: Vec<(Key, Node)> = fields
            .iter()
            .filter(|(key, _)| key.name != "for_each")
            .cloned()
            .collect();
        let rest = Node {
            value: Value::Table(rest),
            place: entry.place,
        };
        let Some(items) = self.items(list, complaints) else {
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| self.filled(&rest, Some(item), complaints))
            .collect()
    }

    /// A list of texts, or a variable that holds one with commas.
    fn items(&self, list: &Node, complaints: &mut Complaints) -> Option<Vec<String>> {
        let wrong = "for_each takes a list of texts, or a variable such as ${list} that holds them with commas";
        match &list.value {
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(text) => self.text(text, None, item.place, complaints),
                    Value::Int(number) => Some(number.to_string()),
                    _ => {
                        complaints.error(item.place, "for_each", wrong);
                        None
                    }
                })
                .collect(),
            Value::Text(text) => {
                let filled = self.text(text, None, list.place, complaints)?;
                Some(
                    filled
                        .split(',')
                        .map(|item| item.trim().to_owned())
                        .filter(|item| !item.is_empty())
                        .collect(),
                )
            }
            _ => {
                complaints.error(list.place, "for_each", wrong);
                None
            }
        }
    }

    fn filled(&self, node: &Node, each: Option<&str>, complaints: &mut Complaints) -> Option<Node> {
        let value = match &node.value {
            Value::Text(text) => Value::Text(self.text(text, each, node.place, complaints)?),
            Value::List(items) => Value::List(
                items
                    .iter()
                    .map(|item| self.filled(item, each, complaints))
                    .collect::<Option<_>>()?,
            ),
            Value::Table(fields) => Value::Table(
                fields
                    .iter()
                    .map(|(key, field)| Some((key.clone(), self.filled(field, each, complaints)?)))
                    .collect::<Option<_>>()?,
            ),
            other => other.clone(),
        };
        Some(Node {
            value,
            place: node.place,
        })
    }

    fn text(
        &self,
        text: &str,
        each: Option<&str>,
        place: Option<Place>,
        complaints: &mut Complaints,
    ) -> Option<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            if let Some(plain) = from.strip_prefix("$${") {
                filled.push_str("${");
                rest = plain;
            } else if let Some(open) = from.strip_prefix("${") {
                let Some((name, after)) = open.split_once('}') else {
                    complaints.error(
                        place,
                        "",
                        "`${` is not closed; write ${name}, or $${ for a plain one",
                    );
                    return None;
                };
                let value = match (name, each) {
                    ("each", Some(each)) => Some(each),
                    _ => self.given.get(name).map(String::as_str),
                };
                let Some(value) = value else {
                    let known: Vec<&str> = self.given.keys().map(String::as_str).collect();
                    complaints.error(
                        place,
                        "",
                        format!(
                            "the variable `{name}` has no value; give it by --var {name}=… (known here: {})",
                            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                        ),
                    );
                    return None;
                };
                filled.push_str(value);
                rest = after;
            } else {
                filled.push('$');
                rest = &from[1..];
            }
        }
        filled.push_str(rest);
        Some(filled)
    }
}
