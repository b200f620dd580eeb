"""Intervals that hold what they state: widths of the served forecast, set right by what it missed at holdout origins.

Quantile recalibration, after conformalised quantile regression (Romano, Patterson and Candes, 2019), whose guarantee
the shrinkage gives up: each quantile's distance from the median is multiplied by a factor under which it would have
covered its share of the actuals of the holdout window. Factors are measured per parameter and stretch of the horizon,
with a factor for each series on top. Few nights say little, about tails and about how the sides of the median differ
least of all, so a series is shrunk towards its parameter and a parameter towards all, as Thompson shrinks a mean (Some
shrinkage techniques for estimating the mean, 1968): little is left of what chance would explain, most of what it would
not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.out_of_sample import HoldoutForecasts

#: Stretches of the horizon that have factors of their own.
STRETCHES: Final = 6

#: No factor goes beyond these: what few nights say must neither close an interval nor blow it up.
_LEAST, _MOST = 0.25, 4.0

#: Truths of one night are alike: they count as this many independent ones. More undercovered in backtests.
_PER_NIGHT: Final = 1.0

#: How far a factor goes beyond the quantile of what was missed, because it was taken from the truths that it was made
#: for: the level times 1 + this by the number of truths. 1 in split conformal prediction; so much fit backtests.
_CAUTION: Final = 0.3

#: The variance that chance is taken to give the logarithm of a factor where one truth is expected beyond the quantile,
#: and half the difference of the two sides' logarithms: more, because that seldom lasts. Both fit backtests.
_CHANCE: Final = 0.3
_CHANCE_OF_SIDES: Final = 4.0

_LEVELS: Final = np.array(QUANTILES)
_SIDES: Final = [k for k in range(len(QUANTILES)) if k != MEDIAN]


@dataclass(frozen=True)
class Calibration:
    """Factors on each quantile's distance from the median, 1 for the median itself.

    default and by_parameter: (STRETCHES, levels), by_series: (levels,), on top of its parameter's.
    """

    default: np.ndarray = field(default_factory=lambda: np.ones((STRETCHES, len(QUANTILES))))
    by_parameter: Mapping[int, np.ndarray] = field(default_factory=dict)
    by_series: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def apply(self, quantiles: np.ndarray, station_id: np.ndarray, parameter_id: np.ndarray) -> np.ndarray:
        """Quantiles (series, horizon, levels) with their distances from the median set right, ascending."""
        if not len(quantiles):
            return quantiles
        ends = np.searchsorted(stretches(np.arange(quantiles.shape[1]), quantiles.shape[1]), np.arange(STRETCHES + 1))
        pairs = list(zip(station_id.tolist(), parameter_id.tolist(), strict=True))
        group = np.stack([self.by_parameter.get(p, self.default) for _, p in pairs])
        none = np.ones(len(QUANTILES))
        own = np.stack([self.by_series.get(pair, none) for pair in pairs])
        middle = quantiles[:, :, MEDIAN, None]
        mended = (quantiles - middle).astype(np.float64, copy=False)
        # Stretch by stretch, and in place: factors of every step, laid out, are as large as all of the forecasts.
        for k, part in enumerate(map(slice, ends[:-1], ends[1:])):
            mended[:, part] *= group[:, k, None]
        mended *= own[:, None]
        mended += middle
        mended.sort(axis=2)
        return mended


@dataclass(frozen=True)
class Spreads:
    """What forecasts of typical series are wrong by, for series that know too little to tell: lent as a least width.

    default (levels,): of all series, relative to their level. by_parameter (levels,): of a parameter, in its unit.
    """

    default: np.ndarray = field(default_factory=lambda: np.zeros(len(QUANTILES)))
    by_parameter: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def by_series(self) -> Mapping[tuple[int, int], np.ndarray]:
        """None: a series that can tell needs no loan."""
        return {}

    def widen(self, quantiles: np.ndarray, parameter_id: np.ndarray) -> np.ndarray:
        """Quantiles (series, horizon, levels) at least as wide as what is lent."""
        level = np.abs(quantiles[:, :, MEDIAN]).mean(axis=1, keepdims=True)
        own = [self.by_parameter.get(p, np.full(len(QUANTILES), np.nan)) for p in parameter_id.tolist()]
        lent = np.array(own).reshape(-1, len(QUANTILES))
        lent = np.where(np.isfinite(lent), lent, level * self.default)[:, None]
        middle = quantiles[:, :, MEDIAN, None]
        return middle + np.where(
            _LEVELS < 0.5, np.minimum(quantiles - middle, lent), np.maximum(quantiles - middle, lent)
        )


def spreads(evidence: HoldoutForecasts, served: np.ndarray) -> Spreads:
    """Typical quantiles of what was served wrong at holdout origins: the median over series of each series' own."""
    error = evidence.truth - served[..., MEDIAN]
    level = np.abs(evidence.centre).mean(axis=1) if len(evidence.origins) else np.zeros(len(evidence.panel))
    rows = np.flatnonzero(np.isfinite(error).any(axis=(1, 2)))
    if not len(rows):
        return Spreads()
    own = np.stack([np.nanquantile(error[row], QUANTILES) for row in rows])
    own = np.where(_LEVELS < 0.5, np.minimum(own, 0), np.where(_LEVELS > 0.5, np.maximum(own, 0), 0.0))
    moved = (own != 0).any(axis=1)
    relative = own[moved & (level[rows] > 0)] / level[rows][moved & (level[rows] > 0), None]
    of = evidence.parameter_id[rows]
    groups = {int(p): np.median(own[moved & (of == p)], axis=0) for p in np.unique(of[moved])}
    default = np.median(relative, axis=0) if len(relative) else np.zeros(len(QUANTILES))
    return Spreads(default, groups)


