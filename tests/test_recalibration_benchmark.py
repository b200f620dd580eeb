"""The benchmark of recalibration is honest: no way of it sees a truth before it has come."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.recalibration_data import Nights
from benchmarks.recalibration_methods import METHODS
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES

GRID = Grid(timedelta(hours=6), 2 * DAY, 2 * DAY)
NIGHTS = 8


def nights_of(values: np.ndarray) -> Nights:
    panel = Panel(GRID, np.arange(1, 4), np.full(3, 9, np.int32), datetime(2026, 11, 20, tzinfo=UTC), values)
    origins = tuple(range(0, NIGHTS * GRID.steps_per_day, GRID.steps_per_day))
    levels = np.linspace(-1, 1, len(QUANTILES))
    return Nights("test", panel, origins, np.broadcast_to(levels, (NIGHTS, 3, GRID.horizon_steps, len(QUANTILES))))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "as they are"])
def test_what_has_not_come_changes_nothing(name: str) -> None:
    values = np.random.default_rng(1).normal(size=(3, (NIGHTS + 1) * GRID.steps_per_day))
    nights, known = nights_of(values), 5
    later = values.copy()
    later[:, nights.origins[known] :] = 50.0
    other = nights_of(later)
    served, altered = METHODS[name](nights), METHODS[name](replace(other, quantiles=nights.quantiles))
    assert np.array_equal(served[: known + 1], altered[: known + 1])
    assert not np.array_equal(served[known + 1], altered[known + 1])
    assert (np.diff(served, axis=3) >= 0).all()
