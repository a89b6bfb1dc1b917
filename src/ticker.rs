//! Loop: what the clock makes due is decided.

use std::sync::Arc;

use crate::ground::{Ground, decide_due};
use crate::moment::Moment;
use crate::store::StoreError;

/// The loop.
pub async fn run(ground: Arc<Ground>) -> Result<(), StoreError> {
    ground
        .by_turns("ticker", &ground.tick, || step(&ground))
        .await
}

/// Decides all that is due; answers with the next instant that something is due at.
pub async fn step(ground: &Ground) -> Result<Option<Moment>, StoreError> {
    decide_due(ground, None).await
}
