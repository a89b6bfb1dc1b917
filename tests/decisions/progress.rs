//! What a worker's word does to a task.

use muster::moment::{Moment, Span};
use muster::policy::{Retry, Timeouts};
use muster::progress::{Clock, Standing, Step, Taken, Terms, clock, pause, progress, run_out};
use muster::task::{Ending, Status, StatusWord, TaskState};
use proptest::prelude::*;

pub const NOW: Moment = Moment::EPOCH;

fn standing(state: TaskState) -> Standing {
    let running = state == TaskState::Running;
    Standing {
        state,
        attempt: 1,
        worker: running.then(|| "w-1".to_owned()),
        run_until: running.then(|| NOW.plus(Span::seconds(3600))),
        ..Standing::new()
    }
}

fn terms() -> Terms {
    Terms {
        retry: Retry::default(),
        timeouts: Timeouts::default(),
        idempotent: false,
    }
}

fn status(word: StatusWord) -> Status {
    Status {
        task_id: "t".to_owned(),
        attempt: Some(1),
        worker: "w-1".to_owned(),
        at: None,
        word,
    }
}

fn failed(retryable: bool) -> StatusWord {
    StatusWord::Failed {
        retryable,
        ending: Ending::default(),
    }
}

fn succeeded() -> StatusWord {
    StatusWord::Succeeded(Ending::default())
}

fn step(standing: &Standing, status: &Status) -> Step {
    progress(Some(standing), status, &terms(), NOW, 7)
}

/// The state that a status leads to, where it is taken.
fn next(standing: &Standing, word: StatusWord) -> Option<TaskState> {
    match step(standing, &status(word)) {
        Step::Take(taken) => taken.state,
        _ => None,
    }
}

#[test]
fn the_table_of_legal_steps_is_the_documented_one() {
    let table: Vec<String> = TaskState::ALL
        .iter()
        .map(|(word, state)| {
            let mut next: Vec<&str> = state.legal().iter().map(|next| next.word()).collect();
            next.sort_unstable();
            format!("{word}: {}", next.join(" "))
        })
        .collect();
    assert_eq!(
        table,
        [
            "queued: cancelled dead dispatched failed succeeded withdrawn",
            "waiting: cancelled dead failed queued succeeded withdrawn",
            "dispatched: cancelled dead failed queued running succeeded withdrawn",
            "running: cancelled dead failed queued succeeded withdrawn",
            "succeeded: ",
            "failed: ",
            "dead: ",
            "cancelled: ",
            "withdrawn: ",
        ]
    );
}

#[test]
fn each_word_of_a_worker_leads_to_its_documented_state() {
    let offered = standing(TaskState::Dispatched);
    let until = NOW.plus(Span::seconds(60));
    let reason = || Some("because".to_owned());
    let heartbeat = StatusWord::Heartbeat {
        done: None,
        total: None,
        stage: None,
        note: None,
    };
    for (word, state) in [
        (StatusWord::Accepted, TaskState::Running),
        (heartbeat, TaskState::Running),
        (succeeded(), TaskState::Succeeded),
        (failed(true), TaskState::Queued),
        (failed(false), TaskState::Failed),
        (
            StatusWord::Declined {
                reason: reason(),
                retry_in: None,
            },
            TaskState::Queued,
        ),
        (
            StatusWord::Cancelled { reason: reason() },
            TaskState::Cancelled,
        ),
        (StatusWord::Snooze { until }, TaskState::Queued),
        (
            StatusWord::NeverAgain {
                reason: reason(),
                until: None,
            },
            TaskState::Withdrawn,
        ),
    ] {
        assert_eq!(next(&offered, word.clone()), Some(state), "{word:?}");
    }
}

#[test]
fn a_failure_is_tried_again_until_its_attempts_are_spent_and_then_the_task_is_dead() {
    let mut task = standing(TaskState::Running);
    for spent in 0..2 {
        task.spent = spent;
        let Step::Take(taken) = step(&task, &status(failed(true))) else {
            panic!("expected the failure to be taken");
        };
        assert_eq!(
            (taken.state, taken.spent),
            (Some(TaskState::Queued), spent + 1)
        );
        assert!(taken.not_before.is_some_and(|at| at >= NOW));
    }
    task.spent = 2;
    assert_eq!(next(&task, failed(true)), Some(TaskState::Dead));
}

