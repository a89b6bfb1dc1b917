//! How a command comes to the database: who writes makes what is missing, all others take it as they find it.

use std::sync::Arc;
use std::time::Duration;

use super::output::note;
use super::{Failure, rules};
use crate::ground::Ground;
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// How often a command tries to begin where others are faster.
const TRIES: u32 = 5;
/// A server that has not answered for so long is waited for, and that is told.
const SOON: Duration = Duration::from_millis(1500);

/// The database as it is. One that is not there, or not of this version, is told as such: who looks makes nothing.
pub async fn found(settings: &Settings) -> Result<Arc<Ground>, Failure> {
    let store = Store::open_existing(settings.store.url.expose()).await?;
    let ground = rules::ground_on(settings, store)?;
    in_reach(&ground).await?;
    a_few_times(&ground, async || ground.store.ours().await).await?;
    Ok(ground)
}

/// The same, with the catalogue.
pub async fn known(settings: &Settings) -> Result<Arc<Ground>, Failure> {
    let ground = found(settings).await?;
    a_few_times(&ground, async || ground.load_catalogue().await).await?;
    Ok(ground)
}

/// The database with its schema brought up to this version, made where it is missing; answers with the steps it took.
pub async fn made(ground: &Ground) -> Result<Vec<String>, Failure> {
    in_reach(ground).await?;
    a_few_times(ground, async || ground.store.migrate().await).await
}

/// The same, with the catalogue.
pub async fn made_and_known(ground: &Ground) -> Result<(), Failure> {
    in_reach(ground).await?;
    a_few_times(ground, async || set_up(ground).await).await
}

/// The schema up to date and the catalogue loaded.
pub async fn set_up(ground: &Ground) -> Result<(), StoreError> {
    for step in ground.store.migrate().await? {
        tracing::info!("the database's schema is now at {step}");
    }
    ground.load_catalogue().await?;
    Ok(())
}

/// A server that is away is told at once, and one that is slow before somebody wonders.
async fn in_reach(ground: &Ground) -> Result<(), Failure> {
    let mut reaching = std::pin::pin!(ground.store.reach());
    if let Ok(reached) = tokio::time::timeout(SOON, &mut reaching).await {
        return Ok(reached?);
    }
    note(&format!("waiting for {}", ground.store.address()));
    Ok(reaching.await?)
}

/// Somebody waits for it: a database that is away is told, and where others are faster it is tried again.
async fn a_few_times<T>(
    ground: &Ground,
    attempt: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, Failure> {
    let mut patience = ground.patience("start");
    for _ in 1..TRIES {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error @ StoreError::OutOfReach(_)) => return Err(error.into()),
            Err(error) => patience.wait(error).await?,
        }
    }
    Ok(attempt().await?)
}
