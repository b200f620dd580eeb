-- Readers get the public face and nothing else. The role is made by whoever runs the server (docker-compose.yml does).
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT USAGE ON SCHEMA bts TO bts_reader;
        GRANT SELECT ON bts.interface, bts.latest_batch, bts.latest_forecast, bts.series_status, bts.forecast_lineage,
            bts.ingest_ledger, bts.rejected_reading, bts.station, bts.parameter, bts.station_limit, bts.observation
            TO bts_reader;
        -- The functions, and those that views call, read these with the rights of whoever calls them.
        GRANT SELECT ON bts.forecast, bts.forecast_ledger, bts.batch, bts.publication, bts.landing_file TO bts_reader;
    END IF;
END
$$;
