-- What the forecasts that served were worth, over those of the last days whose targets have come. Sums are divided here,
-- so that any grouping of bts.forecast_score can be scored the same way.
CREATE VIEW bts.scored_night AS
SELECT shown.batch_id, b.issued_at, b.kind, shown.role, b.model_version_id, s.scored_at
FROM (
    -- Of several batches of one origin the last published counts; what a challenger made beside it is its shadow.
    (SELECT DISTINCT ON (o.issued_at) o.batch_id, 'served' AS role
     FROM bts.publication AS p JOIN bts.batch AS o USING (batch_id) ORDER BY o.issued_at, p.publication_seq DESC)
    UNION ALL
    SELECT shadow_batch_id, 'shadow' FROM bts.probation_night WHERE shadow_batch_id IS NOT NULL
) AS shown
JOIN bts.batch AS b USING (batch_id)
JOIN bts.scored_batch AS s USING (batch_id);
COMMENT ON VIEW bts.scored_night IS
    'batches that are scored: what served of each origin, and what a challenger made beside it (role shadow)';

CREATE VIEW bts.scored_kind AS
SELECT w.days,
       (array_agg(n.kind ORDER BY array_position(ARRAY['live', 'retrospective', 'in_sample'], n.kind)))[1] AS kind
FROM (VALUES (1), (7), (28)) AS w (days)
JOIN bts.scored_night AS n
    ON n.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - w.days * interval '1 day'
JOIN bts.scored_batch AS s USING (batch_id)
WHERE n.role = 'served' AND s.targets > 0
GROUP BY w.days;
COMMENT ON VIEW bts.scored_kind IS
    'the kind of batches that speaks for the forecasts of 1, 7 and 28 scored days: live; where there are none, retrospective, else in_sample';

CREATE VIEW bts.scored_forecast AS
SELECT s.batch_id, n.issued_at, n.kind, s.station_id, s.parameter_id, s.candidate,
       CASE WHEN s.candidate = 'served' THEN coalesce(l.model_version_id, n.model_version_id) END AS model_version_id,
       n.role, s.stretch, s.targets, s.absolute_error, s.error, s.pinball, s.crps, s.inside80, s.inside90, s.scale
FROM bts.scored_night AS n
JOIN bts.forecast_score AS s USING (batch_id)
JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id);
COMMENT ON VIEW bts.scored_forecast IS
    'one row per batch, series, candidate and quarter of the horizon: sums of errors over the targets that have come';

-- From here on sums over all series, which are made when a batch is scored: their number does not grow with the stations.
CREATE VIEW bts.scored_parameter AS
SELECT s.batch_id, n.issued_at, n.kind, s.parameter_id, s.candidate,
       CASE WHEN s.candidate = 'served' THEN s.model_version_id END AS model_version_id,
       n.role, s.stretch, s.series, s.targets, s.absolute_error, s.error, s.scaled_error, s.scaled_targets, s.pinball,
       s.crps, s.inside80, s.inside90
FROM bts.scored_night AS n
JOIN bts.parameter_score AS s USING (batch_id);
COMMENT ON VIEW bts.scored_parameter IS
    'one row per batch, parameter, candidate and quarter of the horizon: sums of errors over all series';

CREATE VIEW bts.forecast_accuracy AS
SELECT w.days, f.parameter_id, p.name AS parameter, p.unit, f.candidate, f.role, f.kind, f.model_version_id,
       count(DISTINCT f.batch_id) AS nights,
       -- In the night that had the most.
       max(f.series)::bigint AS series,
       sum(f.targets)::bigint AS targets,
       sum(f.absolute_error) / sum(f.targets) AS mae,
       sum(f.scaled_error) / nullif(sum(f.scaled_targets), 0) AS mase,
       sum(f.pinball) / sum(f.targets) AS pinball,
       sum(f.crps) / sum(f.targets) AS crps,
       sum(f.error) / sum(f.targets) AS bias,
       sum(f.inside80)::double precision / sum(f.targets) AS coverage80,
       sum(f.inside90)::double precision / sum(f.targets) AS coverage90
