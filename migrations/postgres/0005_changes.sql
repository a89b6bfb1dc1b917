-- Which declarations each revision of the catalogue changed, for whoever knows an earlier one. A pause is told of
-- too, by the id of its schedule. Old ones go.

CREATE TABLE declared_change (
    revision bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    organization text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (revision, kind, organization, name)
);
