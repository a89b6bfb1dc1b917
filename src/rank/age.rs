//! The longer ago something ran, the sooner it goes; what never ran goes before all that did. OpenKAT's formula.

use super::Ranked;
use crate::moment::Span;

/// Of what never ran.
const NEVER: i64 = 2;
/// Of what has been waiting for a week or longer.
const OLDEST: i64 = 3;
/// So much above it is what may run again only now.
const RANGE: i64 = 997;
const WEEK: Span = Span::seconds(604_800);

pub(super) fn rank(task: &Ranked) -> i64 {
    let Some(grace_ended) = task.grace_ended else {
        return NEVER;
    };
    let waiting = task.created_at.since(grace_ended).micros();
    let left = (WEEK.micros() - waiting).clamp(0, WEEK.micros());
    // In whole numbers: floor(3 + 997 * left / week).
    OLDEST
        + i64::try_from(i128::from(RANGE) * i128::from(left) / i128::from(WEEK.micros()))
            .unwrap_or(RANGE)
}
