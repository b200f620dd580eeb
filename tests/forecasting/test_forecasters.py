import bottleneck
import numpy as np
import pandas as pd
import pytest
from small_panels import GRID, daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.forecasters import LastValue, SeasonalNaive, WindowMedian, carried_forward, forecast_each

DAY = SeasonalNaive("seasonal_naive_day", 1)


def test_last_value_repeats_the_newest_observation_across_a_gap() -> None:
    values = daily_values(1)
    values[0, -5:] = np.nan
    quantiles = LastValue().forecast(make_panel(values, [1]))
    assert (quantiles[0, :, MEDIAN] == values[0, -6]).all()


def test_window_median_holds_the_middle_of_the_newest_day() -> None:
    values = daily_values(2)
    values[1, -24:-14] = 1000.0  # a burst of less than half a day
    values[0, -3] = np.nan
    point = WindowMedian().forecast(make_panel(values, [1, 1]))[:, :, MEDIAN]
    np.testing.assert_allclose(point[0], np.nanmedian(values[0, -24:]))
    np.testing.assert_allclose(point[1], np.median(values[1, -24:]))
    assert (point[1] < 60).all()


def test_window_median_of_a_silent_day_is_that_of_the_day_before() -> None:
    values = daily_values(1)
    values[0, -20:] = np.nan
    point = WindowMedian().forecast(make_panel(values, [1]))[0, :, MEDIAN]
    np.testing.assert_allclose(point, np.median(values[0, -44:-20]))


@pytest.mark.parametrize("steps", [0, 1, 5, 23, 24, 25, 200])
def test_window_median_is_that_of_pandas_to_the_bit_gaps_or_not(steps: int) -> None:
    random = np.random.default_rng(steps)
    values = np.round(random.normal(size=(40, steps)).cumsum(axis=1), 1)
    values[random.random(values.shape) < 0.2] = np.nan
    values[3], values[4, : steps // 2], values[5, steps // 2 :] = np.nan, np.nan, np.nan
    panel = make_panel(values, [1] * 40)
    values = values[:, -GRID.context_steps :]
    medians = pd.DataFrame(values.T).rolling(24, min_periods=1).median().to_numpy().T.reshape(values.shape)
    if steps:
        np.testing.assert_array_equal(bottleneck.move_median(values, min(24, steps), min_count=1, axis=1), medians)
    held = carried_forward(np.where(np.isfinite(values), medians, np.nan))
    newest = held[:, -1] if steps else np.full(40, np.nan)
    points = WindowMedian().forecast(panel)[:, :, MEDIAN]
    np.testing.assert_array_equal(points, np.repeat(newest[:, None], panel.grid.horizon_steps, axis=1))


def test_intervals_of_window_median_cover_noise_as_stated() -> None:
    values = np.random.default_rng(0).normal(size=(200, 60))
    quantiles = WindowMedian().forecast(make_panel(values[:, :48], [1] * 200))
    inside = (values[:, 48:] >= quantiles[:, :, 2]) & (values[:, 48:] <= quantiles[:, :, 6])
    assert 0.7 < inside.mean() < 0.9


def test_reasons_are_asked_of_a_forecaster_that_knows_them() -> None:
    class Choosy(LastValue):
        def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
            return self.forecast(panel), {0: "too bursty"}

    panel = make_panel(daily_values(1), [1])
    assert forecast_each(LastValue(), panel)[1] == {}
    assert forecast_each(Choosy(), panel)[1] == {0: "too bursty"}


def test_seasonal_naive_repeats_yesterday() -> None:
    values = daily_values(2)
    quantiles = DAY.forecast(make_panel(values, [1, 1]))
    np.testing.assert_array_equal(quantiles[:, :, MEDIAN], values[:, -24:-12])


def test_seasonal_naive_takes_the_day_before_where_yesterday_is_missing() -> None:
    values = daily_values(1)
    values[0, -24:-20] = np.nan
    point = DAY.forecast(make_panel(values, [1]))[0, :, MEDIAN]
    np.testing.assert_array_equal(point[:4], values[0, -48:-44])
    np.testing.assert_array_equal(point[4:], values[0, -20:-12])


def test_seasonal_naive_fills_a_phase_never_seen_with_the_one_before() -> None:
    values = daily_values(1)
    values[0, [-23, -47]] = np.nan
    point = DAY.forecast(make_panel(values, [1]))[0, :, MEDIAN]
    assert point[1] == values[0, -24]
    assert np.isfinite(point).all()


def test_intervals_of_last_value_widen_with_the_distance() -> None:
    walk = np.cumsum(np.random.default_rng(0).normal(size=(20, 240)), axis=1)
    quantiles = LastValue().forecast(make_panel(walk, [1] * 20))
    width = (quantiles[:, :, -1] - quantiles[:, :, 0]).mean(axis=0)
    assert width[-1] > 2 * width[0] > 0


@pytest.mark.parametrize("forecaster", CHEAP, ids=lambda f: f.name)
@pytest.mark.parametrize("steps", [0, 1, 23, 24, 49, 240])
def test_every_simple_forecaster_takes_any_history(forecaster: LastValue | SeasonalNaive, steps: int) -> None:
    values = daily_values(4, 10)[:, :steps]
    values[1] = np.nan
    values[2] = 7.0
    quantiles = forecaster.forecast(make_panel(values, [1] * 4))
    assert quantiles.shape == (4, GRID.horizon_steps, 9)
    assert np.isnan(quantiles[1]).all()
    served = np.isfinite(quantiles).all(axis=(1, 2))
    assert (np.isnan(quantiles[~served])).all()
    assert (np.diff(quantiles[served], axis=2) >= 0).all()
    if served[2]:
        assert (quantiles[2] == 7.0).all()


def test_a_forecaster_looks_at_the_context_alone() -> None:
    values = daily_values(3)
    longer = np.concatenate([np.full((3, 100), 1e9), values], axis=1)
    for forecaster in CHEAP:
        short, long = (forecaster.forecast(make_panel(v, [1] * 3)) for v in (values, longer))
        np.testing.assert_array_equal(short, long)
