"""Power and cooling of stations at rest: the series that tell of them, and what was found of them by batch."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.storage.binary_copy import copy_out
from bts_assets.storage.monitoring_tables import station_battery, station_finding
from bts_assets.storage.postgres import LOCK_PUBLISH, transaction

#: Stations that are read at once, so that memory does not grow with the network.
_AT_ONCE = 20

#: parameter_id -> values (steps,), NaN where not observed.
StationSeries = dict[int, np.ndarray]


def station_series(
    connection: sa.Connection, grid: Grid, parameters: Sequence[int], start: datetime, end: datetime
) -> Iterator[tuple[int, StationSeries]]:
    """Every station that has any of some parameters, with those series on the grid within [start, end)."""
    wanted = ", ".join(str(int(p)) for p in parameters)
    known = copy_out(
        connection,
        f"SELECT DISTINCT station_id FROM bts.series WHERE parameter_id IN ({wanted}) ORDER BY 1",
        {"station_id": "int64"},
    )["station_id"]
    for first in range(0, len(known), _AT_ONCE):
        yield from _some_stations(connection, grid, known[first : first + _AT_ONCE].tolist(), wanted, start, end)


def _some_stations(
    connection: sa.Connection, grid: Grid, stations: list[int], wanted: str, start: datetime, end: datetime
) -> Iterator[tuple[int, StationSeries]]:
    rows = copy_out(
        connection,
        "SELECT station_id, parameter_id, observed_at, value FROM bts.observation"
        f" WHERE station_id IN ({', '.join(map(str, stations))}) AND parameter_id IN ({wanted})"
        f" AND observed_at >= '{start.isoformat()}' AND observed_at < '{end.isoformat()}'",
        {"station_id": "int64", "parameter_id": "int32", "observed_at": "time", "value": "float64"},
    )
    step = ((rows["observed_at"] - start) // grid.step).to_numpy()
    places = rows.groupby(["station_id", "parameter_id"], sort=True).indices
    found: dict[int, StationSeries] = {}
    for (station, parameter), index in places.items():
        values = np.full((end - start) // grid.step, np.nan)
        values[step[index]] = rows["value"].to_numpy()[index]
        found.setdefault(int(station), {})[int(parameter)] = values
    yield from found.items()


def replace_findings(
    engine: sa.Engine, batch_id: int, autonomy: list[dict[str, Any]], findings: list[dict[str, Any]]
) -> None:
    """Let these be what was found of stations at a batch's origin, whatever stood there."""
    with transaction(engine, LOCK_PUBLISH) as connection:
        for table, rows in ((station_battery, autonomy), (station_finding, findings)):
            connection.execute(sa.delete(table).where(table.c.batch_id == batch_id))
            if rows:
                connection.execute(sa.insert(table), [{"batch_id": batch_id, **row} for row in rows])
