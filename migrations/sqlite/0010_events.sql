-- Events as they came, for whoever asks later what was made of them and what would be.

CREATE TABLE event (
    -- Begins with the instant at which it was handled.
    id TEXT PRIMARY KEY,
    -- Its own id and source, where it has them.
    event_id TEXT,
    source TEXT NOT NULL,
    organization TEXT NOT NULL,
    handled_at INTEGER NOT NULL,
    intake TEXT NOT NULL,
    -- What came beside the body, as JSON.
    message TEXT NOT NULL,
    body TEXT NOT NULL,
    -- What it did to its object; empty where it left it as it was.
    operations TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_id ON event (event_id, source) WHERE event_id IS NOT NULL;
