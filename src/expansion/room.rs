//! How many more tasks may be stored for the workers of each type.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::catalogue::Catalogue;
use crate::ground::Ground;
use crate::store::{ExpandingRun, StoreError};
use crate::trigger::Scheduled;

/// What was counted is believed for so long, and for so many times as long as the counting took.
const BELIEVED: Duration = Duration::from_secs(1);
const TIMES: u32 = 100;
/// With less room than this part of the limit it is not worth going on.
const PART: i64 = 16;
/// With this much room it always is.
const ENOUGH: i64 = 1000;

/// What is queued for each worker type, as far as it was counted, and what was made since.
#[derive(Debug, Default)]
pub struct Rooms(Mutex<BTreeMap<String, Counted>>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Instant,
    took: Duration,
    queued: i64,
}

impl Rooms {
    /// The first worker type of a run that has as many queued tasks as it may.
    pub async fn first_full(
        &self,
        ground: &Ground,
        catalogue: &Catalogue,
        run: &ExpandingRun,
    ) -> Result<Option<String>, StoreError> {
        let Some(scheduled) = catalogue.scheduled(&run.schedule_id) else {
            return Ok(None);
        };
        for (worker_type, _) in plugins_by_type(&scheduled) {
            let room = self.of(ground, catalogue, worker_type).await?;
            let limit = limit(catalogue, worker_type);
            if room < (limit / PART).clamp(1, ENOUGH) {
                return Ok(Some(worker_type.to_owned()));
            }
        }
        Ok(None)
    }

    /// How many inputs may become tasks of all plugins of a schedule; none where somebody has enough.
    pub async fn inputs(
        &self,
        ground: &Ground,
        catalogue: &Catalogue,
        scheduled: &Scheduled,
    ) -> Result<i64, StoreError> {
        let mut inputs = i64::MAX;
        for (worker_type, plugins) in plugins_by_type(scheduled) {
            let room = self.of(ground, catalogue, worker_type).await?;
            // What has room for some of the plugins of one input has room for all of them.
            inputs = inputs.min((room + plugins - 1) / plugins);
        }
        Ok(inputs)
    }

    /// So many tasks more are queued.
    pub fn fill(&self, worker_type: &str, many: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = known.get_mut(worker_type) {
            counted.queued += many;
        }
    }

    async fn of(
        &self,
        ground: &Ground,
        catalogue: &Catalogue,
        worker_type: &str,
    ) -> Result<i64, StoreError> {
        let limit = limit(catalogue, worker_type);
        let known = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(worker_type).copied()
        };
        if let Some(counted) = known
            && counted.at.elapsed() < BELIEVED.max(counted.took * TIMES)
        {
            return Ok((limit - counted.queued).max(0));
        }
        let at = Instant::now();
        let settings = catalogue.rules.worker(worker_type);
        let queued = ground.store.count_queued(settings.queues(), limit).await?;
        let counted = Counted {
            at,
            took: at.elapsed(),
            queued,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(worker_type.to_owned(), counted);
        Ok((limit - queued).max(0))
    }
}

fn limit(catalogue: &Catalogue, worker_type: &str) -> i64 {
    let limit = catalogue.rules.worker(worker_type).stored_limit;
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The worker types of a schedule's plugins, and how many plugins each has.
fn plugins_by_type(scheduled: &Scheduled) -> BTreeMap<&str, i64> {
    let mut types: BTreeMap<&str, i64> = BTreeMap::new();
    for plugin in scheduled.selected.iter() {
        *types.entry(plugin.worker_type.as_str()).or_default() += 1;
    }
    types
}
