import numpy as np
import pytest
from small_panels import daily_values, make_panel

from bts_assets.contracts.grid import QUANTILES
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.backtest import METRICS, backtest, mase_scale, metrics
from bts_assets.forecasting.forecasters import LastValue


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
    assert (result["coverage50"][0], result["coverage80"][0], result["coverage90"][0]) == (0, 1, 1)
    assert set(result) == set(METRICS)


def test_mase_scale_is_the_daily_difference_and_falls_back_in_order() -> None:
    hour = np.arange(72.0)
    repeats_daily = hour % 24
    past = np.stack([hour, repeats_daily, np.full(72, 3.0), np.full(72, np.nan)])
    scale = mase_scale(past, 24)
    assert scale[0] == 24
    assert scale[1] == pytest.approx(np.abs(np.diff(repeats_daily)).mean())
    assert np.isnan(scale[2:]).all()
    assert mase_scale(past[:, :10], 24)[0] == 1


class Perfect:
    """Knows the truth: it is the panel's own values, which grow by 1 a step."""

    name = "perfect"

    def forecast(self, panel: Panel) -> np.ndarray:
        ahead = panel.values[:, -1:] + np.arange(1, panel.grid.horizon_steps + 1)
        return np.repeat(ahead[:, :, None], len(QUANTILES), axis=2)


class Broken:
    name = "broken"

    def forecast(self, panel: Panel) -> np.ndarray:
        raise FloatingPointError("no\nway")


def test_backtest_scores_each_series_origin_and_candidate() -> None:
    panel = make_panel(np.arange(240.0)[None, :] + np.zeros((2, 1)), [1, 2])
    scores, failures = backtest(panel, [LastValue(), Perfect()], [200, 220])
    assert len(scores) == 2 * 2 * 2
    assert (scores.loc[scores["candidate"] == "perfect", "mae"] == 0).all()
    assert (scores.loc[scores["candidate"] == "last_value", "mae"] == 6.5).all()
    assert not failures


def test_a_candidate_that_raises_spoils_itself_and_nothing_else() -> None:
    scores, failures = backtest(make_panel(daily_values(2), [1, 2]), [Broken(), LastValue()], [200])
    assert failures == {"broken": "FloatingPointError: no"}
    assert set(scores["candidate"]) == {"last_value"}
