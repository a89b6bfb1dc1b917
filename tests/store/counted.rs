//! What is counted often costs what is open, however long the history is.

use muster::store::{CENSUS, Dialect};
use sqlx::{AnyPool, AssertSqlSafe, Row};

use super::*;

/// So much history, of every run and task.
const HISTORY: u32 = 5_000;

async fn columns(sql: &AnyPool, table: &str, dialect: Dialect) -> Vec<String> {
    let text = match dialect {
        Dialect::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Dialect::Postgres => format!(
            "SELECT CAST(column_name AS text) AS name FROM information_schema.columns \
             WHERE table_name = '{table}' AND table_schema = 'public'"
        ),
    };
    let rows = sqlx::query(AssertSqlSafe(text))
        .fetch_all(sql)
        .await
        .expect("the columns");
    rows.iter()
        .map(|row| row.try_get("name").expect("a name"))
        .collect()
}

/// Copies every row of a table as something that has ended.
async fn age(sql: &AnyPool, table: &str, dialect: Dialect) {
    let columns = columns(sql, table, dialect).await;
    let taken = columns.iter().map(|column| match column.as_str() {
        "id" => "t.id || '-' || n.n",
        "state" => "'succeeded'",
        "finished_at" => "1",
        "holds" | "awaits" | "line" | "unannounced" => "NULL",
        other => other,
    });
    let taken: Vec<&str> = taken.collect();
    let text = format!(
        "INSERT INTO {table} ({}) WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {HISTORY}) \
         SELECT {} FROM {table} t, n",
        columns.join(", "),
        taken.join(", ")
    );
    sqlx::query(AssertSqlSafe(text))
        .execute(sql)
        .await
        .expect("a history");
}

/// What the database would do for a count: each step on a table, in its words.
async fn plan(sql: &AnyPool, text: &str, dialect: Dialect) -> Vec<String> {
    let explained = match dialect {
        Dialect::Sqlite => format!("EXPLAIN QUERY PLAN {text}"),
        Dialect::Postgres => format!("EXPLAIN {text}"),
    };
    let rows = sqlx::query(AssertSqlSafe(explained))
        .bind("")
        .fetch_all(sql)
        .await
        .expect("a plan");
    let step = match dialect {
        Dialect::Sqlite => 3,
        Dialect::Postgres => 0,
    };
    let said = rows
        .iter()
        .map(|row| row.try_get_unchecked::<String, _>(step).expect("a text"));
    said.collect()
}

pub async fn what_has_not_ended_is_counted_without_a_look_at_the_history(house: House) {
    let dialect = house.store.dialect();
    let decided = house
        .decide(&[created("h1", 1, json!({"name": "a"}))], 1)
        .await;
    assert_eq!(house.commit(&decided, &[]).await, Committed::Done);
    let sql = AnyPool::connect(&house.url).await.expect("connected");
    for table in ["run", "task"] {
        age(&sql, table, dialect).await;
    }
    sqlx::query("ANALYZE")
        .execute(&sql)
        .await
        .expect("analysed");
    let counted = house.store.census("").await.expect("counted");
    assert_eq!(
        counted["tasks"]["muster.tasks.boefje"]["queued"], 1,
        "{counted}"
    );
    let of_others = house.store.census("nobody").await.expect("counted");
    assert_eq!(of_others["tasks"], json!({}), "{of_others}");
    for (what, text) in CENSUS {
        for step in plan(&sql, text, dialect).await {
            let words: Vec<&str> = step.split_whitespace().collect();
            let whole = words
                .windows(2)
                .any(|pair| matches!(pair, ["SCAN", "task" | "run"]) && !step.contains("INDEX"));
            assert!(
                !whole && !step.contains("Seq Scan on task") && !step.contains("Seq Scan on run"),
                "{what} reads the whole history: {step}"
            );
        }
    }
}
