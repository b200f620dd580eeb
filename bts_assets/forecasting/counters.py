"""Counters: from levels to increments, and from forecast increments to levels that never fall. It learns nothing.

The width of a level's interval comes from residual paths: what past stretches of the same context added up to, beyond
what a profile of the rest of it would have said. Sums of step quantiles would not do: they suppose that every step
errs to the same side.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Final

import numpy as np

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.events import settled
from bts_assets.forecasting.forecasters import Forecaster, carried_forward, forecast_each, newest_known
from bts_assets.forecasting.reining import Reach
from bts_assets.forecasting.windows import latest_context, minimum_past

#: Lengths at which past stretches are added up, at most; between them the width is interpolated.
_LENGTHS: Final = 16

#: An unlisted series is a counter if it rose so often, and at least so many times as often as it fell.
_LEAST_RISES: Final = 12
_RISES_PER_FALL: Final = 50

_SCORES: Final = np.array([NormalDist().inv_cdf(level) for level in QUANTILES])

_EDGES: Final = np.concatenate([[0.0], np.convolve(QUANTILES, [0.5, 0.5], "valid"), [1.0]])
#: The share of a distribution that each of `QUANTILES` stands for: their weighted sum is its mean. Means add up over
#: steps; medians do not: those of a machine that runs every fourth step are all 0.
_SHARES: Final = np.diff(_EDGES)


@dataclass(frozen=True)
class Counters(Collection[int]):
    """Which parameters are counters: `ids` by the catalogue; of parameters that it does not list (not in `listed`)
    those series that behave as one.
    """

    ids: frozenset[int]
    listed: frozenset[int]

    def __contains__(self, parameter_id: object) -> bool:
        return parameter_id in self.ids

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def counter_rows(panel: Panel, counters: Collection[int]) -> np.ndarray:
    """Which series of a panel are counters, bool (series,)."""
    if isinstance(panel, Shown) and panel.counters == counters:
        return panel.is_counter
    rows = np.isin(panel.parameter_id, list(counters))
    if isinstance(counters, Counters):
        unlisted = np.flatnonzero(~np.isin(panel.parameter_id, list(counters.listed)))
        rows[unlisted] = is_cumulative(panel.values[unlisted])
    return rows


@dataclass(frozen=True)
class Shown(Panel):
    """The newest context of a panel beside what forecasters see of it: worked out once, and asked of several.

    is_counter (series,): which series are `counters`. shown (series, steps): as `as_shown` says. reach: of the shown.
    """

    counters: Collection[int]
    is_counter: np.ndarray
    shown: np.ndarray
    reach: Reach

    @classmethod
    def of(cls, panel: Panel, counters: Collection[int]) -> "Shown":
        """The same object if it is that already."""
        if isinstance(panel, Shown) and panel.counters == counters:
            return panel
        panel = latest_context(panel)
        is_counter = counter_rows(panel, counters)
        shown = as_shown(panel, is_counter)
        own = (panel.grid, panel.station_id, panel.parameter_id, panel.end, panel.values)
        return cls(*own, counters, is_counter, shown.values, Reach.of(shown))

    def take(self, rows: np.ndarray) -> "Shown":
        own = (self.grid, self.station_id[rows], self.parameter_id[rows], self.end, self.values[rows])
        return Shown(*own, self.counters, self.is_counter[rows], self.shown[rows], self.reach.take(rows))

    @cached_property
    def settled(self) -> np.ndarray:
        """The values without single events (series, steps), counters as levels."""
        return np.where(self.is_counter[:, None], self.values, self.shown)


def is_cumulative(levels: np.ndarray) -> np.ndarray:
    """Whether each of levels (series, steps) only ever rises, misreadings and a restart aside, bool (series,).

    A meter: many rises, in the one direction, and never below 0. A gauge with any noise falls as often.
    """
    rise = increments(levels)
    levels = np.where(_misread(levels), np.nan, levels)
    known = np.isfinite(levels)
    falls = (levels < _before(levels)).sum(axis=1)
    rises = (rise > 0).sum(axis=1)
    least = np.where(known, levels, np.inf).min(axis=1, initial=np.inf)
    return (rises >= _LEAST_RISES) & (falls <= rises // _RISES_PER_FALL) & (least >= 0)


def newest_levels(levels: np.ndarray) -> np.ndarray:
    """The newest level of each counter (series,), misreadings aside; NaN where there is none."""
    if not levels.shape[1]:
        return np.full(len(levels), np.nan)
    return newest_known(np.where(_misread(levels), np.nan, levels))


def increments(levels: np.ndarray) -> np.ndarray:
    """What a counter added per step, (series, steps), from its levels (series, steps; NaN where not observed).

    After a gap it is the mean per step since the observation before; within one it is NaN, because it was not known
    then: no increment depends on a later level, so that training on increments sees no future. NaN too where the level
    falls: the counter began again, and what it had added before is lost; its new level alone would say too little.
    An observation out of order between two that are in order is a misreading, and left out; only that looks ahead. So
    is a newest observation of 0: whether the counter began again, the next one will tell.
    """
    levels = np.where(_misread(levels), np.nan, levels)
    steps = np.arange(levels.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        rise = (levels - _before(levels)) / np.maximum(steps - _before(np.where(np.isnan(levels), np.nan, steps)), 1)
        return np.where(np.isfinite(rise) & (rise >= 0), rise, np.nan)


def as_shown(panel: Panel, is_counter: np.ndarray) -> Panel:
    """What forecasters see of a panel: increments in place of the levels of its counters (`is_counter`, bool
    (series,)), and of the others what is left without single events.
    """
    shown = settled(panel, ~is_counter)
    shown.values[is_counter] = increments(panel.values[is_counter])
    return shown


@dataclass(frozen=True)
class AsLevels:
    """A forecaster as it is asked: what it is shown and what its answers become.

    It is shown the increments of `counters` (parameter ids), and its answers are made levels again. Of other series it
    is shown what is left without single events (`events`), and its answers are kept within reach of that (`reining`).
    """

    forecaster: Forecaster
    counters: Collection[int]

    @property
    def name(self) -> str:
        return self.forecaster.name

    def forecast(self, panel: Panel) -> np.ndarray:
        return self.forecast_each(panel)[0]

    def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
        """As `forecasters.forecast_each` says."""
        panel = Shown.of(panel, self.counters)
        shown = Panel(panel.grid, panel.station_id, panel.parameter_id, panel.end, panel.shown)
        quantiles, failures = forecast_each(self.forecaster, shown)
        is_counter = panel.is_counter
        if is_counter.any():
            levels, known = panel.values[is_counter], panel.shown[is_counter]
            expected = quantiles[is_counter] @ _SHARES
            quantiles[is_counter] = _level_quantiles(panel.grid, levels, known, expected)
        return panel.reach.reined(quantiles, ~is_counter), failures


@dataclass(frozen=True)
class MeanIncrement:
    """The mean increment at that phase of the day, leaning on that of all phases. It serves `counters` alone."""

    counters: Collection[int]
    name: str = "mean_increment"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        rows = counter_rows(panel, self.counters)
        quantiles = np.full((len(panel), panel.grid.horizon_steps, len(QUANTILES)), np.nan)
        levels = panel.values[rows]
        quantiles[rows] = _level_quantiles(panel.grid, levels, increments(levels), None)
        return quantiles


def before_reset(newest: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Targets (series, horizon) of counters whose newest levels are `newest` (series,), NaN from their first fall on.

    Nobody foresees a reset, and an error of thousands of hours would hide what a forecast was worth.
    """
    path = np.concatenate([newest[:, None], truth], axis=1)
    fell = path < np.fmax.accumulate(path, axis=1)
    return np.where(np.logical_or.accumulate(fell, axis=1)[:, 1:], np.nan, truth)


