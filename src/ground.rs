//! What the loops stand on: the store, the clock, the catalogue, the calls by which they wake each other.

mod due;
mod errand;
mod judged;
mod lag;
pub(crate) mod trail;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use metrics::{SharedString, counter, gauge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::agenda::Agenda;
use crate::bus::names;
use crate::catalogue::{Catalogue, Edition};
use crate::decide::{EndOf, Plan};
use crate::moment::{Clock, Moment};
use crate::object::{Object, Operation};
use crate::policy::{Format, Order};
use crate::progress::{Terms, terms};
use crate::rules::Rules;
use crate::run::{RunDraft, Turn};
use crate::schedule::Organization;
use crate::store::{Known, Listened, Since, Store, StoreError};
use crate::tally::{Bounded, QUEUES, WORKER_TYPES};
use crate::task::Ids;

pub use due::decide_due;
pub use errand::Errand;
pub use judged::judged;
pub use lag::{Lags, Taken};

/// An intake as deciding needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntakeRule {
    pub queue: String,
    pub order: Order,
    pub format: Format,
}

#[derive(Debug)]
pub struct Ground {
    pub store: Store,
    pub clock: Clock,
    pub rules: Arc<Rules>,
    pub intakes: Vec<IntakeRule>,
    /// Something may be offered.
    pub dispatch: Notify,
    /// Something may be due.
    pub tick: Notify,
    /// What the clock makes due; whoever decides it holds it.
    pub agenda: tokio::sync::Mutex<Agenda>,
    /// A run looks for its inputs.
    pub expand: Notify,
    /// Held by whoever expands in this process: who waits for it finds nothing left of what the other had begun.
    pub expanding: tokio::sync::Mutex<()>,
    /// A run that waits may begin.
    pub turns: Notify,
    /// A run or a task has ended.
    pub ends: Notify,
    /// Take nothing new.
    pub stop: CancellationToken,
    pub replica: String,
    /// How far behind those are who read.
    pub lags: Lags,
    /// How far what somebody asked for has come.
    pub errand: Errand,
    catalogue: RwLock<Arc<Catalogue>>,
    /// Makes the next catalogue. Whoever reads the one above waits for nobody who writes here.
    edition: Mutex<Edition>,
    seed: AtomicU64,
    /// The database is out of reach, as far as anybody noticed.
    away: AtomicBool,
    beats: Mutex<BTreeMap<&'static str, Moment>>,
}

