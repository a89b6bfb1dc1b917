//! What processes have used, as the kernel and muster's own metrics tell it.

use std::fs;

/// Histograms of muster whose sums are shown.
pub const TIMED: [&str; 3] = [
    "muster_batch_seconds",
    "muster_decide_seconds",
    "muster_publish_seconds",
];

/// The kernel's clock ticks in a second, as it shows them to programs: 100 wherever Linux runs.
const TICKS: f64 = 100.0;

/// CPU seconds, user and system together.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub muster: f64,
    pub postgres: f64,
    pub rabbit: f64,
    pub bench: f64,
}

impl Cost {
    /// Of this process, of the service, and of the servers that this process has started.
    pub fn now(muster: Option<u32>) -> Cost {
        let me = std::process::id();
        let mut cost = Cost {
            muster: muster.map_or(0.0, own),
            bench: own(me),
            ..Cost::default()
        };
        let mut family = vec![me];
        while let Some(parent) = family.pop() {
            for child in children(parent) {
                let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
                match name.trim() {
                    "postgres" => cost.postgres += with_the_dead(child),
                    "beam.smp" => cost.rabbit += with_the_dead(child),
                    _ => {}
                }
                family.push(child);
            }
        }
        cost
    }

    pub fn since(&self, before: &Cost) -> Cost {
        Cost {
            muster: self.muster - before.muster,
            postgres: self.postgres - before.postgres,
            rabbit: self.rabbit - before.rabbit,
            bench: self.bench - before.bench,
        }
    }
}

/// What a process itself has used.
fn own(process: u32) -> f64 {
    seconds(process, &[14, 15])
}

/// The same with what those of its children used that have ended.
fn with_the_dead(process: u32) -> f64 {
    seconds(process, &[14, 15, 16, 17])
}

/// The sum of some fields of `stat`, by the numbers that proc(5) gives them.
fn seconds(process: u32, fields: &[usize]) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is a name in parentheses and may hold anything; the third begins after the last of them.
    let rest: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().collect())
        .unwrap_or_default();
    let ticks: f64 = fields
        .iter()
        .filter_map(|field| rest.get(field - 3)?.parse::<f64>().ok())
        .sum();
    ticks / TICKS
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The most memory that a process ever had, in MB.
pub fn peak_mb(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// The value of a metric without labels.
pub fn metric(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0.0)
}
