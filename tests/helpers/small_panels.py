"""Small panels, a small catalogue and small evidence for the tests of the forecasting room."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from zoneinfo import ZoneInfo

import numpy as np

from bts_assets.contracts.catalogue import Catalogue, Parameter
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP, LastValue
from bts_assets.forecasting.ensemble_weights import one_candidate
from bts_assets.forecasting.out_of_sample import HoldoutForecasts

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

#: Standard normal quantiles, one for each of `QUANTILES`.
NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILES])


def make_panel(values: np.ndarray, parameter_id: list[int], grid: Grid = GRID) -> Panel:
    count = len(values)
    return Panel(grid, np.arange(1, count + 1), np.array(parameter_id, dtype=np.int32), END, values)


def daily_values(count: int, days: int = DAYS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hour = np.arange(24 * days)
    rhythm = np.sin(2 * np.pi * hour / 24 + rng.uniform(0, 6, (count, 1)))
    return 40 + 8 * rhythm + rng.normal(size=(count, len(hour)))


def make_evidence(
    truth: np.ndarray, forecasts: Mapping[str, np.ndarray], parameter_id: list[int] | None = None
) -> HoldoutForecasts:
    """Truth (series, origins, horizon), and by candidate quantiles (series, origins, horizon, levels).

    Origins are a horizon apart; stations are numbered from 1; all are of parameter 9 unless said.
    """
    series, origins, horizon = truth.shape
    grid = Grid(GRID.step, GRID.context, horizon * GRID.step)
    first = grid.context_steps
    panel = make_panel(np.zeros((series, first + origins * horizon)), parameter_id or [9] * series, grid)
    return HoldoutForecasts(
        panel,
        tuple(range(first, panel.steps, horizon)),
        np.arange(horizon),
        tuple(forecasts),
        np.stack([np.asarray(f, dtype=np.float32) for f in forecasts.values()]),
        truth.astype(np.float32),
        np.zeros((series, origins)),
        np.ones(series),
    )


def bundle(default: str = LastValue().name) -> Bundle:
    return Bundle(
        grid=GRID,
        zone=ZoneInfo("UTC"),
        effort="quick",
        seed=1,
        catalogue=CATALOGUE,
        weights=one_candidate(tuple(f.name for f in CHEAP), default),
    )
