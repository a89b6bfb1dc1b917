//! A year of a thousand schedules on three replicas over one store, which are killed and restarted at random: every
//! occurrence is decided exactly once, and no two runs are under way where only one may be.
//!
//! Time is fixed: the steps of the loops are called with one instant after the other, on SQLite in memory. A replica is
//! killed wherever it just is, between what it decides and what it stores too, and loses all that it had in memory; now and
//! then all are down for days, tasks are left to run for a while, and schedules are paused and resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;

use muster::answer::answer;
use muster::declaration::{Variables, read_file};
use muster::ground::{Ground, IntakeRule};
use muster::intake::{Incoming, handle};
use muster::moment::{Moment, Span};
use muster::policy::{Format, Order};
use muster::progress::Taken;
use muster::recurrence::Last;
use muster::rules::Rules;
use muster::schedule::{Input, Overlap};
use muster::store::{Edit, Reported, RunFilter, RunRecord, Store};
use muster::task::TaskState;
use muster::wire::Requested;
use muster::{expansion, ticker, turns};
use serde_json::json;
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
    let intakes = vec![IntakeRule {
        queue: "muster.events".to_owned(),
        order: Order::Time,
        format: Format::CloudEvents,
    }];
    let ground = Ground::new(store.clone(), rules.clone(), intakes, seed, stop);
    ground.clock.fix(now);
    ground
}

