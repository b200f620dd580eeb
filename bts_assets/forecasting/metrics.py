"""What forecasts were worth: metrics, and scores per series. It forecasts nothing and chooses nothing."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.crps import DENSE_LEVELS, to_dense_levels
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES

#: The central intervals that are looked at: how many per cent of truths each is to hold.
COVERAGES: Final = (50, 80, 90, 95)

METRICS: Final = (
    "mae",
    "rmse",
    "mase",
    "smape",
    "pinball",
    "wql",
    "crps",
    "coverage50",
    "coverage80",
    "coverage90",
    "msis",
    "bias",
    "coverage95",
)

#: What a row of scores is of.
KEYS: Final = ("station_id", "parameter_id", "origin", "candidate")


def mase_scale(past: np.ndarray, steps_per_day: int) -> np.ndarray:
    """The denominator of MASE, (series,): mean absolute difference from one day to the next in `past` (series, steps).

    Hyndman and Koehler, Another look at measures of forecast accuracy (2006), with the day as season. Where the history
    has no two observations a day apart, or they never differ, the difference from step to step stands in; where that
    is 0 or unknown too, NaN: such a series has no MASE.
    """
    scale = np.full(len(past), np.nan)
    for lag in (steps_per_day, 1):
        difference = np.abs(past[:, lag:] - past[:, :-lag])
        known = np.isfinite(difference)
        count = known.sum(axis=1)
        mean = np.where(known, difference, 0.0).sum(axis=1) / np.maximum(count, 1)
        scale = np.where(np.isnan(scale) & (count > 0) & (mean > 0), mean, scale)
    return scale


def metrics(quantiles: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Each of `METRICS` per series, over the steps whose truth is known; NaN without any.

    Shapes: quantiles (series, horizon, levels), truth (series, horizon), scale (series,). mae, rmse, pinball and bias
    (forecast median minus truth) are in the series' unit. smape is in percent, and msis the mean scaled interval score
    of the 95 % interval: its width, and 40 times what a truth lies outside it, over the scale (both as in Makridakis et
    al., The M4 Competition, 2020; a step where forecast and truth are 0 counts 0 in smape). pinball is the mean over
    levels of the quantile loss (Koenker and Bassett, 1978); wql is twice its sum over the sum of absolute truths. crps
    is the continuous ranked probability score over the scale (so of a point it is mase): twice the quantile loss
    integrated over levels (Gneiting and Ranjan, 2011), here over `DENSE_LEVELS`, to which quantiles are interpolated.
    coverage is the share of truths within the central interval.
    """
    known = np.isfinite(truth)
    count = known.sum(axis=1).astype(np.float64)
    count[count == 0] = np.nan

    def mean(values: np.ndarray) -> np.ndarray:
        return np.where(known, values, 0.0).sum(axis=1) / count

    filled = np.where(known, truth, 0.0)
    point = quantiles[:, :, MEDIAN]
    error = filled - point
    size = np.abs(filled) + np.abs(point)
    pinball = mean(_loss(filled, quantiles, np.eye(len(QUANTILES)), QUANTILES))
    level = mean(np.abs(filled))
    mae = mean(np.abs(error))
    result = {
        "mae": mae,
        "rmse": np.sqrt(mean(error**2)),
        "mase": mae / scale,
        "smape": mean(200 * np.abs(error) / np.where(size > 0, size, 1.0)),
        "pinball": pinball,
        "wql": 2 * pinball / np.where(level > 0, level, np.nan),
        "crps": 2 * mean(_loss(filled, quantiles, _BETWEEN, DENSE_LEVELS)) / scale,
        "bias": mean(-error),
        "msis": mean(_interval_score(quantiles, filled)) / scale,
        **{f"coverage{share}": mean(inside(quantiles, filled, share)) for share in COVERAGES},
    }
    return {name: result[name] for name in METRICS}


_BETWEEN: Final = to_dense_levels(QUANTILES)


def _loss(truth: np.ndarray, quantiles: np.ndarray, weights: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Mean quantile loss (series, horizon) over levels (m,), whose quantiles `weights` (levels, m) make of those given;
    level by level, so that twenty take no more memory than one.
    """
    total = np.zeros(truth.shape)
    for weight, level in zip(weights.T, levels, strict=True):
        above = truth - quantiles @ weight
        total += np.maximum(level * above, (level - 1) * above)
    return total / len(levels)


def inside(quantiles: np.ndarray, truth: np.ndarray, share: int) -> np.ndarray:
    """Whether each truth lies within the central interval of `share` per cent, (series, horizon); False where NaN."""
    low, high = _interval(share)
    return (truth >= quantiles[:, :, low]) & (truth <= quantiles[:, :, high])


def _interval(share: int) -> tuple[int, int]:
    low, high = (QUANTILES.index(round((1 + side * share / 100) / 2, 3)) for side in (-1, 1))
    return low, high


def _interval_score(quantiles: np.ndarray, truth: np.ndarray, share: int = 95) -> np.ndarray:
    """Gneiting and Raftery, Strictly proper scoring rules (2007), section 6.2; (series, horizon)."""
    low, high = (quantiles[:, :, k] for k in _interval(share))
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return high - low + 2 / (1 - share / 100) * outside


def actuals_of(panel: Panel, origin: int) -> Panel:
    """The horizon that begins at column `origin`: the panel starts there."""
    end = origin + panel.grid.horizon_steps
    values = panel.values[:, origin:end]
    return Panel(panel.grid, panel.station_id, panel.parameter_id, panel.start + end * panel.grid.step, values)


def score(came: Panel, candidate: str, quantiles: np.ndarray, scale: np.ndarray) -> pd.DataFrame:
    """One row per series that was forecast and of which something came: what it was worth.

    `came` is the horizon after the origin; quantiles (series, horizon, levels), NaN for a series that was not served.
    """
    served = np.flatnonzero(np.isfinite(quantiles).all(axis=(1, 2)) & np.isfinite(came.values).any(axis=1))
    frame = pd.DataFrame(metrics(quantiles[served], came.values[served], scale[served]))
    frame["station_id"] = came.station_id[served]
    frame["parameter_id"] = came.parameter_id[served]
    frame["origin"] = pd.Timestamp(came.start).as_unit("us")
    frame["candidate"] = candidate
    return frame


def together(scores: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What `score` gave, in one frame: station_id, parameter_id, origin, candidate, then `METRICS`."""
    columns = [*KEYS, *METRICS]
    return pd.concat(scores, ignore_index=True)[columns] if scores else pd.DataFrame(columns=columns)