#[test]
fn declining_and_snoozing_spend_no_attempt() {
    let task = Standing {
        spent: 2,
        ..standing(TaskState::Dispatched)
    };
    for word in [
        StatusWord::Declined {
            reason: None,
            retry_in: Some(Span::seconds(5)),
        },
        StatusWord::Snooze {
            until: NOW.plus(Span::seconds(5)),
        },
    ] {
        let Step::Take(taken) = step(&task, &status(word)) else {
            panic!("expected it to be taken");
        };
        assert_eq!(
            (taken.spent, taken.not_before),
            (2, Some(NOW.plus(Span::seconds(5))))
        );
    }
}

#[test]
fn what_is_late_or_said_twice_or_unknown_is_an_answer_and_no_error() {
    let running = Standing {
        attempt: 2,
        ..standing(TaskState::Running)
    };
    let mut word = status(succeeded());
    assert_eq!(
        step(&running, &word),
        Step::Late { cancel: false },
        "expected the end of an older offer to be late"
    );
    word.word = StatusWord::Accepted;
    assert_eq!(
        step(&running, &word),
        Step::Late { cancel: true },
        "expected who accepts an older offer to be told"
    );
    word.attempt = Some(2);
    assert_eq!(
        step(&running, &word),
        Step::Duplicate,
        "expected a second acceptance to be nothing new"
    );
    word.worker = "w-2".to_owned();
    assert_eq!(
        step(&running, &word),
        Step::Late { cancel: true },
        "expected the first of two acceptances to win"
    );
    word.attempt = Some(3);
    assert_eq!(
        step(&running, &word),
        Step::Unknown,
        "expected an offer that was never made to be unknown"
    );
    assert_eq!(progress(None, &word, &terms(), NOW, 0), Step::Unknown);
    let done = Standing {
        outcome: Some("succeeded".to_owned()),
        ..standing(TaskState::Succeeded)
    };
    assert_eq!(step(&done, &status(succeeded())), Step::Duplicate);
    assert_eq!(
        step(&done, &status(failed(true))),
        Step::Late { cancel: false }
    );
    assert_eq!(
        step(&done, &status(StatusWord::Accepted)),
        Step::Late { cancel: true }
    );
}

#[test]
fn a_result_that_overtakes_its_acceptance_counts_and_the_acceptance_is_late() {
    let offered = standing(TaskState::Dispatched);
    assert_eq!(next(&offered, succeeded()), Some(TaskState::Succeeded));
}

#[test]
fn a_late_success_decides_while_no_newer_offer_was_made() {
    let waits = Standing {
        outcome: Some("expired".to_owned()),
        ..standing(TaskState::Queued)
    };
    assert_eq!(next(&waits, succeeded()), Some(TaskState::Succeeded));
    assert_eq!(
        step(&waits, &status(failed(true))),
        Step::Late { cancel: false }
    );
    assert_eq!(
        step(&waits, &status(StatusWord::Accepted)),
        Step::Late { cancel: true }
    );
}

#[test]
fn a_status_without_a_number_means_the_current_offer() {
    let running = Standing {
        attempt: 4,
        ..standing(TaskState::Running)
    };
    let mut word = status(succeeded());
    word.attempt = None;
    assert!(matches!(step(&running, &word), Step::Take(_)));
}

#[test]
fn the_pause_before_a_retry_doubles_up_to_its_cap_and_is_drawn_by_lot() {
    let retry = Retry {
        first: Span::seconds(30),
        cap: Span::seconds(3600),
        ..Retry::default()
    };
    let longest = |spent: i64| {
        // The chance that draws the longest pause there is.
        let span = 30_000_000_i64
            .saturating_mul(1 << spent.min(20))
            .min(3_600_000_000);
        (
            pause(&retry, spent, u64::try_from(span - 1).expect("positive")),
            span - 1,
        )
    };
    for spent in 0..30 {
        let (drawn, expected) = longest(spent);
        assert_eq!(drawn.micros(), expected, "after {spent}");
    }
    assert_eq!(pause(&retry, 3, 0), Span::ZERO);
    assert!(pause(&retry, i64::MAX, u64::MAX) <= Span::seconds(3600));
}

