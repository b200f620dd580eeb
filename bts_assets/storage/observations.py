"""The SQL half of observations: which days are due, what stands in a span, days replaced. It computes none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.schemas import UTC_TIME
from bts_assets.storage import tables
from bts_assets.storage.binary_copy import copy_out
from bts_assets.storage.observation_blocks import ALL_STATIONS, SomeStations, Stations, replace_blocks
from bts_assets.storage.observation_blocks import read_panel as read_panel

_DUE: Final = sa.text("""
    WITH touched AS (
        SELECT unnest(days) AS day, greatest(ledger_seq, coalesce(superseded_by, 0)) AS ledger_seq
        FROM bts.landing_file WHERE status <> 'refused'
    ), computed AS (
        SELECT DISTINCT ON (day) day, ledger_seq, rule FROM bts.observed_day ORDER BY day, ledger_seq DESC
    )
    SELECT DISTINCT touched.day FROM touched LEFT JOIN computed USING (day)
    WHERE (computed.ledger_seq IS NULL OR touched.ledger_seq > computed.ledger_seq
           OR computed.rule IS DISTINCT FROM :rule)
      AND touched.day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')
    ORDER BY touched.day
""")

_FILES_OF_DAYS: Final = sa.text("""
    SELECT digest, min(days) AS days, max(accepted + duplicate) AS rows,
           coalesce(max(ledger_seq) FILTER (WHERE status = 'accepted'), min(ledger_seq)) AS entry
    FROM bts.landing_file
    WHERE status <> 'refused' AND days && CAST(:days AS date[])
      AND ledger_seq <= :ledger_seq AND (superseded_by IS NULL OR superseded_by > :ledger_seq)
      AND (:since = 0 OR digest IN (SELECT digest FROM bts.landing_file WHERE days && CAST(:days AS date[])
                                    AND (ledger_seq > :since OR superseded_by > :since)))
    GROUP BY digest ORDER BY digest
""")


def due_days(connection: sa.Connection, rule: str) -> list[date]:
    """UTC days that a ledger entry touched after they were last computed, or that were computed by another rule
    (`landing.series.rule_of`), ascending; none that was pruned.
    """
    return list(connection.execute(_DUE, {"rule": rule}).scalars())


def files_of(connection: sa.Connection, days: list[date], ledger_seq: int, since: int = 0) -> list[dict[str, Any]]:
    """The landing files with readings of some UTC days, as the ledger stood at an entry: digest, days, rows, and
    `entry`, the number under which the content counts; a copy of it moves nothing. Those alone of whose content the
    ledger says something after the entry `since`.
    """
    found = connection.execute(_FILES_OF_DAYS, {"days": days, "ledger_seq": ledger_seq, "since": since})
    return [dict(row) for row in found.mappings()]


def newest_ledger_seq(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.max(tables.landing_file.c.ledger_seq))) or 0)


@dataclass(frozen=True)
class ObservedSpan:
    """Where the bulk of the observations lies. end: what more than half of the series reach; heard_until: what a
    quarter of them reach. Both are ends of intervals of the grid.
    """

    start: datetime
    end: datetime
    heard_until: datetime


#: A day with less than this share of the mean day's observations holds strays: it neither begins nor ends the span.
_BULK_SHARE: Final = 0.1

_BULK: Final = sa.text("""
    WITH newest AS (
        SELECT DISTINCT ON (day) day, observations, first_observed_at FROM bts.observed_day
        WHERE day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')
        ORDER BY day, ledger_seq DESC
    ), bulk AS (
        SELECT min(day) AS first, max(day) AS last FROM newest
        WHERE observations > 0
          AND observations >= :share * (SELECT avg(observations) FROM newest WHERE observations > 0)
    )
    SELECT min(first_observed_at), (SELECT last FROM bulk) FROM newest WHERE day >= (SELECT first FROM bulk) - 1
