-- Which version serves, which ask to, and why it was decided so.
CREATE VIEW bts.model_decision AS
SELECT d.decision_id, d.decided_at, d.model_version_id, m.registry_version, d.verdict, d.decided_by, d.reason,
       d.champion_version_id, d.evidence, m.mlflow_run_id, d.code_version, d.dagster_run_id,
       m.mlflow_experiment_id
FROM bts.decision AS d
JOIN bts.model_version AS m USING (model_version_id);
COMMENT ON VIEW bts.model_decision IS
    'every decision about a model version: promoted, refused, rolled back, probation; with the rules asked and their figures';

CREATE VIEW bts.version_status AS
SELECT m.model_version_id, m.registry_version,
       CASE WHEN m.model_version_id = serving.model_version_id THEN 'champion'
            WHEN running.share > 0 THEN 'canary'
            WHEN running.share = 0 THEN 'shadow'
            WHEN was.promoted_at IS NOT NULL THEN 'former champion'
            WHEN d.verdict IN ('refused', 'ended') THEN d.verdict
            ELSE 'challenger' END AS role,
       m.created_at AS trained_at, m.training_end, m.effort,
       (m.metrics -> 'served' ->> 'median_mase')::double precision AS median_mase,
       m.lstm_failure, m.truncated,
       d.verdict, d.decided_by, d.decided_at, d.reason,
       (SELECT count(DISTINCT p.batch_id) FROM bts.publication AS p JOIN bts.batch AS b USING (batch_id)
        WHERE m.model_version_id IN (b.model_version_id, b.canary_version_id)) AS batches,
       m.mlflow_run_id, m.mlflow_experiment_id
FROM bts.model_version AS m
LEFT JOIN LATERAL
    (SELECT * FROM bts.decision AS d WHERE d.model_version_id = m.model_version_id ORDER BY decision_id DESC LIMIT 1) AS d
    ON true
LEFT JOIN LATERAL
    (SELECT share FROM bts.probation AS p WHERE p.model_version_id = m.model_version_id AND ended_at IS NULL) AS running
    ON true
LEFT JOIN LATERAL
    (SELECT max(promoted_at) AS promoted_at FROM bts.champion AS c WHERE c.model_version_id = m.model_version_id) AS was
    ON true
-- The last champion entered for the grid of the version.
LEFT JOIN LATERAL
    (SELECT c.model_version_id FROM bts.champion AS c JOIN bts.model_version AS o USING (model_version_id)
     WHERE (o.step_seconds, o.context_seconds, o.horizon_seconds)
         = (m.step_seconds, m.context_seconds, m.horizon_seconds)
     ORDER BY champion_seq DESC LIMIT 1) AS serving
    ON true;
COMMENT ON VIEW bts.version_status IS
    'one row per model version: what it is now (champion, canary, shadow, former champion, refused, ended, challenger), and the last decision about it';

-- What versions differ in, a row per fact, so that any two can be laid side by side.
CREATE VIEW bts.version_fact AS
SELECT m.model_version_id, fact.topic, fact.name, fact.value
FROM bts.model_version AS m
CROSS JOIN LATERAL (
    SELECT 'data' AS topic, name, value
    FROM (VALUES ('training data from', to_char(m.training_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')),
                 ('training data until', to_char(m.training_end AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')),
                 ('length, hours', trunc(extract(epoch FROM m.training_end - m.training_start) / 3600)::text),
                 ('series', coalesce(m.training_series || ' drawn', 'all')),
                 ('landing files up to entry', m.training_ledger_seq::text),
                 ('digest of the observations', m.observations_digest::text),
                 ('digest of the catalogue', m.catalogue_digest::text)) AS data (name, value)
    UNION ALL
    SELECT 'training', name, value
    FROM (VALUES ('code', m.code_version), ('seconds', round(m.training_seconds)::text),
                 ('cut short', CASE WHEN m.truncated THEN 'yes' ELSE 'no' END),
                 ('LSTM', coalesce(m.lstm_failure, 'sound'))) AS training (name, value)
    UNION ALL
    SELECT 'setting', key, value FROM jsonb_each_text(m.settings)
    UNION ALL
    SELECT 'package', key, value FROM jsonb_each_text(m.packages)
    UNION ALL
    SELECT 'machine', key, value FROM jsonb_each_text(m.machine)
    UNION ALL
    SELECT 'backtest', candidate.key || '/' || figure.key, figure.value
    FROM jsonb_each(m.metrics) AS candidate, jsonb_each_text(candidate.value) AS figure
) AS fact;
COMMENT ON VIEW bts.version_fact IS
    'one row per model version and fact: data, training, settings, packages, machine, and backtest figures as candidate/figure';

-- What a challenger's nights beside the champion were worth: per series, over the targets that have come since. Of the
-- stations that the challenger served itself (canary) the champion made no forecast: they have no row.
-- fell: an observation is below an earlier one of the horizon; of a counter, that it was reset.
CREATE VIEW bts.probation_score AS
SELECT n.probation_id, p.model_version_id, b.model_version_id AS champion_version_id, b.issued_at,
       v.station_id, v.parameter_id, v.targets, v.mae, v.champion_mae, v.coverage80, v.champion_coverage80,
       n.batch_id, n.shadow_batch_id, v.spread, v.fell
FROM bts.probation_night AS n
JOIN bts.probation AS p USING (probation_id)
JOIN bts.batch AS b ON b.batch_id = n.batch_id
-- By night, so that plans read its two batches and no others.
CROSS JOIN LATERAL (
    SELECT f.station_id, f.parameter_id,
           count(*) AS targets,
           avg(abs(s.q50 - o.value)) AS mae,
           avg(abs(f.q50 - o.value)) AS champion_mae,
           avg((o.value BETWEEN s.q10 AND s.q90)::int) AS coverage80,
           avg((o.value BETWEEN f.q10 AND f.q90)::int) AS champion_coverage80,
           stddev_pop(o.value) AS spread,
           (array_agg(o.value ORDER BY o.observed_at DESC))[1] < max(o.value) AS fell
    FROM bts.forecast AS f
    JOIN bts.forecast_ledger AS l
        ON (l.batch_id, l.station_id, l.parameter_id) = (f.batch_id, f.station_id, f.parameter_id)
        AND l.model_version_id IS NULL
    JOIN bts.forecast AS s ON (s.station_id, s.parameter_id, s.step_ahead) = (f.station_id, f.parameter_id, f.step_ahead)
    JOIN bts.observation AS o
        ON (o.station_id, o.parameter_id, o.observed_at) = (f.station_id, f.parameter_id, f.target_at)
    WHERE f.batch_id = n.batch_id AND s.batch_id = n.shadow_batch_id AND o.observed_at >= b.issued_at
      AND o.observed_at < b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds)
    GROUP BY f.station_id, f.parameter_id
) AS v;
COMMENT ON VIEW bts.probation_score IS
    'one row per night and series of a probation: mean absolute error (in the unit of the parameter) of challenger and champion';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.model_decision, bts.version_status, bts.version_fact, bts.probation_score TO bts_reader;
    END IF;
END
$$;
