//! What an event costs among ten schedules and among a million: the index beside our own compiled scan and the crate
//! a-tree, over the same rules and events in the same run.
//!
//! `cargo bench --bench matcher -- [--quick] [--most N] [--tree N]`, or `--one N [--events N] [--rounds N]` for one number
//! of rules, whose memory is then told rightly: a process that had more before gives it out again.
//!
//! Times are CPU time of this thread, from the bytes of an event to the numbers of its rules. They move with the
//! machine; candidates, matches and these instruction counts do not:
//!
//! `cargo bench --no-run --bench matcher` and then, with the file that it names,
//! `valgrind --tool=callgrind --toggle-collect='*asked_of_index*' FILE --one 1000 --events 2000` (and `--one 100000`).
//!
//! What bounds the figures:
//!
//! - Among few rules an event costs what reading it costs: some twenty values, each found by its name, hashed and given
//!   a slot, about three hundred instructions a value. Half as much goes into passing over the same bytes.
//! - Up to 10,000 rules it is instructions, a third each for reading, looking up keys and checking candidates; the scan
//!   takes seven nanoseconds a rule, so that an eighth of it at 1,000 is hardly more than the reading.
//! - With more rules it is the memory that the candidates and their keys lie in. A batch asks for all of it before it
//!   needs any, and loses nothing where all is near.
//! - Candidates that fail do so by a bound (`scan_level >= 3`), which no list is split by.
//! - Loading is the parser of the language for one half, and what holds a query (its tree and its canonical text) for a
//!   quarter; a rule's way into its list is a sixth.
//! - A removal is a bit and the few pieces on the way to it. What is swept later is about what an addition is.

#[path = "matcher/outside.rs"]
mod outside;
#[path = "matcher/workload.rs"]
mod workload;

use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use muster::query::{Context, Query, Schema};
use muster::trigger::{Asked, Event, Matches, Picture, Register, Scan};
use serde_json::{Map, Value};
use workload::{Mix, Workload};

struct Plan {
    quick: bool,
    most: usize,
    tree: usize,
    one: Option<usize>,
    events: usize,
    rounds: usize,
}

fn main() {
    let mut plan = Plan {
        quick: false,
        most: 1_000_000,
        tree: 100_000,
        one: None,
        events: 2_000,
        rounds: 1,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().unwrap_or_default();
            text.parse()
                .unwrap_or_else(|_| panic!("{argument} wants a number, not {text:?}"))
        };
        match argument.as_str() {
            "--quick" => (plan.quick, plan.most, plan.tree) = (true, 10_000, 1_000),
            "--most" => plan.most = number(),
            "--tree" => plan.tree = number(),
            "--one" => plan.one = Some(number()),
            "--events" => plan.events = number(),
            "--rounds" => plan.rounds = number(),
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    if let Some(rules) = plan.one {
        let workload = Workload::new(rules, Mix::Core, false);
        let (before, from) = (memory(), cpu());
        let mut register = built(&workload, true);
        println!(
            "RESULT build={:.1} bytes={:.0}",
            (cpu() - from) as f64 / 1e3 / rules as f64,
            (memory() - before) / rules as f64
        );
        let bodies = bodies(&workload, 0, plan.events);
        let picture = register.picture();
        for _ in 0..plan.rounds {
            let (mut found, mut together) = ((0, 0), 0);
            let one = timed(1, bodies.len(), || {
                found = asked_of_index(&picture, &bodies)
            });
            let batch = timed(1, bodies.len(), || {
                together = in_batches(&picture, &bodies, 16)
            });
            println!(
                "RESULT rules={rules} events={} matches={} candidates={} one={one:.3} batch={batch:.3}",
                plan.events, found.0, found.1
            );
            assert_eq!(found.0, together, "a batch finds what its events find");
        }
        drop(picture);
        let (adds, deletions) = changes(&workload, &mut register, 5_000);
        let from = Instant::now();
        register.sweep(usize::MAX);
        println!(
            "RESULT add={} delete={} swept={:.1}",
            shown(&adds),
            shown(&deletions),
            from.elapsed().as_micros() as f64 / deletions.len() as f64
        );
        return;
    }
    Run {
        plan,
        result: String::new(),
    }
    .all();
}

struct Run {
    plan: Plan,
    result: String,
}

fn compile(text: &str) -> Query {
    thread_local! {
        static SCHEMA: Schema = Schema::open("event");
    }
    SCHEMA.with(|schema| {
        Query::compile(text, &Context::new("rule", schema))
            .unwrap_or_else(|found| panic!("{text}: {found:?}"))
    })
}

fn asked(workload: &Workload, number: usize) -> Asked {
    Asked::of(compile(&workload.rule(number).0))
}

fn bodies(workload: &Workload, from: usize, count: usize) -> Vec<Vec<u8>> {
    (from..from + count)
        .map(|number| serde_json::to_vec(&workload.event(number)).expect("JSON"))
        .collect()
}

/// All rules, after the first few have told which attributes to sample, where there is a sample.
fn built(workload: &Workload, sampled: bool) -> Register {
    let mut register = Register::new();
    let known = if sampled { workload.rules.min(200) } else { 0 };
    for number in 0..known {
        register.insert(number as u32, &asked(workload, number));
    }
    if sampled {
        let mut event = Event::new();
        for body in bodies(workload, 1 << 40, 512) {
            event.read(&register.picture(), &body).expect("JSON");
            register.show(&mut event);
        }
    }
    for number in known..workload.rules {
        register.insert(number as u32, &asked(workload, number));
    }
    register
}

/// CPU time of this thread, in nanoseconds.
fn cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("the time of this thread");
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().expect("nanoseconds")
}

