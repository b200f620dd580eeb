"""Sensors and stations that measure or report wrongly, by name: by rule, from context and snapshot."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.panel import Panel
from bts_assets.monitoring import nan_means
from bts_assets.monitoring.snapshot import Snapshot, figures

#: What is told, and of what: a station, or a series.
STATION_FAULTS: Final = ("silent_station", "clock_shifted", "clock_ahead", "clock_set_back")
SERIES_FAULTS: Final = ("missing", "stuck", "flat_lined", "mis_scaled")

_DAY: Final = timedelta(days=1)
#: Nothing for so long is silence.
_SILENT: Final = timedelta(hours=6)
#: One value for so long, and so many times as long as in all of the training, is stuck.
_STUCK: Final = timedelta(hours=12)
_LONGER: Final = 2
#: A series that was observed less often than this was sparse before.
_DENSE: Final = 0.3
#: A series is missing below this share of the observations per step that it had in training.
_MISSING: Final = 0.5
#: A series is flat below this share of the spread about the profile that nine in ten days have.
_FLAT: Final = 0.05
#: Factors that a mis-set gain or unit comes to; and degrees Fahrenheit for Celsius, a factor with an offset.
_FACTORS: Final = (1000.0, 100.0, 10.0, 0.1, 0.01, 0.001)
_SCALES: Final = (*((f, 0.0) for f in _FACTORS), (1.8, 32.0), (1 / 1.8, -32 / 1.8))
#: How far the spread may be from what a factor makes of it, as a ratio.
_SPREAD: Final = 3.0
#: A day's course tells the time where it correlates so well with the profile at its best shift, and by so much better
#: than unshifted.
_LIKE: Final = 0.8
_BETTER: Final = 0.3
#: A shift of the clock is one that so many series of a station agree on, and so large a share of those that tell.
_WITNESSES: Final = 2
_AGREED: Final = 0.6

_COLUMNS: Final = ["fault", "station_id", "parameter_id", "since", "figure"]


@dataclass(frozen=True)
class Watched:
    """A context and what its series looked like in training, row by row; gauges (series,): neither meter nor switch."""

    context: Panel
    snapshot: Snapshot
    gauges: np.ndarray


def sensor_faults(watched: Watched) -> pd.DataFrame:
    """One row per fault. Columns: fault, of `STATION_FAULTS` or `SERIES_FAULTS`; station_id; parameter_id, -1 where it
    is the station's; since (UTC, NaT where nobody knows); figure: of missing the share observed of the last day, of
    stuck and flat_lined the value, of mis_scaled the factor, of clock_shifted the hours, else NaN.

    Only what the training knew otherwise is a fault: a switch that seldom moves, or a meter that stands, is none.
    """
    silent = _silent_stations(watched)
    told = pd.concat([silent, _clock_shifts(watched), *_of_series(watched, silent)], ignore_index=True)
    return told.sort_values(["station_id", "parameter_id", "fault"], ignore_index=True)


def _of_series(watched: Watched, silent: pd.DataFrame) -> list[pd.DataFrame]:
    """Faults of series, those of silent stations aside, which their silence explains."""
    speaking = ~np.isin(watched.context.station_id, silent["station_id"].to_numpy(dtype=np.int64))
    missing, share = _missing(watched)
    stuck, run, value = _unmoved(watched)
    flat = _flat(watched) & ~stuck
    factor = np.where(stuck, np.nan, _factors(watched))
    flat &= np.isnan(factor)
    since = _instants(watched.context, watched.context.steps - run)
    nobody = _instants(watched.context, np.full(len(run), np.nan))
    return [
        _rows(watched, "missing", missing & speaking, _heard_until(watched.context), share),
        _rows(watched, "stuck", stuck & (value != 0) & speaking, since, value),
        _rows(watched, "flat_lined", (stuck & (value == 0) | flat) & speaking, since, value),
        _rows(watched, "mis_scaled", np.isfinite(factor) & speaking, nobody, factor),
    ]


def _silent_stations(watched: Watched) -> pd.DataFrame:
    context, lasting = watched.context, max(1, _SILENT // watched.context.grid.step)
    heard = np.isfinite(context.values[:, -lasting:]).any(axis=1)
    dense = watched.snapshot.coverage >= _DENSE
    stations, row = np.unique(context.station_id, return_inverse=True)
    speaks = np.bincount(row, heard, len(stations)) > 0
    used_to = np.bincount(row, dense, len(stations)) > 0
    newest = np.full(len(stations), -1)
    np.maximum.at(newest, row, _newest(context))
    quiet = np.flatnonzero(~speaks & used_to)
    since = _instants(context, np.where(newest[quiet] >= 0, newest[quiet] + 1.0, np.nan))
    return _frame("silent_station", stations[quiet], np.full(len(quiet), -1), since, np.full(len(quiet), np.nan))


def _missing(watched: Watched) -> tuple[np.ndarray, np.ndarray]:
    context = watched.context
    day, lasting = context.grid.steps_per_day, max(1, _SILENT // context.grid.step)
    share = np.isfinite(context.values[:, -day:]).mean(axis=1)
    heard = np.isfinite(context.values[:, -lasting:]).any(axis=1)
    usual = watched.snapshot.coverage
    # A night that begins before its last files have landed lacks hours of every series: half a day is not that.
    return (usual >= _DENSE) & ((share < _MISSING * usual) | ~heard & (usual >= 2 * _DENSE)), share


def _unmoved(watched: Watched) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether a gauge is stuck; since how many steps of the grid it has had its newest value, and that value."""
    context, values = watched.context, watched.context.values
    newest = _newest(context)
    last = np.where(newest >= 0, values[np.arange(len(values)), np.maximum(newest, 0)], np.nan)
    other = np.isfinite(values) & (values != last[:, None])
    steps = values.shape[1]
    changed = np.where(other.any(axis=1), steps - 1 - other[:, ::-1].argmax(axis=1), -1)
    after = np.arange(steps) > changed[:, None]
    count = (np.isfinite(values) & after).sum(axis=1)
    long = max(2, _STUCK // context.grid.step)
    limit = np.maximum(long * np.minimum(watched.snapshot.coverage, 1.0), _LONGER * watched.snapshot.longest_run)
    knew = np.isfinite(watched.snapshot.spread).any(axis=1)
    return watched.gauges & knew & (count >= np.maximum(limit, 2)), (steps - 1 - changed).astype(float), last


def _flat(watched: Watched) -> np.ndarray:
    """Whether a gauge hardly moves any more. One that does not move at all may be off, or stuck."""
    now = _last_day(watched)
    return watched.gauges & np.isfinite(now) & (now < _usual_spread(watched) + np.log(_FLAT))


def _usual_spread(watched: Watched) -> np.ndarray:
    """Log of the spread that a tenth of the training's days had less of, (series,)."""
    ordered = np.sort(watched.snapshot.spread, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    tenth = np.take_along_axis(ordered, (count // 10)[:, None], axis=1)[:, 0] if ordered.shape[1] else np.nan
    return np.where(count > 0, tenth, np.nan)


def _last_day(watched: Watched) -> np.ndarray:
    """Log of the spread about the mean in the last day; -inf where it did not move, NaN where it was not observed."""
    context, day = watched.context, watched.context.grid.steps_per_day
    newest = Panel(context.grid, context.station_id, context.parameter_id, context.end, context.values[:, -day:])
    flat = np.zeros_like(watched.snapshot.profile)  # about itself: a flat line follows no profile
    spread = figures(newest, newest.values, flat).spread
    if not spread.shape[1]:
        return np.full(len(context), np.nan)
    observed = np.isfinite(newest.values).sum(axis=1) >= 2
    return np.where(np.isfinite(spread[:, -1]), spread[:, -1], np.where(observed, -np.inf, np.nan))


def _factors(watched: Watched) -> np.ndarray:
    """By what factor each gauge's last day is off, (series,); NaN where none explains it."""
    sketch, day = watched.snapshot.sketch, watched.context.grid.steps_per_day
    now = nan_means.median(watched.context.values[:, -day:])
    lowest, highest = sketch[:, 0], sketch[:, -1]
    width = highest - lowest
    out = watched.gauges & ((now < lowest - width) | (now > highest + width))
    usual, spread = _own_spread(watched.snapshot), _last_day(watched)
    out &= np.isfinite(usual) & np.isfinite(spread)
    usual, spread = np.where(out, usual, 0.0), np.where(out, spread, 0.0)
    found = np.full(len(now), np.nan)
    for factor, offset in _SCALES:
        back = (now - offset) / factor
        fits = (back >= sketch[:, 1]) & (back <= sketch[:, -2])
        alike = np.abs(spread - usual - np.log(factor)) < np.log(_SPREAD)
        found = np.where(np.isnan(found) & out & fits & alike, factor, found)
    return found


def _own_spread(snapshot: Snapshot) -> np.ndarray:
    """Log of the spread of a day about its mean, profile and all, as the training had it."""
    course = nan_means.mean((snapshot.profile - nan_means.mean(snapshot.profile)[:, None]) ** 2)
    about = np.exp(2 * np.nan_to_num(nan_means.median(snapshot.spread), nan=-np.inf))
    with np.errstate(divide="ignore"):
        return np.log(course + about) / 2


def _clock_shifts(watched: Watched) -> pd.DataFrame:
    """Stations whose days have the course of their profile, some hours off."""
    context, profile = watched.context, watched.snapshot.profile
    shift = _best_shift(_days_course(context, profile.shape[1]), profile)
    hours = 24 / profile.shape[1]
    found = []
    for station in np.unique(context.station_id[np.isfinite(shift)]):
        told = shift[(context.station_id == station) & np.isfinite(shift)]
        middle = np.median(told)
        agreed = np.abs(told - middle) <= 1
        if middle and agreed.sum() >= _WITNESSES and agreed.mean() >= _AGREED:
            found.append((station, middle * hours))
    stations = np.array([s for s, _ in found], dtype=np.int64)
    figure = np.array([h for _, h in found], dtype=float)
    nobody = _instants(context, np.full(len(found), np.nan))
    return _frame("clock_shifted", stations, np.full(len(found), -1), nobody, figure)


def _days_course(context: Panel, parts: int) -> np.ndarray:
    """Mean of the last days by part of the UTC day, (series, parts); NaN where a part was not observed."""
    day = context.grid.steps_per_day
    if parts > day or day % parts or context.steps < 2 * day:
        return np.full((len(context), parts), np.nan)
    newest = context.values[:, -2 * day :].reshape(len(context), 2, parts, day // parts).swapaxes(1, 2)
    mean = nan_means.mean(newest.reshape(len(context), parts, -1))
    first = round(context.grid.index(context.end) % day / (day // parts)) % parts
    return np.roll(mean, first, axis=1)


def _best_shift(course: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Parts by which each course lags behind its profile, (series,): 0 where it keeps time, NaN where it tells none."""
    parts = profile.shape[1]
    rolled = np.stack([_correlation(course, np.roll(profile, lag, axis=1)) for lag in range(parts)], axis=1)
    tells = np.isfinite(rolled).all(axis=1)
    best = np.where(tells, np.nan_to_num(rolled).argmax(axis=1), 0)
    at_best = np.nan_to_num(rolled)[np.arange(len(rolled)), best]
    signed = np.where(best > parts // 2, best - parts, best).astype(float)
    moved = at_best - np.nan_to_num(rolled[:, 0]) >= _BETTER
    return np.where(tells & (at_best >= _LIKE), np.where(moved, signed, 0.0), np.nan)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation of rows; NaN where one does not move or is not whole."""
    off = [part - part.mean(axis=1, keepdims=True) for part in (one, other)]
    power = np.sqrt((off[0] ** 2).sum(axis=1) * (off[1] ** 2).sum(axis=1))
    return np.divide((off[0] * off[1]).sum(axis=1), power, out=np.full(len(one), np.nan), where=power > 0)


def _newest(context: Panel) -> np.ndarray:
    """The column of each series' newest observation, -1 without any."""
    heard = np.isfinite(context.values)
    return np.where(heard.any(axis=1), context.steps - 1 - heard[:, ::-1].argmax(axis=1), -1)


def _heard_until(context: Panel) -> pd.DatetimeIndex:
    newest = _newest(context)
    return _instants(context, np.where(newest >= 0, newest + 1.0, np.nan))


def _instants(context: Panel, column: np.ndarray) -> pd.DatetimeIndex:
    """The starts of columns of the context; NaT for NaN."""
    seconds = column * context.grid.step.total_seconds()
    return pd.DatetimeIndex(pd.Timestamp(context.start) + pd.to_timedelta(seconds, unit="s"))


def _rows(watched: Watched, fault: str, which: np.ndarray, since: pd.DatetimeIndex, figure: np.ndarray) -> pd.DataFrame:
    context = watched.context
    return _frame(fault, context.station_id[which], context.parameter_id[which], since[which], figure[which])


def _frame(
    fault: str, station_id: np.ndarray, parameter_id: np.ndarray, since: pd.DatetimeIndex, figure: np.ndarray
) -> pd.DataFrame:
    columns = zip(_COLUMNS, (fault, station_id, parameter_id, since, figure), strict=True)
    return pd.DataFrame(dict(columns), index=range(len(station_id)))
