-- What became of every series in the batch that serves: nothing disappears silently.
CREATE VIEW bts.series_status AS
SELECT l.station_id,
       l.parameter_id,
       s.name AS station,
       p.name AS parameter,
       l.status,
       l.source,
       l.reason,
       l.last_observed_at,
       l.history_steps,
       l.context_steps,
       l.components,
       l.batch_id,
       coalesce(l.model_version_id, b.model_version_id) AS model_version_id
FROM bts.forecast_ledger AS l
JOIN bts.batch AS b USING (batch_id)
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
WHERE l.batch_id = (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1);
COMMENT ON VIEW bts.series_status IS
    'one row per series of the latest batch: forecast, fallback or excluded, why, and how much history it had (steps)';
