-- What people do to tasks by hand.

-- Who ended or moved a task, and why.
CREATE TABLE by_hand (
    id text COLLATE "C" PRIMARY KEY,
    task_id text COLLATE "C" NOT NULL,
    verb text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    who text NOT NULL,
    done_at bigint NOT NULL
);
CREATE INDEX by_hand_of_task ON by_hand (task_id);

-- Tasks that ended without success and were made anew, once each: the run that did it. None where one was dropped.
CREATE TABLE redrive (
    task_id text COLLATE "C" PRIMARY KEY,
    run_id text COLLATE "C",
    who text NOT NULL,
    done_at bigint NOT NULL
);
CREATE INDEX redrive_by_run ON redrive (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX task_dead ON task (id) WHERE state = 'dead';
