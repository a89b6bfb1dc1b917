-- The house: what is declared, what is owned, what came in, what was decided, what was offered.
-- Instants are microseconds since 1970 in UTC. Text compares by code point.

CREATE TABLE revision (
    name text COLLATE "C" PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO revision (name, value) VALUES ('catalogue', 1);

-- Organisations, plugins, object sets, schedules, as they were written.
CREATE TABLE declared (
    kind text COLLATE "C" NOT NULL,
    organization text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    definition text NOT NULL,
    revision bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (kind, organization, name)
);

-- How far the clock of each schedule has been decided.
CREATE TABLE schedule_cursor (
    schedule_id text COLLATE "C" PRIMARY KEY,
    decided_until bigint NOT NULL
);

CREATE TABLE object (
    organization text COLLATE "C" NOT NULL,
    primary_key text COLLATE "C" NOT NULL,
    object_type text COLLATE "C" NOT NULL,
    attributes jsonb NOT NULL,
    scan_level bigint,
    scan_profile_type text COLLATE "C",
    lifted bigint NOT NULL,
    live bigint NOT NULL,
    created_rank text COLLATE "C",
    deleted_rank text COLLATE "C",
    attributes_rank text COLLATE "C",
    level_rank text COLLATE "C",
    deleted_at bigint,
    -- Rises with every change of the row: what was read must still be there when it is written.
    version bigint NOT NULL,
    PRIMARY KEY (organization, primary_key)
);
CREATE INDEX object_by_type ON object (organization, object_type, primary_key) WHERE live = 1;
-- Here stands no index on attributes (for all of them: gin (attributes jsonb_path_ops)): each write would pay for it, and
-- only selective queries gain. One is made for a declared field that asks for it, and for no other.
CREATE INDEX object_tombstones ON object (deleted_at) WHERE deleted_at IS NOT NULL;

-- Messages with a strong id, so that each counts once.
CREATE TABLE inbox (
    source text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    received_at bigint NOT NULL,
    PRIMARY KEY (source, id)
);
CREATE INDEX inbox_by_age ON inbox (received_at);

CREATE TABLE dead_letter (
    id text COLLATE "C" PRIMARY KEY,
    -- The same bytes for the same reason are one letter, counted.
    fingerprint text COLLATE "C" NOT NULL UNIQUE,
    intake text COLLATE "C" NOT NULL,
    routing_key text COLLATE "C" NOT NULL,
    headers text NOT NULL,
    body bytea NOT NULL,
    reason text COLLATE "C" NOT NULL,
    message text NOT NULL,
    first_seen bigint NOT NULL,
    last_seen bigint NOT NULL,
    count bigint NOT NULL
);
CREATE INDEX dead_letter_by_age ON dead_letter (last_seen);

CREATE TABLE run (
    id text COLLATE "C" PRIMARY KEY,
    schedule_id text COLLATE "C" NOT NULL,
    schedule text COLLATE "C" NOT NULL,
    schedule_revision bigint NOT NULL,
    organization text COLLATE "C" NOT NULL,
    cause text COLLATE "C" NOT NULL,
    scheduled_for bigint NOT NULL,
    created_at bigint NOT NULL,
    finished_at bigint,
    target text COLLATE "C",
    state text COLLATE "C" NOT NULL,
    -- Where the expansion is; null when there is nothing left to find.
    position text COLLATE "C",
    -- What set it off: event, trigger and previous state, as JSON.
    occasion text NOT NULL,
    total bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    refused text NOT NULL
);
CREATE INDEX run_expanding ON run (id) WHERE position IS NOT NULL;
CREATE UNIQUE INDEX run_once ON run (schedule_id, organization, scheduled_for)
    WHERE cause IN ('on_time', 'catch_up');

CREATE TABLE task (
    id text COLLATE "C" PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL,
    organization text COLLATE "C" NOT NULL,
    plugin_id text COLLATE "C" NOT NULL,
    worker_type text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    class bigint NOT NULL,
    priority bigint NOT NULL,
    cause text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    scheduled_for bigint NOT NULL,
    not_before bigint,
    finished_at bigint,
    attempt bigint NOT NULL,
    -- Attempts that failed, fell silent or overran.
    spent bigint NOT NULL,
    reason text COLLATE "C",
    inputs text NOT NULL,
    parameters text NOT NULL
);
-- What waits, in the order of its urgency, and what is under way; what has ended is not in it.
CREATE INDEX task_open ON task (queue, state, class, priority, id)
    WHERE state IN ('queued', 'dispatched', 'running');
CREATE INDEX task_of_run ON task (run_id);

-- The inputs of tasks that have not ended: one open task for each unique key.
CREATE TABLE open_input (
    organization text COLLATE "C" NOT NULL,
    primary_key text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    plugin_id text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization, primary_key, unique_key)
);
CREATE INDEX open_input_of_task ON open_input (task_id);

-- When the last executed task of a unique key ended: where grace counts from.
CREATE TABLE last_end (
    organization text COLLATE "C" NOT NULL,
    primary_key text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C" NOT NULL,
    ended_at bigint NOT NULL,
    digest text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization, primary_key, unique_key)
);

-- What a worker asked never to be given again.
CREATE TABLE suppressed (
    organization text COLLATE "C" NOT NULL,
    primary_key text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C" NOT NULL,
    until bigint,
    reason text NOT NULL,
    PRIMARY KEY (organization, primary_key, unique_key)
);

-- Offers of a task. A row is inserted with the claim, marked published once and closed once.
CREATE TABLE attempt (
    task_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    worker text COLLATE "C",
    offered_at bigint NOT NULL,
    -- Until then the replica that claimed it may publish it; null once it is published.
    claimed_until bigint,
    published_at bigint,
    -- Nobody who has not accepted it by then has it; null once somebody did, or it ended.
    expires_at bigint,
    accepted_at bigint,
    ended_at bigint,
    outcome text COLLATE "C",
    message text,
    exit_code bigint,
    log_ref text,
    log_tail text,
    outputs text,
    PRIMARY KEY (task_id, number)
);
CREATE INDEX attempt_expiring ON attempt (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX attempt_unpublished ON attempt (claimed_until) WHERE claimed_until IS NOT NULL;

-- Results that came after their attempt had been closed: kept, and deciding nothing.
CREATE TABLE late_result (
    id text COLLATE "C" PRIMARY KEY,
    task_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    worker text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    received_at bigint NOT NULL,
    body text NOT NULL
);
CREATE INDEX late_result_of_task ON late_result (task_id);

-- Replicas, for operators to see; no decision depends on it.
CREATE TABLE replica (
    id text COLLATE "C" PRIMARY KEY,
    started_at bigint NOT NULL,
    beat_at bigint NOT NULL,
    beats text NOT NULL
);