/// Memory in use, in bytes.
fn memory() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").expect("the memory of this process");
    let pages = text.split(' ').nth(1).unwrap_or_default();
    pages.parse::<f64>().expect("pages") * 4096.0
}

/// Microseconds of CPU for one of `count`, the least of some rounds. A round goes on until the account of the scheduler,
/// which moves in steps of some milliseconds, has moved far enough.
fn timed(rounds: usize, count: usize, mut work: impl FnMut()) -> f64 {
    const FAR: u64 = 60_000_000;
    let times = (0..rounds).map(|_| {
        let (from, mut repeated) = (cpu(), 0);
        loop {
            work();
            repeated += 1;
            let spent = cpu() - from;
            if spent >= FAR {
                return spent as f64 / 1e3 / (count * repeated) as f64;
            }
        }
    });
    times.fold(f64::INFINITY, f64::min)
}

#[inline(never)]
fn asked_of_index(picture: &Picture, bodies: &[Vec<u8>]) -> (usize, usize) {
    let mut event = Event::new();
    let mut matches = Matches::default();
    let (mut found, mut candidates) = (0, 0);
    for body in bodies {
        event.read(picture, body).expect("JSON");
        picture.find(&mut event, &mut matches);
        found += matches.rules.len();
        candidates += matches.candidates;
    }
    (found, candidates)
}

#[inline(never)]
fn in_batches(picture: &Picture, bodies: &[Vec<u8>], size: usize) -> usize {
    let mut events: Vec<Event> = (0..size).map(|_| Event::new()).collect();
    let mut matches: Vec<Matches> = (0..size).map(|_| Matches::default()).collect();
    let mut found = 0;
    for batch in bodies.chunks(size) {
        for (event, body) in events.iter_mut().zip(batch) {
            event.read(picture, body).expect("JSON");
        }
        let count = batch.len();
        picture.find_all(&mut events[..count], &mut matches[..count]);
        found += matches[..count]
            .iter()
            .map(|all| all.rules.len())
            .sum::<usize>();
    }
    found
}

#[inline(never)]
fn asked_of_scan(scan: &Scan, picture: &Picture, bodies: &[Vec<u8>]) -> usize {
    let mut event = Event::new();
    let mut matches = Matches::default();
    let mut found = 0;
    for body in bodies {
        event.read(picture, body).expect("JSON");
        scan.find(picture, &mut event, &mut matches);
        found += matches.rules.len();
    }
    found
}

impl Run {
    fn note(&mut self, name: &str, value: f64) {
        self.result.push_str(&format!(" {name}={value:.3}"));
    }

    fn all(mut self) {
        self.reading();
        println!(
            "\n{:>9} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9} {:>9} {:>7} {:>6} {:>15} {:>15}",
            "rules",
            "one",
            "of 16",
            "matches",
            "cand.",
            "scan",
            "a-tree",
            "events/s",
            "build",
            "bytes",
            "add p50/99/max",
            "del p50/99/max"
        );
        let mut rules = 10;
        while rules <= self.plan.most {
            self.size(rules);
            rules *= 10;
        }
        self.mixes();
        self.learning();
        self.beside_a_writer();
        println!("RESULT{}", self.result);
    }

