//! What an operator may choose about deciding and dispatching, as plain values. [`crate::settings`] fills them; every
//! `Default` here is the documented default.

use crate::moment::Span;

/// What orders the changes of one object that come through one intake queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// The event's own time, else the instant of its arrival.
    #[default]
    Time,
    /// `data.version`, where producers number their changes.
    Version,
    /// As the broker hands them over; then one replica consumes the queue at a time.
    Arrival,
}

/// What the messages of an intake queue look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    #[default]
    CloudEvents,
    OpenkatScanProfile,
    OpenkatRawFile,
    OpenkatObject,
}

/// What the task messages of a worker type look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Envelope {
    #[default]
    Muster,
    Openkat,
}

/// What counts as the acceptance of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acknowledge {
    /// The worker says so.
    #[default]
    Status,
    /// The broker confirmed it: for workers that say nothing before the end.
    Publish,
}

/// Which of two waiting tasks of one class and one priority goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rank {
    #[default]
    Fifo,
    Age,
    Deadline,
}

/// What becomes of a plugin without a scan level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LevelGate {
    /// It is refused.
    Required,
    /// It passes.
    #[default]
    IfSet,
}

macro_rules! words {
    ($type:ident { $($word:literal => $value:ident),+ $(,)? }) => {
        impl $type {
            /// Every choice with the word that stands for it in settings.
            pub const WORDS: &'static [(&'static str, $type)] = &[$(($word, $type::$value)),+];

            pub const fn word(self) -> &'static str {
                match self { $($type::$value => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words!(Order { "time" => Time, "version" => Version, "arrival" => Arrival });
words!(Format {
    "cloudevents" => CloudEvents,
    "openkat-scan-profile" => OpenkatScanProfile,
    "openkat-raw-file" => OpenkatRawFile,
    "openkat-object" => OpenkatObject,
});
words!(Envelope { "muster" => Muster, "openkat" => Openkat });
words!(Acknowledge { "status" => Status, "publish" => Publish });
words!(Rank { "fifo" => Fifo, "age" => Age, "deadline" => Deadline });
words!(LevelGate { "required" => Required, "if_set" => IfSet });

/// How long what may take. None of them is zero, so no state blocks without a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From an offer to its acceptance.
    pub queue: Span,
    /// From one heartbeat to the next.
    pub heartbeat: Span,
    /// From acceptance to the end.
    pub run: Span,
    /// From the task's creation to its end, all attempts together.
    pub task: Span,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            queue: Span::seconds(3600),
            heartbeat: Span::seconds(60),
            run: Span::seconds(3600),
            task: Span::seconds(7 * 86_400),
        }
    }
}

/// How often a task is offered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts that may fail, fall silent or overrun; 3 means three attempts.
    pub max: u32,
    /// The longest pause before the second attempt; it doubles from there.
    pub first: Span,
    /// No pause is longer.
    pub cap: Span,
    /// After so many declines in a row the task shows that all declined.
    pub declines: u32,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            max: 3,
            first: Span::seconds(30),
            cap: Span::seconds(3600),
            declines: 20,
        }
    }
}

/// What holds where neither plugin nor schedule says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// For tasks of object and file events alone.
    pub grace: Span,
    pub timeouts: Timeouts,
    pub retry: Retry,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            grace: Span::seconds(86_400),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
        }
    }
}

/// A part of a worker type with a queue of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub queue: String,
    /// A query over plugins; the first split that matches takes the task.
    pub query: String,
}

/// What is particular to the workers of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    pub queue: String,
    pub split: Vec<Split>,
    pub format: Envelope,
    pub acknowledge: Acknowledge,
    pub rank: Rank,
    /// Heads of the backlog that memory holds.
    pub limit: u64,
    /// Queued tasks in the store from which expansions wait.
    pub stored_limit: u64,
    /// Messages at the broker that nobody has accepted; 0 is unlimited.
    pub credit: u32,
    /// One of so many dispatches goes to the oldest task of a lower class.
    pub lower_class_every: u32,
    pub level_gate: LevelGate,
    /// Objects below this level are refused.
    pub minimum_scan_level: u8,
    pub requires_indemnification: bool,
    /// A plugin that becomes enabled for an organisation runs on all that is there.
    pub run_on_enable: bool,
    /// One task runs for all organisations that have the same object and would run it.
    pub share: bool,
}

impl WorkerSettings {
    /// The settings of a worker type that no file names.
    pub fn for_type(worker_type: &str) -> WorkerSettings {
        WorkerSettings {
            queue: format!("muster.tasks.{worker_type}"),
            split: Vec::new(),
            format: Envelope::default(),
            acknowledge: Acknowledge::default(),
            rank: Rank::default(),
            limit: 100_000,
            stored_limit: 10_000_000,
            credit: 64,
            lower_class_every: 16,
            level_gate: LevelGate::default(),
            minimum_scan_level: 0,
            requires_indemnification: false,
            run_on_enable: false,
            share: false,
        }
    }

    /// Every queue that tasks of this type may go to: the parts first, in their order.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        let parts = self.split.iter().map(|part| part.queue.as_str());
        parts.chain(std::iter::once(self.queue.as_str()))
    }
}

/// What is known of an object type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectTypeSettings {
    /// Field and type word, in the order of the file. `None`: the type is open, its attributes dynamic.
    pub fields: Option<Vec<(String, String)>>,
    /// Other names under which events bring it.
    pub aliases: Vec<String>,
    /// The attribute that is the natural name.
    pub name: String,
    /// Attributes whose changes do not count as a changed input.
    pub ignore: Vec<String>,
}

impl Default for ObjectTypeSettings {
    fn default() -> ObjectTypeSettings {
        ObjectTypeSettings {
            fields: None,
            aliases: Vec::new(),
            name: "name".to_string(),
            ignore: Vec::new(),
        }
    }
}
