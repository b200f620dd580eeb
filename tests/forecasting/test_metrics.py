from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from small_panels import GRID, make_panel

from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.metrics import KEYS, METRICS, actuals_of, mase_scale, metrics, score, together


def test_metrics_by_hand() -> None:
    spread = np.linspace(-4, 4, len(QUANTILES))
    quantiles = np.array([[10 + spread, 10 + spread]])
    result = metrics(quantiles, np.array([[12.0, np.nan]]), np.array([4.0]))
    assert result["mae"][0] == 2
    assert result["rmse"][0] == 2
    assert result["mase"][0] == 0.5
    assert result["smape"][0] == pytest.approx(200 * 2 / 22)
    by_hand = [max(q * (2 - d), (q - 1) * (2 - d)) for q, d in zip(QUANTILES, spread, strict=True)]
    assert result["pinball"][0] == pytest.approx(np.mean(by_hand))
    assert result["wql"][0] == pytest.approx(2 * np.mean(by_hand) / 12)
    assert result["crps"][0] == pytest.approx(2 * np.mean(_losses_between(2 - spread)) / 4)
    assert [result[f"coverage{share}"][0] for share in (50, 80, 90, 95)] == [0, 1, 1, 1]
    assert result["bias"][0] == -2
    assert result["msis"][0] == 8 / 4
    assert tuple(result) == METRICS


def _losses_between(above: np.ndarray) -> list[float]:
    """The loss at twenty levels, the quantiles straight between those given in the standard normal score."""
    score_of = NormalDist().inv_cdf
    levels = [(k + 0.5) / 20 for k in range(20)]
    between = np.interp([score_of(q) for q in levels], [score_of(q) for q in QUANTILES], above)
    return [max(q * d, (q - 1) * d) for q, d in zip(levels, between, strict=True)]


def test_crps_of_a_point_is_its_absolute_error_and_of_a_normal_distribution_what_is_known_of_it() -> None:
    deviates = np.array([NormalDist(10, 2).inv_cdf(q) for q in QUANTILES])
    quantiles = np.stack([np.full((1, len(QUANTILES)), 7.0), deviates[None]])
    result = metrics(quantiles, np.array([[12.0], [12.0]]), np.array([4.0, 4.0]))
    assert result["crps"][0] == pytest.approx(result["mase"][0])
    # Gneiting and Raftery (2007), of a truth one standard deviation from the mean.
    density, below = np.exp(-0.5) / np.sqrt(2 * np.pi), NormalDist().cdf(1)
    known = 2 * (2 * below - 1 + 2 * density - 1 / np.sqrt(np.pi))
    assert result["crps"][1] * 4 == pytest.approx(known, rel=0.01)


def test_interval_score_punishes_what_lies_outside_forty_times() -> None:
    quantiles = np.broadcast_to(np.linspace(6, 14, len(QUANTILES)), (1, 3, len(QUANTILES)))
    result = metrics(quantiles, np.array([[10.0, 15.0, 5.5]]), np.array([2.0]))
    assert result["msis"][0] == pytest.approx((8 + (8 + 40 * 1) + (8 + 40 * 0.5)) / 3 / 2)
    assert result["coverage95"][0] == pytest.approx(1 / 3)
    assert result["bias"][0] == pytest.approx((0 - 5 + 4.5) / 3)


def test_mase_scale_is_the_daily_difference_and_falls_back_in_order() -> None:
    hour = np.arange(72.0)
    repeats_daily = hour % 24
    past = np.stack([hour, repeats_daily, np.full(72, 3.0), np.full(72, np.nan)])
    scale = mase_scale(past, 24)
    assert scale[0] == 24
    assert scale[1] == pytest.approx(np.abs(np.diff(repeats_daily)).mean())
    assert np.isnan(scale[2:]).all()
    assert mase_scale(past[:, :10], 24)[0] == 1


def test_scores_cover_series_with_both_forecasts_and_actuals() -> None:
    values = np.arange(240.0)[None, :] + np.zeros((3, 1))
    values[1, 200:] = np.nan
    panel = make_panel(values, [1, 2, 9])
    came = actuals_of(panel, 200)
    assert came.start == panel.start + 200 * GRID.step
    np.testing.assert_array_equal(came.values[0], np.arange(200.0, 212.0))
    quantiles = np.full((3, 12, len(QUANTILES)), 199.0)
    quantiles[2, 5, 0] = np.nan
    scores = score(came, "last_value", quantiles, np.full(3, 13.0))
    assert scores[[*KEYS, "mae", "mase"]].to_dict("records") == [
        {
            "station_id": 1,
            "parameter_id": 1,
            "origin": pd.Timestamp(came.start),
            "candidate": "last_value",
            "mae": 6.5,
            "mase": 0.5,
        }
    ]
    assert list(together([scores, scores]).columns) == list(together([]).columns) == [*KEYS, *METRICS]
    assert len(together([scores, scores])) == 2
