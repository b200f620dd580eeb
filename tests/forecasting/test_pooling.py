"""Several forecasts as one distribution: what they disagree about widens it, what they agree about is left as it is."""

import numpy as np
import pytest
from small_panels import NORMAL

from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.pooling import pool

LOW, HIGH = QUANTILES.index(0.05), QUANTILES.index(0.95)


def member(middle: float, width: float = 1.0, series: int = 1, horizon: int = 3) -> np.ndarray:
    return np.broadcast_to(middle + width * NORMAL, (series, horizon, len(QUANTILES)))


def pooled(members: list[np.ndarray], *weights: float) -> np.ndarray:
    return pool(np.stack(members), np.array([weights]))[0, 0]


def test_a_fifth_of_an_outage_is_no_sure_voltage_in_between() -> None:
    given = pooled([member(0.0, 0.1), member(221.0, 0.5)], 0.2, 0.8)
    assert given[LOW] == pytest.approx(0, abs=0.3)
    assert given[MEDIAN] == pytest.approx(221, abs=1)
    assert given[HIGH] == pytest.approx(221, abs=1)


@pytest.mark.parametrize("apart", [0.5, 3.0, 30.0])
def test_the_further_members_are_apart_the_wider_the_pool(apart: float) -> None:
    together, given = pooled([member(0.0)] * 2, 0.5, 0.5), pooled([member(0.0), member(apart)], 0.5, 0.5)
    assert given[HIGH] - given[LOW] > together[HIGH] - together[LOW] + 0.2 * apart
    assert given[MEDIAN] == pytest.approx(apart / 2, abs=0.1 * apart + 0.01)


def test_a_member_alone_and_members_that_agree_come_out_as_they_went_in() -> None:
    rng = np.random.default_rng(0)
    one = np.sort(rng.normal(size=(5, 4, len(QUANTILES))), axis=2)
    np.testing.assert_array_equal(pool(one[None], np.ones((5, 1))), one)
    shares = rng.dirichlet(np.ones(3), size=5)
    np.testing.assert_allclose(pool(np.stack([one] * 3), shares), one, rtol=1e-12, atol=1e-12)


def test_the_pool_is_the_mixture_of_the_distributions() -> None:
    rng = np.random.default_rng(0)
    given = pooled([member(0.0), member(4.0, 2.0), member(-1.0, 0.5)], 0.5, 0.3, 0.2)
    which = rng.choice(3, p=(0.5, 0.3, 0.2), size=200_000)
    drawn = np.array([0.0, 4.0, -1.0])[which] + np.array([1.0, 2.0, 0.5])[which] * rng.normal(size=len(which))
    np.testing.assert_allclose(given[1:-1], np.quantile(drawn, QUANTILES[1:-1]), atol=0.25)


def test_quantiles_ascend_whatever_the_members() -> None:
    rng = np.random.default_rng(1)
    members = np.sort(rng.standard_cauchy(size=(6, 20, 4, len(QUANTILES))), axis=3)
    members[2] = np.round(members[2])
    members[4, :, :, :] = 0.0
    assert (np.diff(pool(members, rng.dirichlet(np.ones(6), size=20)), axis=2) >= 0).all()


def test_what_a_member_did_not_serve_falls_to_the_others() -> None:
    members = np.stack([np.full((2, 3, len(QUANTILES)), value) for value in (1.0, 3.0, 7.0)])
    members[0, 0, 1] = np.nan
    members[:, 1, 2] = np.nan
    given = pool(members, np.array([[0.6, 0.4, 0.0], [0.6, 0.4, np.nan]]))[:, :, MEDIAN]
    np.testing.assert_array_equal(given, [[1.0, 3.0, 1.0], [1.0, 1.0, np.nan]])


def test_series_are_pooled_as_they_are_alone() -> None:
    rng = np.random.default_rng(2)
    members = np.sort(rng.normal(size=(4, 150, 3, len(QUANTILES))), axis=3)
    weights = rng.dirichlet(np.ones(4), size=150) * (rng.random((150, 4)) < 0.7)
    whole = pool(members, weights)
    for row in (0, 77, 149):
        np.testing.assert_array_equal(pool(members[:, [row]], weights[[row]])[0], whole[row])
