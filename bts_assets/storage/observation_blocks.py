"""Observations as they rest: a row per series and block of steps, its values an array. It computes none.

A block is a day, or the longest part of one that divides it and has at most 288 steps, so that a row fits a page.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.storage.binary_copy import copy_in, copy_out, copy_out_in_blocks
from bts_assets.storage.crash_points import crash_point

_LONGEST: Final = 288

#: Neighbouring stations: the first and the last of them.
Stations = tuple[int, int]
#: Those, or a list of any.
SomeStations = Stations | list[int]
ALL_STATIONS: Final = (-(1 << 62), (1 << 63) - 1)

#: What was computed is loaded aside and compared: of a day that a late file changed a little, a little is written.
_LOAD: Final = """
    CREATE TEMPORARY TABLE loaded_block
        (station_id bigint, parameter_id integer, starts_at timestamptz, values float8[], readings integer[])
    ON COMMIT DROP
"""
# Compared as bytes: 0 and -0 are one number, and two observations.
_REMOVE_OTHERS: Final = """
    DELETE FROM bts.observation_block AS o
    WHERE starts_at >= :start AND starts_at < :end AND NOT EXISTS (
        SELECT FROM pg_temp.loaded_block AS n
        WHERE n.station_id = o.station_id AND n.parameter_id = o.parameter_id AND n.starts_at = o.starts_at
          AND record_image_eq(ROW(n.values, n.readings), ROW(array_replace(o.values, NULL, 'NaN'), o.readings)))
"""
_INSERT: Final = """
    INSERT INTO bts.observation_block (station_id, parameter_id, starts_at, values, readings)
    SELECT station_id, parameter_id, starts_at, array_replace(values, 'NaN', NULL), readings FROM pg_temp.loaded_block
    ON CONFLICT DO NOTHING
"""
_STEPS: Final = sa.text("""
    INSERT INTO bts.observed_step (observed_at, starts_at, step)
    SELECT starts_at + (step - 1) * CAST(:step AS interval), starts_at, step
    FROM (SELECT DISTINCT starts_at FROM pg_temp.loaded_block) AS blocks, generate_series(1, :steps) AS step
    ON CONFLICT DO NOTHING
