"""Faults planted in the simulated network change what they should, of their station, from their day on."""

import numpy as np
import pytest

from bts_assets.landing.reading_arrays import ReadingArrays
from bts_assets.simulation.faults import SITE_FAULTS, Fault, FaultKind, FaultySensors
from bts_assets.simulation.network import SimulatedNetwork

#: Fault -> the parameters whose truth it changes.
CHANGED: dict[FaultKind, set[int]] = {
    "ageing_battery": {116, 122, 125, 141, 142, 143, 144, 145, 161},
    "dying_air_conditioner": {111, 112, 113, 116},
    "worn_generator": {125},
}


def truth(*faults: Fault, days: int = 12) -> dict[int, np.ndarray]:
    (chunk,) = SimulatedNetwork(4, days * 1440, 29_000_000, seed=5, faults=faults).chunks(days * 1440)
    return chunk.signals


@pytest.mark.parametrize("kind", [kind for kind in SITE_FAULTS if kind != "change_of_season"])
def test_a_fault_changes_its_station_from_its_day_on_and_nothing_else(kind: FaultKind) -> None:
    sound, faulty = truth(), truth(Fault(kind, 0, 3))
    changed = {p: np.argwhere(np.asarray(sound[p]) != np.asarray(faulty[p])) for p in sound}
    touched = {p for p, places in changed.items() if len(places)}
    assert touched <= CHANGED.get(kind, set(sound))
    assert touched
    for places in changed.values():
        assert set(places[:, 0]) <= {0}
        assert not len(places) or places[:, 1].min() > 3 * 1440


def test_a_fault_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="a fault is one of ageing_battery, dying_air_conditioner"):
        Fault("gremlins", 0, 1)  # type: ignore[arg-type]


def test_a_season_changes_the_weather_of_every_station_by_some_degrees() -> None:
    sound, faulty = truth(), truth(Fault("change_of_season", 3, 3))
    warmer = np.asarray(faulty[114]) - np.asarray(sound[114])
    assert np.allclose(warmer, warmer[0])
    assert warmer[0, : 3 * 1440].max() == 0
    assert warmer[0, 4 * 1440] == pytest.approx(1)
    assert warmer[0, -1] == pytest.approx(5)
    assert np.asarray(faulty[111])[:, -1].min() > np.asarray(sound[111])[:, -1].min()


def readings(first_hour: int) -> ReadingArrays:
    """A day of two stations' room temperature and humidity, hour by hour."""
    hour = np.repeat(np.arange(first_hour, first_hour + 24), 4)
    station, parameter = np.tile([10, 10, 20, 20], 24), np.tile([111, 115], 48)
    return ReadingArrays(hour * 4, station, parameter.astype(np.int32), hour * 3600 * 10**6, 20.0 + hour)


def test_faulty_sensors_report_wrongly_from_their_day_on_and_nobody_else_does() -> None:
    stuck, scaled = Fault("stuck_sensor", 0, 0.5, 115), Fault("mis_scaled_sensor", 1, 1, 111)
    sensors = FaultySensors((stuck, scaled, Fault("silent_station", 1, 1.5)), np.array([10, 20]), 0)
    days = [readings(first) for first in (0, 24)]
    first, second = (sensors.report(day) for day in days)
    at = (first.station_id == 10) & (first.parameter_id == 115)
    assert first.value[at].tolist() == [*range(20, 32), *[32.0] * 12]
    assert np.array_equal(first.value[~at], days[0].value[~at])
    at = (second.station_id == 10) & (second.parameter_id == 115)
    assert set(second.value[at]) == {32.0}
    mine = second.station_id == 20
    assert second.time[mine].max() == 35 * 3600 * 10**6
    assert second.value[mine & (second.parameter_id == 111)] == pytest.approx(0.1 * np.arange(44, 56))
    assert len(second) == 48 + 24


@pytest.mark.parametrize(("kind", "parameter"), [("stuck_sensor", None), ("silent_station", 111)])
def test_a_sensor_is_named_by_its_parameter(kind: FaultKind, parameter: int | None) -> None:
    with pytest.raises(ValueError, match="one parameter's, and nothing else is"):
        Fault(kind, 0, 1, parameter)
