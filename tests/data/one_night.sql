-- A night made by hand, small enough to know every answer: three stations, the last midnight UTC as origin, published two
-- hours ago, and the night before it. Series (1, 111) will breach its limit, (1, 121) is served by a fallback, (2, 121)
-- has a limit of its own, (3, 111) fell silent and is excluded.
INSERT INTO bts.station (station_id, name, region, listed) VALUES (1, 'North Hill', 'north', true), (2, NULL, NULL, false),
    (3, NULL, NULL, false);
INSERT INTO bts.station_limit (station_id, parameter_id, high_limit) VALUES (2, 121, 232);

INSERT INTO bts.landing_file (path, digest, status, reason, bytes, modified_ns, rows, accepted, rejected, duplicate,
        rejected_by_reason, first_reading_at, last_reading_at, days, taken_at, code_version, dialect)
SELECT 'day.csv', repeat('a', 64), 'accepted', NULL, 1000, 0, 100, 90, 4, 6, '{"sentinel": 3, "value out of range": 1}'::jsonb,
       midnight - interval '1 day', midnight - interval '1 minute', ARRAY[(midnight - interval '1 day')::date], now(), 'test',
       '{"encoding": "utf-8", "delimiter": ","}'::jsonb
FROM date_trunc('day', now(), 'UTC') AS midnight
UNION ALL
SELECT 'broken.csv', repeat('b', 64), 'refused', 'column value is missing', 10, 0, 0, 0, 0, 0, '{}', NULL, NULL, '{}', now(), 'test', NULL;
INSERT INTO bts.landing_reading (digest, readings) VALUES (repeat('a', 64), sha256('readings'));
INSERT INTO bts.pruning (day, observations) VALUES ('2020-01-01', 7);
INSERT INTO bts.landing_name (kind, name, number) VALUES ('station', 'Tower, north', -7), ('parameter', 'grid load', 122);
INSERT INTO bts.landing_rejection VALUES (1, 17, '5,999999,1,111,2026-01-01 00:00', 'sentinel');

INSERT INTO bts.installation (step_seconds) VALUES (900) ON CONFLICT DO NOTHING;
INSERT INTO bts.observed_step (observed_at, starts_at, step)
SELECT midnight + (day * 96 + step - 1) * interval '15 minutes', midnight + day * interval '1 day', step
FROM date_trunc('day', now(), 'UTC') AS midnight, generate_series(-1, 0) AS day, generate_series(1, 96) AS step;
INSERT INTO bts.observation_block (station_id, parameter_id, starts_at, values, readings)
SELECT station_id, parameter_id, midnight + day * interval '1 day',
       array_agg(CASE WHEN day < 0 OR step <= 4 THEN level + (day * 96 + step - 1) % 4 END ORDER BY step),
       CASE WHEN station_id = 1 THEN '{1}'::int[]
            ELSE array_agg(CASE WHEN day < 0 OR step <= 4 THEN 1 + step % 2 ELSE 0 END ORDER BY step) END
FROM date_trunc('day', now(), 'UTC') AS midnight, generate_series(-1, 0) AS day, generate_series(1, 96) AS step,
     (VALUES (1, 111, 30), (1, 121, 228), (2, 121, 228)) AS series (station_id, parameter_id, level)
GROUP BY 1, 2, 3;

INSERT INTO bts.series (station_id, parameter_id, first_ledger_seq)
SELECT DISTINCT station_id, parameter_id, 1 FROM bts.observation;

INSERT INTO bts.observed_day (day, ledger_seq, digest, observations, first_observed_at, last_observed_at, readings, rule,
        repeated, corrected, contradicted, ids_ignored)
SELECT observed_at::date, 1, repeat('1', 64), count(*), min(observed_at), max(observed_at), sum(readings), repeat('2', 64),
       6, 2, 1, 30
FROM bts.observation GROUP BY 1;
INSERT INTO bts.observed_station (day, station_id, digest, observations, readings, first_observed_at, last_observed_at,
        repeated, corrected, contradicted, ids_ignored)
SELECT observed_at::date, station_id, sha256('station'), count(*), sum(readings), min(observed_at), max(observed_at),
       3, 1, 1, 15
