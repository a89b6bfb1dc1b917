//! A year of a thousand schedules on three replicas over one store, which are killed and restarted at random: every
//! occurrence is decided exactly once, and no two runs are under way where only one may be.
//!
//! Time is fixed: the steps of the loops are called with one instant after the other, on SQLite in memory. A replica that
//! is killed loses all that it had in memory; now and then all are down for days, and tasks are left to run for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster::declaration::{Variables, read_file};
use muster::ground::Ground;
use muster::moment::{Moment, Span};
use muster::progress::Taken;
use muster::recurrence::Last;
use muster::rules::Rules;
use muster::schedule::Overlap;
use muster::store::{Edit, Reported, RunFilter, RunRecord, Store};
use muster::task::TaskState;
use muster::{ticker, turns};
use tokio_util::sync::CancellationToken;

const SCHEDULES: usize = 1000;
/// Schedules share plugins, so that their tasks are in each other's way too.
const PLUGINS: usize = 100;

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most as u64) as usize
    }
}

fn replica(store: &Store, rules: &Arc<Rules>, seed: u64, now: Moment) -> Ground {
    let stop = CancellationToken::new();
    let ground = Ground::new(store.clone(), rules.clone(), Vec::new(), seed, stop);
    ground.clock.fix(now);
    ground
}

/// Every kind of recurrence with every policy.
fn declarations(chance: &mut Chance) -> String {
    let mut text = String::from("- {kind: organization, id: acme}\n");
    for plugin in 0..PLUGINS {
        text.push_str(&format!(
            "- {{kind: plugin, plugin_id: p{plugin}, worker_type: reader}}\n"
        ));
    }
    for number in 0..SCHEDULES {
        let recurrence = match chance.below(40) {
            0 => "daily".to_owned(),
            1..=20 => format!("0 {} * * {}", chance.below(2) * 12, chance.below(7)),
            21..=32 => format!("0 0 {} * *", chance.below(28) + 1),
            33..=35 => "yearly".to_owned(),
            36 => "monthly".to_owned(),
            37 => format!("{}d", chance.below(20) + 5),
            38 => "2026-05-05T12:00:00Z".to_owned(),
            _ => "weekly".to_owned(),
        };
        let overlap = ["skip", "buffer_one", "allow", "replace"][chance.below(4)];
        let missed = ["latest", "skip", "all"][chance.below(3)];
        let zone = ["UTC", "Europe/Amsterdam"][usize::from(number % 50 == 0)];
        text.push_str(&format!(
            "- {{name: s{number}, organization: acme, recurrences: \"{recurrence}\", timezone: {zone}, plugins: \"plugin_id = 'p{}'\", \
             input: {{}}, overlap: {overlap}, missed: {missed}, catchup_window: 3d, catchup_max: 5}}\n",
            number % PLUGINS
        ));
    }
    text
}

/// Of what waits and of what workers have, about so many in a hundred end.
async fn work(ground: &Ground, chance: &mut Chance, percent: usize, held: &mut Vec<String>) {
    let now = ground.clock.now();
    let queue = ground.rules.worker("reader").queue.clone();
    let lease = now.plus(Span::seconds(30));
    let claimed = ground
        .store
        .claim(&queue, 100_000, now, lease)
        .await
        .expect("claimed");
    held.extend(claimed.into_iter().map(|task| task.task_id));
    let (ends, stays): (Vec<String>, Vec<String>) =
        held.drain(..).partition(|_| chance.below(100) < percent);
    *held = stays;
    let ids: Vec<&str> = ends.iter().map(String::as_str).collect();
    let standings = ground.store.standings(&ids).await.expect("standings");
    let steps: Vec<Reported> = ends
        .iter()
        .filter_map(|task_id| {
            let standing = standings.get(task_id)?.standing.clone();
            (!standing.state.terminal()).then(|| Reported {
                task_id: task_id.clone(),
                worker: Some("w".to_owned()),
                at: Some(now),
                standing,
                step: Taken {
                    state: Some(TaskState::Succeeded),
                    accepted: true,
                    outcome: Some("succeeded"),
                    ..Taken::default()
                },
            })
        })
        .collect();
    ground
        .store
        .apply_steps(&steps, &[], now)
        .await
        .expect("applied");
}

