//! The built program as a child process: with settings of its own, waited for, signalled and killed.

#![allow(dead_code)] // each test binary uses a part of it

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use muster::moment::{Moment, Span};
use muster::store::Store;
use serde_json::Value;
use sqlx::AnyPool;

use super::servers::Folder;

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// What takes longer than this is stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until there is an answer; the only waiting that tests do.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "expected within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(GLANCE).await;
    }
}

/// A folder with the settings of one muster, and every command with these settings.
pub struct House {
    folder: Folder,
    store: String,
}

impl House {
    /// `more` is laid below the addresses in the settings file.
    pub fn new(store: &str, bus: &str, more: &str) -> House {
        let house = House {
            folder: Folder::new("house"),
            store: store.to_owned(),
        };
        house.set(bus, more);
        house
    }

    /// SQLite in a file, lines for a bus.
    pub fn embedded(more: &str) -> House {
        let folder = Folder::new("house");
        let store = format!("sqlite:{}", folder.path().join("muster.db").display());
        let house = House { folder, store };
        house.set("lines:", more);
        house
    }

    /// Writes the settings anew; they hold for whatever is started from now on.
    pub fn set(&self, bus: &str, more: &str) {
        let (plain, tables): (Vec<&str>, Vec<&str>) = match more.find('[') {
            Some(first) => (
                more[..first].lines().collect(),
                more[first..].lines().collect(),
            ),
            None => (more.lines().collect(), Vec::new()),
        };
        let text = format!(
            "{}\n[store]\nurl = {:?}\n[bus]\nurl = {:?}\n{}\n",
            plain.join("\n"),
            self.store,
            bus,
            tables.join("\n")
        );
        self.write("muster.toml", text.as_bytes());
    }

