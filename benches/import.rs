//! What `muster import objects` costs: a file of objects, from the first byte to the last commit, into a real PostgreSQL
//! with its usual durability; beside a bare `COPY` of the same rows into a table with the same indexes, in the same run.
//!
//! Nothing here asserts a time; that every object is there it does assert.
//!
//! `cargo bench --bench import -- [--quick] [--objects N]`

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use servers::{Folder, Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

#[path = "../tests/support/servers.rs"]
mod servers;

fn main() {
    let mut objects = 1_000_000_u64;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => objects = 50_000,
            "--objects" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                objects = number.expect("a number of objects");
            }
            // What cargo says to every benchmark.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(objects));
}

async fn measure(objects: u64) {
    let postgres = Postgres::start();
    let folder = Folder::new("import");
    let inventory = folder.path().join("inventory.jsonl");
    let bytes = write(&inventory, objects);
    println!(
        "{objects} objects of 10 organisations, {} bytes each",
        bytes / objects
    );

    let begun = Instant::now();
    let imported = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["import", "objects"])
        .arg(&inventory)
        .env("MUSTER_STORE_URL", postgres.url())
        .current_dir(folder.path())
        .status();
    let ours = begun.elapsed();
    assert!(imported.expect("muster runs").success());

    let mut hand = PgConnection::connect(&postgres.url())
        .await
        .expect("connected");
    let rows = sqlx::query("SELECT count(*) AS many FROM object WHERE live = 1");
    let rows: i64 = rows
        .fetch_one(&mut hand)
        .await
        .expect("counted")
        .get("many");
    assert_eq!(rows.unsigned_abs(), objects, "every object is there");
    let bare = copy(&mut hand).await;
    let rate = |took: Duration| objects as f64 / took.as_secs_f64();
    println!(
        "RESULT objects={objects} seconds={:.1} objects_per_s={:.0} copy_seconds={:.1} copy_rows_per_s={:.0} ratio={:.3}",
        ours.as_secs_f64(),
        rate(ours),
        bare.as_secs_f64(),
        rate(bare),
        rate(ours) / rate(bare),
    );
}

/// A file of objects as an inventory has them; answers with its length.
fn write(path: &Path, objects: u64) -> u64 {
    let mut file = BufWriter::new(fs::File::create(path).expect("a file"));
    for number in 0..objects {
        let (organization, level) = (number % 10, number % 5);
        writeln!(
            file,
            "{{\"organization\":\"org-{organization}\",\"object_type\":\"hostname\",\
             \"primary_key\":\"Hostname|internet|host-{number:07}.example.com\",\"attributes\":{{\
             \"name\":\"host-{number:07}.example.com\",\"network\":\"Network|internet\",\
             \"registered_domain\":\"Hostname|internet|example.com\",\"dns_zone\":\"DNSZone|internet|example.com\",\
             \"ports\":[22,80,443],\"owner\":\"team-{}\",\"environment\":\"production\",\
             \"seen_by\":[\"dns-records\",\"ssl-certificates\"]}},\"scan_level\":{level}}}",
            number % 97
        )
        .expect("written");
    }
    file.flush().expect("written");
    fs::metadata(path).expect("its length").len()
}

/// The same rows through the server's own `COPY`, into a table with the same indexes.
async fn copy(hand: &mut PgConnection) -> Duration {
    let name = format!("muster-import-{}.copy", std::process::id());
    let file = std::env::temp_dir().join(name);
    let shown = file.display();
    for sql in [
        "CREATE TABLE bare (LIKE object INCLUDING ALL)".to_owned(),
        format!("COPY object TO '{shown}'"),
        "CHECKPOINT".to_owned(),
    ] {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *hand).await;
        done.expect("done");
    }
    let begun = Instant::now();
    let sql = AssertSqlSafe(format!("COPY bare FROM '{shown}'"));
    let copied = sqlx::raw_sql(sql).execute(&mut *hand).await;
    copied.expect("copied");
    let took = begun.elapsed();
    let _ = fs::remove_file(&file);
    took
}