FROM bts.observation GROUP BY 1, 2;
INSERT INTO bts.catalogue (digest, parameters) VALUES (repeat('e', 64), '[{"parameter_id": 111, "name": "Room Temperature",
    "unit": "°C", "kind": "gauge", "aggregation": "mean", "valid_min": -60.0, "valid_max": 100.0, "sentinels": [999991.0],
    "low_limit": 5.0, "high_limit": 35.0, "forecast": true, "known": true}]');

INSERT INTO bts.limit_set (digest, limits) VALUES (repeat('9', 64), '[[2, 121, null, 232.0]]');

INSERT INTO bts.model_version (bundle_digest, step_seconds, context_seconds, horizon_seconds, effort, seed, truncated,
        training_start, training_end, training_ledger_seq, observations_digest, catalogue_digest, metrics,
        mlflow_run_id, mlflow_experiment_id, mlflow_model_uri, registry_version, packages, machine, code_version,
        dagster_run_id, settings, training_seconds)
SELECT repeat('c', 64), 900, 604800, 86400, 'quick', 1, false, midnight - interval '1 day', midnight, 2, repeat('d', 64),
       repeat('e', 64), '{}', 'run-1', '1', 'models:/bts-forecaster/1', 1, '{}', '{}', 'test', 'dagster-1', '{}', 63
FROM date_trunc('day', now(), 'UTC') AS midnight;

INSERT INTO bts.batch (issued_at, kind, model_version_id, step_seconds, horizon_steps, input_start, input_ledger_seq,
        observations_digest, catalogue_digest, forecasts_digest, series, forecast, fallback, excluded, settings,
        code_version, dagster_run_id, successor_due_at, limits_digest, breach_terms)
SELECT midnight - age, 'live', 1, 900, 192, midnight - age - interval '7 days', 2, repeat('f', 64), repeat('e', 64),
       repeat('0', 64),
       4, 2, 1, 1, '{}', 'test', 'dagster-2', midnight - age + interval '28 hours',
       repeat('9', 64), '{"persistence": 1, "recovery": 0.0, "dependence": {"111": [0.3, 0.7], "121": [0.3, 0.7]}}'
FROM date_trunc('day', now(), 'UTC') AS midnight, unnest(ARRAY[interval '1 day', interval '0']) AS age;

INSERT INTO bts.forecast_ledger
SELECT batch_id, station_id, parameter_id, status, source, reason, issued_at - silent, history, history, components
FROM bts.batch, (VALUES
    (1, 111, 'forecast', 'lstm', NULL, interval '15 minutes', 96, NULL::jsonb),
    (1, 121, 'fallback', 'last_value', 'the LSTM gave no finite numbers', interval '15 minutes', 96, NULL),
    (2, 121, 'forecast', 'mixture', NULL, interval '15 minutes', 96, '{"lstm": 0.7, "seasonal_naive": 0.3}'),
    (3, 111, 'excluded', NULL, 'no observation in the context', interval '9 days', 0, NULL)
) AS series (station_id, parameter_id, status, source, reason, silent, history, components);

-- The medians: (1, 111) rises from 30 and passes its limit of 35 at step 145; (1, 121) is steady at 230, and only its
-- upper quantile passes its limit of 240; (2, 121) is steady at 233, below that limit and above its own of 232.
INSERT INTO bts.forecast_series (batch_id, station_id, parameter_id, q05, q10, q50, q90, q95)
SELECT batch_id, station_id, parameter_id, array_agg(q50 - 2 * width ORDER BY step), array_agg(q50 - width ORDER BY step),
       array_agg(q50 ORDER BY step), array_agg(q50 + width ORDER BY step), array_agg(q50 + 2 * width ORDER BY step)
FROM bts.batch, generate_series(1, 192) AS step,
     LATERAL (VALUES (1, 111, 30 + (step - 1) * 5.0 / 143.5, 0.5), (1, 121, 230, 11), (2, 121, 233, 0.4)
     ) AS series (station_id, parameter_id, q50, width)
GROUP BY batch_id, station_id, parameter_id;

-- (1, 111) is given intervals a tenth wider than the model version states, on the word of three nights.
INSERT INTO bts.recalibration (batch_id, station_id, parameter_id, factors, nights, asked)
SELECT 2, 1, 111, array_fill(1.1::real, ARRAY[16]), array_fill(3::real, ARRAY[16]), array_fill(0.9::real, ARRAY[16]);

