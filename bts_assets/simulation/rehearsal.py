"""The network of a rehearsal: which stations have which fault, from which night on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from bts_assets.contracts.grid import DAY
from bts_assets.simulation.dirt import Dirt
from bts_assets.simulation.faults import Fault, FaultKind
from bts_assets.simulation.network import FIRST_STATION_ID, SimulatedNetwork
from bts_assets.simulation.readings import NetworkSpec

#: Days of recording before the first night: what a version is trained on, and outages that batteries are known by.
HISTORY: Final = 35
#: When faults begin, as shares of the nights, and the sensors of faulty ones.
_PLAN: Final[tuple[tuple[FaultKind, float, int | None], ...]] = (
    ("dying_air_conditioner", 0.1, None),
    ("ageing_battery", 0.1, None),
    ("fuel_runs_out", 0.1, None),
    ("stuck_sensor", 0.2, 115),
    ("mis_scaled_sensor", 0.35, 121),
    ("silent_station", 0.5, None),
    ("change_of_season", 0.7, None),
)
LEAST_STATIONS: Final = len(_PLAN)


@dataclass(frozen=True)
class Plan:
    """A network with its faults, and the origins of the nights that are rehearsed; the last day is told of no night."""

    spec: NetworkSpec
    origins: tuple[datetime, ...]

    def began_at(self, fault: Fault) -> datetime:
        return self.spec.start + fault.from_day * DAY

    def station_id(self, fault: Fault) -> int | None:
        """Whose fault it is; None: every station's."""
        return None if fault.kind == "change_of_season" else FIRST_STATION_ID + fault.station


def plan(stations: int, nights: int, end: datetime, seed: int, history: int = HISTORY) -> Plan:
    """A network of so many stations, each of the first ones with a fault of its own, until two days after the nights.

    end: a whole hour, UTC. What works in outages alone fails where they are most: the generator at one station that has
    one, the battery at another, without a generator where there is one.
    """
    days = history + nights + 1
    network = SimulatedNetwork(stations, days * 1440, 0, seed)
    fuel, battery = _outage_rows(network)
    row_of = {"change_of_season": 0, "fuel_runs_out": fuel, "ageing_battery": battery}
    others = (row for row in range(stations) if row not in (fuel, battery))
    faults = tuple(
        Fault(kind, row_of[kind] if kind in row_of else next(others), history + share * nights, parameter)
        for kind, share, parameter in _PLAN
    )
    spec = NetworkSpec(
        stations,
        days,
        end,
        seed,
        readings_per_hour=6.0,
        dirt=Dirt(silent_stations=0.0, missing_sensors=0.0, future_time=0.0, late=0.0),
        faults=faults,
    )
    first = end - (nights + 1) * DAY
    return Plan(spec, tuple(first + night * DAY for night in range(nights)))


def _outage_rows(network: SimulatedNetwork) -> tuple[int, int]:
    """The station whose generator, and another whose battery, has most to do in outages of half an hour and more."""
    outages = network.outages
    long = outages.row[outages.end - outages.start >= 30]
    counts = np.bincount(long, minlength=len(network.station_id))
    fuel = int(np.argmax(np.where(network.has_generator, counts, -1)))
    lone = ~network.has_generator
    lone[fuel] = False
    candidates = lone if lone.any() else np.arange(len(counts)) != fuel
    return fuel, int(np.argmax(np.where(candidates, counts, -1)))
