-- Objects as they were, of the types whose history a schedule asks for.

CREATE TABLE object_version (
    organization TEXT NOT NULL,
    primary_key TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    -- Nothing while it is so.
    valid_to INTEGER,
    object_type TEXT NOT NULL,
    attributes TEXT NOT NULL,
    scan_level INTEGER,
    scan_profile_type TEXT,
    PRIMARY KEY (organization, primary_key, valid_from)
) STRICT;
CREATE INDEX object_version_by_age ON object_version (valid_to) WHERE valid_to IS NOT NULL;
