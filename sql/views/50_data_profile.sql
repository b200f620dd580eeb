-- What the data of a night, or of a training, looked like. The data set of a batch or model version is the one with its
-- observations_digest; data_end is the origin of a night, or the end of training data.
CREATE VIEW bts.data_profile AS
SELECT d.data_start, d.data_end, d.ledger_seq, d.observations_digest::text,
       f.station_id, f.parameter_id,
       s.name AS station,
       p.name AS parameter,
       p.unit,
       f.readings, f.observations, f.missing_share,
       f.minimum, f.q05, f.q25, f.median, f.q75, f.q95, f.maximum, f.mean, f.sd,
       f.gaps, f.longest_gap, f.readings_per_step, f.most_readings,
       d.dataset_id
FROM bts.series_profile AS f
JOIN bts.dataset AS d USING (dataset_id)
LEFT JOIN bts.station AS s USING (station_id)
LEFT JOIN bts.parameter AS p USING (parameter_id);
COMMENT ON VIEW bts.data_profile IS
    'one row per series and data set: readings, missing share, ranges, distribution and gaps (steps), in the unit of the parameter';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.dataset, bts.data_profile TO bts_reader;
    END IF;
END
$$;
