//! Real servers for the tests: PostgreSQL, RabbitMQ and NATS, each on a free port of 127.0.0.1 with a
//! temporary folder of its own.
//!
//! A server that is dropped is killed and its folder is removed. A server whose test process is killed dies
//! with it. Nothing here sleeps to wait for a server: it reads the server's log until the line that says so.

#![allow(dead_code)] // each test binary uses a part of it

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A server that needs longer than this to start is broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a log is read while a server starts.
const GLANCE: Duration = Duration::from_millis(10);

/// PostgreSQL with one superuser `muster`, without a password, and a database of the same name.
pub struct Postgres {
    server: Server,
}

impl Postgres {
    pub fn start() -> Postgres {
        Postgres::with(&[])
    }

    /// Starts with further settings, such as `fsync=off`.
    pub fn with(settings: &[&str]) -> Postgres {
        let folder = Folder::new("postgres");
        let data = folder.path().join("data");
        let owner = is_root().then(|| user("postgres"));
        if let Some((uid, gid)) = owner {
            chown(folder.path(), Some(uid), Some(gid)).expect("give the folder to `postgres`");
        }
        let mut initdb = command("initdb", "postgresql", owner);
        initdb
            .args(["--no-sync", "--no-instructions", "--auth=trust"])
            .args(["--username=muster", "--encoding=UTF8", "--locale=C"])
            .arg("-D")
            .arg(&data)
            .current_dir(folder.path());
        run(&mut initdb);

        let port = free_port();
        let mut line = vec![
            "-D".to_owned(),
            data.display().to_string(),
            "-p".to_owned(),
            port.to_string(),
            "-k".to_owned(),
            folder.path().display().to_string(),
        ];
        let ours = [
            "listen_addresses=127.0.0.1",
            "max_connections=200",
            "shared_buffers=64MB",
            "log_min_messages=warning",
        ];
        for setting in ours.iter().chain(settings) {
            line.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let current = folder.path().to_owned();
        let server = Server::start(
            folder,
            port,
            "database system is ready to accept connections",
            Box::new(move || {
                let mut postgres = command("postgres", "postgresql", owner);
                postgres.args(&line).current_dir(&current);
                postgres
            }),
        );
        let postgres = Postgres { server };
        postgres.create_database("muster");
        postgres
    }

    /// Makes one more empty database on this server, for tests that share it.
    pub fn create_database(&self, name: &str) {
        let mut psql = command("psql", "postgresql-client", None);
        psql.args([
            "-X",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            "muster",
            "-d",
            "postgres",
        ])
        .args(["-p", &self.server.port.to_string()])
        .args(["-c", &format!("create database \"{name}\"")]);
        run(&mut psql);
    }

    pub fn url(&self) -> String {
        self.url_of("muster")
    }

    pub fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://muster@127.0.0.1:{}/{database}",
            self.server.port
        )
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// As if the power went: every process of the server, at once.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// The same port and the same data.
    pub fn restart(&mut self) {
        self.server.restart();
    }
}

/// RabbitMQ without plugins; user and password `guest`.
pub struct Rabbit {
    server: Server,
}

impl Rabbit {
    pub fn start() -> Rabbit {
        Rabbit::with(|_| String::new())
    }

    /// Starts with more settings of the application `rabbit`: Erlang terms, each after a comma. The closure
    /// gets the server's folder.
    pub fn with(settings: impl FnOnce(&Path) -> String) -> Rabbit {
        let folder = Folder::new("rabbit");
        let home = folder.path().to_owned();
        let port = free_port();
        let distribution_port = free_port();
        let epmd_port = free_port();
        // Erlang terms, because a `rabbitmq.conf` costs the boot some seconds of translating it into these.
        let config = format!(
            "[{{rabbit, [{{tcp_listeners, [{{\"127.0.0.1\", {port}}}]}}, {{disk_free_limit, 1000000}},\n\
             {{vm_memory_high_watermark, {{absolute, 2000000000}}}}{}]}}].\n",
            settings(&home)
        );
        fs::write(home.join("rabbit.config"), config).expect("write rabbit.config");
        fs::write(home.join("enabled_plugins"), "[].\n").expect("write enabled_plugins");
        // A cookie that is there already saves the boot a second of making one.
        let cookie = home.join(".erlang.cookie");
        fs::write(&cookie, "MUSTERTESTCOOKIE").expect("write the cookie");
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).expect("close the cookie");

