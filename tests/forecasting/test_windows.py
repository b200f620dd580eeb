from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from small_panels import GRID, daily_values, make_panel

from bts_assets.contracts.grid import Grid
from bts_assets.forecasting.architecture import design
from bts_assets.forecasting.candidates import STATISTICAL
from bts_assets.forecasting.forecasters import DailyProfile
from bts_assets.forecasting.linear import fit_linear
from bts_assets.forecasting.lstm_network import LstmForecaster, shapes
from bts_assets.forecasting.pretrained import PretrainedForecaster
from bts_assets.forecasting.scaling import AsinhScales
from bts_assets.forecasting.windows import (
    HOLDOUT_SHARE,
    at_origin,
    calendar,
    holdout_origins,
    minimum_past,
    training_windows,
)


@pytest.mark.parametrize(
    ("days", "count", "apart"),
    [
        pytest.param(14, 12, 6, id="half-horizons-where-days-are-few"),
        pytest.param(24, 6, 24, id="days-as-soon-as-six-fit"),
        pytest.param(60, 12, 24, id="never-more-than-twelve"),
        pytest.param(365, 12, 72, id="days-apart-in-a-long-history"),
    ],
)
def test_holdout_origins_keep_the_hour_of_the_night_where_days_fit(days: int, count: int, apart: int) -> None:
    panel = make_panel(np.ones((1, 24 * days)), [1])
    origins = holdout_origins(panel)
    assert origins[-1] == panel.steps - (24 if apart % 24 == 0 else GRID.horizon_steps)
    assert len(origins) == count
    assert set(np.diff(origins)) == {apart}
    assert origins[0] >= panel.steps * (1 - HOLDOUT_SHARE)


@pytest.mark.parametrize("hours", [1, 12, 24, 36, 48, 60])
def test_whatever_the_horizon_the_hour_is_that_of_the_night(hours: int) -> None:
    panel = make_panel(np.ones((1, 24 * 60)), [1], Grid(GRID.step, GRID.context, timedelta(hours=hours)))
    origins = holdout_origins(panel)
    assert {(panel.steps - origin) % 24 for origin in origins} == {0}
    assert 0 <= panel.steps - hours - origins[-1] < 24


def test_holdout_origins_that_hardly_differ_are_left_out() -> None:
    long = Grid(GRID.step, GRID.context, timedelta(hours=48))
    assert holdout_origins(make_panel(np.ones((1, 216)), [1], long)) == (162, 168)


def test_the_holdout_window_is_a_tenth_of_a_long_history_at_most() -> None:
    for days in (200, 365, 800):
        origins = holdout_origins(make_panel(np.ones((1, 24 * days)), [1]))
        assert 24 * days / 20 < origins[-1] - origins[0] <= 24 * days / 10


def test_holdout_origins_ascend_and_have_all_their_targets() -> None:
    for steps in range(GRID.horizon_steps + minimum_past(GRID), 100):
        origins = holdout_origins(make_panel(np.ones((1, steps)), [1]))
        assert origins == tuple(sorted(set(origins)))
        assert origins[-1] + GRID.horizon_steps == steps
        assert origins[0] >= minimum_past(GRID)


def test_one_day_of_history_has_several_holdout_origins() -> None:
    grid = Grid(timedelta(minutes=5), timedelta(hours=6), timedelta(hours=2))
    panel = make_panel(np.ones((1, 288)), [1], grid)
    origins = holdout_origins(panel)
    assert len(origins) >= 4
    assert origins[-1] + grid.horizon_steps == 288


@pytest.mark.parametrize("steps", [0, 5, 12, 17])
def test_a_history_of_little_more_than_a_horizon_has_no_holdout_origin(steps: int) -> None:
    assert holdout_origins(make_panel(np.ones((1, steps)), [1])) == ()


def test_no_training_window_reaches_the_holdout_targets() -> None:
    values = daily_values(3)
    values[1, :150] = np.nan
    panel = make_panel(values, [1, 1, 1])
    cut = holdout_origins(panel)[0]
    windows = training_windows(panel, cut, np.random.default_rng(0))
    rows, origins = windows.draw(np.random.default_rng(0), 50, 64)
    assert (origins + GRID.horizon_steps).max() == cut
    assert origins[rows == 0].min() == minimum_past(GRID)
    assert origins[rows == 1].min(initial=cut) >= 150 + minimum_past(GRID) or 1 not in windows.rows


