-- A first look at the forecasts, in SQL:    psql "$(.venv/bin/bts url)" --file examples/first_look.sql

-- Which batch serves, and is it current?
SELECT batch_id, issued_at, state, series, forecast, fallback, excluded FROM bts.latest_batch;

-- The latest forecasts, with their series' names: the next six steps of each.
SELECT s.station, s.parameter, f.target_at, f.q10, f.q50, f.q90
FROM bts.latest_forecast AS f
JOIN bts.series_status AS s USING (station_id, parameter_id)
WHERE f.step_ahead < 6
ORDER BY f.station_id, f.parameter_id, f.target_at;

-- The same beside what was observed; both times name the start of the interval. Null: still to come.
SELECT f.station_id, f.parameter_id, f.target_at, f.q50, o.value
FROM bts.latest_forecast AS f
LEFT JOIN bts.observation AS o
  ON o.station_id = f.station_id AND o.parameter_id = f.parameter_id AND o.observed_at = f.target_at
ORDER BY f.station_id, f.parameter_id, f.target_at;

-- The newest day of one series, to plot before its forecast.
SELECT observed_at, value
FROM bts.observation
JOIN (SELECT station_id, parameter_id FROM bts.latest_forecast ORDER BY 1, 2 LIMIT 1) AS one USING (station_id, parameter_id)
WHERE observed_at >= (SELECT issued_at FROM bts.latest_batch) - interval '1 day'
ORDER BY observed_at;

-- What made a row: model version, MLflow run, landing files, code and Dagster run.
SELECT l.model_version_id, l.mlflow_run_id, cardinality(l.input_file_names) AS landing_files, l.input_file_names[1] AS first_file,
       l.code_version, l.dagster_run_id
FROM bts.forecast_lineage AS l
JOIN (
    SELECT batch_id, station_id, parameter_id FROM bts.latest_forecast
    ORDER BY station_id, parameter_id, step_ahead LIMIT 1
) AS one USING (batch_id, station_id, parameter_id);
