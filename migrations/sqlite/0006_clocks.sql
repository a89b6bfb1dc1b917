-- What the life of a task needs: declines in a row, who is avoided, the clocks and the progress of its attempts.

ALTER TABLE task ADD COLUMN declines INTEGER NOT NULL DEFAULT 0;
-- Workers that are not to have it, each with until when, as JSON.
ALTER TABLE task ADD COLUMN avoid TEXT;
-- Rises with every step: what was read must still be there when the next one is written.
ALTER TABLE task ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN run_until INTEGER;
ALTER TABLE attempt ADD COLUMN beat_at INTEGER;
ALTER TABLE attempt ADD COLUMN done INTEGER;
ALTER TABLE attempt ADD COLUMN total INTEGER;
ALTER TABLE attempt ADD COLUMN stage TEXT;
ALTER TABLE attempt ADD COLUMN note TEXT;

-- Workers, and when they last accepted something.
CREATE TABLE heard (
    worker_type TEXT NOT NULL,
    worker TEXT NOT NULL,
    heard_at INTEGER NOT NULL,
    PRIMARY KEY (worker_type, worker)
) STRICT;
