-- Which series are not served as they should be, and why? `excluded`: there is no forecast. `fallback`: there is one, by a
-- simpler forecaster than the chosen one, which could not run. Every series of the latest batch is in bts.series_status.
SELECT status, reason, station_id, station, parameter_id, parameter, source, last_observed_at,
       history_steps, context_steps
FROM bts.series_status
WHERE status <> 'forecast'
ORDER BY status, reason, station_id, parameter_id;
