-- How good were the forecasts of the last two weeks? Per parameter, over the first day of every batch, where the
-- observation is there by now: the mean absolute error, the mean error (positive: it came higher than forecast), both in
-- `unit`, and how often the truth lay within the intervals, which should be near 80 and 90 per cent. Batches that did not
-- serve and those that are not live are left out. No rows: nothing has matured yet.
SELECT p.name AS parameter, p.unit,
       count(DISTINCT f.batch_id) AS batches, count(DISTINCT o.station_id) AS stations, count(*) AS steps,
       round(avg(abs(o.value - f.q50))::numeric, 3) AS mean_absolute_error,
       round(avg(o.value - f.q50)::numeric, 3) AS mean_error,
       round(100 * avg((o.value BETWEEN f.q10 AND f.q90)::int), 1) AS within_80_percent,
       round(100 * avg((o.value BETWEEN f.q05 AND f.q95)::int), 1) AS within_90_percent
FROM bts.forecast AS f
JOIN bts.observation AS o
  ON o.station_id = f.station_id AND o.parameter_id = f.parameter_id AND o.observed_at = f.target_at
JOIN bts.parameter AS p ON p.parameter_id = f.parameter_id
WHERE f.batch_id = ANY (ARRAY(
          SELECT b.batch_id FROM bts.batch AS b JOIN bts.publication AS s USING (batch_id)
          WHERE s.serves_latest AND b.kind = 'live' AND b.issued_at > now() - interval '14 days'))
  AND f.target_at < f.issued_at + interval '24 hours'
GROUP BY p.parameter_id, p.name, p.unit
ORDER BY p.parameter_id;
