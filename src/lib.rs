//! muster matches what happens to the things an organisation owns against schedules, and calls the workers together.
//!
//! This page is the map: the floors of the house, three walks through it, and what is always true. Each room is a
//! module whose first line says what it is for. `tests/house.rs` holds the sources against this map.
//!
//! # Floors
//!
//! A room imports rooms of lower floors; on its own floor only those that stand before it.
//!
//! | Floor | Rooms |
//! |:--|:--|
//! | 4 door | [`cli`], [`watch`], [`settings`], [`telemetry`] |
//! | 3 loops | [`processor`], [`ticker`], [`intake`], [`turns`], [`chains`], [`expansion`], [`dispatch`], [`reaper`], [`life`], on their [`ground`]; what [`answer`]s; [`worker`], the other side; the [`contract`] as documents |
//! | 2 keeping and carrying | [`tally`], [`store`], [`bus`] |
//! | 1 decisions | [`trigger`], [`catalogue`], [`agenda`], [`rank`], [`decide`], [`progress`], [`backlog`], [`command`], [`rehearsal`] |
//! | 0 words | [`harmless`], [`moment`], [`trace`], [`document`], [`policy`], [`object`], [`query`], [`recurrence`], [`schedule`], [`plugin`], [`run`], [`task`], [`signature`], [`rules`], [`declaration`], [`wire`] |
//!
//! Floors 0 and 1 are the core: no I/O, no clock, no chance. Time comes in as a [`moment::Moment`], chance as a seed
//! ([`task::Ids`]), knowledge as a [`decide::World`]. What they answer is data: a [`decide::Plan`], a
//! [`progress::Step`], instants. Loops do not know each other; they share a store, a bus and the calls on the
//! [`ground::Ground`].
//!
//! # An event
//!
//! 1. A body of the bus ([`bus::rabbit`], [`bus::nats`], [`bus::lines`]) takes a [`bus::Delivery`]; the receipt stays
//!    with it.
//! 2. [`intake::run`] gathers a batch; [`wire::read_event`] opens each envelope. What cannot be read becomes a
//!    [`store::DeadLetter`] of the same batch.
//! 3. [`store::Store::gather`] reads what is known of the objects, their open tasks and last ends.
//! 4. [`decide::change`] merges the change ([`object::merge`]). The index ([`trigger::Schedules::candidates`]) brings the
//!    schedules that it may touch, [`trigger::touches`] says which it does, and every plugin they select goes through
//!    [`decide::gates`]. All of it is one [`decide::Plan`].
//! 5. [`store::Store::commit`] stores the event, inventory, runs and tasks in one transaction, if what was read still
//!    holds; else the batch is read and decided again. Then the receipts are settled.
//! 6. [`dispatch::run`], woken, claims the tasks whose turn it is ([`store::Store::claim_turns`]: a lease; the
//!    [`backlog`] says whose turn, within credit and limits), looks again at what may have changed, publishes, waits for
//!    the confirms and marks them.
//!
//! # A declaration
//!
//! 1. [`store::Store::apply`] stores what people declared, raises the revision and keeps what it changed.
//! 2. [`ground::Ground::catalogue_at`] finds its catalogue behind: [`store::Store::declared_since`] tells what changed.
//! 3. A [`catalogue::Edition`] compiles that alone, and makes the next [`catalogue::Catalogue`]. Whoever reads the one
//!    before keeps it, and waits for nobody. Between revisions the index learns from some of the events that pass, and
//!    moves schedules that wait at a common value to a rarer one.
//!
//! # A tick
//!
//! 1. [`ticker::run`] sleeps until the next instant or a call.
//! 2. The [`agenda::Agenda`] says which schedules are due; the [`recurrence::Timetable`] of each gives the instants in
//!    (cursor, now], and [`decide::due`] says which of them run; the rest is a gap, one row.
//! 3. [`decide::occurrence`] plans a run an organisation, whose turn is now, later or never ([`run::Turn`]);
//!    [`store::Store::commit`] moves the cursor in the same
//!    transaction. Another replica finds it moved and stores nothing: there is no leader in this house.
//! 4. [`expansion::run`] finds the inputs of runs over the inventory, organisations and runs in turns
//!    ([`store::Store::claim_expansion`]). A page of them is read ([`store::Store::objects_after`]), decided
//!    ([`decide::page()`]) and stored with the position after it, while the next one is read. So it does for the run of an
//!    event whose schedule selects its inputs.
//!
//! 5. [`turns::run`] begins what waited, once nobody holds its scope: a unique key of the store, as is the one place
//!    behind it.
//! 6. What ends is noted where some schedule waits for such ends ([`store::Store::listen`]), in the transaction that ends
//!    it. [`chains::run`] decides what it sets off ([`decide::chained`]) and takes the note away in the transaction that
//!    stores that.
//!
//! # A command
//!
//! 1. [`intake::run`] takes it from the command queue, [`wire::read_request`] reads it; the command line makes the same
//!    [`wire::Requested`].
//! 2. [`command::Command::read`] says what it means, [`answer::answer`] does it and answers; the same id gets the same
//!    answer.
//!
//! # A worker's status
//!
//! 1. [`intake::run`] takes it from the status queue, [`wire::read_status`] reads it.
//! 2. [`store::Store::standings`] says how the task stands; [`progress::progress`] answers with a step, or that it is
//!    late, said twice or unknown: those are values, not errors.
//! 3. [`store::Store::apply_steps`] applies the step where the task still stands so; the run's counters, the unique
//!    keys and the end from which grace counts move in the same transaction.
//! 4. Where no word comes, [`reaper::run_out_of_time`] asks [`progress::clock`] which clock of the attempt ran out, and
//!    [`progress::run_out`] what becomes of the task.
//!
//! # A worker
//!
//! 1. [`cli`] opens the bus in the role of a worker ([`bus::Role`]); [`worker::run`] takes a task whenever it has a free
//!    hand ([`bus::Bus::take_tasks`]), and [`wire::read_task`] reads it.
//! 2. It says `accepted`, acknowledges the message when that is confirmed, fetches the script ([`worker::Shelf`]) and runs
//!    it as a group of processes with nothing of our environment.
//! 3. [`wire::status_message`] writes what it reports: heartbeats once, all else until it is confirmed.
//!
//! # What is always true
//!
//! - The database is the truth. A message is settled after its effects are committed, never before.
//! - One open task for each organisation, plugin and input: a primary key ([`store`], table `open_input`), not a query
//!   followed by an insert.
//! - Of the tasks that share an outcome one runs: a unique key again. Those that wait for it end or are queued in the
//!   transaction that ends it.
//! - A decision is made outside of any transaction and stored only if nothing it rests on has changed: the revision of
//!   the [`catalogue`], the versions of the objects, the unique keys, the cursor.
//! - An attempt has a number, the number is the token, and `task id:number` is the message id. Publishing again after
//!   a lost confirm keeps it; every new offer raises it.
//! - `explain` and `replay` walk the code of the decision and throw the plan away ([`intake::explain`], [`answer::replay`],
//!   [`rehearsal`]).
//! - JSON of messages is known to [`wire`] alone, SQL to [`store`], the brokers' clients to [`bus`].
//! - What people write (files, settings, arguments) is read through [`document`], which collects complaints instead
//!   of stopping at the first, and knows the nearest right name.
//! - The process opens no listening socket.

pub mod agenda;
pub mod answer;
pub mod backlog;
pub mod bus;
pub mod catalogue;
pub mod chains;
pub mod cli;
pub mod command;
pub mod contract;
pub mod decide;
pub mod declaration;
pub mod dispatch;
pub mod document;
pub mod expansion;
pub mod ground;
pub mod harmless;
pub mod intake;
pub mod life;
pub mod moment;
pub mod object;
pub mod plugin;
pub mod policy;
pub mod processor;
pub mod progress;
pub mod query;
pub mod rank;
pub mod reaper;
pub mod recurrence;
pub mod rehearsal;
pub mod rules;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod signature;
pub mod store;
pub mod tally;
pub mod task;
pub mod telemetry;
pub mod ticker;
pub mod trace;
pub mod trigger;
pub mod turns;
pub mod watch;
pub mod wire;
pub mod worker;
