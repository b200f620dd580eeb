-- From a forecast row to everything that made it: join on (batch_id, station_id, parameter_id).
-- The files are those with readings in the span, as the ledger stood then: entries that came later, or that had been
-- superseded by then, do not count. names[i] is what digests[i] was called, the first in order where it had several names.
CREATE FUNCTION bts.landing_files_known(
    span_start timestamptz, span_end timestamptz, known_seq bigint, OUT digests text[], OUT names text[])
-- What it costs to look through the files, so that no plan does it once per forecast.
LANGUAGE sql STABLE COST 100000 AS $$
    SELECT coalesce(array_agg(digest ORDER BY digest), '{}'), coalesce(array_agg(name ORDER BY digest), '{}')
    FROM (
        -- Bytes are compared, whatever the collation of the database: it is several times faster.
        SELECT digest::text COLLATE "C" AS digest, min(path COLLATE "C") AS name
        FROM bts.landing_file
        -- A file may hold readings of both sides of the span and none within; the days are what the index knows.
        WHERE days && (SELECT array_agg(at::date) FROM generate_series(
                  date_trunc('day', span_start, 'UTC') AT TIME ZONE 'UTC',
                  span_end AT TIME ZONE 'UTC' - interval '1 microsecond', interval '1 day') AS at)
          AND status <> 'refused' AND first_reading_at < span_end AND last_reading_at >= span_start
          AND ledger_seq <= known_seq AND (superseded_by IS NULL OR superseded_by > known_seq)
        GROUP BY 1
    ) AS known
$$;
COMMENT ON FUNCTION bts.landing_files_known IS
    'digests and names of the landing files that were the input of a span, given the ledger up to an entry';

CREATE FUNCTION bts.files_known(span_start timestamptz, span_end timestamptz, known_seq bigint)
RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT digests FROM bts.landing_files_known(span_start, span_end, known_seq) $$;
COMMENT ON FUNCTION bts.files_known IS 'digests of the landing files that were the input of a span, given the ledger up to an entry';

CREATE VIEW bts.forecast_lineage AS
SELECT l.batch_id, l.station_id, l.parameter_id,
       b.issued_at,
       (SELECT min(p.published_at) FROM bts.publication AS p WHERE p.batch_id = b.batch_id) AS published_at,
       b.kind, l.status, l.source, l.reason, l.components,
       m.model_version_id, m.mlflow_run_id, m.mlflow_model_uri, m.registry_version, m.bundle_digest::text,
       m.training_start, m.training_end, m.training_ledger_seq,
       (f.training).digests AS training_files,
       b.input_start, b.input_ledger_seq,
       (f.input).digests AS input_files,
       b.observations_digest::text, b.forecasts_digest::text,
       m.observations_digest::text AS training_observations_digest,
       b.catalogue_digest::text,
       b.code_version, m.code_version AS training_code_version,
       b.dagster_run_id, m.dagster_run_id AS training_dagster_run_id,
       m.seed, m.packages, m.machine,
       b.settings, m.settings AS training_settings,
       m.training_end > b.issued_at AS trained_past_origin,
       m.catalogue_digest::text AS training_catalogue_digest,
       (f.training).names AS training_file_names,
       (f.input).names AS input_file_names,
       -- 0.1.0+g<commit>, and .dirty where tracked files differed from that commit; null: it did not run from a checkout.
       substring(b.code_version FROM '\+g([0-9a-f]+)') AS code_commit,
       CASE WHEN b.code_version LIKE '%+g%' THEN b.code_version LIKE '%.dirty' END AS code_dirty,
       substring(m.code_version FROM '\+g([0-9a-f]+)') AS training_code_commit,
       CASE WHEN m.code_version LIKE '%+g%' THEN m.code_version LIKE '%.dirty' END AS training_code_dirty,
       l.model_version_id IS NOT NULL AS canary,
       b.pruned_at,
       b.recalibration_digest::text,
       -- Of each quarter of the horizon, four: of q05, q10, q90 and q95. Null where nothing was applied: no night before
       -- had come true, or no pool of candidates forecast the series.
       CASE WHEN l.components IS NOT NULL THEN r.factors END AS recalibration_factors,
       CASE WHEN l.components IS NOT NULL THEN r.nights END AS recalibration_nights,
       m.mlflow_experiment_id
FROM bts.forecast_ledger AS l
JOIN bts.batch AS b USING (batch_id)
-- The batch's version, or the challenger that served this series (canary).
JOIN bts.model_version AS m ON m.model_version_id = coalesce(l.model_version_id, b.model_version_id)
LEFT JOIN bts.recalibration AS r
    ON r.batch_id = l.batch_id AND r.station_id = l.station_id AND r.parameter_id = l.parameter_id
-- OFFSET 0 keeps the two calls together, so that they are made once per batch and remembered, not once per series; where
-- their columns are not asked for, they are not made at all.
CROSS JOIN LATERAL (
    SELECT bts.landing_files_known(m.training_start, m.training_end, m.training_ledger_seq) AS training,
           bts.landing_files_known(b.input_start, b.issued_at, b.input_ledger_seq) AS input
    OFFSET 0
) AS f;
COMMENT ON VIEW bts.forecast_lineage IS 'one row per series and batch: origin, model version, MLflow and Dagster runs, files, code';
