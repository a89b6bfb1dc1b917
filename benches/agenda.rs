//! What many schedules of the clock cost: loading them onto the agenda, a tick with nothing due, and one with many due.
//!
//! Half of the schedules are cron expressions in zones with summer time, the others periods and rules. Everything is real
//! but the clock, which the benchmark sets: the store is a SQLite file in a folder of its own.
//!
//! `cargo bench --bench agenda -- [--quick] [--schedules N] [--due N]`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use muster::agenda::Agenda;
use muster::declaration::Kind;
use muster::ground::Ground;
use muster::moment::{Moment, Span};
use muster::rules::Rules;
use muster::store::{Edit, Store};
use muster::ticker;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// Before anything is due.
const MADE: &str = "2026-11-20T12:00:30Z";
/// At which the due ones are due.
const DUE: &str = "2026-11-21T12:00:00Z";
/// Declared in one transaction.
const AT_ONCE: usize = 10_000;

fn main() {
    let (mut schedules, mut due) = (100_000_usize, 10_000_usize);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--quick" => (schedules, due) = (20_000, 2_000),
            "--schedules" => schedules = number().expect("a number of schedules"),
            "--due" => due = number().expect("a number of due schedules"),
            _ => {}
        }
    }
    let folder = std::env::temp_dir().join(format!("muster-agenda-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(&folder, schedules, due.min(schedules)));
    let _ = std::fs::remove_dir_all(&folder);
}

async fn measure(folder: &std::path::Path, schedules: usize, due: usize) {
    let url = format!("sqlite:{}/agenda.db", folder.display());
    let store = Store::open(&url).await.expect("a store");
    store.migrate().await.expect("a schema");
    let rules = Arc::new(Rules::default());
    let ground = Ground::new(store, rules, Vec::new(), 1, CancellationToken::new());
    let made = Moment::parse(MADE).expect("an instant");
    ground.clock.fix(made);
    declare(&ground, schedules, due, made).await;

    let bare = memory_kib() / 1024;
    let began = Instant::now();
    let catalogue = ground.load_catalogue().await.expect("a catalogue");
    let catalogue_ms = millis(began);
    assert_eq!(catalogue.schedules.len(), schedules);
    assert!(catalogue.broken.is_empty());

    let began = Instant::now();
    let cursors: HashMap<String, Moment> = ground
        .store
        .cursors(None)
        .await
        .expect("cursors")
        .into_iter()
        .collect();
    let cursors_ms = millis(began);
    let began = Instant::now();
    let mut agenda = Agenda::default();
    agenda.follow(&catalogue, &cursors);
    let follow_ms = millis(began);
    // Catalogue and agenda together: what loading frees is used again, so a difference would say nothing.
    let memory = memory_kib() / 1024;
    let began = Instant::now();
    agenda.follow(&catalogue, &cursors);
    let again_ms = millis(began);
    // A newer catalogue with the same schedules, as an organisation makes it that an event brings.
    let mut newer = catalogue.as_ref().clone();
    newer.revision += 1;
    let began = Instant::now();
    assert!(!agenda.is_behind(&newer), "the schedules are the same");
    let behind_ms = millis(began);
    let start_ms = catalogue_ms + cursors_ms + follow_ms;
    println!(
        "{schedules} schedules: started in {start_ms:.0} ms: catalogue built in {catalogue_ms:.0} ms, cursors read in \
         {cursors_ms:.0} ms, agenda made in {follow_ms:.0} ms"
    );
    println!(
        "  the process holds {memory} MiB, and {bare} MiB before; agenda followed again, unchanged, in {again_ms:.0} ms; \
         found the same in a newer catalogue in {behind_ms:.2} ms"
    );
    drop(agenda);

    let began = Instant::now();
    ticker::step(&ground).await.expect("a tick");
    let first_ms = millis(began);
    let mut idle: Vec<f64> = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        let next = ticker::step(&ground).await.expect("a tick");
        idle.push(millis(began));
        assert!(
            next.is_some_and(|next| next > made),
            "nothing was to be due"
        );
    }
    idle.sort_by(f64::total_cmp);
    let idle_ms = idle[idle.len() / 2];
    println!(
        "  first tick {first_ms:.0} ms; tick with nothing due {idle_ms:.3} ms, median of {}",
        idle.len()
    );

    ground.clock.fix(Moment::parse(DUE).expect("an instant"));
    let began = Instant::now();
    let now = ground.clock.now();
    while ticker::step(&ground)
        .await
        .expect("a tick")
        .is_some_and(|next| next <= now)
    {}
    let due_ms = millis(began);
    let page = muster::store::Page {
        organization: None,
        state: None,
        limit: 1_000_000,
        offset: 0,
        ..Default::default()
    };
    let runs = ground.store.list("run", &page).await.expect("runs");
    let runs = runs.map_or(0, |listing| listing.rows.len());
    assert_eq!(runs, due, "each due schedule has one run");
    println!(
        "  {due} due at once: {due_ms:.0} ms, {:.3} ms each",
        due_ms / due as f64
    );
    println!(
        "RESULT schedules={schedules} due={due} start_ms={start_ms:.0} catalogue_ms={catalogue_ms:.0} \
         cursors_ms={cursors_ms:.0} follow_ms={follow_ms:.1} again_ms={again_ms:.1} behind_ms={behind_ms:.2} \
         bare_mib={bare} process_mib={memory} first_tick_ms={first_ms:.0} idle_tick_ms={idle_ms:.3} due_tick_ms={due_ms:.0}"
    );
}

/// An organisation, and schedules of which the first `due` are due at one instant and the others a day later or more.
async fn declare(ground: &Ground, schedules: usize, due: usize, made: Moment) {
    let mut edits = vec![edit(Kind::Organization, "acme", &json!({"id": "acme"}))];
    for number in 0..schedules {
        let name = format!("s-{number:06}");
        let minute = number % 60;
        let (zone, recurrence) = if number < due {
            ("Europe/Amsterdam", json!("0 13 * * *"))
        } else {
            match number % 4 {
                0 => ("Europe/Amsterdam", json!(format!("{minute} 2 28 * *"))),
                1 => ("America/New_York", json!(format!("{minute} 2 1 * 1-5"))),
                2 => (
                    "UTC",
                    json!(format!("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR={}", number % 24)),
                ),
                _ => ("UTC", json!({"period": "90d", "anchor": "start"})),
            }
        };
        let definition = json!({
            "name": name, "timezone": zone, "recurrences": recurrence, "plugins": "False", "organization": "acme",
            // Due a day after they were made, and so not on the day before.
            "starts_at": (number < due).then(|| made.plus(Span::seconds(80_000)).to_string()),
        });
        edits.push(edit(Kind::Schedule, &name, &definition));
    }
    for edits in edits.chunks(AT_ONCE) {
        let revision = ground.store.catalogue_revision().await.expect("a revision");
        ground
            .store
            .apply(edits, revision, made)
            .await
            .expect("declared");
    }
}

fn edit(kind: Kind, name: &str, definition: &Value) -> Edit {
    let mut definition: Map<String, Value> = definition.as_object().expect("an object").clone();
    definition.retain(|_, value| !value.is_null());
    let organization = match kind {
        Kind::Schedule => "acme",
        _ => "",
    };
    Edit::Put {
        kind,
        organization: organization.to_owned(),
        name: name.to_owned(),
        id: format!("id-{name}"),
        definition,
    }
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// Of this process, as the kernel counts it.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
