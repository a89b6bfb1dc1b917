//! Who goes next: classes, fair turns, limits, and that nobody starves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster::backlog::{Allowance, Backlog, Key, Turns, Used, Waiting, bucket, left};
use muster::moment::{Moment, Span};
use muster::policy::Rank;
use muster::rank::{Ranked, rank};
use muster::schedule::{Limit, Per};
use proptest::prelude::*;

fn waiting(id: usize, class: i64, organization: &str, plugin: &str) -> Waiting {
    let created_at = Moment::from_micros(i64::try_from(id).expect("a small number"));
    Waiting {
        id: format!("{id:06}"),
        class,
        organization: organization.to_owned(),
        plugin_id: plugin.to_owned(),
        priority: 5,
        rank: created_at.micros(),
        created_at,
    }
}

fn ids(chosen: &[Waiting]) -> Vec<&str> {
    chosen.iter().map(|waiting| waiting.id.as_str()).collect()
}

#[test]
fn ten_of_another_organization_pass_a_hundred_thousand_within_twenty_dispatches() {
    let mut backlog = Backlog::new(16);
    for id in 0..100_000 {
        backlog.put(waiting(id, 1, "large", "scan"), 1);
    }
    let before = backlog.next(64, &mut Allowance::default());
    assert!(before.iter().all(|waiting| waiting.organization == "large"));
    for id in 100_000..100_010 {
        backlog.put(waiting(id, 1, "small", "scan"), 1);
    }
    let next = backlog.next(20, &mut Allowance::default());
    let small = next
        .iter()
        .filter(|waiting| waiting.organization == "small")
        .count();
    assert_eq!(small, 10);
}

#[test]
fn turns_go_on_where_they_stood_from_one_look_to_the_next() {
    // Three organisations, of weights 1 to 3; each look sees all of them again, from whose turn it is.
    let mut left: BTreeMap<(String, usize), i64> = BTreeMap::new();
    for (weight, organization) in [(1, "one"), (2, "two"), (3, "three")] {
        for id in 0..60 {
            left.insert((organization.to_owned(), id), weight);
        }
    }
    let mut turns = Turns::default();
    let mut went: BTreeMap<String, usize> = BTreeMap::new();
    for look in 0..24 {
        let mut backlog = Backlog::resumed(0, turns.clone());
        let next = turns.next.get(&1).map_or("", |(next, _)| next.as_str());
        let (after, before): (Vec<_>, Vec<_>) = left
            .iter()
            .partition(|((organization, _), _)| organization.as_str() >= next);
        for ((organization, id), weight) in after.into_iter().chain(before) {
            let id = 1000 * usize::try_from(*weight).expect("small") + id;
            backlog.put(waiting(id, 1, organization, "scan"), *weight);
        }
        // Five do not divide a round of six.
        for task in backlog.next(5, &mut Allowance::default()) {
            let id: usize = task.id.parse().expect("a number");
            left.remove(&(task.organization.clone(), id % 1000));
            *went.entry(task.organization).or_default() += 1;
        }
        turns = backlog.turns();
        assert_eq!(turns.dispatched, 5 * (look + 1));
    }
    let shares: Vec<usize> = went.into_values().collect();
    assert_eq!(shares, [20, 60, 40], "one, three, two");
}

#[test]
fn turns_stop_before_whoever_is_not_here_and_go_on_there() {
    let mut backlog = Backlog::new(0);
    for id in 0..9 {
        backlog.put(waiting(id, 1, ["a", "b", "c"][id % 3], "scan"), 1);
    }
    backlog.stop_before(1, "d");
    let next = backlog.next(9, &mut Allowance::default());
    assert_eq!(ids(&next), ["000000", "000001", "000002"]);
    assert!(backlog.stopped());
    assert_eq!(backlog.turns().next[&1], ("d".to_owned(), 0));
}

#[test]
fn a_group_that_has_more_in_the_store_says_so_before_somebody_less_urgent_goes() {
    let mut backlog = Backlog::new(0);
    let place = |id: usize, plugin: &str, priority: i64| Waiting {
        priority,
        ..waiting(id, 1, "acme", plugin)
    };
    backlog.put(place(0, "scan", 1), 1);
    backlog.put(place(5, "read", 9), 1);
    let scan = (1, "acme".to_owned(), "scan".to_owned());
    backlog.expect_more(scan.clone());
    let all = &mut Allowance::default();
    assert_eq!(ids(&backlog.next(9, all)), ["000000"]);
    assert_eq!(backlog.dry(), [scan]);
    backlog.put(place(1, "scan", 1), 1);
    assert_eq!(ids(&backlog.next(9, all)), ["000001", "000005"]);
}

