"""What a version's training data looked like, kept small: a sketch, a daily profile and nightly figures per series."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.monitoring import nan_means

#: Nights before the end of a training that a version's snapshot holds.
NIGHTS: Final = 56
#: Levels of the quantiles that sketch a series' distribution.
SKETCH: Final = np.concatenate([[0.0, 0.005], np.linspace(0.01, 0.99, 29), [0.995, 1.0]])
#: Parts of the day that a profile tells apart, at most.
_PARTS: Final = 24
#: A night's figures are of a day that was observed for this share of its parts at least.
_LEAST_PARTS: Final = 0.25
_TRIMMED: Final = 0.1


@dataclass(frozen=True)
class Snapshot:
    """Per series, of the `NIGHTS` days before a training's end; NaN where nothing is known.

    sketch (series, levels of `SKETCH`) and profile (series, parts of the UTC day): in the parameter's unit, of a
    counter in that a step. level and spread (series, nights), oldest first: as `Nightly`. longest_run (series,): most
    steps in a row with one value. coverage (series,): share of steps with an observation.
    """

    station_id: np.ndarray
    parameter_id: np.ndarray
    sketch: np.ndarray
    profile: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    longest_run: np.ndarray
    coverage: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """Half the width of the middle 68 % of a series' values, (series,): its standard deviation, were it normal."""
        low, high = (np.abs(SKETCH - share).argmin() for share in (0.16, 0.84))
        return (self.sketch[:, high] - self.sketch[:, low]) / 2


@dataclass(frozen=True)
class Nightly:
    """Figures of days that end with an origin's hour, each (series, days), oldest first.

    level: trimmed mean of the deviations from the profile, in the parameter's unit. spread: log of the standard
    deviation of the steps about level and profile.
    """

    level: np.ndarray
    spread: np.ndarray


def take(panel: Panel, counters: Collection[int]) -> Snapshot:
    """The snapshot of a training's panel; of `counters` (parameter ids) that of their increments."""
    day = panel.grid.steps_per_day
    days = min(NIGHTS, panel.steps // day)
    panel = newest(panel, days * day)
    values = increments(panel, counters)
    observed = np.isfinite(values)
    profile = _profile(panel, values)
    nightly = figures(panel, values, profile)
    return Snapshot(
        panel.station_id,
        panel.parameter_id,
        _sketch(values),
        profile,
        nightly.level,
        nightly.spread,
        longest_runs(_before_the_end(panel, values)),
        observed.mean(axis=1) if values.shape[1] else np.zeros(len(values)),
    )


def increments(panel: Panel, counters: Collection[int]) -> np.ndarray:
    """The panel's values (series, steps); of counters the rise since the step before, NaN at a reset."""
    values = panel.values
    rows = np.flatnonzero(np.isin(panel.parameter_id, list(counters)))
    if not len(rows):
        return values
    values = values.copy()
    rise = np.diff(values[rows], axis=1, prepend=np.nan)
    values[rows] = np.where(rise >= 0, rise, np.nan)
    return values


def figures(panel: Panel, values: np.ndarray, profile: np.ndarray) -> Nightly:
    """Level and spread of the whole days that end with the panel; profile (series, parts) as in `Snapshot`."""
    by_part = _by_part(panel, values)
    off = by_part - _from_start(panel, profile)[:, None, :, None]
    mean = nan_means.mean(off)
    enough = np.isfinite(mean).sum(axis=2) >= _LEAST_PARTS * profile.shape[1]
    level = np.where(enough, _trimmed_mean(mean), np.nan)
    variance = nan_means.mean(((off - level[:, :, None, None]) ** 2).reshape(*level.shape, off.shape[2] * off.shape[3]))
    with np.errstate(divide="ignore"):
        spread = np.where(variance > 0, np.log(variance) / 2, np.nan)
    return Nightly(level, spread)


def _before_the_end(panel: Panel, values: np.ndarray) -> np.ndarray:
    """Values without the last week where there are three or more: a sensor that is stuck then is not to be learned."""
    week = 7 * panel.grid.steps_per_day
    return values[:, :-week] if values.shape[1] >= 3 * week else values


def longest_runs(values: np.ndarray) -> np.ndarray:
    """Most observations in a row of one and the same value, missing steps passed over, (series,)."""
    longest = np.zeros(len(values), dtype=np.int64)
    run = np.zeros(len(values), dtype=np.int64)
    before = np.full(len(values), np.nan)
    for step in range(values.shape[1]):
        now = values[:, step]
        known = np.isfinite(now)
        run = np.where(known, np.where(now == before, run + 1, 1), run)
        before = np.where(known, now, before)
        np.maximum(longest, run, out=longest)
    return longest


def newest(panel: Panel, steps: int) -> Panel:
    """The panel's last steps."""
    values = panel.values[:, panel.steps - steps :]
    return Panel(panel.grid, panel.station_id, panel.parameter_id, panel.end, values)


def _sketch(values: np.ndarray) -> np.ndarray:
    """Quantiles at `SKETCH` of each row's known values, nearest observations, NaN without any."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    at = np.rint(SKETCH * np.maximum(count - 1, 0)[:, None]).astype(np.int64)
    if not values.shape[1]:
        return np.full((len(values), len(SKETCH)), np.nan)
    return np.where(count[:, None] > 0, np.take_along_axis(ordered, at, axis=1), np.nan)


def _profile(panel: Panel, values: np.ndarray) -> np.ndarray:
    """Median over days of each part of the UTC day, (series, parts); the series' own where a part is unknown."""
    middle = nan_means.median(nan_means.mean(_by_part(panel, values)), axis=1)
    middle = np.where(np.isfinite(middle), middle, nan_means.median(middle)[:, None])
    return np.roll(middle, _first_part(panel), axis=1)


def _trimmed_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without the `_TRIMMED` share of what is known at either end: no lone outlier moves it."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    cut = (_TRIMMED * count).astype(np.int64)
    rank = np.arange(values.shape[-1])
    kept = (rank >= cut) & (rank < count - cut)
    return np.where(kept, ordered, 0.0).sum(axis=-1) / np.maximum(kept.sum(axis=-1), 1)


def _width(panel: Panel) -> int:
    """Steps of a part of the day."""
    day = panel.grid.steps_per_day
    return day // _PARTS if day % _PARTS == 0 else 1


def _by_part(panel: Panel, values: np.ndarray) -> np.ndarray:
    """Values of the whole days that end with the panel, (series, days, parts, steps of a part)."""
    day, width = panel.grid.steps_per_day, _width(panel)
    days = values.shape[1] // day
    newest = values[:, values.shape[1] - days * day :]
    return newest.reshape(len(values), days, day // width, width)


def _first_part(panel: Panel) -> int:
    """The part of the UTC day that the panel's days begin with."""
    day, width = panel.grid.steps_per_day, _width(panel)
    return round(panel.grid.index(panel.end) % day / width) % (day // width)


def _from_start(panel: Panel, profile: np.ndarray) -> np.ndarray:
    """A profile of the UTC day in the order in which the panel's days have it."""
    return np.roll(profile, -_first_part(panel), axis=1)