""")
# By density, so that sensors that report seldom do not hold the end back, and strays do not move it.
_REACHED: Final = sa.text("""
    WITH series AS (
        SELECT max(observed_at) AS newest,
               count(*) / greatest(extract(epoch FROM max(observed_at) - min(observed_at)), 86400) AS density
        FROM bts.observation WHERE observed_at >= :start AND observed_at < :end GROUP BY station_id, parameter_id
    ), reached AS (
        SELECT newest, sum(density) OVER (ORDER BY newest DESC) / sum(density) OVER () AS share FROM series
    )
    SELECT max(newest) FILTER (WHERE share > 0.5), max(newest) FILTER (WHERE share > 0.25) FROM reached
""")


def observed_span(connection: sa.Connection, grid: Grid) -> ObservedSpan | None:
    """Where the observations begin and end, by what most series know; None: nothing was observed yet.

    A single row a year ahead or one station's fast clock moves neither end: the last day that holds a tenth of a mean
    day's observations is looked for, and around it the instant that more than half of the series reach, each weighed by
    how densely it is observed.
    """
    first, day = connection.execute(_BULK, {"share": _BULK_SHARE}).one()
    if first is None:
        return None
    around = {"start": _midnight(day) - DAY, "end": _midnight(day) + 2 * DAY}
    end, heard = connection.execute(_REACHED, around).one()
    return None if end is None else ObservedSpan(first, end + grid.step, heard + grid.step)


def observed_since(connection: sa.Connection) -> datetime | None:
    """Where the observations begin, as `observed_span` has it, by the log of days alone."""
    first, _ = connection.execute(_BULK, {"share": _BULK_SHARE}).one()
    return first


def first_observed(connection: sa.Connection, start: datetime, end: datetime) -> datetime:
    """The first instant within [start, end) that has an observation, by the log of days; `end` where none has."""
    found = connection.scalar(_FIRST, {"start": start, "end": end})
    return max(found, start) if found is not None else end


_FIRST: Final = sa.text("""
    SELECT min(first_observed_at)
    FROM (SELECT DISTINCT ON (day) * FROM bts.observed_day ORDER BY day, ledger_seq DESC) AS newest
    WHERE last_observed_at >= :start AND first_observed_at < :end
      AND day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity')
""")


@dataclass(frozen=True)
class MergedDay:
    """A day's readings that are used, and what became of others (`landing.duplicates.Resolved`)."""

    day: date
    readings: int
    repeated: int
    corrected: int
    contradicted: int
    ids_ignored: int

    @property
    def lost_share(self) -> float:
        """The share of readings that gave way to another one with their id; repetitions are not counted."""
        lost = self.corrected + self.contradicted
        return lost / max(self.readings + lost, 1)


def merged_days(connection: sa.Connection, since: datetime) -> list[MergedDay]:
    """What became of readings under one id, of the newest seven days observed and of those computed since an instant;
    ascending.
    """
    return [MergedDay(*row) for row in connection.execute(_MERGED_DAYS, {"since": since})]


_MERGED_DAYS: Final = sa.text("""
    SELECT day, readings, repeated, corrected, contradicted, ids_ignored
    FROM (SELECT DISTINCT ON (day) * FROM bts.observed_day ORDER BY day, ledger_seq DESC) AS newest
    WHERE computed_at >= :since OR day > (SELECT max(day) FROM bts.observed_day WHERE observations > 0) - 7
    ORDER BY day
""")


@dataclass(frozen=True)
class Ahead:
    """Observations that begin after an instant. stations: the first ten of those that have any."""

    observations: int
    series: int
    stations: list[int]
    until: datetime


def observed_ahead(connection: sa.Connection, grid: Grid, now: datetime) -> Ahead | None:
    """What was observed of the time after now, which nobody can know; None: nothing."""
    row = connection.execute(_AHEAD, {"now": now}).one()
    return Ahead(row.observations, row.series, row.stations[:10], row.newest + grid.step) if row.observations else None


_AHEAD: Final = sa.text("""
    SELECT sum(n)::bigint AS observations, count(*) AS series, max(newest) AS newest,
           array_agg(DISTINCT station_id ORDER BY station_id) AS stations
    FROM (SELECT station_id, count(*) AS n, max(observed_at) AS newest FROM bts.observation
          WHERE observed_at > :now GROUP BY station_id, parameter_id) AS ahead
""")


def count_series(connection: sa.Connection) -> int:
    """How many series were ever observed."""
    return int(connection.scalar(sa.text("SELECT count(*) FROM bts.series")) or 0)


