//! What a query may name: the fields of types, and what each of them holds.
//!
//! A type with declared fields is closed: what it does not declare cannot be asked for. A type without is open: its
//! attributes are dynamic, and have the type of the value found. Relations lead from one type to another, so a
//! [`Schema`] carries the registry that it came from.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

/// What a field holds.
#[derive(Clone, Debug)]
pub enum Kind {
    Text,
    Int,
    Float,
    Bool,
    Date,
    DateTime,
    Ip,
    List(Box<Kind>),
    /// Records inside the object; the schema is that of one record.
    Records(Schema),
    /// A related object: its key, or the object itself.
    One(String),
    /// A list of these.
    Many(String),
    /// Every object of a type whose field points here.
    Referrers {
        object_type: String,
        field: String,
    },
    /// Whatever is found.
    Dynamic,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub kind: Kind,
    pub nullable: bool,
}

impl Field {
    fn plain(kind: Kind) -> Field {
        Field {
            kind,
            nullable: false,
        }
    }

    fn nullable(kind: Kind) -> Field {
        Field {
            kind,
            nullable: true,
        }
    }
}

impl Kind {
    /// A list field or to-many path: what has elements.
    pub fn is_many(&self) -> bool {
        matches!(
            self,
            Kind::List(_) | Kind::Records(_) | Kind::Many(_) | Kind::Referrers { .. }
        )
    }

    /// "an int", "a list of strings", "a related network".
    pub fn phrase(&self) -> String {
        match self {
            Kind::Text => "a string".to_owned(),
            Kind::Int => "an int".to_owned(),
            Kind::Float => "a float".to_owned(),
            Kind::Bool => "a boolean".to_owned(),
            Kind::Date => "a date".to_owned(),
            Kind::DateTime => "a datetime".to_owned(),
            Kind::Ip => "an IP address".to_owned(),
            Kind::List(element) => format!("a list of {}", element.plural()),
            Kind::Records(schema) => format!("a list of {}", plural(schema.name())),
            Kind::One(object_type) => format!("a related {object_type}"),
            Kind::Many(object_type) | Kind::Referrers { object_type, .. } => {
                format!("a list of related {}", plural(object_type))
            }
            Kind::Dynamic => "of the type of its value".to_owned(),
        }
    }

    fn plural(&self) -> String {
        match self {
            Kind::Text => "strings".to_owned(),
            Kind::Int => "ints".to_owned(),
            Kind::Float => "floats".to_owned(),
            Kind::Bool => "booleans".to_owned(),
            Kind::Date => "dates".to_owned(),
            Kind::DateTime => "datetimes".to_owned(),
            Kind::Ip => "IP addresses".to_owned(),
            Kind::List(element) => format!("lists of {}", element.plural()),
            Kind::Dynamic => "values".to_owned(),
            other => other.phrase(),
        }
    }
}

/// The plural of a type's name, as English has it in the regular case.
pub(crate) fn plural(name: &str) -> String {
    let words = name.replace('_', " ");
    if words.ends_with(['s', 'x', 'z']) || words.ends_with("ch") || words.ends_with("sh") {
        return words + "es";
    }
    match words.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ => words + "s",
    }
}

/// The fields of one type.
#[derive(Clone, Debug)]
pub struct Schema {
    shape: Arc<Shape>,
    types: Types,
}

#[derive(Debug)]
struct Shape {
    name: String,
    fields: BTreeMap<String, Field>,
    /// Known without being declared, and not listed in diagnostics.
    built_in: BTreeMap<String, Field>,
    open: bool,
}

type Entries<'a> = &'a [(&'a [&'a str], Field)];

fn fields(entries: Entries<'_>) -> BTreeMap<String, Field> {
    let mut fields = BTreeMap::new();
    for (names, field) in entries {
        for name in *names {
            fields.insert((*name).to_owned(), field.clone());
        }
    }
    fields
}

/// What every object has.
fn of_every_object() -> BTreeMap<String, Field> {
    fields(&[
        (
            &["primary_key", "object_type", "organization"],
            Field::plain(Kind::Text),
        ),
        (&["scan_level"], Field::nullable(Kind::Int)),
        (&["scan_profile_type"], Field::nullable(Kind::Text)),
    ])
}

/// What a file has besides.
fn of_every_file() -> BTreeMap<String, Field> {
    let mut all = of_every_object();
    all.extend(fields(&[
        (
            &["mime_types"],
            Field::plain(Kind::List(Box::new(Kind::Text))),
        ),
        (
            &["plugin_id", "task_id", "input_type", "input_key"],
            Field::nullable(Kind::Text),
        ),
        (&["started_at", "ended_at"], Field::nullable(Kind::DateTime)),
    ]));
    all
}