#[tokio::test]
async fn a_year_of_a_thousand_schedules_decides_every_occurrence_once_and_overlaps_nowhere() {
    let seed: u64 = std::env::var("YEAR_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("seed {seed} (YEAR_SEED)");
    let mut chance = Chance(seed);
    let begin = Moment::parse("2026-01-01T00:00:00Z").expect("an instant");
    let end = Moment::parse("2027-01-01T00:00:00Z").expect("an instant");
    let rules = Arc::new(Rules::default());
    let store = Store::open("sqlite::memory:").await.expect("open");
    store.migrate().await.expect("the schema is made");
    let text = declarations(&mut chance);
    let (declared, complaints) =
        read_file("year.yaml", text.as_bytes(), &Variables::default(), &rules);
    assert!(complaints.is_empty(), "{complaints:?}");
    let edits: Vec<Edit> = declared
        .into_iter()
        .map(|entry| Edit::Put {
            kind: entry.kind,
            organization: entry.organization,
            id: entry.name.clone(),
            name: entry.name,
            definition: entry.definition,
        })
        .collect();
    store.apply(&edits, 1, begin).await.expect("applied");
    let mut replicas: Vec<Ground> = (0..3)
        .map(|number| replica(&store, &rules, seed + number, begin))
        .collect();
    let (mut now, mut steps, mut killed) = (begin, 0_u32, 0_u32);
    let mut held = Vec::new();
    while now < end {
        steps += 1;
        let one = chance.below(3);
        if chance.below(12) == 0 {
            killed += 1;
            replicas[one] = replica(&store, &rules, seed + 100 + u64::from(steps), now);
        }
        for replica in &replicas {
            replica.clock.fix(now);
        }
        // Two decide at once; the third comes late and finds nothing left.
        let other = (one + 1) % 3;
        let (first, second) =
            tokio::join!(ticker::step(&replicas[one]), ticker::step(&replicas[other]));
        let next = first.expect("ticked").expect("there is always a next");
        second.expect("ticked");
        turns::step(&replicas[one]).await.expect("turned");
        let percent = [20, 70, 100][chance.below(3)];
        work(&replicas[other], &mut chance, percent, &mut held).await;
        for replica in &replicas {
            turns::step(replica).await.expect("turned");
        }
        // Now and then nobody is there for days.
        now = if chance.below(60) == 0 {
            now.plus(Span::seconds(3600 * (chance.below(24 * 12) as i64 + 1)))
        } else {
            next.max(now.plus(Span::seconds(1)))
        };
    }
    let last = replicas[0].clock.now();
    let filter = RunFilter {
        limit: 10_000_000,
        ..RunFilter::default()
    };
    let runs = store.runs(&filter).await.expect("runs");
    let mut by_schedule: BTreeMap<&str, Vec<&RunRecord>> = BTreeMap::new();
    for run in &runs {
        by_schedule.entry(&run.schedule).or_default().push(run);
    }
    let catalogue = replicas[0].catalogue();
    let (mut occurrences, mut passed, mut suppressed) = (0, 0, 0);
    for scheduled in catalogue.schedules.iter() {
        let schedule = &scheduled.schedule;
        let name = schedule.name.as_str();
        let expected: BTreeSet<Moment> = scheduled
            .timetable
            .instants(begin, Last::Never)
            .take_while(|at| *at <= last)
            .collect();
        let rows = by_schedule.remove(name).unwrap_or_default();
        let mut decided = BTreeSet::new();
        for run in rows.iter().filter(|run| run.gap.is_none()) {
            assert!(
                expected.contains(&run.scheduled_for),
                "{name}: {} is no instant of it",
                run.scheduled_for
            );
            assert!(
                decided.insert(run.scheduled_for),
                "{name}: {} ran twice",
                run.scheduled_for
            );
            suppressed += usize::from(run.state.word() == "skipped");
        }
        let mut gone = 0;
        for (from, until, count) in rows.iter().filter_map(|run| run.gap) {
            let within = expected
                .range(from..=until)
                .filter(|at| !decided.contains(at))
                .count();
            assert!(
                count as usize <= within,
                "{name}: a gap of {count} from {from} to {until}"
            );
            gone += count as usize;
        }
        assert_eq!(
            decided.len() + gone,
            expected.len(),
            "{name}: each instant is decided exactly once"
        );
        occurrences += expected.len();
        passed += gone;
        if matches!(schedule.overlap, Overlap::BufferOne | Overlap::Replace) {
            let mut under_way: Vec<(Moment, Option<Moment>)> = rows
                .iter()
                .filter_map(|run| Some((run.started_at?, run.finished_at)))
                .collect();
            under_way.sort();
            for pair in under_way.windows(2) {
                let ended = pair[0]
                    .1
                    .unwrap_or(Moment::parse("9999-01-01T00:00:00Z").expect("far"));
                assert!(ended <= pair[1].0, "{name}: two runs at once: {pair:?}");
            }
        }
    }
    println!(
        "{occurrences} occurrences, {passed} of them in gaps, {suppressed} suppressed, {} rows; {steps} instants, {killed} restarts",
        runs.len()
    );
    assert!(occurrences > 20_000 && passed > 100 && suppressed > 100 && killed > 50);
}
