//! Wires the loops to one store and one bus; stops them in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::answer::answer;
use crate::bus::Bus;
use crate::ground::{Ground, persist};
use crate::intake::BatchSize;
use crate::reaper::Keep;
use crate::store::StoreError;
use crate::wire::Requested;
use crate::{chains, dispatch, expansion, intake, life, reaper, ticker, turns};

/// How long the end may take; what is not finished then is offered again by whoever is next.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Runs until it is told to stop, or the input has ended and all that can be done is done.
pub async fn run<B: Bus>(
    ground: Arc<Ground>,
    bus: Arc<B>,
    size: BatchSize,
    keep: Keep,
    lines: bool,
) -> Result<(), StoreError> {
    let loaded = persist!(ground, "catalogue", async {
        if let Some(theirs) = ground.store.clock().await? {
            ground.clock.follow(theirs);
        }
        ground.load_catalogue().await
    });
    match loaded {
        Ok(_) => {}
        // Told to stop before anything was taken.
        Err(error) if ground.stop.is_cancelled() && error.passing() => {
            bus.close().await;
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    // Lines may be over before the first look of the reaper, and what nobody took in time is to be among them.
    while lines && persist!(ground, "reaper", reaper::hear_clocks(&ground, bus.as_ref()))? > 0 {}
    let mut loops: JoinSet<Result<(), StoreError>> = JoinSet::new();
    let taking = {
        let (ground, bus) = (ground.clone(), bus.clone());
        let hook = ground.clone();
        async move {
            let tick = async || {
                if let Err(error) = due(&hook).await {
                    tracing::error!("ticker: {error}");
                }
            };
            let answer =
                async |requested: &Requested, who: &str| answer(&hook, requested, who).await;
            intake::run(ground, bus, size, lines, tick, answer).await
        }
    };
    loops.spawn(intake::watch(ground.clone()));
    loops.spawn(ticker::run(ground.clone()));
    loops.spawn(turns::run(ground.clone()));
    loops.spawn(chains::run(ground.clone()));
    loops.spawn(expansion::run(ground.clone()));
    loops.spawn(dispatch::run(ground.clone(), bus.clone()));
    if ground.store.tells_life() {
        loops.spawn(life::run(ground.clone(), bus.clone()));
    }
    loops.spawn(reaper::run(ground.clone(), bus.clone(), keep));
    let mut failed;
    {
        tokio::pin!(taking);
        // Without a stop the intake goes on; with one it finishes its batch and ends.
        tokio::select! {
            taken = &mut taking => failed = taken.err(),
            ended = loops.join_next() => {
                failed = trouble(ended);
                ground.stop.cancel();
                if let Ok(taken) = tokio::time::timeout(END_WITHIN, &mut taking).await {
                    failed = failed.or(taken.err());
                }
            }
        }
    }
    if failed.is_none() && !ground.stop.is_cancelled() {
        failed = drain(&ground, bus.as_ref()).await.err();
    }
    ground.stop.cancel();
    bus.stop().await;
    let ended = tokio::time::timeout(END_WITHIN, async {
        while let Some(ended) = loops.join_next().await {
            failed = failed.take().or(trouble(Some(ended)));
        }
    })
    .await;
    if ended.is_err() {
        tracing::warn!(
            "not everything ended within {} s; what is open is taken up by whoever is next",
            END_WITHIN.as_secs()
        );
        loops.abort_all();
    }
    bus.close().await;
    failed.map_or(Ok(()), Err)
}

type Ended = Option<Result<Result<(), StoreError>, tokio::task::JoinError>>;

fn trouble(ended: Ended) -> Option<StoreError> {
    match ended {
        None | Some(Ok(Ok(()))) => None,
        Some(Ok(Err(error))) => Some(error),
        Some(Err(error)) => Some(StoreError::Unusable(format!(
            "a loop ended unexpectedly: {error}"
        ))),
    }
}

/// Everything that is due by now is decided and expanded, and what that ends set off.
async fn due(ground: &Ground) -> Result<(), StoreError> {
    loop {
        persist!(ground, "ticker", ticker::step(ground))?;
        persist!(ground, "turns", turns::step(ground))?;
        persist!(ground, "expansion", expansion::step(ground))?;
        if persist!(ground, "chains", chains::step(ground))? == 0 {
            return Ok(());
        }
    }
}

/// The input has ended: what is due is decided, what can be found is found, what can be offered is offered.
async fn drain<B: Bus>(ground: &Ground, bus: &B) -> Result<(), StoreError> {
    loop {
        due(ground).await?;
        let moved = persist!(ground, "dispatch", dispatch::round(ground, bus))?.moved;
        if moved == 0 {
            break;
        }
    }
    while ground.store.tells_life() && persist!(ground, "life", life::step(ground, bus))? > 0 {}
    Ok(())
}
