//! What can be seen from outside: the file of metrics, the push, the logs.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use muster::telemetry::{
    Bounded, Kind, METRICS, MetricsHandle, PushGateway, Recorder, logs, publish_metrics,
};
use tokio_util::sync::CancellationToken;

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("muster-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder is there");
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A recorder to which everything that is measured has happened.
fn busy() -> MetricsHandle {
    let recorder = Recorder::new().expect("the metrics are described well");
    recorder.during(|| {
        for metric in METRICS
            .iter()
            .filter(|metric| !metric.name.starts_with("muster_process_"))
        {
            for outcome in ["taken", "a \"quoted\" one\n"] {
                let labels = [("outcome", outcome.to_owned())];
                match metric.kind {
                    Kind::Counter => metrics::counter!(metric.name, &labels).increment(3),
                    Kind::Gauge => metrics::gauge!(metric.name, &labels).set(2.5),
                    Kind::Histogram => metrics::histogram!(metric.name, &labels).record(0.004),
                }
            }
        }
    });
    recorder.handle()
}

#[test]
fn promtool_accepts_every_metric() {
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool =
        checked.expect("`promtool` runs; it comes with Debian's package `prometheus`");
    let text = busy().render();
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("promtool reads");
    drop(input);
    let said = promtool.wait_with_output().expect("promtool ends");
    let complaints =
        String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.success() && complaints.is_empty(),
        "{complaints}\n{text}"
    );
}

#[test]
fn every_metric_has_its_help_and_its_type() {
    let text = busy().render();
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        for line in [
            format!("# HELP {} {}", metric.name, metric.help),
            format!("# TYPE {} {kind}", metric.name),
        ] {
            assert_eq!(
                text.lines().filter(|found| *found == line).count(),
                1,
                "{line}\n{text}"
            );
        }
    }
}

#[test]
fn what_is_counted_in_the_source_is_described_with_its_kind() {
    let counted = regex::Regex::new(r#"\b(counter|gauge|histogram)!\(\s*"([^"]+)""#).unwrap();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap_or_default();
            for found in counted.captures_iter(&source) {
                let (kind, name) = (&found[1], &found[2]);
                let described = METRICS.iter().find(|metric| metric.name == name);
                let described = described.map(|metric| format!("{:?}", metric.kind).to_lowercase());
                assert_eq!(
                    described.as_deref(),
                    Some(kind),
                    "{name} in {}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn counters_without_labels_are_there_before_anything_happens() {
    let text = Recorder::new().unwrap().handle().render();
    assert!(text.contains("\nmuster_bus_reconnects_total 0\n"), "{text}");
    assert!(text.contains("\nmuster_store_retries_total 0\n"), "{text}");
}

#[test]
fn histograms_have_buckets_and_the_process_tells_of_itself() {
    let text = busy().render();
    assert!(
        text.contains("muster_publish_seconds_bucket{outcome=\"taken\",le=\"0.005\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("muster_publish_seconds_bucket{outcome=\"taken\",le=\"0.0025\"} 0"),
        "{text}"
    );
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} in {text}"))
            .parse::<f64>()
            .unwrap()
    };
    assert!(value("muster_process_resident_memory_bytes") > 1e6);
    assert!(value("muster_process_cpu_seconds_total") >= 0.0);
    assert!(value("muster_process_open_fds") >= 3.0);
    assert!(value("muster_process_max_fds") >= value("muster_process_open_fds"));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let started = value("muster_process_start_time_seconds");
    assert!(
        started < now + 2.0 && started > now - 3600.0,
        "{started} and now {now}"
    );
}

// The file

#[test]
fn a_reader_of_the_file_never_sees_a_part() {
    let folder = Folder::new("atomic");
    let path = folder.0.join("muster.prom");
    let handle = busy();
    handle.write_to(&path).unwrap();
    let lines = fs::read_to_string(&path).unwrap().lines().count();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut read = 0;
                    while !done.load(Ordering::Acquire) || read == 0 {
                        let text = fs::read_to_string(&path).expect("the file is always there");
                        assert_eq!(text.lines().count(), lines);
                        assert!(text.ends_with('\n'));
                        read += 1;
                    }
                    read
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..200).for_each(|_| handle.write_to(&path).unwrap())))
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
        let read: usize = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        assert!(read > 0);
    });
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(folder.names(), ["muster.prom"]);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = Folder::new("unwritable");
    let handle = busy();
    let missing = folder.0.join("missing").join("muster.prom");
    let error = handle.write_to(&missing).unwrap_err().to_string();
    assert!(error.contains("missing/muster.prom"), "{error}");
    handle.write_to(Path::new("/")).unwrap_err();
    // A folder in its place cannot be replaced, and what was begun is taken away.
    let taken = folder.0.join("taken.prom");
    fs::create_dir_all(taken.join("full")).unwrap();
    handle.write_to(&taken).unwrap_err();
    assert_eq!(folder.names(), ["taken.prom"]);
}

