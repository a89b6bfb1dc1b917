-- What a replica may do: read and change rows, and nothing to the schema. The owner of the database runs this after each
-- `muster migrate` (psql -v ON_ERROR_STOP=1 -f hardening.sql), once somebody has made the role:
-- CREATE ROLE muster_run LOGIN PASSWORD '…';
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO muster_run;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO muster_run;
-- Which schema there is, a replica reads and does not say.
REVOKE INSERT, UPDATE, DELETE ON migration FROM muster_run;
