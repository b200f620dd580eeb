from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from small_panels import CATALOGUE
from threadpoolctl import threadpool_info, threadpool_limits

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting import pretrained as module
from bts_assets.forecasting.batch import load_forecasters
from bts_assets.forecasting.bundle import Bundle, OtherFormat
from bts_assets.forecasting.counters import AsLevels
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.forecasters import LastValue, SeasonalNaive
from bts_assets.forecasting.metrics import metrics
from bts_assets.forecasting.pretrained import LEAST_OBSERVATIONS, PretrainedForecaster
from bts_assets.pretraining import network, weights

STEP = timedelta(minutes=15)
GRID = Grid(STEP, timedelta(days=7), timedelta(days=1))
END = datetime(2026, 11, 20, tzinfo=UTC)


def panel_of(values: np.ndarray, grid: Grid = GRID) -> Panel:
    values = np.atleast_2d(np.asarray(values, float))
    return Panel(grid, np.arange(len(values)), np.ones(len(values), np.int32), END, values)


def waves(count: int, steps: int = 7 * 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hour = np.arange(steps) / 96
    day = np.sin(2 * np.pi * (hour + rng.random((count, 1))))
    return 50 + 10 * day + rng.standard_normal((count, steps))


@pytest.fixture(scope="module")
def pretrained() -> PretrainedForecaster:
    return PretrainedForecaster(weights.shipped(), UTC)


def test_quantiles_ascend_and_are_finite(pretrained: PretrainedForecaster) -> None:
    given = pretrained.forecast(panel_of(waves(5)))
    assert given.shape == (5, 96, len(QUANTILES))
    assert np.isfinite(given).all()
    assert (np.diff(given, axis=2) >= 0).all()


@pytest.mark.parametrize("observed", [LEAST_OBSERVATIONS, 20, 96, 300, 672])
def test_any_length_is_served(pretrained: PretrainedForecaster, observed: int) -> None:
    values = waves(2)
    values[:, : values.shape[1] - observed] = np.nan
    given = pretrained.forecast(panel_of(values))
    assert np.isfinite(given).all()
    short = pretrained.forecast(panel_of(values[:, -observed:]))
    np.testing.assert_array_equal(short, given)


def test_small_products_are_computed_by_one_thread_with_the_bits_of_several(
    pretrained: PretrainedForecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def spied(*given: Any) -> Any:
        threads.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return network.forward(*given)

    panel = panel_of(waves(70))
    monkeypatch.setattr(module, "forward", spied)
    one = pretrained.forecast(panel)
    assert threads == {1}
    monkeypatch.setattr(module, "threadpool_limits", lambda *_: threadpool_limits(2, "blas"))
    np.testing.assert_array_equal(pretrained.forecast(panel), one)


def test_too_few_observations_are_not_served(pretrained: PretrainedForecaster) -> None:
    values = waves(2)
    values[0, : -LEAST_OBSERVATIONS + 1] = np.nan
    given = pretrained.forecast(panel_of(values))
    assert np.isnan(given[0]).all()
    assert np.isfinite(given[1]).all()
    assert np.isnan(pretrained.forecast(panel_of(values[:, :0]))).all()


@pytest.mark.parametrize(
    ("step", "horizon"), [(60, 48), (15, 48), (5, 48), (1, 24), (1440, 24 * 14), (1440, 24 * 300)], ids=str
)
def test_any_step_and_horizon_is_served(pretrained: PretrainedForecaster, step: int, horizon: int) -> None:
    grid = Grid(timedelta(minutes=step), timedelta(minutes=step) * 400, timedelta(hours=horizon))
    given = pretrained.forecast(panel_of(waves(2, 400), grid))
    assert given.shape == (2, grid.horizon_steps, len(QUANTILES))
    assert np.isfinite(given).all()
    assert (np.diff(given, axis=2) >= 0).all()


def test_a_longer_horizon_begins_as_a_shorter_one_does(pretrained: PretrainedForecaster) -> None:
    longer = Grid(STEP, GRID.context, timedelta(days=2))
    given = pretrained.forecast(panel_of(waves(3), longer))
    np.testing.assert_allclose(given[:, :96], pretrained.forecast(panel_of(waves(3))), rtol=1e-4)


@pytest.mark.parametrize(("factor", "offset"), [(1e-3, 0.0), (1e6, 0.0), (1.0, 1e4), (-1.0, 0.0)])
def test_forecasts_follow_the_unit(pretrained: PretrainedForecaster, factor: float, offset: float) -> None:
    values = waves(4)
    usual, other = (pretrained.forecast(panel_of(v)) for v in (values, values * factor + offset))
    expected = usual * factor + offset
    if factor > 0 and not offset:
        np.testing.assert_allclose(other, expected, rtol=1e-3)
    else:  # where zero is, is something the network looks at
        away = np.abs(other[:, :, MEDIAN] - expected[:, :, MEDIAN]).mean()
        assert away < 3 * abs(factor)


def test_gaps_are_told_from_values(pretrained: PretrainedForecaster) -> None:
    values = waves(3)
    holes = np.random.default_rng(1).random(values.shape) < 0.3
    holes[:, 300:380] = True
    given = pretrained.forecast(panel_of(np.where(holes, np.nan, values)))
    assert np.isfinite(given).all()
    whole = pretrained.forecast(panel_of(values))
    assert np.abs(given - whole)[:, :, MEDIAN].mean() < 3
    assert (
        np.abs(pretrained.forecast(panel_of(np.where(holes, 0.0, values))) - whole).mean()
        > np.abs(given - whole).mean()
    )


def test_a_series_is_served_alone_as_in_company_bit_for_bit(pretrained: PretrainedForecaster) -> None:
    values = waves(300)
    together = pretrained.forecast(panel_of(values))
    np.testing.assert_array_equal(pretrained.forecast(panel_of(values)), together)
    np.testing.assert_array_equal(pretrained.forecast(panel_of(values[280:283])), together[280:283])


def test_what_never_moves_is_forecast_to_stay(pretrained: PretrainedForecaster) -> None:
    given = pretrained.forecast(panel_of(np.full((1, 672), 230.0)))
    np.testing.assert_allclose(given, 230.0, rtol=1e-4)


def drifting(count: int = 40, steps: int = 672 + 96) -> np.ndarray:
    """A day's profile on a level that walks."""
    rng = np.random.default_rng(8)
    hour = np.arange(steps) / 96
    level = np.cumsum(rng.standard_normal((count, steps)), axis=1) * 0.6
    return 100 + level + 4 * np.sin(2 * np.pi * (hour + rng.random((count, 1)))) + rng.standard_normal((count, steps))


def mean_of(values: np.ndarray, given: np.ndarray) -> Mapping[str, float]:
    scored = metrics(given, values[:, 672:], np.ones(len(values)))
    return {name: float(np.mean(of)) for name, of in scored.items()}


def test_what_drifts_is_forecast_better_than_by_yesterday_and_about_as_surely_as_is_right(
    pretrained: PretrainedForecaster,
) -> None:
    values = drifting()
    known = panel_of(values[:, :672])
    ours, yesterday, last = (
        mean_of(values, f.forecast(known)) for f in (pretrained, SeasonalNaive("yesterday", 1), LastValue())
    )
    assert ours["mae"] < 0.95 * yesterday["mae"]
    assert ours["pinball"] < min(yesterday["pinball"], last["pinball"])
    assert 0.65 < ours["coverage80"] < 0.93


def test_forecast_does_not_depend_on_what_is_older_than_the_context(pretrained: PretrainedForecaster) -> None:
    values = waves(2, 3 * 672)
    older = values.copy()
    older[:, :600] += 1000
    usual, other = (pretrained.forecast(panel_of(v)) for v in (values, older))
    np.testing.assert_array_equal(usual, other)
    assert replace(pretrained, name="other").name == "other"


def test_a_model_version_says_which_pretrained_weights_it_has(fitted: FittedBundle) -> None:
    bundle = fitted.bundle
    assert bundle.pretrained == weights.DIGEST
    assert "pretrained" in bundle.weights.candidates
    assert "pretrained" in set(fitted.scores["candidate"])
    assert Bundle.from_files(bundle.files()).pretrained == weights.DIGEST
    assert isinstance(load_forecasters(bundle, CATALOGUE)["pretrained"], AsLevels)


def test_a_model_version_of_other_pretrained_weights_is_refused(fitted: FittedBundle) -> None:
    other = replace(fitted.bundle, pretrained="0" * 64)
    assert other.digest != fitted.bundle.digest
    with pytest.raises(OtherFormat, match="pretrained weights 000000000000"):
        Bundle.from_files(other.files())


def test_a_model_version_without_pretrained_weights_has_no_such_candidate(fitted: FittedBundle) -> None:
    bundle = Bundle.from_files(replace(fitted.bundle, pretrained=None).files())
    assert "pretrained" not in load_forecasters(bundle, CATALOGUE)
