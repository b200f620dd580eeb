"""Counters: their increments, and the levels that are made of forecast increments."""

import dataclasses
from datetime import timedelta
from functools import cache

import numpy as np
import pytest
from small_panels import GRID, daily_values, make_panel

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.counters import (
    AsLevels,
    Counters,
    MeanIncrement,
    Shown,
    as_shown,
    before_reset,
    increments,
    is_cumulative,
)
from bts_assets.forecasting.forecasters import Forecaster, LastValue, SeasonalNaive, forecast_each
from bts_assets.forecasting.reining import Reach
from bts_assets.forecasting.windows import at_origin, latest_context, take_series
from bts_assets.simulation.network import COUNTERS, SimulatedNetwork

NAN = np.nan
RUN_TIME = 3
MEAN = MeanIncrement((RUN_TIME,))

#: As by default but for hourly steps.
WEEK = Grid(timedelta(hours=1), timedelta(days=7), timedelta(hours=48))


@dataclasses.dataclass(frozen=True)
class Always:
    """The same quantiles (levels,), times what is said of each step, for every series."""

    quantiles: tuple[float, ...]
    steps: tuple[float, ...] = (1.0,) * 12
    name: str = "always"

    def forecast(self, panel: Panel) -> np.ndarray:
        return np.tile(np.outer(self.steps, self.quantiles), (len(panel), 1, 1))


def counted(added: np.ndarray, grid: Grid = GRID, before: float = 8000.0) -> Panel:
    """A panel of run times that added so much per step, (series, steps)."""
    return make_panel(before + np.cumsum(added, axis=1), [RUN_TIME] * len(added), grid)


def runs(count: int, days: int, seed: int = 0) -> np.ndarray:
    """Hours run in each hour, more by day than by night."""
    hour = np.arange(24 * days)
    rng = np.random.default_rng(seed)
    return np.clip(0.4 + 0.2 * np.sin(2 * np.pi * hour / 24) + 0.15 * rng.normal(size=(count, len(hour))), 0, 1)


@pytest.mark.parametrize(
    ("levels", "added"),
    [
        pytest.param([5, 6, 6, 8.5], [NAN, 1, 0, 2.5], id="every-step-known"),
        pytest.param([5, NAN, NAN, 11, 12], [NAN, NAN, NAN, 2, 1], id="mean-after-gap"),
        pytest.param([NAN, 5, 6, NAN, NAN], [NAN, NAN, 1, NAN, NAN], id="silent-at-both-ends"),
        pytest.param([5, 6, 0.5, 1.5], [NAN, 1, NAN, 1], id="reset"),
        pytest.param([5, NAN, 0.5, 1.5], [NAN, NAN, NAN, 1], id="reset-in-gap"),
        pytest.param([5, 6, 900, 7, 8], [NAN, 1, NAN, 0.5, 1], id="misread-high"),
        pytest.param([5, 6, 0, 7, 8], [NAN, 1, NAN, 0.5, 1], id="misread-low"),
        pytest.param([NAN, NAN], [NAN, NAN], id="nothing-known"),
        pytest.param([], [], id="no-steps"),
    ],
)
def test_increments_are_what_was_added_per_step(levels: list[float], added: list[float]) -> None:
    np.testing.assert_array_equal(increments(np.array([levels], dtype=float)), [added])


def test_no_increment_depends_on_a_later_level() -> None:
    rng = np.random.default_rng(0)
    levels = 100 + np.cumsum(rng.random((20, 200)), axis=1)
    levels[:, 90:] -= levels[:, 90:91]
    levels[rng.random(levels.shape) < 0.4] = NAN
    whole = increments(levels)
    for end in (1, 50, 91, 150):
        np.testing.assert_array_equal(increments(levels[:, :end]), whole[:, :end])


def test_only_counters_become_increments() -> None:
    panel = make_panel(np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]), [1, RUN_TIME])
    changed = as_shown(panel, np.array([False, True]))
    np.testing.assert_array_equal(changed.values, [[1, 2, 4], [NAN, 1, 2]])
    np.testing.assert_array_equal(panel.values[1], [1, 2, 4])
    assert changed.end == panel.end


def test_forecast_increments_are_served_as_levels() -> None:
    panel = make_panel(np.concatenate([daily_values(1), 8000 + np.cumsum(runs(1, 10), axis=1)]), [1, RUN_TIME])
    spread = Always(tuple(0.5 + 0.1 * np.linspace(-1, 1, 9)))
    quantiles = AsLevels(spread, (RUN_TIME,)).forecast(panel)
    assert AsLevels(spread, (RUN_TIME,)).name == "always"
    gauge = take_series(panel, np.array([0]))
    np.testing.assert_array_equal(quantiles[[0]], Reach.of(latest_context(gauge)).reined(spread.forecast(gauge)))
    np.testing.assert_allclose(quantiles[1, :, MEDIAN], panel.values[1, -1] + 0.5 * np.arange(1, 13))


