-- Every batch that is kept, whether it serves or not: one row per series and step ahead. What is stored is one row per
-- series, with the quantiles as arrays by step; a query computes only the columns that it asks for.
-- A challenger may serve some stations of a batch (canary); their rows bear its number.
CREATE VIEW bts.forecast AS
    SELECT s.batch_id, s.station_id, s.parameter_id,
           step::smallint AS step_ahead,
           b.issued_at,
           b.issued_at + (step - 1) * make_interval(secs => b.step_seconds) AS target_at,
           s.q05[step] AS q05, s.q10[step] AS q10, s.q50[step] AS q50, s.q90[step] AS q90, s.q95[step] AS q95,
           l.source,
           coalesce(l.model_version_id, b.model_version_id) AS model_version_id
    FROM bts.forecast_series AS s
    JOIN bts.batch AS b USING (batch_id)
    -- Every series has its row in the ledger; as an outer join it is not read where nothing of it is asked for.
    LEFT JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
    CROSS JOIN LATERAL generate_series(1, cardinality(s.q50)) AS step;
COMMENT ON VIEW bts.forecast IS
    'all forecasts that are kept, by batch: one row per series and step ahead; times UTC, quantiles in the unit of the parameter';

-- The three ways to read one batch of them: the latest, as a reader saw them at an instant, and of a given origin. All
-- have the same columns. The batch is found by a scalar subquery, so that its key is looked up.
CREATE VIEW bts.latest_forecast AS
    SELECT station_id, parameter_id, issued_at, target_at, step_ahead, q05, q10, q50, q90, q95, source, batch_id,
           model_version_id
    FROM bts.forecast
    WHERE batch_id =
        (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1);
COMMENT ON VIEW bts.latest_forecast IS
    'the forecasts that serve: one row per series and step ahead; times UTC, quantiles in the unit of the parameter';

CREATE FUNCTION bts.forecast_as_of(seen_at timestamptz)
RETURNS TABLE (station_id bigint, parameter_id integer, issued_at timestamptz, target_at timestamptz,
               step_ahead smallint, q05 double precision, q10 double precision, q50 double precision,
               q90 double precision, q95 double precision, source text, batch_id bigint, model_version_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT f.station_id, f.parameter_id, f.issued_at, f.target_at, f.step_ahead, f.q05, f.q10, f.q50, f.q90, f.q95,
           f.source, f.batch_id, f.model_version_id
    FROM bts.forecast AS f
    WHERE f.batch_id =
        (SELECT p.batch_id FROM bts.publication AS p WHERE p.serves_latest AND p.published_at <= seen_at
         ORDER BY p.publication_seq DESC LIMIT 1)
$$;
COMMENT ON FUNCTION bts.forecast_as_of IS 'what bts.latest_forecast showed at an instant; nothing, if that batch was pruned';

CREATE FUNCTION bts.forecast_at_origin(origin timestamptz)
RETURNS TABLE (station_id bigint, parameter_id integer, issued_at timestamptz, target_at timestamptz,
               step_ahead smallint, q05 double precision, q10 double precision, q50 double precision,
               q90 double precision, q95 double precision, source text, batch_id bigint, model_version_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT f.station_id, f.parameter_id, f.issued_at, f.target_at, f.step_ahead, f.q05, f.q10, f.q50, f.q90, f.q95,
           f.source, f.batch_id, f.model_version_id
    FROM bts.forecast AS f
    WHERE f.batch_id =
        (SELECT p.batch_id FROM bts.publication AS p JOIN bts.batch AS o USING (batch_id)
         WHERE o.issued_at = origin ORDER BY p.publication_seq DESC LIMIT 1)
$$;
COMMENT ON FUNCTION bts.forecast_at_origin IS 'the last batch published for an origin, whether it serves or not';
