-- What each stage of each run cost, and of which night: of a backfill of several nights each has its own. What a run
-- does once for all its nights is with the newest.
CREATE VIEW bts.run_cost AS
SELECT p.issued_at, p.run_id, p.stage, p.started_at, p.wall_seconds, p.cpu_seconds, p.peak_bytes, p.rows, p.bytes, p.failed
FROM bts.night_part AS p
UNION ALL
SELECT r.newest, s.run_id, s.stage, s.started_at, s.wall_seconds, s.cpu_seconds, s.peak_bytes, s.rows, s.bytes, s.failed
FROM bts.night_stage AS s
LEFT JOIN (
    SELECT run_id, max(issued_at) AS newest
    FROM (SELECT run_id, issued_at FROM bts.night_part
          UNION ALL SELECT dagster_run_id, issued_at FROM bts.batch) AS n (run_id, issued_at) GROUP BY run_id
) AS r ON r.run_id = s.run_id
WHERE NOT EXISTS (SELECT FROM bts.night_part AS p WHERE p.run_id = s.run_id AND p.stage = s.stage);
COMMENT ON VIEW bts.run_cost IS
    'what each stage of each run cost, by night, whether the run made a batch of it or found one; issued_at null: a run without a night';

-- What a batch cost, by stage of the run that made it, and whether it was ready by BTS_READY_BY of its day.
CREATE VIEW bts.night_cost AS
SELECT b.batch_id, b.issued_at, p.published_at, due.due_at, p.published_at <= due.due_at AS ready_in_time, n.stage,
       n.started_at, n.wall_seconds, n.cpu_seconds, n.peak_bytes, n.rows, n.bytes, b.series,
       1000 * n.wall_seconds / nullif(b.series, 0) AS wall_seconds_per_1000_series,
       1000 * n.cpu_seconds / nullif(b.series, 0) AS cpu_seconds_per_1000_series, n.failed, n.run_id, b.kind
FROM bts.batch AS b
CROSS JOIN LATERAL
    (SELECT min(published_at) AS published_at FROM bts.publication AS o WHERE o.batch_id = b.batch_id) AS p
CROSS JOIN LATERAL
    (SELECT b.settings ->> 'BTS_TIMEZONE' AS zone, (b.settings ->> 'BTS_READY_BY')::time AS ready_by) AS s
CROSS JOIN LATERAL (
    SELECT ((b.issued_at AT TIME ZONE s.zone)::date + s.ready_by
            + CASE WHEN (b.issued_at AT TIME ZONE s.zone)::time > s.ready_by THEN interval '1 day' ELSE interval '0' END
           ) AT TIME ZONE s.zone AS due_at
) AS due
CROSS JOIN LATERAL (
    SELECT stage, started_at, wall_seconds, cpu_seconds, peak_bytes, rows, bytes, failed, run_id
    FROM bts.run_cost WHERE run_id = b.dagster_run_id AND issued_at = b.issued_at
    UNION ALL
    SELECT 'night', min(started_at), sum(wall_seconds), sum(cpu_seconds), max(peak_bytes), NULL, sum(bytes)::bigint,
           bool_or(failed), run_id
    FROM bts.run_cost WHERE run_id = b.dagster_run_id AND issued_at = b.issued_at GROUP BY run_id
) AS n
WHERE p.published_at IS NOT NULL;
COMMENT ON VIEW bts.night_cost IS
    'what each batch cost, by stage and altogether (stage night): time, processor, memory, per 1,000 series; was it ready in time';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.run_cost, bts.night_cost TO bts_reader;
    END IF;
END
$$;