#[test]
fn a_bucket_gains_a_token_in_each_interval_and_holds_half_a_second_of_them_or_one() {
    let at = |ms: i64| Moment::from_micros(1_790_000_000_000_000 + ms * 1000);
    let tenth = bucket((10, Span::seconds(1)));
    let mut full_at = Moment::EPOCH;
    assert_eq!(
        (tenth.tokens(full_at, at(0)), tenth.next(full_at, at(0))),
        (5, None)
    );
    full_at = tenth.taken(full_at, 5, at(0));
    assert_eq!(tenth.tokens(full_at, at(0)), 0);
    assert_eq!(tenth.next(full_at, at(0)), Some(at(100)));
    assert_eq!(
        (
            tenth.tokens(full_at, at(99)),
            tenth.tokens(full_at, at(100))
        ),
        (0, 1)
    );
    assert_eq!(
        (
            tenth.tokens(full_at, at(499)),
            tenth.tokens(full_at, at(9000))
        ),
        (4, 5)
    );
    let slow = bucket((100, Span::seconds(3600)));
    let full_at = slow.taken(Moment::EPOCH, 1, at(0));
    assert_eq!(slow.next(full_at, at(0)), Some(at(36_000)));
    let limit = |concurrency: Option<i64>, rate: Option<(i64, Span)>| Limit {
        concurrency,
        rate,
        per: Per::Plugin,
    };
    let used = Used {
        under_way: 7,
        offered: 9,
    };
    let rate = Some((10, Span::seconds(1)));
    let least = |limit: &Limit| left(limit, used, Moment::EPOCH, at(0));
    assert_eq!(least(&limit(Some(8), None)), 1);
    assert_eq!(least(&limit(Some(5), None)), 0);
    assert_eq!(
        least(&limit(Some(50), rate)),
        1,
        "a second's worth of offers, nine of them open"
    );
}

#[test]
fn turns_go_by_weight() {
    let mut backlog = Backlog::new(0);
    for id in 0..1000 {
        backlog.put(waiting(id, 1, "one", "scan"), 1);
        backlog.put(waiting(1000 + id, 1, "three", "scan"), 3);
    }
    let next = backlog.next(400, &mut Allowance::default());
    let three = next
        .iter()
        .filter(|waiting| waiting.organization == "three")
        .count();
    assert_eq!(three, 300);
}

#[test]
fn manual_goes_first_then_events_then_what_recurs_and_one_of_sixteen_is_of_a_lower_class() {
    let mut backlog = Backlog::new(16);
    for id in 0..1000 {
        backlog.put(waiting(id, 0, "acme", "scan"), 1);
        backlog.put(waiting(1000 + id, 1, "acme", "scan"), 1);
        backlog.put(waiting(2000 + id, 2, "acme", "scan"), 1);
    }
    // The oldest of all lower classes waits in the lowest.
    backlog.put(
        Waiting {
            created_at: Moment::from_micros(-1),
            ..waiting(9999, 2, "acme", "scan")
        },
        1,
    );
    let next = backlog.next(160, &mut Allowance::default());
    let lower: Vec<usize> = (0..next.len()).filter(|n| next[*n].class > 0).collect();
    assert_eq!(lower, [15, 31, 47, 63, 79, 95, 111, 127, 143, 159]);
    assert_eq!(next[15].id, "009999");
    assert_eq!(next[31].class, 1, "then the next oldest, an event");
}

#[test]
fn without_a_lower_class_every_dispatch_is_of_the_highest() {
    let mut backlog = Backlog::new(2);
    for id in 0..10 {
        backlog.put(waiting(id, 1, "acme", "scan"), 1);
    }
    let next = backlog.next(10, &mut Allowance::default());
    assert_eq!(next.len(), 10);
    assert!(backlog.is_empty());
}

#[test]
fn what_is_limited_waits_and_holds_up_nobody() {
    let mut backlog = Backlog::new(16);
    for id in 0..100 {
        backlog.put(waiting(id, 1, "acme", "slow"), 1);
    }
    for id in 100..110 {
        backlog.put(waiting(id, 1, "acme", "quick"), 1);
        backlog.put(waiting(id + 10, 2, "other", "slow"), 1);
    }
    let key = Key::Plugin("slow".to_owned());
    let mut allowance = Allowance::default();
    for organization in ["acme", "other"] {
        allowance.bind("slow", organization, vec![key.clone()]);
    }
    allowance.leave(key, 3);
    let next = backlog.next(64, &mut allowance);
    let slow = next.iter().filter(|w| w.plugin_id == "slow").count();
    assert_eq!((slow, next.len()), (3, 13));
    assert_eq!(backlog.len(), 107);
    assert!(
        backlog.next(64, &mut allowance).is_empty(),
        "the limit is used up"
    );
}

#[test]
fn priority_orders_before_rank_and_rank_before_the_instant_of_making() {
    let mut backlog = Backlog::new(16);
    let place = |id: usize, priority: i64, rank: i64| Waiting {
        priority,
        rank,
        ..waiting(id, 1, "acme", "scan")
    };
    for task in [
        place(1, 5, 9),
        place(2, 5, 3),
        place(3, 1, 7),
        place(4, 5, 3),
    ] {
        backlog.put(task, 1);
    }
    // Known already: its new priority counts.
    backlog.put(place(1, 0, 9), 1);
    let next = backlog.next(9, &mut Allowance::default());
    assert_eq!(ids(&next), ["000001", "000003", "000002", "000004"]);
}

