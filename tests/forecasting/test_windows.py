from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from small_panels import GRID, daily_values, make_panel

from bts_assets.contracts.grid import Grid
from bts_assets.forecasting.windows import (
    at_origin,
    calendar,
    held_out_origins,
    minimum_past,
    standardise,
    training_windows,
)


def test_held_out_origins_keep_the_hour_of_the_night_where_days_fit() -> None:
    panel = make_panel(daily_values(2), [1, 1])
    origins = held_out_origins(panel)
    assert origins[-1] == panel.steps - GRID.horizon_steps
    assert len(origins) >= 3
    assert set(np.diff(origins)) == {24}


def test_one_day_of_history_is_held_out_at_several_origins() -> None:
    grid = Grid(timedelta(minutes=5), timedelta(hours=6), timedelta(hours=2))
    panel = make_panel(np.ones((1, 288)), [1], grid)
    origins = held_out_origins(panel)
    assert len(origins) >= 4
    assert origins[-1] + grid.horizon_steps == 288


@pytest.mark.parametrize("steps", [0, 5, 12, 14])
def test_history_that_barely_holds_a_horizon_has_no_held_out_origin(steps: int) -> None:
    assert held_out_origins(make_panel(np.ones((1, steps)), [1])) == ()


def test_no_training_window_reaches_the_held_out_targets() -> None:
    values = daily_values(3)
    values[1, :150] = np.nan
    panel = make_panel(values, [1, 1, 1])
    cut = held_out_origins(panel)[0]
    windows = training_windows(panel, cut, np.random.default_rng(0))
    rows, origins = windows.draw(np.random.default_rng(0), 50, 64)
    assert (origins + GRID.horizon_steps).max() == cut
    assert origins[rows == 0].min() == minimum_past(GRID)
    assert origins[rows == 1].min(initial=cut) >= 150 + minimum_past(GRID) or 1 not in windows.rows


def test_a_forecaster_is_shown_the_context_and_nothing_after_the_origin() -> None:
    values = np.arange(240.0)[None, :]
    seen = at_origin(make_panel(values, [1]), 100)
    assert seen.values[0, -1] == 99
    assert seen.steps == GRID.context_steps
    assert seen.end == make_panel(values, [1]).start + 100 * GRID.step


def test_calendar_speaks_of_the_local_hour() -> None:
    panel = make_panel(np.ones((1, 24)), [1])
    hanoi, utc = calendar(panel, ZoneInfo("Asia/Ho_Chi_Minh")), calendar(panel, ZoneInfo("UTC"))
    # 19:00 UTC is 02:00 in Hanoi: the same hour of the day, seven rows apart.
    np.testing.assert_allclose(hanoi[17, [0, 2]], utc[24, [0, 2]], atol=1e-6)
    assert utc.shape == (25, 4)


@pytest.mark.parametrize(
    "values", [[5.0, 5.0, 5.0], [np.nan] * 3, [1e300, -1e300, 0.0], [np.inf, 1.0, 2.0], [1e6, 1e6 + 1e-3, 1e6]]
)
def test_standardising_survives_any_values(values: list[float]) -> None:
    scaled, centre, spread = standardise(np.array([values]))
    assert np.isfinite(centre).all()
    assert np.isfinite(spread).all()
    assert (spread > 0).all()
    finite = np.isfinite(values)
    back = scaled[0, finite] * spread[0] + centre[0]
    np.testing.assert_allclose(back, np.array(values)[finite], rtol=1e-12)