INSERT INTO bts.publication (batch_id, serves_latest, reason, published_at)
SELECT batch_id, true, 'newest origin', now() - (2 - batch_id) * interval '1 day' - interval '2 hours' FROM bts.batch;

-- The night before has been scored over its first quarter; (1, 111) will pass its high limit.
INSERT INTO bts.scored_batch (batch_id, ledger_seq, targets) VALUES (1, 2, 96);
INSERT INTO bts.forecast_score (batch_id, station_id, parameter_id, candidate, stretch, targets, absolute_error, error,
        pinball, crps, inside80, inside90, scale)
SELECT 1, station_id, parameter_id, candidate, 1, 48, 48 * error, 24 * error, 12 * error, 24 * error, 40, 44, 2
FROM (VALUES (1, 111), (1, 121)) AS series (station_id, parameter_id),
     (VALUES ('served', 1.0), ('last_value', 2.0)) AS candidates (candidate, error);
INSERT INTO bts.parameter_score (batch_id, parameter_id, candidate, stretch, model_version_id, series, targets,
        absolute_error, error, scaled_error, scaled_targets, inside80, inside90, pinball, crps)
SELECT batch_id, parameter_id, candidate, stretch, 1, 1, targets, absolute_error, error, absolute_error / scale, targets,
       inside80, inside90, pinball, crps
FROM bts.forecast_score;
-- Its first quarter are twelve hours.
INSERT INTO bts.hourly_score (batch_id, parameter_id, candidate, hour, targets, absolute_error, error, scaled_error,
        scaled_targets, inside80, inside90)
SELECT batch_id, parameter_id, candidate, hour, 4, absolute_error / 12, error / 12, absolute_error / scale / 12, 4, 3, 4
FROM bts.forecast_score, generate_series(0, 11) AS hour;
INSERT INTO bts.breach_forecast (batch_id, station_id, parameter_id, side, limit_value, probability_6h, probability_24h,
        probability_48h, first_likely_at, expected_worst, expected_steps)
SELECT 2, 1, 111, 'high', 35, 0, 0.05, 0.98, issued_at + interval '36 hours', 36.7, 47 FROM bts.batch WHERE batch_id = 2;

-- People were told of that breach, and of station 3, which is silent; work is planned at station 2, and nobody is told of
-- parameter 121 for a week.
INSERT INTO bts.alert (kind, key, perceived_severity, station_id, parameter_id, summary, details, expected_at, raised_at,
        seen_at)
SELECT 'breach', '1:111:high', 'minor', 1, 111, 'station 1: Room Temperature above 35 °C within 48 h, chance 98 %',
       '{"probability_48h": 0.98}'::jsonb, issued_at + interval '36 hours', now(), now() FROM bts.batch WHERE batch_id = 2
UNION ALL SELECT 'silent', '3', 'major', 3, NULL, 'station 3 is silent', '{}', issued_at, now(), now()
FROM bts.batch WHERE batch_id = 2;
INSERT INTO bts.alert_delivery (alert_id, cleared, channel, state, attempts, message_id, tried_at)
VALUES (1, false, 'mailto-00000000', 'sent', 1, repeat('0', 32), now());
INSERT INTO bts.silence (parameter_id, until, reason) VALUES (121, now() + interval '7 days', 'the grid is being rebuilt');
INSERT INTO bts.planned_outage (station_id, starts_at, ends_at, reason)
VALUES (2, now(), now() + interval '8 hours', 'a new rectifier');

-- The operator alarmed once, at station 1; one of two forecasts of breaches of the night before came true.
INSERT INTO bts.alarm_file (path, digest, status, bytes, rows, accepted, rejected, duplicate, rejected_by_reason, notes,
        first_at, last_at, code_version)
SELECT 'alarms.csv', repeat('a', 64), 'accepted', 200, 2, 1, 1, 0, '{"broken station_id": 1}', '[]', now() - interval '2 hours',
       now() - interval '1 hour', 'test';
INSERT INTO bts.alarm_rejection (alarm_seq, line, raw, reason) VALUES (1, 3, 'x,y', 'broken station_id');
INSERT INTO bts.alarm (alarm_seq, line, reported_id, station_id, alarm_kind, parameter_id, started_at, ended_at, until, value,
        threshold, side)
