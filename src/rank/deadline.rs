//! What expires first goes first.

use super::Ranked;

pub(super) fn rank(task: &Ranked) -> i64 {
    task.expires_at.micros()
}