/// The task as the store has it once a step is written.
pub fn after(task: &Standing, taken: &Taken, worker: Option<&str>) -> Standing {
    let accepts = taken.accepted && !taken.of_older;
    Standing {
        state: taken.state.unwrap_or(task.state),
        spent: taken.spent,
        declines: taken.declines,
        worker: task
            .worker
            .clone()
            .or(worker.filter(|_| accepts).map(str::to_owned)),
        outcome: task.outcome.clone().or(taken.outcome.map(str::to_owned)),
        run_until: taken.run_until.or(task.run_until),
        beat_at: taken.beat.as_ref().map(|_| NOW).or(task.beat_at),
        avoid: taken.avoid.clone(),
        ..task.clone()
    }
}

/// The next offer of a task that waits.
pub fn offered(task: &Standing) -> Standing {
    Standing {
        state: TaskState::Dispatched,
        attempt: task.attempt + 1,
        worker: None,
        outcome: None,
        run_until: None,
        beat_at: None,
        ..task.clone()
    }
}

#[test]
fn pauses_grow_from_the_second_decline_in_a_row_and_then_the_task_shows_that_all_declined() {
    let declined = |declines: i64, chance: u64| {
        let task = Standing {
            declines,
            ..standing(TaskState::Dispatched)
        };
        let said = status(StatusWord::Declined {
            reason: None,
            retry_in: Some(Span::seconds(2)),
        });
        match progress(Some(&task), &said, &terms(), NOW, chance) {
            Step::Take(taken) => *taken,
            step => panic!("{step:?}"),
        }
    };
    let pause = |declines: i64| {
        // The chance that draws the longest pause there is.
        let most = (60_000_000_i64 << (declines - 1).clamp(0, 20)).min(3_600_000_000) - 1;
        let taken = declined(declines, u64::try_from(most).expect("positive"));
        taken.not_before.expect("a pause").since(NOW).micros()
    };
    assert_eq!(
        declined(0, u64::MAX).not_before,
        Some(NOW.plus(Span::seconds(2)))
    );
    assert_eq!(
        (pause(1), pause(2), pause(19)),
        (59_999_999, 119_999_999, 3_599_999_999)
    );
    let (before, at_last) = (declined(18, 0), declined(19, 0));
    assert_eq!(before.reason.as_deref(), Some("declined"));
    assert_eq!(
        (at_last.reason.as_deref(), at_last.declines),
        (Some("declined_by_all"), 20)
    );
    assert_eq!(
        at_last.not_before,
        Some(NOW.plus(Span::seconds(2))),
        "never sooner than asked"
    );
    let accepted = progress(
        Some(&Standing {
            declines: 7,
            ..standing(TaskState::Dispatched)
        }),
        &status(StatusWord::Accepted),
        &terms(),
        NOW,
        0,
    );
    assert!(matches!(accepted, Step::Take(taken) if taken.declines == 0));
}

#[test]
fn who_declined_failed_or_fell_silent_is_avoided_for_five_minutes() {
    let running = standing(TaskState::Running);
    let later = NOW.plus(Span::seconds(300));
    for word in [
        failed(true),
        StatusWord::Declined {
            reason: None,
            retry_in: None,
        },
    ] {
        let Step::Take(taken) = step(&running, &status(word)) else {
            panic!("expected it to be taken");
        };
        assert_eq!(taken.avoid.len(), 1);
        assert_eq!(
            (taken.avoid[0].worker.as_str(), taken.avoid[0].until),
            ("w-1", later)
        );
    }
    for clock in [Clock::Silence, Clock::Overrun] {
        let taken = run_out(&running, clock, &terms(), NOW, 0);
        assert_eq!(taken.avoid[0].worker, "w-1");
        let long_ago = Standing {
            avoid: taken.avoid,
            worker: Some("w-2".to_owned()),
            ..running.clone()
        };
        let names = |now: Moment| {
            let taken = run_out(&long_ago, clock, &terms(), now, 0);
            taken
                .avoid
                .into_iter()
                .map(|avoided| avoided.worker)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(NOW), ["w-1", "w-2"]);
        assert_eq!(names(later), ["w-2"], "the first may have it again");
    }
    assert!(
        run_out(
            &standing(TaskState::Dispatched),
            Clock::Offer,
            &terms(),
            NOW,
            0
        )
        .avoid
        .is_empty()
    );
}

