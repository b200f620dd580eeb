"""How long a station's battery lasts, learnt from its own past outages, and what its generator does unlike its past.

All series are of one station on the grid, (steps,), NaN where not observed. A step's value is the mean over it: at the
edges of an outage it is a mixture, so that only steps that lie within count.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import bottleneck
import numpy as np
from scipy.special import ndtri, stdtrit

from bts_assets.contracts.panel import Panel

#: A grid below this share of its usual voltage is away; above the other it is there.
_AWAY, _THERE = 0.05, 0.95
#: A battery this far below its usual voltage supplies the site.
_DISCHARGING: Final = 0.975
#: Standard deviation of the logarithm of hours between outages, where a single outage cannot tell it; at least.
_UNSURE, _SUREST = 0.3, 0.05
#: A battery that lasts less than this share of what it did is failing, if the fall stands out by so many errors.
_FALLEN, _STANDS_OUT = 0.85, 3.5
#: Outages that say how long a battery lasts now: the newest.
_NEWEST: Final = 4
#: Coverage of the interval.
_INTERVAL: Final = 0.8


@dataclass(frozen=True)
class Discharge:
    """One past outage that the battery bridged: first step, voltage at its beginning, volts lost per step, and how much
    it says of the loss (sum of squared distances of its steps from their middle).
    """

    first: int
    voltage: float
    loss: float
    weight: float


@dataclass(frozen=True)
class Autonomy:
    """Steps until the battery is at its low limit if the grid fails now, with an 80 % interval, from how many outages.

    falling_since: first step of the outage from which on it lasts less than before; None: it does not.
    """

    steps: float
    low: float
    high: float
    outages: int
    falling_since: int | None
    before: float | None


@dataclass(frozen=True)
class Generator:
    """What a generator did in the newest days beside its own past; None where that cannot be said.

    load_ratio: load beside what the site takes from the grid at that hour, newest over past. hours, past_hours: run per
    7 days while the grid was there, or at all where that is not measured, newest and the most of earlier ones. stood:
    first step of the newest outage that ended without it, where it ran at the end of most before.
    """

    load_ratio: float | None
    hours: float | None
    past_hours: float | None
    stood: int | None


def grid_away(voltage: np.ndarray) -> np.ndarray:
    """Share of each step without the grid, 0 to 1, NaN where not observed."""
    usual = _usual(voltage)
    if not np.isfinite(usual) or usual <= 0:
        return np.full(len(voltage), np.nan)
    return np.clip(1 - voltage / usual, 0, 1)


def without_outages(panel: Panel, values: np.ndarray, voltage: int, of_grid: Collection[int]) -> np.ndarray:
    """Values (series, steps) of a panel, NaN in `of_grid` (parameter ids) while their station had no grid.

    voltage: the parameter that tells; the step before and after an outage is a mixture, and left out too. A grid that
    is away is no change of its sensors.
    """
    values = values.copy()
    measured = np.isin(panel.parameter_id, list(of_grid))
    for row in np.flatnonzero(panel.parameter_id == voltage):
        gone = grid_away(panel.values[row]) > _THERE
        near = np.convolve(gone, np.ones(3), mode="same") > 0
        values[np.ix_(measured & (panel.station_id == panel.station_id[row]), near)] = np.nan
    return values


def discharges(battery: np.ndarray, away: np.ndarray | None) -> list[Discharge]:
    """Past outages that were bridged, the oldest first. away: `grid_away`, None where the grid is not measured."""
    usual = _usual(battery)
    low = battery < _DISCHARGING * usual
    if away is not None and np.isfinite(away).any():
        low &= away > _THERE
    found = []
    for first, past in _runs(low):
        step = np.arange(first, past) if away is not None else np.arange(first + 1, past - 1)
        if len(step) < 2:
            continue
        centred = step - step.mean()
        weight = float(centred @ centred)
        loss = -float(centred @ battery[step]) / weight
        if loss > 0:
            voltage = float(battery[step].mean() + loss * (step.mean() - first))
            found.append(Discharge(int(first), voltage, loss, weight))
    return found


def autonomy(past: list[Discharge], limit: float, now: int, day: int, voltage: float | None = None) -> Autonomy | None:
    """How long the battery lasts at step `now`, from its past discharges; None where there were none above `limit`.

    A discharge of a fortnight (14 times `day` steps) ago counts half as much as one of today: batteries age. voltage:
    what the battery has now; below where its discharges began it lasts as much less as it is nearer to the limit.
    """
    useful = [d for d in past if d.voltage > limit]
    if not useful:
        return None
    lasts = np.log([(d.voltage - limit) / d.loss for d in useful])
    weight = np.array([d.weight for d in useful])
    split = _fall(lasts, weight)
    newest = slice(max(split or 0, len(useful) - _NEWEST), None)
    recent = weight * 0.5 ** (np.array([now - d.first for d in useful]) / (14 * day))
    middle = float(np.average(lasts[newest], weights=recent[newest]))
    low, high = _interval(middle, lasts[newest], recent[newest])
    left = _left([d.voltage for d in useful[newest]], limit, voltage)
    before = None if split is None else float(np.exp(np.average(lasts[:split], weights=weight[:split])))
    since = None if split is None else useful[split].first
    return Autonomy(left * float(np.exp(middle)), left * low, left * high, len(useful), since, before)


def _left(began: list[float], limit: float, voltage: float | None) -> float:
    """The share of a whole discharge that is still to come. A battery that is not discharging has all of it: what it
    is charged with says nothing of how full it is.
    """
    if voltage is None or voltage >= min(began):
        return 1.0
    return max((voltage - limit) / (float(np.median(began)) - limit), 0.0)


def generator(
    on: np.ndarray, load: np.ndarray | None, grid_load: np.ndarray | None, away: np.ndarray | None, day: int
) -> Generator:
    """What the generator did in the last seven days beside before. on: share of each step that it ran; day: steps."""
    newest = max(len(on) - 7 * day, 0)
    # A week with longer outages needs it for longer: that is the grid's fault, and known as such.
    unneeded = on if away is None else on * (1 - np.nan_to_num(away))
    hours, past_hours = _weekly(unneeded, day)
    return Generator(
        load_ratio=None if load is None else _load_ratio(on, load, grid_load, day, newest),
        hours=hours,
        past_hours=past_hours,
        stood=None if away is None else _stood(on, away, newest),
    )


def running(voltage: np.ndarray) -> np.ndarray:
    """Share of each step that a generator ran, from its voltage, which is zero where it stands."""
    usual = _usual(np.where(voltage > 0, voltage, np.nan), 0.9)
    return np.clip(voltage / usual, 0, 1) if np.isfinite(usual) and usual > 0 else np.where(voltage > 0, 1.0, voltage)


def _usual(values: np.ndarray, level: float = 0.5) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, level)) if len(known) else np.nan


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First step and the one past the last of every run of true steps."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _fall(lasts: np.ndarray, weight: np.ndarray) -> int | None:
    """Where the logarithms of hours fall for good: the split that stands out most, of those with two on each side."""
    best: tuple[float, int | None] = (_STANDS_OUT, None)
    for split in range(2, len(lasts) - 1):
        old, new = (np.average(lasts[k], weights=weight[k]) for k in (slice(split), slice(split, None)))
        centred = np.concatenate([lasts[:split] - old, lasts[split:] - new])
        spread = max(float(np.sqrt(np.average(centred**2, weights=weight))), _SUREST)
        stands_out = (old - new) / (spread * np.sqrt(1 / split + 1 / (len(lasts) - split)))
        if new - old < np.log(_FALLEN) and stands_out > best[0]:
            best = float(stands_out), split
    return best[1]


def _interval(middle: float, lasts: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    count = len(lasts)
    if count == 1:
        spread, score = _UNSURE, float(ndtri(0.5 + _INTERVAL / 2))
    else:
        spread = max(float(np.sqrt(np.average((lasts - middle) ** 2, weights=weight) * count / (count - 1))), _SUREST)
        score = float(stdtrit(count - 1, 0.5 + _INTERVAL / 2))
    reach = score * spread * np.sqrt(1 + 1 / count)
    return float(np.exp(middle - reach)), float(np.exp(middle + reach))


def _weekly(on: np.ndarray, day: int) -> tuple[float | None, float | None]:
    """Hours that it ran in the newest seven days, and the most of any seven before, of which there must be three."""
    weeks = len(on) // (7 * day)
    if weeks < 4:
        return None, None
    tail = on[len(on) - weeks * 7 * day :].reshape(weeks, 7 * day)
    hours = np.nansum(tail, axis=1) * 24 / day
    return float(hours[-1]), float(hours[:-1].max())


def _load_ratio(on: np.ndarray, load: np.ndarray, grid_load: np.ndarray | None, day: int, newest: int) -> float | None:
    expected = _by_phase(grid_load, day) if grid_load is not None else np.ones(len(on))
    full = (on > _THERE) & (expected > 0) & np.isfinite(load)
    ratio = np.where(full, load / np.where(expected > 0, expected, 1.0), np.nan)
    old, new = ratio[:newest][full[:newest]], ratio[newest:][full[newest:]]
    if len(old) < 4 or len(new) < 2:
        return None
    return float(np.median(new) / np.median(old))


def _by_phase(values: np.ndarray, day: int) -> np.ndarray:
    """The usual value at each step's phase of the day, where the grid is there; NaN where it is not known."""
    present = np.where((values > 0) & (values < np.inf), values, np.nan)
    padded = np.pad(present, (-len(present) % day, 0), constant_values=np.nan).reshape(-1, day)
    return np.tile(bottleneck.nanmedian(padded, axis=0), len(padded))[-len(values) :]


def _stood(on: np.ndarray, away: np.ndarray, newest: int) -> int | None:
    outages = [(first, bool(on[past - 1] > _AWAY)) for first, past in _runs(away > _THERE) if past - first >= 2]
    before = [ran for first, ran in outages if first < newest]
    if len(before) < 2 or np.mean(before) < 0.8:
        return None
    return next((first for first, ran in reversed(outages) if first >= newest and not ran), None)
