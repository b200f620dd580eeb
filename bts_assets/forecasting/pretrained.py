"""The pretrained network as a candidate: it forecasts any series that it never saw, from its newest context alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from statistics import NormalDist
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.windows import in_chunks, latest_context
from bts_assets.pretraining.network import NUMPY, forward
from bts_assets.pretraining.reading import HORIZON, PATCH, read
from bts_assets.pretraining.weights import DIGEST, shipped

#: What there is in lineage of the weights that ship: the beginning of their SHA-256.
WEIGHTS: Final = DIGEST[:12]
FINE_TUNED: Final = "fine_tuned"

#: Observations that a context needs: a station's first hours are enough.
LEAST_OBSERVATIONS: Final = 4

#: Series that are read at once; every chunk has one shape, so that a series' bits do not depend on its neighbours.
_CHUNK: Final = 64
#: The standard normal distribution's quantiles.
_NORMAL: Final = np.array([NormalDist().inv_cdf(q) for q in QUANTILES])


@dataclass(frozen=True)
class PretrainedForecaster:
    """Weights as `weights.checked` gives them. NaN for a series with fewer than `LEAST_OBSERVATIONS`.

    both_ways: it forecasts each series also mirrored at zero, and the mean of the two is its forecast.
    """

    weights: Mapping[str, np.ndarray] = field(repr=False)
    zone: tzinfo
    name: str = "pretrained"
    both_ways: bool = False

    @classmethod
    def shipped(cls, zone: tzinfo) -> "PretrainedForecaster":
        """With the weights that the package ships, once they are seen to be unaltered."""
        return cls(shipped(), zone)

    @classmethod
    def fine_tuned(cls, weights: Mapping[str, np.ndarray], zone: tzinfo) -> "PretrainedForecaster":
        """With weights that learned from series mirrored at zero, too (`fine_tuning`)."""
        return cls(weights, zone, FINE_TUNED, both_ways=True)

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = latest_context(panel)
        day, horizon = panel.grid.steps_per_day, panel.grid.horizon_steps
        quantiles = np.full((len(panel), horizon, len(QUANTILES)), np.nan)
        served = np.flatnonzero(np.isfinite(panel.values).sum(axis=1) >= LEAST_OBSERVATIONS)
        width = bin_width(day, horizon)
        values = panel.values[served]
        means = bin_means(values, width)
        bins = self._quantiles(means, day // width, self._since_monday(panel), -(-horizon // width))
        quantiles[served] = bins if width == 1 else _on_steps(bins, values, means, width, horizon)
        return quantiles

    def _since_monday(self, panel: Panel) -> float:
        """Days from a Monday's start to the origin, by the local clock."""
        local = panel.end.astimezone(self.zone)
        return local.weekday() + (local.hour + local.minute / 60 + local.second / 3600) / 24

    def _quantiles(self, values: np.ndarray, day: int, since_monday: float, horizon: int) -> np.ndarray:
        quantiles = self._forecast(values, day, since_monday, horizon)
        if self.both_ways:
            # The highest quantile of what is mirrored is the lowest.
            quantiles = (quantiles - self._forecast(-values, day, since_monday, horizon)[:, :, ::-1]) / 2
        return quantiles

    def _forecast(self, values: np.ndarray, day: int, since_monday: float, horizon: int) -> np.ndarray:
        patches = -(-horizon // PATCH)
        quantiles = np.empty((len(values), horizon, len(QUANTILES)))
        # Products of one token are so small that a second thread would only spin while it waits for them.
        with threadpool_limits(1, "blas"):
            for part in in_chunks(len(values), _CHUNK):
                chunk = values[part]
                filled = chunk[np.arange(_CHUNK) % len(chunk)]
                days = np.full(_CHUNK, day)
                reading = read(filled, days, np.full(_CHUNK, since_monday), patches)
                scaled = forward(NUMPY, self.weights, *reading.inputs)
                quantiles[part] = reading.unscaled(scaled)[: len(chunk), :horizon]
        return quantiles


def bin_width(day: int, horizon: int) -> int:
    """Steps that are averaged: the fewest, in a whole number to a day, that let the horizon be forecast at once."""
    widths = [k for k in range(1, day + 1) if day % k == 0]
    return next((k for k in widths if horizon <= k * HORIZON), widths[-1])


def bin_means(values: np.ndarray, width: int) -> np.ndarray:
    """Means of bins (series, bins) that end with the newest step; NaN where nothing of a bin is known."""
    if width == 1:
        return values
    values = values[:, values.shape[1] % width :]
    bins = values.reshape(len(values), -1, width)
    known = np.isfinite(bins)
    total = np.where(known, bins, 0.0).sum(axis=2)
    return np.where(known.any(axis=2), total / np.maximum(known.sum(axis=2), 1), np.nan)


def _on_steps(bins: np.ndarray, values: np.ndarray, means: np.ndarray, width: int, horizon: int) -> np.ndarray:
    """Forecasts of bins (series, bins, levels) laid out on steps: straight between their middles, and wider by what
    varied within bins.
    """
    middles = (np.arange(bins.shape[1]) + 0.5) * width - 0.5
    at = np.clip((np.arange(horizon) - middles[0]) / width, 0, bins.shape[1] - 1)
    left = np.minimum(at.astype(np.int64), bins.shape[1] - 2) if bins.shape[1] > 1 else np.zeros(horizon, np.int64)
    right = np.minimum(left + 1, bins.shape[1] - 1)
    share = (at - left)[None, :, None]
    steps = bins[:, left] * (1 - share) + bins[:, right] * share
    within = np.abs(values[:, values.shape[1] % width :] - np.repeat(means, width, axis=1))
    # The standard deviation by a quantile, so that a few bursts do not widen every interval.
    spread = np.nanquantile(within, 0.8, axis=1)[:, None, None] / _NORMAL[QUANTILES.index(0.9)]
    middle = steps[:, :, MEDIAN : MEDIAN + 1]
    return middle + np.sign(_NORMAL) * np.hypot(steps - middle, _NORMAL * spread)
