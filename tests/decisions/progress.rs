//! What a worker's word does to a task.

use muster::moment::{Moment, Span};
use muster::policy::Retry;
use muster::progress::{Standing, Step, pause, progress};
use muster::task::{Ending, Status, StatusWord, TaskState};
use proptest::prelude::*;

const NOW: Moment = Moment::EPOCH;

fn standing(state: TaskState) -> Standing {
    Standing {
        state,
        attempt: 1,
        spent: 0,
        worker: (state == TaskState::Running).then(|| "w-1".to_owned()),
        outcome: None,
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
    progress(Some(standing), status, &Retry::default(), NOW, 7)
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
            "queued: cancelled dead dispatched succeeded withdrawn",
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
    assert_eq!(
        progress(None, &word, &Retry::default(), NOW, 0),
        Step::Unknown
    );
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
        let mut task = Standing { attempt: 0, ..standing(TaskState::Queued) };
        for event in events {
            let before = task.clone();
            match event {
                None if task.state == TaskState::Queued => {
                    task = Standing { state: TaskState::Dispatched, attempt: task.attempt + 1, spent: task.spent, worker: None, outcome: None };
                }
                None => {}
                Some(said) => {
                    let step = progress(Some(&task), &said, &Retry::default(), NOW, chance);
                    if let Step::Take(taken) = step {
                        prop_assert!(!before.state.terminal(), "{before:?} was left by {said:?}");
                        prop_assert_eq!(said.attempt.unwrap_or(task.attempt), task.attempt, "an older offer decided");
                        prop_assert!(taken.spent >= before.spent);
                        if let Some(next) = taken.state {
                            prop_assert!(before.state.legal().contains(&next), "{before:?} to {next:?}");
                            task.state = next;
                        }
                        if taken.accepted {
                            task.worker = Some(said.worker.clone());
                        }
                        task.outcome = taken.outcome.map(str::to_owned).or(task.outcome);
                        task.spent = taken.spent;
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
        let Step::Take(taken) = progress(Some(&task), &said, &Retry::default(), NOW, chance) else {
            return Err(TestCaseError::fail("the first was not taken"));
        };
        task.state = taken.state.unwrap_or(task.state);
        task.worker = taken.accepted.then(|| said.worker.clone());
        task.outcome = taken.outcome.map(str::to_owned);
        let again = progress(Some(&task), &said, &Retry::default(), NOW, chance);
        prop_assert_eq!(again, Step::Duplicate);
    }
}
