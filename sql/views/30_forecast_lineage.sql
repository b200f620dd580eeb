-- From a forecast row to everything that made it: join on (batch_id, station_id, parameter_id).
-- The digests are of the landing files with readings in the span, as the ledger stood then: entries that came later,
-- or that had been superseded by then, do not count.
CREATE FUNCTION bts.files_known(span_start timestamptz, span_end timestamptz, known_seq bigint)
RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(DISTINCT digest::text ORDER BY digest::text), '{}')
    FROM bts.landing_file
    WHERE status <> 'refused' AND first_reading_at < span_end AND last_reading_at >= span_start
      -- A file may hold readings of both sides of the span and none within.
      AND EXISTS (SELECT FROM unnest(days) AS day
                  WHERE day < span_end AT TIME ZONE 'UTC' AND day + 1 > span_start AT TIME ZONE 'UTC')
      AND ledger_seq <= known_seq AND (superseded_by IS NULL OR superseded_by > known_seq)
$$;
COMMENT ON FUNCTION bts.files_known IS 'digests of the landing files that were the input of a span, given the ledger up to an entry';

CREATE VIEW bts.forecast_lineage AS
SELECT l.batch_id, l.station_id, l.parameter_id,
       b.issued_at,
       (SELECT min(p.published_at) FROM bts.publication AS p WHERE p.batch_id = b.batch_id) AS published_at,
       b.kind, l.status, l.source, l.reason, l.components,
       m.model_version_id, m.mlflow_run_id, m.mlflow_model_uri, m.registry_version, m.bundle_digest::text,
       m.training_start, m.training_end, m.training_ledger_seq,
       f.training_files,
       b.input_start, b.input_ledger_seq,
       f.input_files,
       b.observations_digest::text, b.forecasts_digest::text,
       m.observations_digest::text AS training_observations_digest,
       b.catalogue_digest::text,
       b.code_version, m.code_version AS training_code_version,
       b.dagster_run_id, m.dagster_run_id AS training_dagster_run_id,
       m.seed, m.packages, m.machine,
       b.settings, m.settings AS training_settings,
       m.training_end > b.issued_at AS trained_past_origin,
       m.catalogue_digest::text AS training_catalogue_digest
FROM bts.forecast_ledger AS l
JOIN bts.batch AS b USING (batch_id)
JOIN bts.model_version AS m USING (model_version_id)
-- OFFSET 0 keeps the two calls together, so that they are made once per batch and remembered, not once per series.
CROSS JOIN LATERAL (
    SELECT bts.files_known(m.training_start, m.training_end, m.training_ledger_seq) AS training_files,
           bts.files_known(b.input_start, b.issued_at, b.input_ledger_seq) AS input_files
    OFFSET 0
) AS f;
COMMENT ON VIEW bts.forecast_lineage IS 'one row per series and batch: origin, model version, MLflow and Dagster runs, files, code';
