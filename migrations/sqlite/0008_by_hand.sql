-- What people do to tasks by hand.

-- Who ended or moved a task, and why.
CREATE TABLE by_hand (
    id TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    verb TEXT NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    done_at INTEGER NOT NULL
) STRICT;
CREATE INDEX by_hand_of_task ON by_hand (task_id);

-- Tasks that ended without success and were made anew, once each: the run that did it. None where one was dropped.
CREATE TABLE redrive (
    task_id TEXT PRIMARY KEY,
    run_id TEXT,
    who TEXT NOT NULL,
    done_at INTEGER NOT NULL
) STRICT;
CREATE INDEX redrive_by_run ON redrive (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX task_dead ON task (id) WHERE state = 'dead';
