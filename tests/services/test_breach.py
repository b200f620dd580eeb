"""Breaches expected of a batch: which limits hold, which series have rows, and that they are made again alike."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from small_nights import GRID, LOAD, ORIGIN

from bts_assets.contracts.catalogue import Catalogue, Parameter
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import STORED_QUANTILES
from bts_assets.forecasting.batch import Batch
from bts_assets.monitoring.breach import Dependence
from bts_assets.monitoring.dependence import dependence_of
from bts_assets.monitoring.terms import BreachRule, Limits
from bts_assets.services.breach import breach_rows, straying

NORMAL = np.array([NormalDist().inv_cdf(q) for q in STORED_QUANTILES])
CATALOGUE = Catalogue((Parameter(LOAD, "Load", unit="A", low_limit=0.0, high_limit=30.0), Parameter(1, "No limit")))


def batch(levels: list[float], width: float = 1.0, parameter: int = LOAD) -> tuple[Batch, Panel]:
    """Stations 1, 2... at steady levels, forecast with a normal distribution."""
    count = len(levels)
    centre = np.array(levels)[:, None, None]
    quantiles = np.broadcast_to(centre + width * NORMAL, (count, GRID.horizon_steps, len(NORMAL))).copy()
    station, parameters = np.arange(1, count + 1), np.full(count, parameter, np.int32)
    noise = np.random.default_rng(0).standard_normal((count, GRID.context_steps))
    panel = Panel(GRID, station, parameters, ORIGIN, np.array(levels)[:, None] + noise)
    return Batch(GRID, ORIGIN, station, parameters, quantiles, pd.DataFrame()), panel


def rows(levels: list[float], own: Limits | None = None, **kwargs: float) -> pd.DataFrame:
    made, panel = batch(levels, **kwargs)  # type: ignore[arg-type]
    return breach_rows(made, panel, how_they_stray(panel, own), CATALOGUE, own or {}, BreachRule())


def how_they_stray(panel: Panel, own: Limits | None = None) -> Dependence:
    return dependence_of(straying(panel, CATALOGUE, own or {}), panel.parameter_id)


def test_only_series_that_may_pass_a_limit_have_a_row() -> None:
    found = rows([15.0, 29.5, 45.0, 0.5])
    assert found[["station_id", "side"]].values.tolist() == [[2, "high"], [3, "high"], [4, "low"]]
    assert found["limit_value"].tolist() == [30, 30, 0]
    assert found["probability_48h"].iloc[1] == 1
    assert found["first_likely_at"].iloc[1] == pd.Timestamp(ORIGIN)
    assert found["expected_worst"].iloc[1] > 45


def test_a_stations_own_limit_overrides_its_parameters() -> None:
    found = rows([15.0, 15.0], {(2, LOAD): (None, 14.0)})
    assert found[["station_id", "side", "limit_value"]].values.tolist() == [[2, "high", 14.0]]


def test_a_parameter_without_limits_has_no_rows() -> None:
    assert rows([1e6], parameter=1).empty


def test_probabilities_grow_with_the_window_and_reach_no_further_than_the_horizon() -> None:
    (row,) = rows([28.5]).to_dict("records")
    assert 0 < row["probability_6h"] <= row["probability_24h"] == row["probability_48h"] < 1  # a horizon of six hours


@pytest.mark.parametrize("count", [1, 3])
def test_the_same_series_has_the_same_row_whoever_else_is_in_the_batch(count: int) -> None:
    whole, panel = batch([29.0, 29.5, 28.8])
    part = replace(
        whole,
        station_id=whole.station_id[:count],
        parameter_id=whole.parameter_id[:count],
        quantiles=whole.quantiles[:count],
    )
    pd.testing.assert_frame_equal(
        breach_rows(part, panel, how_they_stray(panel), CATALOGUE, {}, BreachRule()),
        breach_rows(whole, panel, how_they_stray(panel), CATALOGUE, {}, BreachRule()).head(count),
    )
