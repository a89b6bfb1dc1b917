-- What has not ended is counted without looking at the history.
CREATE INDEX run_open ON run (state, organization) WHERE finished_at IS NULL;
