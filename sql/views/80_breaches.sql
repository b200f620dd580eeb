-- What will pass a limit, and what is beyond one now. Probabilities are joint over the horizon: that a breach begins
-- within so many hours of the origin.
CREATE VIEW bts.predicted_breach AS
SELECT s.region, f.station_id, s.name AS station, f.parameter_id, p.name AS parameter, p.unit, f.side, f.limit_value,
       f.probability_6h, f.probability_24h, f.probability_48h, f.first_likely_at, f.expected_worst,
       f.expected_steps * make_interval(secs => b.step_seconds) AS expected_duration,
       -- ITU-T X.733: how grave it is perceived to be.
       CASE WHEN f.probability_6h >= 0.5 THEN 'critical'
            WHEN f.probability_24h >= 0.5 THEN 'major'
            WHEN f.probability_48h >= 0.5 THEN 'minor'
            ELSE 'warning' END AS perceived_severity,
       CASE WHEN f.probability_48h >= 0.5 THEN 'likely' ELSE 'possible' END AS how_sure,
       f.batch_id, b.issued_at
FROM bts.breach_forecast AS f
JOIN bts.batch AS b USING (batch_id)
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
WHERE f.batch_id = (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1);
COMMENT ON VIEW bts.predicted_breach IS
    'one row per series and limit that the forecasts that serve may pass: how likely within 6, 24 and 48 h, when, how far, how long';

CREATE VIEW bts.maintenance_list AS
SELECT region, station_id, station, count(*) AS breaches, max(probability_48h) AS probability,
       min(first_likely_at) AS first_likely_at,
       (array_agg(perceived_severity ORDER BY array_position(ARRAY['critical', 'major', 'minor', 'warning'],
            perceived_severity)))[1] AS perceived_severity,
       string_agg(format('%s %s %s %s (%s %%)', parameter, CASE side WHEN 'high' THEN 'above' ELSE 'below' END,
            limit_value, unit, round((100 * probability_48h)::numeric)), '; '
            ORDER BY probability_48h DESC, parameter) AS what,
       batch_id, issued_at
FROM bts.predicted_breach
WHERE probability_48h >= 0.1
GROUP BY region, station_id, station, batch_id, issued_at
ORDER BY array_position(ARRAY['critical', 'major', 'minor', 'warning'],
            (array_agg(perceived_severity ORDER BY array_position(ARRAY['critical', 'major', 'minor', 'warning'],
            perceived_severity)))[1]), min(first_likely_at) NULLS LAST, max(probability_48h) DESC, station_id;
COMMENT ON VIEW bts.maintenance_list IS
    'stations by urgency: what may pass a limit within 48 h with a chance of one in ten or more, the gravest first';

CREATE VIEW bts.current_breach AS
SELECT s.region, o.station_id, s.name AS station, o.parameter_id, p.name AS parameter, p.unit,
       CASE WHEN o.value > x.high_limit THEN 'high' ELSE 'low' END AS side,
       CASE WHEN o.value > x.high_limit THEN x.high_limit ELSE x.low_limit END AS limit_value,
       o.value, o.observed_at
FROM bts.series AS n
CROSS JOIN LATERAL (
    -- The newest step of the newest block.
    SELECT b.station_id, b.parameter_id, s.observed_at, b.values[s.step] AS value
    FROM (SELECT * FROM bts.observation_block AS b
          WHERE (b.station_id, b.parameter_id) = (n.station_id, n.parameter_id) ORDER BY starts_at DESC LIMIT 1) AS b
    CROSS JOIN LATERAL (
        SELECT step, b.starts_at + (step - 1) * make_interval(secs => i.step_seconds) AS observed_at
        FROM bts.installation AS i, generate_subscripts(b.values, 1) AS step
        WHERE b.values[step] IS NOT NULL ORDER BY step DESC LIMIT 1) AS s
) AS o
JOIN bts.parameter AS p ON p.parameter_id = o.parameter_id
LEFT JOIN bts.station AS s ON s.station_id = o.station_id
LEFT JOIN bts.station_limit AS l ON (l.station_id, l.parameter_id) = (o.station_id, o.parameter_id)
CROSS JOIN LATERAL
    (SELECT coalesce(l.low_limit, p.low_limit) AS low_limit, coalesce(l.high_limit, p.high_limit) AS high_limit) AS x
WHERE (o.value > x.high_limit OR o.value < x.low_limit)
  AND o.observed_at > (SELECT last_observed_at FROM bts.latest_batch) - interval '6 hours';
COMMENT ON VIEW bts.current_breach IS 'series whose newest observation lies beyond a limit';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.predicted_breach, bts.maintenance_list, bts.current_breach TO bts_reader;
    END IF;
END
$$;
