"""Power and cooling of stations at rest: the series that tell of them, and what was found of them by batch."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.storage.landing_tables import series
from bts_assets.storage.locks import LOCK_SCORE, transaction
from bts_assets.storage.monitoring_tables import station_battery, station_finding
from bts_assets.storage.observation_blocks import read_panel

#: Stations that are read at once, so that memory does not grow with the network.
_AT_ONCE = 20

#: parameter_id -> values (steps,), NaN where not observed.
StationSeries = dict[int, np.ndarray]


def station_series(
    connection: sa.Connection, grid: Grid, parameters: Sequence[int], start: datetime, end: datetime
) -> Iterator[tuple[int, StationSeries]]:
    """Every station that has any of some parameters, with those series on the grid within [start, end)."""
    s = series.c
    known: dict[int, list[tuple[int, int]]] = {}
    wanted = sa.select(s.station_id, s.parameter_id).where(s.parameter_id.in_(parameters)).order_by(s.station_id)
    for station, parameter in connection.execute(wanted):
        known.setdefault(station, []).append((station, parameter))
    stations = list(known)
    for first in range(0, len(stations), _AT_ONCE):
        asked = [pair for station in stations[first : first + _AT_ONCE] for pair in known[station]]
        panel = read_panel(connection, grid, start, end, asked)
        found: dict[int, StationSeries] = {}
        for station, parameter, values in zip(panel.station_id, panel.parameter_id, panel.values, strict=True):
            found.setdefault(int(station), {})[int(parameter)] = values
        yield from found.items()


def findings_by_kind(connection: sa.Connection, batch_id: int) -> dict[str, int]:
    """The number of findings of each kind at a batch's origin, by name."""
    c = station_finding.c
    counted = sa.select(c.kind, sa.func.count()).where(c.batch_id == batch_id).group_by(c.kind).order_by(c.kind)
    return {str(kind): int(count) for kind, count in connection.execute(counted)}


def replace_findings(
    engine: sa.Engine, batch_id: int, autonomy: list[dict[str, Any]], findings: list[dict[str, Any]]
) -> None:
    """Let these be what was found of stations at a batch's origin, whatever stood there."""
    with transaction(engine, LOCK_SCORE) as connection:
        for table, rows in ((station_battery, autonomy), (station_finding, findings)):
            connection.execute(sa.delete(table).where(table.c.batch_id == batch_id))
            if rows:
                connection.execute(sa.insert(table), [{"batch_id": batch_id, **row} for row in rows])
