"""Switches: the probability of an event."""

from datetime import timedelta

import numpy as np
import pytest
from small_panels import GRID, make_panel

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.switches import EventRate

DOOR = 4
RATE = EventRate((DOOR,))

#: As by default.
QUARTERS = Grid(timedelta(minutes=15), timedelta(days=7), timedelta(hours=48))


def switches(values: np.ndarray, grid: Grid = QUARTERS) -> Panel:
    return make_panel(values, [DOOR] * len(values), grid)


def at_random(probability: np.ndarray, seed: int = 0) -> np.ndarray:
    """On in each step with that probability, as 0.0 or 1.0."""
    return (np.random.default_rng(seed).random(probability.shape) < probability).astype(float)


@pytest.mark.parametrize("steps", [1, 5, 30, 48, 240])
def test_probabilities_ascend_between_0_and_1(steps: int) -> None:
    values = np.random.default_rng(0).random((5, steps)).round()
    values[1], values[2], values[3, :-1], values[4, -1] = 0.0, 1.0, np.nan, 7.0
    quantiles = RATE.forecast(switches(values, GRID))
    assert quantiles.shape == (5, GRID.horizon_steps, len(QUANTILES))
    assert (quantiles > 0).all()
    assert (quantiles < 1).all()
    assert (np.diff(quantiles, axis=2) > 0).all()


def test_only_switches_with_an_observation_are_served() -> None:
    values = np.zeros((3, 48))
    values[2] = np.nan
    quantiles = RATE.forecast(make_panel(values, [1, DOOR, DOOR]))
    assert np.isfinite(quantiles).all(axis=(1, 2)).tolist() == [False, True, False]
    assert np.isnan(quantiles[[0, 2]]).all()


def test_a_switch_that_was_never_on_is_improbable_and_surely_so() -> None:
    never, always = RATE.forecast(switches(np.array([[0.0] * 672, [1.0] * 672])))
    assert never.max() < 0.03
    assert always.min() > 0.97
    np.testing.assert_allclose(never, 1 - always[:, ::-1], atol=1e-12)


def test_a_longer_history_is_surer() -> None:
    values = at_random(np.full((1, 672), 0.2))
    short = values.copy()
    short[:, :-96] = np.nan
    width = [np.ptp(RATE.forecast(switches(v))[0], axis=1).mean() for v in (short, values)]
    assert width[1] < 0.6 * width[0]


def test_a_door_that_is_opened_in_working_hours_is_known_by_its_hours() -> None:
    hour = np.arange(672) // 4 % 24
    working = (hour >= 8) & (hour < 17)
    point = RATE.forecast(switches(at_random(np.tile(np.where(working, 0.5, 0.01), (20, 1)))))[:, :, MEDIAN]
    ahead = working[:192]
    assert point[:, ahead].mean() == pytest.approx(0.5, abs=0.08)
    assert point[:, ~ahead].mean() < 0.06


def test_hours_that_differ_by_chance_alone_share_their_evidence() -> None:
    values = at_random(np.full((200, 672), 0.05), seed=1)
    point = RATE.forecast(switches(values))[:, :, MEDIAN]
    by_hour = np.tile(values.reshape(200, 7, 24, 4).mean(axis=(1, 3)).repeat(4, axis=1), 2)
    assert np.abs(point - 0.05).mean() < 0.5 * np.abs(by_hour - 0.05).mean()


def test_probabilities_are_as_frequent_as_they_say() -> None:
    rng = np.random.default_rng(2)
    probability = np.tile(rng.beta(1, 9, (300, 1)) * rng.choice([0.3, 1.7], (300, 96)), (1, 9))
    values = at_random(probability, seed=3)
    point = RATE.forecast(switches(values[:, :672]))[:, :, MEDIAN]
    truth = values[:, 672:]
    for low, high in ((0, 0.05), (0.05, 0.15), (0.15, 0.4), (0.4, 1)):
        mine = (point >= low) & (point < high)
        assert truth[mine].mean() == pytest.approx(point[mine].mean(), rel=0.2)


def test_an_event_of_an_hour_is_one_event_and_not_four() -> None:
    once = np.zeros((1, 672))
    once[0, 100:104] = 1.0
    hours = Grid(timedelta(hours=1), timedelta(days=7), timedelta(hours=48))
    by_quarters, by_hours = RATE.forecast(switches(once)), RATE.forecast(switches(once[:, ::4], hours))
    np.testing.assert_allclose(by_quarters[:, ::4], by_hours)


def test_a_value_between_counts_as_that_share_of_an_event() -> None:
    half, alternating = np.full((1, 672), 0.5), np.tile([0.0, 1.0], 336)[None, :]
    np.testing.assert_allclose(RATE.forecast(switches(half)), RATE.forecast(switches(alternating)))


@pytest.mark.parametrize("minutes", [5, 18, 45, 120, 1440])
def test_any_step_that_divides_a_day_has_hours(minutes: int) -> None:
    grid = Grid(timedelta(minutes=minutes), timedelta(days=8), timedelta(days=2))
    morning = np.arange(grid.context_steps) % grid.steps_per_day < grid.steps_per_day / 2
    values = at_random(np.tile(np.where(morning, 0.6, 0.1), (2, 1)))
    quantiles = RATE.forecast(switches(values, grid))
    assert quantiles[:, :, MEDIAN].mean() == pytest.approx(values.mean(), abs=0.1)
    np.testing.assert_array_equal(quantiles[:, grid.steps_per_day :], quantiles[:, : grid.steps_per_day])


def test_the_probability_of_a_series_does_not_depend_on_its_neighbours() -> None:
    values = at_random(np.random.default_rng(0).random((4, 672)))
    np.testing.assert_array_equal(RATE.forecast(switches(values))[2:3], RATE.forecast(switches(values[2:3])))