def test_the_mean_of_a_skewed_forecast_adds_up_not_its_median() -> None:
    panel = counted(runs(1, 10))
    skewed = Always((0, 0, 0, 0, 0, 0.4, 0.8, 0.8, 0.8))
    point = AsLevels(skewed, (RUN_TIME,)).forecast(panel)[0, :, MEDIAN]
    assert point[-1] - panel.values[0, -1] == pytest.approx(12 * (0.2 * 0.4 + 0.175 * 0.8))


def test_a_step_neither_takes_back_nor_adds_more_than_any_before() -> None:
    panel = counted(runs(1, 10))
    most = increments(panel.values[:, -48:])[0, 1:].max()
    point = AsLevels(Always((0.5,) * 9, (-1, 1) * 5 + (9, 9)), (RUN_TIME,)).forecast(panel)[0, :, MEDIAN]
    expected = np.cumsum([0, 0.5] * 5 + [most, most])
    np.testing.assert_allclose(point - panel.values[0, -1], expected)


def test_what_a_forecaster_cannot_serve_stays_unserved() -> None:
    quantiles = AsLevels(Always((NAN,) * 9), (RUN_TIME,)).forecast(counted(runs(2, 10)))
    assert np.isnan(quantiles).all()


def test_why_a_series_failed_is_passed_on() -> None:
    class FailsOnOne(Always):
        def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
            return self.forecast(panel), {1: "no fit"}

    panel = counted(runs(2, 10))
    quantiles, failed = forecast_each(AsLevels(FailsOnOne((0.5,) * 9), (RUN_TIME,)), panel)
    assert failed == {1: "no fit"}
    assert (quantiles[:, -1, MEDIAN] == panel.values[:, -1] + 6).all()


def test_the_mean_increment_serves_counters_alone() -> None:
    quantiles = MEAN.forecast(make_panel(np.cumsum(runs(2, 10), axis=1), [1, RUN_TIME]))
    assert np.isnan(quantiles[0]).all()
    assert np.isfinite(quantiles[1]).all()


@pytest.mark.parametrize("hours", [8, 24, 30, 48, 240])
@pytest.mark.parametrize("case", ["plain", "gaps", "reset", "misread", "silent", "off", "saturated", "wild"])
@pytest.mark.parametrize("forecaster", [MEAN, AsLevels(LastValue(), (RUN_TIME,))], ids=lambda f: f.name)
def test_levels_never_fall_and_quantiles_ascend(forecaster: Forecaster, hours: int, case: str) -> None:
    added = runs(3, 10)
    if case in ("off", "saturated"):
        added[1] = case == "saturated"
    panel = counted(added)
    values = panel.values
    if case == "gaps":
        values[1, np.random.default_rng(0).random(values.shape[1]) < 0.3] = NAN
    elif case == "reset":
        values[1, -6:] -= values[1, -6]
    elif case == "misread":
        values[1, -4] = 999.0
    elif case == "silent":
        values[1, -3:] = NAN
    elif case == "wild":
        values[1, -3] = 1e300
    values[:, :-hours] = NAN
    quantiles = forecaster.forecast(panel)
    assert np.isfinite(quantiles[[0, 2]]).all()
    assert np.isfinite(quantiles[1]).all() or hours == 8 or case == "wild"
    for series in np.flatnonzero(np.isfinite(quantiles).all(axis=(1, 2))):
        newest = values[series][np.isfinite(values[series])][-1]
        assert (quantiles[series] >= newest).all()
        assert (np.diff(quantiles[series], axis=0) >= 0).all()
        assert (np.diff(quantiles[series], axis=1) >= 0).all()


def test_a_series_with_too_few_increments_is_not_served() -> None:
    panel = counted(runs(2, 10))
    panel.values[0, :-6] = NAN
    panel.values[1] = NAN
    assert np.isnan(MEAN.forecast(panel)).all()


def test_a_machine_that_is_off_stays_off() -> None:
    panel = counted(np.zeros((1, 240)))
    assert (MEAN.forecast(panel) == 8000.0).all()


