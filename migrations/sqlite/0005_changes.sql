-- Which declarations each revision of the catalogue changed, for whoever knows an earlier one. A pause is told of
-- too, by the id of its schedule. Old ones go.

CREATE TABLE declared_change (
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    organization TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (revision, kind, organization, name)
) STRICT;
