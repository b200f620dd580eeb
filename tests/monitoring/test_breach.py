"""Breaches joint over the horizon: probabilities that come true, and what counts as one."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.signal import lfilter

from bts_assets.contracts.quantiles import STORED_QUANTILES
from bts_assets.monitoring.breach import Breaches, Dependence, breaches
from bts_assets.monitoring.dependence import dependence_of, strays_of
from bts_assets.monitoring.terms import BreachRule

NORMAL = np.array([NormalDist().inv_cdf(q) for q in STORED_QUANTILES])
HORIZON = 48
WINDOWS = (6, 24, 48)


def paths(series: int, level_share: float, root: float, seed: int = 0, steps: int = HORIZON) -> np.ndarray:
    """Standard normal at every step: a level that lasts and a second-order autoregression, long under way."""
    rng = np.random.default_rng(seed)
    innovations = rng.standard_normal((series, 200 + steps)) * np.sqrt((1 - root**2) ** 3 / (1 + root**2))
    short = lfilter([1.0], [1.0, -2 * root, root**2], innovations, axis=1)[:, 200:]
    return np.sqrt(level_share) * rng.standard_normal((series, 1)) + np.sqrt(1 - level_share) * short


def foreseen(limit: float, side: int = 1, level: float = 0.3, root: float = 0.8, **kwargs: object) -> Breaches:
    quantiles = np.broadcast_to(NORMAL, (1, HORIZON, len(NORMAL)))
    dependence = Dependence(np.array([level]), np.array([root]))
    return breaches(quantiles, np.array([limit]), side, dependence, WINDOWS, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [1, -1], ids=["high", "low"])
@pytest.mark.parametrize(("level", "root"), [(0.0, 0.0), (0.3, 0.8), (0.9, 0.5)])
@pytest.mark.parametrize("limit", [1.0, 1.6, 2.5])
def test_probability_is_how_often_such_paths_pass_the_limit(side: int, level: float, root: float, limit: float) -> None:
    came = side * paths(20_000, level, root) > limit
    found = foreseen(side * limit, side, level, root).probability[0]
    assert found == pytest.approx([came[:, :w].any(axis=1).mean() for w in WINDOWS], abs=0.07)


def test_the_more_a_series_persists_the_fewer_chances_it_has() -> None:
    loose, tight = foreseen(1.6, level=0.0, root=0.0), foreseen(1.6, level=0.9, root=0.9)
    assert loose.probability[0, -1] > 0.9 > 0.3 > tight.probability[0, -1]


def test_a_limit_out_of_reach_is_not_passed_and_one_that_is_not_there_is_not_asked() -> None:
    quantiles = np.broadcast_to(NORMAL, (2, HORIZON, len(NORMAL)))
    dependence = Dependence(np.full(2, 0.3), np.full(2, 0.8))
    found = breaches(quantiles, np.array([50.0, np.nan]), 1, dependence, WINDOWS)
    assert found.probability[0].tolist() == [0, 0, 0]
    assert np.isnan(found.probability[1]).all()
    assert found.first_likely.tolist() == [-1, -1]


def test_a_certain_breach_is_likely_from_its_first_step_on() -> None:
    rising = np.linspace(0, 10, HORIZON)[None, :, None] + 0.01 * NORMAL
    found = breaches(rising, np.array([5.0]), 1, Dependence(np.array([0.3]), np.array([0.8])), WINDOWS)
    assert found.probability[0].tolist() == [0, pytest.approx(0.0, abs=0.6), 1]
    assert found.first_likely[0] == np.argmax(rising[0, :, 2] > 5.0)
    assert found.expected_worst[0] == pytest.approx(10, abs=0.1)
    assert found.expected_steps[0] == pytest.approx(HORIZON - found.first_likely[0], abs=1)


def test_a_breach_is_so_many_steps_in_a_row() -> None:
    once, thrice = (foreseen(1.6, level=0.0, root=0.5, rule=BreachRule(persistence=n)) for n in (1, 3))
    came = paths(20_000, 0.0, 0.5) > 1.6
    runs = came[:, :-2] & came[:, 1:-1] & came[:, 2:]
    assert thrice.probability[0, -1] == pytest.approx(runs.any(axis=1).mean(), abs=0.07)
    assert thrice.probability[0, -1] < once.probability[0, -1]


def test_hovering_about_a_limit_is_one_breach_until_it_has_recovered() -> None:
    plain, held = (foreseen(0.5, level=0.0, root=0.0, rule=BreachRule(recovery=r)) for r in (0.0, 2.0))
    assert held.expected_steps[0] > 1.5 * plain.expected_steps[0]


def test_what_a_series_is_told_does_not_depend_on_its_neighbours() -> None:
    quantiles = np.stack([np.broadcast_to(NORMAL * w, (HORIZON, len(NORMAL))) for w in (1, 2, 3)])
    dependence = Dependence(np.array([0.1, 0.3, 0.5]), np.array([0.5, 0.7, 0.9]))
    limit = np.array([1.6, 1.6, 1.6])
    together = breaches(quantiles, limit, 1, dependence, WINDOWS)
    alone = breaches(
        quantiles[1:2], limit[1:2], 1, Dependence(dependence.level_share[1:2], dependence.root[1:2]), WINDOWS
    )
    assert together.probability[1].tolist() == alone.probability[0].tolist()


@pytest.mark.parametrize(("level", "root"), [(0.0, 0.0), (0.0, 0.75), (0.5, 0.5)])
def test_dependence_is_found_from_how_series_strayed(level: float, root: float) -> None:
    day, days = 24, 14
    # The level lasts a horizon, no longer.
    strayed = np.concatenate([paths(40, level, root, seed, steps=2 * day) for seed in range(days // 2)], axis=1)
    values = 10 + 5 * np.sin(2 * np.pi * np.arange(days * day) / day) + strayed
    found = dependence_of(strays_of(values, day, 2 * day), np.zeros(40, dtype=np.int32))
    assert np.median(found.level_share) == pytest.approx(level, abs=0.3)
    assert np.median(found.root) == pytest.approx(root, abs=0.15)


def test_a_series_that_was_hardly_observed_takes_after_its_parameter() -> None:
    values = 10 + paths(20, 0.0, 0.9, steps=24 * 14)
    values[0, :-3] = np.nan
    found = dependence_of(strays_of(values, 24, HORIZON), np.zeros(20, dtype=np.int32))
    assert found.root[0] == pytest.approx(np.median(found.root[1:]), abs=0.05)
    assert np.isfinite(found.level_share).all()


@pytest.mark.parametrize("steps", [24, 96])
def test_a_network_without_limits_has_nothing_that_strays(steps: int) -> None:
    found = strays_of(np.empty((0, steps)), 24, HORIZON)
    assert [len(values) for values in vars(found).values()] == [0, 0, 0]
