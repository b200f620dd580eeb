"""GIFT-Eval's protocol: which windows, which scale, which levels, and figures that can be reckoned by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import gift
from bts_assets.contracts.quantiles import QUANTILES

NORMAL = np.array([gift.NormalDist().inv_cdf(q) for q in QUANTILES])


def test_windows_are_of_the_last_tenth_twenty_at_most_and_do_not_overlap() -> None:
    assert gift.windows_of(17420) == tuple(17420 - 48 * back for back in range(20, 0, -1))
    assert gift.windows_of(748) == (652, 700)
    assert gift.windows_of(100) == (52,)


def test_levels_that_we_do_not_give_lie_where_a_normal_distribution_has_them() -> None:
    wanted = [gift.NormalDist().inv_cdf(level) for level in gift.LEVELS]
    np.testing.assert_allclose(gift.at_levels(5 + 2 * NORMAL), 5 + 2 * np.array(wanted), rtol=1e-12)
    np.testing.assert_allclose(gift.at_levels(np.arange(9.0))[[0, 4, 8]], [2, 4, 6])


def test_figures_by_hand() -> None:
    truth = np.array([[1.0, 3.0, np.nan]])
    window = gift.Window(truth, np.array([2.0]))
    exact = np.repeat(np.array([[2.0, 2.0, 2.0]])[..., None], 9, axis=2)
    mase, crps = gift.figures([window, window], [exact, np.where(np.isnan(truth), 0, truth)[..., None].repeat(9, 2)])
    assert mase == pytest.approx((0.5 + 0) / 2)
    # One above and one below, each 1 off: twice level and twice what is left of it, over a sum of 8.
    assert crps == pytest.approx(np.mean([2 * (1 - q) + 2 * q for q in gift.LEVELS]) / 8)


def test_what_does_not_come_out_as_published_is_said_to(shared_data: Path) -> None:
    case = gift.case_of("ett1/H", shared_data)
    naive = gift.naive_row(case)
    assert naive == pytest.approx((1.0012, 0.2540), abs=1e-4)
    assert "published are 0.977 and 0.2404" in gift.beside_published("ett1/H", naive)
    assert gift.beside_published("ett1/H", (0.9771, 0.2403)) == "The seasonal naive comes out as published."
