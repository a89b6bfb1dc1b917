//! What was made first goes first.

use super::Ranked;

pub(super) fn rank(task: &Ranked) -> i64 {
    task.created_at.micros()
}
