"""A stage of `benchmarks.stages`: classical models, fitted to every series by itself.

statsforecast's kernels run inside ours as well: what is compared is what ours asks of them. The limit is the time that
ours spends within the library, spread over all cores without loss.
"""

import os
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.stage_figures import Figures, timed
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel

#: Series at growth 1.
SERIES: Final = 6
_LEVELS: Final = [50, 80, 90, 95]


def statistical(role: str, growth: int) -> Figures:
    """Series that all four models forecast: a week of the default grid, two days ahead."""
    from benchmarks.publishing import GRID
    from bts_assets.forecasting.candidates import STATISTICAL

    series = SERIES * growth
    panel = example_panel(GRID, series)
    if role == "instead":
        return timed(series, lambda: by_the_library(panel))

    def fit() -> None:
        for model in STATISTICAL:
            model.forecast(panel)

    within = _Within()
    if role == "limit":
        for name in ("AutoETS", "AutoTheta", "AutoCES", "MSTL"):
            within.watch(name)
    fit_one = panel.take(np.arange(1))
    for model in STATISTICAL:  # imports
        model.forecast(fit_one)
    within.seconds = 0.0
    found = timed(series, fit)
    return found if role == "ours" else {"work": series, "seconds": within.seconds / (os.cpu_count() or 1)}


def by_the_library(panel: Panel) -> pd.DataFrame:
    """What a user would write, on all cores, kindly: of means an hour, as ours does, for a season of 96 steps costs
    five times as much.
    """
    from statsforecast import StatsForecast
    from statsforecast.models import MSTL, AutoCES, AutoETS, AutoTheta

    warnings.simplefilter("ignore")
    an_hour = panel.grid.steps_per_day // 24
    hourly = panel.values.reshape(len(panel), -1, an_hour).mean(axis=2)
    models = [AutoETS(24), AutoTheta(24), AutoCES(24), MSTL(24)]
    # A pool of processes costs seconds, which few series are not worth.
    library = StatsForecast(models, freq=1, n_jobs=-1 if len(panel) >= 10 * SERIES else 1)
    return library.forecast(df=long_frame(hourly), h=panel.grid.horizon_steps // an_hour, level=_LEVELS)


def example_panel(grid: Grid, series: int) -> Panel:
    """A week of daily sines and noise."""
    rng, step = np.random.default_rng(0), np.arange(grid.context_steps)
    daily = np.sin(2 * np.pi * step / grid.steps_per_day + rng.uniform(0, 6, (series, 1)))
    values = 20 + 5 * daily + rng.normal(size=(series, len(step)))
    return Panel(grid, np.arange(series), np.full(series, 122, np.int32), datetime(2026, 11, 20, tzinfo=UTC), values)


def long_frame(values: np.ndarray) -> pd.DataFrame:
    """As the libraries want it: a row per series and step of values (series, steps)."""
    series, step = np.indices(values.shape).reshape(2, -1)
    return pd.DataFrame({"unique_id": series, "ds": step, "y": values.ravel()})


class _Within:
    """Seconds within the library's models; a model that calls another counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def watch(self, model: str) -> None:
        import statsforecast.models

        kind = getattr(statsforecast.models, model)
        for name in ("fit", "forecast", "predict"):
            setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            self._depth += 1
            start = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - start

        return counted
