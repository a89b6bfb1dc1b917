//! A house of one replica that is asked, and workers that do what they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use muster::answer::answer;
use muster::declaration::{Variables, read_file};
use muster::ground::{Ground, IntakeRule, terms_of};
use muster::intake::{Incoming, handle};
use muster::moment::{Moment, Span};
use muster::policy::{Format, Order, WorkerSettings};
use muster::progress::{Step, progress};
use muster::rules::Rules;
use muster::store::{Applied, Cancel, Edit, Reported, Store};
use muster::task::Status;
use muster::wire::{Refused, Requested, read_status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::servers::Postgres;

/// Contracts of rooms, each a test on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($room:ident: $($name:ident),+);+ $(;)?) => {
        mod sqlite {
            $($(#[test] fn $name() { super::asking::on_sqlite(stringify!($name), super::$room::$name) })+)+
        }
        mod postgres {
            $($(#[test] fn $name() { super::asking::on_postgres(stringify!($name), super::$room::$name) })+)+
        }
    };
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

pub fn on_sqlite<F: Future<Output = ()>>(name: &str, contract: impl Fn(House) -> F) {
    let folder =
        std::env::temp_dir().join(format!("muster-commands-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let url = format!("sqlite:{}", folder.join("store.db").display());
    runtime().block_on(async { contract(House::open(&url).await).await });
    let _ = std::fs::remove_dir_all(&folder);
}

/// One server for all who need it at the same time; it goes with the last of them.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

pub fn on_postgres<F: Future<Output = ()>>(name: &str, contract: impl Fn(House) -> F) {
    let server = {
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::start());
            *shared = Arc::downgrade(&server);
            server
        })
    };
    let database: String = name.chars().take(60).collect();
    server.create_database(&database);
    let url = server.url_of(&database);
    runtime().block_on(async { contract(House::open(&url).await).await });
}

pub fn moment(text: &str) -> Moment {
    Moment::parse(text).expect("an instant")
}

pub struct House {
    pub ground: Ground,
    pub url: String,
}

const PLUGINS: &str = r#"
- {kind: organization, id: acme}
- {kind: organization, id: other}
- {kind: plugin, plugin_id: feed, worker_type: reader}
- {kind: plugin, plugin_id: dns, worker_type: reader, consumes: [hostname], retry: {max: 1, first: 1s, cap: 1s}}
- {name: hosts, run_on: hostname, operation: created, plugins: "plugin_id = 'dns'"}
- {name: feeds, recurrences: daily, plugins: "plugin_id = 'feed'", input: {}, overlap: allow}
"#;

impl House {
    pub async fn open(url: &str) -> House {
        let store = Store::open(url).await.expect("the address is right");
        store.migrate().await.expect("the schema is made");
        let house = House {
            ground: replica(&store, 7),
            url: url.to_owned(),
        };
        house.declare(PLUGINS).await;
        house
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Another replica over the same store.
    pub async fn beside(&self) -> Ground {
        let store = Store::open(&self.url).await.expect("the address is right");
        let ground = replica(&store, 11);
        ground.clock.fix(self.ground.clock.now());
        ground
    }

    pub async fn declare(&self, text: &str) {
        let (declared, complaints) = read_file(
            "test.yaml",
            text.as_bytes(),
            &Variables::default(),
            &self.ground.rules,
        );
        assert!(complaints.is_empty(), "{complaints:?}");
        let edits: Vec<Edit> = declared
            .into_iter()
            .map(|entry| Edit::Put {
                kind: entry.kind,
                organization: entry.organization,
                id: format!("id-{}", entry.name),
                name: entry.name,
                definition: entry.definition,
            })
            .collect();
        let store = &self.ground.store;
        let revision = store.catalogue_revision().await.expect("one");
        let applied = store.apply(&edits, revision, self.ground.clock.now()).await;
        assert_eq!(applied.expect("applied"), Applied::Revision(revision + 1));
        self.ground.load_catalogue().await.expect("loaded");
    }

    pub fn later(&self, seconds: i64) {
        let now = self.ground.clock.now();
        self.ground.clock.fix(now.plus(Span::seconds(seconds)));
    }

    pub async fn event(&self, body: &str) -> usize {
        self.later(1);
        let incoming = Incoming {
            queue: "muster.events".to_owned(),
            body: body.as_bytes().to_vec(),
            ..Incoming::default()
        };
        let handled = handle(&self.ground, &[incoming]).await.expect("handled");
        handled.dead.len()
    }

    pub async fn host(&self, organization: &str, key: &str) {
        let event = json!({
            "specversion": "1.0", "id": format!("{organization}-{key}-{}", self.ground.chance()), "source": "/t",
            "type": "object.created", "time": self.ground.clock.now().to_string(),
            "data": {"organization": organization, "object_type": "hostname", "primary_key": key,
                     "attributes": {"name": key}, "scan_level": 2},
        });
        assert_eq!(self.event(&event.to_string()).await, 0, "no dead letter");
    }

    /// What waits is offered; answers with the ids of the tasks and the numbers of their offers.
    pub async fn offer(&self) -> Vec<(String, i64)> {
        let now = self.ground.clock.now();
        let queue = self.ground.rules.worker("reader").queue.clone();
        let lease = now.plus(Span::seconds(30));
        let claimed = self.ground.store.claim(&queue, 1000, now, lease).await;
        let claimed = claimed.expect("claimed").into_iter();
        claimed.map(|task| (task.task_id, task.attempt)).collect()
    }

    /// A worker says something, by the code that reads statuses.
    pub async fn say(&self, task_id: &str, attempt: i64, more: Value) -> Step {
        self.later(1);
        let now = self.ground.clock.now();
        let mut status =
            json!({"task_id": task_id, "attempt": attempt, "worker": "w1", "at": now.to_string()});
        for (name, value) in more.as_object().expect("fields") {
            status[name] = value.clone();
        }
        let status: Status = read_status(status.to_string().as_bytes(), now).expect("a status");
        let standings = self.ground.store.standings(&[task_id]).await;
        let known = standings.expect("standings").remove(task_id);
        let terms = terms_of(&self.ground.catalogue(), known.as_ref());
        let standing = known.map(|known| known.standing);
        let step = progress(standing.as_ref(), &status, &terms, now, 0);
        if let (Step::Take(taken), Some(standing)) = (&step, standing) {
            let reported = Reported {
                task_id: task_id.to_owned(),
                worker: Some("w1".to_owned()),
                at: Some(now),
                standing,
                step: taken.as_ref().clone(),
            };
            let written = self.ground.store.apply_steps(&[reported], &[], now).await;
            assert_eq!(written.expect("applied").stale, Vec::<String>::new());
        }
        step
    }

    /// A task of each host that is dead, as its worker failed.
    pub async fn dead(&self, organization: &str, keys: &[&str]) -> Vec<String> {
        for key in keys {
            self.host(organization, key).await;
        }
        let mut dead = Vec::new();
        for (task_id, attempt) in self.offer().await {
            let failed = json!({"status": "failed", "class": "retryable", "message": "no answer"});
            self.say(&task_id, attempt, failed).await;
            dead.push(task_id);
        }
        assert_eq!(dead.len(), keys.len());
        dead
    }

    pub async fn cancels(&self) -> Vec<Cancel> {
        let now = self.ground.clock.now();
        let cancels = self.ground.store.cancels(now, 100).await;
        cancels.expect("cancels")
    }

    pub async fn ask(&self, command: &str, args: Value) -> Result<Value, Refused> {
        self.ask_as(None, None, command, args).await
    }

    pub async fn ask_of(
        &self,
        organization: &str,
        command: &str,
        args: Value,
    ) -> Result<Value, Refused> {
        self.ask_as(None, Some(organization), command, args).await
    }

    pub async fn ask_as(
        &self,
        id: Option<&str>,
        organization: Option<&str>,
        command: &str,
        args: Value,
    ) -> Result<Value, Refused> {
        // People come a moment after the clock, so that ids tell the order.
        self.later(1);
        let requested = requested(id, organization, command, args);
        let said = answer(&self.ground, &requested, "tester").await;
        said.expect("the store answers")
    }

    /// The answer of a command that is done.
    pub async fn done(&self, command: &str, args: Value) -> Value {
        self.ask(command, args.clone())
            .await
            .unwrap_or_else(|refused| panic!("{command} {args}: {refused:?}"))
    }

    /// The code with which a command is refused.
    pub async fn refused(&self, command: &str, args: Value) -> String {
        match self.ask(command, args.clone()).await {
            Ok(done) => panic!("{command} {args} is done: {done}"),
            Err(refused) => refused.code,
        }
    }

    pub async fn task(&self, task_id: &str) -> Value {
        self.done("task.get", json!({"task_id": task_id})).await
    }
}

pub fn requested(
    id: Option<&str>,
    organization: Option<&str>,
    command: &str,
    args: Value,
) -> Requested {
    Requested {
        id: id.map(str::to_owned),
        command: command.to_owned(),
        organization: organization.map(str::to_owned),
        args: args.as_object().cloned().unwrap_or_default(),
    }
}

fn replica(store: &Store, seed: u64) -> Ground {
    let intakes = vec![IntakeRule {
        queue: "muster.events".to_owned(),
        order: Order::Time,
        format: Format::CloudEvents,
    }];
    let reader = WorkerSettings::for_type("reader");
    let scanner = WorkerSettings {
        share: true,
        ..WorkerSettings::for_type("scanner")
    };
    let rules = Arc::new(Rules {
        workers: BTreeMap::from([
            ("reader".to_owned(), reader),
            ("scanner".to_owned(), scanner),
        ]),
        open_organizations: false,
        ..Rules::default()
    });
    let ground = Ground::new(
        store.clone(),
        rules,
        intakes,
        seed,
        CancellationToken::new(),
    );
    ground.clock.fix(moment("2026-11-21T09:30:00Z"));
    ground
}