FROM (VALUES (1), (7), (28)) AS w (days)
JOIN bts.scored_parameter AS f
    ON f.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - w.days * interval '1 day'
LEFT JOIN bts.parameter AS p USING (parameter_id)
GROUP BY w.days, f.parameter_id, p.name, p.unit, f.candidate, f.role, f.kind, f.model_version_id;
COMMENT ON VIEW bts.forecast_accuracy IS
    'per parameter, what the forecasts of the last 1, 7 and 28 scored days were worth, beside the baselines and challengers in shadow';

CREATE VIEW bts.interval_coverage AS
SELECT w.days, f.parameter_id, p.name AS parameter, f.stretch, f.model_version_id,
       sum(f.targets)::bigint AS targets,
       sum(f.inside80)::double precision / sum(f.targets) AS coverage80,
       sum(f.inside90)::double precision / sum(f.targets) AS coverage90,
       sum(f.scaled_error) / nullif(sum(f.scaled_targets), 0) AS mase,
       f.kind
FROM (VALUES (1), (7), (28)) AS w (days)
JOIN bts.scored_parameter AS f
    ON f.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - w.days * interval '1 day'
   AND f.candidate = 'served' AND f.role = 'served'
LEFT JOIN bts.parameter AS p USING (parameter_id)
GROUP BY w.days, f.parameter_id, p.name, f.stretch, f.model_version_id, f.kind;
COMMENT ON VIEW bts.interval_coverage IS
    'share of actuals within the 80 % and 90 % interval, per parameter, quarter of the horizon and kind of batch, over 1, 7 and 28 scored days';

CREATE VIEW bts.stretch_accuracy AS
SELECT w.days, f.stretch, f.parameter_id, p.name AS parameter, p.unit, f.candidate, f.role, f.kind,
       count(DISTINCT f.batch_id) AS nights,
       sum(f.targets)::bigint AS targets,
       sum(f.absolute_error) / sum(f.targets) AS mae,
       sum(f.scaled_error) / nullif(sum(f.scaled_targets), 0) AS mase,
       sum(f.error) / sum(f.targets) AS bias,
       sum(f.inside80)::double precision / sum(f.targets) AS coverage80,
       sum(f.inside90)::double precision / sum(f.targets) AS coverage90
FROM (VALUES (1), (7), (28)) AS w (days)
JOIN bts.scored_parameter AS f
    ON f.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - w.days * interval '1 day'
LEFT JOIN bts.parameter AS p USING (parameter_id)
GROUP BY w.days, f.stretch, f.parameter_id, p.name, p.unit, f.candidate, f.role, f.kind;
COMMENT ON VIEW bts.stretch_accuracy IS
    'per parameter and quarter of the horizon, what the forecasts of the last 1, 7 and 28 scored days were worth, beside the baselines and challengers in shadow';

CREATE VIEW bts.nightly_accuracy AS
SELECT f.issued_at, f.batch_id, f.kind, f.parameter_id, p.name AS parameter, p.unit, f.candidate, f.role,
       max(f.series)::bigint AS series,
       sum(f.targets)::bigint AS targets,
       sum(f.absolute_error) / sum(f.targets) AS mae,
       sum(f.scaled_error) / nullif(sum(f.scaled_targets), 0) AS mase,
       sum(f.error) / sum(f.targets) AS bias,
       sum(f.inside80)::double precision / sum(f.targets) AS coverage80,
       sum(f.inside90)::double precision / sum(f.targets) AS coverage90
FROM bts.scored_parameter AS f
LEFT JOIN bts.parameter AS p USING (parameter_id)
GROUP BY f.issued_at, f.batch_id, f.kind, f.parameter_id, p.name, p.unit, f.candidate, f.role;
COMMENT ON VIEW bts.nightly_accuracy IS
    'per night and parameter, what the forecasts were worth, beside the baselines and challengers in shadow';

