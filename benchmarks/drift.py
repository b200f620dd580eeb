"""How often drift is seen where there is none, and how soon where there is: made-up networks, a year of nights.

    python -m benchmarks.drift [NETWORKS]

Networks of 25 stations with twelve series each, by the hour: daily profiles and weekends, weather that neighbours
share and that lasts up to ten days, noise with heavy tails, gaps. A forecast is the median of the last week's same
hours moved by part of the newest deviation. Nothing changes in a year of nights after the 56 of the reference;
then, in the same networks, a sensor of each station is moved by one standard deviation of its own values, or
the errors of a station grow by 30 %.
"""

import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.signal import lfilter

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.monitoring.drift import Course, Followed, follow
from bts_assets.monitoring.snapshot import NIGHTS, figures, take

STATIONS, PARAMETERS, YEAR, HOURS = 25, 12, 365, 24
GRID = Grid(timedelta(hours=1), timedelta(days=7), timedelta(hours=48))
END = datetime(2026, 3, 1, tzinfo=UTC)
#: Nights after the reference from which on something changes, one of them drawn for each network.
CHANGES = (5, 120)


@dataclass(frozen=True)
class Year:
    """One network: ids and sigma (series,), figures of the reference and of the nights since."""

    station_id: np.ndarray
    parameter_id: np.ndarray
    sigma: np.ndarray
    reference: Course
    live: Course

    def followed(self) -> list[Followed]:
        return follow(self.station_id, self.parameter_id, self.sigma, self.reference, self.live)


def simulate(rng: np.random.Generator, nights: int = YEAR, stations: int = STATIONS) -> Year:
    """A network without change."""
    days, series = NIGHTS + nights, stations * PARAMETERS
    hours = np.arange(days * HOURS)
    station, parameter = np.repeat(np.arange(stations), PARAMETERS), np.tile(np.arange(PARAMETERS), stations)
    noise, weekly, gain = _kinds(rng)
    hour, weekend = 2 * np.pi * (hours % HOURS) / HOURS, hours // HOURS % 7 >= 5
    phase = rng.uniform(0, 2 * np.pi, (PARAMETERS, 2))[parameter]
    profile = np.cos(hour + phase[:, :1]) + 0.5 * np.cos(2 * hour + phase[:, 1:])
    profile *= 1 - weekly[parameter, None] * weekend
    common, local = _weather(rng, PARAMETERS, len(hours)), _weather(rng, series, len(hours))
    reaction = gain[parameter] * rng.uniform(0.7, 1.3, series)
    values = profile + reaction[:, None] * (0.98 * common[parameter] + 0.2 * local)
    values += noise[parameter, None] * rng.standard_t(4, values.shape)
    values[rng.random(values.shape) < 0.02] = np.nan
    panel = Panel(GRID, station, parameter, END + nights * timedelta(days=1), values)
    before = take(panel.until(nights * HOURS), ())
    nightly = figures(panel, values, before.profile)
    error = _errors(values)
    cut = (slice(None), slice(None, NIGHTS)), (slice(None), slice(NIGHTS, None))
    reference, live = (Course(nightly.level[c], nightly.spread[c], error[c]) for c in cut)
    return Year(station, parameter, before.sigma, reference, live)