#[test]
fn an_offer_has_one_clock_at_a_time_and_silence_counts_from_the_first_heartbeat() {
    let (second, minute) = (Span::seconds(1), Span::seconds(60));
    let until = NOW.plus(minute);
    let offered_task = standing(TaskState::Dispatched);
    assert_eq!(
        clock(&offered_task, Some(until), minute),
        Some((until, Clock::Offer))
    );
    assert_eq!(
        clock(&offered_task, None, minute),
        None,
        "not published yet: the claim has a lease"
    );
    let run_until = NOW.plus(Span::seconds(3600));
    let mut running = standing(TaskState::Running);
    assert_eq!(
        clock(&running, None, minute),
        Some((run_until, Clock::Overrun)),
        "it never beat"
    );
    running.beat_at = Some(NOW.plus(second));
    assert_eq!(
        clock(&running, None, minute),
        Some((NOW.plus(second).plus(minute), Clock::Silence))
    );
    running.beat_at = Some(run_until.minus(second));
    assert_eq!(
        clock(&running, None, minute),
        Some((run_until, Clock::Overrun))
    );
    let waits = Standing {
        outcome: Some("silent".to_owned()),
        state: TaskState::Queued,
        ..running
    };
    assert_eq!(clock(&waits, None, minute), None);
}

#[test]
fn each_clock_ends_an_attempt_with_its_own_reason_and_an_offer_that_nobody_took_spends_none() {
    let ends = |state: TaskState, clock: Clock, spent: i64| {
        let taken = run_out(
            &Standing {
                spent,
                ..standing(state)
            },
            clock,
            &terms(),
            NOW,
            0,
        );
        (taken.state, taken.outcome, taken.reason, taken.spent)
    };
    let said = |reason: &str| Some(reason.to_owned());
    assert_eq!(
        ends(TaskState::Dispatched, Clock::Offer, 2),
        (
            Some(TaskState::Queued),
            Some("expired"),
            said("offer_expired"),
            2
        )
    );
    assert_eq!(
        ends(TaskState::Running, Clock::Silence, 0),
        (Some(TaskState::Queued), Some("silent"), said("silent"), 1)
    );
    assert_eq!(
        ends(TaskState::Running, Clock::Overrun, 0),
        (
            Some(TaskState::Queued),
            Some("timed_out"),
            said("timed_out"),
            1
        )
    );
    assert_eq!(
        ends(TaskState::Running, Clock::Silence, 2),
        (Some(TaskState::Dead), Some("silent"), said("silent"), 3)
    );
    assert_eq!(
        ends(TaskState::Running, Clock::Overrun, 2),
        (
            Some(TaskState::Dead),
            Some("timed_out"),
            said("timed_out"),
            3
        )
    );
}

#[test]
fn a_heartbeat_is_an_acceptance_extends_the_lease_and_is_kept_once_a_second() {
    let beat = |done: i64| StatusWord::Heartbeat {
        done: Some(done),
        total: Some(9),
        stage: Some("images".to_owned()),
        note: None,
    };
    let Step::Take(first) = step(&standing(TaskState::Dispatched), &status(beat(1))) else {
        panic!("expected it to be taken");
    };
    assert!(first.accepted);
    assert_eq!(first.clock, Some(NOW.plus(Span::seconds(60))));
    // A little more than `timeouts.run`: who ends by itself what overruns also has to tell it.
    assert_eq!(first.run_until, Some(NOW.plus(Span::seconds(3605))));
    let beats = Standing {
        beat_at: Some(NOW),
        ..standing(TaskState::Running)
    };
    let at = |millis: i64| {
        progress(
            Some(&beats),
            &status(beat(2)),
            &terms(),
            NOW.plus(Span::from_micros(millis * 1000)),
            0,
        )
    };
    assert_eq!(at(999), Step::Duplicate);
    assert!(
        matches!(at(1000), Step::Take(taken) if taken.beat.as_ref().is_some_and(|beat| beat.done == Some(2)))
    );
    let near_the_end = progress(
        Some(&beats),
        &status(beat(3)),
        &terms(),
        NOW.plus(Span::seconds(3590)),
        0,
    );
    assert!(
        matches!(near_the_end, Step::Take(taken) if taken.clock == Some(NOW.plus(Span::seconds(3600)))),
        "no heartbeat moves the hard end"
    );
}

