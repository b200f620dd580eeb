-- The version of the public face: the views and functions of this folder, and the tables bts.station, bts.parameter,
-- bts.station_limit and bts.dataset. Within one major version columns are added, at the end, and never changed or removed.
CREATE VIEW bts.interface AS SELECT '1.0'::text AS version;
COMMENT ON VIEW bts.interface IS 'version of the public views; within a major version they only grow';

-- The pointer is the last publication that serves. Readers of more than one statement that must see one batch
-- throughout run them in one REPEATABLE READ transaction, or keep to a batch_id.
CREATE VIEW bts.latest_batch AS
SELECT b.batch_id,
       b.issued_at,
       p.published_at,
       CASE
           WHEN b.kind <> 'live' THEN b.kind
           -- Without a successor by BTS_READY_BY a night was missed; past its horizon nothing lies ahead any more.
           WHEN now() > least(coalesce(b.successor_due_at, b.issued_at + interval '36 hours'),
                              b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds))
               THEN 'stale'
           -- Made of old observations alone: the feed had stopped.
           WHEN newest.observed_at < b.issued_at - b.horizon_steps * make_interval(secs => b.step_seconds) THEN 'stale'
           ELSE 'current'
       END AS state,
       now() - b.issued_at AS age,
       b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds) AS forecasts_end_at,
       b.series, b.forecast, b.fallback, b.excluded,
       b.model_version_id,
       newest.observed_at AS last_observed_at
FROM bts.batch AS b
CROSS JOIN LATERAL
     (SELECT max(l.last_observed_at) AS observed_at FROM bts.forecast_ledger AS l WHERE l.batch_id = b.batch_id) AS newest
JOIN bts.publication AS p ON p.publication_seq =
     (SELECT publication_seq FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1)
    AND p.batch_id = b.batch_id;
COMMENT ON VIEW bts.latest_batch IS 'one row: the batch that serves, and whether it is current, stale, retrospective or in_sample';
