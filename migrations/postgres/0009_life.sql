-- What is told of the life of runs, tasks and schedules: written with the state that it tells of, gone once the broker has
-- confirmed it. What is told of one of them goes in the order of this key.

CREATE TABLE life (
    about text COLLATE "C" NOT NULL,
    -- The attempt of a task, the revision of a schedule.
    number bigint NOT NULL,
    phase bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    organization text COLLATE "C" NOT NULL,
    told_at bigint NOT NULL,
    state text COLLATE "C",
    reason text,
    worker text COLLATE "C",
    -- What is told besides, as JSON, of what has no row of its own.
    detail text,
    PRIMARY KEY (about, number, phase)
);
