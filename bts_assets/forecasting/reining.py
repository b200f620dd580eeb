"""Forecasts beyond what the series ever did, brought smoothly within reach of it. Nothing is learned here."""

from dataclasses import dataclass
from typing import Final

import bottleneck
import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.forecasters import newest_known

#: How far beyond everything in the context a forecast can come, in ranges of the context, and how sharply it is held
#: there: half as far it is left as it is, within a few per cent.
_REACH: Final = 1.0
_SHARPNESS: Final = 4

#: Share of the range that is one end of it.
_END: Final = 0.25

#: A shorter past says nothing about what a series can do.
_LEAST_DAYS: Final = 2
_LEAST_KNOWN: Final = 24


@dataclass(frozen=True)
class Reach:
    """How far each series can come, each (series,): `below` below `low` and `above` above `high`, the extremes of its
    context. moves: whether that says anything; other series are left as they are.
    """

    low: np.ndarray
    high: np.ndarray
    below: np.ndarray
    above: np.ndarray
    moves: np.ndarray

    @classmethod
    def of(cls, panel: Panel) -> "Reach":
        """One range of the context beyond its extremes.

        What an excursion that lasts until the newest value adds to the range (an outage at the origin, or one in which
        a station fell silent) counts on its own side alone: a voltage that is 0 now does not come back at twice what it
        was. A series observed for less than two days is left as it is, as is one that never moved.
        """
        known = np.isfinite(panel.values)
        with np.errstate(invalid="ignore"):
            low = np.where(known, panel.values, np.inf).min(axis=1, initial=np.inf)
            high = np.where(known, panel.values, -np.inf).max(axis=1, initial=-np.inf)
        first = np.where(known.any(axis=1), known.argmax(axis=1), panel.steps)
        long = (panel.steps - first >= _LEAST_DAYS * panel.grid.steps_per_day) & (known.sum(axis=1) >= _LEAST_KNOWN)
        moves = long & (high > low) & np.isfinite(high - low)
        below, above = np.zeros((2, len(panel)))
        if moves.any():
            below[moves], above[moves] = _reaches(panel.values[moves], low[moves], high[moves])
        return cls(low, high, below, above, moves)

    def take(self, rows: np.ndarray) -> "Reach":
        return Reach(self.low[rows], self.high[rows], self.below[rows], self.above[rows], self.moves[rows])

    def reined(self, quantiles: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
        """Quantiles (series, horizon, levels) brought smoothly to within reach, of the series `wanted` (all), bool."""
        moves = self.moves if wanted is None else self.moves & wanted
        beyond = (quantiles < self.low[:, None, None]) | (quantiles > self.high[:, None, None])
        beyond[~moves] = False
        series = np.nonzero(beyond)[0]
        if not len(series):
            return quantiles
        given = quantiles[beyond]
        inside = np.clip(given, self.low[series], self.high[series])
        reach = _REACH * np.where(given < inside, self.below[series], self.above[series])
        with np.errstate(over="ignore", invalid="ignore"):
            off = (given - inside) / reach
            soft = off / (1 + np.abs(off) ** _SHARPNESS) ** (1 / _SHARPNESS)
            # Beyond what the power can hold.
            soft = np.where(np.abs(off) > 1e6, np.sign(off), soft)
        quantiles = quantiles.copy()
        quantiles[beyond] = inside + reach * soft
        return quantiles


def _reaches(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far below `low` and above `high`, the extremes of values (series, steps), each series can come.

    As far as all of it ranges. But where the newest value has left what is usual for one end of the range, the other
    end can be passed only as far as what is usual ranges: twice from the median to that end.
    """
    span = high - low
    newest, middle = newest_known(values), bottleneck.nanmedian(values, axis=1)
    fallen = (newest < middle - _END * span) & (middle > high - _END * span)
    risen = (newest > middle + _END * span) & (middle < low + _END * span)
    above = np.where(fallen & (high > middle), 2 * (high - middle), span)
    below = np.where(risen & (middle > low), 2 * (middle - low), span)
    return below, above
