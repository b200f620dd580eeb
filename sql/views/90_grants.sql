-- What nights and readers may do. The roles are those of sql/roles.sql; where there are none, as on a server of yours
-- with one role for everything, nothing is granted.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT USAGE ON SCHEMA bts TO bts_reader;
        GRANT SELECT ON bts.interface, bts.latest_batch, bts.latest_forecast, bts.series_status, bts.forecast_lineage,
            bts.ingest_ledger, bts.rejected_reading, bts.station, bts.parameter, bts.station_limit, bts.observation,
            bts.data_profile, bts.dataset, bts.model_decision, bts.version_status, bts.probation_score
            TO bts_reader;
        -- The functions, and those that views call, read these with the rights of whoever calls them.
        GRANT SELECT ON bts.forecast, bts.forecast_ledger, bts.batch, bts.publication, bts.landing_file TO bts_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_writer') THEN
        GRANT USAGE ON SCHEMA bts TO bts_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bts TO bts_writer;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA bts TO bts_writer;
        REVOKE INSERT, UPDATE, DELETE ON bts.alembic_version FROM bts_writer;
        REVOKE INSERT, DELETE ON bts.lock FROM bts_writer;
        -- Logs that only grow.
        REVOKE UPDATE, DELETE ON bts.decision, bts.champion FROM bts_writer;
        -- Pruning gives room back; before Postgres 17 that is left to autovacuum.
        IF current_setting('server_version_num')::int >= 170000 THEN
            EXECUTE 'GRANT MAINTAIN ON bts.forecast_series, bts.observation_block TO bts_writer';
        END IF;
    END IF;
END
$$;
