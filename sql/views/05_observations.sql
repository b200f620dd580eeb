-- Every observation: one row per series and step that has readings. What is stored is one row per series and block of
-- steps (a day, of 288 steps at most), with the values as an array. The steps are a table, so that a query of some
-- instants reads their blocks and no others: no plan could find them by what an expression gives.
CREATE VIEW bts.observation AS
    SELECT b.station_id, b.parameter_id, s.observed_at,
           b.values[s.step] AS value,
           b.readings[least(s.step, cardinality(b.readings))] AS readings
    FROM bts.observed_step AS s JOIN bts.observation_block AS b USING (starts_at)
    WHERE b.values[s.step] IS NOT NULL;
COMMENT ON VIEW bts.observation IS
    'one row per series and step that has readings; times UTC, values in the unit of the parameter';