    /// G7: from bytes to slots, beside a tree of JSON.
    fn reading(&mut self) {
        let workload = Workload::new(1_000, Mix::Core, false);
        let register = built(&workload, true);
        let picture = register.picture();
        let bodies = bodies(&workload, 0, 2_000);
        let bytes = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
        let mut event = Event::new();
        let nobody = Register::new().picture();
        let passed = timed(9, bodies.len(), || {
            for body in &bodies {
                black_box(event.read(&nobody, body)).expect("JSON");
            }
        });
        let slots = timed(9, bodies.len(), || {
            for body in &bodies {
                black_box(event.read(&picture, body)).expect("JSON");
            }
        });
        let tree = timed(9, bodies.len(), || {
            for body in &bodies {
                black_box(serde_json::from_slice::<Map<String, Value>>(body)).expect("JSON");
            }
        });
        println!(
            "Reading an event of {bytes} bytes: {slots:.2} µs into slots with their keys ({passed:.2} µs where nothing is \
             asked), {tree:.2} µs into a tree of JSON; {:.1} times",
            tree / slots
        );
        self.note("read_us", slots);
        self.note("tree_us", tree);
    }

    fn size(&mut self, rules: usize) {
        let workload = Workload::new(rules, Mix::Core, false);
        let quick = self.plan.quick;
        let before = memory();
        let from = cpu();
        let mut register = built(&workload, true);
        // The texts are made within that time too; what they cost is taken off again.
        let build = (cpu() - from) as f64 / 1e3 / rules as f64;
        let bytes = (memory() - before) / rules as f64;
        let from = cpu();
        for number in 0..rules.min(20_000) {
            black_box(workload.rule(number));
        }
        let build = build - (cpu() - from) as f64 / 1e3 / rules.min(20_000) as f64;
        let picture = register.picture();
        let bodies = bodies(&workload, 0, if quick { 10_000 } else { 40_000 });
        let rounds = if quick { 2 } else { 5 };
        let (mut found, mut candidates) = (0, 0);
        let one = timed(rounds, bodies.len(), || {
            (found, candidates) = asked_of_index(&picture, &bodies);
        });
        let mut together = 0;
        let batch = timed(rounds, bodies.len(), || {
            together = in_batches(&picture, &bodies, 16);
        });
        assert_eq!(found, together, "a batch finds what its events find");
        let each = |sum: usize| sum as f64 / bodies.len() as f64;

        let few = &bodies[..bodies
            .len()
            .min((40_000_000 / rules / if quick { 10 } else { 1 }).clamp(20, 10_000))];
        let mut scan = Scan::new();
        for number in 0..rules {
            scan.insert(number as u32, &asked(&workload, number));
        }
        let scan_picture = scan.picture();
        let mut scanned = 0;
        let plain = timed(2, few.len(), || {
            scanned = asked_of_scan(&scan, &scan_picture, few);
        });
        let (the_same, _) = asked_of_index(&picture, few);
        assert_eq!(the_same, scanned, "the index finds what the scan finds");
        drop(scan);

        let theirs = (rules <= self.plan.tree).then(|| {
            let tree = outside::tree((0..rules).map(|number| (number, workload.rule(number).1)));
            let maps: Vec<Map<String, Value>> =
                (0..few.len().min(200)).map(|n| workload.event(n)).collect();
            let mut found = 0;
            let time = timed(2, maps.len(), || {
                found = 0;
                for body in &bodies[..maps.len()] {
                    let map = serde_json::from_slice(body).expect("JSON");
                    let event = outside::event(&tree, &map);
                    found += tree.search(&event).expect("a search").matches().len();
                }
            });
            let (ours, _) = asked_of_index(&picture, &bodies[..maps.len()]);
            assert_eq!(found, ours, "a-tree finds what the index finds");
            time
        });
        let (adds, deletions) = changes(&workload, &mut register, if quick { 500 } else { 5_000 });
        println!(
            "{rules:>9} {one:>8.2} {batch:>8.2} {:>7.2} {:>7.1} {plain:>9.1} {:>9} {:>9.0} {build:>7.1} {bytes:>6.0} {:>15} {:>15}",
            each(found),
            each(candidates),
            theirs.map_or("-".to_owned(), |time| format!("{time:.1}")),
            1e6 / batch,
            shown(&adds),
            shown(&deletions),
        );
        let key = match rules {
            1_000_000 => "1m".to_owned(),
            n if n >= 1_000 => format!("{}k", n / 1_000),
            n => n.to_string(),
        };
        self.note(&format!("one_{key}"), one);
        self.note(&format!("batch_{key}"), batch);
        self.note(&format!("candidates_{key}"), each(candidates));
        self.note(&format!("scan_ratio_{key}"), plain / one);
        if let Some(time) = theirs {
            self.note(&format!("tree_ratio_{key}"), time / one);
        }
        if rules == self.plan.most {
            self.note("matches", each(found));
            self.note("build_us", build);
            self.note("bytes", bytes);
            self.note("add_p99", percentile(&adds, 99));
            self.note("delete_p99", percentile(&deletions, 99));
        }
    }

