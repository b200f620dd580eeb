"""A stage of `benchmarks.stages`: one reader asks for the latest forecast of a series, time and again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pandas as pd
import sqlalchemy as sa

from benchmarks.own_home import own_home
from benchmarks.publishing import GRID
from benchmarks.serving import PARAMETERS, fill
from benchmarks.stage_figures import Figures, timed
from bts_assets.storage.embedded.roles import OWNER, READER
from bts_assets.storage.postgres import connect

#: Stations at growth 1, and batches that are stored of them.
STATIONS: Final = 1
_BATCHES: Final = 10
_READS: Final = 500
_ROWS: Final = "SELECT station_id, parameter_id, batch_id, target_at, q05, q10, q50, q90, q95 FROM weighed.rows"
_LATEST: Final = sa.text(
    "SELECT target_at, q05, q10, q50, q90, q95 FROM bts.latest_forecast"
    " WHERE station_id = :station AND parameter_id = :parameter ORDER BY target_at"
)
_RANGE: Final = sa.text(
    "SELECT target_at, q05, q10, q50, q90, q95 FROM weighed.rows"
    " WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter ORDER BY step_ahead"
)


def reading(role: str, growth: int) -> Figures:
    """Reads of 192 rows, over one connection; forecasts of ten nights are stored."""
    stations = STATIONS * growth
    grid = {"step": GRID.step, "context": GRID.context, "horizon": GRID.horizon}
    with own_home(lock_timeout=timedelta(minutes=5), **grid) as home:
        owner = connect(home.urls[OWNER], timedelta(minutes=5))
        batches = fill(home, owner, _BATCHES * stations * PARAMETERS * GRID.horizon_steps, stations, _BATCHES)
        owner.dispose()
        reader = connect(home.urls[READER], timedelta(minutes=5))
        ways: dict[str, Callable[[sa.Connection, int, int], int]] = {
            "ours": lambda connection, station, parameter: _read(connection, _LATEST, station, parameter),
            "instead": by_pandas,
            "limit": lambda connection, station, parameter: _read(connection, _RANGE, station, parameter, batches),
        }
        reads = 1 if role == "instead" else _READS
        with reader.connect() as connection:

            def read(count: int) -> None:
                for number in range(count):
                    rows = ways[role](connection, 1 + number % stations, number % PARAMETERS)
                    if rows != GRID.horizon_steps:
                        raise RuntimeError(f"{rows} rows were read")

            read(1)
            found = timed(reads, lambda: read(reads))
        reader.dispose()
    return found


def _read(connection: sa.Connection, query: sa.TextClause, station: int, parameter: int, batch: int = 0) -> int:
    given = {"station": station, "parameter": parameter} | ({"batch": batch} if batch else {})
    return len(connection.execute(query, given).all())


def by_pandas(connection: sa.Connection, station: int, parameter: int) -> int:
    """What a user would write: the table of forecasts read, then filtered."""
    rows = pd.read_sql(sa.text(_ROWS), connection)
    mine = rows[(rows["station_id"] == station) & (rows["parameter_id"] == parameter)]
    return len(mine[mine["batch_id"] == mine["batch_id"].max()].sort_values("target_at"))
