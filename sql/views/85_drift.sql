-- What has changed since the version that serves was trained, and which sensors and stations report wrongly. Alarms are
-- of streams whose evidence has reached its bound: docs/monitoring.md says what that is worth.
CREATE VIEW bts.drift AS
SELECT e.issued_at, e.scope, e.kind, t.region, nullif(e.station_id, -1) AS station_id, t.name AS station,
       nullif(e.parameter_id, -1) AS parameter_id, p.name AS parameter, p.unit, e.figure, e.alarm, e.evidence, e.bound,
       e.change, e.deviation, f.ks, f.psi, f.forecast_psi, e.nights, n.model_version_id
FROM bts.drift_evidence AS e
JOIN bts.drift_night AS n USING (issued_at)
LEFT JOIN bts.drift_figure AS f USING (issued_at, station_id, parameter_id)
LEFT JOIN bts.station AS t USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
WHERE e.issued_at = (SELECT max(issued_at) FROM bts.drift_night);
COMMENT ON VIEW bts.drift IS
    'what has changed since the training of the version that serves, by the newest night: alarms, and what is half way to one';

CREATE VIEW bts.sensor_fault AS
SELECT f.issued_at, f.fault, t.region, f.station_id, t.name AS station, nullif(f.parameter_id, -1) AS parameter_id,
       p.name AS parameter, p.unit, f.since, f.figure, first.seen_at AS first_seen_at
FROM bts.found_fault AS f
LEFT JOIN bts.station AS t USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
CROSS JOIN LATERAL (
    SELECT min(b.issued_at) AS seen_at FROM bts.found_fault AS b
    WHERE (b.fault, b.station_id, b.parameter_id) = (f.fault, f.station_id, f.parameter_id)
      AND b.issued_at > f.issued_at - interval '28 days'
) AS first
WHERE f.issued_at = (SELECT max(issued_at) FROM bts.drift_night);
COMMENT ON VIEW bts.sensor_fault IS
    'sensors that are missing, stuck, flat or mis-scaled, stations that are silent or whose clock is wrong, by the newest night';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.drift, bts.sensor_fault TO bts_reader;
    END IF;
END
$$;
