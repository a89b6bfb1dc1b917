-- Runs whole: pending ones, what they hold and wait for, gaps of the clock, requests; pauses; the clock of every task.

ALTER TABLE run ADD COLUMN started_at INTEGER;
ALTER TABLE run ADD COLUMN reason TEXT;
-- The run that is in the way of this one, or that took its place.
ALTER TABLE run ADD COLUMN blocked_by TEXT;
-- What no two runs hold at once, and the one place behind each of them.
ALTER TABLE run ADD COLUMN holds TEXT;
ALTER TABLE run ADD COLUMN awaits TEXT;
-- Runs of one line go one after another, by their nominal time.
ALTER TABLE run ADD COLUMN line TEXT;
-- Set while a run is pending: it waits no longer than this.
ALTER TABLE run ADD COLUMN expires_at INTEGER;
-- Of a row that stands for many instants.
ALTER TABLE run ADD COLUMN gap_from INTEGER;
ALTER TABLE run ADD COLUMN gap_until INTEGER;
ALTER TABLE run ADD COLUMN gap_count INTEGER;
ALTER TABLE run ADD COLUMN request_id TEXT;
-- What a person asked for beside the schedule: objects and parameters, as JSON.
ALTER TABLE run ADD COLUMN request TEXT;
-- Of the failed ones, those whose time was over.
ALTER TABLE run ADD COLUMN overran INTEGER NOT NULL DEFAULT 0;
-- The run whose end set this one off, and how many runs came before it in its chain.
ALTER TABLE run ADD COLUMN parent_id TEXT;
ALTER TABLE run ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
-- Set when it has finished and those who wait for its end are not told yet.
ALTER TABLE run ADD COLUMN unannounced INTEGER;
-- It is complete only when all that was chained from it is.
ALTER TABLE run ADD COLUMN with_descendants INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN completed_at INTEGER;
UPDATE run SET started_at = created_at, completed_at = finished_at;

CREATE UNIQUE INDEX run_holds ON run (holds) WHERE holds IS NOT NULL;
CREATE UNIQUE INDEX run_awaits ON run (awaits) WHERE awaits IS NOT NULL;
CREATE INDEX run_line ON run (line, scheduled_for, id) WHERE line IS NOT NULL;
CREATE INDEX run_line_under_way ON run (line) WHERE line IS NOT NULL AND expires_at IS NULL;
CREATE INDEX run_pending ON run (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX run_of_schedule ON run (schedule_id, organization, target, id);
CREATE UNIQUE INDEX run_of_request ON run (request_id, organization) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX run_backfill ON run (schedule_id, organization, scheduled_for)
    WHERE cause = 'backfill' AND line IS NOT NULL;
CREATE INDEX run_of_parent ON run (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX run_incomplete ON run (finished_at) WHERE with_descendants = 1 AND completed_at IS NULL;
CREATE INDEX run_unannounced ON run (unannounced) WHERE unannounced IS NOT NULL;

ALTER TABLE task ADD COLUMN expires_at INTEGER;
-- A person or another run wants it to end: its worker is told, and has until then.
ALTER TABLE task ADD COLUMN cancel_by INTEGER;
ALTER TABLE task ADD COLUMN cancel_told INTEGER;
ALTER TABLE task ADD COLUMN unannounced INTEGER;
UPDATE task SET expires_at = created_at + 604800000000;
CREATE INDEX task_cancelled ON task (cancel_by) WHERE cancel_by IS NOT NULL;
CREATE INDEX task_unannounced ON task (unannounced) WHERE unannounced IS NOT NULL;

-- Schedules that do not fire until somebody resumes them.
CREATE TABLE pause (
    schedule_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    paused_at INTEGER NOT NULL
) STRICT;

-- Commands that were answered: the same id gets the same answer.
CREATE TABLE request (
    organization TEXT NOT NULL,
    id TEXT NOT NULL,
    command TEXT NOT NULL,
    answer TEXT NOT NULL,
    answered_at INTEGER NOT NULL,
    PRIMARY KEY (organization, id)
) STRICT;
CREATE INDEX request_by_age ON request (answered_at);