    /// G2, G5 and G6: matches that grow with the rules, and all operators.
    fn mixes(&mut self) {
        let rules = 100_000.min(self.plan.most);
        let mut core = 0.0;
        for (name, mix, lin) in [
            ("core", Mix::Core, false),
            ("full", Mix::Full, false),
            ("lin", Mix::Core, true),
        ] {
            let workload = Workload::new(rules, mix, lin);
            let register = built(&workload, true);
            let picture = register.picture();
            let bodies = bodies(&workload, 0, 10_000);
            let mut found = (0, 0);
            let time = timed(3, bodies.len(), || {
                found = asked_of_index(&picture, &bodies)
            });
            let batch = timed(3, bodies.len(), || {
                black_box(in_batches(&picture, &bodies, 16));
            });
            let (matches, candidates) = (found.0 as f64, found.1 as f64);
            let events = bodies.len() as f64;
            println!(
                "{name} with {rules} rules: {time:.2} µs, {batch:.2} in batches; {:.1} matches, {:.1} candidates, {:.2} M matches/s; \
                 {} rules without a key",
                matches / events,
                candidates / events,
                matches / events / batch,
                register.unindexed()
            );
            match name {
                "core" => core = time,
                "full" => self.note("full_ratio", time / core),
                _ => {
                    self.note("lin_candidates_a_match", candidates / matches);
                    self.note("lin_mmatches", matches / events / batch);
                }
            }
        }
    }

    /// G10: rules that were loaded without a sample, or with a misleading one.
    fn learning(&mut self) {
        let rules = 100_000.min(self.plan.most);
        let workload = Workload::new(rules, Mix::Core, false);
        let last = bodies(&workload, 1 << 30, 2_000);
        let each = |found: (usize, usize)| found.1 as f64 / last.len() as f64;
        let sampled = each(asked_of_index(&built(&workload, true).picture(), &last));
        let mut misled = Workload::new(rules, Mix::Core, false);
        misled.skewed = true;
        for (name, mut register) in [
            ("without statistics", built(&workload, false)),
            ("with a misleading sample", {
                let mut register = Register::new();
                for number in 0..200 {
                    register.insert(number as u32, &asked(&workload, number));
                }
                let mut event = Event::new();
                for body in bodies(&misled, 1 << 41, 512) {
                    event.read(&register.picture(), &body).expect("JSON");
                    register.show(&mut event);
                }
                for number in 200..rules {
                    register.insert(number as u32, &asked(&workload, number));
                }
                register
            }),
        ] {
            let before = each(asked_of_index(&register.picture(), &last));
            let mut event = Event::new();
            let (mut moved, mut spent) = (0, 0);
            for (number, body) in bodies(&workload, 1 << 20, 20_000).iter().enumerate() {
                if number.is_multiple_of(8) {
                    let from = Instant::now();
                    event.read(&register.picture(), body).expect("JSON");
                    register.show(&mut event);
                    if number.is_multiple_of(64) {
                        moved += register.settle(64, &|rule| Some(asked(&workload, rule as usize)));
                    }
                    spent += from.elapsed().as_micros();
                }
            }
            let after = each(asked_of_index(&register.picture(), &last));
            println!(
                "{rules} rules loaded {name}: {before:.1} candidates, {after:.1} after 20,000 events ({moved} rules moved, \
                 {:.2} µs an event); {sampled:.1} with a good sample",
                spent as f64 / 20_000.0
            );
            let key = if name.starts_with("without") {
                "unsampled_ratio"
            } else {
                "misled_ratio"
            };
            self.note(key, after / sampled);
        }
    }

