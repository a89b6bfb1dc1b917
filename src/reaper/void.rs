//! Offers that became void are taken back from the bus, where they would lie until some worker takes them in vain.

use std::time::Duration;

use crate::bus::{Bus, Letter, Lying};
use crate::ground::Ground;
use crate::store::{StoreError, Void};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// How long it lets be what it could not take back.
const LATER: Duration = Duration::from_secs(30);
/// So many are taken back in one go.
const AT_ONCE: i64 = 500;

/// Ends when it is told to stop. Whatever fails here fails alone: nobody waits for it.
pub(super) async fn run<B: Bus>(ground: &Ground, bus: &B) {
    let mut after = 0;
    let mut told = String::new();
    loop {
        let mut pause = EVERY;
        if bus.condition().connected {
            match round(ground, bus, &mut after).await {
                Ok(None) if after > 0 => pause = Duration::ZERO,
                Ok(None) => told.clear(),
                Ok(Some(why)) => {
                    pause = LATER;
                    if told != why {
                        tracing::warn!("offers that are void stay in the stream: {why}");
                        told = why;
                    }
                }
                Err(error) if error.passing() => tracing::debug!("reaper: {error}"),
                Err(error) => tracing::error!("reaper: {error}"),
            }
        }
        tokio::select! {
            biased;
            () = ground.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Goes on from where the last round ended. Answers with why some are there still.
async fn round<B: Bus>(
    ground: &Ground,
    bus: &B,
    after: &mut i64,
) -> Result<Option<String>, StoreError> {
    let void = ground.store.void_after(*after, AT_ONCE).await?;
    *after = match void.last() {
        Some(last) if void.len() as i64 == AT_ONCE => last.sequence,
        _ => 0,
    };
    if void.is_empty() {
        return Ok(None);
    }
    let lying = void
        .iter()
        .map(|offer| Lying {
            message_id: Letter::offer_id(&offer.task_id, offer.attempt),
            sequence: u64::try_from(offer.sequence).unwrap_or(0),
        })
        .collect();
    let answers = tokio::select! {
        biased;
        () = ground.stop.cancelled() => return Ok(None),
        answers = bus.take_back(lying) => answers,
    };
    let mut why = None;
    let mut gone: Vec<Void> = Vec::with_capacity(void.len());
    for (offer, answer) in void.into_iter().zip(answers) {
        match answer {
            Ok(()) => gone.push(offer),
            Err(trouble) => why = why.or(Some(trouble)),
        }
    }
    ground.store.taken_back(&gone).await?;
    Ok(why)
}
