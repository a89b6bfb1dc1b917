//! A narrow condition as SQL text and bound values, for PostgreSQL and SQLite.
//!
//! Values are bound and never printed. No `NOT` stands above a group, so a NULL is as good as false; where one test is
//! negated it is made two-valued first. Groups are balanced, because SQLite's parser has a stack of a hundred entries.

use serde_json::{Map, Value, json};

use super::{Column, Link, Narrow, Place, Probe};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

/// A value to bind. JSON travels as text and is cast where it is used.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    Text(String),
    Int(i64),
    Float(f64),
}

/// A condition for a WHERE clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Sql {
    pub text: String,
    pub values: Vec<Bound>,
}

/// Deeper than this a condition is left out, which only weakens it.
const DEPTH: usize = 24;
/// Up to so many values an `in` is a group of containments, which an index can serve.
const CONTAINMENTS: usize = 64;

impl Narrow {
    /// Writes the condition on rows of `object` that the statement calls `alias`; its first placeholder is `$first`.
    pub fn render(&self, dialect: Dialect, alias: &str, first: usize) -> Sql {
        self.written(dialect, alias, first, None)
    }

    /// The same for rows of one type of one organisation, which the statement asks for as well. Related rows are then looked for
    /// there first, and the subject by their keys, however badly the planner guesses their number.
    pub fn render_within(
        &self,
        organization: &str,
        object_type: &str,
        dialect: Dialect,
        alias: &str,
        first: usize,
    ) -> Sql {
        self.written(dialect, alias, first, Some((organization, object_type)))
    }

    fn written(
        &self,
        dialect: Dialect,
        alias: &str,
        first: usize,
        within: Option<(&str, &str)>,
    ) -> Sql {
        let within = within.filter(|(organization, _)| !organization.contains('\0'));
        let mut writer = Writer {
            dialect,
            first,
            organization: within.map(|(organization, _)| organization),
            subject: within.map(|(_, object_type)| object_type.to_owned()),
            values: Vec::new(),
            aliases: 0,
        };
        let text = writer.condition(self, alias, 0);
        Sql {
            text,
            values: writer.values,
        }
    }
}

struct Writer<'w> {
    dialect: Dialect,
    first: usize,
    organization: Option<&'w str>,
    /// The type of the rows that are written of, where it is known.
    subject: Option<String>,
    values: Vec<Bound>,
    aliases: usize,
}