    /// G9: events with and without a thousand changes a second beside them.
    fn beside_a_writer(&mut self) {
        let rules = self.plan.most;
        let workload = Workload::new(rules, Mix::Core, false);
        let mut register = built(&workload, true);
        let shared = Arc::new(RwLock::new(register.picture()));
        let bodies = bodies(&workload, 0, 20_000);
        let seconds = if self.plan.quick { 1.0 } else { 4.0 };
        let reading = |stop: &AtomicBool| {
            let (mut events, from) = (0_usize, cpu());
            while !stop.load(Ordering::Relaxed) {
                for chunk in bodies.chunks(64) {
                    let picture = shared.read().expect("the picture").clone();
                    black_box(asked_of_index(&picture, chunk));
                    events += chunk.len();
                }
            }
            (cpu() - from) as f64 / 1e3 / events as f64
        };
        let stop = AtomicBool::new(false);
        let quiet = std::thread::scope(|scope| {
            let reader = scope.spawn(|| reading(&stop));
            std::thread::sleep(Duration::from_secs_f64(seconds));
            stop.store(true, Ordering::Relaxed);
            reader.join().expect("a reader")
        });
        let (mut changes, mut spent) = (0_u64, 0);
        stop.store(false, Ordering::Relaxed);
        let busy = std::thread::scope(|scope| {
            let reader = scope.spawn(|| reading(&stop));
            let begun = Instant::now();
            while begun.elapsed().as_secs_f64() < seconds {
                let due = (begun.elapsed().as_secs_f64() * 1_000.0) as u64;
                while changes < due {
                    let rule = changes as usize * 7 % rules;
                    let text = asked(&workload, rule);
                    let from = cpu_now();
                    register.remove(rule as u32, &text);
                    register.insert(rule as u32, &text);
                    *shared.write().expect("the picture") = register.picture();
                    spent += cpu_now() - from;
                    changes += 1;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().expect("a reader")
        });
        println!(
            "Beside {changes} changes in {seconds} s among {rules} rules an event costs {busy:.2} µs, without them {quiet:.2}; \
             {:.1} % more. A change (a removal and an addition) takes {:.1} µs",
            (busy / quiet - 1.0) * 100.0,
            spent as f64 / 1e3 / changes.max(1) as f64
        );
        self.note("beside_writer", busy / quiet);
    }
}

/// For short times, which the scheduler's account is too coarse for.
fn cpu_now() -> u64 {
    thread_local! {
        static BEGUN: Instant = Instant::now();
    }
    BEGUN.with(|begun| begun.elapsed().as_nanos() as u64)
}

/// Microseconds of additions and of deletions, each shown to readers at once.
fn changes(workload: &Workload, register: &mut Register, count: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut adds, mut deletions) = (Vec::new(), Vec::new());
    let mut shown = register.picture();
    let mut held = Vec::new();
    for number in 0..count {
        let rule = workload.rules + number;
        let asked = asked(workload, rule);
        let from = Instant::now();
        register.insert(rule as u32, &asked);
        let next = register.picture();
        adds.push(from.elapsed().as_nanos() as f64 / 1e3);
        // What the last picture alone held is freed by whoever lets it go last, a reader as a rule.
        shown = next;
        held.push((rule, asked));
    }
    for (rule, asked) in held {
        let from = Instant::now();
        register.remove(rule as u32, &asked);
        let next = register.picture();
        deletions.push(from.elapsed().as_nanos() as f64 / 1e3);
        shown = next;
    }
    drop(shown);
    adds.sort_by(f64::total_cmp);
    deletions.sort_by(f64::total_cmp);
    (adds, deletions)
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn shown(sorted: &[f64]) -> String {
    let worst = sorted.last().copied().unwrap_or_default();
    format!(
        "{:.1}/{:.1}/{worst:.0}",
        percentile(sorted, 50),
        percentile(sorted, 99)
    )
}
