"""Work for the engine's workers, which import it by name; no tests are here."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.linear import LinearForecaster


class NoSuchPart(Exception):
    """What work fails with here."""


def squared(part: int) -> int:
    time.sleep(0.02 * (part % 3))  # so that later parts are done before earlier ones
    return part * part


def who(part: int) -> tuple[int, str]:
    """The process of a part, and for how many threads it was set up."""
    return os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS", "unset")


def dies_at(folder: Path, deaths: int, part: int) -> int:
    """Ends its process by SIGKILL in the middle of part 3, so many times."""
    marks = sorted(folder.iterdir())
    if part == 3 and len(marks) < deaths:
        (folder / str(len(marks))).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part * part


def fails(part: int) -> int:
    if part == 2:
        raise NoSuchPart(f"there is no part {part}")
    return part


def linear_forecast(seed: int) -> str:
    """A digest of forecasts by a linear map, whose products of matrices are large enough to be shared among threads."""
    rng, grid = np.random.default_rng(seed), Grid(timedelta(minutes=15), timedelta(days=7), timedelta(hours=48))
    weights = rng.normal(size=(1, grid.context_steps + 1, grid.horizon_steps)).astype(np.float32)
    reach = np.sort(rng.normal(size=(1, grid.horizon_steps, len(QUANTILES)))).astype(np.float32)
    forecaster = LinearForecaster(np.empty(0, np.int64), weights, reach)
    station = np.arange(600)
    values = rng.normal(size=(len(station), grid.context_steps))
    panel = Panel(grid, station, np.ones(len(station), np.int32), datetime(2026, 4, 1, tzinfo=UTC), values)
    return sha256(forecaster.forecast(panel).tobytes()).hexdigest()