#[tokio::test]
async fn the_last_figures_are_written_at_the_end() {
    let folder = Folder::new("end");
    let path = folder.0.join("muster.prom");
    let recorder = Recorder::new().unwrap();
    let cancel = CancellationToken::new();
    let hour = Duration::from_secs(3600);
    let publishing = publish_metrics(
        recorder.handle(),
        Some(path.clone()),
        None,
        hour,
        cancel.clone(),
    );
    let publishing = tokio::spawn(publishing);
    recorder.during(|| metrics::counter!("muster_store_retries_total").increment(7));
    cancel.cancel();
    publishing.await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\nmuster_store_retries_total 7\n"), "{text}");
}

#[tokio::test]
async fn trouble_with_publishing_stops_nothing() {
    let unwritable = Some(PathBuf::from("/nowhere/at/all/muster.prom"));
    let gateway = PushGateway::parse("http://127.0.0.1:1", "muster", "a").unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let handle = Recorder::new().unwrap().handle();
    publish_metrics(handle, unwritable, Some(gateway), Duration::ZERO, cancel).await;
}

// The push

/// Takes one request, answers it with these bytes and gives back its head and body.
fn gateway(answer: &'static str) -> (String, thread::JoinHandle<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        serve(stream, answer)
    });
    (address, serving)
}

fn serve(stream: TcpStream, answer: &str) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a line") > 0, "{head}");
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok())
        .expect("a length");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    reader
        .get_mut()
        .write_all(answer.as_bytes())
        .expect("the answer");
    (head, String::from_utf8(body).expect("UTF-8"))
}