""")


def steps_of_block(grid: Grid) -> int:
    """How many steps a row holds: the most of them up to 288 that divide a day."""
    return max(n for n in range(1, _LONGEST + 1) if grid.steps_per_day % n == 0)


def replace_blocks(
    connection: sa.Connection,
    rows: pd.DataFrame,
    grid: Grid,
    start: datetime,
    end: datetime,
    stations: SomeStations = ALL_STATIONS,
) -> None:
    """Let an `Observations` frame, in order of series and time, be all there is of some stations within the whole days
    [start, end).

    Blocks that stand there already and are the same are not written again.
    """
    connection.exec_driver_sql(_LOAD)
    for blocks in _blocks(rows, grid):
        copy_in(connection, "pg_temp.loaded_block", blocks)
    connection.execute(sa.text(_REMOVE_OTHERS + of_stations(stations)), {"start": start, "end": end})
    crash_point("observe.after_remove")
    connection.execute(_STEPS, {"step": grid.step, "steps": steps_of_block(grid)})
    connection.exec_driver_sql(_INSERT)
    connection.exec_driver_sql("DROP TABLE pg_temp.loaded_block")


def _blocks(rows: pd.DataFrame, grid: Grid) -> list[dict[str, np.ndarray]]:
    """The frame as columns of blocks: those whose values were made from equally many readings, and the others."""
    length, step_us = steps_of_block(grid), grid.step // timedelta(microseconds=1)
    index = rows["observed_at"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("M8[us]").view(np.int64) // step_us
    station, parameter = rows["station_id"].to_numpy(np.int64), rows["parameter_id"].to_numpy(np.int32)
    block = index // length
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (np.diff(station) != 0) | (np.diff(parameter) != 0) | (np.diff(block) != 0)
    first, row = np.flatnonzero(begins), np.cumsum(begins) - 1
    values = np.full((len(first), length), np.nan)
    readings = np.zeros((len(first), length), dtype=np.int32)
    values[row, index % length] = rows["value"].to_numpy(np.float64)
    readings[row, index % length] = counts = rows["readings"].to_numpy(np.int32)
    # As they were read they lie by series; what is read together is a day of them.
    order = np.lexsort((parameter[first], station[first], block[first]))
    columns = {
        "station_id": station[first],
        "parameter_id": parameter[first],
        "starts_at": (block[first] * length * step_us).view("M8[us]"),
        "values": values,
    }
    varying = np.zeros(len(first), dtype=bool)
    varying[row[counts != counts[first][row]]] = True
    parts = []
    for chosen, numbers in ((order[~varying[order]], counts[first][:, None]), (order[varying[order]], readings)):
        if len(chosen):
            parts.append({name: column[chosen] for name, column in columns.items()} | {"readings": numbers[chosen]})
    return parts


def read_panel(
    connection: sa.Connection,
    grid: Grid,
    start: datetime,
    end: datetime,
    series: Sequence[tuple[int, int]] | None = None,
    stations: Stations | None = None,
) -> Panel:
    """Every series known by `end` on the grid from `start`, or those of `series` (station_id, parameter_id) or of some
    `stations` among them; one that was silent since is all missing.

    Raises:
        ValueError: if start or end is off the grid.
    """
    first, last, length = grid.index(start), grid.index(end), steps_of_block(grid)
    if grid.instant(first) != start or grid.instant(last) != end:
        raise ValueError(f"{start} to {end} is off the {grid.step} grid")
    among = _among(series) + of_stations(stations)
    station_id, parameter_id = _known(connection, grid, end, among)
    find = _Rows(station_id, parameter_id)
    values = np.full((len(station_id), last - first), np.nan)
    step_us = grid.step // timedelta(microseconds=1)

    def take(blocks: dict[str, np.ndarray]) -> None:
        row, found = find(blocks["station_id"], blocks["parameter_id"])
        offset = blocks["starts_at"].astype(np.int64) // step_us - first
        for at in np.unique(offset[found]):
            of_block = found & (offset == at)
            begin, stop = max(at, 0), min(at + length, last - first)
            values[row[of_block], begin:stop] = blocks["values"][of_block, begin - at : stop - at]

    query = (
        "SELECT station_id, parameter_id, starts_at, array_replace(values, NULL, 'NaN') FROM bts.observation_block"
        f" WHERE starts_at >= '{_block_of(grid, start).isoformat()}' AND starts_at < '{end.isoformat()}'"
        f" {among}"
    )
    numbers = {"station_id": ("int64", 0), "parameter_id": ("int32", 0), "starts_at": ("time", 0)}
    copy_out_in_blocks(connection, query, {**numbers, "values": ("float64", length)}, take)
    return Panel(grid, station_id, parameter_id, end, values)


#: Arrays are counted as they rest: unfolded into rows, as the view has them, it took four times as long.
_READINGS: Final = """
    WITH cut AS (
        SELECT station_id, parameter_id, cardinality(readings) = 1 AS alike, readings[1] AS each,
               values[first:past] AS values, readings[first:past] AS readings
        FROM bts.observation_block AS o
        CROSS JOIN LATERAL (
            SELECT greatest(({start} - extract(epoch FROM starts_at)) / {seconds}, 0)::int + 1 AS first,
                   least(({end} - extract(epoch FROM starts_at)) / {seconds}, {length})::int AS past) AS span
        WHERE starts_at >= to_timestamp({block}) AND starts_at < to_timestamp({end}) {among}),
    counted AS (
        SELECT station_id, parameter_id, number.total, number.most FROM cut
        CROSS JOIN LATERAL (
            SELECT each * cardinality(array_remove(values, NULL))::bigint AS total, each AS most WHERE alike
            UNION ALL
            SELECT sum(n), max(n) FROM unnest(readings) AS n WHERE NOT alike) AS number
        WHERE number.total > 0)
    SELECT station_id, parameter_id, sum(total)::bigint, max(most)::integer FROM counted GROUP BY 1, 2
