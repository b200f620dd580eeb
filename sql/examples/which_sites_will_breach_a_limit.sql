-- Which forecasts go beyond a limit, and when? One row per series and limit, the most urgent first.
-- `median`: the point forecast (q50) is beyond the limit; `interval`: only the 80 % interval is (q90 above the high limit,
-- q10 below the low one). How likely a breach is within 6, 24 and 48 h, bts.predicted_breach says: it takes all steps
-- together, and the past days on which the limit was passed. A limit in bts.station_limit overrides the parameter's.
-- What is past is left out, except for a batch that was made of the past.
WITH limits AS (
    SELECT f.*, p.name AS parameter, p.unit,
           coalesce(l.low_limit, p.low_limit) AS low_limit, coalesce(l.high_limit, p.high_limit) AS high_limit
    FROM bts.latest_forecast AS f
    JOIN bts.parameter AS p USING (parameter_id)
    LEFT JOIN bts.station_limit AS l USING (station_id, parameter_id)
    CROSS JOIN bts.latest_batch AS b
    WHERE b.state IN ('retrospective', 'in_sample') OR f.target_at >= now()
), beyond AS (
    SELECT *, 'above' AS side, high_limit AS the_limit, q50 > high_limit AS by_median, q90 AS extreme
    FROM limits WHERE q90 > high_limit
    UNION ALL
    SELECT *, 'below', low_limit, q50 < low_limit, q10
    FROM limits WHERE q10 < low_limit
)
SELECT s.region, station_id, s.name AS station, parameter, side, the_limit, unit,
       CASE WHEN bool_or(by_median) THEN 'median' ELSE 'interval' END AS beyond,
       min(target_at) FILTER (WHERE by_median) AS median_from,
       min(target_at) AS interval_from,
       count(*) AS steps,
       round((CASE side WHEN 'above' THEN max(extreme) ELSE min(extreme) END)::numeric, 2) AS worst
FROM beyond
LEFT JOIN bts.station AS s USING (station_id)
GROUP BY s.region, station_id, s.name, parameter, side, the_limit, unit
ORDER BY median_from NULLS LAST, interval_from, station_id, parameter;