impl Schema {
    fn closed(name: &str, entries: Entries<'_>) -> Schema {
        Schema {
            shape: Arc::new(Shape {
                name: name.to_owned(),
                fields: fields(entries),
                built_in: BTreeMap::new(),
                open: false,
            }),
            types: Types::new(),
        }
    }

    /// A plugin of the catalogue.
    pub fn plugin() -> Schema {
        let texts = || Kind::List(Box::new(Kind::Text));
        Schema::closed(
            "plugin",
            &[
                (
                    &["plugin_id", "name", "worker_type"],
                    Field::plain(Kind::Text),
                ),
                (
                    &[
                        "description",
                        "version",
                        "oci_image",
                        "runtime",
                        "artefact",
                        "recurrences",
                    ],
                    Field::nullable(Kind::Text),
                ),
                (&["scan_level", "batch_size"], Field::nullable(Kind::Int)),
                (
                    &["consumes", "produces", "oci_arguments", "input_types"],
                    Field::plain(texts()),
                ),
                (&["enabled", "idempotent"], Field::plain(Kind::Bool)),
                (&["created_at"], Field::plain(Kind::DateTime)),
            ],
        )
    }

    /// A raw file. What it carries besides its own fields is dynamic.
    pub fn file() -> Schema {
        Types::new().schema("file")
    }

    /// A run that finished.
    pub fn run() -> Schema {
        Schema::closed(
            "run",
            &[
                (
                    &["organization", "state", "cause"],
                    Field::plain(Kind::Text),
                ),
                (
                    &["schedule", "plugin_id", "reason", "target"],
                    Field::nullable(Kind::Text),
                ),
                (&["total", "done", "failed"], Field::plain(Kind::Int)),
            ],
        )
    }

    /// A task that finished.
    pub fn task() -> Schema {
        Schema::closed(
            "task",
            &[
                (
                    &["organization", "state", "cause", "plugin_id"],
                    Field::plain(Kind::Text),
                ),
                (
                    &["schedule", "reason", "target"],
                    Field::nullable(Kind::Text),
                ),
            ],
        )
    }

    /// Rows that people list: a name and a type word for each column.
    pub fn of_rows(name: &str, columns: &[(&str, &str)]) -> Schema {
        let fields = columns
            .iter()
            .filter_map(|(column, word)| {
                Some(((*column).to_owned(), words::read(column, word).ok()?))
            })
            .collect();
        Schema {
            shape: Arc::new(Shape {
                name: name.to_owned(),
                fields,
                built_in: BTreeMap::new(),
                open: false,
            }),
            types: Types::new(),
        }
    }

    /// A type without declared fields.
    pub fn open(object_type: &str) -> Schema {
        Types::new().schema(object_type)
    }

    pub fn name(&self) -> &str {
        &self.shape.name
    }

    /// Whether attributes that nobody declared may be asked for.
    pub fn is_open(&self) -> bool {
        self.shape.open
    }

    pub fn field(&self, name: &str) -> Option<Field> {
        self.shape
            .fields
            .get(name)
            .or_else(|| self.shape.built_in.get(name))
            .cloned()
            .or_else(|| self.shape.open.then(|| Field::nullable(Kind::Dynamic)))
    }

    /// The type that a relation leads to, by this schema's registry.
    pub fn related(&self, object_type: &str) -> Schema {
        self.types.schema(object_type)
    }

    /// A record's fields, with relations resolved where the record is.
    pub(crate) fn containing(&self, record: &Schema) -> Schema {
        Schema {
            shape: Arc::clone(&record.shape),
            types: self.types.clone(),
        }
    }

    /// The names that a suggestion may offer.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        let names = self.shape.fields.keys().chain(self.shape.built_in.keys());
        names.map(String::as_str)
    }

    pub(crate) fn declared(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.shape
            .fields
            .iter()
            .map(|(name, field)| (name.as_str(), field))
    }

    /// Whether a record of a list, which has no identity of its own.
    pub(crate) fn is_record(&self) -> bool {
        !self.shape.open && self.shape.built_in.is_empty()
    }
}

/// The declared object types.
#[derive(Clone, Debug, Default)]
pub struct Types {
    shapes: Arc<BTreeMap<String, Arc<Shape>>>,
}

impl Types {
    pub fn new() -> Types {
        Types::default()
    }

