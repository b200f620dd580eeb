-- What the operator's logs alarmed: of an alarm that several logs tell of, as the newest has it.
CREATE VIEW bts.operator_alarm AS
SELECT DISTINCT ON (a.station_id, a.alarm_kind, a.parameter_id, a.started_at, a.reported_id)
       a.reported_id, a.station_id, s.name AS station, a.alarm_kind, a.parameter_id, p.name AS parameter, p.unit, a.side,
       a.value, a.threshold, a.started_at, a.ended_at, a.until, a.alarm_seq, a.line
FROM bts.alarm AS a
JOIN bts.alarm_file AS f ON f.alarm_seq = a.alarm_seq AND f.superseded_by IS NULL
LEFT JOIN bts.station AS s ON s.station_id = a.station_id
LEFT JOIN bts.parameter AS p ON p.parameter_id = a.parameter_id
ORDER BY a.station_id, a.alarm_kind, a.parameter_id, a.started_at, a.reported_id, a.alarm_seq DESC, a.line DESC;
COMMENT ON VIEW bts.operator_alarm IS 'alarms of the operator''s logs, each once, with the limit that it passed';

CREATE VIEW bts.alarm_ledger AS
SELECT alarm_seq, path, digest, status, reason, bytes, rows, accepted, rejected, duplicate, rejected_by_reason, notes,
       first_at, last_at, taken_at, superseded_by, code_version
FROM bts.alarm_file;
COMMENT ON VIEW bts.alarm_ledger IS 'what became of every alarm log: accepted + rejected + duplicate = rows';

-- Forecasts of breaches by tenth of their probability: what happened should be what was expected.
CREATE VIEW bts.breach_reliability AS
SELECT w.days, c.truth, c.hours, c.bin, count(DISTINCT c.batch_id) AS nights, sum(c.sides) AS sides,
       sum(c.happened) AS happened, sum(c.expected) / sum(c.sides) AS probability,
       sum(c.happened)::double precision / sum(c.sides) AS share, sum(c.squared) AS squared
FROM (VALUES (1), (7), (28)) AS w (days)
JOIN bts.breach_score AS c ON true
JOIN bts.batch AS b ON b.batch_id = c.batch_id
    AND b.issued_at > (SELECT max(issued_at) FROM bts.batch JOIN bts.scored_batch USING (batch_id)) - w.days * interval '1 day'
WHERE c.batch_id IN (SELECT batch_id FROM bts.publication)
GROUP BY w.days, c.truth, c.hours, c.bin;
COMMENT ON VIEW bts.breach_reliability IS
    'forecasts of breaches over 1, 7 and 28 scored days, by tenth of the probability: how many there were, and how many happened';

-- Brier score, its reliability part (Murphy, 1973) and its skill over always saying how many are passed on average.
CREATE VIEW bts.breach_accuracy AS
SELECT r.days, r.truth, r.hours, max(r.nights) AS nights, sum(r.sides) AS sides, sum(r.happened) AS happened,
       sum(r.probability * r.sides) AS expected,
       sum(r.squared) / sum(r.sides) AS brier,
       sum(r.sides * (r.probability - r.share) ^ 2) / sum(r.sides) AS reliability,
       1 - sum(r.squared) / sum(r.sides)
           / nullif(sum(r.happened) / sum(r.sides) * (1 - sum(r.happened) / sum(r.sides)), 0) AS skill
FROM bts.breach_reliability AS r
GROUP BY r.days, r.truth, r.hours;
COMMENT ON VIEW bts.breach_accuracy IS
    'what forecasts of breaches were worth against observations and against the operator''s alarms; planned outages left out';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.operator_alarm, bts.alarm_ledger, bts.breach_reliability, bts.breach_accuracy TO bts_reader;
    END IF;
END
$$;
