-- What a limit that is passed means, in the words of ITU-T X.733 and X.721, and what a crew should look at. Parameters that
-- are not named here pass a threshold, and no more is known of them.
CREATE VIEW bts.breach_advice AS
SELECT * FROM (VALUES
    (111, 'high', 'environmentalAlarm', 'temperatureUnacceptable', 'air conditioners, their power and refrigerant; the door'),
    (111, 'low', 'environmentalAlarm', 'temperatureUnacceptable', 'heater, thermostat; an air conditioner that never stops'),
    (114, 'high', 'environmentalAlarm', 'temperatureUnacceptable', 'the load of the air conditioners in the heat to come'),
    (115, 'high', 'environmentalAlarm', 'humidityUnacceptable', 'water in the room, drains of the air conditioners; the door'),
    (115, 'low', 'environmentalAlarm', 'humidityUnacceptable', 'the sensor; the air conditioners'' settings'),
    (116, 'high', 'environmentalAlarm', 'temperatureUnacceptable', 'charging current, cells of the battery, cooling of the room'),
    (121, 'low', 'equipmentAlarm', 'powerProblem', 'grid supply, breakers; fuel of the generator, charge of the battery'),
    (121, 'high', 'equipmentAlarm', 'powerProblem', 'grid supply, surge protection, transformer tap'),
    (122, 'high', 'equipmentAlarm', 'powerProblem', 'what draws the load: air conditioners, rectifiers; breakers'),
    (123, 'high', 'equipmentAlarm', 'powerProblem', 'grid supply; whether a generator feeds the line'),
    (123, 'low', 'equipmentAlarm', 'powerProblem', 'grid supply; whether a generator feeds the line'),
    (124, 'high', 'equipmentAlarm', 'powerProblem', 'regulator of the generator'),
    (125, 'high', 'equipmentAlarm', 'powerProblem', 'what hangs on the generator'),
    (126, 'high', 'equipmentAlarm', 'powerProblem', 'speed governor of the generator'),
    (141, 'low', 'equipmentAlarm', 'powerProblem', 'rectifiers, battery strings; how long it lasts: bts.battery_autonomy'),
    (141, 'high', 'equipmentAlarm', 'powerProblem', 'charging voltage of the rectifiers'),
    (143, 'low', 'equipmentAlarm', 'powerProblem', 'rectifiers, battery string 1'),
    (143, 'high', 'equipmentAlarm', 'powerProblem', 'charging voltage of the rectifiers'),
    (144, 'low', 'equipmentAlarm', 'powerProblem', 'rectifiers, battery string 2'),
    (144, 'high', 'equipmentAlarm', 'powerProblem', 'charging voltage of the rectifiers'),
    (151, 'high', 'environmentalAlarm', 'fireDetected', 'smoke: the site, now'),
    (152, 'high', 'environmentalAlarm', 'enclosureDoorOpen', 'who opened it; the lock'),
    (154, 'high', 'environmentalAlarm', 'floodDetected', 'roof, drains of the air conditioners'),
    (155, 'high', 'environmentalAlarm', 'temperatureUnacceptable', 'air conditioners, their power'),
    (161, 'low', 'equipmentAlarm', 'powerProblem', 'battery strings; the grid''s supply')
) AS a (parameter_id, side, event_type, probable_cause, what_to_check);
COMMENT ON VIEW bts.breach_advice IS
    'what a limit that is passed means by ITU-T X.733, and what to look at, for the parameters of the shipped catalogue';

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
       f.batch_id, b.issued_at,
       coalesce(a.event_type, 'qualityOfServiceAlarm') AS event_type,
       coalesce(a.probable_cause, 'thresholdCrossed') AS probable_cause,
       jsonb_build_object('triggeredThreshold', p.name, 'side', f.side, 'thresholdLevel', f.limit_value,
           'observedValue', f.expected_worst, 'unit', p.unit) AS threshold_information,
       coalesce(a.what_to_check, 'the sensor, and what it measures') AS what_to_check
FROM bts.breach_forecast AS f
JOIN bts.batch AS b USING (batch_id)
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
LEFT JOIN bts.breach_advice AS a USING (parameter_id, side)
WHERE f.batch_id = (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1);
COMMENT ON VIEW bts.predicted_breach IS
    'one row per series and limit that the forecasts that serve may pass: how likely within 6, 24 and 48 h, when, how far, how long';

CREATE VIEW bts.battery_autonomy AS
SELECT s.region, n.station_id, s.name AS station, n.parameter_id, p.name AS parameter, n.limit_value, n.hours, n.low_hours,
       n.high_hours, n.outages, n.falling_since, n.hours_before, n.batch_id, b.issued_at
FROM bts.station_battery AS n
JOIN bts.batch AS b USING (batch_id)
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
WHERE n.batch_id = (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1)
ORDER BY n.hours, n.station_id;
COMMENT ON VIEW bts.battery_autonomy IS
    'hours until each battery''s low limit if the grid failed at the origin, with an 80 % interval, learnt from its past outages';

CREATE VIEW bts.maintenance_finding AS
SELECT s.region, f.station_id, s.name AS station, f.kind, f.perceived_severity, f.since, f.what, f.what_to_check,
       f.batch_id, b.issued_at
FROM bts.station_finding AS f
JOIN bts.batch AS b USING (batch_id)
LEFT JOIN bts.station AS s USING (station_id)
WHERE f.batch_id = (SELECT batch_id FROM bts.publication WHERE serves_latest ORDER BY publication_seq DESC LIMIT 1)
ORDER BY array_position(ARRAY['critical', 'major', 'minor', 'warning'], f.perceived_severity), f.since, f.station_id;
COMMENT ON VIEW bts.maintenance_finding IS
    'what wears out at stations, by their own past: batteries, generators, cooling; the most severe first';