def daily_profile(values: np.ndarray, day: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of values (series, steps) by phase of the day, (series, day), and how much phases differ, (series,).

    The first phase is that of the step after the values. Phases differ from 0, not beyond chance, to 1. A series needs
    one known value.

    Each phase is shrunk towards the mean of all by the share of the phases' variance that chance alone would give them
    (James and Stein, in the form of Efron and Morris, 1973): without it, one run of a generator would recur daily.
    """
    by_day = np.pad(values, [(0, 0), (-values.shape[1] % day, 0)], constant_values=np.nan)
    by_day = by_day.reshape(len(values), -1, day)
    known = np.isfinite(by_day)
    filled, count = np.where(known, by_day, 0.0), known.sum(axis=1)
    overall = filled.sum(axis=(1, 2)) / count.sum(axis=1)
    mean = np.where(count > 0, filled.sum(axis=1) / np.maximum(count, 1), overall[:, None])
    repeated = count >= 2
    scatter = np.where(known, filled - mean[:, None], 0.0)
    chance = np.where(repeated, (scatter**2).sum(axis=1) / np.maximum(count * (count - 1), 1), 0.0).sum(axis=1)
    variance = np.where(repeated, mean - overall[:, None], 0.0)
    variance = (variance**2).sum(axis=1)
    seasonal = np.clip(1 - chance / np.where(variance > 0, variance, np.inf), 0.0, 1.0) * (variance > 0)
    return overall[:, None] + seasonal[:, None] * (mean - overall[:, None]), seasonal


def _level_quantiles(grid: Grid, levels: np.ndarray, known: np.ndarray, expected: np.ndarray | None) -> np.ndarray:
    """Quantiles (series, horizon, levels) of the levels of counters, never falling along the horizon.

    levels (series, steps), of which `known` are the increments. `expected` (series, horizon) are increments ahead, by
    default the profile's. NaN for a series that has too few.
    """
    day, horizon = grid.steps_per_day, grid.horizon_steps
    served = np.isfinite(known).sum(axis=1) >= minimum_past(grid)
    quantiles = np.full((len(levels), horizon, len(QUANTILES)), np.nan)
    if not served.any():
        return quantiles
    levels, known = levels[served], known[served]
    profile, seasonal = daily_profile(known, day)
    ahead = profile[:, np.arange(horizon) % day] if expected is None else expected[served]
    newest, silent = newest_levels(levels)[:, None], np.isfinite(levels)[:, ::-1].argmax(axis=1)[:, None]
    # Nothing ever added more in a step than the most that was seen: run times cannot outrun the clock.
    most = np.nanmax(known, axis=1, keepdims=True)
    point = np.cumsum(np.clip(ahead, 0.0, most), axis=1) + _just_before(profile, silent)
    distance = silent + np.arange(1, horizon + 1)
    middle, width = _residuals(known, profile, seasonal, distance)
    added = (point + middle)[:, :, None] + width[:, :, None] * _SCORES
    added = np.clip(added, 0.0, (most * distance)[:, :, None])
    quantiles[served] = newest[:, :, None] + np.maximum.accumulate(added, axis=1)
    return quantiles


def _residuals(
    increments: np.ndarray, profile: np.ndarray, seasonal: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and width (one standard deviation) of what a level is off after `distance` (series, horizon) steps.

    Past stretches of up to half the history are added up. Their sums are in sample: a mean of n days misses k new days
    by (1 + k/n) of the variance of k days, and k of its own by (1 - k/n) of it. The width is put right by that ratio,
    and beyond half the history it grows by it: as a square root at first, in proportion where the mean itself is in
    doubt.
    """
    series, steps = increments.shape
    day = profile.shape[1]
    known = np.isfinite(increments)
    begin, end = known.argmax(axis=1), steps - known[:, ::-1].argmax(axis=1)
    residual = np.where(known, increments - profile[:, (np.arange(steps) - steps) % day], 0.0)
    path = np.concatenate([np.zeros((series, 1)), np.cumsum(residual, axis=1)], axis=1)
    at = np.arange(steps + 1)
    path = np.where((at >= begin[:, None]) & (at <= end[:, None]), path, np.nan)
    history = (end - begin)[:, None]
    lengths = np.unique(np.geomspace(1, max(1, steps // 2), _LENGTHS).astype(np.int64))
    width, middle = np.zeros((2, series, len(lengths)))
    # What mostly rests adds nothing in most stretches, and less than its mean; else the mean is the surer middle.
    rests = _median(increments) == 0
    for k, length in enumerate(lengths):
        off = path[:, length:] - path[:, :-length]
        count = np.isfinite(off).sum(axis=1)
        width[:, k] = np.sqrt(np.nansum(off**2, axis=1) / np.maximum(count, 1))
        middle[rests, k] = _median(off[rests])
    # A level is never surer further ahead; of few stretches chance may say so.
    width = np.maximum.accumulate(width, axis=1)
    longest = lengths[np.maximum(np.searchsorted(lengths, history // 2, side="right") - 1, 0)]
    measured = np.minimum(distance, longest)
    days = [np.maximum(seasonal[:, None], length / day) * day / history for length in (distance, measured)]
    growth = distance / measured * (1 + days[0]) / np.maximum(1 - days[1], 0.25)
    # Few days hardly show how much days can differ: the width itself is uncertain.
    growth *= 1 + day / history
    middle = _between(middle, lengths, measured) * distance / measured
    return middle, _between(width, lengths, measured) * np.sqrt(growth)


def _median(values: np.ndarray) -> np.ndarray:
    """The median of the known values of each row; 0 without any. numpy's own takes a row at a time, far slower."""
    count = np.isfinite(values).sum(axis=1)
    middle = np.stack([np.maximum(count - 1, 0) // 2, count // 2 * (count > 0)], axis=1)
    return np.where(count > 0, np.take_along_axis(np.sort(values, axis=1), middle, axis=1).mean(axis=1), 0.0)


def _between(values: np.ndarray, lengths: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (series, lengths) interpolated at `at` (series, any)."""
    right = np.clip(np.searchsorted(lengths, at), 1, len(lengths) - 1) if len(lengths) > 1 else np.zeros_like(at)
    left = np.maximum(right - 1, 0)
    share = (at - lengths[left]) / np.maximum(lengths[right] - lengths[left], 1)
    return np.take_along_axis(values, left, 1) * (1 - share) + np.take_along_axis(values, right, 1) * share


def _just_before(profile: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """What the profile adds in the last `steps` (series, 1) steps before the origin, (series, 1)."""
    times = -(-int(steps.max()) // profile.shape[1]) or 1
    backwards = np.cumsum(np.tile(profile, times)[:, ::-1], axis=1)
    return np.take_along_axis(np.pad(backwards, [(0, 0), (1, 0)]), steps, axis=1)


def _before(values: np.ndarray) -> np.ndarray:
    """At each step the newest known value of the steps before it; NaN where there is none."""
    if not values.shape[1]:
        return values
    return np.pad(carried_forward(values)[:, :-1], [(0, 0), (1, 0)], constant_values=np.nan)


def _misread(levels: np.ndarray) -> np.ndarray:
    before, after = _before(levels), _before(levels[:, ::-1])[:, ::-1]
    out_of_order = (before <= after) & ((levels < before) | (levels > after))
    # Whether the newest reading was one is unknown: there is no later reading.
    return out_of_order | ((levels == 0) & (before > 0) & np.isnan(after))
