"""Single events do not come back; what recurs, what goes on and what is the nature of a series stays."""

import numpy as np
import pytest
from small_panels import daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.counters import AsLevels
from bts_assets.forecasting.events import events, settled_values
from bts_assets.forecasting.forecasters import Forecaster
from bts_assets.forecasting.reining import Reach

DAY = 24
GAUGES: list[Forecaster] = [AsLevels(forecaster, ()) for forecaster in CHEAP]
each_candidate = pytest.mark.parametrize("candidate", GAUGES, ids=[f.name for f in GAUGES])


def rhythm(days: int = 8, seed: int = 0) -> np.ndarray:
    return daily_values(3, days, seed)


def week(values: np.ndarray) -> Panel:
    from datetime import timedelta

    from bts_assets.contracts.grid import Grid

    return make_panel(values, [1] * len(values), Grid(timedelta(hours=1), timedelta(days=8), timedelta(hours=48)))


@pytest.mark.parametrize(
    ("at", "length", "value"),
    [
        pytest.param(-20, 1, 999.0, id="a-misread-yesterday"),
        pytest.param(-160, 1, 1e9, id="a-misread-a-week-ago"),
        pytest.param(-30, 5, 0.0, id="an-outage-yesterday"),
        pytest.param(-168, 5, -50.0, id="an-outage-a-week-ago"),
        pytest.param(-1, 1, 1e9, id="the-last-reading-beyond-all-measure"),
    ],
)
@each_candidate
def test_a_single_event_does_not_come_back(candidate: Forecaster, at: int, length: int, value: float) -> None:
    twin, struck = rhythm(), rhythm()
    struck[0, at : (at + length) or None] = value
    was, now = candidate.forecast(week(twin)), candidate.forecast(week(struck))
    np.testing.assert_array_equal(now[1:], was[1:])
    assert np.abs(now[0] - was[0]).max() <= 12
    inside = (now[0, :, MEDIAN] >= was[0, :, 0] - 3) & (now[0, :, MEDIAN] <= was[0, :, -1] + 3)
    assert inside.mean() >= 0.97


def resting(*excursions: tuple[int, int, float]) -> np.ndarray:
    """Eight days of a series that rests at 0, but for (first, length, value)."""
    values = np.zeros((1, 8 * DAY))
    for first, length, value in excursions:
        values[0, first : first + length] = value
    return values


@pytest.mark.parametrize(
    ("excursions", "events_at"),
    [
        pytest.param([(70, 1, 999.0)], [70], id="a-misread-of-what-rests"),
        pytest.param([(30, 5, -20.0), (70, 1, -999.0)], [70], id="a-misread-beside-activity"),
        pytest.param([(30, 1, 2.0), (50, 1, 2.1), (70, 1, -99.0), (90, 1, 99.0)], [70, 90], id="misreads-beside-blips"),
        pytest.param([(30, 1, 2.0), (70, 1, -99.0)], [30, 70], id="the-only-one-left-too"),
        pytest.param([(30, 5, -20.0), (70, 1, -25.0)], [], id="a-short-activity"),
        pytest.param([(30, 3, 999.0)], [], id="what-lasts-is-activity"),
        pytest.param([(30, 1, 5.0), (70, 1, 5.0), (110, 1, 5.0)], [], id="blips-are-what-it-does"),
        pytest.param([(191, 1, 999.0)], [], id="what-is-going-on"),
    ],
)
def test_a_single_step_far_beyond_the_activity_of_a_series_at_rest_is_an_event(
    excursions: list[tuple[int, int, float]], events_at: list[int]
) -> None:
    assert np.flatnonzero(events(resting(*excursions), DAY)[0]).tolist() == events_at


def test_what_recurs_at_its_hour_stays() -> None:
    values = rhythm()
    values[0, 3::DAY] = 300.0
    assert not events(values, DAY).any()


def test_bursts_are_what_some_series_are() -> None:
    rng = np.random.default_rng(0)
    values = rhythm()
    values[0] += np.where(rng.random(values.shape[1]) < 0.05, 400.0, 0.0)
    assert not events(values, DAY)[0].any()


def test_what_still_goes_on_may_be_a_new_level() -> None:
    values = rhythm()
    values[0, -3:] = 400.0
    assert not events(values, DAY).any()
    values[0, -3:] = 45.0
    values[0, -5] = 400.0
    assert np.flatnonzero(events(values, DAY)[0]).tolist() == [values.shape[1] - 5]


def test_a_straight_line_takes_the_place_and_gaps_stay_gaps() -> None:
    values = rhythm()
    values[0, 50:53], values[0, 60] = 900.0, np.nan
    given = settled_values(values, DAY)
    np.testing.assert_allclose(np.diff(given[0, 49:54], 2), 0, atol=1e-9)
    assert np.isnan(given[0, 60])
    np.testing.assert_array_equal(given[1:], values[1:])
    assert values[0, 51] == 900.0


def test_too_little_is_no_measure_of_what_is_usual() -> None:
    values = np.full((1, 40), np.nan)
    values[0, ::2] = 5.0
    values[0, 10] = 1e6
    assert not events(values, DAY).any()


def test_forecasts_beyond_what_a_series_ever_did_are_reined_in_smoothly() -> None:
    panel = week(np.tile(np.linspace(10, 110, 192), (1, 1)))
    given = np.linspace(-2000, 2000, 48 * 9).reshape(1, 48, 9)
    held = Reach.of(panel).reined(given)
    assert (np.diff(held.reshape(-1)) >= 0).all()
    assert held.min() >= -90
    assert held.max() <= 210
    inside = (given >= 10) & (given <= 110)
    np.testing.assert_array_equal(held[inside], given[inside])
    a_little = np.full((1, 48, 9), 130.0)
    np.testing.assert_allclose(Reach.of(panel).reined(a_little), 130.0, rtol=1e-3)


def test_a_past_of_hours_does_not_say_what_a_series_can_do() -> None:
    values = np.full((1, 192), np.nan)
    values[0, -30:] = np.linspace(0, 1, 30)
    given = np.full((1, 48, 9), 50.0)
    np.testing.assert_array_equal(Reach.of(week(values)).reined(given), given)


@pytest.mark.parametrize("silent", [0, 20, 120])
@pytest.mark.parametrize("lasted", [3, 12])
@pytest.mark.parametrize("newest", [0.0, 115.0])
def test_an_outage_at_the_origin_is_no_reason_to_expect_twice_the_voltage(
    silent: int, lasted: int, newest: float
) -> None:
    values = 220 + 5 * rhythm()[:1] / np.abs(rhythm()).max()
    end = values.shape[1] - silent
    values[0, 40:43] = 0.0
    values[0, end - lasted : end] = 0.0  # still lasts, or did when the station fell silent
    values[0, end - 1], values[0, end:] = newest, np.nan
    given = np.broadcast_to(np.linspace(-400, 400, 9), (1, 48, 9))
    held = Reach.of(week(values)).reined(given)
    usual = values[values > 200]
    assert held.max() <= usual.max() + 2 * np.ptp(usual)
    assert held.min() < -200  # on its own side it may be part of something
    shift = np.where(values < 200, 440 - values, values)  # a level twice as high, upside down
    assert Reach.of(week(shift)).reined(given + 400).min() >= usual.min() - 2 * np.ptp(usual)
