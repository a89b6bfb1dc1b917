//! Every metric: what it is, its labels, and how many values each of them has at most.
//!
//! A label that follows names which people give (schedules, worker types, queues) has the first hundred that its process
//! counts by, and `other`; all other labels have closed lists. No label follows objects, tasks, organisations or plugins.
//!
//! | Metric | Type | Labels (values) | What it tells |
//! |:--|:--|:--|:--|
//! | `muster_events_total` | counter | `type` (8), `outcome` (2) | Events that were taken in, by type and outcome. |
//! | `muster_event_effects_total` | counter | `effect` (3) | Events that set nothing off, by effect: duplicate, late or unchanged. |
//! | `muster_occurrences_decided_total` | counter | none | Instants of recurrences that were decided. |
//! | `muster_occurrences_skipped_total` | counter | `reason` (15) | Instants of recurrences that were passed over, by reason. |
//! | `muster_refusals_total` | counter | `reason` (16) | Candidates that got no task, by reason. |
//! | `muster_runs_ended_total` | counter | `schedule` (101), `state` (8) | Runs that ended, by schedule and state; those that were skipped or missed too. |
//! | `muster_attempts_ended_total` | counter | `worker_type` (101), `outcome` (14) | Attempts of tasks that ended, by worker type and outcome. |
//! | `muster_tasks_created_total` | counter | `worker_type` (101), `cause` (7) | Tasks that were stored, by worker type and cause. |
//! | `muster_tasks_published_total` | counter | `queue` (101) | Task messages that the broker confirmed, by queue. |
//! | `muster_publish_failures_total` | counter | `queue` (101), `reason` (3) | Task messages that were not confirmed, by queue and reason. |
//! | `muster_statuses_total` | counter | `status` (8), `outcome` (5) | Reports of workers, by status and outcome. |
//! | `muster_dead_letters` | gauge | none | Messages that could not be read or handled and are kept; a million stands for more. |
//! | `muster_dead_letters_oldest_age_seconds` | gauge | none | Since when the oldest of these messages waits for somebody; 0 where there is none. |
//! | `muster_dead_tasks` | gauge | none | Tasks that are dead and were not made anew; a million stands for more. |
//! | `muster_runs_expanding` | gauge | none | Runs that still look for their inputs, those that wait for room or a pause to end among them; a million stands for more. |
//! | `muster_expansion_inputs_left` | gauge | none | Objects that these runs have not looked at yet; a million stands for more. |
//! | `muster_ends_told_total` | counter | none | Ends of runs and tasks of which those were told who wait for such ends. |
//! | `muster_life_told_total` | counter | none | Events of the life of runs, tasks and schedules that the broker confirmed. |
//! | `muster_queue_tasks` | gauge | `queue` (101), `state` (4) | Tasks that have not ended, by queue and state; a million stands for more. |
//! | `muster_queue_waiting_tasks` | gauge | `queue` (101), `class` (3) | Tasks that could go now, by queue and class; a million stands for more. |
//! | `muster_queue_oldest_age_seconds` | gauge | `queue` (101), `class` (3) | Since when the oldest of these tasks is there, by queue and class; 0 where there is none. |
//! | `muster_queue_credit` | gauge | `queue` (101) | Offers of a queue that may be at the broker at once; 0 where there is no limit. |
//! | `muster_queue_credit_used` | gauge | `queue` (101) | Offers of a queue that are at the broker; 0 where there is no limit. |
//! | `muster_consumer_lag_seconds` | gauge | `consumer` (101) | The highest age, within the last second, of what a consumer had taken and not stored, by what it tells of its time, else since it was taken; 0 where it has nothing to do. |
//! | `muster_consumer_waiting_messages` | gauge | `consumer` (101) | Messages that lie at the broker and were given to nobody, by consumer; as it told when it was last there. |
//! | `muster_batch_seconds` | histogram | none | From the first message of a batch to its settlement. |
//! | `muster_event_to_task_seconds` | histogram | none | From the arrival of an event to the confirm of a task that it made. |
//! | `muster_publish_seconds` | histogram | none | From publishing task messages to their confirms. |
//! | `muster_decide_seconds` | histogram | none | Deciding what a batch of changes sets off. |
//! | `muster_commands_total` | counter | `outcome` (2) | Commands that were answered, by outcome. |
//! | `muster_refused_requests_total` | counter | `kind` (2), `reason` (64) | Commands and statuses that were refused, and commands of one organisation that found nothing by a name or id. |
//! | `muster_clocks_run_out_total` | counter | `clock` (3) | Attempts that ran out of time, by the clock that did. |
//! | `muster_trigger_events_total` | counter | none | Changes of objects whose schedules were looked for. |
//! | `muster_trigger_candidates_total` | counter | none | Schedules that were looked at for these changes. |
//! | `muster_trigger_checks_total` | counter | none | Candidates of which more than their key had to be checked. |
//! | `muster_trigger_matches_total` | counter | none | Schedules that these changes triggered. |
//! | `muster_schedules_unindexed` | gauge | none | Schedules that no key finds, so that every change looks at them. |
//! | `muster_bus_reconnects_total` | counter | none | Connections to the broker after the first. |
//! | `muster_store_retries_total` | counter | none | Transactions that were tried again. |
//! | `muster_store_reconnects_total` | counter | none | Times that the database answered again after it was out of reach. |
//! | `muster_loop_beat_timestamp_seconds` | gauge | `loop` (8) | When a loop last went round, as seconds since 1970. |
//! | `muster_build_info` | gauge | `version` (1) | 1, with the version that runs. |
//! | `muster_process_resident_memory_bytes` | gauge | none | Resident memory size in bytes. |
//! | `muster_process_cpu_seconds_total` | counter | none | Total user and system CPU time spent in seconds. |
//! | `muster_process_open_fds` | gauge | none | Number of open file descriptors. |
//! | `muster_process_max_fds` | gauge | none | Maximum number of open file descriptors. |
//! | `muster_process_start_time_seconds` | gauge | none | Start time of the process since 1970 in seconds. |
//!
//! What is counted in the database (`muster_dead_…`, `muster_runs_expanding`, `muster_expansion_inputs_left`,
//! `muster_queue_…`) every replica counts for itself, along an index and up to a million rows a figure, at most every ten
//! seconds and for at most a hundredth of its time; so a panel takes the highest of all replicas. Each asks the broker every
//! five seconds what waits there (RabbitMQ: messages that are ready; NATS: what a durable consumer has not delivered,
//! commands go through no stream there), of the same queues, so that it is the highest of all there too. Counters are each
//! replica's own, and a panel adds them up; what a command line ends beside the service is in none of them.

