-- The two roles and the schemas of this database. Run by the postgres image when its volume is new; by hand, as a
-- superuser, on a server of yours or to change a password:
--     BTS_POSTGRES_PASSWORD=... BTS_READER_PASSWORD=... psql -d bts -f deploy/postgres/10_roles_and_schemas.sql
-- What bts_reader may read is granted by sql/views/90_grants.sql, whenever the schema is migrated.
\set ON_ERROR_STOP on
\getenv writer_password BTS_POSTGRES_PASSWORD
\getenv reader_password BTS_READER_PASSWORD

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['bts_writer', 'bts_reader']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

-- The services: owns what is theirs, and, no superuser, reaches no files or programs of the server.
ALTER ROLE bts_writer LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'writer_password';

-- Grafana and analysts. It is the grants that keep it from writing: the settings below can be set anew by any session.
-- They keep an endless query or a forgotten transaction from hurting the nightly job.
ALTER ROLE bts_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 30
    PASSWORD :'reader_password';
ALTER ROLE bts_reader SET default_transaction_read_only = on;
ALTER ROLE bts_reader SET statement_timeout = '30s';
ALTER ROLE bts_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE bts_reader SET timezone = 'UTC';
-- Only a superuser can change this one: a sort without end does not fill the disk.
ALTER ROLE bts_reader SET temp_file_limit = '2GB';

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE :"DBNAME" TO bts_writer;
GRANT CONNECT ON DATABASE :"DBNAME" TO bts_reader;

-- One schema each: Dagster's and MLflow's own tables would collide in one.
CREATE SCHEMA IF NOT EXISTS bts AUTHORIZATION bts_writer;
CREATE SCHEMA IF NOT EXISTS dagster AUTHORIZATION bts_writer;
CREATE SCHEMA IF NOT EXISTS mlflow AUTHORIZATION bts_writer;
