//! What file and environment say, resolved once into [`Settings`].
//!
//! `written` reads the tables of a file into them, `environment` lays variables over the file before that, and
//! `together` looks at values that are right alone and wrong beside each other. [`KEYS`] is every key there is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::document::{Complaint, Complaints, Document, Node, Place, Value, about, join, utf8};
use crate::moment::Span;
pub use crate::policy::{
    Acknowledge, Defaults, Envelope, Format, LevelGate, ObjectTypeSettings, Order, Rank, Retry,
    Split, Timeouts, WorkerSettings,
};
pub use environment::{KEYS, Kind, variable, variables};
pub use schema::{DOCUMENT, schema};
pub use secret::{Secret, Url};
pub use work::WorkSettings;

mod environment;
mod schema;
mod secret;
mod together;
mod work;
mod written;

/// The queue of native events, which is always read.
pub const EVENTS: &str = "muster.events";

/// Everything an operator can choose. `Default` is what holds where nothing is written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Take events of types that are not declared, although some are.
    pub open_types: bool,
    /// Make an organisation of every name that an event brings.
    pub open_organizations: bool,
    /// Refuse commands and statuses without a signature.
    pub require_signatures: bool,
    pub store: StoreSettings,
    pub bus: BusSettings,
    pub defaults: Defaults,
    pub retention: Retention,
    pub metrics: MetricsSettings,
    pub lifecycle: LifecycleSettings,
    /// Those that are named; [`Settings::worker`] answers for the others too.
    pub workers: BTreeMap<String, WorkerSettings>,
    pub object_types: BTreeMap<String, ObjectTypeSettings>,
    pub plugin_recurrences: PluginRecurrences,
    pub keys: Vec<KeySettings>,
    pub work: WorkSettings,
    pub log: LogSettings,
    origins: Origins,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    pub url: Url,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSettings {
    pub url: Url,
    /// The queues to read events from, [`EVENTS`] first.
    pub intake: Vec<IntakeSettings>,
    /// Messages that a broker may hand over before earlier ones are settled.
    pub prefetch: u16,
    pub batch: BatchSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntakeSettings {
    pub queue: String,
    pub order: Order,
    pub format: Format,
}

/// When a batch of messages becomes a transaction: at so many, or after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    pub count: usize,
    pub linger: Span,
}

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub tasks: Span,
    pub runs: Span,
    /// So many ended runs of each schedule, organisation and target; 0: however many there are.
    pub runs_each: i64,
    pub events: Span,
    pub versions: Span,
    pub tombstones: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    pub file: Option<PathBuf>,
    pub push: Option<Url>,
    pub every: Span,
}

/// Whether the life of runs, tasks and schedules is told on the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifecycleSettings {
    pub enabled: bool,
}

/// How the recurrences that plugins bring along are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRecurrences {
    pub timezone: String,
    pub spread: Span,
}

/// A key that signs for its organisations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    pub id: String,
    pub secret: Secret,
    pub organizations: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub format: LogFormat,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// A line for each step of an event and its tasks, whatever the level is.
    pub trail: bool,
}

impl LogSettings {
    /// What is let through.
    pub fn filter(&self) -> String {
        match self.trail {
            true => format!("{},muster::trace=debug", self.level),
            false => self.level.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Settings {
        let days = |days: i64| Span::seconds(days * 86_400);
        Settings {
            open_types: false,
            open_organizations: true,
            require_signatures: false,
            store: StoreSettings {
                url: Url::fixed("sqlite:muster.db"),
            },
            bus: BusSettings {
                url: Url::fixed("lines:"),
                intake: vec![IntakeSettings {
                    queue: EVENTS.to_string(),
                    order: Order::Time,
                    format: Format::CloudEvents,
                }],
                prefetch: 1000,
                batch: BatchSettings {
                    count: 250,
                    linger: Span::from_micros(5_000),
                },
            },
            defaults: Defaults::default(),
            retention: Retention {
                tasks: days(30),
                runs: days(90),
                runs_each: 0,
                events: days(7),
                versions: days(90),
                tombstones: days(30),
            },
            metrics: MetricsSettings {
                file: None,
                push: None,
                every: Span::seconds(10),
            },
            lifecycle: LifecycleSettings::default(),
            workers: BTreeMap::new(),
            object_types: BTreeMap::new(),
            plugin_recurrences: PluginRecurrences {
                timezone: "UTC".to_string(),
                spread: Span::ZERO,
            },
            keys: Vec::new(),
            work: WorkSettings::default(),
            log: LogSettings {
                format: LogFormat::Text,
                level: "info".to_string(),
                trail: false,
            },
            origins: Origins::default(),
        }
    }
}

impl Settings {
    /// From the file that `path` names, else `MUSTER_CONFIG`, else `./muster.toml` if there is one, else the defaults;
    /// with the variables of the environment over it. Answers with warnings, or with everything that is wrong.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(Settings, Vec<Complaint>), Vec<Complaint>> {
        let variables: Vec<(String, String)> = environment.collect();
        let document = open(path, &variables).map_err(|complaint| vec![complaint])?;
        Settings::read(&document, variables)
    }

    /// The same without a file system.
    pub fn read(
        document: &Document,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Settings, Vec<Complaint>), Vec<Complaint>> {
        let mut complaints = Complaints::new(document.name.as_str()).of_settings();
        let mut root = match document.roots.as_slice() {
            [] => Node::new(Value::Table(Vec::new())),
            [first, ..] => first.clone(),
        };
        let mut origins = Origins::of(&document.name, &root);
        origins.variables = environment::lay_over(&mut root, variables, &mut complaints);

        let mut settings = Settings::default();
        written::read(&root, &mut settings, &mut complaints);
        settings.origins = origins;
        if !complaints.has_errors() {
            // What was half read would only be found wrong a second time.
            together::check(&settings, &mut complaints);
        }

        let found = complaints.into_vec().into_iter();
        let found: Vec<Complaint> = found.map(|c| settings.origins.traced(c)).collect();
        if found.iter().any(Complaint::is_error) {
            Err(found)
        } else {
            Ok((settings, found))
        }
    }

    /// The settings of a worker type, whether a file names it or not.
    pub fn worker(&self, worker_type: &str) -> Cow<'_, WorkerSettings> {
        match self.workers.get(worker_type) {
            Some(named) => Cow::Borrowed(named),
            None => Cow::Owned(WorkerSettings::for_type(worker_type)),
        }
    }