#[tokio::test]
async fn a_push_replaces_the_figures_of_its_job_and_instance() {
    let (address, serving) = gateway("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let url = format!("http://us%65r:p%40ss@{address}/base/");
    let to = PushGateway::parse(&url, "muster", "host a:1").unwrap();
    busy().push(&to).await.unwrap();
    let (head, body) = serving.join().unwrap();
    assert!(
        head.starts_with("PUT /base/metrics/job/muster/instance/host%20a%3A1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("\r\nHost: {address}\r\n")), "{head}");
    assert!(
        head.contains("\r\nAuthorization: Basic dXNlcjpwQHNz\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(
        body.contains("muster_dead_letters{outcome=\"taken\"} 2.5\n"),
        "{body}"
    );
}

#[tokio::test]
async fn a_label_that_a_path_cannot_hold_goes_in_base64() {
    let (address, serving) = gateway("HTTP/1.1 202 Accepted\r\n\r\n");
    let to = PushGateway::parse(&format!("http://{address}"), "a/b", "").unwrap();
    busy().push(&to).await.unwrap();
    let (head, _) = serving.join().unwrap();
    assert!(
        head.starts_with("PUT /metrics/job@base64/YS9i/instance@base64/= HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(!head.contains("Authorization"), "{head}");
}

#[tokio::test]
async fn a_push_that_is_refused_tells_the_status_and_the_reason() {
    for (answer, said) in [
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\n\r\nno such job\n",
            "answered 400: no such job",
        ),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered 503"),
        ("SSH-2.0-OpenSSH\r\n", "did not answer in HTTP"),
        ("", "did not answer in HTTP"),
    ] {
        let (address, serving) = gateway(answer);
        let to = PushGateway::parse(&format!("http://u:secret@{address}"), "muster", "a").unwrap();
        let error = format!("{:#}", busy().push(&to).await.unwrap_err());
        serving.join().unwrap();
        assert!(error.contains(said) && error.contains(&address), "{error}");
        assert!(!format!("{error}{to:?}").contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_away_or_silent_is_an_error_in_time() {
    // Nothing listens on the first port of all.
    let to = PushGateway::parse("http://127.0.0.1:1", "muster", "a").unwrap();
    let error = format!("{:#}", busy().push(&to).await.unwrap_err());
    assert!(error.contains("is out of reach"), "{error}");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}", silent.local_addr().unwrap());
    let to = PushGateway::parse(&to, "muster", "a").unwrap();
    let begun = Instant::now();
    let error = busy().push(&to).await.unwrap_err().to_string();
    assert!(error.contains("did not answer within 5 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_address_that_cannot_be_pushed_to_is_refused_at_once() {
    for (address, said) in [
        ("https://gateway:9091", "not https://"),
        ("ftp://gateway", "not ftp://"),
        ("gateway", "not a URL"),
        ("http://u:secret@gateway:99999", "not a URL"),
        ("http://gateway/?job=x", "must end after its path"),
    ] {
        let error = format!(
            "{:#}",
            PushGateway::parse(address, "muster", "a").unwrap_err()
        );
        assert!(
            error.contains(said) && !error.contains("secret"),
            "{address}: {error}"
        );
    }
}

// Labels

#[test]
fn a_label_has_a_hundred_values_and_the_rest_is_other() {
    let label = Bounded::new();
    for n in 0..100 {
        assert_eq!(
            label.label(&format!("schedule-{n}")).as_ref(),
            format!("schedule-{n}")
        );
    }
    assert_eq!(label.label("one too many").as_ref(), "other");
    assert_eq!(label.label("schedule-7").as_ref(), "schedule-7");
}

#[test]
fn the_bound_of_a_label_holds_between_threads() {
    let label = Bounded::default();
    let seen: HashSet<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let label = &label;
                scope.spawn(move || {
                    let values = (0..200).map(|n| format!("{}", (n * 7 + thread * 31) % 400));
                    let shown: Vec<String> = values
                        .map(|value| label.label(&value).to_string())
                        .collect();
                    shown
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(seen.len(), 101);
    assert!(seen.contains("other"));
}

// What ended

#[test]
fn what_a_transaction_ended_is_counted_once_it_is_stored() {
    use muster::tally::{attempt_ended, counted, run_ended, undone};
    let recorder = Recorder::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ended = |state| async move {
        run_ended("nightly", state);
        attempt_ended("script", state);
    };
    let text = || recorder.handle().render();
    recorder.during(|| {
        let done = runtime.block_on(counted(async {
            ended("succeeded").await;
            assert!(!text().contains("nightly"));
            Ok::<(), ()>(())
        }));
        assert_eq!(done, Ok(()));
        let failed = runtime.block_on(counted(async {
            ended("failed").await;
            Err::<(), ()>(())
        }));
        assert_eq!(failed, Err(()));
        let rolled_back = runtime.block_on(counted(async {
            ended("failed").await;
            undone();
            Ok::<(), ()>(())
        }));
        assert_eq!(rolled_back, Ok(()));
    });
    let text = text();
    assert!(
        text.contains("muster_runs_ended_total{schedule=\"nightly\",state=\"succeeded\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "muster_attempts_ended_total{worker_type=\"script\",outcome=\"succeeded\"} 1\n"
        ),
        "{text}"
    );
    assert!(!text.contains("failed\"}"), "{text}");
}

// Logs

#[test]
fn a_level_that_is_none_is_refused() {
    let error = logs(false, "muster=loudest").unwrap_err().to_string();
    assert!(
        error.contains("`muster=loudest` is not a log level"),
        "{error}"
    );
}

/// The service on lines that nobody can read: it logs one entry for each, more than a pipe holds.
struct Logging {
    running: Child,
    folder: PathBuf,
}

const ENTRIES: usize = 1_000;

impl Logging {
    fn start(name: &str, json: bool) -> Logging {
        let folder =
            std::env::temp_dir().join(format!("muster-logs-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut running = Command::new(env!("CARGO_BIN_EXE_muster"))
            .arg("run")
            .current_dir(&folder)
            .env("MUSTER_LOG_FORMAT", if json { "json" } else { "text" })
            .env("MUSTER_STORE_URL", "sqlite:logs.db")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = running.stdin.take().unwrap();
        std::thread::spawn(move || {
            for n in 0..ENTRIES {
                writeln!(input, "nonsense {n}").unwrap();
            }
        });
        Logging { running, folder }
    }

    /// What it logged, line by line; it ended well.
    fn lines(mut self) -> Vec<String> {
        let mut text = String::new();
        self.running
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(self.running.wait().unwrap().success());
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn logs_go_to_standard_error_without_colours_where_that_is_no_terminal() {
    let lines = Logging::start("text", false).lines();
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
    let entries: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("dead letter"))
        .collect();
    assert_eq!(entries.len(), ENTRIES);
    assert!(
        entries[0].contains("WARN") && entries[0].contains("reason=\"not_json\""),
        "{}",
        entries[0]
    );
    assert!(lines.iter().all(|line| !line.contains("DEBUG")));
}

#[test]
fn logs_in_json_are_one_object_a_line() {
    let lines = Logging::start("json", true).lines();
    let entries: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let letters: Vec<&serde_json::Value> = entries
        .iter()
        .filter(|entry| entry["reason"] == "not_json")
        .collect();
    assert_eq!(letters.len(), ENTRIES);
    assert_eq!(letters[5]["level"], "WARN");
}

#[test]
fn a_standard_error_that_is_gone_stops_nothing() {
    for json in [false, true] {
        let mut logging = Logging::start("gone", json);
        drop(logging.running.stderr.take());
        assert!(logging.running.wait().unwrap().success());
    }
}
