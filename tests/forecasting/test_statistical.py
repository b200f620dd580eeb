import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from small_panels import GRID, daily_values, make_panel

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting import statistical
from bts_assets.forecasting.candidates import CHEAP, STATISTICAL
from bts_assets.forecasting.forecasters import forecast_each
from bts_assets.forecasting.statistical import (
    BySeries,
    LibraryMissing,
    Statistical,
    has_daily_rhythm,
    has_weekly_rhythm,
)

each = pytest.mark.parametrize("candidate", STATISTICAL, ids=lambda c: c.name)
needs_no_rhythm = pytest.mark.parametrize(
    "candidate", [c for c in STATISTICAL if c.name != "mstl"], ids=lambda c: c.name
)
FOUR_DAYS = replace(GRID, context=timedelta(days=4))
QUARTERS = Grid(timedelta(minutes=15), timedelta(days=4), timedelta(hours=12))
LEVELS = np.array(QUANTILES)


def daily(steps_per_day: int, days: int, amplitude: float = 8.0, noise: float = 1.0, count: int = 1) -> np.ndarray:
    rng = np.random.default_rng(3)
    phase = 2 * np.pi * np.arange(days * steps_per_day) / steps_per_day
    return 40 + amplitude * np.sin(phase) + rng.normal(0, noise, (count, len(phase)))


def test_candidates_are_the_asked_for_ones_each_named_once() -> None:
    names = [f.name for f in (*CHEAP, *STATISTICAL)]
    assert {"last_value", "window_median", "seasonal_naive_day", "seasonal_naive_week"} <= set(names)
    assert {"auto_ets", "auto_theta", "auto_ces", "mstl"} <= set(names)
    assert len(set(names)) == len(names)


@each
@pytest.mark.parametrize("grid", [FOUR_DAYS, QUARTERS], ids=["hourly", "quarter_hourly"])
def test_a_rhythm_with_noise_is_forecast_close_to_its_noise_and_covered_as_stated(
    candidate: Statistical, grid: Grid
) -> None:
    values = daily(grid.steps_per_day, 5, count=25)
    known, horizon = 4 * grid.steps_per_day, grid.horizon_steps
    quantiles = candidate.forecast(make_panel(values[:, :known], [1] * 25, grid))
    truth = values[:, known : known + horizon]
    # Noise alone would leave 0.80; the last value is wrong by more than 8.
    assert np.abs(quantiles[:, :, MEDIAN] - truth).mean() < 1.3
    inside = (truth >= quantiles[:, :, QUANTILES.index(0.1)]) & (truth <= quantiles[:, :, QUANTILES.index(0.9)])
    assert 0.6 < inside.mean() < 0.93
    assert (np.diff(quantiles, axis=2) >= 0).all()


@each
@pytest.mark.parametrize("steps", [0, 1, 15, 16, 47, 49, 96])
def test_any_history_is_served_or_left_without_a_forecast(candidate: Statistical, steps: int) -> None:
    values = daily_values(4, 4)[:, :steps]
    values[1] = np.nan
    values[2] = 7.0
    quantiles, failures = candidate.forecast_each(make_panel(values, [1] * 4, FOUR_DAYS))
    assert quantiles.shape == (4, GRID.horizon_steps, 9)
    served = np.isfinite(quantiles).all(axis=(1, 2))
    enough = steps >= (48 if candidate.name == "mstl" else 16)
    assert served.tolist() == [enough, False, steps >= 16, enough]
    assert failures == {}
    if steps >= 16:
        assert (quantiles[2] == 7.0).all()


