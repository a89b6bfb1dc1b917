//! What holds of every recurrence in every zone, and what hostile ones cost.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use muster::moment::{Moment, Span};
use muster::recurrence::{Bounds, Last, Recurrence, Timetable};
use proptest::prelude::*;

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Amsterdam",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
];

/// Texts of one part of a cron field, and of an RRULE, put together by chance; most are valid.
fn any_cron() -> impl Strategy<Value = String> {
    let part = |most: u32| {
        prop_oneof![
            3 => Just("*".to_owned()),
            1 => (2..most).prop_map(|step| format!("*/{step}")),
            2 => (1..=most).prop_map(|at| at.to_string()),
            1 => (1..=most, 1..=most)
                .prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (1..=most, 1..=most).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    };
    let day = prop_oneof![
        6 => part(31),
        1 => Just("L".to_owned()),
        1 => Just("LW".to_owned()),
        1 => Just("15W".to_owned()),
    ];
    let weekday =
        prop_oneof![6 => part(6), 1 => Just("5L".to_owned()), 1 => Just("2#3".to_owned())];
    (
        prop::option::weighted(0.2, part(59)),
        part(59),
        part(23),
        day,
        part(12),
        weekday,
    )
        .prop_map(|(second, minute, hour, day, month, weekday)| {
            let second = second
                .map(|second| format!("{second} "))
                .unwrap_or_default();
            format!("{second}{minute} {hour} {day} {month} {weekday}")
        })
}

fn any_rule() -> impl Strategy<Value = String> {
    let some = |name: &'static str, values: &'static [&'static str]| {
        prop::option::weighted(0.25, prop::sample::select(values))
            .prop_map(move |value| value.map_or(String::new(), |value| format!(";{name}={value}")))
    };
    (
        prop::sample::select(
            &[
                "YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY",
            ][..],
        ),
        prop_oneof![Just(1_u32), 1_u32..8, 1_u32..100_000],
        some("BYMONTH", &["2", "1,6,12", "3,10"]),
        some("BYMONTHDAY", &["1", "31", "-1", "13,14,15", "29,-2"]),
        some(
            "BYDAY",
            &["MO", "SA,SU", "MO,TU,WE,TH,FR", "1MO", "-1FR,2TU"],
        ),
        some("BYHOUR", &["0", "2", "1,2,3", "23"]),
        some("BYMINUTE", &["0", "30", "15,45"]),
        some("BYSECOND", &["0", "59"]),
        some("BYSETPOS", &["1", "-1", "2,-2"]),
        some("COUNT", &["1", "7", "500"]),
    )
        .prop_map(|(frequency, interval, a, b, c, d, e, f, g, h)| {
            format!("FREQ={frequency};INTERVAL={interval}{a}{b}{c}{d}{e}{f}{g}{h}")
        })
}

fn any_recurrence() -> impl Strategy<Value = String> {
    prop_oneof![
        any_cron(),
        any_rule(),
        (1_u32..5_000_000).prop_map(|seconds| format!("{seconds}s")),
    ]
}

fn read(texts: &[String], zone: &str, created: Moment) -> Option<Timetable> {
    let recurrences: Vec<Recurrence> = texts
        .iter()
        .filter_map(|text| Recurrence::parse(text).ok())
        .collect();
    let bounds = Bounds {
        created,
        ..Bounds::default()
    };
    (!recurrences.is_empty()).then(|| {
        Timetable::new(
            &recurrences,
            TimeZone::get(zone).expect("a zone"),
            bounds,
            Vec::new(),
        )
    })
}

/// The instants in (after, until], and not more than so many.
fn between(timetable: &Timetable, after: Moment, until: Moment) -> Vec<Moment> {
    timetable
        .instants(after, Last::Never)
        .take_while(|instant| *instant <= until)
        .take(40)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn instants_rise_and_a_window_is_the_sum_of_its_parts(
        texts in prop::collection::vec(any_recurrence(), 1..4),
        zone in prop::sample::select(&ZONES[..]),
        // Both changes of every zone, and the day that Apia left out.
        from in prop_oneof![
            1_293_840_000_i64..1_356_998_400,
            1_767_225_600_i64..1_798_761_600,
        ],
        length in 1_i64..40_000_000,
        part in 0.0_f64..1.0,
    ) {
        let after = Moment::from_micros(from * 1_000_000);
        let Some(timetable) = read(&texts, zone, after.minus(Span::seconds(3600))) else {
            return Ok(());
        };
        let all = between(&timetable, after, after.plus(Span::seconds(length)));
        prop_assert!(all.windows(2).all(|two| two[0] < two[1]), "they rise: {all:?}");
        let Some(last) = all.last() else { return Ok(()) };
        // As far as was looked: from somewhere in between the rest is the same.
        let span = last.since(after).micros();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let middle = after.plus(Span::from_micros((span as f64 * part) as i64));
        let mut sum = between(&timetable, after, middle);
        sum.extend(between(&timetable, middle, *last));
        prop_assert_eq!(&sum, &all);
        for two in all.windows(2) {
            prop_assert_eq!(timetable.next_after(two[0], Last::Never), Some(two[1]));
        }
    }

    #[test]
    fn whatever_is_written_is_read_or_refused_and_costs_little(text in "[-0-9A-Za-z*/,#?;=: ]{0,60}") {
        let began = Instant::now();
        if let Ok(read) = Recurrence::parse(&text) {
            let timetable = Timetable::new(&[read], TimeZone::UTC, Bounds::default(), Vec::new());
            let _ = timetable.next_after(Moment::EPOCH, Last::Never);
        }
        prop_assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn hostile_expressions_cost_milliseconds_wherever_one_asks() {
    let mut slowest = (Duration::ZERO, String::new());
    for text in [
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYHOUR=2;BYMINUTE=2;BYSECOND=2;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
        "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=0;BYMINUTE=0;BYSECOND=0",
        "FREQ=SECONDLY;INTERVAL=2147483647",
        "FREQ=SECONDLY;INTERVAL=7;BYDAY=SU;BYHOUR=23;BYMINUTE=59;BYSECOND=59;BYMONTH=12",
        "FREQ=MINUTELY;INTERVAL=1439;BYHOUR=0;BYMINUTE=0;BYMONTHDAY=31;BYMONTH=12",
        "FREQ=HOURLY;INTERVAL=2147483647;BYHOUR=5",
        "FREQ=DAILY;INTERVAL=2147483647",
        "FREQ=DAILY;INTERVAL=30;BYMONTHDAY=31;BYDAY=MO",
        "FREQ=DAILY;INTERVAL=3;BYMONTH=2;BYMONTHDAY=29;COUNT=10000",
        "FREQ=YEARLY;INTERVAL=9999",
        "FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU;BYMONTH=1;COUNT=10000",
        "FREQ=YEARLY;BYYEARDAY=366;BYDAY=MO;BYSETPOS=-366",
        "FREQ=MONTHLY;BYMONTHDAY=29;BYMONTH=2;BYDAY=MO;BYSETPOS=1;COUNT=10000",
        "FREQ=WEEKLY;INTERVAL=2147483647;BYDAY=MO;BYSETPOS=1",
        "FREQ=SECONDLY;COUNT=10000",
        "0 0 30 2 *",
        "0 0 0 29 2 1#5",
        "59 59 23 31 12 ?",
    ] {
        let began = Instant::now();
        if let Ok(read) = Recurrence::parse(text) {
            let made = super::moment("1601-01-01T00:00:00Z");
            let bounds = Bounds {
                created: made,
                ..Bounds::default()
            };
            for zone in ["UTC", "Europe/Amsterdam"] {
                let zone = TimeZone::get(zone).expect("a zone");
                let timetable =
                    Timetable::new(std::slice::from_ref(&read), zone, bounds, Vec::new());
                for after in [
                    "0001-01-02T00:00:00Z",
                    "1601-01-01T00:00:00Z",
                    "2026-06-01T00:00:00Z",
                    "9999-12-30T21:59:59Z",
                ] {
                    if let Some(next) = timetable.next_after(super::moment(after), Last::Never) {
                        assert!(next > super::moment(after), "{text}");
                    }
                }
            }
        }
        let cost = began.elapsed();
        if cost > slowest.0 {
            slowest = (cost, text.to_owned());
        }
    }
    println!("slowest: {} ms, {}", slowest.0.as_millis(), slowest.1);
    // Nine searches and a reading, without optimisation, on a busy machine.
    assert!(slowest.0 < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn a_beginning_far_away_costs_nothing() {
    let timetable = super::rules::from("FREQ=MINUTELY", "1900-01-01T00:00:00", "Europe/Amsterdam");
    let began = Instant::now();
    for minute in 0..1000 {
        let after = super::moment("2026-06-01T00:00:30Z").plus(Span::seconds(minute * 60));
        let next = timetable.next_after(after, Last::Never);
        assert_eq!(next, Some(after.plus(Span::seconds(30))));
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}
