"""Small panels and a small catalogue for the tests of the forecasting room."""

from datetime import UTC, datetime, timedelta

import numpy as np

from bts_assets.contracts.catalogue import Catalogue, Parameter
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel

GRID = Grid(timedelta(hours=1), timedelta(days=2), timedelta(hours=12))
END = datetime(2026, 11, 20, 2, tzinfo=UTC)
DAYS = 10

CATALOGUE = Catalogue(
    (
        Parameter(1, "Room Temperature", valid_min=-60, valid_max=100),
        Parameter(2, "Humidity", valid_min=0, valid_max=100),
        Parameter(3, "Run Time", kind="counter", aggregation="last", valid_min=0),
        Parameter(4, "Door", kind="switch", aggregation="max", forecast=False),
    )
)


def make_panel(values: np.ndarray, parameter_id: list[int], grid: Grid = GRID) -> Panel:
    count = len(values)
    return Panel(grid, np.arange(1, count + 1), np.array(parameter_id, dtype=np.int32), END, values)


def daily_values(count: int, days: int = DAYS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hour = np.arange(24 * days)
    rhythm = np.sin(2 * np.pi * hour / 24 + rng.uniform(0, 6, (count, 1)))
    return 40 + 8 * rhythm + rng.normal(size=(count, len(hour)))