def test_no_level_outruns_the_clock() -> None:
    added = (np.random.default_rng(0).random((5, 240)) < 0.9).astype(float)
    panel = counted(added)
    beyond = MEAN.forecast(panel) - panel.values[:, -1:, None] - np.arange(1, 13)[None, :, None]
    assert beyond.max() <= 1e-9


def test_a_silent_end_is_counted_through() -> None:
    panel = counted(np.full((1, 240), 0.25))
    expected = MEAN.forecast(panel)
    panel.values[0, -5:] = NAN
    np.testing.assert_allclose(MEAN.forecast(panel), expected)


def test_a_reset_in_the_context_does_not_reach_the_forecast() -> None:
    panel = counted(runs(1, 10))
    calm = MEAN.forecast(panel) - panel.values[:, -1:, None]
    panel.values[0, -30:] -= panel.values[0, -30] - 0.2
    np.testing.assert_allclose(MEAN.forecast(panel) - panel.values[:, -1:, None], calm, atol=0.3)


@pytest.mark.parametrize("steps", [48, 61, 168])
def test_a_counter_is_forecast_by_the_rhythm_of_its_days(steps: int) -> None:
    added = np.tile([1.0] * 6 + [0.0] * 18, 7)[None, -steps:]
    panel = counted(added, WEEK)
    point = MEAN.forecast(panel)[0, :, MEDIAN]
    expected = np.cumsum(np.tile([1.0] * 6 + [0.0] * 18, 2))
    np.testing.assert_allclose(point - panel.values[0, -1], expected, atol=0.5)


def test_a_machine_that_ran_once_is_not_expected_to_run_daily() -> None:
    added = np.zeros((1, 168))
    added[0, 30:34] = 1.0
    quantiles = MEAN.forecast(counted(added, WEEK))[0] - 8004.0
    assert (quantiles[:, MEDIAN] == 0).all()
    assert quantiles[-1, QUANTILES.index(0.95)] > 0.5


def test_the_forecast_of_a_series_does_not_depend_on_its_neighbours() -> None:
    panel = counted(runs(6, 10))
    panel.values[2, 200:210] = NAN
    alone = MEAN.forecast(take_series(panel, np.array([2, 4])))
    np.testing.assert_array_equal(MEAN.forecast(panel)[[2, 4]], alone)


@pytest.mark.parametrize("days", [1, 2, 7])
def test_intervals_of_independent_steps_hold_what_they_say(days: int) -> None:
    added = runs(400, 9, seed=days)
    panel = counted(added, WEEK)
    known = at_origin(panel, 7 * 24)
    known.values[:, : (7 - days) * 24] = NAN
    quantiles, truth = MEAN.forecast(known), panel.values[:, 7 * 24 :]
    for low, high in ((0.1, 0.9), (0.05, 0.95)):
        inside = (truth >= quantiles[:, :, QUANTILES.index(low)]) & (truth <= quantiles[:, :, QUANTILES.index(high)])
        # With a day of history the rhythm of days cannot be known, and the intervals say so by being wide.
        assert high - low - 0.05 < inside.mean() < (high - low + 0.08 if days > 1 else 1.0)


def test_intervals_are_narrower_than_sums_of_step_quantiles() -> None:
    panel = counted(runs(20, 9), WEEK)
    width = np.ptp(MEAN.forecast(panel)[:, -1], axis=1)
    each = np.quantile(increments(panel.values[:, -168:])[:, 1:], (QUANTILES[0], QUANTILES[-1]), axis=1)
    assert (width < 0.5 * 48 * (each[1] - each[0])).all()


@cache
def simulated() -> Panel:
    """The counters of six small networks, each with its own weather: 14 days of 15-minute steps, with resets."""
    grid = Grid(timedelta(minutes=15), timedelta(days=7), timedelta(hours=48))
    minutes = 14 * 1440
    networks = [next(SimulatedNetwork(4, minutes, 29_000_000, seed).chunks(minutes)).signals for seed in range(1, 7)]
    levels = np.stack([network[p][:, 14::15] for p in COUNTERS for network in networks])
    panel = make_panel(np.floor(levels * 100).reshape(96, -1) / 100, list(np.repeat(COUNTERS, 24)), grid)
    assert (np.diff(panel.values) < 0).any()
    return panel