        let server = Server::start_beside(
            folder,
            port,
            "Server startup complete",
            // A port mapper of its own: instances cannot clash, and none is left behind.
            Some(Box::new(move || {
                let mut epmd = command("epmd", "rabbitmq-server", None);
                epmd.args(["-address", "127.0.0.1"])
                    .args(["-port", &epmd_port.to_string()]);
                epmd
            })),
            Box::new(move || {
                let mut rabbit = command(
                    "/usr/lib/rabbitmq/bin/rabbitmq-server",
                    "rabbitmq-server",
                    None,
                );
                rabbit
                    .current_dir(&home)
                    .env("HOME", &home)
                    // Makes the script become the server instead of waiting beside it, so one process is killed.
                    .env("RUNNING_UNDER_SYSTEMD", "true")
                    .env("ERL_EPMD_PORT", epmd_port.to_string())
                    .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                    .env("RABBITMQ_NODENAME", format!("muster{port}@localhost"))
                    .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
                    .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
                    .env("RABBITMQ_CONFIG_FILE", home.join("none"))
                    .env("RABBITMQ_CONF_ENV_FILE", home.join("none.conf"))
                    .env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("rabbit.config"))
                    .env(
                        "RABBITMQ_ENABLED_PLUGINS_FILE",
                        home.join("enabled_plugins"),
                    )
                    .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
                    .env("RABBITMQ_LOG_BASE", home.join("log"))
                    .env("RABBITMQ_LOGS", "-")
                    .env("RABBITMQ_SCHEMA_DIR", home.join("schema"))
                    .env("RABBITMQ_GENERATED_CONFIG_DIR", home.join("generated"))
                    .env("RABBITMQ_PID_FILE", home.join("pid"))
                    // Two cores are shared with the test: few schedulers, and none of them spins.
                    .env(
                        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                        "+S 2:2 +SDio 2 +A 2 +sbwt none +sbwtdcpu none +sbwtdio none \
                         -kernel inet_dist_use_interface {127,0,0,1}",
                    );
                rabbit
            }),
        );
        Rabbit { server }
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.server.port)
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    pub fn folder(&self) -> &Path {
        self.server.folder.path()
    }

    pub fn kill(&mut self) {
        self.server.kill();
    }

    pub fn restart(&mut self) {
        self.server.restart();
    }
}

/// NATS with JetStream.
pub struct Nats {
    server: Server,
}

impl Nats {
    pub fn start() -> Nats {
        Nats::with(|_| String::new())
    }

    /// Starts with more lines of configuration, such as `max_payload: 4096`; the closure gets the folder.
    pub fn with(settings: impl FnOnce(&Path) -> String) -> Nats {
        let folder = Folder::new("nats");
        let port = free_port();
        let config = folder.path().join("nats.conf");
        let text = format!(
            "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?} }}\n{}\n",
            folder.path().join("store"),
            settings(folder.path())
        );
        fs::write(&config, text).expect("write nats.conf");
        let server = Server::start(
            folder,
            port,
            "Server is ready",
            Box::new(move || {
                let mut nats = command("nats-server", "nats-server", None);
                nats.arg("-c").arg(&config);
                nats
            }),
        );
        Nats { server }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server.port)
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    pub fn kill(&mut self) {
        self.server.kill();
    }

    pub fn restart(&mut self) {
        self.server.restart();
    }
}

/// A certificate authority and a certificate for `localhost` and 127.0.0.1, made by `openssl`.
pub struct Certificates {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    pub fn make(folder: &Path) -> Certificates {
        let authority = folder.join("authority.pem");
        let authority_key = folder.join("authority.key");
        let request = folder.join("request.pem");
        let certificate = folder.join("certificate.pem");
        let key = folder.join("certificate.key");
        let extensions = folder.join("extensions");
        fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            .expect("write the extensions");
        let openssl = || {
            let mut openssl = command("openssl", "openssl", None);
            openssl.stderr(Stdio::null());
            openssl
        };
        let new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ];
        run(openssl()
            .args(["req", "-x509", "-days", "3650", "-subj", "/CN=muster tests"])
            .args(new_key)
            .arg("-keyout")
            .arg(&authority_key)
            .arg("-out")
            .arg(&authority));
        run(openssl()
            .args(["req", "-subj", "/CN=localhost"])
            .args(new_key)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&request));
        run(openssl()
            .args(["x509", "-req", "-days", "3650", "-CAcreateserial"])
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(&authority)
            .arg("-CAkey")
            .arg(&authority_key)
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&certificate));
        Certificates {
            authority,
            certificate,
            key,
        }
    }
}

