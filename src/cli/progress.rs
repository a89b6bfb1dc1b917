//! How far long work is: a line that is written over on a terminal, and a plain one now and then elsewhere; both on
//! standard error, and neither where scripts read that.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::output::to_scripts;
use crate::ground::Ground;

/// How often a terminal is told, and how often a log.
const ON_A_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(10);

pub struct Progress {
    begun: Instant,
    told: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress {
            begun: Instant::now(),
            told: None,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn pause(&self) -> Duration {
        if self.terminal {
            ON_A_TERMINAL
        } else {
            ELSEWHERE
        }
    }

    /// So many things, where it is time to say so.
    pub fn at(&mut self, many: u64, what: &str) {
        #[allow(clippy::cast_precision_loss)] // a rate for people
        let rate = many as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        self.say(&format!("{many} {what}, {rate:.0}/s"));
    }

    fn say(&mut self, line: &str) {
        if self.told.unwrap_or(self.begun).elapsed() < self.pause() || to_scripts() {
            return;
        }
        self.told = Some(Instant::now());
        let (start, end) = if self.terminal {
            ("\r", "\x1b[K")
        } else {
            ("", "\n")
        };
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{start}{line}{end}");
        let _ = err.flush();
    }

    pub fn end(&self) {
        if self.terminal && self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Does what takes long, and tells meanwhile how far it is.
pub async fn watched<T>(ground: &Ground, work: impl Future<Output = T>) -> T {
    let mut progress = Progress::new();
    let mut look = tokio::time::interval(progress.pause());
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = look.tick() => {
                let (done, all) = ground.errand.far();
                let seconds = progress.begun.elapsed().as_secs();
                match all {
                    0 => progress.say(&format!("at work, {seconds} s")),
                    all => progress.say(&format!("{done} of {all}, {}%, {seconds} s", done * 100 / all)),
                }
            }
        }
    };
    progress.end();
    done
}