SELECT 1, 2, 10, 1, 322, 111, now() - interval '2 hours', NULL, now() - interval '1 hour', 36, 35, 'high';
INSERT INTO bts.breach_score (batch_id, truth, hours, bin, sides, happened, expected, squared)
VALUES (1, 'observed', 6, 0, 3, 0, 0.06, 0.0012), (1, 'observed', 6, 6, 2, 1, 1.3, 0.545);

-- Both batches were made by one run, which was ready two hours before now.
INSERT INTO bts.night_stage (run_id, stage, started_at, wall_seconds, cpu_seconds, peak_bytes, rows, bytes, failed)
VALUES ('dagster-2', 'readings', now() - interval '3 hours', 20, 30, 300000000, 4000, 200000, false),
       ('dagster-2', 'station_forecasts', now() - interval '2 hours', 10, 15, 900000000, 576, 23040, false);
INSERT INTO bts.night_part (run_id, stage, issued_at, started_at, wall_seconds, cpu_seconds, peak_bytes, rows, bytes, failed)
SELECT 'dagster-2', 'station_forecasts', issued_at, now() - interval '2 hours', 10, 15, 900000000, 576, 23040, false
FROM bts.batch WHERE batch_id = 2;

-- The battery of station 1 lasts less than it did, and its generator stood; the room of station 2 cools worse.
INSERT INTO bts.station_battery (batch_id, station_id, parameter_id, limit_value, hours, low_hours, high_hours, outages,
        falling_since, hours_before)
SELECT 2, 1, 141, 46, 5.2, 4.1, 6.6, 7, issued_at - interval '9 days', 9.8 FROM bts.batch WHERE batch_id = 2;
INSERT INTO bts.station_finding (batch_id, station_id, kind, perceived_severity, since, what, what_to_check)
SELECT 2, found.station_id, found.kind, severity, issued_at - interval '9 days', what, checked FROM bts.batch, (VALUES
    (1, 'battery', 'warning', 'battery lasts 5.2 h (4.1 to 6.6), 9.8 h before', 'battery strings'),
    (1, 'generator_stood', 'major', 'generator stood while the grid was away', 'fuel'),
    (2, 'cooling', 'minor', 'room is 2.4 °C warmer than before', 'air conditioners')
) AS found (station_id, kind, severity, what, checked) WHERE batch_id = 2;
-- The newest night was looked at for drift: (1, 111) has moved, (2, 121) is stuck, and station 3 is silent.
INSERT INTO bts.training_snapshot (model_version_id, station_id, parameter_id, sketch, profile, level, spread,
        longest_run, coverage)
SELECT model_version_id, 1, 111, array_fill(30::float8, ARRAY[33]), array_fill(30::float8, ARRAY[24]),
       array_fill(0::float8, ARRAY[14]), array_fill(-1::float8, ARRAY[14]), 4, 1 FROM bts.batch WHERE batch_id = 2;
INSERT INTO bts.drift_night (issued_at, model_version_id, nights, reference_nights, scored_nights, reference_scored_nights)
SELECT issued_at, model_version_id, 3, 14, 0, 2 FROM bts.batch WHERE batch_id = 2;
INSERT INTO bts.drift_figure (issued_at, station_id, parameter_id, level, spread, ks, psi, forecast_psi)
SELECT issued_at, station_id, parameter_id, 2, -1, 0.6, 1.2, 0.9
FROM bts.batch, (VALUES (1, 111), (1, 121)) AS series (station_id, parameter_id) WHERE batch_id = 2;
INSERT INTO bts.drift_evidence (issued_at, scope, figure, station_id, parameter_id, evidence, bound, deviation, change,
        alarm, nights, kind)
SELECT issued_at, 'series', 'level', 1, 111, 6.1, 5.4, 6.5, 1.1, true, 2, 'covariate' FROM bts.batch WHERE batch_id = 2;
INSERT INTO bts.found_fault (issued_at, fault, station_id, parameter_id, since, figure)
SELECT issued_at, fault, station_id, parameter_id, issued_at - interval '14 hours', figure
FROM bts.batch, (VALUES ('stuck', 2, 121, 233::float8), ('silent_station', 3, -1, NULL)
    ) AS faults (fault, station_id, parameter_id, figure) WHERE batch_id = 2;
