"""What a stretch of data looks like: figures per series and per parameter. It judges, draws and stores nothing."""

from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.panel import Panel

#: Interpolated linearly between the two nearest observations, as numpy's default does (Hyndman and Fan 1996, type 7).
_QUANTILES: Final = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}

#: Series that are looked at together: it bounds memory.
_CHUNK: Final = 8192

_SERIES: Final = ["station_id", "parameter_id"]


def profile(panel: Panel, readings: pd.DataFrame) -> pd.DataFrame:
    """One row per series of the panel, in its order; `readings` counts those behind its observations.

    `readings` has station_id, parameter_id, readings (of all steps) and most_readings (of one step); a series that it
    lacks has none. Given back, beside those: observations; missing_share (0 to 1, of the steps); minimum, q05, q25,
    median, q75, q95, maximum, mean and sd (population) in the parameter's unit, NaN where nothing was observed; gaps
    (runs of missing steps, also those at either end); longest_gap (steps); readings_per_step (mean over the steps that
    have any, 0 without).
    """
    parts = [_figures(panel, slice(start, start + _CHUNK)) for start in range(0, max(len(panel), 1), _CHUNK)]
    counts = readings[[*_SERIES, "readings", "most_readings"]].astype({"station_id": "int64", "parameter_id": "int32"})
    frame = pd.concat(parts, ignore_index=True).merge(counts, how="left", on=_SERIES)
    whole = {"readings": "int64", "most_readings": "int32"}
    frame = frame.fillna(dict.fromkeys(whole, 0)).astype(whole)
    return frame.assign(readings_per_step=frame["readings"] / frame["observations"].clip(lower=1))


def by_parameter(series: pd.DataFrame, steps: int) -> pd.DataFrame:
    """`profile`'s rows of `steps` steps each, put together per parameter: its index, ascending.

    Columns: series, silent (of them), readings, observations, missing_share, minimum, mean, maximum, gaps, longest_gap,
    readings_per_step, most_readings.
    """
    groups = series.assign(total=series["mean"] * series["observations"]).groupby("parameter_id")
    summed = groups[["readings", "observations", "gaps", "total"]].sum()
    size = groups.size()
    observed = summed["observations"].clip(lower=1)
    return pd.DataFrame(
        {
            "series": size,
            "silent": (series["observations"] == 0).groupby(series["parameter_id"]).sum(),
            "readings": summed["readings"],
            "observations": summed["observations"],
            "missing_share": 1 - summed["observations"] / (size * steps),
            "minimum": groups["minimum"].min(),
            "mean": (summed["total"] / observed).where(summed["observations"] > 0),
            "maximum": groups["maximum"].max(),
            "gaps": summed["gaps"],
            "longest_gap": groups["longest_gap"].max(),
            "readings_per_step": summed["readings"] / observed,
            "most_readings": groups["most_readings"].max(),
        }
    )


def _figures(panel: Panel, rows: slice) -> pd.DataFrame:
    values = panel.values[rows]
    known = np.isfinite(values)
    count = known.sum(axis=1)
    some = count > 0
    at = np.arange(panel.steps)
    # How many steps back the newest observation lies, at each step.
    silent_for = at - np.maximum.accumulate(np.where(known, at, -1), axis=1)
    begins = ~known & np.insert(known[:, :-1], 0, True, axis=1)
    ordered = np.sort(values, axis=1)  # NaN last
    newest = np.maximum(count - 1, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1)
        spread = np.where(known, values - mean[:, None], 0.0)
        sd = np.sqrt((spread * spread).sum(axis=1) / np.maximum(count, 1))
        quantiles = {name: _between(ordered, q * newest) for name, q in _QUANTILES.items()}
    return pd.DataFrame(
        {
            "station_id": panel.station_id[rows].astype("int64"),
            "parameter_id": panel.parameter_id[rows].astype("int32"),
            "observations": count.astype("int32"),
            "missing_share": 1 - count / panel.steps,
            "minimum": ordered[:, 0],
            **quantiles,
            "maximum": _between(ordered, newest.astype(float)),
            "mean": np.where(some, mean, np.nan),
            "sd": np.where(some, sd, np.nan),
            "gaps": begins.sum(axis=1).astype("int32"),
            "longest_gap": silent_for.max(axis=1).astype("int32"),
        }
    )


def _between(ordered: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The value at a fractional position of each row."""
    low = np.floor(position).astype(int)
    row = np.arange(len(ordered))
    below, above = ordered[row, low], ordered[row, np.ceil(position).astype(int)]
    return below + (above - below) * (position - low)