CREATE VIEW bts.hourly_accuracy AS
SELECT w.days, h.hour, h.parameter_id, p.name AS parameter, p.unit, h.candidate, n.role, n.kind,
       count(DISTINCT h.batch_id) AS nights,
       sum(h.targets)::bigint AS targets,
       sum(h.absolute_error) / sum(h.targets) AS mae,
       sum(h.scaled_error) / nullif(sum(h.scaled_targets), 0) AS mase,
       sum(h.error) / sum(h.targets) AS bias,
       sum(h.inside80)::double precision / sum(h.targets) AS coverage80,
       sum(h.inside90)::double precision / sum(h.targets) AS coverage90
FROM (VALUES (1), (7), (28)) AS w (days)
JOIN bts.scored_night AS n
    ON n.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - w.days * interval '1 day'
JOIN bts.hourly_score AS h USING (batch_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
GROUP BY w.days, h.hour, h.parameter_id, p.name, p.unit, h.candidate, n.role, n.kind;
COMMENT ON VIEW bts.hourly_accuracy IS
    'per parameter and hour of the day (UTC), what the forecasts of the last 1, 7 and 28 scored days were worth';

-- Not in order of MASE: it is largest where a series hardly moved in its history and then did, whoever forecasts it.
CREATE VIEW bts.worst_series AS
WITH summed AS (
    SELECT f.station_id, f.parameter_id, f.kind, f.candidate, sum(f.targets) AS targets,
           sum(f.absolute_error) AS absolute_error,
           sum(f.absolute_error / f.scale) FILTER (WHERE f.scale > 0)
               / nullif(sum(f.targets) FILTER (WHERE f.scale > 0), 0) AS mase,
           sum(f.inside80)::double precision / nullif(sum(f.targets), 0) AS coverage80
    FROM bts.scored_forecast AS f
    JOIN bts.scored_kind AS k ON k.days = 7 AND k.kind = f.kind
    WHERE f.role = 'served' AND f.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - interval '7 days'
    GROUP BY f.station_id, f.parameter_id, f.kind, f.candidate
), beside AS (
    SELECT station_id, parameter_id,
           (array_agg(candidate ORDER BY absolute_error / nullif(targets, 0), candidate))[1] AS best_baseline,
           min(absolute_error / nullif(targets, 0)) AS best_baseline_mae,
           max(absolute_error) FILTER (WHERE candidate = 'last_value') AS of_last_value
    FROM summed WHERE candidate <> 'served' GROUP BY station_id, parameter_id
)
SELECT f.station_id, s.name AS station, f.parameter_id, p.name AS parameter, p.unit,
       f.targets,
       f.absolute_error / nullif(f.targets, 0) AS mae,
       f.mase,
       -- How much worse than holding the last value; more than 1 is an alarm.
       f.absolute_error / nullif(b.of_last_value, 0) AS ratio_to_last_value,
       f.coverage80,
       f.kind,
       b.best_baseline,
       b.best_baseline_mae,
       f.absolute_error / nullif(f.targets, 0) / nullif(b.best_baseline_mae, 0) AS ratio_to_best_baseline
FROM summed AS f
LEFT JOIN beside AS b USING (station_id, parameter_id)
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id)
WHERE f.candidate = 'served'
ORDER BY ratio_to_best_baseline DESC NULLS LAST;
COMMENT ON VIEW bts.worst_series IS
    'every series over the last 7 scored days, first the one whose error is the largest multiple of the error of its best baseline, of the kind that bts.scored_kind names';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.scored_night, bts.scored_kind, bts.scored_forecast, bts.scored_parameter,
            bts.forecast_accuracy, bts.interval_coverage, bts.stretch_accuracy, bts.nightly_accuracy, bts.hourly_accuracy, bts.worst_series TO bts_reader;
    END IF;
END
$$;