def _kinds(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise of an hour, share that a weekend takes away and reaction to the weather, for each parameter."""
    return rng.uniform(0.1, 0.6, PARAMETERS), rng.choice([0, 0, 0.25], PARAMETERS), rng.uniform(0.0, 0.8, PARAMETERS)


def _weather(rng: np.random.Generator, rows: int, hours: int) -> np.ndarray:
    """Unit variance, as the simulator's: slow parts that last days and quick ones that last hours."""
    fields = []
    for lasting in (72.0, 8.0):
        keep = np.exp(-1 / lasting)
        drawn = rng.standard_normal((rows, hours + 500)) * np.sqrt(1 - keep**2)
        fields.append(lfilter([1.0], [1.0, -keep], drawn, axis=1)[:, 500:])
    return (fields[0] + fields[1]) / np.sqrt(2)


def _errors(values: np.ndarray) -> np.ndarray:
    """Log of the mean absolute error of each night's forecast of its day, (series, days); NaN in the first week."""
    by_day = values.reshape(len(values), -1, HOURS)
    errors = np.full(by_day.shape[:2], np.nan)
    week = np.sort(np.stack([by_day[:, k : k - 7] for k in range(7)]), axis=0)  # NaN last
    middle = np.maximum(np.isfinite(week).sum(axis=0) - 1, 0) // 2
    usual = np.take_along_axis(week, middle[None], axis=0)[0]
    newest = _mean(by_day[:, 6:-1, -3:] - usual[:, :, -3:])
    moved = np.nan_to_num(newest)[:, :, None] * 0.9 ** np.arange(1, HOURS + 1)
    errors[:, 7:] = np.log(_mean(np.abs(by_day[:, 7:] - usual - moved)))
    return errors


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is known; NaN without any."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def with_shift(year: Year, night: int) -> tuple[Year, np.ndarray]:
    """One sensor of each station moved by one sigma from a live night on; which series those are."""
    moved = np.flatnonzero(year.parameter_id == year.station_id % PARAMETERS)
    level = year.live.level.copy()
    level[moved, night:] += year.sigma[moved, None]
    return replace(year, live=replace(year.live, level=level)), moved


def with_errors(year: Year, night: int, factor: float = 1.3) -> tuple[Year, np.ndarray]:
    """Errors of every fifth station grown from a live night on; which stations those are."""
    worse = np.unique(year.station_id)[::5]
    error = year.live.error.copy()
    error[np.isin(year.station_id, worse), night:] += np.log(factor)
    return replace(year, live=replace(year.live, error=error)), worse


def alarms(followed: list[Followed]) -> list[tuple[Followed, np.ndarray]]:
    """The nights with an alarm, bool (streams, nights), of each figure and scope."""
    return [(f, f.evidence >= f.bound[:, None]) for f in followed]


def stations_alarmed(year: Year) -> tuple[np.ndarray, int]:
    """Which stations ever alarmed, bool (stations,), and how many parameters of the network did."""
    stations = np.unique(year.station_id)
    ever, network = np.zeros(len(stations), bool), 0
    for f, raised in alarms(year.followed()):
        if f.scope == "parameter":
            network += int(raised.any(axis=1).sum())
        else:
            ever[np.searchsorted(stations, f.station_id[raised.any(axis=1)])] = True
    return ever, network


def delays(year: Year, scope: str, figure: str, key: str, wanted: np.ndarray, night: int) -> np.ndarray:
    """Nights from a change to its alarm, 1 for the first night that could see it; inf where none came."""
    f, raised = next((f, r) for f, r in alarms(year.followed()) if (f.scope, f.figure) == (scope, figure))
    rows = wanted if key == "row" else np.searchsorted(f.station_id, wanted)
    after = raised[rows, night:]
    return np.where(after.any(axis=1), after.argmax(axis=1) + 1.0, np.inf)


@dataclass(frozen=True)
class Measured:
    """What the benchmark found: site-years and those that alarmed, and shares caught in time."""

    site_years: int
    alarmed: int
    network_alarms: int
    shifts: np.ndarray
    errors: np.ndarray


def measure(networks: int, seed: int = 0, nights: int = YEAR) -> Measured:
    """Simulate so many networks, without change and with."""
    ever, network, shifts, errors = [], 0, [], []
    for number in range(networks):
        rng = np.random.default_rng([seed, number])
        year, night = simulate(rng, nights), int(rng.integers(*CHANGES)) % (nights - 8)
        alarmed, of_network = stations_alarmed(year)
        ever.append(alarmed)
        network += of_network
        shifted, moved = with_shift(year, night)
        shifts.append(delays(shifted, "series", "level", "row", moved, night))
        grown, worse = with_errors(year, night)
        errors.append(delays(grown, "station", "error", "station", worse, night))
    told = np.concatenate(ever)
    return Measured(len(told), int(told.sum()), network, np.concatenate(shifts), np.concatenate(errors))


def main() -> None:
    networks = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    start = time.process_time()
    found = measure(networks)
    say = sys.stdout.write
    say(f"{found.site_years} site-years without change: {found.alarmed} ever alarmed")
    say(f" ({100 * found.alarmed / found.site_years:.1f} %); {found.network_alarms} alarms about a whole parameter\n")
    for name, nights, within in (("one sigma of a sensor", found.shifts, 3), ("errors up by 30 %", found.errors, 7)):
        share = 100 * np.mean(nights <= within)
        say(f"{name}: {share:.1f} % of {len(nights)} caught within {within} nights, median {np.median(nights):g}\n")
    say(f"{time.process_time() - start:.0f} CPU seconds\n")


if __name__ == "__main__":
    main()
