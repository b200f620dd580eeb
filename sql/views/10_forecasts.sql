-- The three ways to read forecasts: the latest, as a reader saw them at an instant, and of a given origin.
-- All have the same columns. The batch is found by a scalar subquery, so that the plan reads one partition.
-- A challenger may serve some stations of a batch (canary); their rows bear its number.
CREATE VIEW bts.latest_forecast AS
    SELECT f.station_id, f.parameter_id, f.issued_at, f.target_at, f.step_ahead,
           f.q05, f.q10, f.q50, f.q90, f.q95, l.source, f.batch_id,
           coalesce(l.model_version_id, b.model_version_id) AS model_version_id
    FROM bts.forecast AS f
    JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
    JOIN bts.batch AS b USING (batch_id)
    WHERE f.batch_id =
        (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1);
COMMENT ON VIEW bts.latest_forecast IS
    'the forecasts that serve: one row per series and step ahead; times UTC, quantiles in the unit of the parameter';

CREATE FUNCTION bts.forecast_as_of(seen_at timestamptz)
RETURNS TABLE (station_id bigint, parameter_id integer, issued_at timestamptz, target_at timestamptz,
               step_ahead smallint, q05 double precision, q10 double precision, q50 double precision,
               q90 double precision, q95 double precision, source text, batch_id bigint, model_version_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT f.station_id, f.parameter_id, f.issued_at, f.target_at, f.step_ahead,
           f.q05, f.q10, f.q50, f.q90, f.q95, l.source, f.batch_id, coalesce(l.model_version_id, b.model_version_id)
    FROM bts.forecast AS f
    JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
    JOIN bts.batch AS b USING (batch_id)
    WHERE f.batch_id =
        (SELECT p.batch_id FROM bts.publication AS p WHERE p.serves_latest AND p.published_at <= seen_at
         ORDER BY p.publication_seq DESC LIMIT 1)
$$;
COMMENT ON FUNCTION bts.forecast_as_of IS 'what bts.latest_forecast showed at an instant';

CREATE FUNCTION bts.forecast_at_origin(origin timestamptz)
RETURNS TABLE (station_id bigint, parameter_id integer, issued_at timestamptz, target_at timestamptz,
               step_ahead smallint, q05 double precision, q10 double precision, q50 double precision,
               q90 double precision, q95 double precision, source text, batch_id bigint, model_version_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT f.station_id, f.parameter_id, f.issued_at, f.target_at, f.step_ahead,
           f.q05, f.q10, f.q50, f.q90, f.q95, l.source, f.batch_id, coalesce(l.model_version_id, b.model_version_id)
    FROM bts.forecast AS f
    JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
    JOIN bts.batch AS b USING (batch_id)
    WHERE f.batch_id =
        (SELECT p.batch_id FROM bts.publication AS p JOIN bts.batch AS o USING (batch_id)
         WHERE o.issued_at = origin ORDER BY p.publication_seq DESC LIMIT 1)
$$;
COMMENT ON FUNCTION bts.forecast_at_origin IS 'the last batch published for an origin, whether it serves or not';
