//! A store that holds much is looked at a bounded part at a time.

use muster::watch::Tab;
use ratatui::crossterm::event::KeyCode;
use serde_json::json;
use sqlx::{AnyPool, AssertSqlSafe};

use super::asking::House;
use super::{morning, terms, watching};

async fn execute(database: &AnyPool, sql: &str) {
    let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(database)
        .await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// So many rows, numbered.
fn numbers(house: &House, many: i64) -> String {
    if house.url.starts_with("sqlite") {
        format!(
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {many}) SELECT i FROM n) AS n"
        )
    } else {
        format!("(SELECT i FROM generate_series(1, {many}) AS g(i)) AS n")
    }
}

fn id(prefix: &str) -> String {
    format!("'{prefix}-7000-8000-' || substr(CAST(1000000000000 + i AS text), 2)")
}

pub async fn a_rare_row_is_found_page_by_page_and_what_is_under_way_at_once(house: House) {
    let tasks = morning(&house).await;
    let database = AnyPool::connect(&house.url).await.expect("connected");
    // As the service has it that offers from it.
    execute(
        &database,
        "INSERT INTO queue (name) VALUES ('muster.tasks.reader') ON CONFLICT DO NOTHING",
    )
    .await;
    let columns = "run_id, organization, plugin_id, worker_type, queue, class, priority, cause, created_at, \
                   scheduled_for, finished_at, attempt, spent, inputs, parameters, rank";
    execute(
        &database,
        &format!(
            "INSERT INTO task (id, state, {columns}) SELECT {}, 'succeeded', {columns} FROM task, {} WHERE task.id = '{}'",
            id("ffffffff-0000"),
            numbers(&house, 45_000),
            tasks[2]
        ),
    )
    .await;
    let mut watching = watching(&house, Tab::Tasks, terms(false)).await;
    for (filter, found) in [("state = 'running'", 0), ("state = 'dead'", 1)] {
        watching.press(KeyCode::Char('/'));
        let control = ratatui::crossterm::event::KeyModifiers::CONTROL;
        watching
            .screen
            .press(ratatui::crossterm::event::KeyEvent::new(
                KeyCode::Char('u'),
                control,
            ));
        watching.write(filter);
        watching.press(KeyCode::Enter);
        let look = watching.look(&house).await;
        assert_eq!(look.rows.len(), 1, "{filter} is found at once");
        assert_eq!(look.rows[0]["id"], json!(tasks[found]));
        assert_eq!(look.through, None);
    }
    watching.press(KeyCode::Esc);
    watching.press(KeyCode::Char('/'));
    watching.write("reason != None and state != 'dead' or state = 'queued'");
    watching.press(KeyCode::Enter);
    let look = watching.look(&house).await;
    assert_eq!(look.rows.len(), 0);
    assert_eq!(
        look.through,
        Some(20_000),
        "more than that is not looked through at once"
    );
    let text = watching.text(80, 24);
    assert!(
        text.contains("Nothing among 20000 rows is like that"),
        "{text}"
    );
    watching.press(KeyCode::PageDown);
    assert_eq!(watching.look(&house).await.rows.len(), 0);
    watching.press(KeyCode::PageDown);
    let look = watching.look(&house).await;
    assert!(
        look.rows.iter().any(|row| row["state"] == "queued"),
        "{look:?}"
    );
    assert_eq!((look.through, look.next), (None, None));
    // The one organisation that has no more than one of them is found likewise.
    watching.press(KeyCode::Esc);
    watching.press(KeyCode::Char('o'));
    watching.write("other");
    watching.press(KeyCode::Enter);
    let look = watching.look(&house).await;
    assert_eq!((look.rows.len(), look.through), (0, Some(20_000)));
    database.close().await;
}

pub async fn the_last_run_of_a_schedule_is_found_however_long_ago_it_was(house: House) {
    morning(&house).await;
    let database = AnyPool::connect(&house.url).await.expect("connected");
    let columns = "schedule, schedule_revision, organization, cause, scheduled_for, created_at, state, occasion, total, \
                   succeeded, failed, cancelled, refused";
    execute(
        &database,
        &format!(
            "INSERT INTO run (id, schedule_id, {columns}) SELECT {}, 'other', {columns} FROM run, {} WHERE run.id = \
             (SELECT max(id) FROM run WHERE cause = 'event')",
            // Newer than those of the morning.
            id("01a1fd74-ffff"),
            numbers(&house, 11_000),
        ),
    )
    .await;
    let mut watching = watching(&house, Tab::Schedules, terms(false)).await;
    let look = watching.look(&house).await;
    let last = |name: &str| {
        let row = look.rows.iter().find(|row| row["name"] == name);
        row.expect("it is listed").get("last").cloned()
    };
    assert_eq!(last("feeds").expect("it ran")["state"], "running");
    assert_eq!(last("hosts").expect("it ran")["state"], "running");
    assert_eq!(last("weekly"), None);
    // A later look knows of a new one.
    house.later(60);
    house.done("run.start", json!({"schedule": "weekly"})).await;
    let look = watching.look(&house).await;
    let weekly = look.rows.iter().find(|row| row["name"] == "weekly");
    let last = weekly.and_then(|row| row.get("last")).expect("it ran");
    assert_eq!(last["state"], "expanding");
    database.close().await;
}
