"""One panel and one model version fitted on it, for all tests of the forecasting room."""

from collections.abc import Iterator

import numpy as np
import pytest
from small_panels import CATALOGUE, daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting import efforts
from bts_assets.forecasting.efforts import Work
from bts_assets.forecasting.fit import FittedBundle, fit_bundle


@pytest.fixture(scope="session")
def panel() -> Panel:
    """Six series: gauges, a counter, a switch, one with gaps, one of an unknown parameter."""
    values = daily_values(6)
    values[2] = np.cumsum(np.random.default_rng(1).integers(0, 2, values.shape[1]))
    values[3] = 0.0
    values[4, 50:70] = np.nan
    return make_panel(values, [1, 2, 3, 4, 1, 9])


@pytest.fixture(scope="session")
def tiny_effort() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setitem(efforts.EFFORTS, "quick", Work(40, 20, 2, 1000))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def fitted(panel: Panel, tiny_effort: None) -> FittedBundle:
    return fit_bundle(panel, CATALOGUE, effort="quick", seed=7)
