"""Scores as sums: what they add up to, and what has not come is not counted."""

from statistics import NormalDist

import numpy as np
import pytest

from bts_assets.contracts.quantiles import STORED_QUANTILES
from bts_assets.monitoring.scores import STRETCHES, score

NORMAL = np.array([NormalDist().inv_cdf(q) for q in STORED_QUANTILES])


def quantiles(series: int, horizon: int, centre: float = 0.0, width: float = 1.0) -> np.ndarray:
    return np.broadcast_to(centre + width * NORMAL, (series, horizon, len(NORMAL))).copy()


def test_sums_are_of_the_targets_that_have_come_by_quarter_of_the_horizon() -> None:
    truth = np.array([[1.0, -1.0, np.nan, 0.0, 3.0, 3.0, np.nan, np.nan]])
    scores = score(quantiles(1, 8), truth)
    assert scores.targets.tolist() == [[2, 1, 2, 0]]
    assert scores.absolute_error.tolist() == [[2.0, 0.0, 6.0, 0.0]]
    assert scores.error.tolist() == [[0.0, 0.0, -6.0, 0.0]]  # the median lies below the truth
    assert scores.inside80.tolist() == [[2, 1, 0, 0]]
    assert scores.inside90.tolist() == [[2, 1, 0, 0]]


def test_series_without_a_forecast_has_no_targets() -> None:
    given = quantiles(2, 8)
    given[1] = np.nan
    scores = score(given, np.zeros((2, 8)))
    assert scores.targets.sum(axis=1).tolist() == [8, 0]
    assert scores.crps[1].tolist() == [0.0] * STRETCHES


def test_a_horizon_shorter_than_its_quarters_is_scored_step_by_step() -> None:
    assert score(quantiles(1, 3), np.ones((1, 3))).targets.tolist() == [[1, 1, 1, 0]]


def test_crps_of_a_normal_forecast_is_about_its_closed_form() -> None:
    truth = np.random.default_rng(0).standard_normal((1, 40_000))
    mean = score(quantiles(1, truth.shape[1]), truth).crps.sum() / truth.size
    # 1 / sqrt(pi) for a perfectly calibrated standard normal; five levels know it to a few per cent.
    assert mean == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)


@pytest.mark.parametrize(("width", "covered"), [(1.0, 0.8), (0.5, 0.48), (2.0, 0.99)])
def test_coverage_is_the_share_of_truths_inside(width: float, covered: float) -> None:
    truth = np.random.default_rng(1).standard_normal((4, 5_000))
    scores = score(quantiles(4, 5_000, width=width), truth)
    assert scores.inside80.sum() / scores.targets.sum() == pytest.approx(covered, abs=0.01)
