//! The small protocol between dispatcher, broker, workers and reaper, explored exhaustively: every order in which a
//! message is lost, doubled or overtaken and a party dies, within bounds. The judge is the real one.

use std::collections::{HashMap, HashSet, VecDeque};

use muster::moment::Span;
use muster::policy::{Retry, Timeouts};
use muster::progress::{Clock, Standing, Step, Terms, clock, progress, run_out};
use muster::task::{Ending, Status, StatusWord, TaskState};

use super::steps::{NOW, after, offered};

/// How far is explored.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Offers that are made, and of these, how many may meet a fault.
    offers: i64,
    faulty: i64,
    /// Statuses that are on their way at once.
    flying: usize,
}

/// Many messages at once, and many offers one after another; both at once are too many houses for a test.
const WIDE: Bounds = Bounds {
    offers: 2,
    faulty: 1,
    flying: 2,
};
const LONG: Bounds = Bounds {
    offers: 3,
    faulty: 2,
    flying: 1,
};

const WORKERS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Word {
    Accepted,
    Heartbeat,
    Succeeded,
    Failed,
    Declined,
}

/// A status on its way: who says what of which offer.
type Said = (u8, i64, Word);

/// Everything that there is, small enough to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct House {
    state: TaskState,
    attempt: i64,
    spent: i64,
    worker: Option<String>,
    outcome: Option<String>,
    running: bool,
    beating: bool,
    /// Claimed, and its confirm has not been seen.
    unpublished: bool,
    /// Offers that lie at the broker.
    queue: Vec<i64>,
    /// What each worker works on.
    working: Vec<Option<i64>>,
    flying: Vec<Said>,
    /// Results that decided.
    decided: u8,
    flying_at_once: usize,
}

impl House {
    fn new(bounds: Bounds) -> House {
        House {
            flying_at_once: bounds.flying,
            state: TaskState::Queued,
            attempt: 0,
            spent: 0,
            worker: None,
            outcome: None,
            running: false,
            beating: false,
            unpublished: false,
            queue: Vec::new(),
            working: vec![None; usize::from(WORKERS)],
            flying: Vec::new(),
            decided: 0,
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            attempt: self.attempt,
            spent: self.spent,
            worker: self.worker.clone(),
            outcome: self.outcome.clone(),
            run_until: self.running.then(|| NOW.plus(Span::seconds(3600))),
            beat_at: self.beating.then(|| NOW.minus(Span::seconds(30))),
            ..Standing::new()
        }
    }

    fn with(&self, task: &Standing) -> House {
        let ended = task.state.terminal() && !self.state.terminal();
        House {
            state: task.state,
            attempt: task.attempt,
            spent: task.spent,
            worker: task.worker.clone(),
            outcome: task.outcome.clone(),
            running: task.run_until.is_some(),
            beating: task.beat_at.is_some(),
            unpublished: self.unpublished && task.outcome.is_none() && task.worker.is_none(),
            decided: self.decided + u8::from(ended),
            ..self.clone()
        }
    }

    fn queued(&self, number: i64) -> House {
        let mut next = self.clone();
        next.queue.push(number);
        next.queue.sort_unstable();
        next
    }

    fn flies(&self, said: Said) -> Option<House> {
        (self.flying.len() < self.flying_at_once).then(|| {
            let mut next = self.clone();
            next.flying.push(said);
            next.flying.sort_unstable();
            next
        })
    }
}

fn terms(idempotent: bool) -> Terms {
    Terms {
        retry: Retry {
            max: 2,
            ..Retry::default()
        },
        timeouts: Timeouts::default(),
        idempotent,
    }
}

fn word(word: Word) -> StatusWord {
    match word {
        Word::Accepted => StatusWord::Accepted,
        Word::Heartbeat => StatusWord::Heartbeat {
            done: None,
            total: None,
            stage: None,
            note: None,
        },
        Word::Succeeded => StatusWord::Succeeded(Ending::default()),
        Word::Failed => StatusWord::Failed {
            retryable: true,
            ending: Ending::default(),
        },
        Word::Declined => StatusWord::Declined {
            reason: None,
            retry_in: None,
        },
    }
}

/// What is told to the house, and what becomes of it; whoever works in vain is told to stop, which may get lost.
fn hear(house: &House, (worker, number, said): Said, terms: &Terms) -> House {
    let task = house.standing();
    let name = format!("w-{worker}");
    let status = Status {
        task_id: "t".to_owned(),
        attempt: Some(number),
        worker: name.clone(),
        at: None,
        word: word(said),
    };
    match progress(Some(&task), &status, terms, NOW, 0) {
        Step::Take(taken) => house.with(&after(&task, &taken, Some(&name))),
        Step::Late { .. } | Step::Duplicate => house.clone(),
        Step::Unknown => panic!("an offer that was made is known: {house:?} {status:?}"),
    }
}

