"""Faults that the simulated network can be given: what wears out, from when on and how fast. None by default."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

FaultKind = Literal["ageing_battery", "dying_air_conditioner", "fuel_runs_out", "worn_generator"]
FAULT_KINDS: Final = get_args(FaultKind)

_MINUTES_PER_DAY: Final = 1440
#: Share of its capacity that an ageing battery loses a day, and what it keeps at least.
BATTERY_LOSS_PER_DAY, LEAST_CAPACITY = 0.05, 0.25
#: How much warmer a room is each day that its air conditioner fails (°C), at most, and its duty at the end.
WARMER_PER_DAY, MOST_WARMER = 1.0, 12.0
#: How much more a worn generator gives than the site takes, as a share.
WORN_LOAD: Final = 0.4


@dataclass(frozen=True)
class Fault:
    """Something that wears out at the station of a row (from 0), from a day of the recording on (from 0)."""

    kind: FaultKind
    station: int
    from_day: float

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS or self.station < 0 or self.from_day < 0:
            raise ValueError(f"a fault is one of {', '.join(FAULT_KINDS)}, of a station and day from 0; got {self}")


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
