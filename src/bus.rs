//! What carries messages: one trait, three bodies.
//!
//! A bus takes deliveries from the queues that [`Topology`] names, settles each by a [`Verdict`], and
//! publishes letters, answering only after the broker has confirmed them. It connects, declares and consumes
//! in one loop that never gives up, so the first start and every restart are the same code.
//! It knows nothing of events, tasks or statuses: bodies are bytes.

use std::fmt;
use std::future::Future;

pub mod lines;
mod link;
pub mod nats;
pub mod rabbit;

/// What the queues are for; a delivery says where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An intake of events, by its place in [`Topology::intakes`].
    Events(usize),
    /// What workers report.
    Status,
    /// What people and programs ask, with a reply.
    Commands,
    /// What is offered to workers.
    Tasks,
    /// What all workers are told.
    Control,
}

/// Which side of the contract we are on, and so what is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Reads events, statuses and commands.
    #[default]
    Service,
    /// Reads the task queues and what all workers are told; reports.
    Worker,
}

/// One queue of events to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    pub queue: String,
    /// `true`: our own topic exchange and queue (or stream) `muster.events`; `false`: a plain durable
    /// classic queue on the default exchange, declared exactly as OpenKAT's producers declare it.
    pub native: bool,
    /// Consumed by one replica at a time; the others stand by. Whoever stops keeps it until he closes, so
    /// that nobody reads on while he still works on what came before.
    pub exclusive: bool,
}

impl Intake {
    /// The queue that is read.
    pub fn read_from(&self) -> &str {
        if self.native {
            names::EVENTS
        } else {
            &self.queue
        }
    }
}

/// Everything a bus declares and reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub role: Role,
    pub intakes: Vec<Intake>,
    /// The task queues known at the start, `muster.tasks.<worker type>` by default. A letter to another one
    /// declares it. A worker takes from these.
    pub task_queues: Vec<TaskQueue>,
    /// Deliveries of each queue that are taken and not yet settled, at most: a flood of events cannot keep
    /// statuses and commands out.
    pub prefetch: u16,
}

/// A queue of tasks, and the routing key (RabbitMQ) that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskQueue {
    pub queue: String,
    pub routing_key: String,
}

/// One message as it was received.
#[derive(Debug)]
pub struct Delivery<R> {
    pub source: Source,
    /// The routing key or subject.
    pub routing_key: String,
    pub content_type: Option<String>,
    /// The broker's message id, where the producer set one.
    pub message_id: Option<String>,
    pub correlation_id: Option<String>,
    /// Where a reply is wanted.
    pub reply_to: Option<String>,
    /// Text headers, names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The broker says that it delivered this before.
    pub redelivered: bool,
    pub receipt: R,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Handled, its effects are committed: acknowledge.
    Done,
    /// Not handled: deliver again.
    Again,
}

/// Where a letter goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A queue of tasks; must be routable.
    Tasks(TaskQueue),
    /// What workers report; must be routable.
    Status,
    /// Every worker that listens now; may be lost.
    Control,
    /// Whoever asked a command.
    Reply(String),
    /// Life-cycle events, by type.
    Lifecycle(String),
}

/// One message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub address: Address,
    pub message_id: String,
    pub correlation_id: Option<String>,
    pub content_type: &'static str,
    pub headers: Vec<(String, String)>,
    /// 0 to 9, for information.
    pub priority: u8,
    /// After so many milliseconds nobody wants it any more.
    pub expires_in_ms: Option<u64>,
    pub body: Vec<u8>,
}

impl Letter {
    /// The message id of an offer: published again it is the same message.
    pub fn offer_id(task_id: &str, attempt: i64) -> String {
        format!("{task_id}:{attempt}")
    }

    /// Tells whoever has a task that it is wanted no more. It may be lost; the clocks of the task are what counts.
    pub fn cancel(task_id: &str, body: Vec<u8>) -> Letter {
        Letter {
            address: Address::Control,
            message_id: format!("{task_id}:cancel"),
            correlation_id: Some(task_id.to_owned()),
            content_type: "application/json",
            headers: Vec::new(),
            priority: 0,
            expires_in_ms: None,
            body,
        }
    }
}

/// A task that lies in a stream until somebody takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    pub message_id: String,
    /// Its place in the stream, as the confirm said.
    pub sequence: u64,
}

/// What the broker said to a letter: it has it, and where a task lies in a stream.
pub type Answer = Result<Option<u64>, Undelivered>;