/// What can happen next, and whether it is a fault.
fn next(house: &House, terms: &Terms, bounds: Bounds) -> Vec<(bool, House)> {
    let mut all = Vec::new();
    // The dispatcher claims, publishes, and sees the confirm or not.
    if house.state == TaskState::Queued && house.attempt < bounds.offers {
        let claimed = offered(&house.standing());
        all.push((
            false,
            House {
                unpublished: true,
                running: false,
                beating: false,
                ..house.with(&claimed)
            },
        ));
    }
    if house.unpublished {
        let published = house.queued(house.attempt);
        all.push((
            false,
            House {
                unpublished: false,
                ..published.clone()
            },
        ));
        // The process died, or the confirm was lost: the same offer goes out again.
        if house.queue.len() < 2 {
            all.push((true, published));
        }
    }
    for (place, number) in house.queue.iter().enumerate() {
        let mut taken = house.clone();
        taken.queue.remove(place);
        all.push((true, taken.clone()));
        if house.queue.len() < 2 {
            all.push((true, house.queued(*number)));
        }
        for worker in 0..WORKERS {
            let at = usize::from(worker);
            if house.working[at].is_none() {
                if let Some(mut works) = taken.flies((worker, *number, Word::Accepted)) {
                    works.working[at] = Some(*number);
                    all.push((false, works));
                }
                all.extend(
                    taken
                        .flies((worker, *number, Word::Declined))
                        .map(|declined| (true, declined)),
                );
            }
        }
    }
    for worker in 0..WORKERS {
        let at = usize::from(worker);
        let Some(number) = house.working[at] else {
            continue;
        };
        let mut idle = house.clone();
        idle.working[at] = None;
        // It dies without a word.
        all.push((true, idle.clone()));
        for (said, fault) in [
            (Word::Succeeded, false),
            (Word::Failed, true),
            (Word::Declined, true),
        ] {
            all.extend(
                idle.flies((worker, number, said))
                    .map(|ended| (fault, ended)),
            );
        }
        all.extend(
            house
                .flies((worker, number, Word::Heartbeat))
                .map(|beats| (false, beats)),
        );
    }
    for (place, said) in house.flying.iter().enumerate() {
        let mut landed = house.clone();
        landed.flying.remove(place);
        all.push((false, hear(&landed, *said, terms)));
        // Delivered, and delivered again later; or never.
        all.push((true, hear(house, *said, terms)));
        all.push((true, landed));
    }
    // Clocks run out whenever they like.
    let task = house.standing();
    let offered_until = (!house.unpublished).then_some(NOW);
    if let Some((_, which)) = clock(&task, offered_until, Span::seconds(60)) {
        let clocks = match which {
            // A worker that beats may overrun all the same.
            Clock::Silence => vec![Clock::Silence, Clock::Overrun],
            which => vec![which],
        };
        for which in clocks {
            let ended = after(&task, &run_out(&task, which, terms, NOW, 0), None);
            all.push((true, house.with(&ended)));
        }
    }
    all
}

/// Every house that can be reached, with the edges between them that are no faults.
fn explore(terms: &Terms, bounds: Bounds) -> (Vec<House>, HashMap<House, usize>, Vec<Vec<usize>>) {
    let mut known: HashMap<House, usize> = HashMap::from([(House::new(bounds), 0)]);
    let mut houses = vec![House::new(bounds)];
    let mut calm: Vec<Vec<usize>> = Vec::new();
    let mut at = 0;
    while at < houses.len() {
        let house = houses[at].clone();
        let mut ways = Vec::new();
        for (fault, next) in next(&house, terms, bounds) {
            if fault && house.attempt > bounds.faulty {
                continue;
            }
            assert!(
                !house.state.terminal() || next.state == house.state,
                "an end was left: {house:?} to {next:?}"
            );
            assert!(next.decided <= 1, "two results decided: {next:?}");
            assert!(next.attempt >= house.attempt && next.spent <= 2, "{next:?}");
            let place = *known.entry(next).or_insert_with_key(|next| {
                houses.push(next.clone());
                houses.len() - 1
            });
            if !fault {
                ways.push(place);
            }
        }
        calm.push(ways);
        at += 1;
    }
    (houses, known, calm)
}

fn nothing_is_lost_and_nothing_decides_twice(idempotent: bool, bounds: Bounds) {
    let (houses, known, calm) = explore(&terms(idempotent), bounds);
    for house in &houses {
        if house.state.terminal() {
            assert_eq!(house.decided, 1);
            continue;
        }
        // What has not ended goes on by somebody's hand or by a clock, even if nobody else ever speaks again.
        let goes_on = house.state == TaskState::Queued
            || house.unpublished
            || clock(&house.standing(), Some(NOW), Span::seconds(60)).is_some();
        assert!(goes_on, "stuck: {house:?}");
    }
    // From everywhere an end can be reached without any further fault but the clocks'.
    let mut back: Vec<Vec<usize>> = vec![Vec::new(); houses.len()];
    for (from, ways) in calm.iter().enumerate() {
        for to in ways {
            back[*to].push(from);
        }
    }
    for (from, house) in houses.iter().enumerate() {
        let task = house.standing();
        let until = (!house.unpublished).then_some(NOW);
        if let Some((_, which)) = clock(&task, until, Span::seconds(60)) {
            let ended = house.with(&after(
                &task,
                &run_out(&task, which, &terms(idempotent), NOW, 0),
                None,
            ));
            if let Some(to) = known.get(&ended) {
                back[*to].push(from);
            }
        }
    }
    let mut good: HashSet<usize> = HashSet::new();
    let mut queue: VecDeque<usize> = (0..houses.len())
        .filter(|at| houses[*at].state.terminal())
        .collect();
    good.extend(&queue);
    while let Some(at) = queue.pop_front() {
        for from in &back[at] {
            if good.insert(*from) {
                queue.push_back(*from);
            }
        }
    }
    for (at, house) in houses.iter().enumerate() {
        assert!(good.contains(&at), "no way to an end: {house:?}");
    }
    assert!(
        houses.len() > 10_000,
        "only {} houses were explored",
        houses.len()
    );
}

#[test]
fn whatever_is_lost_doubled_or_overtaken_no_task_is_lost_and_one_result_decides() {
    for bounds in [WIDE, LONG] {
        nothing_is_lost_and_nothing_decides_twice(false, bounds);
    }
}

#[test]
fn the_same_holds_where_work_may_be_done_twice() {
    for bounds in [WIDE, LONG] {
        nothing_is_lost_and_nothing_decides_twice(true, bounds);
    }
}
