//! One process and all that comes from it: started with nothing of our surroundings, listened to, and ended as a group.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::log::{Listener, Log, Progress};

/// How much is read at once.
const GULP: usize = 16 * 1024;
/// How long what is left in the pipes may take when all processes are gone: one that left the group may hold them.
const REST: Duration = Duration::from_secs(1);

/// What is to be run.
pub struct Execution {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// All that its environment holds.
    pub environment: BTreeMap<String, String>,
    pub folder: PathBuf,
    /// What it reads on standard input.
    pub input: Vec<u8>,
    /// `None`: as long as it takes.
    pub limit: Option<Duration>,
    /// From the request to end until the end.
    pub grace: Duration,
    /// How many bytes of what it says are kept.
    pub log_bound: usize,
}

/// Why somebody else ends a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is wanted no more.
    Cancel(String),
    /// The worker ends, and hands back what it has not finished.
    HandBack,
}

/// How a process ended.
#[derive(Debug)]
pub enum End {
    Exited(i32),
    Killed(i32),
    /// The time limit was reached.
    Overran,
    Ordered(Order),
    /// There is no such program, or it cannot be started.
    NotStarted(io::Error),
}

/// The processes of a task. They end with this at the latest.
struct Group {
    leader: Pid,
    /// Once the leader is reaped its number can be given to others.
    ours: bool,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if self.ours {
            // Nobody left is what was wanted.
            let _ = kill_process_group(self.leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Execution {
    /// Runs to the end, whoever brings it about. Whatever the process has started, and left in its group, is killed then.
    pub async fn run(
        self,
        orders: &mut watch::Receiver<Option<Order>>,
        progress: &watch::Sender<Progress>,
    ) -> (End, Log) {
        let mut log = Log::of(self.log_bound);
        let Some((program, arguments)) = self.words.split_first() else {
            let nothing = io::Error::new(io::ErrorKind::InvalidInput, "there is no program");
            return (End::NotStarted(nothing), log);
        };
        let (mut said, out, err) = match Ears::open() {
            Ok(pipe) => pipe,
            Err(error) => return (End::NotStarted(error), log),
        };
        let begun = Instant::now();
        let spawned = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return (End::NotStarted(error), log),
        };
        let leader = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(leader) = leader else {
            let nothing = io::Error::other("the process has no number");
            return (End::NotStarted(nothing), log);
        };
        let mut group = Group { leader, ours: true };
        let feeding = feed(child.stdin.take(), self.input);
        let gone = tokio::task::spawn_blocking(move || has_ended(leader));
        tokio::pin!(feeding, gone);
        let (mut fed, mut why, mut kill_at) = (false, None, None::<Instant>);
        loop {
            let (limit, kill) = (self.limit.map(|limit| begun + limit), kill_at);
            tokio::select! {
                () = said.hear(&mut log, progress), if said.hears => {}
                () = &mut feeding, if !fed => fed = true,
                _ = &mut gone => break,
                () = at(limit), if why.is_none() => {
                    why = Some(End::Overran);
                    group.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + self.grace);
                }
                order = ordered(orders), if why.is_none() => {
                    why = Some(End::Ordered(order));
                    group.signal(Signal::TERM);
                    kill_at = Some(Instant::now() + self.grace);
                }
                () = at(kill) => {
                    group.signal(Signal::KILL);
                    kill_at = None;
                }
            }
        }
        // The leader has ended and is not reaped: its number is still that of the group, and of no other.
        group.signal(Signal::KILL);
        let _ = timeout(REST, async {
            while said.hears {
                said.hear(&mut log, progress).await;
            }
        })
        .await;
        group.ours = false;
        let status = match child.wait().await {
            Ok(status) => status,
            Err(error) => return (End::NotStarted(error), log),
        };
        // Who was asked to end may end with 0, and has not finished.
        let end = why.unwrap_or_else(|| match status.code() {
            Some(code) => End::Exited(code),
            None => End::Killed(status.signal().unwrap_or(0)),
        });
        (end, log)
    }
}

/// Waits until a child has ended, and leaves it to be reaped.
fn has_ended(leader: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        waitid(WaitId::Pid(leader), options),
        Err(rustix::io::Errno::INTR)
    ) {}
}

async fn feed(stdin: Option<impl tokio::io::AsyncWrite + Unpin>, input: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        // Nobody has to read it.
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
    }
}

/// Never, where there is no instant.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The order that was or will be given.
pub async fn ordered(orders: &mut watch::Receiver<Option<Order>>) -> Order {
    loop {
        if let Some(order) = orders.borrow_and_update().clone() {
            return order;
        }
        if orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a process says on both of its streams. They are one pipe, so that the log has them in their order.
struct Ears {
    pipe: pipe::Receiver,
    /// Until everybody who could say something is gone.
    hears: bool,
    listener: Listener,
    piece: Vec<u8>,
}

impl Ears {
    /// With what the process gets for standard output and standard error.
    fn open() -> io::Result<(Ears, Stdio, Stdio)> {
        let (ours, out) = io::pipe()?;
        let err = out.try_clone()?;
        let ears = Ears {
            pipe: pipe::Receiver::from_owned_fd(ours.into())?,
            hears: true,
            listener: Listener::default(),
            piece: vec![0; GULP],
        };
        Ok((ears, out.into(), err.into()))
    }

    /// The next piece. Safe to cancel: nothing is lost.
    async fn hear(&mut self, log: &mut Log, progress: &watch::Sender<Progress>) {
        match self.pipe.read(&mut self.piece).await {
            Ok(0) | Err(_) => self.hears = false,
            Ok(many) => {
                let piece = &self.piece[..many];
                log.push(piece);
                if let Some(newest) = self.listener.hear(piece) {
                    progress.send_replace(newest);
                }
            }
        }
    }
}
