-- The house: what is declared, what is owned, what came in, what was decided, what was offered.
-- Instants are microseconds since 1970 in UTC. Text compares by code point.

CREATE TABLE revision (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO revision (name, value) VALUES ('catalogue', 1);

-- Organisations, plugins, object sets, schedules, as they were written.
CREATE TABLE declared (
    kind TEXT NOT NULL,
    organization TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    definition TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, organization, name)
) STRICT;

-- How far the clock of each schedule has been decided.
CREATE TABLE schedule_cursor (
    schedule_id TEXT PRIMARY KEY,
    decided_until INTEGER NOT NULL
) STRICT;

CREATE TABLE object (
    organization TEXT NOT NULL,
    primary_key TEXT NOT NULL,
    object_type TEXT NOT NULL,
    attributes TEXT NOT NULL,
    scan_level INTEGER,
    scan_profile_type TEXT,
    lifted INTEGER NOT NULL,
    live INTEGER NOT NULL,
    created_rank TEXT,
    deleted_rank TEXT,
    attributes_rank TEXT,
    level_rank TEXT,
    deleted_at INTEGER,
    -- Rises with every change of the row: what was read must still be there when it is written.
    version INTEGER NOT NULL,
    PRIMARY KEY (organization, primary_key)
) STRICT;
CREATE INDEX object_by_type ON object (organization, object_type, primary_key) WHERE live = 1;
-- Here stands no index on attributes (for all of them: gin (attributes jsonb_path_ops)): each write would pay for it, and
-- only selective queries gain. One is made for a declared field that asks for it, and for no other.
CREATE INDEX object_tombstones ON object (deleted_at) WHERE deleted_at IS NOT NULL;

-- Messages with a strong id, so that each counts once.
CREATE TABLE inbox (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (source, id)
) STRICT;
CREATE INDEX inbox_by_age ON inbox (received_at);

CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    -- The same bytes for the same reason are one letter, counted.
    fingerprint TEXT NOT NULL UNIQUE,
    intake TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    count INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letter_by_age ON dead_letter (last_seen);

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    schedule_id TEXT NOT NULL,
    schedule TEXT NOT NULL,
    schedule_revision INTEGER NOT NULL,
    organization TEXT NOT NULL,
    cause TEXT NOT NULL,
    scheduled_for INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    target TEXT,
    state TEXT NOT NULL,
    -- Where the expansion is; null when there is nothing left to find.
    position TEXT,
    -- What set it off: event, trigger and previous state, as JSON.
    occasion TEXT NOT NULL,
    total INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    refused TEXT NOT NULL
) STRICT;
CREATE INDEX run_expanding ON run (id) WHERE position IS NOT NULL;
CREATE UNIQUE INDEX run_once ON run (schedule_id, organization, scheduled_for)
    WHERE cause IN ('on_time', 'catch_up');

CREATE TABLE task (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    organization TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    worker_type TEXT NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    class INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    cause TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    scheduled_for INTEGER NOT NULL,
    not_before INTEGER,
    finished_at INTEGER,
    attempt INTEGER NOT NULL,
    -- Attempts that failed, fell silent or overran.
    spent INTEGER NOT NULL,
    reason TEXT,
    inputs TEXT NOT NULL,
    parameters TEXT NOT NULL
) STRICT;
-- What waits, in the order of its urgency, and what is under way; what has ended is not in it.
CREATE INDEX task_open ON task (queue, state, class, priority, id)
    WHERE state IN ('queued', 'dispatched', 'running');
CREATE INDEX task_of_run ON task (run_id);

-- The inputs of tasks that have not ended: one open task for each unique key.
CREATE TABLE open_input (
    organization TEXT NOT NULL,
    primary_key TEXT NOT NULL,
    unique_key TEXT NOT NULL,
    task_id TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (organization, primary_key, unique_key)
) STRICT;
CREATE INDEX open_input_of_task ON open_input (task_id);

-- When the last executed task of a unique key ended: where grace counts from.
CREATE TABLE last_end (
    organization TEXT NOT NULL,
    primary_key TEXT NOT NULL,
    unique_key TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (organization, primary_key, unique_key)
) STRICT;

-- What a worker asked never to be given again.
CREATE TABLE suppressed (
    organization TEXT NOT NULL,
    primary_key TEXT NOT NULL,
    unique_key TEXT NOT NULL,
    until INTEGER,
    reason TEXT NOT NULL,
    PRIMARY KEY (organization, primary_key, unique_key)
) STRICT;

-- Offers of a task. A row is inserted with the claim, marked published once and closed once.
CREATE TABLE attempt (
    task_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT,
    offered_at INTEGER NOT NULL,
    -- Until then the replica that claimed it may publish it; null once it is published.
    claimed_until INTEGER,
    published_at INTEGER,
    -- Nobody who has not accepted it by then has it; null once somebody did, or it ended.
    expires_at INTEGER,
    accepted_at INTEGER,
    ended_at INTEGER,
    outcome TEXT,
    message TEXT,
    exit_code INTEGER,
    log_ref TEXT,
    log_tail TEXT,
    outputs TEXT,
    PRIMARY KEY (task_id, number)
) STRICT;
CREATE INDEX attempt_expiring ON attempt (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX attempt_unpublished ON attempt (claimed_until) WHERE claimed_until IS NOT NULL;

-- Results that came after their attempt had been closed: kept, and deciding nothing.
CREATE TABLE late_result (
    id TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    status TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX late_result_of_task ON late_result (task_id);

-- Replicas, for operators to see; no decision depends on it.
CREATE TABLE replica (
    id TEXT PRIMARY KEY,
    started_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL,
    beats TEXT NOT NULL
) STRICT;
