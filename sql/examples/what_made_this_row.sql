-- What made this forecast row? From one row to the batch, the model version and its MLflow run, the landing files behind
-- the training and behind the input (SHA-256 each), the code and the Dagster run.
-- batch_id, station_id and parameter_id stand in every forecast row; here they are those of the first row that serves.
WITH this_row AS (
    SELECT batch_id, station_id, parameter_id FROM bts.latest_forecast
    ORDER BY station_id, parameter_id, step_ahead LIMIT 1
)
SELECT l.batch_id, l.station_id, l.parameter_id, l.issued_at, l.published_at, l.status, l.source, l.components,
       l.model_version_id, l.bundle_digest, l.mlflow_run_id, l.mlflow_model_uri, l.registry_version,
       l.training_start, l.training_end, l.training_files,
       l.input_start, l.input_files, l.observations_digest,
       l.code_version, l.dagster_run_id, l.settings
FROM bts.forecast_lineage AS l
JOIN this_row USING (batch_id, station_id, parameter_id);