/// The first and the longest pause between tries of the store.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest sleep of a loop that waits for an instant.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Tries until the store has answered, or it is away and somebody wants to stop; errors that will not pass are answered with.
/// A macro, because a function that takes an async closure cannot yet say that its future may be sent.
macro_rules! persist {
    ($ground:expr, $what:expr, $attempt:expr) => {{
        let mut patience = $ground.patience($what);
        loop {
            match $attempt.await {
                Ok(done) => {
                    patience.over();
                    break Ok(done);
                }
                Err(error) => {
                    if let Err(error) = patience.wait(error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
pub(crate) use persist;

impl Ground {
    pub fn new(
        store: Store,
        rules: Arc<Rules>,
        intakes: Vec<IntakeRule>,
        seed: u64,
        stop: CancellationToken,
    ) -> Ground {
        let now = Moment::now();
        let queues = intakes.iter().map(|intake| intake.queue.as_str());
        let consumers = queues.chain([names::STATUS, names::COMMANDS]);
        Ground {
            store,
            clock: Clock::default(),
            lags: Lags::of(consumers),
            errand: Errand::default(),
            intakes,
            dispatch: Notify::new(),
            tick: Notify::new(),
            agenda: tokio::sync::Mutex::default(),
            expand: Notify::new(),
            expanding: tokio::sync::Mutex::new(()),
            turns: Notify::new(),
            ends: Notify::new(),
            stop,
            replica: Ids::seeded(seed).next(now),
            catalogue: RwLock::new(Arc::new(Catalogue::empty(rules.clone()))),
            edition: Mutex::new(Edition::new(rules.clone())),
            rules,
            seed: AtomicU64::new(seed),
            away: AtomicBool::new(false),
            beats: Mutex::new(BTreeMap::new()),
        }
    }

    /// A source of ids, each different from all others.
    pub fn ids(&self) -> Ids {
        Ids::seeded(self.chance())
    }

    /// Any number.
    pub fn chance(&self) -> u64 {
        self.seed
            .fetch_add(0xd134_2543_de82_ef95, Relaxed)
            .rotate_left(23)
    }

    /// The catalogue as this replica last saw it.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The catalogue, loaded anew where it is not of `revision`.
    pub async fn catalogue_at(&self, revision: i64) -> Result<Arc<Catalogue>, StoreError> {
        let known = self.catalogue();
        if known.revision == revision {
            return Ok(known);
        }
        self.load_catalogue().await
    }

    /// Takes in what was declared since the catalogue was last loaded; all of it the first time.
    pub async fn load_catalogue(&self) -> Result<Arc<Catalogue>, StoreError> {
        loop {
            let known = self.edition().latest().revision;
            let (revision, declared) = self.store.declared_since(known).await?;
            // Read after the declarations: a pause raises the revision, so one that comes in between is read once more.
            let paused = self.store.pauses().await?.into_keys().collect();
            let mut edition = self.edition();
            // Somebody else has loaded meanwhile: what was read may no longer be what is missing.
            if edition.latest().revision != known {
                continue;
            }
            let loaded = match declared {
                Since::Nothing => edition.latest(),
                Since::Changes(changes) => edition.apply(revision, changes, &paused),
                Since::All(stored) => edition.replace(revision, stored, &paused),
            };
            #[allow(clippy::cast_precision_loss)] // a gauge is a float
            gauge!("muster_schedules_unindexed").set(edition.unindexed() as f64);
            drop(edition);
            if loaded.revision > known {
                for complaint in loaded.broken.iter() {
                    tracing::error!("a declaration is out of use: {complaint}");
                }
                self.show(&loaded);
                self.tick.notify_one();
            }
            return Ok(loaded);
        }
    }

    /// Organisations that an event brought raised the revision by one. Where nothing else did, the catalogue only gains
    /// them.
    pub fn gain(&self, before: i64, organizations: &[Organization]) {
        let gained = self.edition().gain(before, organizations);
        if let Some(gained) = gained {
            self.show(&gained);
        }
    }

    fn edition(&self) -> MutexGuard<'_, Edition> {
        self.edition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readers see this catalogue from now on, unless they see a later one.
    fn show(&self, catalogue: &Arc<Catalogue>) {
        let listens = |of: EndOf| catalogue.run_on.contains(of.noun());
        let listened = Listened {
            runs: listens(EndOf::Run),
            tasks: listens(EndOf::Task),
        };
        self.store.listen(catalogue.revision, listened);
        let mut known = self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.revision <= catalogue.revision {
            *known = catalogue.clone();
        }
    }

    /// Lets the index learn from some of the changes that were decided. Where somebody else is at it, it is left out:
    /// others will come.
    pub fn learn(&self, samples: &[(Object, Vec<Operation>)]) {
        if samples.is_empty() {
            return;
        }
        if let Ok(mut edition) = self.edition.try_lock()
            && let Some(better) = edition.learn(samples)
        {
            self.show(&better);
        }
    }

    /// A loop says that it is alive.
    pub fn beat(&self, name: &'static str) {
        let now = Moment::now();
        #[allow(clippy::cast_precision_loss)] // a gauge is a float
        gauge!("muster_loop_beat_timestamp_seconds", "loop" => name).set(now.micros() as f64 / 1e6);
        self.beats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, now);
    }

    pub fn beats(&self) -> BTreeMap<&'static str, Moment> {
        self.beats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The shape of a loop that looks, and sleeps until the instant that it has found, a call, or at most a second
    /// because things can change beside this process.
    pub async fn by_turns<S, F>(
        &self,
        name: &'static str,
        call: &Notify,
        step: S,
    ) -> Result<(), StoreError>
    where
        S: Fn() -> F,
        F: Future<Output = Result<Option<Moment>, StoreError>>,
    {
        while !self.stop.is_cancelled() {
            self.beat(name);
            // Asked for before looking, so that no call is lost between the look and the sleep.
            let called = call.notified();
            match persist!(self, name, step()) {
                Ok(next) => {
                    let pause = next.map_or(LONGEST_SLEEP, |next| {
                        next.since(self.clock.now()).as_duration()
                    });
                    tokio::select! {
                        () = called => {}
                        () = tokio::time::sleep(pause.min(LONGEST_SLEEP)) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
                Err(error) if error.passing() => {}
                Err(error @ StoreError::Statement(_)) => {
                    tracing::error!("{name}: {error}");
                    tokio::select! {
                        () = tokio::time::sleep(LONGEST_SLEEP) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Calls whoever has something to do after a plan was committed.
    pub fn wake(&self, plan: &Plan) {
        if !plan.tasks.is_empty() || !plan.adopted.is_empty() {
            self.dispatch.notify_one();
        }
        let begun = || plan.runs.iter().chain(&plan.started);
        if begun().any(|run| run.expands) {
            self.expand.notify_one();
        }
        if begun().any(|run| matches!(run.turn, Turn::Later { .. })) || !plan.replaced.is_empty() {
            self.turns.notify_one();
        }
        let at_once = |run: &RunDraft| run.total == 0 && !run.expands;
        if !plan.replaced.is_empty() || begun().any(at_once) {
            self.ends.notify_one();
        }
    }

    /// Calls whoever has something to do once a run or a task may have ended.
    pub fn ended(&self) {
        self.turns.notify_one();
        self.ends.notify_one();
    }

    /// Patience with the store, for the macro `persist`.
    pub fn patience<'a>(&'a self, what: &'a str) -> Patience<'a> {
        Patience {
            ground: self,
            what,
            pause: FIRST_PAUSE,
            told: false,
        }
    }
}

/// What holds for the attempts of a task.
pub fn terms_of(catalogue: &Catalogue, known: Option<&Known>) -> Terms {
    let plugin = known.and_then(|known| catalogue.plugins.get(&known.plugin_id));
    let scheduled = known.and_then(|known| catalogue.scheduled(&known.schedule_id));
    terms(
        plugin.map(AsRef::as_ref),
        scheduled
            .as_ref()
            .map(|scheduled| scheduled.schedule.as_ref()),
        &catalogue.rules.defaults,
    )
}

/// Counts and tells what a plan made and refused, once it is committed.
pub fn count_plan(plan: &Plan) {
    trail::stored(plan);
    counter!("muster_trigger_events_total").increment(plan.triggers);
    counter!("muster_trigger_candidates_total").increment(plan.looked.candidates);
    counter!("muster_trigger_checks_total").increment(plan.looked.checks);
    counter!("muster_trigger_matches_total").increment(plan.looked.matches);
    for (reason, many) in &plan.refused {
        counter!("muster_refusals_total", "reason" => reason.word()).increment(*many);
    }
    let mut by_worker: BTreeMap<(&str, &'static str), u64> = BTreeMap::new();
    for task in &plan.tasks {
        *by_worker
            .entry((task.worker_type.as_str(), task.cause.word()))
            .or_default() += 1;
    }
    for ((worker_type, cause), many) in by_worker {
        counter!("muster_tasks_created_total", "worker_type" => WORKER_TYPES.label(worker_type), "cause" => cause)
            .increment(many);
    }
}

/// Queues that settings name have their name, as far as there is room; all others share a label.
pub fn queue_label(catalogue: &Catalogue, queue: &str) -> SharedString {
    let mut workers = catalogue.rules.workers.values();
    match workers.any(|worker| worker.queues().any(|known| known == queue)) {
        true => QUEUES.label(queue),
        false => SharedString::const_str(Bounded::OTHER),
    }
}

/// Waits between tries of the store, longer each time.
#[derive(Debug)]
pub struct Patience<'a> {
    ground: &'a Ground,
    what: &'a str,
    pause: Duration,
    told: bool,
}

impl Patience<'_> {
    /// Waits, or hands the error back: it will not pass, or somebody wants to stop and the database is away. Where somebody
    /// else was faster it goes on also then, so that what was begun is finished before the end.
    pub async fn wait(&mut self, error: StoreError) -> Result<(), StoreError> {
        let stop = &self.ground.stop;
        let away = matches!(error, StoreError::OutOfReach(_));
        if !error.passing() || away && stop.is_cancelled() {
            return Err(error);
        }
        counter!("muster_store_retries_total").increment(1);
        if away {
            self.ground.away.store(true, Relaxed);
        }
        if !self.told && self.pause > FIRST_PAUSE {
            self.tell(error).await;
            self.told = true;
        }
        if stop.is_cancelled() {
            tokio::time::sleep(self.pause).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// Connections that are kept do not know why there is none; one that is made for it does.
    async fn tell(&self, error: StoreError) {
        let why = match &error {
            StoreError::OutOfReach(_) => tokio::select! {
                reached = self.ground.store.reach() => reached.err(),
                () = self.ground.stop.cancelled() => None,
            },
            _ => None,
        };
        let why = why.unwrap_or(error);
        tracing::warn!("{}: {why}; trying again until it works", self.what);
    }

    pub fn over(&self) {
        // Whoever is first tells it for all.
        if self.ground.away.load(Relaxed) && self.ground.away.swap(false, Relaxed) {
            counter!("muster_store_reconnects_total").increment(1);
        }
        if self.told {
            tracing::info!("{}: the store answers again", self.what);
        }
    }
}