-- Stations by urgency: limits that may be passed, and what wears out.
CREATE VIEW bts.maintenance_list AS
SELECT s.region, i.station_id, s.name AS station, count(i.probability) AS breaches, max(i.probability) AS probability,
       min(i.first_likely_at) AS first_likely_at,
       (array_agg(i.perceived_severity ORDER BY i.gravity))[1] AS perceived_severity,
       string_agg(i.what, '; ' ORDER BY i.gravity, i.probability DESC NULLS LAST, i.what) AS what,
       i.batch_id, b.issued_at,
       CASE WHEN max(i.probability) >= 0.5 THEN 'likely' WHEN max(i.probability) IS NOT NULL THEN 'possible'
            ELSE 'found' END AS how_sure,
       (SELECT string_agg(DISTINCT c.item, '; ') FROM unnest(array_agg(i.what_to_check)) AS c (item)) AS what_to_check,
       count(*) FILTER (WHERE i.probability IS NULL) AS findings,
       min(i.since) AS since,
       (array_agg(i.event_type ORDER BY i.gravity))[1] AS event_type,
       (array_agg(i.probable_cause ORDER BY i.gravity))[1] AS probable_cause
FROM (
    SELECT station_id, batch_id, probability_48h AS probability, first_likely_at, NULL::timestamptz AS since,
           perceived_severity, what_to_check, event_type, probable_cause,
           format('%s %s %s %s (%s %%)', parameter, CASE side WHEN 'high' THEN 'above' ELSE 'below' END, limit_value, unit,
               round((100 * probability_48h)::numeric)) AS what,
           array_position(ARRAY['critical', 'major', 'minor', 'warning'], perceived_severity) AS gravity
    FROM bts.predicted_breach WHERE probability_48h >= 0.1
    UNION ALL
    SELECT station_id, batch_id, NULL, NULL, since, perceived_severity, what_to_check, 'equipmentAlarm',
           CASE kind WHEN 'cooling' THEN 'heatingVentCoolingSystemProblem' ELSE 'powerProblem' END, what,
           array_position(ARRAY['critical', 'major', 'minor', 'warning'], perceived_severity)
    FROM bts.maintenance_finding
) AS i
JOIN bts.batch AS b USING (batch_id)
LEFT JOIN bts.station AS s USING (station_id)
GROUP BY s.region, i.station_id, s.name, i.batch_id, b.issued_at
ORDER BY min(i.gravity), min(i.first_likely_at) NULLS LAST, max(i.probability) DESC NULLS LAST, i.station_id;
COMMENT ON VIEW bts.maintenance_list IS
    'stations by urgency: what may pass a limit within 48 h with a chance of one in ten or more, what wears out, what to check';

CREATE VIEW bts.current_breach AS
SELECT s.region, o.station_id, s.name AS station, o.parameter_id, p.name AS parameter, p.unit,
       y.side,
       CASE y.side WHEN 'high' THEN x.high_limit ELSE x.low_limit END AS limit_value,
       o.value, o.observed_at,
       'critical' AS perceived_severity,
       coalesce(a.event_type, 'qualityOfServiceAlarm') AS event_type,
       coalesce(a.probable_cause, 'thresholdCrossed') AS probable_cause,
       jsonb_build_object('triggeredThreshold', p.name, 'side', y.side,
           'thresholdLevel', CASE y.side WHEN 'high' THEN x.high_limit ELSE x.low_limit END,
           'observedValue', o.value, 'unit', p.unit) AS threshold_information,
       coalesce(a.what_to_check, 'the sensor, and what it measures') AS what_to_check
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
    (SELECT coalesce(l.low_limit, p.low_limit) AS low, coalesce(l.high_limit, p.high_limit) AS high) AS e
-- A low limit that is not below the high one is a mistake: what is set for the station does not hold then.
CROSS JOIN LATERAL (
    SELECT CASE WHEN e.low >= e.high THEN p.low_limit ELSE e.low END AS low_limit,
           CASE WHEN e.low >= e.high THEN p.high_limit ELSE e.high END AS high_limit) AS x
CROSS JOIN LATERAL (SELECT CASE WHEN o.value > x.high_limit THEN 'high' ELSE 'low' END AS side) AS y
LEFT JOIN bts.breach_advice AS a ON (a.parameter_id, a.side) = (o.parameter_id, y.side)
CROSS JOIN (
    SELECT coalesce((b.breach_terms ->> 'persistence')::int, 1) AS steps, make_interval(secs => b.step_seconds) AS width
    FROM bts.batch AS b WHERE b.batch_id = (SELECT batch_id FROM bts.latest_batch)) AS r
WHERE (o.value > x.high_limit OR o.value < x.low_limit)
  AND o.observed_at > (SELECT last_observed_at FROM bts.latest_batch) - interval '6 hours'
  -- So many steps in a row as the batch that serves counts as a breach (BTS_BREACH_PERSISTENCE).
  AND (r.steps = 1 OR r.steps = (
      SELECT count(*) FROM bts.observation AS v
      WHERE (v.station_id, v.parameter_id) = (o.station_id, o.parameter_id) AND v.observed_at <= o.observed_at
        AND v.observed_at > o.observed_at - r.steps * r.width
        AND CASE y.side WHEN 'high' THEN v.value > x.high_limit ELSE v.value < x.low_limit END));
COMMENT ON VIEW bts.current_breach IS
    'series whose newest observation lies beyond a limit, and those before it, as many steps as count as a breach';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.breach_advice, bts.predicted_breach, bts.battery_autonomy, bts.maintenance_finding,
            bts.maintenance_list, bts.current_breach TO bts_reader;
    END IF;
END
$$;
