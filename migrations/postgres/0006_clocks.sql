-- What the life of a task needs: declines in a row, who is avoided, the clocks and the progress of its attempts.

ALTER TABLE task ADD COLUMN declines bigint NOT NULL DEFAULT 0;
-- Workers that are not to have it, each with until when, as JSON.
ALTER TABLE task ADD COLUMN avoid text;
-- Rises with every step: what was read must still be there when the next one is written.
ALTER TABLE task ADD COLUMN step bigint NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN run_until bigint;
ALTER TABLE attempt ADD COLUMN beat_at bigint;
ALTER TABLE attempt ADD COLUMN done bigint;
ALTER TABLE attempt ADD COLUMN total bigint;
ALTER TABLE attempt ADD COLUMN stage text;
ALTER TABLE attempt ADD COLUMN note text;

-- Workers, and when they last accepted something.
CREATE TABLE heard (
    worker_type text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    heard_at bigint NOT NULL,
    PRIMARY KEY (worker_type, worker)
);
