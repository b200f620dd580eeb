-- Which landing files came in, and what became of their rows? Per day of taking in; accepted + rejected + duplicate = rows,
-- always. A refused file (none of it is used), an unusable one (no row could be used) and a copy (its bytes were known by
-- another name) are counted apart.
SELECT (taken_at AT TIME ZONE 'UTC')::date AS day_utc,
       count(*) AS files,
       count(*) FILTER (WHERE status IN ('refused', 'unusable')) AS refused,
       count(*) FILTER (WHERE status = 'copy') AS copies,
       count(superseded_by) AS superseded,
       sum(rows) AS rows, sum(accepted) AS accepted, sum(rejected) AS rejected, sum(duplicate) AS duplicate,
       min(first_reading_at) AS first_reading_at, max(last_reading_at) AS last_reading_at,
       string_agg(path || ': ' || reason, ', ' ORDER BY path) FILTER (WHERE status IN ('refused', 'unusable')) AS why_refused
FROM bts.ingest_ledger
GROUP BY day_utc
ORDER BY day_utc DESC;
