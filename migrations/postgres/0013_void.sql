-- Offers that nobody is to have any more are taken back from a stream that keeps them.

-- Where the message lies in its stream; none where there is no stream, and none any more once it was taken back.
ALTER TABLE attempt ADD COLUMN sequence bigint;
CREATE INDEX attempt_void ON attempt (sequence)
    WHERE sequence IS NOT NULL AND accepted_at IS NULL AND ended_at IS NOT NULL;