@dataclass(frozen=True)
class ObservedTotals:
    """All computed days together: their number, their observations, and a digest of their digests."""

    days: int
    observations: int
    digest: str


def observed_totals(connection: sa.Connection) -> ObservedTotals:
    row = connection.execute(_TOTALS).one()
    return ObservedTotals(int(row.days), int(row.observations), row.digest)


_TOTALS: Final = sa.text("""
    SELECT coalesce(sum(observations), 0) AS observations, count(*) AS days,
           encode(sha256(convert_to(coalesce(string_agg(digest, ',' ORDER BY day), ''), 'UTF8')), 'hex') AS digest
    FROM (SELECT DISTINCT ON (day) day, observations, digest FROM bts.observed_day
          ORDER BY day, ledger_seq DESC) AS newest
""")


def read_observations(
    connection: sa.Connection, start: datetime, end: datetime, stations: Stations = ALL_STATIONS
) -> pd.DataFrame:
    """The `Observations` rows within [start, end), of stations from one to another."""
    query = (
        "SELECT station_id, parameter_id, observed_at, value, readings FROM bts.observation"
        f" WHERE observed_at >= '{start.isoformat()}' AND observed_at < '{end.isoformat()}'"
        f" AND station_id BETWEEN {stations[0]:d} AND {stations[1]:d}"
    )
    columns = {"station_id": "int64", "parameter_id": "int32", "observed_at": "time", "value": "float64"}
    return copy_out(connection, query, columns | {"readings": "int32"})


def last_heard(
    connection: sa.Connection, station_id: np.ndarray, parameter_id: np.ndarray, before: datetime
) -> pd.DataFrame:
    """station_id, parameter_id and last_observed_at, the newest observation before an instant, of some series (n,)."""
    given = {"before": before, "stations": station_id.tolist(), "parameters": parameter_id.tolist()}
    heard = list(connection.execute(_LAST_HEARD, given).scalars()) if len(station_id) else []
    names = {"station_id": station_id, "parameter_id": parameter_id}
    return pd.DataFrame(names | {"last_observed_at": pd.Series(heard, dtype=UTC_TIME)})


# The newest block with an observation before the instant, found by the key backwards, and the newest such step in it.
_LAST_HEARD: Final = sa.text("""
    SELECT (
        SELECT o.starts_at + (heard.step - 1) * width FROM bts.observation_block AS o
        CROSS JOIN LATERAL (
            SELECT max(step) AS step FROM generate_subscripts(o.values, 1) AS step
            WHERE o.values[step] IS NOT NULL AND o.starts_at + (step - 1) * width < :before
        ) AS heard
        WHERE o.station_id = s AND o.parameter_id = p AND o.starts_at < :before AND heard.step IS NOT NULL
        ORDER BY o.starts_at DESC LIMIT 1)
    FROM unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[])) WITH ORDINALITY AS silent (s, p, n)
    CROSS JOIN (SELECT make_interval(secs => step_seconds) AS width FROM bts.installation) AS grid
    ORDER BY n
""")


def replace_days(
    connection: sa.Connection,
    grid: Grid,
    rows: pd.DataFrame,
    days: Sequence[date],
    ledger_seq: int,
    stations: SomeStations = ALL_STATIONS,
) -> None:
    """Let the observations of some stations stand for what was there of these neighbouring days."""
    replace_blocks(connection, rows, grid, _midnight(days[0]), _midnight(days[-1]) + DAY, stations)
    known = sa.text(
        "INSERT INTO bts.series (station_id, parameter_id, first_ledger_seq)"
        " SELECT s, p, :ledger_seq FROM unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[])) AS new (s, p)"
        " ON CONFLICT DO NOTHING"
    )
    series = rows[["station_id", "parameter_id"]].drop_duplicates()
    connection.execute(
        known,
        {
            "ledger_seq": ledger_seq,
            "stations": series["station_id"].tolist(),
            "parameters": series["parameter_id"].tolist(),
        },
    )


def midnight_of(day: date) -> datetime:
    """The start of a UTC day, as days of observations are."""
    return datetime.combine(day, time(), UTC)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
