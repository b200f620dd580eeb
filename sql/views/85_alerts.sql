-- What people are told of, and what keeps an alert from being told. An outage that is planned counts where the event is
-- expected, or happened, in its time; a silence counts now.
CREATE VIEW bts.alert_status AS
SELECT a.alert_id, a.kind, a.key, a.perceived_severity, s.region, a.station_id, s.name AS station, a.parameter_id,
       p.name AS parameter, a.summary, a.expected_at, a.raised_at, a.seen_at, a.cleared_at, a.acknowledged_at,
       a.acknowledgement,
       CASE WHEN a.cleared_at IS NOT NULL THEN 'cleared'
            WHEN a.acknowledged_at IS NOT NULL THEN 'acknowledged'
            WHEN quiet.reason IS NOT NULL THEN 'suppressed'
            ELSE 'open' END AS state,
       quiet.reason AS suppressed_by,
       told.told_at, told.error AS delivery_error, a.details
FROM bts.alert AS a
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
LEFT JOIN LATERAL (
    (SELECT format('planned outage %s: %s', o.outage_id, o.reason) AS reason FROM bts.planned_outage AS o
     WHERE o.station_id = a.station_id AND coalesce(a.expected_at, now()) >= o.starts_at
       AND coalesce(a.expected_at, now()) < o.ends_at
     ORDER BY o.outage_id LIMIT 1)
    UNION ALL
    (SELECT format('silence %s: %s', q.silence_id, q.reason) FROM bts.silence AS q
     WHERE q.until > now() AND coalesce(q.station_id = a.station_id, q.station_id IS NULL)
       AND coalesce(q.parameter_id = a.parameter_id, q.parameter_id IS NULL)
     ORDER BY q.silence_id LIMIT 1)
    LIMIT 1
) AS quiet ON true
LEFT JOIN LATERAL (
    SELECT min(d.tried_at) FILTER (WHERE d.state = 'sent') AS told_at,
           max(d.error) FILTER (WHERE d.state = 'failed') AS error
    FROM bts.alert_delivery AS d WHERE d.alert_id = a.alert_id AND NOT d.cleared
) AS told ON true;
COMMENT ON VIEW bts.alert_status IS
    'every alert: open, acknowledged, suppressed (and by what) or cleared; when it was told, and why it could not be';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.alert_status, bts.silence, bts.planned_outage TO bts_reader;
    END IF;
END
$$;
