-- What was rejected, why, how often, and how did such a row look? One row per reason, the most frequent first.
-- The counts are of every rejected row; the text is kept for the first rows of each file only (BTS_REJECTED_KEPT).
WITH counted AS (
    SELECT by_reason.reason, sum(by_reason.rows::bigint) AS rows, count(*) AS files
    FROM bts.ingest_ledger AS f
    CROSS JOIN LATERAL jsonb_each_text(f.rejected_by_reason) AS by_reason (reason, rows)
    GROUP BY by_reason.reason
)
SELECT counted.reason, counted.rows, counted.files,
       example.file AS example_file, example.line AS example_line, example.raw AS example
FROM counted
LEFT JOIN LATERAL (
    SELECT r.file, r.line, r.raw FROM bts.rejected_reading AS r
    WHERE r.reason = counted.reason ORDER BY r.taken_at DESC, r.ledger_seq, r.line LIMIT 1
) AS example ON true
ORDER BY counted.rows DESC, counted.reason;
