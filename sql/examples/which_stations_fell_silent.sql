-- Which stations fell silent? Those whose newest observation is more than two hours older than the origin of the latest
-- batch: the site, its link or its meter may be down, and its forecasts rest on old data.
SELECT station_id, s.name AS station, s.region,
       max(q.last_observed_at) AS last_observed_at,
       date_trunc('minute', b.issued_at - max(q.last_observed_at)) AS silent_for,
       count(*) AS series
FROM bts.series_status AS q
LEFT JOIN bts.station AS s USING (station_id)
CROSS JOIN bts.latest_batch AS b
GROUP BY station_id, s.name, s.region, b.issued_at
HAVING coalesce(max(q.last_observed_at), '-infinity') < b.issued_at - interval '2 hours'
ORDER BY last_observed_at NULLS FIRST, station_id;
