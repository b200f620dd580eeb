"""Faults that the simulated network can be given: what wears out or reports wrongly, from when on. None by default."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from bts_assets.landing.reading_arrays import ReadingArrays

SiteFault = Literal["ageing_battery", "dying_air_conditioner", "fuel_runs_out", "worn_generator", "change_of_season"]
#: What a sensor or a station reports wrongly: the truth stays as it is.
SensorFault = Literal["stuck_sensor", "mis_scaled_sensor", "silent_station"]
FaultKind = Literal[SiteFault, SensorFault]
SITE_FAULTS: Final = get_args(SiteFault)
FAULT_KINDS: Final = (*SITE_FAULTS, *get_args(SensorFault))

_MINUTES_PER_DAY: Final = 1440
#: Share of its capacity that an ageing battery loses a day, and what it keeps at least.
BATTERY_LOSS_PER_DAY, LEAST_CAPACITY = 0.05, 0.25
#: How much warmer a room is each day that its air conditioner fails (°C), at most, and its duty at the end.
WARMER_PER_DAY, MOST_WARMER = 1.0, 12.0
#: How much warmer it gets outside each day that the season changes (°C), and at most; at every station.
SEASON_PER_DAY, SEASON = 1.0, 5.0
#: What a mis-scaled sensor multiplies its values by.
SCALE: Final = 0.1
#: How much more a worn generator gives than the site takes, as a share.
WORN_LOAD: Final = 0.4


@dataclass(frozen=True)
class Fault:
    """Something that wears out at the station of a row (from 0), from a day of the recording on (from 0).

    parameter: the sensor's, of a stuck or mis-scaled one. A change of season is every station's.
    """

    kind: FaultKind
    station: int
    from_day: float
    parameter: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS or self.station < 0 or self.from_day < 0:
            raise ValueError(f"a fault is one of {', '.join(FAULT_KINDS)}, of a station and day from 0; got {self}")
        if (self.kind in ("stuck_sensor", "mis_scaled_sensor")) != (self.parameter is not None):
            raise ValueError(f"a stuck or mis-scaled sensor is one parameter's, and nothing else is; got {self}")


def days_since(faults: tuple[Fault, ...], kind: FaultKind, stations: int, minute: np.ndarray) -> np.ndarray:
    """Days (stations, minutes) since a fault of the kind began, 0 before it and where there is none."""
    found = np.zeros((stations, len(minute)))
    for fault in faults:
        if fault.kind == kind:
            found[fault.station] = np.maximum(found[fault.station], minute / _MINUTES_PER_DAY - fault.from_day)
    return found


def capacity(faults: tuple[Fault, ...], stations: int, minute: np.ndarray) -> np.ndarray:
    """Share (stations, minutes) of its capacity that each battery has left."""
    return np.maximum(1 - BATTERY_LOSS_PER_DAY * days_since(faults, "ageing_battery", stations, minute), LEAST_CAPACITY)


def warmer(faults: tuple[Fault, ...], stations: int, minute: np.ndarray) -> np.ndarray:
    """How much warmer (stations, minutes) each room is for what its air conditioner no longer does, °C."""
    return np.minimum(WARMER_PER_DAY * days_since(faults, "dying_air_conditioner", stations, minute), MOST_WARMER)


def season(faults: tuple[Fault, ...], minute: np.ndarray) -> np.ndarray:
    """How much warmer it is outside (minutes,) for the season that has changed, °C."""
    days = days_since(tuple(replace(fault, station=0) for fault in faults), "change_of_season", 1, minute)
    return np.minimum(SEASON_PER_DAY * days[0], SEASON)


class FaultySensors:
    """What sensors and stations with a fault make of clean readings, chunk after chunk of a recording."""

    def __init__(self, faults: tuple[Fault, ...], station_id: np.ndarray, start: int) -> None:
        """start: of the recording, microseconds since the epoch."""
        self._faults, self._station_id, self._start = faults, station_id, start
        self._held: dict[Fault, float] = {}

    def report(self, readings: ReadingArrays) -> ReadingArrays:
        """The readings of a chunk as they are reported."""
        for fault in self._faults:
            spoil = self._spoilers.get(fault.kind)
            if spoil is not None:
                readings = spoil(readings, self._rows(readings, fault), fault)
        return readings

    def _rows(self, readings: ReadingArrays, fault: Fault) -> np.ndarray:
        since = self._start + fault.from_day * _MINUTES_PER_DAY * 60 * 10**6
        rows = (readings.station_id == self._station_id[fault.station]) & (readings.time >= since)
        return rows if fault.parameter is None else rows & (readings.parameter_id == fault.parameter)

    @property
    def _spoilers(self) -> dict[str, Callable[[ReadingArrays, np.ndarray, Fault], ReadingArrays]]:
        return {"stuck_sensor": self._stick, "mis_scaled_sensor": _scale, "silent_station": _drop}

    def _stick(self, readings: ReadingArrays, rows: np.ndarray, fault: Fault) -> ReadingArrays:
        if not rows.any():
            return readings
        held = self._held.setdefault(fault, float(readings.value[rows][0]))
        return replace(readings, value=np.where(rows, held, readings.value))


def _scale(readings: ReadingArrays, rows: np.ndarray, _: Fault) -> ReadingArrays:
    return replace(readings, value=np.where(rows, np.round(readings.value * SCALE, 3), readings.value))


def _drop(readings: ReadingArrays, rows: np.ndarray, _: Fault) -> ReadingArrays:
    return readings.take(~rows)
