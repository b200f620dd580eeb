"""What is past its retention, and deleting it: the SQL half. When that is, and files, are the services' business."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final

import sqlalchemy as sa

from bts_assets.contracts.grid import DAY
from bts_assets.storage import tables
from bts_assets.storage.crash_points import crash_point


@dataclass(frozen=True)
class OldBatch:
    """A batch whose forecasts are to go. rows: series x steps."""

    batch_id: int
    issued_at: datetime
    rows: int


@dataclass(frozen=True)
class OldDay:
    """A UTC day whose observations are to go."""

    day: date
    observations: int


def serving_origin(connection: sa.Connection) -> datetime | None:
    """The origin of the batch that serves."""
    origin: datetime | None = connection.scalar(sa.text("SELECT issued_at FROM bts.latest_batch"))
    return origin


def old_batches(connection: sa.Connection, before: datetime) -> list[OldBatch]:
    """Batches of origins before an instant, oldest first; none that serves, or that a probation which runs needs.

    A rollback needs none of them: it forecasts the origin that serves.
    """
    return [OldBatch(*row) for row in connection.execute(_OLD_BATCHES, {"before": before})]


_OLD_BATCHES: Final = sa.text("""
    SELECT batch_id, issued_at, (forecast + fallback) * horizon_steps AS rows FROM bts.batch AS b
    WHERE pruned_at IS NULL AND issued_at < :before
      AND batch_id IS DISTINCT FROM (SELECT batch_id FROM bts.latest_batch)
      AND NOT EXISTS (
          SELECT FROM bts.probation_night AS n JOIN bts.probation AS p USING (probation_id)
          WHERE p.ended_at IS NULL AND b.batch_id IN (n.batch_id, n.shadow_batch_id))
    ORDER BY issued_at, batch_id
""")


def delete_forecasts(connection: sa.Connection, batch_id: int) -> None:
    """Delete a batch's forecasts and its recalibration, and say so in its row; its ledger stays.

    The caller holds `LOCK_PUBLISH`.
    """
    b = tables.batch.c
    for table in (tables.forecast_series, tables.recalibration):
        connection.execute(sa.delete(table).where(table.c.batch_id == batch_id))
    crash_point("retention.after_forecasts")
    connection.execute(
        sa.update(tables.batch).where(b.batch_id == batch_id).values(pruned_at=sa.func.clock_timestamp())
    )


def old_days(connection: sa.Connection, before: date) -> list[OldDay]:
    """UTC days before `before` that were observed and not pruned yet, ascending."""
    return [OldDay(*row) for row in connection.execute(_OLD_DAYS, {"before": before})]


_OLD_DAYS: Final = sa.text("""
    SELECT DISTINCT ON (day) day, observations FROM bts.observed_day
    WHERE day < :before AND day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')
    ORDER BY day, ledger_seq DESC
""")


def delete_day(connection: sa.Connection, day: date) -> None:
    """Delete a day's observations and log it; from then on it is never due. The caller holds `LOCK_INGEST`.

    The newest observation of a series stays: it says when a series that fell silent was last heard of.
    """
    start = datetime.combine(day, time(), UTC)
    span = {"start": start, "end": start + DAY}
    gone = sum(connection.execute(statement, span).scalar_one() for statement in (_DELETE_BLOCKS, _KEEP_NEWEST))
    crash_point("retention.after_blocks")
    connection.execute(_DELETE_STEPS, span)
    connection.execute(sa.delete(tables.observed_station).where(tables.observed_station.c.day <= day))
    connection.execute(sa.insert(tables.pruning).values(day=day, observations=gone))


_DELETE_BLOCKS: Final = sa.text("""
    WITH gone AS (
        DELETE FROM bts.observation_block AS o WHERE starts_at >= :start AND starts_at < :end
          AND EXISTS (SELECT FROM bts.observation_block AS later
                      WHERE later.station_id = o.station_id AND later.parameter_id = o.parameter_id
                        AND later.starts_at > o.starts_at)
        RETURNING cardinality(array_remove(values, NULL)) AS observations
    )
    SELECT coalesce(sum(observations), 0)::bigint FROM gone