use metrics::Unit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One thing that is measured.
#[derive(Clone, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Option<Unit>,
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        unit: None,
        help,
    }
}

const fn gauge(name: &'static str, unit: Option<Unit>, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        unit,
        help,
    }
}

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        help,
    }
}

/// Everything that is measured. A name that is counted and not listed here has no help text, and a test complains.
pub const METRICS: [Metric; 47] = [
    counter(
        "muster_events_total",
        "Events that were taken in, by type and outcome.",
    ),
    counter(
        "muster_event_effects_total",
        "Events that set nothing off, by effect: duplicate, late or unchanged.",
    ),
    counter(
        "muster_occurrences_decided_total",
        "Instants of recurrences that were decided.",
    ),
    counter(
        "muster_occurrences_skipped_total",
        "Instants of recurrences that were passed over, by reason.",
    ),
    counter(
        "muster_refusals_total",
        "Candidates that got no task, by reason.",
    ),
    counter(
        "muster_runs_ended_total",
        "Runs that ended, by schedule and state; those that were skipped or missed too.",
    ),
    counter(
        "muster_attempts_ended_total",
        "Attempts of tasks that ended, by worker type and outcome.",
    ),
    counter(
        "muster_tasks_created_total",
        "Tasks that were stored, by worker type and cause.",
    ),
    counter(
        "muster_tasks_published_total",
        "Task messages that the broker confirmed, by queue.",
    ),
    counter(
        "muster_publish_failures_total",
        "Task messages that were not confirmed, by queue and reason.",
    ),
    counter(
        "muster_statuses_total",
        "Reports of workers, by status and outcome.",
    ),
    gauge(
        "muster_dead_letters",
        None,
        "Messages that could not be read or handled and are kept; a million stands for more.",
    ),
    gauge(
        "muster_dead_letters_oldest_age_seconds",
        Some(Unit::Seconds),
        "Since when the oldest of these messages waits for somebody; 0 where there is none.",
    ),
    gauge(
        "muster_dead_tasks",
        None,
        "Tasks that are dead and were not made anew; a million stands for more.",
    ),
    gauge(
        "muster_runs_expanding",
        None,
        "Runs that still look for their inputs, those that wait for room or a pause to end among them; a million stands for more.",
    ),
    gauge(
        "muster_expansion_inputs_left",
        None,
        "Objects that these runs have not looked at yet; a million stands for more.",
    ),
    counter(
        "muster_ends_told_total",
        "Ends of runs and tasks of which those were told who wait for such ends.",
    ),
    counter(
        "muster_life_told_total",
        "Events of the life of runs, tasks and schedules that the broker confirmed.",
    ),
    gauge(
        "muster_queue_tasks",
        None,
        "Tasks that have not ended, by queue and state; a million stands for more.",
    ),
    gauge(
        "muster_queue_waiting_tasks",
        None,
        "Tasks that could go now, by queue and class; a million stands for more.",
    ),
    gauge(
        "muster_queue_oldest_age_seconds",
        Some(Unit::Seconds),
        "Since when the oldest of these tasks is there, by queue and class; 0 where there is none.",
    ),
    gauge(
        "muster_queue_credit",
        None,
        "Offers of a queue that may be at the broker at once; 0 where there is no limit.",
    ),
    gauge(
        "muster_queue_credit_used",
        None,
        "Offers of a queue that are at the broker; 0 where there is no limit.",
    ),
    gauge(
        "muster_consumer_lag_seconds",
        Some(Unit::Seconds),
        "The highest age, within the last second, of what a consumer had taken and not stored, by what it tells of its time, else since it was taken; 0 where it has nothing to do.",
    ),
    gauge(
        "muster_consumer_waiting_messages",
        None,
        "Messages that lie at the broker and were given to nobody, by consumer; as it told when it was last there.",
    ),
    seconds(
        "muster_batch_seconds",
        "From the first message of a batch to its settlement.",
    ),
    seconds(
        "muster_event_to_task_seconds",
        "From the arrival of an event to the confirm of a task that it made.",
    ),
    seconds(
        "muster_publish_seconds",
        "From publishing task messages to their confirms.",
    ),
    seconds(
        "muster_decide_seconds",
        "Deciding what a batch of changes sets off.",
    ),
    counter(
        "muster_commands_total",
        "Commands that were answered, by outcome.",
    ),
    counter(
        "muster_refused_requests_total",
        "Commands and statuses that were refused, and commands of one organisation that found nothing by a name or id.",
    ),
    counter(
        "muster_clocks_run_out_total",
        "Attempts that ran out of time, by the clock that did.",
    ),
    counter(
        "muster_trigger_events_total",
        "Changes of objects whose schedules were looked for.",
    ),
    counter(
        "muster_trigger_candidates_total",
        "Schedules that were looked at for these changes.",
    ),
    counter(
        "muster_trigger_checks_total",
        "Candidates of which more than their key had to be checked.",
    ),
    counter(
        "muster_trigger_matches_total",
        "Schedules that these changes triggered.",
    ),
    gauge(
        "muster_schedules_unindexed",
        None,
        "Schedules that no key finds, so that every change looks at them.",
    ),
    counter(
        "muster_bus_reconnects_total",
        "Connections to the broker after the first.",
    ),
    counter(
        "muster_store_retries_total",
        "Transactions that were tried again.",
    ),
    counter(
        "muster_store_reconnects_total",
        "Times that the database answered again after it was out of reach.",
    ),
    gauge(
        "muster_loop_beat_timestamp_seconds",
        Some(Unit::Seconds),
        "When a loop last went round, as seconds since 1970.",
    ),
    gauge("muster_build_info", None, "1, with the version that runs."),
    gauge(
        "muster_process_resident_memory_bytes",
        Some(Unit::Bytes),
        "Resident memory size in bytes.",
    ),
    counter(
        "muster_process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ),
    gauge(
        "muster_process_open_fds",
        None,
        "Number of open file descriptors.",
    ),
    gauge(
        "muster_process_max_fds",
        None,
        "Maximum number of open file descriptors.",
    ),
    gauge(
        "muster_process_start_time_seconds",
        Some(Unit::Seconds),
        "Start time of the process since 1970 in seconds.",
    ),
];
