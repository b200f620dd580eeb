"""The simulated network's truth: its stations, weather, power and the noiseless signal of every parameter.

Readings, dirt and files are `simulate.py`'s and `dirt.py`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from bts_assets.simulation.faults import WORN_LOAD, Fault, capacity, days_since, season, warmer

MINUTES_PER_DAY: Final = 1440
FIRST_STATION_ID: Final = 1161114001
#: Name, latitude and longitude (degrees) of the places that the stations are scattered around.
REGIONS: Final = (("Hanoi", 21.0, 105.8), ("Da Nang", 16.0, 108.2), ("Ho Chi Minh City", 10.8, 106.7))
STATION_TIMEZONE: Final = "Asia/Ho_Chi_Minh"
UTC_OFFSET_MINUTES: Final = 7 * 60
KM_PER_DEGREE: Final = 111.0
#: Weather of two stations this far apart correlates at exp(-1/2) = 0.61.
WEATHER_LENGTH_KM: Final = 120.0
WEATHER_WAVES: Final = 48


@dataclass(frozen=True)
class Traits:
    """How a parameter is measured. All but `decimals` in its unit.

    `level` is the standard deviation between stations, `drift` the amplitude of a slow wander of months, `noise` the
    standard deviation of the independent noise of each reading. With a `threshold` the sensor is event-driven: it
    reports when its value, counted in thresholds, changes; without one it is periodic.
    """

    noise: float = 0.0
    level: float = 0.0
    drift: float = 0.0
    decimals: int = 2
    threshold: float | None = None


_SWITCH: Final = Traits(threshold=1.0)
_COUNTER: Final = Traits()
TRAITS: Final = {
    111: Traits(0.15, 0.8, 0.5),
    112: Traits(0.2, 0.5, 0.3),
    113: Traits(0.2, 0.5, 0.3),
    114: Traits(0.2, 0.6, 0.2),
    115: Traits(0.8, 2.0, 1.0, decimals=1),
    116: Traits(0.1, 0.6, 0.5),
    121: Traits(0.8, 1.5, 1.0, decimals=1),
    122: Traits(0.35, 1.0, 0.5, threshold=1.0),
    123: Traits(0.02, 0.005, 0.005, decimals=3),
    124: Traits(1.0, 2.0, 1.0, decimals=1),
    125: Traits(0.35, 1.0, 0.5, threshold=1.0),
    126: Traits(0.1, 0.1, 0.05),
    141: Traits(0.03, 0.15, 0.05),
    142: Traits(0.12, 0.0, 0.0, threshold=0.5),
    143: Traits(0.03, 0.15, 0.05),
    144: Traits(0.03, 0.15, 0.05),
    145: Traits(0.12, 0.0, 0.0, threshold=0.5),
    151: _SWITCH,
    152: _SWITCH,
    153: _SWITCH,
    154: _SWITCH,
    155: _SWITCH,
    161: Traits(0.1, 0.0, 0.0, decimals=1),
    162: _COUNTER,
    163: _COUNTER,
    164: _COUNTER,
    165: _COUNTER,
}
COUNTERS: Final = (162, 163, 164, 165)
DRIFT_PERIOD_DAYS: Final = 150.0
#: The drift of a steady network, in which otherwise only weekends differ from day to day.
STEADY_DRIFT_PERIOD_DAYS: Final = 60.0


@dataclass(frozen=True)
class Events:
    """Intervals [start, end), in minutes from the start of the recording, each of one row: a station or a series."""

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def mask(self, rows: int, first: int, minutes: int) -> np.ndarray:
        """Where an event is under way: bool (rows, minutes), for the minutes from `first`."""
        under_way = np.zeros((rows, minutes), dtype=bool)
        for i in np.flatnonzero((self.end > first) & (self.start < first + minutes)):
            under_way[self.row[i], max(self.start[i] - first, 0) : self.end[i] - first] = True
        return under_way


def random_events(
    rng: np.random.Generator, rows: int, minutes: int, per_day: float, median: float, longest: int
) -> Events:
    """Poisson events, `per_day` and row, of log-normal duration (median and longest in minutes)."""
    count = rng.poisson(rows * minutes / MINUTES_PER_DAY * per_day)
    start = rng.integers(0, minutes, count)
    duration = np.clip(rng.lognormal(np.log(median), 0.7, count), 1, longest).astype(int)
    return Events(rng.integers(0, rows, count), start, np.minimum(start + duration, minutes))


@dataclass(frozen=True)
class Chunk:
    """The truth of `minutes` minutes from minute `first`: parameter_id -> noiseless signal (stations, minutes)."""

    first: int
    minutes: int
    signals: dict[int, np.ndarray]


class SimulatedNetwork:
    """Stations with everything that happens to them in `minutes` minutes from `first_epoch_minute` (UTC).

    Of a `steady` network nothing is left to chance but the noise of its readings: no weather, no events, and air
    conditioners that run evenly instead of in cycles. What can be known of it is known from its past.
    """

    def __init__(
        self,
        stations: int,
        minutes: int,
        first_epoch_minute: int,
        seed: int,
        steady: bool = False,
        faults: tuple[Fault, ...] = (),
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        self.minutes = minutes
        self.steady = steady
        self._faults = faults
        often = 0.0 if steady else 1.0
        self.first_epoch_minute = first_epoch_minute
        self.station_id = FIRST_STATION_ID + np.arange(stations)
        self.region = np.arange(stations) % len(REGIONS)
        centres = np.array([(latitude, longitude) for _, latitude, longitude in REGIONS])
        self.coordinates = np.round(centres[self.region] + rng.normal(0, 0.15, (stations, 2)), 5)
        self.in_service_days_before = rng.integers(100, 3000, stations)
        self.outages = random_events(rng, stations, minutes, per_day=0.15 * often, median=40, longest=300)
        self.visits = random_events(rng, stations, minutes, per_day=0.3 * often, median=15, longest=120)
        self.smoke = random_events(rng, stations, minutes, per_day=0.01 * often, median=8, longest=60)
        self.leaks = random_events(rng, stations, minutes, per_day=0.01 * often, median=60, longest=600)
        self.resets = random_events(rng, stations * len(COUNTERS), minutes, per_day=0.01 * often, median=1, longest=1)
        self._weather = [_waves(rng, self.coordinates) for _ in range(3)]
        self.has_generator = rng.random(stations) < 0.7
        self.has_generator[0] = True  # so that the smallest network has one
        self._traffic = rng.uniform(0.7, 1.3, (stations, 1))
        self._cycle_minutes = rng.uniform(6, 14, (2, stations, 1))
        self._levels = rng.standard_normal((len(TRAITS), stations, 1))
        self._drift_phases = rng.uniform(0, 2 * np.pi, (len(TRAITS), stations, 1))
        self._hours_run_before = rng.uniform(500, 20000, (len(COUNTERS), stations))

    def chunks(self, minutes_per_chunk: int) -> Iterator[Chunk]:
        """The truth from start to end, in pieces that bound the memory."""
        stations = len(self.station_id)
        drained, warmed = np.zeros(stations, int), np.zeros(stations, int)
        hours_run = self._hours_run_before
        for first in range(0, self.minutes, minutes_per_chunk):
            minutes = min(minutes_per_chunk, self.minutes - first)
            signals, drained, warmed, hours_run = self._signals(first, minutes, drained, warmed, hours_run)
            yield Chunk(first, minutes, signals)

    def _signals(
        self, first: int, minutes: int, drained_before: np.ndarray, warmed_before: np.ndarray, hours_before: np.ndarray
    ) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        stations = len(self.station_id)
        minute = np.arange(first, first + minutes)
        local = self.first_epoch_minute + minute + UTC_OFFSET_MINUTES
        hour = local % MINUTES_PER_DAY / 60
        weekend = (local // MINUTES_PER_DAY + 3) % 7 >= 5  # day 0 of the epoch was a Thursday
        warm, moist, demand = (_field(waves, minute) * (not self.steady) for waves in self._weather)

        sun = np.cos(2 * np.pi * (hour - 14.5) / 24)
        outdoor = (
            27.5 - 0.3 * (self.coordinates[:, :1] - 10) + 4 * sun + 0.7 * np.cos(np.pi * (hour - 14.5) / 6) + 1.6 * warm
        )
        outdoor = outdoor + season(self._faults, minute)
        busy = 0.5 - 0.35 * np.cos(2 * np.pi * (hour - 3.5) / 24) + 0.3 * np.exp(-(((hour - 20.5) / 2) ** 2))
        traffic = self._traffic * busy * np.where(weekend, 0.75, 1.0)

        outage = self.outages.mask(stations, first, minutes)
        grid = ~outage
        started = Events(self.outages.row, self.outages.start + 6, self.outages.end)
        generator = started.mask(stations, first, minutes) & self.has_generator[:, None]
        generator &= days_since(self._faults, "fuel_runs_out", stations, minute) == 0
        power = grid | generator
        # A site without power uses up its battery in ten hours and needs as long to charge it again; its room warms by
        # 5 degrees an hour, which the air conditioners take back twice as fast. The walks are in whole numbers, so that
        # chunks of any width join exactly.
        drained = _above_zero(drained_before, np.where(power, -1, 1))
        depth = drained / (600 * capacity(self._faults, stations, minute))
        warmed = _above_zero(warmed_before, np.where(power, -2, 1))
        heat = warmed * 5 / 60
        charging = power & (depth > 0)

        duty = np.clip(0.35 + 0.035 * (outdoor - 25), 0.1, 0.9)
        phase = (minute / self._cycle_minutes) % 1
        share = np.stack([duty, duty * 0.5])
        cooling = (share if self.steady else phase < share) * power.astype(float)
        room = 24.5 + 0.12 * (outdoor - 25) + np.minimum(heat, 18) - 0.4 * cooling[0]
        room += warmer(self._faults, stations, minute)
        dc_load = 10 + 24 * traffic
        ac_load = 3.5 + 0.22 * dc_load + 4.2 * cooling[0] + 3.8 * cooling[1] + 2.5 * charging
        battery_current = np.where(power, np.where(charging, 6.0, 0.0), -dc_load)
        battery = np.where(power, 53.6 + 0.6 * charging - 3 * np.minimum(depth, 1), 51.2 - 4.2 * np.minimum(depth, 1))
        visit = self.visits.mask(stations, first, minutes)

        steps = np.stack([cooling[0], cooling[1], cooling.max(axis=0), generator]) / 60
        hours_run = hours_before[:, :, None] + np.cumsum(steps, axis=2)
        self._reset(hours_run.reshape(-1, minutes), first)

        signals = {
            111: room,
            112: cooling[0] * 15.0 + (1 - cooling[0]) * (room + 0.5),
            113: cooling[1] * 15.5 + (1 - cooling[1]) * (room + 0.5),
            114: outdoor,
            115: np.clip(76 - 2.2 * (outdoor - 26) + 6 * moist, 20, 90),
            116: room + 1.5 + 3 * charging,
            121: grid * (224 - 7 * traffic + 1.2 * demand),
            122: grid * ac_load,
            123: grid * (50 - 0.02 * busy + 0.01 * demand),
            124: generator * (231 - 0.3 * ac_load),
            125: generator
            * ac_load
            * (1 + WORN_LOAD * (days_since(self._faults, "worn_generator", stations, minute) > 0)),
            126: generator * (50.6 - 0.02 * ac_load),
            141: battery,
            142: battery_current,
            143: battery + 0.1,
            144: battery - 0.1,
            145: battery_current / 2,
            151: self.smoke.mask(stations, first, minutes),
            152: visit,
            153: visit,
            154: self.leaks.mask(stations, first, minutes),
            155: heat > 6,
            161: 99 - 80 * np.minimum(depth, 1),
            **dict(zip(COUNTERS, hours_run, strict=True)),
        }
        days = (self.first_epoch_minute + minute) / MINUTES_PER_DAY
        period = STEADY_DRIFT_PERIOD_DAYS if self.steady else DRIFT_PERIOD_DAYS
        for i, (parameter_id, traits) in enumerate(TRAITS.items()):
            wander = np.sin(2 * np.pi * days / period + self._drift_phases[i])
            offset = traits.level * np.clip(self._levels[i], -2.5, 2.5) + traits.drift * wander
            # An exact zero is equipment that is off.
            signals[parameter_id] = np.where(signals[parameter_id] == 0, 0.0, signals[parameter_id] + offset)
        return signals, drained[:, -1], warmed[:, -1], hours_run[:, :, -1]

    def _reset(self, hours_run: np.ndarray, first: int) -> None:
        """Let the counters start again from zero at their resets, in place."""
        for row, start in sorted(zip(self.resets.row, self.resets.start, strict=True)):
            if first <= start < first + hours_run.shape[1]:
                hours_run[row, start - first :] -= hours_run[row, start - first]


def _waves(rng: np.random.Generator, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plane waves that sum to a field of unit variance: angular frequency per minute (waves,), phase (stations, waves).

    Random wave vectors of normal distribution give a Gaussian spatial correlation (spectral method, Shinozuka and
    Jan 1972, Journal of Sound and Vibration 25).
    """
    periods = np.exp(rng.uniform(np.log(16 * 60), np.log(10 * MINUTES_PER_DAY), WEATHER_WAVES))
    vectors = rng.normal(0, 1 / WEATHER_LENGTH_KM, (2, WEATHER_WAVES))
    kilometres = coordinates * KM_PER_DEGREE * np.array([1.0, np.cos(np.deg2rad(15))])
    return 2 * np.pi / periods, kilometres @ vectors + rng.uniform(0, 2 * np.pi, WEATHER_WAVES)


def _field(waves: tuple[np.ndarray, np.ndarray], minute: np.ndarray) -> np.ndarray:
    """The field at each station and minute, (stations, minutes)."""
    frequency, phase = waves
    angle = np.outer(frequency, minute)
    return np.sqrt(2 / WEATHER_WAVES) * (np.cos(phase) @ np.cos(angle) - np.sin(phase) @ np.sin(angle))


def _above_zero(before: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Running sums of `change` (rows, minutes) from `before` that stop at zero (a reflected walk)."""
    free = before[:, None] + np.cumsum(change, axis=1)
    return free - np.minimum(np.minimum.accumulate(free, axis=1), 0)
