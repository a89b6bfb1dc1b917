//! The type words of declared fields: `text`, `int?`, `list(text)`, `rel(network)?`, `many(port.host)`,
//! `list({port = "int", protocol = "text"})`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Field, Kind, Schema, Shape, Types};

/// What the word of a field says.
pub(super) fn read(field: &str, word: &str) -> Result<Field, String> {
    let mut words = Words {
        whole: word,
        rest: word,
        depth: 0,
    };
    let read = words.field(field)?;
    words.end()?;
    Ok(read)
}

struct Words<'a> {
    whole: &'a str,
    rest: &'a str,
    depth: usize,
}

impl Words<'_> {
    fn wrong(&self) -> String {
        format!(
            "`{}` is not a type; types are text int float bool date datetime ip list(T) rel(type) many(type) \
             many(type.field) list({{field = \"T\"}}), with ? for what may be None",
            self.whole
        )
    }

    fn field(&mut self, name: &str) -> Result<Field, String> {
        let kind = self.kind(name)?;
        let nullable = self.eat("?");
        Ok(Field { kind, nullable })
    }

    fn end(&mut self) -> Result<(), String> {
        self.space();
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn kind(&mut self, name: &str) -> Result<Kind, String> {
        self.depth += 1;
        if self.depth > 8 {
            return Err("nested too deep".to_owned());
        }
        let word = self.word();
        let kind = match word.as_str() {
            "text" => Kind::Text,
            "int" => Kind::Int,
            "float" => Kind::Float,
            "bool" => Kind::Bool,
            "date" => Kind::Date,
            "datetime" => Kind::DateTime,
            "ip" => Kind::Ip,
            "list" => {
                self.expect("(")?;
                let kind = if self.eat("{") {
                    Kind::Records(self.record(name)?)
                } else {
                    match self.kind(name)? {
                        Kind::One(object_type) => Kind::Many(object_type),
                        element => Kind::List(Box::new(element)),
                    }
                };
                self.expect(")")?;
                kind
            }
            "rel" => {
                self.expect("(")?;
                let object_type = self.word();
                self.expect(")")?;
                Kind::One(object_type)
            }
            "many" => {
                self.expect("(")?;
                let object_type = self.word();
                let field = self.eat(".").then(|| self.word());
                self.expect(")")?;
                match field {
                    None => Kind::Many(object_type),
                    Some(field) if field.is_empty() => return Err(self.wrong()),
                    Some(field) => Kind::Referrers { object_type, field },
                }
            }
            _ => return Err(self.wrong()),
        };
        if matches!(&kind, Kind::One(name) | Kind::Many(name) if name.is_empty()) {
            return Err(self.wrong());
        }
        self.depth -= 1;
        Ok(kind)
    }

    fn record(&mut self, name: &str) -> Result<Schema, String> {
        let mut declared = BTreeMap::new();
        loop {
            let field = self.word();
            if field.is_empty() {
                return Err(self.wrong());
            }
            if !(self.eat("=") || self.eat(":")) {
                return Err(self.wrong());
            }
            let quoted = self.eat("\"");
            let kind = self.field(&field)?;
            if quoted {
                self.expect("\"")?;
            }
            declared.insert(field, kind);
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Schema {
            shape: Arc::new(Shape {
                name: singular(name),
                fields: declared,
                built_in: BTreeMap::new(),
                open: false,
            }),
            types: Types::new(),
        })
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.eat(sign) {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn word(&mut self) -> String {
        self.space();
        let rest = self
            .rest
            .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let word = self.rest.strip_suffix(rest).unwrap_or("").to_owned();
        self.rest = rest;
        word
    }
}

pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name of one record of a list: `ports` holds what is called a port.
fn singular(name: &str) -> String {
    if let Some(stem) = name.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for ending in ["sses", "xes", "ches", "shes"] {
        if name.ends_with(ending) {
            return name.trim_end_matches("es").to_owned();
        }
    }
    match name.strip_suffix('s') {
        Some(stem) if !stem.is_empty() && !stem.ends_with('s') => stem.to_owned(),
        _ => name.to_owned(),
    }
}
