"""Forecasts beyond what the series ever did, brought smoothly within reach of it. Nothing is learned here."""

from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.events import going_on
from bts_assets.forecasting.forecasters import carried_forward

#: How far beyond everything in the context a forecast can come, in ranges of the context, and how sharply it is held
#: there: half as far it is left as it is, within a few per cent.
_REACH: Final = 1.0
_SHARPNESS: Final = 4

#: Half of the range of all values lies this near the middle of it.
_OFF_THE_MIDDLE: Final = 0.25

#: A shorter past says nothing about what a series can do.
_LEAST_DAYS: Final = 2
_LEAST_KNOWN: Final = 24


def reined(quantiles: np.ndarray, panel: Panel) -> np.ndarray:
    """Quantiles (series, horizon, levels) brought smoothly to within one range of the context beyond its extremes.

    An excursion that lasts until the newest value (an outage at the origin, or one in which a station fell silent)
    widens the range on its own side alone: a voltage that is 0 now does not come back at twice what it was. A series
    observed for less than two days is left as it is, as is one that never moved.
    """
    known = np.isfinite(panel.values)
    low, high = _extremes(panel.values, known)
    first = np.where(known.any(axis=1), known.argmax(axis=1), panel.steps)
    long = (panel.steps - first >= _LEAST_DAYS * panel.grid.steps_per_day) & (known.sum(axis=1) >= _LEAST_KNOWN)
    rows = np.flatnonzero(long & (high > low) & np.isfinite(high - low))
    if not len(rows):
        return quantiles
    low, high, given = low[rows], high[rows], quantiles[rows]
    usual = _usual_range(panel.values[rows], low, high)
    below = np.where(low < usual[0], high - low, usual[1] - usual[0])[:, None, None]
    above = np.where(high > usual[1], high - low, usual[1] - usual[0])[:, None, None]
    inside = np.clip(given, low[:, None, None], high[:, None, None])
    reach = _REACH * np.where(given < inside, below, above)
    with np.errstate(over="ignore", invalid="ignore"):
        off = (given - inside) / reach
        soft = off / (1 + np.abs(off) ** _SHARPNESS) ** (1 / _SHARPNESS)
        # Beyond what the power can hold.
        soft = np.where(np.abs(off) > 1e6, np.sign(off), soft)
    quantiles = quantiles.copy()
    quantiles[rows] = inside + reach * soft
    return quantiles


def _extremes(values: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest of some values of each row; infinite where there is none."""
    with np.errstate(invalid="ignore"):
        low = np.where(which, values, np.inf).min(axis=1, initial=np.inf)
        high = np.where(which, values, -np.inf).max(axis=1, initial=-np.inf)
    return low, high


def _usual_range(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The extremes `low` and `high` of values (series, steps), without an excursion that lasts until the newest one."""
    newest = carried_forward(values)[:, -1]
    low, high = low.copy(), high.copy()
    # Only where the newest value is far off the middle can it belong to one: the others need not be looked through.
    rows = np.flatnonzero(np.abs(newest - (low + high) / 2) > _OFF_THE_MIDDLE * (high - low))
    now = going_on(values[rows])
    some = now.any(axis=1)
    rows, now = rows[some], now[some]
    usual = _extremes(values[rows], np.isfinite(values[rows]) & ~now)
    moves = usual[1] > usual[0]  # of what rested until now nothing else is known
    low[rows[moves]], high[rows[moves]] = usual[0][moves], usual[1][moves]
    return low, high