""")
#: What is left of the day are blocks that hold the newest observation of their series.
_KEEP_NEWEST: Final = sa.text("""
    WITH newest AS (
        SELECT o.station_id, o.parameter_id, o.starts_at, cardinality(array_remove(o.values, NULL)) - 1 AS others,
               (SELECT max(step) FROM generate_subscripts(o.values, 1) AS step WHERE o.values[step] IS NOT NULL) AS step
        FROM bts.observation_block AS o WHERE starts_at >= :start AND starts_at < :end
    ), kept AS (
        UPDATE bts.observation_block AS o
        SET values = array_fill(NULL::float8, ARRAY[n.step - 1]) || o.values[n.step]
                || array_fill(NULL::float8, ARRAY[cardinality(o.values) - n.step]),
            readings = ARRAY[o.readings[least(n.step, cardinality(o.readings))]]
        FROM newest AS n
        WHERE (o.station_id, o.parameter_id, o.starts_at) = (n.station_id, n.parameter_id, n.starts_at) AND n.others > 0
        RETURNING n.others
    )
    SELECT coalesce(sum(others), 0)::bigint FROM kept
""")
_DELETE_STEPS: Final = sa.text("""
    DELETE FROM bts.observed_step AS s WHERE starts_at >= :start AND starts_at < :end
      AND NOT EXISTS (SELECT FROM bts.observation_block AS o WHERE o.starts_at = s.starts_at)
""")


def unneeded_readings(connection: sa.Connection, before: date, going: Sequence[int]) -> list[str]:
    """Digests of landing files whose readings nothing needs, once the batches `going` and days before `before` went.

    Needed are those of a day that is kept, of the input of a batch that is kept, and of the training of its versions:
    every batch that is kept can be made again.
    """
    given = {"before": datetime.combine(before, time(), UTC), "going": list(going)}
    return list(connection.execute(_UNNEEDED, given).scalars())


_UNNEEDED: Final = sa.text("""
    WITH kept AS (
        SELECT * FROM bts.batch WHERE pruned_at IS NULL AND batch_id <> ALL(CAST(:going AS bigint[]))
    ), spans AS (
        SELECT DISTINCT input_start AS since, issued_at AS until, input_ledger_seq AS seq FROM kept
        UNION
        SELECT training_start, training_end, training_ledger_seq FROM bts.model_version
        WHERE model_version_id IN (
            SELECT model_version_id FROM kept UNION SELECT canary_version_id FROM kept
            UNION (SELECT model_version_id FROM bts.champion ORDER BY champion_seq DESC LIMIT 1))
    )
    SELECT digest::text FROM bts.landing_file AS f WHERE status <> 'refused'
    GROUP BY digest
    HAVING bool_and(last_reading_at < :before AND NOT EXISTS (
        -- Whole UTC days are computed, also those that a span begins or ends in.
        SELECT FROM spans WHERE first_reading_at < date_trunc('day', until, 'UTC') + interval '1 day'
            AND last_reading_at >= date_trunc('day', since, 'UTC')
            AND ledger_seq <= seq AND (superseded_by IS NULL OR superseded_by > seq)))
    ORDER BY 1
""")


def mark_readings_pruned(connection: sa.Connection, digests: Sequence[str]) -> None:
    """Say in the ingest ledger that the readings of some contents are gone for good. The caller holds `LOCK_INGEST`."""
    f = tables.landing_file.c
    mine = sa.update(tables.landing_file).where(f.digest == sa.func.any(sa.cast(list(digests), sa.ARRAY(sa.CHAR(64)))))
    connection.execute(mine.where(f.pruned_at.is_(None)).values(pruned_at=sa.func.clock_timestamp()))


def bytes_of_rows(connection: sa.Connection, forecast_rows: int, observations: int) -> tuple[int, int]:
    """About what so many forecast rows and observations take on disk, by their share of what is stored."""
    sizes = connection.execute(_SIZES).one()
    return (
        forecast_rows * int(sizes.forecast_bytes) // max(int(sizes.forecast_rows), 1),
        observations * int(sizes.observation_bytes) // max(int(sizes.observations), 1),
    )


_SIZES: Final = sa.text("""
    SELECT pg_total_relation_size('bts.forecast_series') AS forecast_bytes,
           pg_total_relation_size('bts.observation_block') AS observation_bytes,
           (SELECT coalesce(sum((forecast + fallback) * horizon_steps), 0) FROM bts.batch WHERE pruned_at IS NULL)
               AS forecast_rows,
           (SELECT coalesce(sum(observations), 0) FROM (
               SELECT DISTINCT ON (day) observations FROM bts.observed_day
               WHERE day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')
               ORDER BY day, ledger_seq DESC) AS newest) AS observations
""")


def free_space(engine: sa.Engine) -> None:
    """Let the next night's rows take the place of those that were deleted, without waiting for autovacuum.

    A table that another session holds is left to it.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (SKIP_LOCKED) bts.forecast_series, bts.observation_block")