@each
def test_a_series_that_breaks_the_fit_spoils_itself_alone(candidate: Statistical) -> None:
    def broken(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
        if np.abs(values).max() > 6:
            raise ValueError("no model able to be fitted\nof any kind")
        return candidate.fit(values, horizon, day)

    values = daily_values(3, 4)
    alone = candidate.forecast(make_panel(values, [1] * 3, FOUR_DAYS))
    values[1, 20] = 1e6
    quantiles, failures = forecast_each(Statistical("broken", broken), make_panel(values, [1] * 3, FOUR_DAYS))
    assert failures == {1: "ValueError: no model able to be fitted"}
    assert np.isnan(quantiles[1]).all()
    np.testing.assert_array_equal(quantiles[[0, 2]], alone[[0, 2]])


@each
@pytest.mark.parametrize("wild", [1e300, 1.7e308, -1.7e308, np.inf])
def test_a_wild_value_spoils_its_own_series_alone(candidate: Statistical, wild: float) -> None:
    values = daily_values(2, 4)
    alone = candidate.forecast(make_panel(values, [1, 1], FOUR_DAYS))
    values[1, 30:32] = wild
    quantiles = candidate.forecast(make_panel(values, [1, 1], FOUR_DAYS))
    np.testing.assert_array_equal(quantiles[0], alone[0])
    assert np.isfinite(quantiles[1]).all() or np.isnan(quantiles[1]).all()


@each
def test_gaps_are_forecast_through(candidate: Statistical) -> None:
    values = daily_values(1, 4)
    whole = candidate.forecast(make_panel(values, [1], FOUR_DAYS))[0, :, MEDIAN]
    values[0, [5, 6, 40, 41, 42, 80]] = np.nan
    values[0, -3:] = np.nan
    gappy = candidate.forecast(make_panel(values, [1], FOUR_DAYS))[0, :, MEDIAN]
    assert np.abs(gappy - whole).mean() < 3


@each
def test_same_series_same_forecast_whatever_stands_beside_it_and_before_its_context(candidate: Statistical) -> None:
    values = daily_values(3, 4)
    all_of_them = candidate.forecast(make_panel(values, [1] * 3, FOUR_DAYS))
    longer = np.concatenate([np.full((1, 50), 1e9), values[2:]], axis=1)
    np.testing.assert_array_equal(candidate.forecast(make_panel(longer, [1], FOUR_DAYS))[0], all_of_them[2])


@each
def test_forecasts_follow_the_unit_of_the_series(candidate: Statistical) -> None:
    values = daily_values(1, 4)
    plain = candidate.forecast(make_panel(values, [1], FOUR_DAYS))
    scaled = candidate.forecast(make_panel(1e6 + 1000 * values, [1], FOUR_DAYS))
    np.testing.assert_allclose((scaled - 1e6) / 1000, plain, atol=0.05)


@needs_no_rhythm
def test_a_young_series_on_a_slope_is_not_forecast_into_the_sky(candidate: Statistical) -> None:
    grid = replace(QUARTERS, horizon=timedelta(days=2))
    slope = np.arange(20.0)[None, :]
    quantiles = candidate.forecast(make_panel(slope, [1], grid))
    assert quantiles.min() >= -19
    assert quantiles.max() <= 38


@each
def test_nothing_is_said_or_warned_of(candidate: Statistical, capfd: pytest.CaptureFixture[str]) -> None:
    def talkative(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
        warnings.warn("Too few residuals", stacklevel=1)
        return candidate.fit(values, horizon, day) + 0 * np.log(np.zeros((1, 1))).clip(0)

    values = daily_values(3, 4)
    values[0] = np.random.default_rng(0).random(values.shape[1]) > 0.9
    values[1] = -values[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, failures = Statistical("talkative", talkative).forecast_each(make_panel(values, [1] * 3, FOUR_DAYS))
    assert failures == {}
    assert capfd.readouterr() == ("", "")


def test_a_constant_series_is_served_without_a_fit() -> None:
    def unwanted(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
        raise AssertionError("fitted")

    quantiles, failures = Statistical("unwanted", unwanted).forecast_each(make_panel(np.full((1, 48), 7.0), [1]))
    assert failures == {}
    assert (quantiles == 7.0).all()


@each
def test_without_the_library_one_line_says_what_to_install(
    candidate: Statistical, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    monkeypatch.delitem(sys.modules, "statsforecast.models", raising=False)
    with pytest.raises(LibraryMissing) as caught:
        candidate.forecast(make_panel(daily_values(2), [1, 1]))
    assert str(caught.value).startswith(f"{candidate.name} needs statsforecast")
    assert "pip install 'bts-assets[statistical]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_series_are_handed_out_a_few_at_a_time_and_come_back_as_they_were() -> None:
    def fitted(values: np.ndarray, horizon: int, day: int) -> np.ndarray:
        if values[0] > values[-1]:
            raise ValueError("it falls")
        return np.repeat(values[-1] + np.arange(horizon)[:, None], len(QUANTILES), axis=1)

    sizes: list[int] = []

    def handed(work: Callable[[Panel], Any], parts: Iterable[Panel]) -> Iterator[Any]:
        for part in parts:
            sizes.append(len(part))
            yield work(part)

    model = Statistical("fitted", fitted)
    panel = make_panel(np.cumsum(np.random.default_rng(5).normal(size=(40, 96)), axis=1), [1] * 40, FOUR_DAYS)
    whole, failures = model.forecast_each(panel)
    parts, failed = BySeries(model, handed).forecast_each(panel)
    assert sizes == [16, 16, 8]
    assert max(failures) >= 32
    assert failed == failures
    np.testing.assert_array_equal(parts, whole)
    assert BySeries(model, handed).forecast(make_panel(np.empty((0, 96)), [], FOUR_DAYS)).shape[0] == 0


def test_the_season_does_not_widen_the_intervals_of_theta() -> None:
    theta = next(c for c in STATISTICAL if c.name == "auto_theta")
    weak, strong = (
        theta.forecast(make_panel(daily(24, 4, amplitude=a, count=5), [1] * 5, FOUR_DAYS)) for a in (3.0, 60.0)
    )
    widths = [float((q[:, :, -1] - q[:, :, 0]).mean()) for q in (weak, strong)]
    assert widths[1] < 1.5 * widths[0]


def test_mstl_follows_the_week_where_there_is_one() -> None:
    grid = Grid(timedelta(hours=1), timedelta(days=14), timedelta(days=2))
    values = daily(24, 16)
    values[0, np.repeat(np.arange(16) % 7 < 2, 24)] = (
        0.0  # each week begins with two days of rest: so does the forecast
    )
    mstl = next(c for c in STATISTICAL if c.name == "mstl")
    point = mstl.forecast(make_panel(values[:, : 14 * 24], [1], grid))[0, :, MEDIAN]
    assert np.abs(point).mean() < 4


def test_without_a_rhythm_mstl_leaves_the_series_to_auto_ets_and_that_is_no_failure() -> None:
    mstl = next(c for c in STATISTICAL if c.name == "mstl")
    values = np.concatenate([daily(24, 4), np.random.default_rng(1).normal(size=(1, 96)).cumsum(axis=1)])
    quantiles, failures = mstl.forecast_each(make_panel(values, [1, 1], FOUR_DAYS))
    assert np.isfinite(quantiles[0]).all()
    assert np.isnan(quantiles[1]).all()
    assert failures == {}


@pytest.mark.parametrize("sort", ["N", "S", "P", "F"])
def test_the_intervals_of_ces_are_as_wide_as_its_own_errors_make_them(sort: str) -> None:
    """Paths are made by the recursion that the library fitted with, from the states that it ended with."""
    from statsforecast.models import AutoCES

    horizon, paths, rng = 30, 4000, np.random.default_rng(5)
    fitted = AutoCES(24, model=sort).fit(daily(24, 10)[0] - 40).model_
    a0, a1, b0, b1 = (fitted["par"][name] for name in ("alpha_0", "alpha_1", "beta_0", "beta_1"))
    season, lag = fitted["m"], fitted["m"] if sort == "S" else 1
    states = [np.tile(row, (paths, 1)) for row in fitted["states"]]
    assert np.isfinite(fitted["sigma2"])
    levels = []
    for _ in range(horizon):
        error = rng.normal(0, np.sqrt(fitted["sigma2"]), paths)
        old, new = states[-lag], np.zeros_like(states[-1])
        new[:, 0] = old[:, 0] - (1 - a1) * old[:, 1] + (a0 - a1) * error
        new[:, 1] = old[:, 0] + (1 - a0) * old[:, 1] + (a0 + a1) * error
        levels.append(old[:, 0] + error)
        if sort in "PF":
            was = states[-season]
            levels[-1] += was[:, 2]
            if sort == "P":
                new[:, 2] = was[:, 2] + b0 * error
            else:
                new[:, 2] = was[:, 2] - (1 - b1) * was[:, 3] + (b0 - b1) * error
                new[:, 3] = was[:, 2] + (1 - b0) * was[:, 3] + (b0 + b1) * error
        states.append(new)
    simulated = np.std(levels, axis=1)
    np.testing.assert_allclose(statistical._ces_spread(fitted, horizon), simulated, rtol=0.06)


def test_a_daily_rhythm_is_seen_in_a_rhythm_alone() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 24 * 7))
    assert has_daily_rhythm(daily(24, 7)[0], 24)
    assert np.mean([has_daily_rhythm(v, 24) for v in noise]) < 0.1
    assert np.mean([has_daily_rhythm(v.cumsum(), 24) for v in noise]) < 0.05
    assert not has_daily_rhythm(daily(24, 7)[0, :47], 24)


def test_a_weekly_rhythm_is_seen_where_two_weeks_show_it() -> None:
    week = np.tile(np.repeat([1.0, 1, 1, 1, 1, 0, 0], 24), 3) * daily(24, 21)[0]
    assert has_weekly_rhythm(week, 24)
    assert not has_weekly_rhythm(week[: 14 * 24 - 1], 24)
    assert not has_weekly_rhythm(np.random.default_rng(0).normal(size=24 * 21).cumsum(), 24)


@pytest.mark.parametrize(("step", "width"), [("1min", 60), ("15min", 4), ("40min", 2), ("1h", 1), ("2h", 1)])
def test_bins_are_as_short_as_the_longest_season_allows(step: str, width: int) -> None:
    day = timedelta(days=1) // timedelta(minutes={"1min": 1, "15min": 15, "40min": 40, "1h": 60, "2h": 120}[step])
    seen = []

    def flat(values: np.ndarray, horizon: int, season: int) -> np.ndarray:
        seen.append((len(values), season))
        return np.zeros((horizon, len(QUANTILES)))

    quantiles = statistical._in_bins(flat, np.arange(3.0 * day), day // 2, day)
    assert seen == [(3 * day // width, day // width)]
    assert quantiles.shape == (day // 2, len(QUANTILES))


def test_levels_match_the_quantiles() -> None:
    from scipy.stats import norm

    np.testing.assert_allclose(statistical._NORMAL, norm.ppf(LEVELS), atol=1e-3)
