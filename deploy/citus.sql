-- Tables by station over the nodes of a Citus cluster: what grows with stations is cut by station_id, what they refer
-- to is on every node, and all else stays with the coordinator. To be run once, as bts_owner, on a schema of this
-- version, with the coordinator added as a node (citus_set_coordinator_host). Not tried on Citus: there was none here. A
-- test holds these statements against Citus' rules: keys contain station_id, and foreign keys lead to reference tables.
-- docs/scale.md says what Citus does not keep of what readers are promised.

SELECT create_reference_table('bts.model_version');
SELECT create_reference_table('bts.batch');
SELECT create_reference_table('bts.scored_batch');
SELECT create_reference_table('bts.dataset');
SELECT create_reference_table('bts.drift_night');

SELECT create_distributed_table('bts.station', 'station_id');
SELECT create_distributed_table('bts.series', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.station_limit', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.observation_block', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.series_profile', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.forecast_series', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.forecast_ledger', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.recalibration', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.breach_forecast', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.station_battery', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.station_finding', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.forecast_score', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.training_snapshot', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.drift_figure', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.drift_evidence', 'station_id', colocate_with => 'bts.station');
SELECT create_distributed_table('bts.found_fault', 'station_id', colocate_with => 'bts.station');
