-- Runs whole: pending ones, what they hold and wait for, gaps of the clock, requests; pauses; the clock of every task.

ALTER TABLE run ADD COLUMN started_at bigint;
ALTER TABLE run ADD COLUMN reason text COLLATE "C";
-- The run that is in the way of this one, or that took its place.
ALTER TABLE run ADD COLUMN blocked_by text COLLATE "C";
-- What no two runs hold at once, and the one place behind each of them.
ALTER TABLE run ADD COLUMN holds text COLLATE "C";
ALTER TABLE run ADD COLUMN awaits text COLLATE "C";
-- Runs of one line go one after another, by their nominal time.
ALTER TABLE run ADD COLUMN line text COLLATE "C";
-- Set while a run is pending: it waits no longer than this.
ALTER TABLE run ADD COLUMN expires_at bigint;
-- Of a row that stands for many instants.
ALTER TABLE run ADD COLUMN gap_from bigint;
ALTER TABLE run ADD COLUMN gap_until bigint;
ALTER TABLE run ADD COLUMN gap_count bigint;
ALTER TABLE run ADD COLUMN request_id text COLLATE "C";
-- What a person asked for beside the schedule: objects and parameters, as JSON.
ALTER TABLE run ADD COLUMN request text;
-- Of the failed ones, those whose time was over.
ALTER TABLE run ADD COLUMN overran bigint NOT NULL DEFAULT 0;
-- The run whose end set this one off, and how many runs came before it in its chain.
ALTER TABLE run ADD COLUMN parent_id text COLLATE "C";
ALTER TABLE run ADD COLUMN depth bigint NOT NULL DEFAULT 0;
-- Set when it has finished and those who wait for its end are not told yet.
ALTER TABLE run ADD COLUMN unannounced bigint;
-- It is complete only when all that was chained from it is.
ALTER TABLE run ADD COLUMN with_descendants bigint NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN completed_at bigint;
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

ALTER TABLE task ADD COLUMN expires_at bigint;
-- A person or another run wants it to end: its worker is told, and has until then.
ALTER TABLE task ADD COLUMN cancel_by bigint;
ALTER TABLE task ADD COLUMN cancel_told bigint;
ALTER TABLE task ADD COLUMN unannounced bigint;
UPDATE task SET expires_at = created_at + 604800000000;
CREATE INDEX task_cancelled ON task (cancel_by) WHERE cancel_by IS NOT NULL;
CREATE INDEX task_unannounced ON task (unannounced) WHERE unannounced IS NOT NULL;

-- Schedules that do not fire until somebody resumes them.
CREATE TABLE pause (
    schedule_id text COLLATE "C" PRIMARY KEY,
    reason text NOT NULL,
    who text COLLATE "C" NOT NULL,
    paused_at bigint NOT NULL
);

-- Commands that were answered: the same id gets the same answer.
CREATE TABLE request (
    organization text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    command text COLLATE "C" NOT NULL,
    answer text NOT NULL,
    answered_at bigint NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX request_by_age ON request (answered_at);
