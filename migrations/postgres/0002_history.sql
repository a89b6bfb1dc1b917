-- Objects as they were, of the types whose history a schedule asks for.

CREATE TABLE object_version (
    organization text COLLATE "C" NOT NULL,
    primary_key text COLLATE "C" NOT NULL,
    valid_from bigint NOT NULL,
    -- Nothing while it is so.
    valid_to bigint,
    object_type text COLLATE "C" NOT NULL,
    attributes jsonb NOT NULL,
    scan_level bigint,
    scan_profile_type text COLLATE "C",
    PRIMARY KEY (organization, primary_key, valid_from)
);
CREATE INDEX object_version_by_age ON object_version (valid_to) WHERE valid_to IS NOT NULL;
