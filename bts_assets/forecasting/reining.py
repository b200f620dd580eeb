"""Forecasts beyond what the series ever did, brought smoothly within reach of it. Nothing is learned here."""

from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel

#: How far beyond everything in the context a forecast can come, in ranges of the context, and how sharply it is held
#: there: half as far it is left as it is, within a few per cent.
_REACH: Final = 1.0
_SHARPNESS: Final = 4

#: A shorter past says nothing about what a series can do.
_LEAST_DAYS: Final = 2
_LEAST_KNOWN: Final = 24


def reined(quantiles: np.ndarray, panel: Panel) -> np.ndarray:
    """Quantiles (series, horizon, levels) brought smoothly to within one range of the context beyond its extremes.

    A series observed for less than two days is left as it is, as is one that never moved.
    """
    known = np.isfinite(panel.values)
    with np.errstate(invalid="ignore"):
        low = np.where(known, panel.values, np.inf).min(axis=1, initial=np.inf)
        high = np.where(known, panel.values, -np.inf).max(axis=1, initial=-np.inf)
    first = np.where(known.any(axis=1), known.argmax(axis=1), panel.steps)
    long = (panel.steps - first >= _LEAST_DAYS * panel.grid.steps_per_day) & (known.sum(axis=1) >= _LEAST_KNOWN)
    rows = np.flatnonzero(long & (high > low) & np.isfinite(high - low))
    if not len(rows):
        return quantiles
    low, high = low[rows, None, None], high[rows, None, None]
    reach, given = _REACH * (high - low), quantiles[rows]
    inside = np.clip(given, low, high)
    with np.errstate(over="ignore", invalid="ignore"):
        off = (given - inside) / reach
        soft = off / (1 + np.abs(off) ** _SHARPNESS) ** (1 / _SHARPNESS)
        # Beyond what the power can hold.
        soft = np.where(np.abs(off) > 1e6, np.sign(off), soft)
    quantiles = quantiles.copy()
    quantiles[rows] = inside + reach * soft
    return quantiles
