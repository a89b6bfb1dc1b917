-- Files that can be joined: those that are there, whose plugin ended well, and that say of what they were made.
-- Those that are there already are found by the program that takes this step.

CREATE TABLE file (
    organization text COLLATE "C" NOT NULL,
    primary_key text COLLATE "C" NOT NULL,
    made_of text COLLATE "C" NOT NULL,
    made_by text COLLATE "C" NOT NULL,
    -- The newest is the one with the largest of these, in this order; then the one with the largest key.
    ended_at bigint NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (organization, primary_key)
);
CREATE INDEX file_newest ON file (organization, made_of, made_by, ended_at, number, primary_key);
