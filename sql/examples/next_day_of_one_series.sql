-- What will one series do in the next day, and how sure is that?
-- q50 is the point forecast; the truth is expected between q10 and q90 in eight cases of ten, between q05 and q95 in
-- nine. Times are UTC and name the start of the interval. For a series of yours write its two numbers in `wanted`.
WITH wanted AS (
    SELECT station_id, parameter_id FROM bts.series_status
    WHERE status <> 'excluded' ORDER BY station_id, parameter_id LIMIT 1
)
SELECT s.name AS station, p.name AS parameter, p.unit, f.target_at,
       round(f.q05::numeric, 2) AS q05, round(f.q10::numeric, 2) AS q10, round(f.q50::numeric, 2) AS q50,
       round(f.q90::numeric, 2) AS q90, round(f.q95::numeric, 2) AS q95, f.source
FROM bts.latest_forecast AS f
JOIN wanted USING (station_id, parameter_id)
JOIN bts.station AS s USING (station_id)
JOIN bts.parameter AS p USING (parameter_id)
WHERE f.target_at < f.issued_at + interval '24 hours'
ORDER BY f.target_at;