/// A step of a replica, which is killed after it has waited for the database so many times; nothing where it was.
async fn killed_after<T>(waits: usize, step: impl Future<Output = T>) -> Option<T> {
    let mut step = std::pin::pin!(step);
    let mut left = waits;
    std::future::poll_fn(|context| match step.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Every kind of recurrence with every policy.
fn declarations(chance: &mut Chance) -> String {
    let mut text = String::from(
        "- {kind: organization, id: acme}\n\
         - {kind: plugin, plugin_id: hosts, worker_type: reader, consumes: [host]}\n\
         - {kind: calendar, name: summer, timezone: Europe/Amsterdam, dates: [{from: \"2026-07-10\", to: \"2026-08-20\"}]}\n\
         - {kind: calendar, name: nights, weekly: [{days: [sat, sun], from: \"00:00\", to: \"06:00\"}]}\n",
    );
    for plugin in 0..PLUGINS {
        text.push_str(&format!(
            "- {{kind: plugin, plugin_id: p{plugin}, worker_type: reader}}\n"
        ));
    }
    for number in 0..SCHEDULES {
        let day = chance.below(28) + 1;
        let recurrence = match chance.below(40) {
            0 => ["\"daily\"", "\"0 0 * * 1-3\""][chance.below(2)].to_owned(),
            1..=4 => format!("\"0 0 * * {}\"", chance.below(7)),
            5..=20 => format!("\"0 0 {day} * *\""),
            21..=24 => "\"yearly\"".to_owned(),
            25..=26 => "\"monthly\"".to_owned(),
            27..=29 => format!("\"{}d\"", chance.below(40) + 15),
            30 => "\"2026-05-05T12:00:00Z\"".to_owned(),
            31 => "\"weekly\"".to_owned(),
            32..=34 => {
                "{rrule: \"FREQ=MONTHLY;BYDAY=-1FR\", dtstart: \"2026-01-01T00:00:00\"}".to_owned()
            }
            35..=36 => format!(
                "{{rrule: \"FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY={day}\", dtstart: \"2026-01-01T12:00:00\", exdate: [\"2026-05-{day:02}T12:00:00\"]}}"
            ),
            37 => format!("[\"0 0 {day} * *\", {{period: 30d, anchor: epoch}}]"),
            _ => format!("[\"0 0 0 {day} * *\", \"yearly\", \"2026-09-09T00:00:00Z\"]"),
        };
        let overlap = ["skip", "buffer_one", "allow", "replace"][chance.below(4)];
        let missed = ["latest", "skip", "all"][chance.below(3)];
        let zone = ["UTC", "Europe/Amsterdam"][usize::from(number % 50 == 0)];
        let calendars = match number % 10 {
            3 => "calendars: [summer], ",
            7 => "calendars: [summer, nights], ",
            _ => "",
        };
        // Every twentieth finds its inputs in the inventory.
        let (plugin, input) = match number % 20 {
            11 => ("hosts".to_owned(), "{host: \"name != 'h2'\"}"),
            _ => (format!("p{}", number % PLUGINS), "{}"),
        };
        text.push_str(&format!(
            "- {{name: s{number}, organization: acme, recurrences: {recurrence}, timezone: {zone}, {calendars}\
             plugins: \"plugin_id = '{plugin}'\", input: {input}, overlap: {overlap}, missed: {missed}, \
             catchup_window: 3d, catchup_max: 5}}\n",
        ));
    }
    text
}

/// What an expansion finds.
async fn tell_of_hosts(ground: &Ground) {
    let hosts = (0..4).map(|number| {
        let event = json!({
            "specversion": "1.0", "id": format!("h{number}"), "source": "/year", "type": "object.created",
            "data": {"organization": "acme", "object_type": "host", "primary_key": format!("h{number}"),
                     "attributes": {"name": format!("h{number}")}, "scan_level": 1},
        });
        Incoming {
            body: event.to_string().into_bytes(),
            ..Incoming::default()
        }
    });
    let hosts: Vec<Incoming> = hosts.collect();
    let handled = handle(ground, &hosts).await.expect("handled");
    assert!(handled.dead.is_empty(), "{:?}", handled.dead);
}

/// Somebody pauses a schedule, or resumes the one that is paused.
async fn pause(ground: &Ground, chance: &mut Chance, paused: &mut Option<String>) {
    let (command, args) = match paused.take() {
        Some(name) => ("schedule.resume", json!({"schedule": name})),
        None => {
            let name = format!("s{}", chance.below(SCHEDULES));
            *paused = Some(name.clone());
            let args = json!({"schedule": name, "reason": "a while"});
            ("schedule.pause", args)
        }
    };
    let asked = Requested {
        id: None,
        command: command.to_owned(),
        organization: None,
        args: args.as_object().cloned().unwrap_or_default(),
    };
    let answered = answer(ground, &asked, "somebody").await;
    answered.expect("the store answers").expect("allowed");
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
    tell_of_hosts(&replicas[0]).await;
    let (mut now, mut steps, mut restarted, mut killed) = (begin, 0_u32, 0_u32, 0_u32);
    let mut held = Vec::new();
    let mut paused = None;
    while now < end {
        steps += 1;
        let one = chance.below(3);
        for replica in &replicas {
            replica.clock.fix(now);
        }
        let anew = || replica(&store, &rules, seed + 100 + u64::from(steps), now);
        // Now and then one is killed in the middle of what it does, and comes back having forgotten all.
        if chance.below(25) == 0 {
            restarted += 1;
            let waits = chance.below(30);
            let victim = &replicas[one];
            let undone = killed_after(waits, async {
                ticker::step(victim).await.expect("ticked");
                turns::step(victim).await.expect("turned");
                expansion::step(victim).await.expect("expanded");
            })
            .await;
            killed += u32::from(undone.is_none());
            replicas[one] = anew();
        }
        // Two decide at once; the third comes late and finds nothing left.
        let other = (one + 1) % 3;
        let (first, second) =
            tokio::join!(ticker::step(&replicas[one]), ticker::step(&replicas[other]));
        let next = first.expect("ticked").expect("there is always a next");
        second.expect("ticked");
        turns::step(&replicas[one]).await.expect("turned");
        expansion::step(&replicas[other]).await.expect("expanded");
        let percent = [20, 70, 100][chance.below(3)];
        work(&replicas[other], &mut chance, percent, &mut held).await;
        turns::step(&replicas[(one + 2) % 3]).await.expect("turned");
        if chance.below(12) == 0 {
            pause(&replicas[other], &mut chance, &mut paused).await;
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
    let (mut expanded, mut pauses) = (0, 0);
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
            let expands = matches!(schedule.input, Input::Selected(_));
            expanded += usize::from(expands && run.counts[0] > 0);
            // Three of the four hosts, each at most once.
            assert!(!expands || run.counts[0] <= 3, "{name}: {:?}", run.counts);
        }
        let mut gone = 0;
        for (reason, (from, until, count)) in rows
            .iter()
            .filter_map(|run| Some((run.reason.as_deref(), run.gap?)))
        {
            pauses += usize::from(reason == Some("paused"));
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
        "{occurrences} occurrences, {passed} of them in gaps, {pauses} in pauses, {suppressed} suppressed, {expanded} expanded, \
         {} rows; {steps} instants, {restarted} restarts, {killed} of them in the middle of a step",
        runs.len()
    );
    assert!(occurrences > 10_000 && passed > 100 && suppressed > 100 && expanded > 100);
    assert!(restarted >= 8 && killed >= 4);
}
