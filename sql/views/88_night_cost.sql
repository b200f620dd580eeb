-- What a batch cost, by stage of the run that made it, and whether it was ready by BTS_READY_BY of its day.
CREATE VIEW bts.night_cost AS
SELECT b.batch_id, b.issued_at, p.published_at, due.due_at, p.published_at <= due.due_at AS ready_in_time, n.stage,
       n.started_at, n.wall_seconds, n.cpu_seconds, n.peak_bytes, n.rows, n.bytes, b.series,
       1000 * n.wall_seconds / nullif(b.series, 0) AS wall_seconds_per_1000_series,
       1000 * n.cpu_seconds / nullif(b.series, 0) AS cpu_seconds_per_1000_series, n.failed, n.run_id
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
JOIN (
    SELECT stage, started_at, wall_seconds, cpu_seconds, peak_bytes, rows, bytes, failed, run_id FROM bts.night_stage
    UNION ALL
    SELECT 'night', min(started_at), sum(wall_seconds), sum(cpu_seconds), max(peak_bytes), NULL, sum(bytes)::bigint,
           bool_or(failed), run_id
    FROM bts.night_stage GROUP BY run_id
) AS n ON n.run_id = b.dagster_run_id
WHERE p.published_at IS NOT NULL;
COMMENT ON VIEW bts.night_cost IS
    'what each batch cost, by stage and altogether (stage night): time, processor, memory, per 1,000 series; was it ready in time';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bts_reader') THEN
        GRANT SELECT ON bts.night_cost TO bts_reader;
    END IF;
END
$$;
