-- What became of every landing file, and of every row that was not taken.
CREATE VIEW bts.ingest_ledger AS
SELECT ledger_seq, path, digest::text, status, reason, bytes, rows, accepted, rejected, duplicate, rejected_by_reason,
       first_reading_at, last_reading_at, taken_at, superseded_by, code_version, dagster_run_id, dialect
FROM bts.landing_file;
COMMENT ON VIEW bts.ingest_ledger IS 'one row per landing file and content; accepted + rejected + duplicate = rows';

CREATE VIEW bts.rejected_reading AS
SELECT f.path AS file, r.line, r.raw, r.reason, r.ledger_seq, f.taken_at
FROM bts.landing_rejection AS r
JOIN bts.landing_file AS f USING (ledger_seq);
COMMENT ON VIEW bts.rejected_reading IS
    'rejected rows with file and line, the first BTS_REJECTED_KEPT of each file; all are counted by reason in bts.ingest_ledger';