    /// A complaint about a setting, for those who find more wrong with one than can be seen here (a query, a type
    /// word). `path` is written as in complaints: `workers.boefje.split[0].where`.
    pub fn complaint(&self, path: &str, message: impl Into<String>) -> Complaint {
        let message = about(path, message);
        let complaint = Complaint::error(self.origins.file.as_str(), None, path, message);
        self.origins.traced(complaint)
    }
}

fn open(path: Option<&Path>, variables: &[(String, String)]) -> Result<Document, Complaint> {
    let named = variables
        .iter()
        .find(|(name, value)| name == environment::CONFIG && !value.is_empty())
        .map(|(_, value)| Path::new(value));
    let usual = Path::new("muster.toml");
    let Some(path) = path.or(named).or(usual.exists().then_some(usual)) else {
        return Ok(Document {
            name: String::new(),
            roots: Vec::new(),
        });
    };
    let name = path.display().to_string();
    let bytes = std::fs::File::open(path).and_then(whole).map_err(|error| {
        let complaint = Complaint::error(
            name.as_str(),
            None,
            "",
            format!("the settings cannot be read: {error}"),
        );
        match path.is_file() || error.kind() == ErrorKind::FileTooLarge {
            true => complaint,
            false => complaint.with_help(format!(
                "a file that --config or {} names must be there",
                environment::CONFIG
            )),
        }
    })?;
    Document::toml(&name, utf8(&name, &bytes)?)
}

/// The most bytes of a file that people write.
const LONGEST_FILE: u64 = 20_000_000;

/// All that is in a file that people write; one without an end is not read to it.
pub fn whole(file: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= LONGEST_FILE) {
        return Ok(bytes);
    }
    Err(std::io::Error::new(
        ErrorKind::FileTooLarge,
        format!("it is longer than {LONGEST_FILE} bytes, the most that a file may have"),
    ))
}

/// Where each value came from.
#[derive(Clone, Default)]
struct Origins {
    file: String,
    places: BTreeMap<String, Place>,
    /// From the path of a setting to the variable that set it.
    variables: BTreeMap<String, String>,
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)
    }
}

impl Origins {
    fn of(file: &str, root: &Node) -> Origins {
        let mut places = BTreeMap::new();
        note_places(root, "", &mut places);
        Origins {
            file: file.to_string(),
            places,
            variables: BTreeMap::new(),
        }
    }

    /// The complaint with the place that its path has, or with the variable that set it in the place of the file.
    fn traced(&self, mut complaint: Complaint) -> Complaint {
        if let Some(variable) = self.variables.get(&complaint.path) {
            complaint.file = variable.clone();
            complaint.place = None;
        } else if complaint.place.is_none() && complaint.file == self.file {
            complaint.place = self.place(&complaint.path);
        }
        complaint
    }

    /// Where the value was written, else what it would be a part of.
    fn place(&self, path: &str) -> Option<Place> {
        let mut way = path;
        loop {
            if let Some(place) = self.places.get(way) {
                return Some(*place);
            }
            way = way.get(..way.rfind(['.', '['])?)?;
        }
    }
}

fn note_places(node: &Node, path: &str, places: &mut BTreeMap<String, Place>) {
    if let Some(place) = node.place {
        places.insert(path.to_string(), place);
    }
    match &node.value {
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                note_places(item, &format!("{path}[{i}]"), places);
            }
        }
        Value::Table(entries) => {
            for (key, value) in entries {
                note_places(value, &join(path, &key.name), places);
            }
        }
        _ => {}
    }
}
