-- Tasks that share an outcome: of one key one runs, and the others wait for it.

ALTER TABLE task ADD COLUMN deduplication_key text COLLATE "C";
-- The task that this one waits for, or whose outcome it took.
ALTER TABLE task ADD COLUMN shared_from text COLLATE "C";
-- Made because another organisation got one; none once its own has asked for it.
ALTER TABLE task ADD COLUMN on_behalf bigint;
-- One runs for each key, whoever decides at the same time.
CREATE UNIQUE INDEX task_shared ON task (deduplication_key)
    WHERE deduplication_key IS NOT NULL AND state IN ('queued', 'dispatched', 'running');
CREATE INDEX task_waiting_for ON task (shared_from) WHERE state = 'waiting';
CREATE INDEX task_waiting ON task (id) WHERE state = 'waiting';
CREATE INDEX task_waiting_of_queue ON task (queue) WHERE state = 'waiting';