    pub fn store_url(&self) -> &str {
        &self.store
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("write a file of the test");
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        // Dies with the tests, also when these are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_muster")]);
        command.arg("--config").arg(self.path("muster.toml"));
        command.args(arguments).current_dir(self.folder.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MUSTER_")) {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).output().expect("muster runs")
    }

    /// Runs a command that must do what it is asked; answers with what it printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "expected `muster {}` to exit with 0, and it was {}:\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("muster prints UTF-8")
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--output", "json"];
        all.extend(arguments);
        let text = self.done(&all);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("expected JSON ({error}): {text}"))
    }

    /// `muster apply` of a file with this text.
    pub fn apply(&self, name: &str, text: &str) -> String {
        let path = self.write(name, text.as_bytes());
        self.done(&["apply", path.to_str().expect("a path")])
    }

    /// An instant that is still ahead once it is applied, also where the machine is slow: a second, and several times as
    /// long as a look at the store takes now.
    pub fn soon(&self) -> Moment {
        let begun = Moment::now();
        self.json(&["schedule", "list"]);
        let now = Moment::now();
        let slow = Span::from_micros(now.since(begun).micros() * 5);
        now.plus(Span::seconds(1)).plus(slow)
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.store).await.expect("the store opens")
    }

    /// The database itself, for questions that nobody but a test asks.
    pub async fn database(&self) -> Database {
        Database::at(&self.store)
    }

    pub fn service(&self) -> Service {
        self.service_with("service", &[])
    }

    /// A service with a log and variables of its own, where several run in one house.
    pub fn service_with(&self, name: &str, variables: &[(&str, &str)]) -> Service {
        self.beside(name, &["run"], variables)
    }

    /// A command that runs until it is stopped, with a log of its own.
    pub fn beside(&self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Service {
        let log = self.path(&format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("open the log");
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .envs(variables.iter().copied());
        Service {
            child: start(command),
            log,
        }
    }

    /// Lines in, end of input, lines out. It must end well.
    pub fn lines(&self, input: Vec<u8>) -> Vec<Value> {
        let (status, lines, log) = self.lines_and_end(input);
        assert!(
            status.success(),
            "expected the end of input to end muster well, and it was {status}:\n{log}"
        );
        lines
    }

    pub fn lines_and_end(&self, input: Vec<u8>) -> (ExitStatus, Vec<Value>, String) {
        let mut command = self.command(&["run"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start(command);
        let mut stdin = child.stdin.take().expect("its input");
        let feeding = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("muster ends");
        feeding
            .join()
            .expect("fed")
            .expect("muster reads all of its input");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        (
            output.status,
            lines,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Lines in and out, one after the other.
    pub fn dialogue(&self) -> Dialogue {
        self.dialogue_with(&["run"], &[])
    }

    /// The same with another command that reads and writes lines.
    pub fn dialogue_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Dialogue {
        let log = self.path("dialogue.log");
        let mut command = self.command(arguments);
        command
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("open the log"));
        let mut child = start(command);
        let input = child.stdin.take();
        let output = child.stdout.take().expect("its output");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("a line of JSON");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Dialogue {
            service: Service { child, log },
            input,
            lines,
        }
    }
}

/// Counts in the database; nothing while it does not answer.
pub struct Database(AnyPool);

impl Database {
    pub fn at(url: &str) -> Database {
        sqlx::any::install_default_drivers();
        Database(AnyPool::connect_lazy(url).expect("the address of the database is read"))
    }

    pub async fn count(&self, sql: &'static str) -> Option<i64> {
        sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&self.0)
            .await
            .ok()
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.0).await.expect("executed");
    }

    /// Executes in a transaction that stays open until it is dropped.
    pub async fn hold(&self, sql: &'static str) -> sqlx::Transaction<'static, sqlx::Any> {
        let mut transaction = self.0.begin().await.expect("begun");
        sqlx::raw_sql(sql)
            .execute(&mut *transaction)
            .await
            .expect("executed");
        transaction
    }

    /// Messages with a strong id that were handled.
    pub async fn handled(&self) -> Option<i64> {
        self.count("SELECT count(*) FROM inbox").await
    }

    pub async fn tasks(&self) -> Option<i64> {
        self.count("SELECT count(*) FROM task").await
    }

    /// Tasks that wait, and offers that are claimed and not known to be published.
    pub async fn unpublished(&self) -> Option<i64> {
        self.count(
            "SELECT (SELECT count(*) FROM task WHERE state = 'queued') \
             + (SELECT count(*) FROM attempt WHERE claimed_until IS NOT NULL)",
        )
        .await
    }

    pub async fn dead_letters(&self) -> Option<i64> {
        self.count("SELECT count(*) FROM dead_letter").await
    }

    /// Waits until so many messages were handled and every task that they made is published.
    pub async fn settled(&self, messages: usize) {
        let messages = i64::try_from(messages).expect("a count");
        until(&format!("{messages} messages are handled"), async || {
            (self.handled().await? >= messages).then_some(())
        })
        .await;
        until("every task is published", async || {
            (self.unpublished().await? == 0).then_some(())
        })
        .await;
    }
}

/// Starts a process from one thread that never ends: who asks to die with its parent dies with the *thread* that
/// started it.
fn start(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (sender, answer) = mpsc::channel();
    starter
        .lock()
        .expect("the starter")
        .send((command, sender))
        .expect("the starter lives");
    answer
        .recv()
        .expect("the starter answers")
        .expect("muster starts")
}

/// `muster run` beside a broker.
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(
            status.expect("`kill` runs").success(),
            "expected muster to be there for {name}"
        );
    }

    /// `kill -9`: it must have been alive until then.
    pub fn kill(mut self) {
        if let Some(ended) = self.child.try_wait().expect("look after muster") {
            panic!(
                "expected muster to run until it is killed, and it ended with {ended}:\n{}",
                self.log()
            );
        }
        self.child.kill().expect("killed");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9), "expected the end by kill -9");
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("look after muster")
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        until("muster ends", async || self.ended()).await
    }

    /// SIGTERM, and the orderly end that it must have.
    pub async fn stop(mut self) {
        if let Some(ended) = self.ended() {
            panic!(
                "expected muster to run until it is stopped, and it ended with {ended}:\n{}",
                self.log()
            );
        }
        self.terminate();
        let status = self.end().await;
        assert_eq!(
            status.code(),
            Some(0),
            "expected SIGTERM to end muster with 0:\n{}",
            self.log()
        );
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!(
                "--- the end of {} ---\n{}\n---",
                self.log.display(),
                tail.join("\n")
            );
        }
    }
}

/// `muster run` with lines.
pub struct Dialogue {
    service: Service,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<Value>,
}

impl Dialogue {
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input
            .write_all(format!("{line}\n").as_bytes())
            .expect("muster reads");
        input.flush().expect("muster reads");
    }

    /// The next line that muster writes.
    pub fn hear(&mut self) -> Value {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("expected a line of output")
    }

    /// The process itself, to be signalled and waited for.
    pub fn process(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Whether a line comes within a while.
    pub fn hear_within(&self, patience: Duration) -> Option<Value> {
        self.lines.recv_timeout(patience).ok()
    }

    /// The end of input; answers with the lines that were not heard.
    pub fn end(mut self) -> Vec<Value> {
        self.input = None;
        let status = self.service.child.wait().expect("muster ends");
        assert!(
            status.success(),
            "expected the end of input to end muster well, and it was {status}"
        );
        self.lines.iter().collect()
    }
}
