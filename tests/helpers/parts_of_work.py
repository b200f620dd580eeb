"""Work for the engine's workers, which import it by name; no tests are here."""

import os
import pickle
import signal
import time
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.backtest import RollingScores
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.linear import LinearForecaster
from bts_assets.forecasting.scaling import AsinhScales
from bts_assets.services import observe


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


def observed_by_one_that_dies(folder: Path, *given: Any) -> Any:
    """A part of observing, whose first worker ends by SIGKILL once it has computed it."""
    made = observe._part(*given)
    with suppress(FileExistsError), (folder / "died").open("x"):
        os.kill(os.getpid(), signal.SIGKILL)
    return made


def fails(part: int) -> int:
    if part == 2:
        raise NoSuchPart(f"there is no part {part}")
    return part


def travelled(sent: Any) -> Any:
    """What comes of it at the other end."""
    return pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own


def trained_before(version: FittedBundle, known: Panel, on_progress: OnProgress | None) -> FittedBundle:
    return version


def training_fails(known: Panel, on_progress: OnProgress | None) -> FittedBundle:
    raise NoSuchPart("there is no training")


def training_dies(known: Panel, on_progress: OnProgress | None) -> FittedBundle:
    """As where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def assert_same(one: RollingScores, other: RollingScores) -> None:
    for field in fields(RollingScores):
        tables = (getattr(tested, field.name) for tested in (one, other))
        pd.testing.assert_frame_equal(*tables, check_exact=True, obj=field.name)


def linear_forecast(seed: int) -> str:
    """A digest of forecasts by a linear map, whose products of matrices are large enough to be shared among threads."""
    rng, grid = np.random.default_rng(seed), Grid(timedelta(minutes=15), timedelta(days=7), timedelta(hours=48))
    weights = rng.normal(size=(1, grid.context_steps + 1, grid.horizon_steps)).astype(np.float32)
    reach = np.sort(rng.normal(size=(1, grid.horizon_steps, len(QUANTILES)))).astype(np.float32)
    forecaster = LinearForecaster(np.empty(0, np.int64), weights, reach, AsinhScales())
    station = np.arange(600)
    values = rng.normal(size=(len(station), grid.context_steps))
    panel = Panel(grid, station, np.ones(len(station), np.int32), datetime(2026, 4, 1, tzinfo=UTC), values)
    return sha256(forecaster.forecast(panel).tobytes()).hexdigest()
