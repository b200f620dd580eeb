"""What a forecaster is, and the simple ones: last value, window median, seasonal naive, profiles. It chooses none.

A simple forecaster's intervals are its point forecast plus quantiles of the errors that it made within the same
context at matching distances, as in Hyndman and Athanasopoulos, Forecasting: Principles and Practice (3rd ed., 5.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Protocol

import bottleneck
import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.windows import latest_context, recent_context, take_series

#: Fewer errors than this say nothing about an interval.
MINIMUM_ERRORS: Final = 8

#: Days that a profile needs, and days of a week.
_PROFILE_DAYS: Final = 2
_WEEK: Final = 7

#: Days chosen for being alike are off from each other by so much less than a new one (coverage of 54 % for 80 %).
_CHOSEN_ALIKE: Final = 1.7

#: Changes from one observation to the next that a width needs at least; a deviation by a mean absolute one (normal).
_LEAST_CHANGES: Final = 2
_OF_MEAN_DEVIATION: Final = 1.2533
_SCORES: Final = np.array([NormalDist().inv_cdf(level) for level in QUANTILES])

_FAILED_ATTEMPTS: Final = 64

#: Past errors that one distance is judged by, at most; evenly thinned beyond.
MAXIMUM_ERRORS: Final = 256


class Forecaster(Protocol):
    """Anything that forecasts every series of a panel from the panel's end."""

    @property
    def name(self) -> str: ...

    def forecast(self, panel: Panel) -> np.ndarray:
        """Quantiles (series, horizon_steps, len(QUANTILES)) float64, ascending, in the unit of the panel's values.

        NaN for a series that it cannot serve. Only the newest `context_steps` of the panel are looked at.
        """
        ...


@dataclass(frozen=True)
class LastValue:
    """The newest observation, for ever."""

    name: str = "last_value"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        return _held(panel, carried_forward(panel.values))


@dataclass(frozen=True)
class WindowMedian:
    """The median of the day that ends with the newest observation, for ever.

    A day, because it holds every hour once and still follows a level that moves; the median, because bursts, which
    come and go within it, leave no trace.
    """

    name: str = "window_median"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        day = min(panel.grid.steps_per_day, panel.steps)
        medians = bottleneck.move_median(panel.values, day, min_count=1, axis=1) if day else panel.values
        return _held(panel, carried_forward(np.where(np.isfinite(panel.values), medians, np.nan)))