def errors_and_coverage(forecaster: Forecaster) -> tuple[np.ndarray, float, float]:
    """Mean absolute error by parameter, and shares of targets in the 80 and 90 % intervals, at six nightly origins."""
    panel, day = simulated(), 96
    errors, inside = [], []
    for origin in range(7 * day, 12 * day + 1, day):
        quantiles = forecaster.forecast(at_origin(panel, origin))
        truth = before_reset(panel.values[:, origin - 1], panel.values[:, origin : origin + 2 * day])
        errors.append(np.abs(quantiles[:, :, MEDIAN] - truth))
        within = [(quantiles[:, :, k] <= truth) & (truth <= quantiles[:, :, -1 - k]) for k in (2, 1)]
        inside.append([w[np.isfinite(truth)].mean() for w in within])
    by_parameter = np.nanmean(np.concatenate(errors, axis=1).reshape(4, 24, -1), axis=(1, 2))
    return by_parameter, *np.mean(inside, axis=0)


def test_simulated_counters_are_forecast_better_than_by_their_levels() -> None:
    error, in80, in90 = errors_and_coverage(MeanIncrement(COUNTERS))
    last, yesterday = (errors_and_coverage(f)[0] for f in (LastValue(), AsLevels(SeasonalNaive("day", 1), COUNTERS)))
    # A generator runs once a week: that it stays off is as good a guess as any. Air conditioners run daily.
    assert (error[:3] < 0.2 * last[:3]).all()
    assert error[3] < 1.5 * last[3]
    assert (error < 0.8 * yesterday).all()
    assert in80 == pytest.approx(0.8, abs=0.05)
    assert in90 == pytest.approx(0.9, abs=0.05)


def test_targets_after_a_reset_are_left_out() -> None:
    truth = np.array([[6.0, NAN, 7.0], [6.0, 0.2, 9.0], [NAN, 4.0, 5.0]])
    kept = before_reset(np.array([5.0, 5.0, 5.0]), truth)
    np.testing.assert_array_equal(kept, [[6, NAN, 7], [6, NAN, NAN], [NAN, NAN, NAN]])


# Meters that no catalogue lists, and spurious zeros


def test_a_newest_reading_of_zero_is_no_restart_yet() -> None:
    panel = counted(runs(1, 10))
    struck = dataclasses.replace(panel, values=panel.values.copy())
    struck.values[0, -1] = 0.0
    for candidate in (MeanIncrement((RUN_TIME,)), AsLevels(LastValue(), (RUN_TIME,))):
        was, now = candidate.forecast(panel)[0], candidate.forecast(struck)[0]
        assert now.min() >= panel.values[0, -2]
        np.testing.assert_allclose(now, was, atol=4)
    struck.values[0, -2] = 0.0  # and again: it did restart
    assert MeanIncrement((RUN_TIME,)).forecast(struck)[0].max() < panel.values[0, -1]


def test_what_was_worked_out_for_all_gives_what_each_asked_alone_gives() -> None:
    panel = make_panel(np.concatenate([8000 + np.cumsum(runs(2, 10), axis=1), daily_values(2)]), [77, RUN_TIME, 1, 1])
    unlisted = Counters(frozenset({RUN_TIME}), frozenset({1, RUN_TIME}))
    shown, rows = Shown.of(panel, unlisted), np.array([0, 1, 3])
    for candidate in (MeanIncrement(unlisted), AsLevels(LastValue(), unlisted)):
        expected = candidate.forecast(take_series(panel, rows))
        np.testing.assert_array_equal(candidate.forecast(take_series(shown, rows)), expected)
    # Other counters: it is worked out anew.
    others = AsLevels(LastValue(), (1,))
    np.testing.assert_array_equal(others.forecast(shown), others.forecast(panel))


def test_an_unlisted_meter_is_told_by_what_it_does() -> None:
    meter = 8000 + np.cumsum(runs(1, 10), axis=1)
    restarted = np.where(np.arange(meter.shape[1]) < 150, meter, meter - meter[:, [150]])
    gauge, once = daily_values(1), np.where(np.arange(240)[None] < 100, 5.0, 6.0)
    assert is_cumulative(np.concatenate([meter, restarted, gauge, once])).tolist() == [True, True, False, False]
    panel = make_panel(np.concatenate([meter, gauge]), [77, 77])
    unlisted = Counters(frozenset({RUN_TIME}), frozenset({1, RUN_TIME}))
    quantiles = AsLevels(SeasonalNaive("seasonal_naive_day", 1), unlisted).forecast(panel)
    assert quantiles[0].min() >= meter[0, -1]
    assert (np.diff(quantiles[0, :, MEDIAN]) >= 0).all()
    # What the catalogue lists is what it says.
    listed = Counters(frozenset({RUN_TIME}), frozenset({77, RUN_TIME}))
    assert AsLevels(SeasonalNaive("seasonal_naive_day", 1), listed).forecast(panel)[0, :, MEDIAN].min() < meter[0, -1]
