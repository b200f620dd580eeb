"""Which network is simulated, and its clean readings: when its sensors report, what they measure, when they are silent.

Dirt is `dirt.py`'s, files and truth are `simulate.py`'s.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.grid import DAY
from bts_assets.landing.reading_arrays import ReadingArrays
from bts_assets.simulation.dirt import Dirt
from bts_assets.simulation.faults import Fault
from bts_assets.simulation.network import COUNTERS, TRAITS, Chunk, SimulatedNetwork, random_events

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
DEFAULT_PARAMETERS: Final = (111, 112, 114, 115, 116, 121, 122, 123, 125, 141, 142, 152, 161, 162, 165)
#: An event-driven sensor looks this many times as often as a periodic one reports, and reports at least so often.
LOOKS_PER_READING: Final = 4
HEARTBEAT_MINUTES: Final = 10
#: A jump of many thresholds is reported as a burst of at most so many readings.
LONGEST_BURST: Final = 5


class SimulationError(UsageError):
    """A network that cannot be simulated: one line with what is wrong and what would do."""


def first_parameters(count: int) -> tuple[int, ...]:
    """So many parameters of a station: the default ones, then the others that can be simulated.

    Raises:
        SimulationError: if there are not so many.
    """
    every = (*DEFAULT_PARAMETERS, *(p for p in TRAITS if p not in DEFAULT_PARAMETERS))
    if not 1 <= count <= len(every):
        raise SimulationError(f"a station has 1 to {len(every)} parameters, not {count}")
    return every[:count]


@dataclass(frozen=True)
class NetworkSpec:
    """What to simulate: the `days` days before `end`, which is a whole hour in UTC and exclusive.

    `readings_per_hour` is that of a periodic series; event-driven ones report as their values change. A `steady`
    network has no weather and no events: only the noise of its readings cannot be foreseen.
    """

    stations: int
    days: int
    end: datetime
    seed: int
    parameters: tuple[int, ...] = DEFAULT_PARAMETERS
    readings_per_hour: float = 30.0
    truth_step: timedelta = timedelta(minutes=15)
    dirt: Dirt = field(default_factory=Dirt)
    steady: bool = False
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if any(fault.station >= self.stations for fault in self.faults):
            raise SimulationError(f"a fault is of a station that there is not: there are {self.stations}, from 0")
        if self.stations < 1 or self.days < 1 or self.readings_per_hour <= 0 or self.seed < 0:
            raise SimulationError("stations, days and readings_per_hour must be at least 1, and the seed not negative")
        if self.end.utcoffset() != timedelta(0) or self.end.replace(minute=0, second=0, microsecond=0) != self.end:
            raise SimulationError(f"the end {self.end} is not a whole hour in UTC")
        if self.truth_step < MINUTE or self.truth_step % MINUTE or HOUR % self.truth_step:
            raise SimulationError(f"the truth's step {self.truth_step} is not whole minutes that divide an hour")
        unknown = sorted(set(self.parameters) - set(TRAITS))
        if unknown or not self.parameters or len(set(self.parameters)) < len(self.parameters):
            raise SimulationError(f"parameters must be different ones of {sorted(TRAITS)}; got {self.parameters}")

    @property
    def start(self) -> datetime:
        return self.end - self.days * DAY

    @property
    def hours(self) -> int:
        return self.days * 24


class Gaps:
    """Where nothing is reported: whole stations, and single series."""

    def __init__(self, spec: NetworkSpec, network: SimulatedNetwork) -> None:
        rng = np.random.default_rng([spec.seed, 2])
        series = spec.stations * len(spec.parameters)
        self.stations = random_events(rng, spec.stations, network.minutes, spec.dirt.silent_stations, 150, 720)
        self.series = random_events(rng, series, network.minutes, spec.dirt.missing_sensors, 120, 720)

    def reporting(self, spec: NetworkSpec, chunk: Chunk) -> np.ndarray:
        """Bool (parameters, stations, minutes)."""
        shape = (len(spec.parameters), spec.stations, chunk.minutes)
        silent = self.stations.mask(spec.stations, chunk.first, chunk.minutes)
        missing = self.series.mask(shape[0] * shape[1], chunk.first, chunk.minutes)
        return ~(missing.reshape(shape) | silent)


def clean_readings(
    chunk: Chunk, spec: NetworkSpec, network: SimulatedNetwork, gaps: Gaps, catalogue: Catalogue, next_id: int
) -> ReadingArrays:
    """The chunk's clean readings in order of time, with ascending ids."""
    rng = np.random.default_rng([spec.seed, 5, chunk.first])
    reporting = gaps.reporting(spec, chunk)
    parts = []
    for i, parameter_id in enumerate(spec.parameters):
        sample = _periodic if TRAITS[parameter_id].threshold is None else _event_driven
        row, second, value = sample(rng, chunk, parameter_id, spec.readings_per_hour)
        kept = reporting[i, row, second // 60]
        parameter = catalogue.of(parameter_id)
        value = np.clip(value[kept], parameter.valid_min, parameter.valid_max)
        parts.append((row[kept], np.full(int(kept.sum()), parameter_id), second[kept], value))
    row, parameter_ids, second, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(second, kind="stable")
    ids = next_id + np.cumsum(rng.integers(1, 4, len(order)))
    time = ((network.first_epoch_minute + chunk.first) * 60 + second[order]) * 10**6
    return ReadingArrays(ids, network.station_id[row[order]], parameter_ids[order], time, value[order])


def _periodic(
    rng: np.random.Generator, chunk: Chunk, parameter_id: int, per_hour: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Readings at a jittered period: station row, second of the chunk, value, each (readings,)."""
    traits, signal = TRAITS[parameter_id], chunk.signals[parameter_id]
    row, second = _looks(rng, chunk, len(signal), per_hour, jitter=0.35)
    value = _measured(rng, signal[row, second // 60], traits.noise)
    # Counters are cut off, not rounded, and so never show an hour that has not run.
    scale = 10.0**traits.decimals
    whole = np.floor(value * scale) if parameter_id in COUNTERS else np.rint(value * scale)
    return row, second, whole / scale


def _event_driven(
    rng: np.random.Generator, chunk: Chunk, parameter_id: int, per_hour: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Readings where the value, counted in thresholds, changes, and heartbeats; as `_periodic` returns them.

    A jump of several thresholds is a burst: readings of the values on the way, two within each second.
    """
    traits, signal = TRAITS[parameter_id], chunk.signals[parameter_id]
    threshold = traits.threshold or 1.0
    row, second = _looks(rng, chunk, len(signal), per_hour * LOOKS_PER_READING, jitter=0.0)
    level = np.rint(_measured(rng, signal[row, second // 60], traits.noise) / threshold).astype(np.int32)
    looks = len(row) // len(signal)
    jump = np.diff(level.reshape(-1, looks), prepend=level.reshape(-1, looks)[:, :1]).ravel()
    every = max(int(per_hour * LOOKS_PER_READING * HEARTBEAT_MINUTES / 60), 1)
    heartbeat = (np.arange(len(row)) % looks + row * 7) % every == 0
    count = np.where(jump, np.minimum(np.abs(jump), LONGEST_BURST), heartbeat)
    at = np.repeat(np.arange(len(row)), count)
    nth = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    to_go = jump[at] - np.rint(jump[at] * (nth + 1) / np.maximum(count[at], 1)).astype(np.int32)
    second = np.minimum(second[at] + nth // 2, chunk.minutes * 60 - 1)
    return row[at], second, (level[at] - to_go) * threshold


def _looks(
    rng: np.random.Generator, chunk: Chunk, stations: int, per_hour: float, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """When sensors look, station by station in order of time: station row and second of the chunk, each (looks,)."""
    count = max(round(per_hour * chunk.minutes / 60), 1)
    seconds = chunk.minutes * 60
    place = np.arange(count) + rng.random((stations, 1)) * (1 - jitter)
    if jitter:
        place += rng.random((stations, count)) * jitter
    return np.repeat(np.arange(stations), count), (place * (seconds / count)).astype(np.int64).ravel()


def _measured(rng: np.random.Generator, signal: np.ndarray, noise: float) -> np.ndarray:
    """The signal with noise. An exact zero is equipment that is off, and has none."""
    return signal + rng.normal(0, noise, len(signal)) * (signal != 0) if noise else signal