    /// Declares a type by its fields in type words (`text`, `int?`, `list(text)`, `rel(network)?`, `many(port.host)`,
    /// `list({port = "int", protocol = "text"})`). Without fields the type is known and open.
    pub fn declare(&mut self, name: &str, declaration: &[(&str, &str)]) -> Result<(), String> {
        let mut declared = BTreeMap::new();
        for (field, word) in declaration {
            let wrong = |why: String| format!("field `{field}` of `{name}`: {why}");
            if matches!(*field, "trigger" | "previous") {
                return Err(wrong(
                    "the name is taken: queries call the triggering object so".to_owned(),
                ));
            }
            if !words::is_identifier(field) {
                return Err(wrong(
                    "a name is made of letters, digits and `_`, and does not start with a digit"
                        .to_owned(),
                ));
            }
            let read = words::read(field, word).map_err(wrong)?;
            if declared.insert((*field).to_owned(), read).is_some() {
                return Err(wrong("declared twice".to_owned()));
            }
        }
        let shape = Shape {
            name: name.to_owned(),
            open: declaration.is_empty(),
            fields: declared,
            built_in: built_in(name),
        };
        Arc::make_mut(&mut self.shapes).insert(name.to_owned(), Arc::new(shape));
        Ok(())
    }

    /// The schema of a type. One that was not declared is open; `run` and `task` are muster's own.
    pub fn schema(&self, name: &str) -> Schema {
        let shape = match self.shapes.get(name) {
            Some(shape) => Arc::clone(shape),
            None if name == "run" => Schema::run().shape,
            None if name == "task" => Schema::task().shape,
            None => Arc::new(Shape {
                name: name.to_owned(),
                fields: BTreeMap::new(),
                built_in: built_in(name),
                open: true,
            }),
        };
        Schema {
            shape,
            types: self.clone(),
        }
    }

    pub fn knows(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// The types on either end of a declared relation.
    pub fn related(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (name, shape) in self.shapes.iter() {
            for field in shape.fields.values() {
                if let Kind::One(other)
                | Kind::Many(other)
                | Kind::Referrers {
                    object_type: other, ..
                } = &field.kind
                {
                    found.extend([name.clone(), other.clone()]);
                }
            }
        }
        found
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }
}

fn built_in(object_type: &str) -> BTreeMap<String, Field> {
    if object_type == "file" {
        of_every_file()
    } else {
        of_every_object()
    }
}

/// The parameters that a query may name, with their types.
#[derive(Clone, Debug, Default)]
pub struct ParameterTypes {
    kinds: BTreeMap<String, Kind>,
}

impl ParameterTypes {
    pub fn none() -> ParameterTypes {
        ParameterTypes::default()
    }

    /// The types that the values of a schedule's `parameters` have.
    pub fn of(values: &Map<String, Value>) -> ParameterTypes {
        ParameterTypes {
            kinds: values
                .iter()
                .map(|(name, value)| (name.clone(), kind_of(value)))
                .collect(),
        }
    }

    pub fn with(mut self, name: &str, kind: Kind) -> ParameterTypes {
        self.kinds.insert(name.to_owned(), kind);
        self
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }
}

fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Null | Value::Object(_) => Kind::Dynamic,
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_f64() => Kind::Float,
        Value::Number(_) => Kind::Int,
        Value::String(_) => Kind::Text,
        Value::Array(items) => {
            let mut kinds = items.iter().filter(|item| !item.is_null()).map(kind_of);
            let first = kinds.next().unwrap_or(Kind::Dynamic);
            let word = first.phrase();
            let alike = kinds.all(|kind| kind.phrase() == word);
            Kind::List(Box::new(if alike { first } else { Kind::Dynamic }))
        }
    }
}

/// The object sets that `in_set(…)` may name.
#[derive(Clone, Copy, Debug, Default)]
pub enum KnownSets<'a> {
    /// Nobody knows yet: any name is taken.
    #[default]
    Any,
    Only(&'a BTreeSet<String>),
}

/// What a query is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where the query stands, as diagnostics show it: "plugins", "input.hostname", "when".
    pub label: &'a str,
    pub schema: &'a Schema,
    /// The type of the object that fires the schedule, where there is one.
    pub trigger: Option<&'a Schema>,
    /// Whether that object's state before the event may be asked for.
    pub previous: bool,
    pub parameters: &'a ParameterTypes,
    pub sets: KnownSets<'a>,
}

impl<'a> Context<'a> {
    /// A context with a subject and nothing besides.
    pub fn new(label: &'a str, schema: &'a Schema) -> Context<'a> {
        static NONE: ParameterTypes = ParameterTypes {
            kinds: BTreeMap::new(),
        };
        Context {
            label,
            schema,
            trigger: None,
            previous: false,
            parameters: &NONE,
            sets: KnownSets::Any,
        }
    }

    /// What `previous.` stands for: an earlier state of what fired the schedule, which in `when` is the subject itself.
    pub(crate) fn previous_schema(&self) -> Option<&'a Schema> {
        self.previous.then(|| self.trigger.unwrap_or(self.schema))
    }
}
