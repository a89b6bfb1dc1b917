-- Events as they came, for whoever asks later what was made of them and what would be.

CREATE TABLE event (
    -- Begins with the instant at which it was handled.
    id text COLLATE "C" PRIMARY KEY,
    -- Its own id and source, where it has them.
    event_id text COLLATE "C",
    source text COLLATE "C" NOT NULL,
    organization text COLLATE "C" NOT NULL,
    handled_at bigint NOT NULL,
    intake text COLLATE "C" NOT NULL,
    -- What came beside the body, as JSON.
    message text NOT NULL,
    body text NOT NULL,
    -- What it did to its object; empty where it left it as it was.
    operations text COLLATE "C" NOT NULL
);
CREATE INDEX event_by_id ON event (event_id, source) WHERE event_id IS NOT NULL;
