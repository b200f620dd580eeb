"""What a forecaster is, and the simple ones: last value, window median, seasonal naive. No choice between them.

A simple forecaster's intervals are its point forecast plus quantiles of the errors that it made within the same
context at matching distances, as in Hyndman and Athanasopoulos, Forecasting: Principles and Practice (3rd ed., 5.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import MEDIAN, QUANTILES
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.windows import latest_context

#: Fewer errors than this say nothing about an interval.
MINIMUM_ERRORS: Final = 8

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
        windows = pd.DataFrame(panel.values.T).rolling(panel.grid.steps_per_day, min_periods=1)
        medians = np.where(np.isfinite(panel.values), windows.median().to_numpy().T, np.nan)
        return _held(panel, carried_forward(medians))


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
        return error_quantiles(change)


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


def error_quantiles(errors: np.ndarray) -> np.ndarray:
    """Quantiles (series, levels) of errors (series, any; NaN where unknown), shifted to a median of 0.

    The shift keeps the point forecast what its name says. Zero where fewer than `MINIMUM_ERRORS` are known.
    """
    errors = errors[:, :: max(1, errors.shape[1] // MAXIMUM_ERRORS)]
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
    return _around(np.repeat(levels[:, -1:], horizon, axis=1), _between(errors, distances, horizon))


def _change(values: np.ndarray, levels: np.ndarray, distance: int) -> np.ndarray:
    """What a level `distance` steps old was wrong by, (series, steps - distance); NaN where not observed."""
    return values[:, distance:] - levels[:, :-distance] if distance < values.shape[1] else values[:, :0]


def _last_season(values: np.ndarray, lag: int) -> np.ndarray:
    """The newest observation of each phase, (series, lag); the first column is the phase of the origin."""
    seasons = -(-values.shape[1] // lag)
    padded = np.pad(values, [(0, 0), (seasons * lag - values.shape[1], 0)], constant_values=np.nan)
    by_phase = padded.reshape(len(values), seasons, lag).swapaxes(1, 2)
    newest = carried_forward(by_phase)[:, :, -1]
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


def _around(points: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return points[:, :, None] + errors