"""


def count_readings(
    connection: sa.Connection, grid: Grid, start: datetime, end: datetime, stations: Stations
) -> pd.DataFrame:
    """station_id, parameter_id, readings and most_readings (of one step) of what some stations have in [start, end)."""
    query = _READINGS.format(
        start=int(start.timestamp()),
        end=int(end.timestamp()),
        block=int(_block_of(grid, start).timestamp()),
        seconds=int(grid.step.total_seconds()),
        length=steps_of_block(grid),
        among=of_stations(stations),
    )
    columns = {"station_id": "int64", "parameter_id": "int32", "readings": "int64", "most_readings": "int32"}
    return copy_out(connection, query, columns)


class _Rows:
    """Finds the rows of series among known ones, which are in order of (station_id, parameter_id)."""

    def __init__(self, station_id: np.ndarray, parameter_id: np.ndarray) -> None:
        self._stations, self._parameters = np.unique(station_id), np.unique(parameter_id)
        self._codes, _ = self._coded(station_id, parameter_id)

    def __call__(self, station_id: np.ndarray, parameter_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows, and whether a series is known: the row of one that is not means nothing."""
        codes, known = self._coded(station_id, parameter_id)
        if not len(self._codes):
            return codes, np.zeros(len(codes), dtype=bool)
        row = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return row, known & (self._codes[row] == codes)

    def _coded(self, station_id: np.ndarray, parameter_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        station, of_station = _place(self._stations, station_id)
        parameter, of_parameter = _place(self._parameters, parameter_id)
        return station * max(len(self._parameters), 1) + parameter, of_station & of_parameter


def _place(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(known):
        return np.zeros(len(asked), dtype=np.int64), np.zeros(len(asked), dtype=bool)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return place, known[place] == asked


def _known(connection: sa.Connection, grid: Grid, end: datetime, among: str) -> tuple[np.ndarray, np.ndarray]:
    """station_id and parameter_id of the series with an observation before `end`, in their order."""
    query = f"SELECT station_id, parameter_id FROM bts.series AS s WHERE {_heard(grid, end)} {among} ORDER BY 1, 2"
    known = copy_out(connection, query, {"station_id": "int64", "parameter_id": "int32"})
    return known["station_id"].to_numpy(), known["parameter_id"].to_numpy()


def known_series(connection: sa.Connection, grid: Grid, end: datetime) -> tuple[np.ndarray, np.ndarray]:
    """station_id and parameter_id of the series with an observation before `end`, in their order."""
    return _known(connection, grid, end, "")


def station_parts(connection: sa.Connection, at_once: int) -> list[Stations]:
    """All stations in parts, ascending, of at most `at_once` series each where no single station has more."""
    query = "SELECT station_id, count(*) FROM bts.series GROUP BY station_id ORDER BY station_id"
    counted = copy_out(connection, query, {"station_id": "int64", "series": "int64"})
    return neighbours(zip(counted["station_id"].tolist(), counted["series"].tolist(), strict=True), at_once)


def neighbours(counted: Iterable[tuple[int, int]], at_once: int) -> list[Stations]:
    """Stations, ascending, each with how much it has, in parts of at most `at_once` where no single one has more."""
    parts: list[Stations] = []
    held = 0
    for station, count in counted:
        if parts and held + count <= at_once:
            parts[-1] = (parts[-1][0], station)
            held += count
        else:
            parts.append((station, station))
            held = count
    return parts


def of_stations(stations: SomeStations | None) -> str:
    """The SQL condition, after others, that a row is of some stations."""
    if isinstance(stations, list):
        return f" AND station_id = ANY('{{{','.join(map(str, map(int, stations)))}}}'::bigint[])"
    return "" if stations is None else f" AND station_id BETWEEN {int(stations[0])} AND {int(stations[1])}"


def count_known(connection: sa.Connection, grid: Grid, end: datetime, ledger_seq: int) -> int:
    """How many series have an observation before `end`, and were known by an entry of the ingest ledger."""
    query = f"SELECT count(*) FROM bts.series AS s WHERE first_ledger_seq <= {int(ledger_seq)} AND {_heard(grid, end)}"
    return int(connection.exec_driver_sql(query).scalar_one())


def first_heard(
    connection: sa.Connection, grid: Grid, start: datetime, end: datetime, count: int
) -> list[tuple[int, int]]:
    """(station_id, parameter_id): of each of `count` parameters the first station with observations in [start, end)."""
    given = {"start": _block_of(grid, start), "end": end, "count": count}
    return [(station, parameter) for station, parameter in connection.execute(_FIRST_HEARD, given)]


_FIRST_HEARD: Final = sa.text("""
    SELECT first.station_id, p.parameter_id FROM (SELECT DISTINCT parameter_id FROM bts.series) AS p
    CROSS JOIN LATERAL (
        SELECT station_id FROM bts.series AS s WHERE s.parameter_id = p.parameter_id
          AND (SELECT true FROM bts.observation_block AS o WHERE o.station_id = s.station_id
               AND o.parameter_id = s.parameter_id AND o.starts_at >= :start AND o.starts_at < :end LIMIT 1)
        ORDER BY station_id LIMIT 1) AS first
    ORDER BY p.parameter_id LIMIT :count
""")


def _heard(grid: Grid, end: datetime) -> str:
    """The SQL condition that series `s` has an observation before `end`."""
    block = _block_of(grid, end)
    before = f"o.starts_at < '{block.isoformat()}'"
    if block != end:
        begun = f"array_remove(o.values[1:{(end - block) // grid.step}], NULL) <> '{{}}'"
        before = f"({before} OR (o.starts_at = '{block.isoformat()}' AND {begun}))"
    # A scalar subquery is one look into the key per series; EXISTS may become a scan of all observations.
    return (
        "(SELECT true FROM bts.observation_block AS o"
        f" WHERE o.station_id = s.station_id AND o.parameter_id = s.parameter_id AND {before} LIMIT 1)"
    )


def _block_of(grid: Grid, instant: datetime) -> datetime:
    return grid.instant(grid.index(instant) // steps_of_block(grid) * steps_of_block(grid))


def _among(series: Sequence[tuple[int, int]] | None) -> str:
    if series is None:
        return ""
    stations, parameters = (",".join(str(int(pair[k])) for pair in series) for k in (0, 1))
    listed = f"unnest('{{{stations}}}'::bigint[], '{{{parameters}}}'::int[])"  # joined by hash, however many
    return f"AND (station_id, parameter_id) IN (SELECT * FROM {listed})" if series else "AND false"