@dataclass(frozen=True)
class SeasonalNaive:
    """The newest observation at the same phase.

    `days` is the season. Where a phase was never observed, the phase before it stands in. A series with less history
    than one season is not served.
    """

    name: str
    days: int

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        lag, horizon = self.days * panel.grid.steps_per_day, panel.grid.horizon_steps
        quantiles = np.full((len(panel), horizon, len(QUANTILES)), np.nan)
        if panel.steps < lag:
            return quantiles
        served = np.isfinite(panel.values[:, : panel.steps - lag + 1]).any(axis=1)
        values = panel.values[served]
        ahead = np.arange(horizon)
        points = _last_season(values, lag)[:, ahead % lag]
        seasons = 1 + ahead // lag
        errors = np.stack([self._errors(values, lag, int(k)) for k in range(1, int(seasons[-1]) + 1)], axis=1)
        quantiles[served] = _around(points, errors[:, seasons - 1])
        return quantiles

    def _errors(self, values: np.ndarray, lag: int, seasons: int) -> np.ndarray:
        """Quantiles (series, levels) of errors `seasons` seasons ahead; of a shorter distance where none are known."""
        for distance in (*range(seasons * lag, 0, -lag), max(1, lag // 7), 1):
            if values.shape[1] - distance >= MINIMUM_ERRORS:
                break
        change = values[:, distance:] - values[:, :-distance]
        few = np.isfinite(change).sum(axis=1) < MINIMUM_ERRORS
        errors = error_quantiles(change)
        errors[few] = _own_width(values[few])
        return errors


@dataclass(frozen=True)
class DailyProfile:
    """The median at the same phase over the days of the newest two weeks: no single day decides.

    The interval is what each day was off from the median of the others, in units of how much that hour varies. A series
    needs two days.
    """

    name: str = "daily_profile"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = recent_context(panel)
        day, horizon = panel.grid.steps_per_day, panel.grid.horizon_steps
        quantiles = np.full((len(panel), horizon, len(QUANTILES)), np.nan)
        days = _by_day(panel.values, day)
        served = (np.isfinite(days).any(axis=2).sum(axis=1) >= _PROFILE_DAYS) & (panel.steps >= _PROFILE_DAYS * day)
        if served.any():
            given = _profile(days[served], panel.values[served])
            quantiles[served] = given[:, np.arange(horizon) % day]
        return quantiles


@dataclass(frozen=True)
class WeekdayProfile:
    """The median, phase by phase, of the day a week before each day ahead and of the two days most like that one.

    So an outage a week ago is outvoted, and a weekend is still no working day. A series needs a week.
    """

    name: str = "weekday_profile"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        day, horizon = panel.grid.steps_per_day, panel.grid.horizon_steps
        quantiles = np.full((len(panel), horizon, len(QUANTILES)), np.nan)
        days = _by_day(panel.values, day)
        if panel.steps < _WEEK * day:
            return quantiles
        served = np.flatnonzero(np.isfinite(days[:, -_WEEK:]).any(axis=2).all(axis=1))
        if not len(served):
            return quantiles
        days, values = days[served], panel.values[served]
        for ahead in range(-(-horizon // day)):
            like = _alike(days, days.shape[1] - _WEEK + ahead % _WEEK)
            given = _profile(like, values, chosen=True)
            part = slice(ahead * day, min((ahead + 1) * day, horizon))
            quantiles[served, part] = given[:, : part.stop - part.start]
        return quantiles


def forecast_each(forecaster: Forecaster, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
    """What `Forecaster.forecast` gives, and by row why a series has no forecast, where the forecaster knows.

    A forecaster that fits every series by itself has a method of this name, and keeps each failure to its series.
    """
    one_by_one = getattr(forecaster, "forecast_each", None)
    return one_by_one(panel) if one_by_one else (forecaster.forecast(panel), {})


def carried_forward(values: np.ndarray) -> np.ndarray:
    """Each gap filled with the observation before it, along the last axis; NaN before the first."""
    steps = np.arange(values.shape[-1])
    newest = np.maximum.accumulate(np.where(np.isfinite(values), steps, 0), axis=-1)
    return np.take_along_axis(values, newest, axis=-1)


def newest_known(values: np.ndarray) -> np.ndarray:
    """The last column of `carried_forward`, without the others."""
    known = np.isfinite(values)
    newest = np.where(known.any(axis=-1), values.shape[-1] - 1 - known[..., ::-1].argmax(axis=-1), 0)
    return np.take_along_axis(values, newest[..., None], axis=-1)[..., 0]


def constant(values: np.ndarray) -> np.ndarray:
    """Which series (series, steps) never moved, and were observed often enough to say so, bool (series,)."""
    known = np.isfinite(values)
    low = np.where(known, values, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known, values, -np.inf).max(axis=1, initial=-np.inf)
    return np.asarray((known.sum(axis=1) > MINIMUM_ERRORS) & (low == high))


def ask(forecaster: Forecaster, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles, NaN where there are none, and per series why the forecaster failed; None where it did not.

    A series that makes it raise is found by halving and costs no other; after `_FAILED_ATTEMPTS` the rest is given up.
    """
    quantiles = np.full((len(panel), panel.grid.horizon_steps, len(QUANTILES)), np.nan)
    problems = np.full(len(panel), None, dtype=object)
    pending, failed = [np.arange(len(panel))] if len(panel) else [], 0
    while pending:
        rows = pending.pop()
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                quantiles[rows], each = forecast_each(forecaster, take_series(panel, rows))
            problems[rows] = [each.get(k) for k in range(len(rows))]
        except Exception as error:
            problems[rows] = f"{type(error).__name__}: {error}".splitlines()[0]
            failed += 1
            if len(rows) > 1 and failed < _FAILED_ATTEMPTS:
                pending += np.array_split(rows, 2)
    return quantiles, problems


def error_quantiles(errors: np.ndarray) -> np.ndarray:
    """Quantiles (series, levels) of errors (series, any; NaN where unknown), shifted to a median of 0.

    The shift keeps the point forecast what its name says. Zero where fewer than `MINIMUM_ERRORS` are known.
    """
    errors = errors[:, :: _thinning(errors.shape[1])]
    ordered = np.sort(errors, axis=1)  # NaN last
    count = np.isfinite(errors).sum(axis=1)
    position = np.clip(count - 1, 0, None)[:, None] * np.array(QUANTILES)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, np.clip(count - 1, 0, None)[:, None])
    if not errors.shape[1]:
        return np.zeros((len(errors), len(QUANTILES)))
    below, above = np.take_along_axis(ordered, low, 1), np.take_along_axis(ordered, high, 1)
    quantiles = below + (position - low) * (above - below)
    quantiles = quantiles - quantiles[:, MEDIAN : MEDIAN + 1]
    quantiles[count < MINIMUM_ERRORS] = 0.0
    return quantiles


def _held(panel: Panel, levels: np.ndarray) -> np.ndarray:
    """Quantiles of holding the newest level for ever, if at step t `levels[:, t]` is what would have been held."""
    horizon = panel.grid.horizon_steps
    if not panel.steps:
        return np.full((len(panel), horizon, len(QUANTILES)), np.nan)
    distances = _distances(horizon, panel.grid.steps_per_day)
    errors = np.stack([error_quantiles(_change(panel.values, levels, d)) for d in distances], axis=1)
    few = (errors == 0).all(axis=(1, 2))
    errors[few] = _own_width(panel.values[few])[:, None]
    return _around(np.repeat(levels[:, -1:], horizon, axis=1), _between(errors, distances, horizon))


def _change(values: np.ndarray, levels: np.ndarray, distance: int) -> np.ndarray:
    """What a level `distance` steps old was wrong by, (series, any), thinned; NaN where not observed."""
    if distance >= values.shape[1]:
        return values[:, :0]
    thin = _thinning(values.shape[1] - distance)
    return values[:, distance::thin] - levels[:, :-distance:thin]


def _thinning(count: int) -> int:
    """Every how manieth of so many errors is looked at."""
    return max(1, count // MAXIMUM_ERRORS)


def _last_season(values: np.ndarray, lag: int) -> np.ndarray:
    """The newest observation of each phase, (series, lag); the first column is the phase of the origin."""
    seasons = -(-values.shape[1] // lag)
    padded = np.pad(values, [(0, 0), (seasons * lag - values.shape[1], 0)], constant_values=np.nan)
    by_phase = padded.reshape(len(values), seasons, lag).swapaxes(1, 2)
    newest = newest_known(by_phase)
    # Twice round: a gap at the season's start takes the value of its end.
    return carried_forward(np.tile(newest, 2))[:, lag:]


def _distances(horizon: int, day: int) -> list[int]:
    """Steps ahead at which a held level's errors are measured: close together at first, then every eighth of a day."""
    wide = max(1, day // 8, horizon // 24)
    return sorted({d for d in (1, 2, 4, 8) if d <= min(horizon, wide)} | set(range(wide, horizon, wide)) | {horizon})


def _between(errors: np.ndarray, distances: Sequence[int], horizon: int) -> np.ndarray:
    """Error quantiles at every step ahead (series, horizon, levels) from those at `distances`, linearly.

    Distances longer than the context have no errors of their own, and take those of the longest that has some.
    """
    for k in range(1, errors.shape[1]):
        unknown = (errors[:, k] == 0).all(axis=1)
        errors[unknown, k] = errors[unknown, k - 1]
    at, ahead = np.array(distances), np.arange(1, horizon + 1)
    right = np.minimum(np.searchsorted(at, ahead), len(at) - 1)
    left = np.maximum(right - 1, 0)
    share = np.where(right > left, (ahead - at[left]) / np.maximum(at[right] - at[left], 1), 0.0)[:, None]
    return errors[:, left] * (1 - share) + errors[:, right] * share


def _own_width(values: np.ndarray) -> np.ndarray:
    """Error quantiles (series, levels) for a series that has too few errors at any one distance.

    What it changed by from one observation to the next, however far apart, as if normal; wider, the fewer there are.
    0 without three observations.
    """
    position = np.where(np.isfinite(values), np.arange(values.shape[1]), -1)
    before = np.pad(carried_forward(values)[:, :-1], [(0, 0), (1, 0)], constant_values=np.nan)
    change = np.abs(values - before)
    known = np.isfinite(change) & (position >= 0)
    count = known.sum(axis=1)
    mean = np.where(known, change, 0.0).sum(axis=1) / np.maximum(count, 1)
    deviation = _OF_MEAN_DEVIATION * mean * (1 + 2 / np.maximum(count, 1)) * (count >= _LEAST_CHANGES)
    return deviation[:, None] * _SCORES


def _by_day(values: np.ndarray, day: int) -> np.ndarray:
    """(series, days, day), NaN before the start; the first phase is that of the origin."""
    padded = np.pad(values, [(0, 0), (-values.shape[1] % day, 0)], constant_values=np.nan)
    return padded.reshape(len(values), -1, day)


def _alike(days: np.ndarray, chosen: int) -> np.ndarray:
    """The chosen day and the two most like it, (series, 3, day), from days (series, days, day)."""
    distance = _middle(np.abs(days - days[:, chosen, None]), axis=2)
    distance[:, chosen] = -1.0
    nearest = np.argsort(np.where(np.isnan(distance), np.inf, distance), axis=1, kind="stable")[:, :3]
    return np.take_along_axis(days, nearest[:, :, None], axis=1)


def _profile(days: np.ndarray, values: np.ndarray, chosen: bool = False) -> np.ndarray:
    """Quantiles (series, day, levels) of the median over days (series, days, day), and of what days were off from it.

    Where a phase was never observed, the phase before it stands in. `values` (series, steps) are what else is known.
    chosen: the days were chosen for being alike, so that a new one is further off than they are.
    """
    middle = _middle(days, axis=1)
    off = days - middle[:, None]
    count = np.isfinite(days).any(axis=2).sum(axis=1)
    # A day pulls the median towards itself: what a new day is off by is more, the fewer days there are.
    off *= (1 + 1 / np.maximum(count, 1))[:, None, None] * (_CHOSEN_ALIKE if chosen else 1.0)
    by_phase = np.nan_to_num(_mean(np.abs(off), axis=1))
    day = by_phase.shape[1]
    about = max(1, day // 24)
    around = np.pad(by_phase, [(0, 0), (about, about)], mode="wrap")
    smooth = np.mean([around[:, k : k + day] for k in range(2 * about + 1)], axis=0)
    overall = np.nan_to_num(_mean(np.abs(off), axis=(1, 2)))[:, None]
    unit = 0.5 * smooth + 0.5 * overall
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(unit[:, None] > 0, off / unit[:, None], np.where(np.isfinite(off), 0.0, np.nan))
    reach = error_quantiles(relative.reshape(len(days), -1))
    filled = carried_forward(np.tile(middle, 2))[:, day:]
    width = unit[:, :, None] * reach[:, None]
    few = np.isfinite(off).sum(axis=(1, 2)) < MINIMUM_ERRORS
    width[few] = _own_width(values[few])[:, None]
    return filled[:, :, None] + width


def _middle(values: np.ndarray, axis: int) -> np.ndarray:
    """The median of what is known along an axis; NaN without any."""
    ordered = np.sort(values, axis=axis)  # NaN last
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, np.maximum(count - 1, 0))
    both = np.take_along_axis(ordered, low, axis) + np.take_along_axis(ordered, high, axis)
    middle: np.ndarray = np.squeeze(both / 2, axis=axis)
    return middle


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    known = np.isfinite(values)
    mean: np.ndarray = np.where(known, values, 0.0).sum(axis=axis) / np.maximum(known.sum(axis=axis), 1)
    return mean


def _around(points: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return points[:, :, None] + errors