def test_no_more_windows_are_taken_than_allowed() -> None:
    panel = make_panel(daily_values(4, 20), [1] * 4)
    windows = training_windows(panel, panel.steps, np.random.default_rng(0))
    rows, origins = windows.distinct(np.random.default_rng(0), 100)
    assert len(set(zip(rows.tolist(), origins.tolist(), strict=True))) == 100
    assert origins.max() + GRID.horizon_steps <= panel.steps
    every = set(zip(*(a.tolist() for a in windows.distinct(np.random.default_rng(0), 10**6)), strict=True))
    assert len(every) == len(windows)
    assert {(0, int(windows.first[0])), (3, windows.last)} <= every


def test_about_that_hour_means_whole_days_before_the_origin() -> None:
    panel = make_panel(daily_values(2, 40), [1, 1])
    for cut in (panel.steps, panel.steps - 31):
        windows = training_windows(panel, cut, np.random.default_rng(0))
        _, origins = windows.draw(np.random.default_rng(0), 50, 64, of_that_hour=1.0)
        away = (cut - origins + 12) % 24 - 12
        assert np.abs(away).max() <= 2
        assert origins.max() <= windows.last
        assert len(np.unique(origins)) > 100
        rest = (cut - windows.draw(np.random.default_rng(0), 50, 64, of_that_hour=0.5)[1] + 12) % 24 - 12
        assert 0.5 < (np.abs(rest) <= 2).mean() < 0.7
        assert windows.of_that_hour == pytest.approx(len(windows) * 5 / 24, abs=1)


def test_a_horizon_that_is_no_whole_day_keeps_the_hour_too() -> None:
    grid = Grid(GRID.step, GRID.context, timedelta(hours=30))
    panel = make_panel(daily_values(2, 40), [1, 1], grid)
    windows = training_windows(panel, panel.steps, np.random.default_rng(0))
    _, origins = windows.draw(np.random.default_rng(0), 50, 64, of_that_hour=1.0)
    assert np.abs((panel.steps - origins + 12) % 24 - 12).max() <= 2


def test_a_forecaster_is_shown_the_context_and_nothing_after_the_origin() -> None:
    values = np.arange(240.0)[None, :]
    seen = at_origin(make_panel(values, [1]), 100)
    assert seen.values[0, -1] == 99
    assert seen.steps == GRID.context_steps
    assert seen.end == make_panel(values, [1]).start + 100 * GRID.step


def test_of_a_long_context_some_candidates_see_two_weeks_and_others_all_of_it() -> None:
    grid = Grid(timedelta(hours=1), timedelta(days=42), timedelta(hours=12))
    fortnight = 14 * 24
    values = daily_values(3, days=50)
    panel = make_panel(values, [1, 1, 2], grid)
    arch = design(grid, panel.parameter_id)
    assert arch.context_steps == fortnight
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes(arch).items()}
    candidates = {
        "daily_profile": DailyProfile(),
        "linear": fit_linear(panel, training_windows(panel, panel.steps, rng), panel.steps, 500, 0, AsinhScales()),
        "lstm": LstmForecaster(arch, (weights,), ZoneInfo("UTC"), AsinhScales()),
        "pretrained": PretrainedForecaster.shipped(ZoneInfo("UTC")),
        **{f.name: f for f in STATISTICAL},
    }

    def changed_by(steps_back: int) -> set[str]:
        other = values.copy()
        other[:, -steps_back] += 20
        moved = make_panel(other, [1, 1, 2], grid)
        return {name for name, c in candidates.items() if not np.array_equal(c.forecast(panel), c.forecast(moved))}

    assert changed_by(fortnight) == candidates.keys()
    assert changed_by(fortnight + 1) == {"pretrained", "mstl"}
    assert changed_by(42 * 24 + 1) == set()


def test_calendar_speaks_of_the_local_hour() -> None:
    panel = make_panel(np.ones((1, 24)), [1])
    hanoi, utc = calendar(panel, ZoneInfo("Asia/Ho_Chi_Minh")), calendar(panel, ZoneInfo("UTC"))
    # 19:00 UTC is 02:00 in Hanoi: the same hour of the day, seven rows apart.
    np.testing.assert_allclose(hanoi[17, [0, 2]], utc[24, [0, 2]], atol=1e-6)
    assert utc.shape == (25, 4)
