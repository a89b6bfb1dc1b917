-- What is told of the life of runs, tasks and schedules: written with the state that it tells of, gone once the broker has
-- confirmed it. What is told of one of them goes in the order of this key.

CREATE TABLE life (
    about TEXT NOT NULL,
    -- The attempt of a task, the revision of a schedule.
    number INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    kind TEXT NOT NULL,
    organization TEXT NOT NULL,
    told_at INTEGER NOT NULL,
    state TEXT,
    reason TEXT,
    worker TEXT,
    -- What is told besides, as JSON, of what has no row of its own.
    detail TEXT,
    PRIMARY KEY (about, number, phase)
) STRICT;