/// Why a letter was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// No queue takes it; names the missing binding.
    Unroutable(String),
    /// Larger than this bus carries; says the limit.
    TooLarge(String),
    /// No confirm came: it may have arrived or not. Publish it again with the same message id.
    Unconfirmed(String),
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undelivered::Unroutable(what)
            | Undelivered::TooLarge(what)
            | Undelivered::Unconfirmed(what) => f.write_str(what),
        }
    }
}

/// Why a bus could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// What we declare differs from what exists; the text names both.
    #[error("{0}")]
    Conflict(String),
    /// The address cannot be understood.
    #[error("{0}")]
    Address(String),
    /// The broker does not let us in, or does not let us do what we have to.
    #[error("{0}")]
    Refused(String),
    /// The broker does not answer.
    #[error("{0}")]
    OutOfReach(String),
}

/// How a bus is doing; for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub connected: bool,
    /// Connections made after the first.
    pub reconnects: u64,
    /// The last trouble, in words.
    pub trouble: Option<String>,
}

/// The exchanges, queues and streams that all bodies share by name.
pub mod names {
    pub const EVENTS: &str = "muster.events";
    pub const TASKS: &str = "muster.tasks";
    pub const STATUS: &str = "muster.status";
    pub const COMMANDS: &str = "muster.commands";
    pub const CONTROL: &str = "muster.control";
    pub const LIFECYCLE: &str = "muster.lifecycle";

    /// Whether a reply may go there: not to what muster itself reads and writes, and not to what steers the broker
    /// (NATS' `$JS.API.…`), where it would act with our rights for whoever asked.
    pub fn takes_replies(to: &str) -> bool {
        let ours = [EVENTS, TASKS, STATUS, COMMANDS, CONTROL, LIFECYCLE];
        let ours = ours.iter().any(|name| {
            let rest = to.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        !ours && !to.starts_with('$')
    }
}

/// The largest message that RabbitMQ and lines carry here.
pub const LARGEST: usize = 20 * 1024 * 1024;

/// Something that carries messages. Used as a generic parameter: `processor` is built once for each body.
pub trait Bus: Send + Sync + 'static {
    /// What settles a delivery; no body leaks its own.
    type Receipt: Send + 'static;

    /// The next delivery of any queue. Waits while there is none, also while the broker is away.
    /// `None` after the end of input (lines) or after [`Bus::stop`]. Safe to cancel: nothing is lost.
    fn next(&self) -> impl Future<Output = Option<Delivery<Self::Receipt>>> + Send;

    /// Settles a batch. Receipts that a lost connection made void are ignored: the broker delivers those
    /// again. A receipt that is dropped without this comes again too, when the broker loses patience or sight of us.
    fn settle(&self, settled: Vec<(Self::Receipt, Verdict)>) -> impl Future<Output = ()> + Send;

    /// Publishes all letters, and returns one answer for each, in order, after the confirms.
    /// Without a connection every answer is [`Undelivered::Unconfirmed`], at once.
    fn publish(&self, letters: Vec<Letter>) -> impl Future<Output = Vec<Answer>> + Send;

    /// Takes back tasks that nobody is to have any more, where they would lie until somebody takes them; elsewhere they
    /// expire. One answer for each, in order: it is gone, or why it may lie there still. Never takes another message,
    /// also where that has the place by now.
    fn take_back(&self, lying: Vec<Lying>) -> impl Future<Output = Vec<Result<(), String>>> + Send {
        std::future::ready(vec![Ok(()); lying.len()])
    }

    /// How many messages of each queue that is read lie at the broker and were given to nobody, by the queue's name; why
    /// that cannot be told. Nothing where the broker keeps none for us.
    fn waiting(&self) -> impl Future<Output = Result<Vec<(String, u64)>, String>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    fn condition(&self) -> Condition;

    /// Whether it keeps what nobody has taken yet. Where it does not, whoever reads holds us up himself, and there is
    /// no credit to count.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether a worker takes tasks now, as it does at first. Whose hands are full leaves them to others; a message
    /// that was on its way can still come, and is for the worker to give back.
    fn take_tasks(&self, take: bool);

    /// Stops taking: what is buffered here and was not handed out goes back to the broker, and `next` ends.
    fn stop(&self) -> impl Future<Output = ()> + Send;

    /// Flushes and closes the connection. Settle what was handed out first. A bus that is dropped closes in
    /// the background.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
