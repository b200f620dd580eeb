-- How do forecasts compare with the actuals? Step by step, for the newest batches, where there are observations.
-- target_at and observed_at both name the start of the interval, so they are equal. All batches that are
-- kept rest in bts.forecast; which to read is found by number first, so that no other is.
SELECT o.station_id, o.parameter_id, f.issued_at, f.target_at, f.step_ahead,
       round(o.value::numeric, 2) AS actual,
       round(f.q50::numeric, 2) AS q50,
       round((o.value - f.q50)::numeric, 2) AS error,
       o.value BETWEEN f.q10 AND f.q90 AS within_80,
       o.value BETWEEN f.q05 AND f.q95 AS within_90
FROM bts.forecast AS f
JOIN bts.observation AS o
  ON o.station_id = f.station_id AND o.parameter_id = f.parameter_id AND o.observed_at = f.target_at
WHERE f.batch_id = ANY (ARRAY(SELECT batch_id FROM bts.publication ORDER BY publication_seq DESC LIMIT 2))
ORDER BY o.station_id, o.parameter_id, f.issued_at DESC, f.target_at
LIMIT 500;