impl Writer<'_> {
    fn bind(&mut self, value: Bound) -> String {
        self.values.push(value);
        format!("${}", self.first + self.values.len() - 1)
    }

    fn text(&mut self, text: &str) -> String {
        let place = self.bind(Bound::Text(text.to_owned()));
        match self.dialect {
            Dialect::Postgres => format!("CAST({place} AS text)"),
            Dialect::Sqlite => place,
        }
    }

    fn json(&mut self, value: &Value) -> String {
        let place = self.bind(Bound::Text(value.to_string()));
        format!("CAST({place} AS jsonb)")
    }

    fn alias(&mut self, letter: char) -> String {
        self.aliases += 1;
        format!("{letter}{}", self.aliases)
    }

    fn condition(&mut self, narrow: &Narrow, alias: &str, depth: usize) -> String {
        if depth > DEPTH {
            return "TRUE".to_owned();
        }
        match narrow {
            Narrow::Everything => "TRUE".to_owned(),
            Narrow::Nothing => "FALSE".to_owned(),
            Narrow::And(parts) => self.group(parts, " AND ", alias, depth),
            Narrow::Or(parts) => self.group(parts, " OR ", alias, depth),
            Narrow::Probe {
                place: Place::Column(column),
                probe,
                negated,
            } => self.column(*column, probe, *negated, alias),
            Narrow::Probe {
                place: Place::Attribute(path),
                probe,
                negated,
            } => self.attribute(path, probe, *negated, alias),
            Narrow::Holds { list, templates } => self.records(list, templates, alias),
            Narrow::Related {
                link,
                object_type,
                condition,
                inside,
            } => self.related(link, object_type, condition, inside, alias, depth),
        }
    }

    fn group(&mut self, parts: &[Narrow], joint: &str, alias: &str, depth: usize) -> String {
        match parts {
            [] => "TRUE".to_owned(),
            [only] => self.condition(only, alias, depth),
            _ => {
                let (left, right) = parts.split_at(parts.len() / 2);
                let left = self.group(left, joint, alias, depth + 1);
                let right = self.group(right, joint, alias, depth + 1);
                format!("({left}{joint}{right})")
            }
        }
    }

    fn column(&mut self, column: Column, probe: &Probe, negated: bool, alias: &str) -> String {
        let name = format!("{alias}.{}", column.name());
        if matches!(probe, Probe::Present) {
            return format!("{name} IS {}NULL", if negated { "" } else { "NOT " });
        }
        let bound = self.values.len();
        let test = if column == Column::ScanLevel {
            self.int_column(&name, probe)
        } else {
            self.text_column(&name, probe)
        };
        self.keep(bound, test.is_some());
        match (test, negated) {
            (Some(test), false) => test,
            (Some(test), true) => not(&test),
            (None, true) => "TRUE".to_owned(),
            (None, false) => format!("{name} IS NOT NULL"),
        }
    }

    /// The exact test, or nothing where it cannot be said exactly.
    fn int_column(&mut self, name: &str, probe: &Probe) -> Option<String> {
        let mut compare = |sign: &str, value: &Value| match value {
            Value::Number(number) if number.is_f64() => None,
            Value::Number(number) => {
                let place = self.bind(Bound::Int(number.as_i64()?));
                Some(format!("{name} {sign} {place}"))
            }
            _ => Some("FALSE".to_owned()),
        };
        match probe {
            Probe::Equals { value, .. } => compare("=", value),
            Probe::OneOf { values, .. } => {
                let tests: Option<Vec<String>> =
                    values.iter().map(|value| compare("=", value)).collect();
                Some(balanced(&tests?, " OR "))
            }
            Probe::Less {
                value, or_equal, ..
            } => compare(if *or_equal { "<=" } else { "<" }, value),
            Probe::Greater {
                value, or_equal, ..
            } => compare(if *or_equal { ">=" } else { ">" }, value),
            _ => Some("FALSE".to_owned()),
        }
    }

    fn text_column(&mut self, name: &str, probe: &Probe) -> Option<String> {
        match probe {
            Probe::Element(_) => Some("FALSE".to_owned()),
            probe => self.text_test(name, probe),
        }
    }

    /// A test of an expression that is text. A value that is no text equals none.
    fn text_test(&mut self, expression: &str, probe: &Probe) -> Option<String> {
        let plain = match self.dialect {
            Dialect::Postgres => format!("({expression}) COLLATE \"C\""),
            Dialect::Sqlite => expression.to_owned(),
        };
        let lower = format!("lower({plain})");
        let side = |folded: bool| if folded { lower.clone() } else { plain.clone() };
        let never = || Some("FALSE".to_owned());
        let mut compare = |sign: &str, value: &Value, folded: bool| match value {
            Value::String(text) => {
                let side = side(folded);
                let place = self.text(text);
                Some(format!("{side} {sign} {place}"))
            }
            _ => never(),
        };
        match probe {
            Probe::Equals { value, folded } => compare("=", value, *folded),
            Probe::OneOf { values, folded } => {
                let tests: Option<Vec<String>> = values
                    .iter()
                    .map(|value| compare("=", value, *folded))
                    .collect();
                Some(balanced(&tests?, " OR "))
            }
            Probe::Less {
                value,
                or_equal,
                folded,
            } => compare(if *or_equal { "<=" } else { "<" }, value, *folded),
            Probe::Greater {
                value,
                or_equal,
                folded,
            } => compare(if *or_equal { ">=" } else { ">" }, value, *folded),
            Probe::Contains(text) | Probe::StartsWith(text) | Probe::EndsWith(text)
                if text.is_empty() =>
            {
                Some(format!("{expression} IS NOT NULL"))
            }
            Probe::Contains(text) => {
                let place = self.text(text);
                Some(match self.dialect {
                    Dialect::Postgres => format!("position({place} IN {lower}) > 0"),
                    Dialect::Sqlite => format!("instr({lower}, {place}) > 0"),
                })
            }
            Probe::StartsWith(text) => {
                let length = text.chars().count();
                let place = self.text(text);
                Some(match self.dialect {
                    Dialect::Postgres => format!("left({lower}, {length}) = {place}"),
                    Dialect::Sqlite => format!("substr({lower}, 1, {length}) = {place}"),
                })
            }
            Probe::EndsWith(text) => {
                let length = text.chars().count();
                let place = self.text(text);
                Some(match self.dialect {
                    Dialect::Postgres => format!("right({lower}, {length}) = {place}"),
                    Dialect::Sqlite => format!("substr({lower}, -{length}) = {place}"),
                })
            }
            Probe::Present | Probe::Element(_) => None,
        }
    }

    fn attribute(&mut self, path: &[String], probe: &Probe, negated: bool, alias: &str) -> String {
        let test = match self.dialect {
            Dialect::Postgres => self.postgres(path, probe, negated, alias),
            Dialect::Sqlite => self.sqlite(path, probe, negated, alias),
        };
        // A list on the way is gone through by the judge alone.
        let lists: Vec<String> = (1..path.len())
            .map(|length| {
                let (_, kind) = self.at(alias, path.get(..length).unwrap_or(path));
                format!("{kind} = 'array'")
            })
            .collect();
        if lists.is_empty() || test == "TRUE" {
            return test;
        }
        format!("({test} OR {})", balanced(&lists, " OR "))
    }

    /// The value at a path as JSON (or as SQL's own, on SQLite), and the name of its type.
    fn at(&self, alias: &str, path: &[String]) -> (String, String) {
        match self.dialect {
            Dialect::Postgres => {
                let value = match path {
                    [name] => format!("{alias}.attributes -> '{name}'"),
                    _ => format!("{alias}.attributes #> '{{{}}}'", path.join(",")),
                };
                let kind = format!("jsonb_typeof({value})");
                (value, kind)
            }
            Dialect::Sqlite => {
                let path = sqlite_path(path);
                (
                    format!("json_extract({alias}.attributes, '{path}')"),
                    format!("json_type({alias}.attributes, '{path}')"),
                )
            }
        }
    }

    fn postgres(&mut self, path: &[String], probe: &Probe, negated: bool, alias: &str) -> String {
        let (value, kind) = self.at(alias, path);
        let text = value.replacen("->", "->>", 1).replacen("#>", "#>>", 1);
        let contains = |writer: &mut Self, wanted: &Value| {
            let nested = path.iter().rev().fold(wanted.clone(), |inner, name| {
                Value::Object(super::template(name, inner))
            });
            let json = writer.json(&nested);
            format!("{alias}.attributes @> {json}")
        };
        let test = match probe {
            Probe::Present if negated => {
                return format!("coalesce({kind}, 'null') IN ('null', 'array')");
            }
            Probe::Present => return format!("coalesce({kind}, 'null') <> 'null'"),
            Probe::Element(wanted) => contains(self, &json!([wanted])),
            Probe::Equals {
                value: wanted,
                folded,
            } if !(*folded && wanted.is_string()) => contains(self, wanted),
            Probe::OneOf {
                values,
                folded: false,
            } if values.len() <= CONTAINMENTS => {
                let tests: Vec<String> =
                    values.iter().map(|wanted| contains(self, wanted)).collect();
                balanced(&tests, " OR ")
            }
            Probe::OneOf {
                values,
                folded: false,
            } => {
                let places: Vec<String> = values.iter().map(|wanted| self.json(wanted)).collect();
                format!("{value} IN ({})", places.join(", "))
            }
            Probe::Less {
                value: Value::Number(number),
                or_equal,
                ..
            } => {
                let sign = if *or_equal { "<=" } else { "<" };
                let place = self.json(&Value::Number(number.clone()));
                format!("({kind} = 'number' AND {value} {sign} {place})")
            }
            Probe::Greater {
                value: Value::Number(number),
                or_equal,
                ..
            } => {
                let sign = if *or_equal { ">=" } else { ">" };
                let place = self.json(&Value::Number(number.clone()));
                format!("({kind} = 'number' AND {value} {sign} {place})")
            }
            probe => match self.text_test(&text, probe) {
                // What is no string may pass here as its own text; that is for the judge. The complement must be exact.
                Some(test) if negated => format!("({kind} = 'string' AND {test})"),
                Some(test) => test,
                None => return "TRUE".to_owned(),
            },
        };
        if negated { not(&test) } else { test }
    }

    fn sqlite(&mut self, path: &[String], probe: &Probe, negated: bool, alias: &str) -> String {
        let bound = self.values.len();
        let (value, kind) = self.at(alias, path);
        let test = match probe {
            Probe::Present if negated => {
                return format!("coalesce({kind}, 'null') IN ('null', 'array')");
            }
            Probe::Present => return format!("coalesce({kind}, 'null') <> 'null'"),
            Probe::Element(wanted) => {
                let each = self.alias('e');
                let test = self.sqlite_equal(
                    &format!("{each}.value"),
                    &format!("{each}.type"),
                    wanted,
                    negated,
                );
                let path = sqlite_path(path);
                test.map(|test| {
                    format!(
                        "({kind} = 'array' AND EXISTS (SELECT 1 FROM json_each({alias}.attributes, '{path}') {each} \
                         WHERE {test}))"
                    )
                })
            }
            Probe::Equals {
                value: wanted,
                folded,
            } if !(*folded && wanted.is_string()) => {
                self.sqlite_equal(&value, &kind, wanted, negated)
            }
            Probe::OneOf {
                values,
                folded: false,
            } => {
                let tests: Option<Vec<String>> = values
                    .iter()
                    .map(|wanted| self.sqlite_equal(&value, &kind, wanted, negated))
                    .collect();
                tests.map(|tests| balanced(&tests, " OR "))
            }
            Probe::Less {
                value: Value::Number(number),
                or_equal,
                ..
            } => self.sqlite_order(&value, &kind, number, (true, *or_equal), negated),
            Probe::Greater {
                value: Value::Number(number),
                or_equal,
                ..
            } => self.sqlite_order(&value, &kind, number, (false, *or_equal), negated),
            probe => self
                .text_test(&value, probe)
                .map(|test| format!("({kind} = 'text' AND {test})")),
        };
        self.keep(bound, test.is_some());
        match test {
            Some(test) if negated => not(&test),
            Some(test) => test,
            None => "TRUE".to_owned(),
        }
    }

    /// Forgets what was bound for a test that came to nothing: a value without a place is an error.
    fn keep(&mut self, bound: usize, used: bool) {
        if !used {
            self.values.truncate(bound);
        }
    }

    /// Equality on SQLite. It reads decimals with an error of its own, so these are met with a margin, and a negated
    /// test speaks of ints alone.
    fn sqlite_equal(
        &mut self,
        value: &str,
        kind: &str,
        wanted: &Value,
        negated: bool,
    ) -> Option<String> {
        match wanted {
            Value::Bool(truth) => Some(format!("{kind} = '{truth}'")),
            Value::String(text) => {
                let place = self.text(text);
                Some(format!("({kind} = 'text' AND {value} = {place})"))
            }
            Value::Number(number) => match number.as_i64() {
                Some(int) => {
                    let place = self.bind(Bound::Int(int));
                    let kinds = if negated {
                        "= 'integer'"
                    } else {
                        "IN ('integer', 'real')"
                    };
                    Some(format!("({kind} {kinds} AND {value} = {place})"))
                }
                None if negated => None,
                None => {
                    let (low, high) = margin(number.as_f64()?);
                    let low = self.bind(Bound::Float(low));
                    let high = self.bind(Bound::Float(high));
                    Some(format!(
                        "({kind} IN ('integer', 'real') AND {value} BETWEEN {low} AND {high})"
                    ))
                }
            },
            _ => None,
        }
    }

    /// `(less, or equal)` on SQLite, with the same margins.
    fn sqlite_order(
        &mut self,
        value: &str,
        kind: &str,
        number: &serde_json::Number,
        (less, or_equal): (bool, bool),
        negated: bool,
    ) -> Option<String> {
        let sign = if less { "<" } else { ">" };
        match number.as_i64() {
            Some(int) if negated => {
                let equal = if or_equal { "=" } else { "" };
                let place = self.bind(Bound::Int(int));
                Some(format!(
                    "({kind} = 'integer' AND {value} {sign}{equal} {place})"
                ))
            }
            None if negated => None,
            int => {
                let place = match int {
                    Some(int) => self.bind(Bound::Int(int)),
                    None => {
                        let (low, high) = margin(number.as_f64()?);
                        self.bind(Bound::Float(if less { high } else { low }))
                    }
                };
                Some(format!(
                    "({kind} IN ('integer', 'real') AND {value} {sign}= {place})"
                ))
            }
        }
    }

    /// `any(list: …)` over records.
    fn records(&mut self, list: &str, templates: &[Map<String, Value>], alias: &str) -> String {
        match self.dialect {
            Dialect::Postgres => {
                let tests: Vec<String> = templates
                    .iter()
                    .map(|template| {
                        let json = self.json(&json!({ list: [template] }));
                        format!("{alias}.attributes @> {json}")
                    })
                    .collect();
                balanced(&tests, " OR ")
            }
            Dialect::Sqlite => {
                let each = self.alias('e');
                let tests: Vec<String> = templates
                    .iter()
                    .map(|template| self.sqlite_template(&each, template))
                    .collect();
                let tests = balanced(&tests, " OR ");
                let path = sqlite_path(&[list.to_owned()]);
                format!(
                    "EXISTS (SELECT 1 FROM json_each({alias}.attributes, '{path}') {each} \
                     WHERE {each}.type = 'object' AND {tests})"
                )
            }
        }
    }

    fn sqlite_template(&mut self, each: &str, template: &Map<String, Value>) -> String {
        let tests: Vec<String> = template
            .iter()
            .filter_map(|(name, wanted)| {
                let path = sqlite_path(std::slice::from_ref(name));
                let value = format!("json_extract({each}.value, '{path}')");
                let kind = format!("json_type({each}.value, '{path}')");
                self.sqlite_equal(&value, &kind, wanted, false)
            })
            .collect();
        balanced(&tests, " AND ")
    }

    fn related(
        &mut self,
        link: &Link,
        object_type: &str,
        condition: &Narrow,
        inside: &[Map<String, Value>],
        alias: &str,
        depth: usize,
    ) -> String {
        let other = self.alias('r');
        let kind = self.text(object_type);
        let organization = self.organization.map(|name| self.text(name));
        let subject = self.subject.replace(object_type.to_owned());
        let mut test = self.condition(condition, &other, depth + 4);
        self.subject.clone_from(&subject);
        if let Some(organization) = &organization {
            test = format!("{other}.organization = {organization} AND {test}");
        }
        match (link, self.dialect) {
            // From the related rows to the keys that their field holds, and so to the subject by its key.
            (Link::Back(field), Dialect::Postgres) => {
                let key = self.alias('k');
                let value = format!("{other}.attributes -> '{field}'");
                format!(
                    "({alias}.organization, {alias}.primary_key) IN (SELECT {other}.organization, {key}.value \
                     FROM object {other} CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof({value}) \
                     WHEN 'array' THEN {value} WHEN 'string' THEN jsonb_build_array({value}) ELSE '[]'::jsonb END) \
                     {key} WHERE {other}.object_type = {kind} AND {test})"
                )
            }
            (Link::Back(field), Dialect::Sqlite) => {
                let key = self.alias('k');
                let path = sqlite_path(std::slice::from_ref(field));
                format!(
                    "({alias}.organization, {alias}.primary_key) IN (SELECT {other}.organization, {key}.value \
                     FROM object {other}, json_each({other}.attributes, '{path}') {key} \
                     WHERE {other}.object_type = {kind} AND {test})"
                )
            }
            (Link::Forward(name), Dialect::Postgres) => {
                let (from, whole) = (self.alias('s'), self.alias('s'));
                let embedded = self.embedded(name, inside, &whole);
                // Their type, for the index that is of one type.
                let subject = subject.map(|subject| self.text(&subject));
                let of_type = |alias: &str| match &subject {
                    Some(subject) => format!("{alias}.object_type = {subject} AND "),
                    None => String::new(),
                };
                let (from_type, whole_type) = (of_type(&from), of_type(&whole));
                let joined = format!(
                    "FROM object {other} JOIN object {from} ON {from}.organization = {other}.organization AND \
                     ({from}.attributes @> jsonb_build_object('{name}', {other}.primary_key) OR \
                     {from}.attributes @> jsonb_build_object('{name}', jsonb_build_array({other}.primary_key))) \
                     WHERE {from_type}{other}.object_type = {kind} AND {test}"
                );
                match organization {
                    Some(organization) => format!(
                        "{alias}.primary_key = ANY(ARRAY(SELECT {from}.primary_key {joined} UNION ALL \
                         SELECT {whole}.primary_key FROM object {whole} \
                         WHERE {whole_type}{whole}.organization = {organization} AND {embedded}))"
                    ),
                    None => format!(
                        "({alias}.organization, {alias}.primary_key) IN (SELECT {from}.organization, \
                         {from}.primary_key {joined} UNION ALL \
                         SELECT {whole}.organization, {whole}.primary_key FROM object {whole} WHERE {whole_type}{embedded})"
                    ),
                }
            }
            (Link::Forward(name), Dialect::Sqlite) => {
                let (key, each) = (self.alias('k'), self.alias('e'));
                let path = sqlite_path(std::slice::from_ref(name));
                let at = format!("{alias}.attributes, '{path}'");
                format!(
                    "(EXISTS (SELECT 1 FROM object {other} WHERE {other}.organization = {alias}.organization AND \
                     {other}.object_type = {kind} AND {other}.primary_key IN \
                     (SELECT {key}.value FROM json_each({at}) {key}) AND {test}) \
                     OR coalesce(json_type({at}) = 'object' OR json_type({at}) = 'array' AND \
                     EXISTS (SELECT 1 FROM json_each({at}) {each} WHERE {each}.type = 'object'), FALSE))"
                )
            }
        }
    }

    /// A related object that stands in the subject itself.
    fn embedded(&mut self, name: &str, inside: &[Map<String, Value>], alias: &str) -> String {
        if inside.is_empty() {
            return format!(
                "jsonb_path_exists({alias}.attributes, '$.\"{name}\"[*] ? (@.type() == \"object\")')"
            );
        }
        let tests: Vec<String> = inside
            .iter()
            .flat_map(|template| [json!({ name: template }), json!({ name: [template] })])
            .map(|wanted| {
                let json = self.json(&wanted);
                format!("{alias}.attributes @> {json}")
            })
            .collect();
        // In parentheses also when it is one test, because it stands beside an AND.
        format!("({})", balanced(&tests, " OR "))
    }
}

fn sqlite_path(names: &[String]) -> String {
    let mut path = String::from("$");
    for name in names {
        path.push_str(&format!(".\"{name}\""));
    }
    path
}

/// The complement of a test that may be NULL.
fn not(test: &str) -> String {
    match test {
        "FALSE" => "TRUE".to_owned(),
        "TRUE" => "FALSE".to_owned(),
        _ => format!("NOT coalesce({test}, FALSE)"),
    }
}

/// Joins tests as a balanced tree.
fn balanced(tests: &[String], joint: &str) -> String {
    match tests {
        [] => "TRUE".to_owned(),
        [only] => only.clone(),
        _ => {
            let (left, right) = tests.split_at(tests.len() / 2);
            format!(
                "({}{joint}{})",
                balanced(left, joint),
                balanced(right, joint)
            )
        }
    }
}

/// A little to both sides of a decimal, more than any reader of its text is off.
fn margin(number: f64) -> (f64, f64) {
    let width = number.abs() * 1e-14 + f64::MIN_POSITIVE;
    (number - width, number + width)
}
