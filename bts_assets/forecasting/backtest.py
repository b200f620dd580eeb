"""How good a forecaster was: metrics, and the replay of past origins. It chooses nothing and trains nothing."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.grid import MEDIAN, QUANTILES
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.forecasters import Forecaster
from bts_assets.forecasting.windows import Progress, at_origin, in_chunks, take_series

METRICS: Final = ("mae", "rmse", "mase", "smape", "pinball", "wql", "coverage50", "coverage80", "coverage90")

_CHUNK: Final = 2048


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

    Shapes: quantiles (series, horizon, levels), truth (series, horizon), scale (series,). mae, rmse and pinball are in
    the series' unit. smape is in percent (Makridakis et al., The M4 Competition, 2020; a step where both are 0 counts
    0). pinball is the mean over levels of the quantile loss (Koenker and Bassett, 1978); wql is twice its sum over the
    sum of absolute truths. coverage is the share of truths within the central interval.
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
    levels = np.array(QUANTILES)
    each = filled[:, :, None] - quantiles
    pinball = mean(np.maximum(levels * each, (levels - 1) * each).mean(axis=2))
    level = mean(np.abs(filled))
    mae = mean(np.abs(error))
    result = {
        "mae": mae,
        "rmse": np.sqrt(mean(error**2)),
        "mase": mae / scale,
        "smape": mean(200 * np.abs(error) / np.where(size > 0, size, 1.0)),
        "pinball": pinball,
        "wql": 2 * pinball / np.where(level > 0, level, np.nan),
    }
    for share in (50, 80, 90):
        low, high = (QUANTILES.index(round((1 + side * share / 100) / 2, 3)) for side in (-1, 1))
        inside = (filled >= quantiles[:, :, low]) & (filled <= quantiles[:, :, high])
        result[f"coverage{share}"] = mean(inside)
    return result


def backtest(
    panel: Panel, forecasters: Sequence[Forecaster], origins: Sequence[int], on_progress: Progress | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Forecast from each origin (a column of the panel) what came after it, and score it.

    Returns the scores, one row per series, origin and candidate that could serve it (station_id, parameter_id, origin,
    candidate, then `METRICS`), and why a candidate failed, by name. A failure spoils that candidate alone.
    """
    scale = mase_scale(panel.values[:, : origins[0]] if origins else panel.values, panel.grid.steps_per_day)
    frames: list[pd.DataFrame] = []
    failures: dict[str, str] = {}
    for done, origin in enumerate(origins):
        for forecaster in forecasters:
            for part in in_chunks(len(panel), _CHUNK):
                rows = np.arange(part.start, part.stop)
                try:
                    frames.append(_score(take_series(panel, rows), forecaster, origin, scale[part]))
                except Exception as error:
                    failures[forecaster.name] = f"{type(error).__name__}: {error}".splitlines()[0]
        if on_progress:
            on_progress("backtest", done + 1, len(origins))
    columns = ["station_id", "parameter_id", "origin", "candidate", *METRICS]
    scores = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    return scores.loc[~scores["candidate"].isin(failures), columns].reset_index(drop=True), failures


def _score(panel: Panel, forecaster: Forecaster, origin: int, scale: np.ndarray) -> pd.DataFrame:
    quantiles = forecaster.forecast(at_origin(panel, origin))
    truth = panel.values[:, origin : origin + panel.grid.horizon_steps]
    served = np.flatnonzero(np.isfinite(quantiles).all(axis=(1, 2)) & np.isfinite(truth).any(axis=1))
    frame = pd.DataFrame(metrics(quantiles[served], truth[served], scale[served]))
    frame["station_id"] = panel.station_id[served]
    frame["parameter_id"] = panel.parameter_id[served]
    frame["origin"] = pd.Timestamp(panel.start + origin * panel.grid.step).as_unit("us")
    frame["candidate"] = forecaster.name
    return frame
