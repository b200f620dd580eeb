-- The roles of a database of ours, and who owns what in it: for the embedded server and for docker-compose.yml alike.
-- Run by a superuser in the database; repeating it is harmless. Passwords are not set here.
-- bts_owner migrates schema bts; bts_writer is what nights are; bts_reader reads the public face; dagster and mlflow
-- have a schema each. What bts_writer and bts_reader may do in schema bts is granted by sql/views/90_grants.sql.
DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['bts_owner', 'bts_writer', 'bts_reader', 'dagster', 'mlflow'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
        -- None is a superuser: none reaches files or programs of the server.
        EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', wanted);
        EXECUTE format('ALTER ROLE %I SET timezone = ''UTC''', wanted);
    END LOOP;
END
$$;

-- Together fewer than max_connections of the embedded server: no role can shut the others out.
ALTER ROLE bts_owner CONNECTION LIMIT 10;
ALTER ROLE bts_writer CONNECTION LIMIT 40;
ALTER ROLE bts_reader CONNECTION LIMIT 30;
ALTER ROLE dagster CONNECTION LIMIT 40;
ALTER ROLE mlflow CONNECTION LIMIT 25;
ALTER ROLE bts_owner SET statement_timeout = '1h';
ALTER ROLE bts_writer SET statement_timeout = '1h';
ALTER ROLE dagster SET statement_timeout = '10min';
ALTER ROLE mlflow SET statement_timeout = '10min';
-- A sort without end does not fill the disk; only a superuser can change this one.
ALTER ROLE bts_reader SET temp_file_limit = '2GB';
-- It is the grants that keep readers from writing: the settings below can be set anew by any session. They keep an
-- endless query or a forgotten transaction from hurting the nightly job.
ALTER ROLE bts_reader SET default_transaction_read_only = on;
ALTER ROLE bts_reader SET statement_timeout = '30s';
ALTER ROLE bts_reader SET idle_in_transaction_session_timeout = '60s';

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM bts_writer, bts_reader, dagster, mlflow', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO bts_owner, bts_writer, bts_reader, dagster, mlflow', current_database());
    EXECUTE format('GRANT CREATE ON DATABASE %I TO bts_owner', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO bts_owner, bts_writer', current_database());
    -- Where they look and make things whoever connects: a connection pool drops what a URL asks for its session.
    EXECUTE format('ALTER ROLE dagster IN DATABASE %I SET search_path = dagster', current_database());
    EXECUTE format('ALTER ROLE mlflow IN DATABASE %I SET search_path = mlflow', current_database());
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- One schema each: Dagster's and MLflow's own tables would collide in one.
CREATE SCHEMA IF NOT EXISTS bts;
CREATE SCHEMA IF NOT EXISTS dagster;
CREATE SCHEMA IF NOT EXISTS mlflow;
ALTER SCHEMA bts OWNER TO bts_owner;
ALTER SCHEMA dagster OWNER TO dagster;
ALTER SCHEMA mlflow OWNER TO mlflow;

-- What an earlier version made as another role finds its owner.
DO $$
DECLARE
    thing record;
BEGIN
    FOR thing IN
        SELECT c.oid::regclass AS name, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind,
               CASE n.nspname WHEN 'bts' THEN 'bts_owner' ELSE n.nspname END AS owner
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('bts', 'dagster', 'mlflow') AND c.relkind IN ('r', 'p', 'v', 'S')
          -- A sequence of a column goes with its table.
          AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('a', 'i')
                          AND c.relkind = 'S')
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO %I', thing.kind, thing.name, thing.owner);
    END LOOP;
    FOR thing IN
        SELECT p.oid::regprocedure AS name, CASE n.nspname WHEN 'bts' THEN 'bts_owner' ELSE n.nspname END AS owner
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('bts', 'dagster', 'mlflow')
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO %I', thing.name, thing.owner);
    END LOOP;
    FOR thing IN
        SELECT format_type(t.oid, NULL) AS name, CASE n.nspname WHEN 'bts' THEN 'bts_owner' ELSE n.nspname END AS owner
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE n.nspname IN ('bts', 'dagster', 'mlflow') AND t.typtype IN ('e', 'd')
    LOOP
        EXECUTE format('ALTER TYPE %s OWNER TO %I', thing.name, thing.owner);
    END LOOP;
END
$$;