#[test]
fn strategies_rank_by_making_by_age_and_by_deadline() {
    let hours = |count: i64| Span::seconds(count * 3600);
    let now = Moment::from_micros(1_790_000_000_000_000);
    let task = |ago: Option<i64>| Ranked {
        created_at: now,
        grace_ended: ago.map(|ago| now.minus(hours(ago))),
        expires_at: now.plus(hours(2)),
        scan_level: None,
    };
    assert_eq!(rank(Rank::Fifo, &task(None)), now.micros());
    assert_eq!(
        rank(Rank::Deadline, &task(None)),
        now.plus(hours(2)).micros()
    );
    let ages: Vec<i64> = [
        None,
        Some(0),
        Some(1),
        Some(12),
        Some(24),
        Some(48),
        Some(168),
        Some(9999),
    ]
    .into_iter()
    .map(|ago| rank(Rank::Age, &task(ago)))
    .collect();
    assert_eq!(ages, [2, 1000, 994, 928, 857, 715, 3, 3]);
    assert_eq!(
        rank(Rank::Age, &task(Some(-5))),
        1000,
        "asked for within its grace"
    );
}

#[derive(Clone, Debug)]
enum Act {
    Put {
        class: i64,
        organization: u8,
        plugin: u8,
        priority: i64,
    },
    Remove(usize),
    Next {
        credit: usize,
        left: i64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..3_i64, 0..4_u8, 0..3_u8, 0..3_i64).prop_map(|(class, organization, plugin, priority)| Act::Put { class, organization, plugin, priority }),
        1 => (0..200_usize).prop_map(Act::Remove),
        2 => (0..12_usize, 0..4_i64).prop_map(|(credit, left)| Act::Next { credit, left }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes and goes: nobody goes twice or is forgotten, credit and limits hold, no credit is wasted while
    /// somebody may go, and of one group the most urgent goes first.
    #[test]
    fn everybody_goes_once_within_credit_and_limits(acts in proptest::collection::vec(act(), 1..200)) {
        let mut backlog = Backlog::new(4);
        let mut model: BTreeMap<String, Waiting> = BTreeMap::new();
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for (step, act) in acts.into_iter().enumerate() {
            match act {
                Act::Put { class, organization, plugin, priority } => {
                    let task = Waiting { priority, ..waiting(step, class, &format!("o{organization}"), &format!("p{plugin}")) };
                    model.insert(task.id.clone(), task.clone());
                    backlog.put(task, i64::from(organization) + 1);
                }
                Act::Remove(step) => {
                    let id = format!("{step:06}");
                    prop_assert_eq!(backlog.remove(&id), model.remove(&id));
                }
                Act::Next { credit, left } => {
                    let mut allowance = Allowance::default();
                    for organization in 0..4 {
                        let organization = format!("o{organization}");
                        allowance.bind("p0", &organization, vec![Key::Plugin("p0".to_owned())]);
                        let both = Key::Both("p1".to_owned(), organization.clone());
                        allowance.leave(both.clone(), 1);
                        allowance.bind("p1", &organization, vec![both]);
                    }
                    allowance.leave(Key::Plugin("p0".to_owned()), left);
                    let chosen = backlog.next(credit, &mut allowance);
                    prop_assert!(chosen.len() <= credit);
                    let mut used: HashMap<(String, String), i64> = HashMap::new();
                    let mut of_p0 = 0;
                    for task in &chosen {
                        prop_assert!(gone.insert(task.id.clone()), "went twice");
                        let known = model.remove(&task.id);
                        prop_assert_eq!(known.as_ref(), Some(task));
                        *used.entry((task.plugin_id.clone(), task.organization.clone())).or_default() += 1;
                        of_p0 += i64::from(task.plugin_id == "p0");
                        let group = |other: &&Waiting| {
                            (other.class, &other.plugin_id, &other.organization)
                                == (task.class, &task.plugin_id, &task.organization)
                        };
                        let better = model.values().filter(group).find(|other| {
                            (other.priority, other.rank) < (task.priority, task.rank)
                        });
                        // A lower class's turn takes the oldest, whatever its priority.
                        let by_age = model
                            .values()
                            .filter(group)
                            .all(|other| other.created_at > task.created_at);
                        prop_assert!(better.is_none() || by_age, "{better:?} before {task:?}");
                    }
                    prop_assert!(of_p0 <= left);
                    for ((plugin, _), many) in &used {
                        prop_assert!(plugin != "p1" || *many <= 1);
                    }
                    if chosen.len() < credit {
                        let idle = model.values().find(|task| match task.plugin_id.as_str() {
                            "p0" => of_p0 < left,
                            "p1" => !used.contains_key(&(task.plugin_id.clone(), task.organization.clone())),
                            _ => true,
                        });
                        prop_assert_eq!(idle, None, "could have gone");
                    }
                }
            }
            prop_assert_eq!(backlog.len(), model.len());
        }
        let rest = backlog.next(usize::MAX, &mut Allowance::default());
        prop_assert_eq!(rest.len(), model.len());
    }
}
