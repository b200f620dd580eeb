-- The roles and the schemas of this database, with their passwords. Run by the postgres image when its volume is new; by
-- hand, as a superuser, on a server of yours, to change a password, or after an upgrade that says so:
--     BTS_OWNER_PASSWORD=... BTS_POSTGRES_PASSWORD=... BTS_READER_PASSWORD=... BTS_DAGSTER_PASSWORD=... \
--     BTS_MLFLOW_PASSWORD=... psql -d bts -f deploy/postgres/10_roles_and_schemas.sql
-- psql must be of version 15 or newer, whatever the server is.
-- What the roles are is in sql/roles.sql, the same for the server that comes along; what bts_writer and bts_reader may do
-- in schema bts is granted by sql/views/90_grants.sql, whenever the schema is migrated.
\set ON_ERROR_STOP on
\getenv owner_password BTS_OWNER_PASSWORD
\getenv writer_password BTS_POSTGRES_PASSWORD
\getenv reader_password BTS_READER_PASSWORD
\getenv dagster_password BTS_DAGSTER_PASSWORD
\getenv mlflow_password BTS_MLFLOW_PASSWORD

\ir ../../sql/roles.sql

ALTER ROLE bts_owner PASSWORD :'owner_password';
ALTER ROLE bts_writer PASSWORD :'writer_password';
ALTER ROLE bts_reader PASSWORD :'reader_password';
ALTER ROLE dagster PASSWORD :'dagster_password';
ALTER ROLE mlflow PASSWORD :'mlflow_password';

-- The code location has one password: it becomes `dagster` to record its runs, and `mlflow` where no MLflow server is set,
-- and has none of their rights until then. Before Postgres 16 that is an attribute of the role.
SELECT :SERVER_VERSION_NUM >= 160000 AS grants_say_so \gset
\if :grants_say_so
GRANT dagster, mlflow TO bts_writer WITH INHERIT FALSE, SET TRUE;
\else
ALTER ROLE bts_writer NOINHERIT;
GRANT dagster, mlflow TO bts_writer;
\endif