def stretches(steps: np.ndarray, horizon: int) -> np.ndarray:
    """Which stretch of the horizon each step ahead (from 0) lies in."""
    return np.minimum(steps * STRETCHES // horizon, STRETCHES - 1)


def calibrate(evidence: HoldoutForecasts, served: np.ndarray) -> Calibration:
    """Factors from what was served at holdout origins, (series, origins, steps, levels), NaN where nothing was."""
    reach = _reach(served, evidence.truth)
    stretch = stretches(evidence.steps, evidence.panel.grid.horizon_steps)
    known = np.isfinite(reach).all(axis=3)  # (series, origins, steps)
    if not known.any():
        return Calibration()
    nights = evidence.independent_nights() * known.any(axis=2).mean(axis=1)  # of each series
    rows = np.flatnonzero(known.any(axis=(1, 2)))
    overall = _curve(reach, rows, stretch, np.ones((STRETCHES, len(QUANTILES))), _worth(nights[rows]))
    by_parameter, by_series = {}, {}
    for parameter in np.unique(evidence.parameter_id[rows]):
        mine = rows[evidence.parameter_id[rows] == parameter]
        curve = _curve(reach, mine, stretch, overall, _worth(nights[mine]))
        by_parameter[int(parameter)] = curve
        relative = reach[mine] / curve[stretch]
        for row, own in zip(mine.tolist(), relative, strict=True):
            # What all of its like missed is covered already, so that nothing is added here.
            factors = _factors(own.reshape(-1, len(QUANTILES)), np.inf)
            factor = _shrunk(factors, np.ones(len(QUANTILES)), nights[row] * _PER_NIGHT)
            by_series[int(evidence.station_id[row]), int(parameter)] = np.round(factor, 6)
    return Calibration(overall, by_parameter, by_series)


def _reach(served: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far each truth lay from the median, in distances of each quantile: the factor that would just cover it."""
    middle = served[..., MEDIAN, None]
    width = np.abs(served - middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = (truth[..., None] - middle) * np.sign(_LEVELS - 0.5)
        # An interval without width is right where nothing moved; where something did, no factor helps it.
        reach = np.where(width > 0, off / width, np.where(off == 0, 0.0, np.sign(off) * _MOST))
    return np.where(np.isfinite(served) & np.isfinite(truth[..., None]), reach, np.nan)


def _curve(reach: np.ndarray, rows: np.ndarray, stretch: np.ndarray, parent: np.ndarray, worth: float) -> np.ndarray:
    """Factors (STRETCHES, levels) of some series together, leaning on the parent's."""
    curve = parent.copy()
    for k in range(STRETCHES):
        part = reach[rows][:, :, stretch == k].reshape(-1, len(QUANTILES))
        if np.isfinite(part[:, 0]).any():
            curve[k] = _shrunk(_factors(part, worth), parent[k], worth)
    return np.round(curve, 6)


def _factors(reach: np.ndarray, worth: float) -> np.ndarray:
    """Per level the factor (levels,) that covers its share of truths: reach (truths, levels), worth so many of them."""
    known = reach[np.isfinite(reach).all(axis=1)]
    factors = np.ones(len(QUANTILES))
    for k in _SIDES:
        level = max(QUANTILES[k], 1 - QUANTILES[k])
        # Half the way to certainty at most: few truths know no extremes.
        factors[k] = np.quantile(known[:, k], min(level * (1 + _CAUTION / worth), (1 + level) / 2))
    return np.clip(factors, _LEAST, _MOST)


def _shrunk(factors: np.ndarray, parent: np.ndarray, worth: float) -> np.ndarray:
    """The parent's factors (levels,) moved towards the own ones, in logarithms: the further, the less chance explains.

    The rarer what a level speaks of, the more truths it takes. What both sides of the median share is moved by itself,
    and so is what they differ by: a side that is right gives way to one that is far off.
    """
    own = np.log(factors / parent)
    shared, differing = (own + own[::-1]) / 2, (own - own[::-1]) / 2
    beyond = worth * np.minimum(_LEVELS, 1 - _LEVELS)
    kept = _more_than_chance(shared, _CHANCE / beyond) + _more_than_chance(differing, _CHANCE_OF_SIDES / beyond)
    return np.clip(parent * np.exp(kept), _LEAST, _MOST)


def _more_than_chance(found: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """What is kept of something found, in logarithms, to which chance would give such a variance."""
    return np.asarray(found * found**2 / (found**2 + variance))


def _worth(nights: np.ndarray) -> float:
    """Independent truths that these series' nights are worth together: series of one night are alike."""
    return float(nights.mean() * np.sqrt(len(nights)) * _PER_NIGHT)
