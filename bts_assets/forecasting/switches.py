"""Switches: how probable it is that one is on in a step. It foresees no single event.

A switch's observations are its largest reading of the step: 1 where it was on at all. Its forecast is the probability
of that, so q50 is a probability and the other quantiles are how sure it is. What is then observed is 0 or 1 and lies
outside of any such interval: coverage says nothing here, and calibration does not apply.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import betaincinv

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.counters import daily_profile
from bts_assets.forecasting.windows import latest_context

_HOURS_PER_DAY: Final = 24


@dataclass(frozen=True)
class EventRate:
    """The rate of being on at that hour of the day, leaning on that of the whole day. It serves `switches` alone.

    Beta-binomial with Jeffreys' prior (Gelman et al., Bayesian Data Analysis, 3rd ed., 2.8 and 5.3). One hour of one
    day is one trial, however many steps it has: an open door is one event, not four. The other hours count as so many
    further trials as make the posterior mean lean on them by the share of the hours' differences that chance alone
    would give. A value between 0 and 1 counts as that share of an event. NaN for a series without an observation.
    """

    switches: Collection[int]
    name: str = "event_rate"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        horizon = panel.grid.horizon_steps
        quantiles = np.full((len(panel), horizon, len(QUANTILES)), np.nan)
        mine = np.isin(panel.parameter_id, list(self.switches)) & np.isfinite(panel.values).any(axis=1)
        if not mine.any():
            return quantiles
        width = _bucket_steps(panel.grid)
        buckets = panel.grid.steps_per_day // width
        trials = _trials(np.clip(panel.values[mine], 0.0, 1.0), width)
        _, differ = daily_profile(trials, buckets)
        by_day = np.pad(trials, [(0, 0), (-trials.shape[1] % buckets, 0)], constant_values=np.nan)
        by_day = by_day.reshape(len(trials), -1, buckets)
        on, count = np.nansum(by_day, axis=1), np.isfinite(by_day).sum(axis=1)
        other_on, other = on.sum(axis=1, keepdims=True) - on, count.sum(axis=1, keepdims=True) - count
        differ = differ[:, None]
        lean = np.minimum(count * (1 - differ) / np.where(differ > 0, differ, 1.0), other)
        lean = np.where((differ > 0) & (count > 0), lean, other) / np.maximum(other, 1)
        yes = on + lean * other_on + 0.5
        no = count + lean * other - yes + 1.0
        rates = betaincinv(yes[:, :, None], no[:, :, None], np.array(QUANTILES))
        quantiles[mine] = rates[:, np.arange(horizon) // width % buckets]
        return quantiles


def _bucket_steps(grid: Grid) -> int:
    """Steps that make an hour; of a step that does not divide it, the most that still divide a day."""
    day = grid.steps_per_day
    return next(k for k in range(max(1, day // _HOURS_PER_DAY), 0, -1) if day % k == 0)


def _trials(values: np.ndarray, width: int) -> np.ndarray:
    """The share of its observed steps that each stretch of `width` steps was on for, back from the origin."""
    values = np.pad(values, [(0, 0), (-values.shape[1] % width, 0)], constant_values=np.nan)
    values = values.reshape(len(values), -1, width)
    count = np.isfinite(values).sum(axis=2)
    return np.where(count > 0, np.nansum(values, axis=2) / np.maximum(count, 1), np.nan)
