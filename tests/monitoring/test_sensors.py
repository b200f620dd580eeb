"""Sensors and stations that report wrongly, named; and those that do not, left alone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.monitoring.sensors import Watched, sensor_faults
from bts_assets.monitoring.snapshot import take

GRID = Grid(timedelta(hours=1), timedelta(days=7), timedelta(hours=48))
END = datetime(2026, 3, 1, 2, tzinfo=UTC)
STATIONS, PARAMETERS, DAYS = 4, 3, 35


def network() -> np.ndarray:
    """Days of rooms that warm up in the afternoon: (series, hours), the last week of which is the context."""
    rng, hours = np.random.default_rng(0), np.arange(DAYS * 24)
    course = np.sin(2 * np.pi * hours / 24) + 0.4 * np.sin(4 * np.pi * hours / 24 + 1)
    return np.round(25 + 3 * course + 0.3 * rng.standard_normal((STATIONS * PARAMETERS, DAYS * 24)), 2)


def faults_of(values: np.ndarray, gauges: bool = True) -> pd.DataFrame:
    station, parameter = np.repeat(np.arange(STATIONS), PARAMETERS), np.tile(np.arange(PARAMETERS), STATIONS)
    whole = Panel(GRID, station, parameter, END, values)
    context = Panel(GRID, station, parameter, END, values[:, -7 * 24 :])
    return sensor_faults(Watched(context, take(whole.until(7 * 24), ()), np.full(len(station), gauges)))


def damaged(damage: Callable[[np.ndarray], None]) -> pd.DataFrame:
    values = network()
    damage(values)
    return faults_of(values)


def test_a_sound_network_has_no_fault() -> None:
    assert faults_of(network()).empty


def stuck(values: np.ndarray) -> None:
    values[4, -15:] = 26.3


def flat(values: np.ndarray) -> None:
    values[4, -30:] = 25 + 0.01 * np.sin(np.arange(30))


def dead(values: np.ndarray) -> None:
    values[4, -15:] = 0


def missing(values: np.ndarray) -> None:
    values[4, -20:] = np.nan


def tenfold(values: np.ndarray) -> None:
    values[4, -24:] *= 10


def thousandth(values: np.ndarray) -> None:
    values[4, -24:] /= 1000


def fahrenheit(values: np.ndarray) -> None:
    values[4, -24:] = 32 + 1.8 * values[4, -24:]


@pytest.mark.parametrize(
    ("damage", "fault", "figure"),
    [
        (stuck, "stuck", 26.3),
        (flat, "flat_lined", None),
        (dead, "flat_lined", 0.0),
        (missing, "missing", 4 / 24),
        (tenfold, "mis_scaled", 10.0),
        (thousandth, "mis_scaled", 0.001),
        (fahrenheit, "mis_scaled", 1.8),
    ],
)
def test_a_faulty_sensor_is_named(damage: Callable[[np.ndarray], None], fault: str, figure: float | None) -> None:
    (row,) = damaged(damage).itertuples()
    assert (row.fault, row.station_id, row.parameter_id) == (fault, 1, 1)
    if figure is not None:
        assert row.figure == pytest.approx(figure)


def test_a_stuck_sensor_is_stuck_since_its_last_change() -> None:
    (row,) = damaged(stuck).itertuples()
    assert row.since == END - timedelta(hours=15)


def test_a_silent_station_is_one_fault_and_not_one_per_sensor() -> None:
    def silence(values: np.ndarray) -> None:
        values[3:6, -9:] = np.nan

    (row,) = damaged(silence).itertuples()
    assert (row.fault, row.station_id, row.parameter_id) == ("silent_station", 1, -1)
    assert row.since == END - timedelta(hours=9)


@pytest.mark.parametrize("hours", [-5, 7])
def test_a_clock_that_was_set_wrong_is_known_by_the_course_of_days(hours: int) -> None:
    def shift(values: np.ndarray) -> None:
        values[3:6, -7 * 24 :] = np.roll(values[3:6], hours, axis=1)[:, -7 * 24 :]

    (row,) = damaged(shift).itertuples()
    assert (row.fault, row.station_id, row.parameter_id, row.figure) == ("clock_shifted", 1, -1, hours)


def test_what_the_training_knew_is_no_fault() -> None:
    values = network()
    values[4] = np.repeat(values[4, ::24], 24)  # reports once a day
    values[5] = 25.0  # never moved
    values[6, ::2] = values[6, 1::2] = np.nan  # never heard
    assert faults_of(values).empty


def test_switches_and_meters_may_stand_still() -> None:
    values = network()
    values[4, -40:] = 26.3
    assert faults_of(values, gauges=False).empty


def test_a_context_of_a_day_is_enough_and_one_of_hours_says_less() -> None:
    values = network()
    station, parameter = np.repeat(np.arange(STATIONS), PARAMETERS), np.tile(np.arange(PARAMETERS), STATIONS)
    trained = take(Panel(GRID, station, parameter, END, values), ())
    for hours in (24, 5):
        context = Panel(GRID, station, parameter, END, values[:, -hours:])
        assert sensor_faults(Watched(context, trained, np.ones(len(station), bool))).empty
