-- What waits in the order in which it goes: by class, organisation and plugin; and what limits hold back.

-- What the strategy of its queue said when the task was made; never written again.
ALTER TABLE task ADD COLUMN rank bigint NOT NULL DEFAULT 0;
UPDATE task SET rank = created_at;
DROP INDEX task_open;
-- The heads of each group. What is to wait for an instant is not among them until that has come.
CREATE INDEX task_queued ON task (queue, class, organization, plugin_id, priority, rank, id)
    WHERE state = 'queued' AND not_before IS NULL;
CREATE INDEX task_by_age ON task (queue, class, id) WHERE state = 'queued' AND not_before IS NULL;
CREATE INDEX task_delayed ON task (queue, not_before) WHERE state = 'queued' AND not_before IS NOT NULL;
CREATE INDEX task_under_way ON task (queue, state) WHERE state IN ('dispatched', 'running');

-- A queue's row is locked by whoever offers from it.
CREATE TABLE queue (
    name text COLLATE "C" PRIMARY KEY,
    -- How many went, and whose turn it is in each class, as JSON.
    dispatched bigint NOT NULL DEFAULT 0,
    turns text NOT NULL DEFAULT '{}',
    -- Set while somebody keeps it from offering.
    paused_at bigint,
    reason text,
    who text COLLATE "C"
);

-- What is limited together: a row to lock for each key, and one for each of its rates, with when its bucket is full again.
CREATE TABLE allowance (
    name text COLLATE "C" PRIMARY KEY,
    full_at bigint NOT NULL
);

-- Offers that count towards a key. Those that are no longer under way count for nothing, and go when the key is next used.
CREATE TABLE limited_offer (
    key text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    PRIMARY KEY (key, task_id)
);