/// Makes the command of a server; called again for every restart.
pub(super) type Recipe = Box<dyn Fn() -> Command + Send + Sync>;

/// One server process, and a companion that must run beside it.
pub(super) struct Server {
    port: u16,
    ready: &'static str,
    companion: Option<Recipe>,
    recipe: Recipe,
    running: Vec<Child>,
    /// Dropped last: the processes are gone by then.
    folder: Folder,
}

impl Server {
    pub(super) fn start(folder: Folder, port: u16, ready: &'static str, recipe: Recipe) -> Server {
        Server::start_beside(folder, port, ready, None, recipe)
    }

    fn start_beside(
        folder: Folder,
        port: u16,
        ready: &'static str,
        companion: Option<Recipe>,
        recipe: Recipe,
    ) -> Server {
        let mut server = Server {
            port,
            ready,
            companion,
            recipe,
            running: Vec::new(),
            folder,
        };
        server.restart();
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    pub(super) fn restart(&mut self) {
        self.kill();
        if let Some(companion) = &self.companion {
            let log = self.folder.path().join("companion.log");
            self.running.push(spawn(companion(), &log));
        }
        let log = self.folder.path().join("server.log");
        let mut child = spawn((self.recipe)(), &log);
        let started = Instant::now();
        loop {
            let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
            if said.contains(self.ready) {
                break;
            }
            let ended = child.try_wait().expect("look after the server");
            if ended.is_some() || started.elapsed() > PATIENCE {
                slay(&mut child);
                panic!(
                    "the server did not say {:?} ({ended:?}):\n{said}",
                    self.ready
                );
            }
            thread::sleep(GLANCE);
        }
        self.running.push(child);
    }

    pub(super) fn kill(&mut self) {
        for mut child in self.running.drain(..).rev() {
            slay(&mut child);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder that goes when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!(
            "muster-{name}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = fs::remove_dir_all(&path); // of a killed process that had this number
        fs::create_dir_all(&path).expect("make a temporary folder");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// The numbers of a user of this machine.
fn user(name: &str) -> (u32, u32) {
    let table = fs::read_to_string("/etc/passwd").unwrap_or_default();
    table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
        .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
        .unwrap_or_else(|| {
            panic!("no user `{name}` to run PostgreSQL as; install the Debian package `postgresql`")
        })
}

/// A command that dies with this process, as another user if one is given.
pub(super) fn command(program: &str, package: &str, owner: Option<(u32, u32)>) -> Command {
    let found = find(program).unwrap_or_else(|| {
        panic!("`{program}` is not here; install the Debian package `{package}`")
    });
    let setpriv = find("setpriv").expect("`setpriv` is not here; install `util-linux`");
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]);
    if let Some((uid, gid)) = owner {
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .arg("--clear-groups");
    }
    command.arg("--").arg(found);
    command
}

/// In PATH, or where Debian keeps the servers that are not in it.
fn find(program: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/sbin", "/usr/lib/rabbitmq/bin"].map(PathBuf::from));
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders
        .iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Starts a process from one thread that never ends: the signal by which a child dies with its parent
/// comes when the *thread* that started it ends, and the threads of tests and runtimes do.
fn spawn(mut command: Command, log: &Path) -> Child {
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

    let output = File::create(log).expect("make the log of a server");
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("share the log"))
        .stderr(output)
        .process_group(0);
    let (sender, answer) = mpsc::channel();
    starter
        .lock()
        .expect("the starter")
        .send((command, sender))
        .expect("the starter lives");
    answer
        .recv()
        .expect("the starter answers")
        .expect("start a server")
}

/// Kills a process and all that came from it. Groups are not enough: each process of PostgreSQL has its own.
fn slay(child: &mut Child) {
    let mut family = vec![child.id()];
    let mut at = 0;
    while at < family.len() {
        family.extend(children_of(family[at]));
        at += 1;
    }
    let _ = Command::new("kill")
        .arg("-KILL")
        .args(family.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
    let _ = child.wait();
    let gone = |pid: &u32| match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z")),
        Err(_) => true,
    };
    let started = Instant::now();
    while !family.iter().all(gone) && started.elapsed() < PATIENCE {
        thread::sleep(GLANCE);
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A port that nobody listens on, outside the range from which outgoing connections are numbered, so that
/// none of these takes it while a server is away.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let seed = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (seed.wrapping_add(step) % COUNT);
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1");
}
