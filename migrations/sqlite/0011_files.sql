-- Files that can be joined: those that are there, whose plugin ended well, and that say of what they were made.
-- Those that are there already are found by the program that takes this step.

CREATE TABLE file (
    organization TEXT NOT NULL,
    primary_key TEXT NOT NULL,
    made_of TEXT NOT NULL,
    made_by TEXT NOT NULL,
    -- The newest is the one with the largest of these, in this order; then the one with the largest key.
    ended_at INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (organization, primary_key)
) STRICT;
CREATE INDEX file_newest ON file (organization, made_of, made_by, ended_at, number, primary_key);