#[test]
fn a_late_success_of_an_idempotent_plugin_wins_unless_the_newer_offer_was_accepted() {
    let idempotent = Terms {
        idempotent: true,
        ..terms()
    };
    let offered_again = Standing {
        attempt: 2,
        ..standing(TaskState::Dispatched)
    };
    let of_first = status(succeeded());
    let judged = |task: &Standing, terms: &Terms| progress(Some(task), &of_first, terms, NOW, 0);
    assert!(
        matches!(judged(&offered_again, &idempotent), Step::Take(taken) if taken.of_older && taken.state == Some(TaskState::Succeeded))
    );
    assert_eq!(
        judged(&offered_again, &terms()),
        Step::Late { cancel: false }
    );
    let running = Standing {
        attempt: 2,
        ..standing(TaskState::Running)
    };
    assert_eq!(judged(&running, &idempotent), Step::Late { cancel: false });
}

#[test]
fn what_somebody_cancelled_ends_at_its_next_word_or_clock_and_a_success_stays_one() {
    let asked = Standing {
        cancelling: true,
        ..standing(TaskState::Running)
    };
    for word in [
        failed(true),
        StatusWord::Declined {
            reason: None,
            retry_in: None,
        },
        StatusWord::Snooze { until: NOW },
        StatusWord::Cancelled { reason: None },
    ] {
        assert_eq!(next(&asked, word), Some(TaskState::Cancelled));
    }
    assert_eq!(next(&asked, succeeded()), Some(TaskState::Succeeded));
    for clock in [Clock::Offer, Clock::Silence, Clock::Overrun] {
        assert_eq!(
            run_out(&asked, clock, &terms(), NOW, 0).state,
            Some(TaskState::Cancelled)
        );
    }
}

fn any_word() -> impl Strategy<Value = StatusWord> {
    prop_oneof![
        Just(StatusWord::Accepted),
        Just(StatusWord::Heartbeat {
            done: Some(1),
            total: None,
            stage: None,
            note: None
        }),
        Just(succeeded()),
        any::<bool>().prop_map(failed),
        Just(StatusWord::Declined {
            reason: None,
            retry_in: None
        }),
        Just(StatusWord::Cancelled { reason: None }),
        Just(StatusWord::Snooze { until: NOW }),
        Just(StatusWord::NeverAgain {
            reason: None,
            until: None
        }),
    ]
}

/// A status of some worker about some offer; or, without one, a new offer of a task that waits.
fn any_event() -> impl Strategy<Value = Option<Status>> {
    let spoken = (
        any_word(),
        prop_oneof![Just(None), (0_i64..5).prop_map(Some)],
        1..3,
    );
    prop_oneof![
        1 => Just(None),
        3 => spoken.prop_map(|(word, attempt, worker)| Some(Status {
            attempt,
            worker: format!("w-{worker}"),
            ..status(word)
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_statuses_leaves_an_end_or_steps_where_no_step_is_legal(
        events in prop::collection::vec(any_event(), 0..40), chance in any::<u64>()
    ) {
        let mut task = Standing::new();
        for event in events {
            let before = task.clone();
            match event {
                None if task.state == TaskState::Queued => {
                    task = offered(&task);
                }
                None => {}
                Some(said) => {
                    let step = progress(Some(&task), &said, &terms(), NOW, chance);
                    if let Step::Take(taken) = step {
                        prop_assert!(!before.state.terminal(), "{before:?} was left by {said:?}");
                        prop_assert_eq!(said.attempt.unwrap_or(task.attempt), task.attempt, "an older offer decided");
                        prop_assert!(taken.spent >= before.spent);
                        if let Some(next) = taken.state {
                            prop_assert!(before.state.legal().contains(&next), "{before:?} to {next:?}");
                        }
                        task = after(&task, &taken, Some(&said.worker));
                    }
                    prop_assert!(task.spent <= 3, "more attempts were spent than there are");
                }
            }
        }
    }

    #[test]
    fn saying_the_same_twice_changes_nothing_the_second_time(word in any_word(), chance in any::<u64>()) {
        let mut task = standing(TaskState::Dispatched);
        let said = status(word);
        let Step::Take(taken) = progress(Some(&task), &said, &terms(), NOW, chance) else {
            return Err(TestCaseError::fail("the first was not taken"));
        };
        task = after(&task, &taken, Some(&said.worker));
        let again = progress(Some(&task), &said, &terms(), NOW, chance);
        prop_assert_eq!(again, Step::Duplicate);
    }
}
