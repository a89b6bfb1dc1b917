-- Runs that look for their inputs take turns: whoever works on one says so for a while, and the one that waited longest
-- for its turn is next in its organisation.

ALTER TABLE run ADD COLUMN claimed_until bigint;
ALTER TABLE run ADD COLUMN turn_at bigint;
-- Inputs that were found and wait for their batch to be full, by plugin, as JSON; their keys alone.
ALTER TABLE run ADD COLUMN carried text;
DROP INDEX run_expanding;
CREATE INDEX run_expanding ON run (organization, (coalesce(turn_at, created_at)), id) WHERE position IS NOT NULL;
